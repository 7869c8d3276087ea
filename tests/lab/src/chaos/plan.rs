//! Everything random about a round, drawn from its seed before the round begins: the events, the faults, and when each process is stopped or
//! killed. Only the order of simultaneous events depends on the machine.

use std::collections::VecDeque;
use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::events::Ecs;
use crate::slack::{Answer, Request};

/// The channels: two by webhook, whose names are also those of the webhooks, and one by bot token.
pub(super) const CHANNELS: [Channel; 3] =
    [Channel { name: "a", id: None }, Channel { name: "b", id: None }, Channel { name: "c", id: Some("C00000000C") }];

/// A channel of the worker.
#[derive(Debug, Clone, Copy)]
pub(super) struct Channel {
    /// The name in the worker's configuration.
    pub(super) name: &'static str,
    /// The id in Slack's Web API; `None` for a channel by webhook.
    pub(super) id: Option<&'static str>,
}

impl Channel {
    /// The name of the channel in the stand-in for Slack.
    pub(super) fn address(self) -> &'static str {
        self.id.unwrap_or(self.name)
    }

    /// The index of the channel of a request.
    pub(super) fn of(request: &Request) -> Option<usize> {
        CHANNELS.iter().position(|channel| channel.address() == request.webhook)
    }
}

/// How long the failures of a round last, and how many events there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// A few seconds.
    Short,
    /// About ten seconds of failures, and the time until everything has recovered.
    Full,
}

/// One round.
pub(super) struct Plan {
    /// For each replica: how its lives end. One more life follows, which lasts until every message is settled.
    pub(super) replicas: Vec<Vec<PlannedEnd>>,
    /// `queue.visibility_timeout`, in seconds.
    pub(super) visibility: u64,
    /// After this many receives a message goes to the dead-letter queue: ten, as in the Terraform module, or so few that crashes and lost
    /// answers use them up.
    pub(super) max_receives: u32,
    /// Whether incidents are in a table that the replicas share. Otherwise each replica has them in its memory.
    pub(super) has_table: bool,
    /// How many of a hundred requests to the table fail.
    pub(super) table_trouble: u32,
    pub(super) services: Vec<Service>,
    pub(super) messages: Vec<Message>,
    /// How many messages are sent at once, and the pause until the next ones.
    pub(super) waves: Vec<(usize, Duration)>,
    /// For each channel: Slack's answers, request by request.
    pub(super) slack: Vec<Vec<Answer>>,
    /// Slack's answers to edits, which are limited for all channels together.
    pub(super) edits: Vec<Answer>,
    /// When Slack refuses connections: after this many requests, for this long.
    pub(super) closed: Vec<(usize, Duration)>,
    /// How many of a hundred requests to AWS fail.
    pub(super) aws_trouble: u32,
    /// The seed for the faults of AWS, which are drawn separately for each life and operation.
    pub(super) aws_seed: u64,
    /// How long the failures last.
    pub(super) trouble: Duration,
}

/// How a life of a replica ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct PlannedEnd {
    pub(super) when: When,
    /// Whether by SIGKILL. Otherwise by SIGTERM.
    pub(super) is_kill: bool,
    /// The pause before the next life.
    pub(super) pause: Duration,
}

/// When a life ends. The counts are those of this life.
#[derive(Debug, Clone, Copy)]
pub(super) enum When {
    /// When it has received this many messages.
    Received(usize),
    /// When it has made this many posts, with any answer of Slack.
    Posted(usize),
    /// When it has asked SQS to delete or put back this many messages.
    Settled(usize),
}

/// A service with a problem, and the events about it.
pub(super) struct Service {
    /// A part of its name, which is therefore in every message, log line and post about it. It is unique.
    pub(super) token: String,
    /// The indices of the channels in which its problem must be reported.
    pub(super) channels: Vec<usize>,
    /// How many posts in one channel can be news: one for each cause.
    pub(super) news: usize,
    /// Whether ECS would refuse its name. Then its events may belong to no incident, and are not in the table.
    pub(super) is_strange: bool,
    /// The indices of its messages, in the order of their events.
    pub(super) messages: Vec<usize>,
}

