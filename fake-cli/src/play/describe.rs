//! What a node says of itself, noted before the player changes anything.

use std::ffi::c_int;
use std::fs;

use nix::libc::SIGPIPE;
use nix::unistd::{getpgid, getpid, getppid, getsid};

use super::sys::{self, Action, only};
use crate::control::{Descriptor, Hello};

/// How this process came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// By exec: Rust's runtime has already changed things, which are told as they were before.
    Executed,
    /// By a fork of a player.
    Forked,
}

/// Notes everything but the run, the node's name and the time. `besides` is a descriptor of the player's own.
pub(super) fn hello(origin: Origin, besides: Option<c_int>) -> Hello {
    let mut ignored = sys::signals_with(Action::Ignore);
    if origin == Origin::Executed && !sys::pipe_was_ignored_at_start() {
        ignored &= !only(SIGPIPE);
    }
    let was_open = |fd: &c_int| origin == Origin::Forked || !sys::was_closed_at_start(*fd);
    Hello {
        pid: getpid().as_raw(),
        start_ticks: start_ticks().unwrap_or(0),
        ppid: getppid().as_raw(),
        pgid: getpgid(None).map_or(0, nix::unistd::Pid::as_raw),
        sid: getsid(None).map_or(0, nix::unistd::Pid::as_raw),
        descriptors: open_descriptors()
            .into_iter()
            .filter(|fd| Some(*fd) != besides)
            .filter(was_open)
            .filter_map(descriptor)
            .collect(),
        blocked: sys::numbers(sys::mask()).collect(),
        ignored: sys::numbers(ignored).collect(),
        environment: sys::environment_length(),
        ..Hello::default()
    }
}

/// Field 22 of the line; the second, the name, may hold anything, so counting starts after its end.
fn start_ticks() -> Option<u64> {
    let line = fs::read("/proc/self/stat").ok()?;
    let name_end = line.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(&line[name_end + 1..]).ok()?;
    rest.split_ascii_whitespace().nth(22 - 3)?.parse().ok()
}

/// The numbers of the open descriptors, in order. The one that the directory itself was read with is among them,
/// but closed again.
fn open_descriptors() -> Vec<c_int> {
    let Ok(directory) = fs::read_dir("/proc/self/fd") else {
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
    let target = fs::read_link(format!("/proc/self/fd/{fd}"))
        .map_or_else(|error| error.to_string(), |target| target.to_string_lossy().into_owned());
    Some(Descriptor { fd, target, mode })
}
