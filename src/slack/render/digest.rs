//! Many alerts in one message.
//!
//! Invariant: the message names every service whose alert it takes. Alerts that do not fit are left for the next message, and
//! never summarised.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use serde_json::Value;

use super::{
    ACCOUNT, CARRIED, CONTEXT, Group, NAME, NOTIFICATION, REGION, WHAT, color, dot, emoji, full, incident::RECOVERED,
    present, reason, span, subject, title, where_and_when,
};
use crate::alert::{Alert, Severity};
use crate::slack::message::{BLOCK, MAX_MESSAGE, MAX_SECTION, Payload, Text, context, section};

/// With more groups than this, services with the same problem share a list.
const MAX_SECTIONS: usize = 20;
/// Lists in one digest. Each is a section. A long list continues in another section, at most six times: a section ends only if
/// fewer characters remain than an entry and its place can need, so `MAX_MESSAGE` fills no more sections. With the line below
/// the lists, this stays under `MAX_BLOCKS`.
const MAX_LISTS: usize = 40;
/// A linked entry of a list; a longer one is not linked.
const ENTRY: usize = NAME + 400;
/// "*12345 services:* each " in a list's heading.
const LIST_COUNT: usize = 32;
/// The grey line below a digest's lists.
const LISTS_CONTEXT: usize = 400;
/// Characters that lists need besides the cost of each alert: that line, and the sections in which long lists continue.
const LISTS_RESERVE: usize = LISTS_CONTEXT + 7 * BLOCK;
/// The description of the problem in a list's heading.
const WHAT_IN_LIST: usize = 150;
/// The length of a reason in a digest, which is one line: the second limit applies if the sections do not fit with the first.
const REASON_IN_DIGEST: [usize; 2] = [160, 60];
/// The length of each name in a notification that lists several.
const NOTIFIED_NAME: usize = 80;

/// One message for as many alerts from the front (oldest first) as fit, and their number: at least one, unless there are no
/// alerts.
///
/// Repeats are folded. Up to about twenty groups of alerts get a section each. More groups are listed by kind and cause, with
/// links while there is room. Alerts that do not fit are not taken, so they can lead the next message.
pub(super) fn digest(alerts: &[&Alert], is_recovery: bool, account_name: Option<&str>) -> (Payload, usize) {
    let common = Common::of(alerts, account_name);
    let Fold { mut groups, taken, spare } = fold(alerts, &common);
    if let [group] = groups.as_slice()
        && !is_recovery
    {
        return (full(group, account_name), taken);
    }
    // The most severe groups first, then the oldest.
    groups.sort_by_key(|group| (Reverse(group.alert.severity), group.list, group.place));
    let blocks = sections(&groups, account_name).unwrap_or_else(|| lists(&groups, &common, spare));
    let worst = groups.first().map_or(Severity::Info, |group| group.alert.severity);
    let color = if is_recovery { "good" } else { color(worst) };
    (Payload::new(notification(&groups, worst, is_recovery), color, blocks), taken)
}

/// The account and Region, if all alerts have the same: shown once, below the lists, and not at each place in them.
struct Common<'a> {
    account: Option<&'a str>,
    region: Option<&'a str>,
}

