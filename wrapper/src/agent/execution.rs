//! One prompt on its way through its attempts.

use std::fmt;
use std::panic::Location;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use backon::ExponentialBackoff;
use bytes::Bytes;
use futures_core::Stream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::breaker::{Ticket, Verdict};
use super::control::{Control, Phase};
use super::error::AgentError;
use super::handle::Agent;
use super::message::{Message, MessageKind, Reader};
use super::retry::{AttemptEnd, Fault, Heard, is_want_of_room};
use crate::minder::{Rang, Timer};
use crate::outcome::{Left, Outcome};
use crate::run::{Event, Run};
use crate::start::{StartError, start};

/// How an execution ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum End {
    /// The agent has answered, and ended well.
    Answered,
    /// Nobody is logged in. The run was stopped as soon as the agent said so, and is not tried again.
    AuthenticationFailed,
    /// Somebody cancelled it, or its [`Minder`](crate::Minder) was shut down.
    Cancelled,
    /// The last attempt failed, and was not worth another one, or there were enough, or the deadline is near.
    Failed(Fault),
    /// There would have been another attempt, but the breaker has opened meanwhile.
    BreakerOpen,
    /// The [`Execution`] was dropped. Only the statistics know it.
    Dropped,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Answered => "answered",
            Self::AuthenticationFailed => "authentication failed",
            Self::Cancelled => "cancelled",
            Self::Failed(fault) => return write!(f, "failed: {fault}"),
            Self::BreakerOpen => "breaker open",
            Self::Dropped => "dropped",
        })
    }
}

/// What is known of an execution that has ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExecutionReport {
    /// How it ended.
    pub end: End,
    /// How many attempts were made, the first one included.
    pub attempts: u32,
    /// How many messages there were in all attempts.
    pub messages: u64,
    /// What its last attempt came to: exit status, how it was stopped, who is left. `None` if none was started.
    pub outcome: Option<Outcome>,
    /// Why the last attempt could not be started, if it could not.
    pub not_started: Option<Arc<StartError>>,
    /// From the beginning to the end, pauses included.
    pub took: Duration,
}

/// A prompt that an agent was given: a [`Stream`] of what it says, until it has ended.
///
/// Dropping it cancels it, whatever it does just then; see [`Run`]. It goes on only while somebody takes its messages, or
/// waits; but a limit of its time, a cancel and the end of its owner act in any case.
#[derive(Debug)]
#[must_use = "dropping an execution cancels it"]
pub struct Execution {
    number: u64,
    agent: Agent,
    program: PathBuf,
    prompt: Bytes,
    control: Arc<Control>,
    began: Instant,
    /// Where the owner began it.
    created_at: &'static Location<'static>,
    pauses: ExponentialBackoff,
    stage: Stage,
    attempts: u32,
    messages: u64,
    outcome: Option<Outcome>,
    not_started: Option<Arc<StartError>>,
    report: Option<Box<ExecutionReport>>,
    /// It is among those that the statistics say were started.
    is_counted: bool,
}

#[derive(Debug)]
enum Stage {
    Running(Box<Attempt>),
    Pausing(Box<Pause>),
    Over,
}

/// A child at work.
#[derive(Debug)]
struct Attempt {
    run: Run,
    ticket: Ticket,
    reader: Reader,
    heard: Heard,
    /// Stops this run without being a cancel of the caller's.
    early_stop: CancellationToken,
}

/// The time between two attempts, which a cancel ends.
#[derive(Debug)]
struct Pause {
    timer: Timer,
    cancelled: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// What becomes of the first attempt of an execution that is begun.
enum First {
    Runs(Box<Attempt>),
    ComesAfter(Duration),
    Cancelled,
}

/// Why there is no attempt.
enum NoAttempt {
    Cancelled,
    BreakerOpen(Option<Duration>),
    NotStarted(StartError),
}

impl Execution {
    /// Begins the first attempt. If it fails for want of room and a retry is worth it, a pause comes first.
    pub(super) fn begin(
        agent: &Agent,
        program: PathBuf,
        prompt: Bytes,
        created_at: &'static Location<'static>,
    ) -> Result<Self, AgentError> {
        let settings = agent.settings();
        let parent = settings.cancel_on.clone().unwrap_or_default();
        let mut execution = Self {
            number: agent.next_number(),
            agent: agent.clone(),
            program,
            prompt,
            control: Arc::new(Control::new(parent.child_token())),
            began: Instant::now(),
            created_at,
            pauses: settings.retries.pauses(),
            stage: Stage::Over,
            attempts: 0,
            messages: 0,
            outcome: None,
            not_started: None,
            report: None,
            is_counted: false,
        };
        if !agent.executions().join(execution.number, &execution.control) {
            return Err(AgentError::ScopeOver);
        }
        let first = match execution.begin_attempt() {
            Ok(attempt) => First::Runs(attempt),
            Err(NoAttempt::Cancelled) => First::Cancelled,
            Err(NoAttempt::BreakerOpen(retry_after)) => {
                return Err(AgentError::BreakerOpen { retry_after });
            }
            Err(NoAttempt::NotStarted(error)) => {
                let pause = is_want_of_room(&error).then(|| execution.next_pause(Fault::NoRoom)).flatten();
                match pause {
                    Some(pause) => {
                        execution.not_started = Some(Arc::new(error));
                        First::ComesAfter(pause)
                    }
                    None => return Err(AgentError::of_start(error, &execution.program)),
                }
            }
        };
        // Before anything can end, so that no more ends are ever counted than beginnings.
        agent.tally().started += 1;
        execution.is_counted = true;
        match first {
            First::Runs(attempt) => execution.stage = Stage::Running(attempt),
            First::Cancelled => execution.end(End::Cancelled),
            First::ComesAfter(pause) => execution.pause(pause),
        }
        Ok(execution)
    }

