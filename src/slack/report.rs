//! What a channel is told: an alert, and what it means to the incident that it belongs to.

use std::{sync::Arc, time::Duration};

use time::OffsetDateTime;

use crate::{
    alert::{Alert, Phase, Severity},
    cause::Category,
    route::mention::Mention,
};

/// One thing to say in a channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// What happened last.
    pub alert: Arc<Alert>,
    /// The incident that it belongs to; none where an alert is a message of its own.
    pub story: Option<Story>,
    /// Who is to be notified, in Slack's markup: from the configuration, never from an event.
    pub mention: Option<String>,
}

impl Report {
    /// An alert as a message of its own.
    pub fn of(alert: Arc<Alert>) -> Self {
        Self { alert, story: None, mention: None }
    }

    /// The same, which notifies these people if it is of a problem that is severe enough: a message of its own opens what it is
    /// about.
    pub fn mentioning(self, mention: Option<&Mention>) -> Self {
        let is_problem = self.alert.severity >= Severity::Warning && self.alert.phase() != Phase::Recovery;
        let mention = mention.filter(|mention| is_problem && self.alert.severity >= mention.from);
        Self { mention: mention.map(|mention| mention.whom.clone()), ..self }
    }

    /// Whether it says that an incident is over.
    pub fn is_recovery(&self) -> bool {
        self.story.as_ref().is_some_and(|story| story.state == State::Recovered)
    }
}

/// An incident so far, as people are told of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Story {
    /// How it stands.
    pub state: State,
    /// When its first event happened.
    pub since: OffsetDateTime,
    /// When its latest event happened.
    pub last: OffsetDateTime,
    /// How many events it has had.
    pub events: u64,
    /// How many tasks failed, as far as events told.
    pub failed_tasks: u64,
    /// The causes reported, in their order.
    pub causes: Vec<Category>,
}

impl Story {
    /// From its first event to its latest.
    pub fn duration(&self) -> Duration {
        Duration::try_from(self.last - self.since).unwrap_or_default()
    }
}

/// How an incident stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// This is its first message.
    Opened,
    /// It goes on.
    Ongoing,
    /// It goes on, and nothing new has been reported for long.
    Reminder,
    /// It came back soon after its recovery.
    Reopened,
    /// It is over.
    Recovered,
}
