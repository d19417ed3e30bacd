//! K1, K2, K4: whom the wrapper signals. Judged from the ledger of its system calls, and from those whom it must not hit.

use fake_cli::script::{Place, Signal, Step, Then};

use super::directed::{
    TIMEOUT, after, emit, on_term, once_ready, once_started, ready_and_hang, run, scenario, start_hanging,
    to_the_end, wait,
};
use super::facts::{Facts, Node};
use super::hygiene::left_alone;
use super::verdicts::{broken, broken_unless, together};
use crate::run::MOST_CALLS;
use crate::scenario::{STRANGER, Scenario, Verb};
use crate::syscalls::CallKind;
use crate::trace::{Caller, Signalled, SystemCall, Was};
use crate::verdict::Verdict;

/// The bystander in the host's own group.
const IN_THE_GROUP: &str = "bystander-3";

// ---- K1 ----

pub(super) fn judge_k1(facts: &Facts<'_>) -> Verdict {
    judge_ledger(facts, |facts, call, signalled| match &signalled.was {
        Was::Own | Was::Zombie => Some(Verdict::Kept),
        // Of nobody's number it cannot be said whose it was, and a pidfd hits nobody else.
        Was::Gone => None,
        Was::Reaped if let Some(why) = kernel_reaps(facts) => Some(Verdict::Unknown(format!(
            "{} went to a number whose process is gone; but {why}",
            call.quoted()
        ))),
        Was::Reaped => {
            Some(accused(call, "to a number whose process had been reaped: it may be a stranger's"))
        }
        Was::Everyone => Some(accused(call, "to everybody whom it may signal")),
        Was::Stranger(name)
            if name == STRANGER
                && let Some(why) = kernel_reaps(facts) =>
        {
            Some(Verdict::Unknown(format!("{} went to {name}; but {why}", call.quoted())))
        }
        Was::Stranger(name) => Some(accused(call, &format!("to {name}"))),
        Was::HostsGroup { .. } => hosts_group(facts, call, &signalled.was),
        Was::Unclear(why) => Some(Verdict::Unknown(format!("{}: {why}", call.quoted()))),
    })
}

// ---- K4 ----

pub(super) fn judge_k4(facts: &Facts<'_>) -> Verdict {
    let ledger = judge_ledger(facts, |facts, call, signalled| match &signalled.was {
        Was::Unclear(why) => Some(Verdict::Unknown(format!("{}: {why}", call.quoted()))),
        was @ Was::HostsGroup { .. } => hosts_group(facts, call, was),
        _ => Some(Verdict::Kept),
    });
    let beside = facts.bystanders().iter().filter(|node| node.name == IN_THE_GROUP && node.hello.is_some());
    let hit = beside.map(|node| left_alone(facts, node)).filter(|verdict| *verdict != Verdict::Kept);
    together([ledger].into_iter().chain(hit), String::new)
}

/// A signal to the group that the host is in. A command that was put into somebody else's group and made one for itself and its child does
/// with that group what it likes; one that leads its group only because we started it so may be such a command.
fn hosts_group(facts: &Facts<'_>, call: &SystemCall, was: &Was) -> Option<Verdict> {
    let Was::HostsGroup { led_by_host, stranger } = was else { return None };
    let started_as_leader = !facts.trace.scenario.shares_group();
    match stranger {
        Some(name) => Some(accused(call, &format!("to the host's own group, in which {name} is"))),
        None if !facts.is_template() => Some(accused(call, "to the host's own group")),
        None if *led_by_host && !started_as_leader => Some(Verdict::Kept),
        None if *led_by_host => None,
        None => Some(accused(call, "to the host's own group, which the host did not make")),
    }
}

