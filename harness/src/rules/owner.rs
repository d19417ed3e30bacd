//! P: the owner's death.
//!
//! Here everybody counts, escaped or not: the owner is gone, so nobody else is left to end them.

use fake_cli::script::{Place, Signal, Step, Then};

use super::directed::{on_term, once_ready, ready_and_hang, scenario, start_hanging};
use super::facts::{Facts, Lateness, Run, Stop, micros, told};
use super::standing;
use super::verdicts::{broken, together};
use super::witness::{self, finding, name, only_nodes_are_left, sightings};
use super::{Judged, Rule, start};
use crate::promises::Promises;
use crate::scenario::{HostEnd, Scenario, Verb};
use crate::trace::{Look, Seen, Stage, Status};
use crate::verdict::{Level, Verdict};

const MEASURED: &str = "The harness ends the host while the tree is up, waits for everyone to go, until a generous cap, and then asks \
    the kernel and the control connections who is alive, escaped or not.";
const GUARD: &str = "Two witnesses must agree on each survivor. A host that outlives its signal tests nothing. Lateness within the \
    machine's noise is unknown.";

/// The rules of this family.
pub(super) fn rules() -> Vec<Rule> {
    let rule = |id, title, sentence, judged| Rule {
        id,
        title,
        level: Level::Info,
        sentence,
        measured: MEASURED,
        guard: GUARD,
        weigh,
        judged,
    };
    vec![
        rule(
            "P1",
            "none after the owner's SIGKILL",
            "When the host is killed by SIGKILL, the whole tree is gone within the time that the subject declares.",
            Judged::Trace { judge: judge_p1, directed: directed_p1 },
        ),
        rule(
            "P2",
            "none after TERM, INT, HUP",
            "When the host gets SIGTERM, SIGINT or SIGHUP, the whole tree is gone.",
            Judged::Trace { judge: judge_p2, directed: directed_p2 },
        ),
        rule(
            "P3",
            "none after the owner's panic",
            "When the host panics, throws, exits or aborts, the whole tree is gone.",
            Judged::Trace { judge: judge_p3, directed: directed_p3 },
        ),
        rule(
            "P4",
            "none after its pipe closed",
            "When the host loses its control connection, the whole tree is gone.",
            Judged::Trace { judge: judge_p4, directed: directed_p4 },
        ),
        rule(
            "P5",
            "none after a kill in a start",
            "When the host is killed during a start, nothing of that start is left.",
            Judged::Trace { judge: start::judge_p5, directed: start::directed_p5 },
        ),
    ]
}

pub(super) fn weigh(promises: &Promises) -> Option<Level> {
    promises.owner_death.map(|_| Level::Must)
}

fn judge_p1(facts: &Facts<'_>) -> Verdict {
    judge(facts, |verb| verb == Verb::KillHost)
}

fn judge_p2(facts: &Facts<'_>) -> Verdict {
    let term_is_cancel = facts.is_template()
        && facts.trace.scenario.ops.iter().any(|op| op.verb == Verb::SignalHost(Signal::Term));
    if term_is_cancel {
        return Verdict::NotRun("TERM to a command is its cancel, which S1 judges".to_owned());
    }
    judge(facts, |verb| matches!(verb, Verb::SignalHost(_)))
}

fn judge_p3(facts: &Facts<'_>) -> Verdict {
    if facts.is_template() {
        return Verdict::NotRun("a command cannot be told to end itself".to_owned());
    }
    judge(facts, |verb| matches!(verb, Verb::EndHost(_)))
}

fn judge_p4(facts: &Facts<'_>) -> Verdict {
    if facts.is_template() {
        return Verdict::NotRun("a command has no control connection".to_owned());
    }
    judge(facts, |verb| verb == Verb::HangUp)
}

