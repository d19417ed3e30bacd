//! Stops that come in the middle of a start, which a held system call of the start makes certain: K6 and a part of K7; and the owner's death
//! there: P5, E5.

use fake_cli::script::{ROOT, Step};

use super::directed::{after, emit, run, scenario, wait};
use super::ending::is_cancel;
use super::facts::{Facts, HeldCall, Run, Stop};
use super::owner;
use super::standing::{Ids, Standing, standing};
use super::verdicts::together;
use super::witness::{Sighting, finding, judge_left, name, sightings};
use crate::scenario::{Op, Scenario, Verb};
use crate::syscalls::CallKind;
use crate::trace::{Look, Stage};
use crate::verdict::Verdict;

/// Between fork and exec.
const BEFORE_EXEC: &[CallKind] = &[CallKind::Exec, CallKind::ExecChild];
/// In the call that makes the process: the start cannot have returned.
const IN_THE_FORK: &[CallKind] = &[CallKind::Clone];
const ANYWHERE: &[CallKind] = &[CallKind::Clone, CallKind::Exec, CallKind::ExecChild];

pub(super) fn judge_k6(facts: &Facts<'_>) -> Verdict {
    judge_cancel(facts, BEFORE_EXEC)
}

/// The part of K7 that a held fork makes certain.
pub(super) fn judge_in_the_fork(facts: &Facts<'_>) -> Verdict {
    judge_cancel(facts, IN_THE_FORK)
}

/// Whether the call that makes a child was held.
pub(super) fn holds_the_fork(facts: &Facts<'_>) -> bool {
    facts.holds().any(|hold| IN_THE_FORK.contains(&hold.call))
}

pub(super) fn judge_p5(facts: &Facts<'_>) -> Verdict {
    judge_death(facts, ANYWHERE)
}

pub(super) fn judge_e5(facts: &Facts<'_>) -> Verdict {
    judge_death(facts, BEFORE_EXEC)
}

fn judge_cancel(facts: &Facts<'_>, calls: &[CallKind]) -> Verdict {
    if let Some(fault) = facts.fault() {
        return fault;
    }
    if facts.cannot(Verb::Cancel) {
        return Verdict::NotRun("the subject cannot cancel".to_owned());
    }
    let stopped = match stopped_in_start(facts, calls, |verb| is_cancel(facts, verb)) {
        Ok(stopped) => stopped,
        Err(untested) => return Verdict::Vacuous(untested),
    };
    if facts.host_fell_silent() {
        return Verdict::Unknown("the host fell silent".to_owned());
    }
    let Some(look) = facts.look(Stage::Quiesce).or_else(|| facts.look(Stage::HostGone)) else {
        return Verdict::Unknown("nobody looked who was alive after the cancel".to_owned());
    };
    together(stopped.iter().map(|(run, stop)| nobody_left(facts, run, *stop, look)), String::new)
}

fn nobody_left(facts: &Facts<'_>, run: &Run<'_>, stop: Stop, look: &Look) -> Verdict {
    let seen = sightings(facts, look).into_iter().filter_map(|sighting| of_start(facts, run, sighting));
    let later_us = look.at_us.saturating_sub(stop.at_us);
    judge_left(facts, look, seen, |survivors| {
        Verdict::Broken(finding(look, survivors, "a cancel in the middle of the start", later_us))
    })
}

/// A sighting, if it may be somebody of a start that was cancelled, with a doubt where that cannot be said. Who escaped is charged to the rule
/// of its escape, which asks less of a subject that ends groups only.
fn of_start<'a>(facts: &Facts<'_>, run: &Run<'_>, sighting: Sighting<'a>) -> Option<Sighting<'a>> {
    let seen = sighting.seen;
    let doubt = match &seen.node {
        None => Some(format!("{} is no node and may be a helper of the host's own", name(seen))),
        Some((number, _)) if *number != run.number => return None,
        Some((_, node)) => {
            let ids = Ids { pgid: seen.pgid, sid: seen.sid };
            match standing(&facts.trace.scenario.script, run, node, ids) {
                Some(Standing::Stayed) => None,
                Some(_) => return None,
                None if node == ROOT => None,
                None => Some(format!("{} was left; whether it had escaped cannot be said", name(seen))),
            }
        }
    };
    Some(Sighting { doubt: sighting.doubt.or(doubt), ..sighting })
}

fn judge_death(facts: &Facts<'_>, calls: &[CallKind]) -> Verdict {
    if let Some(fault) = facts.fault() {
        return fault;
    }
    match stopped_in_start(facts, calls, |verb| verb == Verb::KillHost) {
        Ok(stopped) => owner::judge_left(facts, &stopped),
        Err(untested) => Verdict::Vacuous(untested),
    }
}

