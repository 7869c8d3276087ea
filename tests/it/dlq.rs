//! The dead-letter queue: listed without consuming it, and moved back.

use std::{sync::Arc, time::Duration};

use lab::{
    aws::Queue,
    events::Ecs,
    fault::{Call, Fault, FaultyAws},
    unique,
    worker::{Line, Worker},
};
use tokio::sync::Semaphore;

use crate::world::{BINARY, LIMIT, World, with};

/// Starts the command; through `proxy` if there is one.
fn start(world: &World, proxy: Option<&FaultyAws>, arguments: &[&str]) -> Worker {
    let mut environment = world.environment();
    environment.extend(proxy.into_iter().flat_map(FaultyAws::environment));
    Worker::spawn(BINARY, environment, arguments).unwrap()
}

/// Waits for the end of the command. Returns its exit code and everything it wrote.
async fn end(mut command: Worker) -> (i32, String) {
    let status = command.wait(LIMIT).await.unwrap();
    (status.code().unwrap(), command.lines().into_iter().map(|line| line.text + "\n").collect())
}

async fn run(world: &World, arguments: &[&str]) -> (i32, String) {
    end(start(world, None, arguments)).await
}

/// How often each message of the dead-letter queue was received. All of them must be visible.
async fn received(world: &World) -> Vec<u64> {
    let messages = world.dlq.messages().await.unwrap();
    assert!(messages.iter().all(|message| message.visible), "{messages:?}");
    messages.into_iter().map(|message| message.receive_count).collect()
}

async fn dead(world: &World, count: usize) {
    let bodies: Vec<_> = (0..count).map(|i| Ecs::default().start_impaired(&format!("svc-{i}"))).collect();
    world.dlq.send_events(&bodies).await.unwrap();
}

/// Whether there are exactly `count` requests of this operation.
fn asked(calls: &[Call], operation: &str, count: usize) -> bool {
    calls.iter().filter(|call| call.operation == operation).count() == count
}

/// Whether the line reports that at least one message was moved.
fn has_moved(line: &Line) -> bool {
    line.text.ends_with(" of about 60 moved") && !line.text.starts_with("0 ")
}

#[tokio::test]
async fn list_groups_the_messages_oldest_first_and_consumes_none() {
    let world = World::new().await;
    let ecs = Ecs::default();
    world.dlq.send_events(&vec![ecs.start_impaired("api"); 12]).await.unwrap();
    world.dlq.send(&["{\"password\": hunter2".to_owned()]).await.unwrap();
    world.dlq.send_events(&[ecs.steady_state("web")]).await.unwrap();
    world.dlq.send(&["[\"hunter2\"]".to_owned()]).await.unwrap();
    let attributes = [
        ("ERROR_CODE", "NO_PERMISSIONS"),
        ("ERROR_MESSAGE", "Access is denied\u{1b}[2J."),
        ("RULE_ARN", "arn:aws:events:eu-west-1:123456789012:rule/ecs-problems"),
    ];
    world.dlq.send_with(&ecs.image_missing("search").to_string(), &attributes).await.unwrap();
    world.dlq.send_events(&[ecs.start_impaired("red\u{1b}[31m")]).await.unwrap();

    let (code, said) = run(&world, &["dlq", "list"]).await;
    assert_eq!(code, 0, "{said}");
    let lines: Vec<&str> = said.lines().collect();
    let expected: [(&str, &str, &str, &str); 6] = [
        (" 12  ", "SERVICE_TASK_START_IMPAIRED", "/api ", "not posted within 10 receives"),
        ("  1  ", "-", "-", "undecodable: the body is not JSON"),
        ("  1  ", "SERVICE_STEADY_STATE", "/web ", "not posted within 10 receives; no route takes it now"),
        ("  1  ", "-", "-", "undecodable: the body is JSON, but not an object"),
        ("  1  ", "TASK_FAILED_TO_START", "/search ", "NO_PERMISSIONS for rule ecs-problems (Access is denied"),
        ("  1  ", "SERVICE_TASK_START_IMPAIRED", "/red", "not posted within 10 receives"),
    ];
    assert!(lines[0].starts_with("OLDEST"), "{said}");
    for (line, (count, kind, service, why)) in lines[1..].iter().zip(expected) {
        for part in [count, kind, service, why] {
            assert!(line.contains(part), "{line:?} lacks {part:?} in:\n{said}");
        }
    }
    assert_eq!(lines[7], format!("17 messages in 6 groups, in {}", world.dlq.arn), "{said}");
    assert_eq!(lines.len(), 8, "{said}");
    assert!(!said.contains("hunter2") && !said.contains('\u{1b}'), "{said:?}");
    assert_eq!(received(&world).await, [1; 17], "received once each, and visible again");
}

