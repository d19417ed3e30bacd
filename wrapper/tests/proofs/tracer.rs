//! Makes one system call of a start fail, or kills whoever makes it, by means of ptrace. Each process of the start has
//! its own count, which a general tool does not offer. The registers are those of x86-64.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::stage::{ChildEnds, Owner, PATIENCE, children_of};

/// Who makes a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    /// The owner's thread that starts the run, from one marker to the next.
    Owner,
    /// What the owner has forked, until it executes the nanny (or the child, if there is no nanny).
    Forked,
    /// The nanny, for as long as the owner is between the markers.
    Nanny,
    /// What the nanny has forked, or whoever becomes the nanny, until it executes the child.
    Child,
}

/// What happens to the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mishap {
    Error(Errno),
    /// Whoever makes it is killed instead.
    Kill,
    /// It comes late, when the child has come as far as it can, and fails.
    LateError(Errno),
    /// The child, which waits for the nanny, is killed before.
    ChildKilled,
}

/// Which call of a part, counted from 0, and what happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) part: Part,
    pub(crate) nth: usize,
    pub(crate) mishap: Mishap,
}

/// The calls that were made, by number.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    pub(crate) calls: HashMap<Part, Vec<u64>>,
    /// The call that failed.
    pub(crate) hit: Option<u64>,
    /// How the owner ended, if it did.
    pub(crate) owner_end: Option<WaitStatus>,
}

/// The owner makes this call at the beginning and at the end of the start.
const MARKER: u64 = libc::SYS_getppid as u64;

struct Tracee {
    part: Part,
    in_call: bool,
    call: u64,
    /// What to return instead.
    result: Option<Errno>,
}

impl Tracee {
    fn new(part: Part) -> Self {
        Self { part, in_call: false, call: 0, result: None }
    }
}

/// Lets an owner that waits for its go make one start, and the plan come true. Comes back when the owner is at its second
/// marker, or has ended.
pub(crate) fn trace_start(owner: &mut Owner, has_nanny: bool, plan: Option<Plan>) -> Result<Trace, Failed> {
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEEXEC;
    match ptrace::seize(owner.pid, options) {
        // It is told by a trace without a call.
        Err(Errno::EPERM) if plan.is_none() => {
            owner.go_on();
            return Ok(Trace::default());
        }
        seized => seized?,
    }
    ptrace::interrupt(owner.pid)?;
    owner.go_on();
    let mut tracer = Tracer {
        owner: owner.pid,
        tracees: HashMap::from([(owner.pid, Tracee::new(Part::Owner))]),
        plan,
        trace: Trace::default(),
        newborn: Vec::new(),
        late: None,
        child: None,
        has_nanny,
        begun: false,
        over: false,
    };
    let ends = ChildEnds::new();
    let deadline = Instant::now() + PATIENCE;
    while !tracer.tracees.is_empty() {
        match waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)) {
            Ok(WaitStatus::StillAlive) => {
                if Instant::now() > deadline {
                    return Err(format!("nothing goes on: {:?}", tracer.trace).into());
                }
                tracer.go_on_late();
                // A child that nobody traces any more is no child of ours.
                ends.wait(Duration::from_millis(if tracer.late.is_some() { 1 } else { 100 }));
            }
            Ok(status) => tracer.see(status),
            Err(Errno::ECHILD) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(tracer.trace)
}

struct Tracer {
    owner: Pid,
    tracees: HashMap<Pid, Tracee>,
    plan: Option<Plan>,
    trace: Trace,
    /// Whoever was born before the birth was reported waits for that.
    newborn: Vec<Pid>,
    /// Who makes a call that comes late, and the child.
    late: Option<Pid>,
    child: Option<Pid>,
    /// What the owner forks becomes the nanny, and not the child.
    has_nanny: bool,
    begun: bool,
    over: bool,
}