    /// The next message; `None` when the execution has ended. Cancel-safe: no message is lost if the future is dropped.
    pub async fn next_message(&mut self) -> Option<Message> {
        std::future::poll_fn(|context| self.poll_message(context)).await
    }

    /// Goes on to the end, and says how it was. The messages that nobody took are read, counted and thrown away. Asking
    /// again gives the same answer. Cancel-safe.
    pub async fn wait(&mut self) -> ExecutionReport {
        loop {
            if let Some(report) = &self.report {
                return ExecutionReport::clone(report);
            }
            std::future::poll_fn(|context| self.poll_message(context)).await;
        }
    }

    /// How it ended, if it has.
    pub fn report(&self) -> Option<&ExecutionReport> {
        self.report.as_deref()
    }

    /// The number of this execution among those of its agent.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// How many attempts were begun.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Where it stands. A cancel is noticed a moment after it was given.
    pub fn phase(&self) -> Phase {
        self.control.phase()
    }

    /// The pid of the agent that runs just now; see [`Run::pid`].
    pub fn pid(&self) -> Option<u32> {
        self.control.pid()
    }

    /// Stops it: the agent and all that it has started are asked to end, and killed when the grace is over; a pause is
    /// over at once; there is no further attempt. Returns at once. A second call does not wait for the grace.
    pub fn cancel(&self) {
        self.control.cancel();
    }

    /// A handle that does the same from anywhere. It does not keep the execution alive.
    pub fn canceller(&self) -> ExecutionCanceller {
        ExecutionCanceller { control: Arc::clone(&self.control) }
    }

    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Option<Message>> {
        loop {
            match &mut self.stage {
                Stage::Over => return Poll::Ready(None),
                Stage::Pausing(pause) => {
                    if ready!(pause.poll_end(context)) {
                        self.try_again();
                    } else {
                        self.end(End::Cancelled);
                    }
                }
                Stage::Running(attempt) => match ready!(Pin::new(&mut attempt.run).poll_next(context)) {
                    Some(Event::Line(line)) => {
                        let dialect = self.agent.dialect();
                        let Some(message) = attempt.reader.take(dialect, self.attempts, line) else {
                            continue;
                        };
                        attempt.hear(&self.agent, &message);
                        self.messages += 1;
                        return Poll::Ready(Some(message));
                    }
                    Some(Event::Ended(outcome)) => self.conclude(*outcome),
                    Some(_) => {}
                    // The last event has been taken: the stage is another by now.
                    None => return Poll::Ready(None),
                },
            }
        }
    }

    fn begin_attempt(&mut self) -> Result<Box<Attempt>, NoAttempt> {
        // First what the owner has written, which may panic: nobody waits for an attempt yet.
        let mut command = self.agent.command(&self.program, &self.prompt);
        let early_stop = self.control.token_of_attempt();
        command.cancel_on(early_stop.clone());
        command.describe(self.description()).note("attempt", (self.attempts + 1).to_string());
        let limits = [self.agent.settings().timeout, command.limits.timeout, self.time_left()];
        if let Some(timeout) = limits.into_iter().flatten().min() {
            command.timeout(timeout);
        }
        let ticket = Ticket::ask(&self.agent.settings().breaker).map_err(NoAttempt::BreakerOpen)?;
        if !self.control.begin_attempt() {
            return Err(NoAttempt::Cancelled);
        }
        match start(&mut command, self.created_at) {
            Ok(run) => {
                self.control.attempt_runs(run.canceller());
                self.attempts += 1;
                self.agent.tally().attempts += 1;
                let (reader, heard) = (Reader::default(), Heard::default());
                Ok(Box::new(Attempt { run, ticket, reader, heard, early_stop }))
            }
            Err(error) => {
                self.control.attempt_is_over();
                Err(NoAttempt::NotStarted(error))
            }
        }
    }

