//! What the caller of the wrapper does, put together.

use fake_cli::script::{Event, Signal};
use fake_cli::span::Span;

use super::parts::{Ending, Exit, Gate, Parts};
use super::random::{self, MOST_RUNS};
use super::tree::{Tree, event_of};
use super::{FEW_NODES, LONG_DELAY, Shape, event};
use crate::scenario::{Call, Hindrance, MOST_OPS, Op, Verb};
use crate::syscalls::{CallKind, Hold};

impl Ending {
    pub(super) const fn exit(&self) -> Option<Exit> {
        match self {
            Self::ByItself(exit)
            | Self::AfterEnd(exit, _)
            | Self::CancelAtExit(exit)
            | Self::CancelWhenExiting(exit)
            | Self::InDrain(exit, _)
            | Self::InWait(exit, _)
            | Self::Fed(exit, _)
            | Self::Exchange(exit, _)
            | Self::ByItselfAtTimeout(exit) => Some(*exit),
            Self::Random { exit, .. } => *exit,
            _ => None,
        }
    }

    pub(super) const fn needs_timeout(&self) -> bool {
        matches!(
            self,
            Self::Timeout
                | Self::ByItselfAtTimeout(_)
                | Self::HinderedStart(_)
                | Self::Random { timeout: true, .. }
        )
    }

    pub(super) fn describe(&self) -> String {
        match self {
            Self::Cancel => "cancelled".to_owned(),
            Self::CancelTwice(_) => "cancelled, and again inside the grace".to_owned(),
            Self::ManyCancels(count) => format!("cancelled {count} times at once"),
            Self::Timeout => "stopped by the wrapper's own timeout".to_owned(),
            Self::ByItself(_) => "ending by itself".to_owned(),
            Self::Drop => "its handle dropped".to_owned(),
            Self::InGrace(verb, _) => format!("cancelled, and {} inside the grace", verb.name()),
            Self::AfterEnd(_, verb) => format!("ending by itself, and {} when that is over", verb.name()),
            Self::CancelAtExit(_) => "cancelled while it ends by itself".to_owned(),
            Self::CancelWhenExiting(_) => "cancelled as soon as its root says that it exits".to_owned(),
            Self::InDrain(_, verb) => {
                format!("its root gone and its output held by another, and {} then", verb.name())
            }
            Self::AtOnce(verb) => format!("{} as soon as it is started", verb.name()),
            Self::InStart(call, nth, verb) => {
                format!("{} before {call} {nth} of its start", verb.name())
            }
            Self::CancelInKill(nth) => format!("cancelled, and again before signal {nth} is sent"),
            Self::InWait(_, verb) => {
                format!("ending by itself, and {} before its status is asked for", verb.name())
            }
            Self::KillHost => "its owner killed".to_owned(),
            Self::SignalHost(signal) => format!("its owner sent {}", signal.name()),
            Self::EndHost(how) => format!("its owner ended by {}", how.name()),
            Self::HangUp => "its owner's controller gone".to_owned(),
            Self::StopHost(_) => "its owner stopped for a time, then cancelled".to_owned(),
            Self::StopAndKillHost => "its owner stopped, then killed".to_owned(),
            Self::Several(count, _) => format!("{count} runs at once, cancelled one after the other"),
            Self::Together(_) => "cancelled, and used by several callers at once".to_owned(),
            Self::Fed(_, bytes) => format!("ending by itself when it has read {bytes} bytes"),
            Self::Exchange(_, bytes) => {
                format!("ending by itself, {bytes} bytes and more written both ways")
            }
            Self::FedAndCancelled(bytes) => format!("fed {bytes} bytes, then cancelled"),
            Self::ByItselfAtTimeout(_) => "ending by itself when its timeout is nearly over".to_owned(),
            Self::HinderedStart(hindrance) => format!("started in spite of {}", hindrance.told()),
            Self::Random { acts, .. } => format!("{} ops as they came", acts.len()),
        }
    }

    /// Whether it can be done once more: its run is over then, and its host is there.
    pub(super) fn can_be_done_again(&self) -> bool {
        match self {
            Self::Cancel
            | Self::CancelTwice(_)
            | Self::ManyCancels(_)
            | Self::Timeout
            | Self::ByItself(_)
            | Self::ByItselfAtTimeout(_)
            | Self::CancelAtExit(_)
            | Self::CancelWhenExiting(_)
            | Self::AtOnce(Verb::Cancel)
            | Self::Fed(..)
            | Self::Exchange(..)
            | Self::FedAndCancelled(_) => true,
            Self::AfterEnd(_, verb) | Self::InDrain(_, verb) => *verb != Verb::Drop,
            _ => false,
        }
    }

