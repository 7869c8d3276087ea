//! The worker sends heartbeats to a dead man's switch while it works, and only then. Canaries show that events arrive.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use lab::{
    events::Ecs,
    fault::{Fault, FaultyAws},
    slack,
    switch::{Answer, Switch},
    unique,
    worker::{Line, Worker},
};
use serde_json::{Value, json};

use crate::world::{BINARY, LIMIT, World, metric_is, outcome, with};

/// The end of every URL here. It must not appear in a log or a metric.
const SECRET: &str = "opensesame";

/// The event that an EventBridge rule with a constant input delivers.
fn canary() -> Value {
    json!({
        "version": "0", "id": "ecs-slack-alerts-canary", "source": "ecs-slack-alerts.canary",
        "detail-type": "ecs-slack-alerts canary", "detail": {},
    })
}

/// A world with a switch, and a secret that holds its URL.
async fn watched(more: &str) -> (World, Switch, String) {
    let (world, switch) = (World::new().await, Switch::start().await.unwrap());
    let secret = unique("heartbeat");
    world.aws.create_secret(&secret, &switch.url(SECRET)).await.unwrap();
    let world = world.config(&format!("[heartbeat]\nurl_secret_id = '{secret}'\ninterval = '1s'\n{more}"));
    (world, switch, secret)
}

/// How many lines have this message, and contain `why` in their reason or error.
fn count(worker: &Worker, message: &str, why: &str) -> usize {
    let says = |line: &&Line| {
        let reason = [line.field("reason"), line.field("error")].map(|field| field.as_str().unwrap_or_default());
        line.message() == message && reason.concat().contains(why)
    };
    worker.lines().iter().filter(says).count()
}

/// Calls `act`, then waits until the worker has logged this message exactly once more.
async fn says(worker: &Worker, message: &str, why: &str, act: impl AsyncFnOnce()) {
    let before = count(worker, message, why);
    act().await;
    let said = lab::eventually("the line is there", LIMIT, async || Ok(count(worker, message, why) > before)).await;
    said.unwrap_or_else(|error| panic!("{error}: {message}, {why}\n{worker}"));
    assert_eq!(count(worker, message, why), before + 1, "one line: {worker}");
}

/// Waits until two more heartbeats are withheld, and checks that none is sent.
async fn none_is_sent(worker: &Worker, switch: &Switch) {
    let withheld = async || {
        worker.metrics().await.map(|metrics| metrics.get("heartbeats_total", &[("outcome", "withheld")]).unwrap())
    };
    let (sent, before) = (switch.pings().len(), withheld().await.unwrap());
    lab::eventually("two are withheld", LIMIT, async || Ok(withheld().await? >= before + 2.0)).await.unwrap();
    assert_eq!(switch.pings().len(), sent, "none is sent");
}

#[tokio::test]
async fn heartbeats_are_sent_while_the_worker_works_and_not_after() {
    let (world, switch, _) = watched("").await;
    let mut worker = world.worker().await;
    let metrics = worker.metrics().await.unwrap();
    for outcome in ["ok", "error", "withheld"] {
        assert_eq!(metrics.get("heartbeats_total", &[("outcome", outcome)]), Some(0.0), "it exists from the start");
    }
    switch.wait_for(3, LIMIT).await.unwrap();
    assert_eq!(count(&worker, "heartbeat sent", ""), 1, "one line for all: {worker}");
    worker.terminate().await.unwrap();
    worker.wait_for_line(|line| line.message().starts_with("stopping"), LIMIT).await.unwrap();
    let before = switch.pings().len();
    worker.wait(LIMIT).await.unwrap();
    assert!(switch.pings().len() <= before + 1, "the drain sends none");
    assert!(switch.pings().iter().all(|check| check == SECRET));
    assert!(!worker.to_string().contains(SECRET), "{worker}");
}

#[tokio::test]
async fn heartbeats_are_withheld_while_slack_is_down_and_sent_afterwards() {
    let (world, switch, _) = watched("").await;
    let worker = world.worker().await;
    switch.wait_for(1, LIMIT).await.unwrap();
    let reason = "no channel can take a post";
    says(&worker, "heartbeat withheld", reason, async || {
        world.slack.always(&world.name, slack::Answer::Status(503, ""));
        world.queue.send_events(&[Ecs::default().start_impaired("late")]).await.unwrap();
    })
    .await;
    none_is_sent(&worker, &switch).await;
    assert_eq!(count(&worker, "heartbeat withheld", reason), 1, "one line for all: {worker}");
    world.slack.calm();
    world.posted(&["late"]).await;
    switch.wait_for(1, LIMIT).await.unwrap();
}

