//! Webhooks and bot tokens: given in the configuration or looked up in Secrets Manager, and checked. A webhook may name only the allowed
//! hosts.
//!
//! The URL is a secret: everybody who has it can post. Nothing here prints more of it than its host.

use std::{fmt, net::IpAddr, str::FromStr, time::Duration};

use aws_sdk_secretsmanager::{Client, config::timeout::TimeoutConfig};
use reqwest::Url;

use crate::{
    aws::{self, ErrorClass},
    secret::{self, Expected, Unusable},
};

/// The hosts of Slack's incoming webhooks, commercial and GovSlack.
pub const SLACK_HOSTS: [&str; 2] = ["hooks.slack.com", "hooks.slack-gov.com"];

/// A webhook's URL, checked. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook(Url);

impl Webhook {
    /// The URL, for the one request that needs it.
    pub fn expose(&self) -> &Url {
        &self.0
    }

    /// The shortest time between two posts that Slack allows permanently: one second for an incoming webhook, six seconds (ten a
    /// minute) for a workflow's trigger. <https://docs.slack.dev/apis/web-api/rate-limits>
    pub fn interval(&self) -> Duration {
        let trigger = self.0.path().starts_with("/triggers/");
        Duration::from_secs(if trigger { 6 } else { 1 })
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Webhook(<secret>)")
    }
}

/// A bot token of Slack's Web API. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct BotToken(String);

impl BotToken {
    /// Checks the text of a token; `None` if it does not have the form of a bot token.
    pub fn new(text: &str) -> Option<Self> {
        let is_token_character = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let rest = text.strip_prefix("xoxb-")?;
        (!rest.is_empty() && rest.chars().all(is_token_character)).then(|| Self(text.to_owned()))
    }

    /// The token, for the one header that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for BotToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BotToken(<secret>)")
    }
}

/// Where a channel's webhook comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebhookSource {
    /// A secret in Secrets Manager whose SecretString is the URL, or a JSON object that holds it.
    Secret {
        /// Its name or ARN.
        id: String,
        /// The object's key, needed if several of its values could be the URL.
        key: Option<String>,
    },
    /// The URL itself.
    Url(Webhook),
}

/// The hosts that a webhook may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedHosts(Vec<String>);

/// Why a webhook cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The text is not a URL.
    #[error("it is not a URL; it should look like https://hooks.slack.com/services/T…/B…/…")]
    NotAUrl,
    /// It names one of Slack's hosts without the path of a webhook.
    #[error("its path is missing; it should look like https://hooks.slack.com/services/T…/B…/…")]
    NoPath,
    /// It holds a user name or password.
    #[error("it must not contain a user name or password")]
    Credentials,
    /// Its host is not allowed.
    #[error("the host {host:?} is not allowed; allowed are {allowed} (SLACK_ALLOWED_HOSTS, slack.allowed_hosts)")]
    Host {
        /// The host in the URL.
        host: String,
        /// The allowed hosts.
        allowed: String,
    },
    /// It is not `https`.
    #[error("it must begin with https:// (plain http is for loopback addresses only)")]
    Insecure,
    /// The secret could not be looked up.
    #[error("Secrets Manager{needs}: {what}", needs = needs(*class))]
    LookUp {
        /// The error from AWS or from the connection.
        what: String,
        /// The class of the failure.
        class: ErrorClass,
    },
    /// Secrets Manager did not answer in time.
    #[error("Secrets Manager did not answer in time")]
    TimedOut,
    /// The secret exists, but has no SecretString.
    #[error("it has no SecretString (it may be stored as binary); it must be text")]
    NoText,
    /// The SecretString does not hold a webhook or token.
    #[error(transparent)]
    Unusable(#[from] Unusable),
}

/// The permission that the role lacks, if that is why the look-up failed.
fn needs(class: ErrorClass) -> &'static str {
    match class {
        ErrorClass::Denied => " (needs secretsmanager:GetSecretValue)",
        ErrorClass::KeyDenied => " (needs kms:Decrypt on the key that encrypts the secret)",
        _ => "",
    }
}

impl WebhookError {
    /// True if a later look-up may succeed: AWS was not reached or failed.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::TimedOut => true,
            Self::LookUp { class, .. } => !class.is_misconfiguration(),
            _ => false,
        }
    }
}

