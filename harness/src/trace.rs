//! The trace: what happened in a case, in order, as data.
//!
//! Whoever runs a case records here and judges nothing; the rules judge a trace and touch no process. So a stored
//! trace can be judged again, on another machine, years later.

use fake_cli::control::{Descriptor, Report};
use serde::{Deserialize, Serialize};

use crate::promises::Promises;
use crate::records::Records;
use crate::scenario::{Call, Limits, Scenario, Verb};
use crate::syscalls::CallKind;

/// The newest schema that this program reads and the one that it writes.
pub const SCHEMA: u32 = 1;

/// With which code the child exits that a host has beside the wrapper's.
pub const BYSTANDER_CHILD_CODE: u8 = 42;

/// A thread that blocks so many signals is only starting, or starts another or a process: nobody names that many.
const STARTING: usize = 50;

/// What happened in a case.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    /// Version of the format.
    pub schema: u32,
    /// What was to happen.
    pub scenario: Scenario,
    /// What was audited.
    pub subject: SubjectInfo,
    /// How processes were counted.
    pub tier: Tier,
    /// The limits in force: what the scenario asks for as far as the subject takes it, else what the subject promises.
    pub limits: Limits,
    /// What happened, in order.
    pub moments: Vec<Moment>,
    /// Who was alive, at the end of the case.
    pub looks: Vec<Look>,
    /// The host's handles at several points.
    pub inventories: Vec<Inventory>,
    /// How late the machine was during the case.
    pub noise: Noise,
    /// How the case came to its end.
    pub end: CaseEnd,
    /// What was left and was killed by the harness when everything had been looked at.
    pub swept: Vec<Seen>,
    /// What was in the host's folder for temporary files when the host had ended and nobody was left, or the longest wait for
    /// that was over; nothing if nobody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files_left: Option<Vec<String>>,
}

/// What was audited.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubjectInfo {
    /// Its name.
    pub name: String,
    /// Its version, where known.
    pub version: String,
    /// How it is driven.
    pub kind: SubjectKind,
    /// What it promises.
    pub promises: Promises,
    /// How long a command takes to start and to end when its child only exits: not the wrapper's lateness.
    #[serde(default)]
    pub overhead_us: u64,
}

/// How a subject is driven.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SubjectKind {
    /// A host process that takes ops by protocol.
    Host,
    /// A command that is the host itself: a fresh one for each run; cancel is SIGTERM to it.
    Template,
}

/// How processes are counted, strongest last.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// A subreaper and a walk over its children.
    T1,
    /// A cgroup (v2).
    T2,
    /// A pid namespace.
    T3,
}

impl Tier {
    /// As it is written in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::T1 => "t1",
            Self::T2 => "t2",
            Self::T3 => "t3",
        }
    }
}

/// One thing that happened.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// When the harness saw it, in microseconds since the case began.
    pub at_us: u64,
    /// What it was.
    pub what: What,
}

