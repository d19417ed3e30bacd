//! The nanny: a process between an owner and the child that it runs. It is the child's parent and the subreaper of
//! everything that the child starts, so whoever is orphaned comes to it, whatever session or group that one has moved
//! to; it watches the owner, and when the owner is gone it ends everybody.
//!
//! It is a program of its own without libc and without an allocator. While somebody is left it blocks in one place,
//! `wait`, and never before it has reaped who can be reaped, and signalled who is to be signalled.
//!
//! Arguments: a name for people, the directory to go to (or nothing), the program, and the program's arguments from the
//! zeroth on. The environment is the program's. Descriptors: 0 is the socket to the owner, 1 and 2 are the program's,
//! and the program's stdin comes with the request. With a word and the number of a child instead, it becomes the nanny of
//! that, which executes nothing before 1 is closed. Without arguments it only tries whether all it needs is allowed, and
//! reports that. With one, as the program of another nanny, it only looks at `/proc`, and its exit code says whether that
//! is as it must be.
//!
//! The run may be held by more than the nanny: by a control group, whose switch is the first thing that a kill throws, or
//! by a pid namespace, of which the nanny is the first process. Its own behaviour is the same.

#![no_std]
#![no_main]
#![no_builtins]

mod cgroup;
mod memory;
mod seal;
mod start;
mod sys;
mod table;
mod text;
mod tree;
mod wire;

use core::arch::global_asm;
use core::ffi::{CStr, c_char, c_int};
use core::panic::PanicInfo;
use core::ptr;

use start::Start;
use sys::{
    CLD_KILLED, EAGAIN, ECHILD, EINTR, ENOENT, EPERM, EPROTO, ESRCH, Errno, Fd, Packet, Poll, SIGCONT, SIGKILL, SIGTERM,
};
use table::{Act, Event, State, turn};
use tree::{Member, Walk};
use wire::{AskOrder, Cause, Kind, NAMED, Order, Report, Request, Step};

const SOCKET: Fd = 0;
const FIRST_STRAY: Fd = 3;

/// How many are reaped before the others are signalled again: whoever forks without end must not keep us from that.
const REAPED_AT_ONCE: usize = 64;

const MS: u64 = 1_000_000;
/// After how long without an event to look again, at first…
const FIRST_PAUSE_NS: u64 = MS;
/// …and at most, while those that were asked have time…
const LONGEST_ASKED_PAUSE_NS: u64 = 32 * MS;
/// …and while a death is awaited.
const LONGEST_KILL_PAUSE_NS: u64 = 4096 * MS;

/// The pause after which a nanny gives up that cannot list its children, and has no owner.
const LAST_BLIND_PAUSE_NS: u64 = 1024 * MS;

/// How often those are looked for at most who were noted and not met where they were. Each time somebody is found, or it is over.
const SEARCHES: u32 = 16;

/// For those who are asked by something else.
const BY_NO_SIGNAL: c_int = 0;

/// The exit code of a nanny that has not seen the end of everybody.
const GIVEN_UP: c_int = 70;

/// The number of arguments of a nanny whose child was started before it: the name, a word, the child's number.
const ADOPTING: usize = 3;

/// How long an owner may take from closing the channel to its end.
const OWNERS_LAST_MOMENT_NS: u64 = 100 * MS;

/// What the kernel leaves on the stack of a new program.
///
/// # Safety
/// Called once, by `_start`, with the initial stack pointer.
pub unsafe extern "C" fn begin(stack: *const usize) -> ! {
    // SAFETY: it lies there as the ABI says: a count, that many arguments and a null, then the environment.
    let (count, arguments) = unsafe { (*stack, stack.add(1).cast::<*const c_char>()) };
    /// The name, the directory, the program.
    const OWN: usize = 3;
    /// The name, and a word.
    const LOOK_ONLY: usize = 2;
    if count == LOOK_ONLY {
        sys::exit(look_at_proc().is_err().into())
    }
    let ready = get_ready();
    if count < ADOPTING {
        let ready = ready.and_then(|_| lead_session());
        let report = match ready.and_then(|()| look_at_proc()) {
            Ok(()) => Report { kind: Kind::Empty, ..Report::default() },
            Err((step, errno)) => not_started(step, errno),
        };
        let _ = sys::send(SOCKET, &report.encode());
        sys::exit(0)
    }
    // SAFETY: there are so many arguments, and the environment begins after the null that ends them.
    let (own, rest, environment) =
        unsafe { ([*arguments.add(1), *arguments.add(2)], arguments.add(OWN), arguments.add(count + 1)) };
    let nanny = match ready {
        ready if count == ADOPTING => Ok(adopt(ready, own[1])),
        ready => ready.and_then(|listener| start_child(listener, own, rest, environment)),
    };
    match nanny {
        Ok(mut nanny) => {
            nanny.tell_of_start();
            // SAFETY: the child has its arguments and its environment, and nobody reads these.
            unsafe { forget_start(arguments, environment) };
            nanny.serve()
        }
        Err((step, errno)) => {
            let _ = sys::send(SOCKET, &not_started(step, errno).encode());
            sys::exit(0)
        }
    }
}

