//! SQS in this process, over HTTP in the JSON protocol of the current SDKs, for measurements: the cost of a request does not depend on the
//! number of messages, and messages can be added without HTTP. It also answers Secrets Manager's GetSecretValue, so that a worker needs no
//! other service.
//!
//! Its queues are standard queues with long polls, visibility timeouts, receive counts and redrive. FIFO queues, delays, message
//! attributes, retention and the check of signatures are not implemented.

mod queue;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::aws::{self, ACCOUNT, REGION};
pub use queue::{Queue, Stats};

/// The SQS of this process. It ends when dropped.
pub struct Sqs {
    endpoint: String,
    state: Arc<Account>,
    server: JoinHandle<()>,
}

/// The queues and secrets. It answers requests from HTTP and from this process.
#[derive(Default)]
pub(crate) struct Account {
    endpoint: String,
    queues: Mutex<HashMap<String, Queue>>,
    secrets: Mutex<HashMap<String, String>>,
}

/// The code of an error that the client caused.
pub(crate) type Fault = &'static str;

impl Sqs {
    /// Starts one on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let state = Arc::new(Account { endpoint: endpoint.clone(), ..Account::default() });
        // Some SDKs post to the queue's URL, others to `/`.
        let router = Router::new().fallback(answer).with_state(Arc::clone(&state));
        let server = tokio::spawn(async move {
            // It ends only when it is aborted.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { endpoint, state, server })
    }

    /// The queues and secrets, for a proxy that asks them directly.
    pub(crate) fn account(&self) -> Arc<Account> {
        Arc::clone(&self.state)
    }

    /// The environment variables with which a program uses this as AWS.
    pub fn environment(&self) -> Vec<(String, String)> {
        aws::environment(&self.endpoint)
    }

    /// Creates a queue that sends messages to a dead-letter queue, `{name}-dlq`, after `max_receive_count` receives.
    pub fn queue_with_dlq(&self, name: &str, max_receive_count: u32) -> (Queue, Queue) {
        let dlq = self.state.create(&format!("{name}-dlq"), &Value::Null);
        let redrive = json!({ "deadLetterTargetArn": dlq.arn, "maxReceiveCount": max_receive_count });
        (self.state.create(name, &json!({ "RedrivePolicy": redrive.to_string() })), dlq)
    }

    /// Creates a secret, or gives it a new value.
    pub fn put_secret(&self, name: &str, value: &str) {
        self.state.secrets.lock().insert(name.to_owned(), value.to_owned());
    }
}

impl Drop for Sqs {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(State(account): State<Arc<Account>>, headers: HeaderMap, body: Bytes) -> Response {
    // "AmazonSQS.ReceiveMessage"
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    let operation = target.rsplit('.').next().unwrap_or_default();
    let request = serde_json::from_slice(&body).unwrap_or_default();
    let (status, body) = match account.perform(operation, &request).await {
        Ok(answer) => (StatusCode::OK, answer),
        Err(code) => (StatusCode::BAD_REQUEST, json!({ "__type": code, "message": format!("{operation}: {code}") })),
    };
    (status, [(header::CONTENT_TYPE, "application/x-amz-json-1.0")], body.to_string()).into_response()
}

impl Account {
    pub(crate) async fn perform(&self, operation: &str, request: &Value) -> Result<Value, Fault> {
        match operation {
            "CreateQueue" => {
                let name = request["QueueName"].as_str().ok_or("MissingParameter")?;
                return Ok(json!({ "QueueUrl": self.create(name, &request["Attributes"]).url }));
            }
            "GetSecretValue" => return self.secret(request),
            _ => {}
        }
        let queue = self.queue(request)?;
        queue.count_request();
        match operation {
            "GetQueueUrl" => Ok(json!({ "QueueUrl": queue.url })),
            "GetQueueAttributes" => Ok(json!({ "Attributes": queue.attributes() })),
            "SendMessage" => queue.send(request),
            "SendMessageBatch" => batch(request, |entry| queue.send(entry)),
            "ReceiveMessage" => Ok(queue.receive(request).await),
            "DeleteMessage" => queue.delete(request),
            "DeleteMessageBatch" => batch(request, |entry| queue.delete(entry)),
            "ChangeMessageVisibility" => queue.change_visibility(request),
            "ChangeMessageVisibilityBatch" => batch(request, |entry| queue.change_visibility(entry)),
            _ => Err("UnsupportedOperation"),
        }
    }

    fn create(&self, name: &str, attributes: &Value) -> Queue {
        let mut queues = self.queues.lock();
        let redrive: Option<Value> =
            attributes["RedrivePolicy"].as_str().and_then(|text| serde_json::from_str(text).ok());
        let redrive = redrive.and_then(|policy| {
            let dlq = policy["deadLetterTargetArn"].as_str()?.rsplit(':').next()?;
            Some((number(&policy["maxReceiveCount"])? as u32, queues.get(dlq)?.clone()))
        });
        let visibility = Duration::from_secs(number(&attributes["VisibilityTimeout"]).unwrap_or(30));
        let url = format!("{}/{ACCOUNT}/{name}", self.endpoint);
        let arn = format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{name}");
        queues.entry(name.to_owned()).or_insert_with(|| Queue::new(url, arn, visibility, redrive)).clone()
    }

    fn queue(&self, request: &Value) -> Result<Queue, Fault> {
        let url = request["QueueUrl"].as_str().or(request["QueueName"].as_str()).ok_or("MissingParameter")?;
        let name = url.rsplit('/').next().unwrap_or_default();
        self.queues.lock().get(name).cloned().ok_or("com.amazonaws.sqs#QueueDoesNotExist")
    }

    fn secret(&self, request: &Value) -> Result<Value, Fault> {
        let name = request["SecretId"].as_str().ok_or("InvalidParameterException")?;
        let value = self.secrets.lock().get(name).cloned().ok_or("ResourceNotFoundException")?;
        let arn = format!("arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{name}-AbCdEf");
        Ok(json!({ "ARN": arn, "Name": name, "SecretString": value, "CreatedDate": unix_ms() as f64 / 1000.0 }))
    }
}

/// Handles the entries of a batch one by one. Each succeeds or fails separately.
fn batch(request: &Value, each: impl Fn(&Value) -> Result<Value, Fault>) -> Result<Value, Fault> {
    let entries = request["Entries"].as_array().filter(|entries| !entries.is_empty()).ok_or("EmptyBatchRequest")?;
    if entries.len() > 10 {
        return Err("TooManyEntriesInBatchRequest");
    }
    let (mut successful, mut failed) = (Vec::new(), Vec::new());
    for entry in entries {
        match each(entry) {
            Ok(mut answer) => {
                answer["Id"] = entry["Id"].clone();
                successful.push(answer);
            }
            Err(code) => failed.push(json!({ "Id": entry["Id"], "Code": code, "SenderFault": true })),
        }
    }
    Ok(json!({ "Successful": successful, "Failed": failed }))
}

/// A number, or a string of digits, as in attributes.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn unix_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()
}
