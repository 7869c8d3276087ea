//! Alerts about API calls that CloudTrail recorded. There is no other event for a scheduled task that ECS never started.
//!
//! An alert shows only names from the request's parameters, because overrides contain commands and environments.

use super::{Page, Parts, Severity};
use crate::console::Console;
use crate::event::Event;
use crate::event::cloudtrail::{ApiCall, Caller};
use crate::text::line;

pub(super) fn describe(event: &Event, call: &ApiCall) -> Parts {
    let mut parts = Parts::of(event);
    let name = call.name.unwrap_or("API call");
    parts.kind = name.to_owned();
    let starts_tasks = call.api.is_none_or(|api| api == "ecs.amazonaws.com") && matches!(name, "RunTask" | "StartTask");
    let is_of_ecs = call.api == Some("ecs.amazonaws.com") || event.source() == Some("aws.ecs");
    parts.cluster = call.cluster.filter(|_| is_of_ecs).or(starts_tasks.then_some("default")).map(str::to_owned);
    if starts_tasks {
        describe_start(&mut parts, call, name);
    } else {
        describe_other(&mut parts, event, call, name);
    }
    parts.fact("Task definition", call.task_definition);
    parts.fact("Called by", who(&call.caller).as_deref());
    parts.fact("Started by", call.started_by);
    parts.fact("Error", call.error_code);
    let console =
        parts.region.as_deref().and_then(|region| Console::new(None, region)).filter(|_| is_of_ecs || starts_tasks);
    let page = console.zip(parts.cluster.as_deref()).and_then(|(console, cluster)| match call.service {
        Some(service) => console.service(cluster, service),
        None => console.cluster(cluster),
    });
    parts.link(Page::Subject, page);
    parts
}

fn describe_start(parts: &mut Parts, call: &ApiCall, name: &str) {
    let family = call.task_definition.map(|definition| definition.split(':').next().unwrap_or(definition));
    parts.subject = family.unwrap_or("a task").to_owned();
    let by = match schedule(call) {
        Some((what, Some(name))) => format!("by its {what} {}", line(name, 60)),
        Some((what, None)) => format!("by its {what}"),
        None => match who(&call.caller) {
            Some(who) => format!("by {name}, called by {}", line(&who, 120)),
            None => format!("by {name}"),
        },
    };
    let failed = call.error_code.is_some() || !call.failures.is_empty();
    if !failed {
        parts.severity = Severity::Info;
        parts.what = format!("was started {by}");
        return;
    }
    // The scheduler retries a call that was throttled or failed because of AWS.
    let is_retried = call.error_code.is_some_and(|code| {
        code.contains("Throttl") || code.starts_with("Server") || code.starts_with("InternalFailure")
    });
    parts.severity = match call.started {
        0 if schedule(call).is_some() && !is_retried => Severity::Critical,
        _ => Severity::Warning,
    };
    parts.what = match call.started {
        0 => format!("was not started {by}"),
        started => format!("was started only {started} of {} times {by}", started + call.failures.len()),
    };
    if let Some(reason) = reason(call) {
        parts.set_reason(&reason);
    }
    if parts.cause.is_none() {
        let code = call.error_code.or(call.failures.first().and_then(|failure| failure.reason));
        parts.what.extend(code.map(|code| format!(": {}", line(code, 60))));
    }
}

fn describe_other(parts: &mut Parts, event: &Event, call: &ApiCall, name: &str) {
    let subject = call.service.or(call.cluster).or(call.task_definition).or(call.api).or(event.source());
    parts.subject = subject.unwrap_or("unknown API").to_owned();
    let by = who(&call.caller).map(|who| format!(" by {}", line(&who, 120))).unwrap_or_default();
    parts.what = match call.error_code {
        Some(code) => format!("reported: {name}{by} failed: {}", line(code, 60)),
        None => format!("reported: {name} was called{by}"),
    };
    if call.read_only && call.error_code.is_none() {
        parts.severity = Severity::Info;
    }
    parts.reason = call.error_message.map(str::to_owned);
}

/// Whether a rule or a schedule starts the task, and its name if the call has it.
fn schedule<'a>(call: &ApiCall<'a>) -> Option<(&'static str, Option<&'a str>)> {
    let named = |prefix| call.started_by.and_then(|by| by.strip_prefix(prefix));
    match (named("events-rule/"), named("chronos-schedule/"), call.caller.service) {
        (Some(rule), ..) => Some(("rule", Some(rule))),
        (_, Some(schedule), _) => Some(("schedule", Some(schedule))),
        (_, _, Some(service)) if service.starts_with("events.") => Some(("rule", None)),
        (_, _, Some(service)) if service.starts_with("scheduler.") => Some(("schedule", None)),
        _ => None,
    }
}

/// ECS answers with one failure for each container instance that it tried. Equal failures become one line with a count.
fn reason(call: &ApiCall) -> Option<String> {
    let mut lines: Vec<(String, usize)> = Vec::new();
    for failure in &call.failures {
        let words: Vec<&str> = [failure.reason, failure.detail].into_iter().flatten().collect();
        let words = words.join(": ");
        match lines.iter_mut().find(|(line, _)| *line == words) {
            Some((_, count)) => *count += 1,
            None if words.is_empty() => {}
            None => lines.push((words, 1)),
        }
    }
    let alike = |(line, count): (String, usize)| if count > 1 { format!("{line} ({count} times)") } else { line };
    let error = match (call.error_code, call.error_message) {
        (Some(code), Some(message)) => Some(format!("{code}: {message}")),
        (code, message) => code.or(message).map(str::to_owned),
    };
    let all: Vec<String> = error.into_iter().chain(lines.into_iter().map(alike)).collect();
    (!all.is_empty()).then(|| all.join("\n"))
}

/// "role deployer (session ci-1234)"
fn who(caller: &Caller) -> Option<String> {
    let name = match (caller.kind, caller.name) {
        (Some("Root"), _) => Some("the root user".to_owned()),
        (Some("AssumedRole"), Some(role)) => match caller.session.filter(|session| !is_generated(session)) {
            Some(session) => Some(format!("role {role} (session {session})")),
            None => Some(format!("role {role}")),
        },
        (_, Some(name)) => Some(name.to_owned()),
        (_, None) => None,
    };
    match (name, caller.service) {
        (Some(name), Some(service)) => Some(format!("{service} as {name}")),
        (name, service) => name.or(service.map(str::to_owned)),
    }
}

/// Whether an AWS service generated the session's name: a number or a hash.
fn is_generated(session: &str) -> bool {
    session.bytes().all(|c| c.is_ascii_hexdigit() || c == b'-')
}
