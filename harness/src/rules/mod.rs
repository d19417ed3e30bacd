//! The rules: pure functions of a stored trace.
//!
//! Each rule is one entry of the table [`all`], written in the file of its family. To add one, write its judge in that
//! file, add its entry there, give it a directed scenario and unit tests on hand-written traces for kept,
//! broken, unknown and vacuous.

mod any_thread;
#[cfg(test)]
mod by_hand;
mod child_signal;
mod closed_input;
mod concurrency;
mod deadlines;
mod directed;
pub mod ending;
mod environment;
pub mod facts;
mod failed_start;
mod foreign_pipes;
mod given;
mod handles;
mod history;
mod host;
mod hygiene;
mod load;
mod odd_timeouts;
mod output;
mod owner;
mod records;
mod repeats;
mod signals;
pub mod standing;
mod start;
mod start_error;
mod state;
mod status;
mod storm;
mod suite;
mod survivors;
mod terminal;
mod threads;
mod verdicts;
pub mod witness;
mod zombies;

use std::sync::LazyLock;

use serde::Serialize;

use crate::promises::Promises;
use crate::scenario::Scenario;
use crate::trace::Trace;
use crate::verdict::{Level, Verdict};

use facts::Facts;
pub(crate) use repeats::LEAST_RUNS as REPEATS;
pub use status::exit_codes;

/// A promise that every wrapper should keep.
pub struct Rule {
    /// Its id: a family letter and a number.
    pub id: &'static str,
    /// The promise in a few words, for tables: at most 32 characters.
    pub title: &'static str,
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

    /// The scenarios that show it deterministically; an audit runs them first.
    pub fn directed(&self) -> Vec<Scenario> {
        match &self.judged {
            Judged::Trace { directed, .. } => directed(),
            Judged::Suite(_) | Judged::NotBuilt(_) => Vec::new(),
        }
    }

    /// Judges one trace.
    pub fn judge(&self, facts: &Facts<'_>) -> Verdict {
        match &self.judged {
            // What the rule itself says of the subject comes first: it holds for every case.
            Judged::Trace { judge, .. } => match (judge(facts), facts.inapplicable()) {
                (Verdict::Vacuous(_), Some(why)) => Verdict::NotRun(why.to_owned()),
                (verdict, _) => verdict,
            },
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
    static ALL: LazyLock<Vec<Rule>> = LazyLock::new(|| {
        [
            survivors::rules(),
            zombies::rules(),
            handles::rules(),
            threads::rules(),
            deadlines::rules(),
            output::rules(),
            status::rules(),
            hygiene::rules(),
            environment::rules(),
            host::rules(),
            owner::rules(),
            concurrency::rules(),
            suite::rules(),
        ]
        .into_iter()
        .flatten()
        .collect()
    });
    &ALL
}

/// The rule with this id.
pub fn find(id: &str) -> Option<&'static Rule> {
    all().iter().find(|rule| rule.id == id)
}

/// The directed scenarios of every rule, each once, in the catalogue's order.
pub fn directed_scenarios() -> Vec<Scenario> {
    let mut scenarios: Vec<Scenario> = Vec::new();
    for rule in all() {
        for scenario in rule.directed() {
            if scenarios.iter().all(|known| known.name != scenario.name) {
                scenarios.push(scenario);
            }
        }
    }
    scenarios
}

/// For rules that weigh the same for every subject.
fn as_catalogued(_promises: &Promises) -> Option<Level> {
    None
}

/// Every rule's verdict on a trace, in the catalogue's order.
pub fn judge(trace: &Trace) -> Vec<Judgement> {
    let facts = Facts::of(trace);
    all().iter().map(|rule| Judgement { rule: rule.id, verdict: rule.judge(&facts) }).collect()
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod told_apart;
