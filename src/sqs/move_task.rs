//! SQS's own way to empty a dead-letter queue: a message move task, which runs in AWS. It is started, watched and cancelled
//! from here, and goes on whether anybody watches or not.
//!
//! A queue has one at a time. What it moves gets new message ids and receive counts.

use super::{Queue, SqsError, request};

/// The fastest that SQS moves messages, per second.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_StartMessageMoveTask.html>
pub const MAX_RATE: u32 = 500;

/// A move task, running or ended. SQS calls its counts approximate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveTask {
    /// How far it has come.
    pub status: Status,
    /// Messages that have reached their destination.
    pub moved: u64,
    /// Messages that there were when it began; none before it has.
    pub to_move: Option<u64>,
    /// When it was started, in AWS's milliseconds since 1970. Tells the tasks of a queue apart: only one that runs has a
    /// handle in a list.
    pub started: i64,
    /// Where messages go; none is where each came from.
    pub destination_arn: Option<String>,
    /// Why it failed, as an error code, such as `AWS.SimpleQueueService.NonExistentQueue`.
    pub failure: Option<String>,
}

/// How far a move task has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It moves messages, or is about to stop doing so.
    Active,
    /// It moved what there was.
    Completed,
    /// Somebody cancelled it.
    Cancelled,
    /// It gave up.
    Failed,
}

impl Queue {
    /// Starts to move all that the dead-letter queue `source_arn` holds to `destination_arn`, at most `max_rate` messages a
    /// second (1 to [`MAX_RATE`]; none is as fast as SQS sees fit). Gives the handle by which to cancel it.
    ///
    /// # Errors
    /// Any failure of the request, classified; also when a task runs already.
    pub async fn start_move(
        &self,
        source_arn: &str,
        destination_arn: &str,
        max_rate: Option<u32>,
    ) -> Result<String, SqsError> {
        let call = self
            .client
            .start_message_move_task()
            .source_arn(source_arn)
            .destination_arn(destination_arn)
            .set_max_number_of_messages_per_second(max_rate.map(|rate| rate.min(MAX_RATE) as i32))
            .send();
        Ok(request("StartMessageMoveTask", call).await?.task_handle.unwrap_or_default())
    }

    /// The latest move tasks of the dead-letter queue `source_arn`, at most ten.
    ///
    /// # Errors
    /// Any failure of the request, classified.
    pub async fn moves(&self, source_arn: &str) -> Result<Vec<MoveTask>, SqsError> {
        let call = self.client.list_message_move_tasks().source_arn(source_arn).max_results(10).send();
        let tasks = request("ListMessageMoveTasks", call).await?.results.unwrap_or_default();
        Ok(tasks.into_iter().map(MoveTask::new).collect())
    }

    /// Cancels a move task; what it has moved stays moved.
    ///
    /// # Errors
    /// Any failure of the request, classified; also when the task has ended.
    pub async fn cancel_move(&self, handle: &str) -> Result<(), SqsError> {
        let call = self.client.cancel_message_move_task().task_handle(handle).send();
        request("CancelMessageMoveTask", call).await.map(drop)
    }
}

impl MoveTask {
    fn new(task: aws_sdk_sqs::types::ListMessageMoveTasksResultEntry) -> Self {
        let count = |count: i64| count.try_into().unwrap_or(0);
        Self {
            status: match task.status.as_deref() {
                Some("COMPLETED") => Status::Completed,
                Some("CANCELLED") => Status::Cancelled,
                Some("FAILED") => Status::Failed,
                // RUNNING, CANCELLING
                _ => Status::Active,
            },
            moved: count(task.approximate_number_of_messages_moved),
            to_move: task.approximate_number_of_messages_to_move.map(count),
            started: task.started_timestamp,
            destination_arn: task.destination_arn,
            failure: task.failure_reason,
        }
    }
}
