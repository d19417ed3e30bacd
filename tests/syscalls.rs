//! What is seen and held of a wrapper's own system calls, and the rules that need it, on real processes.
//!
//! It has a `main` of its own because it is the host of its subjects, each of which has one flaw.

use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use headcount::crew::{Crew, CrewOptions};
use headcount::promises::Promises;
use headcount::reentry;
use headcount::rules::facts::Facts;
use headcount::rules::{self, Rule};
use headcount::scan;
use headcount::scenario::Scenario;
use headcount::subject::{Drive, Job, Subject, SubjectSpec};
use headcount::syscalls::CallKind;
use headcount::trace::{Caller, CaseEnd, Outcome, Reason, Tier, Trace, What};
use headcount::verdict::{Verdict, VerdictKind};
use libtest_mimic::{Arguments, Failed, Trial};
use rustix::process::{Pid, Signal, kill_current_process_group, kill_process};

/// What is wrong with a wrapper that kills its child and reaps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    /// It kills once more, by number, when it has reaped.
    KillsTheReaped,
    /// It signals its own group too.
    SignalsItsGroup,
    /// It lists the child's group and kills those that it saw, one by one.
    ListsFirst,
    /// A cancel before the start has returned is answered without waiting for the start.
    AbandonsAStart,
    /// None; it says how many filters its process has.
    CountsFilters,
}

const ALL: [(&str, Flaw); 5] = [
    ("kills-the-reaped", Flaw::KillsTheReaped),
    ("signals-its-group", Flaw::SignalsItsGroup),
    ("lists-first", Flaw::ListsFirst),
    ("abandons-a-start", Flaw::AbandonsAStart),
    ("counts-filters", Flaw::CountsFilters),
];

/// Which wrapper breaks which rule.
const BROKEN: [(&str, &str); 11] = [
    ("K1", "kills-the-reaped"),
    ("K2", "kills-the-reaped"),
    ("K1", "signals-its-group"),
    ("K4", "signals-its-group"),
    ("S8", "lists-first"),
    ("K6", "abandons-a-start"),
    ("K7", "abandons-a-start"),
    ("P5", "tokio"),
    ("E5", "tokio"),
    ("P5", "timeout"),
    ("E5", "timeout"),
];

/// Which wrapper keeps which rule, in each of its scenarios.
const KEPT: [(&str, &str); 19] = [
    ("K1", "childminder"),
    ("K2", "childminder"),
    ("K4", "childminder"),
    ("K6", "childminder"),
    ("K7", "childminder"),
    ("P5", "childminder"),
    ("E5", "childminder"),
    ("S8", "childminder"),
    ("K1", "tokio"),
    ("K2", "tokio"),
    ("K4", "tokio"),
    ("K6", "tokio"),
    ("K7", "tokio"),
    // It signals its own group, which it has made for itself and its child.
    ("K1", "timeout"),
    ("K4", "timeout"),
    ("K6", "timeout"),
    ("K7", "timeout"),
    ("K2", "signals-its-group"),
    ("K4", "kills-the-reaped"),
];

/// How often a wrapper is tried of which the machine's noise leaves it unknown what it does.
const ATTEMPTS: u32 = 3;

