//! ECS's own record of a deployment (a "service deployment"), the task set of a service that another controller deploys, and what
//! ECS will do about a deployment that fails.

use serde_json::Value;
use time::{Duration, OffsetDateTime};

use super::answers::time;
use super::{Rollout, Service};
use crate::event::{Arn, list, text};

/// ECS's record of one deployment.
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ServiceDeployment.html>
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceDeployment {
    /// Its status.
    pub status: Status,
    /// `BLUE_GREEN`, `LINEAR` or `CANARY`; `None` for a rolling update, or if ECS did not say.
    pub strategy: Option<String>,
    /// `PRODUCTION_TRAFFIC_SHIFT` …; `None` for a rolling update.
    pub stage: Option<String>,
    /// The share of the production traffic that goes to the new revision, in thousandths.
    pub production_share: Option<u16>,
    /// How many failures the circuit breaker has counted, and its threshold.
    pub breaker: Option<(i64, i64)>,
    /// The names of the alarms that are in the state ALARM.
    pub alarms: Vec<String>,
    /// The names of the lifecycle hooks that failed or timed out.
    pub failed_hooks: Vec<String>,
    /// Why it was rolled back, stopped or failed, in ECS's words.
    pub reason: Option<String>,
}

/// The status of a service deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the API")]
pub enum Status {
    Pending,
    InProgress,
    Successful,
    StopRequested,
    Stopped,
    RollbackRequested,
    RollbackInProgress,
    RollbackSuccessful,
    RollbackFailed,
}

/// A task set of a service that CodeDeploy or somebody else deploys.
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_TaskSet.html>
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskSet {
    /// Who deploys.
    pub controller: Controller,
    /// CodeDeploy's id of the deployment: `d-1A2B3C4D5`.
    pub deployment: Option<String>,
    /// Whether it serves the production traffic.
    pub is_primary: bool,
    /// How many of its tasks run.
    pub running: i64,
    /// How many of its tasks should run.
    pub desired: i64,
    /// Whether ECS reports it as stable.
    pub is_steady: bool,
}

/// Who deploys a service, if it is not ECS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controller {
    /// AWS CodeDeploy.
    CodeDeploy,
    /// A third party.
    External,
}

/// What ECS will do about a deployment whose tasks fail. It follows from the deployment's configuration, from how many failures the
/// circuit breaker has counted, and from whether the circuit breaker is still active.
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-circuit-breaker.html>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlook {
    /// No circuit breaker or alarm is on: ECS goes on starting tasks.
    TriesOn,
    /// The circuit breaker will stop it, without a rollback.
    WillStop,
    /// The circuit breaker will roll it back.
    WillRollBack,
    /// The circuit breaker will stop it, because there is no previous deployment to roll back to.
    NothingToGoBackTo,
    /// The circuit breaker is active, but has counted none of the failures.
    NotCounted,
    /// Only an alarm can still roll it back.
    AlarmMayRollBack,
    /// The circuit breaker is no longer active.
    NoLongerWatched,
    /// It has completed, so ECS does not roll it back, although rollback is configured.
    Completed,
}

impl ServiceDeployment {
    /// Reads a record; `None` if its status is missing or unknown.
    pub(super) fn read(record: &Value) -> Option<Self> {
        let status = Status::read(text(record, "status")?)?;
        let configuration = record.get("deploymentConfiguration").unwrap_or(&Value::Null);
        let breaker = record.get("deploymentCircuitBreaker").unwrap_or(&Value::Null);
        let count = |key| breaker.get(key).and_then(Value::as_i64);
        let share = record.pointer("/targetServiceRevision/requestedProductionTrafficWeight").and_then(Value::as_f64);
        let hooks = list(record, "lifecycleHookDetails")
            .filter(|hook| matches!(text(hook, "status"), Some("FAILED" | "TIMED_OUT")));
        Some(Self {
            status,
            strategy: text(configuration, "strategy").filter(|name| *name != "ROLLING").map(str::to_owned),
            stage: text(record, "lifecycleStage").map(str::to_owned),
            production_share: share
                .filter(|share| (0.0..=100.0).contains(share))
                .map(|share| (share * 10.0).round() as u16),
            breaker: count("failureCount")
                .zip(count("threshold"))
                .filter(|(_, threshold)| *threshold > 0 && text(breaker, "status") != Some("DISABLED")),
            alarms: list(record.get("alarms").unwrap_or(&Value::Null), "triggeredAlarmNames")
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
            failed_hooks: hooks.filter_map(|hook| hook_name(hook)).map(str::to_owned).collect(),
            reason: record
                .get("rollback")
                .and_then(|rollback| text(rollback, "reason"))
                .or_else(|| text(record, "statusReason"))
                .map(str::to_owned),
        })
    }
}

