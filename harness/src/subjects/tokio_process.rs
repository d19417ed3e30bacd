//! The baseline that everyone knows: `tokio::process` with `kill_on_drop`.

use std::process::{Output, Stdio};

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::promises::{Keeps, Promises};
use crate::subject::{Job, Subject};
use crate::trace::{Captured, Outcome, Reason};

/// `tokio::process::Command` with `kill_on_drop`, a timeout around `wait_with_output`, cancelled by dropping it.
pub(super) struct KillOnDrop;

impl Subject for KillOnDrop {
    fn promises(&self) -> Promises {
        Promises {
            timeout: Keeps::AsAsked,
            tells_reason: true,
            captures: true,
            status: true,
            feeds: true,
            ..Promises::default()
        }
    }

    fn version(&self) -> String {
        "1".to_owned()
    }

    async fn run(&self, mut job: Job) -> Outcome {
        let mut command = Command::new(job.program());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let input = job.input();
        if input.is_some() {
            command.stdin(Stdio::piped());
        }
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return ended(Reason::StartFailed(error.to_string())),
        };
        let stdin = child.stdin.take();
        let feed = async {
            if let (Some(mut stdin), Some(input)) = (stdin, input) {
                // A child that wants no more is no error. The pipe is closed by the drop.
                drop(stdin.write_all(&input).await);
            }
        };
        let output = async { tokio::join!(child.wait_with_output(), feed).0 };
        let limit = job.timeout().unwrap_or(std::time::Duration::MAX);
        tokio::select! {
            output = tokio::time::timeout(limit, output) => match output {
                Ok(Ok(output)) => ended_by_itself(&output),
                Ok(Err(error)) => ended(Reason::Error(error.to_string())),
                Err(_) => ended(Reason::TimedOut),
            },
            () = job.next_cancel() => ended(Reason::Cancelled),
        }
    }
}

fn ended(reason: Reason) -> Outcome {
    Outcome { reason, status: None, stdout: None, stderr: None }
}

fn ended_by_itself(output: &Output) -> Outcome {
    Outcome {
        reason: Reason::Itself,
        status: Some(output.status.into()),
        stdout: Some(Captured::of(&output.stdout, None)),
        stderr: Some(Captured::of(&output.stderr, None)),
    }
}
