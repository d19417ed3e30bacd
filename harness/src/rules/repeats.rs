//! Z2, T2: what the host has more of after each of several equal runs.

use fake_cli::script::Step;

use super::directed::{once_started, ready_and_hang, run, scenario, to_the_end, wait};
use super::facts::Facts;
use super::handles::{are_equal_runs, inventory, unless_it_may_still_go};
use crate::scenario::{Op, Scenario, Verb};
use crate::trace::{Inventory, Point};
use crate::verdict::{Finding, Verdict};

/// So many runs show whether growth persists.
pub(crate) const LEAST_RUNS: usize = 5;

pub(super) fn judge_z2(facts: &Facts<'_>) -> Verdict {
    grows(facts, "zombies", |inventory| inventory.zombies.map(u64::from))
}

pub(super) fn judge_t2(facts: &Facts<'_>) -> Verdict {
    grows(facts, "tasks", |inventory| inventory.tasks)
}

fn grows(facts: &Facts<'_>, what: &str, count: fn(&Inventory) -> Option<u64>) -> Verdict {
    if let Some(fault) = facts.fault() {
        return fault;
    }
    if facts.is_template() {
        return Verdict::NotRun(format!("a command is gone when its run is over, and its {what} with it"));
    }
    if facts.runs().len() < LEAST_RUNS || !are_equal_runs(&facts.trace.scenario.ops) {
        return Verdict::Vacuous("the case has no five equal runs, one after the other".to_owned());
    }
    let after = |number: u32| inventory(facts, Point::AfterRun(number));
    let listed: Vec<&Inventory> = facts.runs().iter().filter_map(|run| after(run.number)).collect();
    let counts: Vec<u64> = listed.iter().copied().filter_map(count).collect();
    // There is nothing that the count after the first run could settle to: what was just ending may be in it.
    let [_, settled @ ..] = counts.as_slice() else {
        return Verdict::Vacuous(facts.because(&format!("the host's {what} were not counted")));
    };
    let (Some(first), Some(last), true) = (settled.first(), settled.last(), counts.len() >= LEAST_RUNS)
    else {
        return Verdict::Vacuous(
            facts.because(&format!("the host's {what} were counted after fewer than five runs")),
        );
    };
    if last <= first {
        return Verdict::Kept;
    }
    let sentence = format!(
        "after {} equal runs the host has {last} {what}, after the second it had {first}",
        counts.len()
    );
    // What is taken away once in a while does not grow without a bound.
    if settled.windows(2).all(|pair| pair[1] > pair[0]) {
        unless_it_may_still_go(facts, &listed, Verdict::Broken(Finding { sentence, count: last - first }))
    } else {
        Verdict::Unknown(format!("{sentence}; but not with each run one more"))
    }
}

pub(super) fn directed_z2() -> Vec<Scenario> {
    directed(
        "zombies",
        "Z2",
        "Who never reaps, or only what was not killed, has one zombie more with each run.",
    )
}

pub(super) fn directed_t2() -> Vec<Scenario> {
    directed(
        "tasks",
        "T2",
        "A task that reads, feeds or waits is easily left behind by the run that started it.",
    )
}

fn directed(what: &str, rule: &str, why: &str) -> Vec<Scenario> {
    let repeated = |ops: &[Op]| [ops; LEAST_RUNS + 1].concat();
    let cancel = [run(), once_started(Verb::Cancel), wait()];
    vec![
        scenario(
            &format!("{what}-after-six-exits"),
            why,
            &[rule],
            vec![Step::Exit(0)],
            repeated(&to_the_end()),
        ),
        scenario(
            &format!("{what}-after-six-cancels"),
            why,
            &[rule],
            ready_and_hang().to_vec(),
            repeated(&cancel),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::by_hand::{Hand, assert_verdict, because, case, steps};
    use super::*;
    use crate::syscalls::CallKind;
    use crate::trace::{Reason, What};
    use crate::verdict::VerdictKind::{Broken, Kept, NotRun, Unknown, Vacuous};

    /// Equal runs, after each of which the host has so many zombies and tasks.
    fn runs(counts: &[u32]) -> Hand {
        counts.iter().zip(0..).fold(case(steps(r#"[{"exit": 0}]"#)), |hand, (count, run)| {
            let at_ms = u64::from(run) * 10;
            let hand = hand.run(at_ms).hello(at_ms + 1, "root").ended(at_ms + 2, because(Reason::Itself));
            let hand = hand.inventory(at_ms + 3, Point::AfterRun(run), &[]).wait(at_ms + 4);
            hand.with(|trace| {
                let inventory = trace.inventories.last_mut().unwrap();
                inventory.zombies = Some(*count);
                inventory.tasks = Some(u64::from(*count) + 3);
            })
        })
    }

    #[test]
    fn one_more_with_each_run_is_a_leak() {
        assert_verdict(
            &runs(&[1, 2, 3, 4, 5]),
            judge_z2,
            Broken,
            "after 5 equal runs the host has 5 zombies, after the second it had 2",
        );
        assert_verdict(&runs(&[0, 1, 2, 3, 4]), judge_t2, Broken, "7 tasks, after the second it had 4");
        // Of the first run something was about to go.
        assert_verdict(&runs(&[2, 2, 3, 4, 5]), judge_t2, Broken, "8 tasks, after the second it had 5");
    }

    #[test]
    fn what_stays_or_is_taken_away_is_none_and_what_grows_now_and_then_is_not_certain() {
        for judge in [judge_z2, judge_t2] {
            assert_verdict(&runs(&[1, 1, 1, 1, 1]), judge, Kept, "");
            assert_verdict(&runs(&[0, 1, 2, 3, 0]), judge, Kept, "");
            assert_verdict(&runs(&[0, 1, 1, 1, 2]), judge, Unknown, "not with each run");
            assert_verdict(&runs(&[0, 1, 2, 3, 4]).our_fault(), judge, Unknown, "harness could not");
        }
    }

    #[test]
    fn a_wrapper_that_the_harness_held_may_have_been_about_to_take_them_away() {
        for judge in [judge_z2, judge_t2] {
            let held = runs(&[0, 1, 2, 3, 4]).what(5, What::Held { call: CallKind::Wait, nth: 1 });
            assert_verdict(&held, judge, Unknown, "held a call");
        }
    }

    #[test]
    fn fewer_runs_or_none_that_were_counted_test_nothing() {
        for judge in [judge_z2, judge_t2] {
            assert_verdict(&runs(&[0, 1, 2, 3]), judge, Vacuous, "no five equal runs");
            let uncounted = runs(&[0, 1, 2, 3, 4]).with(|trace| trace.inventories.clear());
            assert_verdict(&uncounted, judge, Vacuous, "were not counted");
            let few = runs(&[0, 1, 2, 3, 4]).with(|trace| trace.inventories.truncate(3));
            assert_verdict(&few, judge, Vacuous, "fewer than five");
            assert_verdict(&runs(&[0, 1, 2, 3, 4]).template(), judge, NotRun, "a command");
        }
    }
}
