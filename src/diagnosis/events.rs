//! Finds the messages about failures among the events of a service.
//!
//! ECS has few messages about routine operations, and [`ROUTINE`] lists them. Its messages about failures are not all known, so every
//! other message counts as one about a failure.
//! <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-event-messages-list.html>

use std::cmp::Reverse;

use serde_json::Value;
use time::Duration;

use super::answers::time;
use crate::event::{list, text};

/// An event that is older than the latest one by more than this does not count.
const RECENT: Duration = Duration::HOUR;

/// How a message about a routine operation begins, after the name of the service.
const ROUTINE: [&str; 12] = [
    "has reached a steady state",
    "has started ",
    "has stopped ",
    "has begun draining",
    "has finished draining",
    "registered ",
    "deregistered ",
    "deployment completed",
    "deployment in progress",
    "updated ",
    "is az balanced",
    "is not az balanced",
];

/// Messages that say that something fails, but never why.
const SYMPTOMS: [&str; 3] = ["deployment failed", "rolling back", "is unable to consistently start tasks successfully"];

/// The messages of a described service's recent events, the latest first.
pub(super) fn recent(described: &Value) -> impl Iterator<Item = &str> {
    let at = |event: &Value| time(event, "createdAt");
    let latest = list(described, "events").filter_map(at).max();
    let is_recent = |event: &&Value| latest.zip(at(event)).is_none_or(|(latest, at)| latest - at <= RECENT);
    let mut events: Vec<&Value> = list(described, "events").filter(is_recent).collect();
    events.sort_by_key(|event| Reverse(at(event)));
    events.into_iter().filter_map(|event| text(event, "message"))
}

/// The latest recent message about a failure: one that may say why, else one of [`SYMPTOMS`].
pub(super) fn latest_failure(described: &Value) -> Option<&str> {
    let failures = || recent(described).filter(|message| starts_with_none_of(message, &ROUTINE));
    failures().find(|message| starts_with_none_of(message, &SYMPTOMS)).or_else(|| failures().next())
}

/// The latest recent message about a failed health check.
pub(super) fn latest_failed_health_check(described: &Value) -> Option<&str> {
    recent(described).find(|message| is_about_health_check(message))
}

/// Whether a message is about a failed health check.
pub(super) fn is_about_health_check(message: &str) -> bool {
    let text = without_names(message).to_ascii_lowercase();
    text.contains("unhealthy") || text.contains("health check")
}

fn starts_with_none_of(message: &str, phrases: &[&str]) -> bool {
    let text = without_names(message).to_ascii_lowercase();
    !phrases.iter().any(|phrase| text.starts_with(phrase))
}

/// The message without the names at its start: `(service web) (port 80) is unhealthy` → `is unhealthy`.
fn without_names(message: &str) -> &str {
    let mut rest = message.trim_start();
    if let Some((_, after)) = rest.strip_prefix("service ").and_then(|name| name.split_once(' ')) {
        rest = after;
    }
    while let Some((_, after)) = rest.strip_prefix('(').and_then(|name| name.split_once(')')) {
        rest = after.trim_start();
    }
    rest
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(messages: &[&str]) -> Value {
        let event = |(age, message): (usize, &&str)| json!({ "createdAt": 100_000 - age, "message": message });
        json!({ "events": messages.iter().enumerate().map(event).collect::<Vec<_>>() })
    }

    #[test]
    fn the_latest_failure_is_found_behind_routine_and_symptoms() {
        let routine = [
            "(service failed-web) has reached a steady state.",
            "(service web) has started 2 tasks: (task 1) (task 2).",
            "(service web) has stopped 1 running tasks: (task 1).",
            "(service web) has begun draining connections on 1 tasks.",
            "(service web) registered 1 targets in (target-group arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/web/1)",
            "(service web) deregistered 1 targets in (target-group arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/web/1)",
            "(service web) (deployment ecs-svc/1) deployment completed.",
            "(service web, taskSet ecs-svc/1) updated computedDesiredCount to 2.",
            "service failed has reached a steady state.",
            "(service web) is not AZ balanced with 1 tasks in eu-west-1a. AZ Rebalancing in progress.",
        ];
        assert_eq!(latest_failure(&service(&routine)), None);
        let symptoms = [
            "(service web) rolling back to deployment ecs-svc/1.",
            "(service web) (deployment ecs-svc/2) deployment failed: tasks failed to start.",
            "(service web) is unable to consistently start tasks successfully. For more information, see …",
        ];
        let all: Vec<&str> = routine.into_iter().chain(symptoms).collect();
        assert_eq!(latest_failure(&service(&all)), Some(symptoms[0]), "no other message is about a failure");
        for failure in [
            "(service web) was unable to place a task because your account is currently blocked.",
            "(service web) was unable to place a task. Reason: Something that nobody has seen yet.",
            "(service web) failed to register targets in (target-group x) with (error The security token is invalid)",
            "service web failed to describe target health on target-group web with (error User: x is not authorized)",
            "(service web) failed to launch a task with (error Unable to assume the service linked role.)",
            "(service web) (instance i-1) (port 80) is unhealthy in (target-group x) due to (reason Request timed out)",
        ] {
            let all: Vec<&str> = all.iter().copied().chain([failure, "(service web) failed earlier."]).collect();
            assert_eq!(latest_failure(&service(&all)), Some(failure));
        }
    }

    #[test]
    fn an_event_more_than_an_hour_before_the_latest_does_not_count() {
        let mut service = service(&["(service web) has started 1 tasks: (task 1).", "(service web) was unable to …"]);
        service["events"][1]["createdAt"] = (100_000 - 3_601).into();
        assert_eq!(latest_failure(&service), None);
    }
}
