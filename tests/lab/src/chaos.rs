//! Runs the real program in rounds of random failures. Up to three replicas on one queue are killed, stopped and started again, while Slack,
//! AWS and the incidents table fail in every way that the stand-ins know. Then the failures stop, the queue drains, and `judge` compares
//! what was recorded with what the program promises.
//!
//! `plan` draws everything random from the seed and the round's number, so that a round can be repeated. Only the order of events that
//! happen at the same time cannot be repeated. Put-backs take a tenth of their real time. Each *life* of a replica, which is one process,
//! has its own AWS endpoint and webhook URL, which identify its requests.

mod aws;
mod forwarder;
mod judge;
mod plan;
mod table;
mod tally;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use parking_lot::Mutex;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::slack::{Method, Rate, Slack, web_api};
use crate::sqs::{Queue, Sqs};
use crate::worker::{Line, Worker};
use aws::{ActionKind, ActionLog, Endpoint, QueueAction};
use forwarder::Forwarder;
pub use plan::Size;
use plan::{CHANNELS, Plan, PlannedEnd, When};
use table::Table;
pub use tally::Tally;

/// The `SHUTDOWN_GRACE` of the workers. A long poll takes three seconds less.
const GRACE: Duration = Duration::from_secs(4);

/// How long it may take, after the failures have stopped, until every message is settled. The worker retries Slack and SQS after backoffs
/// of up to a quarter and a half of this time.
const DRAIN_LIMIT: Duration = Duration::from_secs(120);

/// The secret part of all credentials. No log may contain it.
const SECRET_KEY: &str = "a-secret-key";

/// The name of the secret that holds the bot's token.
const BOT_TOKEN: &str = "bot-token";

/// Everything that was recorded in a round.
struct Record {
    plan: Plan,
    actions: Vec<QueueAction>,
    /// Every request to Slack that posts or edits.
    posts: Vec<crate::slack::Request>,
    /// The messages at the end in the channels by bot token, by the channel's index.
    shown: HashMap<usize, Vec<web_api::Message>>,
    lives: Vec<Life>,
    /// The same moment by both clocks. Logs use the second one.
    clocks: (Instant, OffsetDateTime),
    /// When each message was sent.
    sent: Vec<Instant>,
    /// When the forwarder to Slack was closed.
    closed: Vec<Instant>,
    /// The receives that hung: the life, the begin and the end.
    stalls: Vec<(usize, Instant, Instant)>,
    /// The bodies in the dead-letter queue at the end.
    dead: Vec<String>,
    /// The bodies in the queue at the end.
    left: Vec<String>,
}

/// One process of a replica, from its start to its end.
struct Life {
    /// A hundred times the replica's number, plus the number of its earlier lives.
    number: usize,
    lines: Vec<Line>,
    end: End,
    ended: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Killed,
    /// It got SIGTERM, and ended with this exit code after this time.
    Stopped(Option<i32>, Duration),
    /// It ended by itself, with this exit code.
    ByItself(Option<i32>),
}

struct RunningRound {
    binary: PathBuf,
    sqs: Sqs,
    queue: Queue,
    slack: Slack,
    forwarder: Forwarder,
    table: Option<Arc<Table>>,
    stalls: Arc<Mutex<Vec<(usize, Instant, Instant)>>>,
    action_log: ActionLog,
    /// Whether the failures have stopped.
    calm: watch::Sender<bool>,
    /// Whether every message is settled.
    done: watch::Sender<bool>,
    /// How often each fault of AWS and the forwarder happened.
    injected: Arc<Mutex<HashMap<&'static str, u64>>>,
}