impl Tracer {
    fn see(&mut self, status: WaitStatus) {
        match status {
            WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..) => {
                self.tracees.remove(&pid);
                if pid == self.owner {
                    self.trace.owner_end = Some(status);
                    self.let_go_of_all();
                }
            }
            WaitStatus::PtraceSyscall(pid) => self.see_call(pid),
            WaitStatus::PtraceEvent(pid, _, event) => self.see_event(pid, event),
            WaitStatus::Stopped(pid, signal) => self.resume(pid, Some(signal)),
            WaitStatus::Continued(_) | WaitStatus::StillAlive => {}
        }
    }

    fn see_event(&mut self, pid: Pid, event: i32) {
        match event {
            libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE => {
                let new =
                    ptrace::getevent(pid).ok().and_then(|new| i32::try_from(new).ok()).map(Pid::from_raw);
                let part = match self.tracees.get(&pid).map(|tracee| tracee.part) {
                    Some(Part::Nanny | Part::Forked) => Part::Child,
                    _ => Part::Forked,
                };
                if let Some(new) = new {
                    self.child = Some(new).filter(|_| part == Part::Child).or(self.child);
                    self.tracees.insert(new, Tracee::new(part));
                    if self.newborn.contains(&new) {
                        self.newborn.retain(|pid| *pid != new);
                        self.resume(new, None);
                    }
                }
            }
            libc::PTRACE_EVENT_EXEC => match self.tracees.get_mut(&pid).map(|tracee| &mut tracee.part) {
                Some(part @ Part::Forked) if self.has_nanny => *part = Part::Nanny,
                _ => {
                    self.tracees.remove(&pid);
                    let _ = ptrace::detach(pid, None);
                    return;
                }
            },
            libc::PTRACE_EVENT_STOP if !self.tracees.contains_key(&pid) => return self.newborn.push(pid),
            _ => {}
        }
        self.resume(pid, None);
    }

    fn see_call(&mut self, pid: Pid) {
        let Some(tracee) = self.tracees.get_mut(&pid) else { return self.resume(pid, None) };
        tracee.in_call = !tracee.in_call;
        // Fails if it was killed meanwhile, which is reported next.
        let Ok(mut registers) = ptrace::getregs(pid) else { return };
        if !tracee.in_call {
            if let Some(errno) = tracee.result.take() {
                registers.rax = -i64::from(errno as i32) as u64;
                let _ = ptrace::setregs(pid, registers);
            }
            return self.resume(pid, None);
        }
        tracee.call = registers.orig_rax;
        if tracee.part == Part::Owner && tracee.call == MARKER {
            if self.begun {
                self.over = true;
                self.let_go_of_all();
                return;
            }
            self.begun = true;
            return self.resume(pid, None);
        }
        if !self.begun {
            return self.resume(pid, None);
        }
        let (part, call) = (tracee.part, tracee.call);
        let calls = self.trace.calls.entry(part).or_default();
        let nth = calls.len();
        calls.push(call);
        let Some(plan) = self.plan.take_if(|plan| plan.part == part && plan.nth == nth) else {
            return self.resume(pid, None);
        };
        self.trace.hit = Some(call);
        match plan.mishap {
            Mishap::Kill => {
                // It is stopped, and nobody reaps it but us.
                let _ = kill(pid, Signal::SIGKILL);
            }
            Mishap::Error(errno) => self.fail(pid, errno),
            Mishap::ChildKilled => self.late = Some(pid),
            Mishap::LateError(errno) => {
                tracee.result = Some(errno);
                self.late = Some(pid);
            }
        }
    }

    /// Makes the call fail that somebody is about to make.
    fn fail(&mut self, pid: Pid, errno: Errno) {
        let Some(tracee) = self.tracees.get_mut(&pid) else { return };
        tracee.result = Some(errno);
        // A descriptor is closed also when that fails: only its answer is another.
        if tracee.call != libc::SYS_close as u64 {
            // Fails if it was killed meanwhile, which is reported next.
            if let Ok(mut registers) = ptrace::getregs(pid) {
                registers.orig_rax = u64::MAX;
                let _ = ptrace::setregs(pid, registers);
            }
        }
        self.resume(pid, None);
    }

    /// Lets the call that comes late be made, if the child has come as far as it can.
    fn go_on_late(&mut self) {
        let Some(pid) = self.late.filter(|pid| self.child_is_ahead_of(*pid)) else { return };
        self.late = None;
        match self.tracees.get_mut(&pid).and_then(|tracee| tracee.result.take()) {
            Some(errno) => self.fail(pid, errno),
            None => self.resume(pid, None),
        }
    }

    /// Whether the child has executed the program, and that has ended or started somebody; or waits for whoever is late,
    /// before that one has executed anything.
    fn child_is_ahead_of(&self, late: Pid) -> bool {
        let Some(child) = self.child else { return false };
        if let Some(tracee) = self.tracees.get(&child) {
            let waits = tracee.in_call && tracee.call == libc::SYS_read as u64;
            let is_to_fail = self.tracees.get(&late).is_some_and(|late| late.result.is_some());
            if waits && !is_to_fail {
                // It is not reaped as long as its end was not reported to us.
                let _ = kill(child, Signal::SIGKILL);
            }
            return waits && is_to_fail;
        }
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        matches!(state, None | Some('Z' | 'X')) || !children_of(child.as_raw().unsigned_abs()).is_empty()
    }

    fn resume(&self, pid: Pid, signal: Option<Signal>) {
        // Fails if it was killed meanwhile, which is reported next.
        if self.over && pid == self.owner {
            let _ = ptrace::detach(pid, signal);
        } else {
            let _ = ptrace::syscall(pid, signal);
        }
    }

    /// The owner is at its end: nobody is watched any more. Whoever runs is stopped for that first.
    fn let_go_of_all(&mut self) {
        for pid in std::mem::take(&mut self.tracees).into_keys() {
            if ptrace::detach(pid, None).is_ok() || ptrace::interrupt(pid).is_err() {
                continue;
            }
            match waitpid(pid, Some(WaitPidFlag::__WALL)) {
                Ok(WaitStatus::Stopped(_, signal)) => drop(ptrace::detach(pid, signal)),
                Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) | Err(_) => {}
                Ok(_) => drop(ptrace::detach(pid, None)),
            }
        }
    }
}

