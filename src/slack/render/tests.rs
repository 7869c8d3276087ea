use serde_json::json;
use time::Duration;

use super::*;
use crate::alert::{Link, Page};
use crate::cause::{Category, Cause};
use crate::diagnosis::{
    CauseCount, Change, Current, Diagnosis, Finding, HealthCheck, Outlook, Rollout, ServiceDeployment, State, Status,
};

mod digests;
mod limits;

/// Alerts that belong to no incident.
fn digest(alerts: &[&Alert], account_name: Option<&str>) -> (Payload, usize) {
    super::digest::digest(alerts, false, account_name)
}

const CONSOLE: &str = "https://eu-west-1.console.aws.amazon.com/ecs/v2/clusters/example/services";

/// 03:02:12 UTC, plus `seconds`.
fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_795_316_532).unwrap() + Duration::seconds(seconds)
}

fn impaired(service: &str) -> Alert {
    Alert {
        event_id: None,
        kind: "SERVICE_TASK_START_IMPAIRED".to_owned(),
        severity: Severity::Critical,
        subject: service.to_owned(),
        what: "is unable to consistently start tasks successfully".to_owned(),
        reason: None,
        cause: None,
        advice: None,
        commands: Vec::new(),
        note: None,
        carried_for: None,
        cluster: Some("example".to_owned()),
        account: Some("123456789012".to_owned()),
        region: Some("eu-west-1".to_owned()),
        time: Some(at(0)),
        facts: Vec::new(),
        links: vec![Link { page: Page::Subject, url: format!("{CONSOLE}/{service}/health?region=eu-west-1") }],
        exited_task_id: None,
        about: None,
        service: None,
        needs_diagnosis: false,
        diagnosis: None,
        tags: None,
        shown_tags: Vec::new(),
    }
}

fn bare(subject: &str) -> Alert {
    let mut alert = impaired(subject);
    (alert.cluster, alert.account, alert.region, alert.time, alert.links) = (None, None, None, None, Vec::new());
    alert
}

fn image_missing() -> Option<Cause> {
    Some(Cause { category: Category::ImageMissing, hint: "Push the tag, or deploy one that exists.".to_owned() })
}

/// A diagnosis with this text in every field.
fn diagnosis(text: &str) -> Diagnosis {
    let cause = |category| Cause { category, hint: text.to_owned() };
    let trouble =
        |category| CauseCount { cause: cause(category), exit_code: Some(1), count: 9, example: Some(text.to_owned()) };
    Diagnosis {
        causes: Category::ALL.iter().rev().map(|category| trouble(*category)).collect(),
        stopped: usize::MAX,
        stops: Vec::new(),
        failed_starts: Vec::new(),
        stopped_tasks: Default::default(),
        tasks_known: true,
        latest_event: Some(format!("{text} said")),
        health_checks: vec![
            HealthCheck {
                target_group: text.to_owned(),
                found: vec![
                    (Finding::Other(text.to_owned()), usize::MAX),
                    (Finding::Answered(text.to_owned()), usize::MAX)
                ],
                healthy: Some(usize::MAX),
                expected: Some(text.to_owned()),
                request: Some(text.to_owned()),
                port: Some(text.to_owned()),
                timeout: Some(i64::MAX),
            };
            5
        ],
        change: Some(Change {
            now: text.to_owned(),
            before: Some(format!("{text}2")),
            deployed: Some(at(0)),
            registered_by: Some(text.to_owned()),
            differences: Some(vec![(text.to_owned(), text.to_owned()); 50]),
        }),
        current: Current { task_definition: Some(text.to_owned()), ..Current::default() },
        state: State {
            running: i64::MIN,
            desired: i64::MIN,
            pending: i64::MAX,
            failed: i64::MAX,
            rollout: Some(Rollout::InProgress),
            outlook: Some(Outlook::WillStop),
            deployment: Some(ServiceDeployment {
                status: Status::RollbackInProgress,
                strategy: Some("BLUE_GREEN".to_owned()),
                stage: Some(text.to_owned()),
                production_share: Some(u16::MAX),
                breaker: Some((i64::MAX, i64::MAX)),
                alarms: vec![text.to_owned(); 50],
                failed_hooks: vec![text.to_owned(); 50],
                reason: Some(text.to_owned()),
            }),
            task_set: None,
        },
        task_url: None,
        log_url: None,
        log: vec![text.to_owned(); 100],
    }
}

