//! What several rules ask of a trace: its runs and nodes, when things happened, and how late the machine was.

use fake_cli::content::Output;
use fake_cli::control::{Descriptor, Hello, Report};
use fake_cli::script::{ExitSlowly, ROOT, Signal, Step, Then};

use crate::promises::Promises;
use crate::scenario::{BYSTANDER_CHILD, Call, Hindrance, STRANGER, Verb};
use crate::syscalls::CallKind;
use crate::trace::{
    Caller, CaseEnd, ChildStatus, Look, Moment, Outcome, Reason, Stage, Status, SubjectKind, SystemCall,
    Trace, What,
};
use crate::verdict::Verdict;

/// The least allowance for a machine that has other things to do.
pub const LEAST_SLACK_US: u64 = 250_000;
/// Lateness that a crowd explains, for each percent of it: half a second where twice as many want a processor as there are
/// would be too little for what was seen.
const CROWD_US_A_PERCENT: u64 = 4_000;
/// Whoever has not done by so much after the slack what it only has to wake up for was not kept from it by a crowd.
const MOST_STARVED_US: u64 = 1_000_000;
/// How long somebody's turn at a processor may last.
const TURN_US: u64 = 10_000;
/// How much too early a wrapper may seem to be: the tick of a coarse clock at 100 Hz.
pub const TICK_US: u64 = 10_000;
/// With which code a fake exits when its time to live is over.
const EXPIRED: i32 = 75;

/// A trace with the questions that several rules ask of it.
pub struct Facts<'a> {
    /// The trace.
    pub trace: &'a Trace,
    runs: Vec<Run<'a>>,
    bystanders: Vec<Node<'a>>,
    bystander_child: Vec<Node<'a>>,
}

/// A run of the script.
#[derive(Debug)]
pub struct Run<'a> {
    /// Its number.
    pub number: u32,
    /// When the host was told to start it: before the wrapper's own clock can have started.
    pub issued_us: u64,
    /// Its nodes, in the order of their first report.
    pub nodes: Vec<Node<'a>>,
    /// When it ended and how, as the host says it. A dropped run has no outcome.
    pub ended: Option<(u64, &'a Outcome)>,
    /// What made its start fail.
    pub hindered_by: Option<Hindrance>,
    /// What the caller did to end it, in order, as far as the subject can do that.
    pub stops: Vec<Stop>,
}

/// An op that ends a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// Index in the scenario's ops.
    pub op: usize,
    /// What it does.
    pub verb: Verb,
    /// When it was issued: before the wrapper can know of it.
    pub at_us: u64,
    /// When the host had answered it.
    pub done_us: Option<u64>,
}

/// A node of a run.
#[derive(Debug)]
pub struct Node<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it said when it started; nothing if that is missing.
    pub hello: Option<&'a Hello>,
    /// Everything that it reported.
    pub reports: Vec<Heard<'a>>,
    /// When its death was seen.
    pub gone_us: Option<u64>,
}

/// A report of a node.
#[derive(Clone, Copy, Debug)]
pub struct Heard<'a> {
    /// When the harness received it: not before it happened.
    pub at_us: u64,
    /// When it happened, by the node's own clock; where that is missing, when it was received.
    pub own_us: u64,
    /// What it said.
    pub report: &'a Report,
}

/// A system call of the wrapper's side that was held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldCall {
    /// Which kind of call.
    pub call: CallKind,
    /// Which of them.
    pub nth: u32,
    /// Who made it, where that was written down.
    pub by: Option<Caller>,
    /// From when on.
    pub held_us: u64,
    /// When it went on, and whether what it waited for had not happened. Nothing where its caller died first.
    pub let_go_us: Option<(u64, bool)>,
}

/// Whether something came in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lateness {
    /// Not later than the bound.
    InTime,
    /// Later than the bound by this much, which this machine's noise may explain.
    WithinNoise(u64),
    /// Later than the bound by this much.
    Late(u64),
}

impl<'a> Facts<'a> {
    /// The facts of a trace.
    pub fn of(trace: &'a Trace) -> Self {
        let mut facts = Self { trace, runs: Vec::new(), bystanders: Vec::new(), bystander_child: Vec::new() };
        for (index, moment) in trace.moments.iter().enumerate() {
            facts.take(index, moment);
        }
        facts
    }

