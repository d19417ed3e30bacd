//! `headcount zoo`

use clap::{Args, ValueEnum};
use fake_cli::span::Span;

use super::audit::CrewArguments;
use super::progress::SurveyProgress;
use super::{Failure, Format, interrupt, terminal};
use crate::audit::DEFAULT_SEED;
use crate::audit::exit::Exit;
use crate::crew::{Crew, CrewOptions};
use crate::report::escape::for_terminal;
use crate::report::json;
use crate::report::paint::Paint;
use crate::verdict::Level;
use crate::zoo::survey::{
    self, Break, Comparison, Control, Entry, Median, Origin, Others, Plan, SMALL, Shrink, Standing, Survey,
};
use crate::zoo::{self, ANIMALS, Animal};

/// How many animals are looked at at a time, and how many cases of each at a time: most wait for somebody who survives.
const CREWS: usize = 4;
const JOBS: usize = 12;

#[derive(Args)]
pub(super) struct Arguments {
    /// Animals to look at, by name; by default all.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    animal: Vec<String>,
    /// How many generated cases an animal gets at most until it is caught; its own directed ones all run.
    #[arg(long, value_name = "N", default_value_t = survey::DEFAULT_CASES)]
    cases: u64,
    /// The time for all animals together, such as 60s; it bounds generated cases and shrinking only.
    #[arg(long, value_name = "TIME")]
    budget: Option<Span>,
    /// Seed of the generated scenarios.
    #[arg(long, value_name = "S", default_value_t = DEFAULT_SEED)]
    seed: u64,
    /// Run every directed scenario of every rule against each animal, and not only one of each other rule.
    #[arg(long)]
    all_directed: bool,
    /// Count also how many plainly drawn cases it takes until an animal is caught.
    #[arg(long)]
    compare_plain: bool,
    /// How far to shrink the case that shows an animal.
    #[arg(long, value_enum, default_value_t = ShrinkChoice::Small)]
    shrink: ShrinkChoice,
    #[command(flatten)]
    crew: CrewArguments,
    /// How to write the result.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ShrinkChoice {
    /// It is left as it was found.
    Not,
    /// Until it is as small as it should be.
    Small,
    /// Until nothing simpler is found, which takes long.
    Fully,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let animals = chosen(&arguments.animal)?;
    let stop = interrupt::watch()?;
    let mut crews = crews(&arguments.crew, animals.len())?;
    let plan = Plan {
        animals,
        cases: arguments.cases,
        budget: arguments.budget.map(Span::get),
        seed: arguments.seed,
        others: if arguments.all_directed { Others::All } else { Others::OneOfEachRule },
        from: 0,
        shrink: match arguments.shrink {
            ShrinkChoice::Not => Shrink::Not,
            ShrinkChoice::Small => Shrink::UntilSmall,
            ShrinkChoice::Fully => Shrink::Fully,
        },
        compare_plain: arguments.compare_plain,
    };
    let mut progress = SurveyProgress::new();
    let survey = survey::run(&plan, &Control::default(), &mut crews, &mut progress, &stop);
    progress.finish();
    // Everything is swept before anyone reads that it is over.
    drop(crews);
    terminal::print(&match arguments.format {
        Format::Human => render(&survey),
        Format::Json => json::render(&survey),
    });
    if let Some(fault) = &survey.fault {
        terminal::complain(fault);
        return Ok(Exit::OurFault);
    }
    Ok(match (survey.interrupted, survey.standing()) {
        (true, _) => Exit::Interrupted,
        (false, Standing::AsMeant) => Exit::Clean,
        (false, Standing::NotKnown) => Exit::Unknown,
        (false, Standing::Fault) => Exit::MustBroken,
    })
}

/// As many crews as there are animals to look at, within bounds; a number of cases at a time that is asked for is shared among them.
fn crews(arguments: &CrewArguments, animals: usize) -> Result<Vec<Crew>, Failure> {
    let count = CREWS.min(animals).min(arguments.jobs().unwrap_or(CREWS));
    let jobs = arguments.jobs().map_or(JOBS, |jobs| jobs / count);
    let mut crews = vec![arguments.with_jobs(jobs).start()?];
    while crews.len() < count {
        crews.push(Crew::start(&CrewOptions { jobs, tier: Some(crews[0].tier()) })?);
    }
    Ok(crews)
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
    let plain = if survey.comparison.is_some() { "  plain" } else { "" };
    let head = format!("{:width$}  rule  caught    cases{plain}  ops  nodes  also", "animal");
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
    text.push_str(&reasons(survey));
    text.push_str(&summary(survey));
    text
}

