//! One Slack channel: a flusher with a clock, the earliest instant at which Slack will take the next request.
//!
//! Reports wait *together*: each attempt renders afresh what is waiting at that moment, so that an outage or a storm ends in a
//! few readable messages. The submitter of a report receives `Ok` only after Slack accepted the request that carries it.
//!
//! The edits of all channels that share a bot token have a flusher of their own, because Slack limits them together. What an
//! answer means for the clock and the batch is decided in [`super::clock`].

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, error, info, warn};

use super::{
    States,
    client::{Answer, Client, MessageRef},
    clock::{Clock, Reaction, Suspects},
    message::Payload,
    render,
    report::Report,
    target::{Secrets, Source, Target},
};
use crate::{
    batch::{Inbox, Waiting},
    metrics,
    route::ChannelId,
    shutdown::{Stop, drained},
    webhook::WebhookError,
};

/// What is left of the drain must suffice for one more usual answer, or the request is not begun.
const LEAST_TIME: Duration = Duration::from_secs(1);

/// A report on its way to Slack.
#[derive(Debug)]
pub struct Item {
    /// In which channel.
    pub channel: ChannelId,
    /// What to say.
    pub report: Report,
    /// Where.
    pub to: Destination,
    /// No attempt with it may begin later.
    pub start_by: Instant,
}

/// Where a report is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// As a message of the channel.
    Channel,
    /// As a reply in the thread of this message.
    Thread {
        /// That message.
        root: MessageRef,
        /// Whether the reply is shown in the channel too.
        broadcast: bool,
    },
    /// In place of what this message says.
    Edit(MessageRef),
}

impl Item {
    /// Whether one request can carry both: messages of a channel with each other, replies with others in their thread, in both
    /// recoveries apart from problems; edits with others of their message.
    fn goes_with(&self, other: &Self) -> bool {
        let says_the_same = self.report.is_recovery() == other.report.is_recovery();
        self.to == other.to && (says_the_same || matches!(self.to, Destination::Edit(_)))
    }
}

/// Where Slack shows what it accepted; none by a webhook, which does not say.
pub type Place = Option<Posted>;

/// A message that can be replied to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posted {
    /// Its channel and `ts`.
    pub message: MessageRef,
    /// Whether it carries other reports too, so that it must not be edited for one of them.
    pub is_shared: bool,
}

/// Why a report was not posted. All are worth another try later.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PostError {
    /// Slack did not take it in the time there was.
    #[error("not posted in time; Slack {}", .0.as_ref().map_or("was not asked".into(), ToString::to_string))]
    OutOfTime(Option<Answer>),
    /// Slack refuses it even as plain text.
    #[error("Slack {0}, even as plain text")]
    Refused(Answer),
    /// Slack refuses the channel, which has a fallback.
    #[error("Slack {0}")]
    TargetRefused(Answer),
    /// The message that it replies to or edits is gone from Slack.
    #[error("the message that it belongs to is gone from Slack")]
    Gone,
    /// The channel is blocked and holds its share of the messages in flight.
    #[error("the channel is blocked and holds as many alerts as it may")]
    Full,
    /// The channel's flusher is gone.
    #[error("the channel has stopped")]
    Stopped,
}

/// Whether a channel can take a post, as seen from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// As far as we know.
    Open,
    /// Slack makes us wait, or is down.
    Blocked {
        /// When the next attempt is due.
        until: Instant,
    },
    /// Slack refuses it, and its alerts go to its fallback.
    Refused {
        /// When the next alert is tried here first.
        until: Instant,
        /// What Slack said.
        answer: Answer,
    },
}

/// What waits for a flusher.
type Held = Waiting<Item, Result<Place, PostError>>;

/// The one task that posts to a channel.
#[derive(Debug)]
pub struct Flusher {
    /// The names of all channels, by their ids.
    pub(super) names: Arc<[String]>,
    pub(super) inbox: Inbox<Item, Result<Place, PostError>>,
    pub(super) client: Client,
    pub(super) secrets: Secrets,
    pub(super) source: Source,
    pub(super) target: Target,
    pub(super) account_name: Option<String>,
    pub(super) timeout: Duration,
    /// So many reports may wait here while the channel is blocked.
    pub(super) share: usize,
    /// The channel whose state it publishes; none for a flusher of edits, which block no channel.
    pub(super) open: Option<(ChannelId, watch::Sender<States>)>,
    /// Which channels have a fallback, by their ids: while Slack refuses one, its reports are answered at once.
    pub(super) fallbacks: Arc<[bool]>,
    pub(super) stop: Stop,
}

impl Flusher {
    /// Posts what is submitted until every submitter is gone.
    pub async fn run(mut self) {
        let mut clock = Clock::new(Instant::now());
        loop {
            self.pause(&mut clock).await;
            if !self.inbox.wait().await {
                return;
            }
            self.expire(&mut clock);
            self.flush(&mut clock).await;
        }
    }

