//! X: exit status.

use fake_cli::content::Output;
use fake_cli::script::{Place, Signal, Step, Then};
use fake_cli::span::Span;

use super::directed::{
    TIMEOUT, await_event, emit, on_term, once_started, ready_and_hang, run, scenario, start_holding,
    to_the_end, wait, write,
};
use super::ending::{Cause, Ending, ending};
use super::facts::{Facts, Lateness, Node, Run, TICK_US, micros, told as time};
use super::standing::{Answer, hearing};
use super::verdicts::{broken, broken_unless, together};
use super::{Judged, Rule, as_catalogued, start_error, state};
use crate::promises::Keeps;
use crate::scenario::{Op, Scenario, Verb};
use crate::trace::{Captured, Outcome, Reason, Status, What};
use crate::verdict::{Level, Verdict};

const MEASURED: &str = "The code or signal that the root reports right before it ends by itself against the status that the host reports.";
const GUARD: &str = "Only where the subject promises to pass the status on. If a stop came near the exit the verdict is unknown.";

/// Codes that say much: shells, `timeout`, signals and the borders.
const TELLING_CODES: [u8; 15] = [0, 1, 2, 42, 124, 125, 126, 127, 128, 129, 130, 137, 143, 254, 255];

/// A timeout that a child which ends at once does not come near, on a crowded machine either.
const ENOUGH: Span = Span::from_millis(500);
/// Signals that ask a child to end.
const ASKS: [Signal; 4] = [Signal::Term, Signal::Int, Signal::Hup, Signal::Quit];

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
        Rule {
            measured: "The root's own reports of signals and of its exit, and when its death was seen, against the reason that the host reports. A \
                timeout is over not before the op that started the run and the timeout together.",
            guard: "Only where the order is certain: a death that was seen before the timeout was due, a signal that the root reported before it \
                exited, or a kill after that. What both may explain is unknown, and so is a timeout of a wrapper that was stopped, or may have had no \
                processor since the death.",
            ..rule(
                "X3",
                "who came first is told",
                "Whoever came first is named: a child that ended before the first kill has not timed out, and the reverse.",
                Judged::Trace { judge: judge_x3, directed: directed_x3 },
            )
        },
        Rule {
            measured: "The root stops itself by SIGSTOP; until it is continued, or the caller or the timeout stops the run, nobody may be told that \
                the run has ended.",
            guard: "The root itself says that it stops, and would say that it exits. Less than a tick of the clock tests nothing.",
            ..rule(
                "X4",
                "a stop is no exit",
                "A root that stops has not ended: a stop is not reported as an exit by itself.",
                Judged::Trace { judge: state::judge_x4, directed: state::directed_x4 },
            )
        },
        Rule {
            measured: "The host is asked for the outcome again once the run has ended, and its answers are compared.",
            guard: "Only for subjects whose API can be asked again. An answer that never came counts only after all bounds, slack and noise.",
            ..rule(
                "X5",
                "asked again, same answer",
                "Asking for the outcome again gives the same answer.",
                Judged::Trace { judge: judge_x5, directed: directed_x5 },
            )
        },
        Rule {
            measured: "The reason that the host reports for a run whose program is missing, may not be executed or lacks its interpreter, or for which \
                descriptors or processes have run out.",
            guard: "Only where the root never said hello. An error of another kind, or a stop of what may have started, is unknown.",
            ..rule(
                "X6",
                "a failed start is told",
                "A start that failed is a start error, not exit 127.",
                Judged::Trace { judge: start_error::judge, directed: start_error::directed },
            )
        },
        Rule {
            measured: "The host is asked for the state and the pid of a run while it is under way and after its end.",
            guard: "Only for subjects that promise to give a pid out. After the end is after the host had reported it.",
            ..rule(
                "X7",
                "no pid after the reap",
                "A pid that is given out is the child's, and after the reap none is given out.",
                Judged::Trace { judge: state::judge_x7, directed: state::directed_x7 },
            )
        },
    ]
}

/// How a root ended by itself, and what the host says of it.
struct End {
    truth: Status,
    reported: Option<Status>,
    doubt: Option<String>,
}

