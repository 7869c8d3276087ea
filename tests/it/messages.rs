//! The content of messages: copies of an event, unusual JSON, and several events in one message.

use lab::{events::Ecs, fault::FaultyAws, slack::Answer, worker::Worker};
use serde_json::{Value, json};

use crate::world::{BINARY, LIMIT, World, metric_is, outcome_line};

const OUTCOMES: &str = "messages_total";

fn in_sns(event: &Value, message_id: &str) -> String {
    let notification = json!({
        "Type": "Notification", "MessageId": message_id, "TopicArn": "arn:aws:sns:eu-west-1:123456789012:ecs",
        "Timestamp": format!("2026-03-14T15:09:{message_id}Z"), "Signature": message_id, "Message": event.to_string(),
    });
    notification.to_string()
}

fn record(id: &str, body: impl ToString) -> Value {
    json!({ "messageId": id, "receiptHandle": "handle", "body": body.to_string(), "eventSource": "aws:sqs" })
}

/// The same JSON with the keys in reverse order and with other white space.
fn rewritten(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let fields: Vec<String> =
                fields.iter().rev().map(|(key, value)| format!("{} :\t{}", json!(key), rewritten(value))).collect();
            format!("{{\n{} }}", fields.join(" ,\n"))
        }
        Value::Array(items) => format!("[ {}\n]", items.iter().map(rewritten).collect::<Vec<_>>().join(" , ")),
        scalar => scalar.to_string(),
    }
}

#[tokio::test]
async fn events_that_share_an_id_are_all_posted_and_each_only_once() {
    let world = World::new().await;
    let worker = world.worker().await;
    let mut events = ["one", "two", "three"].map(|name| Ecs::default().start_impaired(name));
    for event in &mut events {
        event["id"] = json!("ecs");
    }
    world.queue.send_events(&events).await.unwrap();
    metric_is(&worker, OUTCOMES, &[("outcome", "posted")], 3.0).await;

    let [first, second, third] = &events;
    let mut replayed = second.clone();
    replayed["replay-name"] = json!("last-hour");
    let copies = [
        first.to_string(),
        rewritten(first),
        in_sns(first, "10"),
        in_sns(first, "11"),
        rewritten(&json!({ "Records": [record("m", rewritten(third))] })),
        record("n", third).to_string(),
        replayed.to_string(),
    ];
    world.queue.send(&copies).await.unwrap();
    metric_is(&worker, OUTCOMES, &[("outcome", "duplicate")], copies.len() as f64).await;
    world.nothing_more_is_posted(&worker).await;
    for name in ["one", "two", "three"] {
        assert_eq!(world.posts_mentioning(name), 1, "{name}");
    }
}

#[tokio::test]
async fn an_event_without_id_and_time_is_recognised_by_its_message() {
    let world = World::new().await;
    let worker = world.worker().await;
    let text = json!({ "text": "checkout failed" }).to_string();
    world.queue.send(&[text.clone(), text]).await.unwrap();
    metric_is(&worker, OUTCOMES, &[("outcome", "posted")], 2.0).await;
    // The id from SNS stays the same when a message moves from the dead-letter queue. SQS then gives the message a new id.
    let notification = in_sns(&json!({ "text": "billing failed" }), "10");
    world.queue.send(&[notification.clone(), notification]).await.unwrap();
    metric_is(&worker, OUTCOMES, &[("outcome", "posted")], 3.0).await;
    metric_is(&worker, OUTCOMES, &[("outcome", "duplicate")], 1.0).await;
}

#[tokio::test]
async fn an_event_moved_from_the_dead_letter_queue_is_still_a_copy() {
    let world = World::new().await;
    let worker = world.worker().await;
    let mut event = Ecs::default().start_impaired("moved");
    event["id"] = json!("ecs");
    world.queue.send_events(std::slice::from_ref(&event)).await.unwrap();
    world.posted(&["moved"]).await;
    world.dlq.send(&[event.to_string()]).await.unwrap();
    // The stand-in moves messages; the emulator does not.
    let stand_in = FaultyAws::start(&world.aws).await.unwrap();
    let environment = [world.environment(), stand_in.environment()].concat();
    let mut redrive = Worker::spawn(BINARY, environment, &["dlq", "redrive"]).unwrap();
    assert_eq!(redrive.wait(LIMIT).await.unwrap().code(), Some(0), "{redrive}");
    metric_is(&worker, OUTCOMES, &[("outcome", "duplicate")], 1.0).await;
    world.nothing_more_is_posted(&worker).await;
    assert_eq!(world.slack.requests().len(), 1);
}

