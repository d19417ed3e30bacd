//! The harness sees: each animal of the zoo is caught by the rule meant for it and accused by no other, and nobody accuses wrappers
//! that keep a rule.
//!
//! It has a `main` of its own because it is the host of its subjects.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use headcount::crew::{Crew, CrewOptions};
use headcount::reentry;
use headcount::rules::facts::Facts;
use headcount::rules::{self, Judged, Rule};
use headcount::subject::SubjectSpec;
use headcount::trace::{CaseEnd, Trace};
use headcount::verdict::{Verdict, VerdictKind};
use headcount::zoo::survey::{self, Control, Entry, Others, Plan, Shrink, Standing};
use headcount::zoo::{ANIMALS, Animal};
use libtest_mimic::{Arguments, Failed, Trial};

/// Of the directed scenarios that are meant for others, each animal gets one in so many here; `headcount zoo` runs more of them, and
/// generated ones.
const EVERY: usize = 4;
/// How often an animal is tried of which the machine's noise leaves it unknown whether it is broken.
const ATTEMPTS: u32 = 6;
/// How many tests at a time, and how many cases of each: most of them wait for somebody who survives.
const TESTS: usize = 4;
const JOBS: usize = 12;

/// Which rules others break than the animals that are meant for them: what promises more than a group can hold, what is said of two
/// rules at once, and the wrapper that everybody knows.
const BROKEN: &[(&str, &str)] = &[
    ("S6", "zoo:kills-only-the-group"),
    ("S7", "zoo:kills-only-the-group"),
    ("S8", "zoo:trusts-the-leader"),
    ("Z2", "zoo:never-reaps"),
    ("E4", "zoo:keeps-its-umask"),
    ("S7", "tokio"),
    ("X3", "tokio"),
    ("E1", "tokio"),
    ("E2", "tokio"),
    ("T4", "tokio"),
    ("H2", "tokio"),
    ("P3", "tokio"),
    ("P4", "tokio"),
    ("C2", "zoo:forgets-after-the-fork"),
];

/// Which wrapper keeps which rule, in each of its scenarios.
const KEPT: &[(&str, &str)] = &[
    ("S10", "tokio"),
    ("Z3", "tokio"),
    ("S6", "childminder"),
    ("S7", "childminder"),
    ("S8", "childminder"),
    ("S10", "childminder"),
    ("Z3", "childminder"),
    ("D6", "childminder"),
    ("P3", "childminder"),
    ("F5", "childminder"),
    ("F6", "childminder"),
    ("O8", "childminder"),
    ("X3", "childminder"),
    ("X5", "childminder"),
    ("E1", "childminder"),
    ("E2", "childminder"),
    ("F5", "tokio"),
    ("F6", "tokio"),
    ("O8", "tokio"),
    ("O4", "childminder"),
    ("O5", "childminder"),
    ("O6", "childminder"),
    ("O7", "childminder"),
    ("O9", "childminder"),
    ("O10", "childminder"),
    ("D7", "childminder"),
    ("Z2", "childminder"),
    ("T2", "childminder"),
    ("O4", "tokio"),
    ("O5", "tokio"),
    ("O6", "tokio"),
    ("O7", "tokio"),
    ("O9", "tokio"),
    ("O10", "tokio"),
    ("D7", "tokio"),
    ("Z2", "tokio"),
    ("T2", "tokio"),
    ("T3", "childminder"),
    ("T4", "childminder"),
    ("T4", "childminder:streamed"),
    ("E3", "childminder"),
    ("E4", "childminder"),
    ("T3", "tokio"),
    ("E4", "tokio"),
    ("C1", "childminder"),
    ("C2", "childminder"),
    ("C2", "childminder:streamed"),
    ("C2", "childminder:group"),
    ("C3", "childminder"),
    ("C4", "childminder"),
    ("F4", "childminder"),
    ("X4", "childminder"),
    ("X7", "childminder"),
    ("K7", "childminder"),
    ("P4", "childminder"),
    ("C1", "tokio"),
    ("C3", "tokio"),
    ("F4", "tokio"),
    ("X4", "tokio"),
    ("K7", "tokio"),
    ("Z4", "childminder"),
    ("T1", "childminder"),
    ("X6", "childminder"),
    ("H1", "childminder"),
    ("H4", "childminder"),
    ("Z4", "tokio"),
    ("T1", "tokio"),
    ("X6", "tokio"),
    ("H1", "tokio"),
    ("H4", "tokio"),
    ("E3", "childminder:sealed"),
    ("E6", "childminder"),
    ("E6", "tokio"),
    ("H2", "childminder"),
    ("H3", "childminder"),
    ("H3", "tokio"),
    ("S8", "zoo:no-flaw"),
    ("S10", "zoo:no-flaw"),
    ("S10", "zoo:forgets-its-group"),
    ("Z3", "zoo:no-flaw"),
    ("D6", "zoo:no-flaw"),
    ("C1", "zoo:no-flaw"),
    ("C2", "zoo:no-flaw"),
    ("C3", "zoo:no-flaw"),
    ("C4", "zoo:no-flaw"),
    ("F4", "zoo:no-flaw"),
    ("X4", "zoo:no-flaw"),
    ("X7", "zoo:no-flaw"),
    ("K7", "zoo:no-flaw"),
    ("Z4", "zoo:no-flaw"),
    ("T1", "zoo:no-flaw"),
    ("X6", "zoo:no-flaw"),
    ("H1", "zoo:no-flaw"),
    ("H4", "zoo:no-flaw"),
    ("O4", "zoo:no-flaw"),
    ("O5", "zoo:no-flaw"),
    ("O6", "zoo:no-flaw"),
    ("O7", "zoo:no-flaw"),
    ("O9", "zoo:no-flaw"),
    ("O10", "zoo:no-flaw"),
    ("D7", "zoo:no-flaw"),
    ("Z2", "zoo:no-flaw"),
    ("T2", "zoo:no-flaw"),
    ("T3", "zoo:no-flaw"),
    ("T4", "zoo:no-flaw"),
    ("E3", "zoo:no-flaw"),
    ("E4", "zoo:no-flaw"),
];

