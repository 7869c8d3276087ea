//! Natural batching: what arrives while a flush is under way goes together into the next one.
//!
//! Nothing waits on a timer. An idle flusher takes a single item at once; a busy one finds, when it is done, everything
//! that gathered meanwhile. Idle means no added delay, load means full batches.
//!
//! Two actors: any number of submitters, who [`Batcher::submit`] an item and await its answer, and one flusher, who owns
//! the [`Inbox`] and answers each item exactly once, in its own time. An item whose submitter went away is dropped unseen.

use std::collections::VecDeque;

use tokio::sync::{mpsc, oneshot};

/// Makes a batcher and the inbox that its flusher works from.
pub fn batcher<T, R>() -> (Batcher<T, R>, Inbox<T, R>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let inbox = Inbox { receiver, waiting: VecDeque::new() };
    (Batcher { sender }, inbox)
}

/// The submitters' end. How much may wait is bounded by who submits: here, by the messages in flight.
#[derive(Debug)]
pub struct Batcher<T, R> {
    sender: mpsc::UnboundedSender<Waiting<T, R>>,
}

impl<T, R> Batcher<T, R> {
    /// Answers when the flush that carried the item is done; `None` if the flusher is gone.
    ///
    /// Dropping the future withdraws the item, unless a flush has already taken it.
    pub async fn submit(&self, item: T) -> Option<R> {
        let (reply, answer) = oneshot::channel();
        self.sender.send(Waiting { item, reply }).ok()?;
        answer.await.ok()
    }

    /// Returns when the flusher is gone.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }
}

/// An item and the submitter who awaits its answer.
#[derive(Debug)]
pub struct Waiting<T, R> {
    /// What was submitted.
    pub item: T,
    reply: oneshot::Sender<R>,
}

impl<T, R> Waiting<T, R> {
    /// Tells the submitter how it went.
    pub fn answer(self, answer: R) {
        // A submitter that went away meanwhile does not need the answer.
        let _ = self.reply.send(answer);
    }
}

/// The flusher's end: what is waiting, oldest first.
#[derive(Debug)]
pub struct Inbox<T, R> {
    receiver: mpsc::UnboundedReceiver<Waiting<T, R>>,
    waiting: VecDeque<Waiting<T, R>>,
}

impl<T, R> Inbox<T, R> {
    /// Returns once something is waiting, with everything that has arrived; `false` when nothing is and nothing can come.
    pub async fn wait(&mut self) -> bool {
        loop {
            self.gather();
            if !self.waiting.is_empty() {
                return true;
            }
            match self.receiver.recv().await {
                Some(first) => self.waiting.push_back(first),
                None => return false,
            }
        }
    }

    /// Returns when something more has arrived; never, once nothing can come.
    pub async fn arrived(&mut self) {
        match self.receiver.recv().await {
            Some(next) => self.waiting.push_back(next),
            None => std::future::pending().await,
        }
    }

    /// Takes in what has arrived since, lets go of what nobody awaits any more, and shows what is left, oldest first.
    pub fn gather(&mut self) -> &VecDeque<Waiting<T, R>> {
        while let Ok(next) = self.receiver.try_recv() {
            self.waiting.push_back(next);
        }
        self.waiting.retain(|waiting| !waiting.reply.is_closed());
        &self.waiting
    }

    /// Takes out the `count` oldest, or all if there are fewer.
    pub fn take(&mut self, count: usize) -> Vec<Waiting<T, R>> {
        self.waiting.drain(..count.min(self.waiting.len())).collect()
    }

    /// Puts back at the front what a flush took and could not deliver, in its order.
    pub fn restore(&mut self, taken: Vec<Waiting<T, R>>) {
        for waiting in taken.into_iter().rev() {
            self.waiting.push_front(waiting);
        }
    }
}

#[cfg(test)]
mod interleavings;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lone_item_is_flushed_at_once() {
        let (batcher, mut inbox) = batcher::<u32, u32>();
        let submitted = tokio::spawn(async move { batcher.submit(1).await });
        assert!(inbox.wait().await);
        for waiting in inbox.take(10) {
            let doubled = waiting.item * 2;
            waiting.answer(doubled);
        }
        assert_eq!(submitted.await.unwrap(), Some(2));
    }

    #[tokio::test]
    async fn what_arrives_during_a_flush_goes_together_into_the_next() {
        let (batcher, mut inbox) = batcher::<u32, u32>();
        let submit_all = async {
            tokio::join!(batcher.submit(1), batcher.submit(2), batcher.submit(3), async {
                tokio::task::yield_now().await;
                batcher.submit(4).await
            })
        };
        let flush = async {
            assert!(inbox.wait().await);
            let mut sizes = Vec::new();
            while sizes.iter().sum::<usize>() < 4 {
                inbox.wait().await;
                let flushed = inbox.take(3);
                sizes.push(flushed.len());
                tokio::task::yield_now().await;
                for waiting in flushed {
                    let answer = waiting.item;
                    waiting.answer(answer);
                }
            }
            sizes
        };
        let (answers, sizes) = tokio::join!(submit_all, flush);
        assert_eq!(answers, (Some(1), Some(2), Some(3), Some(4)));
        assert_eq!(sizes, [3, 1]);
    }

    #[tokio::test]
    async fn an_item_withdrawn_before_its_flush_is_never_seen() {
        let (batcher, mut inbox) = batcher::<u32, u32>();
        let mut withdrawn = Box::pin(batcher.submit(1));
        let mut kept = Box::pin(batcher.submit(2));
        // One poll each sends them off.
        assert!(futures_util::poll!(&mut withdrawn).is_pending());
        assert!(futures_util::poll!(&mut kept).is_pending());
        drop(withdrawn);
        assert!(inbox.wait().await);
        let seen: Vec<u32> = inbox.gather().iter().map(|waiting| waiting.item).collect();
        assert_eq!(seen, [2]);
    }

    #[tokio::test]
    async fn restored_items_keep_their_place() {
        let (batcher, mut inbox) = batcher::<u32, u32>();
        let mut futures: Vec<_> = (1..=4).map(|item| Box::pin(batcher.submit(item))).collect();
        for future in &mut futures {
            assert!(futures_util::poll!(future).is_pending());
        }
        inbox.wait().await;
        let taken = inbox.take(2);
        inbox.restore(taken);
        let order: Vec<u32> = inbox.gather().iter().map(|waiting| waiting.item).collect();
        assert_eq!(order, [1, 2, 3, 4]);
    }

    #[tokio::test]
    async fn both_ends_notice_when_the_other_is_gone() {
        let (sender, inbox) = batcher::<u32, u32>();
        drop(inbox);
        assert_eq!(sender.submit(1).await, None);
        let (sender, mut inbox) = batcher::<u32, u32>();
        drop(sender);
        assert!(!inbox.wait().await);
    }
}
