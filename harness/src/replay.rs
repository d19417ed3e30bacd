//! Replaying scenario files: each as often as asked for, against what it expects.
//!
//! A replay takes the same path as an audit: a source of scenarios, a crew, the rules. A scenario that expects nothing of a
//! subject must break no rule that weighs *must* for it.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use fake_cli::control::Report;
use serde::Serialize;

use crate::audit::RunsCases;
use crate::audit::tally::Tally;
use crate::crew::{CrewError, Source};
use crate::promises::Promises;
use crate::rules::Rule;
use crate::rules::facts::Facts;
use crate::scenario::{Expect, Refused, Scenario, Verb};
use crate::subject::SubjectSpec;
use crate::trace::{CaseEnd, Trace, What};
use crate::verdict::{Level, Verdict, VerdictKind};

/// Deepest folder below the one given that is searched.
const MOST_FOLDERS: usize = 8;
/// Most files that are read.
const MOST_FILES: usize = 10_000;
/// Why a case that ran says nothing.
const NO_CHILD: &str = "the child, which is the fake, never started: does the wrapper start it at all?";
/// How often a case is run again where the machine was too busy to tell.
const MORE_TRIES: u32 = 3;
/// How often a racy failure is run at most where nobody says how often.
const MOST_TIMES: u64 = 300;

/// How often one that was found and never measured is run at most.
const TIMES_UNMEASURED: u32 = 10;
/// What its not being seen in so few cases may mean.
const NEVER_MEASURED: &str =
    "how often it happens was never measured: it may be rarer than so few cases show; `--times N` runs more";

/// A scenario with the file that it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScenarioFile {
    /// The file.
    pub path: PathBuf,
    /// What stands in it.
    pub scenario: Scenario,
}

/// The scenarios of files and folders: see [`files`].
///
/// # Errors
///
/// The first file that is refused; a folder without scenarios.
pub fn read(paths: &[PathBuf]) -> Result<Vec<ScenarioFile>, Refused> {
    files(paths)?
        .into_iter()
        .map(|path| Scenario::read(&path).map(|scenario| ScenarioFile { path, scenario }))
        .collect()
}

/// The scenario files of these files and folders: of a folder every `*.json` in it and below, in the order of their names, traces left
/// out. None of them is read.
///
/// # Errors
///
/// A folder that cannot be read, is too large or holds none.
pub fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Refused> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let before = files.len();
            collect(path, MOST_FOLDERS, &mut files)?;
            if files.len() == before {
                return Err(refused(path, "holds no scenario; they end in .json"));
            }
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

fn collect(folder: &Path, levels: usize, files: &mut Vec<PathBuf>) -> Result<(), Refused> {
    let failed = |error: std::io::Error| refused(folder, &format!("cannot be read: {error}"));
    let mut entries = std::fs::read_dir(folder)
        .and_then(|entries| entries.collect::<Result<Vec<_>, _>>())
        .map_err(failed)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let kind = entry.file_type().map_err(failed)?;
        if name.starts_with('.') {
            continue;
        }
        if kind.is_dir() && levels > 0 {
            collect(&entry.path(), levels - 1, files)?;
        } else if name.ends_with(".json") && !name.ends_with(".trace.json") {
            files.push(entry.path());
        }
        if files.len() > MOST_FILES {
            return Err(refused(folder, &format!("more than {MOST_FILES} files; name a smaller folder")));
        }
    }
    Ok(())
}

fn refused(path: &Path, problem: &str) -> Refused {
    Refused { file: Some(path.to_owned()), place: String::new(), problem: problem.to_owned() }
}

/// How often a scenario is to be run so that what it was found by is not missed: as its recorded rate asks for, within a bound; a few
/// times where it was found and nobody knows how often it happens.
pub fn times_not_to_miss(scenario: &Scenario) -> u32 {
    match scenario.found.as_ref().map(|found| found.rate) {
        Some(Some(rate)) => rate.times_not_to_miss().min(MOST_TIMES) as u32,
        Some(None) => TIMES_UNMEASURED,
        None => 1,
    }
}