fn line(entry: &Entry, width: usize) -> String {
    let caught = match (entry.is_caught(), &entry.not_run) {
        (true, _) => Paint::Good.on("caught  "),
        (false, Some(_)) => Paint::Dim.on("not run "),
        (false, None) if entry.not_known().is_some() => Paint::Dim.on("not seen"),
        (false, None) => Paint::Bad.on("NOT SEEN"),
    };
    let cases = searched(entry.cases, entry.tried, entry.is_unseen_in_generated());
    let plain = entry.plain.map(|plain| format!("  {}", searched(plain.cases, plain.tried, false)));
    let plain = plain.unwrap_or_default();
    let large = entry.is_too_large();
    let (ops, nodes) = (size(entry.ops(), 3, large), size(entry.nodes(), 5, large));
    let also = entry.others.iter().map(also).collect::<Vec<_>>().join(" ");
    let (name, rule) = (entry.name, entry.rule);
    let line = format!("{name:width$}  {rule:<4}  {caught}  {cases}{plain}  {ops}  {nodes}  {also}");
    line.trim_end().to_owned() + "\n"
}

/// After how many cases, in five columns.
fn searched(cases: Option<u64>, tried: u64, is_bad: bool) -> String {
    let text = match cases {
        Some(cases) => cases.to_string(),
        None if tried == 0 => "–".to_owned(),
        None => format!(">{tried}"),
    };
    let text = format!("{text:>5}");
    if is_bad { Paint::Bad.on(&text) } else { text }
}

fn size(size: Option<usize>, width: usize, is_bad: bool) -> String {
    let text = format!("{:>width$}", size.map_or_else(|| "–".to_owned(), |size| size.to_string()));
    if is_bad { Paint::Bad.on(&text) } else { text }
}

fn also(other: &Break) -> String {
    match (other.is_stray(), other.level) {
        (true, _) => Paint::Bad.on(&format!("{}!", other.rule)),
        (false, Level::Must) => other.rule.to_owned(),
        (false, _) => Paint::Dim.on(&other.rule.to_lowercase()),
    }
}

fn faults(entry: &Entry) -> String {
    let mut text = String::new();
    match (entry.is_caught(), &entry.not_run) {
        (true, _) => {}
        (false, None) if entry.not_known().is_some() => {}
        (false, Some(why)) => {
            text += &format!("\n{}: {} is not run: {}\n", entry.name, entry.rule, for_terminal(why));
        }
        (false, None) => {
            let sentence = for_terminal(entry.sentence);
            text += &format!("\n{}: {} did not see it: {sentence}\n", entry.name, entry.rule);
        }
    }
    if let Some(why) = entry.not_known() {
        text += &format!("\n{}: not known whether it is as it should be: {why}\n", entry.name);
    }
    if entry.is_caught() && entry.is_unseen_in_generated() {
        text += &format!("\n{}: no generated case shows it, and nothing says why\n", entry.name);
    }
    if let Some(smallest) = entry.smallest.as_ref().filter(|_| entry.is_too_large()) {
        let scenario = for_terminal(&smallest.scenario.to_json()).into_owned();
        text += &format!(
            "\n{}: what is left of the case that shows it is larger than it should be:\n{scenario}\n",
            entry.name
        );
    }
    text + &entry.strays().map(|stray| accusation(entry.name, stray)).collect::<String>()
}

fn accusation(name: &str, found: &Break) -> String {
    let (scenario, detail) = (for_terminal(&found.scenario), for_terminal(&found.detail));
    format!("\n{name}: {} accuses it in {scenario}, and nothing says why: {detail}\n", found.rule)
}

/// Why some need a larger case, or a directed one.
fn reasons(survey: &Survey) -> String {
    let mut text = String::new();
    for entry in &survey.animals {
        let is_over =
            entry.ops().is_some_and(|ops| ops > SMALL) || entry.nodes().is_some_and(|nodes| nodes > SMALL);
        if let Some(large) = entry.is_large.filter(|_| is_over) {
            text += &format!("\n{}: up to {} ops, because {}\n", entry.name, large.ops, large.why);
        }
        if let Some(why) = entry.is_hidden.filter(|_| entry.tried > 0 && entry.cases.is_none()) {
            text += &format!("\n{}: seen in directed cases only, because {why}\n", entry.name);
        }
    }
    text
}

