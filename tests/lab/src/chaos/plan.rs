//! Everything about a round that is left to chance, drawn from its seed before it begins: what happens, what goes wrong with
//! it, and who is stopped when. Only the order in which things then meet is the machine's.

use std::collections::VecDeque;
use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::events::Ecs;
use crate::slack::{Answer, Request};

/// The channels: two by webhooks of the same names, one by a bot token.
pub(super) const CHANNELS: [Channel; 3] =
    [Channel { name: "a", id: None }, Channel { name: "b", id: None }, Channel { name: "c", id: Some("C00000000C") }];

/// A channel of the worker's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Channel {
    /// As the worker's configuration calls it.
    pub(super) name: &'static str,
    /// As Slack's Web API calls it; none where a webhook leads to it.
    pub(super) id: Option<&'static str>,
}

impl Channel {
    /// What Slack's stand-in knows it by.
    pub(super) fn address(self) -> &'static str {
        self.id.unwrap_or(self.name)
    }

    /// The one that a request was for, by index.
    pub(super) fn of(request: &Request) -> Option<usize> {
        CHANNELS.iter().position(|channel| channel.address() == request.webhook)
    }
}

/// How long a round's trouble lasts, and how much happens in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// A few seconds.
    Short,
    /// About ten seconds of failures, and the time until everything has recovered.
    Full,
}

/// One round.
pub(super) struct Plan {
    /// Of each replica: how its lives end. One more life follows, which lasts until all is done.
    pub(super) replicas: Vec<Vec<Blow>>,
    /// `queue.visibility_timeout`, in seconds.
    pub(super) visibility: u64,
    /// After so many receives the queue gives a message up: ten, as the Terraform module says, or so few that crashes and lost
    /// answers use them up.
    pub(super) max_receives: u32,
    /// Incidents are in a table that the replicas share; else each has them in its memory.
    pub(super) has_table: bool,
    /// What share of the requests to the table goes wrong, of a hundred.
    pub(super) table_trouble: u32,
    pub(super) services: Vec<Service>,
    pub(super) messages: Vec<Message>,
    /// How many of them come at once, and how long it is until more come.
    pub(super) waves: Vec<(usize, Duration)>,
    /// Of each channel: how Slack answers, request by request.
    pub(super) slack: Vec<Vec<Answer>>,
    /// How it answers edits, which are limited for all channels together.
    pub(super) edits: Vec<Answer>,
    /// When nobody can connect to Slack: after so many requests to it, for so long.
    pub(super) closed: Vec<(usize, Duration)>,
    /// What share of the requests to AWS goes wrong, of a hundred.
    pub(super) aws_trouble: u32,
    /// From which the faults of AWS are drawn, for each life and operation apart.
    pub(super) aws_seed: u64,
    /// How long the trouble lasts.
    pub(super) trouble: Duration,
}

/// The end of a replica's life.
#[derive(Debug, Clone, Copy)]
pub(super) struct Blow {
    pub(super) when: When,
    /// SIGKILL; else SIGTERM.
    pub(super) is_kill: bool,
    /// Until the next life.
    pub(super) pause: Duration,
}

/// Counted in one life.
#[derive(Debug, Clone, Copy)]
pub(super) enum When {
    /// When it has received so many messages.
    Received(usize),
    /// When it posts for the n-th time, whatever Slack answers.
    Posted(usize),
    /// When it asks for the n-th message to be deleted or put back.
    Settled(usize),
}

/// A problem, and the events about it.
pub(super) struct Service {
    /// Stands in its name, and so in every message, log line and post about it; no other service's holds it.
    pub(super) token: String,
    /// Where its trouble is to be reported, by index.
    pub(super) channels: Vec<usize>,
    /// How many messages about it can be news in a channel: one for each cause.
    pub(super) news: usize,
    /// ECS would refuse its name. Events about it may belong to no incident, and then no table has them.
    pub(super) is_strange: bool,
    /// What is sent about it, by index, in the order in which it happened.
    pub(super) messages: Vec<usize>,
}

