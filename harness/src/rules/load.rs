//! T3, T4: what a host uses while its child hangs or floods.

use fake_cli::content::Output;
use fake_cli::script::{Stdio, Step};
use fake_cli::span::Span;

use super::directed::{after, emit, ready_and_hang, run, scenario, wait, write, write_when_read};
use super::facts::{Facts, Heard, Node, Run, told};
use super::standing::steps_of;
use super::verdicts::{broken, together};
use crate::scenario::{Op, Scenario, Verb};
use crate::trace::{Used, What};
use crate::verdict::Verdict;

/// A host may use so much of a hang, in percent and beside it.
const MOST_PERCENT: u64 = 2;
const MOST_BESIDE_US: u64 = 5_000;
/// In a shorter hang a host that waits busily is not told from one that has just started a child.
const LEAST_HANG_US: u64 = 250_000;
/// A host has its start behind it by then.
const START_US: u64 = 100_000;
/// With less written to one stream a host that keeps everything is not told from one that keeps a buffer of 16 MiB for each stream.
const LEAST_FLOOD_KIB: u64 = 34 * 1024;
/// With nobody reading a host grows by less.
const LEAST_GROWTH_KIB: u64 = 16 * 1024;
/// Bytes of the directed flood.
const FLOOD: u64 = 60 * 1024 * 1024;
/// Bytes of a piece of what is read as it is written: so few that a reader which now and then finds two of them has room for more; and
/// how many pieces.
const PIECE: u64 = 16 * 1024;
const PIECES: u32 = 2_304;
/// So long a node that wants to write has to be kept waiting before nobody reads.
const HELD_BACK_US: u64 = 200_000;

// ---- T3 ----

pub(super) fn judge_t3(facts: &Facts<'_>) -> Verdict {
    if let Some(fault) = facts.fault() {
        return fault;
    }
    if facts.runs().len() > 1 {
        return Verdict::Vacuous("other runs may have kept the host busy".to_owned());
    }
    let verdicts = facts.runs().iter().map(|run| busy(facts, run));
    together(verdicts, || facts.because("no run was started"))
}

/// A stretch of time between two samples in which nothing happened.
struct Window {
    took_us: u64,
    used_us: u64,
}

impl Window {
    fn most_us(&self) -> u64 {
        self.took_us * MOST_PERCENT / 100
    }
}

fn busy(facts: &Facts<'_>, run: &Run<'_>) -> Verdict {
    let windows = quiet_windows(facts, run);
    let sum = Window {
        took_us: windows.iter().map(|window| window.took_us).sum(),
        used_us: windows.iter().map(|window| window.used_us).sum(),
    };
    if sum.took_us < LEAST_HANG_US {
        return Verdict::Vacuous(
            facts.because("nobody looked at the host during a hang that was long enough"),
        );
    }
    let bound_us = sum.most_us() + MOST_BESIDE_US;
    if sum.used_us <= bound_us {
        return Verdict::Kept;
    }
    let sentence = format!(
        "while the child hung for {} the host used {} of processor time; the bound was {}",
        told(sum.took_us),
        told(sum.used_us),
        told(bound_us)
    );
    let busy = windows.iter().filter(|window| window.used_us > window.most_us()).count();
    if busy * 4 < windows.len() * 3 {
        return Verdict::Unknown(format!(
            "{sentence}; but in {busy} of {} stretches only, as something late that happens once would",
            windows.len()
        ));
    }
    broken(sentence)
}

/// The stretches in which every node hung, nobody stopped the run and nothing at all was reported.
fn quiet_windows(facts: &Facts<'_>, run: &Run<'_>) -> Vec<Window> {
    let Some(up_us) = run.root().and_then(Node::hello_us) else { return Vec::new() };
    let until_us = facts.stopped_from_us(run).unwrap_or(u64::MAX);
    let script = &facts.trace.scenario.script;
    let pairs = facts.trace.moments.windows(2).filter_map(|pair| match (&pair[0].what, &pair[1].what) {
        (What::HostUsed(before), What::HostUsed(after)) => {
            Some((pair[0].at_us, *before, pair[1].at_us, *after))
        }
        _ => None,
    });
    pairs
        .filter(|(from_us, _, to_us, _)| *from_us >= up_us.saturating_add(START_US) && *to_us <= until_us)
        .filter(|(from_us, ..)| run.nodes.iter().all(|node| hangs(script, node, *from_us)))
        .map(|(from_us, before, to_us, after)| Window {
            took_us: to_us - from_us,
            used_us: after.processor_us.saturating_sub(before.processor_us),
        })
        .collect()
}

