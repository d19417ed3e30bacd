//! The registry: who is there of what a program runs, what became of the others, and the end of them all.

#[cfg(any(test, feature = "_cost"))]
pub mod cost;
mod registration;
mod registry;
mod resource;
mod shutdown;
mod signals;
mod stats;
#[cfg(test)]
mod tests;
mod timer;
mod transitions;

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) use registration::note;
pub use registration::{ClosingFailed, Registration};
pub(crate) use registry::{About, Part, Parts, Registry, RunEntry, new_key};
pub use resource::{Kind, LeakReport, Resource, Totals};
pub use shutdown::{Shutdown, ShutdownError};
pub use signals::{Signal, SignalHandler, SignalShutdown};
pub use stats::{Ends, Runs, Stats, Times};
pub use timer::{Rang, Timer};
pub use transitions::{Missed, Transition, Transitions};

use registration::Subject;

/// The registry of what a program has running: every run puts itself on it, with the streams and timers that belong to
/// it, and the owner can add tasks, timers, signal handlers and whatever else should not be forgotten.
///
/// It only knows of things, and keeps none of them alive: what is dropped is gone from it, and dropping a minder does
/// nothing to what it knew. Clones are the same minder.
///
/// ```
/// # #[cfg(target_os = "linux")]
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), childminder::StartError> {
/// use std::time::Duration;
/// use childminder::{Command, Ended, Minder, Reason};
///
/// let minder = Minder::new();
/// let mut run = Command::new("sleep").arg("60").minder(&minder).start()?;
/// assert_eq!(minder.stats().resources.process, 1);
/// println!("{}", minder.overdue(Duration::ZERO));
///
/// let report = minder.shutdown(Duration::from_secs(10)).await;
/// assert!(report.is_clean());
/// assert_eq!(run.wait().await.ended, Ended::Stopped(Reason::ShutDown));
/// # Ok(()) }
/// # #[cfg(not(target_os = "linux"))] fn main() {}
/// ```
#[derive(Clone, Default)]
pub struct Minder {
    registry: Arc<Registry>,
}

impl Minder {
    /// A minder that only those know who are told.
    pub fn new() -> Self {
        Self::default()
    }

    /// The minder of this process, which has all runs whose command names no other.
    ///
    /// A process that was forked from this one has one of its own.
    pub fn shared() -> Self {
        static SHARED: Mutex<Option<(u32, Minder)>> = Mutex::new(None);
        let process = std::process::id();
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        match &*shared {
            Some((owner, minder)) if *owner == process => minder.clone(),
            _ => {
                let minder = Self::new();
                // What is in the other belongs to the process that we were forked from.
                std::mem::forget(shared.replace((process, minder.clone())));
                minder
            }
        }
    }

    #[cfg(all(test, target_os = "linux"))]
    pub(crate) fn from_registry(registry: &Arc<Registry>) -> Self {
        Self { registry: Arc::clone(registry) }
    }

    pub(crate) fn into_registry(self) -> Arc<Registry> {
        self.registry
    }

    /// Puts a resource of the owner's own on the registry, until what this gives is dropped.
    ///
    /// It never fails. After a [`shutdown`](Self::shutdown) has begun it is asked to end at once.
    #[track_caller]
    pub fn register(&self, kind: Kind, description: impl Into<String>) -> Registration {
        let created_at = Location::caller();
        let description = description.into().into();
        Registration::new(&self.registry, Subject { kind, description, created_at, is_passive: false })
    }

    /// Spawns a task that is on the registry until it has ended, and that a [`shutdown`](Self::shutdown) aborts. After
    /// that has begun, the task is never polled.
    ///
    /// A task that is to end in another way than by being aborted can [`register`](Self::register) itself.
    ///
    /// # Panics
    /// Outside a tokio runtime, as [`tokio::spawn`] does.
    #[track_caller]
    pub fn spawn<F>(&self, description: impl Into<String>, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let registration = Arc::new(self.register(Kind::Task, description));
        let own = Arc::clone(&registration);
        let task =
            tokio::spawn(async move {
                let mut future = pin!(future);
                std::future::poll_fn(|context| {
                    if own.is_closing() { Poll::Pending } else { future.as_mut().poll(context) }
                })
                .await
            });
        registration.is_run_by(task.abort_handle());
        task
    }

    /// A deadline that is on the registry as long as somebody waits for it, and that a [`shutdown`](Self::shutdown) ends.
    ///
    /// # Panics
    /// Outside a tokio runtime with a clock, as [`tokio::time::sleep`] does.
    #[track_caller]
    pub fn timer(&self, description: impl Into<String>, time: Duration) -> Timer {
        self.timer_of(description.into(), time, Location::caller())
    }

    /// A timer that somebody else has created.
    pub(crate) fn timer_of(
        &self,
        description: String,
        time: Duration,
        created_at: &'static Location<'static>,
    ) -> Timer {
        let description = description.into();
        let subject = Subject { kind: Kind::Timer, description, created_at, is_passive: true };
        Timer::new(Registration::new(&self.registry, subject), time)
    }

    /// What was counted so far, and what is there, as of one moment.
    pub fn stats(&self) -> Stats {
        self.registry.stats()
    }

    /// Everything that is there, the oldest first.
    pub fn resources(&self) -> Vec<Resource> {
        self.registry.resources()
    }

    /// Everything that is there for at least so long, the oldest first, with where it was created.
    pub fn overdue(&self, age: Duration) -> LeakReport {
        self.registry.overdue(age)
    }

    /// Every move of every run from one state to the next, from now on, also of those that are refused or cannot be started.
    pub fn transitions(&self) -> Transitions {
        self.registry.transitions()
    }

    /// Ends everything that is there, and refuses to start anything from now on: a start is
    /// [`StartError::ShutDown`](crate::StartError::ShutDown), for ever. It begins with this call, not with the first poll,
    /// and goes on if the future is dropped.
    ///
    /// First come the processes, then the streams, the tasks, the timers and the signal handlers. Processes have six tenths
    /// of `time`: they are asked to end, as by a cancel, and killed when their grace or four tenths of `time` are over. Each
    /// further kind has a tenth, and what those before it have left. A stream ends with its process; a task is aborted; a
    /// timer rings; whoever [registered](Self::register) itself is asked to end, and called if it wanted to be.
    ///
    /// Whoever is still there when its bound is over has failed, and is named among the errors, with everything else that
    /// went wrong; then it is the next kind's turn. It may be called again, and at the same time as anything else: each
    /// call tells of those that it found, and nobody is asked twice, but for one with less time, which kills sooner.
    ///
    /// It is done by a thread of its own. Where none can be had, this call does it, and blocks as
    /// [`shutdown_blocking`](Self::shutdown_blocking) does. A task that is on the registry must not wait for it: it is aborted
    /// meanwhile, and whoever waits for that task hears nothing of the report.
    pub fn shutdown(&self, time: Duration) -> impl Future<Output = Shutdown> + Send + use<> {
        let (say, said) = oneshot::channel();
        shutdown::begin(&self.registry, time, |report| {
            // Nobody may wait for it any more.
            let _ = say.send(report);
        });
        async { said.await.expect("whoever does it says so at its end") }
    }

    /// As [`shutdown`](Self::shutdown), and blocks the calling thread for it; for where there is no runtime. The
    /// runtime that the tasks are on must have another thread, or none of them can end; neither can a task that calls
    /// this.
    pub fn shutdown_blocking(&self, time: Duration) -> Shutdown {
        shutdown::now(&self.registry, time)
    }
}

impl fmt::Debug for Minder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Minder").finish_non_exhaustive()
    }
}
