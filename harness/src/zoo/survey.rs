//! The survey: which rules each animal breaks, how soon its own is seen, and how small a case shows it.
//!
//! An animal is caught where it breaks the rule that is meant for it and the one without a flaw, in the same scenario, does
//! not. The directed scenarios show it for certain; how many generated ones it takes says how well they are drawn, beside plainly drawn
//! ones if that is asked for. The first generated case that shows it is shrunk. Any other *must* rule that it breaks and the
//! one without a flaw keeps is declared in the table with the reason, or is a fault: of the rule or of the animal.
//!
//! Each crew looks at an animal of its own, because most cases wait. In a crowd lateness proves little: whoever is not seen there
//! is looked at once more alone.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Animal;
use crate::audit::RunsCases;
use crate::crew::CrewError;
use crate::failure::Minimal;
use crate::failure::rate::Rate;
use crate::rules::Rule;
use crate::scenario::Scenario;
use crate::trace::Tier;
use crate::verdict::Level;

mod batch;
mod compared;
mod control;
mod look;
mod stopping;

pub use compared::{Comparison, Median, compare};
pub use control::Control;

use batch::{Found, ops_and_nodes};
use look::{Directed, Looked, Surveyor};

/// Version of the survey's JSON.
pub const SCHEMA: u32 = 1;
/// How many generated cases an animal gets where no number is asked for: an audit with a budget of a minute runs many times as many.
pub const DEFAULT_CASES: u64 = 400;
/// How long a failure is shrunk at most: far longer than nearly all of them take.
pub const SHRINK: Duration = Duration::from_secs(120);
/// A small case has at most so many ops, and so many nodes.
pub const SMALL: usize = 3;
/// How often an animal that was not seen in the crowd is looked at alone.
const AGAIN: usize = 2;

/// What a survey is to do.
pub struct Plan {
    /// Whom to look at.
    pub animals: Vec<&'static Animal>,
    /// How many generated cases each gets at most until its rule is seen broken.
    pub cases: u64,
    /// The time for all of them together. It bounds generated cases and shrinking only.
    pub budget: Option<Duration>,
    /// Seed of the generated scenarios.
    pub seed: u64,
    /// Of the directed scenarios of other rules an animal gets every so-many-th; 1: all.
    pub every: usize,
    /// From which on for the first animal; each next one begins one further on.
    pub from: usize,
    /// How far the case that shows an animal is shrunk.
    pub shrink: Shrink,
    /// Whether to look also how many plainly drawn cases it takes.
    pub compare_plain: bool,
}

/// How far a case is shrunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shrink {
    /// It is left as it is.
    Not,
    /// Until it is as small as it should be: no minimal one is larger.
    UntilSmall,
    /// Until nothing simpler is found, which takes far longer.
    Fully,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Survey {
    /// Version of the format.
    pub schema: u32,
    /// How processes were counted.
    pub tier: Tier,
    /// Seed of the generated scenarios.
    pub seed: u64,
    /// How many generated cases an animal got at most.
    pub most: u64,
    /// Whether it was interrupted before its end.
    pub interrupted: bool,
    /// What of the harness itself failed, so that it could not go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// How many generated cases it took, beside plainly drawn ones; nothing where that was not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Comparison>,
    /// Each animal.
    pub animals: Vec<Entry>,
    /// The *must* rules that accuse the keeper without a flaw: false alarms.
    pub control: Vec<Break>,
}

/// What was found of an animal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// What is wrong with it.
    pub sentence: &'static str,
    /// The rule that is meant for it.
    pub rule: &'static str,
    /// In one of how many runs it is wrong.
    pub one_in: u32,
    /// Whether that rule saw it.
    pub caught: bool,
    /// Why that rule could not see it: it is not built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_run: Option<String>,
    /// The how many-th generated case it was seen by; nothing if by none.
    pub cases: Option<u64>,
    /// How many generated cases it got.
    pub tried: u64,
    /// The same of plainly drawn cases, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plain: Option<Search>,
    /// How many nodes the smallest scenario has that shows it.
    pub nodes: Option<usize>,
    /// How many ops that has.
    pub ops: Option<usize>,
    /// That scenario.
    pub smallest: Option<Smallest>,
    /// Why no small scenario shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_large: Option<Large>,
    /// Why a generated case need not show it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_hidden: Option<&'static str>,
    /// The other rules that it breaks.
    pub others: Vec<Break>,
    /// How many cases the harness lost.
    pub lost: u64,
}

