//! Failures of real wrappers are confirmed, pinned, shrunk and explained, with real processes.
//!
//! It has a `main` of its own because it is the host of its subjects.

use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use headcount::crew::{Crew, CrewOptions};
use headcount::failure::{Bounds, Failure, Minimal};
use headcount::promises::Promises;
use headcount::reentry;
use headcount::rules;
use headcount::scenario::Scenario;
use headcount::subject::{Job, Subject, SubjectSpec};
use headcount::trace::{Outcome, Reason, Status};
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::process::Command;

/// Longer than any of these takes on a busy machine; nothing waits for it.
const BUDGET: Duration = Duration::from_secs(150);

/// Kills only the leader, and that some time after it was asked to: up to 20 ms, as chance has it.
struct KillsTheLeaderLater;

impl Subject for KillsTheLeaderLater {
    fn promises(&self) -> Promises {
        Promises { tells_reason: true, ..Promises::default() }
    }

    async fn run(&self, mut job: Job) -> Outcome {
        let Ok(mut child) = Command::new(job.program()).kill_on_drop(true).spawn() else {
            return Outcome::because(Reason::Unsaid);
        };
        tokio::select! {
            _ = child.wait() => return Outcome::because(Reason::Itself),
            () = job.next_cancel() => {}
        }
        tokio::time::sleep(Duration::from_micros(chance() % 20_000)).await;
        // Its own end is what counts here.
        drop(child.kill().await);
        Outcome::because(Reason::Cancelled)
    }
}

/// Cuts a code to seven bits, in every second run, as chance has it.
struct CutsCodes;

impl Subject for CutsCodes {
    fn promises(&self) -> Promises {
        Promises { tells_reason: true, status: true, ..Promises::default() }
    }

    async fn run(&self, job: Job) -> Outcome {
        let status = Command::new(job.program()).kill_on_drop(true).status().await;
        let status = status.ok().map(Status::from).map(|status| match status {
            Status::Exited(code) if chance().is_multiple_of(2) => Status::Exited(code & 0x7f),
            status => status,
        });
        Outcome { status, ..Outcome::because(Reason::Itself) }
    }
}

/// The microseconds of the clock: nothing in a case depends on them.
fn chance() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos().into()) / 1000
}

fn main() -> ExitCode {
    reentry::reenter(|| {
        headcount::subjects::in_rust()
            .with("kills-the-leader-later", KillsTheLeaderLater)
            .with("cuts-codes", CutsCodes)
    });
    let trials = vec![
        Trial::test("a_race_becomes_certain_when_its_order_is_pinned", a_race_with_an_order),
        Trial::test("a_race_without_an_order_is_shrunk_by_trying_more_often", a_race_without_an_order),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// What was reached, and by which steps.
struct Shrunk {
    minimal: Minimal,
    steps: Vec<String>,
}

fn minimise(subject: &str, rule: &str, text: &str) -> Result<Shrunk, Failed> {
    let subject = SubjectSpec::here(subject);
    let scenario = Scenario::from_json(text)?;
    let rule = rules::find(rule).ok_or("no such rule")?;
    let mut crew = Crew::start(&CrewOptions { jobs: 32, ..CrewOptions::default() })?;
    let stop = AtomicBool::new(false);
    let failure = Failure { subject: &subject, rule, scenario: &scenario };
    let mut steps = Vec::new();
    let mut note = |step: &Minimal| {
        let script = serde_json::to_string(&step.scenario.script).unwrap_or_default();
        let ops = serde_json::to_string(&step.scenario.ops).unwrap_or_default();
        steps.push(format!("{}, promoted {}: {script} {ops}", step.rate, step.is_promoted));
    };
    let minimal = failure.minimise(&mut crew, &Bounds { budget: BUDGET, stop: &stop }, &mut note)?;
    // The files tell what was found, and are read back.
    let kept = minimal.as_found(&failure, crew.tier());
    assert_eq!(Scenario::from_json(&kept.to_json()).as_ref(), Ok(&kept));
    assert!(kept.to_json().lines().count() <= 40, "{}", kept.to_json());
    Ok(Shrunk { minimal, steps })
}

fn demand(shrunk: &Shrunk, is_so: bool) -> Result<(), Failed> {
    let Minimal { rate, is_promoted, is_minimal, cases, matters, scenario, .. } = &shrunk.minimal;
    let (text, steps) = (scenario.to_json(), shrunk.steps.join("\n"));
    let told = format!(
        "{rate}, promoted {is_promoted}, minimal {is_minimal}, {cases} cases, {matters:?}\n{text}\n{steps}"
    );
    if is_so { Ok(()) } else { Err(Failed::from(told)) }
}

fn nodes(minimal: &Minimal) -> usize {
    fake_cli::script::nodes(&minimal.scenario.script).len()
}

fn a_race_with_an_order() -> Result<(), Failed> {
    let shrunk = minimise(
        "kills-the-leader-later",
        "S1",
        r#"{"schema": 1, "name": "race", "why": "A test.",
            "script": [{"sleep": "10ms"}, {"start": {"node": "n1", "script": [{"emit": "ready"}, "hang"]}}, "hang"],
            "ops": [{"do": "run"}, {"do": "cancel", "after": "root.hello"}, {"do": "wait"}],
            "limits": {"grace": "50ms"}}"#,
    )?;
    let minimal = &shrunk.minimal;
    demand(&shrunk, minimal.rate.broken * 10 >= minimal.rate.of * 8)?;
    demand(&shrunk, nodes(minimal) == 2 && minimal.scenario.ops.len() <= 3)
}

fn a_race_without_an_order() -> Result<(), Failed> {
    let shrunk = minimise(
        "cuts-codes",
        "X1",
        r#"{"schema": 1, "name": "code", "why": "A test.",
            "script": [{"write": {"to": "stdout", "bytes": 100}}, {"start": {"node": "n1", "script": ["hang"]}},
                       {"sleep": "2ms"}, {"emit": "ready"}, {"exit": 200}],
            "ops": [{"do": "run"}, {"do": "wait"}, {"do": "run"}, {"do": "wait"}], "bystanders": true}"#,
    )?;
    let minimal = &shrunk.minimal;
    let script = serde_json::to_string(&minimal.scenario.script)?;
    demand(&shrunk, minimal.rate.is_racy() && script == r#"[{"exit":200}]"# && !minimal.is_promoted)?;
    demand(
        &shrunk,
        minimal.scenario.ops.len() <= 2 && minimal.matters.iter().any(|place| place == "script[0].exit"),
    )
}
