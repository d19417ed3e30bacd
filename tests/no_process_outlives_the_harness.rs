//! M1: no warden and no fake outlives the harness, however it ends.
//!
//! This test makes itself a subreaper, so that whatever the harness leaves behind becomes its child; "nobody is left" is
//! the kernel's own word. It has a `main` of its own because a subreaper must be the only one in its process that
//! waits, and because it plays the part of a wrapper's own test suite too, which it then interrupts.

use std::io::Read;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use headcount::promises::Promises;
use headcount::reentry::Subjects;
use headcount::scan::children;
use headcount::subject::{Job, Subject};
use headcount::suite::Suite;
use headcount::trace::{Outcome, Reason};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

/// Far more than the harness needs to notice that it is alone and to sweep.
const GONE_CAP: Duration = Duration::from_secs(20);
/// Set in a process that plays a wrapper's own test suite.
const PLAY_SUITE: &str = "HEADCOUNT_TEST_PLAYS_SUITE";

fn main() -> ExitCode {
    headcount::reentry::reenter(|| Subjects::new().with("leaky", Leaky).with("idle", Idle));
    let plays = std::env::var(PLAY_SUITE).unwrap_or_default();
    if plays == "idle" {
        return Suite::new("idle", || Idle).main();
    }
    if !plays.is_empty() {
        return Suite::new("leaky", || Leaky).generated(5000).main();
    }
    let mut arguments = Arguments::from_args();
    // One at a time: they all wait for every child of this process.
    arguments.test_threads = Some(1);
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .expect("every process may be a subreaper");
    let trials = vec![
        trial("nothing_is_alive_after_an_audit", after_an_audit),
        trial("nothing_is_alive_after_the_command_was_killed", || after_signal(audit(), Signal::KILL)),
        trial("nothing_is_alive_after_the_command_was_terminated", || after_signal(audit(), Signal::TERM)),
        trial("nothing_is_alive_after_the_command_was_killed_at_a_hold", || at_a_hold(Signal::KILL)),
        trial("nothing_is_alive_after_the_command_was_interrupted_at_a_hold", || at_a_hold(Signal::INT)),
        trial("an_interrupted_audit_says_so_and_leaves_nothing", after_an_interrupt),
        trial("nothing_is_alive_after_a_test_suite_was_killed", || after_signal(generated(), Signal::KILL)),
        Trial::ignorable_test("nothing_is_alive_after_a_test_suite_was_interrupted", || {
            if ignores_interrupts() {
                return Ok(Completion::ignored_with("who has started this has it ignore interrupts"));
            }
            after_signal(generated(), Signal::INT).map(|()| Completion::Completed)
        }),
        trial("an_audit_goes_on_when_a_warden_was_killed", after_a_warden_was_killed),
        trial("a_leaky_wrapper_fails_its_suite_and_is_told_who_survived", a_leak_is_told),
        trial("a_wrapper_that_starts_nothing_fails_its_suite", an_idle_wrapper_is_told),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// As what `nohup` or a script starts in the background does, and whatever that starts.
fn ignores_interrupts() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").expect("it may read of itself");
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).map(str::trim);
    let mask = mask.and_then(|mask| u64::from_str_radix(mask, 16).ok()).expect("a mask");
    mask >> (Signal::INT.as_raw() - 1) & 1 == 1
}

fn trial(name: &str, test: fn() -> Result<(), Failed>) -> Trial {
    Trial::test(name, test)
}

/// Starts its child and never ends it, so that a case is full of nodes when the harness dies.
struct Leaky;

impl Subject for Leaky {
    fn promises(&self) -> Promises {
        Promises::default()
    }

    async fn run(&self, mut job: Job) -> Outcome {
        let reason = match Command::new(job.program()).spawn() {
            Ok(_) => Reason::Cancelled,
            Err(error) => Reason::StartFailed(error.to_string()),
        };
        job.next_cancel().await;
        Outcome { reason, status: None, stdout: None, stderr: None }
    }
}

