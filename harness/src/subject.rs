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
use tokio::sync::{mpsc, watch};

use crate::promises::Promises;
use crate::scenario::{LARGEST_TIMEOUT, Limits};
use crate::trace::{Outcome, Polled};

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
    given: Giving,
    requests: mpsc::UnboundedReceiver<()>,
}

impl Job {
    /// The program to start, by absolute path; it takes no arguments.
    pub fn program(&self) -> &Path {
        &self.task.program
    }

    /// Stop the child after this time, which may be zero or the largest number there is.
    pub fn timeout(&self) -> Option<Duration> {
        let largest = |timeout: &Span| *timeout == LARGEST_TIMEOUT;
        self.task.limits.timeout.map(|timeout| if largest(&timeout) { Duration::MAX } else { timeout.get() })
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
    /// each that came before this call. It may block; two of them may be under way.
    pub fn on_cancel(&self, cancel: impl Fn() + Send + Sync + 'static) {
        self.cancels.hook(Arc::new(cancel));
    }

    /// Whether the caller writes to the child while it runs, by [`Self::on_write`], and closes its input, by
    /// [`Self::on_close_stdin`]. Only a wrapper that promises that its users can is asked for it.
    pub fn writes(&self) -> bool {
        self.task.writes
    }

    /// Calls `write` for each write of the caller to the child's standard input, from whichever thread the caller is on. The
    /// future ends when the bytes are written or cannot be.
    pub fn on_write<F>(&self, write: impl Fn(Vec<u8>) -> F + Send + Sync + 'static)
    where
        F: Future<Output = std::io::Result<()>> + Send + 'static,
    {
        self.given.write.send_replace(Some(Arc::new(move |bytes| Box::pin(write(bytes)))));
    }

    /// Calls `close` when the caller closes the child's standard input.
    pub fn on_close_stdin<F>(&self, close: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.given.close_stdin.send_replace(Some(Arc::new(move || Box::pin(close()))));
    }

    /// Calls `poll` whenever the caller asks for the state of the run, from whichever thread the caller is on, also after the run
    /// has ended. To be called as soon as there is a run to ask; a caller who comes sooner waits for that.
    pub fn on_poll<F>(&self, poll: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = Polled> + Send + 'static,
    {
        self.given.poll.send_replace(Some(Arc::new(move || Box::pin(poll()))));
    }

    pub(crate) fn new(task: Task) -> (Self, Caller) {
        let (sender, requests) = mpsc::unbounded_channel();
        let cancels = Cancels { sender, hooked: Arc::default() };
        let asked = Asked::default();
        let given = Giving::default();
        let taken = given.taken();
        let caller = Caller { cancels: cancels.clone(), asked: asked.clone(), given: taken };
        (Self { task, cancels, asked, given, requests }, caller)
    }
}

/// The caller's end of a job.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) cancels: Cancels,
    pub(crate) asked: Asked,
    pub(crate) given: Given,
}

type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type HookedCall<T> = Option<Arc<dyn Fn() -> Later<T> + Send + Sync>>;
type HookedWrite = Option<Arc<dyn Fn(Vec<u8>) -> Later<std::io::Result<()>> + Send + Sync>>;

/// What a subject gives its caller as soon as it has it.
#[derive(Default)]
struct Giving {
    poll: watch::Sender<HookedCall<Polled>>,
    write: watch::Sender<HookedWrite>,
    close_stdin: watch::Sender<HookedCall<()>>,
}

impl std::fmt::Debug for Giving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Giving")
    }
}

impl Giving {
    fn taken(&self) -> Given {
        Given {
            poll: self.poll.subscribe(),
            write: self.write.subscribe(),
            close_stdin: self.close_stdin.subscribe(),
        }
    }
}

/// What a caller was given by a subject. Whoever asks before that waits for it, and nobody waits once the job is gone.
#[derive(Clone)]
pub(crate) struct Given {
    poll: watch::Receiver<HookedCall<Polled>>,
    write: watch::Receiver<HookedWrite>,
    close_stdin: watch::Receiver<HookedCall<()>>,
}

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Given")
    }
}

impl Given {
    /// The state of the run; nothing if the job is gone and gave no way to ask.
    pub(crate) async fn poll(mut self) -> Option<Polled> {
        let poll = self.poll.wait_for(Option::is_some).await.ok()?.clone()?;
        Some(poll().await)
    }

    /// Writes to the child; nothing if the job is gone and gave no way to write.
    pub(crate) async fn write(mut self, bytes: Vec<u8>) -> Option<std::io::Result<()>> {
        let write = self.write.wait_for(Option::is_some).await.ok()?.clone()?;
        Some(write(bytes).await)
    }

    /// Closes the child's input; nothing if the job is gone and gave no way to close it.
    pub(crate) async fn close_stdin(mut self) -> Option<()> {
        let close = self.close_stdin.wait_for(Option::is_some).await.ok()?.clone()?;
        close().await;
        Some(())
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
    /// Whether the caller writes to the child while it runs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub writes: bool,
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

    /// Whether a cancel calls something of the wrapper's, which may block.
    pub(crate) fn are_hooked(&self) -> bool {
        self.hooked.lock().expect("no holder of this lock panics").hook.is_some()
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

impl SubjectSpec {
    /// The subject of this name in this executable, which is its host.
    pub fn here(name: &str) -> Self {
        Self { name: name.to_owned(), drive: Drive::Reentry { subject: name.to_owned() } }
    }
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
        let (program, limits) = (PathBuf::from("/bin/true"), Limits::default());
        Task { program, limits, input: Some(100), writes: false, asks_again }
    }

    #[test]
    fn an_answer_is_kept_only_for_a_case_that_asks_again() {
        for asks_again in [false, true] {
            let (job, Caller { asked, .. }) = Job::new(task(asks_again));
            assert!(asked.ask().is_none(), "nobody answers yet");
            job.answer_again(|| async {
                Outcome { reason: Reason::Itself, status: None, stdout: None, stderr: None }
            });
            assert_eq!(asked.ask().is_some(), asks_again);
            assert_eq!(asked.ask().is_some(), asks_again, "again and again");
            assert_eq!(job.input().map(|bytes| bytes.len()), Some(100));
        }
    }

    #[tokio::test]
    async fn who_asks_for_the_state_waits_until_there_is_a_run_to_ask_and_no_longer_than_the_job() {
        use crate::trace::RunState;
        let polled = Polled { state: RunState::Running, pid: None };
        let (job, Caller { given, .. }) = Job::new(task(false));
        let early = tokio::spawn(given.clone().poll());
        job.on_poll(move || std::future::ready(polled));
        assert_eq!(early.await.unwrap(), Some(polled));
        drop(job);
        assert_eq!(given.clone().poll().await, Some(polled), "also when the run has ended");
        assert!(given.close_stdin().await.is_none(), "nobody gave a way to do that");
    }

    #[test]
    fn a_cancel_that_comes_before_the_hook_is_not_lost() {
        let (job, Caller { cancels, .. }) = Job::new(task(false));
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