/// Forgets what the start has used: the program may have its reasons to hide its arguments and its environment, and a nanny
/// is there, with all its memory, for as long as its run.
///
/// # Safety
/// As the kernel gave them, and not used after this but for the first argument.
#[inline(never)]
unsafe fn forget_start(arguments: *const *const c_char, environment: *const *const c_char) {
    /// More than the deepest call up to now has used.
    const STACK: usize = 64 * 1024;
    /// What the next call may be using.
    const IN_USE: usize = 1024;
    // SAFETY: there are two arguments at least; the arrays end with null pointers, and their strings lie in their order, in
    // one piece, and may be written.
    unsafe {
        let first = *arguments.add(1);
        let mut last = first;
        for mut array in [arguments.add(1), environment] {
            while !(*array).is_null() {
                last = *array;
                array = array.add(1);
            }
        }
        let end = last.add(CStr::from_ptr(last).count_bytes());
        let length = end as usize - first as usize;
        core::slice::from_raw_parts_mut(first.cast_mut().cast::<u8>(), length).fill(0);
        sys::forget(first as usize, end as usize);
        // Below the frames of those who wait for this call nothing is alive.
        let here = ptr::from_ref(&last) as usize - IN_USE;
        sys::forget(here - STACK, here);
    }
}

fn not_started(step: Step, errno: Errno) -> Report {
    Report { kind: Kind::NotStarted, step, errno: errno.into(), ..Report::default() }
}

/// Everything before the request. Gives what becomes readable when a child has ended.
fn get_ready() -> Result<Fd, (Step, Errno)> {
    let at = |step| move |errno| (step, errno);
    sys::block_all_signals().map_err(at(Step::Mask))?;
    sys::set_name(c"nanny");
    sys::become_subreaper().map_err(at(Step::Subreaper))?;
    // Whoever stops its parent stops us, and then we would not notice that the owner is gone.
    sys::go_on_without_parent().map_err(at(Step::Tie))?;
    sys::close_range(FIRST_STRAY, Fd::MAX).map_err(at(Step::Close))?;
    sys::restore_dispositions().map_err(at(Step::Dispositions))?;
    loop {
        let listener = sys::listen_for_children().map_err(at(Step::Listen))?;
        if listener >= FIRST_STRAY {
            return Ok(listener);
        }
        // The program was not given this stream, and nothing of ours may take its place.
        let nothing = sys::open_to_write(sys::HERE, c"/dev/null").map_err(at(Step::Streams))?;
        sys::duplicate_to(nothing, listener).map_err(at(Step::Streams))?;
        sys::close(nothing);
    }
}

/// A session of its own, so that no signal to the owner's group or terminal, or to the child's group, reaches it. Whoever
/// adopts leads one already.
fn lead_session() -> Result<(), (Step, Errno)> {
    sys::lead_session().map_err(|errno| (Step::Session, errno))
}

fn look_at_proc() -> Result<(), (Step, Errno)> {
    tree::look_for_self().map_err(|errno| (Step::OwnProc, errno))?;
    tree::open_children_of_self().map(sys::close).map_err(|errno| (Step::Children, errno))
}

