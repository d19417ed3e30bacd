//! A nanny and the channel to it. What it says is in `nanny/wire.rs`, which is compiled into both.

use std::ffi::{CStr, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, FdFlags, IoSlice, IoSliceMut, fcntl_getfd};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg, send, sendmsg, socketpair,
};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, getpid, kill_process, pidfd_open, pidfd_send_signal,
    waitid,
};
use rustix::time::{ClockId, clock_gettime};

use super::adoption::Adoption;
use super::birth::{Newborn, NotStarted, Strings, environment, failed, start_helper};
use super::group::{OrphanedSession, is_alive, signal_group_by_handle, signal_of, sweep_session};
use super::image::Image;
use super::pipe::ChildEnd;
use super::poller::{Poller, Token, Watch};
use super::wire::{AskOrder, Kind, Order, REPORT_BYTES, Report, Request};
use crate::plan::Ask;

/// What people see in a list of processes before the arguments of the program.
pub(super) const NAME: &CStr = c"childminder-nanny";

const CHANNEL: &str = "make the channel to the nanny";

/// The longest that a start waits for the nanny's answer. The program may lie on a slow disk, the machine may be busy.
const START_BOUND: Duration = Duration::from_secs(60);

/// The longest that a failed start waits for a nanny that was killed because of it.
const FAILED_START_BOUND: Duration = Duration::from_secs(2);

/// What a nanny is to start.
#[derive(Debug)]
pub(crate) struct Errand<'a> {
    pub(crate) program: &'a OsStr,
    pub(crate) arguments: Vec<&'a OsStr>,
    /// Whether the child has nothing of the owner's environment.
    pub(crate) clear_environment: bool,
    /// What it has besides, and what it has not (`None`).
    pub(crate) environment: Vec<(&'a OsStr, Option<&'a OsStr>)>,
    pub(crate) directory: Option<&'a Path>,
    pub(crate) stdin: ChildEnd,
    pub(crate) stdout: ChildEnd,
    pub(crate) stderr: ChildEnd,
    pub(crate) within: Within<'a>,
}

/// What holds a run besides its nanny.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Within<'a> {
    Nothing,
    /// The control group with this directory.
    Cgroup(BorrowedFd<'a>),
    /// A pid namespace.
    Namespace,
    /// Nothing, and it has this terminal.
    Foreground(BorrowedFd<'a>),
}

/// Executes a nanny that starts nobody and only says whether it could.
pub(super) fn try_out(image: &Image) -> Result<(), NotStarted> {
    let (ours, theirs) = make_channel()?;
    let mut arguments = Strings::default();
    arguments.push(&[OsStr::from_bytes(NAME.to_bytes())]).map_err(failed("name it"))?;
    let ends = [ChildEnd::Fd(theirs), ChildEnd::Null, ChildEnd::Null];
    let process = start_helper(&image.path(), arguments, Strings::default(), ends)?;
    let answer = first_report(&ours, None);
    reap_failed(process, ours);
    answer.map(drop)
}

/// Has a nanny start its own program, which tries whether it is allowed what it needs where it is held like this.
pub(super) fn rehearse(image: &Image, within: Within<'_>) -> Result<(), NotStarted> {
    const DOING: &str = "try it out";
    let poller = Arc::new(Poller::new().map_err(failed(DOING))?);
    let errand = Errand {
        program: OsStr::new("/proc/self/exe"),
        arguments: vec![OsStr::new("look")],
        clear_environment: true,
        environment: Vec::new(),
        directory: None,
        stdin: ChildEnd::Null,
        stdout: ChildEnd::Null,
        stderr: ChildEnd::Null,
        within,
    };
    let mut nanny = Nanny::start(image, errand, &poller, 0)?;
    let deadline = Instant::now() + START_BOUND;
    let mut ready = Vec::new();
    while !nanny.is_gone() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            if let Some(pidfd) = &nanny.pidfd {
                let _ = pidfd_send_signal(pidfd, Signal::KILL);
                has_ended_within(nanny.pid, FAILED_START_BOUND);
            }
            nanny.reap();
            return Err(failed(DOING)(io::ErrorKind::TimedOut.into()));
        }
        poller.wait(&mut ready, Some(left)).map_err(failed(DOING))?;
        nanny.listen();
    }
    nanny.reap();
    match nanny.report().exit_status() {
        Some(status) if status.success() && !nanny.is_lost() => Ok(()),
        Some(status) => Err(failed(DOING)(io::Error::other(format!("it ended with {status}")))),
        None => Err(failed(DOING)(io::Error::other("it was killed"))),
    }
}

