//! What a child reads from its stdin.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

use crate::minder::{Part, Parts};
use crate::run::Common;
use crate::supervise::Door;
use crate::sys::{AsyncWriteEnd, Sent, WriteEnd};

/// What a child finds as its stdin.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Input {
    /// Nothing: reading it ends at once. The safe choice for a child in a group of its own, which would be stopped
    /// if it read from a terminal.
    #[default]
    Null,
    /// A pipe; [`Run::stdin`](crate::Run::stdin) is its other end.
    Piped,
    /// These bytes, and then the end. They are written while the run goes on, without any help of the owner.
    Bytes(Bytes),
    /// The owner's own stdin.
    Inherited,
}

/// The other end of a child's stdin. The child sees the end of its input when this is shut down or dropped, or when the
/// run's minder is shut down: then writing to it is an error.
#[derive(Debug)]
pub struct ChildStdin {
    common: Arc<Common>,
}

impl ChildStdin {
    pub(crate) fn new(common: &Arc<Common>, end: AsyncWriteEnd) -> Self {
        common.stdin.lock().end = Some(end);
        Self { common: Arc::clone(common) }
    }

    /// Has the supervisor close it, when it has heard what it was told before.
    pub(crate) fn leave_to(self, door: &Door) {
        self.common.stdin.lock().is_left = true;
        door.end_input(Arc::clone(&self.common));
    }
}

/// The descriptor of a [`ChildStdin`], where its minder can close it.
#[derive(Debug, Default)]
pub(crate) struct StdinEnd(Mutex<Writing>);

#[derive(Debug, Default)]
struct Writing {
    /// `None` when it is closed.
    end: Option<AsyncWriteEnd>,
    closed: Option<Instant>,
    /// Nobody writes to it any more: the supervisor closes it, at the run's end at the latest.
    is_left: bool,
    /// Who waits for room in the pipe. The end does not wake it when it is closed.
    waker: Option<Waker>,
}

impl StdinEnd {
    fn lock(&self) -> MutexGuard<'_, Writing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it was open.
    fn close(&self) -> bool {
        let mut writing = self.lock();
        let (end, waker) = (writing.end.take(), writing.waker.take());
        if end.is_some() {
            writing.closed = Some(Instant::now());
        }
        drop(writing);
        // Not under the lock: it runs what is somebody else's.
        if let Some(waker) = waker {
            waker.wake();
        }
        end.is_some()
    }
}

impl Common {
    /// Closes the other end of the child's stdin, whoever has it.
    pub(crate) fn close_stdin(&self) {
        if self.stdin.close() {
            self.lose(Parts::default().with(Part::Stdin));
        }
    }

    /// Closes it if nobody has it any more.
    pub(crate) fn close_left_stdin(&self) {
        if self.stdin.lock().is_left {
            self.close_stdin();
        }
    }

    /// Whether it is there and open.
    pub(crate) fn has_stdin(&self) -> bool {
        self.stdin.lock().end.is_some()
    }

    /// When it was closed, if it was there and is closed.
    pub(crate) fn stdin_closed(&self) -> Option<Instant> {
        self.stdin.lock().closed
    }
}

impl Drop for ChildStdin {
    fn drop(&mut self) {
        if !self.common.stdin.lock().is_left {
            self.common.close_stdin();
        }
    }
}

impl AsyncWrite for ChildStdin {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut writing = self.common.stdin.lock();
        let Some(end) = &mut writing.end else { return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) };
        let written = Pin::new(end).poll_write(context, bytes);
        writing.waker = written.is_pending().then(|| context.waker().clone());
        written
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A pipe has no buffer of ours.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The child can see the end only when the descriptor is closed; a pipe has no half-close.
        self.common.close_stdin();
        Poll::Ready(Ok(()))
    }
}

/// The supervisor's side of `Input::Bytes`.
pub(crate) struct Feeder {
    /// `None` when there is nothing more to write.
    rest: Option<Box<Rest>>,
    closed: Option<Instant>,
}

struct Rest {
    end: WriteEnd,
    bytes: Bytes,
}

impl Feeder {
    pub(crate) fn new(end: WriteEnd, bytes: Bytes) -> Self {
        Self { rest: Some(Box::new(Rest { end, bytes })), closed: None }
    }

    pub(crate) fn none() -> Self {
        Self { rest: None, closed: None }
    }

    pub(crate) fn has_more(&self) -> bool {
        self.rest.is_some()
    }

    /// Writes what fits into the pipe, and closes it after the last byte or when the child wants no more.
    pub(crate) fn feed(&mut self) {
        let Some(rest) = &mut self.rest else { return };
        while !rest.bytes.is_empty() {
            match rest.end.write(&rest.bytes) {
                Sent::Bytes(count) => rest.bytes.advance(count),
                Sent::NotYet => return,
                Sent::Refused => break,
            }
        }
        self.close();
    }

    pub(crate) fn close(&mut self) {
        if self.rest.take().is_some() {
            self.closed = Some(Instant::now());
        }
    }

    /// When the child's input has ended, if it was fed and has.
    pub(crate) fn closed(&self) -> Option<Instant> {
        self.closed
    }
}
