//! What an operator does about the dead-letter queue: see what lies in it and why ([`list`]), and move it back
//! ([`redrive`]; [`resend`] for the queue of what EventBridge could not deliver).
//!
//! Neither takes anything out of the world. A listing hides the messages that it looks at, each once, and makes them visible
//! again before it says a word, however it ended; a move is SQS's own, which loses nothing when this program dies.

use std::{
    collections::{HashMap, HashSet},
    fmt::Display,
    io::{self, IsTerminal, Write},
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, bail};
use backon::Retryable;
use futures_util::future::join_all;
use time::OffsetDateTime;
use tokio::time::{Instant, MissedTickBehavior, interval};

mod resend;

pub use resend::resend;

use crate::{
    alert::Alert,
    app::{self, Misconfigured},
    config::Config,
    event::Event,
    output,
    route::{Destination, Router},
    shutdown::Stop,
    signals::Signals,
    sqs::{
        BATCH, Message, Queue, QueueState, Receipt, Redrive, SqsError, Undelivered,
        move_task::{MoveStatus, MoveTask},
    },
    text,
};

/// How long what a listing looks at is hidden, should this program die. SQS counts whole seconds.
const HIDDEN: Duration = Duration::from_secs(120);

/// After this a listing ends, while there is time to give back what it holds: a message must not come twice.
const MAX_LOOK: Duration = Duration::from_secs(90);

/// A long poll asks every server of SQS's, a short one only some: without a wait, an empty answer says little.
const WAIT: Duration = Duration::from_secs(1);

/// Shows up to `limit` messages of the dead-letter queue, or of the queue at `undelivered`, grouped by kind, service and the
/// reason they lie there, oldest first. `false` when it was interrupted.
///
/// # Errors
/// When there is no dead-letter queue, it cannot be read, or not everything could be given back.
pub async fn list(config: Config, undelivered: Option<&str>, limit: usize, signals: &Signals) -> Result<bool> {
    let source = Source::open(&config, undelivered).await?;
    let stop = signals.drain(Duration::ZERO, "stopping: giving back what was looked at");

    let router = Router::new(config.routes, config.mutes);
    let mut listing = Listing::default();
    let looked = look(&source.letters, limit, &stop, |message| {
        let told = describe(&message.body, message.undelivered.as_ref(), &router, source.max_receive_count);
        listing.add(message, told);
    })
    .await;
    let receipts = std::mem::take(&mut listing.receipts);
    let put_backs = receipts.iter().map(|receipt| source.letters.put_back(receipt, Duration::ZERO));
    let put_backs = join_all(put_backs).await;

    let printed = listing.print(&source.arn, &source.held, &looked);
    source.explained(looked)?;
    let failed = put_backs.iter().filter(|put_back| put_back.is_err()).count() as u64;
    source.explained(put_backs.into_iter().collect::<Result<(), _>>()).with_context(|| {
        format!("{} could not be given back, and may stay hidden for {HIDDEN:?}", count(failed, "message"))
    })?;
    printed?;
    Ok(stop.borrow().is_none())
}

/// Moves everything in the dead-letter queue back to the queue, and shows the progress until SQS is done; a signal cancels
/// it. With `dry_run`, only says what it would do. `false` when it was cancelled.
///
/// # Errors
/// When there is no dead-letter queue, a move runs already, SQS refuses, or the move failed.
pub async fn redrive(config: &Config, dry_run: bool, max_rate: Option<u32>, signals: &Signals) -> Result<bool> {
    let source = Source::open(config, None).await?;
    let earlier = source.explained(source.main.moves(&source.arn).await)?;
    refuse_second(&earlier)?;
    if !announce(&source, dry_run, max_rate) {
        return Ok(true);
    }
    let stop = signals.drain(Duration::ZERO, "cancelling the move; what was moved stays moved");
    let handle = match source.main.start_move(&source.arn, &source.main_arn, max_rate).await {
        Ok(handle) => handle,
        Err(error) => {
            // Somebody else may have been quicker.
            refuse_second(&source.main.moves(&source.arn).await.unwrap_or_default())?;
            return source.explained(Err(error));
        }
    };
    let before = earlier.iter().map(|task| task.started).max().unwrap_or(0);
    follow(&source, &handle, before, stop).await
}