    fn take(&mut self, index: usize, moment: &'a Moment) {
        let at_us = moment.at_us;
        match &moment.what {
            What::Issued { op, verb, run } => self.take_op(index, at_us, *op, *verb, *run),
            What::Done { op } | What::Called { op, .. } => {
                let stops = self.runs.iter_mut().flat_map(|run| run.stops.iter_mut());
                stops.filter(|stop| stop.op == *op).for_each(|stop| stop.done_us = Some(at_us));
            }
            What::Ended { run, outcome } => {
                if let Some(run) = self.run_mut(*run) {
                    run.ended.get_or_insert((at_us, outcome));
                }
            }
            What::Node { run, node, said, own_at_us } => {
                let Some(node) = self.node_mut(*run, node) else { return };
                if let Report::Hello(hello) = said {
                    node.hello.get_or_insert(hello);
                    // A node that replaced itself says hello again.
                    node.gone_us = None;
                }
                node.reports.push(Heard { at_us, own_us: own_at_us.unwrap_or(at_us), report: said });
            }
            What::Gone { run, node } => {
                if let Some(node) = self.node_mut(*run, node) {
                    node.gone_us.get_or_insert(at_us);
                }
            }
            _ => {}
        }
    }

    fn take_op(&mut self, index: usize, at_us: u64, op: usize, verb: Verb, run: u32) {
        if verb == Verb::Run {
            self.runs.push(Run {
                number: run,
                issued_us: at_us,
                nodes: Vec::new(),
                ended: None,
                hindered_by: self.trace.scenario.ops.get(op).and_then(|op| op.hindered_by),
                stops: Vec::new(),
            });
            return;
        }
        let refused = |moment: &Moment| moment.what == What::Unimplemented { op };
        if self.trace.moments[index..].iter().any(refused) {
            return;
        }
        let stop = Stop { op, verb, at_us, done_us: None };
        let stops = match verb {
            // Each cancel and drop of a caller counts as one that the host was asked for at the same moment.
            Verb::Together => {
                let together = self.trace.scenario.ops.get(op);
                let counts = |call| together.map_or(0, |together| together.counts(call));
                let cancels = vec![Stop { verb: Verb::Cancel, ..stop }; counts(Call::Cancel)];
                [cancels, vec![Stop { verb: Verb::Drop, ..stop }; counts(Call::Drop)]].concat()
            }
            _ if verb.stops() => vec![stop],
            _ => Vec::new(),
        };
        let concerned = self.runs.iter_mut().filter(|known| known.number == run || verb.ends_host());
        concerned.for_each(|run| run.stops.extend_from_slice(&stops));
    }

