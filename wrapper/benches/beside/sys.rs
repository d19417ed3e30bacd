//! What is asked of Linux. The only place with `unsafe`.
#![allow(unsafe_code, reason = "fork, a signal handler and a mapping have no safe form")]

use std::ffi::c_int;
use std::fmt;
use std::fs;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::signal::{SigHandler, SigSet, Signal as NixSignal, signal};
use nix::unistd::ForkResult;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, pidfd_send_signal, set_child_subreaper,
    wait,
};

use crate::Failure;

/// Whoever loses its parent below this process becomes its child, and must be reaped by it.
pub(crate) fn become_subreaper() -> Result<(), Failure> {
    Ok(set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// What this process executes starts with default dispositions, an empty mask and no stray descriptor, whatever was
/// handed down to it: shells, `nohup` and build tools do hand things down, and some libraries take a slower way to start
/// a child then. With `nohup`, hang-ups are ignored nevertheless. The terminal's signals end this process no more, but
/// whatever it executes.
pub(crate) fn hand_down_nothing(nohup: bool) -> Result<(), Failure> {
    extern "C" fn nothing(_: c_int) {}
    for name in NixSignal::iterator() {
        let handler = match name {
            NixSignal::SIGKILL | NixSignal::SIGSTOP | NixSignal::SIGPIPE => continue,
            NixSignal::SIGHUP if nohup => SigHandler::SigIgn,
            NixSignal::SIGINT | NixSignal::SIGTERM | NixSignal::SIGHUP => SigHandler::Handler(nothing),
            _ => SigHandler::SigDfl,
        };
        // SAFETY: the handler does nothing, so there is nothing that it must not do.
        unsafe { signal(name, handler) }?;
    }
    SigSet::empty().thread_set_mask()?;
    // SAFETY: the call takes numbers; it closes nothing here, only in what is executed.
    let marked =
        unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    // Linux 5.11. Without it the owner keeps what it was given.
    if marked != 0 && Errno::from_io_error(&std::io::Error::last_os_error()) != Some(Errno::NOSYS) {
        return Err(std::io::Error::last_os_error().into());
    }
    Ok(())
}

/// Reaps whatever ends, until `child` does. Its exit code, or 128 and the signal.
pub(crate) fn reap_until(child: u32) -> Result<u8, Failure> {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get().unsigned_abs() == child => {
                let code = status.exit_status().or(status.terminating_signal().map(|number| 128 + number));
                return Ok(u8::try_from(code.unwrap_or(255)).unwrap_or(255));
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Kills and reaps whatever is below this process, which has one thread and is a subreaper.
pub(crate) fn sweep() -> Result<(), Failure> {
    loop {
        for child in children(std::process::id())? {
            // Not reaped by anybody else, so the number is still its own.
            match kill_process(to_pid(child)?, Signal::KILL) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
        match wait(WaitOptions::empty()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::CHILD) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Forks a process that has one thread. True in the child.
pub(crate) fn fork() -> Result<bool, Failure> {
    // SAFETY: the tree's processes have one thread, so the child may do what its parent may.
    Ok(matches!(unsafe { nix::unistd::fork() }?, ForkResult::Child))
}

/// Memory that is really there, in pages of the usual size as an owner's heap has them: what counts for a fork is
/// their number.
pub(crate) struct Resident {
    start: NonNull<std::ffi::c_void>,
    length: usize,
}

impl Resident {
    pub(crate) fn new(bytes: NonZeroUsize) -> Result<Self, Failure> {
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping, at an address of the kernel's choice.
        let start = unsafe { mmap_anonymous(None, bytes, access, MapFlags::MAP_PRIVATE) }?;
        let memory = Self { start, length: bytes.get() };
        // SAFETY: advice about memory of our own. A kernel without huge pages does not know it.
        let advised = unsafe { madvise(start, memory.length, MmapAdvise::MADV_NOHUGEPAGE) };
        if !matches!(advised, Ok(()) | Err(nix::errno::Errno::EINVAL)) {
            advised?;
        }
        for offset in (0..memory.length).step_by(4096) {
            // SAFETY: within the mapping, which nobody else knows.
            unsafe { start.as_ptr().cast::<u8>().add(offset).write_volatile(1) };
        }
        Ok(memory)
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        // SAFETY: nobody has a pointer into it any more.
        if let Err(error) = unsafe { munmap(self.start, self.length) } {
            eprintln!("cannot give memory back: {error}");
        }
    }
}

/// Processes whose end is to be seen, by handles that cannot mean somebody else.
pub(crate) struct Members {
    pidfds: Vec<OwnedFd>,
    news: News,
}

/// What can be heard of the end of a process that is not a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// That it is dead and reaped.
    Reaped,
    /// Only that it is dead, before Linux 6.9.
    Dead,
}

impl News {
    /// What this kernel tells.
    pub(crate) fn of_this_kernel() -> Result<Self, Failure> {
        let mut child = std::process::Command::new(std::env::current_exe()?).arg("@child").spawn()?;
        let pidfd = pidfd_open(to_pid(child.id())?, PidfdFlags::empty())?;
        child.wait()?;
        let mut entry = [PollFd::new(&pidfd, PollFlags::empty())];
        poll(&mut entry, Some(&Timespec::default()))?;
        Ok(if entry[0].revents().contains(PollFlags::HUP) { Self::Reaped } else { Self::Dead })
    }

    fn flags(self) -> PollFlags {
        match self {
            // A hang-up is always reported.
            Self::Reaped => PollFlags::empty(),
            Self::Dead => PollFlags::IN,
        }
    }
}

impl Members {
    pub(crate) fn none(news: News) -> Self {
        Self { pidfds: Vec::new(), news }
    }

    /// A process that is known to live, or at least not to be reaped.
    pub(crate) fn add(&mut self, pid: u32) -> Result<(), Failure> {
        self.pidfds.push(pidfd_open(to_pid(pid)?, PidfdFlags::empty())?);
        Ok(())
    }

    /// Watches from a thread of its own, which waits for one after the other: that is cheap, and when the last has
    /// come to an end all have.
    pub(crate) fn watch(self, patience: Duration) -> Result<Vigil, Failure> {
        let (ready, is_ready) = mpsc::channel();
        let thread = thread::Builder::new().name("observer".into()).spawn(move || {
            let deadline = Instant::now() + patience;
            // Nobody waits for it any more only if the whole benchmark has failed.
            let _ = ready.send(());
            let mut left = Left::default();
            for pidfd in &self.pidfds {
                if !hears(pidfd, self.news.flags(), deadline)? {
                    let is_dead = hears(pidfd, PollFlags::IN, Instant::now())?;
                    *(if is_dead { &mut left.unreaped } else { &mut left.alive }) += 1;
                }
            }
            Ok(Emptied { at: Instant::now(), left, members: self })
        })?;
        is_ready.recv()?;
        Ok(Vigil(thread))
    }

    /// A handle to the first.
    pub(crate) fn first(&self) -> Result<Handle, Failure> {
        Ok(Handle(self.pidfds.first().ok_or("nobody is there")?.try_clone()?))
    }

    /// Kills whoever is left.
    pub(crate) fn kill(self, patience: Duration) -> Result<(), Failure> {
        for pidfd in &self.pidfds {
            match pidfd_send_signal(pidfd, Signal::KILL) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
        match self.watch(patience)?.end()? {
            Emptied { left, .. } if left.alive > 0 => Err(format!("{} cannot be killed", left.alive).into()),
            _ => Ok(()),
        }
    }
}

/// A process, whatever its number.
pub(crate) struct Handle(OwnedFd);

impl Handle {
    pub(crate) fn kill(&self) -> Result<(), Failure> {
        Ok(pidfd_send_signal(&self.0, Signal::KILL)?)
    }
}

/// Somebody watches.
pub(crate) struct Vigil(JoinHandle<Result<Emptied, Errno>>);

/// What was seen.
pub(crate) struct Emptied {
    /// When the last was gone, or there was no more patience.
    pub(crate) at: Instant,
    pub(crate) left: Left,
    pub(crate) members: Members,
}

/// Who was left when there was no more patience.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    alive: usize,
    unreaped: usize,
}

impl Left {
    pub(crate) fn nobody(self) -> bool {
        self == Self::default()
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.alive, self.unreaped) {
            (alive, 0) => write!(f, "leaves {alive}"),
            (0, unreaped) => write!(f, "leaves {unreaped} unreaped"),
            (alive, unreaped) => write!(f, "leaves {alive}, and {unreaped} unreaped"),
        }
    }
}

fn hears(pidfd: &OwnedFd, news: PollFlags, deadline: Instant) -> Result<bool, Errno> {
    loop {
        let mut entry = [PollFd::new(pidfd, news)];
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(|_| Errno::INVAL)?;
        match poll(&mut entry, Some(&timeout)) {
            Ok(count) => return Ok(count > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

impl Vigil {
    pub(crate) fn end(self) -> Result<Emptied, Failure> {
        Ok(self.0.join().map_err(|_| "the observer has panicked")??)
    }
}

fn to_pid(pid: u32) -> Result<Pid, Failure> {
    i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| format!("{pid} is no pid").into())
}

/// CPU time of this process and of everybody below it that was reaped.
pub(crate) fn cpu_time() -> Result<Duration, Failure> {
    let mut sum = Duration::ZERO;
    for who in [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN] {
        let usage = getrusage(who)?;
        for time in [usage.user_time(), usage.system_time()] {
            sum += Duration::new(u64::try_from(time.tv_sec())?, u32::try_from(time.tv_usec())? * 1000);
        }
    }
    Ok(sum)
}

/// As many descriptors as this process may have.
pub(crate) fn raise_descriptor_limit() -> Result<u64, Failure> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

pub(crate) fn descriptors() -> Result<usize, Failure> {
    // Less the one that lists the others.
    Ok(fs::read_dir("/proc/self/fd")?.count() - 1)
}

/// The children of all threads of a process.
pub(crate) fn children(pid: u32) -> Result<Vec<u32>, Failure> {
    let mut children = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let listed = fs::read_to_string(task?.path().join("children"))?;
        for number in listed.split_whitespace() {
            children.push(number.parse()?);
        }
    }
    Ok(children)
}

/// Memory that a process has for itself alone, in KiB; what the kernel keeps for it is not in it.
pub(crate) fn private_memory(pid: u32) -> Result<u64, Failure> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    number_after(&rollup, "Private_Dirty:").ok_or_else(|| "smaps_rollup has no Private_Dirty".into())
}

pub(crate) fn available_memory() -> Result<u64, Failure> {
    let info = fs::read_to_string("/proc/meminfo")?;
    let kib = number_after(&info, "MemAvailable:").ok_or("meminfo has no MemAvailable")?;
    Ok(kib * 1024)
}

/// How often all threads of a process have given up the processor to wait, and how long they have run.
pub(crate) fn activity(pid: u32) -> Result<(u64, Duration), Failure> {
    let (mut waits, mut busy) = (0, Duration::ZERO);
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?.path();
        let status = fs::read_to_string(task.join("status"))?;
        // The line with `non` before it counts something else, and comes later.
        waits += number_after(&status, "voluntary_ctxt_switches:").ok_or("status counts no switches")?;
        let times = fs::read_to_string(task.join("schedstat"))?;
        let ran = times.split_whitespace().next().ok_or("schedstat is empty")?;
        busy += Duration::from_nanos(ran.parse()?);
    }
    Ok((waits, busy))
}

fn number_after(text: &str, label: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(label))?;
    line.split_whitespace().next()?.parse().ok()
}
