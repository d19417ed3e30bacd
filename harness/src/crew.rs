//! The crew: persistent warden processes that run cases side by side.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::canary::Canary;
use crate::contain;
use crate::reentry::FLAG;
use crate::run::Case;
use crate::scenario::Scenario;
use crate::subject::{Drive, SubjectSpec};
use crate::trace::{CaseEnd, Tier, Trace, What};
use crate::warden::{Finished, Message};
use crate::workplace::Workplace;

mod timed;

use timed::{Place, ROOM};

/// How long a warden may take to enter its container.
const READY_CAP: Duration = Duration::from_secs(20);
/// How long a warden may take for a case: far more than the caps inside a case allow together.
const CASE_CAP: Duration = Duration::from_secs(150);
/// How long a probe of a tier may take.
const PROBE_CAP: Duration = Duration::from_secs(10);

/// What a crew is to be like.
#[derive(Clone, Debug, Default)]
pub struct CrewOptions {
    /// How many wardens; 0 for as many as fit this machine.
    pub jobs: usize,
    /// The tier to use; none for the strongest that this machine has.
    pub tier: Option<Tier>,
}

/// Why there is no crew.
#[derive(Debug)]
pub enum CrewError {
    /// This machine lacks the tier that was asked for.
    TierLacking(String),
    /// The harness could not start its own processes.
    Start(String),
}

impl fmt::Display for CrewError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TierLacking(why) | Self::Start(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for CrewError {}

/// Where scenarios come from: generated, read from files, or a shrinker's candidates.
pub trait Source {
    /// The next scenario; nothing when there are no more. May depend on what was seen so far.
    fn next(&mut self) -> Option<Scenario>;

    /// Takes the trace of a scenario that was given out, in any order. Answers whether to go on.
    fn take(&mut self, trace: Trace) -> bool;
}

/// What each tier can do on this machine.
#[derive(Clone, Debug)]
pub struct TierProbe {
    /// The tier.
    pub tier: Tier,
    /// Nothing if it works here, else why not.
    pub lacks: Option<String>,
    /// How it works.
    pub how: &'static str,
}

/// Which tiers this machine has, strongest first. Starts a short-lived process for each.
pub fn probe_tiers() -> Vec<TierProbe> {
    [
        (Tier::T3, "a pid and mount namespace for each warden, its own /proc"),
        (Tier::T2, "a cgroup (v2) for each warden, which is a subreaper"),
        (Tier::T1, "each warden is a subreaper and walks the children"),
    ]
    .into_iter()
    .map(|(tier, how)| TierProbe { tier, lacks: probe(&["probe", tier.name()]).err(), how })
    .collect()
}

/// Whether a host's own system calls can be watched and held here. Starts a short-lived process.
///
/// # Errors
///
/// What was refused, and why.
pub fn probe_syscalls() -> Result<(), String> {
    probe(&["probe-syscalls"])
}

/// Tries something in a process of its own, which plays this part.
fn probe(part: &[&str]) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut child = Command::new(program)
        .arg(FLAG)
        .args(part)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("the probe could not be started: {error}"))?;
    let status =
        wait_until(&mut child, Instant::now() + PROBE_CAP).map_err(|error| format!("the probe: {error}"))?;
    if status.success() {
        return Ok(());
    }
    let mut text = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        // Without its words there is still its status.
        drop(std::io::Read::read_to_string(&mut stderr, &mut text));
    }
    let why = text.trim().trim_start_matches("headcount: ");
    Err(if why.is_empty() { status.to_string() } else { why.to_owned() })
}

/// Waits for a process of ours, and kills it at the deadline.
pub(crate) fn wait_until(child: &mut Child, deadline: Instant) -> std::io::Result<std::process::ExitStatus> {
    let pidfd = rustix::process::pidfd_open(
        rustix::process::Pid::from_child(child),
        rustix::process::PidfdFlags::empty(),
    )?;
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout =
        rustix::event::Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
    let mut fds = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
    // Interrupted or too late: then it is killed, and its status says so.
    if !matches!(rustix::event::poll(&mut fds, Some(&timeout)), Ok(1)) {
        child.kill()?;
    }
    child.wait()
}

