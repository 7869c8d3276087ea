//! The detail of an AWS Health event. Every field may be missing.
//!
//! Field names: <https://docs.aws.amazon.com/health/latest/ug/aws-health-events-eventbridge-schema.html>

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use super::{list, parse_time, text};

/// A notice of AWS about its own services, or about resources that run on them.
#[derive(Debug, Clone, Default)]
pub struct Health<'a> {
    /// The AWS service: `ECS`, `EC2` … Not an ECS service.
    pub service: Option<&'a str>,
    /// `AWS_ECS_TASK_PATCHING_RETIREMENT` …
    pub code: Option<&'a str>,
    /// `issue`, `accountNotification`, `scheduledChange`, `investigation`.
    pub category: Option<&'a str>,
    /// `open`, `upcoming`, `closed`.
    pub status: Option<&'a str>,
    /// The Region of the notice; the event may come from another Region.
    pub region: Option<&'a str>,
    /// When it begins, in RFC 2822, or in RFC 3339.
    pub start: Option<&'a str>,
    /// When it ends, in the same formats.
    pub end: Option<&'a str>,
    /// AWS's description, in English if there are several languages.
    pub description: Option<&'a str>,
    /// The affected resources, and the status of each.
    pub entities: Vec<Entity<'a>>,
}

/// A resource that an AWS Health event affects.
#[derive(Debug, Clone, Copy, Default)]
pub struct Entity<'a> {
    /// An ARN, an id, or `cluster|service`.
    pub value: &'a str,
    /// `PENDING`, `RESOLVED`, `IMPAIRED` …
    pub status: Option<&'a str>,
}

impl<'a> Health<'a> {
    /// Reads a detail.
    pub fn read(detail: &'a Value) -> Self {
        let texts = || {
            list(detail, "eventDescription")
                .filter_map(|one| Some((text(one, "language"), text(one, "latestDescription")?)))
        };
        let in_english = texts().find(|(language, _)| language.is_some_and(|language| language.starts_with("en")));
        let entity = |one: &'a Value| Some(Entity { value: text(one, "entityValue")?, status: text(one, "status") });
        Self {
            service: text(detail, "service"),
            code: text(detail, "eventTypeCode"),
            category: text(detail, "eventTypeCategory"),
            status: text(detail, "statusCode"),
            region: text(detail, "eventRegion"),
            start: text(detail, "startTime"),
            end: text(detail, "endTime"),
            description: in_english.or_else(|| texts().next()).map(|(_, description)| description),
            entities: list(detail, "affectedEntities").filter_map(entity).collect(),
        }
    }
}

/// Parses `Wed, 16 Aug 2023 23:18:51 GMT`, or RFC 3339.
pub(crate) fn parse_health_time(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc2822).ok().or_else(|| parse_time(text))
}
