//! Shows on one machine how ECS events get to Slack: an EventBridge rule, an SQS queue, the worker, and a page that shows the messages as
//! Slack does, with a channel by webhook beside one by bot token. `make demo` builds and starts it.
//!
//! Environment variables: `WORKER`, the program to run; `PORT` of the page; `ONCE=1` to end after the first round, with exit code 0 if both
//! channels got what they should; `VERBOSE=1` to show the worker's log.

#![allow(clippy::disallowed_methods, reason = "pauses between the steps, so that people can watch them")]

mod bad_deploy;

use std::fs::File;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lab::aws::{Aws, DEFAULT_BUS, Queue};
use lab::ecs::EcsApi;
use lab::events::Ecs;
use lab::slack::web_api::{Message, TOKEN};
use lab::slack::{Method, Rate, Request, Slack};
use lab::worker::Worker;
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, interval_at, sleep};

use bad_deploy::{BadDeploy, GOOD, SERVICE, Step};

const LOG: &str = "target/demo-worker.log";
const BETWEEN_EVENTS: Duration = Duration::from_secs(5);
/// Between the steps of the bad deploy, so that people can watch it.
const BETWEEN_STEPS: Duration = Duration::from_secs(4);
/// The longest time for one step.
const LIMIT: Duration = Duration::from_secs(30);

/// The channel that gets alerts by webhook.
const WEBHOOK: &str = "platform-alerts";
/// The id of the channel that gets alerts by bot token.
const CHANNEL: &str = "C0PLATFORM";
const CLUSTER: &str = "production";

/// What happens to an event.
#[derive(Clone, Copy, PartialEq)]
enum Expected {
    Posted,
    FilteredByTheRule,
    Unrouted,
}

type PlannedEvent = (&'static str, fn(Ecs<'static>, &str) -> Value, Expected);

/// The events before the bad deploy. Each is about another service, by whose name the checks find its alert.
const FIRST_ROUND: [PlannedEvent; 7] = [
    ("image-inferrer", Ecs::secret_missing, Expected::Posted),
    ("search-indexer", Ecs::out_of_memory, Expected::Posted),
    ("frontend", Ecs::deployment_begun, Expected::FilteredByTheRule),
    ("payments", Ecs::deployment_failed, Expected::Posted),
    ("thumbnailer", Ecs::ecr_denied, Expected::Posted),
    ("nightly-reports", Ecs::scaled_in, Expected::Unrouted),
    ("accounts", Ecs::rollback, Expected::Posted),
];

/// The events after the bad deploy, which repeat.
const LATER: [PlannedEvent; 8] = [
    ("recommendations", Ecs::image_missing, Expected::Posted),
    ("ledger", Ecs::placement_failure, Expected::Posted),
    ("mailer", Ecs::no_route, Expected::Posted),
    ("geocoder", Ecs::failed_health_check, Expected::Posted),
    ("invoices", Ecs::log_group_missing, Expected::Posted),
    ("catalogue", Ecs::deployment_begun, Expected::FilteredByTheRule),
    ("sessions", Ecs::spot_warning, Expected::Posted),
    ("sandbox", Ecs::stopped_by_user, Expected::Unrouted),
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
    let mut demo = tokio::select! {
        demo = Demo::start() => demo?,
        () = signals.next() => return Ok(()),
    };
    let outcome = tokio::select! {
        outcome = demo.play() => outcome,
        () = signals.next() => Ok(()),
    };
    // If the worker has ended by itself, the outcome says so.
    if demo.worker.terminate().await.is_ok() {
        println!("\nThe worker stops once its long poll has ended, which may take 20 seconds; Ctrl-C ends it at once.");
        tokio::select! {
            ended = demo.worker.wait(Duration::from_secs(30)) => drop(ended?),
            () = signals.next() => {}
        }
    }
    outcome
}

