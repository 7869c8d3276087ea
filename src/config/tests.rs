//! How files and variables are read, and which of them are refused or cause a warning.

use std::collections::HashMap;

use super::*;
use crate::webhook::WebhookSource;

mod channels;
mod routing;

const RUN: Needs = Needs { queue: true, webhooks: true };
const SECRET: &str = "https://hooks.slack.com/services/T0/B0/sesame";

fn load(file: &str, env: &[(&str, &str)]) -> Result<Config, String> {
    let env: HashMap<String, String> = env.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    Config::from_text(file, &|name| env.get(name).cloned(), RUN).map_err(|error| error.to_string())
}

const MINIMAL: [(&str, &str); 2] =
    [("QUEUE_URL", "https://sqs.eu-west-1.amazonaws.com/1/q"), ("SLACK_WEBHOOK_SECRET_ID", "hook")];

/// Loads a file with the variables of `least` and of `env`.
fn with(least: &[(&str, &str)], file: &str, env: &[(&str, &str)]) -> Result<Config, String> {
    load(file, &[least, env].concat())
}

/// Channels with these names and fallbacks (`""` for none), and a route to the first.
fn chain(channels: &[(&str, &str)]) -> String {
    let channel = |(name, fallback): &(&str, &str)| {
        let fallback = if fallback.is_empty() { String::new() } else { format!("fallback = '{fallback}'\n") };
        format!("[[channel]]\nname = '{name}'\nwebhook_secret_id = '{name}'\n{fallback}")
    };
    let all: String = channels.iter().map(channel).collect();
    format!("{all}[[route]]\nchannel = '{}'\n", channels[0].0)
}

fn warnings(file: &str) -> Vec<String> {
    load(file, &MINIMAL[..1]).unwrap().warnings
}

/// Two channels, `a` and `b`, with these routes.
fn routed(routes: &str) -> String {
    let channel = |name: &str| format!("[[channel]]\nname = '{name}'\nwebhook_secret_id = '{name}'\n");
    format!("unrouted = 'drop'\n{}{}{routes}", channel("a"), channel("b"))
}

#[test]
fn two_variables_are_enough() {
    let config = load("", &MINIMAL).unwrap();
    assert_eq!(config.queue.url, "https://sqs.eu-west-1.amazonaws.com/1/q");
    assert_eq!(
        config.channels,
        [Channel {
            name: "default".into(),
            source: Some(TargetSource::Webhook(WebhookSource::Secret { id: "hook".into(), key: None })),
            mention: None,
            mention_from: Severity::Critical,
            fallback: None,
        }]
    );
    assert_eq!(config.routes.len(), 1);
    assert_eq!(config.queue.visibility_timeout, Duration::from_secs(120));
    assert_eq!((config.queue.max_in_flight, config.queue.pollers), (1000, 4));
    assert_eq!(config.shutdown_grace, Duration::from_secs(25));
    assert_eq!(config.listen, "0.0.0.0:9090".parse().unwrap());
    assert_eq!(config.consumer().wait, Duration::from_secs(20));
}

#[test]
fn the_documented_file_loads() {
    let file = r#"
        account_name = "platform"
        [queue]
        url = "https://sqs.eu-west-1.amazonaws.com/123456789012/ecs-alerts"
        [[channel]]
        name = "platform-alerts"
        webhook_secret_id = "monitoring/critical_slack_webhook"
        [[channel]]
        name = "search-team"
        webhook_secret_id = "monitoring/search_slack_webhook"
        [[route]]
        channel = "search-team"
        pattern = { resources = [{ wildcard = "*:service/search-*/*" }] }
        [[route]]
        channel = "platform-alerts"
    "#;
    let config = load(file, &[]).unwrap();
    assert_eq!(config.account_name.as_deref(), Some("platform"));
    assert_eq!(config.routes.iter().map(|route| route.channel.0).collect::<Vec<_>>(), [1, 0]);
}

