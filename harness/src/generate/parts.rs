//! The parts of a case, as they were drawn.

use fake_cli::content::{Content, Output};
use fake_cli::script::{Message, Place, Signal, Stdio, Unexecutable};
use fake_cli::span::Span;
use proptest::sample::Index;

use super::Style;
use crate::scenario::{Call, Hindrance, HostEnd, Limits, Verb};
use crate::syscalls::CallKind;

/// One case, as it was drawn.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    pub(super) style: Style,
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
    pub(super) umask: Option<u32>,
    pub(super) open_files: Option<u64>,
    pub(super) terminal: bool,
    /// The root takes that terminal, if it has it.
    pub(super) takes_terminal: bool,
    /// Somebody else gets the root's pid once it is free.
    pub(super) stranger: bool,
    pub(super) input: Option<u64>,
    pub(super) asks_again: bool,
    pub(super) polls: bool,
    pub(super) ledger: bool,
    /// From 0 to 99; of the lowest, the grace is one that nobody who is in a hurry sits out.
    pub(super) haste: u8,
    /// No timeout at all, said as the largest one.
    pub(super) never: bool,
}

/// One node, as it was drawn. What the case's swarm does not allow becomes the plain variant.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) parent: Index,
    pub(super) place: Place,
    pub(super) manner: Manner,
    /// It takes TERM in its manner only from the moment that the first stop is issued.
    pub(super) late: bool,
    pub(super) life: Life,
    pub(super) extras: Vec<Extra>,
    pub(super) holds: Vec<Stdio>,
    /// It is a subreaper.
    pub(super) adopts: bool,
    pub(super) writes: u64,
    pub(super) content: Content,
    /// Where it writes whatever it writes.
    pub(super) to: Output,
}

/// How a node takes TERM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    Plain,
    Logs,
    LogsAll,
    Exits(u8),
    Slow(Span),
    CleansUp(Span),
    Reraises(Span),
    Ignores,
    IgnoresFirst(u32),
    Blocks,
    Forks(u8),
    WritesLater(Span, u64),
}

/// What a node does besides, before it is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extra {
    ReportsEnvironment,
    ClearsEnvironment,
    ExecsFromThread,
    LeavesMainThread,
    FailsExec(Unexecutable),
    Closes(Stdio),
    ClosesOutput,
    Buffers(u64),
    Says(Message),
    HogsDescriptors(u32),
    HogsMemory(u64),
    Locks,
    Renames,
    BecomesNobody,
    TakesTerminal,
    /// This signal, which is not TERM.
    Takes(Signal, Taking),
}

/// How a node takes another signal than TERM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taking {
    Logs,
    Exits(u8),
    Ignores,
    Blocks,
}

/// What a node does after it was ready, until it is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Hangs,
    Streams(Span),
    /// So many bytes to each stream.
    Floods(u64),
    ForksAtRate(Span, u32),
    LeavesZombies(u32),
    StopsItself,
    ReadsStdin,
    Busy,
    SleepsInChunks(Span),
    /// As an agent does: messages, of which the last may be half a one.
    Talks {
        half: bool,
    },
}

/// How the case ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Cancel,
    /// Again at so many eighths of the grace.
    CancelTwice(u8),
    ManyCancels(u8),
    Timeout,
    ByItself(Exit),
    Drop,
    /// And then this at so many eighths of the grace.
    InGrace(Verb, u8),
    /// When it is over.
    AfterEnd(Exit, Verb),
    CancelAtExit(Exit),
    /// As soon as its root says that it exits.
    CancelWhenExiting(Exit),
    /// This while somebody out of the group holds its output, its root gone.
    InDrain(Exit, Verb),
    /// This as soon as it is started.
    AtOnce(Verb),
    /// This while its root is being started: the nth call of this kind is about to be made.
    InStart(CallKind, u32, Verb),
    /// Cancelled, and again while the wrapper is about to send its nth signal.
    CancelInKill(u32),
    /// This while the wrapper is about to ask for the status of a child for the first time.
    InWait(Exit, Verb),
    KillHost,
    SignalHost(Signal),
    EndHost(HostEnd),
    HangUp,
    /// Its host stopped for a time, then cancelled.
    StopHost(Span),
    /// Its host stopped, then killed.
    StopAndKillHost,
    /// So many runs, each cancelled before the next.
    CancelRepeatedly(u32),
    /// So many runs at once, cancelled one after the other, the last started first or last.
    Several(u32, bool),
    /// These calls at once by callers on threads of their own, beside one who cancels.
    Together(Vec<Vec<Call>>),
    /// So many bytes written to it and its input closed, which it reads before it exits.
    Fed(Exit, u64),
    /// By itself, when more than a pipe holds has been written both ways, if it reads what it is given: so many bytes.
    Exchange(Exit, u64),
    /// So many bytes written to it, whatever it does about them, then cancelled.
    FedAndCancelled(u64),
    /// By itself, when its timeout is nearly over.
    ByItselfAtTimeout(Exit),
    /// Started with this in the way, and stopped by its timeout where that does not hinder it.
    HinderedStart(Hindrance),
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
    Fault,
    Slowly(Span, u8),
    Unflushed(u8),
    /// It tries to execute this, and exits as shells then do.
    FailedExec(Unexecutable),
}

/// What the op that ends the case waits for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Gate {
    RootReady,
    OtherReady(Index),
    RootHello,
    OtherHello(Index),
    Nothing,
}

/// Which behaviours a case may use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Swarm(pub(super) u64);

#[derive(Clone, Copy, Debug)]
pub(super) enum Behaviour {
    OwnGroup,
    OwnSession,
    Orphan,
    Daemon,
    Vfork,
    Shell,
    Logs,
    LogsAll,
    Exits,
    Slow,
    CleansUp,
    Reraises,
    Ignores,
    IgnoresFirst,
    Blocks,
    Forks,
    WritesLater,
    Late,
    Output,
    Holds,
    ForksAtRate,
    Zombies,
    Stops,
    Stdin,
    Busy,
    Chunks,
    Talks,
    Adopts,
    ReportsEnvironment,
    ClearsEnvironment,
    ExecsFromThread,
    LeavesMainThread,
    FailsExec,
    Closes,
    Buffers,
    Hogs,
    Locks,
    Renames,
    BecomesNobody,
    TakesTerminal,
}

impl Swarm {
    pub(super) fn allows(self, behaviour: Behaviour) -> bool {
        self.0 & (1 << behaviour as u64) != 0
    }
}
