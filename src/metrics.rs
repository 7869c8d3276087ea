//! Every metric, named and described once, and the functions by which the rest of the program counts.
//!
//! Label values come from closed sets: the configuration's channels and our own enums, never an event's text. Every
//! series that a dashboard or an alert needs exists at 0 from the start.

use std::{collections::HashMap, sync::OnceLock, time::Duration};

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

const MESSAGES_RECEIVED: &str = "ecs_slack_alerts_messages_received_total";
const MESSAGES: &str = "ecs_slack_alerts_messages_total";
const UNROUTED_PROBLEMS: &str = "ecs_slack_alerts_unrouted_problems_total";
const ALERTS: &str = "ecs_slack_alerts_alerts_total";
const SLACK_REQUESTS: &str = "ecs_slack_alerts_slack_requests_total";
const SLACK_REQUEST_DURATION: &str = "ecs_slack_alerts_slack_request_duration_seconds";
const ALERT_DELAY: &str = "ecs_slack_alerts_alert_delay_seconds";
const QUEUE_DELAY: &str = "ecs_slack_alerts_queue_delay_seconds";
const IN_FLIGHT: &str = "ecs_slack_alerts_in_flight_messages";
const CHANNEL_BLOCKED: &str = "ecs_slack_alerts_channel_blocked";
const FALLBACK_ACTIVE: &str = "ecs_slack_alerts_fallback_active";
const SQS_REQUESTS: &str = "ecs_slack_alerts_sqs_requests_total";
const QUEUE_MESSAGES: &str = "ecs_slack_alerts_queue_messages";
const DIAGNOSES: &str = "ecs_slack_alerts_diagnoses_total";
const SERVICE_TAGS: &str = "ecs_slack_alerts_service_tags_total";
const LOG_LINES_DROPPED: &str = "ecs_slack_alerts_log_lines_dropped_total";
const TASKS: &str = "ecs_slack_alerts_tasks";
const INCIDENTS: &str = "ecs_slack_alerts_incidents_total";
const INCIDENTS_OPEN: &str = "ecs_slack_alerts_incidents_open";
const INCIDENT_DURATION: &str = "ecs_slack_alerts_incident_duration_seconds";
const STORE_REQUESTS: &str = "ecs_slack_alerts_store_requests_total";
const HEARTBEATS: &str = "ecs_slack_alerts_heartbeats_total";
const CANARIES: &str = "ecs_slack_alerts_canaries_total";
const LAST_CANARY: &str = "ecs_slack_alerts_last_canary_timestamp_seconds";
const BUILD_INFO: &str = "ecs_slack_alerts_build_info";

/// Delays: a post within a second is usual, an hour is an outage.
const DELAY_BUCKETS: [f64; 14] =
    [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 14400.0];
/// Slack answers in some 100 ms; the request is given up after ten seconds.
const REQUEST_BUCKETS: [f64; 9] = [0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Incidents: a failed start is over in minutes, a bad deployment in an hour, what nobody looks at in a day.
const INCIDENT_BUCKETS: [f64; 10] = [60.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0, 14400.0, 43200.0, 86400.0];

const SQS_OPERATIONS: [&str; 5] =
    ["ReceiveMessage", "DeleteMessageBatch", "ChangeMessageVisibilityBatch", "GetQueueAttributes", "GetQueueUrl"];
const QUEUES: [&str; 2] = ["main", "dlq"];
const STATES: [&str; 3] = ["visible", "in_flight", "delayed"];
/// What alerts mean to incidents.
pub(crate) const TRANSITIONS: [&str; 6] = ["opened", "news", "repeated", "reminded", "recovered", "reopened"];
const STORE_OPERATIONS: [&str; 2] = ["load", "save"];
const STORE_OUTCOMES: [&str; 3] = ["ok", "conflict", "error"];
/// The label values of `alerts_total`; `alert::Severity` has a test that they are its own.
pub const SEVERITIES: [&str; 3] = ["info", "warning", "critical"];
/// Those of problems; the label values of `unrouted_problems_total`.
const PROBLEMS: [&str; 2] = ["warning", "critical"];

/// What became of a message; the label of `messages_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageOutcome {
    /// Slack accepted the post that carries it.
    Posted,
    /// It repeats an incident that Slack has.
    Folded,
    /// A copy of it was reported before.
    Duplicate,
    /// No route wants it.
    Unrouted,
    /// A mute holds it.
    Muted,
    /// It was put back, to be tried again.
    Deferred,
    /// It is not a JSON object; left to the redrive policy.
    Undecodable,
    /// It is a canary, which shows that events arrive.
    Canary,
}

