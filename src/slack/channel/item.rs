//! What a caller submits to a channel's flusher, and the result: where Slack shows the report, or why it was not posted.

use tokio::time::Instant;

use crate::{
    route::ChannelId,
    slack::{
        answer::{MessageRef, SlackAnswer},
        report::Report,
    },
};

/// A report on its way to Slack.
#[derive(Debug)]
pub struct Item {
    /// The channel.
    pub channel: ChannelId,
    /// The content.
    pub report: Report,
    /// Where in the channel.
    pub to: Destination,
    /// The last instant at which a request with it may begin.
    pub start_by: Instant,
}

/// Where a report is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// As a message of the channel.
    Channel,
    /// As a reply in the thread of this message.
    Thread {
        /// That message.
        root: MessageRef,
        /// Whether the reply is shown in the channel too.
        broadcast: bool,
    },
    /// As the new content of this message.
    Edit(MessageRef),
}

impl Item {
    /// Whether one request can carry both: messages of one channel, or replies in one thread, but not a recovery together with
    /// a problem; or edits of one message.
    pub(super) fn can_share_request_with(&self, other: &Self) -> bool {
        let same_kind = self.report.is_recovery() == other.report.is_recovery();
        self.to == other.to && (same_kind || matches!(self.to, Destination::Edit(_)))
    }
}

/// Where Slack shows an accepted report. `None` for a webhook, whose answer does not say.
pub type Place = Option<Posted>;

/// A message that can be replied to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posted {
    /// Its channel and `ts`.
    pub message: MessageRef,
    /// Whether it carries several reports. Such a message must not be edited for one of them.
    pub is_shared: bool,
}

/// Why a report was not posted. A retry may succeed for each of them.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PostError {
    /// Slack did not accept it in time.
    #[error("not posted in time; Slack {}", .0.as_ref().map_or("was not asked".into(), ToString::to_string))]
    OutOfTime(Option<SlackAnswer>),
    /// Slack refuses it even as plain text.
    #[error("Slack {0}, even as plain text")]
    Refused(SlackAnswer),
    /// Slack refuses the channel, and the channel has a fallback.
    #[error("Slack {0}")]
    TargetRefused(SlackAnswer),
    /// The message that it replies to or edits is gone from Slack.
    #[error("the message that it belongs to is gone from Slack")]
    Gone,
    /// The channel is blocked and holds its share of the messages in flight.
    #[error("the channel is blocked and holds as many alerts as it may")]
    Full,
    /// The channel's flusher has ended.
    #[error("the channel has stopped")]
    Stopped,
}

/// Whether a channel can take a post.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelState {
    /// It can, as far as is known.
    Open,
    /// Slack rate-limits it, or is down.
    Blocked {
        /// When the next attempt is due.
        until: Instant,
    },
    /// Slack refuses it, and its fallback takes its alerts.
    Refused {
        /// When the next alert is tried in this channel first.
        until: Instant,
        /// Slack's answer.
        answer: SlackAnswer,
    },
}
