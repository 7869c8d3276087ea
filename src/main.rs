//! Start-up and exit codes: 0 success, 1 the work failed, 2 bad usage or configuration.

#![cfg_attr(
    not(test),
    deny(clippy::print_stdout, clippy::print_stderr, reason = "they panic or block when a write fails")
)]

use std::process::ExitCode;

use clap::Parser;
use ecs_slack_alerts::{app::Misconfigured, cli::Cli, config::ConfigError, log, output};

/// An alert allocates many small strings. With glibc's allocator a fifth of the processor time went into managing them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

// One thread: the program mostly waits for SQS and Slack, and is faster when no work moves between threads.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let _flush = log::start();
    match Cli::parse().run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // Other tools also exit with 0 when the reader of their output closes it.
        Err(error) if error.is::<output::Closed>() => ExitCode::SUCCESS,
        Err(error) => {
            log::say(format_args!("ecs-slack-alerts: {error:#}"));
            ExitCode::from(if error.is::<ConfigError>() || error.is::<Misconfigured>() { 2 } else { 1 })
        }
    }
}
