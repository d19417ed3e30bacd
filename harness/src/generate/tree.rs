//! The tree of nodes and their scripts, put together.

use fake_cli::content::{Content, Output};
use fake_cli::script::{
    Event, ExitSlowly, ForkAtRate, Message, Name, Place, ROOT, Reaction, ReportEnvironment, Say,
    Shape as ShellShape, Shell, Signal, SleepInChunks, SlowStream, Start, Stdio, Step, Then, Write,
};
use fake_cli::span::Span;

use super::parts::{Behaviour, Drawn, Ending, Exit, Extra, How, Life, Manner, Node, Parts, Swarm, Taking};
use super::{MOST_LEVELS, Shape, Style, event};

/// What all nodes of a tree together may ask for in all runs: less than a scenario may.
const MOST_PROCESSES: u64 = 220;
const MOST_BYTES: u64 = 48 * 1024 * 1024;
const MOST_MEMORY: u64 = 32 * 1024 * 1024;
const MOST_DESCRIPTORS: u64 = 3000;
/// More of them would tell of the machine, not of the wrapper.
const MOST_BUSY: u64 = 2;

/// The nodes with everything made plain that the swarm forbids or that would contradict something else; the root first, each
/// with its parent.
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
    parents: Vec<usize>,
}

impl Tree {
    pub(super) fn of(parts: &Parts, shape: Shape) -> Self {
        let mut root = parts.root.allowed_by(parts.swarm);
        root.extras.extend(parts.setting.takes_terminal.then_some(Extra::TakesTerminal));
        let mut nodes = vec![root];
        let mut parents = vec![0];
        let mut levels = vec![1];
        for drawn in &parts.others {
            let hosts = (0..nodes.len()).filter(|&node| levels[node] < MOST_LEVELS).collect::<Vec<_>>();
            let parent = hosts[drawn.node.parent.index(hosts.len())];
            nodes.push(drawn.allowed_by(parts.swarm));
            levels.push(levels[parent] + 1);
            parents.push(parent);
        }
        if let Ending::InDrain(..) = parts.ending {
            let holder = Node {
                place: Place::OwnSession,
                holds: vec![Stdio::Stdout],
                ..Node::plain(parts.root.node.parent)
            };
            if nodes.len() == 1 {
                nodes.push(holder);
                parents.push(0);
            } else {
                nodes[1] = holder;
            }
        }
        if matches!(parts.ending, Ending::CancelInKill(2..)) {
            // One signal is enough for whoever obeys.
            (nodes[0].manner, nodes[0].late) = (Manner::Ignores, false);
        }
        let mut tree = Self { nodes, parents };
        tree.settle(parts, shape);
        tree
    }

    /// Takes out what contradicts something else, or is more than all nodes together may have.
    fn settle(&mut self, parts: &Parts, shape: Shape) {
        let runs = parts.runs(self.nodes.len(), shape);
        let mut left = Budget::of_one_in(runs.into(), self.nodes.len());
        for index in 0..self.nodes.len() {
            let is_leaf = self.children(index).next().is_none();
            let has_other_vfork = (0..index).any(|other| {
                self.parents[other] == self.parents[index] && self.nodes[other].place == Place::Vfork
            });
            let parent_borrows = self.nodes[self.parents[index]].place == Place::Vfork;
            // A root that is to end must not be blocked.
            let under_ending_root = self.parents[index] == 0 && parts.ending.exit().is_some();
            let closed_above = self.nodes[self.parents[index]].closed();
            let node = &mut self.nodes[index];
            // Only so can it be told which run's it is.
            if runs > 1 && node.content == Content::Records {
                node.content = Content::Marked;
            }
            node.holds.retain(|stdio| !closed_above.contains(stdio));
            if node.place == Place::Vfork
                && (has_other_vfork || parent_borrows || under_ending_root || index == 0)
            {
                node.place = Place::SameGroup;
            }
            node.settle(is_leaf, index == 0 && parts.feeds_root());
            node.keep_to(&mut left);
        }
    }

    fn children(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        (1..self.nodes.len()).filter(move |&child| self.parents[child] == node)
    }

    pub(super) fn describe(&self) -> String {
        match self.nodes.len() {
            1 => "one node".to_owned(),
            count => format!("a tree of {count} nodes"),
        }
    }

    /// The root's script; `stop` is the op that stops the run first.
    pub(super) fn script(&self, parts: &Parts, stop: Option<usize>) -> Vec<Step> {
        self.script_of(ROOT, 0, parts, stop)
    }