fn judge(facts: &Facts<'_>, ends: fn(Verb) -> bool) -> Verdict {
    if let Some(fault) = facts.fault() {
        return fault;
    }
    let mut ended = Vec::new();
    let mut untested = facts.because("the host was not ended in this way");
    for run in facts.runs() {
        let Some(stop) = run.stops.iter().find(|stop| ends(stop.verb)) else { continue };
        let alive = run.root().is_some_and(|root| root.alive_at(stop.at_us));
        if alive && run.over_us().is_none_or(|over_us| over_us > stop.at_us) {
            ended.push((run, *stop));
        } else {
            "no run was under way when the host was ended".clone_into(&mut untested);
        }
    }
    let Some((_, stop)) = ended.first() else { return Verdict::Vacuous(untested) };
    if outlived(facts, *stop) {
        return Verdict::Vacuous("the host outlived that, so its tree need not go".to_owned());
    }
    judge_left(facts, &ended)
}

/// Whether anybody of these runs was left when their host had been ended.
pub(super) fn judge_left(facts: &Facts<'_>, ended: &[(&Run<'_>, Stop)]) -> Verdict {
    let Some(look) = facts.look(Stage::HostGone) else {
        return Verdict::Unknown("nobody looked who was alive after the host was ended".to_owned());
    };
    let late = ended.iter().flat_map(|(run, _)| late_deaths(facts, run, look)).collect::<Vec<_>>();
    together([left(facts, ended, look)].into_iter().chain(late), String::new)
}

/// Whether the host went on until the harness told it to end, which is all that one needs which caught a signal, or killed it.
fn outlived(facts: &Facts<'_>, stop: Stop) -> bool {
    let killed = Status::Signaled(Signal::Kill.number());
    let went_on = || facts.host_gone().is_none_or(|(_, status)| status == killed);
    stop.verb != Verb::KillHost && (facts.host_fell_silent() || went_on())
}

fn left(facts: &Facts<'_>, ended: &[(&Run<'_>, Stop)], look: &Look) -> Verdict {
    let concerned = |seen: &Seen| match &seen.node {
        Some((run, _)) => ended.iter().any(|(ended, _)| ended.number == *run),
        None => true,
    };
    let gone_us = facts.host_gone().map_or(ended[0].1.at_us, |(gone_us, _)| gone_us);
    let later_us = look.at_us.saturating_sub(gone_us);
    let seen = sightings(facts, look).into_iter().filter(|sighting| concerned(sighting.seen));
    witness::judge_left(facts, look, seen, |survivors| {
        if look.at_us < cleaned_up_us(facts, survivors) {
            Verdict::Unknown(format!("{} was still cleaning up when the look was taken", name(survivors[0])))
        } else if facts.may_be_late(due_us(facts), later_us) && !only_nodes_are_left(look) {
            let why = if later_us < due_us(facts) {
                "but the look was taken before everyone had to be gone"
            } else {
                "which this machine's noise may explain"
            };
            Verdict::Unknown(format!(
                "{} alive {} after the host was ended, {why}",
                survivors.len(),
                told(later_us)
            ))
        } else {
            Verdict::Broken(finding(look, survivors, "the host was ended", later_us))
        }
    })
}

/// When the last of them that was asked will have finished its clean-up.
fn cleaned_up_us(facts: &Facts<'_>, survivors: &[&Seen]) -> u64 {
    let script = &facts.trace.scenario.script;
    let nodes = survivors.iter().filter_map(|seen| {
        let (run, name) = seen.node.as_ref()?;
        facts.runs().iter().find(|known| known.number == *run)?.node(name)
    });
    let cleaned_up = nodes.filter_map(|node| standing::cleaned_up_us(script, node)).max();
    cleaned_up.map_or(0, |cleaned_up_us| cleaned_up_us.saturating_add(facts.slack_us()))
}

/// How long after the owner's death everyone must be gone at the latest. A deaf tree is given its grace.
fn due_us(facts: &Facts<'_>) -> u64 {
    let promised_us = facts.promises().owner_death.map_or(0, micros);
    promised_us.saturating_add(facts.grace_us().unwrap_or(0)).saturating_add(facts.slack_us())
}

