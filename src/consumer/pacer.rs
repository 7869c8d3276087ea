//! Pauses after receives that return empty at once, although they should have waited for messages.
//!
//! SQS waits. An emulator or a proxy may not, and without pauses the poller would send requests as fast as they are answered.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tracing::warn;

const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Paces one poller.
#[derive(Debug)]
pub(super) struct Pacer {
    wait: Duration,
    /// The next pauses. `None` after a receive that waited or had messages.
    pauses: Option<ExponentialBackoff>,
    /// Whether a warning was logged, and no empty receive has waited since.
    reported: bool,
}

impl Pacer {
    /// Paces receives with this wait.
    pub(super) fn new(wait: Duration) -> Self {
        Self { wait, pauses: None, reported: false }
    }

    /// How long to pause after a receive. `None`, unless the receive was empty and took less than half its wait.
    pub(super) fn pause(&mut self, empty: bool, took: Duration) -> Option<Duration> {
        if !empty || took >= self.wait / 2 {
            self.reported &= !empty;
            self.pauses = None;
            return None;
        }
        if !self.reported {
            self.reported = true;
            let wait = self.wait;
            warn!(
                "a receive returned empty at once, not after {wait:?}: is this SQS, with long polls? pausing between receives"
            );
        }
        self.pauses.get_or_insert_with(pauses).next()
    }
}

/// A tenth of a second, doubling to 2.5 s. The jitter adds up to 100 %.
fn pauses() -> ExponentialBackoff {
    let delays = ExponentialBuilder::new().with_min_delay(Duration::from_millis(100));
    delays.with_max_delay(MAX_PAUSE / 2).without_max_times().with_jitter().build()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(20);
    const AT_ONCE: Duration = Duration::from_millis(5);

    #[test]
    fn a_queue_that_waits_or_has_messages_is_not_paced() {
        let mut pacer = Pacer::new(WAIT);
        assert_eq!(pacer.pause(true, WAIT), None);
        assert_eq!(pacer.pause(false, AT_ONCE), None);
        assert!(!pacer.reported);
    }

    #[test]
    fn pauses_grow_to_a_few_seconds_and_restart_after_a_message() {
        let mut pacer = Pacer::new(WAIT);
        let pauses: Vec<Duration> = (0..20).map(|_| pacer.pause(true, AT_ONCE).unwrap()).collect();
        assert!(pauses[0] < Duration::from_millis(300), "{pauses:?}");
        assert!(pauses[10..].iter().all(|pause| *pause >= MAX_PAUSE / 2 && *pause <= MAX_PAUSE), "{pauses:?}");
        assert_eq!(pacer.pause(false, AT_ONCE), None);
        assert!(pacer.pause(true, AT_ONCE).unwrap() < Duration::from_millis(300));
        // It stays reported until a receive waits.
        assert!(pacer.reported);
        pacer.pause(true, WAIT);
        assert!(!pacer.reported);
    }
}
