//! The table as a whole, and what no rule may do on any trace.

use std::collections::BTreeMap;

use fake_cli::content::Output;
use fake_cli::control::Report;
use fake_cli::script::Signal;
use proptest::prelude::*;

use super::by_hand::{self, ASIDE, AWAY, Hand, because, captured};
use super::*;
use crate::scenario::Verb;
use crate::trace::{Outcome, Point, Reason, Stage, Status};
use crate::verdict::VerdictKind;

/// How many rules each family of the catalogue has, in its order.
const FAMILIES: [(char, usize); 13] = [
    ('S', 11),
    ('Z', 4),
    ('F', 6),
    ('T', 4),
    ('D', 8),
    ('O', 10),
    ('X', 7),
    ('K', 7),
    ('E', 6),
    ('H', 4),
    ('P', 5),
    ('C', 4),
    ('M', 6),
];

const BUILT: &[&str] = &[
    "S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S9", "S10", "S11", "Z1", "Z2", "Z3", "Z4", "F1", "F2",
    "F3", "F4", "F5", "F6", "T1", "T2", "T3", "T4", "D1", "D2", "D3", "D4", "D5", "D6", "D7", "O1", "O2",
    "O3", "O4", "O5", "O6", "O7", "O8", "O9", "O10", "X1", "X2", "X3", "X4", "X5", "X6", "X7", "K1", "K2",
    "K3", "K4", "K5", "K6", "K7", "E1", "E2", "E3", "E4", "E5", "E6", "H1", "H2", "H3", "H4", "P1", "P2",
    "P3", "P4", "P5", "C1", "C2", "C3", "C4", "M1", "M3", "M4", "M5",
];

#[test]
fn the_table_is_the_whole_catalogue_in_its_order() {
    let expected: Vec<String> = FAMILIES
        .into_iter()
        .flat_map(|(family, count)| (1..=count).map(move |number| format!("{family}{number}")))
        .collect();
    let ids: Vec<&str> = all().iter().map(|rule| rule.id).collect();
    assert_eq!(ids, expected);
    let built: Vec<&str> = all().iter().filter(|rule| rule.is_built()).map(|rule| rule.id).collect();
    assert_eq!(built, BUILT);
}

#[test]
fn every_rule_is_told_in_sentences() {
    for rule in all() {
        for text in [rule.sentence, rule.measured, rule.guard] {
            assert!(text.ends_with('.') && !text.contains("  "), "{}: {text:?}", rule.id);
        }
        if let Judged::NotBuilt(why) = rule.judged {
            assert!(!why.is_empty() && !why.ends_with('.'), "{}: {why:?}", rule.id);
        }
    }
}

#[test]
fn every_rule_that_is_judged_from_traces_owns_a_directed_scenario() {
    for rule in all() {
        let scenarios = rule.directed();
        assert_eq!(!scenarios.is_empty(), matches!(rule.judged, Judged::Trace { .. }), "{}", rule.id);
        let meant = |scenario: &Scenario| scenario.rules.iter().any(|id| id == rule.id);
        assert!(scenarios.is_empty() || scenarios.iter().any(meant), "{}", rule.id);
    }
}

#[test]
fn directed_scenarios_are_legal_and_read_back_as_they_were_written() {
    for scenario in directed_scenarios() {
        let read = Scenario::from_json(&scenario.to_json());
        assert_eq!(read.as_ref(), Ok(&scenario), "{}", scenario.name);
        assert!(scenario.why.ends_with('.'), "{}", scenario.name);
        for id in &scenario.rules {
            assert!(find(id).is_some_and(Rule::is_built), "{}: {id}", scenario.name);
        }
    }
}

#[test]
fn directed_scenarios_of_one_name_are_the_same() {
    let mut by_name: BTreeMap<String, Scenario> = BTreeMap::new();
    for scenario in all().iter().flat_map(Rule::directed) {
        let first = by_name.entry(scenario.name.clone()).or_insert_with(|| scenario.clone());
        assert_eq!(*first, scenario);
    }
}

#[test]
fn directed_scenarios_make_order_by_gates_and_wait_for_nothing_but_the_wrappers_start() {
    for scenario in directed_scenarios() {
        for op in scenario.ops.iter().filter(|op| op.delay.is_some()) {
            let event = op.after.as_ref();
            let event = event.map(|event| event.of_a_run().map_or(event.as_str(), |(_, event)| event));
            assert_eq!(event, Some("root.ready"), "{}", scenario.name);
        }
    }
}

#[test]
fn a_rule_that_is_not_judged_from_traces_says_why() {
    let trace = by_hand::hanging_pair().trace();
    let judgements = judge(&trace);
    assert_eq!(judgements.len(), all().len());
    let of = |id: &str| judgements.iter().find(|judgement| judgement.rule == id).unwrap().verdict.clone();
    assert!(of("D8").detail().unwrap().starts_with("not built: "));
    assert!(of("M4").detail().unwrap().contains("this project's own tests"));
}

// ---- What no rule may do ----