    /// Reactions first, so that they are in force before anyone can wait for `ready`; then the nodes below, then the rest.
    fn script_of(&self, name: &str, index: usize, parts: &Parts, stop: Option<usize>) -> Vec<Step> {
        let node = &self.nodes[index];
        // Where the tree ends by itself the stop may wait for that.
        let late = stop.filter(|_| node.late && parts.ending.exit().is_none());
        let mut steps = Vec::new();
        steps.extend(node.extras.iter().flat_map(|extra| extra.early_steps()));
        steps.extend((node.tells_all && node.manner != Manner::Plain).then_some(Step::LogSignals));
        if late.is_none() {
            steps.extend(node.manner.step(node.to));
        }
        steps.extend(node.extras.iter().filter_map(|extra| extra.reaction()));
        steps.extend(node.adopts.then_some(Step::Subreaper));
        let (inside, beside): (Vec<usize>, Vec<usize>) =
            self.children(index).partition(|child| self.nodes[*child].place == Place::Vfork);
        steps.extend(beside.iter().map(|child| self.start(*child, parts, stop)));
        if parts.style == Style::Keen {
            steps.extend(beside.iter().map(|child| Step::Await(event_of(*child, "ready"))));
        }
        steps.extend(node.extras.iter().filter_map(|extra| extra.step(name, node.to)));
        if node.writes > 0 {
            let content = node.content;
            steps.push(Step::Write(Write { to: node.to, bytes: node.writes, content }));
        }
        steps.push(Step::Emit(Name::try_from("ready").expect("a legal name")));
        if let Some(stop) = late {
            steps.push(Step::Await(event(&format!("op.{stop}.issued"))));
            steps.extend(node.manner.step(node.to));
        }
        // Who starts it does nothing else until it is gone.
        steps.extend(inside.iter().map(|child| self.start(*child, parts, stop)));
        match parts.ending.exit() {
            Some(exit) if index == 0 => steps.extend(exit.steps(node, parts)),
            Some(exit) if !exit.leaves_others && !matches!(parts.ending, Ending::InDrain(..)) => {}
            _ => steps.extend(node.life.steps(name, node.to)),
        }
        steps
    }

    /// Whether the root writes very much.
    pub(super) fn pours(&self) -> bool {
        matches!(self.nodes[0].life, Life::Pours(_))
    }

    fn start(&self, child: usize, parts: &Parts, stop: Option<usize>) -> Step {
        let name = name_of(child);
        let node = &self.nodes[child];
        let script = self.script_of(name.as_str(), child, parts, stop);
        Step::Start(Start { node: name, place: node.place, holds: node.holds.clone(), script })
    }
}

/// What is left of what all nodes together may have.
struct Budget {
    processes: u64,
    bytes: u64,
    memory: u64,
    descriptors: u64,
    busy: u64,
}

impl Budget {
    /// Of one of so many runs, of a tree of so many nodes. Each node is a process of its own: four runs of the largest tree have as
    /// many as a scenario may, and nothing is left then.
    fn of_one_in(runs: u64, nodes: usize) -> Self {
        Self {
            processes: (MOST_PROCESSES / runs).saturating_sub(nodes as u64),
            bytes: MOST_BYTES / runs,
            memory: MOST_MEMORY / runs,
            descriptors: MOST_DESCRIPTORS / runs,
            busy: MOST_BUSY,
        }
    }
}

/// Takes so much out of what is left, if it is there.
fn take(left: &mut u64, amount: u64) -> bool {
    let enough = *left >= amount;
    if enough {
        *left -= amount;
    }
    enough
}

impl Node {
    /// A node that does nothing but hang.
    fn plain(parent: proptest::sample::Index) -> Self {
        Self {
            parent,
            place: Place::SameGroup,
            manner: Manner::Plain,
            late: false,
            tells_all: false,
            life: Life::Hangs,
            extras: Vec::new(),
            holds: Vec::new(),
            adopts: false,
            writes: 0,
            content: Content::Records,
            to: Output::Stdout,
        }
    }
}

impl Drawn {
    /// The node with the first of what it may be that the swarm allows. What a swarm leaves out makes room for what it has: a case of
    /// few behaviours has more of each.
    fn allowed_by(&self, swarm: Swarm) -> Node {
        let allows = |behaviour: Option<Behaviour>| behaviour.is_none_or(|it| swarm.allows(it));
        let [one, two] = self.instead;
        let mut node = self.node.clone();
        let places = [node.place, one.place, two.place];
        let manners = [node.manner, one.manner, two.manner];
        let lives = [node.life, one.life, two.life];
        let place = places.into_iter().find(|place| allows(behaviour_of_place(*place)));
        let manner = manners.into_iter().find(|manner| allows(manner.behaviour()));
        let life = lives.into_iter().find(|life| allows(life.behaviour()));
        node.place = place.unwrap_or(Place::SameGroup);
        node.manner = manner.unwrap_or(Manner::Plain);
        node.life = life.unwrap_or(Life::Hangs);
        node.extras.retain(|extra| swarm.allows(extra.behaviour()));
        node.late &= swarm.allows(Behaviour::Late);
        node.tells_all &= node.manner != Manner::LogsAll;
        node.adopts &= swarm.allows(Behaviour::Adopts);
        node
    }
}

