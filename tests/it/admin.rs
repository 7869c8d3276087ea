//! The port for metrics and health. Anybody in the network may reach it: it answers valid requests, and no client can delay an alert.

use std::{io, time::Duration};

use lab::{events::Ecs, worker::Worker};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};

use crate::world::{BINARY, LIMIT, World};

/// A worker that may open no more than `descriptors`.
async fn worker_with(world: &World, descriptors: u32) -> (Worker, String) {
    let script = format!("ulimit -n {descriptors} && exec \"$0\" run");
    let worker = Worker::spawn("/bin/sh", world.environment(), &["-c", &script, BINARY]).unwrap();
    worker.wait_ready().await.unwrap();
    let address = worker.url("").await.unwrap().replace("http://", "");
    (worker, address)
}

async fn connect(address: &str, first: &str) -> TcpStream {
    let mut client = TcpStream::connect(address).await.unwrap();
    // The server may have closed it already, to make room for another connection.
    let _ = client.write_all(first.as_bytes()).await;
    client
}

/// Everything that arrives until the other end closes the connection.
async fn read_to_end(client: &mut TcpStream) -> io::Result<String> {
    let mut text = Vec::new();
    client.read_to_end(&mut text).await?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// How long it takes until the server closes the connection. What the server sends before is ignored.
async fn closed_after(mut client: TcpStream, limit: Duration) -> Duration {
    let begun = Instant::now();
    let mut sink = [0; 4096];
    let closed = async { while client.read(&mut sink).await.is_ok_and(|read| read > 0) {} };
    timeout(limit, closed).await.expect("the server closes the connection");
    begun.elapsed()
}

#[tokio::test]
async fn more_connections_than_descriptors_delay_no_alert() {
    let world = World::new().await;
    let (worker, address) = worker_with(&world, 256).await;
    let memory = async || worker.metrics().await.unwrap().get("process_resident_memory_bytes", &[]).unwrap();
    let before = memory().await;
    let mut clients = Vec::new();
    for number in 0..600 {
        // Every second one begins a request that never ends.
        let first = if number % 2 == 0 { "" } else { "GET /metrics HTTP/1.1\r\nhost: here\r\nx-slow: " };
        clients.push(connect(&address, first).await);
    }
    world.queue.send_events(&[Ecs::default().start_impaired("unhurt")]).await.unwrap();
    world.posted(&["unhurt"]).await;
    world.queue_is_empty().await;

    // The last client is answered at once. The server has closed the first ones.
    let begun = Instant::now();
    let metrics = worker.metrics().await.unwrap();
    assert_eq!(worker.get("/healthz").await.unwrap().0, 200);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    let descriptors = metrics.get("process_open_fds", &[]).unwrap();
    assert!(descriptors < 80.0, "{descriptors} descriptors");
    let grown = memory().await - before;
    assert!(grown < 8e6, "{grown} bytes more");
    closed_after(clients.remove(0), LIMIT).await;
}

#[tokio::test]
async fn with_few_descriptors_the_worker_uses_them_for_slack_and_not_for_clients() {
    let world = World::new().await;
    let (worker, address) = worker_with(&world, 36).await;
    // To read them, the worker needs a descriptor itself, so the metric may be missing at first.
    let cpu = async || {
        let mut seconds = None;
        let asked = lab::eventually("the processor's seconds are there", LIMIT, async || {
            seconds = worker.metrics().await?.get("process_cpu_seconds_total", &[]);
            Ok(seconds.is_some())
        });
        asked.await.unwrap();
        seconds.unwrap()
    };
    let mut clients = Vec::new();
    for _ in 0..150 {
        clients.push(connect(&address, "").await);
    }
    let cannot = |line: &lab::worker::Line| line.message().contains("cannot be accepted");
    worker.wait_for_line(cannot, LIMIT).await.unwrap();
    world.queue.send_events(&[Ecs::default().start_impaired("unhurt")]).await.unwrap();
    world.posted(&["unhurt"]).await;
    world.queue_is_empty().await;
    let (begun, before) = (Instant::now(), cpu().await);
    lab::for_a_while(Duration::from_secs(1), "processor time is measured").await;
    let busy = cpu().await - before;
    assert!(busy < begun.elapsed().as_secs_f64() / 2.0, "{busy} s of the processor");
    assert!(worker.lines().iter().filter(|line| cannot(line)).count() <= 3, "{worker}");
}

#[tokio::test]
async fn connections_without_a_request_or_a_reader_are_closed() {
    let world = World::new().await;
    let worker = world.worker().await;
    let address = worker.url("").await.unwrap().replace("http://", "");
    let idle = connect(&address, "").await;
    let slow = connect(&address, "GET /metrics HTTP/1.1\r\n").await;
    let kept = connect(&address, "GET /healthz HTTP/1.1\r\nhost: here\r\n\r\n").await;
    // So many answers that they do not fit into the buffers on the way.
    let mut unread = connect(&address, "").await;
    let request = "GET /metrics HTTP/1.1\r\nhost: here\r\n\r\n".repeat(1_000_000);
    let unread = async {
        let begun = Instant::now();
        let written = timeout(LIMIT, unread.write_all(request.as_bytes())).await.expect("it is closed");
        assert!(written.is_err(), "the server cannot read all of it");
        begun.elapsed()
    };
    let few = Duration::from_secs(12);
    let (idle, slow, kept, unread) =
        tokio::join!(closed_after(idle, few), closed_after(slow, few), closed_after(kept, few), unread);
    // The durations show that the timeouts closed them, not an accident.
    for waited in [idle, slow, kept] {
        assert!(waited > Duration::from_secs(3), "{waited:?}");
    }
    assert!(unread > Duration::from_secs(8), "{unread:?}");
}

#[tokio::test]
async fn prometheus_is_answered_and_other_requests_get_an_error_status() {
    let world = World::new().await;
    let worker = world.worker().await;
    let address = worker.url("").await.unwrap().replace("http://", "");
    let ask = async |request: String| {
        let mut client = connect(&address, &request).await;
        timeout(LIMIT, read_to_end(&mut client)).await.unwrap().unwrap()
    };
    // Two scrapes by one connection.
    let scrape = "GET /metrics HTTP/1.1\r\nhost: here\r\naccept: text/plain\r\n";
    let answer = ask(format!("{scrape}\r\n{scrape}connection: close\r\n\r\n")).await;
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{answer}");
    assert_eq!(answer.matches("content-type: text/plain; version=0.0.4; charset=utf-8").count(), 2, "{answer}");
    assert_eq!(answer.matches("# TYPE ecs_slack_alerts_messages_total counter").count(), 2);

    let close = "host: here\r\nconnection: close\r\n";
    for (request, expected) in [
        (format!("HEAD /healthz HTTP/1.1\r\n{close}\r\n"), "HTTP/1.1 200 OK"),
        (format!("GET /healthz?verbose HTTP/1.1\r\n{close}\r\n"), "HTTP/1.1 200 OK"),
        (format!("GET / HTTP/1.1\r\n{close}\r\n"), "HTTP/1.1 404 Not Found"),
        (format!("DELETE /metrics HTTP/1.1\r\n{close}\r\n"), "HTTP/1.1 405 Method Not Allowed"),
        // The server does not wait for a body that never arrives.
        (
            format!("POST /metrics HTTP/1.1\r\n{close}content-length: 999999999\r\n\r\n"),
            "HTTP/1.1 405 Method Not Allowed",
        ),
        (format!("GET /metrics HTTP/1.1\r\n{close}x: {}\r\n\r\n", "x".repeat(9_000)), "HTTP/1.1 431 "),
        (format!("GET /{} HTTP/1.1\r\n{close}\r\n", "x".repeat(9_000)), "HTTP/1.1 4"),
        ("\x16\x03\x01\x02\x00\x01\r\n\r\n".to_owned(), "HTTP/1.1 400 Bad Request"),
    ] {
        let answer = ask(request.clone()).await;
        let shown = &request[..request.len().min(60)];
        assert!(answer.starts_with(expected), "{shown:?}: {answer}");
        assert!(!request.starts_with("HEAD") || answer.ends_with("\r\n\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn health_says_what_is_wrong_with_the_address() {
    let health = async |address: String| {
        let environment = [("LISTEN_ADDR".to_owned(), address)];
        let mut health = Worker::spawn(BINARY, environment, &["health"]).unwrap();
        let code = health.wait(LIMIT).await.unwrap().code();
        let said = health.to_string();
        assert_eq!(code, Some(1), "{said}");
        said
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    // The listener accepts connections and answers nothing.
    let said = health(address.clone()).await;
    assert!(said.contains(&format!("nothing answers on {address} within 3 s")), "{said}");
    let parrot = tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let _ = client.write_all(b"220 mail.example ESMTP\r\n").await;
        }
    });
    let said = health(address.clone()).await;
    assert!(said.contains(&format!("what answers on {address} is not the worker")), "{said}");
    assert!(said.contains("LISTEN_ADDR (server.listen): error sending request"), "{said}");
    parrot.abort();
    let _ = parrot.await;
    let said = health(address.replace("127.0.0.1", "0.0.0.0")).await;
    let check = "check that the worker runs, and with the same LISTEN_ADDR (server.listen)";
    assert!(said.contains(&format!("nothing answers on {address}; {check}: error sending request")), "{said}");
}
