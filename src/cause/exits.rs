//! The cause that follows from exit codes, if no text explains the stop.

use super::{Category, Finding, fragment};
use crate::event::ecs::{Container, Task};

/// The cause if ECS says only that an essential container exited, or that the task failed to start.
pub(super) fn finding(task: &Task) -> Option<Finding> {
    if let Some((_, code)) = failed(task).first() {
        return Some(Finding::of(category(*code)));
    }
    let is_general = |text: &str| text.trim().trim_end_matches('.') == "Essential container in task exited";
    let exited = task.stop_code == Some("EssentialContainerExited") || task.stopped_reason.is_some_and(is_general);
    let unexplained = task.stop_code == Some("TaskFailedToStart")
        && task.own_reason().is_none()
        && task.containers.iter().all(|container| container.reason.is_none());
    (exited || unexplained).then(|| Finding::of(Category::NoExitCode))
}

const fn category(code: i64) -> Category {
    match code {
        0 => Category::Completed,
        126 | 127 => Category::StartCommand,
        137 => Category::Sigkill,
        143 => Category::Sigterm,
        _ => Category::Crash,
    }
}

/// What to do about an exit code; more specific than its category's advice for some codes.
pub(super) fn advice(code: i64, is_of_service: bool) -> &'static str {
    match code {
        0 if is_of_service => "A service's task should not end by itself: find out why its main process ended.",
        126 => {
            "A shell exits with this code if a command is not executable: check entryPoint and the file's mode in the image."
        }
        127 => {
            "A shell exits with this code if a command is not found in the image: check entryPoint, command and PATH."
        }
        _ => category(code).advice(),
    }
}

/// Whether the container exited by itself. One that ECS stops exits with 143, or with 137 if it ignores SIGTERM.
pub(super) fn by_itself(container: &Container) -> bool {
    container.exit_code.is_some_and(|code| !matches!(code, 137 | 143))
}

/// The containers that most probably caused the exit of the task, with their codes. When an essential container exits, ECS stops the
/// others. These exit with 143, or with 137 if they ignore SIGTERM, or with 0. So any other code ranks first. Then 137 ranks, because
/// the container may have been killed before the stop. Among equal codes, containers that AWS added rank last.
pub(super) fn failed<'a>(task: &Task<'a>) -> Vec<(Container<'a>, i64)> {
    let rank = |container: &Container, code: i64| {
        let by_code = match code {
            137 => 1,
            0 => 2,
            143 => 3,
            _ => 0,
        };
        (by_code, container.is_of_aws())
    };
    // In a task that never ran, the exit code of a container that ECS stopped explains nothing.
    let means_failure = |code: &i64| task.stop_code != Some("TaskFailedToStart") || !matches!(code, 0 | 137 | 143);
    let exited = || {
        let codes = task.containers.iter().filter_map(|container| Some((*container, container.exit_code?)));
        codes.filter(|(_, code)| means_failure(code))
    };
    let first = exited().map(|(container, code)| rank(&container, code)).min();
    exited().filter(|(container, code)| Some(rank(container, *code)) == first).collect()
}

/// The exit code of the containers that failed, if all have the same one.
pub(super) fn common_code(task: &Task) -> Option<i64> {
    let failed = failed(task);
    let (_, first) = failed.first()?;
    failed.iter().all(|(_, code)| code == first).then_some(*first)
}

/// "Container app exited with code 139 (SIGSEGV), worker with code 1."
pub(super) fn sentence(failed: &[(Container<'_>, i64)]) -> String {
    let mut sentence = String::new();
    for (index, (container, code)) in failed.iter().take(3).enumerate() {
        let name = fragment(container.name.unwrap_or("without a name"));
        let lead = if index == 0 { format!("Container {name} exited") } else { format!(", {name}") };
        let signal = signal(*code).map(|signal| format!(" ({signal})")).unwrap_or_default();
        sentence.push_str(&format!("{lead} with code {code}{signal}"));
    }
    sentence + "."
}

/// The name of the signal that ended the process. The runtime reports 128 + the signal's number as the exit code.
const fn signal(code: i64) -> Option<&'static str> {
    Some(match code {
        129 => "SIGHUP",
        130 => "SIGINT",
        131 => "SIGQUIT",
        132 => "SIGILL",
        134 => "SIGABRT",
        135 => "SIGBUS",
        136 => "SIGFPE",
        137 => "SIGKILL",
        139 => "SIGSEGV",
        141 => "SIGPIPE",
        143 => "SIGTERM",
        _ => return None,
    })
}
