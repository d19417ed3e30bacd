//! The survey: which rules each animal breaks, and how soon its own is seen.
//!
//! An animal is caught where it breaks the rule that is meant for it and the one without a flaw, in the same scenario, does
//! not. The directed scenarios show it for certain; how many generated ones it takes says how well they are drawn. Any other
//! *must* rule that it breaks and the one without a flaw keeps is declared in the table with the reason, or is a fault: of the
//! rule or of the animal.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fake_cli::script;
use serde::Serialize;

use super::{Animal, CONTROL, spec};
use crate::audit::{Observer, RunsCases};
use crate::crew::{CrewError, Source};
use crate::generate::Generator;
use crate::rules::facts::Facts;
use crate::rules::{self, Judged, Rule};
use crate::scenario::Scenario;
use crate::trace::{CaseEnd, Tier, Trace};
use crate::verdict::{Level, Verdict};

/// Version of the survey's JSON.
pub const SCHEMA: u32 = 1;
/// How many generated cases an animal gets where no number is asked for: as many as an audit runs of a subject.
pub const DEFAULT_CASES: u64 = crate::audit::DEFAULT_CASES;
/// How often its own directed scenarios are run against an animal that is wrong in one of so many runs, for each of them.
const TRIES: u32 = 4;

/// What a survey is to do.
pub struct Plan {
    /// Whom to look at.
    pub animals: Vec<&'static Animal>,
    /// How many generated cases each gets at most until its rule is seen broken.
    pub cases: u64,
    /// The time for all of them together. It bounds generated cases only.
    pub budget: Option<Duration>,
    /// Seed of the generated scenarios.
    pub seed: u64,
    /// Of the directed scenarios of other rules an animal gets every so-many-th; 1: all.
    pub every: usize,
    /// From which on for the first animal; each next one begins one further on.
    pub from: usize,
}

/// What the keeper without a flaw breaks, as far as it was looked at: whoever asks again need not look again.
#[derive(Default)]
pub struct Control {
    known: HashMap<String, Vec<Seen>>,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").field("scenarios", &self.known.len()).finish()
    }
}

impl Control {
    /// Whether it breaks this rule somewhere, and that weighs as much for it.
    fn breaks(&self, rule: &Rule, level: Level) -> bool {
        self.known.values().flatten().any(|seen| seen.rule.id == rule.id && seen.level >= level)
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Survey {
    /// Version of the format.
    pub schema: u32,
    /// How processes were counted.
    pub tier: Tier,
    /// Seed of the generated scenarios.
    pub seed: u64,
    /// Whether it was interrupted before its end.
    pub interrupted: bool,
    /// What of the harness itself failed, so that it could not go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
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
    /// How many nodes the smallest scenario has that shows it.
    pub nodes: Option<usize>,
    /// How many ops that has.
    pub ops: Option<usize>,
    /// Its name.
    pub scenario: Option<String>,
    /// What was found there.
    pub detail: Option<String>,
    /// The other rules that it breaks.
    pub others: Vec<Break>,
    /// How many cases the harness lost.
    pub lost: u64,
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
    /// Whether it was caught by its rule and by no *must* rule that has nothing to do with its flaw.
    pub fn is_as_meant(&self) -> bool {
        self.caught && self.strays().next().is_none()
    }

    /// The *must* rules that it breaks and that the table does not expect of it.
    pub fn strays(&self) -> impl Iterator<Item = &Break> {
        self.others.iter().filter(|other| other.is_stray())
    }
}

impl Break {
    /// Whether it is a *must* rule that the table does not expect.
    pub fn is_stray(&self) -> bool {
        self.level == Level::Must && self.related.is_none()
    }
}

/// Looks at each animal of a plan until it is done or `stop` is set.
pub fn run(
    plan: &Plan,
    control: &mut Control,
    crew: &mut dyn RunsCases,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
) -> Survey {
    let mut survey = Survey {
        schema: SCHEMA,
        tier: crew.tier(),
        seed: plan.seed,
        interrupted: false,
        fault: None,
        animals: Vec::new(),
        control: Vec::new(),
    };
    let deadline = plan.budget.map(|budget| Instant::now() + budget);
    let mut surveyor = Surveyor { crew, observer, stop, deadline, plan, control };
    if let Err(error) = surveyor.look_at_all(&mut survey) {
        survey.fault = Some(error.to_string());
    }
    survey.interrupted = stop.load(Ordering::Relaxed);
    survey
}

struct Surveyor<'a> {
    crew: &'a mut dyn RunsCases,
    observer: &'a mut dyn Observer,
    stop: &'a AtomicBool,
    deadline: Option<Instant>,
    plan: &'a Plan,
    control: &'a mut Control,
}

/// A rule that was broken in a case.
#[derive(Clone)]
struct Seen {
    rule: &'static Rule,
    level: Level,
    detail: String,
}

/// A case in which something was broken.
struct Found {
    index: usize,
    scenario: Scenario,
    seen: Vec<Seen>,
}

impl Found {
    fn breaks(&self, rule: &str) -> Option<&Seen> {
        self.seen.iter().find(|seen| seen.rule.id == rule)
    }

