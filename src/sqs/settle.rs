//! Settles messages: deletes them or puts them back, in batches of ten.

use std::{sync::Arc, time::Duration};

use aws_sdk_sqs::{
    Client,
    types::{BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry},
};
use backon::{ExponentialBuilder, Retryable};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use super::{BATCH, Queue, Receipt, SqsError, request};
use crate::batch::{Batcher, Inbox};

/// Batches of the same kind in flight at once.
const CONCURRENT_BATCHES: usize = 4;

const DELETE: &str = "DeleteMessageBatch";
const PUT_BACK: &str = "ChangeMessageVisibilityBatch";

impl Queue {
    /// Deletes the message, in one batch with the other messages to delete. If this fails, it is retried a few times in later batches.
    ///
    /// # Errors
    /// When SQS did not delete it. It will be received again.
    pub async fn delete(&self, receipt: Receipt) -> Result<(), SqsError> {
        let attempt = || submit(&self.deletes, "DeleteMessageBatch", receipt.0.clone());
        attempt.retry(settle_retries()).when(|error| error.retryable).await
    }

    /// Makes the message visible again after `delay` from now (whole seconds; zero is at once). SQS hides a message for at most
    /// [`super::MAX_HIDDEN`] after its receive.
    ///
    /// # Errors
    /// When SQS did not accept it. The message becomes visible when its visibility timeout ends.
    pub async fn put_back(&self, receipt: &Receipt, delay: Duration) -> Result<(), SqsError> {
        let attempt = || submit(&self.put_backs, "ChangeMessageVisibilityBatch", (receipt.0.clone(), delay));
        attempt.retry(settle_retries()).when(|error| error.retryable).await
    }

    /// Like [`Queue::put_back`], but gives up at `before`, when the message becomes visible again. From then on another receive may
    /// have the message, and a late attempt would make it visible while a worker handles it.
    ///
    /// # Errors
    /// When SQS did not accept it by then.
    pub async fn put_back_before(&self, receipt: &Receipt, delay: Duration, before: Instant) -> Result<(), SqsError> {
        let is_late = Instant::now() >= before;
        let put_back =
            async { if is_late { None } else { timeout_at(before, self.put_back(receipt, delay)).await.ok() } };
        let late =
            || Err(SqsError::other(PUT_BACK, false, "no attempt succeeded before the message became visible again"));
        put_back.await.unwrap_or_else(late)
    }
}

/// Deletes and put-backs are retried for about half a minute: without a delete, a posted alert is received again.
fn settle_retries() -> ExponentialBuilder {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(10))
        .with_max_times(8)
        .with_jitter()
}

async fn submit<T>(
    batcher: &Batcher<T, Result<(), SqsError>>,
    operation: &'static str,
    item: T,
) -> Result<(), SqsError> {
    let answer = batcher.submit(item).await;
    answer.unwrap_or_else(|| Err(SqsError::other(operation, false, "its flusher has ended")))
}

/// Sends the waiting items in batches of ten, a few batches at once, and answers every item separately.
pub(super) async fn flush<T, F, Fut>(mut inbox: Inbox<T, Result<(), SqsError>>, client: Client, url: String, send: F)
where
    T: Clone + Send + 'static,
    F: Fn(Client, String, Vec<T>) -> Fut,
    Fut: Future<Output = Result<Vec<BatchResultErrorEntry>, SqsError>> + Send + 'static,
{
    let calls = Arc::new(Semaphore::new(CONCURRENT_BATCHES));
    while inbox.wait().await {
        let Ok(permit) = Arc::clone(&calls).acquire_owned().await else { return };
        inbox.gather();
        let batch = inbox.take(BATCH);
        let sent = send(client.clone(), url.clone(), batch.iter().map(|waiting| waiting.item.clone()).collect());
        tokio::spawn(async move {
            let answers = per_entry(batch.len(), sent.await);
            drop(permit);
            for (waiting, answer) in batch.into_iter().zip(answers) {
                waiting.answer(answer);
            }
        });
    }
}

pub(super) async fn delete_batch(
    client: Client,
    url: String,
    receipts: Vec<String>,
) -> Result<Vec<BatchResultErrorEntry>, SqsError> {
    let mut call = client.delete_message_batch().queue_url(url);
    for (index, receipt) in receipts.into_iter().enumerate() {
        let entry = DeleteMessageBatchRequestEntry::builder().id(index.to_string()).receipt_handle(receipt);
        call = call.entries(entry.build().map_err(|error| SqsError::other(DELETE, false, error))?);
    }
    Ok(request(DELETE, call.send()).await?.failed)
}

pub(super) async fn put_back_batch(
    client: Client,
    url: String,
    entries: Vec<(String, Duration)>,
) -> Result<Vec<BatchResultErrorEntry>, SqsError> {
    let mut call = client.change_message_visibility_batch().queue_url(url);
    for (index, (receipt, delay)) in entries.into_iter().enumerate() {
        let entry = ChangeMessageVisibilityBatchRequestEntry::builder()
            .id(index.to_string())
            .receipt_handle(receipt)
            .visibility_timeout(delay.as_secs() as i32);
        call = call.entries(entry.build().map_err(|error| SqsError::other(PUT_BACK, false, error))?);
    }
    Ok(request(PUT_BACK, call.send()).await?.failed)
}

/// Each entry's own answer, in order: a response with HTTP 200 can contain failures.
pub(super) fn per_entry(
    count: usize,
    answer: Result<Vec<BatchResultErrorEntry>, SqsError>,
) -> Vec<Result<(), SqsError>> {
    let failed = match answer {
        Ok(failed) => failed,
        Err(error) => return vec![Err(error); count],
    };
    let mut answers = vec![Ok(()); count];
    for failure in failed {
        let Some(answer) = failure.id.parse::<usize>().ok().and_then(|index| answers.get_mut(index)) else { continue };
        let what = format!("{}: {}", failure.code, failure.message.unwrap_or_default());
        *answer = Err(SqsError::other("entry of a batch", !failure.sender_fault, what));
    }
    answers
}

#[cfg(test)]
mod tests;
