//! Reads the file and the environment, and returns validated plain data. A variable wins over the file. One error message lists every
//! fault: the key (or variable), what is wrong with its value, and what is accepted. The value of a key that may hold a secret is
//! never shown.

use std::{cell::RefCell, fmt, net::SocketAddr, path::Path, time::Duration};

use time::OffsetDateTime;
use toml::Table;

use self::reader::{Reader, quote};
use crate::{
    alert::{CrashLoopRule, Severity},
    consumer, diagnose, heartbeat as beats, log, reporter,
    route::{self, ChannelId, pattern::Pattern},
    slack::target::TargetSource,
    webhook::{AllowedHosts, SLACK_HOSTS},
};

mod channels;
mod exposed;
mod heartbeat;
mod incidents;
mod mentions;
mod mutes;
mod reader;
mod routes;

/// Everything that can be configured, validated.
#[derive(Debug)]
pub struct Config {
    /// The name that alerts give the AWS account. `None`: the event's account id.
    pub account_name: Option<String>,
    /// Where events come from.
    pub queue: Queue,
    /// Where alerts go; at least one.
    pub channels: Vec<Channel>,
    /// Which alerts go where, in order; at least one.
    pub routes: Vec<route::Route>,
    /// Which alerts are not posted, in order.
    pub mutes: Vec<route::mute::Mute>,
    /// How ECS is asked about the services of alerts. `None`: ECS is not asked.
    pub diagnose: Option<diagnose::DiagnoseSettings>,
    /// How alerts become incidents. `None`: each alert is a message.
    pub incidents: Option<reporter::IncidentSettings>,
    /// Where heartbeats are sent. `None`: no heartbeat is sent.
    pub heartbeat: Option<beats::HeartbeatSettings>,
    /// The hosts that a webhook may name.
    pub allowed_hosts: AllowedHosts,
    /// Slack's Web API, with a slash at its end.
    pub api_url: reqwest::Url,
    /// Where metrics and health are served.
    pub listen: SocketAddr,
    /// How long a drain may take.
    pub shutdown_grace: Duration,
    /// The format of the log. `None`: text on a terminal, JSON elsewhere.
    pub log_format: Option<log::Format>,
    /// Which lines are logged.
    pub log_levels: log::Levels,
    /// Settings that are valid but probably mistakes, each with its key. `check` prints the warnings, `run` logs them at the start.
    pub warnings: Vec<String>,
}

/// The queue and how it is consumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Empty only if the command needs no queue.
    pub url: String,
    /// The queue of events that EventBridge could not deliver. Only the `dlq` commands use it.
    pub undelivered_url: Option<String>,
    /// Set on every receive, in whole seconds.
    pub visibility_timeout: Duration,
    /// The most messages in flight.
    pub max_in_flight: usize,
    /// How many long polls run at once under load.
    pub pollers: usize,
}

/// A channel that alerts can go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// Its name here, in metrics and logs.
    pub name: String,
    /// Where its webhook or bot token comes from. `None` only if the command posts nothing.
    pub source: Option<TargetSource>,
    /// Whom its alerts mention, in Slack's markup, unless a route overrides it.
    pub mention: Option<String>,
    /// The lowest severity with a mention, unless a route overrides it.
    pub mention_from: Severity,
    /// Which channel takes its alerts while Slack refuses this one.
    pub fallback: Option<ChannelId>,
}

/// What a command requires of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// A queue.
    pub queue: bool,
    /// A webhook or bot token for each channel.
    pub webhooks: bool,
}

/// Everything that is wrong with a configuration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError(Vec<String>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [one] => write!(f, "bad configuration: {one}"),
            all => {
                f.write_str("bad configuration:")?;
                all.iter().try_for_each(|fault| write!(f, "\n  - {fault}"))
            }
        }
    }
}

