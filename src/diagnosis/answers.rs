//! Answers of ECS's API, and what is told from them.
//!
//! An answer is known by its keys and a service's part in it by its name, so a folder of recorded answers needs no order,
//! and may hold those of several services.

use std::cmp::Reverse;
use std::collections::HashMap;

use serde_json::Value;
use time::OffsetDateTime;

use super::changes::differences;
use super::deployment::{self, Records, Wanted};
use super::details::Details;
use super::{
    Change, Current, Diagnosis, Rollout, Service, ServiceDeployment, State, Stop, Tags, Trouble, events, targets,
};
use crate::cause::{self, Category, Cause};
use crate::console::Console;
use crate::event::{Arn, drop_environments, ecs::Task, parse_time, text};

/// How many stopped tasks are looked at, the latest: no more are told of.
const MOST_STOPPED: usize = 100;

/// Recorded answers of all kinds.
#[derive(Default)]
pub struct Answers {
    /// Of the services and their tasks.
    pub facts: Facts,
    /// Of all else.
    pub details: Details,
}

/// What was answered about services and their stopped tasks: without it there is no diagnosis.
#[derive(Default)]
pub struct Facts {
    services: Vec<Value>,
    tasks: Vec<Value>,
    /// Whether these are all the stopped tasks that ECS remembers, though it be none.
    pub tasks_known: bool,
}

/// Where a container logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogStream {
    /// The AWS region.
    pub region: String,
    /// The log group's name.
    pub group: String,
    /// The stream's name: `{prefix}/{container}/{task id}`.
    pub stream: String,
}

impl Answers {
    /// Adds an answer of any of the operations that a diagnosis asks; any other is left out. `name` is that of its file: an answer of
    /// DescribeTargetHealth does not say of which target group it is, so there the name may.
    pub fn add(&mut self, name: &str, answer: Value) {
        let is_of_tasks = ["tasks", "taskArns"].iter().any(|key| answer.get(key).is_some());
        self.facts.tasks_known |= is_of_tasks;
        if answer.get("TargetHealthDescriptions").is_some() {
            self.details.add_target_health(name, answer);
        } else if answer.get("services").is_some() || is_of_tasks {
            self.facts.add(answer);
        } else {
            self.details.add(answer);
        }
    }

    /// The tags of the service; none if ECS does not know it.
    pub fn tags(&self, service: &Service) -> Option<Tags> {
        self.facts.described(service).map(Tags::of)
    }

    /// All that is told of the service; none if ECS does not know it.
    pub fn diagnosis(&self, service: &Service) -> Option<Diagnosis> {
        Some(Picture::of(service, &self.facts)?.diagnosis(&self.details))
    }
}

impl Facts {
    /// What DescribeServices answered about the service.
    pub fn described(&self, service: &Service) -> Option<&Value> {
        let is_it = |described: &&Value| {
            let cluster = text(described, "clusterArn").and_then(Arn::parse).and_then(|arn| arn.name());
            text(described, "serviceName") == Some(&service.name) && cluster == Some(&service.cluster)
        };
        self.services.iter().find(is_it)
    }

    /// Adds an answer of DescribeServices or DescribeTasks; any other is left out.
    pub fn add(&mut self, mut answer: Value) {
        for (key, kept) in [("services", &mut self.services), ("tasks", &mut self.tasks)] {
            if let Some(Value::Array(items)) = answer.get_mut(key) {
                // A reason or a message may quote an environment, as in an event.
                items.iter_mut().for_each(drop_environments);
                kept.append(items);
            }
        }
    }
}

/// The answers as they concern one service.
pub struct Picture<'a> {
    service: &'a Service,
    described: &'a Value,
    tasks_known: bool,
    /// The deployment in trouble.
    failing: Deployment<'a>,
    /// The one before it, or the one it was rolled back to.
    previous: Option<Deployment<'a>>,
    /// The one that the service has now.
    current: Deployment<'a>,
    /// When a task of that one last stopped and should not have.
    died: Option<OffsetDateTime>,
    /// What stopped of the deployment in trouble and should not have, the latest first.
    stopped: Vec<Stopped<'a>>,
    /// These by cause: the most frequent first; among equals the latest.
    why: Vec<Trouble>,
}

