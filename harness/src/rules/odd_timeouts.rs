//! D7: timeouts of nothing, of a millisecond, and of the largest number.

use fake_cli::script::Step;
use fake_cli::span::Span;

use super::deadlines::{each_run, unknown_bound};
use super::directed::{ready_and_hang, scenario, to_the_end};
use super::facts::{Facts, Lateness, Node, Run, micros, told};
use super::hygiene::dead_host;
use super::verdicts::{broken, broken_unless};
use crate::promises::Keeps;
use crate::scenario::{LARGEST_TIMEOUT, Scenario};
use crate::trace::Reason;
use crate::verdict::Verdict;

/// Up to this a timeout is odd because it is small.
const SMALL: Span = Span::from_millis(1);

pub(super) fn judge(facts: &Facts<'_>) -> Verdict {
    if let Some(fault) = facts.fault() {
        return fault;
    }
    if facts.promises().timeout != Keeps::AsAsked {
        return Verdict::NotRun("the subject takes no timeout that it is asked for".to_owned());
    }
    let Some(timeout) = facts.trace.scenario.limits.timeout.filter(|timeout| is_odd(*timeout)) else {
        return Verdict::Vacuous(
            "the timeout is none of nothing, a millisecond and the largest number".to_owned(),
        );
    };
    each_run(facts, |run| {
        if run.hindered_by.is_some() || !run.stops.is_empty() {
            return Err("the run was hindered or stopped by its caller".to_owned());
        }
        if let Some(verdict) = dead_host(facts) {
            return Ok(verdict);
        }
        Ok(if timeout == LARGEST_TIMEOUT { never(facts, run) } else { at_once(facts, run, timeout) })
    })
}

/// Whether a timeout is one that programs stumble over.
pub(super) fn is_odd(timeout: Span) -> bool {
    timeout <= SMALL || timeout == LARGEST_TIMEOUT
}

/// A run that must be over soon.
fn at_once(facts: &Facts<'_>, run: &Run<'_>, timeout: Span) -> Verdict {
    let exits = run.root().is_some_and(|root| root.exiting().is_some());
    let (until_us, how) = match run.ended.map(|(at_us, outcome)| (at_us, &outcome.reason)) {
        Some((_, Reason::Error(why))) => {
            return broken(format!("a run with a timeout of {timeout} ended with an error: {why}"));
        }
        Some((_, Reason::StartFailed(why))) => {
            return Verdict::Unknown(format!("a timeout of {timeout} was refused: {why}"));
        }
        Some((_, Reason::Itself)) if !exits => {
            return Verdict::Unknown(
                "the run ended by itself, and its root had not said that it exits".to_owned(),
            );
        }
        Some((at_us, _)) => (at_us, "ended"),
        None if facts.host_fell_silent() => (facts.last_us(), "had not ended"),
        None => return Verdict::Vacuous(facts.because("the run has no outcome")),
    };
    let grace_us = facts.grace_us().unwrap_or(0).saturating_add(facts.drain_us());
    let up_us = run.root().and_then(Node::hello_us).unwrap_or(0).max(run.issued_us);
    let took_us = until_us.saturating_sub(up_us);
    let bound_us = micros(timeout).saturating_add(grace_us).saturating_add(facts.slack_us());
    let sentence = format!(
        "a run with a timeout of {timeout} {how} after {}; the bound was {}",
        told(took_us),
        told(bound_us)
    );
    match facts.lateness(took_us, bound_us) {
        Lateness::InTime if run.ended.is_none() => {
            Verdict::Unknown(format!("{sentence}; nobody waited longer"))
        }
        Lateness::InTime => Verdict::Kept,
        Lateness::WithinNoise(_) => {
            Verdict::Unknown(format!("{sentence}; this machine's noise may explain that"))
        }
        Lateness::Late(_) => broken_unless(unknown_bound(facts).as_ref(), sentence),
    }
}

/// A run whose timeout is never over.
fn never(facts: &Facts<'_>, run: &Run<'_>) -> Verdict {
    match run.ended.map(|(at_us, outcome)| (at_us, &outcome.reason)) {
        Some((at_us, Reason::TimedOut)) => broken(format!(
            "a run with the largest timeout is reported as timed out after {}",
            told(at_us.saturating_sub(run.issued_us))
        )),
        Some((_, Reason::Error(why))) => {
            broken(format!("a run with the largest timeout ended with an error: {why}"))
        }
        Some((_, Reason::StartFailed(why))) => {
            Verdict::Unknown(format!("the largest timeout was refused: {why}"))
        }
        Some(_) if run.root().is_some_and(|root| root.exiting().is_some()) => Verdict::Kept,
        None if facts.host_fell_silent() => unnoticed(facts, run),
        _ => Verdict::Vacuous(facts.because("the root did not exit by itself")),
    }
}

/// A run that goes on for its caller though its root has exited, or never came up.
fn unnoticed(facts: &Facts<'_>, run: &Run<'_>) -> Verdict {
    let (since_us, what) = match run.root().map(Node::exiting) {
        Some(Some((exit_us, _))) => (exit_us, "its root's exit"),
        None => (run.issued_us, "it was asked for, and its root never came up"),
        Some(None) => return Verdict::Vacuous("the root did not exit by itself".to_owned()),
    };
    let waited_us = facts.last_us().saturating_sub(since_us);
    let bound_us =
        facts.grace_us().unwrap_or(0).saturating_add(facts.drain_us()).saturating_add(facts.slack_us());
    let sentence = format!("a run with the largest timeout had not ended {} after {what}", told(waited_us));
    match facts.lateness(waited_us, bound_us) {
        Lateness::Late(_) => broken_unless(unknown_bound(facts).as_ref(), sentence),
        _ => Verdict::Unknown(sentence),
    }
}