    /// Whether there is a host afterwards, with nothing under way, that can start something else.
    fn leaves_the_host(&self) -> bool {
        match self {
            Self::Several(..) | Self::StopHost(_) => true,
            _ => self.can_be_done_again(),
        }
    }

    /// The calls of the wrapper that wait for its ops.
    pub(super) fn holds(&self) -> Vec<Hold> {
        let until = |call, nth, op: &str| vec![Hold { call, nth, until: event(op) }];
        match self {
            Self::InStart(call, nth, _) => until(*call, *nth, "op.1.issued"),
            Self::CancelInKill(nth) => until(CallKind::Kill, *nth, "op.2.issued"),
            Self::InWait(..) => until(CallKind::Wait, 1, "op.1.issued"),
            _ => Vec::new(),
        }
    }

    /// Whether it sends this signal to the host.
    pub(super) fn sends(&self, signal: Signal) -> bool {
        match self {
            Self::SignalHost(sent) => *sent == signal,
            Self::Random { acts, .. } => acts.iter().any(|act| act.verb == Verb::SignalHost(signal)),
            _ => false,
        }
    }

    /// Whether its ops write to the root's standard input or close it.
    pub(super) fn writes(&self) -> bool {
        match self {
            Self::Fed(..) | Self::FedAndCancelled(_) => true,
            Self::InGrace(verb, _) | Self::AfterEnd(_, verb) => verb.writes(),
            Self::Together(callers) => write(callers),
            Self::Random { acts, .. } => acts.iter().any(|act| act.verb.writes() || write(&act.callers)),
            _ => false,
        }
    }
}

/// Whether one of these calls does.
fn write(callers: &[Vec<Call>]) -> bool {
    callers.iter().flatten().any(|call| matches!(call, Call::Write | Call::CloseStdin))
}

pub(super) fn ops(parts: &Parts, tree: &Tree, shape: Shape) -> Vec<Op> {
    if let Ending::Random { exit, timeout, acts } = &parts.ending {
        let ends_by_itself = exit.is_some() || *timeout && shape.timeout;
        return random::ops(acts, ends_by_itself, side_by_side(MOST_RUNS, tree.nodes.len()));
    }
    let mut once = ops_of_ending(parts, tree, shape);
    let again = parts.again(tree.nodes.len(), shape).min((MOST_OPS / once.len()).saturating_sub(1) as u32);
    let ends_in_wait = once.last().is_some_and(|op| op.verb == Verb::Wait);
    // A run that never was has no outcome to ask for; and what grows with equal runs is told where each ends with its wait.
    let asks = ends_in_wait && again == 0 && !matches!(parts.ending, Ending::HinderedStart(_));
    if parts.setting.asks_again && asks {
        once.extend([Op::new(Verb::AskAgain), Op::new(Verb::AskAgain)]);
    }
    // An op before the first stop would change the number that holds wait for.
    if parts.setting.polls && asks && parts.ending.holds().is_empty() {
        once.insert(1, Op::new(Verb::Poll));
        once.push(Op::new(Verb::Poll));
    }
    let mut ops: Vec<Op> = (0..=again).flat_map(|_| once.clone()).collect();
    if let Some(hindrance) = parts.afterwards(tree.nodes.len(), shape) {
        let hindered = Op { hindered_by: Some(hindrance), ..Op::new(Verb::Run) };
        ops.extend((0..HINDERED).flat_map(|_| [hindered.clone(), Op::new(Verb::Wait)]));
    }
    ops
}

/// With fewer than these nobody can start anything whose output he takes.
const FEW_DESCRIPTORS: u32 = 4;
/// So many starts show whether each one leaves something.
const HINDERED: usize = 3;

impl Parts {
    /// How often the ending is done once more, by a tree of so many nodes.
    fn again(&self, nodes: usize, shape: Shape) -> u32 {
        let most = if nodes > FEW_NODES { 1 } else { 7 };
        // Starts that fail are told from what grows with equal runs only where these stand alone.
        let may = shape.handle && self.ending.can_be_done_again() && self.afterwards(nodes, shape).is_none();
        if may { self.again.min(most) } else { 0 }
    }

