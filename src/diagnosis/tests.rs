use serde_json::{Value, json};

use super::answers::{Answers, LogStream, ServiceSnapshot};
use super::*;
use crate::cause::Category;

mod deployments;

use self::deployments::{record, recorded};

const ECS: &str = "arn:aws:ecs:eu-west-1:123456789012";

fn service() -> Service {
    let [partition, region, account, cluster, name] =
        ["aws", "eu-west-1", "123456789012", "prod", "api"].map(Into::into);
    Service { partition, region, account, cluster, name }
}

fn described(deployments: Value) -> Value {
    json!({ "services": [{
        "serviceName": "api", "clusterArn": format!("{ECS}:cluster/prod"), "desiredCount": 4, "runningCount": 2,
        "deployments": deployments,
    }] })
}

fn deployment(id: &str, status: &str, revision: u32, created: u32, rollout: &str) -> Value {
    json!({
        "id": format!("ecs-svc/{id}"), "status": status, "createdAt": created, "rolloutState": rollout,
        "taskDefinition": format!("{ECS}:task-definition/api:{revision}"),
    })
}

fn stopped(id: &str, deployment: &str, revision: u32, at: u32, exit_code: i64) -> Value {
    json!({
        "taskArn": format!("{ECS}:task/prod/{id}"), "clusterArn": format!("{ECS}:cluster/prod"), "group": "service:api",
        "lastStatus": "STOPPED", "startedBy": format!("ecs-svc/{deployment}"), "stoppedAt": at,
        "taskDefinitionArn": format!("{ECS}:task-definition/api:{revision}"),
        "stopCode": "EssentialContainerExited", "stoppedReason": "Essential container in task exited",
        "containers": [{ "name": "app", "image": "api", "exitCode": exit_code }],
    })
}

fn defined(revision: u32, container: Value) -> Value {
    json!({ "taskDefinition": {
        "taskDefinitionArn": format!("{ECS}:task-definition/api:{revision}"), "containerDefinitions": [container],
        "revision": revision, "registeredAt": revision,
    } })
}

fn answers(all: impl IntoIterator<Item = Value>) -> Answers {
    let mut answers = Answers::default();
    all.into_iter().for_each(|answer| answers.add("", answer));
    answers
}

fn diagnosis(all: impl IntoIterator<Item = Value>) -> Diagnosis {
    answers(all).diagnosis(&service()).unwrap()
}

#[test]
fn stopped_tasks_are_counted_by_cause_and_exit_code() {
    let tasks = [("1", 10, 1), ("2", 20, 139), ("3", 30, 1), ("4", 40, 1)];
    let mut tasks: Vec<Value> = tasks.map(|(id, at, code)| stopped(id, "1", 7, at, code)).into();
    // Routine, of another service, of another cluster, still running.
    tasks.push(stopped("5", "1", 7, 50, 0));
    tasks[4]["stopCode"] = "UserInitiated".into();
    tasks[4]["stoppedReason"] = "Task stopped by user".into();
    tasks.extend(["group", "clusterArn", "lastStatus"].map(|key| {
        let mut other = stopped("6", "1", 7, 60, 1);
        other[key] = format!("{ECS}:cluster/other").into();
        other
    }));
    let answer = [described(json!([deployment("1", "PRIMARY", 7, 1, "COMPLETED")])), json!({ "tasks": tasks })];
    let diagnosis = diagnosis(answer);
    let why: Vec<_> = diagnosis.causes.iter().map(|why| (why.cause.category, why.exit_code, why.count)).collect();
    assert_eq!(why, [(Category::Crash, Some(1), 3), (Category::Crash, Some(139), 1)]);
    assert_eq!(diagnosis.stopped, 4);
    assert!(diagnosis.task_url.unwrap().contains("/tasks/4?"), "the latest");
}