/// What became of one scenario.
#[derive(Clone, Debug, Serialize)]
pub struct Replayed {
    /// The file.
    pub file: PathBuf,
    /// The scenario's name.
    pub name: String,
    /// The subject that it was replayed with.
    pub subject: String,
    /// How many cases ran.
    pub cases: u64,
    /// Every rule with a verdict.
    pub verdicts: Vec<Found>,
    /// What is not as expected. Nothing here: the expectation is met.
    pub unmet: Vec<Unmet>,
}

impl Replayed {
    /// Whether it is as expected.
    pub fn is_met(&self) -> bool {
        self.unmet.is_empty()
    }
}

/// What the cases of a scenario say of a rule together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    /// The rule's id.
    pub rule: String,
    /// The combined verdict.
    pub verdict: VerdictKind,
    /// In how many cases it was broken.
    pub broken: u64,
}

/// What is not as expected.
#[derive(Clone, Debug, Serialize)]
pub struct Unmet {
    /// The rule's id.
    pub rule: String,
    /// What was expected.
    pub expected: VerdictKind,
    /// What was found.
    pub found: VerdictKind,
    /// The evidence or the reason.
    pub detail: Option<String>,
    /// A case that shows it.
    #[serde(skip)]
    pub trace: Option<Box<Trace>>,
}

/// What to replay.
pub struct Plan<'a> {
    /// The scenarios.
    pub files: &'a [ScenarioFile],
    /// The subject.
    pub subject: &'a SubjectSpec,
    /// How often each is run. Nothing: one that expects something of this subject as often as its recorded rate asks for, but no longer
    /// than until every rule that it expects to be broken is; others once.
    pub times: Option<u32>,
    /// The rules to judge.
    pub rules: &'a [&'static Rule],
    /// Where a file expects something of this subject: from which level on no other rule may be broken. Nothing: what others say is no
    /// matter.
    pub others: Option<Level>,
}

/// Replays scenarios and tells of each whether it is as expected, in the order of the files. Of those that were not run as often as they
/// should, because it was interrupted, nothing is told.
///
/// # Errors
///
/// When the harness itself cannot go on.
pub fn run(plan: &Plan<'_>, crew: &mut dyn RunsCases, stop: &AtomicBool) -> Result<Vec<Replayed>, CrewError> {
    let mut source = ReplaySource::new(plan, stop);
    crew.run(plan.subject, &mut source)?;
    let ReplaySource { files, queue, .. } = source;
    // What was given out and did not come back was put back, and is in no queue.
    let is_done = |(index, file): &(usize, FileState<'_>)| {
        file.is_satisfied(plan) || (file.under_way == 0 && !queue.contains(index))
    };
    Ok(files.into_iter().enumerate().filter(is_done).map(|(_, file)| file.finish(plan)).collect())
}

/// Gives each scenario as often as asked for, side by side.
struct ReplaySource<'a> {
    plan: &'a Plan<'a>,
    stop: &'a AtomicBool,
    queue: VecDeque<usize>,
    files: Vec<FileState<'a>>,
}

/// What is known of one scenario so far.
struct FileState<'a> {
    file: &'a ScenarioFile,
    tallies: Vec<Tally>,
    cases: u64,
    /// Whether the wrapper started the child in any case.
    had_children: bool,
    under_way: u32,
    tries_left: u32,
    promises: Promises,
    shown: Vec<Option<(Box<Trace>, String)>>,
    last: Option<Box<Trace>>,
}

impl<'a> ReplaySource<'a> {
    fn new(plan: &'a Plan<'a>, stop: &'a AtomicBool) -> Self {
        let state = |file| FileState {
            file,
            tallies: vec![Tally::default(); plan.rules.len()],
            cases: 0,
            had_children: false,
            under_way: 0,
            tries_left: MORE_TRIES,
            promises: Promises::default(),
            shown: vec![None; plan.rules.len()],
            last: None,
        };
        let files = plan.files.iter().map(state).collect::<Vec<_>>();
        let times = files.iter().map(|file| file.times(plan)).collect::<Vec<_>>();
        let most = times.iter().copied().max().unwrap_or_default();
        // All of them once, then those again that are to be run more often.
        let times = &times;
        let turn = |turn| (0..times.len()).filter(move |&index| turn < times[index]);
        let queue = (0..most).flat_map(turn).collect();
        Self { plan, stop, queue, files }
    }
}

