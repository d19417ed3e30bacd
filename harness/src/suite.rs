//! A wrapper's own tests: every rule and every scenario file as a named test in `cargo test`.
//!
//! In `Cargo.toml`:
//!
//! ```toml
//! [[test]]
//! name = "leaks"
//! harness = false
//! ```
//!
//! and in `tests/leaks.rs`:
//!
//! ```no_run
//! # use headcount::promises::{Keeps, Promises};
//! # use headcount::subject::{Job, Subject};
//! # use headcount::trace::{Outcome, Reason};
//! # struct Mine;
//! # impl Subject for Mine {
//! #     fn promises(&self) -> Promises { Promises::default() }
//! #     async fn run(&self, _: Job) -> Outcome { std::future::pending().await }
//! # }
//! fn main() -> std::process::ExitCode {
//!     headcount::suite::Suite::new("mine", || Mine).scenarios("scenarios").main()
//! }
//! ```
//!
//! `cargo test --test leaks -- rule::S` runs the survivor rules alone; filters, `--list` and nextest work as with any test.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use libtest_mimic::{Arguments, Failed, Trial};

use crate::audit::tally::Tally;
use crate::crew::{Crew, CrewOptions};
use crate::generate::Generator;
use crate::reentry::{self, Subjects};
use crate::replay;
use crate::rules::facts::Facts;
use crate::rules::{self, Judged, Rule};
use crate::scenario::Scenario;
use crate::subject::{Subject, SubjectSpec};
use crate::trace::{CaseEnd, Trace};
use crate::verdict::{Level, Verdict, VerdictKind};

/// How many cases of a racy failure are run at a time once the first did not show it.
const BATCH: u32 = 8;
/// Seed of the generated cases: fixed, so that a test says the same thing tomorrow.
const SEED: u64 = 1;

/// The tests of one wrapper.
pub struct Suite<F> {
    name: String,
    subject: F,
    scenarios: Option<PathBuf>,
    generated: u32,
    strict: bool,
}

impl<F> std::fmt::Debug for Suite<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Suite").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<S: Subject, F: FnOnce() -> S> Suite<F> {
    /// The tests of the wrapper that `subject` makes.
    pub fn new(name: &str, subject: F) -> Self {
        Self { name: name.to_owned(), subject, scenarios: None, generated: 100, strict: false }
    }

    /// Replays the scenario files of a folder too, each as a test of its own.
    #[must_use]
    pub fn scenarios(mut self, folder: impl Into<PathBuf>) -> Self {
        self.scenarios = Some(folder.into());
        self
    }

    /// How many generated cases the test `generated` runs.
    #[must_use]
    pub fn generated(mut self, cases: u32) -> Self {
        self.generated = cases;
        self
    }

    /// Rules that say *should* count too.
    #[must_use]
    pub fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// Runs the tests as the arguments of this process say.
    ///
    /// To be the body of `main`: this process is started again as the wrapper's host, as a warden and as the fake, and then
    /// does not return from here.
    pub fn main(self) -> ExitCode {
        let Self { name, subject, scenarios, generated, strict } = self;
        reentry::reenter(|| Subjects::new().with(&name, subject()));
        let arguments = Arguments::from_args();
        let spec = SubjectSpec::here(&name);
        let bench = Arc::new(Bench { crew: Mutex::new(None), spec, strict });
        // What was found once comes first.
        let mut trials = match scenarios.as_deref().map(files).transpose() {
            Ok(files) => {
                files.into_iter().flatten().map(|file| trial_of_file(&bench, file)).collect::<Vec<_>>()
            }
            Err(why) => {
                eprintln!("headcount: {why}");
                return ExitCode::from(65);
            }
        };
        trials.extend(trials_of_rules(&bench));
        trials.push(trial("generated", &bench, move |bench| bench.check_generated(generated)));
        let conclusion = libtest_mimic::run(&arguments, trials);
        // The wardens end before the process does.
        drop(bench);
        conclusion.exit_code()
    }
}

fn trial(
    name: &str,
    bench: &Arc<Bench>,
    check: impl FnOnce(&Bench) -> Result<(), Failed> + Send + 'static,
) -> Trial {
    let bench = bench.clone();
    Trial::test(name.to_owned(), move || check(&bench))
}

fn trials_of_rules(bench: &Arc<Bench>) -> Vec<Trial> {
    rules::all()
        .iter()
        .filter(|rule| matches!(rule.judged, Judged::Trace { .. }))
        .map(|rule| trial(&format!("rule::{}", rule.id), bench, move |bench| bench.check_rule(rule)))
        .collect()
}

fn trial_of_file(bench: &Arc<Bench>, file: PathBuf) -> Trial {
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    trial(&format!("scenario::{stem}"), bench, move |bench| bench.check_file(&file))
}

/// The scenario files of a folder, by name.
fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    Ok(files)
}

/// What the tests share: wardens, started when the first test needs them.
struct Bench {
    crew: Mutex<Option<Crew>>,
    spec: SubjectSpec,
    strict: bool,
}

