//! O: output.
//!
//! What a node has written is what it confirmed after the system call had returned: those bytes were in the pipe. A stream with one writer is
//! compared by its hash too, for every prefix of it is known; of one with several writers only the length is.

use fake_cli::content::{Content, Output, hash_of_prefix};
use fake_cli::control::Report;
use fake_cli::script::{Place, Reaction, Signal, Step, Then};

use fake_cli::span::Span;

use super::directed::{
    emit, on_term, once_ready, scenario, slow_stream, start_holding, to_the_end, write, write_binary,
};
use super::ending::{Cause, Ending, ending};
use super::facts::{Facts, Lateness, Node, Run, told};
use super::standing::{stands_still_after, steps_of};
use super::verdicts::together;
use super::{Judged, Rule, as_catalogued, closed_input, records};
use crate::scenario::{Scenario, Verb};
use crate::trace::{Captured, Outcome};
use crate::verdict::{Finding, Level, Verdict};

const STREAMS: [Output; 2] = [Output::Stdout, Output::Stderr];
/// What a pipe holds unless somebody asked for more: whoever writes so much has to be read from.
const PIPE_BYTES: u64 = 64 * 1024;
/// More than a pipe holds, by as much as a wrapper may read ahead.
const A_FLOOD: u64 = 512 * 1024;
/// A timeout that ends a deadlock, far more than any slack.
const LONG: Span = Span::from_millis(6_000);
/// Above this a wrapper may have a limit, if it says that it cut.
const LIMITS_ARE_HIGHER: u64 = 1024 * 1024;

const MEASURED: &str = "The bytes that the nodes confirmed to have written against the number and rolling hash of the bytes that the host captured.";
const GUARD: &str = "Only confirmed bytes of nodes that hold the stream count, and those of a writer that a signal ended as the least that it wrote; with several writers \
    only lengths are compared.";

/// The rules of this family.
pub(super) fn rules() -> Vec<Rule> {
    let rule = |id, title, sentence, judged| Rule {
        id,
        title,
        level: Level::Must,
        sentence,
        measured: MEASURED,
        guard: GUARD,
        weigh: as_catalogued,
        judged,
    };
    let of_records = |id, title, sentence, judged| Rule {
        measured: "Nodes write records that say of which run, node and stream they are and which number they have; the host says what the whole \
            ones among them are that it captured.",
        guard: "Only whole records count, each for itself, so what was cut or was written into by another tells nothing.",
        ..rule(id, title, sentence, judged)
    };
    vec![
        rule(
            "O1",
            "output complete",
            "When the child exits by itself, exactly what was written is captured, a last burst included.",
            Judged::Trace { judge: judge_o1, directed: directed_o1 },
        ),
        rule(
            "O2",
            "output kept after a stop",
            "After a stop, what is captured is a prefix of what was written, with at least everything that was written before the stop.",
            Judged::Trace { judge: judge_o2, directed: directed_o2 },
        ),
        rule(
            "O3",
            "cut output is said",
            "Captured output that is shorter than what was written is said to be cut.",
            Judged::Trace { judge: judge_o3, directed: directed_o3 },
        ),
        of_records(
            "O4",
            "nothing twice",
            "Nothing is captured twice.",
            Judged::Trace { judge: records::judge_o4, directed: records::directed_o4 },
        ),
        of_records(
            "O5",
            "order kept",
            "The order within each stream is kept.",
            Judged::Trace { judge: records::judge_o5, directed: records::directed_o5 },
        ),
        of_records(
            "O6",
            "streams kept apart",
            "Nothing of one stream shows in the other.",
            Judged::Trace { judge: records::judge_o6, directed: records::directed_o6 },
        ),
        of_records(
            "O7",
            "runs kept apart",
            "Nothing of one run shows in another.",
            Judged::Trace { judge: records::judge_o7, directed: records::directed_o7 },
        ),
        Rule {
            measured: "The root writes more than a pipe holds to both streams, in either order and at once, also while the wrapper has more than a \
                pipe holds to write to it. Each chunk that a pipe took is reported.",
            guard: "Only a root that is in the middle of a write, and has got nothing into a pipe for longer than the machine's slack and noise \
                explain, is stuck; and only for subjects that give output back. One that was stopped sooner proves nothing.",
            ..rule(
                "O8",
                "a flood is no deadlock",
                "A flood on both streams and an unread input do not block the run.",
                Judged::Trace { judge: judge_o8, directed: directed_o8 },
            )
        },
        rule(
            "O9",
            "binary safe",
            "Every byte value passes unchanged, and so does a character of several bytes wherever it is cut.",
            Judged::Trace { judge: records::judge_o9, directed: records::directed_o9 },
        ),
        Rule {
            measured: "The root is given more input than a pipe holds, and closes it or exits without having read it; how the run ends is told by \
                the host.",
            guard: "The root itself says that it closed its input. A write of the caller's own may fail: only the run may not.",
            ..rule(
                "O10",
                "closed input is no error",
                "A child that closes its input early is no error by itself.",
                Judged::Trace { judge: closed_input::judge, directed: closed_input::directed },
            )
        },
    ]
}

/// A stream of a run that has an outcome.
pub(super) struct Stream<'f, 'a> {
    facts: &'f Facts<'a>,
    pub(super) run: &'f Run<'a>,
    pub(super) to: Output,
    pub(super) captured: Captured,
    ended_us: u64,
}

