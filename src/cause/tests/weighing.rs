//! Which of a task's texts and exit codes decides the cause.

use super::*;

#[test]
fn without_evidence_there_is_no_cause() {
    assert_eq!(category(&Task::default()), None);
    assert_eq!(category(&because("")), None);
    let running = Task { containers: vec![Container::default()], ..Task::default() };
    assert_eq!(category(&running), None, "a container that runs has no exit code either");
    let unknown = Task { stop_code: Some("TaskFailedToStart"), ..because("SomethingNewError: in words nobody knows") };
    assert_eq!(category(&unknown), None);
}

#[test]
fn on_ec2_the_reason_is_in_the_container() {
    let container =
        |name, reason| Container { name: Some(name), image: Some("shop:v9"), reason, ..Container::default() };
    let task = Task {
        stop_code: Some("TaskFailedToStart"),
        containers: vec![
            container("proxy", None),
            container("app", Some("CannotPullContainerError: manifest unknown")),
        ],
        ..because("Task failed to start")
    };
    let cause = cause(&task);
    assert_eq!(cause.category, Category::ImageMissing);
    assert!(cause.hint.starts_with("shop:v9 is not in the registry."), "{}", cause.hint);
}

#[test]
fn if_the_text_names_no_image_and_there_are_several_containers_the_hint_names_none() {
    let image = |image| Container { image: Some(image), ..Container::default() };
    let task = Task {
        containers: vec![image("shop:v9"), image("proxy:v1")],
        ..because("CannotPullContainerError: manifest unknown")
    };
    let cause = cause(&task);
    assert!(cause.hint.starts_with("The image is not in the registry."), "{}", cause.hint);
}

#[test]
fn exit_code_137_alone_is_not_out_of_memory_and_the_hint_names_the_container() {
    let mut task = exited(&[("proxy", Some(0)), ("app", Some(137))]);
    let killed = cause(&task);
    assert_eq!(killed.category, Category::Sigkill);
    assert!(killed.hint.starts_with("Container app exited with code 137 (SIGKILL)."), "{}", killed.hint);

    task.containers[1].reason = Some("OutOfMemoryError: Container killed due to memory usage");
    let oom = cause(&task);
    assert_eq!(oom.category, Category::Oom);
    assert!(oom.hint.starts_with("Container app ran out of memory."), "{}", oom.hint);
}

#[test]
fn a_sigkill_in_a_routine_stop_is_routine_and_the_hint_names_stop_timeout() {
    let scaling = "Scaling activity initiated by (deployment ecs-svc/1)";
    for (stop_code, reason, expected) in [
        ("ServiceSchedulerInitiated", Some(scaling), Category::RoutineScaling),
        ("ServiceSchedulerInitiated", None, Category::RoutineScaling),
        ("UserInitiated", Some("Task stopped by user"), Category::User),
        ("UserInitiated", Some("replaced by tonight's batch"), Category::User),
    ] {
        for code in [137, 143] {
            let stopped = Task { stop_code: Some(stop_code), stopped_reason: reason, ..exited(&[("app", Some(code))]) };
            let cause = cause(&stopped);
            assert_eq!(cause.category, expected, "{stop_code} {reason:?} {code}");
            assert_eq!(cause.hint.contains("app did not stop within stopTimeout"), code == 137, "{}", cause.hint);
        }
    }
}

#[test]
fn a_scheduler_stop_for_a_failed_health_check_is_the_health_check() {
    let reason = Some("Task failed container health checks");
    let stopped =
        Task { stop_code: Some("ServiceSchedulerInitiated"), stopped_reason: reason, ..exited(&[("app", Some(137))]) };
    assert_eq!(category(&stopped), Some(Category::HealthCheckContainer));
}

#[test]
fn a_stop_code_without_a_reason_has_a_cause() {
    for (stop_code, expected) in [
        ("SpotInterruption", Category::Spot),
        ("TerminationNotice", Category::Spot),
        ("InfrastructureHealth", Category::HostGone),
        ("TaskFailedToStart", Category::NoExitCode),
    ] {
        let task = Task { stop_code: Some(stop_code), ..Task::default() };
        assert_eq!(category(&task), Some(expected), "{stop_code}");
    }
    let reclaimed = Task { stop_code: Some("SpotInterruption"), ..exited(&[("app", Some(137))]) };
    assert_eq!(category(&reclaimed), Some(Category::Spot), "killed because the host was reclaimed");
}

