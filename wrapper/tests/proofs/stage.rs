//! What the proofs share: owners, and an exact count of whom they leave behind.

use std::fmt::Display;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use libtest_mimic::{Completion, Failed, Trial};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// The first argument of this program when it plays an owner.
pub(crate) const PLAY: &str = "play-owner";

/// No proof waits longer than this for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Prepares this process: everybody who escapes comes to it.
pub(crate) fn set() {
    set_child_subreaper(true).expect("every process may be a subreaper");
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    children.thread_block().expect("a thread's mask can be changed");
}

pub(crate) fn is_long() -> bool {
    std::env::var("CHILDMINDER_PROOFS").is_ok_and(|form| form == "long")
}

/// How many rounds to make.
pub(crate) fn rounds(short: usize, long: usize) -> usize {
    if is_long() { long } else { short }
}

pub(crate) fn trial(name: &str, proof: fn() -> Result<(), Failed>) -> Trial {
    trial_or_skip(name, move || proof().map(|()| Completion::Completed))
}

/// A proof that may find that it cannot be had here.
pub(crate) fn trial_or_skip(
    name: &str,
    proof: impl FnOnce() -> Result<Completion, Failed> + Send + 'static,
) -> Trial {
    Trial::ignorable_test(name, move || {
        let result = proof();
        // Also after a failure: the next proof counts from nobody.
        let left = nobody_is_left(PATIENCE);
        result.and_then(|completion| left.map(|()| completion))
    })
}

/// A process that starts runs.
pub(crate) struct Owner {
    pub(crate) pid: Pid,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Owner {
    /// Starts an owner that plays a part.
    pub(crate) fn play(part: &str, arguments: &[&str]) -> Self {
        Self::start(&mut this_program(part, arguments))
    }

    /// Starts a command that ends up as an owner.
    #[expect(clippy::zombie_processes, reason = "`reap_all` reaps every child of this process")]
    pub(crate) fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("this program starts");
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        let stdout = child.stdout.take().expect("it is piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            // The end of the pipe ends the thread; so does a proof that has heard enough.
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { pid, stdin: child.stdin.take(), lines }
    }

    /// The next line that it says.
    pub(crate) fn line(&self) -> Result<String, Failed> {
        self.lines.recv_timeout(PATIENCE).map_err(|error| match error {
            RecvTimeoutError::Timeout => Failed::from("the owner said nothing for too long"),
            RecvTimeoutError::Disconnected => Failed::from("the owner ended before it said what it should"),
        })
    }

    /// The rest of what it says.
    pub(crate) fn rest(&self) -> Result<Vec<String>, Failed> {
        let mut rest = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => rest.push(line),
                Err(RecvTimeoutError::Disconnected) => return Ok(rest),
                Err(RecvTimeoutError::Timeout) => return Err(format!("no end after {rest:?}").into()),
            }
        }
    }

    pub(crate) fn expect(&self, wanted: &str) -> Result<(), Failed> {
        let line = self.line()?;
        if line == wanted { Ok(()) } else { Err(format!("said {line:?} instead of {wanted:?}").into()) }
    }

    /// Lets it go on.
    pub(crate) fn go_on(&mut self) {
        let stdin = self.stdin.as_mut().expect("it is open");
        stdin.write_all(b"\n").expect("the owner reads");
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // It is our child and only `nobody_is_left` reaps.
        kill(self.pid, signal).expect("it is our child");
    }
}

/// This program in the part of an owner that ignores the end of its children. A disposition that is inherited needs nobody
/// who sets it in that process. A shell may not pass this one on.
pub(crate) fn ignoring_children(part: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("perl");
    command.args(["-e", "$SIG{CHLD} = 'IGNORE'; exec @ARGV"]);
    command.arg(std::env::current_exe().expect("our own path")).args([PLAY, part]).args(arguments);
    command
}

/// This program in the part of an owner.
pub(crate) fn this_program(part: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args([PLAY, part]).args(arguments);
    command
}

/// Waits until this process has no children, which means that nobody is left of anything that an owner started, nor any
/// nanny. Kills whoever is there when `bound` is over, and names them.
pub(crate) fn nobody_is_left(bound: Duration) -> Result<(), Failed> {
    reap_all(bound).map(drop)
}

/// How an ended child of this process had ended.
pub(crate) type End = (Pid, WaitStatus);

/// As [`nobody_is_left`]; gives the ends of all who came to this process.
pub(crate) fn reap_all(bound: Duration) -> Result<Vec<End>, Failed> {
    let ends = ChildEnds::new();
    let deadline = Instant::now() + bound;
    let mut reaped = Vec::new();
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Err(Errno::ECHILD) => return Ok(reaped),
            Ok(WaitStatus::StillAlive) => {}
            Ok(status) => {
                reaped.extend(status.pid().map(|pid| (pid, status)));
                continue;
            }
            Err(error) => panic!("cannot wait: {error}"),
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let who = describe_children();
            end_children();
            return Err(format!("left after {bound:?}:\n{who}").into());
        }
        ends.wait(left);
    }
}

/// Hears of children that have ended or stopped.
pub(crate) struct ChildEnds(SignalFd);

impl ChildEnds {
    pub(crate) fn new() -> Self {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        Self(
            SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
                .expect("a descriptor"),
        )
    }

    /// Waits for the next, at most for so long.
    pub(crate) fn wait(&self, at_most: Duration) {
        let mut polls = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        // Rounded up, so that the last wait is not a busy one.
        let at_most = PollTimeout::try_from(at_most + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        let _ = poll(&mut polls, at_most);
        while let Ok(Some(_)) = self.0.read_signal() {}
    }
}

/// The children of this process, by the kernel's list.
pub(crate) fn children_of(pid: u32) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

fn describe_children() -> String {
    let describe = |pid: i32| {
        let text = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        format!("  {}: {}", text("cmdline").replace('\0', " "), text("stat"))
    };
    children_of(std::process::id()).into_iter().map(describe).collect()
}

fn end_children() {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        for pid in children_of(std::process::id()) {
            // Our own children, which nobody else reaps, so the numbers are theirs.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Err(Errno::ECHILD) => return,
                Ok(WaitStatus::StillAlive) | Err(_) => break,
                Ok(_) => {}
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Numbers that look random, from a seed that is printed with a failure.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Prints a figure.
pub(crate) fn figure(what: impl Display) {
    eprintln!("    {what}");
}

pub(crate) fn median(durations: &mut [Duration]) -> Duration {
    durations.sort_unstable();
    durations[durations.len() / 2]
}

pub(crate) fn check(is_so: bool, else_what: impl FnOnce() -> String) -> Result<(), Failed> {
    if is_so { Ok(()) } else { Err(else_what().into()) }
}