impl Stream<'_, '_> {
    fn written(&self, by_us: u64) -> u64 {
        self.run.holders(self.to).map(|node| node.wrote(self.to, by_us)).sum()
    }

    /// Whether the captured bytes are the first ones of the stream; nothing where that cannot be known.
    pub(super) fn is_prefix(&self) -> Option<bool> {
        let script = &self.facts.trace.scenario.script;
        let written = self.run.holders(self.to).map(|node| contents(script, node.name, self.to));
        let writers: Vec<Vec<Content>> = written.filter(|contents| !contents.is_empty()).collect();
        let [contents] = &writers[..] else { return None };
        if self.run.holders(self.to).any(|node| says_messages(script, node.name)) {
            return None;
        }
        let content = contents[0];
        // Marked records differ from run to run; they are judged by what they say.
        if content == Content::Marked || contents.iter().any(|other| *other != content) {
            return None;
        }
        Some(hash_of_prefix(content, self.to, self.captured.bytes) == self.captured.hash)
    }

    /// Whether one of its holders writes bytes of one of these kinds to it.
    pub(super) fn is_of(&self, kinds: &[Content]) -> bool {
        let script = &self.facts.trace.scenario.script;
        let mut written = self.run.holders(self.to).flat_map(|node| contents(script, node.name, self.to));
        written.any(|content| kinds.contains(&content))
    }

    pub(super) fn name(&self) -> &'static str {
        self.to.name()
    }

    /// Whether both streams are one pipe, so that what was captured of one may hold the other's bytes.
    pub(super) fn is_shared(&self) -> bool {
        let Some(root) = self.run.root() else { return false };
        let pipe = root.descriptor(1);
        pipe.is_some() && pipe == root.descriptor(2)
    }

    /// Output that is short because of a limit, and said to be cut, is no loss that a rule forbids.
    fn is_cut_by_limit(&self, written: u64) -> bool {
        self.captured.complete == Some(false) && written > LIMITS_ARE_HIGHER
    }
}

/// Whether a script writes what does not follow from its position alone.
fn says_messages(script: &[Step], node: &str) -> bool {
    steps_of(script, node).unwrap_or_default().iter().any(|step| matches!(step, Step::Say(_)))
}

/// The kinds of bytes that a node's script writes to a stream. What was written last may never have been confirmed, so the
/// script says who may have written, not the reports.
fn contents(script: &[Step], node: &str, stream: Output) -> Vec<Content> {
    let steps = steps_of(script, node).unwrap_or_default();
    let content = |step: &Step| match step {
        Step::Write(write) | Step::Buffer(write) if write.to == stream => Some(write.content),
        Step::Say(_) if stream == Output::Stdout => Some(Content::Messages),
        Step::On(Reaction { then: Then::WriteLater { to, .. }, .. }) if *to == stream => {
            Some(Content::Records)
        }
        Step::SlowStream(slow) if slow.to == stream => Some(Content::Records),
        Step::Flood { .. } => Some(Content::Records),
        _ => None,
    };
    steps.iter().filter_map(content).collect()
}

fn captured_of(outcome: &Outcome, stream: Output) -> Option<Captured> {
    match stream {
        Output::Stdout => outcome.stdout,
        Output::Stderr => outcome.stderr,
    }
}

/// A verdict for each captured stream of each run, taken together.
pub(super) fn each_stream(
    facts: &Facts<'_>,
    tested: impl Fn(&Run<'_>) -> Result<(), String>,
    judge: impl Fn(&Stream<'_, '_>) -> Verdict,
) -> Verdict {
    if let Some(fault) = facts.fault() {
        return fault;
    }
    if !facts.promises().captures {
        return Verdict::NotRun("the subject does not give the child's output back".to_owned());
    }
    let mut verdicts = Vec::new();
    for run in facts.runs() {
        match (tested(run), run.ended) {
            (Err(why), _) => verdicts.push(Verdict::Vacuous(why)),
            (Ok(()), None) => verdicts.push(Verdict::Vacuous(facts.because("the run has no outcome"))),
            (Ok(()), Some((ended_us, outcome))) => {
                verdicts.extend(STREAMS.into_iter().map(|to| match captured_of(outcome, to) {
                    Some(captured) => judge(&Stream { facts, run, to, captured, ended_us }),
                    None => Verdict::NotRun(format!("the outcome gives no {} back", to.name())),
                }));
            }
        }
    }
    together(verdicts, || facts.because("no run was started"))
}

pub(super) fn broken(sentence: String, bytes: u64) -> Verdict {
    Verdict::Broken(Finding { sentence, count: bytes })
}

// ---- O1 ----

fn judge_o1(facts: &Facts<'_>) -> Verdict {
    let tested = |run: &Run<'_>| match ending(facts, run) {
        Ending::By { cause: Cause::Itself, doubt: None, .. } if run.first_stop().is_none() => Ok(()),
        Ending::By { .. } => Err("the root was stopped".to_owned()),
        Ending::None(why) => Err(why),
    };
    each_stream(facts, tested, complete_after_exit)
}

