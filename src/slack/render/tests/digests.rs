//! Many alerts in one message.

use std::collections::BTreeMap;

use super::{limits::drain, *};

/// How often each name of letters, digits, `-` and `_` appears in the blocks, without link targets.
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
fn a_digest_of_one_alert_is_the_alert_itself() {
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
fn the_same_service_with_another_problem_or_in_another_place_is_another_section() {
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
fn many_services_are_listed_by_problem_and_cluster() {
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
fn a_list_of_different_descriptions_shows_the_events_name() {
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
fn alerts_that_do_not_fit_lead_the_next_message() {
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
fn an_alert_for_another_channel_names_that_channel_in_every_layout() {
    let line = "For #search-team, which Slack refuses: channel_is_archived";
    let carried = |subject: &str| Alert { carried_for: Some(line.to_owned()), ..impaired(subject) };
    let lines = |payload: &Value| payload.to_string().matches(line).count();
    assert_eq!(lines(&single(&carried("api"), None).to_value()), 1);
    assert_eq!(lines(&plain_text(&carried("api"), None).to_value()), 1);
    // The same service may also have an alert of this channel.
    let mixed = [impaired("api"), carried("api"), carried("web")];
    let (few, taken) = digest(&mixed.each_ref(), None);
    assert_eq!((lines(&few.to_value()), taken), (2, 3));
    // Lists: the line is below the heading of the alerts that it is about.
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