    /// With what in the way there are more starts when all that is over. A child that would never end is not to start at all.
    fn afterwards(&self, nodes: usize, shape: Shape) -> Option<Hindrance> {
        let may = nodes <= FEW_NODES && shape.handle && self.ending.leaves_the_host();
        let ends = self.ending.exit().is_some() || self.ending.needs_timeout();
        match self.afterwards.filter(|_| may)? {
            Hindrance::DescriptorsLeft(left) if !ends => {
                Some(Hindrance::DescriptorsLeft(left % FEW_DESCRIPTORS))
            }
            hindrance => Some(hindrance),
        }
    }

    /// What the case does, of which these are the ops.
    pub(super) fn describe(&self, ops: &[Op], nodes: usize, shape: Shape) -> String {
        let mut text = self.ending.describe();
        if self.again(nodes, shape) > 0 {
            let runs = ops.iter().filter(|op| op.verb == Verb::Run).count();
            text.push_str(&format!(", {runs} times"));
        }
        if let Some(hindrance) = self.afterwards(nodes, shape) {
            text.push_str(&format!(", then started {HINDERED} times in spite of {}", hindrance.told()));
        }
        text
    }

    /// How often the script is run at most, by a tree of so many nodes.
    pub(super) fn runs(&self, nodes: usize, shape: Shape) -> u32 {
        let of_ending = match self.ending {
            Ending::Several(count, _) => side_by_side(count, nodes),
            Ending::Random { .. } => side_by_side(MOST_RUNS, nodes),
            _ => 1 + self.again(nodes, shape),
        };
        of_ending + if self.afterwards(nodes, shape).is_some() { HINDERED as u32 } else { 0 }
    }
}