#[tokio::test]
async fn for_a_message_with_several_events_list_names_the_first_one_that_a_route_takes() {
    let world = World::new().await;
    let ecs = Ecs::default();
    let events = [ecs.steady_state("calm"), ecs.start_impaired("api"), ecs.image_missing("web")];
    let records = events.map(|event| serde_json::json!({ "messageId": "m", "body": event.to_string() }));
    world.dlq.send(&[serde_json::json!({ "Records": records }).to_string()]).await.unwrap();
    let (code, said) = run(&world, &["dlq", "list"]).await;
    assert_eq!(code, 0, "{said}");
    let expected = "/api  not posted within 10 receives; with 2 other events in the same message\n";
    assert!(said.contains(expected), "{said}");
}

#[tokio::test]
async fn list_stops_at_its_limit_and_says_what_it_left_out() {
    let world = World::new().await;
    dead(&world, 7).await;
    let (code, said) = run(&world, &["dlq", "list", "--limit", "3"]).await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("3 messages in 3 groups; about 4 more were not looked at (--limit 3)"), "{said}");
    assert_eq!(received(&world).await, [1, 1, 1, 0, 0, 0, 0]);
}

#[tokio::test]
async fn list_gives_everything_back_when_sqs_fails_midway() {
    let world = World::new().await;
    dead(&world, 15).await;
    let proxy = FaultyAws::start(&world.aws).await.unwrap();
    proxy.script("ReceiveMessage", [Fault::None, Fault::Error(500, "InternalFailure")]);
    let (code, said) = end(start(&world, Some(&proxy), &["dlq", "list"])).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("10 messages in 10 groups; about 5 more were not looked at"), "{said}");
    assert!(said.contains("ReceiveMessage: AWS server error"), "{said}");
    assert_eq!(received(&world).await.len(), 15);
}

#[tokio::test]
async fn list_gives_everything_back_on_ctrl_c() {
    let world = World::new().await;
    dead(&world, 25).await;
    let proxy = FaultyAws::start(&world.aws).await.unwrap();
    let permits = Arc::new(Semaphore::new(0));
    proxy.script("ReceiveMessage", [Fault::None, Fault::Held(permits.clone())]);
    let list = start(&world, Some(&proxy), &["dlq", "list"]);
    proxy.wait_for(|calls| asked(calls, "ReceiveMessage", 2), LIMIT).await.unwrap();
    list.interrupt().await.unwrap();
    list.wait_for_line(|line| line.message().starts_with("stopping"), LIMIT).await.unwrap();
    permits.add_permits(1);
    let (code, said) = end(list).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("20 messages in 20 groups; about 5 more were not looked at (interrupted)"), "{said}");
    assert_eq!(received(&world).await.len(), 25);
}

