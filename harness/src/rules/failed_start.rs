//! S10: what a start that failed left behind.

use fake_cli::script::Step;

use super::directed::{TIMEOUT, run, scenario, wait};
use super::facts::{Facts, Run};
use super::verdicts::{broken, together};
use super::witness::{Sighting, finding, is_dead, missed, name, sightings};
use crate::scenario::{Hindrance, Op, Scenario};
use crate::trace::{Look, Seen, Stage};
use crate::verdict::Verdict;

/// Most descriptors that are left in the directed scenarios: more than a start with three pipes needs.
const MOST_LEFT: u32 = 9;

pub(super) fn judge(facts: &Facts<'_>) -> Verdict {
    if let Some(fault) = facts.fault() {
        return fault;
    }
    let verdicts = facts.runs().iter().map(|run| judge_run(facts, run).unwrap_or_else(Verdict::Vacuous));
    together(verdicts, || facts.because("no run was started"))
}

/// The verdict on a run, or why it does not test the rule.
pub(super) fn judge_run(facts: &Facts<'_>, run: &Run<'_>) -> Result<Verdict, String> {
    if run.stops.iter().any(|stop| stop.verb.ends_host()) {
        return Err("the host was ended, which P1 and P2 judge".to_owned());
    }
    if !run.start_failed() {
        return Err(facts.because("the start did not fail"));
    }
    if facts.host_fell_silent() {
        return Err("the host never finished".to_owned());
    }
    let over_us = run.over_us().or_else(|| facts.host_gone().map(|(gone_us, _)| gone_us));
    let Some(over_us) = over_us else {
        return Err("the trace does not say when the start had failed".to_owned());
    };
    let stage = if facts.is_template() { Stage::HostGone } else { Stage::Quiesce };
    let Some(look) = facts.look(stage) else {
        return Ok(Verdict::Unknown("nobody looked who was there after the failed start".to_owned()));
    };
    let (nodes, others): (Vec<_>, Vec<_>) = sightings(facts, look)
        .into_iter()
        .filter(|sighting| sighting.seen.node.as_ref().is_none_or(|(of, _)| *of == run.number))
        .partition(|sighting| sighting.seen.node.is_some());
    let after = match run.hindered_by {
        Some(hindrance) => format!("the start failed by {}", hindrance.told()),
        None => "the start failed".to_owned(),
    };
    let left = Left { facts, look, over_us, after };
    Ok(together([left.nodes(&nodes), left.zombies(), left.others(&others)], String::new))
}

/// What a look saw after a start that failed.
struct Left<'f, 'a> {
    facts: &'f Facts<'a>,
    look: &'f Look,
    over_us: u64,
    after: String,
}

impl Left<'_, '_> {
    fn later_us(&self) -> u64 {
        self.look.at_us.saturating_sub(self.over_us)
    }

    /// Whether everyone had the time to go: what the wrapper had started may be asked first.
    fn is_due(&self) -> bool {
        self.later_us() >= self.facts.grace_us().unwrap_or(0).saturating_add(self.facts.settle_us())
    }