/// One of two tasks runs.
fn state(outlook: Option<Outlook>, deployment: Option<ServiceDeployment>) -> State {
    let rollout = outlook.map(|_| Rollout::InProgress);
    State { running: 1, desired: 2, pending: 0, failed: 0, rollout, outlook, deployment, task_set: None }
}

fn block_texts(payload: &Value) -> String {
    let blocks = payload["attachments"][0]["blocks"].as_array().unwrap();
    let texts = blocks.iter().map(|block| block["text"]["text"].as_str().or(block["elements"][0]["text"].as_str()));
    texts.map(Option::unwrap).collect::<Vec<_>>().join("\n")
}

#[test]
fn an_alert_that_has_only_a_name_shows_the_name() {
    assert_eq!(
        single(&bare("image_inferrer"), None).to_value(),
        json!({
            "text": ":rotating_light: image_inferrer is unable to consistently start tasks successfully",
            "attachments": [{"color": "danger", "blocks": [{"type": "section", "text": {
                "type": "mrkdwn", "verbatim": true,
                "text": "*image_inferrer* is unable to consistently start tasks successfully",
            }}]}],
        })
    );
}

#[test]
fn a_full_alert_begins_with_the_problem_and_ends_with_the_links() {
    let mut alert = impaired("api");
    alert.reason = Some("CannotPullContainerError: manifest for api:v2 not found\n\n  retried 5 time(s)".to_owned());
    alert.cause = image_missing();
    alert.facts = vec![("Image".to_owned(), "api:v2".to_owned()), ("Container".to_owned(), " ".to_owned())];
    alert.links.push(Link { page: Page::Log, url: "https://logs.example/?a=1&b=2".to_owned() });
    let mrkdwn = |text: &str| json!({"type": "mrkdwn", "text": text, "verbatim": true});
    let payload = single(&alert, Some("platform"));
    assert_eq!(
        payload.to_value(),
        json!({
            "text": ":rotating_light: api is unable to consistently start tasks successfully — Image not found",
            "attachments": [{"color": "danger", "blocks": [
                {"type": "section", "text": mrkdwn("*api* is unable to consistently start tasks successfully")},
                {"type": "section", "text": mrkdwn("*Why:* Image not found\nPush the tag, or deploy one that exists.")},
                {"type": "section", "text": mrkdwn("> CannotPullContainerError: manifest for api:v2 not found\n> retried 5 time(s)")},
                {"type": "section", "text": mrkdwn("Image: api:v2")},
                {"type": "context", "elements": [mrkdwn("example · platform · eu-west-1 · <!date^1795316532^{ago}|2026-11-22 03:02:12 UTC>")]},
                {"type": "section", "text": mrkdwn("<https://eu-west-1.console.aws.amazon.com/ecs/v2/clusters/example/services/api/health?region=eu-west-1|View in console> · <https://logs.example/?a=1&amp;b=2|Log>")},
            ]}],
        })
    );
    assert_eq!(serde_json::from_str::<Value>(&payload.body()).unwrap(), payload.to_value());
}

#[test]
fn the_advice_comes_after_the_problem_and_before_the_text_of_aws() {
    let mut alert = impaired("api");
    alert.advice = Some("If nobody acts, ECS rolls it back.".to_owned());
    alert.commands = vec!["aws ecs continue".to_owned()];
    alert.note = Some("Runbook:\n\nhttps://wiki.example/api".to_owned());
    alert.reason = Some("Waiting.".to_owned());
    let payload = single(&alert, None).to_value();
    assert_eq!(
        block_texts(&payload).split("\nexample · ").next().unwrap(),
        "*api* is unable to consistently start tasks successfully\nIf nobody acts, ECS rolls it back.\n```aws ecs \
         continue```\nRunbook:\n<https://wiki.example/api>\n> Waiting."
    );
}

