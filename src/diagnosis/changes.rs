//! How one task definition differs from another. If everybody may see a value, the old and the new one are shown; otherwise, only
//! that it changed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::event::{list, text};

/// Fields that differ between any two registrations.
const REGISTRATION_FIELDS: [&str; 10] = [
    "compatibilities",
    "deregisteredAt",
    "family",
    "registeredAt",
    "registeredBy",
    "requiresAttributes",
    "revision",
    "status",
    "tags",
    "taskDefinitionArn",
];

/// How many names of a list are shown at most.
const MAX_NAMES: usize = 6;

/// What differs, as (what, how): first the containers, then the fields of the task definition itself.
pub(super) fn differences(before: &Value, now: &Value) -> Vec<(String, String)> {
    let mut differences = Vec::new();
    let (old, new) = (by_name(before, "containerDefinitions"), by_name(now, "containerDefinitions"));
    for name in names_in_either(&old, &new) {
        match (old.get(name), new.get(name)) {
            (Some(old), Some(new)) => of_container(name, old, new, &mut differences),
            (None, _) => differences.push((name.to_owned(), "new container".to_owned())),
            (_, None) => differences.push((name.to_owned(), "container removed".to_owned())),
        }
    }
    for key in keys_in_either(before, now) {
        if REGISTRATION_FIELDS.contains(&key) || key == "containerDefinitions" {
            continue;
        }
        let how = match key {
            "cpu" | "memory" => shown(before, now, key, plain),
            "executionRoleArn" | "taskRoleArn" => shown(before, now, key, last_part),
            "runtimePlatform" => platform(before, now),
            _ => changed(before, now, key),
        };
        differences.extend(how.map(|how| (words(key.strip_suffix("Arn").unwrap_or(key)), how)));
    }
    differences
}

fn of_container(name: &str, before: &Value, now: &Value, differences: &mut Vec<(String, String)>) {
    // These come first, because they change most often and matter most often.
    let mut handled = vec!["name", "image"];
    differences.extend(image(before, now).map(|how| (format!("{name} image"), how)));
    for key in ["environment", "secrets"] {
        handled.push(key);
        differences.extend(names(before, now, key).map(|how| (format!("{name} {key}"), how)));
    }
    for key in keys_in_either(before, now) {
        let how = match key {
            _ if handled.contains(&key) => None,
            "cpu" | "memory" | "memoryReservation" => shown(before, now, key, plain),
            _ => changed(before, now, key),
        };
        differences.extend(how.map(|how| (format!("{name} {}", words(key)), how)));
    }
}

/// "1.4.1 → 1.4.2", or the whole references if the names differ as well.
fn image(before: &Value, now: &Value) -> Option<String> {
    let (before, now) = (text(before, "image")?, text(now, "image")?);
    if before == now {
        return None;
    }
    let ((old_name, old), (new_name, new)) = (tagged(before), tagged(now));
    Some(if old_name == new_name { format!("{old} → {new}") } else { format!("{before} → {now}") })
}

/// An image's name, and its tag or the beginning of its digest.
fn tagged(image: &str) -> (&str, &str) {
    if let Some((name, digest)) = image.split_once('@') {
        return (name, digest.get(..19).unwrap_or(digest));
    }
    match image.rsplit_once(':') {
        // A colon before a slash belongs to a registry's port.
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (image, "latest"),
    }
}

/// "removed D; changed C; added A, B": names, never values.
fn names(before: &Value, now: &Value, key: &str) -> Option<String> {
    let (old, new) = (by_name(before, key), by_name(now, key));
    let mut parts = Vec::new();
    let mut part = |verb: &str, is_so: &dyn Fn(Option<&&Value>, Option<&&Value>) -> bool| {
        let names: Vec<&str> = names_in_either(&old, &new).filter(|name| is_so(old.get(name), new.get(name))).collect();
        let more = names.len().saturating_sub(MAX_NAMES);
        if !names.is_empty() {
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            parts
                .push(format!("{verb} {}{more}", names.iter().take(MAX_NAMES).copied().collect::<Vec<_>>().join(", ")));
        }
    };
    part("removed", &|old, new| old.is_some() && new.is_none());
    part("changed", &|old, new| matches!((old, new), (Some(old), Some(new)) if old != new));
    part("added", &|old, new| old.is_none() && new.is_some());
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn platform(before: &Value, now: &Value) -> Option<String> {
    let of = |definition: &Value| {
        let platform = definition.get("runtimePlatform").unwrap_or(&Value::Null);
        let parts = ["operatingSystemFamily", "cpuArchitecture"].map(|key| text(platform, key));
        let parts: Vec<&str> = parts.into_iter().flatten().collect();
        if parts.is_empty() { "default".to_owned() } else { parts.join("/") }
    };
    let (before, now) = (of(before), of(now));
    (before != now).then(|| format!("{before} → {now}"))
}

/// "512 → 256"
fn shown(before: &Value, now: &Value, key: &str, show: fn(&Value) -> Option<String>) -> Option<String> {
    let of = |definition: &Value| definition.get(key).and_then(show).unwrap_or_else(|| "none".to_owned());
    let (before, now) = (of(before), of(now));
    (before != now).then(|| format!("{before} → {now}"))
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn last_part(arn: &Value) -> Option<String> {
    Some(arn.as_str()?.rsplit('/').next()?.to_owned())
}

fn changed(before: &Value, now: &Value, key: &str) -> Option<String> {
    // If nothing was registered, ECS answers with an empty list or omits the field.
    let of = |definition: &Value| definition.get(key).filter(|value| !is_empty(value)).cloned();
    let how = match (of(before), of(now)) {
        (before, now) if before == now => return None,
        (None, _) => "added",
        (_, None) => "removed",
        _ => "changed",
    };
    Some(how.to_owned())
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

fn by_name<'a>(value: &'a Value, key: &str) -> BTreeMap<&'a str, &'a Value> {
    list(value, key).filter_map(|item| Some((text(item, "name")?, item))).collect()
}

fn names_in_either<'a>(
    old: &BTreeMap<&'a str, &'a Value>,
    new: &BTreeMap<&'a str, &'a Value>,
) -> impl Iterator<Item = &'a str> + use<'a> {
    old.keys().chain(new.keys()).copied().collect::<BTreeSet<_>>().into_iter()
}

fn keys_in_either<'a>(before: &'a Value, now: &'a Value) -> impl Iterator<Item = &'a str> + use<'a> {
    let keys = [before, now].into_iter().filter_map(Value::as_object).flat_map(|fields| fields.keys());
    keys.map(String::as_str).collect::<BTreeSet<_>>().into_iter()
}

/// "healthCheck" → "health check"
fn words(key: &str) -> String {
    let mut words = String::new();
    for c in key.chars() {
        if c.is_ascii_uppercase() {
            words.push(' ');
        }
        words.push(c.to_ascii_lowercase());
    }
    words
}
