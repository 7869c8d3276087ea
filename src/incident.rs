//! What an alert means to an incident: [`next`] decides, from the stored incident and the alert alone.
//!
//! An incident is what is wrong with one service (daemon, family of stand-alone tasks, container instance, alarm) in one
//! channel, from the first alert to the recovery. Each alert comes here as a [`Signal`]; what comes out is a [`Decision`] and
//! the incident as it is to be recorded. [`log`] carries the decision out: it posts, then records what Slack accepted, in a
//! [`store`]. The idea is Alertmanager's notification log: the decision to notify is a value, the record is written after the delivery.
//! <https://github.com/prometheus/alertmanager/blob/main/notify/dedup_stage.go>
//!
//! # Invariants
//!
//! * An alert is folded ([`Transition::Repeated`]), and is a [`Decision::Duplicate`], only if Slack has the incident: its
//!   [`Incident::root`] is known.
//! * Nothing here reads a clock or does I/O: the same input gives the same decision, in any replica and at any attempt.
//! * An incident is bounded, however many alerts it has: ids are hashes, and only the latest are kept.
//!
//! # Order
//!
//! SQS delivers in any order, and what was put back comes late. So the order of two events is that of their times, never
//! that of their arrival: a recovery that is older than the latest problem does not end an incident, and a problem that is not
//! newer than the recovery does not reopen one.

pub mod key;
pub mod log;
pub mod signal;
pub mod store;

use std::time::Duration;

use time::OffsetDateTime;

pub use self::{
    key::{Id, Key},
    signal::{Kind, Policy, Signal},
};
use crate::alert::{Rollout, Severity};

/// An incident without an event for so long is forgotten: the next problem opens a new one.
pub const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 3600);
/// How often a recovery that is not confirmed is put back before it is dropped.
pub const MAX_PUT_BACKS: u8 = 2;

/// Ids of so many events are kept, to know a duplicate.
const EVENTS: usize = 64;
/// Ids of so many failed tasks are kept, to count each once. Events about one task come close together.
const TASKS: usize = 32;
/// So many deployments are kept.
const DEPLOYMENTS: usize = 16;
/// So many places are kept where people were told. There are no more than fallbacks in a chain, which is hardly longer.
const OTHERS: usize = 4;
/// So many causes are kept. The catalogue of causes is closed; this bounds what an older version may have stored.
const CAUSES: usize = 64;

/// What becomes of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It changes an incident, or repeats what is known.
    Transition {
        /// How.
        transition: Transition,
        /// Whether the message carries the channel's `mention`.
        mentions: bool,
    },
    /// A copy of this event is in an incident that Slack has.
    Duplicate,
    /// A recovery that is not confirmed yet: put it back for the crash-loop window.
    PutBack,
    /// It is not an incident's business: a recovery without an open incident, or an event that a pattern asks for.
    AsBefore,
}

/// What an alert meant to an incident; the label of `incidents_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transition {
    /// The incident is new, or Slack has lost its root message.
    Opened,
    /// Something about it is new: severity, cause, deployment.
    News,
    /// Nothing is new.
    Repeated,
    /// Nothing is new, but the last report is long ago.
    Reminded,
    /// It is over.
    Recovered,
    /// It has begun again.
    Reopened,
}

impl Transition {
    /// Every transition, for metrics that must exist from the start.
    pub const ALL: [Self; 6] =
        [Self::Opened, Self::News, Self::Repeated, Self::Reminded, Self::Recovered, Self::Reopened];

    /// The label value in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::News => "news",
            Self::Repeated => "repeated",
            Self::Reminded => "reminded",
            Self::Recovered => "recovered",
            Self::Reopened => "reopened",
        }
    }

    /// Whether people are told by a message of its own.
    pub const fn is_reported(self) -> bool {
        !matches!(self, Self::Repeated)
    }
}

/// An incident as people know it: what was reported, and what has been counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    /// The worst so far.
    pub severity: Severity,
    /// The categories of the causes reported, in the order of their reports.
    pub causes: Vec<String>,
    /// The deployments that were in trouble, the oldest first.
    pub deployments: Vec<Deployment>,
    /// How many events said that something is wrong.
    pub events: u64,
    /// How many tasks failed.
    pub failed_tasks: u64,
    /// The time of the earliest event.
    pub first_event: OffsetDateTime,
    /// The time of the latest problem.
    pub last_event: OffsetDateTime,
    /// When people were last told.
    pub reported: OffsetDateTime,
    /// When the latest event was recorded.
    pub seen: OffsetDateTime,
    /// The time of the recovery; none while it is open.
    pub recovered: Option<OffsetDateTime>,
    /// Where Slack has it; none before its first message was accepted, and when that message is gone.
    pub root: Option<Root>,
    /// Where else people were told while the channel was refused or before it was, the oldest first: they are to be told of
    /// the recovery, too.
    pub others: Vec<Root>,
    ids: Vec<Id>,
    tasks: Vec<Id>,
    /// The last recovery that was not confirmed, and how often it was put back.
    doubt: Option<(Id, u8)>,
}

