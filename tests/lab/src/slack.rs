//! Slack's incoming webhooks, strict: they refuse what Slack refuses, with Slack's words; limit the rate if so started; and
//! fail in the ways that Slack and networks fail, on request. `/` is a page that shows the channels as people see them.
//!
//! Every request is recorded before it is answered, so a test awaits what it wants to see and never sleeps.

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
    /// As Slack does: `ok`, or the first thing that is wrong with the payload.
    #[default]
    Judge,
    /// This status and body whatever the payload: `(500, "rollup_error")`, `(403, "invalid_token")` … Nothing is posted: with
    /// 200 it is something on the way that answers.
    Status(u16, &'static str),
    /// 429 with this Retry-After, in seconds. Requests before it has passed are counted as violations.
    RateLimited(u64),
    /// 503 with this Retry-After, in seconds, which is to be obeyed as well.
    Unavailable(u64),
    /// 400 `invalid_blocks` for a payload whose blocks hold this text; as `Judge` for any other.
    RefuseBlocksWith(String),
    /// 400 `no_text` for a payload that holds this text anywhere; as `Judge` for any other.
    Refuse(String),
    /// As `Judge`, but so much later.
    Late(Duration),
    /// The connection stays open and no answer comes.
    Hang,
    /// These bytes as they are, and then nothing: the connection stays open. Nothing is posted.
    Raw(&'static [u8]),
    /// This status and a body without end. Nothing is posted.
    Endless(u16),
    /// The connection is reset before anything is answered, and nothing is posted.
    Reset,
    /// The message is posted, and the connection is reset in the middle of the answer.
    Cut,
    /// The message is posted, and the connection is reset before anything is answered.
    Lost,
}

/// How often a webhook may be posted to.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Between two posts, on the long run.
    pub interval: Duration,
    /// How many posts may come at once after a silence; at least 1.
    pub burst: u32,
}

impl Rate {
    /// One a second, with the least burst that forgives a network's jitter.
    /// <https://docs.slack.dev/apis/web-api/rate-limits/>, "Posting messages": one a second, short bursts allowed.
    pub const SLACK: Self = Self { interval: Duration::from_secs(1), burst: 2 };
}

/// What a request asks for.
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

/// One request, as it came and as it was answered.
#[derive(Debug, Clone)]
pub struct Request {
    /// Which webhook: the last part of its path. For the Web API: which channel, by its id.
    pub webhook: String,
    /// What was asked for.
    pub method: Method,
    /// The id of the message that was posted or is to be edited, by the Web API.
    pub ts: Option<String>,
    /// The id of the message in whose thread it is to stand, by the Web API.
    pub thread_ts: Option<String>,
    /// The app that it belongs to: the part before. Webhooks of one name share everything; this identifies the sender.
    pub app: String,
    /// When it arrived.
    pub at: Instant,
    /// The connection it came by, counted from 1.
    pub connection: u64,
    /// The payload; null if it was not JSON.
    pub payload: Value,
    /// The status answered; none if no whole answer was sent.
    pub status: Option<u16>,
    /// The body answered.
    pub reply: String,
    /// The Retry-After answered, in seconds.
    pub retry_after: Option<u64>,
    /// Whether people see it.
    pub accepted: bool,
    /// Whether it came while an earlier Retry-After of this webhook had not passed.
    pub violation: bool,
    /// When it arrived, in milliseconds since 1970.
    unix_ms: u128,
}

impl Request {
    /// Whether any text in the payload holds this, as it stands there (escaped for Slack, not for JSON).
    pub fn mentions(&self, text: &str) -> bool {
        mentions(&self.payload, text)
    }
}

/// A Slack of our own. It ends when dropped.
pub struct Slack {
    address: SocketAddr,
    state: Shared,
    server: JoinHandle<()>,
}

type Shared = Arc<watch::Sender<Workspace>>;

struct Workspace {
    requests: Vec<Request>,
    /// What the Web API posted, as people see it now.
    messages: Vec<web_api::Message>,
    webhooks: HashMap<String, Webhook>,
    rate: Option<Rate>,
    /// Every connection that a request came by.
    connections: HashMap<u64, WeakConnection>,
}

#[derive(Default)]
struct Webhook {
    script: Script<Answer>,
    /// Until when Retry-After forbids to post.
    closed_until: Option<Instant>,
    /// When the bucket of posts will be full again.
    full_at: Option<Instant>,
}

impl Slack {
    /// Starts one on a free port of 127.0.0.1, with no limit to the rate.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start() -> Result<Self> {
        Self::start_on(0, None).await
    }

    /// Starts one on this port of 127.0.0.1, 0 for a free one.
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
            // It only ends by being aborted.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, state, server })
    }

    /// Where the page is.
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

    /// The same for one of several senders: [`Request::app`] identifies them. `address` is where they reach this.
    pub fn api_url_of(app: &str, address: SocketAddr) -> String {
        format!("http://{address}/api/{app}/")
    }

    /// What the Web API posted to this channel, as people see it now, in order.
    pub fn messages(&self, channel: &str) -> Vec<web_api::Message> {
        self.state.borrow().messages.iter().filter(|message| message.channel == channel).cloned().collect()
    }

    /// Somebody deletes a message.
    pub fn delete_message(&self, channel: &str, ts: &str) {
        self.state.send_modify(|state| state.messages.retain(|m| m.channel != channel || m.ts != ts));
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How this webhook answers the next requests, one after the other.
    pub fn script(&self, webhook: &str, answers: impl IntoIterator<Item = Answer>) {
        self.configure(webhook, |script| script.once.extend(answers));
    }

    /// How this webhook answers every request from now on, once its script is done.
    pub fn always(&self, webhook: &str, answer: Answer) {
        self.configure(webhook, |script| script.always = answer);
    }

    /// Every webhook answers as Slack does from now on, whatever was scripted.
    pub fn calm(&self) {
        self.state
            .send_modify(|state| state.webhooks.values_mut().for_each(|webhook| webhook.script = Script::default()));
    }

    /// The network forgets the connections so far, as a NAT does: whatever is sent by them is dropped without a reset.
    pub fn forget_connections(&self) {
        self.open_connections().iter().for_each(Connection::forget);
    }

    /// The connections so far are closed, as a server does that has kept them long enough.
    pub fn close_connections(&self) {
        self.open_connections().iter().for_each(Connection::close);
    }

    /// Every request so far, in order.
    pub fn requests(&self) -> Vec<Request> {
        self.state.borrow().requests.clone()
    }

    /// The requests so far that people see, in order.
    pub fn accepted(&self) -> Vec<Request> {
        self.state.borrow().requests.iter().filter(|request| request.accepted).cloned().collect()
    }

    /// How many requests came inside a Retry-After.
    pub fn violations(&self) -> usize {
        self.state.borrow().requests.iter().filter(|request| request.violation).count()
    }

    /// Waits until the requests so far are as wanted; gives them.
    ///
    /// # Errors
    /// When `limit` has passed: what came, and how it was answered.
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

/// What is done on the wire.
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
    // Until the connection ends, which drops this.
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
    /// Takes one post out of the bucket, or returns the whole seconds until there is one in it.
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

/// Retry-After knows no fractions: rounded up.
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
