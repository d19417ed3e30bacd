//! Tiers: how a warden keeps everything that a case starts within reach, and knows exactly who is left.
//!
//! Identity comes from the kernel. In a pid namespace (T3) the whole `/proc` is the case's; in a cgroup (T2) the kernel
//! lists the members; as a subreaper (T1) the warden walks the children. In each of them "nobody is left" is the
//! kernel's own word: the warden has no child any more.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sched::CloneFlags;
use nix::unistd::ForkResult;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};

use crate::scan::{self, Stat};
use crate::trace::{Method, Tier};

/// Longest time that a sweep may take.
const SWEEP_CAP: Duration = Duration::from_secs(5);
/// How often a look is repeated when something was forked meanwhile, and when it is not repeated any more: among many dead it takes long, and
/// as long as nobody reaps those they become more.
const MOST_LOOKS: u32 = 40;
const LOOKS_CAP: Duration = Duration::from_millis(500);

/// What keeps a case's processes within reach. Belongs to the process that entered it.
#[derive(Debug)]
pub enum Container {
    /// This process is the init of a pid namespace with its own `/proc`.
    Namespace,
    /// This process is a subreaper, and its cases run in this cgroup.
    Cgroup(PathBuf),
    /// This process is a subreaper.
    Subreaper,
}

/// Who is in a container besides the warden.
#[derive(Debug)]
pub struct Members {
    /// Everyone, zombies included.
    pub all: Vec<Stat>,
    /// Whether that is everyone.
    pub complete: bool,
    /// How it was found.
    pub method: Method,
}

impl Container {
    /// Enters a container of this tier. For T3 this forks: only the new namespace's init returns; the process that called waits
    /// for it and ends.
    ///
    /// Must be called by a process with one thread.
    ///
    /// # Errors
    ///
    /// Which step the machine refused, and why.
    pub fn enter(tier: Tier) -> Result<Self, String> {
        match tier {
            Tier::T3 => enter_namespace(),
            Tier::T2 => {
                become_subreaper()?;
                make_cgroup().map(Self::Cgroup)
            }
            Tier::T1 => become_subreaper().map(|()| Self::Subreaper),
        }
    }

    /// Puts the calling process, which is about to become a host, into the container.
    ///
    /// # Errors
    ///
    /// When the cgroup does not take it.
    pub fn admit_self(&self) -> io::Result<()> {
        match self {
            Self::Cgroup(place) => fs::write(place.join("cgroup.procs"), "0"),
            Self::Namespace | Self::Subreaper => Ok(()),
        }
    }

    /// Everyone in the container but the warden.
    ///
    /// # Errors
    ///
    /// When the kernel's lists cannot be read.
    pub fn members(&self, host: Option<i32>) -> io::Result<Members> {
        let own = std::process::id() as i32;
        match self {
            Self::Namespace => look_at_namespace(own),
            Self::Cgroup(place) => look_at_cgroup(&place.join("cgroup.procs"), host),
            Self::Subreaper => look_by_walk(own, host),
        }
    }

    /// Ends everyone that is left in the container and reaps until the kernel says that nobody is. Answers who was still there.
    ///
    /// # Errors
    ///
    /// When somebody does not die in time; says who.
    pub fn sweep(&self) -> Result<Vec<Stat>, String> {
        let deadline = Instant::now() + SWEEP_CAP;
        let mut swept: Vec<Stat> = Vec::new();
        while !reap_all() {
            let members = self.members(None).map_err(|error| format!("sweep: {error}"))?;
            for stat in members.all.iter().filter(|stat| !stat.is_zombie()) {
                kill_exactly(stat);
                if !swept.iter().any(|seen| (seen.pid, seen.start_ticks) == (stat.pid, stat.start_ticks)) {
                    swept.push(stat.clone());
                }
            }
            if Instant::now() > deadline {
                let left =
                    members.all.iter().map(|stat| format!("{} ({}, {})", stat.pid, stat.comm, stat.state));
                return Err(format!(
                    "not dead {SWEEP_CAP:?} after SIGKILL: {}",
                    left.collect::<Vec<_>>().join(", ")
                ));
            }
            wait_for_a_death(&members.all);
        }
        Ok(swept)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Self::Cgroup(place) = self
            && let Err(error) = fs::remove_dir(&*place)
        {
            eprintln!("headcount: {}: {error}", place.display());
        }
    }
}

