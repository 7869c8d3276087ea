//! Why a task stopped: what ECS says of a task in; a cause, the container it is about, and a hint a person can act on out.
//! Pure.
//!
//! Evidence counts in this order:
//!
//! 1. The stop code says which texts may explain the stop. A user's stop is a user's stop, whatever the user wrote; a stop by
//!    the service scheduler is explained by the task's own reason; and in a task that ran, a container that has only a reason
//!    explains nothing where another container exited by itself.
//! 2. Among the texts that count, the most telling phrase of the [`catalogue`] wins.
//! 3. Exit codes count where no phrase matches.
//!
//! A hint never claims more than the text does, and what it quotes of the text is raw, on one line, and short.

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
    /// What to do, in a few sentences; may name the action, resource, role, image … found in the text.
    pub hint: String,
}

/// What is told about the end of a task.
#[derive(Debug, Clone, Default)]
pub struct Explanation<'a> {
    /// None where there is nothing to go on, or only words that the catalogue does not know.
    pub cause: Option<Cause>,
    /// The container that the cause is about; none where that is not certain.
    pub culprit: Option<Container<'a>>,
    /// The culprit's exit code; without a culprit, the one that all have which may be it.
    pub exit_code: Option<i64>,
}

/// Explains the end of a task, as far as the evidence goes.
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

/// Explains the reason of an event that is not about one task: of a service, a deployment, an instance.
pub fn explain_text(reason: &str) -> Option<Cause> {
    explain(&Task { stopped_reason: Some(reason), ..Task::default() }).cause
}

/// What the evidence points to.
struct Finding {
    category: Category,
    /// The phrase that told it; none where a stop code or an exit code did.
    rule: Option<&'static Rule>,
    /// The text that holds the phrase.
    text: String,
    /// The places of the containers whose own reasons tell this category.
    speakers: Vec<usize>,
}

impl Finding {
    fn of(category: Category) -> Self {
        Self { category, rule: None, text: String::new(), speakers: Vec::new() }
    }

    fn advice(&self) -> &'static str {
        self.rule.map_or(self.category.advice(), Rule::advice)
    }
}

/// A text, and the place in [`RULES`] of what it tells.
struct Statement {
    /// The place of the container that gives it as its reason; none for the task's own.
    speaker: Option<usize>,
    text: String,
    rule: usize,
}

impl Statement {
    fn read(speaker: Option<usize>, reason: &str) -> Option<Self> {
        let text = cleaned(reason);
        let rule = catalogue::find(&text)?;
        Some(Self { speaker, text, rule })
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
            return Some(own.map_or(Finding::of(Category::HostGone), |own| told(vec![own])));
        }
        // Older events have no stop code, and newer ones may have one that is not known yet: then the reason says it.
        _ => own.as_ref().and_then(Statement::category).filter(|category| category.tells_who_stopped_it()),
    };
    match stopped_by {
        // Whatever else the containers say, they were being stopped; only running out of memory came before that.
        Some(category @ (Category::User | Category::Spot)) => {
            let oom = statements(task).filter(|statement| statement.category() == Some(Category::Oom)).collect();
            return Some(if Vec::is_empty(&oom) { Finding::of(category) } else { told(oom) });
        }
        Some(_) => return own.map(|own| told(vec![own])),
        None => {}
    }
    let counted = statements(task).filter(|statement| counts(task, statement));
    let all: Vec<Statement> = own.into_iter().chain(counted).collect();
    if all.is_empty() { exits::finding(task) } else { Some(told(all)) }
}

/// A routine stop, unless the task's own reason tells of a fault.
fn by_scheduler(task: &Task, own: Option<Statement>) -> Option<Finding> {
    match (own, task.own_reason()) {
        (Some(own), _) => Some(told(vec![own])),
        (None, Some(reason)) if sounds_like_a_fault(reason) => None,
        (None, _) => Some(Finding::of(Category::RoutineScaling)),
    }
}

/// Whether words that the catalogue does not know are about something that went wrong.
pub fn sounds_like_a_fault(reason: &str) -> bool {
    let reason = reason.to_ascii_lowercase();
    ["fail", "error", "unhealthy", "not healthy", "timed out", "impaired", "unable", "cannot"]
        .iter()
        .any(|word| reason.contains(word))
}

/// What the containers' own reasons tell.
fn statements(task: &Task) -> impl Iterator<Item = Statement> {
    let reasons = task.containers.iter().enumerate().filter_map(|(place, container)| Some((place, container.reason?)));
    reasons.filter_map(|(place, reason)| Statement::read(Some(place), reason))
}

/// The most telling of the statements; at least one.
fn told(statements: Vec<Statement>) -> Finding {
    let Some(best) = statements.iter().min_by_key(|statement| statement.rule) else {
        return Finding::of(Category::Unknown);
    };
    let rule = RULES.get(best.rule).copied();
    let category = rule.map_or(Category::Unknown, |rule| rule.category);
    let of_category = statements.iter().filter(|statement| statement.category() == Some(category));
    Finding { category, rule, text: best.text.clone(), speakers: of_category.filter_map(|one| one.speaker).collect() }
}

/// Whether a container's reason may explain the end of the task.
fn counts(task: &Task, statement: &Statement) -> bool {
    let Some((place, container)) = statement.speaker.and_then(|place| Some((place, task.containers.get(place)?)))
    else {
        return true;
    };
    let mut others = task.containers.iter().enumerate().filter(|(other, _)| *other != place).map(|(_, other)| other);
    if container.exit_code.is_some() {
        // What went wrong while it was stopped is not why it was stopped.
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
    // Where all essential containers have run, one that never started is not essential.
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

/// The containers with a reason that does not explain the end of the task, but may matter to somebody.
fn also<'t, 'a>(task: &'t Task<'a>, finding: &Finding) -> Option<(&'t Container<'a>, Option<Category>)> {
    let silent = |container: &Container| container.reason.is_some() && container.exit_code.is_none();
    let speaks = |place: &usize| finding.speakers.contains(place);
    let (_, container) =
        task.containers.iter().enumerate().find(|(place, container)| silent(container) && !speaks(place))?;
    Some((container, Statement::read(None, container.reason?).and_then(|statement| statement.category())))
}

/// How much of one reason is read, in characters: several times the longest that ECS writes.
const REASON_CHARS: usize = 4_096;

/// On one line, cut, with typographic apostrophes made plain.
fn cleaned(reason: &str) -> String {
    let plain = |c: char| match c {
        '\u{2019}' => '\'',
        c if c.is_control() || c.is_whitespace() => ' ',
        c => c,
    };
    let reason = reason.trim();
    // Nearly always.
    if reason.len() <= REASON_CHARS && reason.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return reason.to_owned();
    }
    reason.chars().take(REASON_CHARS).map(plain).collect()
}

#[cfg(test)]
mod docs;
#[cfg(test)]
mod tests;
