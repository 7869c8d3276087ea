//! Stand-ins for everything that the worker talks to. With them the tests, the demo and the benchmarks run the real program against real
//! HTTP endpoints, without an AWS account and a Slack workspace:
//!
//! * [`aws`]: EventBridge, SQS, Secrets Manager and DynamoDB, by an emulator in a child process;
//! * [`ecs`]: ECS's answers about services with problems, which the emulator does not have;
//! * [`fault`]: a proxy in front of the emulator that answers with an error, late or not at all on request, and implements SQS's message
//!   move tasks, which the emulator lacks;
//! * [`slack`]: incoming webhooks and the Web API, which refuse what Slack refuses, and a page that shows the messages;
//! * [`sqs`]: SQS in this process, for measurements: with the emulator they would measure the emulator;
//! * [`credentials`]: an endpoint that offers AWS credentials to a container, and fails on request;
//! * [`tls`] and [`proxy`]: TLS in front of a stand-in, with a certificate authority of its own, and an HTTP proxy;
//! * [`chaos`]: rounds in which the worker meets random faults and signals, and checks of the promises after each;
//! * [`switch`]: a dead man's switch, which gets the worker's heartbeats;
//! * [`worker`]: the program itself, with its log, its metrics and its signals;
//! * [`events`]: events as EventBridge delivers them;
//! * [`pattern`]: a second implementation of event patterns.
//!
//! Nothing that is started here outlives the program that started it, even if that program is killed.

#![allow(clippy::disallowed_methods, reason = "stand-ins answer late, and load has a rate")]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

pub mod aws;
pub mod chaos;
mod connection;
pub mod credentials;
pub mod ecs;
pub mod events;
pub mod fault;
mod move_tasks;
pub mod pattern;
pub mod proxy;
pub mod slack;
pub mod sqs;
pub mod switch;
pub mod tls;
pub mod worker;

/// A name that no other test uses, in this process or in another one: `{prefix}-{process id}-{n}`.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{prefix}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Calls `ask` every 50 ms until it returns true. This is for conditions that cannot be awaited: a queue's counts, a metric.
///
/// # Errors
/// Those of `ask`, at once; after `limit`, an error that names `what`.
pub async fn eventually(what: &str, limit: Duration, mut ask: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + limit;
    while !ask().await? {
        ensure!(Instant::now() < deadline, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Waits for a fixed time, for a test that measures a rate or plays a slow service. A test that waits for an event uses [`eventually`].
/// `why` says what the time is for.
pub async fn for_a_while(time: Duration, _why: &'static str) {
    tokio::time::sleep(time).await;
}

/// The answers of a stand-in to the next requests: first each of `once` in turn, then `always`.
#[derive(Debug, Clone, Default)]
struct Script<T> {
    once: VecDeque<T>,
    always: T,
}

impl<T: Clone> Script<T> {
    fn next(&mut self) -> T {
        self.once.pop_front().unwrap_or_else(|| self.always.clone())
    }
}

/// Makes one GET request. Returns the status and the body.
///
/// # Errors
/// When there is no complete answer within ten seconds.
pub async fn get(url: &str) -> Result<(u16, String)> {
    // Everything here is on loopback, so a proxy in the environment is ignored.
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
    let response = client.get(url).send().await?;
    Ok((response.status().as_u16(), response.text().await?))
}
