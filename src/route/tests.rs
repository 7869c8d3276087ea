//! Which channels an event goes to, by routes, mutes and tags.

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

fn continuing(route: Route) -> Route {
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
fn a_route_without_a_pattern_takes_only_problems_and_one_with_a_pattern_takes_all_that_match() {
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
fn after_a_route_that_continues_the_next_routes_may_take_the_event_too() {
    let everything = || Some(json!({ "source": [{ "prefix": "aws." }] }));
    let router = Router::new(
        vec![
            continuing(to(AUDIT, everything())),
            continuing(to(SEARCH, search_services())),
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
fn a_channel_gets_an_event_only_once_even_if_several_routes_lead_to_it() {
    let router = Router::new(
        vec![
            continuing(to(PLATFORM, search_services())),
            continuing(to(PLATFORM, None)),
            to(SEARCH, search_services()),
        ],
        Vec::new(),
    );
    assert_eq!(router.route(&impaired("search-prod/indexer"), NOW).channels(Severity::Critical), [PLATFORM, SEARCH]);
}

fn tags(tags: &[(&str, &str)]) -> Tags {
    let tags = tags.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect::<Vec<_>>();
    Tags::of(&json!({ "tags": tags }))
}

#[test]
fn a_pattern_that_names_tags_is_matched_when_the_tags_are_known() {
    let of_search = || Some(json!({ "service-tags": { "team": ["search"] } }));
    let router = Router::new(vec![to(SEARCH, of_search()), to(PLATFORM, None)], Vec::new());
    let routes = router.route(&impaired("shop-prod/checkout"), NOW);
    assert_eq!(routes.channels(Severity::Critical), [SEARCH, PLATFORM], "each may take it, before the tags are known");
    assert!(routes.depend_on_tags(Severity::Critical));
    let channels = |tags: Option<&Tags>, severity| routes.with_tags(tags).channels(severity);
    let search = tags(&[("team", "search"), ("stage", "prod")]);
    assert_eq!(channels(Some(&search), Severity::Critical), [SEARCH]);
    assert_eq!(channels(Some(&search), Severity::Info), [SEARCH], "a pattern takes exactly what it says");
    assert_eq!(channels(Some(&tags(&[("Team", "search")])), Severity::Critical), [PLATFORM], "keys are case-sensitive");
    assert_eq!(channels(None, Severity::Critical), [PLATFORM]);
    assert_eq!(channels(None, Severity::Info), NONE);
}

#[test]
fn tags_are_read_only_if_they_decide() {
    let of_search = || Some(json!({ "service-tags": { "team": ["search"] } }));
    let event = impaired("search-prod/indexer");
    let depends =
        |routes: Vec<Route>, severity| Router::new(routes, Vec::new()).route(&event, NOW).depend_on_tags(severity);
    assert!(!depends(vec![to(SEARCH, search_services()), to(PLATFORM, of_search())], Severity::Info));
    assert!(!depends(vec![to(PLATFORM, None), to(SEARCH, of_search())], Severity::Critical));
    assert!(depends(vec![to(PLATFORM, None), to(SEARCH, of_search())], Severity::Info));
    assert!(depends(vec![continuing(to(PLATFORM, None)), to(SEARCH, of_search())], Severity::Critical));
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
        reason: "migration".into(),
    };
    let router = Router::new(vec![to(PLATFORM, None)], vec![mute]);
    let routes = router.route(&impaired("shop-prod/checkout"), NOW);
    assert!(routes.depend_on_tags(Severity::Critical));
    assert!(!routes.depend_on_tags(Severity::Info), "no route takes it anyway");
    let is_muted = |tags: Option<&Tags>| routes.with_tags(tags).decide(Severity::Critical).mute().is_some();
    assert!(is_muted(Some(&tags(&[("team", "search")]))));
    assert!(!is_muted(Some(&tags(&[("team", "shop")]))));
    assert!(!is_muted(None), "unknown tags mute nothing");
}

#[test]
fn a_field_service_tags_in_the_event_is_ignored() {
    let of_search = json!({ "service-tags": { "team": ["search"] } });
    let router = Router::new(vec![to(SEARCH, Some(of_search)), to(PLATFORM, None)], Vec::new());
    for forged in [
        json!({ "service-tags": { "team": "search" } }),
        json!({ "service-tags": [{ "team": "search" }] }),
        json!({ "service-tags.team": "search" }),
    ] {
        let routes = router.route(&forged, NOW);
        assert_eq!(routes.with_tags(None).channels(Severity::Critical), [PLATFORM], "{forged}");
        assert_eq!(routes.with_tags(Some(&tags(&[]))).channels(Severity::Critical), [PLATFORM], "{forged}");
    }
}

#[test]
fn without_routes_no_channel_gets_an_event() {
    assert_eq!(
        Router::new(Vec::new(), Vec::new()).route(&impaired("shop-prod/checkout"), NOW).channels(Severity::Critical),
        NONE
    );
}

fn mention(whom: &str) -> Option<Arc<Mention>> {
    Some(Arc::new(Mention { whom: mention::parse(whom).unwrap(), from: Severity::Critical }))
}

#[test]
fn if_two_routes_lead_to_a_channel_the_first_that_takes_the_event_decides_whom_it_mentions() {
    let router = Router::new(
        vec![
            continuing(Route { mention: mention("<!here>"), ..to(PLATFORM, search_services()) }),
            Route { mention: mention("<!channel>"), ..to(PLATFORM, None) },
        ],
        Vec::new(),
    );
    let mentioned = |service: &str| {
        let decision = router.route(&impaired(service), NOW).decide(Severity::Critical);
        let [recipient] = decision.recipients() else { panic!("{decision:?}") };
        recipient.mention.as_ref().map(|mention| mention.whom.clone())
    };
    assert_eq!(mentioned("search-prod/indexer").as_deref(), Some("<!here>"));
    assert_eq!(mentioned("shop-prod/checkout").as_deref(), Some("<!channel>"));
}

#[test]
fn an_active_mute_holds_the_events_that_its_pattern_matches_before_any_route() {
    let mute = Mute {
        place: 0,
        pattern: Pattern::compile(&search_services().unwrap()).unwrap(),
        from: Some(NOW),
        until: Some(NOW + Duration::hours(2)),
        reason: "load test".into(),
    };
    let router = Router::new(vec![to(SEARCH, search_services()), to(PLATFORM, None)], vec![mute]);
    let goes = |service: &str, minutes: i64| {
        let decision = router.route(&impaired(service), NOW + Duration::minutes(minutes)).decide(Severity::Critical);
        (decision.mute().is_some(), decision.recipients().len())
    };
    assert_eq!(goes("search-prod/indexer", -1), (false, 1));
    assert_eq!(goes("search-prod/indexer", 0), (true, 0));
    assert_eq!(goes("search-prod/indexer", 119), (true, 0));
    assert_eq!(goes("search-prod/indexer", 120), (false, 1), "`until` is exclusive");
    assert_eq!(goes("shop-prod/checkout", 60), (false, 1));
}
