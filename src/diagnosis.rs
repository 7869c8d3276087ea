//! What ECS itself knows of a service in trouble: why its tasks stop, what changed, how bad it is. Pure.
//!
//! It is told from the answers of ECS's API in their own JSON shapes ([`answers`]), so that a recorded answer and a live one
//! are the same thing. Of a container's environment and secrets only names get out of here, never values; of a command only
//! that it changed.

pub mod answers;
mod changes;
mod deployment;
mod details;
mod events;
mod tags;
mod targets;

use time::OffsetDateTime;

pub use self::deployment::{Controller, Outlook, ServiceDeployment, Status, TaskSet};
pub use self::details::Details;
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
    /// Its own name.
    pub name: String,
}

impl Service {
    /// By which it is asked for: a name alone would be taken for one in whatever account asks.
    pub fn cluster_arn(&self) -> String {
        let Self { partition, region, account, cluster, .. } = self;
        format!("arn:{partition}:ecs:{region}:{account}:cluster/{cluster}")
    }

    /// The console of its region; none for a region that cannot be one.
    pub fn console(&self) -> Option<Console<'_>> {
        Console::new(Some(&self.partition), &self.region)
    }
}

/// What is known of a service in trouble. As raw as an alert's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// Why its tasks stop, the most frequent cause first; empty when nothing is known.
    pub why: Vec<Trouble>,
    /// How many stopped tasks that was told from.
    pub stopped: usize,
    /// When tasks stopped that ran and should not have stopped, of the deployment in trouble.
    pub stops: Vec<Stop>,
    /// When tasks of that deployment failed to start.
    pub failed_starts: Vec<Stop>,
    /// Whether ECS told of its stopped tasks; if not, `stops` and `failed_starts` prove nothing.
    pub tasks_known: bool,
    /// ECS's latest event about what fails, as it is, where `why` does not hold it.
    pub said: Option<String>,
    /// The load balancer's health checks that failed, as far as it was asked.
    pub health_checks: Vec<HealthCheck>,
    /// What is deployed, and how it differs from what was before.
    pub change: Option<Change>,
    /// How bad it is.
    pub state: State,
    /// What the service has now, whatever was in trouble.
    pub current: Current,
    /// The console's page of the latest task that stopped for the first cause.
    pub task_url: Option<String>,
    /// The console's page of that task's log, or of the latest such task that has one.
    pub log_url: Option<String>,
    /// The last lines that it logged, the oldest first.
    pub log: Vec<String>,
}

impl Diagnosis {
    /// Whether all is well now: as many tasks run as should, the current deployment is neither under way nor failed, and no task of
    /// it has died within this time. Tasks of a deployment that another has replaced say nothing about the one that runs.
    pub fn is_well(&self, within: std::time::Duration) -> bool {
        let is_quiet = self.current.died.is_none_or(|at| OffsetDateTime::now_utc() - at > within);
        let is_settled = !matches!(self.current.rollout, Some(Rollout::InProgress | Rollout::Failed));
        is_quiet && is_settled && self.state.running >= self.state.desired
    }
}

/// The deployment that a service has now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Current {
    /// Its task definition: `checkout:89`.
    pub task_definition: Option<String>,
    /// How it stands; none where ECS did not say.
    pub rollout: Option<Rollout>,
    /// When a task of it last died or failed to start.
    pub died: Option<OffsetDateTime>,
}

/// The end of one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// The task's id.
    pub task: String,
    /// When it was.
    pub at: OffsetDateTime,
    /// With which code its container exited.
    pub exit_code: Option<i64>,
}

/// Stopped tasks with the same cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Why the latest of them stopped.
    pub cause: Cause,
    /// With which code its container exited, where that is what is known.
    pub exit_code: Option<i64>,
    /// How many there are; 0 when it is not tasks that tell, but an event of the service.
    pub count: usize,
    /// What ECS says about the latest.
    pub example: Option<String>,
}

/// What is deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The task definition of the deployment in trouble: `checkout:88`.
    pub now: String,
    /// That of the deployment before it, or of the one that is in its place, as far as ECS still knows one.
    pub before: Option<String>,
    /// When the deployment in trouble was made.
    pub deployed: Option<OffsetDateTime>,
    /// The name of who registered its task definition: a user, or a role's session.
    pub registered_by: Option<String>,
    /// What differs, as (what, how): ("memory", "512 → 256"). None when the two could not be compared.
    pub differences: Option<Vec<(String, String)>>,
}

/// How a service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Tasks that run.
    pub running: i64,
    /// Tasks that should.
    pub desired: i64,
    /// Tasks on their way.
    pub pending: i64,
    /// Tasks of the deployment in trouble that failed.
    pub failed: i64,
    /// How that deployment stands; none where ECS did not say.
    pub rollout: Option<Rollout>,
    /// What ECS will do about it; none where nothing is left to do, or another controller decides.
    pub outlook: Option<Outlook>,
    /// ECS's own record of that deployment, where it was asked for.
    pub deployment: Option<ServiceDeployment>,
    /// The task set in trouble, where the controller is not ECS.
    pub task_set: Option<TaskSet>,
}

/// How a deployment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rollout {
    /// ECS is at it.
    InProgress,
    /// It was well once.
    Completed,
    /// ECS gave it up.
    Failed,
    /// ECS gave it up, and the service has gone back to what it had before.
    RolledBack,
    /// ECS has forgotten it, and another is deployed.
    Replaced,
}

#[cfg(test)]
mod tests;