impl MessageOutcome {
    const ALL: [Self; 8] = [
        Self::Posted,
        Self::Folded,
        Self::Duplicate,
        Self::Unrouted,
        Self::Muted,
        Self::Deferred,
        Self::Undecodable,
        Self::Canary,
    ];

    /// The label value, also used in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Posted => "posted",
            Self::Folded => "folded",
            Self::Duplicate => "duplicate",
            Self::Unrouted => "unrouted",
            Self::Muted => "muted",
            Self::Deferred => "deferred",
            Self::Undecodable => "undecodable",
            Self::Canary => "canary",
        }
    }
}

/// What came of one request to Slack; the label of `slack_requests_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlackOutcome {
    /// Slack accepted it.
    Ok,
    /// Slack asked us to slow down.
    RateLimited,
    /// Slack, or something on the way, failed.
    ServerError,
    /// No answer, or none in time.
    NetworkError,
    /// Slack refuses the message, or where it was sent.
    Refused,
}

impl SlackOutcome {
    const ALL: [Self; 5] = [Self::Ok, Self::RateLimited, Self::ServerError, Self::NetworkError, Self::Refused];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::RateLimited => "rate_limited",
            Self::ServerError => "server_error",
            Self::NetworkError => "network_error",
            Self::Refused => "refused",
        }
    }
}

/// What came of one heartbeat; the label of `heartbeats_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeartbeatOutcome {
    /// The service that watches the worker took it.
    Ok,
    /// It could not be sent, or was refused.
    Error,
    /// It was not sent, because the worker does not work.
    Withheld,
}

impl HeartbeatOutcome {
    const ALL: [Self; 3] = [Self::Ok, Self::Error, Self::Withheld];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Withheld => "withheld",
        }
    }
}

/// What came of asking ECS about an alert's service; the label of `diagnoses_total` and, but for `partial`, of `service_tags_total`. With
/// any but the first two the alert goes out undiagnosed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiagnosisOutcome {
    /// All was answered.
    Ok,
    /// The service and its tasks were answered, but not what they were made from.
    Partial,
    /// ECS does not know the service.
    Unknown,
    /// The role may not ask.
    Denied,
    /// ECS asked us to slow down.
    Throttled,
    /// No answer in time.
    Timeout,
    /// Any other failure.
    Error,
    /// Not asked: too much was asked of late, or the worker is stopping.
    Skipped,
}

impl DiagnosisOutcome {
    const ALL: [Self; 8] = [
        Self::Ok,
        Self::Partial,
        Self::Unknown,
        Self::Denied,
        Self::Throttled,
        Self::Timeout,
        Self::Error,
        Self::Skipped,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Partial => "partial",
            Self::Unknown => "unknown",
            Self::Denied => "denied",
            Self::Throttled => "throttled",
            Self::Timeout => "timeout",
            Self::Error => "error",
            Self::Skipped => "skipped",
        }
    }
}

/// Installs the recorder and brings every series into being at 0.
///
/// # Errors
/// When a recorder is installed already.
pub fn install(channels: &[&str]) -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full(ALERT_DELAY.into()), &DELAY_BUCKETS)?
        .set_buckets_for_metric(Matcher::Full(QUEUE_DELAY.into()), &DELAY_BUCKETS)?
        .set_buckets_for_metric(Matcher::Full(INCIDENT_DURATION.into()), &INCIDENT_BUCKETS)?
        .set_buckets_for_metric(Matcher::Full(SLACK_REQUEST_DURATION.into()), &REQUEST_BUCKETS)?
        .install_recorder()?;
    describe();
    start_at_zero(channels);
    // A second recorder is refused above.
    let _ = EACH_MESSAGE.set(EachMessage::new(channels));
    Ok(handle)
}

