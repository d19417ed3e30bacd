//! The fake on its own: plays a script file without a control socket.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use fake_cli::play;

const USAGE: &str = "usage: fake-cli SCRIPT.json";

const HELP: &str = "\
A child process that misbehaves on command.

usage: fake-cli SCRIPT.json

SCRIPT.json holds a list of steps, such as
  [{\"on\": {\"signal\": \"TERM\", \"then\": \"ignore\"}}, {\"write\": {\"to\": \"stdout\", \"bytes\": 100}}, \"hang\"]
or a play file, { \"ttl\": \"5s\", \"script\": [steps] }. No process lives longer than its ttl; the
default is 60s. A control socket named in the file is not used.

Exit codes: what the script says; 2 wrong arguments; 65 the script was refused; 75 the ttl is over.
";

fn main() -> ExitCode {
    play::reenter_if_fake();
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if play::ends_with_resume_mark(&arguments) {
        arguments.truncate(arguments.len() - 2);
    }
    match arguments.as_slice() {
        [word] if word == "--help" || word == "-h" => {
            let _ = std::io::stdout().write_all(HELP.as_bytes());
            ExitCode::SUCCESS
        }
        [word] if word == "--version" || word == "-V" => {
            let _ = writeln!(std::io::stdout(), "fake-cli {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        [script] if !script.as_encoded_bytes().starts_with(b"-") => play::play_alone(Path::new(script)),
        [option] => refuse(&format!("{option:?} is not an option; fake-cli --help says more")),
        [] => refuse("which script? fake-cli --help says more"),
        _ => refuse("one script at a time; fake-cli --help says more"),
    }
}

fn refuse(problem: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "fake-cli: {problem}\n{USAGE}");
    ExitCode::from(play::code::USAGE)
}
