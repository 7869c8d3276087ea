//! Metrics, health and logs, as an operator sees them.

use lab::{
    events::Ecs,
    fault::{Fault, FaultyAws},
    slack::Answer,
    worker::Worker,
};
use serde_json::json;

use crate::world::{BINARY, World, outcome_line};

#[tokio::test]
async fn every_promised_series_exists_from_the_start() {
    let world = World::new().await;
    let worker = world.worker().await;
    let metrics = worker.metrics().await.unwrap();
    let channel = ("channel", "default");
    let mut expected: Vec<(&str, Vec<(&str, &str)>)> = vec![
        ("messages_received_total", vec![]),
        ("in_flight_messages", vec![]),
        ("log_lines_dropped_total", vec![]),
        ("channel_blocked", vec![channel]),
        ("queue_delay_seconds_count", vec![]),
        ("alert_delay_seconds_count", vec![channel]),
        ("alert_delay_seconds_bucket", vec![channel, ("le", "+Inf")]),
        ("slack_request_duration_seconds_count", vec![channel]),
    ];
    for outcome in ["posted", "duplicate", "unrouted", "deferred", "undecodable"] {
        expected.push(("messages_total", vec![("outcome", outcome)]));
    }
    for severity in ["info", "warning", "critical"] {
        expected.push(("alerts_total", vec![channel, ("severity", severity)]));
    }
    for outcome in ["ok", "rate_limited", "server_error", "network_error", "refused"] {
        expected.push(("slack_requests_total", vec![channel, ("outcome", outcome)]));
    }
    for operation in ["ReceiveMessage", "DeleteMessageBatch", "ChangeMessageVisibilityBatch", "GetQueueUrl"] {
        expected.push(("sqs_requests_total", vec![("operation", operation), ("outcome", "error")]));
    }
    let diagnoses = ["ok", "partial", "unknown", "denied", "throttled", "timeout", "error", "skipped"];
    expected.extend(diagnoses.map(|outcome| ("diagnoses_total", vec![("outcome", outcome)])));
    for queue in ["main", "dlq"] {
        for state in ["visible", "in_flight", "delayed"] {
            expected.push(("queue_messages", vec![("queue", queue), ("state", state)]));
        }
    }
    for (name, labels) in expected {
        assert_eq!(metrics.get(name, &labels), Some(0.0), "{name}{labels:?}");
    }
    let build = metrics.samples().iter().find(|sample| sample.name == "ecs_slack_alerts_build_info").unwrap();
    assert_eq!(build.value, 1.0);
    assert!(metrics.get("process_cpu_seconds_total", &[]).is_some());
    assert!(metrics.get("process_resident_memory_bytes", &[]) > Some(0.0));
}

#[tokio::test]
async fn queue_messages_counts_the_messages_of_the_queues() {
    let world = World::new().await;
    world.dlq.send(&["left over".to_owned()]).await.unwrap();
    let worker = world.worker().await;
    let dlq = [("queue", "dlq"), ("state", "visible")];
    crate::world::metric_is(&worker, "queue_messages", &dlq, 1.0).await;
}

#[tokio::test]
async fn an_alerts_delay_is_measured_on_its_first_receive() {
    let world = World::new().await;
    // An empty RUST_LOG counts as unset. If it turned the log off, this test could not find the worker's address.
    let mut environment = world.environment();
    environment.push(("RUST_LOG".into(), String::new()));
    let worker = Worker::spawn(BINARY, environment, &["run"]).unwrap();
    worker.wait_ready().await.unwrap();
    world.queue.send_events(&[Ecs::default().start_impaired("timed")]).await.unwrap();
    outcome_line(&worker, "timed", "posted").await;
    let metrics = worker.metrics().await.unwrap();
    let channel = [("channel", "default")];
    assert_eq!(metrics.get("alert_delay_seconds_count", &channel), Some(1.0));
    assert_eq!(metrics.get("queue_delay_seconds_count", &[]), Some(1.0));
    let within = [("channel", "default"), ("le", "10")];
    assert_eq!(metrics.get("alert_delay_seconds_bucket", &within), Some(1.0));
    assert_eq!(metrics.get("alerts_total", &[channel[0], ("severity", "critical")]), Some(1.0));
}

#[tokio::test]
async fn the_worker_is_not_ready_before_the_queue_answers() {
    let world = World::new().await;
    let proxy = FaultyAws::start(&world.aws).await.unwrap();
    proxy.script("GetQueueAttributes", [Fault::Error(500, "InternalFailure")]);
    let mut environment = world.environment();
    environment.extend(proxy.environment());
    let worker = Worker::spawn(BINARY, environment, &["run"]).unwrap();
    let (status, reason) = worker.get("/readyz").await.unwrap();
    assert_eq!(status, 503, "{reason}");
    assert_eq!(worker.get("/healthz").await.unwrap().0, 200);
    worker.wait_ready().await.unwrap();
}

#[tokio::test]
async fn no_log_line_or_metric_holds_a_secret() {
    let world = World::new().await;
    let mut environment = world.environment();
    environment.push(("RUST_LOG".into(), "debug".into()));
    let worker = Worker::spawn(BINARY, environment, &["run"]).unwrap();
    worker.wait_ready().await.unwrap();
    world.slack.script(
        &world.name,
        [
            Answer::Reset,
            Answer::Status(403, "invalid_token"),
            Answer::Status(500, "x"),
            Answer::Status(400, "invalid_blocks"),
        ],
    );
    let mut event = Ecs::default().image_missing("guarded");
    event["detail"]["overrides"] = json!({"containerOverrides": [{"name": "app", "environment": [{"name": "DB_PASSWORD", "value": "opensesame"}]}]});
    world.queue.send_events(&[event]).await.unwrap();
    outcome_line(&worker, "guarded", "posted").await;
    let metrics = format!("{:?}", worker.metrics().await.unwrap().samples());
    let posts: String = world.slack.requests().iter().map(|request| request.payload.to_string()).collect();
    let log: String = worker.lines().into_iter().map(|line| line.text + "\n").collect();
    // The secret is the webhook's path. Its host and port are not secret.
    for (place, text) in [("log", &log), ("metrics", &metrics), ("Slack", &posts)] {
        assert!(!text.contains("/services/T00000000"), "the webhook is in {place}");
        assert!(!text.contains("opensesame"), "the environment is in {place}");
    }
    let warned = log.lines().filter(|line| line.contains("trying again")).count();
    assert!(warned >= 2, "each failure is logged: {log}");
}
