//! The folder that a crew works in: private, short, and not left behind.

use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Longest path of the folder that the crew's own is made in: a socket's path holds 107 bytes.
const MOST_PARENT_BYTES: usize = 50;
/// What the folder's name starts with.
const PREFIX: &str = "headcount-";
/// Where it is made if nowhere else is fit.
const LAST_RESORT: &str = "/tmp";
/// What commands write is kept there; a place with less room than this is passed over.
const LEAST_FREE_BYTES: u64 = 1024 * 1024 * 1024;
/// Locked as long as the crew lives. The kernel unlocks it however the crew ends.
const LOCK: &str = "lock";

/// A private folder, removed when it is dropped; what a killed crew left is removed by the next one.
#[derive(Debug)]
pub(crate) struct Workplace {
    folder: TempDir,
    _lock: File,
}

impl Workplace {
    /// Makes one, in memory where that can be had, since every case makes a dozen files.
    pub(crate) fn make() -> io::Result<Self> {
        let mut refused = None;
        for parent in [PathBuf::from("/dev/shm"), std::env::temp_dir(), PathBuf::from(LAST_RESORT)] {
            // No spaces, because command templates get paths in it.
            let text = parent.to_string_lossy();
            if text.len() > MOST_PARENT_BYTES || text.contains(char::is_whitespace) || !parent.is_absolute() {
                continue;
            }
            remove_stale(&parent);
            if free_bytes(&parent) < LEAST_FREE_BYTES && parent != Path::new(LAST_RESORT) {
                continue;
            }
            match Self::make_in(&parent) {
                Ok(place) => return Ok(place),
                Err(error) => refused = Some(error),
            }
        }
        Err(refused.expect("the last of them is fit to be tried"))
    }

    fn make_in(parent: &Path) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
        // Locked before it has its name, so that nobody finds it unlocked.
        let unnamed = folder.path().join("lock.new");
        let lock = File::create_new(&unnamed)?;
        lock.lock()?;
        std::fs::rename(unnamed, folder.path().join(LOCK))?;
        Ok(Self { folder, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// What nearly every case leaves in its folder: sockets, and what the host wrote.
const USUAL_FILES: [&str; 4] = ["c", "h", "out", "err"];
/// Where its first run had its program, which is beside its script.
const RUN: &str = "r1";
const PROGRAM: [&str; 2] = ["fake", "fake.play.json"];
/// Folders that are empty by then, in nearly every case.
const USUAL_FOLDERS: [&str; 3] = [RUN, "home", "tmp"];

/// Removes the folder of a case with all that is in it. No link in it is followed.
pub(crate) fn remove_case(folder: &Path) -> io::Result<()> {
    // Whatever cannot be removed by its name is in the way of the folder's own removal, and met again below.
    drop(remove_usual(folder));
    match std::fs::remove_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => std::fs::remove_dir_all(folder),
        removed => removed,
    }
}

/// By name, which takes a third of the calls that it takes to look what there is.
fn remove_usual(folder: &Path) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, unlinkat};
    let remove = |place: &OwnedFd, names: &[&str], flags: AtFlags| {
        for name in names {
            // See above.
            let _ = unlinkat(place, *name, flags);
        }
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = openat(CWD, folder, flags, Mode::empty())?;
    if let Ok(run) = openat(&folder, RUN, flags, Mode::empty()) {
        remove(&run, &PROGRAM, AtFlags::empty());
    }
    remove(&folder, &USUAL_FILES, AtFlags::empty());
    remove(&folder, &USUAL_FOLDERS, AtFlags::REMOVEDIR);
    Ok(())
}

/// Removes the folders of crews that are gone. One without a lock is being made and is left alone; so is everything that is not
/// this user's, since anybody may make a folder of such a name here.
fn remove_stale(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) || !is_own_folder(&entry.path()) {
            continue;
        }
        let Some(lock) = open_lock(&entry.path().join(LOCK)) else { continue };
        match lock.try_lock() {
            Ok(()) => {
                // Another crew may be removing it too.
                if let Err(error) = std::fs::remove_dir_all(entry.path())
                    && error.kind() != io::ErrorKind::NotFound
                {
                    eprintln!("headcount: a stale folder stays: {}: {error}", entry.path().display());
                }
            }
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
        }
    }
}

