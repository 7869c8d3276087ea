//! The queue: receives, deletes, puts back and counts messages. Does not know alerts. No other module knows the AWS SDK's SQS
//! types.
//!
//! Every request has a timeout and goes through `request`, which counts it as SQS bills it and classifies its error. The SDK's
//! retries are off, so each call is one request. The caller decides whether to retry. Deletes and put-backs are sent in batches
//! of ten.

use std::{
    collections::HashMap,
    error::Error,
    time::{Duration, SystemTime},
};

use aws_sdk_sqs::{
    Client,
    config::{StalledStreamProtectionConfig, retry::RetryConfig, timeout::TimeoutConfig},
    error::{ProvideErrorMetadata, SdkError},
    types::{MessageAttributeValue, MessageSystemAttributeName, QueueAttributeName},
};
use tokio::time::Instant;

pub use self::error::SqsError;
use self::settle::{delete_batch, flush, put_back_batch};
use crate::{
    aws,
    batch::{Batcher, batcher},
    metrics,
};

mod error;
pub mod move_task;
pub mod send;
mod settle;

/// SQS returns and accepts at most this many messages per request.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html>
pub const BATCH: usize = 10;

/// The longest long poll that SQS offers.
pub const MAX_WAIT: Duration = Duration::from_secs(20);

/// SQS hides a message at most this long after its receive, even if the visibility timeout is extended.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html>
pub const MAX_HIDDEN: Duration = Duration::from_secs(43_200);

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

/// One received message. Its visibility timeout began at about `received`.
#[derive(Debug)]
pub struct Message {
    /// SQS's id, the same for every receive.
    pub id: String,
    /// The message's text.
    pub body: String,
    /// The receipt of this receive. It settles the message once.
    pub receipt: Receipt,
    /// The number of receives, including this one. SQS calls it approximate.
    pub receive_count: u32,
    /// When it was sent to the queue.
    pub sent: Option<SystemTime>,
    /// When this receive returned.
    pub received: Instant,
    /// In a dead-letter queue: the reason, if EventBridge could not deliver the event.
    pub undelivered: Option<Undelivered>,
}

/// Why EventBridge could not deliver an event, from the attributes of the message that it sends to a dead-letter queue.
/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html>
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undelivered {
    /// The error code, such as `NO_PERMISSIONS`.
    pub code: String,
    /// The error message.
    pub message: Option<String>,
    /// The rule that matched the event.
    pub rule_arn: Option<String>,
}

/// Identifies one receive of a message, to delete the message or put it back. Not `Clone`, so that only its owner settles the message.
/// A delete consumes it.
#[derive(Debug)]
pub struct Receipt(String);

#[cfg(test)]
impl Receipt {
    /// A receipt without a message.
    pub fn for_tests(handle: &str) -> Self {
        Self(handle.to_owned())
    }
}

/// How many messages a queue holds, and its redrive policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueState {
    /// The queue's ARN.
    pub arn: String,
    /// Messages that a receive could return now. SQS calls all counts approximate.
    pub visible: u64,
    /// Received messages that are neither deleted nor visible again.
    pub in_flight: u64,
    /// Messages with a delay that has not passed.
    pub delayed: u64,
    /// The redrive policy, if there is one.
    pub redrive: Option<Redrive>,
}

/// A queue's redrive policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redrive {
    /// The dead-letter queue.
    pub dead_letter_arn: String,
    /// The number of receives after which SQS moves a message there.
    pub max_receive_count: u32,
}

impl Queue {
    /// Connects to the queue at `url` and starts its flushers on the current runtime; no request is made.
    pub fn new(aws: &aws_config::SdkConfig, url: &str) -> Self {
        let config = aws_sdk_sqs::config::Builder::from(aws)
            .retry_config(RetryConfig::disabled())
            // This protection measures the throughput of bodies, and a long poll has no body for twenty seconds.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(Duration::from_secs(5))
                    .operation_attempt_timeout(aws::ATTEMPT_TIMEOUT)
                    .build(),
            )
            .build();
        Self::connect(Client::from_conf(config), url)
    }

    /// The dead-letter queue with this ARN.
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
    /// first. Cancel it only at the end of a drain: messages that SQS returns on a dropped connection stay hidden until their
    /// visibility timeout ends.
    ///
    /// # Errors
    /// Any failure of the request, classified. If no message arrives, that is not an error: the result is empty.
    pub async fn receive(&self, max: usize, visibility: Duration, wait: Duration) -> Result<Vec<Message>, SqsError> {
        let timeout = TimeoutConfig::builder().operation_attempt_timeout(wait + aws::ATTEMPT_TIMEOUT).build();
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
            // AWS returns a number, but accepts a string.
            max_receive_count: count.as_u64().or_else(|| count.as_str()?.parse().ok())? as u32,
        })
    }
}

/// Runs one request, counts it and classifies its error.
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

#[cfg(test)]
mod tests;
