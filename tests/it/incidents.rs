//! Incidents through the whole program, as people see them in the channel: by webhook and by bot token, with one replica and with
//! several that share a table.

mod failures;
mod fallbacks;
mod mentions;
mod mutes;
mod replicas;
mod stories;

use std::path::PathBuf;

use lab::{
    ecs::EcsApi,
    events::Ecs,
    slack::web_api::{Message, TOKEN},
    worker::Worker,
};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::world::{BINARY, LIMIT, World, metric_is};

/// The id of the Slack channel that a bot posts to.
const CHANNEL: &str = "C0123456789";

/// A world with one channel, by bot token.
async fn bot_world(config: &str) -> World {
    bot_world_with_token(config, TOKEN).await
}

async fn bot_world_with_token(config: &str, token: &str) -> World {
    let world = World::new().await;
    world.aws.update_secret(&world.name, token).await.unwrap();
    let config = format!(
        "{config}\n[slack]\napi_url = '{}'\n[[channel]]\nname = 'ops'\nbot_token_secret_id = '{}'\nchannel_id = '{CHANNEL}'",
        world.slack.api_url(),
        world.name
    );
    world.config(&config)
}

/// A worker, and the stand-in for ECS that it asks. The stand-in knows no service yet.
async fn worker_and_ecs(world: &World) -> (Worker, EcsApi) {
    let ecs = EcsApi::start::<PathBuf>(&[]).await.unwrap();
    let environment = world.environment().into_iter().chain(ecs.environment());
    let worker = Worker::spawn(BINARY, environment, &["run"]).unwrap();
    worker.wait_ready().await.unwrap();
    (worker, ecs)
}

/// The messages of the bot's channel that begin a thread.
fn roots(world: &World) -> Vec<Message> {
    world.slack.messages(CHANNEL).into_iter().filter(|message| message.thread_ts.is_none()).collect()
}

/// The replies in the thread of a message.
fn replies(world: &World, root: &Message) -> Vec<Message> {
    let of_root = |message: &Message| message.thread_ts.as_ref() == Some(&root.ts);
    world.slack.messages(CHANNEL).into_iter().filter(of_root).collect()
}

async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    lab::eventually(what, LIMIT, async || Ok(is_so())).await.unwrap();
}

fn color(payload: &Value) -> &str {
    payload["attachments"][0]["color"].as_str().unwrap_or_default()
}

fn says(payload: &Value, text: &str) -> bool {
    payload.to_string().contains(text)
}

fn utc(seconds_ago: i64) -> String {
    let at = OffsetDateTime::now_utc() - time::Duration::seconds(seconds_ago);
    at.replace_nanosecond(0).unwrap().format(&Rfc3339).unwrap()
}

/// The event, with the times of this many seconds ago.
fn ago(mut event: Value, seconds: i64) -> Value {
    let at = utc(seconds);
    for pointer in ["/time", "/detail/stoppedAt", "/detail/createdAt", "/detail/updatedAt"] {
        if let Some(time) = event.pointer_mut(pointer) {
            *time = at.as_str().into();
        }
    }
    event
}

/// ECS's description of a service with two desired tasks, of which `running` run, and the deployment `ecs-svc/{deployment}`.
fn described(service: &str, deployment: u32, rollout: &str, running: u32) -> Value {
    let arn = |resource: &str| format!("arn:aws:ecs:eu-west-1:123456789012:{resource}");
    json!({ "services": [{
        "serviceName": service, "clusterArn": arn("cluster/production"), "desiredCount": 2, "runningCount": running,
        "deployments": [{
            "id": format!("ecs-svc/{deployment}"), "status": "PRIMARY", "rolloutState": rollout,
            "taskDefinition": arn(&format!("task-definition/{service}:{deployment}")), "createdAt": utc(600 - i64::from(deployment)),
        }],
    }] })
}

/// Makes ECS give this answer about the service.
fn describe(ecs: &EcsApi, service: Value) {
    ecs.forget_services();
    ecs.record(service);
}

/// The events of a bad deploy, which ECS's stand-in then knows: 24 tasks that fail to start, one after the other, and three events
/// SERVICE_TASK_START_IMPAIRED.
fn bad_deploy(ecs: &EcsApi, service: &str) -> Vec<Value> {
    describe(ecs, described(service, 88, "IN_PROGRESS", 0));
    let task = |number: i64| {
        let mut event = ago(Ecs::default().image_missing(service), 360 - 10 * number);
        event["detail"]["startedBy"] = "ecs-svc/88".into();
        ecs.record(json!({ "tasks": [event["detail"]] }));
        event
    };
    let mut events: Vec<Value> = (0..24).map(task).collect();
    for number in 1..=3 {
        let event = ago(Ecs::default().start_impaired(service), 360 - 80 * number);
        events.insert(usize::try_from(9 * number - 1).unwrap(), event);
    }
    events
}

