//! O4 to O7 and O9: what captured output says of where it is from.

use fake_cli::content::{Content, Output};
use fake_cli::script::{Place, Step, Write};

use super::directed::{
    after, await_event, emit, of, once_ready, once_started, ready_and_hang, run, scenario, start_holding,
    to_the_end, wait, write_as,
};
use super::facts::Facts;
use super::output::{Stream, broken, each_stream};
use crate::records::{Record, Records};
use crate::scenario::{Scenario, Verb};
use crate::verdict::Verdict;

/// A verdict on the records of each captured stream that has any.
fn judge(facts: &Facts<'_>, judge: fn(&Stream<'_, '_>, &Records) -> Verdict) -> Verdict {
    each_stream(
        facts,
        |_| Ok(()),
        |stream| match stream.captured.records {
            _ if stream.is_shared() => Verdict::Vacuous("both streams are one pipe".to_owned()),
            Some(records) => judge(stream, &records),
            None => Verdict::Vacuous(format!(
                "no record that says where it is from was captured of {}",
                stream.name()
            )),
        },
    )
}

fn sentence(stream: &Stream<'_, '_>, record: Record, what: &str) -> String {
    format!(
        "record {} of {} of run {} {what} in what was captured of {} of run {}",
        record.number,
        record.to.name(),
        record.mark.run,
        stream.name(),
        stream.run.number
    )
}

pub(super) fn judge_o4(facts: &Facts<'_>) -> Verdict {
    judge(facts, |stream, records| match records.repeated {
        Some(record) => broken(sentence(stream, record, "is there twice"), 1),
        None => Verdict::Kept,
    })
}

pub(super) fn judge_o5(facts: &Facts<'_>) -> Verdict {
    judge(facts, |stream, records| match records.disordered {
        Some(record) => broken(sentence(stream, record, "comes after a later one"), 1),
        None => Verdict::Kept,
    })
}

pub(super) fn judge_o6(facts: &Facts<'_>) -> Verdict {
    judge(facts, |stream, records| {
        let foreign = match stream.to {
            Output::Stdout => records.stderr,
            Output::Stderr => records.stdout,
        };
        if foreign == 0 {
            return Verdict::Kept;
        }
        broken(
            format!(
                "{foreign} records of the other stream are in what was captured of {} of run {}",
                stream.name(),
                stream.run.number
            ),
            foreign,
        )
    })
}

pub(super) fn judge_o7(facts: &Facts<'_>) -> Verdict {
    if facts.runs().len() < 2 {
        return facts.fault().unwrap_or_else(|| Verdict::Vacuous(facts.because("the case has one run")));
    }
    judge(facts, |stream, records| {
        let own = (stream.run.number % 100) as u8;
        let foreign = [records.lowest_run, records.highest_run].into_iter().find(|run| *run != own);
        match foreign {
            Some(run) => broken(
                format!(
                    "what was captured of {} of run {} has records of run {run}",
                    stream.name(),
                    stream.run.number
                ),
                1,
            ),
            None => Verdict::Kept,
        }
    })
}

pub(super) fn judge_o9(facts: &Facts<'_>) -> Verdict {
    each_stream(
        facts,
        |_| Ok(()),
        |stream| {
            let name = stream.name();
            if stream.is_shared() {
                return Verdict::Vacuous("both streams are one pipe".to_owned());
            }
            if stream.captured.bytes == 0 || !stream.is_of(&[Content::Binary, Content::Text]) {
                return Verdict::Vacuous(format!("nothing but plain lines was captured of {name}"));
            }
            match stream.is_prefix() {
                Some(true) => Verdict::Kept,
                Some(false) => broken(
                    format!(
                        "the {} bytes captured of {name} are not those that were written, which were not plain lines",
                        stream.captured.bytes
                    ),
                    stream.captured.bytes,
                ),
                None => Verdict::Vacuous(format!("{name} had several writers, so its bytes are not known")),
            }
        },
    )
}

// ---- Directed scenarios ----

/// More than a pipe holds.
const BURST: u64 = 200_000;
/// Less than what a pipe takes in one piece, whoever else writes.
const PIECE: u64 = 2048;

