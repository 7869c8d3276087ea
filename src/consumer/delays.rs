//! How long messages that are put back stay hidden. Pure.

use std::time::Duration;

/// When its channel opens, a message with at most this many receives becomes visible at once. If a channel opens and closes
/// repeatedly, that may use up these receives within seconds; the other receives are spaced by their usual delays.
pub(super) const MAX_EARLY_RETURNS: u32 = 3;

/// How long a message that could not be posted stays hidden: 30 s, doubling with each receive up to an hour. Up to a fifth is
/// subtracted at random (`jitter` is in 0..1), so that messages that failed together do not return together. Ten receives span
/// about three hours, which is why [`blocked_delay`] extends the delay.
pub(super) fn put_back_delay(receive_count: u32, jitter: f64) -> Duration {
    let doubled = 30u32.saturating_mul(2u32.saturating_pow(receive_count.saturating_sub(1)));
    let delay = f64::from(doubled.min(3600)) * (1.0 - jitter / 5.0);
    Duration::from_secs(delay.round() as u64)
}

/// How long a message stays hidden while its channel is blocked: 30 s, ten times as long with each receive, up to eleven and
/// three quarter hours. Up to a twentieth is subtracted at random. SQS hides a message for at most twelve hours after its
/// receive. With a `maxReceiveCount` of ten, the tenth receive is the last before the dead-letter queue. It comes 64 to 68 hours
/// after the first: more than the 63 hours from Friday 18:00 to Monday 09:00. The first three delays are short, for an outage of
/// a few minutes. A slower growth would not reach a weekend in nine delays.
///
/// The message is put back for [`put_back_delay`], and that is extended up to this delay, an hour at a time. So after a worker is
/// killed, the message stays hidden for at most an hour, and when a channel opens, its messages become visible at once
/// ([`super::hidden`]).
pub(super) fn blocked_delay(receive_count: u32, jitter: f64) -> Duration {
    const LONGEST: u32 = 42_300;
    let tenfold = 30u32.saturating_mul(10u32.saturating_pow(receive_count.saturating_sub(1)));
    let delay = f64::from(tenfold.min(LONGEST)) * (1.0 - jitter / 20.0);
    Duration::from_secs(delay.round() as u64)
}

/// How long a message that cannot be decoded stays hidden: one second for each receive. So it reaches the dead-letter queue
/// within a minute, and a queue without one does not return it in a tight loop.
pub(super) fn undecodable_delay(receive_count: u32) -> Duration {
    Duration::from_secs(receive_count.clamp(1, 300).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqs;

    #[test]
    fn put_backs_grow_from_half_a_minute_to_an_hour() {
        let without_jitter: Vec<u64> = (0..=10).map(|count| put_back_delay(count, 0.0).as_secs()).collect();
        assert_eq!(without_jitter, [30, 30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]);
        assert_eq!(put_back_delay(u32::MAX, 0.0), Duration::from_secs(3600));
    }

    #[test]
    fn jitter_subtracts_a_fifth_at_most() {
        assert_eq!(put_back_delay(1, 1.0), Duration::from_secs(24));
        assert_eq!(put_back_delay(9, 1.0), Duration::from_secs(2880));
    }

    #[test]
    fn ten_receives_outlast_a_weekend_while_a_channel_is_blocked() {
        let without_jitter: Vec<u64> = (0..=10).map(|count| blocked_delay(count, 0.0).as_secs()).collect();
        assert_eq!(without_jitter, [30, 30, 300, 3_000, 30_000, 42_300, 42_300, 42_300, 42_300, 42_300, 42_300]);
        assert_eq!(blocked_delay(u32::MAX, 0.0), Duration::from_secs(42_300));
        // Friday 18:00 to Monday 09:00. The tenth receive comes after nine delays.
        let weekend = Duration::from_secs(63 * 3600);
        let last_receive = |jitter: f64| (1..=9).map(|count| blocked_delay(count, jitter)).sum::<Duration>();
        assert!(last_receive(1.0) >= weekend, "{:?}", last_receive(1.0));
        assert!(last_receive(0.0) <= Duration::from_secs(68 * 3600 + 60), "{:?}", last_receive(0.0));
        for count in 1..=10 {
            assert!(blocked_delay(count, 1.0) >= put_back_delay(count, 1.0), "{count}");
            // Together with the work before it, the delay is within SQS's limit.
            assert!(blocked_delay(count, 0.0) + Duration::from_secs(120 + 30) < sqs::MAX_HIDDEN, "{count}");
        }
    }

    #[test]
    fn an_undecodable_message_reaches_the_dead_letter_queue_within_a_minute() {
        let total: Duration = (1..=10).map(undecodable_delay).sum();
        assert!(total < Duration::from_secs(60));
        assert_eq!(undecodable_delay(u32::MAX), Duration::from_secs(300));
    }
}
