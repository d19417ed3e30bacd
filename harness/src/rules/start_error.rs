//! X6: a start that failed is told as such.

use fake_cli::script::Step;

use super::directed::{run, scenario, wait};
use super::facts::{Facts, Run};
use super::verdicts::{broken, together};
use crate::scenario::{Hindrance, Op, Scenario};
use crate::trace::{Reason, Status};
use crate::verdict::Verdict;

pub(super) fn judge(facts: &Facts<'_>) -> Verdict {
    if let Some(fault) = facts.fault() {
        return fault;
    }
    if facts.is_template() {
        return Verdict::NotRun("a command has no other way to say it than its own exit code".to_owned());
    }
    let verdicts = facts.runs().iter().map(|run| judge_run(facts, run).unwrap_or_else(Verdict::Vacuous));
    together(verdicts, || facts.because("no run was started"))
}

/// The verdict on a run, or why it does not test the rule.
fn judge_run(facts: &Facts<'_>, run: &Run<'_>) -> Result<Verdict, String> {
    let Some(hindrance) = run.hindered_by else {
        return Err("nothing hindered the start".to_owned());
    };
    if run.root().is_some() {
        return Err("the start did not fail".to_owned());
    }
    let Some((_, outcome)) = run.ended else {
        return Err(facts.because("the run has no outcome"));
    };
    let says = |what: &str| format!("the start failed by {}, and the run {what}", hindrance.told());
    let status = match outcome.status {
        Some(Status::Exited(code)) => format!(" with exit code {code}"),
        Some(Status::Signaled(signal)) => format!(" with death by signal {signal}"),
        None => String::new(),
    };
    Ok(match &outcome.reason {
        Reason::StartFailed(_) => Verdict::Kept,
        Reason::Error(why) => Verdict::Unknown(says(&format!("ended with an error of another kind: {why}"))),
        Reason::Unsaid if outcome.status.is_none() => {
            return Err("the subject cannot say how a run ended".to_owned());
        }
        Reason::Itself | Reason::Unsaid => {
            broken(says(&format!("is told as one that ended by itself{status}")))
        }
        // With a few descriptors left it may have started, and been stopped before it said hello.
        Reason::TimedOut | Reason::Cancelled if !hindrance.is_in_program() => {
            Verdict::Unknown(says("is told as one that was stopped, which it may have been"))
        }
        Reason::TimedOut => broken(says(&format!("is told as one that timed out{status}"))),
        Reason::Cancelled if run.stops.is_empty() => {
            broken(says(&format!("is told as cancelled, though nobody did{status}")))
        }
        Reason::Cancelled => return Err("the run was cancelled while it started".to_owned()),
    })
}

// ---- Directed scenarios ----

pub(super) fn directed() -> Vec<Scenario> {
    let hindered = |name: &str, why: &str, hindrance: Hindrance| {
        let ops = vec![Op { hindered_by: Some(hindrance), ..run() }, wait()];
        scenario(name, why, &["X6"], vec![Step::Exit(0)], ops)
    };
    vec![
        hindered(
            "told-missing-program",
            "Whoever starts by a shell gets its 127, which a program may exit with by itself.",
            Hindrance::MissingProgram,
        ),
        hindered("told-not-executable", "The same with a shell's 126.", Hindrance::NotExecutable),
        hindered(
            "told-without-interpreter",
            "The exec fails in the child: only whoever has a way back from there can tell it from an exit.",
            Hindrance::BadInterpreter,
        ),
        hindered(
            "told-without-descriptors",
            "Pipes cannot be made: an error before there is a child.",
            Hindrance::DescriptorsLeft(0),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::by_hand::{Hand, assert_verdict, because, case, steps};
    use super::*;
    use crate::trace::Outcome;
    use crate::verdict::VerdictKind::{Broken, Kept, NotRun, Unknown, Vacuous};

    fn failed(hindrance: Hindrance, outcome: Outcome) -> Hand {
        case(steps(r#"[{"exit": 0}]"#)).hindered_run(0, hindrance).ended(5, outcome)
    }

    fn exited(reason: Reason, code: i32) -> Outcome {
        Outcome { status: Some(Status::Exited(code)), ..because(reason) }
    }

    const MISSING: Hindrance = Hindrance::MissingProgram;
    const FEW: Hindrance = Hindrance::DescriptorsLeft(2);

    #[test]
    fn a_start_error_is_kept_and_an_exit_code_is_broken() {
        let told = |hindrance| failed(hindrance, because(Reason::StartFailed("no".to_owned())));
        assert_verdict(&told(MISSING), judge, Kept, "");
        assert_verdict(&told(FEW), judge, Kept, "");
        let shell = failed(MISSING, exited(Reason::Itself, 127));
        assert_verdict(
            &shell,
            judge,
            Broken,
            "by a missing program, and the run is told as one that ended by itself with exit code 127",
        );
        let shell = failed(Hindrance::NotExecutable, exited(Reason::Unsaid, 126));
        assert_verdict(&shell, judge, Broken, "exit code 126");
        assert_verdict(&failed(MISSING, because(Reason::TimedOut)), judge, Broken, "timed out");
        assert_verdict(&failed(MISSING, because(Reason::Cancelled)), judge, Broken, "nobody did");
    }

    #[test]
    fn what_may_have_started_or_is_another_error_is_not_certain() {
        assert_verdict(&failed(FEW, because(Reason::TimedOut)), judge, Unknown, "may have been");
        assert_verdict(
            &failed(MISSING, because(Reason::Error("x".to_owned()))),
            judge,
            Unknown,
            "another kind: x",
        );
    }

    #[test]
    fn a_start_that_did_not_fail_or_of_which_nothing_is_said_shows_nothing() {
        let up = case(steps("[]")).hindered_run(0, FEW).hello(1, "root").ended(5, exited(Reason::Itself, 0));
        assert_verdict(&up, judge, Vacuous, "did not fail");
        assert_verdict(&failed(MISSING, because(Reason::Unsaid)), judge, Vacuous, "cannot say");
        assert_verdict(&case(steps("[]")).run(0), judge, Vacuous, "nothing hindered");
        assert_verdict(&case(steps("[]")).hindered_run(0, MISSING), judge, Vacuous, "no outcome");
        assert_verdict(
            &failed(MISSING, exited(Reason::Unsaid, 127)).template(),
            judge,
            NotRun,
            "own exit code",
        );
        assert_verdict(
            &failed(MISSING, exited(Reason::Unsaid, 127)).our_fault(),
            judge,
            Unknown,
            "harness could not",
        );
    }
}
