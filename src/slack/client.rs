//! One HTTP request to a webhook, and what Slack's answer means for the sender. Knows nothing of alerts.
//!
//! What answers may be Slack, or something on the way: a proxy, a firewall's login page. Invariants: an answer is read within
//! bounds of size and time whatever it is; only Slack's own word counts as success; a foreign body is never repeated; and the
//! webhook's URL never leaves this file: transport errors are stripped of it.

use std::{error::Error, io, time::Duration};

use reqwest::{
    RequestBuilder, Response, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER},
    redirect::Policy,
};
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc2822};
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::{
    channel::Destination,
    message::Payload,
    target::{Bot, Target},
};
use crate::{metrics::SlackOutcome, webhook::Webhook};

/// How long one post may take in all.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// So much of an answer is read, in bytes; what comes after it is not Slack's.
const MAX_BODY: usize = 64 * 1024;

/// A connection is kept so long for the next post: less than any NAT or firewall on the way remembers it.
const KEEP_IDLE: Duration = Duration::from_secs(30);

/// A connection at rest is probed so often, which keeps it in the memory of a NAT and shows when it has left it. Not before a
/// request's time is up: an answer that takes its time is no sign of death.
const PROBE_EVERY: Duration = TIMEOUT;

/// A connection whose other end acknowledges nothing for so long is dead.
const UNACKNOWLEDGED: Duration = Duration::from_secs(3);

/// A message that Slack keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageRef {
    /// The id of its channel.
    pub channel: String,
    /// Its own id there.
    pub ts: String,
}

/// What came of one request. <https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks#handling_errors>
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// 2xx, and Slack's own word for success: Slack has it. The Web API says where.
    Accepted(Option<MessageRef>),
    /// 429, and how long Slack wants to be left alone, if it said.
    RateLimited(Option<Duration>),
    /// 5xx, or an answer that nobody documents: what it was, and after how long to try again, if that was said.
    ServerError(String, Option<Duration>),
    /// No answer, none in time, or not the whole of it; Slack may or may not have the message.
    NetworkError(String),
    /// Slack does not like what was sent; the same again is pointless.
    PayloadRefused(String),
    /// Slack does not like where it was sent: the webhook or token is revoked, the channel archived …
    TargetRefused(String),
    /// The message that was to be edited or replied to is gone.
    MessageGone(String),
}

impl Answer {
    /// As it is counted.
    pub const fn outcome(&self) -> SlackOutcome {
        match self {
            Self::Accepted(_) => SlackOutcome::Ok,
            Self::RateLimited(_) => SlackOutcome::RateLimited,
            Self::ServerError(..) => SlackOutcome::ServerError,
            Self::NetworkError(_) => SlackOutcome::NetworkError,
            Self::PayloadRefused(_) | Self::TargetRefused(_) | Self::MessageGone(_) => SlackOutcome::Refused,
        }
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Accepted(_) => f.write_str("accepted"),
            Self::RateLimited(Some(wait)) => write!(f, "rate limited for {} s", wait.as_secs()),
            Self::RateLimited(None) => f.write_str("rate limited"),
            Self::ServerError(what, _) => write!(f, "answered {what}"),
            Self::NetworkError(what) => f.write_str(what),
            Self::PayloadRefused(code) => write!(f, "refused the message: {code}"),
            Self::TargetRefused(code) => write!(f, "refused where it was sent: {code}"),
            Self::MessageGone(code) => write!(f, "no longer has the message: {code}"),
        }
    }
}

/// Posts payloads. Cheap to clone; clones share the connections.
#[derive(Debug, Clone)]
pub struct Client(reqwest::Client);

impl Client {
    /// From what knows proxies and certificates ([`crate::outbound`]), with connections kept for the next post and redirects
    /// not followed: a webhook has no reason to send us elsewhere.
    ///
    /// # Errors
    /// When the TLS back end cannot be set up, for example without any CA certificates.
    pub fn new(client: reqwest::ClientBuilder) -> Result<Self, reqwest::Error> {
        let client = client
            .connect_timeout(Duration::from_secs(5))
            .pool_idle_timeout(KEEP_IDLE)
            .tcp_keepalive(PROBE_EVERY)
            .tcp_keepalive_interval(UNACKNOWLEDGED)
            .redirect(Policy::none())
            .user_agent(concat!("ecs-slack-alerts/", env!("CARGO_PKG_VERSION")));
        #[cfg(target_os = "linux")]
        let client = client.tcp_user_timeout(UNACKNOWLEDGED);
        Ok(Self(client.build()?))
    }

