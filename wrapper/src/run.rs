//! The handle of a run: its events, its end, and the ways to end it sooner.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::contain::Containment;
use crate::input::ChildStdin;
use crate::outcome::{Outcome, Reason};
use crate::output::Flow;
use crate::supervise::{Door, Key, Wish};

/// A child that was started, with everything it starts.
///
/// Dropping a run, or a future that holds it, cancels it. That needs no runtime: it works during unwinding and after
/// the runtime is gone. The dropped run still gets its grace; the library's own thread sees to the rest.
#[derive(Debug)]
#[must_use = "dropping a run cancels it"]
pub struct Run {
    pid: u32,
    containment: Containment,
    door: Door,
    board: Arc<Board>,
    flow: Arc<Flow>,
    events: UnboundedReceiver<Event>,
    stdin: Option<ChildStdin>,
    outcome: Option<Box<Outcome>>,
    /// Streamed while nobody took it.
    missed: Missed,
}

#[derive(Debug, Default)]
struct Missed {
    stdout: u64,
    stderr: u64,
}

/// What a run has to tell, in the order in which it happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The child was started. Always the first.
    Started {
        /// The number of the child at this time.
        pid: u32,
    },
    /// The child wrote to its stdout, which is [`Streamed`](crate::Output::Streamed).
    Stdout(Bytes),
    /// The child wrote to its stderr, which is [`Streamed`](crate::Output::Streamed).
    Stderr(Bytes),
    /// Everybody was asked to end.
    Stopping(Reason),
    /// The run has ended. Always the last.
    Ended(Box<Outcome>),
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// The child was started, and nobody has stopped the run.
    Running,
    /// The run was asked to end, and has not ended.
    Terminating,
    /// The run has ended.
    Terminated,
}

/// Names a run within this process. Never used twice, unlike a pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(Key);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What the start puts together to a handle.
pub(crate) struct Parts {
    pub(crate) pid: u32,
    pub(crate) containment: Containment,
    pub(crate) door: Door,
    pub(crate) board: Arc<Board>,
    pub(crate) flow: Arc<Flow>,
    pub(crate) events: UnboundedReceiver<Event>,
    pub(crate) stdin: Option<ChildStdin>,
}

impl Run {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { pid, containment, door, board, flow, events, stdin } = parts;
        Self { pid, containment, door, board, flow, events, stdin, outcome: None, missed: Missed::default() }
    }

    /// The name of this run.
    pub fn id(&self) -> RunId {
        RunId(self.door.key())
    }

    /// The pid of the child, `None` once it is reaped: then the number may be somebody else's.
    ///
    /// Nothing keeps it from being reaped right after this call, so do not signal it; [`cancel`](Self::cancel)
    /// cannot miss.
    pub fn pid(&self) -> Option<u32> {
        self.board.has_pid().then_some(self.pid)
    }

    /// What holds the run.
    pub fn containment(&self) -> Containment {
        self.containment
    }

    /// Where the run stands.
    pub fn state(&self) -> State {
        self.board.state()
    }

    /// Takes the other end of the child's stdin, if that is [`Piped`](crate::Input::Piped). The child waits for the
    /// end of its input until this is dropped; [`wait`](Self::wait) drops it if nobody took it.
    pub fn stdin(&mut self) -> Option<ChildStdin> {
        self.stdin.take()
    }

    /// Stops the run: everybody is asked to end, and killed when the grace is over. Returns at once.
    ///
    /// A second call does not wait for the grace and kills at once; further calls, and calls after the end, do
    /// nothing.
    pub fn cancel(&self) {
        self.canceller().cancel();
    }

    /// A handle that cancels the run from anywhere, also from another thread. It does not keep the run alive.
    pub fn canceller(&self) -> Canceller {
        Canceller { door: self.door.clone(), board: Arc::clone(&self.board) }
    }

    /// The next event; `None` after [`Event::Ended`]. Cancel-safe: no event is lost if the future is dropped.
    pub async fn next_event(&mut self) -> Option<Event> {
        std::future::poll_fn(|context| self.poll_event(context)).await
    }

    /// Waits for the end of the run. Asking again gives the same answer. Cancel-safe.
    ///
    /// Output that is streamed and was not taken by then is thrown away, so that the child does not block, and
    /// counted in [`Capture::dropped`](crate::Capture::dropped).
    ///
    /// This takes no longer than the child takes; with a timeout no longer than that; and after that no longer than
    /// the grace, two seconds for a kill that is not obeyed, and the drain window.
    pub async fn wait(&mut self) -> Outcome {
        // A child that reads its input to the end would wait for us.
        self.stdin = None;
        loop {
            if let Some(outcome) = &self.outcome {
                return Outcome::clone(outcome);
            }
            match self.next_event().await {
                Some(Event::Stdout(bytes)) => self.missed.stdout += bytes.len() as u64,
                Some(Event::Stderr(bytes)) => self.missed.stderr += bytes.len() as u64,
                _ => {}
            }
        }
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<Event>> {
        if self.outcome.is_some() {
            return Poll::Ready(None);
        }
        let event = ready!(self.events.poll_recv(context));
        let mut event = event.expect("a case sends its outcome before it is dropped");
        match &mut event {
            Event::Stdout(bytes) | Event::Stderr(bytes) => {
                if self.flow.took(bytes.len()) {
                    self.door.resume();
                }
            }
            Event::Ended(outcome) => {
                outcome.stdout.dropped += self.missed.stdout;
                outcome.stderr.dropped += self.missed.stderr;
                self.stdin = None;
                self.outcome = Some(outcome.clone());
            }
            Event::Started { .. } | Event::Stopping(_) => {}
        }
        Poll::Ready(Some(event))
    }
}

impl Stream for Run {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.poll_event(context)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.state() != State::Terminated {
            self.door.stop(Wish::Drop);
        }
    }
}

/// Cancels a run from anywhere.
#[derive(Clone, Debug)]
pub struct Canceller {
    door: Door,
    board: Arc<Board>,
}

impl Canceller {
    /// See [`Run::cancel`]; all cancellers of a run, and the run itself, count together.
    pub fn cancel(&self) {
        if self.board.state() != State::Terminated {
            self.door.stop(Wish::Cancel);
        }
    }
}

/// What the supervisor lets everybody know about a run.
#[derive(Debug)]
pub(crate) struct Board {
    state: AtomicU8,
    reaped: AtomicBool,
}

impl Board {
    pub(crate) fn new() -> Self {
        Self { state: AtomicU8::new(State::Running as u8), reaped: AtomicBool::new(false) }
    }

    pub(crate) fn post(&self, state: State) {
        self.state.store(state as u8, Ordering::SeqCst);
    }

    pub(crate) fn forget_pid(&self) {
        self.reaped.store(true, Ordering::SeqCst);
    }

    fn has_pid(&self) -> bool {
        !self.reaped.load(Ordering::SeqCst)
    }

    fn state(&self) -> State {
        const TERMINATING: u8 = State::Terminating as u8;
        const TERMINATED: u8 = State::Terminated as u8;
        match self.state.load(Ordering::SeqCst) {
            TERMINATED => State::Terminated,
            TERMINATING => State::Terminating,
            _ => State::Running,
        }
    }
}
