//! Builds the worker from a configuration, runs it, and drains it after a signal.

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
    diagnose::Diagnoser,
    heartbeat::{Heartbeat, Watched},
    incident::store::{
        Store,
        dynamodb::{DynamoDb, TableError},
    },
    log, metrics,
    outbound::Outbound,
    pipeline::Pipeline,
    reporter::Reporter,
    route::{Router, mute},
    shutdown::StopSignal,
    signals::Signals,
    slack::{
        self, ChannelSetup, Slack,
        client::Client,
        target::{Secrets, TargetSource},
    },
    sqs::{Queue, QueueState, SqsError},
    webhook::{WebhookError, WebhookSource, Webhooks},
};

mod live;

pub use live::check_live;

/// The configuration is well-formed, but names something that does not exist or may not be used: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Misconfigured(pub(crate) String);

/// The worker: consumes the queue until a signal, then drains. A second signal ends the process at once.
///
/// # Errors
/// When the worker cannot start, or the drain does not end within the grace period.
pub async fn run(config: Config, signals: &Signals) -> Result<()> {
    let stop = signals.drain(config.shutdown_grace, "stopping: no new receives; finishing the messages in flight");
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
    // It is set once, here, so this cannot fail.
    let _ = status.running.set(Arc::clone(&worker.consumer));
    tokio::spawn(watch_queue(Arc::clone(&worker.queue)));
    if let Some(heartbeat) = worker.heartbeat {
        tokio::spawn(heartbeat.run(stop.clone()));
    }
    tokio::spawn(refresh_metrics(status, Arc::clone(&worker.reporter)));

    let grace_ends = async {
        let _ = stopping.wait_for(Option::is_some).await;
        // The last part of the grace period is for writing the log.
        tokio::time::sleep(worker.shutdown_grace - log::FLUSH.min(worker.shutdown_grace / 8)).await;
    };
    tokio::select! {
        ended = worker.consumer.run() => ended.map_err(|error| queue_error(&error, &worker.queue_url))?,
        channel = worker.slack.broken() => bail!("the task that posts to channel {channel:?} ended unexpectedly; SQS delivers the messages in flight again"),
        () = grace_ends => bail!("the drain did not end within {:?}; SQS delivers the messages in flight again", worker.shutdown_grace),
    }
    info!("drained");
    Ok(())
}

fn unusable_table(name: &str, error: &impl std::fmt::Display) -> anyhow::Error {
    Misconfigured(format!("the table {name:?} (incidents.table, INCIDENTS_TABLE) cannot be used: {error}")).into()
}