impl Config {
    /// Loads the configuration from `file` (`--config`), else from `CONFIG_FILE` or `CONFIG_CONTENT`. Variables in `env` win over it.
    ///
    /// # Errors
    /// Everything that is wrong with it. If `CONFIG_CONTENT` holds a secret, only that is reported.
    pub fn load(file: Option<&Path>, env: &dyn Fn(&str) -> Option<String>, needs: Needs) -> Result<Self, ConfigError> {
        // Compose files and task definitions write an unset variable as an empty one.
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let ConfigText { origin, text, is_exposed } =
            read_text(file, &env).map_err(|fault| ConfigError(vec![fault]))?;
        let table = parse_toml(&origin, &text).map_err(|fault| ConfigError(vec![fault]))?;
        if is_exposed {
            let faults = exposed::faults(&text, &table, env("SLACK_ALLOWED_HOSTS").as_deref());
            if !faults.is_empty() {
                return Err(ConfigError(faults));
            }
        }
        Self::from_table(table, &env, needs)
    }

    /// Reads the configuration from the text of a file, as [`Config::load`] does.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn from_text(text: &str, env: &dyn Fn(&str) -> Option<String>, needs: Needs) -> Result<Self, ConfigError> {
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let table = parse_toml("the file", text).map_err(|fault| ConfigError(vec![fault]))?;
        Self::from_table(table, &env, needs)
    }

    fn from_table(table: Table, env: &dyn Fn(&str) -> Option<String>, needs: Needs) -> Result<Self, ConfigError> {
        let (faults, warnings) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
        let context = reader::Context { env, faults: &faults, warnings: &warnings };
        let config = Self::parse(Reader::new("", table, context), needs);
        let faults = faults.into_inner();
        if !faults.is_empty() {
            return Err(ConfigError(faults));
        }
        Ok(Self { warnings: warnings.into_inner(), ..config })
    }

    fn parse(mut root: Reader<'_>, needs: Needs) -> Self {
        let mut section = root.section("log");
        let formats = [("json", log::Format::Json), ("text", log::Format::Text)];
        let log_format = section.choice("format", "LOG_FORMAT", &formats);
        let log_levels = section.string("level", "RUST_LOG").map(|text| log::Levels::parse(&text));
        let log_levels = log_levels.unwrap_or_else(|| Ok(log::Levels::default())).unwrap_or_else(|fault| {
            section.fault("level", &fault);
            log::Levels::default()
        });
        section.finish();

        let mut server = root.section("server");
        let listen = server.string("listen", "LISTEN_ADDR").unwrap_or_else(|| "0.0.0.0:9090".into());
        let listen = listen.parse().unwrap_or_else(|_| {
            let listen = quote(&listen);
            server.fault("listen", &format!("{listen} is not an address and port; write e.g. \"0.0.0.0:9090\""));
            SocketAddr::from(([0, 0, 0, 0], 9090))
        });
        server.finish();

        let mut worker = root.section("worker");
        let grace_range = Duration::from_secs(1)..=Duration::from_secs(3600);
        let shutdown_grace = worker.duration("shutdown_grace", "SHUTDOWN_GRACE", Duration::from_secs(25), grace_range);
        worker.finish();

        let mut slack = root.section("slack");
        let hosts = slack.list("allowed_hosts", "SLACK_ALLOWED_HOSTS");
        let allowed_hosts =
            hosts.map_or_else(|| Ok(AllowedHosts::default()), AllowedHosts::new).unwrap_or_else(|fault| {
                slack.fault("allowed_hosts", &fault);
                AllowedHosts::default()
            });
        let api_url = channels::parse_api_url(&mut slack, &allowed_hosts);
        slack.finish();

        let queue = parse_queue(root.section("queue"), needs);
        let channels = channels::parse(&mut root, &allowed_hosts, needs);
        let routes = routes::parse(&mut root, &channels);
        let mutes = mutes::parse(&mut root, OffsetDateTime::now_utc());
        let patterns = routes.iter().filter_map(|route| route.pattern.as_ref());
        let are_in_patterns = patterns.chain(mutes.iter().map(|mute| &mute.pattern)).any(Pattern::names_tags);
        let diagnose = parse_diagnose(root.section("diagnose"), &queue, are_in_patterns);
        let crash_loop = diagnose.as_ref().and_then(|settings| settings.crash_loop);
        let incidents = incidents::parse(root.section("incidents"), crash_loop);
        let heartbeat = heartbeat::parse(root.section("heartbeat"), &allowed_hosts);
        let account_name = root.string("account_name", "ACCOUNT_NAME");
        root.finish();
        Self {
            account_name,
            queue,
            channels,
            routes,
            mutes,
            diagnose,
            incidents,
            heartbeat,
            allowed_hosts,
            api_url,
            listen,
            shutdown_grace,
            log_format,
            log_levels,
            warnings: Vec::new(),
        }
    }

    /// How the queue is consumed. A receive waits as long as SQS allows, but ends within the grace period of a drain, so that it is
    /// never cancelled.
    pub fn consumer(&self) -> consumer::ConsumerSettings {
        let wait = self.shutdown_grace.saturating_sub(Duration::from_secs(3));
        let wait = Duration::from_secs(wait.as_secs()).clamp(Duration::from_secs(1), crate::sqs::MAX_WAIT);
        consumer::ConsumerSettings {
            visibility_timeout: self.queue.visibility_timeout,
            wait,
            max_in_flight: self.queue.max_in_flight,
            pollers: self.queue.pollers,
        }
    }
}

