//! The input is events, separated by NULs, and after an SOH ECS's answers about their services, also separated by NULs. The target turns them
//! into alerts and payloads, and checks the payloads. In `make test`, `src/slack/render/properties.rs` checks the same.
#![no_main]

use ecs_slack_alerts::alert::{Alert, CrashLoopRule};
use ecs_slack_alerts::diagnosis::answers::Answers;
use ecs_slack_alerts::event::Event;
use ecs_slack_alerts::slack::{message::Payload, render, report::Report};
use lab::slack::payload;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

/// The number of services in a storm: more than a message has sections.
const SERVICES: usize = 24;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let (events, answers) = text.split_once('\u{1}').unwrap_or((&text, "{}"));
    let [events, answers] = [events, answers].map(|parts| parts.split('\0').take(6).collect::<Vec<&str>>());
    let payloads = payloads(&events, &answers);
    for payload in &payloads {
        if let Some(fault) = payload::fault(payload) {
            panic!("{fault}\n{payload}");
        }
    }
    // The text of an alert does not depend on the values in a container's environment.
    let other_events: Vec<String> = events.iter().map(|body| changed(body, replace_environments)).collect();
    let other_answers: Vec<String> = answers.iter().map(|body| changed(body, change_values)).collect();
    if other_events != events || other_answers != answers {
        assert_eq!(
            payloads,
            self::payloads(&other_events, &other_answers),
            "the payload depends on a container's environment"
        );
    }
});

fn payloads<T: AsRef<str>>(events: &[T], answered: &[T]) -> Vec<Value> {
    let mut answers = Answers::default();
    answered
        .iter()
        .filter_map(|body| serde_json::from_str(body.as_ref()).ok())
        .for_each(|answer| answers.add("", answer));
    let alerts: Vec<Alert> = events
        .iter()
        .filter_map(|body| Event::decode(body.as_ref()).ok())
        .flatten()
        .take(6)
        .map(|event| {
            let alert = Alert::from_event(&event);
            match alert.service.as_ref().and_then(|service| answers.diagnosis(service)) {
                Some(diagnosis) => alert.with_diagnosis(diagnosis, Some(CrashLoopRule::DEFAULT)),
                None => alert,
            }
        })
        .collect();
    let mut payloads = Vec::new();
    for alert in &alerts {
        payloads.push(render::single(alert, None));
        payloads.push(render::plain_text(alert, Some("platform")));
    }
    payloads.extend(digests(&alerts).into_iter().map(|(payload, _)| payload));

    let of_service =
        |alert: &Alert, number| Alert { subject: format!("svc{number:03} {}", alert.subject), ..alert.clone() };
    let storm = (0..SERVICES).flat_map(|number| alerts.iter().take(2).map(move |alert| of_service(alert, number)));
    let storm: Vec<Alert> = storm.collect();
    for (payload, alerts) in digests(&storm) {
        let shown = payload::shown(&payload.to_value());
        for alert in alerts {
            assert!(shown.contains(&alert.subject[..6]), "{:?} is not named in {shown}", alert.subject);
        }
        payloads.push(payload);
    }
    payloads.iter().map(Payload::to_value).collect()
}

/// All alerts, in as many digests as needed, each with the alerts that it carries.
fn digests(alerts: &[Alert]) -> Vec<(Payload, &[Alert])> {
    let mut rest = alerts;
    let mut digests = Vec::new();
    while !rest.is_empty() {
        let reports: Vec<Report> = rest.iter().map(|alert| Report::of(alert.clone().into())).collect();
        let (payload, taken) = render::digest(&reports.iter().collect::<Vec<_>>(), None);
        assert!(taken > 0, "a digest without an alert");
        digests.push((payload, &rest[..taken]));
        rest = &rest[taken..];
    }
    digests
}

fn changed(body: &str, change: fn(&mut Value)) -> String {
    let Ok(value) = serde_json::from_str::<Value>(body) else { return body.to_owned() };
    let mut changed = value.clone();
    change(&mut changed);
    if changed == value { body.to_owned() } else { changed.to_string() }
}

fn replace_environments(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let is_environment =
                    ["environment", "environmentFiles"].iter().any(|name| key.eq_ignore_ascii_case(name));
                match value {
                    Value::Array(_) | Value::Object(_) if is_environment => *value = json!(["something else"]),
                    _ => replace_environments(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(replace_environments),
        _ => {}
    }
}

/// Changes every value of environments and secrets in a task definition, but no name. Equal values stay equal.
fn change_values(answer: &mut Value) {
    let containers = answer.pointer_mut("/taskDefinition/containerDefinitions").and_then(Value::as_array_mut);
    for container in containers.into_iter().flatten() {
        for (list, key) in [("environment", "value"), ("secrets", "valueFrom")] {
            let entries = container.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
            for value in entries.filter_map(|entry| entry.get_mut(key)) {
                if let Some(text) = value.as_str() {
                    *value = format!("{text}, something else").into();
                }
            }
        }
    }
}
