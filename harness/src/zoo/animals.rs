//! The table of the zoo: who is broken in which way, and which rule is there to see it.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use super::flaw::Flaw;
use super::keeper::PROMISES;
use super::survey::{self, Large};
use crate::generate::Shape;
use crate::promises::Promises;
use crate::scenario::Scenario;

/// A wrapper that is broken on purpose.
#[derive(Debug)]
pub struct Animal {
    /// Its name: lower-case words joined by hyphens.
    pub name: &'static str,
    /// The rule that is meant for it; nothing for the one that has no flaw.
    pub rule: Option<&'static str>,
    /// What is wrong with it, in one sentence.
    pub sentence: &'static str,
    /// In one of how many runs it is wrong, by chance that no seed repeats.
    pub one_in: u32,
    /// Rules that it cannot help breaking too, and why.
    pub related: &'static [(&'static str, &'static str)],
    /// Why no small scenario shows it.
    pub is_large: Option<Large>,
    /// Why a generated case need not show it.
    pub is_hidden: Option<&'static str>,
    pub(super) promises: &'static str,
    pub(super) flaw: Flaw,
}

impl Animal {
    const fn new(name: &'static str, flaw: Flaw, rule: &'static str, sentence: &'static str) -> Self {
        Self {
            name,
            rule: Some(rule),
            sentence,
            one_in: 1,
            related: &[],
            is_large: None,
            is_hidden: None,
            promises: PROMISES,
            flaw,
        }
    }

    const fn also(self, related: &'static [(&'static str, &'static str)]) -> Self {
        Self { related, ..self }
    }

    const fn large(self, large: Large) -> Self {
        Self { is_large: Some(large), ..self }
    }

    const fn hidden(self, why: &'static str) -> Self {
        Self { is_hidden: Some(why), ..self }
    }

    const fn promising(self, promises: &'static str) -> Self {
        Self { promises, ..self }
    }

    const fn one_in(self, one_in: u32) -> Self {
        Self { one_in, ..self }
    }

    /// Whether a scenario that shows it is no larger than it should be.
    pub(super) fn is_small(&self, scenario: &Scenario) -> bool {
        survey::is_small(self.is_large, scenario)
    }

    /// What it can do.
    pub fn shape(&self) -> Shape {
        Shape::default().promising(&self.promises())
    }

    pub(super) fn promises(&self) -> Promises {
        self.promises.parse().expect("the table holds legal promises")
    }

    /// The flaw of the run that begins now.
    pub(super) fn flaw_of_a_run(&self) -> Flaw {
        // Its keys come from the system's randomness.
        let drawn = RandomState::new().build_hasher().finish();
        if drawn.is_multiple_of(self.one_in.into()) { self.flaw } else { Flaw::None }
    }
}

const OTHER_ENDS: &str = "it ends its child in the same way, whatever the reason";
/// What whoever reaches the child alone breaks too.
const LEAVES_THE_REST: &[(&str, &str)] = &[
    ("S2", OTHER_ENDS),
    ("S3", OTHER_ENDS),
    ("S8", OTHER_ENDS),
    ("S9", OTHER_ENDS),
    ("S11", "who is deaf is left like everybody else"),
];
const LATECOMERS: &str = "who is forked later is left, whatever the reason it ends its child for";
const OTHER_ESCAPES: &str = "a group holds none of the escaped, however they escaped";
const NEITHER_CAN_THE_DEAF: &str = "whoever is deaf does not answer either";
const NO_WALK: &str = "whoever stands below a daemon, or is forked after the walk, is not found either";
const OTHER_ENDS_OF_THE_OWNER: &str = "nothing is done for any end of the owner that unwinds nothing";
const OWN_OTHER_RUNS: &str = "the children of its own other runs are hit like anybody's";
const NOT_ITS_OWN: &str = "whoever else is in that group or session is none of its children";
const HOSTS_CHILD: &str = "the host's own child is there too, and may be signalled before it exits";
const HAS_THE_TERMINAL: &str = "there is something to take back only from a child that has the terminal";
const TERMINAL: &str = "whoever makes no group makes no session either, and the terminal stays";
const NO_GROUP: &str = "whoever has no group can only be walked to, and who lost its parent is not found";
/// What output that is not what was written breaks too.
const NOT_WHAT_WAS_WRITTEN: &[(&str, &str)] = &[
    ("O1", NOT_THE_SAME),
    ("O2", NOT_THE_SAME),
    ("O4", NOT_THE_SAME),
    ("O5", NOT_THE_SAME),
    ("O6", NOT_THE_SAME),
    ("O7", NOT_THE_SAME),
    ("O9", NOT_THE_SAME),
    ("D4", "all that it keeps is looked through before it returns, and a flood is much"),
];
const NOT_THE_SAME: &str = "what is captured is not what was written, whichever way that is looked at";
const NO_STATUS_AFTER_AN_ERROR: &str = "an error comes in the place of the status";
const GIVEN_UP: &str =
    "nobody asks any more for the status of a child that was taken for ended, nor looks after what it leaves";