/// With a shorter visibility timeout, some messages are put back before Slack can take them, even at a low rate of alerts.
const MIN_ADVISED_VISIBILITY_TIMEOUT: Duration = Duration::from_secs(10);

/// The text of the configuration, not parsed yet.
struct ConfigText {
    /// Where it came from, for an error.
    origin: String,
    text: String,
    /// Whether it comes from an environment variable, which many people can read.
    is_exposed: bool,
}

fn read_text(file: Option<&Path>, env: &dyn Fn(&str) -> Option<String>) -> Result<ConfigText, String> {
    let (origin, path) = match (file, env("CONFIG_FILE"), env("CONFIG_CONTENT")) {
        (Some(path), _, _) => (format!("--config {}", quote(&path.to_string_lossy())), path.to_owned()),
        (None, Some(_), Some(_)) => return Err("CONFIG_FILE and CONFIG_CONTENT are both set; set only one".into()),
        (None, Some(path), None) => (format!("CONFIG_FILE {}", quote(&path)), path.into()),
        (None, None, content) => {
            let text = content.unwrap_or_default();
            return Ok(ConfigText { origin: "CONFIG_CONTENT".into(), text, is_exposed: true });
        }
    };
    let text = std::fs::read_to_string(path).map_err(|error| format!("{origin}: cannot be read: {error}"))?;
    Ok(ConfigText { origin, text, is_exposed: false })
}