/// Plays a round with `binary` as the worker, and checks the promises.
///
/// # Errors
/// All broken promises, with the history of the messages concerned.
pub async fn round(binary: PathBuf, seed: u64, number: u64, size: Size) -> Result<Tally> {
    let plan = Plan::of(seed, number, size);
    let sqs = Sqs::start().await?;
    let (queue, dlq) = sqs.queue_with_dlq("chaos", plan.max_receives);
    let slack = Slack::start_on(0, Some(Rate::SLACK)).await?;
    for (channel, answers) in CHANNELS.iter().zip(&plan.slack) {
        slack.script(channel.address(), answers.iter().cloned());
    }
    slack.script(web_api::EDITS, plan.edits.iter().cloned());
    sqs.put_secret(BOT_TOKEN, web_api::TOKEN);
    let table = if plan.has_table {
        // The future that creates the table is not `Send`, but this one must be.
        let create = || tokio::runtime::Handle::current().block_on(Table::create());
        Some(Arc::new(tokio::task::spawn_blocking(create).await??))
    } else {
        None
    };
    let running = Arc::new(RunningRound {
        binary,
        forwarder: Forwarder::open_to(slack.address()).await?,
        sqs,
        queue,
        slack,
        table,
        stalls: Arc::default(),
        action_log: ActionLog::default(),
        calm: watch::Sender::new(false),
        done: watch::Sender::new(false),
        injected: Arc::default(),
    });
    let (lives, sent, closed) = running.play(&plan).await?;
    let record = Record {
        actions: running.action_log.borrow().clone(),
        posts: running.slack.requests().into_iter().filter(|request| request.method != Method::Auth).collect(),
        shown: (CHANNELS.iter().enumerate())
            .filter_map(|(index, channel)| Some((index, running.slack.messages(channel.id?))))
            .collect(),
        stalls: running.stalls.lock().clone(),
        dead: dlq.bodies(),
        left: running.queue.bodies(),
        plan,
        clocks: (Instant::now(), OffsetDateTime::now_utc()),
        lives,
        sent,
        closed,
    };
    let mut tally = judge::judge(&record)?;
    tally.add_faults(&running.injected.lock());
    Ok(tally)
}

impl RunningRound {
    async fn play(self: &Arc<Self>, plan: &Plan) -> Result<(Vec<Life>, Vec<Instant>, Vec<Instant>)> {
        let mut replicas = JoinSet::new();
        for (index, planned_ends) in plan.replicas.iter().enumerate() {
            let life = Start {
                plan_seed: plan.aws_seed,
                trouble: plan.aws_trouble,
                table_trouble: plan.table_trouble,
                visibility: plan.visibility,
            };
            replicas.spawn(Arc::clone(self).replica((index + 1) * 100, planned_ends.clone(), life));
        }
        let trouble = async {
            // The time begins with the first request to Slack. On a loaded machine the workers may start slowly, and would otherwise miss
            // the failures.
            let _ = self.slack.wait_for(|all| !all.is_empty(), DRAIN_LIMIT).await;
            sleep(plan.trouble).await;
            self.slack.calm();
            self.calm.send_replace(true);
        };
        let ((), sent, closed) = tokio::join!(trouble, self.send(plan), self.close(plan));
        let (sent, closed) = (sent, closed?);
        // If the queue does not drain, the checks report the remaining messages.
        let _ = timeout(DRAIN_LIMIT, self.queue.emptied()).await;
        self.done.send_replace(true);
        let mut lives = Vec::new();
        while let Some(replica) = replicas.join_next().await {
            lives.extend(replica??);
        }
        Ok((lives, sent, closed))
    }

    async fn send(&self, plan: &Plan) -> Vec<Instant> {
        let mut sent = Vec::new();
        let mut messages = plan.messages.iter();
        for (count, pause) in &plan.waves {
            for message in messages.by_ref().take(*count) {
                sent.push(Instant::now());
                self.queue.put(std::iter::repeat_n(message.body.clone(), message.copies));
            }
            sleep(*pause).await;
        }
        sent
    }

    /// Closes the forwarder to Slack a few times, until the failures stop.
    async fn close(&self, plan: &Plan) -> Result<Vec<Instant>> {
        let mut closed = Vec::new();
        for (requests, time) in &plan.closed {
            tokio::select! {
                _ = self.slack.wait_for(|all| all.len() >= *requests, DRAIN_LIMIT) => {}
                () = wait_until_true(&self.calm) => break,
            }
            closed.push(self.forwarder.close());
            *self.injected.lock().entry("Slack refuses connections").or_default() += 1;
            sleep(*time).await;
            self.forwarder.open().await?;
        }
        Ok(closed)
    }

    /// Runs the lives of one replica, one after the other.
    async fn replica(self: Arc<Self>, number: usize, planned_ends: Vec<PlannedEnd>, start: Start) -> Result<Vec<Life>> {
        let mut lives = Vec::new();
        let mut planned_ends = planned_ends.into_iter();
        loop {
            let number = number + lives.len();
            let (mut worker, _endpoint) = self.start(number, start).await?;
            let planned_end = planned_ends.next();
            let due = async {
                match planned_end {
                    Some(planned_end) => tokio::select! {
                        () = self.reach(number, planned_end.when) => {}
                        () = wait_until_true(&self.done) => {}
                    },
                    None => wait_until_true(&self.done).await,
                }
            };
            let by_itself = tokio::select! {
                () = due => None,
                ended = worker.wait(Duration::from_secs(3600)) => Some(ended?),
            };
            let end = match (by_itself, planned_end) {
                (Some(status), _) => End::ByItself(status.code()),
                (None, Some(planned_end)) if planned_end.is_kill && !*self.done.borrow() => {
                    worker.kill().await?;
                    // Its last lines may still be in the pipes.
                    worker.wait(GRACE).await?;
                    End::Killed
                }
                _ => {
                    let begun = Instant::now();
                    worker.terminate().await?;
                    let status = worker.wait(3 * GRACE).await?;
                    End::Stopped(status.code(), begun.elapsed())
                }
            };
            lives.push(Life { number, lines: worker.lines(), end, ended: Instant::now() });
            if *self.done.borrow() || by_itself.is_some() {
                return Ok(lives);
            }
            sleep(planned_end.map_or(Duration::ZERO, |planned_end| planned_end.pause)).await;
        }
    }