fn end(facts: &Facts<'_>, run: &Run<'_>) -> Result<End, String> {
    // A child that is up cannot be watched where no descriptor is left, and may be quicker than whoever kills it for that.
    if run.hindered_by.is_some() && run.start_failed() {
        return Err("its start was hindered and failed, which S10 judges".to_owned());
    }
    let doubt = match ending(facts, run) {
        Ending::By { cause: Cause::Itself, doubt, .. } => doubt,
        Ending::By { cause, .. } => return Err(format!("the run {}", cause.told())),
        Ending::None(why) => return Err(why),
    };
    let Some((_, code)) = run.root().and_then(Node::exiting) else {
        return Err("the root did not say how it ends".to_owned());
    };
    let Some((_, outcome)) = run.ended else { return Err(facts.because("the run has no outcome")) };
    if outcome.status.is_none() && facts.trace.scenario.host.ignores.contains(&Signal::Chld) {
        return Err(
            "the host ignores CHLD, so the kernel may have kept no status, which Z4 is about".to_owned()
        );
    }
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

// ---- X3 ----

fn judge_x3(facts: &Facts<'_>) -> Verdict {
    if let Some(fault) = facts.fault() {
        return fault;
    }
    if !facts.promises().tells_reason {
        return Verdict::NotRun("the subject does not say why a run ended".to_owned());
    }
    if facts.promises().timeout == Keeps::Not {
        return Verdict::NotRun("the subject has no timeout".to_owned());
    }
    let verdicts = facts.runs().iter().map(|run| first_is_named(facts, run).unwrap_or_else(Verdict::Vacuous));
    together(verdicts, || facts.because("no run was started"))
}

/// Who came first, the root's end by itself or the first signal of whoever stopped it.
enum First<'r> {
    /// The root ended before any signal can have been sent: its death was seen before the timeout was due.
    Exit { dead_us: u64 },
    /// The root ended by itself, and no signal that came before would have passed unseen.
    ExitUnasked,
    /// A signal of somebody in the case, which the root reported.
    Signal { at_us: u64, signal: String },
    /// Somebody killed the root, after the timeout was due.
    Kill { dead_us: u64 },
    /// It cannot be said, and why.
    Unclear(&'r str),
}

fn first_is_named(facts: &Facts<'_>, run: &Run<'_>) -> Result<Verdict, String> {
    let timeout_us = micros(facts.trace.limits.timeout.ok_or("there is no timeout in force")?);
    let root = run.root().ok_or_else(|| facts.because("the root never said hello"))?;
    let (_, outcome) = run.ended.ok_or_else(|| facts.because("the run has no outcome"))?;
    if run.first_stop().is_some() {
        return Err("the caller stopped the run".to_owned());
    }
    if root.expired(&facts.trace.scenario.script) {
        return Err("the root's time to live was over before anything ended the run".to_owned());
    }
    let due_us = run.issued_us.saturating_add(timeout_us);
    let first = who_came_first(facts, root, due_us);
    Ok(match (first, &outcome.reason) {
        (First::Exit { .. } | First::ExitUnasked, Reason::Itself)
        | (First::Signal { .. } | First::Kill { .. }, Reason::TimedOut) => Verdict::Kept,
        (First::Exit { .. }, Reason::TimedOut) if facts.host_stopped_us() > 0 => Verdict::Unknown(
            "the host was stopped for a time, and may have found both when it went on".to_owned(),
        ),
        (First::Exit { dead_us }, Reason::TimedOut) => broken(format!(
            "the root had ended by itself and was dead {} after the run was asked for; the timeout was {}; the run is reported as timed out",
            time(dead_us.saturating_sub(run.issued_us)),
            time(timeout_us)
        )),
        (First::Signal { at_us, signal }, Reason::Itself) => broken(format!(
            "the root got {signal} from somebody {} after the run was asked for, before it ended, when the timeout of {} was over; \
                the run is reported as ended by itself",
            time(at_us.saturating_sub(run.issued_us)),
            time(timeout_us)
        )),
        (First::Kill { dead_us }, Reason::Itself) => {
            killed_and_not_said(dead_us.saturating_sub(run.issued_us), timeout_us, outcome.status)
        }
        (First::ExitUnasked, Reason::TimedOut) => Verdict::Unknown(
            "the root ended by itself when the timeout was due; who came first cannot be said".to_owned(),
        ),
        (First::Unclear(why), Reason::Itself | Reason::TimedOut) => Verdict::Unknown(why.to_owned()),
        (_, Reason::Cancelled | Reason::StartFailed(_) | Reason::Error(_) | Reason::Unsaid) => {
            Verdict::Vacuous("the host reports neither a timeout nor an end by itself".to_owned())
        }
    })
}

fn killed_and_not_said(after_us: u64, timeout_us: u64, status: Option<Status>) -> Verdict {
    // In the case's container nobody but the wrapper kills, and it does so by these.
    let kills = [Signal::Term, Signal::Kill].map(|signal| Some(Status::Signaled(signal.number())));
    if matches!(status, Some(Status::Signaled(_))) && !kills.contains(&status) {
        return Verdict::Unknown(
            "the root died by another signal than TERM and KILL after the timeout was due; whose it was cannot be said"
                .to_owned(),
        );
    }
    broken(format!(
        "the root was killed {} after the run was asked for, when the timeout of {} was over; the run is reported as ended by itself",
        time(after_us),
        time(timeout_us)
    ))
}

fn who_came_first(facts: &Facts<'_>, root: &Node<'_>, due_us: u64) -> First<'static> {
    let asks = |number: &i32| ASKS.iter().any(|signal| signal.number() == *number);
    let asked = root.signals().find(|(_, number, sender)| *sender > 0 && asks(number));
    let exit_us = root.exiting().map(|(at_us, _)| at_us);
    if let Some((at_us, number, _)) = asked
        && exit_us.is_none_or(|exit_us| at_us < exit_us)
    {
        return if at_us.saturating_add(TICK_US) >= due_us {
            First::Signal { at_us, signal: Signal::name_of(number) }
        } else {
            First::Unclear("the root got a signal before the timeout was due, which D2 judges")
        };
    }
    let seen_dead_us = root.gone_us;
    match (exit_us, seen_dead_us) {
        // A wrapper that got no processor between the two finds both when it gets one.
        (Some(_), Some(dead_us)) if dead_us.saturating_add(facts.starved_us().max(TICK_US)) <= due_us => {
            First::Exit { dead_us }
        }
        (Some(exit_us), _) => {
            let heard = hearing(&facts.trace.scenario.script, root, exit_us);
            // A signal that it ignores or blocks may have come before, unseen.
            if exit_us < due_us || heard.answer == Answer::Ends && !heard.stopped || heard.reports {
                First::ExitUnasked
            } else {
                First::Unclear(
                    "the root ended by itself after the timeout was due, and a signal before that would not have been seen",
                )
            }
        }
        (None, Some(dead_us)) if dead_us > due_us => First::Kill { dead_us },
        (None, Some(_)) => {
            First::Unclear("the root was killed before the timeout was due by nobody who is known")
        }
        (None, None) => First::Unclear("the root's end was not seen"),
    }
}

