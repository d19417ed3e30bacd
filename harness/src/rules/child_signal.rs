//! Z4: a host that ignores SIGCHLD, where the kernel reaps every child at once and no status is left to wait for.

use fake_cli::content::Output;
use fake_cli::script::{ROOT, Signal, Step};

use super::deadlines::Due;
use super::directed::{emit, once_ready, ready_and_hang, scenario, to_the_end, wait, write};
use super::ending::{Cause, Ending, ending};
use super::facts::{Facts, Run};
use super::verdicts::together;
use crate::scenario::{HostState, Scenario, Verb};
use crate::verdict::Verdict;

pub(super) fn judge(facts: &Facts<'_>) -> Verdict {
    if let Some(fault) = facts.fault() {
        return fault;
    }
    if !facts.trace.scenario.host.ignores.contains(&Signal::Chld) {
        return Verdict::Vacuous("the host was not started with CHLD ignored".to_owned());
    }
    let verdicts = facts.runs().iter().map(|run| judge_run(facts, run).unwrap_or_else(Verdict::Vacuous));
    together(verdicts, || facts.because("no run was started"))
}

/// The verdict on a run, or why it does not test the rule.
fn judge_run(facts: &Facts<'_>, run: &Run<'_>) -> Result<Verdict, String> {
    let (at_us, cause, doubt) = match ending(facts, run) {
        Ending::By { cause: cause @ (Cause::Itself | Cause::Cancelled), at_us, doubt } => {
            (at_us, cause, doubt)
        }
        Ending::By { cause, .. } => {
            return Err(format!("the run {}, which is not what this rule is about", cause.told()));
        }
        Ending::None(why) => return Err(why),
    };
    if run.nodes.iter().any(|node| node.name != ROOT) {
        return Err("others than the root may have kept the run from its end".to_owned());
    }
    let dead_us = run.root().and_then(|root| root.gone_us);
    let (from_us, after) = match (cause, dead_us) {
        (Cause::Itself, dead_us) => (dead_us.unwrap_or(at_us).max(at_us), "the root's exit"),
        (_, Some(dead_us)) => (dead_us.max(at_us), "the death of the root, which was cancelled"),
        (_, None) => return Err("the root did not die".to_owned()),
    };
    Ok(Due { facts, run, from_us, bound_us: 0, doubt, after }.judge())
}

// ---- Directed scenarios ----

pub(super) fn directed() -> Vec<Scenario> {
    let host = || HostState { ignores: vec![Signal::Chld], ..HostState::default() };
    let why = "Where CHLD is ignored the kernel reaps every child at once: whoever waits for a status gets ECHILD, and must not wait for ever.";
    vec![
        scenario("child-signal-ignored-exit", why, &["Z4"], vec![Step::Exit(7)], to_the_end()).with_host(host()),
        scenario(
            "child-signal-ignored-output",
            "As before, when the child's output ends before the child does, so that the wait comes last.",
            &["Z4"],
            vec![write(Output::Stdout, 10), emit("ready"), Step::Exit(7)],
            to_the_end(),
        )
        .with_host(host()),
        scenario(
            "child-signal-ignored-cancel",
            "As before, after a cancel: a ladder that waits for the status of who is gone must not climb to its end.",
            &["Z4"],
            ready_and_hang().to_vec(),
            [once_ready(Verb::Cancel), vec![wait()]].concat(),
        )
        .with_host(host()),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::by_hand::{Hand, assert_verdict, because, case, steps};
    use super::*;
    use crate::trace::Reason;
    use crate::verdict::VerdictKind::{Broken, Kept, Unknown, Vacuous};

    fn deaf(hand: Hand) -> Hand {
        hand.with(|trace| trace.scenario.host.ignores = vec![Signal::Chld])
    }

    fn exited() -> Hand {
        deaf(case(steps(r#"[{"exit": 7}]"#))).run(0).hello(1, "root").exiting(2, "root", 7).gone(3, "root")
    }

    #[test]
    fn a_run_that_ends_with_its_child_is_kept_whatever_it_says_of_the_status() {
        assert_verdict(&exited().ended(10, because(Reason::Itself)), judge, Kept, "");
        assert_verdict(&exited().ended(10, because(Reason::Error("lost".to_owned()))), judge, Kept, "");
        let cancelled = deaf(case(steps(r#"["hang"]"#))).run(0).hello(1, "root").cancel(5).gone(7, "root");
        assert_verdict(&cancelled.ended(9, because(Reason::Cancelled)), judge, Kept, "");
    }

    #[test]
    fn a_run_that_does_not_end_or_ends_late_is_broken() {
        let late = exited().ended(2_003, because(Reason::Itself));
        assert_verdict(&late, judge, Broken, "returned 2.0 s after the root's exit");
        let hung = exited().what(4_000, crate::trace::What::GaveUp).silent();
        assert_verdict(&hung, judge, Broken, "had not returned");
        let noisy = late.with(|trace| trace.noise.samples = 0);
        assert_verdict(&noisy, judge, Unknown, "noise");
    }

    #[test]
    fn a_host_that_ignores_nothing_and_a_run_that_others_keep_up_show_nothing() {
        let hears = exited().with(|trace| trace.scenario.host = HostState::default());
        assert_verdict(&hears, judge, Vacuous, "CHLD ignored");
        assert_verdict(&exited().hello(2, "child"), judge, Vacuous, "others");
        assert_verdict(&deaf(case(steps("[]"))).run(0), judge, Vacuous, "never said hello");
        assert_verdict(&exited().our_fault(), judge, Unknown, "harness could not");
    }
}
