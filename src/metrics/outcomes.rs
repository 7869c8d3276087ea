//! The outcomes that metrics count: the label values of `outcome`, and in logs the values of the same field.

/// The outcome of a message; the label of `messages_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageOutcome {
    /// Slack accepted the post or the edit that carries it.
    Posted,
    /// It repeats an incident that Slack has.
    Folded,
    /// A copy of it was reported before.
    Duplicate,
    /// No route takes it.
    Unrouted,
    /// A mute matches it.
    Muted,
    /// It was put back for a retry.
    Deferred,
    /// It cannot be decoded; the redrive policy moves it to the dead-letter queue.
    Undecodable,
    /// It is a canary, which shows that events arrive.
    Canary,
}

impl MessageOutcome {
    pub(super) const ALL: [Self; 8] = [
        Self::Posted,
        Self::Folded,
        Self::Duplicate,
        Self::Unrouted,
        Self::Muted,
        Self::Deferred,
        Self::Undecodable,
        Self::Canary,
    ];

    /// The label value, also used in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Posted => "posted",
            Self::Folded => "folded",
            Self::Duplicate => "duplicate",
            Self::Unrouted => "unrouted",
            Self::Muted => "muted",
            Self::Deferred => "deferred",
            Self::Undecodable => "undecodable",
            Self::Canary => "canary",
        }
    }
}

/// The outcome of one request to Slack; the label of `slack_requests_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlackOutcome {
    /// Slack accepted it.
    Ok,
    /// Slack rate-limited the request.
    RateLimited,
    /// Slack, or a server on the way to it, failed.
    ServerError,
    /// There was no answer in time.
    NetworkError,
    /// Slack refuses the message, or its webhook, token or channel.
    Refused,
}

impl SlackOutcome {
    pub(super) const ALL: [Self; 5] =
        [Self::Ok, Self::RateLimited, Self::ServerError, Self::NetworkError, Self::Refused];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::RateLimited => "rate_limited",
            Self::ServerError => "server_error",
            Self::NetworkError => "network_error",
            Self::Refused => "refused",
        }
    }
}

/// The outcome of one heartbeat; the label of `heartbeats_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeartbeatOutcome {
    /// The service that watches the worker accepted it.
    Ok,
    /// It could not be sent, or was refused.
    Error,
    /// It was not sent, because the worker does not work.
    Withheld,
}

impl HeartbeatOutcome {
    pub(super) const ALL: [Self; 3] = [Self::Ok, Self::Error, Self::Withheld];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Withheld => "withheld",
        }
    }
}

/// The outcome of asking ECS about an alert's service; the label of `diagnoses_total` and, without `partial`, of `service_tags_total`. With
/// any outcome but `ok` and `partial`, the alert is posted without a diagnosis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiagnosisOutcome {
    /// ECS answered everything.
    Ok,
    /// ECS answered about the service and its tasks, but not about their deployments or task definitions.
    Partial,
    /// ECS does not know the service.
    Unknown,
    /// The role may not ask.
    Denied,
    /// ECS throttled the request.
    Throttled,
    /// No answer in time.
    Timeout,
    /// Any other failure.
    Error,
    /// ECS was not asked: too many questions were asked recently, or the worker is stopping.
    Skipped,
}

impl DiagnosisOutcome {
    pub(super) const ALL: [Self; 8] = [
        Self::Ok,
        Self::Partial,
        Self::Unknown,
        Self::Denied,
        Self::Throttled,
        Self::Timeout,
        Self::Error,
        Self::Skipped,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Partial => "partial",
            Self::Unknown => "unknown",
            Self::Denied => "denied",
            Self::Throttled => "throttled",
            Self::Timeout => "timeout",
            Self::Error => "error",
            Self::Skipped => "skipped",
        }
    }
}