/// Everything that the demo runs. All of it ends when this is dropped.
struct Demo {
    slack: Slack,
    aws: Aws,
    /// Knows `checkout`, and every service that has recovered since.
    ecs: EcsApi,
    bad_deploy: BadDeploy,
    queue: Queue,
    dlq: Queue,
    worker: Worker,
}

impl Demo {
    async fn start() -> Result<Self> {
        let port = std::env::var("PORT").unwrap_or_else(|_| "8008".to_owned());
        let number = port.parse().with_context(|| format!("PORT={port} is not a port"))?;
        let slack = Slack::start_on(number, Some(Rate::SLACK))
            .await
            .with_context(|| format!("port {port} of 127.0.0.1 is not free; choose another with `make demo PORT=…`"))?;
        let aws = Aws::start().await?;
        let bad_deploy = BadDeploy::read()?;
        let ecs = bad_deploy.ecs().await?;
        let (queue, dlq) = aws.queue_with_dlq("ecs-alerts", 10, Duration::from_secs(120)).await?;
        let rule = json!({
            "source": ["aws.ecs"],
            "detail": { "$or": [
                { "eventType": ["WARN", "ERROR"] },
                { "eventName": ["SERVICE_STEADY_STATE", "SERVICE_DEPLOYMENT_COMPLETED"] },
                { "reason": [{ "wildcard": "*rolling back*" }] },
                { "stopCode": [{ "exists": true }] },
            ] },
        });
        aws.create_rule(DEFAULT_BUS, "ecs-alerts", &rule, &queue).await?;
        aws.create_secret("monitoring/slack_webhook", &slack.url(WEBHOOK)).await?;
        aws.create_secret("monitoring/slack_bot_token", TOKEN).await?;

        let program = std::env::var("WORKER").unwrap_or_else(|_| "target/debug/ecs-slack-alerts".to_owned());
        let settings = [("CONFIG_CONTENT", configuration(&queue, &slack))];
        let settings = settings.map(|(name, value)| (name.to_owned(), value));
        let environment = aws.environment().into_iter().chain(ecs.environment()).chain(settings);
        let worker = Worker::spawn(&program, environment, &["run"])?;
        worker.wait_ready().await?;
        println!("Slack page   {}", slack.page());
        println!("metrics      {}", worker.url("/metrics").await?);
        println!("queue        {}\nrule         {rule}", queue.url);
        Ok(Self { slack, aws, ecs, bad_deploy, queue, dlq, worker })
    }

    /// Ends only if `ONCE` is set, or after an error.
    async fn play(&self) -> Result<()> {
        tokio::select! {
            outcome = self.put_events() => outcome,
            error = self.log() => Err(error),
            never = self.announce() => match never {},
        }
    }

    async fn put_events(&self) -> Result<()> {
        let once = is_set("ONCE");
        println!();
        for planned in FIRST_ROUND {
            self.put(planned).await?;
        }
        self.await_empty_queue().await?;
        self.play_bad_deploy(if once { Duration::ZERO } else { BETWEEN_STEPS }).await?;
        self.check_first_round().await?;
        if once {
            return Ok(());
        }
        println!("One more every {} seconds from now on; Ctrl-C ends it.", BETWEEN_EVENTS.as_secs());
        let mut pause = interval_at(Instant::now() + BETWEEN_EVENTS, BETWEEN_EVENTS);
        let mut in_trouble = None;
        for planned in LATER.into_iter().chain(FIRST_ROUND).cycle() {
            pause.tick().await;
            self.put(planned).await?;
            let (service, _, expected) = planned;
            let before = if expected == Expected::Posted { in_trouble.replace(service) } else { in_trouble.take() };
            if let Some(service) = before {
                pause.tick().await;
                self.recover(service).await?;
            }
        }
        Ok(())
    }

