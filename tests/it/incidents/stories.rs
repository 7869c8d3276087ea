//! The life of an incident: recoveries that ECS confirms or denies, reopenings, deleted roots, storms, and failed starts that may recover by
//! themselves.

use lab::{
    events::{Ecs, Stop},
    slack::Answer,
};
use serde_json::{Value, json};

use super::{
    CHANNEL, ago, bad_deploy, bot_world, color, describe, described, eventually, fix, outcomes, replies, roots, says,
    transitions, worker_and_ecs,
};
use crate::world::{World, metric_is, outcome_line};

/// CloudWatch's event about an alarm, from this many seconds ago.
fn alarm(state: &str, seconds_ago: i64) -> Value {
    let (id, at) = (lab::unique("alarm"), super::utc(seconds_ago));
    json!({
        "version": "0", "id": id, "detail-type": "CloudWatch Alarm State Change", "source": "aws.cloudwatch",
        "account": "123456789012", "time": at, "region": "eu-west-1",
        "resources": ["arn:aws:cloudwatch:eu-west-1:123456789012:alarm:checkout-5xx"],
        "detail": {
            "alarmName": "checkout-5xx",
            "state": { "value": state, "reason": "Threshold Crossed", "timestamp": at },
            "previousState": { "value": if state == "OK" { "ALARM" } else { "OK" } },
        },
    })
}

#[tokio::test]
async fn a_recovery_that_ecs_denies_is_put_back() {
    let world = World::new().await.config("[diagnose.crash_loop]\nwithin = '1m'");
    let (worker, ecs) = worker_and_ecs(&world).await;
    world.queue.send_events(&bad_deploy(&ecs, "checkout")[..3]).await.unwrap();
    world.posted(&["checkout"]).await;
    world.queue_is_empty().await;
    // Only one of two tasks runs.
    describe(&ecs, described("checkout", 89, "COMPLETED", 1));
    world.queue.send_events(&[Ecs::default().steady_state("checkout")]).await.unwrap();
    let line = outcome_line(&worker, "checkout", "deferred").await;
    assert!(line.to_string().contains("the recovery is not confirmed yet"), "{line}");
    outcomes(&worker, "deferred", 1).await;
    assert_eq!(world.posts_mentioning("has recovered"), 0);
    let counts = world.queue.counts().await.unwrap();
    assert_eq!((counts.total(), counts.visible), (1, 0));
    // Another event of the same kind, after the service has really recovered.
    world.queue.send_events(&fix(&ecs, "checkout")[1..]).await.unwrap();
    world.posted(&["*checkout* has recovered"]).await;
}

#[tokio::test]
async fn an_alarm_opens_recovers_and_is_reopened() {
    let world = bot_world("").await;
    let (worker, _ecs) = worker_and_ecs(&world).await;
    for (state, ago, colors) in [("ALARM", 300, "danger"), ("OK", 180, "good"), ("ALARM", 60, "danger")] {
        world.queue.send_events(&[alarm(state, ago)]).await.unwrap();
        eventually(state, || roots(&world).first().is_some_and(|root| color(&root.payload) == colors)).await;
        world.nothing_more_is_posted(&worker).await;
    }
    let [root] = &roots(&world)[..] else { panic!("{:?}", roots(&world)) };
    let thread = replies(&world, root);
    let [end, again] = &thread[..] else { panic!("{thread:?}") };
    assert!(says(&end.payload, "checkout-5xx* has recovered after 2 min: 1 event") && !end.broadcast, "{end:?}");
    assert!(again.broadcast && color(&again.payload) == "danger", "{again:?}");
    assert!(says(&root.payload, "It is back, soon after its recovery"), "{}", root.payload);
    transitions(&worker, "ops", &[("opened", 1), ("recovered", 1), ("reopened", 1)]).await;
    outcomes(&worker, "posted", 3).await;
    metric_is(&worker, "incidents_open", &[("channel", "ops")], 1.0).await;
}

#[tokio::test]
async fn a_problem_long_after_the_recovery_is_another_incident() {
    let world = bot_world("[incidents]\nreopen_within = '1m'").await;
    let (worker, _ecs) = worker_and_ecs(&world).await;
    for (state, ago, roots_then) in [("ALARM", 300, 1), ("OK", 180, 1), ("ALARM", 60, 2)] {
        world.queue.send_events(&[alarm(state, ago)]).await.unwrap();
        eventually(state, || roots(&world).len() == roots_then).await;
        world.nothing_more_is_posted(&worker).await;
    }
    assert_eq!(
        roots(&world).iter().map(|root| color(&root.payload).to_owned()).collect::<Vec<_>>(),
        ["good", "danger"]
    );
}

#[tokio::test]
async fn an_event_older_than_the_recovery_reopens_nothing() {
    let world = bot_world("").await;
    let (worker, _ecs) = worker_and_ecs(&world).await;
    for (number, event) in (1..).zip([alarm("ALARM", 300), alarm("OK", 180), alarm("ALARM", 240)]) {
        world.queue.send_events(&[event]).await.unwrap();
        outcomes(&worker, "posted", number).await;
    }
    transitions(&worker, "ops", &[("opened", 1), ("recovered", 1), ("reopened", 0), ("repeated", 1)]).await;
    let [root] = &roots(&world)[..] else { panic!("{:?}", roots(&world)) };
    assert!(color(&root.payload) == "good" && says(&root.payload, "2 events"), "{}", root.payload);
}

