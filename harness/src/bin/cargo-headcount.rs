//! The same command as `cargo headcount`.

use std::process::ExitCode;

fn main() -> ExitCode {
    headcount::reentry::reenter(headcount::subjects::in_rust);
    headcount::cli::main()
}
