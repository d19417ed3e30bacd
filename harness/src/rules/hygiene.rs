//! K: kill hygiene.

use fake_cli::script::{Place, Signal, Step};

use super::directed::{
    TIMEOUT, after, emit, once_ready, once_started, ready_and_hang, run, scenario, start_hanging, to_the_end,
    wait,
};
use super::ending::is_cancel;
use super::facts::{Facts, Node, Run, told};
use super::verdicts::{broken, together};
use super::{Judged, Rule, any_thread, as_catalogued, signals, start};
use crate::scenario::{Call, STRANGER, Scenario, Verb};
use crate::trace::{Reason, Said, Stage, Status, What};
use crate::verdict::{Level, Verdict};

/// The rules of this family.
pub(super) fn rules() -> Vec<Rule> {
    let rule = |id, title, sentence, measured, guard, judged| Rule {
        id,
        title,
        level: Level::Must,
        sentence,
        measured,
        guard,
        weigh: as_catalogued,
        judged,
    };
    const LEDGER: &str = "Each call of the host and its helpers that sends a signal is held while the harness looks whom it means: seccomp hands it over, \
        whatever language the host is written in.";
    const LEDGER_GUARD: &str = "The call is quoted. Signals to the sender's own threads, the signal 0 and a pidfd of somebody who has been reaped hit \
        nobody. A command that makes a group for itself and its child may signal that group.";
    const IN_START: &str = "A system call of the start is held; the cancel is given; then the call goes on, and the harness looks who is there as in S1.";
    const IN_START_GUARD: &str = "That the cancel came before the call was done is certain. A call that had to be let go before the cancel was taken tests \
        nothing. Two witnesses must agree on each survivor.";
    vec![
        rule(
            "K1",
            "signals only its own",
            "Every signal that the host sends goes to a process of its own that it has not reaped.",
            LEDGER,
            LEDGER_GUARD,
            Judged::Trace { judge: signals::judge_k1, directed: signals::directed_k1 },
        ),
        rule(
            "K2",
            "no reused pid signalled",
            "A stranger that was given the pid of a dead child is not signalled.",
            "In a pid namespace the child dies and is reaped, and a stranger is started with exactly its pid, also while a signal of the \
                wrapper's is held. The stranger reports what it gets.",
            "Only signals that some process sent count, and only until the harness sweeps. Where the pid was never free nothing is said.",
            Judged::Trace { judge: signals::judge_k2, directed: signals::directed_k2 },
        ),
        rule(
            "K3",
            "bystanders left alone",
            "Bystanders get no signal: a process beside the host in its session, and one of the same name elsewhere.",
            "Two bystanders report every signal that can be caught, with its sender, and their deaths are seen.",
            "Only signals that some process sent count, and only until the harness sweeps.",
            Judged::Trace { judge: judge_k3, directed: directed_k3 },
        ),
        rule(
            "K4",
            "own group not signalled",
            "The host's own process group is not signalled.",
            LEDGER,
            LEDGER_GUARD,
            Judged::Trace { judge: signals::judge_k4, directed: signals::directed_k1 },
        ),
        rule(
            "K5",
            "cancel twice is harmless",
            "Cancelling twice, many times or after the end gives the same single end and no error.",
            "The answers and ends that the host reports, and whether the host is still there.",
            "Only what the host itself said counts. A host that falls silent is judged by D4.",
            Judged::Trace { judge: judge_k5, directed: directed_k5 },
        ),
        rule(
            "K6",
            "cancel before exec",
            "A cancel between fork and exec leaves nothing.",
            IN_START,
            IN_START_GUARD,
            Judged::Trace { judge: start::judge_k6, directed: start::directed_k6 },
        ),
        rule(
            "K7",
            "cancel from another thread",
            "A cancel from another thread, or during the start, works like any other.",
            "Cancels that are given from threads of their own, or before the root has said hello, or while the call that makes the child is held: they \
                do not fail, the run ends within the bounds of any cancel, and the root is gone.",
            "As S1, D4 and K6. The time until the root is up is the start's own.",
            Judged::Trace { judge: judge_k7, directed: directed_k7 },
        ),
    ]
}

// ---- K3 ----

fn judge_k3(facts: &Facts<'_>) -> Verdict {
    if let Some(fault) = facts.fault() {
        return fault;
    }
    let bystanders = || facts.bystanders().iter().filter(|node| node.name != STRANGER);
    if !bystanders().any(|node| node.hello.is_some()) {
        return Verdict::Vacuous("there were no bystanders".to_owned());
    }
    let tested = facts
        .runs()
        .iter()
        .any(|run| run.root().is_some() && (run.over_us().is_some() || !run.stops.is_empty()));
    if !tested {
        return Verdict::Vacuous(facts.because("no run came to its end"));
    }
    together(bystanders().map(|node| left_alone(facts, node)), String::new)
}

