//! The keys `mention` and `mention_from` of a `[[channel]]` and a `[[route]]`: whom alerts mention.

use super::reader::Reader;
use crate::{alert::Severity, route::mention};

/// The mention keys of a section.
pub(super) struct MentionKeys {
    /// `None` if the key is missing; empty if the section asks for no mention.
    pub(super) whom: Option<String>,
    pub(super) from: Option<Severity>,
}

pub(super) fn parse(section: &mut Reader<'_>) -> MentionKeys {
    let whom = section.string("mention", "").map(|text| {
        if text.is_empty() {
            return text;
        }
        mention::parse(&text).unwrap_or_else(|fault| {
            section.fault("mention", &fault);
            String::new()
        })
    });
    // Only a problem opens an incident.
    let severities = [Severity::Warning, Severity::Critical].map(|severity| (severity.as_str(), severity));
    MentionKeys { whom, from: section.choice("mention_from", "", &severities) }
}