impl<'a> Common<'a> {
    fn of(alerts: &[&'a Alert], account_name: Option<&'a str>) -> Self {
        let same = |field: fn(&'a Alert) -> Option<&'a str>| {
            let first = field(alerts.first()?);
            first.filter(|_| alerts.iter().all(|alert| field(alert) == first))
        };
        let account = account_name.or_else(|| same(|alert| alert.account.as_deref()));
        Self { account, region: same(|alert| alert.region.as_deref()) }
    }

    fn label(&self, alert: &Alert) -> Text {
        let mut label = Text::with_limit(CONTEXT);
        if let Some(cluster) = present(alert.cluster.as_deref()) {
            label.markup("*").name(cluster, NAME).markup("*");
        }
        let account = alert.account.as_deref().filter(|_| self.account.is_none());
        let region = alert.region.as_deref().filter(|_| self.region.is_none());
        for (part, max) in [(account, ACCOUNT), (region, REGION)] {
            if let Some(part) = present(part) {
                dot(&mut label).name(part, max);
            }
        }
        if !label.is_empty() {
            label.markup(": ");
        }
        label
    }
}

/// Alerts from the front, folded into as many groups as their lists can name.
struct Fold<'a> {
    groups: Vec<Group<'a>>,
    taken: usize,
    /// Characters that the lists would leave for links.
    spare: usize,
}

/// Lists are the shortest layout, so this takes as many alerts as fit into lists. The cost of each alert is computed when it is
/// added, so the whole is linear.
fn fold<'a>(alerts: &[&'a Alert], common: &Common<'a>) -> Fold<'a> {
    let mut lists = Numbers::new();
    let mut places = Numbers::new();
    let mut subjects = Numbers::new();
    let mut fold = Fold { groups: Vec::new(), taken: 0, spare: MAX_MESSAGE - LISTS_RESERVE };
    for &alert in alerts {
        // Alerts for another channel have their own lists, below the line that names that channel.
        let category = alert.cause.as_ref().map(|cause| cause.category.as_str());
        let list = lists.of((alert.severity, alert.kind.as_str(), category, &alert.carried_for));
        let place = places.of((list.number, &alert.cluster, &alert.account, &alert.region));
        let subject = subjects.of((place.number, alert.subject.as_str()));

        let known = fold.groups.get(subject.number);
        let cost = [
            if list.is_new { list_cost(alert) } else { 0 },
            if place.is_new { 1 + common.label(alert).units() } else { 0 },
            known.map_or_else(
                || 2 + entry(alert, 1).units(),
                |group| times(group.count + 1).len() - times(group.count).len(),
            ),
        ];
        let cost: usize = cost.into_iter().sum();
        if list.number == MAX_LISTS || (cost > fold.spare && fold.taken > 0) {
            break;
        }
        match fold.groups.get_mut(subject.number) {
            Some(group) => group.add(alert),
            None => fold.groups.push(Group::new(alert, list.number, place.number)),
        }
        fold.spare = fold.spare.saturating_sub(cost);
        fold.taken += 1;
    }
    fold
}

/// Characters of a new list besides its entries: the longer of its two possible headings, and the block.
fn list_cost(alert: &Alert) -> usize {
    let headings = [&alert.what, &alert.kind].map(|what| heading(alert, what).units());
    headings[0].max(headings[1]) + carried(alert).units() + LIST_COUNT + BLOCK
}

/// Numbers keys in the order of their first use.
struct Numbers<K>(HashMap<K, usize>);

/// The number of a key.
struct Numbered {
    number: usize,
    is_new: bool,
}

impl<K: Hash + Eq> Numbers<K> {
    fn new() -> Self {
        Self(HashMap::new())
    }

    fn of(&mut self, key: K) -> Numbered {
        let next = self.0.len();
        let number = *self.0.entry(key).or_insert(next);
        Numbered { number, is_new: number == next }
    }
}

/// A section for each group, if there are few enough and they fit, with shorter reasons if necessary.
fn sections(groups: &[Group], account_name: Option<&str>) -> Option<Vec<Value>> {
    if groups.len() > MAX_SECTIONS {
        return None;
    }
    let texts = REASON_IN_DIGEST.into_iter().find_map(|max| {
        let texts: Vec<Text> = groups.iter().map(|group| brief(group, max, account_name)).collect();
        let units: usize = texts.iter().map(|text| text.units() + BLOCK).sum();
        (units <= MAX_MESSAGE).then_some(texts)
    });
    texts.map(|texts| texts.into_iter().map(section).collect())
}

fn brief(group: &Group, reason_max: usize, account_name: Option<&str>) -> Text {
    let alert = group.alert;
    let mut text = Text::with_limit(MAX_SECTION);
    text.markup("*");
    let linked = alert.links.first().is_some_and(|link| text.link(&link.url, subject(alert), NAME));
    if !linked {
        text.name(subject(alert), NAME);
    }
    text.markup("* ").external(&alert.what, WHAT);
    title(&mut text, alert);
    if let Some(reason) = reason(alert) {
        text.markup("\n").quote(reason, 1, reason_max);
    }
    let mut below = Text::with_limit(CONTEXT);
    where_and_when(&mut below, group, account_name);
    if !below.is_empty() {
        text.markup("\n").append(&below);
    }
    text.append(&carried(alert));
    text
}

/// The line that names the channel that the alert is for; empty if that is this channel.
fn carried(alert: &Alert) -> Text {
    let mut text = Text::with_limit(CARRIED + 1);
    if let Some(line) = &alert.carried_for {
        text.markup("\n").external(line, CARRIED);
    }
    text
}