pub(super) fn left_alone(facts: &Facts<'_>, node: &Node<'_>) -> Verdict {
    let looked_us = facts.trace.looks.first().map_or(u64::MAX, |look| look.at_us);
    let name = node.name;
    if let Some((at_us, signal, sender)) = node.signals().find(|(at_us, ..)| *at_us < looked_us) {
        let signal = Signal::name_of(signal);
        return match sender {
            0 => Verdict::Unknown(format!("{name} got {signal} from the kernel or from outside")),
            sender => broken(format!(
                "{name} got {signal} from pid {sender}{} {} after the case began",
                if facts.host_pid() == Some(sender) { ", the host," } else { "" },
                told(at_us)
            )),
        };
    }
    match node.gone_us.filter(|gone_us| *gone_us < looked_us) {
        Some(_) if node.exiting().is_some() => Verdict::Unknown(format!("{name} ended by itself")),
        Some(gone_us) => broken(format!("{name} was killed {} after the case began", told(gone_us))),
        None => Verdict::Kept,
    }
}

// ---- K5 ----

fn judge_k5(facts: &Facts<'_>) -> Verdict {
    if let Some(fault) = facts.fault() {
        return fault;
    }
    if facts.is_template() {
        return Verdict::NotRun("a command that has ended cannot be cancelled again".to_owned());
    }
    if facts.cannot(Verb::Cancel) {
        return Verdict::NotRun("the subject cannot cancel".to_owned());
    }
    together(facts.runs().iter().map(|run| same_end(facts, run)), || facts.because("no run was started"))
}

fn same_end(facts: &Facts<'_>, run: &Run<'_>) -> Verdict {
    let cancels: Vec<usize> =
        run.stops.iter().filter(|stop| stop.verb == Verb::Cancel).map(|stop| stop.op).collect();
    let exit_us = run.root().and_then(Node::exiting).map(|(at_us, _)| at_us);
    let late_us = run.ended.map(|(at_us, _)| at_us).into_iter().chain(exit_us).min();
    let after_end = run
        .stops
        .iter()
        .any(|stop| stop.verb == Verb::Cancel && late_us.is_some_and(|late_us| late_us < stop.at_us));
    if run.root().is_none() || cancels.len() < 2 && !after_end {
        return Verdict::Vacuous(facts.because("the run was not cancelled twice or after its end"));
    }
    if run.stops.iter().any(|stop| stop.verb.ends_host() && !is_cancel(facts, stop.verb)) {
        return Verdict::Vacuous("the host was ended from outside".to_owned());
    }
    if let Some(verdict) =
        failed_cancel(facts, &cancels).or_else(|| second_end(facts, run)).or_else(|| dead_host(facts))
    {
        return verdict;
    }
    if facts.host_fell_silent() {
        return Verdict::Unknown("the host fell silent".to_owned());
    }
    match run.ended {
        Some((_, outcome)) => match &outcome.reason {
            Reason::Error(why) => {
                broken(format!("the run that was cancelled more than once ended with an error: {why}"))
            }
            _ => Verdict::Kept,
        },
        None if run.over_us().is_some() => Verdict::Kept,
        None => Verdict::Unknown("the trace does not say how the run ended".to_owned()),
    }
}

fn failed_cancel(facts: &Facts<'_>, cancels: &[usize]) -> Option<Verdict> {
    facts.trace.moments.iter().find_map(|moment| match &moment.what {
        What::OpFailed { op, why } if cancels.contains(op) => {
            Some(broken(format!("op {op}, a cancel of a run that was cancelled or had ended, failed: {why}")))
        }
        What::Called { op, calls, .. } if cancels.contains(op) => {
            calls.iter().find_map(|made| match (made.call, &made.said) {
                (Call::Cancel, Said::Failed(why)) => {
                    Some(broken(format!("a cancel of one of several callers (op {op}) failed: {why}")))
                }
                _ => None,
            })
        }
        _ => None,
    })
}

fn second_end(facts: &Facts<'_>, run: &Run<'_>) -> Option<Verdict> {
    let ends = facts
        .trace
        .moments
        .iter()
        .filter(|moment| matches!(moment.what, What::Ended { run: other, .. } if other == run.number));
    let count = ends.count();
    (count > 1).then(|| broken(format!("the host reported the end of the run {count} times")))
}

