//! The `[incidents]` section: how alerts become incidents, and where incidents are stored.

use std::time::Duration;

use super::reader::Reader;
use crate::{alert::CrashLoopRule, reporter::IncidentSettings};

pub(super) fn parse(mut incidents: Reader<'_>, crash_loop: Option<CrashLoopRule>) -> Option<IncidentSettings> {
    let enabled = incidents.boolean("enabled", true);
    let table = incidents.string("table", "INCIDENTS_TABLE");
    // <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html>, or an ARN.
    let is_name = |name: &String| {
        (3..=255).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:/".contains(&b))
    };
    if table.as_ref().is_some_and(|table| !is_name(table)) {
        incidents.fault(
            "table",
            "is not the name of a DynamoDB table: 3 to 255 letters, digits, hyphens, underscores and dots",
        );
    }
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    let remind_after = incidents.duration("remind_after", "", hours(1), Duration::from_secs(60)..=hours(24));
    let reopen_within = incidents.duration("reopen_within", "", Duration::from_secs(900), Duration::ZERO..=hours(24));
    incidents.finish();
    let quiet_for = crash_loop.unwrap_or(CrashLoopRule::DEFAULT).within;
    enabled.then_some(IncidentSettings { table, remind_after, reopen_within, quiet_for })
}
