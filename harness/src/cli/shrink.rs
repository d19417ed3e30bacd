//! `headcount shrink`

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;

use clap::Args;
use fake_cli::span::Span;
use serde::Serialize;

use super::audit::CrewArguments;
use super::replay::rounds;
use super::subject::SubjectOptions;
use super::{Failure, Format, interrupt, terminal};
use crate::audit::exit::Exit;
use crate::audit::select;
use crate::audit::shrinking::Replays;
use crate::failure::{self, Bounds, Minimal};
use crate::replay::ScenarioFile;
use crate::report::escape::for_terminal;
use crate::report::json;
use crate::report::paint::Paint;
use crate::report::quote::replay_line_of;
use crate::rules::{self, Judged, Rule};
use crate::scenario::Scenario;
use crate::subject::SubjectSpec;

mod in_place;

use in_place::InPlace;

/// How long it goes on where nothing is asked for.
const DEFAULT_BUDGET: Span = Span::from_millis(60_000);

/// How many cases at a time where nothing is asked for: those that leave somebody alive wait for seconds.
const JOBS: usize = 48;

#[derive(Args)]
pub(super) struct Arguments {
    /// The scenario file. It is replaced by a simpler one at each step, never left half written. As it was it is kept beside that if
    /// the simpler one expects less.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    subject: SubjectOptions,
    /// The rule that stays broken; needed where the file names none or several.
    #[arg(long, value_name = "ID")]
    rule: Option<String>,
    /// The time for all of it, such as 60s. What was reached is kept, and another call goes on.
    #[arg(long, value_name = "TIME", default_value_t = DEFAULT_BUDGET)]
    budget: Span,
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
    file: &'a Path,
    subject: &'a str,
    rule: &'a str,
    replayed: Replays,
    /// How many simplifications were tried.
    tries: u64,
    /// How many cases ran.
    cases: u64,
    /// The file as it was, if the scenario no longer expects all that it did, or is not shrunk to its end as that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    as_given: Option<&'a Path>,
    scenario: &'a Scenario,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let scenario = Scenario::read(&arguments.file)?;
    let rule = rule_of(arguments, &scenario)?;
    let file = ScenarioFile { path: arguments.file.clone(), scenario };
    let subject = subject_of(&file, arguments.subject.named()?)?;
    let mut place = InPlace::open(&arguments.file, &file.scenario)?;
    let stop = interrupt::watch()?;
    let mut crew = arguments.crew.or_jobs(JOBS).start()?;
    let begun = Instant::now();
    let failing = failure::Failure { subject: &subject, rule, scenario: &file.scenario };
    let bounds = Bounds { budget: arguments.budget.get(), stop: &stop };
    let tier = crew.tier();
    let mut keep = |minimal: &Minimal| place.keep(minimal.as_found(&failing, tier), minimal.trace.as_deref());
    let minimal = failing.minimise(&mut crew, &bounds, &mut keep)?;
    if minimal.is_confirmed() {
        keep(&minimal);
    }
    drop(crew);
    let kept = place.finish();
    terminal::print(&match arguments.format {
        Format::Human => {
            let mut text = describe(&failing, &minimal, &kept.scenario, begun);
            if let Some(as_given) = &kept.as_given {
                let dropped = failure::dropped(&kept.scenario, &file.scenario).join(", ");
                let why = match dropped.as_str() {
                    "" => "it was shrunk to its end before, and is not now".to_owned(),
                    dropped => format!("of {dropped} the file expects no longer what it did"),
                };
                let as_given = as_given.to_string_lossy();
                text.push_str(&format!("{why}; as it was it is kept in {}\n", for_terminal(&as_given)));
            }
            if minimal.is_confirmed() {
                text.push_str(&for_terminal(&replay_line_of(&arguments.file, &subject)));
                text.push('\n');
            }
            text
        }
        Format::Json => json::render(&Document {
            schema: 1,
            file: &arguments.file,
            subject: &subject.name,
            rule: rule.id,
            replayed: Replays::from(&minimal),
            tries: minimal.tries,
            cases: minimal.cases,
            as_given: kept.as_given.as_deref(),
            scenario: &kept.scenario,
        }),
    });
    if let Some(failed) = kept.failed {
        return Err(failed);
    }
    Ok(match () {
        () if stop.load(Ordering::Relaxed) => Exit::Interrupted,
        () if minimal.is_confirmed() => Exit::Clean,
        () => Exit::Unknown,
    })
}

