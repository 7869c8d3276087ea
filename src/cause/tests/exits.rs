//! The causes that follow from exit codes.

use super::*;

#[test]
fn a_hint_about_an_exit_code_names_the_container_the_code_and_the_signal() {
    for (code, expected, words) in [
        (1, Category::Crash, "app exited with code 1."),
        (2, Category::Crash, "last log lines"),
        (126, Category::StartCommand, "not executable"),
        (127, Category::StartCommand, "not found in the image"),
        (134, Category::Crash, "code 134 (SIGABRT)"),
        (139, Category::Crash, "code 139 (SIGSEGV)"),
        (137, Category::Sigkill, "code 137 (SIGKILL)"),
        (143, Category::Sigterm, "code 143 (SIGTERM)"),
        (255, Category::Crash, "app exited with code 255."),
        (-1073741819, Category::Crash, "code -1073741819."),
    ] {
        let cause = cause(&exited(&[("app", Some(code))]));
        assert_eq!(cause.category, expected, "{code}");
        assert!(cause.hint.contains(words), "{code}: {}", cause.hint);
    }
}

#[test]
fn the_hint_names_the_container_that_failed_and_not_a_sidecar_stopped_after_it() {
    for (containers, expected, blamed) in [
        (vec![("envoy", Some(0)), ("app", Some(2))], Category::Crash, "Container app exited with code 2."),
        (vec![("envoy", Some(137)), ("app", Some(1))], Category::Crash, "Container app exited with code 1."),
        (vec![("envoy", Some(143)), ("app", Some(0))], Category::Completed, "Container app exited with code 0."),
        (vec![("envoy", Some(143)), ("app", Some(137))], Category::Sigkill, "Container app exited with code 137"),
        (vec![("init", None), ("app", Some(139))], Category::Crash, "Container app exited with code 139"),
        (vec![("a", Some(1)), ("b", Some(2))], Category::Crash, "Container a exited with code 1, b with code 2."),
    ] {
        let cause = cause(&exited(&containers));
        assert_eq!(cause.category, expected, "{containers:?}");
        assert!(cause.hint.starts_with(blamed), "{}", cause.hint);
    }
}

#[test]
fn a_missing_exit_code_is_never_reported_as_zero() {
    let cause = cause(&exited(&[("app", None)]));
    assert_eq!(cause.category, Category::NoExitCode);
    assert!(!cause.hint.contains('0'), "{}", cause.hint);
}

#[test]
fn exit_code_zero_is_normal_for_a_batch_task_but_not_for_a_service() {
    let service = cause(&exited(&[("app", Some(0))]));
    let batch = cause(&Task { group: Some("family:nightly"), ..exited(&[("app", Some(0))]) });
    assert_eq!((service.category, batch.category), (Category::Completed, Category::Completed));
    assert!(service.hint.contains("should not end by itself"), "{}", service.hint);
    assert!(batch.hint.contains("Nothing to do"), "{}", batch.hint);
}
