//! Commands and flags.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use time::OffsetDateTime;

use crate::{
    admin, app,
    config::{Config, Needs},
    dlq, log, output, replay,
    route::{ChannelId, mute},
    signals::Signals,
    sqs::move_task::MAX_RATE,
};

const VARIABLES: &str = "\
Environment variables; each wins over the configuration file, and README.md has them all with the file's keys:
  QUEUE_URL                the SQS queue; run, check and dlq need it, here or in the file
  UNDELIVERED_QUEUE_URL    the queue of events that EventBridge could not deliver, for dlq --from undelivered
  SLACK_WEBHOOK_SECRET_ID  the Secrets Manager secret that holds the webhook's URL; run, check and send need a webhook or a bot token for
                           each channel, here or in the file
  SLACK_WEBHOOK_URL        the webhook's URL itself, for a laptop
  SLACK_BOT_TOKEN_SECRET_ID, SLACK_CHANNEL_ID
                           a bot token's secret and a channel's id, instead of a webhook
  HEARTBEAT_URL_SECRET_ID  the secret that holds the URL of a dead man's switch, which is requested once a minute
  HEARTBEAT_URL            that URL itself, for a laptop
  HEARTBEAT_CANARY_WITHIN  no heartbeat once this long has passed without a canary [default: canaries do not matter]
  INCIDENTS_TABLE          the DynamoDB table in which replicas share incidents [default: this process's memory]
  CONFIG_FILE              the configuration file, if --config is not given
  CONFIG_CONTENT           the text of the configuration file, for platforms that cannot mount a file
  ACCOUNT_NAME             the name of the AWS account in alerts [default: the account's id]
  LISTEN_ADDR              where metrics and health are served [default: 0.0.0.0:9090]
  SHUTDOWN_GRACE           how long a drain may take [default: 25s]
  LOG_FORMAT               json or text [default: text on a terminal, else json]
  RUST_LOG                 off, error, warn, info or debug, also for single modules [default: info]
  AWS_REGION, AWS_PROFILE, AWS_ENDPOINT_URL and the others of the AWS SDK, as everywhere

If only QUEUE_URL and SLACK_WEBHOOK_SECRET_ID are set, and there is no file, every event that is a problem goes to that webhook.";

/// The command line. Its help begins with the description in Cargo.toml.
#[derive(Debug, Parser)]
#[command(version, about, long_about = None, arg_required_else_help = true, after_help = VARIABLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Consume the queue until SIGTERM, SIGINT, SIGQUIT or SIGHUP, then drain and stop
    #[command(after_help = VARIABLES)]
    Run(ConfigFile),
    /// Load and validate the configuration
    #[command(after_help = VARIABLES)]
    Check {
        #[command(flatten)]
        file: ConfigFile,
        /// Also ask AWS: the queue is readable and has a dead-letter queue, and each webhook resolves. Posts nothing
        #[arg(long)]
        live: bool,
        /// Also explain the routing of the EventBridge events in this file (as for `render`; `-` is standard input): which route
        /// takes each event, why the others do not, and which mute holds it
        #[arg(long, value_name = "FILE")]
        event: Vec<PathBuf>,
    },
    /// Print what would be posted for events, offline
    Render {
        #[command(flatten)]
        events: Events,
        /// A folder with answers of ECS about the services of the events: JSON files with any names, as `aws ecs describe-services`,
        /// `describe-tasks` and `describe-task-definition` print them
        #[arg(long, value_name = "DIR")]
        ecs_answers: Option<PathBuf>,
    },
    /// Post events to Slack
    Send(Events),
    /// Show the messages that the worker could not handle, or move them back to the queue
    #[command(subcommand)]
    Dlq(Dlq),
    /// Ask the worker on this machine whether it is healthy and ready, for a container's health check
    Health(ConfigFile),
}

#[derive(Debug, Subcommand)]
enum Dlq {
    /// Show what the dead-letter queue holds and why, oldest first, without consuming it
    List {
        #[command(flatten)]
        file: ConfigFile,
        #[command(flatten)]
        from: From,
        /// Read at most this many messages
        #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Move everything in the dead-letter queue back to the queue, by SQS's own message move task; Ctrl-C cancels it
    ///
    /// The move task does not work for the queue of undelivered events. From there, this command moves the messages itself: it sends each
    /// one to the queue, then deletes it. If the command is interrupted, the rest stays where it is; if it is killed, at most ten messages
    /// are in both queues.
    Redrive {
        #[command(flatten)]
        file: ConfigFile,
        #[command(flatten)]
        from: From,
        /// Only print what would be moved
        #[arg(long)]
        dry_run: bool,
        /// Move at most this many messages a second, 1 to 500 [default: as fast as SQS allows]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MAX_RATE.into()))]
        max_rate: Option<u32>,
    },
}

#[derive(Debug, Args)]
struct From {
    /// Which queue
    #[arg(long, value_enum, default_value_t = Which::Dlq)]
    from: Which,
    /// The URL of the queue of undelivered events [or: UNDELIVERED_QUEUE_URL, queue.undelivered_url]
    #[arg(long, value_name = "URL")]
    queue_url: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Which {
    /// The queue's dead-letter queue: messages that the worker could not handle
    Dlq,
    /// The queue of events that EventBridge could not deliver
    Undelivered,
}

impl From {
    /// The URL of the queue of undelivered events, if `--from` names that queue.
    fn undelivered(self, config: &Config) -> Result<Option<String>> {
        let name = "--queue-url, UNDELIVERED_QUEUE_URL or queue.undelivered_url";
        match (self.from, self.queue_url) {
            (Which::Dlq, None) => Ok(None),
            (Which::Dlq, Some(_)) => bail!(app::Misconfigured(
                "--queue-url is for --from undelivered; the dead-letter queue is the one that the queue names".into()
            )),
            (Which::Undelivered, url) => match url.or_else(|| config.queue.undelivered_url.clone()) {
                Some(url) => Ok(Some(url)),
                None => bail!(app::Misconfigured(format!("--from undelivered needs that queue's URL: {name}"))),
            },
        }
    }
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration, in TOML [or: CONFIG_FILE, CONFIG_CONTENT]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Events {
    #[command(flatten)]
    file: ConfigFile,
    /// EventBridge events: a JSON object, an array of them, or JSON lines; `-` or nothing is standard input
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl Cli {
    /// Runs the command. Returns `false` when the command ran but part of its work failed.
    ///
    /// # Errors
    /// When the configuration is bad ([`crate::config::ConfigError`], [`app::Misconfigured`]) or the work failed.
    pub async fn run(self) -> Result<bool> {
        // This comes first, so that no signal is lost. Before `run` begins, it has nothing to finish, so a signal ends it with code 0.
        let signals = Signals::listen(matches!(self.command, Command::Run(_))).context("cannot listen to signals")?;
        match self.command {
            Command::Run(file) => {
                let config = file.load(Needs { queue: true, webhooks: true })?;
                app::run(config, &signals).await.map(|()| true)
            }
            Command::Check { file, live, event } => {
                let config = file.load(Needs { queue: true, webhooks: true })?;
                for warning in &config.warnings {
                    log::say(format_args!("warning: {warning}"));
                }
                for channel in &config.channels {
                    if let Some(ChannelId(fallback)) = channel.fallback {
                        let (name, fallback) = (&channel.name, &config.channels[fallback].name);
                        output::print(format_args!(
                            "channel {name}: while Slack refuses it, its alerts go to {fallback}"
                        ))?;
                    }
                }
                app::check_aws(&config.queue.url).await?;
                if live {
                    app::check_live(&config).await?;
                }
                for mute in mute::list(&config.mutes, OffsetDateTime::now_utc()) {
                    output::print(mute)?;
                }
                output::print("the configuration is valid")?;
                if event.is_empty() { Ok(true) } else { replay::explain_routes(config, &event) }
            }
            Command::Dlq(Dlq::List { file, from, limit }) => {
                let config = file.load(Needs { queue: true, webhooks: false })?;
                let undelivered = from.undelivered(&config)?;
                dlq::list(config, undelivered.as_deref(), limit as usize, &signals).await
            }
            Command::Dlq(Dlq::Redrive { file, from, dry_run, max_rate }) => {
                let config = file.load(Needs { queue: true, webhooks: false })?;
                match from.undelivered(&config)? {
                    None => dlq::redrive(&config, dry_run, max_rate, &signals).await,
                    Some(url) => dlq::resend(&config, &url, dry_run, max_rate, &signals).await,
                }
            }
            Command::Health(file) => {
                let config = file.load(Needs { queue: false, webhooks: false })?;
                admin::ask_health(config.listen).await.map(|()| true)
            }
            Command::Render { events: Events { file, files }, ecs_answers } => {
                let config = file.load(Needs { queue: false, webhooks: false })?;
                replay::render(config, &files, ecs_answers.as_deref()).await
            }
            Command::Send(Events { file, files }) => {
                let config = file.load(Needs { queue: false, webhooks: true })?;
                replay::send(config, &files).await
            }
        }
    }
}

impl ConfigFile {
    /// Loads the configuration and starts logging as it says.
    fn load(self, needs: Needs) -> Result<Config> {
        let config = Config::load(self.config.as_deref(), &|name| std::env::var(name).ok(), needs)?;
        log::subscribe(config.log_format, &config.log_levels)?;
        Ok(config)
    }
}