    fn nodes(&self, nodes: &[Sighting<'_>]) -> Verdict {
        let certain: Vec<&Seen> =
            nodes.iter().filter(|node| node.doubt.is_none()).map(|node| node.seen).collect();
        match (certain.as_slice(), nodes.iter().find_map(|node| node.doubt.clone())) {
            ([], Some(doubt)) => Verdict::Unknown(doubt),
            ([], None) => missed(self.facts, self.look).map_or(Verdict::Kept, Verdict::Unknown),
            ([first, ..], _) if !self.is_due() => Verdict::Unknown(format!(
                "{} was alive, but the look was taken before it had to be gone",
                name(first)
            )),
            (left, _) => Verdict::Broken(finding(self.look, left, &self.after, self.later_us())),
        }
    }

    /// A child that died before it became the program, and that nobody reaped.
    fn zombies(&self) -> Verdict {
        let host = self.facts.host_pid();
        let is_hosts = |seen: &&Seen| is_dead(seen) && seen.node.is_none() && Some(seen.ppid) == host;
        let Some(zombie) = self.look.seen.iter().find(is_hosts) else { return Verdict::Kept };
        let listed = self.look.sysinfo.as_ref().is_some_and(|pids| pids.contains(&zombie.pid));
        if listed && self.is_due() && zombie.age_us > self.facts.settle_us() {
            broken(format!("{} was left as a zombie of the host after {}", name(zombie), self.after))
        } else {
            Verdict::Unknown(format!(
                "{} was a zombie of the host, and perhaps about to be reaped",
                name(zombie)
            ))
        }
    }

    fn others(&self, others: &[Sighting<'_>]) -> Verdict {
        match others.first() {
            None => Verdict::Kept,
            Some(other) => Verdict::Unknown(format!(
                "{} was there after {}; whether the host keeps it as a helper cannot be said",
                name(other.seen),
                self.after
            )),
        }
    }
}

// ---- Directed scenarios ----

pub(super) fn directed() -> Vec<Scenario> {
    let hindered = |name: &str, why: &str, hindrance: Hindrance| {
        let ops = vec![Op { hindered_by: Some(hindrance), ..run() }, wait()];
        scenario(name, why, &["S10"], vec![Step::Hang], ops)
    };
    let mut scenarios = vec![
        hindered(
            "start-missing-program",
            "The commonest failed start: the program is not there. What was made ready for it must go.",
            Hindrance::MissingProgram,
        ),
        hindered(
            "start-not-executable",
            "The program is there and may not be executed: whoever looked for it beforehand finds it and fails in the child.",
            Hindrance::NotExecutable,
        ),
        hindered(
            "start-without-interpreter",
            "The file is there and executable, and the exec fails all the same, as late as a start can fail.",
            Hindrance::BadInterpreter,
        ),
        hindered(
            "start-at-the-process-limit",
            "The fork itself fails, when pipes and helpers may be there already.",
            Hindrance::NoProcess,
        )
        .with_timeout(TIMEOUT),
    ];
    scenarios.extend((0..=MOST_LEFT).map(|left| {
        hindered(
            &format!("start-with-{left}-descriptors"),
            "Descriptors run out somewhere in the start: if that is after the fork, there is a child that nobody knows.",
            Hindrance::DescriptorsLeft(left),
        )
        .with_timeout(TIMEOUT)
    }));
    scenarios
}

#[cfg(test)]
mod tests {
    use super::super::by_hand::{Hand, assert_verdict, because, case, steps};
    use super::*;
    use crate::trace::{Reason, Status};
    use crate::verdict::VerdictKind::{Broken, Kept, Unknown, Vacuous};

    fn hindered(hindrance: Hindrance) -> Hand {
        case(steps(r#"["hang"]"#)).hindered_run(0, hindrance)
    }

    fn failed(hindrance: Hindrance) -> Hand {
        hindered(hindrance).ended(5, because(Reason::StartFailed("no".to_owned())))
    }

    #[test]
    fn nobody_left_is_kept() {
        for hindrance in [Hindrance::MissingProgram, Hindrance::DescriptorsLeft(3)] {
            assert_verdict(&failed(hindrance).look(Stage::Quiesce, vec![]), judge, Kept, "");
        }
        let incomplete = failed(Hindrance::MissingProgram).look(Stage::Quiesce, vec![]);
        let incomplete = incomplete.with(|trace| trace.looks[0].complete = false);
        assert_verdict(&incomplete, judge, Unknown, "did not see everyone");
        assert_verdict(&failed(Hindrance::MissingProgram), judge, Unknown, "nobody looked");
    }

    #[test]
    fn a_child_that_was_left_is_named() {
        let left = || hindered(Hindrance::DescriptorsLeft(3)).hello(3, "root");
        let failed = || left().ended(5, because(Reason::StartFailed("no".to_owned())));
        let leaky = failed().look_sees(Stage::Quiesce, &["root"]);
        assert_verdict(&leaky, judge, Broken, "after the start failed by a limit that left 3 descriptors");
        let once = leaky.with(|trace| trace.looks[0].seen[0].samples = 1);
        assert_verdict(&once, judge, Unknown, "only once");
        let survivor = failed().survivor("root");
        let soon = failed().look_at(Stage::Quiesce, 100, vec![survivor]);
        assert_verdict(&soon, judge, Unknown, "before it had to be gone");
        let started = left().ended(200, because(Reason::TimedOut)).look_sees(Stage::Quiesce, &["root"]);
        assert_verdict(&started, judge, Vacuous, "did not fail");
    }

    #[test]
    fn a_zombie_of_the_host_was_left_and_a_stranger_may_be_a_helper() {
        let seen = hindered(Hindrance::NoProcess).hello(3, "root").survivor("root");
        let host = super::super::by_hand::HOST;
        let stranger =
            |state| Seen { node: None, connected: false, ppid: host, state, samples: 2, ..seen.clone() };
        let with = |seen: Seen| {
            let pid = seen.pid;
            let hand = failed(Hindrance::NoProcess).look(Stage::Quiesce, vec![seen]);
            hand.with(|trace| trace.looks[0].sysinfo = Some(vec![pid]))
        };
        assert_verdict(&with(stranger('Z')), judge, Broken, "zombie of the host");
        assert_verdict(&with(stranger('S')), judge, Unknown, "helper");
        let unlisted = with(stranger('Z')).with(|trace| trace.looks[0].sysinfo = None);
        assert_verdict(&unlisted, judge, Unknown, "about to be reaped");
    }

    #[test]
    fn a_command_that_cannot_say_so_has_failed_where_the_program_made_it_certain() {
        let over = |hindrance| {
            let hand = hindered(hindrance).template().host_gone(5, Status::Exited(127));
            hand.ended(5, because(Reason::Unsaid)).look(Stage::HostGone, vec![])
        };
        assert_verdict(&over(Hindrance::NotExecutable), judge, Kept, "");
        assert_verdict(&over(Hindrance::NoProcess), judge, Vacuous, "did not fail");
    }

    #[test]
    fn a_host_that_was_ended_or_fell_silent_shows_nothing() {
        let killed = failed(Hindrance::MissingProgram).kill_host(7).look(Stage::HostGone, vec![]);
        assert_verdict(&killed, judge, Vacuous, "P1 and P2");
        assert_verdict(&failed(Hindrance::MissingProgram).silent(), judge, Vacuous, "never finished");
        assert_verdict(&failed(Hindrance::MissingProgram).our_fault(), judge, Unknown, "harness could not");
    }
}