fn main() -> ExitCode {
    reentry::reenter(headcount::subjects::in_rust);
    let benches = Arc::new(Benches::default());
    let animals = ANIMALS.iter().enumerate().map(|(index, animal)| {
        let benches = benches.clone();
        let rule = animal.rule.and_then(rules::find).expect("each animal has a rule of the catalogue");
        let name = format!("{}_is_caught_by_{}", animal.name, rule.id);
        Trial::test(name, move || benches.catch(animal, index))
            .with_ignored_flag(!matches!(rule.judged, Judged::Trace { .. }))
    });
    let broken = BROKEN.iter().map(|&(rule, subject)| {
        let benches = benches.clone();
        let name = format!("{rule}_is_broken_by_{subject}");
        Trial::test(name, move || benches.check_broken(rule, subject))
    });
    let kept = KEPT.iter().map(|&(rule, subject)| {
        let benches = benches.clone();
        let name = format!("{rule}_is_kept_by_{subject}");
        Trial::test(name, move || benches.check_kept(rule, subject))
    });
    let table = Trial::test("the_table_names_each_animal_once_and_rules_that_there_are", check_table);
    let trials = animals.chain(broken).chain(kept).chain([table]).collect();
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(TESTS);
    let conclusion = libtest_mimic::run(&arguments, trials);
    // The wardens end before the process does.
    drop(benches);
    conclusion.exit_code()
}

fn check_table() -> Result<(), Failed> {
    for (index, animal) in ANIMALS.iter().enumerate() {
        if ANIMALS[..index].iter().any(|other| other.name == animal.name) {
            return Err(format!("{} is named twice", animal.name).into());
        }
        let unknown = animal.related.iter().find(|(rule, why)| rules::find(rule).is_none() || why.is_empty());
        if let Some((rule, _)) = unknown {
            return Err(format!("{}: {rule} is no rule, or is related without a reason", animal.name).into());
        }
    }
    if ANIMALS.len() < 28 || ANIMALS.iter().filter(|animal| animal.one_in > 1).count() < 3 {
        return Err("the zoo is too small".into());
    }
    Ok(())
}

/// What tests that run at the same time do not share.
#[derive(Default)]
struct Benches {
    free: Mutex<Vec<Bench>>,
    /// What is known of the keeper without a flaw.
    control: Control,
    /// Held for reading by those who share the machine, for writing by one who wants it alone.
    machine: RwLock<()>,
}

impl Benches {
    fn at_one<T>(&self, work: impl FnOnce(&mut Bench) -> T) -> T {
        let free = || self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let bench = free().pop();
        let mut bench = bench.unwrap_or_default();
        let result = work(&mut bench);
        free().push(bench);
        result
    }

    /// In a crowd lateness proves little: what was not seen there is tried again alone.
    fn attempt<T>(&self, attempt: u32, work: impl FnOnce(&mut Bench) -> T) -> T {
        let _shared = (attempt == 0).then(|| self.machine.read().unwrap_or_else(PoisonError::into_inner));
        let _alone = (attempt > 0).then(|| self.machine.write().unwrap_or_else(PoisonError::into_inner));
        self.at_one(work)
    }

    fn check_broken(&self, rule: &str, subject: &str) -> Result<(), Failed> {
        let rule = rules::find(rule).ok_or("no such rule")?;
        let mut told = Vec::new();
        for attempt in 0..ATTEMPTS {
            let verdicts = self.attempt(attempt, |bench| bench.verdicts(rule, subject))?;
            if verdicts.iter().any(is(VerdictKind::Broken)) {
                return Ok(());
            }
            told.extend(verdicts);
        }
        Err(format!("{told:#?}").into())
    }

