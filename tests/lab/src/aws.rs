//! AWS for the tests: the emulator ministack in a child process on loopback, and the requests of the tests and the demo to it over HTTP:
//! through the SDK, except for EventBridge.

mod emulator;
mod eventbridge;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
    TimeToLiveSpecification,
};
use aws_sdk_sqs::config::Credentials;
use aws_sdk_sqs::types::{MessageAttributeValue, QueueAttributeName, SendMessageBatchRequestEntry};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use emulator::Emulator;
use eventbridge::{entry, past_entry};

/// The account of all resources. The emulator takes a 12-digit access key as the account's id.
pub const ACCOUNT: &str = "123456789012";
/// The region of all resources.
pub const REGION: &str = "eu-west-1";
/// The bus that every account has.
pub const DEFAULT_BUS: &str = "default";

/// Clients of one emulator. Clones are cheap and share the emulator, which ends with the last clone.
#[derive(Clone)]
pub struct Aws {
    endpoint: String,
    events: eventbridge::Client,
    secrets: aws_sdk_secretsmanager::Client,
    sqs: aws_sdk_sqs::Client,
    tables: aws_sdk_dynamodb::Client,
    _emulator: Arc<Emulator>,
}

impl Aws {
    /// Starts a separate emulator, which takes about half a second.
    ///
    /// # Errors
    /// When `.venv` is missing, or the emulator does not start.
    pub async fn start() -> Result<Self> {
        let emulator = tokio::task::spawn_blocking(Emulator::spawn).await??;
        Self::connect(Arc::new(emulator)).await
    }

    /// The emulator that all tests of this process share; the first call starts it. As tests run in parallel, give queues, rules, buses
    /// and secrets unique names ([`crate::unique`]), and use a separate bus for events.
    ///
    /// # Errors
    /// Those of [`Aws::start`].
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
            events: eventbridge::Client::new(&endpoint)?,
            endpoint,
            secrets: aws_sdk_secretsmanager::Client::new(&config),
            sqs: aws_sdk_sqs::Client::new(&config),
            tables: aws_sdk_dynamodb::Client::new(&config),
            _emulator: emulator,
        })
    }

    /// The URL that AWS clients use instead of AWS.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The environment variables with which a program uses this emulator as AWS.
    pub fn environment(&self) -> Vec<(String, String)> {
        environment(&self.endpoint)
    }

    /// Creates a queue and its dead-letter queue, `{name}-dlq`. Messages go there after `max_receive_count` receives. `visibility`, in
    /// whole seconds, is the visibility timeout of receives that do not set one.
    ///
    /// # Errors
    /// Those that AWS answers.
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

    /// Creates an event bus. With a bus of its own, a test does not get the events of tests that run at the same time.
    ///
    /// # Errors
    /// Those that AWS answers.
    pub async fn create_bus(&self, name: &str) -> Result<()> {
        self.events.call("CreateEventBus", &json!({ "Name": name })).await?;
        Ok(())
    }

    /// Creates a rule on `bus` that sends the events that match `pattern` to `queue`, and allows it to do so. The queue's policy names
    /// only this rule, so a queue has one rule.
    ///
    /// # Errors
    /// Those that AWS answers.
    pub async fn create_rule(&self, bus: &str, name: &str, pattern: &Value, queue: &Queue) -> Result<()> {
        let rule = json!({ "EventBusName": bus, "Name": name, "EventPattern": pattern.to_string() });
        let rule = self.events.call("PutRule", &rule).await?;
        let rule_arn = rule["RuleArn"].as_str().context("PutRule answered without an ARN")?;
        let policy = json!({ "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow",
            "Principal": { "Service": "events.amazonaws.com" },
            "Action": "sqs:SendMessage",
            "Resource": queue.arn,
            "Condition": { "ArnEquals": { "aws:SourceArn": rule_arn } },
        }] });
        let allow = self.sqs.set_queue_attributes().queue_url(&queue.url);
        allow.attributes(QueueAttributeName::Policy, policy.to_string()).send().await?;
        let targets = json!({ "EventBusName": bus, "Rule": name, "Targets": [{ "Id": "queue", "Arn": queue.arn }] });
        self.events.call("PutTargets", &targets).await?;
        Ok(())
    }

    /// Puts events on a bus. Returns their new ids, in order. EventBridge keeps source, detail-type, resources and detail. It sets the
    /// rest of the envelope itself: id, time, account, region.
    ///
    /// # Errors
    /// Those that AWS answers; also when AWS accepts only some of the events.
    pub async fn put_events(&self, bus: &str, events: &[Value]) -> Result<Vec<String>> {
        let mut ids = Vec::with_capacity(events.len());
        // PutEvents takes ten at most.
        for chunk in events.chunks(10) {
            ids.extend(self.put_entries(chunk.iter().map(|event| entry(bus, event)).collect()).await?);
        }
        Ok(ids)
    }

    /// Puts one event that keeps its `time`; the events of [`Aws::put_events`] get the time of their arrival. Returns its id.
    ///
    /// # Errors
    /// Those that AWS answers.
    pub async fn put_past_event(&self, bus: &str, event: &Value) -> Result<String> {
        let ids = self.put_entries(vec![past_entry(bus, event)?]).await?;
        ids.into_iter().next().context("PutEvents did not take it")
    }

    async fn put_entries(&self, entries: Vec<Value>) -> Result<Vec<String>> {
        let answer = self.events.call("PutEvents", &json!({ "Entries": entries })).await?;
        let put = answer["Entries"].as_array().into_iter().flatten();
        Ok(put.filter_map(|entry| entry["EventId"].as_str().map(str::to_owned)).collect())
    }

    /// Creates a table for incidents: string key `pk`, time-to-live attribute `expires`.
    ///
    /// # Errors
    /// Those that AWS answers.
    pub async fn create_table(&self, name: &str) -> Result<()> {
        self.create_table_with_key(name, "pk").await?;
        let expires = TimeToLiveSpecification::builder().enabled(true).attribute_name("expires").build()?;
        self.tables.update_time_to_live().table_name(name).time_to_live_specification(expires).send().await?;
        Ok(())
    }

    /// Creates a table with only this string key.
    ///
    /// # Errors
    /// Those that AWS answers.
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
    /// Those that AWS answers.
    pub async fn delete_table(&self, name: &str) -> Result<()> {
        self.tables.delete_table().table_name(name).send().await?;
        Ok(())
    }

    /// The attributes of all items of a table.
    ///
    /// # Errors
    /// Those that AWS answers.
    pub async fn table_items(&self, name: &str) -> Result<Vec<HashMap<String, AttributeValue>>> {
        Ok(self.tables.scan().table_name(name).consistent_read(true).send().await?.items.unwrap_or_default())
    }

    /// The SDK's configuration for a client of this emulator.
    pub async fn sdk_config(&self) -> SdkConfig {
        sdk_config(&self.endpoint).await
    }

    /// Creates a secret. Returns its ARN.
    ///
    /// # Errors
    /// Those that AWS answers.
    pub async fn create_secret(&self, name: &str, value: &str) -> Result<String> {
        let created = self.secrets.create_secret().name(name).secret_string(value).send().await?;
        created.arn.context("CreateSecret answered without an ARN")
    }

    /// Gives a secret a new value, as a rotation does.
    ///
    /// # Errors
    /// Those that AWS answers.
    pub async fn update_secret(&self, name: &str, value: &str) -> Result<()> {
        self.secrets.put_secret_value().secret_id(name).secret_string(value).send().await?;
        Ok(())
    }

    /// All resources that tests check for: the names of the default bus's rules and of all secrets, and the URLs of all queues.
    ///
    /// # Errors
    /// Those that AWS answers.
    pub async fn inventory(&self) -> Result<Vec<String>> {
        let rules = self.events.call("ListRules", &json!({})).await?;
        let rules = rules["Rules"].as_array().cloned().unwrap_or_default();
        let secrets = self.secrets.list_secrets().include_planned_deletion(true).send().await?;
        let queues = self.sqs.list_queues().send().await?.queue_urls.unwrap_or_default();
        let secrets = secrets.secret_list.unwrap_or_default();
        let rules = rules.iter().filter_map(|rule| rule["Name"].as_str().map(str::to_owned));
        let names = rules.chain(secrets.into_iter().filter_map(|s| s.name));
        Ok(names.chain(queues).collect())
    }
}

