//! The life of one message, from its body to its outcome, to be read top to bottom in [`Pipeline::handle`].
//!
//! Everything hard — Slack's rate, storms, retries, copies that come twice — hides behind the awaits. What is returned is all
//! that decides about the message: `Ok` deletes it, and nothing else does.

use std::{
    mem::take,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::future::join_all;
use moka::{future::Cache, policy::EvictionPolicy};
use time::OffsetDateTime;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::{
    alert::Alert,
    diagnose::Diagnoser,
    event::{Event, Identity, Undecodable},
    metrics::{self, MessageOutcome},
    route::{ChannelId, Router},
    slack::{Slack, channel::PostError},
    sqs::Message,
};

/// Why a message may be deleted. Of a message with several events, the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// No route wants it.
    Unrouted,
    /// A copy of it was posted within two hours.
    Duplicate,
    /// Slack accepted the post that carries it.
    Posted,
}

/// Why a message must stay in the queue.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It will never be understood; the redrive policy takes it.
    #[error(transparent)]
    Undecodable(#[from] Undecodable),
    /// It is to be tried again later.
    #[error("channel {channel}: {error}")]
    Deferred {
        /// The channel that did not take it.
        channel: String,
        /// Why not.
        error: PostError,
    },
}

/// Turns messages into posts.
#[derive(Debug)]
pub struct Pipeline {
    router: Router,
    diagnoser: Option<Diagnoser>,
    slack: Arc<Slack>,
    posted: Posted,
}

impl Pipeline {
    /// A pipeline that has posted nothing yet. Without a diagnoser alerts say what their events do.
    pub fn new(router: Router, diagnoser: Option<Diagnoser>, slack: Arc<Slack>) -> Self {
        Self { router, diagnoser, slack, posted: Posted::new() }
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
            let identity = event.identity(&message.id, index);
            self.report(message, identity, event, start_by).await
        });
        Outcome::of_all(join_all(events).await)
    }

    /// Posts an event's alert to every channel that wants it and has not had it.
    async fn report(
        &self,
        message: &Message,
        identity: Identity,
        event: Event,
        start_by: Instant,
    ) -> Result<Outcome, Failure> {
        let is_posted = |channel: &ChannelId| self.posted.contains(identity, *channel);
        let diagnosed = async |alert: Arc<Alert>, channels: &[ChannelId]| match &self.diagnoser {
            Some(diagnoser) if !channels.iter().all(is_posted) => diagnoser.diagnose(&alert).await,
            _ => alert,
        };
        let (alert, channels) = alert(event, &self.router, diagnosed).await;
        let posts = channels.iter().map(async |&channel| {
            let post = self.slack.post(channel, Arc::clone(&alert), start_by);
            let is_first = self.posted.once(identity, channel, post).await.map_err(|error| Failure::Deferred {
                channel: self.slack.name(channel).to_owned(),
                error: PostError::clone(&error),
            })?;
            if is_first {
                measure(self.slack.name(channel), &alert, message);
            }
            Ok(if is_first { Outcome::Posted } else { Outcome::Duplicate })
        });
        let result = Outcome::of_all(join_all(posts).await);
        self.log(message, &alert, &channels, &result);
        result
    }

    fn log(&self, message: &Message, alert: &Alert, channels: &[ChannelId], result: &Result<Outcome, Failure>) {
        let outcome = MessageOutcome::from(result).as_str();
        let channels = channels.iter().map(|&channel| self.slack.name(channel)).collect::<Vec<_>>().join(",");
        info!(
            event_id = alert.event_id.as_deref().unwrap_or_default(),
            kind = alert.kind,
            service = alert.subject,
            severity = alert.severity.as_str(),
            outcome,
            channel = channels,
            receive_count = message.receive_count,
            error = result.as_ref().err().map(tracing::field::display),
            "settled"
        );
    }
}

/// An event's alert, `diagnosed` if any channel wants it, and the channels that want it then: what ECS says may show that
/// it is routine. `diagnosed` is told of the channels that want it so far.
pub async fn alert(
    event: Event,
    router: &Router,
    diagnosed: impl AsyncFnOnce(Arc<Alert>, &[ChannelId]) -> Arc<Alert>,
) -> (Arc<Alert>, Vec<ChannelId>) {
    let mut alert = Arc::new(Alert::from_event(&event));
    let routes = router.route(event.value());
    drop(event);
    let channels = routes.channels(alert.severity);
    if !channels.is_empty() {
        alert = diagnosed(alert, &channels).await;
    }
    let channels = routes.channels(alert.severity);
    (alert, channels)
}

impl Outcome {
    /// Of all channels of an event, or all events of a message: it may be deleted only when each may.
    fn of_all(all: Vec<Result<Self, Failure>>) -> Result<Self, Failure> {
        all.into_iter().try_fold(Self::Unrouted, |outcome, one| Ok(outcome.max(one?)))
    }
}

impl From<&Result<Outcome, Failure>> for MessageOutcome {
    fn from(result: &Result<Outcome, Failure>) -> Self {
        match result {
            Ok(Outcome::Posted) => Self::Posted,
            Ok(Outcome::Duplicate) => Self::Duplicate,
            Ok(Outcome::Unrouted) => Self::Unrouted,
            Err(Failure::Undecodable(_)) => Self::Undecodable,
            Err(Failure::Deferred { .. }) => Self::Deferred,
        }
    }
}

fn measure(channel: &str, alert: &Alert, message: &Message) {
    metrics::alert(channel, alert.severity.as_str());
    if let (Some(time), 1) = (alert.time, message.receive_count) {
        let delay = OffsetDateTime::from(SystemTime::now()) - time;
        // A clock ahead of ours would make it negative.
        metrics::alert_delay(channel, Duration::try_from(delay).unwrap_or_default());
    }
}

/// What this process has posted: which event to which channel.
#[derive(Debug)]
struct Posted(Cache<(Identity, ChannelId), ()>);

impl Posted {
    /// EventBridge and SQS deliver copies within minutes. Two hours are longer than the longest put-back, so that an event for
    /// two channels comes back to find that one of them has it. A hundred thousand entries are some fifty MB.
    fn new() -> Self {
        let cache = Cache::builder().max_capacity(100_000).eviction_policy(EvictionPolicy::lru());
        Self(cache.time_to_live(Duration::from_secs(2 * 3600)).build())
    }

    fn contains(&self, identity: Identity, channel: ChannelId) -> bool {
        self.0.contains_key(&(identity, channel))
    }

    /// Runs `post` unless the same was posted before. A copy that comes while the first is under way awaits its end and
    /// shares it. `true` if this call's own post was accepted.
    async fn once(
        &self,
        identity: Identity,
        channel: ChannelId,
        post: impl Future<Output = Result<(), PostError>>,
    ) -> Result<bool, Arc<PostError>> {
        let entry = self.0.entry((identity, channel)).or_try_insert_with(post).await?;
        Ok(entry.is_fresh())
    }
}
