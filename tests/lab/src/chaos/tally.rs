//! The figures of a round, or of several.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

use super::aws::ActionKind;
use super::{End, Record};
use crate::slack::{Method, Request};

/// How often each thing happened.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    counts: BTreeMap<String, u64>,
    longest: Duration,
}

impl Tally {
    pub(super) fn of(record: &Record) -> Self {
        let mut tally = Self::default();
        tally.count("rounds", 1);
        tally.count("events", record.plan.messages.len() as u64);
        tally.count("lost", 0);
        for life in &record.lives {
            tally.count("processes started", 1);
            match life.end {
                End::Killed => tally.count("SIGKILL", 1),
                _ => tally.count("SIGTERM", 1),
            }
        }
        tally.count("messages sent", record.plan.messages.iter().map(|message| message.copies as u64).sum());
        tally.count(
            "messages received",
            record.actions.iter().filter(|action| action.kind == ActionKind::Received).count() as u64,
        );
        for post in &record.posts {
            tally.count(if post.method == Method::Edit { "edits" } else { "posts" }, 1);
            if let Some(trouble) = trouble(post) {
                tally.count(&format!("fault: {trouble}"), 1);
            }
        }
        tally
    }

    pub(super) fn count(&mut self, what: &str, times: u64) {
        *self.counts.entry(what.to_owned()).or_default() += times;
    }

    /// Records the time from the sending of an event to its post.
    pub(super) fn took(&mut self, time: Duration) {
        self.longest = self.longest.max(time);
    }

    pub(super) fn add_faults(&mut self, faults: &HashMap<&'static str, u64>) {
        faults.iter().for_each(|(name, times)| self.count(&format!("fault: {name}"), *times));
    }

    /// Adds the figures of another round.
    pub fn add(&mut self, other: &Self) {
        other.counts.iter().for_each(|(what, times)| self.count(what, *times));
        self.took(other.longest);
    }

    /// How often this happened.
    pub fn get(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or_default()
    }

    /// The sum of all counts whose names begin with `prefix`.
    pub fn all(&self, prefix: &str) -> u64 {
        self.counts.iter().filter(|(what, _)| what.starts_with(prefix)).map(|(_, times)| times).sum()
    }
}

/// The fault of Slack's answer.
fn trouble(post: &Request) -> Option<&'static str> {
    match (post.status, post.accepted) {
        (Some(200), false) if post.method != Method::Webhook => match post.reply.contains("<html>") {
            true => Some("something on the way answers 200"),
            false => Some("Slack's Web API refuses"),
        },
        (None, true) if post.method != Method::Webhook => Some("Slack accepts, its answer is lost"),
        (Some(200), false) => Some("something on the way answers 200"),
        (Some(429), _) => Some("Slack answers 429"),
        (Some(500..), _) => Some("Slack answers 500 or 503"),
        (Some(400), _) => Some("Slack refuses the message"),
        (Some(403), _) => Some("Slack refuses the webhook"),
        (None, true) if post.reply.is_empty() => Some("Slack accepts, its answer is lost"),
        (None, true) => Some("Slack accepts, its answer broken off"),
        (None, false) => Some("Slack hangs or resets"),
        _ => None,
    }
}

/// A table in Markdown.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| | |\n|---|---:|")?;
        let main = [
            "rounds",
            "events",
            "messages sent",
            "messages received",
            "processes started",
            "SIGKILL",
            "SIGTERM",
            "posts",
            "edits",
            "lost",
        ];
        main.iter().try_for_each(|what| writeln!(f, "| {what} | {} |", self.get(what)))?;
        for store in ["table", "failing table", "memory"] {
            let get = |what: &str| self.get(&format!("{what}, {store}"));
            let (served, reported) = (get("served"), get("reported"));
            let duplicates = self.all(&format!("duplicate, {store}: "));
            let rate = |of: u64| 100.0 * duplicates as f64 / of.max(1) as f64;
            writeln!(f, "| {store}: (event, channel) served | {served} |")?;
            writeln!(f, "| {store}: of them news, and ends | {reported} |")?;
            let (all, news) = (rate(served), rate(reported));
            writeln!(f, "| {store}: duplicates | {duplicates} ({all:.1} % of events, {news:.1} % of news) |")?;
        }
        writeln!(f, "| longest time from event to post | {:.1} s |", self.longest.as_secs_f64())?;
        writeln!(f, "| faults injected | {} |", self.all("fault: "))?;
        let is_detail =
            |what: &str| !main.contains(&what) && !what.starts_with("reported, ") && !what.starts_with("served, ");
        let details = self.counts.iter().filter(|(what, _)| is_detail(what));
        details.into_iter().try_for_each(|(what, times)| writeln!(f, "| {what} | {times} |"))
    }
}
