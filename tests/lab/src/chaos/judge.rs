//! What is promised, held against what was recorded in a round. Whatever breaks is told with the story of the message.

use std::collections::HashMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::aws::{Deed, What};
use super::plan::{CHANNELS, Fate};
use super::{End, GRACE, Life, Record, SECRET_KEY, Tally};
use crate::slack::Request;
use crate::worker::Line;

/// An answer may be on its way for so long when the way is closed: what Slack's lateness allows, and a loaded machine.
const ON_ITS_WAY: Duration = Duration::from_millis(600);

/// What must be in no log: a webhook, a key of AWS's, an environment of a container's.
const SECRETS: [&str; 3] = ["/services/", SECRET_KEY, "not-for-slack"];

/// The figures of the round.
///
/// # Errors
/// Everything that broke.
pub(super) fn judge(record: &Record) -> Result<Tally> {
    let court = Court::of(record);
    let mut breaks = Vec::new();
    let mut tally = Tally::of(record);
    for message in 0..record.plan.messages.len() {
        let mut found = court.lost(message, &mut tally);
        found.extend(court.deleted_too_early(message));
        found.extend(court.duplicates(message, &mut tally));
        if let Some(first) = found.first() {
            breaks.push(format!("{}\n{}", found.join("\n"), court.story(message, first)));
        }
    }
    for life in &record.lives {
        breaks.extend(court.ended_badly(life, &mut tally));
        breaks.extend(court.left_hidden(life));
        breaks.extend(court.impatient(life));
    }
    if !record.left.is_empty() {
        breaks.push(format!("the queue did not drain; it still holds {:#?}", record.left));
    }
    if breaks.is_empty() { Ok(tally) } else { bail!("{} promises broken:\n\n{}", breaks.len(), breaks.join("\n\n")) }
}

struct Court<'a> {
    record: &'a Record,
    lives: HashMap<usize, &'a Life>,
    /// Which message each of SQS's numbers is.
    messages: HashMap<u64, usize>,
    /// Of each message and channel: the accepted posts that hold it, in order.
    posts: HashMap<(usize, usize), Vec<&'a Request>>,
}

impl<'a> Court<'a> {
    fn of(record: &'a Record) -> Self {
        let by_body: HashMap<&str, usize> =
            record.plan.messages.iter().enumerate().map(|(index, message)| (message.body.as_str(), index)).collect();
        let received = record.deeds.iter().filter_map(|deed| Some((deed.id, *by_body.get(deed.body.as_deref()?)?)));
        let mut posts: HashMap<_, Vec<_>> = HashMap::new();
        for post in record.posts.iter().filter(|post| post.accepted) {
            let channel = CHANNELS.iter().position(|name| *name == post.webhook).unwrap_or(usize::MAX);
            for (index, message) in record.plan.messages.iter().enumerate() {
                if post.mentions(&message.token) {
                    posts.entry((index, channel)).or_default().push(post);
                }
            }
        }
        let lives = record.lives.iter().map(|life| (life.number, life)).collect();
        Self { record, lives, messages: received.collect(), posts }
    }

    fn posts(&self, message: usize, channel: usize) -> &[&'a Request] {
        self.posts.get(&(message, channel)).map(Vec::as_slice).unwrap_or_default()
    }

