//! C: concurrency.

use fake_cli::content::Output;
use fake_cli::script::{Place, Signal, Step, Then};
use fake_cli::span::Span;

use super::deadlines::{self, Due, each_run, is_held_since, is_stopped_beside, unknown_bound};
use super::directed::{
    after, await_event, emit, of, on_term, once_started, ready_and_hang, run, scenario, start_hanging,
    together, wait, write,
};
use super::ending::{Cause, Ending, ending};
use super::facts::{Facts, Lateness, Node, Run, micros, told};
use super::history;
use super::verdicts::{broken, broken_unless, together as all_of};
use super::{Judged, Rule, as_catalogued, storm};
use crate::scenario::{Call, Op, Scenario, Verb};
use crate::trace::Reason;
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
    vec![
        rule(
            "C1",
            "runs are independent",
            "What is done to one run does nothing to another that is under way.",
            "Of runs that overlap, each is judged as if it were alone: whether a node of it got a signal or was killed while its root lived, \
                and whether it is said to be cancelled, though nobody had stopped that run.",
            "Only before the caller, a timeout or the end of the host stopped that run, and before the harness sweeps. A death without a stop of \
                another run, and an error that the wrapper names, are unknown.",
            Judged::Trace { judge: judge_c1, directed: directed_c1 },
        ),
        rule(
            "C2",
            "a storm of starts",
            "A storm of starts under a limit that leaves no room for all of them leads to typed errors and leaves nothing.",
            "Two dozen runs are started at once in a host that may have 64 files open: each is a run that ends, or a failed start that says so \
                in bounded time and leaves neither process nor zombie. The limit is one of descriptors: one of processes does not bind root and \
                counts whatever else the same user runs.",
            "Only where a start failed, had an error before anybody could have stopped it, or never came to an end. Whether a child started \
                that was stopped before it said hello is unknown, and so is lateness within the machine's noise.",
            Judged::Trace { judge: storm::judge, directed: storm::directed },
        ),
        rule(
            "C3",
            "cancels do not delay",
            "Stopping one run does not delay the end or the start of another.",
            "Of runs that come to their end or are started while another one is being stopped: the time from their own cancel, timeout or exit to \
                their return, and from the request to the root's hello, against the bounds that hold for a run that is alone.",
            "The usual slack, and for a start what the first one of the case took. Lateness within the machine's noise is unknown, and so is a late start \
                where the first one alone took longer than the slack.",
            Judged::Trace { judge: judge_c3, directed: directed_c3 },
        ),
        rule(
            "C4",
            "calls in some order",
            "What several threads do with one run at the same time has an explanation in some order, one call after the other.",
            "Each call with the times of its begin and its answer, on the host's own clock, is searched for an order that respects these times and in \
                which each answer follows from a model of a run.",
            "A cancel is a request: it may take effect later. A wrapper that does not tell stopping from running may call it running. A search that \
                becomes too long is unknown.",
            Judged::Trace { judge: judge_c4, directed: directed_c4 },
        ),
    ]
}

/// Whether two runs were under way at the same time.
pub(super) fn overlap(one: &Run<'_>, other: &Run<'_>) -> bool {
    let over_us = |run: &Run<'_>| run.over_us().unwrap_or(u64::MAX);
    one.number != other.number && one.issued_us < over_us(other) && other.issued_us < over_us(one)
}

/// Whether a limit that the harness had lowered held this run too: it is the host's own, so it holds each run beside the hindered one.
pub(super) fn is_hindered(facts: &Facts<'_>, run: &Run<'_>) -> bool {
    run.hindered_by.is_some() || beside(facts, run).any(|other| other.hindered_by.is_some())
}

/// The runs that were under way at some time of this one.
fn beside<'f, 'a>(facts: &'f Facts<'a>, run: &'f Run<'a>) -> impl Iterator<Item = &'f Run<'a>> {
    facts.runs().iter().filter(move |other| overlap(run, other))
}

fn not_for_templates(facts: &Facts<'_>) -> Option<Verdict> {
    let once = || Verdict::NotRun("a command runs its child once".to_owned());
    facts.fault().or_else(|| facts.is_template().then(once))
}

// ---- C1 ----