/// A message with an event. EventBridge may deliver it several times.
pub(super) struct Message {
    /// The index of its service.
    pub(super) service: usize,
    pub(super) body: String,
    pub(super) copies: usize,
    pub(super) expected: Expected,
}

/// What must happen to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// It is posted to the service's channels, or counted in an incident that they show.
    Posted,
    /// The recovery: the same, but only in the channels in which the problem was reported.
    Recovery,
    /// It is deleted, because no route takes it.
    Unrouted,
    /// It goes to the dead-letter queue, because it cannot be decoded.
    Undecodable,
}

impl Plan {
    pub(super) fn of(seed: u64, round: u64, size: Size) -> Self {
        // Similar seeds must not have the same rounds.
        let mut rng = Rng::with_seed(Rng::with_seed(seed).u64(..) ^ Rng::with_seed(!round).u64(..));
        let (least, most) = if size == Size::Short { (15, 30) } else { (30, 90) };
        let count = rng.usize(least..=most);
        let (services, messages) = services(&mut rng, round, count);
        let (replicas, planned_ends) = if size == Size::Short { (2..=2, 1..=2) } else { (1..=3, 0..=4) };
        let number = rng.usize(replicas);
        let mut planned_ends = || (0..rng.usize(planned_ends.clone())).map(|_| planned_end(&mut rng)).collect();
        let replicas = (0..number).map(|_| planned_ends()).collect();
        let trouble = if size == Size::Short { 2_000..=3_000 } else { 6_000..=14_000 };
        let trouble = Duration::from_millis(rng.u64(trouble));
        let waves = rng.usize(1..=5);
        let pause = (trouble / waves as u32).as_millis() as u64;
        let waves = (0..waves).map(|wave| {
            let share = count * (wave + 1) / waves - count * wave / waves;
            (share, Duration::from_millis(rng.u64(0..=pause)))
        });
        Self {
            waves: waves.collect(),
            replicas,
            visibility: if size == Size::Short { 5 } else { rng.u64(5..=9) },
            slack: CHANNELS.iter().map(|channel| answers(&mut rng, &services, channel.id.is_some(), size)).collect(),
            edits: answers(&mut rng, &services, true, size),
            max_receives: if size == Size::Full && rng.u8(..3) == 0 { 4 } else { 10 },
            closed: (0..rng.usize(0..=2)).map(|_| (rng.usize(1..=20), millis(&mut rng, 200, 2_000))).collect(),
            aws_trouble: [0, 5, 10, 20, 30][rng.usize(..5)],
            aws_seed: rng.u64(..),
            trouble,
            has_table: if size == Size::Short { round % 2 == 1 } else { rng.u8(..3) > 0 },
            table_trouble: [0, 0, 0, 5, 20][rng.usize(..5)],
            services,
            messages,
        }
    }
}

/// Draws `count` messages about fewer services. The events of one service are in order, and usually mixed with those of others.
fn services(rng: &mut Rng, round: u64, count: usize) -> (Vec<Service>, Vec<Message>) {
    let mut services = Vec::new();
    let mut to_come: Vec<VecDeque<Message>> = Vec::new();
    let mut left = count;
    while left > 0 {
        let number = services.len();
        let token = format!("r{round}n{number:03}x");
        let (service, messages) =
            if left > 2 && rng.u8(..4) == 0 { story(rng, token, number, left) } else { lone(rng, token, number) };
        left -= messages.len();
        services.push(service);
        to_come.push(messages.into());
    }
    let mut messages: Vec<Message> = Vec::new();
    while !to_come.is_empty() {
        let next = rng.usize(..to_come.len());
        match to_come[next].pop_front() {
            Some(message) => {
                services[message.service].messages.push(messages.len());
                messages.push(message);
            }
            None => drop(to_come.swap_remove(next)),
        }
    }
    (services, messages)
}

