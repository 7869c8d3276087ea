//! The life of one message, from its body to its outcome, to be read top to bottom in [`Pipeline::handle`].
//!
//! Everything hard — Slack's rate, storms, retries, copies that come twice — hides behind the awaits. What is returned is all
//! that decides about the message: `Ok` deletes it, and nothing else does.

use std::{
    mem::take,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::{FutureExt, future::join_all};
use moka::{future::Cache, policy::EvictionPolicy};
use time::OffsetDateTime;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::{
    alert::Alert,
    diagnose::Diagnoser,
    event::{Event, Undecodable},
    metrics::{self, MessageOutcome},
    route::Router,
    slack::{Slack, channel::PostError},
    sqs::Message,
};

/// Why a message may be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Slack answered 2xx for the post that carries it.
    Posted,
    /// A copy of it was so posted lately.
    Duplicate,
    /// No route wants it.
    Unrouted,
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

    /// Brings the message to its outcome; no post begins after `start_by`. Its body, of up to a megabyte, is let go of as soon as
    /// it is read: what waits for Slack is only the alert.
    ///
    /// # Errors
    /// When the message must stay in the queue.
    pub async fn handle(&self, message: &mut Message, start_by: Instant) -> Result<Outcome, Failure> {
        let (alert, channels, is_diagnosed) = match Event::decode(&take(&mut message.body)) {
            Ok(event) => {
                let mut alert = Arc::new(Alert::from_event(&event));
                let mut channels = self.router.route(event.value(), alert.severity);
                let judge_first = alert.exited.is_some() && !channels.is_empty();
                if judge_first {
                    // Whether the exit of one task matters only its service's other tasks tell.
                    alert = self.diagnosed(&alert).await;
                    channels = self.router.route(event.value(), alert.severity);
                }
                (alert, channels, judge_first)
            }
            Err(undecodable) => {
                warn!(
                    message_id = message.id,
                    outcome = MessageOutcome::Undecodable.as_str(),
                    receive_count = message.receive_count,
                    "{undecodable}"
                );
                return Err(undecodable.into());
            }
        };
        let result = self.post(message, &alert, &channels, start_by, is_diagnosed).await;
        self.log(message, &alert, &channels, &result);
        result
    }

    /// Posts the alert to every channel that has not had it.
    async fn post(
        &self,
        message: &Message,
        alert: &Arc<Alert>,
        channels: &[usize],
        start_by: Instant,
        is_diagnosed: bool,
    ) -> Result<Outcome, Failure> {
        if channels.is_empty() {
            return Ok(Outcome::Unrouted);
        }
        // What has no id of EventBridge's is told apart by SQS's, which at least stays the same over receives.
        let id = alert.event_id.as_deref().unwrap_or(&message.id);
        // Once for all channels, and not for a copy of what was posted.
        let diagnosed = async { if is_diagnosed { Arc::clone(alert) } else { self.diagnosed(alert).await } }.shared();
        let posts = channels.iter().map(async |&channel| {
            let post = async { self.slack.post(channel, diagnosed.clone().await, start_by).await };
            let first = self.posted.once(id, channel, post).await.map_err(|error| Failure::Deferred {
                channel: self.slack.name(channel).to_owned(),
                error: PostError::clone(&error),
            })?;
            if first {
                measure(self.slack.name(channel), alert, message);
            }
            Ok::<bool, Failure>(first)
        });
        let mut outcome = Outcome::Duplicate;
        for first in join_all(posts).await {
            if first? {
                outcome = Outcome::Posted;
            }
        }
        Ok(outcome)
    }

    async fn diagnosed(&self, alert: &Arc<Alert>) -> Arc<Alert> {
        match &self.diagnoser {
            Some(diagnoser) => diagnoser.diagnose(alert).await,
            None => Arc::clone(alert),
        }
    }

    fn log(&self, message: &Message, alert: &Alert, channels: &[usize], result: &Result<Outcome, Failure>) {
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
    metrics::alert(channel, alert.severity);
    if let (Some(time), 1) = (alert.time, message.receive_count) {
        let delay = OffsetDateTime::from(SystemTime::now()) - time;
        // A clock ahead of ours would make it negative.
        metrics::alert_delay(channel, Duration::try_from(delay).unwrap_or_default());
    }
}

/// What was posted lately, by this process: (id, channel).
#[derive(Debug)]
struct Posted(Cache<(String, usize), ()>);

impl Posted {
    /// EventBridge and SQS deliver copies within minutes. Two hours are longer than the longest put-back, so that an event for
    /// two channels comes back to find that one of them has it. A hundred thousand entries are some fifty MB.
    fn new() -> Self {
        let cache = Cache::builder().max_capacity(100_000).eviction_policy(EvictionPolicy::lru());
        Self(cache.time_to_live(Duration::from_secs(2 * 3600)).build())
    }

    /// Runs `post` unless the same was posted before. A copy that comes while the first is under way awaits its end and
    /// shares it. `true` if this call's own post was accepted.
    async fn once(
        &self,
        id: &str,
        channel: usize,
        post: impl Future<Output = Result<(), PostError>>,
    ) -> Result<bool, Arc<PostError>> {
        let entry = self.0.entry((id.to_owned(), channel)).or_try_insert_with(post).await?;
        Ok(entry.is_fresh())
    }
}
