//! The commands for failed messages: list what the dead-letter queue holds and why ([`list`]), and move it back to the queue
//! ([`redrive`]; [`resend()`] for the queue of events that EventBridge could not deliver).
//!
//! No command loses a message, even if this program is killed. A listing makes the messages visible again; `redrive` uses SQS's own message
//! move task; `resend` deletes a message only after the queue has accepted its copy.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, bail};
use backon::Retryable;
use time::OffsetDateTime;
use tokio::time::{MissedTickBehavior, interval};

mod listing;
mod resend;

pub use listing::list;
pub use resend::resend;

use crate::{
    app::{self, Misconfigured},
    config::Config,
    output,
    shutdown::StopSignal,
    signals::Signals,
    sqs::{
        Queue, QueueState, Redrive, SqsError,
        move_task::{MoveStatus, MoveTask},
    },
    text,
};

/// The visibility timeout of the messages that a command receives, in whole seconds. If this program is killed, they stay hidden this
/// long.
const HIDDEN: Duration = Duration::from_secs(120);

/// The wait of a receive. A long poll asks all of SQS's servers. A short poll asks only some, and may return no message although the
/// queue has some.
const WAIT: Duration = Duration::from_secs(1);

/// Moves everything in the dead-letter queue back to the queue, and shows the progress until SQS is done. A signal cancels the move. With
/// `dry_run`, only prints what it would do. Returns `false` if the move was cancelled.
///
/// # Errors
/// When there is no dead-letter queue, a move is running already, SQS refuses the move, or the move fails.
pub async fn redrive(config: &Config, dry_run: bool, max_rate: Option<u32>, signals: &Signals) -> Result<bool> {
    let queues = Queues::open(config, None).await?;
    let earlier = queues.or_queue_error(queues.main.moves(&queues.failed_arn).await)?;
    refuse_if_moving(&earlier)?;
    if !announce(&queues, dry_run, max_rate) {
        return Ok(true);
    }
    let stop = signals.drain(Duration::ZERO, "cancelling the move; what was moved stays moved");
    let handle = match queues.main.start_move(&queues.failed_arn, &queues.main_arn, max_rate).await {
        Ok(handle) => handle,
        Err(error) => {
            // Another process may have started a move in the meantime.
            refuse_if_moving(&queues.main.moves(&queues.failed_arn).await.unwrap_or_default())?;
            return queues.or_queue_error(Err(error));
        }
    };
    let before = earlier.iter().map(|task| task.started).max().unwrap_or(0);
    follow_move(&queues, &handle, before, stop).await
}

/// Prints what is moved. Returns whether there is something to move.
fn announce(queues: &Queues, dry_run: bool, max_rate: Option<u32>) -> bool {
    let Queues { failed_arn: arn, main_arn, held, .. } = queues;
    if held.visible + held.in_flight + held.delayed == 0 {
        say(format_args!("{arn} is empty; there is nothing to move"));
        return false;
    }
    let verb = if dry_run { "would move" } else { "moving" };
    say(format_args!("{verb} about {}", count(held.visible, "message")));
    say(format_args!("  from {arn}\n  to   {main_arn}"));
    if let Some(rate) = max_rate {
        say(format_args!("  at most {rate} a second"));
    }
    if held.in_flight > 0 {
        say(format_args!("  {} more are hidden by a receive now, and may not be moved", held.in_flight));
    }
    if dry_run {
        say("nothing was moved (--dry-run)");
    }
    !dry_run
}

/// The main queue, and the queue of failed messages: its dead-letter queue or the queue of undelivered events.
struct Queues {
    main: Queue,
    main_arn: String,
    failed: Queue,
    failed_arn: String,
    /// What the queue of failed messages held at the start.
    held: QueueState,
    /// After how many receives the main queue moves a message there; `None` for the queue of undelivered events.
    max_receive_count: Option<u32>,
}

