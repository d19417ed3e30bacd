//! The harness cannot be hung or hurt by what it audits: a host that hangs or never says a word, one that kills its warden, a relay
//! of forks that no list of processes catches, a bomb of forks that doubles while it is swept, a full disk, a stall of everything. The run ends in time and says what happened, the next case is judged
//! as ever, and nobody is left.
//!
//! It has a `main` of its own because it is the host of its subjects, and a subreaper.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use headcount::contain::fork;
use headcount::crew::{Crew, CrewOptions, probe_tiers};
use headcount::promises::Promises;
use headcount::reentry::{self, Subjects};
use headcount::rules::{self, facts::Facts};
use headcount::scan;
use headcount::scenario::Scenario;
use headcount::subject::{Job, Subject, SubjectSpec};
use headcount::trace::{CaseEnd, Look, Outcome, Reason, Tier, Trace, What};
use headcount::verdict::Verdict;
use libtest_mimic::{Arguments, Failed, Trial};
use nix::unistd::ForkResult;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

/// Far more than each of the caps inside a case.
const CASE_CAP: Duration = Duration::from_secs(40);
/// How long whoever is left has to be gone.
const GONE_CAP: Duration = Duration::from_secs(20);
/// How many times the relay hands on, if nobody ends it: far more than a sweep looks.
const MOST_RELAYS: u32 = 200_000;
/// How often the bomb doubles at once, and how often once more after a pause: longer than whoever is left is waited for, so that it
/// doubles while it is swept. If nobody ended it there were two thousand in the end.
const DOUBLES_AT_ONCE: u32 = 7;
const DOUBLES_LATER: u32 = 4;
const PAUSE: Duration = Duration::from_secs(1);
/// How long those of the bomb live whom nobody ends.
const BOMB_TTL: Duration = Duration::from_secs(60);

/// What is wrong with a host.
#[derive(Clone, Copy, Debug)]
enum Ill {
    /// It never ends a run, whatever it is told.
    NeverEnds,
    /// It hangs before it has said anything.
    NeverSpeaks,
    /// It stops itself.
    StopsItself,
    /// It kills its parent, and then hangs.
    KillsItsWarden,
    /// It leaves a process that forks and exits, and so does each that it forks.
    LeavesARelay,
    /// It leaves processes, in sessions of their own, that fork again and again, as do those that they fork.
    LeavesABomb,
    /// Nothing.
    Not,
}

/// Whether a case has come to the end that it should.
type Becomes = fn(&Trace) -> bool;

/// Each by its name, with what becomes of its case.
const ILL: [(&str, Ill, Becomes); 6] = [
    ("never-ends", Ill::NeverEnds, |trace| trace.end == CaseEnd::HostSilent),
    ("never-speaks", Ill::NeverSpeaks, is_our_fault),
    ("stops-itself", Ill::StopsItself, |trace| trace.end == CaseEnd::HostSilent),
    // The first process of a namespace cannot be killed from inside it.
    ("kills-its-warden", Ill::KillsItsWarden, |trace| {
        is_our_fault(trace) || trace.end == CaseEnd::HostSilent
    }),
    ("leaves-a-relay", Ill::LeavesARelay, |trace| !is_said_to_leave_nobody(trace)),
    ("leaves-a-bomb", Ill::LeavesABomb, |trace| !is_said_to_leave_nobody(trace)),
];
const WELL: &str = "well";

