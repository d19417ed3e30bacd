//! childminder handing the output out as it comes, to a caller who takes nothing of it for a long time.

use std::time::Duration;

use childminder::{Command, Containment, Event, Output, State, States};

use super::childminder::{Minded, ask_for, outcome, polled};
use crate::promises::Promises;
use crate::subject::{Job, Subject};
use crate::trace::{Captured, Outcome, Reason};

/// A caller who is busy with something else until the run is being ended, or so long: meanwhile a child that writes much is held up.
pub(super) struct BusyCaller;

const BUSY: Duration = Duration::from_secs(6);

/// What holds the run, and so what it promises beside what is said here.
const CONTAINMENT: Containment = Containment::Nanny;

impl Subject for BusyCaller {
    fn promises(&self) -> Promises {
        Promises { writes: false, answers_again: false, ..Minded(CONTAINMENT).promises() }
    }

    fn version(&self) -> String {
        env!("CARGO_PKG_VERSION").to_owned()
    }

    async fn run(&self, job: Job) -> Outcome {
        let mut command = Command::new(job.program());
        command.require(CONTAINMENT).stdout(Output::Streamed).stderr(Output::Streamed);
        ask_for(&mut command, &job);
        let mut run = match command.start() {
            Ok(run) => run,
            Err(error) => return Outcome::because(Reason::StartFailed(error.to_string())),
        };
        let canceller = run.canceller();
        job.on_poll({
            let canceller = canceller.clone();
            move || std::future::ready(polled(&canceller))
        });
        job.on_cancel(move || canceller.cancel());
        // Then it has time, whatever the child does.
        drop(tokio::time::timeout(BUSY, no_longer_running(run.states())).await);
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        while let Some(event) = run.next_event().await {
            match event {
                Event::Stdout(bytes) => stdout.extend_from_slice(&bytes),
                Event::Stderr(bytes) => stderr.extend_from_slice(&bytes),
                _ => {}
            }
        }
        let ending = run.wait().await;
        let captured = |bytes: &[u8], complete| Some(Captured::of(bytes, Some(complete)));
        Outcome {
            stdout: captured(&stdout, ending.stdout.is_complete()),
            stderr: captured(&stderr, ending.stderr.is_complete()),
            ..outcome(&ending)
        }
    }
}

async fn no_longer_running(mut states: States) {
    while let Some(State::Idle | State::Starting | State::Running) = states.next().await {}
}
