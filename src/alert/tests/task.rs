//! Alerts about tasks: which stops are problems, and what the alert shows.

use super::*;

#[test]
fn the_severity_depends_on_why_the_task_stopped() {
    let app = |exit_code: i64| json!([{ "name": "app", "exitCode": exit_code }]);
    for (detail, severity) in [
        // Tasks that failed to start.
        (json!({ "stopCode": "TaskFailedToStart", "containers": [] }), Critical),
        (json!({ "stopCode": "TaskFailedToStart", "group": "family:report" }), Warning),
        (json!({ "stopCode": "TaskFailedToStart", "group": null, "startedBy": "ecs-svc/12" }), Critical),
        // Tasks that exited by themselves.
        (json!({ "stopCode": "EssentialContainerExited", "containers": app(143) }), Warning),
        (json!({ "stopCode": "EssentialContainerExited", "containers": app(0), "group": "family:report" }), Info),
        (json!({ "stopCode": "EssentialContainerExited", "containers": app(1), "group": "family:report" }), Warning),
        (json!({ "stopCode": "EssentialContainerExited", "containers": [], "group": "family:report" }), Warning),
        (
            json!({ "stopCode": "EssentialContainerExited", "group": "family:report",
                 "containers": [{ "exitCode": 0, "reason": "OutOfMemoryError: killed" }] }),
            Warning,
        ),
        // Tasks that the scheduler stopped.
        (json!({ "stopCode": "ServiceSchedulerInitiated", "containers": app(143) }), Info),
        (
            json!({ "stopCode": "ServiceSchedulerInitiated", "stoppedReason": "Task failed ELB health checks in (elb web)" }),
            Warning,
        ),
        (
            json!({ "stopCode": "ServiceSchedulerInitiated", "stoppedReason": "(port 80) is unhealthy in (target-group x)" }),
            Warning,
        ),
        // Without a stop code, or with an unknown one.
        (json!({ "stoppedReason": "Task stopped by user", "containers": app(137) }), Info),
        (json!({ "stoppedReason": "Your Spot Task was interrupted." }), Warning),
        (json!({ "stoppedReason": "CannotPullContainerError: pull access denied for web" }), Critical),
        (json!({ "stoppedReason": "Essential container in task exited", "containers": app(1) }), Warning),
        (
            json!({ "stoppedReason": "Essential container in task exited", "containers": app(0), "group": "family:report" }),
            Info,
        ),
        (json!({ "stopCode": "SpotInterruptionTermination", "containers": app(0), "group": "family:report" }), Info),
        (json!({ "containers": app(3), "group": "family:report" }), Warning),
        (json!({}), Info),
        // Tasks that have not stopped.
        (json!({ "lastStatus": "RUNNING", "stopCode": "SpotInterruption" }), Warning),
        (json!({ "lastStatus": "STOPPING", "stopCode": "SpotInterruption" }), Info),
        (json!({ "lastStatus": "DEPROVISIONING", "stopCode": "TaskFailedToStart" }), Info),
        (json!({ "lastStatus": "SOMETHING_NEW" }), Info),
        (json!({ "lastStatus": null, "stopCode": "TaskFailedToStart" }), Critical),
        (json!({ "lastStatus": null }), Warning),
    ] {
        assert_eq!(stopped(detail.clone()).severity, severity, "{detail}");
    }
}

#[test]
fn the_alert_about_a_task_that_is_to_stop_does_not_say_that_it_is_running() {
    for (detail, severity, kind, what) in [
        (
            json!({ "stoppedReason": "Your Spot Task was interrupted." }),
            Warning,
            "SPOT_INTERRUPTION",
            "task is about to be stopped by a Spot interruption",
        ),
        (
            json!({ "stoppedReason": "ECS is performing maintenance on the underlying infrastructure hosting the task." }),
            Warning,
            "TASK_STOPPING",
            "task is about to be stopped: its host is going away",
        ),
        (
            json!({ "stopCode": "UserInitiated", "stoppedReason": "Spot check" }),
            Info,
            "TASK_STOPPING",
            "task is about to be stopped by a user",
        ),
        (
            json!({ "stopCode": "ServiceSchedulerInitiated", "stoppedReason": "Task failed container health checks" }),
            Info,
            "TASK_STOPPING",
            "task is about to be stopped: it failed its health checks",
        ),
        (json!({}), Info, "TASK_STATE_CHANGE", "task is running"),
    ] {
        let mut task = json!({ "lastStatus": "RUNNING", "desiredStatus": "STOPPED" });
        task.as_object_mut().unwrap().extend(detail.as_object().unwrap().clone());
        let alert = stopped(task);
        assert_eq!((alert.severity, alert.kind.as_str(), alert.what.as_str()), (severity, kind, what), "{detail}");
    }
}

