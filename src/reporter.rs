//! Reports alerts to channels: news about an incident as a message, a reply or an edit; an alert without an incident as a separate
//! message.
//!
//! Invariant: an alert counts as reported only after Slack accepted the request that carries it, or if Slack has the incident that
//! it repeats.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use moka::{future::Cache, policy::EvictionPolicy};
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::{
    alert::{About, Alert, Page, Phase, Severity},
    cause::Category,
    diagnosis::Diagnosis,
    event::Identity,
    incident::{
        Id, Incident, Key, Kind, Policy, Signal, Transition,
        log::{self, Notice, NotificationLog, Refusal},
        store::Store,
    },
    metrics,
    route::{ChannelId, Recipient},
    shutdown::StopSignal,
    slack::{
        Slack,
        channel::PostError,
        render,
        report::{IncidentStatus, IncidentSummary, Report},
    },
};

mod places;

/// Settings of incidents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncidentSettings {
    /// The DynamoDB table that replicas share. `None`: this process's memory.
    pub table: Option<String>,
    /// An open incident is reported again after this time at the earliest.
    pub remind_after: Duration,
    /// A problem within this time after a recovery reopens the incident.
    pub reopen_within: Duration,
    /// A recovery that ECS cannot confirm counts if no task has failed for this time. One that ECS denies is put back for this time.
    pub quiet_for: Duration,
}

/// How an alert was reported to one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reported {
    /// Slack accepted a message or an edit that carries it.
    Posted,
    /// Slack shows its incident, and the incident has counted it.
    Folded,
    /// A copy of it was reported before.
    Duplicate,
    /// No route sends it to the channel, and it does not concern an incident there.
    Unwanted,
}

/// Why an alert was not reported.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NotReported {
    /// Slack did not accept it.
    #[error("{0}")]
    NotPosted(Arc<str>),
    /// Another alert of its incident is being reported.
    #[error("the incident is being reported by another alert or replica")]
    Busy,
    /// ECS does not confirm the recovery yet.
    #[error("the recovery is not confirmed yet")]
    Unconfirmed {
        /// When to try again.
        again_in: Duration,
    },
}

/// An alert to report, to any channel.
#[derive(Debug)]
pub struct AlertToReport {
    /// The alert.
    pub alert: Arc<Alert>,
    /// Its event's identity, which all copies share.
    pub identity: Identity,
    /// For a recovery: whether ECS confirmed it. `None` if ECS cannot be asked.
    pub confirmed: Option<bool>,
    /// The last instant at which a request to Slack may begin.
    pub start_by: Instant,
}

/// Reports alerts to channels.
#[derive(Debug)]
pub struct Reporter {
    slack: Arc<Slack>,
    incidents: Option<Incidents>,
    /// Reported events that no incident has counted.
    reported: Cache<(Identity, ChannelId), ()>,
    /// Recoveries shown in places other than the root. A later attempt for the root does not show them there again.
    shown_in_other_places: Cache<(Identity, ChannelId, ChannelId), ()>,
}

#[derive(Debug)]
struct Incidents {
    log: NotificationLog,
    policy: Policy,
}

impl Reporter {
    /// A reporter that has reported nothing. Without incidents, each alert is a message.
    pub fn new(slack: Arc<Slack>, incidents: Option<(IncidentSettings, Store)>, stop: &StopSignal) -> Self {
        let incidents = incidents.map(|(settings, store)| Incidents {
            log: NotificationLog::new(store, slack.share()).until(stop),
            policy: Policy {
                remind_after: settings.remind_after,
                reopen_within: settings.reopen_within,
                quiet_for: settings.quiet_for,
                // Depends on the route.
                mention_from: None,
            },
        });
        // EventBridge and SQS deliver copies within minutes. Two hours exceed the longest usual put-back, so that an event for two
        // channels is not posted again to the one that has it. A put-back for a blocked channel may last longer. A hundred thousand
        // entries take about fifty MB.
        const CACHED_FOR: Duration = Duration::from_secs(2 * 3600);
        let reported = Cache::builder().max_capacity(100_000).eviction_policy(EvictionPolicy::lru());
        let reported = reported.time_to_live(CACHED_FOR).build();
        let shown_in_other_places = Cache::builder().max_capacity(10_000).time_to_live(CACHED_FOR).build();
        Self { slack, incidents, reported, shown_in_other_places }
    }

    /// The channel's name.
    pub fn name(&self, channel: ChannelId) -> &str {
        self.slack.name(channel)
    }

    /// Whether this process reported the event to the channel.
    pub fn was_reported(&self, alert: &Alert, identity: Identity, channel: ChannelId) -> bool {
        let is_counted = || {
            let (incidents, about) = self.incidents.as_ref().zip(alert.about.as_ref())?;
            Some(incidents.log.has_counted(&self.key(channel, alert, about), Id(identity.0)))
        };
        self.reported.contains_key(&(identity, channel)) || is_counted() == Some(true)
    }

