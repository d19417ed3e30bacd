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
    pub(super) root: Drawn,
    pub(super) others: Vec<Drawn>,
    pub(super) ending: Ending,
    /// How often that is done once more, where it leaves something to do it with.
    pub(super) again: u32,
    /// Then three more starts with this in the way.
    pub(super) afterwards: Option<Hindrance>,
    pub(super) gate: Gate,
    pub(super) delay: Span,
    pub(super) limits: Limits,
    pub(super) setting: Setting,
}

/// In what surroundings a case is run, and what is asked beside what ends it. Little of it hides anything else.
#[derive(Clone, Debug)]
pub(super) struct Setting {
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
    /// A timeout that comes long after a root that ends by itself.
    pub(super) late: bool,
}

/// One node, as it was drawn, with what it may be instead where the case's swarm does not allow it.
#[derive(Clone, Debug)]
pub(super) struct Drawn {
    pub(super) node: Node,
    pub(super) instead: [Instead; 2],
}

/// What a node may be instead.
#[derive(Clone, Copy, Debug)]
pub(super) struct Instead {
    pub(super) place: Place,
    pub(super) manner: Manner,
    pub(super) life: Life,
}

/// One node.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) parent: Index,
    pub(super) place: Place,
    pub(super) manner: Manner,
    /// It takes TERM in its manner only from the moment that the first stop is issued.
    pub(super) late: bool,
    /// It tells of every other signal too, if it does not die of TERM: so is told that it was killed by none that was sent before.
    pub(super) tells_all: bool,
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
    /// So many bytes to one stream.
    Pours(u64),
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
    /// These one after the other, as they were drawn, of a root that ends so, if it does.
    Random {
        /// How the root ends by itself.
        exit: Option<Exit>,
        /// Whether the wrapper has a timeout.
        timeout: bool,
        /// What is done.
        acts: Vec<Act>,
    },
}

/// What is done to a run or its host, at a time that nothing was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Act {
    pub(super) verb: Verb,
    /// To which run of those that were started.
    pub(super) run: u8,
    pub(super) hindered_by: Option<Hindrance>,
    pub(super) callers: Vec<Vec<Call>>,
    pub(super) delay: Span,
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
