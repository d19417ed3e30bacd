//! What a node takes for itself: descriptors, memory, a lock, the terminal; and what it gives up.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::libc;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::termios::OptionalActions;

use super::node::Node;
use super::sys::{self, only};
use crate::script::Name;

/// The user that owns nothing.
const NOBODY: u32 = 65_534;

/// Opens descriptors, as many as it may.
pub(super) fn descriptors(node: &mut Node, count: u32) -> Result<(), String> {
    for _ in 0..count {
        match rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => node.hogged.push(fd),
            Err(Errno::MFILE | Errno::NFILE) => break,
            Err(errno) => return Err(format!("/dev/null: {errno}")),
        }
    }
    Ok(())
}

/// Takes memory and touches every page of it.
pub(super) fn memory(node: &mut Node, bytes: u64) -> Result<(), String> {
    let length = usize::try_from(bytes).map_err(|error| error.to_string())?;
    let mut hoard = Vec::new();
    hoard.try_reserve_exact(length).map_err(|error| error.to_string())?;
    hoard.resize(length, 0xa5);
    node.hoard.push(hoard);
    Ok(())
}

/// Makes a lock file with the node's pid in it.
pub(super) fn lock_file(node: &mut Node, name: &Name) -> Result<(), String> {
    let path = node.file_path("lock", name.as_str())?;
    let path = Path::new(OsStr::from_bytes(path.as_bytes()));
    let lock = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut lock = lock.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => format!("another process has the lock {name}"),
        _ => format!("lock {name}: {error}"),
    })?;
    node.locks.push(path.to_owned());
    writeln!(lock, "{}", nix::unistd::getpid()).map_err(|error| format!("lock {name}: {error}"))
}

/// Takes the controlling terminal. A process of the background must not be stopped by that.
pub(super) fn take_terminal() -> Result<(), String> {
    let failed = |what: &str, errno: Errno| format!("{what}: {errno}");
    let terminal =
        rustix::fs::open("/dev/tty", OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| failed("controlling terminal", errno))?;
    let before = sys::block(only(libc::SIGTTOU));
    let taken = rustix::termios::tcsetpgrp(&terminal, rustix::process::getpgrp())
        .map_err(|errno| failed("foreground group", errno))
        .and_then(|()| {
            let mut mode = rustix::termios::tcgetattr(&terminal).map_err(|errno| failed("mode", errno))?;
            mode.make_raw();
            rustix::termios::tcsetattr(&terminal, OptionalActions::Now, &mode)
                .map_err(|errno| failed("raw mode", errno))
        });
    sys::set_mask(before);
    taken
}

/// Becomes the user that owns nothing.
pub(super) fn become_nobody() -> Result<(), String> {
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    setgroups(&[])
        .and_then(|()| setresgid(group, group, group))
        .and_then(|()| setresuid(user, user, user))
        .map_err(|errno| format!("another user: {errno}"))
}