#[test]
fn the_headline_does_not_repeat_words_of_the_causes_title() {
    let headline = |category, what: &str| {
        let cause = Some(Cause { category, hint: String::new() });
        let alert = Alert { cause, what: what.to_owned(), ..bare("api") };
        single(&alert, None).to_value()["text"].as_str().unwrap().trim_start_matches(":rotating_light: ").to_owned()
    };
    for (category, what, expected) in [
        (Category::Spot, "task was stopped by a Spot interruption", "task was stopped by a Spot interruption"),
        (
            Category::Crash,
            "is crash-looping: 3 exits in 5 min, exit code 1",
            "is crash-looping: 3 exits in 5 min, exit code 1",
        ),
        (
            Category::Oom,
            "is crash-looping: 3 exits in 5 min, exit code 137",
            "is crash-looping: 3 exits in 5 min, exit code 137 — Out of memory",
        ),
        (
            Category::HealthCheckLb,
            "task was stopped: it failed its health checks",
            "task was stopped: it failed its health checks — load balancer",
        ),
        (Category::HealthCheckLb, "deployment failed", "deployment failed — Load balancer health check failed"),
    ] {
        assert_eq!(headline(category, what), format!("api {expected}"));
    }
}

#[test]
fn text_that_the_diagnosis_and_the_event_share_is_shown_once() {
    let mut alert = Alert { reason: Some("api:v2: not found".to_owned()), cause: image_missing(), ..impaired("api") };
    let mut known = diagnosis("api:v2: not found");
    known.causes = vec![known.causes.into_iter().find(|why| why.cause.category == Category::ImageMissing).unwrap()];
    (known.stopped, known.change, known.log) = (9, None, Vec::new());
    known.state = state(None, None);
    alert.diagnosis = Some(known);
    let text = block_texts(&single(&alert, None).to_value());
    assert_eq!(text.matches("api:v2: not found").count(), 1);
    assert!(text.contains("*Why:* Image not found — 9 of the last 9 tasks\nPush the tag, or deploy one that exists.\n> api:v2: not found\n*How bad:* 1 of 2 tasks running\n"), "{text}");
}

#[test]
fn the_account_has_a_name_or_else_its_id() {
    let text = |account_name| block_texts(&single(&impaired("api"), account_name).to_value());
    assert!(text(Some("platform")).contains("example · platform · eu-west-1"));
    assert!(text(None).contains("example · 123456789012 · eu-west-1"));
}

#[test]
fn the_colour_shows_the_severity() {
    let payload = |severity| single(&Alert { severity, ..impaired("api") }, None).to_value();
    for (severity, color, emoji) in [
        (Severity::Critical, "danger", ":rotating_light:"),
        (Severity::Warning, "warning", ":rotating_light:"),
        (Severity::Info, "#439FE0", ":information_source:"),
    ] {
        assert_eq!(payload(severity)["attachments"][0]["color"], color);
        assert!(payload(severity)["text"].as_str().unwrap().starts_with(emoji));
    }
    let calm = Alert { severity: Severity::Warning, kind: "OTHER".to_owned(), ..impaired("calm") };
    let (mixed, _) = digest(&[&calm, &impaired("broken")], None);
    assert_eq!(mixed.to_value()["attachments"][0]["color"], "danger");
    assert_eq!(mixed.to_value()["text"], ":rotating_light: 2 services are in trouble: broken, calm");
}

#[test]
fn tags_are_shown_unchanged_and_only_a_complete_address_is_a_link() {
    let mut alert = bare("checkout");
    alert.shown_tags = [
        ("team", "search & browse"),
        ("runbook", "https://wiki.example.com/checkout?a=1&b=2"),
        ("owner", "<!channel> <https://evil.example|x>"),
        ("docs", "https://evil.example|x>"),
        ("note", "see https://evil.example"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .to_vec();
    let shown = "team: search &amp; browse\nrunbook: <https://wiki.example.com/checkout?a=1&amp;b=2>\n\
                 owner: &lt;!channel&gt; &lt;https://evil.example|x&gt;\ndocs: <https://evil.example>|x&gt;\nnote: see https://evil.example";
    let payload = single(&alert, None).to_value();
    let texts: Vec<&str> = payload["attachments"][0]["blocks"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|block| block["text"]["text"].as_str())
        .collect();
    assert!(texts.contains(&shown), "{texts:?}");
}

#[test]
fn the_last_attempt_is_plain_text() {
    let mut alert = impaired("api <3");
    alert.reason = Some("no 🔥 here\nπ".to_owned());
    assert_eq!(
        plain_text(&alert, Some("platform")).to_value(),
        json!({"text": format!(
            ":rotating_light: api &lt;3 is unable to consistently start tasks successfully, example, platform, eu-west-1: no ? here π {CONSOLE}/api <3/health?region=eu-west-1"
        ).replace("/api <3/", "/api &lt;3/")})
    );
}
