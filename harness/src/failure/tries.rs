//! Many variants of a case tried side by side in the crew: the shrinker as a source of scenarios like any other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::audit::RunsCases;
use crate::crew::{CrewError, Source};
use crate::rules::Rule;
use crate::rules::facts::Facts;
use crate::scenario::Scenario;
use crate::subject::SubjectSpec;
use crate::trace::{CaseEnd, Trace};
use crate::verdict::Verdict;

use super::rate::{Rate, Terms};

/// A variant that never came to the point in so many tries does not come to it at all.
const ALL_VACUOUS: u64 = 3;
/// Most traces of a kind that are kept to compare the order of events.
const MOST_TRACES: usize = 12;

/// Whom and what is tried, and until when.
pub(super) struct Bench<'a> {
    pub(super) crew: &'a mut dyn RunsCases,
    pub(super) subject: &'a SubjectSpec,
    pub(super) rule: &'a Rule,
    pub(super) stop: &'a AtomicBool,
    /// How many cases ran so far.
    pub(super) cases: u64,
}

/// What became of a variant.
#[derive(Clone, Debug, Default)]
pub(super) struct Tried {
    /// Of the tries that could be told.
    pub(super) rate: Rate,
    /// Of those that kept the rule: so many never came to the point.
    pub(super) vacuous: u64,
    /// Tries that could not be told.
    pub(super) unknown: u64,
    /// The first case that broke the rule.
    pub(super) trace: Option<Box<Trace>>,
    /// Whether it breaks the rule; nothing where the time was over before that could be told.
    pub(super) decided: Option<bool>,
    /// Why the first try that could not be told could not.
    pub(super) why_untold: Option<String>,
}

/// How a variant is decided upon.
pub(super) enum Until<'a> {
    /// As soon as it is as certain as the terms of each ask for that it breaks the rule as before, or does not; all of them.
    Decided(Vec<Terms>),
    /// The same, until the first one does: with it those need not be decided that it includes, nor any other that has not begun.
    FirstAccepted(Vec<Terms>, &'a dyn Fn(usize, usize) -> bool),
    /// After this number of tries that could be told; longer, up to the second number, until the rule was broken as often as the third.
    /// So many as the last are begun however late it is.
    Counted { least: u64, most: u64, broken: u64, anyway: u64 },
}

/// The traces of a case that sometimes breaks its rule.
#[derive(Default)]
pub(super) struct Traces {
    pub(super) broken: Vec<Trace>,
    pub(super) others: Vec<Trace>,
}

impl Tried {
    /// Whether any case ran.
    pub(super) fn has_begun(&self) -> bool {
        self.rate.of + self.unknown > 0 || self.why_untold.is_some()
    }
}

impl Bench<'_> {
    pub(super) fn is_over(&self, deadline: Instant) -> bool {
        self.stop.load(Ordering::Relaxed) || Instant::now() >= deadline
    }

    /// Tries each variant, all of them side by side, the first ones first.
    pub(super) fn try_all(
        &mut self,
        variants: Vec<Scenario>,
        until: Until<'_>,
        deadline: Instant,
        traces: Option<&mut Traces>,
    ) -> Result<Vec<Tried>, CrewError> {
        let entries = variants.into_iter().map(|scenario| Entry {
            scenario,
            tried: Tried::default(),
            to_start: 0,
            under_way: 0,
            dropped: false,
        });
        let mut source = Tries {
            rule: self.rule,
            until,
            stop: self.stop,
            deadline,
            entries: entries.collect(),
            traces,
            cases: 0,
            begun: 0,
            is_satisfied: false,
        };
        self.crew.run(self.subject, &mut source)?;
        self.cases += source.cases;
        Ok(source.entries.into_iter().map(|entry| entry.tried).collect())
    }
}

struct Entry {
    scenario: Scenario,
    tried: Tried,
    /// How many tries of its batch have not begun.
    to_start: u64,
    under_way: u64,
    /// Another variant that was accepted includes it.
    dropped: bool,
}

struct Tries<'a> {
    rule: &'a Rule,
    until: Until<'a>,
    stop: &'a AtomicBool,
    deadline: Instant,
    entries: Vec<Entry>,
    traces: Option<&'a mut Traces>,
    cases: u64,
    begun: u64,
    /// What was looked for is found.
    is_satisfied: bool,
}

