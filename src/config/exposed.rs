//! Finds secrets in a configuration that many people can read. `CONFIG_CONTENT` is an environment variable: everybody who may read the
//! task definition or the pod can read it, and could post to Slack with a webhook or token in it. Pure.
//!
//! It searches the parsed values, so that TOML's escapes hide nothing, and the comments, which the parser drops. A fault names the
//! place and never shows the value.

use reqwest::Url;
use toml::{Table, Value};
use toml_parser::{Source, lexer::TokenKind};

use crate::webhook::{SLACK_HOSTS, is_loopback};

/// The kind of secret that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SecretKind {
    Webhook,
    Token,
    Heartbeat,
}

impl SecretKind {
    fn fault(self, place: &str, holder: &str) -> String {
        let (what, use_of_it, key, all) = match self {
            Self::Webhook => ("a webhook's URL", "post with it", "webhook_secret_id", "the webhook or token"),
            Self::Token => ("a Slack token", "post with it", "bot_token_secret_id", "the webhook or token"),
            Self::Heartbeat => {
                ("a heartbeat's URL", "send heartbeats in the worker's place", "url_secret_id", "the URL")
            }
        };
        format!(
            "{place}: {holder}{what}, and whoever may read the worker's environment could {use_of_it}. Keep it in Secrets Manager, \
             and name that secret in {key}. If this was deployed, replace {all}"
        )
    }
}

/// Every secret in `text`, the value of `CONFIG_CONTENT`; `table` is parsed from it. A webhook is recognized by its host: Slack's own, those
/// in `slack.allowed_hosts`, and `more_hosts`, which the variable lists.
pub(super) fn faults(text: &str, table: &Table, more_hosts: Option<&str>) -> Vec<String> {
    let listed = table.get("slack").and_then(|slack| slack.get("allowed_hosts"));
    let listed = listed.map_or(&[][..], |hosts| hosts.as_array().map_or(std::slice::from_ref(hosts), Vec::as_slice));
    let hosts = listed.iter().filter_map(Value::as_str).chain(more_hosts).flat_map(|hosts| hosts.split(','));
    let hosts = hosts.map(|host| host.trim().to_lowercase()).filter(|host| !host.is_empty() && !names_loopback(host));
    let mut search = Search { hosts: hosts.chain(SLACK_HOSTS.map(str::to_owned)).collect(), faults: Vec::new() };
    search.table("", table);
    search.comments(text);
    search.faults
}

fn names_loopback(host: &str) -> bool {
    let urls = [format!("http://{host}/"), format!("http://[{host}]/")];
    urls.iter().find_map(|url| Url::parse(url).ok()).is_some_and(|url| is_loopback(&url))
}

struct Search {
    /// In lower case.
    hosts: Vec<String>,
    faults: Vec<String>,
}

impl Search {
    fn table(&mut self, path: &str, table: &Table) {
        for (key, value) in table {
            let key = match self.secret_in(key) {
                None => shown(key),
                Some(secret) => {
                    let place = if path.is_empty() { "CONFIG_CONTENT" } else { path };
                    self.faults.push(secret.fault(place, "the name of a key holds "));
                    "(a key)".to_owned()
                }
            };
            let path = if path.is_empty() { key } else { format!("{path}.{key}") };
            self.value(&path, value);
        }
    }

