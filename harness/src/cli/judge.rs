//! `headcount judge`

use std::path::{Path, PathBuf};

use clap::Args;
use fake_cli::playfile::read_text;
use serde::Serialize;

use super::{Failure, Format, terminal};
use crate::audit::exit::Exit;
use crate::audit::select;
use crate::report::escape::for_terminal;
use crate::report::paint::Paint;
use crate::report::{json, timeline};
use crate::rules;
use crate::rules::facts::Facts;
use crate::rules::{Judged, Rule};
use crate::scenario::Refused;
use crate::trace::{SCHEMA, Trace};
use crate::verdict::{Level, Verdict, VerdictKind};

/// Largest trace that is read, in bytes.
const MOST_FILE_BYTES: u64 = 64 * 1024 * 1024;

#[derive(Args)]
pub(super) struct Arguments {
    /// The trace; an audit saves it beside the scenario of a failure.
    #[arg(value_name = "TRACE")]
    file: PathBuf,
    /// Rules to judge, as patterns: `S1,D*`.
    #[arg(long, value_name = "GLOB", value_delimiter = ',')]
    rules: Vec<String>,
    /// Rules that say "should" count too.
    #[arg(long)]
    strict: bool,
    /// How to write the result.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

/// One rule's verdict on the trace.
#[derive(Serialize)]
struct Judged1<'a> {
    id: &'static str,
    level: Level,
    verdict: VerdictKind,
    detail: Option<&'a str>,
}

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    subject: &'a str,
    scenario: &'a str,
    rules: Vec<Judged1<'a>>,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let rules = select::rules(&arguments.rules, rules::all()).map_err(Failure::usage)?;
    let trace = read_trace(&arguments.file)?;
    let facts = Facts::of(&trace);
    let judged = rules.into_iter().filter(|rule| matches!(rule.judged, Judged::Trace { .. }));
    let verdicts = judged.map(|rule| (rule, rule.judge(&facts))).collect::<Vec<_>>();
    terminal::print(&match arguments.format {
        Format::Human => describe(&trace, &verdicts),
        Format::Json => json::render(&document(&trace, &verdicts)),
    });
    Ok(exit(&trace, &verdicts, arguments.strict))
}

fn document<'a>(trace: &'a Trace, verdicts: &'a [(&'static Rule, Verdict)]) -> Document<'a> {
    let rules = verdicts.iter().map(|(rule, verdict)| Judged1 {
        id: rule.id,
        level: rule.level_for(&trace.subject.promises),
        verdict: verdict.kind(),
        detail: verdict.detail(),
    });
    Document {
        schema: 1,
        subject: &trace.subject.name,
        scenario: &trace.scenario.name,
        rules: rules.collect(),
    }
}

fn describe(trace: &Trace, verdicts: &[(&'static Rule, Verdict)]) -> String {
    let mut text = format!(
        "{} with {}\n\n",
        for_terminal(&trace.scenario.name),
        Paint::Strong.on(&for_terminal(&trace.subject.name))
    );
    text.push_str(&timeline::render(trace, terminal::width()));
    text.push('\n');
    for (rule, verdict) in verdicts {
        let level = rule.level_for(&trace.subject.promises);
        let paint = match (verdict.kind(), level) {
            (VerdictKind::Kept, _) => Paint::Good,
            (VerdictKind::Broken, Level::Must) => Paint::Bad,
            (VerdictKind::Broken | VerdictKind::Unknown, _) => Paint::Warning,
            _ => Paint::Dim,
        };
        let name = paint.on(&format!("{:<8}", verdict.kind().name()));
        let detail = verdict.detail().unwrap_or(rule.sentence);
        text.push_str(&format!("{:<4} {:<6} {name} {}\n", rule.id, level.name(), for_terminal(detail)));
    }
    text
}

fn exit(trace: &Trace, verdicts: &[(&'static Rule, Verdict)], strict: bool) -> Exit {
    let has = |level: Level, kind: VerdictKind| {
        verdicts
            .iter()
            .any(|(rule, verdict)| rule.level_for(&trace.subject.promises) == level && verdict.kind() == kind)
    };
    if has(Level::Must, VerdictKind::Broken) {
        Exit::MustBroken
    } else if strict && has(Level::Should, VerdictKind::Broken) {
        Exit::ShouldBroken
    } else if has(Level::Must, VerdictKind::Unknown) || (strict && has(Level::Should, VerdictKind::Unknown)) {
        Exit::Unknown
    } else {
        Exit::Clean
    }
}

/// Reads a trace as strictly as a scenario.
fn read_trace(path: &Path) -> Result<Trace, Refused> {
    let refuse = |place: String, problem: String| Refused { file: Some(path.to_owned()), place, problem };
    let text = read_text(path, MOST_FILE_BYTES).map_err(|problem| refuse(String::new(), problem))?;
    let schema = serde_json::from_str::<serde_json::Value>(&text).ok().and_then(|all| all["schema"].as_u64());
    if schema.is_some_and(|schema| schema > u64::from(SCHEMA)) {
        return Err(refuse(
            "schema".to_owned(),
            format!("newer than {SCHEMA}, the newest this headcount reads; update headcount"),
        ));
    }
    let mut reader = serde_json::Deserializer::from_str(&text);
    let trace: Trace = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let place = error.path().to_string();
        refuse(place, format!("{}; give a trace, as an audit saves it", error.inner()))
    })?;
    reader.end().map_err(|error| refuse(String::new(), format!("{error}; one trace a file")))?;
    trace.scenario.check().map_err(|refused| Refused {
        place: format!("scenario.{}", refused.place),
        file: Some(path.to_owned()),
        ..refused
    })?;
    Ok(trace)
}
