//! The input is a configuration file, followed by `VARIABLE=value` pairs, each after a NUL. `@@` becomes a webhook. Loading never panics. An
//! error names the key or variable, and contains no webhook. A file with a webhook is refused as `CONFIG_CONTENT`.
#![no_main]

use std::collections::HashMap;

use ecs_slack_alerts::config::{Config, Needs};
use libfuzzer_sys::fuzz_target;

const WEBHOOK: &str = "https://hooks.slack.com/services/T0/B0/open-sesame";

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    // The fuzzer finds parts of the webhook in the comparisons of this target. Such a part looks like any other text.
    if text.contains("sesame") {
        return;
    }
    let text = text.replace("@@", WEBHOOK);
    let mut pieces = text.split('\0');
    let file = pieces.next().unwrap_or_default();
    let variables = pieces.filter_map(|piece| piece.split_once('=')).filter(|(name, _)| !name.is_empty());
    let mut env: HashMap<&str, &str> = variables.collect();
    // Otherwise the program would read this file.
    env.remove("CONFIG_FILE");
    env.insert("CONFIG_CONTENT", file);
    let lookup = |name: &str| env.get(name).map(ToString::to_string);
    for (needed, is_exposed) in [(true, false), (false, false), (true, true), (false, true)] {
        let needs = Needs { queue: needed, webhooks: needed };
        let loaded = match is_exposed {
            true => Config::load(None, &lookup, needs),
            false => Config::from_text(file, &lookup, needs),
        };
        match loaded {
            Ok(config) => {
                assert!(!is_exposed || !file.contains(WEBHOOK), "a webhook in CONFIG_CONTENT was accepted");
                let settings = config.consumer();
                assert!(settings.request_timeout() < settings.visibility_timeout);
                assert!(!config.channels.is_empty());
                assert!(config.routes.iter().all(|route| route.channel.0 < config.channels.len()));
            }
            Err(error) => {
                let shown = error.to_string();
                assert!(!shown.contains("open-sesame"), "{shown}");
                let faults = shown.strip_prefix("bad configuration:").expect("an error begins so");
                let faults = faults.split("\n  - ").map(str::trim).filter(|fault| !fault.is_empty());
                for fault in faults {
                    let place = fault.split(": ").next().unwrap_or_default();
                    assert!(!place.is_empty() && place != fault, "no key is named: {fault}");
                }
            }
        }
    }
});
