//! The subject: a wrapper with what is needed to drive it.
//!
//! A wrapper written in Rust implements [`Subject`]; a command is driven by a template and needs no code. Either way
//! the wrapper lives in a host process of its own, never in the harness's process.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fake_cli::content::{Content, Output};
use fake_cli::span::Span;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::promises::Promises;
use crate::scenario::Limits;
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
    task: Task,
    cancels: Cancels,
    asked: Asked,
    requests: mpsc::UnboundedReceiver<()>,
}

impl Job {
    /// The program to start, by absolute path; it takes no arguments.
    pub fn program(&self) -> &Path {
        &self.task.program
    }

    /// Stop the child after this time.
    pub fn timeout(&self) -> Option<Duration> {
        self.task.limits.timeout.map(Span::get)
    }

    /// Time between asking and killing.
    pub fn grace(&self) -> Option<Duration> {
        self.task.limits.grace.map(Span::get)
    }

    /// How long to wait for output that a process out of reach holds open.
    pub fn drain(&self) -> Option<Duration> {
        self.task.limits.drain.map(Span::get)
    }

    /// What the child is to read from its standard input, up to its end. Nothing: whatever the wrapper gives a child by
    /// itself. Only a wrapper that promises to feed its child is asked for it.
    pub fn input(&self) -> Option<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.task.input?).ok()?];
        fake_cli::content::fill(Content::Records, Output::Stdout, 0, &mut bytes);
        Some(bytes)
    }

    /// Answers whoever asks for the outcome again once the run has ended, for a wrapper that promises that its users can. To be
    /// called at the end of [`Subject::run`]; kept only if the case does ask.
    pub fn answer_again<F>(&self, mut answer: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        if self.task.asks_again {
            let answer: Answering = Box::new(move || Box::pin(answer()));
            *self.asked.answering.lock().expect("no holder of this lock panics") = Some(answer);
        }
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

    pub(crate) fn new(task: Task) -> (Self, Cancels, Asked) {
        let (sender, requests) = mpsc::unbounded_channel();
        let cancels = Cancels { sender, hooked: Arc::default() };
        let asked = Asked::default();
        (Self { task, cancels: cancels.clone(), asked: asked.clone(), requests }, cancels, asked)
    }
}

/// What is to be run, as the harness tells the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// What to start, without arguments.
    pub program: PathBuf,
    /// The limits to ask the wrapper for.
    pub limits: Limits,
    /// How many bytes to write to the child.
    pub input: Option<u64>,
    /// Whether the outcome will be asked for again.
    pub asks_again: bool,
}

type OutcomeLater = Pin<Box<dyn Future<Output = Outcome> + Send>>;
type Answering = Box<dyn FnMut() -> OutcomeLater + Send>;

/// The caller's end of a job that has ended: where its outcome is asked for again.
#[derive(Clone, Default)]
pub(crate) struct Asked {
    answering: Arc<Mutex<Option<Answering>>>,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Asked")
    }
}

impl Asked {
    /// The outcome, asked for again; nothing where the wrapper has no such thing.
    pub(crate) fn ask(&self) -> Option<OutcomeLater> {
        Some(self.answering.lock().expect("no holder of this lock panics").as_mut()?())
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
    use crate::trace::Reason;

    fn task(asks_again: bool) -> Task {
        Task { program: PathBuf::from("/bin/true"), limits: Limits::default(), input: Some(100), asks_again }
    }

    #[test]
    fn an_answer_is_kept_only_for_a_case_that_asks_again() {
        for asks_again in [false, true] {
            let (job, _, asked) = Job::new(task(asks_again));
            assert!(asked.ask().is_none(), "nobody answers yet");
            job.answer_again(|| async {
                Outcome { reason: Reason::Itself, status: None, stdout: None, stderr: None }
            });
            assert_eq!(asked.ask().is_some(), asks_again);
            assert_eq!(asked.ask().is_some(), asks_again, "again and again");
            assert_eq!(job.input().map(|bytes| bytes.len()), Some(100));
        }
    }

    #[test]
    fn a_cancel_that_comes_before_the_hook_is_not_lost() {
        let (job, cancels, _) = Job::new(task(false));
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