#[derive(Clone, Copy, Default)]
struct Deployment<'a> {
    id: Option<&'a str>,
    is_primary: bool,
    is_task_set: bool,
    task_definition: Option<&'a str>,
    created: Option<OffsetDateTime>,
    rollout: Option<Rollout>,
    failed: i64,
}

struct Stopped<'a> {
    task: Task<'a>,
    task_definition: Option<&'a str>,
    at: Option<OffsetDateTime>,
    ran: bool,
    cause: Cause,
    /// The name of the container that the cause is about.
    container: Option<&'a str>,
    /// With which code it exited.
    exit_code: Option<i64>,
}

impl<'a> Picture<'a> {
    /// None if ECS does not know the service.
    pub fn of(service: &'a Service, facts: &'a Facts) -> Option<Self> {
        let described = facts.described(service)?;
        let sets = list(described, "taskSets").map(Deployment::read_task_set);
        let deployments: Vec<Deployment> = list(described, "deployments").map(Deployment::read).chain(sets).collect();
        let primary = deployments.iter().find(|deployment| deployment.is_primary).copied();

        let group = format!("service:{}", service.name);
        let of_service = |task: &&Value| {
            let cluster = text(task, "clusterArn").and_then(Arn::parse).and_then(|arn| arn.name());
            text(task, "group") == Some(&group) && cluster == Some(&service.cluster)
        };
        let mut stopped: Vec<Stopped> = facts.tasks.iter().filter(of_service).filter_map(Stopped::read).collect();
        stopped.sort_by_key(|stopped| Reverse(stopped.at));

        let failed = deployments.iter().find(|deployment| deployment.rollout == Some(Rollout::Failed));
        let latest = || stopped.iter().find_map(|stopped| Some((stopped.task.started_by?, stopped.task_definition)));
        let mut failing = match (failed, latest()) {
            (Some(failed), _) => *failed,
            (None, Some((id, task_definition))) => deployments
                .iter()
                .find(|deployment| deployment.id == Some(id))
                .copied()
                // ECS has forgotten the deployment, but not yet its tasks.
                .unwrap_or(Deployment {
                    id: Some(id),
                    task_definition,
                    is_primary: primary.is_none(),
                    ..Deployment::default()
                }),
            // Of task sets the new one is primary only once it serves the traffic.
            (None, None) => {
                let sets = deployments.iter().filter(|deployment| deployment.is_task_set);
                sets.max_by_key(|set| set.created).copied().or(primary).unwrap_or_default()
            }
        };
        let previous = if failing.is_primary {
            let is_older = |other: &&Deployment| !other.is_primary && other.created <= failing.created;
            let others = deployments.iter().filter(is_older);
            others.max_by_key(|deployment| deployment.created).copied()
        } else {
            // The primary deployment came after one that was given up, but also after one that is well and on its way out.
            match failing.rollout {
                Some(Rollout::Failed) => failing.rollout = Some(Rollout::RolledBack),
                None if failing.is_task_set && primary.is_some_and(|primary| primary.created < failing.created) => {
                    failing.rollout = Some(Rollout::InProgress);
                }
                None => failing.rollout = Some(Rollout::Replaced),
                _ => {}
            }
            let came_after = matches!(failing.rollout, Some(Rollout::RolledBack | Rollout::Replaced));
            primary.filter(|_| came_after || failing.is_task_set)
        };
        // A new task set is what the service is to have, also before it serves the traffic.
        let is_new_set = failing.is_task_set && failing.rollout == Some(Rollout::InProgress);
        let current = primary.filter(|_| !is_new_set).unwrap_or(failing);
        let of_current = |stopped: &&Stopped| stopped.task.started_by.is_none_or(|id| Some(id) == current.id);
        let died = stopped.iter().filter(of_current).filter_map(|stopped| Some(stopped.stop()?.at)).max();
        if failing.id.is_some() {
            stopped.retain(|stopped| stopped.task.started_by.is_none_or(|id| Some(id) == failing.id));
        }
        stopped.truncate(MOST_STOPPED);
        let why = why(&stopped);
        Some(Self {
            service,
            described,
            tasks_known: facts.tasks_known,
            failing,
            previous,
            current,
            died,
            stopped,
            why,
        })
    }