    fn size(&self) -> (usize, usize, usize) {
        let Scenario { ops, script, .. } = &self.scenario;
        let nodes = script::nodes(script).len();
        (ops.len().max(nodes), ops.len() + nodes, self.scenario.to_json().len())
    }
}

impl Surveyor<'_> {
    fn look_at_all(&mut self, survey: &mut Survey) -> Result<(), CrewError> {
        for (index, animal) in self.plan.animals.iter().enumerate() {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let (entry, control) = self.look_at(animal, index)?;
            survey.animals.push(entry);
            survey.control.extend(control);
        }
        Ok(())
    }

    fn look_at(&mut self, animal: &'static Animal, index: usize) -> Result<(Entry, Vec<Break>), CrewError> {
        let rule = animal.rule.and_then(rules::find).expect("the table names rules of the catalogue");
        let not_run = match &rule.judged {
            Judged::Trace { .. } => None,
            Judged::NotBuilt(why) => Some(format!("not built: {why}")),
            Judged::Suite(place) => Some(format!("judged by {place}")),
        };
        let directed = self.directed(rule, index);
        // All of them once, accused or not: what is broken by nobody but the control is a false alarm too.
        let mut control = self.ask_control(directed.clone())?;
        let mut cases: VecDeque<Scenario> = directed.into();
        if animal.one_in > 1 {
            cases.extend(rule.directed().into_iter().cycle().take((TRIES * animal.one_in) as usize));
        }
        let mut batch = self.run(animal, cases, None)?;
        self.compare(&mut batch.found);
        let (mut tried, mut first) = (0, None);
        while not_run.is_none() && first.is_none() && tried < self.plan.cases && !self.is_over() {
            let generator = Generator::new(self.plan.seed);
            let generated = (tried..self.plan.cases).map(|index| generator.scenario(index)).collect();
            let mut more = self.run(animal, generated, Some(rule.id))?;
            control
                .extend(self.ask_control(more.found.iter().map(|found| found.scenario.clone()).collect())?);
            self.compare(&mut more.found);
            let caught_by = more
                .found
                .iter()
                .filter(|found| found.breaks(rule.id).is_some())
                .map(|found| found.index as u64);
            first = caught_by.min().map(|index| tried + index + 1);
            tried += more.taken;
            batch.lost += more.lost;
            batch.found.append(&mut more.found);
            if more.taken == 0 {
                break;
            }
        }
        let shown = batch
            .found
            .iter()
            .filter(|found| found.breaks(rule.id).is_some())
            .min_by_key(|found| found.size());
        let others = self.others(animal, &batch.found);
        let entry = Entry {
            name: animal.name,
            sentence: animal.sentence,
            rule: rule.id,
            one_in: animal.one_in,
            caught: shown.is_some(),
            not_run,
            cases: first,
            tried,
            nodes: shown.map(|found| script::nodes(&found.scenario.script).len()),
            ops: shown.map(|found| found.scenario.ops.len()),
            scenario: shown.map(|found| found.scenario.name.clone()),
            detail: shown.and_then(|found| found.breaks(rule.id)).map(|seen| seen.detail.clone()),
            others,
            lost: batch.lost,
        };
        Ok((entry, control))
    }

    /// The directed scenarios of a rule and those of the others that the plan asks for, each once.
    fn directed(&self, rule: &Rule, index: usize) -> Vec<Scenario> {
        let own = rule.directed();
        let is_own = |scenario: &Scenario| own.iter().any(|own| own.name == scenario.name);
        let others = rules::directed_scenarios().into_iter().filter(|scenario| !is_own(scenario));
        let every = self.plan.every.max(1);
        let others = others.skip((self.plan.from + index) % every).step_by(every).collect::<Vec<_>>();
        own.iter().cloned().chain(others).collect()
    }