    fn run_mut(&mut self, number: u32) -> Option<&mut Run<'a>> {
        self.runs.iter_mut().find(|run| run.number == number)
    }

    fn node_mut(&mut self, run: u32, name: &'a str) -> Option<&mut Node<'a>> {
        let of_bystanders = ["bystander", "bystander-2", "bystander-3"];
        let scenario = &self.trace.scenario;
        let stranger = scenario.stranger_with_pid_of.is_some() && name == STRANGER;
        let nodes = if scenario.bystanders && of_bystanders.contains(&name) || stranger {
            &mut self.bystanders
        } else if self.trace.scenario.bystander_child.is_some() && name == BYSTANDER_CHILD {
            &mut self.bystander_child
        } else {
            &mut self.run_mut(run)?.nodes
        };
        let index = nodes.iter().position(|node| node.name == name).unwrap_or_else(|| {
            nodes.push(Node { name, hello: None, reports: Vec::new(), gone_us: None });
            nodes.len() - 1
        });
        nodes.get_mut(index)
    }

    /// Its runs, in order.
    pub fn runs(&self) -> &[Run<'a>] {
        &self.runs
    }

    /// The bystanders, and the stranger who got the pid of a dead node.
    pub fn bystanders(&self) -> &[Node<'a>] {
        &self.bystanders
    }

    /// The child that the host has beside the wrapper's.
    pub fn bystander_child(&self) -> Option<&Node<'a>> {
        self.bystander_child.first()
    }

    /// What the host got when it asked for that child's status.
    pub fn child_status(&self) -> Option<&'a ChildStatus> {
        self.trace.moments.iter().find_map(|moment| match &moment.what {
            What::ChildStatus { got } => Some(got),
            _ => None,
        })
    }

    /// The system calls of the wrapper's side that were written down, with their times.
    pub fn syscalls(&self) -> impl Iterator<Item = (u64, &'a SystemCall)> + '_ {
        self.trace.moments.iter().filter_map(|moment| match &moment.what {
            What::SystemCall(call) => Some((moment.at_us, call)),
            _ => None,
        })
    }

    /// The system calls that were held.
    pub fn holds(&self) -> impl Iterator<Item = HeldCall> + '_ {
        self.trace.moments.iter().enumerate().filter_map(|(index, moment)| {
            let What::Held { call, nth } = moment.what else { return None };
            let let_go_us = self.trace.moments[index..].iter().find_map(|later| match later.what {
                What::LetGo { call: kind, nth: number, in_vain } if (kind, number) == (call, nth) => {
                    Some((later.at_us, in_vain))
                }
                _ => None,
            });
            let of_it = |(_, made): &(u64, &SystemCall)| (made.call, made.nth) == (call, nth);
            let by = self.syscalls().find(of_it).map(|(_, made)| made.by);
            Some(HeldCall { call, nth, by, held_us: moment.at_us, let_go_us })
        })
    }

    /// Whether the harness kept the wrapper from being done at a time: it held a call then, or had let it go so shortly before that the
    /// grace and what a machine may need were not over. Whoever is dead is held up no more.
    pub fn is_held_up(&self, at_us: u64) -> bool {
        let needs_us = self.grace_us().map(|grace_us| grace_us.saturating_add(self.slack_us()));
        self.holds().filter(|hold| hold.held_us <= at_us).any(|hold| {
            let gone_us =
                self.host_gone().filter(|_| hold.by == Some(Caller::Host)).map(|(gone_us, _)| gone_us);
            let until_us = hold.let_go_us.map(|(let_go_us, _)| let_go_us).unwrap_or(u64::MAX);
            let until_us = gone_us.map_or(until_us, |gone_us| until_us.min(gone_us));
            needs_us.is_none_or(|needs_us| until_us.saturating_add(needs_us) > at_us)
        })
    }

    /// What the subject promises.
    pub fn promises(&self) -> &'a Promises {
        &self.trace.subject.promises
    }

    /// Whether the subject is a command that is the host itself.
    pub fn is_template(&self) -> bool {
        self.trace.subject.kind == SubjectKind::Template
    }

    /// A case that the harness could not run says nothing about the subject.
    pub fn fault(&self) -> Option<Verdict> {
        match &self.trace.end {
            CaseEnd::OurFault(why) => {
                Some(Verdict::Unknown(format!("the harness could not run the case: {why}")))
            }
            CaseEnd::Completed | CaseEnd::HostSilent | CaseEnd::Inapplicable(_) => None,
        }
    }

    /// Why the case was not run with this subject, if so.
    pub fn inapplicable(&self) -> Option<&'a str> {
        match &self.trace.end {
            CaseEnd::Inapplicable(why) => Some(why),
            CaseEnd::Completed | CaseEnd::HostSilent | CaseEnd::OurFault(_) => None,
        }
    }

    /// Whether the host did not finish in the longest time that it was given.
    pub fn host_fell_silent(&self) -> bool {
        self.trace.end == CaseEnd::HostSilent
    }

    /// The newest look of a stage.
    pub fn look(&self, stage: Stage) -> Option<&'a Look> {
        self.trace.looks.iter().rev().find(|look| look.stage == stage)
    }

    /// The host's pid.
    pub fn host_pid(&self) -> Option<i32> {
        self.trace.moments.iter().find_map(|moment| match moment.what {
            What::HostStarted { pid } => Some(pid),
            _ => None,
        })
    }

    /// When the host ended, and how.
    pub fn host_gone(&self) -> Option<(u64, Status)> {
        self.trace.moments.iter().find_map(|moment| match moment.what {
            What::HostGone { status } => Some((moment.at_us, status)),
            _ => None,
        })
    }

    /// The newest time in the trace: at least until then the harness waited.
    pub fn last_us(&self) -> u64 {
        let moments = self.trace.moments.iter().map(|moment| moment.at_us);
        let looks = self.trace.looks.iter().map(|look| look.at_us);
        moments.chain(looks).max().unwrap_or(0)
    }

    /// Whether the subject cannot do an op that the scenario has.
    pub fn cannot(&self, verb: Verb) -> bool {
        self.trace.moments.iter().any(|moment| match moment.what {
            What::Unimplemented { op } => {
                self.trace.scenario.ops.get(op).is_some_and(|refused| refused.verb == verb)
            }
            _ => false,
        })
    }

    /// Whether an op that was issued is about a run.
    pub fn is_about(&self, op: usize, run: u32) -> bool {
        self.trace.moments.iter().any(
            |moment| matches!(moment.what, What::Issued { op: issued, run: about, .. } if (issued, about) == (op, run)),
        )
    }

    /// The ops of this verb that were issued for a run: index and time.
    pub fn issued(&self, verb: Verb, run: u32) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.trace.moments.iter().filter_map(move |moment| match moment.what {
            What::Issued { op, verb: other, run: about } if other == verb && about == run => {
                Some((op, moment.at_us))
            }
            _ => None,
        })
    }

    /// From when on a run may be being stopped: by an op of the caller's, by a timeout that is due, by a signal that a node
    /// reported, or because it has ended.
    pub fn stopped_from_us(&self, run: &Run<'_>) -> Option<u64> {
        let ops = run.stops.iter().map(|stop| stop.at_us);
        let asked = run.nodes.iter().filter_map(Node::asked_us);
        let due = self.trace.limits.timeout.map(|timeout| run.issued_us.saturating_add(micros(timeout)));
        ops.chain(asked).chain(due).chain(run.ended.map(|(at_us, _)| at_us)).min()
    }

    /// Why something did not happen: the gate that stuck, or this.
    pub fn because(&self, otherwise: &str) -> String {
        let stuck = self.trace.moments.iter().find_map(|moment| match moment.what {
            What::GateStuck { op } => Some(op),
            _ => None,
        });
        let Some(op) = stuck else { return otherwise.to_owned() };
        match self.trace.scenario.ops.get(op) {
            Some(stuck) => {
                let gate = stuck.after.as_ref().map_or("its turn", |event| event.as_str());
                format!("op {op} ({}) was not issued, for {gate} did not come", stuck.verb.name())
            }
            None => format!("op {op} was not issued"),
        }
    }

    /// The allowance for a machine that has other things to do: 250 ms, or ten times its noise if that is more; and for what
    /// a command takes to start and to end whatever its child does.
    pub fn slack_us(&self) -> u64 {
        let slack_us = LEAST_SLACK_US.max(self.trace.noise.p99_us.saturating_mul(10));
        slack_us.saturating_add(self.trace.subject.overhead_us)
    }

    /// The same allowance where a look alone shows that something is over: who was not looked at in time because the whole machine stood
    /// still had no turn either.
    pub fn settle_us(&self) -> u64 {
        self.slack_us().saturating_add(self.trace.noise.max_us)
    }

    /// How long the host was stopped, all in all: it could do nothing in that time.
    pub fn host_stopped_us(&self) -> u64 {
        let mut since_us = None;
        let mut stopped_us = 0_u64;
        for moment in &self.trace.moments {
            let goes_on = match moment.what {
                What::Issued { verb: Verb::StopHost, .. } => {
                    since_us.get_or_insert(moment.at_us);
                    continue;
                }
                What::Issued { verb: Verb::ContinueHost, .. }
                | What::HostContinued
                | What::HostGone { .. }
                | What::GaveUp => true,
                _ => false,
            };
            if goes_on && let Some(since_us) = since_us.take() {
                stopped_us = stopped_us.saturating_add(moment.at_us.saturating_sub(since_us));
            }
        }
        stopped_us
    }

    /// Whether something that took `elapsed_us` was in time.
    ///
    /// A bound that was missed by less than four times the machine's worst hiccup is not told from noise: a start, a wake-up, a signal and an
    /// answer lie between two processes. Nor is it, by some hundred milliseconds, where more processes want a processor than there are: to
    /// die takes processor time too, and one killed in the middle of a fork was seen to wait 700 ms for it. Without a measurement
    /// of the noise nothing is told, nor where the harness held a call of the wrapper's. Nor is what a host may have missed while it was
    /// stopped.
    pub fn lateness(&self, elapsed_us: u64, bound_us: u64) -> Lateness {
        let over_us = elapsed_us.saturating_sub(bound_us).saturating_sub(self.host_stopped_us());
        match over_us {
            0 => Lateness::InTime,
            _ if self.holds().next().is_some() || over_us <= self.noise_us() => {
                Lateness::WithinNoise(over_us)
            }
            _ => Lateness::Late(over_us),
        }
    }

    /// Lateness that this machine explains, beyond the slack; without a measurement any.
    fn noise_us(&self) -> u64 {
        let noise = &self.trace.noise;
        let crowd_us = match noise.crowd_percent {
            0..=150 => 0,
            percent => percent.saturating_mul(CROWD_US_A_PERCENT),
        };
        match noise.samples {
            0 => u64::MAX,
            _ => noise.max_us.saturating_mul(4).saturating_add(crowd_us),
        }
    }

    /// Whether what had to be over at one time may be under way at another, because the host was stopped meanwhile or the machine is slow.
    /// Unlike in [`Self::lateness`], calls that the harness held do not count: see [`Self::is_held_up`].
    pub fn may_be_late(&self, due_us: u64, at_us: u64) -> bool {
        let noise_us = match self.trace.noise.samples {
            0 => u64::MAX,
            _ => self.noise_us().min(MOST_STARVED_US),
        };
        at_us <= due_us.saturating_add(self.host_stopped_us()).saturating_add(noise_us)
    }

    /// How long a process that has work to do may have waited for a processor: not at all for the turns of others where as many want one
    /// as there are, and for whole turns of them where more do.
    pub fn starved_us(&self) -> u64 {
        let noise = &self.trace.noise;
        let turns_us = noise.crowd_percent.saturating_sub(100).div_ceil(100).saturating_mul(TURN_US);
        noise.max_us.saturating_mul(4).max(turns_us)
    }

    /// The grace in force, if it is known: none at all for a subject that promises none. Nothing where the subject
    /// has a grace that neither the scenario nor the promise names.
    pub fn grace_us(&self) -> Option<u64> {
        use crate::promises::Keeps;
        match (self.trace.limits.grace, self.promises().grace) {
            (Some(grace), _) => Some(micros(grace)),
            (None, Keeps::Not) => Some(0),
            (None, _) => None,
        }
    }

    /// When the wrapper must be done with a run that is over for its caller. Whoever drops a handle waits for nothing: the grace comes after
    /// that, and what is left to read after the grace. Nothing where the run is not over, or where these are not known.
    pub fn done_with_us(&self, run: &Run<'_>) -> Option<u64> {
        use crate::promises::Keeps;
        let over_us = run.over_us()?;
        if !run.was_dropped() {
            return Some(over_us);
        }
        let drain_us = match (self.trace.limits.drain, self.promises().drain) {
            (Some(drain), _) => micros(drain),
            (None, Keeps::Not) => 0,
            (None, _) => return None,
        };
        Some(over_us.saturating_add(self.grace_us()?).saturating_add(drain_us))
    }

    /// How long the subject may wait for output that is held open: what is in force, else 1 s.
    pub fn drain_us(&self) -> u64 {
        self.trace.limits.drain.map_or(1_000_000, micros)
    }
}