fn judge_c1(facts: &Facts<'_>) -> Verdict {
    if let Some(verdict) = not_for_templates(facts) {
        return verdict;
    }
    if facts.runs().iter().any(|run| run.hindered_by.is_some()) {
        return Verdict::Vacuous("a limit that hinders one run hinders all of them".to_owned());
    }
    each_run(facts, |run| {
        if beside(facts, run).next().is_none() {
            return Err("no other run was under way at the same time".to_owned());
        }
        if run.root().is_none() {
            return start_beside_others(facts, run);
        }
        Ok(all_of([disturbed_by_signal(facts, run), disturbed_in_word(facts, run)], String::new))
    })
}

fn start_beside_others(facts: &Facts<'_>, run: &Run<'_>) -> Result<Verdict, String> {
    match run.ended.map(|(_, outcome)| &outcome.reason) {
        // What becomes of such a start is C2's.
        Some(Reason::StartFailed(_)) if facts.trace.scenario.host.open_files.is_some() => {
            Err("the host may have so few files open that it could not start".to_owned())
        }
        Some(Reason::StartFailed(why)) => Ok(Verdict::Unknown(format!(
            "run {} did not start while another was under way: {why}; whether that is why cannot be said",
            run.number
        ))),
        _ => Err(facts.because("the root never said hello")),
    }
}

/// From when on it may be this run's own matter that somebody in it dies or is asked to.
fn own_matter_us(facts: &Facts<'_>, run: &Run<'_>) -> u64 {
    let stop_us = run.stops.first().map(|stop| stop.at_us);
    let due_us = facts.trace.limits.timeout.map(|timeout| run.issued_us.saturating_add(micros(timeout)));
    let exit_us = run.root().and_then(Node::exiting).map(|(exit_us, _)| exit_us);
    let host_us = facts.host_gone().map(|(gone_us, _)| gone_us);
    let looked_us = facts.trace.looks.first().map(|look| look.at_us);
    [stop_us, due_us, exit_us, host_us, looked_us].into_iter().flatten().min().unwrap_or(u64::MAX)
}

fn disturbed_by_signal(facts: &Facts<'_>, run: &Run<'_>) -> Verdict {
    let own_us = own_matter_us(facts, run);
    let asked = run.nodes.iter().flat_map(|node| {
        // The kernel's own signals, as PIPE to who writes in vain, come from no process or from the node itself.
        let own = node.hello.map(|hello| hello.pid);
        let signals = node.signals().filter(move |(_, _, sender)| *sender > 0 && Some(*sender) != own);
        signals.map(move |(at_us, signal, _)| (at_us, node, format!("got {}", Signal::name_of(signal))))
    });
    let killed = run.nodes.iter().filter(|node| node.exiting().is_none()).filter_map(|node| {
        // A node that replaced itself says hello again, and then it is not gone.
        node.gone_us.map(|gone_us| (gone_us, node, "was killed".to_owned()))
    });
    let first = asked.chain(killed).filter(|(at_us, ..)| *at_us < own_us).min_by_key(|(at_us, ..)| *at_us);
    let Some((at_us, node, what)) = first else { return Verdict::Kept };
    let sentence = format!(
        "{} of run {} {what} {} after that run was asked for, and nobody had stopped it",
        node.name,
        run.number,
        told(at_us.saturating_sub(run.issued_us))
    );
    match beside(facts, run).filter_map(|other| Some((other, ended_by_then(facts, other, at_us)?))).next() {
        Some((other, how)) => broken(format!("{sentence}; run {} {how}", other.number)),
        None => Verdict::Unknown(format!("{sentence}; but no other run was stopped or over by then")),
    }
}

/// What had come to an end with a run by a time.
fn ended_by_then(facts: &Facts<'_>, run: &Run<'_>, by_us: u64) -> Option<String> {
    let ago = |at_us: u64| told(by_us.saturating_sub(at_us));
    match (ending(facts, run), run.stops.first()) {
        (Ending::By { cause, at_us, .. }, _) if at_us <= by_us => {
            Some(format!("{} {} before", cause.told(), ago(at_us)))
        }
        (_, Some(stop)) if stop.at_us <= by_us => Some(format!("was stopped {} before", ago(stop.at_us))),
        _ => None,
    }
}

