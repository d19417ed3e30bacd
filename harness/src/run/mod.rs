//! Running one case: only this touches processes, and it judges nothing.
//!
//! One loop without threads: it waits for whatever happens next, writes it down, and does the next op when its gate is
//! open. When the ops are finished it waits for everyone to go, looks who is left, lets the host end, and looks again.

mod events;
mod handles;
mod hosting;
mod looks;
mod notes;
mod ops;
mod patience;
mod samples;
mod syscalls;
mod terminals;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fake_cli::control::{self, Hello, MOST_MESSAGE_BYTES, Report};
use fake_cli::playfile::PlayFile;
use fake_cli::script::{Event, Step, Then};
use fake_cli::span::Span;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use serde::{Deserialize, Serialize};

use self::patience::{Patience, TURN};
pub(crate) use self::syscalls::MOST_CALLS;
use self::syscalls::{Stranger, SystemCalls};
use crate::contain::{self, Container};
use crate::hinder;
use crate::host::{Answer, Order};
use crate::launch::{self, Launch, Part};
use crate::roll::{Connection, Listener, Node, Received, is_readable};
use crate::scan::{self, SecondScanner, Stat};
use crate::scenario::{BYSTANDER_CHILD, Call, Hindrance, LARGEST_TIMEOUT, Op, Scenario, Verb};
use crate::subject::{Drive, SubjectSpec, Task};
use crate::syscalls::Watch;
use crate::trace::{
    self, Captured, CaseEnd, Condition, Inventory, Look, Made, Moment, Noise, Outcome, Point, Reason, Seen,
    Stage, Status, SubjectInfo, SubjectKind, Tier, Trace, What,
};

/// How long a host may take to say hello.
const HELLO_CAP: Duration = Duration::from_secs(10);
/// How long an op waits for its gate.
const GATE_CAP: Duration = Duration::from_secs(3);
/// How long an op waits for its gate once the run it belongs to is over.
const GATE_CAP_AFTER_END: Duration = Duration::from_millis(300);
/// How much longer than all limits together a run may take before the host counts as silent.
const SILENCE_CAP: Duration = Duration::from_secs(3);
/// How long everyone has to go.
const SETTLE_CAP: Duration = Duration::from_secs(2);
/// The same when the host is gone and only nodes are left, so that nobody is there who could still end them.
const SETTLE_CAP_ALONE: Duration = Duration::from_millis(600);
/// How long the host has to end after it was told to.
const BYE_CAP: Duration = Duration::from_secs(3);
/// How long handles have to settle once the wrapper is done with a run.
const HANDLES_CAP: Duration = Duration::from_secs(1);
/// How many files that were left are written down.
const MOST_FILES_NAMED: usize = 100;
/// How long threads of the host have to end, likewise.
const THREADS_CAP: Duration = Duration::from_millis(200);
/// How long a node lives at most.
const TTL: Span = Span::from_millis(30_000);
/// With less room than this where a command's output is kept, some of it may be missing.
const LEAST_FREE_BYTES: u64 = 4 * 1024 * 1024;
/// Pause between two observations that no event announces.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// A case as it is given to a warden.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Case {
    /// What is to happen.
    pub scenario: Scenario,
    /// What is audited.
    pub subject: SubjectSpec,
    /// How long the subject takes to start and to end when its child only exits.
    pub overhead: Duration,
}

/// Where a case runs.
pub struct Place<'a> {
    /// The container that this process entered.
    pub container: &'a Container,
    /// Its tier.
    pub tier: Tier,
    /// A private folder for the case, whose path is short.
    pub folder: &'a Path,
    /// The program that plays the fake.
    pub program: &'a Path,
    /// Who is left, for a second opinion.
    pub second: &'a SecondScanner,
    /// Makes a fork of this process the host of the subject of this name, at the socket of this path. Answers the exit code.
    pub host: &'a dyn Fn(&str, &Path) -> i32,
    /// Readable when whoever gave the case is gone.
    pub lifeline: BorrowedFd<'a>,
}

