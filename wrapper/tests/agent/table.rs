//! The tables of the original suite: each of its seventeen names has its row, and each row a test that is run.

/// A module and the source of it.
const MODULES: [&str; 2] = [include_str!("original_suite.rs"), include_str!("registry.rs")];

/// What the original suite had.
const NAMES: [&str; 17] = [
    "single shared instance",
    "registration",
    "deregistration",
    "statistics",
    "clean-up of all",
    "graceful then forced",
    "tracking during execution",
    "cancellation",
    "timeout",
    "scoped execution",
    "escalation",
    "statistics of a run",
    "concurrent executions",
    "zombies",
    "leak detection",
    "parsing",
    "plain `cleanup()`",
];

/// The name of a row and the tests that it names.
fn rows(source: &str) -> Vec<(&str, Vec<&str>)> {
    let rows =
        source.lines().filter_map(|line| line.strip_prefix("//! | ")?.strip_suffix(" |")?.split_once(" | "));
    rows.skip(1)
        .map(|(name, tests)| (name, tests.split(", ").map(|test| test.trim_matches('`')).collect()))
        .collect()
}

fn is_a_test(source: &str, name: &str) -> bool {
    source.contains(&format!("#[tokio::test]\nasync fn {name}("))
}

#[test]
fn each_name_of_the_original_suite_has_a_test() {
    let mut names = Vec::new();
    for source in MODULES {
        for (name, tests) in rows(source) {
            names.push(name);
            for test in tests {
                assert!(is_a_test(source, test), "there is no test {test} for {name}");
            }
        }
    }
    names.sort_unstable();
    let mut expected = NAMES;
    expected.sort_unstable();
    assert_eq!(names, expected);
}
