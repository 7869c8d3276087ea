//! Several replicas that share a table, and a table that fails.

use std::{path::PathBuf, time::Duration};

use lab::{
    ecs::EcsApi,
    events::Ecs,
    fault::{Fault, FaultyAws},
    slack::{Answer, web_api::EDITS},
    unique,
    worker::Worker,
};
use serde_json::Value;

use super::{CHANNEL, bad_deploy, bot_world, color, fix, outcomes, replies, roots, says};
use crate::world::{BINARY, LIMIT, World, metric_is, with};

async fn replica(world: &World, ecs: &EcsApi, table: &str) -> Worker {
    let environment = with(&world.environment(), &[("INCIDENTS_TABLE", table)]).into_iter().chain(ecs.environment());
    let worker = Worker::spawn(BINARY, environment, &["run"]).unwrap();
    worker.wait_ready().await.unwrap();
    worker
}

/// A table of incidents, for one test.
async fn table(world: &World) -> String {
    let table = unique("incidents");
    world.aws.create_table(&table).await.unwrap();
    table
}

async fn three_replicas(world: &World, ecs: &EcsApi, table: &str) -> [Worker; 3] {
    [replica(world, ecs, table).await, replica(world, ecs, table).await, replica(world, ecs, table).await]
}

#[tokio::test]
async fn three_replicas_report_one_incident_although_two_are_killed() {
    // The messages of a killed replica become visible soon.
    let world = bot_world("[queue]\nvisibility_timeout = '8s'").await;
    let table = table(&world).await;
    let ecs = EcsApi::start::<PathBuf>(&[]).await.unwrap();
    let mut replicas = three_replicas(&world, &ecs, &table).await;
    let events = bad_deploy(&ecs, "checkout");
    let (first, second) = events.split_at(14);
    // One by one, so that each replica gets some.
    for event in first {
        world.queue.send_events(std::slice::from_ref(event)).await.unwrap();
    }
    super::eventually("there is a root", || !roots(&world).is_empty()).await;
    replicas[0].kill().await.unwrap();
    for event in second {
        world.queue.send_events(std::slice::from_ref(event)).await.unwrap();
    }
    replicas[1].kill().await.unwrap();
    let limit = Duration::from_secs(60);
    world.queue.wait_for(|counts| counts.total() == 0, limit).await.unwrap();
    // A killed replica may not have made its edit. The next replica makes it, so the recovery shows every event.
    world.queue.send_events(&fix(&ecs, "checkout")).await.unwrap();
    super::eventually("the root is green", || roots(&world).last().is_some_and(|root| color(&root.payload) == "good"))
        .await;
    world.nothing_more_is_posted(&replicas[2]).await;

    let roots = roots(&world);
    // A killed replica may have posted a root without recording it. That explains a second root, but not a third.
    assert!(roots.len() <= 2, "{roots:?}");
    let root = roots.last().unwrap();
    assert!(says(&root.payload, "has recovered after 6 min: 27 events, 24 failed tasks"), "{}", root.payload);
    let greens = replies(&world, root).iter().filter(|reply| color(&reply.payload) == "good").count();
    assert_eq!(greens, 1);
    assert_eq!(world.dlq.counts().await.unwrap().total(), 0);
}

#[tokio::test]
async fn three_replicas_by_webhook_send_no_more_than_one() {
    let world = World::new().await;
    let table = table(&world).await;
    let ecs = EcsApi::start::<PathBuf>(&[]).await.unwrap();
    let replicas = three_replicas(&world, &ecs, &table).await;
    for event in bad_deploy(&ecs, "checkout") {
        world.queue.send_events(&[event]).await.unwrap();
    }
    world.queue_is_empty().await;
    world.queue.send_events(&fix(&ecs, "checkout")).await.unwrap();
    world.posted(&["*checkout* has recovered after 6 min: 27 events, 24 failed tasks"]).await;
    for replica in &replicas {
        world.nothing_more_is_posted(replica).await;
    }
    let posts = world.slack.accepted();
    assert!((2..=3).contains(&posts.len()), "{posts:?}");
    assert_eq!(color(&posts.last().unwrap().payload), "good");
    let mut received = 0.0;
    for replica in &replicas {
        received += replica.metrics().await.unwrap().get("messages_received_total", &[]).unwrap();
    }
    assert!(received >= 29.0, "{received}");
}