/// How much work the crew has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effort {
    /// Cases that were run.
    pub cases: u64,
    /// Wall time of [`Crew::run`].
    pub wall: Duration,
    /// Processor time of the wardens themselves: starting, watching, counting, sweeping.
    pub own: Duration,
    /// Processor time of everything that was started, the wardens included.
    pub total: Duration,
}

impl Effort {
    /// What came since an earlier point.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            cases: self.cases - earlier.cases,
            wall: self.wall.saturating_sub(earlier.wall),
            own: self.own.saturating_sub(earlier.own),
            total: self.total.saturating_sub(earlier.total),
        }
    }

    /// Which part of the processor time the harness itself took: 0 to 1.
    pub fn own_share(self) -> f64 {
        if self.total.is_zero() { 0.0 } else { self.own.as_secs_f64() / self.total.as_secs_f64() }
    }
}

/// Persistent warden processes.
#[derive(Debug)]
pub struct Crew {
    tier: Tier,
    fallback: Vec<TierProbe>,
    wardens: Vec<Option<Warden>>,
    couriers: Vec<mpsc::Sender<Errand>>,
    folder: Workplace,
    canary: Canary,
    started: u64,
    effort: Effort,
    overheads: Vec<(SubjectSpec, Duration)>,
}

impl Crew {
    /// Starts the wardens.
    ///
    /// # Errors
    ///
    /// When the machine lacks the tier, or processes cannot be started.
    pub fn start(options: &CrewOptions) -> Result<Self, CrewError> {
        let fault = |error: std::io::Error| CrewError::Start(error.to_string());
        let (tier, fallback) = choose_tier(options.tier)?;
        let mut crew = Self {
            tier,
            fallback,
            wardens: Vec::new(),
            couriers: Vec::new(),
            folder: Workplace::make().map_err(fault)?,
            canary: Canary::start().map_err(fault)?,
            started: 0,
            effort: Effort::default(),
            overheads: Vec::new(),
        };
        for _ in 0..jobs(options.jobs) {
            let warden = crew.start_warden()?;
            crew.wardens.push(Some(warden));
            crew.couriers.push(courier().map_err(fault)?);
        }
        Ok(crew)
    }

    /// The tier in use.
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// Stronger tiers that this machine lacks, with the reason.
    pub fn fallback(&self) -> &[TierProbe] {
        &self.fallback
    }

    /// How many wardens there are.
    pub fn jobs(&self) -> usize {
        self.wardens.len()
    }

    /// How much work was done so far.
    pub fn effort(&self) -> Effort {
        self.effort
    }

    /// Runs what the source gives against a subject, many at a time, until the source has no more or wants to stop; then waits for
    /// the cases under way. Of the cases whose rules are about time, few run at once.
    ///
    /// # Errors
    ///
    /// When a warden cannot be replaced.
    pub fn run(&mut self, subject: &SubjectSpec, source: &mut dyn Source) -> Result<(), CrewError> {
        let overhead = self.overhead(subject)?;
        self.run_cases(subject, overhead, source)
    }

    /// Runs each of these scenarios once against a subject. Answers the traces, in the order in which the cases were done.
    ///
    /// # Errors
    ///
    /// As [`Self::run`].
    pub fn run_each(
        &mut self,
        subject: &SubjectSpec,
        scenarios: Vec<Scenario>,
    ) -> Result<Vec<Trace>, CrewError> {
        let mut once = Once { scenarios: scenarios.into_iter(), traces: Vec::new() };
        self.run(subject, &mut once)?;
        Ok(once.traces)
    }

    /// How long a command takes to start and to end when its child only exits; measured once, the longest of several.
    fn overhead(&mut self, subject: &SubjectSpec) -> Result<Duration, CrewError> {
        if let Drive::Reentry { .. } = subject.drive {
            return Ok(Duration::ZERO);
        }
        if let Some((_, known)) = self.overheads.iter().find(|(measured, _)| measured == subject) {
            return Ok(*known);
        }
        let mut source = OverheadSource::default();
        self.run_cases(subject, Duration::ZERO, &mut source)?;
        self.overheads.push((subject.clone(), source.longest));
        Ok(source.longest)
    }

