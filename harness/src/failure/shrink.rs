//! The shrinker's loop: try everything that could be simpler side by side, the simplest first, until something can be taken; take
//! together what can be taken, and again.
//!
//! A case that breaks its rule often takes seconds, because survivors are waited for, and one that keeps it a moment. So few
//! large steps are better than many small ones, and much that is refused costs little.
//!
//! Structure first, then values, and the gates last; then once more and with fewer misses, until nothing can be taken. The
//! loop works on the scenario itself, so one from a file shrinks like a generated one.
//!
//! A few tries tell what breaks the rule far more rarely, and not what does so half as often, and many small losses are a large one.
//! So wherever nothing more can be taken, the rate is measured and compared with that of the case that was given. If it is
//! materially lower, the step that lost it is searched, refused, and shrinking goes on from the one before it.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::crew::CrewError;
use crate::scenario::{Call, Hindrance, LARGEST_TIMEOUT, Op, Scenario, Verb};

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

/// So few cases begin at once, whatever they are about.
const ANYWAY: u64 = 4;

/// How often the case that was given breaks the rule, and with how many runs: what each simplification is held against.
#[derive(Clone, Copy)]
struct Reference {
    rate: Rate,
    runs: usize,
}

impl Reference {
    /// The rate that a simplification is to have, by what the reference is reckoned with: each run is a chance of its own.
    fn expected(self, scenario: &Scenario, reckoned: f64) -> f64 {
        Rate::with_runs(reckoned, self.runs, runs(scenario))
    }

    /// Whether a simplification with this rate has lost nothing that chance does not explain.
    fn holds(self, scenario: &Scenario, rate: Rate) -> bool {
        let reckoned = self.rate.value().unwrap_or_default();
        !rate.is_materially_below(self.expected(scenario, reckoned), self.rate.of)
    }

    /// Whether so many tries tell anything: one that was never broken may be as rare as expected, if it was tried a few times only.
    fn is_told(self, scenario: &Scenario, rate: Rate) -> bool {
        rate.of > 0 && (rate.broken > 0 || !self.holds(scenario, rate))
    }
}

/// A scenario that breaks the rule, and what is known of that.
struct Step {
    scenario: Scenario,
    tried: Tried,
}

/// What shrinking goes on from and where it has come to.
pub(super) struct Shrinking {
    pub(super) scenario: Scenario,
    reference: Reference,
    /// The case that the reference was measured of.
    given: Scenario,
    /// How many times more rarely is far more rarely.
    drift: f64,
    /// Where the rate was measured the last time and held.
    base: Step,
    /// What was taken since.
    steps: Vec<Step>,
    /// How many simplifications were tried.
    pub(super) tries: u64,
    /// Places that are needed: without each of them alone the rule was not broken as before.
    pub(super) needed: BTreeSet<Place>,
    /// Whether nothing simpler was found in a last, careful look at everything.
    pub(super) is_minimal: bool,
    /// What was refused, by the look that did.
    refused: BTreeSet<String>,
    /// What breaks the rule materially more rarely.
    lossy: BTreeSet<String>,
}

/// How a rate is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// So that it can be compared as well as may be.
    Thorough,
    /// The scenario first: there may be no time for more, and however late it is a first few cases of it are begun.
    LastChance,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Structure,
    Values,
    Gates,
}

impl Shrinking {
    /// Of this scenario, which was found to break the rule so often. `drift` is how many times more rarely is far more rarely.
    pub(super) fn new(scenario: Scenario, found: Tried, drift: f64) -> Self {
        Self {
            reference: Reference { rate: found.rate, runs: runs(&scenario) },
            given: scenario.clone(),
            drift,
            base: Step { scenario: scenario.clone(), tried: found },
            steps: Vec::new(),
            scenario,
            tries: 0,
            needed: BTreeSet::new(),
            is_minimal: false,
            refused: BTreeSet::new(),
            lossy: BTreeSet::new(),
        }
    }

    /// What is known of the scenario if its rate was measured, and held; nothing if something was simplified since.
    pub(super) fn measured(&self) -> Option<&Tried> {
        self.steps.is_empty().then_some(&self.base.tried)
    }

    /// When a simplification is accepted: see [`Terms::new`].
    pub(super) fn terms(&self, scenario: &Scenario, estimate: fn(Rate) -> f64, miss: f64) -> Terms {
        let reckoned = estimate(self.reference.rate);
        Terms::new(self.reference.expected(scenario, reckoned), self.drift, miss)
    }

