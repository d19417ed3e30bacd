//! The minimal case of a racy failure is reached, whatever case it was found by: each racy animal of the zoo is shrunk from the first
//! generated case of a seed that shows its flaw, with real processes.
//!
//! Reached means: of the known size, with a rate that was measured and is not far below the animal's own. A small case that breaks the
//! rule by another, rarer way is none.
//!
//! `HEADCOUNT_SEEDS=100 cargo test --test minimal_cases_are_reached -- --nocapture` shrinks each animal from so many seeds to the end,
//! prints how many reached it and what it took, and demands it of 95 of 100. Without that it is seen of one seed and one
//! animal that it is reached at all: the others take minutes.
//!
//! It has a `main` of its own because it is the host of its subjects.

use std::num::NonZeroU64;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fake_cli::script::{self, Step};
use headcount::crew::{Crew, CrewOptions, Source};
use headcount::failure::rate::Rate;
use headcount::failure::{Bounds, Failure, Minimal};
use headcount::generate::Generator;
use headcount::reentry;
use headcount::rules::facts::Facts;
use headcount::rules::{self, Rule};
use headcount::scenario::Scenario;
use headcount::trace::Trace;
use headcount::verdict::Verdict;
use headcount::zoo::{self, Animal};
use libtest_mimic::{Arguments, Failed, Trial};

/// Asks for this number of seeds.
const SEEDS: &str = "HEADCOUNT_SEEDS";
/// Of 100 seeds so many are to reach it.
const REACHED_OF_100: u64 = 95;
/// Where no number is asked for, so many seeds may miss it.
const ATTEMPTS: u64 = 3;
/// Longer than any of these takes on a busy machine; nothing waits for it.
const BUDGET: Duration = Duration::from_secs(900);

/// How many times below the animal's rate is far below: as the shrinker itself has it of a race.
const FAR_BELOW: f64 = 3.0;

/// How large a case is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
    nodes: usize,
    ops: usize,
    steps: usize,
}

impl Size {
    fn is_reached_by(self, scenario: &Scenario) -> bool {
        let Self { nodes, ops, steps } = size_of(scenario);
        nodes <= self.nodes && ops <= self.ops && steps <= self.steps
    }
}

/// What is to be reached of an animal.
#[derive(Clone, Copy, Debug)]
struct Goal {
    size: Size,
    /// It has its flaw in one of so many runs.
    one_in: u32,
    /// It is shrunk soon enough for a suite.
    is_quick: bool,
}

impl Goal {
    fn is_reached_by(self, minimal: &Minimal) -> bool {
        let rate = minimal.rate.value().filter(|_| minimal.is_measured);
        let has_drifted = |rate: f64| rate * f64::from(self.one_in) * FAR_BELOW < 1.0;
        self.size.is_reached_by(&minimal.scenario) && rate.is_some_and(|rate| !has_drifted(rate))
    }
}

/// The minimal case of each racy animal: a child that hangs beside the leader that is cancelled, and else nothing but a run. A case that is
/// a race by itself, such as a cancel at a natural end, may do with a step less.
const MINIMAL: [(&str, Goal); 3] = [
    (
        "sometimes-kills-only-the-leader",
        Goal { size: Size { nodes: 2, ops: 2, steps: 3 }, one_in: 2, is_quick: false },
    ),
    (
        "sometimes-leaks-a-pipe-end",
        Goal { size: Size { nodes: 1, ops: 1, steps: 0 }, one_in: 5, is_quick: true },
    ),
    (
        "seldom-forgets-to-reap",
        Goal { size: Size { nodes: 1, ops: 1, steps: 0 }, one_in: 20, is_quick: false },
    ),
];

