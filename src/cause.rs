//! Explains why a task stopped: finds the cause, the container with that cause, and a hint, from what ECS says about the task. Pure.
//!
//! Evidence counts in this order:
//!
//! 1. The stop code decides which texts may explain the stop. A stop by a user or by Spot needs no further explanation, whatever reason
//!    the user wrote, unless a container ran out of memory before it. A stop by the service scheduler is explained by the task's own
//!    reason. In a task that ran, a container that has a reason but no exit code explains nothing if another one exited by itself.
//! 2. The first rule of the [`catalogue`] that matches one of these texts decides, because it is the most specific.
//! 3. If no rule matches, the exit codes decide.
//!
//! A hint never claims more than the text does. Its quotes from the text are unescaped, on one line, and short.

mod catalogue;
mod culprit;
mod exits;
mod hint;

use self::catalogue::{RULES, Rule};
use self::hint::{fragment, hint};
use crate::event::ecs::{Container, Task};

pub use self::catalogue::Category;

/// Why a task stopped or did not start, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// One of the catalogue's categories.
    pub category: Category,
    /// What to do, in a few sentences. It may name the action, resource, role, image … from ECS's text.
    pub hint: String,
}

/// Why a task stopped.
#[derive(Debug, Clone, Default)]
pub struct Explanation<'a> {
    /// `None` if there is no evidence, or only texts that the catalogue does not know.
    pub cause: Option<Cause>,
    /// The container that caused the stop; `None` if that is not certain.
    pub culprit: Option<Container<'a>>,
    /// The culprit's exit code. If several containers may be the culprit: their exit code, if they all have the same one.
    pub exit_code: Option<i64>,
}

/// Explains why a task stopped.
pub fn explain<'a>(task: &Task<'a>) -> Explanation<'a> {
    let finding = weigh(task);
    let culprit = culprit::culprit(task, finding.as_ref());
    let cause =
        finding.map(|finding| Cause { category: finding.category, hint: hint(&finding, task, culprit.as_ref()) });
    let exit_code = match culprit {
        Some(culprit) => culprit.exit_code,
        None => exits::common_code(task),
    };
    Explanation { cause, culprit, exit_code }
}

/// The cause in the reason of an event about a service, a deployment or an instance, not about one task.
pub fn explain_text(reason: &str) -> Option<Cause> {
    explain(&Task { stopped_reason: Some(reason), ..Task::default() }).cause
}

/// The category of the cause, and the evidence for it.
struct Finding {
    category: Category,
    /// The rule that matched; `None` if a stop code or an exit code decided.
    rule: Option<&'static Rule>,
    /// The text that the rule matched.
    text: String,
    /// The positions of the containers whose own reasons have this category.
    containers: Vec<usize>,
}

impl Finding {
    fn of(category: Category) -> Self {
        Self { category, rule: None, text: String::new(), containers: Vec::new() }
    }

    fn advice(&self) -> &'static str {
        self.rule.map_or(self.category.advice(), Rule::advice)
    }
}

/// A text, and the position in [`RULES`] of the first rule that matches it.
struct Statement {
    /// The position of the container whose reason this is; `None` for the task's own reason.
    container: Option<usize>,
    text: String,
    rule: usize,
}

impl Statement {
    fn read(container: Option<usize>, reason: &str) -> Option<Self> {
        let text = cleaned(reason);
        let rule = catalogue::find(&text)?;
        Some(Self { container, text, rule })
    }

    fn category(&self) -> Option<Category> {
        RULES.get(self.rule).map(|rule| rule.category)
    }
}

fn weigh(task: &Task) -> Option<Finding> {
    let own = task.own_reason().and_then(|reason| Statement::read(None, reason));
    let stopped_by = match task.stop_code {
        Some("UserInitiated") => Some(Category::User),
        Some("SpotInterruption" | "TerminationNotice") => Some(Category::Spot),
        Some("ServiceSchedulerInitiated") => return by_scheduler(task, own),
        Some("InfrastructureHealth") => {
            return Some(own.map_or(Finding::of(Category::HostGone), |own| most_specific(vec![own])));
        }
        // Older events have no stop code, and newer events may have an unknown one. Then the reason decides.
        _ => own.as_ref().and_then(Statement::category).filter(|category| category.explains_the_stop()),
    };
    match stopped_by {
        // The stop caused the containers' reasons, so they do not count. Out of memory does: it happened before the stop.
        Some(category @ (Category::User | Category::Spot)) => {
            let oom = statements(task).filter(|statement| statement.category() == Some(Category::Oom)).collect();
            return Some(if Vec::is_empty(&oom) { Finding::of(category) } else { most_specific(oom) });
        }
        Some(_) => return own.map(|own| most_specific(vec![own])),
        None => {}
    }
    let counted = statements(task).filter(|statement| counts(task, statement));
    let all: Vec<Statement> = own.into_iter().chain(counted).collect();
    if all.is_empty() { exits::finding(task) } else { Some(most_specific(all)) }
}

