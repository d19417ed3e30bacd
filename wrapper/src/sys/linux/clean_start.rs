//! What a child inherits beyond its command: signal mask, signal dispositions, stray descriptors.
//!
//! A command that was built here is started so that nothing of that kind is passed on. For one of the standard library's,
//! that library hands the calling thread's mask and every ignored signal (but SIGPIPE) on to the child, and so do
//! descriptors that somebody made without close-on-exec. In most owners there is none of these, and then nothing is done,
//! because a hook between fork and exec would cost the fast way of spawning.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;

use rustix::io::Errno;

/// A set of signals as the kernel has it, and the number of the last one.
#[cfg(not(any(target_arch = "mips", target_arch = "mips64")))]
type SignalSet = u64;
#[cfg(any(target_arch = "mips", target_arch = "mips64"))]
type SignalSet = u128;
const LAST_SIGNAL: libc::c_int = SignalSet::BITS as libc::c_int;

/// Sees to it that a child of the standard library's starts with an empty signal mask, default dispositions and no descriptor but 0, 1 and 2.
#[derive(Debug, Default)]
pub(crate) struct CleanStart {
    /// A hook cannot be taken back, and one is enough.
    hooked: bool,
}

impl CleanStart {
    pub(crate) fn prepare(&mut self, command: &mut Command) {
        if self.hooked || !(this_thread_blocks_signals() || some_signal_is_ignored() || something_leaks()) {
            return;
        }
        self.hooked = true;
        // SAFETY: between fork and exec the hook makes only system calls that are async-signal-safe (close_range,
        // fcntl, sigaction, pthread_sigmask); it neither allocates nor locks.
        unsafe { command.pre_exec(clean_before_exec) };
    }
}

/// To be called in the forked child. Makes only system calls that are async-signal-safe.
pub(super) fn clean_before_exec() -> io::Result<()> {
    keep_descriptors_from_exec();
    restore_dispositions()?;
    Ok(unblock_all_signals()?)
}

/// Keeps the owner's signal handlers off this thread, and SIGPIPE from ending the process on account of it.
pub(crate) fn block_all_signals() {
    let mut all = MaybeUninit::uninit();
    // SAFETY: `sigfillset` initialises the set that `pthread_sigmask` reads; a null old set is allowed.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), ptr::null_mut());
    }
}

/// Calls something with all signals of this thread blocked, which a child that it starts inherits. Also those that libc
/// keeps for itself: a child that shares our memory must not run its handlers.
///
/// # Errors
/// They could not be blocked, so it was not called.
pub(super) fn with_all_signals_blocked<T>(act: impl FnOnce() -> T) -> Result<T, Errno> {
    let before = set_mask(SignalSet::MAX)?;
    let result = act();
    // The mask is one that the kernel gave, so it takes it back.
    let _ = set_mask(before);
    Ok(result)
}

/// To be called in the child, before its exec. Makes a system call only.
pub(super) fn unblock_all_signals() -> Result<(), Errno> {
    set_mask(0).map(drop)
}

/// Sets the mask of this thread, without libc, which leaves out what it keeps for itself. Returns the one before.
fn set_mask(mask: SignalSet) -> Result<SignalSet, Errno> {
    let mut before: SignalSet = 0;
    // SAFETY: the two sets have the size that is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const mask,
            &raw mut before,
            size_of::<SignalSet>(),
        )
    };
    if result == 0 {
        return Ok(before);
    }
    Err(last_errno())
}

fn this_thread_blocks_signals() -> bool {
    let mut mask = MaybeUninit::uninit();
    // SAFETY: with a null new set the call only writes the current mask into the one given, which is then read.
    unsafe {
        libc::sigemptyset(mask.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, ptr::null(), mask.as_mut_ptr());
        (1..=LAST_SIGNAL).any(|signal| libc::sigismember(mask.as_ptr(), signal) == 1)
    }
}

fn some_signal_is_ignored() -> bool {
    // The standard library resets SIGPIPE by itself.
    (1..=LAST_SIGNAL).any(|signal| signal != libc::SIGPIPE && is_ignored(signal))
}

fn is_ignored(signal: libc::c_int) -> bool {
    let mut now = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: with a null new action the call only writes the present one, which is read only if it succeeded
    // (it fails for the numbers that libc keeps for itself).
    unsafe {
        libc::sigaction(signal, ptr::null(), now.as_mut_ptr()) == 0
            && now.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

/// Whether an exec would pass on a descriptor above 2. Another thread may open one right after this look; nothing short
/// of a helper process can exclude that.
fn something_leaks() -> bool {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return true };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .any(|fd| fd > libc::STDERR_FILENO && survives_exec(fd))
}

fn survives_exec(fd: RawFd) -> bool {
    // SAFETY: F_GETFD takes a number only; a number that is not open is answered with -1.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    flags != -1 && flags & libc::FD_CLOEXEC == 0
}

/// Marks every descriptor above 2 close-on-exec. To be called in the forked child, whose table is its own.
pub(super) fn keep_descriptors_from_exec() {
    const FIRST: libc::c_int = libc::STDERR_FILENO + 1;
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 1 << 2;
    /// Before Linux 5.11 one has to go through them; more than this is not looked at.
    const HIGHEST: libc::c_int = 4096;
    // SAFETY: the call takes three numbers.
    let marked =
        unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC) };
    if marked == 0 {
        return;
    }
    for fd in FIRST..HIGHEST {
        // SAFETY: the call takes numbers only; one that is not open is answered with an error.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

/// Restores the default dispositions of all signals; those that libc keeps for itself are ignored in some owners. To be
/// called in the child, before its exec. Makes system calls only.
pub(super) fn restore_dispositions() -> Result<(), Errno> {
    /// Larger than the structure of any architecture; all zero is the default disposition, with no flags.
    const DEFAULT: [u64; 8] = [0; 8];
    for signal in (1..=LAST_SIGNAL).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal)) {
        // SAFETY: the call reads the structure; this runs in the child, so it changes nobody else.
        let result = unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                DEFAULT.as_ptr(),
                ptr::null_mut::<u64>(),
                size_of::<SignalSet>(),
            )
        };
        if result != 0 {
            return Err(last_errno());
        }
    }
    Ok(())
}

/// Why the last system call failed.
pub(super) fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// To be called in the forked child. Makes only a system call that is async-signal-safe.
pub(super) fn reset_signal(signal: libc::c_int) -> io::Result<()> {
    // SAFETY: a zeroed action is the default disposition with an empty mask and no flags. This runs in the forked child,
    // so it changes nobody else.
    let failed = unsafe {
        let default: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, &default, ptr::null_mut())
    };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
