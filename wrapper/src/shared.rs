//! The cells that the supervisor shares with a handle. All other decisions are the supervisor's alone, so these are the
//! only place where threads can interleave; `tests/interleavings.rs` compiles this very file with loom's atomics and goes
//! through all of it.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::task::{Context, Poll, Waker};

use crate::atomics::{AtomicBool, AtomicU32, AtomicUsize, Mutex, Ordering};
use crate::state::{Move, State};

/// What is on its way from the supervisor to the one handle of a run.
///
/// Not tokio's channel, which takes two KiB of memory for the first message; most runs have one message at a time, and many
/// have none for most of their life.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    waiting: Mutex<Waiting<T>>,
}

#[derive(Debug)]
struct Waiting<T> {
    items: VecDeque<T>,
    /// Who found nothing and waits.
    waker: Option<Waker>,
    /// Nobody will take anything any more.
    is_abandoned: bool,
}

/// Room for so many is kept when the queue is empty.
const SPARE_ITEMS: usize = 16;

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        Self { waiting: Mutex::new(Waiting { items: VecDeque::new(), waker: None, is_abandoned: false }) }
    }

    /// Puts an item into the queue, and wakes whoever waits for it. False if nobody will ever take it.
    pub(crate) fn put(&self, item: T) -> bool {
        let waker = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.is_abandoned {
                return false;
            }
            waiting.items.push_back(item);
            waiting.waker.take()
        };
        // Not under the lock: it runs what is somebody else's.
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Takes the oldest item, or has the next one wake the caller.
    pub(crate) fn poll_take(&self, context: &mut Context<'_>) -> Poll<T> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(item) = waiting.items.pop_front() {
            if waiting.items.is_empty() {
                waiting.items.shrink_to(SPARE_ITEMS);
            }
            return Poll::Ready(item);
        }
        if !waiting.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            let before = waiting.waker.replace(context.waker().clone());
            drop(waiting);
            drop(before);
        }
        Poll::Pending
    }

    /// Drops what is in the queue, and whatever is put into it later.
    pub(crate) fn abandon(&self) {
        let (items, waker) = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.is_abandoned = true;
            (std::mem::take(&mut waiting.items), waiting.waker.take())
        };
        drop((items, waker));
    }
}

/// What everybody may know about a run: through which states it came, and whether its pid is still its own.
#[derive(Debug)]
pub(crate) struct Board {
    /// The states that were entered, four bits each, the latest lowest. A run enters at most six.
    history: AtomicU32,
    reaped: AtomicBool,
    /// Of what must be so before the run is released, what is.
    at_the_end: AtomicU32,
    /// Who waits for the next state, each by a number and with the latest of its wakers.
    watchers: Mutex<Vec<(u64, Waker)>>,
}

const BITS_A_STATE: u32 = 4;

const SETTLED: u32 = 1;
const UNHELD: u32 = 2;

impl Board {
    pub(crate) fn new() -> Self {
        Self {
            history: AtomicU32::new(code(State::Idle)),
            reaped: AtomicBool::new(false),
            at_the_end: AtomicU32::new(0),
            watchers: Mutex::new(Vec::new()),
        }
    }

    /// Makes a move if the table has it for the present state. Gives the state before and the one after; `None` if it was
    /// refused, which changes nothing.
    pub(crate) fn make(&self, by: Move) -> Option<(State, State)> {
        let mut history = self.history.load(Ordering::SeqCst);
        let (from, to) = loop {
            let from = latest(history);
            let to = from.after(by)?;
            let next = (history << BITS_A_STATE) | code(to);
            match self.history.compare_exchange(history, next, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => break (from, to),
                Err(other) => history = other,
            }
        };
        // After the move, so that whoever looked before it is woken, and whoever looks after it sees it.
        let watchers = std::mem::take(&mut *self.watchers.lock().unwrap_or_else(PoisonError::into_inner));
        // Not under the lock: it runs what is somebody else's.
        watchers.into_iter().for_each(|(_, waker)| waker.wake());
        Some((from, to))
    }

    pub(crate) fn forget_pid(&self) {
        self.reaped.store(true, Ordering::SeqCst);
    }

    pub(crate) fn has_pid(&self) -> bool {
        !self.reaped.load(Ordering::SeqCst)
    }