#[test]
fn a_reason_outranks_exit_codes() {
    let task = Task { stopped_reason: Some("Task failed ELB health checks"), ..exited(&[("app", Some(1))]) };
    assert_eq!(category(&task), Some(Category::HealthCheckLb));
}

/// The containers of a task as (name, exit code, reason).
fn task<'a>(
    stop_code: &'a str,
    stopped_reason: &'a str,
    started: bool,
    containers: &[(&'a str, Option<i64>, Option<&'a str>)],
) -> Task<'a> {
    let container =
        |&(name, exit_code, reason)| Container { name: Some(name), exit_code, reason, ..Container::default() };
    Task {
        stop_code: Some(stop_code),
        stopped_reason: Some(stopped_reason),
        group: Some("service:shop"),
        started_at: started.then_some("2026-03-02T08:18:00Z"),
        containers: containers.iter().map(container).collect(),
        ..Task::default()
    }
}

const PULL: Option<&str> = Some("CannotPullContainerError: dial tcp 10.0.0.1:443: i/o timeout");
const OOM: Option<&str> = Some("OutOfMemoryError: Container killed due to memory usage");
const MOUNT: Option<&str> = Some("CannotCreateContainerError: get data: no such volume");
const STOPPING: Option<&str> = Some("DockerTimeoutError: Could not transition to stopped; timed out after waiting 30s");
const INSPECT: Option<&str> = Some("CannotInspectContainerError: API error (500)");

