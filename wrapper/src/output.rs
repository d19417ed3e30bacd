//! A child's output on its way to the owner: captured up to a limit, or handed out with backpressure.
//!
//! The supervisor reads, so that output is drained and pipes are closed whatever the owner's runtime does.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::Arc;

use bytes::Bytes;

use crate::outcome::{Capture, StreamEnd};
use crate::room::{ROOM, Room};
use crate::run::{Common, Report};
use crate::shared::Flow;
use crate::sys::{Got, ReadEnd};

/// What becomes of a child's stdout or stderr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Output {
    /// Kept for the outcome, up to the [capture limit](crate::Command::capture_limit). What happens beyond it is said
    /// by [`Overflow`].
    #[default]
    Captured,
    /// Handed out as events, as it comes. A child that writes faster than the events are taken has to wait.
    Streamed,
    /// Handed out as events, a [`Line`](crate::Line) each. A child that writes faster than the events are taken has to
    /// wait.
    Lines,
    /// Goes where the owner's goes.
    Inherited,
    /// Thrown away unread.
    Null,
}

/// What happens when a captured stream is longer than the [capture limit](crate::Command::capture_limit). In each case
/// the child is not held up: what is not kept is read and counted in [`Capture::dropped`](crate::Capture::dropped).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// The first bytes are kept, as many as the limit allows.
    #[default]
    KeepHead,
    /// The last bytes are kept, as many as the limit allows.
    KeepTail,
    /// The first bytes are kept and the run is stopped, with [`Reason::OutputLimit`](crate::Reason::OutputLimit). A
    /// child that had ended before that was noticed ended by itself.
    Stop,
}

/// Which of a child's two output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutputStream {
    /// Its stdout.
    Stdout,
    /// Its stderr.
    Stderr,
}

/// The most that is read of one stream before it is everybody else's turn: a flood must not keep others from their
/// deadlines.
const READ_A_TURN: u64 = 256 * 1024;

/// A stream that has brought this much is a flood, and worth a larger pipe.
const FLOOD: u64 = 1024 * 1024;

/// The supervisor's side of one stream.
pub(crate) struct Intake {
    /// Open until the stream has ended or was cut.
    end: Option<ReadEnd>,
    fate: Fate,
    total: u64,
    dropped: u64,
    finish: StreamEnd,
    /// Whoever takes the events has enough for now.
    held_up: bool,
    enlarged: bool,
    stops_the_run: bool,
}

/// What becomes of the bytes.
enum Fate {
    Head { bytes: Vec<u8>, limit: usize },
    Tail { bytes: VecDeque<u8>, limit: usize },
    Sent { stream: OutputStream, common: Arc<Common>, flow: Arc<Flow> },
    Dropped,
}

/// Whether one read was the last for now.
enum After {
    /// There may be more.
    More,
    Dry,
}

impl Intake {
    pub(crate) fn captured(end: ReadEnd, limit: usize, overflow: Overflow) -> Self {
        let fate = match overflow {
            Overflow::KeepHead | Overflow::Stop => Fate::Head { bytes: Vec::new(), limit },
            Overflow::KeepTail => Fate::Tail { bytes: VecDeque::new(), limit },
        };
        Self { stops_the_run: overflow == Overflow::Stop, ..Self::new(Some(end), fate, StreamEnd::Closed) }
    }

    pub(crate) fn sent(end: ReadEnd, stream: OutputStream, common: Arc<Common>, flow: Arc<Flow>) -> Self {
        Self::new(Some(end), Fate::Sent { stream, common, flow }, StreamEnd::Closed)
    }

    /// For a stream that does not come to us.
    pub(crate) fn none() -> Self {
        Self::new(None, Fate::Dropped, StreamEnd::NotTaken)
    }