fn main() -> ExitCode {
    reentry::reenter(headcount::subjects::in_rust);
    let seeds = std::env::var(SEEDS).ok().map(|text| text.parse::<NonZeroU64>().expect("a number of seeds"));
    let asked = MINIMAL.into_iter().filter(|(_, goal)| seeds.is_some() || goal.is_quick);
    let trials = asked.map(|(name, goal)| {
        let check = move || match seeds {
            Some(seeds) => most_reach(name, goal, seeds.get()),
            None => one_reaches(name, goal),
        };
        Trial::test(format!("the_minimal_case_is_reached::{name}"), check)
    });
    // They would only wait for each other.
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn one_reaches(name: &str, goal: Goal) -> Result<(), Failed> {
    let mut bench = Bench::of(name)?;
    let mut missed = Vec::new();
    for seed in 1..=ATTEMPTS {
        let stop = AtomicBool::new(false);
        // There it ends: that nothing simpler is found is told by others.
        let mut minimal = bench.minimise(seed, &stop, &mut |step| {
            if goal.size.is_reached_by(&step.scenario) {
                stop.store(true, Ordering::Relaxed);
            }
        })?;
        // The tries of a step that was just taken flatter.
        (minimal.rate, minimal.is_measured) = (bench.rate_of(&minimal.scenario)?, true);
        if goal.is_reached_by(&minimal) {
            return Ok(());
        }
        missed.push(told(&minimal));
    }
    Err(Failed::from(missed.join("\n")))
}

fn most_reach(name: &str, goal: Goal, seeds: u64) -> Result<(), Failed> {
    let mut bench = Bench::of(name)?;
    let (mut reached, mut times, mut cases) = (0, Vec::new(), Vec::new());
    for seed in 1..=seeds {
        let begun = Instant::now();
        let minimal = bench.minimise(seed, &AtomicBool::new(false), &mut |_| {})?;
        times.push(begun.elapsed());
        cases.push(minimal.cases);
        match goal.is_reached_by(&minimal) {
            true => reached += 1,
            false => println!("{name}, seed {seed}: {}", told(&minimal)),
        }
        times.sort_unstable();
        cases.sort_unstable();
        println!(
            "{name}: {reached} of {seed}; median {:.1} s, longest {:.1} s; median {} cases, most {}",
            times[times.len() / 2].as_secs_f64(),
            times[times.len() - 1].as_secs_f64(),
            cases[cases.len() / 2],
            cases[cases.len() - 1],
        );
    }
    match reached * 100 >= seeds * REACHED_OF_100 {
        true => Ok(()),
        false => Err(Failed::from(format!("{reached} of {seeds} reached {goal:?}"))),
    }
}

fn size_of(scenario: &Scenario) -> Size {
    fn steps(script: &[Step]) -> usize {
        let below = |step: &Step| match step {
            Step::Start(start) => steps(&start.script),
            _ => 0,
        };
        script.iter().map(|step| 1 + below(step)).sum()
    }
    Size {
        nodes: script::nodes(&scenario.script).len(),
        ops: scenario.ops.len(),
        steps: steps(&scenario.script),
    }
}

fn told(minimal: &Minimal) -> String {
    let Minimal { rate, is_measured, is_minimal, tries, cases, scenario, .. } = minimal;
    format!(
        "{rate}, measured {is_measured}, minimal {is_minimal}, {tries} tries in {cases} cases\n{}",
        scenario.to_json()
    )
}

/// An animal and who runs its cases.
struct Bench {
    animal: &'static Animal,
    rule: &'static Rule,
    crew: Crew,
}

impl Bench {
    fn of(name: &str) -> Result<Self, Failed> {
        let animal = zoo::find(name).ok_or("no such animal")?;
        let rule = animal.rule.and_then(rules::find).ok_or("no such rule")?;
        Ok(Self { animal, rule, crew: Crew::start(&CrewOptions { jobs: 48, ..CrewOptions::default() })? })
    }

    fn minimise(
        &mut self,
        seed: u64,
        stop: &AtomicBool,
        progress: &mut dyn FnMut(&Minimal),
    ) -> Result<Minimal, Failed> {
        let subject = zoo::spec(self.animal);
        let mut first = First { generator: Generator::new(seed), drawn: 0, rule: self.rule, found: None };
        self.crew.run(&subject, &mut first)?;
        let scenario = first.found.ok_or("no generated case shows it")?;
        let failure = Failure { subject: &subject, rule: self.rule, scenario: &scenario };
        Ok(failure.minimise(&mut self.crew, &Bounds { budget: BUDGET, stop }, progress)?)
    }

    /// How often a case breaks the rule when it is replayed.
    fn rate_of(&mut self, scenario: &Scenario) -> Result<Rate, Failed> {
        let (subject, stop) = (zoo::spec(self.animal), AtomicBool::new(false));
        let failure = Failure { subject: &subject, rule: self.rule, scenario };
        Ok(failure.confirm(&mut self.crew, &Bounds { budget: BUDGET, stop: &stop })?.rate)
    }
}

/// Generated cases until one breaks the rule.
struct First {
    generator: Generator,
    drawn: u64,
    rule: &'static Rule,
    found: Option<Scenario>,
}

impl First {
    /// Far more than it takes to see what happens in one of twenty runs.
    const MOST: u64 = 5000;
}

impl Source for First {
    fn next(&mut self) -> Option<Scenario> {
        self.drawn += 1;
        (self.drawn <= Self::MOST).then(|| self.generator.scenario(self.drawn - 1))
    }

    fn take(&mut self, trace: Trace) -> bool {
        if matches!(self.rule.judge(&Facts::of(&trace)), Verdict::Broken(_)) {
            self.found.get_or_insert(trace.scenario);
        }
        self.found.is_none()
    }
}
