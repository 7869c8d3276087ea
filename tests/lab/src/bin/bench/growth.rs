//! How the cost grows with the messages, the channels, the patterns and the open incidents: processor time and memory, a figure each.

use std::fs;

use anyhow::{Result, ensure};
use lab::sqs::Sqs;

use crate::consumer::{Consumer, UNDIAGNOSED, cpu, memory};
use crate::hook::Hook;
use crate::parts::{Running, channels_by_suffix, config_file, event, events, millis};
use crate::plot::{Panel, svg};

/// What every worker has handled before it is measured.
const WARM_UP: usize = 1_000;
/// Messages, where these are not what grows.
const MESSAGES: usize = 10_000;
const SERVICES: usize = 40;

/// One measurement.
struct Point {
    size: usize,
    cpu_ms: f64,
    peak_mib: f64,
}

pub(crate) async fn growth() -> Result<()> {
    let sqs = Sqs::start().await?;
    println!("\nHow the cost grows:\n\n| | | CPU, ms | per 1,000 messages | peak RSS, MiB |\n|---|--:|--:|--:|--:|");
    let mut points = Vec::new();
    for messages in [1_000, 3_000, 10_000, 30_000, 100_000] {
        points.push(measure(&sqs, messages, "", 1, SERVICES, messages).await?);
    }
    report("messages", "messages of 40 services", &points, |point| point.size)?;
    let mut points = Vec::new();
    for channels in [1, 3, 10, 30, 100] {
        points.push(measure(&sqs, channels, "", channels, 100, MESSAGES).await?);
    }
    report("channels", "channels, 10,000 messages", &points, |_| MESSAGES)?;
    let mut points = Vec::new();
    for patterns in [1, 10, 100, 1_000] {
        let routes: String = (0..patterns).map(unmatched).collect();
        points.push(measure(&sqs, patterns, &routes, 1, SERVICES, MESSAGES).await?);
    }
    report("patterns", "patterns that do not match, 10,000 messages", &points, |_| MESSAGES)?;
    let mut points = Vec::new();
    for incidents in [1, 10, 100, 1_000, 10_000] {
        points.push(measure(&sqs, incidents, "", 1, incidents, MESSAGES).await?);
    }
    report("incidents", "open incidents, 10,000 messages", &points, |_| MESSAGES)
}

/// A route that takes no event of these.
fn unmatched(index: usize) -> String {
    format!(
        "[[route]]\nchannel = \"c00\"\npattern = {{ resources = [{{ wildcard = \"*:service/team-{index}-*/*\" }}] }}\n"
    )
}

/// What so many messages cost a worker with an open incident for each service.
async fn measure(
    sqs: &Sqs,
    size: usize,
    routes: &str,
    channels: usize,
    services: usize,
    messages: usize,
) -> Result<Point> {
    let hook = Hook::start().await?;
    let config = config_file(&format!("{UNDIAGNOSED}{routes}{}", channels_by_suffix(channels, &hook)))?;
    let mut running = Running::start_with(sqs, Consumer::Worker, hook, ("CONFIG_FILE", &config)).await?;
    running.drain((0..services.max(WARM_UP)).map(|number| event(number % services)).collect()).await?;
    let before = cpu(&running.process)?;
    running.drain(events(messages, services)).await?;
    let point =
        Point { size, cpu_ms: millis(cpu(&running.process)? - before), peak_mib: memory(&running.process, "VmHWM")? };
    running.process.kill().await?;
    fs::remove_file(config)?;
    Ok(point)
}

/// Prints the lines of the table and writes the figure, `docs/growth-WHAT.svg`.
fn report(what: &str, x: &str, points: &[Point], messages: impl Fn(&Point) -> usize) -> Result<()> {
    for point in points {
        let per_thousand = point.cpu_ms * 1_000.0 / messages(point) as f64;
        println!("| {what} | {} | {:.0} | {per_thousand:.0} | {:.0} |", point.size, point.cpu_ms, point.peak_mib);
    }
    let of =
        |figure: fn(&Point) -> f64| points.iter().map(|point| (point.size as f64, figure(point).max(1.0))).collect();
    let panels = [
        Panel { title: "processor time, ms", x, points: of(|point| point.cpu_ms) },
        Panel { title: "peak RSS, MiB", x, points: of(|point| point.peak_mib) },
    ];
    fs::write(format!("docs/growth-{what}.svg"), svg(&panels))?;
    // Twice what the input grew by is chance; more is not.
    if let [first, .., last] = points {
        let factor = last.size as f64 / first.size as f64;
        for (figure, grown) in
            [("time", last.cpu_ms / first.cpu_ms.max(10.0)), ("memory", last.peak_mib / first.peak_mib)]
        {
            ensure!(grown <= 2.0 * factor, "{what}: {figure} grew {grown:.1} times, the input {factor:.0} times");
        }
    }
    Ok(())
}
