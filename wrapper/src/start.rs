//! From a command to a run. All that can fail is done before the child exists, as far as that is possible.

use std::error::Error;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::command::Command;
use crate::input::{ChildStdin, Feeder, Input};
use crate::output::{Flow, Intake, Output, Stream};
use crate::run::{Board, Event, Parts, Run};
use crate::supervise::{Case, Door, Intakes, Key, Mailbox, Message, Opening, Source, supervisor};
use crate::sys;

/// The longest that a failed start waits for a child that was killed because of it.
const FAILED_START_BOUND: Duration = Duration::from_secs(2);

/// Why a run could not be started. Nothing of it is left.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The call was not made from within a tokio runtime.
    NoRuntime,
    /// This platform is not supported yet.
    Unsupported(&'static str),
    /// The library's own thread could not be started.
    Supervisor(io::Error),
    /// A pipe could not be made.
    Pipe(io::Error),
    /// The program could not be started: it is not there, may not be executed, or the system has no room for it.
    Spawn {
        /// The program.
        program: OsString,
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
            Self::Unsupported(what) => write!(f, "this platform is not supported: {what}"),
            Self::Supervisor(_) => f.write_str("cannot start the supervising thread"),
            Self::Pipe(_) => f.write_str("cannot make a pipe to the child"),
            Self::Spawn { program, .. } => write!(f, "cannot start {program:?}"),
            Self::Hold { program, pid, .. } => write!(f, "cannot take hold of {program:?} (pid {pid})"),
        }
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NoRuntime | Self::Unsupported(_) => None,
            Self::Supervisor(source) | Self::Pipe(source) => Some(source),
            Self::Spawn { source, .. } | Self::Hold { source, .. } => Some(source),
        }
    }
}

pub(crate) fn start(command: &mut Command) -> Result<Run, StartError> {
    // 1. What can be refused is refused before anything is made.
    if let Some(lack) = sys::unsupported() {
        return Err(StartError::Unsupported(lack));
    }
    Handle::try_current().map_err(|_| StartError::NoRuntime)?;

    // 2. The owner of the child is there before the child.
    let mailbox = supervisor().map_err(StartError::Supervisor)?;
    let door = Door::new(Arc::clone(&mailbox), mailbox.new_key());

    // 3. The pipes are made and watched. Should the start fail, dropping them closes and forgets them.
    let (sender, events) = unbounded_channel();
    let flow = Arc::new(Flow::default());
    let wires = Wires { mailbox: &mailbox, key: door.key(), events: &sender, flow: &flow };
    let plumbing = lay_pipes(command, &wires).map_err(StartError::Pipe)?;

    // 4. From here on there is a child.
    let started = Instant::now();
    let child = spawn(command, plumbing.child_ends)?;
    let hold = command
        .containment
        .take_hold(child, mailbox.poller(), Source::Hold.token(door.key()))
        .map_err(|(source, child)| give_up(command, child, source))?;

    // 5. Nothing can fail any more.
    let pid = hold.leader_pid();
    let board = Arc::new(Board::new());
    // The receiver is in our hands, so this arrives.
    let _ = sender.send(Event::Started { pid });
    let case = Case::open(Opening {
        door: door.clone(),
        board: Arc::clone(&board),
        events: sender,
        containment: command.containment,
        hold,
        limits: command.limits,
        intakes: plumbing.intakes,
        token: command.cancel_on.clone(),
        started,
    });
    mailbox.send(Message::Watch(Box::new(case)));
    Ok(Run::new(Parts { pid, door, board, flow, events, stdin: plumbing.stdin }))
}

fn spawn(command: &mut Command, ends: ChildEnds) -> Result<Child, StartError> {
    let inner = &mut command.inner;
    command.containment.prepare(inner);
    command.clean_start.prepare(inner);
    inner.stdin(ends.stdin).stdout(ends.stdout).stderr(ends.stderr);
    let spawned = inner.spawn();
    // The command outlives the start, and would keep the child's ends of the pipes open.
    inner.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    spawned.map_err(|source| StartError::Spawn { program: inner.get_program().to_owned(), source })
}

fn give_up(command: &Command, child: Child, source: io::Error) -> StartError {
    let pid = child.id();
    sys::kill_and_reap(child, FAILED_START_BOUND);
    StartError::Hold { program: command.inner.get_program().to_owned(), pid, source }
}

/// What connects the pipes of a run with its supervisor and with its handle.
struct Wires<'a> {
    mailbox: &'a Mailbox,
    key: Key,
    events: &'a UnboundedSender<Event>,
    flow: &'a Arc<Flow>,
}

/// Both ends of everything.
struct Plumbing {
    child_ends: ChildEnds,
    intakes: Intakes,
    stdin: Option<ChildStdin>,
}

struct ChildEnds {
    stdin: Stdio,
    stdout: Stdio,
    stderr: Stdio,
}

fn lay_pipes(command: &Command, wires: &Wires<'_>) -> io::Result<Plumbing> {
    let (stdout, stdout_intake) = lay_output(command, wires, Stream::Stdout)?;
    let (stderr, stderr_intake) = lay_output(command, wires, Stream::Stderr)?;
    let mut feeder = Feeder::none();
    let mut handle = None;
    let stdin = match &command.stdin {
        Input::Null => Stdio::null(),
        Input::Inherited => Stdio::inherit(),
        Input::Piped => {
            let (end, child_end) = sys::child_reads_async()?;
            handle = Some(ChildStdin::new(end));
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
    })
}

fn lay_output(command: &Command, wires: &Wires<'_>, stream: Stream) -> io::Result<(Stdio, Intake)> {
    let (output, source) = match stream {
        Stream::Stdout => (command.stdout, Source::Stdout),
        Stream::Stderr => (command.stderr, Source::Stderr),
    };
    match output {
        Output::Null => return Ok((Stdio::null(), Intake::none())),
        Output::Inherited => return Ok((Stdio::inherit(), Intake::none())),
        Output::Captured | Output::Streamed => {}
    }
    let (end, child_end) = sys::child_writes(wires.mailbox.poller(), source.token(wires.key))?;
    let intake = if output == Output::Streamed {
        Intake::streamed(end, stream, wires.events.clone(), Arc::clone(wires.flow))
    } else {
        Intake::captured(end, command.capture_limit)
    };
    Ok((child_end, intake))
}
