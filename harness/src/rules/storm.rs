//! C2: many starts at once where there is not room for all of them.

use fake_cli::span::Span;

use super::concurrency::overlap;
use super::directed::{of, ready_and_hang, run, scenario, wait};
use super::facts::{Facts, Lateness, Run, micros, told};
use super::failed_start;
use super::verdicts::{broken, together};
use crate::scenario::{HostState, Op, Scenario};
use crate::trace::Reason;
use crate::verdict::Verdict;

/// So many runs at once are a storm.
const STORM: usize = 8;
/// Files that the host may have open in the directed storm, and how many runs are started: some have room, and some have not.
const OPEN_FILES: u64 = 64;
const RUNS: u32 = 24;
/// Longer than the starts of all of them take, so that those which have room are there at the same time.
const TIMEOUT: Span = Span::from_millis(500);

pub(super) fn judge(facts: &Facts<'_>) -> Verdict {
    if let Some(fault) = facts.fault() {
        return fault;
    }
    if facts.is_template() {
        return Verdict::NotRun("a command runs its child once".to_owned());
    }
    if facts.trace.scenario.host.open_files.is_none() || at_once(facts) < STORM {
        return Verdict::Vacuous("no storm of starts under a limit of the host's".to_owned());
    }
    if facts.trace.scenario.ops.iter().any(|op| op.verb.ends_host() || op.hindered_by.is_some()) {
        return Verdict::Vacuous("the host was ended, or one start was hindered by itself".to_owned());
    }
    let failed = facts.runs().iter().filter(|run| run.start_failed()).count();
    let odd = |run: &Run<'_>| errs_instead(facts, run) || run.root().is_none() && run.ended.is_none();
    if failed == 0 && !facts.runs().iter().any(odd) {
        return Verdict::Vacuous(facts.because("there was room for all of them"));
    }
    together(facts.runs().iter().map(|run| judge_run(facts, run, failed)), String::new)
}

/// A run ends as runs do, or its start fails, is said to have failed, and leaves nothing.
fn judge_run(facts: &Facts<'_>, run: &Run<'_>, failed: usize) -> Verdict {
    let number = run.number;
    match run.ended.map(|(_, outcome)| &outcome.reason) {
        None if run.over_us().is_some() => Verdict::Kept,
        None => never_ended(facts, run, failed),
        Some(Reason::StartFailed(_)) => failed_start::judge_run(facts, run).unwrap_or_else(Verdict::Vacuous),
        Some(Reason::Error(why)) if errs_instead(facts, run) => broken(format!(
            "run {number} of the storm did not start, and instead of that there was this: {why}"
        )),
        Some(Reason::Error(why)) if run.root().is_none() => Verdict::Unknown(format!(
            "whether run {number} of the storm started is not known; it ended with this: {why}"
        )),
        Some(_) => Verdict::Kept,
    }
}

/// The most runs that were under way while one of them was.
fn at_once(facts: &Facts<'_>) -> usize {
    let runs = facts.runs();
    runs.iter().map(|run| 1 + runs.iter().filter(|other| overlap(run, other)).count()).max().unwrap_or(0)
}

/// Whether a run ended with an error before anybody had stopped it, and before its timeout could, if it has one: a child that was stopped may never have
/// come so far as to say hello.
fn errs_instead(facts: &Facts<'_>, run: &Run<'_>) -> bool {
    let due_us = facts.trace.limits.timeout.map(|timeout| run.issued_us.saturating_add(micros(timeout)));
    let ended_us = run.ended.filter(|(_, outcome)| matches!(outcome.reason, Reason::Error(_)));
    run.root().is_none()
        && run.stops.is_empty()
        && ended_us.is_some_and(|(ended_us, _)| due_us.is_none_or(|due_us| ended_us < due_us))
}

fn never_ended(facts: &Facts<'_>, run: &Run<'_>, failed: usize) -> Verdict {
    let waited_us = facts.last_us().saturating_sub(run.issued_us);
    let sentence = format!(
        "run {} of the storm, {failed} starts of which failed, had neither ended nor failed after {}",
        run.number,
        told(waited_us)
    );
    let limits = &facts.trace.limits;
    let Some(timeout) = limits.timeout.filter(|_| facts.host_fell_silent()) else {
        return Verdict::Unknown(sentence);
    };
    let bound =
        [Some(timeout), limits.grace, limits.drain].into_iter().flatten().map(|span| span.get()).sum();
    let bound_us = std::time::Duration::as_micros(&bound).try_into().unwrap_or(u64::MAX);
    match facts.lateness(waited_us, facts.slack_us().saturating_add(bound_us)) {
        Lateness::Late(_) => broken(sentence),
        Lateness::InTime | Lateness::WithinNoise(_) => Verdict::Unknown(sentence),
    }
}

