//! The kernel's side of it: installing the filter, receiving calls, letting them go. All unsafe code of this module is here.

use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::libc::{self, seccomp_notif, seccomp_notif_resp, sock_filter, sock_fprog};
use nix::unistd::ForkResult;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

use super::{Watch, filter};
use crate::contain::fork;

/// How long a process that is about to become a host may take to hand its listener over.
const HAND_OVER_CAP: Duration = Duration::from_secs(5);

/// A call that waits to be let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Notification {
    /// By which it is answered.
    pub(crate) id: u64,
    /// The thread that makes it; 0 if it is in no namespace of ours.
    pub(crate) thread: i32,
    /// The number of the call.
    pub(crate) number: i64,
    /// Its arguments.
    pub(crate) arguments: [u64; 6],
}

/// Where the calls of a host come. When it is dropped, whoever waits gets ENOSYS, so nobody hangs.
#[derive(Debug)]
pub(crate) struct Listener {
    fd: OwnedFd,
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What a listener has.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A call.
    Call(Notification),
    /// Nothing at the moment.
    Nothing,
    /// Nobody is left who could make one.
    Nobody,
}

impl Listener {
    /// The next call; does not wait.
    ///
    /// # Errors
    ///
    /// When the kernel does not say.
    pub(crate) fn next(&self) -> io::Result<Next> {
        let revents = wait_for(self.fd.as_fd(), Instant::now())?;
        if !revents.contains(PollFlags::IN) {
            return Ok(if revents.is_empty() { Next::Nothing } else { Next::Nobody });
        }
        // The kernel refuses a structure that is not all zero.
        // SAFETY: plain numbers, for which zero is a value.
        let mut received: seccomp_notif = unsafe { mem::zeroed() };
        // SAFETY: the structure is the one that this request writes, and lives as long as the call.
        let result =
            unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut received) };
        match last_error(result.into()) {
            Ok(()) => Ok(Next::Call(Notification {
                id: received.id,
                thread: received.pid.cast_signed(),
                number: received.data.nr.into(),
                arguments: received.data.args,
            })),
            // It has died, or was interrupted before we came.
            Err(error) if is_one_of(&error, &[libc::ENOENT, libc::EINTR]) => Ok(Next::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Lets a call be done. One whose caller is dead needs no answer.
    ///
    /// # Errors
    ///
    /// When the kernel does not take the answer.
    pub(crate) fn let_go(&self, id: u64) -> io::Result<()> {
        let mut answer =
            seccomp_notif_resp { id, val: 0, error: 0, flags: libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32 };
        // SAFETY: the structure is the one that this request reads, and lives as long as the call.
        let result =
            unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut answer) };
        match last_error(result.into()) {
            Err(error) if is_one_of(&error, &[libc::ENOENT, libc::EINPROGRESS]) => Ok(()),
            result => result,
        }
    }

    /// Whether the call still waits: what was read of its caller meanwhile was its caller's.
    pub(crate) fn still_waits(&self, id: u64) -> bool {
        // SAFETY: the request reads one number, which lives as long as the call.
        let result =
            unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id) };
        result == 0
    }
}

/// Installs the filter in this process, which is about to become a host, and sends its listener along the channel; or why it
/// could not be. Nothing of either is left in this process.
///
/// # Errors
///
/// When the filter is refused or the channel is broken.
pub(crate) fn hand_over(watch: &Watch, channel: impl AsFd) -> io::Result<()> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let mut listener = match install(watch, own) {
        Ok(listener) => listener,
        Err(error) => {
            let number = error.raw_os_error().unwrap_or(libc::EIO).to_ne_bytes();
            rustix::net::send(channel, &number, SendFlags::NOSIGNAL)?;
            return Err(error);
        }
    };
    let fds = [listener.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    let zero = 0_i32.to_ne_bytes();
    rustix::net::sendmsg(channel, &[io::IoSlice::new(&zero)], &mut ancillary, SendFlags::NOSIGNAL)?;
    // With a listener of its own this process would wait for ever if the warden died. It is replaced and then closed, because `close` may
    // be watched, and waits then.
    Ok(rustix::io::dup3(rustix::stdio::stderr(), &mut listener, rustix::io::DupFlags::CLOEXEC)?)
}

