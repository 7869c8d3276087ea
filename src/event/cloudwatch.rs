//! The detail of a CloudWatch alarm's event, and the conversion of an alarm's SNS notification to it. Every field may be missing.
//!
//! Field names: <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch-and-eventbridge.html>

use serde_json::{Map, Value, json};

use super::{Arn, distinct, list, text};

/// An alarm that changed its state.
#[derive(Debug, Clone, Default)]
pub struct Alarm<'a> {
    /// The alarm's name, which may contain spaces and slashes.
    pub name: Option<&'a str>,
    /// `ALARM`, `OK`, `INSUFFICIENT_DATA`.
    pub state: Option<&'a str>,
    /// Why the state changed, as CloudWatch says it.
    pub reason: Option<&'a str>,
    /// The description that the alarm's owner wrote.
    pub description: Option<&'a str>,
    /// The expression that it watches, if any: `100*(m1/m2)`, or a query.
    pub expression: Option<&'a str>,
    /// The namespaces and names of its metrics, without repeats, the one that it watches first.
    pub metrics: Vec<(&'a str, &'a str)>,
    /// `ClusterName` among the dimensions of its metrics.
    pub cluster: Option<&'a str>,
    /// `ServiceName` among the dimensions of its metrics.
    pub service: Option<&'a str>,
    /// Of a composite alarm: `ALARM(one) OR ALARM(other)`.
    pub rule: Option<&'a str>,
    /// Of a composite alarm: the names of the alarms that changed its state.
    pub triggered_by: Vec<String>,
    /// Of a composite alarm whose actions do not run: `WaitPeriod`, `ExtensionPeriod`, `Alarm`.
    pub suppressed_by: Option<&'a str>,
    /// Of a composite alarm: the name of the alarm that can suppress its actions.
    pub suppressor: Option<&'a str>,
}

impl<'a> Alarm<'a> {
    /// Reads a detail.
    pub fn read(detail: &'a Value) -> Self {
        let [state, configuration] = ["state", "configuration"].map(|key| detail.get(key).unwrap_or(&Value::Null));
        let is_watched = |query: &&Value| query.get("returnData").and_then(Value::as_bool).unwrap_or(true);
        let queries = || list(configuration, "metrics");
        let watched_first = queries().filter(is_watched).chain(queries().filter(|query| !is_watched(query)));
        let metrics: Vec<&Value> = watched_first.filter_map(|query| query.pointer("/metricStat/metric")).collect();
        let dimension = |name| {
            metrics.iter().filter_map(|metric| metric.get("dimensions")).find_map(|dimensions| text(dimensions, name))
        };
        let reason = text(state, "reason");
        Self {
            name: text(detail, "alarmName"),
            state: text(state, "value"),
            reason,
            description: text(configuration, "description"),
            expression: queries().filter(is_watched).find_map(|query| text(query, "expression")),
            cluster: dimension("ClusterName"),
            service: dimension("ServiceName"),
            metrics: distinct(
                metrics.iter().filter_map(|metric| Some((text(metric, "namespace")?, text(metric, "name")?))),
            ),
            rule: text(configuration, "alarmRule"),
            triggered_by: triggering_alarms(state, reason),
            suppressed_by: text(state, "actionsSuppressedBy"),
            suppressor: text(configuration, "actionsSuppressor").map(alarm_name),
        }
    }
}

/// The names of the alarms in `reasonData`, which is JSON in a string. Without `reasonData`, the names in the ARNs in the reason.
fn triggering_alarms(state: &Value, reason: Option<&str>) -> Vec<String> {
    let data = text(state, "reasonData").and_then(|data| serde_json::from_str::<Value>(data).ok()).unwrap_or_default();
    let triggers = list(&data, "triggeringAlarms").filter_map(|alarm| text(alarm, "arn"));
    let mut names: Vec<&str> = triggers.map(alarm_name).collect();
    if names.is_empty() && text(state, "reasonData").is_none() {
        let arns = Arn::find_in(reason.unwrap_or_default()).filter(|arn| arn.resource_type() == "alarm");
        names.extend(arns.filter_map(|arn| arn.name()));
    }
    distinct(names).into_iter().map(str::to_owned).collect()
}

/// The name of an alarm, from its name or its ARN.
fn alarm_name(text: &str) -> &str {
    let in_arn = || Arn::parse(text)?.resource.split_once(':').map(|(_, name)| name);
    in_arn().unwrap_or(text)
}

/// Converts the notification that an alarm sends to SNS to the detail of an event.
pub(super) fn detail_of_notification(message: &Value) -> Value {
    let trigger = message.get("Trigger").unwrap_or(&Value::Null);
    let metrics = match text(trigger, "MetricName") {
        Some(_) => json!([{ "metricStat": { "metric": metric(trigger) } }]),
        None => list(trigger, "Metrics").map(query).collect(),
    };
    let triggers: Vec<Value> =
        list(message, "TriggeringChildren").map(|child| json!({ "arn": text(child, "Arn") })).collect();
    let reason_data = (!triggers.is_empty()).then(|| json!({ "triggeringAlarms": triggers }).to_string());
    json!({
        "alarmName": text(message, "AlarmName"),
        "state": {
            "value": text(message, "NewStateValue"),
            "reason": text(message, "NewStateReason"),
            "reasonData": reason_data,
            "actionsSuppressedBy": text(message, "ActionsSuppressedBy"),
            "actionsSuppressedReason": text(message, "ActionsSuppressedReason"),
        },
        "previousState": { "value": text(message, "OldStateValue") },
        "configuration": {
            "description": text(message, "AlarmDescription"),
            "alarmRule": text(message, "AlarmRule"),
            "actionsSuppressor": text(message, "ActionsSuppressor"),
            "metrics": metrics,
        },
    })
}

/// Converts one metric or expression of an alarm on metric math.
fn query(query: &Value) -> Value {
    let stat =
        query.get("MetricStat").map(|stat| json!({ "metric": metric(stat.get("Metric").unwrap_or(&Value::Null)) }));
    json!({
        "id": text(query, "Id"),
        "expression": text(query, "Expression"),
        "label": text(query, "Label"),
        "returnData": query.get("ReturnData"),
        "metricStat": stat,
    })
}

fn metric(metric: &Value) -> Value {
    let pair = |pair| Some((text(pair, "name")?.to_owned(), text(pair, "value")?.into()));
    let dimensions: Map<String, Value> = list(metric, "Dimensions").filter_map(pair).collect();
    json!({ "namespace": text(metric, "Namespace"), "name": text(metric, "MetricName"), "dimensions": dimensions })
}