/// A service with one event.
fn lone(rng: &mut Rng, token: String, number: usize) -> (Service, Vec<Message>) {
    let copies = copies(rng);
    if rng.u8(..20) == 0 {
        let bodies = [format!("{token}, no JSON"), format!("\"{token}\""), format!("[{{\"id\":\"{token}\"}}]")];
        let body = bodies[rng.usize(..bodies.len())].clone();
        let service = Service { token, channels: Vec::new(), news: 0, is_strange: false, messages: Vec::new() };
        return (service, vec![Message { service: number, body, copies, expected: Expected::Undecodable }]);
    }
    let channels: Vec<usize> = match rng.u8(..10) {
        0 => Vec::new(),
        1 => vec![0, 1, 2],
        2 | 3 => but_one(rng),
        _ => vec![rng.usize(..3)],
    };
    let mut name = name(&token, &channels);
    let shape = rng.u8(..6);
    match shape {
        0 => name += "<!channel>&*_~`>",
        1 => name += &"long".repeat(rng.usize(20..=400)),
        2 => name += "\u{202e}\u{0}\n\t🦀é",
        _ => {}
    }
    // ECS allows 255 characters, and only letters, digits, hyphens and underscores.
    let is_strange = name.chars().count() > 255 || name.contains(char::is_control);
    let ecs = Ecs::default();
    let make = [Ecs::start_impaired, Ecs::placement_failure, Ecs::deployment_failed, Ecs::image_missing, Ecs::no_route];
    let mut event = make[rng.usize(..make.len())](ecs, &name);
    event["id"] = id(rng);
    if rng.u8(..6) == 0 {
        let reason = "<reason> & *so* `on` \\ \" ".repeat(rng.usize(1..=200));
        let key = if event["detail"]["stoppedReason"].is_null() { "reason" } else { "stoppedReason" };
        event["detail"][key] = json!(reason);
    }
    let expected = if channels.is_empty() { Expected::Unrouted } else { Expected::Posted };
    let service = Service { token, channels, news: 1, is_strange, messages: Vec::new() };
    (service, vec![Message { service: number, body: event.to_string(), copies, expected }])
}

