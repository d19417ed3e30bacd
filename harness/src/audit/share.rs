//! A subject's share of an audit's budget.

use std::time::Duration;

use super::LEAST_PERCENT;

/// How long a subject may take, counted from where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    /// For its generated cases and for shrinking what they find.
    pub(super) own: Duration,
    /// For its directed scenarios and those of files: also the shares of the subjects behind it, but for what those get at least.
    pub(super) most: Duration,
    /// For the same at least, counted from its first case: what it takes to measure a command's start is not a case's fault.
    pub(super) least: Duration,
}

impl Share {
    /// Of the subject that comes after `before` others of `subjects`, when so much of the budget has elapsed.
    pub(super) fn of(budget: Duration, elapsed: Duration, before: usize, subjects: usize) -> Self {
        let behind = (subjects - before - 1) as u32;
        let least = budget / subjects as u32 * LEAST_PERCENT / 100;
        let left = budget.saturating_sub(elapsed);
        Self {
            own: (left / (behind + 1)).max(least),
            most: left.saturating_sub(least * behind).max(least),
            least,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn who_comes_late_has_its_least_share_and_who_is_early_leaves_that_to_those_behind() {
        let share = |elapsed: u32, before| {
            let Share { own, most, least } = Share::of(60 * SECOND, elapsed * SECOND, before, 6);
            [own, most, least].map(|part| part.as_secs())
        };
        assert_eq!(share(0, 0), [10, 35, 5]);
        assert_eq!(share(35, 1), [5, 5, 5]);
        assert_eq!(share(20, 4), [20, 35, 5]);
        assert_eq!(share(54, 5), [6, 6, 5]);
        assert_eq!(share(3_000, 5), [5, 5, 5]);
        assert_eq!(Share::of(Duration::ZERO, SECOND, 0, 1).most, Duration::ZERO);
    }

    #[test]
    fn however_greedy_the_subjects_are_the_budget_is_overrun_only_by_what_is_under_way_at_their_ends() {
        for subjects in 1..8 {
            for late in [Duration::ZERO, SECOND / 10, 7 * SECOND] {
                let (budget, mut elapsed) = (60 * SECOND, Duration::ZERO);
                for before in 0..subjects {
                    let share = Share::of(budget, elapsed, before, subjects);
                    assert!(share.own <= share.most && share.least <= share.own, "{share:?}");
                    elapsed += share.most + late;
                }
                assert!(elapsed <= budget + late * subjects as u32, "{subjects} {late:?}: {elapsed:?}");
            }
        }
    }
}
