//! The bad deploy of `checkout`, from its first failed task to the recovery: the events, and ECS's answers.
//!
//! It is a recording, and the demo plays it faster than it happened. All recorded times are moved by the same amount, so that the recovery
//! happens now.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use lab::ecs::EcsApi;
use lab::events::Ecs;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, macros::datetime};

/// The service.
pub(crate) const SERVICE: &str = "checkout";
/// The task definition that runs after the recovery.
pub(crate) const GOOD: &str = "checkout:87";

/// The folder with ECS's answers about the service while the deployment failed.
const ANSWERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../answers/missing_image");
/// When ECS reported that the service cannot start its tasks, when the rollback began, and when the service had recovered.
const IMPAIRED: OffsetDateTime = datetime!(2026-03-02 08:19 UTC);
const ROLLBACK: OffsetDateTime = datetime!(2026-03-02 08:20 UTC);
const RECOVERED: OffsetDateTime = datetime!(2026-03-02 08:27 UTC);

/// The recording.
pub(crate) struct BadDeploy {
    later: time::Duration,
    service: Value,
    tasks: Vec<Value>,
}

/// Events that arrive together.
pub(crate) struct Step {
    /// A description for people.
    pub(crate) what: &'static str,
    /// The events, with their times.
    pub(crate) events: Vec<Value>,
}

impl BadDeploy {
    /// Reads the recording.
    ///
    /// # Errors
    /// When a file is missing or cannot be parsed.
    pub(crate) fn read() -> Result<Self> {
        let read = |name: &str| -> Result<Value> {
            let file = Path::new(ANSWERS).join(name);
            let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            serde_json::from_str(&text).with_context(|| file.display().to_string())
        };
        let later = OffsetDateTime::now_utc() - RECOVERED;
        let service = read("describe-services.json")?["services"][0].take();
        let mut tasks: Vec<Value> =
            read("describe-tasks.json")?["tasks"].as_array_mut().map(std::mem::take).unwrap_or_default();
        tasks
            .retain(|task| task["stoppedReason"].as_str().is_some_and(|reason| reason.contains("CannotPullContainer")));
        for (_, value) in tasks.iter_mut().filter_map(Value::as_object_mut).flatten() {
            let time = value.as_str().and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
            if let Some(time) = time {
                *value = (time + later).format(&Rfc3339)?.into();
            }
        }
        Ok(Self { later, service, tasks })
    }

    /// A stand-in for ECS that answers as ECS did while the deployment failed.
    ///
    /// # Errors
    /// Those of [`EcsApi::start`].
    pub(crate) async fn ecs(&self) -> Result<EcsApi> {
        EcsApi::start_later(&[ANSWERS], self.later).await
    }

    /// The steps until the fix.
    pub(crate) fn steps(&self, ecs: Ecs<'_>) -> [Step; 3] {
        let mut failed = self.tasks.iter().map(|task| {
            let mut event = ecs.task_changed(task);
            event["time"] = task["stoppedAt"].clone();
            event
        });
        let first = failed.next().into_iter().collect();
        let impaired = [Duration::ZERO, Duration::from_secs(30)].map(|after| {
            let time = self.time(IMPAIRED + after);
            at(ecs.start_impaired(SERVICE), &time)
        });
        let mut rollback = at(ecs.rollback(SERVICE), &self.time(ROLLBACK));
        rollback["detail"]["deploymentId"] = self.service["deployments"][0]["id"].clone();
        [
            Step { what: "a task of the new deployment cannot start", events: first },
            Step { what: "more tasks cannot start", events: failed.chain(impaired).collect() },
            Step { what: "ECS rolls the deployment back", events: vec![rollback] },
        ]
    }

    /// ECS's answer after the rollback, and the step that reports it.
    pub(crate) fn fix(&self, ecs: Ecs<'_>) -> (Value, Step) {
        let mut service = self.service.clone();
        let before = service["deployments"][1]["taskDefinition"].take();
        service["taskDefinition"] = before.clone();
        service["pendingCount"] = json!(0);
        service["deployments"] = json!([{
            "id": "ecs-svc/7700112233445566778",
            "status": "PRIMARY",
            "taskDefinition": before,
            "desiredCount": 2,
            "pendingCount": 0,
            "runningCount": 2,
            "failedTasks": 0,
            "createdAt": "2026-03-02T08:20:00.000000+00:00",
            "updatedAt": "2026-03-02T08:26:40.000000+00:00",
            "rolloutState": "COMPLETED",
            "rolloutStateReason": "ECS deployment ecs-svc/7700112233445566778 completed.",
        }]);
        let well = at(ecs.steady_state(SERVICE), &self.time(RECOVERED));
        let step = Step { what: "the previous task definition runs again, and ECS confirms it", events: vec![well] };
        (json!({ "services": [service], "failures": [] }), step)
    }

    fn time(&self, recorded: OffsetDateTime) -> Value {
        (recorded + self.later).format(&Rfc3339).unwrap_or_default().into()
    }
}

/// The event with this time.
fn at(mut event: Value, time: &Value) -> Value {
    for key in ["createdAt", "updatedAt"] {
        event["detail"].get_mut(key).into_iter().for_each(|time_of| *time_of = time.clone());
    }
    event["time"] = time.clone();
    event
}
