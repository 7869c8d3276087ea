//! A task's state change: which stops are problems, and which are routine life.

use super::{Alert, Severity, console, line, link_to_service, words};
use crate::cause::{self, Category, Cause, Evidence};
use crate::event::Event;
use crate::event::ecs::Task;

pub(super) fn describe(alert: &mut Alert, event: &Event, task: &Task) {
    let id = task.arn.and_then(|arn| arn.name());
    let name = event.service().or(task.family());
    alert.subject = match (name, id) {
        (Some(name), _) => name.to_owned(),
        (None, Some(id)) => format!("task {}", id.chars().take(8).collect::<String>()),
        (None, None) => "unknown task".to_owned(),
    };
    alert.reason = task.reasons();
    describe_state(alert, task);
    if name.is_some() {
        alert.what.insert_str(0, "task ");
    }

    let culprit = task.culprit().unwrap_or_default();
    let host = task.capacity_provider.or(task.launch_type);
    let platform = [host, task.platform_version].into_iter().flatten().collect::<Vec<_>>().join(" ");
    alert.fact("Container", culprit.name.filter(|_| task.containers.len() > 1));
    alert.fact("Image", culprit.image);
    alert.fact("Task definition", task.task_definition);
    alert.fact("Availability Zone", task.availability_zone);
    alert.fact("Platform", Some(platform.as_str()).filter(|platform| !platform.is_empty()));
    link(alert, event, task);
}

fn describe_state(alert: &mut Alert, task: &Task) {
    let spot = matches!(task.stop_code, Some("SpotInterruption" | "TerminationNotice"));
    let told_to_stop = task.stop_code.is_some() || task.stopped_reason.is_some();
    match task.last_status {
        Some("STOPPED") => describe_stop(alert, task),
        None if told_to_stop => describe_stop(alert, task),
        // The two-minute warning. The states between it and STOPPED have the same stop code.
        Some("RUNNING") if spot => {
            alert.kind = "SPOT_INTERRUPTION".to_owned();
            alert.severity = Severity::Warning;
            alert.what = "is about to be stopped by a Spot interruption".to_owned();
            alert.cause = explain(task);
        }
        Some(status) => {
            alert.kind = "TASK_STATE_CHANGE".to_owned();
            alert.severity = Severity::Info;
            alert.what = format!("is {}", words(status));
        }
        None => {
            alert.kind = "TASK_STATE_CHANGE".to_owned();
            alert.what = "changed its state".to_owned();
        }
    }
}

/// Who or what ended a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    FailedToStart,
    ContainerExited,
    Scheduler,
    User,
    Spot,
    Infrastructure,
    Unknown,
}

fn describe_stop(alert: &mut Alert, task: &Task) {
    alert.cause = explain(task);
    let stop = stop(task, alert.cause.as_ref());
    let culprit = task.culprit().unwrap_or_default();
    alert.severity = match stop {
        Stop::FailedToStart if task.is_of_service() => Severity::Critical,
        // ECS starts another in its place; when that does not help, it says SERVICE_TASK_START_IMPAIRED.
        Stop::FailedToStart | Stop::Spot | Stop::Infrastructure => Severity::Warning,
        // A service's task is not meant to end, not even with 0.
        Stop::ContainerExited if task.is_of_service() => Severity::Warning,
        Stop::ContainerExited if culprit.exit_code != Some(0) || culprit.reason.is_some() => Severity::Warning,
        // Exit codes say nothing here: 137 and 143 are what a stop leaves.
        Stop::Scheduler if failed_health_check(task) => Severity::Warning,
        Stop::Unknown if alert.cause.is_some() || task.stopped_reason.is_some() => Severity::Warning,
        Stop::ContainerExited | Stop::Scheduler | Stop::User | Stop::Unknown => Severity::Info,
    };
    let died = matches!(stop, Stop::ContainerExited | Stop::Scheduler) && alert.severity >= Severity::Warning;
    alert.exited = task.arn.and_then(|arn| arn.name()).filter(|_| died && task.is_of_service()).map(str::to_owned);
    alert.kind = match stop {
        Stop::FailedToStart => "TASK_FAILED_TO_START",
        Stop::Spot => "SPOT_INTERRUPTION",
        _ => "TASK_STOPPED",
    }
    .to_owned();
    alert.what = match (stop, culprit.name, culprit.exit_code) {
        (Stop::FailedToStart, ..) => "failed to start".to_owned(),
        (Stop::ContainerExited, Some(name), Some(code)) => {
            format!("stopped: essential container `{}` exited with code {code}", line(name, 60))
        }
        (Stop::ContainerExited, Some(name), None) => {
            format!("stopped: essential container `{}` exited", line(name, 60))
        }
        (Stop::ContainerExited, None, _) => "stopped: an essential container exited".to_owned(),
        (Stop::Scheduler, ..) if failed_health_check(task) => "was stopped: it failed its health checks".to_owned(),
        (Stop::Scheduler, ..) => "was stopped by the service scheduler".to_owned(),
        (Stop::User, ..) => "was stopped by a user".to_owned(),
        (Stop::Spot, ..) => "was stopped by a Spot interruption".to_owned(),
        (Stop::Infrastructure, ..) => "was stopped: its infrastructure is impaired".to_owned(),
        (Stop::Unknown, ..) => "stopped".to_owned(),
    };
}

/// By the stop code. Older events have none, newer ones may have an unknown one: then by the cause and the exit codes.
fn stop(task: &Task, cause: Option<&Cause>) -> Stop {
    match (task.stop_code, cause.map(|cause| cause.category)) {
        (Some("TaskFailedToStart"), _) => Stop::FailedToStart,
        (Some("EssentialContainerExited"), _) => Stop::ContainerExited,
        (Some("ServiceSchedulerInitiated"), _) => Stop::Scheduler,
        (Some("UserInitiated"), _) => Stop::User,
        (Some("SpotInterruption" | "TerminationNotice"), _) | (_, Some(Category::Spot)) => Stop::Spot,
        (Some("InfrastructureHealth"), _) | (_, Some(Category::HostGone)) => Stop::Infrastructure,
        (_, Some(Category::RoutineScaling | Category::HealthCheckLb | Category::HealthCheckContainer)) => {
            Stop::Scheduler
        }
        (_, Some(Category::User)) => Stop::User,
        (_, Some(_)) if task.containers.iter().any(|container| container.exit_code.is_some()) => Stop::ContainerExited,
        (_, Some(category)) if category != Category::NoExitCode && task.started_at.is_none() => Stop::FailedToStart,
        _ => Stop::Unknown,
    }
}

fn explain(task: &Task) -> Option<Cause> {
    cause::explain(&Evidence::of_task(task))
}

fn failed_health_check(task: &Task) -> bool {
    let reason = task.stopped_reason.unwrap_or_default().to_ascii_lowercase();
    ["health check", "unhealthy", "not healthy"].iter().any(|phrase| reason.contains(phrase))
}

fn link(alert: &mut Alert, event: &Event, task: &Task) {
    if event.service().is_some() {
        link_to_service(alert, event);
    }
    let Some(((console, cluster), id)) =
        console(event).zip(alert.cluster.clone()).zip(task.arn.and_then(|arn| arn.name()))
    else {
        return;
    };
    let stopped = task.last_status == Some("STOPPED");
    alert.link(if stopped { "Stopped task" } else { "Task" }, console.task(&cluster, id));
    // What never ran has no log.
    let ran = task.started_at.is_some() || task.containers.iter().any(|container| container.exit_code.is_some());
    if stopped && ran {
        alert.link("Log", console.task_logs(&cluster, id));
    }
}
