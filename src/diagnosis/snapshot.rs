//! Turns the answers about one service into its [`Diagnosis`].

use std::{cmp::Reverse, sync::Arc};

use serde_json::Value;
use time::OffsetDateTime;

use super::answers::{Facts, LogStream};
use super::changes::differences;
use super::deployments::{Deployment, Deployments};
use super::service_deployment::{self, Records, Wanted};
use super::stopped::{StoppedTask, count_causes};
use super::{
    CauseCount, Change, Current, Details, Diagnosis, Rollout, Service, ServiceDeployment, State, events, targets,
};
use crate::cause::{self, Category};
use crate::console::Console;
use crate::event::{Arn, list, text};

/// How many stopped tasks are counted at most: the latest ones.
const MAX_STOPPED: usize = 100;

/// What the answers say about one service.
pub struct ServiceSnapshot<'a> {
    service: &'a Service,
    described: &'a Value,
    tasks_known: bool,
    /// The ids of all stopped tasks of the service.
    stopped_tasks: Vec<&'a str>,
    deployments: Deployments<'a>,
    /// When a task of the current deployment last failed to start, or stopped although it should not have.
    last_failure: Option<OffsetDateTime>,
    /// The tasks of the failing deployment that stopped although they should not have, the latest first.
    stopped: Vec<StoppedTask<'a>>,
    /// Why these tasks stopped.
    causes: Vec<CauseCount>,
}

impl<'a> ServiceSnapshot<'a> {
    /// `None` if ECS does not know the service.
    pub fn of(service: &'a Service, facts: &'a Facts) -> Option<Self> {
        let described = facts.described(service)?;
        let group = format!("service:{}", service.name);
        let of_service = |task: &&Value| {
            let cluster = text(task, "clusterArn").and_then(Arn::parse).and_then(|arn| arn.name());
            text(task, "group") == Some(&group) && cluster == Some(&service.cluster)
        };
        let tasks = || facts.tasks.iter().filter(of_service);
        let id = |task| text(task, "taskArn").and_then(Arn::parse)?.name();
        let is_stopped = |task: &&Value| text(task, "lastStatus") == Some("STOPPED");
        let stopped_tasks = tasks().filter(is_stopped).filter_map(id).collect();
        let mut stopped: Vec<StoppedTask> = tasks().filter_map(StoppedTask::read).collect();
        stopped.sort_by_key(|stopped| Reverse(stopped.at));
        let deployments = Deployments::of(described, &stopped);
        let of_current = stopped.iter().filter(|stopped| deployments.current.started(stopped));
        let last_failure = of_current.filter_map(|stopped| Some(stopped.stop()?.at)).max();
        if deployments.failing.id.is_some() {
            stopped.retain(|stopped| deployments.failing.started(stopped));
        }
        stopped.truncate(MAX_STOPPED);
        let causes = count_causes(&stopped);
        let tasks_known = facts.tasks_known;
        Some(Self { service, described, tasks_known, stopped_tasks, deployments, last_failure, stopped, causes })
    }

    /// The ARNs of the task definitions to compare: those of the failing and of the previous deployment.
    pub fn task_definitions(&self) -> [Option<&'a str>; 2] {
        let Deployments { failing, previous, .. } = &self.deployments;
        let now = failing.task_definition.or_else(|| self.stopped.first()?.task_definition);
        [now, previous.and_then(|previous| previous.task_definition)]
    }

    /// The ARNs of the target groups whose health checks failed.
    pub fn failing_target_groups(&self) -> Vec<&str> {
        targets::failing(self.described, self.stopped.iter().filter_map(|stopped| stopped.task.stopped_reason))
    }

    /// The diagnosis. It says less if `details` lack an answer.
    pub fn diagnosis(&self, details: &Details) -> Diagnosis {
        let service = self.service;
        let console = service.console();
        let task = self.with_first_cause().next().and_then(|stopped| stopped.task.arn?.name());
        let log_stream = self.log_stream(details);
        let log_url = log_stream
            .as_ref()
            .and_then(|log| Console::new(Some(&service.partition), &log.region)?.log_stream(&log.group, &log.stream));
        let mut causes = self.causes.clone();
        let stopped = causes.iter().map(|counted| counted.count).sum();
        if causes.is_empty() {
            causes.extend(self.cause_in_events());
        }
        let record = self.record(details);
        let state = self.state(record);
        let stops = |started: bool| {
            let stopped = self.stopped.iter().filter(move |stopped| stopped.started() == started);
            stopped.filter_map(StoppedTask::stop).collect()
        };
        Diagnosis {
            latest_event: self.latest_event(&causes),
            health_checks: targets::health_checks(self.described, &self.failing_target_groups(), &details.targets),
            causes,
            stopped,
            stops: stops(true),
            failed_starts: stops(false),
            stopped_tasks: Arc::new(self.stopped_tasks.iter().copied().map(str::to_owned).collect()),
            tasks_known: self.tasks_known,
            // After a rollback, DescribeServices shows the previous task definition again. There is no other one to compare it with.
            change: self.change(details).map(|change| match record {
                Some((_, false)) if state.rollout == Some(Rollout::RolledBack) => {
                    Change { before: None, differences: None, ..change }
                }
                _ => change,
            }),
            state,
            current: self.current(),
            task_url: console.zip(task).and_then(|(console, task)| console.task(&service.cluster, task)),
            log_url,
            log: if log_stream.is_some() { details.log.clone() } else { Vec::new() },
        }
    }