/// Those that did go, but later than the subject promises.
fn late_deaths<'v>(
    facts: &'v Facts<'_>,
    run: &'v Run<'_>,
    look: &'v Look,
) -> impl Iterator<Item = Verdict> + 'v {
    let promised_us = facts.promises().owner_death.map(micros);
    let host_gone_us = facts.host_gone().map(|(gone_us, _)| gone_us);
    run.nodes.iter().filter_map(move |node| {
        let promised_us = promised_us?;
        let gone_us = node.gone_us.filter(|gone_us| *gone_us <= look.at_us)?;
        let took_us = gone_us.saturating_sub(host_gone_us?);
        match facts.lateness(took_us, promised_us.saturating_add(facts.slack_us())) {
            Lateness::InTime => None,
            Lateness::WithinNoise(_) => Some(Verdict::Unknown(format!(
                "{} was gone {} after the host, {} were promised; this machine's noise may explain that",
                node.name,
                told(took_us),
                told(promised_us)
            ))),
            Lateness::Late(_) => Some(broken(format!(
                "{} was gone {} after the host, {} were promised",
                node.name,
                told(took_us),
                told(promised_us)
            ))),
        }
    })
}

// ---- Directed scenarios ----

fn directed_p1() -> Vec<Scenario> {
    vec![
        scenario(
            "kill-host-tree",
            "SIGKILL of the owner runs no clean-up code: nine wrappers in ten leave the whole tree alive.",
            &["P1"],
            [vec![start_hanging("helper", Place::SameGroup)], ready_and_hang().to_vec()].concat(),
            once_ready(Verb::KillHost),
        ),
        scenario(
            "kill-host-deaf-and-escaped",
            "Whatever outlives the owner must reach deaf and escaped processes too.",
            &["P1"],
            [
                vec![
                    on_term(Then::Ignore),
                    start_hanging("escaped", Place::OwnSession),
                    start_hanging("daemon", Place::Daemon),
                ],
                ready_and_hang().to_vec(),
            ]
            .concat(),
            once_ready(Verb::KillHost),
        ),
    ]
}

fn directed_p4() -> Vec<Scenario> {
    let why = "An editor or an agent that dies closes the pipe to its helper, and that is all the helper ever hears of it.";
    let beside =
        |node: &str, place: Place| [vec![start_hanging(node, place)], ready_and_hang().to_vec()].concat();
    let hang_up =
        |name: &str, script: Vec<Step>| scenario(name, why, &["P4"], script, once_ready(Verb::HangUp));
    vec![
        hang_up("hang-up-tree", beside("helper", Place::SameGroup)),
        hang_up(
            "hang-up-deaf-and-escaped",
            [vec![on_term(Then::Ignore)], beside("escaped", Place::OwnSession)].concat(),
        ),
    ]
}

fn directed_p2() -> Vec<Scenario> {
    let signals = [
        ("signal-host-term-tree", Signal::Term, "SIGTERM is how services and containers are stopped."),
        (
            "signal-host-int-tree",
            Signal::Int,
            "SIGINT is Ctrl-C; only the foreground group gets it from the terminal.",
        ),
        ("signal-host-hup-tree", Signal::Hup, "SIGHUP comes when the terminal or the connection is lost."),
    ];
    let tree = || -> Vec<Step> {
        [vec![start_hanging("helper", Place::SameGroup)], ready_and_hang().to_vec()].concat()
    };
    signals
        .into_iter()
        .map(|(name, signal, why)| scenario(name, why, &["P2"], tree(), once_ready(Verb::SignalHost(signal))))
        .collect()
}

fn directed_p3() -> Vec<Scenario> {
    let ends = [
        (
            HostEnd::Panic,
            "A panic unwinds the stack, so destructors run; whatever they do not reach is left.",
        ),
        (HostEnd::Exit, "exit() runs no destructor: a wrapper that counts on drop is never asked."),
        (HostEnd::Abort, "abort() runs nothing any more, as a fault in some other library does."),
    ];
    let scripts = [
        ("tree", vec![start_hanging("helper", Place::SameGroup)]),
        (
            "deaf-and-escaped",
            vec![
                on_term(Then::Ignore),
                start_hanging("escaped", Place::OwnSession),
                start_hanging("daemon", Place::Daemon),
            ],
        ),
    ];
    let each = |(how, why): (HostEnd, &'static str)| {
        scripts.clone().map(|(kind, first)| {
            let name = format!("{}-host-{kind}", how.name());
            let script = [first, ready_and_hang().to_vec()].concat();
            scenario(&name, why, &["P3"], script, once_ready(Verb::EndHost(how)))
        })
    };
    ends.into_iter().flat_map(each).collect()
}

