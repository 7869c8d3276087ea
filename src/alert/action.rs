//! Alerts about events with an `eventName`: about services, deployments, hooks and daemons.
//!
//! Names and meanings: <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_service_events.html>

use super::{Page, Parts, Severity, console, utc, words};
use crate::event::{Arn, Event, distinct, ecs::Action, parse_time};
use crate::text::line;
use Severity::{Critical, Info, Warning};

/// `subject_kind` is "service" or "daemon". The alert uses it if the event names neither.
pub(super) fn describe(event: &Event, action: &Action, subject_kind: &str) -> Parts {
    let mut parts = Parts::of(event);
    if let Some(name) = action.name {
        parts.kind = name.to_owned();
    }
    // An event may be about several services.
    let services = distinct(event.resources().filter_map(Arn::parse).filter_map(|arn| arn.service_name()));
    let name = event.service().or_else(|| event.arns().find_map(|arn| arn.daemon_name()));
    parts.subject = match (name, &parts.cluster) {
        (Some(_), _) if services.len() > 1 => services.join(", "),
        (Some(name), _) => name.to_owned(),
        (None, Some(cluster)) => format!("a {subject_kind} in {cluster}"),
        (None, None) => format!("unknown {subject_kind}"),
    };
    (parts.severity, parts.what) = severity_and_text(action);
    if let Some(reason) = action.reason {
        parts.set_reason(reason);
    }
    if action.name == Some("HOOK_AWAITING_ACTION") {
        ask_for_action(&mut parts, event, action);
    } else {
        parts.fact("Lifecycle stage", action.lifecycle_stage);
        parts.fact("Expires", action.expires_at);
    }
    parts.fact("Failure type", action.failure_type);
    parts.fact("Deployment", action.deployment_id);
    parts.fact("Capacity provider", action.capacity_provider);
    match action.container_instances.as_slice() {
        [] => {}
        [id] => parts.fact("Container instance", Some(id)),
        ids => parts.fact("Container instances", Some(&ids.len().to_string())),
    }
    parts.link_to_service(event);
    let task = console(event).zip(action.task).and_then(|(console, task)| console.task(task.cluster()?, task.name()?));
    parts.link(Page::StoppedTask, task);
    parts
}

/// Says what happens if nobody acts, and gives the two commands for answering the hook.
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/pause-lifecycle-hooks.html>
fn ask_for_action(parts: &mut Parts, event: &Event, action: &Action) {
    if let Some(stage) = action.lifecycle_stage {
        parts.what = format!("{} at {}", parts.what, line(stage, 60));
    }
    let then = match action.timeout_action {
        Some("CONTINUE") => "ECS goes on with the deployment",
        Some("ROLLBACK") => "ECS rolls the deployment back",
        // The event may lack it. ROLLBACK is the default.
        _ => "ECS rolls the deployment back, unless the hook is set up to continue",
    };
    let by = action.expires_at.map(|at| parse_time(at).map_or_else(|| line(at, 60), utc));
    parts.advice = Some(match by {
        Some(by) => format!("If nobody acts by {by}, {then}."),
        None => format!("If nobody acts in time, {then}."),
    });
    let arn = action.service_deployment.or_else(|| {
        let is_deployment =
            |text: &&str| Arn::parse(text).is_some_and(|arn| arn.resource_type() == "service-deployment");
        event.resources().find(is_deployment)
    });
    if let (Some(arn), Some(hook)) = (arn, action.hook_id) {
        let region = Arn::parse(arn).map(|arn| arn.region).filter(|region| !region.is_empty()).or(event.region());
        for choice in ["CONTINUE", "ROLLBACK"] {
            let names =
                ["aws", "ecs", "continue-service-deployment", "--service-deployment-arn", arn, "--hook-id", hook];
            let region = region.into_iter().flat_map(|region| ["--region", region]);
            parts.command(names.into_iter().chain(["--action", choice]).chain(region));
        }
    }
}

