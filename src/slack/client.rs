//! One HTTP request to a webhook, and what Slack's answer means for the sender. Knows nothing of alerts.
//!
//! The webhook's URL never leaves this file: transport errors are stripped of it.

use std::time::Duration;

use reqwest::{
    StatusCode,
    header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER},
    redirect::Policy,
};
use tracing::debug;

use crate::webhook::Webhook;

/// How long one post may take in all.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// What came of one request. <https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks#handling_errors>
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// 2xx: Slack has it.
    Accepted,
    /// 429, and how long Slack wants to be left alone, if it said.
    RateLimited(Option<Duration>),
    /// 5xx, or an answer that nobody documents: try again, when it was said after how long then.
    ServerError(StatusCode, Option<Duration>),
    /// No answer, or none in time; Slack may or may not have it.
    NetworkError(String),
    /// Slack does not like what was sent; the same again is pointless.
    PayloadRefused(String),
    /// Slack does not like where it was sent: the webhook is revoked, its channel archived …
    WebhookRefused(String),
}

impl Answer {
    /// The values of the label `outcome` of `slack_requests_total`.
    pub const LABELS: [&'static str; 5] = ["ok", "rate_limited", "server_error", "network_error", "refused"];

    /// This answer's label.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Accepted => "ok",
            Self::RateLimited(_) => "rate_limited",
            Self::ServerError(..) => "server_error",
            Self::NetworkError(_) => "network_error",
            Self::PayloadRefused(_) | Self::WebhookRefused(_) => "refused",
        }
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Accepted => f.write_str("accepted"),
            Self::RateLimited(Some(wait)) => write!(f, "rate limited for {} s", wait.as_secs()),
            Self::RateLimited(None) => f.write_str("rate limited"),
            Self::ServerError(status, _) => write!(f, "answered {status}"),
            Self::NetworkError(what) => write!(f, "not reached: {what}"),
            Self::PayloadRefused(code) => write!(f, "refused the message: {code}"),
            Self::WebhookRefused(code) => write!(f, "refused the webhook: {code}"),
        }
    }
}

/// Posts payloads. Cheap to clone; clones share the connections.
#[derive(Debug, Clone)]
pub struct Client(reqwest::Client);

impl Client {
    /// With connections kept for the next post and redirects not followed: a webhook has no reason to send us elsewhere.
    ///
    /// # Errors
    /// When the TLS back end cannot be set up, for example without any CA certificates.
    pub fn new() -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .redirect(Policy::none())
            .user_agent(concat!("ecs-slack-alerts/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self(client))
    }

    /// Posts `body`, a JSON payload, giving up after `timeout`.
    pub async fn post(&self, webhook: &Webhook, body: String, timeout: Duration) -> Answer {
        let request = self
            .0
            .post(webhook.expose().clone())
            .header(CONTENT_TYPE, "application/json; charset=utf-8")
            .body(body)
            .timeout(timeout);
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Answer::NetworkError(describe(error)),
        };
        let (status, headers) = (response.status(), response.headers().clone());
        if status.is_success() {
            // Read to the end only so that the connection can be used again; the status alone is Slack's word.
            if let Err(error) = response.bytes().await {
                debug!(error = describe(error), "Slack accepted, but its answer broke off");
            }
            return Answer::Accepted;
        }
        let body = response.text().await.unwrap_or_default();
        judge(status, &headers, &body)
    }
}

