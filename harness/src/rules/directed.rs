//! Words for writing directed scenarios: scripts, ops and limits that are deterministic by gates, not by sleeps.

use fake_cli::content::{Content, Output};
use fake_cli::script::{Event, Name, Place, Reaction, Signal, SlowStream, Start, Stdio, Step, Then, Write};
use fake_cli::span::Span;

use crate::scenario::{self, Call, HostState, Limits, Op, Scenario, Verb};
use crate::syscalls::{CallKind, Hold};

/// The grace of directed scenarios that must sit it out.
pub(super) const GRACE: Span = Span::from_millis(80);
/// The timeout of directed scenarios.
pub(super) const TIMEOUT: Span = Span::from_millis(120);
/// More than a wrapper needs from its fork to where it listens for a stop.
const START: Span = Span::from_millis(20);
/// The drain bound of directed scenarios.
pub(super) const DRAIN: Span = Span::from_millis(100);

/// A scenario with the limits that keep an audit short, and no timeout.
pub(super) fn scenario(name: &str, why: &str, rules: &[&str], script: Vec<Step>, ops: Vec<Op>) -> Scenario {
    Scenario {
        schema_url: None,
        schema: scenario::SCHEMA,
        name: name.to_owned(),
        why: why.to_owned(),
        rules: rules.iter().map(|rule| (*rule).to_owned()).collect(),
        script,
        ops,
        limits: Limits { timeout: None, grace: Some(GRACE), drain: Some(DRAIN) },
        bystanders: false,
        bystander_child: None,
        host: HostState::default(),
        holds: Vec::new(),
        ledger: false,
        stranger_with_pid_of: None,
        input: None,
        expect: None,
        found: None,
    }
}

impl Scenario {
    /// With a timeout.
    pub(super) fn with_timeout(mut self, timeout: Span) -> Self {
        self.limits.timeout = Some(timeout);
        self
    }

    /// With another grace.
    pub(super) fn with_grace(mut self, grace: Span) -> Self {
        self.limits.grace = Some(grace);
        self
    }

    /// With another drain bound.
    pub(super) fn with_drain(mut self, drain: Span) -> Self {
        self.limits.drain = Some(drain);
        self
    }

    /// With a host in this state.
    pub(super) fn with_host(mut self, host: HostState) -> Self {
        self.host = host;
        self
    }

    /// With so much for the root to read.
    pub(super) fn with_input(mut self, bytes: u64) -> Self {
        self.input = Some(bytes);
        self
    }

    /// With a ledger of the host's signals, and bystanders, one of them in its own group.
    pub(super) fn with_ledger(mut self) -> Self {
        (self.bystanders, self.ledger) = (true, true);
        self
    }

    /// With a stranger who gets the pid of this node.
    pub(super) fn with_stranger(mut self, node: &str) -> Self {
        self.stranger_with_pid_of = Some(node.to_owned());
        self
    }

    /// With this call of the wrapper's held until that has happened.
    pub(super) fn holding(mut self, call: CallKind, nth: u32, until: &str) -> Self {
        self.holds.push(Hold { call, nth, until: event(until) });
        self
    }

    /// With bystanders.
    pub(super) fn with_bystanders(mut self) -> Self {
        self.bystanders = true;
        self
    }
}

/// Start a run.
pub(super) fn run() -> Op {
    Op::new(Verb::Run)
}

/// Wait for the end of the newest run.
pub(super) fn wait() -> Op {
    Op::new(Verb::Wait)
}

/// Do this once that has happened.
pub(super) fn after(event: &str, verb: Verb) -> Op {
    Op { after: Some(self::event(event)), ..Op::new(verb) }
}

/// Run, and do this once the root has said that it is ready.
pub(super) fn once_ready(verb: Verb) -> Vec<Op> {
    vec![run(), once_started(verb)]
}

/// Do this once the root has said that it is ready and the wrapper has its start behind it, which nothing announces: a stop during
/// the start is another rule's matter (K7).
pub(super) fn once_started(verb: Verb) -> Op {
    Op { delay: Some(START), ..after("root.ready", verb) }
}

/// Run to the end.
pub(super) fn to_the_end() -> Vec<Op> {
    vec![run(), wait()]
}

fn event(text: &str) -> Event {
    text.try_into().expect("an event of this program's own is one")
}

fn name(text: &str) -> Name {
    text.try_into().expect("a name of this program's own is one")
}

/// Say that this point is reached.
pub(super) fn emit(point: &str) -> Step {
    Step::Emit(name(point))
}

/// Say ready, then hang.
pub(super) fn ready_and_hang() -> [Step; 2] {
    [emit("ready"), Step::Hang]
}

/// Wait at a gate.
pub(super) fn await_event(text: &str) -> Step {
    Step::Await(event(text))
}

/// React to a signal.
pub(super) fn on(signal: Signal, then: Then) -> Step {
    Step::On(Reaction { signal, then })
}

/// React to TERM.
pub(super) fn on_term(then: Then) -> Step {
    on(Signal::Term, then)
}

/// Start a node that holds none of the streams, so that no closed pipe ends it by luck.
pub(super) fn start(node: &str, place: Place, script: Vec<Step>) -> Step {
    Step::Start(Start { node: name(node), place, holds: Vec::new(), script })
}

/// Start a node that hangs and holds none of the streams.
pub(super) fn start_hanging(node: &str, place: Place) -> Step {
    start(node, place, vec![Step::Hang])
}

/// Start a node that holds the root's output.
pub(super) fn start_holding(node: &str, place: Place, script: Vec<Step>) -> Step {
    Step::Start(Start { node: name(node), place, holds: vec![Stdio::Stdout, Stdio::Stderr], script })
}

/// Write numbered records.
pub(super) fn write(to: Output, bytes: u64) -> Step {
    Step::Write(Write { to, bytes, content: Content::Records })
}

/// Write a chunk each millisecond: output that goes on, and not so much of it that copying or storing it takes time.
pub(super) fn slow_stream(times: u32) -> Step {
    let every = Span::from_millis(1);
    Step::SlowStream(SlowStream { to: Output::Stdout, chunk: 4096, every, times, when_read: false })
}

/// Write chunks, each once the one before has been read.
pub(super) fn write_when_read(chunk: u64, times: u32) -> Step {
    let every = Span::ZERO;
    Step::SlowStream(SlowStream { to: Output::Stdout, chunk, every, times, when_read: true })
}

/// Write bytes of this kind.
pub(super) fn write_as(to: Output, bytes: u64, content: Content) -> Step {
    Step::Write(Write { to, bytes, content })
}

/// Write every byte value in turn.
pub(super) fn write_binary(to: Output, bytes: u64) -> Step {
    write_as(to, bytes, Content::Binary)
}

/// This op, about the run of this number.
pub(super) fn of(run: u32, op: Op) -> Op {
    Op { run: Some(run), ..op }
}

/// Once that has happened, several callers begin with these calls.
pub(super) fn together(event: &str, callers: &[&[Call]]) -> Op {
    Op { callers: callers.iter().map(|calls| calls.to_vec()).collect(), ..after(event, Verb::Together) }
}
