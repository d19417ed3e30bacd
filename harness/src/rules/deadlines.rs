//! D: deadlines and courtesy.
//!
//! A wrapper's own clock is not seen. What is certain is bounded by two moments of the harness's clock: an op was issued before the
//! wrapper could know of it, and an end was seen after it had come. So "too early" counts from the op, and "too late"
//! gives the wrapper the machine's slack.

use fake_cli::content::Output;
use fake_cli::script::{Place, ROOT, Signal, Step, Then};
use fake_cli::span::Span;

use super::directed::{
    TIMEOUT, await_event, emit, on_term, once_ready, ready_and_hang, scenario, slow_stream, start,
    start_hanging, start_holding, to_the_end,
};
use super::ending::{Cause, Ending, ending, is_cancel, shown_us};
use super::facts::{Facts, Lateness, Node, Run, Stop, TICK_US, micros, told};
use super::standing::{Answer, Hearing, Standing, hearing, hearings_since, standing_of};
use super::verdicts::{broken, broken_unless, together};
use super::{Judged, Rule, as_catalogued, odd_timeouts};
use crate::promises::{Keeps, Promises};
use crate::scenario::{Scenario, Verb};
use crate::trace::Reason;
use crate::verdict::{Level, Verdict};

const LATE_GUARD: &str = "The slack is 250 ms or ten times the machine's measured noise; what exceeds it by less than four times the worst \
    hiccup is unknown.";
const LATE_MEASURED: &str = "All times are taken by the harness on one monotonic clock. A wrapper that never returned is late by as long as \
    the harness waited.";

/// The rules of this family.
pub(super) fn rules() -> Vec<Rule> {
    let rule = |id, title, sentence, measured, guard, judge, directed| Rule {
        id,
        title,
        level: Level::Must,
        sentence,
        measured,
        guard,
        weigh: as_catalogued,
        judged: Judged::Trace { judge, directed },
    };
    let later = |id, title, sentence, why| Rule {
        id,
        title,
        level: Level::Must,
        sentence,
        measured: LATE_MEASURED,
        guard: LATE_GUARD,
        weigh: as_catalogued,
        judged: Judged::NotBuilt(why),
    };
    vec![
        rule(
            "D1",
            "timeout returns in time",
            "At its timeout a run returns within timeout, grace and slack, and the drain bound if a process out of reach holds the output.",
            "From the root's hello, or the op if that came later, to the end that the host reports, against timeout + grace + slack.",
            LATE_GUARD,
            judge_d1,
            directed_d1,
        ),
        rule(
            "D2",
            "timeout not early",
            "A run is never ended by its timeout before the timeout is over.",
            "From the op that started the run, which came before the wrapper's clock started, to the first TERM or the end that is reported as timed out.",
            "Less than 10 ms too early is unknown: clocks tick.",
            judge_d2,
            directed_d2,
        ),
        rule(
            "D3",
            "held output is no hang",
            "When the child has exited while another process holds its output open, the run returns within the drain bound, 1 s if none is declared.",
            "From the root's death to the end that the host reports, against drain + grace + slack.",
            LATE_GUARD,
            judge_d3,
            directed_d3,
        ),
        rule(
            "D4",
            "cancel returns in time",
            "A cancelled run returns within grace and slack if somebody is deaf, and within slack if everybody is polite.",
            "From the first cancel to the end that the host reports. Whether the tree is polite follows from what each node had reported to have set.",
            LATE_GUARD,
            judge_d4,
            directed_d4,
        ),
        Rule {
            weigh: weigh_courtesy,
            ..rule(
                "D5",
                "TERM first, then the grace",
                "A stop asks by TERM first, and kills not before the grace is over and not later than grace and slack.",
                "From the nodes' own logs of signals: a node that reports every signal and dies without a report was killed. The grace counts from \
                    the cancel, or from the earliest moment of the timeout.",
                "Only nodes that report every signal can show a kill that came too early. A second cancel may kill at once. Lateness within the \
                    machine's noise is unknown.",
                judge_d5,
                directed_d5,
            )
        },
        rule(
            "D6",
            "a stopped tree dies in time",
            "After a stop, processes of the child's group that had stopped themselves by SIGSTOP are dead within grace and slack.",
            "From the cancel, the drop or the timeout to the death of each node that had stopped itself and would end on TERM, by its control connection \
                and its pidfd.",
            "Who is left for good when the run has returned is a survivor and charged as such. Lateness within the machine's noise is unknown.",
            judge_d6,
            directed_d6,
        ),
        rule(
            "D7",
            "odd timeouts behave",
            "Timeouts of zero, one millisecond and the largest number behave as numbers.",
            "With a timeout of at most a millisecond the run is over within grace, drain bound and slack; with the largest number it ends when its root exits. \
                Neither is an error or the end of the host.",
            "For subjects that take any timeout. A timeout that is refused by a failed start is unknown, and so is lateness within the machine's noise.",
            odd_timeouts::judge,
            odd_timeouts::directed,
        ),
        later(
            "D8",
            "an unkillable child is no hang",
            "A process that cannot be killed (state D) leads to an answer of its own in bounded time, not to a hang.",
            "the freezer of cgroup v1, where a machine has that, makes such a process, and no op of a scenario freezes a node yet",
        ),
    ]
}

fn weigh_courtesy(promises: &Promises) -> Option<Level> {
    (promises.grace == Keeps::Not).then_some(Level::Info)
}

// ---- D1, D3, D4: not late ----

/// A run that has to have returned by a bound.
pub(super) struct Due<'f, 'a> {
    pub(super) facts: &'f Facts<'a>,
    pub(super) run: &'f Run<'a>,
    pub(super) from_us: u64,
    pub(super) bound_us: u64,
    pub(super) doubt: Option<String>,
    /// What the time counts from, for people.
    pub(super) after: &'static str,
}

impl Due<'_, '_> {
    pub(super) fn judge(&self) -> Verdict {
        let facts = self.facts;
        let template_over_us = facts.host_gone().map(|(at_us, _)| at_us).filter(|_| facts.is_template());
        let returned_us = self.run.ended.map(|(at_us, _)| at_us).or(template_over_us);
        let hung = facts.host_fell_silent() && self.run.ended.is_none();
        if self.run.ended.is_none() && self.run.stops.iter().any(|stop| stop.verb == Verb::Drop) {
            return Verdict::Vacuous("the handle was dropped before the run returned".to_owned());
        }
        let ends_host = |stop: &Stop| stop.verb.ends_host() && !is_cancel(facts, stop.verb);
        if returned_us.is_none() && !hung && self.run.stops.iter().any(ends_host) {
            return Verdict::Vacuous("the host was ended before the run returned".to_owned());
        }
        let Some(until_us) = (if hung { Some(facts.last_us()) } else { returned_us }) else {
            return Verdict::Unknown("the trace does not say when the run returned".to_owned());
        };
        let took_us = until_us.saturating_sub(self.from_us);
        let bound_us = self.bound_us.saturating_add(facts.slack_us());
        let how = if hung { "had not returned" } else { "returned" };
        let sentence =
            format!("the run {how} {} after {}; the bound was {}", told(took_us), self.after, told(bound_us));
        match facts.lateness(took_us, bound_us) {
            Lateness::InTime if hung => Verdict::Unknown(format!("{sentence}; nobody waited longer")),
            Lateness::InTime => Verdict::Kept,
            Lateness::WithinNoise(_) => {
                Verdict::Unknown(format!("{sentence}; this machine's noise may explain that"))
            }
            Lateness::Late(_) => broken_unless(self.doubt.as_ref(), sentence),
        }
    }
}

fn judge_d1(facts: &Facts<'_>) -> Verdict {
    if let Some(verdict) = not_for_timeouts(facts) {
        return verdict;
    }
    each_run(facts, |run| undelayed(facts, run, timeout_in_time(facts, run)?))
}

