//! What `render` prints for events that people reported.
//!
//! Each folder of `tests/cases` holds an event and, if ECS is asked, its `answers`. `expect.json` has the expected alert of each case.
//! `siblings.json` has variants of these cases, as the changes to the event's task.

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::world::BINARY;

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

pub(crate) fn read(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn expectations(file: &str) -> BTreeMap<String, Value> {
    let Value::Object(expectations) = read(&folder().join(file)) else { panic!("{file} is not an object") };
    expectations.into_iter().collect()
}

/// The lines that `render` prints: one for each event.
pub(crate) fn rendered(events: &[Value], answers: Option<&Path>) -> Vec<Value> {
    let mut render = Command::new(BINARY);
    render.env_clear().arg("render").stdin(Stdio::piped()).stdout(Stdio::piped());
    if let Some(answers) = answers {
        render.arg("--ecs-answers").arg(answers);
    }
    let mut render = render.spawn().unwrap();
    let mut input = render.stdin.take().unwrap();
    let body = Value::from(events).to_string();
    let writer = std::thread::spawn(move || input.write_all(body.as_bytes()).unwrap());
    let output = render.wait_with_output().unwrap().stdout;
    writer.join().unwrap();
    String::from_utf8(output).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// All text of the payload that a person could read.
fn words(payload: &Value) -> String {
    match payload {
        Value::String(text) => text.clone() + "\n",
        Value::Array(items) => items.iter().map(words).collect(),
        Value::Object(fields) => fields
            .iter()
            .filter(|(key, _)| !["type", "color"].contains(&key.as_str()))
            .map(|(_, it)| words(it))
            .collect(),
        _ => String::new(),
    }
}

/// What is wrong with the line, by the checks in the expectation:
///
/// * `outcome`: exactly this; with `allow_unrouted`, also `unrouted`;
/// * `severity`, `cause`: one of these;
/// * `has`, `hasnot`: words that the payload contains or does not contain;
/// * `text_has`: words in the payload's top-level text;
/// * `ci`: the words are compared without regard to case.
pub(crate) fn faults(line: &Value, expected: &Value) -> Vec<String> {
    let list = |key: &str| expected[key].as_array().into_iter().flatten().map(|item| item.as_str().unwrap());
    let flag = |key: &str| expected[key].as_bool().unwrap_or_default();
    let unrouted = line["outcome"] == "unrouted";
    let mut faults = Vec::new();
    if line["outcome"] != expected["outcome"] && !(unrouted && flag("allow_unrouted")) {
        faults.push(format!("the outcome is {}", line["outcome"]));
    }
    for key in ["severity", "cause"] {
        if list(key).next().is_some() && !list(key).any(|accepted| line[key] == accepted) {
            faults.push(format!("the {key} is {}", line[key]));
        }
    }
    let as_compared = |text: &str| if flag("ci") { text.to_lowercase() } else { text.to_owned() };
    let says = as_compared(&words(&line["payload"]));
    let text = as_compared(line["payload"]["text"].as_str().unwrap_or_default());
    if !(unrouted && flag("allow_unrouted")) {
        faults.extend(list("has").filter(|part| !says.contains(&as_compared(part))).map(|part| format!("no {part:?}")));
        let lacks = |part: &&str| !text.contains(&as_compared(part));
        faults.extend(list("text_has").filter(lacks).map(|part| format!("no {part:?} in its text")));
    }
    faults.extend(list("hasnot").filter(|part| says.contains(&as_compared(part))).map(|part| format!("a {part:?}")));
    if !faults.is_empty() {
        faults.push(format!("in\n{says}"));
    }
    faults
}

/// Panics with all faults, not only the first.
pub(crate) fn check(results: impl Iterator<Item = (String, Vec<String>)>) {
    let wrong: Vec<_> = results.filter(|(_, faults)| !faults.is_empty()).collect();
    let report = wrong.iter().map(|(name, faults)| format!("{name}: {}\n", faults.join("; ")));
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), report.collect::<String>());
}

#[test]
fn each_case_gets_its_expected_alert() {
    check(expectations("expect.json").into_iter().map(|(name, expected)| {
        let (event, answers) = (folder().join(&name).join("event.json"), folder().join(&name).join("answers"));
        let lines = rendered(&[read(&event)], Some(answers.as_path()).filter(|answers| answers.is_dir()));
        (name, faults(&lines[0], &expected))
    }));
}

/// `like` names the case. The keys of `task` replace those of its detail; null means the same as a missing key.
#[test]
fn each_sibling_gets_its_expected_alert() {
    let siblings = expectations("siblings.json");
    let events = siblings.values().map(|expected| {
        let mut event = read(&folder().join(expected["like"].as_str().unwrap()).join("event.json"));
        for (key, value) in expected["task"].as_object().unwrap() {
            event["detail"][key] = value.clone();
        }
        event
    });
    let lines = rendered(&events.collect::<Vec<_>>(), None);
    assert_eq!(lines.len(), siblings.len());
    check(siblings.into_iter().zip(lines).map(|((name, expected), line)| (name, faults(&line, &expected))));
}

#[test]
fn a_wrong_alert_is_found() {
    let line = json!({ "outcome": "post", "severity": "info", "cause": null, "payload": { "text": "a b" } });
    for (expected, count) in [
        (json!({ "outcome": "post", "severity": ["info"], "has": ["b"], "hasnot": ["c"], "text_has": ["a b"] }), 0),
        (json!({ "outcome": "post", "has": ["A"], "ci": true }), 0),
        (json!({ "outcome": "unrouted" }), 1),
        (json!({ "outcome": "post", "severity": ["critical"], "cause": ["oom"] }), 2),
        (json!({ "outcome": "post", "has": ["A", "c"], "hasnot": ["a"], "text_has": ["B"] }), 4),
    ] {
        assert_eq!(faults(&line, &expected).len().saturating_sub(1), count, "{expected}");
    }
}