#[test]
fn a_cause_on_the_host_names_the_container_instance() {
    let on_instance = |reason: &str| {
        stopped(json!({
            "stopCode": "TaskFailedToStart", "launchType": "EC2", "availabilityZone": "eu-west-1a",
            "containerInstanceArn": "arn:aws:ecs:eu-west-1:1:container-instance/prod/c934433ef349",
            "stoppedReason": reason, "containers": [{ "name": "app", "image": "app:1" }],
        }))
    };
    let page = "https://eu-west-1.console.aws.amazon.com/ecs/v2/clusters/prod/infrastructure/container-instances/c934433ef349?region=eu-west-1";
    for (reason, is_of_host) in [
        ("CannotCreateContainerError: devmapper: Thin Pool has 0 free data blocks", true),
        ("CannotStartContainerError: Bind for 0.0.0.0:80 failed: port is already allocated", true),
        ("SomethingNewError: in words nobody knows", true),
        ("Task failed to start", true),
        ("CannotPullContainerError: manifest unknown", false),
        ("ResourceInitializationError: retrieved secret did not contain json key a", false),
    ] {
        let alert = on_instance(reason);
        let fact = alert.facts.iter().find(|(label, _)| label == "Container instance").map(|(_, id)| id.as_str());
        assert_eq!(fact, Some("c934433ef349").filter(|_| is_of_host), "{reason}");
        assert_eq!(alert.links.iter().any(|link| link.url == page), is_of_host, "{reason}");
    }
    let scaled_in = stopped(json!({
        "stopCode": "ServiceSchedulerInitiated", "containerInstanceArn": "arn:aws:ecs:eu-west-1:1:container-instance/prod/c9",
    }));
    assert!(
        !scaled_in.facts.iter().any(|(label, _)| label == "Container instance"),
        "routine, so there is nothing to check"
    );
}

#[test]
fn the_platform_has_the_launch_type_the_version_and_a_windows_family() {
    let platform = |detail: Value| {
        let facts = stopped(detail).facts;
        facts.into_iter().find(|(label, _)| label == "Platform").map(|(_, platform)| platform)
    };
    for (detail, expected) in [
        (
            json!({ "launchType": "FARGATE", "platformVersion": "1.4.0", "platformFamily": "Linux" }),
            Some("FARGATE 1.4.0"),
        ),
        (
            json!({ "launchType": "EC2", "platformFamily": "WINDOWS_SERVER_2019_CORE" }),
            Some("EC2 WINDOWS_SERVER_2019_CORE"),
        ),
        (
            json!({ "launchType": "FARGATE", "platformVersion": "1.0.0", "platformFamily": "Windows_Server_2022_Core" }),
            Some("FARGATE 1.0.0 Windows_Server_2022_Core"),
        ),
        (json!({ "launchType": "EXTERNAL" }), Some("EXTERNAL")),
        (json!({ "launchType": "EXTERNAL", "capacityProviderName": "on-premises" }), Some("on-premises EXTERNAL")),
        (json!({}), None),
    ] {
        assert_eq!(platform(detail.clone()).as_deref(), expected, "{detail}");
    }
}

#[test]
fn the_headline_does_not_name_a_container_without_an_exit_code() {
    let exited = |containers: Value| {
        stopped(json!({ "stopCode": "EssentialContainerExited", "startedAt": "2026-03-02T08:18:00Z", "containers": containers })).what
    };
    let unpulled = json!({ "name": "agent", "reason": "CannotPullContainerError: 403 Forbidden" });
    assert_eq!(
        exited(json!([unpulled, { "name": "app", "exitCode": 3 }])),
        "task stopped: essential container `app` exited with code 3"
    );
    assert_eq!(exited(json!([unpulled])), "task stopped: an essential container exited");
    assert_eq!(
        exited(json!([{ "name": "a", "exitCode": 3 }, { "name": "b", "exitCode": 3 }])),
        "task stopped: an essential container exited with code 3"
    );
    assert_eq!(
        exited(json!([{ "name": "a", "exitCode": 3 }, { "name": "b", "exitCode": 4 }])),
        "task stopped: an essential container exited"
    );
}
