//! The detail of a CloudWatch alarm's event. Every field may be missing.
//!
//! Field names: <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch-and-eventbridge.html>

use serde_json::Value;

use super::text;

/// An alarm that changed its state.
#[derive(Debug, Clone, Default)]
pub struct Alarm<'a> {
    /// May hold spaces and slashes.
    pub name: Option<&'a str>,
    /// `ALARM`, `OK`, `INSUFFICIENT_DATA`.
    pub state: Option<&'a str>,
    /// In CloudWatch's words.
    pub reason: Option<&'a str>,
    /// In its owner's words.
    pub description: Option<&'a str>,
    /// The namespace and the name of its first metric.
    pub metric: Option<(&'a str, &'a str)>,
    /// `ClusterName` among that metric's dimensions.
    pub cluster: Option<&'a str>,
    /// `ServiceName` among that metric's dimensions.
    pub service: Option<&'a str>,
}

impl<'a> Alarm<'a> {
    /// Reads a detail.
    pub fn read(detail: &'a Value) -> Self {
        let at = |path: &str| detail.pointer(path).and_then(Value::as_str).filter(|text| !text.trim().is_empty());
        let metrics = detail.pointer("/configuration/metrics").and_then(Value::as_array);
        let metric = metrics.into_iter().flatten().find_map(|metric| metric.pointer("/metricStat/metric"));
        let dimension = |name| text(metric?.get("dimensions")?, name);
        Self {
            name: at("/alarmName"),
            state: at("/state/value"),
            reason: at("/state/reason"),
            description: at("/configuration/description"),
            metric: metric.and_then(|metric| Some((text(metric, "namespace")?, text(metric, "name")?))),
            cluster: dimension("ClusterName"),
            service: dimension("ServiceName"),
        }
    }
}
