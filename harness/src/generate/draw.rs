//! How the parts of a case are drawn.

use fake_cli::script::{Place, Signal};
use fake_cli::span::Span;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use proptest::strategy::Union;

use super::Shape;
use super::parts::{Ending, Exit, Gate, How, Life, Manner, Node, Parts, Rare, Swarm};
use crate::scenario::{Hindrance, HostEnd, Limits};

pub(super) fn parts(shape: Shape) -> impl Strategy<Value = Parts> {
    let others = prop_oneof![
        30 => vec(node(), 1),
        25 => Just(Vec::new()),
        25 => vec(node(), 2),
        15 => vec(node(), 3),
        5 => vec(node(), 4..=7),
    ];
    let drawn = (any::<u32>().prop_map(Swarm), node(), others, ending(shape), gate(), delay(), limits());
    (drawn, rare(shape)).prop_map(|(drawn, rare)| {
        let (swarm, root, others, ending, gate, delay, limits) = drawn;
        Parts { swarm, root, others, ending, gate, delay, limits, rare }
    })
}

pub(super) fn rare(shape: Shape) -> impl Strategy<Value = Rare> {
    // TERM is not among them: it is the harness's own word to a command.
    let signals = || {
        let all = vec![Signal::Hup, Signal::Int, Signal::Quit, Signal::Usr1, Signal::Usr2, Signal::Pipe];
        prop_oneof![19 => Just(Vec::new()), 1 => subsequence(all, 1..=6)]
    };
    let bytes = prop_oneof![2 => Just(0), 3 => 1..=4096_u64, 2 => 65_537..=200_000_u64];
    let input = prop_oneof![9 => Just(None), 1 => bytes.prop_map(Some)];
    let child = select(vec!["root.hello", "root.ready", "root.gone", "run.ended"]);
    let child = prop_oneof![9 => Just(None), 1 => child.prop_map(Some)];
    let beside = (prop::bool::weighted(0.1), child);
    let drawn = (beside, signals(), signals(), input, prop::bool::weighted(0.1));
    drawn.prop_map(move |((bystanders, child), blocks, ignores, input, asks_again)| Rare {
        bystanders,
        bystander_child: child.filter(|_| shape.handle),
        blocks,
        ignores,
        input: input.filter(|_| shape.handle),
        asks_again: asks_again && shape.handle,
    })
}

pub(super) fn node() -> impl Strategy<Value = Node> {
    let writes = prop_oneof![6 => Just(0), 3 => 1..=4096_u64, 1 => Just(16 * 1024)];
    let flags = (prop::bool::weighted(0.25), prop::bool::weighted(0.5));
    (any::<Index>(), place(), manner(), life(), flags, writes).prop_map(
        |(parent, place, manner, life, (holds_stdout, adopts), writes)| Node {
            parent,
            place,
            manner,
            life,
            holds_stdout,
            adopts,
            writes,
        },
    )
}

pub(super) fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        5 => Just(Place::SameGroup),
        2 => Just(Place::OwnSession),
        2 => Just(Place::OwnGroup),
        1 => Just(Place::Orphan),
        1 => Just(Place::Daemon),
    ]
}

pub(super) fn manner() -> impl Strategy<Value = Manner> {
    prop_oneof![
        6 => Just(Manner::Plain),
        2 => Just(Manner::Logs),
        2 => any::<u8>().prop_map(Manner::Exits),
        2 => on_grid(&[1, 5, 20, 50, 150]).prop_map(Manner::Slow),
        3 => Just(Manner::Ignores),
        2 => Just(Manner::Blocks),
        1 => (1..=3_u8).prop_map(Manner::Forks),
    ]
}

pub(super) fn life() -> impl Strategy<Value = Life> {
    prop_oneof![
        20 => Just(Life::Hangs),
        3 => on_grid(&[1, 2, 5, 10]).prop_map(Life::Streams),
        1 => Just(Life::Floods),
        2 => (on_grid(&[1, 2, 5]), 2..=12_u32).prop_map(|(every, most)| Life::ForksAtRate(every, most)),
        2 => (1..=3_u32).prop_map(Life::LeavesZombies),
        1 => Just(Life::StopsItself),
        1 => Just(Life::ReadsStdin),
        1 => Just(Life::Busy),
    ]
}

