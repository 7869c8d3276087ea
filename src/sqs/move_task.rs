//! SQS's way to empty a dead-letter queue: a message move task, which runs in AWS. This module starts, watches and cancels it.
//! The task continues even if nobody watches it.
//!
//! A queue has one task at a time. The moved messages get new message ids and receive counts.

use super::{Queue, SqsError, request};

/// The most messages that SQS moves per second.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_StartMessageMoveTask.html>
pub const MAX_RATE: u32 = 500;

/// A move task, running or ended. SQS calls its counts approximate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveTask {
    /// Its status.
    pub status: MoveStatus,
    /// The number of messages moved so far.
    pub moved: u64,
    /// The number of messages at the start; `None` before the task has started.
    pub to_move: Option<u64>,
    /// The start time, in milliseconds since 1970. It identifies the task among the queue's tasks: SQS lists a handle only for a
    /// running task.
    pub started: i64,
    /// Where messages go. `None`: each to its source queue.
    pub destination_arn: Option<String>,
    /// The error code if it failed, such as `AWS.SimpleQueueService.NonExistentQueue`.
    pub failure: Option<String>,
}

/// The status of a move task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoveStatus {
    /// It moves messages, or is being cancelled.
    Active,
    /// It moved all messages.
    Completed,
    /// Somebody cancelled it.
    Cancelled,
    /// It failed.
    Failed,
}

impl Queue {
    /// Starts to move all messages of the dead-letter queue `source_arn` to `destination_arn`, at most `max_rate` messages a second
    /// (1 to [`MAX_RATE`]; `None`: SQS chooses). Returns the handle for [`Queue::cancel_move`].
    ///
    /// # Errors
    /// Any failure of the request, classified; also when a task is already running.
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

    /// Cancels a move task. Moved messages stay moved.
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
                Some("COMPLETED") => MoveStatus::Completed,
                Some("CANCELLED") => MoveStatus::Cancelled,
                Some("FAILED") => MoveStatus::Failed,
                // RUNNING, CANCELLING
                _ => MoveStatus::Active,
            },
            moved: count(task.approximate_number_of_messages_moved),
            to_move: task.approximate_number_of_messages_to_move.map(count),
            started: task.started_timestamp,
            destination_arn: task.destination_arn,
            failure: task.failure_reason,
        }
    }
}
