//! What Rust cannot check: fork and exec, signal handlers, timers, and descriptors by number.
//!
//! A node is a single-threaded process from its start to its end; that is what makes forking and going on in the
//! child sound. The handler of all signals is [`on_signal`]; it and what it calls use nothing but
//! async-signal-safe calls (signal-safety(7)), atomics and the stack.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering::SeqCst};

use nix::libc;

use super::code;
use super::packet::Packet;

/// A set of signals; signal `n` is bit `n - 1`.
pub(super) type Signals = u64;

/// The set of one signal.
pub(super) const fn only(signal: c_int) -> Signals {
    1 << (signal - 1)
}

/// The signals of a set, in order.
pub(super) fn numbers(set: Signals) -> impl Iterator<Item = c_int> {
    (1..=64).filter(move |signal| set & only(*signal) != 0)
}

/// The signal that says that the time to live is over. Not `SIGALRM`: an alarm that was set before exec is a way
/// to run a program with a timeout, and must reach the script.
pub(super) fn expiry_signal() -> c_int {
    libc::SIGRTMAX()
}

/// The signals that the player cannot live without: it handles them and keeps them unblocked.
pub(super) fn of_the_player() -> Signals {
    only(libc::SIGIO) | only(libc::SIGCHLD) | only(expiry_signal())
}

// ---- Before main ----

static PIPE_WAS_IGNORED: AtomicBool = AtomicBool::new(false);
static CLOSED_AT_START: AtomicU8 = AtomicU8::new(0);

static MAIN_IS_AHEAD: AtomicBool = AtomicBool::new(false);

/// Rust's runtime ignores SIGPIPE and opens /dev/null on closed standard descriptors before `main`; what the process
/// was really given can be seen only before that.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = before_main;

extern "C" fn before_main() {
    PIPE_WAS_IGNORED.store(action_of(libc::SIGPIPE) == Action::Ignore, SeqCst);
    for fd in 0..3 {
        if access_mode(fd).is_none() {
            CLOSED_AT_START.fetch_or(1 << fd, SeqCst);
        }
    }
    // A fake has no use for what the runtime does before `main`, which takes as long as all that a short script does. Only this C
    // library has its arguments ready by now.
    if cfg!(target_env = "gnu") {
        MAIN_IS_AHEAD.store(true, SeqCst);
        super::entry::reenter_if_fake();
        MAIN_IS_AHEAD.store(false, SeqCst);
    }
}

/// Whether Rust's runtime has not changed anything yet.
pub(super) fn main_is_ahead() -> bool {
    MAIN_IS_AHEAD.load(SeqCst)
}

/// Whether SIGPIPE was ignored when this program was started.
pub(super) fn pipe_was_ignored_at_start() -> bool {
    PIPE_WAS_IGNORED.load(SeqCst)
}

/// Whether a standard descriptor was closed when this program was started.
pub(super) fn was_closed_at_start(fd: c_int) -> bool {
    (0..3).contains(&fd) && CLOSED_AT_START.load(SeqCst) & (1 << fd) != 0
}

/// The path under which the kernel started this program.
pub(super) fn started_as() -> Option<&'static CStr> {
    // SAFETY: AT_EXECFN is zero or the address of a string that stays in place as long as the process lives.
    unsafe {
        let address = libc::getauxval(libc::AT_EXECFN) as *const c_char;
        (!address.is_null()).then(|| CStr::from_ptr(address))
    }
}

unsafe extern "C" {
    static environ: *const *const c_char;
}

/// How many environment variables this process has.
pub(super) fn environment_length() -> usize {
    // SAFETY: `environ` is null or a list that ends with a null pointer; the player never changes it.
    unsafe {
        let mut entry = environ;
        let mut count = 0;
        while !entry.is_null() && !(*entry).is_null() {
            entry = entry.add(1);
            count += 1;
        }
        count
    }
}

// ---- Time ----

/// Now, on the monotonic clock.
pub(super) fn now_ns() -> u64 {
    let mut now = timespec(0);
    // SAFETY: the pointer is valid for the call.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn timespec(ns: u64) -> libc::timespec {
    libc::timespec { tv_sec: (ns / 1_000_000_000) as libc::time_t, tv_nsec: (ns % 1_000_000_000) as _ }
}

