//! The ladder: how a run comes to its end, as a pure table. Nothing here touches a process; the supervisor carries
//! the steps out.
//!
//! | rung | happening | next rung | steps |
//! |---|---|---|---|
//! | `Running` | leader ended | `Swept` | sweep, release, look |
//! | `Running` | stop asked | `Asked` | ask |
//! | `Asked` | time over | `Asked` | ask |
//! | `Asked` | leader ended | `Leaderless` | look |
//! | `Asked` | grace over, stop urged | `Killed` | kill |
//! | `Leaderless` | time over | `Leaderless` | ask, look |
//! | `Leaderless` | nobody left | `Swept` | sweep, release, look |
//! | `Leaderless` | grace over, stop urged | `Swept` | kill, release, look |
//! | `Killed` | leader ended | `Swept` | sweep, release, look |
//! | `Killed` | bound over | `Gone` | give up |
//! | `Swept` | nobody left | `Gone` | – |
//! | `Swept` | bound over | `Gone` | give up |
//!
//! To *ask* is to make the next request of the run's plan (`plan.rs`). Each but the last has its time; the last has the
//! grace.
//!
//! Everything else changes nothing, so asking twice, too late or in the wrong order is harmless. The order within a
//! row is the safety argument: whoever shares a number with the leader is signalled *before* the leader is released,
//! because afterwards the number may be a stranger's; and nobody is released without a sweep, because a look can miss
//! a process that was forked meanwhile, and a kill of the whole group cannot.

/// How far the end of a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rung {
    /// The leader runs and nobody wants it to end.
    Running,
    /// Everybody was asked to end; the time of what was asked runs.
    Asked,
    /// The leader has ended and is not released; the others have the rest of the grace.
    Leaderless,
    /// Everybody was killed; the leader is still there.
    Killed,
    /// Everybody was swept and the leader is released; it remains to be shown that nobody is left.
    Swept,
    /// Nobody is left, or the bound is over.
    Gone,
}

/// What can happen to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Happening {
    LeaderEnded,
    NobodyLeft,
    /// A reason to stop arrived.
    StopAsked,
    /// The caller asked once more, and does not want to wait for the grace.
    StopUrged,
    /// What was asked had its time, and there is more to ask.
    TimeOver,
    GraceOver,
    /// The time after the kill is over.
    BoundOver,
}

/// What the supervisor has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Make the next request to everybody, and start its time.
    Ask,
    /// Kill everybody: the request was not enough.
    Kill,
    /// Kill whoever is there unseen, without a word about it.
    Sweep,
    /// Release the leader: reap it, and give up its number.
    Release,
    /// Look who is left, and listen for their end.
    Look,
    /// Name those who are left.
    GiveUp,
}

