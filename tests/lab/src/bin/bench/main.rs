//! What the worker costs beside what people would use instead, how soon an alert is at Slack, and what becomes of a storm.
//! `make bench` builds and starts it.
//!
//! Every consumer takes the same alerts from the same endpoint in the same run, each alone on the machine. The endpoint is
//! [`lab::sqs`], in this process: figures of requests and of the consumers' own processor time carry over to AWS, those of
//! time on the wire do not.
//!
//! Arguments choose parts: `throughput`, `idle`, `delay`, `latency`, `storm`, `emulator`, `growth`; none is all of these.
//! `instructions`, which needs valgrind, and `soak`, which takes an hour, are only done when asked for. Read from the environment: `WORKER`, the program to measure.

#![allow(clippy::disallowed_methods, reason = "it measures over time")]

mod consumer;
mod growth;
mod hook;
mod instructions;
mod latency;
mod parts;
mod plot;
mod soak;

use anyhow::{Result, ensure};

const PARTS: [&str; 9] =
    ["throughput", "idle", "delay", "latency", "storm", "emulator", "growth", "instructions", "soak"];

#[tokio::main]
async fn main() -> Result<()> {
    let chosen: Vec<String> = std::env::args().skip(1).collect();
    ensure!(chosen.iter().all(|part| PARTS.contains(&part.as_str())), "the parts are {}", PARTS.join(", "));
    let today = time::OffsetDateTime::now_utc().date();
    let processors = std::thread::available_parallelism()?;
    println!("`make bench`, {today}, {processors} processors, against a stand-in endpoint.");
    let is_chosen = |part: &&str| {
        chosen.iter().any(|chosen| chosen == part) || chosen.is_empty() && !["instructions", "soak"].contains(part)
    };
    for part in PARTS.into_iter().filter(is_chosen) {
        match part {
            "throughput" => parts::throughput().await?,
            "idle" => parts::idle().await?,
            "delay" => parts::delay().await?,
            "latency" => latency::latency().await?,
            "storm" => parts::storm().await?,
            "emulator" => parts::emulator().await?,
            "growth" => growth::growth().await?,
            "instructions" => instructions::instructions().await?,
            _ => soak::soak().await?,
        }
    }
    Ok(())
}