fn start_child(
    listener: Fd,
    own: [*const c_char; 2],
    arguments: *const *const c_char,
    environment: *const *const c_char,
) -> Result<Nanny, (Step, Errno)> {
    let at = |step| move |errno| (step, errno);
    let (request, [owner, stdin, third]) = sys::receive_request(SOCKET).map_err(at(Step::Receive))?;
    let is = |wanted| request == wanted as u8;
    let has_third = is(Request::StartInCgroup) || is(Request::StartInForeground);
    let is_known = has_third || is(Request::Start) || is(Request::StartSealed);
    if !is_known || owner < 0 || stdin < 0 || has_third && third < 0 {
        return Err((Step::Receive, EPROTO));
    }
    let cgroup = if is(Request::StartInCgroup) { third } else { -1 };
    let terminal = if is(Request::StartInForeground) { third } else { -1 };
    if terminal < 0 {
        lead_session()?;
    } else {
        // A terminal is that of one session. What is sent to its foreground does not come here, and all but a kill or a stop
        // is blocked.
        sys::lead_group().map_err(at(Step::Group))?;
    }
    // Nothing is started before the owner is watched, and nothing for an owner that is gone.
    match sys::poll(&mut [Poll::readable(owner)], Some(0)) {
        Ok(0) => {}
        Ok(_) => return Err((Step::Owner, ESRCH)),
        Err(errno) => return Err((Step::Owner, errno)),
    }
    let owners_proc = if is(Request::StartSealed) { seal::enter()? } else { -1 };
    let leader = Start::new(own, arguments, environment, [stdin, cgroup, terminal]).carry_out()?;
    // The program's descriptors are none of ours: whoever waits for their end must not wait for us.
    for fd in [1, 2, stdin, terminal] {
        sys::close(fd);
    }
    // Nor is its directory. If there is no such directory we stay, which hurts nobody.
    let _ = sys::change_directory(c"/");
    let leads_session = terminal < 0;
    Ok(Nanny::new(leader, owner, listener, Bounds { cgroup, owners_proc, leads_session }))
}

/// What holds the run besides the nanny.
struct Bounds {
    /// The directory of its control group. Negative if there is none.
    cgroup: Fd,
    /// The `/proc` of the owner's pid namespace, if the run is in another one; else negative.
    owners_proc: Fd,
    /// Whether everybody who does not leave it is in a session of the nanny's own.
    leads_session: bool,
}

impl Bounds {
    /// The number that the owner knows a child by.
    fn number_outside(&self, number: c_int) -> u64 {
        if self.owners_proc < 0 { number as u64 } else { seal::number_outside(self.owners_proc, number) }
    }
}

/// Becomes the nanny of a child that was there before. Whatever is amiss from here on, the child must end.
fn adopt(ready: Result<Fd, (Step, Errno)>, number: *const c_char) -> Nanny {
    // SAFETY: it is an argument, which the kernel has put there.
    let number = unsafe { CStr::from_ptr(number) }.to_bytes();
    let leader = number.iter().fold(0, |number: c_int, digit| {
        number.wrapping_mul(10).wrapping_add(c_int::from(digit.wrapping_sub(b'0')))
    });
    let ready = ready.and_then(|listener| match sys::receive_request(SOCKET) {
        Ok((request, [owner, cgroup, _])) if request == Request::Adopt as u8 && owner >= 0 => {
            Ok((listener, owner, cgroup))
        }
        Ok(_) => Err((Step::Receive, EPROTO)),
        Err(errno) => Err((Step::Receive, errno)),
    });
    // A hook of the command's may have gone where there is none.
    let ready = ready.and_then(|request| look_at_proc().map(|()| request));
    // The program waits for the end of what is our stdout, and must not run if it cannot be held.
    if ready.is_err() {
        let _ = sys::signal(leader, SIGKILL);
    }
    for fd in [1, 2] {
        sys::close(fd);
    }
    let _ = sys::change_directory(c"/");
    match ready {
        Ok((listener, owner, cgroup)) => {
            Nanny::new(leader, owner, listener, Bounds { cgroup, owners_proc: -1, leads_session: true })
        }
        Err((step, errno)) => {
            let bounds = Bounds { cgroup: -1, owners_proc: -1, leads_session: true };
            let mut nanny = Nanny::new(leader, -1, -1, bounds);
            (nanny.report.step, nanny.report.errno) = (step, errno.into());
            nanny
        }
    }
}