fn disturbed_in_word(facts: &Facts<'_>, run: &Run<'_>) -> Verdict {
    let Some((_, outcome)) = run.ended else {
        return Verdict::Vacuous(facts.because("the run has no outcome"));
    };
    match &outcome.reason {
        Reason::Cancelled if run.stops.is_empty() && facts.promises().tells_reason => {
            broken(format!("run {} is reported as cancelled, and nobody had cancelled it", run.number))
        }
        Reason::TimedOut if facts.trace.limits.timeout.is_none() && facts.promises().tells_reason => {
            broken(format!("run {} is reported as timed out, and it had no timeout", run.number))
        }
        Reason::Error(why) => {
            Verdict::Unknown(format!("run {} ended with an error beside another run: {why}", run.number))
        }
        _ => Verdict::Kept,
    }
}

// ---- C3 ----

fn judge_c3(facts: &Facts<'_>) -> Verdict {
    if let Some(verdict) = not_for_templates(facts) {
        return verdict;
    }
    if facts.runs().iter().any(|run| run.stops.iter().any(|stop| stop.verb.ends_host())) {
        return Verdict::Vacuous("the host was ended from outside".to_owned());
    }
    let starts = each_run(facts, |run| start_in_time(facts, run));
    let ends = each_run(facts, |run| {
        if !is_stopped_beside(facts, run) {
            return Err("no other run was being stopped at the same time".to_owned());
        }
        end_in_time(facts, run)
    });
    all_of([ends, starts], String::new)
}

fn end_in_time(facts: &Facts<'_>, run: &Run<'_>) -> Result<Verdict, String> {
    match ending(facts, run) {
        Ending::By { cause: Cause::Cancelled, .. } => deadlines::cancel_in_time(facts, run),
        Ending::By { cause: Cause::TimedOut, .. } => deadlines::timeout_in_time(facts, run),
        Ending::By { cause: Cause::Itself, at_us, doubt } => {
            let dead_us = run.root().and_then(|root| root.gone_us).unwrap_or(at_us).max(at_us);
            let others = run.nodes.iter().any(|node| node.lives_since(at_us));
            let grace_us =
                if others { facts.grace_us().ok_or("the grace in force is not known")? } else { 0 };
            let held = is_held_since(run, at_us);
            let bound_us = grace_us.saturating_add(if held { facts.drain_us() } else { 0 });
            let doubt = doubt.or_else(|| unknown_bound(facts).filter(|_| held));
            Ok(Due { facts, run, from_us: dead_us, bound_us, doubt, after: "the root's exit" }.judge())
        }
        Ending::By { cause, .. } => Err(format!("the run {}, and so has no return to be late", cause.told())),
        Ending::None(why) => Err(why),
    }
}

fn start_in_time(facts: &Facts<'_>, run: &Run<'_>) -> Result<Verdict, String> {
    let under_way = |other: &Run<'_>| {
        let stopped = other.stops.first().is_some_and(|stop| stop.at_us < run.issued_us);
        stopped && other.ended.is_none_or(|(ended_us, _)| ended_us > run.issued_us)
    };
    if run.hindered_by.is_some() || !beside(facts, run).any(under_way) {
        return Err("it was not started while another run was being stopped".to_owned());
    }
    let took_us = start_us(run).ok_or_else(|| facts.because("the root never said hello"))?;
    let slack_us = facts.slack_us();
    // What a start costs here, whoever else is being stopped.
    let alone_us = facts.runs().first().and_then(start_us);
    let doubt = match alone_us {
        None => Some("no other start shows how long one takes here".to_owned()),
        Some(alone_us) if alone_us > slack_us => Some(format!("the first start took {}", told(alone_us))),
        Some(_) => None,
    };
    let sentence = format!("the root of run {} was up {} after it was asked for", run.number, told(took_us));
    Ok(match facts.lateness(took_us, alone_us.unwrap_or(0).saturating_add(slack_us)) {
        Lateness::InTime => Verdict::Kept,
        Lateness::WithinNoise(_) => {
            Verdict::Unknown(format!("{sentence}; this machine's noise may explain that"))
        }
        Lateness::Late(_) => {
            broken_unless(doubt.as_ref(), format!("{sentence}, while another run was being stopped"))
        }
    })
}

