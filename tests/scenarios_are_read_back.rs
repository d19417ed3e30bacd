//! M5: scenario → JSON → scenario is the identity; what is unknown or newer is refused.

use std::path::{Path, PathBuf};

use fake_cli::script::Event;
use headcount::failure::rate::Rate;
use headcount::generate::Generator;
use headcount::replay::{self, ScenarioFile};
use headcount::rules::{self, Judged};
use headcount::scenario::{Expect, Found, Scenario};
use headcount::syscalls::{CallKind, Hold, MOST_HOLDS, MOST_NTH};
use headcount::trace::Tier;
use headcount::verdict::VerdictKind;
use proptest::prelude::*;
use proptest::{collection, option, sample};
use serde_json::{Value, json};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios")
}

/// Those of the folder and below it, as an audit may have saved them there.
fn stored() -> Vec<ScenarioFile> {
    replay::read(&[folder()]).unwrap()
}

/// Directed, stored and generated ones.
fn scenarios() -> Vec<Scenario> {
    let directed = rules::all().iter().flat_map(|rule| match &rule.judged {
        Judged::Trace { directed, .. } => directed(),
        Judged::Suite(_) | Judged::NotBuilt(_) => Vec::new(),
    });
    let generator = Generator::new(7);
    let stored = stored().into_iter().map(|file| file.scenario);
    directed.chain(stored).chain((0..500).map(|index| generator.scenario(index))).collect()
}

#[test]
fn a_scenario_is_read_back_as_it_was_written() {
    for scenario in scenarios() {
        assert_eq!(Scenario::from_json(&scenario.to_json()).as_ref(), Ok(&scenario));
    }
}

#[test]
fn an_unknown_field_is_refused_wherever_it_stands_and_its_place_is_named() {
    for scenario in scenarios() {
        let whole: Value = serde_json::from_str(&scenario.to_json()).unwrap();
        for place in ["", "/ops/0"] {
            let mut changed = whole.clone();
            changed.pointer_mut(place).unwrap()["colour"] = json!("red");
            let refused = Scenario::from_json(&changed.to_string()).unwrap_err().to_string();
            assert!(refused.contains("colour"), "{refused}");
            assert!(place.is_empty() || refused.contains("ops[0]"), "{refused}");
        }
    }
}

#[test]
fn a_newer_schema_is_refused_even_when_nothing_else_is_known() {
    let refused = Scenario::from_json(r#"{"schema": 2, "and": "more"}"#).unwrap_err().to_string();
    assert!(refused.contains("newer") && refused.contains("update"), "{refused}");
}

#[test]
fn each_file_is_named_for_what_it_holds_and_says_why() {
    let mut count = 0;
    for ScenarioFile { path, scenario } in stored() {
        assert_eq!(path.file_stem().unwrap().to_str(), Some(scenario.name.as_str()));
        assert!(
            scenario.why.ends_with('.') && scenario.why.len() > 30,
            "{}: {:?}",
            scenario.name,
            scenario.why
        );
        count += 1;
    }
    assert!(count >= 12);
}

#[test]
fn the_scenario_in_the_readme_is_one() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    let json = readme.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
    Scenario::from_json(json).unwrap();
}

