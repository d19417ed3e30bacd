//! Whether the same case goes the same way twice: every 50th generated case is run again, and the canonical forms of the two
//! traces are compared.
//!
//! A scenario may leave something to chance, and a wrapper may be racy, so a difference is no finding by itself; many of them say
//! that the machine is too busy, or that the harness is.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::canonical::{canonical, first_difference};
use crate::scenario::Scenario;
use crate::trace::{CaseEnd, Trace};

/// Every how manieth case is run twice.
const EVERY: u64 = 50;
/// How many differences are told.
const MOST_TOLD: usize = 5;

/// What came of the cases that were run twice.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repeats {
    /// How many cases were run twice, to their end both times.
    pub cases: u64,
    /// How many of them went the same way twice.
    pub same: u64,
    /// Some of those that did not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differing: Vec<Difference>,
}

/// A case that went one way and then another.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Its scenario.
    pub scenario: String,
    /// The first line of its canonical form that differs, the first time.
    pub once: String,
    /// The same line, the second time.
    pub then: String,
}

/// The cases that are run twice.
#[derive(Debug, Default)]
pub(super) struct Twice {
    drawn: u64,
    again: Option<Scenario>,
    seen: HashMap<String, Option<Vec<String>>>,
    repeats: Repeats,
}

impl Twice {
    /// The case that is to be run again now, if there is one.
    pub(super) fn again(&mut self) -> Option<Scenario> {
        self.again.take()
    }

    /// Takes note of a case that is about to be run for the first time.
    pub(super) fn note(&mut self, scenario: &Scenario) {
        self.drawn += 1;
        if self.drawn.is_multiple_of(EVERY) {
            self.again = Some(scenario.clone());
            self.seen.insert(scenario.name.clone(), None);
        }
    }

    /// Takes in a trace, of whatever case.
    pub(super) fn take(&mut self, trace: &Trace) {
        let Some(first) = self.seen.remove(&trace.scenario.name) else { return };
        if !matches!(trace.end, CaseEnd::Completed | CaseEnd::HostSilent) {
            return;
        }
        let this = canonical(trace);
        let Some(first) = first else {
            self.seen.insert(trace.scenario.name.clone(), Some(this));
            return;
        };
        self.repeats.cases += 1;
        match first_difference(&first, &this) {
            None => self.repeats.same += 1,
            Some((once, then)) if self.repeats.differing.len() < MOST_TOLD => {
                let scenario = trace.scenario.name.clone();
                self.repeats.differing.push(Difference { scenario, once, then });
            }
            Some(_) => {}
        }
    }

    /// What came of them.
    pub(super) fn report(self) -> Repeats {
        self.repeats
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::timeline::tests::cancelled_tree;
    use crate::trace::{Reason, What};

    fn named(index: u64) -> Scenario {
        Scenario { name: format!("case-{index}"), ..cancelled_tree().scenario }
    }

    #[test]
    fn every_fiftieth_case_is_run_twice_and_what_differs_is_told() {
        let mut twice = Twice::default();
        let mut repeated = Vec::new();
        for index in 1..=150 {
            let scenario = named(index);
            twice.note(&scenario);
            let again = twice.again();
            for (turn, scenario) in std::iter::once(&scenario).chain(&again).enumerate() {
                let mut trace = Trace { scenario: scenario.clone(), ..cancelled_tree() };
                // The clock never differs in what counts, and the second of them ends otherwise.
                trace.moments.iter_mut().for_each(|moment| moment.at_us += turn as u64);
                if index == 100 && turn == 1 {
                    for moment in &mut trace.moments {
                        if let What::Ended { outcome, .. } = &mut moment.what {
                            outcome.reason = Reason::TimedOut;
                        }
                    }
                }
                twice.take(&trace);
            }
            repeated.extend(again.map(|scenario| scenario.name));
        }
        assert_eq!(repeated, ["case-50", "case-100", "case-150"]);
        let repeats = twice.report();
        assert_eq!((repeats.cases, repeats.same, repeats.differing.len()), (3, 2, 1));
        assert_eq!(repeats.differing[0].scenario, "case-100");
        assert!(repeats.differing[0].then.contains("TimedOut"), "{:?}", repeats.differing);
    }

    #[test]
    fn a_case_that_the_harness_lost_is_compared_with_nothing() {
        let mut twice = Twice::default();
        (1..=50).for_each(|index| twice.note(&named(index)));
        let trace = Trace { scenario: named(50), ..cancelled_tree() };
        twice.take(&Trace { end: CaseEnd::OurFault("lost".to_owned()), ..trace.clone() });
        twice.take(&trace);
        assert_eq!(twice.report(), Repeats::default());
    }
}