/// Whether a run can be held by a pid namespace. It is tried once in a process.
pub(crate) fn namespaces(image: &Image) -> Result<(), &'static str> {
    static TRIED: OnceLock<Result<(), String>> = OnceLock::new();
    let try_out = || {
        rehearse(image, Within::Namespace)
            .map_err(|NotStarted { doing, error }| format!("cannot {doing}: {error}"))
    };
    TRIED.get_or_init(try_out).as_ref().copied().map_err(String::as_str)
}

fn make_channel() -> Result<(OwnedFd, OwnedFd), NotStarted> {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(|error| failed(CHANNEL)(error.into()))
}

/// A nanny that has started the child.
#[derive(Debug)]
pub(crate) struct Nanny {
    pid: Pid,
    /// Reports the nanny's own end. `None` if it was gone before anybody could take hold of it, which happens to owners
    /// that ignore SIGCHLD or wait for any child.
    pidfd: Option<Watch>,
    channel: Watch,
    /// The first process of the run's pid namespace, if it has one, whose end is not over before everybody's in it; or the
    /// child, if it is in the foreground.
    first: Option<OwnedFd>,
    channel_ended: bool,
    is_gone: bool,
    leader: u32,
    /// The last one that said more than that the child was started. Boxed, because most of the time there is none, and it
    /// is larger than all the rest of a run.
    report: Option<Box<Report>>,
}

impl Nanny {
    /// Starts a nanny, and waits until it has started the child or could not.
    pub(crate) fn start(
        image: &Image,
        errand: Errand<'_>,
        poller: &Arc<Poller>,
        token: Token,
    ) -> Result<Self, NotStarted> {
        let (ours, theirs) = make_channel()?;
        // The request waits in the channel, so the nanny need not wait for it.
        request_start(&ours, &errand).map_err(failed(CHANNEL))?;
        let process = spawn(image, errand, theirs)?;
        Self::take_hold(process, ours, poller, token)
    }

    /// Starts a command of the standard library's, and makes the process that this forks the nanny.
    pub(crate) fn adopt(
        image: &Image,
        command: &mut Command,
        adoption: &mut Adoption,
        within: Within<'_>,
        poller: &Arc<Poller>,
        token: Token,
    ) -> Result<Self, NotStarted> {
        let cgroup = match within {
            Within::Nothing => None,
            Within::Cgroup(directory) => Some(directory),
            // The forked process is in the owner's namespace already, and leads a session before it knows of a terminal.
            Within::Namespace | Within::Foreground(_) => {
                return Err(failed("do that for a command that was made elsewhere")(
                    io::ErrorKind::Unsupported.into(),
                ));
            }
        };
        let (ours, theirs) = make_channel()?;
        let owner = own_pidfd().map_err(failed(CHANNEL))?;
        let mut fds = vec![owner.as_fd()];
        fds.extend(cgroup);
        send_request(&ours, Request::Adopt, &fds).map_err(failed(CHANNEL))?;
        let process = adoption
            .with_hook(command, [theirs.as_fd(), image.as_fd()], cgroup, Command::spawn)
            .map_err(failed("make the processes and execute the program"))?;
        drop(theirs);
        Self::take_hold(process.into(), ours, poller, token)
    }

