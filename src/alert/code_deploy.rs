//! Alerts about deployments by CodeDeploy, of ECS services and of others.

use super::{Page, Parts, Severity, console, words};
use crate::event::Event;
use crate::event::codedeploy::CodeDeploy;

pub(super) fn describe(event: &Event, deployment: &CodeDeploy) -> Parts {
    let mut parts = Parts::of(event);
    parts.kind = "CODEDEPLOY".to_owned();
    parts.subject = match (deployment.application, deployment.group) {
        (Some(application), Some(group)) if application != group => format!("{application}/{group}"),
        (Some(name), _) | (None, Some(name)) => name.to_owned(),
        (None, None) => "unknown application".to_owned(),
    };
    let of_instance = deployment.instance.is_some();
    // If one instance fails, the whole deployment may still succeed.
    parts.severity = match deployment.state {
        Some("FAILURE" | "FAILED") if !of_instance => Severity::Critical,
        Some("START" | "CREATED" | "SUCCESS" | "SUCCEEDED" | "READY") => Severity::Info,
        _ => Severity::Warning,
    };
    let what = match deployment.state {
        Some("FAILURE" | "FAILED") => "failed".to_owned(),
        Some("STOP" | "STOPPED") => "was stopped".to_owned(),
        Some("START" | "CREATED") => "has started".to_owned(),
        Some("SUCCESS" | "SUCCEEDED") => "succeeded".to_owned(),
        Some("READY") => "is ready to reroute traffic".to_owned(),
        Some(state) => format!("is in state {}", words(state)),
        None => "changed its state".to_owned(),
    };
    let on = deployment.instance.map(|instance| format!(" on {instance}")).unwrap_or_default();
    parts.what = format!("CodeDeploy deployment {what}{on}");
    parts.reason.clone_from(&deployment.error);
    parts.fact("Deployment", deployment.deployment);
    let page = console(event).zip(deployment.deployment).and_then(|(console, id)| console.code_deployment(id));
    parts.link(Page::Subject, page);
    parts
}
