//! Posts an alert to Slack when Amazon ECS cannot start your tasks, and says why.
//!
//! EventBridge rules send ECS events to an SQS queue. This program receives them, turns each into an alert, and posts it to Slack.
//! It deletes a message only after Slack accepted the post or the edit that carries it, or because the message is a duplicate,
//! repeats an incident that Slack already shows, is muted, or is wanted by no route. This rule shapes the whole program.
//!
//! # The life of a message
//!
//! 1. [`consumer`] takes slots, receives a batch and starts a task for each message. The task runs [`pipeline`].
//! 2. The body becomes an [`event`], and the event an [`alert`] with its [`cause`] and [`console`] links. A [`canary`] ends here: it
//!    is counted and never posted.
//! 3. [`route`] decides which channels get the alert and whom it mentions there. A mute drops it. A route or a mute may depend on the
//!    tags of the ECS service.
//! 4. [`diagnose`] asks ECS about the service, and reads its tags where a route or an alert needs them. [`diagnosis`] turns the
//!    answers into facts.
//! 5. [`reporter`] decides for each channel whether the alert is news about its [`incident`].
//! 6. [`slack`] posts or edits. While Slack refuses a channel's webhook or token, its alerts go to the channel's fallback.
//! 7. The pipeline returns an outcome or a failure. The consumer deletes the message or puts it back with a growing delay. It leaves
//!    a message that it cannot decode to the queue's redrive policy.
//!
//! # Mechanisms
//!
//! * *Natural batching* ([`batch`]): callers wait, and a flusher sends everything that has arrived since its last request. Posts to
//!   Slack and the deletes and put-backs of [`sqs`] use it. No timer is involved.
//! * *A channel* ([`slack::channel`]): one flusher with a clock, the earliest instant at which Slack takes the next post. Alerts wait
//!   together, so that a storm becomes a few messages ([`slack::render`]).
//! * *The gate*: while no channel can take a post, [`consumer`] receives nothing. Messages wait in the queue, where waiting costs no
//!   receive count. One message is kept to probe Slack.
//! * *Incidents* ([`incident`]): a pure function decides what is news, from the alert and from what was reported before. The decision
//!   is recorded after Slack accepts the report, in this process's memory or in a table that replicas share.
//!
//! # Time
//!
//! A message's visibility timeout is set when it is received, and is never extended while the message is worked on. All work ends
//! within it: the last attempt begins early enough to end, and the message to be settled, in time ([`consumer::ConsumerSettings`]). A
//! drain works the same way with an earlier end, which [`shutdown::StopSignal`] carries.
//!
//! # What surrounds the work
//!
//! Monitoring must not harm the work. [`admin`] serves metrics and health. [`heartbeat`] reports to a service outside that the worker
//! works, and canaries show that events arrive. [`log`] has a thread that writes; it drops and counts the lines that standard error
//! does not take. [`signals`] has a thread that waits for signals. Neither thread panics, and the work never waits for them.
//!
//! # Commands
//!
//! [`cli`] has the commands: [`app`] is the worker and its checks, [`replay`] reads events from files, and [`dlq`] lists and moves
//! failed messages.
//!
//! # Reading order
//!
//! Read the groups of modules below from top to bottom: a module imports only from its own group and the groups before it. A test at
//! the end of this file has the exact order and checks it.

#![cfg_attr(
    not(test),
    deny(clippy::print_stdout, clippy::print_stderr, reason = "they panic or block when a write fails")
)]
#![allow(clippy::disallowed_methods, reason = "the program waits for clocks: long polls, delays, deadlines")]

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

    /// The order of imports: a module may import the modules before it and its own submodules. `config` imports the settings types of
    /// the modules that it configures; these modules take the settings as arguments.
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
            // The first segment after `crate::`: in `use` lines, in nested `use crate::{…}` blocks, and inline.
            let blocks =
                text.split("use crate::{").skip(1).filter_map(|rest| rest.split_once("};")).map(|(block, _)| block);
            let nested = blocks
                .flat_map(|block| block.lines())
                .filter(|line| line.starts_with("    ") && !line.starts_with("     "));
            let inline = text.split("crate::").skip(1);
            for path in nested.map(str::trim).chain(inline) {
                let imported: String = path.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                let allowed = imported.is_empty() || imported == module || places[imported.as_str()] < *place;
                assert!(allowed, "{module} imports {imported}, which comes after it in ORDER");
            }
        }
    }
}