#[tokio::test]
async fn redrive_moves_everything_back_and_the_worker_posts_it() {
    let world = World::new().await;
    dead(&world, 12).await;
    let proxy = FaultyAws::start(&world.aws).await.unwrap();
    let (code, said) = end(start(&world, Some(&proxy), &["dlq", "redrive"])).await;
    assert_eq!(code, 0, "{said}");
    assert!(said.starts_with("moving about 12 messages\n"), "{said}");
    assert!(said.contains(&format!("  from {}\n  to   {}\n", world.dlq.arn, world.queue.arn)), "{said}");
    assert!(said.ends_with("12 of about 12 moved\ndone: 12 of about 12 moved\n"), "{said}");
    assert_eq!(world.dlq.counts().await.unwrap().total(), 0);

    let _worker = world.worker().await;
    let services: Vec<_> = (0..12).map(|i| format!("svc-{i}")).collect();
    world.posted(&services.iter().map(String::as_str).collect::<Vec<_>>()).await;
    world.queue_is_empty().await;
}

#[tokio::test]
async fn redrive_keeps_to_its_rate_and_shows_how_far_it_is() {
    let world = World::new().await;
    dead(&world, 3).await;
    let proxy = FaultyAws::start(&world.aws).await.unwrap();
    let began = std::time::Instant::now();
    let (code, said) = end(start(&world, Some(&proxy), &["dlq", "redrive", "--max-rate", "2"])).await;
    assert_eq!(code, 0, "{said}");
    assert!(began.elapsed() >= Duration::from_secs(1), "three messages at two a second: {:?}", began.elapsed());
    assert!(said.contains("at most 2 a second"), "{said}");
    let progress: Vec<&str> = said.lines().filter(|line| line.ends_with(" of about 3 moved")).collect();
    assert!(progress.len() >= 2, "progress is shown before the end: {said}");
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_moved_and_moves_nothing() {
    let world = World::new().await;
    let proxy = FaultyAws::start(&world.aws).await.unwrap();
    let (code, said) = end(start(&world, Some(&proxy), &["dlq", "redrive"])).await;
    assert_eq!((code, said), (0, format!("{} is empty; there is nothing to move\n", world.dlq.arn)));

    dead(&world, 2).await;
    let (code, said) = end(start(&world, Some(&proxy), &["dlq", "redrive", "--dry-run"])).await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("would move about 2 messages") && said.contains("nothing was moved"), "{said}");
    assert!(proxy.calls("StartMessageMoveTask").is_empty());
    assert_eq!(received(&world).await, [0, 0]);
}

#[tokio::test]
async fn a_second_redrive_reports_the_first() {
    let world = World::new().await;
    dead(&world, 60).await;
    let proxy = FaultyAws::start(&world.aws).await.unwrap();
    let first = start(&world, Some(&proxy), &["dlq", "redrive", "--max-rate", "1"]);
    first.wait_for_line(|line| line.text.ends_with("of about 60 moved"), LIMIT).await.unwrap();
    let (code, said) = end(start(&world, Some(&proxy), &["dlq", "redrive"])).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("a move is running already, since "), "{said}");
    assert!(said.contains(&world.queue.arn) && said.contains(" of about 60 moved"), "{said}");
    assert_eq!(proxy.calls("StartMessageMoveTask").len(), 1, "only the first one has started a move");
}

#[tokio::test]
async fn the_later_of_two_redrives_at_once_reports_the_first() {
    let world = World::new().await;
    dead(&world, 60).await;
    let proxy = FaultyAws::start(&world.aws).await.unwrap();
    let permits = Arc::new(Semaphore::new(0));
    proxy.script("StartMessageMoveTask", [Fault::Held(permits.clone())]);
    let later = start(&world, Some(&proxy), &["dlq", "redrive"]);
    proxy.wait_for(|calls| asked(calls, "StartMessageMoveTask", 1), LIMIT).await.unwrap();
    let first = start(&world, Some(&proxy), &["dlq", "redrive", "--max-rate", "1"]);
    first.wait_for_line(|line| line.text.ends_with("of about 60 moved"), LIMIT).await.unwrap();
    permits.add_permits(1);
    let (code, said) = end(later).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("a move is running already, since "), "{said}");
}

