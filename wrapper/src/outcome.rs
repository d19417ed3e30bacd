//! How a run ended, as a value.

use std::fmt;
use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use bytes::Bytes;

use crate::contain::Containment;
use crate::plan::StopRung;

/// Everything that is known about a run that has ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// Why it ended: by itself, or because somebody stopped it.
    pub ended: Ended,
    /// The child's exit status. `None` if the child outlived its kill, or if somebody else in this process took its
    /// status (see [`Left::Unknown`]).
    pub exit: Option<ExitStatus>,
    /// How it was stopped. `None` if it ended by itself.
    pub stop: Option<StopReceipt>,
    /// Who is left of what the run started, as far as the containment reaches.
    pub left: Left,
    /// What held the run, and with that, what `left` can speak for.
    pub containment: Containment,
    /// What the child wrote to its stdout.
    pub stdout: Capture,
    /// What the child wrote to its stderr.
    pub stderr: Capture,
    /// How long it took.
    pub timings: Timings,
    /// Who was signalled. `None` if the containment does not count that.
    pub signalled: Option<Signalled>,
    /// What the child used, itself and through children that it waited for. `None` if the containment does not tell.
    pub usage: Option<Usage>,
}

impl Outcome {
    /// Whether the child ended by itself with exit code 0.
    pub fn success(&self) -> bool {
        self.ended == Ended::ByItself && self.exit.is_some_and(|exit| exit.success())
    }
}

/// Why a run ended. The first reason is kept; a child that had ended before it was asked ended by itself, also if that
/// was noticed only afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The child ended before anybody stopped it.
    ByItself,
    /// It was stopped for this reason. The child may still have answered with an exit code of its own.
    Stopped(Reason),
}

/// A reason to stop a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// Its [timeout](crate::Command::timeout) was over.
    TimedOut,
    /// It wrote nothing for as long as its [idle timeout](crate::Command::idle_timeout).
    Idle,
    /// It wrote more than its [capture limit](crate::Command::capture_limit), and [`Overflow::Stop`](crate::Overflow::Stop) was asked for.
    OutputLimit,
    /// Its cancellation token was cancelled, or somebody called [`cancel`](crate::Run::cancel).
    Cancelled,
    /// Its minder was [shut down](crate::Minder::shutdown).
    ShutDown,
    /// The [`Run`](crate::Run) was dropped. Nobody gets an outcome with this reason.
    Dropped,
    /// The containment was destroyed from outside: somebody killed the nanny. What could still be found was killed. Or it
    /// could not go on, and ended everybody on its own account.
    ContainmentLost,
}

/// How a run was stopped.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct StopReceipt {
    /// Why.
    pub reason: Reason,
    /// How far the [plan](crate::Command::stop_plan) was followed.
    pub rung: StopRung,
    /// When everybody was asked to end, the first time, counted from the start.
    pub asked_after: Duration,
    /// When everybody was killed; `None` if that was not needed.
    pub killed: Option<Kill>,
    /// From the request until it was settled who is left.
    pub took: Duration,
}

/// The hard end of a stop.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Kill {
    /// Counted from the request.
    pub after: Duration,
    /// Why it came.
    pub because: KillCause,
}

/// Why a stop did not stay with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillCause {
    /// The grace was over.
    GraceOver,
    /// `cancel` was called a second time, or a shutdown had no more time.
    AskedAgain,
}

/// Who is left of what a run started.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Left {
    /// Nobody that the containment can hold, and how that was shown.
    Nobody(Proof),
    /// These outlived their kill for as long as anybody waited. With a nanny these are the topmost of them, at most eight:
    /// whoever is below one of these is not named.
    Survivors(Vec<Survivor>),
    /// It could not be found out, for the reason given.
    Unknown(&'static str),
}

/// How it was shown that nobody is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Proof {
    /// The kernel knows no process, living or dead, in the run's process group.
    GroupGone,
    /// All processes were looked through: those in the run's process group had ended.
    NoneAlive,
    /// The nanny, to which everybody comes who is orphaned, has no children left: the kernel said so.
    NoChildren,
    /// The nanny was killed, everybody in the run's control group as well, and the kernel says that the group is empty.
    CgroupEmpty,
    /// A nanny was killed, and so was everybody in the run's pid namespace: the end of its first process, which the
    /// kernel has confirmed, comes after that of all others.
    NamespaceGone,
}

