//! Tasks that start and then die, again and again: ECS sends no event for it, so it is told from the stopped tasks that ECS
//! remembers, about an hour of them.
//!
//! Which of the many events speaks for the loop follows from those alone: the one whose stop completed it. So there is one
//! alert, however many replicas there are and in whatever order they get the events. Should it not get the answer that it
//! needs, the fourth to complete one speaks, and so on.

use std::time::Duration;

use super::{Alert, Severity};
use crate::cause::Category;
use crate::diagnosis::Stop;

/// When exits of a service's tasks are a crash loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// So many stops, at least two …
    pub stops: usize,
    /// … within this time.
    pub within: Duration,
}

impl Rule {
    /// What the configuration has by default.
    pub const DEFAULT: Self = Self { stops: 3, within: Duration::from_secs(600) };

    /// The loop of which `task` is one, if at its stop there was one; `stops` in their order.
    fn find<'a>(&self, task: &str, stops: &'a [Stop]) -> Option<Loop<'a>> {
        let is_one = |window: &&[Stop]| match window {
            [first, .., last] => last.at - first.at <= self.within,
            _ => false,
        };
        let completing = |window: &[Stop]| window.last().is_some_and(|last| last.task == task);
        let mut loops = stops.windows(self.stops).enumerate().filter(|(_, window)| is_one(window));
        let start = loops.clone().next()?.0;
        let rank = loops.position(|(_, window)| completing(window))? + 1;
        Some(Loop { stops: stops.get(start..)?, rank })
    }
}

struct Loop<'a> {
    /// All that is known of it, from its first stop to the latest.
    stops: &'a [Stop],
    /// How many stops, up to the one in question, completed one.
    rank: usize,
}

/// Whether the stop that was the `rank`th to complete a loop speaks for it: the first, the fourth, the sixteenth …
pub fn speaks(rank: usize) -> bool {
    rank.is_power_of_two() && rank.trailing_zeros().is_multiple_of(2)
}

/// Makes of an exit's alert one of the crash loop that it speaks for, by its rank, or else of routine life.
pub(super) fn judge(alert: &mut Alert, rule: Rule, speaks: impl FnOnce(usize) -> bool) {
    let (Some(task), Some(diagnosis)) = (&alert.exited, &alert.diagnosis) else { return };
    if !diagnosis.tasks_known {
        return;
    }
    let mut stops = diagnosis.stops.clone();
    // The event may be ahead of what ECS answers.
    if let Some(at) = alert.time.filter(|_| stops.iter().all(|stop| stop.task != *task)) {
        stops.push(Stop { task: task.clone(), at, exit_code: None });
    }
    stops.sort_by(|a, b| (a.at, &a.task).cmp(&(b.at, &b.task)));
    let found = rule.find(task, &stops).filter(|found| speaks(found.rank));
    let Some(looping @ [first, .., last]) = found.map(|found| found.stops) else {
        alert.severity = Severity::Info;
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
    // Of all the tasks the latest tells most.
    for (label, url) in [("Stopped task", diagnosis.task_url.clone()), ("Log", diagnosis.log_url.clone())] {
        if url.is_some() {
            alert.links.retain(|link| link.label != label);
            alert.links.extend(url.map(|url| super::Link { label, url }));
        }
    }
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

    /// Who speaks, and for how many.
    fn speakers(minutes: &[i64]) -> Vec<(String, usize)> {
        let stops = stops(minutes);
        let speaks = |stop: &Stop| {
            let found = Rule::DEFAULT.find(&stop.task, &stops)?;
            speaks(found.rank).then(|| (stop.task.clone(), found.stops.len()))
        };
        stops.iter().filter_map(speaks).collect()
    }

    #[test]
    fn exits_now_and_then_are_no_loop() {
        for minutes in [&[][..], &[5], &[5, 6], &[5, 6, 17, 30, 31, 50]] {
            assert_eq!(speakers(minutes), [], "{minutes:?}");
        }
    }

    #[test]
    fn the_stop_that_completes_a_loop_speaks_for_all_of_it() {
        assert_eq!(speakers(&[0, 4, 10]), [("at 10".into(), 3)]);
        assert_eq!(speakers(&[0, 1, 2, 3, 4, 30]), [("at 2".into(), 6)]);
        assert_eq!(speakers(&[0, 15, 16, 20, 21]), [("at 20".into(), 4)]);
    }

    #[test]
    fn a_loop_that_goes_on_is_spoken_for_again_ever_more_seldom() {
        let minutes: Vec<i64> = (0..30).collect();
        let expected = [("at 2".into(), 30), ("at 5".into(), 30), ("at 17".into(), 30)];
        assert_eq!(speakers(&minutes), expected);
    }
}