const WHEN_IT_IS_OVER: &str = "whoever looks when the timeout is over does not return before";
const GROWS: &str = "what one run leaves open grows with each run";
const NEVER_READ: &str = "while the output is held the errors are not read, and nobody waits for ever";
const MISSING_IS_MISSING: &str = "what is not captured is missing, however it is told";

/// Where one more handle proves nothing, because a runtime opens some late.
const THREE_RUNS: Large = Large {
    ops: 6,
    nodes: 1,
    why: "a leak is told from a first use by three equal runs, each with its wait",
};
/// Where the first count is not yet settled.
const FIVE_RUNS: Large = Large {
    ops: 15,
    nodes: 1,
    why: "growth is told from what is about to go by five equal runs, each with its stop and wait",
};
/// Where a pool may fill up.
const SIX_RUNS: Large = Large {
    ops: 18,
    nodes: 1,
    why: "a leak is told from a pool that fills up by six equal runs, each with its stop and wait",
};

/// Where there has to be a crowd.
const A_STORM: Large = Large {
    ops: 48,
    nodes: 1,
    why: "there is no room for all only where many are started, each with its wait",
};

/// The one that has no flaw: no rule may accuse it.
pub static CONTROL: Animal = Animal {
    rule: None,
    ..Animal::new("no-flaw", Flaw::None, "", "A keeper without a flaw, which no rule may accuse.")
};