fn complete_after_exit(stream: &Stream<'_, '_>) -> Verdict {
    let name = stream.name();
    if stream.is_shared() {
        return Verdict::Vacuous("both streams are one pipe".to_owned());
    }
    let held_until_us = stream.run.holders(stream.to).map(|node| node.exiting().map(|(at_us, _)| at_us));
    let Some(all_left) = held_until_us.collect::<Option<Vec<u64>>>() else {
        return complete_up_to_exit(stream);
    };
    let written = stream.written(u64::MAX);
    let captured = stream.captured.bytes;
    if written == 0 && captured == 0 {
        return Verdict::Vacuous(format!("nothing was written to {name}"));
    }
    if all_left.iter().any(|left_us| *left_us > stream.ended_us) {
        return complete_up_to_exit(stream);
    }
    if refused(stream) {
        return Verdict::Unknown(format!(
            "a write to {name} failed, so not all of it can have been captured"
        ));
    }
    if captured < written && stream.is_cut_by_limit(written) {
        return Verdict::Vacuous(format!("{name} is longer than a limit, and is said to be cut"));
    }
    let confirmed = format!("{written} bytes were written to {name}, {captured} were captured");
    let may_be_more = captured > written && was_interrupted(stream);
    if captured != written && !may_be_more {
        return broken(confirmed, written.abs_diff(captured));
    }
    match stream.is_prefix() {
        Some(false) => broken(
            format!("the {captured} bytes captured of {name} are not the ones that were written"),
            captured,
        ),
        None if may_be_more => Verdict::Unknown(format!(
            "{confirmed}, and a signal may have ended a writer before it could confirm its last ones"
        )),
        Some(true) | None => Verdict::Kept,
    }
}

/// Whether a handler may have ended a writer of the stream between a system call that wrote and its confirmation.
fn was_interrupted(stream: &Stream<'_, '_>) -> bool {
    let script = &stream.facts.trace.scenario.script;
    stream.run.holders(stream.to).any(|node| node.signals().next().is_some() || node.expired(script))
}

/// While others still hold the stream, only what was there when the root exited must have been captured.
fn complete_up_to_exit(stream: &Stream<'_, '_>) -> Verdict {
    let name = stream.name();
    let exit_us = stream.run.root().and_then(Node::exiting).map_or(0, |(at_us, _)| at_us);
    let written = stream.written(exit_us);
    let captured = stream.captured.bytes;
    if written == 0 {
        return Verdict::Vacuous(format!("nothing was written to {name} before the root exited"));
    }
    if captured >= written {
        return Verdict::Kept;
    }
    if stream.is_cut_by_limit(written) {
        return Verdict::Vacuous(format!("{name} is longer than a limit, and is said to be cut"));
    }
    broken(
        format!("{written} bytes were written to {name} before the root exited, {captured} were captured"),
        written - captured,
    )
}

fn refused(stream: &Stream<'_, '_>) -> bool {
    stream
        .run
        .holders(stream.to)
        .flat_map(|node| &node.reports)
        .any(|heard| matches!(heard.report, Report::WriteFailed { to, .. } if *to == stream.to))
}

// ---- O2 ----

fn judge_o2(facts: &Facts<'_>) -> Verdict {
    let tested = |run: &Run<'_>| match ending(facts, run) {
        Ending::By { cause: Cause::Cancelled, .. } if facts.is_template() => {
            Err("to cancel a command is to signal it: who is ended itself need not give output back"
                .to_owned())
        }
        Ending::By { cause: Cause::Cancelled | Cause::TimedOut, .. } => Ok(()),
        Ending::By { cause, .. } => Err(format!("the run {}", cause.told())),
        Ending::None(why) => Err(why),
    };
    each_stream(facts, tested, |stream| {
        let Ending::By { at_us, .. } = ending(facts, stream.run) else {
            return Verdict::Vacuous("nothing ended the run".to_owned());
        };
        prefix_after_stop(stream, at_us)
    })
}

fn prefix_after_stop(stream: &Stream<'_, '_>, stop_us: u64) -> Verdict {
    let name = stream.name();
    if stream.is_shared() {
        return Verdict::Vacuous("both streams are one pipe".to_owned());
    }
    let before = stream.written(stop_us);
    let captured = stream.captured.bytes;
    if before == 0 {
        return Verdict::Vacuous(format!("nothing was confirmed as written to {name} before the stop"));
    }
    if captured < before && stream.is_cut_by_limit(before) {
        return Verdict::Vacuous(format!("{name} is longer than a limit, and is said to be cut"));
    }
    if captured < before {
        return broken(
            format!("{before} bytes were written to {name} before the stop, {captured} were captured"),
            before - captured,
        );
    }
    match stream.is_prefix() {
        Some(false) => broken(
            format!("the {captured} bytes captured of {name} are no prefix of what was written"),
            captured,
        ),
        Some(true) | None => Verdict::Kept,
    }
}

// ---- O3 ----

fn judge_o3(facts: &Facts<'_>) -> Verdict {
    let tells_cut = facts.promises().tells_cut;
    each_stream(facts, |_| Ok(()), |stream| said_to_be_cut(stream, tells_cut))
}