#[tokio::test]
async fn an_incident_whose_root_was_deleted_is_opened_anew() {
    let world = bot_world("[diagnose]\nenabled = false").await;
    let (worker, _ecs) = worker_and_ecs(&world).await;
    world.queue.send_events(&[Ecs::default().start_impaired("checkout")]).await.unwrap();
    eventually("the root is there", || roots(&world).len() == 1).await;
    world.nothing_more_is_posted(&worker).await;
    world.slack.delete_message(CHANNEL, &roots(&world)[0].ts);
    // A repeat, which would edit the root, and news, which would reply to it, each open the incident anew.
    for event in [Ecs::default().start_impaired("checkout"), Ecs::default().placement_failure("checkout")] {
        world.queue.send_events(&[event]).await.unwrap();
        eventually("the root is there again", || roots(&world).len() == 1).await;
        world.nothing_more_is_posted(&worker).await;
        world.slack.delete_message(CHANNEL, &roots(&world)[0].ts);
    }
    transitions(&worker, "ops", &[("opened", 3)]).await;
    // Its recovery, too, is posted in a new root.
    world.queue.send_events(&[Ecs::default().steady_state("checkout")]).await.unwrap();
    eventually("the recovery is posted", || roots(&world).iter().any(|root| color(&root.payload) == "good")).await;
    world.nothing_more_is_posted(&worker).await;
    assert_eq!(world.slack.messages(CHANNEL).len(), 1);
}

#[tokio::test]
async fn without_incidents_each_alert_is_a_message() {
    let world = World::new().await.config("[incidents]\nenabled = false\n[diagnose]\nenabled = false");
    let worker = world.worker().await;
    for number in 1..=3 {
        world.queue.send_events(&[Ecs::default().start_impaired("checkout")]).await.unwrap();
        outcomes(&worker, "posted", number).await;
    }
    world.queue.send_events(&[Ecs::default().steady_state("checkout")]).await.unwrap();
    outcomes(&worker, "unrouted", 1).await;
    world.nothing_more_is_posted(&worker).await;
    assert_eq!(world.slack.accepted().len(), 3);
    metric_is(&worker, "incidents_total", &[], 0.0).await;
}

#[tokio::test]
async fn a_recovery_is_posted_in_every_channel_that_has_the_problem_and_in_no_other() {
    let world = World::new().await;
    let channels = ["search", "others", "nobody"]
        .map(|name| format!("[[channel]]\nname = '{name}'\nwebhook_url = '{}'\n", world.slack.url(name)));
    let routes = r#"
        [[route]]
        channel = "nobody"
        pattern = { detail-type = ["never"] }
        [[route]]
        channel = "search"
        continue = true
        pattern = { resources = [{ wildcard = "*:service/*/search-*" }], detail = { eventType = ["WARN"] } }
        [[route]]
        channel = "others"
        [diagnose]
        enabled = false
    "#;
    let world = world.config(&format!("{}{routes}", channels.concat()));
    let worker = world.worker().await;
    for (service, posts) in [("search-api", 2), ("checkout", 3)] {
        world.queue.send_events(&[Ecs::default().start_impaired(service)]).await.unwrap();
        eventually("the problem is posted", || world.slack.accepted().len() == posts).await;
    }
    let ends = ["search-api", "checkout", "unheard-of"].map(|service| Ecs::default().steady_state(service));
    world.queue.send_events(&ends).await.unwrap();
    outcomes(&worker, "posted", 4).await;
    outcomes(&worker, "unrouted", 1).await;
    world.nothing_more_is_posted(&worker).await;
    let mut said: Vec<(String, bool)> =
        world.slack.accepted().into_iter().map(|post| (post.webhook.clone(), color(&post.payload) == "good")).collect();
    said.sort();
    let said: Vec<(&str, bool)> = said.iter().map(|(webhook, green)| (webhook.as_str(), *green)).collect();
    // The two recoveries in `others` arrive together, so they may be one message.
    assert!(said.starts_with(&[("others", false), ("others", false), ("others", true)]), "{said:?}");
    assert!(said.ends_with(&[("search", false), ("search", true)]), "{said:?}");
}

