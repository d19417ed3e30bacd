//! What the ops of a scenario do, on real processes.
//!
//! It has a `main` of its own because it is the host of its subjects.

use std::process::ExitCode;

use fake_cli::control::Report;
use headcount::crew::{Crew, CrewOptions};
use headcount::reentry;
use headcount::rules::facts::Facts;
use headcount::scenario::{Call, Scenario, Verb};
use headcount::subject::SubjectSpec;
use headcount::trace::{CaseEnd, Reason, RunState, Said, Stage, Status, Trace, What};
use libtest_mimic::{Arguments, Failed, Trial};

type Test = fn() -> Result<(), Failed>;

fn main() -> ExitCode {
    reentry::reenter(headcount::subjects::in_rust);
    let tests: [(&str, Test); 9] = [
        ("an_op_reaches_the_run_that_it_names_and_no_other", names_its_run),
        ("a_gate_of_an_op_is_of_the_run_that_it_names", gates_are_of_the_run),
        ("what_is_written_to_a_child_reaches_it_and_its_input_ends_when_it_is_closed", writes),
        ("callers_on_several_threads_are_all_answered_and_their_times_are_on_the_cases_clock", together),
        ("a_dropped_run_answers_those_who_wait_for_it", drop_together),
        ("a_stopped_host_does_nothing_until_it_is_continued", stops_the_host),
        ("a_host_that_nobody_continues_is_continued_by_the_harness", continues_the_host),
        (
            "a_run_starts_once_the_handles_of_a_dropped_one_are_counted_however_long_that_takes",
            runs_after_a_drop,
        ),
        ("a_host_whose_connection_is_closed_ends_and_takes_its_tree_with_it", hangs_up),
    ];
    let trials = tests.into_iter().map(|(name, test)| Trial::test(name, test)).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// The trace of childminder doing these ops on this script.
fn trace(script: &str, ops: &str) -> Result<Trace, Failed> {
    trace_of("childminder", script, ops)
}

fn trace_of(subject: &str, script: &str, ops: &str) -> Result<Trace, Failed> {
    let text = format!(
        r#"{{"schema": 1, "name": "ops", "why": "A test.", "script": {script}, "ops": {ops}, "limits": {{"grace": "50ms"}}}}"#
    );
    let scenario = Scenario::from_json(&text)?;
    let mut crew = Crew::start(&CrewOptions { jobs: 1, tier: None })?;
    crew.run_each(&SubjectSpec::here(subject), vec![scenario])?
        .pop()
        .ok_or_else(|| "the case did not run".into())
}

const HANGS: &str = r#"[{"emit": "ready"}, "hang"]"#;

fn reason(facts: &Facts<'_>, run: u32) -> Option<Reason> {
    let run = facts.runs().iter().find(|known| known.number == run)?;
    run.ended.map(|(_, outcome)| outcome.reason.clone())
}

fn states(trace: &Trace, of: u32) -> Vec<RunState> {
    let polled = trace.moments.iter().filter_map(|moment| match &moment.what {
        What::Polled { run, polled, .. } if *run == of => Some(polled.state),
        _ => None,
    });
    polled.collect()
}

fn names_its_run() -> Result<(), Failed> {
    let trace = trace(
        HANGS,
        r#"[{"do": "run"}, {"do": "run", "after": "root.ready"}, {"do": "cancel", "run": 1, "after": "root.ready"},
            {"do": "wait", "run": 1}, {"do": "poll", "run": 1}, {"do": "poll", "run": 2, "after": "op.4.done"},
            {"do": "cancel", "after": "op.5.done"}, {"do": "wait"}]"#,
    )?;
    assert_eq!(trace.end, CaseEnd::Completed);
    let facts = Facts::of(&trace);
    assert_eq!((reason(&facts, 1), reason(&facts, 2)), (Some(Reason::Cancelled), Some(Reason::Cancelled)));
    assert_eq!(states(&trace, 1), [RunState::Ended]);
    assert_eq!(states(&trace, 2), [RunState::Running]);
    let [first, second] = facts.runs() else { return Err("two runs".into()) };
    assert!(first.ended.map(|(at_us, _)| at_us) < second.stops.first().map(|stop| stop.at_us));
    assert_eq!((first.stops.len(), second.stops.len()), (1, 1));
    // What the first left could not be told from what the second had, so both were counted when both were over.
    let after: Vec<u64> = trace.inventories.iter().map(|inventory| inventory.at_us).collect();
    assert!(after[2..].iter().all(|at_us| Some(*at_us) > second.ended.map(|(at_us, _)| at_us)), "{after:?}");
    assert_eq!(after.len(), 4);
    Ok(())
}