/// Has [`expiry_signal`] sent to this process at an instant of the monotonic clock.
pub(super) fn expire_at(until_ns: u64) -> io::Result<()> {
    // SAFETY: all-zero is a valid `sigevent` and `itimerspec`; the pointers are valid for the calls.
    unsafe {
        let mut event: libc::sigevent = MaybeUninit::zeroed().assume_init();
        event.sigev_notify = libc::SIGEV_SIGNAL;
        event.sigev_signo = expiry_signal();
        let mut timer: libc::timer_t = ptr::null_mut();
        checked(libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer))?;
        let mut when: libc::itimerspec = MaybeUninit::zeroed().assume_init();
        when.it_value = timespec(until_ns.max(1));
        checked(libc::timer_settime(timer, libc::TIMER_ABSTIME, &raw const when, ptr::null_mut()))?;
    }
    Ok(())
}

// ---- Signals ----

/// What a signal does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Default,
    Ignore,
    Handle,
}

/// What a signal does now. Default for those that the C library keeps to itself.
pub(super) fn action_of(signal: c_int) -> Action {
    // SAFETY: all-zero is a valid `sigaction`; with a null new action nothing is changed.
    let handler = unsafe {
        let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
        if libc::sigaction(signal, ptr::null(), &raw mut action) != 0 {
            return Action::Default;
        }
        action.sa_sigaction
    };
    match handler {
        libc::SIG_DFL => Action::Default,
        libc::SIG_IGN => Action::Ignore,
        _ => Action::Handle,
    }
}

/// Sets what a signal does. `Handle` is [`on_signal`].
pub(super) fn set_action(signal: c_int, action: Action) -> io::Result<()> {
    // SAFETY: all-zero is a valid `sigaction`; the handler has the signature that SA_SIGINFO asks for.
    unsafe {
        let mut new: libc::sigaction = MaybeUninit::zeroed().assume_init();
        match action {
            Action::Default => new.sa_sigaction = libc::SIG_DFL,
            Action::Ignore => new.sa_sigaction = libc::SIG_IGN,
            Action::Handle => {
                let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_signal;
                new.sa_sigaction = handler as libc::sighandler_t;
                new.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
            }
        }
        checked(libc::sigaction(signal, &raw const new, ptr::null_mut()))
    }
}

/// The signals that are ignored, or handled, now.
pub(super) fn signals_with(action: Action) -> Signals {
    numbers(!0).filter(|signal| action_of(*signal) == action).map(only).sum()
}

/// The signal mask.
pub(super) fn mask() -> Signals {
    change_mask(libc::SIG_BLOCK, 0)
}

/// Sets the signal mask and returns the one before.
pub(super) fn set_mask(set: Signals) -> Signals {
    change_mask(libc::SIG_SETMASK, set)
}

/// Adds signals to the mask and returns the one before.
pub(super) fn block(set: Signals) -> Signals {
    change_mask(libc::SIG_BLOCK, set)
}

/// Takes signals out of the mask and returns the one before.
pub(super) fn unblock(set: Signals) -> Signals {
    change_mask(libc::SIG_UNBLOCK, set)
}

fn set_of(signals: Signals) -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the set is initialised by sigemptyset before it is used.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in numbers(signals) {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        set.assume_init()
    }
}

fn change_mask(how: c_int, set: Signals) -> Signals {
    let new = set_of(set);
    // SAFETY: the other set is initialised by sigemptyset before it is used.
    unsafe {
        let mut old = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(old.as_mut_ptr());
        libc::sigprocmask(how, &raw const new, old.as_mut_ptr());
        members(old.as_ptr())
    }
}

/// # Safety
///
/// `set` must point to an initialised set.
unsafe fn members(set: *const libc::sigset_t) -> Signals {
    // SAFETY: the caller says so.
    (1..=64).filter(|signal| unsafe { libc::sigismember(set, *signal) } == 1).map(only).sum()
}

/// Sends a signal to this process.
pub(super) fn raise(signal: c_int) {
    // SAFETY: no memory is involved.
    unsafe {
        libc::kill(libc::getpid(), signal);
    }
}