/// How long a run took until its root was up.
fn start_us(run: &Run<'_>) -> Option<u64> {
    Some(run.root().and_then(Node::hello_us)?.saturating_sub(run.issued_us))
}

// ---- C4 ----

fn judge_c4(facts: &Facts<'_>) -> Verdict {
    if let Some(verdict) = not_for_templates(facts) {
        return verdict;
    }
    each_run(facts, |run| history::judge(facts, run))
}

// ---- Directed scenarios ----

/// Long enough that whoever is made to sit out another one's grace is late by more than the slack.
const LONG_GRACE: Span = Span::from_millis(2_000);

fn once_both_are_up(verb: Verb) -> Vec<Op> {
    let delay = once_started(verb).delay;
    vec![run(), after("root.ready", Verb::Run), Op { delay, ..after("run.2.root.ready", verb) }]
}

/// Ends one of two runs, and cancels the other when a third one, started after that end, is up: what was meant for the first has reached whom
/// it reached by then.
fn end_one_of_two(first: u32, verb: Verb, its_end: &str) -> Vec<Op> {
    let mut ops = once_both_are_up(verb);
    ops[2].run = Some(first);
    let other = 3 - first;
    let third = after(its_end, Verb::Run);
    let cancel_other = of(other, after("run.3.root.ready", Verb::Cancel));
    let cancel_third = of(3, after("run.3.root.ready", Verb::Cancel));
    [ops, vec![third, cancel_other, cancel_third, of(other, wait()), of(3, wait())]].concat()
}

fn directed_c1() -> Vec<Scenario> {
    let logs = || {
        [vec![Step::LogSignals, start_hanging("helper", Place::SameGroup)], ready_and_hang().to_vec()]
            .concat()
    };
    let plain = || [vec![start_hanging("helper", Place::OwnSession)], ready_and_hang().to_vec()].concat();
    vec![
        scenario(
            "cancel-one-of-two",
            "Who keeps the child of the newest run only, or ends all children there are, hits the wrong one.",
            &["C1", "S1"],
            logs(),
            end_one_of_two(1, Verb::Cancel, "run.1.run.ended"),
        ),
        scenario(
            "cancel-the-newer-of-two",
            "The same the other way round, with helpers that have left their sessions.",
            &["C1", "S4"],
            plain(),
            end_one_of_two(2, Verb::Cancel, "run.2.run.ended"),
        ),
        scenario(
            "drop-one-of-two",
            "As before, by a drop: what is cleaned up behind the caller's back is cleaned up by somebody who knows less.",
            &["C1", "S9"],
            logs(),
            end_one_of_two(1, Verb::Drop, "op.2.done"),
        ),
        scenario(
            "eight-at-once",
            "Eight runs at once must give eight ends and eight outputs.",
            &["C1", "O1", "X1", "F2"],
            vec![write(Output::Stdout, 4096), Step::Exit(7)],
            [vec![run(); 8], (1..=8).map(|number| of(number, wait())).collect()].concat(),
        ),
    ]
}

fn directed_c3() -> Vec<Scenario> {
    let deaf = || {
        [vec![on_term(Then::Ignore), start_hanging("helper", Place::SameGroup)], ready_and_hang().to_vec()]
            .concat()
    };
    vec![
        scenario(
            "cancel-three-deaf-at-once",
            "Three cancels at the same moment share one grace, where each is climbed for itself; one after the other they take three.",
            &["C3"],
            deaf(),
            vec![
                run(),
                after("root.ready", Verb::Run),
                after("root.ready", Verb::Run),
                once_started(Verb::Cancel),
                of(2, Op::new(Verb::Cancel)),
                of(1, Op::new(Verb::Cancel)),
                of(3, wait()),
                of(2, wait()),
                of(1, wait()),
            ],
        )
        .with_grace(LONG_GRACE),
        scenario(
            "start-while-a-deaf-one-is-stopped",
            "A start must not wait until somebody else's grace is over.",
            &["C3"],
            deaf(),
            vec![
                run(),
                once_started(Verb::Cancel),
                after("op.1.issued", Verb::Run),
                after("root.ready", Verb::Cancel),
                of(1, wait()),
                of(2, wait()),
            ],
        )
        .with_grace(LONG_GRACE),
    ]
}