/// Every group's name, listed by problem and place. The characters that `fold` left are used for links.
fn lists(groups: &[Group], common: &Common, mut spare: usize) -> Vec<Value> {
    let mut blocks = Vec::new();
    for list in groups.chunk_by(|a, b| a.list == b.list) {
        let mut text = list_heading(list);
        for line in list.chunk_by(|a, b| a.place == b.place) {
            let mut separator = "\n";
            let mut label = line.first().map(|group| common.label(group.alert));
            for group in line {
                let mut entry = entry(group.alert, group.count);
                if let Some(linked) = linked_entry(group).filter(|linked| linked.units() - entry.units() <= spare) {
                    spare -= linked.units() - entry.units();
                    entry = linked;
                }
                let label = label.take().unwrap_or(Text::with_limit(0));
                if separator.len() + label.units() + entry.units() > text.room() {
                    blocks.push(section(std::mem::replace(&mut text, Text::with_limit(MAX_SECTION))));
                    separator = "";
                }
                text.markup(separator).append(&label).append(&entry);
                separator = ", ";
            }
        }
        blocks.push(section(text));
    }

    let mut below = Text::with_limit(LISTS_CONTEXT);
    for (part, max) in [(common.account, ACCOUNT), (common.region, REGION)] {
        if let Some(part) = present(part) {
            dot(&mut below).name(part, max);
        }
    }
    let first = groups.iter().filter_map(|group| group.first).min();
    let last = groups.iter().filter_map(|group| group.last).max();
    span(&mut below, first, last);
    if !below.is_empty() {
        blocks.push(context(below));
    }
    blocks
}

/// "23 services: each is unable to … — Image not found". If the descriptions differ, the event's name replaces them.
fn list_heading(list: &[Group]) -> Text {
    let mut text = Text::with_limit(MAX_SECTION);
    let Some(first) = list.first().map(|group| group.alert) else {
        return text;
    };
    let same = list.iter().all(|group| group.alert.what == first.what);
    let services = if list.len() == 1 { "service:*" } else { "services:*" };
    let each = if list.len() > 1 && same { " each" } else { "" };
    text.markup(&format!("*{} {services}{each} ", list.len()));
    text.append(&heading(first, if same { &first.what } else { &first.kind })).append(&carried(first));
    text
}

fn heading(alert: &Alert, what: &str) -> Text {
    let mut text = Text::with_limit(MAX_SECTION);
    text.external(what, WHAT_IN_LIST);
    title(&mut text, alert);
    text
}

fn entry(alert: &Alert, count: usize) -> Text {
    let mut text = Text::with_limit(ENTRY);
    text.name(subject(alert), NAME).markup(&times(count));
    text
}

fn linked_entry(group: &Group) -> Option<Text> {
    let link = group.alert.links.first()?;
    let times = times(group.count);
    let mut text = Text::with_limit(ENTRY);
    let whole = text.link(&link.url, subject(group.alert), NAME) && times.len() <= text.room();
    text.markup(&times);
    whole.then_some(text)
}

fn times(count: usize) -> String {
    if count > 1 { format!(" ×{count}") } else { String::new() }
}

/// The notification of a digest: how many services have a problem, and as many names as fit.
fn notification(groups: &[Group], worst: Severity, is_recovery: bool) -> Text {
    let mut seen = HashSet::new();
    // The groups are sorted, so the routine ones come last and are no problems.
    let names: Vec<&str> = groups
        .iter()
        .map(|group| group.alert)
        .filter(|alert| alert.severity > Severity::Info || worst == Severity::Info)
        .filter(|alert| seen.insert((&alert.subject, &alert.cluster, &alert.account, &alert.region)))
        .map(subject)
        .collect();
    let services = match (names.len(), worst) {
        (1, _) if is_recovery => "service has recovered",
        _ if is_recovery => "services have recovered",
        (1, Severity::Info) => "service",
        (_, Severity::Info) => "services",
        (1, _) => "service is in trouble",
        _ => "services are in trouble",
    };
    let mut text = Text::with_limit(NOTIFICATION);
    let sign = if is_recovery { RECOVERED } else { emoji(worst) };
    text.markup(&format!("{sign} {} {services}: ", names.len()));
    for (i, name) in names.iter().enumerate() {
        if i > 0 {
            text.markup(", ");
        }
        if text.room() < NOTIFIED_NAME + 3 {
            text.markup("…");
            break;
        }
        text.name(name, NOTIFIED_NAME);
    }
    text
}
