//! Platforms that are not served yet: a start is refused before anything is made, so none of these can exist.

use std::io;
use std::pin::Pin;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::outcome::Left;
use crate::plan::Ask;

pub(crate) type Token = u64;

pub(crate) fn unsupported() -> Option<&'static str> {
    Some("childminder runs on Linux only, so far")
}

fn refused() -> io::Error {
    io::ErrorKind::Unsupported.into()
}

#[derive(Debug)]
pub(crate) enum Poller {}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        Err(refused())
    }

    pub(crate) fn wake(&self) {
        match *self {}
    }

    pub(crate) fn wait(&self, _: &mut Vec<Token>, _: Option<Duration>) -> io::Result<()> {
        match *self {}
    }
}

/// The child's end of one of its standard streams.
#[derive(Debug)]
pub(crate) enum ChildEnd {
    Null,
    /// The owner's own.
    Inherited,
}

impl From<ChildEnd> for Stdio {
    fn from(end: ChildEnd) -> Self {
        match end {
            ChildEnd::Null => Self::null(),
            ChildEnd::Inherited => Self::inherit(),
        }
    }
}

#[derive(Debug)]
pub(crate) enum ReadEnd {}

#[expect(dead_code, reason = "nothing is read here")]
pub(crate) enum Got {
    Bytes(usize),
    NothingYet,
    End,
}

impl ReadEnd {
    pub(crate) fn read(&self, _: &mut [u8]) -> io::Result<Got> {
        match *self {}
    }

    pub(crate) fn capacity(&self) -> usize {
        match *self {}
    }

    pub(crate) fn enlarge(&mut self) {
        match *self {}
    }

    pub(crate) fn pause(&mut self) {
        match *self {}
    }

    pub(crate) fn resume(&mut self) -> io::Result<()> {
        match *self {}
    }
}

#[derive(Debug)]
pub(crate) enum WriteEnd {}

#[expect(dead_code, reason = "nothing is written here")]
pub(crate) enum Sent {
    Bytes(usize),
    NotYet,
    Refused,
}

impl WriteEnd {
    pub(crate) fn write(&self, _: &[u8]) -> Sent {
        match *self {}
    }
}

#[derive(Debug)]
pub(crate) enum AsyncWriteEnd {}

impl AsyncWriteEnd {
    pub(crate) fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        match *self {}
    }
}

pub(crate) fn child_writes(_: &Arc<Poller>, _: Token) -> io::Result<(ReadEnd, ChildEnd)> {
    Err(refused())
}

pub(crate) fn child_reads(_: &Arc<Poller>, _: Token) -> io::Result<(WriteEnd, ChildEnd)> {
    Err(refused())
}

pub(crate) fn child_reads_async() -> io::Result<(AsyncWriteEnd, ChildEnd)> {
    Err(refused())
}

pub(crate) fn some_child_is_starting() -> bool {
    false
}

#[derive(Debug, Default)]
pub(crate) struct CleanStart;

impl CleanStart {
    pub(crate) fn prepare(&mut self, _: &mut Command) {}
}

pub(crate) fn block_all_signals() {}

pub(crate) fn lead_own_group(_: &mut Command) {}

#[derive(Debug)]
pub(crate) struct Newborn {
    pub(crate) id: u32,
}

impl From<Child> for Newborn {
    fn from(child: Child) -> Self {
        Self { id: child.id() }
    }
}

#[derive(Debug)]
pub(crate) struct NotStarted {
    pub(crate) doing: &'static str,
    pub(crate) error: io::Error,
}

#[derive(Debug)]
pub(crate) enum Terminal {}

impl Terminal {
    pub(crate) fn note() -> Result<Self, NotStarted> {
        Err(NotStarted { doing: "hand a terminal over", error: refused() })
    }

    pub(crate) fn is_taken_by(&mut self, _: u32) {
        match *self {}
    }
}

pub(crate) fn start_leader(
    _: &Command,
    _: bool,
    _: [ChildEnd; 3],
    _: Option<&Terminal>,
) -> Result<Newborn, NotStarted> {
    Err(NotStarted { doing: "start anything here", error: refused() })
}

pub(crate) fn kill_and_reap(_: &Newborn, _: Duration) {}

#[derive(Debug)]
pub(crate) enum Leader {}

#[expect(dead_code, reason = "nobody leads here")]
pub(crate) enum LeaderFate {
    Running,
    Ended(ExitStatus),
    Lost,
}

impl Leader {
    pub(crate) fn take_hold(child: Newborn, _: &Arc<Poller>, _: Token) -> Result<Self, (io::Error, Newborn)> {
        Err((refused(), child))
    }

    pub(crate) fn pid(&self) -> u32 {
        match *self {}
    }

    pub(crate) fn is_watched(&self) -> bool {
        match *self {}
    }

    pub(crate) fn look(&mut self) -> LeaderFate {
        match *self {}
    }

    pub(crate) fn ask_group(&self, _: Ask) {
        match *self {}
    }

    pub(crate) fn kill_group(&self) {
        match *self {}
    }

    pub(crate) fn others(&self, _: Token) -> Others {
        match *self {}
    }

    pub(crate) fn survivors(&self) -> Left {
        match *self {}
    }

    pub(crate) fn reap(self) -> Result<(Option<ExitStatus>, FormerGroup), Self> {
        match self {}
    }
}

#[derive(Debug)]
pub(crate) enum FormerGroup {}

impl FormerGroup {
    pub(crate) fn is_gone(&self) -> bool {
        match *self {}
    }

    pub(crate) fn others(&self, _: Token) -> Others {
        match *self {}
    }

    pub(crate) fn survivors(&self) -> Left {
        match *self {}
    }
}

#[derive(Debug)]
pub(crate) enum Member {}

impl Member {
    pub(crate) fn is_alive(&self) -> bool {
        match *self {}
    }
}

#[derive(Debug)]
pub(crate) struct Others {
    pub(crate) members: Vec<Member>,
    pub(crate) unwatched: bool,
}