fn severity_and_text(action: &Action) -> (Severity, String) {
    let name = action.name.unwrap_or_default();
    let rollback = action.reason.and_then(|reason| Rollback::from_reason(name, reason));
    match (known(name), rollback) {
        // ECS has no event for the rollback of a service: only the reason of an INFO event about the deployment mentions it.
        (Some((Info, what)), Some(rollback)) => match (name.ends_with("_COMPLETED"), rollback.is_over) {
            (true, _) => (Info, format!("{what}: it was a rollback")),
            (false, true) => (Warning, rollback.sentence("was rolled back to its last deployment")),
            (false, false) => (Warning, rollback.sentence("is rolling back to its last deployment")),
        },
        (Some((severity, what)), Some(rollback)) if name.ends_with("_FAILED") || name.ends_with("_TIMED_OUT") => {
            let state = if rollback.is_over { "was rolled back" } else { "is being rolled back" };
            (severity, rollback.sentence(&format!("{what} and {state}")))
        }
        (Some(_), None) if (name, action.hook_type) == ("HOOK_FAILED", Some("PAUSE")) && action.reason.is_none() => {
            // A hook that waits for a person fails when the person chooses the rollback.
            (Warning, "deployment is being rolled back: somebody chose that at a lifecycle hook".to_owned())
        }
        (Some(_), None) if (name, action.timeout_action) == ("HOOK_TIMED_OUT", Some("CONTINUE")) => {
            (Warning, "deployment goes on: nobody acted at a lifecycle hook in time".to_owned())
        }
        (Some(_), None) if (name, action.timeout_action) == ("HOOK_TIMED_OUT", Some("ROLLBACK")) => {
            (Critical, "deployment timed out at a lifecycle hook and is being rolled back".to_owned())
        }
        (Some((severity, _)), _) if name == "DAEMON_TASK_START_IMPAIRED" && action.failure_type.is_some() => {
            (severity, failure(action.failure_type.unwrap_or_default()))
        }
        // Not for the circuit breaker: the alert's cause says more about it.
        (Some((severity, what)), None) if name == "SERVICE_DEPLOYMENT_FAILED" => {
            let why = action.reason.and_then(|reason| at_fault(&reason.to_ascii_lowercase()));
            let why = why.filter(|why| why.contains("alarm") || why.contains("hook") || why.contains("listener"));
            (severity, why.map_or_else(|| what.to_owned(), |why| format!("{what}: {why}")))
        }
        (Some((severity, what)), _) => (severity, what.to_owned()),
        // This program does not know the name. The queue's rule selects the event on purpose, so it is a warning.
        (None, Some(rollback)) => (Warning, rollback.sentence(&format!("reported: {}, a rollback", words(name)))),
        (None, None) if name.is_empty() => (Warning, "reported: an event without a name".to_owned()),
        (None, None) => (Warning, format!("reported: {}", words(name))),
    }
}

/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/managed-daemons-eventbridge-events.html>
fn failure(failure_type: &str) -> String {
    match failure_type {
        "TASK_FAILED_TO_RUN" => "has a task that was started but failed to run".to_owned(),
        "TASK_CREATION_FAILED" => "has a task that could not be created on a container instance".to_owned(),
        other => format!("is unable to consistently start tasks: {}", words(&line(other, 60))),
    }
}

/// What a reason says about a rollback.
#[derive(Debug)]
struct Rollback {
    /// Whether the rollback has ended. Otherwise it is in progress.
    is_over: bool,
    /// Why: a phrase from ECS's reason, or a short form of it.
    why: Option<String>,
}

impl Rollback {
    fn from_reason(name: &str, reason: &str) -> Option<Self> {
        let lower = reason.to_ascii_lowercase();
        let is_over = lower.contains("rolled back");
        let is_one = is_over
            || lower.contains("rolling back")
            || (lower.contains("rollback") && (name.ends_with("_IN_PROGRESS") || name.ends_with("_COMPLETED")));
        // These phrases mean that there was no rollback, or that it failed.
        let is_none = ["no rollback", "not rolled back", "cannot be rolled back", "rollback failed", "unable to roll"];
        if !is_one || is_none.iter().any(|phrase| lower.contains(phrase)) {
            return None;
        }
        // Lower-casing ASCII keeps every byte position.
        let said = lower.find("back because").and_then(|at| reason.get(at + "back because".len()..));
        let said =
            said.map(|why| why.trim_start().trim_start_matches("of ").trim_start_matches("the ")).map(first_sentence);
        Some(Self { is_over, why: said.filter(|why| !why.is_empty()).or_else(|| at_fault(&lower).map(str::to_owned)) })
    }

    /// "…: circuit breaker threshold was exceeded"
    fn sentence(&self, what: &str) -> String {
        match &self.why {
            Some(why) => format!("{what}: {why}"),
            None => what.to_owned(),
        }
    }
}

