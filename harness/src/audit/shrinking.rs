//! What an audit does with the failures that it shows: replay them, and shrink those that were generated.
//!
//! A directed scenario is neither: it was written to show one thing in the fewest words, and whether it shows it always is told by
//! its cases. One from a file is replayed, for its rate, and stays as it is. The heaviest rules come first, and each gets
//! an equal part of the time that is left.

use std::cmp::Reverse;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fake_cli::script;
use serde::{Deserialize, Serialize};

use crate::crew::CrewError;
use crate::failure::{Bounds, Failure, Minimal};
use crate::rules::Rule;
use crate::rules::facts::Facts;
use crate::scenario::Scenario;
use crate::subject::SubjectSpec;

use super::save::{Keeper, Saved};
use super::tally::Origin;
use super::{Observer, RuleReport, RunsCases, SubjectReport};

/// With less time than this left for a failure it is not begun with.
const LEAST: Duration = Duration::from_secs(1);

/// A failure that the report of an audit shows, by the rule's place there.
pub(super) struct Shown {
    pub(super) place: usize,
    pub(super) rule: &'static Rule,
    pub(super) origin: Origin,
    pub(super) scenario: Scenario,
}

/// What came of replaying and shrinking a failure.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replays {
    /// In how many replays the rule was broken: never, then the failure was not seen again.
    pub broken: u64,
    /// Of how many that could be told.
    pub of: u64,
    /// Whether it was this scenario that was replayed. Else it was one before it was simplified.
    pub measured: bool,
    /// Between how many percent the true rate lies, by Wilson's interval for 95 %.
    pub percent: [u8; 2],
    /// Whether a gate was added that pins the order in which it happens.
    pub promoted: bool,
    /// Whether nothing simpler was found in a last look at everything; `headcount shrink` goes on where it was not.
    pub minimal: bool,
    /// How many nodes the scenario has.
    pub nodes: usize,
    /// How many ops the scenario has.
    pub ops: usize,
    /// The places in the scenario that matter: where one alone is relaxed, the rule is not broken as before.
    pub matters: Vec<String>,
    /// Where no replay could be told: why the first could not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl From<&Minimal> for Replays {
    fn from(minimal: &Minimal) -> Self {
        let (from, to) = minimal.rate.percents();
        Self {
            broken: minimal.rate.broken,
            of: minimal.rate.of,
            measured: minimal.is_measured,
            percent: [from, to],
            promoted: minimal.is_promoted,
            minimal: minimal.is_minimal,
            nodes: script::nodes(&minimal.scenario.script).len(),
            ops: minimal.scenario.ops.len(),
            matters: minimal.matters.clone(),
            reason: minimal.why_untold.clone(),
        }
    }
}

/// Who shrinks, and for how long.
pub(super) struct Shrinking<'a> {
    pub(super) subject: &'a SubjectSpec,
    pub(super) crew: &'a mut dyn RunsCases,
    pub(super) keeper: &'a mut Keeper,
    pub(super) observer: &'a mut dyn Observer,
    pub(super) deadline: Instant,
    pub(super) stop: &'a AtomicBool,
}

impl Shrinking<'_> {
    /// Replays and shrinks what a report shows, and says there what came of it.
    ///
    /// # Errors
    ///
    /// When the harness itself cannot go on.
    pub(super) fn run(&mut self, report: &mut SubjectReport, mut shown: Vec<Shown>) -> Result<(), CrewError> {
        shown.retain(|failure| matches!(failure.origin, Origin::File | Origin::Generated));
        shown.sort_by_key(|failure| Reverse(report.rules[failure.place].level));
        for index in 0..shown.len() {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left < LEAST || self.stop.load(Ordering::Relaxed) {
                break;
            }
            let share = (left / (shown.len() - index) as u32).max(LEAST);
            let failure = &shown[index];
            self.observer.shrinking(&self.subject.name, failure.rule.id);
            self.treat(&mut report.rules[failure.place], failure, share)?;
        }
        Ok(())
    }

    fn treat(&mut self, rule: &mut RuleReport, shown: &Shown, budget: Duration) -> Result<(), CrewError> {
        let failure = Failure { subject: self.subject, rule: shown.rule, scenario: &shown.scenario };
        let bounds = Bounds { budget, stop: self.stop };
        if shown.origin == Origin::File {
            rule.replayed = Some(Replays::from(&failure.confirm(self.crew, &bounds)?));
            return Ok(());
        }
        let (keeper, tier) = (&mut *self.keeper, self.crew.tier());
        let mut saved = None;
        let mut keep = |minimal: &Minimal| {
            let Some(trace) = &minimal.trace else { return };
            let scenario = Scenario { name: name_of(shown), ..minimal.as_found(&failure, tier) };
            saved = keeper.save_as(&scenario, trace);
        };
        let minimal = failure.minimise(self.crew, &bounds, &mut keep)?;
        if minimal.is_confirmed() {
            keep(&minimal);
            // Another failure may have had the name already.
            let name = saved.as_ref().and_then(|saved: &Saved| saved.scenario.file_stem());
            rule.scenario =
                Some(name.map_or_else(|| name_of(shown), |name| name.to_string_lossy().into_owned()));
            rule.saved = saved.or(rule.saved.take());
            let verdict = minimal.trace.as_ref().map(|trace| shown.rule.judge(&Facts::of(trace)));
            rule.detail =
                verdict.as_ref().and_then(|it| it.detail().map(str::to_owned)).or(rule.detail.take());
        }
        rule.replayed = Some(Replays::from(&minimal));
        Ok(())
    }
}