/// Runs a case and answers what happened. The container is empty afterwards.
///
/// # Errors
///
/// When the container could not be emptied, or whoever gave the case is gone: the warden is of no use any more.
pub fn run(case: &Case, place: &Place<'_>) -> Result<Trace, String> {
    let mut trace = empty_trace(case, place.tier);
    let result = match inapplicable(case, place.tier) {
        Some(why) => {
            trace.end = CaseEnd::Inapplicable(why);
            return Ok(trace);
        }
        None => Runner::start(case, place, &mut trace).and_then(|mut runner| runner.play()),
    };
    match result {
        Ok(()) => {}
        Err(Stop::Fault(why)) => trace.end = CaseEnd::OurFault(why),
        Err(Stop::Orphaned) => {
            place.container.sweep()?;
            return Err("whoever gave the case is gone".to_owned());
        }
    }
    let swept = place.container.sweep()?;
    trace.swept = swept.iter().map(|stat| seen(stat, node_named(&trace, stat), false, 1)).collect();
    Ok(trace)
}

/// The run and name of the node that a process is, by what it said of itself.
fn node_named(trace: &Trace, stat: &Stat) -> Option<(u32, String)> {
    trace.moments.iter().find_map(|moment| match &moment.what {
        What::Node { run, node, said: Report::Hello(hello), .. }
            if hello.pid == stat.pid && hello.start_ticks == stat.start_ticks =>
        {
            Some((*run, node.clone()))
        }
        _ => None,
    })
}

pub(crate) fn empty_trace(case: &Case, tier: Tier) -> Trace {
    let (kind, promises, version) = match &case.subject.drive {
        Drive::Reentry { .. } => (SubjectKind::Host, Default::default(), String::new()),
        Drive::Template { promises, version, .. } => (SubjectKind::Template, *promises, version.clone()),
    };
    Trace {
        schema: trace::SCHEMA,
        scenario: case.scenario.clone(),
        subject: SubjectInfo {
            name: case.subject.name.clone(),
            version,
            kind,
            promises,
            overhead_us: case.overhead.as_micros() as u64,
        },
        tier,
        limits: promises.limits(case.scenario.limits),
        moments: Vec::new(),
        looks: Vec::new(),
        inventories: Vec::new(),
        noise: Noise::default(),
        end: CaseEnd::Completed,
        swept: Vec::new(),
        files_left: None,
    }
}

/// What a scenario needs and a machine lacks: a tier, or that system calls can be watched, which is asked for only where it matters.
pub(crate) fn lacking(
    scenario: &Scenario,
    tier: Tier,
    can_watch: impl FnOnce() -> Result<(), String>,
) -> Option<String> {
    if scenario.stranger_with_pid_of.is_some() && tier != Tier::T3 {
        return Some("only in a pid namespace of its own (t3) can the harness give out pids".to_owned());
    }
    if Watch::of(scenario).is_empty() { None } else { can_watch().err() }
}

/// What a subject cannot do at all need not be tried.
fn inapplicable(case: &Case, tier: Tier) -> Option<String> {
    if let Some(why) = lacking(&case.scenario, tier, crate::syscalls::available) {
        return Some(why);
    }
    let hindrances = || case.scenario.ops.iter().filter_map(|op| op.hindered_by);
    if hindrances().any(|hindrance| hindrance == Hindrance::NoProcess) && hinder::is_above_process_limits() {
        return Some("no limit on processes holds root".to_owned());
    }
    let Drive::Template { promises, .. } = &case.subject.drive else { return None };
    if case.scenario.ops.iter().any(|op| op.verb == Verb::Drop) {
        return Some("a command has no handle that could be dropped".to_owned());
    }
    if case.scenario.ops.iter().any(|op| matches!(op.verb, Verb::EndHost(_))) {
        return Some("a command cannot be told to end itself".to_owned());
    }
    if case.scenario.bystander_child.is_some() {
        return Some("a command has no child beside the wrapper's that could be asked for".to_owned());
    }
    if case.scenario.ops.iter().any(|op| op.verb == Verb::AskAgain) {
        return Some("a command that has ended cannot be asked again".to_owned());
    }
    if case.scenario.input.is_some() {
        return Some("what a command's child reads is not the command's doing".to_owned());
    }
    if case.scenario.writes()
        || case.scenario.ops.iter().any(|op| matches!(op.verb, Verb::Poll | Verb::Together))
    {
        return Some("a command has no handle that could be asked or written to".to_owned());
    }
    if case.scenario.ops.iter().any(|op| op.verb == Verb::HangUp) {
        return Some("a command is told nothing by a connection that could be closed".to_owned());
    }
    if hindrances().any(|hindrance| !hindrance.is_in_program()) {
        return Some("a limit that hinders a command's child hinders the command itself".to_owned());
    }
    if case.scenario.ops.iter().filter(|op| op.verb == Verb::Run).count() > 1 {
        return Some("a command runs its child once".to_owned());
    }
    let asks_timeout = case.scenario.limits.timeout.is_some();
    if asks_timeout && promises.limits(case.scenario.limits).timeout.is_none() {
        return Some("the command has no timeout".to_owned());
    }
    None
}

