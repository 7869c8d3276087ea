//! The methods of Slack's Web API that a sender of alerts needs, such as `chat.postMessage`, `chat.update` and `auth.test`. They are as
//! strict as the webhooks, and refuse as the Web API does: with HTTP 200 and `"ok": false`.
//!
//! A channel's answers are scripted by its id (`C…`). Slack limits edits for the whole app, so their answers are scripted by [`EDITS`].

use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{Answer, Method, Rate, Request, Shared, Webhook, Workspace, limits, mentions, unix_ms, whole_seconds};
use crate::connection::Connection;

/// The name for scripts of the answers to `chat.update`, in every channel.
pub const EDITS: &str = "chat.update";
/// The name for scripts of the answers to `auth.test`.
pub const AUTH: &str = "auth.test";
/// The name for scripts of the answers to `conversations.info`: a [`Answer::Status`] or [`Answer::Reset`].
pub const INFO: &str = "conversations.info";
/// The name for scripts of the answers to `blocks.validate`, as for [`INFO`].
pub const VALIDATE: &str = "blocks.validate";
/// The token that this stand-in accepts. Any other is refused as `invalid_auth`.
pub const TOKEN: &str = "xoxb-000000000000-lab-open-sesame";
/// A token that may only read. Its posts are refused as `missing_scope`.
pub const READ_TOKEN: &str = "xoxb-000000000000-lab-look-only";

/// Fifty a minute for the whole app, in all channels together, and as many at once after a pause.
/// <https://docs.slack.dev/apis/web-api/rate-limits/>, Tier 3.
const EDIT_RATE: Rate = Rate { interval: Duration::from_millis(1_200), burst: 50 };

/// A message in its current state.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The channel's id.
    pub channel: String,
    /// Its id in the channel.
    pub ts: String,
    /// The `ts` of the message whose thread it is in.
    pub thread_ts: Option<String>,
    /// Whether a reply is shown in the channel too.
    pub broadcast: bool,
    /// The payload of the post or of the latest edit.
    pub payload: Value,
    /// How often it was edited.
    pub edits: usize,
}

impl Message {
    /// Whether any text in the payload contains this text, which is escaped for Slack, not for JSON.
    pub fn mentions(&self, text: &str) -> bool {
        mentions(&self.payload, text)
    }
}

pub(super) async fn call(
    State(state): State<Shared>,
    Path(method): Path<String>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(state, "api".to_owned(), method, connection, headers, body).await
}

pub(super) async fn call_of(
    State(state): State<Shared>,
    Path((app, method)): Path<(String, String)>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(state, app, method, connection, headers, body).await
}