    /// Sends a payload to its destination, giving up after `timeout`. A webhook has only its channel for one.
    pub async fn send(&self, target: &Target, to: &Destination, payload: &Payload, timeout: Duration) -> Answer {
        match target {
            Target::Webhook(webhook) => self.post(webhook, payload.body(), timeout).await,
            Target::Bot(bot) => self.call(bot, to, payload, timeout).await,
        }
    }

    async fn post(&self, webhook: &Webhook, body: String, timeout: Duration) -> Answer {
        let request = || {
            let post = self.0.post(webhook.expose().clone());
            post.header(CONTENT_TYPE, "application/json; charset=utf-8").body(body.clone())
        };
        match exchange(request, timeout).await {
            Ok((status, headers, body)) => judge(status, &headers, &body),
            Err(answer) => answer,
        }
    }

    /// Asks a method of the Web API.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub(super) async fn ask(
        &self,
        bot: &Bot,
        method: &str,
        body: &Value,
        timeout: Duration,
    ) -> Result<(StatusCode, HeaderMap, String), Answer> {
        // The configuration has checked that the base is one, and the method is a constant.
        let url = bot.api.join(method).map_err(|error| Answer::NetworkError(error.to_string()))?;
        let mut token = HeaderValue::try_from(format!("Bearer {}", bot.token.expose()))
            .map_err(|_| Answer::TargetRefused("the bot token cannot stand in a header".into()))?;
        token.set_sensitive(true);
        let body = body.to_string();
        let request = || {
            let call = self.0.post(url.clone()).header(AUTHORIZATION, token.clone());
            call.header(CONTENT_TYPE, "application/json; charset=utf-8").body(body.clone())
        };
        exchange(request, timeout).await
    }
}

/// One request and its whole answer.
///
/// # Errors
/// When there is no whole answer to understand.
async fn exchange(
    request: impl Fn() -> RequestBuilder,
    timeout: Duration,
) -> Result<(StatusCode, HeaderMap, String), Answer> {
    let sent = async {
        match request().send().await {
            // The connection was kept from an earlier request, and has died since. A new one is quicker than a pause.
            Err(error) if !error.is_connect() && nothing_arrived(&error) => {
                debug!(error = describe(error), "a kept connection to Slack was dead; asking by a new one");
                request().send().await
            }
            sent => sent,
        }
    };
    let deadline = Instant::now() + timeout;
    let response = match timeout_at(deadline, sent).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return Err(Answer::NetworkError(format!("not reached: {}", describe(error)))),
        Err(_) => return Err(Answer::NetworkError(format!("gave no answer within {timeout:?}"))),
    };
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = Vec::new();
    match timeout_at(deadline, read_body(response, &mut body)).await {
        Ok(Ok(true)) => {}
        // Slack's answers are short.
        Ok(Ok(false)) => body.clear(),
        // The word that would make it a success is missing. A failure is one by its status, too.
        _ if status.is_success() => {
            let what = format!("answered {status}, but not to the end; it may have the message");
            return Err(Answer::NetworkError(what));
        }
        _ => {}
    }
    Ok((status, headers, String::from_utf8_lossy(&body).into_owned()))
}

