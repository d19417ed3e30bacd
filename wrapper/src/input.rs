//! What a child reads from its stdin.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

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

/// The other end of a child's stdin. The child sees the end of its input when this is shut down or dropped.
#[derive(Debug)]
pub struct ChildStdin {
    /// `None` after the shutdown.
    end: Option<AsyncWriteEnd>,
}

impl ChildStdin {
    pub(crate) fn new(end: AsyncWriteEnd) -> Self {
        Self { end: Some(end) }
    }

    fn end(&mut self) -> io::Result<Pin<&mut AsyncWriteEnd>> {
        let end = self.end.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Pin::new(end))
    }
}

impl AsyncWrite for ChildStdin {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.end() {
            Ok(end) => end.poll_write(context, bytes),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A pipe has no buffer of ours.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The child can see the end only when the descriptor is closed; a pipe has no half-close.
        self.end = None;
        Poll::Ready(Ok(()))
    }
}

/// The supervisor's side of `Input::Bytes`.
pub(crate) struct Feeder {
    /// `None` when there is nothing more to write.
    rest: Option<Box<Rest>>,
}

struct Rest {
    end: WriteEnd,
    bytes: Bytes,
}

impl Feeder {
    pub(crate) fn new(end: WriteEnd, bytes: Bytes) -> Self {
        Self { rest: Some(Box::new(Rest { end, bytes })) }
    }

    pub(crate) fn none() -> Self {
        Self { rest: None }
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
        self.rest = None;
    }
}
