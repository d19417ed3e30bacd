//! The command line: a thin skin over the library.
//!
//! A file for each command. Results go to stdout, everything else to stderr; each command answers with an
//! [`Exit`], or with a `Failure` that says why it could not do its part.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::audit::exit::Exit;
use crate::crew::CrewError;
use crate::scenario::Refused;

mod audit;
mod doctor;
mod explain;
mod fake;
mod interrupt;
mod judge;
mod list;
mod progress;
mod replay;
mod schema;
mod shrink;
mod subject;
mod terminal;
mod zoo;

/// Why a command could not do its part.
#[derive(Debug)]
struct Failure {
    exit: Exit,
    message: String,
}

impl Failure {
    fn usage(message: impl ToString) -> Self {
        Self { exit: Exit::Usage, message: message.to_string() }
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self { exit: Exit::Refused, message: refused.to_string() }
    }
}

impl From<CrewError> for Failure {
    fn from(error: CrewError) -> Self {
        let exit = match &error {
            CrewError::TierLacking(_) => Exit::Lacking,
            CrewError::Start(_) => Exit::OurFault,
        };
        Self { exit, message: error.to_string() }
    }
}

/// Proves whether programs that run other programs clean up after themselves.
#[derive(Parser)]
#[command(name = "headcount", bin_name = "headcount", version, after_help = exit_codes())]
struct Cli {
    /// When to colour.
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto)]
    color: Color,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Color {
    /// On a terminal, unless NO_COLOR is set; everywhere where CLICOLOR_FORCE is.
    Auto,
    Always,
    Never,
}

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For a person.
    Human,
    /// One JSON document.
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// Audit wrappers: which of them leave processes behind.
    Audit(audit::Arguments),
    /// Run scenario files again and compare with what they expect.
    Replay(replay::Arguments),
    /// Make the scenario of a failure simpler, as long as it breaks the same rule.
    Shrink(shrink::Arguments),
    /// Judge a stored trace again; starts no process.
    Judge(judge::Arguments),
    /// Say all about a rule.
    Explain(explain::Arguments),
    /// List the rules, the behaviours of the fake, and the subjects.
    List(list::Arguments),
    /// Print the JSON Schema of a format.
    Schema(schema::Arguments),
    /// Show what this machine has of what an audit needs.
    Doctor(doctor::Arguments),
    /// Test the harness itself with wrappers that are broken on purpose.
    Zoo(zoo::Arguments),
    /// Play a script, as the child that wrappers are tested with.
    Fake(fake::Arguments),
}

/// Runs the command that this process was started for.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse_from(arguments(std::env::args_os())) {
        Ok(cli) => cli,
        Err(refused) => {
            // Help goes to stdout and is no error; nobody may be there to read it.
            let _ = refused.print();
            return if refused.use_stderr() { Exit::Usage.into() } else { ExitCode::SUCCESS };
        }
    };
    match cli.color {
        Color::Auto => anstream::ColorChoice::Auto,
        Color::Always => anstream::ColorChoice::Always,
        Color::Never => anstream::ColorChoice::Never,
    }
    .write_global();
    let result = match cli.command {
        Command::Audit(arguments) => audit::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Shrink(arguments) => shrink::run(&arguments),
        Command::Judge(arguments) => judge::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::List(arguments) => list::run(&arguments),
        Command::Schema(arguments) => schema::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Zoo(arguments) => zoo::run(&arguments),
        Command::Fake(arguments) => fake::run(&arguments),
    };
    result
        .unwrap_or_else(|failure| {
            terminal::complain(&failure.message);
            failure.exit
        })
        .into()
}

/// The arguments less what `cargo headcount` and the fake put among them.
fn arguments(all: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments = all.collect::<Vec<_>>();
    let is_subcommand = arguments.first().is_some_and(|program| {
        let name = std::path::Path::new(program).file_stem().unwrap_or_default();
        name == "cargo-headcount"
    });
    if is_subcommand && arguments.get(1).is_some_and(|word| word == "headcount") {
        arguments.remove(1);
    }
    if fake_cli::play::ends_with_resume_mark(&arguments) {
        arguments.truncate(arguments.len() - 2);
    }
    arguments
}

fn exit_codes() -> String {
    let lines = Exit::ALL.iter().map(|exit| format!("  {:>3}  {}", exit.code(), exit.sentence()));
    format!("Exit codes:\n{}", lines.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn cargo_headcount_is_headcount() {
        let read = |words: &[&str]| arguments(words.iter().map(OsString::from));
        assert_eq!(read(&["/bin/cargo-headcount", "headcount", "list"]), ["/bin/cargo-headcount", "list"]);
        assert_eq!(read(&["/bin/cargo-headcount", "list"]), ["/bin/cargo-headcount", "list"]);
        assert_eq!(read(&["headcount", "headcount"]), ["headcount", "headcount"]);
    }
}
