//! Generated scenarios: script trees × ops × gates × limits, as proptest strategies.
//!
//! A case is drawn as parts that are chosen apart from each other and put together by pure functions, so that a
//! value tree can make each part simpler by itself. Three things keep cases meaningful: a node says `ready` only
//! when everyone below it has, ops wait for events instead of times, and a node that is to be stopped does not end by
//! itself. Each case draws which behaviours it may use at all (a swarm), because features that hide each other would
//! otherwise never be seen alone.

use fake_cli::content::{Content, Output};
use fake_cli::script::{
    Event, ForkAtRate, Name, Place, ROOT, Reaction, Signal, SlowStream, Start, Stdio, Step, Then, Write,
};
use fake_cli::span::Span;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use proptest::strategy::{Union, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::promises::Keeps;
use crate::scenario::{Hindrance, HostEnd, HostState, Limits, Op, SCHEMA, Scenario, Verb};
use crate::subject::{Drive, SubjectSpec};

/// Most levels of nodes in a generated script, the root included.
pub const MOST_LEVELS: usize = 3;

/// What a subject can do, so that no case is wasted on what it cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// It has a handle: it can be dropped, outlives the run, and there can be another run after it.
    pub handle: bool,
    /// It stops a run after a time.
    pub timeout: bool,
    /// It asks with TERM before it kills, so that ops can wait for that.
    pub asks: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self { handle: true, timeout: true, asks: true }
    }
}

impl Shape {
    /// What is known of a subject before it has run.
    pub fn of(subject: &SubjectSpec) -> Self {
        match &subject.drive {
            Drive::Template { promises, .. } => Self {
                handle: false,
                timeout: promises.timeout != Keeps::Not,
                asks: promises.grace != Keeps::Not,
            },
            _ => Self::default(),
        }
    }
}

/// Scenarios from a seed: the same seed, shape and index always give the same one.
#[derive(Clone, Debug)]
pub struct Generator {
    seed: u64,
    strategy: BoxedStrategy<Scenario>,
}

impl Generator {
    /// A generator for subjects that can do everything.
    pub fn new(seed: u64) -> Self {
        Self::shaped(seed, Shape::default())
    }

    /// A generator for subjects of this shape.
    pub fn shaped(seed: u64, shape: Shape) -> Self {
        Self { seed, strategy: scenarios(shape).boxed() }
    }

    /// The scenario of this index, named `generated-SEED-INDEX`.
    pub fn scenario(&self, index: u64) -> Scenario {
        let name = format!("generated-{}-{index}", self.seed);
        Scenario { name, ..self.tree(index).current() }
    }

    /// The scenario of this index with its simpler variants, unnamed.
    pub fn tree(&self, index: u64) -> impl ValueTree<Value = Scenario> + use<> {
        let mut seed = *b"................headcount case 1";
        seed[..8].copy_from_slice(&self.seed.to_le_bytes());
        seed[8..16].copy_from_slice(&index.to_le_bytes());
        let config = Config { failure_persistence: None, ..Config::default() };
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        let mut runner = TestRunner::new_with_rng(config, rng);
        self.strategy.new_tree(&mut runner).expect("the strategies filter nothing out")
    }
}

/// Scenarios for subjects of this shape.
pub fn scenarios(shape: Shape) -> impl Strategy<Value = Scenario> {
    parts(shape).prop_map(move |parts| assemble(&parts, shape))
}

/// One case, as it was drawn.
#[derive(Clone, Debug)]
struct Parts {
    swarm: Swarm,
    root: Node,
    others: Vec<Node>,
    ending: Ending,
    gate: Gate,
    delay: Span,
    limits: Limits,
    rare: Rare,
}

/// What few cases have.
#[derive(Clone, Debug)]
struct Rare {
    bystanders: bool,
    /// After which event a child of the host's own exits.
    bystander_child: Option<&'static str>,
    blocks: Vec<Signal>,
    ignores: Vec<Signal>,
    input: Option<u64>,
    asks_again: bool,
}

/// One node, as it was drawn. What the case's swarm does not allow becomes the plain variant.
#[derive(Clone, Debug)]
struct Node {
    parent: Index,
    place: Place,
    manner: Manner,
    life: Life,
    holds_stdout: bool,
    /// It is a subreaper.
    adopts: bool,
    writes: u64,
}

/// How a node takes TERM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Plain,
    Logs,
    Exits(u8),
    Slow(Span),
    Ignores,
    Blocks,
    Forks(u8),
}

