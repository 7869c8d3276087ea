//! Which channel gets an alert, whom it mentions, and which alerts are muted.

use super::*;
use crate::route::RouteDecision;

/// Two channels, with more keys for the first, and the rest of the file.
fn two(channel: &str, rest: &str) -> String {
    let section =
        |name: &str, more: &str| format!("[[channel]]\nname = '{name}'\nwebhook_secret_id = '{name}'\n{more}\n");
    format!("{}{}{rest}", section("a", channel), section("b", ""))
}

/// For each route, whom it mentions and from which severity on.
fn mentions(file: &str) -> Vec<Option<(String, Severity)>> {
    let config = load(file, &MINIMAL[..1]).unwrap();
    let mention = |route: route::Route| route.mention.map(|mention| (mention.whom.clone(), mention.from));
    config.routes.into_iter().map(mention).collect()
}

#[test]
fn a_route_has_its_channels_mention_unless_it_overrides_it() {
    let file = two(
        "mention = '<!subteam^S0123456789>'\nmention_from = 'warning'",
        "[[route]]\nchannel = 'a'\ncontinue = true\n\
         [[route]]\nchannel = 'a'\nmention = '<!here>  <@U0123456789>'\n\
         [[route]]\nchannel = 'a'\nmention_from = 'critical'\n\
         [[route]]\nchannel = 'a'\nmention = ''\n\
         [[route]]\nchannel = 'b'\n\
         [[route]]\nchannel = 'b'\nmention = '<!channel>'\n",
    );
    let some = |whom: &str, from| Some((whom.to_owned(), from));
    let (warning, critical) = (Severity::Warning, Severity::Critical);
    assert_eq!(
        mentions(&file),
        [
            some("<!subteam^S0123456789>", warning),
            some("<!here> <@U0123456789>", warning),
            some("<!subteam^S0123456789>", critical),
            None,
            None,
            some("<!channel>", critical),
        ]
    );
    let only = "[[channel]]\nname = 'a'\nwebhook_secret_id = 'a'\nmention = '<!here>'";
    assert_eq!(mentions(only), [some("<!here>", critical)], "without routes, the channel's mention applies too");
}

#[test]
fn a_fault_in_a_mention_names_its_key() {
    for (channel, route, expected) in [
        ("mention = '@here'", "", "channel[0].mention: \"@here\" would be plain text in Slack; write \"<!here>\""),
        ("mention = 1", "", "channel[0].mention: is 1; it must be a string"),
        (
            "mention_from = 'info'",
            "",
            "channel[0].mention_from: \"info\" is unknown; it must be \"warning\" or \"critical\"",
        ),
        ("", "mention = '<@oncall>'", "route[0].mention: \"<@oncall>\" is not a mention; write \"<!subteam^"),
        ("", "mention_from = 'error'", "route[0].mention_from: \"error\" is unknown"),
    ] {
        let file = two(channel, &format!("[[route]]\nchannel = 'a'\n{route}\n[[route]]\nchannel = 'b'\n"));
        let error = load(&file, &MINIMAL[..1]).map(drop).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let file =
        two("", "[[route]]\nchannel = 'a'\nmention_from = 'warning'\ncontinue = true\n[[route]]\nchannel = 'b'\n");
    let warnings = load(&file, &MINIMAL[..1]).unwrap().warnings;
    assert_eq!(warnings, ["route[0].mention_from: has no effect: neither this route nor its channel has a mention"]);
}

#[test]
fn routes_that_may_match_nothing_must_be_confirmed() {
    let patterned = "[[route]]\nchannel = 'a'\npattern = { source = ['aws.esc'] }\n[[route]]\nchannel = 'b'\npattern = { source = ['x'] }\n";
    let error = load(&two("", patterned), &MINIMAL[..1]).map(drop).unwrap_err();
    for part in ["route: each has a pattern", "add a last [[route]]", "unrouted = \"drop\" at the top of the file"] {
        assert!(error.contains(part), "{error}");
    }
    load(&format!("unrouted = 'drop'\n{}", two("", patterned)), &MINIMAL[..1]).unwrap();
    load(&two("", &format!("{patterned}[[route]]\nchannel = 'b'\n")), &MINIMAL[..1]).unwrap();
    let error = load("unrouted = 'keep'", &MINIMAL).map(drop).unwrap_err();
    assert!(error.contains("unrouted: \"keep\" is unknown; it must be \"drop\""), "{error}");
}

#[test]
fn a_mute_has_a_pattern_an_end_and_a_reason() {
    let mute = "[[mute]]\npattern = { source = ['aws.ecs'] }\nuntil = 'forever'\nreason = 'a test of #42, see https://example.com/42'\n\
                [[mute]]\npattern = '{\"source\":[null]}'\nfrom = '2026-12-01T20:00:00Z'\nuntil = 2126-12-02T06:00:00+01:00\nreason = 'b'\n";
    let config = load(mute, &MINIMAL).unwrap();
    let shown: Vec<String> = config.mutes.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "mute[0] forever (a test of #42, see https://example.com/42)",
            "mute[1] from 2026-12-01T20:00:00Z until 2126-12-02T05:00:00Z (b)",
        ]
    );
    assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
    assert!(config.warnings[0].starts_with("mute[0].until: \"forever\" never ends"), "{:?}", config.warnings);
    let event = serde_json::json!({ "source": "aws.ecs" });
    let router = route::Router::new(config.routes, config.mutes);
    let decision = router.route(&event, OffsetDateTime::now_utc()).decide(Severity::Critical);
    assert!(matches!(decision, RouteDecision::Muted(_)), "{decision:?}");
}

