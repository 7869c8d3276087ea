//! Where a channel posts to, and which channel is its fallback.

use super::*;

#[test]
fn a_bot_token_takes_the_place_of_a_webhook() {
    let source = |file: &str, env: &[(&str, &str)]| {
        with(&[MINIMAL[0]], file, env).map(|mut config| config.channels.remove(0).source)
    };
    let bot = |secret: &str, id: &str| Some(TargetSource::Bot { token_secret_id: secret.into(), channel: id.into() });
    let file = "[[channel]]\nname = 'ops'\nbot_token_secret_id = 'bot'\nchannel_id = 'C0123456789'";
    assert_eq!(source(file, &[]).unwrap(), bot("bot", "C0123456789"));
    let env = [("SLACK_BOT_TOKEN_SECRET_ID", "env"), ("SLACK_CHANNEL_ID", "C9876543210")];
    assert_eq!(source("", &env).unwrap(), bot("env", "C9876543210"));
    assert_eq!(
        source("[[channel]]\nname = 'ops'\nwebhook_secret_id = 'hook'", &env).unwrap(),
        bot("env", "C9876543210")
    );
    let webhook = source(file, &[("SLACK_WEBHOOK_SECRET_ID", "hook")]).unwrap();
    assert_eq!(webhook, Some(TargetSource::Webhook(WebhookSource::Secret { id: "hook".into(), key: None })));
    for (file, fault) in [
        ("bot_token_secret_id = 'bot'", "is required with a bot token"),
        ("channel_id = 'C0123456789'", "is required with channel_id"),
        ("bot_token_secret_id = 'bot'\nchannel_id = '#ops'", "is not a channel's id"),
        (
            "bot_token_secret_id = 'xoxb-1-open-sesame'\nchannel_id = 'C0123456789'",
            "store the token itself in Secrets Manager",
        ),
        (
            "bot_token_secret_id = 'bot'\nchannel_id = 'C0123456789'\nwebhook_secret_id = 'hook'",
            "is set together with a webhook",
        ),
    ] {
        let error = source(&format!("[[channel]]\nname = 'ops'\n{file}"), &[]).unwrap_err().to_string();
        assert!(error.contains(fault) && !error.contains("open-sesame"), "{file}: {error}");
    }
}

#[test]
fn a_variable_that_changes_the_kind_of_a_target_is_a_warning() {
    let warnings = |file: &str, env: &[(&str, &str)]| {
        with(&[MINIMAL[0]], &format!("[[channel]]\nname = 'ops'\n{file}"), env).unwrap().warnings
    };
    let (bot, hook) = ("bot_token_secret_id = 'bot'\nchannel_id = 'C0123456789'", "webhook_secret_id = 'hook'");
    let (token, id) = (("SLACK_BOT_TOKEN_SECRET_ID", "bot"), ("SLACK_CHANNEL_ID", "C9876543210"));
    for variable in [MINIMAL[1], ("SLACK_WEBHOOK_URL", SECRET)] {
        for (file, env) in [(bot, vec![variable]), (bot, vec![variable, id]), (hook, vec![variable, id])] {
            let warnings = warnings(file, &env);
            let start = format!("{}: replaces the bot token or channel_id of this channel by a webhook", variable.0);
            assert!(warnings.len() == 1 && warnings[0].starts_with(&start), "{file} {env:?}: {warnings:?}");
            assert!(!warnings[0].contains("sesame"), "{warnings:?}");
        }
        assert_eq!(warnings(hook, &[variable]), [""; 0]);
    }
    let warning = warnings(hook, &[token, id]);
    let start = "SLACK_BOT_TOKEN_SECRET_ID: replaces the webhook of this channel by a bot token";
    assert!(warning.len() == 1 && warning[0].starts_with(start), "{warning:?}");
    assert_eq!(warnings(bot, &[token]), [""; 0]);
    assert_eq!(warnings(bot, &[("SLACK_WEBHOOK_SECRET_ID", ""), id]), [""; 0]);
}

#[test]
fn the_web_api_is_slacks_or_on_this_machine() {
    let api = |url: &str, hosts: &str| with(&MINIMAL, "", &[("SLACK_API_URL", url), ("SLACK_ALLOWED_HOSTS", hosts)]);
    for url in ["https://slack.com/api/", "https://slack-gov.com/api", "http://127.0.0.1:8008/api"] {
        assert!(api(url, "127.0.0.1").is_ok(), "{url}");
    }
    for url in ["http://slack.com/api/", "https://slack.com.evil.example/api/", "http://127.0.0.1:1/", "10.0.0.1", ""] {
        let loaded = api(url, "hooks.slack.com");
        assert!(url.is_empty() == loaded.is_ok(), "{url}");
    }
}

#[test]
fn fallbacks_may_be_a_chain_and_need_no_route() {
    let config = load(&chain(&[("a", "c"), ("b", ""), ("c", "b")]), &MINIMAL[..1]).unwrap();
    let fallbacks: Vec<_> = config.channels.iter().map(|channel| channel.fallback.map(|id| id.0)).collect();
    assert_eq!(fallbacks, [Some(2), None, Some(1)]);
    assert_eq!(config.warnings, Vec::<String>::new());
}
