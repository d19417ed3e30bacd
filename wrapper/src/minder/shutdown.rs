//! How everything on the table comes to its end: kind by kind, each within a bound of its own.
//!
//! It is done by a thread, and needs no runtime, no poll and nobody who waits for it.

use std::fmt;
use std::io;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::registration::{Closer, Entry, call};
use super::registry::{Part, Registry, Tracked};
use super::resource::{Kind, Resource, Totals};
use crate::run::Common;
use crate::supervise::{Key, Wish};

/// What a shutdown has done. See [`Minder::shutdown`](crate::Minder::shutdown).
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Shutdown {
    /// Who was there when it came to their kind, and has ended as it should.
    pub cleaned: Totals,
    /// Who was there when it came to their kind, and was still there when its bound was over, or has ended in another way
    /// than it should. Each of them is among the errors.
    pub failed: Totals,
    /// What went wrong, in the order in which it did. One who failed may be here several times; one whose closer failed
    /// and who ended all the same is here and has not failed.
    pub errors: Vec<ShutdownError>,
}

impl Shutdown {
    /// Whether everybody has ended and nothing went wrong.
    pub fn is_clean(&self) -> bool {
        self.failed.all() == 0 && self.errors.is_empty()
    }
}

impl fmt::Display for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cleaned, {} failed", self.cleaned.all(), self.failed.all())?;
        self.errors.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

/// One thing that went wrong during a shutdown.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ShutdownError {
    /// With whom.
    pub resource: Resource,
    /// What.
    pub why: String,
}

impl fmt::Display for ShutdownError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.resource, self.why.escape_debug())
    }
}

impl std::error::Error for ShutdownError {}

/// When a kind's bound is over, in tenths of the whole time. Nobody gets less than it has here, and all get what those
/// before them left.
fn tenths(kind: Kind) -> u32 {
    match kind {
        Kind::Process => 6,
        Kind::Stream => 7,
        Kind::Task => 8,
        Kind::Timer => 9,
        Kind::SignalHandler => 10,
    }
}

/// When runs that were asked are killed: late enough for their grace, and early enough that the kill can be seen to.
const URGE_TENTHS: u32 = 4;

/// Has the table emptied. Sends what was done.
pub(super) fn begin(registry: &Arc<Registry>, time: Duration, done: impl FnOnce(Shutdown) + Send + 'static) {
    // At once, so that nothing is started any more when this returns.
    registry.close();
    let from = Instant::now();
    let mine = Arc::clone(registry);
    // So that it can be had back.
    let (hand_over, take_over) = channel();
    let thread = thread::Builder::new().name("childminder-end".into()).spawn(move || {
        if let Ok(done) = take_over.recv() {
            let done: Box<dyn FnOnce(Shutdown) + Send> = done;
            done(shut_down(&mine, from, time));
        }
    });
    let done: Box<dyn FnOnce(Shutdown) + Send> = Box::new(done);
    match thread {
        Ok(_) => _ = hand_over.send(done),
        // Better late than never: the caller has to wait for it, no longer than it said.
        Err(_) => done(shut_down(registry, from, time)),
    }
}

/// As [`begin`], by the calling thread.
pub(super) fn now(registry: &Arc<Registry>, time: Duration) -> Shutdown {
    registry.close();
    shut_down(registry, Instant::now(), time)
}

fn shut_down(registry: &Registry, from: Instant, time: Duration) -> Shutdown {
    // Too far away for the clock is as good as a year.
    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    let time = time.min(YEAR);
    let mut report = Shutdown::default();
    for kind in Kind::ALL {
        let those: Vec<_> = registry.tracked().into_iter().flat_map(|one| One::all_of(one, kind)).collect();
        end(registry, &those, &Turn::of(kind, from, time), &mut report.errors);
        take_stock(registry, &those, &mut report);
    }
    report
}

/// A resource of the kind that it is the turn of.
struct One {
    key: Key,
    /// Which of its run, if it belongs to one.
    part: Option<Part>,
    resource: Resource,
    who: Who,
}

#[derive(Clone)]
enum Who {
    Run(Arc<Common>),
    Other(Arc<Entry>),
}

impl One {
    fn all_of(tracked: Tracked, kind: Kind) -> impl Iterator<Item = Self> {
        let resources = tracked.resources();
        let (key, who) = match tracked {
            Tracked::Run(common, _) => (common.entry.key(), Who::Run(common)),
            Tracked::Other(entry) => (entry.key, Who::Other(entry)),
        };
        let of_kind = resources.into_iter().filter(move |(_, resource)| resource.kind == kind);
        of_kind.map(move |(part, resource)| Self { key, part, resource, who: who.clone() })
    }

    fn error(&self, why: impl Into<String>) -> ShutdownError {
        ShutdownError { resource: self.resource.clone(), why: why.into() }
    }