#[tokio::test]
async fn heartbeats_are_withheld_while_no_receive_succeeds() {
    let (world, switch, _) = watched("").await;
    let proxy = FaultyAws::start(&world.aws).await.unwrap();
    let worker = world.worker_through(&proxy).await;
    switch.wait_for(1, LIMIT).await.unwrap();
    says(&worker, "heartbeat withheld", "no receive has succeeded lately", async || {
        proxy.always("ReceiveMessage", Fault::Error(500, "InternalFailure"));
    })
    .await;
    none_is_sent(&worker, &switch).await;
    proxy.always("ReceiveMessage", Fault::None);
    switch.wait_for(1, Duration::from_secs(90)).await.unwrap();
}

#[tokio::test]
async fn a_switch_that_fails_costs_no_alert_and_shows_no_url() {
    let (world, switch, secret) = watched("").await;
    let elsewhere = Switch::start().await.unwrap();
    let mut environment = world.environment();
    environment.push(("RUST_LOG".into(), "debug".into()));
    let worker = Worker::spawn(BINARY, environment, &["run"]).unwrap();
    worker.wait_ready().await.unwrap();
    for (answer, why) in [
        (Answer::Status(404, SECRET), "404"),
        (Answer::Status(200, "OK (not found)"), "does not know this check"),
        (Answer::Redirect(elsewhere.url(SECRET)), "redirects are not followed"),
    ] {
        says(&worker, "heartbeat failed", why, async || switch.answers(answer)).await;
    }
    assert!(elsewhere.pings().is_empty(), "a redirect leads nowhere");
    says(&worker, "heartbeat failed", "no answer within", async || {
        switch.answers(Answer::Hang);
        world.queue.send_events(&[Ecs::default().start_impaired("unhurt")]).await.unwrap();
        world.posted(&["unhurt"]).await;
    })
    .await;
    // The secret now holds the URL of another check, as after a rotation.
    world.aws.update_secret(&secret, &switch.url(&format!("new-{SECRET}"))).await.unwrap();
    says(&worker, "heartbeat failed", "410", async || switch.answers(Answer::Status(410, "gone"))).await;
    says(&worker, "heartbeat sent", "", async || switch.answers(Answer::Ok)).await;
    assert_eq!(switch.pings().last().unwrap(), &format!("new-{SECRET}"));
    let (_, metrics) = worker.get("/metrics").await.unwrap();
    assert!(!worker.to_string().contains(SECRET) && !metrics.contains(SECRET), "{worker}");
}

#[tokio::test]
async fn a_canary_is_counted_and_deleted_and_never_posted() {
    // The first route's pattern matches every event, also a canary.
    let world = World::new().await;
    let channel = format!("[[channel]]\nname = 'a'\nwebhook_secret_id = '{}'\n", world.name);
    let routes = "[[route]]\nchannel = 'a'\npattern = { source = [{ prefix = '' }] }\n[[route]]\nchannel = 'a'\n";
    let world = world.config(&(channel + routes));
    let worker = world.worker().await;
    let metrics = worker.metrics().await.unwrap();
    assert_eq!(metrics.get("canaries_total", &[]), Some(0.0));
    assert_eq!(metrics.get("last_canary_timestamp_seconds", &[]), Some(0.0));
    let mut dated = canary();
    dated["time"] = "2026-11-25T10:00:00Z".into();
    // The same event several times: a rule with a constant input always sends the same one.
    world.queue.send_events(&[canary(), canary(), dated]).await.unwrap();
    metric_is(&worker, "canaries_total", &[], 3.0).await;
    metric_is(&worker, "messages_total", &[("outcome", "canary")], 3.0).await;
    world.nothing_more_is_posted(&worker).await;
    let last = worker.metrics().await.unwrap().get("last_canary_timestamp_seconds", &[]).unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((now - 60.0..=now).contains(&last), "{last}, now {now}");

    assert!(world.slack.requests().is_empty(), "nothing was posted");

    // An event that only has a canary's name is posted. A real canary does not hide another event in the same message.
    let ecs = Ecs::default();
    let mut spoofed = canary();
    spoofed["detail"] = ecs.start_impaired("disguised")["detail"].clone();
    spoofed["resources"] = ecs.start_impaired("disguised")["resources"].clone();
    let records = [canary(), ecs.start_impaired("beside")]
        .map(|event| json!({ "messageId": unique("m"), "eventSource": "aws:sqs", "body": event.to_string() }));
    world.queue.send_events(&[spoofed, json!({ "Records": records })]).await.unwrap();
    world.posted(&["disguised", "beside"]).await;
    world.queue_is_empty().await;
    let unrouted = worker.metrics().await.unwrap().get("messages_total", &[("outcome", "unrouted")]);
    assert_eq!(unrouted, Some(0.0));
}