/// A host that ended before it was told to.
pub(super) fn dead_host(facts: &Facts<'_>) -> Option<Verdict> {
    let (gone_us, status) = facts.host_gone()?;
    let done = facts.look(Stage::Quiesce).is_some() || facts.host_fell_silent();
    let how = match status {
        Status::Exited(code) => format!("exited with {code}"),
        Status::Signaled(signal) => format!("died by {}", Signal::name_of(signal)),
    };
    (!done).then(|| {
        broken(format!("the host {how} {} after the case began, and was not told to", told(gone_us)))
    })
}

// ---- K7 ----

pub(super) fn judge_k7(facts: &Facts<'_>) -> Verdict {
    // Where the call that makes the child is held, even a command can be cancelled in the middle of its start for certain.
    if start::holds_the_fork(facts) { start::judge_in_the_fork(facts) } else { any_thread::judge(facts) }
}

fn directed_k7() -> Vec<Scenario> {
    [any_thread::directed(), start::directed_k7()].concat()
}

// ---- Directed scenarios ----

fn directed_k3() -> Vec<Scenario> {
    let tree = || {
        [vec![Step::LogSignals, start_hanging("helper", Place::SameGroup)], ready_and_hang().to_vec()]
            .concat()
    };
    vec![
        scenario(
            "bystanders-of-a-cancel",
            "Who kills by name, by session or by a group that is not the child's hits others too.",
            &["K3"],
            tree(),
            once_ready(Verb::Cancel),
        )
        .with_bystanders(),
        scenario(
            "bystanders-of-a-timeout",
            "As before, by the wrapper's own timeout.",
            &["K3"],
            tree(),
            to_the_end(),
        )
        .with_timeout(TIMEOUT)
        .with_bystanders(),
        scenario(
            "bystanders-of-an-exit",
            "Cleaning up what a child left must not sweep the neighbourhood.",
            &["K3"],
            vec![start_hanging("leftover", Place::SameGroup), emit("ready"), Step::Exit(0)],
            to_the_end(),
        )
        .with_bystanders(),
    ]
}

fn directed_k5() -> Vec<Scenario> {
    let deaf = || [vec![Step::LogSignals], ready_and_hang().to_vec()].concat();
    let cancel = || after("root.ready", Verb::Cancel);
    vec![
        scenario(
            "cancel-twice-at-once",
            "Two callers who cancel at the same moment must see the same end.",
            &["K5", "S1"],
            deaf(),
            vec![run(), once_started(Verb::Cancel), cancel(), wait()],
        ),
        scenario(
            "cancel-eight-times",
            "A user who hits Ctrl-C again and again.",
            &["K5", "S1"],
            deaf(),
            [vec![run(), once_started(Verb::Cancel)], vec![cancel(); 7], vec![wait()]].concat(),
        ),
        scenario(
            "cancel-after-exit",
            "The child has ended by itself and its end is known; cancelling it is too late and must do nothing.",
            &["K5"],
            vec![emit("ready"), Step::Exit(7)],
            vec![run(), wait(), after("run.ended", Verb::Cancel), wait()],
        ),
        scenario(
            "cancel-at-the-exit",
            "The child is dead and the wrapper may not know yet: the cancel must not hit a pid that is a stranger's, nor end with an error.",
            &["K5"],
            vec![emit("ready"), Step::Exit(0)],
            vec![run(), after("root.gone", Verb::Cancel), wait()],
        ),
    ]
}

#[cfg(test)]
mod tests {
    use fake_cli::control::Report;

    use super::super::by_hand::{Hand, assert_verdict, because, case, hanging_pair, hello, steps};
    use super::*;
    use crate::verdict::VerdictKind::{Broken, Kept, NotRun, Unknown, Vacuous};

