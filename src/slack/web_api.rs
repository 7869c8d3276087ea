//! Slack's Web API: posts a message, a reply in a thread or an edit, and identifies the bot. Its answers have the same classes
//! as a webhook's ([`SlackAnswer`]).

use std::time::Duration;

use reqwest::{StatusCode, header::HeaderMap};
use serde_json::{Value, json};

use super::{
    answer::{MessageRef, SlackAnswer, retry_after},
    channel::Destination,
    client::Client,
    message::Payload,
    target::Bot,
};

impl Client {
    /// Posts or edits.
    pub(super) async fn call(&self, bot: &Bot, to: &Destination, payload: &Payload, timeout: Duration) -> SlackAnswer {
        let mut body = payload.to_value();
        let method = match to {
            Destination::Channel => {
                body["channel"] = bot.channel.as_str().into();
                "chat.postMessage"
            }
            Destination::Thread { root, broadcast } => {
                body["channel"] = root.channel.as_str().into();
                body["thread_ts"] = root.ts.as_str().into();
                if *broadcast {
                    body["reply_broadcast"] = true.into();
                }
                "chat.postMessage"
            }
            Destination::Edit(message) => {
                body["channel"] = message.channel.as_str().into();
                body["ts"] = message.ts.as_str().into();
                // Without this, Slack would keep the blocks of the message that plain text replaces.
                if body.get("attachments").is_none() {
                    body["attachments"] = json!([]);
                }
                "chat.update"
            }
        };
        match self.ask(bot, method, &body, timeout).await {
            Ok((status, headers, text)) => match classify(status, &headers, &text) {
                // The configured id, so that the message is known to be in this channel.
                SlackAnswer::Accepted(Some(message)) => {
                    SlackAnswer::Accepted(Some(MessageRef { channel: bot.channel.clone(), ..message }))
                }
                answer => answer,
            },
            Err(answer) => answer,
        }
    }

    /// The bot's identity and permissions: the answer of `auth.test`, and the scopes of its token.
    ///
    /// # Errors
    /// Slack's answer, unless it is a success.
    pub async fn identify(&self, bot: &Bot, timeout: Duration) -> Result<BotIdentity, SlackAnswer> {
        let (status, headers, text) = self.ask(bot, "auth.test", &json!({}), timeout).await?;
        match classify(status, &headers, &text) {
            SlackAnswer::Accepted(_) => {}
            refused => return Err(refused),
        }
        let body: Value = serde_json::from_str(&text).unwrap_or_default();
        let name = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        let scopes = headers.get("x-oauth-scopes").and_then(|scopes| scopes.to_str().ok());
        let scopes = scopes.map(|scopes| scopes.split(',').map(|scope| scope.trim().to_owned()).collect());
        Ok(BotIdentity { team: name("team"), user: name("user"), scopes })
    }
}

