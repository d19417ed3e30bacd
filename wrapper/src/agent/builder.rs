//! Which agent, and how it may end.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::breaker::{Breaker, BreakerLimits};
use super::dialect::Dialect;
use super::handle::Agent;
use super::retry::Retries;
use crate::command::Command;
use crate::minder::Minder;

const DEFAULT_GRACE: Duration = Duration::from_secs(5);
const DEFAULT_MESSAGE_LIMIT: usize = 16 * 1024 * 1024;

type Configure = Box<dyn Fn(&mut Command) + Send + Sync>;

/// Which agent, and how it may end. Made by [`Agent::builder`].
#[must_use = "nothing is made before it is built"]
#[derive(Debug)]
pub struct AgentBuilder {
    settings: Settings,
}

/// What holds for all executions of an agent.
pub(super) struct Settings {
    pub(super) dialect: Dialect,
    pub(super) program: Option<PathBuf>,
    pub(super) arguments: Vec<OsString>,
    pub(super) timeout: Option<Duration>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) grace: Duration,
    pub(super) message_limit: usize,
    pub(super) retries: Retries,
    pub(super) breaker: Arc<Mutex<Breaker>>,
    pub(super) cancel_on: Option<CancellationToken>,
    pub(super) minder: Option<Minder>,
    pub(super) configure: Vec<Configure>,
}

impl Settings {
    /// Who knows of the runs. Asked for only when there is one, because a fork has a shared one of its own.
    pub(super) fn minder(&self) -> Minder {
        self.minder.clone().unwrap_or_else(Minder::shared)
    }
}

fn shared(limits: BreakerLimits) -> Arc<Mutex<Breaker>> {
    Arc::new(Mutex::new(Breaker::new(limits)))
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("dialect", &self.dialect.name)
            .field("program", &self.program)
            .field("arguments", &self.arguments)
            .finish_non_exhaustive()
    }
}

impl AgentBuilder {
    pub(super) fn new(dialect: Dialect) -> Self {
        let settings = Settings {
            dialect,
            program: None,
            arguments: Vec::new(),
            timeout: None,
            idle_timeout: None,
            grace: DEFAULT_GRACE,
            message_limit: DEFAULT_MESSAGE_LIMIT,
            retries: Retries::default(),
            breaker: shared(BreakerLimits::default()),
            cancel_on: None,
            minder: None,
            configure: Vec::new(),
        };
        Self { settings }
    }

    /// The path of the program. Default: it is looked for; see [`Agent::locate`].
    pub fn program(mut self, program: impl Into<PathBuf>) -> Self {
        self.settings.program = Some(program.into());
        self
    }

    /// Adds arguments behind those of the dialect, before the prompt.
    pub fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.settings.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// How long one attempt may take. Default: as long as the [deadline](Retries::deadline) of all attempts.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = Some(timeout);
        self
    }

    /// How long an attempt may say nothing; see [`Command::idle_timeout`]. Default: for ever.
    pub fn idle_timeout(mut self, idle: Duration) -> Self {
        self.settings.idle_timeout = Some(idle);
        self
    }

    /// How long an agent has to end after being asked to, before being killed. Default: 5 s.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.settings.grace = grace;
        self
    }

    /// How many bytes a message may have. Of a longer line the beginning is kept and the rest is counted
    /// ([`MessageKind::TooLong`](super::MessageKind::TooLong)). Default: 16 MiB.
    pub fn message_limit(mut self, bytes: usize) -> Self {
        self.settings.message_limit = bytes;
        self
    }

    /// Whether, and how, an agent that has failed is tried again.
    pub fn retries(mut self, retries: Retries) -> Self {
        self.settings.retries = retries;
        self
    }

    /// When nobody is let through any more, because nobody is logged in.
    pub fn breaker(mut self, limits: BreakerLimits) -> Self {
        self.settings.breaker = shared(limits);
        self
    }

    /// Has one breaker with another agent, because they have one login.
    pub fn breaker_of(mut self, agent: &Agent) -> Self {
        self.settings.breaker = Arc::clone(&agent.settings().breaker);
        self
    }

    /// Cancels every execution when `token` is cancelled, also if nobody polls it, and all later ones at once.
    pub fn cancel_on(mut self, token: CancellationToken) -> Self {
        self.settings.cancel_on = Some(token);
        self
    }

    /// Who knows of the runs of this agent, and of the pauses between its attempts. Default: [`Minder::shared`].
    pub fn minder(mut self, minder: &Minder) -> Self {
        self.settings.minder = Some(minder.clone());
        self
    }

    /// Sets what has no method here, for each attempt: environment, directory, containment. Called before every start. What
    /// has to be the agent's own is set after it: the prompt, stdin, stdout and stderr, the minder, the description, and the
    /// token that cancels; of all timeouts the shortest counts.
    pub fn configure(mut self, configure: impl Fn(&mut Command) + Send + Sync + 'static) -> Self {
        self.settings.configure.push(Box::new(configure));
        self
    }

    /// The agent. Nothing is started or looked for yet.
    pub fn build(self) -> Agent {
        Agent::new(self.settings)
    }
}
