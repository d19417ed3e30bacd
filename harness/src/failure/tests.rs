//! The shrinker against wrappers on paper, which break a rule exactly when a case has certain elements, at a known rate.

use fake_cli::script::{Place, Step};
use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::rate::Terms;
use super::*;
use crate::crew::{Effort, Source};
use crate::generate::Generator;
use crate::report::timeline::tests::cancelled_tree;
use crate::rules::Judged;
use crate::rules::facts::Facts;
use crate::scenario::{Op, Verb};
use crate::trace::{CaseEnd, Tier};
use crate::verdict::{Finding, Level, Verdict};

/// A coin from proptest's generator: no further crate for it.
pub(super) struct Coin(TestRng);

impl Coin {
    pub(super) fn of(seed: u64) -> Self {
        let mut bytes = [3; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Self(TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
    }

    pub(super) fn falls(&mut self, rate: f64) -> bool {
        f64::from(self.0.next_u32()) < rate * f64::from(u32::MAX)
    }
}

/// What a wrapper on paper does with a case.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Does {
    /// Breaks the rule at this rate, and else keeps it.
    Breaks(f64),
    /// Breaks another rule.
    BreaksAnother,
    Keeps,
    NeverComesToThePoint,
    CannotBeTold,
}

/// Answers as many scenarios at a time as a crew would, in the order in which they end.
pub(super) struct PaperCrew {
    does: fn(&Scenario) -> Does,
    coin: Coin,
    paper: Trace,
    /// What a case that keeps the rule looks like, where it is told from others.
    kept: Option<Trace>,
    lasts: Lasts,
}

/// How long a case takes, on the crew's own clock.
pub(super) struct Lasts {
    broken: u64,
    others: u64,
}

/// Survivors are waited for.
const BROKEN_LAST: Lasts = Lasts { broken: 2000, others: 20 };
/// What is lost early ends early.
const BROKEN_FIRST: Lasts = Lasts { broken: 20, others: 2000 };

impl PaperCrew {
    const JOBS: usize = 16;

    fn trace(&mut self, scenario: Scenario) -> Trace {
        let (verdict, end) = match (self.does)(&scenario) {
            Does::Breaks(rate) if self.coin.falls(rate) => ("broken", CaseEnd::Completed),
            Does::BreaksAnother => ("another", CaseEnd::Completed),
            Does::Breaks(_) | Does::Keeps => ("kept", CaseEnd::Completed),
            Does::NeverComesToThePoint => ("vacuous", CaseEnd::Completed),
            Does::CannotBeTold => ("kept", CaseEnd::OurFault("no memory".to_owned())),
        };
        let paper = self.kept.as_ref().filter(|_| verdict == "kept").unwrap_or(&self.paper);
        let mut trace = Trace { scenario, ..paper.clone() };
        trace.subject.version = verdict.to_owned();
        trace.end = end;
        trace
    }
}

impl RunsCases for PaperCrew {
    fn tier(&self) -> Tier {
        Tier::T3
    }

    fn effort(&self) -> Effort {
        Effort::default()
    }

