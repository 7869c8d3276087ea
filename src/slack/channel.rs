//! One Slack channel: a flusher with a clock, the earliest instant at which Slack will take the next post.
//!
//! A post moves the clock one interval on; a 429 moves it by `Retry-After`; a failure backs it off, jittered and growing
//! ([`Pause`]).
//! Alerts wait *together*: each attempt renders afresh what is waiting at that moment, so that an outage or a storm ends in a
//! few readable messages. Who submitted an alert hears `Ok` only after Slack accepted the post that carries it.

use std::{sync::Arc, time::Duration};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, error, info, warn};

use super::{
    States,
    client::{Answer, Client},
    render,
};
use crate::{
    alert::Alert,
    batch::{Inbox, Waiting},
    metrics,
    shutdown::{Stop, drained},
    webhook::{Source, Webhook, WebhookError, Webhooks},
};

/// Added to `Retry-After`, so that a request sent when it ends does not arrive a moment before, by Slack's clock.
const RETRY_AFTER_MARGIN: Duration = Duration::from_millis(100);

/// A longer `Retry-After` is believed for so long at a time: then one message asks whether it still holds. Slack's own are
/// shorter; a longer one may be a mistake of something on the way, and would keep alerts back for hours.
const BELIEVED_FOR: Duration = Duration::from_secs(300);

/// What is left of the drain must suffice for one more usual answer, or the post is not begun.
const LEAST_TIME: Duration = Duration::from_secs(1);

/// An alert on its way to Slack.
#[derive(Debug)]
pub struct Item {
    /// What to say.
    pub alert: Arc<Alert>,
    /// No attempt with it may begin later.
    pub start_by: Instant,
}

/// Why an alert was not posted. All are worth another try later.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PostError {
    /// Slack did not take it in the time there was.
    #[error("not posted in time; Slack {}", .0.as_ref().map_or("was not asked".into(), ToString::to_string))]
    OutOfTime(Option<Answer>),
    /// Slack refuses it even as plain text.
    #[error("Slack {0}, even as plain text")]
    Refused(Answer),
    /// The channel is blocked and holds its share of the messages in flight.
    #[error("the channel is blocked and holds as many alerts as it may")]
    Full,
    /// The channel's flusher is gone.
    #[error("the channel has stopped")]
    Stopped,
}

/// Whether a channel can take a post, as seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// As far as we know.
    Open,
    /// Slack makes us wait, or is down.
    Blocked {
        /// When the next attempt is due.
        until: Instant,
    },
}

/// The one task that posts to a channel.
#[derive(Debug)]
pub struct Flusher {
    pub(super) name: String,
    pub(super) index: usize,
    pub(super) inbox: Inbox<Item, Result<(), PostError>>,
    pub(super) client: Client,
    pub(super) webhooks: Webhooks,
    pub(super) source: Source,
    pub(super) webhook: Webhook,
    pub(super) account_name: Option<String>,
    pub(super) timeout: Duration,
    /// So many alerts may wait here while the channel is blocked.
    pub(super) share: usize,
    pub(super) states: watch::Sender<States>,
    pub(super) stop: Stop,
}

/// What an attempt left behind for the next one.
struct Progress {
    /// The earliest instant at which Slack will take the next post.
    next: Instant,
    /// True until a post is accepted after a failure: the channel stays blocked past `next`.
    down: bool,
    backoff: ExponentialBackoff,
    /// So many alerts at the front hold one that Slack refuses.
    suspects: usize,
    /// Slack's last answer, if it was no success.
    trouble: Option<Answer>,
}

impl Flusher {
    /// Posts what is submitted until every submitter is gone.
    pub async fn run(mut self) {
        let mut progress =
            Progress { next: Instant::now(), down: false, backoff: backoff(), suspects: 0, trouble: None };
        loop {
            self.pause(&mut progress).await;
            if !self.inbox.wait().await {
                return;
            }
            self.expire(&mut progress);
            self.flush(&mut progress).await;
        }
    }

    /// Waits for the clock; meanwhile alerts gather, and those that run out of time hear so.
    async fn pause(&mut self, progress: &mut Progress) {
        loop {
            let now = Instant::now();
            if now >= progress.next {
                break;
            }
            let stop_by = *self.stop.borrow_and_update();
            let last_start = self.inbox.gather().iter().map(|waiting| last_start(waiting, stop_by)).min();
            let wake = last_start.map_or(progress.next, |last_start| last_start.min(progress.next));
            tokio::select! {
                () = sleep_until(wake) => {}
                // What comes later may wait longer, so only the first changes when to wake.
                () = self.inbox.arrived(), if last_start.is_none() => {}
                Ok(()) = self.stop.changed() => {}
            }
            self.expire(progress);
        }
        // With something to post, it is for Slack's answer to say that the channel is open.
        if !progress.down && self.inbox.gather().is_empty() {
            self.publish(State::Open);
        }
    }

