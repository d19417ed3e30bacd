//! S: survivors.
//!
//! Each survivor is charged to one rule. If it left the root's group, or is deaf while the root obeyed, to the rule of that escape (S4, S5, S6, S7,
//! S11); if it was born when the stop was under way, to S8. Otherwise to the rule of what ended the run: S1, S2, S3 or S9. A start that failed
//! has rule S10 to itself. After the root's own end an escape is charged only to a subject that promises to end what is left: leaving a daemon behind on
//! purpose is nobody's leak. When the host was ended from outside, P1 and P2 judge, and none of these.

use fake_cli::script::{Place, ROOT, Signal, Step, Then};

use super::directed::{
    TIMEOUT, after, await_event, emit, on_term, once_ready, once_started, ready_and_hang, run, scenario,
    start, start_hanging, to_the_end,
};
use super::ending::{Cause, Ending, ending, is_cancel, shown_us};
use super::facts::{Facts, Node, Run};
use super::standing::{Answer, Hearing, Ids, Standing, cleaned_up_us, last_hearing, standing, standing_of};
use super::witness::{Sighting, finding, is_dead, missed, name, only_nodes_are_left, sightings};
use super::{Judged, Rule, as_catalogued, failed_start};
use crate::promises::{Keeps, Leftovers, Promises, Reach};
use crate::scenario::{Op, Scenario, Verb};
use crate::syscalls::CallKind;
use crate::trace::{Look, Seen, Stage, Status};
use crate::verdict::{Level, Verdict};

const MEASURED: &str = "After the op the harness waits for everyone to go, until a generous cap; then it reads from the kernel who is a \
    member of the case and asks the control connection of each.";
const GUARD: &str = "Two witnesses must agree: the kernel's membership, sampled twice with the same identity, and the open control connection. \
    If they disagree, or the look was not complete, the verdict is unknown.";

const LATE_GUARD: &str = "Two witnesses must agree on each survivor, as in S1. Who was forked by somebody who survives too is charged to that one's \
    rule: nobody was to be found there. What a root forks that nobody had asked is charged to what ended the run.";
const FAILED_START_MEASURED: &str = "The program is missing, not executable or without its interpreter, or the host's own limits leave no process or too few \
    descriptors. When the start has failed the harness waits for everyone to go, and then reads from the kernel who is there.";
const FAILED_START_GUARD: &str = "That the start failed is certain where the program makes it so, else the wrapper must say so. Two witnesses must agree on a node. A \
    process that is no node may be a helper of the host's own: unknown.";

/// The rules of this family.
pub(super) fn rules() -> Vec<Rule> {
    let rule = |id, title, level, sentence, judge, directed| Rule {
        id,
        title,
        level,
        sentence,
        measured: MEASURED,
        guard: GUARD,
        weigh: as_catalogued,
        judged: Judged::Trace { judge, directed },
    };
    let escape = |id, title, sentence, judge, directed| Rule {
        weigh: weigh_escape,
        ..rule(id, title, Level::Must, sentence, judge, directed)
    };
    vec![
        rule(
            "S1",
            "none alive after a cancel",
            Level::Must,
            "After a cancel, no process of the child's group is left alive.",
            judge_s1,
            directed_s1,
        ),
        rule(
            "S2",
            "none alive after a timeout",
            Level::Must,
            "After the wrapper's own timeout, no process of the child's group is left alive.",
            judge_s2,
            directed_s2,
        ),
        Rule {
            weigh: weigh_leftovers,
            ..rule(
                "S3",
                "none left by a clean exit",
                Level::Should,
                "When the child exits by itself, what it left behind in its group is ended.",
                judge_s3,
                directed_s3,
            )
        },
        escape(
            "S4",
            "none in an own session",
            "A stop also ends processes that called setsid.",
            judge_s4,
            directed_s4,
        ),
        escape(
            "S5",
            "none daemonised",
            "A stop also ends processes that became daemons: fork, setsid, fork, the middle one gone.",
            judge_s5,
            directed_s5,
        ),
        escape(
            "S6",
            "none in another group",
            "A stop also ends processes that moved to another process group of the child's session.",
            judge_s6,
            directed_s6,
        ),
        escape(
            "S7",
            "none under another subreaper",
            "A stop also ends processes that left the group and were adopted by another subreaper within the tree.",
            judge_s7,
            directed_s7,
        ),
        Rule {
            guard: LATE_GUARD,
            ..rule(
                "S8",
                "none forked before the kill",
                Level::Must,
                "A stop also ends processes that were forked between the wrapper's look and its kill.",
                judge_s8,
                directed_s8,
            )
        },
        rule(
            "S9",
            "none alive after a drop",
            Level::Must,
            "After the handle was dropped, no process of the child's group is left alive.",
            judge_s9,
            directed_s9,
        ),
        Rule {
            measured: FAILED_START_MEASURED,
            guard: FAILED_START_GUARD,
            ..rule(
                "S10",
                "none after a failed start",
                Level::Must,
                "A start that failed leaves no process behind.",
                failed_start::judge,
                failed_start::directed,
            )
        },
        rule(
            "S11",
            "none deaf behind a polite leader",
            Level::Must,
            "When the leader exits on TERM and another process of its group does not, that one is killed at the end of the grace.",
            judge_s11,
            directed_s11,
        ),
    ]
}

fn weigh_escape(promises: &Promises) -> Option<Level> {
    (promises.reach == Reach::Group).then_some(Level::Should)
}

fn weigh_leftovers(promises: &Promises) -> Option<Level> {
    (promises.leftovers == Leftovers::Clean).then_some(Level::Must)
}

// ---- Judging ----

/// A run that something ended, as a rule looks at it.
struct Scene<'f, 'a> {
    facts: &'f Facts<'a>,
    run: &'f Run<'a>,
    cause: Cause,
    /// When that was, at the earliest.
    at_us: u64,
    /// When that showed.
    shown_us: u64,
    doubt: Option<String>,
}

/// What a rule of this family is about.
struct Question {
    /// What must have ended the run.
    causes: &'static [Cause],
    /// Why the run does not test the rule, if so.
    untested: fn(&Scene<'_, '_>) -> Option<String>,
    /// Whether a survivor is this rule's.
    charged: fn(Charge) -> bool,
}

/// To what a survivor is charged.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Charge {
    /// To what ended the run: it stayed in the root's group.
    Ending,
    /// To the rule of its escape.
    Escape(Standing),
    /// To S11: it is deaf and the root obeyed.
    Deaf,
    /// To what ended the run or to S11: how the root died cannot be said.
    EndingOrDeaf,
    /// To S8: it was born when the stop was under way.
    Late,
    /// To nobody: it is the host's own helper.
    Helper,
    /// Whose it is cannot be said.
    Unclear,
}

const BY_ENDING: fn(Charge) -> bool = |charge| charge == Charge::Ending;
const STOPS: &[Cause] = &[Cause::Cancelled, Cause::TimedOut, Cause::Dropped];
const STOPS_AND_EXIT: &[Cause] = &[Cause::Cancelled, Cause::TimedOut, Cause::Dropped, Cause::Itself];

fn judge_s1(facts: &Facts<'_>) -> Verdict {
    if facts.cannot(Verb::Cancel) {
        return Verdict::NotRun("the subject cannot cancel".to_owned());
    }
    judge(facts, &Question { causes: &[Cause::Cancelled], untested: |_| None, charged: BY_ENDING })
}

fn judge_s2(facts: &Facts<'_>) -> Verdict {
    if facts.promises().timeout == Keeps::Not {
        return Verdict::NotRun("the subject has no timeout".to_owned());
    }
    judge(facts, &Question { causes: &[Cause::TimedOut], untested: |_| None, charged: BY_ENDING })
}

fn judge_s3(facts: &Facts<'_>) -> Verdict {
    if facts.promises().leftovers == Leftovers::Leave {
        return Verdict::NotRun("the subject declares that it leaves what the child leaves".to_owned());
    }
    let untested = |scene: &Scene<'_, '_>| {
        let left_behind = scene.nodes_in_time(Standing::Stayed).any(|node| node.name != ROOT);
        (!left_behind).then(|| "the root left nobody of its group behind".to_owned())
    };
    judge(facts, &Question { causes: &[Cause::Itself], untested, charged: BY_ENDING })
}

fn judge_s4(facts: &Facts<'_>) -> Verdict {
    let untested =
        |scene: &Scene<'_, '_>| scene.without(Standing::OwnSession, "no node with a session of its own");
    judge_escape(facts, untested, |charge| charge == Charge::Escape(Standing::OwnSession))
}

fn judge_s5(facts: &Facts<'_>) -> Verdict {
    let untested = |scene: &Scene<'_, '_>| scene.without(Standing::Daemonised, "no daemon");
    judge_escape(facts, untested, |charge| charge == Charge::Escape(Standing::Daemonised))
}

fn judge_s6(facts: &Facts<'_>) -> Verdict {
    let untested = |scene: &Scene<'_, '_>| scene.without(Standing::OwnGroup, "no node in a group of its own");
    judge_escape(facts, untested, |charge| charge == Charge::Escape(Standing::OwnGroup))
}

fn judge_s7(facts: &Facts<'_>) -> Verdict {
    let untested = |scene: &Scene<'_, '_>| {
        scene.without(Standing::Adopted, "nobody who left the group and was adopted by another node")
    };
    judge_escape(facts, untested, |charge| charge == Charge::Escape(Standing::Adopted))
}

fn judge_s8(facts: &Facts<'_>) -> Verdict {
    let untested = |scene: &Scene<'_, '_>| {
        let tests = |node: &&Node<'_>| {
            scene.is_late(node) && node.exiting().is_none() && !scene.forker_survived(node)
        };
        let stayed = |node: &&Node<'_>| scene.stands(node) == Some(Standing::Stayed);
        let any = scene.run.nodes.iter().filter(stayed).any(|node| tests(&node));
        (!any).then(|| "nobody was forked in the root's group while the stop was under way".to_owned())
    };
    judge(facts, &Question { causes: STOPS, untested, charged: |charge| charge == Charge::Late })
}

