//! Every rule that is judged from traces has a test on a hand-written trace for each verdict that it may give. Read from the tests
//! themselves: in one of them `assert_verdict` names the rule's judge and the verdict, or a loop over several judges does.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::*;

/// Rules whose judge is called `judge`, in a file of their own; that of all others is called after the rule.
const OWN_FILES: [(&str, &str); 8] = [
    ("S10", "failed_start"),
    ("Z4", "child_signal"),
    ("F4", "foreign_pipes"),
    ("D7", "odd_timeouts"),
    ("O10", "closed_input"),
    ("X6", "start_error"),
    ("C2", "storm"),
    ("C4", "history"),
];

const VERDICTS: [&str; 4] = ["Kept", "Broken", "Unknown", "Vacuous"];

/// The judge of a rule, as tests write it; one that is only called `judge` with its file.
fn judge_of(id: &str) -> String {
    let own = OWN_FILES.iter().find(|(rule, _)| *rule == id);
    own.map_or_else(|| format!("judge_{}", id.to_ascii_lowercase()), |(_, file)| format!("{file}::judge"))
}

/// Each judge with each verdict that a test of this file demands of it.
fn demanded(file: &str, source: &str) -> BTreeSet<(String, String)> {
    let tests = source.split_once("mod tests {").map_or("", |(_, tests)| tests);
    let mut demanded = BTreeSet::new();
    for test in tests.split("#[test]").skip(1) {
        for call in ["assert_verdict(", "assert_judged("] {
            for (at, _) in test.match_indices(call) {
                let arguments = arguments(&test[at + call.len()..]);
                let judges = match call {
                    "assert_verdict(" => judges_named(test, arguments[1]),
                    _ => vec!["judge".to_owned()],
                };
                let verdict = arguments.iter().find(|argument| VERDICTS.contains(argument));
                for (judge, verdict) in judges.into_iter().zip(verdict.into_iter().cycle()) {
                    let judge = if judge == "judge" { format!("{file}::judge") } else { judge };
                    demanded.insert((judge, (*verdict).to_owned()));
                }
            }
        }
    }
    demanded
}

/// What a name stands for: each judge of the list that a loop takes it from, else the judge itself.
fn judges_named(test: &str, name: &str) -> Vec<String> {
    let loops = test.split("for ").skip(1).filter_map(|text| {
        let (pattern, list) = text.split_once(" in")?;
        let (list, _) = list.trim_start().strip_prefix('[')?.split_once(']')?;
        words(pattern).any(|word| word == name).then_some(list)
    });
    let listed = loops.flat_map(words).filter(|word| word.starts_with("judge_")).map(str::to_owned);
    let listed = listed.collect::<Vec<_>>();
    if listed.is_empty() { vec![name.to_owned()] } else { listed }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .filter(|word| !word.is_empty())
}

/// The arguments of a call whose bracket has just been opened.
fn arguments(text: &str) -> Vec<&str> {
    let (mut depth, mut begin, mut quoted, mut escaped) = (0, 0, false, false);
    let mut arguments = Vec::new();
    for (at, letter) in text.char_indices() {
        if quoted {
            quoted = letter != '"' || escaped;
            escaped = letter == '\\' && !escaped;
            continue;
        }
        match letter {
            '"' => quoted = true,
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => {
                arguments.push(text[begin..at].trim());
                return arguments;
            }
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                arguments.push(text[begin..at].trim());
                begin = at + 1;
            }
            _ => {}
        }
    }
    panic!("a call that is not closed: {text}")
}

#[test]
fn every_rule_is_told_apart_by_a_test_for_each_verdict() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/rules");
    let mut known = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_stem().unwrap().to_str().unwrap();
        if path.extension().is_some_and(|extension| extension == "rs") && file != "told_apart" {
            known.extend(demanded(file, &fs::read_to_string(&path).unwrap()));
        }
    }
    let judged = all().iter().filter(|rule| matches!(rule.judged, Judged::Trace { .. }));
    let demands = judged.flat_map(|rule| VERDICTS.map(|verdict| (rule.id, verdict)));
    let is_untested = |(id, verdict): &(&str, &str)| !known.contains(&(judge_of(id), (*verdict).to_owned()));
    let untested = demands.filter(is_untested).map(|(id, verdict)| format!("{id} {verdict}"));
    assert_eq!(untested.collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn a_test_that_is_missing_is_missed() {
    let source = r#"
        mod tests {
            fn helper() { assert_verdict(&hand, judge_s1, Vacuous, ""); }
            #[test]
            fn one() {
                for (call, judge) in [(a, judge_s1 as fn()), (b, judge_s2)] {
                    assert_verdict(&hand.with(|it| it.f("a, )\"("), 3), judge, Kept, "x, Broken");
                }
                assert_verdict(&hand, judge, Unknown, "");
            }
            #[test]
            fn two() { assert_verdict(&hand, judge, Broken, "") }
        }"#;
    let known = demanded("it", source);
    let known = known.iter().map(|(judge, verdict)| (judge.as_str(), verdict.as_str())).collect::<Vec<_>>();
    let expected = [
        ("it::judge", "Broken"),
        ("judge_s1", "Kept"),
        ("judge_s1", "Unknown"),
        ("judge_s2", "Kept"),
        ("judge_s2", "Unknown"),
    ];
    assert_eq!(known, expected);
}
