//! How long something is waited for, counted in turns of a loop.

use std::time::{Duration, Instant};

/// What a turn of the loop counts for at most: far more than one takes that is not held up.
const MOST_A_TURN: Duration = Duration::from_millis(100);

/// By how much a wait may last longer for it. Turns are also long where there are more to look at with each of them.
const MOST_EXCUSED: Duration = Duration::from_secs(3);

/// How long a turn waits at most for something to happen, so that it is no long one by itself.
pub(super) const TURN: Duration = Duration::from_millis(75);

/// A wait that only turns use up in which somebody could look. Where the whole machine stands still for a while, nobody else can have gone
/// on either, and the first look after it must not be the last.
pub(super) struct Patience {
    last: Instant,
    spent: Duration,
    excused: Duration,
}

impl Patience {
    pub(super) fn from(now: Instant) -> Self {
        Self { last: now, spent: Duration::ZERO, excused: Duration::ZERO }
    }

    /// Another turn, at this time; answers how much was waited by now.
    pub(super) fn turn(&mut self, now: Instant) -> Duration {
        self.stall(now);
        self.spent
    }

    /// Another turn, at this time; answers how much of it is not counted.
    pub(super) fn stall(&mut self, now: Instant) -> Duration {
        let took = now.saturating_duration_since(self.last);
        let excused = took.saturating_sub(MOST_A_TURN).min(MOST_EXCUSED.saturating_sub(self.excused));
        self.excused += excused;
        self.spent += took - excused;
        self.last = now;
        excused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_stands_still_uses_up_one_turn_only() {
        let began = Instant::now();
        let mut patience = Patience::from(began);
        let after = |ms| began + Duration::from_millis(ms);
        assert_eq!(patience.turn(after(40)), Duration::from_millis(40));
        assert_eq!(patience.turn(after(90)), Duration::from_millis(90));
        assert_eq!(patience.turn(after(2_090)), Duration::from_millis(190));
        assert_eq!(patience.turn(after(2_100)), Duration::from_millis(200));
        assert_eq!(patience.stall(after(2_100) + TURN), Duration::ZERO);
        assert_eq!(patience.stall(after(3_175)), Duration::from_millis(900));
    }

    #[test]
    fn turns_that_are_always_long_do_not_prolong_a_wait_for_ever() {
        let began = Instant::now();
        let mut patience = Patience::from(began);
        let spent = (1..=10).map(|turn| patience.turn(began + Duration::from_secs(turn))).last();
        assert_eq!(spent, Some(Duration::from_secs(7)));
    }
}
