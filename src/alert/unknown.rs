//! Alerts about events of an unknown kind: another detail-type, the output of an input transformer, a text from SNS. The queue gets them
//! on purpose, so the alert shows what it can: texts for people, the state, then names, times and ids.

use serde_json::Value;

use super::{Parts, Severity, action};
use crate::event::ecs::Action;
use crate::event::{Arn, Event, parse_time};
use crate::text::line;

/// Fields with text for people, the most specific first. Names here and below are in lower case, without `-` and `_`.
const TITLES: [&str; 4] = ["title", "subject", "summary", "headline"];
const TEXTS: [&str; 13] = [
    "message",
    "msg",
    "text",
    "description",
    "reason",
    "stoppedreason",
    "statusreason",
    "statusmessage",
    "errormessage",
    "failurereason",
    "error",
    "cause",
    "additionalinformation",
];

/// Fields with a state. A field whose name ends with one of [`ENDS_OF_STATES`] has a state too.
const STATES: [&str; 6] = ["state", "status", "result", "outcome", "conclusion", "severity"];
const ENDS_OF_STATES: [&str; 3] = ["state", "status", "result"];
/// Fields that are no facts, because the alert shows them elsewhere or people do not need them.
const NO_FACTS: [&str; 13] = [
    "id",
    "messageid",
    "version",
    "type",
    "time",
    "timestamp",
    "account",
    "region",
    "source",
    "detailtype",
    "service",
    "servicename",
    "topicarn",
];
/// If a field's name contains one of these, neither the field nor anything in it is shown. Overrides contain a task's environment.
const SECRET: [&str; 8] =
    ["password", "secret", "token", "credential", "apikey", "authorization", "webhook", "override"];
/// How many levels of objects are searched for texts and states; lists do not count as levels.
const LEVELS: usize = 3;

pub(super) fn describe(event: &Event) -> Parts {
    let mut parts = Parts::of(event);
    let detail = event.detail_value();
    let action = Action::read(detail);
    if let Some(name) = action.name {
        parts.kind = name.to_owned();
        // An event of ECS that this program does not know.
        if event.source() == Some("aws.ecs") && !name.contains(char::is_lowercase) {
            return action::describe(event, &action, "service");
        }
    }

    let base = if detail.as_object().is_some_and(|fields| !fields.is_empty()) { detail } else { event.value() };
    let ecs = event.arns().find(|arn| arn.service == "ecs");
    let topic = event.value().get("TopicArn").and_then(Value::as_str).and_then(Arn::parse);
    let subject = event.service().or(ecs.and_then(|arn| arn.name())).or(topic.map(|arn| arn.resource));
    parts.subject = subject.or(event.source()).unwrap_or("unknown source").to_owned();

    let fields = fields(base);
    let [titles, messages] = [TITLES.as_slice(), TEXTS.as_slice()].map(|names| texts(&fields, names));
    let about_subject = |text: &&&str| text.starts_with(&parts.subject);
    // The detail-type of AWS's event is a better headline than its message.
    let is_of_aws = event.source().is_some_and(|source| source.starts_with("aws."));
    let message = messages.first().filter(|_| !is_of_aws);
    let first = titles.iter().find(about_subject).or(titles.first()).or(message).copied();
    let headline = first.and_then(|text| text.trim().lines().next()).map(|text| line(text, 200));
    parts.what = match (&headline, event.detail_type()) {
        (Some(headline), _) => match headline.strip_prefix(&parts.subject).filter(|rest| rest.starts_with(' ')) {
            Some(rest) => rest.trim_start().to_owned(),
            None => format!("reported: {headline}"),
        },
        (None, Some(detail_type)) => format!("reported: {detail_type}"),
        (None, None) => "sent an event of unknown shape".to_owned(),
    };
    // If there is a title, a state on an inner level may not belong to it.
    let state = state(&fields, if titles.is_empty() { LEVELS } else { 1 });
    if let Some(state) = state.filter(|state| !parts.what.contains(state)) {
        parts.what = format!("{} — {}", line(parts.what.trim_end_matches('.'), 300), line(state, 60));
    }
    // Only in AWS's own events, these words reliably mean success.
    let is_well = state.is_some_and(|state| WELL.iter().any(|well| state.eq_ignore_ascii_case(well)));
    if is_well && is_of_aws {
        parts.severity = Severity::Info;
    }
    // The reason must differ from the headline.
    if let Some(reason) = messages.into_iter().find(|text| headline.as_deref() != Some(text.trim())) {
        if ecs.is_some() {
            parts.set_reason(reason);
        } else {
            parts.reason = Some(reason.to_owned());
        }
    }
    for (key, value) in facts(&fields, state) {
        parts.fact(key, Some(&value));
    }
    parts.link_to_service(event);
    parts
}

/// States of AWS's events that mean success.
const WELL: [&str; 6] = ["SUCCEEDED", "SUCCESS", "SUCCESSFUL", "COMPLETED", "PASSED", "RESOLVED"];

