//! What Slack's answer means for the batch that it answers and for the time of the next request. Pure.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;

use super::client::Answer;

/// Added to `Retry-After`, so that a request sent when it ends does not arrive a moment before, by Slack's clock.
const RETRY_AFTER_MARGIN: Duration = Duration::from_millis(100);

/// A longer `Retry-After` is believed for so long at a time: then one message asks whether it still holds. Slack's own are
/// shorter; a longer one may be a mistake of something on the way, and would keep alerts back for hours.
const BELIEVED_FOR: Duration = Duration::from_secs(300);

/// The longest pause between attempts while Slack fails: short enough to notice soon that an outage is over.
const MAX_BACKOFF: Duration = Duration::from_secs(15);

/// What is done with a batch after Slack's answer to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reaction {
    /// Slack has it.
    Deliver,
    /// The same again, later.
    Retry,
    /// Slack refuses the channel, not what was sent: another channel can take it, or else the same again, later.
    Divert,
    /// It holds something that Slack refuses: smaller parts of it are tried, down to a single alert.
    Split,
    /// Slack refuses this single alert even as plain text.
    Refuse,
    /// The message that it replies to or edits is gone from Slack.
    Gone,
}

/// How much of the batch Slack refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Suspects {
    /// Nothing, as far as is known.
    #[default]
    None,
    /// So many at the front, at least two, hold one that Slack refuses.
    Among(usize),
    /// The first is refused with its blocks; plain text is next.
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

/// The times at which one target may be asked, and what is known of its state.
#[derive(Debug)]
pub(super) struct Clock {
    /// The earliest instant at which Slack takes the next request.
    pub(super) next: Instant,
    /// True from a failure until a request is accepted: the channel stays blocked past `next`.
    pub(super) is_down: bool,
    /// Which of what waits Slack refuses.
    pub(super) suspects: Suspects,
    /// Slack's last answer, if it was no success.
    pub(super) last_error: Option<Answer>,
    backoff: ExponentialBackoff,
}

impl Clock {
    /// A clock of a target that was not asked yet.
    pub(super) fn new(now: Instant) -> Self {
        Self { next: now, is_down: false, suspects: Suspects::None, last_error: None, backoff: backoff() }
    }