impl Bench {
    fn check_rule(&self, rule: &Rule) -> Result<(), Failed> {
        let Judged::Trace { directed, .. } = &rule.judged else { return Ok(()) };
        let traces = self.run(directed())?;
        for trace in &traces {
            self.demand(rule, trace)?;
        }
        let untested = |trace: &Trace| match rule.judge(&Facts::of(trace)) {
            Verdict::Vacuous(why) | Verdict::Unknown(why) => Some(format!("{}: {why}", trace.scenario.name)),
            Verdict::Kept | Verdict::Broken(_) | Verdict::NotRun(_) => None,
        };
        // A wrapper that starts nothing breaks nothing.
        match traces.iter().map(untested).collect::<Option<Vec<_>>>() {
            Some(reasons) if !reasons.is_empty() => Err(Failed::from(format!(
                "{} was not tested by any case:\n  {}",
                rule.id,
                reasons.join("\n  ")
            ))),
            _ => Ok(()),
        }
    }

    fn check_generated(&self, cases: u32) -> Result<(), Failed> {
        let generator = Generator::new(SEED);
        let traces = self.run((0..u64::from(cases)).map(|index| generator.scenario(index)).collect())?;
        for trace in &traces {
            for rule in rules::all() {
                self.demand(rule, trace)?;
            }
        }
        Ok(())
    }

    /// A racy failure is run as often as its rate asks for until it is seen.
    fn check_file(&self, file: &Path) -> Result<(), Failed> {
        let scenario = Scenario::read(file).map_err(|refused| Failed::from(refused.to_string()))?;
        let expected = scenario.expect.clone().filter(|expect| expect.subject == self.spec.name);
        let Some(expected) = expected.map(|expect| expect.verdicts) else {
            let traces = self.run(vec![scenario])?;
            return traces.iter().try_for_each(|trace| self.check_others(trace, &BTreeMap::new()));
        };
        let wanted = |rule: &&Rule| expected.contains_key(rule.id);
        let mut seen =
            rules::all().iter().filter(wanted).map(|rule| (rule, Tally::default(), None)).collect::<Vec<_>>();
        let mut left = replay::times_not_to_miss(&scenario);
        let mut batch = 1;
        while left > 0 {
            for trace in self.run(vec![scenario.clone(); batch.min(left) as usize])? {
                self.check_others(&trace, &expected)?;
                for (rule, tally, other) in &mut seen {
                    let verdict = rule.judge(&Facts::of(&trace));
                    tally.add(&verdict);
                    if verdict.kind() != expected[rule.id] {
                        other.get_or_insert_with(|| (trace.clone(), verdict));
                    }
                }
            }
            let is_shown = |(rule, tally, _): &(&Rule, Tally, _)| {
                expected[rule.id] == VerdictKind::Broken && tally.combined() == VerdictKind::Broken
            };
            if seen.iter().all(is_shown) {
                break;
            }
            left -= batch.min(left);
            batch = BATCH;
        }
        let unmet = seen.into_iter().find(|(rule, tally, _)| tally.combined() != expected[rule.id]);
        match unmet {
            Some((rule, _, Some((trace, verdict)))) => {
                Err(self.complaint(rule, &trace, &verdict, expected[rule.id].name()))
            }
            _ => Ok(()),
        }
    }

    /// The rules of which a scenario expects nothing of its own.
    fn check_others(&self, trace: &Trace, expected: &BTreeMap<String, VerdictKind>) -> Result<(), Failed> {
        rules::all()
            .iter()
            .filter(|rule| !expected.contains_key(rule.id))
            .try_for_each(|rule| self.demand(rule, trace))
    }

    /// A rule that weighs must not be broken, and the harness must have done its part.
    fn demand(&self, rule: &Rule, trace: &Trace) -> Result<(), Failed> {
        let least = if self.strict { Level::Should } else { Level::Must };
        let verdict = rule.judge(&Facts::of(trace));
        let broken =
            verdict.kind() == VerdictKind::Broken && rule.level_for(&trace.subject.promises) >= least;
        if broken { Err(self.complaint(rule, trace, &verdict, "kept")) } else { Ok(()) }
    }

    fn complaint(&self, rule: &Rule, trace: &Trace, verdict: &Verdict, wanted: &str) -> Failed {
        let (kind, detail) = (verdict.kind().name(), verdict.detail().unwrap_or(""));
        let scenario = &trace.scenario;
        Failed::from(format!(
            "{}: {}\n  {kind}, not {wanted}, in {}: {detail}\n  to replay it, save this as scenarios/{}.json:\n{}",
            rule.id,
            rule.sentence,
            scenario.name,
            scenario.name,
            scenario.to_json(),
        ))
    }

    fn run(&self, scenarios: Vec<Scenario>) -> Result<Vec<Trace>, Failed> {
        let mut crew = self.crew.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if crew.is_none() {
            *crew =
                Some(Crew::start(&CrewOptions::default()).map_err(|error| Failed::from(error.to_string()))?);
        }
        let crew = crew.as_mut().expect("it was just started");
        let traces = crew.run_each(&self.spec, scenarios).map_err(|error| Failed::from(error.to_string()))?;
        match traces.iter().find_map(|trace| match &trace.end {
            CaseEnd::OurFault(why) => Some(format!("{}: the harness failed: {why}", trace.scenario.name)),
            _ => None,
        }) {
            Some(fault) => Err(Failed::from(fault)),
            None => Ok(traces),
        }
    }
}
