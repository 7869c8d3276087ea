//! The events in a message of the queue. A body's JSON is parsed once and converted to EventBridge's shape. Typed views borrow from it
//! and tolerate missing fields.
//!
//! Invariants: every JSON object is an [`Event`], because a field that is missing, unknown or of an unexpected type is no error. No
//! event contains a container's environment, which is dropped before any other code reads the event.

mod arn;
pub mod autoscaling;
pub mod cloudtrail;
pub mod cloudwatch;
pub mod codedeploy;
pub mod ecr;
pub mod ecs;
mod envelope;
pub mod health;
mod identity;
mod json;

use std::collections::HashSet;
use std::hash::Hash;

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub use arn::Arn;
pub(crate) use envelope::{drop_environments, drop_quoted_environment};
pub use identity::Identity;

/// Why a message's body is no event. The error does not contain the body.
#[derive(Debug, thiserror::Error)]
pub enum Undecodable {
    /// The error has the line and the column.
    #[error("the body is not JSON: {0}")]
    NotJson(serde_json::Error),
    /// An array, a string, a number …
    #[error("the body is JSON, but not an object")]
    NotAnObject,
}

/// One event, in EventBridge's shape if its kind is known. Otherwise it is the JSON object as it arrived.
#[derive(Debug, Clone)]
pub struct Event {
    value: Value,
    /// The id of the SNS notification or the SQS record that contained the event.
    carrier: Option<String>,
}