#[tokio::test]
async fn without_canaries_the_heartbeat_is_withheld() {
    let (world, switch, _) = watched("canary_within = '3s'").await;
    let worker = world.worker().await;
    switch.wait_for(1, LIMIT).await.unwrap();
    says(&worker, "heartbeat withheld", "no canary", async || {}).await;
    let before = switch.pings().len();
    world.queue.send_events(&[canary()]).await.unwrap();
    switch.wait_for(1, LIMIT).await.unwrap();
    assert!(switch.pings().len() > before);
}

/// A schedule sends these canaries: that of the Terraform module, and the one that the documentation shows.
#[tokio::test]
async fn the_worker_recognises_the_canaries_of_the_module_and_of_the_documentation() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for place in ["infra/terraform/modules/messaging/canary.tf", "docs/operations.md"] {
        let text = std::fs::read_to_string(root.join(place)).unwrap();
        let mut events = text.lines().map(str::trim).filter(|line| line.starts_with('{') && line.contains("canary"));
        // EventBridge replaces `<time>` with the time in quotes.
        let event = events.next().unwrap().replace("<time>", "\"2026-11-25T10:00:00Z\"");
        assert_eq!(events.next(), None, "{place}");
        let file = std::env::temp_dir().join(unique("canary"));
        std::fs::write(&file, &event).unwrap();
        let webhook = ("SLACK_WEBHOOK_URL".to_owned(), "https://hooks.slack.com/services/T/B/x".to_owned());
        let (code, said) = outcome(vec![webhook], &["render", file.to_str().unwrap()]).await;
        std::fs::remove_file(file).unwrap();
        let line: Value = serde_json::from_str(said.trim()).unwrap();
        assert_eq!((code, &line["outcome"]), (Some(0), &"canary".into()), "{place}: {event}: {said}");
    }
}

#[tokio::test]
async fn render_and_send_show_the_outcome_canary() {
    let world = World::new().await;
    let file = std::env::temp_dir().join(unique("canary"));
    std::fs::write(&file, canary().to_string()).unwrap();
    for command in ["render", "send"] {
        let (code, said) = outcome(world.environment(), &[command, file.to_str().unwrap()]).await;
        assert_eq!(code, Some(0), "{said}");
        let line: Value = serde_json::from_str(said.trim()).unwrap();
        assert_eq!(line["outcome"], "canary", "{said}");
        assert_eq!((&line["event_id"], &line["payload"]), (&"ecs-slack-alerts-canary".into(), &Value::Null));
    }
    std::fs::remove_file(file).unwrap();
    assert!(world.slack.requests().is_empty());
}

#[tokio::test]
async fn check_live_reads_the_url_from_its_secret_and_does_not_request_it() {
    let (world, switch, secret) = watched("").await;
    let (code, said) = outcome(world.environment(), &["check", "--live"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("heartbeat: its URL is valid; it was not requested"), "{said}");
    for (value, found) in [
        ("http://hc-ping.com/opensesame", "https://"),
        (r#"{"user":"opensesame"}"#, r#"JSON with the key "user""#),
        ("opensesame", "neither a URL"),
    ] {
        world.aws.update_secret(&secret, value).await.unwrap();
        let (code, said) = outcome(world.environment(), &["check", "--live"]).await;
        assert_eq!(code, Some(2), "{value}: {said}");
        assert!(said.contains(found) && said.contains("HEARTBEAT_URL_SECRET_ID"), "{value}: {said}");
        assert!(!said.contains(SECRET), "{said}");
    }
    // Variables with wrong and right values.
    let environment = world.environment();
    for (variables, code, part) in [
        (vec![("HEARTBEAT_URL", "http://example.com/opensesame")], 2, "HEARTBEAT_URL: it must begin with https://"),
        (vec![("HEARTBEAT_URL", "https://hc-ping.com/opensesame")], 0, "the configuration is valid"),
        (vec![("HEARTBEAT_URL_SECRET_ID", "https://hc-ping.com/opensesame")], 2, "HEARTBEAT_URL_SECRET_ID: is a URL"),
        (vec![("HEARTBEAT_CANARY_WITHIN", "5m"), ("CONFIG_CONTENT", "")], 2, "heartbeat.url_secret_id"),
    ] {
        let (got, said) = outcome(with(&environment, &variables), &["check"]).await;
        assert_eq!(got, Some(code), "{variables:?}: {said}");
        assert!(said.contains(part) && !said.contains(SECRET), "{variables:?}: {said}");
    }
    assert!(switch.pings().is_empty());
}
