//! The health checks of a load balancer: the request, the expected answer, and how a service's tasks failed it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::events;
use crate::event::{Arn, distinct, list, text};

/// How many target groups are requested at most. A service can have five.
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/register-multiple-targetgroups.html>
const MAX_GROUPS: usize = 3;

/// The health check of one target group. A field that is not known is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// The target group's name.
    pub target_group: String,
    /// How its targets fail, and how many in each way; 0 if this comes from an event of ECS.
    pub found: Vec<(Finding, usize)>,
    /// How many of its targets are healthy.
    pub healthy: Option<usize>,
    /// The expected codes: `200`, `200-299`, `gRPC 12`; `None` if no answer is expected, as with TCP.
    pub expected: Option<String>,
    /// The request: `GET /health`, `TCP connection`, `gRPC /grpc.health.v1.Health/Check`.
    pub request: Option<String>,
    /// The port of the request.
    pub port: Option<String>,
    /// The timeout of the request, in seconds.
    pub timeout: Option<i64>,
}

/// How a target failed its health check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// It answered with these codes.
    Answered(String),
    /// It did not answer in time.
    TimedOut,
    /// There was no connection, or the answer was malformed.
    Failed,
    /// Another reason, in the load balancer's words.
    Other(String),
}

/// The answers of the load balancer's API.
#[derive(Default)]
pub(super) struct TargetAnswers {
    groups: Vec<Value>,
    /// For each answer: a text that names its target group, because the answer itself does not, and the answer.
    health: Vec<(String, Value)>,
}

impl TargetAnswers {
    /// Adds an answer of DescribeTargetGroups.
    pub(super) fn add_groups(&mut self, groups: &mut Vec<Value>) {
        self.groups.append(groups);
    }

    /// Adds the `TargetHealthDescriptions` of an answer of DescribeTargetHealth. `label` is the ARN of the target group, or any text
    /// that contains its name or id.
    pub(super) fn add_health(&mut self, label: &str, descriptions: Value) {
        self.health.push((label.to_owned(), descriptions));
    }

    fn group(&self, arn: &str) -> Option<&Value> {
        self.groups.iter().find(|group| text(group, "TargetGroupArn") == Some(arn))
    }

    /// The answer about this target group. If only one group failed, an answer whose label names no group is about that one.
    fn health(&self, arn: &str, known: &BTreeSet<&str>, is_only: bool) -> Option<&Value> {
        let names = |label: &str, arn: &str| {
            let (name, id) = name_and_id(arn).unwrap_or_default();
            // A label with the name "web-api" also contains the name "web".
            let is_longer =
                |other: &&str| name_and_id(other).is_some_and(|(other, _)| other != name && other.contains(name));
            let longer = known.iter().copied().filter(is_longer);
            let names_longer = longer.filter_map(name_and_id).any(|(other, _)| label.contains(other));
            label == arn
                || (!id.is_empty() && label.contains(id))
                || (!name.is_empty() && label.contains(name) && !names_longer)
        };
        let named = self.health.iter().find(|(label, _)| names(label, arn));
        let nameless =
            || self.health.iter().find(|(label, _)| is_only && !known.iter().any(|other| names(label, other)));
        named.or_else(nameless).map(|(_, descriptions)| descriptions)
    }
}

/// The ARNs of target groups in a text.
pub fn target_groups_in(message: &str) -> impl Iterator<Item = &str> {
    let ends = |c: char| c.is_whitespace() || matches!(c, ')' | '(' | ',' | ';' | '"' | '\'');
    message.match_indices("arn:").filter_map(move |(start, _)| {
        let found = message.get(start..)?;
        let arn = found.split(ends).next()?.trim_end_matches('.');
        let parsed = Arn::parse(arn)?;
        (parsed.service == "elasticloadbalancing" && parsed.resource_type() == "targetgroup").then_some(arn)
    })
}

/// The ARNs of the target groups whose health checks failed, from the reasons of stopped tasks (`reasons`) and the service's recent
/// events.
pub(super) fn failing<'a>(described: &'a Value, reasons: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let messages = reasons.chain(events::recent(described)).filter(|message| events::is_about_health_check(message));
    let mut failing = distinct(messages.flat_map(target_groups_in));
    failing.truncate(MAX_GROUPS);
    failing
}

/// The health checks of these target groups, without those that the load balancer did not answer about.
pub(super) fn health_checks(described: &Value, failing: &[&str], answers: &TargetAnswers) -> Vec<HealthCheck> {
    let mut known: BTreeSet<&str> = load_balancers(described).filter_map(|(arn, _)| arn).collect();
    known.extend(failing);
    failing.iter().filter_map(|arn| health_check(described, arn, &known, failing.len() == 1, answers)).collect()
}