/// An event's `detail` by its detail-type.
#[derive(Debug, Clone)]
pub enum Detail<'a> {
    /// "ECS Service Action".
    ServiceAction(ecs::Action<'a>),
    /// "ECS Deployment State Change".
    Deployment(ecs::Action<'a>),
    /// "ECS Hook State Change".
    Hook(ecs::Action<'a>),
    /// "ECS Daemon Service Action".
    DaemonAction(ecs::Action<'a>),
    /// "ECS Daemon Deployment State Change".
    DaemonDeployment(ecs::Action<'a>),
    /// "ECS Task State Change".
    Task(ecs::Task<'a>),
    /// "ECS Container Instance State Change".
    InstanceState(ecs::InstanceState<'a>),
    /// "ECS Container Instance Health Change".
    InstanceHealth(ecs::InstanceHealth<'a>),
    /// "CloudWatch Alarm State Change".
    Alarm(cloudwatch::Alarm<'a>),
    /// "AWS Health Event".
    Health(health::Health<'a>),
    /// "AWS API Call via CloudTrail".
    ApiCall(cloudtrail::ApiCall<'a>),
    /// "ECR Image Scan", "Inspector2 Scan".
    ImageScan(ecr::ImageScan<'a>),
    /// "CodeDeploy Deployment State-change Notification", "CodeDeploy Instance State-change Notification".
    CodeDeploy(codedeploy::CodeDeploy<'a>),
    /// Any detail-type of the source `aws.autoscaling`.
    Scaling(autoscaling::Scaling<'a>),
    /// Any other detail-type, or none.
    Other,
}

impl Event {
    /// Reads a message's body: an EventBridge event, bare or in an SNS notification, an SQS record or a Lambda event; a CloudWatch
    /// alarm's notification from SNS; an event's `detail` alone; or any other JSON object. Returns at least one event. If the body has
    /// several records, returns one event for each.
    ///
    /// # Errors
    ///
    /// Only if the body is not a JSON object. A record without a JSON object becomes an event that is shown as it is. An error for it
    /// would leave the whole message to the redrive policy, although the other records can be reported.
    pub fn decode(body: &str) -> Result<Vec<Self>, Undecodable> {
        let value = json::parse(body).map_err(Undecodable::NotJson)?;
        if !value.is_object() {
            return Err(Undecodable::NotAnObject);
        }
        Ok(envelope::open(value))
    }

    /// The event as a JSON value, which routing patterns are matched against.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Whether it is a canary, which a schedule sends to show that events arrive. An event with a detail is never a canary, whatever its
    /// detail-type, because the worker does not report canaries.
    pub fn is_canary(&self) -> bool {
        let is_empty = |detail: &Value| detail.is_null() || detail.as_object().is_some_and(serde_json::Map::is_empty);
        self.source() == Some("ecs-slack-alerts.canary")
            && self.detail_type() == Some("ecs-slack-alerts canary")
            && is_empty(self.detail_value())
    }

    /// EventBridge's id, or the value that an input transformer or a person put there, which may not be unique. `None` if the event has no
    /// detail-type, or if the id is too long or has control characters.
    pub fn id(&self) -> Option<&str> {
        self.detail_type()?;
        text(&self.value, "id").filter(|id| id.len() <= 128 && !id.contains(char::is_control))
    }

    /// `aws.ecs`, `aws.cloudwatch` …
    pub fn source(&self) -> Option<&str> {
        text(&self.value, "source")
    }

    /// The detail-type: the event's own, else the one that follows from the detail's keys.
    pub fn detail_type(&self) -> Option<&str> {
        text(&self.value, "detail-type")
    }

    /// The account's id: the event's own, else the one in an ARN.
    pub fn account(&self) -> Option<&str> {
        text(&self.value, "account").or_else(|| self.arns().map(|arn| arn.account).find(|account| !account.is_empty()))
    }

    /// The Region: the event's own, else the one in an ARN. It may be any text, because nothing checks it.
    pub fn region(&self) -> Option<&str> {
        text(&self.value, "region").or_else(|| self.arns().map(|arn| arn.region).find(|region| !region.is_empty()))
    }

    /// When it happened: the event's `time`, else a time in its detail.
    pub fn time(&self) -> Option<OffsetDateTime> {
        let event = |key| text(&self.value, key).and_then(parse_time);
        let detail = |key| text(self.detail_value(), key).and_then(parse_time);
        let alarm = || parse_time(self.value.pointer("/detail/state/timestamp")?.as_str()?);
        event("time")
            .or_else(|| ["stoppedAt", "updatedAt", "createdAt", "timestamp"].into_iter().find_map(detail))
            .or_else(alarm)
            .or_else(|| ["timestamp", "Timestamp"].into_iter().find_map(event))
    }

    /// The strings in `resources`.
    pub fn resources(&self) -> impl Iterator<Item = &str> {
        self.value.get("resources").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    }

    /// The typed view of the detail.
    pub fn detail(&self) -> Detail<'_> {
        let detail = self.detail_value();
        match self.detail_type() {
            Some("ECS Service Action") => Detail::ServiceAction(ecs::Action::read(detail)),
            Some("ECS Deployment State Change") => Detail::Deployment(ecs::Action::read(detail)),
            Some("ECS Hook State Change") => Detail::Hook(ecs::Action::read(detail)),
            Some("ECS Daemon Service Action") => Detail::DaemonAction(ecs::Action::read(detail)),
            Some("ECS Daemon Deployment State Change") => Detail::DaemonDeployment(ecs::Action::read(detail)),
            Some(TASK) => Detail::Task(ecs::Task::read(detail)),
            Some("ECS Container Instance State Change") => Detail::InstanceState(ecs::InstanceState::read(detail)),
            Some("ECS Container Instance Health Change") => Detail::InstanceHealth(ecs::InstanceHealth::read(detail)),
            Some("CloudWatch Alarm State Change") => Detail::Alarm(cloudwatch::Alarm::read(detail)),
            Some("AWS Health Event") => Detail::Health(health::Health::read(detail)),
            Some("AWS API Call via CloudTrail") => Detail::ApiCall(cloudtrail::ApiCall::read(detail)),
            Some("ECR Image Scan" | "Inspector2 Scan") => Detail::ImageScan(ecr::ImageScan::read(detail)),
            Some(
                "CodeDeploy Deployment State-change Notification" | "CodeDeploy Instance State-change Notification",
            ) => Detail::CodeDeploy(codedeploy::CodeDeploy::read(detail)),
            _ if self.source() == Some("aws.autoscaling") => Detail::Scaling(autoscaling::Scaling::read(detail)),
            _ => Detail::Other,
        }
    }

    /// The raw detail; null when there is none.
    pub fn detail_value(&self) -> &Value {
        static NULL: Value = Value::Null;
        self.value.get("detail").unwrap_or(&NULL)
    }

    /// Every ARN, the most specific first: ARNs in `resources`, then in the detail's ARN fields, then ECS ARNs in any text, then others.
    pub fn arns(&self) -> impl Iterator<Item = Arn<'_>> {
        let anywhere = |ecs| texts(&self.value).flat_map(Arn::find_in).filter(move |arn| (arn.service == "ecs") == ecs);
        self.own_arns().chain(anywhere(true)).chain(anywhere(false))
    }

    /// The ARNs in `resources` and in the fields that ECS uses for ARNs.
    fn own_arns(&self) -> impl Iterator<Item = Arn<'_>> {
        const KEYS: [&str; 7] = [
            "serviceArn",
            "taskArn",
            "containerInstanceArn",
            "daemonArn",
            "serviceDeploymentArn",
            "daemonDeploymentArn",
            "clusterArn",
        ];
        let keyed = KEYS.iter().filter_map(|key| text(self.detail_value(), key));
        self.resources().chain(keyed).filter_map(Arn::parse)
    }

    /// The name of the ECS service: from a task's group, or from any ARN. A field `service` counts only in an event of ECS, because other
    /// events use it for something else.
    pub fn service(&self) -> Option<&str> {
        if self.detail_type() == Some(TASK) {
            return text(self.detail_value(), "group")?.strip_prefix("service:");
        }
        let is_of_ecs = self.source().is_none_or(|source| source == "aws.ecs");
        let plain =
            |value| ["serviceName", "service"].into_iter().find_map(|key| text(value, key).filter(|_| is_of_ecs));
        self.arns()
            .find_map(|arn| arn.service_name())
            .or_else(|| plain(self.detail_value()))
            .or_else(|| plain(&self.value))
    }

    /// The name of the ECS cluster: from the ARN of a service, else from any ARN. ARNs in the fields of ECS come first.
    pub fn cluster(&self) -> Option<&str> {
        let plain = |key| text(self.detail_value(), key).filter(|name| !name.starts_with("arn:"));
        // The search through every text comes second, because it takes much longer.
        cluster_among(self.own_arns())
            .or_else(|| cluster_among(self.arns()))
            .or_else(|| ["clusterArn", "clusterName", "cluster"].into_iter().find_map(plain))
    }
}

/// The detail-type of a task's state change.
const TASK: &str = "ECS Task State Change";

/// The cluster of the first service among these ARNs, else of the first ARN with a cluster.
fn cluster_among<'a>(arns: impl Iterator<Item = Arn<'a>>) -> Option<&'a str> {
    let mut any = None;
    for arn in arns {
        let cluster = arn.cluster();
        if cluster.is_some() && arn.service_name().is_some() {
            return cluster;
        }
        any = any.or(cluster);
    }
    any
}

/// A string field; `None` where it is missing, blank or no string.
pub(crate) fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key)?.as_str().filter(|text| !text.trim().is_empty())
}

/// The items of an array field; empty where it is missing or no array.
pub(crate) fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

/// The items without repeats, in their order.
pub(crate) fn distinct<T: Copy + Eq + Hash>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut seen = HashSet::new();
    items.into_iter().filter(|item| seen.insert(*item)).collect()
}

/// Every string in a value, depth first.
fn texts(value: &Value) -> impl Iterator<Item = &str> {
    let mut rest = vec![value];
    std::iter::from_fn(move || {
        while let Some(value) = rest.pop() {
            match value {
                Value::String(text) => return Some(text.as_str()),
                Value::Array(items) => rest.extend(items.iter().rev()),
                Value::Object(fields) => rest.extend(fields.values().rev()),
                _ => {}
            }
        }
        None
    })
}

/// RFC 3339, and CloudWatch's own `2019-10-02T17:04:40.989+0000`.
pub(crate) fn parse_time(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok().or_else(|| {
        let (instant, offset) = text.split_at_checked(text.len().checked_sub(5)?)?;
        let (hours, minutes) = offset.split_at_checked(3)?;
        OffsetDateTime::parse(&format!("{instant}{hours}:{minutes}"), &Rfc3339).ok()
    })
}

#[cfg(test)]
mod tests;
