//! childminder, with the containment that it takes by default and with each that can be had by name.

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use childminder::{
    Canceller, Capture, ChildStdin, Command, Containment, Ended, Input, Outcome as Ending, State, StreamEnd,
};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Mutex;

use crate::promises::{Keeps, Leftovers, Promises, Reach};
use crate::subject::{Job, Subject};
use crate::trace::{Captured, Outcome, Polled, Reason, RunState};

/// The product that this project makes, with this containment.
pub(super) struct Minded(pub(super) Containment);

/// The bound for the end of everybody after the owner's. No one waits for a grace then.
const OWNER_DEATH: Duration = Duration::from_secs(1);

impl Subject for Minded {
    fn promises(&self) -> Promises {
        let holds_the_tree = self.0 != Containment::Group;
        Promises {
            timeout: Keeps::AsAsked,
            grace: Keeps::AsAsked,
            drain: Keeps::AsAsked,
            reach: if holds_the_tree { Reach::Tree } else { Reach::Group },
            leftovers: Leftovers::Clean,
            owner_death: holds_the_tree.then(|| OWNER_DEATH.into()),
            tells_reason: true,
            tells_cut: true,
            captures: true,
            status: true,
            feeds: true,
            writes: true,
            answers_again: true,
            polls: true,
            gives_pid: true,
            hands_down_signals: false,
            own_group: true,
            own_session: false,
            own_environment: false,
            output_limit: None,
        }
    }

    fn version(&self) -> String {
        env!("CARGO_PKG_VERSION").to_owned()
    }

    async fn run(&self, job: Job) -> Outcome {
        let mut command = Command::new(job.program());
        // What it promises is what this containment promises, so no weaker one will do.
        command.require(self.0);
        ask_for(&mut command, &job);
        if job.writes() {
            command.stdin(Input::Piped);
        }
        match command.start() {
            Ok(mut run) => {
                // The caller's, but not longer than the run.
                let stdin = Arc::new(Mutex::new(run.stdin()));
                let _closed_at_the_end = give_stdin(&job, stdin);
                let canceller = run.canceller();
                job.on_poll({
                    let canceller = canceller.clone();
                    move || std::future::ready(polled(&canceller))
                });
                job.on_cancel(move || canceller.cancel());
                let first = outcome(&run.wait().await);
                let run = Arc::new(Mutex::new(run));
                job.answer_again(move || {
                    let run = run.clone();
                    async move { outcome(&run.lock().await.wait().await) }
                });
                first
            }
            Err(error) => {
                let reason = Reason::StartFailed(error.to_string());
                Outcome { reason, status: None, stdout: None, stderr: None }
            }
        }
    }
}

/// What a job asks for.
pub(super) fn ask_for(command: &mut Command, job: &Job) {
    if let Some(timeout) = job.timeout() {
        command.timeout(timeout);
    }
    if let Some(grace) = job.grace() {
        command.grace(grace);
    }
    if let Some(drain) = job.drain() {
        command.drain(drain);
    }
    if let Some(input) = job.input() {
        command.stdin(Input::Bytes(input.into()));
    }
}

type Stdin = Arc<Mutex<Option<ChildStdin>>>;

/// Lets the caller write to the child and close its input.
fn give_stdin(job: &Job, stdin: Stdin) -> Stdin {
    job.on_write({
        let stdin = Arc::downgrade(&stdin);
        move |bytes| write(stdin.clone(), bytes)
    });
    job.on_close_stdin({
        let stdin = Arc::downgrade(&stdin);
        move || {
            let stdin = stdin.upgrade();
            async move {
                if let Some(stdin) = stdin {
                    *stdin.lock().await = None;
                }
            }
        }
    });
    stdin
}

async fn write(stdin: Weak<Mutex<Option<ChildStdin>>>, bytes: Vec<u8>) -> io::Result<()> {
    let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
    let stdin = stdin.upgrade().ok_or_else(gone)?;
    stdin.lock().await.as_mut().ok_or_else(gone)?.write_all(&bytes).await
}

pub(super) fn polled(canceller: &Canceller) -> Polled {
    let state = match canceller.state() {
        State::Terminating => RunState::Stopping,
        State::Terminated | State::Failed | State::Idle => RunState::Ended,
        _ => RunState::Running,
    };
    Polled { state, pid: canceller.pid().and_then(|pid| pid.try_into().ok()) }
}

pub(super) fn outcome(ending: &Ending) -> Outcome {
    let reason = match ending.ended {
        Ended::ByItself => Reason::Itself,
        Ended::Stopped(childminder::Reason::TimedOut) => Reason::TimedOut,
        Ended::Stopped(_) => Reason::Cancelled,
    };
    Outcome {
        reason,
        status: ending.exit.map(Into::into),
        stdout: captured(&ending.stdout),
        stderr: captured(&ending.stderr),
    }
}

fn captured(capture: &Capture) -> Option<Captured> {
    (capture.end != StreamEnd::NotTaken).then(|| Captured::of(&capture.bytes, Some(capture.is_complete())))
}
