//! What is promised of incidents: what is reported twice is so for a reason, an incident has one root, and its end is shown.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{CHANNELS, Channel, Court, Fate, Life, Record, Request, Tally, What, life_of, read_time};
use crate::slack::mentions;

/// A record is written at once after Slack's answer. So long after a post a crash may still have come before that, on a loaded
/// machine.
const UNTIL_RECORDED: Duration = Duration::from_secs(1);
/// A lease lasts so long. Who cannot extend it for want of the table may lose it while it waits for Slack.
const LEASE: Duration = Duration::from_secs(10);

impl<'a> Court<'a> {
    /// Each post that repeats what its channel already has was posted for a reason.
    pub(super) fn duplicates(&self, index: usize, tally: &mut Tally) -> Vec<String> {
        let service = &self.record.plan.services[index];
        let mut breaks = Vec::new();
        for (channel, Channel { name, .. }) in CHANNELS.iter().enumerate() {
            let of = |is_recovery: bool| -> Vec<&Request> {
                let posts = self.posts(index, channel).iter();
                posts.filter(|post| is_green(&post.payload) == is_recovery).copied().collect()
            };
            for (posts, news) in [(of(false), service.news), (of(true), 1)] {
                tally.count(&format!("reported, {}", self.store()), posts.len().min(news) as u64);
                for (place, post) in posts.iter().enumerate().skip(news) {
                    match self.why_again(index, channel, news, &posts[..place], post) {
                        Some(why) => tally.count(&format!("duplicate, {}: {why}", self.store()), 1),
                        None => breaks.push(format!("again in channel {name} for no reason, by {}", life_of(post))),
                    }
                }
            }
        }
        breaks
    }

    /// Only for a reason has an incident two roots.
    pub(super) fn opened_twice(&self, index: usize, tally: &mut Tally) -> Vec<String> {
        let mut breaks = Vec::new();
        for (channel, Channel { name, .. }) in CHANNELS.iter().enumerate().filter(|(_, channel)| channel.id.is_some()) {
            let roots: Vec<&Request> =
                self.posts(index, channel).iter().filter(|post| post.thread_ts.is_none()).copied().collect();
            tally.count("incidents by a bot", roots.len().min(1) as u64);
            for (place, root) in roots.iter().enumerate().skip(1) {
                match self.why_again(index, channel, 1, &roots[..place], root) {
                    Some(why) => tally.count(&format!("second root, {}: {why}", self.store()), 1),
                    None => breaks.push(format!("opened again in channel {name} for no reason, by {}", life_of(root))),
                }
            }
        }
        breaks
    }

    /// A service whose last event is its recovery is shown as recovered wherever its trouble was.
    pub(super) fn shown_as_over(&self, index: usize, tally: &mut Tally) -> Vec<String> {
        let service = &self.record.plan.services[index];
        let Some(&recovery) = service.messages.iter().find(|message| self.message(**message).fate == Fate::Recovery)
        else {
            return Vec::new();
        };
        if self.record.dead.contains(&self.message(recovery).body) {
            return Vec::new();
        }
        let mut breaks = Vec::new();
        for &channel in &service.channels {
            let posts = self.posts(index, channel);
            let Some(last) = posts.last() else { continue };
            if self.is_shown_as_over(&service.token, channel, last) {
                tally.count(&format!("recovery shown, {}", self.store()), 1);
                continue;
            }
            match self.why_not_over(recovery, posts) {
                Some(why) => tally.count(&format!("recovery not shown, {}: {why}", self.store()), 1),
                None => breaks.push(format!("not shown as recovered in channel {}", CHANNELS[channel].name)),
            }
        }
        breaks
    }

    /// Counts what the processes say that became of messages.
    pub(super) fn count_outcomes(&self, tally: &mut Tally) {
        for line in self.record.lives.iter().flat_map(|life| &life.lines).filter(|line| line.message() == "settled") {
            if let Some(outcome @ ("folded" | "duplicate")) = line.field("outcome").as_str() {
                tally.count(&format!("settled as {outcome}, {}", self.store()), 1);
            }
        }
    }

    /// By webhook its last message says so; by a bot the last root does, or, if that is a digest, the last reply to it.
    fn is_shown_as_over(&self, token: &str, channel: usize, last: &Request) -> bool {
        let Some(shown) = self.record.shown.get(&channel) else { return is_green(&last.payload) };
        let mut about = shown.iter().filter(|message| mentions(&message.payload, token));
        let Some(root) = about.clone().rfind(|message| message.thread_ts.is_none()) else { return false };
        let reply = about.rfind(|message| message.thread_ts.as_ref() == Some(&root.ts));
        is_green(&root.payload) || reply.is_some_and(|reply| is_green(&reply.payload))
    }

