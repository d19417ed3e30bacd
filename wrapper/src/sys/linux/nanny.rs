//! A nanny and the channel to it. What it says is in `nanny/wire.rs`, which is compiled into both.

use std::ffi::{CStr, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, IoSlice};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    recv, send, sendmsg, socketpair,
};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, getpid, kill_process, pidfd_open, waitid,
};
use rustix::time::{ClockId, clock_gettime};

use super::adoption::Adoption;
use super::birth::{Newborn, NotStarted, Strings, environment, failed, start_helper};
use super::group::{OrphanedSession, is_alive, sweep_session};
use super::image::Image;
use super::pipe::ChildEnd;
use super::poller::{Poller, Token, Watch};
use super::wire::{Kind, Order, REPORT_BYTES, Report, Request};

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
    /// The directory of the control group to start it in.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
}

/// Executes a nanny that starts nobody and only says whether it could.
pub(super) fn try_out(image: &Image) -> Result<(), NotStarted> {
    let (ours, theirs) = make_channel()?;
    let mut arguments = Strings::default();
    arguments.push(&[OsStr::from_bytes(NAME.to_bytes())]).map_err(failed("name it"))?;
    let ends = [ChildEnd::Fd(theirs), ChildEnd::Null, ChildEnd::Null];
    let process = start_helper(&image.path(), arguments, Strings::default(), ends)?;
    let answer = first_report(&ours);
    reap_failed(process, ours);
    answer.map(drop)
}

fn make_channel() -> Result<(OwnedFd, OwnedFd), NotStarted> {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(|error| failed(CHANNEL)(error.into()))
}

/// A nanny that has started the child.
#[derive(Debug)]
pub(crate) struct Nanny {
    pid: Pid,
    /// Reports the nanny's own end.
    pidfd: Watch,
    channel: Watch,
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
        cgroup: Option<BorrowedFd<'_>>,
        poller: &Arc<Poller>,
        token: Token,
    ) -> Result<Self, NotStarted> {
        let (ours, theirs) = make_channel()?;
        let owner = own_pidfd().map_err(failed(CHANNEL))?;
        send_request(&ours, Request::Adopt, &[owner.as_fd()]).map_err(failed(CHANNEL))?;
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
        let report = match first_report(&channel) {
            Ok(report) => report,
            Err(lack) => return Err(give_up(process, channel, lack)),
        };
        let pidfd = process.pid().and_then(|pid| {
            let pidfd = match process.pidfd.take() {
                Some(pidfd) => pidfd,
                None => pidfd_open(pid, PidfdFlags::empty())?,
            };
            Ok((pid, Watch::readable(poller, pidfd, token)?))
        });
        let (pid, pidfd) = match pidfd {
            Ok(held) => held,
            Err(error) => return Err(give_up(process, channel, failed(HOLD)(error))),
        };
        let channel = match Watch::readable(poller, channel, token) {
            Ok(channel) => channel,
            // That has closed the channel.
            Err(error) => return Err(give_up(process, (), failed(HOLD)(error))),
        };
        let (channel_ended, is_gone) = (false, false);
        let leader = u32::try_from(report.leader).unwrap_or(0);
        let report =
            (report != Report { leader: report.leader, ..Report::default() }).then(|| Box::new(report));
        Ok(Self { pid, pidfd, channel, channel_ended, is_gone, leader, report })
    }

    /// The number of the child.
    pub(crate) fn leader(&self) -> u32 {
        self.leader
    }

    /// Takes in what the nanny has said, and whether it is gone.
    pub(crate) fn listen(&mut self) {
        // In this order: whoever is gone has said everything.
        self.is_gone = self.is_gone || !is_alive(&self.pidfd);
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
        if self.is_gone {
            self.pidfd.pause();
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

    /// Gives the nanny an order. An order to one that is gone is lost.
    pub(crate) fn order(&self, order: Order) {
        let _ = send(&self.channel, &[order as u8], SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    }

    /// Reaps a nanny that is gone.
    pub(crate) fn reap(&mut self) {
        // It may have been reaped by somebody else in this process; its number is not needed any more.
        let _ = waitid(WaitId::PidFd(self.pidfd.as_fd()), REAP);
    }

    /// The session in which the nanny and its child were. To be used only as long as the nanny is not reaped.
    pub(crate) fn session(&self) -> OrphanedSession {
        OrphanedSession::led_by(self.pid, self.pidfd.poller())
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
    let stdin = match &errand.stdin {
        ChildEnd::Null => Some(open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?),
        ChildEnd::Inherited | ChildEnd::Fd(_) => None,
    };
    let inherited = io::stdin();
    let stdin = match (&stdin, &errand.stdin) {
        (Some(null), _) => null.as_fd(),
        (None, ChildEnd::Fd(fd)) => fd.as_fd(),
        (None, ChildEnd::Null | ChildEnd::Inherited) => inherited.as_fd(),
    };
    match errand.cgroup {
        None => send_request(channel, Request::Start, &[owner.as_fd(), stdin]),
        Some(cgroup) => send_request(channel, Request::StartInCgroup, &[owner.as_fd(), stdin, cgroup]),
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

/// Waits for the nanny's answer.
fn first_report(channel: &OwnedFd) -> Result<Report, NotStarted> {
    const ANSWER: &str = "get an answer from the nanny";
    let deadline = Instant::now() + START_BOUND;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(|error| failed(ANSWER)(io::Error::other(error)))?;
        match poll(&mut [PollFd::new(channel, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return Err(failed(ANSWER)(io::ErrorKind::TimedOut.into())),
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(error) => return Err(failed(ANSWER)(error.into())),
        }
    }
    let mut packet = [0; REPORT_BYTES];
    let received = rustix::io::retry_on_intr(|| recv(channel, &mut packet, RecvFlags::empty()));
    let (length, _) = received.map_err(|error| failed(ANSWER)(error.into()))?;
    match packet.get(..length).and_then(Report::decode) {
        Some(report) if report.kind == Kind::NotStarted => {
            let errno = i32::try_from(report.errno).unwrap_or(0);
            Err(NotStarted { doing: report.step.doing(), error: io::Error::from_raw_os_error(errno) })
        }
        Some(report) => Ok(report),
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
    // One that was killed itself may have left somebody. In this order: until it is reaped the session is surely its own.
    if !matches!(waitid(WaitId::Pid(pid), LOOK), Ok(Some(status)) if status.exit_status() == Some(0)) {
        sweep_session(pid, FAILED_START_BOUND);
    }
    let _ = waitid(WaitId::Pid(pid), REAP);
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
