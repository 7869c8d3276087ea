//! Slack or AWS fails, and nothing is lost.

use std::time::{Duration, Instant};

use lab::{
    events::Ecs,
    fault::{Fault, FaultyAws},
    slack::{Answer, Rate},
    worker::Worker,
};

use crate::world::{LIMIT, World, metric_is, outcome_line};

const CHANNEL_BLOCKED: &str = "channel_blocked";
const DEFAULT: [(&str, &str); 1] = [("channel", "default")];

/// Waits until /healthz answers 503, and returns its reason.
async fn unhealthy(worker: &Worker) -> String {
    let mut reason = String::new();
    lab::eventually("healthz notices", LIMIT, async || {
        let (status, body) = worker.get("/healthz").await?;
        reason = body;
        Ok(status == 503)
    })
    .await
    .unwrap();
    reason
}

#[tokio::test]
async fn an_outage_leaves_the_dead_letter_queue_empty() {
    // After two receives a message goes to the dead-letter queue. It must be posted before that.
    let world = World::with(2, None).await;
    world.slack.always(&world.name, Answer::Status(503, "unavailable"));
    let worker = world.worker().await;
    let ecs = Ecs::default();
    world.queue.send_events(&["alpha", "beta"].map(|name| ecs.start_impaired(name))).await.unwrap();
    let refused = |requests: &[lab::slack::Request]| requests.len() >= 3;
    world.slack.wait_for(refused, LIMIT).await.unwrap();
    metric_is(&worker, CHANNEL_BLOCKED, &DEFAULT, 1.0).await;
    world.slack.always(&world.name, Answer::Judge);
    world.posted(&["alpha", "beta"]).await;
    world.queue_is_empty().await;
    assert_eq!(world.dlq.counts().await.unwrap().total(), 0);
    metric_is(&worker, CHANNEL_BLOCKED, &DEFAULT, 0.0).await;
}

#[tokio::test]
async fn while_slack_is_down_nothing_more_is_received() {
    let world = World::new().await;
    world.slack.always(&world.name, Answer::Status(500, "rollup_error"));
    let proxy = FaultyAws::start(&world.aws).await.unwrap();
    let worker = world.worker_through(&proxy).await;
    let ecs = Ecs::default();
    world.queue.send_events(&[ecs.start_impaired("probe")]).await.unwrap();
    metric_is(&worker, CHANNEL_BLOCKED, &DEFAULT, 1.0).await;
    // A receive that was open when Slack went down may still return. No other one begins.
    let received = proxy.calls("ReceiveMessage").len();
    world.queue.send_events(&["later-1", "later-2"].map(|name| ecs.start_impaired(name))).await.unwrap();
    let tried = world.slack.requests().len();
    world.slack.wait_for(|requests| requests.len() >= tried + 2, LIMIT).await.unwrap();
    assert!(proxy.calls("ReceiveMessage").len() <= received + 1);
    let (health, _) = worker.get("/healthz").await.unwrap();
    assert_eq!(health, 200, "Slack's outage is no reason to restart the worker");
    world.slack.always(&world.name, Answer::Judge);
    world.posted(&["probe", "later-1", "later-2"]).await;
    world.queue_is_empty().await;
}