    /// The channels with an open incident that the alert concerns. The alert may be the recovery, or one more event that would not open
    /// an incident by itself.
    pub async fn channels_with_open_incident(&self, alert: &Alert, identity: Identity) -> Vec<ChannelId> {
        let (Some(incidents), Some(about)) = (&self.incidents, &alert.about) else { return Vec::new() };
        let is_quiet_problem = about.phase == Phase::Problem && alert.severity < Severity::Warning;
        if about.phase != Phase::Recovery && !is_quiet_problem {
            return Vec::new();
        }
        let channels: Vec<ChannelId> = self.slack.channels().collect();
        let keys: Vec<Key> = channels.iter().map(|&channel| self.key(channel, alert, about)).collect();
        let is_open = incidents.log.open_in(&signal(alert, about, identity, None), &keys).await;
        channels.into_iter().zip(is_open).filter(|(_, is_open)| *is_open).map(|(channel, _)| channel).collect()
    }

    /// Reports an alert to one channel. `recipient`: the route that sends it there, if any.
    ///
    /// # Errors
    /// When the message must stay in the queue.
    pub async fn report(
        &self,
        to_report: &AlertToReport,
        channel: ChannelId,
        recipient: Option<&Recipient>,
    ) -> Result<Reported, NotReported> {
        // A problem needs no cache entry: its incident knows the latest events, and a copy that arrives during the report shares the
        // result. Most alerts are problems, and their entries would take several times the memory of all incidents.
        let is_problem = to_report.alert.phase() == Phase::Problem && to_report.alert.severity >= Severity::Warning;
        if is_problem && self.incidents.is_some() {
            // If ECS showed an event to be routine, a copy of it is not diagnosed again, so the copy looks like a problem.
            if self.reported.contains_key(&(to_report.identity, channel)) {
                return Ok(Reported::Duplicate);
            }
            return self.report_once(to_report, channel, recipient).await;
        }
        let mut reported = Reported::Duplicate;
        // A copy that arrives meanwhile waits for this report and shares its result. Boxed, so that the problems, which are nearly
        // all alerts, do not take the memory of this future.
        let entry = Box::pin(self.reported.entry((to_report.identity, channel)).or_try_insert_with(async {
            reported = self.report_once(to_report, channel, recipient).await?;
            Ok::<_, NotReported>(())
        }));
        let entry = entry.await.map_err(|error| NotReported::clone(&error))?;
        Ok(if entry.is_fresh() { reported } else { Reported::Duplicate })
    }

    async fn report_once(
        &self,
        to_report: &AlertToReport,
        channel: ChannelId,
        recipient: Option<&Recipient>,
    ) -> Result<Reported, NotReported> {
        let AlertToReport { ref alert, identity, confirmed, start_by } = *to_report;
        let mention = recipient.and_then(|recipient| recipient.mention.as_deref());
        let outcome = match (&self.incidents, &alert.about) {
            (Some(incidents), Some(about)) => {
                let key = self.key(channel, alert, about);
                let signal = signal(alert, about, identity, confirmed);
                let policy = Policy { mention_from: mention.map(|mention| mention.from), ..incidents.policy };
                // Boxed, because most alerts are folded and posted nowhere.
                let post = |notice| Box::pin(self.show(to_report, channel, notice, mention));
                let outcome = incidents.log.report(&key, signal, &policy, start_by, post).await;
                outcome.map_err(|failure| match failure {
                    log::Failure::Post(error) => NotReported::from(error),
                    log::Failure::Joined(error) => NotReported::NotPosted(error),
                    log::Failure::Busy => NotReported::Busy,
                })?
            }
            _ => log::Outcome::NoIncident,
        };
        match outcome {
            log::Outcome::Reported(_) | log::Outcome::Edited => Ok(Reported::Posted),
            log::Outcome::Folded => Ok(Reported::Folded),
            log::Outcome::Duplicate => Ok(Reported::Duplicate),
            log::Outcome::Unconfirmed => {
                let again_in = self.incidents.as_ref().map_or(Duration::ZERO, |incidents| incidents.policy.quiet_for);
                Err(NotReported::Unconfirmed { again_in })
            }
            log::Outcome::NoIncident if recipient.is_none() => Ok(Reported::Unwanted),
            log::Outcome::NoIncident => {
                let report = Report::of(Arc::clone(alert)).mentioning(mention);
                let shown = Box::pin(self.show_where_taken(channel, &report, Transition::Opened, None, start_by)).await;
                shown.map(|_| Reported::Posted).map_err(|refusal| match refusal {
                    Refusal::Failed(error) => error.into(),
                    Refusal::RootGone { .. } => PostError::Gone.into(),
                })
            }
        }
    }

    fn key(&self, channel: ChannelId, alert: &Alert, about: &About) -> Key {
        let [account, region, cluster] =
            [&alert.account, &alert.region, &alert.cluster].map(|part| part.as_deref().unwrap_or_default());
        Key::new(self.name(channel), account, region, cluster, about.subject, &about.name)
    }

