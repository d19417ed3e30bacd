//! From a command to a run. All that can fail is done before the child exists, as far as that is possible.

use std::error::Error;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::panic::Location;
use std::sync::Arc;
use std::time::Instant;

use tokio::runtime::Handle;

use crate::command::Command;
use crate::contain::{ChildEnds, Containment, Launch, Refusal, Unavailable};
use crate::input::{ChildStdin, Feeder, Input};
use crate::lines::Splitter;
use crate::minder::Part;
use crate::output::{Intake, Output, OutputStream};
use crate::run::{Common, Made, Run, RunId, Taker};
use crate::shared::Flow;
use crate::spans::Spans;
use crate::state::Move;
use crate::supervise::{Case, Door, Intakes, Key, Mailbox, Message, Opening, Source, supervisor};
use crate::sys::{self, ChildEnd, Terminal};

/// Why a run could not be started. Nothing of it is left.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The call was not made from within a tokio runtime.
    NoRuntime,
    /// The command's minder was [shut down](crate::Minder::shutdown).
    ShutDown,
    /// This platform is not supported yet.
    Unsupported(&'static str),
    /// The library's own thread could not be started.
    Supervisor(io::Error),
    /// A pipe could not be made.
    Pipe(io::Error),
    /// The child cannot be in the [foreground](crate::Command::foreground): the owner has no terminal, or is in its background
    /// itself, or the command was converted from another builder.
    Terminal(io::Error),
    /// The containment that was required cannot be had here.
    Unavailable(Unavailable),
    /// The program could not be started: it is not there, may not be executed, or the system has no room for it.
    Spawn {
        /// The program.
        program: OsString,
        /// What was tried and failed, as in "cannot execute the program".
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The child was started but could not be taken hold of, so it was killed.
    Hold {
        /// The program.
        program: OsString,
        /// The pid the child had.
        pid: u32,
        /// Why.
        source: io::Error,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRuntime => f.write_str("a run must be started from within a tokio runtime"),
            Self::ShutDown => f.write_str("the minder of the run was shut down"),
            Self::Unsupported(what) => write!(f, "this platform is not supported: {what}"),
            Self::Supervisor(_) => f.write_str("cannot start the supervising thread"),
            Self::Pipe(_) => f.write_str("cannot make a pipe to the child"),
            Self::Terminal(_) => f.write_str("cannot hand the terminal over to the child"),
            Self::Unavailable(lack) => lack.fmt(f),
            Self::Spawn { program, doing, .. } => write!(f, "cannot start {program:?}: cannot {doing}"),
            Self::Hold { program, pid, .. } => write!(f, "cannot take hold of {program:?} (pid {pid})"),
        }
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NoRuntime | Self::ShutDown | Self::Unsupported(_) | Self::Unavailable(_) => None,
            Self::Supervisor(source) | Self::Pipe(source) | Self::Terminal(source) => Some(source),
            Self::Spawn { source, .. } | Self::Hold { source, .. } => Some(source),
        }
    }
}

pub(crate) fn start(
    command: &mut Command,
    created_at: &'static Location<'static>,
) -> Result<Run, StartError> {
    let common = Arc::new(Common::new(command.entry(created_at)));
    let mut spans = Some(Spans::of(RunId::new(common.entry.key()), common.entry.description()));
    let failure = FailedStart(&common);
    match check(command).and_then(|containment| launch(command, containment, &common, &mut spans)) {
        Ok(run) => {
            std::mem::forget(failure);
            Ok(run)
        }
        Err(error) => {
            if let Some(spans) = spans {
                spans.not_started(&error);
            }
            Err(error)
        }
    }
}

/// Says that a start has failed, also if it panicked.
struct FailedStart<'a>(&'a Common);

impl Drop for FailedStart<'_> {
    fn drop(&mut self) {
        self.0.fail_start();
    }
}

/// Refuses what can be refused before anything is made.
fn check(command: &Command) -> Result<Containment, StartError> {
    if let Some(lack) = sys::unsupported() {
        return Err(StartError::Unsupported(lack));
    }
    Handle::try_current().map_err(|_| StartError::NoRuntime)?;
    if command.has_zero {
        let error =
            io::Error::new(io::ErrorKind::InvalidInput, "a string for a program has a zero byte in it");
        let doing = "pass the program its arguments and environment";
        return Err(refused(command, Refusal::NotStarted { doing, error }));
    }
    if command.foreground && command.is_converted {
        let why = "the command was made by another builder";
        return Err(StartError::Terminal(io::Error::new(io::ErrorKind::Unsupported, why)));
    }
    command.wanted.choose(command.needs()).map_err(StartError::Unavailable)
}