/// After how many drawn cases an animal was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Search {
    /// The how many-th it was seen by; nothing if by none.
    pub cases: Option<u64>,
    /// How many it got.
    pub tried: u64,
}

/// The smallest scenario that shows an animal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Smallest {
    /// Where it comes from.
    pub origin: Origin,
    /// How often it shows it, where that was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Whether nothing simpler was found in a last look at everything.
    pub minimal: bool,
    /// What was found there.
    pub detail: String,
    /// The scenario itself.
    pub scenario: Scenario,
    #[serde(skip)]
    nodes: usize,
    #[serde(skip)]
    ops: usize,
}

/// Where a scenario comes from that shows an animal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// It is compiled in, or generated, and as it was.
    AsItWas,
    /// It was shrunk.
    Shrunk,
}

/// Why more than a small case is needed, and how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Large {
    /// So many ops at most.
    pub ops: usize,
    /// So many nodes at most.
    pub nodes: usize,
    /// Why.
    pub why: &'static str,
}

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Break {
    /// The rule's id.
    pub rule: &'static str,
    /// What it weighs for this animal.
    pub level: Level,
    /// Why the animal cannot help that; nothing if the table does not say.
    pub related: Option<&'static str>,
    /// Where it was seen.
    pub scenario: String,
    /// What was found there.
    pub detail: String,
}

impl Survey {
    /// Whether each animal was caught by its rule and nobody was accused of what he did not do.
    pub fn is_as_meant(&self) -> bool {
        let is_done = !self.interrupted && self.fault.is_none();
        is_done && self.control.is_empty() && self.animals.iter().all(Entry::is_as_meant)
    }
}

impl Entry {
    /// Whether it was caught by its rule, in a generated case too if it got any, in a small one if it was shrunk, and by no
    /// *must* rule that has nothing to do with its flaw; but for what the table says of it.
    pub fn is_as_meant(&self) -> bool {
        self.caught
            && !self.is_unseen_in_generated()
            && !self.is_too_large()
            && self.strays().next().is_none()
    }

    /// Whether no generated case showed it, and the table does not say why.
    pub fn is_unseen_in_generated(&self) -> bool {
        self.tried > 0 && self.cases.is_none() && self.is_hidden.is_none()
    }

    /// Whether what is left of a shrunk case is larger than it should be.
    pub fn is_too_large(&self) -> bool {
        let is_shrunk = |smallest: &&Smallest| smallest.origin == Origin::Shrunk;
        let shrunk = self.smallest.as_ref().filter(is_shrunk);
        shrunk.is_some_and(|smallest| !is_small(self.is_large, &smallest.scenario))
    }

    /// The *must* rules that it breaks and that the table does not expect of it.
    pub fn strays(&self) -> impl Iterator<Item = &Break> {
        self.others.iter().filter(|other| other.is_stray())
    }

    /// What was found when it was looked at once more, in the place of what that did not find.
    fn or_again(self, again: Self) -> Self {
        let mut others = self.others;
        for other in again.others {
            if others.iter().all(|known| known.rule != other.rule) {
                others.push(other);
            }
        }
        Self { others, lost: self.lost + again.lost, plain: self.plain, ..again }
    }
}

/// Whether a scenario is no larger than it should be.
pub(super) fn is_small(large: Option<Large>, scenario: &Scenario) -> bool {
    let (most_ops, most_nodes) = large.map_or((SMALL, SMALL), |large| (large.ops, large.nodes));
    let (ops, nodes) = ops_and_nodes(scenario);
    ops <= most_ops && nodes <= most_nodes
}

impl Smallest {
    fn as_found(found: &Found, rule: &Rule) -> Self {
        let (ops, nodes) = ops_and_nodes(&found.scenario);
        let detail = found.breaks(rule.id).map(|seen| seen.detail.clone()).unwrap_or_default();
        let scenario = found.scenario.clone();
        Self { origin: Origin::AsItWas, rate: None, minimal: false, detail, scenario, nodes, ops }
    }

    fn as_shrunk(found: &Found, rule: &Rule, minimal: &Minimal) -> Self {
        let rate = minimal.is_measured.then_some(minimal.rate);
        Self { origin: Origin::Shrunk, rate, minimal: minimal.is_minimal, ..Self::as_found(found, rule) }
    }
}

impl Break {
    /// Whether it is a *must* rule that the table does not expect.
    pub fn is_stray(&self) -> bool {
        self.level == Level::Must && self.related.is_none()
    }
}

