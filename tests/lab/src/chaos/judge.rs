//! Compares what was recorded in a round with what the program promises. A broken promise is reported with the history of the message.

mod incidents;
mod story;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::aws::{ActionKind, QueueAction};
use super::plan::{CHANNELS, Channel, Expected, Message, Service};
use super::{End, GRACE, Life, Record, SECRET_KEY, Tally};
use crate::slack::{Method, Request, web_api};
use crate::worker::Line;

/// How long an answer may be under way. It is lost if the forwarder is closed meanwhile. This covers Slack's late answers and a loaded
/// machine.
const UNDER_WAY: Duration = Duration::from_millis(600);

/// Texts that no log may contain: of a webhook, a bot token, an AWS key and a container's environment.
const SECRETS: [&str; 4] = ["/services/", web_api::TOKEN, SECRET_KEY, "not-for-slack"];

/// Checks the promises, and returns the figures of the round.
///
/// # Errors
/// All broken promises.
pub(super) fn judge(record: &Record) -> Result<Tally> {
    let evidence = Evidence::of(record);
    let mut broken = Vec::new();
    let mut tally = Tally::of(record);
    for message in 0..record.plan.messages.len() {
        let mut found = evidence.lost(message, &mut tally);
        found.extend(evidence.deleted_too_early(message));
        if let Some(first) = found.first() {
            let service = record.plan.messages[message].service;
            broken.push(format!("message {message}: {}\n{}", found.join("\n"), evidence.story(service, first)));
        }
    }
    for service in 0..record.plan.services.len() {
        let mut found = evidence.duplicates(service, &mut tally);
        found.extend(evidence.opened_twice(service, &mut tally));
        found.extend(evidence.shown_as_recovered(service, &mut tally));
        if let Some(first) = found.first() {
            broken.push(format!("{}\n{}", found.join("\n"), evidence.story(service, first)));
        }
    }
    evidence.count_outcomes(&mut tally);
    for life in &record.lives {
        broken.extend(evidence.ended_badly(life, &mut tally));
        broken.extend(evidence.left_hidden(life));
        broken.extend(evidence.impatient(life));
    }
    if !record.left.is_empty() {
        broken.push(format!("the queue did not drain; it still holds {:#?}", record.left));
    }
    if broken.is_empty() { Ok(tally) } else { bail!("{} promises broken:\n\n{}", broken.len(), broken.join("\n\n")) }
}

struct Evidence<'a> {
    record: &'a Record,
    lives: HashMap<usize, &'a Life>,
    /// The index of the message for each of SQS's numbers.
    messages: HashMap<u64, usize>,
    /// For each service and channel: the accepted posts about the service, in order, without edits.
    posts: HashMap<(usize, usize), Vec<&'a Request>>,
    /// For each life: when the table did not answer it, so that it decided from its own memory.
    outages: HashMap<usize, Vec<(Instant, Instant)>>,
}

impl<'a> Evidence<'a> {
    fn of(record: &'a Record) -> Self {
        let by_body: HashMap<&str, usize> =
            record.plan.messages.iter().enumerate().map(|(index, message)| (message.body.as_str(), index)).collect();
        let received =
            record.actions.iter().filter_map(|action| Some((action.id, *by_body.get(action.body.as_deref()?)?)));
        let mut posts: HashMap<_, Vec<_>> = HashMap::new();
        for post in record.posts.iter().filter(|post| post.accepted && post.method != Method::Edit) {
            let channel = Channel::of(post).unwrap_or(usize::MAX);
            for (index, service) in record.plan.services.iter().enumerate() {
                if post.mentions(&service.token) {
                    posts.entry((index, channel)).or_default().push(post);
                }
            }
        }
        let lives = record.lives.iter().map(|life| (life.number, life)).collect();
        let outages = record.lives.iter().map(|life| (life.number, incidents::outages(record, life))).collect();
        Self { record, lives, messages: received.collect(), posts, outages }
    }

