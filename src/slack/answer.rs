//! What Slack's answer to one request means to the sender. Pure.
//!
//! The answer may come from Slack, or from something on the way: a proxy, a firewall's login page. Invariants: only the body that
//! Slack documents counts as success, and the text of a body that is not Slack's is never shown.

use std::time::Duration;

use reqwest::{
    StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc2822};

use crate::metrics::SlackOutcome;

/// A message in Slack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageRef {
    /// The id of its channel.
    pub channel: String,
    /// Its own id there.
    pub ts: String,
}

/// The result of one request. <https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks#handling_errors>
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlackAnswer {
    /// 2xx with the body that Slack documents for success: Slack has the message. The Web API returns where it is.
    Accepted(Option<MessageRef>),
    /// 429, and how long Slack asks us to wait, if it says so.
    RateLimited(Option<Duration>),
    /// 5xx, or an undocumented answer: a description, and how long to wait before a retry, if the answer says so.
    ServerError(String, Option<Duration>),
    /// No answer, no answer in time, or an incomplete one. Slack may or may not have the message.
    NetworkError(String),
    /// Slack refuses the message. A retry with the same message cannot succeed.
    PayloadRefused(String),
    /// Slack refuses the destination: the webhook or token is revoked, the channel is archived …
    TargetRefused(String),
    /// The message to edit or reply to no longer exists.
    MessageGone(String),
}

impl SlackAnswer {
    /// The label of this answer in the metrics.
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

impl std::fmt::Display for SlackAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Accepted(_) => f.write_str("accepted"),
            Self::RateLimited(Some(wait)) => write!(f, "rate limited for {} s", wait.as_secs()),
            Self::RateLimited(None) => f.write_str("rate limited"),
            Self::ServerError(what, _) => write!(f, "answered {what}"),
            Self::NetworkError(what) => f.write_str(what),
            Self::PayloadRefused(code) => write!(f, "refused the message: {code}"),
            Self::TargetRefused(code) => write!(f, "refused the webhook, token or channel: {code}"),
            Self::MessageGone(code) => write!(f, "no longer has the message: {code}"),
        }
    }
}

/// Classifies a webhook's answer: by the error code in the body that Slack documents, else by the status.
pub(super) fn classify(status: StatusCode, headers: &HeaderMap, body: &str) -> SlackAnswer {
    if status == StatusCode::TOO_MANY_REQUESTS {
        return SlackAnswer::RateLimited(retry_after(headers, body));
    }
    let content = Body::of(status, body);
    if status.is_server_error() {
        return SlackAnswer::ServerError(content.with_status(status), retry_after(headers, body));
    }
    if status.is_success() && content == Body::Ok {
        return SlackAnswer::Accepted(None);
    }
    let code = match &content {
        Body::Code(code) => code.as_str(),
        Body::Ok | Body::Foreign => "",
    };
    match code {
        "invalid_payload"
        | "no_text"
        | "too_many_attachments"
        | "invalid_blocks"
        | "invalid_attachments"
        | "msg_too_long"
        | "msg_blocks_too_long"
        | "user_not_found" => return SlackAnswer::PayloadRefused(code.into()),
        "action_prohibited"
        | "invalid_token"
        | "posting_to_general_channel_denied"
        | "no_service"
        | "no_service_id"
        | "no_team"
        | "no_active_hooks"
        | "channel_not_found"
        | "channel_is_archived"
        | "team_disabled" => return SlackAnswer::TargetRefused(code.into()),
        "rate_limited" | "ratelimited" => return SlackAnswer::RateLimited(retry_after(headers, body)),
        _ => {}
    }
    let what = if code.is_empty() { status.to_string() } else { code.to_owned() };
    match status.as_u16() {
        400 | 413 | 422 => SlackAnswer::PayloadRefused(what),
        401 | 403 | 404 | 405 | 410 | 300..=399 => SlackAnswer::TargetRefused(what),
        200..=299 if code.is_empty() => {
            let what = format!("{status}, but not as Slack does: is a proxy in the way?");
            SlackAnswer::ServerError(what, retry_after(headers, body))
        }
        _ => SlackAnswer::ServerError(content.with_status(status), retry_after(headers, body)),
    }
}

/// The content of an answer's body.
#[derive(Debug, PartialEq, Eq)]
enum Body {
    /// `ok`, or a JSON object with `"ok": true`.
    Ok,
    /// An error code: `error` of a JSON object, or the whole body if the status is an error too.
    Code(String),
    /// Anything else. It may come from a proxy, so it is not shown.
    Foreign,
}

impl Body {
    fn of(status: StatusCode, body: &str) -> Self {
        let body = body.trim();
        if body == "ok" {
            return Self::Ok;
        }
        let is_code = |text: &str| {
            (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
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

    /// The status, and the error code if there is one.
    fn with_status(&self, status: StatusCode) -> String {
        match self {
            Self::Code(code) => format!("{status} ({code})"),
            Self::Ok | Self::Foreign => status.to_string(),
        }
    }
}

/// How long to wait, in whole seconds: from the header or, without one, from the body. A proxy's header may also be a date. At
/// most a day, because an instant cannot hold every number of seconds. <https://docs.slack.dev/apis/web-api/rate-limits>,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16) -> StatusCode {
        StatusCode::from_u16(status).unwrap()
    }

    #[test]
    fn each_documented_answer_has_its_class() {
        let payload = |code: &str| SlackAnswer::PayloadRefused(code.into());
        let webhook = |code: &str| SlackAnswer::TargetRefused(code.into());
        let server = |what: &str| SlackAnswer::ServerError(what.into(), None);
        for (code, body, expected) in [
            (200, "ok", SlackAnswer::Accepted(None)),
            (200, "ok\n", SlackAnswer::Accepted(None)),
            (201, r#"{"ok":true,"ts":"1.2"}"#, SlackAnswer::Accepted(None)),
            (200, r#"{"ok":false,"error":"no_service"}"#, webhook("no_service")),
            (200, r#"{"ok":false,"error":"invalid_blocks"}"#, payload("invalid_blocks")),
            (200, r#"{"ok":false,"error":"internal_error"}"#, server("200 OK (internal_error)")),
            (200, r#"{"ok":false,"error":"ratelimited"}"#, SlackAnswer::RateLimited(None)),
            (429, "", SlackAnswer::RateLimited(None)),
            (429, "ok", SlackAnswer::RateLimited(None)),
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
            assert_eq!(classify(status(code), &HeaderMap::new(), body), expected, "{code} {body}");
        }
    }

    #[test]
    fn a_success_without_slacks_body_is_a_failure_and_its_body_is_not_shown() {
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
            let answer = classify(status(code), &HeaderMap::new(), body);
            assert!(matches!(answer, SlackAnswer::ServerError(..)), "{code} {body}: {answer:?}");
            let text = answer.to_string();
            assert!(text.contains(&code.to_string()) && text.contains("is a proxy in the way?"), "{text}");
            assert!(!text.contains("secret") && !text.contains("queued") && !text.contains("policy"), "{text}");
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
    fn retry_after_may_be_in_the_body_only() {
        let body = r#"{"retry_after":7,"ok":false,"error":"rate_limited"}"#;
        let seven = Some(Duration::from_secs(7));
        assert_eq!(retry_after(&HeaderMap::new(), body), seven);
        assert_eq!(classify(status(200), &HeaderMap::new(), body), SlackAnswer::RateLimited(seven));
        assert_eq!(retry_after(&HeaderMap::new(), "rate_limited"), None);
    }
}