/// How far a survey is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// So many animals are done.
    pub animals: usize,
    /// Of so many.
    pub of: usize,
    /// So many cases are.
    pub cases: u64,
}

/// Who wants to know how far a survey is.
pub trait Onlooker: Send {
    /// It is so far.
    fn reached(&mut self, reached: Reached);
}

/// Nobody wants to know.
impl Onlooker for () {
    fn reached(&mut self, _reached: Reached) {}
}

struct Watch<'a>(Mutex<(Reached, &'a mut dyn Onlooker)>);

impl Watch<'_> {
    fn cases_done(&self, cases: u64) {
        self.tell(|reached| reached.cases += cases);
    }

    fn animal_done(&self) {
        self.tell(|reached| reached.animals += 1);
    }

    fn tell(&self, change: impl FnOnce(&mut Reached)) {
        let mut watch = lock(&self.0);
        change(&mut watch.0);
        let reached = watch.0;
        watch.1.reached(reached);
    }
}

/// What all who look share.
struct Shared<'a> {
    plan: &'a Plan,
    control: &'a Control,
    watch: Watch<'a>,
    deadline: Option<Instant>,
    stop: &'a AtomicBool,
    fault: Mutex<Option<CrewError>>,
    waiting: Mutex<VecDeque<(usize, &'static Animal)>>,
    looked: Mutex<Vec<(usize, Looked)>>,
}

impl Shared<'_> {
    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    fn next(&self) -> Option<(usize, &'static Animal)> {
        let goes_on = !self.stop.load(Ordering::Relaxed) && lock(&self.fault).is_none();
        goes_on.then(|| lock(&self.waiting).pop_front())?
    }
}

/// Looks at each animal of a plan until it is done or `stop` is set; with several crews at several animals at a time.
pub fn run<C: RunsCases + Send>(
    plan: &Plan,
    control: &Control,
    crews: &mut [C],
    onlooker: &mut dyn Onlooker,
    stop: &AtomicBool,
) -> Survey {
    let tier = crews.first().expect("somebody to run the cases").tier();
    let reached = Reached { animals: 0, of: plan.animals.len(), cases: 0 };
    let shared = Shared {
        plan,
        control,
        watch: Watch(Mutex::new((reached, onlooker))),
        deadline: plan.budget.map(|budget| Instant::now() + budget),
        stop,
        fault: Mutex::default(),
        waiting: Mutex::new(plan.animals.iter().copied().enumerate().collect()),
        looked: Mutex::default(),
    };
    std::thread::scope(|scope| {
        let shared = &shared;
        for crew in crews.iter_mut() {
            scope.spawn(move || look_at_all(&mut Surveyor { crew, shared }));
        }
    });
    let mut looked = std::mem::take(&mut *lock(&shared.looked));
    looked.sort_by_key(|(index, _)| *index);
    let (mut animals, mut accused) = (Vec::new(), Vec::new());
    let mut alone = Surveyor { crew: &mut crews[0], shared: &shared };
    for (index, (entry, control)) in looked {
        accused.extend(control);
        animals.push(look_again(&mut alone, plan.animals[index], entry, &mut accused));
    }
    Survey {
        schema: SCHEMA,
        tier,
        seed: plan.seed,
        most: plan.cases,
        interrupted: stop.load(Ordering::Relaxed),
        fault: lock(&shared.fault).take().map(|error| error.to_string()),
        comparison: plan.compare_plain.then(|| compare(&animals)),
        animals,
        control: accused,
    }
}

fn look_at_all<C: RunsCases>(surveyor: &mut Surveyor<'_, '_, C>) {
    let shared = surveyor.shared;
    while let Some((index, animal)) = shared.next() {
        match surveyor.look_at(animal, Directed::AllFrom(shared.plan.from + index)) {
            Ok(looked) => {
                lock(&shared.looked).push((index, looked));
                shared.watch.animal_done();
            }
            Err(error) => *lock(&shared.fault) = Some(error),
        }
    }
}