/// Whether a node had come to a step that waits and reports nothing.
fn hangs(script: &[Step], node: &Node<'_>, at_us: u64) -> bool {
    let Some(steps) = steps_of(script, node.name) else { return false };
    let done =
        node.reports.iter().filter(|heard| heard.at_us <= at_us).filter_map(|heard| match heard.report {
            fake_cli::control::Report::Did { step, .. } => Some(step + 1),
            _ => None,
        });
    let next = done.max().unwrap_or(0);
    matches!(steps.get(next), Some(Step::Hang | Step::BusyHang | Step::Stop | Step::ReadStdin))
}

// ---- T4 ----

pub(super) fn judge_t4(facts: &Facts<'_>) -> Verdict {
    if let Some(fault) = facts.fault() {
        return fault;
    }
    if let Some(mib) = facts.promises().output_limit
        && u64::from(mib) * 1024 * 2 > LEAST_FLOOD_KIB
    {
        return Verdict::NotRun(format!(
            "the subject may hold {mib} MiB, which is more than a flood can show"
        ));
    }
    if facts.runs().len() > 1 {
        return Verdict::Vacuous("other runs may have needed the memory".to_owned());
    }
    let verdicts = facts.runs().iter().map(|run| grown(facts, run).unwrap_or_else(Verdict::Vacuous));
    together(verdicts, || facts.because("no run was started"))
}

/// The verdict on a run, or why it does not test the rule.
fn grown(facts: &Facts<'_>, run: &Run<'_>) -> Result<Verdict, String> {
    let mut writes: Vec<&Heard<'_>> =
        run.nodes.iter().flat_map(|node| &node.reports).filter(|heard| is_write(heard)).collect();
    writes.sort_by_key(|heard| heard.at_us);
    let (Some(first), Some(last)) = (writes.first(), writes.last()) else {
        return Err(facts.because("nobody wrote"));
    };
    let used: Vec<(u64, Used)> = facts
        .trace
        .moments
        .iter()
        .filter_map(|moment| match moment.what {
            What::HostUsed(used) => Some((moment.at_us, used)),
            _ => None,
        })
        .collect();
    let before = used.iter().rev().find(|(at_us, _)| *at_us < first.own_us);
    let (Some((_, before)), Some((seen_us, after))) = (before, used.last()) else {
        return Err("nobody looked at the host before the flood and after it".to_owned());
    };
    let grown_kib = after.peak_kib.saturating_sub(before.peak_kib);
    let streams = [Output::Stdout, Output::Stderr];
    let wrote = streams.map(|stream| run.nodes.iter().map(|node| node.wrote(stream, *seen_us)).sum::<u64>());
    let wrote_kib = wrote.iter().sum::<u64>() / 1024;
    if wrote.iter().all(|bytes| bytes / 1024 < LEAST_FLOOD_KIB) {
        let held_back = run.root().is_some_and(|root| root.alive_at(*seen_us))
            && seen_us.saturating_sub(last.at_us) >= HELD_BACK_US
            && facts.stopped_from_us(run).is_none_or(|stopped_us| stopped_us >= *seen_us);
        return match held_back && grown_kib < LEAST_GROWTH_KIB {
            true => Ok(Verdict::Kept),
            false => Err(format!("only {} were written, to both streams", mib(wrote_kib))),
        };
    }
    let sentence =
        format!("while a node wrote {}, the host's memory grew by {}", mib(wrote_kib), mib(grown_kib));
    Ok(match grown_kib * 100 / wrote_kib {
        0..=55 => Verdict::Kept,
        56..=75 => Verdict::Unknown(format!("{sentence}, which a large buffer may explain")),
        _ => broken(sentence),
    })
}