fn judge_escape(
    facts: &Facts<'_>,
    untested: fn(&Scene<'_, '_>) -> Option<String>,
    charged: fn(Charge) -> bool,
) -> Verdict {
    let causes = if facts.promises().leftovers == Leftovers::Clean { STOPS_AND_EXIT } else { STOPS };
    judge(facts, &Question { causes, untested, charged })
}

fn judge_s9(facts: &Facts<'_>) -> Verdict {
    if facts.is_template() {
        return Verdict::NotRun("a command has no handle that could be dropped".to_owned());
    }
    if facts.cannot(Verb::Drop) {
        return Verdict::NotRun("the subject cannot drop".to_owned());
    }
    judge(facts, &Question { causes: &[Cause::Dropped], untested: |_| None, charged: BY_ENDING })
}

fn judge_s11(facts: &Facts<'_>) -> Verdict {
    let untested = |scene: &Scene<'_, '_>| {
        let deaf = |node: &Node<'_>| node.name != ROOT && scene.hearing(node).is_deaf();
        if !scene.nodes_in_time(Standing::Stayed).any(deaf) {
            return Some("no node of the root's group but the root is deaf to TERM".to_owned());
        }
        match scene.leader() {
            Leader::Obeyed | Leader::Unclear => None,
            Leader::Killed => Some("the root was killed without being asked by TERM".to_owned()),
            Leader::Disobeyed => Some("the root did not exit on TERM".to_owned()),
        }
    };
    judge(facts, &Question { causes: STOPS, untested, charged: |charge| charge == Charge::Deaf })
}

/// What was found over all runs of a case.
#[derive(Default)]
struct Tally {
    tested: bool,
    untested: Option<String>,
    unknown: Option<String>,
    broken: Option<Verdict>,
}

fn judge(facts: &Facts<'_>, question: &Question) -> Verdict {
    if let Some(fault) = facts.fault() {
        return fault;
    }
    let mut tally = Tally::default();
    for run in facts.runs() {
        match scene(facts, run, question) {
            Ok(scene) => scene.judge(question, &mut tally),
            Err(why) => {
                tally.untested.get_or_insert(why);
            }
        }
    }
    match tally {
        Tally { broken: Some(verdict), .. } => verdict,
        Tally { unknown: Some(why), .. } => Verdict::Unknown(why),
        Tally { tested: true, .. } => Verdict::Kept,
        Tally { untested, .. } => {
            Verdict::Vacuous(untested.unwrap_or_else(|| facts.because("no run was started")))
        }
    }
}

/// The run as the question wants it, or why it does not test the rule.
fn scene<'f, 'a>(
    facts: &'f Facts<'a>,
    run: &'f Run<'a>,
    question: &Question,
) -> Result<Scene<'f, 'a>, String> {
    let (cause, at_us, doubt) = match ending(facts, run) {
        Ending::By { cause, at_us, doubt } => (cause, at_us, doubt),
        Ending::None(why) => return Err(why),
    };
    if run.stops.iter().any(|stop| stop.verb.ends_host() && !is_cancel(facts, stop.verb)) {
        return Err("the host was ended, which P1 and P2 judge".to_owned());
    }
    if run.start_failed() {
        return Err("its start failed, which S10 judges".to_owned());
    }
    if !question.causes.contains(&cause) {
        return Err(format!("the run {}, which is not what this rule is about", cause.told()));
    }
    let shown_us = shown_us(run, cause, at_us);
    let scene = Scene { facts, run, cause, at_us, shown_us, doubt };
    match (question.untested)(&scene) {
        Some(why) => Err(why),
        None => Ok(scene),
    }
}

impl Scene<'_, '_> {
    fn judge(&self, question: &Question, tally: &mut Tally) {
        let Some(look) = self.look() else {
            let why = "nobody looked who was alive after the run";
            if self.facts.host_fell_silent() {
                tally.untested.get_or_insert_with(|| format!("the host never finished, so {why}"));
            } else {
                tally.unknown.get_or_insert_with(|| why.to_owned());
            }
            return;
        };
        let mut untested = None;
        let mut survivors = Vec::new();
        for sighting in sightings(self.facts, look).iter().filter(|sighting| self.concerns(sighting.seen)) {
            match self.weigh(look, sighting, question) {
                Found::Survivor => survivors.push(sighting.seen),
                Found::Perhaps(why) => {
                    tally.unknown.get_or_insert(why);
                }
                Found::Untested(why) => untested = Some(why),
                Found::OfNoConcern => {}
            }
        }
        match untested {
            Some(why) if survivors.is_empty() => {
                tally.untested.get_or_insert(why);
                return;
            }
            _ => tally.tested = true,
        }
        if survivors.is_empty() {
            if let Some(why) = missed(self.facts, look) {
                tally.unknown.get_or_insert(why);
            }
        } else if let Some(doubt) = &self.doubt {
            tally.unknown.get_or_insert_with(|| format!("{} was left, but {doubt}", name(survivors[0])));
        } else if tally.broken.is_none() {
            let later_us = look.at_us.saturating_sub(self.at_us);
            tally.broken = Some(Verdict::Broken(finding(look, &survivors, self.cause.after(), later_us)));
        }
    }

    /// The look that shows what this run left: with the host alive; for a command, whose exit is the end of the run,
    /// after that. A host that fell silent is ended by the harness, so what is seen then says nothing.
    fn look(&self) -> Option<&Look> {
        let stage = if self.facts.is_template() { Stage::HostGone } else { Stage::Quiesce };
        self.facts.look(stage).filter(|_| !self.facts.host_fell_silent())
    }

    fn weigh(&self, look: &Look, sighting: &Sighting<'_>, question: &Question) -> Found {
        let seen = sighting.seen;
        let charge = self.charge(seen);
        let unclear = || format!("{} was left; to which rule it is to be charged cannot be said", name(seen));
        match charge {
            Charge::Unclear => return Found::Perhaps(unclear()),
            Charge::Late if (question.charged)(Charge::Ending) => {
                let why = "was left, but was born when the stop was under way, which S8 is about";
                return Found::Untested(format!("{} {why}", name(seen)));
            }
            Charge::Late if self.node_of(seen).is_some_and(|node| self.forker_survived(node)) => {
                return Found::OfNoConcern;
            }
            // A survivor for certain; other cases show whose.
            Charge::EndingOrDeaf if [Charge::Ending, Charge::Deaf].into_iter().any(question.charged) => {
                return Found::Untested(unclear());
            }
            _ => {}
        }
        if !(question.charged)(charge) {
            return Found::OfNoConcern;
        }
        if let Some(doubt) = &sighting.doubt {
            return Found::Perhaps(doubt.clone());
        }
        let due_us = self.due_us(look, seen);
        if look.at_us < due_us {
            return Found::Perhaps(format!(
                "{} was alive, but the look was taken before everyone had to be gone",
                name(seen)
            ));
        }
        // Who was to end it after the drop may have waited for a processor.
        if self.cause == Cause::Dropped && self.facts.may_be_late(due_us, look.at_us) {
            return Found::Perhaps(format!(
                "{} was alive when everyone had to be gone; this machine's noise may explain that",
                name(seen)
            ));
        }
        Found::Survivor
    }

    /// When a process has to be gone: at once if nobody is left who could end it, except that whoever was asked may
    /// finish its clean-up. A dropped handle leaves the grace to be climbed after it.
    fn due_us(&self, look: &Look, seen: &Seen) -> u64 {
        let cleaned_up_us = seen
            .node
            .as_ref()
            .and_then(|(_, name)| self.run.node(name))
            .and_then(|node| cleaned_up_us(self.script(), node))
            .map_or(0, |cleaned_up_us| cleaned_up_us.saturating_add(self.facts.slack_us()));
        if look.stage == Stage::HostGone && only_nodes_are_left(look) {
            return cleaned_up_us;
        }
        let over_us = match (self.cause, self.facts.grace_us()) {
            (Cause::Dropped, Some(grace_us)) => self.at_us.saturating_add(grace_us),
            (Cause::Dropped, None) => u64::MAX,
            _ => self.run.over_us().unwrap_or(self.at_us),
        };
        over_us.saturating_add(self.facts.slack_us()).max(cleaned_up_us)
    }

    /// Whether a process may be of this run.
    fn concerns(&self, seen: &Seen) -> bool {
        seen.node.as_ref().is_none_or(|(run, _)| *run == self.run.number)
    }

    fn charge(&self, seen: &Seen) -> Charge {
        let Some((_, node)) = &seen.node else { return self.charge_stranger(seen) };
        let ids = Ids { pgid: seen.pgid, sid: seen.sid };
        match standing(self.script(), self.run, node, ids) {
            None => Charge::Unclear,
            Some(Standing::Stayed) => self.charge_stayed(node),
            Some(escaped) => Charge::Escape(escaped),
        }
    }

    fn charge_stayed(&self, node: &str) -> Charge {
        let is_deaf = |node: &Node<'_>| self.hearing(node).is_deaf();
        if node == ROOT || self.cause == Cause::Itself {
            return Charge::Ending;
        }
        let Some(node) = self.run.node(node) else { return Charge::Unclear };
        if self.is_late(node) {
            return Charge::Late;
        }
        if !is_deaf(node) {
            return Charge::Ending;
        }
        match self.leader() {
            Leader::Obeyed => Charge::Deaf,
            Leader::Unclear => Charge::EndingOrDeaf,
            Leader::Killed | Leader::Disobeyed => Charge::Ending,
        }
    }

    /// A process that is no node is the run's if it stands between host and root, or in a group that was made for the run.
    fn charge_stranger(&self, seen: &Seen) -> Charge {
        let Some(root) = self.run.root().and_then(|root| root.hello) else { return Charge::Unclear };
        let host = self.facts.host_pid();
        let launched_it = seen.pid == root.ppid && host != Some(seen.pid);
        let group_of_the_run =
            root.pgid == root.pid || host.is_some_and(|host| root.pgid != host) && root.pgid == root.ppid;
        if launched_it || group_of_the_run && seen.pgid == root.pgid {
            Charge::Ending
        } else if host == Some(seen.ppid) {
            Charge::Helper
        } else {
            Charge::Unclear
        }
    }

