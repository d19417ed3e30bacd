//! Programs that cannot be executed, and executing from another thread.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::AsRawFd as _;

use rustix::fs::{MemfdFlags, Mode};
use rustix::io::Errno;

use super::sys;
use crate::script::Unexecutable;

/// Fails to replace this program by something that cannot be executed. It is a file in memory, so nothing is left.
pub(super) fn fail(how: Unexecutable) -> Result<(), String> {
    let (content, mode, expected) = match how {
        Unexecutable::Missing => (&b""[..], 0o700, Errno::NOENT),
        Unexecutable::NotExecutable => (&b"#!/bin/sh\n"[..], 0o600, Errno::ACCESS),
        Unexecutable::BadInterpreter => (&b"#!/nowhere/no-such-interpreter\n"[..], 0o700, Errno::NOENT),
        Unexecutable::NoProgram => (&b"\x01\x02\x03 no program\n"[..], 0o700, Errno::NOEXEC),
    };
    let failed = |what: &str, errno: Errno| format!("{what}: {errno}");
    // Open on exec: the kernel gives an interpreter the path of the script.
    let file = rustix::fs::memfd_create(c"unexecutable", MemfdFlags::empty())
        .map_err(|errno| failed("memfd", errno))?;
    rustix::io::write(&file, content).map_err(|errno| failed("write", errno))?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).map_err(|errno| failed("chmod", errno))?;
    // A program that is open for writing cannot be executed, whatever it is.
    let path = format!("/proc/thread-self/fd/{}", file.as_raw_fd());
    let reader =
        rustix::fs::open(&*path, rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| failed("open", errno))?;
    drop(file);
    let path = match how {
        Unexecutable::Missing => "/proc/thread-self/no-such-program".to_owned(),
        _ => format!("/proc/thread-self/fd/{}", reader.as_raw_fd()),
    };
    let path = CString::new(path).map_err(|error| error.to_string())?;
    let error = sys::execute(&path, std::slice::from_ref(&path), true);
    if error.raw_os_error() == Some(expected.raw_os_error()) {
        Ok(())
    } else {
        Err(format!("exec failed otherwise than it should: {error}"))
    }
}

/// Replaces this program from a thread that is not the leader. Returns only if that fails.
pub(super) fn from_thread(program: &CStr, arguments: &[CString]) -> io::Error {
    std::thread::scope(|scope| {
        let thread =
            std::thread::Builder::new().spawn_scoped(scope, || sys::execute(program, arguments, true));
        match thread {
            Err(error) => error,
            Ok(thread) => thread.join().unwrap_or_else(|_| io::Error::other("the thread panicked")),
        }
    })
}
