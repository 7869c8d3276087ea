//! Sends heartbeats to a dead man's switch outside (healthchecks.io, Dead Man's Snitch, Cronitor …) while this worker works. When the
//! heartbeats stop, that service raises an alert: this worker cannot report its own failure.
//!
//! Invariants: nothing here delays or fails an alert; no heartbeat is sent while the worker does not work; the URL, which is a secret, is in
//! no log, error or metric.

use std::{fmt, sync::Arc, time::Duration};

use reqwest::{StatusCode, Url, redirect::Policy};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tracing::{info, warn};

use crate::{
    canary::Canaries,
    consumer::Consumer,
    metrics::{self, HeartbeatOutcome},
    secret::{self, Expected},
    shutdown::StopSignal,
    slack::{Slack, client::read_body},
    webhook::{AllowedHosts, WebhookError, Webhooks},
};

/// How long one request may take in total.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The URL that a heartbeat requests, checked. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct PingUrl(Url);

/// Where the URL comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeartbeatSource {
    /// A secret in Secrets Manager whose SecretString is the URL, or a JSON object that holds it.
    Secret {
        /// Its name or ARN.
        id: String,
        /// The object's key, needed if several of its values could be the URL.
        key: Option<String>,
    },
    /// The URL itself.
    Url(PingUrl),
}

/// When and where heartbeats are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartbeatSettings {
    /// Where the URL comes from.
    pub source: HeartbeatSource,
    /// The time between two heartbeats.
    pub interval: Duration,
    /// No heartbeat is sent if this time has passed without a canary. `None`: canaries do not matter.
    pub canary_within: Option<Duration>,
}

/// The parts of the worker that show whether it works.
#[derive(Debug)]
pub struct Watched {
    /// Shows whether it receives.
    pub consumer: Arc<Consumer>,
    /// Shows whether it can post.
    pub slack: Arc<Slack>,
    /// Show whether events arrive.
    pub canaries: Arc<Canaries>,
}

/// Sends heartbeats.
#[derive(Debug)]
pub struct Heartbeat {
    settings: HeartbeatSettings,
    secrets: Webhooks,
    allowed: AllowedHosts,
    client: reqwest::Client,
    watched: Watched,
    /// The URL from the last look-up. `None` after a refusal, because the secret may have changed.
    url: Option<PingUrl>,
    last: Option<BeatResult>,
}

/// The result of one heartbeat.
#[derive(Debug, PartialEq, Eq)]
enum BeatResult {
    Sent,
    Failed(String),
    Withheld(&'static str),
}

impl PingUrl {
    /// Checks a URL: `https` to any host, or a loopback address that is listed in `slack.allowed_hosts`.
    ///
    /// # Errors
    /// The rule that the URL breaks. The URL is never shown.
    pub fn check(text: &str, allowed: &AllowedHosts) -> Result<Self, &'static str> {
        const NOT_A_URL: &str = "it is not a URL; it should look like https://hc-ping.com/…";
        let text = secret::clean(text);
        // The URL parser drops line breaks and tabs, so two lines would become one URL.
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(NOT_A_URL);
        }
        let url = Url::parse(text).ok().filter(|url| url.host_str().is_some()).ok_or(NOT_A_URL)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("it must not contain a user name or password");
        }
        if url.scheme() != "https" && !(url.scheme() == "http" && allowed.allows_loopback(&url)) {
            return Err(
                "it must begin with https:// (plain http is for loopback addresses in slack.allowed_hosts only)",
            );
        }
        Ok(Self(url))
    }
}

impl fmt::Debug for PingUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PingUrl(<secret>)")
    }
}

/// The current URL.
///
/// # Errors
/// When the secret cannot be read, or does not hold an accepted URL.
pub async fn resolve(
    source: &HeartbeatSource,
    secrets: &Webhooks,
    allowed: &AllowedHosts,
) -> Result<PingUrl, WebhookError> {
    match source {
        HeartbeatSource::Url(url) => Ok(url.clone()),
        HeartbeatSource::Secret { id, key } => {
            let expected = Expected { what: "the heartbeat's URL", key_setting: "heartbeat.url_secret_key" };
            let text = secrets.read(id).await?;
            Ok(secret::extract(&text, key.as_deref(), expected, |text| PingUrl::check(text, allowed))?)
        }
    }
}