    /// The log stream of the container that ended the latest task with the first cause, among the tasks that ran.
    pub fn log_stream(&self, details: &Details) -> Option<LogStream> {
        let stopped = self.with_first_cause().find(|stopped| stopped.ran)?;
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

    /// The tasks that stopped for the most frequent cause, the latest first.
    fn with_first_cause(&self) -> impl Iterator<Item = &StoppedTask<'a>> {
        let first = self.causes.first().map(|counted| (counted.cause.category, counted.exit_code));
        self.stopped.iter().filter(move |stopped| Some(stopped.key()) == first)
    }

    /// A cause from the service's events. A task that cannot be placed never stops, so only an event says why.
    fn cause_in_events(&self) -> Option<CauseCount> {
        events::recent(self.described).find_map(|message| {
            let cause = cause::explain_text(message)?;
            let is_fault = !cause.category.is_routine() && cause.category != Category::Deployment;
            let example = Some(message.to_owned());
            is_fault.then_some(CauseCount { cause, exit_code: None, count: 0, example })
        })
    }

    /// The latest event that says more than the causes do. If a health check failed, it is an event about health checks. If tasks
    /// stopped for another known cause, there is none. Else it is the latest event about a failure.
    fn latest_event(&self, causes: &[CauseCount]) -> Option<String> {
        let first = causes.first().map(|counted| counted.cause.category);
        let event = if matches!(first, Some(Category::HealthCheckLb | Category::HealthCheckContainer)) {
            events::latest_failed_health_check(self.described)
        } else if causes.iter().any(|counted| counted.count > 0 && counted.cause.category != Category::Unknown) {
            None
        } else {
            events::latest_failure(self.described)
        };
        event.filter(|event| causes.iter().all(|counted| counted.example.as_deref() != Some(event))).map(str::to_owned)
    }

    fn current(&self) -> Current {
        let current = &self.deployments.current;
        // If the deployment has no task definition, the service has one.
        let task_definition = current.task_definition.or_else(|| text(self.described, "taskDefinition"));
        Current {
            task_definition: task_definition.and_then(name_of),
            rollout: current.rollout,
            last_failure: self.last_failure,
        }
    }

    fn change(&self, details: &Details) -> Option<Change> {
        let [now, before] = self.task_definitions();
        let defined = now.and_then(|arn| details.task_definition(arn));
        let defined_before = before.and_then(|arn| details.task_definition(arn));
        Some(Change {
            now: name_of(now?)?,
            before: before.and_then(name_of),
            deployed: self.deployments.failing.created,
            registered_by: defined.and_then(|defined| text(defined, "registeredBy")).and_then(name_of_principal),
            differences: defined.zip(defined_before).map(|(now, before)| differences(before, now)),
        })
    }

    /// ECS's record of the failing deployment, and whether the record is certainly that deployment's.
    fn record<'b>(&self, details: &'b Details) -> Option<(&'b Value, bool)> {
        let Deployment { id, created, is_primary, rollout, is_task_set, .. } = self.deployments.failing;
        let has_failed = !self.stopped.is_empty() || rollout == Some(Rollout::Failed);
        let records = Records::of(self.service, &details.service_deployments);
        records.find(&Wanted { id, created, is_primary, has_failed }).filter(|_| !is_task_set)
    }

    fn state(&self, record: Option<(&Value, bool)>) -> State {
        let Deployments { failing, previous, .. } = &self.deployments;
        let count = |key| self.described.get(key).and_then(Value::as_i64).unwrap_or_default();
        let deployment = record.and_then(|(record, _)| ServiceDeployment::read(record));
        let record = record.map(|(record, _)| record);
        let rollout = match (failing.rollout, deployment.as_ref().map(|deployment| deployment.status.rollout())) {
            // It completed before it was replaced.
            (Some(Rollout::Replaced), Some(Rollout::Completed)) | (_, None) => failing.rollout,
            (_, recorded) => recorded,
        };
        let by_ecs = !failing.is_task_set;
        let outlook = service_deployment::outlook(self.described, record, rollout, failing.failed, previous.is_some());
        State {
            running: count("runningCount"),
            desired: count("desiredCount"),
            pending: count("pendingCount"),
            failed: failing.failed,
            rollout,
            outlook: outlook.filter(|_| by_ecs),
            deployment,
            task_set: service_deployment::task_set(self.described, failing.id),
        }
    }
}

/// The name in a task definition's ARN: "checkout:88".
fn name_of(arn: &str) -> Option<String> {
    Arn::parse(arn)?.name().map(str::to_owned)
}

/// The name in the ARN of a user ("jane") or of a role's session ("deploy/ci").
fn name_of_principal(arn: &str) -> Option<String> {
    let resource = Arn::parse(arn)?.resource;
    Some(resource.split_once('/').map_or(resource, |(_, name)| name).to_owned())
}