    /// Runs the keeper without a flaw where that was not done yet. Answers of which *must* rules it is accused.
    fn ask_control(&mut self, scenarios: Vec<Scenario>) -> Result<Vec<Break>, CrewError> {
        let unknown =
            scenarios.into_iter().filter(|scenario| !self.control.known.contains_key(&scenario.name));
        let unknown: VecDeque<Scenario> = unknown.collect();
        if unknown.is_empty() {
            return Ok(Vec::new());
        }
        let names: Vec<String> = unknown.iter().map(|scenario| scenario.name.clone()).collect();
        let mut accused = Vec::new();
        for found in self.run(&CONTROL, unknown, None)?.found {
            let must = found.seen.iter().filter(|seen| seen.level == Level::Must);
            accused.extend(must.map(|seen| seen.told(&CONTROL, &found.scenario)));
            self.control.known.insert(found.scenario.name, found.seen);
        }
        for name in names {
            self.control.known.entry(name).or_default();
        }
        Ok(accused)
    }

    /// Takes away what the keeper without a flaw breaks in the same scenario, where that weighs as much for it.
    fn compare(&self, found: &mut Vec<Found>) {
        for found in found.iter_mut() {
            let of_control = &self.control.known[&found.scenario.name];
            found.seen.retain(|seen| {
                !of_control.iter().any(|other| other.rule.id == seen.rule.id && other.level >= seen.level)
            });
        }
        found.retain(|found| !found.seen.is_empty());
    }

    /// The rules that an animal breaks beside its own, each where it shows best. One that is no must and that the keeper without
    /// a flaw breaks elsewhere says nothing of this animal.
    fn others(&self, animal: &Animal, found: &[Found]) -> Vec<Break> {
        let of_rule = |rule: &'static Rule| {
            let breaks = found.iter().filter_map(|found| Some((found.breaks(rule.id)?, found)));
            let (seen, found) = breaks.min_by_key(|(_, found)| found.size())?;
            let says_nothing = seen.level < Level::Must && self.control.breaks(rule, seen.level);
            (!says_nothing).then(|| seen.told(animal, &found.scenario))
        };
        rules::all().iter().filter(|rule| Some(rule.id) != animal.rule).filter_map(of_rule).collect()
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Runs these against an animal, until one breaks the rule where one is named.
    fn run(
        &mut self,
        animal: &Animal,
        scenarios: VecDeque<Scenario>,
        until: Option<&'static str>,
    ) -> Result<Batch, CrewError> {
        let of = until.is_none().then_some(scenarios.len() as u64);
        let mut batch = Running {
            scenarios,
            given: Vec::new(),
            until,
            deadline: self.deadline.filter(|_| until.is_some()),
            of,
            name: animal.name,
            observer: self.observer,
            stop: self.stop,
            batch: Batch::default(),
        };
        self.crew.run(&spec(animal), &mut batch)?;
        Ok(batch.batch)
    }
}

impl Seen {
    fn told(&self, animal: &Animal, scenario: &Scenario) -> Break {
        let related = animal.related.iter().find(|(rule, _)| *rule == self.rule.id).map(|(_, why)| *why);
        let scenario = scenario.name.clone();
        Break { rule: self.rule.id, level: self.level, related, scenario, detail: self.detail.clone() }
    }
}

/// What some cases showed.
#[derive(Default)]
struct Batch {
    found: Vec<Found>,
    taken: u64,
    lost: u64,
}

/// The cases of an animal that are run now.
struct Running<'a> {
    scenarios: VecDeque<Scenario>,
    given: Vec<String>,
    until: Option<&'static str>,
    deadline: Option<Instant>,
    of: Option<u64>,
    name: &'static str,
    observer: &'a mut dyn Observer,
    stop: &'a AtomicBool,
    batch: Batch,
}

impl Source for Running<'_> {
    fn next(&mut self) -> Option<Scenario> {
        let late = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if late || self.stop.load(Ordering::Relaxed) {
            return None;
        }
        let scenario = self.scenarios.pop_front()?;
        self.given.push(scenario.name.clone());
        Some(scenario)
    }

    fn take(&mut self, trace: Trace) -> bool {
        self.batch.taken += 1;
        self.batch.lost += u64::from(matches!(trace.end, CaseEnd::OurFault(_)));
        let seen = broken(&trace);
        let is_it = seen.iter().any(|seen| Some(seen.rule.id) == self.until);
        if !seen.is_empty() {
            let index = self.given.iter().position(|name| *name == trace.scenario.name).unwrap_or_default();
            self.batch.found.push(Found { index, scenario: trace.scenario, seen });
        }
        self.observer.case_done(self.name, self.batch.taken, self.of);
        !is_it && !self.stop.load(Ordering::Relaxed)
    }
}

/// The rules that are broken in a trace.
fn broken(trace: &Trace) -> Vec<Seen> {
    let facts = Facts::of(trace);
    let seen = rules::all().iter().filter_map(|rule| match rule.judge(&facts) {
        Verdict::Broken(finding) => {
            let level = rule.level_for(&trace.subject.promises);
            Some(Seen { rule, level, detail: finding.sentence })
        }
        _ => None,
    });
    seen.collect()
}
