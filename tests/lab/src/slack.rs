//! A strict stand-in for Slack: incoming webhooks and, in [`web_api`], the Web API. It refuses what Slack refuses, with Slack's error codes,
//! and limits the rate if it is started so. On request it fails as Slack and networks fail. `/` is a page that shows the channels.
//!
//! Every request is recorded before it is answered. So a test waits for the request that it expects, and never sleeps.

mod limits;
mod page;
pub mod payload;
pub mod web_api;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::Script;
use crate::connection::{Connection, Connections, WeakConnection};

/// How a webhook answers one request.
#[derive(Debug, Clone, Default)]
pub enum Answer {
    /// As Slack does: `ok`, or the first fault of the payload.
    #[default]
    Judge,
    /// This status and body for any payload: `(500, "rollup_error")`, `(403, "invalid_token")` … Nothing is posted. A 200 stands for the
    /// answer of something on the way, such as a proxy.
    Status(u16, &'static str),
    /// 429 with this Retry-After, in seconds. Requests before it has passed are counted as violations.
    RateLimited(u64),
    /// 503 with this Retry-After, in seconds, which senders must obey too.
    Unavailable(u64),
    /// 400 `invalid_blocks` for a payload whose blocks contain this text; any other as `Judge`.
    RefuseBlocksWith(String),
    /// 400 `no_text` for a payload that contains this text anywhere; any other as `Judge`.
    Refuse(String),
    /// As `Judge`, after this delay.
    Late(Duration),
    /// No answer. The connection stays open.
    Hang,
    /// Exactly these bytes. Then the connection stays open. Nothing is posted.
    Raw(&'static [u8]),
    /// This status and an endless body. Nothing is posted.
    Endless(u16),
    /// The connection is reset before an answer. Nothing is posted.
    Reset,
    /// The message is posted, and the connection is reset in the middle of the answer.
    Cut,
    /// The message is posted, and the connection is reset before an answer.
    Lost,
}

/// The rate limit of a webhook.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// The average time between two posts.
    pub interval: Duration,
    /// How many posts are accepted at once after a pause; at least 1.
    pub burst: u32,
}

impl Rate {
    /// One a second. The burst is the smallest that tolerates a network's jitter.
    /// <https://docs.slack.dev/apis/web-api/rate-limits/>, "Posting messages": one a second, short bursts allowed.
    pub const SLACK: Self = Self { interval: Duration::from_secs(1), burst: 2 };
}

/// The kind of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// A post to a webhook.
    Webhook,
    /// `chat.postMessage`
    Post,
    /// `chat.update`
    Edit,
    /// `auth.test`
    Auth,
}

/// One request and its answer.
#[derive(Debug, Clone)]
pub struct Request {
    /// The webhook's name, which is the last part of its path. For the Web API: the channel's id.
    pub webhook: String,
    /// The kind of the request.
    pub method: Method,
    /// For the Web API: the id of the message that was posted or edited.
    pub ts: Option<String>,
    /// For the Web API: the id of the message in whose thread the reply is posted.
    pub thread_ts: Option<String>,
    /// The part of the path before the webhook's name. Webhooks of one name share everything; this part identifies the sender.
    pub app: String,
    /// When it arrived.
    pub at: Instant,
    /// The number of its connection, counted from 1.
    pub connection: u64,
    /// The payload; null if it was not JSON.
    pub payload: Value,
    /// The status of the answer; `None` if no complete answer was sent.
    pub status: Option<u16>,
    /// The body of the answer.
    pub reply: String,
    /// The Retry-After of the answer, in seconds.
    pub retry_after: Option<u64>,
    /// Whether its message was posted or edited.
    pub accepted: bool,
    /// Whether it arrived before an earlier Retry-After of this webhook had passed.
    pub violation: bool,
    /// When it arrived, in milliseconds since 1970.
    unix_ms: u128,
}

impl Request {
    /// Whether any text in the payload contains this text, which is escaped for Slack, not for JSON.
    pub fn mentions(&self, text: &str) -> bool {
        mentions(&self.payload, text)
    }
}

/// The stand-in. It ends when dropped.
pub struct Slack {
    address: SocketAddr,
    state: Shared,
    server: JoinHandle<()>,
}

type Shared = Arc<watch::Sender<Workspace>>;

struct Workspace {
    requests: Vec<Request>,
    /// The messages that the Web API posted, in their current state.
    messages: Vec<web_api::Message>,
    webhooks: HashMap<String, Webhook>,
    rate: Option<Rate>,
    /// Every connection that sent a request.
    connections: HashMap<u64, WeakConnection>,
}

#[derive(Default)]
struct Webhook {
    script: Script<Answer>,
    /// The end of the last Retry-After.
    closed_until: Option<Instant>,
    /// When the token bucket of posts is full again.
    full_at: Option<Instant>,
}

