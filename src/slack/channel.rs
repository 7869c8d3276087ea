//! One Slack channel: a task (the flusher) that posts the channel's reports, and a clock, the earliest instant at which Slack
//! takes the next request.
//!
//! In a *storm*, more reports arrive than Slack takes requests, which is one a second for each channel. The reports wait for the
//! clock together. A flush considers all waiting reports that may share a request with the oldest one. It renders as many of them,
//! the oldest first, as fit into one message; the others come first in the next message. So an outage or a storm ends in a few
//! readable messages. The submitter of a report receives `Ok` only after Slack accepted the request that carries it.
//!
//! While every channel is blocked, the consumer receives no messages. New reports then come only from messages already in
//! flight, from receives that were already open, and from the single message that probes Slack. While another channel is open,
//! reports for a blocked channel still arrive. At most its share of the messages in flight waits here; the other messages
//! return to the queue ([`PostError::Full`]).
//!
//! The edits of all channels that share a bot token have a flusher of their own, because Slack limits them together.
//! [`super::clock`] decides what an answer means for the clock and the batch.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, error, info, warn};

use self::probe::Probe;
use super::{
    ChannelStates,
    answer::SlackAnswer,
    client::Client,
    clock::{Clock, Reaction, Suspects},
    message::Payload,
    render,
    report::Report,
    target::{Secrets, Target, TargetSource},
};
use crate::{
    batch::{Inbox, Waiting},
    metrics,
    route::ChannelId,
    shutdown::{StopSignal, drained},
    webhook::WebhookError,
};

mod item;
mod probe;

pub use self::item::{ChannelState, Destination, Item, Place, PostError, Posted};

/// A request begins only if at least this much of the drain remains: enough for a usual answer.
const MIN_TIME: Duration = Duration::from_secs(1);

/// A report that waits for a flusher.
type WaitingReport = Waiting<Item, Result<Place, PostError>>;

/// The one task that posts to a channel.
#[derive(Debug)]
pub struct Flusher {
    /// The names of all channels, by their ids.
    pub(super) names: Arc<[String]>,
    pub(super) inbox: Inbox<Item, Result<Place, PostError>>,
    pub(super) client: Client,
    pub(super) secrets: Secrets,
    pub(super) source: TargetSource,
    pub(super) target: Target,
    pub(super) account_name: Option<String>,
    pub(super) timeout: Duration,
    /// How many reports may wait here while the channel is blocked.
    pub(super) share: usize,
    /// The channel whose state it publishes. `None` for a flusher of edits, which blocks no channel.
    pub(super) publishes: Option<(ChannelId, watch::Sender<ChannelStates>)>,
    /// The fallbacks of all channels, by their ids. While Slack refuses a channel that has one, its reports fail at once.
    pub(super) fallbacks: Arc<[Option<ChannelId>]>,
    /// Set only while Slack refuses the channel.
    pub(super) probe: Option<Probe>,
    pub(super) stop: StopSignal,
}

impl Flusher {
    /// Posts the submitted reports until every submitter has ended.
    pub async fn run(mut self) {
        let mut clock = Clock::new(Instant::now());
        loop {
            self.pause(&mut clock).await;
            let probe_at = self.probe.as_ref().map(|probe| probe.at);
            tokio::select! {
                biased;
                something_waits = self.inbox.wait() => {
                    if !something_waits {
                        return;
                    }
                    self.expire(&mut clock);
                    self.flush(&mut clock).await;
                }
                () = async { sleep_until(probe_at.unwrap_or_else(Instant::now)).await }, if probe_at.is_some() => {
                    self.send_probe(&mut clock).await;
                }
            }
        }
    }

    /// Sends a probe to a channel that Slack refuses, because no alert comes for it.
    async fn send_probe(&mut self, clock: &mut Clock) {
        let (Some(probe), Some((id, _))) = (&self.probe, &self.publishes) else { return };
        let chain = std::iter::successors(self.fallbacks[id.0], |next| self.fallbacks[next.0]);
        let fallbacks: Vec<&str> = chain.map(|channel| self.names[channel.0].as_str()).collect();
        let payload = probe.message(Instant::now(), &fallbacks);
        let (name, has_fallback) = (self.names[id.0].clone(), !fallbacks.is_empty());
        let answer = self.send(&name, &payload, &Destination::Channel).await;
        debug!(channel = name, %answer, "asked whether Slack takes alerts again");
        let is_rotated =
            matches!(answer, SlackAnswer::TargetRefused(_)) && self.secret_was_rotated(&name, &answer).await;
        let now = Instant::now();
        let reaction = clock.learn(&answer, 1, is_rotated, self.target.interval(&Destination::Channel), now);
        // The answer is about the probe: it does not show which alert Slack may refuse.
        clock.suspects = Suspects::None;
        self.keep_probing(reaction, now);
        match (reaction, has_fallback) {
            (Reaction::Deliver, _) => self.publish(ChannelState::Open),
            (Reaction::Divert, true) => self.publish(ChannelState::Refused { until: clock.next, answer }),
            (Reaction::Divert, false) => self.publish(ChannelState::Blocked { until: clock.next }),
            _ => {}
        }
    }