/// Waits a moment for one of these to die, so that the next look finds fewer.
fn wait_for_a_death(all: &[Stat]) {
    let pidfds: Vec<OwnedFd> = all.iter().filter(|stat| !stat.is_zombie()).filter_map(open_exactly).collect();
    let mut fds: Vec<_> = pidfds
        .iter()
        .map(|pidfd| rustix::event::PollFd::from_borrowed_fd(pidfd.as_fd(), rustix::event::PollFlags::IN))
        .collect();
    let a_moment = rustix::event::Timespec { tv_sec: 0, tv_nsec: 2_000_000 };
    if let Err(error) = rustix::event::poll(&mut fds, Some(&a_moment)) {
        // The caller looks again, until its deadline.
        debug_assert_eq!(error, rustix::io::Errno::INTR);
    }
}

/// A pidfd of exactly this process; nothing if it is gone or its pid means somebody else now.
pub fn open_exactly(stat: &Stat) -> Option<OwnedFd> {
    if stat.pid <= 1 {
        return None;
    }
    let pidfd = rustix::process::pidfd_open(Pid::from_raw(stat.pid)?, PidfdFlags::empty()).ok()?;
    // Read again after the pidfd is open: if the start is the same, the pidfd is of the process that we saw.
    (scan::stat(stat.pid)?.start_ticks == stat.start_ticks).then_some(pidfd)
}

/// Kills exactly this process, or nobody.
fn kill_exactly(stat: &Stat) {
    let Some(pidfd) = open_exactly(stat) else { return };
    match rustix::process::pidfd_send_signal(&pidfd, Signal::KILL) {
        // It may have died by itself, which is as good.
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => eprintln!("headcount: killing {} ({}): {error}", stat.pid, stat.comm),
    }
}

/// Reaps every zombie of the warden. True if the kernel says that no child is left, so nobody is.
pub fn reap_all() -> bool {
    loop {
        match rustix::process::waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::CHILD) => return true,
            Ok(None) | Err(_) => return false,
        }
    }
}

/// The turns of a look, at least one.
fn turns() -> impl Iterator<Item = u32> {
    let until = Instant::now() + LOOKS_CAP;
    (0..MOST_LOOKS).take_while(move |turn| *turn == 0 || Instant::now() < until)
}

fn look_at_namespace(own: i32) -> io::Result<Members> {
    let mut all = Vec::new();
    for _ in turns() {
        let before = scan::last_pid()?;
        all = scan::everyone_but(own)?;
        if scan::last_pid()? == before {
            return Ok(Members { all, complete: true, method: Method::Namespace });
        }
    }
    Ok(Members { all, complete: false, method: Method::Namespace })
}

/// Who forks and exits between the list and the look at those listed leaves a child that was not listed, but is no more listed either: so
/// the list must be the same again.
fn look_at_cgroup(list: &Path, host: Option<i32>) -> io::Result<Members> {
    let mut listed = pids_in(list)?;
    let mut all: Vec<Stat> = Vec::new();
    for _ in turns() {
        // A cgroup does not list zombies; those of the host are among its children.
        let mut pids: Vec<i32> =
            listed.iter().copied().chain(host.into_iter().flat_map(scan::children)).collect();
        pids.sort_unstable();
        pids.dedup();
        all = pids.into_iter().filter_map(scan::stat).collect();
        let again = pids_in(list)?;
        let was_read = |pid: &i32| all.iter().any(|stat| stat.pid == *pid);
        if again == listed && listed.iter().all(was_read) {
            return Ok(Members { all, complete: true, method: Method::Cgroup });
        }
        listed = again;
    }
    Ok(Members { all, complete: false, method: Method::Cgroup })
}

/// The processes that a cgroup lists, in order of pid.
fn pids_in(list: &Path) -> io::Result<Vec<i32>> {
    let text = fs::read_to_string(list)?;
    let mut pids: Vec<i32> = text.lines().filter_map(|line| line.parse::<i32>().ok()).collect();
    pids.sort_unstable();
    Ok(pids)
}

/// A walk misses whoever moves up while it goes down, and then the next one differs. Who is in neither because its parent forked and exited
/// between a list and the look at those listed is told by the pid that was given out last, if nobody else on the machine forks.
fn look_by_walk(own: i32, host: Option<i32>) -> io::Result<Members> {
    let roots: Vec<i32> = std::iter::once(own).chain(host).collect();
    let mut all = Vec::new();
    for _ in turns() {
        let before = scan::last_pid()?;
        all = scan::descendants(&roots);
        let again = scan::descendants(&roots);
        let same = again.iter().map(|stat| stat.pid).eq(all.iter().map(|stat| stat.pid));
        all = again;
        if same && scan::last_pid()? == before {
            return Ok(Members { all, complete: true, method: Method::Walk });
        }
    }
    Ok(Members { all, complete: false, method: Method::Walk })
}

fn become_subreaper() -> Result<(), String> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|error| format!("prctl(PR_SET_CHILD_SUBREAPER): {error}"))
}

/// Where the warden of this pid has its cgroup, if it has one.
fn cgroup_of(warden: u32) -> Option<PathBuf> {
    Some(scan::own_cgroup()?.join(format!("headcount-{warden}")))
}

