//! How the parts of a case are drawn.

use fake_cli::content::{Content, Output};
use fake_cli::script::{Message, Place, Shape as ShellShape, Shell, ShellName, Signal, Stdio, Unexecutable};
use fake_cli::span::Span;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use proptest::strategy::Union;

use super::parts::{Ending, Exit, Extra, Gate, How, Life, Manner, Node, Parts, Rare, Swarm, Taking};
use super::{Shape, Style};
use crate::scenario::{Call, Hindrance, HostEnd, Limits, Verb};
use crate::syscalls::CallKind;

/// Most nodes of a generated script.
pub(super) const MOST_NODES: usize = 64;

/// One of several, each with its weight; of a plain style all weigh the same.
fn one_of<T: std::fmt::Debug>(
    style: Style,
    options: Vec<(u32, BoxedStrategy<T>)>,
) -> Union<BoxedStrategy<T>> {
    let weigh = |weight: u32| if style == Style::Plain { 1 } else { weight };
    Union::new_weighted(options.into_iter().map(|(weight, option)| (weigh(weight), option)).collect())
}

macro_rules! one_of {
    ($style:expr, $($weight:expr => $option:expr),+ $(,)?) => {
        one_of($style, vec![$(($weight, $option.boxed())),+])
    };
}

pub(super) fn parts(style: Style, shape: Shape) -> impl Strategy<Value = Parts> {
    let node = || node(style);
    let others = match style {
        Style::Plain => vec(node(), 0..=7).boxed(),
        Style::Keen => one_of!(style,
            300 => vec(node(), 1),
            250 => Just(Vec::new()),
            250 => vec(node(), 2),
            140 => vec(node(), 3),
            45 => vec(node(), 4..=7),
            12 => vec(node(), 8..=19),
            3 => vec(node(), 20..MOST_NODES),
        )
        .boxed(),
    };
    let swarm = match style {
        Style::Plain => Just(Swarm(u64::MAX)).boxed(),
        Style::Keen => any::<u64>().prop_map(Swarm).boxed(),
    };
    let drawn = (swarm, node(), others, ending(style, shape), gate(style), delay(style), limits(style));
    (drawn, rare(shape)).prop_map(move |(drawn, rare)| {
        let (swarm, root, others, ending, gate, delay, limits) = drawn;
        Parts { style, swarm, root, others, ending, gate, delay, limits, rare }
    })
}

fn rare(shape: Shape) -> impl Strategy<Value = Rare> {
    // TERM is not among them: it is the harness's own word to a command.
    let signals = |more: &[Signal]| {
        let all = [Signal::Hup, Signal::Int, Signal::Quit, Signal::Usr1, Signal::Usr2, Signal::Pipe];
        let all = [&all, more].concat();
        prop_oneof![19 => Just(Vec::new()), 1 => subsequence(all, 1..=6)]
    };
    let input = prop_oneof![7 => Just(None), 1 => fed().prop_map(Some)];
    let child = select(vec!["root.hello", "root.ready", "root.gone", "run.ended"]);
    let child = prop_oneof![8 => Just(None), 1 => child.prop_map(Some)];
    let beside = (prop::bool::weighted(0.15), child);
    let asks = (prop::bool::weighted(0.2), prop::bool::weighted(0.15), prop::bool::weighted(0.05));
    let time = (0..100_u8, prop::bool::weighted(0.04));
    let drawn = (beside, signals(&[]), signals(&[Signal::Chld]), input, asks, state(), time);
    drawn.prop_map(move |((bystanders, child), blocks, ignores, input, asks, state, (haste, never))| {
        let (asks_again, polls, ledger) = asks;
        let (umask, open_files, (terminal, takes_terminal), stranger) = state;
        Rare {
            bystanders,
            bystander_child: child.filter(|_| shape.handle),
            blocks,
            ignores,
            umask,
            open_files,
            // Those who stand beside the host are no part of a session with a terminal.
            terminal: terminal && !bystanders,
            takes_terminal: takes_terminal && terminal && !bystanders,
            stranger: stranger && shape.handle,
            input: input.filter(|_| shape.handle),
            asks_again: asks_again && shape.handle,
            polls: polls && shape.handle,
            ledger: (ledger || stranger) && shape.handle,
            haste,
            never,
        }
    })
}

