//! The queue, over HTTP: receive, delete, put back, count. Knows nothing of alerts; nothing else here knows the AWS SDK's
//! SQS types.
//!
//! Every request goes through `request`, which times it out, counts it as SQS bills it, and names the class of
//! its error. The SDK's own retries are off, so that each of its calls is one request; who calls decides what a failure
//! is worth. Deletes and put-backs gather into batches of ten.

use std::{
    collections::HashMap,
    error::Error,
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_sdk_sqs::{
    Client,
    config::{StalledStreamProtectionConfig, retry::RetryConfig, timeout::TimeoutConfig},
    error::{ProvideErrorMetadata, SdkError},
    types::{
        BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry,
        MessageAttributeValue, MessageSystemAttributeName, QueueAttributeName,
    },
};
use backon::{ExponentialBuilder, Retryable};
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    aws::ErrorClass,
    batch::{Batcher, Inbox, batcher},
    metrics,
};

pub mod move_task;
pub mod send;

/// SQS hands out and takes at most this many messages per request.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html>
pub const BATCH: usize = 10;

/// The longest long poll that SQS offers.
pub const MAX_WAIT: Duration = Duration::from_secs(20);

/// A message can be hidden for so long after its receive, however often that is extended.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html>
pub const MAX_HIDDEN: Duration = Duration::from_secs(43_200);

/// How long a request may take beyond the wait that it asks for. The SDK sets no such time-out by itself, and a receive
/// that never returns is how workers die unnoticed.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

/// Batches of the same kind under way at once.
const CONCURRENT_BATCHES: usize = 4;

const ERROR_CODE: &str = "ERROR_CODE";
const ERROR_MESSAGE: &str = "ERROR_MESSAGE";
const RULE_ARN: &str = "RULE_ARN";

/// One queue.
#[derive(Debug)]
pub struct Queue {
    client: Client,
    url: String,
    deletes: Batcher<String, Result<(), SqsError>>,
    put_backs: Batcher<(String, Duration), Result<(), SqsError>>,
}

/// One message as received. Its visibility time-out began at about `received`.
#[derive(Debug)]
pub struct Message {
    /// SQS's id; stays the same over receives.
    pub id: String,
    /// The text that was sent.
    pub body: String,
    /// The right to settle this receive, once.
    pub receipt: Receipt,
    /// How often it was received, this time included; SQS calls the count approximate.
    pub receive_count: u32,
    /// When it was sent to the queue.
    pub sent: Option<SystemTime>,
    /// When this receive came back.
    pub received: Instant,
    /// Where it lies in a dead-letter queue because EventBridge could not deliver it: the reason.
    pub undelivered: Option<Undelivered>,
}

/// Why EventBridge could not deliver an event, in the attributes that it gives what it sends to a dead-letter queue.
/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html>
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undelivered {
    /// Such as `NO_PERMISSIONS`.
    pub code: String,
    /// The same in words.
    pub message: Option<String>,
    /// The rule that matched the event.
    pub rule_arn: Option<String>,
}

/// The right to delete or put back one receive of a message. Not `Clone`: whoever holds it decides; a delete takes it.
#[derive(Debug)]
pub struct Receipt(String);

#[cfg(test)]
impl Receipt {
    /// A receipt of no message.
    pub fn for_tests(handle: &str) -> Self {
        Self(handle.to_owned())
    }
}

/// What a queue holds and where it sends what it cannot get rid of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueState {
    /// The queue's ARN.
    pub arn: String,
    /// Messages that a receive could have now; SQS calls all counts approximate.
    pub visible: u64,
    /// Messages received and neither deleted nor visible again.
    pub in_flight: u64,
    /// Messages sent with a delay that has not passed.
    pub delayed: u64,
    /// The redrive policy, if the queue has one.
    pub redrive: Option<Redrive>,
}

/// A queue's redrive policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redrive {
    /// The dead-letter queue.
    pub dead_letter_arn: String,
    /// Receives after which a message goes there.
    pub max_receive_count: u32,
}

/// A request to SQS, or one entry of it, that failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{operation}: {}", said(*class))]
pub struct SqsError {
    operation: &'static str,
    /// What kind of failure it was.
    pub class: ErrorClass,
    /// Whether the same request may fare better a little later.
    pub retryable: bool,
    source: Arc<dyn Error + Send + Sync>,
}

