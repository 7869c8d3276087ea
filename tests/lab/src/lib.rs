//! What stands around the worker in the tests, the demo and the benchmarks, so that they can run the real program against
//! real HTTP endpoints with no AWS account and no Slack workspace:
//!
//! * [`aws`]: EventBridge, SQS and Secrets Manager, by an emulator in a child process;
//! * [`ecs`]: ECS's answers about services in trouble, which the emulator does not have;
//! * [`fault`]: a proxy before it that answers wrongly, late or not at all on request, and implements SQS's message move
//!   tasks, which the emulator lacks;
//! * [`slack`]: incoming webhooks that refuse what Slack refuses, and a page that shows what was posted;
//! * [`sqs`]: SQS alone, in this process, for measurements, where the emulator would be what is measured;
//! * [`credentials`]: an endpoint that offers AWS credentials to a container, and fails on request;
//! * [`tls`] and [`proxy`]: TLS before a stand-in, by a certificate authority of its own, and an HTTP proxy;
//! * [`chaos`]: rounds of the worker amid random faults and signals, and what must hold after each;
//! * [`switch`]: a dead man's switch, which gets the worker's heartbeats;
//! * [`worker`]: the program itself, with its log, its metrics and its signals;
//! * [`events`]: what ECS says when things go wrong;
//! * [`pattern`]: a second opinion on what an event pattern matches.
//!
//! Nothing started here outlives the program that started it, even one that is killed.

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

/// A name that no other test, in this process or another, has: `{prefix}-{process id}-{n}`.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{prefix}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Asks until the answer is yes, every 50 ms, for what can only be asked and not awaited: a queue's counts, a metric.
///
/// # Errors
/// Those of `ask`, at once; and, when `limit` has passed, that `what` did not come about.
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

/// How a stand-in answers the next requests: first each of `once` in turn, then `always`.
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

/// One GET; the status and the body.
///
/// # Errors
/// When there is no whole answer within ten seconds.
pub async fn get(url: &str) -> Result<(u16, String)> {
    // No proxy, whatever the environment says: everything here is on loopback.
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
    let response = client.get(url).send().await?;
    Ok((response.status().as_u16(), response.text().await?))
}
