//! Cases of one animal, run side by side, and what they broke.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use fake_cli::script;

use super::{Break, Watch};
use crate::crew::Source;
use crate::rules::facts::Facts;
use crate::rules::{self, Rule};
use crate::scenario::Scenario;
use crate::trace::{CaseEnd, Trace};
use crate::verdict::{Level, Verdict};
use crate::zoo::Animal;

/// A rule that was broken in a case.
#[derive(Clone)]
pub(super) struct Seen {
    pub(super) rule: &'static Rule,
    pub(super) level: Level,
    pub(super) detail: String,
}

impl Seen {
    pub(super) fn told(&self, animal: &Animal, scenario: &Scenario) -> Break {
        let related = animal.related.iter().find(|(rule, _)| *rule == self.rule.id).map(|(_, why)| *why);
        let scenario = scenario.name.clone();
        Break { rule: self.rule.id, level: self.level, related, scenario, detail: self.detail.clone() }
    }
}

/// A case in which something was broken.
pub(super) struct Found {
    pub(super) index: usize,
    pub(super) scenario: Scenario,
    pub(super) seen: Vec<Seen>,
}

impl Found {
    pub(super) fn breaks(&self, rule: &str) -> Option<&Seen> {
        self.seen.iter().find(|seen| seen.rule.id == rule)
    }

    pub(super) fn size(&self) -> (usize, usize, usize) {
        let (ops, nodes) = ops_and_nodes(&self.scenario);
        (ops.max(nodes), ops + nodes, self.scenario.to_json().len())
    }
}

/// How many ops a scenario has, and how many nodes.
pub(super) fn ops_and_nodes(scenario: &Scenario) -> (usize, usize) {
    (scenario.ops.len(), script::nodes(&scenario.script).len())
}

/// What some cases showed.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) found: Vec<Found>,
    /// Those that were run, by name, whatever was found.
    pub(super) judged: Vec<String>,
    pub(super) taken: u64,
    pub(super) lost: u64,
}

/// The cases of an animal that are run now.
pub(super) struct Running<'a, 'w> {
    pub(super) scenarios: VecDeque<Scenario>,
    pub(super) given: Vec<String>,
    /// They end as soon as one breaks this.
    pub(super) until: Option<&'static str>,
    pub(super) deadline: Option<Instant>,
    pub(super) watch: &'a Watch<'w>,
    pub(super) stop: &'a AtomicBool,
    pub(super) batch: Batch,
}

impl Source for Running<'_, '_> {
    fn next(&mut self) -> Option<Scenario> {
        let late = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if late || self.stop.load(Ordering::Relaxed) {
            return None;
        }
        let scenario = self.scenarios.pop_front()?;
        self.given.push(scenario.name.clone());
        Some(scenario)
    }

    fn take(&mut self, trace: Trace) -> bool {
        self.batch.taken += 1;
        match trace.end {
            CaseEnd::OurFault(_) => self.batch.lost += 1,
            _ => self.batch.judged.push(trace.scenario.name.clone()),
        }
        let seen = broken(&trace);
        let is_it = seen.iter().any(|seen| Some(seen.rule.id) == self.until);
        if !seen.is_empty() {
            let index = self.given.iter().position(|name| *name == trace.scenario.name).unwrap_or_default();
            self.batch.found.push(Found { index, scenario: trace.scenario, seen });
        }
        self.watch.cases_done(1);
        !is_it && !self.stop.load(Ordering::Relaxed)
    }
}

/// The rules that are broken in a trace.
pub(super) fn broken(trace: &Trace) -> Vec<Seen> {
    let facts = Facts::of(trace);
    let seen = rules::all().iter().filter_map(|rule| match rule.judge(&facts) {
        Verdict::Broken(finding) => {
            let level = rule.level_for(&trace.subject.promises);
            Some(Seen { rule, level, detail: finding.sentence })
        }
        _ => None,
    });
    seen.collect()
}
