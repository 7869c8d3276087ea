//! Says alerts in channels: what is news about an incident as a message, a reply or an edit, and what is no incident's business
//! as a message of its own.
//!
//! Invariant: an alert counts as said only when Slack accepted the request that carries it, or has the incident that it
//! repeats.

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
    shutdown::Stop,
    slack::{
        Slack,
        channel::PostError,
        render,
        report::{IncidentStatus, IncidentSummary, Report},
    },
};

mod places;

/// How alerts become incidents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The DynamoDB table that replicas share; none: this process's memory.
    pub table: Option<String>,
    /// An open incident is reported again after this time at the earliest.
    pub remind_after: Duration,
    /// Trouble so soon after a recovery is the same incident.
    pub reopen_within: Duration,
    /// A recovery that ECS cannot confirm counts when no task has failed for so long; one that ECS refutes is put back for it.
    pub quiet_for: Duration,
}

/// What became of an alert in one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// Slack accepted a message or an edit that carries it.
    Posted,
    /// It is counted by an incident that Slack has.
    Folded,
    /// A copy of it was said before.
    Duplicate,
    /// The channel did not ask for it, and it is nothing to its incidents.
    Unwanted,
}

/// Why an alert was not said.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Unsaid {
    /// Slack did not take it.
    #[error("{0}")]
    NotPosted(Arc<str>),
    /// Another alert of its incident is being reported.
    #[error("the incident is being reported by another alert or replica")]
    Busy,
    /// ECS does not confirm the recovery yet.
    #[error("the recovery is not confirmed yet")]
    Unconfirmed {
        /// When to ask again.
        again_in: Duration,
    },
}

/// An alert to say, to whichever channel.
#[derive(Debug)]
pub struct Saying {
    /// The alert.
    pub alert: Arc<Alert>,
    /// Of its event: copies share it.
    pub identity: Identity,
    /// Whether the recovery that the alert is has been confirmed; none where nobody can be asked.
    pub confirmed: Option<bool>,
    /// No request to Slack begins later.
    pub start_by: Instant,
}

/// Says alerts in channels.
#[derive(Debug)]
pub struct Reporter {
    slack: Arc<Slack>,
    incidents: Option<Incidents>,
    /// What was said of which no incident knows.
    said: Cache<(Identity, ChannelId), ()>,
    /// Recoveries shown beside the root, by where: a later attempt for the root does not show them there again.
    shown_beside: Cache<(Identity, ChannelId, ChannelId), ()>,
}

#[derive(Debug)]
struct Incidents {
    log: NotificationLog,
    policy: Policy,
}

impl Reporter {
    /// A reporter that has said nothing yet. Without incidents each alert is a message.
    pub fn new(slack: Arc<Slack>, incidents: Option<(Settings, Store)>, stop: &Stop) -> Self {
        let incidents = incidents.map(|(settings, store)| Incidents {
            log: NotificationLog::new(store, slack.share()).until(stop),
            policy: Policy {
                remind_after: settings.remind_after,
                reopen_within: settings.reopen_within,
                quiet_for: settings.quiet_for,
                // It depends on the route.
                mention_from: None,
            },
        });
        // EventBridge and SQS deliver copies within minutes. Two hours are longer than the longest put-back, so that an event for
        // two channels comes back to find that one of them has it. A hundred thousand entries are some fifty MB.
        const REMEMBERED_FOR: Duration = Duration::from_secs(2 * 3600);
        let said = Cache::builder().max_capacity(100_000).eviction_policy(EvictionPolicy::lru());
        let said = said.time_to_live(REMEMBERED_FOR).build();
        let shown_beside = Cache::builder().max_capacity(10_000).time_to_live(REMEMBERED_FOR).build();
        Self { slack, incidents, said, shown_beside }
    }

    /// The channel's name.
    pub fn name(&self, channel: ChannelId) -> &str {
        self.slack.name(channel)
    }

    /// Whether this process said it there.
    pub fn has_said(&self, alert: &Alert, identity: Identity, channel: ChannelId) -> bool {
        let is_counted = || {
            let (incidents, about) = self.incidents.as_ref().zip(alert.about.as_ref())?;
            Some(incidents.log.has_counted(&self.key(channel, alert, about), Id(identity.0)))
        };
        self.said.contains_key(&(identity, channel)) || is_counted() == Some(true)
    }