/// What few hosts have: a mask for files, a bound on open ones, a terminal; and a stranger with the root's pid.
fn state() -> impl Strategy<Value = (Option<u32>, Option<u64>, (bool, bool), bool)> {
    let umask = prop_oneof![19 => Just(None), 1 => select(vec![0, 0o022, 0o027, 0o077]).prop_map(Some)];
    let open_files = prop_oneof![29 => Just(None), 1 => select(vec![512, 4096]).prop_map(Some)];
    let terminal = (prop::bool::weighted(0.05), any::<bool>());
    (umask, open_files, terminal, prop::bool::weighted(0.02))
}

fn more_than_a_pipe() -> impl Strategy<Value = u64> {
    65_537..=200_000_u64
}

/// How many bytes are written to a child: none, few, or more than a pipe holds.
fn fed() -> impl Strategy<Value = u64> {
    prop_oneof![2 => Just(0), 3 => 1..=4096_u64, 2 => more_than_a_pipe()]
}

fn node(style: Style) -> impl Strategy<Value = Node> {
    let writes = match style {
        Style::Plain => (0..=16 * 1024_u64).boxed(),
        Style::Keen => one_of!(style, 6 => Just(0), 3 => 1..=4096_u64, 1 => Just(16 * 1024)).boxed(),
    };
    let holds = one_of!(style,
        15 => Just(Vec::new()),
        4 => Just(vec![Stdio::Stdout]),
        1 => Just(vec![Stdio::Stderr]),
        1 => Just(vec![Stdio::Stdout, Stdio::Stderr]),
        1 => Just(vec![Stdio::Stdin]),
    );
    let content = one_of!(style,
        8 => Just(Content::Records),
        1 => Just(Content::Binary),
        1 => Just(Content::Text),
        1 => Just(Content::Line),
        1 => Just(Content::Messages),
        3 => Just(Content::Marked),
    );
    let extras = match style {
        Style::Plain => vec(extra(style), 0..=3).boxed(),
        Style::Keen => {
            one_of!(style, 12 => Just(Vec::new()), 6 => vec(extra(style), 1), 2 => vec(extra(style), 2..=3))
                .boxed()
        }
    };
    let late = if style == Style::Plain { 0.0 } else { 0.15 };
    let flags = (prop::bool::weighted(late), prop::bool::weighted(0.5));
    let to = one_of!(style, 4 => Just(Output::Stdout), 1 => Just(Output::Stderr));
    let output = (holds, writes, content, to);
    (any::<Index>(), place(style), manner(style), life(style), extras, flags, output).prop_map(
        |(parent, place, manner, life, extras, (late, adopts), (holds, writes, content, to))| Node {
            parent,
            place,
            manner,
            late,
            life,
            extras,
            holds,
            adopts,
            writes,
            content,
            to,
        },
    )
}

fn place(style: Style) -> impl Strategy<Value = Place> {
    one_of!(style,
        10 => Just(Place::SameGroup),
        4 => Just(Place::OwnSession),
        4 => Just(Place::OwnGroup),
        2 => Just(Place::Orphan),
        2 => Just(Place::Daemon),
        1 => Just(Place::Vfork),
        3 => shell().prop_map(Place::Shell),
    )
}

fn shell() -> impl Strategy<Value = Shell> {
    // Every machine has the first one.
    let by = prop_oneof![4 => Just(ShellName::Sh), 1 => Just(ShellName::Dash), 1 => Just(ShellName::Bash)];
    let shapes = vec![
        ShellShape::Plain,
        ShellShape::AndTrue,
        ShellShape::Background,
        ShellShape::Subshell,
        ShellShape::Pipeline,
        ShellShape::ScriptFile,
    ];
    (by, select(shapes)).prop_map(|(by, shape)| Shell { by, shape })
}

fn manner(style: Style) -> impl Strategy<Value = Manner> {
    let takes = || on_grid(style, &[1, 5, 20, 50, 150]);
    one_of!(style,
        12 => Just(Manner::Plain),
        2 => Just(Manner::Logs),
        // Who is killed unasked is told only by somebody who would have told of any other signal too.
        6 => Just(Manner::LogsAll),
        4 => any::<u8>().prop_map(Manner::Exits),
        4 => takes().prop_map(Manner::Slow),
        2 => takes().prop_map(Manner::CleansUp),
        2 => takes().prop_map(Manner::Reraises),
        6 => Just(Manner::Ignores),
        1 => (1..=3_u32).prop_map(Manner::IgnoresFirst),
        4 => Just(Manner::Blocks),
        2 => (1..=3_u8).prop_map(Manner::Forks),
        1 => (on_grid(style, &[0, 1, 5, 20, 50]), 1..=4096_u64).prop_map(|(after, bytes)| Manner::WritesLater(after, bytes)),
    )
}