/// The finding for a stop by the service scheduler. It is routine, unless the task's own reason is a fault.
fn by_scheduler(task: &Task, own: Option<Statement>) -> Option<Finding> {
    match (own, task.own_reason()) {
        (Some(own), _) => Some(most_specific(vec![own])),
        (None, Some(reason)) if mentions_fault(reason) => None,
        (None, _) => Some(Finding::of(Category::RoutineScaling)),
    }
}

/// Whether a reason that the catalogue does not know contains a word for a fault.
pub fn mentions_fault(reason: &str) -> bool {
    let reason = reason.to_ascii_lowercase();
    ["fail", "error", "unhealthy", "not healthy", "timed out", "impaired", "unable", "cannot"]
        .iter()
        .any(|word| reason.contains(word))
}

/// The containers' own reasons that match a rule.
fn statements(task: &Task) -> impl Iterator<Item = Statement> {
    let reasons = task.containers.iter().enumerate().filter_map(|(place, container)| Some((place, container.reason?)));
    reasons.filter_map(|(place, reason)| Statement::read(Some(place), reason))
}

/// The finding of the most specific of these statements. There must be at least one.
fn most_specific(statements: Vec<Statement>) -> Finding {
    let Some(best) = statements.iter().min_by_key(|statement| statement.rule) else {
        return Finding::of(Category::Unknown);
    };
    let rule = RULES.get(best.rule).copied();
    let category = rule.map_or(Category::Unknown, |rule| rule.category);
    let of_category = statements.iter().filter(|statement| statement.category() == Some(category));
    Finding {
        category,
        rule,
        text: best.text.clone(),
        containers: of_category.filter_map(|one| one.container).collect(),
    }
}

/// Whether this statement may explain why the task stopped. The task's own reason always may.
fn counts(task: &Task, statement: &Statement) -> bool {
    let Some((place, container)) = statement.container.and_then(|place| Some((place, task.containers.get(place)?)))
    else {
        return true;
    };
    let mut others = task.containers.iter().enumerate().filter(|(other, _)| *other != place).map(|(_, other)| other);
    if container.exit_code.is_some() {
        // A fault during the stop of a container is not the reason for the stop.
        return !is_about_stopping(&statement.text) || !others.any(exits::by_itself);
    }
    if container.is_guardduty_agent() {
        return task.own_reason().is_none() && !others.any(|other| other.reason.is_some() || other.exit_code.is_some());
    }
    if !was_running(task) {
        return true;
    }
    if statement.category() == Some(Category::Dependency) {
        return task.started_at.is_none();
    }
    // All essential containers ran. So a container that never started is not essential.
    if never_started(&statement.text) {
        !others.any(|other| other.exit_code.is_some())
    } else {
        !others.any(exits::by_itself)
    }
}

fn never_started(text: &str) -> bool {
    ["CannotPull", "CannotCreate", "CannotStart"].iter().any(|class| text.contains(class))
}

fn is_about_stopping(text: &str) -> bool {
    text.contains("CannotStopContainerError") || text.contains("Could not transition to stopped")
}

/// Whether all essential containers of the task were running at some time.
fn was_running(task: &Task) -> bool {
    match task.stop_code {
        Some("TaskFailedToStart") => false,
        Some("EssentialContainerExited") => true,
        _ => task.started_at.is_some(),
    }
}

/// The first other container that has a reason but no exit code, and the category of that reason. It does not explain why the task
/// stopped, but people may need to know about it.
fn also<'t, 'a>(task: &'t Task<'a>, finding: &Finding) -> Option<(&'t Container<'a>, Option<Category>)> {
    let has_only_reason = |container: &Container| container.reason.is_some() && container.exit_code.is_none();
    let is_of_finding = |place: &usize| finding.containers.contains(place);
    let (_, container) = task
        .containers
        .iter()
        .enumerate()
        .find(|(place, container)| has_only_reason(container) && !is_of_finding(place))?;
    Some((container, Statement::read(None, container.reason?).and_then(|statement| statement.category())))
}

/// How many characters of a reason are read. The longest reason that ECS writes is several times shorter.
const REASON_CHARS: usize = 4_096;

/// The reason on one line, cut, with ASCII apostrophes in place of typographic ones.
fn cleaned(reason: &str) -> String {
    let plain = |c: char| match c {
        '\u{2019}' => '\'',
        c if c.is_control() || c.is_whitespace() => ' ',
        c => c,
    };
    let reason = reason.trim();
    // Nearly every reason is short ASCII text on one line.
    if reason.len() <= REASON_CHARS && reason.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return reason.to_owned();
    }
    reason.chars().take(REASON_CHARS).map(plain).collect()
}

#[cfg(test)]
mod docs;
#[cfg(test)]
mod tests;
