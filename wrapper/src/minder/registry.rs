//! What a minder knows: one table and some counters behind one small lock.
//!
//! The table holds nothing alive: it has weak references, and whoever owns a resource takes it off. Under the lock
//! nothing is done but to look and to count; nobody's code runs there, not even that of a drop.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::Location;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::broadcast;

use super::registration::Entry;
use super::resource::{Kind, LeakReport, Resource};
use super::stats::{Counters, Stats};
use super::transitions::{Transition, Transitions};
use crate::outcome::Outcome;
use crate::run::{Common, RunId};
use crate::state::State;
use crate::supervise::{Door, Key, Wish};

/// A number that nothing in this process has or had.
pub(crate) fn new_key() -> Key {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// What can be there of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// It is being started.
    Starting,
    /// It was started, and has not ended.
    Running,
    /// It has ended, and its child has not.
    Lingering,
    Stdin,
    Stdout,
    Stderr,
    Timeout,
    IdleTimeout,
    /// The time of what everybody was asked.
    Grace,
    /// The time for output that somebody out of reach holds.
    Drain,
}

impl Part {
    const ALL: [Self; 10] = [
        Self::Starting,
        Self::Running,
        Self::Lingering,
        Self::Stdin,
        Self::Stdout,
        Self::Stderr,
        Self::Timeout,
        Self::IdleTimeout,
        Self::Grace,
        Self::Drain,
    ];

    fn kind(self) -> Kind {
        match self {
            Self::Starting | Self::Running | Self::Lingering => Kind::Process,
            Self::Stdin | Self::Stdout | Self::Stderr => Kind::Stream,
            Self::Timeout | Self::IdleTimeout | Self::Grace | Self::Drain => Kind::Timer,
        }
    }

    /// What it is called; the run itself has the name that it was given.
    fn name(self) -> Option<&'static str> {
        match self {
            Self::Starting | Self::Running | Self::Lingering => None,
            Self::Stdin => Some("stdin"),
            Self::Stdout => Some("stdout"),
            Self::Stderr => Some("stderr"),
            Self::Timeout => Some("timeout"),
            Self::IdleTimeout => Some("idle timeout"),
            Self::Grace => Some("grace"),
            Self::Drain => Some("drain"),
        }
    }
}

/// A set of parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts(u16);

impl Parts {
    pub(crate) fn with(self, part: Part) -> Self {
        Self(self.0 | 1 << part as u8)
    }

    pub(crate) fn with_if(self, is_there: bool, part: Part) -> Self {
        if is_there { self.with(part) } else { self }
    }

    pub(crate) fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    pub(crate) fn only(self, others: Self) -> Self {
        Self(self.0 & others.0)
    }

    pub(crate) fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    fn has(self, part: Part) -> bool {
        self.0 & 1 << part as u8 != 0
    }

    fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn all(self) -> impl Iterator<Item = Part> {
        Part::ALL.into_iter().filter(move |part| self.has(*part))
    }
}

/// How a run is known to its minder.
pub(crate) struct RunEntry {
    registry: Arc<Registry>,
    key: Key,
    description: Box<str>,
    metadata: Box<[(String, String)]>,
    created_at: &'static Location<'static>,
    since: Instant,
    /// When the timers began that are not there from the start.
    grace_since: OnceLock<Instant>,
    drain_since: OnceLock<Instant>,
    /// Where wishes about it go, as soon as there is somebody to read them.
    door: OnceLock<Door>,
    /// How much a shutdown has asked it to end, perhaps before it could hear it.
    asked: AtomicU8,
}

const NOT_ASKED: u8 = 0;
const ASKED: u8 = 1;
const URGED: u8 = 2;

/// What a command says about its runs.
pub(crate) struct About {
    pub(crate) description: Box<str>,
    pub(crate) metadata: Box<[(String, String)]>,
    pub(crate) created_at: &'static Location<'static>,
}

impl RunEntry {
    pub(crate) fn new(registry: Arc<Registry>, about: About) -> Self {
        let About { description, metadata, created_at } = about;
        Self {
            registry,
            key: new_key(),
            description,
            metadata,
            created_at,
            since: Instant::now(),
            grace_since: OnceLock::new(),
            drain_since: OnceLock::new(),
            door: OnceLock::new(),
            asked: AtomicU8::new(NOT_ASKED),
        }
    }

    pub(crate) fn key(&self) -> Key {
        self.key
    }

    pub(crate) fn description(&self) -> &str {
        &self.description
    }

    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// From here on the run can be asked to end.
    pub(crate) fn open(&self, door: Door) {
        // There is one start for each entry.
        let _ = self.door.set(door);
    }

    pub(crate) fn ask(&self, wish: Wish) {
        self.asked.fetch_max(if wish == Wish::ShutDownNow { URGED } else { ASKED }, Ordering::SeqCst);
        if let Some(door) = self.door.get() {
            door.stop(wish);
        }
    }

