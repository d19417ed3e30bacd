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

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use libtest_mimic::{Arguments, Failed, Trial};

use crate::crew::{Crew, CrewError, CrewOptions};
use crate::generate::Generator;
use crate::reentry::{self, Subjects};
use crate::replay::{self, Replayed};
use crate::rules::facts::Facts;
use crate::rules::{self, Judged, Rule};
use crate::scenario::{Refused, Scenario};
use crate::subject::{Subject, SubjectSpec};
use crate::trace::{CaseEnd, Trace};
use crate::verdict::{Level, Verdict, VerdictKind};

/// Seed of the generated cases: fixed, so that a test says the same thing tomorrow.
const SEED: u64 = 1;

/// How often the cases of a rule are run until one of them says something: a machine may stall for as long as all of them take.
const TRIES: usize = 3;

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

    /// Replays the scenario files of a folder and those below it too, each as a test of its own, before everything else. A folder that
    /// holds none ends the tests with 65.
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
        let trials = match trials(&bench, scenarios.as_deref(), generated) {
            Ok(trials) => trials,
            Err(why) => {
                eprintln!("headcount: {why}");
                return ExitCode::from(65);
            }
        };
        let conclusion = libtest_mimic::run(&arguments, trials);
        // The wardens end before the process does.
        drop(bench);
        conclusion.exit_code()
    }
}