    /// Shrinks until nothing simpler is found or the time is over. Tells of each step that was taken or taken back, with what is known of
    /// the scenario then.
    pub(super) fn run(
        &mut self,
        bench: &mut Bench<'_>,
        deadline: Instant,
        taken: &mut dyn FnMut(&Self, &Tried),
    ) -> Result<(), CrewError> {
        let mut looks = LOOKS.iter();
        let mut look = looks.next();
        while let Some(&now) = look {
            for part in [Part::Structure, Part::Values, Part::Gates] {
                while let Some(tried) = self.level(bench, part, now, deadline)? {
                    self.steps.push(Step { scenario: self.scenario.clone(), tried: tried.clone() });
                    taken(self, &tried);
                }
                if bench.is_over(deadline) {
                    return Ok(());
                }
            }
            if self.steps.is_empty() {
                look = looks.next();
                continue;
            }
            self.keep_what_holds(bench, Pace::Thorough, deadline)?;
            let Some(measured) = self.measured() else { return Ok(()) };
            taken(self, measured);
            looks = LOOKS.iter();
            look = looks.next();
        }
        self.is_minimal = true;
        Ok(())
    }

    /// Measures how often the last step breaks the rule, and where that is materially more rarely goes back to the last one that holds the
    /// rate. Without the time to tell, the steps stay as they are.
    pub(super) fn keep_what_holds(
        &mut self,
        bench: &mut Bench<'_>,
        pace: Pace,
        deadline: Instant,
    ) -> Result<(), CrewError> {
        let steps = std::mem::take(&mut self.steps);
        // The base is the first, and the steps come after it.
        let (mut good, mut bad, mut next) = (0, steps.len() + 1, steps.len());
        while good + 1 < bad {
            let scenario = &steps[next - 1].scenario;
            let is_first = next == steps.len();
            let tried = match pace {
                Pace::Thorough => self.measure(bench, scenario, deadline)?,
                Pace::LastChance => {
                    self.measure_at_last(bench, scenario, if is_first { ANYWAY } else { 0 }, deadline)?
                }
            };
            match tried {
                Some(tried) if self.reference.holds(scenario, tried.rate) => {
                    good = next;
                    self.base = Step { scenario: scenario.clone(), tried };
                }
                Some(_) => bad = next,
                None if bad > steps.len() => {
                    self.steps = steps;
                    return Ok(());
                }
                None => break,
            }
            next = good.midpoint(bad);
        }
        if let Some(lossy) = steps.get(bad - 1) {
            self.lossy.insert(simpler::text(&lossy.scenario));
        }
        if self.scenario != self.base.scenario {
            self.needed.clear();
        }
        self.scenario = self.base.scenario.clone();
        Ok(())
    }

    /// How often a scenario breaks the rule, by enough tries to compare it with the reference if a part of the time that is left suffices
    /// for them; nothing where not one try could be told.
    fn measure(
        &mut self,
        bench: &mut Bench<'_>,
        scenario: &Scenario,
        deadline: Instant,
    ) -> Result<Option<Tried>, CrewError> {
        self.know_the_reference(bench, deadline)?;
        let tries = self.reference.rate.tries_to_compare();
        let tried = count(bench, scenario, Tries { most: tries, anyway: 0 }, a_part_of(deadline))?;
        Ok(self.reference.is_told(scenario, tried.rate).then_some(tried))
    }

    /// The same where there may be time for little: by as many tries as there is time for, and the reference is measured again only where
    /// it was so by few and the rate seems lost.
    fn measure_at_last(
        &mut self,
        bench: &mut Bench<'_>,
        scenario: &Scenario,
        anyway: u64,
        deadline: Instant,
    ) -> Result<Option<Tried>, CrewError> {
        let tries = Tries { most: self.reference.rate.tries_to_compare(), anyway };
        let tried = count(bench, scenario, tries, a_part_of(deadline))?;
        if tried.rate.of > 0 && !self.reference.holds(scenario, tried.rate) {
            self.know_the_reference(bench, deadline)?;
        }
        Ok(self.reference.is_told(scenario, tried.rate).then_some(tried))
    }

