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
use crate::trace::Tier;

mod batch;
mod compared;
mod control;
mod entry;
mod look;
mod stopping;

pub use compared::{Comparison, Median, compare};
pub use control::Control;
pub(in crate::zoo) use entry::is_small;
#[cfg(test)]
pub(crate) use entry::tests;
pub use entry::{Asked, Break, Entry, Large, Origin, Search, Smallest, Standing};

use look::{Look, Looked, Surveyor};

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
    /// Which of the directed scenarios of other rules each gets.
    pub others: Others,
    /// From which of them on for the first animal; each next one begins one further on.
    pub from: usize,
    /// How far the case that shows an animal is shrunk.
    pub shrink: Shrink,
    /// Whether to look also how many plainly drawn cases it takes.
    pub compare_plain: bool,
}

/// Which directed scenarios of other rules an animal gets, beside all of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// All of them.
    All,
    /// One of each rule: each animal stands before each rule, and each scenario before as many animals as there are for it.
    OneOfEachRule,
    /// Every so-many-th of them.
    Every(usize),
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
    #[serde(serialize_with = "entry::told")]
    pub animals: Vec<Entry>,
    /// The *must* rules that accuse the keeper without a flaw: false alarms.
    pub control: Vec<Break>,
}

impl Survey {
    /// Whether each animal was caught by its rule and nobody was accused of what he did not do: by the worst of them.
    pub fn standing(&self) -> Standing {
        let worst = self.animals.iter().map(Entry::standing).max().unwrap_or(Standing::NotKnown);
        match (self.control.is_empty(), self.interrupted || self.fault.is_some()) {
            (false, _) => Standing::Fault,
            (true, true) => worst.max(Standing::NotKnown),
            (true, false) => worst,
        }
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
        match surveyor.look_at(animal, Look::First(shared.plan.from + index)) {
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
        let is_as_meant = entry.standing() == Standing::AsMeant;
        let is_settled = is_as_meant || entry.not_run.is_some() || entry.strays().next().is_some();
        if is_settled || has_fault {
            break;
        }
        if shared.is_over() {
            // Who was not seen in the crowd may yet have been seen alone.
            entry.is_owed_a_look = true;
            break;
        }
        match surveyor.look_at(animal, Look::Again) {
            Ok((again, control)) => {
                accused.extend(control);
                entry = entry.and_again(again);
            }
            Err(error) => *lock(&shared.fault) = Some(error),
        }
    }
    entry
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
