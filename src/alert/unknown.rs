//! What nobody knows: another detail-type, the output of an input transformer, text from SNS. Somebody sent it here on
//! purpose, so whatever can be told of it is.

use serde_json::Value;

use super::{Alert, action, line, link_to_service};
use crate::event::ecs::Action;
use crate::event::{Arn, Event};

/// Fields that hold text for people, the shortest and most telling first.
const TITLES: [&str; 4] = ["title", "subject", "summary", "headline"];
const TEXTS: [&str; 7] = ["message", "msg", "text", "description", "reason", "stoppedReason", "statusReason"];

/// Scalars that are said elsewhere in an alert, or mean nothing to people.
const SAID: [&str; 13] = [
    "id",
    "messageid",
    "version",
    "type",
    "time",
    "timestamp",
    "account",
    "region",
    "source",
    "detail-type",
    "service",
    "servicename",
    "topicarn",
];
/// A field whose name holds one of these is not shown.
const SECRET: [&str; 7] = ["password", "secret", "token", "credential", "apikey", "authorization", "webhook"];

pub(super) fn describe(alert: &mut Alert, event: &Event) {
    let detail = event.detail_value();
    let action = Action::read(detail);
    if let Some(name) = action.name {
        alert.kind = name.to_owned();
        // A kind of ECS's own that is newer than this program. What CloudTrail tells of ECS has names in camel case.
        if event.source() == Some("aws.ecs") && !name.contains(char::is_lowercase) {
            return action::describe(alert, event, &action, "service");
        }
    }

    let base = if detail.as_object().is_some_and(|fields| !fields.is_empty()) { detail } else { event.value() };
    let ecs = event.arns().find(|arn| arn.service == "ecs");
    let topic = event.value().get("TopicArn").and_then(Value::as_str).and_then(Arn::parse);
    let subject = event.service().or(ecs.and_then(|arn| arn.name())).or(topic.map(|arn| arn.resource));
    alert.subject = subject.or(event.source()).unwrap_or("unknown source").to_owned();

    let [titles, bodies] = texts(base);
    let about_subject = |text: &&&str| text.starts_with(&alert.subject);
    let first = titles.iter().find(about_subject).or(titles.first()).or(bodies.first()).copied();
    let headline = first.and_then(|text| text.trim().lines().next()).map(|text| line(text, 200));
    alert.what = match (&headline, event.detail_type()) {
        (Some(headline), _) => match headline.strip_prefix(&alert.subject).filter(|rest| rest.starts_with(' ')) {
            Some(rest) => rest.trim_start().to_owned(),
            None => format!("reported: {headline}"),
        },
        (None, Some(detail_type)) => format!("reported: {detail_type}"),
        (None, None) => "sent an event of unknown shape".to_owned(),
    };
    // What the headline does not say already.
    if let Some(reason) = bodies.into_iter().find(|text| headline.as_deref() != Some(text.trim())) {
        if ecs.is_some() {
            alert.explain(reason);
        } else {
            alert.reason = Some(reason.to_owned());
        }
    }

    for (key, value) in base.as_object().into_iter().flatten() {
        let name = key.to_ascii_lowercase();
        let shown = !is_one_of(&TITLES, key)
            && !is_one_of(&TEXTS, key)
            && !SAID.contains(&name.as_str())
            && !SECRET.iter().any(|secret| name.replace(['_', '-'], "").contains(secret));
        match value {
            Value::String(value) if shown && !value.trim().is_empty() => alert.fact(key, Some(value)),
            Value::Number(_) | Value::Bool(_) if shown => alert.fact(key, Some(&value.to_string())),
            _ => {}
        }
    }
    link_to_service(alert, event);
}

/// The titles and the longer texts for people, from the first three levels, the most telling first.
fn texts(base: &Value) -> [Vec<&str>; 2] {
    let mut found = Vec::new();
    let mut level = vec![base];
    for _ in 0..3 {
        let fields = level.iter().filter_map(|value| value.as_object()).flatten();
        found.extend(fields.filter_map(|(key, value)| Some((key, value.as_str()?))));
        level = level.into_iter().flat_map(children).collect();
    }
    found.retain(|(_, text)| !text.trim().is_empty());
    [TITLES.as_slice(), TEXTS.as_slice()].map(|names| {
        let of_name = |name| found.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, text)| *text);
        names.iter().copied().flat_map(of_name).collect()
    })
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Object(fields) => fields.values().collect(),
        Value::Array(items) => items.iter().collect(),
        _ => Vec::new(),
    }
}

fn is_one_of(names: &[&str], key: &str) -> bool {
    names.iter().any(|name| name.eq_ignore_ascii_case(key))
}