#[tokio::test]
async fn without_a_message_in_flight_a_single_one_is_received_to_probe_slack() {
    let world = World::new().await.config("[queue]\nvisibility_timeout = '4s'");
    world.slack.always(&world.name, Answer::Status(500, "rollup_error"));
    let proxy = FaultyAws::start(&world.aws).await.unwrap();
    let worker = world.worker_through(&proxy).await;
    let ecs = Ecs::default();
    world.queue.send_events(&[ecs.start_impaired("first")]).await.unwrap();
    outcome_line(&worker, "first", "deferred").await;
    // The first message is now hidden for half a minute. Other messages are visible.
    let before = proxy.calls("ReceiveMessage").len();
    let names: Vec<String> = (0..20).map(|i| format!("waiting-{i:02}")).collect();
    world.queue.send_events(&names.iter().map(|name| ecs.start_impaired(name)).collect::<Vec<_>>()).await.unwrap();
    let tried = world.slack.requests().len();
    world.slack.wait_for(|requests| requests.len() > tried, LIMIT).await.unwrap();
    let probes = &proxy.calls("ReceiveMessage")[before..];
    // A receive that began before the outage was noticed may ask for ten.
    assert!(probes.iter().skip(1).all(|call| call.body["MaxNumberOfMessages"] == 1), "{probes:?}");
    world.slack.always(&world.name, Answer::Judge);
    // All of them, except the few that probed: they are still hidden.
    let most = |requests: &[lab::slack::Request]| {
        let posted = |name: &&String| requests.iter().any(|request| request.accepted && request.mentions(name));
        names.iter().filter(posted).count() >= 16
    };
    world.slack.wait_for(most, LIMIT).await.unwrap();
}

#[tokio::test]
async fn retry_after_is_obeyed_to_the_second() {
    let world = World::new().await;
    world.slack.script(&world.name, [Answer::RateLimited(3), Answer::RateLimited(2)]);
    let worker = world.worker().await;
    let ecs = Ecs::default();
    world.queue.send_events(&[ecs.start_impaired("first")]).await.unwrap();
    metric_is(&worker, CHANNEL_BLOCKED, &DEFAULT, 1.0).await;
    world.queue.send_events(&[ecs.start_impaired("second")]).await.unwrap();
    world.posted(&["first", "second"]).await;
    world.nothing_more_is_posted(&worker).await;
    let requests = world.slack.requests();
    assert_eq!(world.slack.violations(), 0);
    let gaps: Vec<Duration> = requests.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    assert!(gaps[0] >= Duration::from_secs(3) && gaps[0] < Duration::from_secs(5), "{gaps:?}");
    assert!(gaps[1] >= Duration::from_secs(2) && gaps[1] < Duration::from_secs(4), "{gaps:?}");
    metric_is(&worker, CHANNEL_BLOCKED, &DEFAULT, 0.0).await;
}

#[tokio::test]
async fn retry_after_is_also_obeyed_with_a_503() {
    let world = World::new().await;
    world.slack.script(&world.name, [Answer::Unavailable(4)]);
    let _worker = world.worker().await;
    world.queue.send_events(&[Ecs::default().start_impaired("patient")]).await.unwrap();
    world.posted(&["patient"]).await;
    let requests = world.slack.requests();
    assert!(requests[1].at - requests[0].at >= Duration::from_secs(4));
    assert_eq!(world.slack.violations(), 0);
}

#[tokio::test]
async fn a_slack_that_always_answers_429_stops_receives() {
    let world = World::new().await;
    // Zero seconds do not allow posts without a pause.
    world.slack.script(&world.name, [Answer::RateLimited(0)]);
    world.slack.always(&world.name, Answer::RateLimited(1));
    let worker = world.worker().await;
    let ecs = Ecs::default();
    world.queue.send_events(&[ecs.start_impaired("first")]).await.unwrap();
    metric_is(&worker, CHANNEL_BLOCKED, &DEFAULT, 1.0).await;
    let events: Vec<_> = (0..60).map(|i| ecs.start_impaired(&format!("later-{i:02}"))).collect();
    world.queue.send_events(&events).await.unwrap();
    let requests = world.slack.wait_for(|requests| requests.len() >= 4, LIMIT).await.unwrap();
    let gaps: Vec<Duration> = requests.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    assert!(gaps.iter().all(|gap| *gap >= Duration::from_secs(1)), "{gaps:?}");
    // The receive that was open when the first 429 came may have returned ten more.
    let received = worker.metrics().await.unwrap().get("messages_received_total", &[]).unwrap();
    assert!(received <= 11.0, "{received} received while Slack took nothing");
}

