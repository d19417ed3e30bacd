//! H2, H3, E6: the host's terminal.

use fake_cli::control::Report;
use fake_cli::script::{Signal, Step};

use super::directed::{emit, once_ready, scenario, to_the_end, wait};
use super::facts::{Facts, Node};
use super::standing::steps_of;
use super::verdicts::{broken, together};
use crate::scenario::{HostState, Scenario, Verb};
use crate::trace::{TerminalState, What};
use crate::verdict::{Finding, Verdict};

/// The looks at the terminal: when the host was started, and afterwards.
struct Looks<'a> {
    first: &'a TerminalState,
    /// With when they were taken.
    later: Vec<(u64, &'a TerminalState)>,
}

/// Why nothing can be said of a terminal, or what was seen of it.
fn looks<'a>(facts: &Facts<'a>) -> Result<Looks<'a>, Verdict> {
    if let Some(fault) = facts.fault() {
        return Err(fault);
    }
    if !facts.trace.scenario.host.terminal {
        return Err(Verdict::Vacuous("the host had no terminal".to_owned()));
    }
    let mut seen = facts.trace.moments.iter().filter_map(|moment| match &moment.what {
        What::Terminal(state) => Some((moment.at_us, state)),
        _ => None,
    });
    let first = seen.next().map(|(_, state)| state);
    let later: Vec<_> = seen.collect();
    match first {
        Some(first) if Some(first.foreground) == facts.host_pid() => Ok(Looks { first, later }),
        Some(_) => Err(Verdict::Vacuous("the host was not in the foreground of its terminal".to_owned())),
        None => Err(Verdict::Vacuous("nobody looked at the host's terminal when it was started".to_owned())),
    }
}

fn was_up(facts: &Facts<'_>) -> bool {
    facts.runs().iter().any(|run| run.root().is_some())
}

// ---- H2 ----

pub(super) fn judge_h2(facts: &Facts<'_>) -> Verdict {
    let looks = match looks(facts) {
        Ok(looks) => looks,
        Err(verdict) => return verdict,
    };
    if !was_up(facts) {
        return Verdict::Vacuous(facts.because("the root never said hello"));
    }
    let Some((_, last)) = looks.later.last() else {
        return Verdict::Vacuous(facts.because("nobody looked at the host's terminal afterwards"));
    };
    let mut changes = Vec::new();
    if last.modes != looks.first.modes {
        changes.push(format!(
            "the modes of the host's terminal are ({}), before the run they were ({})",
            last.modes, looks.first.modes
        ));
    }
    if last.foreground != looks.first.foreground {
        changes.push(format!(
            "the group in the foreground of the host's terminal is {}, before the run it was the host's, {}",
            last.foreground, looks.first.foreground
        ));
    }
    if changes.is_empty() {
        return Verdict::Kept;
    }
    Verdict::Broken(Finding { sentence: changes.join("; "), count: changes.len() as u64 })
}

// ---- H3 ----

pub(super) fn judge_h3(facts: &Facts<'_>) -> Verdict {
    if let Err(verdict) = looks(facts) {
        return verdict;
    }
    let stopped: Vec<i32> = facts
        .trace
        .moments
        .iter()
        .filter_map(|moment| match moment.what {
            What::HostStopped { signal } => Some(signal),
            _ => None,
        })
        .collect();
    match stopped.first() {
        Some(signal) => Verdict::Broken(Finding {
            sentence: format!("the host was stopped by {} of its terminal", Signal::name_of(*signal)),
            count: stopped.len() as u64,
        }),
        None if was_up(facts)
            && facts.runs().iter().any(|run| run.over_us().is_some() || !run.stops.is_empty()) =>
        {
            Verdict::Kept
        }
        None => Verdict::Vacuous(facts.because("no run came to its end")),
    }
}

// ---- E6 ----

pub(super) fn judge_e6(facts: &Facts<'_>) -> Verdict {
    let looks = match looks(facts) {
        Ok(looks) => looks,
        Err(verdict) => return verdict,
    };
    let host = looks.first.foreground;
    let verdicts = facts.runs().iter().map(|run| {
        let Some((root, hello)) = run.root().and_then(|root| Some((root, root.hello?))) else {
            return Verdict::Vacuous(facts.because("the root never said hello"));
        };
        match hello.terminal {
            None => Verdict::Kept,
            // It is the host's job as the host is: nothing was given away.
            Some(_) if hello.pgid == host => Verdict::Kept,
            Some(terminal) if terminal.foreground == hello.pgid => {
                broken(format!("the root was started in the foreground of the host's terminal, in group {}", hello.pgid))
            }
            Some(_) if took(facts, root) => broken(format!(
                "the root was started with the host's terminal, and could take its foreground for its own group, {}",
                hello.pgid
            )),
            Some(_) => Verdict::Vacuous("the root had the host's terminal and did not try to take it".to_owned()),
        }
    });
    together(verdicts, || facts.because("no run was started"))
}

/// Whether a node took the terminal: the step was done.
fn took(facts: &Facts<'_>, node: &Node<'_>) -> bool {
    let steps = steps_of(&facts.trace.scenario.script, node.name).unwrap_or_default();
    node.reports.iter().any(|heard| {
        matches!(heard.report, Report::Did { step, .. } if matches!(steps.get(*step), Some(Step::TakeTerminal)))
    })
}

