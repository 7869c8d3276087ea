//! The measurements, each of which prints a table.

use std::collections::HashMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::aws::Aws;
use lab::events::Ecs;
use lab::slack::{Rate, Slack};
use lab::sqs::{Queue, Sqs};
use lab::unique;
use lab::worker::Worker as Process;
use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::consumer::{Consumer, UNDIAGNOSED, cpu, memory, worker};
use crate::hook::Hook;

const ALERTS: usize = 10_000;
const WARM_UP: usize = 1_000;
/// The median of them is printed.
const ROUNDS: usize = 3;
/// Nothing takes as long unless it fails.
const LIMIT: Duration = Duration::from_secs(120);
/// For what is done after the last delete, such as the log.
const AFTERWARDS: Duration = Duration::from_millis(300);

/// What may be wrong with a service's tasks.
const TROUBLES: [fn(Ecs<'static>, &str) -> Value; 9] = [
    Ecs::image_missing,
    Ecs::secret_missing,
    Ecs::out_of_memory,
    Ecs::ecr_denied,
    Ecs::failed_health_check,
    Ecs::no_route,
    |ecs, service| ecs.essential_container_exited(service, 1),
    Ecs::log_group_missing,
    Ecs::spot_warning,
];

/// One event about a service: nine of ten are tasks that failed, each service's in its own way, the tenth says that it cannot
/// start them.
pub(crate) fn event(service: usize) -> String {
    let name = name(service);
    let ecs = Ecs::default();
    let event = if fastrand::u8(..10) == 0 {
        ecs.start_impaired(&name)
    } else {
        TROUBLES[service % TROUBLES.len()](ecs, &name)
    };
    event.to_string()
}

pub(super) fn name(service: usize) -> String {
    format!("service-{service:05}")
}

/// Events about so many services, in no order.
pub(super) fn events(count: usize, services: usize) -> Vec<String> {
    (0..count).map(|_| event(fastrand::usize(..services))).collect()
}

/// A consumer on a queue of its own, which has begun to receive.
pub(super) struct Running {
    pub(super) process: Process,
    pub(super) queue: Queue,
    pub(super) hook: Hook,
    started_in: Duration,
}

impl Running {
    /// Alerts go to a Slack that takes everything.
    pub(super) async fn start(sqs: &Sqs, consumer: Consumer) -> Result<Self> {
        let hook = Hook::start().await?;
        let webhook = hook.url("alerts");
        let slack = match consumer {
            Consumer::Worker => ("SLACK_WEBHOOK_SECRET_ID", secret(sqs, &webhook)),
            _ => ("SLACK_WEBHOOK_URL", webhook),
        };
        Self::start_with(sqs, consumer, hook, (slack.0, &slack.1)).await
    }

    /// The same by valgrind, which counts its instructions into this file.
    pub(super) async fn start_counted(sqs: &Sqs, consumer: Consumer, file: &str) -> Result<Self> {
        let hook = Hook::start().await?;
        let (queue, _) = sqs.queue_with_dlq(&unique("bench"), 10);
        let valgrind = ["valgrind", "--tool=callgrind", &format!("--callgrind-out-file={file}")];
        let slack = ("SLACK_WEBHOOK_URL", &*hook.url("alerts"));
        let begun = Instant::now();
        let process = consumer.start_by(&valgrind, sqs.environment(), &queue.url, slack)?;
        let polled = timeout(LIMIT, queue.polled()).await;
        let polled = polled.with_context(|| format!("{consumer:?} does not receive; it wrote:\n{process}"))?;
        Ok(Self { process, queue, hook, started_in: polled - begun })
    }

    pub(super) async fn start_with(sqs: &Sqs, consumer: Consumer, hook: Hook, slack: (&str, &str)) -> Result<Self> {
        Self::start_at(sqs, sqs.environment(), consumer, hook, slack).await
    }

    /// The same with an environment that names more of AWS than its queues.
    pub(super) async fn start_at(
        sqs: &Sqs,
        aws: Vec<(String, String)>,
        consumer: Consumer,
        hook: Hook,
        slack: (&str, &str),
    ) -> Result<Self> {
        let (queue, _) = sqs.queue_with_dlq(&unique("bench"), 10);
        let begun = Instant::now();
        let process = consumer.start(aws, &queue.url, slack)?;
        let polled = timeout(Duration::from_secs(20), queue.polled()).await;
        let polled = polled.with_context(|| format!("{consumer:?} does not receive; it wrote:\n{process}"))?;
        Ok(Self { process, queue, hook, started_in: polled - begun })
    }

    /// Ends it by SIGTERM.
    pub(super) async fn end(&mut self) -> Result<()> {
        self.process.terminate().await?;
        self.process.wait(LIMIT).await.map(drop)
    }

    /// Puts these in and waits until the queue is empty; how long that took.
    pub(super) async fn drain(&self, bodies: Vec<String>) -> Result<Duration> {
        let begun = Instant::now();
        self.queue.put(bodies);
        self.emptied().await?;
        let took = begun.elapsed();
        sleep(AFTERWARDS).await;
        Ok(took)
    }

    pub(super) async fn emptied(&self) -> Result<()> {
        let emptied = timeout(LIMIT, self.queue.emptied()).await;
        emptied.with_context(|| format!("left are {:?}; the consumer wrote:\n{}", self.queue.counts(), self.process))
    }
}

/// 10,000 alerts of 40 services, after a warm-up.
pub(crate) async fn throughput() -> Result<()> {
    const SERVICES: usize = 40;
    const CONSUMERS: [Consumer; 5] =
        [Consumer::Worker, Consumer::Bare, Consumer::Boto3, Consumer::Node, Consumer::Posting];
    struct Round {
        cpu_ms: f64,
        peak_mib: f64,
        requests: f64,
        posts: f64,
        drain_s: f64,
        start_ms: f64,
    }
    println!("\n{ALERTS} alerts of {SERVICES} services, median of {ROUNDS} rounds:\n");
    println!(
        "| | CPU, ms per 1,000 messages | peak RSS, MiB | SQS requests per message | Slack posts per 1,000 alerts | drained in, s | start to first receive, ms |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|");
    let sqs = Sqs::start().await?;
    let mut rounds: Vec<Vec<Round>> = CONSUMERS.iter().map(|_| Vec::new()).collect();
    for _ in 0..ROUNDS {
        for (consumer, rounds) in CONSUMERS.into_iter().zip(&mut rounds) {
            let mut running = Running::start(&sqs, consumer).await?;
            running.drain(events(WARM_UP, SERVICES)).await?;
            let before = (cpu(&running.process)?, running.queue.stats().requests, running.hook.count());
            let took = running.drain(events(ALERTS, SERVICES)).await?;
            let thousands = ALERTS as f64 / 1000.0;
            let round = Round {
                cpu_ms: millis(cpu(&running.process)? - before.0) / thousands,
                peak_mib: memory(&running.process, "VmHWM")?,
                requests: (running.queue.stats().requests - before.1) as f64 / ALERTS as f64,
                posts: (running.hook.count() - before.2) as f64 / thousands,
                drain_s: took.as_secs_f64(),
                start_ms: millis(running.started_in),
            };
            eprintln!("{}: {:.0} ms per 1,000 messages", consumer.name(), round.cpu_ms);
            rounds.push(round);
            running.process.kill().await?;
        }
    }
    for (consumer, rounds) in CONSUMERS.into_iter().zip(&rounds) {
        let of = |figure: fn(&Round) -> f64| median(rounds.iter().map(figure));
        println!(
            "| {} | {:.0} | {:.0} | {:.2} | {:.1} | {:.1} | {:.0} |",
            consumer.name(),
            of(|round| round.cpu_ms),
            of(|round| round.peak_mib),
            of(|round| round.requests),
            of(|round| round.posts),
            of(|round| round.drain_s),
            of(|round| round.start_ms),
        );
    }
    Ok(())
}

/// What waiting costs.
pub(crate) async fn idle() -> Result<()> {
    const CONSUMERS: [Consumer; 4] = [Consumer::Worker, Consumer::Bare, Consumer::Boto3, Consumer::Node];
    const WINDOW: Duration = Duration::from_secs(60);
    let sqs = Sqs::start().await?;
    let mut all = Vec::new();
    for consumer in CONSUMERS {
        all.push(Running::start(&sqs, consumer).await?);
    }
    sleep(Duration::from_secs(5)).await;
    let before = all.iter().map(|running| cpu(&running.process)).collect::<Result<Vec<_>>>()?;
    sleep(WINDOW).await;
    println!("\nIdle for {} s:\n\n| | RSS, MiB | CPU, ms per s |\n|---|--:|--:|", WINDOW.as_secs());
    for ((consumer, mut running), before) in CONSUMERS.into_iter().zip(all).zip(before) {
        let used = millis(cpu(&running.process)? - before) / WINDOW.as_secs_f64();
        println!("| {} | {:.1} | {used:.1} |", consumer.name(), memory(&running.process, "VmRSS")?);
        running.process.kill().await?;
    }
    println!("\nThe program: {:.1} MiB, stripped.", std::fs::metadata(worker())?.len() as f64 / 1024.0 / 1024.0);
    Ok(())
}

/// From when an alert is in the queue to when Slack has it.
pub(crate) async fn delay() -> Result<()> {
    /// So many that none of them needs two posts within a second.
    const CHANNELS: usize = 100;
    println!(
        "\nFrom the queue to Slack, ms:\n\n| | alerts | p50 | p99 | of which the endpoint's own, p50 | p99 |\n|---|--:|--:|--:|--:|--:|"
    );
    let sqs = Sqs::start().await?;
    let hook = Hook::start().await?;
    let config = config_file(&(UNDIAGNOSED.to_owned() + &channels_by_suffix(CHANNELS, &hook)))?;
    let many = Running::start_with(&sqs, Consumer::Worker, hook, ("CONFIG_FILE", &config)).await?;
    let one = Running::start(&sqs, Consumer::Worker).await?;
    let peer = Running::start(&sqs, Consumer::Posting).await?;
    let (second, slow, fast) = (Duration::from_secs(1), Duration::from_millis(1200), Duration::from_millis(20));
    // Side by side, where it leaves the machine idle.
    let (a, b, c) = tokio::join!(
        many.delays("**ecs-slack-alerts**, 100 channels, 1 alert/s", 1..101, second),
        one.delays("**ecs-slack-alerts**, one channel, an alert every 1.2 s", 1..85, slow),
        peer.delays("boto3 loop, 1 alert/s", 1..101, second)
    );
    a.and(b).and(c)?;
    many.delays("**ecs-slack-alerts**, 100 channels, 50 alerts/s", 1000..2500, fast).await?;
    one.delays("**ecs-slack-alerts**, one channel at a post a second, 50 alerts/s", 1000..2500, fast).await?;
    peer.delays("boto3 loop, 50 alerts/s and posts/s, which Slack would refuse", 1000..2500, fast).await
}

/// A file with this configuration: its path.
pub(super) fn config_file(text: &str) -> Result<String> {
    let path = format!("target/{}.toml", unique("bench"));
    std::fs::write(&path, text)?;
    Ok(path)
}

/// So many channels, each for the services whose number ends with its own; the last takes what else there is.
pub(super) fn channels_by_suffix(count: usize, hook: &Hook) -> String {
    let (mut channels, mut routes) = (String::new(), String::new());
    for channel in 0..count {
        channels += &format!("[[channel]]\nname = \"c{channel:02}\"\nwebhook_url = \"{}\"\n", hook.url("c"));
        routes += &format!("[[route]]\nchannel = \"c{channel:02}\"\n");
        if channel + 1 < count {
            routes += &format!(
                "[route.pattern]\n\"$or\" = [\
                 {{ resources = [{{ wildcard = \"*:service/*{channel:02}\" }}] }}, \
                 {{ detail = {{ group = [{{ suffix = \"{channel:02}\" }}] }} }}]\n"
            );
        }
    }
    channels + &routes
}

impl Running {
    /// The delays of alerts about one service each, as a line of the table. No service may have been in trouble before: that alert would
    /// be folded into its incident, and not come to Slack.
    async fn delays(&self, what: &str, services: Range<usize>, period: Duration) -> Result<()> {
        self.drain(events(1, 1)).await?;
        sleep(Duration::from_secs(2)).await;
        let waits_before = self.queue.stats().waits.len();
        let count = services.len();
        let delays = self.delays_of(services, period, event).await?;
        let waits = self.queue.stats().waits.split_off(waits_before);
        let [p50, p99, own50, own99] = [(&delays, 50), (&delays, 99), (&waits, 50), (&waits, 99)].map(percentile);
        println!("| {what} | {count} | {p50:.1} | {p99:.1} | {own50:.1} | {own99:.1} |");
        Ok(())
    }

    /// From when an event about a service is in the queue to when Slack has its alert; one event every `period`.
    pub(super) async fn delays_of(
        &self,
        services: Range<usize>,
        period: Duration,
        event: impl Fn(usize) -> String,
    ) -> Result<Vec<Duration>> {
        let (first, count) = (services.start, services.len());
        let posts_before = self.hook.count();
        let mut sent = Vec::with_capacity(count);
        let mut clock = interval(period);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for service in services {
            let event = event(service);
            clock.tick().await;
            sent.push(Instant::now());
            self.queue.put([event]);
        }
        self.emptied().await?;
        let mut arrived = HashMap::new();
        for (at, body) in self.hook.posts().into_iter().skip(posts_before) {
            for text in String::from_utf8_lossy(&body).split("service-").skip(1) {
                let number = text.get(..5).and_then(|digits| digits.parse::<usize>().ok());
                number.map(|number| arrived.entry(number).or_insert(at));
            }
        }
        let of = |(service, sent): (usize, &Instant)| Some(*arrived.get(&(first + service))? - *sent);
        let delays: Vec<Duration> = sent.iter().enumerate().filter_map(of).collect();
        ensure!(delays.len() == count, "{} of {count} alerts came to Slack", delays.len());
        Ok(delays)
    }
}

/// Slack at its real rate, in one channel.
pub(crate) async fn storm() -> Result<()> {
    println!(
        "\nStorms, with Slack taking a post a second:\n\n| events | services | drained in, s | posts | 429s | sections per post, median | most | services named | CPU, ms per 1,000 messages |\n|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
    );
    let sqs = Sqs::start().await?;
    for (count, services) in [(ALERTS, 500), (5_000, 5_000)] {
        let slack = Slack::start_on(0, Some(Rate::SLACK)).await?;
        let bodies = if count == services { (0..count).map(event).collect() } else { events(count, services) };
        let id = secret(&sqs, &slack.url("storm"));
        let hook = Hook::start().await?;
        let mut running = Running::start_with(&sqs, Consumer::Worker, hook, ("SLACK_WEBHOOK_SECRET_ID", &id)).await?;
        let before = cpu(&running.process)?;
        let took = running.drain(bodies).await?.as_secs_f64();
        let used = millis(cpu(&running.process)? - before) / (count as f64 / 1000.0);
        let (requests, posts) = (slack.requests().len(), slack.accepted());
        let sections = posts.iter().map(|post| {
            let blocks = post.payload["attachments"][0]["blocks"].as_array().into_iter().flatten();
            blocks.filter(|block| block["type"] == "section").count() as f64
        });
        let most = sections.clone().fold(0.0, f64::max);
        let text: String = posts.iter().map(|post| post.payload.to_string()).collect();
        let named = (0..services).filter(|service| text.contains(&name(*service))).count();
        println!(
            "| {count} | {services} | {took:.1} | {} | {} | {:.0} | {most:.0} | {named} | {used:.0} |",
            posts.len(),
            requests - posts.len(),
            median(sections)
        );
        running.process.kill().await?;
    }
    Ok(())
}

/// The same on an emulator, which is what is measured then: only that it works there too, and costs as much.
pub(crate) async fn emulator() -> Result<()> {
    const COUNT: usize = 2_000;
    println!(
        "\n{COUNT} alerts on ministack, from start to end:\n\n| | CPU, ms per 1,000 messages | drained in, s |\n|---|--:|--:|"
    );
    let aws = Aws::start().await?;
    for consumer in [Consumer::Worker, Consumer::Bare] {
        let hook = Hook::start().await?;
        let (queue, _) = aws.queue_with_dlq(&unique("bench"), 10, Duration::from_secs(120)).await?;
        queue.send(&events(COUNT, 40)).await?;
        let begun = Instant::now();
        let mut process = consumer.start(aws.environment(), &queue.url, ("SLACK_WEBHOOK_URL", &hook.url("alerts")))?;
        queue.wait_for(|counts| counts.total() == 0, LIMIT).await?;
        let took = begun.elapsed().as_secs_f64();
        sleep(AFTERWARDS).await;
        println!("| {} | {:.0} | {took:.1} |", consumer.name(), millis(cpu(&process)?) / (COUNT as f64 / 1000.0));
        process.kill().await?;
    }
    Ok(())
}

/// Keeps a webhook as a secret of its own: the secret's name.
pub(super) fn secret(sqs: &Sqs, webhook: &str) -> String {
    let id = unique("monitoring/webhook");
    sqs.put_secret(&id, webhook);
    id
}

pub(super) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// In milliseconds; the nearest rank.
pub(super) fn percentile((durations, percent): (&Vec<Duration>, usize)) -> f64 {
    let mut sorted = durations.clone();
    sorted.sort_unstable();
    sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).map_or(f64::NAN, |duration| millis(*duration))
}
