//! The tree of nodes and their scripts, put together.

use fake_cli::content::{Content, Output};
use fake_cli::script::{
    ForkAtRate, Name, Place, Reaction, Signal, SlowStream, Start, Stdio, Step, Then, Write,
};
use fake_cli::span::Span;

use super::parts::{Behaviour, Ending, Exit, How, Life, Manner, Node, Parts, Swarm};
use super::{MOST_LEVELS, event};

/// The nodes with everything that the swarm forbids made plain; the root first, each with its parent.
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
    pub(super) parents: Vec<usize>,
}

impl Tree {
    pub(super) fn of(parts: &Parts) -> Self {
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

    pub(super) fn describe(&self) -> String {
        match self.nodes.len() {
            1 => "one node".to_owned(),
            count => format!("a tree of {count} nodes"),
        }
    }

    /// Reactions first, so that they are in force before anyone can wait for `ready`; then the nodes below, then the rest.
    pub(super) fn script(&self, name: &str, index: usize, parts: &Parts) -> Vec<Step> {
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
    pub(super) fn reports(self) -> bool {
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

pub(super) fn write(bytes: u64) -> Step {
    Step::Write(Write { to: Output::Stdout, bytes, content: Content::Records })
}

pub(super) fn name_of(node: usize) -> Name {
    Name::try_from(format!("n{node}")).expect("a legal name")
}