/// What can happen.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// The host process exists.
    HostStarted {
        /// Its pid, as the warden sees it.
        pid: i32,
    },
    /// What the host was started with, which its child is to get unless it is asked for something else.
    HostGiven(Given),
    /// What the host had used by then: looked at while an op waits for its delay to be over.
    HostUsed(Used),
    /// The host's terminal was looked at: when it was started, and after a wait for it to be as it was then.
    Terminal(TerminalState),
    /// The host was found stopped by this signal, and was continued.
    HostStopped {
        /// Its number.
        signal: i32,
    },
    /// An op was given to the host, or done to it.
    Issued {
        /// Index in the scenario's ops.
        op: usize,
        /// What it does.
        verb: Verb,
        /// The run that it is about.
        run: u32,
    },
    /// The host answered the op: `cancel` returned, the handle was dropped, the signal was sent.
    Done {
        /// Index in the scenario's ops.
        op: usize,
    },
    /// The host cannot do the op.
    Unimplemented {
        /// Index in the scenario's ops.
        op: usize,
    },
    /// The host said that the op failed.
    OpFailed {
        /// Index in the scenario's ops.
        op: usize,
        /// Why.
        why: String,
    },
    /// A run has ended, says the host.
    Ended {
        /// Which.
        run: u32,
        /// How.
        outcome: Outcome,
    },
    /// The host was asked for the outcome of a run again and gave this answer.
    Again {
        /// Index in the scenario's ops.
        op: usize,
        /// Which run.
        run: u32,
        /// How it ended, as it says now.
        outcome: Outcome,
    },
    /// The host asked for the state of a run and got this answer.
    Polled {
        /// Index in the scenario's ops.
        op: usize,
        /// Which run.
        run: u32,
        /// What it got.
        polled: Polled,
    },
    /// Several callers in the host have made their calls.
    Called {
        /// Index in the scenario's ops.
        op: usize,
        /// With which run.
        run: u32,
        /// Each call with its answer, by caller and in the order in which that caller made them.
        calls: Vec<Made>,
    },
    /// The harness continued the host, which an op had stopped, because no op was left.
    HostContinued,
    /// A node reported something.
    Node {
        /// Of which run; 0 for bystanders too.
        run: u32,
        /// Which node.
        node: String,
        /// What it said.
        said: Report,
        /// The node's own time of it on the case's clock, where it gave one.
        own_at_us: Option<u64>,
    },
    /// A node is dead: its connection and its pidfd say so.
    Gone {
        /// Of which run.
        run: u32,
        /// Which node.
        node: String,
    },
    /// The host asked for the status of the child that it has beside the wrapper's.
    ChildStatus {
        /// What it got.
        got: ChildStatus,
    },
    /// The host process has ended.
    HostGone {
        /// How.
        status: Status,
    },
    /// The harness waited for the host until now, far longer than every bound, and no longer.
    GaveUp,
    /// A gate that an op waits for did not open in time; this op and those after it were not issued.
    GateStuck {
        /// Index in the scenario's ops.
        op: usize,
    },
    /// The wrapper's side made a system call; seen before it was done.
    SystemCall(SystemCall),
    /// A call waits for the event that the scenario names.
    Held {
        /// Which kind of call.
        call: CallKind,
        /// Which of them, from 1.
        nth: u32,
    },
    /// A call that was held goes on.
    LetGo {
        /// Which kind of call.
        call: CallKind,
        /// Which of them, from 1.
        nth: u32,
        /// Whether it was held as long as a call is held, and the event had not happened.
        in_vain: bool,
    },
}

/// A system call of the wrapper's side.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SystemCall {
    /// Which kind.
    pub call: CallKind,
    /// Which of its kind, from 1, counted from the first run on.
    pub nth: u32,
    /// Who made it.
    pub by: Caller,
    /// The process that made it.
    pub pid: i32,
    /// The call as a tracer writes it; empty where only its kind matters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// Whom it signals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signalled: Option<Signalled>,
}

/// Who of the wrapper's side makes a call.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Caller {
    /// The host.
    Host,
    /// A process that the host forked and that has executed nothing yet.
    Fork,
    /// A process below the host that executed something else than the fake, or a fork of one.
    Helper,
}

/// A signal that was sent.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signalled {
    /// Its number.
    pub signal: i32,
    /// To whom it went, when the sender was held.
    pub was: Was,
}

/// To whom a signal goes.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Was {
    /// A process of the case, or a group of such.
    Own,
    /// The same, dead and not reaped, so that its number can mean nobody else.
    Zombie,
    /// Nobody: the number was that of a child of the wrapper's side, or of the group that it led, and it has been reaped.
    Reaped,
    /// Nobody, and of whom the number was is not known; or a pidfd of a process that has been reaped, which harms nobody.
    Gone,
    /// The group that the host is in.
    HostsGroup {
        /// Whether the host leads it.
        led_by_host: bool,
        /// Somebody else in it that the wrapper has no business with.
        stranger: Option<String>,
    },
    /// Everybody whom the sender may signal (-1).
    Everyone,
    /// Somebody that the wrapper has no business with.
    Stranger(String),
    /// It could not be seen; says why.
    Unclear(String),
}

/// What a host was started with.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Given {
    /// Its working directory.
    pub directory: String,
    /// Its umask.
    pub umask: u32,
    /// How many files it may have open; nothing where that is unlimited.
    pub open_files: Option<u64>,
    /// Its home, by the environment variable `HOME`.
    pub home: String,
    /// Where its temporary files go, by `TMPDIR`.
    pub temporary: String,
}

/// The state of a terminal.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TerminalState {
    /// Its modes, as text that is the same for the same modes.
    pub modes: String,
    /// The group in its foreground; 0 where there is none.
    pub foreground: i32,
}

/// What a host had used by a moment.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Used {
    /// Processor time of all its threads, those that have ended included, in microseconds.
    pub processor_us: u64,
    /// The most memory that it had resident until then, in KiB.
    pub peak_kib: u64,
}

/// How a process ended.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// By exit, with this code.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
}

impl From<std::process::ExitStatus> for Status {
    /// The status of a process that has ended.
    fn from(status: std::process::ExitStatus) -> Self {
        use std::os::unix::process::ExitStatusExt;
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Exited(code),
            (None, Some(signal)) => Self::Signaled(signal),
            (None, None) => unreachable!("wait reports an exit or a signal"),
        }
    }
}