    /// Takes in the answer to a request that carried `taken` alerts. `interval` is the shortest time between two requests that
    /// Slack allows for good. `is_rotated`: Slack refused a webhook or token that has been replaced since.
    pub(super) fn learn(
        &mut self,
        answer: &Answer,
        taken: usize,
        is_rotated: bool,
        interval: Duration,
        now: Instant,
    ) -> Reaction {
        let suspects = self.suspects;
        let (reaction, pause) = match answer {
            Answer::Accepted(_) => (Reaction::Deliver, Pause::Interval),
            Answer::MessageGone(_) => (Reaction::Gone, Pause::Interval),
            // It may be something on the way that refuses everything: until a request is accepted, that counts as an outage.
            Answer::PayloadRefused(_) if suspects == Suspects::First => (Reaction::Refuse, Pause::Backoff(None)),
            Answer::PayloadRefused(_) => (Reaction::Split, Pause::Interval),
            Answer::TargetRefused(_) if is_rotated => (Reaction::Retry, Pause::Interval),
            Answer::RateLimited(Some(wait)) => (Reaction::Retry, Pause::Asked(*wait)),
            Answer::ServerError(_, wait) => (Reaction::Retry, Pause::Backoff(*wait)),
            Answer::RateLimited(None) | Answer::NetworkError(_) => (Reaction::Retry, Pause::Backoff(None)),
            Answer::TargetRefused(_) => (Reaction::Divert, Pause::Backoff(None)),
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
                self.is_down |= wait > BELIEVED_FOR;
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
    /// As long as Slack asks for.
    Asked(Duration),
    /// As long as failures have lasted asks for, and at least so long.
    Backoff(Option<Duration>),
}

fn asked(wait: Duration) -> Duration {
    wait.min(BELIEVED_FOR) + RETRY_AFTER_MARGIN
}

/// Between attempts while Slack fails: a second, doubling to fifteen, of which up to a half is jitter.
fn backoff() -> ExponentialBackoff {
    // The jitter adds up to as much again.
    ExponentialBuilder::new().with_max_delay(MAX_BACKOFF / 2).without_max_times().with_jitter().build()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(1);

    fn learn(clock: &mut Clock, answer: &Answer, taken: usize) -> (Reaction, Duration) {
        let now = Instant::now();
        let reaction = clock.learn(answer, taken, false, INTERVAL, now);
        (reaction, clock.next - now)
    }

    #[test]
    fn each_answer_has_its_reaction_and_its_pause() {
        let seconds = Duration::from_secs;
        let unavailable = |wait| Answer::ServerError("503 Service Unavailable".into(), wait);
        for (answer, reaction, least, most, is_down) in [
            (Answer::Accepted(None), Reaction::Deliver, INTERVAL, INTERVAL, false),
            (Answer::MessageGone("message_not_found".into()), Reaction::Gone, INTERVAL, INTERVAL, false),
            (Answer::RateLimited(Some(seconds(30))), Reaction::Retry, seconds(30), seconds(31), false),
            (Answer::RateLimited(Some(seconds(0))), Reaction::Retry, INTERVAL, INTERVAL, false),
            (Answer::RateLimited(Some(seconds(300))), Reaction::Retry, seconds(300), seconds(301), false),
            (Answer::RateLimited(Some(seconds(86_400))), Reaction::Retry, seconds(300), seconds(301), true),
            (Answer::RateLimited(None), Reaction::Retry, INTERVAL, seconds(2), true),
            (unavailable(Some(seconds(3_600))), Reaction::Retry, seconds(300), seconds(301), true),
            (unavailable(None), Reaction::Retry, INTERVAL, seconds(2), true),
            (unavailable(Some(seconds(60))), Reaction::Retry, seconds(60), seconds(61), true),
            (Answer::NetworkError("reset".into()), Reaction::Retry, INTERVAL, seconds(2), true),
            (Answer::TargetRefused("no_service".into()), Reaction::Divert, INTERVAL, seconds(2), true),
            (Answer::PayloadRefused("invalid_blocks".into()), Reaction::Split, INTERVAL, INTERVAL, false),
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
    fn a_rotated_secret_is_tried_at_the_next_turn() {
        let mut clock = Clock::new(Instant::now());
        let refused = Answer::TargetRefused("no_service".into());
        assert_eq!(clock.learn(&refused, 1, true, INTERVAL, Instant::now()), Reaction::Retry);
        assert!(!clock.is_down);
    }

    #[test]
    fn the_bad_alert_is_found_by_halves_and_tried_as_plain_text_last() {
        let refused = Answer::PayloadRefused("invalid_blocks".into());
        let mut clock = Clock::new(Instant::now());
        let mut sizes = Vec::new();
        // The bad one is the sixth of eight.
        let (mut before_bad, mut waiting) = (5, 8);
        loop {
            let is_plain = clock.suspects == Suspects::First;
            let taken = clock.suspects.limit(waiting);
            sizes.push(taken);
            let answer = if taken > before_bad { refused.clone() } else { Answer::Accepted(None) };
            match learn(&mut clock, &answer, taken).0 {
                Reaction::Deliver => (before_bad, waiting) = (before_bad - taken, waiting - taken),
                Reaction::Split => {}
                Reaction::Refuse => break assert!(is_plain),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(sizes, [8, 4, 2, 1, 1]);
        assert_eq!((clock.suspects, clock.is_down), (Suspects::None, true));
    }

    #[test]
    fn a_failure_keeps_the_search_for_the_bad_alert() {
        let mut clock = Clock::new(Instant::now());
        learn(&mut clock, &Answer::PayloadRefused("invalid_blocks".into()), 8);
        learn(&mut clock, &Answer::NetworkError("reset".into()), 4);
        assert_eq!(clock.suspects, Suspects::Among(8));
    }

    #[test]
    fn pauses_grow_to_a_quarter_of_a_minute() {
        let mut clock = Clock::new(Instant::now());
        let failed = Answer::NetworkError("reset".into());
        let pauses: Vec<Duration> = (0..10).map(|_| learn(&mut clock, &failed, 1).1).collect();
        assert!(pauses.iter().all(|pause| *pause <= MAX_BACKOFF), "{pauses:?}");
        assert!(pauses.last() >= Some(&(MAX_BACKOFF / 2)), "{pauses:?}");
    }
}
