//! What an alert means to an incident: [`next`] decides, from the stored incident and the alert alone.
//!
//! An incident is the problem of one service (daemon, family of stand-alone tasks, container instance, alarm) in one channel, from
//! the first alert to the recovery. The input is an alert as a [`Signal`]. The output is a [`Decision`] and the incident to
//! record. [`log`] executes the decision: it posts, then records in a [`store`] what Slack accepted. The idea is Alertmanager's
//! notification log: the decision to notify is a value, and the record is written after the delivery.
//! <https://github.com/prometheus/alertmanager/blob/main/notify/dedup_stage.go>
//!
//! # Invariants
//!
//! * An alert is folded ([`Transition::Repeated`]), and is a [`Decision::Duplicate`], only if Slack has the incident: its
//!   [`Incident::root`] is known.
//! * Nothing here reads a clock or does I/O: the same input gives the same decision, in any replica and at any attempt.
//! * The size of an incident is limited, however many alerts it has: ids are hashes, and only the latest are kept.
//!
//! # Order
//!
//! SQS delivers in any order, and messages that were put back arrive late. So events are ordered by their times, never by their
//! arrival: a recovery older than the latest problem does not end an incident, and a problem that is not newer than the recovery
//! does not reopen one.

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

/// An incident without an event for this time is forgotten: the next problem opens a new one.
pub const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 3600);
/// How often a recovery that is not confirmed is put back before it is dropped.
pub const MAX_PUT_BACKS: u8 = 2;

/// How many events' ids are kept, to detect duplicates.
const EVENTS: usize = 64;
/// How many failed tasks' ids are kept, to count each task once. Events about one task arrive close together.
const TASKS: usize = 32;
/// How many deployments are kept.
const DEPLOYMENTS: usize = 16;
/// How many other places of an incident are kept: one for each fallback in the channel's chain. Chains are short.
const OTHERS: usize = 4;
/// How many causes are kept. The set of causes is closed; this limits what an older version may have stored.
const CAUSES: usize = 64;

/// What to do with an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It changes or repeats an incident.
    Transition {
        /// Its transition.
        transition: Transition,
        /// Whether the message carries the channel's `mention`.
        mentions: bool,
    },
    /// Slack has the incident, and the incident has already counted a copy of this event.
    Duplicate,
    /// It is a recovery that is not confirmed yet: put it back for the crash-loop window.
    PutBack,
    /// It concerns no incident: a recovery without an open incident, or an event that only a route's pattern takes.
    NoIncident,
}

/// How an alert changes an incident; the label of `incidents_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transition {
    /// The incident is new, or its root message no longer exists in Slack.
    Opened,
    /// The severity, a cause or a deployment is new.
    News,
    /// Nothing is new.
    Repeated,
    /// Nothing is new, but `remind_after` has passed since the last report.
    Reminded,
    /// It has recovered.
    Recovered,
    /// It reopened soon after its recovery.
    Reopened,
}

impl Transition {
    /// Every transition, for metrics, which must exist from the start.
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

    /// Whether it is reported with a new message.
    pub const fn is_reported(self) -> bool {
        !matches!(self, Self::Repeated)
    }
}

/// An incident: what was reported, and what has been counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    /// The greatest severity so far.
    pub severity: Severity,
    /// The categories of the reported causes, in order.
    pub causes: Vec<String>,
    /// The deployments with problems, oldest first.
    pub deployments: Vec<Deployment>,
    /// The number of problem events.
    pub events: u64,
    /// The number of failed tasks.
    pub failed_tasks: u64,
    /// The time of the earliest event.
    pub first_event: OffsetDateTime,
    /// The time of the latest problem.
    pub last_event: OffsetDateTime,
    /// When it was last reported.
    pub reported: OffsetDateTime,
    /// When the latest event was recorded.
    pub seen: OffsetDateTime,
    /// The time of the recovery; `None` while it is open.
    pub recovered: Option<OffsetDateTime>,
    /// Its first message in Slack. `None` before Slack accepted it, and after it was deleted.
    pub root: Option<Root>,
    /// The other places where it was reported, before or while Slack refused the channel, oldest first. The recovery is reported
    /// there too.
    pub others: Vec<Root>,
    ids: Vec<Id>,
    tasks: Vec<Id>,
    /// The last unconfirmed recovery, and how often it was put back.
    unconfirmed_recovery: Option<(Id, u8)>,
}

/// A deployment with problems, and what was reported about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deployment {
    /// Its id.
    pub id: Id,
    /// Whether its failure was reported.
    pub failed: bool,
    /// Whether its rollback was reported.
    pub rolled_back: bool,
}

/// Where an incident's first message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// A message that can be edited and replied to.
    Message {
        /// The id of the Slack channel.
        channel: String,
        /// The message's `ts`.
        ts: String,
    },
    /// A digest of several alerts. It can be replied to, but is not edited.
    Digest {
        /// The id of the Slack channel.
        channel: String,
        /// The message's `ts`.
        ts: String,
    },
    /// A webhook's message, which can be neither edited nor replied to.
    Webhook,
    /// The message of a fallback's webhook.
    FallbackWebhook {
        /// The fallback's name in the configuration.
        channel: String,
    },
}