impl Slack {
    /// Starts one on a free port of 127.0.0.1, without a rate limit.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start() -> Result<Self> {
        Self::start_on(0, None).await
    }

    /// Starts one on this port of 127.0.0.1; 0 is a free port.
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn start_on(port: u16, rate: Option<Rate>) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(watch::Sender::new(Workspace {
            requests: Vec::new(),
            messages: Vec::new(),
            webhooks: HashMap::new(),
            rate,
            connections: HashMap::new(),
        }));
        let router = Router::new()
            .route("/", get(page::page))
            .route("/changes/after/{count}", get(page::changes))
            .route("/services/{team}/{app}/{name}", post(webhook))
            .route("/api/{method}", post(web_api::call))
            .route("/api/{app}/{method}", post(web_api::call_of))
            .with_state(state.clone())
            .into_make_service_with_connect_info::<Connection>();
        let listener = Connections::of(listener);
        let server = tokio::spawn(async move {
            // It ends only when it is aborted.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, state, server })
    }

    /// The URL of the page.
    pub fn page(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// A webhook's URL. Every name has a webhook.
    pub fn url(&self, name: &str) -> String {
        format!("http://{}/services/T00000000/B00000000/{name}", self.address)
    }

    /// The Web API's URL. Its token is [`web_api::TOKEN`], and every id that begins with `C` is a channel.
    pub fn api_url(&self) -> String {
        format!("http://{}/api/", self.address)
    }

    /// The Web API's URL for one of several senders, which [`Request::app`] identifies. They reach the stand-in at `address`.
    pub fn api_url_of(app: &str, address: SocketAddr) -> String {
        format!("http://{address}/api/{app}/")
    }

    /// The messages that the Web API posted to this channel, in order and in their current state.
    pub fn messages(&self, channel: &str) -> Vec<web_api::Message> {
        self.state.borrow().messages.iter().filter(|message| message.channel == channel).cloned().collect()
    }

    /// Deletes a message, as a person in Slack may do.
    pub fn delete_message(&self, channel: &str, ts: &str) {
        self.state.send_modify(|state| state.messages.retain(|m| m.channel != channel || m.ts != ts));
    }

    /// The address on which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets this webhook's answers to the next requests, one after the other.
    pub fn script(&self, webhook: &str, answers: impl IntoIterator<Item = Answer>) {
        self.configure(webhook, |script| script.once.extend(answers));
    }

    /// Sets this webhook's answer to every request after its script.
    pub fn always(&self, webhook: &str, answer: Answer) {
        self.configure(webhook, |script| script.always = answer);
    }

    /// Removes all scripts: every webhook answers as Slack does.
    pub fn calm(&self) {
        self.state
            .send_modify(|state| state.webhooks.values_mut().for_each(|webhook| webhook.script = Script::default()));
    }

    /// Drops everything that arrives on the connections so far, without a reset, as a NAT does after it has forgotten them.
    pub fn forget_connections(&self) {
        self.open_connections().iter().for_each(Connection::forget);
    }

    /// Closes the connections so far, as a server does with idle connections.
    pub fn close_connections(&self) {
        self.open_connections().iter().for_each(Connection::close);
    }

    /// Every request so far, in order.
    pub fn requests(&self) -> Vec<Request> {
        self.state.borrow().requests.clone()
    }

    /// The accepted requests so far, in order.
    pub fn accepted(&self) -> Vec<Request> {
        self.state.borrow().requests.iter().filter(|request| request.accepted).cloned().collect()
    }

    /// How many requests arrived before a Retry-After had passed.
    pub fn violations(&self) -> usize {
        self.state.borrow().requests.iter().filter(|request| request.violation).count()
    }

    /// Waits until the requests so far are as wanted, and returns them.
    ///
    /// # Errors
    /// After `limit`, with the requests so far and their answers.
    pub async fn wait_for(&self, wanted: impl Fn(&[Request]) -> bool, limit: Duration) -> Result<Vec<Request>> {
        let mut state = self.state.subscribe();
        let waited = tokio::time::timeout(limit, state.wait_for(|state| wanted(&state.requests))).await.map(drop);
        waited.with_context(|| {
            let requests = self.requests();
            let lines =
                requests.iter().map(|r| format!("\n  {}: {:?} {}: {}", r.webhook, r.status, r.reply, r.payload));
            format!("not within {limit:?}; Slack had {} requests:{}", requests.len(), lines.collect::<String>())
        })?;
        Ok(self.requests())
    }

    fn open_connections(&self) -> Vec<Connection> {
        self.state.borrow().connections.values().filter_map(WeakConnection::upgrade).collect()
    }

    fn configure(&self, webhook: &str, change: impl FnOnce(&mut Script<Answer>)) {
        self.state.send_modify(|state| change(&mut state.webhooks.entry(webhook.to_owned()).or_default().script));
    }
}

impl Drop for Slack {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// How the connection answers.
enum Reply {
    Whole(Response),
    Late(Response, Duration),
    Hang,
    Raw(&'static [u8]),
    Endless(u16),
    Reset,
    Cut,
}

async fn webhook(
    State(state): State<Shared>,
    Path((_team, app, name)): Path<(String, String, String)>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let json = headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    let payload = if json { serde_json::from_slice(&body).unwrap_or_default() } else { Value::Null };
    let mut reply = Reply::Hang;
    state.send_modify(|state| {
        state.connections.entry(connection.number).or_insert_with(|| connection.downgrade());
        reply = state.take(name, app, connection.number, payload);
    });
    match reply {
        Reply::Whole(response) => return response,
        Reply::Late(response, delay) => {
            tokio::time::sleep(delay).await;
            return response;
        }
        Reply::Hang => {}
        Reply::Raw(bytes) => connection.send(bytes),
        Reply::Endless(status) => {
            connection.send(format!("HTTP/1.1 {status} So\r\ntransfer-encoding: chunked\r\n\r\n").as_bytes());
            connection.send_endlessly(format!("1000\r\n{}\r\n", "x".repeat(0x1000)).as_bytes()).await;
        }
        Reply::Reset => connection.reset(b""),
        Reply::Cut => connection.reset(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\no"),
    }
    // Waits until the connection ends, which drops this future.
    std::future::pending().await
}

impl Workspace {
    /// Judges and records one request.
    fn take(&mut self, name: String, app: String, connection: u64, payload: Value) -> Reply {
        let now = Instant::now();
        let webhook = self.webhooks.entry(name.clone()).or_default();
        let closed = webhook.closed_until.filter(|until| now < *until);
        let answer = webhook.script.next();
        let retry_after = match &answer {
            Answer::RateLimited(seconds) | Answer::Unavailable(seconds) => Some(*seconds),
            Answer::Judge | Answer::RefuseBlocksWith(_) | Answer::Refuse(_) | Answer::Late(_) => match closed {
                Some(until) => Some(whole_seconds(until - now)),
                None => self.rate.and_then(|rate| webhook.wait(now, rate)),
            },
            _ => None,
        };
        if let Some(seconds) = retry_after {
            webhook.closed_until = closed.max(Some(now + Duration::from_secs(seconds)));
        }
        let judged = || match (limits::refusal(&payload), &answer) {
            (Some((status, reason)), _) => (Some(status), reason, false),
            (None, Answer::RefuseBlocksWith(text)) if blocks_mention(&payload, text) => {
                (Some(400), "invalid_blocks", false)
            }
            (None, Answer::Refuse(text)) if mentions(&payload, text) => (Some(400), "no_text", false),
            (None, _) => (Some(200), "ok", true),
        };
        let (status, body, accepted) = match &answer {
            Answer::Unavailable(_) => (Some(503), "", false),
            _ if retry_after.is_some() => (Some(429), "", false),
            Answer::Status(status, body) => (Some(*status), *body, false),
            Answer::Hang | Answer::Raw(_) | Answer::Endless(_) | Answer::Reset => (None, "", false),
            Answer::Cut => (None, "o", true),
            Answer::Lost => (None, "", true),
            _ => judged(),
        };
        let body = match retry_after {
            Some(seconds) => json!({ "retry_after": seconds, "ok": false, "error": "rate_limited" }).to_string(),
            None => body.to_owned(),
        };
        self.requests.push(Request {
            webhook: name,
            method: Method::Webhook,
            ts: None,
            thread_ts: None,
            app,
            at: now,
            connection,
            payload,
            status,
            reply: body.clone(),
            retry_after,
            accepted,
            violation: closed.is_some(),
            unix_ms: unix_ms(),
        });
        match answer {
            Answer::Hang => Reply::Hang,
            Answer::Raw(bytes) => Reply::Raw(bytes),
            Answer::Endless(status) => Reply::Endless(status),
            Answer::Reset | Answer::Lost => Reply::Reset,
            Answer::Cut => Reply::Cut,
            _ => {
                let status = status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or_default();
                let mut response = (status, body).into_response();
                if let Some(seconds) = retry_after {
                    response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
                }
                if let Answer::Late(delay) = answer { Reply::Late(response, delay) } else { Reply::Whole(response) }
            }
        }
    }
}

impl Webhook {
    /// Takes one post from the token bucket. If the bucket is empty, returns the seconds until it is not.
    fn wait(&mut self, now: Instant, rate: Rate) -> Option<u64> {
        let full_at = self.full_at.map_or(now, |at| at.max(now));
        let forgiven = rate.interval * rate.burst.saturating_sub(1);
        let missing = (full_at - now).saturating_sub(forgiven);
        if missing.is_zero() {
            self.full_at = Some(full_at + rate.interval);
            return None;
        }
        Some(whole_seconds(missing))
    }
}

fn unix_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()
}

/// Rounds up to whole seconds, because Retry-After has no fractions.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_millis().div_ceil(1000) as u64
}

fn blocks_mention(payload: &Value, text: &str) -> bool {
    let attachments = payload["attachments"].as_array().into_iter().flatten();
    attachments.chain([payload]).any(|holder| mentions(&holder["blocks"], text))
}

pub(crate) fn mentions(value: &Value, text: &str) -> bool {
    match value {
        Value::String(string) => string.contains(text),
        Value::Array(items) => items.iter().any(|item| mentions(item, text)),
        Value::Object(fields) => fields.values().any(|field| mentions(field, text)),
        _ => false,
    }
}
