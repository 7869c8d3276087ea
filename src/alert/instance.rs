//! Alerts about container instances: changes of their state and of their health.

use super::{Page, Parts, Severity, console, words};
use crate::event::Event;
use crate::event::ecs::{InstanceHealth, InstanceState};

pub(super) fn describe_state(event: &Event, instance: &InstanceState) -> Parts {
    let mut parts = Parts::of(event);
    parts.kind = "CONTAINER_INSTANCE_STATE_CHANGE".to_owned();
    parts.subject = subject(instance.ec2_instance, instance.id);
    // In normal operation, an agent disconnects several times an hour, also while its instance is ACTIVE. If it stays disconnected,
    // ECS sends another event: the instance's health becomes IMPAIRED.
    // https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_container_instance_events.html
    parts.severity = match instance.status {
        Some("REGISTRATION_FAILED") | None => Severity::Warning,
        _ => Severity::Info,
    };
    parts.what = match (instance.status, instance.agent_connected) {
        (Some("ACTIVE") | None, Some(false)) => "has its ECS agent disconnected".to_owned(),
        (Some("REGISTRATION_FAILED"), _) => "failed to register".to_owned(),
        (Some(status), _) => format!("is {}", words(status)),
        (None, _) => "changed its state".to_owned(),
    };
    if let Some(reason) = instance.status_reason {
        parts.set_reason(reason);
    }
    parts.fact("Container instance", instance.id.filter(|_| instance.ec2_instance.is_some()));
    link(&mut parts, event);
    parts
}

pub(super) fn describe_health(event: &Event, instance: &InstanceHealth) -> Parts {
    let mut parts = Parts::of(event);
    parts.kind = "CONTAINER_INSTANCE_HEALTH_CHANGE".to_owned();
    parts.subject = subject(instance.ec2_instance, instance.id);
    let impaired = || instance.checks.iter().filter(|check| check.status == Some("IMPAIRED"));
    let status = instance.status.or(impaired().next().and(Some("IMPAIRED")));
    parts.severity = match status {
        Some("OK" | "INITIALIZING" | "INSUFFICIENT_DATA") => Severity::Info,
        _ => Severity::Warning,
    };
    let checks: Vec<String> = impaired().filter_map(|check| check.kind).map(words).collect();
    parts.what = match status {
        Some("OK") => "is healthy".to_owned(),
        Some(status) if checks.is_empty() => format!("is {}", words(status)),
        Some(status) => format!("is {}: {}", words(status), checks.join(", ")),
        None => "changed its health".to_owned(),
    };
    let reasons: Vec<&str> = impaired().filter_map(|check| check.reason).collect();
    if !reasons.is_empty() {
        parts.set_reason(&reasons.join("\n"));
    }
    parts.fact("Container instance", instance.id.filter(|_| instance.ec2_instance.is_some()));
    parts.fact("Capacity provider", instance.capacity_provider);
    link(&mut parts, event);
    parts
}

fn subject(ec2_instance: Option<&str>, id: Option<&str>) -> String {
    match (ec2_instance, id) {
        (Some(instance), _) => instance.to_owned(),
        (None, Some(id)) => format!("container instance {}", id.chars().take(8).collect::<String>()),
        (None, None) => "unknown container instance".to_owned(),
    }
}

fn link(parts: &mut Parts, event: &Event) {
    let page = console(event).zip(event.cluster()).and_then(|(console, cluster)| console.infrastructure(cluster));
    parts.link(Page::Subject, page);
}
