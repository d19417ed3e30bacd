//! A process group and its leader. The types carry the safety argument: a group is signalled through a [`Leader`]
//! only, that is while its leader has not been reaped and its number can therefore not be anybody else's.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process_group, pidfd_open,
    pidfd_send_signal, test_kill_process, test_kill_process_group, waitid,
};

use super::birth::Newborn;
use super::poller::{Poller, Token, Watch};
use crate::outcome::{Left, Proof, Survivor, WhyAlive};
use crate::plan::{Ask, StopSignal};

/// Makes the child the leader of a group of its own before its first instruction.
pub(crate) fn lead_own_group(command: &mut Command) {
    command.process_group(0);
}

/// The unreaped leader of a group.
#[derive(Debug)]
pub(crate) struct Leader {
    pid: Pid,
    poller: Arc<Poller>,
    /// `None` if it was gone before anybody could take hold of it, which happens to owners that ignore SIGCHLD.
    watch: Option<Watch>,
}

/// What became of a leader.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LeaderFate {
    Running,
    /// It has ended and is still a zombie, or was until it was reaped.
    Ended(ExitStatus),
    /// Somebody else took its status: the owner ignores SIGCHLD, or waits for any child.
    Lost,
}

impl Leader {
    /// Takes hold of a child that was just started and leads its own group. If that fails the child is handed back.
    pub(crate) fn take_hold(
        mut child: Newborn,
        poller: &Arc<Poller>,
        token: Token,
    ) -> Result<Self, (io::Error, Newborn)> {
        let opened = child.pid().and_then(|pid| {
            let pidfd = match child.pidfd.take() {
                Some(pidfd) => Ok(pidfd),
                None => pidfd_open(pid, PidfdFlags::empty()),
            };
            let watch = match pidfd {
                Ok(pidfd) => Some(Watch::readable(poller, pidfd, token)?),
                Err(Errno::SRCH) => None,
                Err(error) => return Err(error.into()),
            };
            Ok(Self { pid, poller: Arc::clone(poller), watch })
        });
        opened.map_err(|error| (error, child))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Whether its end is reported.
    pub(crate) fn is_watched(&self) -> bool {
        self.watch.is_some()
    }

    /// Looks without reaping. Once it is told that the leader has ended, its end is not reported any more.
    pub(crate) fn look(&mut self) -> LeaderFate {
        let fate = self.wait(WaitIdOptions::NOWAIT);
        if let (LeaderFate::Ended(_) | LeaderFate::Lost, Some(watch)) = (fate, &mut self.watch) {
            // It would be reported for ever from now on.
            watch.pause();
        }
        fate
    }

    /// Asks everybody in the group to end. A stopped process would not notice, so it is continued.
    pub(crate) fn ask_group(&self, ask: Ask) {
        match signal_of(ask) {
            Some(signal) => self.signal_group(&[signal, Signal::CONT]),
            None => self.signal_group(&[Signal::CONT]),
        }
    }

    /// Kills everybody in the group at once: the kernel lets no member fork past it.
    pub(crate) fn kill_group(&self) {
        self.signal_group(&[Signal::KILL]);
    }

    fn signal_group(&self, signals: &[Signal]) {
        let Some(watch) = &self.watch else { return };
        // Not by `look`, which would keep the supervisor from hearing of an end that was noticed here.
        let fate = self.wait(WaitIdOptions::NOWAIT);
        // A leader may have moved to another group of its session, and is our child there as well.
        let is_elsewhere =
            !matches!(fate, LeaderFate::Ended(_)) && !Circle::Group(self.pid).contains(self.pid);
        for signal in signals.iter().copied() {
            match fate {
                // The number is ours as long as the leader is our child and not reaped, zombie or not. A failure is no
                // loss: EPERM shows later as a survivor with its reason, and there is no other.
                LeaderFate::Running | LeaderFate::Ended(_) => {
                    let _ = kill_process_group(self.pid, signal);
                }
                LeaderFate::Lost => signal_group_by_handle(watch, signal),
            }
            if is_elsewhere {
                let _ = pidfd_send_signal(watch, signal);
            }
        }
    }

    /// Lists the live members but for the leader itself.
    pub(crate) fn others(&self, token: Token) -> Others {
        list_members(Circle::Group(self.pid), Some(self.pid), &self.poller, token)
    }

    /// Everybody alive in the group, with the reason why.
    pub(crate) fn survivors(&self) -> Left {
        name_survivors(Circle::Group(self.pid))
    }

    /// Reaps a leader that has ended. From now on its number may become a stranger's.
    pub(crate) fn reap(self) -> Result<(Option<ExitStatus>, FormerGroup), Self> {
        let former = FormerGroup { number: self.pid, poller: Arc::clone(&self.poller) };
        match self.wait(WaitIdOptions::empty()) {
            LeaderFate::Running => Err(self),
            LeaderFate::Ended(status) => Ok((Some(status), former)),
            LeaderFate::Lost => Ok((None, former)),
        }
    }

    fn wait(&self, also: WaitIdOptions) -> LeaderFate {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | also;
        let Some(watch) = &self.watch else { return LeaderFate::Lost };
        match waitid(WaitId::PidFd(watch.as_fd()), options) {
            Ok(None) => LeaderFate::Running,
            Ok(Some(status)) => LeaderFate::Ended(exit_status(&status)),
            Err(_) => LeaderFate::Lost,
        }
    }
}

/// Signals the group whose number the leader's handle stands for, which cannot be a stranger's even after the
/// leader was reaped. Does nothing before Linux 6.9.
pub(super) fn signal_group_by_handle(leader: &impl AsFd, signal: Signal) {
    const PIDFD_SIGNAL_PROCESS_GROUP: libc::c_uint = 1 << 2;
    // SAFETY: the call takes three numbers and a null pointer for "no further information".
    unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            leader.as_fd().as_raw_fd(),
            signal.as_raw(),
            std::ptr::null::<libc::siginfo_t>(),
            PIDFD_SIGNAL_PROCESS_GROUP,
        );
    }
}