#[test]
fn a_variable_wins_over_the_file_and_an_empty_one_does_not() {
    let file = r#"
        account_name = "file"
        [queue]
        url = "https://sqs.eu-west-1.amazonaws.com/1/file"
        [[channel]]
        name = "only"
        webhook_url = "https://hooks.slack.com/services/T0/B0/x"
    "#;
    let config = load(file, &[("QUEUE_URL", "http://127.0.0.1:4566/1/env"), ("ACCOUNT_NAME", "")]).unwrap();
    assert_eq!(config.queue.url, "http://127.0.0.1:4566/1/env");
    assert_eq!(config.account_name.as_deref(), Some("file"));
    let config = load(file, &[("SLACK_WEBHOOK_SECRET_ID", "env")]).unwrap();
    assert_eq!(
        config.channels,
        [Channel {
            name: "only".into(),
            source: Some(TargetSource::Webhook(WebhookSource::Secret { id: "env".into(), key: None })),
            mention: None,
            mention_from: Severity::Critical,
            fallback: None,
        }]
    );
}

#[test]
fn a_short_grace_shortens_the_long_poll() {
    let wait = |grace: &str| load(&format!("[worker]\nshutdown_grace = {grace:?}"), &MINIMAL).unwrap().consumer().wait;
    assert_eq!(wait("5s"), Duration::from_secs(2));
    assert_eq!(wait("1s"), Duration::from_secs(1));
    assert_eq!(wait("2m"), Duration::from_secs(20));
}

#[test]
fn a_pattern_may_be_pasted_as_json() {
    let file = "unrouted = 'drop'\n[[channel]]\nname = 'a'\nwebhook_secret_id = 'x'\n[[route]]\nchannel = 'a'\npattern = '{\"detail\":{\"reason\":[null]}}'";
    load(file, &MINIMAL[..1]).unwrap();
}

/// Each is refused with one message that names the key or variable and says what is accepted.
#[test]
fn a_fault_names_the_key_and_what_is_accepted() {
    let one_channel = "[[channel]]\nname = 'a'\nwebhook_secret_id = 'x'\n";
    let route = |line: &str| format!("unrouted = 'drop'\n{one_channel}[[route]]\nchannel = 'a'\n{line}");
    for (file, env, expected) in [
        ("[queue", vec![], vec!["the file: line 1 is not TOML"]),
        ("que = 1", vec![], vec!["que: is not a key", "queue, "]),
        ("[queue]\nurll = 'x'", vec![], vec!["queue.urll: is not a key", "url"]),
        ("queue = 1", vec![], vec!["queue: is 1", "table"]),
        ("[queue]\nurl = 1", vec![], vec!["queue.url", "must be a string"]),
        ("", vec![("QUEUE_URL", "my-queue")], vec!["QUEUE_URL: \"my-queue\" is not a queue's URL", "https://sqs."]),
        ("[queue]\nvisibility_timeout = '2 moons'", vec![], vec!["queue.visibility_timeout", "2 moons", "\"2m\""]),
        ("[queue]\nvisibility_timeout = 120", vec![], vec!["queue.visibility_timeout: is 120", "string"]),
        ("[queue]\nvisibility_timeout = '13h'", vec![], vec!["queue.visibility_timeout", "out of range", "12h"]),
        ("[queue]\nvisibility_timeout = '2500ms'", vec![], vec!["queue.visibility_timeout", "whole seconds"]),
        ("[queue]\nmax_in_flight = 0", vec![], vec!["queue.max_in_flight: is 0", "1 to 100000"]),
        ("[queue]\npollers = -1", vec![], vec!["queue.pollers: is -1", "1 to 64"]),
        ("", vec![("SHUTDOWN_GRACE", "soon")], vec!["SHUTDOWN_GRACE", "soon", "duration"]),
        ("", vec![("LISTEN_ADDR", "9090")], vec!["LISTEN_ADDR", "\"9090\"", "0.0.0.0:9090"]),
        ("", vec![("LOG_FORMAT", "xml")], vec!["LOG_FORMAT", "\"xml\"", "\"json\" or \"text\""]),
        ("", vec![("SLACK_ALLOWED_HOSTS", "https://x")], vec!["SLACK_ALLOWED_HOSTS", "host name"]),
        ("[[channel]]\nname = 'a'", vec![], vec!["channel[0].webhook_secret_id", "required"]),
        ("[[channel]]\nwebhook_secret_id = 'x'", vec![], vec!["channel[0].name", "required"]),
        (
            &format!("{one_channel}{one_channel}[[route]]\nchannel = 'a'"),
            vec![],
            vec!["channel[1].name", "another channel"],
        ),
        (&format!("{one_channel}webhook_url = '{SECRET}'"), vec![], vec!["channel[0].webhook_url", "only one"]),
        (
            &chain(&[("a", "b"), ("b", "c")]),
            vec![],
            vec!["channel[1].fallback", "\"c\" is not the name of a channel", "the other channels are \"a\""],
        ),
        (&chain(&[("a", "a")]), vec![], vec!["channel[0].fallback", "\"a\" -> \"a\""]),
        (
            &chain(&[("a", "b"), ("b", "c"), ("c", "a")]),
            vec![],
            vec!["channel[2].fallback", "\"c\" -> \"a\" -> \"b\" -> \"c\"", "must have no fallback"],
        ),
        (&route("chanel = 'b'"), vec![], vec!["route[0].chanel: is not a key", "channel"]),
        (&format!("{one_channel}[[route]]\nchannel = 'b'"), vec![], vec!["route[0].channel", "\"b\"", "\"a\""]),
        (&route("pattern = { source = 'aws.ecs' }"), vec![], vec!["route[0].pattern", "source"]),
        (&route("pattern = { time = [2026-11-22] }"), vec![], vec!["route[0].pattern", "TOML date"]),
        (&route("pattern = '{'"), vec![], vec!["route[0].pattern", "JSON"]),
        (&route("continue = 'yes'"), vec![], vec!["route[0].continue", "true or false"]),
    ] {
        let sets_url = file.contains("url = 1") || env.iter().any(|(name, _)| *name == "QUEUE_URL");
        let mut all: Vec<_> = if sets_url { vec![] } else { vec![MINIMAL[0]] };
        if !file.contains("[[channel]]") {
            all.push(MINIMAL[1]);
        }
        all.extend(env);
        let error = load(file, &all).map(|_| ()).expect_err(file);
        for part in expected {
            assert!(error.contains(part), "{file:?}: {error:?} lacks {part:?}");
        }
        assert!(!error.contains("sesame"), "{error}");
        assert!(!error.contains('\n'), "one fault, one line: {error}");
    }
}

