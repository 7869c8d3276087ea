//! Natural batching: items that arrive during a flush go together into the next one.
//!
//! Nothing waits on a timer. An idle flusher takes a single item at once. A busy flusher finds, after its flush, all items that
//! arrived meanwhile. So there is no added delay when idle, and batches are full under load.
//!
//! There are two actors. Any number of submitters [`Batcher::submit`] an item and await its answer. One flusher owns the
//! [`Inbox`] and answers each item exactly once. An item whose submitter no longer waits is dropped.

use std::collections::VecDeque;

use tokio::sync::{mpsc, oneshot};

/// Creates a batcher and the inbox of its flusher.
pub fn batcher<T, R>() -> (Batcher<T, R>, Inbox<T, R>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let inbox = Inbox { receiver, waiting: VecDeque::new() };
    (Batcher { sender }, inbox)
}

/// The submitters' end. It has no limit of its own: in this program, at most as many items wait as messages are in flight.
#[derive(Debug)]
pub struct Batcher<T, R> {
    sender: mpsc::UnboundedSender<Waiting<T, R>>,
}

impl<T, R> Batcher<T, R> {
    /// Returns the flusher's answer to the item, or `None` if the flusher has ended.
    ///
    /// Dropping the future withdraws the item, unless a flush has already taken it.
    pub async fn submit(&self, item: T) -> Option<R> {
        let (reply, answer) = oneshot::channel();
        self.sender.send(Waiting { item, reply }).ok()?;
        answer.await.ok()
    }

    /// Returns when the flusher has ended.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }
}

/// An item whose submitter waits for the answer.
#[derive(Debug)]
pub struct Waiting<T, R> {
    /// The submitted item.
    pub item: T,
    reply: oneshot::Sender<R>,
}

impl<T, R> Waiting<T, R> {
    /// Sends the answer to the submitter.
    pub fn answer(self, answer: R) {
        // A submitter that no longer waits does not need the answer.
        let _ = self.reply.send(answer);
    }
}

/// The flusher's end: the waiting items, oldest first.
#[derive(Debug)]
pub struct Inbox<T, R> {
    receiver: mpsc::UnboundedReceiver<Waiting<T, R>>,
    waiting: VecDeque<Waiting<T, R>>,
}

impl<T, R> Inbox<T, R> {
    /// Returns `true` when at least one item waits, and `false` when no item waits and none can arrive any more.
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

    /// Returns when one more item has arrived. Never returns if none can arrive any more.
    pub async fn arrived(&mut self) {
        match self.receiver.recv().await {
            Some(next) => self.waiting.push_back(next),
            None => std::future::pending().await,
        }
    }

    /// Collects the items that have arrived, drops those whose submitter no longer waits, and returns the rest, oldest first.
    pub fn gather(&mut self) -> &VecDeque<Waiting<T, R>> {
        while let Ok(next) = self.receiver.try_recv() {
            self.waiting.push_back(next);
        }
        self.waiting.retain(|waiting| !waiting.reply.is_closed());
        &self.waiting
    }

    /// Removes and returns the `count` oldest items, or all if there are fewer.
    pub fn take(&mut self, count: usize) -> Vec<Waiting<T, R>> {
        self.waiting.drain(..count.min(self.waiting.len())).collect()
    }

    /// Puts items that a flush took and could not deliver back to the front, in their order.
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
    async fn a_single_item_is_flushed_at_once() {
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
    async fn items_that_arrive_during_a_flush_go_together_into_the_next() {
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
    async fn an_item_withdrawn_before_its_flush_is_dropped() {
        let (batcher, mut inbox) = batcher::<u32, u32>();
        let mut withdrawn = Box::pin(batcher.submit(1));
        let mut kept = Box::pin(batcher.submit(2));
        // One poll submits each.
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
    async fn each_end_notices_when_the_other_is_gone() {
        let (sender, inbox) = batcher::<u32, u32>();
        drop(inbox);
        assert_eq!(sender.submit(1).await, None);
        let (sender, mut inbox) = batcher::<u32, u32>();
        drop(sender);
        assert!(!inbox.wait().await);
    }
}
