//! The child of a keeper: its start, its signals, its end and its reaping.

use std::ffi::CString;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::SigSet;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process, kill_process_group,
    pidfd_open, set_parent_process_death_signal, waitid,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::flaw::Flaw;
use crate::trace::Status;

/// How long a wrapper waits for what it has killed; the kernel needs far less, unless it cannot kill at all.
const DEATH: Duration = Duration::from_secs(1);
/// How long to wait where a member of the group cannot be watched.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// How long the thread lives to which a child's parent-death signal is tied.
const LIFE_OF_A_THREAD: Duration = Duration::from_millis(50);

/// The ends of the pipes that a child is started with.
pub(super) struct Ends<'a> {
    pub(super) stdin: BorrowedFd<'a>,
    pub(super) stdout: BorrowedFd<'a>,
    pub(super) stderr: BorrowedFd<'a>,
    /// What else must not stay open in it.
    pub(super) others: Vec<BorrowedFd<'a>>,
}

/// A child in a group and a session of its own, which is killed and reaped when this is dropped.
pub(super) struct Child {
    flaw: Flaw,
    leader: Pid,
    pidfd: Option<AsyncFd<OwnedFd>>,
    /// The descendants that a walk has found.
    walked: OnceLock<Vec<Process>>,
    reaped: bool,
}

impl Child {
    /// Starts the program.
    ///
    /// # Errors
    ///
    /// When it cannot be started or watched; then nobody is left of it.
    pub(super) fn start(flaw: Flaw, program: &Path, ends: &Ends<'_>) -> io::Result<Self> {
        let leader = match flaw {
            Flaw::DiesWithAThread => start_in_a_thread(program, ends)?,
            _ => spawn(flaw, program, ends)?,
        };
        let mut child = Self { flaw, leader, pidfd: None, walked: OnceLock::new(), reaped: false };
        if flaw == Flaw::ForgetsAfterTheFork {
            // More than the start itself had open at once.
            let logs: io::Result<Vec<_>> = (0..8).map(|_| std::fs::File::open("/dev/null")).collect();
            if let Err(error) = logs {
                std::mem::forget(child);
                return Err(error);
            }
        }
        match watch(leader) {
            Ok(pidfd) => child.pidfd = Some(pidfd),
            Err(error) => {
                // Nobody has reaped it yet. That it cannot be killed means that it is dead; not so of a group that nobody made.
                let _ = kill_process_group(leader, Signal::KILL);
                let _ = kill_process(leader, Signal::KILL);
                let _ = waitid(WaitId::Pid(leader), WaitIdOptions::EXITED);
                child.forget();
                return Err(error);
            }
        }
        Ok(child)
    }

    /// The leader's number.
    pub(super) fn pid(&self) -> i32 {
        self.leader.as_raw_nonzero().get()
    }

