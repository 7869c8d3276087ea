//! The API of Elastic Load Balancing: the health check of a target group, and the health of its targets. The API answers in XML, so
//! this module turns the SDK's types into the JSON that the AWS CLI prints.

use aws_sdk_elasticloadbalancingv2::{
    Config,
    config::Region,
    types::{TargetGroup, TargetHealthDescription},
};
use serde_json::{Value, json};

use super::{Ecs, EcsError};
use crate::diagnosis::Service;

impl Ecs {
    /// The answer of DescribeTargetHealth for a target group.
    ///
    /// # Errors
    /// Any failure of the request, classified.
    pub async fn describe_target_health(&self, service: &Service, target_group: &str) -> Result<Value, EcsError> {
        let call = self.load_balancing.describe_target_health().target_group_arn(target_group);
        let call = call.customize().config_override(in_region_of(service));
        let sent = call.send().await;
        let answer = sent.map_err(|error| EcsError::new("elasticloadbalancing:DescribeTargetHealth", error))?;
        let targets = answer.target_health_descriptions.unwrap_or_default();
        Ok(json!({ "TargetHealthDescriptions": targets.iter().map(target).collect::<Vec<_>>() }))
    }

    /// The answer of DescribeTargetGroups for a target group.
    ///
    /// # Errors
    /// Any failure of the request, classified.
    pub async fn describe_target_group(&self, service: &Service, target_group: &str) -> Result<Value, EcsError> {
        let call = self.load_balancing.describe_target_groups().target_group_arns(target_group);
        let call = call.customize().config_override(in_region_of(service));
        let sent = call.send().await;
        let answer = sent.map_err(|error| EcsError::new("elasticloadbalancing:DescribeTargetGroups", error))?;
        Ok(json!({ "TargetGroups": answer.target_groups.unwrap_or_default().iter().map(group).collect::<Vec<_>>() }))
    }
}

/// The fields that a diagnosis reads.
fn target(described: &TargetHealthDescription) -> Value {
    let target = described.target.as_ref();
    let health = described.target_health.as_ref();
    json!({
        "Target": { "Id": target.and_then(|target| target.id()), "Port": target.and_then(|target| target.port()) },
        "HealthCheckPort": described.health_check_port(),
        "TargetHealth": {
            "State": health.and_then(|health| health.state()).map(|state| state.as_str()),
            "Reason": health.and_then(|health| health.reason()).map(|reason| reason.as_str()),
            "Description": health.and_then(|health| health.description()),
        },
    })
}

/// The fields that a diagnosis reads.
fn group(group: &TargetGroup) -> Value {
    let matcher = group.matcher();
    json!({
        "TargetGroupArn": group.target_group_arn(),
        "HealthCheckProtocol": group.health_check_protocol().map(|protocol| protocol.as_str()),
        "HealthCheckPort": group.health_check_port(),
        "HealthCheckPath": group.health_check_path(),
        "HealthCheckTimeoutSeconds": group.health_check_timeout_seconds(),
        "Matcher": {
            "HttpCode": matcher.and_then(|matcher| matcher.http_code()),
            "GrpcCode": matcher.and_then(|matcher| matcher.grpc_code()),
        },
        "ProtocolVersion": group.protocol_version(),
    })
}

fn in_region_of(service: &Service) -> aws_sdk_elasticloadbalancingv2::config::Builder {
    Config::builder().region(Region::new(service.region.clone()))
}