    /// Answers the alerts with which no attempt may begin any more; in a drain, those too that could not begin before its end.
    fn expire(&mut self, progress: &mut Progress) {
        let stop_by = *self.stop.borrow();
        let now = Instant::now();
        let soonest = if stop_by.is_some() { now.max(progress.next) } else { now };
        let waiting = self.inbox.gather();
        if waiting.iter().all(|waiting| last_start(waiting, stop_by) > soonest) {
            return;
        }
        let all = self.inbox.take(usize::MAX);
        let (expired, rest): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|waiting| last_start(waiting, stop_by) <= soonest);
        self.inbox.restore(rest);
        // Which of them was the suspect is not known any more; the next refusal starts the search again.
        progress.suspects = 0;
        for waiting in expired {
            waiting.answer(Err(PostError::OutOfTime(progress.trouble.clone())));
        }
    }

    /// One attempt with as much of what is waiting as fits into a message.
    async fn flush(&mut self, progress: &mut Progress) {
        let waiting = self.inbox.gather();
        if waiting.is_empty() {
            return;
        }
        // Half of the suspects at a time, until the bad one is alone.
        let limit = if progress.suspects > 1 { progress.suspects / 2 } else { waiting.len() };
        let (payload, taken) = match progress.suspects {
            1 => (render::plain_text(&waiting[0].item.alert, self.account_name.as_deref()), 1),
            _ => {
                let alerts: Vec<&Alert> = waiting.iter().take(limit).map(|waiting| &*waiting.item.alert).collect();
                render::digest(&alerts, self.account_name.as_deref())
            }
        };
        let batch = self.inbox.take(taken);
        let answer = self.post(payload.body()).await;
        debug!(channel = self.name, alerts = taken, %answer, "posted");
        self.learn(progress, batch, answer).await;
    }

    /// One request, never beyond the end of a drain.
    async fn post(&mut self, body: String) -> Answer {
        let begun = Instant::now();
        let answer = tokio::select! {
            answer = self.client.post(&self.webhook, body, self.timeout) => answer,
            () = drained(self.stop.clone()) => Answer::NetworkError("gave no answer before the drain ended".into()),
        };
        metrics::slack_request(&self.name, answer.outcome(), begun.elapsed());
        answer
    }

    /// Settles the batch by Slack's answer, and sets the clock.
    async fn learn(
        &mut self,
        progress: &mut Progress,
        batch: Vec<Waiting<Item, Result<(), PostError>>>,
        answer: Answer,
    ) {
        let now = Instant::now();
        let taken = batch.len();
        progress.next = now + self.webhook.interval();
        match &answer {
            Answer::Accepted => {
                progress.suspects = progress.suspects.saturating_sub(taken);
                progress.backoff = backoff();
                progress.down = false;
                progress.trouble = None;
                self.publish(State::Open);
                for waiting in batch {
                    waiting.answer(Ok(()));
                }
                return;
            }
            Answer::PayloadRefused(code) if progress.suspects == 1 => {
                error!(channel = self.name, code, "Slack refuses an alert even as plain text");
                progress.suspects = 0;
                for waiting in batch {
                    waiting.answer(Err(PostError::Refused(answer.clone())));
                }
                // It may be something on the way that refuses everything: until a post is accepted, that counts as an outage.
                self.hold(progress, &answer, now);
                return;
            }
            Answer::PayloadRefused(code) => {
                warn!(channel = self.name, code, alerts = taken, "Slack refuses a message; looking for the bad alert");
                progress.suspects = taken;
            }
            Answer::WebhookRefused(_) if self.webhook_was_rotated(&answer).await => {}
            Answer::RateLimited(_) | Answer::ServerError(..) | Answer::NetworkError(_) | Answer::WebhookRefused(_) => {
                self.hold(progress, &answer, now);
            }
        }
        progress.trouble = Some(answer);
        self.inbox.restore(batch);
        if progress.next > now + self.webhook.interval() {
            self.keep_to_share();
        }
    }

    /// Sets the clock after an answer that makes the channel wait.
    fn hold(&self, progress: &mut Progress, answer: &Answer, now: Instant) {
        let pause = Pause::after(answer, || progress.backoff.next().unwrap_or(MAX_BACKOFF));
        progress.down |= pause.down;
        progress.next = now + pause.length.max(self.webhook.interval());
        self.block(progress, answer, now);
    }

    /// Leaves room for other channels: the latest alerts go back to the queue.
    fn keep_to_share(&mut self) {
        let mut all = self.inbox.take(usize::MAX);
        for waiting in all.split_off(all.len().min(self.share)) {
            waiting.answer(Err(PostError::Full));
        }
        self.inbox.restore(all);
    }

    fn block(&self, progress: &Progress, answer: &Answer, now: Instant) {
        let wait = progress.next.duration_since(now).as_secs_f32();
        warn!(channel = self.name, "Slack {answer}; trying again in {wait:.1} s");
        self.publish(State::Blocked { until: progress.next });
    }

    /// True when Secrets Manager has another webhook now than the one that Slack refused.
    async fn webhook_was_rotated(&mut self, answer: &Answer) -> bool {
        let looked_up = tokio::select! {
            looked_up = timeout(self.timeout, self.webhooks.resolve(&self.source)) => looked_up,
            () = drained(self.stop.clone()) => return false,
        };
        match looked_up.unwrap_or(Err(WebhookError::TimedOut)) {
            Ok(fresh) if fresh != self.webhook => {
                info!(channel = self.name, "Slack {answer}; the webhook was rotated, going on with the new one");
                self.webhook = fresh;
                true
            }
            Ok(_) => false,
            Err(error) => {
                error!(channel = self.name, %error, "Slack {answer}, and the webhook could not be looked up afresh");
                false
            }
        }
    }

    fn publish(&self, state: State) {
        let changed = self.states.send_if_modified(|states| {
            let changed = states[self.index] != state;
            states[self.index] = state;
            changed
        });
        if changed {
            metrics::channel_blocked(&self.name, state != State::Open);
        }
    }
}

