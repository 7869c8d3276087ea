//! Whatever happens to the log, the worker posts alerts, deletes messages, answers health checks and obeys signals.

use std::{
    fs::File,
    io::Write,
    net::TcpListener,
    process::{Command, Stdio},
    time::Duration,
};

use lab::{
    events::Ecs,
    worker::{Log, Worker},
};
use tokio::net::unix::pipe;

use crate::world::{BINARY, LIMIT, World, metric_is};

/// The `SHUTDOWN_GRACE` of [`World::environment`], and a second more for a slow machine.
const GRACE: Duration = Duration::from_secs(5);

/// A worker that writes a verbose log there, and is ready.
async fn worker(world: &World, log: Log) -> Worker {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut environment = world.environment();
    environment.push(("LISTEN_ADDR".into(), free.to_string()));
    environment.push(("RUST_LOG".into(), "debug".into()));
    let worker = Worker::spawn_logging(BINARY, environment, &["run"], log).unwrap();
    worker.wait_ready().await.unwrap();
    worker
}

async fn dropped(worker: &Worker) -> f64 {
    worker.metrics().await.unwrap().get("log_lines_dropped_total", &[]).unwrap()
}

/// Sends events until the log loses lines, and then some more. Checks that all of them are posted and deleted.
async fn works_without_its_log(world: &World, worker: &Worker) {
    let ecs = Ecs::default();
    let mut services: Vec<String> = Vec::new();
    let mut send = async |count: usize| {
        let names: Vec<String> = (0..count).map(|n| format!("unlogged-{}-x", services.len() + n)).collect();
        let events: Vec<_> = names.iter().map(|name| ecs.start_impaired(name)).collect();
        world.queue.send_events(&events).await.unwrap();
        world.posted(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
        services.extend(names);
        services.len()
    };
    while dropped(worker).await == 0.0 {
        assert!(send(100).await < 5000, "no line was dropped");
    }
    let sent = send(3).await;
    world.queue_is_empty().await;
    // Each message was deleted after its post, so none was received again as a duplicate.
    metric_is(worker, "in_flight_messages", &[], 0.0).await;
    metric_is(worker, "messages_total", &[("outcome", "posted")], sent as f64).await;
    assert_eq!(worker.get("/healthz").await.unwrap(), (200, "ok\n".into()));
}

async fn ends_within_its_grace(mut worker: Worker) {
    worker.terminate().await.unwrap();
    assert_eq!(worker.wait(GRACE).await.unwrap().code(), Some(0), "{worker}");
}

#[tokio::test]
async fn the_reader_of_the_log_goes_away() {
    let world = World::new().await;
    let mut worker = worker(&world, Log::Unread).await;
    worker.close_log();
    works_without_its_log(&world, &worker).await;
    ends_within_its_grace(worker).await;
}

#[tokio::test]
async fn the_disk_that_holds_the_log_is_full() {
    let world = World::new().await;
    let full = File::options().write(true).open("/dev/full").unwrap();
    let worker = worker(&world, Log::To(full.into())).await;
    works_without_its_log(&world, &worker).await;
    ends_within_its_grace(worker).await;
}

#[tokio::test]
async fn the_log_is_not_read() {
    let world = World::new().await;
    let worker = worker(&world, Log::Unread).await;
    works_without_its_log(&world, &worker).await;
    ends_within_its_grace(worker).await;
}

#[tokio::test]
async fn the_log_is_not_read_and_its_pipe_does_not_block() {
    let world = World::new().await;
    let (sender, _unread) = pipe::pipe().unwrap();
    let worker = worker(&world, Log::To(sender.into_nonblocking_fd().unwrap().into())).await;
    works_without_its_log(&world, &worker).await;
    ends_within_its_grace(worker).await;
}

#[tokio::test]
async fn dropped_lines_are_reported_once_when_the_log_is_read_again() {
    let world = World::new().await;
    let mut worker = worker(&world, Log::Unread).await;
    works_without_its_log(&world, &worker).await;
    worker.read_log();
    let is_notice = |line: &lab::worker::Line| line.message().contains("log lines were dropped");
    let notice = worker.wait_for_line(is_notice, LIMIT).await.unwrap();
    assert_eq!(notice.field("level"), "WARN", "{}", notice.text);
    assert!(notice.field("timestamp").is_string(), "{}", notice.text);
    let reported = notice.field("dropped").as_f64().unwrap();
    assert!(notice.message().starts_with(&format!("{reported} log lines")), "{}", notice.text);
    assert_eq!(dropped(&worker).await, reported);
    // From here on the log is complete again, and its end is flushed.
    world.queue.send_events(&[Ecs::default().start_impaired("logged")]).await.unwrap();
    crate::world::outcome_line(&worker, "logged", "posted").await;
    worker.terminate().await.unwrap();
    assert_eq!(worker.wait(GRACE).await.unwrap().code(), Some(0), "{worker}");
    let lines = worker.lines();
    assert_eq!(lines.last().unwrap().message(), "drained");
    assert_eq!(lines.iter().filter(|line| is_notice(line)).count(), 1);
    assert!(lines.iter().all(|line| line.json.is_object()), "no line is torn");
}

#[tokio::test]
async fn a_second_signal_ends_a_worker_whose_log_is_not_read() {
    let world = World::new().await;
    world.slack.always(&world.name, lab::slack::Answer::Hang);
    let mut worker = worker(&world, Log::Unread).await;
    world.queue.send_events(&[Ecs::default().start_impaired("held")]).await.unwrap();
    world.slack.wait_for(|requests| !requests.is_empty(), LIMIT).await.unwrap();
    worker.terminate().await.unwrap();
    lab::eventually("the drain begins", LIMIT, async || Ok(worker.get("/readyz").await?.0 == 503)).await.unwrap();
    worker.terminate().await.unwrap();
    assert_eq!(worker.wait(Duration::from_secs(2)).await.unwrap().code(), Some(1));
}

/// Runs a command that writes to `output`. Returns its exit code, and what it wrote to standard error.
fn run(
    arguments: &[&str],
    environment: &[(&str, &str)],
    input: &str,
    output: impl Into<Stdio>,
) -> (Option<i32>, String) {
    let mut child = Command::new(BINARY)
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(output)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The command may end before it has read everything.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The writing end of a pipe whose reader is gone.
fn closed_pipe() -> Stdio {
    std::io::pipe().unwrap().1.into()
}

#[test]
fn a_command_whose_output_is_closed_ends_quietly() {
    let queue = ("QUEUE_URL", "https://sqs.eu-west-1.amazonaws.com/1/q");
    let environment = [queue, ("SLACK_WEBHOOK_SECRET_ID", "x")];
    assert_eq!(run(&["check"], &environment, "", closed_pipe()), (Some(0), String::new()));
    let events: String = (0..500).map(|_| Ecs::default().image_missing("web").to_string() + "\n").collect();
    assert_eq!(run(&["render"], &[], &events, closed_pipe()), (Some(0), String::new()));
}

#[test]
fn a_reader_that_takes_one_line_gets_it() {
    let (reader, writer) = std::io::pipe().unwrap();
    let head = Command::new("head").arg("-n1").stdin(reader).stdout(Stdio::piped()).spawn().unwrap();
    let events: String = (0..500).map(|_| Ecs::default().image_missing("web").to_string() + "\n").collect();
    assert_eq!(run(&["render"], &[], &events, writer), (Some(0), String::new()));
    let line = head.wait_with_output().unwrap().stdout;
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&line).unwrap()["outcome"], "post");
}

#[test]
fn a_command_that_cannot_write_its_output_fails() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let (code, said) = run(&["render"], &[], &Ecs::default().image_missing("web").to_string(), full);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("cannot write to standard output: No space left on device"), "{said}");
}

#[test]
fn an_invalid_log_level_is_refused() {
    for (level, named) in [("inof", "\"inof\""), ("ecs_slack_alert=debug", "\"ecs_slack_alert\"")] {
        for command in ["run", "render"] {
            let environment =
                [("RUST_LOG", level), ("QUEUE_URL", "http://127.0.0.1:9/1/q"), ("SLACK_WEBHOOK_SECRET_ID", "x")];
            let (code, said) = run(&[command], &environment, "", Stdio::null());
            assert_eq!(code, Some(2), "{command} {level}: {said}");
            for part in ["RUST_LOG", named, "off, error, warn, info or debug"] {
                assert!(said.contains(part), "{command} {level}: {said} lacks {part}");
            }
        }
    }
}
