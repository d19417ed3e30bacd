//! Z: zombies.

use fake_cli::script::{Place, Signal, Step};

use super::directed::{after, once_ready, ready_and_hang, run, scenario, start_hanging, to_the_end, wait};
use super::ending::{Cause, Ending, ending, is_cancel};
use super::facts::{Facts, Run, told};
use super::verdicts::broken;
use super::witness::{HELD_UP, is_dead, missed};
use super::{Judged, Rule, as_catalogued, child_signal, repeats};
use crate::scenario::{Op, Scenario, Verb};
use crate::trace::{BYSTANDER_CHILD_CODE, ChildStatus, Look, Seen, Stage, Status};
use crate::verdict::{Finding, Level, Verdict};

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
            "Z1",
            "no zombie",
            "When the op is over, the host has no zombie.",
            "While the host lives and every op is over, the kernel's list of the case is read for zombies whose parent is the host.",
            "The roll call must have seen it die before, with time to reap it; a zombie of a node is that node's behaviour, and one adopted by the warden is the harness's.",
            Judged::Trace { judge: judge_z1, directed: directed_z1 },
        ),
        rule(
            "Z2",
            "no more zombies with each run",
            "The number of the host's zombies does not grow over five repeats.",
            "The zombies of the host are counted after each of five equal runs.",
            "Growth must persist.",
            Judged::Trace { judge: repeats::judge_z2, directed: repeats::directed_z2 },
        ),
        rule(
            "Z3",
            "reaps its own only",
            "The wrapper reaps its own children only: another child of the host still gets its status.",
            "The host starts a child of its own before the run; it exits during the run or after it, and then the host asks the kernel for its status.",
            "The child itself says with which code it exits, and the harness sees it dead before the host asks. One that was killed tests nothing here.",
            Judged::Trace { judge: judge_z3, directed: directed_z3 },
        ),
        rule(
            "Z4",
            "works with SIGCHLD ignored",
            "In a host that ignores SIGCHLD, waiting for a run ends with a defined result.",
            "The host is started with SIGCHLD ignored, and a run is waited for: it must end when its child has, with whatever it says of the status.",
            "The slack is 250 ms or ten times the machine's measured noise. Only where the root has no child that could keep the run up.",
            Judged::Trace { judge: child_signal::judge, directed: child_signal::directed },
        ),
    ]
}

fn judge_z1(facts: &Facts<'_>) -> Verdict {
    if let Some(fault) = facts.fault() {
        return fault;
    }
    if facts.is_template() {
        return Verdict::NotRun("a command is gone when its run is over, and its zombies with it".to_owned());
    }
    if let Some(why) = untested(facts) {
        return Verdict::Vacuous(why);
    }
    let (Some(look), Some(host)) = (facts.look(Stage::Quiesce), facts.host_pid()) else {
        return Verdict::Unknown("nobody looked while the host was alive".to_owned());
    };
    let zombies: Vec<&Seen> = look.seen.iter().filter(|seen| is_dead(seen) && seen.ppid == host).collect();
    let Some(first) = zombies.first() else {
        return missed(facts, look).map_or(Verdict::Kept, Verdict::Unknown);
    };
    match doubt(facts, look, &zombies) {
        Some(why) => Verdict::Unknown(format!("{} was a zombie of the host, but {why}", name(first))),
        None => {
            Verdict::Broken(Finding { sentence: sentence(look, &zombies, host), count: zombies.len() as u64 })
        }
    }
}

fn judge_z3(facts: &Facts<'_>) -> Verdict {
    if let Some(fault) = facts.fault() {
        return fault;
    }
    if facts.is_template() {
        return Verdict::NotRun(
            "a command has no child beside the wrapper's that could be asked for".to_owned(),
        );
    }
    let Some(child) = facts.bystander_child() else {
        return Verdict::Vacuous("the host had no child beside the wrapper's".to_owned());
    };
    if facts.trace.scenario.host.ignores.contains(&Signal::Chld) {
        return Verdict::Vacuous("the host ignores CHLD, so the kernel reaps its children".to_owned());
    }
    if facts.runs().iter().all(|run| run.nodes.is_empty() && run.ended.is_none()) {
        return Verdict::Vacuous(facts.because("no run was under way"));
    }
    let own = Status::Exited(i32::from(BYSTANDER_CHILD_CODE));
    let said = child.exiting().map(|(_, code)| Status::Exited(code));
    match (said, child.gone_us, facts.child_status()) {
        (Some(said), Some(_), _) if said != own => {
            Verdict::Vacuous("the host's own child did not end as it was told to".to_owned())
        }
        (None, Some(_), _) => {
            Verdict::Vacuous("the host's own child was killed, which is no matter of reaping".to_owned())
        }
        (_, None, _) => Verdict::Vacuous(facts.because("the host's own child did not end")),
        (Some(_), Some(_), Some(ChildStatus::Got(status))) if *status == own => Verdict::Kept,
        (Some(_), Some(_), Some(ChildStatus::Got(status))) => broken(format!(
            "the host's own child exited with code {BYSTANDER_CHILD_CODE}, and the host got {status:?} for it"
        )),
        (Some(_), Some(_), Some(ChildStatus::Lost)) => broken(format!(
            "the host's own child exited with code {BYSTANDER_CHILD_CODE}, and when the host asked, somebody had reaped it: no such child (ECHILD)"
        )),
        (Some(_), Some(_), Some(ChildStatus::Failed(why))) => {
            Verdict::Unknown(format!("the host could not ask for its own child's status: {why}"))
        }
        // The host was ended, or hangs.
        (Some(_), Some(_), None) => {
            Verdict::Vacuous("the host was not asked for its own child's status".to_owned())
        }
    }
}

