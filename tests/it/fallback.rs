//! While Slack refuses a channel, its fallback takes its alerts. Messages that were put back because their channel is blocked become visible
//! at once when Slack accepts its posts again.

use std::time::{Duration, Instant};

use lab::{
    events::Ecs,
    fault::{Fault, FaultyAws},
    slack::{Answer, Request},
    worker::Worker,
};

use crate::world::{LIMIT, World, metric_is, outcome, outcome_line};

const TEAM: [(&str, &str); 1] = [("channel", "team")];

/// Channels by webhook with these names and fallbacks (`""` for none). Every problem goes to the first one.
async fn chain(channels: &[(&str, &str)], config: &str) -> World {
    let world = World::new().await;
    let mut text = format!("{config}\n");
    for (name, fallback) in channels {
        let url = world.slack.url(name);
        text += &format!("[[channel]]\nname = '{name}'\nwebhook_url = '{url}'\n");
        if !fallback.is_empty() {
            text += &format!("fallback = '{fallback}'\n");
        }
    }
    world.config(&format!("{text}[[route]]\nchannel = '{}'\n", channels[0].0))
}

async fn send(world: &World, services: &[&str]) {
    let events: Vec<_> = services.iter().map(|service| Ecs::default().start_impaired(service)).collect();
    world.queue.send_events(&events).await.unwrap();
}

/// The webhooks that accepted a post about this service.
fn places(world: &World, service: &str) -> Vec<String> {
    let about = |request: &Request| request.mentions(service);
    world.slack.accepted().into_iter().filter(about).map(|request| request.webhook).collect()
}

/// Sends alerts until one is posted by this webhook.
async fn back_in(world: &World, webhook: &str) {
    let begun = Instant::now();
    for number in 0.. {
        let service = format!("probe-{number}-of-{webhook}");
        send(world, &[&service]).await;
        world.posted(&[&service]).await;
        if places(world, &service) == [webhook] {
            return;
        }
        assert!(begun.elapsed() < LIMIT, "alerts do not go back to {webhook}");
    }
}

