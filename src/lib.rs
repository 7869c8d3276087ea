//! Tells Slack, at once and with the reason, when Amazon ECS cannot start your tasks.
//!
//! EventBridge rules send ECS events to an SQS queue. This program receives them, turns each into an alert, and deletes the
//! message only after Slack accepted the post or the edit that carries it, or has the incident that it repeats. Everything else
//! follows from that sentence.
//!
//! # The life of a message
//!
//! [`consumer`] takes slots, receives a batch and starts a task for each message. The task runs [`pipeline`]: the body becomes
//! an [`event`], the event an [`alert`] with its [`cause`] and [`console`] links, [`route`] says which channels want it,
//! [`diagnose`] asks ECS what else there is to say, and [`reporter`] says in each what is news about an [`incident`]; [`slack`]
//! answers when Slack has accepted it. By what the pipeline returns, the
//! consumer deletes the message or puts it back with a growing delay. A message that is not a JSON object is left to the
//! queue's redrive policy.
//!
//! # Mechanisms
//!
//! * *Natural batching* ([`batch`]): submitters await, a flusher takes what has gathered. It serves the posts to Slack and the
//!   deletes and put-backs of [`sqs`]; nothing waits on a timer.
//! * *A channel* ([`slack::channel`]): one flusher with a clock, the earliest instant at which Slack takes the next post.
//!   Alerts wait together, so that a storm becomes a few messages ([`slack::render`]).
//! * *The gate*: while no channel can take anything, [`consumer`] receives nothing. Messages wait in the queue, where
//!   waiting costs no receive count, and one that is held probes.
//! * *Incidents* ([`incident`]): a pure function decides, from what was reported and the alert alone, what is news; what Slack
//!   accepted is recorded after its answer, in this process's memory or in a table that replicas share.
//!
//! # Time
//!
//! There are no heartbeats. A message's visibility time-out is set at its receive, and all work on it happens within: the
//! last attempt begins early enough to end, and to be settled, before it ([`consumer::Settings`]). A drain is the same with
//! an earlier end, which everyone hears through [`shutdown::Stop`].
//!
//! # What surrounds the work
//!
//! Nothing that watches the work may hurt it. [`heartbeat`] tells a service outside that the worker works, and [`canary`] that
//! events arrive. [`log`] has a thread that writes, and drops and counts what standard error does
//! not take; [`signals`] has a thread that waits; neither panics, and nothing waits for them.
//!
//! # Reading order
//!
//! The modules below, from the bottom up. Imports point down that list; a test at the end of this file holds the rule.

#![cfg_attr(
    not(test),
    deny(clippy::print_stdout, clippy::print_stderr, reason = "they panic, or wait, where a write fails")
)]

pub mod log;
pub mod metrics;
pub mod outbound;
pub mod output;
pub mod shutdown;
pub mod text;

pub mod alert;
pub mod cause;
pub mod console;
pub mod diagnosis;
pub mod event;
pub mod route;

pub mod aws;
pub mod batch;
pub mod canary;
pub mod diagnose;
pub mod ecs;
pub mod incident;
pub mod secret;
pub mod slack;
pub mod sqs;
pub mod webhook;

pub mod admin;
pub mod consumer;
pub mod heartbeat;
pub mod pipeline;
pub mod reporter;
pub mod signals;

pub mod app;
pub mod cli;
pub mod config;
pub mod dlq;
pub mod replay;

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, fs, path::Path};

    /// Who may import whom: only what stands before it, besides its own submodules. `config` reads the settings types of
    /// those it configures, and they take them as arguments.
    const ORDER: [&str; 35] = [
        "metrics",
        "shutdown",
        "text",
        "log",
        "output",
        "outbound",
        "aws",
        "secret",
        "batch",
        "canary",
        "event",
        "cause",
        "console",
        "diagnosis",
        "alert",
        "route",
        "incident",
        "sqs",
        "webhook",
        "slack",
        "ecs",
        "diagnose",
        "reporter",
        "pipeline",
        "consumer",
        "heartbeat",
        "admin",
        "signals",
        "config",
        "app",
        "dlq",
        "replay",
        "cli",
        "lib",
        "main",
    ];

    fn sources(folder: &Path, found: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else {
                let below = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
                let module = below.iter().next().unwrap().to_string_lossy().trim_end_matches(".rs").to_owned();
                found.push((module, fs::read_to_string(&path).unwrap()));
            }
        }
    }

    #[test]
    fn imports_point_down() {
        let places: HashMap<&str, usize> = ORDER.iter().enumerate().map(|(place, module)| (*module, place)).collect();
        let mut all = Vec::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut all);
        assert!(all.len() > ORDER.len());
        for (module, text) in all {
            let place = places.get(module.as_str()).unwrap_or_else(|| panic!("{module} has no place in ORDER"));
            // Paths of one segment after `crate::`, in `use` lines, in nested `use crate::{…}` blocks, and in line.
            let blocks =
                text.split("use crate::{").skip(1).filter_map(|rest| rest.split_once("};")).map(|(block, _)| block);
            let nested = blocks
                .flat_map(|block| block.lines())
                .filter(|line| line.starts_with("    ") && !line.starts_with("     "));
            let inline = text.split("crate::").skip(1);
            for path in nested.map(str::trim).chain(inline) {
                let imported: String = path.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                let allowed = imported.is_empty() || imported == module || places[imported.as_str()] < *place;
                assert!(allowed, "{module} imports {imported}, which stands above it");
            }
        }
    }
}