/// One move on the ladder.
pub(crate) fn climb(rung: Rung, happening: Happening) -> (Rung, &'static [Step]) {
    use Happening as H;
    use Rung as R;
    const SWEEP: &[Step] = &[Step::Sweep, Step::Release, Step::Look];
    match (rung, happening) {
        (R::Running, H::LeaderEnded) => (R::Swept, SWEEP),
        (R::Running, H::StopAsked) => (R::Asked, &[Step::Ask]),
        (R::Asked, H::TimeOver) => (R::Asked, &[Step::Ask]),
        (R::Asked, H::LeaderEnded) => (R::Leaderless, &[Step::Look]),
        (R::Leaderless, H::TimeOver) => (R::Leaderless, &[Step::Ask, Step::Look]),
        (R::Asked, H::GraceOver | H::StopUrged) => (R::Killed, &[Step::Kill]),
        (R::Leaderless, H::NobodyLeft) => (R::Swept, SWEEP),
        (R::Leaderless, H::GraceOver | H::StopUrged) => (R::Swept, &[Step::Kill, Step::Release, Step::Look]),
        (R::Killed, H::LeaderEnded) => (R::Swept, SWEEP),
        (R::Swept, H::NobodyLeft) => (R::Gone, &[]),
        (R::Killed | R::Swept, H::BoundOver) => (R::Gone, &[Step::GiveUp]),
        (stay, _) => (stay, &[]),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::plan::{Ask, Ladder, StopPlan, StopSignal};

    const RUNGS: [Rung; 6] =
        [Rung::Running, Rung::Asked, Rung::Leaderless, Rung::Killed, Rung::Swept, Rung::Gone];
    const HAPPENINGS: [Happening; 7] = [
        Happening::LeaderEnded,
        Happening::NobodyLeft,
        Happening::StopAsked,
        Happening::StopUrged,
        Happening::TimeOver,
        Happening::GraceOver,
        Happening::BoundOver,
    ];

    fn walk(happenings: &[Happening]) -> (Rung, Vec<Step>) {
        let mut rung = Rung::Running;
        let mut steps = Vec::new();
        for happening in happenings {
            let (next, more) = climb(rung, *happening);
            rung = next;
            steps.extend(more);
        }
        (rung, steps)
    }

    #[test]
    fn a_child_that_ends_by_itself_is_swept_before_its_number_is_given_up() {
        let (rung, steps) = walk(&[Happening::LeaderEnded, Happening::NobodyLeft]);
        assert_eq!(rung, Rung::Gone);
        assert_eq!(steps, [Step::Sweep, Step::Release, Step::Look]);
    }

    #[test]
    fn a_polite_tree_is_asked_and_never_killed() {
        let (rung, steps) = walk(&[
            Happening::StopAsked,
            Happening::LeaderEnded,
            Happening::NobodyLeft,
            Happening::NobodyLeft,
        ]);
        assert_eq!(rung, Rung::Gone);
        assert_eq!(steps, [Step::Ask, Step::Look, Step::Sweep, Step::Release, Step::Look]);
    }

    #[test]
    fn the_rest_of_a_group_is_killed_when_its_leader_obeyed_and_the_grace_is_over() {
        let (rung, steps) = walk(&[
            Happening::StopAsked,
            Happening::LeaderEnded,
            Happening::GraceOver,
            Happening::NobodyLeft,
        ]);
        assert_eq!(rung, Rung::Gone);
        assert_eq!(steps, [Step::Ask, Step::Look, Step::Kill, Step::Release, Step::Look]);
    }

    #[test]
    fn a_deaf_leader_is_killed_at_the_end_of_the_grace() {
        let (rung, steps) = walk(&[
            Happening::StopAsked,
            Happening::GraceOver,
            Happening::LeaderEnded,
            Happening::NobodyLeft,
        ]);
        assert_eq!(rung, Rung::Gone);
        assert_eq!(steps, [Step::Ask, Step::Kill, Step::Sweep, Step::Release, Step::Look]);
    }

    #[test]
    fn the_second_wish_kills_at_once_and_the_third_changes_nothing() {
        let (rung, steps) = walk(&[Happening::StopAsked, Happening::StopUrged, Happening::StopUrged]);
        assert_eq!(rung, Rung::Killed);
        assert_eq!(steps, [Step::Ask, Step::Kill]);
    }

    #[test]
    fn whoever_survives_the_kill_is_named_when_the_bound_is_over() {
        let (rung, steps) = walk(&[Happening::StopAsked, Happening::GraceOver, Happening::BoundOver]);
        assert_eq!(rung, Rung::Gone);
        assert_eq!(steps, [Step::Ask, Step::Kill, Step::GiveUp]);
    }

    #[test]
    fn a_group_is_signalled_only_before_its_leader_is_released() {
        for first in HAPPENINGS {
            for second in HAPPENINGS {
                for third in HAPPENINGS {
                    for fourth in HAPPENINGS {
                        let (_, steps) = walk(&[first, second, third, fourth]);
                        assert!(released_after_a_kill(&steps), "{steps:?}");
                        let released = steps.iter().position(|step| *step == Step::Release);
                        let signalled = steps
                            .iter()
                            .rposition(|step| matches!(step, Step::Ask | Step::Kill | Step::Sweep));
                        if let (Some(released), Some(signalled)) = (released, signalled) {
                            assert!(signalled < released, "{steps:?}");
                        }
                    }
                }
            }
        }
    }

    fn released_after_a_kill(steps: &[Step]) -> bool {
        let releases = steps.iter().enumerate().filter(|(_, step)| **step == Step::Release);
        releases.into_iter().all(|(at, _)| at > 0 && matches!(steps[at - 1], Step::Kill | Step::Sweep))
    }

    #[test]
    fn nobody_is_killed_before_everybody_was_asked_unless_the_leader_ended_by_itself() {
        for first in HAPPENINGS.into_iter().filter(|first| *first != Happening::LeaderEnded) {
            for second in HAPPENINGS.into_iter().filter(|second| *second != Happening::LeaderEnded) {
                let (_, steps) = walk(&[first, second]);
                if steps.contains(&Step::Kill) {
                    assert_eq!(steps.first(), Some(&Step::Ask), "{first:?}, {second:?}");
                }
            }
        }
    }

    #[test]
    fn the_ladder_is_only_ever_climbed_upwards() {
        for (height, rung) in RUNGS.into_iter().enumerate() {
            for happening in HAPPENINGS {
                let (next, _) = climb(rung, happening);
                let next_height = RUNGS.iter().position(|other| *other == next);
                assert!(next_height >= Some(height), "{rung:?} on {happening:?} went to {next:?}");
            }
        }
    }

    /// A run whose plan has `requests`, some of which are made in vain, and to which this happens.
    fn stop(requests: &[bool], happenings: &[Happening]) -> (Vec<usize>, Vec<Step>) {
        let ask = Ask::Signal(StopSignal::Terminate);
        let more = requests.len() - 1;
        let plan = (0..more).fold(StopPlan::begin(ask), |plan, _| plan.then_after(Duration::ZERO, ask));
        let mut ladder = Ladder::new(plan, Duration::ZERO);
        let (mut rung, mut made, mut steps, mut next) = (Rung::Running, Vec::new(), Vec::new(), 0);
        for happening in happenings {
            // As the supervisor tells them apart.
            let happening = match happening {
                Happening::TimeOver | Happening::GraceOver if ladder.is_at_its_end() => Happening::GraceOver,
                Happening::TimeOver | Happening::GraceOver => Happening::TimeOver,
                other => *other,
            };
            let (higher, todo) = climb(rung, happening);
            rung = higher;
            for step in todo {
                steps.push(*step);
                if *step == Step::Ask {
                    ladder.climb(|_| {
                        next += 1;
                        requests[next - 1].then(|| made.push(next - 1))
                    });
                }
            }
        }
        (made, steps)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn every_plan_is_followed_in_its_order_and_nobody_is_killed_before_its_end_unless_somebody_insists(
            requests in prop::collection::vec(any::<bool>(), 1..5),
            happenings in prop::collection::vec(prop::sample::select(HAPPENINGS.to_vec()), 0..12),
        ) {
            let (made, steps) = stop(&requests, &happenings);
            let wanted: Vec<_> = (0..requests.len()).filter(|at| requests[*at]).collect();
            prop_assert!(wanted.starts_with(&made), "made {made:?} of {wanted:?}");
            let killed = steps.iter().position(|step| *step == Step::Kill);
            let swept = steps.iter().position(|step| matches!(step, Step::Kill | Step::Sweep));
            let asked = steps.iter().rposition(|step| *step == Step::Ask);
            prop_assert!(swept.is_none() || asked.is_none() || asked < swept, "{steps:?}");
            if killed.is_some() && !happenings.contains(&Happening::StopUrged) {
                prop_assert_eq!(made, wanted, "killed before everything was asked: {:?}", steps);
            }
        }

        #[test]
        fn every_plan_comes_to_its_end_when_nobody_heeds_it(requests in prop::collection::vec(any::<bool>(), 1..5)) {
            let happenings = [vec![Happening::StopAsked], vec![Happening::TimeOver; requests.len()]].concat();
            let (made, steps) = stop(&requests, &happenings);
            let wanted: Vec<_> = (0..requests.len()).filter(|at| requests[*at]).collect();
            prop_assert_eq!(made, wanted);
            prop_assert_eq!(steps.last(), Some(&Step::Kill));
        }
    }
}