fn summary(survey: &Survey) -> String {
    let caught = survey.animals.iter().filter(|entry| entry.is_caught()).count();
    let mut soon = survey.animals.iter().filter_map(|entry| entry.cases).collect::<Vec<_>>();
    soon.sort_unstable();
    let median = soon.get(soon.len() / 2);
    let median =
        median.map_or_else(String::new, |median| format!(", by a median of {median} generated cases"));
    let shrunk = |entry: &&Entry| entry.smallest.as_ref().is_some_and(|it| it.origin == Origin::Shrunk);
    let shrunk = survey.animals.iter().filter(shrunk).count();
    let comparison = survey.comparison.as_ref().map(compared).unwrap_or_default();
    format!(
        "\n{caught} of {} animals caught by the rule meant for them{median}; {shrunk} cases shrunk; tier {}, seed {}.\n{comparison}\
        cases: the first generated case that shows it. ops, nodes: of the scenario that shows it, shrunk at least until it is small.\n\
        also: further rules that it breaks and the keeper without a flaw keeps; with ! a must rule that nothing explains, in\n\
        small letters one that is no must.\n",
        survey.animals.len(),
        survey.tier.name(),
        survey.seed
    )
}

fn compared(comparison: &Comparison) -> String {
    let told = |median: Median| {
        let bound = if median.at_least { "at least " } else { "" };
        let never = if median.never > 0 { format!(" ({} never seen)", median.never) } else { String::new() };
        format!("{bound}{}{never}", median.cases)
    };
    let bound = match (comparison.generated.at_least, comparison.plain.at_least) {
        (false, false) => "",
        (false, true) => "at least ",
        (true, _) => "about ",
    };
    let left_out = match comparison.left_out {
        0 => String::new(),
        count => format!(" Left out, because the time was over before: {count}."),
    };
    format!(
        "Cases until an animal is seen, by the median of {}: generated {}; plainly drawn {}; {bound}{:.1} times as many.\n\
        Who is never seen counts as one case more than it got.{left_out}\n",
        comparison.animals,
        told(comparison.generated),
        told(comparison.plain),
        comparison.ratio
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Tier;
    use crate::zoo::survey::tests::{accused_of, caught, unseen, with_ops};
    use crate::zoo::survey::{Large, Search};

    #[test]
    fn the_matrix_says_who_was_caught_how_soon_and_what_is_wrong() {
        let six = Large { ops: 6, nodes: 1, why: "growth is told from three runs" };
        let plain = |cases| Some(Search { cases, tried: 150 });
        let animals = vec![
            Entry { plain: plain(Some(10)), ..caught("as-it-should-be") },
            Entry {
                plain: plain(None),
                others: vec![
                    accused_of("S1", Level::Must, Some("it is the same")),
                    accused_of("T3", Level::Should, None),
                    accused_of("Z3", Level::Must, None),
                ],
                ..caught("accused")
            },
            Entry { plain: plain(None), is_large: Some(six), ..with_ops(caught("large"), 6) },
            Entry { plain: plain(None), ..unseen("unseen", 150) },
            Entry { plain: plain(None), ..unseen("too-late", 5) },
        ];
        let comparison = Some(survey::compare(&animals));
        let survey = Survey {
            schema: survey::SCHEMA,
            tier: Tier::T3,
            seed: 1,
            most: 150,
            interrupted: false,
            fault: None,
            comparison,
            animals,
            control: vec![accused_of("D2", Level::Must, None)],
        };
        insta::assert_snapshot!(anstream::adapter::strip_str(&render(&survey)).to_string(), @r"
        animal           rule  caught    cases  plain  ops  nodes  also
        as-it-should-be  Z1    caught        1     10    0      1
        accused          Z1    caught        1   >150    0      1  S1 t3 Z3!
        large            Z1    caught        1   >150    6      1
        unseen           Z1    NOT SEEN   >150   >150    –      –
        too-late         Z1    not seen     >5   >150    –      –

        accused: Z3 accuses it in some-case, and nothing says why: it does that

        unseen: Z1 did not see it: It does something else than it should.

        too-late: not known whether it is as it should be: it was not seen in 5 generated cases, and did not get all 150

        the keeper without a flaw: D2 accuses it in some-case, and nothing says why: it does that

        large: up to 6 ops, because growth is told from three runs

        3 of 5 animals caught by the rule meant for them, by a median of 1 generated cases; 3 cases shrunk; tier t3, seed 1.
        Cases until an animal is seen, by the median of 4: generated 1 (1 never seen); plainly drawn at least 151 (3 never seen); at least 151.0 times as many.
        Who is never seen counts as one case more than it got. Left out, because the time was over before: 1.
        cases: the first generated case that shows it. ops, nodes: of the scenario that shows it, shrunk at least until it is small.
        also: further rules that it breaks and the keeper without a flaw keeps; with ! a must rule that nothing explains, in
        small letters one that is no must.
        ");
    }
}