struct Nanny {
    state: State,
    leader: c_int,
    socket: Fd,
    owner: Fd,
    listener: Fd,
    bounds: Bounds,
    report: Report,
    told: Report,
    /// When to look again without an event, and the pause after that.
    look_again_ns: Option<u64>,
    pause_ns: u64,
    /// By what everybody is asked; 0 for what is no signal.
    signal: c_int,
    /// When those that were asked have had their time.
    grace_over_ns: Option<u64>,
    /// There may be somebody to reap of whom we will not hear again.
    unreaped: bool,
    /// There is no list of children any more.
    is_blind: bool,
}

impl Nanny {
    fn new(leader: c_int, owner: Fd, listener: Fd, bounds: Bounds) -> Self {
        let known_as = bounds.number_outside(leader);
        let report = Report { kind: Kind::Started, leader: known_as, ..Report::default() };
        let told = Report::default();
        let state = State::Running;
        let (look_again_ns, pause_ns) = (None, FIRST_PAUSE_NS);
        let (socket, unreaped, is_blind) = (SOCKET, false, false);
        let (signal, grace_over_ns) = (SIGTERM, None);
        Self {
            state,
            leader,
            socket,
            owner,
            listener,
            bounds,
            report,
            told,
            look_again_ns,
            pause_ns,
            signal,
            grace_over_ns,
            unreaped,
            is_blind,
        }
    }

    /// An owner that does not get to know of its child cannot want it. Nor can it want one that was adopted in vain.
    fn tell_of_start(&mut self) {
        let told = match self.report.errno {
            0 => self.introduce().map_err(|errno| (Step::Tell, errno.into())),
            errno => Err((self.report.step, errno)),
        };
        self.report.kind = Kind::Going;
        self.told = self.report;
        if let Err(lack) = told {
            (self.report.step, self.report.errno) = lack;
            self.happen(Event::OwnerGone);
        }
    }

    fn serve(&mut self) -> ! {
        loop {
            self.notice_ends();
            if self.state == State::Empty {
                self.tidy_up();
                sys::exit(0)
            }
            self.wait();
        }
    }

    /// Sends the first report; of a nanny that is the first of its pid namespace with a handle of that nanny, of one that leads
    /// no session with a handle of the child: it is by these that everybody is found who is left when the nanny is killed.
    fn introduce(&self) -> Result<(), Errno> {
        let report = self.report.encode();
        let whose = match (self.bounds.owners_proc, self.bounds.leads_session) {
            (0.., _) => sys::own_number(),
            (_, false) => self.leader,
            (_, true) => return sys::send(self.socket, &report),
        };
        let handle = sys::open_handle(whose)?;
        let sent = sys::send_with(self.socket, &report, handle);
        sys::close(handle);
        sent
    }

    /// Removes the control group if nobody else will: the owner keeps it for another run.
    fn tidy_up(&self) {
        if self.bounds.cgroup >= 0 && (self.socket < 0 || self.owner < 0) {
            // An owner that dies closes the channel a moment before it is dead. One that only let go of us keeps what it has.
            let wait = || sys::poll(&mut [Poll::readable(self.owner)], Some(OWNERS_LAST_MOMENT_NS));
            cgroup::remove(self.bounds.cgroup, self.owner < 0 || wait() != Ok(0));
        }
    }

    fn happen(&mut self, event: Event) {
        let (next, acts) = turn(self.state, event);
        if next != self.state {
            self.state = next;
            if next == State::Killing {
                self.grace_over_ns = None;
                self.report.killed_because = match event {
                    Event::LeaderEnded => Cause::LeaderEnded,
                    Event::GraceOver => Cause::GraceOver,
                    Event::KillOrdered => Cause::Ordered,
                    _ => Cause::OwnerGone,
                };
            }
            self.pause_ns = FIRST_PAUSE_NS;
            self.look_again_ns = Some(sys::now_ns() + self.pause_ns);
        }
        for act in acts {
            match act {
                Act::AskEverybody => self.ask(true),
                Act::AskNewcomers => self.ask(false),
                Act::Kill => self.kill(false),
                Act::KillEverybody => self.kill_everybody(),
                Act::Tell => self.tell(),
            }
        }
    }