/// How much can be written where this path is; nothing if that cannot be told.
pub(crate) fn free_bytes(path: &Path) -> u64 {
    rustix::fs::statvfs(path).map_or(0, |found| found.f_bavail.saturating_mul(found.f_frsize))
}

/// Whether it is a folder, not a link to one, of this user.
fn is_own_folder(path: &Path) -> bool {
    let own = rustix::process::geteuid().as_raw();
    std::fs::symlink_metadata(path).is_ok_and(|found| found.is_dir() && found.uid() == own)
}

/// Opens a lock if it is a plain file: no link is followed, and nothing is waited for.
fn open_lock(path: &Path) -> Option<File> {
    use rustix::fs::OFlags;
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let lock = File::options().read(true).custom_flags(flags.bits() as i32).open(path).ok()?;
    lock.metadata().is_ok_and(|found| found.is_file()).then_some(lock)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn the_folder_of_a_case_goes_with_all_that_is_in_it_and_nothing_elsewhere() {
        let elsewhere = tempfile::tempdir().unwrap();
        let theirs = elsewhere.path().join(PROGRAM[0]);
        let parent = tempfile::tempdir().unwrap();
        let case = |name: &str| {
            let folder = parent.path().join(name);
            USUAL_FOLDERS.iter().for_each(|inner| fs::create_dir_all(folder.join(inner)).unwrap());
            USUAL_FILES.iter().for_each(|file| fs::write(folder.join(file), "").unwrap());
            PROGRAM.iter().for_each(|file| fs::write(folder.join(RUN).join(file), "").unwrap());
            fs::write(&theirs, "").unwrap();
            folder
        };
        let usual = case("usual");
        remove_usual(&usual).unwrap();
        assert_eq!(fs::read_dir(&usual).unwrap().count(), 0, "what is usual is known by name");
        remove_case(&usual).unwrap();
        let more = case("more");
        fs::create_dir_all(more.join("tmp/deep/deeper")).unwrap();
        fs::create_dir(more.join("r2")).unwrap();
        remove_case(&more).unwrap();
        let linked = case("linked");
        fs::remove_dir_all(linked.join(RUN)).unwrap();
        symlink(elsewhere.path(), linked.join(RUN)).unwrap();
        fs::remove_dir(linked.join("home")).unwrap();
        symlink(elsewhere.path(), linked.join("home")).unwrap();
        remove_case(&linked).unwrap();
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
        assert!(theirs.exists());
        assert!(remove_case(&usual).is_err(), "it is gone already");
    }

    #[test]
    fn what_a_killed_crew_left_is_removed_and_what_a_living_one_has_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let living = Workplace::make_in(parent.path()).unwrap();
        let killed = Workplace::make_in(parent.path()).unwrap();
        // As the kernel does at a SIGKILL: the lock goes, the folder stays.
        let Workplace { folder, _lock } = killed;
        drop(_lock);
        let killed = folder.keep();
        let strange = parent.path().join("headcount-strange");
        fs::create_dir(&strange).unwrap();
        // A pipe for a lock would be waited for by whoever opens it.
        let trap = parent.path().join("headcount-trap");
        fs::create_dir(&trap).unwrap();
        nix::unistd::mkfifo(&trap.join(LOCK), nix::sys::stat::Mode::S_IRWXU).unwrap();
        // A process that a test beside this one is just starting may have the lock until it executes its program.
        let deadline = Instant::now() + Duration::from_secs(10);
        while killed.exists() && Instant::now() < deadline {
            remove_stale(parent.path());
        }
        assert!(trap.exists());
        assert!(living.path().exists() && strange.exists());
        assert!(!killed.exists());
    }
}
