//! Bodies as they arrive, and the events that are decoded from them.

use serde_json::json;

use super::*;

fn decode(value: Value) -> Event {
    only(Event::decode(&value.to_string()))
}

fn fixture(name: &str) -> Event {
    let path = format!("{}/tests/fixtures/{name}.json", env!("CARGO_MANIFEST_DIR"));
    only(Event::decode(&std::fs::read_to_string(path).unwrap()))
}

#[test]
fn only_a_body_that_is_no_json_object_is_undecodable_and_the_error_does_not_quote_it() {
    for (body, error) in [
        ("", "the body is not JSON: EOF while parsing a value at line 1 column 0"),
        ("hunter2", "the body is not JSON: expected value at line 1 column 1"),
        ("{\n \"password\": hunter2}", "the body is not JSON: expected value at line 2 column 14"),
        ("[{\"password\": \"hunter2\"}]", "the body is JSON, but not an object"),
        ("\"hunter2\"", "the body is JSON, but not an object"),
        ("null", "the body is JSON, but not an object"),
    ] {
        assert_eq!(Event::decode(body).unwrap_err().to_string(), error, "{body}");
    }
    for body in [
        "{}".to_owned(),
        r#"{"a": 1e999}"#.to_owned(),
        format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000)),
    ] {
        assert!(Event::decode(&body).is_ok(), "{}", &body[..5]);
    }
}

#[test]
fn the_event_is_the_same_whatever_wrappers_are_around_it() {
    let plain =
        json!({ "id": "1", "detail-type": "ECS Service Action", "detail": { "eventName": "SERVICE_STEADY_STATE" } });
    let sns = |inner: &Value| json!({ "Type": "Notification", "TopicArn": "arn:aws:sns:eu-west-1:1:t", "Message": inner.to_string() });
    let lambda = |inner: &Value| json!({ "Records": [{ "body": inner.to_string() }] });
    let lambda_sns = json!({ "Records": [{ "EventSource": "aws:sns", "Sns": sns(&plain) }] });
    for body in [plain.clone(), sns(&plain), lambda(&plain), lambda(&sns(&plain)), sns(&sns(&plain)), lambda_sns] {
        assert_eq!(decode(body.clone()).value(), &plain, "{body}");
    }
}

#[test]
fn every_record_of_a_message_is_an_event_of_its_own() {
    let event =
        |n: u32| json!({ "id": n.to_string(), "detail-type": "ECS Service Action", "detail": { "eventName": "X" } });
    let sns = |n: u32| json!({ "Type": "Notification", "TopicArn": "arn:aws:sns:eu-west-1:1:t", "Message": event(n).to_string() });
    let record = |body: &Value| json!({ "messageId": "m", "receiptHandle": "secret", "body": body.to_string() });
    let from_cli = |body: &Value| json!({ "MessageId": "m", "ReceiptHandle": "secret", "MD5OfBody": "x", "Body": body.to_string() });
    let three = vec![event(1), event(2), event(3)];
    for body in [
        json!({ "Records": [record(&event(1)), record(&sns(2)), record(&event(3))] }),
        json!({ "Records": [{ "Sns": sns(1) }, { "Sns": sns(2) }, record(&event(3))] }),
        json!({ "Records": [record(&event(1)), record(&json!({ "Records": [record(&event(2)), record(&sns(3))] }))] }),
        json!({ "Messages": [from_cli(&event(1)), from_cli(&event(2)), from_cli(&event(3))] }),
        record(
            &json!({ "Records": [record(&event(1)), { "body": record(&event(2)).to_string() }, record(&event(3))] }),
        ),
    ] {
        let events = Event::decode(&body.to_string()).unwrap();
        assert_eq!(events.into_iter().map(|event| event.value).collect::<Vec<_>>(), three, "{body}");
    }
    // A record without an event is shown as it is, and the events in the other records are decoded.
    let text = json!({ "messageId": "m", "body": "checkout failed", "receiptHandle": "secret", "md5OfBody": "x" });
    let events = Event::decode(&json!({ "Records": [record(&event(1)), text, { "a": 1 }] }).to_string()).unwrap();
    let values: Vec<Value> = events.into_iter().map(|event| event.value).collect();
    assert_eq!(values, [event(1), json!({ "messageId": "m", "message": "checkout failed" }), json!({ "a": 1 })]);
}

