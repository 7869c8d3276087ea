//! How many instructions a message takes, as valgrind counts them. Unlike processor time the figure does not depend on what else the machine
//! does, so two versions of the worker can be compared to a hundredth.
//!
//! A run's start and end take instructions too. So each consumer runs twice, and what the longer run takes more is divided by how
//! many messages it has more.

use std::fs;

use anyhow::{Context, Result, ensure};
use lab::sqs::Sqs;

use crate::consumer::Consumer;
use crate::parts::{Running, events};

const WARM_UP: usize = 1_000;
const SERVICES: usize = 40;
/// Messages after the warm-up, in the two runs.
const COUNTS: [usize; 2] = [2_000, 6_000];

/// Needs valgrind.
pub(crate) async fn instructions() -> Result<()> {
    println!(
        "\nInstructions, as `valgrind --tool=callgrind` counts them:\n\n| | thousand instructions per message |\n|---|--:|"
    );
    for consumer in [Consumer::Worker, Consumer::Bare] {
        let [few, many] = [run(consumer, COUNTS[0]).await?, run(consumer, COUNTS[1]).await?];
        let each = many.saturating_sub(few) as f64 / (COUNTS[1] - COUNTS[0]) as f64;
        println!("| {} | {:.1} |", consumer.name(), each / 1000.0);
    }
    println!(
        "\nThe counts are in target/callgrind.*; `callgrind_annotate` shows the functions of a program that is not stripped."
    );
    Ok(())
}

/// The instructions of a whole run with so many messages after the warm-up.
async fn run(consumer: Consumer, count: usize) -> Result<u64> {
    let file = format!("target/callgrind.{consumer:?}.{count}").to_lowercase();
    let _ = fs::remove_file(&file);
    let sqs = Sqs::start().await?;
    let mut running = Running::start_counted(&sqs, consumer, &file).await?;
    running.drain(events(WARM_UP, SERVICES)).await?;
    running.drain(events(count, SERVICES)).await?;
    running.end().await?;
    let counts = fs::read_to_string(&file).with_context(|| format!("{file}, which valgrind should have written"))?;
    let totals: Vec<u64> = counts.lines().filter_map(|line| line.strip_prefix("totals: ")?.parse().ok()).collect();
    ensure!(!totals.is_empty(), "{file} holds no totals");
    Ok(totals.iter().sum())
}
