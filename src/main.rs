//! Start-up and exit codes: 0 success, 1 the work failed, 2 bad usage or configuration.

#![cfg_attr(
    not(test),
    deny(clippy::print_stdout, clippy::print_stderr, reason = "they panic, or wait, where a write fails")
)]

use std::process::ExitCode;

use clap::Parser;
use ecs_slack_alerts::{app::Misconfigured, cli::Cli, config::ConfigError, log, output};

/// Alerts are many small texts, and glibc's allocator took a fifth of the processor time to manage them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

// One thread: it waits for SQS and Slack nearly all the time, and is faster without handing work around.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let _flush = log::start();
    match Cli::parse().run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // As other tools do.
        Err(error) if error.is::<output::Closed>() => ExitCode::SUCCESS,
        Err(error) => {
            log::say(format_args!("ecs-slack-alerts: {error:#}"));
            ExitCode::from(if error.is::<ConfigError>() || error.is::<Misconfigured>() { 2 } else { 1 })
        }
    }
}