// ---- X5 ----

fn judge_x5(facts: &Facts<'_>) -> Verdict {
    if let Some(fault) = facts.fault() {
        return fault;
    }
    if facts.is_template() {
        return Verdict::NotRun("a command that has ended cannot be asked again".to_owned());
    }
    if !facts.promises().answers_again || facts.cannot(Verb::AskAgain) {
        return Verdict::NotRun("the subject cannot be asked again".to_owned());
    }
    together(facts.runs().iter().map(|run| same_answer(facts, run)), || facts.because("no run was started"))
}

fn same_answer(facts: &Facts<'_>, run: &Run<'_>) -> Verdict {
    let Some((_, first)) = run.ended else {
        return Verdict::Vacuous(facts.because("the run has no outcome"));
    };
    let asked: Vec<(usize, u64)> = facts.issued(Verb::AskAgain, run.number).collect();
    if asked.is_empty() {
        return Verdict::Vacuous(facts.because("nobody asked for the outcome again"));
    }
    together(asked.into_iter().map(|(op, at_us)| answer_to(facts, first, op, at_us)), String::new)
}

fn answer_to(facts: &Facts<'_>, first: &Outcome, op: usize, asked_us: u64) -> Verdict {
    let answer = facts.trace.moments.iter().find_map(|moment| match &moment.what {
        What::Again { op: other, outcome, .. } if *other == op => Some(Ok(outcome)),
        What::OpFailed { op: other, why } if *other == op => Some(Err(why)),
        _ => None,
    });
    match answer {
        Some(Ok(again)) if again == first => Verdict::Kept,
        Some(Ok(again)) => broken(format!(
            "the run ended with {}; asked again (op {op}), the host says {}",
            outcome_told(first),
            outcome_told(again)
        )),
        Some(Err(why)) => broken(format!("asking for the outcome again (op {op}) failed: {why}")),
        None if facts.host_gone().is_some() && !facts.host_fell_silent() => {
            Verdict::Unknown("the host ended before it had answered".to_owned())
        }
        None => unanswered(facts, op, asked_us),
    }
}

