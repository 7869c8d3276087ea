//! Many alerts in one message.
//!
//! Invariant: every service whose alert is taken is named; what does not fit is left for the next message, never summarised.

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

/// Beyond so many groups, services with the same trouble share a list.
const MAX_SECTIONS: usize = 20;
/// Lists in one digest. Each is a section; a long one goes on in another, which happens six times at most: a section is left
/// only when fewer characters remain in it than an entry and its place can take, so `MAX_MESSAGE` does not fill more. With the
/// line below that stays under `MAX_BLOCKS`.
const MAX_LISTS: usize = 40;
/// A linked entry of a list; a longer one is not linked.
const ENTRY: usize = NAME + 400;
/// "*12345 services:* each " in a list's heading.
const LIST_COUNT: usize = 32;
/// The grey line below a digest's lists.
const LISTS_CONTEXT: usize = 400;
/// What lists need beside what is reckoned for each alert: that line, and the sections in which long lists go on.
const LISTS_RESERVE: usize = LISTS_CONTEXT + 7 * BLOCK;
/// What is wrong, in a list's heading.
const WHAT_IN_LIST: usize = 150;
/// A reason in a digest is one line of so many characters; of fewer, if the sections would not fit.
const REASON_IN_DIGEST: [usize; 2] = [160, 60];
/// What is left of names in a notification that lists several.
const NOTIFIED_NAME: usize = 80;

/// One message for as many alerts from the front (oldest first) as fit, and how many that is: at least one, if there is one.
///
/// Repeats are folded. Up to about twenty groups of alerts get a section each; more are listed by kind and cause, with links as
/// far as there is room. What does not fit is not taken, so it can lead the next message.
pub(super) fn digest(alerts: &[&Alert], is_recovery: bool, account_name: Option<&str>) -> (Payload, usize) {
    let shared = Shared::of(alerts, account_name);
    let Fold { mut groups, taken, spare } = fold(alerts, &shared);
    if let [group] = groups.as_slice()
        && !is_recovery
    {
        return (full(group, account_name), taken);
    }
    // What matters most comes first; among equals, what came first.
    groups.sort_by_key(|group| (Reverse(group.alert.severity), group.list, group.place));
    let blocks = sections(&groups, account_name).unwrap_or_else(|| lists(&groups, &shared, spare));
    let worst = groups.first().map_or(Severity::Info, |group| group.alert.severity);
    let color = if is_recovery { "good" } else { color(worst) };
    (Payload::new(notification(&groups, worst, is_recovery), color, blocks), taken)
}

/// What all alerts have in common is said once, below the lists, and not at each place in them.
struct Shared<'a> {
    account: Option<&'a str>,
    region: Option<&'a str>,
}

impl<'a> Shared<'a> {
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

/// Lists are the shortest layout, so what is taken is what fits into them. Each alert's cost is reckoned as it is added, which
/// keeps this linear.
fn fold<'a>(alerts: &[&'a Alert], shared: &Shared<'a>) -> Fold<'a> {
    let mut lists = HashMap::new();
    let mut lines = HashMap::new();
    let mut index: HashMap<(usize, &str), usize> = HashMap::new();
    let mut fold = Fold { groups: Vec::new(), taken: 0, spare: MAX_MESSAGE - LISTS_RESERVE };
    for &alert in alerts {
        let mut cost = 0;
        let category = alert.cause.as_ref().map(|cause| cause.category.as_str());
        // Those for another channel have lists of their own, below the line that says so.
        let list = number(&mut lists, (alert.severity, alert.kind.as_str(), category, &alert.carried_for), || {
            let heading = [&alert.what, &alert.kind].map(|what| heading(alert, what).units());
            cost += heading[0].max(heading[1]) + carried(alert).units() + LIST_COUNT + BLOCK;
        });
        let (cluster, account, region) = (&alert.cluster, &alert.account, &alert.region);
        let place = number(&mut lines, (list, cluster, account, region), || cost += 1 + shared.label(alert).units());
        let known = index.get(&(place, alert.subject.as_str())).copied();
        match known.and_then(|known| fold.groups.get(known)) {
            Some(group) => cost += times(group.count + 1).len() - times(group.count).len(),
            None => cost += 2 + entry(alert, 1).units(),
        }
        if list == MAX_LISTS || (cost > fold.spare && fold.taken > 0) {
            break;
        }
        match known.and_then(|known| fold.groups.get_mut(known)) {
            Some(group) => group.add(alert),
            None => {
                index.insert((place, &alert.subject), fold.groups.len());
                fold.groups.push(Group::new(alert, list, place));
            }
        }
        fold.spare = fold.spare.saturating_sub(cost);
        fold.taken += 1;
    }
    fold
}

/// The number of this key: a new one gets the next, and `new` is called.
fn number<K: Hash + Eq>(numbers: &mut HashMap<K, usize>, key: K, new: impl FnOnce()) -> usize {
    let next = numbers.len();
    *numbers.entry(key).or_insert_with(|| {
        new();
        next
    })
}

/// A section for each group, if there are few enough and they fit, if need be with less of ECS's words.
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

/// The line that says for which channel it is; nothing where it is for this one.
fn carried(alert: &Alert) -> Text {
    let mut text = Text::with_limit(CARRIED + 1);
    if let Some(line) = &alert.carried_for {
        text.markup("\n").external(line, CARRIED);
    }
    text
}

/// Every group's name, listed by trouble and place. What `fold` left spare goes into links.
fn lists(groups: &[Group], shared: &Shared, mut spare: usize) -> Vec<Value> {
    let mut blocks = Vec::new();
    for list in groups.chunk_by(|a, b| a.list == b.list) {
        let mut text = list_heading(list);
        for line in list.chunk_by(|a, b| a.place == b.place) {
            let mut separator = "\n";
            let mut label = line.first().map(|group| shared.label(group.alert));
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
    for (part, max) in [(shared.account, ACCOUNT), (shared.region, REGION)] {
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

/// "23 services: each is unable to … — Image not found". Where ECS's words differ, the event's name stands for them.
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

/// What a phone shows of a digest: how many are in trouble, and as many names as one can read there.
fn notification(groups: &[Group], worst: Severity, is_recovery: bool) -> Text {
    let mut seen = HashSet::new();
    // The groups are sorted, so the routine ones are a tail that says nothing of trouble.
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
