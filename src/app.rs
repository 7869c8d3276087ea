//! Wiring and drain: from a configuration to a running worker, and from a signal to a clean end.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use backon::{ExponentialBuilder, Retryable};
use time::OffsetDateTime;
use tokio::{
    runtime::Handle,
    time::{Instant, MissedTickBehavior, interval},
};
use tracing::{info, warn};

use crate::{
    admin::{self, Status},
    aws,
    config::{Channel, Config},
    consumer::Consumer,
    diagnose::{self, Diagnoser},
    heartbeat::{self, Heartbeat, Signs},
    incident::store::{
        Store,
        dynamodb::{DynamoDb, TableError},
    },
    log, metrics,
    outbound::Outbound,
    output,
    pipeline::Pipeline,
    reporter::{Reporter, Settings},
    route::{Router, mute},
    shutdown::Stop,
    signals::Signals,
    slack::{
        self, ChannelSetup, Slack,
        client::Client,
        render,
        target::{Bot, Secrets, Source, Target},
        web_api::BotIdentity,
    },
    sqs::{Queue, QueueState, Redrive, SqsError},
    webhook::{self, WebhookError, Webhooks},
};

/// AWS's own advice for a queue with a dead-letter queue.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html>
const LEAST_MAX_RECEIVE_COUNT: u32 = 5;

/// The configuration is well-formed, but names something that is not there or may not be used: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Misconfigured(pub(crate) String);

/// The worker: consumes the queue until a signal, then drains. A second signal ends the process at once.
///
/// # Errors
/// When it cannot start, or the drain did not end within the grace.
pub async fn run(config: Config, signals: &Signals) -> Result<()> {
    let stop = signals.drain(config.shutdown_grace, "stopping: no new receives; finishing what has begun");
    let names: Vec<&str> = config.channels.iter().map(|channel| channel.name.as_str()).collect();
    let metrics = metrics::install(&names).context("cannot set up metrics")?;
    let listener = admin::bind(config.listen).await?;
    info!(listen = %listener.local_addr()?, version = env!("CARGO_PKG_VERSION"), "listening");
    for warning in &config.warnings {
        warn!("{warning}");
    }
    for mute in mute::list(&config.mutes, OffsetDateTime::now_utc()) {
        info!("{mute}");
    }
    let status = Arc::new(Status { metrics, running: OnceLock::new(), stop: stop.clone() });
    tokio::spawn(admin::serve(listener, Arc::clone(&status)));

    let mut stopping = stop.clone();
    let worker = tokio::select! {
        biased;
        _ = stopping.wait_for(Option::is_some) => return Ok(()),
        worker = start(config, &stop) => worker?,
    };
    // Only `start` sets it, once.
    let _ = status.running.set(Arc::clone(&worker.consumer));
    tokio::spawn(watch_queue(Arc::clone(&worker.queue)));
    if let Some(heartbeat) = worker.heartbeat {
        tokio::spawn(heartbeat.run(stop.clone()));
    }
    tokio::spawn(keep_metrics(status, Arc::clone(&worker.reporter)));

    let grace_ends = async {
        let _ = stopping.wait_for(Option::is_some).await;
        // The very last of it is for the log.
        tokio::time::sleep(worker.shutdown_grace - log::FLUSH.min(worker.shutdown_grace / 8)).await;
    };
    tokio::select! {
        ended = worker.consumer.run() => ended.map_err(|error| explain(&error, &worker.queue_url))?,
        channel = worker.slack.broken() => bail!("the task that posts to channel {channel:?} died; what is in flight comes again"),
        () = grace_ends => bail!("the drain did not end within {:?}; what was in flight comes again", worker.shutdown_grace),
    }
    info!("drained");
    Ok(())
}