    fn take_hold(
        mut process: Newborn,
        channel: OwnedFd,
        poller: &Arc<Poller>,
        token: Token,
    ) -> Result<Self, NotStarted> {
        const HOLD: &str = "take hold of the nanny";
        let opened = handle_of_child(&mut process);
        let (pid, pidfd) = match opened {
            Ok(opened) => opened,
            Err(error) => return Err(give_up(process, channel, failed(HOLD)(error))),
        };
        let (report, first) = match first_report(&channel, pidfd.as_ref()) {
            Ok(answer) => answer,
            Err(lack) => return Err(give_up(process, channel, lack)),
        };
        let pidfd = match pidfd.map(|pidfd| Watch::readable(poller, pidfd, token)).transpose() {
            Ok(pidfd) => pidfd,
            Err(error) => return Err(give_up(process, channel, failed(HOLD)(error))),
        };
        let channel = match Watch::readable(poller, channel, token) {
            Ok(channel) => channel,
            // That has closed the channel.
            Err(error) => return Err(give_up(process, (), failed(HOLD)(error))),
        };
        let (channel_ended, is_gone) = (false, pidfd.is_none());
        let leader = u32::try_from(report.leader).unwrap_or(0);
        let report =
            (report != Report { leader: report.leader, ..Report::default() }).then(|| Box::new(report));
        Ok(Self { pid, pidfd, channel, first, channel_ended, is_gone, leader, report })
    }

    /// The number of the child.
    pub(crate) fn leader(&self) -> u32 {
        self.leader
    }

    /// Takes in what the nanny has said, and whether it is gone.
    pub(crate) fn listen(&mut self) {
        // In this order: whoever is gone has said everything.
        self.is_gone = self.is_gone || !self.pidfd.as_ref().is_some_and(is_alive);
        while !self.channel_ended {
            let mut packet = [0; REPORT_BYTES];
            match recv(&self.channel, &mut packet, RecvFlags::DONTWAIT) {
                Ok((length @ 1.., _)) => {
                    if let Some(report) = packet.get(..length).and_then(Report::decode) {
                        self.report = Some(Box::new(report));
                    }
                }
                // A nanny that leaves with an order unread resets the channel, and that is told first, once.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                Err(Errno::AGAIN) => break,
                Ok((0, _)) | Err(_) => {
                    self.channel_ended = true;
                    // It would be reported for ever from now on.
                    self.channel.pause();
                }
            }
        }
        if let Some(pidfd) = self.pidfd.as_mut().filter(|_| self.is_gone) {
            pidfd.pause();
        }
    }

    /// What the nanny has said last.
    pub(crate) fn report(&self) -> &Report {
        static NOTHING_YET: LazyLock<Report> = LazyLock::new(Report::default);
        self.report.as_deref().unwrap_or(&NOTHING_YET)
    }

    /// Whether the nanny has ended.
    pub(crate) fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// Whether the nanny has ended without having seen the end of everybody.
    pub(crate) fn is_lost(&self) -> bool {
        self.is_gone && self.report().kind != Kind::Empty
    }

    /// Has everybody asked to end, and killed when the grace is over, if there is one.
    pub(crate) fn order_to_ask(&self, ask: Ask, grace: Option<Duration>) {
        let signal = signal_of(ask).map_or(0, Signal::as_raw);
        let grace = grace.unwrap_or(Duration::MAX);
        let order = AskOrder {
            signal: u8::try_from(signal).expect("a signal's number is small"),
            grace_ns: u64::try_from(grace.as_nanos()).unwrap_or(u64::MAX),
        };
        self.order(&order.encode());
    }

    /// Has everybody killed.
    pub(crate) fn order_to_kill(&self) {
        self.order(&[Order::Kill as u8]);
    }

