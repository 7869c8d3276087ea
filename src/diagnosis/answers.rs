//! Answers of ECS's API, and what is told from them.
//!
//! An answer is known by its keys and a service's part in it by its name, so a folder of recorded answers needs no order,
//! and may hold those of several services.

use std::cmp::Reverse;
use std::collections::HashMap;

use serde_json::Value;
use time::{Duration, OffsetDateTime};

use super::changes::differences;
use super::{Change, CircuitBreaker, Diagnosis, Rollout, Service, State, Stop, Trouble};
use crate::cause::{self, Category, Cause};
use crate::console::Console;
use crate::event::{Arn, drop_environments, drop_quoted_environment, ecs::Task, parse_time, text};

/// What was answered so far. Not `Debug`: a task definition holds what must not be printed.
#[derive(Default)]
pub struct Answers {
    services: Vec<Value>,
    tasks: Vec<Value>,
    task_definitions: Vec<Value>,
    log: Vec<String>,
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
    /// Adds an answer of DescribeServices, DescribeTasks, DescribeTaskDefinition or GetLogEvents; any other is left out.
    pub fn add(&mut self, mut answer: Value) {
        for (key, kept) in [("services", &mut self.services), ("tasks", &mut self.tasks)] {
            if let Some(Value::Array(items)) = answer.get_mut(key) {
                // A reason or a message may quote one, as in an event.
                items.iter_mut().for_each(drop_environments);
                kept.append(items);
            }
        }
        if let Some(definition) = answer.get_mut("taskDefinition") {
            self.task_definitions.push(definition.take());
        }
        let is_log = answer.get("nextForwardToken").is_some();
        let events = answer.get("events").and_then(Value::as_array).filter(|_| is_log);
        self.add_log(events.into_iter().flatten().filter_map(|event| Some(text(event, "message")?.to_owned())));
    }

    /// Adds what a container logged last.
    pub fn add_log(&mut self, messages: impl IntoIterator<Item = String>) {
        let shown = |mut message| {
            drop_quoted_environment(&mut message);
            message
        };
        self.log.extend(messages.into_iter().map(shown));
    }

    /// The ARNs of the task definitions that would tell more and were not answered yet; two at most.
    pub fn lacking_task_definitions(&self, service: &Service) -> Vec<String> {
        let Some(picture) = Picture::of(service, self) else { return Vec::new() };
        let [now, before] = picture.task_definitions();
        let before = before.filter(|before| Some(*before) != now);
        let lacking = |arn: &&str| self.task_definition(arn).is_none();
        [now, before].into_iter().flatten().filter(lacking).map(str::to_owned).collect()
    }

    /// Where the container that ended the latest task, of those that ran, logged.
    pub fn log_stream(&self, service: &Service) -> Option<LogStream> {
        Picture::of(service, self)?.log_stream(self)
    }

    /// All that is told of the service; none if ECS does not know it.
    pub fn diagnosis(&self, service: &Service) -> Option<Diagnosis> {
        let picture = Picture::of(service, self)?;
        let console = service.console();
        let task = picture.leading().next().and_then(|stopped| stopped.task.arn?.name());
        let log_stream = picture.log_stream(self);
        let log_url = log_stream
            .as_ref()
            .and_then(|log| Console::new(Some(&service.partition), &log.region)?.log_stream(&log.group, &log.stream));
        let mut why = picture.why();
        let stopped = why.iter().map(|trouble| trouble.count).sum();
        if why.is_empty() {
            why.extend(picture.told_by_events());
        }
        Some(Diagnosis {
            why,
            stopped,
            stops: picture.stopped.iter().filter_map(Stopped::stop).collect(),
            change: picture.change(self),
            state: picture.state(),
            task_url: console.zip(task).and_then(|(console, task)| console.task(&service.cluster, task)),
            log_url,
            log: if log_stream.is_some() { self.log.clone() } else { Vec::new() },
        })
    }

    fn task_definition(&self, arn: &str) -> Option<&Value> {
        self.task_definitions.iter().find(|definition| text(definition, "taskDefinitionArn") == Some(arn))
    }
}

/// The answers as they concern one service.
struct Picture<'a> {
    described: &'a Value,
    /// The deployment in trouble.
    failing: Deployment<'a>,
    /// The one before it, or the one it was rolled back to.
    previous: Option<Deployment<'a>>,
    /// What stopped of the deployment in trouble and should not have, the latest first.
    stopped: Vec<Stopped<'a>>,
}