fn directed_c4() -> Vec<Scenario> {
    use Call::{Cancel, Drop, Poll, Wait};
    let why = "Handles are shared: between a task that waits, a signal handler that cancels and a page that shows the state.";
    let polite = || ready_and_hang().to_vec();
    let deaf = || [vec![on_term(Then::Ignore)], polite()].concat();
    let both = |name: &str, script: Vec<Step>, ops: Vec<Op>| scenario(name, why, &["C4", "K5"], script, ops);
    let started = |callers: &[&[Call]]| Op {
        delay: once_started(Verb::Cancel).delay,
        ..together("root.ready", callers)
    };
    vec![
        both(
            "callers-cancel-and-poll",
            polite(),
            vec![
                run(),
                started(&[
                    &[Poll, Cancel, Poll, Wait, Poll],
                    &[Poll, Poll, Poll, Wait, Poll],
                    &[Cancel, Poll, Poll],
                    &[Wait],
                ]),
                wait(),
            ],
        ),
        both(
            "callers-cancel-and-poll-the-deaf",
            deaf(),
            vec![
                run(),
                started(&[&[Poll, Cancel, Poll, Poll], &[Poll, Poll, Cancel, Wait, Poll], &[Wait, Poll]]),
                wait(),
            ],
        ),
        both(
            "callers-drop-and-wait",
            polite(),
            vec![run(), started(&[&[Poll, Drop], &[Wait], &[Poll, Cancel, Poll], &[Wait]])],
        ),
        both(
            "callers-at-a-natural-end",
            vec![emit("ready"), await_event("op.1.issued"), Step::Exit(3)],
            vec![
                run(),
                together(
                    "root.ready",
                    &[&[Poll, Poll, Wait, Poll], &[Wait, Poll], &[Cancel, Wait], &[Poll, Poll, Poll]],
                ),
                wait(),
            ],
        ),
    ]
}

#[cfg(test)]
mod tests {
    use fake_cli::control::Report;

    use super::super::by_hand::{self, Hand, assert_verdict, because, steps};
    use super::*;
    use crate::scenario::HostState;
    use crate::trace::{Outcome, Stage};
    use crate::verdict::VerdictKind::{Broken, Kept, NotRun, Unknown, Vacuous};

    /// Two runs, both up; from here on it is written about the first.
    fn two() -> Hand {
        let script = r#"[{"start": {"node": "child", "script": ["hang"]}}, {"emit": "ready"}, "hang"]"#;
        let first = by_hand::case(steps(script)).run(0).hello(1, "root").hello(2, "child");
        first.run(3).hello(4, "root").hello(5, "child").of(0)
    }

    fn first_cancelled() -> Hand {
        two().cancel(10).gone(12, "root").gone(12, "child").ended(15, because(Reason::Cancelled)).of(1)
    }

    fn second_cancelled(hand: Hand, at_ms: u64) -> Hand {
        let end = at_ms + 5;
        hand.cancel(at_ms)
            .gone(end, "root")
            .gone(end, "child")
            .ended(end, because(Reason::Cancelled))
            .look(Stage::Quiesce, vec![])
    }

    #[test]
    fn c1_is_kept_when_each_run_ends_for_a_reason_of_its_own() {
        assert_verdict(&second_cancelled(first_cancelled(), 50), judge_c1, Kept, "");
        let exits = first_cancelled()
            .exiting(20, "root", 0)
            .gone(21, "root")
            .gone(22, "child")
            .ended(25, because(Reason::Itself));
        assert_verdict(&exits.look(Stage::Quiesce, vec![]), judge_c1, Kept, "");
        // The kernel sends PIPE in the name of who writes.
        let pipe =
            Report::Signal { signal: Signal::Pipe.number(), sender: by_hand::hello("root").pid, at_ns: 0 };
        let writes = first_cancelled().says(13, "root", pipe);
        assert_verdict(&second_cancelled(writes, 50), judge_c1, Kept, "");
    }