impl Queues {
    /// Opens the main queue, and the queue at `undelivered` or else the dead-letter queue.
    async fn open(config: &Config, undelivered: Option<&str>) -> Result<Self> {
        let url = &config.queue.url;
        let main = Queue::new(&app::load_aws(Some(url)).await?, url);
        let state = main.state().await.map_err(|error| app::queue_error(&error, url))?;
        if let Some(url) = undelivered {
            let failed = Queue::new(&app::load_aws(Some(url)).await?, url);
            let held = failed.state().await.map_err(|error| app::queue_error(&error, url))?;
            let arn = held.arn.clone();
            return Ok(Self { main, main_arn: state.arn, failed, failed_arn: arn, held, max_receive_count: None });
        }
        let Redrive { dead_letter_arn: arn, max_receive_count } = state.redrive.clone().ok_or_else(|| {
            Misconfigured(format!("the queue {url} has no dead-letter queue: it has no redrive policy that names one"))
        })?;
        let opened = async {
            let failed = main.dead_letter_queue(&arn).await?;
            let held = failed.state().await?;
            Ok::<_, SqsError>((failed, held))
        };
        let (failed, held) = opened.await.map_err(|error| app::queue_error(&error, &arn))?;
        Ok(Self {
            main,
            main_arn: state.arn,
            failed,
            failed_arn: arn,
            held,
            max_receive_count: Some(max_receive_count),
        })
    }

    fn or_queue_error<T>(&self, answer: Result<T, SqsError>) -> Result<T> {
        answer.map_err(|error| app::queue_error(&error, &self.failed_arn))
    }
}

/// Returns an error with the progress if a move is running already.
fn refuse_if_moving(tasks: &[MoveTask]) -> Result<()> {
    let Some(task) = tasks.iter().find(|task| task.status == MoveStatus::Active) else { return Ok(()) };
    let to = task.destination_arn.as_deref().unwrap_or("where each message came from");
    let started = SystemTime::UNIX_EPOCH + Duration::from_millis(task.started.try_into().unwrap_or(0));
    bail!("a move is running already, since {} UTC, to {to}: {}", utc(started), progress(task))
}

/// Shows the progress of the move that started after `before`, until it ends. A signal cancels it.
async fn follow_move(queues: &Queues, handle: &str, before: i64, mut stop: StopSignal) -> Result<bool> {
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut cancelled = None;
    loop {
        tokio::select! {
            _ = second.tick() => {}
            _ = stop.wait_for(Option::is_some), if cancelled.is_none() => {
                let cancel = || queues.main.cancel_move(handle);
                cancelled = Some(cancel.retry(app::start_retries()).when(|error| error.retryable).await);
            }
        }
        let read_tasks = || queues.main.moves(&queues.failed_arn);
        let tasks = read_tasks.retry(app::start_retries()).when(|error| error.retryable).await;
        let tasks = queues.or_queue_error(tasks).context("the move continues, but its progress cannot be read")?;
        // A queue has one move at a time, so the first one after the earlier moves is ours.
        let Some(task) = tasks.into_iter().filter(|task| task.started > before).min_by_key(|task| task.started) else {
            continue;
        };
        let progress = progress(&task);
        show_progress(&progress, task.status != MoveStatus::Active);
        match task.status {
            MoveStatus::Active => {
                // If the task has ended, a failed cancellation does not matter. Here the task still runs.
                if let Some(Err(error)) = cancelled {
                    return queues.or_queue_error(Err(error)).context("the move continues and cannot be cancelled");
                }
            }
            MoveStatus::Completed => {
                say(format_args!("done: {progress}"));
                return Ok(true);
            }
            MoveStatus::Cancelled => {
                say(format_args!("cancelled: {progress}; the rest is still in {}", queues.failed_arn));
                return Ok(false);
            }
            MoveStatus::Failed => {
                let reason = text::line(task.failure.as_deref().unwrap_or("SQS does not say why"), 300);
                bail!("the move failed: {reason}: {progress}; the rest is still in {}", queues.failed_arn);
            }
        }
    }
}

fn progress(task: &MoveTask) -> String {
    let of = task.to_move.map(|to_move| format!(" of about {to_move}")).unwrap_or_default();
    format!("{}{of} moved", task.moved)
}

/// "1 message", "2 messages"
fn count(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// A time in UTC: "2026-11-02 09:14:05"
fn utc(time: SystemTime) -> String {
    let time = OffsetDateTime::from(time);
    format!("{} {:02}:{:02}:{:02}", time.date(), time.hour(), time.minute(), time.second())
}

/// Prints a line about the move. If the reader of standard output is gone (`dlq redrive | head`), the move still continues.
fn say(line: impl Display) {
    let _ = output::print(line);
}

/// Prints a line that the next one replaces on a terminal, unless it is the `last`. Elsewhere each line stays.
fn show_progress(line: &str, last: bool) {
    let mut out = io::stdout().lock();
    let _ = match (out.is_terminal(), last) {
        (true, false) => write!(out, "\r{line}\x1b[K").and_then(|()| out.flush()),
        (true, true) => writeln!(out, "\r{line}\x1b[K"),
        (false, _) => writeln!(out, "{line}"),
    };
}
