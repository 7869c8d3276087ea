//! CloudWatch alarms.

use super::{Alert, Severity, console, words};
use crate::event::Event;
use crate::event::cloudwatch::Alarm;

pub(super) fn describe(alert: &mut Alert, event: &Event, alarm: &Alarm) {
    alert.kind = "ALARM".to_owned();
    alert.subject = alarm.name.unwrap_or("unknown alarm").to_owned();
    // Application Auto Scaling names its own alarms so: they go off whenever a service scales.
    let of_scaling = alarm.name.is_some_and(|name| name.starts_with("TargetTracking-"));
    alert.severity = match alarm.state {
        Some("OK" | "INSUFFICIENT_DATA") => Severity::Info,
        Some("ALARM") if of_scaling => Severity::Info,
        Some("ALARM") => Severity::Critical,
        _ => Severity::Warning,
    };
    alert.what = match alarm.state {
        Some("ALARM") => "is in ALARM".to_owned(),
        Some("OK") => "is OK".to_owned(),
        Some("INSUFFICIENT_DATA") => "has insufficient data".to_owned(),
        Some(state) => format!("is in state {}", words(state)),
        None => "changed its state".to_owned(),
    };
    alert.reason = alarm.reason.map(str::to_owned);
    alert.cluster = alert.cluster.take().or(alarm.cluster.map(str::to_owned));
    alert.note = alarm.description.map(str::to_owned);
    alert.fact("Service", alarm.service);
    let metric = alarm.metric.map(|(namespace, name)| format!("{namespace} {name}"));
    alert.fact("Metric", metric.as_deref());
    alert.link("View in console", console(event).zip(alarm.name).and_then(|(console, name)| console.alarm(name)));
}
