//! Cleaning up: on request, and at the end of a scope, however that ends.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::timeout;

use super::control::Control;
use super::handle::Agent;

/// What is granted when all were killed: the time after a kill that is not obeyed, that of draining, and that of a busy machine.
const AFTER_KILL: Duration = Duration::from_secs(5);

/// So much later than the grace is asked again, by a kill: whoever keeps the grace has begun to count a little later.
const BEYOND_GRACE: Duration = Duration::from_secs(1);

/// What a clean-up has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
#[must_use = "what could not be cleaned up is named here and nowhere else"]
pub struct Cleanup {
    /// How many executions were stopped and have ended, with nobody left.
    pub cleaned: usize,
    /// The [numbers](super::Execution::number) of those that have not, although their end was waited for as long as was said,
    /// and of those that have ended without its being shown that nobody is left of them.
    pub failed: Vec<u64>,
}

impl Cleanup {
    /// Whether nothing runs any more of what did.
    pub fn is_complete(&self) -> bool {
        self.failed.is_empty()
    }
}

impl fmt::Display for Cleanup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cleaned up", self.cleaned)?;
        if self.failed.is_empty() { Ok(()) } else { write!(f, ", somebody may be left of {:?}", self.failed) }
    }
}

/// What came of a scope.
#[derive(Debug)]
#[must_use = "what could not be cleaned up is named here and nowhere else"]
pub struct Scoped<T> {
    /// What its body has returned.
    pub value: T,
    /// What was left to clean up then.
    pub cleanup: Cleanup,
}

impl Agent {
    /// Stops all executions of this agent, those of the scopes within it included, and waits until they have ended: asks
    /// them, kills them when the grace is over, and waits no longer than six seconds beyond that. The agent can be used again,
    /// also while this goes on; what is begun meanwhile is not stopped.
    ///
    /// It needs a runtime with a clock, and panics without.
    ///
    /// Whoever holds an [`Execution`](super::Execution) finds it ended, with what its agent has said until then. Safe to call
    /// twice, and at the same time as anything else. If the future is dropped, everybody was asked all the same.
    pub fn cleanup(&self) -> impl Future<Output = Cleanup> + Send + use<> {
        let within = self.settings().grace.saturating_add(BEYOND_GRACE);
        self.clean_up(within)
    }

    /// As [`cleanup`](Self::cleanup), but kills those at once who are there when this time is over, whatever is left of their
    /// grace; then waits for their end, for at most five seconds.
    pub fn cleanup_within(&self, time: Duration) -> impl Future<Output = Cleanup> + Send + use<> {
        self.clean_up(time)
    }

    fn clean_up(&self, time: Duration) -> impl Future<Output = Cleanup> + Send + use<> {
        let members = self.executions().members();
        for (_, control) in &members {
            control.ask();
        }
        async move {
            wait_for(&members, time).await;
            for (_, control) in members.iter().filter(|(_, control)| !control.is_over()) {
                control.urge();
            }
            wait_for(&members, AFTER_KILL).await;
            let has_failed = |control: &Control| !control.is_over() || control.has_left_somebody();
            let failed = members.iter().filter(|(_, control)| has_failed(control));
            let failed: Vec<_> = failed.map(|(number, _)| *number).collect();
            Cleanup { cleaned: members.len() - failed.len(), failed }
        }
    }

    /// Gives `body` an agent of its own, and cleans up behind it: whatever that agent has begun and is not over when the body
    /// has returned, panicked, or was dropped before its end, is stopped.
    ///
    /// ```
    /// # #[cfg(target_os = "linux")]
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// use childminder::agent::{Agent, Dialect};
    ///
    /// let agent = Agent::builder(Dialect::plain_text()).program("/bin/cat").build();
    /// let scoped = agent
    ///     .scoped(|agent| async move { agent.execute("hello")?.next_message().await.map_or(Ok(0), |said| Ok(said.raw.len())) })
    ///     .await;
    /// let length: Result<usize, childminder::agent::AgentError> = scoped.value;
    /// assert_eq!(length.unwrap(), 5);
    /// assert!(scoped.cleanup.is_complete());
    /// # }
    /// # #[cfg(not(target_os = "linux"))] fn main() {}
    /// ```
    ///
    /// The clean-up after a return or a panic is waited for, as [`cleanup`](Self::cleanup) does. If this future is dropped,
    /// everybody is asked to end, without anybody waiting for it. The body's agent begins nothing afterwards, wherever
    /// it was taken to: [`AgentError::ScopeOver`](super::AgentError::ScopeOver).
    ///
    /// # Panics
    /// If the body panics: with the same, once everything is cleaned up.
    pub async fn scoped<T, F>(&self, body: impl FnOnce(Self) -> F) -> Scoped<T>
    where
        F: Future<Output = T>,
    {
        let scope = EndsScope { agent: self.part() };
        let ended = unwound(|| body(scope.agent.clone())).await;
        scope.agent.executions().close();
        let cleanup = scope.agent.cleanup().await;
        match ended {
            Ok(value) => Scoped { value, cleanup },
            Err(panic) => resume_unwind(panic),
        }
    }
}

/// Stops what is left of a scope whose future is dropped.
struct EndsScope {
    agent: Agent,
}

impl Drop for EndsScope {
    fn drop(&mut self) {
        self.agent.executions().close();
        // Everybody is asked at once; nobody is here to wait. After a clean-up there is nobody to ask.
        drop(self.agent.cleanup());
    }
}

/// Makes a future and runs it to its end; a panic of either is a value.
async fn unwound<T, F: Future<Output = T>>(make: impl FnOnce() -> F) -> Result<T, Box<dyn Any + Send>> {
    // Nobody looks at what a panic has left half done: it is dropped here, and the panic goes on.
    let future = catch_unwind(AssertUnwindSafe(make))?;
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
        polled.map_or_else(|panic| Poll::Ready(Err(panic)), |polled| polled.map(Ok))
    })
    .await
}

/// Waits until all have ended, or the time is over.
async fn wait_for(members: &[(u64, Arc<Control>)], time: Duration) {
    let all = async {
        for (_, control) in members {
            control.until_over().await;
        }
    };
    // Who is not over then is found by a look at each.
    let _ = timeout(time, all).await;
}