    /// Until the leader is dead, as far as its wrapper can tell that.
    pub(super) async fn seems_ended(&self) {
        let changed =
            WaitIdOptions::EXITED | WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        while self.flaw == Flaw::TakesAStopForAnEnd
            && matches!(waitid(WaitId::Pid(self.leader), changed), Ok(None))
        {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        if self.flaw != Flaw::TakesAStopForAnEnd {
            self.ended().await;
        }
    }

    /// Until the leader is dead. It is a zombie then, so its number and its group's stay its own.
    pub(super) async fn ended(&self) {
        if self.flaw == Flaw::BusyWaits {
            while !self.has_ended() {
                tokio::task::yield_now().await;
            }
            return;
        }
        if let Some(pidfd) = &self.pidfd
            && pidfd.readable().await.is_err()
        {
            // The runtime is going, and this future with it.
            std::future::pending::<()>().await;
        }
    }

    /// Until nobody of the group is alive.
    pub(super) async fn group_ended(&self) {
        loop {
            let Some(member) = self.members().into_iter().next() else { return };
            match member.pid().map(watch) {
                Some(Ok(pidfd)) => drop(pidfd.readable().await),
                _ => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }

    /// Waits for everybody who was killed, as long as the kernel may need.
    pub(super) async fn all_dead(&self) {
        let dead = async {
            self.ended().await;
            self.group_ended().await;
        };
        // Who cannot be killed is left, and that is all that can be done.
        drop(tokio::time::timeout(DEATH, dead).await);
    }

    /// Whether nobody of the group is alive.
    pub(super) fn is_alone(&self) -> bool {
        self.members().is_empty()
    }

    /// Whether the leader is dead.
    pub(super) fn has_ended(&self) -> bool {
        self.pidfd.as_ref().is_none_or(|pidfd| is_readable_within(pidfd.get_ref(), Duration::ZERO))
    }

    /// The members of the group that are alive, as one look shows them.
    fn members(&self) -> Vec<Process> {
        let leader = self.leader.as_raw_nonzero().get();
        if self.flaw == Flaw::ForgetsItsGroup {
            let own = Process::read(leader).filter(Process::is_alive);
            return descendants(self.leader).into_iter().chain(own).collect();
        }
        if self.flaw == Flaw::KillsWhomItSawFirst
            && let Some(seen) = self.walked.get()
        {
            return seen.iter().filter_map(Process::again).collect();
        }
        let only_leader = self.flaw == Flaw::KillsOnlyTheLeader;
        let is_member = |process: &Process| {
            process.pgid == leader && process.is_alive() && (process.pid == leader || !only_leader)
        };
        processes().filter(is_member).collect()
    }

    /// Sends a signal to the group, before the leader is reaped.
    pub(super) fn signal(&self, signal: Signal) {
        // That nobody is left to get it is no error: it is what was wanted.
        match self.flaw {
            Flaw::KillsOnlyTheLeader => {
                let _ = kill_process(self.leader, signal);
            }
            Flaw::ForgetsItsGroup => {
                // The walk needs descriptors, the child itself does not.
                descendants(self.leader).iter().for_each(|process| process.signal(signal));
                let _ = kill_process(self.leader, signal);
            }
            Flaw::KillsWhomItSawFirst => {
                let seen = self.walked.get_or_init(|| self.members());
                seen.iter().for_each(|member| member.signal(signal));
            }
            Flaw::WalksTheTree => {
                let found = self.walked.get_or_init(|| descendants(self.leader));
                found.iter().for_each(|process| process.signal(signal));
                let _ = kill_process_group(self.leader, signal);
            }
            Flaw::EndsAllChildren => {
                let own = std::process::id().cast_signed();
                let others = processes().filter(|process| process.ppid == own && process.pid != self.pid());
                others.for_each(|process| process.signal(Signal::KILL));
                let _ = kill_process_group(self.leader, signal);
            }
            Flaw::SignalsItsOwnGroup => {
                let _ = kill_process_group(self.leader, signal);
                // Whoever does not expect it lets it pass.
                let _ = rustix::process::kill_current_process_group(Signal::WINCH);
            }
            Flaw::SignalsItsSession => {
                let _ = kill_process_group(self.leader, signal);
                signal_own_session(signal);
            }
            _ => {
                let _ = kill_process_group(self.leader, signal);
            }
        }
    }

    /// Reaps the leader, which is dead.
    pub(super) fn reap(&mut self) -> Option<Status> {
        let pidfd = self.pidfd.as_ref()?;
        let options = match self.flaw {
            Flaw::NeverReaps => WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT,
            _ => WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
        };
        let waited = waitid(WaitId::PidFd(pidfd.as_fd()), options);
        if self.flaw == Flaw::ReapsAnybody {
            while let Ok(Some(_)) = waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {}
        }
        self.reaped = !matches!(waited, Ok(None));
        if self.reaped && self.flaw == Flaw::SignalsAfterTheReap {
            // Should the number be somebody else's by now, this does that one no harm.
            let _ = kill_process_group(self.leader, Signal::WINCH);
        }
        waited.ok().flatten().as_ref().and_then(status)
    }

    fn end(&mut self) {
        self.signal(Signal::KILL);
        if let Some(pidfd) = &self.pidfd {
            is_readable_within(pidfd.get_ref(), DEATH);
            self.reap();
        }
    }

    /// Lets go of the child without ending it.
    pub(super) fn forget(mut self) {
        self.reaped = true;
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.reaped {
            return;
        }
        match self.flaw {
            Flaw::DropDoesNothing | Flaw::NeverKills => {}
            Flaw::DropNeedsTheRuntime => {
                let taken = Self {
                    flaw: Flaw::None,
                    leader: self.leader,
                    pidfd: self.pidfd.take(),
                    walked: OnceLock::new(),
                    reaped: false,
                };
                let taken = ManuallyDrop::new(taken);
                if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                    runtime.spawn(end_later(taken));
                }
            }
            _ => self.end(),
        }
    }
}

/// Ends a child from a task of the runtime; forgets it where the runtime ends first.
async fn end_later(child: ManuallyDrop<Child>) {
    child.signal(Signal::KILL);
    child.all_dead().await;
    drop(ManuallyDrop::into_inner(child));
}

#[expect(unsafe_code, reason = "there is no safe form for what owns its descriptor")]
fn watch(pid: Pid) -> io::Result<AsyncFd<OwnedFd>> {
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    // SAFETY: the descriptor is open, and owned by what is registered.
    Ok(unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?)
}

fn is_readable_within(pidfd: &OwnedFd, time: Duration) -> bool {
    let time = Timespec { tv_sec: time.as_secs().cast_signed(), tv_nsec: time.subsec_nanos().into() };
    matches!(poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&time)), Ok(1))
}