pub(super) fn directed() -> Vec<Scenario> {
    let starts = (0..RUNS).map(|_| run());
    let waits = (1..=RUNS).map(|number| of(number, wait()));
    let ops: Vec<Op> = starts.chain(waits).collect();
    let state = HostState { open_files: Some(OPEN_FILES), ..HostState::default() };
    vec![
        scenario(
            "storm-of-starts",
            "Many children are asked for at once, and there are not descriptors for all: who has room runs, and each of the others gets an error.",
            &["C2"],
            ready_and_hang().to_vec(),
            ops,
        )
        .with_timeout(TIMEOUT)
        .with_host(state),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::by_hand::{Hand, assert_verdict, because, case, steps};
    use super::*;
    use crate::trace::Stage;
    use crate::verdict::VerdictKind::{Broken, Kept, NotRun, Unknown, Vacuous};

    /// Eight runs at once, of which one ends in this way and the others by their timeout.
    fn storm(odd: impl FnOnce(Hand) -> Hand) -> Hand {
        let host = HostState { open_files: Some(64), ..HostState::default() };
        let hand = case(steps(r#"["hang"]"#)).timeout(100).with(|trace| trace.scenario.host = host);
        let hand = (0..7).fold(hand, |hand, number| hand.run(number).hello(number + 10, "root"));
        let hand = odd(hand.run(9));
        let ends =
            |hand: Hand, number| hand.of(number).gone(110, "root").ended(112, because(Reason::TimedOut));
        (0..7).fold(hand, ends)
    }

    fn failed(hand: Hand) -> Hand {
        hand.ended(20, because(Reason::StartFailed("no descriptor left".to_owned())))
    }

    #[test]
    fn c2_is_kept_where_each_start_is_a_run_or_an_error_and_nothing_is_left() {
        let kept = storm(failed).look_sees(Stage::Quiesce, &[]);
        assert_verdict(&kept, judge, Kept, "");
    }

    #[test]
    fn c2_is_broken_by_what_a_failed_start_leaves_by_a_panic_and_by_a_start_that_never_comes_to_an_end() {
        let left =
            storm(|hand| failed(hand.hello(15, "root"))).of(7).look_at(Stage::Quiesce, 2_000, Vec::new());
        let survivor = left.survivor("root");
        let left = left.with(|trace| trace.looks[0].seen.push(survivor));
        assert_verdict(&left, judge, Broken, "root");
        let panicked =
            storm(|hand| hand.ended(20, because(Reason::Error("the wrapper panicked".to_owned()))));
        assert_verdict(&panicked, judge, Broken, "run 7 of the storm did not start");
        let without_timeout = panicked.with(|trace| trace.limits.timeout = None);
        assert_verdict(&without_timeout, judge, Broken, "run 7 of the storm did not start");
        let hung = storm(|hand| hand).silent().look_at(Stage::Quiesce, 9_000, Vec::new());
        assert_verdict(&hung, judge, Broken, "had neither ended nor failed");
    }

    #[test]
    fn c2_is_unknown_where_lateness_may_be_the_machines_or_nobody_looked() {
        let late = storm(|hand| hand).silent().look_at(Stage::Quiesce, 100, Vec::new());
        assert_verdict(&late, judge, Unknown, "had neither ended nor failed");
        assert_verdict(&storm(failed), judge, Unknown, "nobody looked");
        assert_verdict(&storm(failed).our_fault(), judge, Unknown, "harness could not");
    }

    #[test]
    fn c2_does_not_take_a_child_that_was_stopped_before_its_hello_for_one_that_did_not_start() {
        let error = || because(Reason::Error("exit code 137".to_owned()));
        let stopped = storm(|hand| hand.ended(112, error()));
        assert_verdict(&stopped, judge, Vacuous, "room for all");
        let by_an_op = storm(|hand| failed(hand.cancel(15).ended(20, error()).run(10)));
        let by_an_op = by_an_op.with(|trace| trace.limits.timeout = None);
        assert_verdict(&by_an_op, judge, Unknown, "whether run 7 of the storm started");
        let beside_a_failure = storm(|hand| failed(hand.ended(112, error()).run(10)));
        assert_verdict(&beside_a_failure, judge, Unknown, "whether run 7 of the storm started");
    }

    #[test]
    fn c2_is_vacuous_without_a_storm_that_is_felt_and_not_run_for_a_command() {
        let roomy =
            storm(|hand| hand.hello(20, "root").gone(110, "root").ended(112, because(Reason::TimedOut)));
        assert_verdict(&roomy, judge, Vacuous, "room for all");
        let free = storm(failed).with(|trace| trace.scenario.host = HostState::default());
        assert_verdict(&free, judge, Vacuous, "no storm");
        assert_verdict(&case(steps("[]")).run(0), judge, Vacuous, "no storm");
        // One after the other.
        let few = (0..10).fold(storm(failed).with(|trace| trace.moments.clear()), |hand, number| {
            hand.run(200 + 10 * number)
                .ended(205 + 10 * number, because(Reason::StartFailed("none".to_owned())))
        });
        assert_verdict(&few, judge, Vacuous, "no storm");
        assert_verdict(&storm(failed).kill_host(50), judge, Vacuous, "was ended");
        assert_verdict(&storm(failed).template(), judge, NotRun, "once");
    }
}
