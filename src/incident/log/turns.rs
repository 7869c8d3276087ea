//! Whose turn it is, of the tasks of this process that have an alert of the same incident.
//!
//! Two things, for each key: a turn, in which one task reads, decides and writes, for some milliseconds; and the post that is
//! under way, which others may await and whose end they share.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedMutexGuard, watch};

use crate::incident::Key;

/// How a post ended.
#[derive(Debug, Clone)]
pub(super) enum Fate {
    Accepted,
    /// With this error.
    Failed(Arc<str>),
}

/// A post that is under way.
#[derive(Debug, Clone)]
pub(super) struct UnderWay {
    /// None until it ends; closed without one when the task that posts is given up.
    pub(super) fate: watch::Receiver<Option<Fate>>,
    /// What is being posted is the recovery.
    pub(super) recovers: bool,
}

type Mutexes = Mutex<HashMap<Key, Arc<tokio::sync::Mutex<()>>>>;
type Posts = Mutex<HashMap<Key, UnderWay>>;

/// How many wait, by the channel's name.
type Counts = Mutex<HashMap<String, usize>>;

#[derive(Debug, Default)]
pub(super) struct Turns {
    turns: Mutexes,
    posts: Posts,
    waiting: Counts,
}

impl Turns {
    /// Waits for the turn, which ends when what is returned is dropped.
    pub(super) async fn take<'a>(&'a self, key: &'a Key) -> Turn<'a> {
        let mutex = Arc::clone(lock(&self.turns).entry(key.clone()).or_default());
        // Made before the wait, so that it tidies up also if the wait is given up.
        let mut turn = Turn { turns: &self.turns, key, mutex, held: None };
        turn.held = Some(Arc::clone(&turn.mutex).lock_owned().await);
        turn
    }

    /// The post that is under way.
    pub(super) fn posting(&self, key: &Key) -> Option<UnderWay> {
        lock(&self.posts).get(key).cloned()
    }

    /// Counts an alert as waiting for the report of another, unless `max` of its channel do.
    pub(super) fn wait<'a>(&'a self, key: &'a Key, max: usize) -> Option<Waiting<'a>> {
        let mut waiting = lock(&self.waiting);
        let count = waiting.entry(key.channel().to_owned()).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Waiting { waiting: &self.waiting, channel: key.channel() })
    }

    /// Begins a post; only in a turn in which none was under way.
    pub(super) fn begin<'a>(&'a self, key: &'a Key, recovers: bool) -> Posting<'a> {
        let (sender, fate) = watch::channel(None);
        lock(&self.posts).insert(key.clone(), UnderWay { fate, recovers });
        Posting { posts: &self.posts, key, sender }
    }
}

/// One alert that waits.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    waiting: &'a Counts,
    channel: &'a str,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiting = lock(self.waiting);
        if let Some(count) = waiting.get_mut(self.channel) {
            *count -= 1;
        }
    }
}

/// One task's turn.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    turns: &'a Mutexes,
    key: &'a Key,
    mutex: Arc<tokio::sync::Mutex<()>>,
    held: Option<OwnedMutexGuard<()>>,
}

impl<'a> Turn<'a> {
    pub(super) const fn key(&self) -> &'a Key {
        self.key
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut turns = lock(self.turns);
        self.held = None;
        // The map's and this one: nobody else waits.
        if Arc::strong_count(&self.mutex) == 2 {
            turns.remove(self.key);
        }
    }
}

/// The post of one task. Dropping it lets those that wait try by themselves.
#[derive(Debug)]
pub(super) struct Posting<'a> {
    posts: &'a Posts,
    key: &'a Key,
    sender: watch::Sender<Option<Fate>>,
}

impl Posting<'_> {
    /// Tells those that wait how it ended.
    pub(super) fn end(self, fate: Fate) {
        self.sender.send_replace(Some(fate));
    }
}

impl Drop for Posting<'_> {
    fn drop(&mut self) {
        lock(self.posts).remove(self.key);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::Subject;

    #[tokio::test]
    async fn nothing_is_left_of_turns_and_posts() {
        let turns = Turns::default();
        let key = Key::new("ops", "1", "eu-west-1", "prod", Subject::Service, "checkout");
        let first = turns.take(&key).await;
        let mut waiting = Box::pin(turns.take(&key));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        let mut given_up = Box::pin(turns.take(&key));
        assert!(futures_util::poll!(&mut given_up).is_pending());
        drop(given_up);
        drop(first);
        let posting = turns.begin(waiting.await.key(), false);
        let mut fate = turns.posting(&key).unwrap().fate;
        posting.end(Fate::Accepted);
        assert!(matches!(*fate.wait_for(Option::is_some).await.unwrap(), Some(Fate::Accepted)));
        assert!(turns.posting(&key).is_none());
        assert!(lock(&turns.turns).is_empty());
    }
}
