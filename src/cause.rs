//! Explains why a task stopped: from what ECS says about the task to a cause, the container it is about, and a hint. Pure.
//!
//! Evidence counts in this order:
//!
//! 1. The stop code says which texts may explain the stop. A user's stop is a user's stop, whatever the user wrote; a stop by
//!    the service scheduler is explained by the task's own reason; and in a task that ran, a container that has only a reason
//!    explains nothing where another container exited by itself.
//! 2. Among the texts that count, the first rule of the [`catalogue`] that matches one wins: it is the most specific.
//! 3. Exit codes count where no rule matches.
//!
//! A hint never claims more than the text does. What it quotes of the text is unescaped, on one line, and short.

mod catalogue;
mod culprit;
mod exits;
mod hint;

use self::catalogue::{RULES, Rule};
use self::hint::{fragment, hint};
use crate::event::ecs::{Container, Task};

pub use self::catalogue::Category;

/// Why it failed, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// From the closed catalogue.
    pub category: Category,
    /// What to do, in a few sentences. May name the action, resource, role, image … from the text.
    pub hint: String,
}

/// Why a task stopped.
#[derive(Debug, Clone, Default)]
pub struct Explanation<'a> {
    /// `None` where there is no evidence, or only texts that the catalogue does not know.
    pub cause: Option<Cause>,
    /// The container that the cause is about; `None` where that is not certain.
    pub culprit: Option<Container<'a>>,
    /// The culprit's exit code. Without a culprit, the exit code of all containers that may be the culprit, where it is the same.
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

/// The cause in the reason of an event that is not about one task, but about a service, a deployment or an instance.
pub fn explain_text(reason: &str) -> Option<Cause> {
    explain(&Task { stopped_reason: Some(reason), ..Task::default() }).cause
}

/// The category of the cause, and the evidence for it.
struct Finding {
    category: Category,
    /// The rule that matched; `None` where a stop code or an exit code decided.
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

/// A text, and the position in [`RULES`] of the rule that it matches.
struct Statement {
    /// The position of the container whose reason it is; `None` for the task's own.
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
        // Older events have no stop code, and newer ones may have an unknown one: then the reason decides.
        _ => own.as_ref().and_then(Statement::category).filter(|category| category.tells_who_stopped_it()),
    };
    match stopped_by {
        // The containers were being stopped, so their reasons do not count, except that running out of memory came before.
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

/// A stop by the scheduler is routine, unless the task's own reason is about a fault.
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

/// Whether a container's reason may explain why the task stopped.
fn counts(task: &Task, statement: &Statement) -> bool {
    let Some((place, container)) = statement.container.and_then(|place| Some((place, task.containers.get(place)?)))
    else {
        return true;
    };
    let mut others = task.containers.iter().enumerate().filter(|(other, _)| *other != place).map(|(_, other)| other);
    if container.exit_code.is_some() {
        // A fault while ECS stopped the container is not why ECS stopped it.
        return !is_about_stopping(&statement.text) || !others.any(exits::by_itself);
    }
    if container.is_injected() {
        return task.own_reason().is_none() && !others.any(|other| other.reason.is_some() || other.exit_code.is_some());
    }
    if !was_running(task) {
        return true;
    }
    if statement.category() == Some(Category::Dependency) {
        return task.started_at.is_none();
    }
    // All essential containers have run, so one that never started is not essential.
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

/// Whether the task's essential containers all ran at one time.
fn was_running(task: &Task) -> bool {
    match task.stop_code {
        Some("TaskFailedToStart") => false,
        Some("EssentialContainerExited") => true,
        _ => task.started_at.is_some(),
    }
}

/// A container with a reason that does not explain why the task stopped, but that people may need to know.
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

/// How many characters of a reason are read: several times the longest that ECS writes.
const REASON_CHARS: usize = 4_096;

/// The reason on one line, cut, with ASCII apostrophes in place of typographic ones.
fn cleaned(reason: &str) -> String {
    let plain = |c: char| match c {
        '\u{2019}' => '\'',
        c if c.is_control() || c.is_whitespace() => ' ',
        c => c,
    };
    let reason = reason.trim();
    // Nearly every reason is.
    if reason.len() <= REASON_CHARS && reason.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return reason.to_owned();
    }
    reason.chars().take(REASON_CHARS).map(plain).collect()
}

#[cfg(test)]
mod docs;
#[cfg(test)]
mod tests;
