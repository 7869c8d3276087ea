//! Events as they arrive, and the alerts for them.

use serde_json::{Value, json};

use super::*;
use Severity::{Critical, Info, Warning};

mod task;

fn fixtures() -> impl Iterator<Item = (String, Alert)> {
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures")).unwrap();
    files.map(|file| file.unwrap().path()).filter(|path| path.extension().is_some_and(|kind| kind == "json")).map(
        |path| {
            let event = Event::decode(&std::fs::read_to_string(&path).unwrap()).unwrap().remove(0);
            (path.file_stem().unwrap().to_str().unwrap().to_owned(), Alert::from_event(&event))
        },
    )
}

fn fixture(name: &str) -> Alert {
    fixtures().find(|(stem, _)| stem == name).unwrap_or_else(|| panic!("no fixture {name}")).1
}

fn alert(event: Value) -> Alert {
    Alert::from_event(&Event::decode(&event.to_string()).unwrap()[0])
}

#[test]
fn every_severity_is_a_label_of_the_metrics() {
    assert_eq!(Severity::ALL.map(Severity::as_str), crate::metrics::SEVERITIES);
}

fn action(detail: Value) -> Alert {
    alert(json!({
        "detail-type": "ECS Service Action", "resources": ["arn:aws:ecs:eu-west-1:1:service/prod/checkout"], "detail": detail
    }))
}

fn stopped(detail: Value) -> Alert {
    let mut task = json!({
        "taskArn": "arn:aws:ecs:eu-west-1:1:task/prod/33a7f27282624543", "lastStatus": "STOPPED", "group": "service:checkout"
    });
    task.as_object_mut().unwrap().extend(detail.as_object().unwrap().clone());
    alert(json!({ "detail-type": "ECS Task State Change", "detail": task }))
}