#[cfg(test)]
mod tests {
    use fake_cli::span::Span;

    use super::super::by_hand::{AWAY, Hand, assert_verdict, because, case, hanging_pair, steps};
    use super::*;
    use crate::syscalls::CallKind;
    use crate::trace::{Caller, Reason, SystemCall, What};
    use crate::verdict::VerdictKind::{Broken, Kept, NotRun, Unknown, Vacuous};

    const KILLED: Status = Status::Signaled(9);

    fn killed_host() -> Hand {
        hanging_pair().kill_host(10).host_gone(11, KILLED)
    }

    #[test]
    fn p1_is_broken_by_whoever_outlives_the_host_escaped_or_not() {
        let hand = hanging_pair().hello_as(3, "away", AWAY).kill_host(10).host_gone(11, KILLED);
        let hand = hand.look_sees(Stage::HostGone, &["root", "child", "away"]);
        assert_verdict(&hand, judge_p1, Broken, "after the host was ended");
        let Verdict::Broken(finding) = hand.judge(judge_p1) else { panic!("not broken") };
        assert_eq!(finding.count, 3);
    }

    #[test]
    fn p1_is_kept_when_nobody_is_left() {
        let hand = killed_host().gone(13, "root").gone(13, "child").look(Stage::HostGone, vec![]);
        assert_verdict(&hand, judge_p1, Kept, "");
    }

    #[test]
    fn p1_is_unknown_without_two_witnesses_or_time_to_go() {
        let left = killed_host().look_sees(Stage::HostGone, &["child"]);
        let once = left.clone().with(|trace| trace.looks[0].seen[0].samples = 1);
        assert_verdict(&once, judge_p1, Unknown, "only once");
        let incomplete =
            killed_host().look(Stage::HostGone, vec![]).with(|trace| trace.looks[0].complete = false);
        assert_verdict(&incomplete, judge_p1, Unknown, "did not see everyone");
        let helped =
            left.promising(|promises| promises.owner_death = Some(Span::from_millis(5_000))).with(|trace| {
                let look = &mut trace.looks[0];
                let helper = Seen { pid: 900, node: None, connected: false, ..look.seen[0].clone() };
                look.seen.push(helper);
            });
        assert_verdict(&helped, judge_p1, Unknown, "before everyone had to be gone");
        let alone = helped.with(|trace| trace.looks[0].seen.truncate(1));
        assert_verdict(&alone, judge_p1, Broken, "child");
        assert_verdict(&killed_host(), judge_p1, Unknown, "nobody looked");
    }

    #[test]
    fn p1_is_unknown_where_the_machine_may_have_kept_a_helper_from_its_kill() {
        let helped = |max_us| {
            let left = killed_host().grace(1_000).look_sees(Stage::HostGone, &["child"]);
            left.with(|trace| {
                let look = &mut trace.looks[0];
                let helper = Seen { pid: 900, node: None, connected: false, ..look.seen[0].clone() };
                look.seen.push(helper);
                trace.noise.max_us = max_us;
            })
        };
        assert_verdict(&helped(10_000), judge_p1, Broken, "child");
        assert_verdict(&helped(500_000), judge_p1, Unknown, "noise");
        let alone = helped(500_000).with(|trace| trace.looks[0].seen.truncate(1));
        assert_verdict(&alone, judge_p1, Broken, "child");
    }

    #[test]
    fn p1_does_not_accuse_a_helper_whose_kill_the_harness_held() {
        let kill = |by| {
            let call = SystemCall {
                call: CallKind::Kill,
                nth: 1,
                by,
                pid: 900,
                text: String::new(),
                signalled: None,
            };
            let killed = hanging_pair().kill_host(10).what(10, What::SystemCall(call));
            killed.what(10, What::Held { call: CallKind::Kill, nth: 1 }).host_gone(11, KILLED)
        };
        let left = |hand: Hand, helped: bool| {
            let survivor = hand.survivor("child");
            let helper = Seen { pid: 900, node: None, connected: false, ..survivor.clone() };
            let seen = [vec![survivor], vec![helper; usize::from(helped)]].concat();
            hand.look(Stage::HostGone, seen)
        };
        assert_verdict(&left(kill(Caller::Helper), true), judge_p1, Unknown, "was held by the harness");
        // Nobody is there whom that could hold up.
        assert_verdict(&left(kill(Caller::Helper), false), judge_p1, Broken, "child");
        assert_verdict(&left(kill(Caller::Host), true), judge_p1, Broken, "child");
    }