#[test]
fn a_hindrance_reads_as_people_write_it_and_is_refused_where_it_cannot_be() {
    let with_ops = |ops: &str| {
        let text =
            format!(r#"{{"schema": 1, "name": "n", "why": "A test.", "script": ["hang"], "ops": [{ops}]}}"#);
        Scenario::from_json(&text).map_err(|refused| refused.to_string())
    };
    with_ops(r#"{"do": "run", "hindered-by": "missing-program"}, {"do": "wait"}, {"do": "run"}"#).unwrap();
    with_ops(r#"{"do": "run", "hindered-by": {"descriptors-left": 3}}"#).unwrap();
    for (ops, part) in [
        (r#"{"do": "run"}, {"do": "wait", "hindered-by": "no-process"}"#, "only a \"run\""),
        (r#"{"do": "run", "hindered-by": "no-process"}, {"do": "run"}"#, "put a \"wait\" between"),
        (r#"{"do": "run", "hindered-by": {"descriptors-left": 4000000}}"#, "at most 1024"),
    ] {
        let refused = with_ops(ops).unwrap_err();
        assert!(refused.contains("hindered-by") && refused.contains(part), "{refused}");
    }
}

#[test]
fn a_scenario_is_no_longer_than_a_person_reads_at_once() {
    for file in stored() {
        let text = file.scenario.to_json();
        assert!(text.lines().count() <= 40, "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 100 || line.contains("\"why\"")), "{text}");
    }
}

#[test]
fn where_a_failure_was_found_reads_as_people_write_it() {
    let text = r#"{"schema": 1, "name": "n", "why": "A test.", "script": ["hang"], "ops": [{"do": "run"}],
        "found": {"rule": "S4", "rate": {"broken": 7, "of": 10}, "percent": [39, 90], "when": "2026-01-31",
                  "tier": "t3", "case": "generated-1-17", "version": "0.1.0", "matters": ["script[0]"]}}"#;
    let scenario = Scenario::from_json(text).unwrap();
    let found = scenario.found.clone().unwrap();
    assert_eq!((found.rule.as_str(), found.minimal), ("S4", false));
    assert_eq!(Scenario::from_json(&scenario.to_json()), Ok(scenario));
}

/// Any text at all.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![".*", "[a-z-]{1,12}", Just("\u{1b}[2J \u{202e} \"\\\n".to_owned())]
}

fn rate() -> impl Strategy<Value = Rate> {
    (any::<u64>(), any::<u64>()).prop_map(|(broken, of)| Rate { broken, of })
}

fn rule() -> impl Strategy<Value = String> {
    sample::select(rules::all().iter().map(|rule| rule.id.to_owned()).collect::<Vec<_>>())
}

fn expect() -> impl Strategy<Value = Expect> {
    let kind = sample::select(vec![
        VerdictKind::Kept,
        VerdictKind::Broken,
        VerdictKind::Unknown,
        VerdictKind::Vacuous,
        VerdictKind::NotRun,
    ]);
    let verdicts = collection::btree_map(rule(), kind, 0..6);
    (text(), verdicts).prop_map(|(subject, verdicts)| Expect { subject, verdicts })
}

fn found() -> impl Strategy<Value = Found> {
    let tier = sample::select(vec![Tier::T1, Tier::T2, Tier::T3]);
    let measured = (option::of(rate()), option::of(any::<[u8; 2]>()));
    let told = (any::<bool>(), any::<bool>(), collection::vec(text(), 0..4));
    (text(), text(), text(), text(), tier, measured, told).prop_map(
        |(rule, when, case, version, tier, (rate, percent), (promoted, minimal, matters))| Found {
            rule,
            rate,
            percent,
            when,
            tier,
            case,
            version,
            promoted,
            minimal,
            matters,
        },
    )
}

/// Each call once, and until what any case can cause.
fn holds() -> impl Strategy<Value = Vec<Hold>> {
    let until = sample::select(vec!["host.gone", "run.ended", "op.0.issued", "root.hello", "call.wait.3"]);
    let call = (sample::select(CallKind::ALL.to_vec()), 1..=MOST_NTH);
    collection::btree_map(call.prop_map(|(call, nth)| (call.name(), nth)), until, 0..=MOST_HOLDS).prop_map(
        |calls| {
            let hold = |((name, nth), until): ((&str, u32), &str)| Hold {
                call: CallKind::ALL.into_iter().find(|kind| kind.name() == name).expect("one of them"),
                nth,
                until: Event::try_from(until).expect("an event"),
            };
            calls.into_iter().map(hold).collect()
        },
    )
}

/// Whatever the generator draws, with whatever it never sets.
fn any_scenario() -> impl Strategy<Value = Scenario> {
    let beside = (option::of(text()), text(), collection::vec(text(), 0..4), "[a-z0-9-]{1,80}");
    let from = (any::<u64>(), any::<u64>()).prop_map(|(seed, index)| Generator::new(seed).scenario(index));
    (from, beside, holds(), option::of(expect()), option::of(found())).prop_map(
        |(from, (schema_url, why, rules, name), holds, expect, found)| Scenario {
            schema_url,
            name,
            why,
            rules,
            holds,
            expect,
            found,
            ..from
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_scenario_is_read_back_as_it_was_written(scenario in any_scenario()) {
        prop_assert_eq!(scenario.check(), Ok(()));
        prop_assert_eq!(Scenario::from_json(&scenario.to_json()), Ok(scenario.clone()));
        let on_one_line = serde_json::to_string(&scenario).expect("it has string keys only");
        prop_assert_eq!(Scenario::from_json(&on_one_line), Ok(scenario));
    }
}
