//! What the tests share: children that say when they are ready, and a look at who is alive.

use std::collections::HashMap;
use std::future::Future;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use childminder::{Command, Containment, Event, Outcome, Output, Run, RunId};

use crate::HELD_BY;

/// No test waits longer than this for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A grace that no test waits for: what ends sooner did so by itself.
pub(crate) const LONG_GRACE: Duration = Duration::from_secs(60);

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it took longer than any test waits")
}

pub(crate) fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]).require(held_by());
    command
}

pub(crate) fn perl(script: &str) -> Command {
    let mut command = Command::new("perl");
    command.args(["-e", script]).require(held_by());
    command
}

/// What holds the runs of these tests. Where a machine need not have it and has not, the whole program ends here, and says
/// so where the test harness does not catch it.
pub(crate) fn held_by() -> Containment {
    let need_not_be = matches!(HELD_BY, Containment::Cgroup | Containment::Sealed);
    if let (true, Err(lack)) = (need_not_be, HELD_BY.probe()) {
        let _ = writeln!(std::io::stderr(), "\nSKIPPED: none of these tests was run, because {lack}");
        std::process::exit(0)
    }
    HELD_BY
}

/// Starts a command whose stdout the test reads.
pub(crate) fn start(command: &mut Command) -> Run {
    let run = command.stdout(Output::Streamed).start().expect("the command starts");
    // None is to be seen any more of a leader that was reaped meanwhile.
    if let Some(namespace) = run.pid().and_then(namespace_of).filter(|_| HELD_BY == Containment::Sealed) {
        namespaces().insert(run.id(), namespace);
    }
    run
}

/// The pid namespaces of runs: a process in one does not know the number that it has here.
fn namespaces() -> MutexGuard<'static, HashMap<RunId, PathBuf>> {
    static NAMESPACES: LazyLock<Mutex<HashMap<RunId, PathBuf>>> = LazyLock::new(Mutex::default);
    NAMESPACES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn namespace_of(pid: u32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}

/// Reads until the child has said `count` lines, which is how it tells that it is ready.
pub(crate) async fn lines(run: &mut Run, count: usize) -> Vec<String> {
    let said = lines_before_its_end(run, count).await;
    said.unwrap_or_else(|outcome| panic!("ended before it was ready: {outcome:?}"))
}

/// The same, or how the run ended before that.
pub(crate) async fn lines_before_its_end(run: &mut Run, count: usize) -> Result<Vec<String>, Box<Outcome>> {
    let mut said = Vec::new();
    while said.iter().filter(|byte| **byte == b'\n').count() < count {
        match within(run.next_event()).await {
            Some(Event::Stdout(bytes)) => said.extend_from_slice(&bytes),
            Some(Event::Ended(outcome)) => return Err(outcome),
            Some(_) => {}
            None => panic!("no events after the end"),
        }
    }
    Ok(String::from_utf8(said).expect("text").lines().map(str::to_owned).collect())
}

/// Reads `count` pids, a line each.
pub(crate) async fn pids(run: &mut Run, count: usize) -> Vec<u32> {
    let said = lines(run, count).await;
    said.iter().map(|line| pid_here(run, line)).collect()
}

/// The number here of a process, out of a line that says its number.
pub(crate) fn pid_here(run: &Run, line: &str) -> u32 {
    number_here(run, line.trim().parse().expect("a pid"))
}

/// The number here of a process that has said the number that it has in its run; one that nobody has if it has ended.
pub(crate) fn number_here(run: &Run, number: u32) -> u32 {
    let Some(namespace) = namespaces().get(&run.id()).cloned() else { return number };
    let is_it = |pid: &u32| {
        let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return false };
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
        numbers.split_whitespace().last().is_some_and(|last| last.parse() == Ok(number))
    };
    let processes = std::fs::read_dir("/proc").expect("a list of processes");
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| namespace_of(*pid).as_ref() == Some(&namespace))
        .find(is_it)
        .unwrap_or(u32::MAX)
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
        std::thread::sleep(Duration::from_millis(1));
    }
}
