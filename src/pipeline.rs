//! How one message is handled, from its body to its outcome: read [`Pipeline::handle`] from top to bottom.
//!
//! The calls that it awaits handle Slack's rate limit, storms, retries, duplicates and incidents. Only the returned value decides
//! about the message: `Ok` deletes it, and nothing else does.

use std::{mem::take, sync::Arc, time::Duration};

use futures_util::future::join_all;
use time::OffsetDateTime;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::{
    alert::{Alert, Phase, Severity},
    canary::Canaries,
    diagnose::Diagnoser,
    event::{Event, Identity, Undecodable},
    metrics::{self, MessageOutcome},
    reporter::{self, AlertToReport, NotReported, Reported, Reporter},
    route::{ChannelId, RouteDecision, Router, mute::Mute},
    sqs::Message,
};

/// Why a message may be deleted. A message with several events or channels has the greatest of their outcomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It is a canary, which only shows that events arrive.
    Canary,
    /// No route takes it.
    Unrouted,
    /// A mute suppresses it.
    Muted,
    /// A copy of it was reported before.
    Duplicate,
    /// It repeats an incident that Slack has, and the incident has counted it.
    Folded,
    /// Slack accepted the post or the edit that carries it.
    Posted,
}

/// Why a message must stay in the queue.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It cannot be decoded. The queue's redrive policy moves it.
    #[error(transparent)]
    Undecodable(#[from] Undecodable),
    /// It must be retried later.
    #[error("channel {name}: {error}")]
    Deferred {
        /// The channel that did not accept it.
        channel: ChannelId,
        /// The channel's name.
        name: String,
        /// The reason.
        error: NotReported,
    },
}

impl Failure {
    /// When to retry, if that does not depend on the number of receives.
    pub fn retry_in(&self) -> Option<Duration> {
        match self {
            Self::Deferred { error: NotReported::Unconfirmed { again_in }, .. } => Some(*again_in),
            Self::Deferred { error: NotReported::Busy, .. } => Some(Duration::from_secs(5)),
            Self::Deferred { error: NotReported::NotPosted(_), .. } | Self::Undecodable(_) => None,
        }
    }
}

/// Turns messages into reports.
#[derive(Debug)]
pub struct Pipeline {
    router: Router,
    diagnoser: Option<Diagnoser>,
    reporter: Arc<Reporter>,
    canaries: Arc<Canaries>,
}

impl Pipeline {
    /// A pipeline that has handled nothing. Without a diagnoser, alerts show only what their events contain.
    pub fn new(router: Router, diagnoser: Option<Diagnoser>, reporter: Arc<Reporter>) -> Self {
        Self { router, diagnoser, reporter, canaries: Arc::default() }
    }

    /// The canaries that it has received.
    pub fn canaries(&self) -> Arc<Canaries> {
        Arc::clone(&self.canaries)
    }

    /// Handles the message; no request to Slack begins after `start_by`. The body, of up to a megabyte, is dropped after decoding:
    /// only the alerts wait for Slack.
    ///
    /// # Errors
    /// When the message must stay in the queue.
    pub async fn handle(&self, message: &mut Message, start_by: Instant) -> Result<Outcome, Failure> {
        let result = self.handle_events(message, start_by).await;
        metrics::message(MessageOutcome::from(&result));
        result
    }

    /// Logs the outcome of each event. [`Pipeline::handle`] counts the outcome of the message.
    async fn handle_events(&self, message: &mut Message, start_by: Instant) -> Result<Outcome, Failure> {
        let events = Event::decode(&take(&mut message.body)).inspect_err(|undecodable| {
            warn!(
                message_id = message.id,
                outcome = MessageOutcome::Undecodable.as_str(),
                receive_count = message.receive_count,
                "{undecodable}"
            );
        })?;
        let message = &*message;
        let events = events.into_iter().enumerate().map(async |(index, event)| {
            if event.is_canary() {
                return Ok(self.record_canary(message));
            }
            let identity = event.identity(&message.id, index);
            self.report(message, identity, event, start_by).await
        });
        Outcome::of_all(join_all(events).await)
    }

    /// Reports an event's alert to every channel whose route takes it, and to every channel with an open incident that it concerns.
    async fn report(
        &self,
        message: &Message,
        identity: Identity,
        event: Event,
        start_by: Instant,
    ) -> Result<Outcome, Failure> {
        let is_reported = |alert: &Alert, channels: &[ChannelId]| {
            channels.iter().all(|&channel| self.reporter.was_reported(alert, identity, channel))
        };
        // The futures of requests are boxed: each message in flight would otherwise take their memory, with or without requests.
        let diagnosed = async |alert: Arc<Alert>, wanted: Wanted| match &self.diagnoser {
            Some(diagnoser) if !is_reported(&alert, &wanted.channels) => match alert.severity {
                Severity::Warning | Severity::Critical => Box::pin(diagnoser.diagnose(&alert)).await,
                Severity::Info if wanted.by_tags => Box::pin(diagnoser.tag(&alert)).await,
                Severity::Info => alert,
            },
            _ => alert,
        };
        let (mut alert, decision) = alert(event, &self.router, diagnosed).await;
        let recipients = decision.recipients();
        // A mute suppresses problems. The recovery of an incident that was reported before is still reported.
        let with_incident = match decision.mute() {
            Some(_) if alert.phase() != Phase::Recovery => Vec::new(),
            _ => self.reporter.channels_with_open_incident(&alert, identity).await,
        };
        let mut confirmed = None;
        if alert.phase() == Phase::Recovery
            && !is_reported(&alert, &with_incident)
            && let Some(diagnoser) = &self.diagnoser
        {
            (alert, confirmed) = Box::pin(diagnoser.confirm_recovery(alert)).await;
        }
        let mut channels: Vec<ChannelId> = recipients.iter().map(|recipient| recipient.channel).collect();
        channels.extend(
            with_incident
                .into_iter()
                .filter(|channel| recipients.iter().all(|recipient| recipient.channel != *channel)),
        );
        let to_report = AlertToReport { alert, identity, confirmed, start_by };
        let alert = &to_report.alert;
        let reports = channels.iter().map(async |&channel| {
            let recipient = recipients.iter().find(|recipient| recipient.channel == channel);
            let reported = self.reporter.report(&to_report, channel, recipient).await;
            let name = self.reporter.name(channel);
            let reported = reported.map_err(|error| Failure::Deferred { channel, name: name.to_owned(), error })?;
            if reported == Reported::Posted {
                metrics::alert(name, alert.severity.as_str());
                if let (Some(time), 1) = (alert.time, message.receive_count) {
                    metrics::alert_delay(name, reporter::delay(time));
                }
            }
            Ok(Outcome::from(reported))
        });
        let not_routed = if decision.mute().is_some() { Outcome::Muted } else { Outcome::Unrouted };
        let result = Outcome::of_all(join_all(reports).await).map(|outcome| outcome.max(not_routed));
        if matches!(result, Ok(Outcome::Unrouted)) && alert.severity >= Severity::Warning {
            metrics::unrouted_problem(alert.severity.as_str());
        }
        let mute = decision.mute().filter(|_| matches!(result, Ok(Outcome::Muted)));
        self.log(message, alert, &channels, &result, mute);
        result
    }

