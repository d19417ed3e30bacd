//! X4, X7: what a wrapper says of a run while it is under way.

use fake_cli::control::Report;
use fake_cli::script::{Signal, Step};

use super::deadlines::each_run;
use super::directed::{
    TIMEOUT, after, await_event, emit, once_ready, once_started, ready_and_hang, run, scenario, to_the_end,
    wait,
};
use super::facts::{Facts, Run, TICK_US, micros, told};
use super::verdicts::{broken, together};
use crate::scenario::{Call, Op, Scenario, Verb};
use crate::trace::{Outcome, Polled, Reason, RunState, Said, Status, What};
use crate::verdict::Verdict;

/// An answer to who asked for the state of a run.
pub(super) struct Asked {
    pub(super) from_us: u64,
    pub(super) until_us: u64,
    pub(super) polled: Polled,
}

/// What everybody was told who asked for the state of a run.
pub(super) fn polls<'f>(facts: &'f Facts<'_>, run: u32) -> impl Iterator<Item = Asked> + 'f {
    facts.trace.moments.iter().flat_map(move |moment| match &moment.what {
        What::Polled { op, run: about, polled } if *about == run => {
            let from_us =
                facts.issued(Verb::Poll, run).find(|(issued, _)| issued == op).map_or(0, |(_, at_us)| at_us);
            vec![Asked { from_us, until_us: moment.at_us, polled: *polled }]
        }
        What::Called { run: about, calls, .. } if *about == run => calls
            .iter()
            .filter_map(|made| match (made.call, &made.said) {
                (Call::Poll, Said::State(polled)) => {
                    Some(Asked { from_us: made.called_us, until_us: made.returned_us, polled: *polled })
                }
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    })
}

// ---- X4 ----

pub(super) fn judge_x4(facts: &Facts<'_>) -> Verdict {
    if let Some(fault) = facts.fault() {
        return fault;
    }
    each_run(facts, |run| stop_is_no_end(facts, run))
}

fn stop_is_no_end(facts: &Facts<'_>, run: &Run<'_>) -> Result<Verdict, String> {
    let script = &facts.trace.scenario.script;
    let root = run.root().ok_or_else(|| facts.because("the root never said hello"))?;
    let did = |heard: &super::facts::Heard<'_>| match heard.report {
        Report::Did { step, .. } => Some(*step),
        _ => None,
    };
    let is_stop = |step: usize| script.get(step) == Some(&Step::Stop);
    let stopped = root.reports.iter().position(|heard| did(heard).is_some_and(is_stop));
    let stopped = stopped.ok_or_else(|| facts.because("the root did not stop itself"))?;
    let stopped_us = root.reports[stopped].own_us;
    // Whoever reports something after that was continued.
    let continued_us = root.reports.get(stopped + 1).map(|heard| heard.own_us);
    let own_us = own_stop_us(facts, run);
    let limit_us = [continued_us, own_us].into_iter().flatten().min().unwrap_or(u64::MAX);
    let asked = polls(facts, run.number).find(|asked| {
        asked.polled.state == RunState::Ended && asked.from_us >= stopped_us && asked.until_us < limit_us
    });
    if let Some(asked) = asked {
        return Ok(broken(format!(
            "asked {} after the root had stopped itself, the host said that the run had ended; the root had not exited",
            told(asked.from_us - stopped_us)
        )));
    }
    let (over_us, how) = match (run.ended, facts.host_gone()) {
        (Some((ended_us, Outcome { reason: Reason::Itself | Reason::Unsaid, status, .. })), _) => {
            (ended_us, *status)
        }
        (None, Some((gone_us, status))) if facts.is_template() => (gone_us, Some(status)),
        (Some((ended_us, _)), _) => (ended_us.max(limit_us), None),
        (None, _) => (u64::MAX, None),
    };
    if over_us < limit_us && over_us >= stopped_us {
        return Ok(broken(format!(
            "the run is reported as ended by itself{} {} after its root had stopped itself; the root had not exited, and nobody had stopped the run",
            how.map_or_else(String::new, with_status),
            told(over_us - stopped_us)
        )));
    }
    let until_us = limit_us.min(over_us).min(facts.last_us());
    if until_us.saturating_sub(stopped_us) < TICK_US {
        return Err("the root had only just stopped itself when the run was stopped".to_owned());
    }
    Ok(Verdict::Kept)
}

/// When the caller or a timeout stopped a run, at the earliest, or the host was ended or the harness began to sweep.
fn own_stop_us(facts: &Facts<'_>, run: &Run<'_>) -> Option<u64> {
    let due_us = facts.trace.limits.timeout.map(|timeout| run.issued_us.saturating_add(micros(timeout)));
    let looked_us = facts.trace.looks.first().map(|look| look.at_us);
    let stops = run.stops.iter().map(|stop| stop.at_us);
    // A root is ended by signals that it handles, too.
    let asked_us = run.root().and_then(|root| root.asked_us());
    stops.chain(due_us).chain(looked_us).chain(asked_us).min()
}

fn with_status(status: Status) -> String {
    match status {
        Status::Exited(code) => format!(" with exit code {code}"),
        Status::Signaled(signal) => format!(" by {}", Signal::name_of(signal)),
    }
}

// ---- X7 ----

pub(super) fn judge_x7(facts: &Facts<'_>) -> Verdict {
    if let Some(fault) = facts.fault() {
        return fault;
    }
    if facts.is_template() {
        return Verdict::NotRun("a command gives no pid out".to_owned());
    }
    if !(facts.promises().gives_pid && facts.promises().polls) {
        return Verdict::NotRun("the subject does not give the child's pid out".to_owned());
    }
    each_run(facts, |run| {
        let verdicts = polls(facts, run.number).filter_map(|asked| pid_of(run, &asked));
        let none = || facts.because("nobody asked for the pid after the run had ended");
        match together(verdicts, none) {
            Verdict::Vacuous(why) => Err(why),
            verdict => Ok(verdict),
        }
    })
}

/// The verdict on a pid that was given out, or that was not; nothing if that says nothing.
fn pid_of(run: &Run<'_>, asked: &Asked) -> Option<Verdict> {
    let root = run.root()?.hello?.pid;
    let ended_us = run.ended.map(|(at_us, _)| at_us);
    let is_over = ended_us.is_some_and(|ended_us| ended_us < asked.from_us);
    match asked.polled.pid {
        Some(pid) if pid != root => Some(broken(format!("the pid {pid} was given out; the root is {root}"))),
        Some(pid) if is_over => Some(broken(format!(
            "the pid {pid} was given out {} after the run had ended",
            told(asked.from_us.saturating_sub(ended_us.unwrap_or(0)))
        ))),
        None if is_over => Some(Verdict::Kept),
        _ => None,
    }
}

// ---- Directed scenarios ----

fn stopped() -> Vec<Step> {
    vec![emit("ready"), Step::Stop, Step::Exit(7)]
}

pub(super) fn directed_x4() -> Vec<Scenario> {
    let why = "Whoever waits with WUNTRACED, or looks at the state in /proc, may take a stop for an end.";
    vec![
        scenario(
            "stopped-root-is-cancelled",
            why,
            &["X4"],
            stopped(),
            vec![run(), once_started(Verb::Poll), after("op.1.issued", Verb::Cancel), wait()],
        ),
        scenario("stopped-root-times-out", why, &["X4", "D1"], stopped(), to_the_end()).with_timeout(TIMEOUT),
    ]
}

pub(super) fn directed_x7() -> Vec<Scenario> {
    let why =
        "A number that is free may be a stranger's at any time: who gives it out has the stranger signalled.";
    let polled = |ops: Vec<Op>| [ops, vec![Op::new(Verb::Poll)]].concat();
    let poll = || once_started(Verb::Poll);
    vec![
        scenario(
            "pid-after-an-exit",
            why,
            &["X7"],
            vec![emit("ready"), await_event("op.1.done"), Step::Exit(0)],
            polled(vec![run(), poll(), wait()]),
        ),
        scenario(
            "pid-after-a-cancel",
            why,
            &["X7"],
            ready_and_hang().to_vec(),
            polled([once_ready(Verb::Poll), vec![after("op.1.done", Verb::Cancel), wait()]].concat()),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::by_hand::{self, Hand, assert_verdict, because, hanging_pair, steps};
    use super::*;
    use crate::trace::Stage;
    use crate::verdict::VerdictKind::{Broken, Kept, NotRun, Unknown, Vacuous};

    /// A root that has stopped itself at 5 ms.
    fn stopped_root() -> Hand {
        let script = r#"[{"emit": "ready"}, "stop", {"exit": 7}]"#;
        by_hand::case(steps(script)).run(0).hello(1, "root").did(4, "root", 0).did(5, "root", 1)
    }

    #[test]
    fn x4_is_kept_when_the_end_comes_with_the_cancel_or_the_timeout() {
        let cancelled = || stopped_root().cancel(50).gone(150, "root").ended(151, because(Reason::Cancelled));
        assert_verdict(&cancelled(), judge_x4, Kept, "");
        let late = || stopped_root().timeout(100).gone(200, "root").ended(201, because(Reason::TimedOut));
        assert_verdict(&late(), judge_x4, Kept, "");
        let polled = stopped_root().poll(20).polled(21, RunState::Running, None).cancel(50);
        assert_verdict(&polled.ended(151, because(Reason::Cancelled)), judge_x4, Kept, "");
        // Somebody continued it.
        let went_on =
            stopped_root().exiting(40, "root", 7).gone(41, "root").ended(42, because(Reason::Itself));
        assert_verdict(&went_on, judge_x4, Kept, "");
    }

    #[test]
    fn x4_is_broken_by_an_end_by_itself_of_who_had_only_stopped() {
        let status = Some(Status::Exited(147));
        let outcome = || Outcome { status, ..because(Reason::Itself) };
        let left = stopped_root().ended(6, outcome()).look(Stage::Quiesce, vec![]);
        assert_verdict(
            &left,
            judge_x4,
            Broken,
            "ended by itself with exit code 147 1 ms after its root had stopped",
        );
        let swept = stopped_root().gone(6, "root").ended(7, outcome()).look(Stage::Quiesce, vec![]);
        assert_verdict(&swept, judge_x4, Broken, "had not exited");
        let told = stopped_root().poll(20).polled(21, RunState::Ended, None).cancel(50);
        assert_verdict(&told, judge_x4, Broken, "asked 15 ms after the root had stopped itself");
        let command = stopped_root().template().host_gone(6, Status::Exited(147));
        assert_verdict(&command, judge_x4, Broken, "by itself with exit code 147");
    }

    #[test]
    fn x4_is_unknown_by_a_fault_and_vacuous_without_a_stop_or_without_the_time_to_err() {
        assert_verdict(&stopped_root().our_fault(), judge_x4, Unknown, "harness could not");
        assert_verdict(&hanging_pair().cancel(10), judge_x4, Vacuous, "did not stop itself");
        let soon = stopped_root().cancel(6).gone(7, "root").ended(8, because(Reason::Cancelled));
        assert_verdict(&soon, judge_x4, Vacuous, "only just");
    }

    fn giver() -> Hand {
        hanging_pair().promising(|promises| {
            promises.polls = true;
            promises.gives_pid = true;
        })
    }

    /// It was asked while it ran, and after its end.
    fn asked(before: Option<i32>, after: Option<i32>) -> Hand {
        let hand = giver().poll(5).polled(6, RunState::Running, before).cancel(10).gone(12, "root");
        hand.ended(15, because(Reason::Cancelled)).poll(20).polled(21, RunState::Ended, after)
    }

    #[test]
    fn x7_wants_the_childs_pid_and_none_after_its_end() {
        assert_verdict(&asked(Some(100), None), judge_x7, Kept, "");
        assert_verdict(&asked(None, None), judge_x7, Kept, "");
        assert_verdict(
            &asked(Some(100), Some(100)),
            judge_x7,
            Broken,
            "given out 5 ms after the run had ended",
        );
        assert_verdict(&asked(Some(7), None), judge_x7, Broken, "the pid 7 was given out; the root is 100");
        let by_callers = |pid| {
            let said = Said::State(Polled { state: RunState::Ended, pid });
            let calls =
                vec![(0, Call::Wait, 11, 15, Said::Ended(Reason::Cancelled)), (0, Call::Poll, 17, 18, said)];
            giver()
                .together(10, &[&[Call::Wait, Call::Poll]])
                .ended(15, because(Reason::Cancelled))
                .called(20, calls)
        };
        assert_verdict(&by_callers(None), judge_x7, Kept, "");
        assert_verdict(&by_callers(Some(100)), judge_x7, Broken, "2 ms after");
    }

    #[test]
    fn x7_is_vacuous_when_nobody_asked_and_does_not_run_for_who_gives_no_pid() {
        assert_verdict(
            &giver().cancel(10).ended(12, because(Reason::Cancelled)),
            judge_x7,
            Vacuous,
            "nobody asked",
        );
        assert_verdict(&asked(None, None).our_fault(), judge_x7, Unknown, "harness could not");
        assert_verdict(&hanging_pair(), judge_x7, NotRun, "does not give");
        assert_verdict(&giver().template(), judge_x7, NotRun, "a command");
    }
}
