//! The system calls, without libc. The numbers and the assembly of an architecture are in the file of its name.

#[cfg_attr(target_arch = "x86_64", path = "x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "aarch64.rs")]
mod arch;

use core::ffi::{CStr, c_char, c_int, c_void};
use core::mem::{MaybeUninit, size_of, zeroed};
use core::ptr;

use arch::nr;

use crate::wire::ORDER_BYTES;

pub type Fd = c_int;
pub type Errno = u32;

pub const ESRCH: Errno = 3;
pub const EINTR: Errno = 4;
pub const ECHILD: Errno = 10;
pub const EAGAIN: Errno = 11;
pub const EPERM: Errno = 1;
pub const ENOENT: Errno = 2;
pub const EACCES: Errno = 13;
pub const EBUSY: Errno = 16;
pub const ENOTDIR: Errno = 20;
pub const EMFILE: Errno = 24;
pub const ENAMETOOLONG: Errno = 36;
pub const EPROTO: Errno = 71;

pub const SIGKILL: c_int = 9;
pub const SIGTERM: c_int = 15;
pub const SIGCHLD: c_int = 17;
pub const SIGCONT: c_int = 18;

pub const HERE: Fd = -100;
const O_RDONLY: usize = 0;
const O_WRONLY: usize = 1;
const O_CLOEXEC: usize = 0o2000000;

/// The result of a system call as the kernel gives it: a small negative number is an error.
fn check(result: isize) -> Result<usize, Errno> {
    if (-4095..0).contains(&result) { Err((-result) as Errno) } else { Ok(result as usize) }
}

fn call(number: usize, args: [usize; 6]) -> Result<usize, Errno> {
    // SAFETY: every caller below passes numbers, and pointers that are valid for what the call does with them.
    check(unsafe { arch::syscall(number, args) })
}

fn call1(number: usize, a: usize) -> Result<usize, Errno> {
    call(number, [a, 0, 0, 0, 0, 0])
}

fn call3(number: usize, a: usize, b: usize, c: usize) -> Result<usize, Errno> {
    call(number, [a, b, c, 0, 0, 0])
}

fn call4(number: usize, a: usize, b: usize, c: usize, d: usize) -> Result<usize, Errno> {
    call(number, [a, b, c, d, 0, 0])
}

pub fn exit(code: c_int) -> ! {
    loop {
        let _ = call1(nr::EXIT_GROUP, code as usize);
    }
}

/// A set of all signals, or of one.
const ALL_SIGNALS: u64 = !0;
const MASK_BYTES: usize = 8;
const SIG_SETMASK: usize = 2;

fn set_mask(mask: u64) -> Result<(), Errno> {
    call4(nr::RT_SIGPROCMASK, SIG_SETMASK, ptr::from_ref(&mask) as usize, 0, MASK_BYTES).map(drop)
}

pub fn block_all_signals() -> Result<(), Errno> {
    set_mask(ALL_SIGNALS)
}

pub fn unblock_all_signals() -> Result<(), Errno> {
    set_mask(0)
}

/// Restores the default dispositions of all signals.
pub fn restore_dispositions() -> Result<(), Errno> {
    const LAST_SIGNAL: c_int = 64;
    const SIGSTOP: c_int = 19;
    /// Larger than the structure of any architecture; all zero is the default disposition.
    const DEFAULT: [u64; 8] = [0; 8];
    for signal in (1..=LAST_SIGNAL).filter(|signal| *signal != SIGKILL && *signal != SIGSTOP) {
        call4(nr::RT_SIGACTION, signal as usize, DEFAULT.as_ptr() as usize, 0, MASK_BYTES)?;
    }
    Ok(())
}

pub fn lead_session() -> Result<(), Errno> {
    call1(nr::SETSID, 0).map(drop)
}

pub fn lead_group() -> Result<(), Errno> {
    call3(nr::SETPGID, 0, 0, 0).map(drop)
}

/// Makes the group of this process the one in the foreground of its terminal. SIGTTOU must be blocked.
pub fn take_terminal(terminal: Fd) -> Result<(), Errno> {
    const TIOCSPGRP: usize = 0x5410;
    // The group that it leads has its number.
    let group = own_number();
    call3(nr::IOCTL, terminal as usize, TIOCSPGRP, ptr::from_ref(&group) as usize).map(drop)
}