fn judge_ledger(
    facts: &Facts<'_>,
    judge: fn(&Facts<'_>, &SystemCall, &Signalled) -> Option<Verdict>,
) -> Verdict {
    if let Some(fault) = facts.fault() {
        return fault;
    }
    if !facts.trace.scenario.ledger {
        return Verdict::Vacuous("no ledger of the host's signals was kept".to_owned());
    }
    let signals = facts.syscalls().filter_map(|(_, call)| Some((call, call.signalled.as_ref()?)));
    let verdict = together(signals.filter_map(|(call, signalled)| judge(facts, call, signalled)), || {
        facts.because("the host sent no signal to a process that was there")
    });
    let is_cut = facts.syscalls().count() >= MOST_CALLS;
    match verdict {
        Verdict::Broken(_) | Verdict::Unknown(_) => verdict,
        _ if is_cut => Verdict::Unknown(format!("the ledger was cut after {MOST_CALLS} calls")),
        _ => verdict,
    }
}

fn accused(call: &SystemCall, whom: &str) -> Verdict {
    broken(format!("{} went {whom}", call.quoted()))
}

impl SystemCall {
    /// Who made which call, for sentences.
    fn quoted(&self) -> String {
        let who = match self.by {
            Caller::Host => "the host's".to_owned(),
            Caller::Fork => format!("the {} of a fork of the host (pid {})", self.call, self.pid),
            Caller::Helper => format!("the {} of a helper of the host (pid {})", self.call, self.pid),
        };
        match self.by {
            Caller::Host => format!("{who} {}", self.text),
            Caller::Fork | Caller::Helper => format!("{who}, {},", self.text),
        }
    }
}

// ---- K2 ----

pub(super) fn judge_k2(facts: &Facts<'_>) -> Verdict {
    if let Some(fault) = facts.fault() {
        return fault;
    }
    let Some(stranger) = facts.stranger() else {
        return Verdict::Vacuous(facts.because("no stranger was given the pid of a dead child"));
    };
    let Some(up_us) = stranger.hello_us() else {
        return Verdict::Vacuous("the stranger never said hello".to_owned());
    };
    match left_alone(facts, stranger) {
        Verdict::Kept if !tempted(facts, up_us) => Verdict::Vacuous(
            facts.because("the wrapper had nothing more to do when the stranger had the pid of its child"),
        ),
        Verdict::Broken(finding) => {
            let sentence = format!(
                "{STRANGER}, who had been given the pid of {}, which was dead and reaped, {}",
                facts.trace.scenario.stranger_with_pid_of.as_deref().unwrap_or("a node"),
                finding.sentence.trim_start_matches(STRANGER).trim_start(),
            );
            broken_unless(kernel_reaps(facts).as_ref(), sentence)
        }
        verdict => verdict,
    }
}

/// Why a number may mean somebody else though the wrapper has reaped nobody.
fn kernel_reaps(facts: &Facts<'_>) -> Option<String> {
    let ignores = facts.trace.scenario.host.ignores.contains(&Signal::Chld);
    ignores.then(|| "the kernel reaps for a host that ignores CHLD".to_owned())
}

/// Whether the wrapper did something, or was asked to, while the stranger had the pid.
fn tempted(facts: &Facts<'_>, up_us: u64) -> bool {
    let alive_us = facts.host_gone().map_or(u64::MAX, |(gone_us, _)| gone_us);
    let asked =
        facts.runs().iter().flat_map(|run| &run.stops).any(|stop| (up_us..alive_us).contains(&stop.at_us));
    let let_go = facts.holds().any(|hold| {
        hold.call == CallKind::Kill
            && hold.let_go_us.is_some_and(|(at_us, _)| (up_us..alive_us).contains(&at_us))
    });
    asked || let_go
}

// ---- Directed scenarios ----

/// Trees and ends in which a wrapper may lose sight of who is who.
pub(super) fn directed_k1() -> Vec<Scenario> {
    let tree = || -> Vec<Step> {
        [vec![start_hanging("helper", Place::SameGroup)], ready_and_hang().to_vec()].concat()
    };
    let deaf = || [vec![on_term(Then::Ignore)], tree()].concat();
    let ledger = |name, why, script, ops| scenario(name, why, &["K1", "K4"], script, ops).with_ledger();
    vec![
        ledger(
            "ledger-of-a-cancel",
            "A stop must signal the child's tree and nobody else, though others share the host's group and session.",
            tree(),
            vec![run(), once_started(Verb::Cancel), wait()],
        ),
        ledger(
            "ledger-of-a-deaf-tree",
            "Who escalates signals twice; by then a number may mean somebody else.",
            deaf(),
            vec![run(), once_started(Verb::Cancel), wait()],
        ),
        ledger(
            "ledger-of-a-timeout",
            "The wrapper's own stop, with nobody to ask for it.",
            tree(),
            to_the_end(),
        )
        .with_timeout(TIMEOUT),
        ledger(
            "ledger-of-a-polite-leader",
            "The leader is dead and reaped when the rest of its group must be killed: whoever kept its number may hit a stranger.",
            vec![
                start_hanging("helper", Place::SameGroup),
                Step::On(fake_cli::script::Reaction { signal: Signal::Term, then: Then::Exit(0) }),
                emit("ready"),
                Step::Hang,
            ],
            vec![run(), once_started(Verb::Cancel), wait()],
        ),
        ledger(
            "ledger-of-an-exit",
            "When the child has ended by itself and nobody is left, its number and its group's mean nobody any more.",
            vec![emit("ready"), Step::Exit(0)],
            vec![run(), wait(), after("run.ended", Verb::Cancel), wait()],
        ),
        ledger(
            "ledger-of-a-drop",
            "A handle that is dropped late has a number that may be a stranger's.",
            tree(),
            once_ready(Verb::Drop),
        ),
    ]
}

pub(super) fn directed_k2() -> Vec<Scenario> {
    let ends = || vec![emit("ready"), Step::Exit(0)];
    vec![
        scenario(
            "cancel-after-the-pid-was-given-away",
            "The child has ended and been reaped, and its pid is a stranger's: a cancel that comes now must not hit it.",
            &["K2"],
            ends(),
            vec![run(), wait(), after("stranger.hello", Verb::Cancel), wait()],
        )
        .with_stranger("root"),
        scenario(
            "kill-held-until-the-pid-is-given-away",
            "A signal by number, sent when the child had been reaped, hits whoever has got the number meanwhile.",
            &["K2"],
            ends(),
            vec![run(), wait(), after("stranger.hello", Verb::Cancel), wait()],
        )
        .with_stranger("root")
        .holding(CallKind::Kill, 1, "stranger.hello"),
        scenario(
            "child-dies-while-its-kill-is-held",
            "The child dies between the wrapper's look and its kill: if another thread reaps it then, the number is free.",
            &["K2"],
            vec![emit("ready"), super::directed::await_event("call.kill.1"), Step::Exit(0)],
            vec![run(), once_started(Verb::Cancel), wait()],
        )
        .with_stranger("root")
        .holding(CallKind::Kill, 1, "stranger.hello"),
    ]
}

/// For [`judge_k2`].
impl Facts<'_> {
    fn stranger(&self) -> Option<&Node<'_>> {
        self.bystanders().iter().find(|node| node.name == STRANGER)
    }
}

