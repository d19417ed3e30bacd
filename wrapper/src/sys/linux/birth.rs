//! How a process is made for a command that was built here.
//!
//! Not by the standard library: its fast way (`posix_spawn`) hands on what the owner ignores, what the calling thread
//! blocks and every stray descriptor, and its slow way, which can change that, copies the page tables of the owner (100 ms
//! and more for one of 2 GB). Nor by `posix_spawn` itself: not every libc has the action that closes descriptors, it does
//! not say which step failed, and glibc's has the child ignore two signals. What it does is not much: a `clone` that
//! shares the memory and waits for the exec, which glibc and musl both offer without any assembly of ours.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{CString, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
#[cfg(has_nanny)]
use std::path::Path;
use std::process::{Child, Command};
use std::ptr;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, fcntl_dupfd_cloexec, retry_on_intr};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::clean_start::{
    keep_descriptors_from_exec, last_errno, restore_dispositions, unblock_all_signals,
    with_all_signals_blocked,
};
use super::group::signalable;
use super::pipe::ChildEnd;
use super::terminal::Terminal;

/// A child that was just started, and that nobody has taken hold of.
#[derive(Debug)]
pub(crate) struct Newborn {
    pub(crate) id: u32,
    /// `None` if whoever started it did not get a handle from the kernel.
    pub(super) pidfd: Option<OwnedFd>,
}

impl Newborn {
    pub(super) fn pid(&self) -> io::Result<Pid> {
        let number = i32::try_from(self.id).ok();
        number
            .and_then(signalable)
            .ok_or_else(|| io::Error::other("the child has no pid that may be signalled"))
    }
}

impl From<Child> for Newborn {
    /// The number stays pinned: dropping a [`Child`] does not reap it.
    fn from(child: Child) -> Self {
        Self { id: child.id(), pidfd: None }
    }
}

/// Why nothing was started. Nothing is left of what was made for it.
#[derive(Debug)]
pub(crate) struct NotStarted {
    /// What was tried, for people.
    pub(crate) doing: &'static str,
    pub(crate) error: io::Error,
}

pub(super) fn failed(doing: &'static str) -> impl FnOnce(io::Error) -> NotStarted {
    move |error| NotStarted { doing, error }
}

/// Starts a program as the leader of a process group of its own, with an empty signal mask, default dispositions and no
/// descriptor but these; in the foreground of the owner's terminal, if that is given.
pub(crate) fn start_leader(
    command: &Command,
    clears_environment: bool,
    ends: [ChildEnd; 3],
    terminal: Option<&Terminal>,
) -> Result<Newborn, NotStarted> {
    const PASS: &str = "pass the program its arguments and environment";
    let changes: BTreeMap<_, _> = command.get_envs().collect();
    let program = command.get_program();
    let mut arguments = Strings::default();
    arguments.push(&[program]).map_err(failed(PASS))?;
    for argument in command.get_args() {
        arguments.push(&[argument]).map_err(failed(PASS))?;
    }
    let recipe = Recipe {
        paths: paths(program, &changes, clears_environment).map_err(failed(PASS))?,
        arguments,
        environment: environment(&changes, clears_environment).map_err(failed(PASS))?,
        directory: command.get_current_dir().map(in_c).transpose().map_err(failed(PASS))?,
        ends,
        bearing: Bearing::Leader { terminal: terminal.map_or(-1, |terminal| terminal.as_fd().as_raw_fd()) },
    };
    recipe.carry_out()
}

/// Executes a helper of our own, with all signals blocked. It is left to itself to reset dispositions and to close what
/// it does not need.
#[cfg(has_nanny)]
pub(super) fn start_helper(
    image: &Path,
    arguments: Strings,
    environment: Strings,
    ends: [ChildEnd; 3],
) -> Result<Newborn, NotStarted> {
    let path = in_c(image).map_err(failed("name the helper"))?;
    let paths = Paths { candidates: vec![path], are_searched: false };
    Recipe { paths, arguments, environment, directory: None, ends, bearing: Bearing::Helper }.carry_out()
}

/// The environment of a child: the owner's, unless it is cleared, with these changes (`None` removes a variable).
///
/// It is copied, because the standard library lets other threads change the owner's meanwhile.
pub(super) fn environment(changes: &BTreeMap<&OsStr, Option<&OsStr>>, clears: bool) -> io::Result<Strings> {
    let mut strings = Strings::default();
    if !clears {
        for (key, value) in env::vars_os().filter(|(key, _)| !changes.contains_key(key.as_os_str())) {
            strings.push(&[&key, OsStr::new("="), &value])?;
        }
    }
    for (key, value) in changes {
        if let Some(value) = value {
            strings.push(&[key, OsStr::new("="), value])?;
        }
    }
    Ok(strings)
}