    #[test]
    fn p1_is_vacuous_when_no_run_was_under_way() {
        let over = hanging_pair()
            .exiting(4, "root", 0)
            .ended(5, because(Reason::Itself))
            .kill_host(10)
            .host_gone(11, KILLED)
            .look_sees(Stage::HostGone, &["child"]);
        assert_verdict(&over, judge_p1, Vacuous, "no run was under way");
        assert_verdict(
            &hanging_pair().look(Stage::HostGone, vec![]),
            judge_p1,
            Vacuous,
            "not ended in this way",
        );
    }

    #[test]
    fn p1_leaves_what_earlier_runs_left_to_others() {
        let ended_before = hanging_pair()
            .ended(5, because(Reason::Itself))
            .kill_host(10)
            .host_gone(11, KILLED)
            .look_sees(Stage::HostGone, &["root"]);
        assert_verdict(&ended_before, judge_p1, Vacuous, "no run was under way");
        let first = hanging_pair().exiting(4, "root", 0).ended(5, because(Reason::Itself));
        let leftover = first.survivor("child");
        let second = first.run(6).hello(7, "root").kill_host(10).host_gone(11, KILLED).gone(12, "root");
        assert_verdict(&second.look(Stage::HostGone, vec![leftover]), judge_p1, Kept, "");
    }

    #[test]
    fn a_promised_time_is_kept_to_by_those_who_go_as_well() {
        let late = |gone_ms| {
            killed_host()
                .promising(|promises| promises.owner_death = Some(Span::from_millis(100)))
                .gone(gone_ms, "child")
                .look(Stage::HostGone, vec![])
        };
        assert_verdict(&late(300), judge_p1, Kept, "");
        assert_verdict(&late(363), judge_p1, Unknown, "noise");
        assert_verdict(&late(900), judge_p1, Broken, "100 ms were promised");
    }

    #[test]
    fn p1_and_p2_must_be_kept_only_where_promised() {
        let promised = Promises { owner_death: Some(Span::from_millis(100)), ..Promises::default() };
        for id in ["P1", "P2", "P3"] {
            let rule = super::super::find(id).unwrap();
            assert_eq!(rule.level_for(&promised), Level::Must);
            assert_eq!(rule.level_for(&Promises::default()), Level::Info);
        }
    }

    #[test]
    fn p2_judges_signals_that_ended_the_host() {
        let signalled = |status| hanging_pair().signal_host(10, Signal::Int).host_gone(12, status);
        let left = signalled(Status::Signaled(2)).look_sees(Stage::HostGone, &["child"]);
        assert_verdict(&left, judge_p2, Broken, "child");
        assert_verdict(&left, judge_p1, Vacuous, "not ended in this way");
        assert_verdict(&signalled(Status::Exited(130)).look(Stage::HostGone, vec![]), judge_p2, Kept, "");
        let once = left.with(|trace| trace.looks[0].seen[0].samples = 1);
        assert_verdict(&once, judge_p2, Unknown, "only once");
        // The harness had to kill it.
        let outlived = signalled(KILLED).look_sees(Stage::HostGone, &["child"]);
        assert_verdict(&outlived, judge_p2, Vacuous, "outlived that");
    }

    #[test]
    fn p2_is_vacuous_where_only_bye_ended_the_host() {
        let caught = || {
            hanging_pair()
                .signal_host(10, Signal::Int)
                .what(4_000, What::GaveUp)
                .silent()
                .look_sees(Stage::Quiesce, &["root", "child"])
                .host_gone(6_010, Status::Exited(0))
        };
        let left = caught().look_sees(Stage::HostGone, &["child"]);
        assert_verdict(&left, judge_p2, Vacuous, "outlived that");
        let cleaned_up = caught().gone(6_011, "root").gone(6_011, "child").look(Stage::HostGone, vec![]);
        assert_verdict(&cleaned_up, judge_p2, Vacuous, "outlived that");
        let killed = killed_host().silent().look_sees(Stage::HostGone, &["child"]);
        assert_verdict(&killed, judge_p1, Broken, "child");
    }

