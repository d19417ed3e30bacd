//! Looking at one animal: all directed scenarios, generated ones until its rule is seen broken, and the shrinking of the first of
//! those.

use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::batch::{Batch, Found, Running, broken};
use super::stopping::Stopping;
use super::{Asked, Break, Entry, Others, SHRINK, Search, Shared, Shrink, Smallest};
use crate::audit::RunsCases;
use crate::crew::{CrewError, is_about_time};
use crate::failure::{Bounds, Failure};
use crate::generate::{Generator, Style};
use crate::rules::{self, Judged, Rule};
use crate::scenario::Scenario;
use crate::verdict::Level;
use crate::zoo::{Animal, CONTROL, spec};

/// How often its own directed scenarios are run against an animal that is wrong in one of so many runs, for each of them.
const TRIES: u32 = 4;

/// How an animal is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// With all that the plan asks for; of the directed scenarios of other rules from this one on.
    First(usize),
    /// Once more: with what could show it.
    Again,
}

/// Looks at animals, one after another.
pub(super) struct Surveyor<'a, 's, C> {
    pub(super) crew: &'a mut C,
    pub(super) shared: &'a Shared<'s>,
}

/// What was found of an animal, and of which *must* rules the one without a flaw was accused meanwhile.
pub(super) type Looked = (Entry, Vec<Break>);

/// What came of looking for a generated case that shows an animal.
#[derive(Default)]
struct Searched {
    search: Search,
    batch: Batch,
    /// Of which *must* rules the one without a flaw was accused.
    control: Vec<Break>,
}

impl<C: RunsCases> Surveyor<'_, '_, C> {
    pub(super) fn look_at(&mut self, animal: &'static Animal, look: Look) -> Result<Looked, CrewError> {
        let rule = animal.rule.and_then(rules::find).expect("the table names rules of the catalogue");
        let not_run = match &rule.judged {
            Judged::Trace { .. } => None,
            Judged::NotBuilt(why) => Some(format!("not built: {why}")),
            Judged::Suite(place) => Some(format!("judged by {place}")),
        };
        let directed = self.directed(rule, look);
        let mut cases: VecDeque<Scenario> = directed.iter().cloned().collect();
        if animal.one_in > 1 {
            cases.extend(rule.directed().into_iter().cycle().take((TRIES * animal.one_in) as usize));
        }
        let mut batch = self.run(animal, cases, None)?;
        // All of them once, accused or not: what is broken by nobody but the control is a false alarm too.
        let mut control = self.compare(&mut batch.found, directed)?;
        let search = |surveyor: &mut Self, style| match not_run {
            None => surveyor.search(animal, rule, style),
            Some(_) => Ok(Searched::default()),
        };
        let mut keen = search(self, Style::Keen)?;
        let plain = match self.shared.plan.compare_plain && look != Look::Again {
            true => Some(search(self, Style::Plain)?),
            false => None,
        };
        let shown = |found: &Found| found.breaks(rule.id).is_some();
        let directed = batch.found.iter().filter(|found| shown(found)).min_by_key(|found| found.size());
        let generated = keen.batch.found.iter().filter(|found| shown(found)).min_by_key(|found| found.index);
        let smallest = match generated.or(directed) {
            Some(found) if self.shared.plan.shrink != Shrink::Not => {
                self.shrink(animal, rule, &found.scenario, &mut control)?
            }
            _ => None,
        };
        let smallest = smallest.or_else(|| {
            let found = [directed, generated].into_iter().flatten().min_by_key(|found| found.size())?;
            Some(Smallest::as_found(found, rule))
        });
        control.append(&mut keen.control);
        let mut lost = batch.lost + keen.batch.lost;
        let found = batch.found.into_iter().chain(std::mem::take(&mut keen.batch.found));
        let mut found: Vec<Found> = found.collect();
        let plain = plain.map(|mut plain| {
            control.append(&mut plain.control);
            lost += plain.batch.lost;
            found.append(&mut plain.batch.found);
            plain.search
        });
        let plan = self.shared.plan;
        let entry = Entry {
            name: animal.name,
            sentence: animal.sentence,
            rule: rule.id,
            one_in: animal.one_in,
            not_run,
            cases: keen.search.cases,
            tried: keen.search.tried,
            plain,
            smallest,
            is_large: animal.is_large,
            is_hidden: animal.is_hidden,
            others: self.others(animal, &found),
            lost,
            first: keen.search,
            asked: Asked { cases: plan.cases, a_small_one: plan.shrink != Shrink::Not },
            is_owed_a_look: false,
        };
        Ok((entry, control))
    }

    /// The directed scenarios of a rule and those of the others that are asked for, each once.
    fn directed(&self, rule: &Rule, look: Look) -> Vec<Scenario> {
        match look {
            Look::First(from) => directed(rule, self.shared.plan.others, from),
            Look::Again => rule.directed(),
        }
    }