    pub(crate) fn state(&self) -> State {
        latest(self.history.load(Ordering::SeqCst))
    }

    /// The state that was entered as the nth, counted from 0.
    pub(crate) fn entered(&self, nth: u32) -> Option<State> {
        let history = self.history.load(Ordering::SeqCst);
        let count = (u32::BITS - history.leading_zeros()).div_ceil(BITS_A_STATE);
        (nth < count).then(|| latest(history >> (BITS_A_STATE * (count - 1 - nth))))
    }

    /// The state that was entered as the nth, or has it wake the caller. Of each watcher only the last call counts.
    pub(crate) fn poll_entered(&self, nth: u32, watcher: u64, context: &mut Context<'_>) -> Poll<State> {
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = self.entered(nth) {
            return Poll::Ready(state);
        }
        let before = match watchers.iter_mut().find(|(number, _)| *number == watcher) {
            Some((_, waker)) if waker.will_wake(context.waker()) => None,
            Some((_, waker)) => Some(std::mem::replace(waker, context.waker().clone())),
            None => {
                watchers.push((watcher, context.waker().clone()));
                None
            }
        };
        drop(watchers);
        drop(before);
        Poll::Pending
    }

    /// This one does not wait any more.
    pub(crate) fn unwatch(&self, watcher: u64) {
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        let place = watchers.iter().position(|(number, _)| *number == watcher);
        let before = place.map(|place| watchers.swap_remove(place));
        drop(watchers);
        drop(before);
    }

    /// Nothing more is to be told of the run's end. True if nobody holds the run, so that it is to be released.
    pub(crate) fn settle(&self) -> bool {
        self.at_the_end.fetch_or(SETTLED, Ordering::SeqCst) & UNHELD != 0
    }

    /// Nobody holds the run any more. True if its end was told, so that it is to be released. Of this and
    /// [`settle`](Self::settle) exactly one is true: whoever comes second sees what the first has done.
    pub(crate) fn let_go(&self) -> bool {
        self.at_the_end.fetch_or(UNHELD, Ordering::SeqCst) & SETTLED != 0
    }
}

/// Never 0, so that a state is told from none.
fn code(state: State) -> u32 {
    1 + state as u32
}

fn latest(history: u32) -> State {
    let code = history & ((1 << BITS_A_STATE) - 1);
    State::ALL[code as usize - 1]
}

/// Reading stops while this much is on its way to whoever takes it…
pub(crate) const HIGH_WATER: usize = 512 * 1024;
/// …until no more than this is left.
pub(crate) const LOW_WATER: usize = 128 * 1024;

/// How many bytes of a stream are on their way to whoever takes its events.
///
/// One for each stream: of two that wait at the same cell, one could take away the word that the other waits for.
#[derive(Debug)]
pub(crate) struct Flow {
    on_the_way: AtomicUsize,
    stopped: AtomicBool,
}

impl Flow {
    pub(crate) fn new() -> Self {
        Self { on_the_way: AtomicUsize::new(0), stopped: AtomicBool::new(false) }
    }

    /// Counts bytes that were taken. True if the supervisor waits to hear of it.
    pub(crate) fn took(&self, count: usize) -> bool {
        let left = self.on_the_way.fetch_sub(count, Ordering::SeqCst) - count;
        left <= LOW_WATER && self.stopped.swap(false, Ordering::SeqCst)
    }

    /// Counts bytes that are about to be sent; before they are, so that they cannot be taken uncounted.
    pub(crate) fn sends(&self, count: usize) {
        self.on_the_way.fetch_add(count, Ordering::SeqCst);
    }

    /// Whether to stop for now. If so, some later `took` will be true.
    pub(crate) fn must_stop(&self) -> bool {
        if self.on_the_way.load(Ordering::SeqCst) < HIGH_WATER {
            return false;
        }
        self.stopped.swap(true, Ordering::SeqCst);
        // Everything may have been taken between the two, and then nobody would tell us. A read-modify-write cannot miss
        // that: either it sees what `took` has done, or `took` comes later and sees that we stopped.
        let drained = self.on_the_way.fetch_add(0, Ordering::SeqCst) <= LOW_WATER;
        !(drained && self.stopped.swap(false, Ordering::SeqCst))
    }
}
