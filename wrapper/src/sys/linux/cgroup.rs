//! Control groups (v2) for runs: a directory for this process below the control group that it is in, and one below that
//! for each run. They need no controllers.
//!
//! The directory of a process is locked as long as the process lives, by a lock that the kernel takes away at its end.
//! So a directory that is not locked is the leftover of somebody dead, which the next owner kills and removes. A number
//! of a process would not tell that: it means nothing in another pid namespace, and it is used again.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags, flock, fstat, mkdirat, openat, stat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::{Pid, getpid};
use rustix::time::{ClockId, clock_gettime};

use super::birth::NotStarted;
use super::group::{signalable, why_alive};
use super::image::Image;
use super::nanny::{Within, rehearse};
use crate::outcome::{Left, Survivor};

/// What the names of our directories begin with.
const OURS: &str = "childminder-";

/// The longest that the first use waits for the end of those whom a dead owner has left.
const COLLECT_BOUND: Duration = Duration::from_secs(2);

/// How deep groups that members have made are looked for.
const DEPTH: usize = 32;

/// The control group of one run. Dropping it lets another run have it.
#[derive(Debug)]
pub(crate) struct Cgroup {
    /// `None` only while it is given back.
    directory: Option<Directory>,
    is_spoilt: bool,
}

impl Cgroup {
    /// Takes one that is free and empty, or makes one.
    pub(crate) fn take() -> Result<Self, NotStarted> {
        let directory = match home() {
            Ok(home) => pool().take(home),
            Err(lack) => Err(io::Error::other(lack.clone())),
        };
        match directory {
            Ok(directory) => Ok(Self { directory: Some(directory), is_spoilt: false }),
            Err(error) => Err(NotStarted { doing: "make a control group", error }),
        }
    }

    /// Keeps it from being used again. Where there was a kill that must be: some kernels kill whoever is started into
    /// such a group.
    pub(crate) fn spoil(&mut self) {
        self.is_spoilt = true;
    }

    /// Kills everybody in it at once. Nobody forks past that.
    pub(crate) fn kill(&self) {
        // Whoever is left shows as a survivor.
        let _ = self.open().kill();
    }

    /// Whether nobody alive is in it, or below it.
    pub(crate) fn is_empty(&self) -> bool {
        self.open().is_empty()
    }

    /// Everybody in it whom the owner can see, with the reason why.
    pub(crate) fn survivors(&self) -> Left {
        let Ok(listed) = self.open().read("cgroup.procs") else {
            return Left::Unknown("the control group cannot be read");
        };
        let pids = listed.lines().filter_map(|line| signalable(line.parse().ok()?));
        let survivor =
            |pid: Pid| Survivor { pid: pid.as_raw_nonzero().get().unsigned_abs(), why: why_alive(pid) };
        let survivors: Vec<_> = pids.map(survivor).collect();
        if survivors.is_empty() {
            return Left::Unknown(
                "somebody is in a control group below that of the run, or cannot be seen from here",
            );
        }
        Left::Survivors(survivors)
    }

    fn open(&self) -> &Directory {
        self.directory.as_ref().expect("it is given back by the drop only")
    }
}

impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.open().fd.as_fd()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let mut pool = pool();
        pool.in_use -= 1;
        let Some(Directory { name, .. }) = self.directory.take() else { return };
        if self.is_spoilt {
            pool.give_up(name);
        } else {
            pool.free.push(Free { name, is_spoilt: false });
        }
    }
}

/// The directory of a control group.
#[derive(Debug)]
struct Directory {
    fd: OwnedFd,
    name: String,
}

impl Directory {
    fn open(parent: &OwnedFd, name: &str) -> io::Result<Self> {
        Ok(Self { fd: open_directory(parent.as_fd(), name)?, name: name.to_owned() })
    }

