//! The pipes between the owner and a child. Our ends never block; the child's ends do, as programs expect.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use super::poller::{Poller, Token, Watch};

/// The owner's end of a child's stdin, for use inside a tokio runtime.
pub(crate) type AsyncWriteEnd = tokio::net::unix::pipe::Sender;

/// The owner's end of a pipe that the child writes.
#[derive(Debug)]
pub(crate) struct ReadEnd {
    watch: Watch,
    extra: Option<ExtraRoom>,
}

/// The size of a pipe that was enlarged. A default pipe has a quarter of that, and makes the writer of a flood wait for
/// the reader, and the reader for the writer, four times as often.
const ENLARGED: usize = 256 * 1024;

/// How many pipes of this process may be enlarged at a time. The kernel gives an unprivileged user 64 MiB for all pipes
/// by default, and makes new pipes tiny beyond that; so this takes an eighth of it at most.
const MOST_ENLARGED: usize = 32;

static ENLARGED_NOW: AtomicUsize = AtomicUsize::new(0);

/// One of the few permissions to enlarge a pipe.
#[derive(Debug)]
struct ExtraRoom;

impl ExtraRoom {
    fn get() -> Option<Self> {
        let one_more = |now| (now < MOST_ENLARGED).then_some(now + 1);
        ENLARGED_NOW.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok().map(|_| Self)
    }
}

impl Drop for ExtraRoom {
    fn drop(&mut self) {
        ENLARGED_NOW.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The child's end of one of its standard streams.
#[derive(Debug)]
pub(crate) enum ChildEnd {
    Null,
    /// The owner's own.
    Inherited,
    Fd(OwnedFd),
}

impl From<ChildEnd> for Stdio {
    fn from(end: ChildEnd) -> Self {
        match end {
            ChildEnd::Null => Self::null(),
            ChildEnd::Inherited => Self::inherit(),
            ChildEnd::Fd(fd) => Self::from(fd),
        }
    }
}

/// What one read brought.
pub(crate) enum Got {
    Bytes(usize),
    NothingYet,
    End,
}

/// Makes a pipe for the child to write into. The read end is watched from now on.
pub(crate) fn child_writes(poller: &Arc<Poller>, token: Token) -> io::Result<(ReadEnd, ChildEnd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    set_nonblocking(&read)?;
    let watch = Watch::readable(poller, read, token)?;
    Ok((ReadEnd { watch, extra: None }, ChildEnd::Fd(write)))
}

impl ReadEnd {
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<Got> {
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.watch, &mut *buffer)) {
            Ok(0) => Ok(Got::End),
            Ok(count) => Ok(Got::Bytes(count)),
            Err(Errno::AGAIN) => Ok(Got::NothingYet),
            Err(error) => Err(error.into()),
        }
    }

    /// The most that the pipe can hold at one time.
    pub(crate) fn capacity(&self) -> usize {
        rustix::pipe::fcntl_getpipe_size(&self.watch).unwrap_or(usize::from(u16::MAX) + 1)
    }

    /// Makes room for a flood, if this process and its user have any to spare. To be called once.
    pub(crate) fn enlarge(&mut self) {
        let Some(extra) = ExtraRoom::get() else { return };
        // The child may have enlarged it further itself. A refusal is no loss: everything works without it.
        if self.capacity() < ENLARGED && rustix::pipe::fcntl_setpipe_size(&self.watch, ENLARGED).is_ok() {
            self.extra = Some(extra);
        }
    }

    pub(crate) fn pause(&mut self) {
        self.watch.pause();
    }

    pub(crate) fn resume(&mut self) -> io::Result<()> {
        self.watch.resume()
    }
}

/// Whether a copy of this process has not come to its exec yet, whoever starts it. Until then it has a copy of every
/// descriptor of ours, also of the ends of pipes that are meant for somebody else.
pub(crate) fn some_child_is_starting() -> bool {
    !who_is_starting().is_empty()
}

fn who_is_starting() -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let processes: Vec<_> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        // One that cannot be read has just ended.
        .filter_map(|pid: u32| std::fs::read(format!("/proc/{pid}/stat")).ok())
        .filter_map(|stat| Process::of(&String::from_utf8_lossy(&stat)))
        .collect();
    copies_before_their_exec(&processes, std::process::id())
}

