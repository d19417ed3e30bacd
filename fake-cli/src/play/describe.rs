//! What a node says of itself, noted before the player changes anything.

use std::ffi::{OsStr, OsString, c_int};
use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;

use nix::libc::SIGPIPE;
use nix::unistd::{getpgid, getpid, getppid, getsid};
use rustix::process::{Resource, getrlimit};

use super::entry::ends_with_resume_mark;
use super::sys::{self, Action, only};
use crate::control::{Descriptor, Environment, Hello, Limit, MOST_TOLD_ARGUMENTS, MOST_TOLD_BYTES, Terminal};

/// How this process came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// By exec: Rust's runtime has already changed things, which are told as they were before.
    Executed,
    /// By a fork of a player.
    Forked,
}

/// Notes everything but the run, the node's name and the time. `besides` are descriptors of the player's own.
pub(super) fn hello(origin: Origin, besides: &[c_int]) -> Hello {
    let mut ignored = sys::signals_with(Action::Ignore);
    if origin == Origin::Executed && !sys::pipe_was_ignored_at_start() {
        ignored &= !only(SIGPIPE);
    }
    let line = line().unwrap_or(Line { start_ticks: 0, terminal: None });
    let was_open = |fd: &c_int| origin == Origin::Forked || !sys::was_closed_at_start(*fd);
    Hello {
        pid: getpid().as_raw(),
        start_ticks: line.start_ticks,
        ppid: getppid().as_raw(),
        pgid: getpgid(None).map_or(0, nix::unistd::Pid::as_raw),
        sid: getsid(None).map_or(0, nix::unistd::Pid::as_raw),
        descriptors: open_descriptors()
            .into_iter()
            .filter(|fd| !besides.contains(fd))
            .filter(was_open)
            .filter_map(descriptor)
            .collect(),
        blocked: sys::numbers(sys::mask()).collect(),
        ignored: sys::numbers(ignored).collect(),
        environment: sys::environment_length(),
        terminal: line.terminal,
        ..Hello::default()
    }
}

/// What the kernel's line about this process says.
struct Line {
    start_ticks: u64,
    terminal: Option<Terminal>,
}

/// Fields 7, 8 and 22 of the line; the second, the name, may hold anything, so counting starts after its end.
fn line() -> Option<Line> {
    // Whole if it is read at once, and it has a few hundred bytes.
    let mut buffer = [0; 1024];
    let length = fs::File::open("/proc/thread-self/stat").and_then(|mut file| file.read(&mut buffer)).ok()?;
    let line = &buffer[..length];
    let name_end = line.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(&line[name_end + 1..]).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3);
    let terminal = Terminal { number: field(7)?.parse().ok()?, foreground: field(8)?.parse().ok()? };
    Some(Line { start_ticks: field(22)?.parse().ok()?, terminal: (terminal.number != 0).then_some(terminal) })
}

/// What is reported on request; `variables` are those that are asked for.
pub(super) fn environment(variables: &[String]) -> Result<Environment, String> {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    if ends_with_resume_mark(&arguments) {
        arguments.truncate(arguments.len() - 2);
    }
    let status = fs::read_to_string("/proc/thread-self/status")
        .map_err(|error| format!("/proc/thread-self/status: {error}"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(str::trim).ok_or_else(|| format!("/proc/thread-self/status says nothing of {name}"))
    };
    let umask = u32::from_str_radix(field("Umask")?, 8).map_err(|error| format!("umask: {error}"))?;
    let directory =
        fs::read_link("/proc/thread-self/cwd").map_err(|error| format!("working directory: {error}"))?;
    Ok(Environment {
        arguments_left_out: arguments.len().saturating_sub(MOST_TOLD_ARGUMENTS),
        arguments: arguments.iter().take(MOST_TOLD_ARGUMENTS).map(|argument| told(argument)).collect(),
        directory: told(directory.as_os_str()),
        umask,
        limits: RESOURCES.into_iter().map(|(name, resource)| limit(name, resource)).collect(),
        nice: rustix::process::getpriority_process(None).map_err(|error| format!("niceness: {error}"))?,
        no_new_privileges: field("NoNewPrivs")? == "1",
        variables: variables
            .iter()
            .map(|name| (name.clone(), std::env::var_os(name).map(|value| told(&value))))
            .collect(),
    })
}

/// As much of a text as is told.
fn told(text: &OsStr) -> String {
    let bytes = text.as_bytes();
    String::from_utf8_lossy(&bytes[..bytes.len().min(MOST_TOLD_BYTES)]).into_owned()
}

const RESOURCES: [(&str, Resource); 16] = [
    ("cpu", Resource::Cpu),
    ("fsize", Resource::Fsize),
    ("data", Resource::Data),
    ("stack", Resource::Stack),
    ("core", Resource::Core),
    ("rss", Resource::Rss),
    ("nproc", Resource::Nproc),
    ("nofile", Resource::Nofile),
    ("memlock", Resource::Memlock),
    ("as", Resource::As),
    ("locks", Resource::Locks),
    ("sigpending", Resource::Sigpending),
    ("msgqueue", Resource::Msgqueue),
    ("nice", Resource::Nice),
    ("rtprio", Resource::Rtprio),
    ("rttime", Resource::Rttime),
];

fn limit(name: &str, resource: Resource) -> Limit {
    let limit = getrlimit(resource);
    Limit { resource: name.to_owned(), soft: limit.current, hard: limit.maximum }
}

/// The numbers of the open descriptors, in order. The one that the directory itself was read with is among them,
/// but closed again.
fn open_descriptors() -> Vec<c_int> {
    let Ok(directory) = fs::read_dir("/proc/thread-self/fd") else {
        // No /proc, or not this process's: what can be found by asking.
        return (0..256).filter(|fd| sys::access_mode(*fd).is_some()).collect();
    };
    let mut fds: Vec<c_int> =
        directory.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    fds.sort_unstable();
    fds
}

fn descriptor(fd: c_int) -> Option<Descriptor> {
    let mode = sys::access_mode(fd)?.to_owned();
    let target = fs::read_link(format!("/proc/thread-self/fd/{fd}"))
        .map_or_else(|error| error.to_string(), |target| target.to_string_lossy().into_owned());
    Some(Descriptor { fd, target, mode })
}