    fn beside(cancel: impl FnOnce(Hand) -> Hand) -> Hand {
        let hand = case(steps(r#"["hang"]"#)).with(|trace| trace.scenario.bystanders = true);
        let hand = ["bystander", "bystander-2"].into_iter().fold(hand, |hand, name| {
            let said = Report::Hello(Box::new(hello(name)));
            hand.what(0, What::Node { run: 0, node: name.to_owned(), said, own_at_us: None })
        });
        cancel(hand.run(1).hello(2, "root").cancel(10)).gone(12, "root").ended(13, because(Reason::Cancelled))
    }

    #[test]
    fn k3_is_kept_when_bystanders_hear_nothing() {
        assert_verdict(&beside(|hand| hand).look(Stage::Quiesce, vec![]), judge_k3, Kept, "");
    }

    #[test]
    fn k3_is_broken_by_a_signal_or_a_death_and_names_the_sender() {
        let signalled = beside(|hand| hand.signalled(11, "bystander", Signal::Term));
        assert_verdict(&signalled, judge_k3, Broken, "bystander got TERM from pid 50, the host, 11 ms after");
        let killed = beside(|hand| hand.gone(11, "bystander-2")).look(Stage::Quiesce, vec![]);
        assert_verdict(&killed, judge_k3, Broken, "bystander-2 was killed");
    }

    #[test]
    fn k3_is_not_broken_by_the_kernel_by_their_own_end_or_by_the_sweep() {
        let kernel =
            beside(|hand| hand.says(11, "bystander", Report::Signal { signal: 15, sender: 0, at_ns: 0 }));
        assert_verdict(&kernel, judge_k3, Unknown, "from the kernel or from outside");
        let expired = beside(|hand| hand.exiting(11, "bystander", 75).gone(11, "bystander"));
        assert_verdict(&expired, judge_k3, Unknown, "ended by itself");
        let swept = beside(|hand| hand).look(Stage::Quiesce, vec![]).gone(3_000, "bystander");
        assert_verdict(&swept, judge_k3, Kept, "");
    }

    #[test]
    fn k3_does_not_count_signals_after_the_look() {
        let late =
            beside(|hand| hand).look(Stage::Quiesce, vec![]).signalled(3_000, "bystander", Signal::Term);
        assert_verdict(&late, judge_k3, Kept, "");
    }

    #[test]
    fn k3_is_vacuous_without_bystanders_or_a_run() {
        let without = hanging_pair().cancel(10).ended(12, because(Reason::Cancelled));
        assert_verdict(&without, judge_k3, Vacuous, "no bystanders");
    }

    fn cancelled_twice() -> Hand {
        hanging_pair().cancel(10).done(11).cancel(12)
    }

    #[test]
    fn k5_is_kept_by_one_end_and_no_error() {
        let hand =
            cancelled_twice().done(13).ended(15, because(Reason::Cancelled)).look(Stage::Quiesce, vec![]);
        assert_verdict(&hand, judge_k5, Kept, "");
        let late = hanging_pair()
            .exiting(5, "root", 0)
            .ended(6, because(Reason::Itself))
            .cancel(10)
            .done(11)
            .look(Stage::Quiesce, vec![]);
        assert_verdict(&late, judge_k5, Kept, "");
    }

    #[test]
    fn k5_is_broken_by_errors_second_ends_and_dead_hosts() {
        let failed = cancelled_twice().what(13, What::OpFailed { op: 2, why: "no such process".to_owned() });
        assert_verdict(&failed, judge_k5, Broken, "no such process");
        let twice =
            cancelled_twice().ended(15, because(Reason::Cancelled)).ended(16, because(Reason::Cancelled));
        assert_verdict(&twice, judge_k5, Broken, "2 times");
        let error = cancelled_twice().ended(15, because(Reason::Error("already cancelled".to_owned())));
        assert_verdict(&error.look(Stage::Quiesce, vec![]), judge_k5, Broken, "already cancelled");
        let callers = hanging_pair().together(10, &[&[Call::Cancel], &[Call::Cancel]]);
        let refused = |said| callers.clone().called(12, vec![(0, Call::Cancel, 11, 12, said)]);
        let refused = |said| refused(said).ended(15, because(Reason::Cancelled)).look(Stage::Quiesce, vec![]);
        assert_verdict(
            &refused(Said::Failed("already".to_owned())),
            judge_k5,
            Broken,
            "callers (op 1) failed",
        );
        assert_verdict(&refused(Said::Done), judge_k5, Kept, "");
        let panicked = cancelled_twice().host_gone(15, Status::Signaled(6));
        assert_verdict(&panicked, judge_k5, Broken, "the host died by ABRT");
    }

    #[test]
    fn k5_is_unknown_when_the_host_fell_silent_or_said_nothing() {
        assert_verdict(&cancelled_twice().silent(), judge_k5, Unknown, "silent");
        assert_verdict(&cancelled_twice(), judge_k5, Unknown, "does not say");
        assert_verdict(&cancelled_twice().our_fault(), judge_k5, Unknown, "harness could not");
    }

    #[test]
    fn k5_is_vacuous_for_a_single_cancel_and_does_not_run_for_commands() {
        let once = hanging_pair().cancel(10).ended(12, because(Reason::Cancelled));
        assert_verdict(&once, judge_k5, Vacuous, "not cancelled twice");
        assert_verdict(&cancelled_twice().template(), judge_k5, NotRun, "cannot be cancelled again");
        assert_verdict(&hanging_pair().cancel(10).unimplemented(11), judge_k5, NotRun, "cannot cancel");
    }
}