/// Starts the child, and takes the spans for it.
fn launch(
    command: &mut Command,
    containment: Containment,
    common: &Arc<Common>,
    spans: &mut Option<Spans>,
) -> Result<Run, StartError> {
    // 1. Whoever shuts the minder down finds the run, or has refused it.
    if !common.entry.registry().enrol(common) {
        return Err(StartError::ShutDown);
    }
    common.make(Move::Start);

    // 2. The owner of the child is there before the child.
    let mailbox = supervisor().map_err(StartError::Supervisor)?;
    let door = Door::new(Arc::clone(&mailbox), common.entry.key());
    common.entry.open(door.clone());

    // 3. The pipes are made and watched. Should the start fail, dropping them closes and forgets them.
    let wires = Wires { mailbox: &mailbox, key: door.key(), common };
    let plumbing = lay_pipes(command, &wires).map_err(StartError::Pipe)?;

    // 4. What the terminal is to be given back to. Should the start fail, dropping it does that.
    let noted = command.foreground.then(Terminal::note).transpose();
    let mut terminal = noted.map_err(|lack| StartError::Terminal(lack.error))?.map(Box::new);

    // 5. From here on there is a child.
    let started = Instant::now();
    let launch = Launch {
        command: &mut command.inner,
        clears_environment: command.clears_environment,
        is_converted: command.is_converted,
        #[cfg(has_nanny)]
        adoption: &mut command.adoption,
        clean_start: &mut command.clean_start,
        ends: plumbing.child_ends,
        terminal: terminal.as_deref(),
        poller: mailbox.poller(),
        token: Source::Hold.token(door.key()),
    };
    let hold = containment.start(launch).map_err(|refusal| {
        // What was made for it is kept for further runs, and somebody must see that it is not kept for ever.
        mailbox.poller().wake();
        refused(command, refusal)
    })?;

    // 6. Nothing can fail any more.
    let pid = hold.leader_pid();
    if let Some(terminal) = &mut terminal {
        terminal.is_taken_by(pid);
    }
    let spans = spans.take();
    if let Some(spans) = &spans {
        spans.started(pid, containment);
    }
    let case = Case::open(Opening {
        door: door.clone(),
        common: Arc::clone(common),
        containment,
        hold,
        limits: command.limits,
        stop_plan: command.stop_plan.clone(),
        intakes: plumbing.intakes,
        token: command.cancel_on.clone(),
        terminal,
        started,
        spans,
    });
    let Plumbing { stdin, stdout, stderr, .. } = plumbing;
    common.begin(pid, case.parts().with_if(stdin.is_some(), Part::Stdin));
    mailbox.send(Message::Watch(Box::new(case)));
    common.entry.repeat_asking();
    Ok(Run::new(Made { pid, containment, door, common: Arc::clone(common), stdin, stdout, stderr }))
}

fn refused(command: &Command, refusal: Refusal) -> StartError {
    let program = command.inner.get_program().to_owned();
    match refusal {
        Refusal::NotStarted { doing, error } => StartError::Spawn { program, doing, source: error },
        Refusal::NotHeld { pid, error } => StartError::Hold { program, pid, source: error },
    }
}

/// What connects the pipes of a run with its supervisor and with its handle.
struct Wires<'a> {
    mailbox: &'a Mailbox,
    key: Key,
    common: &'a Arc<Common>,
}

/// Both ends of everything.
struct Plumbing {
    child_ends: ChildEnds,
    intakes: Intakes,
    stdin: Option<ChildStdin>,
    stdout: Taker,
    stderr: Taker,
}

fn lay_pipes(command: &Command, wires: &Wires<'_>) -> io::Result<Plumbing> {
    let (stdout, stdout_intake, stdout_taker) = lay_output(command, wires, OutputStream::Stdout)?;
    let (stderr, stderr_intake, stderr_taker) = lay_output(command, wires, OutputStream::Stderr)?;
    let mut feeder = Feeder::none();
    let mut handle = None;
    let stdin = match &command.stdin {
        Input::Null => ChildEnd::Null,
        Input::Inherited => ChildEnd::Inherited,
        Input::Piped => {
            let (end, child_end) = sys::child_reads_async()?;
            handle = Some(ChildStdin::new(wires.common, end));
            child_end
        }
        Input::Bytes(bytes) => {
            let token = Source::Stdin.token(wires.key);
            let (end, child_end) = sys::child_reads(wires.mailbox.poller(), token)?;
            feeder = Feeder::new(end, bytes.clone());
            child_end
        }
    };
    Ok(Plumbing {
        child_ends: ChildEnds { stdin, stdout, stderr },
        intakes: Intakes { stdout: stdout_intake, stderr: stderr_intake, stdin: feeder },
        stdin: handle,
        stdout: stdout_taker,
        stderr: stderr_taker,
    })
}

fn lay_output(
    command: &Command,
    wires: &Wires<'_>,
    stream: OutputStream,
) -> io::Result<(ChildEnd, Intake, Taker)> {
    let (output, source) = match stream {
        OutputStream::Stdout => (command.stdout, Source::Stdout),
        OutputStream::Stderr => (command.stderr, Source::Stderr),
    };
    match output {
        Output::Null => return Ok((ChildEnd::Null, Intake::none(), Taker::none())),
        Output::Inherited => return Ok((ChildEnd::Inherited, Intake::none(), Taker::none())),
        Output::Captured | Output::Streamed | Output::Lines => {}
    }
    let (end, child_end) = sys::child_writes(wires.mailbox.poller(), source.token(wires.key))?;
    if output == Output::Captured {
        let intake = Intake::captured(end, command.capture_limit, command.overflow);
        return Ok((child_end, intake, Taker::none()));
    }
    let flow = Arc::new(Flow::new());
    let intake = Intake::sent(end, stream, Arc::clone(wires.common), Arc::clone(&flow));
    let taker = if output == Output::Lines {
        Taker::lines(flow, Splitter::new(stream, command.line_limit))
    } else {
        Taker::chunks(flow)
    };
    Ok((child_end, intake, taker))
}