/// What `check --live` finds: faults are errors, the rest is printed.
///
/// # Errors
/// When the queue or a webhook cannot be used.
pub async fn check_live(config: &Config) -> Result<()> {
    let aws = load_aws(Some(&config.queue.url)).await?;
    let queue = Queue::new(&aws, &config.queue.url);
    let state = queue.state().await.map_err(|error| explain(&error, &config.queue.url))?;
    // Whether it may be read shows only by reading, and a receive brings a message nearer to the dead-letter queue.
    if state.visible == 0 {
        let read = queue.receive(1, Duration::ZERO, Duration::ZERO).await;
        read.map_err(|error| explain(&error, &config.queue.url))?;
        output::print("queue: readable")?;
    } else {
        let held = state.visible;
        output::print(format_args!("queue: exists; not read, for that would count against the {held} messages in it"))?;
    }
    match &state.redrive {
        None => log::say("warning: the queue has no dead-letter queue; what cannot be decoded stays until it expires"),
        Some(redrive) if redrive.max_receive_count < LEAST_MAX_RECEIVE_COUNT => log::say(format_args!(
            "warning: maxReceiveCount is {}; AWS advises at least {LEAST_MAX_RECEIVE_COUNT}, and 10 suits alerts better",
            redrive.max_receive_count
        )),
        Some(Redrive { dead_letter_arn, max_receive_count }) => {
            output::print(format_args!("dead-letter queue: {dead_letter_arn} after {max_receive_count} receives"))?;
        }
    }
    if let Some(settings) = &config.diagnose {
        for (action, cost) in diagnose::denied_actions(&aws, settings, &state.arn).await {
            log::say(format_args!(
                "warning: the role may not {action} on a cluster of any name; where it may not, {cost}"
            ));
        }
    }
    let secrets = secrets(config, Some(&aws));
    for channel in &config.channels {
        match resolve(&secrets, channel).await?.target {
            Target::Webhook(_) => {
                output::print(format_args!("channel {}: its webhook is an allowed URL", channel.name))?;
            }
            Target::Bot(bot) => check_bot(config, &slack_client()?, &bot, &channel.name).await?,
        }
    }
    if let Some(settings) = &config.heartbeat {
        let url = heartbeat::resolve(&settings.source, &secrets.webhooks, &config.allowed_hosts).await;
        url.map_err(|error| {
            let what = format!("heartbeat: the secret (heartbeat.url_secret_id, HEARTBEAT_URL_SECRET_ID): {error}");
            if error.is_transient() { anyhow::anyhow!(what) } else { Misconfigured(what).into() }
        })?;
        output::print("heartbeat: its URL may be asked; it was not")?;
    }
    if let Some(Settings { table: Some(name), .. }) = &config.incidents {
        let table = DynamoDb::new(&aws, name);
        table.check_schema().await.map_err(|error| unusable_table(name, &error))?;
        table.check_access().await.map_err(|error| unusable_table(name, &error))?;
        output::print(format_args!("table {name}: can be read and written"))?;
    }
    Ok(())
}

/// What a bot token may do, whether its bot is in the channel, and whether Slack finds an alert valid. Posts nothing.
async fn check_bot(config: &Config, slack: &Client, bot: &Bot, channel: &str) -> Result<()> {
    let timeout = config.consumer().request_timeout();
    let identity = slack.identify(bot, timeout).await;
    let BotIdentity { team, user, scopes } =
        identity.map_err(|answer| Misconfigured(format!("channel {channel:?}: its bot token: Slack {answer}")))?;
    let may = |wanted: &str| scopes.as_ref().is_none_or(|scopes| scopes.iter().any(|scope| scope == wanted));
    if !may("chat:write") {
        let what = format!("channel {channel:?}: its bot token lacks the scope chat:write");
        bail!(Misconfigured(what));
    }
    output::print(format_args!("channel {channel}: its bot token is that of {user} in {team}"))?;
    match slack.is_member(bot, timeout).await {
        Some(true) => output::print(format_args!("channel {channel}: the bot is in it"))?,
        Some(false) if may("chat:write.public") => {
            log::say(format_args!(
                "warning: channel {channel:?}: the bot is not in it; Slack takes its posts if it is public"
            ));
        }
        Some(false) => {
            let id = &bot.channel;
            bail!(Misconfigured(format!(
                "channel {channel:?}: the bot is not in {id}; invite it there, or give it chat:write.public"
            )));
        }
        None => output::print(format_args!(
            "channel {channel}: whether the bot is in it cannot be told without the scope channels:read"
        ))?,
    }
    match slack.fault_of(bot, &render::example(), timeout).await {
        Some(Ok(())) => output::print(format_args!("channel {channel}: Slack finds an alert valid"))?,
        Some(Err(word)) => {
            log::say(format_args!("warning: channel {channel:?}: Slack finds an alert not valid: {word}"))
        }
        None => {}
    }
    Ok(())
}

fn unusable_table(name: &str, error: &impl std::fmt::Display) -> anyhow::Error {
    Misconfigured(format!("the table {name:?} (incidents.table, INCIDENTS_TABLE) cannot be used: {error}")).into()
}

