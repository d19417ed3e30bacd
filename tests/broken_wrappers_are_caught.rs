//! Wrappers that are broken on purpose, each in one way, and the rule that must find it by its directed scenarios alone.
//!
//! A rule that nothing breaks proves nothing when it is kept. It has a `main` of its own because it is the host of its
//! subjects.

use std::collections::BTreeSet;
use std::io;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use headcount::crew::{Crew, CrewOptions, Source};
use headcount::promises::Promises;
use headcount::reentry;
use headcount::rules::facts::Facts;
use headcount::rules::{self, Rule};
use headcount::scenario::Scenario;
use headcount::subject::{Drive, Job, Subject, SubjectSpec};
use headcount::subjects;
use headcount::trace::{Captured, CaseEnd, Outcome, Reason, Trace};
use headcount::verdict::VerdictKind;
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, Command};

/// What is wrong with a wrapper.
#[derive(Clone, Copy, Debug)]
enum Defect {
    /// A pipe that is made before the start stays open when the start fails.
    ForgetsItsPipes,
    /// The writing end of the input is closed when the child has ended, for which the child waits.
    ClosesInputLate,
    /// The writing end of the input is handed down to every child that is started later.
    HandsInputDown,
    /// The output is read when the whole input has been written.
    FeedsFirst,
    /// The errors are read when the output has ended.
    ReadsOutputFirst,
    /// A child that obeys the timeout's signal counts as ended by itself.
    TakesObedienceForAnEnd,
    /// Whoever asks again is told that there is no status.
    AnswersOnce,
    /// Whoever asks again brings the host's task down.
    FailsWhenAskedAgain,
    /// Whoever asks again waits for ever.
    NeverAnswersAgain,
}

/// Each by its name, with the rule that finds it. The last ones are not broken on purpose.
const CAUGHT: [(&str, &str, Option<Defect>); 12] = [
    ("forgets-its-pipes", "F5", Some(Defect::ForgetsItsPipes)),
    ("closes-input-late", "F6", Some(Defect::ClosesInputLate)),
    ("hands-input-down", "F6", Some(Defect::HandsInputDown)),
    ("feeds-first", "O8", Some(Defect::FeedsFirst)),
    ("reads-output-first", "O8", Some(Defect::ReadsOutputFirst)),
    ("takes-obedience-for-an-end", "X3", Some(Defect::TakesObedienceForAnEnd)),
    ("answers-once", "X5", Some(Defect::AnswersOnce)),
    ("fails-when-asked-again", "X5", Some(Defect::FailsWhenAskedAgain)),
    ("never-answers-again", "X5", Some(Defect::NeverAnswersAgain)),
    ("tokio", "X3", None),
    ("tokio", "E1", None),
    ("tokio", "E2", None),
];

/// How often a wrapper is tried again of which the machine's noise left it unknown whether it is broken.
const ATTEMPTS: u32 = 3;

struct Broken(Defect);

impl Subject for Broken {
    fn promises(&self) -> Promises {
        "timeout,tells-reason,captures,status,feeds,answers-again".parse().expect("known words")
    }

    async fn run(&self, mut job: Job) -> Outcome {
        let limit = job.timeout().unwrap_or(Duration::MAX);
        let defect = self.0;
        let pipe =
            matches!(defect, Defect::ForgetsItsPipes).then(|| io::pipe().expect("descriptors are left"));
        let mut child = match start(&job) {
            Ok(child) => child,
            Err(error) => {
                std::mem::forget(pipe);
                return Outcome::because(Reason::StartFailed(error.to_string()));
            }
        };
        let input = job.input().unwrap_or_default();
        let stdin = child.stdin.take();
        let ended = tokio::select! {
            ended = tokio::time::timeout(limit, to_its_end(&mut child, defect, stdin, input)) => ended,
            () = job.next_cancel() => return Outcome::because(Reason::Cancelled),
        };
        match ended {
            Ok(Ok(outcome)) => {
                let again = outcome.clone();
                job.answer_again(move || answer_again(defect, again.clone()));
                outcome
            }
            Ok(Err(error)) => Outcome::because(Reason::Error(error.to_string())),
            Err(_) if matches!(defect, Defect::TakesObedienceForAnEnd) => obeyed(&mut child).await,
            Err(_) => Outcome::because(Reason::TimedOut),
        }
    }
}

fn start(job: &Job) -> io::Result<Child> {
    let stdin = if job.input().is_some() { Stdio::piped() } else { Stdio::null() };
    let mut command = Command::new(job.program());
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn()
}

async fn to_its_end(
    child: &mut Child,
    defect: Defect,
    stdin: Option<ChildStdin>,
    input: Vec<u8>,
) -> io::Result<Outcome> {
    if matches!(defect, Defect::HandsInputDown)
        && let Some(stdin) = &stdin
    {
        rustix::io::fcntl_setfd(stdin, rustix::io::FdFlags::empty())?;
    }
    let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let feed = feed(stdin, input);
    let status = match defect {
        Defect::ClosesInputLate => {
            let (fed, ..) =
                tokio::join!(feed, read(&mut stdout, &mut output), read(&mut stderr, &mut errors));
            let status = child.wait().await?;
            drop(fed);
            status
        }
        Defect::FeedsFirst => {
            drop(feed.await);
            tokio::join!(read(&mut stdout, &mut output), read(&mut stderr, &mut errors));
            child.wait().await?
        }
        Defect::ReadsOutputFirst => {
            let one_by_one = async {
                read(&mut stdout, &mut output).await;
                read(&mut stderr, &mut errors).await;
            };
            tokio::join!(async { drop(feed.await) }, one_by_one);
            child.wait().await?
        }
        _ => {
            let fed = async { drop(feed.await) };
            tokio::join!(fed, read(&mut stdout, &mut output), read(&mut stderr, &mut errors));
            child.wait().await?
        }
    };
    Ok(Outcome {
        reason: Reason::Itself,
        status: Some(status.into()),
        stdout: Some(Captured::of(&output, None)),
        stderr: Some(Captured::of(&errors, None)),
    })
}