fn untested(facts: &Facts<'_>) -> Option<String> {
    let ended_host =
        |run: &Run<'_>| run.stops.iter().any(|stop| stop.verb.ends_host() && !is_cancel(facts, stop.verb));
    if facts.runs().iter().any(ended_host) {
        return Some("the host was ended from outside".to_owned());
    }
    if facts.host_fell_silent() {
        return Some("the host never finished".to_owned());
    }
    let over = facts.runs().iter().any(|run| run.root().is_some() && run.over_us().is_some());
    (!over).then(|| facts.because("no run came to its end"))
}

fn doubt(facts: &Facts<'_>, look: &Look, zombies: &[&Seen]) -> Option<String> {
    if zombies.iter().any(|seen| seen.connected) {
        return Some("its control connection is open".to_owned());
    }
    let dead_since_us = zombies.iter().map(|seen| dead_since(facts, seen)).collect::<Option<Vec<u64>>>();
    let Some(dead_since_us) = dead_since_us else {
        return Some("since when cannot be said, for it is no node".to_owned());
    };
    if dead_since_us.iter().any(|since_us| since_us.saturating_add(facts.slack_us()) > look.at_us) {
        return Some("it had only just died".to_owned());
    }
    if facts.is_held_up(look.at_us) {
        return Some(HELD_UP.to_owned());
    }
    let due_us = facts.runs().iter().map(|run| reaped_by_us(facts, run)).max().unwrap_or(0);
    if look.at_us < due_us {
        return Some("the look was taken before there was time to reap it".to_owned());
    }
    let dropped =
        facts.runs().iter().filter(|run| run.was_dropped()).map(|run| reaped_by_us(facts, run)).max();
    dropped
        .is_some_and(|due_us| facts.may_be_late(due_us, look.at_us))
        .then(|| "this machine's noise may explain that".to_owned())
}

/// Since when a zombie is dead: what the roll call says is the second witness.
fn dead_since(facts: &Facts<'_>, seen: &Seen) -> Option<u64> {
    let (run, name) = seen.node.as_ref()?;
    facts.runs().iter().find(|known| known.number == *run)?.node(name)?.gone_us
}

/// When the child of a run must have been reaped: a dropped handle leaves the grace to be climbed after it.
fn reaped_by_us(facts: &Facts<'_>, run: &Run<'_>) -> u64 {
    let over_us = match ending(facts, run) {
        Ending::By { cause: Cause::Dropped, at_us, .. } => {
            facts.grace_us().map_or(u64::MAX, |grace_us| at_us.saturating_add(grace_us))
        }
        _ => run.over_us().unwrap_or(0),
    };
    over_us.saturating_add(facts.slack_us())
}

fn name(seen: &Seen) -> String {
    let who = seen.node.as_ref().map_or_else(|| format!("{:?}", seen.comm), |(_, node)| node.clone());
    format!("{who} (pid {})", seen.pid)
}

fn sentence(look: &Look, zombies: &[&Seen], host: i32) -> String {
    let names: Vec<String> = zombies.iter().take(3).map(|seen| name(seen)).collect();
    let more = zombies.len().saturating_sub(3);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!(
        "{}{more}: dead and not reaped by the host (pid {host}) {} after everything was over; seen by {}, and its death by its control connection",
        names.join(", "),
        told(look.settled_us),
        look.method.sentence()
    )
}

// ---- Directed scenarios ----

