//! Traces written by hand, for the tests of the rules. Times are in milliseconds.

use fake_cli::content::{Content, Output};
use fake_cli::control::{Descriptor, Hello, Report};
use fake_cli::script::{Signal, Step};
use fake_cli::span::Span;

use super::facts::Facts;
use super::standing::Ids;
use crate::promises::Promises;
use crate::scenario::{self, Call, Hindrance, HostEnd, Limits, Op, Scenario, Verb};
use crate::trace::{
    self, Captured, CaseEnd, Condition, Inventory, Look, Made, Method, Moment, Noise, Outcome, Point, Polled,
    Reason, RunState, Said, Seen, Stage, Status, SubjectInfo, SubjectKind, Thread, Tier, Trace, What,
};
use crate::verdict::{Verdict, VerdictKind};

/// The host's pid.
pub(crate) const HOST: i32 = 50;
/// The root's process group and session.
pub(crate) const ROOT_IDS: Ids = Ids { pgid: 100, sid: 50 };
/// A session, and so a group, of a node's own.
pub(crate) const AWAY: Ids = Ids { pgid: 200, sid: 200 };
/// A group of a node's own, in the root's session.
pub(crate) const ASIDE: Ids = Ids { pgid: 300, sid: 50 };

/// The steps of a script.
pub(crate) fn steps(json: &str) -> Vec<Step> {
    serde_json::from_str(json).unwrap()
}

/// What a node of the root's group says when it starts.
pub(crate) fn hello(node: &str) -> Hello {
    let pipe = |fd: i32, inode: u32| Descriptor {
        fd,
        target: format!("pipe:[{inode}]"),
        mode: if fd == 0 { "r" } else { "w" }.to_owned(),
    };
    Hello {
        node: node.to_owned(),
        pid: pid_of(node),
        start_ticks: 1,
        ppid: HOST,
        pgid: ROOT_IDS.pgid,
        sid: ROOT_IDS.sid,
        descriptors: vec![pipe(0, 1000), pipe(1, 1001), pipe(2, 1002)],
        ..Hello::default()
    }
}

fn pid_of(node: &str) -> i32 {
    if node == "root" { 100 } else { 101 + node.bytes().map(i32::from).sum::<i32>() }
}

/// An outcome with this reason and nothing else.
pub(crate) fn because(reason: Reason) -> Outcome {
    Outcome { reason, status: None, stdout: None, stderr: None }
}

/// The condition of a host in Rust that has done nothing yet.
pub(crate) fn condition() -> Condition {
    Condition {
        threads: vec![Thread { tid: HOST, name: "host".to_owned(), blocked: Vec::new() }],
        ignored: vec![13],
        caught: vec![11],
        umask: 0o22,
        folder: "/home".to_owned(),
        timers: Some(0),
    }
}

/// A trace under construction.
#[derive(Clone, Debug)]
pub(crate) struct Hand {
    trace: Trace,
    runs: u32,
    /// The run that is written about; nothing: the newest.
    about: Option<u32>,
}

/// A case of a subject of the protocol kind that promises everything that a limit can name, on a quiet machine.
pub(crate) fn case(script: Vec<Step>) -> Hand {
    let promises = Promises {
        timeout: crate::promises::Keeps::AsAsked,
        grace: crate::promises::Keeps::AsAsked,
        drain: crate::promises::Keeps::AsAsked,
        tells_reason: true,
        tells_cut: true,
        captures: true,
        status: true,
        ..Promises::default()
    };
    let scenario = Scenario {
        schema_url: None,
        schema: scenario::SCHEMA,
        name: "by-hand".to_owned(),
        why: "a test".to_owned(),
        rules: Vec::new(),
        script,
        ops: Vec::new(),
        limits: Limits::default(),
        bystanders: false,
        bystander_child: None,
        host: scenario::HostState::default(),
        holds: Vec::new(),
        ledger: false,
        stranger_with_pid_of: None,
        input: None,
        expect: None,
        found: None,
    };
    let trace = Trace {
        schema: trace::SCHEMA,
        scenario,
        subject: SubjectInfo {
            name: "by-hand".to_owned(),
            version: String::new(),
            kind: SubjectKind::Host,
            promises,
            overhead_us: 0,
        },
        tier: Tier::T3,
        limits: Limits { grace: Some(Span::from_millis(100)), ..Limits::default() },
        moments: Vec::new(),
        looks: Vec::new(),
        inventories: Vec::new(),
        noise: Noise { p99_us: 200, max_us: 1_000, samples: 50, crowd_percent: 0 },
        end: CaseEnd::Completed,
        swept: Vec::new(),
        files_left: None,
    };
    Hand { trace, runs: 0, about: None }.what(0, What::HostStarted { pid: HOST })
}