/// What a node does after it was ready, until it is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Hangs,
    Streams(Span),
    Floods,
    ForksAtRate(Span, u32),
    LeavesZombies(u32),
    StopsItself,
    ReadsStdin,
    Busy,
}

/// How the case ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Cancel,
    /// Again at so many eighths of the grace.
    CancelTwice(u8),
    ManyCancels(u8),
    Timeout,
    ByItself(Exit),
    Drop,
    /// Dropped at so many eighths of the grace.
    CancelThenDrop(u8),
    CancelAfterEnd(Exit),
    CancelAtExit(Exit),
    KillHost,
    SignalHost(Signal),
    EndHost(HostEnd),
    CancelRepeatedly,
    /// By itself, when its timeout is nearly over.
    ByItselfAtTimeout(Exit),
    /// By itself, and then three more starts that are hindered.
    HinderedStarts(Exit, Hindrance),
}

/// How a root ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Exit {
    how: How,
    after: Span,
    leaves_others: bool,
    burst: u64,
    /// It reads its input first, where there is some.
    reads: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Code(u8),
    By(Signal),
}

/// What the op that ends the case waits for.
#[derive(Clone, Copy, Debug)]
enum Gate {
    RootReady,
    OtherReady(Index),
    RootHello,
    Nothing,
}

/// Which behaviours a case may use.
#[derive(Clone, Copy, Debug)]
struct Swarm(u32);

#[derive(Clone, Copy, Debug)]
enum Behaviour {
    OwnGroup,
    OwnSession,
    Orphan,
    Daemon,
    Vfork,
    Shell,
    Logs,
    Exits,
    Slow,
    Ignores,
    Blocks,
    Forks,
    Output,
    HoldsStdout,
    ForksAtRate,
    Zombies,
    Stops,
    Stdin,
    Busy,
    Adopts,
}

impl Swarm {
    fn allows(self, behaviour: Behaviour) -> bool {
        self.0 & (1 << behaviour as u32) != 0
    }
}

fn parts(shape: Shape) -> impl Strategy<Value = Parts> {
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

fn rare(shape: Shape) -> impl Strategy<Value = Rare> {
    // TERM is not among them: it is the harness's own word to a command.
    let signals = |more: &[Signal]| {
        let all = [Signal::Hup, Signal::Int, Signal::Quit, Signal::Usr1, Signal::Usr2, Signal::Pipe];
        let all = [&all, more].concat();
        prop_oneof![19 => Just(Vec::new()), 1 => subsequence(all, 1..=6)]
    };
    let bytes = prop_oneof![2 => Just(0), 3 => 1..=4096_u64, 2 => 65_537..=200_000_u64];
    let input = prop_oneof![9 => Just(None), 1 => bytes.prop_map(Some)];
    let child = select(vec!["root.hello", "root.ready", "root.gone", "run.ended"]);
    let child = prop_oneof![9 => Just(None), 1 => child.prop_map(Some)];
    let beside = (prop::bool::weighted(0.1), child);
    let drawn = (beside, signals(&[]), signals(&[Signal::Chld]), input, prop::bool::weighted(0.1));
    drawn.prop_map(move |((bystanders, child), blocks, ignores, input, asks_again)| Rare {
        bystanders,
        bystander_child: child.filter(|_| shape.handle),
        blocks,
        ignores,
        input: input.filter(|_| shape.handle),
        asks_again: asks_again && shape.handle,
    })
}

fn node() -> impl Strategy<Value = Node> {
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

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        5 => Just(Place::SameGroup),
        2 => Just(Place::OwnSession),
        2 => Just(Place::OwnGroup),
        1 => Just(Place::Orphan),
        1 => Just(Place::Daemon),
    ]
}