/// Decides what `signal` means to the stored incident. Also returns the incident to record after Slack has accepted what the
/// decision asks for; `None` if there is nothing to record.
pub fn next(
    stored: Option<&Incident>,
    signal: &Signal,
    policy: &Policy,
    now: OffsetDateTime,
) -> (Decision, Option<Incident>) {
    let known = stored.filter(|incident| !incident.is_forgotten(now));
    if known.is_some_and(|known| known.has_reported(signal.id)) {
        return (Decision::Duplicate, None);
    }
    match signal.kind {
        Kind::Problem => problem(known, signal, policy, now),
        Kind::Recovery { confirmed } => match known.filter(|known| known.is_open()) {
            Some(open) => recovery(open.clone(), signal, confirmed, policy, now),
            None => (Decision::NoIncident, None),
        },
        Kind::Other => (Decision::NoIncident, None),
    }
}

fn problem(
    known: Option<&Incident>,
    signal: &Signal,
    policy: &Policy,
    now: OffsetDateTime,
) -> (Decision, Option<Incident>) {
    let noted_recovery = known.and_then(|known| known.recovered).max(signal.noted_recovery);
    let is_over = noted_recovery.is_some_and(|recovery| signal.time <= recovery);
    let is_soon = noted_recovery.is_some_and(|recovery| signal.time - recovery <= policy.reopen_within);
    let same = known.filter(|known| known.is_open() || is_over || is_soon);
    let transition = match same {
        Some(same) if same.root.is_none() => Transition::Opened,
        Some(open) if open.is_open() => open.transition_of(signal, policy, now),
        Some(_) if is_over => Transition::Repeated,
        Some(_) => Transition::Reopened,
        None => Transition::Opened,
    };
    if signal.severity < Severity::Warning && transition.is_reported() {
        return (Decision::NoIncident, None);
    }
    let escalates = same.is_none_or(|same| signal.severity > same.severity);
    let matters = policy.mention_from.is_some_and(|least| signal.severity >= least);
    let mentions = transition.is_reported() && escalates && matters && !is_over;

    let mut incident = same.cloned().unwrap_or_else(|| Incident::new(signal, known, now));
    if matches!(transition, Transition::Opened | Transition::Reopened) {
        incident.recovered = noted_recovery.filter(|_| is_over);
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
    // If ECS cannot be asked, the recovery counts if no task has failed for `quiet_for`.
    let confirmed = confirmed.unwrap_or(incident.failed_tasks == 0 || now - incident.last_event >= policy.quiet_for);
    let put_backs = incident.unconfirmed_recovery.filter(|(id, _)| *id == signal.id).map_or(0, |(_, count)| count);
    let is_older = signal.time < incident.last_event;
    incident.seen = now;
    if !is_older && !confirmed && put_backs < MAX_PUT_BACKS {
        incident.unconfirmed_recovery = Some((signal.id, put_backs + 1));
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
    /// An incident that has counted nothing. It keeps the previous incident's ids, to detect duplicates.
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
            unconfirmed_recovery: None,
        }
    }

    /// Whether it has not recovered.
    pub const fn is_open(&self) -> bool {
        self.recovered.is_none()
    }

    /// Whether Slack has the incident and the incident has counted this event, if it is one of the latest.
    pub fn has_reported(&self, id: Id) -> bool {
        self.root.is_some() && self.ids.contains(&id)
    }

    /// Whether it is forgotten, because no event arrived for [`FORGOTTEN_AFTER`].
    pub fn is_forgotten(&self, now: OffsetDateTime) -> bool {
        now - self.seen >= FORGOTTEN_AFTER
    }

    /// The time from its first event to its recovery; `None` while it is open.
    pub fn duration(&self) -> Option<Duration> {
        // A late event may be older than the first one, but none is newer than the recovery.
        Some((self.recovered? - self.first_event).try_into().unwrap_or_default())
    }

    /// The same incident with a new root. The previous root becomes one of the other places.
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

    /// The transition of a problem while the incident is open.
    fn transition_of(&self, signal: &Signal, policy: &Policy, now: OffsetDateTime) -> Transition {
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
            // The first named deployment may be the one that had the problem from the start.
            Rollout::InTrouble => known.is_none() && !self.deployments.is_empty(),
            Rollout::Failed => known.is_none_or(|deployment| !deployment.failed),
            Rollout::RolledBack => known.is_none_or(|deployment| !deployment.rolled_back),
        }
    }

    /// Counts an event once, and records its details.
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

/// Adds an item, and removes the oldest ones beyond `max`.
fn keep_latest<T>(items: &mut Vec<T>, item: T, max: usize) {
    items.push(item);
    items.drain(..items.len().saturating_sub(max));
}

#[cfg(test)]
mod tests;
