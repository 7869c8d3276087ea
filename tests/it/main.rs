//! Tests of the whole program over real sockets: the built binary, the AWS SDK over HTTP against an emulator, and a strict stand-in for
//! Slack. Each test has its own queue, webhooks and worker.

#![allow(unreachable_pub, reason = "one binary, one crate")]

mod admin;
mod answers;
mod cases;
mod chaos;
mod commands;
mod connections;
mod credentials;
mod dashboards;
mod delivery;
mod diagnosis;
mod dlq;
mod documentation;
mod fallback;
mod fixtures;
mod heartbeat;
mod incidents;
mod incidents_table;
mod logging;
mod messages;
mod observed;
mod outages;
mod recorded;
mod routing;
mod secrets;
mod stopping;
mod tags;
mod terraform;
mod world;