    fn run_cases(
        &mut self,
        subject: &SubjectSpec,
        overhead: Duration,
        source: &mut dyn Source,
    ) -> Result<(), CrewError> {
        let began = Instant::now();
        let (sender, results) = mpsc::channel();
        let mut state = Rounds { going: true, put_back: None, waits_for_room: false, under_way: 0 };
        loop {
            for index in 0..self.wardens.len() {
                if self.wardens[index].is_none() {
                    continue;
                }
                let Some((scenario, place)) = state.next(source, || sender.clone()) else { break };
                let warden = self.wardens[index].take().expect("it was just looked at");
                state.under_way += 1;
                let case = Case { scenario, subject: subject.clone(), overhead };
                let errand = Errand { index, warden, case, place, results: sender.clone() };
                self.couriers[index].send(errand).expect("a courier ends with the crew");
            }
            if state.under_way == 0 && !state.waits_for_room {
                break;
            }
            let done = match results.recv().expect("the crew itself holds a sender") {
                News::Done(done) => *done,
                News::Room => {
                    state.waits_for_room = false;
                    continue;
                }
            };
            state.under_way -= 1;
            self.wardens[done.index] = Some(match done.warden {
                Some(warden) => warden,
                None => self.start_warden()?,
            });
            self.effort.cases += 1;
            self.effort.own += Duration::from_micros(done.finished.own_us);
            self.effort.total += Duration::from_micros(done.finished.total_us);
            let mut trace = *done.finished.trace;
            trace.noise = self.canary.noise_since(done.began);
            if !source.take(trace) {
                state.going = false;
            }
        }
        self.effort.wall += began.elapsed();
        Ok(())
    }

    fn start_warden(&mut self) -> Result<Warden, CrewError> {
        self.started += 1;
        let folder = self.folder.path().join(format!("w{}", self.started));
        Warden::start(self.tier, folder).map_err(CrewError::Start)
    }
}

/// Runs a child that only exits, and keeps the longest time that everything around it took.
#[derive(Default)]
struct OverheadSource {
    given: u32,
    longest: Duration,
}

impl Source for OverheadSource {
    fn next(&mut self) -> Option<Scenario> {
        const SAMPLES: u32 = 4;
        // It names a rule about time, so that no more than one a core runs at once.
        const EXIT: &str = r#"{"schema": 1, "name": "exit-at-once", "why": "Measures the cost of the command itself.",
            "rules": ["D1"], "script": [{"exit": 0}], "ops": [{"do": "run"}, {"do": "wait"}]}"#;
        self.given += 1;
        (self.given <= SAMPLES).then(|| Scenario::from_json(EXIT).expect("a legal scenario"))
    }

    fn take(&mut self, trace: Trace) -> bool {
        let at = |wanted: fn(&What) -> bool| {
            trace.moments.iter().find(|moment| wanted(&moment.what)).map(|moment| moment.at_us)
        };
        let started = at(|what| matches!(what, What::HostStarted { .. }));
        let ended = at(|what| matches!(what, What::HostGone { .. }));
        if let (Some(started), Some(ended)) = (started, ended) {
            self.longest = self.longest.max(Duration::from_micros(ended - started));
        }
        true
    }
}

/// Each scenario of a list once.
struct Once {
    scenarios: std::vec::IntoIter<Scenario>,
    traces: Vec<Trace>,
}

impl Source for Once {
    fn next(&mut self) -> Option<Scenario> {
        self.scenarios.next()
    }

    fn take(&mut self, trace: Trace) -> bool {
        self.traces.push(trace);
        true
    }
}

/// What a run of the crew waits for.
enum News {
    Done(Box<Done>),
    /// There may be room for the case about time that was put back.
    Room,
}

/// What is under way in a run of the crew.
struct Rounds {
    going: bool,
    put_back: Option<Scenario>,
    /// It will be told when there is room for what was put back.
    waits_for_room: bool,
    under_way: usize,
}

impl Rounds {
    /// The next scenario that may start now. One about time is put back while enough of them are under way, and until it has begun no
    /// other is asked for: what a source gives may depend on what came of those before.
    fn next(
        &mut self,
        source: &mut dyn Source,
        told: impl FnOnce() -> mpsc::Sender<News>,
    ) -> Option<(Scenario, Option<Place>)> {
        if !self.going || self.waits_for_room {
            // Whoever wants to stop does not get what was put back either.
            return None;
        }
        let scenario = self.put_back.take().or_else(|| source.next())?;
        if !is_about_time(&scenario) {
            return Some((scenario, None));
        }
        let told = told();
        // The run may be over by then, and nobody is to be told.
        match ROOM.take(move || drop(told.send(News::Room))) {
            Some(place) => Some((scenario, Some(place))),
            None => {
                (self.put_back, self.waits_for_room) = (Some(scenario), true);
                None
            }
        }
    }
}