    /// Reaps who has ended.
    fn notice_ends(&mut self) {
        let mut somebody = false;
        self.unreaped = true;
        for _ in 0..REAPED_AT_ONCE {
            match sys::find_ended() {
                Ok(Some(pid)) if pid == self.leader => self.leader_ended(),
                Ok(Some(pid)) => {
                    somebody = true;
                    self.reap(pid, self.state == State::Killing);
                }
                Err(ECHILD) => return self.happen(Event::NobodyLeft),
                Ok(None) => {
                    self.unreaped = false;
                    break;
                }
                Err(_) => {
                    // It cannot fail for any other reason that we know of.
                    self.unreaped = false;
                    self.look_again_ns = Some(sys::now_ns() + self.pause_ns);
                    break;
                }
            }
        }
        if somebody {
            self.happen(Event::ChildEnded);
        }
    }

    fn leader_ended(&mut self) {
        self.report.ended_ns = sys::now_ns();
        self.report.ended_after_signal = (self.state != State::Running).into();
        // Whoever ends before we kill was killed by somebody else.
        let by_us = self.state == State::Killing;
        // Before it is reaped: its group is surely its group only as long as it is there.
        self.happen(Event::LeaderEnded);
        if let Some(ended) = self.reap(self.leader, by_us) {
            self.report.code = ended.code;
            self.report.status = ended.status;
            self.report.user_us = ended.user_us;
            self.report.system_us = ended.system_us;
            self.report.peak_kib = ended.peak_kib;
        }
        // No number is negative, so nobody else is taken for the leader.
        self.leader = -1;
    }

    fn reap(&mut self, pid: c_int, by_us: bool) -> Option<sys::Ended> {
        // It has a number there only as long as it is not reaped.
        let is_to_be_named = by_us && self.report.killed.count < NAMED as u64;
        let known_as = if is_to_be_named { self.bounds.number_outside(pid) } else { 0 };
        let ended = sys::reap(pid).ok()?;
        memory::REACHED.remove(pid);
        memory::ASKED.remove(pid);
        memory::KILLED.remove(pid);
        if by_us && ended.code == CLD_KILLED && ended.status == SIGKILL as u64 {
            self.report.killed.add(known_as);
        }
        Some(ended)
    }

    /// Asks the children that were not asked yet, and if so wanted everybody below them.
    fn ask(&mut self, everybody: bool) {
        if self.report.asked_ns == 0 {
            self.report.asked_ns = sys::now_ns();
        } else if everybody {
            // As often as there is something new to ask.
            memory::REACHED.clear();
            memory::NOTED.clear();
            self.report.not_asked = 0;
        }
        let (report, bounds, signal) = (&mut self.report, &self.bounds, self.signal);
        // How many were noted whom the walk did not come to since.
        let mut missed = 0;
        let listed = tree::each_child(|number| {
            if memory::REACHED.contains(number) {
                return;
            }
            // By its number, which is its own until we reap it.
            let send = |signal| sys::signal(number, signal);
            let Some(child) = tree::look_at_child(number) else {
                ask_one((number, b'?'), signal, send, bounds, report);
                report.not_asked += u64::from(everybody);
                return;
            };
            if !everybody {
                ask_one((number, child.state), signal, send, bounds, report);
                return;
            }
            // Before it is asked: whom it forks when it heeds that is its own business.
            let noted = tree::note_children(&child);
            report.not_asked += noted.unseen;
            missed += noted.new;
            // It may have been noted itself, below another.
            missed -= u64::from(memory::NOTED.contains(number)).min(missed);
            ask_one((number, child.state), signal, send, bounds, report);
            if noted.children == 0 {
                return;
            }
            report.not_asked += tree::each_below(&child, Walk::Noted, &mut |member| {
                ask_member(member, signal, bounds, report, &mut missed) > 0
            });
        });
        // Whoever lost its parent since it was noted may stand below another who was passed by then.
        for _ in 0..SEARCHES {
            if missed == 0 {
                break;
            }
            let mut found = false;
            // What cannot be looked at now was counted before.
            let _ = tree::each_child(|number| {
                let Some(child) = tree::look_at_child(number) else { return };
                tree::each_below(&child, Walk::Noted, &mut |member| {
                    if !memory::REACHED.contains(member.number) {
                        found = true;
                        ask_member(member, signal, bounds, report, &mut missed);
                    }
                    true
                });
            });
            // The others are gone.
            if !found {
                break;
            }
        }
        if listed.is_err() {
            report.not_asked += 1;
        }
        if signal == BY_NO_SIGNAL {
            // Nobody knows who hears it.
            report.not_asked = 0;
        }
    }

