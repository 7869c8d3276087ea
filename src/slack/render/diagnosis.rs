//! Renders a diagnosis: why, what changed, how bad.

use super::{HINT, NAME, WHAT, dot, present, reason};
use crate::alert::Alert;
use crate::cause::Category;
use crate::diagnosis::{
    CauseCount, Controller, Diagnosis, Finding, HealthCheck, Outlook, Rollout, ServiceDeployment, State, Status,
    TaskSet,
};
use crate::slack::message::{MAX_SECTION, Text};

// The limit of each part, in characters.

/// One example, as ECS describes it.
const EXAMPLE: usize = 400;
/// The other causes.
const OTHERS: usize = 300;
const CHANGE: usize = 1_100;
/// Differences between two task definitions, and the length of each.
const DIFFERENCES: usize = 8;
const DIFFERENCE: usize = 160;
const STATE: usize = 1_200;
/// ECS's reason for a rollback: it names whole ARNs.
const ROLLBACK: usize = 600;
/// Names of alarms or hooks, and the length of each.
const NAMES: usize = 3;
const SHORT_NAME: usize = 80;
/// The health check of one target group, and how many findings about its targets are shown.
const HEALTH_CHECK: usize = 300;
const FINDINGS: usize = 3;
const LOG: usize = 1_000;
const LOG_LINES: usize = 10;

/// "*Why:* Image not found — 4 of the last 5 tasks", what to do, and what ECS says.
pub(super) fn why(alert: &Alert) -> Text {
    let mut text = Text::with_limit(MAX_SECTION);
    let diagnosis = alert.diagnosis.as_ref();
    let is_new = |example: &&str| !reason(alert).is_some_and(|reason| reason.contains(example));
    let said = diagnosis.and_then(|diagnosis| present(diagnosis.latest_event.as_deref())).filter(is_new);
    let Some(cause) = &alert.cause else {
        if let Some(said) = said {
            text.markup("*ECS says:*\n").quote(said, 3, EXAMPLE);
        }
        return text;
    };
    let counts = diagnosis.map(|diagnosis| diagnosis.causes.as_slice()).unwrap_or_default();
    let same = counts.iter().position(|counted| counted.cause.category == cause.category);
    let counted = same.and_then(|same| counts.get(same));

    text.markup("*Why:* ").external(cause.category.title(), WHAT);
    if let (Some(counted), Some(diagnosis)) = (counted, diagnosis)
        && diagnosis.stopped > 1
        && counted.count > 0
    {
        text.markup(&format!(" — {} of the last {} tasks", counted.count, diagnosis.stopped));
    }
    if let Some(hint) = present(Some(&cause.hint)) {
        text.markup("\n").external(hint, HINT);
    }
    if let Some(example) = counted.and_then(|counted| present(counted.example.as_deref())).filter(is_new) {
        text.markup("\n").quote(example, 3, EXAMPLE);
    }
    // For other causes, the service event would distract: it may be about something else.
    let failed_health_check = matches!(cause.category, Category::HealthCheckLb | Category::HealthCheckContainer);
    let only_a_symptom = matches!(cause.category, Category::Deployment | Category::Unknown);
    if let Some(said) = said.filter(|_| failed_health_check || only_a_symptom) {
        text.markup("\n").quote(said, 3, EXAMPLE);
    }
    for check in diagnosis.into_iter().flat_map(|diagnosis| &diagnosis.health_checks).filter(|_| failed_health_check) {
        text.append(&health_check(check));
    }
    let others = counts.iter().enumerate().filter(|(place, _)| Some(*place) != same);
    let mut list = Text::with_limit(OTHERS);
    for (_, counted) in others {
        list.markup(if list.is_empty() { "\nAlso: " } else { ", " }).append(&in_few_words(counted));
    }
    text.append(&list);
    text
}