    /// Waits for the clock. Meanwhile reports gather, and those that run out of time are answered.
    async fn pause(&mut self, clock: &mut Clock) {
        loop {
            let now = Instant::now();
            if now >= clock.next {
                break;
            }
            let stop_by = *self.stop.borrow_and_update();
            let last_start = self.inbox.gather().iter().map(|waiting| last_start(waiting, stop_by)).min();
            let wake = last_start.map_or(clock.next, |last_start| last_start.min(clock.next));
            tokio::select! {
                () = sleep_until(wake) => {}
                // What comes later may wait longer, so only the first changes when to wake.
                () = self.inbox.arrived(), if last_start.is_none() => {}
                Ok(()) = self.stop.changed() => {}
            }
            self.expire(clock);
        }
        // With something to post, it is for Slack's answer to say that the channel is open.
        if !clock.is_down && self.inbox.gather().is_empty() {
            self.publish(State::Open);
        }
    }

    /// Answers the reports with which no attempt may begin any more; in a drain, those too that could not begin before its end.
    fn expire(&mut self, clock: &mut Clock) {
        let stop_by = *self.stop.borrow();
        let now = Instant::now();
        let soonest = if stop_by.is_some() { now.max(clock.next) } else { now };
        let waiting = self.inbox.gather();
        if waiting.iter().all(|waiting| last_start(waiting, stop_by) > soonest) {
            return;
        }
        let all = self.inbox.take(usize::MAX);
        let (expired, rest): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|waiting| last_start(waiting, stop_by) <= soonest);
        self.inbox.restore(rest);
        // Which of them was the suspect is not known any more; the next refusal starts the search again.
        clock.suspects = Suspects::None;
        for waiting in expired {
            waiting.answer(Err(PostError::OutOfTime(clock.last_error.clone())));
        }
    }

    /// One attempt with as much of what is waiting as one request can carry.
    async fn flush(&mut self, clock: &mut Clock) {
        let Some((payload, taken)) = self.compose(clock.suspects) else { return };
        let batch = self.take(taken);
        let Some(first) = batch.first().map(|first| &first.item) else { return };
        let (name, to) = (self.names[first.channel.0].clone(), first.to.clone());
        let has_fallback = self.fallbacks[first.channel.0];
        let answer = self.send(&name, &payload, &to).await;
        debug!(channel = name, edits = matches!(to, Destination::Edit(_)), reports = taken, %answer, "posted");
        let is_rotated = matches!(answer, Answer::TargetRefused(_)) && self.secret_was_rotated(&name, &answer).await;
        let now = Instant::now();
        let interval = self.target.interval(&to);
        let reaction = match clock.learn(&answer, taken, is_rotated, interval, now) {
            Reaction::Divert if !has_fallback => Reaction::Retry,
            reaction => reaction,
        };
        let was_refused = reaction == Reaction::Retry && !is_rotated;
        if reaction == Reaction::Divert {
            return self.divert(&name, batch, answer, clock.next);
        }
        if reaction == Reaction::Deliver && taken > 1 {
            self.mention_once(&batch);
        }
        self.settle(&name, batch, reaction, answer);
        if clock.is_down || was_refused {
            let wait = clock.next.duration_since(now).as_secs_f32();
            let error = clock.last_error.as_ref().map(ToString::to_string).unwrap_or_default();
            warn!(channel = name, "Slack {error}; trying again in {wait:.1} s");
            self.publish(State::Blocked { until: clock.next });
        } else if matches!(reaction, Reaction::Deliver | Reaction::Gone) {
            self.publish(State::Open);
        }
        if clock.next > now + interval && reaction == Reaction::Retry {
            self.keep_to_share();
        }
    }

    /// The next request, and how many of the reports that go with the first one it carries.
    fn compose(&mut self, suspects: Suspects) -> Option<(Payload, usize)> {
        let account = self.account_name.as_deref();
        let waiting = self.inbox.gather();
        let first = &waiting.front()?.item;
        let items = waiting.iter().map(|waiting| &waiting.item).filter(|item| first.goes_with(item));
        let items: Vec<&Item> = items.take(suspects.limit(waiting.len())).collect();
        Some(match (&first.to, items.last()) {
            _ if suspects == Suspects::First => (render::plain(&first.report, account), 1),
            // The latest edit says all that the others would.
            (Destination::Edit(_), Some(latest)) => (render::message(&latest.report, account), items.len()),
            _ => {
                let reports: Vec<&Report> = items.iter().map(|item| &item.report).collect();
                render::digest(&reports, account)
            }
        })
    }

    /// Takes so many of the reports that go with the first one.
    fn take(&mut self, count: usize) -> Vec<Held> {
        let (mut batch, mut rest) = (Vec::<Held>::with_capacity(count), Vec::new());
        for waiting in self.inbox.take(usize::MAX) {
            let goes = batch.first().is_none_or(|first| first.item.goes_with(&waiting.item));
            if goes && batch.len() < count { batch.push(waiting) } else { rest.push(waiting) }
        }
        self.inbox.restore(rest);
        batch
    }

    /// One request, never beyond the end of a drain.
    async fn send(&mut self, name: &str, payload: &Payload, to: &Destination) -> Answer {
        let begun = Instant::now();
        let answer = tokio::select! {
            answer = self.client.send(&self.target, to, payload, self.timeout) => answer,
            () = drained(self.stop.clone()) => Answer::NetworkError("gave no answer before the drain ended".into()),
        };
        metrics::slack_request(name, answer.outcome(), begun.elapsed());
        answer
    }

    /// Answers the batch, or puts it back to the front.
    fn settle(&mut self, name: &str, batch: Vec<Held>, reaction: Reaction, answer: Answer) {
        let is_shared = batch.len() > 1;
        let result = match (reaction, answer) {
            (Reaction::Deliver, Answer::Accepted(message)) => Ok(message.map(|message| Posted { message, is_shared })),
            (Reaction::Gone, _) => Err(PostError::Gone),
            (Reaction::Refuse, answer) => {
                error!(channel = name, "Slack {answer}, even as plain text");
                Err(PostError::Refused(answer))
            }
            (reaction, answer) => {
                if reaction == Reaction::Split {
                    warn!(channel = name, reports = batch.len(), "Slack {answer}; looking for the bad report");
                }
                return self.inbox.restore(batch);
            }
        };
        for waiting in batch {
            waiting.answer(result.clone());
        }
    }

    /// What did not fit into a digest is the same storm: the messages that carry it do not mention the same people again.
    fn mention_once(&mut self, digest: &[Held]) {
        let mentioned = |whom: &str| digest.iter().any(|one| one.item.report.mention.as_deref() == Some(whom));
        let mut rest = self.inbox.take(usize::MAX);
        for Waiting { item, .. } in &mut rest {
            item.report.mention = item.report.mention.take().filter(|whom| !mentioned(whom));
        }
        self.inbox.restore(rest);
    }

    /// Answers the batch, and what else waits for a channel that Slack refuses: its fallback takes them. Of edits, which other
    /// channels share, only the batch.
    fn divert(&mut self, name: &str, mut batch: Vec<Held>, answer: Answer, until: Instant) {
        let seconds = until.duration_since(Instant::now()).as_secs_f32();
        if self.open.is_some() {
            warn!(channel = name, "Slack {answer}; its fallback takes its alerts; trying it again in {seconds:.1} s");
            // Before what waits is answered: what comes after that finds the state.
            self.publish(State::Refused { until, answer: answer.clone() });
            batch.extend(self.inbox.take(usize::MAX));
        } else {
            warn!(channel = name, "Slack {answer}; an edit is given up");
        }
        for waiting in batch {
            waiting.answer(Err(PostError::TargetRefused(answer.clone())));
        }
    }

    /// Leaves room for other channels: the latest reports go back to the queue.
    fn keep_to_share(&mut self) {
        let mut all = self.inbox.take(usize::MAX);
        for waiting in all.split_off(all.len().min(self.share)) {
            waiting.answer(Err(PostError::Full));
        }
        self.inbox.restore(all);
    }

    /// True when Secrets Manager holds another webhook or token now than the one that Slack refused.
    async fn secret_was_rotated(&mut self, name: &str, answer: &Answer) -> bool {
        let looked_up = tokio::select! {
            looked_up = timeout(self.timeout, self.secrets.resolve(&self.source)) => looked_up,
            () = drained(self.stop.clone()) => return false,
        };
        match looked_up.unwrap_or(Err(WebhookError::TimedOut)) {
            Ok(fresh) if fresh != self.target => {
                info!(channel = name, "Slack {answer}; its secret was rotated, going on with the new value");
                self.target = fresh;
                true
            }
            Ok(_) => false,
            Err(error) => {
                error!(channel = name, %error, "Slack {answer}, and its secret could not be looked up afresh");
                false
            }
        }
    }

    fn publish(&self, state: State) {
        let Some((id, states)) = &self.open else { return };
        let (name, is_blocked, is_refused) =
            (&self.names[id.0], state != State::Open, matches!(state, State::Refused { .. }));
        let mut was_refused = false;
        let changed = states.send_if_modified(|states| {
            let before = std::mem::replace(&mut states[id.0], state);
            was_refused = matches!(before, State::Refused { .. });
            before != states[id.0]
        });
        if changed {
            metrics::channel_blocked(name, is_blocked);
            metrics::fallback_active(name, is_refused);
        }
        if was_refused && !is_blocked {
            info!(channel = name, "Slack accepts posts to it again, so its alerts no longer go to its fallback");
        }
    }
}

/// The last instant at which an attempt with this report may begin.
fn last_start(waiting: &Held, stop_by: Option<Instant>) -> Instant {
    let start_by = waiting.item.start_by;
    stop_by.map_or(start_by, |stop_by| start_by.min(stop_by.checked_sub(LEAST_TIME).unwrap_or(stop_by)))
}