fn said_to_be_cut(stream: &Stream<'_, '_>, tells_cut: bool) -> Verdict {
    let name = stream.name();
    if stream.is_shared() {
        return Verdict::Vacuous("both streams are one pipe".to_owned());
    }
    let written = stream.written(stream.ended_us);
    let captured = stream.captured.bytes;
    if captured >= written {
        return Verdict::Vacuous(format!("nothing is missing of {name}"));
    }
    let sentence = |said| {
        format!(
            "{captured} of {written} bytes that were written to {name} were captured, and the outcome {said}"
        )
    };
    match stream.captured.complete {
        Some(false) => Verdict::Kept,
        Some(true) => broken(sentence("says that it is all"), written - captured),
        None if tells_cut => broken(sentence("does not say so"), written - captured),
        None => Verdict::NotRun("its API cannot tell cut output from complete output".to_owned()),
    }
}

// ---- O8 ----

fn judge_o8(facts: &Facts<'_>) -> Verdict {
    if let Some(fault) = facts.fault() {
        return fault;
    }
    if !facts.promises().captures {
        return Verdict::NotRun("the subject does not give the child's output back".to_owned());
    }
    let script = &facts.trace.scenario.script;
    let fills = |stream| bytes_at_once(script, stream) > PIPE_BYTES;
    let is_fed = facts.trace.scenario.input.is_some_and(|bytes| bytes > PIPE_BYTES);
    let flooded = STREAMS.into_iter().filter(|stream| fills(*stream)).count() + usize::from(is_fed);
    if flooded < 2 {
        return Verdict::Vacuous("no two of the root's streams carry more than a pipe holds".to_owned());
    }
    together(facts.runs().iter().map(|run| got_through(facts, run)), || facts.because("no run was started"))
}

/// How much a root writes to a stream as fast as it is taken.
fn bytes_at_once(script: &[Step], stream: Output) -> u64 {
    let bytes = script.iter().map(|step| match step {
        Step::Write(write) if write.to == stream => write.bytes,
        Step::Flood { most } => *most,
        _ => 0,
    });
    bytes.sum()
}

fn got_through(facts: &Facts<'_>, run: &Run<'_>) -> Verdict {
    let Some(root) = run.root() else {
        return Verdict::Vacuous(facts.because("the root never said hello"));
    };
    let script = &facts.trace.scenario.script;
    let pours = |step: &Step| matches!(step, Step::Write(_) | Step::Flood { .. });
    let done = |step: usize| root.came_to(step + 1).is_some();
    let poured: Vec<usize> = (0..script.len()).filter(|step| pours(&script[*step])).collect();
    let Some(step) = poured.iter().copied().find(|step| !done(*step)) else {
        return returned(facts, run, root);
    };
    if root.came_to(step).is_none() || script[..step].iter().any(stands_still_after) {
        return Verdict::Vacuous(facts.because("the root did not come to all of its writes"));
    }
    if refusals(root).next().is_some() {
        return Verdict::Vacuous("a write of the root failed, so nothing held it up".to_owned());
    }
    let since_us = root.reports.iter().map(|heard| heard.at_us).max().unwrap_or(0);
    let ends = [facts.stopped_from_us(run), root.dead_us()].into_iter().flatten().min();
    let stuck_us = ends.unwrap_or_else(|| facts.last_us()).saturating_sub(since_us);
    let totals = STREAMS.map(|stream| root.wrote(stream, u64::MAX));
    let sentence = format!(
        "the root was in the middle of a write and got nothing into a pipe for {}, after {} bytes to stdout and {} to stderr",
        told(stuck_us),
        totals[0],
        totals[1]
    );
    match facts.lateness(stuck_us, facts.slack_us()) {
        Lateness::InTime => Verdict::Vacuous("the root was stopped in the middle of its writes".to_owned()),
        Lateness::WithinNoise(_) => {
            Verdict::Unknown(format!("{sentence}; this machine's noise may explain that"))
        }
        Lateness::Late(_) => broken(sentence, 1),
    }
}

/// A root that has written everything and has ended must not leave a wrapper behind that still tries to write to it.
fn returned(facts: &Facts<'_>, run: &Run<'_>, root: &Node<'_>) -> Verdict {
    let (Some(dead_us), None, true) = (root.gone_us, run.ended, facts.host_fell_silent()) else {
        return Verdict::Kept;
    };
    if run.first_stop().is_some() {
        return Verdict::Kept;
    }
    let waited_us = facts.last_us().saturating_sub(dead_us);
    let bound_us =
        facts.drain_us().saturating_add(facts.grace_us().unwrap_or(0)).saturating_add(facts.slack_us());
    let sentence = format!(
        "the root had written everything and ended; {} later the run had not returned",
        told(waited_us)
    );
    match facts.lateness(waited_us, bound_us) {
        Lateness::InTime | Lateness::WithinNoise(_) => Verdict::Unknown(sentence),
        Lateness::Late(_) => broken(sentence, 1),
    }
}

fn refusals<'n>(root: &'n Node<'_>) -> impl Iterator<Item = &'n Report> {
    root.reports
        .iter()
        .map(|heard| heard.report)
        .filter(|report| matches!(report, Report::WriteFailed { .. }))
}

// ---- Directed scenarios ----

