//! What every test needs: a queue with its dead-letter queue, a stand-in for Slack, and the worker between them.

use std::time::Duration;

use lab::{
    aws::{Aws, Queue},
    fault::FaultyAws,
    slack::{Rate, Slack},
    unique,
    worker::Worker,
};
use serde_json::Value;

/// Long enough for a loaded machine. Only a test that fails waits this long.
pub const LIMIT: Duration = Duration::from_secs(30);

pub const BINARY: &str = env!("CARGO_BIN_EXE_ecs-slack-alerts");

pub struct World {
    pub aws: Aws,
    pub queue: Queue,
    pub dlq: Queue,
    pub slack: Slack,
    /// The name of the queue, and of the one webhook and its secret.
    pub name: String,
    config: String,
}

impl World {
    /// A queue that moves messages to its dead-letter queue after ten receives, and a Slack without a rate limit.
    pub async fn new() -> Self {
        Self::with(10, None).await
    }

    pub async fn with(max_receive_count: u32, rate: Option<Rate>) -> Self {
        let aws = Aws::shared().await.unwrap();
        let name = unique("it");
        let visibility = Duration::from_secs(30);
        let (queue, dlq) = aws.queue_with_dlq(&name, max_receive_count, visibility).await.unwrap();
        let slack = Slack::start_on(0, rate).await.unwrap();
        aws.create_secret(&name, &slack.url(&name)).await.unwrap();
        Self { aws, queue, dlq, slack, name, config: String::new() }
    }

    /// Sets the text of the configuration file. The environment sets the rest.
    pub fn config(mut self, toml: &str) -> Self {
        self.config = toml.to_owned();
        self
    }

    pub fn environment(&self) -> Vec<(String, String)> {
        let mut environment = self.aws.environment();
        // Short drains and long polls keep the tests short.
        let own = [
            ("QUEUE_URL", self.queue.url.as_str()),
            ("SLACK_ALLOWED_HOSTS", "127.0.0.1"),
            ("SHUTDOWN_GRACE", "4s"),
            ("CONFIG_CONTENT", &self.config),
        ];
        environment.extend(own.map(|(name, value)| (name.to_owned(), value.to_owned())));
        if !self.config.contains("[[channel]]") {
            environment.push(("SLACK_WEBHOOK_SECRET_ID".into(), self.name.clone()));
        }
        environment
    }

    /// A worker that has started.
    pub async fn worker(&self) -> Worker {
        let worker = Worker::spawn(BINARY, self.environment(), &["run"]).unwrap();
        worker.wait_ready().await.unwrap();
        worker
    }

    /// A worker that reaches AWS through `proxy`.
    pub async fn worker_through(&self, proxy: &FaultyAws) -> Worker {
        let mut environment = self.environment();
        environment.extend(proxy.environment());
        let worker = Worker::spawn(BINARY, environment, &["run"]).unwrap();
        worker.wait_ready().await.unwrap();
        worker
    }

    /// Waits until each of these texts was seen in an accepted post.
    pub async fn posted(&self, texts: &[&str]) {
        self.posted_within(texts, LIMIT).await;
    }

    pub async fn posted_within(&self, texts: &[&str], limit: Duration) {
        let wanted = |requests: &[lab::slack::Request]| {
            texts.iter().all(|text| requests.iter().any(|request| request.accepted && request.mentions(text)))
        };
        self.slack.wait_for(wanted, limit).await.unwrap();
    }

    /// Waits until the queue holds nothing, visible or hidden.
    pub async fn queue_is_empty(&self) {
        self.queue.wait_for(|counts| counts.total() == 0, LIMIT).await.unwrap();
    }

    /// Waits until the messages that were sent so far can cause no further post: the queue holds none, visible, in flight or delayed, and
    /// then the worker holds none.
    pub async fn nothing_more_is_posted(&self, worker: &Worker) {
        self.queue_is_empty().await;
        metric_is(worker, "in_flight_messages", &[], 0.0).await;
    }

    /// How many accepted posts mention the text.
    pub fn posts_mentioning(&self, text: &str) -> usize {
        self.slack.accepted().iter().filter(|request| request.mentions(text)).count()
    }
}

/// An environment with some variables changed.
pub fn with(environment: &[(String, String)], more: &[(&str, &str)]) -> Vec<(String, String)> {
    let more = more.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    environment.iter().cloned().chain(more).collect()
}

/// Runs a command to its end. Returns its exit code and what it wrote.
pub async fn outcome(environment: Vec<(String, String)>, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Worker::spawn(BINARY, environment, arguments).unwrap();
    let status = command.wait(LIMIT).await.unwrap();
    (status.code(), command.lines().into_iter().map(|line| line.text + "\n").collect())
}

/// The log line with the outcome of the message about this service.
pub async fn outcome_line(worker: &Worker, service: &str, outcome: &str) -> Value {
    let is_it = |line: &lab::worker::Line| {
        line.field("outcome").as_str() == Some(outcome) && line.field("service").as_str() == Some(service)
    };
    worker.wait_for_line(is_it, LIMIT).await.unwrap().json
}

/// Waits until the worker's counter has this value.
pub async fn metric_is(worker: &Worker, name: &str, labels: &[(&str, &str)], value: f64) {
    let mut last = None;
    let asked = lab::eventually("the metric is as wanted", LIMIT, async || {
        last = worker.metrics().await?.get(name, labels);
        Ok(last == Some(value))
    });
    if let Err(error) = asked.await {
        panic!("{name}{labels:?} is {last:?}, not {value}: {error:#}\n{worker}");
    }
}
