//! Events with a name of their own: of services, deployments, hooks and daemons.
//!
//! Names and meanings: <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_service_events.html>

use super::{Alert, Severity, link_to_service, words};
use crate::event::{Arn, Event, ecs::Action};
use Severity::{Critical, Info, Warning};

/// `whose` is "service" or "daemon".
pub(super) fn describe(alert: &mut Alert, event: &Event, action: &Action, whose: &str) {
    if let Some(name) = action.name {
        alert.kind = name.to_owned();
    }
    // Whoever is in trouble is named, and an event may be about several.
    let mut services: Vec<&str> =
        event.resources().filter_map(Arn::parse).filter_map(|arn| arn.service_name()).collect();
    services.dedup();
    let name = event.service().or_else(|| event.arns().find_map(|arn| arn.daemon_name()));
    alert.subject = match (name, &alert.cluster) {
        (Some(_), _) if services.len() > 1 => services.join(", "),
        (Some(name), _) => name.to_owned(),
        (None, Some(cluster)) => format!("a {whose} in {cluster}"),
        (None, None) => format!("unknown {whose}"),
    };
    (alert.severity, alert.what) = judge(action);
    if let Some(reason) = action.reason {
        alert.explain(reason);
    }

    let expiry = if action.name == Some("HOOK_AWAITING_ACTION") { "Act before" } else { "Expires" };
    alert.fact("Failure type", action.failure_type);
    alert.fact("Deployment", action.deployment_id);
    alert.fact("Lifecycle stage", action.lifecycle_stage);
    alert.fact(expiry, action.expires_at);
    alert.fact("Capacity provider", action.capacity_provider);
    match action.container_instances.as_slice() {
        [] => {}
        [id] => alert.fact("Container instance", Some(id)),
        ids => alert.fact("Container instances", Some(&ids.len().to_string())),
    }
    link_to_service(alert, event);
}

fn judge(action: &Action) -> (Severity, String) {
    let name = action.name.unwrap_or_default();
    // ECS calls a rollback INFO, and says so in the reason of a deployment's progress only.
    let reason = action.reason.unwrap_or_default().to_ascii_lowercase();
    let rolls_back = reason.contains("rolling back") || (name.contains("IN_PROGRESS") && reason.contains("rollback"));
    match known(name) {
        Some((Info, _)) if rolls_back => (Warning, "is rolling back to its last deployment".to_owned()),
        Some((severity, what)) => (severity, what.to_owned()),
        // Newer than this program. Somebody sent it here on purpose, so it is not for us to call it routine.
        None if name.is_empty() => (Warning, "reported: an event without a name".to_owned()),
        None => (Warning, format!("reported: {}", words(name))),
    }
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
