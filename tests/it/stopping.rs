//! Deploys and crashes: nothing is lost, and after a clean stop nothing stays hidden.

use std::{collections::HashSet, sync::Arc, time::Duration};

use lab::{
    events::Ecs,
    fault::{Call, Fault, FaultyAws},
    slack::{Answer, Rate, Request},
    worker::Worker,
};
use tokio::sync::Semaphore;

use crate::world::{BINARY, LIMIT, World};

/// The services named in accepted posts.
fn named(requests: &[Request], names: &[String]) -> HashSet<String> {
    let named = |name: &&String| requests.iter().any(|request| request.accepted && request.mentions(name));
    names.iter().filter(named).cloned().collect()
}

async fn storm(world: &World, services: usize) -> Vec<String> {
    let names: Vec<String> = (0..services).map(|i| format!("svc-{i:04}-x")).collect();
    let ecs = Ecs::default();
    world.queue.send_events(&names.iter().map(|name| ecs.start_impaired(name)).collect::<Vec<_>>()).await.unwrap();
    names
}

#[tokio::test]
async fn sigterm_in_a_storm_finishes_or_gives_back_everything() {
    let world = World::with(10, Some(Rate::SLACK)).await;
    let names = storm(&world, 400).await;
    let mut worker = world.worker().await;
    world.slack.wait_for(|requests| requests.iter().any(|request| request.accepted), LIMIT).await.unwrap();
    worker.terminate().await.unwrap();
    let status = worker.wait(LIMIT).await.unwrap();
    assert_eq!(status.code(), Some(0), "{worker}");

    let counts = world.queue.counts().await.unwrap();
    assert_eq!(counts.in_flight, 0, "after a clean stop nothing is hidden: {counts:?}");
    let posted = named(&world.slack.requests(), &names);
    let left: Vec<String> = world.queue.messages().await.unwrap().into_iter().map(|message| message.body).collect();
    for name in &names {
        let waits = left.iter().any(|body| body.contains(name));
        assert!(posted.contains(name) != waits, "{name}: posted {}, in the queue {waits}", posted.contains(name));
    }
}

#[tokio::test]
async fn a_drain_during_an_outage_gives_everything_back() {
    let world = World::new().await;
    world.slack.always(&world.name, Answer::Hang);
    storm(&world, 30).await;
    let mut worker = world.worker().await;
    world.slack.wait_for(|requests| !requests.is_empty(), LIMIT).await.unwrap();
    worker.terminate().await.unwrap();
    lab::eventually("readyz tells of the drain", LIMIT, async || Ok(worker.get("/readyz").await?.0 == 503))
        .await
        .unwrap();
    assert_eq!(worker.wait(LIMIT).await.unwrap().code(), Some(0), "{worker}");
    let counts = world.queue.counts().await.unwrap();
    assert_eq!((counts.visible, counts.in_flight), (30, 0));
}

#[tokio::test]
async fn a_drain_does_not_receive_what_it_gives_back() {
    let world = World::new().await.config("[queue]\npollers = 2");
    world.slack.always(&world.name, Answer::Hang);
    let proxy = FaultyAws::start(&world.aws).await.unwrap();
    let held = Arc::new(Semaphore::new(0));
    // A full batch wakes the second poller; then one receive is held on its way, and the other, on an empty queue, waits.
    proxy.script("ReceiveMessage", [Fault::None, Fault::Held(Arc::clone(&held))]);
    let names = storm(&world, 20).await;
    let mut environment = world.environment();
    environment.extend(proxy.environment());
    environment.push(("SHUTDOWN_GRACE".into(), "8s".into()));
    let mut worker = Worker::spawn(BINARY, environment, &["run"]).unwrap();
    let both_wait = |calls: &[Call]| calls.iter().filter(|call| call.operation == "ReceiveMessage").count() == 4;
    proxy.wait_for(both_wait, LIMIT).await.unwrap();
    worker.terminate().await.unwrap();
    worker.wait_for_line(|line| line.message().starts_with("stopping"), LIMIT).await.unwrap();
    // What comes now is for one of the two receives to bring; given back at once, it would come to the other.
    held.add_permits(1);
    storm(&world, 5).await;
    assert_eq!(worker.wait(LIMIT).await.unwrap().code(), Some(0), "{worker}");
    let stored = world.queue.messages().await.unwrap();
    assert_eq!(stored.len(), names.len() + 5);
    let counts: Vec<u64> = stored.iter().map(|message| message.receive_count).collect();
    assert!(counts.iter().all(|count| *count <= 1) && stored.iter().all(|message| message.visible), "{counts:?}");
}