    fn value(&mut self, path: &str, value: &Value) {
        match value {
            Value::String(text) => {
                let is_local =
                    Url::parse(text.trim()).is_ok_and(|url| is_loopback(&url) && self.hosted(text).is_none());
                let found = match path {
                    // These keys accept any host, even one that is in no list.
                    "heartbeat.url" if !is_local => Some(SecretKind::Heartbeat),
                    _ if path.ends_with(".webhook_url") && !is_local => Some(SecretKind::Webhook),
                    _ => self.secret_in(text),
                };
                self.faults.extend(found.map(|secret| secret.fault(path, "holds ")));
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.value(&format!("{path}[{index}]"), item);
                }
            }
            Value::Table(table) => self.table(path, table),
            Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {}
        }
    }

    fn comments(&mut self, text: &str) {
        let comments = Source::new(text).lex().filter(|token| token.kind() == TokenKind::Comment);
        for span in comments.map(|token| token.span()) {
            if let Some(secret) = text.get(span.start()..span.end()).and_then(|comment| self.secret_in(comment)) {
                let line = 1 + text[..span.start()].matches('\n').count();
                self.faults.push(secret.fault(&format!("CONFIG_CONTENT, line {line}"), "a comment holds "));
            }
        }
    }

    fn secret_in(&self, text: &str) -> Option<SecretKind> {
        // A pattern may be a string of JSON, which has its own escapes.
        if let Ok(json @ (serde_json::Value::Object(_) | serde_json::Value::Array(_))) = serde_json::from_str(text) {
            return self.secret_in_json(&json);
        }
        let words = text.split(|c: char| c.is_whitespace() || "\"'`<>()[]{}=,;|".contains(c));
        words.filter(|word| !word.is_empty()).find_map(|word| {
            let is_local = || Url::parse(word).is_ok_and(|url| is_loopback(&url));
            let is_webhook = || self.hosted(word).is_some() || (has_webhook_path(word) && !is_local());
            if is_token(word) { Some(SecretKind::Token) } else { is_webhook().then_some(SecretKind::Webhook) }
        })
    }

    fn secret_in_json(&self, json: &serde_json::Value) -> Option<SecretKind> {
        match json {
            serde_json::Value::String(text) => self.secret_in(text),
            serde_json::Value::Array(items) => items.iter().find_map(|item| self.secret_in_json(item)),
            serde_json::Value::Object(fields) => {
                fields.iter().find_map(|(name, value)| self.secret_in(name).or_else(|| self.secret_in_json(value)))
            }
            _ => None,
        }
    }

    /// `Some` if the word holds a webhook's host and a path after it: the host alone is not a secret.
    fn hosted(&self, word: &str) -> Option<()> {
        let lower = word.to_lowercase();
        let has_path = |rest: &str| {
            let rest = rest.trim_start_matches('.');
            let rest =
                rest.strip_prefix(':').map_or(rest, |port| port.trim_start_matches(|c: char| c.is_ascii_digit()));
            let path = rest.trim_start_matches(['/', '\\']);
            path.len() < rest.len() && path.starts_with(char::is_alphanumeric)
        };
        let is_written = |host: &String| lower.match_indices(host).any(|(at, _)| has_path(&lower[at + host.len()..]));
        // The same host may be percent-encoded, or written with other characters that URL parsing maps to it.
        let is_meant = |host: &String| {
            let url = Url::parse(&lower).ok();
            url.is_some_and(|url| {
                let has_path = url.path().trim_start_matches('/').starts_with(|c: char| c.is_ascii_alphanumeric());
                has_path && url.host_str().map(|host| host.trim_end_matches('.')) == Some(host)
            })
        };
        self.hosts.iter().any(|host| is_written(host) || is_meant(host)).then_some(())
    }
}

/// `T0123ABCD/B0123ABCD/` and a password, which is the secret part of a webhook's URL.
fn has_webhook_path(word: &str) -> bool {
    let is_id = |text: &str, first: char| {
        text.len() >= 8 && text.starts_with(first) && text.bytes().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
    };
    let parts: Vec<&str> = word.split('/').collect();
    parts.windows(3).any(|parts| {
        is_id(parts[0], 'T')
            && is_id(parts[1], 'B')
            && parts[2].bytes().take_while(u8::is_ascii_alphanumeric).count() >= 16
    })
}

/// A token of any kind begins with `xox` and a letter, or with `xapp`. <https://docs.slack.dev/authentication/tokens>
///
/// Inside a word a digit must follow, as in Slack's tokens: the name of a secret may be `slack/xoxb-token`.
fn is_token(word: &str) -> bool {
    const MIN_LENGTH: usize = 8;
    let lower = word.to_lowercase();
    let begins = lower.match_indices("xox").chain(lower.match_indices("xapp")).map(|(at, _)| at);
    begins.into_iter().any(|at| {
        let (before, rest) = lower.split_at(at);
        let rest = rest.strip_prefix("xapp").or_else(|| rest[3..].strip_prefix(|c: char| c.is_ascii_lowercase()));
        let Some(rest) = rest.and_then(|rest| rest.strip_prefix(['-', '.'])) else { return false };
        let length = rest.bytes().take_while(|c| c.is_ascii_alphanumeric() || b"-.%".contains(c)).count();
        let is_clear = before.is_empty() || rest.starts_with(|c: char| c.is_ascii_digit());
        length >= MIN_LENGTH && is_clear && !before.ends_with(char::is_alphanumeric)
    })
}