    fn script(&self) -> &[Step] {
        &self.facts.trace.scenario.script
    }

    fn node_of(&self, seen: &Seen) -> Option<&Node<'_>> {
        seen.node.as_ref().and_then(|(_, name)| self.run.node(name))
    }

    fn stands(&self, node: &Node<'_>) -> Option<Standing> {
        standing_of(self.script(), self.run, node)
    }

    /// Whether a node was born when the stop was under way: somebody had been asked by then, or whoever forked it is not the
    /// root. For a wrapper that kills the root alone and unasked it makes no difference when the root forks.
    fn is_late(&self, node: &Node<'_>) -> bool {
        let Some(born_us) = node.hello_us().filter(|born_us| *born_us > self.shown_us) else { return false };
        let was_asked = |node: &Node<'_>| node.asked_us().is_some_and(|asked_us| asked_us <= born_us);
        let forker = node.hello.map(|hello| hello.ppid);
        let is_forker = |node: &Node<'_>| node.hello.map(|hello| hello.pid) == forker && node.name != ROOT;
        self.run.nodes.iter().any(|other| was_asked(other) || is_forker(other))
    }

    /// Whether who forked a node was left as well.
    fn forker_survived(&self, node: &Node<'_>) -> bool {
        let forker = node.hello.map(|hello| hello.ppid);
        let is_forker = |seen: &Seen| Some(seen.pid) == forker && self.node_of(seen).is_some();
        self.look().is_some_and(|look| look.seen.iter().any(|seen| is_forker(seen) && !is_dead(seen)))
    }

    /// How a node heard TERM when it died, or was seen to survive.
    fn hearing(&self, node: &Node<'_>) -> Hearing {
        last_hearing(self.script(), node)
    }

    /// The nodes that stood there when the run was ended.
    fn nodes_in_time(&self, wanted: Standing) -> impl Iterator<Item = &Node<'_>> {
        let there = |node: &&Node<'_>| {
            let born = node.hello_us().is_some_and(|born_us| born_us <= self.shown_us);
            born && node.dead_us().is_none_or(|dead_us| dead_us > self.at_us)
        };
        let there = self.run.nodes.iter().filter(move |node| node.name == ROOT || there(node));
        there.filter(move |node| self.stands(node) == Some(wanted))
    }

    fn without(&self, wanted: Standing, why: &str) -> Option<String> {
        let any = self.nodes_in_time(wanted).any(|node| node.name != ROOT);
        (!any).then(|| format!("{why} was there in time"))
    }

    /// How the root came to its end.
    fn leader(&self) -> Leader {
        let Some(root) = self.run.root() else { return Leader::Unclear };
        let Some(dead_us) = root.dead_us() else { return Leader::Disobeyed };
        let heard = self.hearing(root);
        let asked = root.reported(Signal::Term).is_some();
        match (asked, root.exiting()) {
            // Also one that was stopped and was continued in order to answer.
            (true, Some(_)) => return Leader::Obeyed,
            (true, None) => {
                // Its last words may be lost; whoever lived for as long as it needed has had its way.
                let cleaned_up_us = cleaned_up_us(self.script(), root).unwrap_or(0);
                let finished = heard.answer != Answer::GoesOn && dead_us >= cleaned_up_us;
                return if finished { Leader::Obeyed } else { Leader::Disobeyed };
            }
            (false, _) if heard.answer == Answer::GoesOn => return Leader::Disobeyed,
            (false, _) if heard.reports => return Leader::Killed,
            (false, _) => {}
        }
        // A command's own status is not its child's.
        let outcome = self.run.ended.filter(|_| !self.facts.is_template());
        let status = outcome.and_then(|(_, outcome)| outcome.status);
        let others_asked = self.run.nodes.iter().any(|node| node.reported(Signal::Term).is_some());
        match status {
            Some(Status::Signaled(signal)) if signal == Signal::Term.number() => Leader::Obeyed,
            Some(Status::Signaled(signal)) if signal == Signal::Kill.number() => Leader::Killed,
            _ if others_asked && !heard.stopped => Leader::Obeyed,
            _ => Leader::Unclear,
        }
    }
}

/// What a sighting means for a rule.
enum Found {
    Survivor,
    Perhaps(String),
    Untested(String),
    OfNoConcern,
}

/// How the root came to its end after a stop.
enum Leader {
    /// It was asked by TERM and exited.
    Obeyed,
    /// It was killed without being asked.
    Killed,
    /// It was deaf, stopped, or is still there.
    Disobeyed,
    /// It is dead, by TERM or by KILL.
    Unclear,
}

// ---- Directed scenarios ----

/// A root beside a node that stands there, both of which hang.
fn hanging_beside(node: &str, place: Place) -> Vec<Step> {
    [vec![start_hanging(node, place)], ready_and_hang().to_vec()].concat()
}

fn until_timeout() -> Vec<Op> {
    to_the_end()
}

fn directed_s1() -> Vec<Scenario> {
    let cancel = || once_ready(Verb::Cancel);
    vec![
        scenario(
            "cancel-tree",
            "The plainest leak: the wrapper ends the child and forgets the child's child.",
            &["S1"],
            hanging_beside("helper", Place::SameGroup),
            cancel(),
        ),
        scenario(
            "cancel-orphan",
            "A double fork without setsid stays in the group: its parent is gone, so a walk over children misses it and the group's kill reaches it.",
            &["S1"],
            hanging_beside("orphan", Place::Orphan),
            cancel(),
        ),
        scenario(
            "cancel-deaf-root",
            "A child that ignores TERM must be killed when the grace is over.",
            &["S1", "D4"],
            [vec![on_term(Then::Ignore)], hanging_beside("helper", Place::SameGroup)].concat(),
            cancel(),
        ),
        scenario(
            "cancel-blocked-term",
            "A blocked signal stays pending and no handler can see it; only KILL helps, as with an ignored one.",
            &["S1", "D4"],
            [vec![on_term(Then::Block)], ready_and_hang().to_vec()].concat(),
            cancel(),
        ),
        scenario(
            "cancel-stopped-child",
            "A stopped process answers no TERM until it is continued; KILL ends it all the same.",
            &["S1", "D4"],
            vec![
                start("sleeper", Place::SameGroup, vec![Step::Stop, Step::Hang]),
                await_event("sleeper.did-0"),
                emit("ready"),
                Step::Hang,
            ],
            cancel(),
        ),
        scenario(
            "cancel-twice-within-the-grace",
            "The second cancel inside the first one's grace finds the most: the first one's clean-up is often abandoned half-way.",
            &["S1", "K5", "D4"],
            [vec![Step::LogSignals], hanging_beside("helper", Place::SameGroup)].concat(),
            vec![run(), once_started(Verb::Cancel), after("root.TERM", Verb::Cancel)],
        ),
        scenario(
            "cancel-after-stdout-was-closed",
            "The end of the output is not the end of the child; a wrapper that takes it for one stops looking.",
            &["S1"],
            vec![
                start_hanging("helper", Place::SameGroup),
                Step::Close(fake_cli::script::Stdio::Stdout),
                Step::Close(fake_cli::script::Stdio::Stderr),
                emit("ready"),
                Step::Hang,
            ],
            cancel(),
        ),
        scenario(
            "cancel-with-empty-environment",
            "A mark in the environment does not find a process that cleared it.",
            &["S1"],
            vec![
                start("bare", Place::SameGroup, vec![Step::ClearEnvironment, emit("bare"), Step::Hang]),
                await_event("bare.bare"),
                emit("ready"),
                Step::Hang,
            ],
            cancel(),
        ),
    ]
}

fn directed_s2() -> Vec<Scenario> {
    vec![
        scenario(
            "timeout-tree",
            "At its own timeout a wrapper often kills the child alone, and the child's child lives on.",
            &["S2", "D1", "D2"],
            hanging_beside("helper", Place::SameGroup),
            until_timeout(),
        )
        .with_timeout(TIMEOUT),
        scenario(
            "timeout-deaf-root",
            "A child that ignores TERM must not outlive the timeout and the grace.",
            &["S2", "D1", "D2", "D5"],
            [vec![Step::LogSignals], hanging_beside("helper", Place::SameGroup)].concat(),
            until_timeout(),
        )
        .with_timeout(TIMEOUT),
    ]
}

fn directed_s3() -> Vec<Scenario> {
    vec![
        scenario(
            "exit-leaves-child",
            "The child exits by itself and leaves a quiet process of its group behind: nobody asked for that one, and nobody ends it.",
            &["S3"],
            vec![start_hanging("leftover", Place::SameGroup), emit("ready"), Step::Exit(0)],
            to_the_end(),
        ),
        scenario(
            "exit-leaves-orphan",
            "As before, with a leftover that lost its parent long ago.",
            &["S3"],
            vec![start_hanging("leftover", Place::Orphan), emit("ready"), Step::Exit(3)],
            to_the_end(),
        ),
    ]
}

/// The same escape in each of the ways to stop a run.
fn escapes(place: Place, rule: &str, kind: &str, why: &str) -> Vec<Scenario> {
    let name = |way: &str| format!("{way}-{kind}");
    let script = || hanging_beside("escaped", place);
    vec![
        scenario(&name("cancel"), why, &[rule], script(), once_ready(Verb::Cancel)),
        scenario(&name("timeout"), why, &[rule], script(), until_timeout()).with_timeout(TIMEOUT),
        scenario(&name("drop"), why, &[rule], script(), once_ready(Verb::Drop)),
    ]
}

fn directed_s4() -> Vec<Scenario> {
    escapes(
        Place::OwnSession,
        "S4",
        "own-session",
        "A process that called setsid left the group: whoever kills the group does not reach it.",
    )
}

