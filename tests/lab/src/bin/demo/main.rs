//! The whole way of an ECS event to Slack, on one machine: EventBridge rule, SQS queue, the worker, and a page that shows what
//! Slack would. `make demo` builds and starts it.
//!
//! Read from the environment: `WORKER`, the program to run; `PORT` of the page; `ONCE=1` to end by itself after the first
//! round, with exit code 0 if all came as it should; `VERBOSE=1` to see the worker's log.

use std::fs::File;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lab::aws::{Aws, DEFAULT_BUS, Queue};
use lab::ecs::EcsApi;
use lab::events::Ecs;
use lab::slack::{Rate, Request, Slack};
use lab::worker::Worker;
use serde_json::{Value, json};
use time::{OffsetDateTime, macros::datetime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::interval;

const LOG: &str = "target/demo-worker.log";
const BETWEEN_EVENTS: Duration = Duration::from_secs(5);

/// What is to become of an event.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Posted,
    FilteredByTheRule,
    Unrouted,
}

type Happening = (&'static str, fn(Ecs<'static>, &str) -> Value, Fate);

/// What happens in the first round; each to a service of its own, by which it is found again.
const FIRST_ROUND: [Happening; 8] = [
    ("checkout", Ecs::start_impaired, Fate::Posted),
    ("image-inferrer", Ecs::secret_missing, Fate::Posted),
    ("search-indexer", Ecs::out_of_memory, Fate::Posted),
    ("frontend", Ecs::steady_state, Fate::FilteredByTheRule),
    ("payments", Ecs::deployment_failed, Fate::Posted),
    ("thumbnailer", Ecs::ecr_denied, Fate::Posted),
    ("nightly-reports", Ecs::scaled_in, Fate::Unrouted),
    ("accounts", Ecs::rollback, Fate::Posted),
];

/// What happens after it, over and over.
const LATER: [Happening; 8] = [
    ("recommendations", Ecs::image_missing, Fate::Posted),
    ("ledger", Ecs::placement_failure, Fate::Posted),
    ("mailer", Ecs::no_route, Fate::Posted),
    ("geocoder", Ecs::failed_health_check, Fate::Posted),
    ("invoices", Ecs::log_group_missing, Fate::Posted),
    ("catalogue", Ecs::deployment_completed, Fate::FilteredByTheRule),
    ("sessions", Ecs::spot_warning, Fate::Posted),
    ("sandbox", Ecs::stopped_by_user, Fate::Unrouted),
];