/// What a host got when it asked the kernel for the status of a child of its own that was dead.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChildStatus {
    /// This.
    Got(Status),
    /// It has no such child any more (ECHILD): somebody else in the host has reaped it.
    Lost,
    /// It could not ask, or the kernel said something else.
    Failed(String),
}

/// Why a run ended, as the wrapper says it.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The child ended by itself.
    Itself,
    /// The wrapper's timeout.
    TimedOut,
    /// The caller's cancel.
    Cancelled,
    /// It never started.
    StartFailed(String),
    /// Another error.
    Error(String),
    /// The API cannot say.
    Unsaid,
}

/// How a run ended, as the wrapper says it.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// Why.
    pub reason: Reason,
    /// The child's status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// What was captured of its standard output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<Captured>,
    /// What was captured of its standard error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr: Option<Captured>,
}

impl Outcome {
    /// An outcome of which only the reason is known.
    pub const fn because(reason: Reason) -> Self {
        Self { reason, status: None, stdout: None, stderr: None }
    }
}

/// The state of a run, as the wrapper says it when it is asked.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Polled {
    /// Where the run stands.
    pub state: RunState,
    /// The child's pid, where the wrapper gives it out and gives it out now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
}

/// Where a run stands.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// The child was started, and nobody has stopped the run.
    Running,
    /// It is being stopped. A wrapper that does not tell this from running says running.
    Stopping,
    /// It has ended.
    Ended,
}

impl RunState {
    /// As it is written in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Ended => "ended",
        }
    }
}

/// A call that one of several callers in the host made.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Made {
    /// Which caller, from 0.
    pub caller: u32,
    /// What it called.
    pub call: Call,
    /// When it called, by the host's own clock, in microseconds since the case began.
    pub called_us: u64,
    /// When it had its answer, by the same clock.
    pub returned_us: u64,
    /// The answer.
    pub said: Said,
}

/// The answer to a call.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Said {
    /// It is done.
    Done,
    /// The state of the run.
    State(Polled),
    /// The run has ended, for this reason.
    Ended(Reason),
    /// The run has no outcome: it was dropped.
    Dropped,
    /// It failed.
    Failed(String),
    /// The subject has no such call.
    Unimplemented,
}

/// Output that a wrapper gave back.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Captured {
    /// How many bytes.
    pub bytes: u64,
    /// Their rolling hash ([`fake_cli::content::Rolling`]).
    pub hash: u64,
    /// Whether the wrapper says that it is all; nothing where its API cannot say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete: Option<bool>,
    /// What its marked records tell of where they are from; nothing if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<Records>,
}

impl Captured {
    /// What stands in `bytes`.
    pub fn of(bytes: &[u8], complete: Option<bool>) -> Self {
        let mut hash = fake_cli::content::Rolling::default();
        hash.update(bytes);
        let records = Records::in_bytes(bytes);
        Self { bytes: bytes.len() as u64, hash: hash.value(), complete, records }
    }
}

/// Who was alive at a point, after waiting for everyone to go.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// At which point.
    pub stage: Stage,
    /// When it was taken, in microseconds since the case began.
    pub at_us: u64,
    /// How long the harness had waited for everyone to go until then, in microseconds.
    pub settled_us: u64,
    /// How membership was found.
    pub method: Method,
    /// Whether the look saw everyone. Where it did not, an empty look proves nothing.
    pub complete: bool,
    /// Everyone but the warden itself, the host and the bystanders; zombies included.
    pub seen: Vec<Seen>,
    /// Which pids the second scanner (sysinfo) listed, host and bystanders left out; nothing if it was not asked.
    pub sysinfo: Option<Vec<i32>>,
}

/// The point at which a look was taken.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Every op is finished and the host is alive.
    Quiesce,
    /// The host has ended.
    HostGone,
}

/// How membership was found.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// The whole `/proc` of a pid namespace, with no fork meanwhile.
    Namespace,
    /// The kernel said that the warden has no child left, so nobody is left.
    NoChild,
    /// The members of a cgroup.
    Cgroup,
    /// The children of warden and host and theirs: weaker.
    Walk,
}

impl Method {
    /// For reports: who saw it.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Namespace => "the kernel's pid namespace",
            Self::NoChild => "the kernel's wait",
            Self::Cgroup => "the kernel's cgroup",
            Self::Walk => "a walk over the children",
        }
    }
}