/// Says what is to be moved; whether it is to be.
fn announce(source: &Source, dry_run: bool, max_rate: Option<u32>) -> bool {
    let Source { arn, main_arn, held, .. } = source;
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
        say(format_args!("  {} more are hidden by a receive now, and may stay", held.in_flight));
    }
    if dry_run {
        say("nothing was moved (--dry-run)");
    }
    !dry_run
}

/// A queue of what was not handled, and the main queue.
struct Source {
    main: Queue,
    main_arn: String,
    letters: Queue,
    arn: String,
    /// What it held at first.
    held: QueueState,
    /// Receives after which the main queue sends a message there; none if it never does.
    max_receive_count: Option<u32>,
}

impl Source {
    /// The dead-letter queue, or the queue at `undelivered`.
    async fn open(config: &Config, undelivered: Option<&str>) -> Result<Self> {
        let url = &config.queue.url;
        let main = Queue::new(&app::load_aws(Some(url)).await?, url);
        let state = main.state().await.map_err(|error| app::explain(&error, url))?;
        if let Some(url) = undelivered {
            let letters = Queue::new(&app::load_aws(Some(url)).await?, url);
            let held = letters.state().await.map_err(|error| app::explain(&error, url))?;
            let arn = held.arn.clone();
            return Ok(Self { main, main_arn: state.arn, letters, arn, held, max_receive_count: None });
        }
        let Redrive { dead_letter_arn: arn, max_receive_count } = state.redrive.clone().ok_or_else(|| {
            Misconfigured(format!("the queue {url} has no dead-letter queue: it has no redrive policy that names one"))
        })?;
        let opened = async {
            let letters = main.dead_letter_queue(&arn).await?;
            let held = letters.state().await?;
            Ok::<_, SqsError>((letters, held))
        };
        let (letters, held) = opened.await.map_err(|error| app::explain(&error, &arn))?;
        Ok(Self { main, main_arn: state.arn, letters, arn, held, max_receive_count: Some(max_receive_count) })
    }

    fn explained<T>(&self, answer: Result<T, SqsError>) -> Result<T> {
        answer.map_err(|error| app::explain(&error, &self.arn))
    }
}

/// Receives until there is nothing more; or else, why it ended before.
async fn look(
    dlq: &Queue,
    limit: usize,
    stop: &Stop,
    mut each: impl FnMut(Message),
) -> Result<Option<String>, SqsError> {
    let deadline = Instant::now() + MAX_LOOK;
    let mut left = limit;
    while left > 0 {
        if stop.borrow().is_some() {
            return Ok(Some("interrupted".into()));
        }
        if Instant::now() > deadline {
            return Ok(Some(format!("it took longer than {MAX_LOOK:?}")));
        }
        // Not cancelled by a signal: what SQS hands to a dropped connection stays hidden.
        let messages = dlq.receive(left.min(BATCH), HIDDEN, WAIT).await?;
        if messages.is_empty() {
            return Ok(None);
        }
        left = left.saturating_sub(messages.len());
        messages.into_iter().for_each(&mut each);
    }
    Ok(Some(format!("--limit {limit}")))
}

/// A group's kind, service and reason.
type Why = [String; 3];

/// What was seen, and what is to be given back.
#[derive(Default)]
struct Listing {
    seen: HashSet<String>,
    groups: HashMap<Why, Group>,
    receipts: Vec<Receipt>,
}

struct Group {
    messages: u64,
    /// When the oldest was sent: a dead-letter queue keeps the time of the first queue.
    oldest: Option<SystemTime>,
    /// What the oldest has to add to the reason.
    detail: String,
}

impl Listing {
    fn add(&mut self, message: Message, (why, detail): (Why, String)) {
        self.receipts.push(message.receipt);
        // SQS may deliver a message twice.
        if !self.seen.insert(message.id) {
            return;
        }
        let (messages, oldest) = (0, message.sent);
        let group = self.groups.entry(why).or_insert_with(|| Group { messages, oldest, detail: detail.clone() });
        group.messages += 1;
        if message.sent < group.oldest {
            (group.oldest, group.detail) = (message.sent, detail);
        }
    }