impl Source for ReplaySource<'_> {
    fn next(&mut self) -> Option<Scenario> {
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        let index = loop {
            let index = self.queue.pop_front()?;
            if !self.files[index].is_satisfied(self.plan) {
                break index;
            }
        };
        self.files[index].under_way += 1;
        Some(self.files[index].file.scenario.clone())
    }

    fn take(&mut self, trace: Trace) -> bool {
        // Two files may hold the same scenario.
        let is_it = |state: &FileState<'_>| state.under_way > 0 && state.file.scenario == trace.scenario;
        let index = self.files.iter().position(is_it).expect("the crew gives back what it was given");
        let facts = Facts::of(&trace);
        let verdicts = self.plan.rules.iter().map(|rule| rule.judge(&facts)).collect::<Vec<_>>();
        let state = &mut self.files[index];
        state.under_way -= 1;
        if state.tries_left > 0 && state.is_undecided(self.plan, &trace, &verdicts) {
            state.tries_left -= 1;
            self.queue.push_back(index);
        } else {
            state.take(trace, &verdicts);
        }
        !self.stop.load(Ordering::Relaxed)
    }
}

impl FileState<'_> {
    fn times(&self, plan: &Plan<'_>) -> u32 {
        let is_judged = self.judged(plan).next().is_some();
        plan.times.unwrap_or_else(|| if is_judged { times_not_to_miss(&self.file.scenario) } else { 1 })
    }

    /// Whether another case could change nothing, where nobody asked for more.
    fn is_satisfied(&self, plan: &Plan<'_>) -> bool {
        let is_broken = |(index, expected): (usize, VerdictKind)| {
            expected == VerdictKind::Broken && self.tallies[index].combined() == VerdictKind::Broken
        };
        let mut judged = self.judged(plan).peekable();
        plan.times.is_none() && judged.peek().is_some() && judged.all(is_broken)
    }

    /// The rules that are judged of which something is expected, by their place in the plan, with what. Of those that nobody asked for
    /// no case tells anything.
    fn judged<'a>(&'a self, plan: &'a Plan<'_>) -> impl Iterator<Item = (usize, VerdictKind)> + 'a {
        let verdicts = self.expected(plan).into_iter().flat_map(|expected| &expected.verdicts);
        verdicts.filter_map(|(rule, &expected)| {
            Some((plan.rules.iter().position(|candidate| candidate.id == rule)?, expected))
        })
    }

    /// Whether it was run a few times only because nobody knows how often it happens.
    fn is_unmeasured(&self, plan: &Plan<'_>) -> bool {
        plan.times.is_none() && self.file.scenario.found.as_ref().is_some_and(|found| found.rate.is_none())
    }

    /// Whether what is expected could not be told, because the machine was busy or the harness failed.
    fn is_undecided(&self, plan: &Plan<'_>, trace: &Trace, verdicts: &[Verdict]) -> bool {
        let expected = self.expected(plan);
        let asked = |rule: &Rule| expected.is_none_or(|expected| expected.verdicts.contains_key(rule.id));
        let weighs = |rule: &Rule| rule.level_for(&trace.subject.promises) == Level::Must;
        matches!(trace.end, CaseEnd::OurFault(_))
            || plan.rules.iter().zip(verdicts).any(|(rule, verdict)| {
                verdict.kind() == VerdictKind::Unknown && asked(rule) && (expected.is_some() || weighs(rule))
            })
    }

    fn take(&mut self, trace: Trace, verdicts: &[Verdict]) {
        self.had_children |= trace.moments.iter().any(|moment| is_hello_of_child(&moment.what));
        self.cases += u64::from(matches!(trace.end, CaseEnd::Completed | CaseEnd::HostSilent));
        self.promises = trace.subject.promises;
        let trace = Box::new(trace);
        for (index, verdict) in verdicts.iter().enumerate() {
            self.tallies[index].add(verdict);
            if let Verdict::Broken(finding) = verdict {
                self.shown[index].get_or_insert_with(|| (trace.clone(), finding.sentence.clone()));
            }
        }
        self.last = Some(trace);
    }

    /// What the file expects of this subject. What it expects of another says nothing of this one.
    fn expected(&self, plan: &Plan<'_>) -> Option<&Expect> {
        let is_of_it = |expect: &&Expect| expect.subject == plan.subject.name && !expect.verdicts.is_empty();
        self.file.scenario.expect.as_ref().filter(is_of_it)
    }

    fn finish(mut self, plan: &Plan<'_>) -> Replayed {
        let unmet = match self.expected(plan).cloned() {
            Some(expect) => {
                let wanted = expect.verdicts.iter();
                let unmet = wanted.filter_map(|(rule, &expected)| self.compare(plan, rule, expected));
                let mut unmet = unmet.collect::<Vec<_>>();
                if let Some(least) = plan.others {
                    unmet.extend(self.broken(plan, least, |rule| !expect.verdicts.contains_key(rule.id)));
                }
                unmet
            }
            None => {
                let mut unmet = self.broken(plan, plan.others.unwrap_or(Level::Must), |_| true);
                if self.cases == 0 || !(self.had_children || may_have_no_child(&self.file.scenario)) {
                    unmet.push(self.nothing_ran());
                }
                unmet
            }
        };
        let found = plan.rules.iter().zip(&self.tallies).map(|(rule, tally)| Found {
            rule: rule.id.to_owned(),
            verdict: tally.combined(),
            broken: tally.broken(),
        });
        Replayed {
            file: self.file.path.clone(),
            name: self.file.scenario.name.clone(),
            subject: plan.subject.name.clone(),
            cases: self.cases,
            verdicts: found.filter(|found| found.verdict != VerdictKind::NotRun).collect(),
            unmet,
        }
    }

    /// The rules among these that weigh at least so much and are broken.
    fn broken(&mut self, plan: &Plan<'_>, least: Level, among: impl Fn(&Rule) -> bool) -> Vec<Unmet> {
        let weighs = |rule: &&&'static Rule| among(rule) && rule.level_for(&self.promises) >= least;
        let ids = plan.rules.iter().filter(weighs).map(|rule| rule.id).collect::<Vec<_>>();
        let broken = ids.into_iter().filter_map(|id| {
            let unmet = self.compare(plan, id, VerdictKind::Kept)?;
            (unmet.found == VerdictKind::Broken).then_some(unmet)
        });
        broken.collect()
    }

    fn nothing_ran(&self) -> Unmet {
        let why = self.last.as_ref().map(|trace| match &trace.end {
            CaseEnd::OurFault(why) | CaseEnd::Inapplicable(why) => why.clone(),
            CaseEnd::Completed | CaseEnd::HostSilent => NO_CHILD.to_owned(),
        });
        Unmet {
            rule: "any".to_owned(),
            expected: VerdictKind::Kept,
            found: VerdictKind::NotRun,
            detail: why,
            trace: None,
        }
    }

    /// How a rule differs from what is expected of it, if it does.
    fn compare(&mut self, plan: &Plan<'_>, rule: &str, expected: VerdictKind) -> Option<Unmet> {
        let Some(index) = plan.rules.iter().position(|candidate| candidate.id == rule) else {
            return Some(Unmet {
                rule: rule.to_owned(),
                expected,
                found: VerdictKind::NotRun,
                detail: Some("it was not asked for".to_owned()),
                trace: None,
            });
        };
        let tally = &self.tallies[index];
        let found = tally.combined();
        if found == expected {
            return None;
        }
        let (trace, detail) = match self.shown[index].take() {
            Some((trace, sentence)) => (Some(trace), Some(sentence)),
            None if expected == VerdictKind::Broken
                && found == VerdictKind::Kept
                && self.is_unmeasured(plan) =>
            {
                (self.last.clone(), Some(NEVER_MEASURED.to_owned()))
            }
            None => (self.last.clone(), tally.why(found).map(str::to_owned)),
        };
        Some(Unmet { rule: rule.to_owned(), expected, found, detail, trace })
    }
}