#[cfg(test)]
mod tests {
    use fake_cli::control::Report;

    use super::super::by_hand::{Hand, assert_verdict, because, case, hanging_pair, hello, steps};
    use super::*;
    use crate::scenario::Scenario;
    use crate::trace::{CaseEnd, Reason, Stage, Status, What};
    use crate::verdict::VerdictKind::{Broken, Kept, NotRun, Unknown, Vacuous};

    fn ledger(calls: &[(Caller, &str, Was)]) -> Hand {
        let hand = hanging_pair().with(|trace| trace.scenario.ledger = true).cancel(10);
        calls
            .iter()
            .enumerate()
            .fold(hand, |hand, (index, (by, text, was))| {
                let call = SystemCall {
                    call: CallKind::Kill,
                    nth: index as u32 + 1,
                    by: *by,
                    pid: 50,
                    text: (*text).to_owned(),
                    signalled: Some(Signalled { signal: 15, was: was.clone() }),
                };
                hand.what(11, What::SystemCall(call))
            })
            .ended(20, because(Reason::Cancelled))
    }

    fn one(was: Was) -> Hand {
        ledger(&[(Caller::Host, "kill(-100, TERM)", was)])
    }

    fn own_group(led_by_host: bool, stranger: Option<&str>) -> Was {
        Was::HostsGroup { led_by_host, stranger: stranger.map(str::to_owned) }
    }

    #[test]
    fn k1_is_kept_by_signals_to_ones_own_alive_or_not_reaped() {
        for was in [Was::Own, Was::Zombie] {
            assert_verdict(&one(was), judge_k1, Kept, "");
        }
        let with_late_pidfd = ledger(&[
            (Caller::Host, "kill(-100, TERM)", Was::Own),
            (Caller::Host, "pidfd_send_signal(pidfd, KILL)", Was::Gone),
        ]);
        assert_verdict(&with_late_pidfd, judge_k1, Kept, "");
    }