/// A deployment that was in trouble, and what was reported of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deployment {
    /// Its id.
    pub id: Id,
    /// Its failure was reported.
    pub failed: bool,
    /// Its rollback was reported.
    pub rolled_back: bool,
}

/// Where an incident's first message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// A message of its own, which can be edited and replied to.
    Message {
        /// The id of the Slack channel.
        channel: String,
        /// The message's `ts`.
        ts: String,
    },
    /// A digest of several alerts: it can be replied to, and is not edited.
    Digest {
        /// The id of the Slack channel.
        channel: String,
        /// The message's `ts`.
        ts: String,
    },
    /// A post by webhook, which can be neither.
    Webhook,
    /// A post by the webhook of a fallback of its channel.
    FallbackWebhook {
        /// The fallback's name in the configuration.
        channel: String,
    },
}

/// What `signal` means to the incident that is stored under its key, and the incident to record once Slack has accepted what
/// the decision asks for; none if there is nothing to record.
pub fn next(
    stored: Option<&Incident>,
    signal: &Signal,
    policy: &Policy,
    now: OffsetDateTime,
) -> (Decision, Option<Incident>) {
    let known = stored.filter(|incident| !incident.is_forgotten(now));
    if known.is_some_and(|known| known.has_shown(signal.id)) {
        return (Decision::Duplicate, None);
    }
    match signal.kind {
        Kind::Problem => problem(known, signal, policy, now),
        Kind::Recovery { confirmed } => match known.filter(|known| known.is_open()) {
            Some(open) => recovery(open.clone(), signal, confirmed, policy, now),
            None => (Decision::AsBefore, None),
        },
        Kind::Other => (Decision::AsBefore, None),
    }
}

fn problem(
    known: Option<&Incident>,
    signal: &Signal,
    policy: &Policy,
    now: OffsetDateTime,
) -> (Decision, Option<Incident>) {
    let well_since = known.and_then(|known| known.recovered).max(signal.well_since);
    let is_over = well_since.is_some_and(|recovery| signal.time <= recovery);
    let is_soon = well_since.is_some_and(|recovery| signal.time - recovery <= policy.reopen_within);
    let same = known.filter(|known| known.is_open() || is_over || is_soon);
    let transition = match same {
        Some(same) if same.root.is_none() => Transition::Opened,
        Some(open) if open.is_open() => open.meaning_of(signal, policy, now),
        Some(_) if is_over => Transition::Repeated,
        Some(_) => Transition::Reopened,
        None => Transition::Opened,
    };
    if signal.severity < Severity::Warning && transition.is_reported() {
        return (Decision::AsBefore, None);
    }
    let escalates = same.is_none_or(|same| signal.severity > same.severity);
    let matters = policy.mention_from.is_some_and(|least| signal.severity >= least);
    let mentions = transition.is_reported() && escalates && matters && !is_over;

    let mut incident = same.cloned().unwrap_or_else(|| Incident::new(signal, known, now));
    if matches!(transition, Transition::Opened | Transition::Reopened) {
        incident.recovered = well_since.filter(|_| is_over);
    }
    if transition.is_reported() {
        incident.reported = now;
    }
    incident.count(signal, now);
    (Decision::Transition { transition, mentions }, Some(incident))
}

fn recovery(
    mut incident: Incident,
    signal: &Signal,
    confirmed: Option<bool>,
    policy: &Policy,
    now: OffsetDateTime,
) -> (Decision, Option<Incident>) {
    // Where nobody can be asked, quiet is the proof.
    let confirmed = confirmed.unwrap_or(incident.failed_tasks == 0 || now - incident.last_event >= policy.quiet_for);
    let put_backs = incident.doubt.filter(|(id, _)| *id == signal.id).map_or(0, |(_, count)| count);
    let is_older = signal.time < incident.last_event;
    incident.seen = now;
    if !is_older && !confirmed && put_backs < MAX_PUT_BACKS {
        incident.doubt = Some((signal.id, put_backs + 1));
        return (Decision::PutBack, Some(incident));
    }
    keep_latest(&mut incident.ids, signal.id, EVENTS);
    let transition = if is_older || !confirmed { Transition::Repeated } else { Transition::Recovered };
    if transition == Transition::Recovered {
        incident.recovered = Some(signal.time);
        incident.reported = now;
    }
    (Decision::Transition { transition, mentions: false }, Some(incident))
}

