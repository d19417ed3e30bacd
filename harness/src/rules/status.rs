//! X: exit status.

use fake_cli::script::{Signal, Step};

use super::directed::{scenario, to_the_end};
use super::ending::{Cause, Ending, ending};
use super::facts::{Facts, Run};
use super::verdicts::{broken_unless, together};
use super::{Judged, Rule, as_catalogued};
use crate::scenario::Scenario;
use crate::trace::Status;
use crate::verdict::{Level, Verdict};

const MEASURED: &str = "The code or signal that the root reports right before it ends by itself against the status that the host reports.";
const GUARD: &str = "Only where the subject promises to pass the status on. If a stop came near the exit the verdict is unknown.";

/// Codes that say much: shells, `timeout`, signals and the borders.
const TELLING_CODES: [u8; 15] = [0, 1, 2, 42, 124, 125, 126, 127, 128, 129, 130, 137, 143, 254, 255];

/// The rules of this family.
pub(super) fn rules() -> Vec<Rule> {
    let rule = |id, title, sentence, judged| Rule {
        id,
        title,
        level: Level::Must,
        sentence,
        measured: MEASURED,
        guard: GUARD,
        weigh: as_catalogued,
        judged,
    };
    let later = |id, title, sentence, why| rule(id, title, sentence, Judged::NotBuilt(why));
    vec![
        rule(
            "X1",
            "exit codes exact",
            "Every exit code from 0 to 255 is reported exactly.",
            Judged::Trace { judge: judge_x1, directed: directed_x1 },
        ),
        rule(
            "X2",
            "death by signal told",
            "A death by signal n is told from an exit with 128+n.",
            Judged::Trace { judge: judge_x2, directed: directed_x2 },
        ),
        later(
            "X3",
            "who came first is told",
            "Whoever came first is named: a child that ended before the first kill has not timed out, and the reverse.",
            "a gate on the wrapper's own kill is needed to say who came first",
        ),
        later(
            "X4",
            "a stop is no exit",
            "A stop is not reported as an exit by itself.",
            "no judge compares the reported reason with the cause yet",
        ),
        later(
            "X5",
            "asked again, same answer",
            "Asking for the outcome again gives the same answer.",
            "no op asks twice yet",
        ),
        later(
            "X6",
            "a failed start is told",
            "A start that failed is a start error, not exit 127.",
            "a scenario cannot make a start fail yet",
        ),
        later(
            "X7",
            "no pid after the reap",
            "After the reap the child's pid is not given out as alive.",
            "hosts are not asked for pids yet",
        ),
    ]
}

/// How a root ended by itself, and what the host says of it.
struct End {
    truth: Status,
    reported: Option<Status>,
    doubt: Option<String>,
}

fn end(facts: &Facts<'_>, run: &Run<'_>) -> Result<End, String> {
    let doubt = match ending(facts, run) {
        Ending::By { cause: Cause::Itself, doubt, .. } => doubt,
        Ending::By { cause, .. } => return Err(format!("the run {}", cause.told())),
        Ending::None(why) => return Err(why),
    };
    let Some((_, code)) = run.root().and_then(super::facts::Node::exiting) else {
        return Err("the root did not say how it ends".to_owned());
    };
    let Some((_, outcome)) = run.ended else { return Err(facts.because("the run has no outcome")) };
    let truth = if code < 0 { Status::Signaled(-code) } else { Status::Exited(code) };
    let stopped = || run.first_stop().map(|_| "the caller stopped the run before it had returned".to_owned());
    Ok(End { truth, reported: outcome.status, doubt: doubt.or_else(stopped) })
}

fn told(status: Option<Status>) -> String {
    match status {
        None => "no status".to_owned(),
        Some(Status::Exited(code)) => format!("exit code {code}"),
        Some(Status::Signaled(signal)) => format!("death by {}", Signal::name_of(signal)),
    }
}

fn each_run(facts: &Facts<'_>, judge: fn(&End) -> Verdict) -> Verdict {
    if let Some(fault) = facts.fault() {
        return fault;
    }
    if !facts.promises().status {
        return Verdict::NotRun("the subject does not pass the child's status on".to_owned());
    }
    let verdicts =
        facts.runs().iter().map(|run| end(facts, run).map_or_else(Verdict::Vacuous, |end| judge(&end)));
    together(verdicts, || facts.because("no run was started"))
}

