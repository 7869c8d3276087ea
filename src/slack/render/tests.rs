use std::collections::BTreeMap;

use serde_json::json;
use time::Duration;

use super::*;
use crate::alert::{Link, Page};
use crate::cause::{Category, Cause};
use crate::diagnosis::{
    Change, Current, Diagnosis, Finding, HealthCheck, Outlook, Rollout, ServiceDeployment, State, Status, Trouble,
};
use crate::slack::message::{BLOCK, MAX_BLOCKS, MAX_MESSAGE, MAX_TEXT, MAX_URL};

/// Alerts that belong to no incident.
fn digest(alerts: &[&Alert], account_name: Option<&str>) -> (Payload, usize) {
    super::digest::digest(alerts, false, account_name)
}

const CONSOLE: &str = "https://eu-west-1.console.aws.amazon.com/ecs/v2/clusters/example/services";

/// Two minutes and twelve seconds after three o'clock.
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
        exited: None,
        about: None,
        service: None,
        is_explicable: false,
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

/// With this text wherever there is one.
fn diagnosis(text: &str) -> Diagnosis {
    let cause = |category| Cause { category, hint: text.to_owned() };
    let trouble =
        |category| Trouble { cause: cause(category), exit_code: Some(1), count: 9, example: Some(text.to_owned()) };
    Diagnosis {
        why: Category::ALL.iter().rev().map(|category| trouble(*category)).collect(),
        stopped: usize::MAX,
        stops: Vec::new(),
        failed_starts: Vec::new(),
        tasks_known: true,
        said: Some(format!("{text} said")),
        health_checks: vec![
            HealthCheck {
                target_group: text.to_owned(),
                found: vec![
                    (Finding::Said(text.to_owned()), usize::MAX),
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

/// Everything that Slack, or our own budget, would refuse.
fn assert_within_limits(payload: &Value) {
    fn texts<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    match value {
                        Value::String(text) if key == "text" => found.push(text),
                        value => texts(value, found),
                    }
                }
            }
            Value::Array(values) => values.iter().for_each(|value| texts(value, found)),
            _ => {}
        }
    }
    let units = |text: &str| text.encode_utf16().count();

    let text = payload["text"].as_str().expect("a notification");
    assert!(!text.is_empty() && units(text) <= MAX_TEXT);
    assert_inert(text);
    let Some(attachments) = payload.get("attachments") else {
        return;
    };
    assert_eq!(attachments.as_array().unwrap().len(), 1);
    let blocks = attachments[0]["blocks"].as_array().unwrap();
    assert!((1..=MAX_BLOCKS).contains(&blocks.len()), "{} blocks", blocks.len());
    let mut total = blocks.len() * BLOCK;
    for block in blocks {
        match block["type"].as_str().unwrap() {
            "section" => assert!(block["text"].is_object()),
            "context" => assert!((1..=10).contains(&block["elements"].as_array().unwrap().len())),
            other => panic!("a limit for {other} blocks is missing here"),
        }
        let mut found = Vec::new();
        texts(block, &mut found);
        assert!(!found.is_empty());
        for text in found {
            assert!(!text.trim().is_empty() && units(text) <= MAX_SECTION, "{} characters", units(text));
            assert_inert(text);
            total += units(text);
        }
    }
    assert!(total <= MAX_MESSAGE, "{total} characters");
}

/// Every `<` opens one of our own links or dates and is closed on its line; every `&` is one of Slack's three entities.
fn assert_inert(text: &str) {
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    let mut rest = text;
    while let Some(start) = rest.find('<') {
        let (inside, after) = rest[start + 1..].split_once('>').unwrap_or_else(|| panic!("unclosed: {text}"));
        // Without a label a link shows where it leads.
        let (target, label) = inside.split_once('|').unwrap_or((inside, inside));
        assert!(target.starts_with("https://") || target.starts_with("!date^"), "{inside}");
        assert!(target.len() <= MAX_URL && !label.is_empty(), "{inside}");
        assert!(!inside.contains(['\n', '<']) && !label.contains('|'), "{inside}");
        rest = after;
    }
    for (i, _) in text.match_indices('&') {
        assert!(["&amp;", "&lt;", "&gt;"].iter().any(|entity| text[i..].starts_with(entity)), "{text}");
    }
}

fn block_texts(payload: &Value) -> String {
    let blocks = payload["attachments"][0]["blocks"].as_array().unwrap();
    let texts = blocks.iter().map(|block| block["text"]["text"].as_str().or(block["elements"][0]["text"].as_str()));
    texts.map(Option::unwrap).collect::<Vec<_>>().join("\n")
}

/// Digest after digest until nothing is left, as a channel does it.
fn drain(alerts: &[Alert], account_name: Option<&str>) -> Vec<Value> {
    let alerts: Vec<&Alert> = alerts.iter().collect();
    let (mut rest, mut payloads) = (alerts.as_slice(), Vec::new());
    while !rest.is_empty() {
        let (payload, taken) = digest(rest, account_name);
        assert!((1..=rest.len()).contains(&taken));
        assert_within_limits(&payload.to_value());
        rest = &rest[taken..];
        payloads.push(payload.to_value());
    }
    payloads
}

/// How often each name made of letters, digits, `-` and `_` stands in the blocks, link targets left out.
fn names(payloads: &[Value]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for payload in payloads {
        let mut text = block_texts(payload);
        while let Some(start) = text.find("<https:") {
            let bar = start + text[start..].find('|').unwrap();
            text.replace_range(start..=bar, " ");
        }
        for name in text.split(|c: char| !(c.is_alphanumeric() || c == '-' || c == '_')).filter(|name| !name.is_empty())
        {
            *counts.entry(name.to_owned()).or_default() += 1;
        }
    }
    counts
}

#[test]
fn an_alert_with_nothing_known_but_its_name_says_just_that() {
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
fn a_full_alert_leads_with_what_matters_and_ends_with_where_to_look() {
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
fn what_to_do_comes_before_the_words_of_aws_and_after_what_happened() {
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
fn the_headline_says_each_thing_once() {
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
fn what_a_diagnosis_repeats_of_the_event_is_said_once() {
    let mut alert = Alert { reason: Some("api:v2: not found".to_owned()), cause: image_missing(), ..impaired("api") };
    let mut known = diagnosis("api:v2: not found");
    known.why = vec![known.why.into_iter().find(|why| why.cause.category == Category::ImageMissing).unwrap()];
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
fn the_colour_tells_how_bad_it_is() {
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
fn a_digest_of_one_is_the_alert_itself() {
    let alert = impaired("api");
    assert_eq!(digest(&[&alert], Some("platform")), (single(&alert, Some("platform")), 1));
}

#[test]
fn thousands_of_repeats_are_one_alert_with_a_count() {
    let mut alerts: Vec<Alert> = (0..2_000).map(|i| Alert { time: Some(at(i)), ..impaired("api") }).collect();
    alerts.swap(0, 1_000);
    alerts[1_999].reason = Some("the latest reason".to_owned());
    let payloads = drain(&alerts, None);
    assert_eq!(payloads.len(), 1);
    let text = block_texts(&payloads[0]);
    assert!(payloads[0]["text"].as_str().unwrap().ends_with("successfully (2000 times)"));
    assert!(text.contains("the latest reason"), "{text}");
    assert!(text.contains("2000 times · first <!date^1795316532^{date_short_pretty} {time_secs}|2026-11-22 03:02:12 UTC>, last <!date^1795318531^"));
}

#[test]
fn a_few_services_get_a_section_each() {
    let mut alerts: Vec<Alert> =
        (0..60).map(|i| Alert { time: Some(at(i)), ..impaired(&format!("svc-{}", i % 20)) }).collect();
    alerts.iter_mut().for_each(|alert| alert.reason = Some("long ".repeat(100)));
    let payloads = drain(&alerts, Some("platform"));
    assert_eq!(payloads.len(), 1);
    let blocks = payloads[0]["attachments"][0]["blocks"].as_array().unwrap();
    assert_eq!(blocks.len(), 20);
    let first = blocks[0]["text"]["text"].as_str().unwrap();
    assert!(first.starts_with(&format!("*<{CONSOLE}/svc-0/health?region=eu-west-1|svc-0>* is unable to ")), "{first}");
    assert!(
        first.contains("\n> long long ")
            && first.contains("…\nexample · platform · eu-west-1 · 3 times · first <!date^")
    );
    assert!(
        payloads[0]["text"]
            .as_str()
            .unwrap()
            .starts_with(":rotating_light: 20 services are in trouble: svc-0, svc-1, ")
    );
}

#[test]
fn the_same_service_with_another_trouble_or_in_another_place_is_another_section() {
    let api = impaired("api");
    let others = [
        Alert { kind: "SERVICE_DEPLOYMENT_FAILED".to_owned(), ..api.clone() },
        Alert { cause: image_missing(), ..api.clone() },
        Alert { cluster: Some("other".to_owned()), ..api.clone() },
        Alert { account: None, ..api.clone() },
        Alert { region: Some("us-east-1".to_owned()), ..api.clone() },
    ];
    for other in others {
        let (payload, taken) = digest(&[&api, &other, &api], None);
        assert_eq!((taken, payload.to_value()["attachments"][0]["blocks"].as_array().unwrap().len()), (3, 2));
    }
}

#[test]
fn many_services_are_listed_by_trouble_and_cluster() {
    let mut alerts: Vec<Alert> = (0..30).map(|i| impaired(&format!("svc-{i}"))).collect();
    alerts[0].severity = Severity::Warning;
    alerts[0].kind = "ECS Task State Change".to_owned();
    alerts[0].what = "stopped".to_owned();
    alerts[5].cluster = Some("other".to_owned());
    alerts[6].cause = image_missing();
    alerts.push(Alert { time: Some(at(7)), ..alerts[2].clone() });
    alerts.iter_mut().skip(4).for_each(|alert| alert.links.clear());
    let payloads = drain(&alerts, Some("platform"));
    let text = block_texts(&payloads[0]);
    let lines: Vec<&str> = text.lines().collect();
    let linked = |name: &str| format!("<{CONSOLE}/{name}/health?region=eu-west-1|{name}>");
    assert_eq!(payloads.len(), 1);
    assert_eq!(lines[0], "*28 services:* each is unable to consistently start tasks successfully");
    assert!(
        lines[1].starts_with(&format!("*example*: {}, svc-2 ×2, {}, svc-4, svc-7, ", linked("svc-1"), linked("svc-3"))),
        "{}",
        lines[1]
    );
    assert_eq!(lines[2], "*other*: svc-5");
    assert_eq!(lines[3], "*1 service:* is unable to consistently start tasks successfully — Image not found");
    assert_eq!(lines[4], "*example*: svc-6");
    assert_eq!(lines[5], "*1 service:* stopped");
    assert_eq!(lines[6], format!("*example*: {}", linked("svc-0")));
    assert!(lines[7].starts_with("platform · eu-west-1 · first <!date^1795316532^"), "{}", lines[7]);
    assert_eq!(lines.len(), 8);
}

#[test]
fn a_list_whose_members_fail_in_different_words_goes_by_the_events_name() {
    let alerts: Vec<Alert> =
        (0..30).map(|i| Alert { what: format!("failed in way {i}"), ..impaired(&format!("svc-{i}")) }).collect();
    assert!(block_texts(&drain(&alerts, None)[0]).starts_with("*30 services:* SERVICE_TASK_START_IMPAIRED\n"));
}

#[test]
fn a_storm_of_three_thousand_services_names_each_once_in_a_few_messages() {
    let count = |cluster: fn(usize) -> usize| {
        let storm: Vec<Alert> = (0..3_000)
            .map(|i| Alert {
                cluster: Some(format!("cluster-{}", cluster(i))),
                cause: if i % 3 == 0 { image_missing() } else { None },
                reason: Some("a reason of some length ".repeat(20)),
                ..impaired(&format!("team-{}-service_{i}", i % 50))
            })
            .collect();
        let payloads = drain(&storm, Some("platform"));
        let names = names(&payloads);
        for alert in &storm {
            assert_eq!(names.get(&alert.subject), Some(&1), "{}", alert.subject);
        }
        payloads.len()
    };
    let (one, several, each) = (count(|_| 0), count(|i| i % 7), count(|i| i));
    assert!(one <= 7 && several <= 8 && each <= 12, "{one} {several} {each}");
}

#[test]
fn what_is_not_taken_leads_the_next_message() {
    let storm: Vec<Alert> = (0..4_000).map(|i| impaired(&format!("svc-{}", i / 2))).collect();
    let all: Vec<&Alert> = storm.iter().collect();
    let (first, taken) = digest(&all, None);
    assert!(taken < storm.len());
    let named = names(&[first.to_value()]);
    for (i, alert) in storm.iter().enumerate().filter(|(i, _)| i / 2 != taken / 2) {
        assert_eq!(named.contains_key(&alert.subject), i < taken, "{}", alert.subject);
    }
}

#[test]
fn hostile_text_neither_pages_nor_breaks_a_limit() {
    let mut alert = impaired("<!channel>\n<@U1> *x* `code` | <https://evil|x>");
    alert.what = "\u{202e}says &lt;!here&gt; <!subteam^S1>".to_owned();
    alert.reason = Some("<!everyone> ```\n> &\u{0}\n".repeat(50_000));
    alert.cause = Some(Cause { category: Category::ImageMissing, hint: "<@U1>&".repeat(10_000) });
    alert.cluster = Some("🔥&".repeat(10_000));
    alert.region = Some("r>".repeat(10_000));
    alert.facts = (0..100).map(|i| (format!("<{i}>").repeat(99), "&".repeat(10_000))).collect();
    alert.shown_tags =
        (0..100).map(|i| (format!("<!channel> {i}"), "https://evil.example/<|x>".repeat(1_000))).collect();
    alert.links =
        (0..100).map(|i| Link { page: Page::Log, url: format!("https://a/{i}{}", "&x".repeat(i * 20)) }).collect();
    alert.links.push(Link { page: Page::Log, url: "https://evil|x>".to_owned() });
    alert.advice = Some("<@U1>&".repeat(1_000));
    alert.commands = vec!["`<!channel>`".to_owned(), "x".repeat(600), "x".repeat(10_000)];
    alert.note = Some("<!channel> https://evil.example/<|x> `*&\n".repeat(1_000));
    alert.diagnosis = Some(diagnosis(&"<!channel> `*&\n".repeat(1_000)));
    for text in [single(&alert, Some("<!channel>")), plain_text(&alert, None)] {
        assert_within_limits(&text.to_value());
    }
    let many: Vec<Alert> =
        (0..300).map(|i| Alert { subject: format!("{i} {}", alert.subject.repeat(100)), ..alert.clone() }).collect();
    drain(&many[..20], None);
    let payloads = drain(&many, None);
    let texts: String = payloads.iter().map(block_texts).collect();
    assert!((0..300).all(|i| texts.contains(&format!("{i} &lt;!channel&gt; &lt;@U1&gt;"))));
}

#[test]
fn odd_alerts_of_every_shape_stay_within_the_limits_and_are_all_taken() {
    // xorshift: odd, but the same odd alerts every time.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    const PIECES: [&str; 16] = [
        "a",
        "svc-",
        "&",
        "<",
        ">",
        "|",
        "\n",
        "\r\n",
        "*",
        "_",
        "`",
        "🔥",
        "👩\u{200d}🚀",
        "<!channel>",
        "\u{0}",
        "خدمة",
    ];
    for round in 0..100 {
        let mut text = || -> String {
            let pieces = [0, 1, 3, 12, 400][random(5) as usize];
            (0..pieces).map(|_| PIECES[random(16) as usize]).collect()
        };
        let pool: Vec<String> = (0..40).map(|_| text()).collect();
        let variety = 1 + random(40);
        let mut pick = || pool[random(variety) as usize].clone();
        let alerts: Vec<Alert> = (0..[1, 2, 15, 25, 400][round % 5])
            .map(|i: i64| {
                let severity = Severity::ALL[pick().len() % 3];
                let cause = (pick().len() % 2 == 0).then(|| Cause { category: Category::ImageMissing, hint: pick() });
                let time = (pick().len() % 3 > 0).then(|| at(i * pick().len() as i64));
                let links = vec![Link { page: Page::Log, url: format!("https://a/{}", "x&".repeat(pick().len())) }];
                let facts = vec![(pick(), pick()); pick().len() % 12];
                let [cluster, account, region] =
                    [pick(), pick(), pick()].map(|text| (text.len() % 4 > 0).then_some(text));
                let (kind, subject, what, reason) = (pick(), pick() + &pick(), pick(), Some(pick()));
                Alert {
                    event_id: None,
                    kind,
                    severity,
                    subject,
                    what,
                    reason,
                    cause,
                    advice: Some(pick()),
                    commands: vec![pick(), "x".repeat(pick().len())],
                    note: Some(pick() + "https://a.example/" + &pick()),
                    carried_for: (pick().len() % 3 == 0).then(&mut pick),
                    cluster,
                    account,
                    region,
                    time,
                    facts,
                    links,
                    exited: None,
                    about: None,
                    service: None,
                    is_explicable: false,
                    tags: None,
                    shown_tags: vec![(pick(), pick()), (pick(), format!("https://a.example/{}", pick()))],
                    diagnosis: (pick().len() % 2 == 0).then(|| diagnosis(&pick())),
                }
            })
            .collect();
        drain(&alerts, (round % 2 == 0).then_some("platform"));
        for alert in alerts.iter().take(20) {
            assert_within_limits(&single(alert, None).to_value());
            assert_within_limits(&plain_text(alert, Some("platform")).to_value());
        }
    }
}

#[test]
fn tags_are_shown_as_they_are_and_only_a_whole_address_can_be_tapped() {
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
fn an_alert_for_another_channel_says_so_in_every_form() {
    let line = "For #search-team, which Slack refuses: channel_is_archived";
    let carried = |subject: &str| Alert { carried_for: Some(line.to_owned()), ..impaired(subject) };
    let lines = |payload: &Value| payload.to_string().matches(line).count();
    assert_eq!(lines(&single(&carried("api"), None).to_value()), 1);
    assert_eq!(lines(&plain_text(&carried("api"), None).to_value()), 1);
    // The same service may be this channel's own, too.
    let mixed = [impaired("api"), carried("api"), carried("web")];
    let (few, taken) = digest(&mixed.each_ref(), None);
    assert_eq!((lines(&few.to_value()), taken), (2, 3));
    // Lists: the line stands below the heading of those that it is about.
    let many: Vec<Alert> = (0..60)
        .map(|i| if i % 2 == 0 { impaired(&format!("own-{i}")) } else { carried(&format!("carried-{i}")) })
        .collect();
    let (lists, taken) = digest(&many.iter().collect::<Vec<_>>(), None);
    let lists = lists.to_value();
    assert_eq!(taken, 60);
    let blocks = lists["attachments"][0]["blocks"].as_array().unwrap();
    let texts: Vec<String> = blocks.iter().map(ToString::to_string).filter(|text| text.contains("services:")).collect();
    assert_eq!(texts.len(), 2, "{texts:#?}");
    for text in texts {
        assert_eq!(text.contains(line), text.contains("carried-1"), "{text}");
        assert_eq!(text.contains("own-2"), !text.contains(line), "{text}");
    }
}

#[test]
fn the_last_resort_is_plain() {
    let mut alert = impaired("api <3");
    alert.reason = Some("no 🔥 here\nπ".to_owned());
    assert_eq!(
        plain_text(&alert, Some("platform")).to_value(),
        json!({"text": format!(
            ":rotating_light: api &lt;3 is unable to consistently start tasks successfully, example, platform, eu-west-1: no ? here π {CONSOLE}/api <3/health?region=eu-west-1"
        ).replace("/api <3/", "/api &lt;3/")})
    );
}