fn main() -> ExitCode {
    reentry::reenter(|| {
        ALL.into_iter().fold(headcount::subjects::in_rust(), |all, (name, flaw)| all.with(name, Killer(flaw)))
    });
    let broken = BROKEN.map(|(rule, subject)| {
        Trial::test(format!("{rule}_is_broken_by_{subject}"), move || is_broken(rule, subject))
    });
    let kept = KEPT.map(|(rule, subject)| {
        Trial::test(format!("{rule}_is_kept_by_{subject}"), move || is_kept(rule, subject))
    });
    type Test = fn() -> Result<(), Failed>;
    let tests: [(&str, Test); 7] = [
        ("a_case_that_asks_for_no_call_has_no_filter", no_filter_unless_asked),
        ("a_held_exec_comes_before_the_childs_first_word", an_exec_is_held),
        ("what_a_command_does_before_it_is_itself_is_not_counted", a_command_is_counted_from_its_exec),
        ("a_call_that_is_held_in_vain_is_let_go_and_the_case_ends_in_time", held_in_vain),
        ("the_ledger_works_on_every_tier_that_this_machine_has", every_tier),
        ("a_pid_is_given_away_only_in_a_pid_namespace", only_in_a_namespace),
        ("a_stranger_is_not_taken_for_who_had_its_pid", a_stranger_is_told_apart),
    ];
    let others = tests.into_iter().map(|(name, test)| Trial::test(name, test));
    let trials = broken.into_iter().chain(kept).chain(others).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// A wrapper that kills its child when it is told to, and reaps it, but for its flaw.
struct Killer(Flaw);

impl Subject for Killer {
    fn promises(&self) -> Promises {
        "timeout,grace,group,leave,tells-reason".parse().expect("known words")
    }

    async fn run(&self, mut job: Job) -> Outcome {
        let flaw = self.0;
        if flaw == Flaw::CountsFilters {
            return Outcome::because(Reason::Error(filters()));
        }
        let program = job.program().to_owned();
        let starting = tokio::task::spawn_blocking(move || {
            use std::os::unix::process::CommandExt as _;
            let null = Stdio::null;
            Command::new(program).process_group(0).stdin(null()).stdout(null()).stderr(null()).spawn()
        });
        let mut starting = std::pin::pin!(starting);
        let mut cancelled = false;
        let started = tokio::select! {
            started = &mut starting => started,
            () = job.next_cancel() => {
                cancelled = true;
                if flaw == Flaw::AbandonsAStart {
                    return Outcome::because(Reason::Cancelled);
                }
                starting.await
            }
        };
        let mut child = match started.expect("starting does not panic") {
            Ok(child) => child,
            Err(error) => return Outcome::because(Reason::StartFailed(error.to_string())),
        };
        let pid = Pid::from_child(&child);
        let limit = Instant::now() + job.timeout().unwrap_or(Duration::from_secs(20));
        let mut reason = Reason::Itself;
        while child.try_wait().expect("it is its child").is_none() {
            cancelled |= tokio::time::timeout(Duration::from_millis(2), job.next_cancel()).await.is_ok();
            if cancelled || Instant::now() >= limit {
                reason = if cancelled { Reason::Cancelled } else { Reason::TimedOut };
                kill(flaw, pid);
                child.wait().expect("it is its child");
                break;
            }
        }
        if flaw == Flaw::KillsTheReaped {
            // Nobody has that number any more, or somebody.
            let _ = kill_process(pid, Signal::KILL);
        }
        Outcome::because(reason)
    }
}

fn kill(flaw: Flaw, pid: Pid) {
    let sent = match flaw {
        Flaw::ListsFirst => {
            let everyone = scan::everyone().expect("it may read /proc");
            let group = everyone.iter().filter(|stat| stat.pgid == pid.as_raw_nonzero().get());
            group
                .filter_map(|stat| Pid::from_raw(stat.pid))
                .try_for_each(|member| kill_process(member, Signal::KILL))
        }
        _ => rustix::process::kill_process_group(pid, Signal::KILL),
    };
    sent.expect("its child is there");
    if flaw == Flaw::SignalsItsGroup {
        // One that hurts nobody.
        kill_current_process_group(Signal::WINCH).expect("it is in it");
    }
}

/// How many filters are installed in this process, as the kernel says it.
fn filters() -> String {
    let status = std::fs::read_to_string("/proc/self/status").expect("it may read of itself");
    let line = status.lines().find(|line| line.starts_with("Seccomp_filters"));
    line.unwrap_or("Seccomp_filters: 0").to_owned()
}

// ---- The rules ----

fn is_broken(rule: &str, subject: &str) -> Result<(), Failed> {
    let mut told = Vec::new();
    for _ in 0..ATTEMPTS {
        told = verdicts(rule, subject)?;
        if told.iter().any(|(_, verdict)| verdict.kind() == VerdictKind::Broken) {
            return Ok(());
        }
    }
    Err(format!("{told:#?}").into())
}

fn is_kept(rule: &str, subject: &str) -> Result<(), Failed> {
    let mut verdicts = verdicts(rule, subject)?;
    for _ in 1..ATTEMPTS {
        if verdicts.iter().any(|(_, verdict)| verdict.kind() == VerdictKind::Kept) {
            break;
        }
        verdicts.extend(self::verdicts(rule, subject)?);
    }
    let is = |kind| move |(_, verdict): &&(String, Verdict)| verdict.kind() == kind;
    let accused = verdicts.iter().find(is(VerdictKind::Broken));
    match (accused, verdicts.iter().any(|verdict| is(VerdictKind::Kept)(&verdict))) {
        (None, true) => Ok(()),
        _ => Err(format!("{verdicts:#?}").into()),
    }
}

/// The verdicts of a rule on its own scenarios, each once.
fn verdicts(rule: &str, subject: &str) -> Result<Vec<(String, Verdict)>, Failed> {
    let rule: &Rule = rules::find(rule).ok_or("no such rule")?;
    let traces = traces(subject, rule.directed(), None)?;
    let judged = |trace: &Trace| match &trace.end {
        CaseEnd::OurFault(why) => Err(format!("{}: {why}", trace.scenario.name).into()),
        _ => Ok((trace.scenario.name.clone(), rule.judge(&Facts::of(trace)))),
    };
    traces.iter().map(judged).collect()
}

// ---- What is seen and held ----

fn no_filter_unless_asked() -> Result<(), Failed> {
    let said = |more: &str| -> Result<String, Failed> {
        let trace =
            trace("counts-filters", &format!(r#"{more} "ops": [{{"do": "run"}}, {{"do": "wait"}}]"#))?;
        trace
            .moments
            .iter()
            .find_map(|moment| match &moment.what {
                What::Ended { outcome: Outcome { reason: Reason::Error(said), .. }, .. } => {
                    Some(said.clone())
                }
                _ => None,
            })
            .ok_or_else(|| "it did not say".into())
    };
    let number = |said: String| said.split_whitespace().next_back().and_then(|word| word.parse::<u32>().ok());
    let (own, plain, ledger) = (number(filters()), number(said("")?), number(said(r#""ledger": true,"#)?));
    assert_eq!(plain, own);
    assert_eq!(ledger, own.map(|own| own + 1));
    Ok(())
}

fn an_exec_is_held() -> Result<(), Failed> {
    let hold = || {
        trace(
            "tokio",
            r#""holds": [{"call": "exec-child", "nth": 1, "until": "op.1.done"}],
           "ops": [{"do": "run"}, {"do": "cancel", "after": "call.exec-child.1"}, {"do": "wait"}]"#,
        )
    };
    let mut trace = hold()?;
    // The machine may stall for as long as a call is held at most.
    for _ in 1..ATTEMPTS {
        if !trace.moments.iter().any(|moment| matches!(moment.what, What::LetGo { in_vain: true, .. })) {
            break;
        }
        trace = hold()?;
    }
    let at = |wanted: fn(&What) -> bool| trace.moments.iter().position(|moment| wanted(&moment.what));
    let held = at(|what| matches!(what, What::Held { call: CallKind::ExecChild, nth: 1 }));
    let done = at(|what| matches!(what, What::Done { op: 1 }));
    let let_go = at(|what| matches!(what, What::LetGo { call: CallKind::ExecChild, in_vain: false, .. }));
    assert!(held.is_some() && held < done && done < let_go, "{held:?} {done:?} {let_go:?}");
    let hello = at(|what| matches!(what, What::Node { node, .. } if node == "root"));
    assert!(hello.is_none_or(|hello| Some(hello) > let_go), "{hello:?} {let_go:?}");
    Ok(())
}

/// A command that becomes the same command again closes no more before that than after it: nothing of whoever became the first.
fn a_command_is_counted_from_its_exec() -> Result<(), Failed> {
    let spec = SubjectSpec {
        name: "env".to_owned(),
        drive: Drive::Template {
            words: ["env", "env", "{fake}"].map(str::to_owned).to_vec(),
            promises: Promises::default(),
            version: String::new(),
            fake_as: None,
        },
    };
    let scenario = scenario(
        r#""holds": [{"call": "close", "nth": 1, "until": "call.close.1"}],
           "ops": [{"do": "run"}, {"do": "cancel", "after": "root.ready"}, {"do": "wait"}]"#,
    )?;
    let trace = Crew::start(&CrewOptions { jobs: 1, tier: None })?.run_each(&spec, vec![scenario])?.pop();
    let trace = trace.ok_or("no case ran")?;
    let calls: Vec<CallKind> = trace
        .moments
        .iter()
        .filter_map(|moment| match &moment.what {
            What::SystemCall(made) if made.by == Caller::Host => Some(made.call),
            _ => None,
        })
        .collect();
    let mut parts = calls.split(|call| *call == CallKind::Exec).filter(|part| !part.is_empty());
    let mut closes = || Some(parts.next()?.iter().filter(|call| **call == CallKind::Close).count());
    let (first, second) = (closes().ok_or("nothing was closed")?, closes().ok_or("it was executed once")?);
    assert!(0 < first && first <= second, "{calls:?}");
    Ok(())
}

fn held_in_vain() -> Result<(), Failed> {
    let began = Instant::now();
    let trace = trace(
        "childminder",
        r#""holds": [{"call": "kill", "nth": 1, "until": "run.ended"}],
           "ops": [{"do": "run"}, {"do": "cancel", "after": "root.ready"}, {"do": "wait"}]"#,
    )?;
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(trace.end, CaseEnd::Completed);
    let in_vain = |what: &What| matches!(what, What::LetGo { call: CallKind::Kill, nth: 1, in_vain: true });
    assert!(trace.moments.iter().any(|moment| in_vain(&moment.what)), "{:#?}", trace.moments);
    let facts = Facts::of(&trace);
    assert!(facts.runs()[0].ended.is_some_and(|(_, outcome)| outcome.reason == Reason::Cancelled));
    let accused =
        rules::judge(&trace).into_iter().filter(|judged| judged.verdict.kind() == VerdictKind::Broken);
    assert_eq!(accused.collect::<Vec<_>>(), []);
    Ok(())
}

fn every_tier() -> Result<(), Failed> {
    for probe in headcount::crew::probe_tiers().into_iter().filter(|probe| probe.lacks.is_none()) {
        let rule: &Rule = rules::find("K1").ok_or("no such rule")?;
        let verdicts = |subject| -> Result<Vec<Verdict>, Failed> {
            let traces = traces(subject, rule.directed(), Some(probe.tier))?;
            Ok(traces.iter().map(|trace| rule.judge(&Facts::of(trace))).collect())
        };
        let clean = verdicts("childminder")?;
        let is = |kind| move |verdict: &Verdict| verdict.kind() == kind;
        assert!(clean.iter().any(is(VerdictKind::Kept)), "{:?}: {clean:?}", probe.tier);
        assert!(!clean.iter().any(is(VerdictKind::Broken)), "{:?}: {clean:?}", probe.tier);
        let flawed = verdicts("kills-the-reaped")?;
        assert!(flawed.iter().any(is(VerdictKind::Broken)), "{:?}: {flawed:?}", probe.tier);
    }
    Ok(())
}

fn only_in_a_namespace() -> Result<(), Failed> {
    let rule: &Rule = rules::find("K2").ok_or("no such rule")?;
    for trace in traces("tokio", rule.directed(), Some(Tier::T1))? {
        let verdict = rule.judge(&Facts::of(&trace));
        assert!(matches!(&verdict, Verdict::NotRun(why) if why.contains("pid namespace")), "{verdict:?}");
    }
    Ok(())
}

/// However soon after the start of the child it has the child's pid: in the same tick of the kernel's clock they were one.
fn a_stranger_is_told_apart() -> Result<(), Failed> {
    let rule: &Rule = rules::find("K2").ok_or("no such rule")?;
    let held = |scenario: &Scenario| scenario.name == "kill-held-until-the-pid-is-given-away";
    let scenario = rule.directed().into_iter().find(held).ok_or("no such scenario")?;
    let in_vain = |what: &What| matches!(what, What::LetGo { in_vain: true, .. });
    let mut hits = 0;
    for trace in traces("kills-the-reaped", vec![scenario; 16], None)? {
        match rule.judge(&Facts::of(&trace)) {
            Verdict::Broken(_) => hits += 1,
            // The machine was too slow for it.
            Verdict::Vacuous(_) => {}
            _ if trace.moments.iter().any(|moment| in_vain(&moment.what)) => {}
            verdict => return Err(format!("{verdict:?}: {:#?}", trace.moments).into()),
        }
    }
    assert!(hits > 0);
    Ok(())
}

fn trace(subject: &str, rest: &str) -> Result<Trace, Failed> {
    traces(subject, vec![scenario(rest)?], None)?.pop().ok_or_else(|| "no case ran".into())
}

fn scenario(rest: &str) -> Result<Scenario, Failed> {
    let text = format!(
        r#"{{"schema": 1, "name": "calls", "why": "A test.", "script": [{{"emit": "ready"}}, "hang"],
            "limits": {{"grace": "50ms"}}, {rest}}}"#
    );
    Ok(Scenario::from_json(&text)?)
}

fn traces(subject: &str, scenarios: Vec<Scenario>, tier: Option<Tier>) -> Result<Vec<Trace>, Failed> {
    let spec = match ALL.iter().any(|(name, _)| *name == subject) {
        true => SubjectSpec::here(subject),
        false => headcount::subjects::builtin(subject)?,
    };
    Ok(Crew::start(&CrewOptions { jobs: 4, tier })?.run_each(&spec, scenarios)?)
}