    /// Kills the children and the groups that they lead. A child's number is its own until it is reaped, and with that
    /// the number of its group.
    fn kill(&mut self, also_again: bool) {
        if self.report.killed_ns == 0 {
            self.report.killed_ns = sys::now_ns();
            self.kill_cgroup();
        }
        if self.leader > 0 {
            let _ = sys::signal(-self.leader, SIGKILL);
            // Without /proc nobody is listed, and it may have left its group.
            let _ = sys::signal(self.leader, SIGKILL);
        }
        let _ = tree::each_child(|number| {
            if !memory::KILLED.insert(number) && !also_again {
                return;
            }
            // What fails shows as somebody who is left.
            let _ = sys::signal(-number, SIGKILL);
            let _ = sys::signal(number, SIGKILL);
        });
    }

    fn kill_cgroup(&mut self) {
        if cgroup::kill(self.bounds.cgroup) {
            self.report.cgroup_killed = 1;
        }
    }

    fn kill_everybody(&mut self) {
        self.kill(true);
        // Somebody may have come back to it.
        self.kill_cgroup();
        let listed = tree::each_child(|number| {
            let Some(child) = tree::look_at_child(number) else { return };
            tree::each_below(&child, Walk::Everybody, &mut |member| {
                let _ = sys::signal_group_by_handle(member.handle, SIGKILL);
                let _ = sys::signal_by_handle(member.handle, SIGKILL);
                true
            });
        });
        self.is_blind = listed == Err(ENOENT);
    }

    fn tell(&mut self) {
        if self.state == State::Empty {
            self.report.kind = Kind::Empty;
            self.report.empty_ns = sys::now_ns();
            self.report.left = Default::default();
        } else if self.state == State::Killing {
            self.count_left();
        }
        if self.report == self.told {
            return;
        }
        let packet = self.report.encode();
        let mut sent = sys::send(self.socket, &packet);
        // An owner that was stopped may have left the channel full. What comes later replaces all of that but the last.
        while self.state == State::Empty && sent == Err(EAGAIN) && self.owner >= 0 {
            let mut polls = [Poll::writable(self.socket), Poll::readable(self.owner)];
            let waited = sys::poll(&mut polls, None);
            if polls[1].is_ready() || !matches!(waited, Ok(_) | Err(EINTR)) {
                return;
            }
            sent = sys::send(self.socket, &packet);
        }
        if sent.is_ok() {
            self.told = self.report;
        }
    }

    fn count_left(&mut self) {
        let mut left = wire::Some8::default();
        let mut why = [0; NAMED];
        let _ = tree::each_child(|number| {
            let place = usize::try_from(left.count).ok().and_then(|at| why.get_mut(at));
            if let Some(place) = place {
                *place = why_alive(number).into();
            }
            left.add(self.bounds.number_outside(number));
        });
        self.report.left = left;
        self.report.why = why;
    }

    /// The only place where the nanny blocks while somebody is left.
    fn wait(&mut self) {
        let at_most = match [self.look_again_ns, self.grace_over_ns].into_iter().flatten().min() {
            _ if self.unreaped => Some(0),
            due => due.map(|due| due.saturating_sub(sys::now_ns())),
        };
        let mut polls = [self.socket, self.owner, self.listener].map(Poll::readable);
        match sys::poll(&mut polls, at_most) {
            Ok(_) => {}
            Err(EINTR) => return,
            // It cannot fail for any reason that we know of. Then better no run than one that nobody watches.
            Err(_) => return self.happen(Event::OwnerGone),
        }
        let [socket, owner, listener] = polls;
        if listener.is_ready() {
            sys::clear(self.listener);
            // Who came first is settled here: an end that was there before an order is an end by itself.
            self.notice_ends();
        }
        if owner.is_ready() {
            self.owner = -1;
            self.happen(Event::OwnerGone);
        }
        if socket.is_ready() {
            self.read_orders();
        }
        self.look_again();
    }

