//! Who depends on whom, and on how much: the library knows no wrapper, and the trees stay small.

use std::collections::BTreeSet;
use std::process::Command;

/// The names of a crate's normal dependencies, direct or not.
fn tree(arguments: &[&str]) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "-e", "normal", "--prefix", "none", "--format", "{p}"])
        .args(arguments)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn the_library_without_the_command_knows_no_wrapper() {
    let library = tree(&["-p", "headcount", "--no-default-features"]);
    assert!(library.contains("fake-cli"));
    assert!(!library.contains("childminder") && !library.contains("indicatif"), "{library:?}");
    assert!(tree(&["-p", "headcount"]).contains("childminder"));
}

#[test]
fn the_wrapper_knows_neither_the_harness_nor_the_fake() {
    let wrapper = tree(&["-p", "childminder"]);
    assert!(!wrapper.contains("headcount") && !wrapper.contains("fake-cli"), "{wrapper:?}");
}

#[test]
fn the_trees_stay_within_their_budgets() {
    let budgets = [("childminder", 20), ("headcount", 110)];
    for (name, budget) in budgets {
        let tree = tree(&["-p", name]);
        assert!(tree.len() <= budget, "{name} has {} crates, {budget} are allowed: {tree:?}", tree.len());
    }
}