/// What people see in a short list of processes.
pub fn set_name(name: &CStr) {
    const PR_SET_NAME: usize = 15;
    // Without a name it does its work as well.
    let _ = call(nr::PRCTL, [PR_SET_NAME, name.as_ptr() as usize, 0, 0, 0, 0]);
}

pub fn become_subreaper() -> Result<(), Errno> {
    const PR_SET_CHILD_SUBREAPER: usize = 36;
    call(nr::PRCTL, [PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0, 0]).map(drop)
}

/// Has the kernel kill this process when its parent has ended, which must have a single thread.
pub fn die_with_parent() -> Result<(), Errno> {
    hear_of_parents_end(SIGKILL)
}

/// Has the kernel continue this process, should it be stopped, when its parent has ended. It also does so when only the
/// parent's thread has ended that started it, which does no harm.
pub fn go_on_without_parent() -> Result<(), Errno> {
    hear_of_parents_end(SIGCONT)
}

fn hear_of_parents_end(signal: c_int) -> Result<(), Errno> {
    const PR_SET_PDEATHSIG: usize = 1;
    call(nr::PRCTL, [PR_SET_PDEATHSIG, signal as usize, 0, 0, 0, 0]).map(drop)
}

/// This process's own number, in its own namespace.
pub fn own_number() -> c_int {
    call1(nr::GETPID, 0).map_or(0, |number| number as c_int)
}

/// The number of this process's parent, in this process's own namespace.
pub fn parents_number() -> c_int {
    call1(nr::GETPPID, 0).map_or(0, |number| number as c_int)
}

/// The effective user and group, which always exist.
pub fn own_ids() -> [u32; 2] {
    [nr::GETEUID, nr::GETEGID].map(|number| call1(number, 0).map_or(0, |id| id as u32))
}

/// Opens a handle of the process that has this number, which must be pinned.
pub fn open_handle(number: c_int) -> Result<Fd, Errno> {
    call3(nr::PIDFD_OPEN, number as usize, 0, 0).map(|fd| fd as Fd)
}

/// Closes the descriptors from `first` to `last`.
pub fn close_range(first: Fd, last: Fd) -> Result<(), Errno> {
    call3(nr::CLOSE_RANGE, first as usize, last as usize, 0).map(drop)
}

pub fn close(fd: Fd) {
    // A descriptor is gone also when this fails.
    let _ = call1(nr::CLOSE, fd as usize);
}

pub fn duplicate_to(from: Fd, to: Fd) -> Result<(), Errno> {
    call3(nr::DUP3, from as usize, to as usize, 0).map(drop)
}

pub fn change_directory(path: &CStr) -> Result<(), Errno> {
    call1(nr::CHDIR, path.as_ptr() as usize).map(drop)
}

/// Only ever returns with an error.
///
/// # Safety
/// `arguments` and `environment` are arrays of strings that end with a null pointer.
pub unsafe fn execute(
    path: *const c_char,
    arguments: *const *const c_char,
    environment: *const *const c_char,
) -> Errno {
    call3(nr::EXECVE, path as usize, arguments as usize, environment as usize).err().unwrap_or(EPROTO)
}

/// Sends a signal to a process, or to a group if the number is negative. Must be given a number that is pinned.
pub fn signal(number: c_int, signal: c_int) -> Result<(), Errno> {
    if number.unsigned_abs() <= 1 {
        return Err(EPERM);
    }
    call3(nr::KILL, number as usize, signal as usize, 0).map(drop)
}

/// Sends a signal to the process that a handle stands for.
pub fn signal_by_handle(handle: Fd, signal: c_int) -> Result<(), Errno> {
    call4(nr::PIDFD_SEND_SIGNAL, handle as usize, signal as usize, 0, 0).map(drop)
}

/// Sends a signal to the group which the process that a pidfd stands for leads. Fails before Linux 6.9.
pub fn signal_group_by_handle(handle: Fd, signal: c_int) -> Result<(), Errno> {
    const PIDFD_SIGNAL_PROCESS_GROUP: usize = 1 << 2;
    call4(nr::PIDFD_SEND_SIGNAL, handle as usize, signal as usize, 0, PIDFD_SIGNAL_PROCESS_GROUP).map(drop)
}