/// Whether a scenario is directed at a rule about time.
pub(crate) fn is_about_time(scenario: &Scenario) -> bool {
    scenario.rules.iter().any(|rule| rule.starts_with('D') || ["X3", "C3"].contains(&rule.as_str()))
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Cases mostly wait, so there are many wardens to a core.
fn jobs(asked: usize) -> usize {
    if asked > 0 { asked.min(64) } else { (cores() * 8).clamp(4, 32) }
}

fn choose_tier(asked: Option<Tier>) -> Result<(Tier, Vec<TierProbe>), CrewError> {
    let probes = probe_tiers();
    if let Some(asked) = asked {
        let probe = probes.into_iter().find(|probe| probe.tier == asked).expect("every tier is probed");
        return match probe.lacks {
            None => Ok((asked, Vec::new())),
            Some(why) => Err(CrewError::TierLacking(format!(
                "tier {} does not work on this machine: {why}; headcount doctor shows which do",
                asked.name()
            ))),
        };
    }
    let chosen = probes.iter().position(|probe| probe.lacks.is_none());
    match chosen {
        Some(index) => Ok((probes[index].tier, probes[..index].to_vec())),
        None => Err(CrewError::TierLacking(
            probes
                .iter()
                .map(|probe| format!("{}: {}", probe.tier.name(), probe.lacks.as_deref().unwrap_or("")))
                .collect::<Vec<_>>()
                .join("; "),
        )),
    }
}

#[derive(Debug)]
struct Warden {
    child: Child,
    socket: UnixStream,
    folder: PathBuf,
}

/// A case that is finished, with the warden that ran it if that is still of use.
struct Done {
    index: usize,
    warden: Option<Warden>,
    finished: Finished,
    began: Instant,
}

/// A case that is to be given to a warden.
struct Errand {
    index: usize,
    warden: Warden,
    case: Case,
    place: Option<Place>,
    results: mpsc::Sender<News>,
}

/// A thread that goes on errands until the crew is gone: one for each warden, because one for each case would have to be started
/// and ended thousands of times.
fn courier() -> std::io::Result<mpsc::Sender<Errand>> {
    let (sender, errands) = mpsc::channel::<Errand>();
    std::thread::Builder::new()
        .name("courier".to_owned())
        .spawn(move || errands.into_iter().for_each(Errand::run))?;
    Ok(sender)
}

impl Errand {
    /// Has the case run and sends what became of it, once its place is free again.
    fn run(self) {
        let Self { index, mut warden, case, place, results } = self;
        let began = Instant::now();
        let done = match warden.run(&case) {
            Ok(finished) => Done { index, warden: Some(warden), finished, began },
            Err(why) => {
                let mut trace = crate::run::empty_trace(&case, Tier::T1);
                trace.end = CaseEnd::OurFault(format!("the warden was lost: {why}"));
                let finished = Finished { trace: Box::new(trace), own_us: 0, total_us: 0 };
                Done { index, warden: None, finished, began }
            }
        };
        drop(place);
        // Nobody receives any more: the crew is being dropped.
        drop(results.send(News::Done(Box::new(done))));
    }
}

impl Warden {
    fn start(tier: Tier, folder: PathBuf) -> Result<Self, String> {
        let say = |error: std::io::Error| format!("starting a warden: {error}");
        std::fs::create_dir(&folder).map_err(say)?;
        let (socket, other) = UnixStream::pair().map_err(say)?;
        let child = Command::new(std::env::current_exe().map_err(say)?)
            .args([FLAG, "warden", tier.name()])
            .arg(&folder)
            // Its hosts have glibc's setting from it: else each of their few threads maps and unmaps 128 MiB for what it allocates.
            .env("MALLOC_ARENA_MAX", "1")
            .stdin(OwnedFd::from(other))
            .stdout(Stdio::null())
            .spawn()
            .map_err(say)?;
        let mut warden = Self { child, socket, folder };
        match warden.receive(READY_CAP) {
            Ok(Message::Ready) => Ok(warden),
            Ok(_) => Err("a warden spoke out of turn".to_owned()),
            Err(why) => Err(format!("a warden did not start: {why}")),
        }
    }

    fn run(&mut self, case: &Case) -> Result<Finished, String> {
        let mut line = serde_json::to_vec(case).map_err(|error| error.to_string())?;
        line.push(b'\n');
        (&self.socket).write_all(&line).map_err(|error| error.to_string())?;
        match self.receive(CASE_CAP)? {
            Message::Finished(finished) => Ok(finished),
            Message::Ready => Err("it spoke out of turn".to_owned()),
        }
    }

    fn receive(&mut self, cap: Duration) -> Result<Message, String> {
        self.socket.set_read_timeout(Some(cap)).map_err(|error| error.to_string())?;
        let mut line = Vec::new();
        // A fresh reader each time loses nothing: a warden sends one line and then waits to be told more.
        let count = BufReader::new(&self.socket).read_until(b'\n', &mut line).map_err(|error| match error
            .kind()
        {
            std::io::ErrorKind::WouldBlock => format!("no answer for {cap:?}"),
            _ => error.to_string(),
        })?;
        if count == 0 {
            return Err("it has ended".to_owned());
        }
        serde_json::from_slice(&line).map_err(|error| error.to_string())
    }
}

impl Drop for Warden {
    /// Closing the socket tells the warden to empty its container and end; one that does not is killed, and what was in
    /// its pid namespace with it.
    fn drop(&mut self) {
        drop(self.socket.shutdown(std::net::Shutdown::Both));
        if let Err(error) = wait_until(&mut self.child, Instant::now() + READY_CAP) {
            eprintln!("headcount: a warden could not be waited for: {error}");
        }
        if let Err(error) = contain::clear_cgroup_of(self.child.id()) {
            eprintln!("headcount: what a killed warden left: {error}");
        }
        if let Err(error) = std::fs::remove_dir_all(&self.folder)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            eprintln!("headcount: {}: {error}", self.folder.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives the same scenario about time for ever, and counts.
    struct Timed {
        given: usize,
    }

    impl Source for Timed {
        fn next(&mut self) -> Option<Scenario> {
            const TIMED: &str = r#"{"schema": 1, "name": "timed", "why": "A test.", "rules": ["D1"],
                "script": [{"exit": 0}], "ops": [{"do": "run"}, {"do": "wait"}]}"#;
            self.given += 1;
            assert!(self.given < 10_000, "it is drained");
            Some(Scenario::from_json(TIMED).unwrap())
        }

        fn take(&mut self, _trace: Trace) -> bool {
            true
        }
    }

    #[test]
    fn of_cases_about_time_one_is_put_back_until_there_is_room_and_none_begins_after_the_end() {
        // Nobody else in this process has a place: no other of these tests runs a case.
        let mut source = Timed { given: 0 };
        let (sender, news) = mpsc::channel();
        let rounds = || Rounds { going: true, put_back: None, waits_for_room: false, under_way: 0 };
        let (mut rounds, mut others) = (rounds(), rounds());
        let size = timed::Room::size();
        let mut places = Vec::new();
        // Two crews share the room.
        for _ in 0..size / 2 {
            for each in [&mut rounds, &mut others] {
                places.push(each.next(&mut source, || sender.clone()).expect("there is room"));
            }
        }
        assert!(rounds.next(&mut source, || sender.clone()).is_none());
        assert!(rounds.next(&mut source, || sender.clone()).is_none());
        assert_eq!(source.given, size + 1);
        assert!(news.try_recv().is_err());
        drop(places.pop());
        assert!(matches!(news.try_recv(), Ok(News::Room)));
        rounds.waits_for_room = false;
        places.push(rounds.next(&mut source, || sender.clone()).expect("there is room again"));
        assert_eq!(source.given, size + 1);
        assert!(rounds.next(&mut source, || sender.clone()).is_none());
        places.clear();
        (rounds.waits_for_room, rounds.going) = (false, false);
        assert!(rounds.next(&mut source, || sender.clone()).is_none());
    }
}