impl Tries<'_> {
    fn is_over(&self) -> bool {
        let anyway = match self.until {
            Until::Counted { anyway, .. } => anyway,
            Until::Decided(_) | Until::FirstAccepted(..) => 0,
        };
        let is_late = || self.begun >= anyway && Instant::now() >= self.deadline;
        self.is_satisfied || self.stop.load(Ordering::Relaxed) || is_late()
    }

    /// How many tries of a variant are begun before it is decided upon again.
    fn useful(&self, index: usize) -> u64 {
        let tried = &self.entries[index].tried;
        match &self.until {
            // Most of what is refused is refused by the first few.
            Until::Decided(terms) | Until::FirstAccepted(terms, _) if tried.rate.of == 0 => {
                terms[index].least()
            }
            Until::Decided(terms) | Until::FirstAccepted(terms, _) => terms[index].useful(tried.rate),
            Until::Counted { least, most, broken, .. } => {
                let Rate { broken: seen, of } = tried.rate;
                let rare = (broken.saturating_sub(seen) as f64 / tried.rate.estimate()).ceil() as u64;
                let missing = least.saturating_sub(of).max(rare.min(of));
                missing.min(most.saturating_sub(of)).max(1)
            }
        }
    }

    fn decide(&self, index: usize) -> Option<bool> {
        let tried = &self.entries[index].tried;
        let Rate { broken, of } = tried.rate;
        // What cannot be told is tried again, but not for ever.
        let hopeless = tried.unknown > 5 + of;
        match &self.until {
            _ if hopeless => Some(false),
            Until::Decided(terms) | Until::FirstAccepted(terms, _) => {
                let never_to_the_point = tried.vacuous >= ALL_VACUOUS && tried.vacuous == of;
                if never_to_the_point { Some(false) } else { terms[index].decide(tried.rate) }
            }
            Until::Counted { least, most, broken: enough, .. } => {
                (of >= *most || (of >= *least && (broken == of || broken >= *enough))).then_some(broken > 0)
            }
        }
    }
}

impl Source for Tries<'_> {
    fn next(&mut self) -> Option<Scenario> {
        if self.is_over() {
            return None;
        }
        // A batch is begun when the one before it is back.
        let wants = |entry: &Entry| {
            entry.tried.decided.is_none() && !entry.dropped && (entry.to_start > 0 || entry.under_way == 0)
        };
        let index = self.entries.iter().position(wants)?;
        if self.entries[index].to_start == 0 {
            self.entries[index].to_start = self.useful(index);
        }
        let entry = &mut self.entries[index];
        self.begun += 1;
        entry.to_start -= 1;
        entry.under_way += 1;
        Some(entry.scenario.clone())
    }

    fn take(&mut self, trace: Trace) -> bool {
        let is_it = |entry: &Entry| entry.under_way > 0 && entry.scenario == trace.scenario;
        let index = self.entries.iter().position(is_it).expect("the crew gives back what it was given");
        self.cases += 1;
        let verdict = match &trace.end {
            CaseEnd::OurFault(why) => Verdict::Unknown(why.clone()),
            _ => self.rule.judge(&Facts::of(&trace)),
        };
        let entry = &mut self.entries[index];
        entry.under_way -= 1;
        let tried = &mut entry.tried;
        match &verdict {
            Verdict::Broken(_) => {
                tried.rate.broken += 1;
                tried.rate.of += 1;
                tried.trace.get_or_insert_with(|| Box::new(trace.clone()));
            }
            Verdict::Kept => tried.rate.of += 1,
            Verdict::Vacuous(_) => {
                tried.rate.of += 1;
                tried.vacuous += 1;
            }
            Verdict::Unknown(why) => {
                tried.unknown += 1;
                tried.why_untold.get_or_insert_with(|| why.clone());
            }
            // The subject cannot do it, so no further try can either.
            Verdict::NotRun(why) => {
                tried.decided = Some(false);
                tried.why_untold.get_or_insert_with(|| why.clone());
            }
        }
        if let Some(traces) = &mut self.traces {
            match verdict {
                Verdict::Broken(_) if traces.broken.len() < MOST_TRACES => traces.broken.push(trace),
                Verdict::Kept | Verdict::Vacuous(_) if traces.others.len() < MOST_TRACES => {
                    traces.others.push(trace);
                }
                _ => {}
            }
        }
        // Tries that keep the rule may be back long before those that break it, or after them: half a batch would flatter one side.
        let is_back = self.entries[index].to_start == 0 && self.entries[index].under_way == 0;
        if is_back && self.entries[index].tried.decided.is_none() {
            self.entries[index].tried.decided = self.decide(index);
            if self.entries[index].tried.decided == Some(true)
                && let Until::FirstAccepted(_, includes) = &self.until
            {
                self.is_satisfied = true;
                for (other, entry) in self.entries.iter_mut().enumerate() {
                    entry.dropped |= other != index && includes(index, other);
                }
            }
        }
        !self.is_over()
    }
}
