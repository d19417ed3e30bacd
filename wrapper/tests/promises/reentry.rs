//! A test that needs an owner in a process of its own runs itself there once more, in a role.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const ROLE: &str = "CHILDMINDER_TEST_ROLE";

/// The longest that an owner waits to be killed.
const LIFE: Duration = Duration::from_secs(30);

/// Whether this process was started by [`Owner::start`], and for this.
pub(crate) fn plays(role: &str) -> bool {
    std::env::var_os(ROLE).is_some_and(|played| played == role)
}

/// What an owner says to the test, in a line of its own.
pub(crate) fn say(words: impl std::fmt::Display) {
    use std::io::Write;
    // Not by `println`, which the test harness catches.
    writeln!(std::io::stdout(), "\n! {words}").expect("somebody listens");
}

/// The end of an owner that is to be killed.
pub(crate) fn wait_to_be_killed() -> ! {
    std::thread::sleep(LIFE);
    panic!("nobody killed this owner")
}

/// A process that plays a role in a test.
pub(crate) struct Owner {
    process: Child,
    said: BufReader<ChildStdout>,
}

impl Owner {
    /// Runs the test of this name once more.
    pub(crate) fn start(test: &str, role: &str) -> Self {
        Self::start_by(&mut Command::new(std::env::current_exe().expect("our own path")), test, role)
    }

    /// The same by way of a command that executes it.
    pub(crate) fn start_by(command: &mut Command, test: &str, role: &str) -> Self {
        command.args(["--exact", test]).env(ROLE, role).stdout(Stdio::piped());
        let mut process = command.spawn().expect("our own program starts");
        let said = BufReader::new(process.stdout.take().expect("it is piped"));
        Self { process, said }
    }

    /// The next words that it says.
    pub(crate) fn says(&mut self) -> String {
        let mut line = String::new();
        while self.said.read_line(&mut line).expect("it can be read") > 0 {
            if let Some(words) = line.trim_end().strip_prefix("! ") {
                return words.to_owned();
            }
            line.clear();
        }
        panic!("the owner has ended without a word")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).expect("a pid"));
        kill(pid, signal).expect("it is ours and not reaped");
    }

    /// Waits until it has ended by itself, as a test that passes.
    pub(crate) fn passes(mut self) {
        let mut rest = Vec::new();
        std::io::Read::read_to_end(&mut self.said, &mut rest).expect("it can be read");
        let status = self.process.wait().expect("it is ours");
        let rest = String::from_utf8_lossy(&rest);
        assert!(status.success(), "{status}: {rest}");
        assert!(!rest.contains(" 0 passed"), "it has shown nothing: {rest}");
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs tests of this program as a user without rights, by way of a bit of shell with `$1` for a directory, and says
/// what they said. `None` if that is no matter of ours, because we are such a user.
pub(crate) fn unprivileged(shell: &str, directory: &std::path::Path, tests: &[&str]) -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    // Our own program may lie where that user cannot come to.
    let name = format!("childminder-unprivileged-{}-{}", crate::HELD_BY, std::process::id());
    let copy = std::env::temp_dir().join(name);
    // Copied by another process: if this one had it open for writing, whoever is just being forked by another test would
    // have so for a moment too, and it could not be executed.
    let mut copier = Command::new("cp");
    copier.arg(std::env::current_exe().expect("our own path")).arg(&copy);
    assert!(copier.status().expect("a program that copies").success());
    let script = format!("{shell} exec setpriv --reuid 65534 --regid 65534 --clear-groups \"$@\"");
    let output = Command::new("sh")
        .args(["-c", &format!("dir=$1; shift; {script}"), "sh"])
        .arg(directory)
        .arg(&copy)
        .args(tests)
        .current_dir("/")
        .env("TMPDIR", "/tmp")
        .output()
        .expect("a shell");
    std::fs::remove_file(&copy).expect("our own file");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{}: {said}", output.status);
    Some(said)
}