    #[test]
    fn p3_judges_hosts_that_ended_themselves() {
        let exited = |status| hanging_pair().end_host(10, HostEnd::Exit).host_gone(12, status);
        let left = exited(Status::Exited(3)).look_sees(Stage::HostGone, &["child"]);
        assert_verdict(&left, judge_p3, Broken, "child");
        assert_verdict(&left, judge_p1, Vacuous, "not ended in this way");
        assert_verdict(&left, judge_p2, Vacuous, "not ended in this way");
        assert_verdict(&exited(Status::Exited(3)).look(Stage::HostGone, vec![]), judge_p3, Kept, "");
        let once = left.with(|trace| trace.looks[0].seen[0].samples = 1);
        assert_verdict(&once, judge_p3, Unknown, "only once");
        let hung = exited(KILLED).look_sees(Stage::HostGone, &["child"]);
        assert_verdict(&hung, judge_p3, Vacuous, "outlived");
        let cannot = hanging_pair().end_host(10, HostEnd::Exit).unimplemented(11);
        assert_verdict(&cannot, judge_p3, Vacuous, "not ended in this way");
        assert_verdict(&hanging_pair().template(), judge_p3, NotRun, "cannot be told");
        let late = exited(Status::Exited(3))
            .promising(|promises| promises.owner_death = Some(Span::from_millis(100)))
            .gone(900, "child")
            .look(Stage::HostGone, vec![]);
        assert_verdict(&late, judge_p3, Broken, "100 ms were promised");
    }

    #[test]
    fn p4_judges_hosts_whose_controller_was_gone() {
        let gone = |status| hanging_pair().hang_up(10).host_gone(12, status);
        let left = gone(Status::Exited(0)).look_sees(Stage::HostGone, &["child"]);
        assert_verdict(&left, judge_p4, Broken, "child");
        assert_verdict(&left, judge_p3, Vacuous, "not ended in this way");
        assert_verdict(&gone(Status::Exited(0)).look(Stage::HostGone, vec![]), judge_p4, Kept, "");
        let once = left.with(|trace| trace.looks[0].seen[0].samples = 1);
        assert_verdict(&once, judge_p4, Unknown, "only once");
        let hung = gone(KILLED).look_sees(Stage::HostGone, &["child"]);
        assert_verdict(&hung, judge_p4, Vacuous, "outlived");
        assert_verdict(
            &killed_host().look(Stage::HostGone, vec![]),
            judge_p4,
            Vacuous,
            "not ended in this way",
        );
        assert_verdict(&hanging_pair().template(), judge_p4, NotRun, "no control connection");
    }

    #[test]
    fn who_was_asked_may_finish_its_clean_up() {
        let script =
            r#"[{"on": {"signal": "TERM", "then": {"exit-slowly": {"takes": "3s", "code": 0}}}}, "hang"]"#;
        let asked = case(steps(script))
            .run(0)
            .hello(1, "root")
            .did(2, "root", 0)
            .signal_host(10, Signal::Int)
            .signalled(11, "root", Signal::Term)
            .host_gone(12, Status::Signaled(2));
        let survivor = asked.survivor("root");
        let soon = asked.clone().look_at(Stage::HostGone, 600, vec![survivor.clone()]);
        assert_verdict(&soon, judge_p2, Unknown, "still cleaning up");
        let late = asked.look_at(Stage::HostGone, 3_600, vec![survivor]);
        assert_verdict(&late, judge_p2, Broken, "root");
    }

    #[test]
    fn p2_leaves_term_to_a_command_to_s1() {
        let hand =
            hanging_pair().template().signal_host(10, Signal::Term).host_gone(11, Status::Signaled(15));
        assert_verdict(&hand.look_sees(Stage::HostGone, &["child"]), judge_p2, NotRun, "its cancel");
    }
}