/// Strings for an exec, one behind the other, each with a zero at its end.
#[derive(Debug, Default)]
pub(super) struct Strings {
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

impl Strings {
    /// Adds one string, made of these parts.
    ///
    /// # Errors
    /// A part has a zero in it.
    pub(super) fn push(&mut self, parts: &[&OsStr]) -> io::Result<()> {
        self.starts.push(self.bytes.len());
        for part in parts {
            self.bytes.extend_from_slice(without_zero(part.as_bytes())?);
        }
        self.bytes.push(0);
        Ok(())
    }

    /// What `execve` wants: a pointer to each, and a null pointer behind the last.
    fn pointers(&self) -> Vec<*const libc::c_char> {
        let each = self.starts.iter().map(|start| self.bytes[*start..].as_ptr().cast());
        each.chain([ptr::null()]).collect()
    }
}

fn without_zero(bytes: &[u8]) -> io::Result<&[u8]> {
    if bytes.contains(&0) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a string for a program has a zero byte in it",
        ));
    }
    Ok(bytes)
}

fn in_c(path: impl AsRef<OsStr>) -> io::Result<CString> {
    Ok(CString::new(without_zero(path.as_ref().as_bytes())?)?)
}

/// Where a program may be.
struct Paths {
    candidates: Vec<CString>,
    are_searched: bool,
}

/// A program without a slash is looked up in the child's `PATH`, as `execvp` does, but without the detour by a shell.
fn paths(
    program: &OsStr,
    changes: &BTreeMap<&OsStr, Option<&OsStr>>,
    clears_environment: bool,
) -> io::Result<Paths> {
    /// Where to look if the child's environment does not say it.
    const DEFAULT_PATH: &str = "/bin:/usr/bin";
    let name = program.as_bytes();
    // There is nothing of no name, wherever one looks.
    if name.is_empty() || name.contains(&b'/') {
        return Ok(Paths { candidates: vec![in_c(program)?], are_searched: false });
    }
    let path = match changes.get(OsStr::new("PATH")) {
        Some(change) => change.map(OsStr::to_owned),
        None if clears_environment => None,
        None => env::var_os("PATH"),
    };
    let path = path.unwrap_or_else(|| DEFAULT_PATH.into());
    let candidates = path.as_bytes().split(|byte| *byte == b':').map(|directory| {
        // An empty entry is the current directory.
        let directory = if directory.is_empty() { b"." } else { directory };
        in_c(OsStr::from_bytes(&[directory, b"/", name].concat()))
    });
    Ok(Paths { candidates: candidates.collect::<io::Result<_>>()?, are_searched: true })
}

/// How a process is to face the world.
#[derive(Clone, Copy)]
enum Bearing {
    /// Clean, and in a group of its own.
    Leader {
        /// Negative where it has none to take.
        terminal: RawFd,
    },
    /// All signals blocked, and otherwise as it comes.
    #[cfg(has_nanny)]
    Helper,
}

/// All that the process needs between its making and its exec.
struct Recipe {
    paths: Paths,
    arguments: Strings,
    environment: Strings,
    directory: Option<CString>,
    ends: [ChildEnd; 3],
    bearing: Bearing,
}

/// The same, for the process that must not allocate.
struct Plan<'a> {
    paths: &'a Paths,
    arguments: *const *const libc::c_char,
    environment: *const *const libc::c_char,
    directory: Option<&'a CString>,
    /// Negative where the owner's own is left.
    ends: [RawFd; 3],
    bearing: Bearing,
    /// What the process could not do, if it did not come to its program.
    failed: Option<Failed>,
}

type Failed = (&'static str, Errno);

/// Enough for the few frames of the child, and for a dynamic linker that looks up a function when it is first called.
const STACK: usize = 32 * 1024;

impl Recipe {
    fn carry_out(self) -> Result<Newborn, NotStarted> {
        let ends = open_ends(self.ends).map_err(failed("give the child its standard streams"))?;
        let arguments = self.arguments.pointers();
        let environment = self.environment.pointers();
        let mut plan = Plan {
            paths: &self.paths,
            arguments: arguments.as_ptr(),
            environment: environment.as_ptr(),
            directory: self.directory.as_ref(),
            ends: ends.numbers,
            bearing: self.bearing,
            failed: None,
        };
        // Until the child has dispositions of its own, a handler of the owner's would run in it, in the owner's memory.
        let born = with_all_signals_blocked(|| bear(&mut plan))
            .map_err(|errno| failed("block signals")(errno.into()))?
            .map_err(failed("make a process"))?;
        let Some((doing, errno)) = plan.failed else { return Ok(born) };
        // It ends at once after it has said so.
        if let Some(pidfd) = &born.pidfd {
            // It may have been reaped by somebody else in this process.
            let _ = retry_on_intr(|| waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED));
        }
        Err(NotStarted { doing, error: errno.into() })
    }
}

/// The child's ends by their numbers, and whatever was made to have them at such numbers.
struct OpenEnds {
    numbers: [RawFd; 3],
    _keep: Vec<OwnedFd>,
}

