//! `headcount list`

use clap::Args;
use fake_cli::script::catalogue;
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
    let steps = catalogue::steps().iter().map(|&step| step.to_owned());
    let reactions = catalogue::reactions().iter().map(|then| format!("on: {then}"));
    let places = catalogue::places().iter().map(|place| format!("as: {place}"));
    steps.chain(reactions).chain(places).collect()
}
