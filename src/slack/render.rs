//! Renders alerts as a message: one alert in full here, many alerts folded into a [`mod@digest`]. Pure.
//!
//! Invariant: every payload is within Slack's limits, whatever the alerts hold.

mod diagnosis;
mod digest;
mod incident;

use serde_json::Value;
use time::OffsetDateTime;

pub use self::incident::{count, digest, duration, message, plain, titles};
use super::message::{BLOCK, MAX_MESSAGE, MAX_SECTION, Payload, Text, context, section, visible};
use super::report::IncidentSummary;
use crate::alert::{Alert, Severity};
use crate::cause::Category;
use crate::event::Event;

// The limit of each part, in characters. Real alerts stay well under `MAX_MESSAGE`. If an alert exceeds it, the last parts are
// left out.

/// The notification.
const NOTIFICATION: usize = 700;
/// AWS's names have at most 255 characters. The rest is room for the marks of a code span.
const NAME: usize = 260;
const WHAT: usize = 300;
/// ECS's `stoppedReason` has at most 1,024 characters.
const REASON: usize = 1_200;
const REASON_LINES: usize = 8;
const HINT: usize = 600;
/// The description that an alarm's owner wrote. CloudWatch accepts 1,024 characters.
const NOTE: usize = 1_100;
const NOTE_LINES: usize = 8;
const FACTS: usize = 5;
/// The maximum number of tags, the same as in `diagnose.tags`.
const TAGS: usize = 5;
const LABEL: usize = 40;
const FACT: usize = 300;
/// The line about the channel that the alert is for: the channel's name (at most 80 characters), Slack's error code (at most 64), and
/// the words between them.
const CARRIED: usize = 200;
const ACCOUNT: usize = 100;
const REGION: usize = 40;
/// The grey line at the end: where and when.
const CONTEXT: usize = 800;
const LINKS: usize = 2_500;

/// The message for a single alert.
pub fn single(alert: &Alert, account_name: Option<&str>) -> Payload {
    full(&Group::new(alert, 0, 0), account_name)
}

/// An example of an alert's message, which Slack validates without posting it.
pub fn example() -> Payload {
    let event = r#"{"source":"aws.ecs","detail-type":"ECS Service Action","account":"123456789012","region":"eu-west-1",
        "time":"2026-01-01T00:00:00Z","resources":["arn:aws:ecs:eu-west-1:123456789012:service/example/checkout"],
        "detail":{"eventName":"SERVICE_TASK_START_IMPAIRED","reason":"An example that is not posted."}}"#;
    let event = Event::decode(event).ok().and_then(|events| events.into_iter().next());
    // The text above is valid, so this always finds an event.
    event.map_or_else(|| Payload::plain(Text::with_limit(0)), |event| single(&Alert::from_event(&event), None))
}

/// The last attempt after Slack refuses the blocks of an alert: short text without markup, of ASCII and letters only.
pub fn plain_text(alert: &Alert, account_name: Option<&str>) -> Payload {
    let simple = |text: &str, max: usize| -> String {
        text.chars().take(max).map(|c| if c.is_ascii() || c.is_alphanumeric() { c } else { '?' }).collect()
    };
    let mut text = Text::with_limit(MAX_SECTION);
    text.markup(emoji(alert.severity)).markup(" ");
    text.external(&simple(subject(alert), NAME), NAME).markup(" ").external(&simple(&alert.what, WHAT), WHAT);
    for (part, max) in where_parts(alert, account_name) {
        text.markup(", ").external(&simple(part, max), max);
    }
    if let Some(carried) = &alert.carried_for {
        text.markup(". ").external(&simple(carried, CARRIED), CARRIED);
    }
    if let Some(reason) = reason(alert) {
        text.markup(": ").external(&simple(reason, WHAT), WHAT);
    }
    // A truncated URL is worse than no URL.
    if let Some(link) = alert.links.first().filter(|link| link.url.len() < MAX_SECTION / 3) {
        text.markup(" ").external(&link.url, MAX_SECTION);
    }
    Payload::plain(text)
}

