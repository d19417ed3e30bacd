//! What happens to a failure: confirmed, promoted, shrunk, explained.
//!
//! A failing case is [confirmed](Failure::minimise) by replaying it, which gives its [rate]; a racy one is promoted by a
//! gate that pins the order that breaks the rule, if one does; then it is shrunk, and what is left is explained by relaxing
//! one element at a time. Every try is a case like any other, run by the same crew and judged by the same rule; only that
//! rule counts. Everything is bounded in time and keeps what was reached.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crate::audit::RunsCases;
use crate::crew::CrewError;
use crate::rules::Rule;
use crate::scenario::{Expect, Found, Scenario};
use crate::subject::SubjectSpec;
use crate::trace::{Tier, Trace};
use crate::verdict::VerdictKind;

mod explain;
mod known;
mod promote;
pub mod rate;
mod shrink;
mod simpler;
mod tries;

#[cfg(feature = "cli")]
pub(crate) use known::dropped;
pub(crate) use known::{does_the_same, is_unfinished_over, kept_over};
use rate::Rate;
use shrink::{Pace, Shrinking};
use tries::{Bench, Traces, Tried, Until};

/// How often a failure is replayed at least.
const REPLAYS: u64 = 10;
/// How often at most, to see one that is rare.
const MOST_REPLAYS: u64 = 200;
/// With so many of a racy failure its rate is known well enough.
const ENOUGH_BROKEN: u64 = 10;
/// How many times more rarely is far more rarely: of a race, and of a failure that always happens or whose order is pinned, which
/// is to stay so.
const DRIFT: f64 = 3.0;
const DRIFT_OF_CERTAIN: f64 = 1.5;
/// So much time there is for a last measurement, however much was spent before: cases that are begun in it are waited for.
const SOON: Duration = Duration::from_millis(500);

/// A case that broke a rule.
#[derive(Clone, Copy)]
pub struct Failure<'a> {
    /// Who broke it.
    pub subject: &'a SubjectSpec,
    /// The rule.
    pub rule: &'a Rule,
    /// The case.
    pub scenario: &'a Scenario,
}

/// How long it may take.
#[derive(Clone, Copy)]
pub struct Bounds<'a> {
    /// Time for all of it. Cases under way are waited for beyond it.
    pub budget: Duration,
    /// Whoever sets this ends it early; what was reached is kept.
    pub stop: &'a AtomicBool,
}

/// What became of a failure.
#[derive(Clone, Debug)]
pub struct Minimal {
    /// The simplest case found that breaks the same rule about as often: directed at that rule, nothing expected.
    pub scenario: Scenario,
    /// How often the rule was broken when that was last measured. Never in any try: the failure was not seen again, and the scenario
    /// is the one given.
    pub rate: Rate,
    /// Whether it was measured of this scenario. Else of one before it was simplified.
    pub is_measured: bool,
    /// Whether a gate was added that pins the order.
    pub is_promoted: bool,
    /// Whether a last look at everything found nothing simpler. Else the time was over before that.
    pub is_minimal: bool,
    /// How many simplifications were tried.
    pub tries: u64,
    /// How many cases ran for all of it.
    pub cases: u64,
    /// The places in the scenario that matter, such as `ops[1].after`: relaxed alone, the rule is not broken as before.
    pub matters: Vec<String>,
    /// A case that shows it.
    pub trace: Option<Box<Trace>>,
    /// Where no replay could be told: why the first could not.
    pub why_untold: Option<String>,
}

impl Minimal {
    fn confirmed(scenario: Scenario, tried: Tried, cases: u64) -> Self {
        Self {
            scenario,
            rate: tried.rate,
            is_measured: true,
            is_promoted: false,
            is_minimal: false,
            tries: 0,
            cases,
            matters: Vec::new(),
            trace: tried.trace,
            why_untold: tried.why_untold.filter(|_| tried.rate.of == 0),
        }
    }

    /// Takes over where shrinking has come to, and what is known of it.
    fn take(&mut self, shrinking: &Shrinking, tried: &Tried) {
        self.scenario = shrinking.scenario.clone();
        // Tries that ended as soon as they sufficed flatter.
        self.is_measured = shrinking.measured().is_some();
        if self.is_measured {
            self.rate = tried.rate;
        }
        self.trace = tried.trace.clone().or(self.trace.take());
        self.tries = shrinking.tries;
    }

    /// Gives the nodes plain names, which change nothing, if there is time for a case that shows it under them.
    fn rename(&mut self, bench: &mut Bench<'_>, deadline: Instant) -> Result<(), CrewError> {
        let plain = simpler::with_plain_names(&self.scenario);
        if plain == self.scenario {
            return Ok(());
        }
        let again = replay(bench, &plain, REPLAYS, deadline, None)?;
        if let Some(trace) = again.trace {
            self.scenario = plain;
            self.rate = if self.is_measured { self.rate.and(again.rate) } else { self.rate };
            self.trace = Some(trace);
        }
        Ok(())
    }

    /// The scenario as it is kept: with what a replay must find, and where it comes from. `origin` is the case that was shrunk.
    pub fn as_found(&self, failure: &Failure<'_>, tier: Tier) -> Scenario {
        let (origin, rule) = (failure.scenario, failure.rule);
        let found = origin.found.clone().filter(|found| found.rule == rule.id);
        let (from, to) = self.rate.percents();
        let found = Found {
            rate: self.is_measured.then_some(self.rate),
            percent: self.is_measured.then_some([from, to]),
            promoted: self.is_promoted || found.as_ref().is_some_and(|found| found.promoted),
            minimal: self.is_minimal,
            matters: self.matters.clone(),
            ..found.unwrap_or_else(|| Found::now(rule.id, &origin.name, tier))
        };
        let subject = &failure.subject.name;
        let why = match origin.why.starts_with("Generated: ") {
            true => format!("{subject} breaks {}: {}. Shrunk from {}.", rule.id, rule.title, found.case),
            false => origin.why.clone(),
        };
        let verdicts = [(rule.id.to_owned(), VerdictKind::Broken)].into();
        let expect = Some(Expect { subject: subject.clone(), verdicts });
        Scenario { why, expect, found: Some(found), ..self.scenario.clone() }
    }

