//! The detail of an EC2 Auto Scaling group's event. Every field may be missing.
//!
//! Field names: <https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-event-reference.html>

use serde_json::Value;

use super::text;

/// Something that an Auto Scaling group did, or could not do.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scaling<'a> {
    /// The group's name.
    pub group: Option<&'a str>,
    /// Why it failed, as EC2 says it.
    pub message: Option<&'a str>,
    /// Why the group did it, as Auto Scaling says it.
    pub cause: Option<&'a str>,
    /// `i-…`; `None` if no instance was launched.
    pub instance: Option<&'a str>,
    /// `eu-central-1c`
    pub availability_zone: Option<&'a str>,
    /// `subnet-…`
    pub subnet: Option<&'a str>,
}

impl<'a> Scaling<'a> {
    /// Reads a detail.
    pub fn read(detail: &'a Value) -> Self {
        let details = detail.get("Details").unwrap_or(&Value::Null);
        Self {
            group: text(detail, "AutoScalingGroupName"),
            message: text(detail, "StatusMessage"),
            cause: text(detail, "Cause"),
            instance: text(detail, "EC2InstanceId"),
            availability_zone: text(details, "Availability Zone"),
            subnet: text(details, "Subnet ID"),
        }
    }
}