#[tokio::test]
async fn the_alerts_of_a_revoked_webhook_go_to_its_fallback_until_it_works() {
    let world = chain(&[("team", "platform"), ("platform", "")], "").await;
    let worker = world.worker().await;
    metric_is(&worker, "fallback_active", &TEAM, 0.0).await;
    world.slack.always("team", Answer::Status(404, "no_service"));
    send(&world, &["alpha"]).await;
    world.posted(&["alpha"]).await;
    assert_eq!(places(&world, "alpha"), ["platform"]);
    let post = world.slack.accepted().remove(0);
    assert!(post.mentions("For #team, which Slack refuses: no_service"), "{}", post.payload);
    metric_is(&worker, "fallback_active", &TEAM, 1.0).await;
    metric_is(&worker, "channel_blocked", &TEAM, 1.0).await;
    metric_is(&worker, "fallback_active", &[("channel", "platform")], 0.0).await;

    // A storm goes to the fallback too. No alert waits for the refused channel, and the worker does not try that channel for each alert.
    let names: Vec<String> = (0..40).map(|number| format!("storm-{number:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    send(&world, &names).await;
    world.posted(&names).await;
    world.nothing_more_is_posted(&worker).await;
    let probes = world.slack.requests().iter().filter(|request| request.webhook == "team").count();
    assert!(probes <= 4, "{probes} probes");

    world.slack.always("team", Answer::Judge);
    back_in(&world, "team").await;
    world.nothing_more_is_posted(&worker).await;
    metric_is(&worker, "fallback_active", &TEAM, 0.0).await;
    metric_is(&worker, "channel_blocked", &TEAM, 0.0).await;
    // No alert was lost, posted twice or put back.
    for name in &names {
        assert_eq!(places(&world, name), ["platform"], "{name}");
    }
    metric_is(&worker, "messages_total", &[("outcome", "deferred")], 0.0).await;
    let sent = worker.metrics().await.unwrap().get("messages_received_total", &[]);
    assert_eq!(worker.metrics().await.unwrap().get("alerts_total", &TEAM), sent, "they are still the channel's alerts");
}

#[tokio::test]
async fn a_channel_that_slack_accepts_again_gets_a_message_although_no_alert_comes() {
    let channels = [("team", "platform"), ("platform", ""), ("alone", "")];
    let world = chain(&channels, "[queue]\nvisibility_timeout = '4s'").await;
    let own = "[[route]]\nchannel = 'alone'\npattern = { resources = [{ wildcard = '*own*' }] }\n";
    let text = world.environment().into_iter().find(|(name, _)| name == "CONFIG_CONTENT").unwrap().1;
    let (channels, route) = text.split_once("[[route]]").unwrap();
    let world = world.config(&format!("{channels}{own}[[route]]{route}"));
    for name in ["team", "alone"] {
        world.slack.always(name, Answer::Status(404, "no_service"));
    }
    let worker = world.worker().await;
    send(&world, &["alpha", "own-beta"]).await;
    world.posted(&["alpha"]).await;
    outcome_line(&worker, "own-beta", "deferred").await;
    metric_is(&worker, "fallback_active", &TEAM, 1.0).await;
    for name in ["team", "alone"] {
        world.slack.always(name, Answer::Judge);
    }
    // No further alert comes: the worker tries the channels with a message of its own after 15 s, or after 30 s if Slack has refused
    // the alert twice by now.
    let line = "Slack takes alerts here again, after refusing them for ";
    world.posted_within(&["Those that came meanwhile are in #platform.", "own-beta"], 2 * LIMIT).await;
    metric_is(&worker, "fallback_active", &TEAM, 0.0).await;
    metric_is(&worker, "channel_blocked", &[("channel", "alone")], 0.0).await;
    let said: Vec<String> =
        world.slack.accepted().into_iter().filter(|it| it.mentions(line)).map(|it| it.webhook).collect();
    assert!(said.iter().all(|webhook| webhook != "platform") && said.contains(&"team".into()), "{said:?}");
    world.queue_is_empty().await;
    send(&world, &["gamma"]).await;
    world.posted(&["gamma"]).await;
    assert_eq!(places(&world, "gamma"), ["team"]);
}

#[tokio::test]
async fn a_digest_says_for_each_alert_which_channel_it_is_for() {
    let world = chain(&[("team", "platform"), ("platform", "")], "").await;
    let own = "[[route]]\nchannel = 'platform'\npattern = { resources = [{ wildcard = '*own*' }] }\n";
    let text = world.environment().into_iter().find(|(name, _)| name == "CONFIG_CONTENT").unwrap().1;
    let (channels, route) = text.split_once("[[route]]").unwrap();
    let world = world.config(&format!("{channels}{own}[[route]]{route}"));
    world.slack.always("team", Answer::Status(410, "channel_is_archived"));
    // After a 429 all alerts wait together.
    world.slack.script("platform", [Answer::RateLimited(2)]);
    send(&world, &["own-0"]).await;
    let worker = world.worker().await;
    world.slack.wait_for(|requests| !requests.is_empty(), LIMIT).await.unwrap();
    send(&world, &["own-1", "carried-1", "own-2", "carried-2"]).await;
    world.posted(&["own-0", "own-1", "own-2", "carried-1", "carried-2"]).await;
    world.nothing_more_is_posted(&worker).await;
    let line = "For #team, which Slack refuses: channel_is_archived";
    for post in world.slack.accepted() {
        let blocks = post.payload["attachments"][0]["blocks"].to_string();
        let lines = blocks.matches(line).count();
        let carried = ["carried-1", "carried-2"].iter().filter(|name| blocks.contains(*name)).count();
        assert_eq!(lines, carried, "{blocks}");
    }
}

#[tokio::test]
async fn alerts_go_to_the_first_channel_of_a_chain_that_slack_accepts() {
    let world = chain(&[("team", "second"), ("second", "third"), ("third", "")], "").await;
    world.slack.always("team", Answer::Status(403, "invalid_token"));
    world.slack.always("second", Answer::Status(410, "channel_is_archived"));
    let worker = world.worker().await;
    send(&world, &["alpha"]).await;
    world.posted(&["alpha"]).await;
    assert_eq!(places(&world, "alpha"), ["third"]);
    assert!(world.slack.accepted()[0].mentions("For #team, which Slack refuses: invalid_token"));
    metric_is(&worker, "fallback_active", &TEAM, 1.0).await;
    metric_is(&worker, "fallback_active", &[("channel", "second")], 1.0).await;
    world.slack.always("second", Answer::Judge);
    back_in(&world, "second").await;
    metric_is(&worker, "fallback_active", &[("channel", "second")], 0.0).await;
    world.slack.always("team", Answer::Judge);
    back_in(&world, "team").await;
    world.queue_is_empty().await;
}

#[tokio::test]
async fn alerts_wait_for_slack_while_it_is_down_or_slow() {
    let world = chain(&[("team", "platform"), ("platform", "")], "").await;
    let worker = world.worker().await;
    let failures = [
        Answer::Status(500, "rollup_error"),
        Answer::Status(503, "unavailable"),
        Answer::RateLimited(1),
        Answer::Reset,
    ];
    world.slack.script("team", failures);
    send(&world, &["patient"]).await;
    world.posted(&["patient"]).await;
    world.nothing_more_is_posted(&worker).await;
    assert_eq!(places(&world, "patient"), ["team"]);
    assert!(world.slack.requests().iter().all(|request| request.webhook == "team"));
    metric_is(&worker, "fallback_active", &TEAM, 0.0).await;
    // A message that Slack refuses does not activate the fallback either.
    world.slack.script("team", [Answer::RefuseBlocksWith("broken".into())]);
    send(&world, &["broken"]).await;
    world.posted(&["broken"]).await;
    assert_eq!(places(&world, "broken"), ["team"]);
}

#[tokio::test]
async fn a_rotated_secret_ends_the_fallback() {
    let world = chain(&[("platform", "")], "").await;
    let (name, url) = (world.name.clone(), world.slack.url("platform"));
    let world = world.config(&format!(
        "[[channel]]\nname = 'team'\nwebhook_secret_id = '{name}'\nfallback = 'platform'\n\
         [[channel]]\nname = 'platform'\nwebhook_url = '{url}'\n[[route]]\nchannel = 'team'\n"
    ));
    world.slack.always(&world.name, Answer::Status(404, "no_service"));
    let worker = world.worker().await;
    send(&world, &["alpha"]).await;
    world.posted(&["alpha"]).await;
    assert_eq!(places(&world, "alpha"), ["platform"]);
    world.aws.update_secret(&world.name, &world.slack.url("rotated")).await.unwrap();
    back_in(&world, "rotated").await;
    metric_is(&worker, "fallback_active", &TEAM, 0.0).await;
}

#[tokio::test]
async fn a_killed_worker_loses_no_alert_for_the_fallback() {
    let world = chain(&[("team", "platform"), ("platform", "")], "[queue]\nvisibility_timeout = '5s'").await;
    world.slack.always("team", Answer::Status(404, "no_service"));
    world.slack.script("platform", [Answer::Hang]);
    let mut first = world.worker().await;
    send(&world, &["alpha"]).await;
    world.slack.wait_for(|all| all.iter().any(|request| request.webhook == "platform"), LIMIT).await.unwrap();
    first.kill().await.unwrap();
    let second = world.worker().await;
    world.posted(&["alpha"]).await;
    world.nothing_more_is_posted(&second).await;
    assert_eq!(places(&world, "alpha"), ["platform"]);
}

#[tokio::test]
async fn check_names_the_fallback_of_a_channel() {
    let world = chain(&[("team", "platform"), ("platform", "")], "").await;
    let (code, output) = outcome(world.environment(), &["check"]).await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("channel team: while Slack refuses it, its alerts go to platform"), "{output}");
}

#[tokio::test]
async fn fallbacks_in_a_circle_or_to_an_unknown_channel_are_refused() {
    for (channels, said) in [
        (
            vec![("a", "b"), ("b", "c"), ("c", "a")],
            "channel[2].fallback: its fallbacks lead back to itself: \"c\" -> \"a\"",
        ),
        (vec![("a", "a"), ("b", "")], "channel[0].fallback: its fallbacks lead back to itself: \"a\" -> \"a\""),
        (
            vec![("a", "x"), ("b", "")],
            "channel[0].fallback: \"x\" is not the name of a channel; the other channels are \"b\"",
        ),
    ] {
        let world = chain(&channels, "").await;
        for command in ["check", "run"] {
            let (code, output) = outcome(world.environment(), &[command]).await;
            assert_eq!(code, Some(2), "{output}");
            assert!(output.replace('\\', "").contains(said), "{output}");
        }
    }
}

/// A worker that put back one alert, because Slack refuses the channel `shut`.
async fn put_back(world: &World) -> Worker {
    world.slack.always("shut", Answer::Status(403, "invalid_token"));
    let worker = world.worker().await;
    send(world, &["early"]).await;
    let line = outcome_line(&worker, "early", "deferred").await;
    assert_eq!(line["receive_count"], 1, "{line}");
    worker
}

/// Sends alerts until Slack accepts one. Some may be put back before the next attempt is due.
async fn open(world: &World, worker: &Worker, prefix: &str) {
    let begun = Instant::now();
    for number in 0.. {
        let service = format!("{prefix}-{number}");
        send(world, &[&service]).await;
        let settled = |line: &lab::worker::Line| line.field("service").as_str() == Some(&service);
        let line = worker.wait_for_line(settled, LIMIT).await.unwrap();
        if line.field("outcome").as_str() == Some("posted") {
            return;
        }
        assert!(begun.elapsed() < LIMIT, "the channel does not open");
    }
}

#[tokio::test]
async fn a_message_that_was_put_back_returns_at_once_when_its_channel_opens() {
    let world = chain(&[("shut", ""), ("open", "")], "[queue]\nvisibility_timeout = '4s'").await;
    let worker = put_back(&world).await;
    world.slack.always("shut", Answer::Judge);
    open(&world, &worker, "later").await;
    let opened = Instant::now();
    world.posted(&["early"]).await;
    // It was put back for 24 to 30 s, less than 10 s ago.
    assert!(opened.elapsed() < Duration::from_secs(10), "{:?}", opened.elapsed());
    world.nothing_more_is_posted(&worker).await;
    assert_eq!(places(&world, "early"), ["shut"]);
}

#[tokio::test]
async fn a_message_that_was_put_back_is_deleted_only_after_slack_accepted_its_alert() {
    let world = chain(&[("shut", ""), ("open", "")], "[queue]\nvisibility_timeout = '4s'").await;
    let worker = put_back(&world).await;
    // Slack accepts one alert, and refuses the channel again before the other message is received.
    world.slack.script("shut", [Answer::Judge]);
    open(&world, &worker, "lucky").await;
    let again = |line: &lab::worker::Line| {
        line.field("service").as_str() == Some("early")
            && line.field("outcome").as_str() == Some("deferred")
            && line.field("receive_count").as_i64() == Some(2)
    };
    worker.wait_for_line(again, LIMIT).await.unwrap();
    assert_eq!(world.posts_mentioning("early"), 0);
    assert!(world.queue.counts().await.unwrap().total() >= 1, "it is still in the queue");
    world.slack.always("shut", Answer::Judge);
    open(&world, &worker, "last").await;
    world.posted(&["early"]).await;
    world.nothing_more_is_posted(&worker).await;
    assert_eq!(places(&world, "early"), ["shut"]);
}

#[tokio::test]
async fn a_worker_that_stops_leaves_the_messages_that_it_put_back_to_the_next_worker() {
    let world = chain(&[("shut", ""), ("open", "")], "[queue]\nvisibility_timeout = '4s'").await;
    world.slack.always("shut", Answer::Status(403, "invalid_token"));
    let proxy = FaultyAws::start(&world.aws).await.unwrap();
    let mut worker = world.worker_through(&proxy).await;
    send(&world, &["early"]).await;
    outcome_line(&worker, "early", "deferred").await;
    let delays = || -> Vec<u64> {
        let calls = proxy.calls("ChangeMessageVisibilityBatch");
        calls.iter().filter_map(|call| call.body["Entries"][0]["VisibilityTimeout"].as_u64()).collect()
    };
    lab::eventually("it is put back", LIMIT, async || {
        let hidden = world.queue.counts().await?;
        Ok(delays().len() == 1 && hidden.total() == 1 && in_flight(&worker).await? == 0.0)
    })
    .await
    .unwrap();
    worker.terminate().await.unwrap();
    assert_eq!(worker.wait(LIMIT).await.unwrap().code(), Some(0), "{worker}");
    let [first, released] = delays()[..] else { panic!("{:?}", delays()) };
    assert!((24..=30).contains(&first) && (30..=60).contains(&released), "{first} {released}");
    let stored = world.queue.messages().await.unwrap();
    assert_eq!((stored.len(), stored[0].receive_count), (1, 1));
    assert!(!stored[0].visible, "the next worker has time to start");
}

async fn in_flight(worker: &Worker) -> anyhow::Result<f64> {
    Ok(worker.metrics().await?.get("in_flight_messages", &[]).unwrap_or(f64::NAN))
}

#[tokio::test]
async fn a_put_back_that_fails_is_given_up_before_the_message_is_visible_again() {
    let world = chain(&[("shut", ""), ("open", "")], "[queue]\nvisibility_timeout = '5s'").await;
    world.slack.always("shut", Answer::Status(403, "invalid_token"));
    let proxy = FaultyAws::start(&world.aws).await.unwrap();
    proxy.always("ChangeMessageVisibilityBatch", Fault::Error(503, "ServiceUnavailable"));
    let worker = world.worker_through(&proxy).await;
    let sent = Instant::now();
    send(&world, &["early"]).await;
    let given_up = |line: &lab::worker::Line| line.message().contains("could not be put back");
    worker.wait_for_line(given_up, LIMIT).await.unwrap();
    let calls = proxy.calls("ChangeMessageVisibilityBatch");
    let receipt = |call: &lab::fault::Call| call.body["Entries"][0]["ReceiptHandle"].clone();
    let first: Vec<_> = calls.iter().filter(|call| receipt(call) == receipt(&calls[0])).collect();
    let late = first.last().unwrap().at - sent;
    assert!(first.len() > 1, "it is retried: {calls:?}");
    assert!(late < Duration::from_millis(5_500), "{late:?} after the message was sent; it is hidden for 5 s");
}