    fn record_canary(&self, message: &Message) -> Outcome {
        self.canaries.saw(message.sent);
        let outcome = MessageOutcome::Canary.as_str();
        info!(message_id = message.id, outcome, receive_count = message.receive_count, "settled");
        Outcome::Canary
    }

    fn log(
        &self,
        message: &Message,
        alert: &Alert,
        channels: &[ChannelId],
        result: &Result<Outcome, Failure>,
        mute: Option<&Mute>,
    ) {
        let outcome = MessageOutcome::from(result).as_str();
        let channels = channels.iter().map(|&channel| self.reporter.name(channel)).collect::<Vec<_>>().join(",");
        info!(
            event_id = alert.event_id.as_deref().unwrap_or_default(),
            kind = alert.kind,
            service = alert.subject,
            severity = alert.severity.as_str(),
            outcome,
            channel = channels,
            receive_count = message.receive_count,
            reason = mute.map(|mute| mute.reason.as_str()),
            error = result.as_ref().err().map(tracing::field::display),
            "settled"
        );
    }
}

/// Which channels may get an alert, before ECS is asked.
#[derive(Debug)]
pub struct Wanted {
    /// The channels that may get it.
    pub channels: Vec<ChannelId>,
    /// Whether the tags of its service decide which of them get it.
    pub by_tags: bool,
}

/// An event's alert and its destination. The alert is `diagnosed` if any channel may get it: the diagnosis may show that it is
/// routine, and the service's tags may decide its destination.
pub async fn alert(
    event: Event,
    router: &Router,
    diagnosed: impl AsyncFnOnce(Arc<Alert>, Wanted) -> Arc<Alert>,
) -> (Arc<Alert>, RouteDecision) {
    let mut alert = Arc::new(Alert::from_event(&event));
    let routes = router.route(event.value(), alert.time.unwrap_or_else(OffsetDateTime::now_utc));
    drop(event);
    let channels = routes.channels(alert.severity);
    if !channels.is_empty() {
        let by_tags = routes.depend_on_tags(alert.severity);
        alert = diagnosed(alert, Wanted { channels, by_tags }).await;
    }
    let decision = routes.with_tags(alert.tags.as_ref()).decide(alert.severity);
    (alert, decision)
}

impl Outcome {
    /// The outcome of all channels of an event, or of all events of a message: an `Ok` only if each is `Ok`.
    fn of_all(all: Vec<Result<Self, Failure>>) -> Result<Self, Failure> {
        all.into_iter().reduce(|outcome, one| Ok(outcome?.max(one?))).unwrap_or(Ok(Self::Unrouted))
    }
}

impl From<Reported> for Outcome {
    fn from(reported: Reported) -> Self {
        match reported {
            Reported::Posted => Self::Posted,
            Reported::Folded => Self::Folded,
            Reported::Duplicate => Self::Duplicate,
            Reported::Unwanted => Self::Unrouted,
        }
    }
}

impl From<&Result<Outcome, Failure>> for MessageOutcome {
    fn from(result: &Result<Outcome, Failure>) -> Self {
        match result {
            Ok(Outcome::Posted) => Self::Posted,
            Ok(Outcome::Folded) => Self::Folded,
            Ok(Outcome::Duplicate) => Self::Duplicate,
            Ok(Outcome::Unrouted) => Self::Unrouted,
            Ok(Outcome::Muted) => Self::Muted,
            Ok(Outcome::Canary) => Self::Canary,
            Err(Failure::Undecodable(_)) => Self::Undecodable,
            Err(Failure::Deferred { .. }) => Self::Deferred,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_the_greatest_outcome_of_its_events() {
        use Outcome::{Duplicate, Folded, Muted, Posted, Unrouted};
        for (events, expected) in [
            (vec![], Unrouted),
            (vec![Unrouted, Muted], Muted),
            (vec![Duplicate, Muted, Unrouted], Duplicate),
            (vec![Muted, Folded], Folded),
            (vec![Posted, Muted], Posted),
        ] {
            let outcome = Outcome::of_all(events.iter().copied().map(Ok).collect());
            assert!(matches!(outcome, Ok(outcome) if outcome == expected), "{events:?}: {outcome:?}");
        }
    }
}