/// What the rules about one run's end do not judge, because it may be another run's doing.
fn undelayed(facts: &Facts<'_>, run: &Run<'_>, verdict: Verdict) -> Result<Verdict, String> {
    if is_stopped_beside(facts, run) {
        return Err("another run was being stopped at the same time, which C3 judges".to_owned());
    }
    Ok(verdict)
}

/// Whether another run was being stopped when this one was to come to its end.
pub(super) fn is_stopped_beside(facts: &Facts<'_>, run: &Run<'_>) -> bool {
    let Ending::By { at_us: from_us, .. } = ending(facts, run) else { return false };
    let until_us = run.ended.map_or(u64::MAX, |(at_us, _)| at_us);
    let others = facts.runs().iter().filter(|other| other.number != run.number);
    others
        .filter_map(|other| stopping(facts, other))
        .any(|(since_us, over_us)| since_us <= until_us && over_us >= from_us)
}

/// From when until when a run may have been in the course of its stop.
fn stopping(facts: &Facts<'_>, run: &Run<'_>) -> Option<(u64, u64)> {
    let (cause, at_us) = match ending(facts, run) {
        Ending::By { cause, at_us, .. } => (cause, at_us),
        // A stop that came before its root was up is one all the same.
        Ending::None(_) => (Cause::Cancelled, run.stops.first()?.at_us),
    };
    let over_us = match cause {
        // Its handle is gone at once, and its ladder is climbed after that.
        Cause::Dropped => {
            at_us.saturating_add(facts.grace_us().unwrap_or(u64::MAX)).saturating_add(facts.slack_us())
        }
        _ => run.ended.map_or(u64::MAX, |(ended_us, _)| ended_us),
    };
    Some((at_us, over_us))
}

/// Whether a run that timed out returned in time.
pub(super) fn timeout_in_time(facts: &Facts<'_>, run: &Run<'_>) -> Result<Verdict, String> {
    let timeout_us = micros(facts.trace.limits.timeout.ok_or("there is no timeout in force")?);
    let (at_us, doubt) = ended_by(facts, run, Cause::TimedOut)?;
    let grace_us = known_grace(facts)?;
    let shown_us = shown_us(run, Cause::TimedOut, at_us);
    let drain_us = if is_held_out_of_reach(facts, run, shown_us) { facts.drain_us() } else { 0 };
    let after = "the child was up";
    let from_us = up_us(run);
    let bound_us = timeout_us.saturating_add(grace_us).saturating_add(drain_us);
    Ok(Due { facts, run, from_us, bound_us, doubt, after }.judge())
}

fn judge_d3(facts: &Facts<'_>) -> Verdict {
    if let Some(fault) = facts.fault() {
        return fault;
    }
    each_run(facts, |run| {
        let (exit_us, doubt) = ended_by(facts, run, Cause::Itself)?;
        let held = held_open(run, exit_us).next().is_some();
        if !held {
            return Err("nobody held the output open when the root exited".to_owned());
        }
        let dead_us = run.root().and_then(|root| root.gone_us).unwrap_or(exit_us).max(exit_us);
        // Whoever ends what is left asks it first.
        let bound_us = facts.drain_us().saturating_add(facts.grace_us().unwrap_or(0));
        let doubt = doubt.or_else(|| unknown_bound(facts)).or_else(|| stopped_meanwhile(run));
        let after = "the root's exit, while its output was held open";
        undelayed(facts, run, Due { facts, run, from_us: dead_us, bound_us, doubt, after }.judge())
    })
}

fn judge_d4(facts: &Facts<'_>) -> Verdict {
    if let Some(fault) = facts.fault() {
        return fault;
    }
    if facts.cannot(Verb::Cancel) {
        return Verdict::NotRun("the subject cannot cancel".to_owned());
    }
    each_run(facts, |run| undelayed(facts, run, cancel_in_time(facts, run)?))
}

/// Whether a run that was cancelled returned in time.
pub(super) fn cancel_in_time(facts: &Facts<'_>, run: &Run<'_>) -> Result<Verdict, String> {
    let (at_us, doubt) = ended_by(facts, run, Cause::Cancelled)?;
    let patience = slowest(facts, run, at_us);
    let grace_us = match patience {
        Patience::None => 0,
        Patience::For(span) => known_grace(facts)?.min(micros(span)),
        Patience::Grace => known_grace(facts)?,
    };
    let drain_us = if is_held_out_of_reach(facts, run, at_us) { facts.drain_us() } else { 0 };
    let after = match patience {
        Patience::None => "the cancel of a polite tree",
        Patience::For(_) | Patience::Grace => "the cancel of a tree that is not polite",
    };
    let bound_us = grace_us.saturating_add(drain_us);
    Ok(Due { facts, run, from_us: at_us, bound_us, doubt, after }.judge())
}

/// A verdict for each run that tests the rule, taken together.
pub(super) fn each_run<'f, 'a>(
    facts: &'f Facts<'a>,
    judge: impl Fn(&'f Run<'a>) -> Result<Verdict, String>,
) -> Verdict {
    let verdicts = facts.runs().iter().map(|run| judge(run).unwrap_or_else(Verdict::Vacuous));
    together(verdicts, || facts.because("no run was started"))
}

fn not_for_timeouts(facts: &Facts<'_>) -> Option<Verdict> {
    let without = || Verdict::NotRun("the subject has no timeout".to_owned());
    facts.fault().or_else(|| (facts.promises().timeout == Keeps::Not).then(without))
}

fn ended_by(facts: &Facts<'_>, run: &Run<'_>, wanted: Cause) -> Result<(u64, Option<String>), String> {
    match ending(facts, run) {
        Ending::By { cause, at_us, doubt } if cause == wanted => Ok((at_us, doubt)),
        Ending::By { cause, .. } => {
            Err(format!("the run {}, which is not what this rule is about", cause.told()))
        }
        Ending::None(why) => Err(why),
    }
}

fn known_grace(facts: &Facts<'_>) -> Result<u64, String> {
    facts.grace_us().ok_or_else(|| "the grace in force is not known: the scenario asks for none".to_owned())
}

/// From when a timeout certainly runs.
fn up_us(run: &Run<'_>) -> u64 {
    run.root().and_then(Node::hello_us).unwrap_or(0).max(run.issued_us)
}

/// Why a bound is not known, where the subject has one that nobody named.
pub(super) fn unknown_bound(facts: &Facts<'_>) -> Option<String> {
    let drain_unknown = facts.trace.limits.drain.is_none() && facts.promises().drain != Keeps::Not;
    (drain_unknown || facts.grace_us().is_none())
        .then(|| "the subject has bounds of its own that the scenario does not name".to_owned())
}

fn stopped_meanwhile(run: &Run<'_>) -> Option<String> {
    let stopped = run.first_stop().is_some();
    stopped.then(|| "the caller stopped the run before it returned".to_owned())
}

/// The nodes but the root that hold the root's output at a time.
fn held_open<'r>(run: &'r Run<'_>, at_us: u64) -> impl Iterator<Item = &'r Node<'r>> {
    [Output::Stdout, Output::Stderr]
        .into_iter()
        .flat_map(|stream| run.holders(stream))
        .filter(move |node| node.name != ROOT && node.alive_at(at_us))
}

/// Whether a node but the root held the root's output at a time, or came to hold it later.
pub(super) fn is_held_since(run: &Run<'_>, at_us: u64) -> bool {
    held_since(run, at_us).next().is_some()
}

/// The nodes but the root that held the root's output at a time, or came to hold it later.
fn held_since<'r>(run: &'r Run<'_>, at_us: u64) -> impl Iterator<Item = &'r Node<'r>> {
    let holders = [Output::Stdout, Output::Stderr].into_iter().flat_map(|stream| run.holders(stream));
    holders.filter(move |node| node.name != ROOT && node.lives_since(at_us))
}

/// Whether a node that a stop of the group does not reach holds the root's output then, or comes to hold it while it is stopped.
fn is_held_out_of_reach(facts: &Facts<'_>, run: &Run<'_>, at_us: u64) -> bool {
    let script = &facts.trace.scenario.script;
    held_since(run, at_us).any(|node| standing_of(script, run, node) != Some(Standing::Stayed))
}

