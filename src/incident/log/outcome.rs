//! What a log asks of Slack, what Slack answers, and what becomes of the alert.

use std::{fmt, sync::Arc};

use crate::incident::{Incident, Root, Transition};

/// What Slack is to show.
#[derive(Debug, Clone)]
pub struct Notice {
    /// What the alert meant.
    pub transition: Transition,
    /// Whether the message carries the channel's `mention`.
    pub mentions: bool,
    /// The incident with this alert. Its root is where to reply, or what to edit; without one the message becomes the root. It may have
    /// recovered also when it is opened: the alert came after the recovery.
    pub incident: Arc<Incident>,
}

/// What Slack accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    /// A message. The incident's root is here: the message itself, or what it replies to.
    Posted(Root),
    /// An edit of the root, which shows the alert.
    Edited,
    /// Nothing was asked of Slack, as for a repeat by webhook. Not an answer to what must be reported.
    Nothing,
}

/// Why Slack did not accept it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal<E> {
    /// The root is gone from Slack (`message_not_found`): the incident is opened anew.
    RootGone {
        /// Its thread took a reply before that, which carried the mention if there was one.
        replied: bool,
    },
    /// Anything else.
    Failed(E),
}

/// What became of an alert in one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Slack accepted a message that carries it.
    Reported(Transition),
    /// Slack accepted an edit that carries it.
    Edited,
    /// It is counted by an incident that Slack has.
    Folded,
    /// A copy of it is in an incident that Slack has.
    Duplicate,
    /// A recovery that is not confirmed: the message is to be put back for the crash-loop window.
    Unconfirmed,
    /// It is not an incident's business.
    AsBefore,
}

/// Why the message must stay in the queue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure<E: fmt::Display> {
    /// Slack did not take it.
    #[error("{0}")]
    Post(E),
    /// Slack did not take another alert of the same incident, for which this one waited.
    #[error("another alert of this incident was not posted: {0}")]
    Joined(Arc<str>),
    /// The incident is being reported by another; put this back for a few seconds.
    #[error("the incident is being reported by another alert or replica")]
    Busy,
}
