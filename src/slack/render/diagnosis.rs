//! What ECS said about a service, for people: why, what changed, how bad.

use super::{HINT, NAME, WHAT, dot, present, reason};
use crate::alert::Alert;
use crate::diagnosis::{CircuitBreaker, Diagnosis, Rollout, Trouble};
use crate::slack::message::{MAX_SECTION, Text};

// As in a whole message: how much of each part is shown, in characters.

/// One example in ECS's own words.
const EXAMPLE: usize = 400;
/// Causes besides the first.
const OTHERS: usize = 300;
const CHANGE: usize = 1_100;
/// Differences of two task definitions, and the most of one.
const DIFFERENCES: usize = 8;
const DIFFERENCE: usize = 160;
const STATE: usize = 250;
const LOG: usize = 1_000;
const LOG_LINES: usize = 10;

/// "*Why:* Image not found — 4 of the last 5 tasks", what to do, and what ECS says.
pub(super) fn why(alert: &Alert) -> Text {
    let mut text = Text::with_limit(MAX_SECTION);
    let Some(cause) = &alert.cause else { return text };
    let diagnosis = alert.diagnosis.as_ref();
    let troubles = diagnosis.map(|diagnosis| diagnosis.why.as_slice()).unwrap_or_default();
    let same = troubles.iter().position(|trouble| trouble.cause.category == cause.category);
    let trouble = same.and_then(|same| troubles.get(same));

    text.markup("*Why:* ").outside(cause.category.title(), WHAT);
    if let (Some(trouble), Some(diagnosis)) = (trouble, diagnosis)
        && diagnosis.stopped > 1
        && trouble.count > 0
    {
        text.markup(&format!(" — {} of the last {} tasks", trouble.count, diagnosis.stopped));
    }
    if let Some(hint) = present(Some(&cause.hint)) {
        text.markup("\n").outside(hint, HINT);
    }
    let is_new = |example: &&str| !reason(alert).is_some_and(|reason| reason.contains(example));
    if let Some(example) = trouble.and_then(|trouble| present(trouble.example.as_deref())).filter(is_new) {
        text.markup("\n").quote(example, 3, EXAMPLE);
    }
    let others = troubles.iter().enumerate().filter(|(place, _)| Some(*place) != same);
    let mut list = Text::with_limit(OTHERS);
    for (_, trouble) in others {
        list.markup(if list.is_empty() { "\nAlso: " } else { ", " }).append(&in_few_words(trouble));
    }
    text.append(&list);
    text
}

/// "Container crashed, exit code 1 (2 tasks)"
fn in_few_words(trouble: &Trouble) -> Text {
    let mut text = Text::with_limit(OTHERS);
    text.outside(trouble.cause.category.title(), WHAT);
    if let Some(code) = trouble.exit_code {
        text.markup(&format!(", exit code {code}"));
    }
    match trouble.count {
        0 => {}
        1 => drop(text.markup(" (1 task)")),
        count => drop(text.markup(&format!(" ({count} tasks)"))),
    }
    text
}

/// "*What changed:* checkout:87 → checkout:88, deployed 3 minutes ago", and how they differ.
pub(super) fn change(diagnosis: &Diagnosis) -> Text {
    let mut text = Text::with_limit(CHANGE);
    let Some(change) = &diagnosis.change else { return text };
    match change.before.as_deref() {
        None => {
            text.markup("*Deployed:* ").name(&change.now, NAME);
        }
        Some(before) if before == change.now => {
            text.markup("*What changed:* not the task definition, ").name(before, NAME);
        }
        Some(before) => {
            text.markup("*What changed:* ");
            match diagnosis.state.rollout {
                Some(Rollout::RolledBack) => {
                    text.name(&change.now, NAME).markup(", rolled back to ").name(before, NAME);
                }
                Some(Rollout::Replaced) => {
                    text.name(&change.now, NAME).markup(", now replaced by ").name(before, NAME);
                }
                _ => {
                    text.name(before, NAME).markup(" → ").name(&change.now, NAME);
                }
            }
        }
    }
    if let Some(deployed) = change.deployed {
        text.markup(if change.before.is_some() { ", deployed " } else { ", " }).date(deployed, "{ago}");
    }
    if let Some(who) = present(change.registered_by.as_deref()) {
        text.markup(", registered by ").name(who, DIFFERENCE);
    }
    let differences = change.differences.as_deref().filter(|_| change.before.as_ref() != Some(&change.now));
    for (what, how) in differences.unwrap_or_default().iter().take(DIFFERENCES) {
        let mut line = Text::with_limit(DIFFERENCE);
        line.markup("\n• ").name(what, DIFFERENCE / 2).markup(": ").name(how, DIFFERENCE);
        text.append(&line);
    }
    match differences.map(<[_]>::len) {
        Some(0) => drop(text.markup("\nThe two task definitions do not differ.")),
        Some(count) if count > DIFFERENCES => drop(text.markup(&format!("\n… and {} more", count - DIFFERENCES))),
        _ => {}
    }
    text
}

/// "*How bad:* 2 of 4 tasks running, 1 pending · …"
pub(super) fn state(diagnosis: &Diagnosis) -> Text {
    let state = &diagnosis.state;
    let mut text = Text::with_limit(STATE);
    text.markup(&format!("*How bad:* {} of {} tasks running", state.running, state.desired));
    if state.pending > 0 {
        text.markup(&format!(", {} pending", state.pending));
    }
    match state.rollout {
        Some(Rollout::InProgress) => {
            dot(&mut text).markup("rollout in progress");
            if state.failed > 0 {
                text.markup(&format!(", {} failed", state.failed));
            }
            let is_first = diagnosis.change.as_ref().is_some_and(|change| change.before.is_none());
            dot(&mut text).markup(match state.circuit_breaker {
                CircuitBreaker::RollBack if is_first => {
                    "the circuit breaker will stop it: there is nothing to go back to"
                }
                CircuitBreaker::Off => "no circuit breaker: ECS tries on and on",
                CircuitBreaker::Stop => "the circuit breaker will stop it, without a rollback",
                CircuitBreaker::RollBack => "the circuit breaker will roll it back",
            });
        }
        Some(Rollout::Failed) => drop(dot(&mut text).markup("rollout failed, not rolled back")),
        Some(Rollout::RolledBack) => drop(dot(&mut text).markup("rollout failed and was rolled back")),
        Some(Rollout::Completed | Rollout::Replaced) | None => {}
    }
    text
}

/// The last lines that the container logged.
pub(super) fn log(diagnosis: &Diagnosis) -> Text {
    let mut text = Text::with_limit(LOG);
    let last = diagnosis.log.len().saturating_sub(LOG_LINES);
    if let Some(lines) = diagnosis.log.get(last..).filter(|lines| !lines.is_empty()) {
        text.markup("*Its last words:*\n").quote(&lines.join("\n"), LOG_LINES, LOG);
    }
    text
}