/// The name of a call, as far as starts make it.
pub(crate) fn name_of(call: u64) -> String {
    let known = [
        (libc::SYS_read, "read"),
        (libc::SYS_write, "write"),
        (libc::SYS_close, "close"),
        (libc::SYS_poll, "poll"),
        (libc::SYS_ppoll, "ppoll"),
        (libc::SYS_mmap, "mmap"),
        (libc::SYS_mprotect, "mprotect"),
        (libc::SYS_munmap, "munmap"),
        (libc::SYS_brk, "brk"),
        (libc::SYS_rt_sigaction, "rt_sigaction"),
        (libc::SYS_rt_sigprocmask, "rt_sigprocmask"),
        (libc::SYS_fcntl, "fcntl"),
        (libc::SYS_dup2, "dup2"),
        (libc::SYS_dup3, "dup3"),
        (libc::SYS_clone, "clone"),
        (libc::SYS_clone3, "clone3"),
        (libc::SYS_execve, "execve"),
        (libc::SYS_execveat, "execveat"),
        (libc::SYS_exit_group, "exit_group"),
        (libc::SYS_exit, "exit"),
        (libc::SYS_waitid, "waitid"),
        (libc::SYS_wait4, "wait4"),
        (libc::SYS_setpgid, "setpgid"),
        (libc::SYS_setsid, "setsid"),
        (libc::SYS_prctl, "prctl"),
        (libc::SYS_close_range, "close_range"),
        (libc::SYS_signalfd4, "signalfd4"),
        (libc::SYS_recvmsg, "recvmsg"),
        (libc::SYS_sendmsg, "sendmsg"),
        (libc::SYS_sendto, "sendto"),
        (libc::SYS_recvfrom, "recvfrom"),
        (libc::SYS_socketpair, "socketpair"),
        (libc::SYS_pidfd_open, "pidfd_open"),
        (libc::SYS_pipe2, "pipe2"),
        (libc::SYS_epoll_ctl, "epoll_ctl"),
        (libc::SYS_openat, "openat"),
        (libc::SYS_chdir, "chdir"),
        (libc::SYS_clock_gettime, "clock_gettime"),
        (libc::SYS_futex, "futex"),
        (libc::SYS_getdents64, "getdents64"),
    ];
    let number = i64::try_from(call).unwrap_or(-1);
    known
        .iter()
        .find(|(it, _)| *it == number)
        .map_or_else(|| format!("call {call}"), |(_, name)| (*name).to_owned())
}
