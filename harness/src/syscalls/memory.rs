//! What a held caller's arguments point to.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::libc;

use super::Notification;

/// Longest path that is read.
const MOST_PATH_BYTES: usize = 4096;

/// Whether a call that makes a process or a thread makes a process. Where its flags cannot be read it counts as one.
pub(crate) fn creates_process(call: &Notification) -> bool {
    if call.number != libc::SYS_clone3 {
        return true;
    }
    let mut flags = [0; 8];
    match read(call.thread, call.arguments[0], &mut flags) {
        Ok(8) => u64::from_ne_bytes(flags) & libc::CLONE_THREAD as u64 == 0,
        _ => true,
    }
}

/// Which file a call executes, by device and inode; nothing if there is none or it cannot be read.
pub(crate) fn executed_file(call: &Notification) -> Option<(u64, u64)> {
    let at_a_descriptor = call.number == libc::SYS_execveat;
    let [first, second, ..] = call.arguments;
    let path = read_path(call.thread, if at_a_descriptor { second } else { first }).ok()?;
    let own = PathBuf::from(format!("/proc/{}", call.thread));
    let base = match at_a_descriptor.then_some(first as i32) {
        Some(fd) if fd != libc::AT_FDCWD => own.join("fd").join(fd.to_string()),
        _ => own.join("cwd"),
    };
    let file = if path.as_os_str().is_empty() {
        base
    } else if let Some(own_path) = own_file(&path, &own) {
        own_path
    } else if path.is_absolute() {
        own.join("root").join(path.strip_prefix("/").ok()?)
    } else {
        base.join(path)
    };
    identity(&file)
}

/// `/proc/self` means the caller and not us.
fn own_file(path: &Path, own: &Path) -> Option<PathBuf> {
    path.strip_prefix("/proc/self")
        .or_else(|_| path.strip_prefix("/proc/thread-self"))
        .ok()
        .map(|rest| own.join(rest))
}

/// A file by device and inode.
pub(crate) fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

fn read_path(thread: i32, at: u64) -> io::Result<PathBuf> {
    let mut bytes = vec![0; MOST_PATH_BYTES];
    let count = read(thread, at, &mut bytes)?;
    let end = bytes[..count].iter().position(|byte| *byte == 0);
    let end = end.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok(PathBuf::from(OsStr::from_bytes(&bytes[..end])))
}

/// Reads as much as there is: what is asked for may reach beyond what is mapped.
fn read(thread: i32, at: u64, into: &mut [u8]) -> io::Result<usize> {
    let memory = File::open(format!("/proc/{thread}/mem"))?;
    let mut count = 0;
    while count < into.len() {
        match memory.read_at(&mut into[count..], at + count as u64) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(_) if count > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}
