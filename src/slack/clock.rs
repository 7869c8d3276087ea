//! What Slack's answer means for the batch and for the time of the next request. Pure.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;

use super::answer::SlackAnswer;

/// Added to `Retry-After`, so that the next request does not arrive too early by Slack's clock.
const RETRY_AFTER_MARGIN: Duration = Duration::from_millis(100);

/// The longest wait for a `Retry-After`. After it, one message tests whether Slack still refuses. Slack asks for less; a larger
/// value may be an error of a proxy, and would delay alerts for hours.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);

/// The longest pause between attempts while Slack fails: short, so that the end of an outage is noticed soon.
const MAX_BACKOFF: Duration = Duration::from_secs(15);

/// What the flusher does with a batch after Slack's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reaction {
    /// Slack accepted it.
    Deliver,
    /// Send the same again later.
    Retry,
    /// Slack refuses the channel, not the content: give the batch to the fallback or, without one, send the same again later.
    Divert,
    /// Slack refuses some of the content: try smaller parts, down to a single alert.
    Split,
    /// Slack refuses this single alert even as plain text.
    Refuse,
    /// The message to reply to or edit no longer exists in Slack.
    Gone,
}

/// Which of the waiting alerts may hold the content that Slack refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Suspects {
    /// None, as far as is known.
    #[default]
    None,
    /// One of this many at the front, at least two.
    Among(usize),
    /// The first one: Slack refuses it with its blocks, so it is sent as plain text.
    First,
}

impl Suspects {
    /// How many of `waiting` the next request may carry.
    pub(super) fn limit(self, waiting: usize) -> usize {
        match self {
            Self::None => waiting,
            Self::Among(count) => (count / 2).clamp(1, waiting.max(1)),
            Self::First => 1,
        }
    }

    fn among(count: usize) -> Self {
        if count > 1 { Self::Among(count) } else { Self::First }
    }
}

/// When the next request to one target may begin, and what is known about its state.
#[derive(Debug)]
pub(super) struct Clock {
    /// The earliest instant at which Slack takes the next request.
    pub(super) next: Instant,
    /// True from a failure until Slack accepts a request. The channel stays blocked even after `next`.
    pub(super) is_down: bool,
    /// Which of the waiting alerts Slack may refuse.
    pub(super) suspects: Suspects,
    /// Slack's last answer, unless it was a success.
    pub(super) last_error: Option<SlackAnswer>,
    backoff: ExponentialBackoff,
}

impl Clock {
    /// The clock of a target that has received no request.
    pub(super) fn new(now: Instant) -> Self {
        Self { next: now, is_down: false, suspects: Suspects::None, last_error: None, backoff: backoff() }
    }

    /// Updates the clock after the answer to a request with `taken` alerts. `interval` is the shortest time between two requests
    /// that Slack allows permanently. `is_rotated`: Slack refused a webhook or token that has since been replaced.
    pub(super) fn learn(
        &mut self,
        answer: &SlackAnswer,
        taken: usize,
        is_rotated: bool,
        interval: Duration,
        now: Instant,
    ) -> Reaction {
        let suspects = self.suspects;
        let (reaction, pause) = match answer {
            SlackAnswer::Accepted(_) => (Reaction::Deliver, Pause::Interval),
            SlackAnswer::MessageGone(_) => (Reaction::Gone, Pause::Interval),
            // A proxy may refuse everything. So this counts as an outage until Slack accepts a request.
            SlackAnswer::PayloadRefused(_) if suspects == Suspects::First => (Reaction::Refuse, Pause::Backoff(None)),
            SlackAnswer::PayloadRefused(_) => (Reaction::Split, Pause::Interval),
            SlackAnswer::TargetRefused(_) if is_rotated => (Reaction::Retry, Pause::Interval),
            SlackAnswer::RateLimited(Some(wait)) => (Reaction::Retry, Pause::Asked(*wait)),
            SlackAnswer::ServerError(_, wait) => (Reaction::Retry, Pause::Backoff(*wait)),
            SlackAnswer::RateLimited(None) | SlackAnswer::NetworkError(_) => (Reaction::Retry, Pause::Backoff(None)),
            SlackAnswer::TargetRefused(_) => (Reaction::Divert, Pause::Backoff(None)),
        };
        self.suspects = match (reaction, suspects) {
            (Reaction::Split, _) => Suspects::among(taken),
            (Reaction::Deliver | Reaction::Gone, Suspects::Among(count)) if count > taken => {
                Suspects::among(count - taken)
            }
            (Reaction::Deliver | Reaction::Gone | Reaction::Refuse | Reaction::Divert, _) => Suspects::None,
            (Reaction::Retry, suspects) => suspects,
        };
        match pause {
            Pause::Interval => self.next = now + interval,
            Pause::Asked(wait) => {
                self.is_down |= wait > LONGEST_RETRY_AFTER;
                self.next = now + asked(wait).max(interval);
            }
            Pause::Backoff(wait) => {
                self.is_down = true;
                let backoff = self.backoff.next().unwrap_or(MAX_BACKOFF);
                self.next = now + backoff.max(wait.map(asked).unwrap_or_default()).max(interval);
            }
        }
        if matches!(reaction, Reaction::Deliver | Reaction::Gone) {
            (self.is_down, self.last_error, self.backoff) = (false, None, backoff());
        } else {
            self.last_error = Some(answer.clone());
        }
        reaction
    }
}

