//! What the tests share: children that say when they are ready, and a look at who is alive.

use std::future::Future;
use std::time::{Duration, Instant};

use childminder::{Command, Event, Outcome, Output, Run};

/// No test waits longer than this for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A grace that no test waits for: what ends sooner did so by itself.
pub(crate) const LONG_GRACE: Duration = Duration::from_secs(60);

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it took longer than any test waits")
}

pub(crate) fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]).require(crate::HELD_BY);
    command
}

pub(crate) fn perl(script: &str) -> Command {
    let mut command = Command::new("perl");
    command.args(["-e", script]).require(crate::HELD_BY);
    command
}

/// Starts a command whose stdout the test reads.
pub(crate) fn start(command: &mut Command) -> Run {
    command.stdout(Output::Streamed).start().expect("the command starts")
}

/// Reads until the child has said `count` lines, which is how it tells that it is ready.
pub(crate) async fn lines(run: &mut Run, count: usize) -> Vec<String> {
    let mut said = Vec::new();
    while said.iter().filter(|byte| **byte == b'\n').count() < count {
        match within(run.next_event()).await {
            Some(Event::Stdout(bytes)) => said.extend_from_slice(&bytes),
            Some(Event::Ended(outcome)) => panic!("ended before it was ready: {outcome:?}"),
            Some(_) => {}
            None => panic!("no events after the end"),
        }
    }
    String::from_utf8(said).expect("text").lines().map(str::to_owned).collect()
}

/// Reads `count` pids, a line each.
pub(crate) async fn pids(run: &mut Run, count: usize) -> Vec<u32> {
    lines(run, count).await.iter().map(|line| line.trim().parse().expect("a pid")).collect()
}

/// Runs a command to its end.
pub(crate) async fn run(command: &mut Command) -> Outcome {
    within(command.run()).await.expect("the command starts")
}

/// The letter of the state of a process, `None` if there is no such process.
pub(crate) fn state_of(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

pub(crate) fn is_alive(pid: u32) -> bool {
    !matches!(state_of(pid), None | Some('Z' | 'X'))
}

/// Whether a process waits for room in a pipe.
pub(crate) fn is_held_up(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/wchan")).is_ok_and(|place| place.contains("pipe_write"))
}

/// Nobody of these is alive *now*: to be asked right after the end of a run.
#[track_caller]
pub(crate) fn assert_all_dead(pids: &[u32]) {
    let alive: Vec<_> = pids.iter().filter(|pid| is_alive(**pid)).collect();
    assert!(alive.is_empty(), "still alive: {alive:?}");
}

/// Looks until it is so, or nobody has patience any more.
#[track_caller]
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "never came true: {what}");
        std::thread::yield_now();
    }
}

/// Ends a process that a test let escape on purpose, also if the test fails.
pub(crate) struct Stray(pub(crate) u32);

impl Drop for Stray {
    fn drop(&mut self) {
        let pid = i32::try_from(self.0).expect("a pid");
        assert!(pid > 1, "not a stray");
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
}
