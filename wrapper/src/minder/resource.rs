//! What a minder keeps track of, as a value.

use std::fmt;
use std::panic::Location;
use std::time::Duration;

use crate::run::RunId;
use crate::state::State;

/// A kind of resource.
///
/// The order is that in which a [shutdown](crate::Minder::shutdown) sees to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
pub enum Kind {
    /// A run: a child with everything it starts.
    Process,
    /// Our end of a child's stdin, stdout or stderr.
    Stream,
    /// Something that an executor runs.
    Task,
    /// A deadline that something waits for.
    Timer,
    /// Somebody who listens for signals.
    SignalHandler,
}

impl Kind {
    /// All of them, in the order in which a shutdown sees to them.
    pub const ALL: [Self; 5] = [Self::Process, Self::Stream, Self::Task, Self::Timer, Self::SignalHandler];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Process => "process",
            Self::Stream => "stream",
            Self::Task => "task",
            Self::Timer => "timer",
            Self::SignalHandler => "signal handler",
        })
    }
}

/// How many there are of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Totals {
    /// Runs.
    pub process: usize,
    /// Our ends of the streams of children.
    pub stream: usize,
    /// Tasks.
    pub task: usize,
    /// Timers.
    pub timer: usize,
    /// Signal handlers.
    pub signal_handler: usize,
}

impl Totals {
    /// How many of this kind.
    pub fn of(&self, kind: Kind) -> usize {
        match kind {
            Kind::Process => self.process,
            Kind::Stream => self.stream,
            Kind::Task => self.task,
            Kind::Timer => self.timer,
            Kind::SignalHandler => self.signal_handler,
        }
    }

    /// How many of all kinds.
    pub fn all(&self) -> usize {
        Kind::ALL.into_iter().map(|kind| self.of(kind)).sum()
    }

    pub(super) fn add(&mut self, kind: Kind, count: usize) {
        *match kind {
            Kind::Process => &mut self.process,
            Kind::Stream => &mut self.stream,
            Kind::Task => &mut self.task,
            Kind::Timer => &mut self.timer,
            Kind::SignalHandler => &mut self.signal_handler,
        } += count;
    }
}

/// One resource as it was when it was looked at.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Resource {
    /// What it is.
    pub kind: Kind,
    /// Which one, for people.
    pub description: String,
    /// How long it has been there.
    #[cfg_attr(feature = "serde", serde(rename = "age_ms", serialize_with = "crate::json::ms"))]
    pub age: Duration,
    /// Where in the owner's source it was created.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::json::text"))]
    pub created_at: &'static Location<'static>,
    /// What its creator noted about it, in the order in which it was noted.
    pub metadata: Vec<(String, String)>,
    /// The run that it is, or belongs to.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::json::text_if_any"))]
    pub run: Option<RunId>,
    /// Where that run stands.
    pub state: Option<State>,
    /// The pid of that run's child, until it is reaped.
    pub pid: Option<u32>,
}

impl fmt::Display for Resource {
    /// In one line, with what came from elsewhere escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, description, age, created_at, metadata, .. } = self;
        write!(f, "{kind} {description:?}, {age:.1?} old, created at {created_at}")?;
        if let Some(state) = self.state {
            write!(f, ", {state}")?;
        }
        if let Some(pid) = self.pid {
            write!(f, ", pid {pid}")?;
        }
        for (key, value) in metadata {
            write!(f, ", {key:?} = {value:?}")?;
        }
        Ok(())
    }
}

/// Who is there for longer than was said, the oldest first. See [`Minder::overdue`](crate::Minder::overdue).
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LeakReport {
    /// How old is too old.
    #[cfg_attr(feature = "serde", serde(rename = "age_ms", serialize_with = "crate::json::ms"))]
    pub age: Duration,
    /// Those that are at least as old.
    pub overdue: Vec<Resource>,
}

impl fmt::Display for LeakReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} older than {:?}", self.overdue.len(), self.age)?;
        self.overdue.iter().try_for_each(|resource| write!(f, "\n  {resource}"))
    }
}
