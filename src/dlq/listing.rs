//! Shows what a queue of failed messages holds, in groups, without taking a message out of it.
//!
//! A listing receives each message once, which hides it. It makes all messages visible again before it prints a line, even after an
//! error or a signal.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result};
use futures_util::future::join_all;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::{HIDDEN, Queues, WAIT, count, utc};
use crate::{
    alert::Alert,
    config::Config,
    event::Event,
    output,
    route::{RouteDecision, Router},
    shutdown::StopSignal,
    signals::Signals,
    sqs::{BATCH, Message, Queue, QueueState, Receipt, SqsError, Undelivered},
    text,
};

/// A listing ends after this time, well before the messages become visible by themselves: it must not receive a message twice.
const MAX_DURATION: Duration = Duration::from_secs(90);

/// Shows up to `limit` messages of the dead-letter queue, or of the queue at `undelivered`, grouped by kind, service and the reason why
/// they are there, oldest first. Returns `false` if it was interrupted.
///
/// # Errors
/// When there is no dead-letter queue, it cannot be read, or a message could not be put back.
pub async fn list(config: Config, undelivered: Option<&str>, limit: usize, signals: &Signals) -> Result<bool> {
    let queues = Queues::open(&config, undelivered).await?;
    let stop = signals.drain(Duration::ZERO, "stopping: putting back the messages that were read");

    let router = Router::new(config.routes, config.mutes);
    let mut listing = Listing::default();
    let received = receive_all(&queues.failed, limit, &stop, |message| {
        let described = describe(&message.body, message.undelivered.as_ref(), &router, queues.max_receive_count);
        listing.add(message, described);
    })
    .await;
    let receipts = std::mem::take(&mut listing.receipts);
    let put_backs = receipts.iter().map(|receipt| queues.failed.put_back(receipt, Duration::ZERO));
    let put_backs = join_all(put_backs).await;

    let printed = listing.print(&queues.failed_arn, &queues.held, &received);
    queues.or_queue_error(received)?;
    let not_put_back = put_backs.iter().filter(|put_back| put_back.is_err()).count() as u64;
    queues.or_queue_error(put_backs.into_iter().collect::<Result<(), _>>()).with_context(|| {
        format!("{} could not be put back, and may stay hidden for {HIDDEN:?}", count(not_put_back, "message"))
    })?;
    printed?;
    Ok(stop.borrow().is_none())
}

/// Receives until the queue is empty. Returns the reason if it ends before that.
async fn receive_all(
    dlq: &Queue,
    limit: usize,
    stop: &StopSignal,
    mut each: impl FnMut(Message),
) -> Result<Option<String>, SqsError> {
    let deadline = Instant::now() + MAX_DURATION;
    let mut left = limit;
    while left > 0 {
        if stop.borrow().is_some() {
            return Ok(Some("interrupted".into()));
        }
        if Instant::now() > deadline {
            return Ok(Some(format!("it took longer than {MAX_DURATION:?}")));
        }
        // A signal does not cancel the receive: messages that SQS sends to a closed connection stay hidden.
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
type GroupKey = [String; 3];

/// The messages that were read, in groups, and the receipts to put them back.
#[derive(Default)]
struct Listing {
    seen: HashSet<String>,
    groups: HashMap<GroupKey, Group>,
    receipts: Vec<Receipt>,
}

struct Group {
    messages: u64,
    /// When the oldest message was sent. A dead-letter queue keeps the time of the original queue.
    oldest: Option<SystemTime>,
    /// What the oldest message adds to the reason.
    detail: String,
}

impl Listing {
    fn add(&mut self, message: Message, (why, detail): (GroupKey, String)) {
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

    /// Prints the groups, the number of messages, and why not all messages were read.
    fn print(&self, arn: &str, held: &QueueState, received: &Result<Option<String>, SqsError>) -> Result<()> {
        let messages = self.seen.len() as u64;
        let (unseen, hidden) = (held.visible.saturating_sub(messages), held.in_flight);
        if messages + unseen + hidden == 0 {
            return output::print(format_args!("{arn} is empty"));
        }
        if messages == 0 && received.is_err() {
            return Ok(());
        }
        self.rows().iter().try_for_each(output::print)?;
        let mut total = format!("{} in {}", count(messages, "message"), count(self.groups.len() as u64, "group"));
        let end = received.as_ref().map_or(Some("an error"), |end| end.as_deref());
        if let Some(end) = end.filter(|_| unseen > 0) {
            total += &format!("; about {unseen} more were not looked at ({end})");
        }
        if hidden > 0 {
            total += &format!("; about {hidden} more are hidden by another receive");
        }
        output::print(format_args!("{total}, in {arn}"))
    }

    /// A heading and a line for each group, the group with the oldest message first. Empty if there is no group.
    fn rows(&self) -> Vec<String> {
        if self.groups.is_empty() {
            return Vec::new();
        }
        let mut groups: Vec<_> = self.groups.iter().collect();
        groups.sort_by_key(|(why, group)| (group.oldest, *why));
        let row = |([kind, service, why], group): (&GroupKey, &Group)| {
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

/// What a message is about and why it could not be handled, and a detail that differs between messages with the same reason. Shows nothing
/// of a body that is not an event.
fn describe(
    body: &str,
    undelivered: Option<&Undelivered>,
    router: &Router,
    max_receive_count: Option<u32>,
) -> (GroupKey, String) {
    let events = match Event::decode(body) {
        Ok(events) => events,
        Err(error) => {
            let error = error.to_string();
            let (error, place) = error.split_at(error.find(" at line ").unwrap_or(error.len()));
            return (["-".into(), "-".into(), format!("undecodable: {error}")], place.into());
        }
    };
    // If there are several events, the first that would be posted is shown.
    let alerts = events.iter().map(|event| {
        let alert = Alert::from_event(event);
        let time = alert.time.unwrap_or_else(OffsetDateTime::now_utc);
        let decision = router.route(event.value(), time).decide(alert.severity);
        (alert, decision)
    });
    let first = alerts.rev().max_by_key(|(_, decision)| !decision.recipients().is_empty());
    let (alert, decision) = first.expect("a message that is decoded holds an event");
    let unrouted = match decision {
        RouteDecision::Muted(_) => "; a mute holds it",
        RouteDecision::Channels(recipients) if recipients.is_empty() => "; no route takes it now",
        RouteDecision::Channels(_) => "",
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
            None => (format!("the message does not say why it is here{unrouted}"), beside),
        },
    };
    let service = match alert.cluster {
        Some(cluster) if cluster != alert.subject => format!("{cluster}/{}", alert.subject),
        _ => alert.subject,
    };
    ([alert.kind, service, why], detail)
}