    /// Whether a shutdown has asked it.
    #[cfg(test)]
    pub(crate) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst) != NOT_ASKED
    }

    /// Asks once more for what was asked before the supervisor knew the run.
    pub(crate) fn repeat_asking(&self) {
        let wish = match self.asked.load(Ordering::SeqCst) {
            NOT_ASKED => return,
            ASKED => Wish::ShutDown,
            _ => Wish::ShutDownNow,
        };
        self.door.get().inspect(|door| door.stop(wish));
    }

    /// A timer begins that was not there from the start.
    fn begin(&self, parts: Parts) {
        for (part, since) in [(Part::Grace, &self.grace_since), (Part::Drain, &self.drain_since)] {
            if parts.has(part) {
                // Each has one beginning: another request of a plan goes on with the same.
                since.get_or_init(Instant::now);
            }
        }
    }

    fn since_of(&self, part: Part) -> Instant {
        let own = match part {
            Part::Grace => self.grace_since.get(),
            Part::Drain => self.drain_since.get(),
            _ => None,
        };
        own.copied().unwrap_or(self.since)
    }

    fn resource(&self, common: &Common, part: Part) -> Resource {
        Resource {
            kind: part.kind(),
            description: match part.name() {
                None => self.description.to_string(),
                Some(name) => format!("{name} of {}", self.description),
            },
            age: self.since_of(part).elapsed(),
            created_at: self.created_at,
            metadata: self.metadata.to_vec(),
            run: Some(RunId::new(self.key)),
            state: Some(common.board.state()),
            pid: common.pid(),
        }
    }
}

impl fmt::Debug for RunEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunEntry").field("key", &self.key).field("description", &self.description).finish()
    }
}

impl Drop for RunEntry {
    /// Nobody is left who could take it off.
    fn drop(&mut self) {
        self.registry.forget(self.key);
    }
}

/// One line of the table.
#[derive(Debug)]
enum Slot {
    Run(Weak<Common>, Parts),
    Other(Weak<Entry>, Kind),
}

/// Somebody on the table, kept from being freed while it is looked at.
pub(super) enum Tracked {
    Run(Arc<Common>, Parts),
    Other(Arc<Entry>),
}

impl Tracked {
    fn since(&self) -> Instant {
        match self {
            Self::Run(common, _) => common.entry.since,
            Self::Other(entry) => entry.since,
        }
    }