    async fn start(&self, life: usize, start: Start) -> Result<(Worker, Endpoint)> {
        let endpoint = Endpoint::open(aws::Setup {
            account: self.sqs.account(),
            action_log: Arc::clone(&self.action_log),
            life,
            seed: start.plan_seed,
            trouble: start.trouble,
            table: self.table.clone(),
            table_trouble: start.table_trouble,
            stalls: Arc::clone(&self.stalls),
            calm: self.calm.subscribe(),
            injected: Arc::clone(&self.injected),
        })
        .await?;
        let mut config = format!(
            "[queue]\nvisibility_timeout = '{}s'\npollers = 2\n[diagnose]\ntimeout = '200ms'\n",
            start.visibility
        );
        config += &format!("[slack]\napi_url = '{}'\n", Slack::api_url_of(&app(life), self.forwarder.address()));
        for channel in CHANNELS {
            let name = channel.name;
            config += &format!("[[channel]]\nname = '{name}'\n");
            if let Some(id) = channel.id {
                config += &format!("bot_token_secret_id = '{BOT_TOKEN}'\nchannel_id = '{id}'\n");
                continue;
            }
            let url = format!("http://{}/services/T00000000/{}/{name}", self.forwarder.address(), app(life));
            let secret = format!("{name}-{life}");
            self.sqs.put_secret(&secret, &url);
            config += &format!("webhook_secret_id = '{secret}'\n");
        }
        let table = self.table.iter().map(|table| ("INCIDENTS_TABLE".to_owned(), table.name.clone()));
        let own = [
            ("CONFIG_CONTENT", "unrouted = 'drop'\n".to_owned() + &config + &plan::routes()),
            ("QUEUE_URL", self.queue.url.clone()),
            ("SLACK_ALLOWED_HOSTS", "127.0.0.1".to_owned()),
            // The log then shows each answer of Slack as the worker understood it.
            ("RUST_LOG", "info,ecs_slack_alerts::slack::channel=debug".to_owned()),
            ("SHUTDOWN_GRACE", format!("{}s", GRACE.as_secs())),
        ];
        let own = own.map(|(name, value)| (name.to_owned(), value));
        let environment = endpoint.environment().into_iter().chain(own).chain(table);
        let worker = Worker::spawn(&self.binary, environment, &["run"])?;
        Ok((worker, endpoint))
    }

    /// Waits until the life has done this.
    async fn reach(&self, life: usize, when: When) {
        let of = |kinds: &[ActionKind], count: usize| {
            let kinds = kinds.to_owned();
            move |actions: &Vec<QueueAction>| {
                actions.iter().filter(|action| action.by == life && kinds.contains(&action.kind)).count() >= count
            }
        };
        let mut action_log = self.action_log.subscribe();
        // The senders live as long as `self`, so the waits do not fail.
        match when {
            When::Received(count) => drop(action_log.wait_for(of(&[ActionKind::Received], count)).await),
            When::Settled(count) => {
                drop(action_log.wait_for(of(&[ActionKind::Deleted, ActionKind::PutBack], count)).await)
            }
            When::Posted(count) => {
                let app = app(life);
                let posted = |posts: &[crate::slack::Request]| posts.iter().filter(|post| post.app == app).count();
                let _ = self.slack.wait_for(|posts| posted(posts) >= count, Duration::from_secs(3600)).await;
            }
        }
    }
}

/// The settings that all lives of a round share.
#[derive(Clone, Copy)]
struct Start {
    plan_seed: u64,
    trouble: u32,
    table_trouble: u32,
    visibility: u64,
}

/// The part of a webhook's URL, and of the Web API's URL, that identifies a life.
fn app(life: usize) -> String {
    format!("B{life:08}")
}

/// Waits until the value is true.
async fn wait_until_true(value: &watch::Sender<bool>) {
    // The sender is borrowed, so the wait does not fail.
    let _ = value.subscribe().wait_for(|value| *value).await;
}
