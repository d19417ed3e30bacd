//! How the parts of a case are drawn.

use fake_cli::content::{Content, Output};
use fake_cli::script::{Message, Place, Shape as ShellShape, Shell, ShellName, Signal, Stdio, Unexecutable};
use fake_cli::span::Span;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use proptest::strategy::Union;

use super::parts::{
    Act, Drawn, Ending, Exit, Extra, Gate, How, Instead, Life, Manner, Node, Parts, Setting, Swarm, Taking,
};
use super::{LONG_GRACE, Shape, Style};
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
    let node = || drawn(style);
    let others = match style {
        Style::Plain => vec(node(), 0..=7).boxed(),
        Style::Keen => one_of!(style,
            300 => vec(node(), 1),
            190 => Just(Vec::new()),
            290 => vec(node(), 2),
            160 => vec(node(), 3),
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
    let again = match style {
        // Its runs are drawn one by one.
        Style::Plain => Just(0).boxed(),
        Style::Keen => {
            one_of!(style, 10 => Just(0), 1 => Just(1_u32), 2 => 2..=4_u32, 4 => 5..=7_u32).boxed()
        }
    };
    let afterwards = match style {
        Style::Plain => Just(None).boxed(),
        Style::Keen => one_of!(style, 3 => Just(None), 1 => hindrance(style).prop_map(Some)).boxed(),
    };
    let ends = (ending(style, shape), again, afterwards);
    let drawn = (swarm, drawn(style), others, ends, gate(style), delay(style), limits(style));
    (drawn, setting(style, shape)).prop_map(move |(drawn, setting)| {
        let (swarm, root, others, (ending, again, afterwards), gate, delay, limits) = drawn;
        Parts { style, swarm, root, others, ending, again, afterwards, gate, delay, limits, setting }
    })
}

/// Whether something is there: in so many of a hundred cases; of a plain style in every other one.
fn is_there(style: Style, percent: u32) -> BoxedStrategy<bool> {
    match style {
        Style::Plain => any::<bool>().boxed(),
        Style::Keen => prop::bool::weighted(f64::from(percent) / 100.0).boxed(),
    }
}

/// This where it is there.
fn sometimes<T: Clone + std::fmt::Debug + 'static>(
    style: Style,
    percent: u32,
    what: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<Option<T>> {
    (is_there(style, percent), what).prop_map(|(is_there, what)| is_there.then_some(what)).boxed()
}

fn setting(style: Style, shape: Shape) -> impl Strategy<Value = Setting> {
    // TERM is not among them: it is the harness's own word to a command.
    let signals = |percent| {
        let all = vec![Signal::Hup, Signal::Int, Signal::Quit, Signal::Usr1, Signal::Usr2, Signal::Pipe];
        sometimes(style, percent, subsequence(all, 1..=6)).prop_map(Option::unwrap_or_default)
    };
    // Where the kernel reaps every child much else of a wrapper cannot be seen.
    let ignores = (signals(40), is_there(style, 6))
        .prop_map(|(signals, child)| signals.into_iter().chain(child.then_some(Signal::Chld)).collect());
    let input = sometimes(style, 45, fed());
    let child = select(vec!["root.hello", "root.ready", "root.gone", "run.ended"]);
    let beside = (is_there(style, 40), sometimes(style, 45, child));
    let asks = (is_there(style, 50), is_there(style, 45), is_there(style, 20));
    let time = (0..100_u8, is_there(style, 18), is_there(style, 40));
    let drawn = (beside, signals(45), ignores, input, asks, state(style), time);
    drawn.prop_map(move |((bystanders, child), blocks, ignores, input, asks, state, (haste, never, late))| {
        let (asks_again, polls, ledger) = asks;
        let (umask, open_files, (terminal, takes_terminal), stranger) = state;
        Setting {
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
            late,
        }
    })
}

/// Its mask for files, the bound on open ones, a terminal; and a stranger with the root's pid.
fn state(style: Style) -> impl Strategy<Value = (Option<u32>, Option<u64>, (bool, bool), bool)> {
    let umask = sometimes(style, 25, select(vec![0, 0o022, 0o027, 0o077]));
    let open_files = sometimes(style, 15, select(vec![512, 4096]));
    let terminal = (is_there(style, 45), is_there(style, 10));
    (umask, open_files, terminal, is_there(style, 8))
}

fn more_than_a_pipe() -> impl Strategy<Value = u64> {
    65_537..=200_000_u64
}

/// How many bytes are written to a child: none, few, or more than a pipe holds.
fn fed() -> impl Strategy<Value = u64> {
    prop_oneof![1 => Just(0), 3 => 1..=4096_u64, 3 => more_than_a_pipe()]
}

fn drawn(style: Style) -> impl Strategy<Value = Drawn> {
    let instead = || {
        let drawn = (place(style), manner(style), life(style));
        drawn.prop_map(|(place, manner, life)| Instead { place, manner, life })
    };
    (node(style), [instead(), instead()]).prop_map(|(node, instead)| Drawn { node, instead })
}

fn node(style: Style) -> impl Strategy<Value = Node> {
    let writes = match style {
        Style::Plain => (0..=16 * 1024_u64).boxed(),
        Style::Keen => one_of!(style, 4 => Just(0), 4 => 1..=4096_u64, 2 => Just(16 * 1024)).boxed(),
    };
    let holds = one_of!(style,
        12 => Just(Vec::new()),
        5 => Just(vec![Stdio::Stdout]),
        1 => Just(vec![Stdio::Stderr]),
        3 => Just(vec![Stdio::Stdout, Stdio::Stderr]),
        1 => Just(vec![Stdio::Stdin]),
    );
    let content = one_of!(style,
        4 => Just(Content::Records),
        3 => Just(Content::Binary),
        1 => Just(Content::Text),
        1 => Just(Content::Line),
        1 => Just(Content::Messages),
        8 => Just(Content::Marked),
    );
    let extras = match style {
        Style::Plain => vec(extra(style), 0..=3).boxed(),
        Style::Keen => {
            one_of!(style, 5 => Just(Vec::new()), 6 => vec(extra(style), 1), 6 => vec(extra(style), 2..=4))
                .boxed()
        }
    };
    let late = if style == Style::Plain { 0.0 } else { 0.15 };
    let flags = (prop::bool::weighted(late), is_there(style, 40), prop::bool::weighted(0.5));
    let to = one_of!(style, 4 => Just(Output::Stdout), 1 => Just(Output::Stderr));
    let output = (holds, writes, content, to);
    (any::<Index>(), place(style), manner(style), life(style), extras, flags, output).prop_map(
        |(parent, place, manner, life, extras, (late, tells_all, adopts), (holds, writes, content, to))| {
            Node { parent, place, manner, late, tells_all, life, extras, holds, adopts, writes, content, to }
        },
    )
}

fn place(style: Style) -> impl Strategy<Value = Place> {
    one_of!(style,
        7 => Just(Place::SameGroup),
        4 => Just(Place::OwnSession),
        4 => Just(Place::OwnGroup),
        3 => Just(Place::Orphan),
        4 => Just(Place::Daemon),
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
        4 => (1..=3_u8).prop_map(Manner::Forks),
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
        16 => Just(Extra::ReportsEnvironment),
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
        14 => Just(Life::Hangs),
        6 => on_grid(style, &[1, 2, 5, 10]).prop_map(Life::Streams),
        2 => flood(style).prop_map(Life::Floods),
        2 => Just(Life::Pours(40 << 20)),
        6 => (on_grid(style, &[1, 2, 5]), 2..=12_u32).prop_map(|(every, most)| Life::ForksAtRate(every, most)),
        4 => (1..=3_u32).prop_map(Life::LeavesZombies),
        6 => Just(Life::StopsItself),
        5 => Just(Life::ReadsStdin),
        2 => Just(Life::Busy),
        2 => on_grid(style, &[1, 5, 20]).prop_map(Life::SleepsInChunks),
        2 => any::<bool>().prop_map(|half| Life::Talks { half }),
    )
}

fn ending(style: Style, shape: Shape) -> BoxedStrategy<Ending> {
    match style {
        Style::Plain => random(shape).boxed(),
        Style::Keen => chosen(shape).boxed(),
    }
}

/// Ops as they come, with the same right for all of them.
fn random(shape: Shape) -> impl Strategy<Value = Ending> {
    let style = Style::Plain;
    let host_signal = select(vec![Signal::Term, Signal::Int, Signal::Hup]).prop_map(Verb::SignalHost);
    let how = select(vec![HostEnd::Panic, HostEnd::Exit, HostEnd::Abort]).prop_map(Verb::EndHost);
    let mut verbs = vec![Just(Verb::Cancel).boxed(), Just(Verb::Wait).boxed()];
    // After one of these there is nothing more to do.
    let mut host_ends = vec![Just(Verb::KillHost).boxed(), host_signal.boxed()];
    if shape.handle {
        let plain = [Verb::Run, Verb::Drop, Verb::AskAgain, Verb::Poll, Verb::Together, Verb::StopHost];
        verbs.extend(plain.map(|verb| Just(verb).boxed()));
        host_ends.extend([how.boxed(), Just(Verb::HangUp).boxed()]);
    }
    if shape.writes {
        verbs.extend([Just(Verb::CloseStdin).boxed(), fed().prop_map(Verb::Write).boxed()]);
    }
    verbs.push(Union::new(host_ends).boxed());
    let hindered_by = sometimes(style, 50, hindrance(style));
    let act = (Union::new(verbs), 0..=3_u8, hindered_by, callers(shape), delay(style)).prop_map(
        |(verb, run, hindered_by, callers, delay)| Act {
            hindered_by: hindered_by.filter(|_| verb == Verb::Run),
            callers: if verb == Verb::Together { callers } else { Vec::new() },
            verb,
            run,
            delay,
        },
    );
    (any::<bool>(), exit(style), any::<bool>(), vec(act, 1..=6)).prop_map(
        move |(exits, exit, timeout, acts)| Ending::Random {
            exit: exits.then_some(exit),
            timeout: timeout && shape.timeout,
            acts,
        },
    )
}

fn chosen(shape: Shape) -> impl Strategy<Value = Ending> {
    let style = Style::Keen;
    let host_signal = select(vec![Signal::Term, Signal::Int, Signal::Hup]);
    let exit = || exit(style);
    let eighths = || 0..8_u8;
    let mut endings = vec![
        (22, Just(Ending::Cancel).boxed()),
        (16, eighths().prop_map(Ending::CancelTwice).boxed()),
        (6, (3..=6_u8).prop_map(Ending::ManyCancels).boxed()),
        (20, exit().prop_map(Ending::ByItself).boxed()),
        (5, exit().prop_map(Ending::CancelAtExit).boxed()),
        (3, exit().prop_map(Ending::CancelWhenExiting).boxed()),
        (8, Just(Ending::AtOnce(Verb::Cancel)).boxed()),
        (16, Just(Ending::KillHost).boxed()),
        (6, host_signal.prop_map(Ending::SignalHost).boxed()),
    ];
    if shape.timeout {
        endings.push((60, Just(Ending::Timeout).boxed()));
    }
    if shape.handle {
        let how = select(vec![HostEnd::Panic, HostEnd::Panic, HostEnd::Exit, HostEnd::Abort]);
        let but_writes = |verbs: &[Verb]| {
            select(verbs.iter().copied().filter(|verb| shape.writes || !verb.writes()).collect::<Vec<_>>())
        };
        let then =
            but_writes(&[Verb::Drop, Verb::Drop, Verb::Drop, Verb::KillHost, Verb::Poll, Verb::CloseStdin]);
        let late = but_writes(&[
            Verb::Cancel,
            Verb::Cancel,
            Verb::Drop,
            Verb::Poll,
            Verb::CloseStdin,
            Verb::Write(10),
        ]);
        let pause = on_grid(style, &[0, 5, 20, 100]);
        let ends_in_start = select(vec![Verb::Cancel, Verb::Drop, Verb::KillHost]);
        let ends_in_wait = ends_in_start.clone();
        let in_start = (start_call(), ends_in_start);
        let in_drain = select(vec![Verb::Cancel, Verb::Drop, Verb::Poll]);
        endings.extend([
            (34, Just(Ending::Drop).boxed()),
            (14, (then, eighths()).prop_map(|(verb, eighths)| Ending::InGrace(verb, eighths)).boxed()),
            (10, (exit(), late).prop_map(|(exit, verb)| Ending::AfterEnd(exit, verb)).boxed()),
            (16, how.prop_map(Ending::EndHost).boxed()),
            (30, (2..=4_u32, any::<bool>()).prop_map(|(count, last)| Ending::Several(count, last)).boxed()),
            (24, callers(shape).prop_map(Ending::Together).boxed()),
            (18, exchange(style).prop_map(|(exit, bytes)| Ending::Exchange(exit, bytes)).boxed()),
            (4, pause.prop_map(Ending::StopHost).boxed()),
            (2, Just(Ending::StopAndKillHost).boxed()),
            (3, Just(Ending::HangUp).boxed()),
            (8, in_start.prop_map(|((call, nth), verb)| Ending::InStart(call, nth, verb)).boxed()),
            (3, (1..=2_u32).prop_map(Ending::CancelInKill).boxed()),
            (3, (exit(), ends_in_wait).prop_map(|(exit, verb)| Ending::InWait(exit, verb)).boxed()),
            (3, select(vec![Verb::Drop, Verb::KillHost]).prop_map(Ending::AtOnce).boxed()),
            (10, (exit(), in_drain).prop_map(|(exit, verb)| Ending::InDrain(exit, verb)).boxed()),
        ]);
    }
    if shape.writes {
        endings.push((5, (exit(), fed()).prop_map(|(exit, bytes)| Ending::Fed(exit, bytes)).boxed()));
        endings.push((4, fed().prop_map(Ending::FedAndCancelled).boxed()));
    }
    if shape.handle && shape.timeout {
        endings.push((6, exit().prop_map(Ending::ByItselfAtTimeout).boxed()));
        endings.push((4, hindrance(style).prop_map(Ending::HinderedStart).boxed()));
    }
    Union::new_weighted(endings)
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
fn callers(shape: Shape) -> impl Strategy<Value = Vec<Vec<Call>>> {
    let writes = u32::from(shape.writes);
    let call = prop_oneof![
        4 => Just(Call::Cancel),
        4 => Just(Call::Poll),
        4 => Just(Call::Wait),
        writes => Just(Call::Write),
        writes => Just(Call::CloseStdin),
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
        6 => select(signals).prop_map(How::By),
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

/// How many bytes to each stream: more than any pipe holds.
fn flood(style: Style) -> BoxedStrategy<u64> {
    match style {
        Style::Plain => (2 << 20..=20_u64 << 20).boxed(),
        Style::Keen => Just(2 << 20).boxed(),
    }
}

fn gate(style: Style) -> impl Strategy<Value = Gate> {
    match style {
        // Without events a case waits for a time.
        Style::Plain => Just(Gate::Nothing).boxed(),
        Style::Keen => one_of!(style,
            30 => Just(Gate::RootReady),
            8 => any::<Index>().prop_map(Gate::OtherReady),
            4 => Just(Gate::RootHello),
            2 => any::<Index>().prop_map(Gate::OtherHello),
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
            prop_oneof![14 => Just(Span::ZERO), 14 => on_grid(style, &[1, 2, 5, 10, 20, 50]), 2 => on_grid(style, &[400])]
                .boxed()
        }
    }
}

fn limits(style: Style) -> impl Strategy<Value = Limits> {
    let timeout = match style {
        Style::Plain => delay(style),
        Style::Keen => one_of!(style,
            4 => Just(Span::ZERO),
            1 => on_grid(style, &[1, 5]),
            9 => on_grid(style, &[20, 30, 50, 75, 100, 150]),
        )
        .boxed(),
    };
    let grace = match style {
        Style::Plain => (5..=LONG_GRACE.get().as_millis() as u64).prop_map(Span::from_millis).boxed(),
        Style::Keen => on_grid(style, &[5, 10, 20, 50, 100]),
    };
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