    /// Plays the steps of the bad deploy. In reality they are minutes apart, so each step must be finished before the next one.
    async fn play_bad_deploy(&self, pause: Duration) -> Result<()> {
        let ecs = Ecs { cluster: CLUSTER, ..Ecs::default() };
        for step in self.bad_deploy.steps(ecs) {
            self.take(step).await?;
            sleep(pause).await;
        }
        let (answer, recovery) = self.bad_deploy.fix(ecs);
        self.ecs.record(answer);
        self.take(recovery).await
    }

    async fn take(&self, Step { what, events }: Step) -> Result<()> {
        println!("event   {SERVICE}: {what} ({})", events.iter().map(name).collect::<Vec<_>>().join(", "));
        for event in events {
            self.aws.put_past_event(DEFAULT_BUS, &event).await?;
        }
        self.await_empty_queue().await
    }

    async fn put(&self, (service, make, expected): PlannedEvent) -> Result<()> {
        // The answer from the service's last recovery is no longer true.
        self.ecs.forget(service);
        let event = make(Ecs { cluster: CLUSTER, ..Ecs::default() }, service);
        let note = match expected {
            Expected::Posted => "",
            Expected::FilteredByTheRule => "  (no problem: the rule keeps it from the queue)",
            Expected::Unrouted => "  (routine: the rule lets it through, the worker drops it)",
        };
        println!("event   {service}: {}{note}", name(&event));
        self.aws.put_events(DEFAULT_BUS, &[event]).await?;
        Ok(())
    }

    /// Makes the service recover: ECS describes it as healthy, and sends an event.
    async fn recover(&self, service: &str) -> Result<()> {
        let ecs = Ecs { cluster: CLUSTER, ..Ecs::default() };
        let arn = ecs.service_arn(service);
        let cluster = arn.replace(&format!(":service/{CLUSTER}/{service}"), &format!(":cluster/{CLUSTER}"));
        self.ecs.record(json!({ "services": [{
            "serviceArn": arn, "serviceName": service, "clusterArn": cluster, "status": "ACTIVE",
            "desiredCount": 2, "runningCount": 2, "pendingCount": 0, "deployments": [],
        }] }));
        let event = ecs.steady_state(service);
        println!("event   {service}: {}", name(&event));
        self.aws.put_events(DEFAULT_BUS, &[event]).await?;
        Ok(())
    }

    async fn await_empty_queue(&self) -> Result<()> {
        let left = self.queue.wait_for(|counts| counts.total() == 0, LIMIT).await;
        left.with_context(|| format!("the queue is not empty; the worker's log is {LOG}"))?;
        Ok(())
    }

    /// Checks both channels, after the queue is empty.
    async fn check_first_round(&self) -> Result<()> {
        ensure!(self.dlq.counts().await?.total() == 0, "the dead-letter queue is not empty");
        let posts: Vec<Request> =
            self.slack.accepted().into_iter().filter(|request| request.method == Method::Webhook).collect();
        let messages = self.slack.messages(CHANNEL);
        for (service, _, expected) in FIRST_ROUND {
            let by_webhook = posts.iter().any(|post| post.mentions(service));
            let by_bot_token = messages.iter().any(|message| message.mentions(service));
            match expected {
                Expected::Posted if by_webhook && by_bot_token => {}
                Expected::Posted => bail!("no alert for {service} in each channel; the worker's log is {LOG}"),
                _ => ensure!(!by_webhook && !by_bot_token, "an alert for {service}, which no route takes"),
            }
        }

        let posts: Vec<&Request> = posts.iter().filter(|post| post.mentions(SERVICE)).collect();
        ensure!(posts.len() <= 3, "the bad deploy is {} posts by webhook", posts.len());
        ensure!(posts.last().is_some_and(|post| is_green(&post.payload)), "no recovery by webhook");
        let (roots, replies): (Vec<&Message>, Vec<&Message>) = messages
            .iter()
            .filter(|message| message.mentions(SERVICE))
            .partition(|message| message.thread_ts.is_none());
        ensure!(roots.len() == 1, "the bad deploy has {} first messages by bot token", roots.len());
        ensure!(roots.iter().all(|root| is_green(&root.payload)), "its first message by bot token is not green");
        ensure!(roots.iter().all(|root| root.mentions(GOOD)), "its first message does not say that {GOOD} runs");
        ensure!(replies.last().is_some_and(|reply| is_green(&reply.payload)), "no recovery in its thread");
        println!(
            "\nEvery alert has arrived, nothing else was posted, and the queue is empty. The bad deploy is {} posts by \
             webhook; by bot token one message, edited {} times, with {} replies. Both show that it has recovered.\n",
            posts.len(),
            roots.iter().map(|root| root.edits).sum::<usize>(),
            replies.len()
        );
        Ok(())
    }

