//! What an execution and everybody who may stop it have in common.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::run::Canceller;
use crate::state::State;

/// Where an execution stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// An attempt is under way, or has just ended and nobody has taken notice of it yet.
    Running,
    /// An attempt was asked to end, and has not ended.
    Stopping,
    /// It waits for the time of its next attempt.
    Pausing,
    /// Nothing of it runs, and nothing will.
    Over,
}

/// The one door by which an execution is stopped, whatever it does just then.
#[derive(Debug)]
pub(super) struct Steering {
    /// Rings at the first cancel: it ends a pause, and asks the run to end.
    token: CancellationToken,
    course: Mutex<Course>,
}

#[derive(Debug, Default)]
struct Course {
    cancels: u32,
    attempt: Attempt,
    /// The execution begins no further attempt.
    is_done: bool,
    /// An attempt has ended, and it was not shown that nobody is left of it.
    has_left_somebody: bool,
}

#[derive(Debug, Default)]
enum Attempt {
    #[default]
    None,
    /// A child is just being made.
    Starting,
    Running(Canceller),
}

impl Steering {
    pub(super) fn new(token: CancellationToken) -> Self {
        Self { token, course: Mutex::default() }
    }

    fn course(&self) -> MutexGuard<'_, Course> {
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks it to end. A second call does not wait for the grace.
    pub(super) fn cancel(&self) {
        let running = {
            let mut course = self.course();
            course.cancels = course.cancels.saturating_add(1);
            match &course.attempt {
                Attempt::Running(canceller) => Some(canceller.clone()),
                Attempt::None | Attempt::Starting => None,
            }
        };
        self.token.cancel();
        if let Some(canceller) = running {
            canceller.cancel();
        }
    }

    /// Asks it to end as often as one likes: this is nobody's second cancel.
    pub(super) fn ask(&self) {
        self.token.cancel();
    }

    /// Does not wait for the grace.
    pub(super) fn urge(&self) {
        self.cancel();
        self.cancel();
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.token.is_cancelled()
    }

    pub(super) fn cancelled(&self) -> WaitForCancellationFutureOwned {
        self.token.clone().cancelled_owned()
    }

    /// For one attempt: rings with the execution's own, and can be rung alone.
    pub(super) fn token_of_attempt(&self) -> CancellationToken {
        self.token.child_token()
    }

    /// Announces an attempt. False if there shall be none: who was told to end starts nothing.
    pub(super) fn begin_attempt(&self) -> bool {
        let mut course = self.course();
        if self.is_cancelled() {
            return false;
        }
        course.attempt = Attempt::Starting;
        true
    }

    /// The attempt that was announced runs. It hears of the cancels that came meanwhile.
    pub(super) fn attempt_runs(&self, canceller: Canceller) {
        let missed = {
            let mut course = self.course();
            course.attempt = Attempt::Running(canceller.clone());
            course.cancels.min(2)
        };
        (0..missed).for_each(|_| canceller.cancel());
    }

    /// The attempt that was announced did not start, or has ended.
    pub(super) fn attempt_is_over(&self) {
        self.course().attempt = Attempt::None;
    }

    /// An attempt has ended so that it could not be shown that nobody is left.
    pub(super) fn leaves_somebody(&self) {
        self.course().has_left_somebody = true;
    }

    /// Whether it could not be shown of one of its attempts that nobody is left of it.
    pub(super) fn has_left_somebody(&self) -> bool {
        let course = self.course();
        let now =
            matches!(&course.attempt, Attempt::Running(canceller) if canceller.state() == State::Failed);
        now || course.has_left_somebody
    }

    /// There will be no further attempt. One whose handle was dropped may still be on its way to its end.
    pub(super) fn finish(&self) {
        let mut course = self.course();
        course.is_done = true;
        if matches!(course.attempt, Attempt::Starting) {
            // Only a panic has left it so.
            course.attempt = Attempt::None;
        }
    }

    /// Whether nothing of it runs, and nothing will.
    pub(super) fn is_over(&self) -> bool {
        self.phase() == Phase::Over
    }

    pub(super) fn phase(&self) -> Phase {
        let course = self.course();
        let will_go_on = !course.is_done && !self.is_cancelled();
        match &course.attempt {
            Attempt::Starting => Phase::Running,
            Attempt::Running(canceller) => match canceller.state() {
                State::Terminating => Phase::Stopping,
                ended if !(ended.is_active() || will_go_on) => Phase::Over,
                _ => Phase::Running,
            },
            Attempt::None if will_go_on => Phase::Pausing,
            Attempt::None => Phase::Over,
        }
    }

    /// The pid of its child, if it has one.
    pub(super) fn pid(&self) -> Option<u32> {
        match &self.course().attempt {
            Attempt::Running(canceller) => canceller.pid(),
            Attempt::None | Attempt::Starting => None,
        }
    }
}

/// Those executions that somebody may have to stop. Belongs to an agent, or to a scope within another one's.
#[derive(Debug)]
pub(super) struct Fleet {
    afloat: Mutex<Afloat>,
    /// The one that this one is a part of.
    within: Option<Arc<Fleet>>,
}

#[derive(Debug, Default)]
struct Afloat {
    executions: BTreeMap<u64, Arc<Steering>>,
    is_closed: bool,
}

impl Fleet {
    pub(super) fn new(within: Option<Arc<Fleet>>) -> Self {
        Self { afloat: Mutex::default(), within }
    }

    fn afloat(&self) -> MutexGuard<'_, Afloat> {
        self.afloat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an execution in, here and wherever this is a part of. False if one of them is closed.
    pub(super) fn join(&self, number: u64, steering: &Arc<Steering>) -> bool {
        if self.within.as_ref().is_some_and(|fleet| !fleet.join(number, steering)) {
            return false;
        }
        let mut afloat = self.afloat();
        afloat.executions.retain(|_, steering| !steering.is_over());
        if afloat.is_closed {
            return false;
        }
        afloat.executions.insert(number, Arc::clone(steering));
        true
    }

    /// Lets go of an execution that has ended; one that is on its way to its end stays until then.
    pub(super) fn leave(&self, number: u64) {
        if let Some(fleet) = &self.within {
            fleet.leave(number);
        }
        let mut afloat = self.afloat();
        if afloat.executions.get(&number).is_some_and(|steering| steering.is_over()) {
            afloat.executions.remove(&number);
        }
    }

    /// Nobody joins any more.
    pub(super) fn close(&self) {
        self.afloat().is_closed = true;
    }

    /// Those of which something runs, or may.
    pub(super) fn members(&self) -> Vec<(u64, Arc<Steering>)> {
        let mut afloat = self.afloat();
        afloat.executions.retain(|_, steering| !steering.is_over());
        afloat.executions.iter().map(|(number, steering)| (*number, Arc::clone(steering))).collect()
    }
}
