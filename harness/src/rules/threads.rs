//! T: threads, tasks, memory.

use std::collections::BTreeMap;

use fake_cli::script::Step;

use super::directed::{once_started, ready_and_hang, run, scenario, to_the_end, wait};
use super::facts::Facts;
use super::handles::{are_equal_runs, inventory, unless_it_may_still_go};
use super::{Judged, Rule, as_catalogued, load, repeats};
use crate::scenario::{Op, Scenario, Verb};
use crate::trace::{Condition, Inventory, Point};
use crate::verdict::{Finding, Level, Verdict};

/// With fewer runs a first use of the runtime is not told from a leak.
const LEAST_RUNS: usize = 3;
/// In so many steps from run to run a number must grow: a pool that is filled as it is used stops before that.
const LEAST_STEPS: usize = 5;
/// After so many runs without any more a pool has found its size.
const STEADY_RUNS: usize = 4;
/// Runs of the directed scenarios.
const REPEATS: usize = 10;

/// The rules of this family.
pub(super) fn rules() -> Vec<Rule> {
    let rule = |id, title, level, sentence, measured, guard, judged| Rule {
        id,
        title,
        level,
        sentence,
        measured,
        guard,
        weigh: as_catalogued,
        judged,
    };
    vec![
        rule(
            "T1",
            "no thread more with each run",
            Level::Must,
            "The number of the host's threads does not grow over repeats.",
            "The host's threads are listed by name after each of several equal runs.",
            "The first run warms up the runtime, and threads have 200 ms to end. Growth must go on for five runs: a pool may fill up, and what \
                has stopped growing is no leak.",
            Judged::Trace { judge: judge_t1, directed: directed_t1 },
        ),
        rule(
            "T2",
            "no task more with each run",
            Level::Must,
            "The number of the host's tasks does not grow over repeats, where the host can say it.",
            "The host reports its runtime's tasks after each of several equal runs.",
            "The first run warms up the runtime, and tasks have a second to end. There must be one more with each run.",
            Judged::Trace { judge: repeats::judge_t2, directed: repeats::directed_t2 },
        ),
        rule(
            "T3",
            "no busy waiting",
            Level::Should,
            "While the child hangs the host does not wait busily: at most 2 % of the time and 5 ms.",
            "The kernel's own sum of the host's processor time, from sample to sample while every node hangs and nothing is reported.",
            "It is the host's alone, so a busy machine adds nothing. The first 100 ms do not count, nor a burst: it must be so in three of four \
                stretches.",
            Judged::Trace { judge: load::judge_t3, directed: load::directed_t3 },
        ),
        rule(
            "T4",
            "memory bounded in a flood",
            Level::Should,
            "The host's memory stays bounded while a child floods and nobody reads.",
            "The most memory that the host had resident, just before a child writes 36 or 60 MiB and afterwards.",
            "The kernel keeps the peak, so no look can come too late. What grew by up to half of what was written is a bound; a child that is kept \
                waiting is one too. Less than 34 MiB to one stream tells nothing. A subject that declares to hold more than a flood can show is \
                not asked.",
            Judged::Trace { judge: load::judge_t4, directed: load::directed_t4 },
        ),
    ]
}

// ---- T1 ----

fn judge_t1(facts: &Facts<'_>) -> Verdict {
    if let Some(fault) = facts.fault() {
        return fault;
    }
    if facts.is_template() {
        return Verdict::NotRun("a command is gone when its run is over, and its threads with it".to_owned());
    }
    if !are_equal_runs(&facts.trace.scenario.ops) {
        return Verdict::Vacuous("the case has no three equal runs, one after the other".to_owned());
    }
    let after = |number: u32| inventory(facts, Point::AfterRun(number));
    let listed: Vec<&Inventory> = facts.runs().iter().filter_map(|run| after(run.number)).collect();
    let seen: Vec<&Condition> = listed.iter().filter_map(|inventory| inventory.condition.as_ref()).collect();
    if seen.len() < LEAST_RUNS {
        return Verdict::Vacuous(facts.because("the host's threads were listed after fewer than three runs"));
    }
    unless_it_may_still_go(facts, &listed, more_with_each_run(&seen))
}

fn more_with_each_run(seen: &[&Condition]) -> Verdict {
    let counts: Vec<usize> = seen.iter().map(|condition| condition.threads.len()).collect();
    let (first, last) = (counts[0], counts[counts.len() - 1]);
    let steps = counts.windows(2).filter(|pair| pair[1] > pair[0]).count();
    let is_steady = counts.len() > STEADY_RUNS
        && counts[counts.len() - STEADY_RUNS..].iter().all(|count| *count <= last)
        && counts[counts.len() - STEADY_RUNS] == last;
    if last <= first || is_steady {
        return Verdict::Kept;
    }
    let sentence = format!(
        "after {} equal runs the host has {last} threads, after the first it had {first}; more there are of {}",
        counts.len(),
        grown_names(seen[0], seen[seen.len() - 1])
    );
    if steps < LEAST_STEPS {
        return Verdict::Unknown(format!(
            "{sentence}; but the number grew {steps} times only, as a pool's may"
        ));
    }
    Verdict::Broken(Finding { sentence, count: (last - first) as u64 })
}