/// The runs that such an op hit while a call of their start was held and not yet done, each with that op; or why there is none.
fn stopped_in_start<'f, 'a>(
    facts: &'f Facts<'a>,
    calls: &[CallKind],
    stops: impl Fn(Verb) -> bool,
) -> Result<Vec<(&'f Run<'a>, Stop)>, String> {
    let held: Vec<HeldCall> = facts.holds().filter(|hold| calls.contains(&hold.call)).collect();
    if let Some(in_vain) = held.iter().find(|hold| hold.let_go_us.is_some_and(|(_, in_vain)| in_vain)) {
        return Err(format!("{} {} was held as long as a call is held, in vain", in_vain.call, in_vain.nth));
    }
    // One whose caller died with it was never done.
    let during = |stop: &Stop| {
        let ends = |hold: &HeldCall| hold.let_go_us.map_or(u64::MAX, |(at_us, _)| at_us);
        held.iter().any(|hold| (hold.held_us..=ends(hold)).contains(&stop.at_us))
    };
    let of_run = |run: &'f Run<'a>| {
        let stop = run.stops.iter().find(|stop| stops(stop.verb) && during(stop))?;
        Some((run, *stop))
    };
    let stopped: Vec<_> = facts.runs().iter().filter_map(of_run).collect();
    if stopped.is_empty() {
        return Err(facts.because("nothing was stopped while a call of its start was held"));
    }
    Ok(stopped)
}

// ---- Directed scenarios ----

fn hanging() -> Vec<Step> {
    vec![emit("ready"), Step::Hang]
}

fn at(call: CallKind, verb: Verb) -> Op {
    after(&call.event(1), verb)
}

pub(super) fn directed_k6() -> Vec<Scenario> {
    let cancel = |name, why, call| {
        scenario(name, why, &["K6"], hanging(), vec![run(), at(call, Verb::Cancel), wait()]).holding(
            call,
            1,
            "op.1.done",
        )
    };
    vec![
        cancel(
            "cancel-before-the-exec",
            "Between fork and exec the child has neither its own program nor, perhaps, its own group: whoever signals it then must not lose it.",
            CallKind::ExecChild,
        ),
        cancel(
            "cancel-before-the-first-exec",
            "A wrapper that starts its child by a helper can be caught before even that one runs.",
            CallKind::Exec,
        ),
    ]
}

pub(super) fn directed_k7() -> Vec<Scenario> {
    vec![
        scenario(
            "cancel-in-the-fork",
            "Another thread cancels while the start has not returned: there is no pid yet that could be signalled.",
            &["K7"],
            hanging(),
            vec![run(), at(CallKind::Clone, Verb::Cancel), wait()],
        )
        .holding(CallKind::Clone, 1, "op.1.done"),
    ]
}

fn killed(name: &str, why: &str, rules: &[&str], call: CallKind) -> Scenario {
    scenario(name, why, rules, hanging(), vec![run(), at(call, Verb::KillHost)]).holding(call, 1, "host.gone")
}

pub(super) fn directed_p5() -> Vec<Scenario> {
    let mut scenarios = directed_e5();
    scenarios.extend([
        killed(
            "kill-host-before-the-first-exec",
            "A helper that is to end the child when its owner dies may itself not have been executed yet.",
            &["P5"],
            CallKind::Exec,
        ),
        killed(
            "kill-host-in-the-fork",
            "The owner dies in the call that makes the child.",
            &["P5"],
            CallKind::Clone,
        ),
    ]);
    scenarios
}

pub(super) fn directed_e5() -> Vec<Scenario> {
    vec![killed(
        "kill-host-before-the-exec",
        "A parent-death signal that was not yet asked for, or a watch that was not yet set up, misses an owner that dies between fork and exec.",
        &["E5", "P5"],
        CallKind::ExecChild,
    )]
}

#[cfg(test)]
mod tests {
    use super::super::by_hand::{AWAY, Hand, assert_verdict, because, case, steps};
    use super::super::hygiene::judge_k7;
    use super::*;
    use crate::trace::{Reason, Status, What};
    use crate::verdict::VerdictKind::{Broken, Kept, NotRun, Unknown, Vacuous};

    const KILLED: Status = Status::Signaled(9);