fn directed_s5() -> Vec<Scenario> {
    escapes(
        Place::Daemon,
        "S5",
        "daemon",
        "A daemon has another session and another parent: neither the group nor a walk over children reaches it.",
    )
}

fn directed_s6() -> Vec<Scenario> {
    escapes(
        Place::OwnGroup,
        "S6",
        "own-group",
        "A process in a group of its own is in the child's session and still out of reach of the group's kill, as any job of an interactive shell.",
    )
}

fn directed_s7() -> Vec<Scenario> {
    let why = "A daemon that a subreaper of the tree adopts is neither in the group nor anybody's orphan: it shows above only when its adopter is dead.";
    let beneath = |adopter: Vec<Step>| {
        let inner =
            vec![Step::Subreaper, start_hanging("adopted", Place::Daemon), emit("adopts"), Step::Hang];
        let adopter = start("adopter", Place::SameGroup, [adopter, inner].concat());
        [vec![adopter, await_event("adopter.adopts")], ready_and_hang().to_vec()].concat()
    };
    let polite = || beneath(vec![]);
    let deaf = || beneath(vec![on_term(Then::Ignore)]);
    vec![
        scenario("cancel-adopted", why, &["S7"], polite(), once_ready(Verb::Cancel)),
        scenario("cancel-adopted-by-the-deaf", why, &["S7"], deaf(), once_ready(Verb::Cancel)),
        scenario("timeout-adopted-by-the-deaf", why, &["S7"], deaf(), until_timeout()).with_timeout(TIMEOUT),
        scenario("drop-adopted-by-the-deaf", why, &["S7"], deaf(), once_ready(Verb::Drop)),
    ]
}

fn directed_s8() -> Vec<Scenario> {
    let why = "The leader answers TERM by one more process and only then exits: whoever looked who is there before it asked does not know that one.";
    let leader = || {
        vec![
            on_term(Then::Fork(1)),
            emit("ready"),
            // Its exit must not come before the new one has shown itself.
            await_event("root.fork1.hello"),
            Step::Exit(0),
        ]
    };
    let other = || {
        let forker =
            vec![on_term(Then::Fork(1)), emit("armed"), await_event("forker.fork1.hello"), Step::Exit(0)];
        vec![
            on_term(Then::Log),
            start("forker", Place::SameGroup, forker),
            await_event("forker.armed"),
            emit("ready"),
            await_event("forker.gone"),
            Step::Exit(0),
        ]
    };
    vec![
        scenario("cancel-forks-when-asked", why, &["S8"], leader(), once_ready(Verb::Cancel)),
        scenario("timeout-forks-when-asked", why, &["S8"], leader(), until_timeout()).with_timeout(TIMEOUT),
        scenario("drop-forks-when-asked", why, &["S8"], leader(), once_ready(Verb::Drop)),
        scenario("cancel-follower-forks-when-asked", why, &["S8"], other(), once_ready(Verb::Cancel)),
        scenario(
            "cancel-forks-while-the-kill-is-held",
            "The wrapper has looked who is there and is about to signal; one more process is forked before its signal goes out.",
            &["S8"],
            vec![
                on_term(Then::Log),
                start(
                    "forker",
                    Place::SameGroup,
                    vec![
                        on_term(Then::Ignore),
                        await_event("call.kill.1"),
                        start("late", Place::SameGroup, vec![on_term(Then::Ignore), Step::Hang]),
                        Step::Hang,
                    ],
                ),
                emit("ready"),
                Step::Hang,
            ],
            once_ready(Verb::Cancel),
        )
        .holding(CallKind::Kill, 1, "late.hello"),
    ]
}

fn directed_s9() -> Vec<Scenario> {
    let drop = || once_ready(Verb::Drop);
    vec![
        scenario(
            "drop-tree",
            "Dropping the handle is the commonest cancel in asynchronous code, and ends the direct child at best.",
            &["S9"],
            hanging_beside("helper", Place::SameGroup),
            drop(),
        ),
        scenario(
            "drop-deaf-root",
            "After a drop nobody waits any more, yet a child that ignores TERM must still be killed.",
            &["S9"],
            [vec![on_term(Then::Ignore)], hanging_beside("helper", Place::SameGroup)].concat(),
            drop(),
        ),
        scenario(
            "cancel-then-drop",
            "A handle that is dropped inside the grace of its cancel must not take the rest of the clean-up with it.",
            &["S1"],
            [vec![Step::LogSignals], hanging_beside("helper", Place::SameGroup)].concat(),
            vec![run(), once_started(Verb::Cancel), after("root.TERM", Verb::Drop)],
        ),
    ]
}

fn directed_s11() -> Vec<Scenario> {
    // The root says that TERM reached it before it exits, so that the way it died is certain.
    let script = || {
        vec![
            on_term(Then::Exit(0)),
            start("deaf", Place::SameGroup, vec![on_term(Then::Ignore), emit("deaf"), Step::Hang]),
            await_event("deaf.deaf"),
            emit("ready"),
            Step::Hang,
        ]
    };
    let why = "The leader exits on TERM, so the wrapper is satisfied and never comes to the KILL that the deaf grandchild needs.";
    vec![
        scenario("cancel-deaf-grandchild", why, &["S11", "D4"], script(), once_ready(Verb::Cancel)),
        scenario("timeout-deaf-grandchild", why, &["S11", "D1"], script(), until_timeout())
            .with_timeout(TIMEOUT),
        scenario("drop-deaf-grandchild", why, &["S11"], script(), once_ready(Verb::Drop)),
    ]
}

#[cfg(test)]
mod tests {
    use fake_cli::control::Report;

    use super::super::by_hand::{ASIDE, AWAY, Hand, assert_verdict, because, case, hanging_pair, steps};
    use super::*;
    use crate::syscalls::CallKind;
    use crate::trace::{Caller, Outcome, Reason, SystemCall, What};
    use crate::verdict::VerdictKind::{Broken, Kept, NotRun, Unknown, Vacuous};

    fn cancelled_pair() -> Hand {
        hanging_pair().cancel(10).done(11).gone(20, "root")
    }

    /// The pair was cancelled and the child is still there.
    fn leaky_cancel() -> Hand {
        cancelled_pair().ended(25, because(Reason::Cancelled)).look_sees(Stage::Quiesce, &["child"])
    }

    fn change_seen(hand: Hand, change: impl Fn(&mut Look)) -> Hand {
        hand.with(|trace| trace.looks.iter_mut().for_each(change))
    }

    #[test]
    fn s1_is_kept_when_nobody_is_left_after_a_cancel() {
        let hand = cancelled_pair()
            .gone(21, "child")
            .ended(25, because(Reason::Cancelled))
            .look(Stage::Quiesce, vec![]);
        assert_verdict(&hand, judge_s1, Kept, "");
    }

    #[test]
    fn s1_is_broken_by_a_survivor_and_names_it() {
        assert_verdict(&leaky_cancel(), judge_s1, Broken, "child (pid");
        assert_verdict(&leaky_cancel(), judge_s1, Broken, "2.3 s old) was alive 2.0 s after the cancel");
        let Verdict::Broken(finding) = leaky_cancel().judge(judge_s1) else { panic!("not broken") };
        assert_eq!(finding.count, 1);
    }

    #[test]
    fn s1_is_unknown_when_the_witnesses_disagree_or_the_look_was_not_complete() {
        type Change = fn(&mut Look);
        let disagree: [(Change, &str); 6] = [
            (|look| look.seen[0].connected = false, "control connection is closed"),
            (|look| look.seen[0].samples = 1, "seen only once"),
            (|look| look.seen[0].state = 'D', "uninterruptible"),
            (|look| look.seen[0].state = 'Z', "calls it dead"),
            (|look| look.sysinfo = Some(vec![]), "does not list it"),
            (|look| look.seen[0].dying = true, "it was dying"),
        ];
        for (change, why) in disagree {
            assert_verdict(&change_seen(leaky_cancel(), change), judge_s1, Unknown, why);
        }
        let exits = leaky_cancel().exiting(2_020, "child", 0);
        assert_verdict(&exits, judge_s1, Unknown, "had said that it exits");
        assert_verdict(&leaky_cancel().exiting(2_030, "child", 0), judge_s1, Broken, "child (pid");
        let died_before = cancelled_pair()
            .gone(21, "child")
            .ended(25, because(Reason::Cancelled))
            .look_sees(Stage::Quiesce, &["child"]);
        assert_verdict(&died_before, judge_s1, Unknown, "death had been seen");
        let incomplete = change_seen(leaky_cancel(), |look| {
            look.seen.clear();
            look.complete = false;
        });
        assert_verdict(&incomplete, judge_s1, Unknown, "did not see everyone");
        assert_verdict(&leaky_cancel().with(|trace| trace.looks.clear()), judge_s1, Unknown, "nobody looked");
        assert_verdict(&leaky_cancel().our_fault(), judge_s1, Unknown, "harness could not");
    }

    #[test]
    fn s1_is_unknown_when_somebody_was_swept_whom_an_empty_look_had_missed() {
        let empty = |hand: Hand| {
            let gone = hand.gone(12, "root").gone(12, "child").ended(15, because(Reason::Cancelled));
            gone.look(Stage::Quiesce, vec![])
        };
        let swept = |hand: Hand, seen: Seen| hand.with(|trace| trace.swept.push(seen));
        let relay =
            Seen { pid: 900, node: None, comm: "relay".to_owned(), ..leaky_cancel().survivor("child") };
        let missed = swept(empty(cancelled_pair()), relay.clone());
        assert_verdict(&missed, judge_s1, Unknown, "\"relay\", which is no node");
        assert_verdict(&missed, judge_s1, Unknown, "was swept afterwards");
        // The host, who stands beside it, and those who lead its terminal are no matter of the run.
        let host = Seen { pid: super::super::by_hand::HOST, ..relay.clone() };
        let bystander = Seen { node: Some((0, "bystander".to_owned())), ..relay.clone() };
        for ours in [host, bystander] {
            assert_verdict(&swept(empty(cancelled_pair()), ours), judge_s1, Kept, "");
        }
        let terminal = cancelled_pair().with(|trace| trace.scenario.host.terminal = true);
        assert_verdict(&swept(empty(terminal), relay.clone()), judge_s1, Kept, "");
        // Whoever was seen may have forked since.
        let escaped = cancelled_pair().hello_as(3, "away", AWAY).gone(12, "root").gone(12, "child");
        let escaped = escaped.ended(15, because(Reason::Cancelled)).look_sees(Stage::Quiesce, &["away"]);
        assert_verdict(&swept(escaped, relay), judge_s1, Kept, "");
    }