async fn answer(
    state: Shared,
    app: String,
    method: String,
    connection: Connection,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let authorized = match token {
        Some(TOKEN) if method == INFO => Err("missing_scope"),
        Some(TOKEN) => Ok("chat:write,chat:write.public"),
        Some(READ_TOKEN) if [AUTH, INFO].contains(&&*method) => Ok("channels:read"),
        Some(READ_TOKEN) => Err("missing_scope"),
        _ => Err("invalid_auth"),
    };
    let payload: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut answered = Answered::of(StatusCode::OK, error("unknown_method"));
    state.send_modify(|workspace| {
        answered = workspace.answer(&method, app, authorized.map(drop), connection.number, payload)
    });
    match answered.wire {
        Wire::Whole => {}
        Wire::Late(delay) => tokio::time::sleep(delay).await,
        Wire::Hang => std::future::pending().await,
        Wire::Reset => {
            connection.reset(b"");
            std::future::pending().await
        }
    }
    let mut response = (answered.status, answered.body.to_string()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json; charset=utf-8"));
    if let Ok(scopes) = authorized {
        headers.insert("x-oauth-scopes", header::HeaderValue::from_static(scopes));
    }
    if let Some(seconds) = answered.retry_after {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

enum Wire {
    Whole,
    Late(Duration),
    Hang,
    Reset,
}

struct Answered {
    status: StatusCode,
    body: Value,
    retry_after: Option<u64>,
    wire: Wire,
}

impl Answered {
    fn of(status: StatusCode, body: Value) -> Self {
        Self { status, body, retry_after: None, wire: Wire::Whole }
    }
}

fn error(code: &str) -> Value {
    json!({ "ok": false, "error": code })
}

impl Workspace {
    /// Judges and records one call.
    fn answer(
        &mut self,
        method: &str,
        app: String,
        authorized: Result<(), &'static str>,
        connection: u64,
        payload: Value,
    ) -> Answered {
        let (method, key) = match method {
            "chat.postMessage" => (Method::Post, payload["channel"].as_str().unwrap_or_default().to_owned()),
            "chat.update" => (Method::Edit, EDITS.to_owned()),
            "auth.test" => (Method::Auth, AUTH.to_owned()),
            INFO => {
                let answer = json!({ "ok": true, "channel": { "id": payload["channel"], "is_member": false } });
                return self.answer_question(INFO, authorized.map_or_else(error, |()| answer));
            }
            VALIDATE => {
                let message =
                    payload["message"].as_str().and_then(|message| serde_json::from_str::<Value>(message).ok());
                let fault = message.map_or(Some((400, "invalid_message")), |message| limits::refusal(&message));
                let answer = fault.map_or(json!({ "ok": true }), |_| error("invalid_message"));
                return self.answer_question(VALIDATE, answer);
            }
            _ => return Answered::of(StatusCode::OK, error("unknown_method")),
        };
        let now = Instant::now();
        let rate = match method {
            Method::Edit => self.rate.map(|_| EDIT_RATE),
            _ => self.rate.filter(|_| method == Method::Post),
        };
        let scripted: &mut Webhook = self.webhooks.entry(key).or_default();
        let closed = scripted.closed_until.filter(|until| now < *until);
        let answer = scripted.script.next();
        let retry_after = match &answer {
            Answer::RateLimited(seconds) | Answer::Unavailable(seconds) => Some(*seconds),
            Answer::Judge | Answer::Late(_) => match closed {
                Some(until) => Some(whole_seconds(until - now)),
                None => rate.and_then(|rate| scripted.wait(now, rate)),
            },
            _ => None,
        };
        if let Some(seconds) = retry_after {
            scripted.closed_until = closed.max(Some(now + Duration::from_secs(seconds)));
        }
        let mut answered = match (&answer, retry_after) {
            (Answer::Unavailable(_), _) => Answered::of(StatusCode::SERVICE_UNAVAILABLE, error("service_unavailable")),
            (_, Some(_)) => Answered::of(StatusCode::TOO_MANY_REQUESTS, error("ratelimited")),
            (Answer::Status(status, body), None) => {
                let body = serde_json::from_str(body).unwrap_or_else(|_| error(body));
                Answered::of(StatusCode::from_u16(*status).unwrap_or_default(), body)
            }
            _ if authorized.is_err() => Answered::of(StatusCode::OK, error(authorized.err().unwrap_or_default())),
            (Answer::Hang, None) => Answered { wire: Wire::Hang, ..Answered::of(StatusCode::OK, Value::Null) },
            (Answer::Reset, None) => Answered { wire: Wire::Reset, ..Answered::of(StatusCode::OK, Value::Null) },
            _ => Answered::of(StatusCode::OK, self.carry_out(method, &answer, &payload)),
        };
        answered.retry_after = retry_after;
        let accepted = answered.body["ok"] == true && method != Method::Auth;
        match answer {
            Answer::Late(delay) => answered.wire = Wire::Late(delay),
            Answer::Lost | Answer::Cut => answered.wire = Wire::Reset,
            _ => {}
        }
        let whole = matches!(answered.wire, Wire::Whole | Wire::Late(_));
        let text = |name: &str| payload[name].as_str().map(str::to_owned);
        self.requests.push(Request {
            webhook: text("channel").unwrap_or_default(),
            app,
            method,
            at: now,
            connection,
            ts: if method == Method::Post { answered.body["ts"].as_str().map(str::to_owned) } else { text("ts") },
            thread_ts: text("thread_ts"),
            status: whole.then_some(answered.status.as_u16()),
            reply: answered.body.to_string(),
            retry_after,
            accepted,
            violation: closed.is_some(),
            unix_ms: unix_ms(),
            payload,
        });
        answered
    }

    /// Answers a call that changes nothing, which is not recorded: as scripted, else with `usual`.
    fn answer_question(&mut self, method: &str, usual: Value) -> Answered {
        match self.webhooks.entry(method.to_owned()).or_default().script.next() {
            Answer::Status(status, body) => {
                let body = serde_json::from_str(body).unwrap_or_else(|_| error(body));
                Answered::of(StatusCode::from_u16(status).unwrap_or_default(), body)
            }
            Answer::Reset => Answered { wire: Wire::Reset, ..Answered::of(StatusCode::OK, usual) },
            _ => Answered::of(StatusCode::OK, usual),
        }
    }

    /// Posts, edits or answers `auth.test`; or returns the error.
    fn carry_out(&mut self, method: Method, answer: &Answer, payload: &Value) -> Value {
        if method == Method::Auth {
            return json!({ "ok": true, "team": "Lab", "team_id": "T00000000", "user": "ecs-alerts", "bot_id": "B00000000" });
        }
        let text = |name: &str| payload[name].as_str().map(str::to_owned);
        let Some(channel) = text("channel").filter(|channel| channel.starts_with('C')) else {
            return error("channel_not_found");
        };
        let refused = match (limits::refusal(payload), answer) {
            (Some((_, reason)), _) => Some(reason),
            (None, Answer::RefuseBlocksWith(text)) if super::blocks_mention(payload, text) => Some("invalid_blocks"),
            (None, Answer::Refuse(text)) if mentions(payload, text) => Some("no_text"),
            _ => None,
        };
        if let Some(reason) = refused {
            return error(reason);
        }
        match method {
            Method::Edit => {
                let Some(ts) = text("ts") else { return error("message_not_found") };
                let found = self.messages.iter_mut().find(|message| message.channel == channel && message.ts == ts);
                let Some(message) = found else { return error("message_not_found") };
                message.payload = payload.clone();
                message.edits += 1;
                json!({ "ok": true, "channel": channel, "ts": ts, "text": payload["text"] })
            }
            _ => {
                let thread_ts = text("thread_ts");
                let is_there = |ts: &String| self.messages.iter().any(|m| m.channel == channel && m.ts == *ts);
                if thread_ts.as_ref().is_some_and(|ts| !is_there(ts)) {
                    return error("thread_not_found");
                }
                let ts = format!("{}.{:06}", unix_ms() / 1000, self.messages.len() + 1);
                let broadcast = payload["reply_broadcast"] == true;
                let message = Message {
                    channel: channel.clone(),
                    ts: ts.clone(),
                    thread_ts,
                    broadcast,
                    payload: payload.clone(),
                    edits: 0,
                };
                self.messages.push(message);
                json!({ "ok": true, "channel": channel, "ts": ts })
            }
        }
    }
}