/// Which names more threads have than before.
fn grown_names(before: &Condition, after: &Condition) -> String {
    let by_name = |condition: &Condition| {
        let mut names: BTreeMap<String, usize> = BTreeMap::new();
        for thread in &condition.threads {
            *names.entry(thread.name.clone()).or_default() += 1;
        }
        names
    };
    let before = by_name(before);
    let grown = by_name(after).into_iter().filter_map(|(name, count)| {
        let more = count.saturating_sub(*before.get(&name).unwrap_or(&0));
        (more > 0).then(|| format!("{name:?} ({more})"))
    });
    grown.take(4).collect::<Vec<_>>().join(", ")
}

// ---- Directed scenarios ----

fn directed_t1() -> Vec<Scenario> {
    let repeated = |ops: &[Op]| [ops; REPEATS].concat();
    vec![
        scenario(
            "threads-after-ten-exits",
            "A thread for each run that nobody joins shows as growth from run to run, and a pool stops growing.",
            &["T1"],
            vec![Step::Exit(0)],
            repeated(&to_the_end()),
        ),
        scenario(
            "threads-after-ten-cancels",
            "A thread that waits for a child, or reads its output, is easily forgotten by a cancel.",
            &["T1"],
            ready_and_hang().to_vec(),
            repeated(&[run(), once_started(Verb::Cancel), wait()]),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::by_hand::{Hand, assert_verdict, because, case, condition, steps};
    use super::*;
    use crate::trace::{Reason, Thread};
    use crate::verdict::VerdictKind::{Broken, Kept, NotRun, Unknown, Vacuous};

    /// Equal runs, after each of which the host has so many threads.
    fn runs(counts: &[usize]) -> Hand {
        let hand = case(steps(r#"[{"exit": 0}]"#));
        counts.iter().zip(0..).fold(hand, |hand, (count, run)| {
            let at_ms = u64::from(run) * 10;
            let hand = hand.run(at_ms).hello(at_ms + 1, "root").ended(at_ms + 2, because(Reason::Itself));
            let mut seen = condition();
            seen.threads.extend((1..*count).map(|number| Thread {
                tid: 60 + number as i32,
                name: "reaper".to_owned(),
                blocked: Vec::new(),
            }));
            hand.condition(at_ms + 3, Point::AfterRun(run), seen).wait(at_ms + 4)
        })
    }

    #[test]
    fn a_thread_for_each_run_is_a_leak_and_is_named() {
        assert_verdict(&runs(&[2, 3, 4, 5, 6, 7]), judge_t1, Broken, "7 threads, after the first it had 2");
        assert_verdict(&runs(&[2, 3, 4, 5, 6, 7]), judge_t1, Broken, "\"reaper\" (5)");
        assert_verdict(&runs(&[1, 2, 2, 3, 4, 4, 5, 6]), judge_t1, Broken, "8 equal runs");
    }

    #[test]
    fn a_pool_that_found_its_size_is_none() {
        assert_verdict(&runs(&[3, 3, 3]), judge_t1, Kept, "");
        assert_verdict(&runs(&[3, 4, 3]), judge_t1, Kept, "");
        assert_verdict(&runs(&[1, 2, 3, 4, 5, 6, 7, 7, 7, 7]), judge_t1, Kept, "");
        assert_verdict(&runs(&[2, 1, 1]), judge_t1, Kept, "");
    }

    #[test]
    fn growth_that_may_be_a_pools_is_not_certain() {
        assert_verdict(&runs(&[1, 2, 3]), judge_t1, Unknown, "2 times only");
        assert_verdict(&runs(&[1, 1, 1, 1, 2]), judge_t1, Unknown, "1 times only");
    }

    #[test]
    fn a_thread_that_may_still_end_what_was_dropped_is_not_certain() {
        let dropped = |grace_ms| {
            (0..6_u32).fold(case(steps(r#"["hang"]"#)).grace(grace_ms).drain(100), |hand, run| {
                let at_ms = u64::from(run) * 1_000;
                let mut seen = condition();
                seen.threads.extend((0..run).map(|number| Thread {
                    tid: 60 + number as i32,
                    name: "reaper".to_owned(),
                    blocked: Vec::new(),
                }));
                hand.run(at_ms)
                    .hello(at_ms + 1, "root")
                    .drop(at_ms + 2)
                    .done(at_ms + 3)
                    .condition(at_ms + 203, Point::AfterRun(run), seen)
                    .wait(at_ms + 204)
            })
        };
        assert_verdict(&dropped(100), judge_t1, Broken, "\"reaper\"");
        assert_verdict(&dropped(101), judge_t1, Unknown, "ending what was dropped");
    }

    #[test]
    fn too_few_or_unequal_runs_show_nothing_and_a_command_has_none() {
        assert_verdict(&runs(&[1, 2]), judge_t1, Vacuous, "no three equal runs");
        let unseen = runs(&[1, 2, 3]).with(|trace| trace.inventories[1].condition = None);
        assert_verdict(&unseen, judge_t1, Vacuous, "fewer than three");
        assert_verdict(&runs(&[1, 2, 3]).template(), judge_t1, NotRun, "command");
        assert_verdict(&runs(&[1, 2, 3]).our_fault(), judge_t1, Unknown, "harness could not");
    }
}
