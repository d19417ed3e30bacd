//! The shrinker's loop: try everything that could be simpler side by side, the simplest first, until something can be taken; take
//! together what can be taken, and again.
//!
//! A case that breaks its rule often takes seconds, because survivors are waited for, and one that keeps it a moment. So few
//! large steps are better than many small ones, and much that is refused costs little.
//!
//! Structure first, then values; then the structure once more and with fewer misses, until nothing can be taken. The
//! loop works on the scenario itself, so one from a file shrinks like a generated one.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::crew::CrewError;
use crate::scenario::{Call, Op, Scenario};

use super::rate::{Rate, Terms};
use super::simpler::{self, Change, Edit, Place};
use super::tries::{Bench, Tried, Until};

/// A look at everything that could be simpler.
#[derive(Clone, Copy)]
struct Look {
    /// With which chance a simplification is missed that breaks the rule as often as is reckoned.
    miss: f64,
    /// The rate to reckon with.
    estimate: fn(Rate) -> f64,
}

/// A first look, and the careful one that ends everything: what the first took for far rarer, because the rate had been
/// measured too high, is found then.
const LOOKS: [Look; 2] =
    [Look { miss: 0.02, estimate: Rate::estimate }, Look { miss: 0.002, estimate: Rate::careful_estimate }];

/// What shrinking goes on from and where it has come to.
pub(super) struct Shrinking {
    pub(super) scenario: Scenario,
    /// How often the scenario breaks the rule: what each simplification is held against. Never lower than at the beginning.
    pub(super) rate: Rate,
    /// How many times more rarely is far more rarely.
    pub(super) drift: f64,
    /// How many simplifications were tried.
    pub(super) tries: u64,
    /// Places that are needed: without each of them alone the rule was not broken as before.
    pub(super) needed: BTreeSet<Place>,
    /// Whether nothing simpler was found in a last, careful look at everything.
    pub(super) is_minimal: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Structure,
    Values,
}

impl Shrinking {
    pub(super) fn new(scenario: Scenario, rate: Rate, drift: f64) -> Self {
        Self { scenario, rate, drift, tries: 0, needed: BTreeSet::new(), is_minimal: false }
    }

    /// Shrinks until nothing simpler is found or the time is over. Tells of each step that was taken, with a case that shows it.
    pub(super) fn run(
        &mut self,
        bench: &mut Bench<'_>,
        deadline: Instant,
        taken: &mut dyn FnMut(&Self, &Tried),
    ) -> Result<(), CrewError> {
        let mut refused = BTreeSet::new();
        loop {
            let mut went_on = false;
            for look in LOOKS {
                for part in [Part::Structure, Part::Values] {
                    while let Some(tried) = self.level(bench, part, look, &mut refused, deadline)? {
                        went_on = true;
                        taken(self, &tried);
                    }
                    if bench.is_over(deadline) {
                        return Ok(());
                    }
                }
                if went_on {
                    break;
                }
            }
            if !went_on {
                self.is_minimal = true;
                return Ok(());
            }
        }
    }

