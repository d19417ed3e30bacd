//! `headcount fake`

use std::path::PathBuf;

use clap::Args;

use super::Failure;
use crate::audit::exit::Exit;

#[derive(Args)]
pub(super) struct Arguments {
    /// The script: a list of steps as JSON, or a play file.
    #[arg(value_name = "SCRIPT")]
    script: PathBuf,
}

/// Becomes the fake: ends as the script says, with 65 if it is refused.
pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    fake_cli::play::play_alone(&arguments.script)
}