    /// What is wrong with how it has ended, if anything is.
    fn failure(&self, registry: &Registry) -> Option<&'static str> {
        if registry.has(self.key, self.resource.kind, self.part) {
            return Some("it was still there when its bound was over");
        }
        match &self.who {
            Who::Run(common) if self.resource.kind == Kind::Process => common
                .may_have_left_somebody()
                .then_some("it has ended, and whether nobody is left of it is not known"),
            Who::Run(_) | Who::Other(_) => None,
        }
    }
}

fn keys(those: &[One]) -> Vec<Key> {
    those.iter().map(|one| one.key).collect()
}

/// When it is whose turn.
struct Turn {
    kind: Kind,
    /// From then on those who are asked have no more time.
    urge_at: Instant,
    until: Instant,
}

impl Turn {
    fn of(kind: Kind, from: Instant, time: Duration) -> Self {
        let at = |tenths| from + time * tenths / 10;
        let until = at(tenths(kind));
        Self { kind, urge_at: if kind == Kind::Process { at(URGE_TENTHS) } else { until }, until }
    }
}

/// Has all of a kind end.
fn end(registry: &Registry, those: &[One], turn: &Turn, errors: &mut Vec<ShutdownError>) {
    let Turn { kind, urge_at, until } = *turn;
    // What belongs to a run when it is not the turn of runs any more need not wait for anybody out of reach.
    ask(those, if kind == Kind::Process { Wish::ShutDown } else { Wish::ShutDownNow });
    for one in those {
        match &one.who {
            Who::Run(common) if kind == Kind::Stream => common.close_stdin(),
            Who::Run(_) => {}
            Who::Other(entry) => {
                entry.tell();
                if entry.is_passive() {
                    registry.forget(entry.key);
                }
            }
        }
    }
    let closing = Closing::begin(those);
    registry.wait_until_gone(keys(those), kind, urge_at);
    if kind == Kind::Process {
        ask(those, Wish::ShutDownNow);
        registry.wait_until_gone(keys(those), kind, until);
    }
    closing.hear(those, until, errors);
}

fn ask(those: &[One], wish: Wish) {
    for one in those {
        if let Who::Run(common) = &one.who {
            common.entry.ask(wish);
        }
    }
}

/// Closers at most that are called at the same time. If so many block, the others do not get their turn.
const MOST_AT_A_TIME: usize = 16;

/// The closers of a kind on their way. They are somebody else's code and may block, so they have threads of their own.
struct Closing {
    /// The places of those that have one, among all of their kind.
    places: Vec<usize>,
    /// What each of them said.
    said: Receiver<(usize, Result<(), String>)>,
    lack: Option<io::Error>,
}

impl Closing {
    fn begin(those: &[One]) -> Self {
        let mut closers = Vec::new();
        for (place, one) in those.iter().enumerate() {
            if let Who::Other(entry) = &one.who {
                closers.extend(entry.take_closer().map(|closer| (place, closer)));
            }
        }
        let places: Vec<_> = closers.iter().map(|(place, _)| *place).collect();
        let workers = closers.len().min(MOST_AT_A_TIME);
        let (say, said) = channel();
        let queue = Arc::new(Mutex::new(closers.into_iter()));
        let mut lack = None;
        for _ in 0..workers {
            let (queue, say) = (Arc::clone(&queue), say.clone());
            let work = move || {
                // Bound first, so that the lock is not held while the closer runs.
                while let Some((place, closer)) = next(&queue) {
                    // Nobody may listen any more.
                    let _ = say.send((place, call(closer)));
                }
            };
            let worker = thread::Builder::new().name("childminder-close".into()).spawn(work);
            lack = worker.err().or(lack);
        }
        Self { places, said, lack }
    }

    /// Hears what they say, for no longer than `until`.
    fn hear(mut self, those: &[One], until: Instant, errors: &mut Vec<ShutdownError>) {
        while !self.places.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            let Ok((place, result)) = self.said.recv_timeout(left) else { break };
            self.places.retain(|other| *other != place);
            errors.extend(result.err().map(|why| those[place].error(why)));
        }
        for place in self.places {
            errors.push(those[place].error(match &self.lack {
                Some(lack) => {
                    format!("its closer was not called or did not return, and a thread was lacking: {lack}")
                }
                None => {
                    "its closer did not return, or was not called because too many others did not".to_owned()
                }
            }));
        }
    }
}

fn next(queue: &Mutex<std::vec::IntoIter<(usize, Closer)>>) -> Option<(usize, Closer)> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).next()
}

/// Says who has ended and who has not.
fn take_stock(registry: &Registry, those: &[One], report: &mut Shutdown) {
    for one in those {
        let failure = one.failure(registry);
        let side = if failure.is_some() { &mut report.failed } else { &mut report.cleaned };
        side.add(one.resource.kind, 1);
        report.errors.extend(failure.map(|why| one.error(why)));
    }
}
