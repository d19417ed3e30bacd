//! What everybody may know of a keeper's run, from whichever thread.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use super::flaw::Flaw;
use crate::trace::{Polled, RunState};

/// The state of a run.
pub(super) struct Known {
    flaw: Flaw,
    polled: Mutex<Polled>,
    told: Mutex<HashMap<ThreadId, Polled>>,
}

impl Known {
    /// A run whose child has this number.
    pub(super) fn new(flaw: Flaw, pid: i32) -> Self {
        let polled = Polled { state: RunState::Running, pid: Some(pid) };
        Self { flaw, polled: Mutex::new(polled), told: Mutex::default() }
    }

    /// It is being ended.
    pub(super) fn stopping(&self) {
        lock(&self.polled).state = RunState::Stopping;
    }

    /// Its number is about to be anybody's.
    pub(super) fn forget_pid(&self) {
        if self.flaw != Flaw::KeepsThePid {
            lock(&self.polled).pid = None;
        }
    }

    /// It is over.
    pub(super) fn ended(&self) {
        lock(&self.polled).state = RunState::Ended;
    }

    /// What the caller is told.
    pub(super) fn poll(&self) -> Polled {
        let now = *lock(&self.polled);
        let mut told = lock(&self.told);
        match told.remove(&thread::current().id()) {
            Some(before) if self.flaw == Flaw::RemembersForEachThread => before,
            _ => {
                told.insert(thread::current().id(), now);
                now
            }
        }
    }
}

fn lock<T>(known: &Mutex<T>) -> MutexGuard<'_, T> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}
