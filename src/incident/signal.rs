//! What a decision depends on, besides the incident: what an alert means to it, and the settings.

use std::time::Duration;

use time::OffsetDateTime;

use super::Id;
use crate::alert::{Rollout, Severity};

/// What an alert means to an incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    /// The event's id; copies of one event share it.
    pub id: Id,
    /// When it happened, as exactly as the event says it.
    pub time: OffsetDateTime,
    /// How much it matters.
    pub severity: Severity,
    /// The category of the cause, where it is known.
    pub cause: Option<&'static str>,
    /// Whether it is trouble or its end.
    pub kind: Kind,
    /// The deployment that it is about, by its id, and what became of it.
    pub deployment: Option<(Id, Rollout)>,
    /// The task that failed, by its ARN or id.
    pub failed_task: Option<Id>,
    /// The time of the latest recovery of the same subject that was seen while this channel had no open incident. The log
    /// sets it.
    pub well_since: Option<OffsetDateTime>,
}

/// Whether an alert is trouble or its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Something is wrong. With [`Severity::Info`] it is counted by an open incident, but opens none: a start that may heal by
    /// itself.
    Problem,
    /// ECS or CloudWatch says that all is well.
    Recovery {
        /// Whether it is true; none where nobody can be asked.
        confirmed: Option<bool>,
    },
    /// Nothing that concerns an incident: an event that a pattern asks for.
    Other,
}

/// The settings that a decision depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// An open incident is reported again after this time at the earliest (`incidents.remind_after`).
    pub remind_after: Duration,
    /// Trouble so soon after a recovery is the same incident (`incidents.reopen_within`).
    pub reopen_within: Duration,
    /// A recovery that nobody can confirm counts when no task has failed for so long.
    pub quiet_for: Duration,
    /// The least severity that mentions somebody (`mention_from`); none if the channel has no `mention`.
    pub mention_from: Option<Severity>,
}
