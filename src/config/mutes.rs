//! The `[[mute]]` sections: which alerts are not posted, until when, and why.

use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use toml::Value;

use super::{
    reader::{Reader, quote},
    routes::parse_pattern,
};
use crate::{
    route::mute::{Mute, MuteState},
    text,
    webhook::SLACK_HOSTS,
};

/// Reads every mute, in order. Warns of those that ended before `now`.
pub(super) fn parse(root: &mut Reader<'_>, now: OffsetDateTime) -> Vec<Mute> {
    let sections = root.sections("mute").into_iter().enumerate();
    sections.filter_map(|(place, section)| parse_one(section, place, now)).collect()
}

fn parse_one(mut section: Reader<'_>, place: usize, now: OffsetDateTime) -> Option<Mute> {
    let pattern = match section.value("pattern") {
        Some(value) => parse_pattern(&section, value).map(|(pattern, _)| pattern),
        None => {
            section.fault("pattern", "is required: an EventBridge event pattern of the events to mute");
            None
        }
    };
    let from = section.value("from").map(|value| parse_time(&section, "from", value));
    let is_forever = matches!(section.peek("until"), Some(Value::String(text)) if text == "forever");
    let until = section.value("until").filter(|_| !is_forever).map(|value| parse_time(&section, "until", value));
    if until.is_none() && !is_forever {
        section.fault("until", "is required: when the mute ends, such as \"2026-12-02T06:00:00Z\", or \"forever\"");
    }
    let reason = parse_reason(&mut section);
    if let (Some(Some(from)), Some(Some(until))) = (from, until)
        && until <= from
    {
        section.fault("until", "is not later than from, so the mute would never apply");
    }
    let mute = match (pattern, from, until, reason) {
        (_, Some(None), ..) | (_, _, Some(None), _) => None,
        (Some(pattern), from, until, Some(reason)) => {
            Some(Mute { place, pattern, from: from.flatten(), until: until.flatten(), reason })
        }
        _ => None,
    };
    if is_forever {
        section.warn("until", "\"forever\" never ends: alerts that match are deleted until somebody removes the mute");
    }
    if let Some(mute) = mute.as_ref().filter(|mute| mute.state_at(now) == MuteState::Ended) {
        section.warn("", &format!("{mute} has ended, and mutes only events from before its end; remove it"));
    }
    section.finish();
    mute
}

/// A date and time with its offset from UTC, as a string or a TOML date.
fn parse_time(section: &Reader<'_>, key: &'static str, value: Value) -> Option<OffsetDateTime> {
    let text = match value {
        Value::String(text) => text,
        Value::Datetime(time) => time.to_string(),
        _ => {
            section.fault(key, "must be a string with a date, a time and an offset, such as \"2026-12-01T20:00:00Z\"");
            return None;
        }
    };
    let parsed = OffsetDateTime::parse(&text, &Rfc3339);
    let what = || {
        let or_forever = if key == "until" { ", or \"forever\"" } else { "" };
        format!(
            "{} is not a date, a time and an offset; write \"2026-12-01T20:00:00Z\" or \"2026-12-01T21:00:00+01:00\"{or_forever}",
            quote(&text)
        )
    };
    parsed.map_err(|_| section.fault(key, &what())).ok()
}

/// Reads the reason. It is logged with each muted alert, so it must not contain a secret.
fn parse_reason(section: &mut Reader<'_>) -> Option<String> {
    const MAX: usize = 200;
    let reason = section.string("reason", "");
    let reason = reason.map(|reason| reason.trim().to_owned()).filter(|reason| !reason.is_empty());
    let fault = match &reason {
        None => "is required: why these alerts are muted, for the log",
        Some(reason) if reason.chars().count() > MAX => "is too long; it may have 200 characters",
        Some(reason) if reason.contains(text::is_display_control) => "must be a single line of printable characters",
        Some(reason) if SLACK_HOSTS.iter().any(|host| reason.contains(host)) || reason.contains("xox") => {
            "holds a webhook or a token, and the reason is logged"
        }
        Some(_) => return reason,
    };
    section.fault("reason", fault);
    None
}