fn hook_name(hook: &Value) -> Option<&str> {
    let function = text(hook, "targetArn").and_then(Arn::parse).and_then(|arn| arn.name());
    function.or_else(|| text(hook, "hookId"))
}

impl Status {
    fn read(name: &str) -> Option<Self> {
        Some(match name {
            "PENDING" => Self::Pending,
            "IN_PROGRESS" => Self::InProgress,
            "SUCCESSFUL" => Self::Successful,
            "STOP_REQUESTED" => Self::StopRequested,
            "STOPPED" => Self::Stopped,
            "ROLLBACK_REQUESTED" => Self::RollbackRequested,
            "ROLLBACK_IN_PROGRESS" => Self::RollbackInProgress,
            "ROLLBACK_SUCCESSFUL" => Self::RollbackSuccessful,
            "ROLLBACK_FAILED" => Self::RollbackFailed,
            _ => return None,
        })
    }

    /// The rollout state that DescribeServices shows for it.
    pub(super) const fn rollout(self) -> Rollout {
        match self {
            Self::Pending | Self::InProgress | Self::StopRequested => Rollout::InProgress,
            Self::Successful => Rollout::Completed,
            Self::Stopped | Self::RollbackFailed => Rollout::Failed,
            Self::RollbackRequested | Self::RollbackInProgress | Self::RollbackSuccessful => Rollout::RolledBack,
        }
    }
}

/// The records of a service's deployments, from the answers of ListServiceDeployments and DescribeServiceDeployments.
pub(super) struct Records<'a>(Vec<&'a Value>);

impl<'a> Records<'a> {
    /// The records of this service, the latest first. Of two records of one deployment, the longer one comes first.
    pub(super) fn of(service: &Service, records: &'a [Value]) -> Self {
        let is_of_it = |record: &&Value| {
            let arn = |key| text(record, key).and_then(Arn::parse);
            arn("serviceDeploymentArn").or_else(|| arn("serviceArn")).is_some_and(|arn| {
                arn.service_name() == Some(&service.name) && arn.cluster().is_none_or(|name| name == service.cluster)
            })
        };
        let mut own: Vec<&Value> = records.iter().filter(is_of_it).collect();
        let is_described = |record: &Value| record.get("targetServiceRevision").is_some();
        own.sort_by_key(|record| std::cmp::Reverse((time(record, "createdAt"), is_described(record))));
        Self(own)
    }

    /// ECS's record of a deployment, and whether the record is certainly that deployment's.
    pub(super) fn find(&self, wanted: &Wanted) -> Option<(&'a Value, bool)> {
        let own = self.0.iter().find(|record| wanted.is_of(record)).map(|record| (*record, true));
        let latest = self.0.first().map(|record| (*record, false)).filter(|_| wanted.is_primary);
        let has_succeeded = |(record, _): &(&Value, bool)| text(record, "status") == Some("SUCCESSFUL");
        if wanted.has_failed {
            return own.or(latest);
        }
        // The deployment may be the result of a rollback: then the latest record is that of the deployment that failed.
        latest.filter(|latest| !has_succeeded(latest) && !wanted.is_of(latest.0)).or(own).or(latest)
    }
}

/// The deployment whose record [`Records::find`] looks for.
pub(super) struct Wanted<'a> {
    /// `ecs-svc/4177395621098765432`
    pub(super) id: Option<&'a str>,
    pub(super) created: Option<OffsetDateTime>,
    /// Whether it is the primary deployment.
    pub(super) is_primary: bool,
    /// Whether its tasks stopped, or ECS says that it failed.
    pub(super) has_failed: bool,
}