    /// An order to a nanny that is gone is lost.
    fn order(&self, order: &[u8]) {
        let _ = send(&self.channel, order, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        // The only signal but for a kill that it cannot keep off is a stop, and who sends that to its parent hits it.
        if let Some(pidfd) = &self.pidfd {
            let _ = pidfd_send_signal(pidfd, Signal::CONT);
        }
    }

    /// Reaps a nanny that is gone.
    pub(crate) fn reap(&mut self) {
        // By its handle: it may have been reaped by somebody else in this process, and its number be another child's.
        if let Some(pidfd) = &self.pidfd {
            let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        }
    }

    /// Kills everybody in the run's pid namespace. Returns whether they are gone; `None` if there is none.
    pub(crate) fn kill_namespace(&self) -> Option<bool> {
        let first = self.first.as_ref()?;
        // The outer nanny's death kills it as well, and may have done so.
        let _ = pidfd_send_signal(first, Signal::KILL);
        Some(!is_alive(first))
    }

    /// Kills the child and, since Linux 6.9, its group. Returns whether it is gone; `None` if its handle did not come.
    pub(crate) fn kill_child(&self) -> Option<bool> {
        let child = self.first.as_ref()?;
        signal_group_by_handle(child, Signal::KILL);
        let _ = pidfd_send_signal(child, Signal::KILL);
        Some(!is_alive(child))
    }

    /// The session in which the nanny and its child were. `None` if the nanny is reaped, because then its number may be
    /// that of a stranger's session.
    pub(crate) fn session(&self) -> Option<OrphanedSession> {
        let pidfd = self.pidfd.as_ref()?;
        // Also if nothing is told of it, as long as somebody traces it.
        let is_unreaped = waitid(WaitId::PidFd(pidfd.as_fd()), LOOK).is_ok();
        is_unreaped.then(|| OrphanedSession::led_by(self.pid, pidfd.poller()))
    }
}

impl Report {
    /// The child's end, if it has ended.
    pub(crate) fn exit_status(&self) -> Option<ExitStatus> {
        const CLD_EXITED: u64 = 1;
        const CLD_DUMPED: u64 = 3;
        const CORE_DUMPED: i32 = 0x80;
        let status = i32::try_from(self.status).ok().filter(|_| self.code != 0)?;
        Some(ExitStatus::from_raw(match self.code {
            CLD_EXITED => (status & 0xff) << 8,
            CLD_DUMPED => status | CORE_DUMPED,
            _ => status,
        }))
    }
}

/// Translates an instant of the nanny's clock, which is ours as well.
pub(crate) fn instant_of(ns: u64) -> Option<Instant> {
    if ns == 0 {
        return None;
    }
    let now = clock_gettime(ClockId::Monotonic);
    let now_ns = u64::try_from(now.tv_sec).ok()? * 1_000_000_000 + u64::try_from(now.tv_nsec).ok()?;
    Instant::now().checked_sub(Duration::from_nanos(now_ns.saturating_sub(ns)))
}

fn own_pidfd() -> io::Result<OwnedFd> {
    Ok(pidfd_open(getpid(), PidfdFlags::empty())?)
}

fn request_start(channel: &OwnedFd, errand: &Errand<'_>) -> io::Result<()> {
    let owner = own_pidfd()?;
    let inherited = io::stdin();
    let stdin = match &errand.stdin {
        ChildEnd::Fd(fd) => Some(fd.as_fd()),
        // In an owner without a stdin its number may be that of something which is not for a child.
        ChildEnd::Inherited => fcntl_getfd(&inherited)
            .is_ok_and(|flags| !flags.contains(FdFlags::CLOEXEC))
            .then(|| inherited.as_fd()),
        ChildEnd::Null => None,
    };
    let null = match stdin {
        Some(_) => None,
        None => Some(open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?),
    };
    let Some(stdin) = stdin.or(null.as_ref().map(AsFd::as_fd)) else { unreachable!("one of them is there") };
    match errand.within {
        Within::Nothing => send_request(channel, Request::Start, &[owner.as_fd(), stdin]),
        Within::Namespace => send_request(channel, Request::StartSealed, &[owner.as_fd(), stdin]),
        Within::Foreground(terminal) => {
            send_request(channel, Request::StartInForeground, &[owner.as_fd(), stdin, terminal])
        }
        Within::Cgroup(directory) => {
            send_request(channel, Request::StartInCgroup, &[owner.as_fd(), stdin, directory])
        }
    }
}

fn send_request(channel: &OwnedFd, request: Request, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("the descriptors do not fit"));
    }
    sendmsg(channel, &[IoSlice::new(&[request as u8])], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Executes the nanny with the arguments and the environment of the child. With all signals blocked: until it has a session
/// of its own, a signal to our group or terminal would reach it.
fn spawn(image: &Image, errand: Errand<'_>, channel: OwnedFd) -> Result<Newborn, NotStarted> {
    const PASS: &str = "pass the program its arguments and environment";
    let directory = errand.directory.map_or(OsStr::new(""), Path::as_os_str);
    let own = [OsStr::from_bytes(NAME.to_bytes()), directory, errand.program, errand.program];
    let mut arguments = Strings::default();
    for argument in own.into_iter().chain(errand.arguments) {
        arguments.push(&[argument]).map_err(failed(PASS))?;
    }
    let changes = errand.environment.into_iter().collect();
    let environment = environment(&changes, errand.clear_environment).map_err(failed(PASS))?;
    let ends = [ChildEnd::Fd(channel), errand.stdout, errand.stderr];
    start_helper(&image.path(), arguments, environment, ends)
}

/// Waits for the nanny's answer. A nanny in a pid namespace sends a handle of itself with it, one in the owner's session one
/// of the child.
fn first_report(channel: &OwnedFd, nanny: Option<&OwnedFd>) -> Result<(Report, Option<OwnedFd>), NotStarted> {
    const ANSWER: &str = "get an answer from the nanny";
    /// When a nanny is taken for stopped, which a child may do to it in its first moment.
    const SLOW: Duration = Duration::from_millis(100);
    let deadline = Instant::now() + START_BOUND;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let patience = left.min(SLOW);
        let timeout =
            Timespec::try_from(patience).map_err(|error| failed(ANSWER)(io::Error::other(error)))?;
        match poll(&mut [PollFd::new(channel, PollFlags::IN)], Some(&timeout)) {
            Ok(0) if left.is_zero() => return Err(failed(ANSWER)(io::ErrorKind::TimedOut.into())),
            Ok(0) => {
                if let Some(nanny) = nanny {
                    let _ = pidfd_send_signal(nanny, Signal::CONT);
                }
            }
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(error) => return Err(failed(ANSWER)(error.into())),
        }
    }
    let mut packet = [0; REPORT_BYTES];
    let (length, handle) = loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut spans = [IoSliceMut::new(&mut packet)];
        match recvmsg(channel, &mut spans, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            // A nanny that leaves with the request unread resets the channel, and that is told before its answer, once.
            Err(Errno::INTR | Errno::CONNRESET) => {}
            Err(error) => return Err(failed(ANSWER)(error.into())),
            Ok(received) => {
                let handle = ancillary.drain().find_map(|message| match message {
                    RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
                    _ => None,
                });
                break (received.bytes, handle);
            }
        }
    };
    match packet.get(..length).and_then(Report::decode) {
        // Whoever could not tell us of the child has ended it since, and says why.
        Some(report) if report.kind != Kind::NotStarted && report.errno == 0 => Ok((report, handle)),
        Some(report) => {
            let errno = i32::try_from(report.errno).unwrap_or(0);
            Err(NotStarted { doing: report.step.doing(), error: io::Error::from_raw_os_error(errno) })
        }
        None => Err(failed(ANSWER)(io::Error::other("it ended without one"))),
    }
}

