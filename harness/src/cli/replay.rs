//! `headcount replay`

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use clap::Args;
use serde::Serialize;

use super::audit::CrewArguments;
use super::subject::{SubjectOptions, built_in};
use super::{Failure, Format, interrupt, terminal};
use crate::audit::exit::Exit;
use crate::audit::select;
use crate::crew::Crew;
use crate::replay::{Plan, Replayed, ScenarioFile, Unmet};
use crate::report::escape::for_terminal;
use crate::report::paint::Paint;
use crate::report::{json, timeline};
use crate::rules::Rule;
use crate::subject::SubjectSpec;
use crate::subjects;
use crate::{replay, rules};

/// The subject of a scenario that names none.
const DEFAULT_SUBJECT: &str = "childminder";

#[derive(Args)]
pub(super) struct Arguments {
    /// Scenario files, or folders of them.
    #[arg(required = true, value_name = "FILE|DIR")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    subject: SubjectOptions,
    /// How often to run each scenario; without it once, and a failure that was found as often as its rate asks for, or 10 times where that
    /// is not known, until it is seen.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    times: Option<u32>,
    /// Rules to judge, as patterns: `S1,D*`.
    #[arg(long, value_name = "GLOB", value_delimiter = ',')]
    rules: Vec<String>,
    #[command(flatten)]
    crew: CrewArguments,
    /// How to write the result.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

/// The result as JSON.
#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    /// Whether it was interrupted before its end; then scenarios are missing that were not replayed as often as they should.
    interrupted: bool,
    scenarios: &'a [Replayed],
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let rules = select::rules(&arguments.rules, rules::all()).map_err(Failure::usage)?;
    let files = replay::read(&arguments.files)?;
    let rounds = rounds(files, arguments.subject.named()?)?;
    let stop = interrupt::watch()?;
    let mut crew = arguments.crew.start()?;
    let mut replayed = Vec::new();
    for (subject, files) in &rounds {
        let round = Round { subject, files, rules: &rules, times: arguments.times };
        let results = round.run(&mut crew, &stop)?;
        if arguments.format == Format::Human {
            results.iter().for_each(|result| terminal::print(&describe(result)));
        }
        replayed.extend(results);
    }
    drop(crew);
    let interrupted = stop.load(Ordering::Relaxed);
    if arguments.format == Format::Json {
        terminal::print(&json::render(&Document { schema: 1, interrupted, scenarios: &replayed }));
    }
    let met = replayed.iter().all(Replayed::is_met);
    Ok(match () {
        () if interrupted => Exit::Interrupted,
        () if met => Exit::Clean,
        () => Exit::MustBroken,
    })
}

/// Scenarios that are replayed with one subject.
struct Round<'a> {
    subject: &'a SubjectSpec,
    files: &'a [ScenarioFile],
    rules: &'a [&'static Rule],
    times: Option<u32>,
}

impl Round<'_> {
    fn run(&self, crew: &mut Crew, stop: &std::sync::atomic::AtomicBool) -> Result<Vec<Replayed>, Failure> {
        let Self { subject, files, rules, times } = *self;
        Ok(replay::run(&Plan { files, subject, times, rules, others: None }, crew, stop)?)
    }
}

/// Which scenarios go with which subject: all of them with each that was named, else each with its own.
pub(super) fn rounds(
    files: Vec<ScenarioFile>,
    named: Vec<SubjectSpec>,
) -> Result<Vec<(SubjectSpec, Vec<ScenarioFile>)>, Failure> {
    if !named.is_empty() {
        return Ok(named.into_iter().map(|subject| (subject, files.clone())).collect());
    }
    let mut rounds: Vec<(SubjectSpec, Vec<ScenarioFile>)> = Vec::new();
    for file in files {
        let own = file.scenario.expect.as_ref().map_or(DEFAULT_SUBJECT, |expect| expect.subject.as_str());
        match rounds.iter_mut().find(|(subject, _)| subject.name == own) {
            Some((_, files)) => files.push(file),
            None => rounds.push((subject_of(own, &file)?, vec![file])),
        }
    }
    Ok(rounds)
}

/// The subject that a file names. Only built-in ones: a file from a stranger must not choose a command.
fn subject_of(name: &str, file: &ScenarioFile) -> Result<SubjectSpec, Failure> {
    if subjects::is_known(name) {
        return built_in(name);
    }
    Err(Failure::usage(format!(
        "{} was found with {name:?}, which is not built in: say whom to replay it with, by --subject NAME or -- TEMPLATE",
        file.path.display()
    )))
}

/// One line, and for what is not as expected the evidence and the picture.
fn describe(result: &Replayed) -> String {
    let file = result.file.to_string_lossy();
    let place =
        format!("{} ({}, {} cases)", for_terminal(&file), for_terminal(&result.subject), result.cases);
    if result.is_met() {
        return format!("{}       {place}\n", Paint::Good.on("met"));
    }
    let mut text = format!("{}   {place}\n", Paint::Bad.on("NOT MET"));
    for unmet in &result.unmet {
        text.push_str(&describe_unmet(unmet));
    }
    text
}

fn describe_unmet(unmet: &Unmet) -> String {
    let mut text = format!(
        "  {}: {} was expected, it is {}",
        for_terminal(&unmet.rule),
        unmet.expected.name(),
        Paint::Bad.on(unmet.found.name())
    );
    if let Some(detail) = &unmet.detail {
        text.push_str(&format!(": {}", for_terminal(detail)));
    }
    text.push('\n');
    if let Some(trace) = &unmet.trace {
        text.push_str(&indented(&timeline::render(trace, terminal::width() - 4)));
    }
    text
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}