    /// The channels with an open incident that the alert is about, where it may be the end of it, or one more event of it that
    /// is nothing by itself.
    pub async fn heard_of(&self, alert: &Alert, identity: Identity) -> Vec<ChannelId> {
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

    /// Brings an alert to its end in one channel. `asked`: a route takes it there.
    ///
    /// # Errors
    /// When the message must stay in the queue.
    pub async fn report(&self, saying: &Saying, channel: ChannelId, asked: Option<&Recipient>) -> Result<Said, Unsaid> {
        // An incident knows its latest events, and lets a copy that comes meanwhile share the fate of the report that is under way. That
        // is most alerts, and to remember each of them by itself would take several times the memory of all incidents.
        let is_problem = saying.alert.phase() == Phase::Problem && saying.alert.severity >= Severity::Warning;
        if is_problem && self.incidents.is_some() {
            // A copy of what ECS showed to be routine is not diagnosed again, and so looks like a problem.
            if self.said.contains_key(&(saying.identity, channel)) {
                return Ok(Said::Duplicate);
            }
            return self.say(saying, channel, asked).await;
        }
        let mut said = Said::Duplicate;
        // A copy that comes meanwhile awaits the end of this and shares it.
        let entry = self.said.entry((saying.identity, channel)).or_try_insert_with(async {
            said = self.say(saying, channel, asked).await?;
            Ok::<_, Unsaid>(())
        });
        let entry = entry.await.map_err(|error| Unsaid::clone(&error))?;
        Ok(if entry.is_fresh() { said } else { Said::Duplicate })
    }

    async fn say(&self, saying: &Saying, channel: ChannelId, asked: Option<&Recipient>) -> Result<Said, Unsaid> {
        let Saying { ref alert, identity, confirmed, start_by } = *saying;
        let mention = asked.and_then(|recipient| recipient.mention.as_deref());
        let outcome = match (&self.incidents, &alert.about) {
            (Some(incidents), Some(about)) => {
                let key = self.key(channel, alert, about);
                let signal = signal(alert, about, identity, confirmed);
                let policy = Policy { mention_from: mention.map(|mention| mention.from), ..incidents.policy };
                let post = async |notice| self.show(saying, channel, notice, mention).await;
                let reported = incidents.log.report(&key, signal, &policy, start_by, post).await;
                reported.map_err(|failure| match failure {
                    log::Failure::Post(error) => Unsaid::from(error),
                    log::Failure::Joined(error) => Unsaid::NotPosted(error),
                    log::Failure::Busy => Unsaid::Busy,
                })?
            }
            _ => log::Outcome::AsBefore,
        };
        match outcome {
            log::Outcome::Reported(_) | log::Outcome::Edited => Ok(Said::Posted),
            log::Outcome::Folded => Ok(Said::Folded),
            log::Outcome::Duplicate => Ok(Said::Duplicate),
            log::Outcome::Unconfirmed => {
                let again_in = self.incidents.as_ref().map_or(Duration::ZERO, |incidents| incidents.policy.quiet_for);
                Err(Unsaid::Unconfirmed { again_in })
            }
            log::Outcome::AsBefore if asked.is_none() => Ok(Said::Unwanted),
            log::Outcome::AsBefore => {
                let report = Report::of(Arc::clone(alert)).mentioning(mention);
                let shown = self.show_where_taken(channel, &report, Transition::Opened, None, start_by).await;
                shown.map(|_| Said::Posted).map_err(|refusal| match refusal {
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

    /// Keeps the gauge of open incidents.
    pub fn measure(&self) {
        let Some(incidents) = &self.incidents else { return };
        let open = incidents.log.open_by_channel();
        for channel in self.slack.channels() {
            let name = self.name(channel);
            metrics::incidents_open(name, open.get(name).copied().unwrap_or_default());
        }
    }
}

impl From<PostError> for Unsaid {
    fn from(error: PostError) -> Self {
        Self::NotPosted(error.to_string().into())
    }
}

/// What an alert means to an incident.
fn signal(alert: &Alert, about: &About, identity: Identity, confirmed: Option<bool>) -> Signal {
    Signal {
        id: Id(identity.0),
        // What has no time happened when it came.
        time: alert.time.unwrap_or_else(|| SystemTime::now().into()),
        severity: alert.severity,
        cause: alert.cause.as_ref().map(|cause| cause.category.as_str()),
        kind: match about.phase {
            Phase::Problem => Kind::Problem,
            // An alarm, an instance or a task speaks for itself; of a service ECS says more than one event does.
            Phase::Recovery if !alert.is_explicable => Kind::Recovery { confirmed: Some(true) },
            Phase::Recovery => Kind::Recovery { confirmed },
            Phase::Other => Kind::Other,
        },
        deployment: about.deployment.as_ref().map(|(id, rollout)| (Id::of(id), *rollout)),
        failed_task: about.failed_task.as_deref().map(Id::of),
        well_since: None,
    }
}

fn report(alert: &Arc<Alert>, notice: &Notice) -> Report {
    let incident = &notice.incident;
    let summary = summary(notice);
    // An alert that came after the recovery is told as what is over.
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

/// The green message: after how long, how many events and failed tasks, which cause, what runs now.
fn recovery(alert: &Alert, incident: &Incident, summary: &IncidentSummary) -> Alert {
    let mut facts = Vec::new();
    let mut fact = |label: &str, value: String| facts.push((label.to_owned(), value));
    let causes = render::titles(&summary.causes);
    if !causes.is_empty() {
        fact(if summary.causes.len() > 1 { "Causes" } else { "Cause" }, causes);
    }
    // An alert that comes after the end may be diagnosed as it was before it.
    let is_up = |diagnosis: &&Diagnosis| diagnosis.state.running >= diagnosis.state.desired;
    if let Some(diagnosis) = alert.diagnosis.as_ref().filter(is_up) {
        let state = &diagnosis.state;
        // Not what was in trouble: that is often another deployment's.
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

/// An age of an event at its post, for a first receive only: later ones measure the outage, not us.
pub fn delay(time: OffsetDateTime) -> Duration {
    // A clock ahead of ours would make it negative.
    Duration::try_from(OffsetDateTime::from(SystemTime::now()) - time).unwrap_or_default()
}
