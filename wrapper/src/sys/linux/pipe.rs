//! The pipes between the owner and a child. Our ends never block; the child's ends do, as programs expect.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Stdio;
use std::sync::Arc;

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use super::poller::{Poller, Token, Watch};

/// The owner's end of a child's stdin, for use inside a tokio runtime.
pub(crate) type AsyncWriteEnd = tokio::net::unix::pipe::Sender;

/// The owner's end of a pipe that the child writes.
#[derive(Debug)]
pub(crate) struct ReadEnd(Watch);

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
    Ok((ReadEnd(Watch::readable(poller, read, token)?), ChildEnd::Fd(write)))
}

impl ReadEnd {
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<Got> {
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.0, &mut *buffer)) {
            Ok(0) => Ok(Got::End),
            Ok(count) => Ok(Got::Bytes(count)),
            Err(Errno::AGAIN) => Ok(Got::NothingYet),
            Err(error) => Err(error.into()),
        }
    }

    /// The most that the pipe can hold at one time.
    pub(crate) fn capacity(&self) -> usize {
        rustix::pipe::fcntl_getpipe_size(&self.0).unwrap_or(usize::from(u16::MAX) + 1)
    }

    pub(crate) fn pause(&mut self) {
        self.0.pause();
    }

    pub(crate) fn resume(&mut self) -> io::Result<()> {
        self.0.resume()
    }
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
