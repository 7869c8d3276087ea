//! Mutes: alerts that nobody is to get for a time. Pure.
//!
//! The time of the event decides whether a mute holds, not the time at which it is handled. A message may be handled minutes or
//! hours after its event: while Slack is down, after a put-back, from the dead-letter queue. What a load test caused must stay
//! muted when it comes after the test, and an alert from before the test must be posted although the test has begun. It also
//! gives every attempt and every replica the same answer. An event without a time happened when it came.

use std::fmt;

use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

use super::pattern::Pattern;

/// One `[[mute]]` of the configuration.
#[derive(Debug, Clone)]
pub struct Mute {
    /// Its place in the configuration, from 0.
    pub place: usize,
    /// The events it holds.
    pub pattern: Pattern,
    /// The time of the first event that it holds; none: it holds all before `until`.
    pub from: Option<OffsetDateTime>,
    /// The time of the first event that it no longer holds; none: it never ends.
    pub until: Option<OffsetDateTime>,
    /// Why, in the words of who wrote it.
    pub reason: String,
}

/// How a mute stands at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is yet to begin.
    ToCome,
    /// It holds.
    Holds,
    /// It has ended.
    Ended,
}

impl Mute {
    /// How it stands at `time`.
    pub fn standing(&self, time: OffsetDateTime) -> Standing {
        if self.from.is_some_and(|from| time < from) {
            Standing::ToCome
        } else if self.until.is_some_and(|until| time >= until) {
            Standing::Ended
        } else {
            Standing::Holds
        }
    }
}

/// "mute[0] from 2026-12-01T20:00:00Z until 2026-12-02T06:00:00Z (load test)"
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

/// One line for each mute that holds at `now` or is to come.
pub fn list(mutes: &[Mute], now: OffsetDateTime) -> impl Iterator<Item = String> {
    mutes.iter().filter_map(move |mute| match mute.standing(now) {
        Standing::Holds => Some(format!("{mute}: holds now")),
        Standing::ToCome => Some(format!("{mute}: is to come")),
        Standing::Ended => None,
    })
}

fn utc(time: OffsetDateTime) -> String {
    let utc = time.checked_to_offset(UtcOffset::UTC).unwrap_or(time);
    utc.format(&Rfc3339).unwrap_or_else(|_| utc.to_string())
}