/// Something that may happen to one of two nodes, or to the case.
fn happening() -> impl Strategy<Value = fn(Hand, u64, &'static str) -> Hand> {
    let all: [fn(Hand, u64, &'static str) -> Hand; 20] = [
        |hand, at, node| hand.hello(at, node),
        |hand, at, node| hand.hello_as(at, node, AWAY),
        |hand, at, node| hand.hello_as(at, node, ASIDE),
        |hand, at, node| hand.did(at, node, 0),
        |hand, at, node| hand.did(at, node, 1),
        |hand, at, node| hand.signalled(at, node, Signal::Term),
        |hand, at, node| hand.exiting(at, node, 0),
        |hand, at, node| hand.exiting(at, node, -9),
        |hand, at, node| hand.gone(at, node),
        |hand, at, node| hand.wrote(at, node, Output::Stdout, 1000),
        |hand, at, node| hand.says(at, node, Report::WriteFailed { to: Output::Stdout, errno: 32 }),
        |hand, at, _| hand.cancel(at).done(at),
        |hand, at, _| hand.drop(at).done(at),
        |hand, at, _| hand.kill_host(at),
        |hand, at, _| hand.signal_host(at, Signal::Int),
        |hand, at, _| hand.host_gone(at, Status::Signaled(9)),
        |hand, at, _| hand.ended(at, because(Reason::Cancelled)),
        |hand, at, _| hand.ended(at, because(Reason::TimedOut)),
        |hand, at, _| {
            hand.ended(
                at,
                Outcome { stdout: Some(captured(Output::Stdout, 1000, None)), ..because(Reason::Itself) },
            )
        },
        |hand, at, _| hand.stuck(at, Verb::Wait, "root.ready"),
    ];
    prop::sample::select(all.to_vec())
}

/// A trace in which anything may have happened in any order.
fn any_trace() -> impl Strategy<Value = Hand> {
    let happenings = prop::collection::vec((happening(), 0..60u64, any::<bool>()), 0..14);
    (happenings, prop::option::of(0..400u64), any::<bool>(), any::<bool>()).prop_map(
        |(happenings, timeout_ms, template, silent)| {
            let script = r#"["log-signals", {"on": {"signal": "TERM", "then": "ignore"}}, {"start": {"node": "child", "script": ["hang"]}}]"#;
            let mut hand = by_hand::case(by_hand::steps(script)).run(0);
            hand = if template { hand.template() } else { hand };
            hand = timeout_ms.map_or(hand.clone(), |ms| hand.timeout(ms));
            let mut at_ms = 0;
            for (happen, later_ms, to_root) in happenings {
                at_ms += later_ms;
                hand = happen(hand, at_ms, if to_root { "root" } else { "child" });
            }
            if silent { hand.silent() } else { hand }
        },
    )
}

fn broken(hand: &Hand) -> Vec<&'static str> {
    let trace = hand.clone().trace();
    let is_broken = |judgement: &Judgement| judgement.verdict.kind() == VerdictKind::Broken;
    judge(&trace).into_iter().filter(is_broken).map(|judgement| judgement.rule).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nobody_is_accused_of_survivors_or_zombies_that_no_look_saw(hand in any_trace()) {
        let hand = hand.look(Stage::Quiesce, vec![]).look(Stage::HostGone, vec![]);
        let accused = broken(&hand);
        prop_assert!(!accused.iter().any(|id| matches!(id.as_bytes()[0], b'S' | b'Z' | b'P')), "{accused:?}");
    }

    #[test]
    fn a_survivor_is_charged_to_one_rule_at_most(hand in any_trace()) {
        // The node's last hello tells where it stood.
        let hand = hand.hello(900, "child");
        let hand = hand.look_sees(Stage::Quiesce, &["child"]).look_sees(Stage::HostGone, &["child"]);
        let charged: Vec<_> = broken(&hand).into_iter().filter(|id| id.starts_with('S')).collect();
        prop_assert!(charged.len() <= 1, "{charged:?}");
    }

    #[test]
    fn nobody_is_accused_by_a_single_witness(hand in any_trace()) {
        let hand = hand.hello(900, "child").look_sees(Stage::Quiesce, &["child"]).look_sees(Stage::HostGone, &["child"]);
        let hand = hand.with(|trace| trace.looks.iter_mut().for_each(|look| look.seen[0].connected = false));
        let accused = broken(&hand);
        prop_assert!(!accused.iter().any(|id| matches!(id.as_bytes()[0], b'S' | b'Z' | b'P')), "{accused:?}");
    }

    #[test]
    fn nobody_is_accused_of_being_late_while_the_noise_is_not_known(hand in any_trace()) {
        let hand = hand.with(|trace| trace.noise = crate::trace::Noise::default());
        let accused = broken(&hand);
        prop_assert!(!accused.iter().any(|id| matches!(*id, "D1" | "D3" | "D4")), "{accused:?}");
    }

    #[test]
    fn our_own_fault_is_nobody_elses(hand in any_trace()) {
        for judgement in judge(&hand.our_fault().trace()) {
            let kind = judgement.verdict.kind();
            prop_assert!(matches!(kind, VerdictKind::Unknown | VerdictKind::NotRun), "{}: {kind:?}", judgement.rule);
        }
    }

    #[test]
    fn a_trace_that_was_stored_and_read_gets_the_same_verdicts(hand in any_trace()) {
        let trace = hand.look(Stage::Quiesce, vec![]).inventory(10, Point::AfterRun(0), &[(3, "pipe:[1]")]).trace();
        let read: Trace = serde_json::from_str(&serde_json::to_string(&trace).unwrap()).unwrap();
        prop_assert_eq!(judge(&read), judge(&trace));
    }
}
