//! Compares what `render` prints for every event in `tests/fixtures` with the snapshots in `tests/it/snapshots`. After an intended
//! change, run `INSTA_UPDATE=always cargo test --test it fixtures` and review the difference.

use std::{path::Path, process::Command};

use serde_json::Value;

use crate::world::BINARY;

#[test]
fn every_fixture_renders_as_recorded() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 40, "the fixtures are there");
    for file in files {
        let output = Command::new(BINARY).env_clear().arg("render").arg(&file).output().unwrap();
        let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(name, serde_json::to_string_pretty(&printed).unwrap());
        });
    }
}