fn gates_are_of_the_run() -> Result<(), Failed> {
    // The root of the second run says ready only when the first one is gone, by gates of its own run and of another.
    let script = r#"[{"start": {"node": "child", "script": [{"emit": "up"}, "hang"]}}, {"await": "child.up"}, {"emit": "ready"}, "hang"]"#;
    let trace = trace(
        script,
        r#"[{"do": "run"}, {"do": "run", "after": "root.ready"}, {"do": "cancel", "run": 1, "after": "root.ready"},
            {"do": "cancel", "run": 2, "after": "root.ready"}]"#,
    )?;
    assert_eq!(trace.end, CaseEnd::Completed);
    let facts = Facts::of(&trace);
    for run in facts.runs() {
        let said = |node: &str, event: &str| {
            let reports = &run.node(node).expect("it was there").reports;
            reports.iter().find_map(|heard| match heard.report {
                Report::Emit { name, .. } if name == event => Some(heard.own_us),
                _ => None,
            })
        };
        assert!(said("child", "up").is_some() && said("child", "up") <= said("root", "ready"));
        assert!(said("root", "ready") <= run.stops.first().map(|stop| stop.at_us), "run {}", run.number);
    }
    Ok(())
}

fn writes() -> Result<(), Failed> {
    let ops = r#"[{"do": "run"}, {"do": {"write": 100}, "after": "root.ready"}, {"do": {"write": 23}, "after": "op.1.done"},
                 {"do": "close-stdin", "after": "op.2.done"}, {"do": "wait"}]"#;
    let script = r#"[{"emit": "ready"}, "read-stdin", {"exit": 3}]"#;
    let written = trace(script, ops)?;
    let facts = Facts::of(&written);
    let (_, outcome) = facts.runs()[0].ended.ok_or("it ended")?;
    assert_eq!((&outcome.reason, outcome.status), (&Reason::Itself, Some(Status::Exited(3))));
    let read = facts.runs()[0].root().and_then(|root| {
        root.reports.iter().find_map(|heard| match heard.report {
            Report::StdinEnded { bytes } => Some(*bytes),
            _ => None,
        })
    });
    assert_eq!(read, Some(123));
    Ok(())
}

fn calls(trace: &Trace) -> Vec<(u32, Call, u64, u64, Said)> {
    let made = trace.moments.iter().filter_map(|moment| match &moment.what {
        What::Called { calls, .. } => Some(calls.clone()),
        _ => None,
    });
    made.flatten().map(|made| (made.caller, made.call, made.called_us, made.returned_us, made.said)).collect()
}

fn together() -> Result<(), Failed> {
    let trace = trace(
        HANGS,
        r#"[{"do": "run"}, {"do": "together", "after": "root.ready", "callers":
            [["poll", "cancel", "wait", "poll"], ["cancel", "cancel"], ["wait"], ["poll", "poll"]]}, {"do": "wait"}]"#,
    )?;
    let made = calls(&trace);
    let by = |caller: u32| made.iter().filter(move |call| call.0 == caller).collect::<Vec<_>>();
    assert_eq!(
        by(0).iter().map(|call| call.1).collect::<Vec<_>>(),
        [Call::Poll, Call::Cancel, Call::Wait, Call::Poll]
    );
    assert_eq!((by(1).len(), by(2).len(), by(3).len()), (2, 1, 2));
    let ended = Said::Ended(Reason::Cancelled);
    assert_eq!((&by(0)[2].4, &by(2)[0].4), (&ended, &ended));
    assert!(
        matches!(&by(0)[3].4, Said::State(polled) if polled.state == RunState::Ended && polled.pid.is_none())
    );
    let facts = Facts::of(&trace);
    assert_eq!(facts.runs()[0].stops.iter().filter(|stop| stop.verb == Verb::Cancel).count(), 3);
    let issued_us = facts.runs()[0].stops[0].at_us;
    for (_, _, called_us, returned_us, _) in &made {
        assert!(
            issued_us <= *called_us && called_us <= returned_us && *returned_us <= facts.last_us(),
            "{made:?}"
        );
    }
    Ok(())
}