/// The stops that count towards a crash loop.
#[test]
fn user_stops_and_scale_ins_do_not_count_even_if_a_sidecar_failed() {
    let sidecar = json!({ "name": "xray", "image": "xray", "reason": "CannotPullContainerError: dial tcp 10.0.0.1:443: i/o timeout" });
    let task = |id, stop_code: &str, reason: &str, exit_code| {
        let mut task = stopped(id, "1", 7, 10, exit_code);
        task["stopCode"] = stop_code.into();
        task["stoppedReason"] = reason.into();
        task["startedAt"] = 5.into();
        task["containers"].as_array_mut().unwrap().insert(0, sidecar.clone());
        task
    };
    let mut never_ran = task("f", "TaskFailedToStart", "Task failed to start", 137);
    never_ran["startedAt"] = Value::Null;
    let tasks = [
        task("a", "EssentialContainerExited", "Essential container in task exited", 1),
        task("b", "UserInitiated", "restarted by ops after an i/o timeout", 143),
        task("c", "ServiceSchedulerInitiated", "Scaling activity initiated by (deployment ecs-svc/1)", 143),
        task("d", "ServiceSchedulerInitiated", "Task failed ELB health checks in (elb web)", 137),
        task("e", "SpotInterruption", "Your Spot Task was interrupted.", 143),
        never_ran,
    ];
    let deployments = json!([deployment("1", "PRIMARY", 7, 1, "COMPLETED")]);
    let diagnosis = diagnosis([described(deployments), json!({ "tasks": tasks })]);
    let counted: Vec<&str> = diagnosis.stops.iter().map(|stop| stop.task.as_str()).collect();
    assert_eq!(counted, ["a", "d"]);
    let mut why: Vec<_> = diagnosis.causes.iter().map(|why| why.cause.category.as_str()).collect();
    why.sort_unstable();
    assert_eq!(why, ["crash", "health_check_lb", "network", "spot"]);
}

#[test]
fn an_unknown_reason_is_quoted() {
    let mut task = stopped("a", "1", 7, 10, 1);
    task["stopCode"] = "TaskFailedToStart".into();
    task["stoppedReason"] = "QuantumFluxError: the flux is out of phase".into();
    task["containers"] = json!([{ "name": "app", "image": "api" }]);
    let deployments = json!([deployment("1", "PRIMARY", 7, 1, "IN_PROGRESS")]);
    let diagnosis = diagnosis([described(deployments), json!({ "tasks": [task] })]);
    let why: Vec<_> = diagnosis.causes.iter().map(|why| (why.cause.category, why.example.as_deref())).collect();
    assert_eq!(why, [(Category::Unknown, Some("QuantumFluxError: the flux is out of phase"))]);
}

#[test]
fn an_unhealthy_container_is_named_by_its_health_status() {
    let mut task = stopped("a", "1", 7, 10, 143);
    task["stopCode"] = "ServiceSchedulerInitiated".into();
    task["stoppedReason"] = "Task failed container health checks".into();
    task["containers"] = json!([
        { "name": "app", "image": "api", "exitCode": 143, "healthStatus": "UNKNOWN" },
        { "name": "cache", "image": "redis", "exitCode": 0, "healthStatus": "UNHEALTHY" },
    ]);
    let deployments = json!([deployment("1", "PRIMARY", 7, 1, "COMPLETED")]);
    let diagnosis = diagnosis([described(deployments), json!({ "tasks": [task] })]);
    assert!(diagnosis.causes[0].cause.hint.starts_with("Unhealthy: Container cache."), "{:?}", diagnosis.causes);
}

#[test]
fn a_new_deployment_that_fails_is_compared_with_the_previous_one() {
    let deployments =
        json!([deployment("2", "PRIMARY", 8, 200, "IN_PROGRESS"), deployment("1", "ACTIVE", 7, 100, "COMPLETED")]);
    // A task of the old deployment stopped too, for another reason.
    let tasks = json!({ "tasks": [stopped("a", "2", 8, 210, 1), stopped("b", "1", 7, 205, 139)] });
    let all = [described(deployments), tasks, defined(7, json!({})), defined(8, json!({}))];
    let diagnosis = diagnosis(all);
    let change = diagnosis.change.unwrap();
    assert_eq!((change.before.as_deref(), change.now.as_str()), (Some("api:7"), "api:8"));
    assert_eq!(change.deployed.unwrap().unix_timestamp(), 200);
    assert_eq!(change.differences, Some(vec![]));
    assert_eq!((diagnosis.stopped, diagnosis.state.rollout), (1, Some(Rollout::InProgress)));
}