/// (stop code, task's reason, whether it ran, containers) → (cause, culprit)
#[test]
fn the_stop_code_decides_which_texts_count() {
    let exited = "Essential container in task exited";
    let scaling = "Scaling activity initiated by (deployment ecs-svc/1)";
    let unhealthy = "Task failed container health checks";
    let init = "ResourceInitializationError: failed to validate logger args: The specified log group does not exist.";
    let guardduty = "aws-guardduty-agent-x";
    for (stopped, expected, culprit) in [
        // A user's stop, whatever reason the user wrote.
        (
            task("UserInitiated", "CannotPullContainerError: i/o timeout", true, &[("app", Some(143), None)]),
            Category::User,
            Some("app"),
        ),
        (task("UserInitiated", "OutOfMemoryError?", true, &[("app", Some(137), None)]), Category::User, Some("app")),
        (task("UserInitiated", "restart", true, &[("app", Some(143), None), ("x", None, PULL)]), Category::User, None),
        (
            task("UserInitiated", "restart", true, &[("app", Some(137), OOM), ("x", None, PULL)]),
            Category::Oom,
            Some("app"),
        ),
        // The scheduler's stop is explained by its own reason.
        (
            task("ServiceSchedulerInitiated", scaling, true, &[("app", Some(1), None), ("x", None, PULL)]),
            Category::RoutineScaling,
            None,
        ),
        (
            task("ServiceSchedulerInitiated", scaling, true, &[("app", Some(137), OOM)]),
            Category::RoutineScaling,
            Some("app"),
        ),
        (
            task("ServiceSchedulerInitiated", unhealthy, true, &[("app", Some(137), OOM)]),
            Category::HealthCheckContainer,
            Some("app"),
        ),
        (task("SpotInterruption", "", true, &[("app", Some(137), STOPPING)]), Category::Spot, Some("app")),
        (task("SpotInterruption", "", true, &[("app", Some(137), OOM)]), Category::Oom, Some("app")),
        (task("InfrastructureHealth", "", true, &[("app", None, PULL)]), Category::HostGone, Some("app")),
        // In a task that ran, an exit outranks a reason without one.
        (
            task("EssentialContainerExited", exited, true, &[("x", None, PULL), ("app", Some(1), None)]),
            Category::Crash,
            Some("app"),
        ),
        (
            task("EssentialContainerExited", exited, true, &[("x", None, PULL), ("app", Some(0), None)]),
            Category::Completed,
            Some("app"),
        ),
        (
            task("EssentialContainerExited", exited, true, &[("x", None, MOUNT), ("app", Some(137), None)]),
            Category::Sigkill,
            Some("app"),
        ),
        (
            task("EssentialContainerExited", exited, true, &[("x", None, PULL), ("app", Some(137), OOM)]),
            Category::Oom,
            Some("app"),
        ),
        (
            task("EssentialContainerExited", exited, true, &[("x", Some(137), STOPPING), ("app", Some(1), None)]),
            Category::Crash,
            Some("app"),
        ),
        (
            task("EssentialContainerExited", exited, true, &[("app", None, INSPECT), ("x", Some(143), None)]),
            Category::Runtime,
            Some("app"),
        ),
        (
            task("EssentialContainerExited", exited, true, &[("app", Some(2), None), ("x", None, INSPECT)]),
            Category::Crash,
            Some("app"),
        ),
        (task("EssentialContainerExited", exited, true, &[("app", None, PULL)]), Category::Network, Some("app")),
        (
            task("EssentialContainerExited", exited, true, &[("a", Some(1), None), ("b", Some(1), None)]),
            Category::Crash,
            None,
        ),
        (
            task(
                "EssentialContainerExited",
                exited,
                true,
                &[("app", Some(0), None), ("ecs-service-connect-x", Some(0), None)],
            ),
            Category::Completed,
            Some("app"),
        ),
        // In a task that did not run, reasons count, the most specific first.
        (
            task("TaskFailedToStart", "Task failed to start", false, &[("x", Some(137), None), ("app", None, MOUNT)]),
            Category::Volume,
            Some("app"),
        ),
        (
            task("TaskFailedToStart", "Task failed to start", false, &[("a", None, MOUNT), ("b", None, MOUNT)]),
            Category::Volume,
            None,
        ),
        (
            task(
                "TaskFailedToStart",
                "Task failed to start",
                false,
                &[("a", None, Some("CannotStartContainerError: new")), ("b", None, MOUNT)],
            ),
            Category::Volume,
            Some("b"),
        ),
        (
            task("TaskFailedToStart", "Task failed to start", false, &[("app", None, None), ("init", Some(3), None)]),
            Category::Crash,
            Some("init"),
        ),
        (
            task("TaskFailedToStart", "Task failed to start", false, &[("app", None, None), ("x", Some(143), None)]),
            Category::NoExitCode,
            None,
        ),
        // GuardDuty's agent is never essential. It explains the stop only if nothing else does.
        (
            task("TaskFailedToStart", init, false, &[("app", None, None), (guardduty, None, PULL)]),
            Category::LogConfig,
            Some("app"),
        ),
        (
            task("TaskFailedToStart", "Task failed to start", false, &[("app", None, MOUNT), (guardduty, None, PULL)]),
            Category::Volume,
            Some("app"),
        ),
        (
            task("TaskFailedToStart", "Task failed to start", false, &[("app", None, None), (guardduty, None, PULL)]),
            Category::Network,
            Some(guardduty),
        ),
    ] {
        let explained = explain(&stopped);
        let found = (explained.cause.map(|cause| cause.category), explained.culprit.and_then(|culprit| culprit.name));
        assert_eq!(found, (Some(expected), culprit), "{stopped:?}");
    }
}

#[test]
fn a_stop_by_the_scheduler_for_an_unknown_fault_has_no_cause_and_is_not_routine() {
    let stopped = |reason| category(&task("ServiceSchedulerInitiated", reason, true, &[("app", Some(143), None)]));
    assert_eq!(stopped("Task failed the evaluation of tomorrow"), None);
    assert_eq!(stopped("Rebalanced over Availability Zones"), Some(Category::RoutineScaling));
    assert_eq!(stopped(""), Some(Category::RoutineScaling));
}

#[test]
fn a_container_that_does_not_explain_the_stop_comes_last_in_the_hint() {
    let exited = "Essential container in task exited";
    let crashed = task("EssentialContainerExited", exited, true, &[("xray", None, PULL), ("app", Some(1), None)]);
    let hint = cause(&crashed).hint;
    assert!(hint.starts_with("Container app exited with code 1."), "{hint}");
    assert!(hint.ends_with("Also: xray did not start (Network unreachable)."), "{hint}");
    let alone = task("EssentialContainerExited", exited, true, &[("app", Some(1), None)]);
    assert!(!cause(&alone).hint.contains("Also"));
}