fn directed_z3() -> Vec<Scenario> {
    let why = "A wrapper that waits for any child takes the statuses of others: whoever started those waits in vain.";
    let beside = |name: &str, exits_after: &str, ops: Vec<Op>| Scenario {
        bystander_child: Some(exits_after.try_into().expect("an event of this program's own is one")),
        ..scenario(name, why, &["Z3"], ready_and_hang().to_vec(), ops)
    };
    let cancel_after_its_end = || vec![run(), after("bystander-child.gone", Verb::Cancel), wait()];
    let cancel = || [once_ready(Verb::Cancel), vec![wait()]].concat();
    vec![
        beside("bystander-child-ends-during-the-run", "root.ready", cancel_after_its_end()),
        beside("bystander-child-ends-with-the-root", "root.gone", cancel()),
        beside("bystander-child-ends-after-the-run", "run.ended", cancel()),
        beside("bystander-child-ends-while-its-run-is-dropped", "op.1.issued", once_ready(Verb::Drop)),
    ]
}

fn directed_z1() -> Vec<Scenario> {
    let tree = || -> Vec<Step> {
        [vec![start_hanging("helper", Place::SameGroup)], ready_and_hang().to_vec()].concat()
    };
    vec![
        scenario(
            "reap-after-exit",
            "The plain case: a child that exits by itself must be waited for.",
            &["Z1"],
            vec![Step::Exit(0)],
            to_the_end(),
        ),
        scenario(
            "reap-after-cancel",
            "Whoever kills must also reap, after the kill and not only before it.",
            &["Z1"],
            tree(),
            once_ready(Verb::Cancel),
        ),
        scenario(
            "reap-after-drop",
            "After a drop nobody waits for the child any more; while the runtime idles it stays a zombie.",
            &["Z1"],
            tree(),
            once_ready(Verb::Drop),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::by_hand::{HOST, Hand, assert_verdict, because, hanging_pair};
    use super::*;
    use crate::syscalls::CallKind;
    use crate::trace::{Reason, What};
    use crate::verdict::VerdictKind::{Broken, Kept, NotRun, Unknown, Vacuous};

    fn cancelled() -> Hand {
        hanging_pair().cancel(10).gone(12, "root").gone(12, "child").ended(15, because(Reason::Cancelled))
    }

    fn zombie(hand: &Hand) -> Seen {
        Seen { ppid: HOST, state: 'Z', connected: false, ..hand.survivor("root") }
    }

    fn with(change: impl Fn(&mut Seen)) -> Hand {
        let mut seen = zombie(&cancelled());
        change(&mut seen);
        cancelled().look(Stage::Quiesce, vec![seen])
    }

    #[test]
    fn z1_is_broken_by_a_zombie_of_the_host() {
        assert_verdict(
            &with(|_| ()),
            judge_z1,
            Broken,
            "root (pid 100): dead and not reaped by the host (pid 50) 2.0 s",
        );
    }

    #[test]
    fn z1_is_kept_when_the_host_has_none_whoever_else_has() {
        assert_verdict(&cancelled().look(Stage::Quiesce, vec![]), judge_z1, Kept, "");
        assert_verdict(&with(|seen| seen.ppid = 1), judge_z1, Kept, "");
        assert_verdict(&with(|seen| seen.state = 'S'), judge_z1, Kept, "");
    }

    #[test]
    fn z1_is_unknown_when_it_was_seen_once_or_too_soon_or_speaks() {
        assert_verdict(&with(|seen| seen.node = None), judge_z1, Unknown, "it is no node");
        let undead = hanging_pair().cancel(10).ended(15, because(Reason::Cancelled));
        let seen = zombie(&undead);
        assert_verdict(&undead.look(Stage::Quiesce, vec![seen]), judge_z1, Unknown, "cannot be said");
        let just_died = cancelled().run(1_000).hello(1_001, "root").gone(1_990, "root");
        let seen = zombie(&just_died);
        assert_verdict(
            &just_died.look_at(Stage::Quiesce, 10, vec![seen]),
            judge_z1,
            Unknown,
            "only just died",
        );
        assert_verdict(&with(|seen| seen.connected = true), judge_z1, Unknown, "connection is open");
        let soon = cancelled().look_at(Stage::Quiesce, 100, vec![zombie(&cancelled())]);
        assert_verdict(&soon, judge_z1, Unknown, "only just died");
        let dropped = hanging_pair().grace(5_000).drop(10).done(10).gone(12, "root");
        let seen = zombie(&dropped);
        assert_verdict(&dropped.look(Stage::Quiesce, vec![seen]), judge_z1, Unknown, "time to reap");
        let incomplete =
            cancelled().look(Stage::Quiesce, vec![]).with(|trace| trace.looks[0].complete = false);
        assert_verdict(&incomplete, judge_z1, Unknown, "did not see everyone");
        // Whom it missed may have been a zombie of the host's then.
        let relay = Seen { pid: 900, node: None, comm: "relay".to_owned(), ..cancelled().survivor("child") };
        let missed = cancelled().look(Stage::Quiesce, vec![]).with(|trace| trace.swept.push(relay));
        assert_verdict(&missed, judge_z1, Unknown, "was swept afterwards");
    }

    #[test]
    fn z1_is_unknown_where_the_machine_may_have_kept_the_wrapper_from_reaping_what_was_dropped() {
        let dropped = |max_us| {
            let hand = hanging_pair().grace(1_600).drop(10).done(10).gone(12, "root");
            let seen = zombie(&hand);
            hand.look(Stage::Quiesce, vec![seen]).with(|trace| trace.noise.max_us = max_us)
        };
        assert_verdict(&dropped(10_000), judge_z1, Broken, "not reaped");
        assert_verdict(&dropped(200_000), judge_z1, Unknown, "noise");
    }

    #[test]
    fn z1_does_not_accuse_a_wrapper_whose_wait_the_harness_held() {
        let seen = zombie(&cancelled());
        let held = cancelled().what(16, What::Held { call: CallKind::Wait, nth: 1 });
        let vainly =
            |at_ms| held.clone().what(at_ms, What::LetGo { call: CallKind::Wait, nth: 1, in_vain: true });
        // Looked at 2 s after the newest moment: before the call went on.
        assert_verdict(&held.clone().look(Stage::Quiesce, vec![seen.clone()]), judge_z1, Unknown, "was held");
        let soon = vainly(2_016).look_at(Stage::Quiesce, 300, vec![seen.clone()]);
        assert_verdict(&soon, judge_z1, Unknown, "was held");
        assert_verdict(&vainly(2_016).look(Stage::Quiesce, vec![seen]), judge_z1, Broken, "not reaped");
    }

    #[test]
    fn z1_is_vacuous_without_an_end_and_does_not_run_for_commands() {
        assert_verdict(&hanging_pair().silent(), judge_z1, Vacuous, "never finished");
        assert_verdict(
            &hanging_pair().look(Stage::Quiesce, vec![]),
            judge_z1,
            Vacuous,
            "no run came to its end",
        );
        assert_verdict(&cancelled().kill_host(20), judge_z1, Vacuous, "from outside");
        assert_verdict(&cancelled().template(), judge_z1, NotRun, "a command");
    }

    /// A run beside a child of the host's own, which had exited with this code when the host asked for it.
    fn beside(code: i32) -> Hand {
        hanging_pair()
            .bystander_child("root.ready")
            .hello(3, "bystander-child")
            .exiting(5, "bystander-child", code)
            .gone(6, "bystander-child")
            .cancel(10)
            .ended(15, because(Reason::Cancelled))
    }

    #[test]
    fn z3_wants_the_status_of_the_hosts_own_child() {
        let got = |got| beside(42).what(20, What::ChildStatus { got });
        assert_verdict(&got(ChildStatus::Got(Status::Exited(42))), judge_z3, Kept, "");
        assert_verdict(&got(ChildStatus::Got(Status::Exited(0))), judge_z3, Broken, "got Exited(0)");
        assert_verdict(&got(ChildStatus::Lost), judge_z3, Broken, "somebody had reaped it");
        let failed = got(ChildStatus::Failed("interrupted".to_owned()));
        assert_verdict(&failed, judge_z3, Unknown, "could not ask");
        assert_verdict(&got(ChildStatus::Lost).our_fault(), judge_z3, Unknown, "harness could not");
        assert_verdict(&got(ChildStatus::Lost).template(), judge_z3, NotRun, "no child beside");
    }

    #[test]
    fn z3_is_vacuous_when_there_was_no_such_child_or_it_did_not_exit_by_itself() {
        assert_verdict(&cancelled(), judge_z3, Vacuous, "no child beside");
        assert_verdict(&beside(42), judge_z3, Vacuous, "was not asked");
        let lost = What::ChildStatus { got: ChildStatus::Lost };
        assert_verdict(&beside(75).what(20, lost.clone()), judge_z3, Vacuous, "as it was told");
        let up = || hanging_pair().bystander_child("root.ready").hello(3, "bystander-child");
        let deaf = beside(42).what(20, lost.clone());
        let deaf = deaf.with(|trace| trace.scenario.host.ignores = vec![Signal::Chld]);
        assert_verdict(&deaf, judge_z3, Vacuous, "the kernel reaps");
        assert_verdict(&up(), judge_z3, Vacuous, "did not end");
        assert_verdict(&up().gone(6, "bystander-child").what(20, lost), judge_z3, Vacuous, "was killed");
    }
}