    fn read(&self, file: &str) -> io::Result<String> {
        let file = openat(&self.fd, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        io::read_to_string(fs::File::from(file))
    }

    fn kill(&self) -> io::Result<()> {
        let switch = openat(&self.fd, "cgroup.kill", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::io::write(&switch, b"1")?;
        Ok(())
    }

    fn is_empty(&self) -> bool {
        // One that was removed is empty as well.
        match self.read("cgroup.events") {
            Ok(events) => events.lines().any(|line| line == "populated 0"),
            Err(error) => error.raw_os_error() == Some(Errno::NODEV.raw_os_error()),
        }
    }

    /// Whether it is as it was when it was new: members may have changed it.
    fn is_as_new(&self) -> bool {
        let says = |file, what| self.read(file).is_ok_and(|text| text == what);
        says("cgroup.events", "populated 0\nfrozen 0\n")
            && says("cgroup.type", "domain\n")
            && says("cgroup.subtree_control", "")
            // Each directory in it would count.
            && fstat(&self.fd).is_ok_and(|found| found.st_nlink == 2)
    }
}

/// What this process has of control groups.
#[derive(Debug)]
struct Pool {
    base: Option<Base>,
    free: Vec<Free>,
    in_use: usize,
    made: u64,
}

/// One that no run has. It is not open, so that the descriptors of this process are those of its runs.
#[derive(Debug)]
struct Free {
    name: String,
    is_spoilt: bool,
}

impl Free {
    fn open(&self, base: &Base) -> io::Result<Directory> {
        Directory::open(&base.fd, &self.name)
    }
}

/// The directory of this process.
#[derive(Debug)]
struct Base {
    /// Locked.
    fd: OwnedFd,
    path: PathBuf,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { base: None, free: Vec::new(), in_use: 0, made: 0 });

/// Whether the pool has anything; to be asked without waiting for it.
static HAS_SOMETHING: AtomicBool = AtomicBool::new(false);

fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether [`tidy_up`] has something to do, now or later.
pub(crate) fn keeps_cgroups() -> bool {
    HAS_SOMETHING.load(Ordering::Relaxed)
}

/// Removes all control groups if no run has one. Returns whether none is left.
pub(crate) fn tidy_up() -> bool {
    pool().clear()
}

impl Pool {
    fn take(&mut self, home: &Path) -> io::Result<Directory> {
        let directory = match self.take_free() {
            Some(directory) => directory,
            None => match self.make(home) {
                // Somebody has removed our directory.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.base = None;
                    self.make(home)?
                }
                made => made?,
            },
        };
        self.in_use += 1;
        Ok(directory)
    }

    /// One that is empty and was not changed. Removes those that were.
    fn take_free(&mut self) -> Option<Directory> {
        for at in (0..self.free.len()).rev() {
            let directory = match self.free[at].open(self.base.as_ref()?) {
                Ok(directory) => directory,
                Err(error) => {
                    // Somebody else has removed it; or there is no descriptor left, which is no fault of it.
                    if error.kind() == io::ErrorKind::NotFound {
                        self.free.swap_remove(at);
                    }
                    continue;
                }
            };
            if !directory.is_empty() {
                continue;
            }
            let is_spoilt = self.free.swap_remove(at).is_spoilt;
            if !is_spoilt && directory.is_as_new() {
                return Some(directory);
            }
            self.give_up(directory.name);
        }
        None
    }

    /// Removes one that is not to be used again. What cannot be removed yet is removed later.
    fn give_up(&mut self, name: String) {
        if !self.remove(&name) {
            self.free.push(Free { name, is_spoilt: true });
        }
    }

    fn make(&mut self, home: &Path) -> io::Result<Directory> {
        let base = match self.base.take() {
            Some(base) => base,
            None => Base::make(home)?,
        };
        HAS_SOMETHING.store(true, Ordering::Relaxed);
        let base = self.base.insert(base);
        self.made += 1;
        let name = format!("run-{}", self.made);
        mkdirat(&base.fd, &name, Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH)?;
        Directory::open(&base.fd, &name).inspect_err(|_| {
            let _ = unlinkat(&base.fd, &name, AtFlags::REMOVEDIR);
        })
    }

    fn remove(&self, name: &str) -> bool {
        self.base.as_ref().is_none_or(|base| remove_tree(base.fd.as_fd(), Path::new(name), DEPTH))
    }

    fn clear(&mut self) -> bool {
        if self.in_use > 0 {
            return false;
        }
        for free in std::mem::take(&mut self.free) {
            let directory = self.base.as_ref().and_then(|base| free.open(base).ok());
            if let Some(directory) = directory.filter(|directory| !directory.is_empty()) {
                let _ = directory.kill();
            }
            self.give_up(free.name);
        }
        if !self.free.is_empty() {
            return false;
        }
        if let Some(base) = self.base.take() {
            if !remove_tree(CWD, &base.path, DEPTH) {
                self.base = Some(base);
                return false;
            }
        }
        HAS_SOMETHING.store(false, Ordering::Relaxed);
        true
    }
}

impl Base {
    fn make(home: &Path) -> io::Result<Self> {
        const ATTEMPTS: usize = 16;
        let device = stat(home)?.st_dev;
        let pid = getpid().as_raw_nonzero();
        for _ in 0..ATTEMPTS {
            let now = clock_gettime(ClockId::Monotonic);
            let path = home.join(format!("{OURS}{device}-{pid}-{}.{:09}", now.tv_sec, now.tv_nsec));
            match mkdirat(CWD, &path, Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH) {
                Err(Errno::EXIST) => continue,
                made => made?,
            }
            // As long as it was not locked, another owner may have taken it for a leftover, and removed it.
            match open_directory(CWD, &path) {
                Ok(fd)
                    if flock(&fd, FlockOperation::NonBlockingLockExclusive).is_ok() && is_at(&fd, &path) =>
                {
                    return Ok(Self { fd, path });
                }
                Ok(_) | Err(Errno::NOENT) => {}
                Err(error) => {
                    let _ = unlinkat(CWD, &path, AtFlags::REMOVEDIR);
                    return Err(error.into());
                }
            }
        }
        Err(io::Error::other("another process removes what this one makes"))
    }
}

fn open_directory(at: BorrowedFd<'_>, path: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    openat(at, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

fn is_at(fd: &OwnedFd, path: &Path) -> bool {
    match (fstat(fd), stat(path)) {
        (Ok(open), Ok(named)) => (open.st_dev, open.st_ino) == (named.st_dev, named.st_ino),
        _ => false,
    }
}

/// Removes a group and those that members have made below it. Returns whether it is gone.
fn remove_tree(parent: BorrowedFd<'_>, name: &Path, depth: usize) -> bool {
    match unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => return true,
        Err(_) => {}
    }
    if depth > 0 {
        if let Ok(fd) = open_directory(parent, name) {
            for below in directories_in(&fd) {
                remove_tree(fd.as_fd(), Path::new(&below), depth - 1);
            }
        }
    }
    matches!(unlinkat(parent, name, AtFlags::REMOVEDIR), Ok(()) | Err(Errno::NOENT))
}

fn directories_in(fd: &OwnedFd) -> Vec<String> {
    let Ok(entries) = Dir::read_from(fd) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_type() == FileType::Directory)
        .filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned))
        .filter(|name| name != "." && name != "..")
        .collect()
}

