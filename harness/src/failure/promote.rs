//! Pinning the order that makes a racy failure happen: a gate more, if there is one that does it.
//!
//! The events of cases that broke the rule are compared with those of cases that did not. Where an op came after an
//! event in the first and before it in the others, or the other way round, a gate that forces the first order is tried; and so is
//! an op after an event that happened in the first and not in the others.
//!
//! Of the wrapper's own calls such a case tells nothing, for only cases with a hold are watched that closely. So where no order of events
//! does it, the ops are tried in the middle of the calls by which a child is started, signalled and reaped: the op waits for the call,
//! and the call for the op.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use fake_cli::control::Report;
use fake_cli::script::{Event, Signal, Start, Step};

use crate::crew::CrewError;
use crate::scenario::{Op, Scenario, Verb};
use crate::syscalls::{CallKind, Hold};
use crate::trace::{Trace, What};

use super::rate::{Rate, Terms};
use super::tries::{Bench, Traces, Tried, Until};

/// Most gates that are tried.
const MOST_GATES: usize = 8;
/// How much more often an order must be seen in cases that broke the rule than in others, to be tried.
const LEAST_DIFFERENCE: f64 = 0.3;

/// A failure with its order pinned.
pub(super) struct Promoted {
    pub(super) scenario: Scenario,
    pub(super) tried: Tried,
}

/// A gate that makes the failure happen nearly always, and more often for certain; nothing where none does.
pub(super) fn promote(
    bench: &mut Bench<'_>,
    scenario: &Scenario,
    rate: Rate,
    traces: &Traces,
    deadline: Instant,
) -> Result<Option<Promoted>, CrewError> {
    match the_first_that_pins(bench, gates(scenario, traces), rate, deadline)? {
        None if !bench.is_over(deadline) => the_first_that_pins(bench, held(scenario), rate, deadline),
        promoted => Ok(promoted),
    }
}

fn the_first_that_pins(
    bench: &mut Bench<'_>,
    gates: Vec<Scenario>,
    rate: Rate,
    deadline: Instant,
) -> Result<Option<Promoted>, CrewError> {
    if gates.is_empty() {
        return Ok(None);
    }
    let until = Until::FirstAccepted(vec![Terms::of_gate(rate.estimate()); gates.len()], &|_, _| false);
    let tried = bench.try_all(gates.clone(), until, deadline, None)?;
    let taken = gates.into_iter().zip(tried).filter(|(_, tried)| tried.decided == Some(true));
    for (scenario, _) in taken {
        // Tries that ended as soon as they sufficed flatter.
        let tried = super::replay(bench, &scenario, rate.tries_to_be_above(), deadline, None)?;
        if tried.rate.is_above(rate) {
            return Ok(Some(Promoted { scenario, tried }));
        }
    }
    Ok(None)
}

/// A kind of gate: what it does to the scenario to have an op come after an event, or before it.
type Gate = fn(&Scenario, usize, &str) -> Option<Scenario>;

/// The kinds of gates, each with whether it forces the op behind the event.
const GATES: [(bool, Gate); 2] = [(true, op_after_event), (false, node_after_op)];

/// The scenarios with one gate more, those first whose order tells broken cases from others best.
fn gates(scenario: &Scenario, traces: &Traces) -> Vec<Scenario> {
    let broken = traces.broken.iter().map(positions).collect::<Vec<_>>();
    let others = traces.others.iter().map(positions).collect::<Vec<_>>();
    if broken.is_empty() || others.is_empty() {
        return Vec::new();
    }
    let events = broken.iter().chain(&others).flat_map(BTreeMap::keys);
    let events = events.filter(|event| !event.starts_with("op.")).collect::<BTreeSet<_>>();
    let part = |cases: &[BTreeMap<String, usize>], is_so: &dyn Fn(&BTreeMap<String, usize>) -> bool| {
        cases.iter().filter(|case| is_so(case)).count() as f64 / cases.len() as f64
    };
    let mut found: Vec<(f64, Scenario)> = Vec::new();
    for op in 1..scenario.ops.len() {
        let issued = format!("op.{op}.issued");
        for &event in &events {
            let is_behind = |case: &BTreeMap<String, usize>| match (case.get(&issued), case.get(event)) {
                (Some(op), Some(event)) => op > event,
                _ => false,
            };
            let is_before = |case: &BTreeMap<String, usize>| match (case.get(&issued), case.get(event)) {
                (Some(op), Some(event)) => op < event,
                (Some(_), None) => true,
                (None, _) => false,
            };
            for (behind, gate) in GATES {
                let difference = match behind {
                    true => {
                        let happened = |case: &BTreeMap<String, usize>| case.contains_key(event);
                        let behind = part(&broken, &is_behind) - part(&others, &is_behind);
                        behind.max(part(&broken, &happened) - part(&others, &happened))
                    }
                    false => part(&broken, &is_before) - part(&others, &is_before),
                };
                if difference >= LEAST_DIFFERENCE
                    && let Some(gated) = gate(scenario, op, event)
                    && gated != *scenario
                    && gated.check().is_ok()
                {
                    found.push((difference, gated));
                }
            }
        }
    }
    found.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    let mut gates = Vec::new();
    for (_, gated) in found {
        if !gates.contains(&gated) {
            gates.push(gated);
        }
    }
    gates.truncate(MOST_GATES);
    gates
}

