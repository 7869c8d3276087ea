//! An AWS of our own: ministack in a child process on loopback, and what the tests and the demo do with it, through the real
//! SDK over HTTP.

mod emulator;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
    TimeToLiveSpecification,
};
use aws_sdk_eventbridge::primitives::{DateTime, DateTimeFormat};
use aws_sdk_eventbridge::types::builders::PutEventsRequestEntryBuilder;
use aws_sdk_eventbridge::types::{PutEventsRequestEntry, Target};
use aws_sdk_sqs::config::Credentials;
use aws_sdk_sqs::types::{MessageAttributeValue, QueueAttributeName, SendMessageBatchRequestEntry};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use emulator::Emulator;

/// The account that everything lives in: the emulator takes a 12-digit access key for the account's id.
pub const ACCOUNT: &str = "123456789012";
/// The region that everything lives in.
pub const REGION: &str = "eu-west-1";
/// The bus that every account has.
pub const DEFAULT_BUS: &str = "default";

/// Clients of one emulator. Cloning is cheap and shares it; the emulator ends with the last clone.
#[derive(Clone)]
pub struct Aws {
    endpoint: String,
    events: aws_sdk_eventbridge::Client,
    secrets: aws_sdk_secretsmanager::Client,
    sqs: aws_sdk_sqs::Client,
    tables: aws_sdk_dynamodb::Client,
    _emulator: Arc<Emulator>,
}

impl Aws {
    /// Starts an emulator of one's own; about half a second.
    ///
    /// # Errors
    /// When `.venv` is not there, or the emulator does not come up.
    pub async fn start() -> Result<Self> {
        let emulator = tokio::task::spawn_blocking(Emulator::spawn).await??;
        Self::connect(Arc::new(emulator)).await
    }

    /// The one emulator of this process, started by whoever asks first. For tests that run in parallel: give queues, rules,
    /// buses and secrets names of their own ([`crate::unique`]), and events a bus of their own.
    ///
    /// # Errors
    /// As [`Aws::start`].
    pub async fn shared() -> Result<Self> {
        static SHARED: OnceCell<Arc<Emulator>> = OnceCell::const_new();
        let start = || async { anyhow::Ok(Arc::new(tokio::task::spawn_blocking(Emulator::spawn).await??)) };
        // Only the process is shared, not the clients: their connections belong to the runtime of the test that made them.
        Self::connect(SHARED.get_or_try_init(start).await?.clone()).await
    }

    async fn connect(emulator: Arc<Emulator>) -> Result<Self> {
        let endpoint = format!("http://127.0.0.1:{}", emulator.port);
        let health = format!("{endpoint}/_ministack/health");
        crate::eventually("the AWS stand-in answers", Duration::from_secs(20), async || {
            Ok(crate::get(&health).await.is_ok_and(|(status, _)| status == 200))
        })
        .await?;
        let config = sdk_config(&endpoint).await;
        Ok(Self {
            endpoint,
            events: aws_sdk_eventbridge::Client::new(&config),
            secrets: aws_sdk_secretsmanager::Client::new(&config),
            sqs: aws_sdk_sqs::Client::new(&config),
            tables: aws_sdk_dynamodb::Client::new(&config),
            _emulator: emulator,
        })
    }

    /// The URL that every AWS client is to use in place of AWS.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// What a program must have in its environment to take this for AWS.
    pub fn environment(&self) -> Vec<(String, String)> {
        environment(&self.endpoint)
    }