    fn check_kept(&self, rule: &str, subject: &str) -> Result<(), Failed> {
        let rule = rules::find(rule).ok_or("no such rule")?;
        let mut told = Vec::new();
        for attempt in 0..ATTEMPTS {
            let verdicts = self.attempt(attempt, |bench| {
                let traces = bench.traces(rule, subject)?;
                match traces.iter().find(|trace| never_finished(trace)) {
                    Some(trace) => Err(format!("{}: the host never finished", trace.scenario.name).into()),
                    None => judged(rule, &traces),
                }
            })?;
            if verdicts.iter().any(is(VerdictKind::Broken)) {
                return Err(format!("{verdicts:#?}").into());
            }
            if verdicts.iter().any(is(VerdictKind::Kept)) {
                return Ok(());
            }
            told.extend(verdicts);
        }
        Err(format!("{told:#?}").into())
    }

    fn catch(&self, animal: &'static Animal, index: usize) -> Result<(), Failed> {
        let mut told = String::new();
        let mut accusers = BTreeSet::new();
        for attempt in 0..ATTEMPTS {
            let offset = index + attempt as usize;
            let entry = self.attempt(attempt, |bench| bench.look_at(animal, offset, &self.control))?;
            if entry.standing() == Standing::AsMeant {
                return Ok(());
            }
            told = format!("{entry:#?}");
            // What was said once and not again of a wrapper that does so much wrong is printed, and looked into by hand: the survey, which is
            // no gate, tells each. Of the wrapper without a flaw once is too often.
            let strays = entry.strays().map(|stray| stray.rule).collect::<BTreeSet<_>>();
            if !accusers.is_disjoint(&strays) || entry.is_caught() && strays.is_empty() {
                break;
            }
            if !strays.is_empty() {
                eprintln!("{} is looked at again, accused by {strays:?}: {told}", animal.name);
            }
            accusers.extend(strays);
        }
        Err(told.into())
    }
}

/// Wardens, started when the first test needs them.
#[derive(Default)]
struct Bench {
    crew: Option<Crew>,
}

impl Bench {
    fn crew(crew: &mut Option<Crew>) -> Result<&mut Crew, Failed> {
        if crew.is_none() {
            *crew = Some(Crew::start(&CrewOptions { jobs: JOBS, tier: None })?);
        }
        Ok(crew.as_mut().expect("it was just started"))
    }

    fn look_at(&mut self, animal: &'static Animal, index: usize, control: &Control) -> Result<Entry, Failed> {
        // Nothing generated: who is caught here is caught for certain, or by its own chance alone.
        let plan = Plan {
            animals: vec![animal],
            cases: 0,
            budget: None,
            seed: 1,
            others: Others::Every(EVERY),
            from: index,
            shrink: Shrink::Not,
            compare_plain: false,
        };
        let crews = std::slice::from_mut(Self::crew(&mut self.crew)?);
        let mut survey = survey::run(&plan, control, crews, &mut (), &AtomicBool::new(false));
        match (survey.fault, survey.control.as_slice(), survey.animals.pop()) {
            (Some(fault), ..) => Err(fault.into()),
            (None, [], Some(entry)) => Ok(entry),
            (None, accused, _) => {
                Err(format!("a false alarm, at the keeper without a flaw: {accused:#?}").into())
            }
        }
    }

    /// The verdicts of a rule on its own scenarios, each once.
    fn verdicts(&mut self, rule: &Rule, subject: &str) -> Result<Vec<(String, Verdict)>, Failed> {
        judged(rule, &self.traces(rule, subject)?)
    }

    fn traces(&mut self, rule: &Rule, subject: &str) -> Result<Vec<Trace>, Failed> {
        Ok(Self::crew(&mut self.crew)?.run_each(&SubjectSpec::here(subject), rule.directed())?)
    }
}

/// The machine may have stalled for as long as a host may be silent; that is tried again.
fn never_finished(trace: &Trace) -> bool {
    const STALL_US: u64 = 500_000;
    trace.end == CaseEnd::HostSilent && trace.noise.max_us < STALL_US
}

fn judged(rule: &Rule, traces: &[Trace]) -> Result<Vec<(String, Verdict)>, Failed> {
    let judged = |trace: &Trace| match &trace.end {
        CaseEnd::OurFault(why) => Err(format!("{}: {why}", trace.scenario.name).into()),
        _ => Ok((trace.scenario.name.clone(), rule.judge(&Facts::of(trace)))),
    };
    traces.iter().map(judged).collect()
}

fn is(kind: VerdictKind) -> impl Fn(&(String, Verdict)) -> bool {
    move |(_, verdict)| verdict.kind() == kind
}
