//! Turns an event into an alert, which has all that a person needs to know: what it is about, what is wrong, how severe it is, why, and
//! where to look. Nothing here depends on Slack.
//!
//! Texts are unescaped: `slack::render` escapes them and cuts them to Slack's limits. But every text has a maximum length, whatever
//! the event holds, and only `reason` and `note` have more than one line.

mod about;
mod action;
mod alarm;
mod api_call;
mod code_deploy;
mod crash_loop;
mod health;
mod image_scan;
mod instance;
mod parts;
mod scaling;
mod task;
mod unknown;

pub use about::{About, Phase, Rollout, Subject};
pub use crash_loop::Rule as CrashLoopRule;
use time::{OffsetDateTime, UtcOffset};

use self::parts::Parts;
use crate::cause::{Category, Cause};
use crate::console::Console;
use crate::diagnosis::{CauseCount, Diagnosis, Service, Tags};
use crate::event::{Detail, Event};
use crate::text::line;

/// How severe an alert is. Problems are `Warning` or worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Routine: a steady state, a scale-in, a stop by a user.
    Info,
    /// Somebody should look, although perhaps nothing is broken yet.
    Warning,
    /// A service does not work.
    Critical,
}

impl Severity {
    /// Every severity, for metrics that must exist from the start.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Critical];

    /// The label value in metrics, logs and `render`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// What a page of the console shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// The service, the cluster, the alarm: what the alert is about.
    Subject,
    /// A running task.
    Task,
    /// A stopped task.
    StoppedTask,
    /// The log of that task.
    Log,
    /// The container instance.
    ContainerInstance,
}

impl Page {
    /// The text of a link to this page.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Subject => "View in console",
            Self::Task => "Task",
            Self::StoppedTask => "Stopped task",
            Self::Log => "Log",
            Self::ContainerInstance => "Container instance",
        }
    }
}

/// A link to a page of the console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// What the page shows.
    pub page: Page,
    /// An absolute https URL, percent-encoded.
    pub url: String,
}

/// One event, described for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// EventBridge's id; `None` where the message was not an EventBridge event.
    pub event_id: Option<String>,
    /// The event's name where it has one (`SERVICE_TASK_START_IMPAIRED`), else its detail-type.
    pub kind: String,
    /// How severe it is.
    pub severity: Severity,
    /// The name of what it is about: a service, a task family, an alarm …
    pub subject: String,
    /// What is wrong, so that "{subject} {what}" is a sentence: "is unable to consistently start tasks successfully".
    pub what: String,
    /// The reason, as AWS gives it.
    pub reason: Option<String>,
    /// Why, from the event or the diagnosis.
    pub cause: Option<Cause>,
    /// What happens next, or what to do, for events without a [`Cause`].
    pub advice: Option<String>,
    /// Shell commands for the advice. Each consists of words without special characters.
    pub commands: Vec<String>,
    /// The description that the alarm's owner wrote. The https addresses in it become links.
    pub note: Option<String>,
    /// Set if a fallback channel shows the alert: the channel that it was for, and why that channel did not get it.
    pub carried_for: Option<String>,
    /// The ECS cluster's name.
    pub cluster: Option<String>,
    /// The AWS account's id.
    pub account: Option<String>,
    /// The AWS region.
    pub region: Option<String>,
    /// When it happened.
    pub time: Option<OffsetDateTime>,
    /// Further facts, as (label, value): the image of the container that failed, the instance id …
    pub facts: Vec<(String, String)>,
    /// Links to the console, the most useful first.
    pub links: Vec<Link>,
    /// Set if a service's task ran, and then exited or failed its health checks: the task's id. One such exit may be routine; several
    /// are a crash loop.
    pub exited_task_id: Option<String>,
    /// Which incident it may be part of.
    pub about: Option<About>,
    /// The service that ECS can be asked about.
    pub service: Option<Service>,
    /// Whether a diagnosis of that service may explain the alert.
    pub needs_diagnosis: bool,
    /// What ECS says about the service.
    pub diagnosis: Option<Diagnosis>,
    /// The tags of the service; `None` where they are not known.
    pub tags: Option<Tags>,
    /// The tags that `diagnose.tags` names, as (key, value): the owner of the service, the address of its runbook …
    pub shown_tags: Vec<(String, String)>,
}