// ---- The handler and what it knows ----

/// What the handler does when a signal comes, beyond reporting it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handling {
    /// Nothing, not even a report.
    Silent,
    Log,
    Exit {
        code: u8,
    },
    ExitSlowly {
        takes_ns: u64,
        code: u8,
    },
    Fork {
        count: u8,
    },
    /// Leaves the receipt.
    CleanUp {
        takes_ns: u64,
        code: u8,
    },
    Reraise {
        takes_ns: u64,
    },
    IgnoreFirst {
        count: u32,
        code: u8,
    },
    /// Left to the node, which sees it when it waits ([`take_due`]).
    Later,
}

struct Slot {
    kind: AtomicU8,
    number: AtomicU8,
    /// How long it takes; of [`IGNORE_FIRST`] how often it is still ignored.
    amount: AtomicU64,
}

const SILENT: u8 = 0;
const LOG: u8 = 1;
const EXIT: u8 = 2;
const EXIT_SLOWLY: u8 = 3;
const FORK: u8 = 4;
const CLEAN_UP: u8 = 5;
const RERAISE: u8 = 6;
const IGNORE_FIRST: u8 = 7;
const LATER: u8 = 8;

static SLOTS: [Slot; 65] =
    [const { Slot { kind: AtomicU8::new(SILENT), number: AtomicU8::new(0), amount: AtomicU64::new(0) } }; 65];

/// Sets what the handler does for a signal. To be called with that signal blocked.
pub(super) fn set_handling(signal: c_int, handling: Handling) {
    let slot = &SLOTS[signal as usize];
    let (kind, number, amount) = match handling {
        Handling::Silent => (SILENT, 0, 0),
        Handling::Log => (LOG, 0, 0),
        Handling::Exit { code } => (EXIT, code, 0),
        Handling::ExitSlowly { takes_ns, code } => (EXIT_SLOWLY, code, takes_ns),
        Handling::Fork { count } => (FORK, count, 0),
        Handling::CleanUp { takes_ns, code } => (CLEAN_UP, code, takes_ns),
        Handling::Reraise { takes_ns } => (RERAISE, 0, takes_ns),
        Handling::IgnoreFirst { count, code } => (IGNORE_FIRST, code, count.into()),
        Handling::Later => (LATER, 0, 0),
    };
    slot.number.store(number, SeqCst);
    slot.amount.store(amount, SeqCst);
    slot.kind.store(kind, SeqCst);
    if kind == LATER {
        LEFT_TO_NODE.fetch_or(only(signal), SeqCst);
    } else {
        LEFT_TO_NODE.fetch_and(!only(signal), SeqCst);
    }
}

/// The signals whose handling is left to the node, and those of them that have come.
static LEFT_TO_NODE: AtomicU64 = AtomicU64::new(0);
static DUE: AtomicU64 = AtomicU64::new(0);

/// The signals whose handling is left to the node.
pub(super) fn left_to_node() -> Signals {
    LEFT_TO_NODE.load(SeqCst)
}

/// Those that have come since this was asked last.
pub(super) fn take_due() -> Signals {
    DUE.swap(0, SeqCst)
}

/// Where the handler leaves a file that says that it has cleaned up.
static RECEIPT: AtomicPtr<c_char> = AtomicPtr::new(ptr::null_mut());

/// Sets the path of the receipt. Kept for the life of the process.
pub(super) fn set_receipt(path: CString) {
    RECEIPT.store(path.into_raw(), SeqCst);
}

/// Only async-signal-safe calls.
fn leave_receipt() -> bool {
    const WORDS: &[u8] = b"cleaned up\n";
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    let path = RECEIPT.load(SeqCst);
    // SAFETY: a path that was set is a C string that is never freed; the pointer and length are those of a slice.
    unsafe {
        let fd = if path.is_null() { -1 } else { libc::open(path, flags, 0o600) };
        let written = fd >= 0 && libc::write(fd, WORDS.as_ptr().cast(), WORDS.len()) == WORDS.len() as isize;
        written && close(fd)
    }
}

/// The control connection, or -1.
static LINK: AtomicI32 = AtomicI32::new(-1);

