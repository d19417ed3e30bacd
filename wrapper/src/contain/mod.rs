//! Containments: what holds a run's processes together, so that all of them can be ended.
//!
//! A containment starts the command so that it can hold it, and from then on does what the ladder asks for. The supervisor knows none of them by name: a new one is a variant here and a file beside this.

#[cfg_attr(not(target_os = "linux"), expect(unreachable_code, reason = "there is no process to hold"))]
mod group;

use std::fmt;
use std::io;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;

use crate::outcome::{Left, Proof};
use crate::sys::{CleanStart, Poller, Token};

/// What holds a run's processes together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Containment {
    /// A process group of its own.
    #[default]
    Group,
}

impl Containment {
    /// What this containment cannot hold, in one sentence for people.
    pub fn cannot_hold(self) -> &'static str {
        match self {
            Self::Group => {
                "a process that moved to a session or process group of its own; anybody at all when the owner is killed"
            }
        }
    }

    /// Starts a command inside this containment.
    pub(crate) fn start(self, launch: Launch<'_>) -> Result<Box<dyn Hold>, Refusal> {
        match self {
            Self::Group => group::start(launch),
        }
    }
}

impl fmt::Display for Containment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Group => "group",
        })
    }
}

/// A command that is to be started, and who wants to hear of its end.
pub(crate) struct Launch<'a> {
    pub(crate) command: &'a mut Command,
    pub(crate) clean_start: &'a mut CleanStart,
    pub(crate) ends: ChildEnds,
    pub(crate) poller: &'a Arc<Poller>,
    /// What the hold reports with.
    pub(crate) token: Token,
}

/// The child's ends of its standard streams.
pub(crate) struct ChildEnds {
    pub(crate) stdin: Stdio,
    pub(crate) stdout: Stdio,
    pub(crate) stderr: Stdio,
}

/// Why there is no hold. Nothing that was started is left.
pub(crate) enum Refusal {
    /// Nothing was started.
    NotStarted(io::Error),
    /// The child was started and could not be held, so it was killed.
    NotHeld { pid: u32, error: io::Error },
}

impl Launch<'_> {
    fn spawn(&mut self) -> io::Result<Child> {
        self.clean_start.prepare(self.command);
        let ends = std::mem::replace(&mut self.ends, ChildEnds::none());
        self.command.stdin(ends.stdin).stdout(ends.stdout).stderr(ends.stderr);
        let spawned = self.command.spawn();
        // The command outlives the start, and would keep the child's ends of the pipes open.
        let none = ChildEnds::none();
        self.command.stdin(none.stdin).stdout(none.stdout).stderr(none.stderr);
        spawned
    }
}

impl ChildEnds {
    fn none() -> Self {
        Self { stdin: Stdio::null(), stdout: Stdio::null(), stderr: Stdio::null() }
    }
}

/// What the supervisor can do with everybody a run has started. None of these blocks.
pub(crate) trait Hold: Send {
    /// The pid of the leader, which is the process that was asked for.
    fn leader_pid(&self) -> u32;

    /// Whether the leader has ended. Looks without reaping.
    fn leader_has_ended(&mut self) -> bool;

    /// Asks everybody to end.
    fn ask(&mut self);

    /// Kills everybody.
    fn kill(&mut self);

    /// Reaps the leader if it has ended. Nobody is signalled after this. `None` if its status is not known.
    fn release(&mut self) -> Option<ExitStatus>;

    /// Looks who is left but for the leader, and reports the end of each by the token of the hold.
    fn look(&mut self) -> Remaining;

    /// Names whoever is still alive, the leader included.
    fn name_survivors(&mut self) -> Left;
}

/// Who is left but for the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remaining {
    Nobody(Proof),
    /// The token will be reported when one of them ends.
    Somebody,
    /// There is somebody whose end will not be reported.
    LookAgainSoon,
    /// It cannot be found out.
    Unknown(&'static str),
}
