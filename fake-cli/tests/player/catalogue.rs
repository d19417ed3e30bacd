//! Every behaviour has an example in the README and is used by a test.

use std::collections::BTreeSet;

use fake_cli::script::{Place, Step, Then, catalogue};
use serde::Serialize;
use serde::de::DeserializeOwned;

const README: &str = include_str!("../../README.md");

/// The tests of what the fake does.
const TESTS: [&str; 10] = [
    include_str!("environment.rs"),
    include_str!("exec.rs"),
    include_str!("gates.rs"),
    include_str!("hello.rs"),
    include_str!("life.rs"),
    include_str!("lifetime.rs"),
    include_str!("output.rs"),
    include_str!("shells.rs"),
    include_str!("signals.rs"),
    include_str!("tree.rs"),
];

/// What stands in the first column of the table under a heading of the README.
fn examples<T: DeserializeOwned>(heading: &str) -> Vec<T> {
    let (_, section) = README.split_once(&format!("\n## {heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let cells = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    cells
        .map(|(cell, _)| serde_json::from_str(cell).unwrap_or_else(|error| panic!("{cell}: {error}")))
        .collect()
}

fn name(value: impl Serialize) -> String {
    match serde_json::to_value(value).unwrap() {
        serde_json::Value::String(name) => name,
        serde_json::Value::Object(object) => object.keys().next().unwrap().clone(),
        other => panic!("no variant: {other}"),
    }
}

fn is_shown_and_used<T: DeserializeOwned + Serialize>(heading: &str, all: &[&str]) {
    assert!(all.len() > 3, "{all:?}");
    let shown: Vec<String> = examples::<T>(heading).into_iter().map(name).collect();
    let names = |list: &[&str]| list.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(shown.iter().cloned().collect::<BTreeSet<_>>(), names(all));
    assert_eq!(shown.len(), all.len(), "an example each");
    for name in all {
        let quoted = format!("\"{name}\"");
        assert!(TESTS.iter().any(|test| test.contains(&quoted)), "no test uses {name}");
    }
}

#[test]
fn every_step_is_shown_and_used() {
    is_shown_and_used::<Step>("Steps", catalogue::steps());
}

#[test]
fn every_reaction_is_shown_and_used() {
    is_shown_and_used::<Then>("Reactions", catalogue::reactions());
}

#[test]
fn every_place_is_shown_and_used() {
    is_shown_and_used::<Place>("Places", catalogue::places());
}

#[test]
fn the_script_that_the_readme_begins_with_is_legal() {
    let script = README.split("deaf.json\n").nth(1).unwrap().split("\n$").next().unwrap();
    fake_cli::script::check(&serde_json::from_str::<Vec<Step>>(script).unwrap()).unwrap();
}
