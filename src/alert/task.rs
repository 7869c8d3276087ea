//! Alerts about a task's state change: which stops are problems, and which are routine.

use super::{Page, Parts, Severity, console, words};
use crate::cause::{self, Category, Cause, Explanation};
use crate::event::Event;
use crate::event::ecs::Task;
use crate::text::line;

pub(super) fn describe(event: &Event, task: &Task) -> Parts {
    let mut parts = Parts::of(event);
    let id = task.arn.and_then(|arn| arn.name());
    let name = event.service().or(task.family());
    parts.subject = match (name, id) {
        (Some(name), _) => name.to_owned(),
        (None, Some(id)) => format!("task {}", id.chars().take(8).collect::<String>()),
        (None, None) => "unknown task".to_owned(),
    };
    parts.reason = task.reasons();
    let is_to_stop = task.stop_code.is_some() || task.stopped_reason.is_some();
    let explained = match task.last_status {
        Some("STOPPED") => cause::explain(task),
        _ if is_to_stop => cause::explain(task),
        _ => Explanation { culprit: task.only_container(), ..Explanation::default() },
    };
    match task.last_status {
        Some("STOPPED") => describe_stop(&mut parts, task, &explained),
        None if is_to_stop => describe_stop(&mut parts, task, &explained),
        // Between these states and STOPPED, there are events about further states with the same stop code and reason. They are routine.
        Some("PROVISIONING" | "PENDING" | "ACTIVATING" | "RUNNING") if is_to_stop => {
            describe_warning(&mut parts, task, &explained);
        }
        Some(status) => {
            parts.kind = "TASK_STATE_CHANGE".to_owned();
            parts.severity = Severity::Info;
            parts.what = format!("is {}", words(status));
        }
        None => {
            parts.kind = "TASK_STATE_CHANGE".to_owned();
            parts.what = "changed its state".to_owned();
        }
    }
    if name.is_some() {
        parts.what.insert_str(0, "task ");
    }

    let culprit = explained.culprit.unwrap_or_default();
    // If no cause is known, the host is the only place where people can look.
    let may_be_the_host =
        parts.severity > Severity::Info && explained.cause.as_ref().is_none_or(|cause| cause.category.is_of_host());
    let instance = task.container_instance.filter(|_| may_be_the_host);
    let platform = platform(task);
    parts.fact("Container", culprit.name.filter(|_| task.containers.len() > 1));
    parts.fact("Image", culprit.image);
    parts.fact("Task definition", task.task_definition);
    // The console's page about the instance shows the zone, so an alert has only one of the two.
    parts.fact("Container instance", instance);
    parts.fact("Availability Zone", task.availability_zone.filter(|_| instance.is_none()));
    parts.fact("Platform", Some(platform.as_str()).filter(|platform| !platform.is_empty()));
    link(&mut parts, event, task, instance);
    parts
}

/// "FARGATE 1.4.0", "EC2 WINDOWS_SERVER_2019_CORE".
fn platform(task: &Task) -> String {
    let host = task.capacity_provider.or(task.launch_type);
    let external = Some("EXTERNAL").filter(|_| task.launch_type == Some("EXTERNAL") && host != Some("EXTERNAL"));
    let windows = task.platform_family.filter(|family| family.to_ascii_uppercase().starts_with("WINDOWS"));
    [host, external, task.platform_version, windows].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// A task that still runs and is about to stop.
fn describe_warning(parts: &mut Parts, task: &Task, explained: &Explanation) {
    parts.cause.clone_from(&explained.cause);
    let stopped_by = stopped_by(task, parts.cause.as_ref());
    // Spot's two-minute warning and the notice of maintenance leave some time to act.
    parts.severity = match stopped_by {
        StoppedBy::Spot | StoppedBy::Infrastructure => Severity::Warning,
        _ => Severity::Info,
    };
    parts.kind = if stopped_by == StoppedBy::Spot { "SPOT_INTERRUPTION" } else { "TASK_STOPPING" }.to_owned();
    parts.what = match stopped_by {
        StoppedBy::Spot => "is about to be stopped by a Spot interruption",
        StoppedBy::Infrastructure => "is about to be stopped: its host is going away",
        StoppedBy::User => "is about to be stopped by a user",
        StoppedBy::Scheduler if failed_health_check(parts.cause.as_ref()) => {
            "is about to be stopped: it failed its health checks"
        }
        StoppedBy::Scheduler => "is about to be stopped by the service scheduler",
        StoppedBy::FailedToStart | StoppedBy::ContainerExited | StoppedBy::Unknown => "is about to be stopped",
    }
    .to_owned();
}

/// Who or what stopped a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StoppedBy {
    FailedToStart,
    ContainerExited,
    Scheduler,
    User,
    Spot,
    Infrastructure,
    Unknown,
}

