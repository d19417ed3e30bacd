//! The tables of the documentation: every row has its test, and every reason its row.

/// The crate's documentation, without the comment marks.
fn documentation() -> String {
    let source = include_str!("../../src/lib.rs");
    source
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .map(|line| format!("{}\n", line.trim()))
        .collect()
}

/// The cells of the rows of the table under a heading.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let documentation = documentation();
    let (_, section) =
        documentation.split_once(&format!("\n# {heading}\n")).expect("there is such a heading");
    let section = section.split("\n# ").next().expect("a section");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    // The first is the head of the table; the line below it has no spaces.
    let rows = rows.skip(1).map(|row| row.split(" | ").map(str::to_owned).collect());
    rows.collect()
}

/// The tests that a row names in its last cell.
fn tests(row: &[String]) -> Vec<&str> {
    row.last().expect("a cell").split(", ").map(|name| name.trim_matches('`')).collect()
}

/// Where the tests of a module are.
fn source(module: &str) -> &'static str {
    match module {
        "cancel" => include_str!("cancel.rs"),
        "foreground" => include_str!("../foreground/main.rs"),
        "deadlines" => include_str!("deadlines.rs"),
        "limits" => include_str!("limits.rs"),
        "minder" => include_str!("minder.rs"),
        "nanny" => include_str!("nanny.rs"),
        "out_of_reach" => include_str!("../group/out_of_reach.rs"),
        "output" => include_str!("output.rs"),
        "owner" => include_str!("owner.rs"),
        "owner_ends" => include_str!("owner_ends.rs"),
        "scarcity" => include_str!("../scarcity.rs"),
        "silence" => include_str!("silence.rs"),
        "start" => include_str!("start.rs"),
        "status" => include_str!("status.rs"),
        "stop_plan" => include_str!("stop_plan.rs"),
        "supervise" => include_str!("../../src/supervise/tests.rs"),
        "survivors" => include_str!("survivors.rs"),
        "unbound" => include_str!("unbound.rs"),
        other => panic!("no module {other} of tests is known here"),
    }
}

/// Whether there is a test of this name that is run.
fn is_a_test(source: &str, name: &str) -> bool {
    let Some((before, _)) = source.split_once(&format!("fn {name}(")) else { return false };
    let attributes = before.rsplit("\n\n").next().expect("a part");
    (attributes.contains("#[test]") || attributes.contains("#[tokio::test"))
        && !attributes.contains("#[ignore")
}

/// Whether it is a row of a table of tests, in a module with a `main` of its own.
fn is_a_row(source: &str, name: &str) -> bool {
    source.contains("libtest_mimic::run") && source.contains(&format!("\"{name}\","))
}

#[track_caller]
fn assert_every_row_has_its_tests(heading: &str, at_least: usize) {
    let rows = rows(heading);
    assert!(rows.len() >= at_least, "{heading}: {} rows", rows.len());
    for row in &rows {
        assert_eq!(row.len(), rows[0].len(), "{row:?}");
        for test in tests(row) {
            let (module, name) =
                test.split_once("::").unwrap_or_else(|| panic!("{test} is no test: {row:?}"));
            let is_there = is_a_test(source(module), name) || is_a_row(source(module), name);
            assert!(is_there, "there is no test {test} for {}", row[0]);
        }
    }
}

#[test]
fn every_end_of_a_run_has_its_test() {
    assert_every_row_has_its_tests("How a run ends", 20);
}

#[test]
fn every_end_of_the_owner_has_its_test() {
    assert_every_row_has_its_tests("When the owner itself ends", 4);
}

#[test]
fn every_reason_has_its_row() {
    let (_, reasons) =
        include_str!("../../src/outcome.rs").split_once("pub enum Reason {").expect("the reasons");
    let reasons = reasons.split('}').next().expect("the variants");
    let variants: Vec<_> = reasons.lines().filter_map(|line| line.trim().strip_suffix(',')).collect();
    assert!(variants.len() >= 5, "{variants:?}");
    let rows = rows("How a run ends");
    for variant in variants {
        let named = format!("[`Reason::{variant}`]");
        assert!(rows.iter().any(|row| row[2].contains(&named)), "no row leads to {named}");
    }
}

#[test]
fn a_test_that_is_not_there_or_not_run_is_noticed() {
    let source = "\n\n#[test]\nfn one() {}\n\nfn two() {}\n\n#[test]\n#[ignore = \"slow\"]\nfn three() {}\n";
    assert!(is_a_test(source, "one"));
    assert!(is_a_row("libtest_mimic::run [(\"one\", 1)]", "one") && !is_a_row("[(\"one\", 1)]", "one"));
    assert!(!is_a_test(source, "two") && !is_a_test(source, "three") && !is_a_test(source, "four"));
}
