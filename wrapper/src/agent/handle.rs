//! The agent: what takes a prompt and begins an execution.

use std::panic::Location;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;

use super::breaker::Breaker;
use super::builder::{AgentBuilder, Settings};
use super::control::Executions;
use super::dialect::{Dialect, PromptBy};
use super::error::AgentError;
use super::execution::Execution;
use super::locate::{Surroundings, locate};
use super::stats::{AgentStats, Tally};
use crate::command::Command;
use crate::input::Input;
use crate::output::Output;

/// The longest argument that Linux takes is 128 KiB, its end included.
const LONGEST_ARGUMENT: usize = 128 * 1024 - 1;

/// A command-line agent. Cheap to clone; all clones are one agent, with one breaker and one set of statistics.
#[derive(Clone, Debug)]
pub struct Agent {
    core: Arc<Core>,
    executions: Arc<Executions>,
}

/// What an agent and the scopes within it have in common.
#[derive(Debug)]
struct Core {
    settings: Settings,
    tally: Mutex<Tally>,
    next: AtomicU64,
}

impl Agent {
    /// An agent that speaks this dialect, to be set up further.
    pub fn builder(dialect: Dialect) -> AgentBuilder {
        AgentBuilder::new(dialect)
    }

    pub(super) fn new(settings: Settings) -> Self {
        let core = Core { settings, tally: Mutex::default(), next: AtomicU64::new(1) };
        Self { core: Arc::new(core), executions: Arc::new(Executions::new(None)) }
    }

    /// The same agent, whose executions are also a group of their own, within this one's.
    pub(super) fn part(&self) -> Self {
        let executions = Executions::new(Some(Arc::clone(&self.executions)));
        Self { core: Arc::clone(&self.core), executions: Arc::new(executions) }
    }

    /// Gives the agent a prompt. The child is started at once, or, if the system has no room for it and a retry is worth it,
    /// after a pause.
    ///
    /// # Errors
    /// Nothing was started; the message of the error says what to do.
    ///
    /// # Panics
    /// If the runtime was built without time, and a pause is due.
    #[track_caller]
    pub fn execute(&self, prompt: impl AsRef<str>) -> Result<Execution, AgentError> {
        let begun = self.try_execute(prompt.as_ref(), Location::caller());
        self.tally().refused += u64::from(begun.is_err());
        begun
    }

    fn try_execute(
        &self,
        prompt: &str,
        created_at: &'static Location<'static>,
    ) -> Result<Execution, AgentError> {
        if prompt.trim().is_empty() {
            return Err(AgentError::EmptyPrompt);
        }
        if self.dialect().prompt != PromptBy::Stdin {
            let unfit = |why| Err(AgentError::UnfitPrompt { why });
            match prompt.len() {
                _ if prompt.contains('\0') => return unfit("because there is a zero byte in it"),
                length if length > LONGEST_ARGUMENT => return unfit("because it is longer than 128 KiB"),
                _ => {}
            }
        }
        let program = self.locate()?;
        Execution::begin(self, program, Bytes::copy_from_slice(prompt.as_bytes()), created_at)
    }

    /// Where the program is: at the path that was given, else at the one that the dialect's environment variable names, else in
    /// `PATH`, else in the usual places of the dialect. It is looked for at each execution.
    ///
    /// # Errors
    /// It is not there, or may not be executed. What was named and is not there is an error, and not replaced by another.
    pub fn locate(&self) -> Result<PathBuf, AgentError> {
        let settings = self.settings();
        locate(&settings.dialect, settings.program.as_deref(), &Surroundings::of(&settings.dialect))
    }

    /// What it has done so far, and where the breaker stands.
    pub fn stats(&self) -> AgentStats {
        // One after the other, so that nobody ever holds both locks.
        let breaker = self.breaker().state(Instant::now());
        self.tally().stats(breaker)
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.core.settings
    }

    pub(super) fn dialect(&self) -> &Dialect {
        &self.core.settings.dialect
    }

    pub(super) fn executions(&self) -> &Executions {
        &self.executions
    }

    pub(super) fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.core.settings.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.core.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn next_number(&self) -> u64 {
        self.core.next.fetch_add(1, Ordering::Relaxed)
    }

    /// What is to be run for one attempt.
    pub(super) fn command(&self, program: &Path, prompt: &Bytes) -> Command {
        let settings = self.settings();
        let mut command = Command::new(program);
        command.args(&settings.dialect.arguments).args(&settings.arguments);
        command.grace(settings.grace).line_limit(settings.message_limit);
        if let Some(idle) = settings.idle_timeout {
            command.idle_timeout(idle);
        }
        for configure in &settings.configure {
            configure(&mut command);
        }
        command.minder(&settings.minder());
        let mut input = Input::Null;
        match &settings.dialect.prompt {
            PromptBy::Stdin => input = Input::Bytes(prompt.clone()),
            PromptBy::Argument => {
                command.arg("--").arg(text(prompt));
            }
            PromptBy::Option(option) => {
                command.arg(option).arg(text(prompt));
            }
        }
        command.stdin(input).stdout(Output::Lines).stderr(Output::Lines);
        command
    }
}

/// A prompt is text; only the type of what feeds a child is not.
fn text(prompt: &Bytes) -> &str {
    std::str::from_utf8(prompt).unwrap_or_default()
}
