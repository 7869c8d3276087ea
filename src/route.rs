//! Decides which channels an event goes to, whom it mentions there, and whether a mute holds it. Pure.
//!
//! Mutes come first: an event that a mute holds is not posted. Then the routes are tried in the order of the configuration. The first
//! route that takes the event ends the search, unless it has `continue = true`.

use std::{cell::LazyCell, sync::Arc};

use serde_json::Value;
use time::OffsetDateTime;

use crate::{alert::Severity, diagnosis::Tags};

use mention::Mention;
use mute::{Mute, MuteState};
use pattern::{MatchInput, Pattern, TagPattern, Verdict};

pub mod explain;
pub mod mention;
pub mod mute;
pub mod pattern;

/// A channel of the configuration, by its index there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ChannelId(pub usize);

/// One `[[route]]` of the configuration.
#[derive(Debug, Clone)]
pub struct Route {
    /// The channel it leads to.
    pub channel: ChannelId,
    /// The events it takes; without a pattern, every event that is a problem.
    pub pattern: Option<Pattern>,
    /// Whether the routes after it are tried for an event that it took (`continue = true` in the file).
    pub proceed: bool,
    /// Whom its alerts mention: its own `mention`, or else the channel's.
    pub mention: Option<Arc<Mention>>,
}

/// A channel that gets an alert, and whom the alert mentions there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// The channel.
    pub channel: ChannelId,
    /// Whom the alert mentions there, if it opens or escalates an incident.
    pub mention: Option<Arc<Mention>>,
}

/// Where an alert goes.
#[derive(Debug, Clone)]
pub enum RouteDecision {
    /// It goes to these channels, each listed once; if there are none, no route takes it.
    Channels(Vec<Recipient>),
    /// A mute holds it.
    Muted(Arc<Mute>),
}

impl RouteDecision {
    /// The channels it goes to.
    pub fn recipients(&self) -> &[Recipient] {
        match self {
            Self::Channels(recipients) => recipients,
            Self::Muted(_) => &[],
        }
    }

    /// The mute that holds it.
    pub fn mute(&self) -> Option<&Mute> {
        match self {
            Self::Channels(_) => None,
            Self::Muted(mute) => Some(mute),
        }
    }
}

/// All routes and mutes, in order.
#[derive(Debug, Clone, Default)]
pub struct Router {
    routes: Vec<Route>,
    mutes: Vec<Arc<Mute>>,
}

impl Router {
    /// A router that tries `routes` in this order, unless one of `mutes` holds the event.
    pub fn new(routes: Vec<Route>, mutes: Vec<Mute>) -> Self {
        Self { routes, mutes: mutes.into_iter().map(Arc::new).collect() }
    }

    /// The routes whose patterns allow `event`, the complete JSON that EventBridge delivers. The severity and the tags of its service
    /// decide later which of them take it. `time` is the time of the event, which decides whether a mute holds.
    pub fn route(&self, event: &Value, time: OffsetDateTime) -> Routes {
        // Many configurations have no pattern.
        let input = LazyCell::new(|| MatchInput::new(event));
        let mut routes = Routes::default();
        for mute in self.mutes.iter().filter(|mute| mute.state_at(time) == MuteState::Active) {
            match mute.pattern.evaluate(*input) {
                Verdict::No => {}
                Verdict::IfTagged(tags) => routes.tag_mutes.push((tags, Arc::clone(mute))),
                Verdict::Yes => return Routes { mute: Some(Arc::clone(mute)), ..Routes::default() },
            }
        }
        for Route { channel, pattern, proceed, mention } in &self.routes {
            let condition = match pattern.as_ref().map(|pattern| pattern.evaluate(*input)) {
                Some(Verdict::No) => continue,
                Some(Verdict::Yes) => Condition::None,
                Some(Verdict::IfTagged(tags)) => Condition::Tags(tags),
                None => Condition::Problem,
            };
            let is_last = matches!(condition, Condition::None) && !proceed;
            let recipient = Recipient { channel: *channel, mention: mention.clone() };
            routes.candidates.push(Candidate { recipient, condition, proceed: *proceed });
            if is_last {
                break;
            }
        }
        routes
    }
}

