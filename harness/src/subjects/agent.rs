//! childminder's layer for command-line agents: the fake is an agent that speaks JSON, or anything else, on its stdout.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use childminder::agent::{
    Agent, BreakerLimits, Dialect, End, Execution, ExecutionCanceller, ExecutionReport, Fault, Message,
    Phase, Retries,
};
use childminder::{Containment, Ended, LineEnd, OutputStream, StreamEnd};
use tokio::sync::Mutex as AsyncMutex;

use super::childminder::Minded;
use crate::promises::Promises;
use crate::subject::{Job, Subject};
use crate::trace::{Captured, Outcome, Polled, Reason, RunState};

/// An agent for each run, all with one login: what one of them is refused for, the breaker keeps from the others.
pub(super) struct Agents {
    retrying: bool,
    /// Where the breaker is that they share.
    first: Mutex<Option<Agent>>,
}

/// So many runs that are refused for want of a login open the breaker, for longer than any case takes.
const BREAKER: (u32, Duration) = (3, Duration::from_secs(600));

/// What holds each attempt, and so what it promises beside what is said here.
const CONTAINMENT: Containment = Containment::Nanny;

/// The longest message of which all is wanted, and what is kept of a stream: as much as childminder itself would capture.
const MESSAGE: usize = 1024 * 1024;
const KEPT: usize = 16 * 1024 * 1024;

/// What an agent is asked. It is no input of the case's: a prompt is never empty.
const PROMPT: &str = "go on";

impl Agents {
    /// One attempt for each run.
    pub(super) fn once() -> Self {
        Self { retrying: false, first: Mutex::default() }
    }

    /// Attempt after attempt, whatever went wrong, as long as the timeout allows. Each attempt plays the whole script, so
    /// nobody can tell of such a run what a single child wrote, or with which status it ended.
    pub(super) fn again_and_again() -> Self {
        Self { retrying: true, first: Mutex::default() }
    }

    fn agent(&self, job: &Job) -> Agent {
        let mut builder =
            Agent::builder(Dialect::stream_json()).program(job.program()).message_limit(MESSAGE);
        let mut retries = Retries::none();
        if self.retrying {
            (retries.most, retries.worth) = (5, Fault::ALL.to_vec());
            (retries.first_pause, retries.longest_pause) =
                (Duration::from_millis(5), Duration::from_millis(20));
            retries.deadline = job.timeout();
        } else if let Some(timeout) = job.timeout() {
            builder = builder.timeout(timeout);
        }
        builder = builder.retries(retries);
        if let Some(grace) = job.grace() {
            builder = builder.grace(grace);
        }
        let drain = job.drain();
        builder = builder.configure(move |command| {
            command.require(CONTAINMENT);
            if let Some(drain) = drain {
                command.drain(drain);
            }
        });
        let mut first = self.first.lock().expect("no holder of this lock panics");
        let builder = match &*first {
            Some(first) => builder.breaker_of(first),
            None => builder.breaker(BreakerLimits::new(BREAKER.0, BREAKER.1)),
        };
        let agent = builder.build();
        first.get_or_insert_with(|| agent.clone());
        agent
    }
}

impl Subject for Agents {
    fn promises(&self) -> Promises {
        let is_one_child = !self.retrying;
        Promises {
            tells_reason: is_one_child,
            tells_cut: is_one_child,
            captures: is_one_child,
            status: is_one_child,
            feeds: false,
            writes: false,
            answers_again: is_one_child,
            polls: is_one_child,
            gives_pid: is_one_child,
            ..Minded(CONTAINMENT).promises()
        }
    }

    fn version(&self) -> String {
        env!("CARGO_PKG_VERSION").to_owned()
    }

    async fn run(&self, job: Job) -> Outcome {
        let mut execution = match self.agent(&job).execute(PROMPT) {
            Ok(execution) => execution,
            Err(error) => {
                let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
                return Outcome::because(Reason::StartFailed(format!(
                    "{error}{}",
                    source.unwrap_or_default()
                )));
            }
        };
        let canceller = execution.canceller();
        job.on_poll({
            let canceller = canceller.clone();
            move || std::future::ready(polled(&canceller))
        });
        job.on_cancel(move || canceller.cancel());
        let mut said = Said::default();
        while let Some(message) = execution.next_message().await {
            said.take(&message);
        }
        let said = Arc::new(said);
        let first = outcome(&execution.wait().await, &said);
        let execution = Arc::new(AsyncMutex::new(execution));
        job.answer_again(move || ask_again(Arc::clone(&execution), Arc::clone(&said)));
        first
    }
}

async fn ask_again(execution: Arc<AsyncMutex<Execution>>, said: Arc<Said>) -> Outcome {
    outcome(&execution.lock().await.wait().await, &said)
}

fn polled(canceller: &ExecutionCanceller) -> Polled {
    let state = match canceller.phase() {
        Phase::Stopping => RunState::Stopping,
        Phase::Over => RunState::Ended,
        _ => RunState::Running,
    };
    Polled { state, pid: canceller.pid().and_then(|pid| pid.try_into().ok()) }
}

/// What the messages of an execution were made of.
#[derive(Default)]
struct Said {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    dropped: bool,
}

impl Said {
    fn take(&mut self, message: &Message) {
        let stream = match message.stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
        };
        let newline: &[u8] = if message.end == LineEnd::Newline { b"\n" } else { b"" };
        for bytes in [&message.raw[..], newline] {
            let kept = bytes.len().min(KEPT - stream.len());
            stream.extend_from_slice(&bytes[..kept]);
            self.dropped |= kept < bytes.len();
        }
        self.dropped |= message.dropped > 0;
    }
}

fn outcome(report: &ExecutionReport, said: &Said) -> Outcome {
    let Some(run) = &report.outcome else { return Outcome::because(reason(report)) };
    let captured = |bytes: &[u8], end| {
        (end != StreamEnd::NotTaken)
            .then(|| Captured::of(bytes, Some(end == StreamEnd::Closed && !said.dropped)))
    };
    Outcome {
        reason: reason(report),
        status: run.exit.map(Into::into),
        stdout: captured(&said.stdout, run.stdout.end),
        stderr: captured(&said.stderr, run.stderr.end),
    }
}

/// The end of the run that was made for it; but that one was cut short by the agent itself has a reason of its own.
fn reason(report: &ExecutionReport) -> Reason {
    match (report.end, report.outcome.as_ref().map(|run| run.ended)) {
        (End::Failed(Fault::TimedOut), _) => Reason::TimedOut,
        (_, Some(Ended::ByItself)) => Reason::Itself,
        (End::AuthenticationFailed, _) => Reason::Error("nobody is logged in".to_owned()),
        (End::Cancelled, _) => Reason::Cancelled,
        (End::Failed(Fault::NoRoom | Fault::NotStarted), _) => {
            let why = report.not_started.as_ref().map(|error| format!("{error:?}"));
            Reason::StartFailed(why.unwrap_or_default())
        }
        (end, _) => Reason::Error(format!("{end:?}")),
    }
}