impl<'a> Run<'a> {
    /// A node by its name.
    pub fn node(&self, name: &str) -> Option<&Node<'a>> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// The root, if it said hello.
    pub fn root(&self) -> Option<&Node<'a>> {
        self.node(ROOT).filter(|root| root.hello.is_some())
    }

    /// Whether its start failed: because the program made that certain, else because the wrapper says so.
    pub fn start_failed(&self) -> bool {
        let says_so = matches!(self.ended, Some((_, Outcome { reason: Reason::StartFailed(_), .. })));
        says_so || self.hindered_by.is_some_and(Hindrance::is_in_program) && self.root().is_none()
    }

    /// When the run was over for its caller: it has an outcome, or its handle was dropped.
    pub fn over_us(&self) -> Option<u64> {
        let dropped = self.stops.iter().find(|stop| stop.verb == Verb::Drop).and_then(|stop| stop.done_us);
        self.ended.map(|(at_us, _)| at_us).or(dropped)
    }

    /// Whether it was over for its caller because its handle was dropped.
    pub fn was_dropped(&self) -> bool {
        self.ended.is_none() && self.stops.iter().any(|stop| stop.verb == Verb::Drop)
    }

    /// The first op that ended it, if the run was not over by then.
    pub fn first_stop(&self) -> Option<Stop> {
        let ended_us = self.ended.map_or(u64::MAX, |(at_us, _)| at_us);
        self.stops.first().copied().filter(|stop| stop.at_us <= ended_us)
    }

    /// The nodes that hold a stream of the root: it is the same pipe.
    pub fn holders(&self, stream: Output) -> impl Iterator<Item = &Node<'a>> {
        let pipe = self.root().and_then(|root| root.descriptor(stream.fd()));
        self.nodes
            .iter()
            .filter(move |node| node.name == ROOT || pipe.is_some() && node.descriptor(stream.fd()) == pipe)
    }
}