    /// Why the end is not shown: who learned of it did not know of the trouble.
    fn why_not_over(&self, recovery: usize, posts: &[&Request]) -> Option<&'static str> {
        let mut learned = self.deeds(recovery, What::Received).map(|deed| deed.by);
        if !self.record.plan.has_table {
            let deleted = self.deeds(recovery, What::Deleted).filter(|deed| deed.acted).last()?.by;
            let last = life_of(posts.last()?);
            return (deleted != last).then_some("another process has learned of it");
        }
        let knew_nothing = |life: usize| self.outages.get(&life).is_some_and(|outages| !outages.is_empty());
        let is_cut_off = learned.any(knew_nothing) || posts.iter().any(|post| knew_nothing(life_of(post)));
        is_cut_off.then_some("the table did not answer")
    }

    /// Why `post` repeats in a channel what `earlier` said.
    fn why_again(
        &self,
        index: usize,
        channel: usize,
        news: usize,
        earlier: &[&'a Request],
        post: &Request,
    ) -> Option<&'static str> {
        let service = &self.record.plan.services[index];
        if self.record.plan.has_table && !service.is_strange {
            // What is recorded everybody knows; each post that is not explains one more.
            let unrecorded: Vec<&str> = earlier.iter().filter_map(|earlier| self.unrecorded(earlier)).collect();
            let is_unknown = earlier.len() - unrecorded.len() < news;
            let cut_off = || self.is_cut_off(post, Duration::ZERO).then_some("the table did not answer");
            return unrecorded.last().copied().filter(|_| is_unknown).or_else(cut_off);
        }
        let own: Vec<&Request> = earlier.iter().filter(|earlier| earlier.app == post.app).copied().collect();
        if own.len() >= news {
            // It remembers what Slack accepted.
            return own.iter().find_map(|own| self.unheard(own));
        }
        match service.messages.as_slice() {
            &[message] => self.why_another(message, channel, earlier, post),
            _ => Some("another process knows of the incident"),
        }
    }

    /// Why the table does not know of a post, if so.
    fn unrecorded(&self, post: &Request) -> Option<&'static str> {
        let crashed = self.crashed(life_of(post)).is_some_and(|at| at <= post.at + UNTIL_RECORDED);
        let cut_off = || self.is_cut_off(post, UNTIL_RECORDED).then_some("the table did not answer");
        self.unheard(post).or(crashed.then_some("crash")).or_else(cut_off)
    }

    /// Whether the table did not answer the sender, from when it decided to post until so long after.
    fn is_cut_off(&self, post: &Request, until: Duration) -> bool {
        let outages = self.outages.get(&life_of(post)).map(Vec::as_slice).unwrap_or_default();
        outages.iter().any(|(begin, end)| *begin <= post.at + until && *end + LEASE >= post.at)
    }

    /// Why a process that shares nothing received a message whose alert another had posted.
    fn why_another(&self, index: usize, channel: usize, earlier: &[&Request], post: &Request) -> Option<&'static str> {
        let by = life_of(post);
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
                if done.is_some_and(|put_back| self.lacks_another_channel(index, channel, holder.by, put_back.at)) {
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

    fn lacks_another_channel(&self, message: usize, channel: usize, life: usize, at: Instant) -> bool {
        let app = super::super::app(life);
        let has = |post: &&Request| post.app == app && post.at <= at && self.unheard(post).is_none();
        let lacks = |other: &usize| !self.posts(self.message(message).service, *other).iter().any(&has);
        self.service_of(message).channels.iter().filter(|other| **other != channel).any(lacks)
    }

    /// Where incidents are kept, for the figures.
    pub(super) fn store(&self) -> &'static str {
        match (self.record.plan.has_table, self.record.plan.table_trouble) {
            (true, 0) => "table",
            (true, _) => "failing table",
            (false, _) => "memory",
        }
    }
}

/// When the table did not answer this life, by its log, which has the beginning and the end.
pub(super) fn outages(record: &Record, life: &Life) -> Vec<(Instant, Instant)> {
    let (instant, clock) = record.clocks;
    let ago = |line| read_time(line).and_then(|at| Duration::try_from(clock - at).ok()).unwrap_or_default();
    let mut outages: Vec<(Instant, Instant)> = Vec::new();
    let mut since = None;
    for line in &life.lines {
        if line.message().starts_with("the incidents table does not answer") {
            since = Some(instant - ago(line));
        } else if line.message().starts_with("the incidents table answers again") {
            outages.extend(since.take().map(|since| (since, instant - ago(line))));
        }
    }
    outages.extend(since.map(|since| (since, life.ended)));
    outages
}

/// Whether it says that something is over.
fn is_green(payload: &Value) -> bool {
    let is_good = payload["attachments"].as_array().into_iter().flatten().any(|part| part["color"] == "good");
    is_good || payload["text"].as_str().is_some_and(|text| text.contains("has recovered"))
}
