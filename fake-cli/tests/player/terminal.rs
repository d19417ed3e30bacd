//! A pseudo-terminal.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// A pseudo-terminal that nobody controls yet. It hangs up when this is dropped.
pub(crate) struct Terminal {
    /// Keeps it open.
    _controller: OwnedFd,
    path: PathBuf,
}

impl Terminal {
    pub(crate) fn open() -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let controller = openpt(flags).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let path = PathBuf::from(ptsname(&controller, Vec::new()).unwrap().into_string().unwrap());
        Self { _controller: controller, path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its device number, as `/proc` writes it.
    pub(crate) fn number(&self) -> i32 {
        let device = rustix::fs::stat(&self.path).unwrap().st_rdev;
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        ((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)).cast_signed()
    }
}
