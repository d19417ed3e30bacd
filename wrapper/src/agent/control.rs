//! What an execution and everybody who may stop it have in common.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use futures_core::Stream;
use tokio::sync::Notify;
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
pub(super) struct Control {
    /// Rings at the first cancel: it ends a pause, and asks the run to end.
    token: CancellationToken,
    stand: Mutex<Stand>,
    /// Wakes those who wait for its end, when something happens that no run tells.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Stand {
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

impl Control {
    pub(super) fn new(token: CancellationToken) -> Self {
        Self { token, stand: Mutex::default(), changed: Notify::new() }
    }

    fn stand(&self) -> MutexGuard<'_, Stand> {
        self.stand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks it to end. A second call does not wait for the grace.
    pub(super) fn cancel(&self) {
        let running = {
            let mut stand = self.stand();
            stand.cancels = stand.cancels.saturating_add(1);
            match &stand.attempt {
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
        let mut stand = self.stand();
        if self.is_cancelled() {
            return false;
        }
        stand.attempt = Attempt::Starting;
        true
    }

    /// The attempt that was announced runs. It hears of the cancels that came meanwhile.
    pub(super) fn attempt_runs(&self, canceller: Canceller) {
        let missed = {
            let mut stand = self.stand();
            stand.attempt = Attempt::Running(canceller.clone());
            stand.cancels.min(2)
        };
        self.changed.notify_waiters();
        (0..missed).for_each(|_| canceller.cancel());
    }

    /// The attempt that was announced did not start, or has ended.
    pub(super) fn attempt_is_over(&self) {
        self.stand().attempt = Attempt::None;
        self.changed.notify_waiters();
    }

    /// An attempt has ended so that it could not be shown that nobody is left.
    pub(super) fn leaves_somebody(&self) {
        self.stand().has_left_somebody = true;
    }

    /// Whether it could not be shown of one of its attempts that nobody is left of it.
    pub(super) fn has_left_somebody(&self) -> bool {
        let stand = self.stand();
        let now = matches!(&stand.attempt, Attempt::Running(canceller) if canceller.state() == State::Failed);
        now || stand.has_left_somebody
    }

    /// There will be no further attempt. One whose handle was dropped may still be on its way to its end.
    pub(super) fn finish(&self) {
        let mut stand = self.stand();
        stand.is_done = true;
        if matches!(stand.attempt, Attempt::Starting) {
            // Only a panic has left it so.
            stand.attempt = Attempt::None;
        }
        drop(stand);
        self.changed.notify_waiters();
    }

    /// Whether nothing of it runs, and nothing will.
    pub(super) fn is_over(&self) -> bool {
        self.phase() == Phase::Over
    }

    /// Waits until nothing of it runs, and nothing will. It must have been told to end.
    pub(super) async fn until_over(&self) {
        loop {
            let mut changed = pin!(self.changed.notified());
            // From here on no change is missed, so this look is not too early.
            changed.as_mut().enable();
            let mut states = match &self.stand().attempt {
                Attempt::Running(canceller) => Some(canceller.states()),
                Attempt::None | Attempt::Starting => None,
            };
            let is_over = poll_fn(|context| {
                while !self.is_over() {
                    let next = states.as_mut().map(|states| Pin::new(states).poll_next(context));
                    match next {
                        Some(Poll::Ready(Some(_))) => {}
                        // It tells nothing more.
                        Some(Poll::Ready(None)) => states = None,
                        Some(Poll::Pending) | None => return changed.as_mut().poll(context).map(|()| false),
                    }
                }
                Poll::Ready(true)
            });
            if is_over.await {
                return;
            }
        }
    }

    pub(super) fn phase(&self) -> Phase {
        let stand = self.stand();
        let will_go_on = !stand.is_done && !self.is_cancelled();
        match &stand.attempt {
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
        match &self.stand().attempt {
            Attempt::Running(canceller) => canceller.pid(),
            Attempt::None | Attempt::Starting => None,
        }
    }
}

/// Those executions that somebody may have to stop. Belongs to an agent, or to a scope within another one's.
#[derive(Debug)]
pub(super) struct Executions {
    live: Mutex<Live>,
    /// The one that this one is a part of.
    within: Option<Arc<Executions>>,
}

#[derive(Debug, Default)]
struct Live {
    executions: BTreeMap<u64, Arc<Control>>,
    is_closed: bool,
    /// When there are so many of them, it is time to look who was dropped, and has ended since without telling.
    sweep_at: usize,
}

impl Live {
    /// So many that are over may be among them before they are looked through.
    const SOME: usize = 16;

    /// Goes through all of them only when they have become twice as many, so that each costs the same, however many there are.
    fn sweep_now_and_then(&mut self) {
        if self.executions.len() > self.sweep_at {
            self.sweep();
        }
    }

    fn sweep(&mut self) {
        self.executions.retain(|_, control| !control.is_over());
        self.sweep_at = 2 * self.executions.len() + Self::SOME;
    }
}

impl Executions {
    pub(super) fn new(within: Option<Arc<Executions>>) -> Self {
        Self { live: Mutex::default(), within }
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an execution in, here and wherever this is a part of. False if one of them is closed.
    pub(super) fn join(&self, number: u64, control: &Arc<Control>) -> bool {
        if self.within.as_ref().is_some_and(|executions| !executions.join(number, control)) {
            return false;
        }
        let mut live = self.live();
        if live.is_closed {
            return false;
        }
        live.executions.insert(number, Arc::clone(control));
        live.sweep_now_and_then();
        true
    }

    /// Lets go of an execution that has ended; one that is on its way to its end stays until then.
    pub(super) fn leave(&self, number: u64) {
        if let Some(executions) = &self.within {
            executions.leave(number);
        }
        let mut live = self.live();
        if live.executions.get(&number).is_some_and(|control| control.is_over()) {
            live.executions.remove(&number);
        }
    }

    /// Nobody joins any more.
    pub(super) fn close(&self) {
        self.live().is_closed = true;
    }

    /// Those of which something runs, or may.
    pub(super) fn members(&self) -> Vec<(u64, Arc<Control>)> {
        let mut live = self.live();
        live.sweep();
        live.executions.iter().map(|(number, control)| (*number, Arc::clone(control))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was dropped, and whose run has ended since.
    fn over() -> Arc<Control> {
        let control = Arc::new(Control::new(CancellationToken::new()));
        control.finish();
        control
    }

    #[test]
    fn those_that_have_ended_without_telling_are_let_go_of_before_they_are_more_than_the_others() {
        let executions = Executions::new(None);
        let mut alive = Vec::new();
        let mut most_of_the_dead = 0;
        for number in 0..2000_u64 {
            let control = if number % 100 == 0 {
                alive.push(Arc::new(Control::new(CancellationToken::new())));
                Arc::clone(alive.last().expect("it was just made"))
            } else {
                over()
            };
            assert!(executions.join(number, &control));
            most_of_the_dead = most_of_the_dead.max(executions.live().executions.len() - alive.len());
            assert!(most_of_the_dead <= alive.len() + 1 + Live::SOME, "{most_of_the_dead} at {number}");
        }
        let members: Vec<_> = executions.members().into_iter().map(|(number, _)| number).collect();
        assert_eq!(members, (0..20).map(|nth| nth * 100).collect::<Vec<_>>());
    }

    #[test]
    fn they_are_gone_through_seldom_while_all_of_them_live() {
        let executions = Executions::new(None);
        let mut sweeps = 0;
        for number in 0..10_000 {
            let before = executions.live().sweep_at;
            assert!(executions.join(number, &Arc::new(Control::new(CancellationToken::new()))));
            sweeps += u32::from(executions.live().sweep_at != before);
        }
        assert!(sweeps < 20, "{sweeps} times");
    }
}