#[test]
fn the_image_in_the_text_identifies_the_container() {
    let pull = |text: &'static str, images: &[(&'static str, &'static str)]| {
        let container = |&(name, image)| Container { name: Some(name), image: Some(image), ..Container::default() };
        let containers = images.iter().map(container).collect();
        explain(&Task { stop_code: Some("TaskFailedToStart"), containers, ..because(text) })
            .culprit
            .and_then(|it| it.name)
    };
    let ecr = [
        ("app", "1.dkr.ecr.eu-west-1.amazonaws.com/shop/api:2"),
        ("old", "1.dkr.ecr.eu-west-1.amazonaws.com/shop/api:1"),
        ("cache", "redis:7"),
    ];
    for (text, expected) in [
        (
            "CannotPullContainerError: failed to resolve ref 1.dkr.ecr.eu-west-1.amazonaws.com/shop/api:2: not found",
            Some("app"),
        ),
        (
            "CannotPullContainerError: failed to resolve ref 1.dkr.ecr.eu-west-1.amazonaws.com/shop/api:1: not found",
            Some("old"),
        ),
        ("CannotPullContainerError: manifest for 1.dkr.ecr.eu-west-1.amazonaws.com/shop/api not found", None),
        (
            "CannotPullContainerError: unexpected status code https://registry-1.docker.io/v2/library/redis/blobs/sha256:0a: 503 Service Unavailable",
            Some("cache"),
        ),
        ("CannotPullContainerError: pull access denied for redis, repository does not exist", Some("cache")),
        ("CannotPullContainerError: failed to resolve ref quay.io/shop/redis:7: not found", None),
        ("CannotPullContainerError: failed to resolve ref docker.io/library/rediss:7: not found", None),
        ("CannotPullContainerError: image Manifest does not contain descriptor matching platform 'linux/amd64'", None),
    ] {
        assert_eq!(pull(text, &ecr), expected, "{text}");
    }
    let digest = [("app", "quay.io/shop/api@sha256:0a1b"), ("proxy", "quay.io/shop/api@sha256:2c3d")];
    assert_eq!(
        pull("CannotPullContainerError: failed to resolve ref quay.io/shop/api@sha256:2c3d: not found", &digest),
        Some("proxy")
    );
    let one = [("app", "mirror.example.com/redis:7")];
    assert_eq!(
        pull("CannotPullContainerError: failed to resolve ref docker.io/library/redis:7: not found", &one),
        Some("app"),
        "there is no other"
    );
}

#[test]
fn advice_fits_the_launch_type_and_who_started_the_task() {
    let full = |launch_type, group, started_by| {
        let reason = "CannotPullContainerError: no space left on device";
        let (launch_type, group) = (Some(launch_type), Some(group));
        cause(&Task { launch_type, group, started_by, ..because(reason) }).hint
    };
    let fargate = full("FARGATE", "service:shop", Some("ecs-svc/1"));
    assert!(fargate.contains("Raise ephemeralStorage") && !fargate.contains("instance"), "{fargate}");
    assert!(!fargate.contains("stand-alone"), "{fargate}");
    let job = full("EC2", "family:nightly", Some("AWS Step Functions"));
    assert!(job.contains("container instance") && !job.contains("ephemeralStorage"), "{job}");
    assert!(job.ends_with("ECS does not start a stand-alone task again (started by AWS Step Functions)."), "{job}");
    let custom = full("EC2", "reports", None);
    assert!(custom.ends_with("ECS does not start a stand-alone task again."), "{custom}");
    let daemon = full("EC2", "daemon:node-agent", Some("ecs-daemon/1"));
    assert!(!daemon.contains("stand-alone"), "{daemon}");
    let nobody_knows = cause(&because("no space left on device")).hint;
    assert!(nobody_knows.contains("EC2: ") && nobody_knows.contains("Fargate: "), "{nobody_knows}");
}