#[test]
fn a_webhook_is_refused_without_being_shown() {
    for url in ["http://hooks.slack.com/services/T0/B0/sesame", "https://evil.example/sesame", "sesame"] {
        let error = load("", &[MINIMAL[0], ("SLACK_WEBHOOK_URL", url)]).map(|_| ()).unwrap_err();
        assert!(error.contains("SLACK_WEBHOOK_URL"), "{error}");
        assert!(!error.contains("sesame"), "{error}");
    }
    // The webhook as the value of another key.
    for name in
        ["QUEUE_URL", "SLACK_WEBHOOK_SECRET_ID", "SLACK_ALLOWED_HOSTS", "LISTEN_ADDR", "SHUTDOWN_GRACE", "LOG_FORMAT"]
    {
        let error = load("", &[MINIMAL[0], MINIMAL[1], (name, SECRET)]).map(|_| ()).unwrap_err();
        assert!(error.contains(name) && !error.contains("sesame"), "{error}");
    }
    for hosts in [format!("a#{SECRET}"), format!("a?{SECRET}")] {
        let env = [MINIMAL[0], ("SLACK_WEBHOOK_URL", SECRET), ("SLACK_ALLOWED_HOSTS", &hosts)];
        let error = load("", &env).map(|_| ()).unwrap_err();
        assert!(error.contains("SLACK_ALLOWED_HOSTS: ") && !error.contains("sesame"), "{error}");
    }
    // The webhook as a key, or on a line that is not TOML.
    for file in [
        format!("[[channel]]\nname = 'a'\nwebhook_url = '{SECRET}"),
        format!("channel = '{SECRET}'"),
        format!("webhook_url = [{SECRET}]"),
        format!("'{SECRET}' = 'webhook_url'"),
        format!("[[channel]]\nname = '{SECRET}'\n[[channel]]\nname = '{SECRET}'"),
        format!("[[channel]]\nname = 'a'\n[[route]]\nchannel = '{SECRET}'"),
        format!("[[channel]]\nname = 'a'\n[[route]]\nchannel = 'a'\npattern = {{ a = [{{ '{SECRET}' = 1 }}] }}"),
    ] {
        let error = load(&file, &MINIMAL[..1]).map(|_| ()).unwrap_err();
        assert!(!error.contains("sesame"), "{error}");
    }
}

