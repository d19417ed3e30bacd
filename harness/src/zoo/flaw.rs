//! What can be wrong with a wrapper.

/// The one thing that is wrong with a keeper. Each changes one place of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// Nothing.
    None,
    /// Signals go to the child and not to its group.
    KillsOnlyTheLeader,
    /// It promises the tree and ends the group.
    OnlyTheGroup,
    /// It promises the tree and ends the group and whom a walk from the child over the children finds.
    WalksTheTree,
    /// After TERM comes nothing.
    NeverKills,
    /// When the child has ended it takes its group for ended too.
    TrustsTheLeader,
    /// The group is listed once, and those are signalled, each by itself.
    KillsWhomItSawFirst,
    /// It promises to end what an exit leaves behind and does not.
    KeepsLeftovers,
    /// The end of the output counts as the end of the child.
    TakesClosedOutputForTheEnd,
    /// It waits for the end of the output without a bound.
    WaitsForTheOutput,
    /// The status is looked at and not taken.
    NeverReaps,
    /// It reaps every child of its process.
    ReapsAnybody,
    /// It keeps a copy of the reading end of the child's output.
    LeaksAPipeEnd,
    /// An epoll that is made before the start stays open when the start fails.
    LeaksAnEpoll,
    /// A pipe that is made before the start stays open when the start fails.
    ForgetsItsPipes,
    /// Its ends of the pipes are not closed in children that somebody else starts.
    HandsPipesDown,
    /// The writing end of the input is handed down to every child that is started later.
    HandsInputDown,
    /// If the logs that it opens once it has started the child cannot be opened, it forgets the child.
    ForgetsAfterTheFork,
    /// The writing end of the input is closed when the child has ended, for which the child waits.
    ClosesInputLate,
    /// The output is read when the whole input has been written.
    FeedsFirst,
    /// The errors are read when the output has ended.
    ReadsOutputFirst,
    /// The block that is not full when the output ends is lost.
    LosesTheLastBurst,
    /// What is over its limit is dropped, and the rest is called complete.
    TruncatesSilently,
    /// What was captured by then is thrown away at a stop.
    DropsOutputAtAStop,
    /// It looks at the child for the first time when the timeout is over.
    TakesAnEndForATimeout,
    /// A child that obeys the timeout's signal counts as ended by itself.
    TakesObedienceForAnEnd,
    /// A death by signal n becomes an exit with 128+n.
    MapsSignals,
    /// Every failure becomes an exit with 1.
    FlattensCodes,
    /// It kills when a quarter of the grace is over.
    KillsEarly,
    /// It does not ask before it kills.
    KillsFirst,
    /// Its clock starts again with each output.
    RestartsTheClock,
    /// It waits until the grace is over, whoever is there.
    SitsTheGraceOut,
    /// It waits for an answer to TERM without a bound.
    WaitsForAnAnswer,
    /// It sends the group one more signal when the child is reaped.
    SignalsAfterTheReap,
    /// A stop also signals its own group.
    SignalsItsOwnGroup,
    /// A stop also signals everybody in its own session.
    SignalsItsSession,
    /// The second cancel is taken for impossible.
    PanicsAtASecondCancel,
    /// Whoever drops the handle drops the child.
    DropDoesNothing,
    /// A dropped child is ended by a task of the runtime.
    DropNeedsTheRuntime,
    /// A panic exits the process before anything is unwound.
    ExitsOnPanic,
    /// Each run leaves a thread.
    LeaksAThread,
    /// It asks again and again whether the child has ended.
    BusyWaits,
    /// The child inherits which signals are blocked.
    LeavesTheMask,
    /// The child inherits which signals are ignored.
    LeavesSignalsIgnored,
    /// The child is told to end with its parent, which is the thread that started it.
    DiesWithAThread,
    /// It promises that the tree ends with its owner, and does nothing for that.
    ForgetsTheOwner,
    /// Each run leaves a log in the folder for temporary files.
    LeavesFiles,
    /// It starts its child with a private umask, which stays.
    KeepsItsUmask,
    /// It starts its child in another directory, in which it stays.
    KeepsItsFolder,
    /// It blocks a signal while it starts its child, and for good.
    BlocksForGood,
    /// A shell starts the child.
    StartsByAShell,
    /// It asks for a status until there is one.
    InsistsOnAStatus,
    /// What is on its way to the caller is counted only after a read that found all it had room for.
    CountsFullReads,
    /// All output is kept.
    KeepsAllOutput,
    /// The beginning of the output is taken twice.
    TakesABlockTwice,
    /// Two blocks are put down in the wrong order.
    SwapsBlocks,
    /// The beginning of the output is among the errors too.
    MixesItsStreams,
    /// The output is put behind that of the run before.
    KeepsItsBuffer,
    /// The output is taken for text.
    TakesItForText,
    /// A child that wants no more input has failed.
    InsistsOnItsInput,
    /// A timeout of nothing is none.
    TakesNothingForNever,
    /// The end of the timeout is the present time and the timeout.
    AddsToNow,
    /// A task for each run waits for ever.
    LeavesATask,
    /// The child is declared to lead a group, which nobody makes.
    ForgetsItsGroup,
    /// The child gets a group of its own and stays in its starter's session, with its terminal.
    KeepsTheTerminal,
    /// The child stays in its starter's session, and the foreground of the terminal is taken back without a thought of what that does to who is in the background.
    SnatchesTheTerminal,
    /// The child gets no environment.
    ClearsTheEnvironment,
    /// A stop ends all children that its process has.
    EndsAllChildren,
    /// One stop waits until the other is over.
    StopsOneAtATime,
    /// Starts come one after another, and one that fails does not tell the next that it is its turn.
    KeepsItsTurn,
    /// What a thread was told of a run it is told once more.
    RemembersForEachThread,
    /// A child that has stopped has ended.
    TakesAStopForAnEnd,
    /// The pid is given out for ever.
    KeepsThePid,
    /// A cancel before there is a child is nobody's.
    LosesEarlyCancels,
    /// Whoever asks again is told that there is no status.
    AnswersOnce,
    /// Whoever asks again brings the host's task down.
    FailsWhenAskedAgain,
    /// Whoever asks again waits for ever.
    NeverAnswersAgain,
}

impl Flaw {
    /// Whether all output is kept, for what is done to it at the end.
    pub(super) fn keeps_output(self) -> bool {
        matches!(
            self,
            Self::KeepsAllOutput
                | Self::TakesABlockTwice
                | Self::SwapsBlocks
                | Self::MixesItsStreams
                | Self::KeepsItsBuffer
                | Self::TakesItForText
        )
    }
}