/// The descriptor of the control connection.
pub(super) fn link() -> Option<c_int> {
    let fd = LINK.load(SeqCst);
    (fd >= 0).then_some(fd)
}

/// Makes `fd` the control connection: reports of signals go there, and its end is this process's end, which
/// SIGIO brings.
pub(super) fn set_link(fd: c_int) -> io::Result<()> {
    LINK.store(fd, SeqCst);
    // SAFETY: no memory is involved.
    unsafe {
        checked(libc::fcntl(fd, libc::F_SETOWN, libc::getpid()))?;
        let flags = libc::fcntl(fd, libc::F_GETFL);
        checked(flags)?;
        checked(libc::fcntl(fd, libc::F_SETFL, flags | libc::O_ASYNC))?;
    }
    // It may have ended before its end could have been announced.
    exit_if_unlinked();
    Ok(())
}

/// Closes the control connection without exiting, in a process that has just been forked.
pub(super) fn drop_link() {
    if let Some(fd) = leave_link() {
        close(fd);
    }
}

/// Forgets the control connection, in a process that has just been forked; it stays open under its number.
pub(super) fn leave_link() -> Option<c_int> {
    let fd = LINK.swap(-1, SeqCst);
    (fd >= 0).then_some(fd)
}

/// Ends this process if the control connection has ended.
pub(super) fn exit_if_unlinked() {
    let Some(fd) = link() else { return };
    let mut entry = libc::pollfd { fd, events: 0, revents: 0 };
    // SAFETY: one valid entry.
    let count = unsafe { libc::poll(&raw mut entry, 1, 0) };
    if count > 0 && entry.revents & (libc::POLLHUP | libc::POLLERR) != 0 {
        exit(code::UNLINKED);
    }
}

/// Most children that are remembered; the limit on processes of a script is not higher.
const MOST_CHILDREN: usize = crate::script::MOST_PROCESSES as usize;

/// The children to reap when they exit. Zombies that are made on purpose are not in here.
static CHILDREN: [AtomicI32; MOST_CHILDREN] = [const { AtomicI32::new(0) }; MOST_CHILDREN];

/// Has a child reaped when it exits.
pub(super) fn remember_child(pid: c_int) {
    for slot in &CHILDREN {
        if slot.compare_exchange(0, pid, SeqCst, SeqCst).is_ok() {
            break;
        }
    }
    // It may have exited before it was remembered.
    reap_children();
}

/// The children that are remembered.
pub(super) fn children() -> Vec<c_int> {
    CHILDREN.iter().map(|slot| slot.load(SeqCst)).filter(|pid| *pid > 0).collect()
}

/// Forgets all children, in a process that has just been forked.
pub(super) fn forget_children() {
    for slot in &CHILDREN {
        slot.store(0, SeqCst);
    }
}

fn reap_children() {
    for slot in &CHILDREN {
        let pid = slot.load(SeqCst);
        if pid <= 0 {
            continue;
        }
        // SAFETY: a null status is allowed. The pid is a child's that was not waited for, so it is no one else's.
        let reaped = unsafe { libc::waitpid(pid, ptr::null_mut(), libc::WNOHANG) };
        if reaped != 0 {
            slot.store(0, SeqCst);
        }
    }
}

/// What the player's own signals were before it took them, to be given back to what it starts.
static TAKEN_IGNORED: AtomicU64 = AtomicU64::new(0);
static TAKEN_BLOCKED: AtomicU64 = AtomicU64::new(0);

/// Takes the player's own signals: handled and unblocked.
pub(super) fn take_player_signals() -> io::Result<()> {
    let own = of_the_player();
    let ignored = numbers(own).filter(|signal| action_of(*signal) == Action::Ignore).map(only).sum();
    TAKEN_IGNORED.store(ignored, SeqCst);
    for signal in numbers(own) {
        set_action(signal, Action::Handle)?;
    }
    TAKEN_BLOCKED.store(unblock(own) & own, SeqCst);
    Ok(())
}