#[test]
fn an_object_that_only_resembles_a_wrapper_is_kept() {
    for body in [
        json!({ "Records": [] }),
        json!({ "Records": [{ "body": "{}" }, 7] }),
        json!({ "Records": [{ "eventSource": "aws:s3" }, { "eventSource": "aws:s3" }] }),
        json!({ "Records": 7 }),
        json!({ "messageId": "m", "body": "text" }),
        json!({ "body": "{\"a\":1}" }),
        json!({ "Message": "{\"a\":1}" }),
        json!({ "Type": "Notification", "Message": "[1]" }),
        json!({ "Type": "Notification", "Message": 3 }),
    ] {
        assert_eq!(decode(body.clone()).value(), &body);
    }
}

#[test]
fn an_event_has_no_fields_that_confirm_or_end_an_sns_subscription() {
    let event = decode(json!({
        "Type": "SubscriptionConfirmation", "TopicArn": "arn:aws:sns:eu-west-1:1:t", "Message": "You have chosen to subscribe",
        "SubscribeURL": "https://sns/confirm", "Token": "t0ken", "Signature": "s",
    }));
    let kept = json!({ "Type": "SubscriptionConfirmation", "TopicArn": "arn:aws:sns:eu-west-1:1:t", "Message": "You have chosen to subscribe" });
    assert_eq!(event.value(), &kept);
}

#[test]
fn a_detail_alone_gets_its_source_and_detail_type_from_its_keys() {
    let arn = "arn:aws:ecs:eu-west-1:1:x/y";
    for (detail, source, detail_type) in [
        (json!({ "eventName": "SERVICE_TASK_START_IMPAIRED", "clusterArn": arn }), "aws.ecs", "ECS Service Action"),
        (
            json!({ "eventName": "SERVICE_DEPLOYMENT_FAILED", "deploymentId": "ecs-svc/1" }),
            "aws.ecs",
            "ECS Deployment State Change",
        ),
        (json!({ "eventName": "HOOK_FAILED", "deploymentId": "x" }), "aws.ecs", "ECS Hook State Change"),
        (json!({ "eventName": "DAEMON_TASK_START_IMPAIRED" }), "aws.ecs", "ECS Daemon Service Action"),
        (json!({ "eventName": "DAEMON_DEPLOYMENT_PENDING" }), "aws.ecs", "ECS Daemon Deployment State Change"),
        (
            json!({ "eventName": "PENDING", "daemonDeploymentArn": arn }),
            "aws.ecs",
            "ECS Daemon Deployment State Change",
        ),
        (
            json!({ "taskArn": arn, "lastStatus": "STOPPED", "containerInstanceArn": arn }),
            "aws.ecs",
            "ECS Task State Change",
        ),
        (
            json!({ "containerInstanceArn": arn, "agentConnected": true }),
            "aws.ecs",
            "ECS Container Instance State Change",
        ),
        (
            json!({ "containerInstanceArn": arn, "overallStatus": "OK" }),
            "aws.ecs",
            "ECS Container Instance Health Change",
        ),
        (json!({ "alarmName": "cpu", "state": {} }), "aws.cloudwatch", "CloudWatch Alarm State Change"),
        (
            json!({ "eventName": "RunTask", "eventSource": "ecs.amazonaws.com" }),
            "aws.ecs",
            "AWS API Call via CloudTrail",
        ),
        (json!({ "eventTypeCode": "AWS_X", "eventTypeCategory": "issue" }), "aws.health", "AWS Health Event"),
        (json!({ "finding-severity-counts": {} }), "aws.ecr", "ECR Image Scan"),
        (
            json!({ "eventTriggerName": "t", "applicationName": "a" }),
            "aws.codedeploy",
            "CodeDeploy Deployment State-change Notification",
        ),
        (
            json!({ "AutoScalingGroupName": "g", "Event": "autoscaling:EC2_INSTANCE_LAUNCH_ERROR" }),
            "aws.autoscaling",
            "EC2 Instance Launch Unsuccessful",
        ),
    ] {
        let whole = json!({ "source": source, "detail-type": detail_type, "detail": detail });
        assert_eq!(decode(detail.clone()).value(), &whole);
        assert_eq!(decode(json!({ "detail": detail })).value(), &whole, "in an event without a detail-type");
    }
    for other in [
        json!({ "eventName": "RunTask", "eventSource": "batch.amazonaws.com" }),
        json!({ "alarmName": "cpu" }),
        json!({ "a": 1 }),
    ] {
        assert_eq!(decode(other.clone()).value(), &other);
    }
}