/// A key, as an error may show it.
fn shown(key: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match key {
        key if key.contains("://") => "(a URL)".to_owned(),
        key if !key.is_empty() && key.chars().all(is_bare) => key.to_owned(),
        key => format!("{key:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEBHOOK: &str = "https://hooks.slack.com/services/T0/B0/open-sesame";

    fn found(text: &str) -> Vec<String> {
        let faults = faults(text, &text.parse().unwrap(), Some("127.0.0.1, relay.example.com:8443"));
        assert!(!faults.iter().any(|fault| fault.contains("sesame")), "{faults:?}");
        faults
    }

    #[test]
    fn a_secret_is_found_wherever_and_however_it_is_written() {
        for (text, place, key) in [
            (format!("[[channel]]\nwebhook_url = '{WEBHOOK}'"), "channel[0].webhook_url: holds a webhook", "webhook_s"),
            (
                format!("channel = [{{ name = 'a', webhook_url = '{WEBHOOK}' }}]"),
                "channel[0].webhook_url: ",
                "webhook_s",
            ),
            (format!("channel = {{ webhook_url = '{WEBHOOK}' }}"), "channel.webhook_url: ", "webhook_s"),
            (format!("channel.webhook_url = '{WEBHOOK}'"), "channel.webhook_url: ", "webhook_s"),
            (format!("[[channel]]\n\"webhook\\u005furl\" = '{WEBHOOK}'"), "channel[0].webhook_url: ", "webhook_s"),
            (format!("[[channel]]\n'webhook_url' = '''\n{WEBHOOK}'''"), "channel[0].webhook_url: ", "webhook_s"),
            (
                "[[channel]]\nwebhook_url = \"\\u0068ttps://hooks\\u002Eslack.com/services/T0/B0/open-sesame\""
                    .to_owned(),
                "channel[0].webhook_url: ",
                "webhook_s",
            ),
            (
                "x = \"\"\"https://hooks.sl\\\n   ack.com/services/T0/B0/open-sesame\"\"\"".to_owned(),
                "x: holds a webhook",
                "webhook_s",
            ),
            // A URL with a host that is in no list.
            (
                "[[channel]]\nwebhook_url = 'https://unlisted.example/open-sesame'".into(),
                "channel[0].webhook_url: ",
                "webhook_s",
            ),
            ("account_name = 'https://relay.example.com:8443/open-sesame'".into(), "account_name: ", "webhook_s"),
            (
                "account_name = 'https://mine.example/open-sesame'\n[slack]\nallowed_hosts = ['mine.example']".into(),
                "account_name: ",
                "webhook_s",
            ),
            ("[heartbeat]\nurl = 'https://hc.example/open-sesame'".into(), "heartbeat.url: holds a heartbeat", "url_s"),
            ("heartbeat = { url = 'https://hc.example/open-sesame' }".into(), "heartbeat.url: ", "url_s"),
            // Under a wrong key, as a key, and in lists.
            (format!("[[channel]]\nname = '{WEBHOOK}'"), "channel[0].name: ", "webhook_s"),
            (format!("[[channel]]\nwebhook_secret_id = '{WEBHOOK}'"), "channel[0].webhook_secret_id: ", "webhook_s"),
            (format!("'{WEBHOOK}' = 1"), "CONFIG_CONTENT: the name of a key", "webhook_s"),
            (format!("a.'{WEBHOOK}' = 1"), "a: the name of a key", "webhook_s"),
            (
                format!("[slack]\nallowed_hosts = ['hooks.slack.com', '{WEBHOOK}']"),
                "slack.allowed_hosts[1]: ",
                "webhook_s",
            ),
            (
                format!("[[route]]\npattern = {{ a = [{{ prefix = '{WEBHOOK}' }}] }}"),
                "route[0].pattern.a[0].prefix: ",
                "webhook_s",
            ),
            (
                r#"route = [{ pattern = '{"a":["https:\/\/\u0068ooks.slack.com\/services\/T0\/B0\/open-sesame"]}' }]"#
                    .into(),
                "route[0].pattern: ",
                "webhook_s",
            ),
            // In other spellings.
            ("a = 'HTTPS://Hooks.Slack.Com:443/services/T0/B0/open-sesame'".into(), "a: ", "webhook_s"),
            ("a = 'https://hooks%2Eslack.com/services/T0/B0/open-sesame'".into(), "a: ", "webhook_s"),
            ("a = 'hooks.slack-gov.com./services/T0/B0/open-sesame'".into(), "a: ", "webhook_s"),
            (
                "a = 'http://127.0.0.1/?to=https://hooks.slack.com/services/T0/B0/open-sesame'".into(),
                "a: ",
                "webhook_s",
            ),
            ("a = '/services/T00000000/B00000000/opensesameopensesame'".into(), "a: ", "webhook_s"),
            // Tokens.
            (
                "[[channel]]\nbot_token_secret_id = 'xoxb-open-sesame'".into(),
                "channel[0].bot_token_secret_id: holds a Slack token",
                "bot_t",
            ),
            ("a = 'Bearer xoxp-123456-open-sesame'".into(), "a: ", "bot_t"),
            ("a = 'token:xapp-1-A0-open-sesame'".into(), "a: ", "bot_t"),
            ("a = 'xoxe.xoxb-1-open-sesame'".into(), "a: ", "bot_t"),
            // Comments, also after a value and after text that only looks like a comment.
            (format!("# {WEBHOOK}"), "CONFIG_CONTENT, line 1: a comment holds a webhook", "webhook_s"),
            (format!("a = '#'\nb = 1 # was: webhook_url = \"{WEBHOOK}\""), "CONFIG_CONTENT, line 2: ", "webhook_s"),
            ("a = 1\n\n#token=xoxb-12345-open-sesame".into(), "CONFIG_CONTENT, line 3: ", "bot_t"),
        ] {
            let faults = found(&text);
            assert!(faults.len() == 1 && faults[0].starts_with(place) && faults[0].contains(key), "{text}: {faults:?}");
        }
    }

    #[test]
    fn a_text_without_a_secret_is_accepted() {
        for text in [
            "[queue]\nurl = 'https://sqs.eu-west-1.amazonaws.com/123456789012/ecs-alerts'",
            "[slack]\nallowed_hosts = ['hooks.slack.com', '127.0.0.1']\napi_url = 'https://slack.com/api/'",
            "[slack]\nallowed_hosts = 'hooks.slack.com,hooks.slack-gov.com'",
            "[[channel]]\nwebhook_secret_id = 'arn:aws:secretsmanager:eu-west-1:123456789012:secret:hooks.slack.com-AbCdEf'",
            "[[channel]]\nbot_token_secret_id = 'slack/xoxb-token-AbCdEf'\nchannel_id = 'C0123456789'",
            "# A webhook's URL looks like https://hooks.slack.com/…, a bot token like xoxb-…",
            "# the xoxb token is in monitoring/slack, the host is hooks.slack.com",
            // A loopback address: a stand-in for tests.
            "[[channel]]\nwebhook_url = 'http://127.0.0.1:8008/services/T00000000/B00000000/opensesameopensesame'",
            "[[channel]]\nwebhook_url = 'http://[::1]:8008/open-sesame'",
            "[heartbeat]\nurl = 'http://127.0.0.1:8008/ping'",
            "a = \"# https://elsewhere.example/services\"",
        ] {
            assert_eq!(found(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn each_place_is_named() {
        let text = format!(
            "# {WEBHOOK}\n[[channel]]\nname = 'a'\nwebhook_url = '{WEBHOOK}'\n[[channel]]\nx = 'xoxb-1-open-sesame'"
        );
        let places: Vec<String> =
            found(&text).iter().map(|fault| fault.split(": ").next().unwrap().to_owned()).collect();
        assert_eq!(places, ["channel[0].webhook_url", "channel[1].x", "CONFIG_CONTENT, line 1"]);
    }
}
