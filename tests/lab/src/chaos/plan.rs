//! Everything about a round that is left to chance, drawn from its seed before it begins: what happens, what goes wrong with
//! it, and who is stopped when. Only the order in which things then meet is the machine's.

use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};

use crate::events::Ecs;
use crate::slack::Answer;

/// The channels, which are also the names of their webhooks.
pub(super) const CHANNELS: [&str; 3] = ["a", "b", "c"];

/// How long a round's trouble lasts, and how much happens in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// A few seconds.
    Short,
    /// Some ten seconds, and as many as it takes for all to be well again.
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
    pub(super) messages: Vec<Message>,
    /// How many of them come at once, and how long it is until more come.
    pub(super) waves: Vec<(usize, Duration)>,
    /// Of each channel: how Slack answers, request by request.
    pub(super) slack: Vec<Vec<Answer>>,
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

/// What is sent to the queue once, or as often as EventBridge delivers it.
pub(super) struct Message {
    /// Stands in the body, in the log, and in every post that carries it; no other message holds it.
    pub(super) token: String,
    pub(super) body: String,
    pub(super) copies: usize,
    pub(super) fate: Fate,
}

/// What is to become of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// Posted to these channels, by index.
    Posted(Vec<usize>),
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
        let messages: Vec<Message> = (0..count).map(|number| message(&mut rng, round, number)).collect();
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
            slack: CHANNELS.iter().map(|_| channel(&mut rng, &messages, size)).collect(),
            max_receives: if size == Size::Full && rng.u8(..3) == 0 { 4 } else { 10 },
            closed: (0..rng.usize(0..=2)).map(|_| (rng.usize(1..=20), millis(&mut rng, 200, 2_000))).collect(),
            aws_trouble: [0, 5, 10, 20, 30][rng.usize(..5)],
            aws_seed: rng.u64(..),
            trouble,
            messages,
        }
    }
}

fn message(rng: &mut Rng, round: u64, number: usize) -> Message {
    let token = format!("r{round}n{number:03}x");
    let copies = if rng.u8(..8) == 0 { 2 } else { 1 };
    if rng.u8(..20) == 0 {
        let bodies = [format!("{token}, no JSON"), format!("\"{token}\""), format!("[{{\"id\":\"{token}\"}}]")];
        let body = bodies[rng.usize(..bodies.len())].clone();
        return Message { token, body, copies, fate: Fate::Undecodable };
    }
    let channels: Vec<usize> = match rng.u8(..10) {
        0 => Vec::new(),
        1 => vec![0, 1, 2],
        2 | 3 => {
            let but = rng.usize(..3);
            (0..3).filter(|channel| *channel != but).collect()
        }
        _ => vec![rng.usize(..3)],
    };
    let mut service = format!("{token}.");
    channels.iter().for_each(|channel| service += &format!("to-{}.", CHANNELS[*channel]));
    match rng.u8(..6) {
        0 => service += "<!channel>&*_~`>",
        1 => service += &"long".repeat(rng.usize(20..=400)),
        2 => service += "\u{202e}\u{0}\n\t🦀é",
        _ => {}
    }
    let ecs = Ecs::default();
    let make = [Ecs::start_impaired, Ecs::placement_failure, Ecs::deployment_failed, Ecs::image_missing, Ecs::no_route];
    let mut event = make[rng.usize(..make.len())](ecs, &service);
    event["id"] = json!(format!("{:08x}-0000-4000-8000-{number:012x}", rng.u32(..)));
    if rng.u8(..6) == 0 {
        let reason = "<reason> & *so* `on` \\ \" ".repeat(rng.usize(1..=200));
        let key = if event["detail"]["stoppedReason"].is_null() { "reason" } else { "stoppedReason" };
        event["detail"][key] = json!(reason);
    }
    let fate = if channels.is_empty() { Fate::Unrouted } else { Fate::Posted(channels) };
    Message { token, body: event.to_string(), copies, fate }
}

/// The routes that the services' names are made for.
pub(super) fn routes() -> String {
    let route = |name: &&str| {
        let named = json!([{ "wildcard": format!("*.to-{name}.*") }]);
        // Of a task only its group tells the service.
        let group = json!([{ "wildcard": format!("service:*.to-{name}.*") }]);
        let pattern: Value = json!({ "$or": [{ "resources": named }, { "detail": { "group": group } }] });
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
fn channel(rng: &mut Rng, messages: &[Message], size: Size) -> Vec<Answer> {
    let trouble = [0, 10, 30, 50, 100][rng.usize(..5)];
    let disliked = messages[rng.usize(..messages.len())].token.clone();
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
            4 => Answer::Status(500, "rollup_error"),
            5 => Answer::Status(503, "<html>no word of Slack's</html>"),
            6 => Answer::Hang,
            7 => Answer::Reset,
            8 => Answer::Cut,
            9 => Answer::Lost,
            10 => Answer::Status(403, "invalid_token"),
            11 => Answer::Status(200, "<html>Please sign in</html>"),
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
