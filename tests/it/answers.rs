//! Answers that do not come from Slack or are broken: a proxy's page, an endless body, a dead connection. Only Slack's own success deletes a
//! message, and the worker never reads a body without a limit.

use std::time::{Duration, Instant};

use lab::{
    events::Ecs,
    slack::{Answer, Request},
};

use crate::world::{LIMIT, World, metric_is, outcome_line};

const DEFAULT: [(&str, &str); 1] = [("channel", "default")];

#[tokio::test]
async fn a_200_that_is_not_slacks_loses_no_alert() {
    let world = World::new().await;
    let pages: [Answer; 5] = [
        Answer::Status(200, "<html><title>Sign in, s3same</title>ok</html>"),
        Answer::Status(200, ""),
        Answer::Status(204, ""),
        Answer::Status(200, r#"{"ok":false,"error":"internal_error"}"#),
        // "ok", compressed, which the worker did not ask for.
        Answer::Raw(
            b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\nconnection: close\r\ncontent-length: 22\r\n\r\n\
              \x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xcb\xcf\x06\x00\x47\xdd\xdc\x79\x02\x00\x00\x00",
        ),
    ];
    let worker = world.worker().await;
    for (number, page) in pages.into_iter().enumerate() {
        let service = format!("kept-{number}");
        let seen = worker.lines().len();
        world.slack.always(&world.name, page.clone());
        world.queue.send_events(&[Ecs::default().start_impaired(&service)]).await.unwrap();
        let tried = |requests: &[Request]| requests.iter().filter(|request| request.mentions(&service)).count();
        world.slack.wait_for(|requests| tried(requests) >= 2, LIMIT).await.unwrap();
        metric_is(&worker, "channel_blocked", &DEFAULT, 1.0).await;
        assert_eq!(world.queue.counts().await.unwrap().total(), 1, "{page:?}: it is not deleted");
        let expected = match page {
            Answer::Status(_, body) if body.starts_with('{') => "answered 200 OK (internal_error)",
            Answer::Status(204, _) => "answered 204 No Content, but not as Slack does: is a proxy in the way?",
            _ => "answered 200 OK, but not as Slack does: is a proxy in the way?",
        };
        let lines = worker.lines().split_off(seen);
        assert!(lines.iter().any(|line| line.message().contains(expected)), "{page:?}: {worker}");
        world.slack.calm();
        world.posted(&[&service]).await;
        world.nothing_more_is_posted(&worker).await;
    }
    assert!(!format!("{worker}").contains("s3same"), "{worker}");
    assert_eq!(world.slack.accepted().len(), 5);
    let failed = [DEFAULT[0], ("outcome", "server_error")];
    assert!(worker.metrics().await.unwrap().get("slack_requests_total", &failed) >= Some(10.0));
}

#[tokio::test]
async fn ok_true_as_json_is_a_success() {
    let world = World::new().await;
    let body = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: 27\r\n\r\n{\"ok\":true, \"ts\":\"1.2\"}    ";
    world.slack.always(&world.name, Answer::Raw(body.as_bytes()));
    let worker = world.worker().await;
    world.queue.send_events(&[Ecs::default().start_impaired("taken")]).await.unwrap();
    outcome_line(&worker, "taken", "posted").await;
    world.nothing_more_is_posted(&worker).await;
    assert_eq!(world.slack.requests().len(), 1);
}

#[tokio::test]
async fn an_answer_without_end_costs_neither_memory_nor_time() {
    let world = World::new().await;
    let worker = world.worker().await;
    let resident = async || worker.metrics().await.unwrap().get("process_resident_memory_bytes", &[]).unwrap();
    let before = resident().await;
    // After the 404, the worker reads the webhook's secret again; its body does not matter. The others are retried after a second or two.
    world.slack.script(&world.name, [200, 404, 500].map(Answer::Endless));
    let begun = Instant::now();
    world.queue.send_events(&[Ecs::default().start_impaired("bounded")]).await.unwrap();
    world.posted(&["bounded"]).await;
    world.nothing_more_is_posted(&worker).await;
    assert_eq!(world.slack.requests().len(), 4);
    // Three timeouts would take thirty seconds.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let grown = resident().await - before;
    assert!(grown < 16e6, "{grown} bytes more");
    for said in ["answered 200 OK, but not as Slack does", "404 Not Found", "answered 500 Internal Server Error"] {
        worker.wait_for_line(|line| line.message().contains(said), LIMIT).await.unwrap();
    }
}

#[tokio::test]
async fn an_answer_that_stalls_is_given_up_in_time_and_its_retry_after_is_kept() {
    let world = World::new().await.config("[queue]\nvisibility_timeout = '10s'");
    let worker = world.worker().await;
    // A request may take a fifth of the visibility timeout.
    let stalled = |answer: &'static [u8]| world.slack.script(&world.name, [Answer::Raw(answer)]);
    stalled(b"HTTP/1.1 200 OK\r\ncontent-length: 200\r\n\r\nok");
    world.queue.send_events(&[Ecs::default().start_impaired("stalled")]).await.unwrap();
    world.posted(&["stalled"]).await;
    let said =
        worker.wait_for_line(|line| line.message().contains("but the answer is incomplete"), LIMIT).await.unwrap();
    assert!(said.message().contains("200 OK"), "{}", said.text);

    stalled(b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 3600\r\ncontent-length: 200\r\n\r\nnot yet");
    world.queue.send_events(&[Ecs::default().start_impaired("limited")]).await.unwrap();
    // The worker waits at most five minutes of the hour.
    let said = worker.wait_for_line(|line| line.message().contains("rate limited for 3600 s"), LIMIT).await.unwrap();
    assert!(said.message().contains("trying again in 300."), "{}", said.text);
}

#[tokio::test]
async fn a_dead_connection_in_the_pool_delays_the_next_alert_only_a_little() {
    let world = World::new().await;
    let worker = world.worker().await;
    let ecs = Ecs::default();
    world.queue.send_events(&[ecs.start_impaired("first")]).await.unwrap();
    world.posted(&["first"]).await;
    world.queue_is_empty().await;

    // Slack closes the connection properly: the next post opens another one at once.
    world.slack.close_connections();
    world.queue.send_events(&[ecs.start_impaired("second")]).await.unwrap();
    world.posted(&["second"]).await;
    world.queue_is_empty().await;

    // A NAT drops the connection without a reset: its packets are never acknowledged.
    world.slack.forget_connections();
    let begun = Instant::now();
    world.queue.send_events(&[ecs.start_impaired("third")]).await.unwrap();
    world.posted(&["third"]).await;
    let took = begun.elapsed();
    world.nothing_more_is_posted(&worker).await;
    assert!(took < Duration::from_secs(6), "{took:?}");

    let connections: Vec<u64> = world.slack.requests().iter().map(|request| request.connection).collect();
    assert_eq!(connections, [1, 2, 3], "each alert is posted once");
    let metrics = worker.metrics().await.unwrap();
    let trouble = metrics.get("slack_requests_total", &[DEFAULT[0], ("outcome", "network_error")]);
    assert_eq!(trouble, Some(0.0), "{worker}");
}
