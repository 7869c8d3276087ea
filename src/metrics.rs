//! All metrics: their names and descriptions, and the functions that count.
//!
//! Label values come from closed sets: the channels of the configuration and the enums of this program, never the text of an event. Every
//! series that a dashboard or an alert needs exists with the value 0 from the start.

use std::{collections::HashMap, sync::OnceLock, time::Duration};

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

mod outcomes;

pub use outcomes::{DiagnosisOutcome, HeartbeatOutcome, MessageOutcome, SlackOutcome};

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

/// Delays: usually a post takes less than a second; an hour means an outage.
const DELAY_BUCKETS: [f64; 14] =
    [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 14400.0];
/// Slack answers in about 100 ms; a request times out after ten seconds.
const REQUEST_BUCKETS: [f64; 9] = [0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Incidents: a failed start ends within minutes, a bad deployment within an hour, an ignored incident within a day.
const INCIDENT_BUCKETS: [f64; 10] = [60.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0, 14400.0, 43200.0, 86400.0];

const SQS_OPERATIONS: [&str; 5] =
    ["ReceiveMessage", "DeleteMessageBatch", "ChangeMessageVisibilityBatch", "GetQueueAttributes", "GetQueueUrl"];
const QUEUES: [&str; 2] = ["main", "dlq"];
const STATES: [&str; 3] = ["visible", "in_flight", "delayed"];
/// The label values of `incidents_total`: what an alert means to its incident.
pub(crate) const TRANSITIONS: [&str; 6] = ["opened", "news", "repeated", "reminded", "recovered", "reopened"];
const STORE_OPERATIONS: [&str; 2] = ["load", "save"];
const STORE_OUTCOMES: [&str; 3] = ["ok", "conflict", "error"];
/// The label values of `alerts_total`. A test of `alert::Severity` checks that they are the same.
pub const SEVERITIES: [&str; 3] = ["info", "warning", "critical"];
/// The severities of problems: the label values of `unrouted_problems_total`.
const PROBLEMS: [&str; 2] = ["warning", "critical"];

/// Installs the recorder and creates every series with the value 0.
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

/// The metrics that are updated for each message. They are kept here because looking a metric up by name and labels takes longer than
/// updating it. Empty until [`install`] is called; before that nothing is counted.
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

/// Increments the counter with this label value.
fn count_one<L: PartialEq>(counters: &[(L, Counter)], label: &L) {
    if let Some((_, counter)) = counters.iter().find(|(one, _)| one == label) {
        counter.increment(1);
    }
}

/// `count` messages were received from the queue.
pub fn messages_received(count: usize) {
    counter!(MESSAGES_RECEIVED).increment(count as u64);
}

/// Counts the outcome of one message.
pub fn message(outcome: MessageOutcome) {
    if let Some(each) = EACH_MESSAGE.get() {
        count_one(&each.outcomes, &outcome);
    }
}

/// A problem was deleted because no route takes it.
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

/// The time from the event to Slack's 200. Only for first receives: later ones measure an outage, not this program.
pub fn alert_delay(channel: &str, delay: Duration) {
    histogram!(ALERT_DELAY, "channel" => channel.to_owned()).record(delay);
}

/// The time from SentTimestamp to the first receive.
pub fn queue_delay(delay: Duration) {
    if let Some(each) = EACH_MESSAGE.get() {
        each.queue_delay.record(delay);
    }
}

/// The number of messages in flight changes by `change`.
pub fn in_flight(change: i32) {
    if let Some(each) = EACH_MESSAGE.get() {
        each.in_flight.increment(change);
    }
}

/// Whether Slack rate-limits the channel or is down.
pub fn channel_blocked(channel: &str, blocked: bool) {
    gauge!(CHANNEL_BLOCKED, "channel" => channel.to_owned()).set(if blocked { 1.0 } else { 0.0 });
}

/// Whether Slack refuses the channel, so that its alerts go to its fallback.
pub fn fallback_active(channel: &str, active: bool) {
    gauge!(FALLBACK_ACTIVE, "channel" => channel.to_owned()).set(if active { 1.0 } else { 0.0 });
}

/// One request to SQS ended.
pub fn sqs_request(operation: &'static str, ok: bool) {
    counter!(SQS_REQUESTS, "operation" => operation, "outcome" => if ok { "ok" } else { "error" }).increment(1);
}

/// ECS was asked about an alert's service, or the question was skipped.
pub fn diagnosis(outcome: DiagnosisOutcome) {
    counter!(DIAGNOSES, "outcome" => outcome.as_str()).increment(1);
}

/// ECS was asked for the tags of an alert's service, or the question was skipped.
pub fn service_tags(outcome: DiagnosisOutcome) {
    counter!(SERVICE_TAGS, "outcome" => outcome.as_str()).increment(1);
}

/// Counts what an alert means to an incident.
pub fn incident(channel: &str, transition: &'static str) {
    if let Some(transitions) = EACH_MESSAGE.get().and_then(|each| each.incidents.get(channel)) {
        count_one(transitions, &transition);
    }
}

/// This process knows `count` open incidents of the channel.
pub fn incidents_open(channel: &str, count: usize) {
    gauge!(INCIDENTS_OPEN, "channel" => channel.to_owned()).set(count as f64);
}

/// The time from an incident's first event to its recovery.
pub fn incident_duration(channel: &str, duration: Duration) {
    histogram!(INCIDENT_DURATION, "channel" => channel.to_owned()).record(duration);
}

/// One request to the table of incidents ended: `load` or `save`; `ok`, `conflict` or `error`.
pub fn store_request(operation: &'static str, outcome: &'static str) {
    counter!(STORE_REQUESTS, "operation" => operation, "outcome" => outcome).increment(1);
}

/// The messages in a queue (`main` or `dlq`): visible, in flight, delayed.
pub fn queue_messages(queue: &'static str, counts: [u64; 3]) {
    for (state, count) in STATES.into_iter().zip(counts) {
        gauge!(QUEUE_MESSAGES, "queue" => queue, "state" => state).set(count as f64);
    }
}

/// `count` lines of the log were dropped.
pub fn log_lines_dropped(count: u64) {
    counter!(LOG_LINES_DROPPED).increment(count);
}

/// Counts the outcome of a heartbeat that was due.
pub fn heartbeat(outcome: HeartbeatOutcome) {
    counter!(HEARTBEATS, "outcome" => outcome.as_str()).increment(1);
}

/// A canary arrived. `last` is when the latest one was sent, as time since 1970.
pub fn canary(last: Duration) {
    counter!(CANARIES).increment(1);
    gauge!(LAST_CANARY).set(last.as_secs_f64());
}

/// `count` asynchronous tasks are alive.
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
        // A handle is enough: it creates the histogram, empty.
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
        // All tags come in one answer, so there is no partial result.
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

/// The commit that the binary was built from, if the variable `REVISION` was set at build time.
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
    describe_counter!(DIAGNOSES, "Alerts for which ECS was asked about the service, by outcome");
    describe_counter!(SERVICE_TAGS, "Alerts for which ECS was asked for the tags of the service, by outcome");
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