#[tokio::test]
async fn a_replica_recovers_an_incident_that_another_one_opened_and_knows_its_events() {
    let world = bot_world("").await;
    let table = table(&world).await;
    let ecs = EcsApi::start::<PathBuf>(&[]).await.unwrap();
    let events = bad_deploy(&ecs, "checkout");
    let mut first = replica(&world, &ecs, &table).await;
    world.queue.send_events(&events[..5]).await.unwrap();
    outcomes(&first, "posted", 5).await;
    world.queue_is_empty().await;
    first.terminate().await.unwrap();
    assert!(first.wait(LIMIT).await.unwrap().success(), "{first}");

    let second = replica(&world, &ecs, &table).await;
    world.queue.send_events(&events[..5]).await.unwrap();
    outcomes(&second, "duplicate", 5).await;
    world.queue.send_events(&fix(&ecs, "checkout")).await.unwrap();
    super::eventually("the root is green", || roots(&world).iter().all(|root| color(&root.payload) == "good")).await;
    world.nothing_more_is_posted(&second).await;
    let [root] = &roots(&world)[..] else { panic!("{:?}", roots(&world)) };
    assert!(says(&root.payload, "5 events, 5 failed tasks"), "{}", root.payload);
    assert_eq!(replies(&world, root).len(), 1);
}

#[tokio::test]
async fn a_replica_that_stops_does_not_wait_for_the_report_of_another() {
    let world = bot_world("[diagnose]\nenabled = false").await;
    let table = table(&world).await;
    let ecs = EcsApi::start::<PathBuf>(&[]).await.unwrap();
    let _reporting = replica(&world, &ecs, &table).await;
    world.slack.always(CHANNEL, Answer::Hang);
    world.queue.send_events(&[Ecs::default().start_impaired("checkout")]).await.unwrap();
    world.slack.wait_for(|requests| !requests.is_empty(), LIMIT).await.unwrap();
    let mut stopping = replica(&world, &ecs, &table).await;
    lab::eventually("the other replica holds a message of the same incident", LIMIT, async || {
        world.queue.send_events(&[Ecs::default().start_impaired("checkout")]).await?;
        Ok(stopping.metrics().await?.get("in_flight_messages", &[]) >= Some(1.0))
    })
    .await
    .unwrap();
    stopping.terminate().await.unwrap();
    assert!(stopping.wait(LIMIT).await.unwrap().success(), "{stopping}");
    // Other replicas can receive its messages at once.
    let deferred = stopping.lines().into_iter().filter(|line| line.field("outcome") == "deferred").count();
    assert!(deferred >= 1, "{stopping}");
}

#[tokio::test]
async fn a_root_whose_record_was_lost_in_a_crash_is_posted_again_once() {
    let world = bot_world("[diagnose]\nenabled = false\n[queue]\nvisibility_timeout = '8s'").await;
    let table = table(&world).await;
    let ecs = EcsApi::start::<PathBuf>(&[]).await.unwrap();
    let mut crashing = replica(&world, &ecs, &table).await;
    world.slack.script(CHANNEL, [Answer::Late(Duration::from_secs(5))]);
    world.queue.send_events(&[Ecs::default().start_impaired("checkout")]).await.unwrap();
    super::eventually("Slack has the root", || roots(&world).len() == 1).await;
    crashing.kill().await.unwrap();
    // The first message is still hidden, and the incident's lease has not expired yet.
    let other = replica(&world, &ecs, &table).await;
    world.queue.send_events(&[Ecs::default().start_impaired("checkout")]).await.unwrap();
    outcomes(&other, "posted", 2).await;
    world.queue.send_events(&[Ecs::default().steady_state("checkout")]).await.unwrap();
    outcomes(&other, "posted", 3).await;
    world.nothing_more_is_posted(&other).await;
    let roots = roots(&world);
    assert_eq!(roots.iter().map(|root| color(&root.payload)).collect::<Vec<_>>(), ["danger", "good"]);
    assert!(says(&roots[1].payload, "2 events"), "{}", roots[1].payload);
}

