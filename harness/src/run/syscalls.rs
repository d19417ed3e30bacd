//! The wrapper's own system calls: whose they are, holding them, writing them down.

use std::collections::{HashMap, HashSet};

use super::*;
use crate::scenario::STRANGER;
use crate::syscalls::{self, CallKind, Listener as CallListener, Next, Notification, Surroundings, Watch};
use crate::trace::{Caller, SystemCall};

/// How long a call is held at most: less than an op waits for its gate.
const HOLD_CAP: Duration = Duration::from_secs(2);
/// How long a fork that was let go may take. One that waits for its child's exec has made it long before.
const FORK_CAP: Duration = Duration::from_millis(500);
/// How long after its death a node's pid is waited for, so that the stranger can have it: a wrapper whose kill is held may reap after it.
const STRANGER_CAP: Duration = Duration::from_secs(3);
/// Most calls that are written down; the ledger of a case with more is not whole, and says so by its last number.
pub(crate) const MOST_CALLS: usize = 4096;
/// Most calls that are taken in before something else is looked at.
const MOST_AT_ONCE: usize = 256;

/// The calls of a host that are handed over.
pub(super) struct SystemCalls {
    listener: Option<CallListener>,
    pub(super) watch: Watch,
    counts: HashMap<CallKind, u32>,
    noted: usize,
    held: Vec<Held>,
    /// Threads whose held fork was let go, the number of the call, and when.
    forking: Vec<(i32, i64, Instant)>,
    /// Children of the wrapper's side: pid and start.
    children: HashMap<i32, u64>,
    /// Fakes and whatever they started: pid and start.
    nodes_side: HashSet<(i32, u64)>,
    /// Helpers, which stay what they are when their parents are gone.
    helpers: HashSet<(i32, u64)>,
    /// What the host was started with: whoever has the same has executed nothing since.
    host_image: Option<Image>,
    /// The launch itself is an exec too.
    host_executed: bool,
    /// The programs of the fakes, by device and inode.
    fakes: HashSet<(u64, u64)>,
}

#[derive(Clone, PartialEq, Eq)]
struct Image {
    words: Vec<u8>,
    file: Option<(u64, u64)>,
}

struct Held {
    id: u64,
    thread: i32,
    number: i64,
    call: CallKind,
    nth: u32,
    until: Event,
    cap: Instant,
}

/// Whose a call is.
enum Side {
    Wrapper(Caller),
    Nodes,
}

impl SystemCalls {
    pub(super) fn new(watch: Watch) -> Self {
        Self {
            listener: None,
            watch,
            counts: HashMap::new(),
            noted: 0,
            held: Vec::new(),
            forking: Vec::new(),
            children: HashMap::new(),
            nodes_side: HashSet::new(),
            helpers: HashSet::new(),
            host_image: None,
            host_executed: false,
            fakes: HashSet::new(),
        }
    }

    /// What is to be handed over. Where the host executes its program, what is called before that is not the wrapper's: its exec
    /// is needed too.
    pub(super) fn watch_where(&mut self, executes: bool) -> Watch {
        if executes {
            self.watch.add(CallKind::Exec);
        }
        self.watch.clone()
    }

    /// The calls come here; the first is the host's own exec, if it is a program.
    pub(super) fn listen(&mut self, listener: Option<CallListener>, executes: bool) {
        self.listener = listener;
        self.host_executed = !executes;
    }

    /// The program at this path is a fake.
    pub(super) fn knows_fake(&mut self, path: &Path) {
        self.fakes.extend(syscalls::identity(path));
    }