/// The signal by which something is asked, if it is.
pub(super) fn signal_of(ask: Ask) -> Option<Signal> {
    let Ask::Signal(signal) = ask else { return None };
    Some(match signal {
        StopSignal::Hangup => Signal::HUP,
        StopSignal::Interrupt => Signal::INT,
        StopSignal::Quit => Signal::QUIT,
        StopSignal::Terminate => Signal::TERM,
        StopSignal::User1 => Signal::USR1,
        StopSignal::User2 => Signal::USR2,
    })
}

/// A group whose leader was reaped: it is looked at and never signalled.
#[derive(Debug)]
pub(crate) struct FormerGroup {
    number: Pid,
    poller: Arc<Poller>,
}

impl FormerGroup {
    /// Whether the kernel knows no group of this number, which proves that nobody is left in it.
    pub(crate) fn is_gone(&self) -> bool {
        test_kill_process_group(self.number) == Err(Errno::SRCH)
    }

    pub(crate) fn others(&self, token: Token) -> Others {
        list_members(Circle::Group(self.number), None, &self.poller, token)
    }

    pub(crate) fn survivors(&self) -> Left {
        name_survivors(Circle::Group(self.number))
    }
}

/// A live process of a group.
#[derive(Debug)]
pub(crate) struct Member(Watch);

impl Member {
    pub(crate) fn is_alive(&self) -> bool {
        is_alive(&self.0)
    }

    pub(crate) fn kill(&self) {
        // Whoever may not be killed shows as a survivor.
        let _ = pidfd_send_signal(&self.0, Signal::KILL);
    }
}

/// A session whose leader has ended and is not reaped, so that its number is nobody else's.
#[derive(Debug)]
pub(crate) struct OrphanedSession {
    leader: Pid,
    poller: Arc<Poller>,
}

impl OrphanedSession {
    pub(super) fn led_by(leader: Pid, poller: &Arc<Poller>) -> Self {
        Self { leader, poller: Arc::clone(poller) }
    }

    /// Kills its members, and reports their end.
    pub(crate) fn kill(&self, token: Token) -> Others {
        let others = list_members(Circle::Session(self.leader), Some(self.leader), &self.poller, token);
        others.members.iter().for_each(Member::kill);
        others
    }

    pub(crate) fn survivors(&self) -> Left {
        name_survivors(Circle::Session(self.leader))
    }
}