#[tokio::test]
async fn an_alert_for_a_blocked_channel_is_put_back_within_its_visibility_timeout() {
    let world = World::new().await;
    let (open, shut) = (world.slack.url("open"), world.slack.url("shut"));
    let world = world.config(&format!(
        "[queue]\nvisibility_timeout = '4s'\n[[channel]]\nname = 'open'\nwebhook_url = '{open}'\n\
         [[channel]]\nname = 'shut'\nwebhook_url = '{shut}'\n[[route]]\nchannel = 'shut'\n"
    ));
    world.slack.always("shut", Answer::RateLimited(600));
    let worker = world.worker().await;
    let ecs = Ecs::default();
    // The second alert arrives when no other one waits, long before Slack's ten minutes end.
    for service in ["first", "second"] {
        world.queue.send_events(&[ecs.start_impaired(service)]).await.unwrap();
        let line = outcome_line(&worker, service, "deferred").await;
        assert_eq!(line["receive_count"], 1, "{line}");
    }
    assert_eq!(world.slack.requests().len(), 1);
}

#[tokio::test]
async fn a_storm_keeps_to_slacks_rate_and_names_every_service() {
    let world = World::with(10, Some(Rate::SLACK)).await;
    let ecs = Ecs::default();
    let names: Vec<String> = (0..300).map(|i| format!("service-{i:03}")).collect();
    world.queue.send_events(&names.iter().map(|name| ecs.start_impaired(name)).collect::<Vec<_>>()).await.unwrap();
    let repeats: Vec<_> = (0..200).map(|_| ecs.start_impaired("repeating")).collect();
    world.queue.send_events(&repeats).await.unwrap();
    let worker = world.worker().await;
    let mut all: Vec<&str> = names.iter().map(String::as_str).collect();
    all.push("repeating");
    world.posted(&all).await;
    world.nothing_more_is_posted(&worker).await;
    let requests = world.slack.requests();
    assert!(requests.len() < 15, "{} posts for 500 alerts", requests.len());
    assert!(requests.iter().all(|request| request.accepted), "within Slack's rate and limits");
    assert_eq!(requests.iter().map(|request| request.connection).collect::<std::collections::HashSet<_>>().len(), 1);
}

#[tokio::test]
async fn a_post_is_retried_after_slack_hangs_resets_or_breaks_off() {
    let world = World::new().await.config("[queue]\nvisibility_timeout = '40s'");
    world.slack.script(&world.name, [Answer::Reset, Answer::Hang]);
    let worker = world.worker().await;
    world.queue.send_events(&[Ecs::default().start_impaired("persistent")]).await.unwrap();
    let done = |requests: &[lab::slack::Request]| requests.iter().any(|request| request.status == Some(200));
    world.slack.wait_for(done, LIMIT).await.unwrap();
    world.queue_is_empty().await;
    // A 200 whose body breaks off may come from something else than Slack. Posting twice is better than losing the alert.
    world.slack.script(&world.name, [Answer::Cut]);
    world.queue.send_events(&[Ecs::default().start_impaired("broken-off")]).await.unwrap();
    world.nothing_more_is_posted(&worker).await;
    let broken_off = world.slack.requests().into_iter().filter(|request| request.mentions("broken-off"));
    assert_eq!(broken_off.map(|request| request.status).collect::<Vec<_>>(), [None, Some(200)]);
}

#[tokio::test]
async fn a_rotated_webhook_is_read_again() {
    let world = World::new().await;
    let worker = world.worker().await;
    world.slack.always(&world.name, Answer::Status(404, "no_service"));
    world.aws.update_secret(&world.name, &world.slack.url("rotated")).await.unwrap();
    world.queue.send_events(&[Ecs::default().start_impaired("moved")]).await.unwrap();
    world.posted(&["moved"]).await;
    world.nothing_more_is_posted(&worker).await;
    let webhooks: Vec<String> = world.slack.requests().into_iter().map(|request| request.webhook).collect();
    assert_eq!(webhooks, [world.name.as_str(), "rotated"]);
    metric_is(&worker, CHANNEL_BLOCKED, &DEFAULT, 0.0).await;
}