/// For how long a tree may make its wrapper wait after TERM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    None,
    For(Span),
    Grace,
}

fn slowest(facts: &Facts<'_>, run: &Run<'_>, at_us: u64) -> Patience {
    let script = &facts.trace.scenario.script;
    run.nodes.iter().fold(Patience::None, |slowest, node| {
        if node.dead_us().is_some_and(|dead_us| dead_us <= at_us) {
            return slowest;
        }
        if !node.alive_at(at_us) {
            // Born after the cancel: perhaps it was never asked.
            return Patience::Grace;
        }
        // The cancel meets it some time later, when its script may have come further.
        hearings_since(script, node, at_us).iter().fold(slowest, |slowest, heard| slower(slowest, *heard))
    })
}

fn slower(slowest: Patience, heard: Hearing) -> Patience {
    match (heard.answer, slowest) {
        _ if heard.stopped => Patience::Grace,
        (Answer::Ends, slowest) => slowest,
        (Answer::GoesOn, _) | (_, Patience::Grace) => Patience::Grace,
        (Answer::EndsAfter(takes), Patience::For(other)) => Patience::For(takes.max(other)),
        (Answer::EndsAfter(takes), Patience::None) => Patience::For(takes),
    }
}

// ---- D6: the stopped die too ----

fn judge_d6(facts: &Facts<'_>) -> Verdict {
    if let Some(fault) = facts.fault() {
        return fault;
    }
    each_run(facts, |run| {
        let (cause, at_us, doubt) = match ending(facts, run) {
            Ending::By { cause: Cause::Itself | Cause::Owner, .. } => {
                return Err("nobody stopped the run".to_owned());
            }
            Ending::By { cause, at_us, doubt } => (cause, at_us, doubt),
            Ending::None(why) => return Err(why),
        };
        if run.stops.iter().any(|stop| stop.verb.ends_host() && !is_cancel(facts, stop.verb)) {
            return Err("the host was ended, which P1 and P2 judge".to_owned());
        }
        let grace_us = known_grace(facts)?;
        // The wrapper's clock may have started as late as when the root was up.
        let timeout_us = facts.trace.limits.timeout.filter(|_| cause == Cause::TimedOut).map(micros);
        let from_us = timeout_us.map_or(at_us, |timeout_us| up_us(run).saturating_add(timeout_us));
        let verdicts = stopped_at(facts, run, at_us).map(|(node, own_us)| {
            let bound_us = grace_us.saturating_add(own_us).saturating_add(facts.slack_us());
            stopped_dies(facts, node, from_us, bound_us, doubt.as_ref(), cause.after())
        });
        Ok(together(verdicts, || "no node of the root's group was stopped by then".to_owned()))
    })
}

/// The nodes of the root's group that stood stopped at a time and would end on TERM, each with how long it takes for that.
fn stopped_at<'r>(
    facts: &'r Facts<'_>,
    run: &'r Run<'_>,
    at_us: u64,
) -> impl Iterator<Item = (&'r Node<'r>, u64)> {
    let script = &facts.trace.scenario.script;
    run.nodes.iter().filter_map(move |node| {
        let heard = hearing(script, node, at_us);
        let stayed = standing_of(script, run, node) == Some(Standing::Stayed);
        if !heard.stopped || !stayed || !node.alive_at(at_us) {
            return None;
        }
        match heard.answer {
            Answer::Ends => Some((node, 0)),
            Answer::EndsAfter(takes) => Some((node, micros(takes))),
            Answer::GoesOn => None,
        }
    })
}

fn stopped_dies(
    facts: &Facts<'_>,
    node: &Node<'_>,
    from_us: u64,
    bound_us: u64,
    doubt: Option<&String>,
    after: &str,
) -> Verdict {
    // Who died after the look was ended by the harness.
    let looked_us = facts.trace.looks.first().map_or(u64::MAX, |look| look.at_us);
    let gone_us = node.gone_us.filter(|gone_us| *gone_us <= looked_us);
    let (until_us, how) = match gone_us {
        Some(gone_us) => (gone_us, "died"),
        None if facts.host_fell_silent() => (facts.last_us(), "was alive"),
        None => {
            return Verdict::Vacuous(format!(
                "{} was left for good, which the rules about survivors judge",
                node.name
            ));
        }
    };
    let took_us = until_us.saturating_sub(from_us);
    let sentence = format!(
        "{}, which had stopped itself, {how} {} after {after}; the bound was {}",
        node.name,
        told(took_us),
        told(bound_us)
    );
    match facts.lateness(took_us, bound_us) {
        Lateness::InTime if gone_us.is_none() => {
            Verdict::Unknown(format!("{sentence}; nobody waited longer"))
        }
        Lateness::InTime => Verdict::Kept,
        Lateness::WithinNoise(_) => {
            Verdict::Unknown(format!("{sentence}; this machine's noise may explain that"))
        }
        Lateness::Late(_) => broken_unless(doubt, sentence),
    }
}

// ---- D2: not early ----

fn judge_d2(facts: &Facts<'_>) -> Verdict {
    if let Some(verdict) = not_for_timeouts(facts) {
        return verdict;
    }
    each_run(facts, |run| {
        let timeout_us = micros(facts.trace.limits.timeout.ok_or("there is no timeout in force")?);
        if run.root().is_none() {
            return Err(facts.because("the root never said hello"));
        }
        let told_so =
            run.ended.filter(|(_, outcome)| outcome.reason == Reason::TimedOut).map(|(at_us, _)| at_us);
        let by_timeout = ended_by(facts, run, Cause::TimedOut);
        let asked = asked_by_wrapper(facts, run);
        let Some(first_us) = [told_so, asked].into_iter().flatten().min() else {
            // Nothing was seen of the timeout but its effect, and that came late enough.
            return by_timeout.map(|_| Verdict::Kept);
        };
        Ok(not_early(first_us.saturating_sub(run.issued_us), timeout_us))
    })
}

/// When a node was first asked to end by TERM from somebody, before the caller had done anything, and before the harness had looked
/// and told the host to end. What is asked of others once the root has ended is the end of what it left, so others count only as
/// long as the root shows by its own clock that it lives.
fn asked_by_wrapper(facts: &Facts<'_>, run: &Run<'_>) -> Option<u64> {
    let looked_us = facts.trace.looks.first().map(|look| look.at_us);
    let caller_us = run.stops.iter().map(|stop| stop.at_us).chain(looked_us).min().unwrap_or(u64::MAX);
    let root_lives_us = run.root().and_then(|root| root.reports.iter().map(|heard| heard.own_us).max());
    let asked = |node: &Node<'_>| {
        let (at_us, _) = node.reported(Signal::Term).filter(|(_, sender)| *sender > 0)?;
        (at_us < caller_us && (node.name == ROOT || Some(at_us) < root_lives_us)).then_some(at_us)
    };
    run.nodes.iter().filter_map(asked).min()
}

fn not_early(elapsed_us: u64, timeout_us: u64) -> Verdict {
    if elapsed_us >= timeout_us {
        return Verdict::Kept;
    }
    let sentence = format!(
        "the run was ended as timed out {} after it was asked for; the timeout was {}",
        told(elapsed_us),
        told(timeout_us)
    );
    if elapsed_us.saturating_add(TICK_US) >= timeout_us {
        Verdict::Unknown(format!("{sentence}; the tick of a clock may explain that"))
    } else {
        broken(sentence)
    }
}

// ---- D5: courtesy ----

fn judge_d5(facts: &Facts<'_>) -> Verdict {
    if let Some(fault) = facts.fault() {
        return fault;
    }
    each_run(facts, |run| {
        let stop = Asking::of(facts, run)?;
        let verdicts = run.nodes.iter().filter_map(|node| stop.treatment(node));
        Ok(together(verdicts, || "no node of the root's group shows how it was asked and killed".to_owned()))
    })
}