// ---- Directed scenarios ----

fn in_terminal(scenario: Scenario) -> Scenario {
    scenario.with_host(HostState { terminal: true, ..HostState::default() })
}

/// The directed scenarios of all rules about a terminal.
pub(super) fn directed() -> Vec<Scenario> {
    let rules = ["H2", "H3", "E6"];
    let takes = || vec![Step::TakeTerminal, emit("ready"), Step::Hang];
    vec![
        in_terminal(scenario(
            "terminal-taken-and-cancelled",
            "A child that sets the terminal raw and takes the foreground leaves a dead keyboard behind when it is killed.",
            &rules,
            takes(),
            [once_ready(Verb::Cancel), vec![wait()]].concat(),
        )),
        in_terminal(scenario(
            "terminal-taken-and-left",
            "As before, when the child exits by itself without tidying up.",
            &rules,
            vec![Step::TakeTerminal, Step::Exit(0)],
            to_the_end(),
        )),
        in_terminal(scenario(
            "terminal-taken-and-host-killed",
            "As before, when the host is killed and can restore nothing.",
            &rules,
            takes(),
            once_ready(Verb::KillHost),
        )),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::by_hand::{HOST, Hand, assert_verdict, because, case, hello, steps};
    use super::*;
    use crate::trace::Reason;
    use crate::verdict::VerdictKind::{Broken, Kept, Unknown, Vacuous};
    use fake_cli::control::{Hello, Terminal};

    fn state(modes: &str, foreground: i32) -> What {
        What::Terminal(TerminalState { modes: modes.to_owned(), foreground })
    }

    /// A host with a terminal, whose root has it with this group in the foreground, if it has it at all; `last` is how it is left.
    fn left(foreground: Option<i32>, last: What) -> Hand {
        let terminal = foreground.map(|foreground| Terminal { number: 1, foreground });
        let said = Hello { terminal, ..hello("root") };
        case(steps(r#"["take-terminal", "hang"]"#))
            .with(|trace| trace.scenario.host.terminal = true)
            .what(0, state("cooked", HOST))
            .run(1)
            .says(2, "root", Report::Hello(Box::new(said)))
            .cancel(3)
            .ended(4, because(Reason::Cancelled))
            .what(5, last)
    }

    #[test]
    fn h2_wants_modes_and_foreground_as_they_were() {
        assert_verdict(&left(None, state("cooked", HOST)), judge_h2, Kept, "");
        assert_verdict(
            &left(Some(HOST), state("raw", HOST)),
            judge_h2,
            Broken,
            "(raw), before the run they were (cooked)",
        );
        assert_verdict(
            &left(Some(HOST), state("cooked", 100)),
            judge_h2,
            Broken,
            "foreground of the host's terminal is 100",
        );
        // What counts is how it is left at last.
        let late = left(Some(HOST), state("raw", HOST)).what(6, state("cooked", HOST));
        assert_verdict(&late, judge_h2, Kept, "");
    }

    #[test]
    fn h3_is_broken_by_a_stop_and_kept_without_one() {
        let hand = || left(Some(HOST), state("cooked", HOST));
        assert_verdict(&hand(), judge_h3, Kept, "");
        assert_verdict(
            &hand().what(7, What::HostStopped { signal: 22 }),
            judge_h3,
            Broken,
            "stopped by TTOU",
        );
    }

    #[test]
    fn e6_is_broken_by_a_child_that_gets_or_takes_the_foreground() {
        assert_verdict(&left(None, state("cooked", HOST)), judge_e6, Kept, "");
        let root = hello("root").pgid;
        assert_verdict(
            &left(Some(root), state("cooked", HOST)),
            judge_e6,
            Broken,
            "started in the foreground",
        );
        let beside = || left(Some(HOST), state("cooked", HOST));
        assert_verdict(&beside().did(3, "root", 0), judge_e6, Broken, "could take its foreground");
        assert_verdict(&beside(), judge_e6, Vacuous, "did not try");
        let of_host = left(Some(HOST), state("cooked", HOST)).with(|trace| {
            for moment in &mut trace.moments {
                if let What::Node { said: Report::Hello(hello), .. } = &mut moment.what {
                    hello.pgid = HOST;
                }
            }
        });
        assert_verdict(&of_host, judge_e6, Kept, "");
    }

    #[test]
    fn a_host_without_a_terminal_or_that_nobody_looked_at_shows_nothing() {
        for judge in [judge_h2, judge_h3, judge_e6] {
            assert_verdict(&case(steps("[]")).run(0), judge, Vacuous, "no terminal");
            let unseen = case(steps("[]")).with(|trace| trace.scenario.host.terminal = true).run(0);
            assert_verdict(&unseen, judge, Vacuous, "nobody looked");
            let behind = unseen.what(1, state("cooked", 1));
            assert_verdict(&behind, judge, Vacuous, "not in the foreground");
            assert_verdict(&left(None, state("raw", 1)).our_fault(), judge, Unknown, "harness could not");
        }
    }
}
