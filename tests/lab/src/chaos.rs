//! Chaos: the real program in rounds of trouble. Up to three replicas on one queue are killed, stopped and started again, while
//! Slack, AWS and the table of incidents fail in every way they have; then all is well, the queue drains, and `judge` holds
//! what was recorded against what is promised.
//!
//! Everything left to chance is drawn from the seed and the round's number (`plan`), so that either can be repeated; only how
//! the machine orders things that happen at once cannot. Put-backs pass ten times as fast as they do, and every life of a
//! replica has an AWS endpoint and a webhook URL of its own, which distinguish its requests from the others'.

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

/// The drain's, which bounds how long a receive waits too: three seconds less.
const GRACE: Duration = Duration::from_secs(4);

/// How long it may take, once all is well, until everything is settled: Slack and SQS are tried again after back-offs of up to
/// a quarter and half of it.
const DRAIN_LIMIT: Duration = Duration::from_secs(120);

/// Part of every credential that is given out; in no log.
const SECRET_KEY: &str = "a-secret-key";

/// The name of the secret that holds the bot's token.
const BOT_TOKEN: &str = "bot-token";

/// Everything recorded in a round.
struct Record {
    plan: Plan,
    deeds: Vec<Deed>,
    /// Every request to Slack to post or to edit.
    posts: Vec<crate::slack::Request>,
    /// What channels that a bot posts to show at the end, by their index.
    shown: HashMap<usize, Vec<web_api::Message>>,
    lives: Vec<Life>,
    /// One instant by both clocks: logs use the other one.
    clocks: (Instant, OffsetDateTime),
    /// When each message was sent first.
    sent: Vec<Instant>,
    /// When the way to Slack was closed.
    closed: Vec<Instant>,
    /// When receives of whom hung, from when until when.
    stalls: Vec<(usize, Instant, Instant)>,
    /// What the dead-letter queue holds at the end.
    dead: Vec<String>,
    /// What the queue holds at the end.
    left: Vec<String>,
}

/// One process, from start to end.
struct Life {
    /// Which replica, and which of its lives.
    number: usize,
    lines: Vec<Line>,
    end: End,
    ended: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Killed,
    /// By SIGTERM, with this exit code, after so long.
    Stopped(Option<i32>, Duration),
    /// By itself, with this exit code.
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
    calm: watch::Sender<bool>,
    /// Everything is settled.
    done: watch::Sender<bool>,
    injected: Arc<Mutex<HashMap<&'static str, u64>>>,
}

/// Plays a round with `binary` as the worker, and judges it.
///
/// # Errors
/// Whatever broke, with everything that happened to the messages concerned.
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
        // What waits for the emulator cannot go from thread to thread, as this may.
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
            // Its time runs from the first request to Slack: before, a worker on a loaded machine may be starting still, and
            // would begin when all is well.
            let _ = self.slack.wait_for(|all| !all.is_empty(), DRAIN_LIMIT).await;
            sleep(plan.trouble).await;
            self.slack.calm();
            self.calm.send_replace(true);
        };
        let ((), sent, closed) = tokio::join!(trouble, self.send(plan), self.close(plan));
        let (sent, closed) = (sent, closed?);
        // If it does not drain, the verdict says what is left.
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

    /// Keeps everybody from Slack now and then, while the trouble lasts.
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

    /// The lives of one replica, one after the other.
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
                    // Its last words may still be in the pipes.
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
            // Every answer of Slack's, as it was understood.
            ("RUST_LOG", "info,ecs_slack_alerts::slack::channel=debug".to_owned()),
            ("SHUTDOWN_GRACE", format!("{}s", GRACE.as_secs())),
        ];
        let own = own.map(|(name, value)| (name.to_owned(), value));
        let environment = front.environment().into_iter().chain(own).chain(table);
        let worker = Worker::spawn(&self.binary, environment, &["run"])?;
        Ok((worker, front))
    }

    async fn comes(&self, life: usize, when: When) {
        let of = |what: &[What], count: usize| {
            let what = what.to_owned();
            move |deeds: &Vec<Deed>| {
                deeds.iter().filter(|deed| deed.by == life && what.contains(&deed.what)).count() >= count
            }
        };
        let mut ledger = self.ledger.subscribe();
        // Neither sender goes away while this is borrowed.
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

/// What all lives of a round have in common.
#[derive(Clone, Copy)]
struct Start {
    plan_seed: u64,
    trouble: u32,
    table_trouble: u32,
    visibility: u64,
}

/// The part of a webhook's URL, and of the Web API's, by which Slack's stand-in distinguishes lives.
fn app(life: usize) -> String {
    format!("B{life:08}")
}

/// Returns when it is so.
async fn is(what: &watch::Sender<bool>) {
    // It does not go away while this borrows it.
    let _ = what.subscribe().wait_for(|is| *is).await;
}
