//! The audit: many cases of many subjects, and what they say together.
//!
//! For each subject a [`source`] gives first the directed scenarios of the rules asked for, a round of all rules after another, then
//! those of files, then generated ones, and judges each trace that comes back; a [`tally`] for each rule combines the verdicts; the first and
//! smallest failure of each is [`save`]d before anything else happens to it; then [`shrinking`] makes it small. The worst
//! class of what is broken is the [`grade`], and the [`exit`] code.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fake_cli::span::Span;
use serde::{Deserialize, Serialize};

use crate::crew::{Crew, CrewError, Effort, Source};
use crate::promises::Promises;
use crate::rules::Rule;
use crate::scenario::Scenario;
use crate::subject::{Drive, SubjectSpec};
use crate::trace::Tier;
use crate::verdict::{Level, VerdictKind};

pub mod exit;
pub mod grade;
mod machine;
pub mod save;
pub mod select;
mod share;
pub mod shrinking;
pub mod source;
pub mod tally;
pub mod twice;

pub use machine::beyond_this_machine;

use save::Keeper;
use share::Share;
use shrinking::{Replays, Shrinking};
use source::{CaseSource, Finished, Limits, Sources};
use twice::Repeats;

/// Version of the audit's JSON.
pub const SCHEMA: u32 = 1;
/// Cases of a subject where neither a number nor a budget is asked for.
pub const DEFAULT_CASES: u64 = 150;
/// Budget where neither a number nor a budget is asked for: a default audit is over within a minute.
pub const DEFAULT_BUDGET: Duration = Duration::from_secs(42);
/// Which part of a subject's share of the budget is kept for replaying and shrinking its failures. What nobody needs goes to
/// the subjects behind it.
pub const SHRINK_PERCENT: u32 = 25;
/// Which part of an equal share of the budget each subject gets however late those before it are.
pub const LEAST_PERCENT: u32 = 50;
/// How long a subject's failures are shrunk where there is no budget.
pub const SHRINK_WITHOUT_BUDGET: Duration = Duration::from_secs(15);
/// Seed of generated scenarios where none is asked for.
pub const DEFAULT_SEED: u64 = 1;

/// What an audit found.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Audit {
    /// Version of the format.
    pub schema: u32,
    /// How processes were counted.
    pub tier: Tier,
    /// Seed of the generated scenarios.
    pub seed: u64,
    /// Whether the audit was interrupted before its end.
    pub interrupted: bool,
    /// What of the harness itself failed, so that the audit could not go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// The subjects, in the order in which they were audited.
    pub subjects: Vec<SubjectReport>,
    /// What could not be done and is no finding: failures that could not be saved, cases that the harness lost.
    pub notes: Vec<String>,
}

/// What an audit found of one subject.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubjectReport {
    /// Its name.
    pub name: String,
    /// Its version, where known.
    pub version: String,
    /// What it promises, in the words that `--promise` takes.
    #[serde(with = "as_words")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub promises: Promises,
    /// A letter and the reason for its cap.
    pub grade: String,
    /// How many cases ran.
    pub cases: u64,
    /// How many cases the harness lost, beside those.
    pub lost: u64,
    /// How long they took together, in seconds.
    pub seconds: f64,
    /// Which part of the processor time the headcount itself took: starting hosts, watching, counting, sweeping. 0 to 1; the rest
    /// is the subject's and the fake's.
    pub harness_share: f64,
    /// What came of the cases that were run twice.
    #[serde(default)]
    pub repeats: Repeats,
    /// The command that it is, where it is one: for the line that replays a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Command>,
    /// Each rule asked for, in the catalogue's order.
    pub rules: Vec<RuleReport>,
}

/// A subject that is a command template.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The words behind `--`.
    pub words: Vec<String>,
    /// The name under which the fake is put on `PATH`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fake_as: Option<String>,
}

impl Command {
    /// The command of a subject that was given as one; those built in are named instead.
    pub(crate) fn of(subject: &SubjectSpec) -> Option<Self> {
        match &subject.drive {
            Drive::Template { words, fake_as, .. } if words.join(" ") == subject.name => {
                Some(Self { words: words.clone(), fake_as: fake_as.clone() })
            }
            _ => None,
        }
    }
}

/// What the cases say of one rule together.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleReport {
    /// The rule's id.
    pub id: String,
    /// The promise in a few words.
    pub title: String,
    /// The promise, as one sentence.
    pub sentence: String,
    /// What it weighs for this subject.
    pub level: Level,
    /// The combined verdict.
    pub verdict: VerdictKind,
    /// In how many cases it was kept.
    pub kept: u64,
    /// In how many it was broken.
    pub broken: u64,
    /// In how many the evidence did not suffice.
    pub unknown: u64,
    /// How many did not come to the point where it matters.
    pub vacuous: u64,
    /// The part of the decided cases in which it was broken; nothing where none was decided.
    pub rate: Option<f64>,
    /// The scenario that shows the failure best.
    pub scenario: Option<String>,
    /// What was found there, or why the verdict is unknown or vacuous.
    pub detail: Option<String>,
    /// Why it was not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How many survivors, zombies, handles or bytes the failure counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Where the failing scenario was saved; its trace stands beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved: Option<save::Saved>,
    /// What came of replaying and shrinking it; nothing where that was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replayed: Option<Replays>,
}