#[tokio::test]
async fn a_message_whose_webhook_stays_refused_is_put_back_and_not_deleted() {
    let world = World::new().await.config("[queue]\nvisibility_timeout = '4s'");
    world.slack.always(&world.name, Answer::Status(403, "invalid_token"));
    let worker = world.worker().await;
    world.queue.send_events(&[Ecs::default().start_impaired("stuck")]).await.unwrap();
    let line = outcome_line(&worker, "stuck", "deferred").await;
    assert!(line["error"].as_str().unwrap().contains("invalid_token"), "{line}");
    metric_is(&worker, "messages_total", &[("outcome", "deferred")], 1.0).await;
    let stored = world.queue.messages().await.unwrap();
    assert_eq!((stored.len(), stored[0].receive_count), (1, 1));
    assert!(!stored[0].visible, "it is hidden for a while");
    let refused = [("channel", "default"), ("outcome", "refused")];
    assert!(worker.metrics().await.unwrap().get("slack_requests_total", &refused) > Some(0.0));
}

#[tokio::test]
async fn the_worker_survives_receive_errors_of_any_class() {
    let world = World::new().await;
    let proxy = FaultyAws::start(&world.aws).await.unwrap();
    let worker = world.worker_through(&proxy).await;
    proxy.wait_for(|calls| calls.iter().any(|call| call.operation == "ReceiveMessage"), LIMIT).await.unwrap();
    metric_is(&worker, "sqs_requests_total", &[("operation", "ReceiveMessage"), ("outcome", "ok")], 1.0).await;
    proxy.script(
        "ReceiveMessage",
        [
            Fault::Error(500, "InternalFailure"),
            Fault::Error(400, "AWS.SimpleQueueService.NonExistentQueue"),
            Fault::Error(403, "AccessDeniedException"),
        ],
    );
    for class in ["AWS server error", "the queue does not exist", "access denied"] {
        let named = |line: &lab::worker::Line| line.field("error").as_str().is_some_and(|error| error.contains(class));
        worker.wait_for_line(named, LIMIT).await.unwrap();
    }
    world.queue.send_events(&[Ecs::default().start_impaired("survivor")]).await.unwrap();
    world.posted(&["survivor"]).await;
    world.queue_is_empty().await;
}

#[tokio::test]
async fn healthz_reports_a_queue_that_hangs_and_the_worker_survives_it() {
    let world = World::new().await;
    let proxy = FaultyAws::start(&world.aws).await.unwrap();
    // With one second of grace a long poll takes one second. /healthz fails after three times that.
    let mut environment = world.environment();
    environment.extend(proxy.environment());
    environment.push(("SHUTDOWN_GRACE".into(), "1s".into()));
    let worker = Worker::spawn(crate::world::BINARY, environment, &["run"]).unwrap();
    worker.wait_ready().await.unwrap();
    proxy.script("ReceiveMessage", [Fault::Hang]);
    let reason = unhealthy(&worker).await;
    assert!(reason.contains("poller 0"), "{reason}");
    world.queue.send_events(&[Ecs::default().start_impaired("patient")]).await.unwrap();
    world.posted(&["patient"]).await;
    let (status, _) = worker.get("/healthz").await.unwrap();
    assert_eq!(status, 200);
}