/// What is sent to the queue once, or as often as EventBridge delivers it.
pub(super) struct Message {
    /// Which service it is about.
    pub(super) service: usize,
    pub(super) body: String,
    pub(super) copies: usize,
    pub(super) fate: Fate,
}

/// What is to become of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Posted to the service's channels, or counted by an incident that they have.
    Posted,
    /// The same for the recovery, in the channels in which the problem was reported.
    Recovery,
    /// Deleted: no route wants it.
    Unrouted,
    /// Left to the dead-letter queue: it cannot be decoded.
    Undecodable,
}

impl Plan {
    pub(super) fn of(seed: u64, round: u64, size: Size) -> Self {
        // Neighbouring seeds must not share rounds.
        let mut rng = Rng::with_seed(Rng::with_seed(seed).u64(..) ^ Rng::with_seed(!round).u64(..));
        let (least, most) = if size == Size::Short { (15, 30) } else { (30, 90) };
        let count = rng.usize(least..=most);
        let (services, messages) = services(&mut rng, round, count);
        let (replicas, blows) = if size == Size::Short { (2..=2, 1..=2) } else { (1..=3, 0..=4) };
        let number = rng.usize(replicas);
        let mut blows = || (0..rng.usize(blows.clone())).map(|_| blow(&mut rng)).collect();
        let replicas = (0..number).map(|_| blows()).collect();
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

/// So many messages, about fewer services; the events of one come in their order, usually between those of others.
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
        return (service, vec![Message { service: number, body, copies, fate: Fate::Undecodable }]);
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
    // A name has 255 letters at most, and no other signs.
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
    let fate = if channels.is_empty() { Fate::Unrouted } else { Fate::Posted };
    let service = Service { token, channels, news: 1, is_strange, messages: Vec::new() };
    (service, vec![Message { service: number, body: event.to_string(), copies, fate }])
}

/// A service with several events, at most so many; the last one is usually its recovery.
fn story(rng: &mut Rng, token: String, number: usize, most: usize) -> (Service, Vec<Message>) {
    let channels = if rng.bool() { but_one(rng) } else { vec![rng.usize(..3)] };
    let name = name(&token, &channels);
    let ecs = Ecs::default();
    let deployment = format!("ecs-svc/{}", rng.u32(..));
    let happened = OffsetDateTime::now_utc() - Duration::from_secs(100);
    let recovers = rng.u8(..4) > 0;
    // Where no task is known to have failed, and ECS cannot be asked, a recovery is believed at once.
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
        // As exact as events are; each is later than the one before.
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
        let fate = if is_recovery { Fate::Recovery } else { Fate::Posted };
        messages.push(Message { service: number, body: event.to_string(), copies: copies(rng), fate });
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

/// The routes that the services' names are made for. None asks for a recovery: it is reported only where the problem was.
pub(super) fn routes() -> String {
    let route = |Channel { name, .. }: &Channel| {
        let named = json!([{ "wildcard": format!("*.to-{name}.*") }]);
        // Only a task's group names its service.
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

fn blow(rng: &mut Rng) -> Blow {
    let when = match rng.u8(..3) {
        0 => When::Received(rng.usize(1..=20)),
        1 => When::Posted(rng.usize(1..=4)),
        _ => When::Settled(rng.usize(1..=15)),
    };
    Blow { when, is_kill: rng.bool(), pause: millis(rng, 0, 1_500) }
}

/// A channel's trouble: how much of it, whether nothing else, and whether there is something that Slack will not have.
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
            5 => Answer::Status(503, "<html>no word of Slack's</html>"),
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
    // More than a round ever needs.
    let mut answers: Vec<Answer> = (0..500).map(|_| answer()).collect();
    if size == Size::Short {
        // Few requests come, and these must be among them.
        answers.splice(0..1, [Answer::RateLimited(2), Answer::Status(500, "rollup_error")]);
    }
    answers
}

fn millis(rng: &mut Rng, least: u64, most: u64) -> Duration {
    Duration::from_millis(rng.u64(least..=most))
}
