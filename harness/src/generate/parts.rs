//! The parts of a case, as they were drawn.

use fake_cli::script::{Place, Signal};
use fake_cli::span::Span;
use proptest::sample::Index;

use crate::scenario::{Hindrance, HostEnd, Limits};

/// One case, as it was drawn.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    pub(super) swarm: Swarm,
    pub(super) root: Node,
    pub(super) others: Vec<Node>,
    pub(super) ending: Ending,
    pub(super) gate: Gate,
    pub(super) delay: Span,
    pub(super) limits: Limits,
    pub(super) rare: Rare,
}

/// What few cases have.
#[derive(Clone, Debug)]
pub(super) struct Rare {
    pub(super) bystanders: bool,
    /// After which event a child of the host's own exits.
    pub(super) bystander_child: Option<&'static str>,
    pub(super) blocks: Vec<Signal>,
    pub(super) ignores: Vec<Signal>,
    pub(super) input: Option<u64>,
    pub(super) asks_again: bool,
}

/// One node, as it was drawn. What the case's swarm does not allow becomes the plain variant.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) parent: Index,
    pub(super) place: Place,
    pub(super) manner: Manner,
    pub(super) life: Life,
    pub(super) holds_stdout: bool,
    /// It is a subreaper.
    pub(super) adopts: bool,
    pub(super) writes: u64,
}

/// How a node takes TERM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    Plain,
    Logs,
    Exits(u8),
    Slow(Span),
    Ignores,
    Blocks,
    Forks(u8),
}

/// What a node does after it was ready, until it is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Hangs,
    Streams(Span),
    Floods,
    ForksAtRate(Span, u32),
    LeavesZombies(u32),
    StopsItself,
    ReadsStdin,
    Busy,
}

/// How the case ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Cancel,
    /// Again at so many eighths of the grace.
    CancelTwice(u8),
    ManyCancels(u8),
    Timeout,
    ByItself(Exit),
    Drop,
    /// Dropped at so many eighths of the grace.
    CancelThenDrop(u8),
    CancelAfterEnd(Exit),
    CancelAtExit(Exit),
    KillHost,
    SignalHost(Signal),
    EndHost(HostEnd),
    CancelRepeatedly,
    /// By itself, when its timeout is nearly over.
    ByItselfAtTimeout(Exit),
    /// By itself, and then three more starts that are hindered.
    HinderedStarts(Exit, Hindrance),
}

/// How a root ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exit {
    pub(super) how: How,
    pub(super) after: Span,
    pub(super) leaves_others: bool,
    pub(super) burst: u64,
    /// It reads its input first, where there is some.
    pub(super) reads: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Code(u8),
    By(Signal),
}

/// What the op that ends the case waits for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Gate {
    RootReady,
    OtherReady(Index),
    RootHello,
    Nothing,
}

/// Which behaviours a case may use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Swarm(pub(super) u32);

#[derive(Clone, Copy, Debug)]
pub(super) enum Behaviour {
    OwnGroup,
    OwnSession,
    Orphan,
    Daemon,
    Vfork,
    Shell,
    Logs,
    Exits,
    Slow,
    Ignores,
    Blocks,
    Forks,
    Output,
    HoldsStdout,
    ForksAtRate,
    Zombies,
    Stops,
    Stdin,
    Busy,
    Adopts,
}

impl Swarm {
    pub(super) fn allows(self, behaviour: Behaviour) -> bool {
        self.0 & (1 << behaviour as u32) != 0
    }
}