/// (fixture, severity, kind, "{subject} {what}", cause)
#[rustfmt::skip]
const EXPECTED: &[(&str, Severity, &str, &str, Option<&str>)] = &[
    ("service_task_start_impaired", Critical, "SERVICE_TASK_START_IMPAIRED", "image_inferrer is unable to consistently start tasks successfully", None),
    ("service_steady_state", Info, "SERVICE_STEADY_STATE", "checkout has reached a steady state", None),
    ("service_tasks_stopped", Info, "TASKS_STOPPED", "checkout has stopped running tasks", None),
    ("service_placement_failure_cpu", Critical, "SERVICE_TASK_PLACEMENT_FAILURE", "search-indexer was unable to place a task", Some("capacity")),
    ("service_configuration_failure", Critical, "SERVICE_TASK_CONFIGURATION_FAILURE", "billing-worker was unable to place a task because of a configuration error", Some("iam")),
    ("service_throttled", Warning, "ECS_OPERATION_THROTTLED", "checkout is throttled by the limits of the ECS API", None),
    ("service_unknown_event_name", Warning, "SERVICE_QUANTUM_DRIFT", "checkout reported: service quantum drift", None),
    ("service_old_arn", Critical, "SERVICE_TASK_START_IMPAIRED", "checkout is unable to consistently start tasks successfully", None),
    ("service_no_resources", Critical, "SERVICE_TASK_START_IMPAIRED", "a service in prod is unable to consistently start tasks successfully", None),
    ("deployment_in_progress", Info, "SERVICE_DEPLOYMENT_IN_PROGRESS", "checkout deployment is in progress", None),
    ("deployment_rollback", Warning, "SERVICE_DEPLOYMENT_IN_PROGRESS", "checkout is rolling back to its last deployment: the circuit breaker triggered", None),
    ("deployment_completed", Info, "SERVICE_DEPLOYMENT_COMPLETED", "checkout deployment completed", None),
    ("deployment_failed", Critical, "SERVICE_DEPLOYMENT_FAILED", "checkout deployment failed", Some("deployment")),
    ("hook_awaiting_action", Warning, "HOOK_AWAITING_ACTION", "checkout deployment is waiting for somebody to act at POST_TEST_TRAFFIC_SHIFT", None),
    ("hook_failed", Critical, "HOOK_FAILED", "checkout deployment failed at a lifecycle hook", None),
    ("daemon_task_start_impaired", Critical, "DAEMON_TASK_START_IMPAIRED", "node-agent has a task that was started but failed to run", Some("image_missing")),
    ("daemon_deployment_pending", Info, "DAEMON_DEPLOYMENT_PENDING", "node-agent deployment is pending", None),
    ("daemon_deployment_rollback", Warning, "DAEMON_DEPLOYMENT_ROLLBACK_IN_PROGRESS", "node-agent is rolling back to its last deployment", None),
    ("daemon_deployment_rollback_failed", Critical, "DAEMON_DEPLOYMENT_ROLLBACK_FAILED", "node-agent failed to roll back to its last deployment", None),
    ("task_running", Info, "TASK_STATE_CHANGE", "checkout task is running", None),
    ("task_failed_image_missing", Critical, "TASK_FAILED_TO_START", "checkout task failed to start", Some("image_missing")),
    ("task_failed_iam_denied", Critical, "TASK_FAILED_TO_START", "checkout task failed to start", Some("iam")),
    ("task_failed_network", Critical, "TASK_FAILED_TO_START", "checkout task failed to start", Some("network")),
    ("task_failed_ec2_reason_in_container", Critical, "TASK_FAILED_TO_START", "checkout task failed to start", Some("registry_rate_limit")),
    ("task_failed_standalone", Warning, "TASK_FAILED_TO_START", "nightly-report task failed to start", Some("image_missing")),
    ("task_stopped_exit_code", Warning, "TASK_STOPPED", "checkout task stopped: essential container `app` exited with code 2", Some("crash")),
    ("task_stopped_exit_0_service", Warning, "TASK_STOPPED", "checkout task stopped: essential container `app` exited with code 0", Some("completed")),
    ("task_stopped_exit_0_batch", Info, "TASK_STOPPED", "nightly-report task stopped: essential container `report` exited with code 0", Some("completed")),
    ("task_stopped_oom", Warning, "TASK_STOPPED", "checkout task stopped: essential container `app` exited with code 137", Some("oom")),
    ("task_stopped_scale_in_137", Info, "TASK_STOPPED", "checkout task was stopped by the service scheduler", Some("routine_scaling")),
    ("task_stopped_elb_health_check", Warning, "TASK_STOPPED", "checkout task was stopped: it failed its health checks", Some("health_check_lb")),
    ("task_stopped_container_health_check", Warning, "TASK_STOPPED", "checkout task was stopped: it failed its health checks", Some("health_check_container")),
    ("task_stopped_by_user", Info, "TASK_STOPPED", "checkout task was stopped by a user", Some("user")),
    ("task_stopped_spot", Warning, "SPOT_INTERRUPTION", "checkout task was stopped by a Spot interruption", Some("spot")),
    ("task_spot_notice_old_arn", Warning, "SPOT_INTERRUPTION", "task 0d3f6c52 is about to be stopped by a Spot interruption", Some("spot")),
    ("task_stopped_infrastructure", Warning, "TASK_STOPPED", "checkout task was stopped: its infrastructure is impaired", Some("host_gone")),
    ("task_stopped_no_stop_code", Info, "TASK_STOPPED", "checkout task was stopped by the service scheduler", Some("routine_scaling")),
    ("task_stopped_unknown_stop_code", Warning, "TASK_STOPPED", "checkout task stopped", None),
    ("wrong_types", Warning, "TASK_STOPPED", "checkout task stopped: essential container `app` exited with code 3", Some("crash")),
    ("instance_agent_disconnected", Info, "CONTAINER_INSTANCE_STATE_CHANGE", "i-0a91f3c2b47de8805 has its ECS agent disconnected", None),
    ("instance_registration_failed", Warning, "CONTAINER_INSTANCE_STATE_CHANGE", "i-0a91f3c2b47de8805 failed to register", None),
    ("instance_health_impaired", Warning, "CONTAINER_INSTANCE_HEALTH_CHANGE", "i-0a91f3c2b47de8805 is impaired: agent connectivity", Some("agent")),
    ("instance_health_ok", Info, "CONTAINER_INSTANCE_HEALTH_CHANGE", "i-0a91f3c2b47de8805 is healthy", None),
    ("alarm_in_alarm", Critical, "ALARM", "checkout CPU > 90% is in ALARM", None),
    ("alarm_ok", Info, "ALARM", "checkout CPU > 90% is OK", None),
    ("sns_legacy_alarm", Critical, "ALARM", "search-indexer queue age is in ALARM", None),
    ("sns_plain_text", Warning, "UNKNOWN", "ecs-events reported: Disk almost full", None),
    ("bare_detail_deployment", Critical, "SERVICE_DEPLOYMENT_FAILED", "unknown service deployment failed", Some("deployment")),
    ("unknown_shape", Warning, "UNKNOWN", "checkout cannot start tasks", None),
    ("unknown_shape_flat", Warning, "UNKNOWN", "unknown source reported: The queue grows faster than it is read", None),
    ("unknown_detail_type", Warning, "Release Pipeline Finished", "com.example.releases reported: The smoke test failed — rejected", None),
    ("unknown_ecs_detail_type", Warning, "EXPRESS_SERVICE_UNREACHABLE", "checkout reported: express service unreachable", None),
];

