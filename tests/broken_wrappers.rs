//! Rules that no wrapper at hand breaks are broken here by wrappers that have one flaw each, and kept by the same wrapper without it.
//!
//! It has a `main` of its own because it is the host of its subjects.

#[path = "broken_wrappers/feeder.rs"]
mod feeder;
#[path = "broken_wrappers/guest.rs"]
mod guest;
#[path = "broken_wrappers/several.rs"]
mod several;
#[path = "broken_wrappers/taker.rs"]
mod taker;

use std::process::{ExitCode, Stdio};
use std::time::Duration;

use headcount::crew::{Crew, CrewOptions, Source};
use headcount::promises::{Keeps, Leftovers, Promises, Reach};
use headcount::reentry::{self, Subjects};
use headcount::rules::facts::Facts;
use headcount::rules::{self, Rule};
use headcount::scenario::Scenario;
use headcount::subject::{Drive, Job, Subject, SubjectSpec};
use headcount::trace::{CaseEnd, Outcome, Reason, Trace};
use headcount::verdict::{Verdict, VerdictKind};
use libtest_mimic::{Arguments, Failed, Trial};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::process::{Child, Command};

/// What is wrong with a wrapper that asks its child's group by TERM, and kills it when the grace is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    /// When the child has ended it takes its group for ended too.
    TrustsTheLeader,
    /// If the logs that it opens once it has started the child cannot be opened, it forgets the child.
    ForgetsAfterTheFork,
    /// It reaps every child of its process.
    ReapsAnybody,
    /// It waits for an answer to TERM without a bound.
    WaitsForAnAnswer,
}

const ALL: [(&str, Flaw); 5] = [
    ("no-flaw", Flaw::None),
    ("trusts-the-leader", Flaw::TrustsTheLeader),
    ("forgets-after-the-fork", Flaw::ForgetsAfterTheFork),
    ("reaps-anybody", Flaw::ReapsAnybody),
    ("waits-for-an-answer", Flaw::WaitsForAnAnswer),
];

/// Which wrapper breaks which rule.
const BROKEN: &[(&str, &str)] = &[
    ("S6", "no-flaw"),
    ("S7", "no-flaw"),
    ("P3", "no-flaw"),
    ("P3", "tokio"),
    ("S7", "tokio"),
    ("S8", "trusts-the-leader"),
    ("S10", "forgets-after-the-fork"),
    ("Z3", "reaps-anybody"),
    ("D6", "waits-for-an-answer"),
    ("F5", "forgets-its-pipes"),
    ("F6", "closes-input-late"),
    ("F6", "hands-input-down"),
    ("O8", "feeds-first"),
    ("O8", "reads-output-first"),
    ("X3", "takes-obedience-for-an-end"),
    ("X3", "tokio"),
    ("X5", "answers-once"),
    ("X5", "fails-when-asked-again"),
    ("X5", "never-answers-again"),
    ("E1", "tokio"),
    ("E2", "tokio"),
    ("C1", "ends-all-children"),
    ("C3", "stops-one-at-a-time"),
    ("C4", "remembers-for-each-thread"),
    ("F4", "shares-its-pipes"),
    ("X4", "takes-a-stop-for-an-end"),
    ("X7", "keeps-the-pid"),
    ("K7", "loses-early-cancels"),
    ("P4", "tokio"),
    ("Z4", "insists-on-a-status"),
    ("T1", "leaks-a-thread"),
    ("X6", "starts-by-a-shell"),
    ("H1", "keeps-its-umask"),
    ("H1", "keeps-its-folder"),
    ("H1", "blocks-for-good"),
    ("H4", "leaves-a-file"),
    ("O4", "takes-a-block-twice"),
    ("O5", "swaps-blocks"),
    ("O6", "mixes-its-streams"),
    ("O7", "keeps-its-buffer"),
    ("O9", "takes-it-for-text"),
    ("O10", "insists-on-its-input"),
    ("D7", "takes-nothing-for-never"),
    ("D7", "adds-to-now"),
    ("Z2", "never-reaps"),
    ("T2", "leaves-a-task"),
    ("T3", "waits-busily"),
    ("T4", "keeps-all-output"),
    ("T4", "tokio"),
    ("E3", "forgets-its-group"),
    ("E4", "clears-the-environment"),
    ("E4", "keeps-its-umask"),
    ("H3", "snatches-the-terminal"),
    ("E6", "mannered"),
    ("H2", "tokio"),
];