/// What ended a deployment, from a reason in lower case.
fn at_fault(reason: &str) -> Option<&'static str> {
    let known = [
        ("circuit breaker", "the circuit breaker triggered"),
        ("hook", "a lifecycle hook failed"),
        ("listener", "a listener rule is at fault"),
        ("alarm", "an alarm went off"),
        ("requested", "somebody asked for it"),
    ];
    known.iter().find(|(phrase, _)| reason.contains(phrase)).map(|(_, why)| *why)
}

fn first_sentence(text: &str) -> String {
    let end = text.find(". ").unwrap_or(text.len());
    line(text.get(..end).unwrap_or_default().trim_end_matches('.'), 180)
}

/// Critical: the service cannot start or place its tasks, or its deployment failed. Warning: it still works, or ECS tries
/// again by itself.
fn known(name: &str) -> Option<(Severity, &'static str)> {
    Some(match name {
        "SERVICE_STEADY_STATE" => (Info, "has reached a steady state"),
        "TASKSET_STEADY_STATE" => (Info, "has a task set that reached a steady state"),
        "CAPACITY_PROVIDER_STEADY_STATE" => (Info, "has a capacity provider that reached a steady state"),
        "SERVICE_DESIRED_COUNT_UPDATED" => (Info, "has a new desired count"),
        "TASKS_STOPPED" => (Info, "has stopped running tasks"),
        "SERVICE_TASK_START_IMPAIRED" | "DAEMON_TASK_START_IMPAIRED" => {
            (Critical, "is unable to consistently start tasks successfully")
        }
        "SERVICE_DISCOVERY_INSTANCE_UNHEALTHY" => (Warning, "has an unhealthy task in service discovery"),
        "VPC_LATTICE_TARGET_UNHEALTHY" => (Warning, "has an unhealthy task behind VPC Lattice"),
        "SERVICE_DAEMON_PLACEMENT_CONSTRAINT_VIOLATED" => {
            (Critical, "has a task that no longer meets its daemon placement constraints")
        }
        "ECS_OPERATION_THROTTLED" => (Warning, "is throttled by the limits of the ECS API"),
        "SERVICE_DISCOVERY_OPERATION_THROTTLED" => (Warning, "is throttled by the limits of the Cloud Map API"),
        "SERVICE_TASK_PLACEMENT_FAILURE" => (Critical, "was unable to place a task"),
        "SERVICE_TASK_CONFIGURATION_FAILURE" => {
            (Critical, "was unable to place a task because of a configuration error")
        }
        "SERVICE_HEALTH_UNKNOWN" => (Warning, "has tasks whose health ECS cannot tell"),
        "SERVICE_DEPLOYMENT_IN_PROGRESS" => (Info, "deployment is in progress"),
        "SERVICE_DEPLOYMENT_COMPLETED" => (Info, "deployment completed"),
        "SERVICE_DEPLOYMENT_FAILED" => (Critical, "deployment failed"),
        "HOOK_IN_PROGRESS" => (Info, "deployment is at a lifecycle hook"),
        "HOOK_AWAITING_ACTION" => (Warning, "deployment is waiting for somebody to act"),
        "HOOK_SUCCEEDED" => (Info, "deployment passed a lifecycle hook"),
        "HOOK_FAILED" => (Critical, "deployment failed at a lifecycle hook"),
        "HOOK_TIMED_OUT" => (Critical, "deployment timed out at a lifecycle hook"),
        _ => return known_of_daemon_deployment(name.strip_prefix("DAEMON_DEPLOYMENT_").unwrap_or(name)),
    })
}

fn known_of_daemon_deployment(state: &str) -> Option<(Severity, &'static str)> {
    Some(match state {
        "PENDING" => (Info, "deployment is pending"),
        "IN_PROGRESS" => (Info, "deployment is in progress"),
        "SUCCESSFUL" => (Info, "deployment completed"),
        "STOP_REQUESTED" => (Info, "deployment is being stopped"),
        "STOPPED" => (Info, "deployment was stopped"),
        "ROLLBACK_IN_PROGRESS" => (Warning, "is rolling back to its last deployment"),
        "ROLLBACK_SUCCESSFUL" => (Info, "has rolled back to its last deployment"),
        "ROLLBACK_FAILED" => (Critical, "failed to roll back to its last deployment"),
        _ => return None,
    })
}