fn mismatch(end: &End) -> Verdict {
    let sentence =
        format!("the root ended with {}, the host reported {}", told(Some(end.truth)), told(end.reported));
    broken_unless(end.doubt.as_ref(), sentence)
}

fn judge_x1(facts: &Facts<'_>) -> Verdict {
    each_run(facts, |end| match (end.truth, end.reported) {
        (Status::Signaled(_), _) => Verdict::Vacuous("the root died by a signal".to_owned()),
        (Status::Exited(code), Some(Status::Signaled(signal))) if signal == code - 128 => {
            Verdict::Vacuous("the exit was reported as a death by signal, which X2 judges".to_owned())
        }
        (truth, Some(reported)) if truth == reported => Verdict::Kept,
        _ => mismatch(end),
    })
}

fn judge_x2(facts: &Facts<'_>) -> Verdict {
    each_run(facts, |end| match (end.truth, end.reported) {
        (Status::Exited(code), _) if !(129..=159).contains(&code) => {
            Verdict::Vacuous("the root neither died by a signal nor exited with 128 and more".to_owned())
        }
        (truth, Some(reported)) if truth == reported => Verdict::Kept,
        (Status::Exited(code), Some(Status::Signaled(signal))) if signal == code - 128 => mismatch(end),
        (Status::Signaled(_), _) => mismatch(end),
        (Status::Exited(_), _) => {
            Verdict::Vacuous("the exit code was reported wrongly, which X1 judges".to_owned())
        }
    })
}

// ---- Directed scenarios ----

/// A scenario whose child exits with this code.
pub(super) fn exit_code(code: u8) -> Scenario {
    let why = match code {
        124 => "The code that timeout uses for a run that timed out: here it is the child's own.",
        125..=127 => "A code that shells and timeout use for failed starts: here it is the child's own.",
        129..=159 => "A code that shells use for a death by signal: here it is an exit.",
        _ => "An exit code must come through as it is.",
    };
    let rules: &[&str] = if (129..=159).contains(&code) { &["X1", "X2"] } else { &["X1"] };
    scenario(&format!("exit-code-{code}"), why, rules, vec![Step::Exit(code)], to_the_end())
}

/// Every exit code: for hosts that are cheap to start.
pub fn exit_codes() -> Vec<Scenario> {
    (0..=255).map(exit_code).collect()
}

fn directed_x1() -> Vec<Scenario> {
    TELLING_CODES.into_iter().map(exit_code).collect()
}

fn directed_x2() -> Vec<Scenario> {
    let deaths = [
        (
            "die-by-term",
            Step::Die(Signal::Term),
            "A death by TERM that nobody asked for is neither a cancel nor exit code 143.",
        ),
        (
            "die-by-kill",
            Step::Die(Signal::Kill),
            "As when the kernel runs out of memory: a KILL that the wrapper did not send, and not exit code 137.",
        ),
        ("die-by-segv", Step::Fault, "A crash by a real fault is not exit code 139."),
        ("die-by-abrt", Step::Die(Signal::Abrt), "A failed assertion is not exit code 134."),
    ];
    let mut scenarios: Vec<Scenario> = deaths
        .into_iter()
        .map(|(name, step, why)| scenario(name, why, &["X2"], vec![step], to_the_end()))
        .collect();
    scenarios.extend([134, 137, 139, 143].map(exit_code));
    scenarios
}

#[cfg(test)]
mod tests {
    use super::super::by_hand::{Hand, assert_verdict, because, case, steps};
    use super::*;
    use crate::trace::{Outcome, Reason};
    use crate::verdict::VerdictKind::{Broken, Kept, NotRun, Unknown, Vacuous};

