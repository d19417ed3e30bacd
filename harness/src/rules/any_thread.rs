//! K7: cancels from other threads, and during the start.

use fake_cli::script::ROOT;

use super::deadlines::{each_run, is_held_since, unknown_bound};
use super::directed::{after, once_started, ready_and_hang, run, scenario, together, wait};
use super::facts::{Facts, Lateness, Node, Run, Stop, told};
use super::verdicts::{broken, broken_unless};
use super::witness::{finding, judge_left, sightings};
use crate::scenario::{Call, Op, Scenario, Verb};
use crate::trace::{Reason, Said, Seen, Stage, What};
use crate::verdict::Verdict;

pub(super) fn judge(facts: &Facts<'_>) -> Verdict {
    if let Some(fault) = facts.fault() {
        return fault;
    }
    if facts.is_template() {
        return Verdict::NotRun(
            "a command is cancelled by a signal, which no thread of its own sends".to_owned(),
        );
    }
    if facts.cannot(Verb::Cancel) {
        return Verdict::NotRun("the subject cannot cancel".to_owned());
    }
    each_run(facts, |run| works(facts, run))
}

/// The first cancel that came from a thread of its own, or before the root was up.
fn special(facts: &Facts<'_>, run: &Run<'_>) -> Option<(Stop, &'static str)> {
    let verb = |op: usize| facts.trace.scenario.ops.get(op).map(|op| op.verb);
    let first = run.stops.iter().find(|stop| stop.verb == Verb::Cancel)?;
    let up_us = run.root().and_then(Node::hello_us).unwrap_or(u64::MAX);
    if first.at_us < up_us {
        Some((*first, "during its start"))
    } else if verb(first.op) == Some(Verb::Together) {
        Some((*first, "from other threads"))
    } else {
        None
    }
}

fn works(facts: &Facts<'_>, run: &Run<'_>) -> Result<Verdict, String> {
    let (stop, how) = special(facts, run).ok_or_else(|| {
        facts.because("the run was cancelled neither from another thread nor during its start")
    })?;
    if run.stops.iter().any(|stop| stop.verb.ends_host() || stop.verb == Verb::Drop) {
        return Err("the run was ended in another way too".to_owned());
    }
    if run.start_failed() {
        return Err("its start failed, which S10 judges".to_owned());
    }
    if let Some(why) = failure(facts, stop.op) {
        return Ok(broken(format!("the cancel of run {} {how} failed: {why}", run.number)));
    }
    Ok(match end_in_time(facts, run, stop, how) {
        Some(verdict) => verdict,
        None => root_is_gone(facts, run, stop, how),
    })
}

fn failure<'a>(facts: &Facts<'a>, cancel: usize) -> Option<&'a str> {
    facts.trace.moments.iter().find_map(|moment| match &moment.what {
        What::OpFailed { op, why } if *op == cancel => Some(why.as_str()),
        What::Called { op, calls, .. } if *op == cancel => {
            calls.iter().find_map(|made| match (made.call, &made.said) {
                (Call::Cancel, Said::Failed(why)) => Some(why.as_str()),
                _ => None,
            })
        }
        _ => None,
    })
}

/// A verdict unless the run ended in time.
fn end_in_time(facts: &Facts<'_>, run: &Run<'_>, stop: Stop, how: &str) -> Option<Verdict> {
    if let Some((_, outcome)) = run.ended
        && let Reason::Error(why) = &outcome.reason
    {
        return Some(Verdict::Unknown(format!(
            "the run that was cancelled {how} ended with an error: {why}"
        )));
    }
    if run.ended.is_none() && !facts.host_fell_silent() {
        return Some(Verdict::Unknown("the trace does not say when the run returned".to_owned()));
    }
    let until_us = run.ended.map_or_else(|| facts.last_us(), |(ended_us, _)| ended_us);
    let took_us = until_us.saturating_sub(stop.at_us);
    let Some(grace_us) = facts.grace_us() else {
        return Some(Verdict::Vacuous("the grace in force is not known".to_owned()));
    };
    let held = is_held_since(run, stop.at_us);
    // The start itself is not the stop's matter.
    let start_us = run.root().and_then(Node::hello_us).map_or(0, |up_us| up_us.saturating_sub(stop.at_us));
    let bound_us = grace_us
        .saturating_add(if held { facts.drain_us() } else { 0 })
        .saturating_add(start_us)
        .saturating_add(facts.slack_us());
    let state = if run.ended.is_some() { "ended" } else { "had not ended" };
    let sentence = format!(
        "run {} was cancelled {how} and {state} {} later; the bound was {}",
        run.number,
        told(took_us),
        told(bound_us)
    );
    match facts.lateness(took_us, bound_us) {
        Lateness::InTime if run.ended.is_none() => {
            Some(Verdict::Unknown(format!("{sentence}; nobody waited longer")))
        }
        Lateness::InTime => None,
        Lateness::WithinNoise(_) => {
            Some(Verdict::Unknown(format!("{sentence}; this machine's noise may explain that")))
        }
        Lateness::Late(_) => {
            let doubt = unknown_bound(facts).filter(|_| held);
            Some(broken_unless(doubt.as_ref(), sentence))
        }
    }
}