enum Pause {
    Interval,
    /// As long as Slack asks.
    Asked(Duration),
    /// Longer with each failure, and at least this long.
    Backoff(Option<Duration>),
}

fn asked(wait: Duration) -> Duration {
    wait.min(LONGEST_RETRY_AFTER) + RETRY_AFTER_MARGIN
}

/// The pauses between attempts while Slack fails: one second, doubling to fifteen. Up to half of each is jitter.
fn backoff() -> ExponentialBackoff {
    // The jitter adds up to 100 %.
    ExponentialBuilder::new().with_max_delay(MAX_BACKOFF / 2).without_max_times().with_jitter().build()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(1);

    fn learn(clock: &mut Clock, answer: &SlackAnswer, taken: usize) -> (Reaction, Duration) {
        let now = Instant::now();
        let reaction = clock.learn(answer, taken, false, INTERVAL, now);
        (reaction, clock.next - now)
    }

    #[test]
    fn each_answer_has_its_reaction_and_its_pause() {
        let seconds = Duration::from_secs;
        let unavailable = |wait| SlackAnswer::ServerError("503 Service Unavailable".into(), wait);
        for (answer, reaction, least, most, is_down) in [
            (SlackAnswer::Accepted(None), Reaction::Deliver, INTERVAL, INTERVAL, false),
            (SlackAnswer::MessageGone("message_not_found".into()), Reaction::Gone, INTERVAL, INTERVAL, false),
            (SlackAnswer::RateLimited(Some(seconds(30))), Reaction::Retry, seconds(30), seconds(31), false),
            (SlackAnswer::RateLimited(Some(seconds(0))), Reaction::Retry, INTERVAL, INTERVAL, false),
            (SlackAnswer::RateLimited(Some(seconds(300))), Reaction::Retry, seconds(300), seconds(301), false),
            (SlackAnswer::RateLimited(Some(seconds(86_400))), Reaction::Retry, seconds(300), seconds(301), true),
            (SlackAnswer::RateLimited(None), Reaction::Retry, INTERVAL, seconds(2), true),
            (unavailable(Some(seconds(3_600))), Reaction::Retry, seconds(300), seconds(301), true),
            (unavailable(None), Reaction::Retry, INTERVAL, seconds(2), true),
            (unavailable(Some(seconds(60))), Reaction::Retry, seconds(60), seconds(61), true),
            (SlackAnswer::NetworkError("reset".into()), Reaction::Retry, INTERVAL, seconds(2), true),
            (SlackAnswer::TargetRefused("no_service".into()), Reaction::Divert, INTERVAL, seconds(2), true),
            (SlackAnswer::PayloadRefused("invalid_blocks".into()), Reaction::Split, INTERVAL, INTERVAL, false),
        ] {
            let mut clock = Clock::new(Instant::now());
            let (found, pause) = learn(&mut clock, &answer, 1);
            assert_eq!(found, reaction, "{answer:?}");
            assert!((least..=most).contains(&pause), "{answer:?}: {pause:?}");
            assert_eq!(clock.is_down, is_down, "{answer:?}");
            let is_success = matches!(reaction, Reaction::Deliver | Reaction::Gone);
            assert_eq!(clock.last_error.is_none(), is_success, "{answer:?}");
        }
    }

    #[test]
    fn a_rotated_secret_is_tried_after_one_interval() {
        let mut clock = Clock::new(Instant::now());
        let refused = SlackAnswer::TargetRefused("no_service".into());
        assert_eq!(clock.learn(&refused, 1, true, INTERVAL, Instant::now()), Reaction::Retry);
        assert!(!clock.is_down);
    }

    #[test]
    fn the_refused_alert_is_found_by_halving_and_sent_as_plain_text_last() {
        let refused = SlackAnswer::PayloadRefused("invalid_blocks".into());
        let mut clock = Clock::new(Instant::now());
        let mut sizes = Vec::new();
        // The refused one is the sixth of eight.
        let (mut before_refused, mut waiting) = (5, 8);
        loop {
            let is_plain = clock.suspects == Suspects::First;
            let taken = clock.suspects.limit(waiting);
            sizes.push(taken);
            let answer = if taken > before_refused { refused.clone() } else { SlackAnswer::Accepted(None) };
            match learn(&mut clock, &answer, taken).0 {
                Reaction::Deliver => (before_refused, waiting) = (before_refused - taken, waiting - taken),
                Reaction::Split => {}
                Reaction::Refuse => break assert!(is_plain),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(sizes, [8, 4, 2, 1, 1]);
        assert_eq!((clock.suspects, clock.is_down), (Suspects::None, true));
    }

    #[test]
    fn a_failure_keeps_the_search_for_the_refused_alert() {
        let mut clock = Clock::new(Instant::now());
        learn(&mut clock, &SlackAnswer::PayloadRefused("invalid_blocks".into()), 8);
        learn(&mut clock, &SlackAnswer::NetworkError("reset".into()), 4);
        assert_eq!(clock.suspects, Suspects::Among(8));
    }

    #[test]
    fn pauses_grow_to_fifteen_seconds() {
        let mut clock = Clock::new(Instant::now());
        let failed = SlackAnswer::NetworkError("reset".into());
        let pauses: Vec<Duration> = (0..10).map(|_| learn(&mut clock, &failed, 1).1).collect();
        assert!(pauses.iter().all(|pause| *pause <= MAX_BACKOFF), "{pauses:?}");
        assert!(pauses.last() >= Some(&(MAX_BACKOFF / 2)), "{pauses:?}");
    }
}
