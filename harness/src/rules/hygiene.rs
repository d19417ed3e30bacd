//! K: kill hygiene.

use fake_cli::script::{Place, Signal, Step};

use super::directed::{
    TIMEOUT, after, emit, once_ready, ready_and_hang, run, scenario, start_hanging, to_the_end, wait,
};
use super::ending::is_cancel;
use super::facts::{Facts, Node, Run, told};
use super::verdicts::{broken, together};
use super::{Judged, Rule, as_catalogued};
use crate::scenario::{Scenario, Verb};
use crate::trace::{Reason, Stage, Status, What};
use crate::verdict::{Level, Verdict};

/// The rules of this family.
pub(super) fn rules() -> Vec<Rule> {
    let rule = |id, sentence, measured, guard, judged| Rule {
        id,
        level: Level::Must,
        sentence,
        measured,
        guard,
        weigh: as_catalogued,
        judged,
    };
    const LEDGER: &str = "By a ledger of the host's system calls.";
    const LEDGER_GUARD: &str = "The call is quoted.";
    vec![
        rule(
            "K1",
            "Every signal that the host sends goes to a process of its own that it has not reaped.",
            LEDGER,
            LEDGER_GUARD,
            Judged::NotBuilt("there is no ledger of the host's system calls yet"),
        ),
        rule(
            "K2",
            "A stranger that was given the pid of a dead child is not signalled.",
            "In a pid namespace the child dies and a stranger is started with exactly its pid.",
            LEDGER_GUARD,
            Judged::NotBuilt("the harness does not hand out pids on purpose yet"),
        ),
        rule(
            "K3",
            "Bystanders get no signal: a process beside the host in its session, and one of the same name elsewhere.",
            "Two bystanders report every signal that can be caught, with its sender, and their deaths are seen.",
            "Only signals that some process sent count, and only until the harness sweeps.",
            Judged::Trace { judge: judge_k3, directed: directed_k3 },
        ),
        rule(
            "K4",
            "The host's own process group is not signalled.",
            LEDGER,
            LEDGER_GUARD,
            Judged::NotBuilt("there is no ledger of the host's system calls yet"),
        ),
        rule(
            "K5",
            "Cancelling twice, many times or after the end gives the same single end and no error.",
            "The answers and ends that the host reports, and whether the host is still there.",
            "Only what the host itself said counts. A host that falls silent is judged by D4.",
            Judged::Trace { judge: judge_k5, directed: directed_k5 },
        ),
        rule(
            "K6",
            "A cancel between fork and exec leaves nothing.",
            LEDGER,
            LEDGER_GUARD,
            Judged::NotBuilt("a gate between the wrapper's fork and exec is needed for that"),
        ),
        rule(
            "K7",
            "A cancel from another thread, or during the start, works like any other.",
            "As S1, with the cancel given from another thread and before the start has returned.",
            "As S1.",
            Judged::NotBuilt("no op cancels during a start yet"),
        ),
    ]
}

// ---- K3 ----

fn judge_k3(facts: &Facts<'_>) -> Verdict {
    if let Some(fault) = facts.fault() {
        return fault;
    }
    if !facts.bystanders().iter().any(|node| node.hello.is_some()) {
        return Verdict::Vacuous("there were no bystanders".to_owned());
    }
    let tested = facts
        .runs()
        .iter()
        .any(|run| run.root().is_some() && (run.over_us().is_some() || !run.stops.is_empty()));
    if !tested {
        return Verdict::Vacuous(facts.because("no run came to its end"));
    }
    together(facts.bystanders().iter().map(|node| left_alone(facts, node)), String::new)
}

fn left_alone(facts: &Facts<'_>, node: &Node<'_>) -> Verdict {
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
fn dead_host(facts: &Facts<'_>) -> Option<Verdict> {
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
            vec![run(), cancel(), cancel(), wait()],
        ),
        scenario(
            "cancel-eight-times",
            "A user who hits Ctrl-C again and again.",
            &["K5", "S1"],
            deaf(),
            [vec![run()], vec![cancel(); 8], vec![wait()]].concat(),
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