fn marked(to: Output, bytes: u64) -> Step {
    Step::Write(Write { to, bytes, content: Content::Marked })
}

fn both(bytes: u64) -> [Step; 2] {
    [marked(Output::Stdout, bytes), marked(Output::Stderr, bytes)]
}

pub(super) fn directed_o4() -> Vec<Scenario> {
    let why =
        "A buffer that is read again, or an answer that is taken twice, gives some of the output twice.";
    let rules = ["O4", "O5", "O6"];
    let [stdout, stderr] = both(BURST);
    let [ready, hang] = ready_and_hang();
    vec![
        scenario(
            "records-in-a-burst",
            why,
            &rules,
            vec![stdout.clone(), stderr.clone(), Step::Exit(0)],
            to_the_end(),
        ),
        scenario(
            "records-before-a-cancel",
            why,
            &rules,
            vec![stdout, stderr, ready, hang],
            [once_ready(Verb::Cancel), vec![wait()]].concat(),
        ),
    ]
}

pub(super) fn directed_o5() -> Vec<Scenario> {
    let child = [vec![marked(Output::Stdout, PIECE); 8], vec![Step::Exit(0)]].concat();
    let holding = start_holding("child", Place::SameGroup, child);
    let pieces = [
        vec![holding],
        vec![marked(Output::Stdout, PIECE); 8],
        vec![await_event("child.gone"), Step::Exit(0)],
    ];
    [
        directed_o4(),
        vec![scenario(
            "records-of-two-writers",
            "What each of two writers says must come in the order in which that one said it.",
            &["O4", "O5"],
            pieces.concat(),
            to_the_end(),
        )],
    ]
    .concat()
}

pub(super) fn directed_o6() -> Vec<Scenario> {
    let turns = (0..8).flat_map(|_| both(PIECE)).collect::<Vec<_>>();
    [
        directed_o4(),
        vec![scenario(
            "records-in-turns",
            "Two streams that are read by turns share whatever the reader keeps between two reads.",
            &["O4", "O5", "O6"],
            [turns, vec![Step::Exit(0)]].concat(),
            to_the_end(),
        )],
    ]
    .concat()
}

pub(super) fn directed_o7() -> Vec<Scenario> {
    let why =
        "A buffer that outlives its run, or is shared by two, gives the next caller what is not its own.";
    let [stdout, stderr] = both(PIECE);
    let [ready, hang] = ready_and_hang();
    let writes = || vec![stdout.clone(), stderr.clone(), ready.clone(), hang.clone()];
    vec![
        scenario(
            "records-of-run-after-run",
            why,
            &["O7", "O4"],
            writes(),
            vec![[run(), once_started(Verb::Cancel), wait()]; 3].concat(),
        ),
        scenario(
            "records-of-runs-at-once",
            why,
            &["O7", "C1"],
            vec![stdout.clone(), stderr.clone(), emit("ready"), Step::Exit(0)],
            [vec![run(); 6], (1..=6).map(|number| of(number, wait())).collect()].concat(),
        ),
        scenario(
            "records-after-a-drop",
            why,
            &["O7"],
            writes(),
            vec![
                run(),
                once_started(Verb::Drop),
                after("op.1.done", Verb::Run),
                once_started(Verb::Cancel),
                wait(),
            ],
        ),
    ]
}

pub(super) fn directed_o9() -> Vec<Scenario> {
    let why =
        "Output is bytes: who takes it for text loses what is none, and what is cut within a character.";
    let exit = |content: Content| {
        let write = |to| write_as(to, 70_001, content);
        vec![write(Output::Stdout), write(Output::Stderr), Step::Exit(0)]
    };
    vec![
        scenario("every-byte-value", why, &["O9"], exit(Content::Binary), to_the_end()),
        scenario("characters-of-several-bytes", why, &["O9"], exit(Content::Text), to_the_end()),
    ]
}

#[cfg(test)]
mod tests {
    use fake_cli::content::{Mark, hash_of_prefix};
    use fake_cli::control::Report;

    use super::super::by_hand::{self, Hand, assert_verdict, because, steps};
    use super::*;
    use crate::trace::{Captured, Outcome, Reason};
    use crate::verdict::VerdictKind::{Broken, Kept, NotRun, Unknown, Vacuous};