    fn new(end: Option<ReadEnd>, fate: Fate, finish: StreamEnd) -> Self {
        Self {
            end,
            fate,
            total: 0,
            dropped: 0,
            finish,
            held_up: false,
            enlarged: false,
            stops_the_run: false,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.end.is_some()
    }

    /// Whether nothing is read because nobody takes what was.
    pub(crate) fn is_held_up(&self) -> bool {
        self.held_up && self.is_open()
    }

    /// Whether more was written than the run may live with.
    pub(crate) fn is_too_long(&self) -> bool {
        self.stops_the_run && self.dropped > 0
    }

    /// Takes what there is, but no more than a turn's worth, then pauses if too much is on its way. True if there was
    /// anything.
    pub(crate) fn take(&mut self, room: &mut Room) -> bool {
        let before = self.total;
        while !self.held_up && self.total - before < READ_A_TURN {
            let after = self.read_room(room);
            self.pause_if_enough_is_on_its_way();
            if let After::Dry = after {
                break;
            }
            self.make_room_for_a_flood();
        }
        self.total > before
    }

    /// After every read, also one that found less than it had room for: a child that is read as fast as it writes is a flood
    /// as well.
    fn pause_if_enough_is_on_its_way(&mut self) {
        let Fate::Sent { flow, .. } = &self.fate else { return };
        if let Some(end) = self.end.as_mut().filter(|_| flow.must_stop()) {
            self.held_up = true;
            end.pause();
        }
    }

    fn make_room_for_a_flood(&mut self) {
        if self.total < FLOOD || self.enlarged {
            return;
        }
        self.enlarged = true;
        if let Some(end) = &mut self.end {
            end.enlarge();
        }
    }

    /// Goes on after a pause.
    pub(crate) fn resume(&mut self) {
        self.held_up = false;
        if let Some(end) = &mut self.end {
            if let Err(error) = end.resume() {
                self.close(StreamEnd::Failed(error.kind()));
            }
        }
    }

    /// Takes all that was in the pipe when it was called, without regard to backpressure: its writers are dead, and
    /// a pipe is small. A writer out of reach cannot keep this going for ever.
    pub(crate) fn take_the_rest(&mut self, room: &mut Room) {
        let capacity = self.end.as_ref().map_or(0, ReadEnd::capacity) as u64;
        let enough = self.total + capacity;
        // One more read than it takes, to see the end behind the last byte.
        while self.is_open() && self.total <= enough {
            if let After::Dry = self.read_room(room) {
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
        // Only a fault of this library leaves it open.
        let end = if self.is_open() { StreamEnd::Failed(ErrorKind::Other) } else { self.finish };
        let bytes = match self.fate {
            Fate::Head { bytes, .. } => Bytes::from(bytes),
            Fate::Tail { bytes, .. } => Bytes::from(Vec::from(bytes)),
            Fate::Sent { .. } | Fate::Dropped => Bytes::new(),
        };
        Capture { bytes, total: self.total, dropped: self.dropped, end }
    }

    /// Reads until the room is full or there is nothing more, and passes on what was read.
    fn read_room(&mut self, room: &mut Room) -> After {
        let mut filled = 0;
        let mut dry = false;
        while !dry && filled < ROOM {
            let Some(end) = &self.end else { return After::Dry };
            match end.read(&mut room.bytes()[filled..]) {
                Ok(Got::Bytes(count)) => filled += count,
                Ok(Got::NothingYet) => dry = true,
                Ok(Got::End) => return self.ends(room, filled, StreamEnd::Closed),
                Err(error) => return self.ends(room, filled, StreamEnd::Failed(error.kind())),
            }
        }
        self.pass_on(room, filled);
        if dry { After::Dry } else { After::More }
    }

    fn ends(&mut self, room: &mut Room, filled: usize, finish: StreamEnd) -> After {
        self.pass_on(room, filled);
        self.close(finish);
        After::Dry
    }

    fn pass_on(&mut self, room: &mut Room, count: usize) {
        if count == 0 {
            return;
        }
        self.total += count as u64;
        let chunk = &room.bytes()[..count];
        let dropped = match &mut self.fate {
            Fate::Head { bytes, limit } => {
                let (kept, beyond) = chunk.split_at(count.min(*limit - bytes.len()));
                bytes.extend_from_slice(kept);
                beyond.len()
            }
            Fate::Tail { bytes, limit } => keep_tail(bytes, *limit, chunk),
            Fate::Sent { stream, common, flow } => {
                flow.sends(count);
                let is_sent = common.reports.put(Report::Output(*stream, room.hand_out(count)));
                // It cannot be sent to a run that was dropped; the message that says so is on its way.
                if is_sent { 0 } else { count }
            }
            Fate::Dropped => count,
        };
        self.dropped += dropped as u64;
    }

    fn close(&mut self, finish: StreamEnd) {
        self.finish = finish;
        self.end = None;
        if let Fate::Sent { stream, common, .. } = &self.fate {
            // Nobody may be there to take it.
            let _ = common.reports.put(Report::Closed(*stream));
        }
    }
}

/// Adds a chunk and lets go of what is beyond the limit, at the front. Says how much that is.
fn keep_tail(bytes: &mut VecDeque<u8>, limit: usize, chunk: &[u8]) -> usize {
    let (skipped, kept) = chunk.split_at(chunk.len().saturating_sub(limit));
    let lost = (bytes.len() + kept.len()).saturating_sub(limit);
    bytes.drain(..lost);
    bytes.extend(kept);
    skipped.len() + lost
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_kept_tail_is_the_end_of_the_stream_and_the_rest_is_counted(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30), 0..20),
            limit in 0usize..80,
        ) {
            let mut tail = VecDeque::new();
            let mut lost = 0;
            for chunk in &chunks {
                lost += keep_tail(&mut tail, limit, chunk);
                prop_assert!(tail.len() <= limit);
            }
            let whole = chunks.concat();
            prop_assert_eq!(lost, whole.len().saturating_sub(limit));
            prop_assert_eq!(Vec::from(tail), &whole[lost..]);
        }
    }
}
