//! Finds crash loops (tasks that start and exit repeatedly) and repeated failed starts. ECS has no event for a crash loop, so the rule
//! looks at the service's stopped tasks, which ECS keeps for about an hour. Pure.
//!
//! A single exit is routine, and so is a failed start after which ECS's next attempt succeeds: both are `info`. Each exit in a crash
//! loop becomes an alert about the loop. The incident reports the first of these alerts.

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

    /// The crash loop that includes the stop of `task`, from the loop's first known stop to the latest. `stops` must be in order of time.
    fn find<'a>(&self, task: &str, stops: &'a [Stop]) -> Option<&'a [Stop]> {
        let is_loop = |window: &&[Stop]| match window {
            [first, .., last] => last.at - first.at <= self.within,
            _ => false,
        };
        let of_task = |window: &[Stop]| window.iter().any(|stop| stop.task == task);
        let mut loops = stops.windows(self.stops).enumerate().filter(|(_, window)| is_loop(window));
        let start = loops.clone().next()?.0;
        // A stop is part of the loop also if its event arrived before the loop had enough stops.
        loops.any(|(_, window)| of_task(window)).then(|| stops.get(start..)).flatten()
    }
}

/// Turns the alert about an exit into one about the crash loop that includes it. An exit outside a crash loop becomes routine.
pub(super) fn apply_to_exit(alert: &mut Alert, rule: Rule) {
    let (Some(task), Some(diagnosis)) = (&alert.exited_task_id, &alert.diagnosis) else { return };
    let stops = with_this(alert, task, &diagnosis.stops);
    let Some(looping) = rule.find(task, &stops) else {
        // If some stopped tasks are unknown, it may be part of a loop.
        if diagnosis.tasks_known {
            alert.severity = Severity::Info;
        }
        return;
    };
    alert.what = headline(alert.cause.as_ref().map(|cause| cause.category), looping);
    alert.kind = "SERVICE_CRASH_LOOP".to_owned();
    alert.severity = Severity::Critical;
    // The latest stopped task is the most useful one for people.
    for (page, url) in [(Page::StoppedTask, diagnosis.task_url.clone()), (Page::Log, diagnosis.log_url.clone())] {
        if url.is_some() {
            alert.links.retain(|link| link.page != page);
            alert.links.extend(url.map(|url| super::Link { page, url }));
        }
    }
}

/// Says how many tasks stopped in how many minutes, rounded up and at least one. `looping` must be in order of time.
fn headline(category: Option<Category>, looping: &[Stop]) -> String {
    let count = looping.len();
    let lasted = looping.first().zip(looping.last()).map_or(0, |(first, last)| (last.at - first.at).whole_seconds());
    let minutes = ((lasted + 59) / 60).max(1);
    if matches!(category, Some(Category::HealthCheckLb | Category::HealthCheckContainer)) {
        return format!("keeps failing its health checks: {count} tasks stopped in {minutes} min");
    }
    let code = looping.first().and_then(|first| first.exit_code);
    let code = code.filter(|code| looping.iter().all(|stop| stop.exit_code.is_none_or(|other| other == *code)));
    let code = code.map(|code| format!(", exit code {code}")).unwrap_or_default();
    format!("is crash-looping: {count} exits in {minutes} min{code}")
}

/// Makes the alert about a failed start routine if its cause may heal, no second start failed within the rule's time, and as many tasks
/// run as are desired.
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

/// The stops in order of time. Adds the stop of the alert's own task if ECS's answer does not have it yet.
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

    /// For each stop that is in a loop: its minute, and the number of stops in the loop.
    fn looping(minutes: &[i64]) -> Vec<(i64, usize)> {
        let stops = stops(minutes);
        let found = |minute: &i64| Some((*minute, Rule::DEFAULT.find(&format!("at {minute}"), &stops)?.len()));
        minutes.iter().filter_map(found).collect()
    }

    #[test]
    fn occasional_exits_are_no_loop() {
        for minutes in [&[][..], &[5], &[5, 6], &[5, 6, 17, 30, 31, 50]] {
            assert_eq!(looping(minutes), [], "{minutes:?}");
        }
    }

    #[test]
    fn every_exit_of_a_loop_finds_the_whole_loop() {
        assert_eq!(looping(&[0, 4, 10]), [(0, 3), (4, 3), (10, 3)]);
        assert_eq!(looping(&[0, 1, 2, 3, 30]), [(0, 5), (1, 5), (2, 5), (3, 5)]);
        assert_eq!(looping(&[0, 15, 16, 20, 21]), [(15, 4), (16, 4), (20, 4), (21, 4)]);
    }

    #[test]
    fn stops_at_the_same_moment_are_one_minute() {
        let lb = Some(Category::HealthCheckLb);
        assert_eq!(headline(None, &stops(&[7, 7, 7])), "is crash-looping: 3 exits in 1 min, exit code 1");
        assert_eq!(headline(lb, &stops(&[7, 7, 7])), "keeps failing its health checks: 3 tasks stopped in 1 min");
        assert_eq!(headline(None, &stops(&[7, 7, 8])), "is crash-looping: 3 exits in 1 min, exit code 1");
        assert_eq!(headline(None, &stops(&[7, 8, 9])), "is crash-looping: 3 exits in 2 min, exit code 1");
    }
}
