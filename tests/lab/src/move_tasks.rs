//! SQS's message move tasks, which the AWS stand-in lacks, in SQS's JSON protocol: `StartMessageMoveTask`, `ListMessageMoveTasks` and
//! `CancelMessageMoveTask`. A task really moves messages, one at a time, at the requested rate.
//!
//! The errors are those of AWS. Tasks without a destination, which move each message back to its original queue, are not implemented.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::fault::Caller;

/// Every task so far, oldest first. Clones are cheap and share the tasks.
#[derive(Clone, Default)]
pub(crate) struct MoveTasks(Arc<Mutex<Vec<Task>>>);

struct Task {
    handle: String,
    /// `RUNNING`, then `COMPLETED` or `FAILED`; or `CANCELLING`, then `CANCELLED`.
    status: &'static str,
    request: Value,
    moved: u64,
    to_move: u64,
    started_millis: u64,
    failure: Option<String>,
}

/// An AWS error: status, code, message.
type Refusal = (u16, &'static str, &'static str);

/// The type of SQS's error about a missing queue.
const NO_QUEUE: &str = "QueueDoesNotExist";

const NO_SOURCE: Refusal =
    (404, "ResourceNotFoundException", "The resource that you specified for the SourceArn parameter doesn't exist.");
const NO_DESTINATION: Refusal = (
    404,
    "ResourceNotFoundException",
    "The resource that you specified for the DestinationArn parameter doesn't exist.",
);
const NO_DLQ: Refusal = (400, "InvalidParameterValue", "Source queue must be configured as a Dead Letter Queue.");
const SECOND: Refusal = (
    400,
    "InvalidParameterValue",
    "There is already a task running. Only one active task is allowed for a source queue arn at a given time.",
);
const NO_TASK: Refusal = (404, "ResourceNotFoundException", "Task does not exist.");
const NOT_RUNNING: Refusal =
    (400, "AWS.SimpleQueueService.UnsupportedOperation", "A task can only be cancelled while it is running.");

impl MoveTasks {
    /// The status and answer to one of the three operations; `None` for any other operation. A task makes its requests in the name of its
    /// caller.
    pub(crate) async fn answer(&self, operation: &str, body: &Value, caller: &Caller) -> Option<Result<(u16, Value)>> {
        let answered = match operation {
            "StartMessageMoveTask" => self.start(body, caller).await,
            "ListMessageMoveTasks" => Ok(self.list(body)),
            "CancelMessageMoveTask" => Ok(self.cancel(body)),
            _ => return None,
        };
        Some(answered.map(|answer| match answer {
            Ok(answer) => (200, answer),
            Err((status, code, message)) => (status, json!({ "__type": code, "message": message })),
        }))
    }

    async fn start(&self, body: &Value, caller: &Caller) -> Result<Result<Value, Refusal>> {
        let (source_arn, destination_arn) = (&body["SourceArn"], &body["DestinationArn"]);
        let Some(source) = queue_url(caller, source_arn).await? else { return Ok(Err(NO_SOURCE)) };
        let Some(destination) = queue_url(caller, destination_arn).await? else { return Ok(Err(NO_DESTINATION)) };
        if !is_dlq(caller, source_arn).await? {
            return Ok(Err(NO_DLQ));
        }
        let attributes = json!({ "QueueUrl": source, "AttributeNames": ["ApproximateNumberOfMessages"] });
        let held = caller.ask("GetQueueAttributes", attributes).await?;
        let held = held["Attributes"]["ApproximateNumberOfMessages"].as_str().context("no count")?.parse()?;
        let index = {
            let mut tasks = self.0.lock();
            if tasks.iter().any(|task| task.request["SourceArn"] == *source_arn && task.is_active()) {
                return Ok(Err(SECOND));
            }
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
            tasks.push(Task {
                handle: crate::unique("move"),
                status: "RUNNING",
                request: body.clone(),
                moved: 0,
                to_move: held,
                started_millis: since.as_millis().try_into()?,
                failure: None,
            });
            tasks.len() - 1
        };
        let (tasks, caller) = (self.clone(), caller.clone());
        let rate = body["MaxNumberOfMessagesPerSecond"].as_f64();
        tokio::spawn(async move {
            let ended = tasks.move_all(index, &caller, &source, &destination, rate).await;
            let task = &mut tasks.0.lock()[index];
            task.status = match ended {
                Ok(()) if task.status == "CANCELLING" => "CANCELLED",
                Ok(()) => "COMPLETED",
                Err(_) => "FAILED",
            };
            // AWS names the code of the older query protocol here, not the type of the JSON error.
            let code =
                |error: anyhow::Error| error.to_string().replace(NO_QUEUE, "AWS.SimpleQueueService.NonExistentQueue");
            task.failure = ended.err().map(code);
        });
        Ok(Ok(json!({ "TaskHandle": self.0.lock()[index].handle })))
    }