/// Starts nothing and says that all went well.
struct Idle;

impl Subject for Idle {
    fn promises(&self) -> Promises {
        "timeout,grace,drain,clean,tells-reason,tells-cut,captures,status".parse().expect("known words")
    }

    async fn run(&self, _: Job) -> Outcome {
        Outcome { reason: Reason::Itself, status: None, stdout: None, stderr: None }
    }
}

/// An audit that would take minutes.
fn audit() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_headcount"));
    command.args(["audit", "--subject", "tokio", "--rules", "S*", "--cases", "100000", "--budget", "120s"]);
    command
}

/// A part of that suite that would take minutes.
fn generated() -> Command {
    let mut command = suite();
    command.args(["--exact", "generated"]);
    command
}

/// A wrapper's own test suite.
fn suite() -> Command {
    let mut command = Command::new(std::env::current_exe().expect("Linux knows it"));
    command.env(PLAY_SUITE, "1");
    command
}

fn after_an_audit() -> Result<(), Failed> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_headcount"));
    command.args(["audit", "--subject", "tokio", "--rules", "P1", "--cases", "8"]);
    let mut child = start(command)?;
    finish(&mut child, Instant::now() + Duration::from_secs(60))?;
    nobody_is_left()
}

fn after_signal(command: Command, signal: Signal) -> Result<(), Failed> {
    let mut child = start(command)?;
    wait_for_nodes(&child)?;
    rustix::process::kill_process(Pid::from_child(&child), signal)?;
    finish(&mut child, Instant::now() + GONE_CAP)?;
    nobody_is_left()
}

/// The command ends while a system call of the wrapper's waits.
fn at_a_hold(signal: Signal) -> Result<(), Failed> {
    const HELD: &str = r#"{"schema": 1, "name": "held", "why": "A test.", "script": ["hang"],
        "holds": [{"call": "exec-child", "nth": 1, "until": "host.gone"}], "ops": [{"do": "run"}, {"do": "wait"}]}"#;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("held.json");
    std::fs::write(&file, HELD)?;
    for tier in ["t1", "auto"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_headcount"));
        command.args(["replay", "--times", "40", "--tier", tier, "--subject", "tokio"]).arg(&file);
        let mut child = start(command)?;
        retry("no call was held", || is_held(child.id() as i32))?;
        rustix::process::kill_process(Pid::from_child(&child), signal)?;
        finish(&mut child, Instant::now() + GONE_CAP)?;
        nobody_is_left()?;
    }
    Ok(())
}

/// Whether a thread below a process waits for the answer to a call of its own.
fn is_held(pid: i32) -> bool {
    let below = headcount::scan::descendants(&[pid]);
    below.iter().any(|stat| {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", stat.pid)).into_iter().flatten().flatten();
        let waits_in = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("wchan"));
        tasks.map(waits_in).any(|place| place.is_ok_and(|place| place.contains("seccomp")))
    })
}

fn after_an_interrupt() -> Result<(), Failed> {
    let mut child = start(audit())?;
    wait_for_nodes(&child)?;
    rustix::process::kill_process(Pid::from_child(&child), Signal::INT)?;
    let status = finish(&mut child, Instant::now() + GONE_CAP)?;
    if status.code() != Some(130) {
        return Err(format!("exit code 130 was promised, it was {status}").into());
    }
    nobody_is_left()
}