impl Heartbeat {
    /// `client` is a builder with the proxies and certificates of [`crate::outbound`].
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(
        settings: HeartbeatSettings,
        secrets: Webhooks,
        allowed: AllowedHosts,
        client: reqwest::ClientBuilder,
        watched: Watched,
    ) -> Result<Self, reqwest::Error> {
        let client = client
            .connect_timeout(TIMEOUT / 2)
            // No idle connection is kept: many NATs forget a connection within a minute.
            .pool_max_idle_per_host(0)
            .redirect(Policy::none())
            .user_agent(concat!("ecs-slack-alerts/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { settings, secrets, allowed, client, watched, url: None, last: None })
    }

    /// Sends heartbeats until the drain begins. The first is due after one interval, so a worker that ends before that sends none.
    pub async fn run(mut self, mut stop: StopSignal) {
        let interval = self.settings.interval;
        let beats = async {
            let mut ticks = interval_at(Instant::now() + interval, interval);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                self.beat().await;
            }
        };
        tokio::select! {
            () = beats => {}
            _ = stop.wait_for(Option::is_some) => {}
        }
    }

    async fn beat(&mut self) {
        let beat = match self.reason_to_withhold() {
            Some(reason) => BeatResult::Withheld(reason),
            None => self.ping().await.map_or_else(BeatResult::Failed, |()| BeatResult::Sent),
        };
        metrics::heartbeat(match beat {
            BeatResult::Sent => HeartbeatOutcome::Ok,
            BeatResult::Failed(_) => HeartbeatOutcome::Error,
            BeatResult::Withheld(_) => HeartbeatOutcome::Withheld,
        });
        // Only a change is logged, not every heartbeat.
        if self.last.as_ref() != Some(&beat) {
            match &beat {
                BeatResult::Sent => info!("heartbeat sent"),
                BeatResult::Failed(error) => warn!(error, "heartbeat failed"),
                BeatResult::Withheld(reason) => warn!(reason, "heartbeat withheld"),
            }
            self.last = Some(beat);
        }
    }

    fn reason_to_withhold(&self) -> Option<&'static str> {
        let Watched { consumer, slack, canaries } = &self.watched;
        if slack.blocked_until().is_some() {
            return Some("no channel can take a post");
        }
        if !consumer.is_receiving() {
            return Some("no receive has succeeded lately");
        }
        if consumer.unhealthy_reason().is_some() {
            return Some("the worker is not healthy: /healthz says why");
        }
        let is_silent = |within: Duration| canaries.silent_for() > within;
        self.settings
            .canary_within
            .is_some_and(is_silent)
            .then_some("no canary has come within heartbeat.canary_within")
    }

    /// Requests the URL once.
    async fn ping(&mut self) -> Result<(), String> {
        let url = match self.url.take() {
            Some(url) => url,
            None => {
                let looked_up = resolve(&self.settings.source, &self.secrets, &self.allowed).await;
                looked_up.map_err(|error| format!("its URL cannot be looked up: {error}"))?
            }
        };
        let exchange = async {
            let response = self.client.get(url.0.clone()).send().await?;
            let (status, mut body) = (response.status(), Vec::new());
            // The status is enough if the body ends early.
            let _ = read_body(response, &mut body).await;
            Ok::<_, reqwest::Error>((status, body))
        };
        let answer = timeout(TIMEOUT, exchange).await;
        // Without an answer, the URL is kept: nothing shows that it is wrong.
        let keep = |heartbeat: &mut Self| heartbeat.url = Some(url);
        match answer {
            Ok(Ok((status, body))) => {
                check_response(status, &body)?;
                keep(self);
                Ok(())
            }
            Ok(Err(error)) => {
                keep(self);
                Err(format!("not reached: {:#}", anyhow::Error::from(error.without_url())))
            }
            Err(_) => {
                keep(self);
                Err(format!("no answer within {TIMEOUT:?}"))
            }
        }
    }
}

/// Checks the response. The error does not quote the body. For an unknown check, healthchecks.io responds with 200 and "OK (not found)".
/// <https://healthchecks.io/docs/http_api/>
fn check_response(status: StatusCode, body: &[u8]) -> Result<(), String> {
    if status.is_redirection() {
        return Err(format!("answered {status}; redirects are not followed; use the address that it redirects to"));
    }
    if !status.is_success() {
        return Err(format!("answered {status}"));
    }
    if body.trim_ascii() == b"OK (not found)" {
        return Err(format!("answered {status}, but does not know this check"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn https_to_any_host_is_accepted_and_the_url_is_not_shown() {
        let allowed = AllowedHosts::new(["127.0.0.1".to_owned()]).unwrap();
        for good in [
            "https://hc-ping.com/0ec9-sesame",
            " \"https://nosnch.in/sesame\"\n",
            "https://cronitor.link/p/sesame/worker?state=ok",
            "http://127.0.0.1:8000/sesame",
        ] {
            let url = PingUrl::check(good, &allowed).unwrap();
            assert!(!format!("{url:?} {:?}", HeartbeatSource::Url(url.clone())).contains("sesame"));
        }
        for (bad, part) in [
            ("", "not a URL"),
            ("hc-ping.com/sesame", "not a URL"),
            ("https://hc-ping.com/a\nhttps://hc-ping.com/sesame", "not a URL"),
            ("http://hc-ping.com/sesame", "https://"),
            ("http://127.0.0.2/sesame", "https://"),
            ("http://169.254.169.254/sesame", "https://"),
            ("ftp://127.0.0.1/sesame", "https://"),
            ("https://me:sesame@hc-ping.com/x", "user name"),
        ] {
            let error = PingUrl::check(bad, &allowed).unwrap_err();
            assert!(error.contains(part) && !error.contains("sesame"), "{bad}: {error}");
        }
    }

    #[test]
    fn only_a_success_counts() {
        let checked = |status: u16, body: &str| check_response(StatusCode::from_u16(status).unwrap(), body.as_bytes());
        for (status, body) in [(200, "OK"), (200, ""), (202, "queued"), (204, ""), (200, "OK (rate limited)")] {
            assert_eq!(checked(status, body), Ok(()), "{status} {body}");
        }
        for (status, body, part) in [
            (200, "OK (not found)\n", "does not know this check"),
            (301, "", "redirects are not followed"),
            (404, "sesame", "404"),
            (500, "sesame", "500"),
        ] {
            let error = checked(status, body).unwrap_err();
            assert!(error.contains(part) && !error.contains("sesame"), "{status} {body}: {error}");
        }
    }
}