    #[test]
    fn c1_is_broken_by_who_is_killed_asked_or_called_cancelled_for_another() {
        let killed = first_cancelled().gone(13, "root").ended(14, because(Reason::Itself));
        assert_verdict(
            &killed,
            judge_c1,
            Broken,
            "root of run 1 was killed 10 ms after that run was asked for, and nobody had stopped it; run 0 was cancelled 3 ms before",
        );
        let child = first_cancelled().gone(20, "child");
        assert_verdict(&second_cancelled(child, 50), judge_c1, Broken, "child of run 1 was killed");
        let asked = first_cancelled().signalled(13, "root", Signal::Term);
        assert_verdict(&second_cancelled(asked, 50), judge_c1, Broken, "root of run 1 got TERM");
        let called = first_cancelled().exiting(20, "root", 0).ended(25, because(Reason::Cancelled));
        assert_verdict(&called, judge_c1, Broken, "run 1 is reported as cancelled");
        let timed_out = first_cancelled().exiting(20, "root", 0).ended(25, because(Reason::TimedOut));
        assert_verdict(&timed_out, judge_c1, Broken, "it had no timeout");
    }

    #[test]
    fn c1_is_unknown_without_another_runs_end_and_for_errors() {
        let early = two().of(1).gone(8, "root").of(0).cancel(10).ended(15, because(Reason::Cancelled));
        assert_verdict(&early, judge_c1, Unknown, "no other run was stopped or over");
        let error =
            first_cancelled().exiting(20, "root", 0).ended(25, because(Reason::Error("busy".to_owned())));
        assert_verdict(&error, judge_c1, Unknown, "busy");
        let refused = by_hand::case(steps(r#"["hang"]"#)).run(0).hello(1, "root").run(2);
        let refused = refused.ended(3, because(Reason::StartFailed("busy".to_owned())));
        assert_verdict(&refused, judge_c1, Unknown, "did not start");
        let no_room = HostState { open_files: Some(64), ..HostState::default() };
        let refused = refused.with(|trace| trace.scenario.host = no_room);
        assert_verdict(&refused, judge_c1, Kept, "");
        assert_verdict(&first_cancelled().our_fault(), judge_c1, Unknown, "harness could not");
    }

    #[test]
    fn c1_is_vacuous_for_runs_one_after_the_other_and_does_not_run_for_commands() {
        let one = by_hand::case(steps(r#"["hang"]"#)).run(0).hello(1, "root").cancel(2).gone(3, "root");
        let one = one.ended(4, because(Reason::Cancelled)).run(5).hello(6, "root").gone(7, "root");
        assert_verdict(&one, judge_c1, Vacuous, "no other run");
        assert_verdict(&two().template(), judge_c1, NotRun, "once");
    }

    /// The second run was cancelled just after the first, and returned after so many milliseconds; both trees are deaf.
    fn second_after(ms: u64) -> Hand {
        let deaf = r#"[{"on": {"signal": "TERM", "then": "ignore"}}, "hang"]"#;
        let hand = by_hand::case(steps(deaf)).run(0).hello(1, "root").did(1, "root", 0);
        let hand = hand.run(3).hello(4, "root").did(4, "root", 0).of(0).cancel(10);
        let hand = hand.of(1).cancel(11).of(0).gone(110, "root").ended(112, because(Reason::Cancelled)).of(1);
        hand.gone(11 + ms, "root").ended(11 + ms, because(Reason::Cancelled))
    }

    #[test]
    fn c3_wants_the_second_end_within_its_own_bound() {
        assert_verdict(&second_after(102), judge_c3, Kept, "");
        assert_verdict(
            &second_after(900),
            judge_c3,
            Broken,
            "returned 900 ms after the cancel of a tree that is not polite; the bound was 350 ms",
        );
        assert_verdict(&second_after(351), judge_c3, Unknown, "noise");
        assert_verdict(&second_after(900).our_fault(), judge_c3, Unknown, "harness could not");
        // Who is late because of another is C3's, and not D4's.
        assert_verdict(&second_after(102).template(), judge_c3, NotRun, "once");
    }

    #[test]
    fn c3_wants_a_start_at_once_and_an_exit_noticed_at_once_while_another_is_stopped() {
        let started_after = |first_ms: u64, ms: u64| {
            let case = by_hand::case(steps(r#"["hang"]"#)).run(0).hello(first_ms, "root");
            let at_ms = first_ms + 20;
            let second = case.cancel(first_ms + 9).run(at_ms).hello(at_ms + ms, "root");
            second
                .of(0)
                .gone(2_000, "root")
                .ended(2_001, because(Reason::Cancelled))
                .with(|trace| trace.limits.grace = Some(Span::from_millis(3_000)))
        };
        let started = |ms: u64| started_after(1, ms);
        assert_verdict(&started(5), judge_c3, Kept, "");
        // What each start takes on this machine is nobody's delay.
        assert_verdict(&started_after(200, 400), judge_c3, Kept, "");
        assert_verdict(&started_after(300, 900), judge_c3, Unknown, "but the first start took 300 ms");
        let unheard = started(900).with(|trace| drop(trace.moments.remove(2)));
        assert_verdict(&unheard, judge_c3, Unknown, "no other start shows");
        assert_verdict(
            &started(900),
            judge_c3,
            Broken,
            "was up 900 ms after it was asked for, while another run",
        );
        let exited = |ms: u64| {
            let deaf = r#"[{"on": {"signal": "TERM", "then": "ignore"}}, "hang"]"#;
            let both =
                by_hand::case(steps(deaf)).run(0).hello(1, "root").did(1, "root", 0).run(2).hello(3, "root");
            let one = both.of(0).cancel(10).of(1).exiting(20, "root", 0).gone(21, "root");
            let one = one.ended(21 + ms, because(Reason::Itself)).of(0).gone(990, "root");
            one.ended(1_000, because(Reason::Cancelled))
                .with(|trace| trace.limits.grace = Some(Span::from_millis(3_000)))
        };
        assert_verdict(&exited(5), judge_c3, Kept, "");
        assert_verdict(&exited(900), judge_c3, Broken, "returned 900 ms after the root's exit");
    }

    #[test]
    fn c3_charges_nobody_with_a_bound_that_is_not_known() {
        let deaf = r#"[{"on": {"signal": "TERM", "then": "ignore"}}, "hang"]"#;
        let first = by_hand::case(steps(deaf)).grace(3_000).run(0).hello(1, "root").did(1, "root", 0);
        let held = first.run(2).hello(3, "root").hello(4, "child").of(0).cancel(10).of(1);
        let exited = held.exiting(20, "root", 0).gone(21, "root").of(0).gone(990, "root");
        let late =
            exited.ended(1_000, because(Reason::Cancelled)).of(1).ended(6_000, because(Reason::Itself));
        assert_verdict(&late.clone().drain(50), judge_c3, Broken, "after the root's exit");
        assert_verdict(&late, judge_c3, Unknown, "bounds of its own");
    }

    #[test]
    fn c3_counts_the_drain_for_who_comes_to_hold_the_output_when_the_root_is_gone() {
        let up =
            by_hand::case(steps(r#"["hang"]"#)).drain(1_000).run(0).hello(1, "root").run(2).hello(3, "root");
        let exited = up.of(0).cancel(10).of(1).exiting(20, "root", 0).gone(21, "root");
        let over = |hand: Hand| {
            let first = hand.of(0).gone(110, "root").ended(112, because(Reason::Cancelled));
            first.of(1).ended(1_130, because(Reason::Itself))
        };
        assert_verdict(&over(exited.clone().hello(22, "late")), judge_c3, Kept, "");
        assert_verdict(&over(exited), judge_c3, Broken, "after the root's exit");
    }

    #[test]
    fn c3_is_vacuous_when_nobody_is_stopped_meanwhile() {
        let end = Outcome::because(Reason::Cancelled);
        let apart = by_hand::case(steps(r#"["hang"]"#))
            .run(0)
            .hello(1, "root")
            .cancel(2)
            .gone(3, "root")
            .ended(4, end);
        let apart =
            apart.run(50).hello(51, "root").cancel(60).gone(61, "root").ended(62, because(Reason::Cancelled));
        assert_verdict(&apart, judge_c3, Vacuous, "no other run was being stopped");
    }
}
