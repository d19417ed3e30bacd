//! Reading `/proc`: who is there, and what a process holds.
//!
//! By hand and in one place, because this is the hot path: a case may look many times.

use std::fs;
use std::io::{self, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use fake_cli::control::Descriptor;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawDir};
use rustix::process::Signal;

mod condition;
mod second;
pub use condition::{condition, used};
pub use second::SecondScanner;

/// The flag of a thread that exits, in the kernel's `sched.h`.
const PF_EXITING: u64 = 0x4;

/// What `/proc/PID/stat` says of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Its pid.
    pub pid: i32,
    /// Its name.
    pub comm: String,
    /// Its state: `S`, `R`, `T`, `D`, `Z`, `X`. `S` for a process whose main thread has ended while others live, which the kernel
    /// calls `Z`.
    pub state: char,
    /// Its parent.
    pub ppid: i32,
    /// Its process group.
    pub pgid: i32,
    /// Its session.
    pub sid: i32,
    /// When it started, in clock ticks since boot.
    pub start_ticks: u64,
    /// Whether it runs no code of its own any more: the kernel is taking down what it had, and it is no zombie yet.
    pub exits: bool,
}

impl Stat {
    /// Whether it is dead and waits for its parent.
    pub fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }

    /// Reads the text of a `stat` file. The name may hold spaces and parentheses, so the fields are counted from its last one.
    ///
    /// Nothing for a process that is just being released: it is neither alive nor a zombie any more, and the kernel gives -1 for its
    /// group and its session.
    pub fn parse(text: &str) -> Option<Self> {
        let (head, tail) = text.rsplit_once(')')?;
        let (pid, comm) = head.split_once('(')?;
        let fields = tail.split_ascii_whitespace().collect::<Vec<_>>();
        let number = |index: usize| fields.get(index)?.parse::<i32>().ok();
        let threads_live_on = number(17)? > 1;
        let state = match fields.first()?.chars().next()? {
            'Z' if threads_live_on => 'S',
            state => state,
        };
        let flags = fields.get(6)?.parse::<u64>().ok()?;
        if number(2)? == -1 {
            return None;
        }
        Some(Self {
            pid: pid.trim().parse().ok()?,
            comm: comm.to_owned(),
            state,
            ppid: number(1)?,
            pgid: number(2)?,
            sid: number(3)?,
            start_ticks: fields.get(19)?.parse().ok()?,
            exits: flags & PF_EXITING != 0 && !threads_live_on && !matches!(state, 'Z' | 'X'),
        })
    }
}

/// A process's `stat`; nothing if it is gone.
pub fn stat(pid: i32) -> Option<Stat> {
    read_at_once(&format!("/proc/{pid}/stat"), Stat::parse).ok()?
}

/// Gives what stands in a small file of the kernel's, which is whole only if it is read at once.
fn read_at_once<T>(path: &str, take: impl FnOnce(&str) -> T) -> io::Result<T> {
    let mut buffer = [0; 1024];
    let count = fs::File::open(path)?.read(&mut buffer)?;
    Ok(take(&String::from_utf8_lossy(&buffer[..count])))
}

/// All that stands in a file of the kernel's, with few calls: such a file does not say how long it is, and then std reads it
/// by 32 bytes at first.
fn read_whole(path: &str) -> io::Result<String> {
    read_until(path, |count, _| count == 0)
}

/// What `/proc/ID/status` says of a process or thread. The kernel writes that in one piece, so whatever leaves room is its end.
fn status(id: i32) -> io::Result<String> {
    read_until(&format!("/proc/{id}/status"), |count, room| count < room)
}

/// Reads until what was read, and how many bytes there was room for, say that it was the end.
fn read_until(path: &str, is_end: impl Fn(usize, usize) -> bool) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let mut bytes = vec![0; 4096];
    let mut length = 0;
    loop {
        if length == bytes.len() {
            bytes.resize(length * 2, 0);
        }
        let room = bytes.len() - length;
        let count = file.read(&mut bytes[length..])?;
        length += count;
        if is_end(count, room) {
            break;
        }
    }
    bytes.truncate(length);
    String::from_utf8(bytes).map_err(io::Error::other)
}

/// A folder of the kernel's, and those of its entries that are numbers, in order.
fn numbers_in(path: &str) -> io::Result<(OwnedFd, Vec<i32>)> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut entries = RawDir::new(&folder, &mut buffer);
    let mut numbers = Vec::new();
    while let Some(entry) = entries.next() {
        numbers.extend(entry?.file_name().to_str().ok().and_then(|name| name.parse::<i32>().ok()));
    }
    numbers.sort_unstable();
    Ok((folder, numbers))
}