#[tokio::test]
async fn an_idle_worker_has_one_long_poll() {
    let world = World::new().await;
    let proxy = FaultyAws::start(&world.aws).await.unwrap();
    let mut environment = world.environment();
    environment.extend(proxy.environment());
    environment.push(("SHUTDOWN_GRACE".into(), "25s".into()));
    let begun = Instant::now();
    let worker = Worker::spawn(crate::world::BINARY, environment, &["run"]).unwrap();
    worker.wait_ready().await.unwrap();
    // A burst of messages wakes the other pollers. They must pause again.
    let ecs = Ecs::default();
    let burst: Vec<_> = (0..60).map(|i| ecs.start_impaired(&format!("burst-{i}"))).collect();
    world.queue.send_events(&burst).await.unwrap();
    world.queue_is_empty().await;
    let receives = || proxy.calls("ReceiveMessage");
    let mut last = receives().len();
    lab::eventually("only one poller receives", LIMIT, async || {
        lab::for_a_while(Duration::from_secs(2), "no receive begins in it").await;
        Ok(std::mem::replace(&mut last, receives().len()) == last)
    })
    .await
    .unwrap();
    assert_eq!(receives().last().unwrap().body["WaitTimeSeconds"], 20);
    assert!(begun.elapsed() < LIMIT);
}

#[tokio::test]
async fn healthz_reports_messages_that_are_never_settled() {
    let world = World::new().await.config("[queue]\nvisibility_timeout = '2s'");
    let proxy = FaultyAws::start(&world.aws).await.unwrap();
    proxy.script("DeleteMessageBatch", [Fault::Hang]);
    let worker = world.worker_through(&proxy).await;
    world.queue.send_events(&[Ecs::default().start_impaired("unsettled")]).await.unwrap();
    world.posted(&["unsettled"]).await;
    assert_eq!(worker.get("/healthz").await.unwrap().0, 200);
    let reason = unhealthy(&worker).await;
    assert!(reason.contains("no message was settled"), "{reason}");
    // The delete request times out after ten seconds and is retried.
    world.queue_is_empty().await;
    metric_is(&worker, "in_flight_messages", &[], 0.0).await;
    assert_eq!(worker.get("/healthz").await.unwrap().0, 200);
}

#[tokio::test]
async fn a_queue_that_answers_empty_at_once_is_polled_with_pauses() {
    let sqs = lab::sqs::Sqs::start().await.unwrap();
    let (queue, _dlq) = sqs.queue_with_dlq("hasty", 10);
    let slack = lab::slack::Slack::start().await.unwrap();
    let mut environment = sqs.environment();
    let own = [
        ("QUEUE_URL", queue.url.as_str()),
        ("SLACK_WEBHOOK_URL", &slack.url("hasty")),
        ("SLACK_ALLOWED_HOSTS", "127.0.0.1"),
    ];
    environment.extend(own.map(|(name, value)| (name.to_owned(), value.to_owned())));
    queue.answer_at_once(true);
    let worker = Worker::spawn(crate::world::BINARY, environment, &["run"]).unwrap();
    worker.wait_for_line(|line| line.message().contains("empty at once"), LIMIT).await.unwrap();
    let receives = async || {
        let ok = [("operation", "ReceiveMessage"), ("outcome", "ok")];
        worker.metrics().await.unwrap().get("sqs_requests_total", &ok).unwrap()
    };
    lab::for_a_while(Duration::from_secs(3), "receives are counted").await;
    let hasty = receives().await;
    assert!((2.0..10.0).contains(&hasty), "{hasty} receives in some three seconds");
    // Alerts are still posted. When the queue waits for messages again, the worker makes long polls again.
    let ecs = Ecs::default();
    let mentions = |service: &'static str| {
        move |requests: &[lab::slack::Request]| requests.iter().any(|request| request.mentions(service))
    };
    queue.put([ecs.start_impaired("paced").to_string()]);
    slack.wait_for(mentions("paced"), LIMIT).await.unwrap();
    queue.answer_at_once(false);
    queue.put([ecs.start_impaired("received").to_string()]);
    slack.wait_for(mentions("received"), LIMIT).await.unwrap();
    let before = receives().await;
    lab::for_a_while(Duration::from_secs(1), "receives are counted").await;
    assert!(receives().await <= before + 1.0);
    let warned = worker.lines().iter().filter(|line| line.message().contains("empty at once")).count();
    assert_eq!(warned, 1, "{worker}");
}