fn status(status: &WaitIdStatus) -> Option<Status> {
    let exited = status.exit_status().map(Status::Exited);
    exited.or_else(|| status.terminating_signal().map(Status::Signaled))
}

fn spawn(flaw: Flaw, program: &Path, ends: &Ends<'_>) -> io::Result<Pid> {
    let mut attributes = PosixSpawnAttr::init()?;
    let mut flags = match flaw {
        Flaw::ForgetsItsGroup => PosixSpawnFlags::empty(),
        Flaw::KeepsTheTerminal | Flaw::SnatchesTheTerminal => PosixSpawnFlags::POSIX_SPAWN_SETPGROUP,
        // A group of its own comes with a session of its own, which has no terminal. nix has no name for that flag.
        _ => PosixSpawnFlags::from_bits_retain(nix::libc::POSIX_SPAWN_SETSID.into()),
    };
    attributes.set_pgroup(nix::unistd::Pid::from_raw(0))?;
    if flaw != Flaw::LeavesTheMask {
        flags |= PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK;
        attributes.set_sigmask(&SigSet::empty())?;
    }
    if flaw != Flaw::LeavesSignalsIgnored {
        flags |= PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF;
        attributes.set_sigdefault(&SigSet::all())?;
    }
    attributes.set_flags(flags)?;
    let mut actions = PosixSpawnFileActions::init()?;
    for (end, standard) in [(ends.stdin, 0), (ends.stdout, 1), (ends.stderr, 2)] {
        actions.add_dup2(end.as_raw_fd(), standard)?;
    }
    for other in &ends.others {
        actions.add_close(other.as_raw_fd())?;
    }
    let program = c_string(program.as_os_str().as_bytes())?;
    let words = match flaw {
        Flaw::StartsByAShell => {
            vec![c"/bin/sh".to_owned(), c"-c".to_owned(), c"exec \"$0\"".to_owned(), program]
        }
        _ => vec![program],
    };
    let environment = std::env::vars_os()
        .map(|(name, value)| c_string(&[name.as_bytes(), b"=", value.as_bytes()].concat()));
    let environment = environment.filter(|_| flaw != Flaw::ClearsTheEnvironment);
    let environment = environment.collect::<io::Result<Vec<_>>>()?;
    let pid = posix_spawn(words[0].as_c_str(), &actions, &attributes, &words, &environment)?;
    pid_of(pid.as_raw())
}