    /// Tries the case that was given until another rate can be compared with its own, if a part of the time that is left suffices.
    fn know_the_reference(&mut self, bench: &mut Bench<'_>, deadline: Instant) -> Result<(), CrewError> {
        let missing = self.reference.rate.tries_to_compare().saturating_sub(self.reference.rate.of);
        if missing > 0 {
            let tries = Tries { most: missing, anyway: 0 };
            let more = count(bench, &self.given.clone(), tries, a_part_of(deadline))?;
            self.reference.rate = self.reference.rate.and(more.rate);
        }
        Ok(())
    }

    /// Tries what is simpler in one way and takes the first that can be taken, with what was found meanwhile. Nothing where nothing
    /// could be taken.
    fn level(
        &mut self,
        bench: &mut Bench<'_>,
        part: Part,
        look: Look,
        deadline: Instant,
    ) -> Result<Option<Tried>, CrewError> {
        if bench.is_over(deadline) {
            return Ok(None);
        }
        let found = match part {
            Part::Structure => simpler::structural(&self.scenario),
            Part::Values => simpler::values(&self.scenario),
            Part::Gates => simpler::ungated(&self.scenario),
        };
        let key = |known_by: &str| format!("{} {known_by}", look.miss);
        if part == Part::Structure {
            self.needed.clear();
        }
        let (mut candidates, mut results) = (Vec::new(), Vec::new());
        for edits in found {
            let Some(result) = simpler::apply(&self.scenario, &edits) else { continue };
            let known_by = simpler::text(&result);
            if self.lossy.contains(&known_by) || self.refused.contains(&key(&known_by)) {
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
        let terms = results.iter().map(|result| self.terms(result, look.estimate, look.miss)).collect();
        let tried = bench.try_all(results.clone(), Until::FirstAccepted(terms, &includes), deadline, None)?;
        self.tries += tried.iter().filter(|tried| tried.has_begun()).count() as u64;
        let mut accepted = Vec::new();
        for ((edits, result), tried) in candidates.into_iter().zip(results).zip(tried) {
            match tried.decided {
                Some(true) => accepted.push((edits, result, tried)),
                Some(false) => {
                    self.refused.insert(key(&simpler::text(&result)));
                    self.needed.extend(dropped_alone(&edits).cloned());
                }
                None => {}
            }
        }
        self.take_together(bench, accepted, look, deadline)
    }

    /// Takes as many of the accepted ones as break the rule together: all, else the first half, and so on down to the first alone.
    fn take_together(
        &mut self,
        bench: &mut Bench<'_>,
        mut accepted: Vec<(Vec<Edit>, Scenario, Tried)>,
        look: Look,
        deadline: Instant,
    ) -> Result<Option<Tried>, CrewError> {
        while accepted.len() > 1 {
            let edits = simpler::union(accepted.iter().map(|(edits, ..)| edits));
            let now = simpler::weight(&self.scenario);
            let both = simpler::apply(&self.scenario, &edits).filter(|both| {
                let is_lossy = self.lossy.contains(&simpler::text(both));
                simpler::weight(both) < now && !is_lossy && (can_end(both) || !can_end(&self.scenario))
            });
            if let Some(both) = both {
                let same = accepted.iter().position(|(_, result, _)| *result == both);
                let tried = match same {
                    None => {
                        self.tries += 1;
                        let terms = vec![self.terms(&both, look.estimate, look.miss)];
                        bench.try_all(vec![both.clone()], Until::Decided(terms), deadline, None)?.remove(0)
                    }
                    Some(index) => accepted.swap_remove(index).2,
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
        if !tried.rate.is_above(self.reference.rate) {
            return Ok(tried);
        }
        let afresh = super::replay(bench, &self.scenario, super::REPLAYS, deadline, None)?;
        if !afresh.rate.is_above(self.reference.rate) {
            return Ok(tried);
        }
        self.reference = Reference { rate: afresh.rate, runs: runs(&self.scenario) };
        self.given = self.scenario.clone();
        let known = if afresh.trace.is_some() { afresh } else { tried };
        // What came before it broke the rule more rarely, and is nothing to go back to.
        self.base = Step { scenario: self.scenario.clone(), tried: known.clone() };
        self.steps.clear();
        Ok(known)
    }
}

/// How many cases a rate is measured by.
#[derive(Clone, Copy)]
struct Tries {
    most: u64,
    /// However late it is.
    anyway: u64,
}

fn count(
    bench: &mut Bench<'_>,
    scenario: &Scenario,
    tries: Tries,
    deadline: Instant,
) -> Result<Tried, CrewError> {
    let Tries { most, anyway } = tries;
    let until = Until::Counted { least: most, most, broken: 0, anyway };
    Ok(bench.try_all(vec![scenario.clone()], until, deadline, None)?.remove(0))
}

/// Measuring is to leave the most of the time to what is measured.
fn a_part_of(deadline: Instant) -> Instant {
    let now = Instant::now();
    now + deadline.saturating_duration_since(now) / 4
}

/// How many runs there are that may break a rule.
fn runs(scenario: &Scenario) -> usize {
    let is_run = |op: &&Op| op.verb == Verb::Run && !op.hindered_by.is_some_and(Hindrance::is_in_program);
    scenario.ops.iter().filter(is_run).count()
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
    let is_ever_over = scenario.limits.timeout.is_some_and(|timeout| timeout != LARGEST_TIMEOUT);
    is_ever_over || scenario.ops.iter().any(stops) || !scenario.script.iter().any(hangs)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::super::tests::{RULE, crew, failing, racy, subject};
    use super::*;

    #[test]
    fn a_step_is_measured_however_late_it_is() {
        let scenario = failing(1).remove(0);
        let mut crew = crew(|scenario| racy(scenario, 1.0), 1);
        let (subject, stop) = (subject(), AtomicBool::new(false));
        let mut bench = Bench { crew: &mut crew, subject: &subject, rule: &RULE, stop: &stop, cases: 0 };
        let found = Tried { rate: Rate { broken: 10, of: 10 }, ..Tried::default() };
        let mut shrinking = Shrinking::new(scenario.clone(), found.clone(), 1.5);
        let edits = simpler::structural(&scenario);
        let mut simpler = edits.iter().filter_map(|edits| simpler::apply(&scenario, edits));
        let simpler = simpler.find(|simpler| racy(simpler, 1.0) == racy(&scenario, 1.0)).unwrap();
        shrinking.steps.push(Step { scenario: simpler.clone(), tried: found });
        shrinking.scenario = simpler.clone();
        let late = Instant::now();
        shrinking.keep_what_holds(&mut bench, Pace::Thorough, late).unwrap();
        assert!(shrinking.measured().is_none() && shrinking.scenario == simpler);
        shrinking.keep_what_holds(&mut bench, Pace::LastChance, late).unwrap();
        assert_eq!(shrinking.measured().map(|tried| tried.rate), Some(Rate { broken: ANYWAY, of: ANYWAY }));
        assert_eq!((&shrinking.scenario, bench.cases), (&simpler, ANYWAY));
        // But not after somebody wants to stop.
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        shrinking.steps.push(Step { scenario: scenario.clone(), tried: Tried::default() });
        let mut bench = Bench { crew: &mut crew, subject: &subject, rule: &RULE, stop: &stop, cases: 0 };
        shrinking.keep_what_holds(&mut bench, Pace::LastChance, late).unwrap();
        assert_eq!((shrinking.measured().is_none(), bench.cases), (true, 0));
    }

    #[test]
    fn few_tries_of_a_race_tell_nothing_unless_they_break_the_rule() {
        let scenario = failing(1).remove(0);
        let reference = Reference { rate: Rate { broken: 10, of: 200 }, runs: runs(&scenario) };
        for (broken, of, is_told) in [(0, 0, false), (0, 10, false), (1, 10, true), (0, 200, true)] {
            assert_eq!(reference.is_told(&scenario, Rate { broken, of }), is_told, "{broken} of {of}");
        }
    }

    #[test]
    fn a_case_that_hangs_ends_by_a_timeout_that_is_over_sometime() {
        let with = |timeout: &str| {
            let text = format!(
                r#"{{"schema": 1, "name": "a", "why": "A test.", "script": ["hang"], "ops": [{{"do": "run"}}, {{"do": "wait"}}]{timeout}}}"#
            );
            can_end(&Scenario::from_json(&text).unwrap())
        };
        let never = format!(r#", "limits": {{"timeout": "{LARGEST_TIMEOUT}"}}"#);
        assert_eq!(
            (with(""), with(&never), with(r#", "limits": {"timeout": "10ms"}"#)),
            (false, false, true)
        );
    }
}