fn extra(style: Style) -> impl Strategy<Value = Extra> {
    let unexecutable = unexecutable();
    let stdio = select(vec![Stdio::Stdin, Stdio::Stdout, Stdio::Stderr]);
    let message = select(vec![
        Message::Status,
        Message::Stream,
        Message::ToolUse,
        Message::ToolResult,
        Message::Error,
        Message::AuthenticationError,
        Message::Plain,
    ]);
    one_of!(style,
        8 => Just(Extra::ReportsEnvironment),
        3 => Just(Extra::ClearsEnvironment),
        3 => Just(Extra::ExecsFromThread),
        3 => Just(Extra::LeavesMainThread),
        1 => unexecutable.prop_map(Extra::FailsExec),
        3 => stdio.prop_map(Extra::Closes),
        2 => Just(Extra::ClosesOutput),
        2 => (1..=4096_u64).prop_map(Extra::Buffers),
        2 => message.prop_map(Extra::Says),
        2 => (1..=200_u32).prop_map(Extra::HogsDescriptors),
        1 => (1..=8_u64).prop_map(|megabytes| Extra::HogsMemory(megabytes << 20)),
        2 => Just(Extra::Locks),
        2 => Just(Extra::Renames),
        1 => Just(Extra::BecomesNobody),
        3 => (other_signal(), taking(style)).prop_map(|(signal, taking)| Extra::Takes(signal, taking)),
        // Few have a terminal to take.
        1 => prop::bool::weighted(0.2)
            .prop_map(|takes| if takes { Extra::TakesTerminal } else { Extra::ReportsEnvironment }),
    )
}

/// A signal that is not TERM.
fn other_signal() -> impl Strategy<Value = Signal> {
    select(vec![Signal::Int, Signal::Hup, Signal::Quit, Signal::Usr1, Signal::Usr2, Signal::Pipe])
}

fn taking(style: Style) -> impl Strategy<Value = Taking> {
    one_of!(style,
        2 => Just(Taking::Ignores),
        2 => Just(Taking::Blocks),
        2 => Just(Taking::Logs),
        1 => any::<u8>().prop_map(Taking::Exits),
    )
}

fn unexecutable() -> impl Strategy<Value = Unexecutable> {
    select(vec![
        Unexecutable::Missing,
        Unexecutable::NotExecutable,
        Unexecutable::BadInterpreter,
        Unexecutable::NoProgram,
    ])
}

fn life(style: Style) -> impl Strategy<Value = Life> {
    one_of!(style,
        40 => Just(Life::Hangs),
        6 => on_grid(style, &[1, 2, 5, 10]).prop_map(Life::Streams),
        2 => flood(style).prop_map(Life::Floods),
        4 => (on_grid(style, &[1, 2, 5]), 2..=12_u32).prop_map(|(every, most)| Life::ForksAtRate(every, most)),
        4 => (1..=3_u32).prop_map(Life::LeavesZombies),
        4 => Just(Life::StopsItself),
        2 => Just(Life::ReadsStdin),
        2 => Just(Life::Busy),
        2 => on_grid(style, &[1, 5, 20]).prop_map(Life::SleepsInChunks),
        2 => any::<bool>().prop_map(|half| Life::Talks { half }),
    )
}

