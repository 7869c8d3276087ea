//! Tells a dead man's switch outside (healthchecks.io, Dead Man's Snitch, Cronitor …) that this worker works, as long as it does.
//! When the requests stop, that service raises an alert: the one failure that no alert from here can report is our own.
//!
//! Invariants: nothing here delays or fails an alert; no request is made while the worker does not work; and the URL, which is a
//! secret, is in no log, error or metric.

use std::{fmt, sync::Arc, time::Duration};

use reqwest::{StatusCode, Url, redirect::Policy};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tracing::{info, warn};

use crate::{
    canary::Canaries,
    consumer::Consumer,
    metrics::{self, HeartbeatOutcome},
    secret::{self, Wanted},
    shutdown::Stop,
    slack::{Slack, client::read_body},
    webhook::{AllowedHosts, WebhookError, Webhooks},
};

/// How long one request may take in all.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A URL to ask, checked. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct PingUrl(Url);

/// Where the URL comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A secret in Secrets Manager whose SecretString is the URL, or a JSON object that holds it.
    Secret {
        /// Its name or ARN.
        id: String,
        /// The object's key, where several of its values could be meant.
        key: Option<String>,
    },
    /// The URL itself.
    Url(PingUrl),
}

/// When and where heartbeats are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where to.
    pub source: Source,
    /// How often.
    pub interval: Duration,
    /// None is sent after so long without a canary; without this, canaries do not matter.
    pub canary_within: Option<Duration>,
}

/// What shows that the worker works.
#[derive(Debug)]
pub struct Signs {
    /// It receives.
    pub consumer: Arc<Consumer>,
    /// It can post.
    pub slack: Arc<Slack>,
    /// Events arrive.
    pub canaries: Arc<Canaries>,
}

/// Sends heartbeats.
#[derive(Debug)]
pub struct Heartbeat {
    settings: Settings,
    secrets: Webhooks,
    allowed: AllowedHosts,
    client: reqwest::Client,
    signs: Signs,
    /// As it was looked up last; none where it was refused, for it may have been changed.
    url: Option<PingUrl>,
    last: Option<Beat>,
}

