//! Slack's Web API: a message of a channel, a reply in a thread, an edit, and who the bot is. What each answer means to the
//! sender is decided by the same words as for a webhook.

use std::time::Duration;

use reqwest::{StatusCode, header::HeaderMap};
use serde_json::{Value, json};

use super::{
    channel::Destination,
    client::{Answer, Client, MessageRef, retry_after},
    message::Payload,
    target::Bot,
};

impl Client {
    /// Posts or edits by the Web API.
    pub(super) async fn call(&self, bot: &Bot, to: &Destination, payload: &Payload, timeout: Duration) -> Answer {
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
                // Plain text must take the place of the blocks, which Slack would keep otherwise.
                if body.get("attachments").is_none() {
                    body["attachments"] = json!([]);
                }
                "chat.update"
            }
        };
        match self.ask(bot, method, &body, timeout).await {
            Ok((status, headers, text)) => match judge(status, &headers, &text) {
                // By the id that is configured, so that a message is known to be in this channel.
                Answer::Accepted(Some(message)) => {
                    Answer::Accepted(Some(MessageRef { channel: bot.channel.clone(), ..message }))
                }
                answer => answer,
            },
            Err(answer) => answer,
        }
    }

    /// Who the bot is and what it may do: the answer of `auth.test`, and the scopes of its token.
    ///
    /// # Errors
    /// Slack's answer, where it is no success.
    pub async fn identify(&self, bot: &Bot, timeout: Duration) -> Result<Identity, Answer> {
        let (status, headers, text) = self.ask(bot, "auth.test", &json!({}), timeout).await?;
        match judge(status, &headers, &text) {
            Answer::Accepted(_) => {}
            refused => return Err(refused),
        }
        let body: Value = serde_json::from_str(&text).unwrap_or_default();
        let name = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        let scopes = headers.get("x-oauth-scopes").and_then(|scopes| scopes.to_str().ok());
        let scopes = scopes.map(|scopes| scopes.split(',').map(|scope| scope.trim().to_owned()).collect());
        Ok(Identity { team: name("team"), user: name("user"), scopes })
    }
}

impl Client {
    /// Whether Slack finds a message valid, by `blocks.validate`, which posts nothing: its word for what is wrong; none where it
    /// does not say. <https://docs.slack.dev/reference/methods/blocks.validate>
    pub async fn fault_of(&self, bot: &Bot, payload: &Payload, timeout: Duration) -> Option<Result<(), String>> {
        let message = payload.to_value();
        let body = json!({ "message": json!({ "attachments": message["attachments"] }).to_string() });
        let body = self.answer_of(bot, "blocks.validate", &body, timeout).await?;
        match (body["ok"].as_bool()?, body["error"].as_str()) {
            (true, _) => Some(Ok(())),
            (false, Some(code @ ("invalid_blocks" | "invalid_message"))) => Some(Err(code.to_owned())),
            _ => None,
        }
    }

    /// Whether the bot is in its channel, by `conversations.info`; none where the token may not ask, which needs the scope
    /// `channels:read`. <https://docs.slack.dev/reference/methods/conversations.info>
    pub async fn is_member(&self, bot: &Bot, timeout: Duration) -> Option<bool> {
        let body = self.answer_of(bot, "conversations.info", &json!({ "channel": bot.channel }), timeout).await?;
        body["channel"]["is_member"].as_bool().filter(|_| body["ok"] == true)
    }

    async fn answer_of(&self, bot: &Bot, method: &str, body: &Value, timeout: Duration) -> Option<Value> {
        let (status, _, text) = self.ask(bot, method, body, timeout).await.ok()?;
        serde_json::from_str(&text).ok().filter(|_| status.is_success())
    }
}

/// Who a bot token belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The workspace's name.
    pub team: String,
    /// The bot's name.
    pub user: String,
    /// What the token may do; none where Slack does not say.
    pub scopes: Option<Vec<String>>,
}