    fn run(&mut self, _subject: &SubjectSpec, source: &mut dyn Source) -> Result<(), CrewError> {
        let mut going = true;
        let mut now = 0;
        let mut under_way: Vec<(u64, Trace)> = Vec::new();
        loop {
            while going && under_way.len() < Self::JOBS {
                let Some(scenario) = source.next() else { break };
                let trace = self.trace(scenario);
                let lasts = match trace.subject.version.as_str() {
                    "broken" => self.lasts.broken,
                    _ => self.lasts.others,
                };
                under_way.push((now + lasts + u64::from(self.coin.0.next_u32()) % 20, trace));
            }
            let ends = under_way.iter().enumerate().min_by_key(|(_, (ends, _))| *ends);
            let Some((index, _)) = ends else { return Ok(()) };
            let (ends, trace) = under_way.swap_remove(index);
            now = ends;
            going &= source.take(trace);
        }
    }
}

fn by_version(facts: &Facts<'_>) -> Verdict {
    match facts.trace.subject.version.as_str() {
        "broken" => Verdict::Broken(Finding { sentence: "one is alive".to_owned(), count: 1 }),
        "vacuous" => Verdict::Vacuous("nobody was there".to_owned()),
        _ => Verdict::Kept,
    }
}

pub(super) static RULE: Rule = Rule {
    id: "S4",
    level: Level::Must,
    title: "none left",
    sentence: "none is left",
    measured: "on paper",
    guard: "none",
    weigh: |_| None,
    judged: Judged::Trace { judge: by_version, directed: Vec::new },
};

pub(super) fn subject() -> SubjectSpec {
    SubjectSpec::here("paper")
}

fn minimise(scenario: &Scenario, crew: &mut PaperCrew) -> Minimal {
    let stop = AtomicBool::new(false);
    let bounds = Bounds { budget: Duration::from_secs(300), stop: &stop };
    let subject = subject();
    let failure = Failure { subject: &subject, rule: &RULE, scenario };
    failure.minimise(crew, &bounds, &mut |_| {}).unwrap()
}

/// Every node of a script: its place, and what it does.
fn nodes(script: &[Step]) -> Vec<(Place, &[Step])> {
    let starts = script.iter().filter_map(|step| match step {
        Step::Start(start) => Some(start),
        _ => None,
    });
    starts
        .flat_map(|start| [(start.place, &start.script[..])].into_iter().chain(nodes(&start.script)))
        .collect()
}

fn has_op(scenario: &Scenario, verb: Verb) -> bool {
    scenario.ops.iter().any(|op| op.verb == verb)
}

/// Loses whoever is in a session of its own and hangs, if the run is cancelled.
fn loses_sessions(scenario: &Scenario) -> bool {
    let is_away =
        |(place, script): &(Place, &[Step])| *place == Place::OwnSession && script.contains(&Step::Hang);
    has_op(scenario, Verb::Cancel) && nodes(&scenario.script).iter().any(is_away)
}

pub(super) fn racy(scenario: &Scenario, rate: f64) -> Does {
    let hangs = scenario.script.contains(&Step::Hang);
    match () {
        () if loses_sessions(scenario) => Does::Breaks(rate),
        () if !has_op(scenario, Verb::Cancel) => Does::NeverComesToThePoint,
        // A trap: simpler, and the same rule, but ten times more rarely.
        () if nodes(&scenario.script).iter().any(|(_, script)| script.contains(&Step::Hang)) => {
            Does::Breaks(rate / 10.0)
        }
        // Another: simpler, and broken every time, but another rule.
        () if hangs => Does::BreaksAnother,
        () => Does::Keeps,
    }
}

const MINIMAL: &str = r#"{"script": [{"start": {"node": "n1", "as": "own-session", "script": ["hang"]}}],
    "ops": [{"do": "run"}, {"do": "cancel"}]}"#;

fn expected(of: &Scenario) -> Scenario {
    let text = format!(
        r#"{{"schema": 1, "name": "{}", "why": "{}", "rules": ["S4"], {}"#,
        of.name,
        of.why,
        &MINIMAL[1..]
    );
    Scenario::from_json(&text).unwrap()
}

/// Generated cases that break the rule on paper and are not small. They have one run: a race is a chance of each run, but of each case on
/// paper.
pub(super) fn failing(count: usize) -> Vec<Scenario> {
    let generator = Generator::new(5);
    let runs = |scenario: &Scenario| scenario.ops.iter().filter(|op| op.verb == Verb::Run).count();
    let large = |scenario: &Scenario| {
        loses_sessions(scenario) && nodes(&scenario.script).len() > 1 && runs(scenario) == 1
    };
    (0..).map(|index| generator.scenario(index)).filter(large).take(count).collect()
}

/// Shrinks generated cases with a seed each; in how many the one minimal case was reached, and the most cases that it took.
fn reached(does: fn(&Scenario) -> Does, seeds: u64) -> (u64, u64) {
    let mut reached = 0;
    let mut most = 0;
    for (seed, scenario) in failing(seeds as usize).iter().enumerate() {
        let mut crew = crew(does, seed as u64);
        let minimal = minimise(scenario, &mut crew);
        most = most.max(minimal.cases);
        if minimal.scenario == expected(scenario) && minimal.is_minimal {
            reached += 1;
        } else {
            eprintln!("seed {seed}: {} {} {}", minimal.rate, minimal.is_minimal, minimal.scenario.to_json());
        }
    }
    (reached, most)
}

#[test]
fn a_certain_failure_is_shrunk_to_its_minimal_case() {
    let (reached, most) = reached(|scenario| racy(scenario, 1.0), 100);
    assert_eq!(reached, 100);
    assert!(most < 2000, "{most} cases");
}

fn race_is_reached(does: fn(&Scenario) -> Does) {
    let (reached, most) = reached(does, 100);
    assert!(reached >= 95, "{reached} of 100, with at most {most} cases");
}

#[test]
fn the_minimal_case_of_a_race_of_1_in_2_is_reached_in_95_of_100_runs() {
    race_is_reached(|scenario| racy(scenario, 0.5));
}