/// The same case may break several rules, and each has its own minimal case.
fn name_of(shown: &Shown) -> String {
    format!("{}-{}", shown.scenario.name, shown.rule.id.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::audit::{Plan, run};
    use crate::crew::{Effort, Source};
    use crate::replay;
    use crate::report::timeline::tests::cancelled_tree;
    use crate::rules::Judged;
    use crate::trace::{Tier, Trace};
    use crate::verdict::{Finding, Level, Verdict, VerdictKind};

    /// Broken by every case.
    static RULE: Rule = Rule {
        id: "S4",
        level: Level::Must,
        title: "none left",
        sentence: "none is left",
        measured: "on paper",
        guard: "none",
        weigh: |_| None,
        judged: Judged::Trace {
            judge: |_| Verdict::Broken(Finding { sentence: "one is alive".to_owned(), count: 1 }),
            directed: Vec::new,
        },
    };

    /// Looks into the folder whenever a case is asked for by the shrinker, whose cases alone are directed, and ends it then.
    struct Watching<'a> {
        folder: PathBuf,
        stop: &'a AtomicBool,
        on_disk: Option<Vec<Scenario>>,
    }

    impl RunsCases for Watching<'_> {
        fn tier(&self) -> Tier {
            Tier::T3
        }

        fn effort(&self) -> Effort {
            Effort::default()
        }

        fn run(&mut self, subject: &SubjectSpec, source: &mut dyn Source) -> Result<(), CrewError> {
            while let Some(scenario) = source.next() {
                if !scenario.rules.is_empty() {
                    let files = replay::read(std::slice::from_ref(&self.folder)).unwrap_or_default();
                    let has_trace = |file: &&replay::ScenarioFile| {
                        let text = std::fs::read_to_string(file.path.with_extension("trace.json"));
                        text.is_ok_and(|text| serde_json::from_str::<Trace>(&text).is_ok())
                    };
                    let whole = files.iter().filter(has_trace).map(|file| file.scenario.clone());
                    self.on_disk.get_or_insert(whole.collect());
                    self.stop.store(true, Ordering::Relaxed);
                }
                let mut trace = Trace { scenario, ..cancelled_tree() };
                trace.subject.name.clone_from(&subject.name);
                source.take(trace);
            }
            Ok(())
        }
    }

    #[test]
    fn a_failure_and_its_trace_are_on_disk_before_it_is_shrunk() {
        let (folder, stop) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
        let plan = Plan {
            subjects: vec![SubjectSpec::here("childminder")],
            rules: vec![&RULE],
            scenarios: Vec::new(),
            cases: Some(3),
            budget: None,
            seed: 9,
            shrink: true,
            waived: Vec::new(),
        };
        let mut crew = Watching { folder: folder.path().to_owned(), stop: &stop, on_disk: None };
        let mut keeper = Keeper::new(Some(folder.path().to_owned()));
        let audit = run(&plan, &mut crew, &mut keeper, &mut (), &stop);
        let on_disk = crew.on_disk.expect("it is replayed");
        // The smallest is the last that was saved, and the one that is shrunk.
        let replayed = audit.subjects[0].rules[0].replayed.as_ref().unwrap();
        assert!(replayed.broken > 0 && !on_disk.is_empty(), "{replayed:?}");
        for scenario in on_disk {
            assert!(scenario.name.starts_with("generated-9-"), "{}", scenario.name);
            assert_eq!(scenario.expect.unwrap().verdicts["S4"], VerdictKind::Broken);
        }
    }
}