fn describe_stop(parts: &mut Parts, task: &Task, explained: &Explanation) {
    parts.cause.clone_from(&explained.cause);
    let stopped_by = stopped_by(task, parts.cause.as_ref());
    let category = parts.cause.as_ref().map(|cause| cause.category);
    let unhealthy = failed_health_check(parts.cause.as_ref());
    parts.severity = match stopped_by {
        StoppedBy::FailedToStart if task.is_of_service() => Severity::Critical,
        // ECS replaces the task. If the replacements fail too, ECS sends SERVICE_TASK_START_IMPAIRED.
        StoppedBy::FailedToStart | StoppedBy::Spot | StoppedBy::Infrastructure => Severity::Warning,
        // A service's task should not exit by itself, not even with 0.
        StoppedBy::ContainerExited if task.is_of_service() || category != Some(Category::Completed) => {
            Severity::Warning
        }
        // Exit codes do not count here, because the containers exited only when ECS stopped them.
        StoppedBy::Scheduler if unhealthy || category.is_none_or(|category| category == Category::HostGone) => {
            Severity::Warning
        }
        // It ran out of memory before the user stopped it.
        StoppedBy::User if category == Some(Category::Oom) => Severity::Warning,
        StoppedBy::Unknown if parts.cause.is_some() || task.stopped_reason.is_some() => Severity::Warning,
        StoppedBy::ContainerExited | StoppedBy::Scheduler | StoppedBy::User | StoppedBy::Unknown => Severity::Info,
    };
    let died = (stopped_by == StoppedBy::ContainerExited
        || stopped_by == StoppedBy::Scheduler && category != Some(Category::HostGone))
        && parts.severity >= Severity::Warning;
    parts.exited_task_id =
        task.arn.and_then(|arn| arn.name()).filter(|_| died && task.is_of_service()).map(str::to_owned);
    parts.kind = match stopped_by {
        StoppedBy::FailedToStart => "TASK_FAILED_TO_START",
        StoppedBy::Spot => "SPOT_INTERRUPTION",
        _ => "TASK_STOPPED",
    }
    .to_owned();
    let culprit = explained.culprit.filter(|culprit| culprit.exit_code.is_some()).and_then(|culprit| culprit.name);
    parts.what = match (stopped_by, culprit, explained.exit_code) {
        (StoppedBy::FailedToStart, ..) => "failed to start".to_owned(),
        (StoppedBy::ContainerExited, Some(name), Some(code)) => {
            format!("stopped: essential container `{}` exited with code {code}", line(name, 60))
        }
        (StoppedBy::ContainerExited, _, Some(code)) => {
            format!("stopped: an essential container exited with code {code}")
        }
        (StoppedBy::ContainerExited, ..) => "stopped: an essential container exited".to_owned(),
        (StoppedBy::Scheduler, ..) if unhealthy => "was stopped: it failed its health checks".to_owned(),
        (StoppedBy::Scheduler, ..) => "was stopped by the service scheduler".to_owned(),
        (StoppedBy::User, ..) => "was stopped by a user".to_owned(),
        (StoppedBy::Spot, ..) => "was stopped by a Spot interruption".to_owned(),
        (StoppedBy::Infrastructure, ..) => "was stopped: its infrastructure is impaired".to_owned(),
        (StoppedBy::Unknown, ..) => "stopped".to_owned(),
    };
}

/// Finds it from the stop code. Older events have no stop code, and newer events may have an unknown one: then from the cause and the
/// exit codes.
fn stopped_by(task: &Task, cause: Option<&Cause>) -> StoppedBy {
    match (task.stop_code, cause.map(|cause| cause.category)) {
        (Some("TaskFailedToStart"), _) => StoppedBy::FailedToStart,
        (Some("EssentialContainerExited"), _) => StoppedBy::ContainerExited,
        (Some("ServiceSchedulerInitiated"), _) => StoppedBy::Scheduler,
        (Some("UserInitiated"), _) => StoppedBy::User,
        (Some("SpotInterruption" | "TerminationNotice"), _) | (_, Some(Category::Spot)) => StoppedBy::Spot,
        (Some("InfrastructureHealth"), _) | (_, Some(Category::HostGone)) => StoppedBy::Infrastructure,
        (_, Some(Category::RoutineScaling | Category::HealthCheckLb | Category::HealthCheckContainer)) => {
            StoppedBy::Scheduler
        }
        (_, Some(Category::User)) => StoppedBy::User,
        (_, Some(_)) if task.containers.iter().any(|container| container.exit_code.is_some()) => {
            StoppedBy::ContainerExited
        }
        (_, Some(category)) if category != Category::NoExitCode && task.started_at.is_none() => {
            StoppedBy::FailedToStart
        }
        _ => StoppedBy::Unknown,
    }
}

fn failed_health_check(cause: Option<&Cause>) -> bool {
    cause.is_some_and(|cause| matches!(cause.category, Category::HealthCheckLb | Category::HealthCheckContainer))
}

fn link(parts: &mut Parts, event: &Event, task: &Task, instance: Option<&str>) {
    if event.service().is_some() {
        parts.link_to_service(event);
    }
    let Some((console, cluster)) = console(event).zip(parts.cluster.clone()) else { return };
    if let Some(id) = task.arn.and_then(|arn| arn.name()) {
        let stopped = task.last_status == Some("STOPPED");
        parts.link(if stopped { Page::StoppedTask } else { Page::Task }, console.task(&cluster, id));
        // A task that never ran has no log.
        if stopped && task.ran() {
            parts.link(Page::Log, console.task_logs(&cluster, id));
        }
    }
    parts.link(Page::ContainerInstance, instance.and_then(|id| console.container_instance(&cluster, id)));
}
