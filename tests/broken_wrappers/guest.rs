//! A wrapper that is a guest in its host's process, with one flaw in its manners.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use headcount::promises::Promises;
use headcount::subject::{Job, Subject};
use headcount::trace::{Outcome, Reason};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use rustix::fs::Mode;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};

/// What is wrong with the wrapper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Nothing.
    None,
    /// A thread for each run waits for news that never come.
    LeaksAThread,
    /// The log of each run stays where temporary files are.
    LeavesAFile,
    /// The child is started with a private umask, which stays.
    KeepsItsUmask,
    /// The child is started in another directory, in which the host stays.
    KeepsItsFolder,
    /// Signals are blocked while the child is started, and for good.
    BlocksForGood,
    /// The child is started by a shell.
    StartsByAShell,
    /// A status is asked for until there is one.
    InsistsOnAStatus,
    /// Somebody asks without a pause whether the child has ended.
    WaitsBusily,
    /// All output is kept.
    KeepsAllOutput,
    /// The child is declared to lead a group, which nobody makes.
    ForgetsItsGroup,
    /// The child gets no environment.
    ClearsTheEnvironment,
    /// The foreground of the terminal is taken back without a thought of what that does to who is in the background.
    SnatchesTheTerminal,
}

/// Each by its name.
pub(crate) const ALL: [(&str, Flaw); 13] = [
    ("mannered", Flaw::None),
    ("leaks-a-thread", Flaw::LeaksAThread),
    ("leaves-a-file", Flaw::LeavesAFile),
    ("keeps-its-umask", Flaw::KeepsItsUmask),
    ("keeps-its-folder", Flaw::KeepsItsFolder),
    ("blocks-for-good", Flaw::BlocksForGood),
    ("starts-by-a-shell", Flaw::StartsByAShell),
    ("insists-on-a-status", Flaw::InsistsOnAStatus),
    ("waits-busily", Flaw::WaitsBusily),
    ("keeps-all-output", Flaw::KeepsAllOutput),
    ("forgets-its-group", Flaw::ForgetsItsGroup),
    ("clears-the-environment", Flaw::ClearsTheEnvironment),
    ("snatches-the-terminal", Flaw::SnatchesTheTerminal),
];

/// The wrapper.
pub(crate) struct Guest(pub(crate) Flaw);

impl Subject for Guest {
    fn promises(&self) -> Promises {
        "timeout,tells-reason,own-group".parse().expect("known words")
    }

    async fn run(&self, mut job: Job) -> Outcome {
        self.misbehave(job.program());
        let mut command = if self.0 == Flaw::StartsByAShell {
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", "exec \"$0\""]).arg(job.program());
            shell
        } else {
            Command::new(job.program())
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        if self.0 != Flaw::ForgetsItsGroup {
            command.process_group(0);
        }
        if self.0 == Flaw::ClearsTheEnvironment {
            command.env_clear();
        }
        if self.0 == Flaw::KeepsAllOutput {
            command.stdout(Stdio::piped());
        }
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return Outcome::because(Reason::StartFailed(error.to_string())),
        };
        let limit = job.timeout().unwrap_or(Duration::MAX);
        let outcome = tokio::select! {
            ended = tokio::time::timeout(limit, self.wait(&mut child)) => match ended {
                Ok(status) => Outcome { status, ..Outcome::because(Reason::Itself) },
                Err(_) => Outcome::because(Reason::TimedOut),
            },
            () = job.next_cancel() => Outcome::because(Reason::Cancelled),
        };
        if self.0 == Flaw::SnatchesTheTerminal {
            // Without a terminal there is nothing to snatch.
            let _ = rustix::termios::tcsetpgrp(rustix::stdio::stdin(), rustix::process::getpgrp());
        }
        outcome
    }
}

impl Guest {
    fn misbehave(&self, program: &Path) {
        match self.0 {
            Flaw::LeaksAThread => {
                std::thread::spawn(|| {
                    loop {
                        std::thread::park();
                    }
                });
            }
            Flaw::LeavesAFile => {
                let log = program.parent().and_then(Path::file_name).expect("it has a folder of its run's");
                let log = std::env::temp_dir().join(log).with_extension("log");
                std::fs::write(log, "started\n").expect("temporary files can be written");
            }
            Flaw::KeepsItsUmask => drop(rustix::process::umask(Mode::RWXG | Mode::RWXO)),
            Flaw::KeepsItsFolder => std::env::set_current_dir("/").expect("it is there"),
            Flaw::BlocksForGood => {
                let mut signals = SigSet::empty();
                signals.add(Signal::SIGUSR2);
                pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&signals), None).expect("a known signal");
            }
            _ => {}
        }
    }

    async fn wait(&self, child: &mut Child) -> Option<headcount::trace::Status> {
        let mut kept = Vec::new();
        if let (Flaw::KeepsAllOutput, Some(stdout)) = (self.0, child.stdout.as_mut()) {
            drop(stdout.read_to_end(&mut kept).await);
        }
        while self.0 == Flaw::WaitsBusily && child.try_wait().is_ok_and(|status| status.is_none()) {
            tokio::task::yield_now().await;
        }
        loop {
            match child.wait().await {
                Ok(status) => return Some(status.into()),
                Err(_) if self.0 == Flaw::InsistsOnAStatus => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(_) => return None,
            }
        }
    }
}