/// The moments of a stop.
struct Asking<'f, 'a> {
    facts: &'f Facts<'a>,
    run: &'f Run<'a>,
    /// The stop began not before this.
    earliest_us: u64,
    /// The stop was due by this.
    latest_us: u64,
    /// From then on the caller wants it to be over at once.
    urged_us: u64,
    grace_us: u64,
    /// From then on deaths are the harness's doing.
    looked_us: u64,
    doubt: Option<String>,
}

impl<'f, 'a> Asking<'f, 'a> {
    fn of(facts: &'f Facts<'a>, run: &'f Run<'a>) -> Result<Self, String> {
        let (cause, earliest_us, doubt) = match ending(facts, run) {
            Ending::By { cause: cause @ (Cause::Cancelled | Cause::TimedOut), at_us, doubt } => {
                (cause, at_us, doubt)
            }
            Ending::By { cause, .. } => {
                return Err(format!("the run {}: nobody was asked to end", cause.told()));
            }
            Ending::None(why) => return Err(why),
        };
        let timeout_us = facts.trace.limits.timeout.map_or(u64::MAX, micros);
        let (latest_us, urges) = match cause {
            Cause::TimedOut => (up_us(run).saturating_add(timeout_us), run.stops.first()),
            _ => (earliest_us, run.stops.get(1)),
        };
        // A timeout inside the grace of a cancel may urge as well.
        let timeout_moment_us = run.issued_us.saturating_add(timeout_us);
        let timeout_urges_us = if cause == Cause::TimedOut { u64::MAX } else { timeout_moment_us };
        Ok(Self {
            facts,
            run,
            earliest_us,
            latest_us,
            urged_us: urges.map_or(u64::MAX, |stop| stop.at_us).min(timeout_urges_us),
            grace_us: known_grace(facts)?,
            looked_us: facts.trace.looks.first().map_or(u64::MAX, |look| look.at_us),
            doubt,
        })
    }

    /// What a node shows of the stop; nothing if it shows nothing.
    fn treatment(&self, node: &Node<'_>) -> Option<Verdict> {
        let script = &self.facts.trace.scenario.script;
        let reached =
            node.alive_at(self.earliest_us) && standing_of(script, self.run, node) == Some(Standing::Stayed);
        if !reached {
            return None;
        }
        let hearings = hearings_since(script, node, self.earliest_us);
        let heard = hearings[0];
        if hearings.iter().any(|later| *later != heard) {
            // Which of its reactions TERM met cannot be said.
            return None;
        }
        let asked = node.reported(Signal::Term).is_some();
        let gone_us = node.gone_us.filter(|gone_us| *gone_us < self.looked_us);
        match (heard.answer, node.exiting(), gone_us) {
            _ if heard.stopped => None,
            (Answer::GoesOn, Some(_), _) | (_, None, None) => None,
            // It left by itself after it was asked: that is how it should be.
            (_, Some(_), _) => asked.then_some(Verdict::Kept),
            (Answer::Ends, None, Some(_)) if !heard.reports => None,
            (answer, None, Some(gone_us)) => Some(self.kill(node, heard, answer, gone_us, asked)),
        }
    }

    /// A node that died without saying that it exits.
    fn kill(&self, node: &Node<'_>, heard: Hearing, answer: Answer, gone_us: u64, asked: bool) -> Verdict {
        let after_us = gone_us.saturating_sub(self.earliest_us);
        let name = node.name;
        let too_early = after_us.saturating_add(TICK_US) < self.grace_us;
        // Whoever is urged may kill at once, however long that takes on a crowded machine.
        let urged =
            gone_us >= self.urged_us && self.urged_us.saturating_sub(self.earliest_us) < self.grace_us;
        if urged && (after_us < self.grace_us || !asked) {
            return Verdict::Vacuous("the caller urged before the grace was over".to_owned());
        }
        let sentence = if too_early {
            let asked = if asked { "" } else { " and without having got TERM" };
            format!(
                "{name} was killed {} after the stop began{asked}; the grace is {}",
                told(after_us),
                told(self.grace_us)
            )
        } else {
            format!("{name} was killed without having got TERM")
        };
        if too_early || heard.reports && !asked {
            return self.certainly(heard, too_early, sentence);
        }
        if answer != Answer::GoesOn {
            return Verdict::Kept;
        }
        self.not_late(name, gone_us)
    }

    fn certainly(&self, heard: Hearing, too_early: bool, sentence: String) -> Verdict {
        if !heard.reports_all {
            return Verdict::Unknown(format!(
                "{sentence}, or it died of another signal that it does not report"
            ));
        }
        // A node that got no processor during the whole grace cannot have reported TERM. Where no grace is promised there is none to be
        // starved in: whatever was sent, it was killed before it could react.
        let starved = self.facts.starved_us() >= self.grace_us;
        if !too_early && starved && self.facts.promises().grace != Keeps::Not {
            return Verdict::Unknown(format!("{sentence}, or the machine gave it no time to say so"));
        }
        broken_unless(self.doubt.as_ref(), sentence)
    }

    fn not_late(&self, name: &str, gone_us: u64) -> Verdict {
        let facts = self.facts;
        let took_us = gone_us.saturating_sub(self.latest_us);
        let sentence = || {
            format!(
                "{name} was killed {} after the stop was due; the grace is {}",
                told(took_us),
                told(self.grace_us)
            )
        };
        match facts.lateness(took_us, self.grace_us.saturating_add(facts.slack_us())) {
            Lateness::InTime => Verdict::Kept,
            Lateness::WithinNoise(_) => {
                Verdict::Unknown(format!("{}; this machine's noise may explain that", sentence()))
            }
            Lateness::Late(_) => broken_unless(self.doubt.as_ref(), sentence()),
        }
    }
}

// ---- Directed scenarios ----

/// Longer than the slack, so that a polite tree that is made to sit it out shows.
const LONG_GRACE: Span = Span::from_millis(3_000);

fn directed_d1() -> Vec<Scenario> {
    let [ready, hang] = ready_and_hang();
    vec![
            scenario(
                "timeout-polite",
                "The plainest timeout: a child that would end on TERM at once.",
                &["D1", "D2", "S2"],
                vec![ready.clone(), hang.clone()],
                to_the_end(),
            )
            .with_timeout(TIMEOUT),
            scenario(
                "timeout-output-held-out-of-reach",
                "The child is dead at its timeout, but a process in another session holds its output: waiting for the end of the output is waiting for ever.",
                &["D1"],
                vec![start_holding("holder", Place::OwnSession, vec![Step::Hang]), ready.clone(), hang.clone()],
                to_the_end(),
            )
            .with_timeout(TIMEOUT),
            scenario(
                "timeout-during-output",
                "A child that keeps writing keeps the reader busy; the timeout must be heard all the same.",
                &["D1", "S2", "O2"],
                vec![ready, slow_stream(1_500), hang],
                to_the_end(),
            )
            .with_timeout(TIMEOUT),
        ]
}

/// As much as a script may write to each of two streams.
const FLOOD: u64 = fake_cli::script::MOST_BYTES / 2;

fn directed_d2() -> Vec<Scenario> {
    vec![
        scenario(
            "timeout-not-early",
            "A child that says when it is asked to end shows when the timeout fired.",
            &["D2", "D1"],
            [vec![on_term(Then::Exit(0))], ready_and_hang().to_vec()].concat(),
            to_the_end(),
        )
        .with_timeout(Span::from_millis(150)),
    ]
}

fn directed_d3() -> Vec<Scenario> {
    let script = |place| vec![start_holding("holder", place, vec![Step::Hang]), emit("ready"), Step::Exit(0)];
    vec![
        scenario(
            "exit-output-held-in-group",
            "The child exits, a process of its group keeps the output open: reading to the end hangs.",
            &["D3"],
            script(Place::SameGroup),
            to_the_end(),
        ),
        scenario(
            "exit-output-held-out-of-reach",
            "As before with a holder in another session, which the kill of the group does not reach: only a bound on the reading helps.",
            &["D3"],
            script(Place::OwnSession),
            to_the_end(),
        ),
    ]
}