/// The process that a thread belongs to; nothing if it is gone.
pub fn leader_of(thread: i32) -> Option<i32> {
    let text = status(thread).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}

/// Everyone in this `/proc`, in order of pid.
///
/// # Errors
///
/// When `/proc` itself cannot be read.
pub fn everyone() -> io::Result<Vec<Stat>> {
    let (_, pids) = numbers_in("/proc")?;
    Ok(pids.into_iter().filter_map(stat).collect())
}

/// The same without this one, at which nobody looks.
///
/// # Errors
///
/// As [`everyone`].
pub fn everyone_but(own: i32) -> io::Result<Vec<Stat>> {
    let (_, pids) = numbers_in("/proc")?;
    Ok(pids.into_iter().filter(|pid| *pid != own).filter_map(stat).collect())
}

/// The pid that was given out last in this pid namespace. Equal before and after a look: nothing was forked meanwhile.
///
/// # Errors
///
/// When `/proc/loadavg` cannot be read.
pub fn last_pid() -> io::Result<i32> {
    read_at_once("/proc/loadavg", |text| {
        let field = text.split_ascii_whitespace().next_back().and_then(|field| field.parse().ok());
        field.ok_or_else(|| io::Error::other(format!("no last pid in /proc/loadavg: {text:?}")))
    })?
}

/// The direct children of a process, those of all its threads.
pub fn children(pid: i32) -> Vec<i32> {
    let mut found = Vec::new();
    let Ok((_, threads)) = numbers_in(&format!("/proc/{pid}/task")) else { return found };
    for tid in threads {
        // Not below the process, as in `condition`; and the number may be somebody else's by now.
        if let Ok(text) = read_whole(&format!("/proc/{tid}/task/{tid}/children"))
            && (tid == pid || leader_of(tid) == Some(pid))
        {
            found.extend(text.split_ascii_whitespace().filter_map(|word| word.parse::<i32>().ok()));
        }
    }
    found
}

/// Everyone below these processes.
pub fn descendants(roots: &[i32]) -> Vec<Stat> {
    let mut pids: Vec<i32> = roots.iter().flat_map(|root| children(*root)).collect();
    let mut found = Vec::new();
    let mut next = 0;
    while next < pids.len() {
        let pid = pids[next];
        next += 1;
        for child in children(pid) {
            if !pids.contains(&child) {
                pids.push(child);
            }
        }
        if let Some(stat) = stat(pid)
            && !found.iter().any(|seen: &Stat| seen.pid == pid)
        {
            found.push(stat);
        }
    }
    found.sort_by_key(|stat| stat.pid);
    found
}

/// The open descriptors of a process, in order of number.
///
/// # Errors
///
/// When the process is gone or its descriptors may not be read.
pub fn descriptors(pid: i32) -> io::Result<Vec<Descriptor>> {
    let (folder, fds) = numbers_in(&format!("/proc/{pid}/fd"))?;
    let mut found = Vec::new();
    for fd in fds {
        let name = fd.to_string();
        // A descriptor that is closed while we look is not open.
        let (Ok(target), Ok(link)) = (
            rustix::fs::readlinkat(&folder, &name, Vec::new()),
            rustix::fs::statat(&folder, &name, AtFlags::SYMLINK_NOFOLLOW),
        ) else {
            continue;
        };
        let mode = mode(link.st_mode).to_owned();
        found.push(Descriptor { fd, target: target.to_string_lossy().into_owned(), mode });
    }
    Ok(found)
}

/// The access mode of a descriptor: the kernel gives it as the permissions of its link.
fn mode(permissions: u32) -> &'static str {
    match (permissions & 0o400 != 0, permissions & 0o200 != 0) {
        (true, false) => "r",
        (false, true) => "w",
        _ => "rw",
    }
}

/// Whether a signal is pending for a process that it has not taken yet.
pub fn has_pending_signal(pid: i32) -> bool {
    pending_signals(pid) != 0
}

/// Whether a process is to die of a KILL that it has not taken yet.
pub fn has_pending_kill(pid: i32) -> bool {
    is_kill_in(pending_signals(pid))
}

fn is_kill_in(signals: u64) -> bool {
    signals & (1 << (Signal::KILL.as_raw() - 1)) != 0
}

/// The signals that are pending for a process, the lowest bit for the first; none for one that is gone.
fn pending_signals(pid: i32) -> u64 {
    status(pid).map_or(0, |text| pending_in(&text))
}

