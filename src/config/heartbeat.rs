//! The `[heartbeat]` section: where and when heartbeats are sent.

use std::time::Duration;

use super::reader::Reader;
use crate::{
    heartbeat::{HeartbeatSettings, HeartbeatSource, PingUrl},
    webhook::AllowedHosts,
};

pub(super) fn parse(mut heartbeat: Reader<'_>, allowed_hosts: &AllowedHosts) -> Option<HeartbeatSettings> {
    let mut secret = heartbeat.string("url_secret_id", "HEARTBEAT_URL_SECRET_ID");
    let mut key = heartbeat.string("url_secret_key", "");
    let mut url = heartbeat.string("url", "HEARTBEAT_URL");
    let (second, hour, day) = (Duration::from_secs(1), Duration::from_secs(3600), Duration::from_secs(24 * 3600));
    let interval = heartbeat.duration("interval", "", Duration::from_secs(60), second..=hour);
    let within = heartbeat.duration("canary_within", "HEARTBEAT_CANARY_WITHIN", Duration::ZERO, second..=day);
    let canary_within = Some(within).filter(|within| !within.is_zero());
    // A variable replaces the URL in the file, whether that is a secret or the URL itself.
    match (heartbeat.is_from_env("url_secret_id"), heartbeat.is_from_env("url")) {
        (true, false) => url = None,
        (false, true) => (secret, key) = (None, None),
        _ => {}
    }
    let source = match (secret, url) {
        (Some(_), Some(_)) => {
            heartbeat.fault("url", "is set together with url_secret_id (HEARTBEAT_URL_SECRET_ID); give only one");
            None
        }
        (Some(secret), None) if secret.contains("://") => {
            heartbeat
                .fault("url_secret_id", "is a URL; it must be the name or ARN of a secret (a URL is heartbeat.url)");
            None
        }
        (Some(id), None) => Some(HeartbeatSource::Secret { id, key: key.take() }),
        (None, Some(url)) => PingUrl::check(&url, allowed_hosts)
            .map(HeartbeatSource::Url)
            .map_err(|fault| heartbeat.fault("url", fault))
            .ok(),
        (None, None) => {
            if canary_within.is_some() {
                let what =
                    "is required with canary_within: the secret that holds the heartbeat's URL (or url, HEARTBEAT_URL)";
                heartbeat.fault("url_secret_id", what);
            }
            None
        }
    };
    if key.is_some() {
        heartbeat.fault("url_secret_key", "is set without url_secret_id; it names a key of that secret's JSON object");
    }
    if canary_within.is_some_and(|within| within < interval) {
        heartbeat.fault("canary_within", "is shorter than heartbeat.interval; make it several times as long");
    }
    heartbeat.finish();
    Some(HeartbeatSettings { source: source?, interval, canary_within })
}