fn main() -> ExitCode {
    reentry::reenter(|| {
        let well = Subjects::new().with(WELL, Ill::Not);
        ILL.into_iter().fold(well, |all, (name, ill, _)| all.with(name, ill))
    });
    let mut arguments = Arguments::from_args();
    // One at a time: each waits for every child of this process.
    arguments.test_threads = Some(1);
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .expect("every process may be a subreaper");
    let tiers = probe_tiers().into_iter().filter(|probe| probe.lacks.is_none()).map(|probe| probe.tier);
    let trials = tiers.map(|tier| {
        let name = format!("no_ill_host_hurts_or_hangs_a_warden_of_{}", tier.name());
        Trial::test(name, move || no_ill_host_hurts(tier))
    });
    let others = [
        Trial::test("a_full_disk_is_said", a_full_disk_is_said),
        Trial::test("a_case_that_stands_still_as_a_whole_goes_on_where_it_was", a_stall_is_excused),
    ];
    let trials = trials.chain(others).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn is_our_fault(trace: &Trace) -> bool {
    matches!(trace.end, CaseEnd::OurFault(_))
}

/// Whether somebody had to be swept though a look saw everyone and nobody, or a rule takes it so.
fn is_said_to_leave_nobody(trace: &Trace) -> bool {
    let empty = |look: &Look| look.complete && look.seen.is_empty();
    let rule = rules::find("S1").expect("it is in the catalogue");
    let said = trace.looks.iter().any(empty) || rule.judge(&Facts::of(trace)) == Verdict::Kept;
    said && !trace.swept.is_empty()
}

impl Subject for Ill {
    fn promises(&self) -> Promises {
        if matches!(self, Self::NeverSpeaks) {
            hang();
        }
        Promises::default()
    }

    async fn run(&self, mut job: Job) -> Outcome {
        let child = tokio::process::Command::new(job.program())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) => return Outcome::because(Reason::StartFailed(error.to_string())),
        };
        job.next_cancel().await;
        match self {
            Self::NeverSpeaks | Self::Not => {}
            Self::NeverEnds => std::future::pending().await,
            Self::StopsItself => {
                rustix::process::kill_process(rustix::process::getpid(), Signal::STOP).expect("it is us");
                // It takes effect in this thread a little later.
                std::future::pending::<()>().await;
            }
            Self::KillsItsWarden => {
                let parent = rustix::process::getppid().expect("a host has a parent");
                // In a namespace the kernel lets this pass without effect.
                rustix::process::kill_process(parent, Signal::KILL).expect("it has our user");
                hang();
            }
            Self::LeavesARelay => start_a_relay(),
            Self::LeavesABomb => start_a_bomb(),
        }
        drop(child.kill().await);
        Outcome::because(Reason::Cancelled)
    }
}

/// Holds this thread until the process is killed.
fn hang() -> ! {
    loop {
        std::thread::park();
    }
}

/// A process that forks and exits at once, as does its child, in a session of its own.
fn start_a_relay() {
    if let Ok(ForkResult::Child) = fork() {
        // Only calls that a fork of a process with threads may make.
        let _ = nix::unistd::setsid();
        for _ in 0..MOST_RELAYS {
            match fork() {
                Ok(ForkResult::Child) => {}
                _ => break,
            }
        }
        exit_now();
    }
}

/// Processes that double in number, each in a session of its own.
fn start_a_bomb() {
    if let Ok(ForkResult::Child) = fork() {
        // Only calls that a fork of a process with threads may make.
        for round in 0..DOUBLES_AT_ONCE + DOUBLES_LATER {
            if round >= DOUBLES_AT_ONCE {
                std::thread::sleep(PAUSE);
            }
            if let Ok(ForkResult::Child) = fork() {
                let _ = nix::unistd::setsid();
            }
        }
        std::thread::sleep(BOMB_TTL);
        exit_now();
    }
}

/// Ends a forked process without running what its parent registered for its end.
#[expect(unsafe_code, reason = "_exit has no safe form")]
fn exit_now() -> ! {
    // SAFETY: ends this process and touches nothing of it.
    unsafe { nix::libc::_exit(0) }
}

/// All of them side by side, since most of the time is spent waiting for caps.
fn no_ill_host_hurts(tier: Tier) -> Result<(), Failed> {
    let told = std::thread::scope(|scope| {
        let threads = ILL.map(|(name, _, expected)| scope.spawn(move || hurt(tier, name, expected)));
        threads.map(|thread| thread.join().expect("a failed case is told, not panicked over"))
    });
    let told = ILL.iter().zip(told).filter_map(|((name, ..), told)| {
        told.err().map(|failed| format!("{name}: {}", failed.message().unwrap_or_default()))
    });
    let told = told.collect::<Vec<_>>();
    if !told.is_empty() {
        return Err(told.join("\n").into());
    }
    nobody_is_left()
}