/// Gives back the whole pages of this memory, which are all zeros from then on. It is no loss if that fails.
///
/// # Safety
/// Nobody reads what is there any more.
pub unsafe fn forget(start: usize, end: usize) {
    /// Where pages are larger this may do nothing.
    const PAGE: usize = 4096;
    const MADV_DONTNEED: usize = 4;
    let (start, end) = (start.next_multiple_of(PAGE), end & !(PAGE - 1));
    if start < end {
        let _ = call3(nr::MADVISE, start, end - start, MADV_DONTNEED);
    }
}

/// Nanoseconds of the monotonic clock.
pub fn now_ns() -> u64 {
    const CLOCK_MONOTONIC: usize = 1;
    let mut now = [0i64; 2];
    let _ = call3(nr::CLOCK_GETTIME, CLOCK_MONOTONIC, now.as_mut_ptr() as usize, 0);
    let [seconds, nanoseconds] = now;
    (seconds as u64).wrapping_mul(1_000_000_000).wrapping_add(nanoseconds as u64)
}

/// Opens a file or a directory for reading; `at` is a directory, for paths that do not begin with a slash.
pub fn open_at(at: Fd, path: &CStr) -> Result<Fd, Errno> {
    open_as(at, path, O_RDONLY)
}

/// Opens a file that is there for writing.
pub fn open_to_write(at: Fd, path: &CStr) -> Result<Fd, Errno> {
    open_as(at, path, O_WRONLY)
}

fn open_as(at: Fd, path: &CStr, how: usize) -> Result<Fd, Errno> {
    let path = path.as_ptr() as usize;
    call4(nr::OPENAT, at as usize, path, how | O_CLOEXEC, 0).map(|fd| fd as Fd)
}

pub fn open(path: &CStr) -> Result<Fd, Errno> {
    open_at(HERE, path)
}

pub fn read(fd: Fd, buffer: &mut [u8]) -> Result<usize, Errno> {
    loop {
        match call3(nr::READ, fd as usize, buffer.as_mut_ptr() as usize, buffer.len()) {
            Err(EINTR) => {}
            result => return result,
        }
    }
}

/// Writes a few bytes, all or none of which a file of the kernel's takes.
pub fn write(fd: Fd, bytes: &[u8]) -> Result<(), Errno> {
    call3(nr::WRITE, fd as usize, bytes.as_ptr() as usize, bytes.len()).map(drop)
}

/// Reads where a symbolic link leads to. The rest of the buffer stays as it was.
pub fn read_link(path: &CStr, buffer: &mut [u8]) -> Result<usize, Errno> {
    let (path, start) = (path.as_ptr() as usize, buffer.as_mut_ptr() as usize);
    call4(nr::READLINKAT, HERE as usize, path, start, buffer.len())
}

/// Removes an empty directory.
pub fn remove_directory(path: &CStr) -> Result<(), Errno> {
    const AT_REMOVEDIR: usize = 0x200;
    call3(nr::UNLINKAT, HERE as usize, path.as_ptr() as usize, AT_REMOVEDIR).map(drop)
}

/// Keeps what is mounted in this mount namespace from others. What they mount still comes here.
pub fn keep_mounts_to_ourselves() -> Result<(), Errno> {
    const MS_REC: usize = 0x4000;
    const MS_SLAVE: usize = 0x8_0000;
    call(nr::MOUNT, [0, c"/".as_ptr() as usize, 0, MS_REC | MS_SLAVE, 0, 0]).map(drop)
}

/// Mounts the `/proc` of this process's pid namespace.
pub fn mount_proc() -> Result<(), Errno> {
    const NOSUID_NODEV_NOEXEC: usize = 2 | 4 | 8;
    let kind = c"proc".as_ptr() as usize;
    call(nr::MOUNT, [kind, c"/proc".as_ptr() as usize, kind, NOSUID_NODEV_NOEXEC, 0, 0]).map(drop)
}

/// Reads entries of a directory, in the layout of `linux_dirent64`.
pub fn read_entries(fd: Fd, buffer: &mut [u64]) -> Result<usize, Errno> {
    call3(nr::GETDENTS64, fd as usize, buffer.as_mut_ptr() as usize, size_of_val(buffer))
}

