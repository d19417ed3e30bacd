//! The canonical form of a trace: what of it is the same whenever the same happens.
//!
//! Left out are pids, inodes, clocks and what they order among processes that do not wait for each other. What stays, line by line:
//! which ops were done and how they were answered, how each run ended, what each node that ended by itself did in its own order, and who
//! was left. How far a node is that is killed, and whether it is there yet, depends on when: of such a node only that stays for which
//! an op waited.

use std::collections::{BTreeMap, BTreeSet};

use fake_cli::control::Report;
use fake_cli::script::Signal;

use crate::scenario::Scenario;
use crate::trace::{CaseEnd, Outcome, Stage, Status, Trace, What};

/// The canonical form of a trace, in an order of its own.
pub fn canonical(trace: &Trace) -> Vec<String> {
    let mut ops = Vec::new();
    let mut nodes: BTreeMap<(u32, &str), Vec<Said>> = BTreeMap::new();
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
                let said = said_canonically(node, said);
                nodes.entry((*run, node)).or_default().extend(said);
            }
            What::Gone { run, node } => {
                nodes.entry((*run, node)).or_default().push(Said::new(node, "gone", "gone".to_owned()));
            }
            // That an op is done is said at once or once it has an answer, which stands elsewhere.
            _ => {}
        }
    }
    let waited_for = waited_for(&trace.scenario);
    let nodes = nodes.into_iter().filter_map(|((run, node), mut said)| {
        if !said.iter().any(|said| said.is_own_end) {
            said.retain(|said| waited_for.contains(&said.event));
        }
        let said = said.into_iter().map(|said| said.text).collect::<Vec<_>>();
        (!said.is_empty()).then(|| format!("node {run}:{node}: {}", said.join(", ")))
    });
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

/// The events that ops wait for, without the runs that they are of.
fn waited_for(scenario: &Scenario) -> BTreeSet<String> {
    let gates = scenario.ops.iter().filter_map(|op| op.after.as_ref());
    gates.map(|event| event.of_a_run().map_or(event.as_str(), |(_, event)| event).to_owned()).collect()
}

/// What a node said.
struct Said {
    text: String,
    /// What gates call it.
    event: String,
    /// Whether it ends by itself.
    is_own_end: bool,
}

impl Said {
    fn new(node: &str, event: &str, text: String) -> Self {
        Self { text, event: format!("{node}.{event}"), is_own_end: false }
    }
}

/// Without numbers that differ from case to case; nothing for what only says when something was, and for what is said on another
/// connection than what comes after it.
fn said_canonically(node: &str, said: &Report) -> Option<Said> {
    let (event, text) = match said {
        Report::Hello(_) => ("hello".to_owned(), "hello".to_owned()),
        Report::Emit { name, .. } => (name.to_string(), format!("emit {name}")),
        Report::Did { step, .. } => (format!("did-{step}"), format!("did {step}")),
        Report::Signal { signal, .. } => {
            (Signal::name_of(*signal).to_string(), Signal::name_of(*signal).to_string())
        }
        Report::Exiting { code, .. } => ("exiting".to_owned(), format!("exit {code}")),
        Report::Waits { event } => ("waits".to_owned(), format!("waits for {event}")),
        _ => return None,
    };
    let is_own_end = matches!(said, Report::Exiting { .. });
    Some(Said { is_own_end, ..Said::new(node, &event, text) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::timeline::tests::cancelled_tree;
    use crate::trace::Moment;

    #[test]
    fn how_far_a_node_was_that_is_killed_says_nothing_but_for_what_an_op_waited_for() {
        let trace = cancelled_tree();
        let gate = trace.scenario.ops[1].after.clone().expect("the cancel waits").to_string();
        let (root, _) = gate.rsplit_once('.').expect("NODE.POINT");
        let mut other = trace.clone();
        let hello = |moment: &Moment| matches!(&moment.what, What::Node { node, said: Report::Hello(_), .. } if node == root);
        let at = other.moments.iter().position(hello).expect("it said hello");
        let mut step = other.moments[at].clone();
        if let What::Node { said, .. } = &mut step.what {
            *said = Report::Did { step: 0, at_ns: 0 };
        }
        other.moments.insert(at + 1, step);
        assert_eq!(first_difference(&canonical(&trace), &canonical(&other)), None);
        // Of one that ends by itself it does.
        let ends = |trace: &Trace| {
            let mut trace = trace.clone();
            let mut last = trace.moments[at].clone();
            if let What::Node { said, .. } = &mut last.what {
                *said = Report::Exiting { code: 0, at_ns: 0 };
            }
            trace.moments.push(last);
            canonical(&trace)
        };
        assert!(first_difference(&ends(&trace), &ends(&other)).is_some());
        let point = gate.rsplit('.').next().expect("NODE.POINT").to_owned();
        other.moments.retain(
            |moment| !matches!(&moment.what, What::Node { said: Report::Emit { name, .. }, .. } if *name == point),
        );
        assert!(first_difference(&canonical(&trace), &canonical(&other)).is_some());
    }
}
