//! Receives messages and settles them: takes slots, receives, works, then deletes or puts back.
//!
//! There are three actors. *Pollers* receive: one when idle, more while receives return full batches, none while no channel can
//! take a post. One *task for each message* runs the pipeline and settles the message by its result. [`Consumer::run`] restarts
//! pollers that panic and, during shutdown, waits for the tasks.
//!
//! A message is deleted in exactly one place, [`Consumer::settle`], and only for an `Ok(Outcome)`.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use parking_lot::Mutex;

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
use tracing::{error, warn};

use self::{hidden::Hidden, pacer::Pacer, progress::Progress};
use crate::{
    metrics,
    pipeline::Pipeline,
    shutdown::{StopSignal, drained},
    slack::Slack,
    sqs::{self, Message, Queue, SqsError},
};

mod delays;
mod hidden;
mod pacer;
mod progress;
mod settle;

/// Settings of the consumer. All durations are positive.
#[derive(Debug, Clone, Copy)]
pub struct ConsumerSettings {
    /// Set on every receive. All work on a message happens within it.
    pub visibility_timeout: Duration,
    /// How long a receive waits for its first message, in whole seconds.
    pub wait: Duration,
    /// The most messages in flight.
    pub max_in_flight: usize,
    /// The number of pollers under load.
    pub pollers: usize,
}

impl ConsumerSettings {
    /// How long one request to Slack, or one read of a webhook's secret, may take: ten seconds, or less if the visibility timeout is
    /// short, so that a request that begins at the last moment ends before the message becomes visible again.
    pub fn request_timeout(&self) -> Duration {
        crate::slack::client::TIMEOUT.min(self.visibility_timeout / 5)
    }

    /// How long after its receive a message may begin a request. The remaining time is enough for that request, for reading the
    /// secret of a webhook that Slack refuses, and for five seconds (or a fifth) to settle.
    fn work_time(&self) -> Duration {
        let settling = Duration::from_secs(5).min(self.visibility_timeout / 5);
        self.visibility_timeout - settling - 2 * self.request_timeout()
    }

    /// How long after its receive a message may still be put back by its receipt: a second, or a tenth, before it becomes
    /// visible.
    fn last_change(&self) -> Duration {
        self.visibility_timeout - Duration::from_secs(1).min(self.visibility_timeout / 10)
    }
}

/// The consumer of one queue.
#[derive(Debug)]
pub struct Consumer {
    queue: Arc<Queue>,
    pipeline: Pipeline,
    slack: Arc<Slack>,
    settings: ConsumerSettings,
    slots: Arc<Semaphore>,
    progress: Arc<Progress>,
    /// Messages that were put back because their channel is blocked.
    hidden: Arc<Hidden>,
    /// Wakes one more poller.
    more: Notify,
    tasks: TaskTracker,
    stop: StopSignal,
    /// Cancelled when every receive has ended and none will begin.
    receives_closed: CancellationToken,
    /// When the open receive of each poller began; `None` while it has no open receive.
    receives_since: Vec<Moment>,
    /// When a receive succeeded last.
    received: Moment,
}

type Moment = Mutex<Option<Instant>>;

impl Consumer {
    /// A consumer that has not started.
    pub fn new(
        queue: Arc<Queue>,
        pipeline: Pipeline,
        slack: Arc<Slack>,
        settings: ConsumerSettings,
        stop: StopSignal,
    ) -> Self {
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
            receives_closed: CancellationToken::new(),
            receives_since: (0..settings.pollers).map(|_| Mutex::new(None)).collect(),
            received: Mutex::default(),
        }
    }

    /// Consumes until shutdown begins. Returns when every message in flight is settled.
    ///
    /// # Errors
    /// When the first receive shows that the queue does not exist or may not be read. Later, the same error is retried.
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
        self.receives_closed.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        drop(watch);
        self.hidden.release(&self.queue).await;
        Ok(())
    }

    /// Why the consumer is unhealthy and should be restarted, if it is.
    pub fn unhealthy_reason(&self) -> Option<String> {
        let limit = self.receive_limit();
        let overdue = |(index, since): (usize, &Moment)| {
            let begun = (*since.lock())?;
            (begun.elapsed() > limit).then(|| format!("poller {index} has waited for SQS for {:.0?}", begun.elapsed()))
        };
        self.receives_since
            .iter()
            .enumerate()
            .find_map(overdue)
            .or_else(|| self.progress.stall(self.settings.visibility_timeout))
    }

    /// Whether a receive succeeded within the time in which every receive must end.
    pub fn is_receiving(&self) -> bool {
        self.received.lock().is_some_and(|received| received.elapsed() <= self.receive_limit())
    }

    /// How long a receive may take before the consumer counts as unhealthy.
    fn receive_limit(&self) -> Duration {
        3 * self.settings.wait
    }

    /// Runs a poller, and restarts it if it panics.
    async fn keep_polling(self: &Arc<Self>, index: usize) -> Result<(), SqsError> {
        loop {
            let ended = AssertUnwindSafe(self.poll(index)).catch_unwind().await;
            *self.receives_since[index].lock() = None;
            match ended {
                Ok(result) => return result,
                Err(_) => error!(poller = index, "a poller panicked; starting it again"),
            }
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// Receives until shutdown begins. The first poller always receives. Each other poller starts after a full batch and pauses
    /// after one that is not full.
    async fn poll(self: &Arc<Self>, index: usize) -> Result<(), SqsError> {
        let mut backoff = receive_backoff();
        // Only the first poller may end the program for a misconfigured queue, and only until its first receive succeeds.
        let mut may_give_up = index == 0;
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
                // SQS should have answered long before. Messages that it still returns become visible again after their timeout.
                () = drained(self.stop.clone()) => return Ok(()),
            };
            match received {
                Ok(messages) => {
                    *self.received.lock() = Some(Instant::now());
                    (may_give_up, backoff) = (false, receive_backoff());
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
                Err(error) if may_give_up && error.class.is_misconfiguration() => return Err(error),
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

    /// Takes slots for the messages of the next receive. While no channel can take a post, it waits, with one exception: if no
    /// message is in flight, it takes a single slot, and the message in it probes Slack.
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
                // The wait may have been long, and Slack may have asked for another one.
                mut all = nothing_in_flight => if self.slack.blocked_until().is_some_and(|until| until <= Instant::now()) {
                    return all.split(1).expect("there is at least one slot");
                },
            }
        }
    }

    async fn receive(&self, index: usize, max: usize) -> Result<Vec<Message>, SqsError> {
        *self.receives_since[index].lock() = Some(Instant::now());
        let received = self.queue.receive(max, self.settings.visibility_timeout, self.settings.wait).await;
        *self.receives_since[index].lock() = None;
        received
    }

    /// Starts a task for each message. The task holds the message's slot until the message is settled.
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

    fn is_stopping(&self) -> bool {
        self.stop.borrow().is_some()
    }

    /// The future's output, or `None` if shutdown begins first.
    async fn unless_stopped<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut stop = self.stop.clone();
        tokio::select! {
            biased;
            _ = stop.wait_for(Option::is_some) => None,
            output = future => Some(output),
        }
    }
}

const MAX_RECEIVE_BACKOFF: Duration = Duration::from_secs(60);

/// The delays after failed receives, for any error: half a second, doubling to a minute. The jitter adds up to 100 %.
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
            let settings = ConsumerSettings {
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
