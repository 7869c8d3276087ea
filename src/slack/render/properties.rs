//! Properties that every message has, whatever events and answers contain. The events are from `tests/fixtures` and `tests/cases`, the
//! answers from `tests/answers`, each with random hostile changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use lab::slack::payload;
use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
};
use serde_json::{Value, json};

use super::*;
use crate::alert::CrashLoopRule;
use crate::diagnosis::answers::Answers;
use crate::event::Event;

/// Alerts that belong to no incident.
fn digest(alerts: &[&Alert], account_name: Option<&str>) -> (Payload, usize) {
    super::digest::digest(alerts, false, account_name)
}

/// A value that appears only in container environments.
const CANARY: &str = "hunter2-hunter2";

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_in_an_event_becomes_markup(body in message(), account_name in option()) {
        let Some(event) = Event::decode(&body).ok().and_then(|events| events.into_iter().next()) else { return Ok(()) };
        let alert = Alert::from_event(&event);
        for payload in [single(&alert, account_name.as_deref()), plain_text(&alert, account_name.as_deref())] {
            check(&payload)?;
        }
    }

    #[test]
    fn nothing_in_an_answer_of_ecs_becomes_markup(case in diagnosed(), account_name in option()) {
        let (event, answers) = case;
        let mut all = Answers::default();
        answers.into_iter().for_each(|answer| all.add("", answer));
        let alert = Alert::from_event(&Event::decode(&event.to_string()).unwrap()[0]);
        let diagnosis = alert.service.as_ref().and_then(|service| all.diagnosis(service));
        let Some(diagnosis) = diagnosis else { return Ok(()) };
        let alert = alert.with_diagnosis(diagnosis, Some(CrashLoopRule::DEFAULT));
        for payload in [single(&alert, account_name.as_deref()), plain_text(&alert, None), digest(&[&alert, &alert], None).0] {
            check(&payload)?;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_digest_names_every_service_that_it_takes(
        storm in vec((message(), text(), 1..4usize), 1..60),
        long in prop::option::of(select(PIECES.as_slice())),
    ) {
        let mut alerts: Vec<Alert> = Vec::new();
        for (number, (body, name, repeats)) in storm.iter().enumerate() {
            let Some(event) = Event::decode(body).ok().and_then(|events| events.into_iter().next()) else { continue };
            let mut alert = Alert::from_event(&event);
            // Sometimes all names are as long as possible.
            let name = long.map_or(name.clone(), |piece| piece.repeat(255));
            alert.subject = crate::text::line(&format!("service{number:03} {name}"), 255);
            alerts.extend(vec![alert; *repeats]);
        }
        let mut rest: Vec<&Alert> = alerts.iter().collect();
        while !rest.is_empty() {
            let (payload, taken) = digest(&rest, None);
            prop_assert!(taken > 0);
            check(&payload)?;
            let shown = payload::shown(&payload.to_value());
            for alert in rest.drain(..taken) {
                prop_assert!(shown.contains(&alert.subject[..10]), "{} is not in {shown}", alert.subject);
            }
        }
    }
}

fn check(payload: &Payload) -> Result<(), TestCaseError> {
    prop_assert_eq!(payload::fault(&payload.to_value()), None);
    prop_assert!(!payload.body().contains(CANARY), "an environment shows: {}", payload.body());
    Ok(())
}

/// Text with a meaning in Slack's markup, in a terminal, in JSON or in this program; and some plain text.
const PIECES: [&str; 34] = [
    "<!channel>",
    "<!here|x>",
    "<@U012AB3CD>",
    "<https://evil.example|x>",
    "https://evil.example",
    "<",
    ">",
    "&",
    "&lt;",
    "|",
    "`",
    "```",
    "*",
    "_",
    "~",
    "\n",
    "\r\n> ",
    "\u{0}",
    "\u{1b}[31m",
    "\u{202e}",
    "\u{2028}",
    "\u{feff}",
    "🔥",
    "👩\u{200d}🚀",
    "é",
    "a",
    "checkout",
    " ",
    "/",
    ":",
    "\"environment\": [",
    "arn:aws:ecs:eu-west-1:123456789012:service/prod/api",
    "..",
    "\\",
];

fn text() -> impl Strategy<Value = String> {
    let piece = select(PIECES.as_slice());
    prop_oneof![
        8 => vec(piece.clone(), 0..12).prop_map(|pieces| pieces.concat()),
        2 => any::<String>(),
        1 => (piece, 1..100_000usize).prop_map(|(piece, length)| piece.repeat(length / piece.len())),
    ]
}

fn option() -> impl Strategy<Value = Option<String>> {
    prop::option::of(text())
}

fn value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        6 => text().prop_map(Value::from),
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
    ];
    scalar.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((text(), inner), 0..4).prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