/// What the kernel says of a process.
#[derive(Debug)]
struct Process {
    pid: u32,
    parent: u32,
    has_ended: bool,
    has_executed: bool,
    /// Where its first stack began: a process has that place from its exec, and a copy of it has the same. 0 where that is
    /// not to be known.
    stack: u64,
}

impl Process {
    fn of(stat: &str) -> Option<Self> {
        /// PF_FORKNOEXEC of the kernel: forked, and no exec since.
        const NO_EXEC_YET: u32 = 0x40;
        // The name may hold anything, also parentheses. Behind it: state, parent, group, session, terminal, its group, flags…
        let (pid, _) = stat.split_once(' ')?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        let flags: u32 = fields.nth(4)?.parse().ok()?;
        // …and eighteen others, and the stack.
        let stack = fields.nth(18)?.parse().ok()?;
        Some(Self {
            pid: pid.parse().ok()?,
            parent,
            has_ended: matches!(state, "Z" | "X"),
            has_executed: flags & NO_EXEC_YET == 0,
            stack,
        })
    }
}

/// The children of this process, and those children of them that are copies of it: a command of the standard library's that
/// is held by a nanny is a child of the nanny's, which may have executed already.
fn copies_before_their_exec(processes: &[Process], own: u32) -> Vec<u32> {
    let parent_of = |pid| processes.iter().find(|process| process.pid == pid).map(|process| process.parent);
    let our_stack = processes.iter().find(|process| process.pid == own).map_or(0, |process| process.stack);
    let may_be_copy = |process: &Process| process.stack == 0 || process.stack == our_stack;
    processes
        .iter()
        .filter(|process| !process.has_executed && !process.has_ended)
        .filter(|process| {
            process.parent == own || may_be_copy(process) && parent_of(process.parent) == Some(own)
        })
        .map(|process| process.pid)
        .collect()
}

/// The owner's end of a pipe that the child reads.
#[derive(Debug)]
pub(crate) struct WriteEnd(Watch);

/// What one write did.
pub(crate) enum Sent {
    Bytes(usize),
    NotYet,
    /// The child has closed its end, which is not an error: it need not read what it was given.
    Refused,
}

/// Makes a pipe for the child to read. The write end is watched from now on.
pub(crate) fn child_reads(poller: &Arc<Poller>, token: Token) -> io::Result<(WriteEnd, ChildEnd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    set_nonblocking(&write)?;
    Ok((WriteEnd(Watch::writable(poller, write, token)?), ChildEnd::Fd(read)))
}

impl WriteEnd {
    /// Must be called with SIGPIPE blocked or ignored.
    pub(crate) fn write(&self, bytes: &[u8]) -> Sent {
        match rustix::io::retry_on_intr(|| rustix::io::write(&self.0, bytes)) {
            Ok(count) => Sent::Bytes(count),
            Err(Errno::AGAIN) => Sent::NotYet,
            Err(_) => Sent::Refused,
        }
    }
}

/// Makes a pipe for the child to read whose write end is registered with the current tokio runtime.
pub(crate) fn child_reads_async() -> io::Result<(AsyncWriteEnd, ChildEnd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok((AsyncWriteEnd::from_owned_fd(write)?, ChildEnd::Fd(read)))
}

fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd.as_fd())?;
    Ok(rustix::fs::fcntl_setfl(fd.as_fd(), flags | OFlags::NONBLOCK)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the kernel writes it.
    fn stat(pid: u32, state: char, parent: u32, flags: u32, stack: u64) -> String {
        let before = format!("{pid} (a) b) {state} {parent} {pid} {pid} 0 -1 {flags}");
        format!("{before} 1 2 3 4 5 6 7 8 20 0 1 0 99 4096 5 6 7 8 {stack} 0 0 0")
    }

    #[test]
    fn whoever_has_copies_of_our_pipes_is_found_and_nobody_else() {
        const OWN: u32 = 10;
        const OUR_STACK: u64 = 140_722_739_395_488;
        const NO_EXEC: u32 = 0x0040_0040;
        const EXECUTED: u32 = 0x0040_0000;
        let stats = [
            stat(OWN, 'S', 1, EXECUTED, OUR_STACK),
            // A child before its exec, and one that never came to it.
            stat(11, 'D', OWN, NO_EXEC, OUR_STACK),
            stat(12, 'Z', OWN, NO_EXEC, 0),
            // A nanny with a program that waits for it, and with one that has ended.
            stat(20, 'S', OWN, EXECUTED, 7),
            stat(21, 'S', 20, NO_EXEC, OUR_STACK),
            stat(22, 'Z', 20, NO_EXEC, 0),
            // Of another user's.
            stat(23, 'S', 20, NO_EXEC, 0),
            // A shell with a part of itself, and whom that one has started.
            stat(30, 'S', OWN, EXECUTED, 8),
            stat(31, 'S', 30, NO_EXEC, 8),
            stat(32, 'S', 31, EXECUTED, 9),
            // A stranger's.
            stat(40, 'S', 1, NO_EXEC, OUR_STACK),
        ];
        let processes: Vec<_> = stats.iter().filter_map(|stat| Process::of(stat)).collect();
        assert_eq!(processes.len(), stats.len());
        assert_eq!(copies_before_their_exec(&processes, OWN), [11, 21, 23]);
    }

    /// What is to be read of ourselves is that of the kernel, and not only of the test above.
    #[test]
    fn this_process_has_executed_and_has_a_stack() {
        let stat = std::fs::read_to_string("/proc/self/stat").expect("our own");
        let own = Process::of(&stat).expect("it can be read");
        assert_eq!(own.pid, std::process::id());
        assert!(own.has_executed && !own.has_ended && own.stack != 0, "{own:?}");
    }

    #[cfg(has_nanny)]
    #[test]
    fn a_program_that_has_come_from_another_builder_and_waits_at_its_gate_is_seen() {
        use std::io::{Read, Write};
        use std::os::fd::AsRawFd;
        use std::os::unix::process::CommandExt;
        use std::process::Command;
        use std::time::{Duration, Instant};

        use rustix::event::{PollFd, PollFlags, Timespec, poll};

        use super::super::adoption::Adoption;
        use super::super::image::image;
        use super::super::nanny::{Nanny, Within};

        let patience = Instant::now() + Duration::from_secs(10);
        let poller = Arc::new(Poller::new().expect("a poller"));
        let image = image().expect("a nanny");
        let mut command = Command::new("true");
        let mut adoption = Adoption::default();
        let end = |mut nanny: Nanny| {
            while !nanny.is_gone() {
                assert!(Instant::now() < patience, "it does not end");
                std::thread::sleep(Duration::from_millis(1));
                nanny.listen();
            }
            nanny.reap();
        };
        // The first start puts the hook into the command that divides the process; what is put in after that is for the program.
        let first = Nanny::adopt(image, &mut command, &mut adoption, Within::Nothing, &poller, 0);
        end(first.map_err(|lack| lack.error).expect("it starts"));

        let (told, tell) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
        let (gate, latch) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
        let (tell_number, gate_number) = (tell.as_raw_fd(), gate.as_raw_fd());
        let waits = move || {
            // SAFETY: both descriptors are open as long as the command is started, the bytes are there to be read and to be
            // written, and the calls are async-signal-safe.
            unsafe {
                let number = libc::getpid().to_ne_bytes();
                libc::write(tell_number, number.as_ptr().cast(), number.len());
                let mut word = [0u8];
                libc::read(gate_number, word.as_mut_ptr().cast(), word.len());
            }
            Ok(())
        };
        // SAFETY: see above.
        unsafe { command.pre_exec(waits) };
        std::thread::scope(|scope| {
            let starts =
                scope.spawn(|| Nanny::adopt(image, &mut command, &mut adoption, Within::Nothing, &poller, 0));
            let bound = Timespec { tv_sec: 10, tv_nsec: 0 };
            let has_told = poll(&mut [PollFd::new(&told, PollFlags::IN)], Some(&bound));
            let seen = who_is_starting();
            std::fs::File::from(latch).write_all(b"!").expect("it waits");
            let started = starts.join().expect("no panic").map_err(|lack| lack.error);
            end(started.expect("it starts"));
            assert_eq!(has_told, Ok(1));
            let mut number = [0; 4];
            std::fs::File::from(told).read_exact(&mut number).expect("it has told its number");
            let number = u32::from_ne_bytes(number);
            assert!(seen.contains(&number), "{number} is not in {seen:?}");
        });
        drop((tell, gate));
    }
}
