//! The `[[channel]]` sections: where alerts go, and which secret holds the webhook or token.

use reqwest::Url;

use super::{
    Channel, Needs, mentions,
    reader::{Reader, quote},
};
use crate::{
    alert::Severity,
    route::ChannelId,
    slack::target::TargetSource,
    webhook::{AllowedHosts, WebhookSource},
};

pub(super) fn parse(root: &mut Reader<'_>, allowed_hosts: &AllowedHosts, needs: Needs) -> Vec<Channel> {
    let mut sections = root.sections("channel");
    let only = sections.len() < 2;
    // If the file has no channel, there is one named `default`.
    let unnamed = sections.is_empty();
    if unnamed {
        sections.push(root.section("channel"));
    }
    let mut channels: Vec<Channel> = Vec::new();
    let mut fallbacks = Vec::new();
    for section in &mut sections {
        let name = section.string("name", "").unwrap_or_else(|| if unnamed { "default".into() } else { String::new() });
        if name.is_empty() || name.len() > 80 || name.contains(char::is_control) {
            section.fault("name", "is required: 1 to 80 printable characters, for routes, metrics and logs");
        } else if channels.iter().any(|channel| channel.name == name) {
            section.fault("name", &format!("{} is the name of another channel; names must differ", quote(&name)));
        }
        let source = parse_source(section, only, allowed_hosts, needs);
        fallbacks.push(section.string("fallback", ""));
        let mentions::MentionKeys { whom, from } = mentions::parse(section);
        let mention = whom.filter(|whom| !whom.is_empty());
        let mention_from = from.unwrap_or(Severity::Critical);
        channels.push(Channel { name, source, mention, mention_from, fallback: None });
    }
    for (index, (section, fallback)) in sections.into_iter().zip(fallbacks).enumerate() {
        if let Some(fallback) = fallback {
            match find_fallback(&channels, index, &fallback) {
                Ok(id) => channels[index].fallback = Some(id),
                Err(fault) => section.fault("fallback", &fault),
            }
        }
        section.finish();
    }
    channels
}

/// Finds the channel that a channel names as its fallback. The channels before it in the file have their fallbacks already, so the
/// channel that closes a cycle gets the fault.
fn find_fallback(channels: &[Channel], index: usize, fallback: &str) -> Result<ChannelId, String> {
    let own = &channels[index].name;
    let Some(found) = channels.iter().position(|channel| channel.name == fallback) else {
        let others: Vec<String> =
            channels.iter().map(|channel| &channel.name).filter(|name| *name != own).map(|name| quote(name)).collect();
        let accepted = match others.as_slice() {
            [] => "there is no other channel".to_owned(),
            others => format!("the other channels are {}", others.join(", ")),
        };
        return Err(format!("{} is not the name of a channel; {accepted}", quote(fallback)));
    };
    let mut cycle = vec![quote(own)];
    let mut next = Some(ChannelId(found));
    while let Some(ChannelId(at)) = next {
        cycle.push(quote(&channels[at].name));
        if at == index {
            let accepted = "the last channel of a chain must have no fallback";
            return Err(format!("its fallbacks lead back to itself: {}; {accepted}", cycle.join(" -> ")));
        }
        next = channels[at].fallback;
    }
    Ok(ChannelId(found))
}

/// The keys and variables that say where a channel posts.
struct TargetKeys {
    secret: Option<String>,
    key: Option<String>,
    url: Option<String>,
    token: Option<String>,
    channel_id: Option<String>,
}

const BOT_REPLACED: &str = "replaces the bot token or channel_id of this channel by a webhook: its alerts have no threads and are not edited. \
     Unset this variable, or remove bot_token_secret_id and channel_id (SLACK_CHANNEL_ID)";
const WEBHOOK_REPLACED: &str =
    "replaces the webhook of this channel by a bot token. Unset this variable, or remove the webhook from the file";

/// A webhook, or a bot token with a channel's id.
fn parse_source(
    channel: &mut Reader<'_>,
    only: bool,
    allowed_hosts: &AllowedHosts,
    needs: Needs,
) -> Option<TargetSource> {
    let mut given = TargetKeys {
        secret: channel.string("webhook_secret_id", "SLACK_WEBHOOK_SECRET_ID"),
        key: channel.string("webhook_secret_key", ""),
        url: channel.string("webhook_url", "SLACK_WEBHOOK_URL"),
        token: channel.string("bot_token_secret_id", "SLACK_BOT_TOKEN_SECRET_ID"),
        channel_id: channel.string("channel_id", "SLACK_CHANNEL_ID"),
    };
    for key in ["webhook_secret_id", "webhook_url", "bot_token_secret_id", "channel_id"] {
        if channel.is_from_env(key) && !only {
            channel.fault(key, "is for a configuration with one channel, but the file has several; unset it");
            return None;
        }
    }
    // A variable replaces the target in the file, whether that is a webhook or a bot token. Where it replaces one kind by the other, the
    // variable was probably set for another channel.
    let keys = ["webhook_secret_id", "webhook_url", "bot_token_secret_id"];
    let from_env = keys.map(|key| channel.is_from_env(key));
    let has_bot = given.token.is_some() || given.channel_id.is_some();
    let has_webhook = given.secret.is_some() || given.url.is_some();
    match from_env {
        [true, false, false] if has_bot => channel.warn(keys[0], BOT_REPLACED),
        [false, true, false] if has_bot => channel.warn(keys[1], BOT_REPLACED),
        [false, false, true] if has_webhook => channel.warn(keys[2], WEBHOOK_REPLACED),
        _ => {}
    }
    match from_env {
        [true, false, false] => (given.url, given.token, given.channel_id) = (None, None, None),
        [false, true, false] => (given.secret, given.key, given.token, given.channel_id) = (None, None, None, None),
        [false, false, true] => (given.secret, given.key, given.url) = (None, None, None),
        _ => {}
    }
    match (&given.token, &given.channel_id) {
        (None, None) => parse_webhook(channel, given, allowed_hosts, needs).map(TargetSource::Webhook),
        _ if given.secret.is_some() || given.url.is_some() => {
            channel.fault(
                "bot_token_secret_id",
                "is set together with a webhook; give either a bot token and a channel_id, or a webhook",
            );
            None
        }
        _ => parse_bot(channel, given),
    }
}