fn directed_o1() -> Vec<Scenario> {
    vec![
        scenario(
            "exit-after-burst",
            "200 kB right before the exit are more than a pipe holds: who stops reading at the exit loses the rest.",
            &["O1"],
            vec![write(Output::Stdout, 200_000), Step::Exit(0)],
            to_the_end(),
        ),
        scenario(
            "exit-after-bursts-on-both-streams",
            "Who reads one stream to its end before the other blocks a child that writes to both.",
            &["O1"],
            vec![
                write(Output::Stderr, 150_000),
                write(Output::Stdout, 150_000),
                write(Output::Stderr, 150_000),
                Step::Exit(0),
            ],
            to_the_end(),
        ),
        scenario(
            "exit-after-partial-line",
            "A last line without its end is output too.",
            &["O1"],
            vec![write(Output::Stdout, 3 * 32 + 7), Step::Exit(0)],
            to_the_end(),
        ),
        scenario(
            "exit-after-binary-output",
            "NUL bytes and invalid UTF-8 must pass unchanged.",
            &["O1"],
            vec![write_binary(Output::Stdout, 70_000), Step::Exit(0)],
            to_the_end(),
        ),
        scenario(
            "exit-after-crash-with-output",
            "A child that crashes has written what it has written.",
            &["O1"],
            vec![write(Output::Stdout, 5_000), Step::Die(Signal::Segv)],
            to_the_end(),
        ),
    ]
}

fn directed_o2() -> Vec<Scenario> {
    vec![
        scenario(
            "cancel-after-output",
            "What the child wrote before it was stopped is often what tells why.",
            &["O2"],
            vec![write(Output::Stdout, 100_000), write(Output::Stderr, 1_000), emit("ready"), Step::Hang],
            once_ready(Verb::Cancel),
        ),
        scenario(
            "cancel-during-output",
            "A stop in the middle of a burst may cut it anywhere, but not turn it around or drop its beginning.",
            &["O2"],
            vec![write(Output::Stdout, 100_000), emit("ready"), slow_stream(1_000), Step::Hang],
            once_ready(Verb::Cancel),
        ),
        scenario(
            "cancel-deaf-child-with-output",
            "After a KILL the pipe still holds what was written before it.",
            &["O2"],
            vec![on_term(Then::Ignore), write(Output::Stdout, 60_000), emit("ready"), Step::Hang],
            once_ready(Verb::Cancel),
        ),
    ]
}

fn directed_o3() -> Vec<Scenario> {
    vec![
        scenario(
            "exit-after-more-than-is-kept",
            "20 MiB are more than many wrappers keep: what is thrown away must not look like the whole.",
            &["O3"],
            vec![write(Output::Stdout, 20 * 1024 * 1024), Step::Exit(0)],
            to_the_end(),
        ),
        scenario(
            "exit-output-cut-out-of-reach",
            "A process out of reach goes on writing after the child's exit: the reading must be cut somewhere, and the outcome must say so.",
            &["O3", "D3"],
            vec![start_holding("writer", Place::OwnSession, vec![slow_stream(3_000)]), emit("ready"), Step::Exit(0)],
            to_the_end(),
        )
        .with_drain(Span::from_millis(20)),
    ]
}