impl Node {
    /// Takes out what contradicts something else of it.
    fn settle(&mut self, is_leaf: bool, is_fed: bool) {
        let mut known = Vec::new();
        self.extras.retain(|extra| {
            let kind = std::mem::discriminant(extra);
            let first = !known.contains(&kind);
            known.push(kind);
            first
        });
        // The memory is another's, who would go on as soon as its first thread ends.
        if self.place == Place::Vfork {
            self.extras.retain(|extra| *extra != Extra::LeavesMainThread);
        }
        // The shell would hold the stream without a word.
        if matches!(self.place, Place::Shell(Shell { shape: ShellShape::Pipeline, .. })) {
            self.holds.retain(|stdio| *stdio != Stdio::Stdout);
        }
        // It could neither reach the control socket nor leave a file.
        let needs_rights = matches!(self.manner, Manner::Forks(_) | Manner::CleansUp(_))
            || matches!(self.life, Life::ForksAtRate(..));
        if !is_leaf || needs_rights {
            self.extras.retain(|extra| *extra != Extra::BecomesNobody);
        }
        if is_fed {
            self.extras.retain(|extra| *extra != Extra::Closes(Stdio::Stdin));
        }
        if self.extras.contains(&Extra::ClosesOutput) {
            self.extras.retain(|extra| !matches!(extra, Extra::Closes(Stdio::Stdout | Stdio::Stderr)));
        }
        let closed = self.closed();
        if closed.contains(&Stdio::Stdin) && self.life == Life::ReadsStdin {
            self.life = Life::Hangs;
        }
        if closed.iter().any(|stdio| *stdio != Stdio::Stdin) {
            if matches!(self.life, Life::Streams(_) | Life::Floods(_) | Life::Pours(_) | Life::Talks { .. }) {
                self.life = Life::Hangs;
            }
            if let Manner::WritesLater(..) = self.manner {
                self.manner = Manner::Logs;
            }
            self.writes = 0;
            self.extras.retain(|extra| !matches!(extra, Extra::Buffers(_) | Extra::Says(_)));
        }
    }

    /// Takes out what is more than is left for it.
    fn keep_to(&mut self, left: &mut Budget) {
        if matches!(self.place, Place::Shell(_)) && !take(&mut left.processes, 2) {
            self.place = Place::SameGroup;
        }
        if let Manner::Forks(count) = self.manner
            && !take(&mut left.processes, count.into())
        {
            self.manner = Manner::Logs;
        }
        let is_kept = match self.life {
            Life::ForksAtRate(_, most) => take(&mut left.processes, most.into()),
            Life::LeavesZombies(count) => take(&mut left.processes, count.into()),
            Life::Floods(most) => take(&mut left.bytes, 2 * most),
            Life::Pours(bytes) => take(&mut left.bytes, bytes),
            Life::Busy => take(&mut left.busy, 1),
            _ => true,
        };
        if !is_kept {
            self.life = Life::Hangs;
        }
        self.extras.retain(|extra| match extra {
            Extra::HogsMemory(bytes) => take(&mut left.memory, *bytes),
            Extra::HogsDescriptors(count) => take(&mut left.descriptors, (*count).into()),
            _ => true,
        });
    }

    /// The standard descriptors that it closes.
    fn closed(&self) -> Vec<Stdio> {
        self.extras.iter().flat_map(|extra| extra.closes()).collect()
    }
}

const fn behaviour_of_place(place: Place) -> Option<Behaviour> {
    match place {
        Place::SameGroup => None,
        Place::OwnGroup => Some(Behaviour::OwnGroup),
        Place::OwnSession => Some(Behaviour::OwnSession),
        Place::Orphan => Some(Behaviour::Orphan),
        Place::Daemon => Some(Behaviour::Daemon),
        Place::Vfork => Some(Behaviour::Vfork),
        Place::Shell(_) => Some(Behaviour::Shell),
    }
}