#[test]
fn the_minimal_case_of_a_race_of_1_in_5_is_reached_in_95_of_100_runs() {
    race_is_reached(|scenario| racy(scenario, 0.2));
}

#[test]
fn the_minimal_case_of_a_race_of_1_in_20_is_reached_in_95_of_100_runs() {
    race_is_reached(|scenario| racy(scenario, 0.05));
}

/// Loses a session in one run of two.
fn loses_in_each_run(scenario: &Scenario) -> Does {
    let runs = scenario.ops.split(|op| op.verb == Verb::Run).skip(1);
    let chances = runs.filter(|ops| ops.iter().any(|op| op.verb == Verb::Cancel)).count() as i32;
    match loses_sessions(scenario) {
        true => Does::Breaks(1.0 - 0.5_f64.powi(chances)),
        false => Does::Keeps,
    }
}

#[test]
fn a_race_in_each_of_many_runs_looks_certain_and_is_shrunk_to_one_of_them() {
    let run = r#"{"do": "run"}, {"do": "cancel", "after": "root.ready"}, {"do": "wait"}"#;
    let script = r#"[{"start": {"node": "helper", "as": "own-session", "script": ["hang"]}}, {"emit": "ready"}, "hang"]"#;
    let text = format!(
        r#"{{"schema": 1, "name": "many", "why": "A test.", "script": {script}, "ops": [{}]}}"#,
        [run; 8].join(", ")
    );
    let scenario = Scenario::from_json(&text).unwrap();
    let reached = (0..20).filter(|seed| {
        let minimal = minimise(&scenario, &mut crew(loses_in_each_run, *seed));
        minimal.is_minimal && minimal.scenario.ops.len() == 2
    });
    let reached = reached.count();
    assert!(reached >= 18, "{reached} of 20");
}

/// A session is lost always by a cancel that waits for somebody's word, and else as chance has it; whatever else is dropped costs little by
/// little.
fn loses_a_little(scenario: &Scenario, rate: f64) -> Does {
    if !loses_sessions(scenario) {
        return Does::Keeps;
    }
    let is_gated = scenario.ops.iter().any(|op| op.verb == Verb::Cancel && op.after.is_some());
    Does::Breaks(if is_gated { rate } else { 0.6 * rate })
}

#[test]
fn a_gate_without_which_the_rule_is_broken_more_rarely_stays() {
    let certain: fn(&Scenario) -> Does = |scenario| loses_a_little(scenario, 1.0);
    let racy: fn(&Scenario) -> Does = |scenario| loses_a_little(scenario, 0.5);
    for (rate, does) in [(1.0, certain), (0.5, racy)] {
        let is_gated = |scenario: &Scenario| loses_a_little(scenario, rate) == Does::Breaks(rate);
        let mut kept = 0;
        for (seed, scenario) in failing(40).iter().filter(|scenario| is_gated(scenario)).enumerate().take(20)
        {
            let minimal = minimise(scenario, &mut crew(does, seed as u64));
            let size = (nodes(&minimal.scenario.script).len(), minimal.scenario.ops.len());
            assert_eq!(size, (1, 2), "{}", minimal.scenario.to_json());
            kept += u32::from(is_gated(&minimal.scenario));
        }
        assert!(kept >= 17, "at {rate} {kept} of 20");
    }
}

/// A session is lost rarely while others compete with it, nearly always when nobody does, and less often again without its gate.
fn loses_alone(scenario: &Scenario) -> Does {
    let is_alone = nodes(&scenario.script).len() == 1;
    let is_gated = scenario.ops.iter().any(|op| op.verb == Verb::Cancel && op.after.is_some());
    match loses_sessions(scenario) {
        false => Does::Keeps,
        true if !is_alone => Does::Breaks(0.2),
        true => Does::Breaks(if is_gated { 0.9 } else { 0.3 }),
    }
}

#[test]
fn what_breaks_the_rule_more_often_is_what_is_gone_back_to() {
    let is_gated = |scenario: &Scenario| loses_a_little(scenario, 1.0) == Does::Breaks(1.0);
    let given = failing(60);
    let mut kept = 0;
    for (seed, scenario) in given.iter().filter(|scenario| is_gated(scenario)).enumerate().take(20) {
        let minimal = minimise(scenario, &mut crew(loses_alone, seed as u64));
        kept += u32::from(
            loses_alone(&minimal.scenario) == Does::Breaks(0.9)
                && minimal.rate.broken * 4 > minimal.rate.of * 3,
        );
    }
    assert!(kept >= 17, "{kept} of 20");
}

