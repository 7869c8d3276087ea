//! Each alert is posted once, in the right channels, and its message is deleted.

use lab::{
    events::Ecs,
    fault::{Fault, FaultyAws},
    slack::Answer,
};
use serde_json::json;

use crate::world::{LIMIT, World, metric_is, outcome_line};

const OUTCOMES: &str = "messages_total";

#[tokio::test]
async fn an_event_that_matches_the_eventbridge_rule_is_posted_and_deleted() {
    let world = World::new().await;
    world.aws.create_bus(&world.name).await.unwrap();
    let pattern = json!({"source": ["aws.ecs"], "detail": {"eventType": ["WARN", "ERROR"]}});
    world.aws.create_rule(&world.name, &world.name, &pattern, &world.queue).await.unwrap();
    let worker = world.worker().await;

    let ecs = Ecs::default();
    let ids = world
        .aws
        .put_events(&world.name, &[ecs.steady_state("calm"), ecs.start_impaired("image_inferrer")])
        .await
        .unwrap();

    world.posted(&["image_inferrer"]).await;
    world.nothing_more_is_posted(&worker).await;
    let accepted = world.slack.accepted();
    assert_eq!(accepted.len(), 1, "the rule filters the steady state");
    let payload = &accepted[0].payload;
    assert_eq!(payload["text"], ":rotating_light: image_inferrer is unable to consistently start tasks successfully");
    assert_eq!(payload["attachments"][0]["color"], "danger");
    let line = outcome_line(&worker, "image_inferrer", "posted").await;
    assert!(ids.contains(&line["event_id"].as_str().unwrap().to_owned()), "{line}");
    assert_eq!((&line["channel"], &line["receive_count"]), (&json!("default"), &json!(1)));
    assert_eq!(line["kind"], "SERVICE_TASK_START_IMPAIRED");
    metric_is(&worker, OUTCOMES, &[("outcome", "posted")], 1.0).await;
}

#[tokio::test]
async fn an_event_that_is_not_a_problem_is_deleted_and_not_posted() {
    let world = World::new().await;
    let worker = world.worker().await;
    let ecs = Ecs::default();
    let calm = [ecs.steady_state("calm"), ecs.scaled_in("shrinking"), ecs.stopped_by_user("stopped")];
    world.queue.send_events(&calm).await.unwrap();
    metric_is(&worker, OUTCOMES, &[("outcome", "unrouted")], 3.0).await;
    world.nothing_more_is_posted(&worker).await;
    assert_eq!(world.slack.requests().len(), 0);
}

#[tokio::test]
async fn routes_send_each_event_to_the_channels_of_the_matching_patterns() {
    let world = World::new().await;
    let (search, all, audit) = (world.slack.url("search"), world.slack.url("all"), world.slack.url("audit"));
    let world = world.config(&format!(
        r#"
        [[channel]]
        name = "search"
        webhook_url = "{search}"
        [[channel]]
        name = "all"
        webhook_url = "{all}"
        [[channel]]
        name = "audit"
        webhook_url = "{audit}"
        [[route]]
        channel = "audit"
        pattern = {{ detail = {{ eventName = ["SERVICE_STEADY_STATE"] }} }}
        continue = true
        [[route]]
        channel = "search"
        pattern = {{ resources = [{{ wildcard = "*:service/*/search-*" }}] }}
        [[route]]
        channel = "all"
        "#
    ));
    let worker = world.worker().await;
    let ecs = Ecs::default();
    let events = [
        ecs.start_impaired("search-index"),
        ecs.start_impaired("billing"),
        ecs.steady_state("search-api"),
        ecs.steady_state("billing-ok"),
    ];
    world.queue.send_events(&events).await.unwrap();
    world.nothing_more_is_posted(&worker).await;
    let got = |webhook: &str, service: &str| {
        world.slack.accepted().iter().any(|request| request.webhook == webhook && request.mentions(service))
    };
    for (service, webhooks) in [
        ("search-index", vec!["search"]),
        ("billing ", vec!["all"]),
        ("search-api", vec!["audit", "search"]),
        ("billing-ok", vec!["audit"]),
    ] {
        for webhook in ["search", "all", "audit"] {
            let service = service.trim();
            // The audit channel gets "billing-ok", which contains "billing".
            assert_eq!(
                got(webhook, service),
                webhooks.contains(&webhook) || (service, webhook) == ("billing", "audit")
            );
        }
    }
}

#[tokio::test]
async fn copies_of_an_event_are_posted_once_and_all_deleted() {
    let world = World::new().await;
    let event = Ecs::default().start_impaired("twice");
    // Both are in the queue before the worker starts, so they are in flight together.
    world.queue.send_events(&[event.clone(), event.clone()]).await.unwrap();
    let worker = world.worker().await;
    world.posted(&["twice"]).await;
    world.queue_is_empty().await;
    // Another copy, which arrives later.
    world.queue.send_events(&[event]).await.unwrap();
    metric_is(&worker, OUTCOMES, &[("outcome", "duplicate")], 2.0).await;
    world.nothing_more_is_posted(&worker).await;
    assert_eq!(world.slack.requests().len(), 1);
}