    /// Creates a queue and its dead-letter queue, `{name}-dlq`. Messages go there after `max_receive_count` receives;
    /// `visibility` is the timeout of a receive that names none, in whole seconds.
    ///
    /// # Errors
    /// As AWS answers.
    pub async fn queue_with_dlq(
        &self,
        name: &str,
        max_receive_count: u32,
        visibility: Duration,
    ) -> Result<(Queue, Queue)> {
        let create = |name: String, attributes: Vec<(QueueAttributeName, String)>| async move {
            let created =
                self.sqs.create_queue().queue_name(&name).set_attributes(Some(attributes.into_iter().collect()));
            let url = created.send().await?.queue_url.context("CreateQueue answered without a URL")?;
            anyhow::Ok(Queue { url, arn: format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"), aws: self.clone() })
        };
        let retention = (QueueAttributeName::MessageRetentionPeriod, "1209600".to_owned());
        let dlq = create(format!("{name}-dlq"), vec![retention]).await?;
        let redrive = json!({ "deadLetterTargetArn": dlq.arn, "maxReceiveCount": max_receive_count });
        let attributes = vec![
            (QueueAttributeName::RedrivePolicy, redrive.to_string()),
            (QueueAttributeName::VisibilityTimeout, visibility.as_secs().to_string()),
        ];
        Ok((create(name.to_owned(), attributes).await?, dlq))
    }

    /// Creates an event bus. One bus a test keeps tests that run side by side out of each other's events.
    ///
    /// # Errors
    /// As AWS answers.
    pub async fn create_bus(&self, name: &str) -> Result<()> {
        self.events.create_event_bus().name(name).send().await?;
        Ok(())
    }

    /// Creates a rule on `bus` that sends what matches `pattern` to `queue`, and lets it: the queue's policy names
    /// exactly this rule, so a queue has one rule.
    ///
    /// # Errors
    /// As AWS answers.
    pub async fn create_rule(&self, bus: &str, name: &str, pattern: &Value, queue: &Queue) -> Result<()> {
        let rule = self.events.put_rule().event_bus_name(bus).name(name).event_pattern(pattern.to_string());
        let rule_arn = rule.send().await?.rule_arn.context("PutRule answered without an ARN")?;
        let policy = json!({ "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow",
            "Principal": { "Service": "events.amazonaws.com" },
            "Action": "sqs:SendMessage",
            "Resource": queue.arn,
            "Condition": { "ArnEquals": { "aws:SourceArn": rule_arn } },
        }] });
        let allow = self.sqs.set_queue_attributes().queue_url(&queue.url);
        allow.attributes(QueueAttributeName::Policy, policy.to_string()).send().await?;
        let target = Target::builder().id("queue").arn(&queue.arn).build()?;
        let put = self.events.put_targets().event_bus_name(bus).rule(name).targets(target).send().await?;
        ensure!(put.failed_entry_count == 0, "PutTargets: {:?}", put.failed_entries());
        Ok(())
    }

    /// Puts events on a bus; their new ids, in order. EventBridge keeps source, detail-type, resources and detail, and
    /// makes the rest of the envelope itself: id, time, account, region.
    ///
    /// # Errors
    /// As AWS answers, and when it takes only some of them.
    pub async fn put_events(&self, bus: &str, events: &[Value]) -> Result<Vec<String>> {
        let mut ids = Vec::with_capacity(events.len());
        // PutEvents takes ten at most.
        for chunk in events.chunks(10) {
            let entries = chunk.iter().map(|event| entry(bus, event).build());
            let answer = self.events.put_events().set_entries(Some(entries.collect())).send().await?;
            ensure!(answer.failed_entry_count == 0, "PutEvents: {:?}", answer.entries());
            ids.extend(answer.entries.unwrap_or_default().into_iter().filter_map(|entry| entry.event_id));
        }
        Ok(ids)
    }

    /// Puts one event that happened at its `time`; what [`Aws::put_events`] puts happens when it comes. Gives its id.
    ///
    /// # Errors
    /// As AWS answers.
    pub async fn put_past_event(&self, bus: &str, event: &Value) -> Result<String> {
        let time = event["time"].as_str().context("the event has no time")?;
        let time = DateTime::from_str(time, DateTimeFormat::DateTime)?;
        let answer = self.events.put_events().entries(entry(bus, event).time(time).build()).send().await?;
        let put = answer.entries.unwrap_or_default().into_iter().next();
        put.and_then(|entry| entry.event_id).context("PutEvents did not take it")
    }

    /// Creates a table for incidents: string key `pk`, time-to-live attribute `expires`.
    ///
    /// # Errors
    /// As AWS answers.
    pub async fn create_table(&self, name: &str) -> Result<()> {
        self.create_table_with_key(name, "pk").await?;
        let expires = TimeToLiveSpecification::builder().enabled(true).attribute_name("expires").build()?;
        self.tables.update_time_to_live().table_name(name).time_to_live_specification(expires).send().await?;
        Ok(())
    }