/// Loses a session if it is cancelled before its child executes, which no event tells.
fn loses_before_exec(scenario: &Scenario) -> Does {
    let is_between = |op: &Op| {
        let after = op.after.as_ref().map(fake_cli::script::Event::as_str);
        op.verb == Verb::Cancel && after == Some("call.exec-child.1")
    };
    match loses_sessions(scenario) {
        true if scenario.ops.iter().any(is_between) && !scenario.holds.is_empty() => Does::Breaks(1.0),
        true => Does::Breaks(0.3),
        false => Does::Keeps,
    }
}

#[test]
fn a_race_with_a_call_of_the_wrapper_is_pinned_by_a_hold() {
    let mut pinned = 0;
    for (seed, scenario) in failing(10).iter().enumerate() {
        let minimal = minimise(scenario, &mut crew(loses_before_exec, seed as u64));
        let is_certain = loses_before_exec(&minimal.scenario) == Does::Breaks(1.0) && !minimal.rate.is_racy();
        pinned += u32::from(minimal.is_promoted && is_certain && minimal.scenario.ops.len() == 2);
    }
    assert!(pinned >= 8, "{pinned} of 10");
}

/// Loses a little in each run, which is told only of runs that are all alike, of four at least.
fn grows(scenario: &Scenario) -> Does {
    let runs = scenario.ops.split(|op| op.verb == Verb::Run).skip(1).collect::<Vec<_>>();
    let cancels = |ops: &&[Op]| ops.iter().any(|op| op.verb == Verb::Cancel);
    match runs.iter().all(|ops| *ops == runs[0]) && runs.iter().all(cancels) {
        true if runs.len() >= 4 => Does::Breaks(1.0),
        _ => Does::NeverComesToThePoint,
    }
}

#[test]
fn a_series_of_equal_runs_is_shrunk_in_all_of_them_at_once() {
    let run = r#"{"do": "run"}, {"do": "poll"}, {"do": "cancel", "after": "root.ready", "delay": "5ms"}, {"do": "wait"}"#;
    let text = format!(
        r#"{{"schema": 1, "name": "series", "why": "A test.", "script": [{{"emit": "ready"}}, "hang"], "ops": [{}]}}"#,
        [run; 6].join(", ")
    );
    let minimal = minimise(&Scenario::from_json(&text).unwrap(), &mut crew(grows, 1));
    let ops = minimal.scenario.ops.iter().map(|op| op.verb).collect::<Vec<_>>();
    assert_eq!(ops, [Verb::Run, Verb::Cancel].repeat(4), "{}", minimal.scenario.to_json());
    assert!(minimal.is_minimal && minimal.scenario.ops.iter().all(|op| op.delay.is_none()));
}

pub(super) fn crew(does: fn(&Scenario) -> Does, seed: u64) -> PaperCrew {
    PaperCrew { does, coin: Coin::of(seed), paper: cancelled_tree(), kept: None, lasts: BROKEN_LAST }
}

/// In how many of 300 tests a variant is accepted, whose tries take as long as this.
fn accepted(does: fn(&Scenario) -> Does, terms: Terms, lasts: Lasts) -> usize {
    let scenario = &failing(1)[0];
    let (subject, stop) = (subject(), AtomicBool::new(false));
    let mut crew = PaperCrew { lasts, ..crew(does, 11) };
    let mut bench = Bench { crew: &mut crew, subject: &subject, rule: &RULE, stop: &stop, cases: 0 };
    let deadline = Instant::now() + Duration::from_secs(300);
    let mut is_accepted = || {
        let tried = bench
            .try_all(vec![scenario.clone()], Until::Decided(vec![terms]), deadline, None)
            .unwrap()
            .remove(0);
        tried.decided.expect("there was time")
    };
    (0..300).filter(|_| is_accepted()).count()
}

#[test]
fn what_is_decided_does_not_depend_on_how_long_tries_take() {
    let terms = Terms::new(0.5, DRIFT, 0.02);
    for lasts in [|| BROKEN_LAST, || BROKEN_FIRST] as [fn() -> Lasts; 2] {
        let same = accepted(|_| Does::Breaks(0.5), terms, lasts());
        let rarer = accepted(|_| Does::Breaks(0.5 / DRIFT), terms, lasts());
        assert!(same >= 288 && rarer <= 9, "{same} and {rarer} of 300");
    }
}

#[test]
fn a_failure_that_is_not_seen_again_is_left_as_it_is() {
    let scenario = &failing(1)[0];
    for (does, of) in [
        ((|_| Does::Keeps) as fn(&Scenario) -> Does, MOST_REPLAYS),
        (|_| Does::BreaksAnother, MOST_REPLAYS),
        // What cannot be told is tried a few times more, and is no case of those that count.
        (|_| Does::CannotBeTold, 0),
    ] {
        let minimal = minimise(scenario, &mut crew(does, 1));
        assert!(!minimal.is_confirmed() && !minimal.is_minimal);
        assert_eq!((minimal.rate, &minimal.scenario), (Rate { broken: 0, of }, scenario));
        assert!(minimal.cases <= MOST_REPLAYS + 20, "{}", minimal.cases);
    }
}