/// Which wrapper keeps which rule, in each of its scenarios.
const KEPT: &[(&str, &str)] = &[
    ("S8", "no-flaw"),
    ("S10", "no-flaw"),
    ("Z3", "no-flaw"),
    ("D6", "no-flaw"),
    ("S10", "tokio"),
    ("Z3", "tokio"),
    ("S6", "childminder"),
    ("S7", "childminder"),
    ("S8", "childminder"),
    ("S10", "childminder"),
    ("Z3", "childminder"),
    ("D6", "childminder"),
    ("P3", "childminder"),
    ("F5", "childminder"),
    ("F6", "childminder"),
    ("O8", "childminder"),
    ("X3", "childminder"),
    ("X5", "childminder"),
    ("E1", "childminder"),
    ("E2", "childminder"),
    ("F5", "tokio"),
    ("F6", "tokio"),
    ("O8", "tokio"),
    ("C1", "several"),
    ("C3", "several"),
    ("C4", "several"),
    ("F4", "several"),
    ("X4", "several"),
    ("X7", "several"),
    ("K7", "several"),
    ("C1", "childminder"),
    ("C3", "childminder"),
    ("C4", "childminder"),
    ("F4", "childminder"),
    ("X4", "childminder"),
    ("X7", "childminder"),
    ("K7", "childminder"),
    ("P4", "childminder"),
    ("C1", "tokio"),
    ("C3", "tokio"),
    ("F4", "tokio"),
    ("X4", "tokio"),
    ("K7", "tokio"),
    ("Z4", "childminder"),
    ("T1", "childminder"),
    ("X6", "childminder"),
    ("H1", "childminder"),
    ("H4", "childminder"),
    ("Z4", "mannered"),
    ("T1", "mannered"),
    ("X6", "mannered"),
    ("H1", "mannered"),
    ("H4", "mannered"),
    ("Z4", "tokio"),
    ("T1", "tokio"),
    ("X6", "tokio"),
    ("H1", "tokio"),
    ("H4", "tokio"),
    ("O4", "taker"),
    ("O5", "taker"),
    ("O6", "taker"),
    ("O7", "taker"),
    ("O9", "taker"),
    ("O10", "taker"),
    ("D7", "taker"),
    ("Z2", "taker"),
    ("T2", "taker"),
    ("O4", "childminder"),
    ("O5", "childminder"),
    ("O6", "childminder"),
    ("O7", "childminder"),
    ("O9", "childminder"),
    ("O10", "childminder"),
    ("D7", "childminder"),
    ("Z2", "childminder"),
    ("T2", "childminder"),
    ("O4", "tokio"),
    ("O5", "tokio"),
    ("O6", "tokio"),
    ("O7", "tokio"),
    ("O9", "tokio"),
    ("O10", "tokio"),
    ("D7", "tokio"),
    ("Z2", "tokio"),
    ("T2", "tokio"),
    ("T3", "childminder"),
    ("T4", "childminder"),
    ("E3", "childminder"),
    ("E4", "childminder"),
    ("T3", "mannered"),
    ("T4", "mannered"),
    ("E3", "mannered"),
    ("E4", "mannered"),
    ("E3", "childminder:sealed"),
    ("T3", "tokio"),
    ("E4", "tokio"),
    ("E6", "childminder"),
    ("E6", "tokio"),
    ("H2", "childminder"),
    ("H3", "childminder"),
    ("H3", "tokio"),
];

/// How often a wrapper is tried: the machine's noise may leave it unknown whether it is broken, and what several callers do at once
/// may go well by luck.
const ATTEMPTS: u32 = 6;