#[tokio::main]
async fn main() -> ExitCode {
    match demo().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn demo() -> Result<()> {
    let mut signals = Signals::listen()?;
    let mut stage = tokio::select! {
        stage = Stage::set() => stage?,
        () = signals.next() => return Ok(()),
    };
    let outcome = tokio::select! {
        outcome = stage.play() => outcome,
        () = signals.next() => Ok(()),
    };
    // It may have ended by itself, which the outcome tells.
    if stage.worker.terminate().await.is_ok() {
        println!("\nThe worker stops once its long poll has ended, which may take 20 seconds; Ctrl-C ends it at once.");
        tokio::select! {
            ended = stage.worker.wait(Duration::from_secs(30)) => drop(ended?),
            () = signals.next() => {}
        }
    }
    outcome
}

/// What ECS answers about the service `checkout`, whose alert therefore says why. About the others it knows nothing.
const ANSWERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../answers/missing_image");
/// When those were recorded.
const RECORDED: OffsetDateTime = datetime!(2026-03-02 08:19 UTC);

/// Everything that the demo needs. Whatever of it has been started ends when it is dropped.
struct Stage {
    slack: Slack,
    aws: Aws,
    /// It answers until it is dropped.
    _ecs: EcsApi,
    queue: Queue,
    dlq: Queue,
    worker: Worker,
}

impl Stage {
    async fn set() -> Result<Self> {
        let port = std::env::var("PORT").unwrap_or_else(|_| "8008".to_owned());
        let number = port.parse().with_context(|| format!("PORT={port} is not a port"))?;
        let slack = Slack::start_on(number, Some(Rate::SLACK)).await.with_context(|| {
            format!("port {port} of 127.0.0.1 cannot be had; choose another with `make demo PORT=…`")
        })?;
        let aws = Aws::start().await?;
        let ecs = EcsApi::start_later(&[ANSWERS], OffsetDateTime::now_utc() - RECORDED).await?;
        let (queue, dlq) = aws.queue_with_dlq("ecs-alerts", 10, Duration::from_secs(120)).await?;
        let rule = json!({
            "source": ["aws.ecs"],
            "detail": { "$or": [
                { "eventType": ["WARN", "ERROR"] },
                { "reason": [{ "wildcard": "*rolling back*" }] },
                { "stopCode": [{ "exists": true }] },
            ] },
        });
        aws.create_rule(DEFAULT_BUS, "ecs-problems", &rule, &queue).await?;
        let secret = "monitoring/critical_slack_webhook";
        aws.create_secret(secret, &slack.url("platform-alerts")).await?;

        let program = std::env::var("WORKER").unwrap_or_else(|_| "target/debug/ecs-slack-alerts".to_owned());
        let settings = [
            ("QUEUE_URL", queue.url.as_str()),
            ("SLACK_WEBHOOK_SECRET_ID", secret),
            ("SLACK_ALLOWED_HOSTS", "127.0.0.1"),
            ("ACCOUNT_NAME", "demo"),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let environment = aws.environment().into_iter().chain(ecs.environment()).chain(settings);
        let worker = Worker::spawn(&program, environment, &["run"])?;
        worker.wait_ready().await?;
        println!("Slack page   {}", slack.page());
        println!("metrics      {}", worker.url("/metrics").await?);
        println!("queue        {}\nrule         {rule}", queue.url);
        Ok(Self { slack, aws, _ecs: ecs, queue, dlq, worker })
    }

    /// Ends only if `ONCE` is set, or something has gone wrong.
    async fn play(&self) -> Result<()> {
        tokio::select! {
            outcome = self.put_events() => outcome,
            error = self.log() => Err(error),
            never = self.announce() => match never {},
        }
    }

    async fn put_events(&self) -> Result<()> {
        println!();
        let [first, others @ ..] = FIRST_ROUND;
        self.put(first).await?;
        // Alone in its message it is shown with all that ECS says; among others only in a few words.
        let shown = |requests: &[Request]| requests.iter().any(|request| request.accepted);
        self.slack.wait_for(shown, Duration::from_secs(30)).await?;
        for happening in others {
            self.put(happening).await?;
        }
        if std::env::var("ONCE").is_ok_and(|once| !["", "0"].contains(&once.as_str())) {
            return self.check_first_round().await;
        }
        println!("One more every {} seconds from now on; Ctrl-C ends it.", BETWEEN_EVENTS.as_secs());
        let mut pause = interval(BETWEEN_EVENTS);
        for happening in LATER.into_iter().chain(FIRST_ROUND).cycle() {
            pause.tick().await;
            self.put(happening).await?;
        }
        Ok(())
    }

    async fn put(&self, (service, make, fate): Happening) -> Result<()> {
        let ecs = Ecs { cluster: "production", ..Ecs::default() };
        let event = make(ecs, service);
        let detail = &event["detail"];
        let name = detail["eventName"].as_str().or(detail["stopCode"].as_str()).unwrap_or_default();
        let note = match fate {
            Fate::Posted => "",
            Fate::FilteredByTheRule => "  (no problem: the rule keeps it from the queue)",
            Fate::Unrouted => "  (routine: the rule lets it through, the worker drops it)",
        };
        println!("event   {service}: {name}{note}");
        self.aws.put_events(DEFAULT_BUS, &[event]).await?;
        Ok(())
    }

    async fn check_first_round(&self) -> Result<()> {
        let limit = Duration::from_secs(30);
        let posted = |requests: &[Request], service: &str| requests.iter().any(|r| r.accepted && r.mentions(service));
        let expected =
            |fate: Fate| FIRST_ROUND.into_iter().filter(move |(_, _, f)| *f == fate).map(|(service, ..)| service);
        let all = self.slack.wait_for(|requests| expected(Fate::Posted).all(|s| posted(requests, s)), limit).await;
        let Ok(requests) = all else {
            let requests = self.slack.requests();
            let missing = expected(Fate::Posted).filter(|service| !posted(&requests, service)).collect::<Vec<_>>();
            bail!("no alert within {limit:?} for: {}; the worker's log is {LOG}", missing.join(", "));
        };
        let left = self.queue.wait_for(|counts| counts.total() == 0, limit).await;
        left.context("the queue is not empty although every alert is posted")?;
        ensure!(self.dlq.counts().await?.total() == 0, "the dead-letter queue is not empty");
        let too_many = expected(Fate::FilteredByTheRule).chain(expected(Fate::Unrouted));
        let too_many = too_many.filter(|service| posted(&requests, service)).collect::<Vec<_>>();
        ensure!(too_many.is_empty(), "an alert that nobody wants for: {}", too_many.join(", "));
        println!("\nEvery alert has arrived, nothing else was posted, and the queue is empty.");
        Ok(())
    }

    /// One line for each answer of Slack.
    async fn announce(&self) -> std::convert::Infallible {
        let mut seen = 0;
        loop {
            // Nobody waits longer than a year.
            let year = Duration::from_secs(365 * 86_400);
            let requests = self.slack.wait_for(|requests| requests.len() > seen, year).await.unwrap_or_default();
            for request in requests.iter().skip(seen) {
                match (request.accepted, request.payload["text"].as_str()) {
                    (true, text) => println!("posted  {}", readable(text.unwrap_or_default())),
                    (false, _) => println!("refused {:?} {}", request.status, request.reply),
                }
            }
            seen = requests.len();
        }
    }

    /// Writes the worker's log to a file, or shows it. Ends when the worker has ended, which it should not.
    async fn log(&self) -> anyhow::Error {
        let verbose = std::env::var("VERBOSE").is_ok_and(|verbose| !["", "0"].contains(&verbose.as_str()));
        let mut file = File::create(LOG).ok();
        let mut seen = 0;
        loop {
            let lines = self.worker.lines_after(seen).await;
            for line in &lines {
                if verbose {
                    println!("worker  {}", line.text);
                }
                // Without a log file the demo is still worth seeing.
                let _ = file.as_mut().map(|file| writeln!(file, "{}", line.text));
            }
            if lines.is_empty() {
                return anyhow::anyhow!("the worker has ended; its last words:\n{}", self.worker);
            }
            seen += lines.len();
        }
    }
}

/// What the notification on a phone would say, in one line.
fn readable(text: &str) -> String {
    let marks = [(":rotating_light:", "🚨"), (":warning:", "⚠️"), (":information_source:", "ℹ️"), ("\n", " · ")];
    let entities = [("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")];
    marks.iter().chain(&entities).fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// What asks the demo to stop.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