    /// Prints the groups, how many messages there are, and why not all were looked at.
    fn print(&self, arn: &str, held: &QueueState, looked: &Result<Option<String>, SqsError>) -> Result<()> {
        let messages = self.seen.len() as u64;
        let (unseen, hidden) = (held.visible.saturating_sub(messages), held.in_flight);
        if messages + unseen + hidden == 0 {
            return output::print(format_args!("{arn} is empty"));
        }
        if messages == 0 && looked.is_err() {
            return Ok(());
        }
        self.rows().iter().try_for_each(output::print)?;
        let mut total = format!("{} in {}", count(messages, "message"), count(self.groups.len() as u64, "group"));
        let end = looked.as_ref().map_or(Some("an error"), |end| end.as_deref());
        if let Some(end) = end.filter(|_| unseen > 0) {
            total += &format!("; about {unseen} more were not looked at ({end})");
        }
        if hidden > 0 {
            total += &format!("; about {hidden} more are hidden by another receive");
        }
        output::print(format_args!("{total}, in {arn}"))
    }

    /// A heading and a line for each group, the one with the oldest message first; nothing without a group.
    fn rows(&self) -> Vec<String> {
        if self.groups.is_empty() {
            return Vec::new();
        }
        let mut groups: Vec<_> = self.groups.iter().collect();
        groups.sort_by_key(|(why, group)| (group.oldest, *why));
        let row = |([kind, service, why], group): (&Why, &Group)| {
            let oldest = group.oldest.map_or_else(|| "-".into(), utc);
            let why = text::line(&format!("{why}{}", group.detail), 300);
            [oldest, group.messages.to_string(), text::line(kind, 60), text::line(service, 80), why]
        };
        let heading = ["OLDEST (UTC)", "COUNT", "KIND", "SERVICE", "WHY"].map(String::from);
        let table: Vec<_> = std::iter::once(heading).chain(groups.into_iter().map(row)).collect();
        let widths = |[a, b, c, d, _]: &[String; 5]| [a, b, c, d].map(|cell| cell.chars().count());
        let widest = |[a, b, c, d]: [usize; 4], [e, f, g, h]: [usize; 4]| [a.max(e), b.max(f), c.max(g), d.max(h)];
        let [w, x, y, z] = table.iter().map(widths).fold([0; 4], widest);
        table.iter().map(|[a, b, c, d, e]| format!("{a:w$}  {b:>x$}  {c:y$}  {d:z$}  {e}")).collect()
    }
}

/// What a message is about and why it could not be handled, and what differs from message to message of the same reason.
/// Tells nothing of a body that is no event.
fn describe(
    body: &str,
    undelivered: Option<&Undelivered>,
    router: &Router,
    max_receive_count: Option<u32>,
) -> (Why, String) {
    let events = match Event::decode(body) {
        Ok(events) => events,
        Err(error) => {
            let error = error.to_string();
            let (error, place) = error.split_at(error.find(" at line ").unwrap_or(error.len()));
            return (["-".into(), "-".into(), format!("undecodable: {error}")], place.into());
        }
    };
    // Of several events, the first that anybody would hear of.
    let alerts = events.iter().map(|event| {
        let alert = Alert::from_event(event);
        let time = alert.time.unwrap_or_else(OffsetDateTime::now_utc);
        let destination = router.route(event.value(), time).destination(alert.severity);
        (alert, destination)
    });
    let first = alerts.rev().max_by_key(|(_, destination)| !destination.recipients().is_empty());
    let (alert, destination) = first.expect("a message that is decoded holds an event");
    let unrouted = match destination {
        Destination::Muted(_) => "; a mute holds it",
        Destination::Channels(recipients) if recipients.is_empty() => "; no route takes it now",
        Destination::Channels(_) => "",
    };
    let beside = match events.len() as u64 - 1 {
        0 => String::new(),
        others => format!("; with {} in the same message", count(others, "other event")),
    };
    let (why, detail) = match undelivered {
        Some(Undelivered { code, message, rule_arn }) => {
            let rule = rule_arn.as_deref().and_then(|arn| arn.rsplit('/').next());
            let rule = rule.map(|rule| format!(" for rule {rule}")).unwrap_or_default();
            let detail = message.as_deref().map(|message| format!(" ({message}){beside}")).unwrap_or(beside);
            (format!("EventBridge could not deliver it: {code}{rule}{unrouted}"), detail)
        }
        None => match max_receive_count {
            Some(receives) => (format!("not posted within {receives} receives{unrouted}"), beside),
            None => (format!("it does not say why it is here{unrouted}"), beside),
        },
    };
    let service = match alert.cluster {
        Some(cluster) if cluster != alert.subject => format!("{cluster}/{}", alert.subject),
        _ => alert.subject,
    };
    ([alert.kind, service, why], detail)
}