/// Why a case ends before its time.
enum Stop {
    /// The harness could not do its part.
    Fault(String),
    /// Whoever gave the case is gone.
    Orphaned,
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Fault(error.to_string())
    }
}

struct Runner<'a> {
    case: &'a Case,
    place: &'a Place<'a>,
    trace: &'a mut Trace,
    /// On the clock of the nodes and the host's callers, who give their own times: read from two clocks, times of the case could not be
    /// compared with theirs.
    began_ns: u64,
    listener: Listener,
    nodes: Vec<Node>,
    strangers: Vec<(Connection, Instant)>,
    /// Not filled with zeros for each case: hardly a message needs more than the first of its pages.
    buffer: Box<[MaybeUninit<u8>]>,
    host: Option<HostProcess>,
    runs: Vec<Run>,
    happened: HashSet<String>,
    next_op: usize,
    gate_since: Instant,
    open_since: Option<Instant>,
    next_sample: Option<Instant>,
    terminal: Option<terminals::HostTerminal>,
    /// Drops and questions that the host has not answered.
    pending_answers: usize,
    /// The host's system calls, where the case asks for any.
    syscalls: Option<SystemCalls>,
    stranger: Stranger,
    stranger_since: Option<Instant>,
    /// By an op.
    host_is_stopped: bool,
    tasks: Tasks,
    deadline: Instant,
    /// With the op that is waited for.
    patience: Patience,
}

struct HostProcess {
    pid: i32,
    pidfd: OwnedFd,
    gone: Option<Status>,
    /// Kept open as a terminal would be.
    _stdin: io::PipeWriter,
    link: Option<Link>,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// How many tasks the host has, as it says.
#[derive(Default)]
struct Tasks {
    newest: Option<u64>,
    is_asked: bool,
}

/// The host's end of the protocol.
struct Link {
    stream: UnixStream,
    received: Vec<u8>,
}

struct Run {
    number: u32,
    ended: bool,
    inventory: Option<PendingInventory>,
    /// It has ended while others were under way, whose handles cannot be told from what it left: it is counted with the last of them.
    is_counted_later: bool,
    /// Until when the wrapper may be busy with it, once it is over for its caller.
    busy_until: Option<Instant>,
    before: HashSet<String>,
}

struct PendingInventory {
    since: Instant,
    /// How long the wrapper may be busy with the runs whose handles are counted.
    busy: Duration,
    patience: Patience,
    next: Instant,
}

impl<'a> Runner<'a> {
    fn start(case: &'a Case, place: &'a Place<'a>, trace: &'a mut Trace) -> Result<Self, Stop> {
        let (now, began_ns) = (Instant::now(), monotonic_ns());
        let listener = Listener::bind(&place.folder.join("c"))?;
        Ok(Self {
            case,
            place,
            trace,
            began_ns,
            listener,
            nodes: Vec::new(),
            strangers: Vec::new(),
            buffer: Box::new_uninit_slice(MOST_MESSAGE_BYTES),
            host: None,
            runs: Vec::new(),
            happened: HashSet::new(),
            next_op: 0,
            gate_since: now,
            open_since: None,
            next_sample: None,
            terminal: None,
            pending_answers: 0,
            syscalls: Some(Watch::of(&case.scenario)).filter(|watch| !watch.is_empty()).map(SystemCalls::new),
            stranger: Stranger::Awaited,
            stranger_since: None,
            host_is_stopped: false,
            tasks: Tasks::default(),
            deadline: now + HELLO_CAP,
            patience: Patience::from(now),
        })
    }