    /// Runs generated cases until one breaks the rule that the one without a flaw keeps there.
    fn search(&mut self, animal: &Animal, rule: &Rule, style: Style) -> Result<Searched, CrewError> {
        let generator = Generator::styled(self.shared.plan.seed, animal.shape(), style);
        let named = |scenario: Scenario| match style {
            Style::Keen => scenario,
            // Two generators draw different cases of the same number.
            Style::Plain => Scenario { name: format!("plain-{}", scenario.name), ..scenario },
        };
        let most = self.shared.plan.cases;
        let mut searched = Searched::default();
        let mut next = 0;
        while searched.search.cases.is_none() && next < most && !self.shared.is_over() {
            let scenarios = (next..most).map(|index| named(generator.scenario(index))).collect();
            let mut more = self.run(animal, scenarios, Some(rule.id))?;
            let given = more.found.iter().map(|found| found.scenario.clone()).collect();
            searched.control.extend(self.compare(&mut more.found, given)?);
            let caught_by = more.found.iter().filter(|found| found.breaks(rule.id).is_some());
            let first = caught_by.map(|found| found.index as u64).min();
            searched.search.cases = first.map(|index| next + index + 1);
            next += more.taken;
            // A case that was lost tried nothing.
            searched.search.tried += more.taken - more.lost;
            searched.batch.lost += more.lost;
            searched.batch.found.append(&mut more.found);
            if more.taken == 0 {
                break;
            }
        }
        Ok(searched)
    }

    /// Makes a case small that breaks the rule. Nothing where it was not seen again, or where the one without a flaw breaks it too.
    fn shrink(
        &mut self,
        animal: &Animal,
        rule: &'static Rule,
        scenario: &Scenario,
        control: &mut Vec<Break>,
    ) -> Result<Option<Smallest>, CrewError> {
        let Surveyor { crew, shared } = self;
        let left = shared.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let budget = left.map_or(SHRINK, |left| left.min(SHRINK));
        let subject = spec(animal);
        let failure = Failure { subject: &subject, rule, scenario };
        let is_enough = AtomicBool::new(false);
        let bounds = Bounds { budget, stop: &is_enough };
        let mut stopping =
            Stopping { crew: &mut **crew, watch: &shared.watch, everything: shared.stop, this: &is_enough };
        let minimal = failure.minimise(&mut stopping, &bounds, &mut |reached| {
            let is_small = shared.plan.shrink == Shrink::UntilSmall && animal.is_small(&reached.scenario);
            is_enough.fetch_or(is_small, Ordering::Relaxed);
        })?;
        let Some(trace) = minimal.trace.as_ref().filter(|_| minimal.is_confirmed()) else { return Ok(None) };
        let scenario = minimal.as_found(&failure, self.crew.tier());
        // What is compared with it is found by its name.
        let name = format!("{}-{}-{:x}", scenario.name, rule.id.to_ascii_lowercase(), content(&scenario));
        let scenario = Scenario { name, ..scenario };
        let Some(seen) = broken(trace).into_iter().find(|seen| seen.rule.id == rule.id) else {
            return Ok(None);
        };
        let mut found = vec![Found { index: 0, scenario, seen: vec![seen] }];
        let given = found.iter().map(|found| found.scenario.clone()).collect();
        control.extend(self.compare(&mut found, given)?);
        Ok(found.pop().map(|found| Smallest::as_shrunk(&found, rule, &minimal)))
    }

    /// Runs the keeper without a flaw where nobody did so yet, and takes away what it breaks in the same scenario where that weighs as
    /// much for it. Answers of which *must* rules it is accused.
    fn compare(&mut self, found: &mut Vec<Found>, given: Vec<Scenario>) -> Result<Vec<Break>, CrewError> {
        let control = self.shared.control;
        let (claimed, claim) = control.claim(given);
        let mut accused = Vec::new();
        if !claimed.is_empty() {
            let batch = self.run(&CONTROL, claimed.into(), None)?;
            for found in &batch.found {
                let must = found.seen.iter().filter(|seen| seen.level == Level::Must);
                accused.extend(must.map(|seen| seen.told(&CONTROL, &found.scenario)));
            }
            claim.answer(batch.judged, batch.found);
        }
        let unanswered = |name| {
            CrewError::Start(format!("nobody answers what the keeper without a flaw breaks in {name}"))
        };
        control.excuse(found).map_err(unanswered)?;
        Ok(accused)
    }