#[tokio::test]
async fn ctrl_c_cancels_the_move_and_the_rest_stays() {
    let world = World::new().await;
    dead(&world, 60).await;
    let proxy = FaultyAws::start(&world.aws).await.unwrap();
    let redrive = start(&world, Some(&proxy), &["dlq", "redrive", "--max-rate", "1"]);
    redrive.wait_for_line(has_moved, LIMIT).await.unwrap();
    redrive.interrupt().await.unwrap();
    let (code, said) = end(redrive).await;
    assert_eq!(code, 1, "{said}");
    let moved = world.queue.counts().await.unwrap().total();
    assert!((1..60).contains(&moved), "{moved} were moved");
    assert_eq!(received(&world).await.len() as u32, 60 - moved);
    assert!(said.contains(&format!("cancelled: {moved} of about 60 moved; the rest is still in")), "{said}");
}

#[tokio::test]
async fn a_move_that_fails_says_why() {
    let world = World::new().await;
    dead(&world, 60).await;
    let proxy = FaultyAws::start(&world.aws).await.unwrap();
    let redrive = start(&world, Some(&proxy), &["dlq", "redrive", "--max-rate", "1"]);
    redrive.wait_for_line(has_moved, LIMIT).await.unwrap();
    world.queue.delete().await.unwrap();
    let (code, said) = end(redrive).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("the move failed: AWS.SimpleQueueService.NonExistentQueue: "), "{said}");
}

#[tokio::test]
async fn a_missing_queue_or_permission_is_bad_configuration() {
    let world = World::new().await;
    dead(&world, 1).await;
    // The dead-letter queue itself has no dead-letter queue.
    let mut environment = world.environment();
    environment.push(("QUEUE_URL".into(), world.dlq.url.clone()));
    for command in [&["dlq", "list"], &["dlq", "redrive"]] {
        let (code, said) = end(Worker::spawn(BINARY, environment.clone(), command).unwrap()).await;
        assert_eq!(code, 2, "{said}");
        assert!(said.contains(&format!("{} has no dead-letter queue", world.dlq.url)), "{said}");
    }

    for (denied, action, command) in [
        ("ReceiveMessage", "sqs:ReceiveMessage", "list"),
        ("ChangeMessageVisibilityBatch", "sqs:ChangeMessageVisibility)", "list"),
        ("ListMessageMoveTasks", "sqs:ListMessageMoveTasks", "redrive"),
        ("StartMessageMoveTask", "sqs:StartMessageMoveTask", "redrive"),
    ] {
        let proxy = FaultyAws::start(&world.aws).await.unwrap();
        proxy.always(denied, Fault::Error(400, "AccessDeniedException"));
        let (code, said) = end(start(&world, Some(&proxy), &["dlq", command])).await;
        assert_eq!(code, 2, "{denied}: {said}");
        assert!(said.contains(action) && said.contains("access denied"), "{said} lacks {action}");
    }

    for arguments in [["redrive", "--max-rate", "0"], ["redrive", "--max-rate", "501"], ["list", "--limit", "0"]] {
        let (code, said) = run(&world, &[&["dlq"], &arguments[..]].concat()).await;
        assert_eq!(code, 2, "{said}");
        assert!(said.contains(arguments[1]), "{said}");
    }
}

/// A queue with `count` events that EventBridge could not deliver, which is not the dead-letter queue of another queue. Also returns an
/// environment that names it.
async fn undelivered(world: &World, count: usize) -> (Queue, Vec<(String, String)>) {
    let (queue, _) = world.aws.queue_with_dlq(&unique("undelivered"), 1000, Duration::from_secs(30)).await.unwrap();
    let attributes = [("ERROR_CODE", "NO_PERMISSIONS"), ("RULE_ARN", "arn:aws:events:eu-west-1:123456789012:rule/ecs")];
    for number in 0..count {
        let body = Ecs::default().start_impaired(&format!("svc-{number}")).to_string();
        queue.send_with(&body, &attributes).await.unwrap();
    }
    let environment = with(&world.environment(), &[("UNDELIVERED_QUEUE_URL", &queue.url)]);
    (queue, environment)
}

