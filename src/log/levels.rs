//! Parses `RUST_LOG`: the levels of log lines.

use tracing_subscriber::filter::{LevelFilter, Targets};

/// Every crate that logs, and crates that people often silence. Other names are refused, because a misspelt name would match nothing,
/// and the log would be empty without an explanation.
const CRATES: [&str; 27] = [
    "aws_config",
    "aws_runtime",
    "aws_sdk_cloudwatchlogs",
    "aws_sdk_dynamodb",
    "aws_sdk_ecs",
    "aws_sdk_elasticloadbalancingv2",
    "aws_sdk_secretsmanager",
    "aws_sdk_sqs",
    "aws_sdk_sso",
    "aws_sdk_ssooidc",
    "aws_sdk_sts",
    "aws_sigv4",
    "aws_smithy_http",
    "aws_smithy_http_client",
    "aws_smithy_observability",
    "aws_smithy_runtime",
    "aws_smithy_runtime_api",
    "aws_types",
    "axum",
    "ecs_slack_alerts",
    "h2",
    "hyper",
    "hyper_util",
    "reqwest",
    "rustls",
    "tokio",
    "tower",
];

const ACCEPTED: &str = "write a level (off, error, warn, info or debug), or levels of modules, such as \
                        info,ecs_slack_alerts::slack=debug,hyper_util=off";

/// Which lines are logged: a level for everything, and levels for single modules.
#[derive(Debug, Clone, PartialEq)]
pub struct Levels(Targets);

impl Default for Levels {
    fn default() -> Self {
        Self(Targets::new().with_default(LevelFilter::INFO))
    }
}

impl Levels {
    /// Parses levels and `module=level`, separated by commas. A module without a level logs everything. If there is no level without a
    /// module, all other modules are silent.
    ///
    /// # Errors
    /// The part that is wrong, and what is accepted.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut targets = None;
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let so_far = targets.unwrap_or_default();
            targets = Some(read(so_far, part).map_err(|fault| format!("{fault}; {ACCEPTED}"))?);
        }
        targets.map(Self).ok_or_else(|| format!("names no level; {ACCEPTED}"))
    }

    pub(super) fn filter(&self) -> Targets {
        self.0.clone()
    }
}

fn read(targets: Targets, part: &str) -> Result<Targets, String> {
    if let Some((module, word)) = part.split_once('=') {
        let module = module.trim();
        let level = level(word.trim()).ok_or_else(|| format!("{} is not a level", quote(word)))?;
        if !names_a_module(module) {
            return Err(format!("{} is in none of the crates that log ({})", quote(module), CRATES.join(", ")));
        }
        return Ok(targets.with_target(module, level));
    }
    match level(part) {
        Some(level) => Ok(targets.with_default(level)),
        None if names_a_module(part) => Ok(targets.with_target(part, LevelFilter::DEBUG)),
        None => Err(format!("{} is neither a level nor a module that logs", quote(part))),
    }
}

/// Parses a level; `trace` becomes `debug`. At `trace`, the AWS SDK would log whole requests and answers with credentials, secrets and
/// container environments.
fn level(word: &str) -> Option<LevelFilter> {
    let known = ["off", "error", "warn", "info", "debug", "trace"].iter().any(|level| level.eq_ignore_ascii_case(word));
    let level: LevelFilter = known.then(|| word.parse().ok()).flatten()?;
    Some(level.min(LevelFilter::DEBUG))
}

fn names_a_module(path: &str) -> bool {
    let mut segments = path.split("::");
    let is_name = |segment: &str| {
        let letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
        !segment.is_empty() && segment.chars().all(letter)
    };
    segments.next().is_some_and(|first| CRATES.contains(&first)) && segments.all(is_name)
}

/// The text in quotes. A URL is not shown, because it may be a webhook in the wrong place.
fn quote(text: &str) -> String {
    if text.contains("://") { "a URL".into() } else { format!("{text:?}") }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn levels_and_modules_are_parsed() {
        let levels = Levels::parse("warn, ecs_slack_alerts::slack=debug,hyper_util=OFF,").unwrap().0;
        assert!(levels.would_enable("ecs_slack_alerts::slack::channel", &Level::DEBUG));
        assert!(levels.would_enable("aws_config", &Level::WARN));
        assert!(!levels.would_enable("aws_config", &Level::INFO));
        assert!(!levels.would_enable("hyper_util::client", &Level::ERROR));
        let levels = Levels::parse("ecs_slack_alerts").unwrap().0;
        assert!(levels.would_enable("ecs_slack_alerts::app", &Level::DEBUG));
        assert!(!levels.would_enable("aws_config", &Level::ERROR));
        assert!(!Levels::parse("off").unwrap().0.would_enable("ecs_slack_alerts", &Level::ERROR));
    }

    #[test]
    fn trace_shows_no_more_than_debug() {
        for text in ["trace", "TRACE", "aws_smithy_runtime=trace", "aws_smithy_runtime"] {
            let levels = Levels::parse(text).unwrap().0;
            assert!(levels.would_enable("aws_smithy_runtime::client", &Level::DEBUG), "{text}");
            assert!(!levels.would_enable("aws_smithy_runtime::client", &Level::TRACE), "{text}");
        }
    }

    #[test]
    fn a_typo_is_refused_and_the_error_says_what_is_accepted() {
        for (text, fault) in [
            ("inof", "\"inof\""),
            ("nonsense", "\"nonsense\""),
            ("warning", "\"warning\""),
            (",", "names no level"),
            ("info;debug", "\"info;debug\""),
            ("info debug", "\"info debug\""),
            ("3", "\"3\""),
            ("ecs-slack-alerts=debug", "\"ecs-slack-alerts\""),
            ("ecs_slack_alert=debug", "\"ecs_slack_alert\""),
            ("info,ecs_slack_alerts=verbose", "\"verbose\""),
            ("ecs_slack_alerts=", "\"\""),
            ("=debug", "\"\""),
            ("ecs_slack_alerts::=debug", "\"ecs_slack_alerts::\""),
            ("ecs_slack_alerts[span]=debug", "\"ecs_slack_alerts[span]\""),
            ("https://hooks.slack.com/services/x", "a URL"),
        ] {
            let error = Levels::parse(text).unwrap_err();
            assert!(error.starts_with(fault), "{text}: {error}");
            assert!(error.contains("off, error, warn, info or debug"), "{text}: {error}");
        }
    }

    #[test]
    fn every_crate_of_the_sdk_that_logs_is_accepted() {
        let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock")).unwrap();
        let logs = |package: &&str| package.contains("\n \"tracing\",\n");
        let name = |package: &str| package.split('"').nth(1).unwrap().replace('-', "_");
        let packages = lock.split("[[package]]").filter(logs).map(name);
        let crates: Vec<String> = packages.filter(|name| name.starts_with("aws_")).collect();
        assert!(crates.len() > 10, "{crates:?}");
        for name in crates {
            assert!(Levels::parse(&format!("{name}=debug")).is_ok(), "{name} logs, and cannot be named");
        }
    }
}