/// Gives the player's own signals back as they were; returns `mask` as a started program must get it. Only
/// async-signal-safe calls.
pub(super) fn give_player_signals_back(mask: Signals) -> Signals {
    let own = of_the_player();
    let ignored = TAKEN_IGNORED.load(SeqCst);
    for signal in numbers(own) {
        let action = if ignored & only(signal) != 0 { Action::Ignore } else { Action::Default };
        // Cannot fail for a signal that was set before.
        let _ = set_action(signal, action);
    }
    (mask & !own) | TAKEN_BLOCKED.load(SeqCst)
}

/// How many nodes a handler may start in one process.
pub(super) const MOST_HANDLER_FORKS: usize = 16;

/// How the handler starts nodes: all strings are made beforehand.
pub(super) struct ForkPlan {
    program: *const c_char,
    arguments: [*const *const c_char; MOST_HANDLER_FORKS],
}

static FORK_PLAN: AtomicPtr<ForkPlan> = AtomicPtr::new(ptr::null_mut());
static FORKED: AtomicU32 = AtomicU32::new(0);

/// Prepares what the handler executes: the arguments of the first, second … node. Kept for the life of the process.
pub(super) fn prepare_handler_forks(program: &CStr, arguments: [Vec<CString>; MOST_HANDLER_FORKS]) {
    let plan = ForkPlan {
        program: program.to_owned().into_raw(),
        arguments: arguments.map(|arguments| {
            let mut list: Vec<*const c_char> =
                arguments.into_iter().map(|argument| argument.into_raw().cast_const()).collect();
            list.push(ptr::null());
            list.leak().as_ptr()
        }),
    };
    FORK_PLAN.store(Box::into_raw(Box::new(plan)), SeqCst);
}

/// How many nodes the handler has started.
pub(super) fn handler_forks() -> u32 {
    FORKED.load(SeqCst)
}

/// Sets how many nodes the handler has started: what an earlier image of this process did, or none.
pub(super) fn set_handler_forks(count: u32) {
    FORKED.store(count, SeqCst);
}

