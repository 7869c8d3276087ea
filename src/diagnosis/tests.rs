use serde_json::{Value, json};

use super::answers::{Answers, LogStream};
use super::*;
use crate::cause::Category;

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
    all.into_iter().for_each(|answer| answers.add(answer));
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
    let why: Vec<_> = diagnosis.why.iter().map(|why| (why.cause.category, why.exit_code, why.count)).collect();
    assert_eq!(why, [(Category::Crash, Some(1), 3), (Category::Crash, Some(139), 1)]);
    assert_eq!(diagnosis.stopped, 4);
    assert!(diagnosis.task_url.unwrap().contains("/tasks/4?"), "the latest");
}

/// Which of the stops count towards a crash loop.
#[test]
fn neither_user_stops_nor_scale_ins_count_whatever_a_sidecar_says() {
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
    let mut why: Vec<_> = diagnosis.why.iter().map(|why| why.cause.category.as_str()).collect();
    why.sort_unstable();
    assert_eq!(why, ["crash", "health_check_lb", "network", "spot"]);
}

#[test]
fn words_that_nobody_knows_are_quoted() {
    let mut task = stopped("a", "1", 7, 10, 1);
    task["stopCode"] = "TaskFailedToStart".into();
    task["stoppedReason"] = "QuantumFluxError: the flux is out of phase".into();
    task["containers"] = json!([{ "name": "app", "image": "api" }]);
    let deployments = json!([deployment("1", "PRIMARY", 7, 1, "IN_PROGRESS")]);
    let diagnosis = diagnosis([described(deployments), json!({ "tasks": [task] })]);
    let why: Vec<_> = diagnosis.why.iter().map(|why| (why.cause.category, why.example.as_deref())).collect();
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
    assert!(diagnosis.why[0].cause.hint.starts_with("Unhealthy: Container cache."), "{:?}", diagnosis.why);
}

#[test]
fn a_new_deployment_that_fails_is_compared_with_the_one_it_is_to_replace() {
    let deployments =
        json!([deployment("2", "PRIMARY", 8, 200, "IN_PROGRESS"), deployment("1", "ACTIVE", 7, 100, "COMPLETED")]);
    // One of the old deployment stopped too, for reasons of its own.
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
fn a_deployment_that_was_given_up_is_still_the_one_in_trouble() {
    let rolled_back =
        json!([deployment("3", "PRIMARY", 7, 300, "IN_PROGRESS"), deployment("2", "ACTIVE", 8, 200, "FAILED")]);
    let forgotten = json!([deployment("3", "PRIMARY", 7, 300, "COMPLETED")]);
    for (deployments, rollout) in [(rolled_back, Rollout::RolledBack), (forgotten, Rollout::Replaced)] {
        let diagnosis = diagnosis([described(deployments), json!({ "tasks": [stopped("a", "2", 8, 210, 1)] })]);
        let change = diagnosis.change.unwrap();
        assert_eq!((change.before.as_deref(), change.now.as_str()), (Some("api:7"), "api:8"));
        assert_eq!((diagnosis.stopped, diagnosis.state.rollout), (1, Some(rollout)));
    }
}

#[test]
fn an_old_deployment_on_its_way_out_is_not_compared_with_its_successor() {
    let deployments =
        json!([deployment("2", "PRIMARY", 8, 200, "IN_PROGRESS"), deployment("1", "ACTIVE", 7, 100, "COMPLETED")]);
    let diagnosis = diagnosis([described(deployments), json!({ "tasks": [stopped("b", "1", 7, 205, 139)] })]);
    let change = diagnosis.change.unwrap();
    assert_eq!((change.before, change.now.as_str()), (None, "api:7"));
}

#[test]
fn the_task_definitions_to_ask_for_are_those_of_both_deployments() {
    let deployments =
        json!([deployment("2", "PRIMARY", 8, 200, "IN_PROGRESS"), deployment("1", "ACTIVE", 7, 100, "COMPLETED")]);
    let mut answers = answers([described(deployments)]);
    let arns = [8, 7].map(|revision| format!("{ECS}:task-definition/api:{revision}"));
    assert_eq!(answers.lacking_task_definitions(&service()), arns);
    answers.add(defined(8, json!({})));
    assert_eq!(answers.lacking_task_definitions(&service()), arns[1..]);
}

#[test]
fn the_log_is_that_of_the_container_which_ended_the_task() {
    let log = json!({ "name": "app", "logConfiguration": { "logDriver": "awslogs", "options": {
        "awslogs-group": "/ecs/api", "awslogs-region": "eu-central-1", "awslogs-stream-prefix": "web",
    } } });
    let deployments = json!([deployment("1", "PRIMARY", 7, 1, "COMPLETED")]);
    let all = answers([described(deployments), json!({ "tasks": [stopped("a", "1", 7, 9, 1)] }), defined(7, log)]);
    let expected = LogStream { region: "eu-central-1".into(), group: "/ecs/api".into(), stream: "web/app/a".into() };
    assert_eq!(all.log_stream(&service()), Some(expected));
    let url = all.diagnosis(&service()).unwrap().log_url.unwrap();
    assert!(url.starts_with("https://eu-central-1.console.aws.amazon.com/cloudwatch/home?region=eu-central-1#logsV2:"));
}

#[test]
fn values_are_compared_but_never_told() {
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
fn a_service_that_cannot_place_tasks_tells_it_itself() {
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
    let why = diagnosis([answer]).why;
    let why: Vec<_> = why.iter().map(|why| (why.cause.category, why.count)).collect();
    assert_eq!(why, [(Category::Capacity, 0)]);
}

#[test]
fn a_service_that_ecs_does_not_know_has_no_diagnosis() {
    let missing = json!({ "services": [], "failures": [{ "arn": "x", "reason": "MISSING" }] });
    assert_eq!(answers([missing]).diagnosis(&service()), None);
    let elsewhere = Service { cluster: "other".into(), ..service() };
    assert_eq!(answers([described(json!([]))]).diagnosis(&elsewhere), None);
}

#[test]
fn answers_of_odd_shapes_are_borne() {
    for odd in [json!(null), json!([]), json!(1), json!("x"), json!({}), json!([{}, 1, null, { "name": 1 }])] {
        answers([odd.clone()]);
        let mut service = described(odd.clone());
        service["services"][0]["events"] = odd.clone();
        service["services"][0]["deploymentConfiguration"] = odd.clone();
        let mut task = stopped("a", "1", 7, 1, 1);
        task["containers"] = odd.clone();
        task["stoppedAt"] = odd.clone();
        diagnosis([
            service,
            json!({ "tasks": [task, odd.clone()] }),
            defined(7, odd.clone()),
            json!({ "taskDefinition": odd }),
        ]);
    }
}

/// A program may log it, and a reason may quote what was run.
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
    let log = json!({ "nextForwardToken": "f", "events": [{ "message": quoted }] });
    let diagnosis = diagnosis([service, json!({ "tasks": [task] }), defined(7, logs), log]);
    assert_eq!(diagnosis.log, ["panicked with {\"…"]);
    let all = format!("{diagnosis:?}");
    assert!(!all.contains("opensesame"), "{all}");
}
