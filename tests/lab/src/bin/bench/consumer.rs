//! The consumers, and what the kernel knows of each.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use lab::aws::REGION;
use lab::worker::Worker as Process;

/// The unit of `/proc/PID/stat`: `USER_HZ`, 100 a second on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// Asks ECS nothing.
pub(crate) const UNDIAGNOSED: &str = "[diagnose]\nenabled = false\n";

/// What takes messages from a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Consumer {
    /// The program that this repository builds. It asks ECS nothing: how long that takes is ECS's doing.
    Worker,
    /// The same, which does ask.
    Diagnosing,
    /// `bare_loop`.
    Bare,
    /// `peers/boto3_loop.py` with no work to do.
    Boto3,
    /// `peers/sqs_consumer.mjs`, with no work to do.
    Node,
    /// `peers/boto3_loop.py`, which posts alert by alert.
    Posting,
}

impl Consumer {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Worker | Self::Diagnosing => "**ecs-slack-alerts**",
            Self::Bare => "bare `aws-sdk-sqs` loop, no work",
            Self::Boto3 => "boto3 loop, no work",
            Self::Node => "sqs-consumer, no work",
            Self::Posting => "boto3 loop, a post per alert",
        }
    }

    /// Starts it with this `aws`, on this queue. Where it has alerts to post, `slack` is the variable that says where.
    pub(crate) fn start(self, aws: Vec<(String, String)>, queue: &str, slack: (&str, &str)) -> Result<Process> {
        self.start_by(&[], aws, queue, slack)
    }

    /// The same, by the program and the arguments of `wrapper` if there are any.
    pub(crate) fn start_by(
        self,
        wrapper: &[&str],
        aws: Vec<(String, String)>,
        queue: &str,
        slack: (&str, &str),
    ) -> Result<Process> {
        let mut environment = aws;
        let mut set = |name: &str, value: &str| environment.push((name.to_owned(), value.to_owned()));
        set("QUEUE_URL", queue);
        // What boto3 calls AWS_REGION.
        set("AWS_DEFAULT_REGION", REGION);
        set("SLACK_ALLOWED_HOSTS", "127.0.0.1");
        // A file of its own says that, too.
        if self == Self::Worker && slack.0 != "CONFIG_FILE" {
            set("CONFIG_CONTENT", UNDIAGNOSED);
        }
        if matches!(self, Self::Worker | Self::Diagnosing | Self::Posting) {
            set(slack.0, slack.1);
        }
        // node is found by it; consumers are given nothing else of ours.
        set("PATH", &std::env::var("PATH")?);
        let (program, arguments): (_, &[&str]) = match self {
            Self::Worker | Self::Diagnosing => (worker(), &["run"]),
            Self::Bare => ("target/release/bare_loop".to_owned(), &[]),
            Self::Boto3 | Self::Posting => ("target/peers/venv/bin/python".to_owned(), &["target/peers/boto3_loop.py"]),
            Self::Node => ("node".to_owned(), &["target/peers/sqs_consumer.mjs"]),
        };
        match wrapper {
            [] => Process::spawn(program, environment, arguments),
            [wrapper, options @ ..] => {
                let wrapped = [options, &[&*program], arguments].concat();
                Process::spawn(wrapper, environment, &wrapped)
            }
        }
    }
}

/// The program that is measured.
pub(crate) fn worker() -> String {
    std::env::var("WORKER").unwrap_or_else(|_| "target/release/ecs-slack-alerts".to_owned())
}

/// Processor time so far, of all its threads, in user and kernel mode.
pub(crate) fn cpu(process: &Process) -> Result<Duration> {
    let stat = proc(process, "stat")?;
    // proc_pid_stat(5): the name, in parentheses, may hold anything; utime and stime are the 12th and 13th field after it.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: Vec<u32> = fields.skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    Ok(TICK * ticks.iter().sum())
}

/// A size in `/proc/PID/status`, in MiB: `VmRSS`, or `VmHWM`, its peak.
pub(crate) fn memory(process: &Process, what: &str) -> Result<f64> {
    let status = proc(process, "status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':')).context("no such size")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}

/// Open file descriptors.
pub(crate) fn descriptors(process: &Process) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{}/fd", id(process)?))?.count())
}

/// Threads.
pub(crate) fn threads(process: &Process) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{}/task", id(process)?))?.count())
}

fn proc(process: &Process, file: &str) -> Result<String> {
    Ok(fs::read_to_string(format!("/proc/{}/{file}", id(process)?))?)
}

fn id(process: &Process) -> Result<u32> {
    process.id().with_context(|| format!("the consumer ended; it wrote:\n{process}"))
}