    /// The ARNs of the task definitions that would tell more and were not answered yet; two at most.
    pub fn lacking_task_definitions(&self, details: &Details) -> Vec<String> {
        let [now, before] = self.task_definitions();
        let before = before.filter(|before| Some(*before) != now);
        let lacking = |arn: &&str| details.task_definition(arn).is_none();
        [now, before].into_iter().flatten().filter(lacking).map(str::to_owned).collect()
    }

    /// The ARNs of the target groups whose health checks failed.
    pub fn failing_target_groups(&self) -> Vec<&str> {
        targets::failing(self.described, self.stopped.iter().filter_map(|stopped| stopped.task.stopped_reason))
    }

    /// All that is told of the service.
    pub fn diagnosis(&self, details: &Details) -> Diagnosis {
        let service = self.service;
        let console = service.console();
        let task = self.leading().next().and_then(|stopped| stopped.task.arn?.name());
        let log_stream = self.log_stream(details);
        let log_url = log_stream
            .as_ref()
            .and_then(|log| Console::new(Some(&service.partition), &log.region)?.log_stream(&log.group, &log.stream));
        let mut why = self.why.clone();
        let stopped = why.iter().map(|trouble| trouble.count).sum();
        if why.is_empty() {
            why.extend(self.told_by_events());
        }
        let record = self.record(details);
        let state = self.state(record);
        Diagnosis {
            said: self.said(&why),
            health_checks: targets::health_checks(self.described, &self.failing_target_groups(), &details.targets),
            why,
            stopped,
            stops: self.stopped.iter().filter(|stopped| stopped.started()).filter_map(Stopped::stop).collect(),
            failed_starts: self.stopped.iter().filter(|stopped| !stopped.started()).filter_map(Stopped::stop).collect(),
            tasks_known: self.tasks_known,
            // ECS went back to what it tells of as deployed: that differs in nothing.
            change: self.change(details).map(|change| match record {
                Some((_, false)) if state.rollout == Some(Rollout::RolledBack) => {
                    Change { before: None, differences: None, ..change }
                }
                _ => change,
            }),
            state,
            current: Current {
                // The service itself tells what it was told.
                task_definition: self
                    .current
                    .task_definition
                    .or_else(|| text(self.described, "taskDefinition"))
                    .and_then(name_of),
                rollout: self.current.rollout,
                died: self.died,
            },
            task_url: console.zip(task).and_then(|(console, task)| console.task(&service.cluster, task)),
            log_url,
            log: if log_stream.is_some() { details.log.clone() } else { Vec::new() },
        }
    }

    fn task_definitions(&self) -> [Option<&'a str>; 2] {
        let now = self.failing.task_definition.or_else(|| self.stopped.first()?.task_definition);
        [now, self.previous.and_then(|previous| previous.task_definition)]
    }

    /// Tasks that cannot be placed never stop: then it is the service that tells, in one of its latest events.
    fn told_by_events(&self) -> Option<Trouble> {
        events::recent(self.described).find_map(|message| {
            let cause = cause::explain_text(message)?;
            let tells = !cause.category.is_routine() && cause.category != Category::Deployment;
            let example = Some(message.to_owned());
            tells.then_some(Trouble { cause, exit_code: None, count: 0, example })
        })
    }

    /// What ECS says of the service besides: of a failed health check more than the tasks do; without tasks that tell, its latest words
    /// about a failure.
    fn said(&self, why: &[Trouble]) -> Option<String> {
        let first = why.first().map(|trouble| trouble.cause.category);
        let said = if matches!(first, Some(Category::HealthCheckLb | Category::HealthCheckContainer)) {
            events::latest_failed_health_check(self.described)
        } else if why.iter().any(|trouble| trouble.count > 0 && trouble.cause.category != Category::Unknown) {
            None
        } else {
            events::latest_failure(self.described)
        };
        said.filter(|said| why.iter().all(|trouble| trouble.example.as_deref() != Some(said))).map(str::to_owned)
    }

