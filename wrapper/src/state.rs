//! Where a run stands, and what can happen to it, as a pure table.
//!
//! | state | move | next |
//! |---|---|---|
//! | `Idle` | `Start` | `Starting` |
//! | `Starting` | `Begin` | `Running` |
//! | `Running` | `Stop` | `Terminating` |
//! | `Terminating` | `End` | `Terminated` |
//! | `Terminated` | `Release` | `Idle` |
//! | `Idle`, `Starting`, `Running`, `Terminating` | `Fail` | `Failed` |
//!
//! There is nothing else. A move that a row does not have is refused and changes nothing, whoever tries it.

use std::fmt;

/// Where a run stands.
///
/// It begins as `Idle`, and ends as `Idle` or `Failed`, which are never left then. Every other state is entered at most
/// once. A command can be started again at any time: that is another run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum State {
    /// Nothing of it is there: not yet, or, after the end and when its handle is gone, no more.
    Idle,
    /// What it needs is made, the child last.
    Starting,
    /// The child was started, and nobody has stopped the run.
    Running,
    /// Everybody was asked to end, or the child has ended and whoever it left is being ended.
    Terminating,
    /// The run has ended, and nobody is left as far as its containment reaches.
    Terminated,
    /// The start was refused or failed, and left nothing; or the run has ended and it could not be shown that nobody is
    /// left, which its [`Outcome::left`](crate::Outcome::left) explains.
    Failed,
}

impl State {
    /// All of them, in the order in which a run comes by.
    pub const ALL: [Self; 6] =
        [Self::Idle, Self::Starting, Self::Running, Self::Terminating, Self::Terminated, Self::Failed];

    /// Whether there may be processes of the run that are not dealt with yet.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Starting | Self::Running | Self::Terminating)
    }

    /// Where a move leads from here, `None` if there is no such move.
    pub(crate) fn after(self, by: Move) -> Option<Self> {
        match (self, by) {
            (Self::Idle, Move::Start) => Some(Self::Starting),
            (Self::Starting, Move::Begin) => Some(Self::Running),
            (Self::Running, Move::Stop) => Some(Self::Terminating),
            (Self::Terminating, Move::End) => Some(Self::Terminated),
            (Self::Terminated, Move::Release) => Some(Self::Idle),
            (Self::Idle | Self::Starting | Self::Running | Self::Terminating, Move::Fail) => {
                Some(Self::Failed)
            }
            _ => None,
        }
    }

    /// Whether a run can come from here to `next` in one move.
    pub fn leads_to(self, next: Self) -> bool {
        Move::ALL.iter().any(|by| self.after(*by) == Some(next))
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "idle",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Terminating => "terminating",
            Self::Terminated => "terminated",
            Self::Failed => "failed",
        })
    }
}

/// A move of a run from one state to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Move {
    /// A command is being started.
    Start,
    /// There is a child.
    Begin,
    /// Somebody stops the run, or the child has ended.
    Stop,
    /// Nobody is left, and the output is drained.
    End,
    /// The handle of a run that has ended is gone.
    Release,
    /// It cannot go on, or it cannot be shown that nobody is left.
    Fail,
}

impl Move {
    pub(crate) const ALL: [Self; 6] =
        [Self::Start, Self::Begin, Self::Stop, Self::End, Self::Release, Self::Fail];
}