#[test]
fn a_secret_key_needs_a_secret() {
    let source = |file: &str, env: &[(&str, &str)]| load(file, env).map(|mut config| config.channels.remove(0).source);
    let channel = "[[channel]]\nname = 'a'\nwebhook_secret_key = 'url'\n";
    let secret =
        |id: &str| Some(TargetSource::Webhook(WebhookSource::Secret { id: id.into(), key: Some("url".into()) }));
    assert_eq!(source(&format!("{channel}webhook_secret_id = 'x'"), &MINIMAL[..1]), Ok(secret("x")));
    assert_eq!(source(channel, &[MINIMAL[0], ("SLACK_WEBHOOK_SECRET_ID", "y")]), Ok(secret("y")));
    let url = [MINIMAL[0], ("SLACK_WEBHOOK_URL", SECRET)];
    assert!(source(&format!("{channel}webhook_secret_id = 'x'"), &url).is_ok(), "the variable replaces secret and key");
    for bad in [channel.to_owned(), format!("{channel}webhook_url = '{SECRET}'"), channel.replace("'url'", "''")] {
        let error = source(&bad, &MINIMAL[..1]).unwrap_err();
        assert!(error.contains("channel[0].webhook_secret_key") && !error.contains("sesame"), "{error}");
    }
}

#[test]
fn all_faults_are_reported_at_once() {
    let error = load("[queue]\npollers = 0\nfoo = 1", &[("LOG_FORMAT", "x")]).map(|_| ()).unwrap_err();
    for part in
        ["queue.pollers", "queue.foo", "LOG_FORMAT", "queue.url (QUEUE_URL): is required", "SLACK_WEBHOOK_SECRET_ID"]
    {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load(Some(Path::new("/nowhere/c.toml")), &|_| None, RUN).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("--config \"/nowhere/c.toml\""), "{error}");
    let both = |name: &str| name.starts_with("CONFIG_").then(|| "x".into());
    let error = Config::load(None, &both, RUN).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("CONFIG_FILE and CONFIG_CONTENT"), "{error}");
}

#[test]
fn a_webhook_is_allowed_in_a_file_but_not_in_a_variable_that_many_can_read() {
    let text = format!("channel = [{{ name = 'a', webhook_url = '{SECRET}' }}] # {SECRET}");
    let file = std::env::temp_dir().join(format!("ecs-slack-alerts-{}.toml", std::process::id()));
    std::fs::write(&file, &text).unwrap();
    let env = |variable: &'static str, value: &str| {
        let value = value.to_owned();
        move |name: &str| match name {
            "QUEUE_URL" => Some(MINIMAL[0].1.to_owned()),
            name => (name == variable).then(|| value.clone()),
        }
    };
    let path = file.to_string_lossy();
    assert!(Config::load(Some(&file), &env("", ""), RUN).is_ok());
    assert!(Config::load(None, &env("CONFIG_FILE", &path), RUN).is_ok());
    // A variable for a laptop.
    assert!(Config::load(None, &env("SLACK_WEBHOOK_URL", SECRET), RUN).is_ok());
    let error = Config::load(None, &env("CONFIG_CONTENT", &text), RUN).map(|_| ()).unwrap_err().to_string();
    for part in ["\n  - channel[0].webhook_url: ", "\n  - CONFIG_CONTENT, line 1: ", "webhook_secret_id"] {
        assert!(error.contains(part) && !error.contains("sesame"), "{error}");
    }
    std::fs::remove_file(file).unwrap();
}

#[test]
fn an_offline_command_needs_neither_queue_nor_webhook() {
    let config = Config::load(None, &|_| None, Needs { queue: false, webhooks: false }).unwrap();
    assert_eq!(config.channels[0].name, "default");
}

