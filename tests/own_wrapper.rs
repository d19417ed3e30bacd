//! What the author of a wrapper writes to have all this in `cargo test`: an implementation of `Subject` and a `main`.
//!
//! `cargo test --test own_wrapper -- rule::S` runs the survivor rules alone, `-- --list` names every test.

use childminder::{Command, Ended, Input};
use headcount::promises::Promises;
use headcount::subject::{Job, Subject};
use headcount::trace::{Captured, Outcome, Reason, Status};

struct Mine;

impl Subject for Mine {
    fn promises(&self) -> Promises {
        "timeout,grace,drain,clean,owner-death=1s,tells-reason,tells-cut,captures,status,feeds"
            .parse()
            .expect("known words")
    }

    async fn run(&self, job: Job) -> Outcome {
        let mut command = Command::new(job.program());
        job.timeout().map(|timeout| command.timeout(timeout));
        job.grace().map(|grace| command.grace(grace));
        job.drain().map(|drain| command.drain(drain));
        job.input().map(|input| command.stdin(Input::Bytes(input.into())));
        let mut run = match command.start() {
            Ok(run) => run,
            Err(error) => {
                let reason = Reason::StartFailed(error.to_string());
                return Outcome { reason, status: None, stdout: None, stderr: None };
            }
        };
        let canceller = run.canceller();
        job.on_cancel(move || canceller.cancel());
        let end = run.wait().await;
        Outcome {
            reason: match end.ended {
                Ended::ByItself => Reason::Itself,
                Ended::Stopped(childminder::Reason::TimedOut) => Reason::TimedOut,
                Ended::Stopped(_) => Reason::Cancelled,
            },
            status: end.exit.map(Status::from),
            stdout: Some(Captured::of(&end.stdout.bytes, Some(end.stdout.is_complete()))),
            stderr: Some(Captured::of(&end.stderr.bytes, Some(end.stderr.is_complete()))),
        }
    }
}

fn main() -> std::process::ExitCode {
    headcount::suite::Suite::new("childminder", || Mine).scenarios("../scenarios").main()
}
