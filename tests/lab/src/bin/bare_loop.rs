//! The smallest possible consumer on the AWS SDK, with which the worker is compared: it only receives messages and deletes them. The SDK and
//! the runtime are configured as in the worker. `QUEUE_URL` is the queue.

use std::time::Duration;

use anyhow::Result;
use aws_config::BehaviorVersion;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::config::timeout::TimeoutConfig;
use aws_sdk_sqs::config::{Builder, StalledStreamProtectionConfig};
use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, MessageSystemAttributeName};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let url = std::env::var("QUEUE_URL")?;
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(5))
        .operation_attempt_timeout(Duration::from_secs(30));
    let config = Builder::from(&aws_config::load_defaults(BehaviorVersion::latest()).await)
        .retry_config(RetryConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .timeout_config(timeouts.build());
    let client = aws_sdk_sqs::Client::from_conf(config.build());
    loop {
        let receive = client.receive_message().queue_url(&url).max_number_of_messages(10).wait_time_seconds(20);
        let received = receive
            .visibility_timeout(120)
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
            .send()
            .await?;
        let entries = received.messages.unwrap_or_default().into_iter().enumerate().map(|(index, message)| {
            DeleteMessageBatchRequestEntry::builder()
                .id(index.to_string())
                .receipt_handle(message.receipt_handle.unwrap_or_default())
                .build()
        });
        let entries = entries.collect::<Result<Vec<_>, _>>()?;
        if !entries.is_empty() {
            client.delete_message_batch().queue_url(&url).set_entries(Some(entries)).send().await?;
        }
    }
}
