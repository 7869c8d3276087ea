//! Coordinates the tasks of this process that have an alert of the same incident.
//!
//! Each key has a turn, in which one task reads, decides and writes, for some milliseconds; and a post in progress, for which
//! other tasks may wait and whose result they share.

use std::{collections::HashMap, sync::Arc};

use parking_lot::{Mutex, MutexGuard};

use tokio::sync::{OwnedMutexGuard, watch};

use crate::incident::Key;

/// The result of a post.
#[derive(Debug, Clone)]
pub(super) enum PostResult {
    Accepted,
    /// With this error.
    Failed(Arc<str>),
}

/// A post in progress.
#[derive(Debug, Clone)]
pub(super) struct PostInProgress {
    /// `None` until the post ends. Closed without a result if the posting task is dropped.
    pub(super) result: watch::Receiver<Option<PostResult>>,
    /// Whether the post reports the recovery.
    pub(super) recovers: bool,
}

type Mutexes = Mutex<HashMap<Key, Arc<tokio::sync::Mutex<()>>>>;
type Posts = Mutex<HashMap<Key, PostInProgress>>;

/// How many alerts wait, by the channel's name.
type Counts = Mutex<HashMap<String, usize>>;

#[derive(Debug, Default)]
pub(super) struct Turns {
    turns: Mutexes,
    posts: Posts,
    waiting: Counts,
}

impl Turns {
    /// Waits for the turn. It ends when the returned value is dropped.
    pub(super) async fn take<'a>(&'a self, key: &'a Key) -> Turn<'a> {
        let mutex = Arc::clone(lock(&self.turns).entry(key.clone()).or_default());
        // Created before the wait, so that its drop cleans up even if the wait is cancelled.
        let mut turn = Turn { turns: &self.turns, key, mutex, held: None };
        turn.held = Some(Arc::clone(&turn.mutex).lock_owned().await);
        turn
    }

    /// The post in progress.
    pub(super) fn posting(&self, key: &Key) -> Option<PostInProgress> {
        lock(&self.posts).get(key).cloned()
    }

    /// Counts an alert as waiting for another's report. `None` if `max` alerts of its channel already wait.
    pub(super) fn wait<'a>(&'a self, key: &'a Key, max: usize) -> Option<Waiting<'a>> {
        let mut waiting = lock(&self.waiting);
        let count = waiting.entry(key.channel().to_owned()).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Waiting { waiting: &self.waiting, channel: key.channel() })
    }

    /// Begins a post. Call it only in a turn without a post in progress.
    pub(super) fn begin<'a>(&'a self, key: &'a Key, recovers: bool) -> Posting<'a> {
        let (sender, result) = watch::channel(None);
        lock(&self.posts).insert(key.clone(), PostInProgress { result, recovers });
        Posting { posts: &self.posts, key, sender }
    }
}

/// One waiting alert.
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
        // Only the map and this turn hold it: no other task waits.
        if Arc::strong_count(&self.mutex) == 2 {
            turns.remove(self.key);
        }
    }
}

/// The post of one task. If it is dropped, the waiting tasks try themselves.
#[derive(Debug)]
pub(super) struct Posting<'a> {
    posts: &'a Posts,
    key: &'a Key,
    sender: watch::Sender<Option<PostResult>>,
}

impl Posting<'_> {
    /// Sends the result to the waiting tasks.
    pub(super) fn end(self, result: PostResult) {
        self.sender.send_replace(Some(result));
    }
}

impl Drop for Posting<'_> {
    fn drop(&mut self) {
        lock(self.posts).remove(self.key);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::Subject;

    #[tokio::test]
    async fn turns_and_posts_are_removed_when_they_end() {
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
        let mut result = turns.posting(&key).unwrap().result;
        posting.end(PostResult::Accepted);
        assert!(matches!(*result.wait_for(Option::is_some).await.unwrap(), Some(PostResult::Accepted)));
        assert!(turns.posting(&key).is_none());
        assert!(lock(&turns.turns).is_empty());
    }
}