/// The calls between which a wrapper may lose what it starts.
const CALLS: [CallKind; 4] = [CallKind::Clone, CallKind::ExecChild, CallKind::Wait, CallKind::Kill];

/// The scenarios in which an op of the first run comes in the middle of a call.
fn held(scenario: &Scenario) -> Vec<Scenario> {
    let is_run = |op: &&Op| op.verb == Verb::Run;
    let ops = scenario.ops.iter().enumerate().skip(1);
    let ops = ops.filter(|(index, op)| {
        let is_of_the_first = scenario.ops[..*index].iter().filter(is_run).count() == 1;
        is_of_the_first && !matches!(op.verb, Verb::Run | Verb::Wait)
    });
    let with = |(index, call): (usize, CallKind)| {
        // It signals nobody before it is told to stop.
        let was_stopped = scenario.ops[..index].iter().any(|op| op.verb.stops());
        let mut held = scenario.clone();
        let op = &mut held.ops[index];
        op.after = Some(Event::try_from(call.event(1).as_str()).ok()?);
        op.delay = None;
        let until = Event::try_from(format!("op.{index}.issued").as_str()).ok()?;
        held.holds.push(Hold { call, nth: 1, until });
        let is_legal = (call != CallKind::Kill || was_stopped) && held.check().is_ok();
        is_legal.then_some(held)
    };
    let all = ops.flat_map(|(index, _)| CALLS.map(|call| (index, call))).filter_map(with);
    all.take(MOST_GATES).collect()
}

/// The op waits for the event, and then no longer: the event says what the delay stood for.
fn op_after_event(scenario: &Scenario, op: usize, event: &str) -> Option<Scenario> {
    let mut scenario = scenario.clone();
    let gated = scenario.ops.get_mut(op).filter(|op| op.verb != Verb::Wait)?;
    gated.after = Some(Event::try_from(event).ok()?);
    gated.delay = None;
    Some(scenario)
}

/// The node that causes the event waits for the op before it does.
fn node_after_op(scenario: &Scenario, op: usize, event: &str) -> Option<Scenario> {
    let mut scenario = scenario.clone();
    let (node, what) = event.rsplit_once('.')?;
    let wait = Step::Await(Event::try_from(format!("op.{op}.issued")).ok()?);
    let steps = script_of(&mut scenario.script, fake_cli::script::ROOT, node)?;
    let before = match what {
        "exiting" | "gone" => steps.len().checked_sub(1)?,
        _ => steps.iter().position(|step| matches!(step, Step::Emit(name) if name.as_str() == what))?,
    };
    steps.insert(before, wait);
    Some(scenario)
}

fn script_of<'a>(script: &'a mut Vec<Step>, name: &str, wanted: &str) -> Option<&'a mut Vec<Step>> {
    if name == wanted {
        return Some(script);
    }
    script.iter_mut().find_map(|step| match step {
        Step::Start(Start { node, script, .. }) => {
            let node = node.to_string();
            script_of(script, &node, wanted)
        }
        _ => None,
    })
}

