//! Messages that were put back because their channel is blocked. They stay hidden while the channel is blocked, and become visible
//! at once when the channel takes alerts again.
//!
//! A put-back lasts at most an hour, so a worker that is killed leaves no message hidden for longer. While the worker runs and the
//! channel stays blocked, the worker extends the put-back by an hour at a time, up to [`super::delays::blocked_delay`]. With these
//! delays a receive count of ten outlasts a weekend.
//!
//! Slack's rate limit may open and close a channel often, and each early return costs a message one of its receives. So only the
//! first receives are cut short. Later ones do not return before their usual delay ends, so that ten receives span about three
//! hours even then.
//!
//! Invariant: a receipt kept here is only used to change when its message is visible, and only while the message is hidden by this
//! receipt: afterwards the message may belong to another receive. A receipt kept here never deletes a message.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, info};

use crate::{
    route::ChannelId,
    slack::Slack,
    sqs::{Queue, Receipt},
};

/// How many messages are kept. Each takes about half a KiB, most of it the receipt.
const MAX: usize = 10_000;
/// The longest time of one extension.
const STEP: Duration = Duration::from_secs(3600);
/// An extension is requested this long before the message would become visible: a request may take ten seconds.
const MARGIN: Duration = Duration::from_secs(20);
/// Messages that become visible sooner than this are left alone.
const TOO_LATE: Duration = Duration::from_secs(2);
/// How many messages a second become visible when a channel opens.
const WAKE_RATE: usize = 50;
/// How many messages are released at the end of the program, and how long that may take ([`Hidden::release`]).
const RELEASED: usize = 500;
const RELEASE_WITHIN: Duration = Duration::from_secs(2);

/// A message that is hidden until `visible_at`.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) receipt: Receipt,
    /// The channel that did not take its alert.
    pub(super) channel: ChannelId,
    /// When it becomes visible, or a little earlier.
    pub(super) visible_at: Instant,
    /// Until when it should stay hidden while the channel is blocked.
    pub(super) until: Instant,
    /// It is not made visible before this time.
    pub(super) earliest: Instant,
}

/// The messages that this worker has hidden.
#[derive(Debug, Default)]
pub(super) struct Hidden {
    entries: Mutex<VecDeque<Entry>>,
    added: Notify,
}

/// The entries that are due now.
#[derive(Debug, Default)]
struct Due {
    /// To be made visible, because their channel takes alerts again.
    wake: Vec<Entry>,
    /// To be hidden longer, because their channel is still blocked.
    extend: Vec<Entry>,
}

impl Hidden {
    /// Whether one more message can be kept.
    pub(super) fn has_room(&self) -> bool {
        self.entries.lock().len() < MAX
    }

    /// Keeps a message. If there is no room, the message becomes visible when its delay ends.
    pub(super) fn keep(&self, entry: Entry) {
        let mut entries = self.entries.lock();
        if entries.len() < MAX {
            entries.push_back(entry);
            drop(entries);
            self.added.notify_one();
        }
    }

    /// Extends and wakes the kept entries until cancelled.
    pub(super) async fn watch(self: Arc<Self>, queue: Arc<Queue>, slack: Arc<Slack>) {
        let mut changes = slack.changes();
        loop {
            let now = Instant::now();
            let Due { wake, extend } = self.due(now, |channel| slack.takes(channel));
            if !wake.is_empty() {
                let count = wake.len();
                info!(count, "a channel takes alerts again: the messages that were put back for it become visible");
                make_visible(&queue, wake, || Duration::from_secs(fastrand::usize(0..=count / WAKE_RATE) as u64)).await;
                continue;
            }
            if !extend.is_empty() {
                let extended = extend.into_iter().map(async |entry| {
                    let step = STEP.min(entry.until - now);
                    match queue.put_back_before(&entry.receipt, step, entry.last_change()).await {
                        Ok(()) => self.keep(Entry { visible_at: now + step, ..entry }),
                        Err(error) => debug!(error = error.chain(), "a put-back could not be extended"),
                    }
                });
                join_all(extended).await;
                continue;
            }
            let next = self.next();
            tokio::select! {
                () = async { match next { Some(at) => sleep_until(at).await, None => std::future::pending().await } } => {}
                changed = changes.changed() => if changed.is_err() { return },
                () = self.added.notified() => {}
            }
        }
    }

    /// Makes the kept messages visible in half a minute to a minute, for the next worker. Those beyond the limit become visible when
    /// their delay ends.
    pub(super) async fn release(&self, queue: &Queue) {
        let now = Instant::now();
        let entries: Vec<Entry> =
            self.entries.lock().drain(..).filter(|entry| entry.is_hidden(now)).take(RELEASED).collect();
        let released = make_visible(queue, entries, || Duration::from_secs(fastrand::u64(30..=60)));
        let _ = timeout(RELEASE_WITHIN, released).await;
    }