fn parse_toml(origin: &str, text: &str) -> Result<Table, String> {
    // The parser's own message quotes the line, which may hold a webhook.
    text.parse::<Table>().map_err(|error| {
        let line = error.span().map_or(1, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
        format!("{origin}: line {line} is not TOML: {}", error.message())
    })
}

fn parse_queue(mut queue: Reader<'_>, needs: Needs) -> Queue {
    let url = queue.string("url", "QUEUE_URL");
    match &url {
        Some(url) if !is_queue_url(url) => {
            let example = "https://sqs.eu-west-1.amazonaws.com/123456789012/ecs-alerts";
            queue.fault("url", &format!("{} is not a queue's URL; write e.g. {example:?}", quote(url)));
        }
        None if needs.queue => queue.fault("url", "is required: the URL of the SQS queue"),
        _ => {}
    }
    let undelivered_url = queue.string("undelivered_url", "UNDELIVERED_QUEUE_URL");
    if let Some(url) = undelivered_url.as_ref().filter(|url| !is_queue_url(url)) {
        queue.fault("undelivered_url", &format!("{} is not a queue's URL", quote(url)));
    }
    // SQS accepts whole seconds up to twelve hours. Less than two seconds leaves no time to post.
    let range = Duration::from_secs(2)..=Duration::from_secs(43_200);
    let visibility_timeout = queue.duration("visibility_timeout", "", Duration::from_secs(120), range);
    if visibility_timeout.subsec_nanos() != 0 {
        queue.fault("visibility_timeout", "SQS takes whole seconds only, such as \"2m\"");
    }
    if visibility_timeout < MIN_ADVISED_VISIBILITY_TIMEOUT {
        let given = humantime::format_duration(visibility_timeout);
        let cost = format!(
            "{given} leaves alerts little time to wait for Slack, which takes one message a second: even at a low rate about a \
             quarter of them is put back for half a minute or more. Make it 10s or more; the default is 2m"
        );
        queue.warn("visibility_timeout", &cost);
    }
    // SQS allows 120,000 messages in flight per queue; all replicas share them.
    let max_in_flight = queue.integer("max_in_flight", 1000, 1..=100_000);
    let pollers = queue.integer("pollers", 4, 1..=64);
    queue.finish();
    Queue { url: url.unwrap_or_default(), undelivered_url, visibility_timeout, max_in_flight, pollers }
}

fn is_queue_url(url: &str) -> bool {
    let is_slack = |host: &str| SLACK_HOSTS.contains(&host);
    reqwest::Url::parse(url).is_ok_and(|url| url.host_str().is_some_and(|host| !is_slack(host)) && url.path().len() > 1)
}

/// The most tags that an alert shows: it must stay readable on a phone.
const MAX_TAGS: usize = 5;

fn parse_diagnose(
    mut diagnose: Reader<'_>,
    queue: &Queue,
    are_in_patterns: bool,
) -> Option<diagnose::DiagnoseSettings> {
    let enabled = diagnose.boolean("enabled", true);
    let mut shown = diagnose.list("tags", "").unwrap_or_default();
    let is_key = |key: &String| !key.trim().is_empty() && key.chars().count() <= 128;
    if shown.len() > MAX_TAGS || !shown.iter().all(is_key) {
        let example = "[\"team\", \"runbook\"]";
        diagnose
            .fault("tags", &format!("must name at most {MAX_TAGS} tag keys of 1 to 128 characters, such as {example}"));
        shown.clear();
    }
    if !enabled && are_in_patterns {
        let what = "is false, but a pattern names service-tags, which can match only if ECS is asked; enable it, or use \
                    fields of the event in the pattern";
        diagnose.fault("enabled", what);
    } else if !enabled && !shown.is_empty() {
        diagnose.warn("tags", "has no effect: diagnose.enabled is false, so ECS is not asked for tags");
    }
    let range = Duration::from_millis(100)..=Duration::from_secs(30);
    let timeout = diagnose.duration("timeout", "", Duration::from_secs(3), range);
    // A message shows at most ten lines.
    let log_lines = diagnose.integer("log_lines", 0, 0..=10);
    let mut crash_loop = diagnose.section("crash_loop");
    let crash_loop_enabled = crash_loop.boolean("enabled", true);
    let stops = crash_loop.integer("stops", CrashLoopRule::DEFAULT.stops, 2..=50);
    // ECS keeps stopped tasks for about an hour; the window must be well within that.
    let range = Duration::from_secs(60)..=Duration::from_secs(1_800);
    let within = crash_loop.duration("within", "", CrashLoopRule::DEFAULT.within, range);
    crash_loop.finish();
    diagnose.finish();
    // Most of a message's visibility timeout is kept for Slack.
    let timeout = timeout.min(queue.visibility_timeout / 4);
    let crash_loop = crash_loop_enabled.then_some(CrashLoopRule { stops, within });
    let tags = diagnose::Tagging { shown, are_in_patterns };
    enabled.then_some(diagnose::DiagnoseSettings { timeout, log_lines, crash_loop, tags })
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