/// Ends a start that failed. A nanny that has a child kills it when it sees the channel closed, and has time for that.
fn give_up(process: Newborn, channel: impl Sized, lack: NotStarted) -> NotStarted {
    reap_failed(process, channel);
    lack
}

fn reap_failed(process: Newborn, channel: impl Sized) {
    drop(channel);
    let Ok(pid) = process.pid() else { return };
    if !has_ended_within(pid, FAILED_START_BOUND) {
        // It was not reaped, so the number is ours.
        let _ = kill_process(pid, Signal::KILL);
        has_ended_within(pid, FAILED_START_BOUND);
    }
    match waitid(WaitId::Pid(pid), LOOK) {
        Ok(Some(status)) if status.exit_status() == Some(0) => {}
        // One that was killed itself may have left somebody. Until it is reaped the session is surely its own.
        Ok(_) => sweep_session(pid, FAILED_START_BOUND),
        // Somebody else in this process has reaped it, so its number may be a stranger's.
        Err(_) => return,
    }
    let _ = waitid(WaitId::Pid(pid), REAP);
}

/// A handle of a child. `None` if somebody else in this process has reaped it; its number may be a stranger's by now.
fn handle_of_child(process: &mut Newborn) -> io::Result<(Pid, Option<OwnedFd>)> {
    let pid = process.pid()?;
    let opened = match process.pidfd.take() {
        Some(pidfd) => Ok(pidfd),
        None => pidfd_open(pid, PidfdFlags::empty()),
    };
    match opened {
        Ok(pidfd) => {
            let is_ours = !matches!(waitid(WaitId::PidFd(pidfd.as_fd()), LOOK), Err(Errno::CHILD));
            Ok((pid, is_ours.then_some(pidfd)))
        }
        Err(Errno::SRCH) => Ok((pid, None)),
        Err(error) => Err(error.into()),
    }
}

