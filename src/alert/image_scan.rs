//! Alerts about scans of container images: the vulnerabilities found, or a scan that failed.

use super::{Page, Parts, Severity, console};
use crate::event::Event;
use crate::event::ecr::ImageScan;

/// ECR's severities of findings, the most severe first.
/// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ImageScanFindings.html>
const SEVERITIES: [&str; 6] = ["CRITICAL", "HIGH", "MEDIUM", "LOW", "INFORMATIONAL", "UNDEFINED"];

pub(super) fn describe(event: &Event, scan: &ImageScan) -> Parts {
    let mut parts = Parts::of(event);
    parts.kind = "IMAGE_SCAN".to_owned();
    parts.subject = match (scan.repository, scan.tags.first(), scan.digest) {
        (Some(repository), Some(tag), _) => format!("{repository}:{tag}"),
        (Some(repository), None, Some(digest)) => {
            // "sha256:" and 12 digits.
            format!("{repository}@{}", digest.chars().take(19).collect::<String>())
        }
        (Some(repository), None, None) => repository.to_owned(),
        (None, ..) => "an image".to_owned(),
    };
    let found: Vec<String> = SEVERITIES
        .iter()
        .map(|severity| (scan.count(severity), severity.to_lowercase()))
        .filter(|(count, _)| *count > 0)
        .map(|(count, severity)| format!("{count} {severity}"))
        .collect();
    let is_severe = scan.count("CRITICAL") + scan.count("HIGH") > 0;
    let failed = scan.status.is_some_and(|status| status.contains("FAIL") || status.contains("UNSUPPORTED"));
    parts.severity = if is_severe || failed { Severity::Warning } else { Severity::Info };
    parts.what = match (failed, found.as_slice()) {
        (true, _) => "could not be scanned for vulnerabilities".to_owned(),
        (false, []) => "was scanned: no vulnerabilities found".to_owned(),
        (false, [only]) => format!("has vulnerabilities: {only}"),
        (false, [worst, next, ..]) if is_severe => format!("has vulnerabilities: {worst}, {next}"),
        (false, found) => format!("has vulnerabilities: {}", found.join(", ")),
    };
    parts.fact("Findings", Some(found.join(", ")).filter(|_| found.len() > 2).as_deref());
    parts.fact("Tags", Some(scan.tags.join(", ")).filter(|_| scan.tags.len() > 1).as_deref());
    parts.fact("Scan", scan.status.filter(|status| *status != "COMPLETE"));
    parts.fact("Digest", scan.digest);
    let page = console(event).zip(event.account()).zip(scan.repository);
    let page = page.and_then(|((console, account), repository)| console.image_repository(account, repository));
    parts.link(Page::Subject, page);
    parts
}