pub(super) fn ending(shape: Shape) -> impl Strategy<Value = Ending> {
    let host_signal = select(vec![Signal::Term, Signal::Int, Signal::Hup]);
    let mut endings = vec![
        (18, Just(Ending::Cancel).boxed()),
        (18, (0..8_u8).prop_map(Ending::CancelTwice).boxed()),
        (6, (3..=6_u8).prop_map(Ending::ManyCancels).boxed()),
        (14, exit().prop_map(Ending::ByItself).boxed()),
        (3, exit().prop_map(Ending::CancelAtExit).boxed()),
        (4, Just(Ending::KillHost).boxed()),
        (4, host_signal.prop_map(Ending::SignalHost).boxed()),
    ];
    if shape.timeout {
        endings.push((15, Just(Ending::Timeout).boxed()));
    }
    if shape.handle {
        endings.push((14, Just(Ending::Drop).boxed()));
        endings.push((5, (0..8_u8).prop_map(Ending::CancelThenDrop).boxed()));
        endings.push((4, exit().prop_map(Ending::CancelAfterEnd).boxed()));
        endings.push((4, Just(Ending::CancelRepeatedly).boxed()));
        let how = select(vec![HostEnd::Panic, HostEnd::Exit, HostEnd::Abort]);
        endings.push((3, how.prop_map(Ending::EndHost).boxed()));
        let hindered = (exit(), hindrance()).prop_map(|(exit, by)| Ending::HinderedStarts(exit, by));
        endings.push((2, hindered.boxed()));
    }
    if shape.handle && shape.timeout {
        endings.push((2, exit().prop_map(Ending::ByItselfAtTimeout).boxed()));
    }
    Union::new_weighted(endings)
}

pub(super) fn hindrance() -> impl Strategy<Value = Hindrance> {
    prop_oneof![
        1 => Just(Hindrance::MissingProgram),
        1 => Just(Hindrance::NotExecutable),
        1 => Just(Hindrance::BadInterpreter),
        3 => (0..=12_u32).prop_map(Hindrance::DescriptorsLeft),
    ]
}

pub(super) fn exit() -> impl Strategy<Value = Exit> {
    let signals = vec![Signal::Term, Signal::Kill, Signal::Int, Signal::Hup, Signal::Usr1, Signal::Pipe];
    let how = prop_oneof![3 => Just(How::Code(0)), 4 => any::<u8>().prop_map(How::Code), 2 => select(signals).prop_map(How::By)];
    let burst = prop_oneof![5 => Just(0), 3 => 1..=8192_u64, 2 => 65_537..=200_000_u64];
    (how, delay(), any::<bool>(), burst, any::<bool>()).prop_map(
        |(how, after, leaves_others, burst, reads)| Exit { how, after, leaves_others, burst, reads },
    )
}

pub(super) fn gate() -> impl Strategy<Value = Gate> {
    prop_oneof![
        14 => Just(Gate::RootReady),
        4 => any::<Index>().prop_map(Gate::OtherReady),
        1 => Just(Gate::RootHello),
        1 => Just(Gate::Nothing),
    ]
}

/// No delay half of the time, else log-uniform.
pub(super) fn delay() -> impl Strategy<Value = Span> {
    prop_oneof![1 => Just(Span::ZERO), 1 => on_grid(&[1, 2, 5, 10, 20, 50])]
}

pub(super) fn limits() -> impl Strategy<Value = Limits> {
    let timeout = on_grid(&[20, 30, 50, 75, 100, 150]);
    let grace = on_grid(&[5, 10, 20, 50, 100]);
    let drain = on_grid(&[50, 100, 200]);
    (timeout, grace, drain).prop_map(|(timeout, grace, drain)| Limits {
        timeout: Some(timeout),
        grace: Some(grace),
        drain: Some(drain),
    })
}

pub(super) fn on_grid(millis: &[u64]) -> impl Strategy<Value = Span> + use<> {
    select(millis.iter().copied().map(Span::from_millis).collect::<Vec<_>>())
}
