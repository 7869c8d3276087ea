//! Finds the deployment of a service that fails, the one before it, and the current one.

use serde_json::Value;
use time::OffsetDateTime;

use super::Rollout;
use super::answers::time;
use super::stopped::StoppedTask;
use crate::event::{list, text};

/// The deployments of one service that a diagnosis is about.
pub(super) struct Deployments<'a> {
    /// The one that fails. If none fails, the newest.
    pub(super) failing: Deployment<'a>,
    /// The one before the failing one, or the one that ECS rolled back to.
    pub(super) previous: Option<Deployment<'a>>,
    /// The one that the service has now.
    pub(super) current: Deployment<'a>,
}

/// A deployment, or a task set of a service that ECS does not deploy, as DescribeServices describes it.
#[derive(Clone, Copy, Default)]
pub(super) struct Deployment<'a> {
    pub(super) id: Option<&'a str>,
    pub(super) is_primary: bool,
    pub(super) is_task_set: bool,
    pub(super) task_definition: Option<&'a str>,
    pub(super) created: Option<OffsetDateTime>,
    pub(super) rollout: Option<Rollout>,
    /// How many of its tasks failed.
    pub(super) failed: i64,
}

impl<'a> Deployments<'a> {
    /// `stopped` are the stopped tasks of the service, the latest first.
    pub(super) fn of(described: &'a Value, stopped: &[StoppedTask<'a>]) -> Self {
        let sets = list(described, "taskSets").map(Deployment::read_task_set);
        let all: Vec<Deployment> = list(described, "deployments").map(Deployment::read).chain(sets).collect();
        let primary = all.iter().find(|deployment| deployment.is_primary).copied();
        let mut failing = failing(&all, primary, stopped);
        let previous = if failing.is_primary {
            let is_older = |other: &&Deployment| !other.is_primary && other.created <= failing.created;
            all.iter().filter(is_older).max_by_key(|deployment| deployment.created).copied()
        } else {
            // The primary deployment may have replaced one that failed. It may also be replacing one that works.
            match failing.rollout {
                Some(Rollout::Failed) => failing.rollout = Some(Rollout::RolledBack),
                None if failing.is_task_set && primary.is_some_and(|primary| primary.created < failing.created) => {
                    failing.rollout = Some(Rollout::InProgress);
                }
                None => failing.rollout = Some(Rollout::Replaced),
                _ => {}
            }
            let was_replaced = matches!(failing.rollout, Some(Rollout::RolledBack | Rollout::Replaced));
            primary.filter(|_| was_replaced || failing.is_task_set)
        };
        // A new task set is the current one even before it serves the traffic.
        let is_new_set = failing.is_task_set && failing.rollout == Some(Rollout::InProgress);
        let current = primary.filter(|_| !is_new_set).unwrap_or(failing);
        Self { failing, previous, current }
    }
}

/// The deployment that ECS reports as failed, else the one whose task stopped last, else the newest.
fn failing<'a>(all: &[Deployment<'a>], primary: Option<Deployment<'a>>, stopped: &[StoppedTask<'a>]) -> Deployment<'a> {
    let failed = all.iter().find(|deployment| deployment.rollout == Some(Rollout::Failed));
    let latest = || stopped.iter().find_map(|stopped| Some((stopped.task.started_by?, stopped.task_definition)));
    match (failed, latest()) {
        (Some(failed), _) => *failed,
        (None, Some((id, task_definition))) => {
            let known = all.iter().find(|deployment| deployment.id == Some(id)).copied();
            // ECS may remember the tasks of a deployment longer than the deployment.
            known.unwrap_or(Deployment {
                id: Some(id),
                task_definition,
                is_primary: primary.is_none(),
                ..Deployment::default()
            })
        }
        // A new task set becomes primary only when it serves the traffic.
        (None, None) => {
            let sets = all.iter().filter(|deployment| deployment.is_task_set);
            sets.max_by_key(|set| set.created).copied().or(primary).unwrap_or_default()
        }
    }
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

    /// A task set starts its tasks as a deployment does: their `startedBy` is its id.
    fn read_task_set(set: &'a Value) -> Self {
        Self { is_task_set: true, ..Self::read(set) }
    }

    /// Whether it started the task. A task without `startedBy` counts for every deployment.
    pub(super) fn started(&self, stopped: &StoppedTask) -> bool {
        stopped.task.started_by.is_none_or(|id| Some(id) == self.id)
    }
}
