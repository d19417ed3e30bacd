//! Z: zombies.

use fake_cli::script::{Place, Step};

use super::directed::{once_ready, ready_and_hang, scenario, start_hanging, to_the_end};
use super::ending::{Cause, Ending, ending, is_cancel};
use super::facts::{Facts, Run, told};
use super::witness::is_dead;
use super::{Judged, Rule, as_catalogued};
use crate::scenario::{Scenario, Verb};
use crate::trace::{Look, Seen, Stage};
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
            Judged::NotBuilt("zombies are counted once a case, not after each run"),
        ),
        rule(
            "Z3",
            "reaps its own only",
            "The wrapper reaps its own children only: another child of the host still gets its status.",
            "A bystander child of the host exits during a run; the host asks for its status afterwards.",
            "The same without a run is the control.",
            Judged::NotBuilt("the host has no child of its own beside the wrapper's yet"),
        ),
        rule(
            "Z4",
            "works with SIGCHLD ignored",
            "In a host that ignores SIGCHLD, waiting for a run ends with a defined result.",
            "The host is started with SIGCHLD ignored, and a run is waited for.",
            "A time limit with the usual slack.",
            Judged::NotBuilt("the host cannot be started with SIGCHLD ignored yet"),
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
        return if look.complete {
            Verdict::Kept
        } else {
            Verdict::Unknown("the look did not see everyone, so no zombie seen proves nothing".to_owned())
        };
    };
    match doubt(facts, look, &zombies) {
        Some(why) => Verdict::Unknown(format!("{} was a zombie of the host, but {why}", name(first))),
        None => {
            Verdict::Broken(Finding { sentence: sentence(look, &zombies, host), count: zombies.len() as u64 })
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
    let due_us = facts.runs().iter().map(|run| reaped_by_us(facts, run)).max().unwrap_or(0);
    (look.at_us < due_us).then(|| "the look was taken before there was time to reap it".to_owned())
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
    use crate::trace::Reason;
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
}