    fn message(&self, index: usize) -> &'a Message {
        &self.record.plan.messages[index]
    }

    fn service_of(&self, message: usize) -> &'a Service {
        &self.record.plan.services[self.message(message).service]
    }

    fn posts(&self, service: usize, channel: usize) -> &[&'a Request] {
        self.posts.get(&(service, channel)).map(Vec::as_slice).unwrap_or_default()
    }

    fn actions(&self, message: usize, kind: ActionKind) -> impl Iterator<Item = &'a QueueAction> {
        let of = move |action: &&QueueAction| action.kind == kind && self.messages.get(&action.id) == Some(&message);
        self.record.actions.iter().filter(of)
    }

    /// Every message, or its incident, was posted in each of its channels; or the message is in the dead-letter queue for a reason.
    fn lost(&self, index: usize, tally: &mut Tally) -> Vec<String> {
        let message = self.message(index);
        let channels = &self.service_of(index).channels;
        let mut broken = Vec::new();
        let dead = self.record.dead.iter().filter(|body| **body == message.body).count();
        for (channel, Channel { name, .. }) in CHANNELS.iter().enumerate() {
            let wanted = message.expected == Expected::Posted && channels.contains(&channel);
            match self.posts(message.service, channel).first() {
                None if wanted && dead == 0 => broken.push(format!("lost: never accepted in channel {name}")),
                Some(_) if !channels.contains(&channel) => {
                    broken.push(format!("posted to channel {name}, to which no route leads"));
                }
                Some(post) if wanted => {
                    tally.count(&format!("served, {}", self.store()), 1);
                    tally.took(post.at - self.record.sent[index]);
                }
                _ => {}
            }
        }
        if message.expected == Expected::Undecodable {
            tally.count("DLQ: cannot be decoded", dead as u64);
            if dead != message.copies {
                broken.push(format!("{dead} of {} in the dead-letter queue", message.copies));
            }
            return broken;
        }
        let mut receives: HashMap<u64, Vec<&QueueAction>> = HashMap::new();
        self.actions(index, ActionKind::Received)
            .for_each(|action| receives.entry(action.id).or_default().push(action));
        let kept = |receive: &&QueueAction| {
            !self.settles(receive).any(|settle| settle.kind == ActionKind::Deleted && settle.acted)
        };
        let used_up = receives.values().filter(|receives| receives.len() >= self.record.plan.max_receives as usize);
        let used_up: Vec<_> = used_up.filter(|receives| receives.last().is_some_and(kept)).collect();
        if dead > used_up.len() {
            broken.push(format!("in the dead-letter queue with receives left: {:?}", receives.values()));
        }
        for receives in used_up.iter().take(dead) {
            tally.count("DLQ: all receives used up", 1);
            for receive in *receives {
                match self.why_kept(receive) {
                    Some(why) => tally.count(&format!("DLQ: a receive used up: {why}"), 1),
                    None => broken
                        .push(format!("in the dead-letter queue after receive {}, for no reason", receive.receive)),
                }
            }
        }
        broken
    }

    /// Why a receive did not end in a delete.
    fn why_kept(&self, receive: &QueueAction) -> Option<&'static str> {
        if let Some(fault) = receive.fault {
            return Some(fault);
        }
        if let Some(settled) = self.settles(receive).next_back() {
            return settled.fault.or((settled.kind == ActionKind::PutBack).then_some("put back"));
        }
        self.crashed(receive.by).map(|_| "crash")
    }

    /// The deletes and put-backs that the receiver requested with this receipt.
    fn settles(&self, receive: &QueueAction) -> impl DoubleEndedIterator<Item = &'a QueueAction> {
        let which = (receive.by, receive.id, receive.receive);
        let same = move |action: &&QueueAction| {
            action.kind != ActionKind::Received && (action.by, action.id, action.receive) == which
        };
        self.record.actions.iter().filter(same)
    }

    /// When the life ended, if it did not stop cleanly.
    fn crashed(&self, life: usize) -> Option<Instant> {
        let life = self.lives.get(&life)?;
        (!matches!(life.end, End::Stopped(Some(0), _))).then_some(life.ended)
    }

    /// No message is deleted before Slack has answered, for each channel, that it accepted the message or its incident: to the same process
    /// or, with a table, to any process.
    fn deleted_too_early(&self, index: usize) -> Vec<String> {
        let Message { service, expected, .. } = self.message(index);
        let mut broken = Vec::new();
        for delete in self.actions(index, ActionKind::Deleted) {
            let by = super::app(delete.by);
            let said = |post: &&Request| {
                (post.app == by || self.record.plan.has_table) && is_confirmed(post) && post.at <= delete.at
            };
            let mut missing = Vec::new();
            match expected {
                // The recovery of a problem that was not reported is not reported.
                Expected::Unrouted | Expected::Recovery => {}
                Expected::Undecodable => missing.push("any channel"),
                Expected::Posted => missing.extend(self.service_of(index).channels.iter().filter_map(|channel| {
                    (!self.posts(*service, *channel).iter().any(said)).then_some(CHANNELS[*channel].name)
                })),
            }
            broken.extend(missing.into_iter().map(|channel| {
                format!(
                    "{} deletes it before Slack answered that it, or its incident, is posted in {channel}",
                    delete.by
                )
            }));
        }
        broken
    }

    /// Whether the sender's log shows this answer to the post. The log shows each answer as the worker understood it, after the post. On a
    /// loaded machine the stand-in may read a request only after its sender gave up, up to `earlier` before.
    fn logged_answer(&self, post: &Request, answer: &str, earlier: Duration) -> bool {
        let (instant, clock) = self.record.clocks;
        let time = |post: &Request| clock - (instant - post.at);
        // The worker makes one post to a channel at a time, and one edit at a time. So an answer before the next post belongs to this one.
        let same = |next: &&Request| next.app == post.app && limit_of(next) == limit_of(post);
        let next = |next: &&Request| next.at > post.at && same(next);
        let next = self.record.posts.iter().find(next).map(time);
        let is_it = |line: &Line| {
            let at = read_time(line);
            line.message() == "posted"
                && Channel::of(post).is_some_and(|channel| line.field("channel") == CHANNELS[channel].name)
                && line.field("edits") == (post.method == Method::Edit)
                && line.field("answer").as_str().is_some_and(|said| said.contains(answer))
                && at.is_some_and(|at| at >= time(post) - earlier && next.is_none_or(|next| at < next))
        };
        self.lives.get(&life_of(post)).is_some_and(|life| life.lines.iter().any(is_it))
    }

    /// Why the sender does not know that Slack accepted the post, if it does not.
    fn unknown_to_sender(&self, post: &Request) -> Option<&'static str> {
        if self.logged_answer(post, "accepted", Duration::ZERO) {
            return None;
        }
        let closed = |at: &Instant| *at >= post.at && *at <= post.at + UNDER_WAY;
        let earlier = Duration::from_secs(3);
        if post.status.is_none() || self.record.closed.iter().any(closed) {
            Some("Slack's answer was lost")
        } else if self.logged_answer(post, "drain ended", earlier) {
            Some("the drain ended before Slack answered")
        } else if self.logged_answer(post, "no answer within", earlier) {
            Some("Slack's answer came too late")
        } else {
            self.lives.get(&life_of(post)).filter(|life| life.end == End::Killed).map(|_| "crash")
        }
    }

    /// A process that gets SIGTERM stops cleanly and in time; no process ends by itself; no log contains a secret or a panic.
    fn ended_badly(&self, life: &Life, tally: &mut Tally) -> Vec<String> {
        let mut broken = Vec::new();
        let lines = || life.lines.iter().map(|line| format!("\n  {}", line.text)).collect::<String>();
        match life.end {
            End::Killed => {}
            // After its grace it would end with 1. The rest of the time is for a loaded machine.
            End::Stopped(Some(0), took) if took <= 2 * GRACE => {}
            // The signal arrived before the program had begun.
            End::Stopped(None, _) if life.lines.is_empty() => {}
            End::Stopped(Some(1), _) if self.could_not_receive(life) => {
                tally.count("SIGTERM: exit code 1, because a receive hung beyond the grace", 1);
            }
            End::Stopped(Some(1), _) if self.could_not_settle(life) => {
                tally.count("SIGTERM: exit code 1, because AWS would not settle all within the grace", 1);
            }
            end => broken.push(format!("{}: {end:?}; it wrote:{}", life.number, lines())),
        }
        for line in &life.lines {
            if let Some(secret) = SECRETS.iter().find(|secret| line.text.contains(**secret)) {
                broken.push(format!("{} logs the secret {secret:?}: {}", life.number, line.text));
            }
            if line.text.contains("panicked") {
                broken.push(format!("{} panics: {}", life.number, line.text));
            }
        }
        broken
    }

    /// Whether AWS failed a request of the drain, which then cannot be clean.
    fn could_not_settle(&self, life: &Life) -> bool {
        let late = |action: &&QueueAction| {
            action.by == life.number && action.at + GRACE + Duration::from_millis(100) >= life.ended
        };
        self.record
            .actions
            .iter()
            .filter(late)
            .any(|action| action.kind != ActionKind::Received && action.fault.is_some())
    }

    /// Whether a receive hung until the end of the life. The worker puts messages back only after its receives have ended, because an open
    /// one would receive them again.
    fn could_not_receive(&self, life: &Life) -> bool {
        self.record.stalls.iter().any(|(by, from, until)| *by == life.number && (from..until).contains(&&life.ended))
    }

    /// A process that stopped cleanly has settled every message that it received, except those that became visible again before it ended.
    fn left_hidden(&self, life: &Life) -> Option<String> {
        if life.end == End::Killed || self.crashed(life.number).is_some() {
            return None;
        }
        let received =
            self.record.actions.iter().filter(|action| action.kind == ActionKind::Received && action.by == life.number);
        let is_hidden = |action: &&QueueAction| life.ended < action.at + self.last_change();
        let left =
            received.filter(|action| action.fault.is_none() && self.settles(action).next().is_none()).filter(is_hidden);
        let left: Vec<String> = left
            .filter_map(|action| Some(self.story(self.message(*self.messages.get(&action.id)?).service, "hidden")))
            .collect();
        (!left.is_empty()).then(|| format!("{} stopped, and left hidden:\n{}", life.number, left.join("\n")))
    }

    /// How long after its receive the worker puts a message back by its receipt: until a second, or a tenth, before the message becomes
    /// visible again.
    fn last_change(&self) -> Duration {
        let visibility = Duration::from_secs(self.record.plan.visibility);
        visibility - Duration::from_secs(1).min(visibility / 10)
    }

    /// No process posts before a Retry-After that it received has passed.
    fn impatient(&self, life: &Life) -> Vec<String> {
        let app = super::app(life.number);
        let mut until: HashMap<&str, Instant> = HashMap::new();
        let mut broken = Vec::new();
        for post in self.record.posts.iter().filter(|post| post.app == app) {
            if let Some(until) = until.get(limit_of(post)).filter(|until| post.at < **until) {
                let early = *until - post.at;
                broken
                    .push(format!("{} posts to {} {early:?} before Retry-After has passed", life.number, post.webhook));
            }
            let received =
                || ["rate limited", "answered 503"].iter().any(|said| self.logged_answer(post, said, Duration::ZERO));
            if let Some(seconds) = post.retry_after.filter(|_| received()) {
                until.insert(limit_of(post), post.at + Duration::from_secs(seconds));
            }
        }
        broken
    }
}

/// Whether Slack accepted the post and sent its complete answer.
fn is_confirmed(post: &Request) -> bool {
    post.status == Some(200) && post.accepted
}

fn life_of(post: &Request) -> usize {
    post.app.trim_start_matches('B').parse().unwrap_or_default()
}

/// The name of the rate limit that applies: that of the channel, or that of all edits.
fn limit_of(request: &Request) -> &str {
    if request.method == Method::Edit { web_api::EDITS } else { &request.webhook }
}

/// The time of a line, by the clock of the logs.
fn read_time(line: &Line) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(line.json["timestamp"].as_str()?, &Rfc3339).ok()
}