/// Reads an answer into `body`, up to 64 KiB; whether that is all of it.
///
/// # Errors
/// When it breaks off; `body` has what came before.
pub async fn read_body(mut response: Response, body: &mut Vec<u8>) -> Result<bool, reqwest::Error> {
    while let Some(chunk) = response.chunk().await? {
        let room = MAX_BODY - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What an answer means: by Slack's documented word in the body, else by the status.
fn judge(status: StatusCode, headers: &HeaderMap, body: &str) -> Answer {
    if status == StatusCode::TOO_MANY_REQUESTS {
        return Answer::RateLimited(retry_after(headers, body));
    }
    let word = Word::of(status, body);
    if status.is_server_error() {
        return Answer::ServerError(word.beside(status), retry_after(headers, body));
    }
    if status.is_success() && word == Word::Ok {
        return Answer::Accepted(None);
    }
    let code = match &word {
        Word::Code(code) => code.as_str(),
        Word::Ok | Word::Foreign => "",
    };
    match code {
        "invalid_payload"
        | "no_text"
        | "too_many_attachments"
        | "invalid_blocks"
        | "invalid_attachments"
        | "msg_too_long"
        | "msg_blocks_too_long"
        | "user_not_found" => return Answer::PayloadRefused(code.into()),
        "action_prohibited"
        | "invalid_token"
        | "posting_to_general_channel_denied"
        | "no_service"
        | "no_service_id"
        | "no_team"
        | "no_active_hooks"
        | "channel_not_found"
        | "channel_is_archived"
        | "team_disabled" => return Answer::TargetRefused(code.into()),
        "rate_limited" | "ratelimited" => return Answer::RateLimited(retry_after(headers, body)),
        _ => {}
    }
    let what = if code.is_empty() { status.to_string() } else { code.to_owned() };
    match status.as_u16() {
        400 | 413 | 422 => Answer::PayloadRefused(what),
        401 | 403 | 404 | 405 | 410 | 300..=399 => Answer::TargetRefused(what),
        200..=299 if code.is_empty() => {
            let what = format!("{status}, but not as Slack does: is a proxy in the way?");
            Answer::ServerError(what, retry_after(headers, body))
        }
        _ => Answer::ServerError(word.beside(status), retry_after(headers, body)),
    }
}

/// What a body says, if it is Slack's.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    /// `ok`, or a JSON object with `"ok": true`.
    Ok,
    /// An error's name: as `error` of a JSON object, or alone where the status is an error too.
    Code(String),
    /// Anything else. It may come from a proxy on the way and is not repeated.
    Foreign,
}

impl Word {
    fn of(status: StatusCode, body: &str) -> Self {
        let body = body.trim();
        if body == "ok" {
            return Self::Ok;
        }
        let is_code = |word: &str| {
            (1..=64).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        };
        if !status.is_success() && is_code(body) {
            return Self::Code(body.to_owned());
        }
        let Ok(Value::Object(fields)) = serde_json::from_str(body) else { return Self::Foreign };
        match (fields.get("ok"), fields.get("error")) {
            (Some(Value::Bool(true)), _) => Self::Ok,
            (Some(Value::Bool(false)), Some(Value::String(code))) if is_code(code) => Self::Code(code.clone()),
            _ => Self::Foreign,
        }
    }

    /// The status, and the error's name if there is one.
    fn beside(&self, status: StatusCode) -> String {
        match self {
            Self::Code(code) => format!("{status} ({code})"),
            Self::Ok | Self::Foreign => status.to_string(),
        }
    }
}

/// How long to wait, in whole seconds from the header or, without one, the body; a proxy's header may also be a date. At most
/// a day, for no clock holds every number. <https://docs.slack.dev/apis/web-api/rate-limits>,
/// <https://www.rfc-editor.org/rfc/rfc9110#field.retry-after>
pub(super) fn retry_after(headers: &HeaderMap, body: &str) -> Option<Duration> {
    let header = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::trim);
    let seconds = || header?.parse::<u64>().ok();
    let date = || {
        let left = OffsetDateTime::parse(header?, &Rfc2822).ok()? - OffsetDateTime::now_utc();
        Some(u64::try_from(left.whole_seconds() + 1).unwrap_or_default())
    };
    let body = || serde_json::from_str::<Value>(body).ok()?.get("retry_after")?.as_u64();
    seconds().or_else(date).or_else(body).map(|seconds| Duration::from_secs(seconds.min(24 * 3600)))
}