/// How many names a file has below the directory `at`; those of a task directory in `/proc` are its threads and two.
pub fn link_count(at: Fd, path: &CStr) -> Result<u32, Errno> {
    const STATX_NLINK: usize = 4;
    const LINKS_AT: usize = 4;
    let mut buffer = [0u32; 64];
    let found = buffer.as_mut_ptr() as usize;
    call(nr::STATX, [at as usize, path.as_ptr() as usize, 0, STATX_NLINK, found, 0])?;
    Ok(buffer[LINKS_AT])
}

/// Lets this process have as many descriptors as it may.
pub fn raise_descriptor_limit() {
    const RLIMIT_NOFILE: usize = 7;
    let mut limit = [0u64; 2];
    if call4(nr::PRLIMIT64, 0, RLIMIT_NOFILE, 0, limit.as_mut_ptr() as usize).is_ok() {
        limit[0] = limit[1];
        let _ = call4(nr::PRLIMIT64, 0, RLIMIT_NOFILE, limit.as_ptr() as usize, 0);
    }
}

/// A descriptor that becomes readable when a child has ended. SIGCHLD must be blocked.
pub fn listen_for_children() -> Result<Fd, Errno> {
    const CLOEXEC_NONBLOCK: usize = O_CLOEXEC | 0o4000;
    let mask: u64 = 1 << (SIGCHLD - 1);
    let mask = ptr::from_ref(&mask) as usize;
    call4(nr::SIGNALFD4, usize::MAX, mask, MASK_BYTES, CLOEXEC_NONBLOCK).map(|fd| fd as Fd)
}