    /// Creates a table with this string key and nothing else.
    ///
    /// # Errors
    /// As AWS answers.
    pub async fn create_table_with_key(&self, name: &str, key: &str) -> Result<()> {
        let attribute =
            AttributeDefinition::builder().attribute_name(key).attribute_type(ScalarAttributeType::S).build()?;
        let key = KeySchemaElement::builder().attribute_name(key).key_type(KeyType::Hash).build()?;
        let create = self.tables.create_table().table_name(name).billing_mode(BillingMode::PayPerRequest);
        create.attribute_definitions(attribute).key_schema(key).send().await?;
        Ok(())
    }

    /// Deletes a table.
    ///
    /// # Errors
    /// As AWS answers.
    pub async fn delete_table(&self, name: &str) -> Result<()> {
        self.tables.delete_table().table_name(name).send().await?;
        Ok(())
    }

    /// Everything in a table, by its key: each item's attributes.
    ///
    /// # Errors
    /// As AWS answers.
    pub async fn table_items(&self, name: &str) -> Result<Vec<HashMap<String, AttributeValue>>> {
        Ok(self.tables.scan().table_name(name).consistent_read(true).send().await?.items.unwrap_or_default())
    }

    /// The SDK's configuration for a client of this.
    pub async fn sdk_config(&self) -> SdkConfig {
        sdk_config(&self.endpoint).await
    }

    /// Creates a secret; its ARN.
    ///
    /// # Errors
    /// As AWS answers.
    pub async fn create_secret(&self, name: &str, value: &str) -> Result<String> {
        let created = self.secrets.create_secret().name(name).secret_string(value).send().await?;
        created.arn.context("CreateSecret answered without an ARN")
    }

    /// Gives a secret a new value, as a rotation does.
    ///
    /// # Errors
    /// As AWS answers.
    pub async fn update_secret(&self, name: &str, value: &str) -> Result<()> {
        self.secrets.put_secret_value().secret_id(name).secret_string(value).send().await?;
        Ok(())
    }

    /// What there is: the names of all rules of the default bus, all secrets, and the URLs of all queues.
    ///
    /// # Errors
    /// As AWS answers.
    pub async fn inventory(&self) -> Result<Vec<String>> {
        let rules = self.events.list_rules().send().await?.rules.unwrap_or_default();
        let secrets = self.secrets.list_secrets().include_planned_deletion(true).send().await?;
        let queues = self.sqs.list_queues().send().await?.queue_urls.unwrap_or_default();
        let secrets = secrets.secret_list.unwrap_or_default();
        let names = rules.into_iter().filter_map(|rule| rule.name).chain(secrets.into_iter().filter_map(|s| s.name));
        Ok(names.chain(queues).collect())
    }
}

