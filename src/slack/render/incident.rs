//! The incident in the message that reports its alert. Pure.
//!
//! A message for an incident shows everything that the alert alone would show. It adds the incident's status: since when, how
//! many events, how many failed tasks.

use super::{Group, MAX_SECTION, NAME, dot, emoji, full, plain_text, single};
use crate::{
    cause::Category,
    slack::{
        message::{Payload, Text},
        report::{IncidentStatus, IncidentSummary, Report},
    },
};

/// How many causes are named. More than two are rare.
const CAUSES: usize = 5;

/// The message for one report: a new message, a reply, or the new content of a message.
pub fn message(report: &Report, account_name: Option<&str>) -> Payload {
    let payload = match &report.incident {
        None => single(&report.alert, account_name),
        Some(incident) => full(&Group { incident: Some(incident), ..Group::new(&report.alert, 0, 0) }, account_name),
    };
    mentioning(payload, [report])
}

/// One message for as many reports from the front as fit, and their number: at least one, unless there are no reports. All are
/// problems, or all are recoveries.
pub fn digest(reports: &[&Report], account_name: Option<&str>) -> (Payload, usize) {
    if let [report] = reports {
        return (message(report, account_name), 1);
    }
    let alerts: Vec<_> = reports.iter().map(|report| &*report.alert).collect();
    let is_recovery = reports.iter().any(|report| report.is_recovery());
    let (payload, taken) = super::digest::digest(&alerts, is_recovery, account_name);
    (mentioning(payload, reports.iter().take(taken).copied()), taken)
}

/// The last attempt after Slack refuses the blocks of a report.
pub fn plain(report: &Report, account_name: Option<&str>) -> Payload {
    mentioning(plain_text(&report.alert, account_name), [report])
}

/// Appends each mention once, even if several reports ask for it.
fn mentioning<'a>(mut payload: Payload, reports: impl IntoIterator<Item = &'a Report>) -> Payload {
    let mut added: Vec<&str> = Vec::new();
    for mention in reports.into_iter().filter_map(|report| report.mention.as_deref()).flat_map(|whom| whom.split(' ')) {
        if !added.contains(&mention) {
            added.push(mention);
            payload.append_text(&format!(" {mention}"));
        }
    }
    payload
}

/// "Still going on: 24 events since 14:02, 21 failed tasks"
pub(super) fn status_line(incident: &IncidentSummary) -> Text {
    const CLOCK: &str = "{date_short_pretty} {time}";
    let mut text = Text::with_limit(MAX_SECTION);
    let lead = match incident.status {
        // The first message needs no status line while there is only one event.
        IncidentStatus::Opened if incident.events < 2 => return text,
        IncidentStatus::Opened | IncidentStatus::Ongoing | IncidentStatus::Recovered => "",
        IncidentStatus::Reminder => ":hourglass_flowing_sand: Still going on: ",
        IncidentStatus::Reopened => ":repeat: It is back, soon after its recovery: ",
    };
    text.markup(lead).markup(&count(incident.events, "event")).markup(" since ").date(incident.since, CLOCK);
    if incident.last > incident.since {
        text.markup(", the last ").date(incident.last, CLOCK);
    }
    if incident.failed_tasks > 0 {
        dot(&mut text).markup(&count(incident.failed_tasks, "failed task"));
    }
    for (index, cause) in incident.causes.iter().take(CAUSES).enumerate().filter(|_| incident.causes.len() > 1) {
        let separator = if index == 0 { " · causes: " } else { ", " };
        text.markup(separator).external(cause.title(), NAME);
    }
    text
}

/// The colour of a message; `None` if the alert's severity decides.
pub(super) const fn color(incident: &IncidentSummary) -> Option<&'static str> {
    match incident.status {
        IncidentStatus::Recovered => Some("good"),
        _ => None,
    }
}

/// The sign at the beginning of a notification.
pub(super) const fn sign(incident: Option<&IncidentSummary>, severity: crate::alert::Severity) -> &'static str {
    match incident {
        Some(IncidentSummary { status: IncidentStatus::Recovered, .. }) => RECOVERED,
        _ => emoji(severity),
    }
}

/// The sign of a recovery.
pub(super) const RECOVERED: &str = ":large_green_circle:";

/// "1 event", "2 events"
pub fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// "40 s", "12 min", "3 h 5 min", "2 days 4 h"
pub fn duration(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |first: String, rest: u64, unit: &str| if rest > 0 { format!("{first} {rest} {unit}") } else { first };
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, ..) => two(format!("{hours} h"), minutes % 60, "min"),
        _ => two(count(days, "day"), hours % 24, "h"),
    }
}

/// "Image not found, Network unreachable"
pub fn titles(causes: &[Category]) -> String {
    causes.iter().take(CAUSES).map(|cause| cause.title()).collect::<Vec<_>>().join(", ")
}