impl Incident {
    /// Nothing is counted yet. The ids of the incident before it still tell duplicates.
    fn new(signal: &Signal, before: Option<&Self>, now: OffsetDateTime) -> Self {
        Self {
            severity: signal.severity,
            causes: Vec::new(),
            deployments: Vec::new(),
            events: 0,
            failed_tasks: 0,
            first_event: signal.time,
            last_event: signal.time,
            reported: now,
            seen: now,
            recovered: None,
            root: None,
            others: Vec::new(),
            ids: before.map(|before| before.ids.clone()).unwrap_or_default(),
            tasks: Vec::new(),
            doubt: None,
        }
    }

    /// Whether it has not recovered.
    pub const fn is_open(&self) -> bool {
        self.recovered.is_none()
    }

    /// Whether Slack has the incident with this event, as long as it is one of the latest.
    pub fn has_shown(&self, id: Id) -> bool {
        self.root.is_some() && self.ids.contains(&id)
    }

    /// Whether no event came for so long that it counts no more.
    pub fn is_forgotten(&self, now: OffsetDateTime) -> bool {
        now - self.seen >= FORGOTTEN_AFTER
    }

    /// From its first event to its recovery; none while it is open.
    pub fn duration(&self) -> Option<Duration> {
        // An event that came late may be older than the first one, but none is newer than the recovery.
        Some((self.recovered? - self.first_event).try_into().unwrap_or_default())
    }

    /// The incident whose root is here from now on. Where it was before is kept.
    fn moved_to(mut self, root: Option<Root>) -> Self {
        if self.root != root
            && let Some(before) = self.root.take()
        {
            keep_latest(&mut self.others, before, OTHERS);
        }
        self.others.retain(|other| Some(other) != root.as_ref());
        self.root = root;
        self
    }

    /// What a problem means while it is open.
    fn meaning_of(&self, signal: &Signal, policy: &Policy, now: OffsetDateTime) -> Transition {
        let is_news = signal.severity > self.severity
            || signal.cause.is_some_and(|cause| self.causes.iter().all(|known| known != cause))
            || signal.deployment.is_some_and(|(id, rollout)| self.is_news_of(id, rollout));
        if signal.severity < Severity::Warning {
            Transition::Repeated
        } else if is_news {
            Transition::News
        } else if now - self.reported >= policy.remind_after {
            Transition::Reminded
        } else {
            Transition::Repeated
        }
    }

    fn is_news_of(&self, id: Id, rollout: Rollout) -> bool {
        let known = self.deployments.iter().find(|deployment| deployment.id == id);
        match rollout {
            // The first that is named need not be another than the one that was in trouble from the start.
            Rollout::InTrouble => known.is_none() && !self.deployments.is_empty(),
            Rollout::Failed => known.is_none_or(|deployment| !deployment.failed),
            Rollout::RolledBack => known.is_none_or(|deployment| !deployment.rolled_back),
        }
    }

    /// Counts an event, once, and keeps what it tells.
    fn count(&mut self, signal: &Signal, now: OffsetDateTime) {
        self.seen = now;
        self.severity = self.severity.max(signal.severity);
        self.first_event = self.first_event.min(signal.time);
        self.last_event = self.last_event.max(signal.time);
        if let Some(cause) = signal.cause.filter(|cause| self.causes.iter().all(|known| known != cause)) {
            self.causes.push(cause.to_owned());
            self.causes.truncate(CAUSES);
        }
        if let Some((id, rollout)) = signal.deployment {
            if self.deployments.iter().all(|deployment| deployment.id != id) {
                let deployment = Deployment { id, failed: false, rolled_back: false };
                keep_latest(&mut self.deployments, deployment, DEPLOYMENTS);
            }
            for deployment in self.deployments.iter_mut().filter(|deployment| deployment.id == id) {
                deployment.failed |= rollout == Rollout::Failed;
                deployment.rolled_back |= rollout == Rollout::RolledBack;
            }
        }
        if self.ids.contains(&signal.id) {
            return;
        }
        keep_latest(&mut self.ids, signal.id, EVENTS);
        self.events += 1;
        if let Some(task) = signal.failed_task.filter(|task| !self.tasks.contains(task)) {
            keep_latest(&mut self.tasks, task, TASKS);
            self.failed_tasks += 1;
        }
    }
}

/// Adds an item, and drops the oldest ones beyond `max`.
fn keep_latest<T>(items: &mut Vec<T>, item: T, max: usize) {
    items.push(item);
    items.drain(..items.len().saturating_sub(max));
}

#[cfg(test)]
mod tests;
