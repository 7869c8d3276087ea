//! How many messages are in flight, and when one was settled last.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use crate::metrics;

/// Counts the messages in flight.
#[derive(Debug)]
pub(super) struct Progress(Mutex<Counts>);

#[derive(Debug)]
struct Counts {
    in_flight: usize,
    /// When a message was settled last or, if later, when the first message in flight was received.
    last: Instant,
}

/// A message in flight. Until this is dropped, the message is counted and holds its slot, however its task ends.
#[derive(Debug)]
pub(super) struct InFlight {
    progress: Arc<Progress>,
    _slot: Option<OwnedSemaphorePermit>,
}

impl Progress {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Counts { in_flight: 0, last: Instant::now() })))
    }

    /// Counts a message that was received.
    pub(super) fn begin(self: &Arc<Self>, slot: Option<OwnedSemaphorePermit>) -> InFlight {
        let mut state = self.0.lock();
        if state.in_flight == 0 {
            state.last = Instant::now();
        }
        state.in_flight += 1;
        metrics::in_flight(1);
        InFlight { progress: Arc::clone(self), _slot: slot }
    }

    /// A description of the problem if messages are in flight and none was settled for longer than `limit`.
    pub(super) fn stall(&self, limit: Duration) -> Option<String> {
        let Counts { in_flight, last } = *self.0.lock();
        let stalled = in_flight > 0 && last.elapsed() > limit;
        stalled.then(|| format!("no message was settled for {:.0?}, with {in_flight} in flight", last.elapsed()))
    }
}

impl InFlight {
    /// The message was settled, or cannot be settled.
    pub(super) fn settled(self) {
        self.progress.0.lock().last = Instant::now();
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.progress.0.lock().in_flight -= 1;
        metrics::in_flight(-1);
    }
}

#[cfg(test)]
mod tests {
    use tokio::{sync::Semaphore, time::advance};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(120);

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_frees_its_slot_and_no_longer_counts() {
        let progress = Progress::new();
        let slots = Arc::new(Semaphore::new(1));
        let held = progress.begin(Some(Arc::clone(&slots).acquire_owned().await.unwrap()));
        let task = tokio::spawn(async move {
            let _held = held;
            panic!("a bug");
        });
        assert!(task.await.unwrap_err().is_panic());
        assert_eq!(slots.available_permits(), 1);
        advance(2 * LIMIT).await;
        assert_eq!(progress.stall(LIMIT), None, "nothing is in flight");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stall_is_reported_if_no_message_is_settled() {
        let progress = Progress::new();
        advance(2 * LIMIT).await;
        let (first, _second) = (progress.begin(None), progress.begin(None));
        advance(LIMIT).await;
        assert_eq!(progress.stall(LIMIT), None, "the time counts from the first receive");
        advance(Duration::from_secs(1)).await;
        assert_eq!(progress.stall(LIMIT).unwrap(), "no message was settled for 121s, with 2 in flight");
        first.settled();
        assert_eq!(progress.stall(LIMIT), None);
        advance(2 * LIMIT).await;
        assert!(progress.stall(LIMIT).unwrap().contains("with 1 in flight"));
    }
}
