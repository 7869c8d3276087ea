//! The input is an event pattern, a NUL and an event. The matcher neither panics nor hangs, and its result is the same as that of
//! [`lab::pattern`], a direct implementation of the rules. In `make test`, `src/route/pattern/properties.rs` checks the same.
#![no_main]

use ecs_slack_alerts::route::pattern::{MatchInput, Pattern};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let (pattern, event) = text.split_once('\0').unwrap_or((&text, "{}"));
    let Ok(event) = serde_json::from_str::<Value>(event) else { return };
    // A pattern's field of this name is about the tags of a service, never about the event.
    let is_of_tags = |name: &String| name.split('.').next() == Some("service-tags");
    if event.as_object().is_some_and(|fields| fields.keys().any(is_of_tags)) {
        return;
    }
    let input = MatchInput::new(&event);
    if let Ok(pattern) = serde_json::from_str::<Value>(pattern) {
        match Pattern::compile(&pattern) {
            Ok(compiled) if compiled.names_tags() => drop(compiled.evaluate(input)),
            // The direct implementation is slow for patterns and events with many fields, tests and elements.
            Ok(compiled) if is_small(&pattern) && is_small(&event) && !lab::pattern::is_ambiguous(&event) => {
                assert_eq!(compiled.matches(input), lab::pattern::matches(&pattern, &event), "{pattern} of {event}");
            }
            Ok(compiled) => drop(compiled.matches(input)),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    if let Some(own) = own_pattern(&event, 0) {
        match Pattern::compile(&own) {
            Ok(compiled) => assert!(compiled.matches(input), "{own} does not match {event}"),
            // With dots in its names, an event may contain a field twice, or be nested more deeply than its JSON.
            Err(error) => assert!(has_dots(&own), "{own}: {error}"),
        }
    }
    for (name, value) in
        event.as_object().into_iter().flatten().filter(|(name, _)| *name != "$or" && !name.contains('.'))
    {
        if value.is_string() || value.is_number() {
            let but = Pattern::compile(&json!({ name: [{ "anything-but": value }] })).unwrap();
            assert!(!but.matches(input), "{name}: anything but {value} matches {event}");
            let other =
                Pattern::compile(&json!({ name: [{ "anything-but": "something else that is not there" }] })).unwrap();
            assert!(other.matches(input), "{name}: {event}");
        }
    }
});

/// A pattern that matches exactly this event, as far as a pattern can.
fn own_pattern(value: &Value, depth: usize) -> Option<Value> {
    match value {
        Value::Object(fields) if depth < 20 => {
            let of_field = |(name, value): (&String, &Value)| {
                let (mut value, mut nesting) = (value, 0);
                // The pattern needs to match only one element.
                while let Some(elements) = value.as_array() {
                    value = elements.first()?;
                    nesting += 1;
                }
                (name != "$or" && nesting < 20).then_some(())?;
                Some((name.clone(), own_pattern(value, depth + 1)?))
            };
            let fields: Map<String, Value> = fields.iter().filter_map(of_field).collect();
            (!fields.is_empty()).then_some(Value::Object(fields))
        }
        Value::Object(_) | Value::Array(_) => None,
        scalar => (depth > 0).then(|| json!([scalar])),
    }
}

fn has_dots(value: &Value) -> bool {
    let of_field = |(name, value): (&String, &Value)| name.contains('.') || has_dots(value);
    value.as_object().is_some_and(|fields| fields.iter().any(of_field))
}

fn is_small(value: &Value) -> bool {
    value.to_string().len() < 300
}