fn directed_o8() -> Vec<Scenario> {
    let floods = |name, why, script| scenario(name, why, &["O8"], script, to_the_end()).with_timeout(LONG);
    let flood = || Step::Flood { most: A_FLOOD };
    vec![
        floods(
            "flood-on-both-streams",
            "Whoever reads only one of the streams is waited for by a child that fills the other.",
            vec![flood(), Step::Exit(0)],
        ),
        floods(
            "flood-on-error-then-on-output",
            "Whoever reads the output to its end before the errors waits for a child that waits for them.",
            vec![write(Output::Stderr, A_FLOOD), write(Output::Stdout, A_FLOOD), Step::Exit(0)],
        ),
        floods(
            "flood-on-output-then-on-error",
            "The same the other way round.",
            vec![write(Output::Stdout, A_FLOOD), write(Output::Stderr, A_FLOOD), Step::Exit(0)],
        ),
        floods(
            "flood-in-both-directions",
            "Whoever writes the whole input before reading the output waits for a child that wants to be read from first.",
            vec![flood(), Step::ReadStdin, Step::Exit(0)],
        )
        .with_input(A_FLOOD),
        floods(
            "flood-with-an-input-that-nobody-reads",
            "A child may end without having read its input; whoever writes it must notice.",
            vec![flood(), Step::Exit(0)],
        )
        .with_input(A_FLOOD),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::by_hand::{AWAY, Hand, assert_verdict, because, captured, case, steps};
    use super::*;
    use crate::trace::Reason;
    use crate::verdict::VerdictKind::{Broken, Kept, NotRun, Unknown, Vacuous};

    const SCRIPT: &str = r#"[{"write": {"to": "stdout", "bytes": 1000}}, {"exit": 0}]"#;

    fn out(reason: Reason, stdout: Captured) -> Outcome {
        Outcome { stdout: Some(stdout), ..because(reason) }
    }

    fn first(bytes: u64) -> Captured {
        captured(Output::Stdout, bytes, Some(true))
    }

    /// A root that wrote 1000 bytes and exited.
    fn exited(stdout: Captured) -> Hand {
        case(steps(SCRIPT))
            .run(0)
            .hello(1, "root")
            .wrote(2, "root", Output::Stdout, 600)
            .wrote(3, "root", Output::Stdout, 1000)
            .exiting(4, "root", 0)
            .ended(6, out(Reason::Itself, stdout))
    }

    #[test]
    fn o1_wants_every_byte_and_no_other() {
        assert_verdict(&exited(first(1000)), judge_o1, Kept, "");
        assert_verdict(
            &exited(first(600)),
            judge_o1,
            Broken,
            "1000 bytes were written to stdout, 600 were captured",
        );
        assert_verdict(&exited(first(1064)), judge_o1, Broken, "1064 were captured");
        let altered = exited(Captured { hash: 1, ..first(1000) });
        assert_verdict(&altered, judge_o1, Broken, "not the ones that were written");
    }

    /// A root that exits and leaves two writers, of which the first, asked to end, exits in the middle of a flood.
    fn flooded(script: &str, asked: bool, stdout: Captured) -> Hand {
        let flood = case(steps(script))
            .run(0)
            .hello(1, "root")
            .hello(2, "flood")
            .hello(2, "second")
            .exiting(3, "second", 0);
        let flood = flood.wrote(3, "flood", Output::Stdout, 65_536).exiting(4, "root", 0).gone(4, "root");
        let flood = if asked { flood.signalled(5, "flood", Signal::Term) } else { flood };
        flood.exiting(6, "flood", 0).gone(6, "flood").ended(7, out(Reason::Itself, stdout))
    }

    #[test]
    fn o1_takes_what_a_writer_confirmed_that_a_signal_ended_for_the_least_of_it() {
        let one = r#"[{"start": {"node": "flood", "holds": ["stdout"], "script": [{"flood": {"most": 1000000}}]}},
            {"start": {"node": "second", "script": ["hang"]}}, {"exit": 0}]"#;
        assert_verdict(&flooded(one, true, first(73_728)), judge_o1, Kept, "");
        assert_verdict(&flooded(one, true, first(65_536)), judge_o1, Kept, "");
        assert_verdict(&flooded(one, true, first(61_440)), judge_o1, Broken, "61440 were captured");
        assert_verdict(&flooded(one, false, first(73_728)), judge_o1, Broken, "73728 were captured");
        let altered = Captured { hash: 1, ..first(73_728) };
        assert_verdict(&flooded(one, true, altered), judge_o1, Broken, "not the ones that were written");
        let two = one.replace(r#""hang""#, r#"{"write": {"to": "stdout", "bytes": 10}}"#);
        assert_verdict(&flooded(&two, true, altered), judge_o1, Unknown, "before it could confirm");
    }

    #[test]
    fn o1_is_unknown_when_a_write_failed() {
        let failed =
            exited(first(1000)).says(3, "root", Report::WriteFailed { to: Output::Stdout, errno: 32 });
        assert_verdict(&failed, judge_o1, Unknown, "a write to stdout failed");
    }

    #[test]
    fn o1_is_vacuous_for_silence_and_stops_and_does_not_run_without_captures() {
        let silent = case(steps("[]"))
            .run(0)
            .hello(1, "root")
            .exiting(2, "root", 0)
            .ended(3, out(Reason::Itself, first(0)));
        assert_verdict(&silent, judge_o1, Vacuous, "nothing was written");
        assert_verdict(&cancelled(first(600)), judge_o1, Vacuous, "stopped");
        let without = exited(first(600)).promising(|promises| promises.captures = false);
        assert_verdict(&without, judge_o1, NotRun, "does not give");
        let none = case(steps(SCRIPT))
            .run(0)
            .hello(1, "root")
            .exiting(2, "root", 0)
            .ended(3, because(Reason::Itself));
        assert_verdict(&none, judge_o1, NotRun, "no stdout back");
    }

    #[test]
    fn o1_lets_who_says_so_cut_at_a_limit() {
        let long = |bytes, complete| {
            case(steps(SCRIPT))
                .run(0)
                .hello(1, "root")
                .wrote(2, "root", Output::Stdout, 2_000_000)
                .exiting(3, "root", 0)
                .ended(4, out(Reason::Itself, captured(Output::Stdout, bytes, complete)))
        };
        assert_verdict(&long(1_048_576, Some(false)), judge_o1, Vacuous, "limit");
        assert_verdict(&long(1_048_576, None), judge_o1, Broken, "captured");
    }

    /// A root that exits while a node out of reach holds its output and writes on.
    fn held(stdout: Captured) -> Hand {
        case(steps(SCRIPT))
            .run(0)
            .hello(1, "root")
            .hello_as(1, "holder", AWAY)
            .wrote(2, "root", Output::Stdout, 1000)
            .exiting(4, "root", 0)
            .wrote(5, "holder", Output::Stdout, 5000)
            .ended(100, out(Reason::Itself, stdout))
    }

    #[test]
    fn o1_wants_only_what_was_there_at_the_exit_while_others_hold_the_stream() {
        let cut = |bytes| Captured { bytes, hash: 1, complete: Some(false), records: None };
        assert_verdict(&held(cut(1000)), judge_o1, Kept, "");
        assert_verdict(&held(cut(900)), judge_o1, Broken, "before the root exited");
    }

    /// A root that wrote 1000 bytes, was cancelled after 10 ms and then wrote on.
    fn cancelled(stdout: Captured) -> Hand {
        case(steps(r#"[{"write": {"to": "stdout", "bytes": 2000}}, "hang"]"#))
            .run(0)
            .hello(1, "root")
            .wrote(5, "root", Output::Stdout, 1000)
            .cancel(10)
            .wrote(11, "root", Output::Stdout, 1500)
            .gone(12, "root")
            .ended(14, out(Reason::Cancelled, stdout))
    }

    #[test]
    fn o2_wants_a_prefix_with_everything_from_before_the_stop() {
        assert_verdict(&cancelled(first(1000)), judge_o2, Kept, "");
        assert_verdict(&cancelled(first(1700)), judge_o2, Kept, "");
        assert_verdict(
            &cancelled(first(999)),
            judge_o2,
            Broken,
            "1000 bytes were written to stdout before the stop, 999",
        );
        let altered = cancelled(Captured { hash: 1, ..first(1200) });
        assert_verdict(&altered, judge_o2, Broken, "no prefix");
    }

    #[test]
    fn o2_is_vacuous_without_output_or_stop_and_unknown_by_our_fault() {
        assert_verdict(&exited(first(600)), judge_o2, Vacuous, "ended by itself");
        let early = case(steps(SCRIPT)).run(0).hello(1, "root").cancel(2).gone(3, "root");
        assert_verdict(
            &early.ended(4, out(Reason::Cancelled, first(0))),
            judge_o2,
            Vacuous,
            "before the stop",
        );
        assert_verdict(&cancelled(first(0)).our_fault(), judge_o2, Unknown, "harness could not");
        let none_back = cancelled(first(0)).with(|trace| {
            for moment in &mut trace.moments {
                if let crate::trace::What::Ended { outcome, .. } = &mut moment.what {
                    outcome.stdout = None;
                }
            }
        });
        assert_verdict(&none_back, judge_o2, NotRun, "no stdout back");
    }

    #[test]
    fn o3_wants_cut_output_to_be_called_so() {
        let cut = |complete| held(Captured { bytes: 1000, hash: 1, complete, records: None });
        assert_verdict(&cut(Some(false)), judge_o3, Kept, "");
        assert_verdict(&cut(Some(true)), judge_o3, Broken, "says that it is all");
        assert_verdict(&cut(None), judge_o3, Broken, "does not say so");
        let cannot_say = cut(None).promising(|promises| promises.tells_cut = false);
        assert_verdict(&cannot_say, judge_o3, NotRun, "cannot tell");
        assert_verdict(&exited(first(1000)), judge_o3, Vacuous, "nothing is missing");
        assert_verdict(&cut(Some(true)).our_fault(), judge_o3, Unknown, "harness could not");
    }

    #[test]
    fn only_nodes_that_hold_the_stream_count_as_its_writers() {
        let hand = case(steps(SCRIPT))
            .run(0)
            .hello(1, "root")
            .quiet_hello(1, "child", super::super::by_hand::ROOT_IDS)
            .wrote(2, "root", Output::Stdout, 1000)
            .wrote(2, "child", Output::Stdout, 7000)
            .exiting(3, "child", 0)
            .exiting(4, "root", 0)
            .ended(6, out(Reason::Itself, first(1000)));
        assert_verdict(&hand, judge_o1, Kept, "");
        assert_verdict(&hand, judge_o3, Vacuous, "nothing is missing");
    }

    #[test]
    fn one_pipe_for_both_streams_is_not_judged() {
        let hello = |merged: bool| {
            let mut hello = super::super::by_hand::hello("root");
            if merged {
                hello.descriptors[2].target = hello.descriptors[1].target.clone();
            }
            Report::Hello(Box::new(hello))
        };
        let hand = |merged| {
            case(steps(SCRIPT))
                .run(0)
                .says(1, "root", hello(merged))
                .wrote(2, "root", Output::Stdout, 1000)
                .wrote(3, "root", Output::Stderr, 1000)
                .exiting(4, "root", 0)
                .ended(6, out(Reason::Itself, first(2000)))
        };
        assert_verdict(&hand(true), judge_o1, Vacuous, "one pipe");
        assert_verdict(&hand(false), judge_o1, Broken, "2000 were captured");
    }

    #[test]
    fn a_writer_that_ended_after_the_run_may_have_been_cut() {
        let hand = case(steps(SCRIPT))
            .run(0)
            .hello(1, "root")
            .hello_as(1, "holder", AWAY)
            .wrote(2, "root", Output::Stdout, 1000)
            .exiting(4, "root", 0)
            .ended(
                100,
                out(Reason::Itself, Captured { bytes: 1000, hash: 1, complete: Some(false), records: None }),
            )
            .wrote(200, "holder", Output::Stdout, 5000)
            .exiting(300, "holder", 0);
        assert_verdict(&hand, judge_o1, Kept, "");
    }

    #[test]
    fn a_writer_that_was_killed_before_it_could_confirm_counts_as_one() {
        let script = r#"[{"start": {"node": "child", "holds": ["stdout"], "script": [{"write": {"to": "stdout", "bytes": 1000}}]}},
            {"write": {"to": "stdout", "bytes": 800}}, "hang"]"#;
        let both = case(steps(script))
            .run(0)
            .hello(1, "root")
            .hello(1, "child")
            .wrote(2, "child", Output::Stdout, 1000)
            .cancel(10)
            .gone(11, "root")
            .ended(
                14,
                out(
                    Reason::Cancelled,
                    Captured { bytes: 1800, hash: 1, complete: Some(true), records: None },
                ),
            );
        assert_verdict(&both, judge_o2, Kept, "");
    }

    #[test]
    fn a_stream_of_two_kinds_is_compared_by_length() {
        let binary = Report::Wrote { to: Output::Stdout, content: Content::Binary, total: 2000 };
        let script = r#"[{"write": {"to": "stdout", "bytes": 1000}},
            {"write": {"to": "stdout", "bytes": 1000, "content": "binary"}}, {"exit": 0}]"#;
        let hand = case(steps(script))
            .run(0)
            .hello(1, "root")
            .wrote(2, "root", Output::Stdout, 1000)
            .says(3, "root", binary)
            .exiting(4, "root", 0)
            .ended(
                6,
                out(Reason::Itself, Captured { bytes: 2000, hash: 1, complete: Some(true), records: None }),
            );
        assert_verdict(&hand, judge_o1, Kept, "");
    }

    #[test]
    fn several_writers_are_compared_by_length() {
        let both = |bytes| {
            let script = r#"[{"start": {"node": "child", "holds": ["stdout"], "script": [{"write": {"to": "stdout", "bytes": 500}}]}},
                {"write": {"to": "stdout", "bytes": 1000}}, {"exit": 0}]"#;
            case(steps(script))
                .run(0)
                .hello(1, "root")
                .hello(1, "child")
                .wrote(2, "root", Output::Stdout, 1000)
                .wrote(2, "child", Output::Stdout, 500)
                .exiting(3, "child", 0)
                .exiting(4, "root", 0)
                .ended(
                    6,
                    out(Reason::Itself, Captured { bytes, hash: 1, complete: Some(true), records: None }),
                )
        };
        assert_verdict(&both(1500), judge_o1, Kept, "");
        assert_verdict(&both(1400), judge_o1, Broken, "1500 bytes were written");
    }

    /// A root that writes 100,000 bytes to the errors and then to the output, and has written the first 60,000 after 3 ms.
    fn flooding() -> Hand {
        let both = r#"[{"emit": "ready"}, {"write": {"to": "stderr", "bytes": 100000}}, {"write": {"to": "stdout", "bytes": 100000}},
            {"exit": 0}]"#;
        case(steps(both)).run(0).hello(1, "root").did(2, "root", 0).wrote(3, "root", Output::Stderr, 60_000)
    }

    #[test]
    fn o8_is_broken_by_a_root_that_is_stuck_in_a_write() {
        let stopped = flooding().cancel(1_500).gone(1_501, "root").ended(1_502, because(Reason::Cancelled));
        assert_verdict(
            &stopped,
            judge_o8,
            Broken,
            "got nothing into a pipe for 1.4 s, after 0 bytes to stdout and 60000 to stderr",
        );
        let silent = flooding().what(6_000, crate::trace::What::GaveUp).silent();
        assert_verdict(&silent, judge_o8, Broken, "got nothing into a pipe for 5.9 s");
    }

    #[test]
    fn o8_is_kept_by_a_root_that_got_everything_into_the_pipes() {
        let through = || flooding().did(4, "root", 1).did(5, "root", 2).exiting(6, "root", 0).gone(7, "root");
        assert_verdict(&through().ended(8, because(Reason::Itself)), judge_o8, Kept, "");
        let stays = through().what(9_000, crate::trace::What::GaveUp).silent();
        assert_verdict(&stays, judge_o8, Broken, "the run had not returned");
    }

    #[test]
    fn o8_says_nothing_of_a_root_that_was_stopped_soon_or_refused() {
        let soon = flooding().cancel(200).gone(201, "root");
        assert_verdict(&soon, judge_o8, Vacuous, "in the middle of its writes");
        let refused = flooding()
            .says(4, "root", Report::WriteFailed { to: Output::Stderr, errno: 32 })
            .cancel(1_500)
            .gone(1_501, "root");
        assert_verdict(&refused, judge_o8, Vacuous, "failed");
        let noisy = flooding().with(|trace| trace.noise.max_us = 500_000).cancel(1_500).gone(1_501, "root");
        assert_verdict(&noisy, judge_o8, Unknown, "noise");
        let elsewhere = flooding().with(|trace| trace.moments.truncate(3)).cancel(1_500);
        assert_verdict(&elsewhere, judge_o8, Vacuous, "did not come to all");
        let lent = r#"[{"start": {"node": "child", "as": "vfork", "script": ["hang"]}}]"#;
        let waits = flooding().with(|trace| trace.scenario.script[0] = steps(lent)[0].clone());
        assert_verdict(&waits.cancel(1_500).gone(1_501, "root"), judge_o8, Vacuous, "did not come to all");
    }

    #[test]
    fn o8_wants_two_streams_that_are_full_and_a_subject_that_reads_them() {
        let one = |input| {
            let script = r#"[{"write": {"to": "stdout", "bytes": 100000}}, "read-stdin", {"exit": 0}]"#;
            let hand = case(steps(script)).with(|trace| trace.scenario.input = input).run(0).hello(1, "root");
            hand.cancel(1_500).gone(1_501, "root")
        };
        assert_verdict(&one(None), judge_o8, Vacuous, "no two");
        assert_verdict(&one(Some(1_000)), judge_o8, Vacuous, "no two");
        assert_verdict(&one(Some(100_000)), judge_o8, Broken, "after 0 bytes");
        let deaf = flooding().promising(|promises| promises.captures = false);
        assert_verdict(&deaf, judge_o8, NotRun, "does not give");
        assert_verdict(&flooding().our_fault(), judge_o8, Unknown, "harness could not");
    }
}