    /// What is there of it; of a run, with the part that each is.
    pub(super) fn resources(&self) -> Vec<(Option<Part>, Resource)> {
        match self {
            Self::Run(common, parts) => {
                parts.all().map(|part| (Some(part), common.entry.resource(common, part))).collect()
            }
            Self::Other(entry) => vec![(None, entry.resource())],
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Registry {
    table: Mutex<Table>,
    /// Something was taken off while somebody waits for that.
    shrunk: Condvar,
    /// For those who want to know of each move, if there ever was anybody.
    feed: OnceLock<broadcast::Sender<Transition>>,
}

/// So many moves are kept for whoever is slow to take them.
const FEED_ROOM: usize = 4096;

impl Registry {
    pub(super) fn transitions(&self) -> Transitions {
        let feed = self.feed.get_or_init(|| broadcast::channel(FEED_ROOM).0);
        Transitions::new(feed.subscribe())
    }

    pub(crate) fn tell(&self, transition: Transition) {
        if let Some(feed) = self.feed.get() {
            // Nobody may listen any more.
            let _ = feed.send(transition);
        }
    }
}

#[derive(Debug, Default)]
struct Table {
    /// By number, which is by age.
    slots: BTreeMap<Key, Slot>,
    counters: Counters,
    is_shut_down: bool,
    /// How many wait for something to be taken off.
    waiting: usize,
}

impl Registry {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a run that is to be started on the table. False if it must not be.
    pub(crate) fn enrol(&self, common: &Arc<Common>) -> bool {
        let slot = Slot::Run(Arc::downgrade(common), Parts::default().with(Part::Starting));
        let mut table = self.table();
        if table.is_shut_down {
            return false;
        }
        table.slots.insert(common.entry.key, slot);
        true
    }

    /// The run was started, with these parts.
    pub(crate) fn begin(&self, key: Key, parts: Parts) {
        let mut table = self.table();
        table.counters.starts += 1;
        if let Some(Slot::Run(_, there)) = table.slots.get_mut(&key) {
            *there = parts.with(Part::Running);
        }
    }

    pub(crate) fn fail_start(&self, key: Key) {
        self.table().counters.failed_starts += 1;
        self.forget(key);
    }

    /// Some parts of a run are no more, and others have come.
    pub(crate) fn exchange(&self, entry: &RunEntry, lost: Parts, gained: Parts) {
        entry.begin(gained);
        if !lost.is_empty() || !gained.is_empty() {
            self.change(entry.key, |_, parts| parts.without(lost).and(gained));
        }
    }

    /// These parts of a run are no more.
    pub(crate) fn lose(&self, key: Key, lost: Parts) {
        if !lost.is_empty() {
            self.change(key, |_, parts| parts.without(lost));
        }
    }

    /// The run has ended. Whether its child lingers on.
    pub(crate) fn end(&self, key: Key, outcome: &Outcome, lingers: bool) {
        self.change(key, |counters, parts| {
            counters.end(outcome);
            let parts = parts.without(Parts::default().with(Part::Running));
            if lingers { parts.with(Part::Lingering) } else { parts }
        });
    }

    fn change(&self, key: Key, change: impl FnOnce(&mut Counters, Parts) -> Parts) {
        let mut table = self.table();
        let Table { slots, counters, .. } = &mut *table;
        let Some(Slot::Run(_, parts)) = slots.get_mut(&key) else { return };
        *parts = change(counters, *parts);
        let gone = if parts.is_empty() { slots.remove(&key) } else { None };
        self.tell_of_less(table);
        drop(gone);
    }

    /// Puts something else on the table. Whether a shutdown has begun.
    pub(super) fn note(&self, entry: &Arc<Entry>) -> bool {
        let slot = Slot::Other(Arc::downgrade(entry), entry.kind);
        let mut table = self.table();
        table.slots.insert(entry.key, slot);
        table.is_shut_down
    }

    pub(super) fn forget(&self, key: Key) {
        let mut table = self.table();
        let gone = table.slots.remove(&key);
        self.tell_of_less(table);
        drop(gone);
    }

    fn tell_of_less(&self, table: MutexGuard<'_, Table>) {
        if table.waiting > 0 {
            self.shrunk.notify_all();
        }
    }

    /// From now on nothing is started.
    pub(super) fn close(&self) {
        self.table().is_shut_down = true;
    }

    pub(super) fn tracked(&self) -> Vec<Tracked> {
        self.table().tracked()
    }

    /// Whether one of this kind is left that was tracked.
    pub(super) fn has(&self, key: Key, kind: Kind, part: Option<Part>) -> bool {
        let table = self.table();
        match (kind, part, table.slots.get(&key)) {
            // A run goes from one such part to the next.
            (Kind::Process, ..) | (_, None, _) => table.has(key, kind),
            (_, Some(part), Some(Slot::Run(_, parts))) => parts.has(part),
            (_, Some(_), _) => false,
        }
    }

    /// Waits until nothing of this kind is left of those, or `until`.
    pub(super) fn wait_until_gone(&self, mut keys: Vec<Key>, kind: Kind, until: Instant) {
        let mut table = self.table();
        table.waiting += 1;
        // Each that is gone is looked for once, however often something changes.
        while let Some(key) = keys.last() {
            if !table.has(*key, kind) {
                keys.pop();
                continue;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            table = self.shrunk.wait_timeout(table, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        table.waiting -= 1;
    }

    pub(super) fn stats(&self) -> Stats {
        let (mut stats, tracked) = {
            let table = self.table();
            let mut stats = Stats { is_shut_down: table.is_shut_down, ..Stats::default() };
            table.counters.tell(&mut stats);
            (stats, table.tracked())
        };
        for one in &tracked {
            match one {
                Tracked::Run(common, parts) => {
                    parts.all().for_each(|part| stats.resources.add(part.kind(), 1));
                    stats.runs.starting += usize::from(parts.has(Part::Starting));
                    stats.runs.running += usize::from(parts.has(Part::Running));
                    stats.runs.lingering += usize::from(parts.has(Part::Lingering));
                    let is_ending = parts.has(Part::Running) && common.board.state() == State::Terminating;
                    stats.cleaning_up += usize::from(is_ending || parts.has(Part::Lingering));
                }
                Tracked::Other(entry) => stats.resources.add(entry.kind, 1),
            }
        }
        stats.oldest = tracked.first().map(|oldest| oldest.since().elapsed());
        stats
    }

    pub(super) fn resources(&self) -> Vec<Resource> {
        self.tracked().iter().flat_map(Tracked::resources).map(|(_, resource)| resource).collect()
    }

    pub(super) fn overdue(&self, age: Duration) -> LeakReport {
        let overdue = self.resources().into_iter().filter(|resource| resource.age >= age).collect();
        LeakReport { age, overdue }
    }
}

impl Table {
    /// Everybody who is still there. Whoever gets this must drop it outside the lock: it may be the last reference.
    fn tracked(&self) -> Vec<Tracked> {
        let tracked = self.slots.values().filter_map(|slot| match slot {
            Slot::Run(common, parts) => common.upgrade().map(|common| Tracked::Run(common, *parts)),
            Slot::Other(entry, _) => entry.upgrade().map(Tracked::Other),
        });
        tracked.collect()
    }

    fn has(&self, key: Key, kind: Kind) -> bool {
        match self.slots.get(&key) {
            Some(Slot::Run(_, parts)) => parts.all().any(|part| part.kind() == kind),
            Some(Slot::Other(_, other)) => *other == kind,
            None => false,
        }
    }
}
