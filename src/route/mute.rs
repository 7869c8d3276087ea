//! Mutes: alerts that are not posted for some time. Pure.
//!
//! The time of the event decides whether a mute holds, not the time at which the event is handled. A message may be handled minutes or
//! hours after its event: while Slack is down, after a put-back, from the dead-letter queue. An alert that a load test caused must stay
//! muted even if it is handled after the test. An alert from before the test must be posted even if it is handled during the test. So
//! every attempt and every replica has the same result. If an event has no time, the time at which it is handled decides.

use std::fmt;

use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

use super::pattern::Pattern;

/// One `[[mute]]` of the configuration.
#[derive(Debug, Clone)]
pub struct Mute {
    /// Its index in the configuration, from 0.
    pub place: usize,
    /// The events it holds.
    pub pattern: Pattern,
    /// It holds events from this time on. `None`: it holds all events before `until`.
    pub from: Option<OffsetDateTime>,
    /// It holds events before this time. `None`: it never ends.
    pub until: Option<OffsetDateTime>,
    /// Why, as the configuration says.
    pub reason: String,
}

/// The state of a mute at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MuteState {
    /// It has not begun.
    Pending,
    /// It holds.
    Active,
    /// It has ended.
    Ended,
}

impl Mute {
    /// Its state at `time`.
    pub fn state_at(&self, time: OffsetDateTime) -> MuteState {
        if self.from.is_some_and(|from| time < from) {
            MuteState::Pending
        } else if self.until.is_some_and(|until| time >= until) {
            MuteState::Ended
        } else {
            MuteState::Active
        }
    }
}

/// `mute[0] from 2026-12-01T20:00:00Z until 2026-12-02T06:00:00Z (load test)`
impl fmt::Display for Mute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mute[{}]", self.place)?;
        if let Some(from) = self.from {
            write!(f, " from {}", utc(from))?;
        }
        match self.until {
            Some(until) => write!(f, " until {}", utc(until))?,
            None => f.write_str(" forever")?,
        }
        write!(f, " ({})", self.reason)
    }
}

/// One line for each mute that holds at `now` or begins later.
pub fn list(mutes: &[Mute], now: OffsetDateTime) -> impl Iterator<Item = String> {
    mutes.iter().filter_map(move |mute| match mute.state_at(now) {
        MuteState::Active => Some(format!("{mute}: holds now")),
        MuteState::Pending => Some(format!("{mute}: begins later")),
        MuteState::Ended => None,
    })
}

fn utc(time: OffsetDateTime) -> String {
    let utc = time.checked_to_offset(UtcOffset::UTC).unwrap_or(time);
    utc.format(&Rfc3339).unwrap_or_else(|_| utc.to_string())
}
