//! Deployments by CodeDeploy, of ECS services among others.

use super::{Alert, Page, Severity, console, words};
use crate::event::Event;
use crate::event::codedeploy::CodeDeploy;

pub(super) fn describe(alert: &mut Alert, event: &Event, deployment: &CodeDeploy) {
    alert.kind = "CODEDEPLOY".to_owned();
    alert.subject = match (deployment.application, deployment.group) {
        (Some(application), Some(group)) if application != group => format!("{application}/{group}"),
        (Some(name), _) | (None, Some(name)) => name.to_owned(),
        (None, None) => "unknown application".to_owned(),
    };
    let of_instance = deployment.instance.is_some();
    // What became of one instance of several is not yet what becomes of the deployment.
    alert.severity = match deployment.state {
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
    alert.what = format!("CodeDeploy deployment {what}{on}");
    alert.reason.clone_from(&deployment.error);
    alert.fact("Deployment", deployment.deployment);
    let page = console(event).zip(deployment.deployment).and_then(|(console, id)| console.code_deployment(id));
    alert.link(Page::Subject, page);
}
