//! The detail of an API call that CloudTrail recorded. Every field may be missing.
//!
//! Only names are read from the request's parameters. A task's overrides contain environments and commands, so nothing in them is read.
//! Field names: <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html>

use serde_json::Value;

use super::{Arn, list, text};

/// One call of an API.
#[derive(Debug, Clone, Default)]
pub struct ApiCall<'a> {
    /// `RunTask`, `UpdateService` …
    pub name: Option<&'a str>,
    /// `ecs.amazonaws.com` …
    pub api: Option<&'a str>,
    /// `AccessDenied` …; `None` if the call succeeded.
    pub error_code: Option<&'a str>,
    /// The API's error message.
    pub error_message: Option<&'a str>,
    /// Whether the API only reads.
    pub read_only: bool,
    /// The name of the ECS cluster in the request.
    pub cluster: Option<&'a str>,
    /// The name of the ECS service in the request.
    pub service: Option<&'a str>,
    /// `FAMILY:REVISION`, or the family alone.
    pub task_definition: Option<&'a str>,
    /// The request's `startedBy`: `events-rule/NAME`, `chronos-schedule/NAME`, cut to 36 characters.
    pub started_by: Option<&'a str>,
    /// How many tasks were started.
    pub started: usize,
    /// Why other tasks were not started, although the call succeeded.
    pub failures: Vec<Failure<'a>>,
    /// Who called.
    pub caller: Caller<'a>,
}

/// Why a task was not started.
#[derive(Debug, Clone, Copy, Default)]
pub struct Failure<'a> {
    /// The ARN of the container instance, if any.
    pub arn: Option<&'a str>,
    /// `RESOURCE:MEMORY`, `AGENT` …
    /// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/api_failures_messages.html>
    pub reason: Option<&'a str>,
    /// Further explanation.
    pub detail: Option<&'a str>,
}

/// Who called an API.
#[derive(Debug, Clone, Copy, Default)]
pub struct Caller<'a> {
    /// `IAMUser`, `AssumedRole`, `AWSService`, `Root` …
    pub kind: Option<&'a str>,
    /// The name of the user, or of the role that the caller assumed.
    pub name: Option<&'a str>,
    /// The name of a role's session.
    pub session: Option<&'a str>,
    /// The AWS service that called, for itself or for a role: `events.amazonaws.com`, `scheduler.amazonaws.com` …
    pub service: Option<&'a str>,
}

impl<'a> ApiCall<'a> {
    /// Reads a detail.
    pub fn read(detail: &'a Value) -> Self {
        let [request, response] =
            ["requestParameters", "responseElements"].map(|key| detail.get(key).unwrap_or(&Value::Null));
        let failure = |one| Failure { arn: text(one, "arn"), reason: text(one, "reason"), detail: text(one, "detail") };
        let services = ["service", "serviceName"].into_iter().find_map(|key| text(request, key));
        Self {
            name: text(detail, "eventName"),
            api: text(detail, "eventSource"),
            error_code: text(detail, "errorCode"),
            error_message: text(detail, "errorMessage"),
            read_only: detail.get("readOnly").and_then(Value::as_bool).unwrap_or_default(),
            cluster: text(request, "cluster").and_then(name),
            service: services.and_then(name),
            task_definition: text(request, "taskDefinition").and_then(name),
            started_by: text(request, "startedBy"),
            started: list(response, "tasks").count(),
            failures: list(response, "failures").map(failure).collect(),
            caller: Caller::read(detail),
        }
    }
}

impl<'a> Caller<'a> {
    fn read(detail: &'a Value) -> Self {
        let identity = detail.get("userIdentity").unwrap_or(&Value::Null);
        let issuer = identity.pointer("/sessionContext/sessionIssuer").unwrap_or(&Value::Null);
        // `assumed-role/ROLE/SESSION`, `user/PATH/NAME`, `root`
        let resource = text(identity, "arn").and_then(Arn::parse).map(|arn| arn.resource);
        let assumed = resource.and_then(|resource| resource.strip_prefix("assumed-role/")?.rsplit_once('/'));
        let principal = assumed.map(|(role, _)| role).or_else(|| resource?.rsplit('/').next());
        let is_service = |name: &&str| name.ends_with(".amazonaws.com") || name.ends_with(".amazonaws.com.cn");
        let service = [text(identity, "invokedBy"), text(detail, "sourceIPAddress"), text(detail, "userAgent")];
        Self {
            kind: text(identity, "type"),
            name: text(identity, "userName").or(text(issuer, "userName")).or(principal),
            session: assumed.map(|(_, session)| session),
            service: service.into_iter().flatten().find(is_service),
        }
    }
}

/// The name in a request parameter, which is a name or an ARN.
fn name(text: &str) -> Option<&str> {
    if text.starts_with("arn:") { Arn::parse(text)?.name() } else { Some(text) }
}