#[test]
fn a_mute_that_has_ended_is_a_warning() {
    let mute = "[[mute]]\npattern = { source = ['aws.ecs'] }\nuntil = '2020-01-01T00:00:00Z'\nreason = 'old'\n";
    let warnings = load(mute, &MINIMAL).unwrap().warnings;
    assert!(
        warnings.len() == 1 && warnings[0].starts_with("mute[0]: mute[0] until 2020-01-01T00:00:00Z (old) has ended"),
        "{warnings:?}"
    );
}

#[test]
fn a_fault_in_a_mute_names_its_key() {
    const GOOD: [&str; 4] = [
        "pattern = { source = ['aws.ecs'] }",
        "from = '2026-12-01T20:00:00Z'",
        "until = '2126-12-02T06:00:00Z'",
        "reason = 'load test'",
    ];
    for (place, line, expected) in [
        (0, "", "mute[0].pattern: is required"),
        (0, "pattern = { source = 'aws.ecs' }", "mute[0].pattern: source"),
        (1, "from = 'tomorrow'", "mute[0].from: \"tomorrow\" is not a date, a time and an offset; write \"2026-"),
        (1, "from = '2026-12-01 20:00'", "mute[0].from: "),
        (1, "from = 2026-12-01T20:00:00", "mute[0].from: "),
        (1, "from = 'forever'", "mute[0].from: \"forever\" is not a date"),
        (1, "from = '2126-12-02T07:00:00+01:00'", "mute[0].until: is not later than from"),
        (2, "", "mute[0].until: is required"),
        (2, "until = 7", "mute[0].until: must be a string"),
        (2, "until = 'never'", "mute[0].until: \"never\" is not a date, a time and an offset"),
        (3, "", "mute[0].reason: is required"),
        (3, "reason = ' '", "mute[0].reason: is required"),
        (3, "reason = 'https://hooks.slack.com/services/T0/B0/sesame'", "mute[0].reason: holds a webhook"),
        (3, "reason = \"a\\nb\"", "mute[0].reason: must be a single line"),
        (3, "reasons = 'x'", "mute[0].reasons: is not a key; there are: pattern, from, until, reason"),
    ] {
        let mut lines = GOOD;
        lines[place] = line;
        let error = load(&format!("[[mute]]\n{}", lines.join("\n")), &MINIMAL).map(drop).unwrap_err();
        assert!(error.contains(expected) && !error.contains("sesame"), "{line}: {error}");
    }
}

#[test]
fn sensible_routes_have_no_warning() {
    assert_eq!(load("", &MINIMAL).unwrap().warnings, [""; 0]);
    for routes in [
        "[[route]]\nchannel = 'b'\npattern = { source = ['aws.ecs'] }\n[[route]]\nchannel = 'a'\n",
        "[[route]]\nchannel = 'a'\ncontinue = true\n[[route]]\nchannel = 'b'\n",
        "[[route]]\nchannel = 'a'\ncontinue = true\n[[route]]\nchannel = 'b'\npattern = { source = ['aws.ecs'] }\n",
        // The second takes more: another value, or one field fewer.
        "[[route]]\nchannel = 'a'\npattern = { source = ['x'] }\n[[route]]\nchannel = 'b'\npattern = { source = ['x', 'y'] }\n",
        "[[route]]\nchannel = 'a'\npattern = { source = ['x'], account = ['1'] }\n[[route]]\nchannel = 'b'\npattern = { source = ['x'] }\n",
        // In an array of objects, one object may lack the field while another has the other field.
        "[[route]]\nchannel = 'a'\npattern = { detail = { x = [{ exists = false }] } }\n\
         [[route]]\nchannel = 'b'\npattern = { detail = { x = [{ exists = false }], y = ['1'] } }\n",
    ] {
        assert_eq!(warnings(&routed(routes)), [""; 0], "{routes}");
    }
    assert_eq!(load("[queue]\nvisibility_timeout = '10s'", &MINIMAL).unwrap().warnings, [""; 0]);
}

#[test]
fn a_route_without_effect_is_a_warning() {
    let two = |first: &str, second: &str| {
        let route = |channel: &str, more: &str| format!("[[route]]\nchannel = '{channel}'\n{more}\n");
        warnings(&routed(&(route("a", first) + &route("b", second))))
    };
    const ECS: &str = "pattern = { source = ['aws.ecs', 'x'] }";
    for (first, second, expected) in [
        ("", "", "route[1]: never takes an event: route[0] takes every problem"),
        ("", ECS, "route[1]: takes only events that are not problems (severity info): route[0] has no pattern"),
        (ECS, ECS, "route[1]: never takes an event: route[0] takes whatever"),
        (ECS, "pattern = { source = ['x'] }", "route[1]: never takes an event"),
        (ECS, "pattern = { detail = { a = [1] }, source = ['x'] }", "route[1]: never takes an event"),
        (
            "pattern = { detail = { a = [{ exists = false }] } }",
            "pattern = { detail = { a = [{ exists = false }] } }",
            "route[1]: never takes an event",
        ),
    ] {
        let warnings = two(first, second);
        assert!(warnings.len() == 1 && warnings[0].starts_with(expected), "{first} {second}: {warnings:?}");
    }
    let unused = warnings(&routed("[[route]]\nchannel = 'b'\n"));
    assert_eq!(unused, ["channel: no [[route]] leads to \"a\", so nothing is ever posted there"]);
}