#[tokio::test]
async fn unusual_json_is_posted() {
    let world = World::new().await;
    let worker = world.worker().await;
    let ecs = Ecs::default();
    let with = |name: &str, json: &str| {
        let event = ecs.start_impaired(name).to_string();
        event.replacen("\"detail\":{", &format!("\"detail\":{{\"extra\":{json},"), 1)
    };
    let deep = |depth: usize, inner: &str| format!("{}{inner}{}", "{\"a\":[".repeat(depth), "]}".repeat(depth));
    let bodies = [
        with("exponent", "1e999"),
        with("digits", &format!("-{}", "7".repeat(400))),
        with("deep", &deep(5_000, r#"{"environment":[{"name":"PASSWORD","value":"hunter2"}]}"#)),
        with("half-emoji", r#""\ud83e""#),
        with("all-of-it", &format!("[1e999, {}, \"\\udd80\"]", deep(100, "1e-999"))),
        // Nested inside a record, which is removed first.
        record("m", with("wrapped", &deep(300, "-1e999"))).to_string(),
    ];
    world.queue.send(&bodies).await.unwrap();
    world.posted(&["exponent", "digits", "deep", "half-emoji", "all-of-it", "wrapped"]).await;
    world.nothing_more_is_posted(&worker).await;
    metric_is(&worker, OUTCOMES, &[("outcome", "posted")], bodies.len() as f64).await;
    assert!(!format!("{:?}{worker}", world.slack.requests()).contains("hunter2"));
}

#[tokio::test]
async fn a_message_is_deleted_only_after_all_of_its_records_are_posted() {
    let world = World::new().await;
    let (up, down) = (world.slack.url("up"), world.slack.url("down"));
    let world = world.config(&format!(
        "[queue]\nvisibility_timeout = '4s'\n\
         [[channel]]\nname = 'up'\nwebhook_url = '{up}'\n[[channel]]\nname = 'down'\nwebhook_url = '{down}'\n\
         [[route]]\nchannel = 'down'\npattern = {{ resources = [{{ wildcard = '*late*' }}] }}\n\
         [[route]]\nchannel = 'up'\n"
    ));
    world.slack.always("down", Answer::Status(500, "rollup_error"));
    let worker = world.worker().await;
    let ecs = Ecs::default();
    let body = json!({ "Records": [
        record("1", ecs.start_impaired("prompt")),
        record("2", ecs.start_impaired("late")),
        record("3", ecs.steady_state("calm")),
        { "EventSource": "aws:sns", "Sns": { "Type": "Notification", "Message": ecs.image_missing("punctual").to_string() } },
    ] });
    world.queue.send(&[body.to_string()]).await.unwrap();
    outcome_line(&worker, "late", "deferred").await;
    outcome_line(&worker, "calm", "unrouted").await;
    metric_is(&worker, OUTCOMES, &[("outcome", "deferred")], 1.0).await;
    assert_eq!(world.queue.counts().await.unwrap().total(), 1, "it is put back");

    world.slack.always("down", Answer::Judge);
    // The message that was put back stays hidden for half a minute. So the test sends a copy instead of waiting.
    world.queue.send(&[body.to_string()]).await.unwrap();
    metric_is(&worker, OUTCOMES, &[("outcome", "posted")], 1.0).await;
    outcome_line(&worker, "punctual", "duplicate").await;
    // The first message may have become visible meanwhile, and is then deleted too.
    world.queue.wait_for(|counts| counts.total() <= 1, LIMIT).await.unwrap();
    for name in ["prompt", "punctual", "late"] {
        assert_eq!(world.posts_mentioning(name), 1, "{name}");
    }
}

#[tokio::test]
async fn a_record_that_is_not_an_event_is_posted_with_the_others() {
    let world = World::new().await;
    let worker = world.worker().await;
    let body =
        json!({ "Records": [record("1", Ecs::default().start_impaired("good")), record("2", "the disk is full")] });
    world.queue.send(&[body.to_string()]).await.unwrap();
    world.posted(&["good", "the disk is full"]).await;
    world.queue_is_empty().await;
    // A copy of the message is not posted.
    world.queue.send(&[body.to_string()]).await.unwrap();
    metric_is(&worker, OUTCOMES, &[("outcome", "duplicate")], 1.0).await;
    world.nothing_more_is_posted(&worker).await;
    assert_eq!(world.posts_mentioning("the disk is full"), 1);
}

#[tokio::test]
async fn a_dot_in_a_key_separates_names_as_in_eventbridge() {
    let world = World::new().await;
    let (dotted, other) = (world.slack.url("dotted"), world.slack.url("other"));
    let world = world.config(&format!(
        "[[channel]]\nname = 'dotted'\nwebhook_url = '{dotted}'\n[[channel]]\nname = 'other'\nwebhook_url = '{other}'\n\
         [[route]]\nchannel = 'dotted'\n\
         pattern = {{ 'detail.labels' = {{ 'app' = ['shop'], 'app.kubernetes.io/name' = ['checkout'] }} }}\n\
         [[route]]\nchannel = 'other'\n"
    ));
    let _worker = world.worker().await;
    let events = [
        ("nested", json!({ "app": "shop", "app.kubernetes.io/name": "checkout" })),
        ("mixed", json!({ "app": "shop", "app.kubernetes": { "io/name": "checkout" } })),
        ("neither", json!({ "app": "shop", "app.kubernetes.io": "checkout" })),
    ];
    let events = events.map(|(name, labels)| {
        let mut event = Ecs::default().start_impaired(name);
        event["detail"]["labels"] = labels;
        event
    });
    world.queue.send_events(&events).await.unwrap();
    world.posted(&["nested", "mixed", "neither"]).await;
    for request in world.slack.accepted() {
        assert_eq!(request.webhook == "other", request.mentions("neither"), "{}", request.payload);
    }
}