    #[test]
    fn s1_is_unknown_of_a_helper_that_the_harness_held_up_by_watching_its_calls() {
        let helper = || {
            change_seen(leaky_cancel(), |look| {
                look.seen[0].node = None;
                look.sysinfo = Some(vec![look.seen[0].pid]);
            })
        };
        assert_verdict(&helper(), judge_s1, Broken, "which is no node");
        let pid = helper().trace().looks[0].seen[0].pid;
        for (of, verdict) in [(pid, Unknown), (pid + 1, Broken)] {
            let call = SystemCall {
                call: CallKind::Wait,
                nth: 9,
                by: Caller::Helper,
                pid: of,
                text: String::new(),
                signalled: None,
            };
            assert_verdict(
                &helper().what(60_000, What::SystemCall(call)),
                judge_s1,
                verdict,
                "which is no node",
            );
        }
    }

    #[test]
    fn s1_is_unknown_when_the_look_came_before_everyone_had_to_be_gone() {
        let ended = cancelled_pair().ended(25, because(Reason::Cancelled));
        let survivor = ended.survivor("child");
        assert_verdict(
            &ended.look_at(Stage::Quiesce, 100, vec![survivor]),
            judge_s1,
            Unknown,
            "before everyone",
        );
    }

    #[test]
    fn s1_is_vacuous_when_the_cancel_never_came_or_came_too_late() {
        let stuck = hanging_pair().stuck(100, Verb::Cancel, "root.ready").look(Stage::Quiesce, vec![]);
        assert_verdict(
            &stuck,
            judge_s1,
            Vacuous,
            "op 1 (cancel) was not issued, for root.ready did not come",
        );
        let exited = hanging_pair()
            .exiting(5, "root", 0)
            .cancel(10)
            .ended(25, because(Reason::Itself))
            .look_sees(Stage::Quiesce, &["child"]);
        assert_verdict(&exited, judge_s1, Vacuous, "ended by itself");
        let never_up = case(steps(r#"["hang"]"#)).run(0).cancel(10).ended(25, because(Reason::Cancelled));
        assert_verdict(&never_up, judge_s1, Vacuous, "never said hello");
        let host_killed = cancelled_pair().kill_host(12).look_sees(Stage::HostGone, &["child"]);
        assert_verdict(&host_killed, judge_s1, Vacuous, "P1 and P2");
        assert_verdict(&cancelled_pair().silent(), judge_s1, Vacuous, "never finished");
    }

    #[test]
    fn s1_does_not_run_where_the_subject_cannot_cancel() {
        assert_verdict(&hanging_pair().cancel(10).unimplemented(11), judge_s1, NotRun, "cannot cancel");
    }

    #[test]
    fn s1_is_unknown_when_the_root_exited_right_after_the_cancel() {
        let hand = hanging_pair()
            .cancel(10)
            .exiting(11, "root", 0)
            .ended(25, because(Reason::Cancelled))
            .look_sees(Stage::Quiesce, &["child"]);
        assert_verdict(&hand, judge_s1, Unknown, "who came first cannot be said");
        assert_verdict(&hand, judge_s3, Vacuous, "was cancelled");
    }

    #[test]
    fn an_orphan_of_the_same_group_is_charged_to_s1() {
        let hand =
            case(steps(r#"[{"start": {"node": "orphan", "as": "orphan", "script": ["hang"]}}, "hang"]"#))
                .run(0)
                .hello(1, "root")
                .hello(2, "orphan")
                .cancel(10)
                .gone(11, "root")
                .ended(12, because(Reason::Cancelled))
                .look_sees(Stage::Quiesce, &["orphan"]);
        assert_verdict(&hand, judge_s1, Broken, "orphan");
    }

    #[test]
    fn for_a_command_the_look_after_its_exit_counts() {
        let hand = cancelled_pair().template().host_gone(25, Status::Exited(143));
        assert_verdict(&hand.clone().look_sees(Stage::HostGone, &["child"]), judge_s1, Broken, "child");
        assert_verdict(&hand.look(Stage::HostGone, vec![]), judge_s1, Kept, "");
    }

    #[test]
    fn after_a_commands_end_nobody_ends_nodes_any_more_but_they_may_finish_their_clean_up() {
        let ended = cancelled_pair().template().host_gone(25, Status::Exited(143));
        let survivor = ended.survivor("child");
        let soon = ended.look_at(Stage::HostGone, 100, vec![survivor]);
        assert_verdict(&soon, judge_s1, Broken, "child");
        let script = r#"[{"start": {"node": "child", "script": [
            {"on": {"signal": "TERM", "then": {"exit-slowly": {"takes": "1s", "code": 0}}}}, "hang"]}}, "hang"]"#;
        let cleaning = case(steps(script))
            .template()
            .run(0)
            .hello(1, "root")
            .hello(2, "child")
            .did(3, "child", 0)
            .cancel(10)
            .signalled(11, "child", Signal::Term)
            .gone(12, "root")
            .host_gone(25, Status::Exited(143));
        let survivor = cleaning.survivor("child");
        let soon = cleaning.clone().look_at(Stage::HostGone, 600, vec![survivor.clone()]);
        assert_verdict(&soon, judge_s1, Unknown, "before everyone had to be gone");
        assert_verdict(&cleaning.look_at(Stage::HostGone, 1_500, vec![survivor]), judge_s1, Broken, "child");
    }

    #[test]
    fn a_host_that_fell_silent_says_nothing_of_survivors() {
        let hand = cancelled_pair().template().silent().host_gone(12_000, Status::Signaled(9));
        assert_verdict(&hand.look_sees(Stage::HostGone, &["child"]), judge_s1, Vacuous, "never finished");
    }

    #[test]
    fn a_run_that_was_over_before_its_timeout_was_ended_by_the_cancel() {
        let hand = hanging_pair().template().timeout(100).cancel(80).gone(81, "root");
        let over = hand.host_gone(85, Status::Signaled(15)).look_sees(Stage::HostGone, &["child"]);
        assert_verdict(&over, judge_s1, Broken, "child");
    }

    #[test]
    fn a_command_that_died_of_its_cancel_had_not_timed_out() {
        let cancelled_late = || hanging_pair().template().timeout(100).cancel(95);
        let died = cancelled_late().host_gone(105, Status::Signaled(15));
        assert_verdict(&died.look_sees(Stage::HostGone, &["root"]), judge_s1, Broken, "root");
        let ended = cancelled_late().host_gone(105, Status::Exited(124));
        assert_verdict(&ended.look_sees(Stage::HostGone, &["root"]), judge_s1, Unknown, "cannot be said");
    }

