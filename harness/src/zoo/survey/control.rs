//! The keeper without a flaw: what it breaks, no animal is blamed for.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::batch::{Found, Seen};
use crate::rules::Rule;
use crate::scenario::Scenario;
use crate::verdict::Level;

/// How long somebody may take to run what he has claimed: as many cases as there are directed ones, each of which has a cap of its own.
const ANSWER_CAP: Duration = Duration::from_secs(1_800);

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

/// Scenarios that one of those who look has taken upon itself. What it does not answer is somebody else's when this is dropped, however
/// that comes.
pub(super) struct Claim<'c> {
    control: &'c Control,
    unanswered: HashSet<String>,
}

impl Claim<'_> {
    /// In the scenarios of these names it breaks this and nothing else. Of the others nothing is said.
    pub(super) fn answer(mut self, judged: Vec<String>, found: Vec<Found>) {
        let mut answers = self.control.lock();
        for name in judged {
            self.unanswered.remove(&name);
            answers.insert(name, Answer::Known(Vec::new()));
        }
        for found in found {
            self.unanswered.remove(&found.scenario.name);
            answers.insert(found.scenario.name, Answer::Known(found.seen));
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut answers = self.control.lock();
        self.unanswered.iter().for_each(|name| drop(answers.remove(name)));
        self.control.answered.notify_all();
    }
}

impl Control {
    /// Those of these scenarios that nobody has run or is running: whoever calls this runs them.
    pub(super) fn claim(&self, scenarios: Vec<Scenario>) -> (Vec<Scenario>, Claim<'_>) {
        let mut answers = self.lock();
        let is_new = |scenario: &Scenario| !answers.contains_key(&scenario.name);
        let mut names = HashSet::new();
        let claimed = scenarios.into_iter().filter(is_new);
        let claimed: Vec<Scenario> = claimed.filter(|scenario| names.insert(scenario.name.clone())).collect();
        answers.extend(names.iter().map(|name| (name.clone(), Answer::Awaited)));
        (claimed, Claim { control: self, unanswered: names })
    }

    /// Takes away what it breaks in the same scenario, where that weighs as much for it. Waits for whoever is running one of them.
    ///
    /// # Errors
    ///
    /// The name of a scenario that somebody claimed and that nobody answered in a time that is far too long.
    pub(super) fn excuse(&self, found: &mut Vec<Found>) -> Result<(), String> {
        self.excuse_within(found, ANSWER_CAP)
    }

    fn excuse_within(&self, found: &mut Vec<Found>, cap: Duration) -> Result<(), String> {
        let awaited = |answers: &HashMap<String, Answer>| {
            let is_awaited =
                |found: &&Found| matches!(answers.get(&found.scenario.name), Some(Answer::Awaited));
            found.iter().find(is_awaited).map(|found| found.scenario.name.clone())
        };
        let answers =
            self.answered.wait_timeout_while(self.lock(), cap, |answers| awaited(answers).is_some());
        let (answers, _) = answers.unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = awaited(&answers) {
            return Err(name);
        }
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
        Ok(())
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

    fn names(claimed: &[Scenario]) -> Vec<String> {
        claimed.iter().map(|it| it.name.clone()).collect()
    }

    #[test]
    fn a_scenario_is_run_by_one_of_those_who_ask_for_it_and_by_the_next_if_that_one_could_not() {
        let control = Control::default();
        let asked = || vec![scenario(0), scenario(1), scenario(0)];
        let (claimed, claim) = control.claim(asked());
        assert_eq!(names(&claimed), ["generated-1-0", "generated-1-1"]);
        assert!(control.claim(asked()).0.is_empty());
        drop(claim);
        let (again, claim) = control.claim(asked());
        assert_eq!(names(&again), names(&claimed));
        claim.answer(names(&again), Vec::new());
        assert!(control.claim(asked()).0.is_empty());
    }

    #[test]
    fn what_was_claimed_and_not_run_is_answered_by_nobody_and_claimed_by_the_next() {
        let control = Control::default();
        let (_, claim) = control.claim(vec![scenario(0), scenario(1), scenario(2)]);
        // The second was lost, the third was not begun.
        claim.answer(vec![scenario(0).name], Vec::new());
        let accused = |index| vec![found(index, &[("Z1", Level::Must)])];
        let [mut run, mut lost] = [0, 1].map(accused);
        control.excuse(&mut run).unwrap();
        control.excuse(&mut lost).unwrap();
        assert_eq!((run.len(), lost.len()), (1, 0), "nobody is blamed without a comparison");
        let (claimed, _claim) = control.claim(vec![scenario(0), scenario(1), scenario(2)]);
        assert_eq!(names(&claimed), names(&[scenario(1), scenario(2)]));
    }

    #[test]
    fn nobody_waits_for_one_who_has_panicked_or_says_nothing() {
        let control = Control::default();
        let mut accused = vec![found(0, &[("Z1", Level::Must)])];
        let panicked = std::thread::scope(|scope| {
            let claims = || {
                let (_, _claim) = control.claim(vec![scenario(0)]);
                panic!("the source gives back what it was not given");
            };
            scope.spawn(claims).join().is_err()
        });
        control.excuse(&mut accused).unwrap();
        assert!(panicked && accused.is_empty());
        let (_, _claim) = control.claim(vec![scenario(0)]);
        let mut accused = vec![found(0, &[("Z1", Level::Must)])];
        let awaited = control.excuse_within(&mut accused, Duration::from_millis(1));
        assert_eq!(awaited, Err(scenario(0).name));
    }

    #[test]
    fn an_animal_is_excused_for_what_the_one_without_a_flaw_breaks_too_where_that_weighs_as_much() {
        let control = Control::default();
        let (_, claim) = control.claim(vec![scenario(0)]);
        let of_control = [("S4", Level::Should), ("D1", Level::Must)];
        claim.answer(vec![scenario(0).name], vec![found(0, &of_control)]);
        let mut of_animal = vec![
            found(0, &[("S4", Level::Must), ("D1", Level::Must), ("Z1", Level::Must)]),
            found(0, &of_control),
        ];
        control.excuse(&mut of_animal).unwrap();
        let left: Vec<&str> = of_animal[0].seen.iter().map(|seen| seen.rule.id).collect();
        assert_eq!((left, of_animal.len()), (vec!["S4", "Z1"], 1));
        // What nobody compared blames nobody.
        let mut unknown = vec![found(7, &[("Z1", Level::Must)])];
        control.excuse(&mut unknown).unwrap();
        assert!(unknown.is_empty());
    }

    #[test]
    fn whoever_needs_an_answer_waits_for_the_one_who_is_running_it() {
        let control = Control::default();
        let (_, claim) = control.claim(vec![scenario(0)]);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let mut of_animal = vec![found(0, &[("Z1", Level::Must)])];
                control.excuse(&mut of_animal).unwrap();
                of_animal.len()
            });
            claim.answer(vec![scenario(0).name], vec![found(0, &[("Z1", Level::Must)])]);
            assert_eq!(waiting.join().unwrap(), 0);
        });
    }
}