    /// The tasks that stopped for the most frequent cause, the latest first.
    fn leading(&self) -> impl Iterator<Item = &Stopped<'a>> {
        let leading = self.why.first().map(|trouble| (trouble.cause.category, trouble.exit_code));
        self.stopped.iter().filter(move |stopped| Some(stopped.key()) == leading)
    }

    /// Where the container that ended the latest task, of those that ran, logged.
    pub fn log_stream(&self, details: &Details) -> Option<LogStream> {
        let stopped = self.leading().find(|stopped| stopped.ran)?;
        let container = stopped.container?;
        let definition = details.task_definition(stopped.task_definition?)?;
        let containers = &mut list(definition, "containerDefinitions");
        let log = containers.find(|defined| text(defined, "name") == Some(container))?.get("logConfiguration")?;
        let options = log.get("options").filter(|_| text(log, "logDriver") == Some("awslogs"))?;
        let arn = stopped.task.arn?;
        let (prefix, task) = (text(options, "awslogs-stream-prefix")?, arn.name()?);
        Some(LogStream {
            region: text(options, "awslogs-region").unwrap_or(arn.region).to_owned(),
            group: text(options, "awslogs-group")?.to_owned(),
            stream: format!("{prefix}/{container}/{task}"),
        })
    }

    fn change(&self, details: &Details) -> Option<Change> {
        let [now, before] = self.task_definitions();
        let defined = now.and_then(|arn| details.task_definition(arn));
        let defined_before = before.and_then(|arn| details.task_definition(arn));
        Some(Change {
            now: name_of(now?)?,
            before: before.and_then(name_of),
            deployed: self.failing.created,
            registered_by: defined.and_then(|defined| text(defined, "registeredBy")).and_then(name_of_principal),
            differences: defined.zip(defined_before).map(|(now, before)| differences(before, now)),
        })
    }

    /// ECS's record of the deployment in trouble, and whether it is surely that one's.
    fn record<'b>(&self, details: &'b Details) -> Option<(&'b Value, bool)> {
        let Deployment { id, created, is_primary, rollout, is_task_set, .. } = self.failing;
        let is_evident = !self.stopped.is_empty() || rollout == Some(Rollout::Failed);
        let records = Records::of(self.service, &details.service_deployments);
        records.find(&Wanted { id, created, is_primary, is_evident }).filter(|_| !is_task_set)
    }

    fn state(&self, record: Option<(&Value, bool)>) -> State {
        let count = |key| self.described.get(key).and_then(Value::as_i64).unwrap_or_default();
        let deployment = record.and_then(|(record, _)| ServiceDeployment::read(record));
        let record = record.map(|(record, _)| record);
        let rollout = match (self.failing.rollout, deployment.as_ref().map(|deployment| deployment.status.rollout())) {
            // It was well, once.
            (Some(Rollout::Replaced), Some(Rollout::Completed)) | (_, None) => self.failing.rollout,
            (_, recorded) => recorded,
        };
        let (failed, has_predecessor) = (self.failing.failed, self.previous.is_some());
        let by_ecs = !self.failing.is_task_set;
        State {
            running: count("runningCount"),
            desired: count("desiredCount"),
            pending: count("pendingCount"),
            failed,
            rollout,
            outlook: deployment::outlook(self.described, record, rollout, failed, has_predecessor).filter(|_| by_ecs),
            deployment,
            task_set: deployment::task_set(self.described, self.failing.id),
        }
    }
}