    /// Prints one line for each answer of Slack.
    async fn announce(&self) -> std::convert::Infallible {
        let mut seen = 0;
        loop {
            // A limit that is never reached.
            let year = Duration::from_secs(365 * 86_400);
            let requests = self.slack.wait_for(|requests| requests.len() > seen, year).await.unwrap_or_default();
            for request in requests.iter().skip(seen).filter(|request| request.method != Method::Auth) {
                let verb = match (request.method, &request.thread_ts) {
                    _ if !request.accepted => "refused",
                    (Method::Edit, _) => "edited ",
                    (_, Some(_)) => "replied",
                    _ => "posted ",
                };
                let said = request.payload["text"].as_str().unwrap_or_default();
                let said =
                    if request.accepted { readable(said) } else { format!("{:?} {}", request.status, request.reply) };
                println!("{verb} #{}: {said}", request.webhook);
            }
            seen = requests.len();
        }
    }

    /// Writes the worker's log to a file, and prints it if `VERBOSE` is set. Returns only if the worker ends, which is an error.
    async fn log(&self) -> anyhow::Error {
        let verbose = is_set("VERBOSE");
        let mut file = File::create(LOG).ok();
        let mut seen = 0;
        loop {
            let lines = self.worker.lines_after(seen).await;
            for line in &lines {
                if verbose {
                    println!("worker  {}", line.text);
                }
                // The demo works without a log file, so an error is ignored.
                let _ = file.as_mut().map(|file| writeln!(file, "{}", line.text));
            }
            if lines.is_empty() {
                return anyhow::anyhow!("the worker has ended; it wrote:\n{}", self.worker);
            }
            seen += lines.len();
        }
    }
}

/// The worker's configuration: every problem goes to both channels.
fn configuration(queue: &Queue, slack: &Slack) -> String {
    format!(
        r#"
account_name = "demo"

[queue]
url = "{}"

[slack]
allowed_hosts = ["127.0.0.1"]
api_url = "{}"

[[channel]]
name = "webhook"
webhook_secret_id = "monitoring/slack_webhook"

[[channel]]
name = "bot"
bot_token_secret_id = "monitoring/slack_bot_token"
channel_id = "{CHANNEL}"

[[route]]
channel = "webhook"
continue = true

[[route]]
channel = "bot"
continue = true
"#,
        queue.url,
        slack.api_url()
    )
}

fn is_set(variable: &str) -> bool {
    std::env::var(variable).is_ok_and(|value| !["", "0"].contains(&value.as_str()))
}

/// The event's name or stop code.
fn name(event: &Value) -> &str {
    let detail = &event["detail"];
    detail["eventName"].as_str().or(detail["stopCode"].as_str()).unwrap_or_default()
}

fn is_green(payload: &Value) -> bool {
    payload["attachments"][0]["color"] == "good"
}

/// The text of the notification, in one line and without Slack's markup for emoji.
fn readable(text: &str) -> String {
    let marks = [
        (":rotating_light:", "🚨"),
        (":warning:", "⚠️"),
        (":information_source:", "ℹ️"),
        (":large_green_circle:", "🟢"),
        ("\n", " · "),
    ];
    let entities = [("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")];
    marks.iter().chain(&entities).fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// The signals that stop the demo.
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