impl Manner {
    const fn behaviour(self) -> Option<Behaviour> {
        Some(match self {
            Self::Plain => return None,
            Self::Logs => Behaviour::Logs,
            Self::LogsAll => Behaviour::LogsAll,
            Self::Exits(_) => Behaviour::Exits,
            Self::Slow(_) => Behaviour::Slow,
            Self::CleansUp(_) => Behaviour::CleansUp,
            Self::Reraises(_) => Behaviour::Reraises,
            Self::Ignores => Behaviour::Ignores,
            Self::IgnoresFirst(_) => Behaviour::IgnoresFirst,
            Self::Blocks => Behaviour::Blocks,
            Self::Forks(_) => Behaviour::Forks,
            Self::WritesLater(..) => Behaviour::WritesLater,
        })
    }

    fn step(self, to: Output) -> Option<Step> {
        let then = match self {
            Self::Plain => return None,
            Self::LogsAll => return Some(Step::LogSignals),
            Self::Logs => Then::Log,
            Self::Exits(code) => Then::Exit(code),
            Self::Slow(takes) => Then::ExitSlowly { takes, code: 0 },
            Self::CleansUp(takes) => Then::CleanUp { takes, code: 0 },
            Self::Reraises(takes) => Then::Reraise { takes },
            Self::Ignores => Then::Ignore,
            Self::IgnoresFirst(count) => Then::IgnoreFirst { count, code: 0 },
            Self::Blocks => Then::Block,
            Self::Forks(count) => Then::Fork(count),
            Self::WritesLater(after, bytes) => Then::WriteLater { after, to, bytes },
        };
        Some(Step::On(Reaction { signal: Signal::Term, then }))
    }

    /// Whether the node says that TERM has come.
    pub(super) const fn reports(self) -> bool {
        !matches!(self, Self::Plain | Self::Ignores | Self::Blocks)
    }
}

impl Extra {
    const fn behaviour(self) -> Behaviour {
        match self {
            Self::ReportsEnvironment => Behaviour::ReportsEnvironment,
            Self::ClearsEnvironment => Behaviour::ClearsEnvironment,
            Self::ExecsFromThread => Behaviour::ExecsFromThread,
            Self::LeavesMainThread => Behaviour::LeavesMainThread,
            Self::FailsExec(_) => Behaviour::FailsExec,
            Self::Closes(_) | Self::ClosesOutput => Behaviour::Closes,
            Self::Buffers(_) => Behaviour::Buffers,
            Self::Says(_) => Behaviour::Talks,
            Self::HogsDescriptors(_) | Self::HogsMemory(_) => Behaviour::Hogs,
            Self::Locks => Behaviour::Locks,
            Self::Renames => Behaviour::Renames,
            Self::BecomesNobody => Behaviour::BecomesNobody,
            Self::TakesTerminal => Behaviour::TakesTerminal,
            Self::Takes(_, Taking::Logs) => Behaviour::Logs,
            Self::Takes(_, Taking::Exits(_)) => Behaviour::Exits,
            Self::Takes(_, Taking::Ignores) => Behaviour::Ignores,
            Self::Takes(_, Taking::Blocks) => Behaviour::Blocks,
        }
    }

    /// The standard descriptors that are closed by it.
    fn closes(self) -> Vec<Stdio> {
        match self {
            Self::Closes(stdio) => vec![stdio],
            Self::ClosesOutput => vec![Stdio::Stdout, Stdio::Stderr],
            _ => Vec::new(),
        }
    }

    /// What it does before it sets its reactions, for some of these take them away.
    fn early_steps(self) -> Vec<Step> {
        let step = match self {
            Self::ReportsEnvironment => Step::ReportEnvironment(ReportEnvironment {
                variables: ["HOME", "TMPDIR"].map(str::to_owned).to_vec(),
            }),
            Self::ClearsEnvironment => Step::ClearEnvironment,
            Self::ExecsFromThread => Step::ExecFromThread,
            Self::LeavesMainThread => Step::LeaveMainThread,
            Self::FailsExec(how) => Step::FailExec(how),
            _ => return self.closes().into_iter().map(Step::Close).collect(),
        };
        vec![step]
    }

    /// How it takes another signal than TERM.
    fn reaction(self) -> Option<Step> {
        let Self::Takes(signal, taking) = self else { return None };
        let then = match taking {
            Taking::Logs => Then::Log,
            Taking::Exits(code) => Then::Exit(code),
            Taking::Ignores => Then::Ignore,
            Taking::Blocks => Then::Block,
        };
        Some(Step::On(Reaction { signal, then }))
    }