/// A process that a look saw.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Its pid.
    pub pid: i32,
    /// When it started, in clock ticks since boot: with the pid, its identity.
    pub start_ticks: u64,
    /// Its parent now.
    pub ppid: i32,
    /// Its process group now.
    pub pgid: i32,
    /// Its session now.
    pub sid: i32,
    /// Its state, as `/proc` writes it: `S`, `R`, `T`, `D`, `Z`.
    pub state: char,
    /// Its name, as `/proc` writes it.
    pub comm: String,
    /// The run and name of the node that it is, if it is one.
    pub node: Option<(u32, String)>,
    /// Whether its control connection is open.
    pub connected: bool,
    /// How many samples, some time apart, saw it alive with this identity.
    pub samples: u32,
    /// How long it has lived, in microseconds; 0 where not known.
    pub age_us: u64,
    /// Whether it was about to be gone: the kernel was taking it down, or a KILL was pending that it had not taken yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dying: bool,
}

/// The host's handles at a point.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// When.
    pub at_us: u64,
    /// At which point.
    pub point: Point,
    /// Its open descriptors.
    pub descriptors: Vec<Descriptor>,
    /// How many threads it has.
    pub threads: u32,
    /// How many children it has that are dead and not reaped; nothing if they were not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zombies: Option<u32>,
    /// How many tasks its runtime has, as it says itself; nothing if it was not asked or does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<u64>,
    /// What else was seen of it from outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<Condition>,
    /// How long after the end of the run; 0 before a run.
    #[serde(default)]
    pub settled_us: u64,
}

/// What can be seen of a host from outside, besides its handles.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// Its threads, the first one first.
    pub threads: Vec<Thread>,
    /// Numbers of the signals that it ignores.
    pub ignored: Vec<i32>,
    /// Numbers of the signals that it handles.
    pub caught: Vec<i32>,
    /// Its umask.
    pub umask: u32,
    /// Its working directory.
    pub folder: String,
    /// How many timers it has that signal it (`timer_create`); nothing where this kernel does not list them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timers: Option<u32>,
}

impl Condition {
    /// Whether everything but threads and handlers is as it was: those a runtime adds when it is first used.
    pub fn settings_as_in(&self, later: &Self) -> bool {
        let masks_kept = self.threads_in(later).all(|(thread, then)| thread.blocked == then.blocked);
        masks_kept
            && later.ignored.iter().all(|signal| self.ignored.contains(signal))
            && self.umask == later.umask
            && self.folder == later.folder
            && later.timers <= self.timers
    }

    /// The threads that are there later too, then and now. One that is only starting is none yet: the C library has it block
    /// everything until then.
    pub fn threads_in<'c>(&'c self, later: &'c Self) -> impl Iterator<Item = (&'c Thread, &'c Thread)> {
        let same = |thread: &&Thread, then: &&Thread| (thread.tid, &thread.name) == (then.tid, &then.name);
        let started = |thread: &&Thread| !thread.blocks_everything();
        self.threads
            .iter()
            .filter(started)
            .filter_map(move |thread| Some((thread, later.threads.iter().find(|then| same(&thread, then))?)))
    }
}

/// A thread of a host.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thread {
    /// Its number.
    pub tid: i32,
    /// Its name.
    pub name: String,
    /// Numbers of the signals that it blocks.
    pub blocked: Vec<i32>,
}

impl Thread {
    /// Whether it blocks as much as the C library does for a moment when a thread starts, or starts another or a process.
    pub fn blocks_everything(&self) -> bool {
        self.blocked.len() >= STARTING
    }
}

/// A point at which handles were counted.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Point {
    /// Before this run was started.
    BeforeRun(u32),
    /// After this run had ended, waited for until equal to the first such inventory or a cap.
    AfterRun(u32),
}

/// How late the machine was during the case.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Noise {
    /// How much later than asked a short sleep ended: 99th percentile, in microseconds.
    pub p99_us: u64,
    /// The same: the largest.
    pub max_us: u64,
    /// How many sleeps were measured.
    pub samples: u64,
    /// How many processes wanted a processor for each one there is, most of the time: the median, in hundredths. Whoever has
    /// slept is let in soon, so the sleeps do not show how long a process waits that has work to do, or that is to die.
    #[serde(default)]
    pub crowd_percent: u64,
}

/// How a case came to its end.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CaseEnd {
    /// Every op was done and everything was looked at.
    Completed,
    /// The host did not finish in the longest time that it was given.
    HostSilent,
    /// The subject cannot do what the scenario needs; no process was started.
    Inapplicable(String),
    /// The harness itself could not do it; nothing can be said of the subject.
    OurFault(String),
}
