//! The nanny's program: embedded, and put where the kernel executes it.

use std::ffi::CStr;
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, fchmod, fcntl_add_seals, memfd_create, open};
use rustix::io::{Errno, fcntl_dupfd_cloexec};

use super::birth::NotStarted;
use super::nanny::try_out;

const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/nanny"));

/// Since Linux 6.3; older kernels refuse it and do not need it.
const MFD_EXEC: MemfdFlags = MemfdFlags::from_bits_retain(0x10);

/// The program in a file without a name.
#[derive(Debug)]
pub(crate) struct Image {
    file: OwnedFd,
    kind: ImageKind,
}

/// Where the nanny's program lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ImageKind {
    /// In memory, sealed.
    Memory,
    /// In a file that was never given a name, because the system executes nothing from memory.
    UnnamedFile,
}

impl fmt::Display for ImageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "sealed memory",
            Self::UnnamedFile => "a file without a name, because nothing is executed from memory here",
        })
    }
}

/// Why there can be no nanny.
#[derive(Clone, Debug)]
pub(crate) struct NoNanny {
    why: String,
    /// The system was short of something.
    pub(crate) passes: bool,
}

impl fmt::Display for NoNanny {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// The program, once it was tried in this process. Tries it when it is called for the first time, and again after a lack
/// that passes.
pub(crate) fn image() -> Result<&'static Image, NoNanny> {
    static IMAGE: Mutex<Option<Result<&'static Image, NoNanny>>> = Mutex::new(None);
    let mut known = IMAGE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = &*known {
        return known.clone();
    }
    // For as long as the process lives: it is one file, and runs need it at any time.
    let found = Image::find().map(|image| &*Box::leak(Box::new(image)));
    if found.as_ref().map_or_else(|lack| !lack.passes, |_| true) {
        *known = Some(found.clone());
    }
    found
}

fn passes(error: &io::Error) -> bool {
    const LACKS: [Errno; 6] =
        [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::AGAIN, Errno::NOBUFS, Errno::INTR];
    Errno::from_io_error(error).is_some_and(|errno| LACKS.contains(&errno))
}

impl Image {
    /// The first that is executed, and does what it must.
    fn find() -> Result<Self, NoNanny> {
        let mut refusals = Vec::new();
        let mut some_pass = false;
        let mut refused = |place: String, NotStarted { doing, error }: NotStarted| {
            some_pass |= passes(&error);
            refusals.push(format!("{place}: cannot {doing}: {error}"));
        };
        match Self::in_memory().map_err(not_made).and_then(Self::tried) {
            Ok(image) => return Ok(image),
            Err(refusal) => refused("from memory".to_owned(), refusal),
        }
        for directory in private_places() {
            match Self::in_unnamed_file(&directory).map_err(not_made).and_then(Self::tried) {
                Ok(image) => return Ok(image),
                Err(refusal) => refused(format!("from a file in {}", directory.display()), refusal),
            }
        }
        let why = format!("the nanny cannot be executed ({})", refusals.join("; "));
        Err(NoNanny { why, passes: some_pass })
    }

    fn in_memory() -> io::Result<Self> {
        let name: &CStr = c"childminder-nanny";
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = match memfd_create(name, flags | MFD_EXEC) {
            Err(Errno::INVAL) => memfd_create(name, flags)?,
            result => result?,
        };
        write_all(&file)?;
        fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
        Ok(Self { file: above_streams(file)?, kind: ImageKind::Memory })
    }

    fn in_unnamed_file(directory: &Path) -> io::Result<Self> {
        let writable = open(directory, OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC, Mode::RWXU)?;
        write_all(&writable)?;
        // Also for the user that a command may change to.
        let everybody = Mode::RUSR | Mode::XUSR | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
        fchmod(&writable, everybody)?;
        // A file that somebody may write is not executed, so it is opened anew and closed for writing.
        let file = open(path_of(&writable), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { file: above_streams(file)?, kind: ImageKind::UnnamedFile })
    }

    /// Executes it once, to see whether it is executed, and whether all it needs is allowed.
    fn tried(self) -> Result<Self, NotStarted> {
        try_out(&self).map(|()| self)
    }

    /// What to execute. Valid in this process and in one that was just forked from it.
    pub(super) fn path(&self) -> PathBuf {
        path_of(&self.file)
    }

    pub(crate) fn kind(&self) -> ImageKind {
        self.kind
    }
}

impl AsFd for Image {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// In an owner without a stdin the file may have got its number, which is another file's in a child.
fn above_streams(file: OwnedFd) -> io::Result<OwnedFd> {
    const FIRST: RawFd = 3;
    if file.as_raw_fd() >= FIRST { Ok(file) } else { Ok(fcntl_dupfd_cloexec(&file, FIRST)?) }
}

fn path_of(file: &impl AsFd) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()).into()
}

fn not_made(error: io::Error) -> NotStarted {
    NotStarted { doing: "make the file", error }
}

/// Where a file may be made and perhaps executed.
fn private_places() -> impl Iterator<Item = PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let here = std::env::current_exe().ok().and_then(|program| program.parent().map(Path::to_owned));
    [runtime, Some(std::env::temp_dir()), Some("/dev/shm".into()), Some("/var/tmp".into()), here]
        .into_iter()
        .flatten()
        .filter(|place| fs::metadata(place).is_ok_and(|found| found.is_dir()))
}

fn write_all(file: &OwnedFd) -> io::Result<()> {
    let mut rest = PROGRAM;
    while !rest.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(file, rest))?;
        rest = &rest[written..];
    }
    Ok(())
}
