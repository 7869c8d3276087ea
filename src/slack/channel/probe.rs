//! Tests whether Slack accepts messages in a channel again, while no alert comes for that channel.
//!
//! The probe is a message: no other request to Slack covers every reason for a refusal (a revoked webhook, an archived channel, a
//! bot that is not a member). While Slack refuses the channel, nobody sees the message. Once Slack accepts it, it tells readers in
//! which channels they find the alerts that were diverted.

use std::time::Duration;

use tokio::time::Instant;

use crate::slack::{
    message::{MAX_SECTION, Payload, Text},
    render::duration,
};

/// The time between the last attempt with an alert and the first probe.
const FIRST: Duration = Duration::from_secs(15);
/// The longest pause between two probes.
const LONGEST: Duration = Duration::from_secs(300);
/// A channel's name has at most 80 characters.
const MAX_NAME: usize = 80;

/// When the next probe is sent to a channel that Slack refuses.
#[derive(Debug)]
pub(in crate::slack) struct Probe {
    /// When Slack first refused it.
    since: Instant,
    /// When the next probe is due, if no alert comes before.
    pub(super) at: Instant,
    pause: Duration,
}

impl Probe {
    /// For a channel that Slack refuses since `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, at: now + FIRST, pause: FIRST }
    }

    /// Slack refused another attempt: the pause doubles.
    pub(super) fn postpone(&mut self, now: Instant) {
        self.pause = (self.pause * 2).min(LONGEST);
        self.at = now + self.pause;
    }

    /// The message that is sent. `fallbacks` are the channels that may have the diverted alerts, in their order.
    pub(super) fn message(&self, now: Instant, fallbacks: &[&str]) -> Payload {
        let mut text = Text::with_limit(MAX_SECTION);
        text.markup(":large_green_circle: Slack takes alerts here again, after refusing them for ");
        text.markup(&duration(now - self.since)).markup(". Those that came meanwhile ");
        for (index, name) in fallbacks.iter().enumerate() {
            text.markup(if index == 0 { "are in " } else { " or " });
            text.markup("#").external(name.trim_start_matches('#'), MAX_NAME);
        }
        text.markup(if fallbacks.is_empty() { "follow." } else { "." });
        Payload::plain(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_to_five_minutes() {
        let now = Instant::now();
        let mut probe = Probe::new(now);
        let mut pauses = vec![probe.at - now];
        for _ in 0..6 {
            probe.postpone(now);
            pauses.push(probe.at - now);
        }
        assert_eq!(pauses.iter().map(Duration::as_secs).collect::<Vec<_>>(), [15, 30, 60, 120, 240, 300, 300]);
    }

    #[test]
    fn the_message_says_where_the_alerts_are() {
        let now = Instant::now();
        let said = |fallbacks: &[&str]| Probe::new(now).message(now + Duration::from_secs(840), fallbacks).to_value();
        let begin = ":large_green_circle: Slack takes alerts here again, after refusing them for 14 min. Those that came meanwhile";
        assert_eq!(said(&[])["text"], format!("{begin} follow."));
        assert_eq!(said(&["#platform", "<!here>"])["text"], format!("{begin} are in #platform or #&lt;!here&gt;."));
    }
}