const REAP: WaitIdOptions = WaitIdOptions::EXITED.union(WaitIdOptions::NOHANG);
const LOOK: WaitIdOptions = REAP.union(WaitIdOptions::NOWAIT);

/// Waits for the end of a child without reaping it.
fn has_ended_within(pid: Pid, bound: Duration) -> bool {
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok();
    let deadline = Instant::now() + bound;
    loop {
        if !matches!(waitid(WaitId::Pid(pid), LOOK), Ok(None)) {
            return true;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        match (&pidfd, Timespec::try_from(left)) {
            (Some(pidfd), Ok(left)) => {
                let _ = poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&left));
            }
            // There may be no descriptor left to wait with, which is one way to get here: a poll with a bound.
            _ => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// A process that is alive as a nanny is, and what it says is said by a test.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct NannyByHand {
    process: std::process::Child,
    nanny: Option<Nanny>,
    channel: OwnedFd,
}

#[cfg(test)]
impl NannyByHand {
    pub(crate) fn start() -> Self {
        let process = Command::new("sleep").arg("100").spawn().expect("a process");
        let pid = Pid::from_child(&process);
        let poller = Arc::new(Poller::new().expect("a poller"));
        let (ours, channel) = make_channel().map_err(|lack| lack.error).expect("a channel");
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("a handle");
        let watch = |fd| Watch::readable(&poller, fd, 0).expect("a descriptor can be watched");
        let nanny = Nanny {
            pid,
            pidfd: Some(watch(pidfd)),
            channel: watch(ours),
            first: None,
            channel_ended: false,
            is_gone: false,
            leader: 0,
            report: None,
        };
        Self { process, nanny: Some(nanny), channel }
    }

    pub(crate) fn take(&mut self) -> Nanny {
        self.nanny.take().expect("it was not taken before")
    }

    pub(crate) fn say(&self, report: &Report) {
        send(&self.channel, &report.encode(), SendFlags::NOSIGNAL).expect("somebody listens");
    }
}

#[cfg(test)]
impl Drop for NannyByHand {
    fn drop(&mut self) {
        let ended = self.process.kill().and_then(|()| self.process.wait());
        assert!(ended.is_ok() || std::thread::panicking(), "{ended:?}");
    }
}
