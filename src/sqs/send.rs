//! Sending, which only an operator's commands do: the worker itself only receives.

use aws_sdk_sqs::types::SendMessageBatchRequestEntry;

use super::{BATCH, Queue, SqsError, per_entry, request};

/// The most that the bodies of one batch may have together, in bytes. AWS takes 1 MiB, and took 256 KiB before August 2025, as
/// others that speak its protocol may still do. One message may be larger alone.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html>
pub const BATCH_BYTES: usize = 256 * 1024;

pub(super) const SEND: &str = "SendMessageBatch";

impl Queue {
    /// Sends up to [`BATCH`] bodies, and gives each its own answer, in their order.
    ///
    /// # Errors
    /// When the whole request failed; some of the bodies may have been sent.
    pub async fn send(&self, bodies: &[&str]) -> Result<Vec<Result<(), SqsError>>, SqsError> {
        debug_assert!(bodies.len() <= BATCH, "SQS takes no more at once");
        let mut call = self.client.send_message_batch().queue_url(&self.url);
        for (index, body) in bodies.iter().enumerate() {
            let entry = SendMessageBatchRequestEntry::builder().id(index.to_string()).message_body(*body);
            call = call.entries(entry.build().map_err(|error| SqsError::other(SEND, false, error))?);
        }
        Ok(per_entry(bodies.len(), Ok(request(SEND, call.send()).await?.failed)))
    }
}