    const CLEAN: Records =
        Records { stdout: 4, stderr: 0, lowest_run: 0, highest_run: 0, repeated: None, disordered: None };

    /// A run that ended with these records on its standard output.
    fn with(records: Records) -> Hand {
        let captured = Captured { bytes: 128, hash: 1, complete: None, records: Some(records) };
        let hand =
            by_hand::case(steps(r#"[{"write": {"to": "stdout", "bytes": 128, "content": "marked"}}]"#))
                .run(0)
                .hello(1, "root");
        hand.ended(5, Outcome { stdout: Some(captured), ..because(Reason::Itself) })
    }

    const RECORD: Record = Record { to: Output::Stdout, mark: Mark { run: 0, node: 1 }, number: 7 };

    #[test]
    fn o4_to_o6_are_kept_by_clean_records_and_each_is_broken_by_its_own_oddity() {
        for judge in [judge_o4, judge_o5, judge_o6] {
            assert_verdict(&with(CLEAN), judge, Kept, "");
        }
        let repeated = with(Records { repeated: Some(RECORD), ..CLEAN });
        assert_verdict(&repeated, judge_o4, Broken, "record 7 of stdout of run 0 is there twice");
        assert_verdict(&repeated, judge_o5, Kept, "");
        let late = with(Records { disordered: Some(RECORD), ..CLEAN });
        assert_verdict(&late, judge_o5, Broken, "comes after a later one");
        assert_verdict(&late, judge_o4, Kept, "");
        let mixed = with(Records { stderr: 3, ..CLEAN });
        assert_verdict(&mixed, judge_o6, Broken, "3 records of the other stream");
        assert_verdict(&mixed, judge_o4, Kept, "");
    }

    #[test]
    fn o7_wants_records_of_its_own_run_only() {
        let next = |hand: Hand, lowest_run: u8| {
            let records = Records { lowest_run, highest_run: 1, ..CLEAN };
            let captured = Captured { bytes: 128, hash: 1, complete: None, records: Some(records) };
            hand.run(10)
                .hello(11, "root")
                .ended(15, Outcome { stdout: Some(captured), ..because(Reason::Itself) })
        };
        assert_verdict(&next(with(CLEAN), 1), judge_o7, Kept, "");
        assert_verdict(&next(with(CLEAN), 0), judge_o7, Broken, "stdout of run 1 has records of run 0");
        assert_verdict(&with(CLEAN), judge_o7, Vacuous, "one run");
        assert_verdict(&with(CLEAN).our_fault(), judge_o7, Unknown, "harness could not");
    }

    #[test]
    fn o4_to_o7_are_unknown_by_a_fault_vacuous_without_records_and_do_not_run_without_output() {
        for judge in [judge_o4, judge_o5, judge_o6, judge_o9] {
            assert_verdict(&with(CLEAN).our_fault(), judge, Unknown, "harness could not");
            let plain = by_hand::case(steps("[]")).run(0).hello(1, "root");
            let plain = plain.ended(
                5,
                Outcome {
                    stdout: Some(by_hand::captured(Output::Stdout, 64, None)),
                    ..because(Reason::Itself)
                },
            );
            assert_verdict(&plain, judge, Vacuous, "of stdout");
            let none = with(CLEAN).promising(|promises| promises.captures = false);
            assert_verdict(&none, judge, NotRun, "does not give");
        }
    }

    #[test]
    fn o9_wants_binary_output_unchanged() {
        let hand = |hash: u64| {
            let script = r#"[{"write": {"to": "stdout", "bytes": 300, "content": "binary"}}]"#;
            let wrote = Report::Wrote { to: Output::Stdout, content: Content::Binary, total: 300 };
            let captured = Captured { bytes: 300, hash, complete: None, records: None };
            let hand = by_hand::case(steps(script)).run(0).hello(1, "root").says(2, "root", wrote);
            hand.ended(5, Outcome { stdout: Some(captured), ..because(Reason::Itself) })
        };
        assert_verdict(&hand(hash_of_prefix(Content::Binary, Output::Stdout, 300)), judge_o9, Kept, "");
        assert_verdict(&hand(1), judge_o9, Broken, "the 300 bytes captured of stdout are not those");
    }
}
