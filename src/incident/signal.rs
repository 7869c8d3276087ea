//! The input of a decision, apart from the incident: the alert as a signal, and the settings.

use std::time::Duration;

use time::OffsetDateTime;

use super::Id;
use crate::alert::{Rollout, Severity};

/// The facts about an alert that a decision depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    /// The event's id, which all copies of the event share.
    pub id: Id,
    /// The event's time.
    pub time: OffsetDateTime,
    /// The alert's severity.
    pub severity: Severity,
    /// The category of the cause, if known.
    pub cause: Option<&'static str>,
    /// Whether it is a problem or a recovery.
    pub kind: Kind,
    /// The deployment that it is about, and the deployment's state.
    pub deployment: Option<(Id, Rollout)>,
    /// The failed task, by its ARN or id.
    pub failed_task: Option<Id>,
    /// The time of the latest recovery of the same subject that was noted while this channel had no open incident. The log sets
    /// it.
    pub noted_recovery: Option<OffsetDateTime>,
}

/// Whether an alert is a problem or a recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A problem. With [`Severity::Info`], an open incident counts it, but it opens none: a failed start that may recover by
    /// itself.
    Problem,
    /// ECS or CloudWatch reports a healthy state.
    Recovery {
        /// Whether ECS confirmed it. `None` if ECS cannot be asked.
        confirmed: Option<bool>,
    },
    /// Neither: an event that only a route's pattern takes.
    Other,
}

/// The settings that a decision depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// An open incident is reported again after this time at the earliest (`incidents.remind_after`).
    pub remind_after: Duration,
    /// A problem within this time after a recovery reopens the incident (`incidents.reopen_within`).
    pub reopen_within: Duration,
    /// A recovery that cannot be confirmed counts if no task has failed for this time.
    pub quiet_for: Duration,
    /// The least severity that mentions people (`mention_from`); `None` if the channel has no `mention`.
    pub mention_from: Option<Severity>,
}