/// Starts the channels, with their webhooks and bot tokens looked up.
///
/// # Errors
/// When one cannot be used; while AWS is not reached it is tried again for about a minute.
pub async fn start_slack(config: &Config, aws: Option<&aws_config::SdkConfig>, stop: &Stop) -> Result<Slack> {
    let secrets = secrets(config, aws);
    let setups = futures_util::future::try_join_all(config.channels.iter().map(|channel| resolve(&secrets, channel)));
    let shared = slack::Shared {
        client: slack_client()?,
        secrets: secrets.clone(),
        account_name: config.account_name.clone(),
        timeout: config.consumer().request_timeout(),
        max_in_flight: config.queue.max_in_flight,
    };
    Ok(Slack::start(setups.await?, shared, stop))
}

fn secrets(config: &Config, aws: Option<&aws_config::SdkConfig>) -> Secrets {
    Secrets { webhooks: Webhooks::new(aws, config.allowed_hosts.clone()), api: config.api_url.clone() }
}

fn slack_client() -> Result<Client> {
    Client::new(outbound()?.client()).context("cannot set up TLS to Slack; are CA certificates installed?")
}

/// The AWS SDK's configuration from its own variables, files and roles; for requests to the queue at `queue_url`, if any.
///
/// # Errors
/// When there is no region or it is none, the queue is in another, or a proxy or certificates cannot be used.
pub async fn load_aws(queue_url: Option<&str>) -> Result<aws_config::SdkConfig> {
    let aws = aws::load(&outbound()?).await.map_err(misconfigured)?;
    if let Some(url) = queue_url {
        aws::check_queue_region(url, &aws).map_err(misconfigured)?;
    }
    Ok(aws)
}

/// What of AWS's configuration can be checked without asking anybody.
///
/// # Errors
/// As [`load_aws`], but a region that only the instance knows is not looked up.
pub async fn check_aws(queue_url: &str) -> Result<()> {
    outbound()?;
    if aws::names_region().await {
        load_aws(Some(queue_url)).await?;
    }
    Ok(())
}

fn outbound() -> Result<Outbound> {
    Outbound::from_env().map_err(misconfigured)
}

fn misconfigured(error: impl std::error::Error) -> anyhow::Error {
    Misconfigured(error.to_string()).into()
}

struct Worker {
    queue: Arc<Queue>,
    queue_url: String,
    slack: Arc<Slack>,
    reporter: Arc<Reporter>,
    consumer: Arc<Consumer>,
    heartbeat: Option<Heartbeat>,
    shutdown_grace: Duration,
}

/// Everything that must answer before the worker is ready: the queue, and a webhook for each channel.
async fn start(config: Config, stop: &Stop) -> Result<Worker> {
    let aws = load_aws(Some(&config.queue.url)).await?;
    let queue = Arc::new(Queue::new(&aws, &config.queue.url));
    let queue_answers = async {
        let state = (|| queue.state())
            .retry(start_retries())
            .when(for_about_a_minute(|error: &SqsError| !error.class.is_misconfiguration()))
            .notify(|error, delay| warn!(error = error.chain(), "the queue does not answer; again in {delay:.1?}"));
        state.await.map_err(|error| explain(&error, &config.queue.url))
    };
    let (_, slack, store) =
        tokio::try_join!(queue_answers, start_slack(&config, Some(&aws), stop), open_store(&config, &aws))?;
    let slack = Arc::new(slack);
    let settings = config.consumer();
    let diagnoser = config.diagnose.map(|settings| Diagnoser::new(&aws, settings, stop.clone()));
    let reporter = Arc::new(Reporter::new(Arc::clone(&slack), config.incidents.zip(store), stop));
    let pipeline = Pipeline::new(Router::new(config.routes, config.mutes), diagnoser, Arc::clone(&reporter));
    let canaries = pipeline.canaries();
    let consumer = Arc::new(Consumer::new(Arc::clone(&queue), pipeline, Arc::clone(&slack), settings, stop.clone()));
    let heartbeat = config.heartbeat.map(|settings| {
        let webhooks = Webhooks::new(Some(&aws), config.allowed_hosts.clone());
        let signs = Signs { consumer: Arc::clone(&consumer), slack: Arc::clone(&slack), canaries };
        Heartbeat::new(settings, webhooks, config.allowed_hosts.clone(), outbound()?.client(), signs)
            .context("cannot set up TLS for heartbeats")
    });
    Ok(Worker {
        queue,
        queue_url: config.queue.url,
        slack,
        reporter,
        consumer,
        heartbeat: heartbeat.transpose()?,
        shutdown_grace: config.shutdown_grace,
    })
}