#[test]
fn a_deployment_that_was_rolled_back_or_forgotten_is_still_the_failing_one() {
    let rolled_back =
        json!([deployment("3", "PRIMARY", 7, 300, "IN_PROGRESS"), deployment("2", "ACTIVE", 8, 200, "FAILED")]);
    let forgotten = json!([deployment("3", "PRIMARY", 7, 300, "COMPLETED")]);
    for (deployments, rollout) in [(rolled_back, Rollout::RolledBack), (forgotten, Rollout::Replaced)] {
        let diagnosis = diagnosis([described(deployments), json!({ "tasks": [stopped("a", "2", 8, 210, 1)] })]);
        let change = diagnosis.change.unwrap();
        assert_eq!((change.before.as_deref(), change.now.as_str()), (Some("api:7"), "api:8"));
        assert_eq!((diagnosis.stopped, diagnosis.state.rollout), (1, Some(rollout)));
        // The current deployment is another one.
        assert_eq!(diagnosis.current.task_definition.as_deref(), Some("api:7"));
    }
}

#[test]
fn an_old_deployment_that_is_being_replaced_is_not_compared_with_the_new_one() {
    let deployments =
        json!([deployment("2", "PRIMARY", 8, 200, "IN_PROGRESS"), deployment("1", "ACTIVE", 7, 100, "COMPLETED")]);
    let diagnosis = diagnosis([described(deployments), json!({ "tasks": [stopped("b", "1", 7, 205, 139)] })]);
    let change = diagnosis.change.unwrap();
    assert_eq!((change.before, change.now.as_str()), (None, "api:7"));
}

#[test]
fn the_task_definitions_to_request_are_those_of_both_deployments() {
    let deployments =
        json!([deployment("2", "PRIMARY", 8, 200, "IN_PROGRESS"), deployment("1", "ACTIVE", 7, 100, "COMPLETED")]);
    let answers = answers([described(deployments)]);
    let arns = [8, 7].map(|revision| format!("{ECS}:task-definition/api:{revision}"));
    let service = service();
    let snapshot = ServiceSnapshot::of(&service, &answers.facts).unwrap();
    assert_eq!(snapshot.task_definitions().map(Option::unwrap), arns);
}

#[test]
fn the_log_is_that_of_the_container_that_ended_the_task() {
    let log = json!({ "name": "app", "logConfiguration": { "logDriver": "awslogs", "options": {
        "awslogs-group": "/ecs/api", "awslogs-region": "eu-central-1", "awslogs-stream-prefix": "web",
    } } });
    let deployments = json!([deployment("1", "PRIMARY", 7, 1, "COMPLETED")]);
    let all = answers([described(deployments), json!({ "tasks": [stopped("a", "1", 7, 9, 1)] }), defined(7, log)]);
    let expected = LogStream { region: "eu-central-1".into(), group: "/ecs/api".into(), stream: "web/app/a".into() };
    assert_eq!(ServiceSnapshot::of(&service(), &all.facts).unwrap().log_stream(&all.details), Some(expected));
    let url = all.diagnosis(&service()).unwrap().log_url.unwrap();
    assert!(url.starts_with("https://eu-central-1.console.aws.amazon.com/cloudwatch/home?region=eu-central-1#logsV2:"));
}

#[test]
fn values_are_compared_but_never_shown() {
    let before = json!({
        "name": "app", "image": "registry:5000/api", "command": ["serve", "--key=opensesame"], "cpu": 256,
        "environment": [{ "name": "SAME", "value": "opensesame" }, { "name": "A", "value": "opensesame" }, { "name": "GONE", "value": "opensesame" }],
        "secrets": [], "healthCheck": { "command": ["CMD", "opensesame"] },
    });
    let now = json!({
        "name": "app", "image": "registry:5000/api:v2", "command": ["serve", "--key=opensesame2"], "cpu": 128,
        "environment": [{ "name": "NEW", "value": "opensesame" }, { "name": "SAME", "value": "opensesame" }, { "name": "A", "value": "opensesame2" }],
        "secrets": [{ "name": "DB", "valueFrom": "opensesame" }],
    });
    let deployments =
        json!([deployment("2", "PRIMARY", 8, 200, "IN_PROGRESS"), deployment("1", "ACTIVE", 7, 100, "COMPLETED")]);
    let diagnosis = diagnosis([described(deployments), defined(7, before), defined(8, now)]);
    assert!(!format!("{diagnosis:?}").contains("opensesame"), "{diagnosis:?}");
    let expected = [
        ("app image", "latest → v2"),
        ("app environment", "removed GONE; changed A; added NEW"),
        ("app secrets", "added DB"),
        ("app command", "changed"),
        ("app cpu", "256 → 128"),
        ("app health check", "removed"),
    ];
    assert_eq!(diagnosis.change.unwrap().differences.unwrap(), expected.map(|(what, how)| (what.into(), how.into())));
}