/// What an answer other than 2xx means: by Slack's documented word in the body, else by the status.
fn judge(status: StatusCode, headers: &HeaderMap, body: &str) -> Answer {
    if status == StatusCode::TOO_MANY_REQUESTS {
        return Answer::RateLimited(retry_after(headers, body));
    }
    if status.is_server_error() {
        return Answer::ServerError(status, retry_after(headers, body));
    }
    let code = error_code(status, body);
    match code.as_str() {
        "invalid_payload"
        | "no_text"
        | "too_many_attachments"
        | "invalid_blocks"
        | "invalid_attachments"
        | "msg_too_long"
        | "msg_blocks_too_long"
        | "user_not_found" => return Answer::PayloadRefused(code),
        "action_prohibited"
        | "invalid_token"
        | "posting_to_general_channel_denied"
        | "no_service"
        | "no_service_id"
        | "no_team"
        | "no_active_hooks"
        | "channel_not_found"
        | "channel_is_archived"
        | "team_disabled" => return Answer::WebhookRefused(code),
        _ => {}
    }
    match status.as_u16() {
        400 | 413 | 422 => Answer::PayloadRefused(code),
        401 | 403 | 404 | 405 | 410 | 300..=399 => Answer::WebhookRefused(code),
        _ => Answer::ServerError(status, retry_after(headers, body)),
    }
}

/// Slack's whole seconds, from the header or, without one, the body: at most a day, for no clock holds every number.
/// <https://docs.slack.dev/apis/web-api/rate-limits>
fn retry_after(headers: &HeaderMap, body: &str) -> Option<Duration> {
    let header = || headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok();
    let body = || serde_json::from_str::<serde_json::Value>(body).ok()?.get("retry_after")?.as_u64();
    header().or_else(body).map(|seconds: u64| Duration::from_secs(seconds.min(24 * 3600)))
}

/// Slack's error bodies are one word. Anything else may come from a proxy on the way and is not repeated.
fn error_code(status: StatusCode, body: &str) -> String {
    let word = body.trim();
    let is_code = !word.is_empty() && word.len() <= 64 && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    if is_code { word.to_owned() } else { status.to_string() }
}

/// The whole chain of a transport error, without the URL.
fn describe(error: reqwest::Error) -> String {
    format!("{:#}", anyhow::Error::from(error.without_url()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slacks_answers_mean_what_slack_documents() {
        let payload = |code: &str| Answer::PayloadRefused(code.into());
        let webhook = |code: &str| Answer::WebhookRefused(code.into());
        for (status, body, expected) in [
            (429, "", Answer::RateLimited(None)),
            (500, "rollup_error", Answer::ServerError(StatusCode::INTERNAL_SERVER_ERROR, None)),
            (503, "<html>", Answer::ServerError(StatusCode::SERVICE_UNAVAILABLE, None)),
            (400, "invalid_payload", payload("invalid_payload")),
            (400, "no_text\n", payload("no_text")),
            (400, "user_not_found", payload("user_not_found")),
            (400, "something new and long", payload("400 Bad Request")),
            (403, "invalid_token", webhook("invalid_token")),
            (403, "action_prohibited", webhook("action_prohibited")),
            (404, "no_service", webhook("no_service")),
            (400, "no_team", webhook("no_team")),
            (410, "channel_is_archived", webhook("channel_is_archived")),
            (302, "", webhook("302 Found")),
            (408, "", Answer::ServerError(StatusCode::REQUEST_TIMEOUT, None)),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(judge(status, &HeaderMap::new(), body), expected, "{status} {body}");
        }
    }

    #[test]
    fn retry_after_is_whole_seconds_or_nothing() {
        for (value, expected) in [
            ("30", Some(30)),
            (" 1 ", Some(1)),
            ("18446744073709551615", Some(86_400)),
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
        assert_eq!(retry_after(&HeaderMap::new(), body), Some(Duration::from_secs(7)));
        assert_eq!(retry_after(&HeaderMap::new(), "rate_limited"), None);
    }

    #[tokio::test]
    async fn a_transport_error_does_not_show_the_webhook() {
        let hosts = crate::webhook::AllowedHosts::new(["127.0.0.1".into()]).unwrap();
        // Port 9 (discard) refuses: nothing listens there.
        let webhook = hosts.check("http://127.0.0.1:9/services/secret").unwrap();
        let answer = Client::new().unwrap().post(&webhook, "{}".into(), TIMEOUT).await;
        assert!(matches!(&answer, Answer::NetworkError(_)), "{answer:?}");
        assert!(!format!("{answer:?} {answer}").contains("secret"), "{answer:?}");
    }
}