/// Alerts that differ only in their time.
struct Group<'a> {
    /// The latest one.
    alert: &'a Alert,
    count: usize,
    /// The incident of these alerts.
    incident: Option<&'a IncidentSummary>,
    first: Option<OffsetDateTime>,
    last: Option<OffsetDateTime>,
    /// Groups of the same severity, kind and cause have the same number: they can share a list.
    list: usize,
    /// Groups of the same list and place have the same number: they can share a line.
    place: usize,
}

impl<'a> Group<'a> {
    fn new(alert: &'a Alert, list: usize, place: usize) -> Self {
        Self { alert, count: 1, incident: None, first: alert.time, last: alert.time, list, place }
    }

    fn add(&mut self, alert: &'a Alert) {
        self.alert = alert;
        self.count += 1;
        self.first = self.first.into_iter().chain(alert.time).min();
        self.last = self.last.max(alert.time);
    }
}

/// The full message for one alert and its repeats, in this order: the subject and the problem; why, and what to do; AWS's text; the
/// rest.
fn full(group: &Group, account_name: Option<&str>) -> Payload {
    let alert = group.alert;
    let mut blocks = Vec::new();
    let mut room = MAX_MESSAGE;
    let mut add = |text: Text, block: fn(Text) -> Value| {
        let units = text.units() + BLOCK;
        if !text.is_empty() && units <= room {
            room -= units;
            blocks.push(block(text));
        }
    };

    let mut head = Text::with_limit(MAX_SECTION);
    head.markup("*").name(subject(alert), NAME).markup("* ").external(&alert.what, WHAT);
    add(head, section);

    let mut carried = Text::with_limit(CONTEXT);
    carried.external(alert.carried_for.as_deref().unwrap_or_default(), CARRIED);
    add(carried, context);

    add(diagnosis::why(alert), section);
    add(what_to_do(alert), section);
    if let Some(reason) = reason(alert) {
        let mut quote = Text::with_limit(MAX_SECTION);
        quote.quote(reason, REASON_LINES, REASON);
        add(quote, section);
    }
    if let Some(diagnosis) = &alert.diagnosis {
        add(diagnosis::log(diagnosis), section);
        add(diagnosis::change(diagnosis), section);
        add(diagnosis::state(diagnosis), section);
    }

    let mut facts = Text::with_limit(MAX_SECTION);
    for (label, value) in alert.facts.iter().filter(|(_, value)| !visible(value).is_empty()).take(FACTS) {
        if !facts.is_empty() {
            facts.markup("\n");
        }
        facts.external(label, LABEL).markup(": ").name(value, FACT);
    }
    add(facts, section);

    let mut tags = Text::with_limit(MAX_SECTION);
    for (key, value) in alert.shown_tags.iter().filter(|(_, value)| !visible(value).is_empty()).take(TAGS) {
        if !tags.is_empty() {
            tags.markup("\n");
        }
        tags.external(key, LABEL).markup(": ");
        // An address is a link that shows its target; anything else stays text.
        if value.starts_with("https://") {
            tags.linking(value, FACT)
        } else {
            tags.name(value, FACT)
        };
    }
    add(tags, section);

    add(group.incident.map(incident::status_line).unwrap_or(Text::with_limit(0)), context);
    let mut below = Text::with_limit(CONTEXT);
    where_and_when(&mut below, group, account_name);
    add(below, context);

    let mut links = Text::with_limit(LINKS);
    for link in &alert.links {
        let mut next = links.clone();
        if dot(&mut next).link(&link.url, link.page.label(), LABEL) {
            links = next;
        }
    }
    add(links, section);

    let mut text = Text::with_limit(NOTIFICATION);
    let sign = incident::sign(group.incident, alert.severity);
    text.markup(sign).markup(" ").name(subject(alert), NAME).markup(" ").external(&alert.what, WHAT);
    title(&mut text, alert);
    if group.count > 1 {
        text.markup(&format!(" ({} times)", group.count));
    }
    let color = group.incident.and_then(incident::color).unwrap_or(color(alert.severity));
    Payload::new(text, color, blocks)
}