/// The stopped tasks by cause: the most frequent first; among equals the latest.
fn why(stopped: &[Stopped]) -> Vec<Trouble> {
    let mut places = HashMap::new();
    let mut why: Vec<Trouble> = Vec::new();
    for stopped in stopped {
        let place = *places.entry(stopped.key()).or_insert(why.len());
        match why.get_mut(place) {
            Some(trouble) => trouble.count += 1,
            None => why.push(Trouble {
                cause: stopped.cause.clone(),
                exit_code: stopped.key().1,
                count: 1,
                example: stopped.task.reasons(),
            }),
        }
    }
    why.sort_by_key(|trouble| Reverse(trouble.count));
    why
}

impl<'a> Deployment<'a> {
    fn read(deployment: &'a Value) -> Self {
        Self {
            id: text(deployment, "id"),
            is_primary: text(deployment, "status") == Some("PRIMARY"),
            is_task_set: false,
            task_definition: text(deployment, "taskDefinition"),
            created: time(deployment, "createdAt"),
            rollout: match text(deployment, "rolloutState") {
                Some("IN_PROGRESS") => Some(Rollout::InProgress),
                Some("COMPLETED") => Some(Rollout::Completed),
                Some("FAILED") => Some(Rollout::Failed),
                _ => None,
            },
            failed: deployment.get("failedTasks").and_then(Value::as_i64).unwrap_or_default(),
        }
    }

    /// What CodeDeploy or somebody else deploys; its tasks are started by the task set.
    fn read_task_set(set: &'a Value) -> Self {
        Self { is_task_set: true, ..Self::read(set) }
    }
}

impl<'a> Stopped<'a> {
    /// None for a task that still runs, or whose end was routine.
    fn read(value: &'a Value) -> Option<Self> {
        let task = Task::read(value);
        if task.last_status != Some("STOPPED") {
            return None;
        }
        let explained = cause::explain(&task);
        // Words that are not known are quoted, not dropped.
        let unknown = || task.reasons().map(|_| Cause { category: Category::Unknown, hint: String::new() });
        let cause = explained.cause.or_else(unknown)?;
        // A service's task is not meant to end, not even with 0.
        if cause.category.is_routine() && cause.category != Category::Completed {
            return None;
        }
        Some(Self {
            task_definition: text(value, "taskDefinitionArn"),
            at: ["stoppedAt", "stoppingAt", "createdAt"].into_iter().find_map(|key| time(value, key)),
            ran: task.ran(),
            cause,
            container: explained.culprit.and_then(|container| container.name),
            exit_code: explained.exit_code,
            task,
        })
    }

    fn started(&self) -> bool {
        self.ran && self.task.stop_code != Some("TaskFailedToStart")
    }

    /// None for what stopped because its host was lost or taken back.
    fn stop(&self) -> Option<Stop> {
        let lost_its_host = matches!(self.cause.category, Category::Spot | Category::HostGone);
        let task = self.task.arn?.name()?.to_owned();
        (!lost_its_host).then_some(Stop { task, at: self.at?, exit_code: self.exit_code })
    }

    /// What it has in common with others: the cause, and the exit code where that is what is known.
    fn key(&self) -> (Category, Option<i64>) {
        let exits = matches!(
            self.cause.category,
            Category::Completed | Category::Crash | Category::Sigkill | Category::Sigterm | Category::StartCommand
        );
        (self.cause.category, self.exit_code.filter(|_| exits))
    }
}

/// "checkout:88" of a task definition's ARN.
fn name_of(arn: &str) -> Option<String> {
    Arn::parse(arn)?.name().map(str::to_owned)
}

/// "jane" of a user's ARN, "deploy/ci" of a role's session.
fn name_of_principal(arn: &str) -> Option<String> {
    let resource = Arn::parse(arn)?.resource;
    Some(resource.split_once('/').map_or(resource, |(_, name)| name).to_owned())
}

pub(super) fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

/// Seconds since 1970, as the API has it, or RFC 3339, as the AWS CLI prints it.
pub(super) fn time(value: &Value, key: &str) -> Option<OffsetDateTime> {
    match value.get(key)? {
        Value::String(text) => parse_time(text),
        seconds => {
            let nanos = seconds.as_f64()? * 1e9;
            OffsetDateTime::from_unix_timestamp_nanos(nanos as i128).ok()
        }
    }
}