fn open_ends(ends: [ChildEnd; 3]) -> io::Result<OpenEnds> {
    let mut numbers = [-1; 3];
    let mut keep = Vec::with_capacity(ends.len() + 1);
    let mut null = None;
    for (number, end) in numbers.iter_mut().zip(ends) {
        *number = match (end, null) {
            (ChildEnd::Inherited, _) => continue,
            (ChildEnd::Null, Some(null)) => null,
            (ChildEnd::Null, None) => {
                let opened =
                    out_of_the_way(open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)?;
                keep.push(opened);
                *null.insert(keep[keep.len() - 1].as_raw_fd())
            }
            (ChildEnd::Fd(fd), _) => {
                keep.push(out_of_the_way(fd)?);
                keep[keep.len() - 1].as_raw_fd()
            }
        };
    }
    Ok(OpenEnds { numbers, _keep: keep })
}

/// An owner that has closed its own standard streams gets their numbers for our pipes; there they would be overwritten
/// by each other.
pub(super) fn out_of_the_way(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() > libc::STDERR_FILENO {
        return Ok(fd);
    }
    Ok(fcntl_dupfd_cloexec(&fd, libc::STDERR_FILENO + 1)?)
}

/// Makes the process; returns when it has executed its program or has ended.
fn bear(plan: &mut Plan<'_>) -> io::Result<Newborn> {
    let mut stack = Box::<[u8]>::new_uninit_slice(STACK);
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    let mut pidfd: RawFd = -1;
    // The stack grows downwards on every architecture that libc has this call for; its end must be a multiple of 16.
    let end = stack.as_mut_ptr_range().end.cast::<MaybeUninit<u8>>();
    let top = end.wrapping_sub(end as usize % 16);
    // SAFETY: the stack is ours, and nobody else uses it while the child runs; `child` takes a `Plan`, which outlives the
    // child's use of it because the call returns only when the child has another memory or none.
    let pid = unsafe { libc::clone(child, top.cast(), flags, ptr::from_mut(plan).cast(), &raw mut pidfd) };
    if pid == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just opened it for us.
    let pidfd = (pidfd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(pidfd) });
    Ok(Newborn { id: pid.unsigned_abs(), pidfd })
}

/// Runs in the child, in the memory of the owner, whose thread waits: makes system calls only, neither allocates nor
/// locks nor panics.
extern "C" fn child(plan: *mut libc::c_void) -> libc::c_int {
    // SAFETY: it is the plan that `bear` lends until this has ended or executed a program.
    let plan = unsafe { &mut *plan.cast::<Plan<'_>>() };
    plan.failed = Some(match prepare(plan) {
        Ok(()) => ("execute the program", execute(plan)),
        Err(failed) => failed,
    });
    // SAFETY: this ends the process without any of the owner's handlers.
    unsafe { libc::_exit(127) }
}

fn prepare(plan: &Plan<'_>) -> Result<(), Failed> {
    for (end, number) in plan.ends.iter().zip(0..) {
        if *end >= 0 {
            // SAFETY: the call takes numbers.
            check("give the child its standard streams", unsafe { libc::dup2(*end, number) })?;
        }
    }
    match plan.bearing {
        Bearing::Leader { terminal } => prepare_leader(plan, terminal),
        #[cfg(has_nanny)]
        Bearing::Helper => Ok(()),
    }
}

fn prepare_leader(plan: &Plan<'_>, terminal: RawFd) -> Result<(), Failed> {
    // SAFETY: the call takes numbers.
    check("give the child a group of its own", unsafe { libc::setpgid(0, 0) })?;
    if terminal >= 0 {
        // SAFETY: the calls take numbers. The signal for doing so from the background is blocked still.
        check("hand the terminal over", unsafe { libc::tcsetpgrp(terminal, libc::getpid()) })?;
    }
    if let Some(directory) = plan.directory {
        // SAFETY: it is a string that ends with a zero.
        check("enter the child's directory", unsafe { libc::chdir(directory.as_ptr()) })?;
    }
    keep_descriptors_from_exec();
    // Before any signal is let in: a handler of the owner's would run in the owner's memory.
    restore_dispositions().map_err(|errno| ("restore signal dispositions", errno))?;
    unblock_all_signals().map_err(|errno| ("unblock the child's signals", errno))
}

fn check(doing: &'static str, result: libc::c_int) -> Result<(), Failed> {
    if result == -1 { Err((doing, last_errno())) } else { Ok(()) }
}

/// Comes back with the reason, or not at all.
fn execute(plan: &Plan<'_>) -> Errno {
    let mut worst = Errno::NOENT;
    for path in &plan.paths.candidates {
        // SAFETY: the path ends with a zero, and the arrays of such strings with a null pointer.
        unsafe { libc::execve(path.as_ptr(), plan.arguments, plan.environment) };
        match last_errno() {
            errno if !plan.paths.are_searched => return errno,
            Errno::NOENT | Errno::NOTDIR => {}
            // It may be had elsewhere; if not, this is the reason.
            errno @ (Errno::ACCESS | Errno::NAMETOOLONG) => worst = errno,
            errno => return errno,
        }
    }
    worst
}
