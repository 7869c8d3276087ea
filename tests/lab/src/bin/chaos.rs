//! Runs rounds of chaos and prints their figures. `make chaos` builds and starts it.
//!
//! Environment variables: `WORKER`, the program to run; `SEED`, by default a random one; `ROUNDS`, how many; `ROUND`, to run only that one;
//! `SHORT=1` for rounds as short as those of `make test`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Instant;

use anyhow::{Context, Result};
use lab::chaos::{self, Size, Tally};

#[tokio::main]
async fn main() -> ExitCode {
    match play().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn play() -> Result<()> {
    let binary: PathBuf = variable("WORKER")?.context("WORKER is not set; start this by `make chaos`")?;
    let seed: u64 = variable("SEED")?.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let rounds: u64 = variable("ROUNDS")?.unwrap_or(12);
    let only: Option<u64> = variable("ROUND")?;
    let (size, short) = match variable("SHORT")? {
        Some(1) => (Size::Short, " SHORT=1"),
        _ => (Size::Full, ""),
    };
    println!("chaos: SEED={seed}{short}; the same with ROUND=n plays round n alone");
    let begun = Instant::now();
    let mut tally = Tally::default();
    for round in only.map_or(1..=rounds, |only| only..=only) {
        let played = chaos::round(binary.clone(), seed, round, size).await;
        let played = played
            .with_context(|| format!("round {round}; `make chaos SEED={seed} ROUND={round}{short}` repeats it"))?;
        println!(
            "round {round}: {} events, {} processes, {} posts, {:.0} s so far",
            played.get("events"),
            played.get("processes started"),
            played.get("posts"),
            begun.elapsed().as_secs_f64()
        );
        tally.add(&played);
    }
    println!("\n{tally}");
    Ok(())
}

fn variable<T: FromStr>(name: &str) -> Result<Option<T>> {
    let Ok(value) = std::env::var(name) else { return Ok(None) };
    value.parse().map(Some).ok().with_context(|| format!("{name}={value:?} cannot be read"))
}
