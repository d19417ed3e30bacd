//! `headcount audit`

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use fake_cli::span::Span;

use super::progress::Progress;
use super::subject::{Chosen, SubjectOptions, find_timeouts};
use super::{Failure, Format, interrupt, terminal};
use crate::audit::exit::{Exit, of_audit};
use crate::audit::save::Keeper;
use crate::audit::{DEFAULT_SEED, Plan, bounds, select};
use crate::crew::{Crew, CrewOptions, probe_syscalls};
use crate::report::{human, json};
use crate::trace::Tier;
use crate::{audit, replay, rules};

/// The subject whose verdict is the exit code of an audit without a subject.
const REFERENCE: &str = "childminder";

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    subject: SubjectOptions,
    /// Rules to judge, as patterns: `S1,D*`.
    #[arg(long, value_name = "GLOB", value_delimiter = ',')]
    rules: Vec<String>,
    /// Rules that say "should" count too.
    #[arg(long)]
    strict: bool,
    /// How many cases of each subject; the directed ones all run.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    cases: Option<u64>,
    /// The time for all subjects together, such as 60s. Each has half of an equal share for itself, however long those before it take; cases
    /// under way are waited for beyond it.
    #[arg(long, value_name = "TIME")]
    budget: Option<Span>,
    /// Seed of the generated scenarios.
    #[arg(long, value_name = "S", default_value_t = DEFAULT_SEED)]
    seed: u64,
    #[command(flatten)]
    crew: CrewArguments,
    /// Scenario files to run too.
    #[arg(long, value_name = "DIR")]
    scenarios: Option<PathBuf>,
    /// Where to save failures.
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    /// Leave failures of generated cases as they were found; else a quarter of the budget is for making them small.
    #[arg(long)]
    no_shrink: bool,
    /// How to write the result.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

/// Options of everything that runs cases.
#[derive(Args)]
pub(super) struct CrewArguments {
    /// How many cases at a time; by default as many as fit this machine.
    #[arg(long, value_name = "K", default_value_t = 0, hide_default_value = true)]
    jobs: usize,
    /// How processes are counted; `headcount doctor` shows what works here.
    #[arg(long, value_enum, default_value_t = TierChoice::Auto)]
    tier: TierChoice,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TierChoice {
    /// The strongest that this machine has.
    Auto,
    /// A subreaper and a walk over its children.
    T1,
    /// A cgroup (v2).
    T2,
    /// A pid namespace.
    T3,
}

impl CrewArguments {
    /// How many cases at a time are asked for.
    pub(super) fn jobs(&self) -> Option<usize> {
        Some(self.jobs).filter(|jobs| *jobs > 0)
    }

    /// With this many cases at a time where nothing is asked for.
    pub(super) fn or_jobs(&self, jobs: usize) -> Self {
        self.with_jobs(self.jobs().unwrap_or(jobs))
    }

    /// With this many cases at a time.
    pub(super) fn with_jobs(&self, jobs: usize) -> Self {
        Self { jobs, tier: self.tier }
    }

    /// Starts the crew, and says which stronger tier is lacking.
    pub(super) fn start(&self) -> Result<Crew, Failure> {
        let tier = match self.tier {
            TierChoice::Auto => None,
            TierChoice::T1 => Some(Tier::T1),
            TierChoice::T2 => Some(Tier::T2),
            TierChoice::T3 => Some(Tier::T3),
        };
        let crew = Crew::start(&CrewOptions { jobs: self.jobs, tier })?;
        for probe in crew.fallback() {
            let why = probe.lacks.as_deref().unwrap_or("it does not work");
            terminal::complain(&format!(
                "tier {} is not to be had here ({why}); {} is used",
                probe.tier.name(),
                crew.tier().name()
            ));
        }
        Ok(crew)
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let rules = select::rules(&arguments.rules, rules::all()).map_err(Failure::usage)?;
    let files = replay::read(&arguments.scenarios.iter().cloned().collect::<Vec<_>>())?;
    let Chosen { mut subjects, by_default, lacking } = arguments.subject.named_or_defaults()?;
    for why in lacking {
        terminal::complain(&why);
    }
    let stop = interrupt::watch()?;
    let mut crew = arguments.crew.start()?;
    let mut waived = find_timeouts(&mut subjects, &mut crew)?;
    waived.extend(audit::beyond_this_machine(&subjects, &rules, crew.tier(), probe_syscalls));
    let (cases, budget) = bounds(arguments.cases, arguments.budget);
    let plan = Plan {
        subjects,
        rules,
        scenarios: files.into_iter().map(|file| file.scenario).collect(),
        cases,
        budget,
        seed: arguments.seed,
        shrink: !arguments.no_shrink,
        waived,
    };
    let mut keeper = Keeper::new(arguments.save.clone());
    let mut progress = Progress::new();
    let audit = audit::run(&plan, &mut crew, &mut keeper, &mut progress, &stop);
    progress.finish();
    // Everything is swept before anyone reads that it is over.
    drop(crew);
    terminal::print(&match arguments.format {
        Format::Human => human::render(&audit, terminal::width()),
        Format::Json => json::render(&audit),
    });
    for note in audit.notes.iter().chain(&audit.fault) {
        terminal::complain(note);
    }
    Ok(of_audit(&audit, arguments.strict, by_default.then_some(REFERENCE)))
}