    fn started() -> Hand {
        case(steps(r#"[{"emit": "ready"}, "hang"]"#)).run(0)
    }

    fn held(hand: Hand, at_ms: u64, call: CallKind) -> Hand {
        hand.what(at_ms, What::Held { call, nth: 1 })
    }

    fn let_go(hand: Hand, at_ms: u64, call: CallKind, in_vain: bool) -> Hand {
        hand.what(at_ms, What::LetGo { call, nth: 1, in_vain })
    }

    fn cancelled_in(call: CallKind) -> Hand {
        let_go(held(started(), 2, call).cancel(3).done(4), 5, call, false)
    }

    #[test]
    fn k6_and_k7_are_kept_when_nobody_is_left() {
        let cancelled =
            |call| cancelled_in(call).ended(9, because(Reason::Cancelled)).look(Stage::Quiesce, vec![]);
        for call in [CallKind::Exec, CallKind::ExecChild] {
            assert_verdict(&cancelled(call), judge_k6, Kept, "");
            assert_verdict(&cancelled(call), judge_in_the_fork, Vacuous, "nothing was stopped");
        }
        assert_verdict(&cancelled(CallKind::Clone), judge_k7, Kept, "");
        assert_verdict(&cancelled(CallKind::Clone), judge_k6, Vacuous, "nothing was stopped");
    }

    #[test]
    fn k6_and_k7_are_broken_by_who_is_left_and_unknown_in_doubt() {
        for (call, judge) in
            [(CallKind::ExecChild, judge_k6 as fn(&Facts<'_>) -> Verdict), (CallKind::Clone, judge_k7)]
        {
            let left = cancelled_in(call).hello(6, "root").look_sees(Stage::Quiesce, &["root"]);
            assert_verdict(&left, judge, Broken, "after a cancel in the middle of the start");
            let once = left.clone().with(|trace| trace.looks[0].seen[0].samples = 1);
            assert_verdict(&once, judge, Unknown, "only once");
            let helper = left.clone().with(|trace| {
                trace.looks[0].seen[0].node = None;
                trace.looks[0].sysinfo = Some(vec![trace.looks[0].seen[0].pid]);
            });
            assert_verdict(&helper, judge, Unknown, "may be a helper");
            let partly = cancelled_in(call).look(Stage::Quiesce, vec![]);
            let partly = partly.with(|trace| trace.looks[0].complete = false);
            assert_verdict(&partly, judge, Unknown, "did not see everyone");
            assert_verdict(&cancelled_in(call).silent(), judge, Unknown, "silent");
            assert_verdict(&cancelled_in(call), judge, Unknown, "nobody looked");
            assert_verdict(&left.our_fault(), judge, Unknown, "harness could not");
        }
    }

    #[test]
    fn who_escaped_from_a_cancelled_start_is_charged_to_its_escape() {
        let cancelled = || cancelled_in(CallKind::ExecChild).hello(6, "root");
        let away = cancelled().hello_as(7, "away", AWAY).look_sees(Stage::Quiesce, &["away"]);
        assert_verdict(&away, judge_k6, Kept, "");
        let stayed = cancelled().hello(7, "child").hello_as(7, "away", AWAY);
        let Verdict::Broken(finding) = stayed.look_sees(Stage::Quiesce, &["child", "away"]).judge(judge_k6)
        else {
            panic!("not broken")
        };
        assert_eq!(finding.count, 1);
        let lost = cancelled_in(CallKind::ExecChild).hello(7, "child").look_sees(Stage::Quiesce, &["child"]);
        assert_verdict(&lost, judge_k6, Unknown, "whether it had escaped");
    }

    #[test]
    fn a_cancel_that_is_certainly_not_in_the_start_tests_nothing() {
        let late = let_go(held(started(), 2, CallKind::ExecChild), 3, CallKind::ExecChild, false).cancel(10);
        assert_verdict(&late.look(Stage::Quiesce, vec![]), judge_k6, Vacuous, "nothing was stopped");
        let in_vain =
            let_go(held(started(), 2, CallKind::ExecChild).cancel(3), 2_003, CallKind::ExecChild, true);
        assert_verdict(&in_vain.look(Stage::Quiesce, vec![]), judge_k6, Vacuous, "in vain");
        let in_vain = let_go(held(started(), 2, CallKind::Clone).cancel(3), 2_003, CallKind::Clone, true);
        assert_verdict(&in_vain.look(Stage::Quiesce, vec![]), judge_k7, Vacuous, "in vain");
        let stuck = started().stuck(3_000, Verb::Cancel, "call.exec-child.1");
        assert_verdict(&stuck, judge_k6, Vacuous, "call.exec-child.1 did not come");
        let cannot = held(started(), 2, CallKind::Clone).cancel(3).unimplemented(4);
        assert_verdict(&cannot, judge_in_the_fork, NotRun, "cannot cancel");
    }

    fn killed_in(call: CallKind) -> Hand {
        let_go(held(started(), 2, call).kill_host(3).host_gone(4, KILLED), 5, call, false)
    }

    #[test]
    fn p5_and_e5_are_kept_when_nobody_is_left_and_broken_by_who_is() {
        for judge in [judge_p5, judge_e5] {
            let nobody = killed_in(CallKind::ExecChild).look(Stage::HostGone, vec![]);
            assert_verdict(&nobody, judge, Kept, "");
            let left = killed_in(CallKind::ExecChild).hello(6, "root").look_sees(Stage::HostGone, &["root"]);
            assert_verdict(&left, judge, Broken, "after the host was ended");
            let once = left.with(|trace| trace.looks[0].seen[0].samples = 1);
            assert_verdict(&once, judge, Unknown, "only once");
            assert_verdict(&killed_in(CallKind::ExecChild), judge, Unknown, "nobody looked");
            assert_verdict(&started().kill_host(3), judge, Vacuous, "nothing was stopped");
        }
    }

    #[test]
    fn e5_is_about_what_comes_after_the_fork() {
        let in_the_fork = killed_in(CallKind::Clone).look(Stage::HostGone, vec![]);
        assert_verdict(&in_the_fork, judge_p5, Kept, "");
        assert_verdict(&in_the_fork, judge_e5, Vacuous, "nothing was stopped");
        // Its caller died with it.
        let never_done = held(started(), 2, CallKind::Clone).kill_host(3).host_gone(4, KILLED);
        assert_verdict(&never_done.look(Stage::HostGone, vec![]), judge_p5, Kept, "");
    }
}