    /// A root that ended with this code or negative signal, and the status that the host reports.
    fn ended(code: i32, status: Option<Status>) -> Hand {
        let script = u8::try_from(code).map_or(steps(r#"["fault"]"#), |code| vec![Step::Exit(code)]);
        case(script)
            .run(0)
            .hello(1, "root")
            .exiting(2, "root", code)
            .gone(3, "root")
            .ended(4, Outcome { status, ..because(Reason::Itself) })
    }

    #[test]
    fn x1_wants_the_exact_code() {
        for code in 0..=255 {
            assert_verdict(&ended(code, Some(Status::Exited(code))), judge_x1, Kept, "");
        }
        let wrong = ended(3, Some(Status::Exited(1)));
        assert_verdict(
            &wrong,
            judge_x1,
            Broken,
            "the root ended with exit code 3, the host reported exit code 1",
        );
        assert_verdict(&ended(3, None), judge_x1, Broken, "no status");
        assert_verdict(&ended(3, Some(Status::Signaled(9))), judge_x1, Broken, "death by KILL");
    }

    #[test]
    fn x2_tells_a_death_by_signal_from_an_exit_and_each_lie_is_charged_once() {
        let died_as_exit = ended(-9, Some(Status::Exited(137)));
        assert_verdict(
            &died_as_exit,
            judge_x2,
            Broken,
            "the root ended with death by KILL, the host reported exit code 137",
        );
        assert_verdict(&died_as_exit, judge_x1, Vacuous, "by a signal");
        let exit_as_death = ended(137, Some(Status::Signaled(9)));
        assert_verdict(&exit_as_death, judge_x2, Broken, "exit code 137, the host reported death by KILL");
        assert_verdict(&exit_as_death, judge_x1, Vacuous, "X2 judges");
        let wrong_code = ended(137, Some(Status::Exited(1)));
        assert_verdict(&wrong_code, judge_x2, Vacuous, "X1 judges");
        assert_verdict(&wrong_code, judge_x1, Broken, "");
    }

    #[test]
    fn x2_is_kept_by_exact_ends_and_vacuous_for_small_codes() {
        assert_verdict(&ended(-15, Some(Status::Signaled(15))), judge_x2, Kept, "");
        assert_verdict(&ended(143, Some(Status::Exited(143))), judge_x2, Kept, "");
        assert_verdict(&ended(3, Some(Status::Exited(3))), judge_x2, Vacuous, "neither");
    }

    #[test]
    fn x_is_unknown_when_a_stop_came_near_and_not_run_without_the_promise() {
        let stopped = case(steps("[]"))
            .run(0)
            .hello(1, "root")
            .exiting(2, "root", 3)
            .cancel(3)
            .ended(4, Outcome { status: None, ..because(Reason::Cancelled) });
        assert_verdict(&stopped, judge_x1, Unknown, "the caller stopped the run");
        let without = ended(3, None).promising(|promises| promises.status = false);
        assert_verdict(&without, judge_x1, NotRun, "does not pass");
        assert_verdict(&without, judge_x2, NotRun, "does not pass");
        assert_verdict(&ended(-9, None).our_fault(), judge_x2, Unknown, "harness could not");
    }

    #[test]
    fn x_is_vacuous_for_runs_that_were_stopped_or_never_ended() {
        let cancelled = case(steps(r#"["hang"]"#))
            .run(0)
            .hello(1, "root")
            .cancel(3)
            .gone(4, "root")
            .ended(5, Outcome { status: Some(Status::Signaled(15)), ..because(Reason::Cancelled) });
        assert_verdict(&cancelled, judge_x1, Vacuous, "was cancelled");
        let running = case(steps("[]")).run(0).hello(1, "root").exiting(2, "root", 3);
        assert_verdict(&running, judge_x1, Vacuous, "no outcome");
    }

    #[test]
    fn an_answer_to_term_is_no_exit_of_its_own() {
        let obeys = case(steps(r#"[{"on": {"signal": "TERM", "then": {"exit": 5}}}, "hang"]"#))
            .run(0)
            .hello(1, "root")
            .cancel(3)
            .signalled(4, "root", Signal::Term)
            .exiting(4, "root", 5)
            .ended(6, Outcome { status: Some(Status::Signaled(15)), ..because(Reason::Cancelled) });
        assert_verdict(&obeys, judge_x1, Vacuous, "was cancelled");
    }

    #[test]
    fn a_root_whose_time_to_live_was_over_did_not_exit_by_itself() {
        let expired =
            ended(75, Some(Status::Exited(1))).with(|trace| trace.scenario.script = steps(r#"["hang"]"#));
        assert_verdict(&expired, judge_x1, Vacuous, "time to live");
    }

    #[test]
    fn there_is_a_scenario_for_each_code() {
        let codes = exit_codes();
        assert_eq!(codes.len(), 256);
        assert!(codes.iter().all(|scenario| scenario.check().is_ok()));
    }
}