    fn play(&mut self) -> Result<(), Stop> {
        if let Drive::Reentry { subject } = &self.case.subject.drive {
            self.start_host(subject)?;
            if self.case.scenario.input.is_some() && !self.trace.subject.promises.feeds {
                self.trace.end =
                    CaseEnd::Inapplicable("the subject does not write its child's input".to_owned());
                return self.say_bye();
            }
            if self.case.scenario.writes() && !self.trace.subject.promises.writes {
                let why = "the subject's user cannot write to its child";
                self.trace.end = CaseEnd::Inapplicable(why.to_owned());
                return self.say_bye();
            }
            self.start_bystander_child()?;
        }
        loop {
            self.excuse_stalls();
            self.count_handles();
            self.issue_ops()?;
            self.sample_host();
            self.continue_host();
            if self.is_quiet() {
                break;
            }
            if Instant::now() >= self.deadline {
                self.trace.end = CaseEnd::HostSilent;
                self.note(What::GaveUp);
                break;
            }
            self.wait_for_events(self.next_wakeup())?;
        }
        self.look_at_the_end()
    }

    /// A stall of the whole machine is nothing that anybody was waited for.
    fn excuse_stalls(&mut self) {
        let stall = self.patience.stall(Instant::now());
        self.gate_since += stall;
        self.deadline += stall;
    }

    /// Waits as long as this is so, and no longer than the cap.
    fn wait_while(&mut self, cap: Duration, is_so: impl Fn(&Self) -> bool) -> Result<(), Stop> {
        let mut patience = Patience::from(Instant::now());
        while is_so(self) && patience.turn(Instant::now()) < cap {
            self.wait_for_events(Instant::now() + TURN)?;
        }
        Ok(())
    }
}

fn seen(stat: &Stat, node: Option<(u32, String)>, connected: bool, samples: u32) -> Seen {
    Seen {
        pid: stat.pid,
        start_ticks: stat.start_ticks,
        ppid: stat.ppid,
        pgid: stat.pgid,
        sid: stat.sid,
        state: stat.state,
        comm: stat.comm.clone(),
        node,
        connected,
        samples,
        age_us: scan::age_us(stat.start_ticks),
        dying: false,
    }
}

fn count_samples(samples: &mut Vec<(i32, u64, u32)>, left: &[Stat]) {
    for stat in left.iter().filter(|stat| !stat.is_zombie()) {
        match samples.iter_mut().find(|(pid, start, _)| (*pid, *start) == (stat.pid, stat.start_ticks)) {
            Some(sample) => sample.2 += 1,
            None => samples.push((stat.pid, stat.start_ticks, 1)),
        }
    }
}

/// How long a script takes at most by its own will: its sleeps, slow clean-ups and streams.
fn longest_own_time(script: &[Step]) -> Duration {
    script
        .iter()
        .map(|step| match step {
            Step::Sleep(span) => span.get(),
            Step::SleepInChunks(sleep) => sleep.chunk.get() * sleep.times,
            Step::ExitSlowly(exit) => exit.takes.get(),
            Step::On(reaction) => match reaction.then {
                Then::ExitSlowly { takes, .. } | Then::CleanUp { takes, .. } | Then::Reraise { takes } => {
                    takes.get()
                }
                Then::WriteLater { after, .. } => after.get(),
                _ => Duration::ZERO,
            },
            Step::SlowStream(slow) => slow.every.get() * slow.times,
            Step::ForkAtRate(forks) => forks.every.get() * forks.most,
            Step::Start(start) => longest_own_time(&start.script),
            _ => Duration::ZERO,
        })
        .sum()
}

fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Waits until one of the descriptors is ready or the time has come. An interruption is a reason to look again.
fn poll_until(fds: &mut [PollFd<'_>], until: Instant) -> io::Result<()> {
    let left = until.saturating_duration_since(Instant::now());
    let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
    match poll(fds, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