pub(super) fn directed() -> Vec<Scenario> {
    let hangs = || ready_and_hang().to_vec();
    let rules = ["D7"];
    vec![
        scenario(
            "timeout-of-nothing",
            "Zero is a number: no time at all, and neither no timeout nor an error.",
            &rules,
            hangs(),
            to_the_end(),
        )
        .with_timeout(Span::ZERO),
        scenario(
            "timeout-of-a-millisecond",
            "A timeout that is over before its child is up must end what comes up.",
            &rules,
            hangs(),
            to_the_end(),
        )
        .with_timeout(SMALL),
        scenario(
            "timeout-of-the-largest-number",
            "Who adds the largest number to the present time gets an overflow, or a time long past.",
            &rules,
            vec![Step::Exit(3)],
            to_the_end(),
        )
        .with_timeout(LARGEST_TIMEOUT),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::by_hand::{Hand, assert_verdict, because, case, steps};
    use super::*;
    use crate::trace::{Outcome, Status, What};
    use crate::verdict::VerdictKind::{Broken, Kept, NotRun, Unknown, Vacuous};

    fn with(timeout: Span) -> Hand {
        let hand = case(steps(r#"["hang"]"#)).drain(50).run(0).hello(2, "root");
        hand.with(|trace| {
            trace.scenario.limits.timeout = Some(timeout);
            trace.limits.timeout = Some(timeout);
        })
    }

    #[test]
    fn d7_wants_a_small_timeout_to_end_the_run_at_once() {
        let ended =
            |at_ms: u64, reason: Reason| with(Span::ZERO).gone(at_ms, "root").ended(at_ms, because(reason));
        assert_verdict(&ended(5, Reason::TimedOut), judge, Kept, "");
        assert_verdict(
            &ended(1_000, Reason::TimedOut),
            judge,
            Broken,
            "a timeout of 0s ended after 998 ms; the bound was 400 ms",
        );
        assert_verdict(
            &with(SMALL).what(6_000, What::GaveUp).silent(),
            judge,
            Broken,
            "a timeout of 1ms had not ended",
        );
        assert_verdict(&ended(5, Reason::Error("bad".to_owned())), judge, Broken, "bad");
        assert_verdict(&with(Span::ZERO).host_gone(3, Status::Signaled(6)), judge, Broken, "ABRT");
        // Its child was quicker.
        let quick = with(SMALL).exiting(3, "root", 0).ended(4, because(Reason::Itself));
        assert_verdict(&quick, judge, Kept, "");
    }

    #[test]
    fn d7_wants_the_largest_timeout_to_be_never_over() {
        let ended =
            |reason: Reason| with(LARGEST_TIMEOUT).exiting(5, "root", 3).ended(6, Outcome::because(reason));
        assert_verdict(&ended(Reason::Itself), judge, Kept, "");
        assert_verdict(&ended(Reason::TimedOut), judge, Broken, "reported as timed out after 6 ms");
        assert_verdict(&ended(Reason::Error("overflow".to_owned())), judge, Broken, "overflow");
        let hung = with(LARGEST_TIMEOUT).exiting(5, "root", 3).what(6_000, What::GaveUp).silent();
        assert_verdict(&hung, judge, Broken, "had not ended 5.9 s after its root's exit");
        let panicked = with(LARGEST_TIMEOUT).host_gone(3, Status::Signaled(6));
        assert_verdict(&panicked, judge, Broken, "ABRT");
    }

    #[test]
    fn d7_is_unknown_for_refusals_and_noise() {
        let refused =
            |timeout| with(timeout).ended(3, because(Reason::StartFailed("no such timeout".to_owned())));
        assert_verdict(&refused(Span::ZERO), judge, Unknown, "refused");
        assert_verdict(&refused(LARGEST_TIMEOUT), judge, Unknown, "refused");
        let late = with(Span::ZERO).gone(405, "root").ended(405, because(Reason::TimedOut));
        assert_verdict(&late, judge, Unknown, "noise");
        assert_verdict(&with(Span::ZERO).our_fault(), judge, Unknown, "harness could not");
    }

    #[test]
    fn d7_charges_nobody_with_a_bound_that_is_not_known() {
        let late = || with(Span::ZERO).gone(3_000, "root").ended(3_000, because(Reason::TimedOut));
        let hung = || with(LARGEST_TIMEOUT).exiting(5, "root", 3).what(6_000, What::GaveUp).silent();
        for hand in [late(), hung()] {
            assert_verdict(&hand, judge, Broken, "");
            let grace = hand.clone().with(|trace| trace.limits.grace = None);
            assert_verdict(&grace, judge, Unknown, "bounds of its own");
            let drain = hand.with(|trace| trace.limits.drain = None);
            assert_verdict(&drain, judge, Unknown, "bounds of its own");
        }
        // Who has none has no bound that could be unknown.
        let none = late().with(|trace| (trace.limits.grace, trace.limits.drain) = (None, None));
        let none = none.promising(|promises| (promises.grace, promises.drain) = (Keeps::Not, Keeps::Not));
        assert_verdict(&none, judge, Broken, "a timeout of 0s ended after");
    }

    #[test]
    fn d7_is_vacuous_for_plain_timeouts_and_does_not_run_for_who_takes_none() {
        assert_verdict(&with(Span::from_millis(100)), judge, Vacuous, "is none of");
        assert_verdict(&with(Span::ZERO).cancel(5), judge, Vacuous, "stopped by its caller");
        let fixed = with(Span::ZERO).promising(|promises| promises.timeout = Keeps::Always(SMALL));
        assert_verdict(&fixed, judge, NotRun, "no timeout");
    }
}
