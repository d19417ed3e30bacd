//! What the caller of the wrapper does, put together.

use fake_cli::script::Event;
use fake_cli::span::Span;

use super::parts::{Ending, Exit, Gate, Parts};
use super::tree::{Tree, name_of};
use super::{Shape, event};
use crate::scenario::{Op, Verb};

impl Ending {
    pub(super) fn exit(self) -> Option<Exit> {
        match self {
            Self::ByItself(exit)
            | Self::CancelAfterEnd(exit)
            | Self::CancelAtExit(exit)
            | Self::ByItselfAtTimeout(exit)
            | Self::HinderedStarts(exit, _) => Some(exit),
            _ => None,
        }
    }

    pub(super) fn needs_timeout(self) -> bool {
        matches!(self, Self::Timeout | Self::ByItselfAtTimeout(_))
    }

    pub(super) fn describe(self) -> String {
        match self {
            Self::Cancel => "cancelled".to_owned(),
            Self::CancelTwice(_) => "cancelled, and again inside the grace".to_owned(),
            Self::ManyCancels(count) => format!("cancelled {count} times at once"),
            Self::Timeout => "stopped by the wrapper's own timeout".to_owned(),
            Self::ByItself(_) => "ending by itself".to_owned(),
            Self::Drop => "its handle dropped".to_owned(),
            Self::CancelThenDrop(_) => "cancelled, and its handle dropped inside the grace".to_owned(),
            Self::CancelAfterEnd(_) => "cancelled after its end".to_owned(),
            Self::CancelAtExit(_) => "cancelled while it ends by itself".to_owned(),
            Self::KillHost => "its owner killed".to_owned(),
            Self::SignalHost(signal) => format!("its owner sent {}", signal.name()),
            Self::EndHost(how) => format!("its owner ended by {}", how.name()),
            Self::CancelRepeatedly => "run and cancelled three times".to_owned(),
            Self::ByItselfAtTimeout(_) => "ending by itself when its timeout is nearly over".to_owned(),
            Self::HinderedStarts(_, hindrance) => {
                format!("ending by itself, then started three times in spite of {}", hindrance.told())
            }
        }
    }
}

pub(super) fn ops(parts: &Parts, tree: &Tree, shape: Shape) -> Vec<Op> {
    let run = || Op::new(Verb::Run);
    let wait = || Op::new(Verb::Wait);
    let gated =
        |verb| Op { after: gate_event(parts.gate, tree), delay: nonzero(parts.delay), ..Op::new(verb) };
    let inside_grace = |verb, eighths| inside_grace(verb, eighths, parts, tree, shape);
    let mut ops = match parts.ending {
        Ending::Timeout | Ending::ByItself(_) | Ending::ByItselfAtTimeout(_) => vec![run(), wait()],
        Ending::HinderedStarts(_, hindrance) => {
            let hindered = || Op { hindered_by: Some(hindrance), ..run() };
            [run(), wait()].into_iter().chain((0..3).flat_map(|_| [hindered(), wait()])).collect()
        }
        Ending::Cancel | Ending::CancelAtExit(_) => vec![run(), gated(Verb::Cancel), wait()],
        Ending::CancelTwice(eighths) => {
            vec![run(), gated(Verb::Cancel), inside_grace(Verb::Cancel, eighths), wait()]
        }
        Ending::ManyCancels(count) => {
            let more = (1..count).map(|_| Op::new(Verb::Cancel));
            [run(), gated(Verb::Cancel)].into_iter().chain(more).chain([wait()]).collect()
        }
        Ending::Drop => vec![run(), gated(Verb::Drop)],
        Ending::CancelThenDrop(eighths) => {
            vec![run(), gated(Verb::Cancel), inside_grace(Verb::Drop, eighths)]
        }
        Ending::CancelAfterEnd(_) => vec![run(), wait(), Op::new(Verb::Cancel)],
        Ending::KillHost => vec![run(), gated(Verb::KillHost)],
        Ending::SignalHost(signal) => vec![run(), gated(Verb::SignalHost(signal))],
        Ending::EndHost(how) => vec![run(), gated(Verb::EndHost(how))],
        Ending::CancelRepeatedly => (0..3).flat_map(|_| [run(), gated(Verb::Cancel), wait()]).collect(),
    };
    if parts.rare.asks_again && ops.last().is_some_and(|op| op.verb == Verb::Wait) {
        ops.extend([Op::new(Verb::AskAgain), Op::new(Verb::AskAgain)]);
    }
    ops
}

/// A second op between the first cancel and the end of its grace: when the root says that TERM has come, or a part of the
/// grace later.
pub(super) fn inside_grace(verb: Verb, eighths: u8, parts: &Parts, tree: &Tree, shape: Shape) -> Op {
    if shape.asks && eighths % 2 == 1 && tree.nodes[0].manner.reports() {
        return Op { after: Some(event("root.TERM")), ..Op::new(verb) };
    }
    let grace = parts.limits.grace.map_or_else(Default::default, Span::get);
    Op { delay: nonzero(Span::from(grace * u32::from(eighths) / 8)), ..Op::new(verb) }
}

pub(super) fn gate_event(gate: Gate, tree: &Tree) -> Option<Event> {
    match gate {
        Gate::OtherReady(index) if tree.nodes.len() > 1 => {
            Some(event(&format!("{}.ready", name_of(1 + index.index(tree.nodes.len() - 1)))))
        }
        Gate::RootReady | Gate::OtherReady(_) => Some(event("root.ready")),
        Gate::RootHello => Some(event("root.hello")),
        Gate::Nothing => None,
    }
}

pub(super) fn nonzero(span: Span) -> Option<Span> {
    (span > Span::ZERO).then_some(span)
}