fn manner() -> impl Strategy<Value = Manner> {
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

fn life() -> impl Strategy<Value = Life> {
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

fn ending(shape: Shape) -> impl Strategy<Value = Ending> {
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

fn hindrance() -> impl Strategy<Value = Hindrance> {
    prop_oneof![
        1 => Just(Hindrance::MissingProgram),
        1 => Just(Hindrance::NotExecutable),
        1 => Just(Hindrance::BadInterpreter),
        3 => (0..=12_u32).prop_map(Hindrance::DescriptorsLeft),
    ]
}

fn exit() -> impl Strategy<Value = Exit> {
    let signals = vec![Signal::Term, Signal::Kill, Signal::Int, Signal::Hup, Signal::Usr1, Signal::Pipe];
    let how = prop_oneof![3 => Just(How::Code(0)), 4 => any::<u8>().prop_map(How::Code), 2 => select(signals).prop_map(How::By)];
    let burst = prop_oneof![5 => Just(0), 3 => 1..=8192_u64, 2 => 65_537..=200_000_u64];
    (how, delay(), any::<bool>(), burst, any::<bool>()).prop_map(
        |(how, after, leaves_others, burst, reads)| Exit { how, after, leaves_others, burst, reads },
    )
}

fn gate() -> impl Strategy<Value = Gate> {
    prop_oneof![
        14 => Just(Gate::RootReady),
        4 => any::<Index>().prop_map(Gate::OtherReady),
        1 => Just(Gate::RootHello),
        1 => Just(Gate::Nothing),
    ]
}

/// No delay half of the time, else log-uniform.
fn delay() -> impl Strategy<Value = Span> {
    prop_oneof![1 => Just(Span::ZERO), 1 => on_grid(&[1, 2, 5, 10, 20, 50])]
}

fn limits() -> impl Strategy<Value = Limits> {
    let timeout = on_grid(&[20, 30, 50, 75, 100, 150]);
    let grace = on_grid(&[5, 10, 20, 50, 100]);
    let drain = on_grid(&[50, 100, 200]);
    (timeout, grace, drain).prop_map(|(timeout, grace, drain)| Limits {
        timeout: Some(timeout),
        grace: Some(grace),
        drain: Some(drain),
    })
}

fn on_grid(millis: &[u64]) -> impl Strategy<Value = Span> + use<> {
    select(millis.iter().copied().map(Span::from_millis).collect::<Vec<_>>())
}

fn assemble(parts: &Parts, shape: Shape) -> Scenario {
    let tree = Tree::of(parts);
    let limits = Limits {
        // A timeout stands in the way of every other ending.
        timeout: parts.limits.timeout.filter(|_| parts.ending.needs_timeout()),
        ..parts.limits
    };
    Scenario {
        schema_url: None,
        schema: SCHEMA,
        name: "generated".to_owned(),
        why: format!("Generated: {}, {}.", tree.describe(), parts.ending.describe()),
        rules: Vec::new(),
        script: tree.script(ROOT, 0, parts),
        ops: ops(parts, &tree, shape),
        limits,
        bystander_child: parts.rare.bystander_child.map(event),
        bystanders: parts.rare.bystanders,
        host: parts.host(),
        holds: Vec::new(),
        ledger: false,
        stranger_with_pid_of: None,
        input: parts.rare.input,
        expect: None,
        found: None,
    }
}

impl Parts {
    /// A signal that is to reach the host is neither blocked nor ignored by it.
    fn host(&self) -> HostState {
        let reaches = |signals: &[Signal]| {
            let others = signals.iter().filter(|signal| self.ending != Ending::SignalHost(**signal));
            others.copied().collect()
        };
        HostState { blocks: reaches(&self.rare.blocks), ignores: reaches(&self.rare.ignores) }
    }
}

/// The nodes with everything that the swarm forbids made plain; the root first, each with its parent.
struct Tree {
    nodes: Vec<Node>,
    parents: Vec<usize>,
}

impl Tree {
    fn of(parts: &Parts) -> Self {
        let mut nodes = vec![parts.root.plain_where_forbidden(parts.swarm)];
        let mut parents = vec![0];
        let mut levels = vec![1];
        for drawn in &parts.others {
            let hosts = (0..nodes.len()).filter(|&node| levels[node] < MOST_LEVELS).collect::<Vec<_>>();
            let parent = hosts[drawn.parent.index(hosts.len())];
            nodes.push(drawn.plain_where_forbidden(parts.swarm));
            levels.push(levels[parent] + 1);
            parents.push(parent);
        }
        Self { nodes, parents }
    }

    fn children(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        (1..self.nodes.len()).filter(move |&child| self.parents[child] == node)
    }

    fn describe(&self) -> String {
        match self.nodes.len() {
            1 => "one node".to_owned(),
            count => format!("a tree of {count} nodes"),
        }
    }

    /// Reactions first, so that they are in force before anyone can wait for `ready`; then the nodes below, then the rest.
    fn script(&self, name: &str, index: usize, parts: &Parts) -> Vec<Step> {
        let node = &self.nodes[index];
        let mut steps = Vec::new();
        steps.extend(node.manner.step());
        steps.extend(node.adopts.then_some(Step::Subreaper));
        for child in self.children(index) {
            let below = &self.nodes[child];
            let child_name = name_of(child);
            steps.push(Step::Start(Start {
                node: child_name.clone(),
                place: below.place,
                holds: if below.holds_stdout { vec![Stdio::Stdout] } else { Vec::new() },
                script: self.script(child_name.as_str(), child, parts),
            }));
        }
        for child in self.children(index) {
            steps.push(Step::Await(event(&format!("{}.ready", name_of(child)))));
        }
        if node.writes > 0 {
            steps.push(write(node.writes));
        }
        steps.push(Step::Emit(Name::try_from("ready").expect("a legal name")));
        match parts.ending.exit() {
            Some(exit) if index == 0 => steps.extend(exit.steps(parts)),
            Some(exit) if !exit.leaves_others => {}
            _ => steps.extend(node.life.steps(name)),
        }
        steps
    }
}

impl Node {
    fn plain_where_forbidden(&self, swarm: Swarm) -> Self {
        let mut node = self.clone();
        let place = match self.place {
            Place::SameGroup => None,
            Place::OwnGroup => Some(Behaviour::OwnGroup),
            Place::OwnSession => Some(Behaviour::OwnSession),
            Place::Orphan => Some(Behaviour::Orphan),
            Place::Daemon => Some(Behaviour::Daemon),
            Place::Vfork => Some(Behaviour::Vfork),
            Place::Shell(_) => Some(Behaviour::Shell),
        };
        let manner = match self.manner {
            Manner::Plain => None,
            Manner::Logs => Some(Behaviour::Logs),
            Manner::Exits(_) => Some(Behaviour::Exits),
            Manner::Slow(_) => Some(Behaviour::Slow),
            Manner::Ignores => Some(Behaviour::Ignores),
            Manner::Blocks => Some(Behaviour::Blocks),
            Manner::Forks(_) => Some(Behaviour::Forks),
        };
        let life = match self.life {
            Life::Hangs => None,
            Life::Streams(_) | Life::Floods => Some(Behaviour::Output),
            Life::ForksAtRate(..) => Some(Behaviour::ForksAtRate),
            Life::LeavesZombies(_) => Some(Behaviour::Zombies),
            Life::StopsItself => Some(Behaviour::Stops),
            Life::ReadsStdin => Some(Behaviour::Stdin),
            Life::Busy => Some(Behaviour::Busy),
        };
        let forbidden = |behaviour: Option<Behaviour>| behaviour.is_some_and(|it| !swarm.allows(it));
        if forbidden(place) {
            node.place = Place::SameGroup;
        }
        if forbidden(manner) {
            node.manner = Manner::Plain;
        }
        if forbidden(life) {
            node.life = Life::Hangs;
        }
        node.holds_stdout &= swarm.allows(Behaviour::HoldsStdout);
        node.adopts &= swarm.allows(Behaviour::Adopts);
        if !swarm.allows(Behaviour::Output) {
            node.writes = 0;
        }
        node
    }
}

impl Manner {
    fn step(self) -> Option<Step> {
        let then = match self {
            Self::Plain => return None,
            Self::Logs => Then::Log,
            Self::Exits(code) => Then::Exit(code),
            Self::Slow(takes) => Then::ExitSlowly { takes, code: 0 },
            Self::Ignores => Then::Ignore,
            Self::Blocks => Then::Block,
            Self::Forks(count) => Then::Fork(count),
        };
        Some(Step::On(Reaction { signal: Signal::Term, then }))
    }

    /// Whether the node says that TERM has come.
    fn reports(self) -> bool {
        !matches!(self, Self::Plain | Self::Ignores | Self::Blocks)
    }
}

impl Life {
    /// Ends in a hang: a node that ended by itself would leave nothing to stop.
    fn steps(self, name: &str) -> Vec<Step> {
        let first = match self {
            Self::Hangs => None,
            Self::Busy => return vec![Step::BusyHang],
            Self::Streams(every) => {
                Some(Step::SlowStream(SlowStream { to: Output::Stdout, chunk: 64, every, times: 200 }))
            }
            Self::Floods => Some(Step::Flood { most: 2 * 1024 * 1024 }),
            Self::ForksAtRate(every, most) => Some(Step::ForkAtRate(ForkAtRate {
                node: Name::try_from(format!("{name}-fork")).expect("a legal name"),
                every,
                most,
            })),
            Self::LeavesZombies(count) => Some(Step::Zombies(count)),
            Self::StopsItself => Some(Step::Stop),
            Self::ReadsStdin => Some(Step::ReadStdin),
        };
        first.into_iter().chain([Step::Hang]).collect()
    }
}

impl Exit {
    fn steps(self, parts: &Parts) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.burst > 0 {
            steps.push(write(self.burst));
        }
        // Without input a wrapper may let its child read what never ends.
        if self.reads && parts.rare.input.is_some() {
            steps.push(Step::ReadStdin);
        }
        let after = match (parts.ending, parts.limits.timeout) {
            // What is drawn is then the time that is left.
            (Ending::ByItselfAtTimeout(_), Some(timeout)) => {
                Span::from(timeout.get().saturating_sub(self.after.get()))
            }
            _ => self.after,
        };
        if after > Span::ZERO {
            steps.push(Step::Sleep(after));
        }
        steps.push(match self.how {
            How::Code(code) => Step::Exit(code),
            How::By(signal) => Step::Die(signal),
        });
        steps
    }
}

impl Ending {
    fn exit(self) -> Option<Exit> {
        match self {
            Self::ByItself(exit)
            | Self::CancelAfterEnd(exit)
            | Self::CancelAtExit(exit)
            | Self::ByItselfAtTimeout(exit)
            | Self::HinderedStarts(exit, _) => Some(exit),
            _ => None,
        }
    }

    fn needs_timeout(self) -> bool {
        matches!(self, Self::Timeout | Self::ByItselfAtTimeout(_))
    }

    fn describe(self) -> String {
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

fn ops(parts: &Parts, tree: &Tree, shape: Shape) -> Vec<Op> {
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
fn inside_grace(verb: Verb, eighths: u8, parts: &Parts, tree: &Tree, shape: Shape) -> Op {
    if shape.asks && eighths % 2 == 1 && tree.nodes[0].manner.reports() {
        return Op { after: Some(event("root.TERM")), ..Op::new(verb) };
    }
    let grace = parts.limits.grace.map_or_else(Default::default, Span::get);
    Op { delay: nonzero(Span::from(grace * u32::from(eighths) / 8)), ..Op::new(verb) }
}

fn gate_event(gate: Gate, tree: &Tree) -> Option<Event> {
    match gate {
        Gate::OtherReady(index) if tree.nodes.len() > 1 => {
            Some(event(&format!("{}.ready", name_of(1 + index.index(tree.nodes.len() - 1)))))
        }
        Gate::RootReady | Gate::OtherReady(_) => Some(event("root.ready")),
        Gate::RootHello => Some(event("root.hello")),
        Gate::Nothing => None,
    }
}

fn nonzero(span: Span) -> Option<Span> {
    (span > Span::ZERO).then_some(span)
}

fn write(bytes: u64) -> Step {
    Step::Write(Write { to: Output::Stdout, bytes, content: Content::Records })
}

fn name_of(node: usize) -> Name {
    Name::try_from(format!("n{node}")).expect("a legal name")
}

fn event(text: &str) -> Event {
    Event::try_from(text).expect("a legal event")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    fn each(seed: u64, count: u64) -> impl Iterator<Item = Scenario> {
        let generator = Generator::new(seed);
        (0..count).map(move |index| generator.scenario(index))
    }

    #[test]
    fn each_keeps_the_limits_and_reads_back_as_it_was() {
        for scenario in each(1, 2000) {
            scenario.check().unwrap_or_else(|refused| panic!("{refused}\n{}", scenario.to_json()));
            assert_eq!(Scenario::from_json(&scenario.to_json()).unwrap(), scenario);
        }
    }

    #[test]
    fn the_same_seed_and_index_give_the_same_scenario_and_others_differ() {
        let one = each(7, 50).collect::<Vec<_>>();
        assert_eq!(one, each(7, 50).collect::<Vec<_>>());
        assert_eq!(one[3], Generator::new(7).scenario(3));
        assert_eq!(one[3].name, "generated-7-3");
        let scripts = one.iter().map(|scenario| format!("{:?}", scenario.script)).collect::<BTreeSet<_>>();
        assert!(scripts.len() > 25, "{} different scripts in 50", scripts.len());
    }

    #[test]
    fn most_wait_for_the_tree_before_they_stop_it() {
        let stops = |scenario: &Scenario| {
            let stop = scenario.ops.iter().find(|op| op.verb.stops())?;
            Some(stop.after.as_ref().is_some_and(|event| event.as_str().ends_with(".ready")))
        };
        let gated = each(2, 1000).filter_map(|scenario| stops(&scenario)).collect::<Vec<_>>();
        let sure = gated.iter().filter(|sure| **sure).count();
        assert!(sure * 10 >= gated.len() * 8, "{sure} of {}", gated.len());
    }

    #[test]
    fn every_verb_place_and_reaction_comes_up() {
        let text = each(3, 1500).map(|scenario| scenario.to_json()).collect::<String>();
        for word in [
            "\"cancel\"",
            "\"drop\"",
            "\"kill-host\"",
            "\"signal-host\"",
            "own-session",
            "own-group",
            "daemon",
            "orphan",
            "\"ignore\"",
            "\"block\"",
            "exit-slowly",
            "\"fork\"",
            "fork-at-rate",
            "zombies",
            "slow-stream",
            "flood",
            "\"stop\"",
            "read-stdin",
            "root.TERM",
            "bystanders",
            "\"die\"",
            "\"end-host\"",
            "subreaper",
            "bystander-child",
            "\"blocks\"",
            "\"ignores\"",
            "\"input\"",
            "\"ask-again\"",
            "missing-program",
            "descriptors-left",
            "timeout is nearly over",
        ] {
            assert!(text.contains(word), "{word}");
        }
    }

    #[test]
    fn a_template_is_asked_for_nothing_that_it_cannot_do() {
        let shape = Shape { handle: false, timeout: false, asks: false };
        let generator = Generator::shaped(4, shape);
        for scenario in (0..1000).map(|index| generator.scenario(index)) {
            let count = |verb| scenario.ops.iter().filter(|op| op.verb == verb).count();
            assert_eq!((count(Verb::Run), count(Verb::Drop)), (1, 0), "{}", scenario.name);
            assert_eq!((count(Verb::AskAgain), scenario.input), (0, None), "{}", scenario.name);
            assert_eq!(scenario.limits.timeout, None, "{}", scenario.name);
            assert!(!scenario.to_json().contains("root.TERM"), "{}", scenario.name);
        }
    }

    #[test]
    fn simpler_variants_keep_the_limits_too() {
        let generator = Generator::new(5);
        for index in 0..60 {
            let mut tree = generator.tree(index);
            let mut steps = 0;
            while tree.simplify() && steps < 200 {
                tree.current().check().unwrap();
                steps += 1;
            }
        }
    }

    #[test]
    fn an_unknown_field_is_refused_wherever_it_stands() {
        for scenario in each(6, 40) {
            let whole = serde_json::to_value(&scenario).unwrap();
            let objects = count_objects(&whole);
            for target in 0..objects {
                let mut mutated = whole.clone();
                insert_unknown(&mut mutated, target, &mut 0);
                let refused = Scenario::from_json(&mutated.to_string());
                assert!(refused.is_err(), "object {target} of {mutated}");
            }
        }
    }

    fn count_objects(value: &Value) -> usize {
        match value {
            Value::Object(map) => 1 + map.values().map(count_objects).sum::<usize>(),
            Value::Array(items) => items.iter().map(count_objects).sum(),
            _ => 0,
        }
    }

    fn insert_unknown(value: &mut Value, target: usize, seen: &mut usize) {
        match value {
            Value::Object(map) => {
                if *seen == target {
                    map.insert("colour".to_owned(), Value::from("red"));
                }
                *seen += 1;
                for below in map.values_mut() {
                    insert_unknown(below, target, seen);
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| insert_unknown(item, target, seen)),
            _ => {}
        }
    }

    #[test]
    fn what_is_no_scenario_is_refused_with_its_place() {
        let good = Generator::new(8).scenario(0);
        let forks = |count: usize| {
            let starts = (0..count)
                .map(|n| format!(r#"{{"start": {{"node": "n{n}", "script": []}}}}"#))
                .collect::<Vec<_>>();
            let mut value = serde_json::to_value(&good).unwrap();
            value["script"] = serde_json::from_str(&format!("[{}]", starts.join(","))).unwrap();
            value.to_string()
        };
        let newer = good.to_json().replacen("\"schema\": 1", "\"schema\": 2", 1);
        for (text, place, word) in [
            (forks(10_000), "script", "at most 256"),
            (newer, "schema", "update headcount"),
            ("{\"schema\": 1,".to_owned(), "", "line 1 column"),
            (String::new(), "", "mend the JSON"),
        ] {
            let refused = Scenario::from_json(&text).unwrap_err();
            assert!(refused.place.starts_with(place), "{refused}");
            assert!(refused.to_string().contains(word), "{refused}");
        }
    }
}