#[test]
fn each_fixture_has_the_expected_alert() {
    for (name, severity, kind, sentence, cause) in EXPECTED {
        let alert = fixture(name);
        let headline = format!("{} {}", alert.subject, alert.what);
        let category = alert.cause.map(|cause| cause.category.as_str());
        assert_eq!(
            (alert.severity, alert.kind.as_str(), headline.as_str(), category),
            (*severity, *kind, *sentence, *cause),
            "{name}"
        );
    }
}

#[test]
fn every_alert_has_a_headline_links_only_to_aws_and_few_facts() {
    let hosts = [
        ".console.aws.amazon.com/",
        ".console.amazonaws.cn/",
        ".console.amazonaws-us-gov.com/",
        ".console.amazonaws-eusc.eu/",
    ];
    for (name, alert) in fixtures() {
        assert!(!alert.subject.is_empty() && !alert.what.is_empty() && !alert.kind.is_empty(), "{name}");
        assert!(alert.facts.len() <= 5, "{name}: {:?}", alert.facts);
        for link in &alert.links {
            let host = link.url.split_inclusive('/').nth(2).unwrap();
            assert!(hosts.iter().any(|known| host.ends_with(known)), "{name}: {}", link.url);
        }
        assert!(!format!("{alert:?}").contains("hunter2"), "{name}");
    }
}

#[test]
fn links_lead_to_the_service_then_the_stopped_task_then_its_log() {
    let labels = |name: &str| fixture(name).links.iter().map(|link| link.page.label()).collect::<Vec<_>>();
    assert_eq!(labels("service_task_start_impaired"), ["View in console"]);
    assert_eq!(labels("task_stopped_oom"), ["View in console", "Stopped task", "Log"]);
    assert_eq!(
        labels("task_failed_image_missing"),
        ["View in console", "Stopped task"],
        "a task that never ran has no log"
    );
    assert_eq!(labels("task_stopped_exit_0_batch"), ["Stopped task", "Log"]);
    assert_eq!(labels("task_spot_notice_old_arn"), ["Task"]);
    assert_eq!(labels("iso_partition"), [""; 0], "the console of this partition is not known");
    assert_eq!(labels("hostile_names"), [""; 0], "the Region contains another host");
    assert_eq!(labels("bare_detail_deployment"), [""; 0], "nothing to link to");

    let task =
        stopped(json!({ "stopCode": "EssentialContainerExited", "containers": [{ "name": "app", "exitCode": 1 }] }));
    let urls: Vec<&str> = task.links.iter().map(|link| link.url.as_str()).collect();
    let clusters = "https://eu-west-1.console.aws.amazon.com/ecs/v2/clusters";
    assert_eq!(
        urls,
        [
            format!("{clusters}/prod/services/checkout/deployments?region=eu-west-1"),
            format!("{clusters}/prod/tasks/33a7f27282624543?region=eu-west-1"),
            format!("{clusters}/prod/tasks/33a7f27282624543/logs?region=eu-west-1"),
        ]
    );
    for (name, url) in [
        (
            "china_partition",
            "https://cn-northwest-1.console.amazonaws.cn/ecs/v2/clusters/prod/services/checkout/deployments?region=cn-northwest-1",
        ),
        (
            "gov_partition",
            "https://us-gov-west-1.console.amazonaws-us-gov.com/ecs/v2/clusters/prod/services/checkout/deployments?region=us-gov-west-1",
        ),
        ("instance_health_impaired", &format!("{clusters}/prod/infrastructure?region=eu-west-1")),
        ("daemon_task_start_impaired", &format!("{clusters}/prod/services?region=eu-west-1")),
        (
            "alarm_in_alarm",
            "https://eu-west-1.console.aws.amazon.com/cloudwatch/home?region=eu-west-1#alarmsV2:alarm/checkout%20CPU%20%3E%2090%25",
        ),
    ] {
        assert_eq!(fixture(name).links.first().unwrap().url, url, "{name}");
    }
}