    fn deeds(&self, message: usize, what: What) -> impl Iterator<Item = &'a Deed> {
        let of = move |deed: &&Deed| deed.what == what && self.messages.get(&deed.id) == Some(&message);
        self.record.deeds.iter().filter(of)
    }

    /// Every message was posted wherever it was to be, or lies in the dead-letter queue for a reason.
    fn lost(&self, index: usize, tally: &mut Tally) -> Vec<String> {
        let message = &self.record.plan.messages[index];
        let mut breaks = Vec::new();
        let dead = self.record.dead.iter().filter(|body| **body == message.body).count();
        let wanted = if let Fate::Posted(channels) = &message.fate { channels.as_slice() } else { &[] };
        for (channel, name) in CHANNELS.iter().enumerate() {
            match (self.posts(index, channel).first(), wanted.contains(&channel)) {
                (None, true) if dead == 0 => breaks.push(format!("lost: never accepted in channel {name}")),
                (Some(_), false) => breaks.push(format!("posted to channel {name}, which no route says")),
                (Some(post), true) => tally.took(post.at - self.record.sent[index]),
                _ => {}
            }
        }
        if message.fate == Fate::Undecodable {
            tally.count("DLQ: cannot be decoded", dead as u64);
            if dead != message.copies {
                breaks.push(format!("{dead} of {} in the dead-letter queue", message.copies));
            }
            return breaks;
        }
        let mut receives: HashMap<u64, Vec<&Deed>> = HashMap::new();
        self.deeds(index, What::Received).for_each(|deed| receives.entry(deed.id).or_default().push(deed));
        let kept = |receive: &&Deed| !self.settles(receive).any(|settle| settle.what == What::Deleted && settle.acted);
        let used_up = receives.values().filter(|receives| receives.len() >= self.record.plan.max_receives as usize);
        let used_up: Vec<_> = used_up.filter(|receives| receives.last().is_some_and(kept)).collect();
        if dead > used_up.len() {
            breaks.push(format!("in the dead-letter queue with receives left: {:?}", receives.values()));
        }
        for receives in used_up.iter().take(dead) {
            tally.count("DLQ: all receives used up", 1);
            for receive in *receives {
                match self.fate_of(receive) {
                    Some(fate) => tally.count(&format!("DLQ: a receive used up: {fate}"), 1),
                    None => breaks
                        .push(format!("in the dead-letter queue after receive {}, for no reason", receive.receive)),
                }
            }
        }
        breaks
    }

    /// Why a receive did not end in a delete.
    fn fate_of(&self, receive: &Deed) -> Option<&'static str> {
        if let Some(fault) = receive.fault {
            return Some(fault);
        }
        if let Some(settled) = self.settles(receive).next_back() {
            return settled.fault.or((settled.what == What::PutBack).then_some("put back"));
        }
        self.crashed(receive.by).map(|_| "crash")
    }

    /// Each time that the receiver asked for what it had received to be settled.
    fn settles(&self, receive: &Deed) -> impl DoubleEndedIterator<Item = &'a Deed> {
        let which = (receive.by, receive.id, receive.receive);
        let same = move |deed: &&Deed| deed.what != What::Received && (deed.by, deed.id, deed.receive) == which;
        self.record.deeds.iter().filter(same)
    }

    fn crashed(&self, life: usize) -> Option<Instant> {
        let life = self.lives.get(&life)?;
        (!matches!(life.end, End::Stopped(Some(0), _))).then_some(life.ended)
    }

    /// Nothing is deleted before Slack said to the same process, for each channel, that it has it.
    fn deleted_too_early(&self, index: usize) -> Vec<String> {
        let fate = &self.record.plan.messages[index].fate;
        let mut breaks = Vec::new();
        for delete in self.deeds(index, What::Deleted) {
            let by = super::app(delete.by);
            let mut missing = Vec::new();
            match fate {
                Fate::Unrouted => {}
                Fate::Undecodable => missing.push("any channel"),
                Fate::Posted(channels) => missing.extend(channels.iter().filter_map(|channel| {
                    let said = |post: &&Request| post.app == by && said_so(post) && post.at <= delete.at;
                    (!self.posts(index, *channel).iter().any(said)).then_some(CHANNELS[*channel])
                })),
            }
            breaks.extend(missing.into_iter().map(|channel| {
                format!("{} deletes it before Slack told it that it is posted in {channel}", delete.by)
            }));
        }
        breaks
    }

    /// Whatever was posted again was so for a reason.
    fn duplicates(&self, index: usize, tally: &mut Tally) -> Vec<String> {
        let mut breaks = Vec::new();
        for (channel, name) in CHANNELS.iter().enumerate() {
            let posts = self.posts(index, channel);
            tally.count("posted (event, channel)", posts.len().min(1) as u64);
            for (place, post) in posts.iter().enumerate().skip(1) {
                match self.why_again(index, &posts[..place], post) {
                    Some(why) => tally.count(&format!("duplicate: {why}"), 1),
                    None => breaks.push(format!("posted again in channel {name} for no reason, by {}", life_of(post))),
                }
            }
        }
        breaks
    }

    /// Why `post` repeats what stands in `earlier`: how its sender came to the message, though another had posted it.
    fn why_again(&self, index: usize, earlier: &[&Request], post: &Request) -> Option<&'static str> {
        let by = life_of(post);
        if let Some(own) = earlier.iter().rev().find(|earlier| earlier.app == post.app) {
            // It remembers what Slack accepted.
            return self.unheard(own);
        }
        let posted = |life: usize| earlier.iter().rev().find(|earlier| life_of(earlier) == life);
        let receives = self.deeds(index, What::Received).filter(|receive| receive.by == by && receive.at <= post.at);
        let mut copies = false;
        for receive in receives {
            let before = self
                .deeds(index, What::Received)
                .filter(|other| other.id == receive.id && other.receive < receive.receive);
            let holders = before.filter(|other| other.by != by && posted(other.by).is_some());
            copies |=
                self.deeds(index, What::Received).any(|other| other.id != receive.id && posted(other.by).is_some());
            for holder in holders {
                let theirs = posted(holder.by)?;
                if let Some(why) = self.unheard(theirs) {
                    return Some(why);
                }
                let settles: Vec<_> = self.settles(holder).collect();
                let done = settles.last().filter(|last| last.what == What::PutBack);
                if done.is_some_and(|put_back| self.lacks_another_channel(index, holder.by, put_back.at)) {
                    return Some("another of its channels failed, and another process has it now");
                }
                if let Some(fault) =
                    settles.iter().filter(|settle| settle.at <= receive.at).find_map(|settle| settle.fault)
                {
                    return Some(fault);
                }
                if self.crashed(holder.by).is_some_and(|at| at <= post.at) {
                    return Some("crash");
                }
                let visibility = Duration::from_secs(self.record.plan.visibility);
                if receive.at >= holder.at + visibility && settles.iter().all(|settle| settle.at > receive.at) {
                    return Some(holder.fault.unwrap_or("visibility time-out"));
                }
            }
        }
        copies.then_some("EventBridge sent it twice, to two processes")
    }

    /// Whether the sender's log, which tells of every answer as it was understood, has this of the post: its answer comes
    /// after it; on a loaded machine a request may be read only after its sender gave up, so much `earlier`.
    fn heard(&self, post: &Request, answer: &str, earlier: Duration) -> bool {
        let (instant, clock) = self.record.clocks;
        let time = |post: &Request| clock - (instant - post.at);
        // It posts to a channel once at a time, so what it hears before the next post is about this one.
        let next = |next: &&Request| next.at > post.at && (&next.app, &next.webhook) == (&post.app, &post.webhook);
        let next = self.record.posts.iter().find(next).map(time);
        let is_it = |line: &Line| {
            let at = line.json["timestamp"].as_str().and_then(|at| OffsetDateTime::parse(at, &Rfc3339).ok());
            line.message() == "posted"
                && line.field("channel") == post.webhook.as_str()
                && line.field("answer").as_str().is_some_and(|said| said.contains(answer))
                && at.is_some_and(|at| at >= time(post) - earlier && next.is_none_or(|next| at < next))
        };
        self.lives.get(&life_of(post)).is_some_and(|life| life.lines.iter().any(is_it))
    }

    /// Why the sender did not hear that the post was accepted, if so.
    fn unheard(&self, post: &Request) -> Option<&'static str> {
        if self.heard(post, "accepted", Duration::ZERO) {
            return None;
        }
        let closed = |at: &Instant| *at >= post.at && *at <= post.at + ON_ITS_WAY;
        let earlier = Duration::from_secs(3);
        if post.status.is_none() || self.record.closed.iter().any(closed) {
            Some("Slack's answer was lost")
        } else if self.heard(post, "drain ended", earlier) {
            Some("the drain ended before Slack answered")
        } else if self.heard(post, "no answer within", earlier) {
            Some("Slack's answer came too late")
        } else {
            self.lives.get(&life_of(post)).filter(|life| life.end == End::Killed).map(|_| "crash")
        }
    }

    fn lacks_another_channel(&self, index: usize, life: usize, at: Instant) -> bool {
        let Fate::Posted(channels) = &self.record.plan.messages[index].fate else { return false };
        let app = super::app(life);
        let has = |post: &&Request| post.app == app && post.at <= at && self.unheard(post).is_none();
        channels.iter().any(|channel| !self.posts(index, *channel).iter().any(&has))
    }

    /// Who is asked to stop does so in time, and cleanly; nobody ends by itself; no log tells a secret or of a panic.
    fn ended_badly(&self, life: &Life, tally: &mut Tally) -> Vec<String> {
        let mut breaks = Vec::new();
        let lines = || life.lines.iter().map(|line| format!("\n  {}", line.text)).collect::<String>();
        match life.end {
            End::Killed => {}
            // It ends with 1 once the grace has passed by its own clock; the rest is for a loaded machine.
            End::Stopped(Some(0), took) if took <= 2 * GRACE => {}
            // Before it could hear the signal, it had not begun.
            End::Stopped(None, _) if life.lines.is_empty() => {}
            End::Stopped(Some(1), _) if self.could_not_settle(life) => {
                tally.count("SIGTERM: exit code 1, because AWS would not settle all within the grace", 1);
            }
            end => breaks.push(format!("{}: {end:?}; it wrote:{}", life.number, lines())),
        }
        for line in &life.lines {
            if let Some(secret) = SECRETS.iter().find(|secret| line.text.contains(**secret)) {
                breaks.push(format!("{} tells {secret:?}: {}", life.number, line.text));
            }
            if line.text.contains("panicked") || line.text.contains("a poller died") {
                breaks.push(format!("{} panics: {}", life.number, line.text));
            }
        }
        breaks
    }

    /// Whether AWS failed a request of the drain's, without which it cannot be clean.
    fn could_not_settle(&self, life: &Life) -> bool {
        let late = |deed: &&Deed| deed.by == life.number && deed.at + GRACE + Duration::from_millis(100) >= life.ended;
        self.record.deeds.iter().filter(late).any(|deed| deed.what != What::Received && deed.fault.is_some())
    }

    /// Who stopped cleanly has settled everything that it received.
    fn left_hidden(&self, life: &Life) -> Option<String> {
        if life.end == End::Killed || self.crashed(life.number).is_some() {
            return None;
        }
        let received = self.record.deeds.iter().filter(|deed| deed.what == What::Received && deed.by == life.number);
        let left = received.filter(|deed| deed.fault.is_none() && self.settles(deed).next().is_none());
        let left: Vec<String> =
            left.filter_map(|deed| Some(self.story(*self.messages.get(&deed.id)?, "hidden"))).collect();
        (!left.is_empty()).then(|| format!("{} stopped, and left hidden:\n{}", life.number, left.join("\n")))
    }

    /// Nobody posts while a Retry-After that it was told has not passed.
    fn impatient(&self, life: &Life) -> Vec<String> {
        let app = super::app(life.number);
        let mut until: HashMap<&str, Instant> = HashMap::new();
        let mut breaks = Vec::new();
        for post in self.record.posts.iter().filter(|post| post.app == app) {
            if let Some(until) = until.get(post.webhook.as_str()).filter(|until| post.at < **until) {
                let early = *until - post.at;
                breaks
                    .push(format!("{} posts to {} {early:?} before Retry-After has passed", life.number, post.webhook));
            }
            let told = || ["rate limited", "answered 503"].iter().any(|said| self.heard(post, said, Duration::ZERO));
            if let Some(seconds) = post.retry_after.filter(|_| told()) {
                until.insert(&post.webhook, post.at + Duration::from_secs(seconds));
            }
        }
        breaks
    }

    /// Everything that happened to a message, in order, and what they who met it wrote.
    fn story(&self, index: usize, why: &str) -> String {
        let message = &self.record.plan.messages[index];
        let sent = self.record.sent.get(index).copied().unwrap_or_else(Instant::now);
        let mut story = vec![(sent, format!("sent {} times: {:?}", message.copies, message.fate))];
        for deed in self.record.deeds.iter().filter(|deed| self.messages.get(&deed.id) == Some(&index)) {
            let acted = if deed.acted { "" } else { ", in vain" };
            let fault = deed.fault.map(|fault| format!(" ({fault})")).unwrap_or_default();
            let Deed { by, what, id, receive, .. } = deed;
            story.push((deed.at, format!("{by}: {what:?} message {id}, receive {receive}{acted}{fault}")));
        }
        for post in self.record.posts.iter().filter(|post| post.mentions(&message.token)) {
            let Request { webhook, status, reply, accepted, .. } = post;
            let accepted = if *accepted { "accepted" } else { "not accepted" };
            let by = life_of(post);
            story.push((post.at, format!("{by}: posts to {webhook}: {accepted}, answered {status:?} {reply:?}")));
        }
        // Writing to a string does not fail.
        let mut log = String::new();
        for life in &self.record.lives {
            let met = |deed: &Deed| deed.by == life.number && self.messages.get(&deed.id) == Some(&index);
            if self.record.deeds.iter().any(met) {
                story.push((life.ended, format!("{}: {:?}", life.number, life.end)));
                let tells = |text: &str| text.contains(&message.token) || !text.contains("settled");
                for line in life.lines.iter().filter(|line| tells(&line.text)) {
                    let _ = write!(log, "\n  {}: {}", life.number, line.text);
                }
            }
        }
        story.extend(self.record.closed.iter().map(|at| (*at, "the way to Slack is closed".to_owned())));
        story.sort_by_key(|(at, _)| *at);
        let mut text = format!("{} ({why}), time in seconds since it was sent, processes by number:", message.token);
        for (at, what) in story {
            let time = (at - sent).as_secs_f64() - (sent - at).as_secs_f64();
            let _ = write!(text, "\n  {time:8.3} {what}");
        }
        text + &log
    }
}

/// Whether Slack said, to the end, that it accepted the post.
fn said_so(post: &Request) -> bool {
    post.status == Some(200) && post.accepted
}

fn life_of(post: &Request) -> usize {
    post.app.trim_start_matches('B').parse().unwrap_or_default()
}
