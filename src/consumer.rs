//! Takes messages from the queue and settles them: slots first, then the receive, then the work, then delete or put back.
//!
//! Three actors. *Pollers* receive: one when idle, more while batches come back full, none while no channel can take
//! anything. One *task per message* runs the pipeline and settles by its answer. [`Consumer::run`] restarts pollers that die
//! and, when told to stop, waits for the tasks.
//!
//! A message is deleted in exactly one place, [`Consumer::settle`], and only an `Ok(Outcome)` gets there.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures_util::FutureExt;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};
use tracing::{error, info, warn};

use self::{
    delays::{CUT_SHORT, blocked_delay, poison_delay, put_back_delay},
    hidden::{Entry, Hidden},
    pacer::Pacer,
    progress::Progress,
};
use crate::{
    metrics::{self, MessageOutcome},
    pipeline::{Failure, Outcome, Pipeline},
    reporter::Unsaid,
    route::ChannelId,
    shutdown::{Stop, drained},
    slack::Slack,
    sqs::{self, Message, Queue, Receipt, SqsError},
};

mod delays;
mod hidden;
mod pacer;
mod progress;

/// How the queue is consumed. All durations are positive.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Set on every receive; all work on a message happens within.
    pub visibility_timeout: Duration,
    /// How long a receive waits for its first message, whole seconds.
    pub wait: Duration,
    /// Messages held at once.
    pub max_in_flight: usize,
    /// Receives at once under load.
    pub pollers: usize,
}

impl Settings {
    /// How long one request to Slack, or one look-up of a webhook, may take: ten seconds, or less where the visibility time-out
    /// is short, so that an attempt begun at the last moment ends before the message becomes visible again.
    pub fn request_timeout(&self) -> Duration {
        crate::slack::client::TIMEOUT.min(self.visibility_timeout / 5)
    }

    /// How long after its receive a message may still begin an attempt: what remains holds that attempt, the look-up of a
    /// webhook that Slack refuses, and five seconds (or a fifth) to settle.
    fn work_time(&self) -> Duration {
        let settling = Duration::from_secs(5).min(self.visibility_timeout / 5);
        self.visibility_timeout - settling - 2 * self.request_timeout()
    }
}

/// The consumer of one queue.
#[derive(Debug)]
pub struct Consumer {
    queue: Arc<Queue>,
    pipeline: Pipeline,
    slack: Arc<Slack>,
    settings: Settings,
    slots: Arc<Semaphore>,
    progress: Arc<Progress>,
    /// What was put back for channels that are blocked.
    hidden: Arc<Hidden>,
    /// Wakes one more poller.
    more: Notify,
    tasks: TaskTracker,
    stop: Stop,
    /// No receive is open any more.
    deaf: CancellationToken,
    pulses: Vec<Pulse>,
    /// When a receive succeeded last.
    received: Pulse,
}

/// When a poller's receive began; `None` while it waits for something else, by design.
type Pulse = Mutex<Option<Instant>>;

impl Consumer {
    /// A consumer that has not begun.
    pub fn new(queue: Arc<Queue>, pipeline: Pipeline, slack: Arc<Slack>, settings: Settings, stop: Stop) -> Self {
        Self {
            queue,
            pipeline,
            slack,
            settings,
            slots: Arc::new(Semaphore::new(settings.max_in_flight)),
            progress: Progress::new(),
            hidden: Arc::default(),
            more: Notify::new(),
            tasks: TaskTracker::new(),
            stop,
            deaf: CancellationToken::new(),
            pulses: (0..settings.pollers).map(|_| Mutex::new(None)).collect(),
            received: Mutex::default(),
        }
    }

    /// Consumes until told to stop; returns when every message in flight is settled.
    ///
    /// # Errors
    /// When the very first receive shows that the queue does not exist or may not be read. Later, the same is ridden out.
    pub async fn run(self: &Arc<Self>) -> Result<(), SqsError> {
        let watch = Arc::clone(&self.hidden).watch(Arc::clone(&self.queue), Arc::clone(&self.slack));
        let watch = AbortOnDropHandle::new(tokio::spawn(watch));
        let mut pollers = JoinSet::new();
        for index in 0..self.settings.pollers {
            let consumer = Arc::clone(self);
            pollers.spawn(async move { consumer.keep_polling(index).await });
        }
        while let Some(ended) = pollers.join_next().await {
            ended.unwrap_or(Ok(()))?;
        }
        self.deaf.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        drop(watch);
        self.hidden.release(&self.queue).await;
        Ok(())
    }

    /// Why the consumer should be restarted from outside, if it should.
    pub fn sickness(&self) -> Option<String> {
        let limit = self.patience();
        let overdue = |(index, pulse): (usize, &Pulse)| {
            let begun = (*lock(pulse))?;
            (begun.elapsed() > limit).then(|| format!("poller {index} has waited for SQS for {:.0?}", begun.elapsed()))
        };
        self.pulses
            .iter()
            .enumerate()
            .find_map(overdue)
            .or_else(|| self.progress.stall(self.settings.visibility_timeout))
    }