#[test]
fn an_unknown_event_name_is_a_warning_whatever_its_event_type() {
    for event_type in [json!("ERROR"), json!("WARN"), json!("INFO"), json!("NOTICE"), json!(null), json!(7)] {
        let alert = action(json!({ "eventName": "SERVICE_FOO_BAR", "eventType": event_type }));
        assert_eq!((alert.severity, alert.what.as_str()), (Warning, "reported: service foo bar"), "{event_type}");
    }
    let nameless = action(json!({}));
    assert_eq!((nameless.severity, nameless.kind.as_str()), (Warning, "ECS Service Action"));
    assert_eq!(nameless.what, "reported: an event without a name");
}

#[test]
fn a_rollback_in_progress_is_a_warning_although_its_event_type_is_info() {
    let rolling = "ECS deployment alarms: rolling back to deploymentId ecs-svc/1.";
    for (name, reason, severity) in [
        ("SERVICE_DEPLOYMENT_IN_PROGRESS", rolling, Warning),
        ("SERVICE_DEPLOYMENT_IN_PROGRESS", "Rollback requested by a user.", Warning),
        ("SERVICE_DEPLOYMENT_REWINDING", rolling, Warning),
        ("SERVICE_DEPLOYMENT_COMPLETED", "ECS deployment ecs-svc/1 completed: rollback done.", Info),
        ("SERVICE_DEPLOYMENT_FAILED", rolling, Critical),
    ] {
        let alert = action(json!({ "eventName": name, "eventType": "INFO", "reason": reason }));
        assert_eq!(alert.severity, severity, "{name}: {reason}");
    }
}

#[test]
fn the_state_of_an_instance_or_alarm_decides_its_severity() {
    let instance =
        |detail| alert(json!({ "detail-type": "ECS Container Instance State Change", "detail": detail })).severity;
    assert_eq!(instance(json!({ "status": "ACTIVE", "agentConnected": false })), Info);
    assert_eq!(instance(json!({ "status": "DRAINING" })), Info);
    assert_eq!(instance(json!({})), Warning);
    let health =
        |detail| alert(json!({ "detail-type": "ECS Container Instance Health Change", "detail": detail })).severity;
    assert_eq!(health(json!({ "healthChecks": [{ "status": "IMPAIRED" }] })), Warning);
    assert_eq!(health(json!({ "overallStatus": "INSUFFICIENT_DATA" })), Info);
    assert_eq!(health(json!({ "overallStatus": "ON_FIRE" })), Warning);
    let alarm = |state| alert(json!({ "alarmName": "cpu", "state": { "value": state } })).severity;
    assert_eq!(
        [alarm("ALARM"), alarm("OK"), alarm("INSUFFICIENT_DATA"), alarm("NEW")],
        [Critical, Info, Info, Warning]
    );
    assert_eq!(fixture("alarm_of_scaling_policy").severity, Info, "it changes whenever the service scales");
}

#[test]
fn a_name_that_the_event_repeats_is_shown_once() {
    let fact =
        |alert: &Alert, name: &str| alert.facts.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let services = ["search", "checkout", "search", "billing", "checkout"];
    let arns = services.map(|name| format!("arn:aws:ecs:eu-west-1:1:service/prod/{name}"));
    let several = alert(json!({
        "detail-type": "ECS Service Action", "resources": arns, "detail": { "eventName": "SERVICE_TASK_START_IMPAIRED" }
    }));
    assert_eq!(several.subject, "search, checkout, billing");
    let same = alert(json!({
        "detail-type": "ECS Service Action", "resources": [arns[0], arns[2]], "detail": { "eventName": "SERVICE_STEADY_STATE" }
    }));
    assert_eq!(same.subject, "search");

    let triggers =
        ["cpu", "memory", "cpu"].map(|name| json!({ "arn": format!("arn:aws:cloudwatch:eu-west-1:1:alarm:{name}") }));
    let metrics = [("AWS/SQS", "Age"), ("AWS/ECS", "Cpu"), ("AWS/SQS", "Age"), ("AWS/SQS", "Depth")]
        .map(|(namespace, name)| json!({ "metricStat": { "metric": { "namespace": namespace, "name": name } } }));
    let alarm = alert(json!({
        "alarmName": "all",
        "state": { "value": "ALARM", "reasonData": json!({ "triggeringAlarms": triggers }).to_string() },
        "configuration": { "metrics": metrics },
    }));
    assert_eq!(fact(&alarm, "Triggered by").as_deref(), Some("cpu, memory"));
    assert_eq!(fact(&alarm, "Metrics").as_deref(), Some("AWS/SQS Age, Depth; AWS/ECS Cpu"));
}