fn parse_bot(channel: &mut Reader<'_>, given: TargetKeys) -> Option<TargetSource> {
    if given.key.is_some() {
        channel.fault("webhook_secret_key", "is set without webhook_secret_id; a bot token needs no key");
    }
    match (given.token, given.channel_id) {
        (Some(token), _) if token.contains("://") || token.starts_with("xox") => {
            let what = "is not the name or ARN of a secret; store the token itself in Secrets Manager";
            channel.fault("bot_token_secret_id", what);
            None
        }
        (Some(token_secret_id), Some(id)) => {
            let is_id = id.len() >= 9
                && id.starts_with(['C', 'G'])
                && id.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
            if !is_id {
                let what = format!("{} is not a channel's id; write e.g. \"C0123456789\", not its name", quote(&id));
                channel.fault("channel_id", &what);
            }
            is_id.then_some(TargetSource::Bot { token_secret_id, channel: id })
        }
        (Some(_), None) => {
            let what = "is required with a bot token: the channel's id, such as \"C0123456789\"";
            channel.fault("channel_id", what);
            None
        }
        (None, _) => {
            let what = "is required with channel_id: the secret that holds the bot token";
            channel.fault("bot_token_secret_id", what);
            None
        }
    }
}

/// `slack.com`, `slack-gov.com`, or a loopback address among the allowed hosts.
pub(super) fn parse_api_url(slack: &mut Reader<'_>, allowed_hosts: &AllowedHosts) -> Url {
    let default = || Url::parse("https://slack.com/api/").expect("it is a URL");
    let Some(text) = slack.string("api_url", "SLACK_API_URL") else { return default() };
    let text = if text.ends_with('/') { text } else { format!("{text}/") };
    let parsed = Url::parse(&text).ok().filter(|url| {
        let is_slack = url.scheme() == "https"
            && url.host_str().is_some_and(|host| ["slack.com", "slack-gov.com"].contains(&host));
        (is_slack || allowed_hosts.allows_loopback(url)) && url.query().is_none() && url.fragment().is_none()
    });
    parsed.unwrap_or_else(|| {
        slack.fault(
            "api_url",
            "is not the address of Slack's Web API; write \"https://slack.com/api/\" or \"https://slack-gov.com/api/\" (for tests also a loopback \
             address that slack.allowed_hosts lists)",
        );
        default()
    })
}

fn parse_webhook(
    channel: &mut Reader<'_>,
    given: TargetKeys,
    allowed_hosts: &AllowedHosts,
    needs: Needs,
) -> Option<WebhookSource> {
    let TargetKeys { secret, key, url, .. } = given;
    if key.as_deref() == Some("") {
        channel
            .fault("webhook_secret_key", "is empty; it must name a key of the secret's JSON object, such as \"url\"");
    }
    if key.is_some() && secret.is_none() && !channel.is_from_env("webhook_url") {
        channel.fault(
            "webhook_secret_key",
            "is set without webhook_secret_id; it names a key of that secret's JSON object",
        );
    }
    match (secret, url) {
        (Some(_), Some(_)) => {
            channel.fault(
                "webhook_url",
                "is set together with webhook_secret_id (SLACK_WEBHOOK_SECRET_ID); give only one",
            );
            None
        }
        (Some(secret), None) if secret.contains("://") => {
            channel
                .fault("webhook_secret_id", "is a URL; it must be the name or ARN of a secret (a URL is webhook_url)");
            None
        }
        (Some(id), None) => Some(WebhookSource::Secret { id, key }),
        (None, Some(url)) => {
            let checked = allowed_hosts.check(&url).map(WebhookSource::Url);
            checked.map_err(|error| channel.fault("webhook_url", &error.to_string())).ok()
        }
        (None, None) => {
            if needs.webhooks {
                channel
                    .fault("webhook_secret_id", "is required: the Secrets Manager secret that holds the webhook's URL (or webhook_url, SLACK_WEBHOOK_URL)");
            }
            None
        }
    }
}