/// Whether a node of a run says that it is there.
fn is_hello_of_child(what: &What) -> bool {
    matches!(what, What::Node { run, said: Report::Hello(_), .. } if *run > 0)
}

/// Whether there need be no child to be seen: each of its starts fails for certain, or the first stop waits for nothing, and may come
/// before the child says a word.
fn may_have_no_child(scenario: &Scenario) -> bool {
    let mut runs = scenario.ops.iter().filter(|op| op.verb == Verb::Run);
    let first_stop = scenario.ops.iter().find(|op| op.verb.stops());
    runs.all(|run| run.hindered_by.is_some_and(|by| by.is_in_program()))
        || first_stop.is_some_and(|stop| stop.after.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::tally::tests::RULES;
    use crate::crew::Effort;
    use crate::report::timeline::tests::cancelled_tree;
    use crate::trace::Tier;

    /// Answers each scenario with a hand-made trace.
    struct PaperCrew;

    impl RunsCases for PaperCrew {
        fn tier(&self) -> Tier {
            Tier::T3
        }

        fn effort(&self) -> Effort {
            Effort::default()
        }

        fn run(&mut self, subject: &SubjectSpec, source: &mut dyn Source) -> Result<(), CrewError> {
            while let Some(scenario) = source.next() {
                let mut trace = Trace { scenario, ..cancelled_tree() };
                if trace.scenario.name.contains("childless") {
                    trace.moments.retain(|moment| !is_hello_of_child(&moment.what));
                }
                trace.subject.name = subject.name.clone();
                source.take(trace);
            }
            Ok(())
        }
    }

    fn file(name: &str, expect: &str) -> ScenarioFile {
        let text = format!(
            r#"{{"schema": 1, "name": "{name}", "why": "a test", "script": ["hang"], "ops": [{{"do": "run"}}]{expect}}}"#
        );
        ScenarioFile { path: format!("{name}.json").into(), scenario: Scenario::from_json(&text).unwrap() }
    }

    fn replay(name: &str, expect: &str, times: u32) -> Replayed {
        let subject = SubjectSpec::here("childminder");
        let files = [file(name, expect)];
        let rules = RULES.iter().collect::<Vec<_>>();
        let plan = Plan { files: &files, subject: &subject, times: Some(times), rules: &rules, others: None };
        run(&plan, &mut PaperCrew, &AtomicBool::new(false)).unwrap().remove(0)
    }

    #[test]
    fn a_racy_failure_is_run_as_often_as_its_rate_asks_for_until_it_is_seen() {
        let subject = SubjectSpec::here("childminder");
        let rules = RULES.iter().collect::<Vec<_>>();
        let expects = |verdict: &str| {
            format!(
                r#", "expect": {{"subject": "childminder", "verdicts": {{"S1": "{verdict}"}}}}, "found": {{"rule": "S1",
                "rate": {{"broken": 10, "of": 20}}, "when": "2026-11-23", "tier": "t3", "case": "a", "version": "0"}}"#
            )
        };
        let cases = |name: &str, verdict: &str, times, stop: bool| {
            let files = [file(name, &expects(verdict)), file("fine", "")];
            let plan = Plan { files: &files, subject: &subject, times, rules: &rules, others: None };
            let replayed = run(&plan, &mut PaperCrew, &AtomicBool::new(stop)).unwrap();
            replayed.iter().map(|replayed| (replayed.cases, replayed.is_met())).collect::<Vec<_>>()
        };
        assert_eq!(cases("broken", "broken", None, false), [(1, true), (1, true)]);
        assert_eq!(cases("broken", "broken", Some(7), false), [(7, true), (7, true)]);
        // Not seen is told when it would have been; so is that what was mended stays so.
        assert_eq!(cases("fine-now", "broken", None, false), [(20, false), (1, true)]);
        assert_eq!(cases("mended", "kept", None, false), [(20, true), (1, true)]);
        assert_eq!(cases("broken", "broken", None, true), []);
    }

    #[test]
    fn a_failure_whose_rate_nobody_knows_is_run_a_few_times() {
        let found =
            r#""found": {"rule": "S1", "when": "2026-11-23", "tier": "t3", "case": "a", "version": "0"}"#;
        let times = |more: &str| times_not_to_miss(&file("a", more).scenario);
        assert_eq!((times(""), times(&format!(", {found}"))), (1, 10));
        let detail = |rate: &str, times: Option<u32>| {
            let found = found.replace(r#""when""#, &format!(r#"{rate} "when""#));
            let expect = r#""expect": {"subject": "childminder", "verdicts": {"S1": "broken"}}"#;
            let (files, subject) =
                ([file("fine-now", &format!(", {expect}, {found}"))], SubjectSpec::here("childminder"));
            let rules = RULES.iter().collect::<Vec<_>>();
            let plan = Plan { files: &files, subject: &subject, times, rules: &rules, others: None };
            let mut replayed = run(&plan, &mut PaperCrew, &AtomicBool::new(false)).unwrap();
            let unmet = replayed.remove(0).unmet.remove(0);
            unmet.detail.unwrap_or_default()
        };
        // Not seen in so few cases is not mended.
        assert_eq!(detail("", None), NEVER_MEASURED);
        assert_eq!(detail(r#""rate": {"broken": 10, "of": 20},"#, None), "");
        assert_eq!(detail("", Some(50)), "");
    }

    #[test]
    fn what_nobody_asked_for_is_run_once_and_of_the_rest_as_often_as_is_needed() {
        let subject = SubjectSpec::here("childminder");
        let expects = |verdicts: &str| {
            format!(
                r#", "expect": {{"subject": "childminder", "verdicts": {{{verdicts}}}}}, "found": {{"rule": "S1",
                "rate": {{"broken": 10, "of": 20}}, "when": "2026-11-23", "tier": "t3", "case": "a", "version": "0"}}"#
            )
        };
        let d1 = RULES.iter().filter(|rule| rule.id == "D1").collect::<Vec<_>>();
        let replayed = |name: &str, verdicts: &str| {
            let files = [file(name, &expects(verdicts))];
            let plan = Plan { files: &files, subject: &subject, times: None, rules: &d1, others: None };
            let replayed = run(&plan, &mut PaperCrew, &AtomicBool::new(false)).unwrap().remove(0);
            (replayed.cases, replayed.unmet.len())
        };
        assert_eq!(replayed("broken", r#""S1": "broken""#), (1, 1));
        assert_eq!(replayed("broken", r#""S1": "broken", "D1": "broken""#), (1, 1));
        assert_eq!(replayed("fine", r#""S1": "broken", "D1": "broken""#), (20, 2));
    }

    /// As a crew does when it is stopped while a case waits for its turn: what was put back does not come back.
    struct StoppedCrew<'a> {
        stop: &'a AtomicBool,
        lost: &'a str,
    }

    impl RunsCases for StoppedCrew<'_> {
        fn tier(&self) -> Tier {
            Tier::T3
        }

        fn effort(&self) -> Effort {
            Effort::default()
        }

        fn run(&mut self, _subject: &SubjectSpec, source: &mut dyn Source) -> Result<(), CrewError> {
            while let Some(scenario) = source.next() {
                if scenario.name == self.lost {
                    self.stop.store(true, Ordering::Relaxed);
                } else {
                    source.take(Trace { scenario, ..cancelled_tree() });
                }
            }
            Ok(())
        }
    }

    #[test]
    fn of_what_was_interrupted_before_its_case_ran_nothing_is_told() {
        let (subject, stop) = (SubjectSpec::here("childminder"), AtomicBool::new(false));
        let expect = r#", "expect": {"subject": "childminder", "verdicts": {"S1": "kept"}}"#;
        let files = ["first", "put-back", "never-given"].map(|name| file(name, expect));
        let rules = RULES.iter().collect::<Vec<_>>();
        let plan = Plan { files: &files, subject: &subject, times: None, rules: &rules, others: None };
        let told = run(&plan, &mut StoppedCrew { stop: &stop, lost: "put-back" }, &stop).unwrap();
        assert_eq!(told.iter().map(|replayed| replayed.name.as_str()).collect::<Vec<_>>(), ["first"]);
    }

    #[test]
    fn beside_what_is_expected_other_rules_count_where_that_is_asked_for() {
        let subject = SubjectSpec::here("childminder");
        let files =
            [file("broken", r#", "expect": {"subject": "childminder", "verdicts": {"S1": "broken"}}"#)];
        let rules = RULES.iter().collect::<Vec<_>>();
        let unmet = |others| {
            let plan = Plan { files: &files, subject: &subject, times: None, rules: &rules, others };
            let replayed = run(&plan, &mut PaperCrew, &AtomicBool::new(false)).unwrap().remove(0);
            replayed.unmet.into_iter().map(|unmet| unmet.rule).collect::<Vec<_>>()
        };
        assert_eq!(unmet(None), Vec::<String>::new());
        assert_eq!(unmet(Some(Level::Must)), ["D1"]);
        assert_eq!(unmet(Some(Level::Info)), ["D1", "P1"]);
    }

    #[test]
    fn without_an_expectation_no_must_rule_may_be_broken() {
        assert!(replay("fine", "", 3).is_met());
        assert_eq!(replay("fine", "", 3).cases, 3);
        let replayed = replay("broken", "", 1);
        let unmet = replayed.unmet.iter().map(|unmet| unmet.rule.as_str()).collect::<Vec<_>>();
        // P1 weighs nothing for this subject.
        assert_eq!(unmet, ["S1", "D1"]);
        assert_eq!(replayed.unmet[0].detail.as_deref(), Some("broken left 2"));
        assert!(replayed.unmet[0].trace.is_some());
    }

    #[test]
    fn nothing_is_met_where_no_child_ran() {
        let replayed = replay("childless", "", 2);
        assert_eq!((replayed.is_met(), replayed.cases), (false, 2));
        assert!(replayed.unmet[0].detail.as_ref().unwrap().contains("never started"));
        // Unless none can start, which is what the case is about.
        let hindered = file("childless", "")
            .scenario
            .to_json()
            .replace(r#""run""#, r#""run", "hindered-by": "missing-program""#);
        assert!(may_have_no_child(&Scenario::from_json(&hindered).unwrap()));
        // Or it may be stopped before it says a word.
        let with_stop = |gate: &str| {
            let mut scenario = file("childless", "").scenario;
            let ops = format!(r#"[{{"do": "run"}}, {{"do": "cancel"{gate}}}]"#);
            scenario.ops = serde_json::from_str(&ops).unwrap();
            may_have_no_child(&scenario)
        };
        assert_eq!((with_stop(""), with_stop(r#", "after": "root.ready""#)), (true, false));
    }

    #[test]
    fn an_expectation_is_met_exactly_or_not_at_all() {
        let expect = |rule: &str, verdict: &str, subject: &str| {
            format!(r#", "expect": {{"subject": "{subject}", "verdicts": {{"{rule}": "{verdict}"}}}}"#)
        };
        assert!(replay("broken", &expect("S1", "broken", "childminder"), 2).is_met());
        assert!(replay("fine", &expect("S1", "kept", "childminder"), 1).is_met());
        let unmet = replay("fine", &expect("S1", "broken", "childminder"), 1).unmet;
        assert_eq!((unmet[0].expected, unmet[0].found), (VerdictKind::Broken, VerdictKind::Kept));
        // Of a rule that nobody asked for nothing is known, however often it is run.
        let unmet = replay("fine", &expect("O1", "broken", "childminder"), 1).unmet;
        assert_eq!((unmet[0].expected, unmet[0].found), (VerdictKind::Broken, VerdictKind::NotRun));
        // Who expects nothing of any rule is held to what everyone is held to.
        let nothing = r#", "expect": {"subject": "childminder", "verdicts": {}}"#;
        assert_eq!(replay("broken", nothing, 1).unmet[0].rule, "S1");
        // What is expected of another subject is not expected of this one.
        assert!(replay("fine", &expect("S1", "broken", "tokio"), 1).is_met());
    }

    #[test]
    fn a_case_that_could_not_be_told_is_tried_again_a_few_times() {
        let replayed = replay("unknown", "", 1);
        assert_eq!(replayed.cases, 1);
        let found = replayed.verdicts.iter().find(|found| found.rule == "S1").unwrap();
        assert_eq!(found.verdict, VerdictKind::Unknown);
    }

    #[test]
    fn a_folder_is_read_in_order_without_traces_and_an_empty_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(&[folder.path().to_owned()]).unwrap_err().to_string().contains("holds no scenario"));
        std::fs::create_dir(folder.path().join("more")).unwrap();
        for name in ["b.json", "a.json", "more/c.json"] {
            std::fs::write(folder.path().join(name), file("fine", "").scenario.to_json()).unwrap();
        }
        for name in ["a.trace.json", ".hidden.json", "notes.md"] {
            std::fs::write(folder.path().join(name), "no scenario").unwrap();
        }
        let files = read(&[folder.path().to_owned()]).unwrap();
        let names = files.iter().map(|file| file.path.file_name().unwrap().to_str().unwrap().to_owned());
        assert_eq!(names.collect::<Vec<_>>(), ["a.json", "b.json", "c.json"]);
        assert!(read(&["missing.json".into()]).unwrap_err().to_string().contains("missing.json"));
    }
}