/// "Container crashed, exit code 1 (2 tasks)"
fn in_few_words(counted: &CauseCount) -> Text {
    let mut text = Text::with_limit(OTHERS);
    text.external(counted.cause.category.title(), WHAT);
    if let Some(code) = counted.exit_code {
        text.markup(&format!(", exit code {code}"));
    }
    match counted.count {
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

/// "\nTarget group web: answered 404, 200 is expected, GET /health on 8080 · 2 targets fail, 1 is healthy"
fn health_check(check: &HealthCheck) -> Text {
    let mut text = Text::with_limit(HEALTH_CHECK);
    text.markup("\nTarget group ").name(&check.target_group, SHORT_NAME).markup(": ");
    let several = check.found.len() > 1;
    for (place, (finding, count)) in check.found.iter().take(FINDINGS).enumerate() {
        text.markup(if place > 0 { " and " } else { "" });
        match finding {
            Finding::Answered(codes) => drop(text.markup("answered ").external(codes, SHORT_NAME)),
            Finding::TimedOut => match check.timeout {
                Some(seconds) => drop(text.markup(&format!("no answer within {seconds} s"))),
                None => drop(text.markup("no answer in time")),
            },
            Finding::Failed => drop(text.markup("no connection, or an answer that makes no sense")),
            Finding::Other(said) => drop(text.external(said, HEALTH_CHECK / 2)),
        }
        if several {
            text.markup(&format!(" ({count})"));
        }
    }
    let mut comma = if check.found.is_empty() { "" } else { ", " };
    let answered = check.found.is_empty() || check.found.iter().any(|(found, _)| matches!(found, Finding::Answered(_)));
    if let Some(expected) = check.expected.as_deref().filter(|_| answered) {
        text.markup(comma).external(expected, SHORT_NAME).markup(" is expected");
        comma = ", ";
    }
    if let Some(request) = &check.request {
        text.markup(comma).name(request, SHORT_NAME);
    }
    if let Some(port) = &check.port {
        text.markup(" on ").external(port, SHORT_NAME);
    }
    let failed = check.found.iter().fold(0_usize, |sum, (_, count)| sum.saturating_add(*count));
    if let Some(healthy) = check.healthy.filter(|_| failed > 0) {
        text.markup(&format!(" · {failed} of {} targets", failed.saturating_add(healthy)));
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
    match (&state.task_set, &state.deployment) {
        (Some(set), _) => task_set(&mut text, set),
        // The outlook shows that it has completed.
        (None, Some(_)) if state.outlook == Some(Outlook::Completed) => {}
        (None, Some(deployment)) => service_deployment(&mut text, deployment),
        (None, None) => rollout(&mut text, state),
    }
    if let Some(outlook) = state.outlook {
        dot(&mut text);
        // The count comes before what happens when it reaches the threshold.
        let count = state.deployment.as_ref().and_then(|deployment| deployment.breaker);
        let phrases = phrases(outlook, diagnosis);
        match count.filter(|_| is_counted(outlook)) {
            Some((failures, threshold)) => {
                text.markup(&format!("circuit breaker {failures} of {threshold}, {}", phrases.1));
            }
            None => drop(text.markup(phrases.0)),
        }
    }
    if let Some(deployment) = &state.deployment {
        names(&mut text, "alarm", "went off", &deployment.alarms);
        names(&mut text, "hook", "failed", &deployment.failed_hooks);
        let is_well = deployment.status == Status::Successful;
        if let Some(reason) = present(deployment.reason.as_deref()).filter(|_| !is_well) {
            text.markup("\n").quote(reason, 3, ROLLBACK);
        }
    }
    text
}

/// The rollout's state, from DescribeServices.
fn rollout(text: &mut Text, state: &State) {
    match state.rollout {
        Some(Rollout::InProgress) => {
            dot(text).markup("rollout in progress");
            if state.failed > 0 {
                text.markup(&format!(", {} failed", state.failed));
            }
        }
        Some(Rollout::Failed) => drop(dot(text).markup("rollout failed, not rolled back")),
        Some(Rollout::RolledBack) => drop(dot(text).markup("rollout failed and was rolled back")),
        Some(Rollout::Completed | Rollout::Replaced) | None => {}
    }
}

/// "blue/green deployment in progress, stage production traffic shift, 10 % of the production traffic on the new revision"
fn service_deployment(text: &mut Text, deployment: &ServiceDeployment) {
    let kind = match deployment.strategy.as_deref() {
        Some("BLUE_GREEN") => "blue/green deployment",
        Some("LINEAR") => "linear deployment",
        Some("CANARY") => "canary deployment",
        _ => "rollout",
    };
    dot(text).markup(kind).markup(match deployment.status {
        Status::Pending => " pending",
        Status::InProgress => " in progress",
        Status::Successful => " completed",
        Status::StopRequested => " about to be stopped",
        Status::Stopped => " stopped, not rolled back",
        Status::RollbackRequested => " about to be rolled back",
        Status::RollbackInProgress => " being rolled back",
        Status::RollbackSuccessful => " failed and was rolled back",
        Status::RollbackFailed => " failed, and so did its rollback",
    });
    let is_under_way = !matches!(
        deployment.status,
        Status::Successful | Status::Stopped | Status::RollbackSuccessful | Status::RollbackFailed
    );
    if let Some(stage) = deployment.stage.as_deref().filter(|_| is_under_way) {
        text.markup(", stage ").external(&stage.replace('_', " ").to_lowercase(), SHORT_NAME);
    }
    if let Some(share) = deployment.production_share.filter(|_| deployment.strategy.is_some() && is_under_way) {
        let tenth = if share % 10 == 0 { String::new() } else { format!(".{}", share % 10) };
        text.markup(&format!(", {}{tenth} % of the production traffic on the new revision", share / 10));
    }
}

/// "CodeDeploy deployment d-1A2B3C: the new task set serves no production traffic yet, 0 of 2 tasks of it running"
fn task_set(text: &mut Text, set: &TaskSet) {
    dot(text).markup(match set.controller {
        Controller::CodeDeploy => "deployed by CodeDeploy",
        Controller::External => "deployed by an external controller",
    });
    if let Some(id) = present(set.deployment.as_deref()) {
        text.markup(" (").name(id, SHORT_NAME).markup(")");
    }
    text.markup(if set.is_primary {
        ": this task set serves the production traffic"
    } else {
        ": this task set serves no production traffic"
    });
    text.markup(&format!(", {} of its {} tasks running", set.running, set.desired));
    text.markup(if set.is_steady { ", steady" } else { ", not steady" });
}

/// What happens next: as a separate sentence, and as the end of one that begins with the breaker's count.
fn phrases(outlook: Outlook, diagnosis: &Diagnosis) -> (&'static str, &'static str) {
    let fails = diagnosis.stopped > 0;
    match outlook {
        Outlook::TriesOn => ("no circuit breaker: ECS tries on and on", ""),
        Outlook::WillStop => {
            ("the circuit breaker will stop it, without a rollback", "then ECS will stop it, without a rollback")
        }
        Outlook::WillRollBack => ("the circuit breaker will roll it back", "then ECS will roll it back"),
        Outlook::NothingToGoBackTo => (
            "the circuit breaker will stop it: there is nothing to go back to",
            "then ECS will stop it: there is nothing to go back to",
        ),
        Outlook::NotCounted if fails => ("the circuit breaker has not counted these failures", ""),
        Outlook::NotCounted => ("the circuit breaker has counted no failure", ""),
        Outlook::AlarmMayRollBack => ("no circuit breaker; an alarm can still have it rolled back", ""),
        Outlook::NoLongerWatched => ("the circuit breaker no longer watches it: no rollback will come", ""),
        Outlook::Completed => ("the deployment has completed: ECS does not roll it back any more", ""),
    }
}

const fn is_counted(outlook: Outlook) -> bool {
    matches!(outlook, Outlook::WillStop | Outlook::WillRollBack | Outlook::NothingToGoBackTo)
}

/// " · alarms a, b went off"
fn names(text: &mut Text, one: &str, what: &str, names: &[String]) {
    let shown: Vec<&str> = names.iter().filter_map(|name| present(Some(name))).take(NAMES).collect();
    if shown.is_empty() {
        return;
    }
    dot(text).markup(one).markup(if names.len() > 1 { "s " } else { " " });
    for (place, name) in shown.iter().enumerate() {
        text.markup(if place > 0 { ", " } else { "" }).name(name, SHORT_NAME);
    }
    if names.len() > shown.len() {
        text.markup(&format!(" and {} more", names.len() - shown.len()));
    }
    text.markup(" ").markup(what);
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