/// What an answer of the Web API means. A failure comes as HTTP 200 with `"ok": false` and a word.
/// <https://docs.slack.dev/reference/methods/chat.postMessage#errors>
fn judge(status: StatusCode, headers: &HeaderMap, text: &str) -> Answer {
    if status == StatusCode::TOO_MANY_REQUESTS {
        return Answer::RateLimited(retry_after(headers, text));
    }
    let body: Value = serde_json::from_str(text).unwrap_or_default();
    let code = match (body["ok"].as_bool(), body["error"].as_str()) {
        (Some(true), _) if status.is_success() => {
            let part = |key: &str| body[key].as_str().map(str::to_owned);
            let message = part("channel").zip(part("ts")).map(|(channel, ts)| MessageRef { channel, ts });
            return Answer::Accepted(message);
        }
        (Some(false), Some(code)) if is_code(code) => code.to_owned(),
        _ => {
            let what = if status.is_success() { "but not as Slack does: is a proxy in the way?" } else { "" };
            return Answer::ServerError(format!("{status} {what}").trim().to_owned(), retry_after(headers, text));
        }
    };
    match code.as_str() {
        "ratelimited" | "rate_limited" | "message_limit_exceeded" => Answer::RateLimited(retry_after(headers, text)),
        "internal_error"
        | "fatal_error"
        | "service_unavailable"
        | "request_timeout"
        | "team_added_to_org"
        | "external_channel_migrating" => Answer::ServerError(code, retry_after(headers, text)),
        // A thread that takes no reply is as good as gone: the channel takes a new message.
        "message_not_found"
        | "thread_not_found"
        | "cant_update_message"
        | "edit_window_closed"
        | "restricted_action_thread_locked" => Answer::MessageGone(code),
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
        | "method_deprecated" => Answer::TargetRefused(code),
        // What is left is about the message, or unknown: then plain text is worth a try.
        _ => Answer::PayloadRefused(code),
    }
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
    fn the_web_apis_answers_mean_what_slack_documents() {
        let refused = |code: &str| format!(r#"{{"ok":false,"error":"{code}"}}"#);
        let target = |code: &str| Answer::TargetRefused(code.into());
        let payload = |code: &str| Answer::PayloadRefused(code.into());
        let foreign = || Answer::ServerError("200 OK but not as Slack does: is a proxy in the way?".into(), None);
        let accepted = Answer::Accepted(Some(MessageRef { channel: "C1".into(), ts: "1.2".into() }));
        for (status, body, expected) in [
            (200, r#"{"ok":true,"channel":"C1","ts":"1.2"}"#.to_owned(), accepted),
            (200, refused("ratelimited"), Answer::RateLimited(None)),
            (429, refused("ratelimited"), Answer::RateLimited(None)),
            (200, refused("internal_error"), Answer::ServerError("internal_error".into(), None)),
            (200, refused("request_timeout"), Answer::ServerError("request_timeout".into(), None)),
            (200, refused("token_revoked"), target("token_revoked")),
            (200, refused("not_in_channel"), target("not_in_channel")),
            (200, refused("is_archived"), target("is_archived")),
            (
                200,
                refused("restricted_action_thread_locked"),
                Answer::MessageGone("restricted_action_thread_locked".into()),
            ),
            (200, refused("missing_scope"), target("missing_scope")),
            (200, refused("msg_too_long"), payload("msg_too_long")),
            (200, refused("invalid_blocks"), payload("invalid_blocks")),
            (200, refused("a_word_of_tomorrow"), payload("a_word_of_tomorrow")),
            (200, refused("message_not_found"), Answer::MessageGone("message_not_found".into())),
            (200, "<html>".to_owned(), foreign()),
            (200, "ok".to_owned(), foreign()),
            (503, "{}".to_owned(), Answer::ServerError("503 Service Unavailable".into(), None)),
            (200, refused("<script>"), foreign()),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(judge(status, &HeaderMap::new(), &body), expected, "{status} {body}");
        }
    }
}