impl Alert {
    /// Makes the alert for an event. The kind of event decides the alert's parts. They are cut to their maximum lengths before anything
    /// else uses them.
    pub fn from_event(event: &Event) -> Self {
        let detail = event.detail();
        let parts = describe(event, &detail).bounded();
        let about = About::of(&parts, event, &detail);
        let is_about_service =
            matches!(detail, Detail::ServiceAction(_) | Detail::Deployment(_) | Detail::Hook(_) | Detail::Task(_));
        let service = parts.cluster.as_deref().filter(|_| is_about_service).and_then(|cluster| service(cluster, event));
        let is_problem_or_end = about.as_ref().is_some_and(|about| about.phase != Phase::Other);
        let needs_diagnosis = service.is_some()
            && is_problem_or_end
            && !matches!(detail, Detail::Hook(_))
            && !NOT_DIAGNOSED.contains(&parts.kind.as_str());
        Self {
            event_id: event.id().map(str::to_owned),
            kind: parts.kind,
            severity: parts.severity,
            subject: parts.subject,
            what: parts.what,
            reason: parts.reason,
            cause: parts.cause,
            advice: parts.advice,
            commands: parts.commands,
            note: parts.note,
            carried_for: None,
            cluster: parts.cluster,
            account: parts.account,
            region: parts.region,
            time: event.time(),
            facts: parts.facts,
            links: parts.links,
            exited_task_id: parts.exited_task_id,
            about,
            service,
            needs_diagnosis,
            diagnosis: None,
            tags: None,
            shown_tags: Vec::new(),
        }
    }

    /// Whether it is a problem, a recovery or neither.
    pub fn phase(&self) -> Phase {
        self.about.as_ref().map_or(Phase::Other, |about| about.phase)
    }

    /// Adds the diagnosis. `rule` decides whether an exit is part of a crash loop or routine, and whether a failed start that may heal is
    /// routine. Without a rule the severity stays.
    pub fn with_diagnosis(self, diagnosis: Diagnosis, rule: Option<CrashLoopRule>) -> Self {
        let mut alert = self.diagnosed(diagnosis);
        if let Some(rule) = rule {
            crash_loop::apply_to_exit(&mut alert, rule);
            crash_loop::apply_to_start(&mut alert, rule);
        }
        alert
    }

    /// Adds the tags of the service. The alert shows those with a key in `shown`, in that order.
    pub fn with_tags(mut self, tags: Tags, shown: &[String]) -> Self {
        let value = |key: &String| Some((line(key, MAX_TAG), line(tags.get(key)?, MAX_TAG)));
        self.shown_tags = shown.iter().filter_map(value).filter(|(_, value)| !value.is_empty()).collect();
        self.tags = Some(tags);
        self
    }

    /// Adds the diagnosis. Its first cause replaces the event's cause if the event has none, or only a symptom.
    fn diagnosed(mut self, diagnosis: Diagnosis) -> Self {
        let category = self.cause.as_ref().map(|cause| cause.category);
        let only_a_symptom = category.is_none_or(|category| category == Category::Deployment);
        // A cause of the same category may be more precise in the diagnosis: it may name the container, because ECS's API gives the
        // health status of containers, and events do not.
        let names_no_container = self.exited_task_id.is_some() && !self.facts.iter().any(|(label, _)| label == "Image");
        let may_name_it = |counted: &&CauseCount| names_no_container && Some(counted.cause.category) == category;
        let counted = diagnosis.causes.first().filter(|_| only_a_symptom).or(diagnosis.causes.iter().find(may_name_it));
        if let Some(counted) = counted {
            self.cause = Some(counted.cause.clone());
        }
        // The link to the event's own task stays. Often this task is also the latest stopped task in the diagnosis.
        match self.links.iter().find(|link| link.page == Page::StoppedTask) {
            None => self.link(Page::StoppedTask, diagnosis.task_url.clone()),
            Some(link) if Some(&link.url) != diagnosis.task_url.as_ref() => {
                self.diagnosis = Some(diagnosis);
                return self;
            }
            Some(_) => {}
        }
        if diagnosis.log_url.is_some() {
            self.links.retain(|link| link.page != Page::Log);
            self.link(Page::Log, diagnosis.log_url.clone());
        }
        self.diagnosis = Some(diagnosis);
        self
    }