impl AllowedHosts {
    /// A list of host names or `host:port` pairs.
    ///
    /// # Errors
    /// When the list is empty or an entry is not a host name. The entry is not shown.
    pub fn new(hosts: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let hosts: Vec<String> = hosts.into_iter().map(|host| host.trim().to_ascii_lowercase()).collect();
        if hosts.is_empty() {
            return Err("the list is empty; name at least one host, such as hooks.slack.com".into());
        }
        for host in &hosts {
            let parsed = [format!("https://{host}/"), format!("https://[{host}]/")];
            let parsed = parsed.iter().find_map(|url| Url::parse(url).ok());
            let is_bare = |url: Url| {
                url.path() == "/" && url.username().is_empty() && url.query().is_none() && url.fragment().is_none()
            };
            if host.is_empty() || !parsed.is_some_and(is_bare) {
                // The entry is not shown: it may be a webhook.
                return Err(
                    "an entry is not a host name; write e.g. hooks.slack.com, without https:// or a path".into()
                );
            }
        }
        Ok(Self(hosts))
    }

    /// Whether a URL names a loopback address in this list.
    pub fn allows_loopback(&self, url: &Url) -> bool {
        self.lists(url) && is_loopback(url)
    }

    fn lists(&self, url: &Url) -> bool {
        let Some(host) = url.host_str() else { return false };
        let host_and_port = url.port().map(|port| format!("{host}:{port}"));
        let bare = host.trim_matches(['[', ']']);
        self.0.iter().any(|entry| entry == host || entry == bare || Some(entry) == host_and_port.as_ref())
    }

    /// Checks a URL: its host must be in this list, and its scheme `https`, except for a listed loopback address.
    ///
    /// # Errors
    /// The rule that the URL breaks. The URL is never shown.
    pub fn check(&self, url: &str) -> Result<Webhook, WebhookError> {
        let text = secret::clean(url);
        // The URL parser drops line breaks and tabs, so two lines would become one URL.
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(WebhookError::NotAUrl);
        }
        let url = Url::from_str(text).map_err(|_| WebhookError::NotAUrl)?;
        let host = url.host_str().filter(|_| matches!(url.scheme(), "http" | "https")).ok_or(WebhookError::NotAUrl)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(WebhookError::Credentials);
        }
        if !self.lists(&url) {
            return Err(WebhookError::Host { host: host.to_owned(), allowed: self.0.join(", ") });
        }
        if url.scheme() != "https" && !is_loopback(&url) {
            return Err(WebhookError::Insecure);
        }
        // The path of a Slack webhook has several parts: /services/T…/B…/…, /triggers/…, /workflows/…
        if SLACK_HOSTS.contains(&host) && url.path().split('/').filter(|part| !part.is_empty()).count() < 2 {
            return Err(WebhookError::NoPath);
        }
        Ok(Webhook(url))
    }
}

/// Whether the host of a URL is this machine.
pub fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl Default for AllowedHosts {
    fn default() -> Self {
        Self(SLACK_HOSTS.map(str::to_owned).into())
    }
}

/// Looks up webhooks and tokens: at start, and again when Slack refuses one, because it may have been rotated.
#[derive(Debug, Clone)]
pub struct Webhooks {
    secrets: Option<Client>,
    allowed: AllowedHosts,
}

impl Webhooks {
    /// `aws` is needed only if a source is a secret.
    pub fn new(aws: Option<&aws_config::SdkConfig>, allowed: AllowedHosts) -> Self {
        let secrets = aws.map(|aws| {
            // An attempt may include the look-up of credentials. It must outlast that, so that the error names the credentials. An
            // operation is three attempts, with pauses.
            let timeouts = TimeoutConfig::builder()
                .connect_timeout(Duration::from_secs(3))
                .operation_attempt_timeout(aws::ATTEMPT_TIMEOUT)
                .operation_timeout(aws::ATTEMPT_TIMEOUT * 3 + Duration::from_secs(5));
            let config = aws_sdk_secretsmanager::config::Builder::from(aws).timeout_config(timeouts.build());
            Client::from_conf(config.build())
        });
        Self { secrets, allowed }
    }

    /// The current webhook.
    ///
    /// # Errors
    /// When the secret cannot be read, or what it holds is not an allowed URL.
    pub async fn resolve(&self, source: &WebhookSource) -> Result<Webhook, WebhookError> {
        let (id, key) = match source {
            WebhookSource::Url(webhook) => return Ok(webhook.clone()),
            WebhookSource::Secret { id, key } => (id, key.as_deref()),
        };
        let text = self.read(id).await?;
        let expected = Expected { what: "the webhook's URL", key_setting: "webhook_secret_key" };
        Ok(secret::extract(&text, key, expected, |text| self.allowed.check(text))?)
    }

    /// The current bot token.
    ///
    /// # Errors
    /// When the secret cannot be read, or does not hold exactly one bot token.
    pub async fn bot_token(&self, id: &str) -> Result<BotToken, WebhookError> {
        let text = self.read(id).await?;
        // A token is recognized by its form, so no key is needed if the secret holds only one.
        let expected = Expected { what: "a bot token (xoxb-…)", key_setting: "bot_token_secret_id" };
        Ok(secret::extract(&text, None, expected, |text| {
            BotToken::new(text).ok_or("it is not a bot token, which begins with xoxb-")
        })?)
    }