impl<'a> Node<'a> {
    /// When it said hello, by its own clock.
    pub fn hello_us(&self) -> Option<u64> {
        self.reports.iter().find(|heard| matches!(heard.report, Report::Hello(_))).map(|heard| heard.own_us)
    }

    /// On what a descriptor was open when it said hello.
    pub fn descriptor(&self, fd: i32) -> Option<&'a str> {
        let hello = self.hello?;
        hello.descriptors.iter().find(|open| open.fd == fd).map(|open| open.target.as_str())
    }

    /// The descriptors that it had besides 0, 1 and 2.
    pub fn extra_descriptors(&self) -> impl Iterator<Item = &'a Descriptor> {
        self.hello.iter().flat_map(|hello| &hello.descriptors).filter(|open| !(0..=2).contains(&open.fd))
    }

    /// When it said that it exits by itself or dies by its own hand, and with which code or negative signal.
    pub fn exiting(&self) -> Option<(u64, i32)> {
        self.reports.iter().find_map(|heard| match heard.report {
            Report::Exiting { code, .. } => Some((heard.own_us, *code)),
            _ => None,
        })
    }

    /// When it first reported a signal, and from whom it came.
    pub fn reported(&self, signal: Signal) -> Option<(u64, i32)> {
        self.signals()
            .find(|(_, number, _)| *number == signal.number())
            .map(|(at_us, _, sender)| (at_us, sender))
    }

    /// The signals that it reported: when, which, from whom.
    pub fn signals(&self) -> impl Iterator<Item = (u64, i32, i32)> {
        self.reports.iter().filter_map(|heard| match heard.report {
            Report::Signal { signal, sender, .. } => Some((heard.own_us, *signal, *sender)),
            _ => None,
        })
    }

    /// When it came to a step of its script: it had said hello, and finished the step before.
    pub fn came_to(&self, step: usize) -> Option<u64> {
        let Some(before) = step.checked_sub(1) else { return self.hello_us() };
        self.reports.iter().find_map(|heard| match heard.report {
            Report::Did { step, .. } if *step == before => Some(heard.own_us),
            _ => None,
        })
    }

    /// When it was first asked to end by a signal that it reported.
    pub fn asked_us(&self) -> Option<u64> {
        let asks = [Signal::Hup, Signal::Int, Signal::Quit, Signal::Term, Signal::Usr1, Signal::Usr2];
        self.signals()
            .find(|(_, number, _)| asks.iter().any(|signal| signal.number() == *number))
            .map(|(at_us, ..)| at_us)
    }

    /// Whether it was alive at a time: it had said hello, and had neither said that it exits nor been seen dead.
    pub fn alive_at(&self, at_us: u64) -> bool {
        self.hello_us().is_some_and(|hello_us| hello_us <= at_us)
            && self.exiting().is_none_or(|(exit_us, _)| exit_us > at_us)
            && self.gone_us.is_none_or(|gone_us| gone_us > at_us)
    }

    /// Whether it was alive at a time, or was born later.
    pub fn lives_since(&self, at_us: u64) -> bool {
        self.hello_us().is_some_and(|up_us| self.alive_at(up_us.max(at_us)))
    }

    /// When it was certainly dead.
    pub fn dead_us(&self) -> Option<u64> {
        self.gone_us.or(self.exiting().map(|(at_us, _)| at_us))
    }

    /// Whether it ended because its time to live was over: the harness's doing.
    pub fn expired(&self, script: &[Step]) -> bool {
        self.exiting().is_some_and(|(_, code)| code == EXPIRED) && !asks_to_exit_with(script, EXPIRED)
    }

    /// Bytes that it confirmed to have written to a stream, as received by a time.
    pub fn wrote(&self, stream: Output, by_us: u64) -> u64 {
        let totals =
            self.reports.iter().filter(|heard| heard.at_us <= by_us).filter_map(|heard| match heard.report {
                Report::Wrote { to, total, .. } if *to == stream => Some(*total),
                _ => None,
            });
        totals.max().unwrap_or(0)
    }
}

