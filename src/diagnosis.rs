//! What ECS knows about a service that fails: why its tasks stop, what changed, and how many tasks run. Pure.
//!
//! A [`Diagnosis`] is made from the answers of AWS's APIs in their own JSON shapes ([`answers`]), so the same code reads recorded and
//! live answers. It holds the names of environment variables and secrets, never their values. It may say that a command changed,
//! but does not hold the command.

pub mod answers;
mod changes;
mod deployments;
mod details;
mod events;
mod service_deployment;
mod snapshot;
mod stopped;
mod tags;
mod targets;

use std::{collections::HashSet, sync::Arc};

use time::OffsetDateTime;

pub use self::details::Details;
pub use self::service_deployment::{Controller, Outlook, ServiceDeployment, Status, TaskSet};
pub use self::tags::Tags;
pub use self::targets::{Finding, HealthCheck, target_groups_in};
use crate::cause::Cause;
use crate::console::Console;

/// A service that ECS can be asked about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Service {
    /// `aws`, `aws-cn` …
    pub partition: String,
    /// The AWS region.
    pub region: String,
    /// The AWS account's id.
    pub account: String,
    /// The cluster's name.
    pub cluster: String,
    /// The service's name.
    pub name: String,
}

impl Service {
    /// The cluster's ARN. Requests use it instead of the name, because ECS looks a name up in the account of the caller.
    pub fn cluster_arn(&self) -> String {
        let Self { partition, region, account, cluster, .. } = self;
        format!("arn:{partition}:ecs:{region}:{account}:cluster/{cluster}")
    }

    /// The AWS console of the service's Region; `None` if the Region's name is not valid.
    pub fn console(&self) -> Option<Console<'_>> {
        Console::new(Some(&self.partition), &self.region)
    }
}

/// What is known about a service that fails. Its texts are as AWS wrote them: unescaped and of any length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// Why its tasks stop, the most frequent cause first; empty if no cause is known.
    pub causes: Vec<CauseCount>,
    /// How many stopped tasks these causes explain.
    pub stopped: usize,
    /// The tasks of the failing deployment that ran, and stopped although they should not have.
    pub stops: Vec<Stop>,
    /// The tasks of that deployment that failed to start.
    pub failed_starts: Vec<Stop>,
    /// The ids of all stopped tasks in ECS's answers, also of those that are not counted: of another deployment, or of a routine stop.
    pub stopped_tasks: Arc<HashSet<String>>,
    /// Whether ECS answered about all stopped tasks. If not, `stops` and `failed_starts` are incomplete. They hold only the latest of
    /// them if there are very many.
    pub tasks_known: bool,
    /// The service's latest event about a failure, in ECS's words, unless it is an example of one of the causes.
    pub latest_event: Option<String>,
    /// The load balancer's health checks that failed, as far as they were requested.
    pub health_checks: Vec<HealthCheck>,
    /// What is deployed, and how it differs from what was deployed before.
    pub change: Option<Change>,
    /// How many tasks run, and the progress of the failing deployment.
    pub state: State,
    /// The deployment that the service has now, whether or not it is the one that fails.
    pub current: Current,
    /// The console's page of the latest task that stopped for the first cause.
    pub task_url: Option<String>,
    /// The console's page of the log of the latest such task that has one.
    pub log_url: Option<String>,
    /// The last lines of that log, the oldest first.
    pub log: Vec<String>,
}

impl Diagnosis {
    /// Whether the service has recovered: as many tasks run as are desired, the current deployment is neither in progress nor failed, and
    /// none of its tasks failed within this time. Tasks of a deployment that was replaced do not count.
    pub fn has_recovered(&self, within: std::time::Duration) -> bool {
        let is_quiet = self.current.last_failure.is_none_or(|at| OffsetDateTime::now_utc() - at > within);
        let is_settled = !matches!(self.current.rollout, Some(Rollout::InProgress | Rollout::Failed));
        is_quiet && is_settled && self.state.running >= self.state.desired
    }
}

/// The deployment that a service has now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Current {
    /// Its task definition: `checkout:89`.
    pub task_definition: Option<String>,
    /// Its progress; `None` if ECS did not say.
    pub rollout: Option<Rollout>,
    /// When one of its tasks last failed to start, or stopped although it should not have.
    pub last_failure: Option<OffsetDateTime>,
}

/// One task that stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// The task's id.
    pub task: String,
    /// When it stopped.
    pub at: OffsetDateTime,
    /// The exit code of its container.
    pub exit_code: Option<i64>,
}

/// Stopped tasks with the same cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CauseCount {
    /// Why the latest of them stopped.
    pub cause: Cause,
    /// The exit code of their containers, if the cause is about an exit code.
    pub exit_code: Option<i64>,
    /// How many tasks there are; 0 if the cause comes from an event of the service.
    pub count: usize,
    /// ECS's reason for the latest stop.
    pub example: Option<String>,
}

/// The task definition of the failing deployment, and how it differs from the previous one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The task definition of the failing deployment: `checkout:88`.
    pub now: String,
    /// The task definition of the deployment before it, or of the one that replaced it; `None` if ECS knows neither.
    pub before: Option<String>,
    /// When the failing deployment was created.
    pub deployed: Option<OffsetDateTime>,
    /// Who registered its task definition: the name of a user or of a role's session.
    pub registered_by: Option<String>,
    /// What differs, as (what, how): ("memory", "512 → 256"). `None` if the two could not be compared.
    pub differences: Option<Vec<(String, String)>>,
}

/// How many tasks of a service run, and the progress of its failing deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// How many tasks run.
    pub running: i64,
    /// How many should run.
    pub desired: i64,
    /// How many are starting.
    pub pending: i64,
    /// How many tasks of the failing deployment failed.
    pub failed: i64,
    /// The progress of that deployment; `None` if ECS did not say.
    pub rollout: Option<Rollout>,
    /// What ECS will do about that deployment; `None` if ECS has nothing more to do, or another controller deploys the service.
    pub outlook: Option<Outlook>,
    /// ECS's record of that deployment, if it was requested.
    pub deployment: Option<ServiceDeployment>,
    /// The failing task set, if another controller deploys the service.
    pub task_set: Option<TaskSet>,
}

/// The progress of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rollout {
    /// It is in progress.
    InProgress,
    /// It reached a steady state.
    Completed,
    /// It failed.
    Failed,
    /// It failed, and ECS has replaced it by the previous deployment or is doing so.
    RolledBack,
    /// Another deployment replaced it.
    Replaced,
}

#[cfg(test)]
mod tests;