/// Runs a case of an ill subject and then one of a well one with the same crew.
fn hurt(tier: Tier, subject: &str, expected: Becomes) -> Result<(), Failed> {
    let mut crew = Crew::start(&CrewOptions { jobs: 1, tier: Some(tier) })?;
    let began = Instant::now();
    let trace = case(&mut crew, subject)?;
    let took = began.elapsed();
    if took > CASE_CAP || !expected(&trace) {
        let Trace { end, moments, looks, swept, .. } = trace;
        return Err(format!("after {took:?}: {end:?}: {moments:#?}, {looks:#?}, swept {swept:#?}").into());
    }
    let trace = case(&mut crew, WELL)?;
    if trace.end != CaseEnd::Completed {
        return Err(format!("the next case: {:?}", trace.end).into());
    }
    Ok(())
}

fn case(crew: &mut Crew, subject: &str) -> Result<Trace, Failed> {
    const CANCELLED: &str = r#"{"schema": 1, "name": "cancelled", "why": "Something to hurt the harness with.",
        "script": [{"emit": "ready"}, "hang"],
        "ops": [{"do": "run"}, {"do": "cancel", "after": "root.ready"}, {"do": "wait"}]}"#;
    let scenario = Scenario::from_json(CANCELLED)?;
    let traces = crew.run_each(&SubjectSpec::here(subject), vec![scenario])?;
    Ok(traces.into_iter().next().ok_or("no trace came back")?)
}

/// An audit for which some folders lie on a file system without room: those in which it works, or that in which failures are kept.
fn a_full_disk_is_said() -> Result<(), Failed> {
    let place = tempfile::tempdir()?;
    let full = place.path().join("full");
    std::fs::create_dir(&full)?;
    let Some((code, told)) = audit_with_full(&full, "/dev/shm /tmp", place.path())? else {
        return Ok(());
    };
    if code != Some(70) || !told.contains("No space left on device") {
        return Err(format!("no room to work in: {code:?}: {told}").into());
    }
    let Some((code, told)) = audit_with_full(&full, "", &full)? else {
        return Ok(());
    };
    // It is saved where there is room: in a temporary folder, which is the last resort.
    let saved = told.split_whitespace().rfind(|word| word.ends_with("drop-tree.json")).map(Path::new);
    let kept = saved.is_some_and(|path| !path.starts_with(&full) && path.is_file());
    if code != Some(10) || !kept {
        return Err(format!("no room to keep failures in: {code:?}: {told}").into());
    }
    nobody_is_left()
}

/// The exit code and the words of an audit that finds a failure, with a file system that has no room left at `full`, where the state
/// is kept too, and at some other places. Nothing where this machine cannot have one.
fn audit_with_full(
    full: &Path,
    elsewhere: &str,
    save: &Path,
) -> Result<Option<(Option<i32>, String)>, Failed> {
    // The command itself may lie in one of those places, so it is started from where it is bound to first.
    const MOUNT: &str = r#"mount --bind "$(dirname "$3")" /mnt && mount -t tmpfs -o size=64k full "$1" || exit 77
        cat /dev/zero 2>/dev/null >"$1/filler"
        for place in $2; do mount --bind "$1" "$place" || exit 77; done
        program=/mnt/$(basename "$3"); shift 3; exec "$program" "$@""#;
    let namespaces = if rustix::process::getuid().is_root() { "-m" } else { "-rm" };
    let mut command = Command::new("unshare");
    command
        .args([namespaces, "sh", "-c", MOUNT, "sh"])
        .arg(full)
        .arg(elsewhere)
        .arg(env!("CARGO_BIN_EXE_headcount"));
    command.args([
        "audit",
        "--subject",
        "tokio",
        "--rules",
        "S9",
        "--cases",
        "4",
        "--budget",
        "30s",
        "--save",
    ]);
    // Its temporary folders are to be where there is no room.
    let output =
        command.arg(save).env("XDG_STATE_HOME", full).env("TMPDIR", "/tmp").stdin(Stdio::null()).output();
    let output = match output {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("not tried: this machine has no unshare");
            return Ok(None);
        }
        output => output?,
    };
    let told =
        [output.stderr, output.stdout].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    if output.status.code() == Some(77) || told.contains("unshare: ") {
        eprintln!("not tried: {}", told.trim());
        return Ok(None);
    }
    Ok(Some((output.status.code(), told)))
}

