//! E: the child's environment.

use fake_cli::script::{Signal, Step};

use super::directed::{scenario, to_the_end};
use super::facts::{Facts, Node};
use super::verdicts::{broken, together};
use super::{Judged, Rule, as_catalogued, given, start, terminal};
use crate::promises::Promises;
use crate::scenario::{HostState, Scenario};
use crate::verdict::{Level, Verdict};

/// The C library keeps these for itself; a child that it starts by `posix_spawn` ignores them, whatever the wrapper does.
const OF_THE_LIBRARY: [i32; 2] = [32, 33];
/// Signals that mean something to a child.
const TELLING_SIGNALS: [Signal; 7] =
    [Signal::Hup, Signal::Int, Signal::Quit, Signal::Term, Signal::Pipe, Signal::Usr1, Signal::Usr2];

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
    vec![
        Rule {
            weigh: weigh_signals,
            ..rule(
                "E1",
                "signal mask empty",
                "The child's signal mask is empty, even if the host's thread blocks signals.",
                "The host is started with signals blocked, and so are its threads; the root reports its mask before it changes anything.",
                "Exact. A command is judged like a library: its child is as deaf. One that hands down on purpose what it was started with can \
                    declare that, and then this is information.",
                Judged::Trace { judge: judge_e1, directed: directed_e1 },
            )
        },
        Rule {
            weigh: weigh_signals,
            ..rule(
                "E2",
                "signal actions default",
                "The child's signal actions are the default ones, even if the host ignores signals.",
                "The host is started with signals ignored; the root reports what it ignores before it changes anything.",
                "Exact, but for the two signals that the C library keeps for itself. A command that hands down on purpose what it was started \
                    with, as nohup asks of it, can declare that, and then this is information.",
                Judged::Trace { judge: judge_e2, directed: directed_e2 },
            )
        },
        rule(
            "E3",
            "group and session as declared",
            "The child's group and session are as declared before its first instruction.",
            "The root reports group and session in its first message.",
            "Exact. Only what is declared: a group or session of its own, or, for a library that ends a group only, another than the host's.",
            Judged::Trace { judge: given::judge_e3, directed: given::directed_e3 },
        ),
        rule(
            "E4",
            "environment as asked",
            "Working directory, umask, environment, arguments and limits are as asked.",
            "The wrapper is asked for nothing, so that everything is to be the host's: the root reports its directory, umask, arguments, limit of open \
                files, HOME and TMPDIR.",
            "Exact. A subject that gives its child others on purpose can declare that. The arguments of a command are its user's.",
            Judged::Trace { judge: given::judge_e4, directed: given::directed_e4 },
        ),
        Rule {
            level: Level::Info,
            weigh: super::owner::weigh,
            ..rule(
                "E5",
                "owner dies before exec",
                "Where the owner's death is promised to end the child: it also does between fork and exec.",
                "The child's exec is held, the owner is killed, and the exec goes on; then the harness looks who is there as in P1.",
                "That the owner died before the exec is certain. Two witnesses must agree on each survivor.",
                Judged::Trace { judge: start::judge_e5, directed: start::directed_e5 },
            )
        },
        rule(
            "E6",
            "no terminal taken",
            "The child does not take the owner's terminal.",
            "The host is given a terminal. The root says whether it has it, and tries to take it.",
            "Exact. A child in the host's own group is in the foreground as the host is; what it does to the modes is H2's.",
            Judged::Trace { judge: terminal::judge_e6, directed: terminal::directed },
        ),
    ]
}

fn weigh_signals(promises: &Promises) -> Option<Level> {
    promises.hands_down_signals.then_some(Level::Info)
}

// ---- E1, E2 ----

fn judge_e1(facts: &Facts<'_>) -> Verdict {
    let hello = |root: &Node<'_>| root.hello.map_or_else(Vec::new, |hello| hello.blocked.clone());
    started_clean(facts, &facts.trace.scenario.host.blocks, hello, "blocked")
}

fn judge_e2(facts: &Facts<'_>) -> Verdict {
    let hello = |root: &Node<'_>| root.hello.map_or_else(Vec::new, |hello| hello.ignored.clone());
    started_clean(facts, &facts.trace.scenario.host.ignores, hello, "ignored")
}