/// What a program must have in its environment to take what answers at this endpoint for AWS.
pub(crate) fn environment(endpoint: &str) -> Vec<(String, String)> {
    [
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_REGION", REGION),
        ("AWS_ACCESS_KEY_ID", ACCOUNT),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// The SDK's configuration for our account, at this endpoint.
pub(crate) async fn sdk_config(endpoint: &str) -> SdkConfig {
    aws_config::defaults(BehaviorVersion::latest())
        .endpoint_url(endpoint)
        .region(Region::from_static(REGION))
        .credentials_provider(Credentials::new(ACCOUNT, "secret", None, None, "lab"))
        .load()
        .await
}

/// One SQS queue.
#[derive(Clone)]
pub struct Queue {
    /// Its URL, as `QUEUE_URL` wants it.
    pub url: String,
    /// Its ARN.
    pub arn: String,
    aws: Aws,
}

/// How many messages a queue holds, as SQS counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Ready to be received.
    pub visible: u32,
    /// Received, and hidden until deleted, given back or timed out.
    pub in_flight: u32,
    /// Sent with a delay that has not passed.
    pub delayed: u32,
}

impl Counts {
    /// All that is there.
    pub fn total(self) -> u32 {
        self.visible + self.in_flight + self.delayed
    }
}

/// A message as it lies in a queue.
#[derive(Debug, Clone)]
pub struct Stored {
    /// What was sent.
    pub body: String,
    /// How often it has been received.
    pub receive_count: u64,
    /// Whether a receive would bring it.
    pub visible: bool,
}

impl Queue {
    /// Sends bodies as they are, past EventBridge.
    ///
    /// # Errors
    /// As SQS answers, and when it takes only some of them.
    pub async fn send(&self, bodies: &[String]) -> Result<()> {
        // SendMessageBatch takes ten at most.
        for chunk in bodies.chunks(10) {
            let entries = chunk.iter().enumerate().map(|(index, body)| {
                SendMessageBatchRequestEntry::builder().id(index.to_string()).message_body(body).build()
            });
            let batch = self.aws.sqs.send_message_batch().queue_url(&self.url);
            let answer = batch.set_entries(Some(entries.collect::<Result<_, _>>()?)).send().await?;
            ensure!(answer.failed.is_empty(), "SendMessageBatch: {:?}", answer.failed);
        }
        Ok(())
    }

    /// Sends a body with message attributes, as EventBridge does with what it could not deliver.
    ///
    /// # Errors
    /// As SQS answers.
    pub async fn send_with(&self, body: &str, attributes: &[(&str, &str)]) -> Result<()> {
        let mut send = self.aws.sqs.send_message().queue_url(&self.url).message_body(body);
        for (name, text) in attributes {
            let value = MessageAttributeValue::builder().data_type("String").string_value(*text);
            send = send.message_attributes(*name, value.build()?);
        }
        send.send().await?;
        Ok(())
    }

    /// Deletes the queue.
    ///
    /// # Errors
    /// As SQS answers.
    pub async fn delete(&self) -> Result<()> {
        self.aws.sqs.delete_queue().queue_url(&self.url).send().await?;
        Ok(())
    }

    /// Sends whole events as they are, ids and times included, past EventBridge.
    ///
    /// # Errors
    /// As [`Queue::send`].
    pub async fn send_events(&self, events: &[Value]) -> Result<()> {
        self.send(&events.iter().map(Value::to_string).collect::<Vec<_>>()).await
    }

    /// How many messages it holds now.
    ///
    /// # Errors
    /// As SQS answers.
    pub async fn counts(&self) -> Result<Counts> {
        use QueueAttributeName::{
            ApproximateNumberOfMessages as Visible, ApproximateNumberOfMessagesDelayed as Delayed,
            ApproximateNumberOfMessagesNotVisible as InFlight,
        };
        let answer = self.aws.sqs.get_queue_attributes().queue_url(&self.url).attribute_names(QueueAttributeName::All);
        let attributes = answer.send().await?.attributes.unwrap_or_default();
        let count = |name| attributes.get(&name).and_then(|count| count.parse().ok()).context("a count is missing");
        Ok(Counts { visible: count(Visible)?, in_flight: count(InFlight)?, delayed: count(Delayed)? })
    }

    /// Waits until the counts are as wanted.
    ///
    /// # Errors
    /// As SQS answers; when `limit` has passed, the last counts.
    pub async fn wait_for(&self, wanted: impl Fn(Counts) -> bool, limit: Duration) -> Result<Counts> {
        let mut last = self.counts().await?;
        let asked = crate::eventually("the counts are as wanted", limit, async || {
            last = self.counts().await?;
            Ok(wanted(last))
        });
        asked.await.with_context(|| format!("{} holds {last:?}", self.arn))?;
        Ok(last)
    }

    /// Everything that lies in it, oldest first, without receiving it: no count moves, nothing is hidden.
    ///
    /// # Errors
    /// When the emulator does not answer as it should.
    pub async fn messages(&self) -> Result<Vec<Stored>> {
        let url = format!("{}/_ministack/sqs/messages?QueueUrl={}", self.aws.endpoint, self.url);
        let (status, body) = crate::get(&url).await?;
        ensure!(status == 200, "{status} {body}");
        let answer: Value = serde_json::from_str(&body)?;
        let messages = answer["messages"][ACCOUNT][REGION][&self.url].as_array().context("no such queue")?;
        let stored = messages.iter().map(|message| Stored {
            body: message["Body"].as_str().unwrap_or_default().to_owned(),
            receive_count: message["ReceiveCount"].as_u64().unwrap_or_default(),
            visible: message["IsVisible"].as_bool().unwrap_or_default(),
        });
        Ok(stored.collect())
    }
}

fn entry(bus: &str, event: &Value) -> PutEventsRequestEntryBuilder {
    let resources = event["resources"].as_array().into_iter().flatten();
    PutEventsRequestEntry::builder()
        .event_bus_name(bus)
        .source(event["source"].as_str().unwrap_or_default())
        .detail_type(event["detail-type"].as_str().unwrap_or_default())
        .set_resources(Some(resources.filter_map(|arn| arn.as_str().map(str::to_owned)).collect()))
        .detail(event["detail"].to_string())
}
