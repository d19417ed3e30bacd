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

/// Whether a child of this process has not come to its exec yet, whoever starts it. Until then it has a copy of every
/// descriptor of ours, also of the ends of pipes that are meant for somebody else.
pub(crate) fn some_child_is_starting() -> bool {
    let Ok(entries) = std::fs::read_dir("/proc") else { return false };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        // One that cannot be read has just ended.
        .filter_map(|pid: u32| std::fs::read(format!("/proc/{pid}/stat")).ok())
        .any(|stat| is_our_child_before_its_exec(&String::from_utf8_lossy(&stat)))
}

fn is_our_child_before_its_exec(stat: &str) -> bool {
    /// PF_FORKNOEXEC of the kernel: forked, and no exec since.
    const NO_EXEC_YET: u32 = 0x40;
    // Behind the name, which may hold anything: state, parent, group, session, terminal, its group, flags.
    let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let parent = fields.nth(1).and_then(|field| field.parse().ok());
    let flags = fields.nth(4).and_then(|field| field.parse::<u32>().ok());
    parent == Some(std::process::id()) && flags.is_some_and(|flags| flags & NO_EXEC_YET != 0)
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