#[tokio::test]
async fn a_drain_does_not_wait_for_a_receive_that_hangs() {
    let world = World::new().await;
    world.slack.always(&world.name, Answer::Hang);
    let proxy = FaultyAws::start(&world.aws).await.unwrap();
    proxy.script("ReceiveMessage", [Fault::None, Fault::Hang]);
    storm(&world, 3).await;
    let mut worker = world.worker_through(&proxy).await;
    let hangs = |calls: &[Call]| calls.iter().filter(|call| call.operation == "ReceiveMessage").count() == 2;
    proxy.wait_for(hangs, LIMIT).await.unwrap();
    worker.terminate().await.unwrap();
    assert_eq!(worker.wait(LIMIT).await.unwrap().code(), Some(0), "{worker}");
    let counts = world.queue.counts().await.unwrap();
    assert_eq!((counts.visible, counts.in_flight), (3, 0));
}

#[tokio::test]
async fn a_drain_does_not_wait_for_a_webhook_that_cannot_be_looked_up() {
    let world = World::new().await;
    let proxy = FaultyAws::start(&world.aws).await.unwrap();
    let mut worker = world.worker_through(&proxy).await;
    world.slack.always(&world.name, Answer::Status(403, "invalid_token"));
    proxy.always("GetSecretValue", Fault::Hang);
    storm(&world, 3).await;
    let asked = |calls: &[Call]| calls.iter().filter(|call| call.operation == "GetSecretValue").count() >= 2;
    proxy.wait_for(asked, LIMIT).await.unwrap();
    worker.terminate().await.unwrap();
    assert_eq!(worker.wait(LIMIT).await.unwrap().code(), Some(0), "{worker}");
    let counts = world.queue.counts().await.unwrap();
    assert_eq!((counts.visible, counts.in_flight), (3, 0));
}

#[tokio::test]
async fn sigkill_in_a_storm_loses_nothing() {
    let world = World::with(10, Some(Rate::SLACK)).await.config("[queue]\nvisibility_timeout = '6s'");
    let names = storm(&world, 300).await;
    for kill in 1..=3 {
        let mut worker = world.worker().await;
        let accepted = world.slack.accepted().len();
        // Somewhere in the middle: right after a post, with deletes still to be made.
        let _ =
            world.slack.wait_for(|r| r.iter().filter(|r| r.accepted).count() > accepted, Duration::from_secs(9)).await;
        worker.kill().await.unwrap();
        assert!(worker.wait(LIMIT).await.unwrap().code().is_none(), "kill {kill}");
    }
    let _worker = world.worker().await;
    let all = |requests: &[Request]| named(requests, &names).len() == names.len();
    world.slack.wait_for(all, LIMIT).await.unwrap();
    world.queue_is_empty().await;
    assert_eq!(world.dlq.counts().await.unwrap().total(), 0);
}

#[tokio::test]
async fn sigterm_while_idle_ends_with_the_long_poll() {
    let world = World::new().await;
    let mut worker = world.worker().await;
    worker.terminate().await.unwrap();
    assert_eq!(worker.wait(Duration::from_secs(6)).await.unwrap().code(), Some(0), "{worker}");
}

#[tokio::test]
async fn a_second_signal_stops_at_once() {
    let world = World::new().await;
    let mut environment = world.environment();
    environment.push(("SHUTDOWN_GRACE".into(), "60s".into()));
    let mut worker = Worker::spawn(BINARY, environment, &["run"]).unwrap();
    worker.wait_ready().await.unwrap();
    worker.terminate().await.unwrap();
    let stopping = |line: &lab::worker::Line| line.message().starts_with("stopping");
    worker.wait_for_line(stopping, LIMIT).await.unwrap();
    worker.terminate().await.unwrap();
    assert_eq!(worker.wait(Duration::from_secs(5)).await.unwrap().code(), Some(1), "{worker}");
}
