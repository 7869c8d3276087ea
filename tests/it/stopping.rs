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
    lab::eventually("readyz reports the drain", LIMIT, async || Ok(worker.get("/readyz").await?.0 == 503))
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
    // A full batch wakes the second poller. Then the proxy holds the receive of one poller, and the other waits on an empty queue.
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
    // One of the two open receives returns these messages. If the worker gave them back at once, the other would receive them again.
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
        // Kills it in the middle of the work: right after a post, before all its messages are deleted.
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

/// Waits until the process handles these signals. The kernel shows them as a mask, in which signal 1 is the lowest bit.
async fn handles_signals(worker: &Worker, signals: &[u32]) {
    let status = format!("/proc/{}/status", worker.id().unwrap());
    lab::eventually("it handles signals", LIMIT, async || {
        let status = std::fs::read_to_string(&status)?;
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or_default();
        let mask = u64::from_str_radix(mask.trim(), 16)?;
        Ok(signals.iter().all(|signal| mask & (1 << (signal - 1)) != 0))
    })
    .await
    .unwrap();
}

const HUP: u32 = 1;
const INT: u32 = 2;
const QUIT: u32 = 3;
const TERM: u32 = 15;

#[tokio::test]
async fn every_signal_that_asks_for_an_end_begins_a_drain() {
    for signal in ["HUP", "QUIT", "INT", "TERM"] {
        let world = World::new().await;
        world.slack.script(&world.name, [Answer::Late(Duration::from_secs(1))]);
        let mut worker = world.worker().await;
        storm(&world, 1).await;
        world.slack.wait_for(|requests| !requests.is_empty(), LIMIT).await.unwrap();
        worker.signal(signal).await.unwrap();
        assert_eq!(worker.wait(LIMIT).await.unwrap().code(), Some(0), "SIG{signal}: {worker}");
        assert_eq!(world.queue.counts().await.unwrap().total(), 0, "SIG{signal}: the work in progress is finished");
    }
}

#[tokio::test]
async fn a_signal_before_the_configuration_is_read_ends_cleanly() {
    let name = lab::unique("fifo");
    let file = std::env::temp_dir().join(name);
    assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
    for signal in ["TERM", "HUP", "QUIT", "INT"] {
        // The worker waits for a writer of the FIFO, and there is none.
        let environment = [("CONFIG_FILE".to_owned(), file.display().to_string())];
        let mut worker = Worker::spawn(BINARY, environment, &["run"]).unwrap();
        handles_signals(&worker, &[HUP, INT, QUIT, TERM]).await;
        worker.signal(signal).await.unwrap();
        assert_eq!(worker.wait(LIMIT).await.unwrap().code(), Some(0), "SIG{signal}: {worker}");
    }
    std::fs::remove_file(file).unwrap();
}

#[tokio::test]
async fn a_signal_before_aws_answers_ends_cleanly() {
    let world = World::new().await;
    let proxy = FaultyAws::start(&world.aws).await.unwrap();
    proxy.always("GetQueueAttributes", Fault::Hang);
    let mut environment = world.environment();
    environment.extend(proxy.environment());
    let mut worker = Worker::spawn(BINARY, environment, &["run"]).unwrap();
    proxy.wait_for(|calls| calls.iter().any(|call| call.operation == "GetQueueAttributes"), LIMIT).await.unwrap();
    worker.terminate().await.unwrap();
    assert_eq!(worker.wait(Duration::from_secs(5)).await.unwrap().code(), Some(0), "{worker}");
}

#[tokio::test]
async fn a_command_ends_at_once_on_a_signal_even_while_it_reads() {
    let file = std::env::temp_dir().join(lab::unique("fifo"));
    assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
    let mut worker = Worker::spawn(BINARY, [], &["render", &file.display().to_string()]).unwrap();
    handles_signals(&worker, &[TERM]).await;
    worker.terminate().await.unwrap();
    assert_eq!(worker.wait(Duration::from_secs(5)).await.unwrap().code(), Some(128 + 15), "{worker}");
    std::fs::remove_file(file).unwrap();
}

#[tokio::test]
async fn a_closed_terminal_does_not_shorten_a_drain_and_nohup_is_respected() {
    let world = World::new().await;
    world.slack.always(&world.name, Answer::Late(Duration::from_secs(1)));
    let mut worker = world.worker().await;
    storm(&world, 1).await;
    world.slack.wait_for(|requests| !requests.is_empty(), LIMIT).await.unwrap();
    worker.terminate().await.unwrap();
    worker.wait_for_line(|line| line.message().starts_with("stopping"), LIMIT).await.unwrap();
    worker.signal("HUP").await.unwrap();
    assert_eq!(worker.wait(LIMIT).await.unwrap().code(), Some(0), "{worker}");

    let mut worker = Worker::spawn("/usr/bin/env", world.environment(), &["nohup", BINARY, "run"]).unwrap();
    worker.wait_ready().await.unwrap();
    worker.signal("HUP").await.unwrap();
    storm(&world, 1).await;
    world.slack.wait_for(|requests| requests.len() == 2, LIMIT).await.unwrap();
    worker.terminate().await.unwrap();
    assert_eq!(worker.wait(LIMIT).await.unwrap().code(), Some(0), "{worker}");
}