#[test]
fn ecs_is_asked_for_three_seconds_at_most_by_default() {
    let timeout = |file: &str| load(file, &MINIMAL).unwrap().diagnose.map(|settings| settings.timeout);
    assert_eq!(timeout(""), Some(Duration::from_secs(3)));
    assert_eq!(timeout("[diagnose]\ntimeout = '500ms'"), Some(Duration::from_millis(500)));
    assert_eq!(timeout("[diagnose]\nenabled = false"), None);
    // Time must be left for Slack.
    assert_eq!(timeout("[queue]\nvisibility_timeout = '2s'"), Some(Duration::from_millis(500)));
    let fault = load(
        "[diagnose]\nenabled = 'no'\ntimeout = '1h'\nlog_lines = 11\nretries = 3\n[diagnose.crash_loop]\nstops = 1",
        &MINIMAL,
    )
    .unwrap_err();
    for part in
        ["diagnose.enabled", "diagnose.timeout", "diagnose.log_lines", "diagnose.retries", "diagnose.crash_loop.stops"]
    {
        assert!(fault.contains(part), "{fault}");
    }
}

#[test]
fn tags_are_requested_if_a_pattern_names_them_or_alerts_show_them() {
    let by_tag = "[[route]]\nchannel = 'b'\npattern = { service-tags = { team = ['x'] } }\n[[route]]\nchannel = 'a'\n";
    let tags = |file: &str| load(file, &MINIMAL[..1]).map(|config| config.diagnose.map(|settings| settings.tags));
    let plain = "[[route]]\nchannel = 'b'\ncontinue = true\n[[route]]\nchannel = 'a'\n";
    let of = |shown: &[&str], are_in_patterns| {
        Some(diagnose::Tagging { shown: shown.iter().map(ToString::to_string).collect(), are_in_patterns })
    };
    assert_eq!(tags(&routed(plain)), Ok(of(&[], false)));
    assert_eq!(tags(&routed(by_tag)), Ok(of(&[], true)));
    let shown = "[diagnose]\ntags = ['team', 'aws:cloudformation:stack-name']\n";
    assert_eq!(tags(&(routed(plain) + shown)), Ok(of(&["team", "aws:cloudformation:stack-name"], false)));
    // Without this fault, alerts would silently go to another channel.
    let error = tags(&format!("{}[diagnose]\nenabled = false\n", routed(by_tag))).unwrap_err();
    assert!(error.contains("diagnose.enabled: is false, but a pattern names service-tags"), "{error}");
    let disabled = warnings(&format!("{}{shown}enabled = false\n", routed(plain)));
    assert!(disabled.len() == 1 && disabled[0].starts_with("diagnose.tags: has no effect"), "{disabled:?}");
    for bad in ["['']", "['a', 'b', 'c', 'd', 'e', 'f']", "1", "[1]"] {
        assert!(
            tags(&format!("{}[diagnose]\ntags = {bad}\n", routed(plain))).unwrap_err().contains("diagnose.tags"),
            "{bad}"
        );
    }
}

#[test]
fn a_short_visibility_timeout_is_a_warning_that_says_the_cost() {
    let warnings = load("[queue]\nvisibility_timeout = '4s'", &MINIMAL).unwrap().warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    for part in ["queue.visibility_timeout: 4s", "a quarter", "half a minute", "10s or more"] {
        assert!(warnings[0].contains(part), "{warnings:?} lacks {part}");
    }
}

#[test]
fn incidents_are_on_and_in_memory_by_default() {
    let incidents = |file: &str, env: &[(&str, &str)]| with(&MINIMAL, file, env).map(|config| config.incidents);
    let default = incidents("", &[]).unwrap().unwrap();
    assert_eq!((default.table, default.remind_after.as_secs(), default.reopen_within.as_secs()), (None, 3600, 900));
    let table =
        incidents("[incidents]\nremind_after = '2h'", &[("INCIDENTS_TABLE", "alerts-incidents")]).unwrap().unwrap();
    assert_eq!((table.table.as_deref(), table.remind_after.as_secs()), (Some("alerts-incidents"), 7200));
    assert_eq!(incidents("[incidents]\nenabled = false", &[]).unwrap(), None);
    assert!(incidents("[incidents]\ntable = 'a b'", &[]).unwrap_err().to_string().contains("incidents.table"));
}
