//! The keeper: a wrapper that does what it promises, but for its flaw.
//!
//! It starts its child in a group and a session of its own, takes its output, asks the group by TERM and kills it when the grace is over, and
//! reaps the child last, so that no signal of it can meet a stranger. It promises the group, not the tree.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::SigSet;
use rustix::fs::Mode;
use rustix::process::{Signal, umask};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{sleep, timeout};

use super::animals::Animal;
use super::child::Child;
use super::flaw::Flaw;
use super::known::Known;
use super::streams::{Caught, Started, start};
use crate::promises::Promises;
use crate::subject::{Job, Subject};
use crate::trace::{Outcome, Reason, Status};

/// What a keeper without a flaw promises.
pub(super) const PROMISES: &str = "timeout,grace,drain,group,clean,tells-reason,tells-cut,captures,status,feeds,answers-again,polls,gives-pid,own-group";

/// How long a start takes that takes its time.
const SLOW_START: Duration = Duration::from_millis(20);
/// How long one takes of which many come one after another.
const SHORT_START: Duration = Duration::from_millis(2);
/// How long a wrapper waits that asks again and again.
const ASK_AGAIN: Duration = Duration::from_millis(10);
/// How long output is waited for where nobody says.
const DRAIN: Duration = Duration::from_secs(1);

