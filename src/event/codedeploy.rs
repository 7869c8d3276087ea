//! The detail of a CodeDeploy deployment's event, or the message that a CodeDeploy trigger sends to SNS. Every field may be missing.
//!
//! Field names: <https://docs.aws.amazon.com/codedeploy/latest/userguide/monitoring-cloudwatch-events.html>,
//! <https://docs.aws.amazon.com/codedeploy/latest/userguide/monitoring-sns-event-notifications-json-format.html>

use serde_json::Value;

use super::text;

/// A deployment by CodeDeploy, or its part on one instance.
#[derive(Debug, Clone, Default)]
pub struct CodeDeploy<'a> {
    /// The application's name.
    pub application: Option<&'a str>,
    /// The deployment group's name.
    pub group: Option<&'a str>,
    /// `d-123456789`
    pub deployment: Option<&'a str>,
    /// In an event: `START`, `SUCCESS`, `FAILURE`, `STOP`, `READY`. From a trigger: `CREATED`, `SUCCEEDED`, `FAILED`, `STOPPED`.
    pub state: Option<&'a str>,
    /// The EC2 instance, if the event is about a single one.
    pub instance: Option<&'a str>,
    /// Why it failed, as CodeDeploy says it. Only a trigger has it.
    pub error: Option<String>,
}

impl<'a> CodeDeploy<'a> {
    /// Reads a detail.
    pub fn read(detail: &'a Value) -> Self {
        // The field is a string that contains JSON.
        let error = text(detail, "errorInformation").and_then(|error| serde_json::from_str::<Value>(error).ok());
        Self {
            application: text(detail, "application").or(text(detail, "applicationName")),
            group: text(detail, "deploymentGroup").or(text(detail, "deploymentGroupName")),
            deployment: text(detail, "deploymentId"),
            state: text(detail, "state").or(text(detail, "status")),
            instance: text(detail, "instanceId"),
            error: error.and_then(|error| text(&error, "ErrorMessage").map(str::to_owned)),
        }
    }
}
