//! What is reported to a channel: an alert, and the state of its incident.

use std::{sync::Arc, time::Duration};

use time::OffsetDateTime;

use crate::{
    alert::{Alert, Phase, Severity},
    cause::Category,
    route::mention::Mention,
};

/// One report for a channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The latest alert.
    pub alert: Arc<Alert>,
    /// The alert's incident. `None` if the alert is a separate message.
    pub incident: Option<IncidentSummary>,
    /// Whom to notify, in Slack's markup: from the configuration, never from an event.
    pub mention: Option<String>,
}

impl Report {
    /// An alert as a separate message.
    pub fn of(alert: Arc<Alert>) -> Self {
        Self { alert, incident: None, mention: None }
    }

    /// The same report with a mention, if its alert is a problem and severe enough.
    pub fn mentioning(self, mention: Option<&Mention>) -> Self {
        let is_problem = self.alert.severity >= Severity::Warning && self.alert.phase() != Phase::Recovery;
        let mention = mention.filter(|mention| is_problem && self.alert.severity >= mention.from);
        Self { mention: mention.map(|mention| mention.whom.clone()), ..self }
    }

    /// Whether it reports the recovery of an incident.
    pub fn is_recovery(&self) -> bool {
        self.incident.as_ref().is_some_and(|incident| incident.status == IncidentStatus::Recovered)
    }
}

/// What a message shows of an incident.
#[derive(Debug, Clone, PartialEq)]
pub struct IncidentSummary {
    /// Its status.
    pub status: IncidentStatus,
    /// The time of its first event.
    pub since: OffsetDateTime,
    /// The time of its latest event.
    pub last: OffsetDateTime,
    /// The number of its events.
    pub events: u64,
    /// The number of failed tasks that its events name.
    pub failed_tasks: u64,
    /// The reported causes, in order.
    pub causes: Vec<Category>,
}

impl IncidentSummary {
    /// The time between its first and its latest event.
    pub fn duration(&self) -> Duration {
        Duration::try_from(self.last - self.since).unwrap_or_default()
    }
}

/// The status of an incident, as a message shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IncidentStatus {
    /// The message opens it.
    Opened,
    /// It is still open.
    Ongoing,
    /// It is still open, and `remind_after` has passed since the last report.
    Reminder,
    /// It reopened soon after its recovery.
    Reopened,
    /// It has recovered.
    Recovered,
}