#[test]
fn an_alarms_sns_notification_is_converted_to_its_eventbridge_event() {
    let region = "eu-west-1";
    assert_eq!(
        fixture("sns_legacy_alarm").value(),
        &json!({
            "source": "aws.cloudwatch",
            "detail-type": "CloudWatch Alarm State Change",
            "account": "210987654321",
            "region": region,
            "time": "2026-03-02T08:15:42.236+0000",
            "resources": ["arn:aws:cloudwatch:eu-west-1:210987654321:alarm:search-indexer queue age"],
            "detail": {
                "alarmName": "search-indexer queue age",
                "state": {
                    "value": "ALARM",
                    "reason": "Threshold Crossed: 1 datapoint [1240.0 (02/03/26 08:10:00)] was greater than the threshold (600.0)."
                },
                "previousState": { "value": "OK" },
                "configuration": {
                    "description": "Messages wait too long",
                    "metrics": [{ "metricStat": { "metric": {
                        "namespace": "AWS/SQS", "name": "ApproximateAgeOfOldestMessage", "dimensions": { "QueueName": "search-index" }
                    } } }]
                }
            }
        })
    );
    assert_eq!(decode(minimal_alarm()).region(), Some("EU (Ireland)"));
    let topic = json!({ "Type": "Notification", "TopicArn": "arn:aws:sns:eu-west-1:1:t", "Message": minimal_alarm().to_string() });
    assert_eq!(decode(topic).region(), Some(region), "an alarm's topic is in its region");
}

fn minimal_alarm() -> Value {
    json!({ "AlarmName": "cpu", "NewStateValue": "OK", "Region": "EU (Ireland)" })
}

#[test]
fn no_event_contains_a_containers_environment() {
    let list = json!([{ "name": "DB_PASSWORD", "value": "hunter2" }]);
    let overrides = json!({ "overrides": { "containerOverrides": [{ "name": "app", "environment": list, "environmentFiles": list }] } });
    let pretty = serde_json::to_string_pretty(&overrides).unwrap();
    let bodies = [
        overrides.clone(),
        json!({ "Environment": list, "ENVIRONMENTFILES": { "a": "hunter2" } }),
        json!({ "environment": list.to_string() }),
        json!({ "Type": "Notification", "Message": json!({ "detail": overrides }).to_string() }),
        json!({ "Records": [{ "body": overrides.to_string() }] }),
        json!({ "Records": [{ "body": format!("text {overrides}") }] }),
        json!({ "text": format!("Task stopped: {overrides}") }),
        json!({ "text": format!("Task stopped: {pretty}") }),
        json!({ "text": json!({ "text": pretty }).to_string() }),
        json!({ "text": "{'environment': [{'name': 'DB_PASSWORD', 'value': 'hunter2'}]}" }),
    ];
    for body in bodies {
        let event = decode(body.clone());
        assert!(!event.value().to_string().contains("hunter2"), "{body} left {}", event.value());
    }
    assert!(!fixture("task_with_environment").value().to_string().contains("hunter2"));
    for depth in [1, 100, 125, 126, 127, 128, 200, 50_000] {
        let (open, close) = ("{\"a\":[".repeat(depth / 2), "]}".repeat(depth / 2));
        for environment in [format!("{{\"environment\":{list}}}"), format!("{{\"envir\\u006fnment\":{list}}}")] {
            for body in
                [format!("{open}{environment}{close}"), format!("{{\"environment\":[{open}{environment}{close}]}}")]
            {
                let event = only(Event::decode(&body));
                assert!(!event.value().to_string().contains("hunter2"), "at {depth}: {}", event.value());
            }
        }
    }
}

#[test]
fn a_field_or_text_that_only_mentions_an_environment_stays() {
    let body = json!({ "environment": "production", "environmentName": ["a"], "text": "the \"environment\": production, Environment [eu]" });
    assert_eq!(decode(body.clone()).value(), &body);
}

#[test]
fn a_field_of_an_unexpected_type_counts_as_missing() {
    let event = decode(json!({
        "id": 7, "source": null, "detail-type": "ECS Task State Change", "account": 210987654321_u64, "region": [], "time": 12,
        "resources": "arn:aws:ecs:eu-west-1:1:task/a/b",
        "detail": { "lastStatus": 3, "containers": [null, 7, { "exitCode": "137", "name": {}, "reason": 1 }, { "exitCode": 1.5 }], "taskArn": false },
    }));
    assert_eq!((event.id(), event.source(), event.time()), (None, None, None));
    assert_eq!(event.resources().count(), 0);
    let Detail::Task(task) = event.detail() else { panic!("not a task") };
    assert_eq!(
        task.containers.iter().map(|container| container.exit_code).collect::<Vec<_>>(),
        [None, None, Some(137), None]
    );
    for detail in [json!(null), json!("text"), json!([1])] {
        assert!(matches!(
            decode(json!({ "detail-type": "ECS Service Action", "detail": detail })).detail(),
            Detail::ServiceAction(_)
        ));
    }
}

