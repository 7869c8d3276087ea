//! The answers of AWS's APIs that a diagnosis reads, in their own JSON shapes.
//!
//! The keys of an answer identify its operation, and what it says about a service is marked with that service's name. So the recorded
//! answers in a folder need no order, and may be about several services.

use serde_json::Value;
use time::OffsetDateTime;

use super::{Details, Diagnosis, Service, Tags};
use crate::event::{Arn, drop_environments, parse_time, text};

pub use super::snapshot::ServiceSnapshot;

/// Recorded answers of all kinds.
#[derive(Default)]
pub struct Answers {
    /// About services and their tasks.
    pub facts: Facts,
    /// About everything else.
    pub details: Details,
}

/// What ECS answered about services and their stopped tasks. Without the service there is no diagnosis.
#[derive(Clone, Default)]
pub struct Facts {
    services: Vec<Value>,
    pub(super) tasks: Vec<Value>,
    /// Whether ECS answered about the stopped tasks. `tasks` may be empty even then.
    pub tasks_known: bool,
}

/// The CloudWatch log stream of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogStream {
    /// The AWS region.
    pub region: String,
    /// The log group's name.
    pub group: String,
    /// The stream's name: `{prefix}/{container}/{task id}`.
    pub stream: String,
}

impl Answers {
    /// Adds an answer of one of the operations that a diagnosis needs; ignores any other. `name` is the name of the file. For an answer of
    /// DescribeTargetHealth it must contain the target group's name, because the answer itself does not.
    pub fn add(&mut self, name: &str, answer: Value) {
        let is_about_tasks = ["tasks", "taskArns"].iter().any(|key| answer.get(key).is_some());
        self.facts.tasks_known |= is_about_tasks;
        if answer.get("TargetHealthDescriptions").is_some() {
            self.details.add_target_health(name, answer);
        } else if answer.get("services").is_some() || is_about_tasks {
            self.facts.add(answer);
        } else {
            self.details.add(answer);
        }
    }

    /// The tags of the service; `None` if ECS does not know the service.
    pub fn tags(&self, service: &Service) -> Option<Tags> {
        self.facts.described(service).map(Tags::of)
    }

    /// What the answers say about the service; `None` if ECS does not know it.
    pub fn diagnosis(&self, service: &Service) -> Option<Diagnosis> {
        Some(ServiceSnapshot::of(service, &self.facts)?.diagnosis(&self.details))
    }
}

impl Facts {
    /// The service, as DescribeServices describes it.
    pub fn described(&self, service: &Service) -> Option<&Value> {
        let is_same = |described: &&Value| {
            let cluster = text(described, "clusterArn").and_then(Arn::parse).and_then(|arn| arn.name());
            text(described, "serviceName") == Some(&service.name) && cluster == Some(&service.cluster)
        };
        self.services.iter().find(is_same)
    }

    /// Adds an answer of DescribeServices or DescribeTasks; ignores any other.
    pub fn add(&mut self, mut answer: Value) {
        for (key, kept) in [("services", &mut self.services), ("tasks", &mut self.tasks)] {
            if let Some(Value::Array(items)) = answer.get_mut(key) {
                // The reason of a stop or the message of an event may quote environment variables.
                items.iter_mut().for_each(drop_environments);
                kept.append(items);
            }
        }
    }
}

/// A time: in seconds since 1970, as the API answers, or in RFC 3339, as the AWS CLI prints it.
pub(super) fn time(value: &Value, key: &str) -> Option<OffsetDateTime> {
    match value.get(key)? {
        Value::String(text) => parse_time(text),
        seconds => {
            let nanos = seconds.as_f64()? * 1e9;
            OffsetDateTime::from_unix_timestamp_nanos(nanos as i128).ok()
        }
    }
}