/// What an audit is to do.
pub struct Plan {
    /// Whom to audit, one after another.
    pub subjects: Vec<SubjectSpec>,
    /// Which rules to judge, in the catalogue's order.
    pub rules: Vec<&'static Rule>,
    /// Scenarios from files, run after the directed ones.
    pub scenarios: Vec<Scenario>,
    /// How many cases of each subject, the directed ones included, which all run however few are asked for.
    pub cases: Option<u64>,
    /// The time for all subjects together, in equal shares of what is left when each begins. Its share bounds a subject's generated cases
    /// and what is done about their failures; its other cases may take from the shares of subjects that come later, but for
    /// [`LEAST_PERCENT`] of an equal share, which each has for itself. Each subject may overrun it by what it takes to start the
    /// command of a template, which is measured first, and by its last cases: those under way are waited for.
    pub budget: Option<Duration>,
    /// Seed of the generated scenarios.
    pub seed: u64,
    /// Whether failures of generated cases are shrunk, within [`SHRINK_PERCENT`] of the budget. Those of files are then replayed too.
    pub shrink: bool,
    /// Rules that are not run for some subjects, and why.
    pub waived: Vec<Waiver>,
}

/// A rule that is not run for a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiver {
    /// The subject's name.
    pub subject: String,
    /// The rule's id.
    pub rule: String,
    /// Why.
    pub why: String,
}

/// Who runs cases. The seam for tests; everyone else has a [`Crew`].
pub trait RunsCases {
    /// How processes are counted.
    fn tier(&self) -> Tier;
    /// How much work was done so far.
    fn effort(&self) -> Effort;
    /// Runs what the source gives against a subject until the source has no more or wants to stop.
    ///
    /// # Errors
    ///
    /// When the harness itself cannot go on.
    fn run(&mut self, subject: &SubjectSpec, source: &mut dyn Source) -> Result<(), CrewError>;
}

impl RunsCases for Crew {
    fn tier(&self) -> Tier {
        self.tier()
    }

    fn effort(&self) -> Effort {
        self.effort()
    }

    fn run(&mut self, subject: &SubjectSpec, source: &mut dyn Source) -> Result<(), CrewError> {
        self.run(subject, source)
    }
}

/// Who wants to know how far an audit is.
pub trait Observer {
    /// A case of this subject is done: so many of so many, where that is known.
    fn case_done(&mut self, subject: &str, done: u64, of: Option<u64>);

    /// The failure of this rule is being replayed and shrunk.
    fn shrinking(&mut self, _subject: &str, _rule: &str) {}
}

/// Nobody wants to know.
impl Observer for () {
    fn case_done(&mut self, _subject: &str, _done: u64, _of: Option<u64>) {}
}

/// Audits each subject of a plan until it is done, its time is over, or `stop` is set.
pub fn run(
    plan: &Plan,
    crew: &mut dyn RunsCases,
    keeper: &mut Keeper,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
) -> Audit {
    let begun = Instant::now();
    let mut subjects = Vec::new();
    let mut notes = Vec::new();
    let mut fault = None;
    for (index, subject) in plan.subjects.iter().enumerate() {
        if stop.load(Ordering::Relaxed) || fault.is_some() {
            break;
        }
        let now = Instant::now();
        let share = plan.budget.map(|budget| Share::of(budget, now - begun, index, plan.subjects.len()));
        let percent = if plan.shrink { 100 - SHRINK_PERCENT } else { 100 };
        let limits = share.map(|share| Limits {
            deadline: now + share.own * percent / 100,
            end: now + share.most,
            least: share.least,
        });
        let sources = Sources { plan, subject, limits, stop };
        let mut source = CaseSource::new(sources, keeper, observer);
        let before = crew.effort();
        fault = crew.run(subject, &mut source).err().map(|error| error.to_string());
        let Finished { mut report, notes: faults, shown } = source.finish(crew.effort().since(before));
        if plan.shrink && fault.is_none() {
            let within = share.map_or(SHRINK_WITHOUT_BUDGET, |share| share.own.saturating_sub(now.elapsed()));
            let deadline = Instant::now() + within;
            let mut shrinking = Shrinking { subject, crew, keeper, observer, deadline, stop };
            fault = shrinking.run(&mut report, shown).err().map(|error| error.to_string());
        }
        keeper.remove_all_but(&report.rules.iter().filter_map(|rule| rule.saved.as_ref()).collect());
        subjects.push(report);
        notes.extend(faults);
    }
    notes.extend(keeper.take_notes());
    Audit {
        schema: SCHEMA,
        tier: crew.tier(),
        seed: plan.seed,
        interrupted: stop.load(Ordering::Relaxed),
        fault,
        subjects,
        notes,
    }
}

impl SubjectReport {
    /// Cases a second.
    pub fn pace(&self) -> f64 {
        if self.seconds > 0.0 { self.cases as f64 / self.seconds } else { 0.0 }
    }
}

/// Promises as the words of `--promise`.
mod as_words {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Promises;

    pub(super) fn serialize<S: Serializer>(promises: &Promises, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(promises)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Promises, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The limits of time that a plan gets where the caller asks for neither a number of cases nor a budget.
pub fn bounds(cases: Option<u64>, budget: Option<Span>) -> (Option<u64>, Option<Duration>) {
    match (cases, budget) {
        (None, None) => (Some(DEFAULT_CASES), Some(DEFAULT_BUDGET)),
        (cases, budget) => (cases, budget.map(Span::get)),
    }
}