    /// Starts, postpones or ends the probes of this channel after an answer from Slack.
    fn keep_probing(&mut self, reaction: Reaction, now: Instant) {
        match (&mut self.probe, reaction) {
            (probe, Reaction::Deliver | Reaction::Gone) => *probe = None,
            (Some(probe), _) => probe.postpone(now),
            (probe, Reaction::Divert) if self.publishes.is_some() => *probe = Some(Probe::new(now)),
            _ => {}
        }
    }

    /// Waits for the clock. Meanwhile it collects reports, and answers those that can no longer be sent in time.
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
                // A later report may wait longer, so only the first one changes when to wake.
                () = self.inbox.arrived(), if last_start.is_none() => {}
                Ok(()) = self.stop.changed() => {}
            }
            self.expire(clock);
        }
        // If a report waits, Slack's answer to it decides whether the channel is open.
        if !clock.is_down && self.inbox.gather().is_empty() {
            self.publish(ChannelState::Open);
        }
    }

    /// Answers the reports that can no longer be sent in time. In a drain, these include all whose request could not begin before the
    /// drain ends.
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
        // The refused report may be among the expired ones, so the next refusal starts the search again.
        clock.suspects = Suspects::None;
        for waiting in expired {
            waiting.answer(Err(PostError::OutOfTime(clock.last_error.clone())));
        }
    }

    /// Sends one request with as many of the waiting reports as it can carry.
    async fn flush(&mut self, clock: &mut Clock) {
        let Some((payload, taken)) = self.compose(clock.suspects) else { return };
        let batch = self.take(taken);
        let Some(first) = batch.first().map(|first| &first.item) else { return };
        let (name, to) = (self.names[first.channel.0].clone(), first.to.clone());
        let has_fallback = self.fallbacks[first.channel.0].is_some();
        let answer = self.send(&name, &payload, &to).await;
        debug!(channel = name, edits = matches!(to, Destination::Edit(_)), reports = taken, %answer, "posted");
        let is_rotated =
            matches!(answer, SlackAnswer::TargetRefused(_)) && self.secret_was_rotated(&name, &answer).await;
        let now = Instant::now();
        let interval = self.target.interval(&to);
        let reaction = clock.learn(&answer, taken, is_rotated, interval, now);
        self.keep_probing(reaction, now);
        let reaction = match reaction {
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
            self.publish(ChannelState::Blocked { until: clock.next });
        } else if matches!(reaction, Reaction::Deliver | Reaction::Gone) {
            self.publish(ChannelState::Open);
        }
        if clock.next > now + interval && reaction == Reaction::Retry {
            self.keep_to_share();
        }
    }

    /// The next request, and how many of the reports that can share a request with the first one it carries.
    fn compose(&mut self, suspects: Suspects) -> Option<(Payload, usize)> {
        let account = self.account_name.as_deref();
        let waiting = self.inbox.gather();
        let first = &waiting.front()?.item;
        let items = waiting.iter().map(|waiting| &waiting.item).filter(|item| first.can_share_request_with(item));
        let items: Vec<&Item> = items.take(suspects.limit(waiting.len())).collect();
        Some(match (&first.to, items.last()) {
            _ if suspects == Suspects::First => (render::plain(&first.report, account), 1),
            // The latest edit holds all that the others would show.
            (Destination::Edit(_), Some(latest)) => (render::message(&latest.report, account), items.len()),
            _ => {
                let reports: Vec<&Report> = items.iter().map(|item| &item.report).collect();
                render::digest(&reports, account)
            }
        })
    }

    /// Takes `count` of the reports that can share a request with the first one.
    fn take(&mut self, count: usize) -> Vec<WaitingReport> {
        let (mut batch, mut rest) = (Vec::<WaitingReport>::with_capacity(count), Vec::new());
        for waiting in self.inbox.take(usize::MAX) {
            let fits = batch.first().is_none_or(|first| first.item.can_share_request_with(&waiting.item));
            if fits && batch.len() < count { batch.push(waiting) } else { rest.push(waiting) }
        }
        self.inbox.restore(rest);
        batch
    }

    /// Sends one request. It ends with the drain at the latest.
    async fn send(&mut self, name: &str, payload: &Payload, to: &Destination) -> SlackAnswer {
        let begun = Instant::now();
        let answer = tokio::select! {
            answer = self.client.send(&self.target, to, payload, self.timeout) => answer,
            () = drained(self.stop.clone()) => SlackAnswer::NetworkError("gave no answer before the drain ended".into()),
        };
        metrics::slack_request(name, answer.outcome(), begun.elapsed());
        answer
    }

    /// Answers the batch, or puts it back to the front.
    fn settle(&mut self, name: &str, batch: Vec<WaitingReport>, reaction: Reaction, answer: SlackAnswer) {
        let is_shared = batch.len() > 1;
        let result = match (reaction, answer) {
            (Reaction::Deliver, SlackAnswer::Accepted(message)) => {
                Ok(message.map(|message| Posted { message, is_shared }))
            }
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

    /// Removes from the waiting reports the mentions that this digest has made. Reports that did not fit into a digest belong to the same
    /// storm, so they do not mention the same people again. A report with another destination is about another incident and keeps its
    /// mention: for example, the digest is a reply in a thread and the report is a message in the channel.
    fn mention_once(&mut self, digest: &[WaitingReport]) {
        let mentioned = |whom: &str| digest.iter().any(|one| one.item.report.mention.as_deref() == Some(whom));
        let mut rest = self.inbox.take(usize::MAX);
        let same_storm =
            |waiting: &&mut WaitingReport| digest.iter().any(|one| one.item.can_share_request_with(&waiting.item));
        for Waiting { item, .. } in rest.iter_mut().filter(same_storm) {
            item.report.mention = item.report.mention.take().filter(|whom| !mentioned(whom));
        }
        self.inbox.restore(rest);
    }

    /// Answers all reports that wait for a channel that Slack refuses, so that its fallback takes them. A flusher of edits, which
    /// several channels share, answers only the batch.
    fn divert(&mut self, name: &str, mut batch: Vec<WaitingReport>, answer: SlackAnswer, until: Instant) {
        let seconds = until.duration_since(Instant::now()).as_secs_f32();
        if self.publishes.is_some() {
            warn!(channel = name, "Slack {answer}; its fallback takes its alerts; trying it again in {seconds:.1} s");
            // The state is published before the waiting reports are answered, so that later reports see it.
            self.publish(ChannelState::Refused { until, answer: answer.clone() });
            batch.extend(self.inbox.take(usize::MAX));
        } else {
            warn!(channel = name, "Slack {answer}; an edit is given up");
        }
        for waiting in batch {
            waiting.answer(Err(PostError::TargetRefused(answer.clone())));
        }
    }

    /// Leaves room for other channels: the latest reports return to the queue.
    fn keep_to_share(&mut self) {
        let mut all = self.inbox.take(usize::MAX);
        for waiting in all.split_off(all.len().min(self.share)) {
            waiting.answer(Err(PostError::Full));
        }
        self.inbox.restore(all);
    }

    /// Whether Secrets Manager now holds another webhook or token than the one that Slack refused.
    async fn secret_was_rotated(&mut self, name: &str, answer: &SlackAnswer) -> bool {
        let looked_up = tokio::select! {
            looked_up = timeout(self.timeout, self.secrets.resolve(&self.source)) => looked_up,
            () = drained(self.stop.clone()) => return false,
        };
        match looked_up.unwrap_or(Err(WebhookError::TimedOut)) {
            Ok(fresh) if fresh != self.target => {
                info!(channel = name, "Slack {answer}; its secret was rotated, using the new value");
                self.target = fresh;
                true
            }
            Ok(_) => false,
            Err(error) => {
                error!(channel = name, %error, "Slack {answer}, and its secret could not be read again");
                false
            }
        }
    }

    fn publish(&self, state: ChannelState) {
        let Some((id, states)) = &self.publishes else { return };
        let (name, is_blocked, is_refused) =
            (&self.names[id.0], state != ChannelState::Open, matches!(state, ChannelState::Refused { .. }));
        let mut was_refused = false;
        let changed = states.send_if_modified(|states| {
            let before = std::mem::replace(&mut states[id.0], state);
            was_refused = matches!(before, ChannelState::Refused { .. });
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

/// The last instant at which a request with this report may begin.
fn last_start(waiting: &WaitingReport, stop_by: Option<Instant>) -> Instant {
    let start_by = waiting.item.start_by;
    stop_by.map_or(start_by, |stop_by| start_by.min(stop_by.checked_sub(MIN_TIME).unwrap_or(stop_by)))
}
