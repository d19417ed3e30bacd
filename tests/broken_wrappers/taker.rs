//! A wrapper that takes its child's output and feeds it, with one flaw in what it does with the bytes or in what it keeps from run to run.

use std::future::pending;
use std::io;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use headcount::promises::Promises;
use headcount::subject::{Job, Subject};
use headcount::trace::{Captured, Outcome, Reason, Status};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, Command};

/// What is wrong with the wrapper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    /// The beginning of the output is taken twice.
    TakesABlockTwice,
    /// Two blocks are put down in the wrong order.
    SwapsBlocks,
    /// The beginning of the output is among the errors too.
    MixesItsStreams,
    /// The output is put behind that of the run before.
    KeepsItsBuffer,
    /// The output is taken for text.
    TakesItForText,
    /// A child that wants no more input has failed.
    InsistsOnItsInput,
    /// A timeout of nothing is none.
    TakesNothingForNever,
    /// The end of the timeout is the present time and the timeout.
    AddsToNow,
    /// A child that has ended is left as it is.
    NeverReaps,
    /// A task for each run waits for ever.
    LeavesATask,
}

/// Each by its name.
pub(crate) const ALL: [(&str, Flaw); 11] = [
    ("taker", Flaw::None),
    ("takes-a-block-twice", Flaw::TakesABlockTwice),
    ("swaps-blocks", Flaw::SwapsBlocks),
    ("mixes-its-streams", Flaw::MixesItsStreams),
    ("keeps-its-buffer", Flaw::KeepsItsBuffer),
    ("takes-it-for-text", Flaw::TakesItForText),
    ("insists-on-its-input", Flaw::InsistsOnItsInput),
    ("takes-nothing-for-never", Flaw::TakesNothingForNever),
    ("adds-to-now", Flaw::AddsToNow),
    ("never-reaps", Flaw::NeverReaps),
    ("leaves-a-task", Flaw::LeavesATask),
];

/// The wrapper.
pub(crate) struct Taker(pub(crate) Flaw);

impl Subject for Taker {
    fn promises(&self) -> Promises {
        "timeout,tells-reason,captures,status,feeds".parse().expect("known words")
    }

    async fn run(&self, mut job: Job) -> Outcome {
        let flaw = self.0;
        if flaw == Flaw::LeavesATask {
            tokio::spawn(pending::<()>());
        }
        let limit = limit(flaw, job.timeout());
        let stdin = if job.input().is_some() { Stdio::piped() } else { Stdio::null() };
        let mut command = Command::new(job.program());
        command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(flaw != Flaw::NeverReaps);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return Outcome::because(Reason::StartFailed(error.to_string())),
        };
        let input = job.input().unwrap_or_default();
        let stdin = child.stdin.take();
        let outcome = tokio::select! {
            end = tokio::time::timeout(limit, to_its_end(&mut child, flaw, stdin, input)) => match end {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(error)) => Outcome::because(Reason::Error(error.to_string())),
                Err(_) => Outcome::because(Reason::TimedOut),
            },
            () = job.next_cancel() => Outcome::because(Reason::Cancelled),
        };
        if flaw == Flaw::NeverReaps {
            if let Some(pid) = pid_of(&child) {
                // It may be dead.
                let _ = kill_process(pid, Signal::KILL);
            }
            // What tokio has for its dropped children would reap it.
            std::mem::forget(child);
        } else if child.id().is_some() {
            drop(child.kill().await);
        }
        outcome
    }
}

fn pid_of(child: &Child) -> Option<Pid> {
    child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()))
}

fn limit(flaw: Flaw, asked: Option<Duration>) -> Duration {
    match asked {
        Some(asked) if flaw == Flaw::AddsToNow => (Instant::now() + asked).elapsed() + asked,
        Some(Duration::ZERO) if flaw == Flaw::TakesNothingForNever => Duration::MAX,
        Some(asked) => asked,
        None => Duration::MAX,
    }
}

async fn to_its_end(
    child: &mut Child,
    flaw: Flaw,
    stdin: Option<ChildStdin>,
    input: Vec<u8>,
) -> io::Result<Outcome> {
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let feed = async {
        match stdin {
            Some(mut stdin) => stdin.write_all(&input).await,
            None => Ok(()),
        }
    };
    let read_output = async {
        if let Some(mut stdout) = stdout {
            drop(stdout.read_to_end(&mut output).await);
        }
    };
    let read_errors = async {
        if let Some(mut stderr) = stderr {
            drop(stderr.read_to_end(&mut errors).await);
        }
    };
    let (fed, ..) = tokio::join!(feed, read_output, read_errors);
    if flaw == Flaw::InsistsOnItsInput {
        fed?;
    }
    let status = match flaw {
        Flaw::NeverReaps => unreaped(child).await,
        _ => child.wait().await?.into(),
    };
    let (output, errors) = spoilt(flaw, output, errors);
    Ok(Outcome {
        reason: Reason::Itself,
        status: Some(status),
        stdout: Some(Captured::of(&output, None)),
        stderr: Some(Captured::of(&errors, None)),
    })
}

/// The status of a child that stays a zombie.
async fn unreaped(child: &Child) -> Status {
    let pid = pid_of(child).expect("nobody has waited for it");
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    let status = loop {
        match waitid(WaitId::Pid(pid), ended) {
            Ok(Some(status)) => break status,
            _ => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    };
    status
        .exit_status()
        .map_or_else(|| Status::Signaled(status.terminating_signal().unwrap_or(0)), Status::Exited)
}

fn spoilt(flaw: Flaw, mut output: Vec<u8>, mut errors: Vec<u8>) -> (Vec<u8>, Vec<u8>) {
    static BEFORE: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    const BLOCK: usize = 1024;
    let block = BLOCK.min(output.len() / 2);
    match flaw {
        Flaw::TakesABlockTwice => output.extend_from_within(..block),
        Flaw::SwapsBlocks => output.rotate_left(block),
        Flaw::MixesItsStreams => errors.extend_from_slice(&output[..block]),
        Flaw::TakesItForText => output = String::from_utf8_lossy(&output).into_owned().into_bytes(),
        Flaw::KeepsItsBuffer => {
            let mut before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner);
            before.extend_from_slice(&output);
            output.clone_from(&before);
        }
        _ => {}
    }
    (output, errors)
}