impl Wanted<'_> {
    /// Whether the record is this deployment's. A service revision has the id of its deployment. If the ids differ, the times of
    /// creation decide.
    fn is_of(&self, record: &Value) -> bool {
        let target = record.pointer("/targetServiceRevision/arn").or_else(|| record.get("targetServiceRevisionArn"));
        let last = |text: &str| text.rsplit('/').next().map(str::to_owned);
        let target = target.and_then(Value::as_str).and_then(last);
        let is_close = |(a, b): (OffsetDateTime, OffsetDateTime)| (a - b).abs() <= Duration::MINUTE;
        (target.is_some() && self.id.and_then(last) == target)
            || self.created.zip(time(record, "createdAt")).is_some_and(is_close)
    }
}

/// What ECS will do about a deployment. `record` is ECS's record of it, `failed` the count of failures in DescribeServices.
pub(super) fn outlook(
    described: &Value,
    record: Option<&Value>,
    rollout: Option<Rollout>,
    failed: i64,
    has_predecessor: bool,
) -> Option<Outlook> {
    let empty = &Value::Null;
    let configuration = record.and_then(|record| record.get("deploymentConfiguration"));
    let configuration = configuration.or_else(|| described.get("deploymentConfiguration")).unwrap_or(empty);
    let is_on =
        |part: &str, key: &str| configuration.get(part).and_then(|part| part.get(key)?.as_bool()).unwrap_or_default();
    let recorded = |part: &str| record.and_then(|record| record.get(part)).unwrap_or(empty);
    let is_active = |part: &str| {
        is_on(part, "enable") && matches!(text(recorded(part), "status"), None | Some("MONITORING" | "TRIGGERED"))
    };
    let breaker = "deploymentCircuitBreaker";
    let counted = recorded(breaker).get("failureCount").and_then(Value::as_i64).unwrap_or(failed);
    let sources = record.and_then(|record| record.get("sourceServiceRevisions")?.as_array());
    let has_predecessor = sources.map_or(has_predecessor, |sources| !sources.is_empty());
    let is_stopping = record.and_then(|record| text(record, "status")) == Some("STOP_REQUESTED");
    let rolls_back = |part: &str| is_on(part, "enable") && is_on(part, "rollback");
    match rollout? {
        Rollout::Completed if rolls_back(breaker) || rolls_back("alarms") => Some(Outlook::Completed),
        Rollout::InProgress if is_stopping => None,
        Rollout::InProgress => Some(match (is_active(breaker), is_on(breaker, "rollback")) {
            (true, _) if counted == 0 => Outlook::NotCounted,
            (true, true) if !has_predecessor => Outlook::NothingToGoBackTo,
            (true, true) => Outlook::WillRollBack,
            (true, false) => Outlook::WillStop,
            (false, _) if is_active("alarms") && is_on("alarms", "rollback") => Outlook::AlarmMayRollBack,
            (false, _) if is_on(breaker, "enable") => Outlook::NoLongerWatched,
            (false, _) => Outlook::TriesOn,
        }),
        _ => None,
    }
}

/// The task set with this id, of a service that another controller deploys.
pub(super) fn task_set(described: &Value, id: Option<&str>) -> Option<TaskSet> {
    let found = list(described, "taskSets").find(|set| id.is_some() && text(set, "id") == id)?;
    let count = |key| found.get(key).and_then(Value::as_i64).unwrap_or_default();
    let by_code_deploy = described.pointer("/deploymentController/type").and_then(Value::as_str) == Some("CODE_DEPLOY")
        || text(found, "startedBy") == Some("CODE_DEPLOY");
    Some(TaskSet {
        controller: if by_code_deploy { Controller::CodeDeploy } else { Controller::External },
        deployment: text(found, "externalId").filter(|_| by_code_deploy).map(str::to_owned),
        is_primary: text(found, "status") == Some("PRIMARY"),
        running: count("runningCount"),
        desired: count("computedDesiredCount"),
        is_steady: text(found, "stabilityStatus") == Some("STEADY_STATE"),
    })
}
