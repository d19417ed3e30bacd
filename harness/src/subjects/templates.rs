//! Commands that many machines have, as templates.

use std::process::{Command, Stdio};

use crate::launch;
use crate::promises::Promises;
use crate::subject::{Drive, SubjectSpec};

/// A command that many machines have.
pub(super) struct BuiltIn {
    name: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
    promises: &'static str,
    /// Prints the real program's path and the version, one a line, where the program on `PATH` may be a launcher of another one.
    real: Option<&'static [&'static str]>,
    /// Prints the version in its first line.
    version: &'static [&'static str],
}

const PYTHON: &str = "import subprocess, sys
try:
    done = subprocess.run([sys.argv[1]], capture_output=True, timeout=0.5)
except subprocess.TimeoutExpired as late:
    done = late
sys.stdout.buffer.write(done.stdout or b'')
sys.stderr.buffer.write(done.stderr or b'')
sys.exit(getattr(done, 'returncode', 124))";

const NODE: &str = "const { execFile } = require('node:child_process');
execFile(process.argv[1], [], { timeout: 500, encoding: 'buffer', maxBuffer: 1 << 27 }, (error, stdout, stderr) => {
  process.stdout.write(stdout);
  process.stderr.write(stderr);
  process.exitCode = error ? (typeof error.code === 'number' ? error.code : 124) : 0;
});";

const ALL: [BuiltIn; 4] = [
    BuiltIn {
        name: "timeout",
        program: "timeout",
        arguments: &["0.5", "{fake}"],
        promises: "timeout=500ms,captures,status,hands-down-signals",
        real: None,
        version: &["--version"],
    },
    BuiltIn {
        name: "timeout -k",
        program: "timeout",
        arguments: &["-k", "0.5", "0.5", "{fake}"],
        promises: "timeout=500ms,grace=500ms,captures,status,hands-down-signals",
        real: None,
        version: &["--version"],
    },
    BuiltIn {
        name: "python",
        program: "python3",
        arguments: &["-c", PYTHON, "{fake}"],
        promises: "timeout=500ms,captures",
        real: Some(&["-c", "import sys; print(sys.executable); print(sys.version.split()[0])"]),
        version: &["--version"],
    },
    BuiltIn {
        name: "node",
        program: "node",
        arguments: &["-e", NODE, "{fake}"],
        promises: "timeout=500ms,captures,output-limit=128",
        real: Some(&["-p", "process.execPath + '\\n' + process.version"]),
        version: &["--version"],
    },
];

/// The names of all of them.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|built_in| built_in.name)
}

/// The one of this name.
pub(super) fn find(name: &str) -> Option<&'static BuiltIn> {
    ALL.iter().find(|built_in| built_in.name == name)
}

impl BuiltIn {
    /// The subject, if this machine has its program.
    pub(super) fn spec(&self) -> Result<SubjectSpec, String> {
        let lacks = || format!("{}: this machine has no {}", self.name, self.program);
        let found = launch::find_program(self.program).ok_or_else(lacks)?;
        let found = found.to_string_lossy().into_owned();
        let (program, version) = match self.real {
            Some(arguments) => {
                let lines = lines_of(&found, arguments).ok_or_else(lacks)?;
                let [program, version] = &lines[..] else { return Err(lacks()) };
                (program.clone(), version.clone())
            }
            None => {
                let lines = lines_of(&found, self.version).ok_or_else(lacks)?;
                (found, lines.first().map(|line| number_in(line)).unwrap_or_default())
            }
        };
        let words =
            std::iter::once(program).chain(self.arguments.iter().map(|word| (*word).to_owned())).collect();
        let promises: Promises = self.promises.parse().expect("the table holds legal promises");
        Ok(SubjectSpec {
            name: self.name.to_owned(),
            drive: Drive::Template { words, promises, version, fake_as: None },
        })
    }
}

/// The number in a line such as `timeout (GNU coreutils) 9.1`; the whole line if it has none.
fn number_in(line: &str) -> String {
    let is_number = |word: &&str| word.starts_with(|first: char| first.is_ascii_digit());
    line.split_whitespace().rfind(is_number).unwrap_or(line).to_owned()
}

/// What a program prints, by lines; nothing if it fails or takes too long.
fn lines_of(program: &str, arguments: &[&str]) -> Option<Vec<String>> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    // A few lines fit into the pipe, so it can be waited for before it is read.
    let status = crate::crew::wait_until(&mut child, deadline).ok()?;
    let text = std::io::read_to_string(child.stdout.take()?).ok()?;
    status.success().then(|| text.lines().map(str::to_owned).collect())
}