/// Takes what has piled up at the descriptor of [`listen_for_children`].
pub fn clear(listener: Fd) {
    // One structure; equal signals are not queued twice.
    let mut bytes = [0u64; 16];
    let _ = call3(nr::READ, listener as usize, bytes.as_mut_ptr() as usize, size_of_val(&bytes));
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Poll {
    fd: Fd,
    events: i16,
    pub happened: i16,
}

impl Poll {
    /// Waits for something to read, or for the end. A negative descriptor is never ready.
    pub const fn readable(fd: Fd) -> Self {
        const POLLIN: i16 = 1;
        Self { fd, events: POLLIN, happened: 0 }
    }

    /// Waits for room to write.
    pub const fn writable(fd: Fd) -> Self {
        const POLLOUT: i16 = 4;
        Self { fd, events: POLLOUT, happened: 0 }
    }

    pub fn is_ready(&self) -> bool {
        self.happened != 0
    }
}

/// Waits until one is ready, at most for so many nanoseconds. Returns how many are ready.
pub fn poll(polls: &mut [Poll], at_most_ns: Option<u64>) -> Result<usize, Errno> {
    const SECOND: u64 = 1_000_000_000;
    // The kernel writes the rest of it back.
    let mut time = at_most_ns.map(|ns| [ns / SECOND, ns % SECOND]);
    let time = time.as_mut().map_or(0, |time| time.as_mut_ptr() as usize);
    call(nr::PPOLL, [polls.as_mut_ptr() as usize, polls.len(), time, 0, MASK_BYTES, 0])
}

/// Sends one packet, without waiting for room.
pub fn send(socket: Fd, bytes: &[u8]) -> Result<(), Errno> {
    const MSG_DONTWAIT: usize = 0x40;
    const MSG_NOSIGNAL: usize = 0x4000;
    let (start, length) = (bytes.as_ptr() as usize, bytes.len());
    call(nr::SENDTO, [socket as usize, start, length, MSG_DONTWAIT | MSG_NOSIGNAL, 0, 0]).map(drop)
}

/// Sends one packet with a descriptor, without waiting for room.
pub fn send_with(socket: Fd, bytes: &[u8], fd: Fd) -> Result<(), Errno> {
    const MSG_DONTWAIT: usize = 0x40;
    const MSG_NOSIGNAL: usize = 0x4000;
    let length = (HEAD_BYTES + size_of::<Fd>()) as u64;
    let mut control = [length, join(SOL_SOCKET, SCM_RIGHTS), join(fd, 0)];
    let mut span = Span { start: bytes.as_ptr().cast_mut().cast(), length: bytes.len() };
    let head = MessageHead::new(&mut span, &mut control);
    let head = ptr::from_ref(&head) as usize;
    call3(nr::SENDMSG, socket as usize, head, MSG_DONTWAIT | MSG_NOSIGNAL).map(drop)
}

/// What a look at the socket brought.
pub enum Packet {
    /// An order; what it did not bring is zero.
    Order([u8; ORDER_BYTES]),
    NothingYet,
    End,
}

/// Takes one packet, without waiting for it.
pub fn receive(socket: Fd) -> Packet {
    const MSG_DONTWAIT: usize = 0x40;
    let mut bytes = [0u8; ORDER_BYTES];
    let place = bytes.as_mut_ptr() as usize;
    match call(nr::RECVFROM, [socket as usize, place, bytes.len(), MSG_DONTWAIT, 0, 0]) {
        Ok(0) => Packet::End,
        Ok(_) => Packet::Order(bytes),
        Err(EAGAIN | EINTR) => Packet::NothingYet,
        Err(_) => Packet::End,
    }
}

/// The most descriptors that a request carries.
pub const REQUEST_FDS: usize = 3;

#[repr(C)]
struct Span {
    start: *mut c_void,
    length: usize,
}

#[repr(C)]
struct MessageHead {
    name: *mut c_void,
    name_length: u32,
    spans: *mut Span,
    span_count: usize,
    control: *mut c_void,
    control_length: usize,
    flags: c_int,
}

impl MessageHead {
    fn new(span: &mut Span, control: &mut [u64]) -> Self {
        Self {
            name: ptr::null_mut(),
            name_length: 0,
            spans: span,
            span_count: 1,
            control: control.as_mut_ptr().cast(),
            control_length: size_of_val(control),
            flags: 0,
        }
    }
}

/// Descriptors come after a head of 16 bytes: length, level, kind.
const HEAD_BYTES: usize = 16;
const SOL_SOCKET: i32 = 1;
const SCM_RIGHTS: i32 = 1;

/// Takes the request: one byte and up to three descriptors, -1 for those that did not come. Waits for it.
pub fn receive_request(socket: Fd) -> Result<(u8, [Fd; REQUEST_FDS]), Errno> {
    const MSG_CMSG_CLOEXEC: usize = 0x4000_0000;
    let mut byte = 0u8;
    let mut control = [0u64; 4];
    let mut span = Span { start: ptr::from_mut(&mut byte).cast(), length: 1 };
    let mut head = MessageHead::new(&mut span, &mut control);
    let received = loop {
        match call3(nr::RECVMSG, socket as usize, ptr::from_mut(&mut head) as usize, MSG_CMSG_CLOEXEC) {
            Err(EINTR) => {}
            result => break result?,
        }
    };
    if received != 1 {
        return Err(EPROTO);
    }
    let mut fds = [-1; REQUEST_FDS];
    let length = control[0] as usize;
    let [level, kind] = split(control[1]);
    if head.control_length >= HEAD_BYTES && level == SOL_SOCKET && kind == SCM_RIGHTS {
        let mut words = [0i32; 4];
        for (pair, word) in words.chunks_exact_mut(2).zip(&control[2..]) {
            pair.copy_from_slice(&split(*word));
        }
        let count = length.saturating_sub(HEAD_BYTES) / size_of::<Fd>();
        for (place, fd) in fds.iter_mut().zip(words).take(count) {
            *place = fd;
        }
    }
    Ok((byte, fds))
}

/// The two halves of a word as they lie in memory.
fn split(word: u64) -> [i32; 2] {
    let [a, b, c, d, e, f, g, h] = word.to_ne_bytes();
    [i32::from_ne_bytes([a, b, c, d]), i32::from_ne_bytes([e, f, g, h])]
}

fn join(first: i32, second: i32) -> u64 {
    let ([a, b, c, d], [e, f, g, h]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

/// A child that has ended.
#[derive(Clone, Copy, Default)]
pub struct Ended {
    pub pid: c_int,
    pub code: u64,
    pub status: u64,
    pub user_us: u64,
    pub system_us: u64,
    pub peak_kib: u64,
}

/// The `si_code` of a child that has exited, and of one that was killed.
pub const CLD_EXITED: u64 = 1;
pub const CLD_KILLED: u64 = 2;

const P_ALL: usize = 0;
const P_PID: usize = 1;
const WNOHANG: usize = 1;
const WEXITED: usize = 4;
/// Also those whose end is told by another signal than SIGCHLD, or by none.
const WALL: usize = 0x4000_0000;
const WNOWAIT: usize = 0x0100_0000;

/// Looks for a child that has ended and leaves it. `None` if all live; `ECHILD` if there are none.
pub fn find_ended() -> Result<Option<c_int>, Errno> {
    let ended = wait(P_ALL, 0, WEXITED | WNOHANG | WNOWAIT)?;
    Ok(if ended.pid == 0 { None } else { Some(ended.pid) })
}

/// Reaps a child that has ended.
pub fn reap(pid: c_int) -> Result<Ended, Errno> {
    wait(P_PID, pid, WEXITED | WNOHANG)
}

/// Waits for the end of a child, and reaps it.
pub fn await_end(pid: c_int) -> Result<Ended, Errno> {
    loop {
        match wait(P_PID, pid, WEXITED) {
            Err(EINTR) => {}
            result => return result,
        }
    }
}

fn wait(who: usize, pid: c_int, how: usize) -> Result<Ended, Errno> {
    let mut info = [0i32; 32];
    let mut usage = [0u64; 18];
    let (info_at, usage_at) = (info.as_mut_ptr() as usize, usage.as_mut_ptr() as usize);
    call(nr::WAITID, [who, pid as usize, info_at, how | WALL, usage_at, 0])?;
    let [user_s, user_us, system_s, system_us, peak_kib, ..] = usage;
    Ok(Ended {
        code: info[2] as u64,
        pid: info[4],
        status: info[6] as u64,
        user_us: user_s.wrapping_mul(1_000_000).wrapping_add(user_us),
        system_us: system_s.wrapping_mul(1_000_000).wrapping_add(system_us),
        peak_kib,
    })
}

/// Makes a copy of this process, as the first of a pid namespace and with a mount namespace of its own; in a user
/// namespace of its own if so wanted. Returns 0 in the copy.
pub fn copy_into_namespaces(user_too: bool) -> Result<c_int, Errno> {
    const CLONE_NEWNS: usize = 0x2_0000;
    const CLONE_NEWUSER: usize = 0x1000_0000;
    const CLONE_NEWPID: usize = 0x2000_0000;
    let user = if user_too { CLONE_NEWUSER } else { 0 };
    // Nothing is shared, so the copy goes on with a stack of its own.
    call1(nr::CLONE, CLONE_NEWNS | CLONE_NEWPID | user | SIGCHLD as usize).map(|pid| pid as c_int)
}

const CLONE_VM: u64 = 0x100;
const CLONE_VFORK: u64 = 0x4000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

#[repr(C)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Makes a process that shares this one's memory, and returns when it has executed a program or ended. It runs
/// `body(argument)` on `stack`, in the control group `cgroup` if that is not negative.
///
/// # Safety
/// `body` must not return, must not unwind, and must leave this process's memory so that it can go on; `argument` is
/// valid for it.
pub unsafe fn clone_and_wait(
    stack: &mut [MaybeUninit<u64>],
    cgroup: Fd,
    body: unsafe extern "C" fn(*mut c_void) -> !,
    argument: *mut c_void,
) -> Result<c_int, Errno> {
    let flags = CLONE_VM | CLONE_VFORK;
    // The stack pointer must be a multiple of 16.
    let top = (stack.as_mut_ptr_range().end as usize) & !15;
    let result = if cgroup < 0 {
        // SAFETY: the new stack is ours, large enough and used by nobody else while the child runs; the rest is the
        // caller's promise.
        unsafe { arch::clone(nr::CLONE, flags as usize | SIGCHLD as usize, top, body, argument) }
    } else {
        let start = (stack.as_ptr() as usize).next_multiple_of(16);
        let arguments = CloneArguments {
            flags: flags | CLONE_INTO_CGROUP,
            exit_signal: SIGCHLD as u64,
            stack: start as u64,
            stack_size: (top - start) as u64,
            cgroup: cgroup as u64,
            // SAFETY: all fields are numbers.
            ..unsafe { zeroed() }
        };
        let at = ptr::from_ref(&arguments) as usize;
        // SAFETY: as above.
        unsafe { arch::clone(nr::CLONE3, at, size_of::<CloneArguments>(), body, argument) }
    };
    check(result).map(|pid| pid as c_int)
}
