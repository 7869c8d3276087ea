//! The `[[route]]` sections: which alerts go to which channel, and warnings for routes that can never take effect.

use std::sync::Arc;

use toml::Value;

use super::{
    Channel, mentions,
    reader::{Reader, quote},
};
use crate::route::{ChannelId, Route, mention::Mention, pattern::Pattern};

/// Reads every route, in order. If the file has none, there is one, which leads to the only channel.
pub(super) fn parse(root: &mut Reader<'_>, channels: &[Channel]) -> Vec<Route> {
    let sections = root.sections("route");
    let is_dropped = root.choice("unrouted", "", &[("drop", ())]).is_some();
    let nothing = mentions::MentionKeys { whom: None, from: None };
    if sections.is_empty() {
        if channels.len() > 1 {
            root.fault("route", "there are several channels and no [[route]]; say which alerts go where");
        }
        let mention = mention(&nothing, channels.first());
        return vec![Route { channel: ChannelId(0), pattern: None, proceed: false, mention }];
    }
    let names = channels.iter().map(|channel| quote(&channel.name)).collect::<Vec<_>>().join(", ");
    let mut routes = Vec::new();
    let mut takers = Vec::new();
    let mut takes_the_rest = false;
    for (index, mut section) in sections.into_iter().enumerate() {
        let channel = match section.string("channel", "") {
            None => {
                section.fault("channel", &format!("is required: one of {names}"));
                None
            }
            Some(name) => {
                let index = channels.iter().position(|channel| channel.name == name).map(ChannelId);
                if index.is_none() {
                    section.fault("channel", &format!("{} is not a channel; there are {names}", quote(&name)));
                }
                index
            }
        };
        let value = section.value("pattern");
        takes_the_rest |= value.is_none();
        let parsed = value.clone().and_then(|value| parse_pattern(&section, value));
        let (pattern, taken) = match parsed {
            Some((pattern, json)) => (Some(pattern), Taken::Pattern(json)),
            None => (None, Taken::Problems),
        };
        let proceed = section.boolean("continue", false);
        // It is unknown which events a faulty pattern would match.
        if value.is_none() || pattern.is_some() {
            if let Some(warning) = takers.iter().find_map(|(earlier, before)| taken.warning_after(before, *earlier)) {
                section.warn("", &warning);
            }
            if !proceed {
                takers.push((index, taken));
            }
        }
        let given = mentions::parse(&mut section);
        let mention = mention(&given, channel.and_then(|channel| channels.get(channel.0)));
        if given.from.is_some() && mention.is_none() {
            section.warn("mention_from", "has no effect: neither this route nor its channel has a mention");
        }
        section.finish();
        routes.push(Route { channel: channel.unwrap_or_default(), pattern, proceed, mention });
    }
    if !takes_the_rest && !is_dropped {
        root.fault(
            "route",
            "each has a pattern, so an alert that matches none of them, perhaps because of a spelling mistake, would be deleted; add a \
             last [[route]] with a channel and no pattern, or write unrouted = \"drop\" at the top of the file to delete such \
             alerts",
        );
    }
    for (index, channel) in channels.iter().enumerate() {
        let id = ChannelId(index);
        let is_fallback = channels.iter().any(|channel| channel.fallback == Some(id));
        if !is_fallback && !routes.iter().any(|route| route.channel == id) {
            let name = quote(&channel.name);
            root.warn("channel", &format!("no [[route]] leads to {name}, so nothing is ever posted there"));
        }
    }
    routes
}

/// Whom a route's alerts mention: its own keys, else those of its channel.
fn mention(given: &mentions::MentionKeys, channel: Option<&Channel>) -> Option<Arc<Mention>> {
    let channel = channel?;
    let whom = given.whom.clone().or_else(|| channel.mention.clone()).filter(|whom| !whom.is_empty())?;
    Some(Arc::new(Mention { whom, from: given.from.unwrap_or(channel.mention_from) }))
}

/// The events that a route takes.
enum Taken {
    /// Without a pattern: every event whose severity is `warning` or worse.
    Problems,
    /// The events that this pattern matches, whatever their severity.
    Pattern(serde_json::Value),
}

impl Taken {
    /// The warning for a route after the route number `earlier`, which takes the events `before` and does not continue.
    fn warning_after(&self, before: &Self, earlier: usize) -> Option<String> {
        match (before, self) {
            (Self::Problems, Self::Problems) => Some(format!(
                "never takes an event: route[{earlier}] takes every problem before it; give that one a pattern, or \
                 `continue = true`"
            )),
            (Self::Problems, Self::Pattern(_)) => Some(format!(
                "takes only events that are not problems (severity info): route[{earlier}] has no pattern and takes every \
                 warning and critical event before it; move this route up, or give that one `continue = true`"
            )),
            (Self::Pattern(before), Self::Pattern(pattern)) if covers(before, pattern) => Some(format!(
                "never takes an event: route[{earlier}] takes whatever this pattern matches before it; move this route up, or \
                 give that one `continue = true`"
            )),
            _ => None,
        }
    }
}

/// True only if `wide` matches every event that `narrow` matches. It compares the patterns as they are written, so it can be false
/// although `wide` matches all these events: for example, if operators with different names or operands overlap.
fn covers(wide: &serde_json::Value, narrow: &serde_json::Value) -> bool {
    // In an array of objects, `exists: false` matches more when other fields of the same object are required too.
    wide == narrow || (!requires_absence(wide) && requires_no_more(wide, narrow))
}

/// Fields are joined by "and", so fewer fields match more; values are joined by "or", so more values match more.
fn requires_no_more(wide: &serde_json::Value, narrow: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Object};
    match (wide, narrow) {
        (Object(wide), Object(narrow)) => {
            wide.iter().all(|(name, wide)| narrow.get(name).is_some_and(|narrow| requires_no_more(wide, narrow)))
        }
        (Array(wide), Array(narrow)) => narrow.iter().all(|value| wide.contains(value)),
        _ => wide == narrow,
    }
}

fn requires_absence(pattern: &serde_json::Value) -> bool {
    match pattern {
        serde_json::Value::Object(fields) => {
            fields.iter().any(|(name, value)| (name == "exists" && value == false) || requires_absence(value))
        }
        serde_json::Value::Array(values) => values.iter().any(requires_absence),
        _ => false,
    }
}

/// Reads a pattern: a TOML table, or a string of JSON. TOML has no `null`, and a rule's pattern can be pasted as JSON.
pub(super) fn parse_pattern(section: &Reader<'_>, value: Value) -> Option<(Pattern, serde_json::Value)> {
    let json = match &value {
        value if has_date(value) => Err("holds a TOML date; write it as a string".into()),
        Value::String(text) => {
            serde_json::from_str(text).map_err(|error| format!("is a string, but not JSON: {error}"))
        }
        table => serde_json::to_value(table).map_err(|error| error.to_string()),
    };
    let compiled = json.and_then(|json| {
        let pattern = Pattern::compile(&json).map_err(|error| error.to_string())?;
        Ok((pattern, json))
    });
    // The message names the fields around the fault, which may hold a webhook.
    let shown = |fault: String| {
        if fault.contains("://") { "is wrong near a URL; it must be an EventBridge pattern".into() } else { fault }
    };
    compiled.map_err(|fault| section.fault("pattern", &shown(fault))).ok()
}

fn has_date(value: &Value) -> bool {
    match value {
        Value::Datetime(_) => true,
        Value::Array(items) => items.iter().any(has_date),
        Value::Table(table) => table.values().any(has_date),
        _ => false,
    }
}
