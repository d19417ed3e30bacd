//! The canonical form of a trace: what of it is the same whenever the same happens.
//!
//! Left out are pids, inodes, clocks and what they order among processes that do not wait for each other. What stays, line by line:
//! which ops were done and how they were answered, how each run ended, what each node did in its own order, and who was left.

use std::collections::BTreeMap;

use fake_cli::control::Report;
use fake_cli::script::Signal;

use crate::trace::{CaseEnd, Outcome, Stage, Status, Trace, What};

/// The canonical form of a trace, in an order of its own.
pub fn canonical(trace: &Trace) -> Vec<String> {
    let mut ops = Vec::new();
    let mut nodes: BTreeMap<(u32, &str), Vec<String>> = BTreeMap::new();
    let mut ends = Vec::new();
    for moment in &trace.moments {
        match &moment.what {
            What::Issued { op, verb, run } => ops.push(format!("op {op}: {} of run {run}", verb.name())),
            What::Unimplemented { op } => ops.push(format!("op {op}: unimplemented")),
            What::OpFailed { op, why } => ops.push(format!("op {op}: failed: {why}")),
            What::GateStuck { op } => ops.push(format!("op {op}: its gate did not open")),
            What::Ended { run, outcome } => ends.push(format!("run {run}: {}", ended(outcome))),
            What::Again { run, outcome, .. } => ends.push(format!("run {run} again: {}", ended(outcome))),
            What::ChildStatus { got } => ends.push(format!("the host's child: {got:?}")),
            What::HostGone { status } => ends.push(format!("host: {}", told(*status))),
            What::GaveUp => ends.push("host: silent".to_owned()),
            What::Node { run, node, said, .. } => {
                if let Some(said) = said_canonically(said) {
                    nodes.entry((*run, node)).or_default().push(said);
                }
            }
            What::Gone { run, node } => nodes.entry((*run, node)).or_default().push("gone".to_owned()),
            // That an op is done is said at once or once it has an answer, which stands elsewhere.
            _ => {}
        }
    }
    let nodes =
        nodes.into_iter().map(|((run, node), said)| format!("node {run}:{node}: {}", said.join(", ")));
    let looks = trace.looks.iter().map(|look| {
        let stage = match look.stage {
            Stage::Quiesce => "quiet",
            Stage::HostGone => "host gone",
        };
        let mut left = look.seen.iter().map(|seen| match &seen.node {
            Some((run, node)) => format!("{run}:{node}"),
            None => "no node".to_owned(),
        });
        let mut left = left.by_ref().collect::<Vec<_>>();
        left.sort();
        format!("{stage}: left {left:?}")
    });
    let end = match &trace.end {
        CaseEnd::Completed => "completed".to_owned(),
        CaseEnd::HostSilent => "the host fell silent".to_owned(),
        CaseEnd::Inapplicable(why) => format!("inapplicable: {why}"),
        CaseEnd::OurFault(_) => "our fault".to_owned(),
    };
    ops.into_iter().chain(ends).chain(nodes).chain(looks).chain([end]).collect()
}

/// The first line in which two canonical forms differ, of each.
pub fn first_difference(one: &[String], other: &[String]) -> Option<(String, String)> {
    let length = one.len().max(other.len());
    let line = |lines: &[String], index: usize| lines.get(index).map_or("nothing", String::as_str).to_owned();
    (0..length).map(|index| (line(one, index), line(other, index))).find(|(one, other)| one != other)
}

fn ended(outcome: &Outcome) -> String {
    let status = outcome.status.map_or("no status".to_owned(), told);
    let bytes = |captured: Option<crate::trace::Captured>| {
        captured.map_or("nothing captured".to_owned(), |captured| format!("{} bytes", captured.bytes))
    };
    format!("{:?}, {status}, {}, {}", outcome.reason, bytes(outcome.stdout), bytes(outcome.stderr))
}

fn told(status: Status) -> String {
    match status {
        Status::Exited(code) => format!("exit {code}"),
        Status::Signaled(signal) => Signal::name_of(signal),
    }
}

/// What a node said, without numbers that differ from case to case; nothing for what only says when something was.
fn said_canonically(said: &Report) -> Option<String> {
    Some(match said {
        Report::Hello(_) => "hello".to_owned(),
        Report::Emit { name, .. } => format!("emit {name}"),
        Report::Did { step, .. } => format!("did {step}"),
        Report::Signal { signal, .. } => Signal::name_of(*signal).to_string(),
        Report::Exiting { code, .. } => format!("exit {code}"),
        Report::Reexec => "exec".to_owned(),
        Report::Waits { event } => format!("waits for {event}"),
        _ => return None,
    })
}