fn root_is_gone(facts: &Facts<'_>, run: &Run<'_>, stop: Stop, how: &str) -> Verdict {
    let Some(look) = facts.look(Stage::Quiesce) else {
        return Verdict::Unknown("nobody looked who was alive after the run".to_owned());
    };
    // A cancel that does not reach the root was lost. Whom else it does not reach no other cancel may reach either, which S1 to S11 judge.
    let is_root =
        |seen: &Seen| seen.node.as_ref().is_some_and(|(of, name)| *of == run.number && name == ROOT);
    let later_us = look.at_us.saturating_sub(stop.at_us);
    let seen = sightings(facts, look).into_iter().filter(|sighting| is_root(sighting.seen));
    judge_left(facts, look, seen, |left| {
        Verdict::Broken(finding(look, left, &format!("a cancel {how}"), later_us))
    })
}

pub(super) fn directed() -> Vec<Scenario> {
    let hangs = || ready_and_hang().to_vec();
    let cancels = |event: Option<&str>| match event {
        Some(event) => together(event, &[&[Call::Cancel], &[Call::Cancel]]),
        None => Op { after: None, ..together("root.ready", &[&[Call::Cancel], &[Call::Cancel]]) },
    };
    vec![
        scenario(
            "cancel-from-another-thread",
            "A cancel comes from a signal handler, a web page, a supervisor: from anywhere but the task that waits.",
            &["K7"],
            hangs(),
            vec![
                run(),
                Op { delay: once_started(Verb::Cancel).delay, ..together("root.ready", &[&[Call::Cancel]]) },
                wait(),
            ],
        ),
        scenario(
            "cancel-as-soon-as-it-was-asked-for",
            "A cancel that comes before there is a child to signal must not be lost, nor leave the child that comes.",
            &["K7"],
            hangs(),
            vec![run(), Op::new(Verb::Cancel), wait()],
        ),
        scenario(
            "cancel-from-two-threads-during-the-start",
            "As before, from two threads at once.",
            &["K7"],
            hangs(),
            vec![run(), cancels(None), wait()],
        ),
        scenario(
            "cancel-at-the-first-word",
            "The child runs and the call that started it may not have returned.",
            &["K7"],
            hangs(),
            vec![run(), after("root.hello", Verb::Cancel), wait()],
        ),
        scenario(
            "cancel-from-two-threads-at-the-first-word",
            "As before, from two threads at once.",
            &["K7"],
            hangs(),
            vec![run(), cancels(Some("root.hello")), wait()],
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::by_hand::{self, Hand, assert_verdict, because, hanging_pair, steps};
    use super::*;
    use crate::verdict::VerdictKind::{Broken, Kept, NotRun, Unknown, Vacuous};

    const CALLERS: [&[Call]; 2] = [&[Call::Cancel], &[Call::Cancel]];

    fn from_threads() -> Hand {
        hanging_pair()
            .drain(50)
            .together(10, &CALLERS)
            .called(11, vec![(0, Call::Cancel, 10, 11, Said::Done)])
    }

    fn ended(hand: Hand, at_ms: u64) -> Hand {
        hand.gone(at_ms, "root").gone(at_ms, "child").ended(at_ms, because(Reason::Cancelled))
    }

    /// Cancelled before its root was up, if it ever was.
    fn early() -> Hand {
        by_hand::case(steps(r#"["hang"]"#)).run(0).cancel(1).done(2)
    }

    #[test]
    fn k7_is_kept_when_such_a_cancel_works_like_any_other() {
        assert_verdict(&ended(from_threads(), 15).look(Stage::Quiesce, vec![]), judge, Kept, "");
        assert_verdict(
            &early().ended(3, because(Reason::Cancelled)).look(Stage::Quiesce, vec![]),
            judge,
            Kept,
            "",
        );
        let up = early().hello(3, "root").gone(4, "root").ended(5, because(Reason::Cancelled));
        assert_verdict(&up.look(Stage::Quiesce, vec![]), judge, Kept, "");
    }

    #[test]
    fn k7_is_broken_by_a_cancel_that_is_lost_fails_or_leaves_somebody() {
        let lost = early().hello(3, "root").what(6_000, What::GaveUp).silent();
        assert_verdict(&lost, judge, Broken, "was cancelled during its start and had not ended 5.9 s later");
        assert_verdict(
            &ended(from_threads(), 900).look(Stage::Quiesce, vec![]),
            judge,
            Broken,
            "from other threads and ended 890 ms later",
        );
        let failed = hanging_pair()
            .together(10, &CALLERS)
            .called(11, vec![(1, Call::Cancel, 10, 11, Said::Failed("busy".to_owned()))]);
        assert_verdict(&ended(failed, 15), judge, Broken, "failed: busy");
        let panicked = hanging_pair()
            .together(10, &CALLERS)
            .what(11, What::OpFailed { op: 1, why: "a call panicked".to_owned() });
        assert_verdict(&ended(panicked, 15), judge, Broken, "panicked");
        let other = ended(from_threads(), 15).look_sees(Stage::Quiesce, &["child"]);
        assert_verdict(&other, judge, Kept, "");
        let left = early()
            .hello(3, "root")
            .ended(5, because(Reason::Cancelled))
            .look_sees(Stage::Quiesce, &["root"]);
        assert_verdict(&left, judge, Broken, "after a cancel during its start");
    }

    #[test]
    fn k7_allows_the_drain_bound_to_a_cancel_before_anybody_held_the_output() {
        let up = || early().drain(500).hello(3, "root");
        let ended = |hand: Hand| {
            let gone = hand.gone(100, "root").ended(700, because(Reason::Cancelled));
            gone.look(Stage::Quiesce, vec![])
        };
        assert_verdict(&ended(up().hello(4, "child")), judge, Kept, "");
        let unnamed = |hand: Hand| hand.with(|trace| trace.limits.drain = None);
        let later = unnamed(up().hello(4, "child").gone(100, "root"));
        let later = later.ended(2_700, because(Reason::Cancelled));
        assert_verdict(&later, judge, Unknown, "bounds of its own");
        let quiet = up().quiet_hello(4, "child", by_hand::AWAY);
        assert_verdict(&ended(quiet), judge, Broken, "ended 699 ms later");
    }

    #[test]
    fn k7_is_unknown_for_errors_doubts_and_noise() {
        let error = early().ended(3, because(Reason::Error("no child".to_owned())));
        assert_verdict(&error, judge, Unknown, "no child");
        assert_verdict(&ended(from_threads(), 412).look(Stage::Quiesce, vec![]), judge, Unknown, "noise");
        assert_verdict(&ended(from_threads(), 15), judge, Unknown, "nobody looked");
        let incomplete = ended(from_threads(), 15)
            .look(Stage::Quiesce, vec![])
            .with(|trace| trace.looks[0].complete = false);
        assert_verdict(&incomplete, judge, Unknown, "did not see everyone");
        assert_verdict(&from_threads().our_fault(), judge, Unknown, "harness could not");
    }

    #[test]
    fn k7_is_vacuous_for_any_other_cancel_and_does_not_run_for_commands() {
        assert_verdict(&ended(hanging_pair().cancel(10), 15), judge, Vacuous, "neither from another thread");
        let refused = early().ended(3, because(Reason::StartFailed("no such file".to_owned())));
        assert_verdict(&refused, judge, Vacuous, "S10");
        assert_verdict(&early().template(), judge, NotRun, "no thread");
        assert_verdict(&hanging_pair().cancel(10).unimplemented(11), judge, NotRun, "cannot cancel");
    }
}