#[test]
fn why_tasks_cannot_be_placed_is_read_from_the_events_of_the_service() {
    let mut answer = described(json!([deployment("1", "PRIMARY", 7, 1, "COMPLETED")]));
    let event = |at: u32, message: &str| json!({ "createdAt": at, "message": message });
    answer["services"][0]["events"] = json!([
        event(9_000, "(service api) has reached a steady state."),
        event(
            8_000,
            "(service api) was unable to place a task because no container instance met all of its requirements. Reason: No Container Instances were found in your cluster."
        ),
        event(1_000, "(service api) (port 80) is unhealthy in (target-group x) due to (reason Request timed out)."),
    ]);
    let why = diagnosis([answer]).causes;
    let why: Vec<_> = why.iter().map(|why| (why.cause.category, why.count)).collect();
    assert_eq!(why, [(Category::Capacity, 0)]);
}

#[test]
fn a_service_that_ecs_does_not_know_has_no_diagnosis() {
    let missing = json!({ "services": [], "failures": [{ "arn": "x", "reason": "MISSING" }] });
    assert_eq!(answers([missing]).diagnosis(&service()), None);
    let in_other_cluster = Service { cluster: "other".into(), ..service() };
    assert_eq!(answers([described(json!([]))]).diagnosis(&in_other_cluster), None);
}

#[test]
fn an_answer_about_targets_belongs_to_the_group_that_its_file_names() {
    let arn = |name: &str| format!("arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/{name}/{name}0123");
    let event = |name: &str| json!({ "createdAt": 9, "message": format!("(service api) (port 80) is unhealthy in (target-group {}) due to (reason Health checks failed).", arn(name)) });
    let mut service = described(json!([deployment("1", "PRIMARY", 7, 1, "COMPLETED")]));
    service["services"][0]["events"] = json!([event("web"), event("web-api")]);
    let health = |code: u32| {
        json!({ "TargetHealthDescriptions": [{ "TargetHealth": {
        "State": "unhealthy", "Description": format!("Health checks failed with these codes: [{code}]"),
    } }] })
    };
    for names in
        [["describe-target-health-web", "describe-target-health-web-api"], ["health.web0123", "health.web-api0123"]]
    {
        for names_first in [true, false] {
            let mut all = answers([service.clone()]);
            let mut both = [(names[0], 401), (names[1], 402)];
            if !names_first {
                both.reverse();
            }
            both.into_iter().for_each(|(name, code)| all.add(name, health(code)));
            let checks = all.diagnosis(&self::service()).unwrap().health_checks;
            let found: Vec<_> =
                checks.into_iter().map(|check| (check.target_group, check.found[0].0.clone())).collect();
            let expected = [("web", "401"), ("web-api", "402")];
            assert_eq!(found, expected.map(|(name, code)| (name.to_owned(), Finding::Answered(code.to_owned()))));
        }
    }
    // Nothing says which of the two groups this answer is about.
    let mut all = answers([service]);
    all.add("describe-target-health", health(401));
    assert_eq!(all.diagnosis(&self::service()).unwrap().health_checks, []);
}

#[test]
fn answers_of_unexpected_shapes_do_no_harm() {
    for odd in [json!(null), json!([]), json!(1), json!("x"), json!({}), json!([{}, 1, null, { "name": 1 }])] {
        answers([odd.clone()]);
        let mut service = described(odd.clone());
        for key in ["events", "deploymentConfiguration", "taskSets", "loadBalancers", "deploymentController"] {
            service["services"][0][key] = odd.clone();
        }
        let mut task = stopped("a", "1", 7, 1, 1);
        task["containers"] = odd.clone();
        task["stoppedAt"] = odd.clone();
        let mut deployed = record("a", "1", 100, "IN_PROGRESS");
        for key in [
            "alarms",
            "createdAt",
            "deploymentCircuitBreaker",
            "deploymentConfiguration",
            "lifecycleHookDetails",
            "rollback",
            "targetServiceRevision",
        ] {
            deployed[key] = odd.clone();
        }
        diagnosis([
            service,
            json!({ "tasks": [task, odd.clone()] }),
            defined(7, odd.clone()),
            recorded([deployed, odd.clone()]),
            json!({ "serviceDeployments": odd.clone() }),
            json!({ "TargetGroups": odd.clone() }),
            json!({ "TargetHealthDescriptions": odd.clone() }),
            json!({ "taskDefinition": odd }),
        ]);
    }
}