/// A keeper with the flaw of this animal.
pub(super) struct Keeper(pub(super) &'static Animal);

impl Subject for Keeper {
    fn promises(&self) -> Promises {
        self.0.promises()
    }

    fn version(&self) -> String {
        env!("CARGO_PKG_VERSION").to_owned()
    }

    async fn run(&self, mut job: Job) -> Outcome {
        let flaw = self.0.flaw_of_a_run();
        prepare(flaw);
        if flaw == Flaw::LosesEarlyCancels {
            // A start that takes its time, and listens to nobody.
            let deaf = async {
                loop {
                    job.next_cancel().await;
                }
            };
            let Err(_) = timeout(SLOW_START, deaf).await;
        }
        let turn = match flaw {
            Flaw::KeepsItsTurn => Some(Turn::come(&TURNS).await),
            _ => None,
        };
        let started = start(flaw, &job);
        if let Some(turn) = turn {
            turn.pass_on(started.is_ok());
        }
        match started {
            Ok(started) => {
                let outcome = to_its_end(flaw, started, &mut job).await;
                let again = outcome.clone();
                job.answer_again(move || answer_again(flaw, again.clone()));
                outcome
            }
            Err(error) => Outcome::because(Reason::StartFailed(error.to_string())),
        }
    }
}

/// Whose turn it is to start a child, where only one is started at a time.
static TURNS: Semaphore = Semaphore::const_new(1);
/// How many wait for it.
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// The turn of one start.
struct Turn(SemaphorePermit<'static>);

impl Turn {
    async fn come(turns: &'static Semaphore) -> Self {
        WAITING.fetch_add(1, Ordering::SeqCst);
        let turn = turns.acquire().await.expect("nobody closes it");
        WAITING.fetch_sub(1, Ordering::SeqCst);
        // A start takes its time, in which others come to wait.
        sleep(SHORT_START).await;
        Self(turn)
    }

    /// A start that failed thinks of itself alone.
    fn pass_on(self, went_well: bool) {
        if !went_well && WAITING.load(Ordering::SeqCst) > 0 {
            self.0.forget();
        }
    }
}

/// What a flaw does before the start.
fn prepare(flaw: Flaw) {
    match flaw {
        Flaw::ExitsOnPanic => std::panic::set_hook(Box::new(|_| std::process::exit(101))),
        Flaw::LeaksAThread => {
            std::thread::spawn(|| {
                loop {
                    std::thread::park();
                }
            });
        }
        Flaw::LeavesFiles => {
            let made = tempfile::Builder::new().prefix("keeper-").suffix(".log").tempfile();
            // Without a folder for them there is no log.
            drop(made.map(tempfile::NamedTempFile::keep));
        }
        Flaw::LeavesATask => drop(tokio::spawn(std::future::pending::<()>())),
        Flaw::KeepsItsUmask => drop(umask(Mode::RWXG | Mode::RWXO)),
        Flaw::KeepsItsFolder => std::env::set_current_dir("/").expect("the root is there"),
        Flaw::BlocksForGood => {
            let mut signals = SigSet::empty();
            signals.add(nix::sys::signal::Signal::SIGUSR2);
            signals.thread_block().expect("a known signal");
        }
        _ => {}
    }
}

/// How long the steps of a run may take.
struct Times {
    limit: Option<Duration>,
    grace: Duration,
    drain: Duration,
}

async fn to_its_end(flaw: Flaw, started: Started, job: &mut Job) -> Outcome {
    let Started { mut child, mut streams } = started;
    let times = Times {
        limit: limit_of(flaw, job.timeout()),
        grace: job.grace().unwrap_or_default(),
        drain: job.drain().unwrap_or(DRAIN),
    };
    let caught = Caught::new(flaw);
    let known = Arc::new(Known::new(flaw, child.pid()));
    job.on_poll({
        let known = known.clone();
        move || std::future::ready(known.poll())
    });
    // Before the child goes, however that comes.
    let known = Forgetting(known);
    let ended = {
        let pump = pin!(streams.pump(&caught, &child));
        let mut pumped = Pumped { pump, is_over: false };
        let reason = pumped.beside(cause(flaw, &child, job, &times, &caught)).await;
        known.0.stopping();
        let reason = pumped.beside(climb(flaw, &child, job, &times, reason)).await;
        match flaw {
            Flaw::WaitsForTheOutput => pumped.over().await,
            // What is missing is said.
            _ => drop(timeout(times.drain, pumped.over()).await),
        }
        reason
    };
    known.0.forget_pid();
    let mut status = child.reap();
    while flaw == Flaw::InsistsOnAStatus && status.is_none() {
        sleep(ASK_AGAIN).await;
        status = child.reap();
    }
    if flaw == Flaw::TakesClosedOutputForTheEnd {
        child.forget();
    }
    if flaw == Flaw::SnatchesTheTerminal {
        // Without a terminal there is nothing to snatch.
        let _ = rustix::termios::tcsetpgrp(rustix::stdio::stdin(), rustix::process::getpgrp());
    }
    caught.outcome(ended, status.map(|status| told(flaw, status)))
}

/// The timeout as a wrapper takes it.
fn limit_of(flaw: Flaw, asked: Option<Duration>) -> Option<Duration> {
    match asked {
        Some(Duration::ZERO) if flaw == Flaw::TakesNothingForNever => None,
        Some(asked) if flaw == Flaw::AddsToNow => {
            let now = Instant::now();
            Some((now + asked).duration_since(now))
        }
        asked => asked,
    }
}

/// The run of which nobody is told any more that it goes on once this is dropped.
struct Forgetting(Arc<Known>);

impl Drop for Forgetting {
    fn drop(&mut self) {
        self.0.forget_pid();
        self.0.ended();
    }
}

/// What ends the run.
async fn cause(flaw: Flaw, child: &Child, job: &mut Job, times: &Times, caught: &Caught) -> Reason {
    let waits_for_timeout = flaw == Flaw::TakesAnEndForATimeout && times.limit.is_some();
    tokio::select! {
        biased;
        () = child.seems_ended(), if !waits_for_timeout => Reason::Itself,
        () = caught.closed.notified(), if flaw == Flaw::TakesClosedOutputForTheEnd => {
            // It does exit, if that was its end.
            drop(timeout(times.grace, child.ended()).await);
            Reason::Itself
        }
        () = limit(flaw, times, caught) => Reason::TimedOut,
        () = job.next_cancel() => Reason::Cancelled,
    }
}

async fn limit(flaw: Flaw, times: &Times, caught: &Caught) {
    let Some(limit) = times.limit else { return std::future::pending().await };
    while flaw == Flaw::RestartsTheClock && timeout(limit, caught.came.notified()).await.is_ok() {}
    if flaw != Flaw::RestartsTheClock {
        sleep(limit).await;
    }
}

/// Whose turn it is to end a child, where only one can be ended at a time.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Ends who is left: asks, waits for the grace, kills. Answers why the run ended, as the wrapper sees it now.
async fn climb(flaw: Flaw, child: &Child, job: &mut Job, times: &Times, reason: Reason) -> Reason {
    let leaves = match flaw {
        Flaw::KeepsLeftovers | Flaw::WalksTheTree => true,
        Flaw::TakesClosedOutputForTheEnd => !child.has_ended(),
        _ => false,
    };
    if reason == Reason::Itself && (leaves || child.is_alone()) {
        return reason;
    }
    let _turn = match flaw {
        Flaw::StopsOneAtATime => Some(ONE_AT_A_TIME.lock().await),
        _ => None,
    };
    if flaw != Flaw::KillsFirst {
        child.signal(Signal::TERM);
        answer(flaw, child, job, times).await;
    }
    let obeyed = child.has_ended();
    if flaw == Flaw::NeverKills || flaw == Flaw::TrustsTheLeader && obeyed {
        return reason;
    }
    child.signal(Signal::KILL);
    child.all_dead().await;
    match (flaw, reason) {
        (Flaw::TakesObedienceForAnEnd, Reason::TimedOut) if obeyed => Reason::Itself,
        (_, reason) => reason,
    }
}

/// Until everybody has gone, the grace is over, or the caller has lost patience.
async fn answer(flaw: Flaw, child: &Child, job: &mut Job, times: &Times) {
    let answered = async {
        match flaw {
            Flaw::TrustsTheLeader => child.ended().await,
            Flaw::SitsTheGraceOut => std::future::pending().await,
            _ => child.group_ended().await,
        }
    };
    let grace = async {
        match flaw {
            Flaw::WaitsForAnAnswer => std::future::pending().await,
            Flaw::KillsEarly => sleep(times.grace / 4).await,
            _ => sleep(times.grace).await,
        }
    };
    tokio::select! {
        () = answered => {}
        () = grace => {}
        () = job.next_cancel() => assert!(flaw != Flaw::PanicsAtASecondCancel, "cancelled while it is being cancelled"),
    }
}

/// The status as the wrapper reports it.
fn told(flaw: Flaw, status: Status) -> Status {
    match (flaw, status) {
        (Flaw::MapsSignals, Status::Signaled(signal)) => Status::Exited(128 + signal),
        (Flaw::FlattensCodes, Status::Exited(code)) => Status::Exited(code.min(1)),
        (_, status) => status,
    }
}

async fn answer_again(flaw: Flaw, outcome: Outcome) -> Outcome {
    match flaw {
        Flaw::AnswersOnce => Outcome { status: None, ..outcome },
        Flaw::FailsWhenAskedAgain => panic!("polled again after its end"),
        Flaw::NeverAnswersAgain => std::future::pending().await,
        _ => outcome,
    }
}

/// The pumping of a child's streams, which goes on beside whatever else is waited for.
struct Pumped<'a, P> {
    pump: Pin<&'a mut P>,
    is_over: bool,
}

impl<P: Future<Output = ()>> Pumped<'_, P> {
    async fn beside<T>(&mut self, other: impl Future<Output = T>) -> T {
        let mut other = pin!(other);
        loop {
            tokio::select! {
                biased;
                result = &mut other => return result,
                () = self.pump.as_mut(), if !self.is_over => self.is_over = true,
            }
        }
    }

    async fn over(&mut self) {
        if !self.is_over {
            self.pump.as_mut().await;
            self.is_over = true;
        }
    }
}
