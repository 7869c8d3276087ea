//! Canaries: events that a schedule sends to EventBridge. Their arrival shows that events reach this worker.
//!
//! `Event::is_canary` recognises a canary. It is counted and deleted, never posted.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use crate::metrics;

/// When the latest canary was sent to the queue.
#[derive(Debug)]
pub struct Canaries {
    started: SystemTime,
    /// In milliseconds since 1970; 0 before the first.
    last: AtomicU64,
}

impl Default for Canaries {
    fn default() -> Self {
        Self { started: SystemTime::now(), last: AtomicU64::new(0) }
    }
}

impl Canaries {
    /// Counts a canary that was sent to the queue at `sent`. This is SQS's own timestamp, which no sender can choose. The time of
    /// receipt would not do: a canary that waited in the queue does not show that events arrive now.
    pub fn saw(&self, sent: Option<SystemTime>) {
        let now = SystemTime::now();
        let sent = sent.map_or(now, |sent| sent.min(now)).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let millis = sent.as_millis() as u64;
        let last = self.last.fetch_max(millis, Ordering::Relaxed).max(millis);
        metrics::canary(Duration::from_millis(last));
    }

    /// The time since the latest canary, or since the start of the program if that is later.
    pub fn silent_for(&self) -> Duration {
        let last = SystemTime::UNIX_EPOCH + Duration::from_millis(self.last.load(Ordering::Relaxed));
        last.max(self.started).elapsed().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_canary_counts_and_a_time_in_the_future_does_not() {
        let hour = Duration::from_secs(3600);
        let canaries = Canaries { started: SystemTime::now() - 3 * hour, last: AtomicU64::new(0) };
        assert!(canaries.silent_for() >= 3 * hour);
        canaries.saw(Some(SystemTime::now() - hour));
        canaries.saw(Some(SystemTime::now() - 2 * hour));
        assert!((hour..hour + hour / 2).contains(&canaries.silent_for()), "an older one changes nothing");
        canaries.saw(Some(SystemTime::now() + 9 * hour));
        assert!(canaries.silent_for() < hour / 2, "a time in the future counts as now");
        assert!(
            canaries.last.load(Ordering::Relaxed)
                <= SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64
        );
    }
}