    /// The text of a secret.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn read(&self, id: &str) -> Result<String, WebhookError> {
        let Some(client) = &self.secrets else {
            let what = "there is no AWS configuration".into();
            return Err(WebhookError::LookUp { what, class: ErrorClass::NoCredentials });
        };
        let ask = || client.get_secret_value().secret_id(id).send();
        let mut answer = ask().await;
        // The refused credentials are no longer cached, so a retry with fresh ones may succeed at once.
        if answer.as_ref().is_err_and(|error| ErrorClass::of(error).is_about_stale_credentials()) {
            answer = ask().await;
        }
        let secret = answer
            .map_err(|error| WebhookError::LookUp { what: aws::error_text(&error), class: ErrorClass::of(&error) })?;
        secret.secret_string().map(str::to_owned).ok_or(WebhookError::NoText)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(hosts: &[&str]) -> AllowedHosts {
        AllowedHosts::new(hosts.iter().map(ToString::to_string)).unwrap()
    }

    #[test]
    fn only_https_to_a_listed_host_passes() {
        let slack = AllowedHosts::default();
        assert!(slack.check("https://hooks.slack.com/services/T0/B0/sesame").is_ok());
        assert!(slack.check(" https://hooks.slack-gov.com/services/T0/B0/sesame\n").is_ok());
        for bad in [
            "",
            "xoxb-not-a-url",
            "http://hooks.slack.com/services/T0/B0/sesame",
            "https://hooks.slack.com.evil.example/services/T0/B0/sesame",
            "https://hooks.slack.com@evil.example/services/T0/B0/sesame",
            "https://user:sesame@hooks.slack.com/services/T0/B0/x",
            "https://evil.example/?hooks.slack.com/sesame",
            "ftp://hooks.slack.com/sesame",
            "http://127.0.0.1:8008/sesame",
            "https://hooks.slack.com/services/T0/B0/sesame\nhttps://hooks.slack.com/services/T0/B0/sesame",
            "https://hooks.slack.com/services/T0/B0/sesame sesame",
        ] {
            let error = slack.check(bad).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("sesame"), "{error:?} shows the URL");
        }
    }

    #[test]
    fn plain_http_is_for_listed_loopback_addresses() {
        assert!(allowed(&["127.0.0.1"]).check("http://127.0.0.1:8008/services/x").is_ok());
        assert!(allowed(&["127.0.0.1:8008"]).check("http://127.0.0.1:8008/services/x").is_ok());
        assert!(allowed(&["localhost"]).check("http://localhost/services/x").is_ok());
        assert!(allowed(&["::1"]).check("http://[::1]:80/services/x").is_ok());
        assert!(allowed(&["127.0.0.1:8008"]).check("http://127.0.0.1:9999/services/x").is_err());
        assert!(matches!(allowed(&["10.0.0.1"]).check("http://10.0.0.1/x"), Err(WebhookError::Insecure)));
    }

    #[test]
    fn slacks_host_alone_is_not_a_webhook() {
        let slack = AllowedHosts::default();
        for bad in ["https://hooks.slack.com", "https://hooks.slack.com/", "https://hooks.slack.com//services/"] {
            assert!(matches!(slack.check(bad), Err(WebhookError::NoPath)), "{bad}");
        }
        // Another host, such as a private relay, may have no path.
        assert!(allowed(&["relay.example.com"]).check("https://relay.example.com/").is_ok());
    }

    #[test]
    fn quotes_around_a_webhook_do_no_harm() {
        let slack = AllowedHosts::default();
        let plain = slack.check("https://hooks.slack.com/services/T0/B0/x").unwrap();
        assert_eq!(slack.check("\"https://hooks.slack.com/services/T0/B0/x\"\n").unwrap(), plain);
    }

    #[test]
    fn a_webhook_is_never_printed() {
        let webhook = AllowedHosts::default().check("https://hooks.slack.com/services/T0/B0/sesame").unwrap();
        assert!(!format!("{webhook:?} {:?}", WebhookSource::Url(webhook.clone())).contains("sesame"));
    }

    #[test]
    fn a_list_of_hosts_accepts_only_host_names() {
        for bad in [vec![], vec![""], vec!["https://hooks.slack.com"], vec!["hooks.slack.com/x"], vec!["a b"]] {
            assert!(AllowedHosts::new(bad.iter().map(ToString::to_string)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_workflow_trigger_is_paced_slower() {
        let slack = AllowedHosts::default();
        let interval = |path: &str| slack.check(&format!("https://hooks.slack.com/{path}")).unwrap().interval();
        assert_eq!(interval("services/T/B/x"), Duration::from_secs(1));
        assert_eq!(interval("triggers/T/1/x"), Duration::from_secs(6));
    }
}
