//! The keys `mention` and `mention_from` of a `[[channel]]` and a `[[route]]`: whom alerts mention.

use super::reader::Reader;
use crate::{alert::Severity, route::mention};

/// What a section says about mentions.
pub(super) struct Given {
    /// None where it says nothing; an empty text where it says: nobody.
    pub(super) whom: Option<String>,
    pub(super) from: Option<Severity>,
}

pub(super) fn parse(section: &mut Reader<'_>) -> Given {
    let whom = section.string("mention", "").map(|text| {
        if text.is_empty() {
            return text;
        }
        mention::parse(&text).unwrap_or_else(|fault| {
            section.fault("mention", &fault);
            String::new()
        })
    });
    // Nothing less than a problem opens an incident.
    let severities = [Severity::Warning, Severity::Critical].map(|severity| (severity.as_str(), severity));
    Given { whom, from: section.choice("mention_from", "", &severities) }
}