/// One change of a JSON value, somewhere inside it.
#[derive(Debug, Clone)]
enum Change {
    Replace(Value),
    Environment(usize),
}

fn changes() -> impl Strategy<Value = Vec<(Index, Change)>> {
    let change = prop_oneof![
        4 => value().prop_map(Change::Replace),
        2 => text().prop_map(|text| Change::Replace(text.into())),
        3 => (0..6usize).prop_map(Change::Environment),
    ];
    vec((any::<Index>(), change), 0..8)
}

fn apply(value: &mut Value, changes: Vec<(Index, Change)>) {
    // A task definition's shown strings cannot quote an environment: names of images, of roles and their sessions …
    let cannot_quote = value.get("taskDefinition").is_some();
    for (index, change) in changes {
        let mut pointers = Vec::new();
        collect(value, String::new(), &mut pointers);
        let place = value.pointer_mut(&pointers[index.index(pointers.len())]).unwrap();
        match change {
            Change::Replace(with) => *place = with,
            Change::Environment(_) if cannot_quote && place.is_string() => {}
            Change::Environment(form) => plant(place, form),
        }
    }
}

fn collect(value: &Value, pointer: String, pointers: &mut Vec<String>) {
    let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| collect(value, format!("{pointer}/{}", escaped(key)), pointers));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, value)| collect(value, format!("{pointer}/{index}"), pointers));
        }
        _ => {}
    }
    pointers.push(pointer);
}

/// Adds an environment, as ECS writes it or as a text quotes it.
fn plant(place: &mut Value, form: usize) {
    let list = json!([{ "name": "TOKEN", "value": CANARY }]);
    match place {
        Value::Object(fields) => {
            let (key, value) = match form {
                0 | 1 => ("environment", list),
                2 => ("Environment", json!({ "message": CANARY })),
                3 => ("environmentFiles", json!([{ "type": "s3", "value": CANARY }])),
                4 => ("environment", list.to_string().into()),
                _ => ("overrides", json!({ "containerOverrides": [{ "environment": list }] })),
            };
            fields.insert(key.to_owned(), value);
        }
        Value::String(text) => {
            let quoted = json!({ "environment": list }).to_string();
            text.push_str(&if form < 3 { quoted } else { Value::from(quoted).to_string() });
        }
        other => *other = json!({ "environment": list }),
    }
}

/// A message of the queue: the event, bare or in one of its possible wrappers.
fn message() -> impl Strategy<Value = String> {
    let fixture = select(FIXTURES.as_slice());
    (fixture, changes(), 0..8usize).prop_map(|(mut event, changes, wrapper)| {
        apply(&mut event, changes);
        let topic = "arn:aws:sns:eu-west-1:123456789012:alarms";
        let sns = |event: &Value| json!({ "Type": "Notification", "TopicArn": topic, "Message": event.to_string() });
        let wrapped = match wrapper {
            0 => sns(&event),
            1 => json!({ "Records": [{ "EventSource": "aws:sns", "Sns": sns(&event) }] }),
            2 => json!({ "Records": [{ "messageId": "1", "body": event.to_string() }] }),
            3 => json!({ "Records": [{ "body": sns(&event).to_string() }] }),
            4 => event.get_mut("detail").map(Value::take).unwrap_or_default(),
            _ => event,
        };
        wrapped.to_string()
    })
}

/// An event, and ECS's answers about its service.
fn diagnosed() -> impl Strategy<Value = (Value, Vec<Value>)> {
    let scenario = select(ANSWERS.as_slice());
    (scenario, changes(), changes(), any::<Index>()).prop_map(|((event, mut answers), some, more, which)| {
        for changes in [some, more] {
            let which = which.index(answers.len());
            apply(&mut answers[which], changes);
        }
        (event, answers)
    })
}

static FIXTURES: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let cases = files("tests/cases").into_iter().map(|case| case.join("event.json")).filter(|event| event.is_file());
    files("tests/fixtures").into_iter().chain(cases).map(|file| read(&file)).collect()
});

static ANSWERS: LazyLock<Vec<(Value, Vec<Value>)>> = LazyLock::new(|| {
    let scenario = |folder: &PathBuf| {
        let (event, answers): (Vec<_>, Vec<_>) =
            files(folder).into_iter().partition(|file| file.ends_with("event.json"));
        (read(&event[0]), answers.iter().map(read).collect())
    };
    files("tests/answers").iter().map(scenario).collect()
});

fn files(folder: impl AsRef<Path>) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn read(file: &PathBuf) -> Value {
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}