fn is_write(heard: &Heard<'_>) -> bool {
    matches!(heard.report, fake_cli::control::Report::Wrote { .. })
}

fn mib(kib: u64) -> String {
    format!("{}.{} MiB", kib / 1024, kib % 1024 * 10 / 1024)
}

// ---- Directed scenarios ----

fn cancel_later(delay: u64) -> Vec<Op> {
    vec![run(), Op { delay: Some(Span::from_millis(delay)), ..after("root.ready", Verb::Cancel) }, wait()]
}

pub(super) fn directed_t3() -> Vec<Scenario> {
    let close = |streams: &[Stdio]| streams.iter().map(|stream| Step::Close(*stream)).collect::<Vec<_>>();
    vec![
        scenario(
            "hang-for-a-second",
            "Who asks again and again whether its child has ended takes the processor from everybody, most of all on a battery.",
            &["T3"],
            ready_and_hang().to_vec(),
            cancel_later(1_000),
        ),
        scenario(
            "hang-with-closed-output",
            "A pipe at its end is always readable: a loop that goes on polling it turns on the spot.",
            &["T3"],
            [close(&[Stdio::Stdout, Stdio::Stderr]), ready_and_hang().to_vec()].concat(),
            cancel_later(1_000),
        ),
    ]
}

pub(super) fn directed_t4() -> Vec<Scenario> {
    let looked_at = || Step::Sleep(Span::from_millis(120));
    vec![
        scenario(
            "flood-to-a-buffer",
            "A child that writes without end must not take its host down with it: what nobody reads is bounded, or held back.",
            &["T4"],
            vec![emit("ready"), looked_at(), write(Output::Stdout, FLOOD), Step::Hang],
            cancel_later(1_500),
        ),
        scenario(
            "flood-that-is-read-as-it-is-written",
            "Each piece is smaller than a read and waits until the one before was read: who counts only reads that found all they had room for counts none of this.",
            &["T4"],
            vec![emit("ready"), looked_at(), write_when_read(PIECE, PIECES), Step::Hang],
            cancel_later(4_000),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::by_hand::{Hand, assert_verdict, case, steps};
    use super::*;
    use crate::verdict::VerdictKind::{Broken, Kept, NotRun, Unknown, Vacuous};

    fn used(hand: Hand, at_ms: u64, processor_us: u64, peak_kib: u64) -> Hand {
        hand.what(at_ms, What::HostUsed(Used { processor_us, peak_kib }))
    }

    /// A root that hangs while its host uses so much in each of eight stretches of 50 ms.
    fn hang(each_us: [u64; 8]) -> Hand {
        let hand = case(steps(r#"[{"emit": "ready"}, "hang"]"#)).run(0).hello(1, "root").did(2, "root", 0);
        let hand = used(hand, 110, 1_000, 0);
        let mut sum_us = 1_000;
        each_us.into_iter().zip(1..).fold(hand, |hand, (more_us, number)| {
            sum_us += more_us;
            used(hand, 110 + 50 * number, sum_us, 0)
        })
    }

    #[test]
    fn t3_is_broken_by_a_host_that_waits_busily_all_the_time() {
        assert_verdict(&hang([50_000; 8]), judge_t3, Broken, "hung for 400 ms the host used 400 ms");
        assert_verdict(&hang([3_000; 8]), judge_t3, Broken, "the bound was 13 ms");
        assert_verdict(&hang([3_000; 8]).template(), judge_t3, Broken, "24 ms");
    }

    #[test]
    fn t3_is_kept_by_a_host_that_sleeps_and_a_burst_is_not_certain() {
        assert_verdict(&hang([0; 8]), judge_t3, Kept, "");
        assert_verdict(&hang([1_500; 8]), judge_t3, Kept, "");
        assert_verdict(&hang([0, 0, 40_000, 0, 0, 0, 0, 0]), judge_t3, Unknown, "in 1 of 8 stretches only");
    }

    #[test]
    fn t3_counts_no_time_in_which_something_happens() {
        let streams = |hand: Hand| {
            hand.with(|trace| trace.scenario.script = steps(r#"[{"emit": "ready"}, {"flood": {"most": 9}}]"#))
        };
        assert_verdict(&streams(hang([50_000; 8])), judge_t3, Vacuous, "long enough");
        let stopped = hang([50_000; 8]).timeout(200);
        assert_verdict(&stopped, judge_t3, Vacuous, "long enough");
        let eventful = hang([50_000; 8]).with(|trace| {
            let what = What::ChildStatus { got: crate::trace::ChildStatus::Lost };
            for index in (5..trace.moments.len()).rev() {
                let at_us = trace.moments[index].at_us;
                trace.moments.insert(index, crate::trace::Moment { at_us, what: what.clone() });
            }
        });
        assert_verdict(&eventful, judge_t3, Vacuous, "long enough");
        assert_verdict(&hang([50_000; 8]).run(900), judge_t3, Vacuous, "other runs");
        assert_verdict(&hang([50_000; 8]).our_fault(), judge_t3, Unknown, "harness could not");
        assert_verdict(&case(steps("[]")), judge_t3, Vacuous, "no run was started");
    }

    /// A root that wrote so many MiB while its host's memory grew to so many.
    fn flood(wrote: u64, grown: u64) -> Hand {
        let hand = case(steps(r#"["hang"]"#)).run(0).hello(1, "root");
        let hand = used(hand, 2, 0, 4_096).wrote(10, "root", Output::Stdout, wrote << 20);
        used(hand, 600, 0, 4_096 + (grown << 10))
    }

    #[test]
    fn t4_is_broken_by_a_host_that_keeps_what_it_is_given() {
        assert_verdict(
            &flood(60, 61),
            judge_t4,
            Broken,
            "wrote 60.0 MiB, the host's memory grew by 61.0 MiB",
        );
        assert_verdict(&flood(60, 50).template(), judge_t4, Broken, "50.0 MiB");
    }

    #[test]
    fn t4_is_kept_by_a_bound_and_by_holding_the_child_back() {
        assert_verdict(&flood(60, 0), judge_t4, Kept, "");
        assert_verdict(&flood(60, 32), judge_t4, Kept, "");
        assert_verdict(&flood(1, 1), judge_t4, Kept, "");
        assert_verdict(&flood(60, 40), judge_t4, Unknown, "large buffer");
    }

    #[test]
    fn t4_is_vacuous_without_a_flood_or_a_look() {
        assert_verdict(&flood(1, 20), judge_t4, Vacuous, "only 1.0 MiB");
        // Who keeps 16 MiB of each stream.
        let both = used(flood(20, 0).wrote(20, "root", Output::Stderr, 20 << 20), 700, 0, 4_096 + (32 << 10));
        assert_verdict(&both, judge_t4, Vacuous, "only 40.0 MiB");
        assert_verdict(&flood(1, 1).cancel(700), judge_t4, Kept, "");
        assert_verdict(&flood(1, 1).cancel(500), judge_t4, Vacuous, "only 1.0 MiB");
        let stopped = flood(1, 1).with(|trace| trace.limits.timeout = Some(Span::from_millis(100)));
        assert_verdict(&stopped, judge_t4, Vacuous, "only 1.0 MiB");
        let unseen = flood(60, 61)
            .with(|trace| trace.moments.retain(|moment| !matches!(moment.what, What::HostUsed(_))));
        assert_verdict(&unseen, judge_t4, Vacuous, "nobody looked");
        assert_verdict(&case(steps("[]")).run(0), judge_t4, Vacuous, "nobody wrote");
        let large = flood(60, 61).promising(|promises| promises.output_limit = Some(128));
        assert_verdict(&large, judge_t4, NotRun, "128 MiB");
        assert_verdict(&flood(60, 61).our_fault(), judge_t4, Unknown, "harness could not");
    }
}