    /// What it does when everyone below it is ready.
    fn step(self, name: &str, to: Output) -> Option<Step> {
        Some(match self {
            Self::Buffers(bytes) => Step::Buffer(Write { to, bytes, content: Content::Records }),
            Self::Says(message) => Step::Say(Say { message, times: 1 }),
            Self::HogsDescriptors(count) => Step::HogDescriptors(count),
            Self::HogsMemory(bytes) => Step::HogMemory(bytes),
            Self::Locks => Step::LockFile(Name::try_from(name).expect("a legal name")),
            Self::Renames => Step::Rename(Name::try_from("sshd").expect("a legal name")),
            Self::BecomesNobody => Step::BecomeNobody,
            Self::TakesTerminal => Step::TakeTerminal,
            _ => return None,
        })
    }
}

impl Life {
    const fn behaviour(self) -> Option<Behaviour> {
        Some(match self {
            Self::Hangs => return None,
            Self::Streams(_) | Self::Floods(_) | Self::Pours(_) => Behaviour::Output,
            Self::ForksAtRate(..) => Behaviour::ForksAtRate,
            Self::LeavesZombies(_) => Behaviour::Zombies,
            Self::StopsItself => Behaviour::Stops,
            Self::ReadsStdin => Behaviour::Stdin,
            Self::Busy => Behaviour::Busy,
            Self::SleepsInChunks(_) => Behaviour::Chunks,
            Self::Talks { .. } => Behaviour::Talks,
        })
    }

    /// Ends in a hang: a node that ended by itself would leave nothing to stop.
    fn steps(self, name: &str, to: Output) -> Vec<Step> {
        let say = |message, times| Step::Say(Say { message, times });
        let first = match self {
            Self::Hangs => vec![],
            Self::Busy => return vec![Step::BusyHang],
            Self::Streams(every) => {
                vec![Step::SlowStream(SlowStream { to, chunk: 64, every, times: 200, when_read: false })]
            }
            Self::Floods(most) => vec![Step::Flood { most }],
            Self::Pours(bytes) => vec![write(to, bytes)],
            Self::ForksAtRate(every, most) => vec![Step::ForkAtRate(ForkAtRate {
                node: Name::try_from(format!("{name}-fork")).expect("a legal name"),
                every,
                most,
            })],
            Self::LeavesZombies(count) => vec![Step::Zombies(count)],
            Self::StopsItself => vec![Step::Stop],
            Self::ReadsStdin => vec![Step::ReadStdin],
            Self::SleepsInChunks(chunk) => vec![Step::SleepInChunks(SleepInChunks { chunk, times: 50 })],
            Self::Talks { half } => {
                let last = half.then(|| say(Message::Half, 1));
                [say(Message::Status, 1), say(Message::Stream, 3)].into_iter().chain(last).collect()
            }
        };
        first.into_iter().chain([Step::Hang]).collect()
    }
}

impl Exit {
    fn steps(self, root: &Node, parts: &Parts) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.burst > 0 && !root.closed().contains(&stdio_of(root.to)) {
            steps.push(write(root.to, self.burst));
        }
        // Without input a wrapper may let its child read what never ends.
        if parts.feeds_root() && (self.reads || matches!(parts.ending, Ending::Fed(..))) {
            steps.push(Step::ReadStdin);
        }
        let after = match (&parts.ending, parts.limits.timeout) {
            // What is drawn is then the time that is left.
            (Ending::ByItselfAtTimeout(_), Some(timeout)) => {
                Span::from(timeout.get().saturating_sub(self.after.get()))
            }
            _ => self.after,
        };
        if after > Span::ZERO {
            steps.push(Step::Sleep(after));
        }
        let last = match self.how {
            How::Code(code) => [None, Some(Step::Exit(code))],
            How::By(signal) => [None, Some(Step::Die(signal))],
            How::Fault => [None, Some(Step::Fault)],
            How::Slowly(takes, code) => [None, Some(Step::ExitSlowly(ExitSlowly { takes, code }))],
            How::Unflushed(code) => [None, Some(Step::ExitUnflushed(code))],
            How::FailedExec(how) => [Some(Step::FailExec(how)), Some(Step::Exit(126))],
        };
        steps.extend(last.into_iter().flatten());
        steps
    }
}

const fn stdio_of(output: Output) -> Stdio {
    match output {
        Output::Stdout => Stdio::Stdout,
        Output::Stderr => Stdio::Stderr,
    }
}

fn write(to: Output, bytes: u64) -> Step {
    Step::Write(Write { to, bytes, content: Content::Records })
}

/// The name of a node that is not the root.
pub(super) fn name_of(node: usize) -> Name {
    Name::try_from(format!("n{node}")).expect("a legal name")
}

/// An event of a node that is not the root.
pub(super) fn event_of(node: usize, what: &str) -> Event {
    event(&format!("{}.{what}", name_of(node)))
}
