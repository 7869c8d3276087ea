//! Checks that recorded answers have the form of AWS's answers, and what `render` prints for variants of the cases' answers.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::cases::{check, expectations, faults, folder, read, rendered};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folder in which a test writes answers.
fn written(test: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("answers").join(test)
}

/// Writes the answers of the case that `like` names, with the sibling's changes. The changes to an answer replace it or, if all keys are
/// JSON pointers, the values at these pointers.
fn write_answers(test: &str, name: &str, sibling: &Value) -> PathBuf {
    let case = folder().join(sibling["like"].as_str().unwrap()).join("answers");
    let own = written(test).join(name);
    let _ = std::fs::remove_dir_all(&own);
    std::fs::create_dir_all(&own).unwrap();
    for file in std::fs::read_dir(case).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), own.join(file.file_name())).unwrap();
    }
    for (file, changes) in sibling["answers"].as_object().into_iter().flatten() {
        let path = own.join(file).with_extension("json");
        let changes = changes.as_object().unwrap();
        let answer = if changes.keys().all(|key| key.starts_with('/')) {
            let mut answer = read(&path);
            for (pointer, value) in changes {
                *answer.pointer_mut(pointer).unwrap() = value.clone();
            }
            answer
        } else {
            changes.clone().into()
        };
        std::fs::write(path, answer.to_string()).unwrap();
    }
    own
}

fn folders_in(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let folders = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    folders.filter(|path| path.is_dir())
}

#[test]
fn each_case_with_answers_gets_its_expected_alert() {
    check(expectations("with_answers.json").into_iter().map(|(name, expected)| {
        let event = read(&folder().join(expected["like"].as_str().unwrap()).join("event.json"));
        let faults = faults(&rendered(&[event], Some(&write_answers("rendered", &name, &expected)))[0], &expected);
        (name, faults)
    }));
}

/// Checks them against botocore's model of the API, which is AWS's own.
#[test]
fn recorded_answers_have_the_form_of_aws_answers() {
    let mut folders: BTreeSet<PathBuf> = folders_in(&root().join("tests/answers")).collect();
    folders.extend(folders_in(&folder()).map(|case| case.join("answers")).filter(|answers| answers.is_dir()));
    folders.extend(
        expectations("with_answers.json").iter().map(|(name, sibling)| write_answers("checked", name, sibling)),
    );
    assert!(folders.len() > 30);
    let mut python = Command::new(root().join(".venv/bin/python"));
    let checked = python.arg(root().join("tests/lab/check_answers.py")).args(&folders).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

#[test]
fn an_answer_that_aws_cannot_give_is_found() {
    let folder = written("wrong");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    for (file, wrong) in [
        ("describe-tasks.json", r#"{ "tasks": [{ "taskArn": 1, "updatedAt": "2026-03-02T08:20:00Z" }] }"#),
        ("describe-service-deployments.json", r#"{ "serviceDeployments": [{ "status": "DONE" }] }"#),
        ("describe-target-health-web.json", r#"{ "targetHealthDescriptions": [] }"#),
        ("describe-weather.json", "{}"),
    ] {
        std::fs::write(folder.join(file), wrong).unwrap();
    }
    let mut python = Command::new(root().join(".venv/bin/python"));
    let checked = python.arg(root().join("tests/lab/check_answers.py")).arg(&folder).output().unwrap();
    let said = String::from_utf8_lossy(&checked.stdout);
    assert_eq!(checked.status.code(), Some(1), "{said}");
    for fault in [
        "taskArn is 1, not a string",
        "updatedAt is not in Task",
        "'DONE', not one of",
        "targetHealthDescriptions is not in DescribeTargetHealthOutput",
        "describe-weather.json: no operation",
        "4 answers, 5 faults",
    ] {
        assert!(said.contains(fault), "{fault:?} is not in\n{said}");
    }
}