fn c_string(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

fn pid_of(raw: i32) -> io::Result<Pid> {
    Pid::from_raw(raw).ok_or_else(|| io::Error::other("a child without a number"))
}

/// Starts the program from a thread of its own, with a signal for it when that thread ends: the kernel takes that for its parent's death.
#[expect(unsafe_code, reason = "a signal for the parent's death can only be set by the child itself")]
fn start_in_a_thread(program: &Path, ends: &Ends<'_>) -> io::Result<Pid> {
    let mut command = std::process::Command::new(program);
    command
        .stdin(ends.stdin.try_clone_to_owned()?)
        .stdout(ends.stdout.try_clone_to_owned()?)
        .stderr(ends.stderr.try_clone_to_owned()?);
    let prepare = || {
        crate::launch::reset_signals()?;
        rustix::process::setsid()?;
        Ok(set_parent_process_death_signal(Some(Signal::TERM))?)
    };
    // SAFETY: all three are made of system calls alone, which are safe between fork and exec.
    unsafe { command.pre_exec(prepare) };
    let (started, pid) = std::sync::mpsc::channel();
    std::thread::Builder::new().spawn(move || {
        // Nobody waits by it: the child is reaped by its number.
        let child = command.spawn().map(|child| child.id());
        drop(command);
        drop(started.send(child));
        std::thread::sleep(LIFE_OF_A_THREAD);
    })?;
    let pid = pid.recv().map_err(|_| io::Error::other("the thread that starts the child has ended"))?;
    pid_of(pid?.cast_signed())
}

/// What `/proc` says of a process.
struct Process {
    pid: i32,
    state: char,
    ppid: i32,
    pgid: i32,
    sid: i32,
    threads: i32,
    /// When it was started: with the number, who it is.
    start: u64,
}

impl Process {
    fn read(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may hold anything, a parenthesis too.
        let fields: Vec<&str> = stat.get(stat.rfind(')')? + 1..)?.split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<i32>().ok();
        Some(Self {
            pid,
            state: fields.first()?.chars().next()?,
            ppid: number(1)?,
            pgid: number(2)?,
            sid: number(3)?,
            threads: number(17)?,
            start: fields.get(19)?.parse().ok()?,
        })
    }

    /// Whose first thread has ended looks like a zombie, and is none while it has others.
    fn is_alive(&self) -> bool {
        self.state != 'Z' || self.threads > 1
    }

    fn pid(&self) -> Option<Pid> {
        Pid::from_raw(self.pid)
    }

    /// What is said of it now, while it is alive and its number not somebody else's.
    fn again(&self) -> Option<Self> {
        Self::read(self.pid).filter(|now| now.start == self.start && now.is_alive())
    }

    /// Signals it, unless it has gone: an animal harms nobody but its own.
    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.again().and_then(|now| now.pid()) {
            let _ = kill_process(pid, signal);
        }
    }
}

/// The processes of one look; whoever is forked during it may be missing.
fn processes() -> impl Iterator<Item = Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| Process::read(entry.ok()?.file_name().to_str()?.parse().ok()?))
}

/// Whoever is found by a walk from a process down over the children.
fn descendants(root: Pid) -> Vec<Process> {
    let mut strangers: Vec<Process> = processes().filter(Process::is_alive).collect();
    let mut found: Vec<Process> = Vec::new();
    loop {
        let is_child = |process: &mut Process| {
            process.ppid == root.as_raw_nonzero().get()
                || found.iter().any(|parent| parent.pid == process.ppid)
        };
        let children: Vec<Process> = strangers.extract_if(.., is_child).collect();
        if children.is_empty() {
            return found;
        }
        found.extend(children);
    }
}

/// Signals everybody in the session of this process but itself.
fn signal_own_session(signal: Signal) {
    let own = std::process::id().cast_signed();
    let Some(session) = Process::read(own).map(|process| process.sid) else { return };
    let others = processes().filter(|process| process.sid == session && process.pid != own);
    others.for_each(|process| process.signal(signal));
}
