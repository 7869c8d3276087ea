//! Explains which route takes an event, why the others do not, and which mute holds it: for `check --event`. Pure.

use serde_json::Value;
use time::OffsetDateTime;

use super::{
    RouteDecision, Router,
    mute::{Mute, MuteState},
    pattern::{MatchInput, Verdict},
};
use crate::alert::Severity;

impl Router {
    /// One line for each mute and each route, in order, and one for the result. `names` are the names of the channels, in the order of
    /// their ids; `severity` is that of the event's alert, `time` the time of the event.
    pub fn explain_routing(
        &self,
        event: &Value,
        severity: Severity,
        time: OffsetDateTime,
        names: &[String],
    ) -> Vec<String> {
        let name = |channel: super::ChannelId| names.get(channel.0).map_or("?", String::as_str);
        let input = MatchInput::new(event);
        let routes = self.route(event, time);
        let decision = routes.with_tags(None).decide(severity);
        let mut lines = Vec::new();
        let mut stopped_by: Option<String> = None;
        for mute in &self.mutes {
            let verdict = mute.pattern.evaluate(input);
            lines.push(format!("{mute}: {}", explain_mute(mute, &verdict, input, time)));
            let holds = mute.state_at(time) == MuteState::Active && matches!(verdict, Verdict::Yes);
            if stopped_by.is_none() && holds {
                stopped_by = Some(format!("mute[{}] holds it", mute.place));
            }
        }
        for (place, route) in self.routes.iter().enumerate() {
            let evaluated = route.pattern.as_ref().map(|pattern| (pattern, pattern.evaluate(input)));
            let verdict = match (&stopped_by, evaluated) {
                (Some(stopped_by), _) => format!("not tried: {stopped_by}"),
                (None, None) if severity < Severity::Warning => {
                    "does not take it: without a pattern it takes problems only (warning, critical)".into()
                }
                (None, Some((pattern, Verdict::No))) => {
                    format!("does not match: {}", pattern.mismatches(input).join("; "))
                }
                (None, Some((_, Verdict::IfTagged(_)))) => format!("takes it {IF_TAGGED}"),
                (None, evaluated) => {
                    let why = if evaluated.is_some() { "its pattern matches" } else { "it is a problem" };
                    if !route.proceed {
                        stopped_by = Some(format!("route[{place}] took it"));
                    }
                    let further = if route.proceed { ", and the next routes are tried too" } else { "" };
                    format!("takes it: {why}{further}")
                }
            };
            lines.push(format!("route[{place}] to {:?}: {verdict}", name(route.channel)));
        }
        let outcome = match &decision {
            RouteDecision::Muted(mute) => format!("muted: {}", mute.reason),
            RouteDecision::Channels(recipients) if recipients.is_empty() && severity >= Severity::Warning => {
                "unrouted: NO ROUTE TAKES THIS PROBLEM, so it is deleted".into()
            }
            RouteDecision::Channels(recipients) if recipients.is_empty() => "unrouted: it is deleted".into(),
            RouteDecision::Channels(recipients) => {
                let to = recipients.iter().map(|recipient| {
                    let mention = recipient.mention.as_ref().filter(|mention| severity >= mention.from);
                    let mention = mention.map(|mention| format!(" (mentions {})", mention.whom)).unwrap_or_default();
                    format!("{:?}{mention}", name(recipient.channel))
                });
                format!("posted to {}", to.collect::<Vec<_>>().join(", "))
            }
        };
        let is_undecided = routes.depend_on_tags(severity);
        lines.push(if is_undecided { format!("without such tags: {outcome}") } else { outcome });
        lines
    }
}

/// The condition of a pattern that names `service-tags`.
const IF_TAGGED: &str = "if the tags of the service match; the event does not have them";