    /// A pause is over.
    fn try_again(&mut self) {
        match self.begin_attempt() {
            Ok(attempt) => {
                self.agent.tally().retries += 1;
                self.stage = Stage::Running(attempt);
            }
            Err(NoAttempt::Cancelled) => self.end(End::Cancelled),
            Err(NoAttempt::BreakerOpen(_)) => self.end(End::BreakerOpen),
            Err(NoAttempt::NotStarted(StartError::ShutDown)) => self.end(End::Cancelled),
            Err(NoAttempt::NotStarted(error)) => {
                let fault = if is_want_of_room(&error) { Fault::NoRoom } else { Fault::NotStarted };
                self.not_started = Some(Arc::new(error));
                self.fail(fault);
            }
        }
    }

    /// An attempt has ended.
    fn conclude(&mut self, outcome: Outcome) {
        let Stage::Running(mut attempt) = std::mem::replace(&mut self.stage, Stage::Over) else { return };
        let end = attempt.heard.conclude(self.agent.dialect(), self.control.is_cancelled(), &outcome);
        // In this order: who waits for its end asks then whether somebody is left.
        if !matches!(outcome.left, Left::Nobody(_)) {
            self.control.leaves_somebody();
        }
        self.control.attempt_is_over();
        self.outcome = Some(outcome);
        self.not_started = None;
        let verdict = match end {
            AttemptEnd::AuthenticationFailed => Verdict::Refused,
            AttemptEnd::Answered => Verdict::Accepted,
            AttemptEnd::Cancelled | AttemptEnd::Failed(_) => Verdict::Nothing,
        };
        attempt.ticket.report(verdict);
        match end {
            AttemptEnd::Answered => self.end(End::Answered),
            AttemptEnd::AuthenticationFailed => self.end(End::AuthenticationFailed),
            AttemptEnd::Cancelled => self.end(End::Cancelled),
            AttemptEnd::Failed(fault) => self.fail(fault),
        }
    }

    /// An attempt has failed: a pause, or the end.
    fn fail(&mut self, fault: Fault) {
        if self.control.is_cancelled() {
            return self.end(End::Cancelled);
        }
        match self.next_pause(fault) {
            Some(pause) => self.pause(pause),
            None => self.end(End::Failed(fault)),
        }
    }

    fn next_pause(&mut self, fault: Fault) -> Option<Duration> {
        let left = self.time_left();
        self.agent.settings().retries.pause(fault, &mut self.pauses, left)
    }

    fn time_left(&self) -> Option<Duration> {
        self.agent.settings().retries.left(self.began, Instant::now())
    }

    fn pause(&mut self, time: Duration) {
        let description = format!("{}, until the next attempt", self.description());
        let timer = self.agent.settings().minder().timer_of(description, time, self.created_at);
        let cancelled = Box::pin(self.control.cancelled());
        self.stage = Stage::Pausing(Box::new(Pause { timer, cancelled }));
    }

    fn end(&mut self, end: End) {
        self.stage = Stage::Over;
        self.report = Some(Box::new(ExecutionReport {
            end,
            attempts: self.attempts,
            messages: self.messages,
            outcome: self.outcome.take(),
            not_started: self.not_started.take(),
            took: self.began.elapsed(),
        }));
        self.control.finish();
        self.agent.executions().leave(self.number);
        self.agent.tally().ends(end);
    }

    /// What a minder calls it.
    fn description(&self) -> String {
        format!("{}, execution {}", self.agent.dialect().name, self.number)
    }
}

impl Attempt {
    fn hear(&mut self, agent: &Agent, message: &Message) {
        self.heard.note(agent.dialect(), message);
        agent.tally().says(message);
        if message.kind == MessageKind::AuthenticationError {
            // At once: the owner may have heard enough, and never take the rest.
            self.ticket.report(Verdict::Refused);
            self.early_stop.cancel();
        }
    }
}

impl Pause {
    /// Whether there shall be another attempt.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        if self.cancelled.as_mut().poll(context).is_ready() {
            return Poll::Ready(false);
        }
        Pin::new(&mut self.timer).poll(context).map(|rang| rang == Rang::InTime)
    }
}

impl Stream for Execution {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Message>> {
        self.poll_message(context)
    }
}

impl Drop for Execution {
    fn drop(&mut self) {
        if self.report.is_some() {
            return;
        }
        if let Stage::Running(mut attempt) = std::mem::replace(&mut self.stage, Stage::Over) {
            if attempt.heard.result {
                attempt.ticket.report(Verdict::Accepted);
            }
            // The run is on its way to its end from here on.
        }
        self.control.finish();
        self.agent.executions().leave(self.number);
        if self.is_counted {
            self.agent.tally().ends(End::Dropped);
        }
    }
}

/// Cancels an execution from anywhere.
#[derive(Clone, Debug)]
pub struct ExecutionCanceller {
    control: Arc<Control>,
}

impl ExecutionCanceller {
    /// See [`Execution::cancel`]; all cancellers of an execution, and the execution itself, count together.
    pub fn cancel(&self) {
        self.control.cancel();
    }

    /// See [`Execution::pid`].
    pub fn pid(&self) -> Option<u32> {
        self.control.pid()
    }

    /// See [`Execution::phase`]. An execution that was dropped is over when its agent has ended.
    pub fn phase(&self) -> Phase {
        self.control.phase()
    }
}