#[test]
fn the_same_rule_is_broken_in_every_step_and_each_is_simpler_than_the_one_before() {
    failing(12).iter().for_each(check_steps);
}

fn check_steps(scenario: &Scenario) {
    let mut crew = crew(|scenario| racy(scenario, 1.0), 1);
    let stop = AtomicBool::new(false);
    let bounds = Bounds { budget: Duration::from_secs(300), stop: &stop };
    let subject = subject();
    let mut steps: Vec<Minimal> = Vec::new();
    let failure = Failure { subject: &subject, rule: &RULE, scenario };
    let minimal = failure.minimise(&mut crew, &bounds, &mut |step| steps.push(step.clone())).unwrap();
    assert!(steps.len() > 2 && minimal.is_minimal);
    assert!(minimal.is_measured && minimal.rate.of >= REPLAYS);
    for pair in steps.windows(2) {
        // Tries that ended as soon as they sufficed are no measurement: that comes when nothing more can be taken.
        match pair[1].is_measured {
            true => assert_eq!(pair[1].scenario, pair[0].scenario),
            false => assert!(simpler::weight(&pair[1].scenario) < simpler::weight(&pair[0].scenario)),
        }
    }
    for step in &steps {
        assert!(loses_sessions(&step.scenario), "{}", step.scenario.to_json());
        let trace = step.trace.as_ref().unwrap();
        assert_eq!((&trace.scenario, trace.subject.version.as_str()), (&step.scenario, "broken"));
    }
}

#[test]
fn what_matters_is_marked_and_what_does_not_is_not() {
    let minimal = minimise(&failing(1)[0], &mut crew(|scenario| racy(scenario, 1.0), 1));
    assert_eq!(
        minimal.matters,
        ["script[0]", "script[0].start.as", "script[0].start.script[0]", "ops[1]", "ops[1].do"]
    );
}

#[test]
fn shrinking_ends_in_time_and_keeps_what_was_reached() {
    let scenario = &failing(1)[0];
    let (subject, stop) = (subject(), AtomicBool::new(false));
    let failure = Failure { subject: &subject, rule: &RULE, scenario };
    let bounds = Bounds { budget: Duration::from_secs(300), stop: &stop };
    let mut crew = crew(|scenario| racy(scenario, 1.0), 1);
    let mut last = None;
    let minimal = failure
        .minimise(&mut crew, &bounds, &mut |step| {
            // As Ctrl-C would, after the first step that was taken.
            if step.tries > 0 {
                stop.store(true, std::sync::atomic::Ordering::Relaxed);
                last = Some(step.scenario.clone());
            }
        })
        .unwrap();
    assert!(!minimal.is_minimal);
    assert_eq!(Some(&minimal.scenario), last.as_ref());
    // Nothing was told of the step that was taken last: neither what matters in it nor how often it breaks the rule.
    assert_eq!(minimal.matters, Vec::<String>::new());
    let found = minimal.as_found(&failure, Tier::T3).found.unwrap();
    assert_eq!((minimal.is_measured, found.rate, found.percent), (false, None, None));
    let none = Bounds { budget: Duration::ZERO, stop: &AtomicBool::new(false) };
    assert_eq!(failure.confirm(&mut crew, &none).unwrap().rate, Rate::default());
}

#[test]
fn a_race_that_is_lost_more_often_than_not_is_pinned_as_well() {
    let comes_late = |scenario: &Scenario| match scenario.ops.iter().find(|op| op.verb == Verb::Cancel) {
        Some(cancel) if cancel.after.as_ref().is_some_and(|event| event.as_str() == "root.ready") => {
            Does::Breaks(1.0)
        }
        Some(_) => Does::Breaks(0.65),
        None => Does::NeverComesToThePoint,
    };
    let (scenario, kept) = promote::tests::race();
    let pinned = (0..20).filter(|seed| {
        let mut crew = PaperCrew { kept: Some(kept.clone()), ..crew(comes_late, *seed) };
        let minimal = minimise(&scenario, &mut crew);
        minimal.is_promoted && !minimal.rate.is_racy()
    });
    // By chance one may break so often at first that no gate is looked for.
    let pinned = pinned.count();
    assert!(pinned >= 16, "{pinned} of 20");
}
