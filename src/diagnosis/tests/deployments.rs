//! The deployment or task set that a diagnosis is about, and ECS's record of it.

use super::*;

pub(super) fn record(id: &str, revision: &str, created: u32, status: &str) -> Value {
    json!({
        "serviceDeploymentArn": format!("{ECS}:service-deployment/prod/api/{id}"), "serviceArn": format!("{ECS}:service/prod/api"),
        "createdAt": created, "status": status, "targetServiceRevision": { "arn": format!("{ECS}:service-revision/prod/api/{revision}") },
    })
}

pub(super) fn recorded(records: impl Into<Vec<Value>>) -> Value {
    json!({ "serviceDeployments": records.into() })
}

fn status(diagnosis: &Diagnosis) -> Option<Status> {
    diagnosis.state.deployment.as_ref().map(|deployment| deployment.status)
}

#[test]
fn ecs_s_record_is_that_of_the_deployment_whose_tasks_stop() {
    let records = [record("b", "2", 200, "ROLLBACK_SUCCESSFUL"), record("a", "1", 100, "SUCCESSFUL")];
    let after = || described(json!([deployment("1", "PRIMARY", 7, 100, "COMPLETED")]));
    // Tasks of the deployment that was rolled back, which DescribeServices has forgotten.
    let stops = json!({ "tasks": [stopped("x", "2", 8, 210, 1)] });
    let diagnosed = diagnosis([after(), stops, recorded(records.clone())]);
    assert_eq!(
        (status(&diagnosed), diagnosed.state.rollout),
        (Some(Status::RollbackSuccessful), Some(Rollout::RolledBack))
    );
    // Tasks of the previous deployment, which is current again: the record of the other one, with the rollback, is not used.
    let stops = json!({ "tasks": [stopped("x", "1", 7, 500, 1)] });
    let diagnosed = diagnosis([after(), stops, recorded(records.clone())]);
    assert_eq!((status(&diagnosed), diagnosed.state.rollout), (Some(Status::Successful), Some(Rollout::Completed)));
    // No task stopped, as when an alarm triggered the rollback: the record of the latest deployment that failed is used.
    let diagnosed = diagnosis([after(), recorded(records.clone())]);
    assert_eq!(status(&diagnosed), Some(Status::RollbackSuccessful));
    let change = diagnosed.change.unwrap();
    assert_eq!((change.now.as_str(), change.before), ("api:7", None));
    // A record of another service and a record with an unknown status are ignored.
    let mut foreign = record("c", "1", 100, "STOPPED");
    foreign["serviceDeploymentArn"] = format!("{ECS}:service-deployment/prod/web/c").into();
    let diagnosed = diagnosis([after(), recorded([foreign, record("d", "1", 100, "PAUSED")])]);
    assert_eq!((status(&diagnosed), diagnosed.state.rollout), (None, Some(Rollout::Completed)));
}

#[test]
fn a_record_with_another_id_is_found_by_its_time() {
    let deployments = json!([deployment("2", "PRIMARY", 8, 200, "IN_PROGRESS")]);
    let stops = json!({ "tasks": [stopped("x", "2", 8, 210, 1)] });
    let records = [record("c", "other", 5_000, "PENDING"), record("b", "unlike", 201, "STOPPED")];
    assert_eq!(status(&diagnosis([described(deployments), stops, recorded(records)])), Some(Status::Stopped));
}

#[test]
fn a_described_deployment_is_used_rather_than_its_entry_in_a_list() {
    let mut listed = record("a", "1", 100, "IN_PROGRESS");
    listed.as_object_mut().unwrap().remove("targetServiceRevision");
    let mut full = record("a", "1", 100, "IN_PROGRESS");
    full["deploymentCircuitBreaker"] = json!({ "status": "MONITORING", "failureCount": 2, "threshold": 7 });
    let service = described(json!([deployment("1", "PRIMARY", 7, 100, "IN_PROGRESS")]));
    let diagnosed = diagnosis([service, recorded([listed]), recorded([full])]);
    assert_eq!(diagnosed.state.deployment.unwrap().breaker, Some((2, 7)));
}

fn task_set(id: &str, status: &str, revision: u32, created: u32) -> Value {
    json!({
        "id": format!("ecs-svc/{id}"), "status": status, "createdAt": created, "externalId": "d-1", "startedBy": "CODE_DEPLOY",
        "taskDefinition": format!("{ECS}:task-definition/api:{revision}"), "runningCount": 0, "computedDesiredCount": 2,
    })
}

#[test]
fn the_failing_task_set_is_the_new_one_unless_tasks_of_the_other_stop() {
    let mut service = described(json!([]));
    service["services"][0]["taskSets"] = json!([task_set("2", "ACTIVE", 8, 200), task_set("1", "PRIMARY", 7, 100)]);
    for (stops, is_primary, rollout, change) in [
        (json!([]), false, Some(Rollout::InProgress), ("api:8", Some("api:7"))),
        (json!([stopped("x", "2", 8, 210, 1)]), false, Some(Rollout::InProgress), ("api:8", Some("api:7"))),
        (json!([stopped("x", "1", 7, 210, 1)]), true, None, ("api:7", None)),
    ] {
        let diagnosed = diagnosis([service.clone(), json!({ "tasks": stops })]);
        let set = diagnosed.state.task_set.unwrap();
        assert_eq!((set.controller, set.is_primary), (Controller::CodeDeploy, is_primary));
        assert_eq!((diagnosed.state.rollout, diagnosed.state.outlook), (rollout, None));
        let known = diagnosed.change.unwrap();
        assert_eq!((known.now.as_str(), known.before.as_deref()), change);
    }
}