/// A service with several events, at most `most`. The last one is usually its recovery.
fn story(rng: &mut Rng, token: String, number: usize, most: usize) -> (Service, Vec<Message>) {
    let channels = if rng.bool() { but_one(rng) } else { vec![rng.usize(..3)] };
    let name = name(&token, &channels);
    let ecs = Ecs::default();
    let deployment = format!("ecs-svc/{}", rng.u32(..));
    let happened = OffsetDateTime::now_utc() - Duration::from_secs(100);
    let recovers = rng.u8(..4) > 0;
    // These problems have no failed task. As ECS cannot be asked, the worker then accepts a recovery at once.
    let makes: &[fn(Ecs<'static>, &str) -> Value] = match (recovers, rng.bool()) {
        (true, true) => &[Ecs::start_impaired],
        (true, false) => &[Ecs::start_impaired, Ecs::placement_failure],
        (false, _) => &[Ecs::image_missing],
    };
    let troubles = rng.usize(1..=8).min(most - 1);
    let mut messages = Vec::new();
    for place in 0..=troubles {
        let is_recovery = place == troubles;
        if is_recovery && !recovers {
            break;
        }
        let mut event = if is_recovery { ecs.steady_state(&name) } else { makes[rng.usize(..makes.len())](ecs, &name) };
        event["id"] = id(rng);
        // In whole seconds, like the times of events. Each event is later than the previous one.
        let time = happened + Duration::from_secs(place as u64);
        let time = json!(time.replace_nanosecond(0).unwrap_or(time).format(&Rfc3339).unwrap_or_default());
        event["time"] = time.clone();
        for key in ["createdAt", "updatedAt", "stoppedAt"] {
            if let Some(known) = event["detail"].get_mut(key) {
                *known = time.clone();
            }
        }
        if !event["detail"]["startedBy"].is_null() {
            event["detail"]["startedBy"] = json!(deployment);
        }
        let expected = if is_recovery { Expected::Recovery } else { Expected::Posted };
        messages.push(Message { service: number, body: event.to_string(), copies: copies(rng), expected });
    }
    (Service { token, channels, news: makes.len(), is_strange: false, messages: Vec::new() }, messages)
}

fn copies(rng: &mut Rng) -> usize {
    if rng.u8(..8) == 0 { 2 } else { 1 }
}

fn but_one(rng: &mut Rng) -> Vec<usize> {
    let but = rng.usize(..3);
    (0..3).filter(|channel| *channel != but).collect()
}

fn name(token: &str, channels: &[usize]) -> String {
    let to = channels.iter().map(|channel| format!("to-{}.", CHANNELS[*channel].name));
    format!("{token}.{}", to.collect::<String>())
}

fn id(rng: &mut Rng) -> Value {
    json!(format!("{:08x}-0000-4000-8000-{:012x}", rng.u32(..), rng.u32(..)))
}

/// Routes that match the services' names. None of them matches a recovery, which is therefore reported only in the channels with the problem.
pub(super) fn routes() -> String {
    let route = |Channel { name, .. }: &Channel| {
        let named = json!([{ "wildcard": format!("*.to-{name}.*") }]);
        // In an event about a task, only the group names the service.
        let group = json!([{ "wildcard": format!("service:*.to-{name}.*") }]);
        let trouble = json!([{ "anything-but": ["SERVICE_STEADY_STATE"] }]);
        let pattern = json!({ "$or": [
            { "resources": named, "detail": { "eventName": trouble } },
            { "detail": { "group": group } },
        ] });
        format!("[[route]]\nchannel = '{name}'\ncontinue = true\npattern = '{pattern}'\n")
    };
    CHANNELS.iter().map(route).collect()
}

fn planned_end(rng: &mut Rng) -> PlannedEnd {
    let when = match rng.u8(..3) {
        0 => When::Received(rng.usize(1..=20)),
        1 => When::Posted(rng.usize(1..=4)),
        _ => When::Settled(rng.usize(1..=15)),
    };
    PlannedEnd { when, is_kill: rng.bool(), pause: millis(rng, 0, 1_500) }
}

/// Slack's answers in one channel: how many of them are failures, from none to all, and whether Slack refuses one service's messages.
fn answers(rng: &mut Rng, services: &[Service], is_bot: bool, size: Size) -> Vec<Answer> {
    let trouble = [0, 10, 30, 50, 100][rng.usize(..5)];
    let disliked = services[rng.usize(..services.len())].token.clone();
    let usual = match rng.u8(..4) {
        0 => Answer::RefuseBlocksWith(disliked),
        1 => Answer::Refuse(disliked),
        _ => Answer::Judge,
    };
    let mut answer = || {
        if rng.u32(..100) >= trouble {
            return if rng.u8(..4) == 0 { Answer::Late(millis(rng, 10, 300)) } else { usual.clone() };
        }
        match rng.u8(..13) {
            0..=2 => Answer::RateLimited(rng.u64(1..=4)),
            3 => Answer::Unavailable(rng.u64(1..=3)),
            4 if is_bot => Answer::Status(200, "internal_error"),
            4 => Answer::Status(500, "rollup_error"),
            5 => Answer::Status(503, "<html>not from Slack</html>"),
            6 => Answer::Hang,
            7 => Answer::Reset,
            8 => Answer::Cut,
            9 => Answer::Lost,
            10 if is_bot => Answer::Status(200, "invalid_auth"),
            10 => Answer::Status(403, "invalid_token"),
            11 => Answer::Status(200, "<html>Please sign in</html>"),
            _ if is_bot => Answer::Status(200, "invalid_attachments"),
            _ => Answer::Status(400, "invalid_payload"),
        }
    };
    // More than a round needs.
    let mut answers: Vec<Answer> = (0..500).map(|_| answer()).collect();
    if size == Size::Short {
        // A short round has few requests, and the test expects these faults.
        answers.splice(0..1, [Answer::RateLimited(2), Answer::Status(500, "rollup_error")]);
    }
    answers
}

fn millis(rng: &mut Rng, least: u64, most: u64) -> Duration {
    Duration::from_millis(rng.u64(least..=most))
}