/// Each animal by its name.
pub static ANIMALS: &[Animal] = &[
    Animal::new(
        "kills-only-the-leader",
        Flaw::KillsOnlyTheLeader,
        "S1",
        "Signals go to the child alone, and whoever it started stays.",
    )
    .also(LEAVES_THE_REST),
    Animal::new(
        "sometimes-kills-only-the-leader",
        Flaw::KillsOnlyTheLeader,
        "S1",
        "As kills-only-the-leader, in one of two runs.",
    )
    .one_in(2)
    .also(LEAVES_THE_REST),
    Animal::new(
        "kills-only-the-group",
        Flaw::OnlyTheGroup,
        "S4",
        "It promises that nobody is left, and ends its child's group.",
    )
    .promising("timeout,grace,drain,clean,tells-reason,tells-cut,captures,status,feeds,answers-again,polls,gives-pid,own-group")
    .also(&[("S5", OTHER_ESCAPES), ("S6", OTHER_ESCAPES), ("S7", OTHER_ESCAPES)]),
    Animal::new(
        "walks-the-tree",
        Flaw::WalksTheTree,
        "S5",
        "It promises that nobody is left, and walks from parent to child: a daemon has no parent there any more.",
    )
    .promising("timeout,grace,drain,leave,tells-reason,tells-cut,captures,status,feeds,answers-again,polls,gives-pid,own-group")
    .also(&[("S4", NO_WALK), ("S6", NO_WALK), ("S7", NO_WALK)]),
    Animal::new("never-kills", Flaw::NeverKills, "S1", "It asks by TERM, waits for the grace, and that was it.").also(&[
        ("S2", OTHER_ENDS),
        ("S3", OTHER_ENDS),
        ("S8", OTHER_ENDS),
        ("S9", OTHER_ENDS),
        ("S11", "who is deaf is left, whatever the leader did"),
        ("Z1", "whoever dies after it has given up is not reaped any more"),
        ("D6", "who is stopped does not answer, and is left"),
        ("K7", "who is asked early and stays is left, and stays"),
    ]),
    Animal::new(
        "trusts-the-leader",
        Flaw::TrustsTheLeader,
        "S11",
        "When the child has ended it takes the group for ended too, and kills nobody.",
    )
    .also(&[
        ("S3", "a child that exits by itself has ended too, and whoever is deaf is left"),
        ("S8", "who is forked while the leader goes was never asked"),
        ("S1", OTHER_ENDS),
        ("S2", OTHER_ENDS),
        ("S9", OTHER_ENDS),
    ]),
    Animal::new(
        "kills-whom-it-saw-first",
        Flaw::KillsWhomItSawFirst,
        "S8",
        "It lists the group once and ends those: who is forked later is on no list.",
    )
    .also(&[("S1", LATECOMERS), ("S2", LATECOMERS), ("S3", LATECOMERS), ("S9", LATECOMERS)]),
    Animal::new(
        "keeps-leftovers",
        Flaw::KeepsLeftovers,
        "S3",
        "It promises to end what an exit leaves behind, and looks only at the child.",
    ),
    Animal::new(
        "takes-closed-output-for-the-end",
        Flaw::TakesClosedOutputForTheEnd,
        "S1",
        "When both streams are closed it returns, whoever is still alive.",
    )
    .also(&[
        ("S3", GIVEN_UP),
        ("Z1", GIVEN_UP),
        ("X1", GIVEN_UP),
        ("X2", GIVEN_UP),
        ("X4", GIVEN_UP),
        ("K7", GIVEN_UP),
    ]),
    Animal::new(
        "drop-does-nothing",
        Flaw::DropDoesNothing,
        "S9",
        "Whoever drops the handle drops the only one who knew of the child.",
    )
    .also(&[
        ("S1", "a cancel whose handle is dropped within the grace is given up"),
        ("S11", "a cancel whose handle is dropped within the grace is given up, and the deaf stay"),
        ("Z1", "whoever is dropped is not reaped when it dies"),
    ]),
    Animal::new(
        "forgets-after-the-fork",
        Flaw::ForgetsAfterTheFork,
        "S10",
        "A failure after the fork is reported as a failed start, and the child runs on.",
    )
    .also(&[
        ("C2", "of many starts at once that fail each leaves the same behind"),
        ("Z1", "the forgotten one is not reaped when it dies"),
    ]),
    Animal::new("never-reaps", Flaw::NeverReaps, "Z1", "It looks at the status of its child and does not take it.")
        .also(&[("Z2", GROWS)]),
    Animal::new(
        "seldom-forgets-to-reap",
        Flaw::NeverReaps,
        "Z1",
        "As never-reaps, in one of twenty runs.",
    )
    .also(&[("Z2", GROWS)])
    .one_in(20),
    Animal::new(
        "reaps-anybody",
        Flaw::ReapsAnybody,
        "Z3",
        "It waits for any child, and takes the statuses that others wait for.",
    )
    .also(&[("C1", OWN_OTHER_RUNS), ("X1", OWN_OTHER_RUNS), ("X2", OWN_OTHER_RUNS)]),
    Animal::new(
        "insists-on-a-status",
        Flaw::InsistsOnAStatus,
        "Z4",
        "It asks for a status until it gets one; in a host that ignores SIGCHLD there is none.",
    )
    .also(&[
        ("D1", "whoever gets no status does not return, after a timeout too"),
        ("D3", "whoever gets no status does not return, while the output is held too"),
        ("D4", "whoever gets no status does not return, after a cancel too"),
        ("C3", "whoever gets no status does not return, however many are stopped"),
        ("K7", "whoever gets no status does not return, after an early cancel too"),
    ]),
    Animal::new(
        "leaks-a-pipe-end",
        Flaw::LeaksAPipeEnd,
        "F2",
        "A copy of the reading end of the output stays open after the run.",
    )
    .also(&[("F1", GROWS), ("F5", GROWS)]),
    Animal::new(
        "sometimes-leaks-a-pipe-end",
        Flaw::LeaksAPipeEnd,
        "F2",
        "As leaks-a-pipe-end, in one of five runs.",
    )
    .one_in(5)
    .also(&[("F1", GROWS), ("F5", GROWS)]),
    Animal::new(
        "leaks-an-epoll",
        Flaw::LeaksAnEpoll,
        "F5",
        "The epoll that was made for the child stays open when the start fails.",
    )
    .large(THREE_RUNS),
    Animal::new("forgets-its-pipes", Flaw::ForgetsItsPipes, "F5", "The pipes stay open when the start fails.")
        .large(THREE_RUNS),
    Animal::new(
        "hands-pipes-down",
        Flaw::HandsPipesDown,
        "F4",
        "Its ends of the pipes are not close-on-exec: a child that is started meanwhile gets them too.",
    )
    .also(&[
        ("F3", "another child's pipes are descriptors that nobody declared"),
        ("F6", "while another child holds the writing end, the input has no end"),
    ]),
    Animal::new(
        "hands-input-down",
        Flaw::HandsInputDown,
        "F6",
        "The writing end of the input is handed to every child that is started later.",
    )
    .also(&[
        ("F3", "another child's input is a descriptor that nobody declared"),
        ("F4", "another child's input is another child's pipe"),
    ])
    .hidden("several runs at once, each of which reads its input to the end, are hardly ever drawn"),
    Animal::new(
        "closes-input-late",
        Flaw::ClosesInputLate,
        "F6",
        "It closes the input when the child has ended, and the child waits for the end of its input.",
    ),
    Animal::new("leaks-a-thread", Flaw::LeaksAThread, "T1", "Each run leaves a thread that sleeps for ever.")
        .large(SIX_RUNS),
    Animal::new("busy-waits", Flaw::BusyWaits, "T3", "It asks again and again whether the child has ended."),
    Animal::new(
        "keeps-all-output",
        Flaw::KeepsAllOutput,
        "T4",
        "It keeps all output, and a child that floods fills its memory.",
    )
    .also(&[("D4", "reading all that is in the way of returning")]),
    Animal::new(
        "counts-full-reads",
        Flaw::CountsFullReads,
        "T4",
        "It holds back a child that writes faster than its caller reads, but looks only after reads that filled their room.",
    )
    .also(&[("D4", "handing out all that is in the way of returning")])
    .hidden("no generated child waits until each of its pieces is read"),
    Animal::new(
        "restarts-the-clock",
        Flaw::RestartsTheClock,
        "D1",
        "Each piece of output starts its timeout again: a child that talks is never stopped.",
    ),
    Animal::new(
        "dies-with-a-thread",
        Flaw::DiesWithAThread,
        "D2",
        "The child is told to end with its parent, and for the kernel that is the thread that started it.",
    )
    .also(&[
        ("C1", "where another run is stopped meanwhile, the one that ends by that seems to be hit as well"),
        ("D5", "where that comes as the run is stopped, it is an end by itself, after which nobody has a grace"),
        ("X3", "where that comes when the timeout is over, an end by itself seems to be the timeout's doing"),
    ]),
    Animal::new(
        "waits-for-the-output",
        Flaw::WaitsForTheOutput,
        "D3",
        "It waits for the end of the output without a bound, and a grandchild holds it.",
    )
    .also(&[
        ("D1", "output that is held out of reach holds it up after a timeout too"),
        ("D4", "output that is held out of reach holds it up after a cancel too"),
        ("C3", "output that is held out of reach holds it up however many are stopped"),
        ("D7", "output that is held out of reach holds it up whatever the timeout"),
        ("O8", "output that is held out of reach holds it up however much there is"),
        ("K7", "output that is held out of reach holds it up after an early cancel too"),
    ]),
    Animal::new(
        "sits-the-grace-out",
        Flaw::SitsTheGraceOut,
        "D4",
        "It waits until the grace is over, though everybody has gone long ago.",
    ),
    Animal::new("kills-early", Flaw::KillsEarly, "D5", "It kills when a quarter of the grace is over."),
    Animal::new("kills-first", Flaw::KillsFirst, "D5", "It kills without having asked."),
    Animal::new(
        "waits-for-an-answer",
        Flaw::WaitsForAnAnswer,
        "D6",
        "It waits for an answer to TERM without a bound; whoever is stopped cannot answer.",
    )
    .also(&[
        ("S1", NEITHER_CAN_THE_DEAF),
        ("S2", NEITHER_CAN_THE_DEAF),
        ("D1", NEITHER_CAN_THE_DEAF),
        ("D4", NEITHER_CAN_THE_DEAF),
        ("C3", NEITHER_CAN_THE_DEAF),
        ("S3", NEITHER_CAN_THE_DEAF),
        ("D3", NEITHER_CAN_THE_DEAF),
        ("D7", NEITHER_CAN_THE_DEAF),
        ("K7", NEITHER_CAN_THE_DEAF),
        ("O8", NEITHER_CAN_THE_DEAF),
    ]),
    Animal::new(
        "loses-the-last-burst",
        Flaw::LosesTheLastBurst,
        "O1",
        "The last block of the output is not full when the child exits, and is lost.",
    ),
    Animal::new(
        "drops-output-at-a-stop",
        Flaw::DropsOutputAtAStop,
        "O2",
        "Whoever stops the child gets nothing of what it had said by then.",
    ),
    Animal::new(
        "truncates-silently",
        Flaw::TruncatesSilently,
        "O3",
        "Beyond 64 KiB the output is dropped, and what is left is called complete.",
    )
    .also(&[("O1", MISSING_IS_MISSING), ("O2", MISSING_IS_MISSING)]),
    Animal::new("takes-a-block-twice", Flaw::TakesABlockTwice, "O4", "The beginning of the output is there twice.")
        .also(NOT_WHAT_WAS_WRITTEN),
    Animal::new("swaps-blocks", Flaw::SwapsBlocks, "O5", "Two blocks of the output stand in the wrong order.")
        .also(NOT_WHAT_WAS_WRITTEN),
    Animal::new(
        "mixes-its-streams",
        Flaw::MixesItsStreams,
        "O6",
        "The beginning of the output is among the errors too.",
    )
    .also(NOT_WHAT_WAS_WRITTEN),
    Animal::new(
        "keeps-its-buffer",
        Flaw::KeepsItsBuffer,
        "O7",
        "The output stands behind that of the run before.",
    )
    .also(NOT_WHAT_WAS_WRITTEN),
    Animal::new(
        "takes-it-for-text",
        Flaw::TakesItForText,
        "O9",
        "The output is taken for text, and what is none is replaced.",
    )
    .also(NOT_WHAT_WAS_WRITTEN),
    Animal::new(
        "insists-on-its-input",
        Flaw::InsistsOnItsInput,
        "O10",
        "A child that wants no more of its input is reported as failed.",
    )
    .also(&[
        ("X1", NO_STATUS_AFTER_AN_ERROR),
        ("X2", NO_STATUS_AFTER_AN_ERROR),
        ("D7", "with the largest timeout as without one, an error comes in the place of the status"),
        ("K5", "a cancelled child wants no more of its input either"),
    ]),
    Animal::new(
        "takes-nothing-for-never",
        Flaw::TakesNothingForNever,
        "D7",
        "A timeout of nothing is taken for none.",
    )
    .also(&[("D1", "whoever takes it for none does not return at it")]),
    Animal::new(
        "adds-to-now",
        Flaw::AddsToNow,
        "D7",
        "It adds the timeout to the present time, which the largest ones do not survive.",
    )
    .also(&[("X1", NO_STATUS_AFTER_AN_ERROR), ("K5", "it ends with an error, cancelled twice or not")]),
    Animal::new("leaves-a-task", Flaw::LeavesATask, "T2", "Each run leaves a task that waits for ever.")
        .large(FIVE_RUNS),
    Animal::new(
        "feeds-first",
        Flaw::FeedsFirst,
        "O8",
        "It reads when all has been written, and the child reads when all has been written.",
    )
    .also(&[("O2", "what comes before a stop is not read either while the input is not yet written")]),
    Animal::new(
        "reads-output-first",
        Flaw::ReadsOutputFirst,
        "O8",
        "It reads the errors when the output has ended.",
    )
    .also(&[("O1", NEVER_READ), ("O2", NEVER_READ)]),
    Animal::new("flattens-codes", Flaw::FlattensCodes, "X1", "Every failure is reported as an exit with 1."),
    Animal::new("maps-signals", Flaw::MapsSignals, "X2", "A death by signal n is reported as an exit with 128+n."),
    Animal::new(
        "takes-an-end-for-a-timeout",
        Flaw::TakesAnEndForATimeout,
        "X3",
        "It looks when the timeout is over, and then reports one, though the child ended by itself before.",
    )
    .also(&[
        ("D3", WHEN_IT_IS_OVER),
        ("D7", WHEN_IT_IS_OVER),
        ("O8", WHEN_IT_IS_OVER),
        ("C3", WHEN_IT_IS_OVER),
    ]),
    Animal::new(
        "takes-obedience-for-an-end",
        Flaw::TakesObedienceForAnEnd,
        "X3",
        "A child that obeys the timeout's TERM is reported as ended by itself.",
    ),
    Animal::new(
        "takes-a-stop-for-an-end",
        Flaw::TakesAStopForAnEnd,
        "X4",
        "A child that has stopped is reported as ended by itself.",
    )
    .also(&[("X3", "whoever is killed at the timeout and had stopped before is reported in the same way")]),
    Animal::new("keeps-the-pid", Flaw::KeepsThePid, "X7", "The pid is given out after the reap, for ever."),
    Animal::new(
        "starts-by-a-shell",
        Flaw::StartsByAShell,
        "X6",
        "A shell starts the child, and says by its own exit that it could not.",
    ),
    Animal::new("answers-once", Flaw::AnswersOnce, "X5", "Whoever asks again is told that there is no status."),
    Animal::new("fails-when-asked-again", Flaw::FailsWhenAskedAgain, "X5", "Whoever asks again gets a panic."),
    Animal::new("never-answers-again", Flaw::NeverAnswersAgain, "X5", "Whoever asks again waits for ever."),
    Animal::new(
        "signals-after-the-reap",
        Flaw::SignalsAfterTheReap,
        "K1",
        "The group gets one more signal when its leader is reaped: the number may be somebody else's by then.",
    )
    .also(&[("K2", "whoever has the number by then gets that signal")]),
    Animal::new(
        "signals-its-session",
        Flaw::SignalsItsSession,
        "K3",
        "A stop signals everybody in its own session, with whom it has no business.",
    )
    .also(&[
        ("C1", OWN_OTHER_RUNS),
        ("K1", NOT_ITS_OWN),
        ("K4", NOT_ITS_OWN),
        ("Z3", HOSTS_CHILD),
        ("H2", "whoever leads the session of the terminal is in it, and the terminal goes with him"),
    ]),
    Animal::new("signals-its-own-group", Flaw::SignalsItsOwnGroup, "K4", "A stop also signals its own group.")
        .also(&[("K1", NOT_ITS_OWN), ("K3", "a bystander may be in that group"), ("Z3", HOSTS_CHILD)]),
    Animal::new(
        "panics-at-a-second-cancel",
        Flaw::PanicsAtASecondCancel,
        "K5",
        "It takes a second cancel for impossible.",
    ),
    Animal::new(
        "loses-early-cancels",
        Flaw::LosesEarlyCancels,
        "K7",
        "A cancel that comes before there is a child is nobody's.",
    ),
    Animal::new(
        "leaves-the-mask",
        Flaw::LeavesTheMask,
        "E1",
        "The child inherits which signals its starter blocks.",
    ),
    Animal::new(
        "leaves-signals-ignored",
        Flaw::LeavesSignalsIgnored,
        "E2",
        "The child inherits which signals its starter ignores.",
    ),
    Animal::new(
        "forgets-its-group",
        Flaw::ForgetsItsGroup,
        "E3",
        "It declares a group of the child's own, which nobody makes.",
    )
    .also(&[
        ("S1", NO_GROUP),
        ("S2", NO_GROUP),
        ("S3", NO_GROUP),
        ("S8", NO_GROUP),
        ("S9", NO_GROUP),
        ("S11", NO_GROUP),
        ("E6", TERMINAL),
        ("H2", TERMINAL),
    ]),
    Animal::new(
        "keeps-the-terminal",
        Flaw::KeepsTheTerminal,
        "E6",
        "The child gets a group of its own and the terminal of its starter, which it can take.",
    )
    .also(&[("H2", "a terminal that was taken is as its taker left it")]),
    Animal::new(
        "snatches-the-terminal",
        Flaw::SnatchesTheTerminal,
        "H3",
        "It takes the foreground of the terminal back, which stops whoever is in the background.",
    )
    .also(&[
        ("E6", HAS_THE_TERMINAL),
        ("H2", HAS_THE_TERMINAL),
        ("D1", "whoever is stopped does not return"),
        ("D4", "whoever is stopped does not return"),
    ]),
    Animal::new(
        "clears-the-environment",
        Flaw::ClearsTheEnvironment,
        "E4",
        "The child gets no environment, though nobody asked for that.",
    ),
    Animal::new(
        "keeps-its-umask",
        Flaw::KeepsItsUmask,
        "H1",
        "It starts its child with a private umask, and the host keeps that.",
    )
    .also(&[("E4", "the child has the host's umask, as it is meanwhile")]),
    Animal::new(
        "keeps-its-folder",
        Flaw::KeepsItsFolder,
        "H1",
        "It starts its child in another directory, and the host stays there.",
    )
    .also(&[("E4", "the child stands where the host stands meanwhile")]),
    Animal::new(
        "blocks-for-good",
        Flaw::BlocksForGood,
        "H1",
        "It blocks a signal while it starts its child, and never takes that back.",
    ),
    Animal::new(
        "leaves-files",
        Flaw::LeavesFiles,
        "H4",
        "Each run leaves a log in the folder for temporary files.",
    ),
    Animal::new(
        "forgets-the-owner",
        Flaw::ForgetsTheOwner,
        "P1",
        "It promises that nobody outlives its owner, and whoever is killed can do nothing for that.",
    )
    .promising("timeout,grace,drain,group,clean,owner-death=1s,tells-reason,tells-cut,captures,status,feeds,answers-again,polls,gives-pid,own-group")
    .also(&[
        ("P2", OTHER_ENDS_OF_THE_OWNER),
        ("P3", OTHER_ENDS_OF_THE_OWNER),
        ("P4", OTHER_ENDS_OF_THE_OWNER),
        ("P5", OTHER_ENDS_OF_THE_OWNER),
        ("E5", OTHER_ENDS_OF_THE_OWNER),
    ]),
    Animal::new(
        "drop-needs-the-runtime",
        Flaw::DropNeedsTheRuntime,
        "P3",
        "A dropped child is ended by a task: when the runtime goes, the task goes first.",
    ),
    Animal::new(
        "exits-on-panic",
        Flaw::ExitsOnPanic,
        "P3",
        "A panic exits the process before anything is unwound, and nobody cleans up.",
    ),
    Animal::new(
        "ends-all-children",
        Flaw::EndsAllChildren,
        "C1",
        "A stop of one run kills every child of its process, those of other runs too.",
    )
    .also(&[
        ("D5", OWN_OTHER_RUNS),
        ("K1", "every child of its process may be somebody else's"),
        ("X3", "a run that the stop of another kills when its own timeout is over seems to have ended by itself"),
    ]),
    Animal::new(
        "stops-one-at-a-time",
        Flaw::StopsOneAtATime,
        "C3",
        "One stop waits until the other is over, with its grace.",
    )
    .also(&[
        ("D1", "whoever waits for its turn is late"),
        ("D4", "whoever waits for its turn is late"),
        ("D5", "whoever waits for its turn is asked and killed late"),
    ]),
    Animal::new(
        "keeps-its-turn",
        Flaw::KeepsItsTurn,
        "C2",
        "Starts come one after another, and whoever waits behind one that fails waits for ever.",
    )
    .large(A_STORM)
    .hidden("a host that starts many at once and has not room for all of them is not drawn"),
    Animal::new(
        "remembers-for-each-thread",
        Flaw::RemembersForEachThread,
        "C4",
        "A thread that asks for the state of a run is told once more what it was told before.",
    )
    .also(&[("X7", "the pid that it is told once more may be reaped")]),
];