/// Looks at who was not seen in the crowd once more, alone. Whom a rule accuses that should not is accused, however seldom.
fn look_again<C: RunsCases>(
    surveyor: &mut Surveyor<'_, '_, C>,
    animal: &'static Animal,
    mut entry: Entry,
    accused: &mut Vec<Break>,
) -> Entry {
    let shared = surveyor.shared;
    for _ in 0..AGAIN {
        let has_fault = lock(&shared.fault).is_some();
        let is_settled = entry.is_as_meant() || entry.not_run.is_some() || entry.strays().next().is_some();
        if is_settled || has_fault || shared.is_over() {
            break;
        }
        match surveyor.look_at(animal, Directed::Own) {
            Ok((again, control)) => {
                accused.extend(control);
                entry = entry.or_again(again);
            }
            Err(error) => *lock(&shared.fault) = Some(error),
        }
    }
    entry
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::generate::Generator;

    /// An animal that was caught in its first generated case, of which a small one is left.
    pub(crate) fn caught(name: &'static str) -> Entry {
        let scenario = Scenario {
            script: Vec::new(),
            ops: Vec::new(),
            name: "generated-1-0-z1-1".to_owned(),
            ..Generator::new(1).scenario(0)
        };
        Entry {
            name,
            sentence: "It does something else than it should.",
            rule: "Z1",
            one_in: 1,
            caught: true,
            not_run: None,
            cases: Some(1),
            tried: 12,
            plain: None,
            nodes: Some(1),
            ops: Some(0),
            smallest: Some(Smallest {
                origin: Origin::Shrunk,
                rate: None,
                minimal: false,
                detail: "a zombie".to_owned(),
                scenario,
                nodes: 1,
                ops: 0,
            }),
            is_large: None,
            is_hidden: None,
            others: Vec::new(),
            lost: 0,
        }
    }

    pub(crate) fn accused_of(rule: &'static str, level: Level, related: Option<&'static str>) -> Break {
        Break { rule, level, related, scenario: "some-case".to_owned(), detail: "it does that".to_owned() }
    }

    /// What is left of its case has so many ops.
    pub(crate) fn with_ops(entry: Entry, ops: usize) -> Entry {
        let mut smallest = entry.smallest.expect("there is a case that shows it");
        smallest.scenario.ops = vec![crate::scenario::Op::new(crate::scenario::Verb::Run); ops];
        smallest.ops = ops;
        Entry { ops: Some(ops), smallest: Some(smallest), ..entry }
    }

    #[test]
    fn an_animal_is_as_meant_if_its_rule_saw_it_in_a_small_generated_case_and_no_other_must_rule_did() {
        let entry = || caught("some");
        assert!(entry().is_as_meant());
        assert!(!Entry { caught: false, smallest: None, ..entry() }.is_as_meant());
        let unseen = Entry { cases: None, ..entry() };
        assert!(!unseen.is_as_meant());
        assert!(Entry { is_hidden: Some("it needs a terminal"), ..unseen.clone() }.is_as_meant());
        assert!(Entry { tried: 0, ..unseen }.is_as_meant());
        let stray = accused_of("S1", Level::Must, None);
        assert!(!Entry { others: vec![stray], ..entry() }.is_as_meant());
        let related = accused_of("S1", Level::Must, Some("it is the same"));
        let should = accused_of("T3", Level::Should, None);
        assert!(Entry { others: vec![related, should], ..entry() }.is_as_meant());
    }

    #[test]
    fn what_is_left_of_a_case_may_have_three_ops_or_as_many_as_the_table_says() {
        assert!(with_ops(caught("some"), 3).is_as_meant());
        let large = with_ops(caught("some"), 6);
        assert!(!large.is_as_meant());
        let allowed = Large { ops: 6, nodes: 1, why: "it grows" };
        assert!(Entry { is_large: Some(allowed), ..large.clone() }.is_as_meant());
        assert!(!Entry { is_large: Some(allowed), ..with_ops(caught("some"), 7) }.is_as_meant());
        // One that was never shrunk says nothing of how small it could be.
        let smallest =
            large.smallest.clone().map(|smallest| Smallest { origin: Origin::AsItWas, ..smallest });
        assert!(Entry { smallest, ..large }.is_as_meant());
    }

    #[test]
    fn who_was_seen_alone_keeps_what_was_found_of_him_in_the_crowd() {
        let crowd = Entry {
            caught: false,
            smallest: None,
            others: vec![accused_of("S1", Level::Must, Some("so it is"))],
            lost: 1,
            ..caught("some")
        };
        let alone = Entry { others: vec![accused_of("Z2", Level::Must, None)], ..caught("some") };
        let both = crowd.or_again(alone);
        let rules: Vec<&str> = both.others.iter().map(|other| other.rule).collect();
        assert_eq!((both.caught, rules, both.lost), (true, vec!["S1", "Z2"], 1));
    }
}
