use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::{
    hint::{FRAGMENT_CHARS, compile_details},
    *,
};

mod exits;
mod phrases;
mod weighing;

/// A task with this `stoppedReason` and nothing else.
fn because(reason: &str) -> Task<'_> {
    Task { stopped_reason: Some(reason), ..Task::default() }
}

/// A task whose essential container exited, with these containers and codes.
fn exited<'a>(containers: &[(&'a str, Option<i64>)]) -> Task<'a> {
    let container = |&(name, exit_code)| Container { name: Some(name), exit_code, ..Container::default() };
    Task {
        stop_code: Some("EssentialContainerExited"),
        stopped_reason: Some("Essential container in task exited"),
        group: Some("service:shop"),
        containers: containers.iter().map(container).collect(),
        ..Task::default()
    }
}

fn category(task: &Task<'_>) -> Option<Category> {
    explain(task).cause.map(|cause| cause.category)
}

/// The cause of a task that must have one.
fn cause(task: &Task<'_>) -> Cause {
    explain(task).cause.unwrap_or_else(|| panic!("no cause for {task:?}"))
}

#[test]
fn names_are_unique_snake_case_and_titles_fit_a_phone() {
    let names: HashSet<_> = Category::ALL.iter().map(|category| category.as_str()).collect();
    let titles: HashSet<_> = Category::ALL.iter().map(|category| category.title()).collect();
    assert_eq!(names.len(), Category::ALL.len());
    assert_eq!(titles.len(), Category::ALL.len());
    assert!(names.iter().all(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_')));
    assert!(titles.iter().all(|title| title.len() <= 35));
}

#[test]
fn only_scaling_a_stop_by_a_user_and_completion_are_routine() {
    let routine: Vec<_> = Category::ALL.iter().filter(|category| category.is_routine()).collect();
    assert_eq!(routine, [&Category::RoutineScaling, &Category::User, &Category::Completed]);
}

#[test]
fn a_secret_is_named_by_the_last_part_of_its_arn() {
    for arn in ["'arn:aws:secretsmanager:us-west-2:111122223333:secret:prod/db-a1b2c3'", "prod/db-a1b2c3"] {
        let reason = format!("The task can't retrieve the secret with ARN {arn} from AWS Secrets Manager.");
        let hint = cause(&because(&reason)).hint;
        assert!(hint.starts_with("prod/db-a1b2c3 was not found."), "{hint}");
    }
}

#[test]
fn a_quote_from_an_event_is_one_line_cut_between_characters_and_unescaped() {
    let name = "<!channel>\n\u{2028}*é*".to_owned() + &"é".repeat(100_000);
    let cause = cause(&exited(&[(&name, Some(1))]));
    assert!(cause.hint.starts_with("Container <!channel>  *é*é"), "{}", cause.hint);
    assert!(!cause.hint.contains(['\n', '\u{2028}']));
    assert!(cause.hint.contains("é… exited with code 1"), "{}", cause.hint);
    assert!(cause.hint.chars().count() < 2 * FRAGMENT_CHARS);
}

#[test]
fn a_huge_text_takes_little_time_and_does_not_hide_another_reason() {
    let noise = "CannotPull log group repository ResourceInitializationError: é/x:y ".repeat(20_000);
    let container = Container { name: Some("app"), reason: Some("OutOfMemoryError: killed"), ..Container::default() };
    let task = Task { containers: vec![container], ..because(&noise) };
    assert_eq!(category(&task), Some(Category::Oom), "the container's reason is read after a huge one");

    let started = Instant::now();
    for _ in 0..20 {
        explain(&because(&noise));
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn every_pattern_compiles() {
    compile_details();
    assert_eq!(catalogue::find("no such phrase"), None);
}