    #[test]
    fn k1_is_broken_by_anybody_else_and_quotes_the_call() {
        for (was, part) in [
            (Was::Reaped, "the host's kill(-100, TERM) went to a number whose process had been reaped"),
            (Was::Everyone, "to everybody"),
            (Was::Stranger("bystander-2".to_owned()), "to bystander-2"),
            (own_group(true, None), "to the host's own group"),
            (own_group(false, Some("bystander-3")), "in which bystander-3 is"),
        ] {
            assert_verdict(&one(was), judge_k1, Broken, part);
        }
        let helper = ledger(&[
            (Caller::Helper, "kill(1, TERM)", Was::Own),
            (Caller::Helper, "kill(-1, TERM)", Was::Everyone),
        ]);
        assert_verdict(
            &helper,
            judge_k1,
            Broken,
            "the kill of a helper of the host (pid 50), kill(-1, TERM), went",
        );
    }

    #[test]
    fn k1_is_unknown_where_the_target_could_not_be_seen_or_the_harness_failed() {
        let unclear = one(Was::Unclear("descriptor 7 could not be read".to_owned()));
        assert_verdict(&unclear, judge_k1, Unknown, "descriptor 7");
        assert_verdict(&one(Was::Own).our_fault(), judge_k1, Unknown, "harness could not");
    }

    #[test]
    fn k1_is_unknown_where_the_kernel_reaps_for_the_host() {
        let deaf = |was: Was| one(was).with(|trace| trace.scenario.host.ignores = vec![Signal::Chld]);
        assert_verdict(&deaf(Was::Reaped), judge_k1, Unknown, "the kernel reaps");
        assert_verdict(
            &deaf(Was::Stranger(STRANGER.to_owned())),
            judge_k1,
            Unknown,
            "to stranger; but the kernel reaps",
        );
        assert_verdict(&one(Was::Stranger(STRANGER.to_owned())), judge_k1, Broken, "to stranger");
        // Whose number was never a child's is nobody's to signal, whoever reaps.
        assert_verdict(&deaf(Was::Stranger("bystander-2".to_owned())), judge_k1, Broken, "to bystander-2");
        assert_verdict(&deaf(Was::Everyone), judge_k1, Broken, "to everybody");
    }

    #[test]
    fn k1_and_k4_are_unknown_where_the_ledger_was_cut() {
        let cut = |was: Was| ledger(&vec![(Caller::Host, "kill(-100, TERM)", was); MOST_CALLS]);
        for judge in [judge_k1, judge_k4] {
            assert_verdict(&cut(Was::Own), judge, Unknown, "the ledger was cut after 4096 calls");
        }
        assert_verdict(&cut(Was::Everyone), judge_k1, Broken, "to everybody");
    }

    #[test]
    fn k1_is_vacuous_without_a_ledger_or_a_signal() {
        assert_verdict(&hanging_pair().cancel(10), judge_k1, Vacuous, "no ledger");
        assert_verdict(&ledger(&[]), judge_k1, Vacuous, "sent no signal");
        assert_verdict(&one(Was::Gone), judge_k1, Vacuous, "sent no signal");
    }

    #[test]
    fn k1_and_k4_are_not_run_where_calls_cannot_be_watched() {
        let refused = "the host's system calls cannot be watched here";
        let hand = one(Was::Own)
            .with(|trace| trace.moments.clear())
            .with(|trace| trace.end = CaseEnd::Inapplicable(refused.to_owned()));
        let trace = hand.trace();
        for id in ["K1", "K4"] {
            let verdict = super::super::find(id).unwrap().judge(&Facts::of(&trace));
            assert_eq!(verdict, Verdict::NotRun(refused.to_owned()));
        }
    }

    #[test]
    fn k4_is_broken_by_a_signal_to_the_hosts_group_and_by_nothing_else() {
        assert_verdict(&one(own_group(true, None)), judge_k4, Broken, "to the host's own group");
        for was in [Was::Own, Was::Reaped, Was::Everyone, Was::Stranger("bystander".to_owned())] {
            assert_verdict(&one(was), judge_k4, Kept, "");
        }
        assert_verdict(&ledger(&[]), judge_k4, Vacuous, "sent no signal");
        assert_verdict(&one(Was::Unclear("gone".to_owned())), judge_k4, Unknown, "gone");
    }

    #[test]
    fn k4_is_broken_by_a_hit_bystander_of_the_hosts_group() {
        let said = Report::Hello(Box::new(hello(IN_THE_GROUP)));
        let hello = What::Node { run: 0, node: IN_THE_GROUP.to_owned(), said, own_at_us: None };
        let beside = one(Was::Own).with(|trace| trace.scenario.bystanders = true).what(12, hello);
        assert_verdict(&beside, judge_k4, Kept, "");
        let hit = beside.signalled(13, IN_THE_GROUP, Signal::Term);
        assert_verdict(&hit, judge_k4, Broken, "bystander-3 got TERM");
    }