    /// Updates the gauge of open incidents.
    pub fn measure(&self) {
        let Some(incidents) = &self.incidents else { return };
        let open = incidents.log.open_by_channel();
        for channel in self.slack.channels() {
            let name = self.name(channel);
            metrics::incidents_open(name, open.get(name).copied().unwrap_or_default());
        }
    }
}

impl From<PostError> for NotReported {
    fn from(error: PostError) -> Self {
        Self::NotPosted(error.to_string().into())
    }
}

/// The alert as a signal to its incident.
fn signal(alert: &Alert, about: &About, identity: Identity, confirmed: Option<bool>) -> Signal {
    Signal {
        id: Id(identity.0),
        // An event without a time counts from its arrival.
        time: alert.time.unwrap_or_else(|| SystemTime::now().into()),
        severity: alert.severity,
        cause: alert.cause.as_ref().map(|cause| cause.category.as_str()),
        kind: match about.phase {
            Phase::Problem => Kind::Problem,
            // The event of an alarm, an instance or a task is sufficient. For a service, ECS knows more than one event shows.
            Phase::Recovery if !alert.needs_diagnosis => Kind::Recovery { confirmed: Some(true) },
            Phase::Recovery => Kind::Recovery { confirmed },
            Phase::Other => Kind::Other,
        },
        deployment: about.deployment.as_ref().map(|(id, rollout)| (Id::of(id), *rollout)),
        failed_task: about.failed_task.as_deref().map(Id::of),
        noted_recovery: None,
    }
}

fn report(alert: &Arc<Alert>, notice: &Notice) -> Report {
    let incident = &notice.incident;
    let summary = summary(notice);
    // An alert that arrived after the recovery is reported as recovered.
    let alert = match summary.status {
        IncidentStatus::Recovered => Arc::new(recovery(alert, incident, &summary)),
        _ => Arc::clone(alert),
    };
    Report { alert, incident: Some(summary), mention: None }
}

fn summary(notice: &Notice) -> IncidentSummary {
    let incident = &notice.incident;
    let status = match notice.transition {
        _ if incident.recovered.is_some() => IncidentStatus::Recovered,
        Transition::Opened => IncidentStatus::Opened,
        Transition::Reopened => IncidentStatus::Reopened,
        Transition::Reminded => IncidentStatus::Reminder,
        Transition::News | Transition::Repeated | Transition::Recovered => IncidentStatus::Ongoing,
    };
    IncidentSummary {
        status,
        since: incident.first_event,
        last: incident.last_event,
        events: incident.events,
        failed_tasks: incident.failed_tasks,
        causes: incident.causes.iter().filter_map(|name| Category::from_name(name)).collect(),
    }
}

/// The alert of the green message: the duration, the numbers of events and failed tasks, the cause, and what runs now.
fn recovery(alert: &Alert, incident: &Incident, summary: &IncidentSummary) -> Alert {
    let mut facts = Vec::new();
    let mut fact = |label: &str, value: String| facts.push((label.to_owned(), value));
    let causes = render::titles(&summary.causes);
    if !causes.is_empty() {
        fact(if summary.causes.len() > 1 { "Causes" } else { "Cause" }, causes);
    }
    // The diagnosis of an alert that arrived after the recovery may show the state before it.
    let is_up = |diagnosis: &&Diagnosis| diagnosis.state.running >= diagnosis.state.desired;
    if let Some(diagnosis) = alert.diagnosis.as_ref().filter(is_up) {
        let state = &diagnosis.state;
        // The current task definition: the incident's is often another deployment's.
        let now = diagnosis.current.task_definition.as_ref().map(|it| format!("{it}, ")).unwrap_or_default();
        fact("Runs now", format!("{now}{} of {} tasks", state.running, state.desired));
    }
    let mut what = "has recovered".to_owned();
    if let Some(duration) = incident.duration() {
        what.push_str(&format!(" after {}", render::duration(duration)));
    }
    what.push_str(&format!(": {}", render::count(summary.events, "event")));
    if summary.failed_tasks > 0 {
        what.push_str(&format!(", {}", render::count(summary.failed_tasks, "failed task")));
    }
    let links = alert.links.iter().filter(|link| link.page == Page::Subject).cloned().collect();
    Alert {
        severity: Severity::Info,
        what,
        reason: None,
        cause: None,
        advice: None,
        commands: Vec::new(),
        note: None,
        time: incident.recovered.or(alert.time),
        facts,
        links,
        diagnosis: None,
        ..alert.clone()
    }
}

/// The age of an event when it is posted. Only for a first receive: later ones measure the outage, not this program.
pub fn delay(time: OffsetDateTime) -> Duration {
    // It is negative if another clock is ahead of ours.
    Duration::try_from(OffsetDateTime::from(SystemTime::now()) - time).unwrap_or_default()
}