extern "C" fn on_signal(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the C library says where errno is; the code that was interrupted must find it as it was.
    let errno = unsafe { *libc::__errno_location() };
    if signal == libc::SIGIO {
        exit_if_unlinked();
    } else if signal == expiry_signal() {
        send_now(&Packet::exiting(code::EXPIRED.into(), now_ns()));
        exit(code::EXPIRED);
    } else {
        if signal == libc::SIGCHLD {
            reap_children();
        }
        // SAFETY: the kernel passes a valid siginfo and context to a handler with SA_SIGINFO.
        unsafe { react(signal, &*info, context.cast()) };
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// # Safety
///
/// `context` must be what the kernel passed to the handler.
unsafe fn react(signal: c_int, info: &libc::siginfo_t, context: *const libc::ucontext_t) {
    let slot = &SLOTS[signal as usize];
    let number = slot.number.load(SeqCst);
    let kind = slot.kind.load(SeqCst);
    if kind == SILENT {
        return;
    }
    let sender = match info.si_code {
        // SAFETY: with these codes the kernel fills in the sender's pid.
        libc::SI_USER | libc::SI_QUEUE | libc::SI_TKILL => unsafe { info.si_pid() },
        _ => 0,
    };
    send(Packet::signal(signal, sender, now_ns()).bytes());
    match kind {
        EXIT => exit_with_report(number),
        EXIT_SLOWLY => {
            sleep_until(now_ns().saturating_add(slot.amount.load(SeqCst)));
            exit_with_report(number);
        }
        CLEAN_UP => {
            sleep_until(now_ns().saturating_add(slot.amount.load(SeqCst)));
            exit_with_report(if leave_receipt() { number } else { code::BROKEN });
        }
        RERAISE => {
            sleep_until(now_ns().saturating_add(slot.amount.load(SeqCst)));
            set_mask(!(only(libc::SIGIO) | only(expiry_signal())));
            send(Packet::exiting(-signal, now_ns()).bytes());
            // Cannot fail for a signal that is handled.
            let _ = set_action(signal, Action::Default);
            raise(signal);
            unblock(only(signal));
            exit(code::BROKEN);
        }
        IGNORE_FIRST => {
            let left = slot.amount.load(SeqCst);
            if left == 0 {
                exit_with_report(number);
            }
            slot.amount.store(left - 1, SeqCst);
        }
        LATER => {
            DUE.fetch_or(only(signal), SeqCst);
        }
        FORK => {
            // SAFETY: the caller says so; the mask is the one that was in force before the handler.
            let mask = unsafe { members(&raw const (*context).uc_sigmask) };
            for _ in 0..number {
                fork_from_handler(mask);
            }
        }
        _ => {}
    }
}

fn sleep_until(until_ns: u64) {
    let until = timespec(until_ns);
    // SAFETY: the time is valid; with TIMER_ABSTIME nothing is written back.
    unsafe {
        while libc::clock_nanosleep(
            libc::CLOCK_MONOTONIC,
            libc::TIMER_ABSTIME,
            &raw const until,
            ptr::null_mut(),
        ) == libc::EINTR
        {}
    }
}

fn fork_from_handler(mask: Signals) {
    // SAFETY: once set, the plan is never freed.
    let Some(plan) = (unsafe { FORK_PLAN.load(SeqCst).as_ref() }) else { return };
    let index = FORKED.load(SeqCst) as usize;
    if index >= MOST_HANDLER_FORKS {
        return;
    }
    FORKED.store(index as u32 + 1, SeqCst);
    // SAFETY: this is fork(2) without the C library's locks and hooks, which a handler must not run. The child calls
    // only async-signal-safe functions until it executes the program; the lists in the plan end with null.
    unsafe {
        let pid = libc::syscall(libc::SYS_clone, libc::c_long::from(libc::SIGCHLD), 0, 0, 0, 0) as c_int;
        match pid {
            0 => {
                drop_link();
                let _ = to_dev_null(&[0, 1, 2]);
                set_mask(give_player_signals_back(mask));
                libc::execve(plan.program, plan.arguments[index], environ);
                exit(code::BROKEN);
            }
            1.. => remember_child(pid),
            _ => {}
        }
    }
}

// ---- Reports ----

/// Sends one packet over the control connection, if there is one; waits for room. If the connection has ended,
/// so does this process.
pub(super) fn send(packet: &[u8]) {
    if let Some(fd) = link() {
        send_on(fd, packet);
    }
}

/// The same over a connection of this number.
pub(super) fn send_on(fd: c_int, packet: &[u8]) {
    loop {
        // SAFETY: the pointer and length are those of a slice.
        let sent = unsafe { libc::send(fd, packet.as_ptr().cast(), packet.len(), libc::MSG_NOSIGNAL) };
        if sent >= 0 {
            return;
        }
        if io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
            exit(code::UNLINKED);
        }
    }
}

/// Sends one packet if there is room for it.
fn send_now(packet: &Packet) {
    let Some(fd) = link() else { return };
    let bytes = packet.bytes();
    // SAFETY: the pointer and length are those of a slice.
    unsafe {
        libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT);
    }
}

/// Reports that this process exits, then exits. No handled signal comes between the two.
pub(super) fn exit_with_report(code: u8) -> ! {
    set_mask(!(only(libc::SIGIO) | only(expiry_signal())));
    send(Packet::exiting(code.into(), now_ns()).bytes());
    exit(code)
}

/// Exits at once: no destructors, no buffers, no hooks.
pub(super) fn exit(code: u8) -> ! {
    // SAFETY: always safe; never returns.
    unsafe { libc::_exit(code.into()) }
}

/// Dies from a write to a page that may not be written to.
pub(super) fn fault() {
    // SAFETY: the mapping is fresh, so nobody else's memory is touched; the write is meant to be refused.
    unsafe {
        let page = libc::mmap(
            ptr::null_mut(),
            4096,
            libc::PROT_NONE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        page.cast::<u8>().write_volatile(1);
    }
}

// ---- Processes ----

/// Which side of a fork this is.
pub(super) enum Side {
    Child,
    /// With the child's pid.
    Parent(c_int),
}

/// Forks. The child must not return from the player.
pub(super) fn fork() -> io::Result<Side> {
    // SAFETY: the process is single-threaded, so no lock is held by a thread that is missing in the child.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Child => Ok(Side::Child),
        nix::unistd::ForkResult::Parent { child } => Ok(Side::Parent(child.as_raw())),
    }
}