    async fn move_all(
        &self,
        index: usize,
        caller: &Caller,
        source: &Value,
        destination: &Value,
        rate: Option<f64>,
    ) -> Result<()> {
        let mut next = Instant::now();
        while self.0.lock()[index].status == "RUNNING" {
            let receive = json!({
                "QueueUrl": source, "MaxNumberOfMessages": 1, "VisibilityTimeout": 30, "MessageAttributeNames": ["All"],
            });
            let mut received = caller.ask("ReceiveMessage", receive).await?;
            let Some(message) = received["Messages"].get_mut(0).map(Value::take) else { break };
            let mut send = json!({ "QueueUrl": destination, "MessageBody": message["Body"] });
            if message["MessageAttributes"].is_object() {
                send["MessageAttributes"] = message["MessageAttributes"].clone();
            }
            if let Err(error) = caller.ask("SendMessage", send).await {
                let give_back = json!({
                    "QueueUrl": source, "ReceiptHandle": message["ReceiptHandle"], "VisibilityTimeout": 0,
                });
                caller.ask("ChangeMessageVisibility", give_back).await?;
                return Err(error);
            }
            let delete = json!({ "QueueUrl": source, "ReceiptHandle": message["ReceiptHandle"] });
            caller.ask("DeleteMessage", delete).await?;
            self.0.lock()[index].moved += 1;
            if let Some(rate) = rate {
                next += Duration::from_secs_f64(1.0 / rate);
                tokio::time::sleep_until(next).await;
            }
        }
        Ok(())
    }

    fn list(&self, body: &Value) -> Result<Value, Refusal> {
        let max = body["MaxResults"].as_u64().unwrap_or(1) as usize;
        let tasks = self.0.lock();
        let of_source = tasks.iter().rev().filter(|task| task.request["SourceArn"] == body["SourceArn"]);
        Ok(json!({ "Results": of_source.take(max).map(Task::to_json).collect::<Vec<_>>() }))
    }

    fn cancel(&self, body: &Value) -> Result<Value, Refusal> {
        let mut tasks = self.0.lock();
        let task = tasks.iter_mut().find(|task| task.handle == body["TaskHandle"]).ok_or(NO_TASK)?;
        if task.status != "RUNNING" {
            return Err(NOT_RUNNING);
        }
        task.status = "CANCELLING";
        Ok(json!({ "ApproximateNumberOfMessagesMoved": task.moved }))
    }
}

impl Task {
    fn is_active(&self) -> bool {
        matches!(self.status, "RUNNING" | "CANCELLING")
    }

    fn to_json(&self) -> Value {
        let mut entry = json!({
            "Status": self.status,
            "ApproximateNumberOfMessagesMoved": self.moved,
            "ApproximateNumberOfMessagesToMove": self.to_move,
            "StartedTimestamp": self.started_millis,
        });
        let handle = (self.status == "RUNNING").then(|| self.handle.as_str().into());
        let more = [("TaskHandle", handle), ("FailureReason", self.failure.as_deref().map(Value::from))];
        let asked = ["SourceArn", "DestinationArn", "MaxNumberOfMessagesPerSecond"]
            .map(|key| (key, self.request.get(key).cloned()));
        for (key, value) in more.into_iter().chain(asked) {
            // AWS leaves out fields without a value.
            if let Some(value) = value {
                entry[key] = value;
            }
        }
        entry
    }
}

/// The URL of the queue with this ARN; `None` if there is no such queue.
async fn queue_url(caller: &Caller, arn: &Value) -> Result<Option<Value>> {
    let Some((_, name)) = arn.as_str().and_then(|arn| arn.rsplit_once(':')) else { return Ok(None) };
    match caller.ask("GetQueueUrl", json!({ "QueueName": name })).await {
        Ok(answer) => Ok(Some(answer["QueueUrl"].clone())),
        Err(error) if error.to_string().contains(NO_QUEUE) => Ok(None),
        Err(error) => bail!(error),
    }
}

/// Whether the queue with this ARN is the dead-letter queue of any queue.
async fn is_dlq(caller: &Caller, arn: &Value) -> Result<bool> {
    let queues = caller.ask("ListQueues", json!({})).await?;
    for url in queues["QueueUrls"].as_array().into_iter().flatten() {
        let request = json!({ "QueueUrl": url, "AttributeNames": ["RedrivePolicy"] });
        // Another test may have deleted that queue meanwhile.
        let Ok(answer) = caller.ask("GetQueueAttributes", request).await else { continue };
        let policy = answer["Attributes"]["RedrivePolicy"].as_str().unwrap_or("null");
        if serde_json::from_str::<Value>(policy)?["deadLetterTargetArn"] == *arn {
            return Ok(true);
        }
    }
    Ok(false)
}