fn ending(style: Style, shape: Shape) -> impl Strategy<Value = Ending> {
    let host_signal = select(vec![Signal::Term, Signal::Int, Signal::Hup]);
    let exit = || exit(style);
    let eighths = || 0..8_u8;
    let mut endings = vec![
        (18, Just(Ending::Cancel).boxed()),
        (18, eighths().prop_map(Ending::CancelTwice).boxed()),
        (6, (3..=6_u8).prop_map(Ending::ManyCancels).boxed()),
        (22, exit().prop_map(Ending::ByItself).boxed()),
        (6, exit().prop_map(Ending::CancelAtExit).boxed()),
        (8, Just(Ending::KillHost).boxed()),
        (8, host_signal.prop_map(Ending::SignalHost).boxed()),
    ];
    if style == Style::Keen {
        endings.push((3, exit().prop_map(Ending::CancelWhenExiting).boxed()));
        endings.push((3, Just(Ending::AtOnce(Verb::Cancel)).boxed()));
    }
    if shape.timeout {
        endings.push((20, Just(Ending::Timeout).boxed()));
    }
    if shape.handle {
        let how = select(vec![HostEnd::Panic, HostEnd::Panic, HostEnd::Exit, HostEnd::Abort]);
        let then =
            select(vec![Verb::Drop, Verb::Drop, Verb::Drop, Verb::KillHost, Verb::Poll, Verb::CloseStdin]);
        let late = select(vec![
            Verb::Cancel,
            Verb::Cancel,
            Verb::Drop,
            Verb::Poll,
            Verb::CloseStdin,
            Verb::Write(10),
        ]);
        let pause = on_grid(style, &[0, 5, 20, 100]);
        endings.extend([
            (14, Just(Ending::Drop).boxed()),
            (12, (then, eighths()).prop_map(|(verb, eighths)| Ending::InGrace(verb, eighths)).boxed()),
            (10, (exit(), late).prop_map(|(exit, verb)| Ending::AfterEnd(exit, verb)).boxed()),
            (12, repeats(style).prop_map(Ending::CancelRepeatedly).boxed()),
            (12, how.prop_map(Ending::EndHost).boxed()),
            (10, (exit(), hindrance(style)).prop_map(|(exit, by)| Ending::HinderedStarts(exit, by)).boxed()),
            (12, (2..=4_u32, any::<bool>()).prop_map(|(count, last)| Ending::Several(count, last)).boxed()),
            (12, callers().prop_map(Ending::Together).boxed()),
            (5, (exit(), fed()).prop_map(|(exit, bytes)| Ending::Fed(exit, bytes)).boxed()),
            (9, exchange(style).prop_map(|(exit, bytes)| Ending::Exchange(exit, bytes)).boxed()),
            (4, fed().prop_map(Ending::FedAndCancelled).boxed()),
            (3, pause.prop_map(Ending::StopHost).boxed()),
            (2, Just(Ending::StopAndKillHost).boxed()),
            (2, Just(Ending::HangUp).boxed()),
        ]);
        if style == Style::Keen {
            let at_once = select(vec![Verb::Drop, Verb::KillHost]);
            let in_start = select(vec![Verb::Cancel, Verb::Drop, Verb::KillHost]);
            let in_wait = select(vec![Verb::Cancel, Verb::Drop, Verb::KillHost]);
            let in_start = (start_call(), in_start);
            endings
                .push((4, in_start.prop_map(|((call, nth), verb)| Ending::InStart(call, nth, verb)).boxed()));
            endings.push((2, (1..=2_u32).prop_map(Ending::CancelInKill).boxed()));
            endings.push((2, (exit(), in_wait).prop_map(|(exit, verb)| Ending::InWait(exit, verb)).boxed()));
            let in_drain = select(vec![Verb::Cancel, Verb::Drop, Verb::Poll]);
            endings.push((3, at_once.prop_map(Ending::AtOnce).boxed()));
            endings
                .push((9, (exit(), in_drain).prop_map(|(exit, verb)| Ending::InDrain(exit, verb)).boxed()));
        }
    }
    if shape.handle && shape.timeout {
        endings.push((4, exit().prop_map(Ending::ByItselfAtTimeout).boxed()));
        endings.push((6, hindrance(style).prop_map(Ending::HinderedStart).boxed()));
    }
    one_of(style, endings)
}

/// A call that each start makes.
fn start_call() -> impl Strategy<Value = (CallKind, u32)> {
    prop_oneof![
        3 => Just((CallKind::ExecChild, 1)),
        1 => Just((CallKind::Exec, 1)),
        1 => Just((CallKind::Clone, 1)),
        // Its ends of the child's streams.
        2 => (1..=3_u32).prop_map(|nth| (CallKind::Close, nth)),
    ]
}

/// Callers who act at the same moment.
fn callers() -> impl Strategy<Value = Vec<Vec<Call>>> {
    let call = prop_oneof![
        4 => Just(Call::Cancel),
        4 => Just(Call::Poll),
        4 => Just(Call::Wait),
        1 => Just(Call::Write),
        1 => Just(Call::CloseStdin),
        1 => Just(Call::Drop),
    ];
    vec(vec(call, 1..=3), 1..=3)
}

fn hindrance(style: Style) -> impl Strategy<Value = Hindrance> {
    one_of!(style,
        2 => Just(Hindrance::MissingProgram),
        2 => Just(Hindrance::NotExecutable),
        2 => Just(Hindrance::BadInterpreter),
        6 => (0..=12_u32).prop_map(Hindrance::DescriptorsLeft),
    )
}

