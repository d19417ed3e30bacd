//! O10: children that want no more input.

use fake_cli::content::Output;
use fake_cli::control::Report;
use fake_cli::script::{Signal, Stdio, Step};

use super::concurrency::is_hindered;
use super::deadlines::each_run;
use super::directed::{after, emit, once_started, run, scenario, to_the_end, wait, write};
use super::facts::{Facts, Node, Run};
use super::standing::steps_of;
use super::verdicts::broken;
use crate::scenario::{Op, Scenario, Verb};
use crate::trace::{Reason, Stage, Status};
use crate::verdict::Verdict;

/// More than a pipe holds, so that a write of it meets the closed end.
const MORE_THAN_A_PIPE: u64 = 256 * 1024;
const PIPE_BYTES: u64 = 64 * 1024;

pub(super) fn judge(facts: &Facts<'_>) -> Verdict {
    if let Some(fault) = facts.fault() {
        return fault;
    }
    if !(facts.promises().feeds || facts.promises().writes) {
        return Verdict::NotRun("the subject does not feed its child".to_owned());
    }
    each_run(facts, |run| no_error(facts, run))
}

fn no_error(facts: &Facts<'_>, run: &Run<'_>) -> Result<Verdict, String> {
    let root = run.root().ok_or_else(|| facts.because("the root never said hello"))?;
    let given = facts.trace.scenario.input.unwrap_or(0).max(written(facts, run));
    if given <= PIPE_BYTES {
        return Err("the child was given no more input than a pipe holds".to_owned());
    }
    if !closed_early(facts, root) {
        return Err(facts.because("the root did not close its input before it had read it"));
    }
    if is_hindered(facts, run) {
        return Err("the harness had lowered a limit for the start, which may be the error".to_owned());
    }
    if run.stops.iter().any(|stop| stop.verb.ends_host()) {
        return Err("the host was ended from outside".to_owned());
    }
    if let Some((_, outcome)) = run.ended {
        return Ok(match &outcome.reason {
            Reason::Error(why) | Reason::StartFailed(why) => broken(format!(
                "the root of run {} wanted no more input, and the run ended with an error: {why}",
                run.number
            )),
            _ => Verdict::Kept,
        });
    }
    let pipe = Status::Signaled(Signal::Pipe.number());
    match facts.host_gone() {
        Some((_, status)) if status == pipe && facts.look(Stage::Quiesce).is_none() => Ok(broken(format!(
            "the root of run {} wanted no more input, and the host died by PIPE",
            run.number
        ))),
        _ => Err(facts.because("the run has no outcome")),
    }
}

/// The most that one op wrote to the child.
fn written(facts: &Facts<'_>, run: &Run<'_>) -> u64 {
    let ops = facts.trace.scenario.ops.iter().enumerate();
    let writes = ops.filter_map(|(index, op)| match op.verb {
        Verb::Write(bytes) if facts.is_about(index, run.number) => Some(bytes),
        _ => None,
    });
    writes.max().unwrap_or(0)
}

/// Whether the root closed its input, or exited by itself, and had not come to its end.
fn closed_early(facts: &Facts<'_>, root: &Node<'_>) -> bool {
    let steps = steps_of(&facts.trace.scenario.script, root.name).unwrap_or_default();
    let has_read = root.reports.iter().any(|heard| matches!(heard.report, Report::StdinEnded { .. }));
    let has_closed = root.reports.iter().any(|heard| {
        matches!(heard.report, Report::Did { step, .. } if steps.get(*step) == Some(&Step::Close(Stdio::Stdin)))
    });
    !has_read && (has_closed || root.exiting().is_some())
}

pub(super) fn directed() -> Vec<Scenario> {
    let why = "A child that has seen enough closes its input, as head does; the write that fails then is no failure of the run.";
    let closes =
        || vec![Step::Close(Stdio::Stdin), emit("ready"), write(Output::Stdout, 1000), Step::Exit(3)];
    let write_much = Op { delay: None, ..after("root.ready", Verb::Write(MORE_THAN_A_PIPE)) };
    vec![
        scenario("input-closed-early", why, &["O10", "X1"], closes(), to_the_end())
            .with_input(MORE_THAN_A_PIPE),
        scenario("input-never-read", why, &["O10", "X1"], vec![Step::Exit(3)], to_the_end())
            .with_input(MORE_THAN_A_PIPE),
        scenario(
            "input-closed-while-the-caller-writes",
            why,
            &["O10"],
            vec![
                Step::Close(Stdio::Stdin),
                emit("ready"),
                super::directed::await_event("op.2.issued"),
                Step::Exit(3),
            ],
            vec![run(), write_much, once_started(Verb::CloseStdin), wait()],
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::by_hand::{self, Hand, assert_verdict, because, steps};
    use super::*;
    use crate::scenario::Hindrance;
    use crate::verdict::VerdictKind::{Broken, Kept, NotRun, Unknown, Vacuous};

    /// A root that was given this much input and has closed it.
    fn closed(input: u64) -> Hand {
        let hand = by_hand::case(steps(r#"[{"close": "stdin"}, {"exit": 3}]"#))
            .promising(|promises| promises.feeds = true);
        hand.with(|trace| trace.scenario.input = Some(input)).run(0).hello(1, "root").did(2, "root", 0)
    }

    fn ended(reason: Reason) -> Hand {
        closed(MORE_THAN_A_PIPE).exiting(3, "root", 3).gone(4, "root").ended(5, because(reason))
    }

    #[test]
    fn o10_is_kept_by_any_end_and_broken_by_an_error() {
        assert_verdict(&ended(Reason::Itself), judge, Kept, "");
        assert_verdict(
            &ended(Reason::Error("broken pipe".to_owned())),
            judge,
            Broken,
            "wanted no more input, and the run ended with an error: broken pipe",
        );
        let died = closed(MORE_THAN_A_PIPE).host_gone(5, Status::Signaled(13));
        assert_verdict(&died, judge, Broken, "died by PIPE");
        assert_verdict(&ended(Reason::Itself).our_fault(), judge, Unknown, "harness could not");
    }

    #[test]
    fn o10_is_vacuous_when_no_write_can_fail_and_does_not_run_for_who_feeds_nobody() {
        assert_verdict(
            &closed(100).ended(5, because(Reason::Itself)),
            judge,
            Vacuous,
            "no more input than a pipe",
        );
        let reads =
            by_hand::case(steps(r#"["read-stdin", "hang"]"#)).promising(|promises| promises.feeds = true);
        let reads = reads.with(|trace| trace.scenario.input = Some(MORE_THAN_A_PIPE)).run(0).hello(1, "root");
        assert_verdict(&reads.ended(5, because(Reason::Cancelled)), judge, Vacuous, "did not close");
        assert_verdict(&closed(MORE_THAN_A_PIPE), judge, Vacuous, "no outcome");
        assert_verdict(
            &ended(Reason::Itself).promising(|promises| promises.feeds = false),
            judge,
            NotRun,
            "does not feed",
        );
        // Such an error is the limit's.
        let hindered = ended(Reason::Error("too many open files".to_owned())).with(|trace| {
            trace.scenario.ops[0].hindered_by = Some(Hindrance::DescriptorsLeft(4));
        });
        assert_verdict(&hindered, judge, Vacuous, "lowered a limit");
    }
}
