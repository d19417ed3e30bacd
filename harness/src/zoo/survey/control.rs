//! The keeper without a flaw: what it breaks, no animal is blamed for.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::batch::{Found, Seen};
use crate::rules::Rule;
use crate::scenario::Scenario;
use crate::verdict::Level;

/// What the keeper without a flaw breaks, as far as it was looked at: whoever asks again, at the same time too, need not look again.
#[derive(Default)]
pub struct Control {
    answers: Mutex<HashMap<String, Answer>>,
    answered: Condvar,
}

enum Answer {
    /// Somebody is running it.
    Awaited,
    Known(Vec<Seen>),
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("scenarios", &self.lock().len()).finish()
    }
}

impl Control {
    /// Those of these scenarios that nobody has run or is running: whoever calls this runs them, and answers or gives them back.
    pub(super) fn claim(&self, scenarios: Vec<Scenario>) -> Vec<Scenario> {
        let mut answers = self.lock();
        let is_new = |scenario: &Scenario| !answers.contains_key(&scenario.name);
        let mut names = HashSet::new();
        let claimed = scenarios.into_iter().filter(is_new);
        let claimed: Vec<Scenario> = claimed.filter(|scenario| names.insert(scenario.name.clone())).collect();
        answers.extend(names.into_iter().map(|name| (name, Answer::Awaited)));
        claimed
    }

    /// In these scenarios, which the caller has claimed, it breaks this and nothing else.
    pub(super) fn answer(&self, names: Vec<String>, found: Vec<Found>) {
        let mut answers = self.lock();
        answers.extend(names.into_iter().map(|name| (name, Answer::Known(Vec::new()))));
        answers.extend(found.into_iter().map(|found| (found.scenario.name, Answer::Known(found.seen))));
        self.answered.notify_all();
    }

    /// The caller could not run them.
    pub(super) fn give_back(&self, names: &[String]) {
        let mut answers = self.lock();
        names.iter().for_each(|name| drop(answers.remove(name)));
        self.answered.notify_all();
    }

    /// Takes away what it breaks in the same scenario, where that weighs as much for it. Waits for whoever is running one of them.
    pub(super) fn excuse(&self, found: &mut Vec<Found>) {
        let is_awaited = |answers: &mut HashMap<String, Answer>| {
            found.iter().any(|found| matches!(answers.get(&found.scenario.name), Some(Answer::Awaited)))
        };
        let answers = self.answered.wait_while(self.lock(), is_awaited);
        let answers = answers.unwrap_or_else(PoisonError::into_inner);
        found.retain_mut(|found| match answers.get(&found.scenario.name) {
            Some(Answer::Known(of_control)) => {
                found.seen.retain(|seen| {
                    !of_control.iter().any(|other| other.rule.id == seen.rule.id && other.level >= seen.level)
                });
                !found.seen.is_empty()
            }
            // Without a comparison nobody is blamed.
            Some(Answer::Awaited) | None => false,
        });
    }

    /// Whether it breaks this rule somewhere, and that weighs as much for it.
    pub(super) fn breaks(&self, rule: &Rule, level: Level) -> bool {
        self.lock().values().any(|answer| match answer {
            Answer::Known(seen) => seen.iter().any(|seen| seen.rule.id == rule.id && seen.level >= level),
            Answer::Awaited => false,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Answer>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::Generator;
    use crate::rules;

    fn scenario(index: u64) -> Scenario {
        Generator::new(1).scenario(index)
    }

    fn found(index: u64, rules: &[(&str, Level)]) -> Found {
        let seen = rules.iter().map(|(rule, level)| Seen {
            rule: rules::find(rule).unwrap(),
            level: *level,
            detail: String::new(),
        });
        Found { index: 0, scenario: scenario(index), seen: seen.collect() }
    }

    #[test]
    fn a_scenario_is_run_by_one_of_those_who_ask_for_it_and_by_the_next_if_that_one_could_not() {
        let control = Control::default();
        let names = |claimed: Vec<Scenario>| claimed.into_iter().map(|it| it.name).collect::<Vec<_>>();
        let asked = || vec![scenario(0), scenario(1), scenario(0)];
        let claimed = names(control.claim(asked()));
        assert_eq!(claimed, ["generated-1-0", "generated-1-1"]);
        assert!(control.claim(asked()).is_empty());
        control.give_back(&claimed);
        assert_eq!(names(control.claim(asked())), claimed);
        control.answer(claimed, Vec::new());
        assert!(control.claim(asked()).is_empty());
    }

    #[test]
    fn an_animal_is_excused_for_what_the_one_without_a_flaw_breaks_too_where_that_weighs_as_much() {
        let control = Control::default();
        control.claim(vec![scenario(0)]);
        let of_control = [("S4", Level::Should), ("D1", Level::Must)];
        control.answer(vec![scenario(0).name], vec![found(0, &of_control)]);
        let mut of_animal = vec![
            found(0, &[("S4", Level::Must), ("D1", Level::Must), ("Z1", Level::Must)]),
            found(0, &of_control),
        ];
        control.excuse(&mut of_animal);
        let left: Vec<&str> = of_animal[0].seen.iter().map(|seen| seen.rule.id).collect();
        assert_eq!((left, of_animal.len()), (vec!["S4", "Z1"], 1));
        // What nobody compared blames nobody.
        let mut unknown = vec![found(7, &[("Z1", Level::Must)])];
        control.excuse(&mut unknown);
        assert!(unknown.is_empty());
    }

    #[test]
    fn whoever_needs_an_answer_waits_for_the_one_who_is_running_it() {
        let control = Control::default();
        let claimed = control.claim(vec![scenario(0)]).remove(0).name;
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let mut of_animal = vec![found(0, &[("Z1", Level::Must)])];
                control.excuse(&mut of_animal);
                of_animal.len()
            });
            control.answer(vec![claimed], vec![found(0, &[("Z1", Level::Must)])]);
            assert_eq!(waiting.join().unwrap(), 0);
        });
    }
}