fn directed_d4() -> Vec<Scenario> {
    let cancel = || once_ready(Verb::Cancel);
    vec![
        scenario(
            "cancel-polite-tree-with-long-grace",
            "Everybody ends on TERM at once, so nobody has to wait for a grace of three seconds.",
            &["D4"],
            [vec![start_hanging("helper", Place::SameGroup)], ready_and_hang().to_vec()].concat(),
            cancel(),
        )
        .with_grace(LONG_GRACE),
        scenario(
            "cancel-polite-orphan-with-long-grace",
            "TERM to direct children only leaves an orphan unasked, and the whole grace is waited for nothing.",
            &["D4"],
            [vec![start_hanging("orphan", Place::Orphan)], ready_and_hang().to_vec()].concat(),
            cancel(),
        )
        .with_grace(LONG_GRACE),
        scenario(
            "cancel-busy-child",
            "A child that uses all of a processor is no reason to return late.",
            &["D4", "S1"],
            vec![emit("ready"), Step::BusyHang],
            cancel(),
        ),
        scenario(
            "cancel-during-flood",
            "A cancel in the middle of output must be heard by a reader that is never idle.",
            &["D4", "S1"],
            vec![emit("ready"), Step::Flood { most: FLOOD }, Step::Hang],
            cancel(),
        ),
        scenario(
            "cancel-fork-in-term-handler",
            "A child that answers TERM with new children must still be gone after the grace, and they with it.",
            &["D4", "S1"],
            [vec![on_term(Then::Fork(2))], ready_and_hang().to_vec()].concat(),
            cancel(),
        ),
    ]
}

fn directed_d5() -> Vec<Scenario> {
    let patient = Span::from_millis(400);
    let slowly = Then::ExitSlowly { takes: Span::from_millis(40), code: 0 };
    vec![
        scenario(
            "cancel-logs-signals",
            "A child that logs every signal and goes on shows when TERM came and, by its death, when KILL came.",
            &["D5", "D4", "S1"],
            [vec![Step::LogSignals], ready_and_hang().to_vec()].concat(),
            once_ready(Verb::Cancel),
        )
        .with_grace(Span::from_millis(200)),
        scenario(
            "cancel-cleans-up-within-the-grace",
            "A child that needs 40 ms for its clean-up and has a grace of 400 ms must be allowed to finish.",
            &["D5", "D4"],
            [vec![Step::LogSignals, on_term(slowly.clone())], ready_and_hang().to_vec()].concat(),
            once_ready(Verb::Cancel),
        )
        .with_grace(patient),
        scenario(
            "timeout-cleans-up-within-the-grace",
            "As before, asked by the timeout.",
            &["D5", "D1"],
            [vec![Step::LogSignals, on_term(slowly)], ready_and_hang().to_vec()].concat(),
            to_the_end(),
        )
        .with_timeout(TIMEOUT)
        .with_grace(patient),
        scenario(
            "cancel-leader-gone-helper-cleans-up",
            "The leader ends at once and its helper needs a moment: killing the group as soon as the leader is gone takes the helper's grace away.",
            &["D5"],
            vec![
                on_term(Then::Exit(0)),
                start(
                    "helper",
                    Place::SameGroup,
                    vec![
                        Step::LogSignals,
                        on_term(Then::ExitSlowly { takes: Span::from_millis(60), code: 0 }),
                        emit("set"),
                        Step::Hang,
                    ],
                ),
                await_event("helper.set"),
                emit("ready"),
                Step::Hang,
            ],
            once_ready(Verb::Cancel),
        )
        .with_grace(patient),
    ]
}

fn directed_d6() -> Vec<Scenario> {
    let script = || {
        vec![
            start("helper", Place::SameGroup, vec![Step::Stop, Step::Hang]),
            await_event("helper.did-0"),
            emit("ready"),
            Step::Stop,
            Step::Hang,
        ]
    };
    let why = "A stopped process takes TERM only when somebody continues it: who asks and then waits without a bound waits for ever.";
    vec![
        scenario("cancel-stopped-tree", why, &["D6", "D4"], script(), once_ready(Verb::Cancel)),
        scenario("timeout-stopped-tree", why, &["D6", "D1"], script(), to_the_end()).with_timeout(TIMEOUT),
        scenario("drop-stopped-tree", why, &["D6", "S9"], script(), once_ready(Verb::Drop)),
    ]
}

#[cfg(test)]
mod tests {
    use fake_cli::control::Report;

    use super::super::by_hand::{AWAY, Hand, ROOT_IDS, assert_verdict, because, case, hanging_pair, steps};
    use super::*;
    use crate::trace::{Noise, Stage, Status};
    use crate::verdict::VerdictKind::{Broken, Kept, NotRun, Unknown, Vacuous};

    fn noisy(hand: Hand, p99_us: u64, max_us: u64) -> Hand {
        hand.with(|trace| trace.noise = Noise { p99_us, max_us, samples: 50, crowd_percent: 0 })
    }

    fn timed_out(returned_ms: u64) -> Hand {
        // Up after 1 ms; 100 ms timeout, 100 ms grace, 250 ms slack: due 451 ms after the case began.
        hanging_pair().timeout(100).gone(105, "root").ended(returned_ms, because(Reason::TimedOut))
    }

    #[test]
    fn d1_bounds_the_return_by_timeout_grace_and_slack() {
        assert_verdict(&timed_out(110), judge_d1, Kept, "");
        assert_verdict(&timed_out(451), judge_d1, Kept, "");
        assert_verdict(&timed_out(453), judge_d1, Unknown, "noise");
        assert_verdict(
            &timed_out(460),
            judge_d1,
            Broken,
            "returned 459 ms after the child was up; the bound was 450 ms",
        );
    }

    #[test]
    fn d1_gives_a_noisy_machine_more_slack_and_never_accuses_unmeasured() {
        assert_verdict(&noisy(timed_out(1_100), 100_000, 100_000), judge_d1, Kept, "");
        assert_verdict(&noisy(timed_out(1_500), 100_000, 100_000), judge_d1, Unknown, "noise");
        assert_verdict(&noisy(timed_out(1_700), 100_000, 100_000), judge_d1, Broken, "");
        let unmeasured = timed_out(5_000).with(|trace| trace.noise = Noise::default());
        assert_verdict(&unmeasured, judge_d1, Unknown, "noise");
    }

