//! `headcount zoo`

use clap::Args;
use fake_cli::span::Span;

use super::audit::CrewArguments;
use super::progress::Progress;
use super::{Failure, Format, interrupt, terminal};
use crate::audit::DEFAULT_SEED;
use crate::audit::exit::Exit;
use crate::report::escape::for_terminal;
use crate::report::json;
use crate::report::paint::Paint;
use crate::verdict::Level;
use crate::zoo::survey::{self, Break, Control, Entry, Plan, Survey};
use crate::zoo::{self, ANIMALS, Animal};

#[derive(Args)]
pub(super) struct Arguments {
    /// Animals to look at, by name; by default all.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    animal: Vec<String>,
    /// How many generated cases an animal gets at most until it is caught; the directed ones all run.
    #[arg(long, value_name = "N", default_value_t = survey::DEFAULT_CASES)]
    cases: u64,
    /// The time for all animals together, such as 60s; it bounds generated cases only.
    #[arg(long, value_name = "TIME")]
    budget: Option<Span>,
    /// Seed of the generated scenarios.
    #[arg(long, value_name = "S", default_value_t = DEFAULT_SEED)]
    seed: u64,
    #[command(flatten)]
    crew: CrewArguments,
    /// How to write the result.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let animals = chosen(&arguments.animal)?;
    let stop = interrupt::watch()?;
    let mut crew = arguments.crew.start_many()?;
    let plan = Plan {
        animals,
        cases: arguments.cases,
        budget: arguments.budget.map(Span::get),
        seed: arguments.seed,
        every: 1,
        from: 0,
    };
    let mut progress = Progress::new();
    let survey = survey::run(&plan, &mut Control::default(), &mut crew, &mut progress, &stop);
    progress.finish();
    // Everything is swept before anyone reads that it is over.
    drop(crew);
    terminal::print(&match arguments.format {
        Format::Human => render(&survey),
        Format::Json => json::render(&survey),
    });
    if let Some(fault) = &survey.fault {
        terminal::complain(fault);
        return Ok(Exit::OurFault);
    }
    Ok(match (survey.interrupted, survey.is_as_meant()) {
        (true, _) => Exit::Interrupted,
        (false, true) => Exit::Clean,
        (false, false) => Exit::MustBroken,
    })
}

fn chosen(names: &[String]) -> Result<Vec<&'static Animal>, Failure> {
    if names.is_empty() {
        return Ok(ANIMALS.iter().collect());
    }
    let find = |name: &String| {
        zoo::find(name).filter(|animal| animal.rule.is_some()).ok_or_else(|| {
            let known = ANIMALS.iter().map(|animal| animal.name).collect::<Vec<_>>().join(", ");
            Failure::usage(format!("there is no animal {name:?}; there are {known}"))
        })
    };
    names.iter().map(find).collect()
}

/// A line for each animal, what is wrong below it, and what the words mean.
fn render(survey: &Survey) -> String {
    let width = survey.animals.iter().map(|entry| entry.name.len()).max().unwrap_or(0).max("animal".len());
    let head = format!("{:width$}  rule  caught    cases  ops  nodes  also", "animal");
    let mut text = format!("{}\n", Paint::Strong.on(&head));
    for entry in &survey.animals {
        text.push_str(&line(entry, width));
    }
    for entry in &survey.animals {
        text.push_str(&faults(entry));
    }
    for alarm in &survey.control {
        text.push_str(&accusation("the keeper without a flaw", alarm));
    }
    text.push_str(&summary(survey));
    text
}

fn line(entry: &Entry, width: usize) -> String {
    let number = |number: Option<usize>| number.map_or_else(|| "–".to_owned(), |number| number.to_string());
    let caught = match (entry.caught, &entry.not_run) {
        (true, _) => Paint::Good.on("caught  "),
        (false, Some(_)) => Paint::Dim.on("not run "),
        (false, None) => Paint::Bad.on("NOT SEEN"),
    };
    let cases = match entry.cases {
        Some(cases) => cases.to_string(),
        None if entry.not_run.is_some() => "–".to_owned(),
        None => format!(">{}", entry.tried),
    };
    let also = entry.others.iter().map(also).collect::<Vec<_>>().join(" ");
    let (name, rule, ops, nodes) = (entry.name, entry.rule, number(entry.ops), number(entry.nodes));
    let line = format!("{name:width$}  {rule:<4}  {caught}  {cases:>5}  {ops:>3}  {nodes:>5}  {also}");
    line.trim_end().to_owned() + "\n"
}

fn also(other: &Break) -> String {
    match (other.is_stray(), other.level) {
        (true, _) => Paint::Bad.on(&format!("{}!", other.rule)),
        (false, Level::Must) => other.rule.to_owned(),
        (false, _) => Paint::Dim.on(&other.rule.to_lowercase()),
    }
}

fn faults(entry: &Entry) -> String {
    let strays = entry.strays().map(|stray| accusation(entry.name, stray)).collect::<String>();
    let unseen = match (entry.caught, &entry.not_run) {
        (true, _) => String::new(),
        (false, Some(why)) => format!("\n{}: {} is not run: {}\n", entry.name, entry.rule, for_terminal(why)),
        (false, None) => {
            format!("\n{}: {} did not see it: {}\n", entry.name, entry.rule, for_terminal(entry.sentence))
        }
    };
    unseen + &strays
}

fn accusation(name: &str, found: &Break) -> String {
    let (scenario, detail) = (for_terminal(&found.scenario), for_terminal(&found.detail));
    format!("\n{name}: {} accuses it in {scenario}, and nothing says why: {detail}\n", found.rule)
}

fn summary(survey: &Survey) -> String {
    let caught = survey.animals.iter().filter(|entry| entry.caught).count();
    let mut soon = survey.animals.iter().filter_map(|entry| entry.cases).collect::<Vec<_>>();
    soon.sort_unstable();
    let median = soon.get(soon.len() / 2);
    let median =
        median.map_or_else(String::new, |median| format!(", by a median of {median} generated cases"));
    format!(
        "\n{caught} of {} animals caught by the rule meant for them{median}; tier {}, seed {}.\n\
        cases: the first generated case that shows it. ops, nodes: of the smallest scenario that shows it.\n\
        also: further rules that it breaks and the keeper without a flaw keeps; with ! a must rule that nothing explains, in\n\
        small letters one that is no must.\n",
        survey.animals.len(),
        survey.tier.name(),
        survey.seed
    )
}