fn explain_mute(mute: &Mute, verdict: &Verdict, event: MatchInput<'_>, time: OffsetDateTime) -> String {
    if matches!(verdict, Verdict::No) {
        return format!("does not match: {}", mute.pattern.mismatches(event).join("; "));
    }
    match mute.state_at(time) {
        MuteState::Active if matches!(verdict, Verdict::IfTagged(_)) => format!("holds it {IF_TAGGED}"),
        MuteState::Active => "holds it".into(),
        MuteState::Pending => "matches, but begins after the time of the event".into(),
        MuteState::Ended => "matches, but ended before the time of the event".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;
    use time::Duration;

    use super::*;
    use crate::route::{ChannelId, Route, mention::Mention, pattern::Pattern};

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn to(channel: usize, pattern: Option<Value>) -> Route {
        let pattern = pattern.map(|pattern| Pattern::compile(&pattern).unwrap());
        Route { channel: ChannelId(channel), pattern, proceed: false, mention: None }
    }

    fn mute(pattern: Value) -> Mute {
        let pattern = Pattern::compile(&pattern).unwrap();
        Mute { place: 0, pattern, from: Some(NOW), until: Some(NOW + Duration::hours(1)), reason: "load test".into() }
    }

    fn explain(routes: Vec<Route>, mutes: Vec<Mute>, severity: Severity, minutes: i64) -> Vec<String> {
        let event = json!({ "source": "aws.ecs", "detail": { "eventName": "SERVICE_TASK_START_IMPAIRED" } });
        let names = ["search".to_owned(), "platform".to_owned()];
        Router::new(routes, mutes).explain_routing(&event, severity, NOW + Duration::minutes(minutes), &names)
    }

    #[test]
    fn the_explanation_says_which_route_takes_the_event_and_why_the_others_do_not() {
        let mention = Mention { whom: "<!here>".into(), from: Severity::Critical };
        let routes = vec![
            to(0, Some(json!({ "source": ["aws.esc"] }))),
            Route { proceed: true, ..to(0, Some(json!({ "source": ["aws.ecs"] }))) },
            Route { mention: Some(Arc::new(mention)), ..to(1, None) },
            to(0, None),
        ];
        assert_eq!(
            explain(routes.clone(), vec![], Severity::Critical, 0),
            [
                r#"route[0] to "search": does not match: source is "aws.ecs"; wanted: "aws.esc""#,
                r#"route[1] to "search": takes it: its pattern matches, and the next routes are tried too"#,
                r#"route[2] to "platform": takes it: it is a problem"#,
                r#"route[3] to "search": not tried: route[2] took it"#,
                r#"posted to "search", "platform" (mentions <!here>)"#,
            ]
        );
        let warning = explain(routes.clone(), vec![], Severity::Warning, 0);
        assert_eq!(warning.last().unwrap(), r#"posted to "search", "platform""#);
        let routine = explain(routes, vec![], Severity::Info, 0);
        assert!(routine[2].ends_with("without a pattern it takes problems only (warning, critical)"), "{routine:?}");
    }

    #[test]
    fn a_dependence_on_tags_is_shown() {
        let of_search = || json!({ "service-tags": { "team": ["search"] } });
        let routes = vec![to(0, Some(of_search())), to(1, None)];
        assert_eq!(
            explain(routes, vec![mute(of_search())], Severity::Critical, 0),
            [
                "mute[0] from 1970-01-01T00:00:00Z until 1970-01-01T01:00:00Z (load test): holds it if the tags of the service match; \
                 the event does not have them",
                r#"route[0] to "search": takes it if the tags of the service match; the event does not have them"#,
                r#"route[1] to "platform": takes it: it is a problem"#,
                r#"without such tags: posted to "platform""#,
            ]
        );
    }

    #[test]
    fn a_problem_that_no_route_takes_stands_out() {
        let routes = || vec![to(0, Some(json!({ "source": ["aws.esc"] })))];
        let last = |severity| explain(routes(), vec![], severity, 0).pop().unwrap();
        assert_eq!(last(Severity::Warning), "unrouted: NO ROUTE TAKES THIS PROBLEM, so it is deleted");
        assert_eq!(last(Severity::Info), "unrouted: it is deleted");
    }

    #[test]
    fn the_explanation_names_the_mute_that_holds_the_event() {
        let said =
            |pattern: Value, minutes| explain(vec![to(0, None)], vec![mute(pattern)], Severity::Critical, minutes);
        let ecs = || json!({ "source": ["aws.ecs"] });
        let name = "mute[0] from 1970-01-01T00:00:00Z until 1970-01-01T01:00:00Z (load test)";
        assert_eq!(
            said(ecs(), 30),
            [
                format!("{name}: holds it"),
                r#"route[0] to "search": not tried: mute[0] holds it"#.into(),
                "muted: load test".into(),
            ]
        );
        assert_eq!(said(ecs(), 60)[0], format!("{name}: matches, but ended before the time of the event"));
        assert_eq!(said(ecs(), -1)[0], format!("{name}: matches, but begins after the time of the event"));
        assert!(
            said(json!({ "source": ["x"] }), 30)[0].ends_with(r#"does not match: source is "aws.ecs"; wanted: "x""#)
        );
    }
}