fn unanswered(facts: &Facts<'_>, op: usize, asked_us: u64) -> Verdict {
    let waited_us = facts.last_us().saturating_sub(asked_us);
    let sentence =
        format!("asked for the outcome again (op {op}), the host had not answered {} later", time(waited_us));
    match facts.lateness(waited_us, facts.slack_us()) {
        Lateness::Late(_) if facts.host_fell_silent() => broken(sentence),
        _ => Verdict::Unknown(sentence),
    }
}

fn outcome_told(outcome: &Outcome) -> String {
    let bytes =
        |captured: Option<Captured>| captured.map_or_else(|| "none".to_owned(), |it| it.bytes.to_string());
    let reason = match &outcome.reason {
        Reason::Itself => "an end by itself",
        Reason::TimedOut => "a timeout",
        Reason::Cancelled => "a cancel",
        Reason::StartFailed(_) => "a failed start",
        Reason::Error(_) => "an error",
        Reason::Unsaid => "no reason",
    };
    format!(
        "{reason}, {}, bytes of output and error {} and {}",
        told(outcome.status),
        bytes(outcome.stdout),
        bytes(outcome.stderr)
    )
}

// ---- Directed scenarios ----

fn directed_x3() -> Vec<Scenario> {
    let holds_on =
        |place| vec![start_holding("holder", place, vec![Step::Hang]), emit("ready"), Step::Exit(3)];
    vec![
        scenario(
            "exit-before-the-timeout",
            "A child that ends in time has not timed out, whatever its code: 124 is what timeout says.",
            &["X3"],
            vec![Step::Exit(124)],
            to_the_end(),
        )
        .with_timeout(ENOUGH),
        scenario(
            "exit-before-the-timeout-with-held-output",
            "Who waits for the end of the output instead of the child's calls a child timed out that ended long ago.",
            &["X3"],
            holds_on(Place::SameGroup),
            to_the_end(),
        )
        .with_timeout(ENOUGH),
        scenario(
            "exit-before-the-timeout-with-output-held-out-of-reach",
            "As before, where nobody can end who holds the output.",
            &["X3"],
            holds_on(Place::OwnSession),
            to_the_end(),
        )
        .with_timeout(ENOUGH),
        scenario(
            "asked-by-the-timeout-exits-with-zero",
            "A child that obeys the timeout's TERM and exits with 0 has timed out all the same.",
            &["X3"],
            vec![on_term(Then::Exit(0)), emit("ready"), Step::Hang],
            to_the_end(),
        )
        .with_timeout(TIMEOUT),
        scenario(
            "ends-by-itself-after-the-timeouts-signal",
            "The signal came first, by a gate, and the child's end is its own will: it has timed out.",
            &["X3"],
            vec![on_term(Then::Log), emit("ready"), await_event("root.TERM"), Step::Exit(0)],
            to_the_end(),
        )
        .with_timeout(TIMEOUT),
    ]
}