fn after_a_warden_was_killed() -> Result<(), Failed> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_headcount"));
    command.args([
        "audit",
        "--subject",
        "childminder",
        "--rules",
        "S1",
        "--cases",
        "120",
        "--format",
        "json",
    ]);
    let mut child = start(command.stdout(Stdio::piped()))?;
    let mut stdout = child.stdout.take().expect("it is piped");
    // Read beside, so that a full pipe does not hold it up.
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).map(|_| text)
    });
    wait_for_nodes(&child)?;
    let warden = *children(child.id() as i32).first().ok_or("there was no warden")?;
    rustix::process::kill_process(Pid::from_raw(warden).ok_or("a pid")?, Signal::KILL)?;
    let status = finish(&mut child, Instant::now() + Duration::from_secs(120))?;
    let text = reader.join().map_err(|_| "the reader panicked")??;
    let audit: serde_json::Value = serde_json::from_str(&text)?;
    let subject = &audit["subjects"][0];
    let (cases, lost) = (subject["cases"].as_u64(), subject["lost"].as_u64());
    // The case that the warden had is lost, and said to be; no other is.
    if (status.code(), cases, lost) != (Some(12), Some(119), Some(1)) {
        return Err(format!("{status}, {cases:?} cases, {lost:?} lost").into());
    }
    nobody_is_left()
}

fn a_leak_is_told() -> Result<(), Failed> {
    let mut command = suite();
    let output = command.args(["--exact", "rule::S9"]).stdin(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let told =
        ["S9:", "to replay it"].iter().all(|part| text.contains(part)) && seconds_alive(&text) >= Some(2.0);
    if output.status.code() != Some(101) || !told {
        return Err(format!("{}: {text}", output.status).into());
    }
    nobody_is_left()
}

/// For how many seconds somebody was alive, as it is said: "alive 2.0 s".
fn seconds_alive(text: &str) -> Option<f64> {
    let (_, after) = text.split_once(" alive ")?;
    after.split_once(" s")?.0.parse().ok()
}

fn an_idle_wrapper_is_told() -> Result<(), Failed> {
    let mut command = suite();
    let output = command.env(PLAY_SUITE, "idle").arg("rule::").stdin(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = ["S1 was not tested by any case", "X1 was not tested by any case"]
        .iter()
        .all(|part| text.contains(part));
    if output.status.code() != Some(101) || !told {
        return Err(format!("{}: {text}", output.status).into());
    }
    nobody_is_left()
}

fn start(mut command: impl std::borrow::BorrowMut<Command>) -> Result<Child, Failed> {
    let command = command.borrow_mut();
    command.stdin(Stdio::null()).stderr(Stdio::null());
    if command.get_args().all(|argument| argument != "json") {
        command.stdout(Stdio::null());
    }
    Ok(command.spawn()?)
}

/// Waits until the harness has wardens, and these have hosts, and these have nodes.
fn wait_for_nodes(child: &Child) -> Result<(), Failed> {
    retry("the harness started no nodes", || depth(child.id() as i32) >= 4)
}

/// How many levels of children a process has.
fn depth(pid: i32) -> u32 {
    children(pid).into_iter().map(|child| 1 + depth(child)).max().unwrap_or(0)
}

/// Waits for a child of ours within a bound.
fn finish(child: &mut Child, deadline: Instant) -> Result<ExitStatus, Failed> {
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(5));
    }
    child.kill()?;
    child.wait()?;
    Err("the harness did not end in time".to_owned().into())
}

/// Whatever outlived the harness is a child of this process now.
fn nobody_is_left() -> Result<(), Failed> {
    let mut left = String::new();
    retry("somebody is alive", || {
        loop {
            match rustix::process::waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
                Ok(Some(_)) => {}
                Ok(None) => {
                    left = format!("{:?}", children(std::process::id() as i32));
                    return false;
                }
                Err(error) => return error == rustix::io::Errno::CHILD,
            }
        }
    })
    .map_err(|failed| Failed::from(format!("{}: {left}", failed.message().unwrap_or_default())))
}

/// Observes again until it is true or the cap is reached.
fn retry(complaint: &str, mut observe: impl FnMut() -> bool) -> Result<(), Failed> {
    let deadline = Instant::now() + GONE_CAP;
    while !observe() {
        if Instant::now() >= deadline {
            return Err(complaint.to_owned().into());
        }
        std::thread::park_timeout(Duration::from_millis(2));
    }
    Ok(())
}