/// The environment variables with which a program uses this endpoint as AWS.
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
    /// The number of all messages.
    pub fn total(self) -> u32 {
        self.visible + self.in_flight + self.delayed
    }
}

/// A message in a queue.
#[derive(Debug, Clone)]
pub struct Stored {
    /// What was sent.
    pub body: String,
    /// How often it has been received.
    pub receive_count: u64,
    /// Whether a receive would return it.
    pub visible: bool,
}

impl Queue {
    /// Sends bodies to the queue as they are, without EventBridge.
    ///
    /// # Errors
    /// Those that SQS answers; also when SQS accepts only some of the messages.
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

    /// Sends a body with message attributes, as EventBridge does with events that it could not deliver.
    ///
    /// # Errors
    /// Those that SQS answers.
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
    /// Those that SQS answers.
    pub async fn delete(&self) -> Result<()> {
        self.aws.sqs.delete_queue().queue_url(&self.url).send().await?;
        Ok(())
    }

    /// Sends complete events to the queue, with their ids and times, without EventBridge.
    ///
    /// # Errors
    /// Those of [`Queue::send`].
    pub async fn send_events(&self, events: &[Value]) -> Result<()> {
        self.send(&events.iter().map(Value::to_string).collect::<Vec<_>>()).await
    }

    /// How many messages it holds now.
    ///
    /// # Errors
    /// Those that SQS answers.
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
    /// Those that SQS answers; after `limit`, an error with the last counts.
    pub async fn wait_for(&self, wanted: impl Fn(Counts) -> bool, limit: Duration) -> Result<Counts> {
        let mut last = self.counts().await?;
        let asked = crate::eventually("the counts are as wanted", limit, async || {
            last = self.counts().await?;
            Ok(wanted(last))
        });
        asked.await.with_context(|| format!("{} holds {last:?}", self.arn))?;
        Ok(last)
    }

    /// Its messages, oldest first, without receiving them: no receive count changes, and no message is hidden.
    ///
    /// # Errors
    /// When the emulator's answer cannot be read.
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