#[tokio::test]
async fn an_event_for_two_channels_is_retried_only_in_the_channel_that_failed() {
    let world = World::new().await;
    let (up, down) = (world.slack.url("up"), world.slack.url("down"));
    let world = world.config(&format!(
        "[queue]\nvisibility_timeout = '4s'\n\
         [[channel]]\nname = 'up'\nwebhook_url = '{up}'\n[[channel]]\nname = 'down'\nwebhook_url = '{down}'\n\
         [[route]]\nchannel = 'up'\ncontinue = true\n[[route]]\nchannel = 'down'\n"
    ));
    world.slack.always("down", Answer::Status(500, "rollup_error"));
    let worker = world.worker().await;
    let event = Ecs::default().start_impaired("both");
    world.queue.send_events(std::slice::from_ref(&event)).await.unwrap();
    outcome_line(&worker, "both", "deferred").await;
    world.slack.always("down", Answer::Judge);
    // The put-back hides the message for half a minute, so a copy of the event takes its place.
    world.queue.send_events(&[event]).await.unwrap();
    outcome_line(&worker, "both", "posted").await;
    let accepted: Vec<String> = world.slack.accepted().into_iter().map(|request| request.webhook).collect();
    assert_eq!(accepted, ["up", "down"]);
}

#[tokio::test]
async fn a_delete_that_fails_is_retried() {
    let world = World::new().await;
    let proxy = FaultyAws::start(&world.aws).await.unwrap();
    let expired = Fault::Error(403, "ExpiredToken");
    proxy.script(
        "DeleteMessageBatch",
        [Fault::FirstEntryFails, Fault::Error(500, "InternalFailure"), expired, Fault::None],
    );
    let worker = world.worker_through(&proxy).await;
    let ecs = Ecs::default();
    world.queue.send_events(&["a", "b", "c"].map(|name| ecs.start_impaired(name))).await.unwrap();
    world.nothing_more_is_posted(&worker).await;
    assert!(proxy.calls("DeleteMessageBatch").len() >= 4);
    assert!(world.slack.requests().iter().all(|request| request.accepted));
}

#[tokio::test]
async fn a_message_that_is_not_a_json_object_goes_to_the_dead_letter_queue() {
    let world = World::with(2, None).await;
    let worker = world.worker().await;
    let poison = ["not json", "[1, 2]", "\"text\"", "42", "null", ""].map(str::to_owned);
    world.queue.send(&poison[..5]).await.unwrap();
    world.queue.send_events(&[Ecs::default().start_impaired("healthy")]).await.unwrap();
    world.posted(&["healthy"]).await;
    world.dlq.wait_for(|counts| counts.total() == 5, LIMIT).await.unwrap();
    world.nothing_more_is_posted(&worker).await;
    metric_is(&worker, OUTCOMES, &[("outcome", "undecodable")], 10.0).await;
    assert_eq!(world.slack.requests().len(), 1);
}

#[tokio::test]
async fn hostile_text_mentions_nobody_and_is_posted() {
    let world = World::new().await;
    let _worker = world.worker().await;
    let mut event = Ecs::default().image_missing("hostile");
    let reason = format!("<!channel> <@U024BE7LH> <https://evil.example|x> & {}", "🦀`*_~\n".repeat(30_000));
    event["detail"]["stoppedReason"] = json!(reason);
    world.queue.send_events(&[event]).await.unwrap();
    world.posted(&["hostile"]).await;
    let accepted = world.slack.accepted();
    let payload = accepted[0].payload.to_string();
    for bad in ["<!channel>", "<@U024BE7LH>", "<https://evil.example"] {
        assert!(!payload.contains(bad), "{bad} was posted");
    }
    assert!(payload.contains("&lt;!channel&gt;"));
}

#[tokio::test]
async fn an_alert_that_slack_refuses_is_posted_alone_as_plain_text() {
    let world = World::new().await;
    // The first post fails, so that the other alerts gather and are sent together.
    world.slack.script(&world.name, [Answer::Status(500, "rollup_error")]);
    world.slack.always(&world.name, Answer::RefuseBlocksWith("ugly".into()));
    let worker = world.worker().await;
    let ecs = Ecs::default();
    let names = ["one", "two", "ugly", "four", "five"];
    world.queue.send_events(&names.map(|name| ecs.start_impaired(name))).await.unwrap();
    world.posted(&names).await;
    world.nothing_more_is_posted(&worker).await;
    let ugly = world.slack.accepted().into_iter().find(|request| request.mentions("ugly")).unwrap();
    assert!(ugly.payload.get("attachments").is_none(), "{}", ugly.payload);
    for name in names {
        assert_eq!(world.posts_mentioning(name), 1, "{name}");
    }
}
