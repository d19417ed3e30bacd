//! How a nanny comes to a command that was made with the standard library's builder. Such a command may carry what cannot
//! be read from it (a user, a hook, another name), so it has to be started by that builder; the process that this forks
//! becomes the nanny, and a child of that becomes the program.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use super::clean_start::clean_before_exec;
use super::nanny::NAME;

const NONE: RawFd = -1;

/// A hook that makes the forked process the nanny. It is put into a command once and armed for each start.
#[derive(Debug, Default)]
pub(crate) struct Adoption {
    hook: Option<Arc<Hook>>,
}

/// The descriptors that the hook needs; none of them when it is not armed.
#[derive(Debug)]
struct Hook {
    channel: AtomicI32,
    image: AtomicI32,
    cgroup: AtomicI32,
}

impl Adoption {
    /// Calls `spawn` with the hook armed.
    pub(super) fn with_hook<T>(
        &mut self,
        command: &mut Command,
        [channel, image]: [BorrowedFd<'_>; 2],
        cgroup: Option<BorrowedFd<'_>>,
        spawn: impl FnOnce(&mut Command) -> T,
    ) -> T {
        let hook = Arc::clone(self.hook.get_or_insert_with(|| put_into(command)));
        hook.channel.store(channel.as_raw_fd(), Ordering::SeqCst);
        hook.image.store(image.as_raw_fd(), Ordering::SeqCst);
        hook.cgroup.store(cgroup.map_or(NONE, |cgroup| cgroup.as_raw_fd()), Ordering::SeqCst);
        let result = spawn(command);
        hook.channel.store(NONE, Ordering::SeqCst);
        result
    }
}

fn put_into(command: &mut Command) -> Arc<Hook> {
    let none = || AtomicI32::new(NONE);
    let hook = Arc::new(Hook { channel: none(), image: none(), cgroup: none() });
    let armed = Arc::clone(&hook);
    // SAFETY: between fork and exec the hook makes only system calls that are async-signal-safe; it neither allocates nor
    // locks.
    unsafe {
        command.pre_exec(move || match armed.channel.load(Ordering::SeqCst) {
            NONE => Ok(()),
            channel => {
                divide(channel, armed.image.load(Ordering::SeqCst), armed.cgroup.load(Ordering::SeqCst))
            }
        })
    };
    hook
}

/// Divides the forked process in two. Returns in the one that becomes the program.
fn divide(channel: RawFd, image: RawFd, cgroup: RawFd) -> io::Result<()> {
    super::clean_start::block_all_signals();
    lead_session()?;
    become_subreaper()?;
    // Where it is ignored the kernel reaps the program, whose end is lost then, and whose number may be a stranger's.
    super::clean_start::reset_signal(libc::SIGCHLD)?;
    let death_signal = give_up_death_signal()?;
    let (gate, latch) = make_gate()?;
    // SAFETY: the call takes nothing.
    let nanny = unsafe { libc::getpid() };
    // SAFETY: without shared memory this is a fork, but for the handlers that libc would call and that nobody here needs.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, ptr::null::<u8>()) })?;
    if pid == 0 {
        become_program(cgroup, death_signal, || pass(gate, latch, nanny))
    } else {
        Err(become_nanny(channel, image, latch, pid))
    }
}

/// Gives what the program waits at and what the nanny holds it by: the two ends of a pipe.
fn make_gate() -> io::Result<(RawFd, RawFd)> {
    let mut ends: [RawFd; 2] = [NONE; 2];
    // SAFETY: there is room for the two numbers that the call writes.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }.into())?;
    let [gate, latch] = ends;
    Ok((gate, latch))
}

/// Waits until the nanny lets go of the latch, which it does when it is ready. The program must not run before that: it
/// could not be held. If the nanny dies instead, that is an error.
fn pass(gate: RawFd, latch: RawFd, nanny: libc::pid_t) -> io::Result<()> {
    let mut nothing = [0u8];
    // SAFETY: the latch is a descriptor that nobody else uses in this process; the byte is there to be written, and nobody
    // writes one, so that the read ends with the last latch. A signal cannot interrupt it: all are blocked.
    unsafe {
        libc::close(latch);
        check(libc::read(gate, nothing.as_mut_ptr().cast(), nothing.len()) as libc::c_long)?;
        // 0 is a parent in another pid namespace, which a hook of the user's may have made.
        match libc::getppid() {
            0 => Ok(()),
            parent if parent == nanny => Ok(()),
            _ => Err(io::Error::from_raw_os_error(libc::ECHILD)),
        }
    }
}

/// Takes off the signal that a hook of the user's may have asked for when the parent dies: the nanny has to outlive that
/// one. Returns it, 0 if there is none.
fn give_up_death_signal() -> io::Result<libc::c_int> {
    let mut signal: libc::c_int = 0;
    // SAFETY: the call writes one number, for which there is room.
    check(unsafe { libc::prctl(libc::PR_GET_PDEATHSIG, ptr::from_mut(&mut signal)) }.into())?;
    if signal != 0 {
        ask_for_death_signal(0)?;
    }
    Ok(signal)
}

fn ask_for_death_signal(signal: libc::c_int) -> io::Result<()> {
    // SAFETY: the call takes numbers.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) }.into()).map(drop)
}

fn lead_session() -> io::Result<()> {
    // SAFETY: these calls take and give numbers.
    unsafe {
        // A hook of the user's may have seen to it, and whoever leads a session cannot go to another group.
        if libc::getsid(0) == libc::getpid() {
            return Ok(());
        }
        if libc::setsid() == -1 {
            // Whoever leads a group cannot lead a session, so it goes to its parent's group first.
            check(libc::setpgid(0, libc::getpgid(libc::getppid())).into())?;
            check(libc::setsid().into())?;
        }
    }
    Ok(())
}

fn become_subreaper() -> io::Result<()> {
    // SAFETY: the call takes numbers.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }.into()).map(drop)
}

fn become_program(
    cgroup: RawFd,
    death_signal: libc::c_int,
    wait_for_nanny: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    // Its parent is the nanny now. While that lives it sees to the purpose, whoever of the owner's threads ends.
    if death_signal != 0 {
        ask_for_death_signal(death_signal)?;
    }
    // SAFETY: the call takes numbers.
    check(unsafe { libc::setpgid(0, 0) }.into())?;
    if cgroup != NONE {
        enter(cgroup)?;
    }
    wait_for_nanny()?;
    clean_before_exec()
}

fn enter(cgroup: RawFd) -> io::Result<()> {
    // SAFETY: the path ends with a zero, and the byte is there to be read; "0" stands for the writer itself.
    unsafe {
        let procs =
            check(libc::openat(cgroup, c"cgroup.procs".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC).into())?;
        check(libc::write(procs as RawFd, b"0".as_ptr().cast(), 1) as libc::c_long)?;
        libc::close(procs as RawFd);
    }
    Ok(())
}

/// Only returns if it failed; then the other one is killed, before it has executed anything.
fn become_nanny(channel: RawFd, image: RawFd, latch: RawFd, program: libc::c_long) -> io::Error {
    const DIGITS: usize = 20;
    let mut text = [0u8; DIGITS + 1];
    let mut rest = program;
    let mut start = DIGITS;
    while rest > 0 && start > 0 {
        start -= 1;
        text[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let environment = [ptr::null::<libc::c_char>()];
    let arguments = [NAME.as_ptr(), c"adopt".as_ptr(), text[start..].as_ptr().cast(), ptr::null()];
    let program = program as libc::pid_t;
    // SAFETY: the arrays end with null pointers and their strings with zeros; the number is that of our child, which
    // nobody else can reap.
    unsafe {
        // In the place of its stdout, which it has no use for, the latch outlives the exec.
        if libc::dup2(channel, libc::STDIN_FILENO) != -1 && libc::dup2(latch, libc::STDOUT_FILENO) != -1 {
            libc::syscall(
                libc::SYS_execveat,
                image,
                c"".as_ptr(),
                arguments.as_ptr(),
                environment.as_ptr(),
                libc::AT_EMPTY_PATH,
            );
        }
        let error = io::Error::last_os_error();
        libc::kill(program, libc::SIGKILL);
        libc::waitpid(program, ptr::null_mut(), 0);
        error
    }
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