/// Who was signalled during a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Signalled {
    /// Who was asked to end by a signal, counted once.
    pub asked: Processes,
    /// Who died of a kill: of a stop, or of the sweep after the child had ended.
    pub killed: Processes,
    /// How many could not be asked when that was done last: they were more than 64 generations away, or may not be signalled.
    pub not_asked: u64,
}

/// Some processes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Processes {
    /// How many.
    pub count: u64,
    /// The numbers of the first eight. They may be other processes' by now.
    pub first: Vec<u32>,
}

/// What a process has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Processor time in the program.
    pub user: Duration,
    /// Processor time in the kernel.
    pub system: Duration,
    /// The most memory that was resident at one time, in KiB.
    pub peak_kib: u64,
}

#[cfg(has_nanny)]
impl Usage {
    pub(crate) fn new(user_us: u64, system_us: u64, peak_kib: u64) -> Self {
        Self { user: Duration::from_micros(user_us), system: Duration::from_micros(system_us), peak_kib }
    }
}

/// A process that outlived its kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Survivor {
    /// Its number. It is not guarded against reuse any more.
    pub pid: u32,
    /// What kept it alive.
    pub why: WhyAlive,
}

/// What kept a process alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhyAlive {
    /// The owner may not signal it: it runs as another user.
    Permission,
    /// It waits within the kernel and takes no signals (state D).
    Uninterruptible,
    /// Neither; perhaps it was just about to end.
    Unknown,
}

impl fmt::Display for WhyAlive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Permission => "no permission to signal it",
            Self::Uninterruptible => "uninterruptible",
            Self::Unknown => "reason unknown",
        })
    }
}

/// What became of one of the child's output streams.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Capture {
    /// The bytes kept: up to the capture limit, the head of the stream, or its tail if [`Overflow::KeepTail`] was asked
    /// for. Empty unless the stream was captured.
    ///
    /// [`Overflow::KeepTail`]: crate::Overflow::KeepTail
    pub bytes: Bytes,
    /// How many bytes were read from the child. Each of them was kept, handed out as an event (a line counts with its
    /// newline) or dropped.
    pub total: u64,
    /// How many of these were neither kept nor handed out: beyond the capture limit, or for events that nobody took.
    pub dropped: u64,
    /// How the reading ended.
    pub end: StreamEnd,
}

impl Capture {
    /// Why there is less here than was written, if so. The end of the reading weighs more than the limit.
    pub fn cut(&self) -> Option<Cut> {
        match self.end {
            StreamEnd::Held => Some(Cut::Held),
            StreamEnd::Failed(kind) => Some(Cut::Failed(kind)),
            StreamEnd::Closed if self.dropped > 0 => Some(Cut::Dropped),
            StreamEnd::Closed | StreamEnd::NotTaken => None,
        }
    }

    /// Whether every byte that was written was read, and kept or handed out.
    pub fn is_complete(&self) -> bool {
        self.end == StreamEnd::Closed && self.dropped == 0
    }
}

/// How the reading of a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamEnd {
    /// All writers have closed it, and it was read to its end: there is nothing more.
    Closed,
    /// The run has ended, but a process out of reach still held the stream when the drain window was over, or when a
    /// [`cancel`](crate::Run::cancel) cut that short. What was written by then was read; what is written from now on is
    /// lost, and its writer gets an error.
    Held,
    /// Reading failed, or was given up by a fault of this library. What was read before is there.
    Failed(io::ErrorKind),
    /// The stream was not read here: it was inherited or thrown away.
    NotTaken,
}

/// Why an output is shorter than what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cut {
    /// More than the capture limit, or events that nobody took; `Capture::dropped` says how much.
    Dropped,
    /// A process out of reach still held the stream: see [`StreamEnd::Held`].
    Held,
    /// Reading failed.
    Failed(io::ErrorKind),
}

/// How long a run took. All durations count from its start.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Timings {
    /// Until the child had ended; `None` if it has not.
    pub exited: Option<Duration>,
    /// Until it was settled who is left.
    pub settled: Duration,
    /// Until the output was drained as well, which is the end of the run.
    pub ended: Duration,
}