    #[test]
    fn d1_adds_the_drain_bound_where_the_output_is_held_out_of_reach() {
        let held = |drain_ms, returned_ms| {
            case(steps(r#"[{"start": {"node": "holder", "as": "own-session", "holds": ["stdout"], "script": ["hang"]}}, "hang"]"#))
                .timeout(100)
                .drain(drain_ms)
                .run(0)
                .hello(1, "root")
                .hello_as(2, "holder", AWAY)
                .gone(105, "root")
                .ended(returned_ms, because(Reason::TimedOut))
        };
        assert_verdict(&held(400, 800), judge_d1, Kept, "");
        assert_verdict(&held(100, 800), judge_d1, Broken, "the bound was 550 ms");
    }

    #[test]
    fn d1_and_d4_add_the_drain_bound_for_who_comes_to_hold_the_output_during_the_stop() {
        let script = r#"[{"start": {"node": "holder", "as": "own-session", "holds": ["stdout"], "script": ["hang"]}}, "hang"]"#;
        let up = || case(steps(script)).drain(1_000).run(0).hello(1, "root");
        let drained = |hand: Hand, reason| hand.gone(116, "root").ended(1_150, because(reason));
        let cancelled = |ids| drained(up().cancel(110).hello_as(111, "holder", ids), Reason::Cancelled);
        assert_verdict(&cancelled(AWAY), judge_d4, Kept, "");
        assert_verdict(&cancelled(ROOT_IDS), judge_d4, Broken, "the bound was 350 ms");
        let timed_out = |ids| drained(up().timeout(100), Reason::TimedOut).hello_as(117, "holder", ids);
        assert_verdict(&timed_out(AWAY), judge_d1, Kept, "");
        assert_verdict(&timed_out(ROOT_IDS), judge_d1, Broken, "the bound was 450 ms");
    }

    #[test]
    fn d1_is_broken_by_a_host_that_never_returned() {
        let hung =
            hanging_pair().timeout(100).gone(105, "root").silent().host_gone(12_000, Status::Signaled(9));
        assert_verdict(&hung, judge_d1, Broken, "had not returned 11.9 s after");
        let untouched = hanging_pair().timeout(100).silent().host_gone(12_000, Status::Signaled(9));
        assert_verdict(&untouched, judge_d1, Broken, "had not returned");
        let not_long =
            hanging_pair().timeout(100).gone(105, "root").silent().host_gone(200, Status::Signaled(9));
        assert_verdict(&not_long, judge_d1, Unknown, "nobody waited longer");
    }

    #[test]
    fn d1_counts_a_command_by_its_exit() {
        let hand = hanging_pair().template().timeout(100).gone(105, "root");
        assert_verdict(&hand.clone().host_gone(110, Status::Exited(124)), judge_d1, Kept, "");
        assert_verdict(&hand.host_gone(2_000, Status::Exited(124)), judge_d1, Broken, "");
    }

    #[test]
    fn d1_is_vacuous_where_no_timeout_ended_the_run() {
        let exited = hanging_pair().timeout(100).exiting(50, "root", 0).ended(60, because(Reason::Itself));
        assert_verdict(&exited, judge_d1, Vacuous, "ended by itself");
        assert_verdict(
            &hanging_pair().cancel(10).ended(20, because(Reason::Cancelled)),
            judge_d1,
            Vacuous,
            "no timeout",
        );
        let unknown_grace = timed_out(9_000).with(|trace| trace.limits.grace = None);
        assert_verdict(&unknown_grace, judge_d1, Vacuous, "grace in force is not known");
        let none = timed_out(110).promising(|promises| promises.timeout = Keeps::Not);
        assert_verdict(&none, judge_d1, NotRun, "no timeout");
    }

    #[test]
    fn d2_is_broken_only_by_what_is_certainly_too_early() {
        let ended =
            |at_ms| hanging_pair().timeout(100).gone(at_ms, "root").ended(at_ms, because(Reason::TimedOut));
        assert_verdict(&ended(100), judge_d2, Kept, "");
        assert_verdict(&ended(95), judge_d2, Unknown, "tick");
        assert_verdict(
            &ended(60),
            judge_d2,
            Broken,
            "timed out 60 ms after it was asked for; the timeout was 100 ms",
        );
    }

    #[test]
    fn d2_also_hears_the_first_term() {
        let script = r#"["log-signals", "hang"]"#;
        let asked = |at_ms| {
            case(steps(script))
                .timeout(100)
                .run(0)
                .hello(1, "root")
                .did(1, "root", 0)
                .signalled(at_ms, "root", Signal::Term)
                .gone(205, "root")
                .ended(206, because(Reason::TimedOut))
        };
        assert_verdict(&asked(101), judge_d2, Kept, "");
        assert_verdict(&asked(40), judge_d2, Broken, "40 ms");
        let by_the_caller = case(steps(script))
            .timeout(100)
            .run(0)
            .hello(1, "root")
            .cancel(30)
            .signalled(40, "root", Signal::Term)
            .ended(45, because(Reason::Cancelled));
        assert_verdict(&by_the_caller, judge_d2, Vacuous, "was cancelled");
    }

    #[test]
    fn d2_takes_no_end_of_the_host_for_a_timeout() {
        let up = || case(steps(r#"["log-signals", "hang"]"#)).timeout(20_000).run(0).hello(1, "root");
        let stuck = up().did(1, "root", 0).stuck(3_001, Verb::Cancel, "root.never");
        let silent = up().did(1, "root", 0).what(3_001, crate::trace::What::GaveUp).silent();
        for waited in [stuck, silent] {
            let told = |hand: Hand, at_ms| hand.signalled(at_ms, "root", Signal::Term).gone(5_100, "root");
            let by_bye = told(waited.clone().look_sees(Stage::Quiesce, &["root"]), 5_003);
            assert_verdict(&by_bye, judge_d2, Vacuous, "");
            let before = told(waited, 2_000).look(Stage::Quiesce, vec![]);
            assert_verdict(&before, judge_d2, Broken, "2.0 s after it was asked for");
        }
    }

    #[test]
    fn d2_takes_no_clean_up_of_what_the_root_left_for_a_timeout() {
        let script = r#"[{"start": {"node": "left", "script": ["log-signals", "hang"]}}, {"exit": 0}]"#;
        let left = || {
            let up = case(steps(script)).timeout(100).run(0).hello(1, "root").hello(2, "left");
            up.did(2, "left", 0)
        };
        let ended = |hand: Hand| hand.gone(50, "left").ended(51, because(Reason::Itself));
        let cleaned_up = left().exiting(30, "root", 0).gone(31, "root").signalled(32, "left", Signal::Term);
        assert_verdict(&ended(cleaned_up), judge_d2, Vacuous, "ended by itself");
        let asked_before = left().signalled(20, "left", Signal::Term).exiting(30, "root", 0).gone(31, "root");
        assert_verdict(&ended(asked_before), judge_d2, Broken, "20 ms");
    }

    #[test]
    fn d2_is_vacuous_when_nothing_timed_out() {
        let exited = hanging_pair().timeout(100).exiting(50, "root", 0).ended(60, because(Reason::Itself));
        assert_verdict(&exited, judge_d2, Vacuous, "ended by itself");
        assert_verdict(&hanging_pair(), judge_d2, Vacuous, "no timeout in force");
        let silent_api = hanging_pair().timeout(100).gone(105, "root").ended(106, because(Reason::Unsaid));
        assert_verdict(&silent_api, judge_d2, Kept, "");
    }

    fn exit_while_held() -> Hand {
        hanging_pair().drain(100).exiting(10, "root", 0).gone(11, "root")
    }

    #[test]
    fn d3_bounds_the_wait_for_output_that_is_held_open() {
        // Dead after 11 ms; 100 ms drain, 100 ms grace, 250 ms slack: due after 461 ms.
        assert_verdict(&exit_while_held().ended(120, because(Reason::Itself)), judge_d3, Kept, "");
        assert_verdict(&exit_while_held().ended(463, because(Reason::Itself)), judge_d3, Unknown, "noise");
        assert_verdict(
            &exit_while_held().ended(3_000, because(Reason::Itself)),
            judge_d3,
            Broken,
            "held open",
        );
        let hung = exit_while_held().silent().host_gone(12_000, Status::Signaled(9));
        assert_verdict(&hung, judge_d3, Broken, "had not returned");
        let stopped = exit_while_held().cancel(2_000).ended(2_100, because(Reason::Cancelled));
        assert_verdict(&stopped, judge_d3, Unknown, "the caller stopped");
        let unnamed =
            exit_while_held().with(|trace| trace.limits.drain = None).ended(3_000, because(Reason::Itself));
        assert_verdict(&unnamed, judge_d3, Unknown, "bounds of its own");
    }

    #[test]
    fn d3_is_vacuous_when_nobody_held_the_output() {
        let script = r#"[{"start": {"node": "child", "script": ["hang"]}}, {"exit": 0}]"#;
        let quiet = case(steps(script))
            .run(0)
            .hello(1, "root")
            .quiet_hello(2, "child", ROOT_IDS)
            .exiting(10, "root", 0)
            .ended(5_000, because(Reason::Itself));
        assert_verdict(&quiet, judge_d3, Vacuous, "nobody held");
        let cancelled = hanging_pair().cancel(10).ended(20, because(Reason::Cancelled));
        assert_verdict(&cancelled, judge_d3, Vacuous, "was cancelled");
    }

    fn cancelled(reaction: &str, returned_ms: u64) -> Hand {
        let script = format!(r#"[{{"on": {{"signal": "TERM", "then": {reaction}}}}}, "hang"]"#);
        case(steps(&script))
            .grace(1_000)
            .run(0)
            .hello(1, "root")
            .did(1, "root", 0)
            .cancel(10)
            .gone(returned_ms, "root")
            .ended(returned_ms, because(Reason::Cancelled))
    }

    #[test]
    fn d4_gives_the_grace_only_to_a_tree_that_needs_it() {
        assert_verdict(&cancelled(r#""default""#, 100), judge_d4, Kept, "");
        assert_verdict(
            &cancelled(r#""default""#, 1_020),
            judge_d4,
            Broken,
            "polite tree; the bound was 250 ms",
        );
        assert_verdict(&cancelled(r#""ignore""#, 1_020), judge_d4, Kept, "");
        assert_verdict(&cancelled(r#""ignore""#, 1_262), judge_d4, Unknown, "noise");
        assert_verdict(&cancelled(r#""ignore""#, 1_900), judge_d4, Broken, "not polite; the bound was 1.2 s");
        let slowly = r#"{"exit-slowly": {"takes": "200ms", "code": 0}}"#;
        assert_verdict(&cancelled(slowly, 400), judge_d4, Kept, "");
        assert_verdict(&cancelled(slowly, 1_020), judge_d4, Broken, "not polite");
    }

    #[test]
    fn d4_counts_from_the_first_cancel() {
        let twice = hanging_pair()
            .cancel(10)
            .cancel(1_000)
            .gone(1_001, "root")
            .ended(1_002, because(Reason::Cancelled));
        assert_verdict(&twice, judge_d4, Broken, "992 ms");
    }

    #[test]
    fn d4_is_vacuous_when_the_handle_was_dropped_meanwhile() {
        let dropped = hanging_pair().cancel(10).drop(11).done(12).gone(13, "root");
        assert_verdict(&dropped, judge_d4, Vacuous, "handle was dropped");
    }

    #[test]
    fn d4_is_vacuous_when_the_host_was_ended_meanwhile() {
        let killed = hanging_pair().cancel(10).kill_host(11).done(11).gone(12, "root");
        let killed = killed.host_gone(12, Status::Signaled(9));
        assert_verdict(&killed, judge_d4, Vacuous, "host was ended before");
        let unsaid = hanging_pair().cancel(10).gone(12, "root");
        assert_verdict(&unsaid, judge_d4, Unknown, "does not say when");
    }

    #[test]
    fn d4_gives_the_grace_to_who_turned_deaf_before_the_cancel_met_it() {
        let script = r#"[{"on": {"signal": "TERM", "then": "log"}}, "hang"]"#;
        let turned = case(steps(script))
            .grace(1_000)
            .run(0)
            .hello(1, "root")
            .cancel(10)
            .did(11, "root", 0)
            .gone(1_012, "root")
            .ended(1_012, because(Reason::Cancelled));
        assert_verdict(&turned, judge_d4, Kept, "");
    }

    #[test]
    fn d4_is_unknown_when_the_cancel_came_before_the_root_was_up() {
        let early = case(steps(r#"["hang"]"#))
            .run(0)
            .cancel(1)
            .hello(500, "root")
            .gone(501, "root")
            .ended(502, because(Reason::Cancelled));
        assert_verdict(&early, judge_d4, Unknown, "before the root was up");
    }

    #[test]
    fn d4_waits_the_grace_for_who_was_born_during_the_stop() {
        let born = hanging_pair()
            .cancel(10)
            .hello(12, "late")
            .gone(13, "root")
            .ended(300, because(Reason::Cancelled));
        assert_verdict(&born, judge_d4, Kept, "");
    }

    #[test]
    fn d4_is_broken_by_a_host_that_never_returned() {
        let hung = hanging_pair().cancel(10).silent().host_gone(12_000, Status::Signaled(9));
        assert_verdict(&hung, judge_d4, Broken, "had not returned 11.9 s after the cancel");
    }

    #[test]
    fn d4_is_vacuous_without_a_cancel_and_does_not_run_where_there_is_none() {
        assert_verdict(&timed_out(110), judge_d4, Vacuous, "timed out");
        assert_verdict(&hanging_pair().cancel(10).unimplemented(11), judge_d4, NotRun, "cannot cancel");
    }

    /// A root that logs every signal, with this reaction to TERM besides, cancelled after 10 ms with a grace of 100 ms.
    fn logging(reaction: &str) -> Hand {
        let script =
            format!(r#"["log-signals", {{"on": {{"signal": "TERM", "then": {reaction}}}}}, "hang"]"#);
        case(steps(&script)).run(0).hello(1, "root").did(1, "root", 0).did(1, "root", 1).cancel(10)
    }

    #[test]
    fn d5_is_kept_by_who_asks_waits_and_kills() {
        let hand = logging(r#""log""#)
            .signalled(12, "root", Signal::Term)
            .gone(115, "root")
            .ended(116, because(Reason::Cancelled));
        assert_verdict(&hand, judge_d5, Kept, "");
        let obeys = logging(r#"{"exit": 0}"#)
            .signalled(12, "root", Signal::Term)
            .exiting(12, "root", 0)
            .gone(13, "root")
            .ended(14, because(Reason::Cancelled));
        assert_verdict(&obeys, judge_d5, Kept, "");
    }

    #[test]
    fn d5_is_broken_by_a_kill_before_the_grace_is_over() {
        let slowly = r#"{"exit-slowly": {"takes": "60ms", "code": 0}}"#;
        let early = logging(slowly)
            .signalled(12, "root", Signal::Term)
            .gone(40, "root")
            .ended(41, because(Reason::Cancelled));
        assert_verdict(
            &early,
            judge_d5,
            Broken,
            "root was killed 30 ms after the stop began; the grace is 100 ms",
        );
        let unasked = logging(r#""log""#).gone(12, "root").ended(13, because(Reason::Cancelled));
        assert_verdict(&unasked, judge_d5, Broken, "without having got TERM");
    }

    #[test]
    fn d5_is_broken_by_a_kill_that_was_never_announced() {
        let unasked = logging(r#""log""#).gone(150, "root").ended(151, because(Reason::Cancelled));
        assert_verdict(&unasked, judge_d5, Broken, "killed without having got TERM");
        assert_verdict(&noisy(unasked, 1_000, 30_000), judge_d5, Unknown, "gave it no time");
    }

    #[test]
    fn d5_is_unknown_where_a_crowd_may_have_starved_the_node_though_sleepers_were_let_in() {
        let crowded = |percent| {
            let unasked = logging(r#""log""#).gone(150, "root").ended(151, because(Reason::Cancelled));
            unasked.with(|trace| trace.noise.crowd_percent = percent)
        };
        assert_verdict(&crowded(1_200), judge_d5, Unknown, "gave it no time");
        assert_verdict(&crowded(300), judge_d5, Broken, "killed without having got TERM");
        // Where as many want a processor as there are, nobody waits for a turn, however short the grace is.
        let short = |percent| crowded(percent).with(|trace| trace.limits.grace = Some(Span::from_millis(5)));
        assert_verdict(&short(100), judge_d5, Broken, "killed without having got TERM");
        assert_verdict(&short(200), judge_d5, Unknown, "gave it no time");
    }

    #[test]
    fn d5_is_broken_by_a_kill_long_after_the_grace() {
        let late = |ms| {
            logging(r#""log""#)
                .signalled(12, "root", Signal::Term)
                .gone(ms, "root")
                .ended(ms, because(Reason::Cancelled))
        };
        assert_verdict(&late(359), judge_d5, Kept, "");
        assert_verdict(&late(363), judge_d5, Unknown, "noise");
        assert_verdict(&late(900), judge_d5, Broken, "890 ms after the stop was due");
    }

    #[test]
    fn d5_lets_a_second_cancel_kill_at_once() {
        let urged = logging(r#""log""#)
            .signalled(12, "root", Signal::Term)
            .cancel(20)
            .gone(22, "root")
            .ended(23, because(Reason::Cancelled));
        assert_verdict(&urged, judge_d5, Vacuous, "urged");
        let urged_on_a_crowded_machine =
            logging(r#""log""#).cancel(15).gone(150, "root").ended(151, because(Reason::Cancelled));
        assert_verdict(&urged_on_a_crowded_machine, judge_d5, Vacuous, "urged");
    }

    #[test]
    fn d5_takes_neither_the_sweep_nor_an_earlier_death_for_a_kill() {
        let swept = logging(r#""log""#)
            .signalled(12, "root", Signal::Term)
            .ended(13, because(Reason::Cancelled))
            .look(Stage::Quiesce, vec![])
            .gone(2_500, "root");
        assert_verdict(&swept, judge_d5, Vacuous, "no node");
        let script = r#"[{"start": {"node": "child", "script": ["log-signals", "hang"]}}, "hang"]"#;
        let dead_before = case(steps(script))
            .run(0)
            .hello(1, "root")
            .hello(2, "child")
            .did(3, "child", 0)
            .gone(5, "child")
            .cancel(10)
            .gone(12, "root")
            .ended(13, because(Reason::Cancelled));
        assert_verdict(&dead_before, judge_d5, Vacuous, "no node");
    }

    #[test]
    fn d5_says_nothing_of_who_changed_its_reaction_meanwhile() {
        let script = r#"["log-signals", {"on": {"signal": "TERM", "then": "default"}}, "hang"]"#;
        let changed = case(steps(script))
            .run(0)
            .hello(1, "root")
            .did(1, "root", 0)
            .cancel(10)
            .did(11, "root", 1)
            .gone(12, "root")
            .ended(13, because(Reason::Cancelled));
        assert_verdict(&changed, judge_d5, Vacuous, "no node");
    }

    #[test]
    fn d5_expects_no_report_of_a_signal_that_met_an_exec() {
        let script = r#"["log-signals", "clear-environment", "hang"]"#;
        let exec = |at_ms: u64| {
            let up = case(steps(script)).grace(1_000).run(0).hello(1, "root").did(2, "root", 0);
            up.says(at_ms, "root", Report::Reexec)
        };
        let ended = |hand: Hand, at_ms| hand.gone(at_ms, "root").ended(at_ms, because(Reason::Cancelled));
        assert_verdict(&ended(exec(4).cancel(5), 6), judge_d5, Vacuous, "no node");
        // Which of both it met cannot be said where the cancel came before.
        let before = case(steps(script)).grace(1_000).run(0).hello(1, "root").did(2, "root", 0).cancel(3);
        assert_verdict(
            &ended(before.clone().says(4, "root", Report::Reexec), 6),
            judge_d5,
            Vacuous,
            "no node",
        );
        assert_verdict(&ended(before, 6), judge_d5, Broken, "without having got TERM");
    }

    #[test]
    fn d5_does_not_take_another_signal_for_a_kill() {
        // This one reports TERM only: an INT that came first would end it unreported.
        let script = r#"[{"on": {"signal": "TERM", "then": "log"}}, "hang"]"#;
        let hand = case(steps(script))
            .run(0)
            .hello(1, "root")
            .did(1, "root", 0)
            .cancel(10)
            .gone(12, "root")
            .ended(13, because(Reason::Cancelled));
        assert_verdict(&hand, judge_d5, Unknown, "another signal");
    }

    #[test]
    fn d5_is_vacuous_where_nobody_shows_it_and_weighs_only_where_a_grace_is_promised() {
        let quiet = hanging_pair()
            .cancel(10)
            .gone(11, "root")
            .gone(11, "child")
            .ended(12, because(Reason::Cancelled));
        assert_verdict(&quiet, judge_d5, Vacuous, "no node");
        let dropped = hanging_pair().drop(10).done(10);
        assert_verdict(&dropped, judge_d5, Vacuous, "was dropped");
        let rule = super::super::find("D5").unwrap();
        assert_eq!(rule.level_for(&Promises::default()), Level::Info);
        assert_eq!(rule.level_for(&Promises { grace: Keeps::AsAsked, ..Promises::default() }), Level::Must);
    }

    #[test]
    fn d5_tells_who_kills_at_once_without_a_promise() {
        let hand = logging(r#""log""#)
            .promising(|promises| promises.grace = Keeps::Not)
            .with(|trace| trace.limits.grace = None)
            .gone(12, "root")
            .ended(13, because(Reason::Cancelled));
        assert_verdict(&hand, judge_d5, Broken, "without having got TERM");
    }

    /// A root and a child that have both stopped themselves by 5 ms.
    fn stopped_pair(reaction: &str) -> Hand {
        let script = format!(
            r#"[{{"start": {{"node": "child", "script": [{{"on": {{"signal": "TERM", "then": {reaction}}}}}, "stop", "hang"]}}}}, "stop", "hang"]"#
        );
        case(steps(&script))
            .run(0)
            .hello(1, "root")
            .hello(2, "child")
            .did(3, "child", 0)
            .did(4, "child", 1)
            .did(5, "root", 1)
    }

    #[test]
    fn d6_counts_until_the_stopped_are_dead_whenever_the_run_returned() {
        let died = |at_ms| {
            stopped_pair(r#""default""#)
                .cancel(10)
                .gone(12, "root")
                .ended(15, because(Reason::Cancelled))
                .gone(at_ms, "child")
        };
        // 10 ms + the grace of 100 ms + the slack of 250 ms.
        assert_verdict(&died(359), judge_d6, Kept, "");
        assert_verdict(&died(362), judge_d6, Unknown, "noise");
        assert_verdict(
            &died(900),
            judge_d6,
            Broken,
            "child, which had stopped itself, died 890 ms after the cancel",
        );
    }

    #[test]
    fn d6_gives_a_clean_up_its_time_and_leaves_the_deaf_to_others() {
        let slow = stopped_pair(r#"{"exit-slowly": {"takes": "600ms", "code": 0}}"#)
            .cancel(10)
            .gone(12, "root")
            .ended(15, because(Reason::Cancelled))
            .gone(900, "child");
        assert_verdict(&slow, judge_d6, Kept, "");
        let deaf = stopped_pair(r#""ignore""#)
            .cancel(10)
            .ended(15, because(Reason::Cancelled))
            .gone(12, "root")
            .gone(900, "child");
        assert_verdict(&deaf, judge_d6, Kept, "");
    }

    #[test]
    fn d6_is_broken_by_a_wrapper_that_waits_for_the_stopped_for_ever() {
        let waits = stopped_pair(r#""default""#).cancel(10).silent().what(4_000, crate::trace::What::GaveUp);
        assert_verdict(&waits, judge_d6, Broken, "was alive");
        let timed =
            stopped_pair(r#""default""#).timeout(100).silent().what(4_000, crate::trace::What::GaveUp);
        assert_verdict(&timed, judge_d6, Broken, "after the timeout");
    }

    #[test]
    fn d6_leaves_survivors_escapes_and_ends_by_itself_to_others() {
        let script = r#"[{"start": {"node": "child", "script": ["stop", "hang"]}}, "hang"]"#;
        let left = case(steps(script)).run(0).hello(1, "root").hello(2, "child").did(3, "child", 0);
        let left = left.cancel(10).gone(12, "root").ended(15, because(Reason::Cancelled));
        assert_verdict(&left, judge_d6, Vacuous, "rules about survivors");
        assert_verdict(&hanging_pair().cancel(10).gone(11, "root"), judge_d6, Vacuous, "was stopped by then");
        let host_killed = stopped_pair(r#""default""#).kill_host(10);
        assert_verdict(&host_killed, judge_d6, Vacuous, "nobody stopped the run");
        assert_verdict(&left.our_fault(), judge_d6, Unknown, "harness could not");
    }
}
