//! childminder's layer for command-line agents is audited as a subject of its own, once with a single attempt for each run
//! and once with retries.

use std::path::{Path, PathBuf};

use assert_cmd::Command;

/// The command, as Cargo built it for this test.
const HEADCOUNT: &str = env!("CARGO_BIN_EXE_headcount");

/// What the command says by its exit code: nothing is broken, or nothing is but something could not be told.
const CLEAN: i32 = 0;
const UNKNOWN: i32 = 12;

fn headcount(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(HEADCOUNT).args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

fn scenarios_of_agents() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("agent-")).collect()
}

#[test]
fn what_agents_are_put_through_goes_as_it_was_written_down() {
    let files = scenarios_of_agents();
    assert!(files.len() >= 5, "{files:?}");
    for file in files {
        let (code, said) = headcount(&["replay", file.to_str().unwrap(), "--times", "3"]);
        assert_eq!(code, Some(CLEAN), "{}: {said}", file.display());
    }
}

#[test]
fn no_rule_about_who_or_what_is_left_is_broken_by_agents() {
    for subject in ["childminder:agent", "childminder:agent-retrying"] {
        let rules = ["--rules", "S*,Z1,F2,T4,K5,O2,P1", "--cases", "150", "--seed", "7", "--no-shrink"];
        let (code, said) = headcount(&[&["audit", "--subject", subject][..], &rules].concat());
        assert!(matches!(code, Some(CLEAN | UNKNOWN)), "{subject}: {said}");
    }
}
