//! An hour, or as many minutes as `MINUTES` says, at two events a second, with everything that a usual hour has: repeats, copies
//! of one event, what cannot be decoded, services that ECS is asked about, a Slack that takes a post a second and now and then
//! nothing at all. Whether anything grows.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::ecs::EcsApi;
use lab::events::Ecs;
use lab::slack::{Answer, Rate, Slack};
use lab::sqs::{Queue, Sqs};
use lab::unique;
use lab::worker::Worker as Process;
use time::OffsetDateTime;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::consumer::{Consumer, cpu, descriptors, memory, threads};
use crate::parts::event;

const MINUTE: Duration = Duration::from_secs(60);
const BETWEEN_EVENTS: Duration = Duration::from_millis(500);
const BETWEEN_SAMPLES: Duration = Duration::from_secs(10);
/// The report has this many parts. The first is the warm-up; the last is compared with the second.
const PARTS: u32 = 6;
/// What remembering the ids of an hour's alerts may take.
const GROWTH_MIB: f64 = 2.0;

#[derive(Debug, Clone, Copy)]
struct Sample {
    rss_mib: f64,
    descriptors: f64,
    threads: f64,
    tasks: f64,
}

pub(crate) async fn soak() -> Result<()> {
    let minutes: u32 = std::env::var("MINUTES").map_or(Ok(60), |minutes| minutes.parse()).context("MINUTES")?;
    let (sqs, slack) = (Sqs::start().await?, Slack::start_on(0, Some(Rate::SLACK)).await?);
    let answers: Vec<_> = std::fs::read_dir("tests/answers")?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    let ecs = EcsApi::start_later(&answers, OffsetDateTime::now_utc() - time::macros::datetime!(2026-03-02 08:19 UTC))
        .await?;
    let (queue, dlq) = sqs.queue_with_dlq(&unique("soak"), 3);
    sqs.put_secret("webhook", &slack.url("soak"));
    let aws = sqs.environment().into_iter().chain(ecs.environment()).collect();
    let process = Consumer::Diagnosing.start(aws, &queue.url, ("SLACK_WEBHOOK_SECRET_ID", "webhook"))?;
    process.wait_ready().await?;

    let (begun, part) = (Instant::now(), minutes * MINUTE / PARTS);
    println!("\nA soak of {minutes} minutes, an event every {} ms:\n", BETWEEN_EVENTS.as_millis());
    println!(
        "| until minute | RSS, MiB, least | most | file descriptors, least | most | threads, most | tasks, least | most | CPU, ms per s |"
    );
    println!("|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    let mut sent = 0;
    let mut parts: Vec<[Sample; 2]> = Vec::new();
    for number in 1..=PARTS {
        let before = cpu(&process)?;
        let (samples, count) =
            tokio::try_join!(watch(&process, begun + part * number), feed(&queue, &slack, begun + part * number))?;
        sent += count;
        let [least, most] = [f64::min as fn(f64, f64) -> f64, f64::max].map(|pick| {
            samples.iter().copied().reduce(|a, b| Sample {
                rss_mib: pick(a.rss_mib, b.rss_mib),
                descriptors: pick(a.descriptors, b.descriptors),
                threads: pick(a.threads, b.threads),
                tasks: pick(a.tasks, b.tasks),
            })
        });
        let (least, most) = least.zip(most).context("no samples")?;
        let used = (cpu(&process)? - before).as_secs_f64() * 1000.0 / part.as_secs_f64();
        println!(
            "| {:.0} | {:.1} | {:.1} | {} | {} | {} | {} | {} | {used:.1} |",
            (part * number).as_secs_f64() / 60.0,
            least.rss_mib,
            most.rss_mib,
            least.descriptors,
            most.descriptors,
            most.threads,
            least.tasks,
            most.tasks
        );
        parts.push([least, most]);
    }
    timeout(5 * MINUTE, queue.emptied()).await.context("the queue was not emptied")?;
    let posts = slack.accepted().len();
    println!("\n{sent} messages, {posts} posts, {} dead letters.", dlq.counts().visible);
    let (early, late) = (parts[1], parts[parts.len() - 1]);
    ensure!(late[0].rss_mib <= early[0].rss_mib + GROWTH_MIB, "RSS has grown");
    // How many there are at most is chance: as many requests as happened to be under way.
    ensure!(late[0].descriptors <= early[0].descriptors, "file descriptors have grown");
    ensure!(late[0].tasks <= early[0].tasks && late[1].threads <= early[1].threads, "tasks or threads have grown");
    Ok(())
}

/// Puts events in until then; how many messages that were.
async fn feed(queue: &Queue, slack: &Slack, until: Instant) -> Result<usize> {
    let mut clock = interval(BETWEEN_EVENTS);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sent = 0;
    while Instant::now() < until {
        clock.tick().await;
        let production = Ecs { cluster: "production", ..Ecs::default() };
        let body = match fastrand::u32(..100) {
            0 => "not an event".to_owned(),
            1..20 => production.start_impaired("checkout").to_string(),
            _ => event(fastrand::usize(..200)),
        };
        let copies = if fastrand::u8(..10) == 0 { 2 } else { 1 };
        queue.put(vec![body; copies]);
        sent += copies;
        if fastrand::u32(..200) == 0 {
            let troubles =
                [Answer::RateLimited(3), Answer::Status(500, "rollup_error"), Answer::Reset, Answer::Hang, Answer::Cut];
            slack.script("soak", troubles.into_iter().filter(|_| fastrand::bool()));
        }
    }
    Ok(sent)
}

async fn watch(process: &Process, until: Instant) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    while Instant::now() < until {
        sleep(BETWEEN_SAMPLES).await;
        let tasks = process.metrics().await?.get("tasks", &[]).context("no metric of tasks")?;
        samples.push(Sample {
            rss_mib: memory(process, "VmRSS")?,
            descriptors: descriptors(process)? as f64,
            threads: threads(process)? as f64,
            tasks,
        });
    }
    Ok(samples)
}