/// True only where the kernel gave a connection up because the other end acknowledged nothing of what was sent. (What could not
/// even be sent, because a kept connection had been closed, reqwest sends again by itself.)
fn nothing_arrived(error: &reqwest::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The whole chain of a transport error, without the URL.
fn describe(error: reqwest::Error) -> String {
    format!("{:#}", anyhow::Error::from(error.without_url()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16) -> StatusCode {
        StatusCode::from_u16(status).unwrap()
    }

    #[test]
    fn slacks_answers_mean_what_slack_documents() {
        let payload = |code: &str| Answer::PayloadRefused(code.into());
        let webhook = |code: &str| Answer::TargetRefused(code.into());
        let server = |what: &str| Answer::ServerError(what.into(), None);
        for (code, body, expected) in [
            (200, "ok", Answer::Accepted(None)),
            (200, "ok\n", Answer::Accepted(None)),
            (201, r#"{"ok":true,"ts":"1.2"}"#, Answer::Accepted(None)),
            (200, r#"{"ok":false,"error":"no_service"}"#, webhook("no_service")),
            (200, r#"{"ok":false,"error":"invalid_blocks"}"#, payload("invalid_blocks")),
            (200, r#"{"ok":false,"error":"internal_error"}"#, server("200 OK (internal_error)")),
            (200, r#"{"ok":false,"error":"ratelimited"}"#, Answer::RateLimited(None)),
            (429, "", Answer::RateLimited(None)),
            (429, "ok", Answer::RateLimited(None)),
            (500, "rollup_error", server("500 Internal Server Error (rollup_error)")),
            (503, "<html>", server("503 Service Unavailable")),
            (503, "ok", server("503 Service Unavailable")),
            (400, "invalid_payload", payload("invalid_payload")),
            (400, "no_text\n", payload("no_text")),
            (400, "user_not_found", payload("user_not_found")),
            (400, "something new and long", payload("400 Bad Request")),
            (403, "invalid_token", webhook("invalid_token")),
            (403, r#"{"ok":false,"error":"invalid_token"}"#, webhook("invalid_token")),
            (403, "action_prohibited", webhook("action_prohibited")),
            (404, "no_service", webhook("no_service")),
            (400, "no_team", webhook("no_team")),
            (410, "channel_is_archived", webhook("channel_is_archived")),
            (302, "", webhook("302 Found")),
            (408, "", server("408 Request Timeout")),
        ] {
            assert_eq!(judge(status(code), &HeaderMap::new(), body), expected, "{code} {body}");
        }
    }

    #[test]
    fn a_success_that_slack_would_not_put_so_is_none_and_is_not_repeated() {
        for (code, body) in [
            (200, ""),
            (204, ""),
            (200, "o"),
            (200, "OK"),
            (200, "okay"),
            (200, "ok ok"),
            (200, "secret"),
            (200, "<html><body>ok</body></html>"),
            (200, r#"{"ok":"true"}"#),
            (200, r#"{"ok":false}"#),
            (200, r#"{"ok":false,"error":"See <b>our</b> secret policy"}"#),
            (200, r#"{"status":"ok"}"#),
            (200, r#"["ok"]"#),
            (200, r#""ok""#),
            (200, "true"),
            (202, "queued"),
        ] {
            let answer = judge(status(code), &HeaderMap::new(), body);
            assert!(matches!(answer, Answer::ServerError(..)), "{code} {body}: {answer:?}");
            let said = answer.to_string();
            assert!(said.contains(&code.to_string()) && said.contains("is a proxy in the way?"), "{said}");
            assert!(!said.contains("secret") && !said.contains("queued") && !said.contains("policy"), "{said}");
        }
    }

    #[test]
    fn retry_after_is_whole_seconds_or_a_date_or_nothing() {
        for (value, expected) in [
            ("30", Some(30)),
            (" 1 ", Some(1)),
            ("18446744073709551615", Some(86_400)),
            ("Wed, 21 Oct 2015 07:28:00 GMT", Some(0)),
            ("Fri, 31 Dec 2199 23:59:59 GMT", Some(86_400)),
            ("-1", None),
            ("soon", None),
            ("1.5", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
            assert_eq!(retry_after(&headers, ""), expected.map(Duration::from_secs), "{value}");
        }
    }

    #[test]
    fn a_body_may_say_what_the_header_does_not() {
        let body = r#"{"retry_after":7,"ok":false,"error":"rate_limited"}"#;
        let seven = Some(Duration::from_secs(7));
        assert_eq!(retry_after(&HeaderMap::new(), body), seven);
        assert_eq!(judge(status(200), &HeaderMap::new(), body), Answer::RateLimited(seven));
        assert_eq!(retry_after(&HeaderMap::new(), "rate_limited"), None);
    }

    #[tokio::test]
    async fn a_transport_error_does_not_show_the_webhook() {
        let hosts = crate::webhook::AllowedHosts::new(["127.0.0.1".into()]).unwrap();
        // Port 9 (discard) refuses: nothing listens there.
        let webhook = hosts.check("http://127.0.0.1:9/services/secret").unwrap();
        let answer = Client::new(reqwest::Client::builder()).unwrap().post(&webhook, "{}".into(), TIMEOUT).await;
        assert!(matches!(&answer, Answer::NetworkError(_)), "{answer:?}");
        assert!(!format!("{answer:?} {answer}").contains("secret"), "{answer:?}");
    }
}