    /// The rules that an animal breaks beside its own, each where it shows best. One that is no must and that the keeper without
    /// a flaw breaks elsewhere says nothing of this animal.
    fn others(&self, animal: &Animal, found: &[Found]) -> Vec<Break> {
        let control = self.shared.control;
        let of_rule = |rule: &'static Rule| {
            let breaks = found.iter().filter_map(|found| Some((found.breaks(rule.id)?, found)));
            let (seen, found) = breaks.min_by_key(|(_, found)| found.size())?;
            let says_nothing = seen.level < Level::Must && control.breaks(rule, seen.level);
            (!says_nothing).then(|| seen.told(animal, &found.scenario))
        };
        rules::all().iter().filter(|rule| Some(rule.id) != animal.rule).filter_map(of_rule).collect()
    }

    /// Runs these against an animal, until one breaks the rule where one is named.
    fn run(
        &mut self,
        animal: &Animal,
        scenarios: VecDeque<Scenario>,
        until: Option<&'static str>,
    ) -> Result<Batch, CrewError> {
        let mut batch = Running {
            scenarios,
            given: Vec::new(),
            until,
            deadline: self.shared.deadline.filter(|_| until.is_some()),
            watch: &self.shared.watch,
            stop: self.shared.stop,
            batch: Batch::default(),
        };
        self.crew.run(&spec(animal), &mut batch)?;
        Ok(batch.batch)
    }
}

/// The directed scenarios of a rule, and those of other rules, from this one on: each once.
fn directed(rule: &Rule, others: Others, from: usize) -> Vec<Scenario> {
    let others: Vec<Scenario> = match others {
        Others::All => rules::directed_scenarios(),
        Others::Every(nth) => {
            let nth = nth.max(1);
            rules::directed_scenarios().into_iter().skip(from % nth).step_by(nth).collect()
        }
        Others::OneOfEachRule => {
            let one = |rule: &Rule| rule.directed().into_iter().cycle().nth(from);
            rules::all().iter().filter_map(one).collect()
        }
    };
    let own = rule.directed();
    let mut names: HashSet<String> = own.iter().map(|scenario| scenario.name.clone()).collect();
    let others = others.into_iter().filter(|scenario| names.insert(scenario.name.clone()));
    own.into_iter().chain(spread(others.collect())).collect()
}

/// In such an order that those about time, of which few run at once, come now and then from the beginning to the end.
fn spread(scenarios: Vec<Scenario>) -> Vec<Scenario> {
    let (timed, others): (Vec<Scenario>, Vec<Scenario>) = scenarios.into_iter().partition(is_about_time);
    let placed = |scenarios: Vec<Scenario>| {
        let of = scenarios.len().max(1);
        scenarios.into_iter().enumerate().map(move |(index, scenario)| (index * 1_000 / of, scenario))
    };
    let mut placed: Vec<(usize, Scenario)> = placed(timed).chain(placed(others)).collect();
    placed.sort_by_key(|(place, _)| *place);
    placed.into_iter().map(|(_, scenario)| scenario).collect()
}

/// A number for what a scenario does.
fn content(scenario: &Scenario) -> u64 {
    let mut hasher = DefaultHasher::new();
    Scenario { found: None, ..scenario.clone() }.to_json().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(scenarios: &[Scenario]) -> HashSet<&str> {
        scenarios.iter().map(|scenario| scenario.name.as_str()).collect()
    }

    #[test]
    fn an_animal_gets_its_own_scenarios_first_and_of_each_other_rule_at_least_one() {
        let rule = rules::find("S4").unwrap();
        let (own, all) = (rule.directed(), rules::directed_scenarios());
        for (others, from) in [(Others::All, 0), (Others::OneOfEachRule, 0), (Others::OneOfEachRule, 71)] {
            let given = directed(rule, others, from);
            assert_eq!(given[..own.len()], own[..], "{others:?}");
            assert_eq!(names(&given).len(), given.len(), "{others:?}: each once");
            for other in rules::all().iter().filter(|rule| !rule.directed().is_empty()) {
                let has_one = other.directed().iter().any(|of| names(&given).contains(of.name.as_str()));
                assert!(has_one, "{others:?}: none of {}", other.id);
            }
        }
        assert_eq!(names(&directed(rule, Others::All, 3)), names(&all));
        // From one animal to the next every one has its turn.
        let mut met = HashSet::new();
        for from in 0..crate::zoo::ANIMALS.len() {
            met.extend(directed(rule, Others::OneOfEachRule, from).into_iter().map(|scenario| scenario.name));
        }
        assert!(names(&all).iter().all(|name| met.contains(*name)));
    }

    #[test]
    fn scenarios_about_time_do_not_stand_all_together() {
        let all = spread(rules::directed_scenarios());
        let timed = all.iter().filter(|scenario| is_about_time(scenario)).count();
        let in_first_half = all[..all.len() / 2].iter().filter(|scenario| is_about_time(scenario)).count();
        assert!(timed > 10 && in_first_half.abs_diff(timed / 2) <= 1, "{in_first_half} of {timed}");
    }
}