/// A case is stopped for longer than a gate is waited for, the warden too, which is then the first to go on.
fn a_stall_is_excused() -> Result<(), Failed> {
    // A machine that is slow besides may need longer for the rest than what is left then.
    const ATTEMPTS: usize = 3;
    let mut told = String::new();
    for _ in 0..ATTEMPTS {
        let trace = stalled_case()?;
        let is_stuck = trace.moments.iter().any(|moment| matches!(moment.what, What::GateStuck { .. }));
        if trace.end == CaseEnd::Completed && !is_stuck {
            return nobody_is_left();
        }
        told = format!("{:?}: {:#?}", trace.end, trace.moments);
    }
    Err(told.into())
}

fn stalled_case() -> Result<Trace, Failed> {
    const LATE: &str = r#"{"schema": 1, "name": "late", "why": "A gate that opens after the stall.",
        "script": [{"sleep": "1s"}, {"emit": "ready"}, "hang"],
        "ops": [{"do": "run"}, {"do": "cancel", "after": "root.ready"}, {"do": "wait"}]}"#;
    const STALL: Duration = Duration::from_millis(3_300);
    let mut crew = Crew::start(&CrewOptions { jobs: 1, tier: Some(Tier::T1) })?;
    let own = Pid::as_raw(Some(rustix::process::getpid()));
    let [warden] = scan::children(own)[..] else { return Err("the warden is the only child".into()) };
    let scenario = Scenario::from_json(LATE)?;
    std::thread::scope(|scope| {
        let case = scope.spawn(|| crew.run_each(&SubjectSpec::here(WELL), vec![scenario]));
        let below = || scan::descendants(&[warden]).iter().map(|stat| stat.pid).collect::<Vec<_>>();
        let is_up = || scan::descendants(&[warden]).iter().any(|stat| stat.comm == "fake");
        eventually("the root is up", is_up)?;
        signal(warden, Signal::STOP)?;
        let below = below();
        below.iter().try_for_each(|pid| signal(*pid, Signal::STOP))?;
        std::thread::sleep(STALL);
        signal(warden, Signal::CONT)?;
        let waits = || scan::stat(warden).is_some_and(|stat| stat.state == 'S');
        let told = eventually("the warden has looked", waits);
        below.iter().try_for_each(|pid| signal(*pid, Signal::CONT))?;
        told?;
        let traces = case.join().expect("a case that fails is told")?;
        Ok(traces.into_iter().next().ok_or("no trace came back")?)
    })
}

fn signal(pid: i32, signal: Signal) -> Result<(), Failed> {
    let pid = Pid::from_raw(pid).ok_or("nobody has the pid 0")?;
    Ok(rustix::process::kill_process(pid, signal)?)
}

fn eventually(what: &str, is_so: impl Fn() -> bool) -> Result<(), Failed> {
    let deadline = Instant::now() + GONE_CAP;
    while !is_so() {
        if Instant::now() > deadline {
            return Err(format!("not within {GONE_CAP:?}: {what}").into());
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    Ok(())
}

/// Whatever outlived the harness is a child of this process now.
fn nobody_is_left() -> Result<(), Failed> {
    let deadline = Instant::now() + GONE_CAP;
    loop {
        match rustix::process::waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
            Ok(Some(_)) => {}
            Err(rustix::io::Errno::CHILD) => return Ok(()),
            Ok(None) if Instant::now() < deadline => std::thread::park_timeout(Duration::from_millis(2)),
            other => {
                let left = scan::children(Pid::as_raw(Some(rustix::process::getpid())));
                return Err(format!("somebody is alive: {other:?}, {left:?}").into());
            }
        }
    }
}
