//! Who is compared: each library as its documentation says it is to be used for a child that must not be left behind.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use childminder::{Containment, Output};
use process_wrap::tokio::{ChildWrapper, CommandWrap, KillOnDrop, ProcessGroup, ProcessSession};
use processkit::StdioMode;
use tokio::io::AsyncReadExt;

use crate::Failure;
use crate::child::Child;

/// Everybody, in the order of the tables. tokio is first: it is the reference.
pub(crate) const CONTENDERS: &[(&str, Contender)] = &[
    ("tokio", Contender::Tokio),
    ("process-wrap group", Contender::ProcessWrap(Wrap::Group)),
    ("process-wrap session", Contender::ProcessWrap(Wrap::Session)),
    ("processkit", Contender::Processkit),
    ("childminder nanny", Contender::Childminder(Containment::Nanny)),
    ("childminder cgroup", Contender::Childminder(Containment::Cgroup)),
    ("childminder sealed", Contender::Childminder(Containment::Sealed)),
    ("childminder group", Contender::Childminder(Containment::Group)),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    Tokio,
    ProcessWrap(Wrap),
    Processkit,
    Childminder(Containment),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrap {
    Group,
    Session,
}

/// What becomes of the child's stdout. Its stdin and stderr are null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sink {
    Null,
    Captured,
}

impl Contender {
    /// Runs the child to its end. How many bytes were captured.
    pub(crate) async fn run(self, child: &Child, sink: Sink) -> Result<u64, Failure> {
        match (self, sink) {
            (Self::Tokio, Sink::Null) => ended_well(tokio_command(child, sink).status().await?, 0),
            (Self::Tokio, Sink::Captured) => {
                let output = tokio_command(child, sink).output().await?;
                ended_well(output.status, output.stdout.len())
            }
            (Self::ProcessWrap(wrap), _) => {
                let mut running = wrapped_command(child, sink, wrap).spawn()?;
                let mut captured = Vec::new();
                if let Some(stdout) = running.stdout() {
                    stdout.read_to_end(&mut captured).await?;
                }
                ended_well(running.wait().await?, captured.len())
            }
            (Self::Processkit, Sink::Null) => {
                match kit_command(child, sink).start().await?.wait().await?.code() {
                    Some(0) => Ok(0),
                    code => Err(format!("it ended with exit code {code:?}").into()),
                }
            }
            (Self::Processkit, Sink::Captured) => {
                let result = kit_command(child, sink).output_bytes().await?;
                if !result.is_success() {
                    return Err(format!("{result:?}").into());
                }
                Ok(result.stdout().len() as u64)
            }
            (Self::Childminder(containment), _) => {
                let outcome = minded_command(child, sink, containment).run().await?;
                if !outcome.success() || outcome.containment != containment {
                    return Err(format!("{outcome:?}").into());
                }
                Ok(outcome.stdout.total)
            }
        }
    }

    /// Starts a child that does not end by itself.
    pub(crate) async fn start(self, child: &Child, sink: Sink) -> Result<Running, Failure> {
        Ok(match self {
            Self::Tokio => Running::Tokio(tokio_command(child, sink).spawn()?),
            Self::ProcessWrap(wrap) => Running::ProcessWrap(wrapped_command(child, sink, wrap).spawn()?),
            Self::Processkit => Running::Processkit(Box::new(kit_command(child, sink).start().await?)),
            Self::Childminder(containment) => {
                Running::Childminder(minded_command(child, sink, containment).start()?)
            }
        })
    }

    /// Why it cannot take part on this machine, if so.
    pub(crate) async fn refusal(self, child: &Child) -> Option<String> {
        self.run(child, Sink::Null).await.err().map(|why| format!("not run: {why}"))
    }
}

/// A child that runs, and the handle to it.
pub(crate) enum Running {
    Tokio(tokio::process::Child),
    ProcessWrap(Box<dyn ChildWrapper>),
    Processkit(Box<processkit::RunningProcess>),
    Childminder(childminder::Run),
}

impl Running {
    pub(crate) fn pid(&self) -> Result<u32, Failure> {
        let pid = match self {
            Self::Tokio(child) => child.id(),
            Self::ProcessWrap(child) => child.id(),
            Self::Processkit(running) => running.pid(),
            Self::Childminder(run) => run.pid(),
        };
        pid.ok_or_else(|| "it has ended already".into())
    }

    /// Stops everything at once, without a grace: by dropping the handle where that is enough.
    pub(crate) fn stop(self) -> Result<(), Failure> {
        match self {
            // Its drop kills the child, but in an idle runtime the zombie may stay.
            Self::Tokio(mut child) => {
                child.start_kill()?;
                tokio::spawn(async move { child.wait().await });
            }
            // Its drop kills the child, but not the group.
            Self::ProcessWrap(mut child) => {
                child.start_kill()?;
                tokio::spawn(async move { child.wait().await });
            }
            Self::Processkit(running) => drop(running),
            Self::Childminder(run) => drop(run),
        }
        Ok(())
    }

    /// Waits for the end, as an owner does meanwhile.
    pub(crate) async fn wait(self) -> Result<(), Failure> {
        match self {
            Self::Tokio(child) => {
                child.wait_with_output().await?;
            }
            Self::ProcessWrap(child) => {
                Box::into_pin(child.wait_with_output()).await?;
            }
            Self::Processkit(running) => {
                drop(running.output_bytes().await?);
            }
            Self::Childminder(mut run) => {
                run.wait().await;
            }
        }
        Ok(())
    }
}

fn ended_well(status: ExitStatus, captured: usize) -> Result<u64, Failure> {
    if status.success() { Ok(captured as u64) } else { Err(format!("it ended with {status}").into()) }
}

fn tokio_command(child: &Child, sink: Sink) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(&child.program);
    command.args(&child.arguments).kill_on_drop(true);
    set_streams(&mut command, sink);
    command
}

fn wrapped_command(child: &Child, sink: Sink, wrap: Wrap) -> CommandWrap {
    let mut command = CommandWrap::with_new(&child.program, |command| {
        command.args(&child.arguments);
        set_streams(command, sink);
    });
    command.wrap(KillOnDrop);
    match wrap {
        Wrap::Group => command.wrap(ProcessGroup::leader()),
        Wrap::Session => command.wrap(ProcessSession),
    };
    command
}

fn set_streams(command: &mut tokio::process::Command, sink: Sink) {
    let stdout = match sink {
        Sink::Null => Stdio::null(),
        Sink::Captured => Stdio::piped(),
    };
    command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::null());
}

fn kit_command(child: &Child, sink: Sink) -> processkit::Command {
    let stdout = match sink {
        Sink::Null => StdioMode::Null,
        Sink::Captured => StdioMode::Piped,
    };
    processkit::Command::new(&child.program).args(&child.arguments).stdout(stdout).stderr(StdioMode::Null)
}

fn minded_command(child: &Child, sink: Sink, containment: Containment) -> childminder::Command {
    let stdout = match sink {
        Sink::Null => Output::Null,
        Sink::Captured => Output::Captured,
    };
    let mut command = childminder::Command::new(&child.program);
    command.args(&child.arguments).stdout(stdout).stderr(Output::Null);
    command.containment(containment).grace(Duration::ZERO);
    command
}