/// The events of the fix: another deployment, which ECS confirms. ECS still knows the failed tasks of the bad one.
fn fix(ecs: &EcsApi, service: &str) -> Vec<Value> {
    describe(ecs, described(service, 89, "COMPLETED", 2));
    [Ecs::default().deployment_completed(service), Ecs::default().steady_state(service)].into()
}

/// Waits until the worker has counted this many messages with this outcome.
async fn outcomes(worker: &Worker, outcome: &str, count: u32) {
    metric_is(worker, "messages_total", &[("outcome", outcome)], count.into()).await;
}

async fn transitions(worker: &Worker, channel: &str, counts: &[(&str, u32)]) {
    for (transition, count) in counts {
        let labels = [("channel", channel), ("transition", *transition)];
        metric_is(worker, "incidents_total", &labels, (*count).into()).await;
    }
}

#[tokio::test]
async fn one_bad_deploy_is_three_messages_at_most_by_webhook_and_the_last_is_green() {
    let world = World::new().await;
    let (worker, ecs) = worker_and_ecs(&world).await;
    world.queue.send_events(&bad_deploy(&ecs, "checkout")).await.unwrap();
    world.posted(&["checkout", "Image not found"]).await;
    world.nothing_more_is_posted(&worker).await;
    let before_the_fix = world.slack.accepted().len();
    assert!((1..=2).contains(&before_the_fix), "{before_the_fix}");
    world.queue.send_events(&fix(&ecs, "checkout")).await.unwrap();
    world.posted(&["has recovered"]).await;
    world.nothing_more_is_posted(&worker).await;

    let posts = world.slack.accepted();
    assert_eq!(posts.len(), before_the_fix + 1);
    let end = &posts.last().unwrap().payload;
    assert_eq!(color(end), "good", "{end}");
    for words in [
        "*checkout* has recovered after 6 min: 27 events, 24 failed tasks",
        "Image not found",
        "checkout:89, 2 of 2 tasks",
    ] {
        assert!(says(end, words), "{words:?} is not in {end}");
    }
    let posted = u32::try_from(posts.len()).unwrap();
    outcomes(&worker, "posted", posted).await;
    // The fix has two events. The first one is reported as the recovery, and no route takes the second one.
    outcomes(&worker, "folded", 28 - posted).await;
    outcomes(&worker, "unrouted", 1).await;
    transitions(&worker, "default", &[("opened", 1), ("recovered", 1), ("reopened", 0), ("repeated", 28 - posted)])
        .await;
    metric_is(&worker, "incident_duration_seconds_count", &[("channel", "default")], 1.0).await;
    metric_is(&worker, "incidents_open", &[("channel", "default")], 0.0).await;
}

#[tokio::test]
async fn one_bad_deploy_is_one_message_by_bot_token_which_turns_green() {
    let world = bot_world("").await;
    let (worker, ecs) = worker_and_ecs(&world).await;
    world.queue.send_events(&bad_deploy(&ecs, "checkout")).await.unwrap();
    eventually("every event is in the root", || {
        roots(&world).iter().any(|root| says(&root.payload, "27 events") && says(&root.payload, "24 failed tasks"))
    })
    .await;
    let [root] = &roots(&world)[..] else { panic!("{:?}", roots(&world)) };
    assert_eq!(color(&root.payload), "danger");
    assert!(says(&root.payload, "Image not found"));
    // Slack accepts fifty edits a minute for the whole app, so one edit shows many repeats.
    assert!(root.edits <= 6, "{}", root.edits);

    world.queue.send_events(&fix(&ecs, "checkout")).await.unwrap();
    eventually("the root is green", || roots(&world).iter().any(|root| color(&root.payload) == "good")).await;
    world.nothing_more_is_posted(&worker).await;
    let [root] = &roots(&world)[..] else { panic!("{:?}", roots(&world)) };
    for words in ["*checkout* has recovered after 6 min: 27 events, 24 failed tasks", "checkout:89, 2 of 2 tasks"] {
        assert!(says(&root.payload, words), "{words:?} is not in {}", root.payload);
    }
    let thread = replies(&world, root);
    assert!((1..=2).contains(&thread.len()), "{thread:?}");
    let end = thread.last().unwrap();
    assert!(color(&end.payload) == "good" && says(&end.payload, "24 failed tasks") && !end.broadcast, "{end:?}");
    // A repeat counts as posted, because an edit shows it.
    outcomes(&worker, "posted", 28).await;
    outcomes(&worker, "unrouted", 1).await;
    transitions(&worker, "ops", &[("opened", 1), ("recovered", 1), ("reopened", 0)]).await;
}
