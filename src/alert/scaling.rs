//! Alerts about EC2 Auto Scaling groups, which launch a cluster's instances.

use super::{Page, Parts, Severity, console};
use crate::event::Event;
use crate::event::autoscaling::Scaling;
use crate::text::line;

/// Phrases in EC2's messages about failed launches, and the advice for each. The first phrase that matches counts.
/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/CHAP_Troubleshooting.html>
const ADVICE: &[(&str, &str)] = &[
    ("vcpu", "Request a higher vCPU quota for EC2, or stop instances that are not needed."),
    ("limit", "Request a higher quota for EC2, or stop instances that are not needed."),
    ("quota", "Request a higher quota for EC2, or stop instances that are not needed."),
    ("spot capacity", "Let the group use further instance types and Availability Zones, or some on-demand ones."),
    ("max spot instance count", "Request a higher quota for Spot instances, or use some on-demand ones."),
    ("sufficient", "Let the group use further instance types and Availability Zones."),
    ("insufficient", "Let the group use further instance types and Availability Zones."),
    ("unfulfillablecapacity", "Let the group use further instance types and Availability Zones."),
    (
        "not supported in your requested availability zone",
        "Leave that Availability Zone out of the group, or use another type.",
    ),
    ("free addresses", "The subnet has no free IP addresses: use a larger one, or further ones."),
    ("iam instance profile", "Correct the instance profile in the launch template."),
    (
        "not authorized",
        "Allow it to the service-linked role of Auto Scaling or to the caller, or a customer key's policy to that role.",
    ),
    ("key pair", "Correct the key pair in the launch template."),
    ("security group", "Correct the security groups in the launch template."),
    ("ami", "Correct the image in the launch template: it must exist and be shared with this account."),
    ("launch template", "Correct the launch template that the group uses."),
];

pub(super) fn describe(event: &Event, scaling: &Scaling) -> Parts {
    let mut parts = Parts::of(event);
    let detail_type = event.detail_type().unwrap_or_default();
    parts.subject = scaling.group.unwrap_or("unknown Auto Scaling group").to_owned();
    let lower = detail_type.to_ascii_lowercase();
    let failed = ["unsuccessful", "failed"].iter().any(|word| lower.contains(word));
    parts.severity = if failed || lower.contains("rollback") { Severity::Warning } else { Severity::Info };
    parts.kind = detail_type.to_owned();
    parts.what = match detail_type {
        "EC2 Instance Launch Unsuccessful" => "could not launch an EC2 instance".to_owned(),
        "EC2 Instance Terminate Unsuccessful" => "could not terminate an EC2 instance".to_owned(),
        other => format!("reported: {}", line(other, 100)),
    };
    parts.reason = scaling.message.or(scaling.cause).map(str::to_owned);
    if detail_type == "EC2 Instance Launch Unsuccessful" {
        let said = scaling.message.unwrap_or_default().to_ascii_lowercase();
        parts.advice =
            ADVICE.iter().find(|(phrase, _)| has_word(&said, phrase)).map(|(_, advice)| (*advice).to_owned());
    }
    parts.fact("Availability Zone", scaling.availability_zone);
    parts.fact("Subnet", scaling.subnet);
    parts.fact("Instance", scaling.instance);
    parts.fact("Cause", scaling.cause.filter(|_| scaling.message.is_some()));
    let page = console(event).zip(scaling.group).and_then(|(console, group)| console.scaling_group(group));
    parts.link(Page::Subject, page);
    parts
}

/// Whether the phrase is in the text, at the start of a word: "ami", but not the one in "dynamics".
fn has_word(text: &str, phrase: &str) -> bool {
    text.match_indices(phrase).any(|(at, _)| {
        let before = text.get(..at).and_then(|before| before.chars().next_back());
        !before.is_some_and(|c| c.is_ascii_alphanumeric())
    })
}