/// A program may log its environment variables, and a reason may quote those of the container that was run.
#[test]
fn an_environment_that_is_quoted_is_left_out() {
    let quoted = r#"panicked with {"environment": [{"name": "TOKEN", "value": "opensesame"}]}"#;
    let mut task = stopped("1", "1", 7, 10, 1);
    task["stoppedReason"] = quoted.into();
    task["containers"][0]["reason"] = quoted.into();
    let logs = json!({ "name": "app", "logConfiguration": { "logDriver": "awslogs", "options": {
        "awslogs-group": "g", "awslogs-stream-prefix": "p", "awslogs-region": "eu-west-1",
    } } });
    let mut service = described(json!([deployment("1", "PRIMARY", 7, 1, "COMPLETED")]));
    service["services"][0]["events"] = json!([{ "createdAt": 1, "message": quoted }]);
    let mut rolled_back = record("a", "1", 1, "ROLLBACK_SUCCESSFUL");
    rolled_back["rollback"] = json!({ "reason": quoted });
    let group = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/1";
    let unhealthy =
        json!({ "createdAt": 2, "message": format!("(service api) is unhealthy in (target-group {group}) {quoted}") });
    service["services"][0]["events"].as_array_mut().unwrap().push(unhealthy);
    let health =
        json!({ "TargetHealthDescriptions": [{ "TargetHealth": { "State": "unhealthy", "Description": quoted } }] });
    let log = json!({ "nextForwardToken": "f", "events": [{ "message": quoted }] });
    let answers = [service, json!({ "tasks": [task] }), defined(7, logs), log, recorded([rolled_back]), health];
    let diagnosis = diagnosis(answers);
    assert_eq!(diagnosis.health_checks.len(), 1);
    assert!(diagnosis.state.deployment.as_ref().unwrap().reason.is_some());
    assert_eq!(diagnosis.log, ["panicked with {\"…"]);
    let all = format!("{diagnosis:?}");
    assert!(!all.contains("opensesame"), "{all}");
}

#[test]
fn a_service_has_recovered_if_its_current_deployment_has() {
    let now = u32::try_from(OffsetDateTime::now_utc().unix_timestamp()).unwrap();
    let within = std::time::Duration::from_secs(600);
    let primary = |rollout: &str| deployment("2", "PRIMARY", 8, now - 300, rollout);
    for (deployments, (failed, minutes_ago), running, has_recovered) in [
        // The fixed deployment runs. A task of the replaced one stopped a minute ago.
        (json!([primary("COMPLETED")]), ("1", 1), 4, true),
        (json!([primary("COMPLETED"), deployment("1", "ACTIVE", 7, now - 900, "COMPLETED")]), ("1", 1), 4, true),
        (json!([primary("COMPLETED"), deployment("1", "ACTIVE", 7, now - 900, "FAILED")]), ("1", 1), 4, true),
        (json!([primary("COMPLETED")]), ("1", 1), 3, false),
        (json!([primary("IN_PROGRESS")]), ("1", 1), 4, false),
        (json!([primary("FAILED")]), ("1", 1), 4, false),
        (json!([primary("COMPLETED")]), ("2", 1), 4, false),
        (json!([primary("COMPLETED")]), ("2", 11), 4, true),
    ] {
        let mut service = described(deployments);
        service["services"][0]["runningCount"] = running.into();
        let tasks = json!({ "tasks": [stopped("x", failed, 7, now - 60 * minutes_ago, 1)] });
        let diagnosis = diagnosis([service.clone(), tasks]);
        let case = format!("{service}, a task of deployment {failed} stopped {minutes_ago} min ago");
        assert_eq!(diagnosis.has_recovered(within), has_recovered, "{case}");
        assert_eq!(diagnosis.current.task_definition.as_deref(), Some("api:8"));
    }
}