/// The routes that may take an event. They do not borrow from the event, and the diagnosis may still change the alert's severity.
#[derive(Debug, Clone, Default)]
pub struct Routes {
    candidates: Vec<Candidate>,
    mute: Option<Arc<Mute>>,
    /// The mutes that hold the event if the tags of its service match.
    tag_mutes: Vec<(TagPattern, Arc<Mute>)>,
}

#[derive(Debug, Clone)]
struct Candidate {
    recipient: Recipient,
    condition: Condition,
    proceed: bool,
}

/// The condition under which a route takes an event that its pattern does not exclude.
#[derive(Debug, Clone)]
enum Condition {
    /// It takes the event.
    None,
    /// It has no pattern, so it takes only problems.
    Problem,
    /// Its pattern names tags, which are not known yet.
    Tags(TagPattern),
}

impl Routes {
    /// Where an alert of this severity goes. Before [`Routes::with_tags`] this includes the channels that get it only if the tags match.
    /// If several routes lead to one channel, the first decides whom the alert mentions.
    pub fn decide(&self, severity: Severity) -> RouteDecision {
        if let Some(mute) = &self.mute {
            return RouteDecision::Muted(Arc::clone(mute));
        }
        let mut recipients: Vec<Recipient> = Vec::new();
        for route in self.tried(severity) {
            if recipients.iter().all(|earlier| earlier.channel != route.recipient.channel) {
                recipients.push(route.recipient.clone());
            }
        }
        RouteDecision::Channels(recipients)
    }

    /// The channels that get an alert of this severity, in the order of the routes, each once.
    pub fn channels(&self, severity: Severity) -> Vec<ChannelId> {
        self.decide(severity).recipients().iter().map(|recipient| recipient.channel).collect()
    }

    /// Whether the tags of the service can change which channels get an alert of this severity.
    pub fn depend_on_tags(&self, severity: Severity) -> bool {
        let is_undecided = |route: &Candidate| matches!(route.condition, Condition::Tags(_));
        match self.tag_mutes.as_slice() {
            [] => self.tried(severity).any(is_undecided),
            _ => self.tried(severity).next().is_some(),
        }
    }

    /// The routes that remain with these tags of the service. If the tags are unknown, no pattern that names tags matches.
    pub fn with_tags(&self, tags: Option<&Tags>) -> Self {
        let resolve = |route: &Candidate| match &route.condition {
            Condition::Tags(pattern) if !tags.is_some_and(|tags| pattern.matches(tags)) => None,
            Condition::Tags(_) => Some(Candidate { condition: Condition::None, ..route.clone() }),
            Condition::None | Condition::Problem => Some(route.clone()),
        };
        let holds = |(pattern, _): &&(TagPattern, _)| tags.is_some_and(|tags| pattern.matches(tags));
        let mute = self.tag_mutes.iter().find(holds).map(|(_, mute)| mute);
        Self {
            candidates: self.candidates.iter().filter_map(resolve).collect(),
            mute: self.mute.as_ref().or(mute).cloned(),
            tag_mutes: Vec::new(),
        }
    }

    /// The routes that may take an alert of this severity, up to the first that certainly takes it and does not continue.
    fn tried(&self, severity: Severity) -> impl Iterator<Item = &Candidate> {
        let mut is_over = false;
        self.candidates
            .iter()
            .take_while(move |route| {
                let is_taken = match route.condition {
                    Condition::None => true,
                    Condition::Problem => severity >= Severity::Warning,
                    Condition::Tags(_) => false,
                };
                let was_over = is_over;
                is_over |= is_taken && !route.proceed;
                !was_over
            })
            .filter(move |route| severity >= Severity::Warning || !matches!(route.condition, Condition::Problem))
    }
}

#[cfg(test)]
mod tests;