impl Queue {
    /// Connects to the queue at `url` and starts its flushers on the current runtime; no request is made.
    pub fn new(aws: &aws_config::SdkConfig, url: &str) -> Self {
        let config = aws_sdk_sqs::config::Builder::from(aws)
            .retry_config(RetryConfig::disabled())
            // It measures the throughput of bodies, and a long poll has none for twenty seconds.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(Duration::from_secs(5))
                    .operation_attempt_timeout(ATTEMPT_TIMEOUT)
                    .build(),
            )
            .build();
        Self::connect(Client::from_conf(config), url)
    }

    /// The dead-letter queue with this ARN, as a queue of its own.
    ///
    /// # Errors
    /// Any failure of the request for its URL, classified.
    pub async fn dead_letter_queue(&self, arn: &str) -> Result<Self, SqsError> {
        Ok(Self::connect(self.client.clone(), &self.url_of(arn).await?))
    }

    fn connect(client: Client, url: &str) -> Self {
        let (deletes, inbox) = batcher();
        tokio::spawn(flush(inbox, client.clone(), url.to_owned(), delete_batch));
        let (put_backs, inbox) = batcher();
        tokio::spawn(flush(inbox, client.clone(), url.to_owned(), put_back_batch));
        Self { client, url: url.to_owned(), deletes, put_backs }
    }

    /// Receives up to `max` messages (at most [`BATCH`]), hidden from others for `visibility`, waiting up to `wait` for the
    /// first. Not to be cancelled, but at the very end of a drain: what SQS hands to a dropped connection stays hidden until its
    /// visibility time-out.
    ///
    /// # Errors
    /// Any failure of the request, classified; an expired wait is no error but an empty answer.
    pub async fn receive(&self, max: usize, visibility: Duration, wait: Duration) -> Result<Vec<Message>, SqsError> {
        let timeout = TimeoutConfig::builder().operation_attempt_timeout(wait + ATTEMPT_TIMEOUT).build();
        let call = self
            .client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(max.min(BATCH) as i32)
            .visibility_timeout(visibility.as_secs() as i32)
            .wait_time_seconds(wait.as_secs() as i32)
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
            .set_message_attribute_names(Some([ERROR_CODE, ERROR_MESSAGE, RULE_ARN].map(Into::into).into()))
            .customize()
            .config_override(aws_sdk_sqs::Config::builder().timeout_config(timeout))
            .send();
        let output = request("ReceiveMessage", call).await?;
        let received = Instant::now();
        Ok(output
            .messages
            .unwrap_or_default()
            .into_iter()
            .filter_map(|message| Message::new(message, received))
            .collect())
    }

    /// Deletes the message for good, together with what else is to be deleted. What fails joins the next batch, a few times.
    ///
    /// # Errors
    /// When SQS did not delete it; it will then be received again.
    pub async fn delete(&self, receipt: Receipt) -> Result<(), SqsError> {
        let attempt = || submit(&self.deletes, "DeleteMessageBatch", receipt.0.clone());
        attempt.retry(settle_retries()).when(|error| error.retryable).await
    }

    /// Makes the message visible again after `delay` (whole seconds; zero is at once), counted from now. SQS hides a message for
    /// [`MAX_HIDDEN`] after its receive at most.
    ///
    /// # Errors
    /// When SQS did not take it; it will then be visible when its visibility time-out ends.
    pub async fn put_back(&self, receipt: &Receipt, delay: Duration) -> Result<(), SqsError> {
        let attempt = || submit(&self.put_backs, "ChangeMessageVisibilityBatch", (receipt.0.clone(), delay));
        attempt.retry(settle_retries()).when(|error| error.retryable).await
    }

    /// How much the queue holds, and its redrive policy.
    ///
    /// # Errors
    /// Any failure of the request, classified.
    pub async fn state(&self) -> Result<QueueState, SqsError> {
        let call = self
            .client
            .get_queue_attributes()
            .queue_url(&self.url)
            .attribute_names(QueueAttributeName::ApproximateNumberOfMessages)
            .attribute_names(QueueAttributeName::ApproximateNumberOfMessagesNotVisible)
            .attribute_names(QueueAttributeName::ApproximateNumberOfMessagesDelayed)
            .attribute_names(QueueAttributeName::RedrivePolicy)
            .attribute_names(QueueAttributeName::QueueArn)
            .send();
        let attributes = request("GetQueueAttributes", call).await?.attributes.unwrap_or_default();
        let count = |name| attributes.get(&name).and_then(|value| value.parse().ok()).unwrap_or(0);
        Ok(QueueState {
            arn: attributes.get(&QueueAttributeName::QueueArn).cloned().unwrap_or_default(),
            visible: count(QueueAttributeName::ApproximateNumberOfMessages),
            in_flight: count(QueueAttributeName::ApproximateNumberOfMessagesNotVisible),
            delayed: count(QueueAttributeName::ApproximateNumberOfMessagesDelayed),
            redrive: attributes.get(&QueueAttributeName::RedrivePolicy).and_then(|policy| Redrive::parse(policy)),
        })
    }

    async fn url_of(&self, arn: &str) -> Result<String, SqsError> {
        let mut parts = arn.rsplit(':');
        let (name, account) = (parts.next(), parts.next());
        let call = self
            .client
            .get_queue_url()
            .set_queue_name(name.map(Into::into))
            .set_queue_owner_aws_account_id(account.map(Into::into))
            .send();
        Ok(request("GetQueueUrl", call).await?.queue_url.unwrap_or_default())
    }
}

