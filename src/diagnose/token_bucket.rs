//! A token bucket: limits the rate of requests and allows a burst.

use std::time::Duration;

use tokio::time::Instant;

/// Holds up to `burst` tokens and gets one each `interval`. It is stored as the instant at which it is full again.
#[derive(Debug)]
pub(super) struct TokenBucket {
    full_at: Instant,
    burst: u32,
    interval: Duration,
}

impl TokenBucket {
    pub(super) fn full(now: Instant, burst: u32, interval: Duration) -> Self {
        Self { full_at: now, burst, interval }
    }

    /// Takes a token and returns the instant from which it may be used, which is `now` if the bucket is not empty. `None` if that
    /// instant is more than `max_wait` away.
    pub(super) fn take(&mut self, now: Instant, max_wait: Duration) -> Option<Instant> {
        let full_at = self.full_at.max(now) + self.interval;
        let wait = (full_at - now).saturating_sub(self.interval * self.burst);
        if wait > max_wait {
            return None;
        }
        self.full_at = full_at;
        Some(now + wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BURST: u32 = 20;
    const INTERVAL: Duration = Duration::from_millis(500);

    #[test]
    fn after_a_burst_there_is_one_token_each_interval() {
        let start = Instant::now();
        let mut bucket = TokenBucket::full(start, BURST, INTERVAL);
        let mut take = |now| bucket.take(now, Duration::ZERO).is_some();
        assert_eq!((0..100).filter(|_| take(start)).count(), BURST as usize);
        assert!(!take(start + INTERVAL / 2));
        assert!(take(start + INTERVAL));
        assert!(!take(start + INTERVAL));
        let later = start + INTERVAL * BURST * 3;
        assert_eq!((0..100).filter(|_| take(later)).count(), BURST as usize);
    }

    #[test]
    fn a_caller_that_can_wait_gets_a_later_token() {
        let start = Instant::now();
        let mut bucket = TokenBucket::full(start, 2, INTERVAL);
        let tokens: Vec<_> = (0..10).map_while(|_| bucket.take(start, INTERVAL * 2)).collect();
        assert_eq!(tokens, [start, start, start + INTERVAL, start + INTERVAL * 2]);
    }
}