fn asks_to_exit_with(script: &[Step], code: i32) -> bool {
    script.iter().any(|step| match step {
        Step::Exit(asked) | Step::ExitUnflushed(asked) | Step::ExitSlowly(ExitSlowly { code: asked, .. }) => {
            i32::from(*asked) == code
        }
        Step::On(reaction) => match reaction.then {
            Then::Exit(asked)
            | Then::ExitSlowly { code: asked, .. }
            | Then::CleanUp { code: asked, .. }
            | Then::IgnoreFirst { code: asked, .. } => i32::from(asked) == code,
            _ => false,
        },
        Step::Start(start) => asks_to_exit_with(&start.script, code),
        _ => false,
    })
}

/// A span in microseconds.
pub fn micros(span: fake_cli::span::Span) -> u64 {
    u64::try_from(span.get().as_micros()).unwrap_or(u64::MAX)
}

/// A time in microseconds, for people.
pub fn told(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{} ms", us / 1_000),
        _ => format!("{}.{} s", us / 1_000_000, us % 1_000_000 / 100_000),
    }
}

#[cfg(test)]
mod tests {
    use super::super::by_hand::{self, because, hanging_pair, steps};
    use super::*;
    use crate::trace::{RunState, Said};

    #[test]
    fn what_is_done_to_one_of_two_runs_is_not_done_to_the_other() {
        let two = by_hand::case(steps(r#"["hang"]"#)).run(0).hello(1, "root").run(2).hello(3, "root");
        let trace = two.of(0).cancel(10).gone(12, "root").ended(15, because(Reason::Cancelled)).trace();
        let facts = Facts::of(&trace);
        let [first, second] = facts.runs() else { panic!("two runs") };
        assert_eq!(first.stops.len(), 1);
        assert!(first.ended.is_some() && first.root().is_some_and(|root| root.gone_us.is_some()));
        assert!(second.stops.is_empty() && second.ended.is_none());
        assert!(second.root().is_some_and(|root| root.gone_us.is_none()));
        // Who ends the host ends them all.
        let two = by_hand::case(steps(r#"["hang"]"#)).run(0).run(1).hang_up(5).trace();
        assert!(Facts::of(&two).runs().iter().all(|run| run.stops.len() == 1));
    }

    #[test]
    fn each_cancel_and_drop_of_a_caller_is_a_stop_that_is_done_when_all_are_answered() {
        let hand = hanging_pair()
            .together(10, &[&[Call::Poll, Call::Cancel], &[Call::Cancel], &[Call::Drop]])
            .called(14, vec![(0, Call::Cancel, 11, 12, Said::Done)])
            .poll(20)
            .polled(21, RunState::Ended, None);
        let trace = hand.trace();
        let facts = Facts::of(&trace);
        let stops: Vec<_> =
            facts.runs()[0].stops.iter().map(|stop| (stop.verb, stop.at_us, stop.done_us)).collect();
        let (at_us, done_us) = (10_000, Some(14_000));
        let cancel = (Verb::Cancel, at_us, done_us);
        assert_eq!(stops, [cancel, cancel, (Verb::Drop, at_us, done_us)]);
    }

    #[test]
    fn a_host_that_was_stopped_is_not_late_for_that_long() {
        let stopped = hanging_pair().stop_host(10).continue_host(1_010).stop_host(2_000);
        let trace = stopped.clone().what(2_500, What::HostContinued).trace();
        assert_eq!(Facts::of(&trace).host_stopped_us(), 1_500_000);
        assert_eq!(Facts::of(&trace).lateness(1_600_000, 100_000), Lateness::InTime);
        assert_eq!(Facts::of(&trace).lateness(1_900_000, 100_000), Lateness::Late(300_000));
        let killed = stopped.host_gone(2_001, Status::Signaled(9)).trace();
        assert_eq!(Facts::of(&killed).host_stopped_us(), 1_001_000);
    }
}