    fn read_orders(&mut self) {
        loop {
            match sys::receive(self.socket) {
                Packet::Order(order) if order[0] == Order::Ask as u8 => {
                    // Who came first is settled here as well: it may have ended since we looked.
                    self.notice_ends();
                    if matches!(self.state, State::Running | State::Asked) {
                        let AskOrder { signal, grace_ns } = AskOrder::decode(order);
                        self.signal = signal.into();
                        self.happen(Event::AskOrdered);
                        // From here, so that everybody has all of it.
                        self.grace_over_ns = sys::now_ns().checked_add(grace_ns);
                        if self.signal == BY_NO_SIGNAL {
                            // It ends their input once it knows that whoever ends from here on was asked to.
                            self.tell();
                        }
                    }
                }
                Packet::Order([order, ..]) if order == Order::Kill as u8 => {
                    self.notice_ends();
                    self.happen(Event::KillOrdered);
                }
                Packet::Order(_) => {}
                Packet::NothingYet => return,
                Packet::End => {
                    self.socket = -1;
                    return self.happen(Event::OwnerGone);
                }
            }
        }
    }

    fn look_again(&mut self) {
        let now = sys::now_ns();
        if self.grace_over_ns.is_some_and(|due| due <= now) {
            self.grace_over_ns = None;
            self.happen(Event::GraceOver);
        }
        if self.look_again_ns.is_none_or(|due| due > now) {
            return;
        }
        self.happen(Event::TimePassed);
        let longest = match self.state {
            State::Asked => LONGEST_ASKED_PAUSE_NS,
            State::Killing | State::Empty => LONGEST_KILL_PAUSE_NS,
            State::Running => return self.look_again_ns = None,
        };
        let nobody_cares = self.owner < 0 || self.socket < 0;
        if self.is_blind && self.leader < 0 && nobody_cares && self.pause_ns >= LAST_BLIND_PAUSE_NS {
            // Whoever is left cannot be found, and whoever is told of it is gone.
            sys::exit(GIVEN_UP)
        }
        self.pause_ns = (self.pause_ns * 2).min(longest);
        self.look_again_ns = Some(now + self.pause_ns);
    }
}

/// Asks somebody who was noted below a child, and counts how many of those are still missed. Returns how many children it had before.
fn ask_member(
    member: &Member,
    signal: c_int,
    bounds: &Bounds,
    report: &mut Report,
    missed: &mut u64,
) -> u64 {
    let noted = tree::note_children(member);
    report.not_asked += noted.unseen;
    let is_met = !memory::REACHED.contains(member.number);
    *missed = (*missed + noted.new).saturating_sub(is_met.into());
    let send = |signal| sys::signal_by_handle(member.handle, signal);
    ask_one((member.number, member.state), signal, send, bounds, report);
    noted.children
}

fn ask_one(
    (number, state): (c_int, u8),
    signal: c_int,
    send: impl Fn(c_int) -> Result<(), Errno>,
    bounds: &Bounds,
    report: &mut Report,
) {
    const ZOMBIE: u8 = b'Z';
    // The state of a process is a zombie's already when its first thread has ended, so it does not spare the signal.
    if !memory::REACHED.insert(number) {
        return;
    }
    if signal == BY_NO_SIGNAL {
        let _ = send(SIGCONT);
        return;
    }
    let is_new = memory::ASKED.insert(number);
    // Before it may obey, and be gone.
    let is_to_be_named = is_new && report.asked.count < NAMED as u64;
    let known_as = if is_to_be_named { bounds.number_outside(number) } else { 0 };
    let asked = send(signal);
    // A stopped process would not notice.
    let _ = send(SIGCONT);
    match asked {
        Ok(()) if state != ZOMBIE && is_new => report.asked.add(known_as),
        Ok(()) | Err(ESRCH) => {}
        Err(_) => report.not_asked += 1,
    }
}

/// The letter of its state, or `P` for a child that we may not signal.
fn why_alive(number: c_int) -> u8 {
    match sys::signal(number, 0) {
        Err(EPERM) => b'P',
        _ => tree::look_at_child(number).map_or(b'?', |child| child.state),
    }
}

// Nothing unwinds here, but the linker looks for this where the core library's own functions mention it.
global_asm!(".globl rust_eh_personality", ".set rust_eh_personality, 0");

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    // The owner sees the nanny gone without a last report, and sweeps.
    sys::exit(GIVEN_UP)
}
