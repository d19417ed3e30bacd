//! `headcount schema`

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::{Failure, terminal};
use crate::audit::Audit;
use crate::audit::exit::Exit;
use crate::layout;
use crate::scenario::Scenario;
use crate::trace::Trace;

#[derive(Args)]
pub(super) struct Arguments {
    /// Of which format.
    #[arg(value_enum)]
    format: Described,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Described {
    /// Scenario files.
    Scenario,
    /// Traces, as they are saved beside scenarios.
    Trace,
    /// What `headcount audit --format json` prints.
    Audit,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    terminal::print(&layout::to_json(&schema(arguments.format)));
    Ok(Exit::Clean)
}

/// JSON Schema, 2020-12.
fn schema(of: Described) -> Value {
    let schema = match of {
        Described::Scenario => schemars::schema_for!(Scenario),
        Described::Trace => schemars::schema_for!(Trace),
        Described::Audit => schemars::schema_for!(Audit),
    };
    schema.into()
}