/// Kills the members of a session whose leader has ended and is not reaped, and waits for their end, with a bound.
pub(super) fn sweep_session(leader: Pid, bound: Duration) {
    let deadline = Instant::now() + bound;
    while Instant::now() < deadline {
        let Ok(pids) = pids_in(Circle::Session(leader)) else { return };
        let mut somebody = false;
        for pid in pids.filter(|pid| *pid != leader) {
            // Without a descriptor to be had it is tried again until the bound is over.
            let alive = match pidfd_open(pid, PidfdFlags::empty()) {
                Ok(pidfd) if Circle::Session(leader).contains(pid) => {
                    let _ = pidfd_send_signal(&pidfd, Signal::KILL);
                    is_alive(&pidfd)
                }
                Ok(_) => false,
                Err(error) => error != Errno::SRCH,
            };
            somebody |= alive;
        }
        if !somebody {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The live members of a group as one look found them.
#[derive(Debug)]
pub(crate) struct Others {
    pub(crate) members: Vec<Member>,
    /// Somebody is alive whose end will not be reported, for want of a descriptor: look again soon.
    pub(crate) unwatched: bool,
}

/// Processes that have a number in common.
#[derive(Clone, Copy, Debug)]
enum Circle {
    Group(Pid),
    Session(Pid),
}

impl Circle {
    fn contains(self, pid: Pid) -> bool {
        let pid = pid.as_raw_nonzero().get();
        // Not by way of rustix, which does not allow for the group 0 of kernel threads.
        // SAFETY: the call takes and gives a number.
        let group_of = |pid| unsafe { libc::getpgid(pid) };
        // SAFETY: the call takes and gives a number.
        let session_of = |pid| unsafe { libc::getsid(pid) };
        match self {
            Self::Group(group) => group_of(pid) == group.as_raw_nonzero().get(),
            Self::Session(session) => session_of(pid) == session.as_raw_nonzero().get(),
        }
    }
}

fn list_members(circle: Circle, except: Option<Pid>, poller: &Arc<Poller>, token: Token) -> Others {
    let mut others = Others { members: Vec::new(), unwatched: false };
    let Ok(pids) = pids_in(circle) else { return Others { unwatched: true, ..others } };
    for pid in pids.filter(|pid| Some(*pid) != except) {
        match open_member(pid, circle, poller, token) {
            Ok(found) => others.members.extend(found),
            Err(_) => others.unwatched = true,
        }
    }
    others
}

/// Opens a handle of a live member. `None` if it has ended, or if the number is no longer a member's.
fn open_member(pid: Pid, circle: Circle, poller: &Arc<Poller>, token: Token) -> io::Result<Option<Member>> {
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(Errno::SRCH) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // The number may have changed hands before the handle was opened, hence the second look.
    if !circle.contains(pid) || !is_alive(&pidfd) {
        return Ok(None);
    }
    Ok(Some(Member(Watch::readable(poller, pidfd, token)?)))
}

/// Whether any thread of the process is still there. The state letter in `/proc` would not do: it is a zombie's as
/// soon as the *first* thread has ended.
pub(super) fn is_alive(pidfd: &impl AsFd) -> bool {
    let mut ask = [PollFd::new(pidfd, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    !matches!(poll(&mut ask, Some(&now)), Ok(1))
}

/// Every pid of the circle, zombies included. Asks the kernel for each pid on the machine, which is ten
/// times cheaper than reading its `stat`.
fn pids_in(circle: Circle) -> io::Result<impl Iterator<Item = Pid>> {
    // An entry that cannot be read is a process that has just ended.
    let numbers =
        std::fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Ok(numbers.filter_map(signalable).filter(move |pid| circle.contains(*pid)))
}

fn name_survivors(circle: Circle) -> Left {
    let Ok(pids) = pids_in(circle) else { return Left::Unknown("the processes cannot be listed") };
    let survivors: Vec<_> = pids
        .filter(|pid| match pidfd_open(*pid, PidfdFlags::empty()) {
            Ok(pidfd) => is_alive(&pidfd),
            Err(error) => error != Errno::SRCH,
        })
        .map(|pid| Survivor { pid: pid.as_raw_nonzero().get().unsigned_abs(), why: why_alive(pid) })
        .collect();
    if survivors.is_empty() { Left::Nobody(Proof::NoneAlive) } else { Left::Survivors(survivors) }
}

pub(super) fn why_alive(pid: Pid) -> WhyAlive {
    if test_kill_process(pid) == Err(Errno::PERM) {
        return WhyAlive::Permission;
    }
    match state_letter(pid) {
        Some('D') => WhyAlive::Uninterruptible,
        _ => WhyAlive::Unknown,
    }
}

/// The state of a process; the name before it may hold anything, also a closing parenthesis.
fn state_letter(pid: Pid) -> Option<char> {
    let stat = std::fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// The one way from a number to a pid that may be signalled: 0 means our own group, -1 everybody, 1 is init.
pub(super) fn signalable(number: i32) -> Option<Pid> {
    if number > 1 { Pid::from_raw(number) } else { None }
}

/// Ends a child that leads its own group and that nobody has hold of; waits at most for `bound`.
pub(crate) fn kill_and_reap(child: &Newborn, bound: Duration) {
    // It was not reaped, so the number is ours.
    let Ok(pid) = child.pid() else { return };
    let _ = kill_process_group(pid, Signal::KILL);
    // There may be no descriptor left to wait with, which is how one gets here, so the wait is a bounded poll.
    let deadline = Instant::now() + bound;
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    while matches!(waitid(WaitId::Pid(pid), look), Ok(None)) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The wait status as the classic calls encode it, which is what the standard library wants.
fn exit_status(status: &WaitIdStatus) -> ExitStatus {
    const CORE_DUMPED: i32 = 0x80;
    let raw = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => (code & 0xff) << 8,
        (None, Some(signal)) => signal | if status.dumped() { CORE_DUMPED } else { 0 },
        (None, None) => 0,
    };
    ExitStatus::from_raw(raw)
}