/// Replaces this program, with its environment or an empty one. Returns only if that fails.
pub(super) fn execute(program: &CStr, arguments: &[CString], keeps_environment: bool) -> io::Error {
    let mut list: Vec<*const c_char> = arguments.iter().map(|argument| argument.as_ptr()).collect();
    list.push(ptr::null());
    let nothing: [*const c_char; 1] = [ptr::null()];
    // SAFETY: all lists end with null and their strings live until the call returns.
    unsafe {
        let environment = if keeps_environment { environ } else { nothing.as_ptr() };
        libc::execve(program.as_ptr(), list.as_ptr(), environment);
    }
    io::Error::last_os_error()
}

/// Runs `child` in a child that shares this process's memory, and blocks until that has executed a program or is gone; what the
/// player knows is then as it was before. To be called with all signals blocked. `child` must not return.
pub(super) fn vfork(mut child: &mut dyn FnMut()) -> io::Result<c_int> {
    const STACK: usize = 1024 * 1024;
    extern "C" fn enter(argument: *mut c_void) -> c_int {
        // SAFETY: it is the pointer that is passed below, and whom it belongs to waits.
        unsafe { (*argument.cast::<&mut dyn FnMut()>())() };
        code::BROKEN.into()
    }
    let known = Known::now();
    // SAFETY: the stack is fresh and outlives the child's use of it, for this process is blocked as long as the child
    // shares its memory. Nothing else runs in this memory meanwhile: there are no other threads.
    let pid = unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
        let stack = libc::mmap(ptr::null_mut(), STACK, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        if stack == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        let pid = libc::clone(enter, stack.byte_add(STACK), flags, (&raw mut child).cast());
        let failure = io::Error::last_os_error();
        libc::munmap(stack, STACK);
        if pid < 0 {
            return Err(failure);
        }
        pid
    };
    known.restore();
    Ok(pid)
}

/// What the player knows of its process beside the node, which a child that shares its memory writes over.
struct Known {
    link: c_int,
    children: [c_int; MOST_CHILDREN],
    slots: [(u8, u8, u64); 65],
    sets: [Signals; 4],
    plan: *mut ForkPlan,
    forked: u32,
    receipt: *mut c_char,
}

impl Known {
    fn now() -> Self {
        let slot = |slot: &Slot| (slot.kind.load(SeqCst), slot.number.load(SeqCst), slot.amount.load(SeqCst));
        Self {
            link: LINK.load(SeqCst),
            children: std::array::from_fn(|index| CHILDREN[index].load(SeqCst)),
            slots: std::array::from_fn(|index| slot(&SLOTS[index])),
            sets: [&TAKEN_IGNORED, &TAKEN_BLOCKED, &LEFT_TO_NODE, &DUE].map(|set| set.load(SeqCst)),
            plan: FORK_PLAN.load(SeqCst),
            forked: FORKED.load(SeqCst),
            receipt: RECEIPT.load(SeqCst),
        }
    }

    fn restore(self) {
        LINK.store(self.link, SeqCst);
        for (slot, pid) in CHILDREN.iter().zip(self.children) {
            slot.store(pid, SeqCst);
        }
        for (slot, (kind, number, amount)) in SLOTS.iter().zip(self.slots) {
            slot.kind.store(kind, SeqCst);
            slot.number.store(number, SeqCst);
            slot.amount.store(amount, SeqCst);
        }
        for (set, before) in [&TAKEN_IGNORED, &TAKEN_BLOCKED, &LEFT_TO_NODE, &DUE].into_iter().zip(self.sets)
        {
            set.store(before, SeqCst);
        }
        FORK_PLAN.store(self.plan, SeqCst);
        FORKED.store(self.forked, SeqCst);
        RECEIPT.store(self.receipt, SeqCst);
    }
}