/// Whether no root was started with a signal in this state. It proves something only where the host has some to hand down.
fn started_clean(
    facts: &Facts<'_>,
    of_host: &[Signal],
    of_root: fn(&Node<'_>) -> Vec<i32>,
    state: &str,
) -> Verdict {
    if let Some(fault) = facts.fault() {
        return fault;
    }
    let verdicts = facts.runs().iter().map(|run| {
        let Some(root) = run.root() else {
            return Verdict::Vacuous(facts.because("the root never said hello"));
        };
        let mut signals = of_root(root);
        signals.retain(|signal| !OF_THE_LIBRARY.contains(signal));
        if !signals.is_empty() {
            return broken(handed_down(&signals, of_host, state));
        }
        match of_host {
            [] => Verdict::Vacuous(format!("the host was started with no signal {state}")),
            _ => Verdict::Kept,
        }
    });
    together(verdicts, || facts.because("no run was started"))
}

fn handed_down(signals: &[i32], of_host: &[Signal], state: &str) -> String {
    let names: Vec<String> = signals.iter().map(|signal| Signal::name_of(*signal)).collect();
    let of_host: Vec<i32> = of_host.iter().map(|signal| signal.number()).collect();
    let by_whom = match signals.iter().filter(|signal| of_host.contains(signal)).count() {
        0 => "which the host was not",
        count if count == signals.len() => "as the host was",
        _ => "more than the host was",
    };
    format!("the root was started with {} {state}, {by_whom}", names.join(", "))
}

// ---- Directed scenarios ----

fn directed_e1() -> Vec<Scenario> {
    let host = HostState { blocks: TELLING_SIGNALS.to_vec(), ..HostState::default() };
    vec![
        scenario(
            "host-blocks-signals",
            "A thread that blocks signals, as many runtimes' do, must not start children that are deaf to TERM.",
            &["E1"],
            vec![Step::Exit(0)],
            to_the_end(),
        )
        .with_host(host),
    ]
}

fn directed_e2() -> Vec<Scenario> {
    let host = HostState { ignores: TELLING_SIGNALS.to_vec(), ..HostState::default() };
    vec![
        scenario(
            "host-ignores-signals",
            "A host that ignores PIPE or HUP for its own sake must not start children that go on writing to nobody, or that no hang-up ends.",
            &["E2"],
            vec![Step::Exit(0)],
            to_the_end(),
        )
        .with_host(host),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::by_hand::{Hand, assert_verdict, case, hello, steps};
    use super::*;
    use crate::verdict::VerdictKind::{Broken, Kept, Unknown, Vacuous};
    use fake_cli::control::{Hello, Report};

    /// A host that blocks and ignores TERM and HUP; a root with these signals blocked and ignored.
    fn started(blocked: &[i32], ignored: &[i32]) -> Hand {
        let said = Hello { blocked: blocked.to_vec(), ignored: ignored.to_vec(), ..hello("root") };
        case(steps(r#"[{"exit": 0}]"#)).run(0).says(1, "root", Report::Hello(Box::new(said))).with(|trace| {
            let signals = vec![Signal::Hup, Signal::Term];
            trace.scenario.host =
                HostState { blocks: signals.clone(), ignores: signals, ..HostState::default() };
        })
    }

    #[test]
    fn e1_is_broken_by_a_mask_that_is_handed_down_and_names_the_signals() {
        assert_verdict(&started(&[1, 15], &[]), judge_e1, Broken, "HUP, TERM blocked, as the host was");
        assert_verdict(&started(&[10], &[]), judge_e1, Broken, "USR1 blocked, which the host was not");
        assert_verdict(&started(&[1, 10], &[]), judge_e1, Broken, "more than the host was");
        assert_verdict(&started(&[1], &[]).template(), judge_e1, Broken, "HUP blocked");
        assert_verdict(&started(&[], &[15]), judge_e1, Kept, "");
    }

    #[test]
    fn e2_is_broken_by_what_is_ignored_but_not_by_what_the_c_library_does() {
        assert_verdict(&started(&[], &[15]), judge_e2, Broken, "TERM ignored, as the host was");
        assert_verdict(&started(&[], &[13, 32]), judge_e2, Broken, "PIPE ignored, which the host was not");
        assert_verdict(&started(&[15], &[32, 33]), judge_e2, Kept, "");
    }

    #[test]
    fn a_clean_child_of_a_clean_host_shows_nothing_but_a_dirty_one_does() {
        let clean = |hand: Hand| hand.with(|trace| trace.scenario.host = HostState::default());
        assert_verdict(&clean(started(&[], &[])), judge_e1, Vacuous, "no signal blocked");
        assert_verdict(&clean(started(&[], &[])), judge_e2, Vacuous, "no signal ignored");
        assert_verdict(&clean(started(&[], &[13])), judge_e2, Broken, "PIPE");
    }

    #[test]
    fn e_is_vacuous_without_a_hello_and_unknown_by_our_own_fault() {
        assert_verdict(&case(steps("[]")).run(0), judge_e1, Vacuous, "never said hello");
        assert_verdict(&case(steps("[]")), judge_e2, Vacuous, "no run was started");
        assert_verdict(&started(&[1], &[1]).our_fault(), judge_e1, Unknown, "harness could not");
        assert_verdict(&started(&[], &[15]).our_fault(), judge_e2, Unknown, "harness could not");
    }

    #[test]
    fn who_declares_to_hand_signals_down_is_only_informed() {
        let declared: Promises = "hands-down-signals".parse().unwrap();
        let levels = |promises| rules()[..2].iter().map(|rule| rule.level_for(promises)).collect::<Vec<_>>();
        assert_eq!(levels(&declared), [Level::Info, Level::Info]);
        assert_eq!(levels(&Promises::default()), [Level::Must, Level::Must]);
    }
}