fn ops_of_ending(parts: &Parts, tree: &Tree, shape: Shape) -> Vec<Op> {
    let run = || Op::new(Verb::Run);
    let wait = || Op::new(Verb::Wait);
    // A root that pours gets the time for it.
    let delay = if tree.pours() { parts.delay.max(LONG_DELAY) } else { parts.delay };
    let gated = |verb| Op { after: gate_event(parts.gate, tree), delay: nonzero(delay), ..Op::new(verb) };
    let when =
        |what: &str, verb| Op { after: Some(event(what)), delay: nonzero(parts.delay), ..Op::new(verb) };
    let at = |call: CallKind, nth, verb| Op { after: Some(event(&call.event(nth))), ..Op::new(verb) };
    let inside_grace = |verb, eighths| inside_grace(verb, eighths, parts, tree, shape);
    let wait_after = |verb| (!matches!(verb, Verb::Drop) && !Verb::ends_host(verb)).then(wait);
    match &parts.ending {
        Ending::Timeout | Ending::ByItself(_) | Ending::ByItselfAtTimeout(_) | Ending::Exchange(..) => {
            vec![run(), wait()]
        }
        Ending::HinderedStart(hindrance) => vec![Op { hindered_by: Some(*hindrance), ..run() }, wait()],
        Ending::Cancel | Ending::CancelAtExit(_) => vec![run(), gated(Verb::Cancel), wait()],
        Ending::CancelWhenExiting(_) => vec![run(), when("root.exiting", Verb::Cancel), wait()],
        Ending::CancelTwice(eighths) => {
            vec![run(), gated(Verb::Cancel), inside_grace(Verb::Cancel, *eighths), wait()]
        }
        Ending::ManyCancels(count) => {
            let more = (1..*count).map(|_| Op::new(Verb::Cancel));
            [run(), gated(Verb::Cancel)].into_iter().chain(more).chain([wait()]).collect()
        }
        Ending::Drop => vec![run(), gated(Verb::Drop)],
        Ending::InGrace(verb, eighths) => [run(), gated(Verb::Cancel), inside_grace(*verb, *eighths)]
            .into_iter()
            .chain(wait_after(*verb))
            .collect(),
        Ending::AfterEnd(_, verb) => vec![run(), wait(), Op::new(*verb)],
        Ending::InDrain(_, verb) => {
            [run(), when("root.gone", *verb)].into_iter().chain(wait_after(*verb)).collect()
        }
        Ending::AtOnce(verb) => [run(), Op::new(*verb)].into_iter().chain(wait_after(*verb)).collect(),
        Ending::InStart(call, nth, verb) => {
            [run(), at(*call, *nth, *verb)].into_iter().chain(wait_after(*verb)).collect()
        }
        Ending::CancelInKill(nth) => {
            vec![run(), gated(Verb::Cancel), at(CallKind::Kill, *nth, Verb::Cancel), wait()]
        }
        Ending::InWait(_, verb) => {
            [run(), at(CallKind::Wait, 1, *verb)].into_iter().chain(wait_after(*verb)).collect()
        }
        Ending::KillHost => vec![run(), gated(Verb::KillHost)],
        Ending::SignalHost(signal) => vec![run(), gated(Verb::SignalHost(*signal))],
        Ending::EndHost(how) => vec![run(), gated(Verb::EndHost(*how))],
        Ending::HangUp => vec![run(), gated(Verb::HangUp)],
        Ending::StopHost(pause) => {
            let go_on = Op { delay: nonzero(*pause), ..Op::new(Verb::ContinueHost) };
            vec![run(), gated(Verb::StopHost), go_on, Op::new(Verb::Cancel), wait()]
        }
        Ending::StopAndKillHost => vec![run(), gated(Verb::StopHost), Op::new(Verb::KillHost)],
        Ending::Several(count, last_first) => {
            let count = side_by_side(*count, tree.nodes.len());
            let mut order: Vec<u32> = (1..=count).collect();
            if *last_first {
                order.reverse();
            }
            let about = |run: u32, op: Op| Op { run: Some(run), ..op };
            let runs = (0..count).map(|_| run());
            let cancels = order.iter().map(|run| about(*run, gated(Verb::Cancel)));
            let waits = order.iter().map(|run| about(*run, wait()));
            runs.chain(cancels).chain(waits).collect()
        }
        Ending::Together(callers) => {
            // Without somebody who cancels at once all may wait for each other.
            let callers = [vec![Call::Cancel]].into_iter().chain(callers.iter().cloned()).collect();
            let together = Op { callers, ..gated(Verb::Together) };
            let drops = together.counts(Call::Drop) > 0;
            [run(), together].into_iter().chain((!drops).then(wait)).collect()
        }
        Ending::Fed(_, bytes) => vec![run(), gated(Verb::Write(*bytes)), Op::new(Verb::CloseStdin), wait()],
        Ending::FedAndCancelled(bytes) => {
            vec![run(), gated(Verb::Write(*bytes)), Op::new(Verb::Cancel), wait()]
        }
        Ending::Random { .. } => unreachable!("its ops are drawn one by one"),
    }
}

/// A second op between the first cancel and the end of its grace: when the root says that TERM has come, or a part of the
/// grace later.
fn inside_grace(verb: Verb, eighths: u8, parts: &Parts, tree: &Tree, shape: Shape) -> Op {
    let keen = parts.style == super::Style::Keen;
    let root = &tree.nodes[0];
    let sure = matches!(parts.gate, Gate::RootReady | Gate::OtherReady(_));
    if keen && shape.asks && sure && eighths % 2 == 1 && root.manner.reports() && !root.late {
        return Op { after: Some(event("root.TERM")), ..Op::new(verb) };
    }
    let grace = parts.grace().get();
    Op { delay: nonzero(Span::from(grace * u32::from(eighths) / 8)), ..Op::new(verb) }
}

fn gate_event(gate: Gate, tree: &Tree) -> Option<Event> {
    let others = tree.nodes.len() - 1;
    let of_other = |index: proptest::sample::Index, what| event_of(1 + index.index(others), what);
    match gate {
        Gate::OtherReady(index) if others > 0 => Some(of_other(index, "ready")),
        Gate::OtherHello(index) if others > 0 => Some(of_other(index, "hello")),
        Gate::RootReady | Gate::OtherReady(_) => Some(event("root.ready")),
        Gate::RootHello | Gate::OtherHello(_) => Some(event("root.hello")),
        Gate::Nothing => None,
    }
}

/// How many of so many runs may be under way at once, each of a tree of so many nodes.
fn side_by_side(count: u32, nodes: usize) -> u32 {
    if nodes > FEW_NODES { count.min(2) } else { count }
}

pub(super) fn nonzero(span: Span) -> Option<Span> {
    (span > Span::ZERO).then_some(span)
}