/// Where in the case each event happened first, by the names that gates have for them.
fn positions(trace: &Trace) -> BTreeMap<String, usize> {
    let mut positions = BTreeMap::new();
    for (index, moment) in trace.moments.iter().enumerate() {
        let event = match &moment.what {
            What::Issued { op, .. } => format!("op.{op}.issued"),
            What::Done { op } => format!("op.{op}.done"),
            What::Ended { .. } => "run.ended".to_owned(),
            What::Gone { node, .. } => format!("{node}.gone"),
            What::HostGone { .. } => "host.gone".to_owned(),
            What::Node { node, said, .. } => match said {
                Report::Hello(_) => format!("{node}.hello"),
                Report::Emit { name, .. } => format!("{node}.{name}"),
                Report::Signal { signal, .. } => format!("{node}.{}", Signal::name_of(*signal)),
                Report::Exiting { .. } => format!("{node}.exiting"),
                _ => continue,
            },
            _ => continue,
        };
        positions.entry(event).or_insert(index);
    }
    positions
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::report::timeline::tests::cancelled_tree;
    use crate::trace::Moment;

    /// A scenario whose cancel has no gate, and a case of it in which that came before anybody was ready.
    pub(in super::super) fn race() -> (Scenario, Trace) {
        let (scenario, Traces { mut others, .. }) = traces();
        (scenario, others.remove(0))
    }

    /// The tree's cancel has no gate; in the broken cases the helper was ready before it.
    fn traces() -> (Scenario, Traces) {
        let mut late = cancelled_tree();
        late.scenario.ops[1].after = None;
        let mut early = late.clone();
        let is_issued = |moment: &Moment| matches!(moment.what, What::Issued { op: 1, .. });
        let cancel = early.moments.iter().position(is_issued).unwrap();
        let moment = early.moments.remove(cancel);
        early.moments.insert(2, moment);
        (late.scenario.clone(), Traces { broken: vec![late; 5], others: vec![early; 5] })
    }

    #[test]
    fn an_order_that_tells_broken_cases_from_others_becomes_a_gate() {
        let (scenario, traces) = traces();
        let gates = gates(&scenario, &traces);
        let after = gates.iter().filter_map(|gated| gated.ops[1].after.as_ref()).map(Event::as_str);
        let after = after.collect::<BTreeSet<_>>();
        assert!(after.contains("helper.ready") && after.contains("root.ready"), "{after:?}");
        assert!(gates.len() <= MOST_GATES && gates.iter().all(|gated| gated.check().is_ok()));
    }

    #[test]
    fn the_other_order_has_the_node_wait_for_the_op() {
        let (scenario, Traces { broken, others }) = traces();
        let gates = gates(&scenario, &Traces { broken: others, others: broken });
        let waits = |gated: &Scenario| gated.to_json().contains(r#"{ "await": "op.1.issued" }"#);
        assert!(gates.iter().any(waits), "{gates:?}");
    }

    #[test]
    fn an_op_of_the_first_run_is_put_in_the_middle_of_each_call_that_may_come_before_it() {
        let text = r#"{"schema": 1, "name": "a", "why": "A test.", "script": ["hang"], "ops": [{"do": "run"},
            {"do": "cancel", "after": "root.hello", "delay": "5ms"}, {"do": "cancel"}, {"do": "wait"}, {"do": "run"}, {"do": "cancel"}]}"#;
        let found = held(&Scenario::from_json(text).unwrap());
        let holds = found.iter().map(|held| {
            let hold = &held.holds[0];
            let index: usize = hold.until.as_str().split('.').nth(1).unwrap().parse().unwrap();
            let op = &held.ops[index];
            assert_eq!((op.after.as_ref().unwrap().as_str(), op.delay), (hold.call.event(1).as_str(), None));
            (index, hold.call)
        });
        let holds = holds.collect::<Vec<_>>();
        let [clone, exec, wait, kill] = CALLS;
        assert_eq!(holds, [(1, clone), (1, exec), (1, wait), (2, clone), (2, exec), (2, wait), (2, kill)]);
    }

    #[test]
    fn what_is_the_same_in_all_cases_is_no_gate() {
        let (scenario, Traces { broken, .. }) = traces();
        assert!(gates(&scenario, &Traces { others: broken.clone(), broken }).is_empty());
        assert!(gates(&scenario, &Traces::default()).is_empty());
    }
}
