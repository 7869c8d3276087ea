//! Where a channel's messages go: to a webhook, or to a channel of Slack's Web API with a bot token.
//!
//! A webhook can only post. A bot can also reply in a thread and edit what it posted.

use std::time::Duration;

use reqwest::Url;

use super::channel::Destination;
use crate::webhook::{BotToken, Webhook, WebhookError, WebhookSource, Webhooks};

/// The shortest time between two messages in one channel that Slack allows permanently.
/// <https://docs.slack.dev/apis/web-api/rate-limits>, "chat.postMessage"
const POST_INTERVAL: Duration = Duration::from_secs(1);
/// The shortest time between two edits of one app, in all its channels together: Tier 3, fifty a minute.
/// <https://docs.slack.dev/reference/methods/chat.update>
const EDIT_INTERVAL: Duration = Duration::from_millis(1_200);

/// Where a channel's webhook or token is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetSource {
    /// A webhook.
    Webhook(WebhookSource),
    /// A bot token in Secrets Manager, and a channel.
    Bot {
        /// The secret's name or ARN.
        token_secret_id: String,
        /// The channel's id, `C…`.
        channel: String,
    },
}

/// Where requests go. `Debug` shows no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A webhook.
    Webhook(Webhook),
    /// A channel of the Web API.
    Bot(Bot),
}

/// A channel of the Web API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bot {
    /// The bot's token.
    pub token: BotToken,
    /// The channel's id.
    pub channel: String,
    /// The Web API, with a slash at its end.
    pub api: Url,
}

impl Target {
    /// The shortest time between two requests to such a destination that Slack allows permanently.
    pub fn interval(&self, to: &Destination) -> Duration {
        match (self, to) {
            (Self::Webhook(webhook), _) => webhook.interval(),
            (Self::Bot(_), Destination::Edit(_)) => EDIT_INTERVAL,
            (Self::Bot(_), Destination::Channel | Destination::Thread { .. }) => POST_INTERVAL,
        }
    }

    /// The id of the Slack channel in which it can reply and edit; `None` for a webhook, which can only post.
    pub fn channel_id(&self) -> Option<&str> {
        match self {
            Self::Webhook(_) => None,
            Self::Bot(bot) => Some(&bot.channel),
        }
    }
}

/// Reads targets: at the start, and again when Slack refuses one, because its secret may have been rotated.
#[derive(Debug, Clone)]
pub struct Secrets {
    /// Reads Secrets Manager.
    pub webhooks: Webhooks,
    /// The Web API, with a slash at its end.
    pub api: Url,
}

impl Secrets {
    /// Reads the target's current value.
    ///
    /// # Errors
    /// When the secret cannot be read, or does not hold a webhook or token.
    pub async fn resolve(&self, source: &TargetSource) -> Result<Target, WebhookError> {
        match source {
            TargetSource::Webhook(source) => Ok(Target::Webhook(self.webhooks.resolve(source).await?)),
            TargetSource::Bot { token_secret_id, channel } => {
                let token = self.webhooks.bot_token(token_secret_id).await?;
                Ok(Target::Bot(Bot { token, channel: channel.clone(), api: self.api.clone() }))
            }
        }
    }
}
