//! Sends messages. Only the operator's commands use this: the worker sends none.

use aws_sdk_sqs::types::SendMessageBatchRequestEntry;

use super::{BATCH, Queue, SqsError, request, settle::per_entry};

/// The limit of all bodies of one batch together, in bytes. AWS accepts 1 MiB, and accepted 256 KiB before August 2025; emulators
/// may still do so. A single message may be larger.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html>
pub const BATCH_BYTES: usize = 256 * 1024;

pub(super) const SEND: &str = "SendMessageBatch";

impl Queue {
    /// Sends up to [`BATCH`] bodies. Returns a result for each, in order.
    ///
    /// # Errors
    /// When the whole request failed; some of the bodies may have been sent.
    pub async fn send(&self, bodies: &[&str]) -> Result<Vec<Result<(), SqsError>>, SqsError> {
        debug_assert!(bodies.len() <= BATCH, "SQS accepts no more in one batch");
        let mut call = self.client.send_message_batch().queue_url(&self.url);
        for (index, body) in bodies.iter().enumerate() {
            let entry = SendMessageBatchRequestEntry::builder().id(index.to_string()).message_body(*body);
            call = call.entries(entry.build().map_err(|error| SqsError::other(SEND, false, error))?);
        }
        Ok(per_entry(bodies.len(), Ok(request(SEND, call.send()).await?.failed)))
    }
}