/// Ends whoever is left in the cgroup of a warden that was killed, and removes it. Nothing to do where there is none.
///
/// # Errors
///
/// When it cannot be emptied in time; says what is in the way.
pub fn clear_cgroup_of(warden: u32) -> Result<(), String> {
    let Some(place) = cgroup_of(warden).filter(|place| place.exists()) else { return Ok(()) };
    let say = |error: io::Error| format!("{}: {error}", place.display());
    fs::write(place.join("cgroup.kill"), "1").map_err(say)?;
    let deadline = Instant::now() + SWEEP_CAP;
    loop {
        // Busy as long as somebody in it is not quite dead.
        match fs::remove_dir(&place) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => {
                std::thread::park_timeout(Duration::from_millis(2));
            }
            removed => return removed.map_err(say),
        }
    }
}

fn make_cgroup() -> Result<PathBuf, String> {
    let place = cgroup_of(std::process::id()).ok_or("no cgroup v2 hierarchy is mounted")?;
    fs::create_dir(&place).map_err(|error| format!("{}: {error}", place.display()))?;
    if !place.join("cgroup.procs").exists() {
        return Err(format!("{}: no cgroup.procs", place.display()));
    }
    Ok(place)
}

fn enter_namespace() -> Result<Container, String> {
    let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
    let mut flags = CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS;
    if !uid.is_root() {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    nix::sched::unshare(flags).map_err(|error| format!("unshare({}): {error}", namespace_names(flags)))?;
    if !uid.is_root() {
        map_ids(uid.as_raw(), gid.as_raw())?;
    }
    match fork().map_err(|error| format!("fork into the pid namespace: {error}"))? {
        ForkResult::Parent { child } => {
            // This process is only the way out of the namespace: it ends as its init does.
            loop {
                match nix::sys::wait::waitpid(child, None) {
                    Ok(nix::sys::wait::WaitStatus::Exited(_, code)) => std::process::exit(code),
                    Ok(nix::sys::wait::WaitStatus::Signaled(..)) => std::process::exit(70),
                    Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                    Err(_) => std::process::exit(70),
                }
            }
        }
        ForkResult::Child => {
            // Whoever kills the process at the way out, which has one thread, ends the namespace with it.
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
                .map_err(|error| format!("prctl(PR_SET_PDEATHSIG): {error}"))?;
            mount_own_proc()?;
            Ok(Container::Namespace)
        }
    }
}

fn namespace_names(flags: CloneFlags) -> &'static str {
    if flags.contains(CloneFlags::CLONE_NEWUSER) { "user, pid, mount" } else { "pid, mount" }
}

fn map_ids(uid: u32, gid: u32) -> Result<(), String> {
    let write = |path: &str, text: String| fs::write(path, text).map_err(|error| format!("{path}: {error}"));
    write("/proc/self/setgroups", "deny".to_owned())?;
    write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
    write("/proc/self/gid_map", format!("{gid} {gid} 1"))
}

fn mount_own_proc() -> Result<(), String> {
    use nix::mount::{MsFlags, mount};
    let nothing = None::<&Path>;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)
        .map_err(|error| format!("making the mounts private: {error}"))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, nothing)
        .map_err(|error| format!("mounting /proc: {error}"))
}

/// Forks this process, which has one thread.
///
/// # Errors
///
/// When the kernel refuses.
#[expect(unsafe_code, reason = "fork has no safe form")]
pub fn fork() -> nix::Result<ForkResult> {
    // SAFETY: the warden has one thread, so the child has no lock that a lost thread holds.
    unsafe { nix::unistd::fork() }
}

/// Forks this process, which has one thread and is the init of a pid namespace, so that the child gets this pid.
///
/// # Errors
///
/// When somebody has the pid, or the kernel refuses.
#[expect(unsafe_code, reason = "clone3 has no safe form")]
pub fn fork_with_pid(pid: i32) -> io::Result<ForkResult> {
    use nix::libc;
    let pids = [pid];
    // SAFETY: plain numbers, for which zero is a value.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.exit_signal = libc::SIGCHLD as u64;
    arguments.set_tid = pids.as_ptr() as u64;
    arguments.set_tid_size = pids.len() as u64;
    let size = size_of::<libc::clone_args>();
    // SAFETY: without flags or a stack of its own the child goes on here with a copy of everything, as after a fork, and this
    // process has one thread, so the child has no lock that a lost thread holds.
    match unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size) } {
        0 => Ok(ForkResult::Child),
        child @ 1.. => Ok(ForkResult::Parent { child: nix::unistd::Pid::from_raw(child as i32) }),
        _ => Err(io::Error::last_os_error()),
    }
}