/// The rule that is named, else the one that the file says was found broken, else the only one that it expects to be.
fn rule_of(arguments: &Arguments, scenario: &Scenario) -> Result<&'static Rule, Failure> {
    let found = scenario.found.as_ref().map(|found| found.rule.clone());
    let verdicts = scenario.expect.iter().flat_map(|expect| &expect.verdicts);
    let broken = verdicts.filter(|(_, verdict)| **verdict == crate::verdict::VerdictKind::Broken);
    let broken = broken.map(|(rule, _)| rule.clone()).collect::<Vec<_>>();
    let id = match (&arguments.rule, found, &broken[..]) {
        (Some(id), _, _) => id.clone(),
        (None, Some(id), _) => id,
        (None, None, [id]) => id.clone(),
        (None, None, []) => {
            return Err(Failure::usage(
                "the file does not say which rule is broken: name it by --rule, as in --rule S4",
            ));
        }
        (None, None, several) => {
            return Err(Failure::usage(format!(
                "the file expects several rules to be broken: name one by --rule: {}",
                several.join(", ")
            )));
        }
    };
    let rule = select::rule(&id, rules::all()).map_err(Failure::usage)?;
    match &rule.judged {
        Judged::Trace { .. } => Ok(rule),
        _ => Err(Failure::usage(format!("{} is not judged from cases, so nothing can be shrunk", rule.id))),
    }
}

fn subject_of(file: &ScenarioFile, named: Vec<SubjectSpec>) -> Result<SubjectSpec, Failure> {
    let mut rounds = rounds(vec![file.clone()], named)?;
    match rounds.len() {
        1 => Ok(rounds.remove(0).0),
        _ => Err(Failure::usage("name one subject: a failure is shrunk with whom it was found")),
    }
}

fn describe(failing: &failure::Failure<'_>, minimal: &Minimal, kept: &Scenario, begun: Instant) -> String {
    let (rule, subject) = (failing.rule, for_terminal(&failing.subject.name));
    if let Some(why) = &minimal.why_untold {
        return format!(
            "{} no case with {subject} told whether {} is broken: {}; the file is as it was\n",
            Paint::Warning.on("not known:"),
            rule.id,
            for_terminal(why)
        );
    }
    if !minimal.is_confirmed() {
        return format!(
            "{} {} was not broken in {} replays with {subject}; the file is as it was\n",
            Paint::Warning.on("not seen again:"),
            rule.id,
            minimal.rate.of
        );
    }
    let mut text = format!("{}: {}\n", Paint::Strong.on(rule.id), rule.sentence);
    let before = if minimal.is_measured { "" } else { " before it was simplified" };
    text.push_str(&format!("broken by {subject} in {} replays{before}\n", minimal.rate));
    if minimal.is_promoted {
        text.push_str("a gate was added that pins the order in which it happens\n");
    }
    text.push_str(&format!(
        "{} simplifications tried in {} cases, {:.1} s; {}\n",
        minimal.tries,
        minimal.cases,
        begun.elapsed().as_secs_f64(),
        match kept.found.as_ref().is_some_and(|found| found.minimal) {
            true => "nothing simpler was found",
            false => "not at its end: shrink it again to go on",
        }
    ));
    let matters = kept.found.as_ref().map_or(&[][..], |found| &found.matters);
    if !matters.is_empty() {
        text.push_str("what matters, one thing relaxed at a time:\n");
        for place in matters {
            let value = failure::value_at(kept, place).unwrap_or_default();
            text.push_str(&format!("  {}  {}\n", for_terminal(place), for_terminal(&value)));
        }
    }
    text.push('\n');
    text.push_str(&kept.to_json());
    text
}
