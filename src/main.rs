//! Start-up and exit codes: 0 success, 1 the work failed, 2 bad usage or configuration.

use std::process::ExitCode;

use clap::Parser;
use ecs_slack_alerts::{app::Misconfigured, cli::Cli, config::ConfigError};

/// Alerts are many small texts, and glibc's allocator took a fifth of the processor time to manage them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

// One thread: it waits for SQS and Slack nearly all the time, and is faster without handing work around.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match Cli::parse().run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("ecs-slack-alerts: {error:#}");
            ExitCode::from(if error.is::<ConfigError>() || error.is::<Misconfigured>() { 2 } else { 1 })
        }
    }
}
