//! Which channels an event goes to, whom it mentions there, and whether a mute holds it. Pure.
//!
//! Mutes come first: an event that one holds goes nowhere. Then routes are tried in the order of the configuration; the first
//! that takes an event ends the search, unless it says to go on.

use std::sync::Arc;

use serde_json::Value;
use time::OffsetDateTime;

use crate::{alert::Severity, diagnosis::Tags};

use mention::Mention;
use mute::{Mute, Standing};
use pattern::{Pattern, Subject, TagPattern, Verdict};

pub mod explain;
pub mod mention;
pub mod mute;
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
    /// Whom its alerts mention: its own `mention`, or else the channel's.
    pub mention: Option<Arc<Mention>>,
}

/// A channel that a route gives an alert to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// The channel.
    pub channel: ChannelId,
    /// Whom the alert mentions there, if it opens or escalates an incident.
    pub mention: Option<Arc<Mention>>,
}

/// What becomes of an alert.
#[derive(Debug, Clone)]
pub enum Destination {
    /// It goes to these channels, each named once; without any, no route takes it.
    Channels(Vec<Recipient>),
    /// A mute holds it.
    Muted(Arc<Mute>),
}

impl Destination {
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

    /// The routes that take `event`, the whole of it as EventBridge delivers it, as far as patterns tell; the severity and the tags of
    /// its service tell the rest. `time` is when it happened, by which mutes begin and end.
    pub fn route(&self, event: &Value, time: OffsetDateTime) -> Routes {
        let subject = Subject::new(event);
        let mut routes = Routes::default();
        for mute in self.mutes.iter().filter(|mute| mute.standing(time) == Standing::Holds) {
            match mute.pattern.judge(subject) {
                Verdict::No => {}
                Verdict::ByTags(tags) => routes.mutes_by_tags.push((tags, Arc::clone(mute))),
                Verdict::Yes => return Routes { mute: Some(Arc::clone(mute)), ..Routes::default() },
            }
        }
        for Route { channel, pattern, proceed, mention } in &self.routes {
            let condition = match pattern.as_ref().map(|pattern| pattern.judge(subject)) {
                Some(Verdict::No) => continue,
                Some(Verdict::Yes) => Condition::None,
                Some(Verdict::ByTags(tags)) => Condition::Tags(tags),
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

/// The routes that take an event, which need it no longer: its severity may change while ECS is asked.
#[derive(Debug, Clone, Default)]
pub struct Routes {
    candidates: Vec<Candidate>,
    mute: Option<Arc<Mute>>,
    /// The mutes that hold it if its service has such tags.
    mutes_by_tags: Vec<(TagPattern, Arc<Mute>)>,
}

#[derive(Debug, Clone)]
struct Candidate {
    recipient: Recipient,
    condition: Condition,
    proceed: bool,
}

/// When a route takes an event that its pattern does not refuse.
#[derive(Debug, Clone)]
enum Condition {
    None,
    /// It has no pattern.
    Problem,
    /// Its pattern names tags, which are not known yet.
    Tags(TagPattern),
}

impl Routes {
    /// Where an alert of this severity goes; also to those channels that get it only if the tags are right, until
    /// [`Routes::by_tags`] has judged these. Of several routes to one channel, the first decides whom it mentions.
    pub fn destination(&self, severity: Severity) -> Destination {
        if let Some(mute) = &self.mute {
            return Destination::Muted(Arc::clone(mute));
        }
        let mut recipients: Vec<Recipient> = Vec::new();
        for route in self.tried(severity) {
            if recipients.iter().all(|earlier| earlier.channel != route.recipient.channel) {
                recipients.push(route.recipient.clone());
            }
        }
        Destination::Channels(recipients)
    }

    /// The channels that get an alert of this severity, in the order of the routes, each once.
    pub fn channels(&self, severity: Severity) -> Vec<ChannelId> {
        self.destination(severity).recipients().iter().map(|recipient| recipient.channel).collect()
    }

    /// Whether the tags of the service may change which channels get an alert of this severity.
    pub fn depend_on_tags(&self, severity: Severity) -> bool {
        let is_open = |route: &Candidate| matches!(route.condition, Condition::Tags(_));
        match self.mutes_by_tags.as_slice() {
            [] => self.tried(severity).any(is_open),
            _ => self.tried(severity).next().is_some(),
        }
    }

    /// What is left of them when the tags of the service are these. Where they are not known, no pattern that names tags matches.
    pub fn by_tags(&self, tags: Option<&Tags>) -> Self {
        let judged = |route: &Candidate| match &route.condition {
            Condition::Tags(pattern) if !tags.is_some_and(|tags| pattern.matches(tags)) => None,
            Condition::Tags(_) => Some(Candidate { condition: Condition::None, ..route.clone() }),
            Condition::None | Condition::Problem => Some(route.clone()),
        };
        let holds = |(pattern, _): &&(TagPattern, _)| tags.is_some_and(|tags| pattern.matches(tags));
        let mute = self.mutes_by_tags.iter().find(holds).map(|(_, mute)| mute);
        Self {
            candidates: self.candidates.iter().filter_map(judged).collect(),
            mute: self.mute.as_ref().or(mute).cloned(),
            mutes_by_tags: Vec::new(),
        }
    }

    /// The routes up to the first that surely takes an alert of this severity and does not let it go on.
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
mod tests {
    use serde_json::json;
    use time::Duration;

    use super::*;

    const SEARCH: ChannelId = ChannelId(0);
    const PLATFORM: ChannelId = ChannelId(1);
    const AUDIT: ChannelId = ChannelId(2);
    const NONE: [ChannelId; 0] = [];
    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn to(channel: ChannelId, pattern: Option<Value>) -> Route {
        let pattern = pattern.map(|pattern| Pattern::compile(&pattern).unwrap());
        Route { channel, pattern, proceed: false, mention: None }
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
        let router = Router::new(vec![to(SEARCH, search_services()), to(PLATFORM, None)], Vec::new());
        assert_eq!(router.route(&impaired("search-prod/indexer"), NOW).channels(Severity::Critical), [SEARCH]);
        assert_eq!(router.route(&impaired("shop-prod/checkout"), NOW).channels(Severity::Critical), [PLATFORM]);
    }

    #[test]
    fn without_a_pattern_only_problems_are_taken_and_with_one_whatever_it_says() {
        let plain = Router::new(vec![to(PLATFORM, None)], Vec::new());
        let event = impaired("search-prod/indexer");
        assert_eq!(plain.route(&event, NOW).channels(Severity::Info), NONE);
        assert_eq!(plain.route(&event, NOW).channels(Severity::Warning), [PLATFORM]);
        assert_eq!(plain.route(&event, NOW).channels(Severity::Critical), [PLATFORM]);

        let patterned = Router::new(vec![to(SEARCH, search_services())], Vec::new());
        assert_eq!(patterned.route(&event, NOW).channels(Severity::Info), [SEARCH]);
        assert_eq!(patterned.route(&impaired("shop-prod/checkout"), NOW).channels(Severity::Critical), NONE);
    }

    #[test]
    fn a_route_that_continues_lets_the_next_ones_have_the_event_too() {
        let everything = || Some(json!({ "source": [{ "prefix": "aws." }] }));
        let router = Router::new(
            vec![
                and_on(to(AUDIT, everything())),
                and_on(to(SEARCH, search_services())),
                to(PLATFORM, None),
                to(AUDIT, None),
            ],
            Vec::new(),
        );
        assert_eq!(
            router.route(&impaired("search-prod/indexer"), NOW).channels(Severity::Critical),
            [AUDIT, SEARCH, PLATFORM]
        );
        assert_eq!(router.route(&impaired("shop-prod/checkout"), NOW).channels(Severity::Critical), [AUDIT, PLATFORM]);
        assert_eq!(router.route(&impaired("shop-prod/checkout"), NOW).channels(Severity::Info), [AUDIT]);
    }

    #[test]
    fn a_channel_gets_an_event_once_however_many_routes_lead_there() {
        let router = Router::new(
            vec![and_on(to(PLATFORM, search_services())), and_on(to(PLATFORM, None)), to(SEARCH, search_services())],
            Vec::new(),
        );
        assert_eq!(
            router.route(&impaired("search-prod/indexer"), NOW).channels(Severity::Critical),
            [PLATFORM, SEARCH]
        );
    }

    fn tags(tags: &[(&str, &str)]) -> Tags {
        let tags = tags.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect::<Vec<_>>();
        Tags::of(&json!({ "tags": tags }))
    }

    #[test]
    fn a_pattern_that_names_tags_is_judged_when_these_are_known() {
        let of_search = || Some(json!({ "service-tags": { "team": ["search"] } }));
        let router = Router::new(vec![to(SEARCH, of_search()), to(PLATFORM, None)], Vec::new());
        let routes = router.route(&impaired("shop-prod/checkout"), NOW);
        assert_eq!(routes.channels(Severity::Critical), [SEARCH, PLATFORM], "either may want it");
        assert!(routes.depend_on_tags(Severity::Critical));
        let channels = |tags: Option<&Tags>, severity| routes.by_tags(tags).channels(severity);
        let search = tags(&[("team", "search"), ("stage", "prod")]);
        assert_eq!(channels(Some(&search), Severity::Critical), [SEARCH]);
        assert_eq!(channels(Some(&search), Severity::Info), [SEARCH], "a pattern takes exactly what it says");
        assert_eq!(
            channels(Some(&tags(&[("Team", "search")])), Severity::Critical),
            [PLATFORM],
            "keys are case-sensitive"
        );
        assert_eq!(channels(None, Severity::Critical), [PLATFORM]);
        assert_eq!(channels(None, Severity::Info), NONE);
    }

    #[test]
    fn tags_are_asked_for_only_where_they_decide() {
        let of_search = || Some(json!({ "service-tags": { "team": ["search"] } }));
        let event = impaired("search-prod/indexer");
        let depends =
            |routes: Vec<Route>, severity| Router::new(routes, Vec::new()).route(&event, NOW).depend_on_tags(severity);
        assert!(!depends(vec![to(SEARCH, search_services()), to(PLATFORM, of_search())], Severity::Info));
        assert!(!depends(vec![to(PLATFORM, None), to(SEARCH, of_search())], Severity::Critical));
        assert!(depends(vec![to(PLATFORM, None), to(SEARCH, of_search())], Severity::Info));
        assert!(depends(vec![and_on(to(PLATFORM, None)), to(SEARCH, of_search())], Severity::Critical));
        let of_another_account = json!({ "account": ["1"], "service-tags": { "team": ["search"] } });
        assert!(!depends(vec![to(SEARCH, Some(of_another_account)), to(PLATFORM, None)], Severity::Critical));
    }

    #[test]
    fn a_mute_that_names_tags_holds_the_alerts_of_services_that_have_them() {
        let mute = Mute {
            place: 0,
            pattern: Pattern::compile(&json!({ "service-tags": { "team": ["search"] } })).unwrap(),
            from: None,
            until: None,
            reason: "moves house".into(),
        };
        let router = Router::new(vec![to(PLATFORM, None)], vec![mute]);
        let routes = router.route(&impaired("shop-prod/checkout"), NOW);
        assert!(routes.depend_on_tags(Severity::Critical));
        assert!(!routes.depend_on_tags(Severity::Info), "nobody wants it anyway");
        let is_muted = |tags: Option<&Tags>| routes.by_tags(tags).destination(Severity::Critical).mute().is_some();
        assert!(is_muted(Some(&tags(&[("team", "search")]))));
        assert!(!is_muted(Some(&tags(&[("team", "shop")]))));
        assert!(!is_muted(None), "what is not known mutes nothing");
    }

    #[test]
    fn an_event_cannot_bring_tags_of_its_own() {
        let of_search = json!({ "service-tags": { "team": ["search"] } });
        let router = Router::new(vec![to(SEARCH, Some(of_search)), to(PLATFORM, None)], Vec::new());
        for forged in [
            json!({ "service-tags": { "team": "search" } }),
            json!({ "service-tags": [{ "team": "search" }] }),
            json!({ "service-tags.team": "search" }),
        ] {
            let routes = router.route(&forged, NOW);
            assert_eq!(routes.by_tags(None).channels(Severity::Critical), [PLATFORM], "{forged}");
            assert_eq!(routes.by_tags(Some(&tags(&[]))).channels(Severity::Critical), [PLATFORM], "{forged}");
        }
    }

    #[test]
    fn without_routes_nothing_is_wanted() {
        assert_eq!(
            Router::new(Vec::new(), Vec::new())
                .route(&impaired("shop-prod/checkout"), NOW)
                .channels(Severity::Critical),
            NONE
        );
    }

    fn mention(whom: &str) -> Option<Arc<Mention>> {
        Some(Arc::new(Mention { whom: mention::parse(whom).unwrap(), from: Severity::Critical }))
    }

    #[test]
    fn of_two_routes_to_one_channel_the_first_that_takes_the_event_decides_whom_it_mentions() {
        let router = Router::new(
            vec![
                and_on(Route { mention: mention("<!here>"), ..to(PLATFORM, search_services()) }),
                Route { mention: mention("<!channel>"), ..to(PLATFORM, None) },
            ],
            Vec::new(),
        );
        let mentioned = |service: &str| {
            let destination = router.route(&impaired(service), NOW).destination(Severity::Critical);
            let [recipient] = destination.recipients() else { panic!("{destination:?}") };
            recipient.mention.as_ref().map(|mention| mention.whom.clone())
        };
        assert_eq!(mentioned("search-prod/indexer").as_deref(), Some("<!here>"));
        assert_eq!(mentioned("shop-prod/checkout").as_deref(), Some("<!channel>"));
    }

    #[test]
    fn a_mute_holds_what_its_pattern_matches_while_it_lasts_whatever_routes_say() {
        let mute = Mute {
            place: 0,
            pattern: Pattern::compile(&search_services().unwrap()).unwrap(),
            from: Some(NOW),
            until: Some(NOW + Duration::hours(2)),
            reason: "load test".into(),
        };
        let router = Router::new(vec![to(SEARCH, search_services()), to(PLATFORM, None)], vec![mute]);
        let goes = |service: &str, minutes: i64| {
            let destination =
                router.route(&impaired(service), NOW + Duration::minutes(minutes)).destination(Severity::Critical);
            (destination.mute().is_some(), destination.recipients().len())
        };
        assert_eq!(goes("search-prod/indexer", -1), (false, 1));
        assert_eq!(goes("search-prod/indexer", 0), (true, 0));
        assert_eq!(goes("search-prod/indexer", 119), (true, 0));
        assert_eq!(goes("search-prod/indexer", 120), (false, 1), "the end is not part of it");
        assert_eq!(goes("shop-prod/checkout", 60), (false, 1));
    }
}
