//! The life of one message, from its body to its outcome, to be read top to bottom in [`Pipeline::handle`].
//!
//! Everything hard — Slack's rate, storms, retries, copies that come twice, ten events that are one incident — hides behind the
//! awaits. What is returned is all that decides about the message: `Ok` deletes it, and nothing else does.

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
    reporter::{self, Reporter, Said, Saying, Unsaid},
    route::{ChannelId, Destination, Router, mute::Mute},
    sqs::Message,
};

/// Why a message may be deleted. Of a message with several events or channels, the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It is a canary, which says that events arrive and nothing else.
    Canary,
    /// No route wants it.
    Unrouted,
    /// A mute holds it.
    Muted,
    /// A copy of it was reported before.
    Duplicate,
    /// It repeats an incident of which Slack has the message, and which has counted it.
    Folded,
    /// Slack accepted the post or the edit that carries it.
    Posted,
}

/// Why a message must stay in the queue.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It will never be understood; the redrive policy takes it.
    #[error(transparent)]
    Undecodable(#[from] Undecodable),
    /// It is to be tried again later.
    #[error("channel {name}: {error}")]
    Deferred {
        /// The channel that did not take it.
        channel: ChannelId,
        /// Its name.
        name: String,
        /// Why not.
        error: Unsaid,
    },
}

impl Failure {
    /// When to try again, where that does not depend on how often it was tried.
    pub fn again_in(&self) -> Option<Duration> {
        match self {
            Self::Deferred { error: Unsaid::Unconfirmed { again_in }, .. } => Some(*again_in),
            Self::Deferred { error: Unsaid::Busy, .. } => Some(Duration::from_secs(5)),
            Self::Deferred { error: Unsaid::NotPosted(_), .. } | Self::Undecodable(_) => None,
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
    /// A pipeline that has handled nothing yet. Without a diagnoser alerts say what their events do.
    pub fn new(router: Router, diagnoser: Option<Diagnoser>, reporter: Arc<Reporter>) -> Self {
        Self { router, diagnoser, reporter, canaries: Arc::default() }
    }

    /// The canaries that it has seen.
    pub fn canaries(&self) -> Arc<Canaries> {
        Arc::clone(&self.canaries)
    }

    /// Brings the message to its outcome; no post begins after `start_by`. Its body, of up to a megabyte, is dropped as soon as
    /// it is read: what waits for Slack is only the alerts.
    ///
    /// # Errors
    /// When the message must stay in the queue.
    pub async fn handle(&self, message: &mut Message, start_by: Instant) -> Result<Outcome, Failure> {
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
                return Ok(self.see_canary(message));
            }
            let identity = event.identity(&message.id, index);
            self.report(message, identity, event, start_by).await
        });
        Outcome::of_all(join_all(events).await)
    }

    /// Reports an event's alert to every channel that wants it, or has heard of the trouble that it is the end of.
    async fn report(
        &self,
        message: &Message,
        identity: Identity,
        event: Event,
        start_by: Instant,
    ) -> Result<Outcome, Failure> {
        let is_said = |alert: &Alert, channels: &[ChannelId]| {
            channels.iter().all(|&channel| self.reporter.has_said(alert, identity, channel))
        };
        let diagnosed = async |alert: Arc<Alert>, wanted: Wanted| match &self.diagnoser {
            Some(diagnoser) if !is_said(&alert, &wanted.channels) => match alert.severity {
                Severity::Warning | Severity::Critical => diagnoser.diagnose(&alert).await,
                Severity::Info if wanted.by_tags => diagnoser.tag(&alert).await,
                Severity::Info => alert,
            },
            _ => alert,
        };
        let (mut alert, destination) = alert(event, &self.router, diagnosed).await;
        let asked = destination.recipients();
        // A mute holds problems. The end of what was reported before it is still reported.
        let heard = match destination.mute() {
            Some(_) if alert.phase() != Phase::Recovery => Vec::new(),
            _ => self.reporter.heard_of(&alert, identity).await,
        };
        let mut confirmed = None;
        if alert.phase() == Phase::Recovery
            && !is_said(&alert, &heard)
            && let Some(diagnoser) = &self.diagnoser
        {
            (alert, confirmed) = diagnoser.confirm_recovery(alert).await;
        }
        let mut channels: Vec<ChannelId> = asked.iter().map(|recipient| recipient.channel).collect();
        channels.extend(heard.into_iter().filter(|heard| asked.iter().all(|recipient| recipient.channel != *heard)));
        let saying = Saying { alert, identity, confirmed, start_by };
        let alert = &saying.alert;
        let reports = channels.iter().map(async |&channel| {
            let recipient = asked.iter().find(|recipient| recipient.channel == channel);
            let said = self.reporter.report(&saying, channel, recipient).await;
            let name = self.reporter.name(channel);
            let said = said.map_err(|error| Failure::Deferred { channel, name: name.to_owned(), error })?;
            if said == Said::Posted {
                metrics::alert(name, alert.severity.as_str());
                if let (Some(time), 1) = (alert.time, message.receive_count) {
                    metrics::alert_delay(name, reporter::delay(time));
                }
            }
            Ok(Outcome::from(said))
        });
        let unsaid = if destination.mute().is_some() { Outcome::Muted } else { Outcome::Unrouted };
        let result = Outcome::of_all(join_all(reports).await).map(|outcome| outcome.max(unsaid));
        if matches!(result, Ok(Outcome::Unrouted)) && alert.severity >= Severity::Warning {
            metrics::unrouted_problem(alert.severity.as_str());
        }
        let mute = destination.mute().filter(|_| matches!(result, Ok(Outcome::Muted)));
        self.log(message, alert, &channels, &result, mute);
        result
    }

    fn see_canary(&self, message: &Message) -> Outcome {
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

/// Who wants an alert before ECS is asked.
#[derive(Debug)]
pub struct Wanted {
    /// The channels that may get it.
    pub channels: Vec<ChannelId>,
    /// Whether the tags of its service decide which of them do.
    pub by_tags: bool,
}

/// An event's alert, `diagnosed` if any channel may want it, and where it goes then: what ECS says may show that it is routine,
/// and the tags of its service whose it is.
pub async fn alert(
    event: Event,
    router: &Router,
    diagnosed: impl AsyncFnOnce(Arc<Alert>, Wanted) -> Arc<Alert>,
) -> (Arc<Alert>, Destination) {
    let mut alert = Arc::new(Alert::from_event(&event));
    let routes = router.route(event.value(), alert.time.unwrap_or_else(OffsetDateTime::now_utc));
    drop(event);
    let channels = routes.channels(alert.severity);
    if !channels.is_empty() {
        let by_tags = routes.depend_on_tags(alert.severity);
        alert = diagnosed(alert, Wanted { channels, by_tags }).await;
    }
    let destination = routes.by_tags(alert.tags.as_ref()).destination(alert.severity);
    (alert, destination)
}

impl Outcome {
    /// Of all channels of an event, or all events of a message: it may be deleted only when each may.
    fn of_all(all: Vec<Result<Self, Failure>>) -> Result<Self, Failure> {
        all.into_iter().reduce(|outcome, one| Ok(outcome?.max(one?))).unwrap_or(Ok(Self::Unrouted))
    }
}

impl From<Said> for Outcome {
    fn from(said: Said) -> Self {
        match said {
            Said::Posted => Self::Posted,
            Said::Folded => Self::Folded,
            Said::Duplicate => Self::Duplicate,
            Said::Unwanted => Self::Unrouted,
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
    fn of_several_events_the_outcome_that_took_the_most_is_the_messages() {
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