/// What is counted for each message: to look a metric up by its name and labels takes longer than to count. None until
/// [`install`] is called, and then nothing is counted.
static EACH_MESSAGE: OnceLock<EachMessage> = OnceLock::new();

struct EachMessage {
    outcomes: [(MessageOutcome, Counter); MessageOutcome::ALL.len()],
    queue_delay: Histogram,
    in_flight: Gauge,
    /// By the channel's name.
    incidents: HashMap<String, [(&'static str, Counter); TRANSITIONS.len()]>,
}

impl EachMessage {
    fn new(channels: &[&str]) -> Self {
        let transitions = |channel: &str| {
            TRANSITIONS.map(|transition| {
                (transition, counter!(INCIDENTS, "channel" => channel.to_owned(), "transition" => transition))
            })
        };
        Self {
            outcomes: MessageOutcome::ALL.map(|outcome| (outcome, counter!(MESSAGES, "outcome" => outcome.as_str()))),
            queue_delay: histogram!(QUEUE_DELAY),
            in_flight: gauge!(IN_FLIGHT),
            incidents: channels.iter().map(|&channel| (channel.to_owned(), transitions(channel))).collect(),
        }
    }
}

/// Counts one more of this label value.
fn count_one<L: PartialEq>(counters: &[(L, Counter)], label: &L) {
    if let Some((_, counter)) = counters.iter().find(|(one, _)| one == label) {
        counter.increment(1);
    }
}

/// `count` messages came out of the queue.
pub fn messages_received(count: usize) {
    counter!(MESSAGES_RECEIVED).increment(count as u64);
}

/// One message met its outcome.
pub fn message(outcome: MessageOutcome) {
    if let Some(each) = EACH_MESSAGE.get() {
        count_one(&each.outcomes, &outcome);
    }
}

/// A problem was deleted, for no route takes it.
pub fn unrouted_problem(severity: &'static str) {
    counter!(UNROUTED_PROBLEMS, "severity" => severity).increment(1);
}

/// Slack accepted an alert.
pub fn alert(channel: &str, severity: &'static str) {
    counter!(ALERTS, "channel" => channel.to_owned(), "severity" => severity).increment(1);
}

/// One HTTP request to Slack ended.
pub fn slack_request(channel: &str, outcome: SlackOutcome, duration: Duration) {
    counter!(SLACK_REQUESTS, "channel" => channel.to_owned(), "outcome" => outcome.as_str()).increment(1);
    histogram!(SLACK_REQUEST_DURATION, "channel" => channel.to_owned()).record(duration);
}

/// From the event's time to Slack's 200. For first receives only: later ones measure the outage, not us.
pub fn alert_delay(channel: &str, delay: Duration) {
    histogram!(ALERT_DELAY, "channel" => channel.to_owned()).record(delay);
}

/// From SentTimestamp to the first receive.
pub fn queue_delay(delay: Duration) {
    if let Some(each) = EACH_MESSAGE.get() {
        each.queue_delay.record(delay);
    }
}

/// So many messages more, or fewer, are held.
pub fn in_flight(change: i32) {
    if let Some(each) = EACH_MESSAGE.get() {
        each.in_flight.increment(change);
    }
}

/// Whether Slack makes the channel wait or is down.
pub fn channel_blocked(channel: &str, blocked: bool) {
    gauge!(CHANNEL_BLOCKED, "channel" => channel.to_owned()).set(if blocked { 1.0 } else { 0.0 });
}

/// Whether Slack refuses the channel, and its alerts go to its fallback.
pub fn fallback_active(channel: &str, active: bool) {
    gauge!(FALLBACK_ACTIVE, "channel" => channel.to_owned()).set(if active { 1.0 } else { 0.0 });
}

/// One request to SQS ended.
pub fn sqs_request(operation: &'static str, ok: bool) {
    counter!(SQS_REQUESTS, "operation" => operation, "outcome" => if ok { "ok" } else { "error" }).increment(1);
}

/// ECS was asked about an alert's service, or was to be.
pub fn diagnosis(outcome: DiagnosisOutcome) {
    counter!(DIAGNOSES, "outcome" => outcome.as_str()).increment(1);
}

/// This came of asking for the tags of an alert's service.
pub fn service_tags(outcome: DiagnosisOutcome) {
    counter!(SERVICE_TAGS, "outcome" => outcome.as_str()).increment(1);
}

/// An alert meant this to an incident.
pub fn incident(channel: &str, transition: &'static str) {
    if let Some(transitions) = EACH_MESSAGE.get().and_then(|each| each.incidents.get(channel)) {
        count_one(transitions, &transition);
    }
}

/// So many incidents of the channel are open, as far as this process knows.
pub fn incidents_open(channel: &str, count: usize) {
    gauge!(INCIDENTS_OPEN, "channel" => channel.to_owned()).set(count as f64);
}

/// From an incident's first event to its recovery.
pub fn incident_duration(channel: &str, duration: Duration) {
    histogram!(INCIDENT_DURATION, "channel" => channel.to_owned()).record(duration);
}

/// One request to the table of incidents ended: `load` or `save`; `ok`, `conflict` or `error`.
pub fn store_request(operation: &'static str, outcome: &'static str) {
    counter!(STORE_REQUESTS, "operation" => operation, "outcome" => outcome).increment(1);
}

/// What a queue (`main` or `dlq`) holds: visible, in flight, delayed.
pub fn queue_messages(queue: &'static str, counts: [u64; 3]) {
    for (state, count) in STATES.into_iter().zip(counts) {
        gauge!(QUEUE_MESSAGES, "queue" => queue, "state" => state).set(count as f64);
    }
}

/// So many lines of the log were dropped.
pub fn log_lines_dropped(count: u64) {
    counter!(LOG_LINES_DROPPED).increment(count);
}

/// A heartbeat was due.
pub fn heartbeat(outcome: HeartbeatOutcome) {
    counter!(HEARTBEATS, "outcome" => outcome.as_str()).increment(1);
}

/// A canary came; the last one was sent so long after 1970.
pub fn canary(last: Duration) {
    counter!(CANARIES).increment(1);
    gauge!(LAST_CANARY).set(last.as_secs_f64());
}

/// So many asynchronous tasks are alive.
pub fn tasks(count: usize) {
    gauge!(TASKS).set(count as f64);
}

fn start_at_zero(channels: &[&str]) {
    messages_received(0);
    for outcome in MessageOutcome::ALL {
        counter!(MESSAGES, "outcome" => outcome.as_str()).absolute(0);
    }
    for severity in PROBLEMS {
        counter!(UNROUTED_PROBLEMS, "severity" => severity).absolute(0);
    }
    for &channel in channels {
        for severity in SEVERITIES {
            counter!(ALERTS, "channel" => channel.to_owned(), "severity" => severity).absolute(0);
        }
        for outcome in SlackOutcome::ALL {
            counter!(SLACK_REQUESTS, "channel" => channel.to_owned(), "outcome" => outcome.as_str()).absolute(0);
        }
        // A histogram exists, empty, once its handle was made.
        let _ = histogram!(SLACK_REQUEST_DURATION, "channel" => channel.to_owned());
        let _ = histogram!(ALERT_DELAY, "channel" => channel.to_owned());
        channel_blocked(channel, false);
        fallback_active(channel, false);
        for transition in TRANSITIONS {
            counter!(INCIDENTS, "channel" => channel.to_owned(), "transition" => transition).absolute(0);
        }
        incidents_open(channel, 0);
        let _ = histogram!(INCIDENT_DURATION, "channel" => channel.to_owned());
    }
    for operation in STORE_OPERATIONS {
        for outcome in STORE_OUTCOMES {
            counter!(STORE_REQUESTS, "operation" => operation, "outcome" => outcome).absolute(0);
        }
    }
    let _ = histogram!(QUEUE_DELAY);
    gauge!(IN_FLIGHT).set(0.0);
    for operation in SQS_OPERATIONS {
        for outcome in ["ok", "error"] {
            counter!(SQS_REQUESTS, "operation" => operation, "outcome" => outcome).absolute(0);
        }
    }
    for outcome in DiagnosisOutcome::ALL {
        counter!(DIAGNOSES, "outcome" => outcome.as_str()).absolute(0);
        // Tags come whole or not at all.
        if outcome != DiagnosisOutcome::Partial {
            counter!(SERVICE_TAGS, "outcome" => outcome.as_str()).absolute(0);
        }
    }
    for queue in QUEUES {
        queue_messages(queue, [0; 3]);
    }
    log_lines_dropped(0);
    tasks(0);
    for outcome in HeartbeatOutcome::ALL {
        counter!(HEARTBEATS, "outcome" => outcome.as_str()).absolute(0);
    }
    counter!(CANARIES).absolute(0);
    gauge!(LAST_CANARY).set(0.0);
    gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION"), "revision" => revision()).set(1.0);
}

/// The commit that the binary was built from, when the build said so by the variable `REVISION`.
fn revision() -> &'static str {
    option_env!("REVISION").unwrap_or("unknown")
}

fn describe() {
    describe_counter!(MESSAGES_RECEIVED, "SQS messages received");
    describe_counter!(MESSAGES, "Messages by what became of each");
    describe_counter!(UNROUTED_PROBLEMS, "Problems that were deleted because no route takes them");
    describe_counter!(ALERTS, "Alerts accepted by Slack");
    describe_counter!(SLACK_REQUESTS, "HTTP requests to Slack by outcome");
    describe_histogram!(SLACK_REQUEST_DURATION, Unit::Seconds, "How long Slack took to answer");
    describe_histogram!(ALERT_DELAY, Unit::Seconds, "From the event's time to Slack's 200, first receives only");
    describe_histogram!(QUEUE_DELAY, Unit::Seconds, "From SentTimestamp to the first receive");
    describe_gauge!(IN_FLIGHT, "Messages held now");
    describe_gauge!(CHANNEL_BLOCKED, "1 while Slack makes the channel wait or is down");
    describe_gauge!(FALLBACK_ACTIVE, "1 while Slack refuses the channel and its alerts go to its fallback");
    describe_counter!(SQS_REQUESTS, "SQS API requests, as billed");
    describe_counter!(DIAGNOSES, "Alerts for which ECS was asked about the service, by what came of it");
    describe_counter!(SERVICE_TAGS, "Alerts for which the tags of the service were asked for, by what came of it");
    describe_counter!(INCIDENTS, "Alerts by what they meant to an incident");
    describe_gauge!(INCIDENTS_OPEN, "Open incidents that this process knows of");
    describe_histogram!(INCIDENT_DURATION, Unit::Seconds, "From an incident's first event to its recovery");
    describe_counter!(STORE_REQUESTS, "Requests to the table of incidents by outcome");
    describe_gauge!(QUEUE_MESSAGES, "Messages in the queue and its dead-letter queue, polled once a minute");
    describe_counter!(LOG_LINES_DROPPED, "Lines of the log that standard error did not take");
    describe_gauge!(
        TASKS,
        "Asynchronous tasks alive, updated every ten seconds: a few, and one for each message in flight"
    );
    describe_counter!(HEARTBEATS, "Heartbeats by outcome; withheld while the worker does not work");
    describe_counter!(CANARIES, "Canaries received");
    describe_gauge!(
        LAST_CANARY,
        Unit::Seconds,
        "When the last canary was sent to the queue, since 1970; 0 before the first"
    );
    describe_gauge!(BUILD_INFO, "1, with the version and revision of the running program");
}