/// The other side of [`hand_over`].
///
/// # Errors
///
/// Why the filter was refused, or that nothing came in time.
pub(crate) fn take_over(channel: BorrowedFd<'_>) -> io::Result<Listener> {
    let deadline = Instant::now() + HAND_OVER_CAP;
    while wait_for(channel, deadline)?.is_empty() {
        if Instant::now() >= deadline {
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
    }
    let mut number = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut buffers = [io::IoSliceMut::new(&mut number)];
    let got = rustix::net::recvmsg(channel, &mut buffers, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    if got.bytes < number.len() {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
    }
    let fds = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    match fds.flatten().next() {
        Some(fd) => Ok(Listener { fd }),
        None => Err(io::Error::from_raw_os_error(i32::from_ne_bytes(number))),
    }
}

fn install(watch: &Watch, host: i32) -> io::Result<OwnedFd> {
    let mut program =
        filter::program(watch, host).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOSYS))?;
    match install_program(&mut program) {
        // Without the privilege the kernel wants the promise that no program of another owner gains any.
        Err(error) if is_one_of(&error, &[libc::EACCES]) => {
            rustix::thread::set_no_new_privs(true)?;
            install_program(&mut program)
        }
        result => result,
    }
}

fn install_program(program: &mut [sock_filter]) -> io::Result<OwnedFd> {
    let described = sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // The second: a signal that comes while a call waits must not make the kernel start the call over, as a second one.
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    // SAFETY: the description points to as many instructions as it says, which live as long as the call; the kernel checks them.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const described)
    };
    last_error(result)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(result as i32) })
}

/// Has a child make a watched call, and lets it go.
pub(super) fn try_it() -> io::Result<()> {
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let watch = Watch { kinds: [super::CallKind::Close].into() };
    match fork()? {
        ForkResult::Child => {
            let done = hand_over(&watch, &theirs).is_ok();
            // The call that is let go or not.
            drop(theirs);
            crate::launch::exit_now(i32::from(!done))
        }
        ForkResult::Parent { child } => {
            drop(theirs);
            let tried = take_over(ours.as_fd()).and_then(|listener| let_one_go(&listener));
            if tried.is_err() {
                // It may wait for ever where the kernel does not do its part.
                nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGKILL)?;
            }
            nix::sys::wait::waitpid(child, None)?;
            tried
        }
    }
}

fn let_one_go(listener: &Listener) -> io::Result<()> {
    let deadline = Instant::now() + HAND_OVER_CAP;
    while Instant::now() < deadline {
        wait_for(listener.as_fd(), deadline)?;
        match listener.next()? {
            Next::Call(call) => return listener.let_go(call.id),
            Next::Nobody => return Err(io::Error::other("the call was not handed over")),
            Next::Nothing => {}
        }
    }
    Err(io::Error::from(io::ErrorKind::TimedOut))
}

/// Waits until there is something to read, or the time has come; answers what there is.
fn wait_for(fd: BorrowedFd<'_>, until: Instant) -> io::Result<PollFlags> {
    let left = until.saturating_duration_since(Instant::now());
    let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    match poll(&mut fds, Some(&timeout)) {
        Ok(_) => Ok(fds[0].revents()),
        Err(rustix::io::Errno::INTR) => Ok(PollFlags::empty()),
        Err(error) => Err(error.into()),
    }
}

fn last_error(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn is_one_of(error: &io::Error, numbers: &[i32]) -> bool {
    error.raw_os_error().is_some_and(|number| numbers.contains(&number))
}
