//! A run from its start to its end, for children that take no time, and some.

use std::process::Command;
use std::time::Instant;

use crate::Failure;
use crate::child::Child;
use crate::contender::Sink;
use crate::options::Options;
use crate::table::{self, Rounds, Row};

/// What the child does, in words and for the child; how many rounds; how many bytes it writes.
const CASES: [(&str, &str, &str, usize); 3] = [
    ("a child that does nothing", "", "line", 400),
    ("a child that takes 1 ms", "busy:1", "busy:1", 200),
    ("a child that takes 5 ms", "busy:5", "busy:5", 80),
];

pub(crate) fn own(options: &Options) -> Result<(), Failure> {
    options.runtime()?.block_on(measure(options))
}

async fn measure(options: &Options) -> Result<(), Failure> {
    for (title, with_null, with_capture, rounds) in CASES {
        for (sink, does) in [(Sink::Null, with_null), (Sink::Captured, with_capture)] {
            let how = match (sink, does) {
                (Sink::Null, _) => "stdout null",
                (Sink::Captured, "line") => "stdout captured, one line",
                (Sink::Captured, _) => "stdout captured",
            };
            let rows = case(options, does, sink, rounds).await?;
            table::print(&format!("start: {title}, {how}"), &rows, table::duration);
        }
    }
    Ok(())
}

async fn case(options: &Options, does: &str, sink: Sink, rounds: usize) -> Result<Vec<Row>, Failure> {
    let child = Child::that(does)?;
    let bytes = if does == "line" { 5 } else { 0 };
    let mut rows = Vec::new();
    let mut able = Vec::new();
    for (name, contender) in options.contenders() {
        let mut row = Row::new(name);
        row.remark = contender.refusal(&child).await;
        if row.remark.is_none() {
            able.push((rows.len(), contender));
        }
        rows.push(row);
    }
    let mut count = Rounds::new(options.rounds(rounds), rounds);
    while let Some(order) = count.next(able.len()) {
        for turn in order {
            let (row, contender) = able[turn];
            // So that everybody comes after the same, and not after whoever leaves most to clear up.
            in_between()?;
            let from = Instant::now();
            let written = contender.run(&child, sink).await?;
            rows[row].samples.push(from.elapsed().as_secs_f64());
            if written != bytes {
                return Err(format!("{}: {written} bytes instead of {bytes}", rows[row].name).into());
            }
        }
    }
    Ok(rows)
}

/// A child that is nobody's, and is not measured.
fn in_between() -> Result<(), Failure> {
    let child = Child::that("")?;
    let status = Command::new(&child.program).args(&child.arguments).status()?;
    if status.success() { Ok(()) } else { Err(format!("the child ended with {status}").into()) }
}
