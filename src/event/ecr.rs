//! The detail of an image scan, by ECR itself or by Amazon Inspector. Every field may be missing.
//!
//! Field names: <https://docs.aws.amazon.com/AmazonECR/latest/userguide/ecr-eventbridge.html>,
//! <https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-scanning-enhanced-events.html>

use serde_json::Value;

use super::{Arn, list, text};

/// A scan of a container image.
#[derive(Debug, Clone, Default)]
pub struct ImageScan<'a> {
    /// The repository's name, which may contain slashes.
    pub repository: Option<&'a str>,
    /// The image's tags.
    pub tags: Vec<&'a str>,
    /// `sha256:…`
    pub digest: Option<&'a str>,
    /// `COMPLETE`, `FAILED`, `INITIAL_SCAN_COMPLETE` …
    pub status: Option<&'a str>,
    /// How many findings of each severity: `CRITICAL`, `HIGH` …
    pub counts: Vec<(&'a str, u64)>,
}

impl<'a> ImageScan<'a> {
    /// Reads a detail.
    pub fn read(detail: &'a Value) -> Self {
        let repository = text(detail, "repository-name");
        let counts = detail.get("finding-severity-counts").and_then(Value::as_object).into_iter().flatten();
        Self {
            // Inspector puts the repository's ARN here.
            repository: repository.map(|name| {
                let in_arn = Arn::parse(name).and_then(|arn| Some(arn.resource.split_once('/')?.1));
                in_arn.unwrap_or(name)
            }),
            tags: list(detail, "image-tags").filter_map(Value::as_str).collect(),
            digest: text(detail, "image-digest"),
            status: text(detail, "scan-status"),
            counts: counts.filter_map(|(severity, count)| Some((severity.as_str(), count.as_u64()?))).collect(),
        }
    }

    /// How many findings there are of one severity.
    pub fn count(&self, severity: &str) -> u64 {
        self.counts.iter().filter(|(name, _)| name.eq_ignore_ascii_case(severity)).map(|(_, count)| count).sum()
    }
}