const FROM_UNDELIVERED: [&str; 4] = ["dlq", "redrive", "--from", "undelivered"];

async fn redrive_undelivered(environment: Vec<(String, String)>, more: &[&str]) -> (i32, String) {
    end(Worker::spawn(BINARY, environment, &[&FROM_UNDELIVERED[..], more].concat()).unwrap()).await
}

#[tokio::test]
async fn undelivered_events_are_listed_and_moved_and_the_worker_posts_them() {
    let world = World::new().await;
    let (queue, environment) = undelivered(&world, 23).await;
    let list = Worker::spawn(BINARY, environment.clone(), &["dlq", "list", "--from", "undelivered"]).unwrap();
    let (code, said) = end(list).await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("EventBridge could not deliver it: NO_PERMISSIONS for rule ecs"), "{said}");
    assert!(said.contains(&format!("23 messages in 23 groups, in {}", queue.arn)), "{said}");

    let (code, said) = redrive_undelivered(environment.clone(), &["--dry-run"]).await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("would move about 23 messages") && said.contains("nothing was moved"), "{said}");
    assert_eq!(queue.counts().await.unwrap().visible, 23);

    let (code, said) = redrive_undelivered(environment.clone(), &[]).await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains(&format!("  from {}\n  to   {}\n", queue.arn, world.queue.arn)), "{said}");
    assert!(said.ends_with("23 of about 23 moved\ndone: 23 of about 23 moved\n"), "{said}");
    assert_eq!(queue.counts().await.unwrap().total(), 0);
    let (code, said) = redrive_undelivered(environment, &[]).await;
    assert_eq!((code, said), (0, format!("{} is empty; there is nothing to move\n", queue.arn)));

    let _worker = world.worker().await;
    let services: Vec<_> = (0..23).map(|i| format!("svc-{i}")).collect();
    world.posted(&services.iter().map(String::as_str).collect::<Vec<_>>()).await;
    world.queue_is_empty().await;
}

#[tokio::test]
async fn a_message_that_the_queue_does_not_accept_stays_where_it_was() {
    let world = World::new().await;
    let (queue, environment) = undelivered(&world, 12).await;
    let proxy = FaultyAws::start(&world.aws).await.unwrap();
    let through = with(&environment, &[]).into_iter().chain(proxy.environment()).collect::<Vec<_>>();
    proxy.script("SendMessageBatch", [Fault::Error(500, "InternalFailure"), Fault::FirstEntryFails]);
    let (code, said) = redrive_undelivered(through.clone(), &[]).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("11 of about 12 moved; 1 message could not be sent, still in"), "{said}");
    let left = queue.messages().await.unwrap();
    assert_eq!(left.len(), 1);
    assert!(left[0].visible, "given back");
    let (code, said) = redrive_undelivered(environment, &[]).await;
    assert_eq!(code, 0, "{said}");
    assert_eq!(world.queue.counts().await.unwrap().total(), 12);
}

#[tokio::test]
async fn ctrl_c_leaves_the_rest_and_a_rate_is_kept() {
    let world = World::new().await;
    let (queue, environment) = undelivered(&world, 40).await;
    let arguments = [&FROM_UNDELIVERED[..], &["--max-rate", "5"]].concat();
    let redrive = Worker::spawn(BINARY, environment, &arguments).unwrap();
    let begun = std::time::Instant::now();
    let some = |line: &Line| line.text.ends_with(" of about 40 moved") && !line.text.starts_with("5 ");
    redrive.wait_for_line(some, LIMIT).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(900), "ten at five a second: {:?}", begun.elapsed());
    redrive.interrupt().await.unwrap();
    let (code, said) = end(redrive).await;
    assert_eq!(code, 1, "{said}");
    let moved = world.queue.counts().await.unwrap().total();
    assert!((1..40).contains(&moved), "{moved} were moved");
    assert!(
        said.contains(&format!("stopped: {moved} of about 40 moved; the rest is still in {}", queue.arn)),
        "{said}"
    );
    let left = queue.messages().await.unwrap();
    assert_eq!(left.len() as u32, 40 - moved);
    assert!(left.iter().all(|message| message.visible), "none is hidden");
}