#[test]
fn missing_regions_and_accounts_come_from_an_arn() {
    let event = fixture("service_no_time_region_account");
    assert_eq!((event.region(), event.account()), (Some("eu-west-1"), Some("210987654321")));
    assert_eq!(event.time(), parse_time("2026-03-02T08:15:42.317Z"));
    let text = decode(json!({ "text": "see arn:aws:s3:::b and arn:aws:ecs:eu-north-1:42:service/prod/checkout." }));
    assert_eq!((text.region(), text.account()), (Some("eu-north-1"), Some("42")));
    assert_eq!((text.service(), text.cluster()), (Some("checkout"), Some("prod")));
}

#[test]
fn the_service_and_cluster_come_from_the_services_arn_wherever_it_is() {
    for (name, service, cluster) in [
        ("service_several_resources", Some("checkout"), Some("prod")),
        ("service_other_cluster_in_detail", Some("checkout"), Some("prod")),
        ("service_old_arn", Some("checkout"), Some("prod")),
        ("service_no_resources", None, Some("prod")),
        ("hook_awaiting_action", Some("checkout"), Some("prod")),
        ("task_stopped_oom", Some("checkout"), Some("prod")),
        ("task_spot_notice_old_arn", None, Some("prod")),
        ("task_stopped_exit_0_batch", None, Some("prod")),
        ("bare_detail_deployment", None, None),
    ] {
        let event = fixture(name);
        assert_eq!((event.service(), event.cluster()), (service, cluster), "{name}");
    }
}

#[test]
fn times_are_parsed_in_every_format_that_aws_uses() {
    for (text, nanosecond) in [
        ("2026-03-02T08:15:42Z", 0),
        ("2026-03-02T08:15:42.618059641Z", 618_059_641),
        ("2026-03-02T09:15:42.618+01:00", 618_000_000),
        ("2026-03-02T08:15:42.618+0000", 618_000_000),
    ] {
        let time = parse_time(text).unwrap();
        assert_eq!((time.unix_timestamp(), time.nanosecond()), (1_772_439_342, nanosecond), "{text}");
    }
    for text in ["", "now", "+0000", "ünïcödé", "2026-03-02"] {
        assert_eq!(parse_time(text), None, "{text}");
    }
    let stop = decode(
        json!({ "detail-type": "x", "detail": { "createdAt": "2026-03-01T00:00:00Z", "stoppedAt": "2026-03-02T08:15:42Z" } }),
    );
    assert_eq!(stop.time(), parse_time("2026-03-02T08:15:42Z"), "the time of the stop, not of the creation");
}

#[test]
fn only_an_event_with_a_detail_type_has_an_id() {
    assert_eq!(decode(json!({ "id": "web-1", "text": "down" })).id(), None, "it may be the same in every message");
    assert_eq!(decode(json!({ "id": "x".repeat(129), "detail-type": "t" })).id(), None);
    assert_eq!(decode(json!({ "id": "5d1c", "detail-type": "t" })).id(), Some("5d1c"));
}

#[test]
fn half_an_emoji_is_replaced_and_the_event_is_decoded() {
    for (reason, expected) in [
        (r"\ud800 x", "\u{fffd} x"),
        (r"x \uDC00", "x \u{fffd}"),
        (r"\ud83e\udd80 \ud83e", "🦀 \u{fffd}"),
        (r"\\ud800 \ud800\ud800", "\\ud800 \u{fffd}\u{fffd}"),
    ] {
        let body =
            format!(r#"{{"detail-type":"ECS Service Action","detail":{{"eventName":"X","reason":"{reason}"}}}}"#);
        let event = only(Event::decode(&body));
        assert_eq!(event.detail_value()["reason"], expected, "{reason}");
    }
    assert!(Event::decode(r#"{"a": "\ud800", "b"}"#).is_err());
}

/// The one event of a message.
#[track_caller]
fn only(decoded: Result<Vec<Event>, Undecodable>) -> Event {
    let [event] = <[Event; 1]>::try_from(decoded.unwrap()).unwrap();
    event
}