    pub(super) fn poll_fd(&self) -> Option<PollFd<'_>> {
        Some(PollFd::from_borrowed_fd(self.listener.as_ref()?.as_fd(), PollFlags::IN))
    }

    fn let_go(&self, id: u64) -> io::Result<()> {
        self.listener.as_ref().map_or(Ok(()), |listener| listener.let_go(id))
    }

    fn next(&mut self) -> io::Result<Option<Notification>> {
        match self.listener.as_ref().map(CallListener::next).transpose()? {
            Some(Next::Call(call)) => Ok(Some(call)),
            Some(Next::Nobody) => {
                // Polled again, it would be ready for ever.
                self.listener = None;
                Ok(None)
            }
            Some(Next::Nothing) | None => Ok(None),
        }
    }

    fn learn_children(&mut self, pid: i32) {
        for child in scan::children(pid) {
            if let Some(stat) = scan::stat(child) {
                self.children.insert(child, stat.start_ticks);
            }
        }
    }
}

impl Image {
    fn of(pid: i32) -> Option<Self> {
        let words = fs::read(format!("/proc/{pid}/cmdline")).ok().filter(|words| !words.is_empty())?;
        Some(Self { words, file: syscalls::identity(Path::new(&format!("/proc/{pid}/exe"))) })
    }
}