fn health_check(
    described: &Value,
    arn: &str,
    known: &BTreeSet<&str>,
    is_only: bool,
    answers: &TargetAnswers,
) -> Option<HealthCheck> {
    let group = answers.group(arn);
    let targets: Option<Vec<&Value>> =
        answers.health(arn, known, is_only).map(|health| health.as_array().into_iter().flatten().collect());
    if group.is_none() && targets.is_none() {
        return None;
    }
    let state =
        |target: &Value| target.pointer("/TargetHealth/State").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut found: Vec<(Finding, usize)> = Vec::new();
    let failed =
        |target: &&&Value| matches!(&*state(target), "unhealthy" | "unhealthy.draining" | "unused" | "unavailable");
    let failed: Vec<&Value> = targets.iter().flatten().filter(failed).copied().collect();
    for target in &failed {
        let Some(finding) = Finding::of_target(target) else { continue };
        match found.iter_mut().find(|(known, _)| *known == finding) {
            Some((_, count)) => *count += 1,
            None => found.push((finding, 1)),
        }
    }
    found.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    if found.is_empty() {
        // If the targets are deregistered already, only ECS's event says how one failed.
        let of_group =
            |message: &&str| events::is_about_health_check(message) && target_groups_in(message).any(|of| of == arn);
        found.extend(events::recent(described).find(of_group).and_then(Finding::in_event).map(|finding| (finding, 0)));
    }
    let empty = &Value::Null;
    let group = group.unwrap_or(empty);
    Some(HealthCheck {
        target_group: name_and_id(arn)?.0.to_owned(),
        found,
        healthy: targets.as_ref().map(|targets| targets.iter().filter(|target| state(target) == "healthy").count()),
        expected: expected(group),
        request: request(group),
        port: port(described, arn, group, &failed),
        timeout: group.get("HealthCheckTimeoutSeconds").and_then(Value::as_i64),
    })
}

impl Finding {
    fn of_target(target: &Value) -> Option<Self> {
        let health = target.get("TargetHealth")?;
        let described = text(health, "Description").map(Self::read);
        Some(match (text(health, "Reason"), described) {
            (_, Some(described)) if !matches!(described, Self::Other(_)) => described,
            (Some("Target.Timeout"), _) => Self::TimedOut,
            (Some("Target.FailedHealthChecks"), _) => Self::Failed,
            (_, Some(described)) => described,
            (Some(code), None) => Self::Other(code.to_owned()),
            (None, None) => return None,
        })
    }

    /// `… due to (reason Health checks failed with these codes: [404]).`
    fn in_event(message: &str) -> Option<Self> {
        let (_, reason) = message.split_once("(reason ")?;
        Some(Self::read(reason.rsplit_once(')').map_or(reason, |(reason, _)| reason)))
    }

    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/check-target-health.html>
    fn read(description: &str) -> Self {
        let codes = description.split_once("codes: [").and_then(|(_, codes)| Some(codes.split_once(']')?.0.trim()));
        match (codes, description.trim().trim_end_matches('.')) {
            (Some(codes), _) if !codes.is_empty() => Self::Answered(codes.to_owned()),
            (_, "Request timed out") => Self::TimedOut,
            (_, "Health checks failed") => Self::Failed,
            (_, other) => Self::Other(other.to_owned()),
        }
    }
}

fn expected(group: &Value) -> Option<String> {
    let matcher = group.get("Matcher")?;
    let grpc = text(matcher, "GrpcCode").map(|code| format!("gRPC {code}"));
    text(matcher, "HttpCode").map(str::to_owned).or(grpc)
}

fn request(group: &Value) -> Option<String> {
    let path = text(group, "HealthCheckPath");
    Some(match (text(group, "HealthCheckProtocol")?, text(group, "ProtocolVersion"), path) {
        (_, Some("GRPC"), Some(path)) => format!("gRPC {path}"),
        ("HTTPS", _, Some(path)) => format!("GET {path} by HTTPS"),
        (_, _, Some(path)) => format!("GET {path}"),
        (protocol, _, None) => format!("{protocol} connection"),
    })
}

/// The port of the health check: the group's own, else the container's, else the targets' if all have the same.
fn port(described: &Value, arn: &str, group: &Value, targets: &[&Value]) -> Option<String> {
    let fixed = text(group, "HealthCheckPort").filter(|port| *port != "traffic-port").map(str::to_owned);
    let container = || {
        let (_, port) = load_balancers(described).find(|(of, _)| *of == Some(arn))?;
        port.map(|port| port.to_string())
    };
    let of_targets = || {
        let ports: BTreeSet<&str> = targets.iter().filter_map(|target| text(target, "HealthCheckPort")).collect();
        ports.first().filter(|_| ports.len() == 1).map(|port| (*port).to_owned())
    };
    fixed.or_else(container).or_else(of_targets)
}

/// The target groups of a service or its task sets, with the ports of the containers behind them.
fn load_balancers(described: &Value) -> impl Iterator<Item = (Option<&str>, Option<i64>)> {
    let of_sets = list(described, "taskSets").flat_map(|set| list(set, "loadBalancers"));
    list(described, "loadBalancers").chain(of_sets).flat_map(|balancer| {
        let port = balancer.get("containerPort").and_then(Value::as_i64);
        let alternate = balancer.get("advancedConfiguration").and_then(|more| text(more, "alternateTargetGroupArn"));
        [(text(balancer, "targetGroupArn"), port), (alternate, port)].into_iter().filter(|(arn, _)| arn.is_some())
    })
}

/// `targetgroup/NAME/ID`
fn name_and_id(arn: &str) -> Option<(&str, &str)> {
    Arn::parse(arn)?.resource.strip_prefix("targetgroup/")?.split_once('/')
}