/// A field with a scalar value, at any level of the event.
struct Field<'a> {
    key: &'a str,
    /// The key without `-`, `_` and case.
    name: String,
    value: &'a Value,
    level: usize,
}

/// All scalar fields of the first [`LEVELS`] levels, the outer ones first, without secrets.
fn fields(base: &Value) -> Vec<Field<'_>> {
    let mut found = Vec::new();
    let mut objects = vec![base];
    for level in 0..LEVELS {
        let mut inner = Vec::new();
        for (key, value) in objects.into_iter().filter_map(Value::as_object).flatten() {
            let name = key.replace(['-', '_', ' '], "").to_ascii_lowercase();
            if SECRET.iter().any(|secret| name.contains(secret)) {
                continue;
            }
            // `"state": { "name": "ALARM" }`
            let value = match value {
                Value::Object(fields) if STATES.contains(&&*name) => {
                    ["value", "name", "code"].iter().find_map(|key| fields.get(*key)).unwrap_or(value)
                }
                value => value,
            };
            match value {
                Value::Object(_) | Value::Array(_) => flatten(value, &mut inner),
                Value::Null => {}
                value => found.push(Field { key, name, value, level }),
            }
        }
        objects = inner;
    }
    found
}

/// Collects the objects in a value: the value itself if it is an object, or the objects in a list or in lists of lists.
fn flatten<'a>(value: &'a Value, objects: &mut Vec<&'a Value>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| flatten(item, objects)),
        Value::Object(_) => objects.push(value),
        _ => {}
    }
}

/// The texts of fields with these names, in the order of the names.
fn texts<'a>(fields: &[Field<'a>], names: &[&str]) -> Vec<&'a str> {
    let of_name = |name| fields.iter().filter(move |field| field.name == name).filter_map(|field| field.value.as_str());
    let texts = names.iter().copied().flat_map(of_name);
    texts.filter(|text| !text.trim().is_empty()).collect()
}

/// The state, "FAILED", "OPEN" …, from the first `levels` levels.
fn state<'a>(fields: &[Field<'a>], levels: usize) -> Option<&'a str> {
    let is_earlier = |name: &str| ["previous", "old", "desired", "last"].iter().any(|prefix| name.starts_with(prefix));
    let is_word = |text: &&str| !text.trim().is_empty() && text.len() <= 60;
    let exact = |state| fields.iter().filter(move |field| field.name == state && field.level < levels);
    let exact = STATES.iter().take(5).flat_map(|state| exact(*state));
    let longer = fields.iter().filter(|field| {
        ENDS_OF_STATES.iter().any(|end| field.name.ends_with(end)) && !is_earlier(&field.name) && field.level == 0
    });
    exact.chain(longer).find_map(|field| field.value.as_str().filter(is_word))
}

/// The outermost scalars, and codes from inner levels, by [`rank`].
fn facts<'a>(fields: &[Field<'a>], state: Option<&str>) -> Vec<(&'a str, String)> {
    let mut facts: Vec<(usize, &str, String)> = Vec::new();
    for field in fields {
        let text = match field.value {
            Value::String(text) if text.trim().is_empty() => continue,
            Value::String(text) => text.clone(),
            scalar => scalar.to_string(),
        };
        let name = field.name.as_str();
        let is_shown_elsewhere =
            TITLES.contains(&name) || TEXTS.contains(&name) || NO_FACTS.contains(&name) || Some(&*text) == state;
        let rank = rank(name, &text);
        if !is_shown_elsewhere && (field.level == 0 || name.contains("code")) {
            facts.push((rank, field.key, text));
        }
    }
    facts.sort_by_key(|(rank, ..)| *rank);
    facts.into_iter().map(|(_, key, text)| (key, text)).collect()
}