/// How long an answer makes a channel wait.
#[derive(Debug, PartialEq, Eq)]
struct Pause {
    length: Duration,
    /// True when the end of the wait does not open the channel, but only lets one message ask.
    down: bool,
}

impl Pause {
    fn after(answer: &Answer, backoff: impl FnOnce() -> Duration) -> Self {
        let asked = |wait: Duration| wait.min(BELIEVED_FOR) + RETRY_AFTER_MARGIN;
        match *answer {
            Answer::RateLimited(Some(wait)) => Self { length: asked(wait), down: wait > BELIEVED_FOR },
            Answer::ServerError(_, Some(wait)) => Self { length: backoff().max(asked(wait)), down: true },
            _ => Self { length: backoff(), down: true },
        }
    }
}

/// The last instant at which an attempt with this alert may begin.
fn last_start(waiting: &Waiting<Item, Result<(), PostError>>, stop_by: Option<Instant>) -> Instant {
    let start_by = waiting.item.start_by;
    stop_by.map_or(start_by, |stop_by| start_by.min(stop_by.checked_sub(LEAST_TIME).unwrap_or(stop_by)))
}

const MAX_BACKOFF: Duration = Duration::from_secs(15);

/// Between attempts while Slack fails: a second, doubling to fifteen, of which up to a half is jitter. Short enough to
/// notice soon that an outage is over, and long enough to be nobody's burden.
fn backoff() -> ExponentialBackoff {
    // The jitter adds up to as much again.
    ExponentialBuilder::new().with_max_delay(MAX_BACKOFF / 2).without_max_times().with_jitter().build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_obeyed_to_the_second_and_believed_for_five_minutes_at_a_time() {
        let seconds = Duration::from_secs;
        let limited = |wait: u64| Answer::RateLimited(Some(seconds(wait)));
        let unavailable = |wait: u64| Answer::ServerError("503 Service Unavailable".into(), Some(seconds(wait)));
        for (answer, length, down) in [
            (limited(0), RETRY_AFTER_MARGIN, false),
            (limited(1), seconds(1) + RETRY_AFTER_MARGIN, false),
            (limited(300), seconds(300) + RETRY_AFTER_MARGIN, false),
            (limited(301), seconds(300) + RETRY_AFTER_MARGIN, true),
            (limited(86_400), seconds(300) + RETRY_AFTER_MARGIN, true),
            (Answer::RateLimited(None), seconds(2), true),
            (unavailable(0), seconds(2), true),
            (unavailable(30), seconds(30) + RETRY_AFTER_MARGIN, true),
            (unavailable(3_600), seconds(300) + RETRY_AFTER_MARGIN, true),
            (Answer::ServerError("500 Internal Server Error".into(), None), seconds(2), true),
            (Answer::NetworkError("not reached".into()), seconds(2), true),
            (Answer::WebhookRefused("no_service".into()), seconds(2), true),
        ] {
            assert_eq!(Pause::after(&answer, || seconds(2)), Pause { length, down }, "{answer:?}");
        }
    }
}
