//! The stopped tasks of a service, and why they stopped.

use std::cmp::Reverse;
use std::collections::HashMap;

use serde_json::Value;
use time::OffsetDateTime;

use super::answers::time;
use super::{CauseCount, Stop};
use crate::cause::{self, Category, Cause};
use crate::event::{ecs::Task, text};

/// A task that stopped although it should not have.
pub(super) struct StoppedTask<'a> {
    pub(super) task: Task<'a>,
    /// The ARN of its task definition.
    pub(super) task_definition: Option<&'a str>,
    pub(super) at: Option<OffsetDateTime>,
    /// Whether any of its containers ran.
    pub(super) ran: bool,
    pub(super) cause: Cause,
    /// The name of the container that the cause is about.
    pub(super) container: Option<&'a str>,
    /// The exit code of that container.
    pub(super) exit_code: Option<i64>,
}

impl<'a> StoppedTask<'a> {
    /// `None` for a task that still runs, or whose stop was routine.
    pub(super) fn read(value: &'a Value) -> Option<Self> {
        let task = Task::read(value);
        if task.last_status != Some("STOPPED") {
            return None;
        }
        let explained = cause::explain(&task);
        // A reason that the catalogue does not know is quoted.
        let unknown = || task.reasons().map(|_| Cause { category: Category::Unknown, hint: String::new() });
        let cause = explained.cause.or_else(unknown)?;
        // A service's task should not end by itself, not even with exit code 0.
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

    /// Whether the task started before it stopped.
    pub(super) fn started(&self) -> bool {
        self.ran && self.task.stop_code != Some("TaskFailedToStart")
    }

    /// The stop, if it counts towards a crash loop. `None` if the task stopped because its host was lost or reclaimed.
    pub(super) fn stop(&self) -> Option<Stop> {
        let lost_its_host = matches!(self.cause.category, Category::Spot | Category::HostGone);
        let task = self.task.arn?.name()?.to_owned();
        (!lost_its_host).then_some(Stop { task, at: self.at?, exit_code: self.exit_code })
    }

    /// Stopped tasks with the same key are counted together. The key is the category and, if that is about an exit code, the code.
    pub(super) fn key(&self) -> (Category, Option<i64>) {
        let is_about_exit_code = matches!(
            self.cause.category,
            Category::Completed | Category::Crash | Category::Sigkill | Category::Sigterm | Category::StartCommand
        );
        (self.cause.category, self.exit_code.filter(|_| is_about_exit_code))
    }
}

/// Counts stopped tasks by cause: the most frequent cause first, and among equally frequent ones that of the latest task.
pub(super) fn count_causes(stopped: &[StoppedTask]) -> Vec<CauseCount> {
    let mut places = HashMap::new();
    let mut counts: Vec<CauseCount> = Vec::new();
    for stopped in stopped {
        let place = *places.entry(stopped.key()).or_insert(counts.len());
        match counts.get_mut(place) {
            Some(counted) => counted.count += 1,
            None => counts.push(CauseCount {
                cause: stopped.cause.clone(),
                exit_code: stopped.key().1,
                count: 1,
                example: stopped.task.reasons(),
            }),
        }
    }
    counts.sort_by_key(|counted| Reverse(counted.count));
    counts
}
