//! One HTTP request to Slack: to a webhook or to a method of the Web API. Does not know alerts.
//!
//! Invariants: reading an answer is limited in size and time, whoever sends it. The webhook's URL never leaves this file:
//! transport errors are stripped of it. [`super::answer`] classifies the answers.

use std::{error::Error, io, time::Duration};

use reqwest::{
    RequestBuilder, Response, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue},
    redirect::Policy,
};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::{
    answer::{SlackAnswer, classify},
    channel::Destination,
    message::Payload,
    target::{Bot, Target},
};
use crate::webhook::Webhook;

/// How long one post may take in all.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// How much of an answer is read, in bytes. Slack's answers are shorter.
const MAX_BODY: usize = 64 * 1024;

/// How long an idle connection is kept: shorter than the idle timeout of any NAT or firewall between us and Slack.
const KEEP_IDLE: Duration = Duration::from_secs(30);

/// How often an idle connection is probed. A probe keeps the connection in a NAT's table and detects that it is gone. The time is
/// not shorter than a request's timeout: a slow answer does not mean that the connection is dead.
const PROBE_EVERY: Duration = TIMEOUT;

/// A connection whose other end acknowledges nothing for this time is dead.
const UNACKNOWLEDGED: Duration = Duration::from_secs(3);

/// Posts payloads. Cheap to clone; clones share the connections.
#[derive(Debug, Clone)]
pub struct Client(reqwest::Client);

impl Client {
    /// Builds on a client that knows proxies and certificates ([`crate::outbound`]). Connections are kept for the next post.
    /// Redirects are not followed: a webhook has no reason to redirect.
    ///
    /// # Errors
    /// When TLS cannot be set up, for example without any CA certificates.
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

    /// Sends a payload to its destination within `timeout`. A webhook can only post to its channel.
    pub async fn send(&self, target: &Target, to: &Destination, payload: &Payload, timeout: Duration) -> SlackAnswer {
        match target {
            Target::Webhook(webhook) => self.post(webhook, payload.body(), timeout).await,
            Target::Bot(bot) => self.call(bot, to, payload, timeout).await,
        }
    }

    async fn post(&self, webhook: &Webhook, body: String, timeout: Duration) -> SlackAnswer {
        let request = || {
            let post = self.0.post(webhook.expose().clone());
            post.header(CONTENT_TYPE, "application/json; charset=utf-8").body(body.clone())
        };
        match exchange(request, timeout).await {
            Ok((status, headers, body)) => classify(status, &headers, &body),
            Err(answer) => answer,
        }
    }

    /// Calls a method of the Web API.
    ///
    /// # Errors
    /// When no complete answer arrives.
    pub(super) async fn ask(
        &self,
        bot: &Bot,
        method: &str,
        body: &Value,
        timeout: Duration,
    ) -> Result<(StatusCode, HeaderMap, String), SlackAnswer> {
        // The configuration has validated the base URL, and the method is a constant.
        let url = bot.api.join(method).map_err(|error| SlackAnswer::NetworkError(error.to_string()))?;
        let mut token = HeaderValue::try_from(format!("Bearer {}", bot.token.expose()))
            .map_err(|_| SlackAnswer::TargetRefused("an HTTP header cannot hold the bot token".into()))?;
        token.set_sensitive(true);
        let body = body.to_string();
        let request = || {
            let call = self.0.post(url.clone()).header(AUTHORIZATION, token.clone());
            call.header(CONTENT_TYPE, "application/json; charset=utf-8").body(body.clone())
        };
        exchange(request, timeout).await
    }
}

/// Sends one request and reads its complete answer.
///
/// # Errors
/// When no complete answer arrives.
async fn exchange(
    request: impl Fn() -> RequestBuilder,
    timeout: Duration,
) -> Result<(StatusCode, HeaderMap, String), SlackAnswer> {
    let sent = async {
        match request().send().await {
            // The connection was kept from an earlier request and is dead. A new connection is faster than a back-off.
            Err(error) if !error.is_connect() && nothing_was_acknowledged(&error) => {
                debug!(
                    error = describe(error),
                    "a kept connection to Slack was dead; sending the request again on a new one"
                );
                request().send().await
            }
            sent => sent,
        }
    };
    let deadline = Instant::now() + timeout;
    let response = match timeout_at(deadline, sent).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return Err(SlackAnswer::NetworkError(format!("not reached: {}", describe(error)))),
        Err(_) => return Err(SlackAnswer::NetworkError(format!("gave no answer within {timeout:?}"))),
    };
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = Vec::new();
    match timeout_at(deadline, read_body(response, &mut body)).await {
        Ok(Ok(true)) => {}
        // Slack's answers are short, so this one is not Slack's.
        Ok(Ok(false)) => body.clear(),
        // A success needs the complete body. For a failure the status is enough.
        _ if status.is_success() => {
            let what = format!("answered {status}, but the answer is incomplete; it may have the message");
            return Err(SlackAnswer::NetworkError(what));
        }
        _ => {}
    }
    Ok((status, headers, String::from_utf8_lossy(&body).into_owned()))
}

/// Reads an answer into `body`, up to 64 KiB. Returns whether `body` is the complete answer.
///
/// # Errors
/// When the connection breaks. `body` then holds what arrived before.
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

/// True only if the kernel closed the connection because the other end acknowledged nothing of the request. (If a kept
/// connection was already closed, so that nothing could be sent, reqwest retries by itself.)
fn nothing_was_acknowledged(error: &reqwest::Error) -> bool {
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

    #[tokio::test]
    async fn a_transport_error_does_not_show_the_webhook() {
        let hosts = crate::webhook::AllowedHosts::new(["127.0.0.1".into()]).unwrap();
        // Port 9 (discard) refuses: nothing listens there.
        let webhook = hosts.check("http://127.0.0.1:9/services/secret").unwrap();
        let answer = Client::new(reqwest::Client::builder()).unwrap().post(&webhook, "{}".into(), TIMEOUT).await;
        assert!(matches!(&answer, SlackAnswer::NetworkError(_)), "{answer:?}");
        assert!(!format!("{answer:?} {answer}").contains("secret"), "{answer:?}");
    }
}