fn pending_in(status: &str) -> u64 {
    let masks = status
        .lines()
        .filter_map(|line| line.strip_prefix("SigPnd:").or_else(|| line.strip_prefix("ShdPnd:")));
    masks.filter_map(|mask| u64::from_str_radix(mask.trim(), 16).ok()).fold(0, |all, mask| all | mask)
}

/// Whether whoever is started from now on has another start than this one, in clock ticks.
pub fn is_of_an_earlier_tick(start_ticks: u64) -> bool {
    age_us(start_ticks) >= 1_000_000 / rustix::param::clock_ticks_per_second()
}

/// How long ago a process started, in microseconds, from its start in clock ticks.
pub fn age_us(start_ticks: u64) -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let now_us = now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000;
    now_us.saturating_sub(start_ticks * 1_000_000 / rustix::param::clock_ticks_per_second())
}

/// Where the unified cgroup hierarchy is mounted and this process's place in it.
pub fn own_cgroup() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mount = mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let point = left.split(' ').nth(4)?;
        right.starts_with("cgroup2 ").then(|| point.to_owned())
    })?;
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let place = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(PathBuf::from(mount).join(place.trim_start_matches('/')))
}

/// How many children of a process, of any of its threads, are dead and not reaped.
pub fn zombies_of(pid: i32) -> u32 {
    children(pid).into_iter().filter_map(stat).filter(Stat::is_zombie).count() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_is_read() {
        let text = "42 (a) b (c) S 7 41 40 0 -1 4194560 9 0 0 0 0 0 0 0 20 0 1 0 12345 1 1 1";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.pid, stat.comm.as_str(), stat.state), (42, "a) b (c", 'S'));
        assert_eq!((stat.ppid, stat.pgid, stat.sid, stat.start_ticks), (7, 41, 40, 12345));
    }

    #[test]
    fn a_process_without_its_main_thread_is_no_zombie() {
        let of = |threads: u32| {
            Stat::parse(&format!(
                "42 (a) Z 7 41 40 0 -1 4194560 9 0 0 0 0 0 0 0 20 0 {threads} 0 12345 1 1 1"
            ))
            .unwrap()
        };
        assert!(of(1).is_zombie());
        assert!(!of(2).is_zombie());
    }

    #[test]
    fn a_process_exits_when_the_kernel_takes_it_down_and_not_when_its_main_thread_has_ended_or_it_is_dead() {
        let exits = |state: char, flags: u64, threads: u32| {
            let text =
                format!("42 (a) {state} 7 41 40 0 -1 {flags} 9 0 0 0 0 0 0 0 20 0 {threads} 0 12345 1 1 1");
            Stat::parse(&text).unwrap().exits
        };
        assert!(exits('R', 4_194_564, 1));
        assert!(!exits('R', 4_194_560, 1) && !exits('Z', 4_194_564, 1) && !exits('Z', 4_194_564, 2));
    }

    #[test]
    fn a_kill_is_pending_for_one_thread_or_for_all() {
        let pending = |thread: &str, shared: &str| {
            pending_in(&format!(
                "Name:\ta\nSigPnd:\t{thread}\nShdPnd:\t{shared}\nSigBlk:\t0000000000000100\n"
            ))
        };
        let [none, term, kill] = ["0000000000000000", "0000000000004000", "0000000000000100"];
        for killed in [pending(kill, none), pending(none, kill), pending(kill, term)] {
            assert!(is_kill_in(killed));
        }
        assert!(!is_kill_in(pending(none, term)) && pending(none, term) != 0);
        assert_eq!(pending(none, none), 0);
    }

    #[test]
    fn a_process_that_is_being_released_is_nobody() {
        let text = "655 (fake-cli) X 0 -1 -1 0 -1 4194560 9 0 0 0 0 0 0 0 20 0 0 0 3758691 0 0 0";
        assert_eq!(Stat::parse(text), None);
    }

    #[test]
    fn a_torn_stat_is_nobody() {
        for text in ["", "42", "42 (a", "42 (a) S", "x (a) S 1 1 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 5"] {
            assert_eq!(Stat::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn this_process_and_its_descriptors_are_seen() {
        let own = std::process::id() as i32;
        assert!(everyone().unwrap().iter().any(|stat| stat.pid == own && !stat.is_zombie()));
        let (reader, _writer) = io::pipe().unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&reader);
        let found = descriptors(own).unwrap().into_iter().find(|descriptor| descriptor.fd == fd).unwrap();
        assert!(found.target.starts_with("pipe:["), "{found:?}");
        assert_eq!(found.mode, "r");
    }
}