/// Goes on with `rest` in a new thread and ends this one, without ending the process. Returns only if that fails. `rest`
/// must not return.
pub(super) fn go_on_in_a_thread(rest: &mut dyn FnMut()) -> io::Error {
    struct Rest(*mut (dyn FnMut() + 'static));
    // SAFETY: this thread lends what it points to and never touches it again.
    unsafe impl Send for Rest {}
    // SAFETY: only the lifetime changes; the stack of a thread that ends by the bare system call is never given back, so what
    // is on it stays.
    let rest =
        Rest(unsafe { std::mem::transmute::<*mut (dyn FnMut() + '_), *mut (dyn FnMut() + 'static)>(rest) });
    let started = std::thread::Builder::new().spawn(move || {
        let rest = rest;
        // SAFETY: see above.
        unsafe { (*rest.0)() };
    });
    match started {
        Err(error) => error,
        // SAFETY: ends this thread alone; nothing of it is used by the C library again.
        Ok(_) => unsafe {
            libc::syscall(libc::SYS_exit, 0);
            unreachable!("a thread that has ended")
        },
    }
}

// ---- Descriptors by number ----

/// `r`, `w` or `rw`; nothing for a number that is not open.
pub(super) fn access_mode(fd: c_int) -> Option<&'static str> {
    // SAFETY: no memory is involved.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    (flags >= 0).then_some(match flags & libc::O_ACCMODE {
        libc::O_RDONLY => "r",
        libc::O_WRONLY => "w",
        _ => "rw",
    })
}

/// Closes a descriptor.
pub(super) fn close(fd: c_int) -> bool {
    // SAFETY: the numbers are those of descriptors that no Rust value owns.
    unsafe { libc::close(fd) == 0 }
}

/// Closes every descriptor but the three standard ones.
pub(super) fn close_all_above_standard() {
    // SAFETY: no memory is involved. The player, which owns nothing yet, never returns to those who own descriptors.
    let done = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) } == 0;
    if !done {
        (3..65536).for_each(|fd| {
            close(fd);
        });
    }
}

/// Opens descriptors on /dev/null, in place of what they were open on. Only async-signal-safe calls.
pub(super) fn to_dev_null(fds: &[c_int]) -> io::Result<()> {
    // SAFETY: the path is a C string; the numbers are not owned by Rust values.
    unsafe {
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        checked(null)?;
        for fd in fds {
            checked(libc::dup2(null, *fd))?;
        }
        if !fds.contains(&null) {
            close(null);
        }
    }
    Ok(())
}

/// Reads from a descriptor.
pub(super) fn read(fd: c_int, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the pointer and length are those of a slice.
    counted(unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) })
}

/// How many bytes lie in a pipe that nobody has read yet; none in what is no pipe.
pub(super) fn unread(fd: c_int) -> c_int {
    let mut bytes = 0;
    // SAFETY: the call writes one number where it is told to, or nothing.
    let done = unsafe { libc::ioctl(fd, libc::FIONREAD, &raw mut bytes) };
    if done == 0 { bytes } else { 0 }
}

/// Writes to a descriptor.
pub(super) fn write(fd: c_int, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the pointer and length are those of a slice.
    counted(unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) })
}

/// Receives one packet if there is one; 0 bytes at the end of the connection.
pub(super) fn receive_now(fd: c_int, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the pointer and length are those of a slice.
    counted(unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT) })
}

/// Waits until something of `wanted` holds for one of the descriptors, the time is over or a signal was handled; says
/// for each whether anything does.
pub(super) fn wait_for<const N: usize>(
    wanted: [(c_int, i16); N],
    timeout_ns: Option<u64>,
) -> io::Result<[bool; N]> {
    wait_with_mask(wanted, timeout_ns, None)
}

/// The same with another signal mask meanwhile.
pub(super) fn wait_with_mask<const N: usize>(
    wanted: [(c_int, i16); N],
    timeout_ns: Option<u64>,
    mask: Option<Signals>,
) -> io::Result<[bool; N]> {
    let mut entries = wanted.map(|(fd, events)| libc::pollfd { fd, events, revents: 0 });
    let timeout = timeout_ns.map(timespec);
    let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    let mask = mask.map(set_of);
    let mask = mask.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the entries, the time and the mask are valid for the call; a null mask leaves the mask alone.
    let result = checked(unsafe { libc::ppoll(entries.as_mut_ptr(), N as libc::nfds_t, timeout, mask) });
    match result {
        // Then the entries are as they were: nothing holds.
        Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
        _ => {}
    }
    Ok(entries.map(|entry| entry.revents != 0))
}

fn checked(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn counted(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