    fn link(&mut self, page: Page, url: Option<String>) {
        self.links.extend(url.map(|url| Link { page, url }));
    }
}

/// The maximum length of a tag's key or value in an alert, in characters. It is AWS's own maximum.
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Tag.html>
const MAX_TAG: usize = 256;
/// The maximum length of a command, in bytes. Commands with real names are shorter.
const MAX_COMMAND: usize = 600;

/// Kinds of events that nothing in a diagnosis can explain.
const NOT_DIAGNOSED: [&str; 3] =
    ["SPOT_INTERRUPTION", "ECS_OPERATION_THROTTLED", "SERVICE_DISCOVERY_OPERATION_THROTTLED"];

fn describe(event: &Event, detail: &Detail) -> Parts {
    match detail {
        Detail::ServiceAction(action) | Detail::Deployment(action) | Detail::Hook(action) => {
            action::describe(event, action, "service")
        }
        Detail::DaemonAction(action) | Detail::DaemonDeployment(action) => action::describe(event, action, "daemon"),
        Detail::Task(task) => task::describe(event, task),
        Detail::InstanceState(instance) => instance::describe_state(event, instance),
        Detail::InstanceHealth(instance) => instance::describe_health(event, instance),
        Detail::Alarm(alarm) => alarm::describe(event, alarm),
        Detail::Health(notice) => health::describe(event, notice),
        Detail::ApiCall(call) => api_call::describe(event, call),
        Detail::ImageScan(scan) => image_scan::describe(event, scan),
        Detail::CodeDeploy(deployment) => code_deploy::describe(event, deployment),
        Detail::Scaling(scaling) => scaling::describe(event, scaling),
        Detail::Other => unknown::describe(event),
    }
}

/// The service in this cluster that an event is about, or whose task it is about.
fn service(cluster: &str, event: &Event) -> Option<Service> {
    let arn = event.arns().find(|arn| arn.service == "ecs")?;
    let service = Service {
        partition: arn.partition.to_owned(),
        region: arn.region.to_owned(),
        account: arn.account.to_owned(),
        cluster: cluster.to_owned(),
        name: event.service()?.to_owned(),
    };
    service.console().is_some().then_some(service)
}

/// The console for the partition and Region of the event's first ARN.
fn console(event: &Event) -> Option<Console<'_>> {
    let arn = event.arns().next();
    let region = arn.map(|arn| arn.region).filter(|region| !region.is_empty()).or(event.region())?;
    Console::new(arn.map(|arn| arn.partition), region)
}

/// "a, b, c and 5 more"
fn several(names: &[&str], max: usize) -> String {
    let shown = names.get(..max).unwrap_or(names).join(", ");
    match names.len().saturating_sub(max) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// "2026-03-05 16:04 UTC"
fn utc(time: OffsetDateTime) -> String {
    let utc = time.checked_to_offset(UtcOffset::UTC).unwrap_or(time);
    let (year, month, day) = utc.to_calendar_date();
    format!("{year:04}-{:02}-{day:02} {:02}:{:02} UTC", u8::from(month), utc.hour(), utc.minute())
}

/// "SERVICE_FOO_BAR" → "service foo bar"
fn words(name: &str) -> String {
    name.replace('_', " ").to_lowercase()
}

#[cfg(test)]
mod tests;
