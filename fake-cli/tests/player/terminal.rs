//! A pseudo-terminal.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

/// A pseudo-terminal that nobody controls yet. It hangs up when this is dropped.
pub(crate) struct Terminal {
    controller: OwnedFd,
    path: PathBuf,
}

impl Terminal {
    pub(crate) fn open() -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let controller = openpt(flags).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let path = PathBuf::from(ptsname(&controller, Vec::new()).unwrap().into_string().unwrap());
        Self { controller, path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The foreground group, as the kernel tells it of a process whose terminal this is.
    #[expect(clippy::unused_self, reason = "it is the terminal's")]
    pub(crate) fn foreground_seen_by(&self, pid: i32) -> i32 {
        let line = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let mut fields = line[line.rfind(')').unwrap() + 1..].split_ascii_whitespace();
        fields.nth(8 - 3).unwrap().parse().unwrap()
    }

    pub(crate) fn local_modes(&self) -> LocalModes {
        tcgetattr(&self.controller).unwrap().local_modes
    }

    /// Its device number, as `/proc` writes it.
    pub(crate) fn number(&self) -> i32 {
        let device = rustix::fs::stat(&self.path).unwrap().st_rdev;
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        ((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)).cast_signed()
    }
}