/// Removes what dead owners have left, after killing whoever is in there.
fn collect(home: &Path) {
    let Ok(fd) = open_directory(CWD, home) else { return };
    let Ok(found) = fstat(&fd) else { return };
    // The same directory seen through another mount may have other locks, and then is not for us to judge.
    let ours = format!("{OURS}{}-", found.st_dev);
    let deadline = Instant::now() + COLLECT_BOUND;
    for name in directories_in(&fd).into_iter().filter(|name| name.starts_with(&ours)) {
        let Ok(leftover) = Directory::open(&fd, &name) else { continue };
        if flock(&leftover.fd, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        let _ = leftover.kill();
        while !remove_tree(fd.as_fd(), Path::new(&name), DEPTH) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Where this process may make control groups, and why it may not.
#[derive(Clone, Debug)]
pub(crate) struct NoCgroups(String);

impl fmt::Display for NoCgroups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The directory of the control group that this process was in when it was first asked for.
fn home() -> Result<&'static PathBuf, &'static String> {
    static HOME: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    HOME.get_or_init(find_home).as_ref()
}

/// Whether a run can be held by a control group; below which directory. It is tried once in a process.
pub(crate) fn cgroups(image: &Image) -> Result<&'static Path, &'static NoCgroups> {
    static TRIED: OnceLock<Result<PathBuf, NoCgroups>> = OnceLock::new();
    TRIED.get_or_init(|| try_out(image)).as_deref()
}

fn try_out(image: &Image) -> Result<PathBuf, NoCgroups> {
    let home = home().map_err(|lack| NoCgroups(lack.clone()))?;
    collect(home);
    let tried = Cgroup::take().and_then(|cgroup| {
        if let Err(error) =
            rustix::fs::accessat(&cgroup, "cgroup.kill", rustix::fs::Access::WRITE_OK, AtFlags::EACCESS)
        {
            let doing = "use cgroup.kill, which Linux has since 5.14";
            return Err(NotStarted { doing, error: error.into() });
        }
        rehearse(image, Within::Cgroup(cgroup.as_fd()))
    });
    // Nothing is kept of it: perhaps there will be no run.
    tidy_up();
    match tried {
        Ok(()) => Ok(home.clone()),
        Err(NotStarted { doing, error }) => {
            Err(NoCgroups(format!("in {}: cannot {doing}: {error}", home.display())))
        }
    }
}

fn find_home() -> Result<PathBuf, String> {
    let mounts =
        fs::read("/proc/self/mountinfo").map_err(|error| format!("/proc/self/mountinfo: {error}"))?;
    let own = fs::read("/proc/self/cgroup").map_err(|error| format!("/proc/self/cgroup: {error}"))?;
    let own = own
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(b"0::"))
        .ok_or("this process is in no control group of version 2")?;
    let own = PathBuf::from(OsString::from_vec(own.to_vec()));
    let mounted: Vec<_> = mounts.split(|byte| *byte == b'\n').filter_map(cgroup2_mount).collect();
    if mounted.is_empty() {
        return Err("no control groups of version 2 are mounted".to_owned());
    }
    mounted
        .into_iter()
        .filter_map(|(root, place)| Some(place.join(own.strip_prefix(root).ok()?).components().collect()))
        .find(|directory: &PathBuf| {
            !directory.components().any(|part| part.as_os_str() == "..") && directory.is_dir()
        })
        .ok_or_else(|| {
            format!("the control group of this process, {}, cannot be seen from here", own.display())
        })
}

/// The root and the mount point, if a line of `mountinfo` is about control groups of version 2.
fn cgroup2_mount(line: &[u8]) -> Option<(PathBuf, PathBuf)> {
    let mut words = line.split(|byte| *byte == b' ');
    let root = path_of(words.nth(3)?);
    let place = path_of(words.next()?);
    let mut after = words.skip_while(|word| *word != b"-").skip(1);
    (after.next()? == b"cgroup2").then_some((root, place))
}

/// A path as `mountinfo` writes it: some bytes as a backslash and three octal digits.
fn path_of(word: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let [first, after @ ..] = rest {
        let octal = |digits: &[u8; 3]| {
            digits.iter().try_fold(0u8, |value, digit| match digit {
                b'0'..=b'7' => value.checked_mul(8)?.checked_add(digit - b'0'),
                _ => None,
            })
        };
        match after.split_first_chunk::<3>().map(|(digits, after)| (octal(digits), after)) {
            Some((Some(byte), after)) if *first == b'\\' => {
                bytes.push(byte);
                rest = after;
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    Path::new(std::ffi::OsStr::from_bytes(&bytes)).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_of_control_groups_is_found_also_under_a_name_with_blanks() {
        let line = b"41 31 0:38 /a\\040b /sys/fs/c\\134g rw,relatime shared:1 - cgroup2 cgroup2 rw";
        assert_eq!(cgroup2_mount(line), Some(("/a b".into(), "/sys/fs/c\\g".into())));
        assert_eq!(cgroup2_mount(b"32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu"), None);
        assert_eq!(cgroup2_mount(b""), None);
    }
}