    /// Whether a receive succeeded lately: within the time in which every poller must have had an answer.
    pub fn is_receiving(&self) -> bool {
        lock(&self.received).is_some_and(|received| received.elapsed() <= self.patience())
    }

    /// How long a receive may take before something is wrong.
    fn patience(&self) -> Duration {
        3 * self.settings.wait
    }

    /// A poller that survives its own death.
    async fn keep_polling(self: &Arc<Self>, index: usize) -> Result<(), SqsError> {
        loop {
            let ended = AssertUnwindSafe(self.poll(index)).catch_unwind().await;
            *lock(&self.pulses[index]) = None;
            match ended {
                Ok(result) => return result,
                Err(_) => error!(poller = index, "a poller died; starting it again"),
            }
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// Receives until told to stop. The first poller always; each of the others from when a batch comes back full until one
    /// does not.
    async fn poll(self: &Arc<Self>, index: usize) -> Result<(), SqsError> {
        let mut backoff = receive_backoff();
        let mut proven = index > 0;
        let mut awake = index == 0;
        let mut pacer = Pacer::new(self.settings.wait);
        loop {
            if !awake && self.unless_stopped(self.more.notified()).await.is_none() {
                return Ok(());
            }
            let Some(slots) = self.unless_stopped(self.slots()).await else { return Ok(()) };
            let max = slots.num_permits();
            let begun = Instant::now();
            let received = tokio::select! {
                received = self.receive(index, max) => received,
                // SQS should have answered long before. What it may still hand out comes again, as it would after an end by force.
                () = drained(self.stop.clone()) => return Ok(()),
            };
            match received {
                Ok(messages) => {
                    *lock(&self.received) = Some(Instant::now());
                    (proven, backoff) = (true, receive_backoff());
                    let full = messages.len() == sqs::BATCH;
                    awake = index == 0 || full;
                    let empty = messages.is_empty();
                    self.begin(messages, slots);
                    if full {
                        self.more.notify_one();
                    }
                    let Some(pause) = pacer.pause(empty, begun.elapsed()) else { continue };
                    if self.unless_stopped(sleep(pause)).await.is_none() {
                        return Ok(());
                    }
                }
                Err(error) if !proven && error.class.is_misconfiguration() => return Err(error),
                Err(error) => {
                    awake = index == 0;
                    let delay = backoff.next().unwrap_or(MAX_RECEIVE_BACKOFF);
                    warn!(
                        poller = index,
                        error = error.chain(),
                        "could not receive; trying again in {:.1} s",
                        delay.as_secs_f32()
                    );
                    drop(slots);
                    if self.unless_stopped(sleep(delay)).await.is_none() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Slots for what the next receive may bring. While no channel can take anything there are none, except that with
    /// nothing in flight a single message may come in, to probe whether Slack is back.
    async fn slots(&self) -> OwnedSemaphorePermit {
        let acquire = async |count: usize| {
            let slots = Arc::clone(&self.slots).acquire_many_owned(count as u32).await;
            slots.expect("the semaphore is never closed")
        };
        loop {
            let Some(until) = self.slack.blocked_until() else {
                let slots = acquire(sqs::BATCH.min(self.settings.max_in_flight)).await;
                if self.slack.blocked_until().is_none() {
                    return slots;
                }
                continue;
            };
            let nothing_in_flight = async {
                sleep_until(until).await;
                acquire(self.settings.max_in_flight).await
            };
            tokio::select! {
                () = self.slack.unblocked() => {}
                // The wait may have been long, and Slack have asked for another.
                mut all = nothing_in_flight => if self.slack.blocked_until().is_some_and(|until| until <= Instant::now()) {
                    return all.split(1).expect("there is at least one slot");
                },
            }
        }
    }

    async fn receive(&self, index: usize, max: usize) -> Result<Vec<Message>, SqsError> {
        *lock(&self.pulses[index]) = Some(Instant::now());
        let received = self.queue.receive(max, self.settings.visibility_timeout, self.settings.wait).await;
        *lock(&self.pulses[index]) = None;
        received
    }

    /// Starts a task for each message, which holds its slot until it is settled.
    fn begin(self: &Arc<Self>, messages: Vec<Message>, mut slots: OwnedSemaphorePermit) {
        metrics::messages_received(messages.len());
        for message in messages {
            let held = self.progress.begin(slots.split(1));
            let consumer = Arc::clone(self);
            self.tasks.spawn(async move {
                consumer.work(message).await;
                held.settled();
            });
        }
    }

    async fn work(&self, mut message: Message) {
        if let (Some(sent), 1) = (message.sent, message.receive_count) {
            metrics::queue_delay(SystemTime::now().duration_since(sent).unwrap_or_default());
        }
        if self.is_stopping() {
            // It came with the last receives, and nothing has begun.
            let outcome = MessageOutcome::Deferred;
            metrics::message(outcome);
            info!(
                message_id = message.id,
                outcome = outcome.as_str(),
                receive_count = message.receive_count,
                "stopping"
            );
            return self.give_back(&message.receipt).await;
        }
        let start_by = message.received + self.settings.work_time();
        match AssertUnwindSafe(self.pipeline.handle(&mut message, start_by)).catch_unwind().await {
            Ok(result) => self.settle(message, result).await,
            Err(_) => {
                error!(message_id = message.id, "handling the message panicked; it is put back");
                metrics::message(MessageOutcome::Deferred);
                self.put_back(&message.receipt, put_back_delay(message.receive_count, fastrand::f64())).await;
            }
        }
    }

    /// The end of a message's life here.
    async fn settle(&self, message: Message, result: Result<Outcome, Failure>) {
        metrics::message(MessageOutcome::from(&result));
        match result {
            Ok(
                Outcome::Posted
                | Outcome::Folded
                | Outcome::Duplicate
                | Outcome::Unrouted
                | Outcome::Muted
                | Outcome::Canary,
            ) => {
                if let Err(error) = self.queue.delete(message.receipt).await {
                    let error = error.chain();
                    warn!(
                        message_id = message.id,
                        error, "a finished message could not be deleted; it will come again"
                    );
                }
            }
            Err(Failure::Undecodable(_)) => {
                self.put_back(&message.receipt, poison_delay(message.receive_count)).await;
            }
            Err(Failure::Deferred { .. }) if self.is_stopping() => self.give_back(&message.receipt).await,
            Err(Failure::Deferred { channel, error: Unsaid::NotPosted(_), .. }) if !self.slack.takes(channel) => {
                self.hide(message, channel).await;
            }
            Err(failure @ Failure::Deferred { .. }) => {
                let delay = put_back_delay(message.receive_count, fastrand::f64());
                self.put_back(&message.receipt, failure.again_in().unwrap_or(delay)).await;
            }
        }
    }

    /// Puts a message back because its channel is blocked. While it stays so, and there is room to remember it, the usual delay
    /// is extended; without room it is as long from the start.
    async fn hide(&self, message: Message, channel: ChannelId) {
        let now = Instant::now();
        // An attempt that begins at the last moment may take ten seconds.
        let most = (message.received + sqs::MAX_HIDDEN).duration_since(now).saturating_sub(Duration::from_secs(30));
        let jitter = fastrand::f64();
        let whole = blocked_delay(message.receive_count, jitter).min(most);
        let usual = put_back_delay(message.receive_count, jitter).min(most);
        let first = if self.hidden.has_room() { usual } else { whole };
        if self.put_back(&message.receipt, first).await {
            let earliest = if message.receive_count <= CUT_SHORT { now } else { now + usual };
            let (visible_at, until) = (now + first, now + whole);
            self.hidden.keep(Entry { receipt: message.receipt, channel, visible_at, until, earliest });
        }
    }

    /// Puts a message back at once, when stopping; but not while a receive of ours is open, which would only take it again and
    /// so bring it nearer to the dead-letter queue.
    async fn give_back(&self, receipt: &Receipt) {
        tokio::select! {
            () = self.deaf.cancelled() => {}
            () = drained(self.stop.clone()) => {}
        }
        self.put_back(receipt, Duration::ZERO).await;
    }

    /// Whether it was put back.
    async fn put_back(&self, receipt: &Receipt, delay: Duration) -> bool {
        let put_back = self.queue.put_back(receipt, delay).await;
        if let Err(error) = &put_back {
            warn!(
                error = error.chain(),
                "a message could not be put back; it is visible again when its visibility time-out ends"
            );
        }
        put_back.is_ok()
    }

    fn is_stopping(&self) -> bool {
        self.stop.borrow().is_some()
    }

    /// The future's output, or `None` if told to stop first.
    async fn unless_stopped<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut stop = self.stop.clone();
        tokio::select! {
            biased;
            _ = stop.wait_for(Option::is_some) => None,
            output = future => Some(output),
        }
    }
}

/// A pulse is plain data: a poisoned lock means nothing.
fn lock(pulse: &Pulse) -> MutexGuard<'_, Option<Instant>> {
    pulse.lock().unwrap_or_else(PoisonError::into_inner)
}

const MAX_RECEIVE_BACKOFF: Duration = Duration::from_secs(60);

/// After a receive that failed, whatever the error: half a second, doubling to a minute. The jitter adds up to as much again.
fn receive_backoff() -> ExponentialBackoff {
    let delays = ExponentialBuilder::new().with_min_delay(Duration::from_millis(500));
    delays.with_max_delay(MAX_RECEIVE_BACKOFF / 2).without_max_times().with_jitter().build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_begun_at_the_last_moment_ends_within_the_visibility_timeout() {
        for seconds in [2, 5, 30, 120, 43_200] {
            let settings = Settings {
                visibility_timeout: Duration::from_secs(seconds),
                wait: Duration::from_secs(20),
                max_in_flight: 1,
                pollers: 1,
            };
            let ends = settings.work_time() + 2 * settings.request_timeout();
            assert!(settings.work_time() > Duration::ZERO && ends < settings.visibility_timeout, "{seconds} s");
        }
    }
}