    /// Takes out the due entries, and drops those that may be visible.
    fn due(&self, now: Instant, takes: impl Fn(ChannelId) -> bool) -> Due {
        let mut due = Due::default();
        let mut entries = self.entries.lock();
        for entry in std::mem::take(&mut *entries) {
            if !entry.is_hidden(now) {
                continue;
            }
            if takes(entry.channel) {
                // An entry that is not extended yet becomes visible at its `earliest` by itself.
                if entry.earliest <= now + MARGIN {
                    due.wake.push(entry);
                }
            } else if entry.may_be_extended() && entry.visible_at <= now + MARGIN {
                due.extend.push(entry);
            } else {
                entries.push_back(entry);
            }
        }
        due
    }

    /// When the next entry is due if no channel changes.
    fn next(&self) -> Option<Instant> {
        let at = |entry: &Entry| if entry.may_be_extended() { entry.visible_at - MARGIN } else { entry.last_change() };
        self.entries.lock().iter().map(at).min()
    }
}

impl Entry {
    fn is_hidden(&self, now: Instant) -> bool {
        self.last_change() > now
    }

    /// No request with its receipt begins later.
    fn last_change(&self) -> Instant {
        self.visible_at - TOO_LATE
    }

    fn may_be_extended(&self) -> bool {
        self.until > self.visible_at
    }
}

/// Makes messages visible, each after a delay of its own.
async fn make_visible(queue: &Queue, entries: Vec<Entry>, delay: impl Fn() -> Duration) {
    let requests = entries.into_iter().map(|entry| (entry, delay())).map(async |(entry, delay)| {
        if let Err(error) = queue.put_back_before(&entry.receipt, delay, entry.last_change()).await {
            debug!(
                error = error.chain(),
                "a message could not be made visible; it becomes visible when its delay ends"
            );
        }
    });
    join_all(requests).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const OPEN: ChannelId = ChannelId(0);
    const BLOCKED: ChannelId = ChannelId(1);

    /// Entries with a channel and three delays from `now`: `visible_at`, `until` and `earliest`.
    fn hidden(entries: &[(ChannelId, Duration, Duration, Duration)], now: Instant) -> Hidden {
        let hidden = Hidden::default();
        for (number, &(channel, visible_in, until_in, earliest_in)) in entries.iter().enumerate() {
            let receipt = Receipt::for_tests(&number.to_string());
            let (visible_at, until, earliest) = (now + visible_in, now + until_in, now + earliest_in);
            hidden.keep(Entry { receipt, channel, visible_at, until, earliest });
        }
        hidden
    }

    #[test]
    fn hidden_messages_are_woken_extended_or_left_alone() {
        let now = Instant::now();
        let seconds = Duration::from_secs;
        let hidden = hidden(
            &[
                (OPEN, HOUR, 8 * HOUR, seconds(0)),
                (OPEN, seconds(30), seconds(30), seconds(0)),
                // It may become visible before a request arrives.
                (OPEN, seconds(1), HOUR, seconds(0)),
                (BLOCKED, HOUR, 8 * HOUR, seconds(0)),
                (BLOCKED, seconds(15), 8 * HOUR, seconds(0)),
                // Its delay cannot be extended further: it may become visible.
                (BLOCKED, seconds(15), seconds(15), seconds(0)),
                (BLOCKED, seconds(0), 8 * HOUR, seconds(0)),
                // Its usual delay has not ended: it is left alone.
                (OPEN, seconds(600), 8 * HOUR, seconds(600)),
            ],
            now,
        );
        let due = hidden.due(now, |channel| channel == OPEN);
        let receipts =
            |entries: &[Entry]| entries.iter().map(|entry| format!("{:?}", entry.receipt)).collect::<Vec<_>>();
        assert_eq!(receipts(&due.wake), ["Receipt(\"0\")", "Receipt(\"1\")"]);
        assert_eq!(receipts(&due.extend), ["Receipt(\"4\")"]);
        assert_eq!(hidden.entries.lock().len(), 2);
        assert_eq!(hidden.next(), Some(now + seconds(15) - TOO_LATE));
        // Later the rest is due, or dropped.
        let due = hidden.due(now + HOUR - seconds(10), |_| false);
        assert_eq!(receipts(&due.extend), ["Receipt(\"3\")"]);
        assert_eq!(hidden.next(), None);
    }

    #[test]
    fn the_number_of_kept_messages_is_bounded() {
        let now = Instant::now();
        let hidden = hidden(&vec![(BLOCKED, HOUR, HOUR, Duration::ZERO); MAX + 3], now);
        assert!(!hidden.has_room());
        assert_eq!(hidden.entries.lock().len(), MAX);
    }
}