/// The advice, the commands to copy, and the description that the alarm's owner wrote.
fn what_to_do(alert: &Alert) -> Text {
    let mut text = Text::with_limit(MAX_SECTION);
    if let Some(advice) = present(alert.advice.as_deref()) {
        text.external(advice, HINT);
    }
    for command in &alert.commands {
        text.command(command);
    }
    let note = alert.note.as_deref().unwrap_or_default().lines().filter(|line| !visible(line).is_empty());
    let end = text.units() + NOTE;
    for line in note.take(NOTE_LINES) {
        if !text.is_empty() {
            text.markup("\n");
        }
        let room = end.saturating_sub(text.units());
        text.linking(line, room);
    }
    text
}

/// " — Image not found", unless the sentence before it already contains it.
fn title(text: &mut Text, alert: &Alert) {
    let Some(category) = alert.cause.as_ref().map(|cause| cause.category) else { return };
    let repeated = REPEATED_TITLES.iter().find(|(of, phrase, _)| *of == category && alert.what.contains(phrase));
    let title = repeated.map_or(category.title(), |(_, _, rest)| rest);
    if !title.is_empty() {
        text.markup(" — ").external(title, LABEL);
    }
}

/// Phrases of [`Alert::what`] that repeat a category's title, and the part of the title that is still new beside each.
const REPEATED_TITLES: &[(Category, &str, &str)] = &[
    (Category::Spot, "Spot interruption", ""),
    (Category::User, "by a user", ""),
    (Category::RoutineScaling, "by the service scheduler", ""),
    (Category::HealthCheckLb, "health check", "load balancer"),
    (Category::HealthCheckContainer, "health check", "container"),
    (Category::Capacity, "place a task", "no capacity"),
    (Category::Crash, "exited with code", ""),
    (Category::Crash, "exit code", ""),
    (Category::Completed, "exited with code 0", ""),
    (Category::Completed, "exit code 0", ""),
    (Category::Deployment, "tasks failed to start", ""),
    (Category::HostGone, "infrastructure is impaired", ""),
    (Category::Agent, "agent disconnected", ""),
    (Category::Agent, "agent connectivity", ""),
];

/// "example-cluster · platform · eu-west-1 · 3 minutes ago"
fn where_and_when(text: &mut Text, group: &Group, account_name: Option<&str>) {
    for (part, max) in where_parts(group.alert, account_name) {
        dot(text).name(part, max);
    }
    if group.count > 1 {
        dot(text).markup(&format!("{} times", group.count));
    }
    span(text, group.first, group.last);
}

fn where_parts<'a>(alert: &'a Alert, account_name: Option<&'a str>) -> impl Iterator<Item = (&'a str, usize)> {
    let account = account_name.or(alert.account.as_deref());
    [(alert.cluster.as_deref(), NAME), (account, ACCOUNT), (alert.region.as_deref(), REGION)]
        .into_iter()
        .filter_map(|(part, max)| Some((present(part)?, max)))
}

/// A single time as its age, which stays correct when it is read hours later; two times as clock times.
fn span(text: &mut Text, first: Option<OffsetDateTime>, last: Option<OffsetDateTime>) {
    const CLOCK: &str = "{date_short_pretty} {time_secs}";
    match (first, last) {
        (Some(first), Some(last)) if first != last => {
            dot(text).markup("first ").date(first, CLOCK).markup(", last ").date(last, CLOCK);
        }
        (Some(time), _) => {
            dot(text).date(time, "{ago}");
        }
        _ => {}
    }
}

fn dot(text: &mut Text) -> &mut Text {
    let separator = if text.is_empty() { "" } else { " · " };
    text.markup(separator)
}

fn subject(alert: &Alert) -> &str {
    present(Some(&alert.subject)).unwrap_or(&alert.kind)
}

fn reason(alert: &Alert) -> Option<&str> {
    present(alert.reason.as_deref())
}

fn present(text: Option<&str>) -> Option<&str> {
    text.map(visible).filter(|text| !text.is_empty())
}

const fn emoji(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => ":information_source:",
        Severity::Warning | Severity::Critical => ":rotating_light:",
    }
}

const fn color(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "#439FE0",
        Severity::Warning => "warning",
        Severity::Critical => "danger",
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
