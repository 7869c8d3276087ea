//! Crash loops: tasks that start and exit repeatedly; and starts that fail. ECS has no event for a crash loop, so it is found in the
//! stopped tasks that ECS remembers for about an hour. Pure.
//!
//! A single exit is routine, and so is a failed start after which ECS's next attempt succeeds: both are `info`. Every exit of a crash
//! loop is an alert about the loop, and the incident reports these once.

use std::time::Duration;

use super::{Alert, Page, Severity};
use crate::cause::Category;
use crate::diagnosis::Stop;

/// When exits of a service's tasks are a crash loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// This many stops, at least two …
    pub stops: usize,
    /// … within this time.
    pub within: Duration,
}

impl Rule {
    /// The default of the configuration.
    pub const DEFAULT: Self = Self { stops: 3, within: Duration::from_secs(600) };

    /// The crash loop that the stop of `task` is part of, from its first known stop to the latest. `stops` must be in order of time.
    fn find<'a>(&self, task: &str, stops: &'a [Stop]) -> Option<&'a [Stop]> {
        let is_loop = |window: &&[Stop]| match window {
            [first, .., last] => last.at - first.at <= self.within,
            _ => false,
        };
        let of_task = |window: &[Stop]| window.iter().any(|stop| stop.task == task);
        let mut loops = stops.windows(self.stops).enumerate().filter(|(_, window)| is_loop(window));
        let start = loops.clone().next()?.0;
        // A stop before the loop had enough stops is part of it, too.
        loops.any(|(_, window)| of_task(window)).then(|| stops.get(start..)).flatten()
    }
}

/// Makes an exit's alert one about the crash loop that it is part of; where it is part of none, the exit is routine.
pub(super) fn apply_to_exit(alert: &mut Alert, rule: Rule) {
    let (Some(task), Some(diagnosis)) = (&alert.exited_task_id, &alert.diagnosis) else { return };
    let stops = with_this(alert, task, &diagnosis.stops);
    let Some(looping @ [first, .., last]) = rule.find(task, &stops) else {
        // If some stopped tasks are unknown, it may be part of a loop.
        if diagnosis.tasks_known {
            alert.severity = Severity::Info;
        }
        return;
    };
    let count = looping.len();
    let minutes = ((last.at - first.at).whole_seconds() + 59) / 60;
    let code =
        first.exit_code.filter(|code| looping.iter().all(|stop| stop.exit_code.is_none_or(|other| other == *code)));
    let code = code.map(|code| format!(", exit code {code}")).unwrap_or_default();
    let category = alert.cause.as_ref().map(|cause| cause.category);
    alert.what = match category {
        Some(Category::HealthCheckLb | Category::HealthCheckContainer) => {
            format!("keeps failing its health checks: {count} tasks stopped in {minutes} min")
        }
        _ => format!("is crash-looping: {count} exits in {minutes} min{code}"),
    };
    alert.kind = "SERVICE_CRASH_LOOP".to_owned();
    alert.severity = Severity::Critical;
    // The latest task is the most useful one to look at.
    for (page, url) in [(Page::StoppedTask, diagnosis.task_url.clone()), (Page::Log, diagnosis.log_url.clone())] {
        if url.is_some() {
            alert.links.retain(|link| link.page != page);
            alert.links.extend(url.map(|url| super::Link { page, url }));
        }
    }
}

/// A failed start whose cause may heal is routine, unless a second start failed within the rule's time, or fewer tasks run than are
/// desired.
pub(super) fn apply_to_start(alert: &mut Alert, rule: Rule) {
    let may_heal = alert.cause.as_ref().is_some_and(|cause| cause.category.may_heal());
    let task = alert.about.as_ref().and_then(|about| about.failed_task.clone());
    let (Some(task), Some(diagnosis), true) =
        (task, &alert.diagnosis, may_heal && alert.kind == "TASK_FAILED_TO_START")
    else {
        return;
    };
    let starts = with_this(alert, &task, &diagnosis.failed_starts);
    let this = starts.iter().find(|start| start.task == task).map(|start| start.at);
    let is_near = |other: &Stop| this.is_some_and(|at| (other.at - at).unsigned_abs() <= rule.within);
    let is_second = starts.iter().any(|start| start.task != task && is_near(start));
    if diagnosis.tasks_known && !is_second && diagnosis.state.running >= diagnosis.state.desired {
        alert.severity = Severity::Info;
    }
}

/// The stops in order of time, with that of the alert's own task, which ECS's answer may not have yet.
fn with_this(alert: &Alert, task: &str, stops: &[Stop]) -> Vec<Stop> {
    let mut stops = stops.to_vec();
    if let Some(at) = alert.time.filter(|_| stops.iter().all(|stop| stop.task != task)) {
        stops.push(Stop { task: task.to_owned(), at, exit_code: None });
    }
    stops.sort_by(|a, b| (a.at, &a.task).cmp(&(b.at, &b.task)));
    stops
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;

    fn stops(minutes: &[i64]) -> Vec<Stop> {
        let at = |minute: i64| OffsetDateTime::UNIX_EPOCH + time::Duration::minutes(minute);
        minutes
            .iter()
            .map(|minute| Stop { task: format!("at {minute}"), at: at(*minute), exit_code: Some(1) })
            .collect()
    }

    /// The stops that are part of a loop, and how long it is by each.
    fn looping(minutes: &[i64]) -> Vec<(i64, usize)> {
        let stops = stops(minutes);
        let found = |minute: &i64| Some((*minute, Rule::DEFAULT.find(&format!("at {minute}"), &stops)?.len()));
        minutes.iter().filter_map(found).collect()
    }

    #[test]
    fn exits_now_and_then_are_no_loop() {
        for minutes in [&[][..], &[5], &[5, 6], &[5, 6, 17, 30, 31, 50]] {
            assert_eq!(looping(minutes), [], "{minutes:?}");
        }
    }

    #[test]
    fn every_exit_of_a_loop_is_part_of_it_whenever_its_event_comes() {
        assert_eq!(looping(&[0, 4, 10]), [(0, 3), (4, 3), (10, 3)]);
        assert_eq!(looping(&[0, 1, 2, 3, 30]), [(0, 5), (1, 5), (2, 5), (3, 5)]);
        assert_eq!(looping(&[0, 15, 16, 20, 21]), [(15, 4), (16, 4), (20, 4), (21, 4)]);
    }
}
