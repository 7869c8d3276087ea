//! Runs the real program in rounds of random failures. Up to three replicas on one queue are killed, stopped and started again, while Slack,
//! AWS and the incidents table fail in every way that the stand-ins know. Then the failures stop, the queue drains, and [`judge`] compares
//! what was recorded with what the program promises.
//!
//! [`plan`] draws everything random from the seed and the round's number, so that a round can be repeated. Only the order of events that
//! happen at the same time cannot be repeated. Put-backs take a tenth of their real time. Each *life* of a replica, which is one process,
//! has its own AWS endpoint and webhook URL, which identify its requests.

mod aws;
mod door;
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
use aws::{Deed, Front, Ledger, What};
use door::Door;
pub use plan::Size;
use plan::{Blow, CHANNELS, Plan, When};
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
    deeds: Vec<Deed>,
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

struct Stage {
    binary: PathBuf,
    sqs: Sqs,
    queue: Queue,
    slack: Slack,
    door: Door,
    table: Option<Arc<Table>>,
    stalls: Arc<Mutex<Vec<(usize, Instant, Instant)>>>,
    ledger: Ledger,
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
    let stage = Arc::new(Stage {
        binary,
        door: Door::open_to(slack.address()).await?,
        sqs,
        queue,
        slack,
        table,
        stalls: Arc::default(),
        ledger: Ledger::default(),
        calm: watch::Sender::new(false),
        done: watch::Sender::new(false),
        injected: Arc::default(),
    });
    let (lives, sent, closed) = stage.play(&plan).await?;
    let record = Record {
        deeds: stage.ledger.borrow().clone(),
        posts: stage.slack.requests().into_iter().filter(|request| request.method != Method::Auth).collect(),
        shown: (CHANNELS.iter().enumerate())
            .filter_map(|(index, channel)| Some((index, stage.slack.messages(channel.id?))))
            .collect(),
        stalls: stage.stalls.lock().clone(),
        dead: dlq.bodies(),
        left: stage.queue.bodies(),
        plan,
        clocks: (Instant::now(), OffsetDateTime::now_utc()),
        lives,
        sent,
        closed,
    };
    let mut tally = judge::judge(&record)?;
    tally.add_faults(&stage.injected.lock());
    Ok(tally)
}

impl Stage {
    async fn play(self: &Arc<Self>, plan: &Plan) -> Result<(Vec<Life>, Vec<Instant>, Vec<Instant>)> {
        let mut replicas = JoinSet::new();
        for (index, blows) in plan.replicas.iter().enumerate() {
            let life = Start {
                plan_seed: plan.aws_seed,
                trouble: plan.aws_trouble,
                table_trouble: plan.table_trouble,
                visibility: plan.visibility,
            };
            replicas.spawn(Arc::clone(self).replica((index + 1) * 100, blows.clone(), life));
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
                () = is(&self.calm) => break,
            }
            closed.push(self.door.close());
            *self.injected.lock().entry("Slack refuses connections").or_default() += 1;
            sleep(*time).await;
            self.door.open().await?;
        }
        Ok(closed)
    }

    /// Runs the lives of one replica, one after the other.
    async fn replica(self: Arc<Self>, number: usize, blows: Vec<Blow>, start: Start) -> Result<Vec<Life>> {
        let mut lives = Vec::new();
        let mut blows = blows.into_iter();
        loop {
            let number = number + lives.len();
            let (mut worker, _front) = self.start(number, start).await?;
            let blow = blows.next();
            let due = async {
                match blow {
                    Some(blow) => tokio::select! {
                        () = self.comes(number, blow.when) => {}
                        () = is(&self.done) => {}
                    },
                    None => is(&self.done).await,
                }
            };
            let by_itself = tokio::select! {
                () = due => None,
                ended = worker.wait(Duration::from_secs(3600)) => Some(ended?),
            };
            let end = match (by_itself, blow) {
                (Some(status), _) => End::ByItself(status.code()),
                (None, Some(blow)) if blow.is_kill && !*self.done.borrow() => {
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
            sleep(blow.map_or(Duration::ZERO, |blow| blow.pause)).await;
        }
    }

    async fn start(&self, life: usize, start: Start) -> Result<(Worker, Front)> {
        let front = Front::open(aws::Setup {
            account: self.sqs.account(),
            ledger: Arc::clone(&self.ledger),
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
        config += &format!("[slack]\napi_url = '{}'\n", Slack::api_url_of(&app(life), self.door.address()));
        for channel in CHANNELS {
            let name = channel.name;
            config += &format!("[[channel]]\nname = '{name}'\n");
            if let Some(id) = channel.id {
                config += &format!("bot_token_secret_id = '{BOT_TOKEN}'\nchannel_id = '{id}'\n");
                continue;
            }
            let url = format!("http://{}/services/T00000000/{}/{name}", self.door.address(), app(life));
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
        let environment = front.environment().into_iter().chain(own).chain(table);
        let worker = Worker::spawn(&self.binary, environment, &["run"])?;
        Ok((worker, front))
    }

    /// Waits until the life has done this.
    async fn comes(&self, life: usize, when: When) {
        let of = |what: &[What], count: usize| {
            let what = what.to_owned();
            move |deeds: &Vec<Deed>| {
                deeds.iter().filter(|deed| deed.by == life && what.contains(&deed.what)).count() >= count
            }
        };
        let mut ledger = self.ledger.subscribe();
        // The senders live as long as `self`, so the waits do not fail.
        match when {
            When::Received(count) => drop(ledger.wait_for(of(&[What::Received], count)).await),
            When::Settled(count) => drop(ledger.wait_for(of(&[What::Deleted, What::PutBack], count)).await),
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
async fn is(what: &watch::Sender<bool>) {
    // The sender is borrowed, so the wait does not fail.
    let _ = what.subscribe().wait_for(|is| *is).await;
}