    /// Whether the failure was seen again.
    pub fn is_confirmed(&self) -> bool {
        self.rate.broken > 0
    }
}

impl Failure<'_> {
    /// How often the failure is seen when its case is replayed: ten times, a racy one more often, within the bounds. The case stays
    /// as it is.
    ///
    /// # Errors
    ///
    /// When the harness itself cannot go on.
    pub fn confirm(&self, crew: &mut dyn RunsCases, bounds: &Bounds<'_>) -> Result<Minimal, CrewError> {
        let deadline = Instant::now() + bounds.budget;
        let mut bench = self.bench(crew, bounds);
        let tried = replay(&mut bench, &self.directed(), REPLAYS, deadline, None)?;
        Ok(Minimal {
            scenario: self.scenario.clone(),
            ..Minimal::confirmed(self.directed(), tried, bench.cases)
        })
    }

    /// Confirms, promotes, shrinks and explains. `progress` is told of each step that was taken: the scenario there is what to go on
    /// from.
    ///
    /// # Errors
    ///
    /// When the harness itself cannot go on.
    pub fn minimise(
        &self,
        crew: &mut dyn RunsCases,
        bounds: &Bounds<'_>,
        progress: &mut dyn FnMut(&Minimal),
    ) -> Result<Minimal, CrewError> {
        let begun = Instant::now();
        let part = |percent: u32| begun + bounds.budget * percent / 100;
        let mut bench = self.bench(crew, bounds);
        let scenario = self.directed();
        let mut traces = Traces::default();
        let confirmed = replay(&mut bench, &scenario, REPLAYS, part(30), Some(&mut traces))?;
        let mut minimal = Minimal::confirmed(scenario.clone(), confirmed, bench.cases);
        if !minimal.is_confirmed() {
            minimal.scenario = self.scenario.clone();
            return Ok(minimal);
        }
        progress(&minimal);
        if minimal.rate.is_to_be_promoted()
            && let Some(promoted) = promote::promote(&mut bench, &scenario, minimal.rate, &traces, part(40))?
        {
            minimal.is_promoted = true;
            minimal.scenario = promoted.scenario;
            minimal.rate = promoted.tried.rate;
            minimal.trace = promoted.tried.trace.or(minimal.trace);
            minimal.cases = bench.cases;
            progress(&minimal);
        }
        let is_certain = minimal.is_promoted || !minimal.rate.is_racy();
        let drift = if is_certain { DRIFT_OF_CERTAIN } else { DRIFT };
        let found = Tried { rate: minimal.rate, trace: minimal.trace.clone(), ..Tried::default() };
        let mut shrinking = Shrinking::new(minimal.scenario.clone(), found, drift);
        shrinking.run(&mut bench, part(75), &mut |shrinking, tried| {
            minimal.take(shrinking, tried);
            progress(&minimal);
        })?;
        if shrinking.measured().is_none() {
            let deadline = part(90).max(Instant::now() + SOON);
            shrinking.keep_what_holds(&mut bench, Pace::LastChance, deadline)?;
            if let Some(measured) = shrinking.measured() {
                minimal.take(&shrinking, measured);
            }
        }
        minimal.is_minimal = shrinking.is_minimal;
        minimal.tries = shrinking.tries;
        minimal.matters = explain::matters(&mut bench, &shrinking, part(95))?;
        minimal.rename(&mut bench, part(100))?;
        minimal.cases = bench.cases;
        Ok(minimal)
    }

    fn bench<'b>(&'b self, crew: &'b mut dyn RunsCases, bounds: &'b Bounds<'_>) -> Bench<'b> {
        Bench { crew, subject: self.subject, rule: self.rule, stop: bounds.stop, cases: 0 }
    }

    /// The case directed at its rule, so that cases about time are not run too many at once, and with nothing to expect.
    fn directed(&self) -> Scenario {
        Scenario { rules: vec![self.rule.id.to_owned()], expect: None, found: None, ..self.scenario.clone() }
    }
}

/// Whether a scenario does less than another, or the same with simpler values.
pub(crate) fn is_simpler(scenario: &Scenario, other: &Scenario) -> bool {
    simpler::weight(scenario) < simpler::weight(other)
}

/// What stands at a place of a scenario, such as `ops[1].after`, as JSON on one line; nothing where there is no such place.
pub fn value_at(scenario: &Scenario, place: &str) -> Option<String> {
    let whole = serde_json::to_value(scenario).ok()?;
    let pointer = format!("/{}", place.replace(['.', '['], "/").replace(']', ""));
    Some(whole.pointer(&pointer)?.to_string())
}

/// Replays a case at least so often, and as often as a race asks for.
fn replay(
    bench: &mut Bench<'_>,
    scenario: &Scenario,
    least: u64,
    deadline: Instant,
    traces: Option<&mut Traces>,
) -> Result<Tried, CrewError> {
    let until = Until::Counted { least, most: MOST_REPLAYS, broken: ENOUGH_BROKEN, anyway: 0 };
    Ok(bench.try_all(vec![scenario.clone()], until, deadline, traces)?.remove(0))
}

#[cfg(test)]
mod tests;
