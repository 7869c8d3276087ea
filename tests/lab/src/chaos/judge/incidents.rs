//! The promises about incidents: an incident is reported twice, or has two roots, only for a reason, and its recovery is shown.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{ActionKind, CHANNELS, Channel, Evidence, Expected, Life, Record, Request, Tally, life_of, read_time};
use crate::slack::mentions;

/// The worker records a report at once after Slack's answer. On a loaded machine, a crash within this time after a post may have happened
/// before the record.
const UNTIL_RECORDED: Duration = Duration::from_secs(1);
/// How long a lease is valid. If the table does not answer, its holder cannot extend it, and may lose it while it waits for Slack.
const LEASE: Duration = Duration::from_secs(10);

impl<'a> Evidence<'a> {
    /// A post that repeats an earlier one in its channel was made for a reason.
    pub(super) fn duplicates(&self, index: usize, tally: &mut Tally) -> Vec<String> {
        let service = &self.record.plan.services[index];
        let mut broken = Vec::new();
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
                        None => broken.push(format!("again in channel {name} for no reason, by {}", life_of(post))),
                    }
                }
            }
        }
        broken
    }

    /// An incident has two roots only for a reason.
    pub(super) fn opened_twice(&self, index: usize, tally: &mut Tally) -> Vec<String> {
        let mut broken = Vec::new();
        for (channel, Channel { name, .. }) in CHANNELS.iter().enumerate().filter(|(_, channel)| channel.id.is_some()) {
            let roots: Vec<&Request> =
                self.posts(index, channel).iter().filter(|post| post.thread_ts.is_none()).copied().collect();
            tally.count("incidents by a bot", roots.len().min(1) as u64);
            for (place, root) in roots.iter().enumerate().skip(1) {
                match self.why_again(index, channel, 1, &roots[..place], root) {
                    Some(why) => tally.count(&format!("second root, {}: {why}", self.store()), 1),
                    None => broken.push(format!("opened again in channel {name} for no reason, by {}", life_of(root))),
                }
            }
        }
        broken
    }

    /// A service whose last event is its recovery is shown as recovered in every channel that has its problem.
    pub(super) fn shown_as_recovered(&self, index: usize, tally: &mut Tally) -> Vec<String> {
        let service = &self.record.plan.services[index];
        let Some(&recovery) =
            service.messages.iter().find(|message| self.message(**message).expected == Expected::Recovery)
        else {
            return Vec::new();
        };
        if self.record.dead.contains(&self.message(recovery).body) {
            return Vec::new();
        }
        let mut broken = Vec::new();
        for &channel in &service.channels {
            let posts = self.posts(index, channel);
            let Some(last) = posts.last() else { continue };
            if self.is_shown_as_recovered(&service.token, channel, last) {
                tally.count(&format!("recovery shown, {}", self.store()), 1);
                continue;
            }
            match self.why_not_recovered(recovery, posts) {
                Some(why) => tally.count(&format!("recovery not shown, {}: {why}", self.store()), 1),
                None => broken.push(format!("not shown as recovered in channel {}", CHANNELS[channel].name)),
            }
        }
        broken
    }

    /// Counts the outcomes in the logs of the processes.
    pub(super) fn count_outcomes(&self, tally: &mut Tally) {
        for line in self.record.lives.iter().flat_map(|life| &life.lines).filter(|line| line.message() == "settled") {
            if let Some(outcome @ ("folded" | "duplicate")) = line.field("outcome").as_str() {
                tally.count(&format!("settled as {outcome}, {}", self.store()), 1);
            }
        }
    }

    /// Whether the channel shows the recovery: by webhook in the last message; by bot token in the last root or, if that is a digest, in the
    /// last reply to it.
    fn is_shown_as_recovered(&self, token: &str, channel: usize, last: &Request) -> bool {
        let Some(shown) = self.record.shown.get(&channel) else { return is_green(&last.payload) };
        let mut about = shown.iter().filter(|message| mentions(&message.payload, token));
        let Some(root) = about.clone().rfind(|message| message.thread_ts.is_none()) else { return false };
        let reply = about.rfind(|message| message.thread_ts.as_ref() == Some(&root.ts));
        is_green(&root.payload) || reply.is_some_and(|reply| is_green(&reply.payload))
    }

    /// Why the recovery is not shown: the process that received it did not know about the problem.
    fn why_not_recovered(&self, recovery: usize, posts: &[&Request]) -> Option<&'static str> {
        let mut received = self.actions(recovery, ActionKind::Received).map(|action| action.by);
        if !self.record.plan.has_table {
            let deleted = self.actions(recovery, ActionKind::Deleted).filter(|action| action.acted).last()?.by;
            // A process shows the recovery where it reported the problem itself. Without a table it does not know the roots of others.
            let root = posts.iter().rfind(|post| post.thread_ts.is_none())?;
            return (deleted != life_of(root)).then_some("another process has learned of it");
        }
        let knew_nothing = |life: usize| self.outages.get(&life).is_some_and(|outages| !outages.is_empty());
        let is_cut_off = received.any(knew_nothing) || posts.iter().any(|post| knew_nothing(life_of(post)));
        is_cut_off.then_some("the table did not answer")
    }

    /// Why `post` repeats `earlier` posts in a channel.
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
            // All processes know the recorded posts. Each post that is not recorded explains one more.
            let unrecorded: Vec<&str> = earlier.iter().filter_map(|earlier| self.unrecorded(earlier)).collect();
            let is_unknown = earlier.len() - unrecorded.len() < news;
            let cut_off = || self.is_cut_off(post, Duration::ZERO).then_some("the table did not answer");
            return unrecorded.last().copied().filter(|_| is_unknown).or_else(cut_off);
        }
        let own: Vec<&Request> = earlier.iter().filter(|earlier| earlier.app == post.app).copied().collect();
        if own.len() >= news {
            // The process knows its own accepted posts.
            return own.iter().find_map(|own| self.unknown_to_sender(own));
        }
        match service.messages.as_slice() {
            &[message] => self.why_another(message, channel, earlier, post),
            _ => Some("another process knows of the incident"),
        }
    }

    /// Why the table does not have a post, if it does not.
    fn unrecorded(&self, post: &Request) -> Option<&'static str> {
        let crashed = self.crashed(life_of(post)).is_some_and(|at| at <= post.at + UNTIL_RECORDED);
        let cut_off = || self.is_cut_off(post, UNTIL_RECORDED).then_some("the table did not answer");
        self.unknown_to_sender(post).or(crashed.then_some("crash")).or_else(cut_off)
    }

    /// Whether the table did not answer the sender at some time between its decision to post and `until` after the post.
    fn is_cut_off(&self, post: &Request, until: Duration) -> bool {
        let outages = self.outages.get(&life_of(post)).map(Vec::as_slice).unwrap_or_default();
        outages.iter().any(|(begin, end)| *begin <= post.at + until && *end + LEASE >= post.at)
    }

    /// Without a table: why a process received a message whose alert another process had posted.
    fn why_another(&self, index: usize, channel: usize, earlier: &[&Request], post: &Request) -> Option<&'static str> {
        let by = life_of(post);
        let posted = |life: usize| earlier.iter().rev().find(|earlier| life_of(earlier) == life);
        let receives =
            self.actions(index, ActionKind::Received).filter(|receive| receive.by == by && receive.at <= post.at);
        let mut copies = false;
        for receive in receives {
            let before = self
                .actions(index, ActionKind::Received)
                .filter(|other| other.id == receive.id && other.receive < receive.receive);
            let holders = before.filter(|other| other.by != by && posted(other.by).is_some());
            copies |= self
                .actions(index, ActionKind::Received)
                .any(|other| other.id != receive.id && posted(other.by).is_some());
            for holder in holders {
                let theirs = posted(holder.by)?;
                if let Some(why) = self.unknown_to_sender(theirs) {
                    return Some(why);
                }
                let settles: Vec<_> = self.settles(holder).collect();
                let done = settles.last().filter(|last| last.kind == ActionKind::PutBack);
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
                    return Some(holder.fault.unwrap_or("visibility timeout"));
                }
            }
        }
        copies.then_some("EventBridge sent it twice, to two processes")
    }

    fn lacks_another_channel(&self, message: usize, channel: usize, life: usize, at: Instant) -> bool {
        let app = super::super::app(life);
        let has = |post: &&Request| post.app == app && post.at <= at && self.unknown_to_sender(post).is_none();
        let lacks = |other: &usize| !self.posts(self.message(message).service, *other).iter().any(&has);
        self.service_of(message).channels.iter().filter(|other| **other != channel).any(lacks)
    }

    /// The kind of store of the incidents, for the figures.
    pub(super) fn store(&self) -> &'static str {
        match (self.record.plan.has_table, self.record.plan.table_trouble) {
            (true, 0) => "table",
            (true, _) => "failing table",
            (false, _) => "memory",
        }
    }
}

/// When the table did not answer this life, from the lines in its log about the begin and the end.
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

/// Whether the payload reports a recovery.
fn is_green(payload: &Value) -> bool {
    let is_good = payload["attachments"].as_array().into_iter().flatten().any(|part| part["color"] == "good");
    is_good || payload["text"].as_str().is_some_and(|text| text.contains("has recovered"))
}
