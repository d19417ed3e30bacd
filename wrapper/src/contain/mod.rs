//! Containments: what holds a run's processes together, so that all of them can be ended.
//!
//! A containment prepares the command, takes hold of the child right after the start, and from then on does what the
//! ladder asks for. The supervisor knows none of them by name: a new one is a variant here and a file beside this.

#[cfg_attr(not(target_os = "linux"), expect(unreachable_code, reason = "there is no process to hold"))]
mod group;

use std::fmt;
use std::io;
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;

use crate::outcome::{Left, Proof};
use crate::sys::{Poller, Token};

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

    /// Makes the command start inside this containment. Must not fail after anything was started.
    pub(crate) fn prepare(self, command: &mut Command) {
        match self {
            Self::Group => group::prepare(command),
        }
    }

    /// Takes hold of a child that was just started from a prepared command. If that fails the child is handed back.
    pub(crate) fn take_hold(
        self,
        child: Child,
        poller: &Arc<Poller>,
        token: Token,
    ) -> Result<Box<dyn Hold>, (io::Error, Child)> {
        match self {
            Self::Group => group::take_hold(child, poller, token),
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
