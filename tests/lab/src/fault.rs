//! A proxy in front of the AWS stand-in. It records every request, and answers with an error, late or not at all on request. It also answers
//! requests about message move tasks, which the stand-in lacks.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::Script;
use crate::aws::{self, Aws};
use crate::move_tasks::MoveTasks;

/// What happens to one request.
#[derive(Debug, Clone, Default)]
pub enum Fault {
    /// It reaches AWS, and the answer comes back.
    #[default]
    None,
    /// It does not reach AWS; this status comes back, with this AWS error code.
    Error(u16, &'static str),
    /// It does not reach AWS, and no answer comes.
    Hang,
    /// It reaches AWS, but no answer comes back. A receive has then hidden its messages.
    HangAfter,
    /// It reaches AWS when the test adds a permit, and the answer comes back.
    Held(Arc<Semaphore>),
    /// For batch operations: the first entry does not reach AWS, and is reported as failed by a fault of AWS, not of the sender.
    FirstEntryFails,
}

/// One recorded request.
#[derive(Debug, Clone)]
pub struct Call {
    /// `ReceiveMessage`, `GetSecretValue` …
    pub operation: String,
    /// When it arrived.
    pub at: Instant,
    /// Its body.
    pub body: Value,
    /// The session token that it was signed with.
    pub token: Option<String>,
}

#[derive(Default)]
struct Seen {
    calls: Vec<Call>,
    expired: HashSet<String>,
    scripts: HashMap<String, Script<Fault>>,
}

/// The proxy. It ends when dropped.
pub struct FaultyAws {
    /// Keeps the emulator running.
    _aws: Aws,
    address: SocketAddr,
    seen: Arc<watch::Sender<Seen>>,
    server: JoinHandle<()>,
}

#[derive(Clone)]
struct Proxy {
    upstream: String,
    client: reqwest::Client,
    seen: Arc<watch::Sender<Seen>>,
    moves: MoveTasks,
}

/// The sender of a request. Further requests to AWS can be made in its name.
#[derive(Clone)]
pub(crate) struct Caller {
    proxy: Proxy,
    uri: Uri,
    headers: HeaderMap,
}

impl FaultyAws {
    /// Starts it on a free port in front of `aws`.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(aws: &Aws) -> Result<Self> {
        let seen = Arc::new(watch::Sender::new(Seen::default()));
        let client = reqwest::Client::builder().no_proxy().build()?;
        let proxy =
            Proxy { upstream: aws.endpoint().to_owned(), client, seen: seen.clone(), moves: MoveTasks::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let router = Router::new().fallback(forward).with_state(proxy);
        let server = tokio::spawn(async move {
            // It ends only when it is aborted.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { _aws: aws.clone(), address, seen, server })
    }

    /// The environment variables with which a program reaches AWS through this proxy.
    pub fn environment(&self) -> Vec<(String, String)> {
        aws::environment(&format!("http://{}", self.address))
    }

    /// The SDK's configuration for a client that reaches AWS through this proxy.
    pub async fn sdk_config(&self) -> aws_config::SdkConfig {
        aws::sdk_config(&format!("http://{}", self.address)).await
    }

    /// A client that reaches SQS through this proxy.
    pub async fn sqs(&self) -> aws_sdk_sqs::Client {
        aws_sdk_sqs::Client::new(&self.sdk_config().await)
    }

    /// Sets what happens to the next requests of this operation, one after the other.
    pub fn script(&self, operation: &str, faults: impl IntoIterator<Item = Fault>) {
        self.seen.send_modify(|seen| seen.scripts.entry(operation.to_owned()).or_default().once.extend(faults));
    }

    /// Sets what happens to every request of this operation after its script.
    pub fn always(&self, operation: &str, fault: Fault) {
        self.seen.send_modify(|seen| seen.scripts.entry(operation.to_owned()).or_default().always = fault);
    }

    /// Makes the credentials with this session token expire: requests that are signed with them are refused.
    pub fn expire(&self, token: &str) {
        self.seen.send_modify(|seen| seen.expired.extend([token.to_owned()]));
    }

    /// Every request of this operation so far, in order.
    pub fn calls(&self, operation: &str) -> Vec<Call> {
        self.seen.borrow().calls.iter().filter(|call| call.operation == operation).cloned().collect()
    }

    /// Waits until the requests so far, of all operations, are as wanted.
    ///
    /// # Errors
    /// After `limit`, with the number of requests of each operation.
    pub async fn wait_for(&self, wanted: impl Fn(&[Call]) -> bool, limit: Duration) -> Result<()> {
        let mut seen = self.seen.subscribe();
        let waited = tokio::time::timeout(limit, seen.wait_for(|seen| wanted(&seen.calls))).await.map(drop);
        waited.with_context(|| {
            let mut counts = HashMap::<String, u32>::new();
            self.seen.borrow().calls.iter().for_each(|call| *counts.entry(call.operation.clone()).or_default() += 1);
            format!("not within {limit:?}; AWS was asked for {counts:?}")
        })
    }
}

impl Drop for FaultyAws {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn forward(State(proxy): State<Proxy>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    // The JSON protocol names the operation in a header: `AmazonSQS.ReceiveMessage`.
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let token = headers.get("x-amz-security-token").and_then(|token| token.to_str().ok()).map(str::to_owned);
    let mut fault = Fault::None;
    proxy.seen.send_modify(|seen| {
        fault = match &token {
            Some(token) if seen.expired.contains(token) => Fault::Error(400, "ExpiredTokenException"),
            _ => seen.scripts.get_mut(&operation).map(Script::next).unwrap_or_default(),
        };
        seen.calls.push(Call { operation: operation.clone(), at: Instant::now(), body: body.clone(), token });
    });
    let answered = match fault {
        Fault::None => proxy.answer(&operation, uri, headers, &body).await,
        Fault::Error(status, code) => {
            Ok((status, json!({ "__type": format!("com.amazonaws#{code}"), "message": "scripted" })))
        }
        Fault::Hang => std::future::pending().await,
        Fault::HangAfter => {
            let _ = proxy.ask(&uri, &headers, &body).await;
            std::future::pending().await
        }
        Fault::Held(permits) => {
            if let Ok(permit) = permits.acquire().await {
                permit.forget();
            }
            proxy.answer(&operation, uri, headers, &body).await
        }
        Fault::FirstEntryFails => proxy.ask_but_first(&uri, &headers, body).await,
    };
    let (status, body) = answered.unwrap_or_else(|error| (502, json!({ "message": format!("{error:#}") })));
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    (status, [(header::CONTENT_TYPE, "application/x-amz-json-1.0")], body.to_string()).into_response()
}

impl Caller {
    /// Makes another request, which is neither recorded nor disturbed. An error of AWS is returned with AWS's error code.
    pub(crate) async fn ask(&self, operation: &str, body: Value) -> Result<Value> {
        let mut headers = self.headers.clone();
        headers.insert("x-amz-target", format!("AmazonSQS.{operation}").parse()?);
        let (status, answer) = self.proxy.ask(&self.uri, &headers, &body).await?;
        ensure!(status == 200, "{}", answer["__type"].as_str().unwrap_or("an error without a type"));
        Ok(answer)
    }
}

impl Proxy {
    async fn answer(&self, operation: &str, uri: Uri, headers: HeaderMap, body: &Value) -> Result<(u16, Value)> {
        let caller = Caller { proxy: self.clone(), uri, headers };
        match self.moves.answer(operation, body, &caller).await {
            Some(answer) => answer,
            None => self.ask(&caller.uri, &caller.headers, body).await,
        }
    }

    async fn ask(&self, uri: &Uri, headers: &HeaderMap, body: &Value) -> Result<(u16, Value)> {
        let mut headers = headers.clone();
        for of_the_connection in [header::HOST, header::CONTENT_LENGTH, header::CONNECTION] {
            headers.remove(of_the_connection);
        }
        let request = self.client.post(format!("{}{uri}", self.upstream)).headers(headers).body(body.to_string());
        let response = request.send().await?;
        Ok((response.status().as_u16(), serde_json::from_str(&response.text().await?).unwrap_or_default()))
    }

    async fn ask_but_first(&self, uri: &Uri, headers: &HeaderMap, mut body: Value) -> Result<(u16, Value)> {
        let entries = body["Entries"].as_array_mut().filter(|entries| !entries.is_empty());
        let first = entries.context("not a batch operation")?.remove(0);
        // AWS refuses a batch without entries.
        let nothing_left = body["Entries"].as_array().is_some_and(Vec::is_empty);
        let (status, mut answer) =
            if nothing_left { (200, json!({ "Successful": [] })) } else { self.ask(uri, headers, &body).await? };
        let failed = json!({ "Id": first["Id"], "SenderFault": false, "Code": "InternalError", "Message": "scripted" });
        match answer["Failed"].as_array_mut() {
            Some(others) => others.push(failed),
            None => answer["Failed"] = json!([failed]),
        }
        Ok((status, answer))
    }
}