    #[test]
    fn a_command_may_signal_a_group_that_it_made_for_itself() {
        let shared = |was| one(was).template().with(|trace| trace.scenario.bystanders = true);
        assert_verdict(&shared(own_group(true, None)), judge_k4, Kept, "");
        assert_verdict(&shared(own_group(false, None)), judge_k4, Broken, "which the host did not make");
        assert_verdict(&shared(own_group(false, Some("bystander-3"))), judge_k4, Broken, "bystander-3");
        let started_as_leader = one(own_group(true, None)).template();
        assert_verdict(&started_as_leader, judge_k4, Vacuous, "sent no signal");
    }

    fn given_away() -> Hand {
        let said = Report::Hello(Box::new(hello(STRANGER)));
        let stranger = What::Node { run: 0, node: STRANGER.to_owned(), said, own_at_us: Some(8_000) };
        case(steps(r#"[{"exit": 0}]"#))
            .with(|trace| trace.scenario.stranger_with_pid_of = Some("root".to_owned()))
            .run(0)
            .hello(1, "root")
            .gone(5, "root")
            .what(8, stranger)
    }

    #[test]
    fn k2_is_kept_when_the_stranger_hears_nothing_of_a_late_stop() {
        let hand = given_away().cancel(10).done(11).look(Stage::Quiesce, vec![]);
        assert_verdict(&hand, judge_k2, Kept, "");
        let swept = given_away().cancel(10).look(Stage::Quiesce, vec![]).gone(4_000, STRANGER);
        assert_verdict(&swept, judge_k2, Kept, "");
    }

    #[test]
    fn k2_is_broken_by_a_signal_to_the_stranger_or_its_death() {
        let signalled = given_away().cancel(10).signalled(11, STRANGER, Signal::Term);
        assert_verdict(
            &signalled,
            judge_k2,
            Broken,
            "pid of root, which was dead and reaped, got TERM from pid 50",
        );
        let killed = given_away().cancel(10).gone(11, STRANGER).look(Stage::Quiesce, vec![]);
        assert_verdict(&killed, judge_k2, Broken, "was killed");
    }

    #[test]
    fn k2_is_unknown_where_the_kernel_reaps_for_the_host() {
        let deaf = given_away().with(|trace| trace.scenario.host.ignores = vec![Signal::Chld]).cancel(10);
        let signalled = deaf.clone().signalled(11, STRANGER, Signal::Term);
        assert_verdict(&signalled, judge_k2, Unknown, "; but the kernel reaps for a host");
        assert_verdict(&deaf.done(11).look(Stage::Quiesce, vec![]), judge_k2, Kept, "");
    }

    #[test]
    fn k2_is_unknown_or_vacuous_where_nobody_was_tempted() {
        let expired = given_away().cancel(10).exiting(11, STRANGER, 75).gone(12, STRANGER);
        assert_verdict(&expired, judge_k2, Unknown, "ended by itself");
        assert_verdict(&given_away().our_fault(), judge_k2, Unknown, "harness could not");
        assert_verdict(&given_away(), judge_k2, Vacuous, "nothing more to do");
        let host_gone = given_away().host_gone(9, Status::Exited(0)).cancel(10);
        assert_verdict(&host_gone, judge_k2, Vacuous, "nothing more to do");
        assert_verdict(&hanging_pair().cancel(10), judge_k2, Vacuous, "no stranger was given");
        let elsewhere = hanging_pair()
            .with(|trace| trace.end = CaseEnd::Inapplicable("only in a pid namespace".to_owned()))
            .trace();
        let verdict = super::super::find("K2").unwrap().judge(&Facts::of(&elsewhere));
        assert_eq!(verdict.kind(), NotRun);
    }

    #[test]
    fn a_held_kill_that_goes_on_tempts_as_well() {
        let held = given_away()
            .what(9, What::Held { call: CallKind::Kill, nth: 1 })
            .what(10, What::LetGo { call: CallKind::Kill, nth: 1, in_vain: false });
        assert_verdict(&held.look(Stage::Quiesce, vec![]), judge_k2, Kept, "");
    }

    #[test]
    fn the_ledger_scenarios_share_the_hosts_group_with_a_bystander() {
        assert!(directed_k1().iter().all(Scenario::shares_group));
    }
}