#[tokio::test]
async fn an_incident_is_opened_anew_after_the_configuration_names_another_slack_channel() {
    let world = bot_world("[diagnose]\nenabled = false").await;
    let table = table(&world).await;
    let ecs = EcsApi::start::<PathBuf>(&[]).await.unwrap();
    let mut before = replica(&world, &ecs, &table).await;
    for service in ["checkout", "billing", "search"] {
        world.queue.send_events(&[Ecs::default().start_impaired(service)]).await.unwrap();
        super::eventually("there is a root", || roots(&world).iter().any(|root| says(&root.payload, service))).await;
    }
    world.queue_is_empty().await;
    before.terminate().await.unwrap();
    assert!(before.wait(LIMIT).await.unwrap().success(), "{before}");

    // Somebody archives the channel, and configures another one.
    world.slack.always(CHANNEL, Answer::Status(200, "is_archived"));
    world.slack.script(EDITS, [Answer::Status(200, "is_archived")]);
    let other = "C9876543210";
    let mut environment = with(&world.environment(), &[("INCIDENTS_TABLE", &table)]);
    environment.iter_mut().for_each(|(_, value)| *value = value.replace(CHANNEL, other));
    let after = Worker::spawn(BINARY, environment, &["run"]).unwrap();
    after.wait_ready().await.unwrap();
    // A repeat, news, and a recovery.
    let events = [
        Ecs::default().start_impaired("checkout"),
        Ecs::default().placement_failure("billing"),
        Ecs::default().steady_state("search"),
    ];
    for (number, event) in (1..).zip(events) {
        world.queue.send_events(&[event]).await.unwrap();
        outcomes(&after, "posted", number).await;
    }
    let messages = world.slack.messages(other);
    let said: Vec<(&str, bool)> =
        messages.iter().map(|message| (color(&message.payload), message.thread_ts.is_some())).collect();
    assert_eq!(said, [("danger", false), ("danger", false), ("good", false)], "{messages:?}");
    metric_is(&after, "channel_blocked", &[("channel", "ops")], 0.0).await;
}

#[tokio::test]
async fn alerts_go_out_while_the_table_is_gone_or_slow() {
    for fault in [
        Fault::Error(400, "ResourceNotFoundException"),
        Fault::Error(400, "AccessDeniedException"),
        Fault::Error(400, "ThrottlingException"),
        Fault::Hang,
    ] {
        let world = bot_world("[diagnose]\nenabled = false").await;
        let table = table(&world).await;
        let proxy = FaultyAws::start(&world.aws).await.unwrap();
        let environment = with(&world.environment(), &[("INCIDENTS_TABLE", &table)]).into_iter();
        let worker = Worker::spawn(BINARY, environment.chain(proxy.environment()), &["run"]).unwrap();
        worker.wait_ready().await.unwrap();
        for operation in ["GetItem", "PutItem", "UpdateItem"] {
            proxy.always(operation, fault.clone());
        }
        let events: Vec<Value> = (0..10).map(|_| Ecs::default().start_impaired("checkout")).collect();
        world.queue.send_events(&events).await.unwrap();
        outcomes(&worker, "posted", 10).await;
        world.nothing_more_is_posted(&worker).await;
        let messages = world.slack.messages(CHANNEL);
        let [root] = &messages[..] else { panic!("{fault:?}: {messages:?}") };
        assert!(says(&root.payload, "10 events"), "{fault:?}: {root:?}");
        let warnings = worker.lines().iter().filter(|line| line.text.contains("the incidents table does not")).count();
        assert_eq!(warnings, 1, "{fault:?}: {worker}");
        let failed = worker.metrics().await.unwrap().get("store_requests_total", &[("outcome", "error")]);
        assert!(failed >= Some(1.0), "{fault:?}: {failed:?}");
    }
}