impl Runner<'_> {
    /// Takes in the calls that have come and lets go those that were held long enough.
    pub(super) fn take_syscalls(&mut self) -> Result<(), Stop> {
        for _ in 0..MOST_AT_ONCE {
            let Some(call) = self.syscalls.as_mut().map(SystemCalls::next).transpose()?.flatten() else {
                break;
            };
            self.take_call(&call)?;
        }
        self.release_late_holds();
        Ok(())
    }

    fn take_call(&mut self, call: &Notification) -> Result<(), Stop> {
        let held = self.judge_side(call).is_some_and(|(pid, by)| self.take_call_of_wrapper(call, pid, by));
        if !held && let Some(calls) = &self.syscalls {
            calls.let_go(call.id)?;
        }
        Ok(())
    }

    /// The process that makes a call, where it counts.
    fn judge_side(&mut self, call: &Notification) -> Option<(i32, Caller)> {
        let pid = scan::leader_of(call.thread)?;
        let stat = scan::stat(pid)?;
        match self.side(&stat, 0) {
            Side::Wrapper(by) => Some((pid, by)),
            Side::Nodes => None,
        }
    }

    /// Writes down a call of the wrapper's side; answers whether it is held.
    fn take_call_of_wrapper(&mut self, call: &Notification, pid: i32, by: Caller) -> bool {
        let Some(kind) = syscalls::kind_of(call.number) else { return false };
        let host = self.host_pid();
        let started = !self.runs.is_empty();
        let Some(calls) = &mut self.syscalls else { return false };
        // Until then it is the harness that gets it ready.
        if by == Caller::Host && !calls.host_executed {
            calls.host_executed = kind == CallKind::Exec;
            return false;
        }
        if kind != CallKind::Close {
            calls.learn_children(pid);
        }
        if !started || kind == CallKind::Clone && !syscalls::creates_process(call) {
            return false;
        }
        let signalled = if kind == CallKind::Kill {
            let strangers = self.strangers_of_the_wrapper();
            let Some(calls) = &self.syscalls else { return false };
            let around = Surroundings {
                caller: pid,
                host,
                warden: std::process::id().cast_signed(),
                children: &calls.children,
                strangers: &strangers,
            };
            match syscalls::signalled(call, &around) {
                Some(signalled) => Some(signalled),
                None => return false,
            }
        } else {
            None
        };
        let Some(calls) = &self.syscalls else { return false };
        // What was read above was the caller's, unless it has died meanwhile.
        if !calls.listener.as_ref().is_some_and(|listener| listener.still_waits(call.id)) {
            return false;
        }
        let runs_fake = kind == CallKind::Exec
            && syscalls::executed_file(call).is_some_and(|file| calls.fakes.contains(&file));
        let (text, signalled) = signalled.map_or_else(Default::default, |(text, who)| (text, Some(who)));
        let (mut held, mut noted) = (false, Vec::new());
        for kind in [Some(kind), runs_fake.then_some(CallKind::ExecChild)].into_iter().flatten() {
            let Some(calls) = &mut self.syscalls else { return false };
            let count = calls.counts.entry(kind).or_default();
            *count += 1;
            let nth = *count;
            let what =
                SystemCall { call: kind, nth, by, pid, text: text.clone(), signalled: signalled.clone() };
            let floods = matches!(kind, CallKind::Close | CallKind::Wait) && nth > syscalls::MOST_NTH;
            if calls.noted < MOST_CALLS && !floods {
                calls.noted += 1;
                self.note(What::SystemCall(what));
            }
            held = self.hold(call, kind, nth) || held;
            noted.push(kind.event(nth));
        }
        for event in noted {
            self.happen(event);
        }
        held
    }

    /// Holds a call where the scenario says so. One whose event has happened already goes on.
    fn hold(&mut self, call: &Notification, kind: CallKind, nth: u32) -> bool {
        let asked = |hold: &&syscalls::Hold| (hold.call, hold.nth) == (kind, nth);
        let Some(hold) = self.case.scenario.holds.iter().find(asked) else { return false };
        let Some(calls) = &mut self.syscalls else { return false };
        let until = hold.until.clone();
        calls.held.push(Held {
            id: call.id,
            thread: call.thread,
            number: call.number,
            call: kind,
            nth,
            until,
            cap: Instant::now() + HOLD_CAP,
        });
        self.note(What::Held { call: kind, nth });
        true
    }

    /// An event has happened: calls that wait for it go on.
    pub(super) fn release_holds(&mut self) {
        if self.syscalls.as_ref().is_none_or(|calls| calls.held.is_empty()) {
            return;
        }
        let now = Instant::now();
        let mut index = 0;
        while let Some(held) = self.syscalls.as_ref().and_then(|calls| calls.held.get(index)) {
            let come = self.has_happened(&held.until);
            if !come && now < held.cap {
                index += 1;
                continue;
            }
            let Some(calls) = &mut self.syscalls else { return };
            let held = calls.held.remove(index);
            let id = held.id;
            if held.call == CallKind::Clone {
                calls.forking.push((held.thread, held.number, now));
            }
            self.note(What::LetGo { call: held.call, nth: held.nth, in_vain: !come });
            let Some(calls) = &self.syscalls else { return };
            // Two holds may be of the same call.
            if !calls.held.iter().any(|other| other.id == id)
                && let Err(error) = calls.let_go(id)
            {
                self.trace.end = CaseEnd::OurFault(format!("a held call could not be let go: {error}"));
            }
        }
    }

    fn release_late_holds(&mut self) {
        let now = Instant::now();
        if self.syscalls.as_ref().is_some_and(|calls| calls.held.iter().any(|held| held.cap <= now)) {
            self.release_holds();
        }
    }

    /// Whether a fork that was held and let go is not done yet, so that whoever it makes cannot be seen.
    pub(super) fn fork_is_under_way(&mut self) -> bool {
        let Some(calls) = &mut self.syscalls else { return false };
        calls.forking.retain(|(thread, number, since)| {
            let place = fs::read_to_string(format!("/proc/{thread}/syscall")).unwrap_or_default();
            let in_it = place.split(' ').next().is_some_and(|word| word.parse() == Ok(*number));
            // In the kernel's words one that has a processor is anywhere.
            (in_it || place.starts_with("running")) && since.elapsed() < FORK_CAP
        });
        !calls.forking.is_empty()
    }

    /// When somebody has to look again although nothing has come.
    pub(super) fn next_call_wakeup(&self) -> Option<Instant> {
        let cap = self.syscalls.as_ref().and_then(|calls| calls.held.iter().map(|held| held.cap).min());
        let free = self.awaits_free_pid().then(|| Instant::now() + LOOK_AGAIN);
        cap.into_iter().chain(free).min()
    }

    fn host_pid(&self) -> i32 {
        self.host.as_ref().map_or(0, |host| host.pid)
    }

    fn strangers_of_the_wrapper(&self) -> Vec<(i32, u64, String)> {
        let strangers = self.nodes.iter().filter(|node| node.hello.run == 0);
        strangers.map(|node| (node.hello.pid, node.hello.start_ticks, node.hello.node.clone())).collect()
    }

    /// On whose side a process is.
    fn side(&mut self, stat: &Stat, depth: usize) -> Side {
        /// How far up helpers of helpers are followed.
        const MOST_HELPERS: usize = 16;
        let (pid, who) = (stat.pid, (stat.pid, stat.start_ticks));
        let on_the_roll = self.nodes.iter().any(|node| (node.hello.pid, node.hello.start_ticks) == who);
        let host = self.host_pid();
        let Some(calls) = &mut self.syscalls else { return Side::Nodes };
        if on_the_roll || calls.nodes_side.contains(&who) {
            return Side::Nodes;
        }
        let image = Image::of(pid);
        if pid == host {
            if calls.host_executed || !calls.watch.has(CallKind::Exec) {
                calls.host_image = image.or(calls.host_image.take());
            }
            return Side::Wrapper(Caller::Host);
        }
        if calls.host_image.is_none() {
            calls.host_image = Image::of(host);
        }
        if image.is_some() && image == calls.host_image {
            return Side::Wrapper(Caller::Fork);
        }
        let runs_fake = image.and_then(|image| image.file).is_some_and(|file| calls.fakes.contains(&file));
        if runs_fake {
            calls.nodes_side.insert(who);
            return Side::Nodes;
        }
        if calls.helpers.contains(&who) {
            return Side::Wrapper(Caller::Helper);
        }
        let parent = if depth < MOST_HELPERS { scan::stat(stat.ppid) } else { None };
        let above = match parent.filter(|parent| parent.pid != std::process::id().cast_signed()) {
            Some(parent) => self.side(&parent, depth + 1),
            // Whose orphan it is cannot be said.
            None => Side::Nodes,
        };
        let Some(calls) = &mut self.syscalls else { return Side::Nodes };
        match above {
            Side::Wrapper(_) => {
                calls.helpers.insert(who);
                Side::Wrapper(Caller::Helper)
            }
            Side::Nodes => Side::Nodes,
        }
    }

    // ---- The stranger ----

    /// Whose pid the stranger is to get: that of a dead node.
    fn to_be_replaced(&self) -> Option<&Hello> {
        let name = self.case.scenario.stranger_with_pid_of.as_ref()?;
        let newest = self.runs.last()?.number;
        let node = self.nodes.iter().find(|node| node.hello.run == newest && node.hello.node == *name)?;
        (node.gone && self.stranger == Stranger::Awaited).then_some(&node.hello)
    }

    fn awaits_free_pid(&self) -> bool {
        self.to_be_replaced().is_some()
    }

    /// Starts the stranger once the pid is free; gives up after a cap.
    pub(super) fn start_stranger(&mut self) -> Result<(), Stop> {
        let Some(&Hello { pid, start_ticks, .. }) = self.to_be_replaced() else { return Ok(()) };
        let since = *self.stranger_since.get_or_insert_with(Instant::now);
        if since.elapsed() > STRANGER_CAP {
            self.stranger = Stranger::GivenUp;
            return Ok(());
        }
        // Two with the same pid that were started in the same tick of the kernel's clock could not be told apart.
        if scan::stat(pid).is_some() || !scan::is_of_an_earlier_tick(start_ticks) {
            return Ok(());
        }
        let play = self.bystander_play();
        match launch::start_stranger(&play, STRANGER, pid, self.place.container) {
            Ok(()) => self.stranger = Stranger::Started,
            // A group or session may keep the number from being given out.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Stop::Fault(format!("a stranger with pid {pid}: {error}"))),
        }
        Ok(())
    }
}

/// How far the stranger is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stranger {
    Awaited,
    Started,
    GivenUp,
}