/// Looks up the webhooks and bot tokens of the channels, and starts the channels.
///
/// # Errors
/// When a webhook or token cannot be used. While AWS cannot be reached, the look-up is retried for about a minute.
pub async fn start_slack(config: &Config, aws: Option<&aws_config::SdkConfig>, stop: &StopSignal) -> Result<Slack> {
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

/// Loads the AWS SDK's configuration from the SDK's own variables, files and roles. With `queue_url`, also checks that the queue is in
/// the configured Region.
///
/// # Errors
/// When the Region is missing or invalid, the queue is in another Region, or a proxy or certificates cannot be used.
pub async fn load_aws(queue_url: Option<&str>) -> Result<aws_config::SdkConfig> {
    let aws = aws::load(&outbound()?).await.map_err(misconfigured)?;
    if let Some(url) = queue_url {
        aws::check_queue_region(url, &aws).map_err(misconfigured)?;
    }
    Ok(aws)
}

/// Checks the part of the AWS configuration that needs no network request.
///
/// # Errors
/// The same as for [`load_aws`]. If only the instance metadata names the Region, the Region is not checked.
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

/// Starts everything that must work before the worker is ready: the queue, a webhook or token for each channel, and the table of
/// incidents.
async fn start(config: Config, stop: &StopSignal) -> Result<Worker> {
    let aws = load_aws(Some(&config.queue.url)).await?;
    let queue = Arc::new(Queue::new(&aws, &config.queue.url));
    let queue_answers = async {
        let state = (|| queue.state())
            .retry(start_retries())
            .when(for_about_a_minute(|error: &SqsError| !error.class.is_misconfiguration()))
            .notify(|error, delay| warn!(error = error.chain(), "the queue does not answer; retrying in {delay:.1?}"));
        state.await.map_err(|error| queue_error(&error, &config.queue.url))
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
        let watched = Watched { consumer: Arc::clone(&consumer), slack: Arc::clone(&slack), canaries };
        Heartbeat::new(settings, webhooks, config.allowed_hosts.clone(), outbound()?.client(), watched)
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

/// Opens the store of incidents; `None` if each alert is a message. The worker also starts if the table cannot be reached: alerts are
/// posted without it.
async fn open_store(config: &Config, aws: &aws_config::SdkConfig) -> Result<Option<Store>> {
    let Some(settings) = &config.incidents else { return Ok(None) };
    let Some(name) = &settings.table else { return Ok(Some(Store::Memory(Arc::default()))) };
    let table = DynamoDb::new(aws, name);
    match table.check_schema().await {
        Ok(()) => {}
        Err(error @ TableError::Schema { .. }) => return Err(unusable_table(name, &error)),
        Err(error) => {
            warn!(table = name, %error, "the table of incidents cannot be checked; starting without the check")
        }
    }
    Ok(Some(Store::DynamoDb(table)))
}

async fn resolve(secrets: &Secrets, channel: &Channel) -> Result<ChannelSetup> {
    let source = channel.source.clone().context("a channel has neither a webhook nor a bot token")?;
    let target = (|| secrets.resolve(&source))
        .retry(start_retries())
        .when(for_about_a_minute(WebhookError::is_transient))
        .notify(|error, delay| warn!(channel = channel.name, %error, "the channel's secret cannot be looked up; retrying in {delay:.1?}"))
        .await
        .map_err(|error| {
            let place = match &source {
                TargetSource::Webhook(WebhookSource::Secret { id, .. }) => {
                    format!("the secret {id:?} (webhook_secret_id, SLACK_WEBHOOK_SECRET_ID)")
                }
                TargetSource::Webhook(WebhookSource::Url(_)) => "the webhook".into(),
                TargetSource::Bot { token_secret_id, .. } => {
                    format!("the secret {token_secret_id:?} (bot_token_secret_id, SLACK_BOT_TOKEN_SECRET_ID)")
                }
            };
            let what = format!("channel {:?}: {place}: {error}", channel.name);
            if error.is_transient() { anyhow::anyhow!(what) } else { Misconfigured(what).into() }
        })?;
    Ok(ChannelSetup { name: channel.name.clone(), source, target, fallback: channel.fallback })
}

/// Retries for about a minute. After that the process ends, and its supervisor may start it again.
pub fn start_retries() -> ExponentialBuilder {
    ExponentialBuilder::new().with_max_delay(Duration::from_secs(10)).with_max_times(7).with_jitter()
}

/// Allows the retry of a transient error until a minute has passed. The number of retries alone would allow more time if each attempt
/// takes until its timeout.
fn for_about_a_minute<E>(is_transient: impl Fn(&E) -> bool) -> impl FnMut(&E) -> bool {
    let end = Instant::now() + Duration::from_secs(60);
    move |error| is_transient(error) && Instant::now() < end
}

/// The error of a failed request about `queue` (its URL or ARN): [`Misconfigured`] if a retry cannot help.
pub fn queue_error(error: &SqsError, queue: &str) -> anyhow::Error {
    let needs = error.denied_action().map(|action| format!(" (needs {action})")).unwrap_or_default();
    let what = format!("the queue {queue} cannot be used{needs}: {}", error.chain());
    if error.class.is_misconfiguration() { Misconfigured(what).into() } else { anyhow::anyhow!(what) }
}

/// Every ten seconds, aggregates the samples of the histograms, which would otherwise accumulate until a scrape, and updates the gauges
/// of incidents and tasks.
async fn refresh_metrics(status: Arc<Status>, reporter: Arc<Reporter>) {
    let mut tick = interval(Duration::from_secs(10));
    loop {
        tick.tick().await;
        status.metrics.run_upkeep();
        reporter.measure();
        metrics::tasks(Handle::current().metrics().num_alive_tasks());
    }
}

/// Updates the gauges of the messages in the queue and its dead-letter queue, once a minute.
async fn watch_queue(queue: Arc<Queue>) {
    let mut minute = interval(Duration::from_secs(60));
    minute.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let counts = |state: QueueState| [state.visible, state.in_flight, state.delayed];
    let mut dlq = None;
    let mut has_failed = false;
    loop {
        minute.tick().await;
        let update = async {
            let state = queue.state().await?;
            let redrive = state.redrive.clone();
            metrics::queue_messages("main", counts(state));
            if let (Some(redrive), None) = (redrive, &dlq) {
                dlq = Some(queue.dead_letter_queue(&redrive.dead_letter_arn).await?);
            }
            if let Some(dlq) = &dlq {
                metrics::queue_messages("dlq", counts(dlq.state().await?));
            }
            Ok::<_, SqsError>(())
        };
        // A lasting failure, such as a missing permission, is logged once, not once a minute.
        match update.await {
            Ok(()) => has_failed = false,
            Err(error) if !has_failed => {
                has_failed = true;
                warn!(error = error.chain(), "the metric queue_messages cannot be updated");
            }
            Err(_) => {}
        }
    }
}
