//! Which channels an event goes to. Pure.
//!
//! Routes are tried in the order of the configuration; the first that takes an event ends the search, unless it says to
//! go on.

use serde_json::Value;

use crate::alert::Severity;

use pattern::{Pattern, Subject};

pub mod pattern;

/// A channel of the configuration, by its place there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ChannelId(pub usize);

/// One `[[route]]` of the configuration.
#[derive(Debug, Clone)]
pub struct Route {
    /// The channel it leads to.
    pub channel: ChannelId,
    /// The events it takes; without one, every event that is a problem.
    pub pattern: Option<Pattern>,
    /// Whether the routes after it are tried for an event that it took (`continue = true` in the file).
    pub proceed: bool,
}

/// All routes, in order.
#[derive(Debug, Clone)]
pub struct Router {
    routes: Vec<Route>,
}

impl Router {
    /// A router that tries `routes` in this order.
    pub fn new(routes: Vec<Route>) -> Self {
        Self { routes }
    }

    /// The routes that take `event`, the whole of it as EventBridge delivers it, as far as patterns tell; the severity tells
    /// the rest.
    pub fn route(&self, event: &Value) -> Routes {
        let subject = Subject::new(event);
        let mut routes = Vec::new();
        for Route { channel, pattern, proceed } in &self.routes {
            let is_sure = match pattern {
                Some(pattern) if !pattern.matches(subject) => continue,
                pattern => pattern.is_some(),
            };
            routes.push(Candidate { channel: *channel, only_problems: !is_sure, proceed: *proceed });
            if is_sure && !proceed {
                break;
            }
        }
        Routes(routes)
    }
}

/// The routes that take an event, which need it no longer: its severity may change while ECS is asked.
#[derive(Debug, Clone)]
pub struct Routes(Vec<Candidate>);

#[derive(Debug, Clone, Copy)]
struct Candidate {
    channel: ChannelId,
    /// It has no pattern.
    only_problems: bool,
    proceed: bool,
}

impl Routes {
    /// The channels that get an alert of this severity, in the order of the routes, each once.
    pub fn channels(&self, severity: Severity) -> Vec<ChannelId> {
        let mut channels = Vec::new();
        for route in self.0.iter().filter(|route| severity >= Severity::Warning || !route.only_problems) {
            if !channels.contains(&route.channel) {
                channels.push(route.channel);
            }
            if !route.proceed {
                break;
            }
        }
        channels
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SEARCH: ChannelId = ChannelId(0);
    const PLATFORM: ChannelId = ChannelId(1);
    const AUDIT: ChannelId = ChannelId(2);
    const NONE: [ChannelId; 0] = [];

    fn to(channel: ChannelId, pattern: Option<Value>) -> Route {
        Route { channel, pattern: pattern.map(|pattern| Pattern::compile(&pattern).unwrap()), proceed: false }
    }

    fn and_on(route: Route) -> Route {
        Route { proceed: true, ..route }
    }

    fn impaired(service: &str) -> Value {
        json!({
            "version": "0",
            "id": "0d4e4a4e-7d3f-4ac1-9b0e-4c3d7a3cf3b5",
            "detail-type": "ECS Service Action",
            "source": "aws.ecs",
            "account": "123456789012",
            "time": "2026-03-14T15:09:26Z",
            "region": "eu-west-1",
            "resources": [format!("arn:aws:ecs:eu-west-1:123456789012:service/{service}")],
            "detail": { "eventType": "WARN", "eventName": "SERVICE_TASK_START_IMPAIRED" },
        })
    }

    fn search_services() -> Option<Value> {
        Some(json!({ "resources": [{ "wildcard": "*:service/search-*/*" }] }))
    }

    #[test]
    fn a_team_gets_its_own_clusters_and_the_platform_the_rest() {
        let router = Router::new(vec![to(SEARCH, search_services()), to(PLATFORM, None)]);
        assert_eq!(router.route(&impaired("search-prod/indexer")).channels(Severity::Critical), [SEARCH]);
        assert_eq!(router.route(&impaired("shop-prod/checkout")).channels(Severity::Critical), [PLATFORM]);
    }

    #[test]
    fn without_a_pattern_only_problems_are_taken_and_with_one_whatever_it_says() {
        let plain = Router::new(vec![to(PLATFORM, None)]);
        let event = impaired("search-prod/indexer");
        assert_eq!(plain.route(&event).channels(Severity::Info), NONE);
        assert_eq!(plain.route(&event).channels(Severity::Warning), [PLATFORM]);
        assert_eq!(plain.route(&event).channels(Severity::Critical), [PLATFORM]);

        let patterned = Router::new(vec![to(SEARCH, search_services())]);
        assert_eq!(patterned.route(&event).channels(Severity::Info), [SEARCH]);
        assert_eq!(patterned.route(&impaired("shop-prod/checkout")).channels(Severity::Critical), NONE);
    }

    #[test]
    fn a_route_that_continues_lets_the_next_ones_have_the_event_too() {
        let everything = || Some(json!({ "source": [{ "prefix": "aws." }] }));
        let router = Router::new(vec![
            and_on(to(AUDIT, everything())),
            and_on(to(SEARCH, search_services())),
            to(PLATFORM, None),
            to(AUDIT, None),
        ]);
        assert_eq!(
            router.route(&impaired("search-prod/indexer")).channels(Severity::Critical),
            [AUDIT, SEARCH, PLATFORM]
        );
        assert_eq!(router.route(&impaired("shop-prod/checkout")).channels(Severity::Critical), [AUDIT, PLATFORM]);
        assert_eq!(router.route(&impaired("shop-prod/checkout")).channels(Severity::Info), [AUDIT]);
    }

    #[test]
    fn a_channel_gets_an_event_once_however_many_routes_lead_there() {
        let router = Router::new(vec![
            and_on(to(PLATFORM, search_services())),
            and_on(to(PLATFORM, None)),
            to(SEARCH, search_services()),
        ]);
        assert_eq!(router.route(&impaired("search-prod/indexer")).channels(Severity::Critical), [PLATFORM, SEARCH]);
    }

    #[test]
    fn without_routes_nothing_is_wanted() {
        assert_eq!(Router::new(Vec::new()).route(&impaired("shop-prod/checkout")).channels(Severity::Critical), NONE);
    }
}