/// Writes the input and gives the pipe back, for the caller to close. A child that wants no more is no error.
async fn feed(mut stdin: Option<ChildStdin>, input: Vec<u8>) -> Option<ChildStdin> {
    if let Some(stdin) = &mut stdin {
        drop(stdin.write_all(&input).await);
    }
    stdin
}

async fn read(from: &mut Option<impl tokio::io::AsyncRead + Unpin>, to: &mut Vec<u8>) {
    if let Some(from) = from {
        drop(from.read_to_end(to).await);
    }
}

/// Asks the child to end, and reports what came of it as if it had been the child's own will.
async fn obeyed(child: &mut Child) -> Outcome {
    let pid = child.id().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()));
    if let Some(pid) = pid {
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it is not reaped yet");
    }
    let status = child.wait().await.ok().map(Into::into);
    Outcome { status, ..Outcome::because(Reason::Itself) }
}

async fn answer_again(defect: Defect, outcome: Outcome) -> Outcome {
    match defect {
        Defect::AnswersOnce => Outcome { status: None, ..outcome },
        Defect::FailsWhenAskedAgain => panic!("polled again after its end"),
        Defect::NeverAnswersAgain => std::future::pending().await,
        _ => outcome,
    }
}

fn main() -> ExitCode {
    reentry::reenter(|| {
        CAUGHT.into_iter().fold(subjects::in_rust(), |all, (name, _, defect)| match defect {
            Some(defect) => all.with(name, Broken(defect)),
            None => all,
        })
    });
    let caught = CAUGHT.into_iter().map(|(name, rule, _)| {
        Trial::test(format!("{name}_is_caught_by_{rule}"), move || caught(name, rule))
    });
    let rules: BTreeSet<&'static str> = CAUGHT.into_iter().map(|(_, rule, _)| rule).collect();
    let not_caught = rules
        .into_iter()
        .map(|rule| Trial::test(format!("childminder_is_not_caught_by_{rule}"), move || not_caught(rule)));
    libtest_mimic::run(&Arguments::from_args(), caught.chain(not_caught).collect()).exit_code()
}

fn caught(subject: &str, rule: &str) -> Result<(), Failed> {
    let mut told = Vec::new();
    for _ in 0..ATTEMPTS {
        told = verdicts(subject, rule)?;
        let has = |wanted| told.iter().any(|(kind, _)| *kind == wanted);
        if has(VerdictKind::Broken) {
            return Ok(());
        }
        if !has(VerdictKind::Unknown) {
            break;
        }
    }
    Err(complaint(&format!("{rule} does not find it"), &told))
}

/// What finds everybody finds nothing.
fn not_caught(rule: &str) -> Result<(), Failed> {
    let told = verdicts("childminder", rule)?;
    let has = |wanted| told.iter().any(|(kind, _)| *kind == wanted);
    if has(VerdictKind::Broken) || !has(VerdictKind::Kept) {
        return Err(complaint(&format!("{rule} is not kept"), &told));
    }
    Ok(())
}

fn complaint(what: &str, told: &[(VerdictKind, String)]) -> Failed {
    let lines: Vec<&str> = told.iter().map(|(_, line)| line.as_str()).collect();
    format!("{what}:\n  {}", lines.join("\n  ")).into()
}

/// The verdicts of a rule on its own directed scenarios.
fn verdicts(subject: &str, rule: &str) -> Result<Vec<(VerdictKind, String)>, Failed> {
    let rule = rules::find(rule).ok_or("no such rule")?;
    let drive = Drive::Reentry { subject: subject.to_owned() };
    let subject = SubjectSpec { name: subject.to_owned(), drive };
    let mut source = List { scenarios: rule.directed(), traces: Vec::new() };
    Crew::start(&CrewOptions { jobs: 4, ..CrewOptions::default() })?.run(&subject, &mut source)?;
    source.traces.iter().map(|trace| judged(rule, trace)).collect()
}

fn judged(rule: &Rule, trace: &Trace) -> Result<(VerdictKind, String), Failed> {
    if let CaseEnd::OurFault(why) = &trace.end {
        return Err(format!("{}: {why}", trace.scenario.name).into());
    }
    let verdict = rule.judge(&Facts::of(trace));
    let detail = verdict.detail().unwrap_or_default();
    Ok((verdict.kind(), format!("{}: {}: {detail}", trace.scenario.name, verdict.kind().name())))
}

struct List {
    scenarios: Vec<Scenario>,
    traces: Vec<Trace>,
}

impl Source for List {
    fn next(&mut self) -> Option<Scenario> {
        self.scenarios.pop()
    }

    fn take(&mut self, trace: Trace) -> bool {
        self.traces.push(trace);
        true
    }
}