fn exit(style: Style) -> impl Strategy<Value = Exit> {
    let signals =
        vec![Signal::Term, Signal::Kill, Signal::Int, Signal::Hup, Signal::Usr1, Signal::Pipe, Signal::Abrt];
    let takes = on_grid(style, &[1, 5, 20, 50]);
    let how = one_of!(style,
        6 => Just(How::Code(0)),
        8 => any::<u8>().prop_map(How::Code),
        4 => select(signals).prop_map(How::By),
        1 => Just(How::Fault),
        2 => (takes, any::<u8>()).prop_map(|(takes, code)| How::Slowly(takes, code)),
        1 => any::<u8>().prop_map(How::Unflushed),
        1 => unexecutable().prop_map(How::FailedExec),
    );
    let burst = one_of!(style, 5 => Just(0), 3 => 1..=8192_u64, 2 => more_than_a_pipe());
    (how, delay(style), any::<bool>(), burst, any::<bool>()).prop_map(
        |(how, after, leaves_others, burst, reads)| Exit { how, after, leaves_others, burst, reads },
    )
}

/// How a root ends that writes more than a pipe holds while as much is written to it.
fn exchange(style: Style) -> impl Strategy<Value = (Exit, u64)> {
    let both = (more_than_a_pipe(), more_than_a_pipe());
    (exit(style), both).prop_map(|(exit, (burst, bytes))| (Exit { burst, ..exit }, bytes))
}

/// How many runs one after the other: enough to see something grow.
fn repeats(style: Style) -> BoxedStrategy<u32> {
    match style {
        Style::Plain => (2..=8_u32).boxed(),
        Style::Keen => one_of!(style, 1 => 2..=5_u32, 1 => 6..=8_u32).boxed(),
    }
}

/// How many bytes to each stream: much, or so much that whoever keeps it shows.
fn flood(style: Style) -> BoxedStrategy<u64> {
    match style {
        Style::Plain => (2 << 20..=20_u64 << 20).boxed(),
        Style::Keen => one_of!(style, 3 => Just(2 << 20), 1 => Just(20 << 20)).boxed(),
    }
}

fn gate(style: Style) -> impl Strategy<Value = Gate> {
    match style {
        // Without events a case waits for a time.
        Style::Plain => Just(Gate::Nothing).boxed(),
        Style::Keen => one_of!(style,
            28 => Just(Gate::RootReady),
            8 => any::<Index>().prop_map(Gate::OtherReady),
            2 => Just(Gate::RootHello),
            1 => any::<Index>().prop_map(Gate::OtherHello),
            1 => Just(Gate::Nothing),
        )
        .boxed(),
    }
}

/// No delay half of the time, else log-uniform, and now and then long enough to see what is done meanwhile; of a plain style any up
/// to a bound.
fn delay(style: Style) -> BoxedStrategy<Span> {
    match style {
        Style::Plain => (0..=400_u64).prop_map(Span::from_millis).boxed(),
        Style::Keen => {
            prop_oneof![14 => Just(Span::ZERO), 14 => on_grid(style, &[1, 2, 5, 10, 20, 50]), 1 => on_grid(style, &[400])]
                .boxed()
        }
    }
}

fn limits(style: Style) -> impl Strategy<Value = Limits> {
    let timeout = match style {
        Style::Plain => on_grid(style, &[0, 150]),
        Style::Keen => one_of!(style,
            1 => Just(Span::ZERO),
            1 => on_grid(style, &[1, 5]),
            9 => on_grid(style, &[20, 30, 50, 75, 100, 150]),
        )
        .boxed(),
    };
    let grace = on_grid(style, &[5, 10, 20, 50, 100]);
    let drain = on_grid(style, &[50, 100, 200]);
    (timeout, grace, drain).prop_map(|(timeout, grace, drain)| Limits {
        timeout: Some(timeout),
        grace: Some(grace),
        drain: Some(drain),
    })
}

/// One of these times; of a plain style any from the first to the last.
fn on_grid(style: Style, millis: &[u64]) -> BoxedStrategy<Span> {
    match style {
        Style::Plain => (millis[0]..=millis[millis.len() - 1]).prop_map(Span::from_millis).boxed(),
        Style::Keen => select(millis.iter().copied().map(Span::from_millis).collect::<Vec<_>>()).boxed(),
    }
}