fn drop_together() -> Result<(), Failed> {
    let trace = trace(
        HANGS,
        r#"[{"do": "run"}, {"do": "together", "after": "root.ready", "callers": [["drop"], ["wait"], ["wait"]]}]"#,
    )?;
    assert_eq!(trace.end, CaseEnd::Completed);
    let made = calls(&trace);
    assert_eq!(made[0].4, Said::Done);
    assert!(made[1..].iter().all(|call| call.4 == Said::Dropped), "{made:?}");
    assert!(Facts::of(&trace).look(Stage::Quiesce).is_some_and(|look| look.seen.is_empty()));
    Ok(())
}

fn stops_the_host() -> Result<(), Failed> {
    let trace = trace(
        HANGS,
        r#"[{"do": "run"}, {"do": "stop-host", "after": "root.ready"}, {"do": "cancel", "delay": "20ms"},
            {"do": "continue-host", "delay": "80ms"}, {"do": "wait"}]"#,
    )?;
    let facts = Facts::of(&trace);
    let stop = facts.runs()[0].stops[0];
    let (ended_us, outcome) = facts.runs()[0].ended.ok_or("it ended")?;
    assert_eq!(outcome.reason, Reason::Cancelled);
    assert!(ended_us >= stop.at_us + 80_000, "{stop:?} {ended_us}");
    assert!(facts.host_stopped_us() >= 100_000, "{}", facts.host_stopped_us());
    Ok(())
}

fn continues_the_host() -> Result<(), Failed> {
    let trace =
        trace(HANGS, r#"[{"do": "run"}, {"do": "stop-host", "after": "root.ready"}, {"do": "cancel"}]"#)?;
    assert_eq!(trace.end, CaseEnd::Completed);
    assert!(trace.moments.iter().any(|moment| moment.what == What::HostContinued));
    assert_eq!(reason(&Facts::of(&trace), 1), Some(Reason::Cancelled));
    Ok(())
}

fn runs_after_a_drop() -> Result<(), Failed> {
    // A pipe end that was leaked is waited for, and for longer than a gate is.
    let ops = r#"[{"do": "run"}, {"do": "drop", "after": "root.ready"}, {"do": "run", "after": "op.1.done"},
                  {"do": "cancel", "after": "root.ready"}, {"do": "wait"}]"#;
    let trace = trace_of("zoo:leaks-a-pipe-end", HANGS, ops)?;
    assert_eq!(trace.end, CaseEnd::Completed);
    assert!(!trace.moments.iter().any(|moment| matches!(moment.what, What::GateStuck { .. })));
    assert_eq!(reason(&Facts::of(&trace), 2), Some(Reason::Cancelled));
    Ok(())
}

fn hangs_up() -> Result<(), Failed> {
    let trace = trace(HANGS, r#"[{"do": "run"}, {"do": "hang-up", "after": "root.ready"}]"#)?;
    let facts = Facts::of(&trace);
    assert_eq!(facts.host_gone().map(|(_, status)| status), Some(Status::Exited(0)));
    assert!(facts.look(Stage::HostGone).is_some_and(|look| look.seen.is_empty()));
    // One that cannot be written to says so.
    let written = trace_of("tokio", HANGS, r#"[{"do": "run"}, {"do": {"write": 1}}]"#)?;
    assert!(matches!(written.end, CaseEnd::Inapplicable(_)), "{:?}", written.end);
    Ok(())
}