/// Where incidents are kept; none if each alert is a message. That the table is not reached is no reason not to start: alerts
/// go out without it.
async fn open_store(config: &Config, aws: &aws_config::SdkConfig) -> Result<Option<Store>> {
    let Some(settings) = &config.incidents else { return Ok(None) };
    let Some(name) = &settings.table else { return Ok(Some(Store::Memory(Arc::default()))) };
    let table = DynamoDb::new(aws, name);
    match table.check_schema().await {
        Ok(()) => {}
        Err(error @ TableError::Schema { .. }) => return Err(unusable_table(name, &error)),
        Err(error) => warn!(table = name, %error, "the table of incidents cannot be checked; going on"),
    }
    Ok(Some(Store::DynamoDb(table)))
}

async fn resolve(secrets: &Secrets, channel: &Channel) -> Result<ChannelSetup> {
    let source = channel.source.clone().context("a channel has neither a webhook nor a bot token")?;
    let target = (|| secrets.resolve(&source))
        .retry(start_retries())
        .when(for_about_a_minute(WebhookError::is_transient))
        .notify(|error, delay| warn!(channel = channel.name, %error, "its secret cannot be looked up; again in {delay:.1?}"))
        .await
        .map_err(|error| {
            let place = match &source {
                Source::Webhook(webhook::Source::Secret { id, .. }) => {
                    format!("the secret {id:?} (webhook_secret_id, SLACK_WEBHOOK_SECRET_ID)")
                }
                Source::Webhook(webhook::Source::Url(_)) => "the webhook".into(),
                Source::Bot { token_secret_id, .. } => {
                    format!("the secret {token_secret_id:?} (bot_token_secret_id, SLACK_BOT_TOKEN_SECRET_ID)")
                }
            };
            let what = format!("channel {:?}: {place}: {error}", channel.name);
            if error.is_transient() { anyhow::anyhow!(what) } else { Misconfigured(what).into() }
        })?;
    Ok(ChannelSetup { name: channel.name.clone(), source, target, fallback: channel.fallback })
}

/// For about a minute; then the process ends, and who started it may start it again.
pub fn start_retries() -> ExponentialBuilder {
    ExponentialBuilder::new().with_max_delay(Duration::from_secs(10)).with_max_times(7).with_jitter()
}

/// A minute is a minute also where each attempt waits for an answer that does not come: the first failure after it is the last.
fn for_about_a_minute<E>(is_transient: impl Fn(&E) -> bool) -> impl FnMut(&E) -> bool {
    let end = Instant::now() + Duration::from_secs(60);
    move |error| is_transient(error) && Instant::now() < end
}

/// What to tell of a failed request about `queue` (its URL or ARN): [`Misconfigured`] where trying again does not help.
pub fn explain(error: &SqsError, queue: &str) -> anyhow::Error {
    let needs = error.denied_action().map(|action| format!(" (needs {action})")).unwrap_or_default();
    let what = format!("the queue {queue} cannot be used{needs}: {}", error.chain());
    if error.class.is_misconfiguration() { Misconfigured(what).into() } else { anyhow::anyhow!(what) }
}

/// Histograms gather their samples until somebody scrapes them, or until told to: nobody may. And nobody tells of tasks but
/// the runtime, when asked.
async fn keep_metrics(status: Arc<Status>, reporter: Arc<Reporter>) {
    let mut tick = interval(Duration::from_secs(10));
    loop {
        tick.tick().await;
        status.metrics.run_upkeep();
        reporter.measure();
        metrics::tasks(Handle::current().metrics().num_alive_tasks());
    }
}

/// Keeps the gauges of what the queue and its dead-letter queue hold, once a minute.
async fn watch_queue(queue: Arc<Queue>) {
    let mut minute = interval(Duration::from_secs(60));
    minute.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let counts = |state: QueueState| [state.visible, state.in_flight, state.delayed];
    let mut dead_letters = None;
    let mut silent = false;
    loop {
        minute.tick().await;
        let looked = async {
            let state = queue.state().await?;
            let redrive = state.redrive.clone();
            metrics::queue_messages("main", counts(state));
            if let (Some(redrive), None) = (redrive, &dead_letters) {
                dead_letters = Some(queue.dead_letter_queue(&redrive.dead_letter_arn).await?);
            }
            if let Some(dead_letters) = &dead_letters {
                metrics::queue_messages("dlq", counts(dead_letters.state().await?));
            }
            Ok::<_, SqsError>(())
        };
        // A lasting failure, such as a missing permission, is worth one line, not one a minute.
        match looked.await {
            Ok(()) => silent = false,
            Err(error) if !silent => {
                silent = true;
                warn!(error = error.chain(), "queue_messages cannot be kept up to date");
            }
            Err(_) => {}
        }
    }
}