impl Message {
    fn new(message: aws_sdk_sqs::types::Message, received: Instant) -> Option<Self> {
        let attribute = |name| message.attributes.as_ref()?.get(&name)?.parse::<u64>().ok();
        let sent = attribute(MessageSystemAttributeName::SentTimestamp);
        Some(Self {
            receive_count: attribute(MessageSystemAttributeName::ApproximateReceiveCount).unwrap_or(1) as u32,
            sent: sent.map(|millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis)),
            id: message.message_id.unwrap_or_default(),
            body: message.body.unwrap_or_default(),
            receipt: Receipt(message.receipt_handle?),
            received,
            undelivered: message.message_attributes.and_then(Undelivered::new),
        })
    }
}

impl Undelivered {
    fn new(mut attributes: HashMap<String, MessageAttributeValue>) -> Option<Self> {
        let mut text = |name| attributes.remove(name)?.string_value;
        Some(Self { code: text(ERROR_CODE)?, message: text(ERROR_MESSAGE), rule_arn: text(RULE_ARN) })
    }
}

impl Redrive {
    fn parse(policy: &str) -> Option<Self> {
        let policy: serde_json::Value = serde_json::from_str(policy).ok()?;
        let count = &policy["maxReceiveCount"];
        Some(Self {
            dead_letter_arn: policy["deadLetterTargetArn"].as_str()?.to_owned(),
            // AWS answers with a number, and accepts a string.
            max_receive_count: count.as_u64().or_else(|| count.as_str()?.parse().ok())? as u32,
        })
    }
}

impl SqsError {
    fn new<E>(operation: &'static str, error: SdkError<E>) -> Self
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let class = ErrorClass::of(&error);
        // Credentials among them: what was received was so with good ones, and these may be renewed at any moment.
        let retryable = matches!(
            class,
            ErrorClass::Timeout
                | ErrorClass::Network
                | ErrorClass::Server
                | ErrorClass::Throttled
                | ErrorClass::Expired
                | ErrorClass::Rejected
                | ErrorClass::NoCredentials
                | ErrorClass::CredentialsUnavailable
        );
        Self { operation, class, retryable, source: Arc::new(error) }
    }

    /// The IAM action that was denied, if that is what is wrong: SQS's own, or KMS's for a queue with a key of its own.
    pub fn denied_action(&self) -> Option<String> {
        // Batches go by the permission for one.
        let action = self.operation.strip_suffix("Batch").unwrap_or(self.operation);
        match self.class {
            ErrorClass::Denied => Some(format!("sqs:{action}")),
            ErrorClass::KeyDenied => Some("kms:Decrypt on the key that encrypts the queue".into()),
            _ => None,
        }
    }

    /// Whether it was to send messages.
    pub fn is_of_send(&self) -> bool {
        self.operation == send::SEND
    }

    /// The error with everything that led to it, for a log.
    pub fn chain(&self) -> String {
        format!("{:#}", anyhow::Error::from(self.clone()))
    }

    fn other(operation: &'static str, retryable: bool, what: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { operation, class: ErrorClass::Other, retryable, source: what.into().into() }
    }
}

/// A class in the words of a queue.
fn said(class: ErrorClass) -> String {
    if class == ErrorClass::NotFound { "the queue does not exist".into() } else { class.to_string() }
}

/// Deletes and put-backs are worth some patience: without them a finished alert comes again. About half a minute in all.
fn settle_retries() -> ExponentialBuilder {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(10))
        .with_max_times(8)
        .with_jitter()
}

/// One request, counted and classified.
async fn request<O, E>(
    operation: &'static str,
    call: impl Future<Output = Result<O, SdkError<E>>>,
) -> Result<O, SqsError>
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let result = call.await;
    metrics::sqs_request(operation, result.is_ok());
    result.map_err(|error| SqsError::new(operation, error))
}

async fn submit<T>(
    batcher: &Batcher<T, Result<(), SqsError>>,
    operation: &'static str,
    item: T,
) -> Result<(), SqsError> {
    let answer = batcher.submit(item).await;
    answer.unwrap_or_else(|| Err(SqsError::other(operation, false, "its flusher has stopped")))
}

/// Sends what waits in batches of ten, a few at once, and gives every item its own answer.
async fn flush<T, F, Fut>(mut inbox: Inbox<T, Result<(), SqsError>>, client: Client, url: String, send: F)
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

const DELETE: &str = "DeleteMessageBatch";
const PUT_BACK: &str = "ChangeMessageVisibilityBatch";

async fn delete_batch(
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

async fn put_back_batch(
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

/// HTTP 200 can hold failures: each entry's own answer, in the order sent.
fn per_entry(count: usize, answer: Result<Vec<BatchResultErrorEntry>, SqsError>) -> Vec<Result<(), SqsError>> {
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