/// What became of one heartbeat.
#[derive(Debug, PartialEq, Eq)]
enum Beat {
    Sent,
    Failed(String),
    Withheld(&'static str),
}

impl PingUrl {
    /// Checks a URL: `https` to any host, or a loopback address that is listed in `slack.allowed_hosts`.
    ///
    /// # Errors
    /// Says which rule it breaks; never shows the URL.
    pub fn check(text: &str, allowed: &AllowedHosts) -> Result<Self, &'static str> {
        const NOT_A_URL: &str = "it is not a URL; it should look like https://hc-ping.com/…";
        let text = secret::clean(text);
        // The parser drops line breaks and tabs: two lines would become one URL.
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(NOT_A_URL);
        }
        let url = Url::parse(text).ok().filter(|url| url.host_str().is_some()).ok_or(NOT_A_URL)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("a user name or password may not stand in it");
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

/// The URL as it is now.
///
/// # Errors
/// When the secret cannot be read, or what it holds is no URL that may be asked.
pub async fn resolve(source: &Source, secrets: &Webhooks, allowed: &AllowedHosts) -> Result<PingUrl, WebhookError> {
    match source {
        Source::Url(url) => Ok(url.clone()),
        Source::Secret { id, key } => {
            let wanted = Wanted { what: "the heartbeat's URL", key_setting: "heartbeat.url_secret_key" };
            let text = secrets.read(id).await?;
            Ok(secret::take(&text, key.as_deref(), wanted, |text| PingUrl::check(text, allowed))?)
        }
    }
}

impl Heartbeat {
    /// With a client that knows proxies and certificates ([`crate::outbound`]), to be completed.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(
        settings: Settings,
        secrets: Webhooks,
        allowed: AllowedHosts,
        client: reqwest::ClientBuilder,
        signs: Signs,
    ) -> Result<Self, reqwest::Error> {
        let client = client
            .connect_timeout(TIMEOUT / 2)
            // A minute is longer than many a NAT remembers a connection.
            .pool_max_idle_per_host(0)
            .redirect(Policy::none())
            .user_agent(concat!("ecs-slack-alerts/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { settings, secrets, allowed, client, signs, url: None, last: None })
    }

    /// Sends heartbeats until the drain begins. The first is due after an interval: what ends sooner does not work.
    pub async fn run(mut self, mut stop: Stop) {
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
            Some(reason) => Beat::Withheld(reason),
            None => self.ping().await.map_or_else(Beat::Failed, |()| Beat::Sent),
        };
        metrics::heartbeat(match beat {
            Beat::Sent => HeartbeatOutcome::Ok,
            Beat::Failed(_) => HeartbeatOutcome::Error,
            Beat::Withheld(_) => HeartbeatOutcome::Withheld,
        });
        // What lasts is worth one line, not one a minute.
        if self.last.as_ref() != Some(&beat) {
            match &beat {
                Beat::Sent => info!("heartbeat sent"),
                Beat::Failed(error) => warn!(error, "heartbeat failed"),
                Beat::Withheld(reason) => warn!(reason, "heartbeat withheld"),
            }
            self.last = Some(beat);
        }
    }

    fn reason_to_withhold(&self) -> Option<&'static str> {
        let Signs { consumer, slack, canaries } = &self.signs;
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

    /// Asks the URL once.
    async fn ping(&mut self) -> Result<(), String> {
        let url = match self.url.take() {
            Some(url) => url,
            None => {
                let looked_up = resolve(&self.settings.source, &self.secrets, &self.allowed).await;
                looked_up.map_err(|error| format!("its URL cannot be looked up: {error}"))?
            }
        };
        let asked = async {
            let response = self.client.get(url.0.clone()).send().await?;
            let (status, mut body) = (response.status(), Vec::new());
            // The status says enough where the body breaks off.
            let _ = read_body(response, &mut body).await;
            Ok::<_, reqwest::Error>((status, body))
        };
        let answer = timeout(TIMEOUT, asked).await;
        // Where nobody answered, the URL is as good as it was.
        let keep = |heartbeat: &mut Self| heartbeat.url = Some(url);
        match answer {
            Ok(Ok((status, body))) => {
                judge(status, &body)?;
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

/// What an answer means; its body is not repeated. Healthchecks says of a check that it does not know "OK (not found)", with 200.
/// <https://healthchecks.io/docs/http_api/>
fn judge(status: StatusCode, body: &[u8]) -> Result<(), String> {
    if status.is_redirection() {
        return Err(format!("answered {status}; redirects are not followed, so give the address that it leads to"));
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
    fn https_to_any_host_passes_and_nothing_is_shown() {
        let allowed = AllowedHosts::new(["127.0.0.1".to_owned()]).unwrap();
        for good in [
            "https://hc-ping.com/0ec9-sesame",
            " \"https://nosnch.in/sesame\"\n",
            "https://cronitor.link/p/sesame/worker?state=ok",
            "http://127.0.0.1:8000/sesame",
        ] {
            let url = PingUrl::check(good, &allowed).unwrap();
            assert!(!format!("{url:?} {:?}", Source::Url(url.clone())).contains("sesame"));
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
    fn only_a_success_is_one() {
        let judged = |status: u16, body: &str| judge(StatusCode::from_u16(status).unwrap(), body.as_bytes());
        for (status, body) in [(200, "OK"), (200, ""), (202, "queued"), (204, ""), (200, "OK (rate limited)")] {
            assert_eq!(judged(status, body), Ok(()), "{status} {body}");
        }
        for (status, body, part) in [
            (200, "OK (not found)\n", "does not know this check"),
            (301, "", "redirects are not followed"),
            (404, "sesame", "404"),
            (500, "sesame", "500"),
        ] {
            let error = judged(status, body).unwrap_err();
            assert!(error.contains(part) && !error.contains("sesame"), "{status} {body}: {error}");
        }
    }
}