fn main() -> ExitCode {
    reentry::reenter(|| {
        let all = ALL.into_iter().fold(headcount::subjects::in_rust(), |all: Subjects, (name, flaw)| {
            all.with(name, GroupKiller(flaw))
        });
        let all = taker::ALL.into_iter().fold(all, |all, (name, flaw)| all.with(name, taker::Taker(flaw)));
        let all =
            several::ALL.into_iter().fold(all, |all, (name, flaw)| all.with(name, several::Several(flaw)));
        let all = feeder::ALL.into_iter().fold(all, |all, (name, flaw)| all.with(name, feeder::Feeder(flaw)));
        guest::ALL.into_iter().fold(all, |all, (name, flaw)| all.with(name, guest::Guest(flaw)))
    });
    let broken = BROKEN.iter().map(|&(rule, subject)| {
        Trial::test(format!("{rule}_is_broken_by_{subject}"), move || is_broken(rule, subject))
    });
    let kept = KEPT.iter().map(|&(rule, subject)| {
        Trial::test(format!("{rule}_is_kept_by_{subject}"), move || is_kept(rule, subject))
    });
    let trials = broken.chain(kept).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

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
    let verdicts = verdicts(rule, subject)?;
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
    let spec =
        SubjectSpec { name: subject.to_owned(), drive: Drive::Reentry { subject: subject.to_owned() } };
    let mut source = Once { scenarios: rule.directed(), traces: Vec::new() };
    Crew::start(&CrewOptions::default())?.run(&spec, &mut source)?;
    let judged = |trace: &Trace| match &trace.end {
        CaseEnd::OurFault(why) => Err(format!("{}: {why}", trace.scenario.name).into()),
        _ => Ok((trace.scenario.name.clone(), rule.judge(&Facts::of(trace)))),
    };
    source.traces.iter().map(judged).collect()
}

/// A list of scenarios, each once.
struct Once {
    scenarios: Vec<Scenario>,
    traces: Vec<Trace>,
}

impl Source for Once {
    fn next(&mut self) -> Option<Scenario> {
        self.scenarios.pop()
    }

    fn take(&mut self, trace: Trace) -> bool {
        self.traces.push(trace);
        true
    }
}

/// A wrapper that starts its child in a group of its own and ends that group, but for its flaw.
struct GroupKiller(Flaw);

impl Subject for GroupKiller {
    fn promises(&self) -> Promises {
        Promises {
            timeout: Keeps::AsAsked,
            grace: Keeps::AsAsked,
            reach: Reach::Group,
            leftovers: Leftovers::Clean,
            tells_reason: true,
            ..Promises::default()
        }
    }

    async fn run(&self, mut job: Job) -> Outcome {
        let command = Command::new(job.program())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut child = match command {
            Ok(child) => child,
            Err(error) => return Outcome::because(Reason::StartFailed(error.to_string())),
        };
        // More than the start itself had open at once.
        let logs: std::io::Result<Vec<_>> = (0..6).map(|_| std::fs::File::open("/dev/null")).collect();
        if let (Flaw::ForgetsAfterTheFork, Err(error)) = (self.0, logs) {
            return Outcome::because(Reason::StartFailed(error.to_string()));
        }
        let group = Group(child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())));
        let limit = job.timeout().unwrap_or(Duration::MAX);
        let grace = job.grace().unwrap_or_default();
        let reason = tokio::select! {
            ended = tokio::time::timeout(limit, child.wait()) => match ended {
                Ok(_) => Reason::Itself,
                Err(_) => Reason::TimedOut,
            },
            () = job.next_cancel() => Reason::Cancelled,
        };
        if reason != Reason::Itself {
            group.signal(Signal::TERM);
            self.await_answer(&mut child, grace).await;
        }
        if self.0 == Flaw::TrustsTheLeader {
            std::mem::forget(group);
        } else {
            drop(group);
        }
        // It is dead, or about to be.
        drop(child.wait().await);
        if self.0 == Flaw::ReapsAnybody {
            while let Ok(Some(_)) = waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {}
        }
        Outcome::because(reason)
    }
}

impl GroupKiller {
    /// Until the child is dead or the grace is over.
    async fn await_answer(&self, child: &mut Child, grace: Duration) {
        if self.0 == Flaw::WaitsForAnAnswer {
            drop(child.wait().await);
        } else {
            drop(tokio::time::timeout(grace, child.wait()).await);
        }
    }
}

/// A group that is killed when this is dropped.
struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        // Nobody may be left in it.
        self.0.map(|group| kill_process_group(group, signal));
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}
