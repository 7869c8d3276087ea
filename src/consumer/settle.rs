//! Works on one message and settles it: deletes it or puts it back.
//!
//! A message is deleted in exactly one place, [`Consumer::settle`], and only for an `Ok(Outcome)`.

use std::{
    panic::AssertUnwindSafe,
    time::{Duration, SystemTime},
};

use futures_util::FutureExt;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::{
    Consumer,
    delays::{MAX_EARLY_RETURNS, blocked_delay, put_back_delay, undecodable_delay},
    hidden::Entry,
};
use crate::{
    metrics::{self, MessageOutcome},
    pipeline::{Failure, Outcome},
    reporter::NotReported,
    route::ChannelId,
    shutdown::drained,
    sqs::{self, Message},
};

impl Consumer {
    /// Runs the pipeline and settles the message by its result.
    pub(super) async fn work(&self, mut message: Message) {
        if let (Some(sent), 1) = (message.sent, message.receive_count) {
            metrics::queue_delay(SystemTime::now().duration_since(sent).unwrap_or_default());
        }
        if self.is_stopping() {
            // The message came with one of the last receives, and work on it has not begun.
            let outcome = MessageOutcome::Deferred;
            metrics::message(outcome);
            info!(
                message_id = message.id,
                outcome = outcome.as_str(),
                receive_count = message.receive_count,
                "stopping"
            );
            return self.give_back(&message).await;
        }
        let start_by = message.received + self.settings.work_time();
        match AssertUnwindSafe(self.pipeline.handle(&mut message, start_by)).catch_unwind().await {
            Ok(result) => self.settle(message, result).await,
            Err(_) => {
                error!(message_id = message.id, "handling the message panicked; it is put back");
                metrics::message(MessageOutcome::Deferred);
                self.put_back(&message, put_back_delay(message.receive_count, fastrand::f64())).await;
            }
        }
    }

    /// Deletes the message or puts it back, by the pipeline's result.
    async fn settle(&self, message: Message, result: Result<Outcome, Failure>) {
        match result {
            Ok(
                Outcome::Posted
                | Outcome::Folded
                | Outcome::Duplicate
                | Outcome::Unrouted
                | Outcome::Muted
                | Outcome::Canary,
            ) => {
                if let Err(error) = self.queue.delete(message.receipt).await {
                    let error = error.chain();
                    warn!(
                        message_id = message.id,
                        error, "a settled message could not be deleted; it will be received again"
                    );
                }
            }
            Err(Failure::Undecodable(_)) => {
                self.put_back(&message, undecodable_delay(message.receive_count)).await;
            }
            Err(Failure::Deferred { .. }) if self.is_stopping() => self.give_back(&message).await,
            Err(Failure::Deferred { channel, error: NotReported::NotPosted(_), .. }) if !self.slack.takes(channel) => {
                self.hide(message, channel).await;
            }
            Err(failure @ Failure::Deferred { .. }) => {
                let delay = put_back_delay(message.receive_count, fastrand::f64());
                self.put_back(&message, failure.retry_in().unwrap_or(delay)).await;
            }
        }
    }

    /// Puts a message back because its channel is blocked. The usual delay is extended while the channel stays blocked. If there
    /// is no room to keep the receipt for that, the delay has its full length from the start.
    async fn hide(&self, message: Message, channel: ChannelId) {
        let now = Instant::now();
        // The margin is for the request, which may take ten seconds.
        let most = (message.received + sqs::MAX_HIDDEN).duration_since(now).saturating_sub(Duration::from_secs(30));
        let jitter = fastrand::f64();
        let whole = blocked_delay(message.receive_count, jitter).min(most);
        let usual = put_back_delay(message.receive_count, jitter).min(most);
        let first = if self.hidden.has_room() { usual } else { whole };
        if self.put_back(&message, first).await {
            let earliest = if message.receive_count <= MAX_EARLY_RETURNS { now } else { now + usual };
            let (visible_at, until) = (now + first, now + whole);
            self.hidden.keep(Entry { receipt: message.receipt, channel, visible_at, until, earliest });
        }
    }

    /// Puts a message back at once while stopping, after all receives of this worker have ended: an open receive would get the
    /// message again, which would bring it nearer to the dead-letter queue.
    async fn give_back(&self, message: &Message) {
        tokio::select! {
            () = self.receives_closed.cancelled() => {}
            () = drained(self.stop.clone()) => {}
        }
        self.put_back(message, Duration::ZERO).await;
    }

    /// Puts a message back. Returns whether SQS accepted that.
    async fn put_back(&self, message: &Message, delay: Duration) -> bool {
        let before = message.received + self.settings.last_change();
        let put_back = self.queue.put_back_before(&message.receipt, delay, before).await;
        if let Err(error) = &put_back {
            warn!(
                error = error.chain(),
                "a message could not be put back; it becomes visible when its visibility timeout ends"
            );
        }
        put_back.is_ok()
    }
}
