//! Failures of real wrappers are confirmed, pinned, shrunk and explained, with real processes, and what an audit saves of them fails
//! again in the same way.
//!
//! It has a `main` of its own because it is the host of its subjects.

use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use headcount::audit::save::Keeper;
use headcount::audit::{self, Plan};
use headcount::crew::{Crew, CrewOptions};
use headcount::failure::{Bounds, Failure, Minimal};
use headcount::promises::Promises;
use headcount::reentry;
use headcount::replay;
use headcount::rules::facts::Facts;
use headcount::rules::{self, Judged, Rule};
use headcount::scenario::Scenario;
use headcount::subject::{Job, Subject, SubjectSpec};
use headcount::trace::{Outcome, Reason, Status, Trace};
use headcount::verdict::{Verdict, VerdictKind};
use headcount::zoo;
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::process::Command;

/// Longer than any of these takes on a busy machine; nothing waits for it.
const BUDGET: Duration = Duration::from_secs(600);

/// Kills only the leader, and that some time after it was asked to: up to 100 ms, as chance has it.
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
        tokio::time::sleep(Duration::from_micros(chance() % 100_000)).await;
        // Its own end is what counts here.
        drop(child.kill().await);
        Outcome::because(Reason::Cancelled)
    }
}

/// Cuts a code to seven bits, in every third run, as chance has it: of two runs one is cut so seldom that ten cases in turn do not
/// look certain.
struct CutsCodes;

impl Subject for CutsCodes {
    fn promises(&self) -> Promises {
        Promises { tells_reason: true, status: true, ..Promises::default() }
    }

    async fn run(&self, job: Job) -> Outcome {
        let status = Command::new(job.program()).kill_on_drop(true).status().await;
        let status = status.ok().map(Status::from).map(|status| match status {
            Status::Exited(code) if chance().is_multiple_of(3) => Status::Exited(code & 0x7f),
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
        Trial::test("a_failure_that_an_audit_saved_fails_in_the_same_way::shrunk", || {
            round_trip("never-reaps")
        }),
        Trial::test("a_failure_that_an_audit_saved_fails_in_the_same_way::racy", || {
            round_trip("sometimes-leaks-a-pipe-end")
        }),
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
            "script": [{"sleep": "70ms"}, {"start": {"node": "n1", "script": [{"emit": "ready"}, "hang"]}}, "hang"],
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

/// What an audit finds in generated cases of an animal, shrinks and saves is found again by who replays the file, in the same way; of a
/// wrapper without the flaw nothing is.
fn round_trip(name: &str) -> Result<(), Failed> {
    let animal = zoo::find(name).ok_or("no such animal")?;
    let known = animal.rule.and_then(rules::find).ok_or("no such rule")?;
    let Judged::Trace { judge, .. } = known.judged else { return Err("not judged from traces".into()) };
    let Rule { id, title, level, sentence, measured, guard, weigh, .. } = *known;
    // Only generated cases are shrunk, so the audit is to have no others.
    let judged = Judged::Trace { judge, directed: Vec::new };
    let rule: &'static Rule =
        Box::leak(Box::new(Rule { id, title, level, sentence, measured, guard, weigh, judged }));
    let folder = tempfile::tempdir()?;
    let (subject, stop) = (zoo::spec(animal), AtomicBool::new(false));
    let mut crew = Crew::start(&CrewOptions { jobs: 32, ..CrewOptions::default() })?;
    let plan = Plan {
        subjects: vec![subject.clone()],
        rules: vec![rule],
        scenarios: Vec::new(),
        cases: Some(150),
        budget: Some(BUDGET),
        seed: 1,
        shrink: true,
        waived: Vec::new(),
    };
    let mut keeper = Keeper::new(Some(folder.path().to_owned()));
    let audit = audit::run(&plan, &mut crew, &mut keeper, &mut (), &stop);
    let [report] = &audit.subjects[0].rules[..] else { return Err("one rule was asked for".into()) };
    let told = format!("{report:?}, {:?}", audit.notes);
    let saved = report.saved.as_ref().ok_or_else(|| told.clone())?;
    let scenario = Scenario::read(&saved.scenario)?;
    let nodes = fake_cli::script::nodes(&scenario.script).len();
    if report.scenario.as_ref() != Some(&scenario.name) || nodes > 3 || scenario.ops.len() > 3 {
        return Err(format!("{told}\n{}", scenario.to_json()).into());
    }
    let trace: Trace = serde_json::from_str(&std::fs::read_to_string(&saved.trace)?)?;
    if !matches!(known.judge(&Facts::of(&trace)), Verdict::Broken(_)) {
        return Err(format!("{told}\nits trace shows nothing").into());
    }
    let files = replay::read(&[folder.path().to_owned()])?;
    // Of a wrapper without the flaw more than one case: that a busy machine kept one of them from the point says nothing.
    for (subject, expected, times) in
        [(subject, VerdictKind::Broken, None), (SubjectSpec::here("childminder"), VerdictKind::Kept, Some(5))]
    {
        let plan = replay::Plan { files: &files, subject: &subject, times, rules: &[known], others: None };
        let replayed = replay::run(&plan, &mut crew, &stop)?;
        let found = replayed.first().and_then(|replayed| replayed.verdicts.first());
        let is_so =
            replayed.len() == 1 && replayed[0].is_met() && found.is_some_and(|it| it.verdict == expected);
        if !is_so {
            return Err(format!("{told}\n{}: {replayed:?}\n{}", subject.name, scenario.to_json()).into());
        }
    }
    Ok(())
}
