//! The rules: pure functions of a stored trace.
//!
//! Each rule is one entry of the table [`all`], written in the file of its family. To add one, write its judge in that
//! file, add its entry there, give it a directed scenario and unit tests on hand-written traces for kept,
//! broken, unknown and vacuous.

pub mod facts;

use serde::Serialize;

use crate::promises::Promises;
use crate::scenario::Scenario;
use crate::trace::Trace;
use crate::verdict::{Level, Verdict};

use facts::Facts;

/// A promise that every wrapper should keep.
pub struct Rule {
    /// Its id: a family letter and a number.
    pub id: &'static str,
    /// What it weighs for a subject that promises nothing in particular.
    pub level: Level,
    /// The promise, as one sentence.
    pub sentence: &'static str,
    /// How it is measured.
    pub measured: &'static str,
    /// What guards it against false alarms.
    pub guard: &'static str,
    /// What it weighs for a subject with these promises, where that differs from `level`.
    pub weigh: fn(&Promises) -> Option<Level>,
    /// How it is judged.
    pub judged: Judged,
}

/// How a rule is judged.
pub enum Judged {
    /// By this function, from each trace.
    Trace {
        /// The judge.
        judge: fn(&Facts<'_>) -> Verdict,
        /// Scenarios that show it deterministically; an audit runs them first.
        directed: fn() -> Vec<Scenario>,
    },
    /// By this project's own test suite; says where.
    Suite(&'static str),
    /// Not built yet; says why.
    NotBuilt(&'static str),
}

impl Rule {
    /// What it weighs for a subject with these promises.
    pub fn level_for(&self, promises: &Promises) -> Level {
        (self.weigh)(promises).unwrap_or(self.level)
    }

    /// Whether it is built.
    pub fn is_built(&self) -> bool {
        !matches!(self.judged, Judged::NotBuilt(_))
    }

    /// Judges one trace.
    pub fn judge(&self, facts: &Facts<'_>) -> Verdict {
        match &self.judged {
            Judged::Trace { judge, .. } => judge(facts),
            Judged::Suite(place) => Verdict::NotRun(format!("judged by this project's own tests: {place}")),
            Judged::NotBuilt(why) => Verdict::NotRun(format!("not built: {why}")),
        }
    }
}

/// One rule's verdict on one trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Judgement {
    /// The rule's id.
    pub rule: &'static str,
    /// Its verdict.
    pub verdict: Verdict,
}

/// Every rule of the catalogue, in the catalogue's order.
pub fn all() -> &'static [Rule] {
    todo!("table")
}

/// Every rule's verdict on a trace, in the catalogue's order.
pub fn judge(trace: &Trace) -> Vec<Judgement> {
    let facts = Facts::of(trace);
    all().iter().map(|rule| Judgement { rule: rule.id, verdict: rule.judge(&facts) }).collect()
}
