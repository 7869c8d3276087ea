//! Commands and flags.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::{
    admin, app,
    config::{Config, Needs},
    dlq, log, output, replay,
    sqs::move_task::MAX_RATE,
};

/// Tells Slack, at once and with the reason, when Amazon ECS cannot start your tasks.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Consume the queue until SIGTERM or SIGINT, then drain and stop
    Run(ConfigFile),
    /// Load and validate the configuration
    Check {
        #[command(flatten)]
        file: ConfigFile,
        /// Also ask AWS: the queue is readable and has a dead-letter queue, and each webhook resolves. Posts nothing
        #[arg(long)]
        live: bool,
    },
    /// Print what would be posted for events, offline
    Render {
        #[command(flatten)]
        events: Events,
        /// A folder of ECS's answers, for what it would say about the services of the events: JSON files as `aws ecs
        /// describe-services`, `describe-tasks` and `describe-task-definition` print them, under any names
        #[arg(long, value_name = "DIR")]
        ecs_answers: Option<PathBuf>,
    },
    /// Really post events
    Send(Events),
    /// Look at what the worker could not handle, or move it back to the queue
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
        /// Look at no more messages than this
        #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Move everything in the dead-letter queue back to the queue, by SQS's own message move task; Ctrl-C cancels it
    Redrive {
        #[command(flatten)]
        file: ConfigFile,
        /// Only say what would be moved
        #[arg(long)]
        dry_run: bool,
        /// Move at most this many messages a second, 1 to 500 [default: as fast as SQS sees fit]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MAX_RATE.into()))]
        max_rate: Option<u32>,
    },
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
    /// Runs the command; `false` when it worked, but not all of its work succeeded.
    ///
    /// # Errors
    /// When the configuration is bad ([`crate::config::ConfigError`], [`app::Misconfigured`]) or the work failed.
    pub async fn run(self) -> Result<bool> {
        match self.command {
            Command::Run(file) => {
                let config = file.load(Needs { queue: true, webhooks: true })?;
                app::run(config).await.map(|()| true)
            }
            Command::Check { file, live } => {
                let config = file.load(Needs { queue: true, webhooks: true })?;
                for warning in &config.warnings {
                    log::say(format_args!("warning: {warning}"));
                }
                if live {
                    app::check_live(&config).await?;
                }
                output::print("the configuration is valid").map(|()| true)
            }
            Command::Dlq(Dlq::List { file, limit }) => {
                dlq::list(file.load(Needs { queue: true, webhooks: false })?, limit as usize).await
            }
            Command::Dlq(Dlq::Redrive { file, dry_run, max_rate }) => {
                dlq::redrive(&file.load(Needs { queue: true, webhooks: false })?, dry_run, max_rate).await
            }
            Command::Health(file) => {
                let config = file.load(Needs { queue: false, webhooks: false })?;
                admin::ask_health(config.listen).await.map(|()| true)
            }
            Command::Render { events: Events { file, files }, ecs_answers } => {
                let config = file.load(Needs { queue: false, webhooks: false })?;
                replay::render(config, &files, ecs_answers.as_deref())
            }
            Command::Send(Events { file, files }) => {
                let config = file.load(Needs { queue: false, webhooks: true })?;
                replay::send(config, &files).await
            }
        }
    }
}

impl ConfigFile {
    /// Loads the configuration and, now that it is known how, begins to log.
    fn load(self, needs: Needs) -> Result<Config> {
        let config = Config::load(self.config.as_deref(), &|name| std::env::var(name).ok(), needs)?;
        log::subscribe(config.log_format, &config.log_levels)?;
        Ok(config)
    }
}