#[tokio::test]
async fn two_channels_with_one_bot_token_have_a_thread_each() {
    let other = "C9876543210";
    let world = bot_world("[[route]]\nchannel = 'ops'\ncontinue = true\n[[route]]\nchannel = 'also'").await;
    let one = world.environment().into_iter().find(|(name, _)| name == "CONFIG_CONTENT").unwrap().1;
    let (_, section) = one.split_once("[[channel]]").unwrap();
    let also = section.replace("'ops'", "'also'").replace(CHANNEL, other);
    let world = world.config(&format!("{one}\n[[channel]]{also}"));
    let (worker, ecs) = worker_and_ecs(&world).await;
    let mut events = bad_deploy(&ecs, "checkout");
    events.truncate(3);
    for (number, event) in (1..).zip(events.into_iter().chain(fix(&ecs, "checkout").into_iter().take(1))) {
        world.queue.send_events(&[event]).await.unwrap();
        outcomes(&worker, "posted", number).await;
    }
    for channel in [CHANNEL, other] {
        let messages = world.slack.messages(channel);
        let [root, end] = &messages[..] else { panic!("{messages:?}") };
        assert_eq!((color(&root.payload), root.edits), ("good", 3));
        assert!(says(&root.payload, "3 events, 3 failed tasks"), "{}", root.payload);
        assert_eq!(end.thread_ts.as_ref(), Some(&root.ts));
    }
}

#[tokio::test]
async fn a_storm_of_recoveries_is_one_green_message_that_names_every_service() {
    let world = World::new().await.config("[diagnose]\nenabled = false");
    let worker = world.worker().await;
    let services: Vec<String> = (0..30).map(|number| format!("service-{number:02}")).collect();
    let troubles: Vec<Value> = services.iter().map(|service| ago(Ecs::default().start_impaired(service), 60)).collect();
    world.queue.send_events(&troubles).await.unwrap();
    outcomes(&worker, "posted", 30).await;
    let before = world.slack.accepted().len();
    // While Slack is rate-limited, the recoveries gather.
    world.slack.script(&world.name, [Answer::RateLimited(2)]);
    let ends: Vec<Value> = services.iter().map(|service| Ecs::default().steady_state(service)).collect();
    world.queue.send_events(&ends).await.unwrap();
    outcomes(&worker, "posted", 60).await;
    world.nothing_more_is_posted(&worker).await;
    let greens = world.slack.accepted().split_off(before);
    let [green] = &greens[..] else { panic!("{greens:?}") };
    assert_eq!(color(&green.payload), "good");
    for service in &services {
        assert!(green.mentions(service), "{service} is not in {}", green.payload);
    }
    metric_is(&worker, "incidents_open", &[("channel", "default")], 0.0).await;
}

#[tokio::test]
async fn a_storm_by_bot_token_is_one_message_and_its_recoveries_one_reply() {
    let world = bot_world("[diagnose]\nenabled = false").await;
    let worker = world.worker().await;
    let services: Vec<String> = (0..30).map(|number| format!("service-{number:02}")).collect();
    let troubles: Vec<Value> = services.iter().map(|service| ago(Ecs::default().start_impaired(service), 60)).collect();
    world.slack.script(CHANNEL, [Answer::RateLimited(2)]);
    world.queue.send_events(&troubles).await.unwrap();
    outcomes(&worker, "posted", 30).await;
    let [root] = &roots(&world)[..] else { panic!("{:?}", roots(&world)) };
    // While Slack is rate-limited, reports gather: the last service gets worse, and all others recover.
    world.slack.script(CHANNEL, [Answer::RateLimited(2)]);
    let (last, well) = services.split_last().unwrap();
    let mut events: Vec<Value> = well.iter().map(|service| Ecs::default().steady_state(service)).collect();
    events.push(Ecs::default().placement_failure(last));
    world.queue.send_events(&events).await.unwrap();
    outcomes(&worker, "posted", 60).await;
    world.nothing_more_is_posted(&worker).await;
    let thread = replies(&world, root);
    let (greens, others): (Vec<_>, Vec<_>) = thread.iter().partition(|reply| color(&reply.payload) == "good");
    let ([green], [other]) = (&greens[..], &others[..]) else { panic!("{thread:?}") };
    assert!(well.iter().all(|service| says(&green.payload, service)), "{}", green.payload);
    assert!(says(&other.payload, last) && !says(&green.payload, last), "{thread:?}");
    // The digest is about other services too, so it is not edited.
    assert_eq!((roots(&world).len(), roots(&world)[0].edits), (1, 0));
}

#[tokio::test]
async fn a_failed_start_that_may_recover_by_itself_is_reported_when_a_second_one_fails() {
    let world = World::new().await;
    let (worker, ecs) = worker_and_ecs(&world).await;
    let failed_start = || {
        let reason = "Timeout waiting for network interface provisioning to complete.";
        let stop = Stop { code: "TaskFailedToStart", reason, ..Stop::default() };
        let mut event = Ecs::default().task_stopped("checkout", stop);
        event["detail"]["startedBy"] = "ecs-svc/88".into();
        ecs.record(json!({ "tasks": [event["detail"]] }));
        event
    };
    // As many tasks run as are desired.
    describe(&ecs, described("checkout", 88, "COMPLETED", 2));
    world.queue.send_events(&[failed_start()]).await.unwrap();
    outcomes(&worker, "unrouted", 1).await;
    world.nothing_more_is_posted(&worker).await;
    assert!(world.slack.accepted().is_empty());
    world.queue.send_events(&[failed_start()]).await.unwrap();
    outcomes(&worker, "posted", 1).await;
    assert!(world.slack.accepted()[0].mentions("Network interface not provisioned"));
}
