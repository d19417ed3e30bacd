//! `headcount list`

use clap::Args;
use fake_cli::script::{
    Event, ForkAtRate, Name, Place, Reaction, Signal, SlowStream, Start, Stdio, Step, Then, Write,
};
use fake_cli::span::Span;
use serde::Serialize;

use super::{Failure, Format, terminal};
use crate::audit::exit::Exit;
use crate::report::json;
use crate::report::paint::Paint;
use crate::rules::{self, Rule};
use crate::subjects;
use crate::verdict::Level;

#[derive(Args)]
pub(super) struct Arguments {
    /// How to write the result.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

#[derive(Serialize)]
struct Document {
    schema: u32,
    rules: Vec<RuleEntry>,
    behaviours: Vec<String>,
    subjects: Vec<String>,
}

#[derive(Serialize)]
struct RuleEntry {
    id: &'static str,
    level: Level,
    title: &'static str,
    sentence: &'static str,
    built: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let document = Document {
        schema: 1,
        rules: rules::all().iter().map(entry).collect(),
        behaviours: behaviours(),
        subjects: subjects::names(),
    };
    terminal::print(&match arguments.format {
        Format::Human => describe(&document),
        Format::Json => json::render(&document),
    });
    Ok(Exit::Clean)
}

fn entry(rule: &'static Rule) -> RuleEntry {
    RuleEntry {
        id: rule.id,
        level: rule.level,
        title: rule.title,
        sentence: rule.sentence,
        built: rule.is_built(),
    }
}

fn describe(document: &Document) -> String {
    let mut text = format!("{}\n", Paint::Strong.on("rules"));
    for rule in &document.rules {
        let line = format!("  {:<4} {:<7} {}", rule.id, rule.level.name(), rule.sentence);
        let line = if rule.built { line } else { Paint::Dim.on(&format!("{line} (not built yet)")) };
        text.push_str(&line);
        text.push('\n');
    }
    for (name, entries) in [("behaviours", &document.behaviours), ("subjects", &document.subjects)] {
        text.push_str(&format!("\n{}\n  {}\n", Paint::Strong.on(name), entries.join(", ")));
    }
    text
}

/// The names of what a script can do, as scripts write them: steps, `on` a signal, and where a node can stand.
fn behaviours() -> Vec<String> {
    let steps = one_of_each_step().into_iter().map(|step| tag(&step));
    let reactions = one_of_each_reaction().into_iter().map(|then| format!("on: {}", tag(&then)));
    let places = EVERY_PLACE.into_iter().map(|place| format!("as: {}", tag(&place)));
    steps.chain(reactions).chain(places).collect()
}

const EVERY_PLACE: [Place; 5] =
    [Place::SameGroup, Place::OwnGroup, Place::OwnSession, Place::Orphan, Place::Daemon];

/// How a value of an enum is named in JSON.
fn tag(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        Ok(serde_json::Value::Object(map)) => map.keys().next().cloned().unwrap_or_default(),
        _ => String::new(),
    }
}

fn one_of_each_step() -> Vec<Step> {
    let name = || Name::try_from("a").expect("a legal name");
    vec![
        Step::Exit(0),
        Step::Die(Signal::Term),
        Step::Fault,
        Step::Hang,
        Step::BusyHang,
        Step::Sleep(Span::ZERO),
        Step::Stop,
        Step::On(Reaction { signal: Signal::Term, then: Then::Log }),
        Step::LogSignals,
        Step::Start(Start { node: name(), place: Place::SameGroup, holds: Vec::new(), script: Vec::new() }),
        Step::ForkAtRate(ForkAtRate { node: name(), every: Span::ZERO, most: 1 }),
        Step::Zombies(1),
        Step::Write(Write { to: fake_cli::content::Output::Stdout, bytes: 1, content: Default::default() }),
        Step::SlowStream(SlowStream {
            to: fake_cli::content::Output::Stdout,
            chunk: 1,
            every: Span::ZERO,
            times: 1,
        }),
        Step::Flood { most: 1 },
        Step::Close(Stdio::Stdout),
        Step::ReadStdin,
        Step::ClearEnvironment,
        Step::Emit(name()),
        Step::Await(Event::try_from("root.ready").expect("a legal event")),
        Step::Subreaper,
    ]
}

fn one_of_each_reaction() -> Vec<Then> {
    vec![
        Then::Default,
        Then::Ignore,
        Then::Block,
        Then::Log,
        Then::Exit(0),
        Then::ExitSlowly { takes: Span::ZERO, code: 0 },
        Then::Fork(1),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Does not compile when a step is added, to remind of the list above.
    fn place_of(step: &Step) -> usize {
        match step {
            Step::Exit(_) => 0,
            Step::Die(_) => 1,
            Step::Fault => 2,
            Step::Hang => 3,
            Step::BusyHang => 4,
            Step::Sleep(_) => 5,
            Step::Stop => 6,
            Step::On(_) => 7,
            Step::LogSignals => 8,
            Step::Start(_) => 9,
            Step::ForkAtRate(_) => 10,
            Step::Zombies(_) => 11,
            Step::Write(_) => 12,
            Step::SlowStream(_) => 13,
            Step::Flood { .. } => 14,
            Step::Close(_) => 15,
            Step::ReadStdin => 16,
            Step::ClearEnvironment => 17,
            Step::Emit(_) => 18,
            Step::Await(_) => 19,
            Step::Subreaper => 20,
        }
    }

    /// The same for reactions.
    fn place_of_reaction(then: &Then) -> usize {
        match then {
            Then::Default => 0,
            Then::Ignore => 1,
            Then::Block => 2,
            Then::Log => 3,
            Then::Exit(_) => 4,
            Then::ExitSlowly { .. } => 5,
            Then::Fork(_) => 6,
        }
    }

    #[test]
    fn every_behaviour_is_listed_once_by_its_name() {
        assert_eq!(one_of_each_step().iter().map(place_of).collect::<Vec<_>>(), (0..21).collect::<Vec<_>>());
        let reactions = one_of_each_reaction();
        assert_eq!(reactions.iter().map(place_of_reaction).collect::<Vec<_>>(), (0..7).collect::<Vec<_>>());
        let names = behaviours();
        assert_eq!(names.len(), 33);
        for name in ["exit", "fork-at-rate", "on: exit-slowly", "as: own-session", "on: ignore"] {
            assert!(names.iter().any(|known| known == name), "{name}");
        }
    }
}