#[tokio::test]
async fn a_message_is_deleted_only_after_the_queue_has_it() {
    let world = World::new().await;
    let (queue, environment) = undelivered(&world, 3).await;
    let proxy = FaultyAws::start(&world.aws).await.unwrap();
    let through = environment.iter().cloned().chain(proxy.environment()).collect::<Vec<_>>();
    let permits = Arc::new(Semaphore::new(0));
    proxy.script("SendMessageBatch", [Fault::Held(permits)]);
    let mut redrive = Worker::spawn(BINARY, through.clone(), &FROM_UNDELIVERED).unwrap();
    proxy.wait_for(|calls| asked(calls, "SendMessageBatch", 1), LIMIT).await.unwrap();
    redrive.kill().await.unwrap();
    assert!(proxy.calls("DeleteMessageBatch").is_empty());
    assert_eq!(queue.counts().await.unwrap().total(), 3, "killed before the queue had them");

    // Messages that were sent and cannot be deleted: the command says so and stops.
    let (queue, environment) = undelivered(&world, 3).await;
    let through = environment.into_iter().chain(proxy.environment()).collect::<Vec<_>>();
    proxy.always("DeleteMessageBatch", Fault::Error(400, "AccessDeniedException"));
    let (code, said) = redrive_undelivered(through, &[]).await;
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("3 of them could not be deleted") && said.contains("sqs:DeleteMessage"), "{said}");
    assert_eq!(queue.counts().await.unwrap().total(), 3);
}

#[tokio::test]
async fn the_undelivered_queue_must_be_named_and_usable() {
    let world = World::new().await;
    let (queue, environment) = undelivered(&world, 1).await;
    let plain = world.environment();
    let (code, said) = redrive_undelivered(plain.clone(), &[]).await;
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("UNDELIVERED_QUEUE_URL") && said.contains("--queue-url"), "{said}");
    let (code, said) = redrive_undelivered(plain.clone(), &["--queue-url", &world.queue.url]).await;
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("is the queue itself"), "{said}");
    let (code, said) = redrive_undelivered(with(&plain, &[("UNDELIVERED_QUEUE_URL", "undelivered")]), &[]).await;
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("UNDELIVERED_QUEUE_URL: \"undelivered\" is not a queue's URL"), "{said}");
    let wrong = ["dlq", "list", "--queue-url", queue.url.as_str()];
    let (code, said) = end(Worker::spawn(BINARY, plain, &wrong).unwrap()).await;
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("--from undelivered"), "{said}");
    for (denied, action, by) in [
        ("ReceiveMessage", "sqs:ReceiveMessage", &queue.url),
        ("SendMessageBatch", "sqs:SendMessage", &world.queue.arn),
    ] {
        let proxy = FaultyAws::start(&world.aws).await.unwrap();
        proxy.always(denied, Fault::Error(400, "AccessDeniedException"));
        let through = environment.iter().cloned().chain(proxy.environment()).collect::<Vec<_>>();
        let (code, said) = redrive_undelivered(through, &[]).await;
        assert_eq!(code, 2, "{denied}: {said}");
        assert!(said.contains(action) && said.contains(by.as_str()), "{said} lacks {action} on {by}");
        assert_eq!(queue.messages().await.unwrap().iter().filter(|message| message.visible).count(), 1);
    }
}