/// The rank of a fact, the first shown first: codes and states, names, anything else, times, then ids, ARNs and Regions.
fn rank(name: &str, text: &str) -> usize {
    let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
    let is_hash = text.len() >= 16 && text.bytes().all(|c| c.is_ascii_hexdigit() || c == b'-');
    if is_hash || text.starts_with("arn:") || ends(&["id", "arn", "uuid", "hash", "digest", "region", "accountid"]) {
        4
    } else if ends(&["time", "timestamp", "date"]) || parse_time(text).is_some() {
        3
    } else if STATES.contains(&name) || ends(&ENDS_OF_STATES) || name.contains("code") {
        0
    } else if ends(&["name", "project", "pipeline", "cluster", "queue", "function", "job"]) {
        1
    } else {
        2
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Alert;
    use super::*;

    fn alert(event: Value) -> Alert {
        Alert::from_event(&Event::decode(&event.to_string()).unwrap()[0])
    }

    fn of_aws(source: &str, detail_type: &str, detail: Value) -> Alert {
        alert(
            json!({ "id": "1", "source": source, "detail-type": detail_type, "region": "eu-west-1", "detail": detail }),
        )
    }

    fn labels(alert: &Alert) -> Vec<&str> {
        alert.facts.iter().map(|(label, _)| label.as_str()).collect()
    }

    #[test]
    fn the_state_is_in_the_headline_and_names_come_before_times_and_ids() {
        let build = of_aws(
            "aws.codebuild",
            "CodeBuild Build State Change",
            json!({
                "build-id": "arn:aws:codebuild:eu-west-1:123456789012:build/web:8b2a",
                "additional-information": { "build-start-time": "Mar 2, 2026 8:10:00 AM", "initiator": "ci" },
                "current-phase": "COMPLETED",
                "build-status": "FAILED",
                "project-name": "web",
                "version": "1",
            }),
        );
        assert_eq!(build.what, "reported: CodeBuild Build State Change — FAILED");
        assert_eq!(labels(&build), ["project-name", "current-phase", "build-id"]);

        let pipeline = of_aws(
            "aws.codepipeline",
            "CodePipeline Pipeline Execution State Change",
            json!({ "execution-id": "01234567-0123-0123-0123-012345678901", "start-time": "2026-03-02T08:00:00Z",
                "pipeline": "release", "state": "FAILED", "version": 3.0 }),
        );
        assert!(pipeline.what.ends_with(" — FAILED"), "{}", pipeline.what);
        assert_eq!(labels(&pipeline), ["pipeline", "start-time", "execution-id"]);

        let job = of_aws(
            "aws.batch",
            "Batch Job State Change",
            json!({ "jobArn": "arn:aws:batch:eu-west-1:123456789012:job/4c7f", "jobName": "nightly", "jobId": "4c7f", "createdAt": 1772439342000_u64,
                "status": "FAILED", "statusReason": "Essential container in task exited", "container": { "exitCode": 3, "image": "web" } }),
        );
        assert_eq!(job.what, "reported: Batch Job State Change — FAILED");
        assert_eq!(job.reason.as_deref(), Some("Essential container in task exited"));
        assert_eq!(labels(&job)[..2], ["exitCode", "jobName"]);
        assert_eq!(labels(&job).last(), Some(&"jobId"));
    }

    #[test]
    fn the_state_is_that_of_the_event_itself() {
        let what = |detail: Value| alert(json!({ "source": "a", "detail-type": "B", "detail": detail })).what;
        assert_eq!(what(json!({ "state": { "name": "OPEN", "previous": "NEW" } })), "reported: B — OPEN");
        assert_eq!(what(json!({ "run": { "conclusion": "failure" } })), "reported: B — failure");
        assert_eq!(what(json!({ "title": "C", "cluster": { "status": "ACTIVE" } })), "reported: C");
        assert_eq!(what(json!({ "previousState": "OPEN", "lastStatus": "NEW" })), "reported: B");
        assert_eq!(what(json!({ "title": "C is OPEN", "state": "OPEN" })), "reported: C is OPEN");
        assert_eq!(what(json!({ "status": 7, "result": "" })), "reported: B");
    }

    #[test]
    fn lists_do_not_use_up_the_depth_of_the_search() {
        let nested =
            alert(json!({ "detail": { "alerts": [[{ "annotations": [{ "summary": "The disk is full" }] }]] } }));
        assert_eq!(nested.what, "reported: The disk is full");
        let deep = alert(json!({ "detail": { "a": { "b": { "c": { "summary": "too deep" } } } } }));
        assert_eq!(deep.what, "sent an event of unknown shape");
    }

    #[test]
    fn a_service_field_names_an_ecs_service_only_in_events_of_ecs() {
        let health = alert(json!({ "source": "aws.something", "detail-type": "Something", "region": "eu-west-1",
            "detail": { "service": "ECS", "clusterName": "prod" } }));
        assert_eq!(health.subject, "aws.something");
        assert!(health.links.iter().all(|link| !link.url.contains("services/ECS")), "{:?}", health.links);
        let ecs = alert(json!({ "source": "aws.ecs", "detail-type": "ECS Something New", "region": "eu-west-1",
            "detail": { "service": "checkout", "clusterName": "prod" } }));
        assert!(ecs.links[0].url.contains("/prod/services/checkout/"), "{:?}", ecs.links);
    }

    #[test]
    fn success_is_info_in_an_event_of_aws_and_a_warning_in_any_other() {
        let severity = |source: &str, state: &str| of_aws(source, "Job", json!({ "state": state })).severity;
        assert_eq!(severity("aws.codepipeline", "SUCCEEDED"), Severity::Info);
        assert_eq!(severity("aws.codepipeline", "FAILED"), Severity::Warning);
        assert_eq!(severity("aws.codepipeline", "STARTED"), Severity::Warning);
        assert_eq!(severity("com.example", "SUCCEEDED"), Severity::Warning);
    }

    #[test]
    fn overrides_and_secrets_are_not_shown() {
        let alert = of_aws(
            "aws.states",
            "Step",
            json!({ "overrides": { "containerOverrides": [{ "command": ["hunter2"], "message": "hunter2", "status": "hunter2" }] },
                "my_secret": { "code": "hunter2" }, "status": "FAILED" }),
        );
        assert!(!format!("{alert:?}").contains("hunter2"), "{alert:?}");
    }
}
