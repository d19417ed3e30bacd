//! The subject: a wrapper with what is needed to drive it.
//!
//! A wrapper written in Rust implements [`Subject`]; a command is driven by a template and needs no code. Either way
//! the wrapper lives in a host process of its own, never in the harness's process.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::promises::Promises;
use crate::trace::Outcome;

/// A wrapper written in Rust.
///
/// ```
/// use headcount::promises::{Keeps, Promises};
/// use headcount::subject::{Job, Subject};
/// use headcount::trace::{Outcome, Reason};
///
/// struct Mine;
///
/// impl Subject for Mine {
///     fn promises(&self) -> Promises {
///         Promises { timeout: Keeps::AsAsked, tells_reason: true, ..Promises::default() }
///     }
///
///     async fn run(&self, mut job: Job) -> Outcome {
///         // Start `job.program()` with the wrapper here, and stop it when `job.next_cancel()` comes.
///         job.next_cancel().await;
///         Outcome { reason: Reason::Cancelled, status: None, stdout: None, stderr: None }
///     }
/// }
/// ```
pub trait Subject: Send + Sync + 'static {
    /// What the wrapper promises and what its API can express.
    fn promises(&self) -> Promises;

    /// The version of the wrapper, for reports.
    fn version(&self) -> String {
        String::new()
    }

    /// Runs the child to its end as the wrapper's users would: [`Job::program`] without arguments, within the limits, stopped
    /// when a cancel comes. The op `drop` drops this future.
    fn run(&self, job: Job) -> impl Future<Output = Outcome> + Send;
}

/// What a subject is asked to run.
#[derive(Debug)]
pub struct Job {
    program: PathBuf,
    timeout: Option<Duration>,
    grace: Option<Duration>,
    drain: Option<Duration>,
    cancels: Cancels,
    requests: mpsc::UnboundedReceiver<()>,
}

impl Job {
    /// The program to start, by absolute path; it takes no arguments.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Stop the child after this time.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Time between asking and killing.
    pub fn grace(&self) -> Option<Duration> {
        self.grace
    }

    /// How long to wait for output that a process out of reach holds open.
    pub fn drain(&self) -> Option<Duration> {
        self.drain
    }

    /// Waits for the next cancel of the caller; each one is given once. Use this or [`Self::on_cancel`]. Safe to drop.
    pub async fn next_cancel(&mut self) {
        match self.requests.recv().await {
            Some(()) => {}
            // Nobody can cancel any more.
            None => std::future::pending().await,
        }
    }

    /// Calls `cancel` at each cancel of the caller, from a thread of the host, also after the run has ended; and at once for
    /// each that came before this call.
    pub fn on_cancel(&self, cancel: impl Fn() + Send + Sync + 'static) {
        self.cancels.hook(Arc::new(cancel));
    }

    pub(crate) fn new(
        program: PathBuf,
        timeout: Option<Duration>,
        grace: Option<Duration>,
        drain: Option<Duration>,
    ) -> (Self, Cancels) {
        let (sender, requests) = mpsc::unbounded_channel();
        let cancels = Cancels { sender, hooked: Arc::default() };
        (Self { program, timeout, grace, drain, cancels: cancels.clone(), requests }, cancels)
    }
}

type Hook = Arc<dyn Fn() + Send + Sync>;

/// The caller's end of a job: where its cancels are given.
#[derive(Clone)]
pub(crate) struct Cancels {
    sender: mpsc::UnboundedSender<()>,
    hooked: Arc<Mutex<Hooked>>,
}

#[derive(Default)]
struct Hooked {
    hook: Option<Hook>,
    /// Cancels that came before there was a hook.
    early: u32,
}

impl std::fmt::Debug for Cancels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cancels")
    }
}

impl Cancels {
    /// A cancel that came before the hook is not lost: the caller of a wrapper may be that quick.
    fn hook(&self, hook: Hook) {
        let early = {
            let mut hooked = self.hooked.lock().expect("no holder of this lock panics");
            hooked.hook = Some(hook.clone());
            std::mem::take(&mut hooked.early)
        };
        (0..early).for_each(|_| hook());
    }

    /// Cancels once.
    pub(crate) fn cancel(&self) {
        let hook = {
            let mut hooked = self.hooked.lock().expect("no holder of this lock panics");
            hooked.early += u32::from(hooked.hook.is_none());
            hooked.hook.clone()
        };
        match hook {
            Some(hook) => hook(),
            // The job may be gone: a cancel after the end has no one to go to, which is its meaning.
            None => drop(self.sender.send(())),
        }
    }
}

/// [`Subject`] as an object.
pub(crate) trait DynSubject: Send + Sync + 'static {
    fn promises(&self) -> Promises;
    fn version(&self) -> String;
    fn run(self: Arc<Self>, job: Job) -> Pin<Box<dyn Future<Output = Outcome> + Send>>;
}

impl<S: Subject> DynSubject for S {
    fn promises(&self) -> Promises {
        Subject::promises(self)
    }

    fn version(&self) -> String {
        Subject::version(self)
    }

    fn run(self: Arc<Self>, job: Job) -> Pin<Box<dyn Future<Output = Outcome> + Send>> {
        Box::pin(async move { Subject::run(&*self, job).await })
    }
}

/// A subject as the harness is told of it: what to start and how to drive it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubjectSpec {
    /// Its name, as `--subject` takes it and reports write it.
    pub name: String,
    /// How it is driven.
    pub drive: Drive,
}

/// How a subject is driven.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Drive {
    /// This executable itself, re-entered as a host; the subject of this name speaks the protocol of [`crate::host`].
    Reentry {
        /// Which subject of this executable.
        subject: String,
    },
    /// A command that is the host itself: a fresh one for each run.
    Template {
        /// The command's words; `{fake}` in them, also inside a word, is replaced by the fake's path.
        words: Vec<String>,
        /// What it promises.
        promises: Promises,
        /// Its version, where known.
        version: String,
        /// Put the fake on `PATH` under this name instead.
        fake_as: Option<String>,
    },
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn a_cancel_that_comes_before_the_hook_is_not_lost() {
        let (job, cancels) = Job::new(PathBuf::from("/bin/true"), None, None, None);
        let count = Arc::new(AtomicU32::new(0));
        cancels.cancel();
        cancels.cancel();
        job.on_cancel({
            let count = count.clone();
            move || {
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        assert_eq!(count.load(Ordering::Relaxed), 2);
        cancels.cancel();
        assert_eq!(count.load(Ordering::Relaxed), 3);
    }
}