    /// Tries what is simpler in one way and takes the first that can be taken, with what was found meanwhile. Nothing where nothing
    /// could be taken.
    fn level(
        &mut self,
        bench: &mut Bench<'_>,
        part: Part,
        look: Look,
        refused: &mut BTreeSet<String>,
        deadline: Instant,
    ) -> Result<Option<Tried>, CrewError> {
        if bench.is_over(deadline) {
            return Ok(None);
        }
        let found = match part {
            Part::Structure => simpler::structural(&self.scenario),
            Part::Values => simpler::values(&self.scenario),
        };
        let key = |scenario: &Scenario| format!("{} {}", look.miss, simpler::text(scenario));
        if part == Part::Structure {
            self.needed.clear();
        }
        let (mut candidates, mut results) = (Vec::new(), Vec::new());
        for edits in found {
            let Some(result) = simpler::apply(&self.scenario, &edits) else { continue };
            if refused.contains(&key(&result)) {
                self.needed.extend(dropped_alone(&edits).cloned());
            } else if !results.contains(&result) && (can_end(&result) || !can_end(&self.scenario)) {
                candidates.push(edits);
                results.push(result);
            }
        }
        let same_place = |first: &[Edit], second: &[Edit]| matches!((first, second), ([one], [other]) if one.place == other.place && one.change != Change::Drop);
        let includes = |first: usize, second: usize| {
            simpler::includes(&candidates[first], &candidates[second])
                || (first < second && same_place(&candidates[first], &candidates[second]))
        };
        let terms = Terms::new((look.estimate)(self.rate), self.drift, look.miss);
        let tried = bench.try_all(results.clone(), Until::FirstAccepted(terms, &includes), deadline, None)?;
        self.tries += tried.len() as u64;
        let mut accepted = Vec::new();
        for ((edits, result), tried) in candidates.into_iter().zip(results).zip(tried) {
            match tried.decided {
                Some(true) => accepted.push((edits, result, tried)),
                Some(false) => {
                    refused.insert(key(&result));
                    self.needed.extend(dropped_alone(&edits).cloned());
                }
                None => {}
            }
        }
        self.take_together(bench, accepted, terms, deadline)
    }

    /// Takes as many of the accepted ones as break the rule together: all, else the first half, and so on down to the first alone.
    fn take_together(
        &mut self,
        bench: &mut Bench<'_>,
        mut accepted: Vec<(Vec<Edit>, Scenario, Tried)>,
        terms: Terms,
        deadline: Instant,
    ) -> Result<Option<Tried>, CrewError> {
        while accepted.len() > 1 {
            let edits = simpler::union(accepted.iter().map(|(edits, ..)| edits));
            let now = simpler::weight(&self.scenario);
            let both = simpler::apply(&self.scenario, &edits)
                .filter(|both| simpler::weight(both) < now && (can_end(both) || !can_end(&self.scenario)));
            if let Some(both) = both {
                let is_new = accepted.iter().all(|(_, result, _)| *result != both);
                let tried = match is_new {
                    true => {
                        self.tries += 1;
                        bench.try_all(vec![both.clone()], Until::Decided(terms), deadline, None)?.remove(0)
                    }
                    false => accepted.remove(0).2,
                };
                if tried.decided == Some(true) {
                    return self.take(bench, both, tried, deadline).map(Some);
                }
            }
            accepted.truncate(accepted.len().div_ceil(2));
        }
        match accepted.pop() {
            Some((_, result, tried)) => self.take(bench, result, tried, deadline).map(Some),
            None => Ok(None),
        }
    }

    /// What is left may break the rule more often; then fewer tries suffice from now on. Tries that ended as soon as they sufficed
    /// flatter, so it is measured afresh.
    fn take(
        &mut self,
        bench: &mut Bench<'_>,
        scenario: Scenario,
        tried: Tried,
        deadline: Instant,
    ) -> Result<Tried, CrewError> {
        self.scenario = scenario;
        // They were places of the scenario as it was.
        self.needed.clear();
        if !tried.rate.is_above(self.rate) {
            return Ok(tried);
        }
        let afresh = super::replay(bench, &self.scenario, deadline, None)?;
        if !afresh.rate.is_above(self.rate) {
            return Ok(tried);
        }
        self.rate = afresh.rate;
        Ok(if afresh.trace.is_some() { afresh } else { tried })
    }
}

/// The place of the only thing that is dropped, if one alone is.
fn dropped_alone(edits: &[Edit]) -> Option<&Place> {
    match edits {
        [Edit { place, change: Change::Drop }] => Some(place),
        _ => None,
    }
}

/// Whether anything ends the run: the caller, a timeout, or the root itself. A case in which nothing does says nothing for long.
fn can_end(scenario: &Scenario) -> bool {
    use fake_cli::script::Step;
    let hangs = |step: &Step| matches!(step, Step::Hang | Step::BusyHang | Step::Stop);
    let stops = |op: &Op| op.verb.stops() || op.counts(Call::Cancel) + op.counts(Call::Drop) > 0;
    scenario.limits.timeout.is_some() || scenario.ops.iter().any(stops) || !scenario.script.iter().any(hangs)
}