    #[test]
    fn a_root_that_would_end_on_term_and_exits_late_was_not_stopped_before() {
        let late = |hand: Hand| {
            hand.template()
                .timeout(100)
                .exiting(150, "root", 0)
                .host_gone(155, Status::Exited(0))
                .ended(155, because(Reason::Unsaid))
                .look_sees(Stage::HostGone, &["child"])
        };
        assert_verdict(&late(hanging_pair()), judge_s3, Broken, "child");
        let deaf =
            case(steps(r#"["log-signals", {"start": {"node": "child", "script": ["hang"]}}, "hang"]"#));
        let deaf = deaf.run(0).hello(1, "root").did(1, "root", 0).hello(2, "child");
        assert_verdict(&late(deaf), judge_s3, Unknown, "may have been stopped already");
    }

    #[test]
    fn term_to_a_command_is_its_cancel() {
        let hand = hanging_pair()
            .template()
            .signal_host(10, Signal::Term)
            .gone(11, "root")
            .host_gone(12, Status::Exited(143))
            .look_sees(Stage::HostGone, &["child"]);
        assert_verdict(&hand, judge_s1, Broken, "child");
    }

    #[test]
    fn a_process_that_is_no_node_counts_where_it_is_certainly_of_the_run() {
        let ended = cancelled_pair().gone(21, "child").ended(25, because(Reason::Cancelled));
        let mut shell = ended.survivor("child");
        (shell.node, shell.connected, shell.comm) = (None, false, "sh".to_owned());
        let look = |seen: Seen, listed: bool| {
            let pid = seen.pid;
            change_seen(ended.clone().look(Stage::Quiesce, vec![seen]), move |look| {
                look.sysinfo = listed.then(|| vec![pid]);
            })
        };
        assert_verdict(&look(shell.clone(), true), judge_s1, Broken, "\"sh\", which is no node");
        assert_verdict(&look(shell.clone(), false), judge_s1, Unknown, "only one witness");
        let helper = Seen { pgid: 900, sid: 900, ppid: super::super::by_hand::HOST, ..shell.clone() };
        assert_verdict(&look(helper.clone(), true), judge_s1, Kept, "");
        assert_verdict(&look(Seen { ppid: 1, ..helper }, true), judge_s1, Unknown, "cannot be said");
    }

    #[test]
    fn who_started_the_root_is_of_the_run_wherever_it_stands() {
        let hello = fake_cli::control::Hello { ppid: 77, ..super::super::by_hand::hello("root") };
        let ended = case(steps(r#"["hang"]"#))
            .run(0)
            .says(1, "root", Report::Hello(Box::new(hello)))
            .cancel(10)
            .gone(12, "root")
            .ended(15, because(Reason::Cancelled));
        let launcher = Seen { pid: 77, pgid: 77, node: None, connected: false, ..ended.survivor("root") };
        let seen = ended.look(Stage::Quiesce, vec![launcher]);
        let listed = change_seen(seen, |look| look.sysinfo = Some(vec![77]));
        assert_verdict(&listed, judge_s1, Broken, "which is no node");
    }

    #[test]
    fn a_node_that_replaced_itself_is_not_taken_for_dead() {
        let hand = hanging_pair().gone(3, "child").hello(4, "child").cancel(10).gone(12, "root");
        let hand = hand.ended(15, because(Reason::Cancelled)).look_sees(Stage::Quiesce, &["child"]);
        assert_verdict(&hand, judge_s1, Broken, "child");
    }

    fn timed_out(outcome: Outcome) -> Hand {
        hanging_pair().timeout(100).gone(105, "root").ended(110, outcome)
    }

    #[test]
    fn s2_judges_what_the_timeout_left() {
        let leaky = timed_out(because(Reason::TimedOut)).look_sees(Stage::Quiesce, &["child"]);
        assert_verdict(&leaky, judge_s2, Broken, "after the timeout");
        assert_verdict(&leaky, judge_s1, Vacuous, "timed out");
        let clean = timed_out(because(Reason::TimedOut)).gone(106, "child").look(Stage::Quiesce, vec![]);
        assert_verdict(&clean, judge_s2, Kept, "");
        let doubtful = change_seen(leaky, |look| look.seen[0].samples = 1);
        assert_verdict(&doubtful, judge_s2, Unknown, "seen only once");
    }

    #[test]
    fn s2_also_knows_a_timeout_that_the_api_cannot_name() {
        let leaky = timed_out(because(Reason::Unsaid)).look_sees(Stage::Quiesce, &["child"]);
        assert_verdict(&leaky, judge_s2, Broken, "child");
        let template = hanging_pair()
            .template()
            .timeout(100)
            .gone(105, "root")
            .host_gone(107, Status::Exited(124))
            .look_sees(Stage::HostGone, &["child"]);
        assert_verdict(&template, judge_s2, Broken, "child");
    }

    #[test]
    fn s2_is_vacuous_without_a_timeout_in_force_and_does_not_run_for_subjects_without_one() {
        assert_verdict(&leaky_cancel(), judge_s2, Vacuous, "was cancelled");
        let killed_by_nobody = hanging_pair().gone(50, "root").ended(55, because(Reason::Unsaid));
        assert_verdict(&killed_by_nobody.clone().timeout(100), judge_s2, Vacuous, "nobody who is known");
        assert_verdict(&killed_by_nobody, judge_s2, Vacuous, "nobody who is known");
        let without = leaky_cancel().promising(|promises| promises.timeout = Keeps::Not);
        assert_verdict(&without, judge_s2, NotRun, "no timeout");
    }

    #[test]
    fn a_cancel_and_a_timeout_at_the_same_time_leave_a_doubt() {
        let both = hanging_pair()
            .timeout(100)
            .cancel(95)
            .gone(105, "root")
            .ended(110, because(Reason::Unsaid))
            .look_sees(Stage::Quiesce, &["child"]);
        assert_verdict(&both, judge_s1, Unknown, "cannot be said");
        assert_verdict(&both, judge_s2, Vacuous, "was cancelled");
    }

    fn exits(outcome: Outcome) -> Hand {
        hanging_pair().exiting(5, "root", 0).gone(6, "root").ended(8, outcome)
    }

    #[test]
    fn s3_judges_what_the_root_left_behind() {
        let leaky = exits(because(Reason::Itself)).look_sees(Stage::Quiesce, &["child"]);
        assert_verdict(&leaky, judge_s3, Broken, "child");
        assert_verdict(&leaky, judge_s1, Vacuous, "ended by itself");
        let clean = exits(because(Reason::Itself)).gone(7, "child").look(Stage::Quiesce, vec![]);
        assert_verdict(&clean, judge_s3, Kept, "");
        let doubtful = change_seen(leaky.clone(), |look| look.seen[0].connected = false);
        assert_verdict(&doubtful, judge_s3, Unknown, "connection is closed");
        let leaves = leaky.promising(|promises| promises.leftovers = Leftovers::Leave);
        assert_verdict(&leaves, judge_s3, NotRun, "declares that it leaves");
    }

    #[test]
    fn s3_is_vacuous_when_nobody_was_left_behind() {
        let alone = case(steps(r#"[{"exit": 0}]"#))
            .run(0)
            .hello(1, "root")
            .exiting(5, "root", 0)
            .ended(8, because(Reason::Itself))
            .look(Stage::Quiesce, vec![]);
        assert_verdict(&alone, judge_s3, Vacuous, "left nobody");
        let child_first = hanging_pair()
            .gone(3, "child")
            .exiting(5, "root", 0)
            .ended(8, because(Reason::Itself))
            .look(Stage::Quiesce, vec![]);
        assert_verdict(&child_first, judge_s3, Vacuous, "left nobody");
    }

    #[test]
    fn s3_weighs_by_what_is_promised() {
        let level = |leftovers| {
            let promises = Promises { leftovers, ..Promises::default() };
            super::super::find("S3").unwrap().level_for(&promises)
        };
        assert_eq!(level(Leftovers::Unsaid), Level::Should);
        assert_eq!(level(Leftovers::Clean), Level::Must);
    }

    fn escaped(place: &str, ids: Ids) -> Hand {
        let script =
            format!(r#"[{{"start": {{"node": "away", "as": "{place}", "script": ["hang"]}}}}, "hang"]"#);
        case(steps(&script)).run(0).hello(1, "root").hello_as(2, "away", ids)
    }

    fn cancelled(hand: Hand) -> Hand {
        hand.cancel(10).gone(12, "root").ended(15, because(Reason::Cancelled))
    }

    #[test]
    fn an_escaped_survivor_is_charged_to_the_rule_of_its_escape_alone() {
        let rules: [fn(&Facts<'_>) -> Verdict; 3] = [judge_s1, judge_s4, judge_s5];
        for (place, ids, expected) in [
            ("own-session", AWAY, [Kept, Broken, Vacuous]),
            ("daemon", AWAY, [Kept, Vacuous, Broken]),
            ("own-group", ASIDE, [Kept, Vacuous, Vacuous]),
            ("same-group", super::super::by_hand::ROOT_IDS, [Broken, Vacuous, Vacuous]),
        ] {
            let leaky = cancelled(escaped(place, ids)).look_sees(Stage::Quiesce, &["away"]);
            assert_eq!(rules.map(|rule| leaky.verdict(rule).0), expected, "{place}");
        }
    }

    #[test]
    fn s4_and_s5_are_kept_when_the_escaped_is_gone() {
        for (place, rule) in [("own-session", judge_s4 as fn(&Facts<'_>) -> Verdict), ("daemon", judge_s5)] {
            let clean = cancelled(escaped(place, AWAY)).gone(20, "away").look(Stage::Quiesce, vec![]);
            assert_verdict(&clean, rule, Kept, "");
            let doubtful = cancelled(escaped(place, AWAY)).look_sees(Stage::Quiesce, &["away"]);
            assert_verdict(
                &change_seen(doubtful, |look| look.seen[0].samples = 1),
                rule,
                Unknown,
                "only once",
            );
        }
    }

    #[test]
    fn s4_also_judges_timeouts_and_drops() {
        let timeout = escaped("own-session", AWAY)
            .timeout(100)
            .gone(101, "root")
            .ended(105, because(Reason::TimedOut))
            .look_sees(Stage::Quiesce, &["away"]);
        assert_verdict(&timeout, judge_s4, Broken, "after the timeout");
        let drop = escaped("own-session", AWAY).drop(10).done(11).look_sees(Stage::Quiesce, &["away"]);
        assert_verdict(&drop, judge_s4, Broken, "after the drop");
    }

    #[test]
    fn after_an_exit_an_escape_is_charged_only_to_who_promises_to_clean() {
        let left = escaped("own-session", AWAY)
            .exiting(5, "root", 0)
            .ended(8, because(Reason::Itself))
            .look_sees(Stage::Quiesce, &["away"]);
        assert_verdict(&left, judge_s4, Vacuous, "ended by itself");
        assert_verdict(&left, judge_s3, Vacuous, "left nobody");
        let promised = left.promising(|promises| promises.leftovers = Leftovers::Clean);
        assert_verdict(&promised, judge_s4, Broken, "after the root exited");
    }

    #[test]
    fn s4_is_vacuous_when_the_escape_came_after_the_stop() {
        let late =
            case(steps(r#"[{"start": {"node": "away", "as": "own-session", "script": ["hang"]}}, "hang"]"#))
                .run(0)
                .hello(1, "root")
                .cancel(10)
                .gone(12, "root")
                .ended(15, because(Reason::Cancelled))
                .look(Stage::Quiesce, vec![]);
        assert_verdict(&late, judge_s4, Vacuous, "in time");
    }

    #[test]
    fn escapes_are_a_should_for_who_declares_group_semantics() {
        let group = Promises { reach: Reach::Group, ..Promises::default() };
        for id in ["S4", "S5", "S6", "S7"] {
            let rule = super::super::find(id).unwrap();
            assert_eq!(rule.level_for(&group), Level::Should, "{id}");
            assert_eq!(rule.level_for(&Promises::default()), Level::Must, "{id}");
        }
    }

    #[test]
    fn s9_judges_what_a_drop_left_once_the_grace_is_over() {
        let dropped = || hanging_pair().drop(10).done(10);
        assert_verdict(
            &dropped().look_sees(Stage::Quiesce, &["root", "child"]),
            judge_s9,
            Broken,
            "root (pid 100",
        );
        assert_verdict(&dropped().look(Stage::Quiesce, vec![]), judge_s9, Kept, "");
        let survivor = dropped().survivor("child");
        let within_the_grace = dropped().grace(5_000).look_at(Stage::Quiesce, 2_000, vec![survivor]);
        assert_verdict(&within_the_grace, judge_s9, Unknown, "before everyone had to be gone");
        assert_verdict(&leaky_cancel(), judge_s9, Vacuous, "was cancelled");
        assert_verdict(&dropped().template(), judge_s9, NotRun, "no handle");
        assert_verdict(&hanging_pair().drop(10).unimplemented(11), judge_s9, NotRun, "cannot drop");
    }

    #[test]
    fn s9_is_unknown_where_the_machine_may_have_kept_the_wrapper_from_its_kill() {
        let dropped = |percent, max_us| {
            let hand = hanging_pair().grace(1_600).drop(10).done(10).look_sees(Stage::Quiesce, &["root"]);
            hand.with(|trace| {
                trace.noise.crowd_percent = percent;
                trace.noise.max_us = max_us;
            })
        };
        // Due after 1,860 ms, and looked at after 2,010 ms.
        assert_verdict(&dropped(0, 10_000), judge_s9, Broken, "root (pid 100");
        assert_verdict(&dropped(0, 200_000), judge_s9, Unknown, "noise");
        assert_verdict(&dropped(600, 10_000), judge_s9, Unknown, "noise");
        // Due after 360 ms: no crowd explains a second and a half.
        let long_since = hanging_pair().drop(10).done(10).look_sees(Stage::Quiesce, &["root"]);
        let crowded = long_since.with(|trace| trace.noise.crowd_percent = 2_000);
        assert_verdict(&crowded, judge_s9, Broken, "root (pid 100");
        // What a cancel left was there when the run was over.
        let cancelled = leaky_cancel().with(|trace| trace.noise.crowd_percent = 600);
        assert_verdict(&cancelled, judge_s1, Broken, "child");
    }

    #[test]
    fn nobody_is_a_survivor_whose_kill_the_harness_held() {
        let held = hanging_pair().drop(10).done(10).what(111, What::Held { call: CallKind::Kill, nth: 2 });
        let in_force = held.clone().look_at(Stage::Quiesce, 1_900, vec![held.survivor("root")]);
        assert_verdict(&in_force, judge_s9, Unknown, "was held by the harness");
        let let_go =
            |in_vain| held.clone().what(2_111, What::LetGo { call: CallKind::Kill, nth: 2, in_vain });
        for in_vain in [true, false] {
            let soon = let_go(in_vain).look_at(Stage::Quiesce, 340, vec![held.survivor("root")]);
            assert_verdict(&soon, judge_s9, Unknown, "was held by the harness");
            // The grace of 100 ms and the slack of 250 ms.
            let late = let_go(in_vain).look_at(Stage::Quiesce, 360, vec![held.survivor("root")]);
            assert_verdict(&late, judge_s9, Broken, "root (pid 100");
        }
        let cancelled = cancelled_pair().ended(25, because(Reason::Cancelled));
        let in_force = cancelled.what(26, What::Held { call: CallKind::Kill, nth: 2 });
        assert_verdict(&in_force.look_sees(Stage::Quiesce, &["child"]), judge_s1, Unknown, "was held");
    }

    /// A root with this reaction to TERM beside a child that ignores it.
    fn deaf_child(root_reacts: &str) -> Hand {
        let script = format!(
            r#"[{{"on": {{"signal": "TERM", "then": {root_reacts}}}}},
                {{"start": {{"node": "child", "script": [{{"on": {{"signal": "TERM", "then": "ignore"}}}}, "hang"]}}}}, "hang"]"#
        );
        case(steps(&script))
            .run(0)
            .hello(1, "root")
            .did(1, "root", 0)
            .hello(2, "child")
            .did(3, "child", 0)
            .cancel(10)
    }

    fn with_status(reason: Reason, status: Status) -> Outcome {
        Outcome { status: Some(status), ..because(reason) }
    }

    #[test]
    fn s11_is_charged_with_the_deaf_one_whose_leader_obeyed() {
        let obeyed = || {
            deaf_child(r#"{"exit": 0}"#)
                .signalled(11, "root", Signal::Term)
                .exiting(11, "root", 0)
                .gone(12, "root")
        };
        let leaky = obeyed().ended(15, because(Reason::Cancelled)).look_sees(Stage::Quiesce, &["child"]);
        assert_verdict(&leaky, judge_s11, Broken, "child");
        assert_verdict(&leaky, judge_s1, Kept, "");
        let clean =
            obeyed().gone(115, "child").ended(116, because(Reason::Cancelled)).look(Stage::Quiesce, vec![]);
        assert_verdict(&clean, judge_s11, Kept, "");
        let doubtful = change_seen(leaky, |look| look.seen[0].connected = false);
        assert_verdict(&doubtful, judge_s11, Unknown, "connection");
    }

    #[test]
    fn a_leader_that_was_killed_unasked_makes_it_a_case_for_s1() {
        let killed = deaf_child(r#"{"exit": 0}"#)
            .gone(11, "root")
            .ended(15, because(Reason::Cancelled))
            .look_sees(Stage::Quiesce, &["child"]);
        assert_verdict(&killed, judge_s11, Vacuous, "without being asked");
        assert_verdict(&killed, judge_s1, Broken, "child");
    }

    #[test]
    fn a_deaf_leader_makes_it_a_case_for_s1() {
        let deaf = deaf_child(r#""ignore""#)
            .gone(111, "root")
            .ended(115, because(Reason::Cancelled))
            .look_sees(Stage::Quiesce, &["child"]);
        assert_verdict(&deaf, judge_s11, Vacuous, "did not exit on TERM");
        assert_verdict(&deaf, judge_s1, Broken, "child");
    }

    #[test]
    fn the_status_of_a_silent_leader_says_how_it_died() {
        let silent = |outcome| {
            deaf_child(r#""default""#)
                .gone(11, "root")
                .ended(15, outcome)
                .look_sees(Stage::Quiesce, &["child"])
        };
        let by_term = silent(with_status(Reason::Cancelled, Status::Signaled(15)));
        assert_verdict(&by_term, judge_s11, Broken, "child");
        assert_verdict(&by_term, judge_s1, Kept, "");
        let by_kill = silent(with_status(Reason::Cancelled, Status::Signaled(9)));
        assert_verdict(&by_kill, judge_s11, Vacuous, "without being asked");
        assert_verdict(&by_kill, judge_s1, Broken, "child");
        let unsaid = silent(because(Reason::Cancelled));
        assert_verdict(&unsaid, judge_s11, Vacuous, "cannot be said");
        assert_verdict(&unsaid, judge_s1, Vacuous, "cannot be said");
    }

    #[test]
    fn a_leader_that_was_killed_in_its_clean_up_did_not_obey() {
        let slowly = deaf_child(r#"{"exit-slowly": {"takes": "1s", "code": 0}}"#)
            .signalled(11, "root", Signal::Term)
            .gone(111, "root")
            .ended(115, because(Reason::Cancelled))
            .look_sees(Stage::Quiesce, &["child"]);
        assert_verdict(&slowly, judge_s11, Vacuous, "did not exit on TERM");
        assert_verdict(&slowly, judge_s1, Broken, "child");
    }

    #[test]
    fn a_stopped_leader_that_was_continued_and_exits_on_term_obeyed() {
        let script = r#"[{"start": {"node": "child", "script": [{"on": {"signal": "TERM", "then": "log"}}, "hang"]}},
            {"on": {"signal": "TERM", "then": {"exit": 0}}}, "stop", "hang"]"#;
        let stopped = case(steps(script))
            .run(0)
            .hello(1, "root")
            .hello(2, "child")
            .did(2, "child", 0)
            .did(3, "root", 1)
            .did(3, "root", 2)
            .cancel(10);
        let obeyed = stopped
            .clone()
            .signalled(11, "root", Signal::Term)
            .exiting(11, "root", 0)
            .gone(12, "root")
            .ended(15, because(Reason::Cancelled))
            .look_sees(Stage::Quiesce, &["child"]);
        assert_verdict(&obeyed, judge_s11, Broken, "child");
        assert_verdict(&obeyed, judge_s1, Kept, "");
        let killed = stopped.gone(12, "root").ended(15, because(Reason::Cancelled));
        assert_verdict(&killed.look_sees(Stage::Quiesce, &["child"]), judge_s1, Vacuous, "cannot be said");
    }

    #[test]
    fn a_stopped_node_that_is_deaf_once_it_is_continued_is_s11s() {
        let script = r#"[{"on": {"signal": "TERM", "then": {"exit": 0}}},
            {"start": {"node": "child", "script": ["log-signals", "stop", "hang"]}}, "hang"]"#;
        let continued = case(steps(script))
            .run(0)
            .hello(1, "root")
            .did(1, "root", 0)
            .hello(2, "child")
            .did(3, "child", 0)
            .did(3, "child", 1)
            .cancel(10)
            .signalled(11, "root", Signal::Term)
            .exiting(11, "root", 0)
            .signalled(12, "child", Signal::Term)
            .ended(15, because(Reason::Cancelled))
            .look_sees(Stage::Quiesce, &["child"]);
        assert_verdict(&continued, judge_s11, Broken, "child");
        assert_verdict(&continued, judge_s1, Kept, "");
    }

    #[test]
    fn who_was_born_during_the_stop_is_charged_to_s8_alone() {
        let born = |at_ms| {
            hanging_pair()
                .cancel(10)
                .signalled(11, "child", Signal::Term)
                .hello(at_ms, "child.fork1")
                .gone(12, "root")
                .gone(12, "child")
                .ended(15, because(Reason::Cancelled))
                .look_sees(Stage::Quiesce, &["child.fork1"])
        };
        assert_verdict(&born(9), judge_s1, Broken, "child.fork1");
        assert_verdict(&born(11), judge_s1, Vacuous, "which S8 is about");
        assert_verdict(&born(11), judge_s11, Vacuous, "");
        assert_verdict(&born(11), judge_s8, Broken, "child.fork1");
        assert_verdict(&born(9), judge_s8, Vacuous, "nobody was forked");
        let doubtful = change_seen(born(11), |look| look.seen[0].samples = 1);
        assert_verdict(&doubtful, judge_s8, Unknown, "only once");
    }

    #[test]
    fn s8_is_kept_when_who_was_born_during_the_stop_is_gone() {
        let ended = hanging_pair()
            .cancel(10)
            .signalled(11, "child", Signal::Term)
            .hello(11, "child.fork1")
            .gone(12, "root")
            .gone(12, "child")
            .gone(13, "child.fork1")
            .ended(15, because(Reason::Cancelled));
        assert_verdict(&ended.clone().look(Stage::Quiesce, vec![]), judge_s8, Kept, "");
        // One that ended by itself shows nothing.
        let by_itself = ended.exiting(12, "child.fork1", 0).look(Stage::Quiesce, vec![]);
        assert_verdict(&by_itself, judge_s8, Vacuous, "nobody was forked");
    }

    #[test]
    fn what_a_root_forks_that_nobody_asked_is_charged_to_what_ended_the_run() {
        let root = super::super::by_hand::hello("root").pid;
        let hello = fake_cli::control::Hello { ppid: root, ..super::super::by_hand::hello("root-fork.1") };
        let dropped = hanging_pair()
            .drop(10)
            .done(11)
            .says(11, "root-fork.1", Report::Hello(Box::new(hello)))
            .gone(12, "root")
            .gone(12, "child")
            .look_sees(Stage::Quiesce, &["root-fork.1"]);
        assert_verdict(&dropped, judge_s9, Broken, "root-fork.1");
        assert_verdict(&dropped, judge_s8, Vacuous, "nobody was forked");
    }

    #[test]
    fn who_was_forked_by_a_survivor_is_not_s8s() {
        let hello = |ppid| fake_cli::control::Hello { ppid, ..super::super::by_hand::hello("child.fork1") };
        let child = super::super::by_hand::hello("child").pid;
        let both = hanging_pair()
            .cancel(10)
            .says(11, "child.fork1", Report::Hello(Box::new(hello(child))))
            .gone(12, "root")
            .ended(15, because(Reason::Cancelled));
        assert_verdict(
            &both.clone().look_sees(Stage::Quiesce, &["child", "child.fork1"]),
            judge_s8,
            Vacuous,
            "nobody was forked",
        );
        let orphaned = both.gone(13, "child").look_sees(Stage::Quiesce, &["child.fork1"]);
        assert_verdict(&orphaned, judge_s8, Broken, "child.fork1");
    }

    #[test]
    fn s6_is_charged_with_who_moved_to_a_group_of_its_own() {
        let stopped = || cancelled(escaped("own-group", ASIDE));
        let leaky = stopped().look_sees(Stage::Quiesce, &["away"]);
        assert_verdict(&leaky, judge_s6, Broken, "after the cancel");
        assert_verdict(&leaky, judge_s1, Kept, "");
        assert_verdict(&change_seen(leaky, |look| look.seen[0].samples = 1), judge_s6, Unknown, "only once");
        assert_verdict(&stopped().gone(20, "away").look(Stage::Quiesce, vec![]), judge_s6, Kept, "");
        assert_verdict(&leaky_cancel(), judge_s6, Vacuous, "no node in a group of its own");
    }

    #[test]
    fn s7_is_charged_with_who_left_the_group_and_was_adopted_within_the_tree() {
        let script = r#"[{"start": {"node": "adopter", "script": ["subreaper",
            {"start": {"node": "away", "as": "daemon", "script": ["hang"]}}, "hang"]}}, "hang"]"#;
        let adopter = super::super::by_hand::hello("adopter").pid;
        let stopped = |ppid: i32| {
            let hello = fake_cli::control::Hello {
                ppid,
                pgid: AWAY.pgid,
                sid: AWAY.sid,
                ..super::super::by_hand::hello("away")
            };
            let up = case(steps(script)).run(0).hello(1, "root").hello(2, "adopter").says(
                3,
                "away",
                Report::Hello(Box::new(hello)),
            );
            cancelled(up).gone(16, "adopter")
        };
        let leaky = stopped(adopter).look_sees(Stage::Quiesce, &["away"]);
        assert_verdict(&leaky, judge_s7, Broken, "away");
        assert_verdict(&leaky, judge_s5, Vacuous, "no daemon");
        assert_verdict(&change_seen(leaky, |look| look.seen[0].samples = 1), judge_s7, Unknown, "only once");
        let clean = stopped(adopter).gone(17, "away").look(Stage::Quiesce, vec![]);
        assert_verdict(&clean, judge_s7, Kept, "");
        let adopted_above = stopped(1).look_sees(Stage::Quiesce, &["away"]);
        assert_verdict(&adopted_above, judge_s7, Vacuous, "nobody who left the group");
        assert_verdict(&adopted_above, judge_s5, Broken, "away");
    }

    #[test]
    fn a_start_that_failed_is_s10s_alone() {
        let failed = hanging_pair()
            .timeout(100)
            .ended(110, because(Reason::StartFailed("no descriptors".to_owned())))
            .look_sees(Stage::Quiesce, &["root"]);
        assert_verdict(&failed, judge_s2, Vacuous, "S10 judges");
        assert_verdict(&failed, failed_start::judge, Broken, "root");
    }

    #[test]
    fn who_was_born_during_the_stop_adds_nothing_to_who_was_there_before() {
        let both = hanging_pair()
            .cancel(10)
            .signalled(11, "child", Signal::Term)
            .hello(11, "child.fork1")
            .gone(12, "root")
            .ended(15, because(Reason::Cancelled))
            .look_sees(Stage::Quiesce, &["child", "child.fork1"]);
        let Verdict::Broken(finding) = both.judge(judge_s1) else { panic!("not broken") };
        assert_eq!(finding.count, 1);
    }

    #[test]
    fn a_cancel_before_the_root_was_up_is_not_charged_to_s1() {
        let early =
            case(steps(r#"["hang"]"#)).run(0).cancel(1).hello(5, "root").ended(7, because(Reason::Cancelled));
        assert_verdict(&early.clone().look_sees(Stage::Quiesce, &["root"]), judge_s1, Unknown, "K7 is about");
        assert_verdict(&early.gone(8, "root").look(Stage::Quiesce, vec![]), judge_s1, Kept, "");
    }

    #[test]
    fn a_command_that_starts_slowly_has_its_tree_after_the_earliest_moment_of_its_timeout() {
        let script = r#"[{"start": {"node": "away", "as": "own-session", "script": ["hang"]}}, "hang"]"#;
        let slow = case(steps(script))
            .template()
            .timeout(100)
            .run(0)
            .hello(200, "root")
            .hello_as(201, "away", AWAY)
            .hello(202, "child")
            .gone(305, "root")
            .host_gone(307, Status::Exited(124))
            .look_sees(Stage::HostGone, &["away", "child"]);
        assert_verdict(&slow, judge_s4, Broken, "away");
        assert_verdict(&slow, judge_s2, Broken, "child");
    }

    #[test]
    fn a_leader_that_had_the_time_for_its_clean_up_obeyed_though_its_last_words_are_lost() {
        let mute = deaf_child(r#"{"exit-slowly": {"takes": "80ms", "code": 0}}"#)
            .signalled(11, "root", Signal::Term)
            .gone(92, "root")
            .ended(93, because(Reason::Cancelled))
            .look_sees(Stage::Quiesce, &["child"]);
        assert_verdict(&mute, judge_s11, Broken, "child");
    }

    #[test]
    fn the_status_of_a_command_does_not_say_how_its_child_died() {
        let hand = deaf_child(r#""default""#).template().gone(11, "root").host_gone(12, Status::Signaled(15));
        let ended = hand.ended(12, with_status(Reason::Unsaid, Status::Signaled(15)));
        assert_verdict(&ended.look_sees(Stage::HostGone, &["child"]), judge_s11, Vacuous, "cannot be said");
    }

    #[test]
    fn who_was_born_after_anybody_was_asked_was_born_during_the_timeout() {
        let script = r#"[{"start": {"node": "child", "script": [{"on": {"signal": "TERM", "then": {"fork": 1}}}, "hang"]}}, "hang"]"#;
        let forked = case(steps(script))
            .timeout(100)
            .run(0)
            .hello(1, "root")
            .hello(2, "child")
            .did(3, "child", 0)
            .signalled(101, "child", Signal::Term)
            .hello(103, "child.fork1")
            .gone(105, "root")
            .ended(106, because(Reason::TimedOut))
            .look_sees(Stage::Quiesce, &["child", "child.fork1"]);
        assert_verdict(&forked, judge_s11, Broken, "child");
        assert_verdict(&forked, judge_s2, Vacuous, "which S8 is about");
    }

    #[test]
    fn another_node_that_was_asked_says_that_a_silent_leader_was() {
        let script = r#"[{"start": {"node": "child", "script": ["log-signals", "hang"]}}, "hang"]"#;
        let asked = case(steps(script))
            .run(0)
            .hello(1, "root")
            .hello(2, "child")
            .did(3, "child", 0)
            .cancel(10)
            .signalled(11, "child", Signal::Term)
            .gone(12, "root")
            .ended(15, because(Reason::Cancelled))
            .look_sees(Stage::Quiesce, &["child"]);
        assert_verdict(&asked, judge_s11, Broken, "child");
        assert_verdict(&asked, judge_s1, Kept, "");
    }

    #[test]
    fn s11_is_vacuous_without_a_deaf_one() {
        assert_verdict(&leaky_cancel(), judge_s11, Vacuous, "deaf to TERM");
    }

    #[test]
    fn each_run_of_a_case_is_judged_by_its_own_end() {
        let two = hanging_pair()
            .cancel(10)
            .gone(11, "root")
            .gone(11, "child")
            .ended(12, because(Reason::Cancelled))
            .run(20)
            .says(21, "root", Report::Hello(Box::new(super::super::by_hand::hello("root"))))
            .hello(22, "child")
            .exiting(23, "root", 0)
            .ended(25, because(Reason::Itself))
            .look_sees(Stage::Quiesce, &["child"]);
        assert_verdict(&two, judge_s1, Kept, "");
        assert_verdict(&two, judge_s3, Broken, "child");
    }
}
