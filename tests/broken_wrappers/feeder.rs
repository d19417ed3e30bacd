//! A wrapper that feeds its child, takes its output and can be asked again, with one flaw in that.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use headcount::promises::Promises;
use headcount::subject::{Job, Subject};
use headcount::trace::{Captured, Outcome, Reason};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, Command};

/// What is wrong with the wrapper.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Flaw {
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

/// Each by its name.
pub(crate) const ALL: [(&str, Flaw); 9] = [
    ("forgets-its-pipes", Flaw::ForgetsItsPipes),
    ("closes-input-late", Flaw::ClosesInputLate),
    ("hands-input-down", Flaw::HandsInputDown),
    ("feeds-first", Flaw::FeedsFirst),
    ("reads-output-first", Flaw::ReadsOutputFirst),
    ("takes-obedience-for-an-end", Flaw::TakesObedienceForAnEnd),
    ("answers-once", Flaw::AnswersOnce),
    ("fails-when-asked-again", Flaw::FailsWhenAskedAgain),
    ("never-answers-again", Flaw::NeverAnswersAgain),
];

/// The wrapper.
pub(crate) struct Feeder(pub(crate) Flaw);

impl Subject for Feeder {
    fn promises(&self) -> Promises {
        "timeout,tells-reason,captures,status,feeds,answers-again".parse().expect("known words")
    }

    async fn run(&self, mut job: Job) -> Outcome {
        let limit = job.timeout().unwrap_or(Duration::MAX);
        let flaw = self.0;
        let pipe = matches!(flaw, Flaw::ForgetsItsPipes).then(|| io::pipe().expect("descriptors are left"));
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
            ended = tokio::time::timeout(limit, to_its_end(&mut child, flaw, stdin, input)) => ended,
            () = job.next_cancel() => return Outcome::because(Reason::Cancelled),
        };
        match ended {
            Ok(Ok(outcome)) => {
                let again = outcome.clone();
                job.answer_again(move || answer_again(flaw, again.clone()));
                outcome
            }
            Ok(Err(error)) => Outcome::because(Reason::Error(error.to_string())),
            Err(_) if matches!(flaw, Flaw::TakesObedienceForAnEnd) => obeyed(&mut child).await,
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
    flaw: Flaw,
    stdin: Option<ChildStdin>,
    input: Vec<u8>,
) -> io::Result<Outcome> {
    if matches!(flaw, Flaw::HandsInputDown)
        && let Some(stdin) = &stdin
    {
        rustix::io::fcntl_setfd(stdin, rustix::io::FdFlags::empty())?;
    }
    let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let feed = feed(stdin, input);
    let status = match flaw {
        Flaw::ClosesInputLate => {
            let (fed, ..) =
                tokio::join!(feed, read(&mut stdout, &mut output), read(&mut stderr, &mut errors));
            let status = child.wait().await?;
            drop(fed);
            status
        }
        Flaw::FeedsFirst => {
            drop(feed.await);
            tokio::join!(read(&mut stdout, &mut output), read(&mut stderr, &mut errors));
            child.wait().await?
        }
        Flaw::ReadsOutputFirst => {
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

async fn answer_again(flaw: Flaw, outcome: Outcome) -> Outcome {
    match flaw {
        Flaw::AnswersOnce => Outcome { status: None, ..outcome },
        Flaw::FailsWhenAskedAgain => panic!("polled again after its end"),
        Flaw::NeverAnswersAgain => std::future::pending().await,
        _ => outcome,
    }
}