#[derive(Clone, Copy, Default)]
struct Deployment<'a> {
    id: Option<&'a str>,
    is_primary: bool,
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
    fn of(service: &Service, answers: &'a Answers) -> Option<Self> {
        let is_it = |described: &&Value| {
            let cluster = text(described, "clusterArn").and_then(Arn::parse).and_then(|arn| arn.name());
            text(described, "serviceName") == Some(&service.name) && cluster == Some(&service.cluster)
        };
        let described = answers.services.iter().find(is_it)?;
        let deployments: Vec<Deployment> = list(described, "deployments").map(Deployment::read).collect();
        let primary = deployments.iter().find(|deployment| deployment.is_primary).copied();

        let group = format!("service:{}", service.name);
        let of_service = |task: &&Value| {
            let cluster = text(task, "clusterArn").and_then(Arn::parse).and_then(|arn| arn.name());
            text(task, "group") == Some(&group) && cluster == Some(&service.cluster)
        };
        let mut stopped: Vec<Stopped> = answers.tasks.iter().filter(of_service).filter_map(Stopped::read).collect();
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
            (None, None) => primary.unwrap_or_default(),
        };
        let previous = if failing.is_primary {
            let others = deployments.iter().filter(|deployment| !deployment.is_primary);
            others.max_by_key(|deployment| deployment.created).copied()
        } else {
            // The primary deployment came after one that was given up, but also after one that is well and on its way out.
            match failing.rollout {
                Some(Rollout::Failed) => failing.rollout = Some(Rollout::RolledBack),
                None => failing.rollout = Some(Rollout::Replaced),
                _ => {}
            }
            primary.filter(|_| matches!(failing.rollout, Some(Rollout::RolledBack | Rollout::Replaced)))
        };
        if failing.id.is_some() {
            stopped.retain(|stopped| stopped.task.started_by.is_none_or(|id| Some(id) == failing.id));
        }
        Some(Self { described, failing, previous, stopped })
    }

    fn task_definitions(&self) -> [Option<&'a str>; 2] {
        let now = self.failing.task_definition.or_else(|| self.stopped.first()?.task_definition);
        [now, self.previous.and_then(|previous| previous.task_definition)]
    }

    /// The stopped tasks by cause: the most frequent first; among equals the latest.
    fn why(&self) -> Vec<Trouble> {
        let mut places = HashMap::new();
        let mut why: Vec<Trouble> = Vec::new();
        for stopped in &self.stopped {
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

    /// Tasks that cannot be placed never stop: then it is the service that tells, in one of its latest events.
    fn told_by_events(&self) -> Option<Trouble> {
        const HOUR: Duration = Duration::HOUR;
        let at = |event: &Value| time(event, "createdAt");
        let latest = list(self.described, "events").filter_map(at).max();
        let is_recent = |event: &&Value| latest.zip(at(event)).is_none_or(|(latest, at)| latest - at <= HOUR);
        let mut events: Vec<&Value> = list(self.described, "events").filter(is_recent).collect();
        events.sort_by_key(|event| Reverse(at(event)));
        events.into_iter().find_map(|event| {
            let message = text(event, "message")?;
            let cause = cause::explain_text(message)?;
            let tells = !cause.category.is_routine() && cause.category != Category::Deployment;
            let example = Some(message.to_owned());
            tells.then_some(Trouble { cause, exit_code: None, count: 0, example })
        })
    }

    /// The tasks that stopped for the most frequent cause, the latest first.
    fn leading(&self) -> impl Iterator<Item = &Stopped<'a>> {
        let leading = self.why().into_iter().next().map(|trouble| (trouble.cause.category, trouble.exit_code));
        self.stopped.iter().filter(move |stopped| Some(stopped.key()) == leading)
    }

    fn log_stream(&self, answers: &Answers) -> Option<LogStream> {
        let stopped = self.leading().find(|stopped| stopped.ran)?;
        let container = stopped.container?;
        let definition = answers.task_definition(stopped.task_definition?)?;
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

    fn change(&self, answers: &Answers) -> Option<Change> {
        let [now, before] = self.task_definitions();
        let defined = now.and_then(|arn| answers.task_definition(arn));
        let defined_before = before.and_then(|arn| answers.task_definition(arn));
        let name = |arn: &str| Arn::parse(arn)?.name().map(str::to_owned);
        Some(Change {
            now: name(now?)?,
            before: before.and_then(name),
            deployed: self.failing.created,
            registered_by: defined.and_then(|defined| text(defined, "registeredBy")).and_then(name_of_principal),
            differences: defined.zip(defined_before).map(|(now, before)| differences(before, now)),
        })
    }

    fn state(&self) -> State {
        let count = |key| self.described.get(key).and_then(Value::as_i64).unwrap_or_default();
        let breaker = self.described.pointer("/deploymentConfiguration/deploymentCircuitBreaker");
        let is_on = |key| breaker.and_then(|breaker| breaker.get(key)?.as_bool()).unwrap_or_default();
        State {
            running: count("runningCount"),
            desired: count("desiredCount"),
            pending: count("pendingCount"),
            failed: self.failing.failed,
            rollout: self.failing.rollout,
            circuit_breaker: match (is_on("enable"), is_on("rollback")) {
                (false, _) => CircuitBreaker::Off,
                (true, false) => CircuitBreaker::Stop,
                (true, true) => CircuitBreaker::RollBack,
            },
        }
    }
}

impl<'a> Deployment<'a> {
    fn read(deployment: &'a Value) -> Self {
        Self {
            id: text(deployment, "id"),
            is_primary: text(deployment, "status") == Some("PRIMARY"),
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

    /// None for what never ran, and for what stopped because its host was lost or taken back.
    fn stop(&self) -> Option<Stop> {
        let lost_its_host = matches!(self.cause.category, Category::Spot | Category::HostGone);
        let started = self.ran && self.task.stop_code != Some("TaskFailedToStart");
        let task = self.task.arn?.name()?.to_owned();
        (started && !lost_its_host).then_some(Stop { task, at: self.at?, exit_code: self.exit_code })
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

/// "jane" of a user's ARN, "deploy/ci" of a role's session.
fn name_of_principal(arn: &str) -> Option<String> {
    let resource = Arn::parse(arn)?.resource;
    Some(resource.split_once('/').map_or(resource, |(_, name)| name).to_owned())
}

pub(super) fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

/// Seconds since 1970, as the API has it, or RFC 3339, as the AWS CLI prints it.
fn time(value: &Value, key: &str) -> Option<OffsetDateTime> {
    match value.get(key)? {
        Value::String(text) => parse_time(text),
        seconds => {
            let nanos = seconds.as_f64()? * 1e9;
            OffsetDateTime::from_unix_timestamp_nanos(nanos as i128).ok()
        }
    }
}