impl Client {
    /// The error code that Slack gives a message; `None` if Slack finds it valid. Asks `blocks.validate`, which posts nothing.
    /// <https://docs.slack.dev/reference/methods/blocks.validate>
    ///
    /// # Errors
    /// When Slack does not say whether the message is valid.
    pub async fn fault_of(
        &self,
        bot: &Bot,
        payload: &Payload,
        timeout: Duration,
    ) -> Result<Option<String>, QuestionError> {
        let message = payload.to_value();
        let body = json!({ "message": json!({ "attachments": message["attachments"] }).to_string() });
        match self.question(bot, "blocks.validate", &body, timeout).await {
            Ok(_) => Ok(None),
            Err(QuestionError::Refused(code)) if ["invalid_blocks", "invalid_message"].contains(&&*code) => {
                Ok(Some(code))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the bot is a member of its channel. Asks `conversations.info`, which needs the scope `channels:read`, and `groups:read` for
    /// a private channel. <https://docs.slack.dev/reference/methods/conversations.info>
    ///
    /// # Errors
    /// When Slack does not say whether it is.
    pub async fn is_member(&self, bot: &Bot, timeout: Duration) -> Result<bool, QuestionError> {
        let body = self.question(bot, "conversations.info", &json!({ "channel": bot.channel }), timeout).await?;
        let unknown = || QuestionError::Failed(SlackAnswer::ServerError(foreign(StatusCode::OK), None));
        body["channel"]["is_member"].as_bool().ok_or_else(unknown)
    }

    /// Calls a method that changes nothing. Returns the body of a success.
    async fn question(&self, bot: &Bot, method: &str, body: &Value, timeout: Duration) -> Result<Value, QuestionError> {
        let (status, headers, text) = self.ask(bot, method, body, timeout).await.map_err(QuestionError::Failed)?;
        let body: Value = serde_json::from_str(&text).unwrap_or_default();
        match classify(status, &headers, &text) {
            SlackAnswer::Accepted(_) => Ok(body),
            SlackAnswer::TargetRefused(code) if code == "missing_scope" => {
                Err(QuestionError::MissingScope(needed_scope(&body).map(str::to_owned)))
            }
            SlackAnswer::TargetRefused(code) | SlackAnswer::PayloadRefused(code) | SlackAnswer::MessageGone(code) => {
                Err(QuestionError::Refused(code))
            }
            failed => Err(QuestionError::Failed(failed)),
        }
    }
}

/// Why a question to Slack has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuestionError {
    /// The token lacks this scope; `None` if Slack does not say which one.
    #[error("the bot token lacks the scope {}", .0.as_deref().unwrap_or("that this needs"))]
    MissingScope(Option<String>),
    /// Slack refused the question with this error code.
    #[error("Slack refused the question: {0}")]
    Refused(String),
    /// Slack gave no answer, or something on the way gave it.
    #[error("Slack {0}")]
    Failed(SlackAnswer),
}

/// The first scope in `needed`, which Slack adds to the error `missing_scope`.
fn needed_scope(body: &Value) -> Option<&str> {
    let first = body["needed"].as_str()?.split(',').next()?.trim();
    let is_scope = |c: u8| c.is_ascii_lowercase() || b":._-".contains(&c);
    (!first.is_empty() && first.len() <= 64 && first.bytes().all(is_scope)).then_some(first)
}

/// The bot that a token belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BotIdentity {
    /// The workspace's name.
    pub team: String,
    /// The bot's name.
    pub user: String,
    /// The token's scopes; `None` if Slack does not say.
    pub scopes: Option<Vec<String>>,
}

/// Classifies an answer of the Web API. A failure is HTTP 200 with `"ok": false` and an error code.
/// <https://docs.slack.dev/reference/methods/chat.postMessage#errors>
fn classify(status: StatusCode, headers: &HeaderMap, text: &str) -> SlackAnswer {
    if status == StatusCode::TOO_MANY_REQUESTS {
        return SlackAnswer::RateLimited(retry_after(headers, text));
    }
    let body: Value = serde_json::from_str(text).unwrap_or_default();
    let code = match (body["ok"].as_bool(), body["error"].as_str()) {
        (Some(true), _) if status.is_success() => {
            let part = |key: &str| body[key].as_str().map(str::to_owned);
            let message = part("channel").zip(part("ts")).map(|(channel, ts)| MessageRef { channel, ts });
            return SlackAnswer::Accepted(message);
        }
        (Some(false), Some(code)) if is_code(code) => code.to_owned(),
        _ => {
            let what = if status.is_success() { foreign(status) } else { status.to_string() };
            return SlackAnswer::ServerError(what, retry_after(headers, text));
        }
    };
    match code.as_str() {
        "ratelimited" | "rate_limited" | "message_limit_exceeded" => {
            SlackAnswer::RateLimited(retry_after(headers, text))
        }
        "internal_error"
        | "fatal_error"
        | "service_unavailable"
        | "request_timeout"
        | "team_added_to_org"
        | "external_channel_migrating" => SlackAnswer::ServerError(code, retry_after(headers, text)),
        // A thread that accepts no reply counts as gone: the alert is posted as a new message.
        "message_not_found"
        | "thread_not_found"
        | "cant_update_message"
        | "edit_window_closed"
        | "restricted_action_thread_locked" => SlackAnswer::MessageGone(code),
        "invalid_auth"
        | "not_authed"
        | "token_revoked"
        | "token_expired"
        | "account_inactive"
        | "missing_scope"
        | "no_permission"
        | "not_allowed_token_type"
        | "access_denied"
        | "ekm_access_denied"
        | "org_login_required"
        | "team_access_not_granted"
        | "enterprise_is_restricted"
        | "two_factor_setup_required"
        | "channel_not_found"
        | "not_in_channel"
        | "is_archived"
        | "restricted_action"
        | "restricted_action_read_only_channel"
        | "restricted_action_thread_only_channel"
        | "restricted_action_non_threadable_channel"
        | "accesslimited"
        | "deprecated_endpoint"
        | "method_deprecated" => SlackAnswer::TargetRefused(code),
        // The other codes are about the message, or unknown: plain text may succeed.
        _ => SlackAnswer::PayloadRefused(code),
    }
}

/// Describes a success that lacks what Slack documents.
fn foreign(status: StatusCode) -> String {
    format!("{status} but not as Slack does: is a proxy in the way?")
}

fn is_code(code: &str) -> bool {
    !code.is_empty()
        && code.len() <= 64
        && code.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_documented_answer_has_its_class() {
        let refused = |code: &str| format!(r#"{{"ok":false,"error":"{code}"}}"#);
        let target = |code: &str| SlackAnswer::TargetRefused(code.into());
        let payload = |code: &str| SlackAnswer::PayloadRefused(code.into());
        let foreign = || SlackAnswer::ServerError("200 OK but not as Slack does: is a proxy in the way?".into(), None);
        let accepted = SlackAnswer::Accepted(Some(MessageRef { channel: "C1".into(), ts: "1.2".into() }));
        for (status, body, expected) in [
            (200, r#"{"ok":true,"channel":"C1","ts":"1.2"}"#.to_owned(), accepted),
            (200, refused("ratelimited"), SlackAnswer::RateLimited(None)),
            (429, refused("ratelimited"), SlackAnswer::RateLimited(None)),
            (200, refused("internal_error"), SlackAnswer::ServerError("internal_error".into(), None)),
            (200, refused("request_timeout"), SlackAnswer::ServerError("request_timeout".into(), None)),
            (200, refused("token_revoked"), target("token_revoked")),
            (200, refused("not_in_channel"), target("not_in_channel")),
            (200, refused("is_archived"), target("is_archived")),
            (
                200,
                refused("restricted_action_thread_locked"),
                SlackAnswer::MessageGone("restricted_action_thread_locked".into()),
            ),
            (200, refused("missing_scope"), target("missing_scope")),
            (200, refused("msg_too_long"), payload("msg_too_long")),
            (200, refused("invalid_blocks"), payload("invalid_blocks")),
            (200, refused("a_word_of_tomorrow"), payload("a_word_of_tomorrow")),
            (200, refused("message_not_found"), SlackAnswer::MessageGone("message_not_found".into())),
            (200, "<html>".to_owned(), foreign()),
            (200, "ok".to_owned(), foreign()),
            (503, "{}".to_owned(), SlackAnswer::ServerError("503 Service Unavailable".into(), None)),
            (200, refused("<script>"), foreign()),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(classify(status, &HeaderMap::new(), &body), expected, "{status} {body}");
        }
    }

    #[test]
    fn only_the_name_of_a_scope_is_shown() {
        let needed = |needed: Value| needed_scope(&json!({ "needed": needed })).map(str::to_owned);
        assert_eq!(needed("channels:read,groups:read".into()).as_deref(), Some("channels:read"));
        assert_eq!(needed("users.profile:read".into()).as_deref(), Some("users.profile:read"));
        for wrong in ["".into(), "<!channel>".into(), "x".repeat(65).into(), Value::Null] {
            assert_eq!(needed(wrong), None);
        }
    }
}