fn directed_x5() -> Vec<Scenario> {
    let again = || Op::new(Verb::AskAgain);
    let twice = |ops: Vec<Op>| [ops, vec![again(), again()]].concat();
    vec![
        scenario(
            "asked-again-after-an-exit",
            "A second caller, or the same one after an error of its own, must be told what the first was.",
            &["X5"],
            vec![write(Output::Stdout, 5_000), Step::Exit(3)],
            twice(to_the_end()),
        ),
        scenario(
            "asked-again-after-a-cancel",
            "As before, after a cancel: the reason must not turn into an end by itself.",
            &["X5"],
            ready_and_hang().to_vec(),
            twice(vec![run(), once_started(Verb::Cancel), wait()]),
        ),
        scenario(
            "asked-again-after-a-timeout",
            "As before, after the wrapper's own timeout.",
            &["X5"],
            ready_and_hang().to_vec(),
            twice(to_the_end()),
        )
        .with_timeout(TIMEOUT),
    ]
}

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
    fn an_exit_is_not_judged_where_a_hindered_start_failed_and_the_child_was_quicker() {
        let failed = |hand: Hand| {
            let outcome = because(Reason::StartFailed("no descriptor".to_owned()));
            hand.hello(1, "root").exiting(2, "root", 0).gone(3, "root").ended(4, outcome)
        };
        let hand = || case(steps(r#"[{"exit": 0}]"#));
        let hindered = failed(hand().hindered_run(0, crate::scenario::Hindrance::DescriptorsLeft(5)));
        assert_verdict(&hindered, judge_x1, Vacuous, "its start was hindered");
        assert_verdict(&failed(hand().run(0)), judge_x1, Broken, "no status");
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
        let deaf = |hand: Hand| hand.with(|trace| trace.scenario.host.ignores = vec![Signal::Chld]);
        assert_verdict(&deaf(ended(3, None)), judge_x1, Vacuous, "kept no status");
        assert_verdict(&deaf(ended(3, Some(Status::Exited(0)))), judge_x1, Broken, "exit code 0");
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

    fn timed_out() -> Outcome {
        because(Reason::TimedOut)
    }

    /// A root with this script and a timeout of 120 ms, up after 2 ms.
    fn limited(script: &str) -> Hand {
        case(steps(script)).timeout(120).run(0).hello(2, "root")
    }

    #[test]
    fn x3_is_broken_by_a_timeout_of_who_was_dead_before_it_was_due() {
        let ended_early = limited(r#"[{"exit": 3}]"#).exiting(5, "root", 3).gone(6, "root");
        let late = ended_early.clone().ended(130, timed_out());
        assert_verdict(
            &late,
            judge_x3,
            Broken,
            "was dead 6 ms after the run was asked for; the timeout was 120 ms; the run is reported as timed out",
        );
        assert_verdict(&ended_early.clone().ended(8, because(Reason::Itself)), judge_x3, Kept, "");
        let stopped = ended_early.clone().stop_host(4).continue_host(125).ended(130, timed_out());
        assert_verdict(&stopped, judge_x3, Unknown, "the host was stopped");
        let starved = late.with(|trace| trace.noise.max_us = 30_000);
        assert_verdict(&starved, judge_x3, Unknown, "who came first");
    }

    #[test]
    fn x3_is_broken_by_an_end_by_itself_of_who_was_asked_or_killed_by_the_timeout() {
        let asked = |reason| {
            limited(r#"[{"on": {"signal": "TERM", "then": {"exit": 0}}}, "hang"]"#)
                .did(3, "root", 0)
                .signalled(121, "root", Signal::Term)
                .exiting(122, "root", 0)
                .gone(123, "root")
                .ended(124, because(reason))
        };
        assert_verdict(
            &asked(Reason::Itself),
            judge_x3,
            Broken,
            "the root got TERM from somebody 121 ms after",
        );
        assert_verdict(&asked(Reason::TimedOut), judge_x3, Kept, "");
        let killed = |reason, status| {
            limited(r#"["hang"]"#).gone(125, "root").ended(126, Outcome { status, ..because(reason) })
        };
        assert_verdict(&killed(Reason::TimedOut, None), judge_x3, Kept, "");
        assert_verdict(
            &killed(Reason::Itself, Some(Status::Exited(0))),
            judge_x3,
            Broken,
            "the root was killed 125 ms after",
        );
        assert_verdict(
            &killed(Reason::Itself, Some(Status::Signaled(9))),
            judge_x3,
            Broken,
            "was killed 125 ms",
        );
        // As when the wrapper has closed the pipe that the root writes to.
        let by_pipe = killed(Reason::Itself, Some(Status::Signaled(13)));
        assert_verdict(&by_pipe, judge_x3, Unknown, "whose it was");
    }

    #[test]
    fn x3_is_unknown_where_both_may_have_come_first() {
        let near = |exit_ms| {
            limited(r#"[{"sleep": "118ms"}, {"exit": 3}]"#)
                .exiting(exit_ms, "root", 3)
                .gone(exit_ms + 1, "root")
        };
        // Dead before the timeout was due, by less than a tick.
        assert_verdict(&near(112).ended(121, timed_out()), judge_x3, Unknown, "who came first");
        assert_verdict(&near(121).ended(122, timed_out()), judge_x3, Unknown, "who came first");
        // A signal that it would have died of did not come.
        assert_verdict(&near(121).ended(122, because(Reason::Itself)), judge_x3, Kept, "");
        let deaf = |reason| {
            limited(r#"[{"on": {"signal": "TERM", "then": "ignore"}}, {"sleep": "118ms"}, {"exit": 3}]"#)
                .did(3, "root", 0)
                .exiting(121, "root", 3)
                .gone(122, "root")
                .ended(123, because(reason))
        };
        assert_verdict(&deaf(Reason::Itself), judge_x3, Unknown, "would not have been seen");
        let early = limited(r#"["log-signals", "hang"]"#)
            .signalled(50, "root", Signal::Term)
            .gone(60, "root")
            .ended(61, timed_out());
        assert_verdict(&early, judge_x3, Unknown, "D2 judges");
    }

    #[test]
    fn x3_is_vacuous_without_a_timeout_or_an_end_of_its_own() {
        let exits =
            || case(steps(r#"[{"exit": 3}]"#)).run(0).hello(1, "root").exiting(2, "root", 3).gone(3, "root");
        assert_verdict(&exits().ended(4, because(Reason::Itself)), judge_x3, Vacuous, "no timeout in force");
        assert_verdict(&exits().timeout(120), judge_x3, Vacuous, "no outcome");
        let stopped =
            limited(r#"["hang"]"#).cancel(10).gone(11, "root").ended(12, because(Reason::Cancelled));
        assert_verdict(&stopped, judge_x3, Vacuous, "the caller stopped");
        let error = exits().timeout(120).ended(4, because(Reason::Error("lost".to_owned())));
        assert_verdict(&error, judge_x3, Vacuous, "neither");
        let ended = || exits().timeout(120).ended(4, because(Reason::Itself));
        let mute = ended().promising(|promises| promises.tells_reason = false);
        assert_verdict(&mute, judge_x3, NotRun, "does not say why");
        let patient = ended().promising(|promises| promises.timeout = Keeps::Not);
        assert_verdict(&patient, judge_x3, NotRun, "no timeout");
        assert_verdict(&ended().our_fault(), judge_x3, Unknown, "harness could not");
    }

    fn asked_again(answer: Option<Outcome>) -> Hand {
        let first = Outcome { status: Some(Status::Exited(3)), ..because(Reason::Itself) };
        let hand = ended(3, None).promising(|promises| promises.answers_again = true).with(|trace| {
            trace.moments.pop();
        });
        let hand = hand.ended(4, first).ask_again(5);
        let op = hand.clone().trace().scenario.ops.len() - 1;
        match answer {
            Some(outcome) => hand.what(6, What::Again { op, run: 0, outcome }),
            None => hand,
        }
    }

    #[test]
    fn x5_wants_the_same_answer_again() {
        let same = Outcome { status: Some(Status::Exited(3)), ..because(Reason::Itself) };
        assert_verdict(&asked_again(Some(same)), judge_x5, Kept, "");
        let other = Outcome { status: Some(Status::Exited(0)), ..because(Reason::Itself) };
        assert_verdict(
            &asked_again(Some(other)),
            judge_x5,
            Broken,
            "the run ended with an end by itself, exit code 3, bytes of output and error none and none; asked again (op 1), \
                the host says an end by itself, exit code 0",
        );
    }

    #[test]
    fn x5_is_broken_by_a_question_that_fails_or_is_never_answered() {
        let failed =
            asked_again(None).what(6, What::OpFailed { op: 1, why: "polled after its end".to_owned() });
        assert_verdict(&failed, judge_x5, Broken, "failed: polled after its end");
        let silent = asked_again(None).what(6_000, What::GaveUp).silent();
        assert_verdict(&silent, judge_x5, Broken, "had not answered 5.9 s later");
        let died = asked_again(None).host_gone(7, Status::Signaled(9));
        assert_verdict(&died, judge_x5, Unknown, "ended before it had answered");
        assert_verdict(&asked_again(None), judge_x5, Unknown, "had not answered");
    }

    #[test]
    fn x5_is_vacuous_where_nobody_asked_and_not_run_where_nobody_can() {
        let able = |hand: Hand| hand.promising(|promises| promises.answers_again = true);
        assert_verdict(&able(ended(3, None)), judge_x5, Vacuous, "nobody asked");
        assert_verdict(&ended(3, None), judge_x5, NotRun, "cannot be asked again");
        let running = able(case(steps("[]")).run(0).hello(1, "root"));
        assert_verdict(&running, judge_x5, Vacuous, "no outcome");
        assert_verdict(&asked_again(None).unimplemented(6), judge_x5, NotRun, "cannot be asked again");
        assert_verdict(&ended(3, None).template(), judge_x5, NotRun, "a command");
        assert_verdict(&asked_again(None).our_fault(), judge_x5, Unknown, "harness could not");
    }
}
