//! Alerts about CloudWatch alarms: on one metric, on several metrics, and composite alarms.

use super::{Page, Parts, Severity, console, several, words};
use crate::event::cloudwatch::Alarm;
use crate::event::{Event, distinct};
use crate::text::line;

pub(super) fn describe(event: &Event, alarm: &Alarm) -> Parts {
    let mut parts = Parts::of(event);
    parts.kind = "ALARM".to_owned();
    parts.subject = alarm.name.unwrap_or("unknown alarm").to_owned();
    // The alarms of Application Auto Scaling have this prefix. They change their state whenever a service scales.
    let of_scaling = alarm.name.is_some_and(|name| name.starts_with("TargetTracking-"));
    parts.severity = match alarm.state {
        Some("OK" | "INSUFFICIENT_DATA") => Severity::Info,
        Some("ALARM") if of_scaling => Severity::Info,
        // The alarm's owner suppresses its actions. When the suppression ends, CloudWatch sends another event.
        Some("ALARM") if alarm.suppressed_by.is_some() => Severity::Info,
        Some("ALARM") => Severity::Critical,
        _ => Severity::Warning,
    };
    parts.what = match alarm.state {
        Some("ALARM") => "is in ALARM".to_owned(),
        Some("OK") => "is OK".to_owned(),
        Some("INSUFFICIENT_DATA") => "has insufficient data".to_owned(),
        Some(state) => format!("is in state {}", words(state)),
        None => "changed its state".to_owned(),
    };
    if let Some(by) = alarm.suppressed_by {
        parts.what.push_str(&suppression(by, alarm.suppressor));
    }
    parts.reason = alarm.reason.map(str::to_owned);
    parts.note = alarm.description.map(str::to_owned);
    parts.cluster = parts.cluster.take().or(alarm.cluster.map(str::to_owned));
    let names: Vec<&str> = alarm.triggered_by.iter().map(String::as_str).collect();
    parts.fact("Triggered by", Some(several(&names, 5)).filter(|names| !names.is_empty()).as_deref());
    parts.fact("Rule", alarm.rule);
    parts.fact("Service", alarm.service);
    parts.fact("Expression", alarm.expression);
    // Metrics of one namespace share its name.
    let mut metrics: Vec<String> = Vec::new();
    for namespace in distinct(alarm.metrics.iter().map(|(namespace, _)| *namespace)) {
        let names = alarm.metrics.iter().filter(|(of, _)| *of == namespace).map(|(_, name)| *name);
        metrics.push(format!("{namespace} {}", names.collect::<Vec<_>>().join(", ")));
    }
    parts.fact(
        if alarm.metrics.len() > 1 { "Metrics" } else { "Metric" },
        Some(metrics.join("; ")).filter(|metrics| !metrics.is_empty()).as_deref(),
    );
    parts.link(Page::Subject, console(event).zip(alarm.name).and_then(|(console, name)| console.alarm(name)));
    parts
}

/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_CompositeAlarm.html>
fn suppression(by: &str, suppressor: Option<&str>) -> String {
    let suppressor = suppressor.map_or("its suppressor".to_owned(), |name| format!("the alarm {}", line(name, 100)));
    match by {
        "Alarm" => format!(", its actions suppressed by {suppressor}"),
        "WaitPeriod" => format!(", its actions suppressed while it waits for {suppressor}"),
        "ExtensionPeriod" => format!(", its actions suppressed for a while after {suppressor}"),
        other => format!(", its actions suppressed by {}", line(other, 60)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Alert;
    use super::*;

    #[test]
    fn a_suppressed_alarm_names_its_suppressor_and_is_only_info() {
        let alarm = |by: &str, suppressor: &str| {
            let alarm = json!({ "alarmName": "all", "configuration": { "alarmRule": "ALARM(one)", "actionsSuppressor": suppressor },
                "state": { "value": "ALARM", "actionsSuppressedBy": by, "reasonData": "{\"triggeringAlarms\":[{\"arn\":\"arn:aws:cloudwatch:eu-west-1:1:alarm:one: a\"}]}" } });
            Alert::from_event(&Event::decode(&alarm.to_string()).unwrap()[0])
        };
        let maintenance = "arn:aws:cloudwatch:eu-west-1:1:alarm:in maintenance";
        for (by, suppressor, what) in [
            ("Alarm", maintenance, "is in ALARM, its actions suppressed by the alarm in maintenance"),
            ("WaitPeriod", "deploy", "is in ALARM, its actions suppressed while it waits for the alarm deploy"),
            ("ExtensionPeriod", "deploy", "is in ALARM, its actions suppressed for a while after the alarm deploy"),
            ("Moon", "", "is in ALARM, its actions suppressed by Moon"),
        ] {
            let alert = alarm(by, suppressor);
            assert_eq!((alert.severity, alert.what.as_str()), (Severity::Info, what));
            assert_eq!(alert.facts[0], ("Triggered by".to_owned(), "one: a".to_owned()));
        }
    }
}