#[test]
fn the_alert_about_a_stopped_task_has_its_reason_image_and_platform() {
    let ec2 = fixture("task_failed_ec2_reason_in_container");
    let reason = ec2.reason.unwrap();
    assert!(
        reason.starts_with("app: CannotPullContainerError: toomanyrequests"),
        "the container's reason comes first, because it says more: {reason}"
    );
    assert!(reason.ends_with("\nTask failed to start"));
    let labels: Vec<&str> = ec2.facts.iter().map(|(label, _)| label.as_str()).collect();
    assert_eq!(labels, ["Container", "Image", "Task definition", "Availability Zone", "Platform"]);
    assert_eq!(ec2.facts[1].1, "docker.io/example/checkout:latest");

    let standalone = stopped(json!({ "group": null, "stopCode": "TaskFailedToStart" }));
    assert_eq!((standalone.subject.as_str(), standalone.what.as_str()), ("task 33a7f272", "failed to start"));
    let anonymous = alert(json!({ "detail-type": "ECS Task State Change", "detail": { "lastStatus": "STOPPED" } }));
    assert_eq!((anonymous.subject.as_str(), anonymous.what.as_str()), ("unknown task", "stopped"));
}

#[test]
fn the_alert_about_an_unknown_shape_shows_its_fields_but_no_secret() {
    let alert = fixture("unknown_shape_flat");
    let facts: Vec<_> = alert.facts.iter().map(|(label, value)| (label.as_str(), value.as_str())).collect();
    assert_eq!(facts, [("alert", "queue depth"), ("depth", "12400"), ("host", "build-host-3"), ("muted", "false")]);
    let empty = self::alert(json!({}));
    assert_eq!((empty.subject.as_str(), empty.what.as_str()), ("unknown source", "sent an event of unknown shape"));
    let transformed = self::alert(json!({
        "eventName": "SERVICE_TASK_START_IMPAIRED", "service": "checkout", "cluster": "prod", "eventType": "WARN"
    }));
    assert_eq!((transformed.severity, transformed.subject.as_str()), (Critical, "checkout"));
    assert_eq!(transformed.cluster.as_deref(), Some("prod"));
}

#[test]
fn a_cloudtrail_event_about_ecs_is_not_taken_for_an_ecs_event() {
    let call = alert(json!({
        "source": "aws.ecs", "detail-type": "AWS API Call via CloudTrail",
        "detail": { "eventName": "UpdateService", "eventType": "AwsApiCall", "requestParameters": { "service": "checkout" } }
    }));
    assert_eq!((call.severity, call.kind.as_str()), (Warning, "UpdateService"));
    assert_eq!(format!("{} {}", call.subject, call.what), "checkout reported: UpdateService was called");
}

#[test]
fn hostile_text_is_bounded_and_on_one_line() {
    let long = "\u{1F525}é\n\u{202e}\u{7}".repeat(20_000);
    let alerts = [
        action(json!({ "eventName": long, "reason": long })),
        stopped(json!({ "group": format!("service:{long}"), "stoppedReason": long,
            "containers": vec![json!({ "name": long, "image": long, "reason": long, "exitCode": 1 }); 3] })),
        alert(
            json!({ "detail-type": long, "source": long, "account": long, "region": long, "detail": { "title": long, "x": long } }),
        ),
        alert(json!({ "text": long, (long.clone()): long })),
        alert(json!({ "alarmName": long, "state": { "value": long, "reason": long } })),
        alert(
            json!({ "resources": [format!("arn:aws:ecs:eu-west-1:1:service/{long}/{long}")], "detail-type": "ECS Service Action" }),
        ),
    ];
    for alert in alerts {
        let lines = [
            (Some(&alert.kind), 100),
            (Some(&alert.subject), 255),
            (Some(&alert.what), 500),
            (alert.cluster.as_ref(), 255),
            (alert.account.as_ref(), 64),
            (alert.region.as_ref(), 64),
        ];
        let facts = alert.facts.iter().flat_map(|(label, value)| [(Some(label), 50), (Some(value), 255)]);
        for (line, max) in lines.into_iter().chain(facts) {
            let line = line.map_or("", String::as_str);
            assert!(line.chars().count() <= max && !line.contains(crate::text::is_display_control), "{line:?}");
        }
        assert!(alert.reason.is_none_or(|reason| reason.chars().count() <= 10_000 && !reason.contains('\u{7}')));
        assert!(alert.links.iter().all(|link| link.url.len() <= 2_000));
    }
    let blank = action(json!({ "eventName": "\u{7}" }));
    assert_eq!(blank.kind, "UNKNOWN");
}
