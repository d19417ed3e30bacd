//! Generated scenarios: script trees × ops × gates × limits, as proptest strategies.
//!
//! A case is drawn as parts that are chosen apart from each other and put together by pure functions, so that a
//! value tree can make each part simpler by itself. Three things keep cases meaningful: a node says `ready` only
//! when everyone below it has, ops wait for events instead of times, and a node that is to be stopped does not end by
//! itself. Each case draws which behaviours it may use at all (a swarm), because features that hide each other would
//! otherwise never be seen alone; where one is left out another takes its place. What hides little comes often: output, what the host is
//! like, who stands beside it, being asked again. What would contradict something else, or be more than all nodes together may have, is
//! taken out when the tree is put together.
//!
//! [`Style::Plain`] draws from the same space without any of that: ops one by one, each alike, at any time. It exists to be compared with.

mod draw;
mod ops;
mod parts;
mod random;
mod tree;

use fake_cli::script::{Event, ROOT, Signal};
use fake_cli::span::Span;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use self::draw::parts;
use self::ops::ops;
use self::parts::{Ending, Parts};
use self::tree::Tree;
use crate::promises::{Keeps, Promises};
use crate::scenario::{HostState, LARGEST_TIMEOUT, Limits, Op, SCHEMA, Scenario, Verb};
use crate::subject::{Drive, SubjectSpec};

/// Most levels of nodes in a generated script, the root included.
pub const MOST_LEVELS: usize = 5;

/// What a subject can do, so that no case is wasted on what it cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// It has a handle: it can be dropped, outlives the run, and there can be another run after it.
    pub handle: bool,
    /// It stops a run after a time.
    pub timeout: bool,
    /// It asks with TERM before it kills, so that ops can wait for that.
    pub asks: bool,
    /// Its user writes to the child while it runs, and closes its input.
    pub writes: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self { handle: true, timeout: true, asks: true, writes: true }
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
                writes: false,
            },
            _ => Self::default(),
        }
    }

    /// What else is known once the subject has told what it promises.
    #[must_use]
    pub fn promising(self, promises: &Promises) -> Self {
        Self { writes: self.writes && promises.writes, ..self }
    }
}

/// A grace that is longer than any slack.
const LONG_GRACE: Span = Span::from_millis(700);
/// Long enough to see what is done meanwhile.
const LONG_DELAY: Span = Span::from_millis(400);
/// A timeout that no root which ends by itself comes near to.
const LATE_TIMEOUT: Span = Span::from_millis(600);
/// Above so many nodes no more than two runs are under way at once, and no call is written down.
const FEW_NODES: usize = 8;

/// How scenarios are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Bent on finding what wrappers get wrong: each case may use only some of the behaviours, small trees are likelier, ops wait for
    /// events, and many come where wrappers are weak: before the child executes, at its exit, in the grace, in the drain,
    /// after the end, in the last of equal runs.
    Keen,
    /// Op by op, everything alike, at times that are drawn alike, without events; no op but where it is allowed. What the other is measured
    /// against.
    Plain,
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
        Self::styled(seed, shape, Style::Keen)
    }

    /// A generator that draws them in this style.
    pub fn styled(seed: u64, shape: Shape, style: Style) -> Self {
        Self { seed, strategy: scenarios(shape, style).boxed() }
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
pub fn scenarios(shape: Shape, style: Style) -> impl Strategy<Value = Scenario> {
    parts(style, shape).prop_map(move |parts| assemble(&parts, shape))
}

fn assemble(parts: &Parts, shape: Shape) -> Scenario {
    let tree = Tree::of(parts, shape);
    let ops = ops(parts, &tree, shape);
    let stop = ops.iter().position(|op| op.verb.stops() || op.verb == Verb::Together);
    let limits = Limits { timeout: parts.timeout(shape), grace: Some(parts.grace()), ..parts.limits };
    Scenario {
        schema_url: None,
        schema: SCHEMA,
        name: "generated".to_owned(),
        why: format!("Generated: {}, {}.", tree.describe(), parts.describe(&ops, tree.nodes.len(), shape)),
        rules: Vec::new(),
        script: tree.script(parts, stop),
        limits,
        bystander_child: parts.setting.bystander_child.map(event),
        bystanders: parts.setting.bystanders,
        host: parts.host(),
        holds: parts.ending.holds(),
        // Each call that is watched takes the harness's time, and a wrapper makes some for each node.
        ledger: parts.setting.ledger && tree.nodes.len() <= FEW_NODES,
        stranger_with_pid_of: parts.has_stranger(&ops).then(|| ROOT.to_owned()),
        input: parts.input(),
        expect: None,
        found: None,
        ops,
    }
}

impl Parts {
    /// What the wrapper writes by itself; nothing where ops do.
    fn input(&self) -> Option<u64> {
        match self.ending {
            Ending::Exchange(_, bytes) => Some(bytes),
            _ => self.setting.input.filter(|_| !self.ending.writes()),
        }
    }

    /// A timeout that comes stands in the way of every ending but its own.
    fn timeout(&self, shape: Shape) -> Option<Span> {
        match &self.ending {
            _ if !shape.timeout => None,
            ending if ending.needs_timeout() => self.limits.timeout,
            _ if self.setting.never => Some(LARGEST_TIMEOUT),
            Ending::ByItself(_) | Ending::AfterEnd(..) | Ending::Exchange(..) | Ending::Fed(..) => {
                self.setting.late.then_some(LATE_TIMEOUT)
            }
            _ => None,
        }
    }

    /// Long where whoever sits it out shows, which is more often where a stop may have to wait for another's.
    fn grace(&self) -> Span {
        let part = if matches!(self.ending, Ending::Several(..)) { 33 } else { 18 };
        if self.setting.haste < part { LONG_GRACE } else { self.limits.grace.unwrap_or_default() }
    }

    /// Whether somebody gets the root's pid: a run that is waited for, and nothing after it, has a root that is reaped, by its wrapper
    /// unless the host ignores CHLD.
    fn has_stranger(&self, ops: &[Op]) -> bool {
        let is_waited_for = ops.last().is_some_and(|op| op.verb == Verb::Wait);
        let runs = ops.iter().filter(|op| op.verb == Verb::Run).count();
        self.setting.stranger && is_waited_for && runs == 1 && !self.host().ignores.contains(&Signal::Chld)
    }

    /// Whether somebody writes to the root's standard input to its end, so that it may read it.
    fn feeds_root(&self) -> bool {
        self.input().is_some() || matches!(self.ending, Ending::Fed(..))
    }

    /// A signal that is to reach the host is neither blocked nor ignored by it.
    fn host(&self) -> HostState {
        let reaches = |signals: &[Signal]| {
            let others = signals.iter().filter(|signal| !self.ending.sends(**signal));
            others.copied().collect()
        };
        HostState {
            blocks: reaches(&self.setting.blocks),
            ignores: reaches(&self.setting.ignores),
            umask: self.setting.umask,
            open_files: self.setting.open_files,
            // The session of a host whose controller goes has another.
            terminal: self.setting.terminal && self.ending != Ending::HangUp,
        }
    }
}

fn event(text: &str) -> Event {
    Event::try_from(text).expect("a legal event")
}

#[cfg(test)]
mod tests;
