//! What a log asks Slack to show, Slack's answers, and the outcomes of alerts.

use std::{fmt, sync::Arc};

use crate::incident::{Incident, Root, Transition};

/// What Slack should show.
#[derive(Debug, Clone)]
pub struct Notice {
    /// The alert's transition.
    pub transition: Transition,
    /// Whether the message carries the channel's `mention`.
    pub mentions: bool,
    /// The incident with this alert. The message replies to its root or edits it; without a root the message becomes the root. An
    /// opened incident may already have recovered: then the alert arrived after the recovery.
    pub incident: Arc<Incident>,
}

/// What Slack accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    /// A message, and the incident's root: the message itself, or the one that it replies to.
    Posted(Root),
    /// An edit of the root, which shows the alert.
    Edited,
    /// Nothing was sent to Slack, for example a repeat by webhook. Not for a notice that must be reported.
    Nothing,
}

/// Why Slack did not accept it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal<E> {
    /// The root no longer exists in Slack (`message_not_found`): the incident is opened again.
    RootGone {
        /// Its thread took a reply before that, which carried the mention if there was one.
        replied: bool,
    },
    /// Anything else.
    Failed(E),
}

/// The outcome of an alert in one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Slack accepted a message that carries it.
    Reported(Transition),
    /// Slack accepted an edit that carries it.
    Edited,
    /// Slack has the incident, and the incident has counted the alert.
    Folded,
    /// Slack has the incident, and the incident has already counted a copy of the alert.
    Duplicate,
    /// It is an unconfirmed recovery: the message must be put back for the crash-loop window.
    Unconfirmed,
    /// It concerns no incident.
    NoIncident,
}

/// Why the message must stay in the queue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure<E: fmt::Display> {
    /// Slack did not accept it.
    #[error("{0}")]
    Post(E),
    /// Slack did not accept another alert of the same incident, for which this one waited.
    #[error("another alert of this incident was not posted: {0}")]
    Joined(Arc<str>),
    /// Another alert or replica is reporting the incident: put the message back for a few seconds.
    #[error("the incident is being reported by another alert or replica")]
    Busy,
}
