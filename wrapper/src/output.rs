//! A child's output on its way to the owner: captured up to a limit, or streamed with backpressure.
//!
//! The supervisor reads, so that output is drained and pipes are closed whatever the owner's runtime does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedSender;

use crate::outcome::{Capture, StreamEnd};
use crate::run::Event;
use crate::sys::{Got, ReadEnd};

/// What becomes of a child's stdout or stderr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Output {
    /// Kept for the outcome, up to the capture limit. What is beyond is read, so that the child does not block, and
    /// counted.
    #[default]
    Captured,
    /// Handed out as events. A child that writes faster than the events are taken has to wait.
    Streamed,
    /// Goes where the owner's goes.
    Inherited,
    /// Thrown away unread.
    Null,
}

/// Which of the two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn event(self, bytes: Bytes) -> Event {
        match self {
            Self::Stdout => Event::Stdout(bytes),
            Self::Stderr => Event::Stderr(bytes),
        }
    }
}

/// Streaming stops while this much is on its way…
const HIGH_WATER: usize = 256 * 1024;
/// …until no more than this is left.
const LOW_WATER: usize = 64 * 1024;

/// How many bytes of a run are on their way to whoever takes its events.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    on_the_way: AtomicUsize,
    stopped: AtomicBool,
}

impl Flow {
    /// Counts bytes that were taken. True if the supervisor waits to hear of it.
    pub(crate) fn took(&self, count: usize) -> bool {
        let left = self.on_the_way.fetch_sub(count, Ordering::SeqCst) - count;
        left <= LOW_WATER && self.stopped.swap(false, Ordering::SeqCst)
    }

    fn sends(&self, count: usize) {
        self.on_the_way.fetch_add(count, Ordering::SeqCst);
    }

    /// Whether to stop for now. If so, some later `took` will be true.
    fn must_stop(&self) -> bool {
        if self.on_the_way.load(Ordering::SeqCst) < HIGH_WATER {
            return false;
        }
        self.stopped.store(true, Ordering::SeqCst);
        // Everything may have been taken between the two, and then nobody would tell us.
        let drained = self.on_the_way.load(Ordering::SeqCst) <= LOW_WATER;
        !(drained && self.stopped.swap(false, Ordering::SeqCst))
    }
}

/// The supervisor's side of one stream.
pub(crate) struct Intake {
    /// Open until the stream has ended or was cut.
    end: Option<ReadEnd>,
    fate: Fate,
    total: u64,
    dropped: u64,
    finish: StreamEnd,
}

/// What becomes of the bytes.
enum Fate {
    Kept { bytes: Vec<u8>, limit: usize },
    Sent { stream: Stream, events: UnboundedSender<Event>, flow: Arc<Flow> },
    Dropped,
}

/// Whether one read was the last for now.
enum After {
    More,
    Dry,
}

impl Intake {
    pub(crate) fn captured(end: ReadEnd, limit: usize) -> Self {
        Self::new(end, Fate::Kept { bytes: Vec::new(), limit })
    }

    pub(crate) fn streamed(
        end: ReadEnd,
        stream: Stream,
        events: UnboundedSender<Event>,
        flow: Arc<Flow>,
    ) -> Self {
        Self::new(end, Fate::Sent { stream, events, flow })
    }

    /// For a stream that does not come to us.
    pub(crate) fn none() -> Self {
        Self { end: None, fate: Fate::Dropped, total: 0, dropped: 0, finish: StreamEnd::NotTaken }
    }

    fn new(end: ReadEnd, fate: Fate) -> Self {
        Self { end: Some(end), fate, total: 0, dropped: 0, finish: StreamEnd::Closed }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.end.is_some()
    }

    /// Takes what one read brings, then pauses if too much is on its way.
    pub(crate) fn take(&mut self, scratch: &mut [u8]) {
        self.read_once(scratch);
        let Fate::Sent { flow, .. } = &self.fate else { return };
        if let Some(end) = &mut self.end {
            if flow.must_stop() {
                end.pause();
            }
        }
    }

    /// Goes on after a pause.
    pub(crate) fn resume(&mut self) {
        if let Some(end) = &mut self.end {
            if let Err(error) = end.resume() {
                self.close(StreamEnd::Failed(error.kind()));
            }
        }
    }

    /// Takes all that was in the pipe when it was called, without regard to backpressure: its writers are dead, and
    /// a pipe is small. A writer out of reach cannot keep this going for ever.
    pub(crate) fn take_the_rest(&mut self, scratch: &mut [u8]) {
        let capacity = self.end.as_ref().map_or(0, ReadEnd::capacity) as u64;
        let enough = self.total + capacity;
        // One more read than it takes, to see the end behind the last byte.
        while self.is_open() && self.total <= enough {
            if let After::Dry = self.read_once(scratch) {
                break;
            }
        }
    }

    /// Reads on and keeps nothing: nobody will ask for it.
    pub(crate) fn stop_keeping(&mut self) {
        self.fate = Fate::Dropped;
        self.resume();
    }

    /// Closes a stream that somebody out of reach still holds.
    pub(crate) fn cut(&mut self) {
        if self.is_open() {
            self.close(StreamEnd::Held);
        }
    }

    /// What became of the stream; to be asked once, at the end.
    pub(crate) fn into_capture(self) -> Capture {
        let bytes = match self.fate {
            Fate::Kept { bytes, .. } => Bytes::from(bytes),
            Fate::Sent { .. } | Fate::Dropped => Bytes::new(),
        };
        Capture { bytes, total: self.total, dropped: self.dropped, end: self.finish }
    }

    fn read_once(&mut self, scratch: &mut [u8]) -> After {
        let Some(end) = &self.end else { return After::Dry };
        match end.read(scratch) {
            Ok(Got::Bytes(count)) => {
                self.total += count as u64;
                self.pass_on(&scratch[..count]);
                After::More
            }
            Ok(Got::NothingYet) => After::Dry,
            Ok(Got::End) => {
                self.close(StreamEnd::Closed);
                After::Dry
            }
            Err(error) => {
                self.close(StreamEnd::Failed(error.kind()));
                After::Dry
            }
        }
    }

    fn pass_on(&mut self, chunk: &[u8]) {
        match &mut self.fate {
            Fate::Kept { bytes, limit } => {
                let (kept, beyond) = chunk.split_at(chunk.len().min(*limit - bytes.len()));
                bytes.extend_from_slice(kept);
                self.dropped += beyond.len() as u64;
            }
            Fate::Sent { stream, events, flow } => {
                flow.sends(chunk.len());
                if events.send(stream.event(Bytes::copy_from_slice(chunk))).is_err() {
                    // The run was dropped; the message that says so is on its way.
                    self.dropped += chunk.len() as u64;
                    self.fate = Fate::Dropped;
                }
            }
            Fate::Dropped => self.dropped += chunk.len() as u64,
        }
    }

    fn close(&mut self, finish: StreamEnd) {
        self.finish = finish;
        self.end = None;
    }
}
