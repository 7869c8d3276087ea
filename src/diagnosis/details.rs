//! The answers about task definitions, service deployments, target groups and logs. If one is missing, the diagnosis says less.

use serde_json::Value;

use super::targets::TargetAnswers;
use crate::event::{drop_environments, drop_quoted_environment, text};

/// The answers. This is not `Debug`, because a task definition holds environment variables.
#[derive(Default)]
pub struct Details {
    task_definitions: Vec<Value>,
    pub(super) service_deployments: Vec<Value>,
    pub(super) targets: TargetAnswers,
    pub(super) log: Vec<String>,
}

impl Details {
    /// Adds an answer of DescribeTaskDefinition, ListServiceDeployments, DescribeServiceDeployments, DescribeTargetGroups or
    /// GetLogEvents; ignores any other.
    pub fn add(&mut self, mut answer: Value) {
        if let Some(definition) = answer.get_mut("taskDefinition") {
            self.task_definitions.push(definition.take());
        }
        if let Some(Value::Array(records)) = answer.get_mut("serviceDeployments") {
            // The reason of a rollback may quote environment variables.
            records.iter_mut().for_each(drop_environments);
            self.service_deployments.append(records);
        }
        if let Some(Value::Array(groups)) = answer.get_mut("TargetGroups") {
            groups.iter_mut().for_each(drop_environments);
            self.targets.add_groups(groups);
        }
        let is_log = answer.get("nextForwardToken").is_some();
        let events = answer.get("events").and_then(Value::as_array).filter(|_| is_log);
        self.add_log(events.into_iter().flatten().filter_map(|event| Some(text(event, "message")?.to_owned())));
    }

    /// Adds an answer of DescribeTargetHealth. The answer does not name its target group, so `target_group` does: it is the ARN, or a
    /// text that contains the name or id, such as the name of a file.
    pub fn add_target_health(&mut self, target_group: &str, mut answer: Value) {
        if let Some(descriptions) = answer.get_mut("TargetHealthDescriptions") {
            drop_environments(descriptions);
            self.targets.add_health(target_group, descriptions.take());
        }
    }

    /// Adds the last lines of a container's log.
    pub fn add_log(&mut self, messages: impl IntoIterator<Item = String>) {
        let shown = |mut message| {
            drop_quoted_environment(&mut message);
            message
        };
        self.log.extend(messages.into_iter().map(shown));
    }

    pub(super) fn task_definition(&self, arn: &str) -> Option<&Value> {
        self.task_definitions.iter().find(|definition| text(definition, "taskDefinitionArn") == Some(arn))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_environment_that_a_target_group_quotes_is_left_out() {
        let arn = "arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/web/0123456789abcdef";
        let path = r#"/health{"environment":[{"name":"TOKEN","value":"hunter2"}]}"#;
        let mut details = Details::default();
        details.add(json!({ "TargetGroups": [{ "TargetGroupArn": arn, "HealthCheckPath": path, "HealthCheckProtocol": "HTTP", "Matcher": { "HttpCode": "200" } }] }));
        let described = json!({ "loadBalancers": [{ "targetGroupArn": arn, "containerPort": 8080 }] });
        let checks = super::super::targets::health_checks(&described, &[arn], &details.targets);
        let shown = format!("{checks:?}");
        assert!(shown.contains("/health") && !shown.contains("hunter2"), "{shown}");
    }
}