/// All the tests, in the order in which they run: what was found once comes first.
fn trials(bench: &Arc<Bench>, scenarios: Option<&Path>, generated: u32) -> Result<Vec<Trial>, Refused> {
    let mut trials = Vec::new();
    if let Some(folder) = scenarios {
        if !folder.is_dir() {
            let problem = "there is no such folder".to_owned();
            return Err(Refused { file: Some(folder.to_owned()), place: String::new(), problem });
        }
        for file in replay::files(&[folder.to_owned()])? {
            trials.push(trial_of_file(bench, folder, file));
        }
    }
    trials.extend(trials_of_rules(bench));
    trials.push(trial("generated", bench, move |bench| bench.check_generated(generated)));
    Ok(trials)
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

fn trial_of_file(bench: &Arc<Bench>, folder: &Path, file: PathBuf) -> Trial {
    let name = file.strip_prefix(folder).unwrap_or(&file).with_extension("");
    trial(&format!("scenario::{}", name.display()), bench, move |bench| bench.check_file(&file))
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
        let mut untested = Vec::new();
        for _ in 0..TRIES {
            untested = match self.untested(rule, directed())? {
                Some(reasons) if !reasons.is_empty() => reasons,
                _ => return Ok(()),
            };
        }
        // A wrapper that starts nothing breaks nothing.
        Err(Failed::from(format!("{} was not tested by any case:\n  {}", rule.id, untested.join("\n  "))))
    }

    /// Why each of the cases says nothing of a rule; nothing if one of them does.
    fn untested(&self, rule: &Rule, scenarios: Vec<Scenario>) -> Result<Option<Vec<String>>, Failed> {
        let traces = self.run(scenarios)?;
        for trace in &traces {
            self.demand(rule, trace)?;
        }
        let untested = |trace: &Trace| match rule.judge(&Facts::of(trace)) {
            Verdict::Vacuous(why) | Verdict::Unknown(why) => Some(format!("{}: {why}", trace.scenario.name)),
            Verdict::Kept | Verdict::Broken(_) | Verdict::NotRun(_) => None,
        };
        Ok(traces.iter().map(untested).collect())
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

    /// What `headcount replay` says of a file, and that no other rule is broken in its cases.
    fn check_file(&self, file: &Path) -> Result<(), Failed> {
        let files = replay::read(&[file.to_owned()])?;
        let rules = rules::all().iter().collect::<Vec<_>>();
        let plan = replay::Plan {
            files: &files,
            subject: &self.spec,
            times: None,
            rules: &rules,
            others: Some(self.least()),
        };
        let replayed = self.with_crew(|crew| replay::run(&plan, crew, &AtomicBool::new(false)))?;
        match replayed.first() {
            Some(replayed) => as_test(replayed),
            None => Err(Failed::from(format!("{}: it was not replayed", file.display()))),
        }
    }

    /// A rule that weighs must not be broken, and the harness must have done its part.
    fn demand(&self, rule: &Rule, trace: &Trace) -> Result<(), Failed> {
        let verdict = rule.judge(&Facts::of(trace));
        let weighs = rule.level_for(&trace.subject.promises) >= self.least();
        if weighs && verdict.kind() == VerdictKind::Broken {
            return Err(complaint(rule, &trace.scenario, verdict.detail().unwrap_or("")));
        }
        Ok(())
    }

    fn least(&self) -> Level {
        if self.strict { Level::Should } else { Level::Must }
    }

    fn run(&self, scenarios: Vec<Scenario>) -> Result<Vec<Trace>, Failed> {
        let traces = self.with_crew(|crew| crew.run_each(&self.spec, scenarios))?;
        match traces.iter().find_map(|trace| match &trace.end {
            CaseEnd::OurFault(why) => Some(format!("{}: the harness failed: {why}", trace.scenario.name)),
            _ => None,
        }) {
            Some(fault) => Err(Failed::from(fault)),
            None => Ok(traces),
        }
    }

    fn with_crew<T>(&self, work: impl FnOnce(&mut Crew) -> Result<T, CrewError>) -> Result<T, Failed> {
        let mut crew = self.crew.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if crew.is_none() {
            *crew =
                Some(Crew::start(&CrewOptions::default()).map_err(|error| Failed::from(error.to_string()))?);
        }
        let worked = work(crew.as_mut().expect("it was just started"));
        if worked.is_err() {
            // It may have lost its wardens, and would then run nothing for the next test.
            *crew = None;
        }
        Ok(worked?)
    }
}

/// What became of a scenario file, as the end of a test.
fn as_test(replayed: &Replayed) -> Result<(), Failed> {
    let told = replayed.unmet.iter().map(|unmet| {
        let sentence = rules::find(&unmet.rule).map_or("", |rule| rule.sentence);
        format!(
            "{}: {sentence}\n  {}, not {}: {}",
            unmet.rule,
            unmet.found.name(),
            unmet.expected.name(),
            unmet.detail.as_deref().unwrap_or("")
        )
    });
    let told = told.collect::<Vec<_>>().join("\n");
    if replayed.is_met() {
        return Ok(());
    }
    Err(Failed::from(format!("{told}\n  in {} cases of {}", replayed.cases, replayed.file.display())))
}

fn complaint(rule: &Rule, scenario: &Scenario, detail: &str) -> Failed {
    Failed::from(format!(
        "{}: {}\n  broken, not kept, in {}: {detail}\n  to replay it, save this as scenarios/{}.json:\n{}",
        rule.id,
        rule.sentence,
        scenario.name,
        scenario.name,
        scenario.to_json(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::{Found, Unmet};

    struct Nobody;

    impl Subject for Nobody {
        fn promises(&self) -> crate::promises::Promises {
            crate::promises::Promises::default()
        }

        async fn run(&self, _: crate::subject::Job) -> crate::trace::Outcome {
            std::future::pending().await
        }
    }

    /// The tests of a wrapper with these scenario files, by name.
    fn names(folder: &Path) -> Result<Vec<String>, Refused> {
        let suite = Suite::new("nobody", || Nobody).scenarios(folder);
        let bench =
            Arc::new(Bench { crew: Mutex::new(None), spec: SubjectSpec::here("nobody"), strict: false });
        let trials = trials(&bench, suite.scenarios.as_deref(), suite.generated)?;
        Ok(trials.iter().map(|trial| trial.name().to_owned()).collect())
    }

    #[test]
    fn what_was_found_comes_first_also_below_and_traces_are_no_scenarios() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("nobody");
        std::fs::create_dir(&below).unwrap();
        // As an audit saves them.
        for file in ["a.json", "a.trace.json", "nobody/generated-1-7.json", "nobody/generated-1-7.trace.json"]
        {
            std::fs::write(folder.path().join(file), "").unwrap();
        }
        let names = names(folder.path()).unwrap();
        assert_eq!(names[..3], ["scenario::a", "scenario::nobody/generated-1-7", "rule::S1"]);
        assert_eq!(names.last().map(String::as_str), Some("generated"));
    }

    #[test]
    fn a_folder_without_scenarios_is_refused_and_so_is_one_that_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        assert!(names(folder.path()).unwrap_err().to_string().contains("holds no scenario"));
        assert!(names(&folder.path().join("missing")).is_err());
    }

    #[test]
    fn a_test_passes_only_if_what_is_expected_was_found() {
        let unmet = |found| Unmet {
            rule: "S4".to_owned(),
            expected: VerdictKind::Broken,
            found,
            detail: Some("nothing came to the point".to_owned()),
            trace: None,
        };
        let replayed = |unmet| Replayed {
            file: "a.json".into(),
            name: "a".to_owned(),
            subject: "nobody".to_owned(),
            cases: 7,
            verdicts: vec![Found { rule: "S4".to_owned(), verdict: VerdictKind::Kept, broken: 0 }],
            unmet,
        };
        assert!(as_test(&replayed(Vec::new())).is_ok());
        for found in [VerdictKind::Kept, VerdictKind::Unknown, VerdictKind::Vacuous, VerdictKind::NotRun] {
            let failed = as_test(&replayed(vec![unmet(found)])).unwrap_err();
            let said = failed.message().unwrap();
            let sentence = rules::find("S4").unwrap().sentence;
            for part in [sentence, found.name(), "not broken", "nothing came", "7 cases of a.json"] {
                assert!(said.contains(part), "{part}: {said}");
            }
        }
    }
}