/// A case of a root that hangs beside a child that holds nothing, both up after 2 ms.
pub(crate) fn hanging_pair() -> Hand {
    let script = r#"[{"start": {"node": "child", "script": ["hang"]}}, {"emit": "ready"}, "hang"]"#;
    case(steps(script)).run(0).hello(1, "root").hello(2, "child")
}

impl Hand {
    pub(crate) fn trace(self) -> Trace {
        self.trace
    }

    pub(crate) fn judge(&self, judge: fn(&Facts<'_>) -> Verdict) -> Verdict {
        judge(&Facts::of(&self.trace))
    }

    /// The kind of verdict, with its detail for messages of tests.
    pub(crate) fn verdict(&self, judge: fn(&Facts<'_>) -> Verdict) -> (VerdictKind, String) {
        let verdict = self.judge(judge);
        (verdict.kind(), verdict.detail().unwrap_or_default().to_owned())
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut Trace)) -> Self {
        change(&mut self.trace);
        self
    }

    pub(crate) fn promising(self, change: impl FnOnce(&mut Promises)) -> Self {
        self.with(|trace| change(&mut trace.subject.promises))
    }

    pub(crate) fn template(self) -> Self {
        self.with(|trace| trace.subject.kind = SubjectKind::Template)
    }

    pub(crate) fn timeout(self, ms: u64) -> Self {
        self.with(|trace| trace.limits.timeout = Some(Span::from_millis(ms)))
    }

    pub(crate) fn grace(self, ms: u64) -> Self {
        self.with(|trace| trace.limits.grace = Some(Span::from_millis(ms)))
    }

    pub(crate) fn drain(self, ms: u64) -> Self {
        self.with(|trace| trace.limits.drain = Some(Span::from_millis(ms)))
    }

    pub(crate) fn our_fault(self) -> Self {
        self.with(|trace| trace.end = CaseEnd::OurFault("a test".to_owned()))
    }

    pub(crate) fn silent(self) -> Self {
        self.with(|trace| trace.end = CaseEnd::HostSilent)
    }

    pub(crate) fn what(mut self, at_ms: u64, what: What) -> Self {
        self.trace.moments.push(Moment { at_us: at_ms * 1000, what });
        self
    }

    fn op(mut self, at_ms: u64, verb: Verb) -> Self {
        let op = self.trace.scenario.ops.len();
        self.trace.scenario.ops.push(Op::new(verb));
        if verb == Verb::Run {
            self.runs += 1;
            self.about = None;
        }
        let run = self.subject();
        self.what(at_ms, What::Issued { op, verb, run })
    }

    /// The number of the run that is written about, from 0.
    fn subject(&self) -> u32 {
        self.about.unwrap_or(self.runs.saturating_sub(1))
    }

    /// From here on it is written about this run, from 0, until the next one starts.
    pub(crate) fn of(mut self, run: u32) -> Self {
        self.about = Some(run);
        self
    }

    pub(crate) fn poll(self, at_ms: u64) -> Self {
        self.op(at_ms, Verb::Poll)
    }

    /// The newest op was answered with this state.
    pub(crate) fn polled(self, at_ms: u64, state: RunState, pid: Option<i32>) -> Self {
        let (op, run) = (self.trace.scenario.ops.len() - 1, self.subject());
        self.what(at_ms, What::Polled { op, run, polled: Polled { state, pid } })
    }

    /// Several callers, and what they call.
    pub(crate) fn together(self, at_ms: u64, callers: &[&[Call]]) -> Self {
        let mut together = self.op(at_ms, Verb::Together);
        let op = together.trace.scenario.ops.last_mut().expect("it was just added");
        op.callers = callers.iter().map(|calls| calls.to_vec()).collect();
        together
    }

    /// The callers of the newest op were answered: caller, call, when called, when answered, the answer.
    pub(crate) fn called(self, at_ms: u64, calls: Vec<(u32, Call, u64, u64, Said)>) -> Self {
        let (op, run) = (self.trace.scenario.ops.len() - 1, self.subject());
        let made = calls.into_iter().map(|(caller, call, called_ms, returned_ms, said)| Made {
            caller,
            call,
            called_us: called_ms * 1000,
            returned_us: returned_ms * 1000,
            said,
        });
        let calls = made.collect();
        self.what(at_ms, What::Called { op, run, calls })
    }

    pub(crate) fn stop_host(self, at_ms: u64) -> Self {
        self.op(at_ms, Verb::StopHost)
    }

    pub(crate) fn continue_host(self, at_ms: u64) -> Self {
        self.op(at_ms, Verb::ContinueHost)
    }

    pub(crate) fn hang_up(self, at_ms: u64) -> Self {
        self.op(at_ms, Verb::HangUp)
    }

    pub(crate) fn run(self, at_ms: u64) -> Self {
        self.op(at_ms, Verb::Run)
    }

    /// A run whose start something makes fail.
    pub(crate) fn hindered_run(self, at_ms: u64, hindrance: Hindrance) -> Self {
        let mut hindered = self.run(at_ms);
        let op = hindered.trace.scenario.ops.last_mut().expect("it was just added");
        op.hindered_by = Some(hindrance);
        hindered
    }

    pub(crate) fn wait(self, at_ms: u64) -> Self {
        self.op(at_ms, Verb::Wait)
    }

    pub(crate) fn cancel(self, at_ms: u64) -> Self {
        self.op(at_ms, Verb::Cancel)
    }

    pub(crate) fn ask_again(self, at_ms: u64) -> Self {
        self.op(at_ms, Verb::AskAgain)
    }

    pub(crate) fn drop(self, at_ms: u64) -> Self {
        self.op(at_ms, Verb::Drop)
    }

    pub(crate) fn kill_host(self, at_ms: u64) -> Self {
        self.op(at_ms, Verb::KillHost)
    }

    pub(crate) fn signal_host(self, at_ms: u64, signal: Signal) -> Self {
        self.op(at_ms, Verb::SignalHost(signal))
    }

    pub(crate) fn end_host(self, at_ms: u64, how: HostEnd) -> Self {
        self.op(at_ms, Verb::EndHost(how))
    }

    /// The host has a child of its own, which exits after this event.
    pub(crate) fn bystander_child(self, event: &str) -> Self {
        self.with(|trace| trace.scenario.bystander_child = Some(event.try_into().unwrap()))
    }

    /// The newest op was answered.
    pub(crate) fn done(self, at_ms: u64) -> Self {
        let op = self.trace.scenario.ops.len() - 1;
        self.what(at_ms, What::Done { op })
    }

    /// The newest op cannot be done by the subject.
    pub(crate) fn unimplemented(self, at_ms: u64) -> Self {
        let op = self.trace.scenario.ops.len() - 1;
        self.what(at_ms, What::Unimplemented { op })
    }

    /// An op whose gate did not open.
    pub(crate) fn stuck(mut self, at_ms: u64, verb: Verb, gate: &str) -> Self {
        let op = self.trace.scenario.ops.len();
        self.trace.scenario.ops.push(Op { after: Some(gate.try_into().unwrap()), ..Op::new(verb) });
        self.what(at_ms, What::GateStuck { op })
    }

    pub(crate) fn says(self, at_ms: u64, node: &str, said: Report) -> Self {
        let run = self.subject();
        self.what(at_ms, What::Node { run, node: node.to_owned(), said, own_at_us: Some(at_ms * 1000) })
    }

    pub(crate) fn hello(self, at_ms: u64, node: &str) -> Self {
        self.says(at_ms, node, Report::Hello(Box::new(hello(node))))
    }

    pub(crate) fn hello_as(self, at_ms: u64, node: &str, ids: Ids) -> Self {
        let hello = Hello { pgid: ids.pgid, sid: ids.sid, ..hello(node) };
        self.says(at_ms, node, Report::Hello(Box::new(hello)))
    }

    /// A node without the root's streams.
    pub(crate) fn quiet_hello(self, at_ms: u64, node: &str, ids: Ids) -> Self {
        let hello = Hello { pgid: ids.pgid, sid: ids.sid, descriptors: Vec::new(), ..hello(node) };
        self.says(at_ms, node, Report::Hello(Box::new(hello)))
    }

    pub(crate) fn did(self, at_ms: u64, node: &str, step: usize) -> Self {
        self.says(at_ms, node, Report::Did { step, at_ns: 0 })
    }

    pub(crate) fn signalled(self, at_ms: u64, node: &str, signal: Signal) -> Self {
        self.says(at_ms, node, Report::Signal { signal: signal.number(), sender: HOST, at_ns: 0 })
    }

    pub(crate) fn exiting(self, at_ms: u64, node: &str, code: i32) -> Self {
        self.says(at_ms, node, Report::Exiting { code, at_ns: 0 })
    }

    pub(crate) fn wrote(self, at_ms: u64, node: &str, to: Output, total: u64) -> Self {
        self.says(at_ms, node, Report::Wrote { to, content: Content::Records, total })
    }

    pub(crate) fn gone(self, at_ms: u64, node: &str) -> Self {
        let run = self.subject();
        self.what(at_ms, What::Gone { run, node: node.to_owned() })
    }

    pub(crate) fn ended(self, at_ms: u64, outcome: Outcome) -> Self {
        let run = self.subject();
        self.what(at_ms, What::Ended { run, outcome })
    }

    pub(crate) fn host_gone(self, at_ms: u64, status: Status) -> Self {
        self.what(at_ms, What::HostGone { status })
    }

    /// A complete look, two seconds after the newest moment.
    pub(crate) fn look(self, stage: Stage, seen: Vec<Seen>) -> Self {
        self.look_at(stage, 2_000, seen)
    }

    /// A complete look, this long after the newest moment.
    pub(crate) fn look_at(mut self, stage: Stage, later_ms: u64, seen: Vec<Seen>) -> Self {
        let last_us = self.trace.moments.last().map_or(0, |moment| moment.at_us);
        let settled_us = later_ms * 1000;
        self.trace.looks.push(Look {
            stage,
            at_us: last_us + settled_us,
            settled_us,
            method: Method::Namespace,
            complete: true,
            seen,
            sysinfo: None,
        });
        self
    }

    /// A survivor that the newest hello of this node describes, seen by two witnesses.
    pub(crate) fn survivor(&self, node: &str) -> Seen {
        let hello = self.trace.moments.iter().rev().find_map(|moment| match &moment.what {
            What::Node { run, node: name, said: Report::Hello(hello), .. } if name == node => {
                Some((*run, hello))
            }
            _ => None,
        });
        let (run, hello) = hello.expect("the node said hello");
        Seen {
            pid: hello.pid,
            start_ticks: hello.start_ticks,
            ppid: 1,
            pgid: hello.pgid,
            sid: hello.sid,
            state: 'S',
            comm: format!("fake:{node}"),
            node: Some((run, node.to_owned())),
            connected: true,
            samples: 2,
            age_us: 2_300_000,
            dying: false,
        }
    }

    /// A complete look, two seconds later, that sees these nodes.
    pub(crate) fn look_sees(self, stage: Stage, nodes: &[&str]) -> Self {
        let seen = nodes.iter().map(|node| self.survivor(node)).collect();
        self.look(stage, seen)
    }

    /// The host's condition at a point.
    pub(crate) fn condition(self, at_ms: u64, point: Point, condition: Condition) -> Self {
        let hand = self.inventory(at_ms, point, &[]);
        hand.with(|trace| {
            trace.inventories.last_mut().expect("it was just added").condition = Some(condition);
        })
    }

    /// The host's pipes and event descriptors at a point.
    pub(crate) fn inventory(mut self, at_ms: u64, point: Point, open: &[(i32, &str)]) -> Self {
        let descriptor = |(fd, target): &(i32, &str)| Descriptor {
            fd: *fd,
            target: (*target).to_owned(),
            mode: "r".to_owned(),
        };
        self.trace.inventories.push(Inventory {
            at_us: at_ms * 1000,
            point,
            descriptors: open.iter().map(descriptor).collect(),
            threads: 1,
            zombies: None,
            tasks: None,
            condition: None,
            settled_us: 0,
        });
        self
    }
}

/// What a wrapper captured when it got the first `bytes` of a stream.
pub(crate) fn captured(to: Output, bytes: u64, complete: Option<bool>) -> Captured {
    Captured {
        bytes,
        hash: fake_cli::content::hash_of_prefix(Content::Records, to, bytes),
        complete,
        records: None,
    }
}

/// Asserts the kind of a verdict and a part of its detail.
#[track_caller]
pub(crate) fn assert_verdict(hand: &Hand, judge: fn(&Facts<'_>) -> Verdict, kind: VerdictKind, part: &str) {
    let (found, detail) = hand.verdict(judge);
    assert_eq!(found, kind, "{detail}");
    assert!(detail.contains(part), "{detail}");
}