/// When a move runs already: an error that tells how far it is.
fn refuse_second(tasks: &[MoveTask]) -> Result<()> {
    let Some(task) = tasks.iter().find(|task| task.status == MoveStatus::Active) else { return Ok(()) };
    let to = task.destination_arn.as_deref().unwrap_or("where each message came from");
    let started = SystemTime::UNIX_EPOCH + Duration::from_millis(task.started.try_into().unwrap_or(0));
    bail!("a move is running already, since {} UTC, to {to}: {}", utc(started), progress(task))
}

/// Shows how far the move is that began after `before`, until it has ended. A signal cancels it.
async fn follow(source: &Source, handle: &str, before: i64, mut stop: Stop) -> Result<bool> {
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut cancelled = None;
    loop {
        tokio::select! {
            _ = second.tick() => {}
            _ = stop.wait_for(Option::is_some), if cancelled.is_none() => {
                let cancel = || source.main.cancel_move(handle);
                cancelled = Some(cancel.retry(app::start_retries()).when(|error| error.retryable).await);
            }
        }
        let look = || source.main.moves(&source.arn);
        let tasks = look.retry(app::start_retries()).when(|error| error.retryable).await;
        let tasks = source.explained(tasks).context("the move goes on, but cannot be watched")?;
        // A queue has one at a time, so that the first to begin after the others is ours.
        let Some(task) = tasks.into_iter().filter(|task| task.started > before).min_by_key(|task| task.started) else {
            continue;
        };
        let progress = progress(&task);
        show(&progress, task.status != MoveStatus::Active);
        match task.status {
            MoveStatus::Active => {
                // Only here is that a failure: a task that has ended meanwhile cannot be cancelled.
                if let Some(Err(error)) = cancelled {
                    return source.explained(Err(error)).context("the move goes on, and cannot be cancelled");
                }
            }
            MoveStatus::Completed => {
                say(format_args!("done: {progress}"));
                return Ok(true);
            }
            MoveStatus::Cancelled => {
                say(format_args!("cancelled: {progress}; the rest is still in {}", source.arn));
                return Ok(false);
            }
            MoveStatus::Failed => {
                let reason = text::line(task.failure.as_deref().unwrap_or("SQS does not say why"), 300);
                bail!("the move failed: {reason}: {progress}; the rest is still in {}", source.arn);
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

/// 2026-11-02 09:14:05
fn utc(time: SystemTime) -> String {
    let time = OffsetDateTime::from(time);
    format!("{} {:02}:{:02}:{:02}", time.date(), time.hour(), time.minute(), time.second())
}

/// A line about the move. Whoever read it may be gone (`dlq redrive | head`), which is no reason to leave the work half done.
fn say(line: impl Display) {
    let _ = output::print(line);
}

/// A line that the next one replaces, unless it is the `last`; off a terminal, one more line.
fn show(line: &str, last: bool) {
    let mut out = io::stdout().lock();
    let _ = match (out.is_terminal(), last) {
        (true, false) => write!(out, "\r{line}\x1b[K").and_then(|()| out.flush()),
        (true, true) => writeln!(out, "\r{line}\x1b[K"),
        (false, _) => writeln!(out, "{line}"),
    };
}
