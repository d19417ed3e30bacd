//! The roll call: every node that said hello, and whether it is alive.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use fake_cli::control::{Hello, MOST_MESSAGE_BYTES, Order, Report};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags};

use crate::scan;

/// Where nodes come to say hello.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
}

impl Listener {
    /// Listens at a path.
    ///
    /// # Errors
    ///
    /// When the socket cannot be made there.
    pub fn bind(path: &std::path::Path) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
        rustix::net::listen(&socket, 512)?;
        Ok(Self { socket })
    }

    /// The next connection that waits; nothing if none does.
    ///
    /// # Errors
    ///
    /// When the socket is broken.
    pub fn accept(&self) -> io::Result<Option<Connection>> {
        // To accept makes a socket before it looks whether anybody waits, which is many times as dear as to ask.
        if !is_readable(self.socket.as_fd()) {
            return Ok(None);
        }
        match rustix::net::accept_with(&self.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(socket) => {
                let pidfd = peer_pidfd(&socket);
                let pid = peer_pid(&socket);
                Ok(Some(Connection { socket: Some(socket), pidfd, pid }))
            }
            Err(Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The peer's pidfd, by the connection where the kernel can (Linux 6.5), else by its pid, which the open connection keeps
/// from meaning somebody else only as long as the peer lives; nothing if it is gone.
fn peer_pidfd(socket: &OwnedFd) -> Option<OwnedFd> {
    use nix::sys::socket::{getsockopt, sockopt};
    if let Ok(pidfd) = getsockopt(socket, sockopt::PeerPidfd) {
        return Some(pidfd);
    }
    let credentials = getsockopt(socket, sockopt::PeerCredentials).ok()?;
    rustix::process::pidfd_open(Pid::from_raw(credentials.pid())?, PidfdFlags::empty()).ok()
}

/// The number that the peer has, or had, in our own pid namespace; nothing if it has none there.
fn peer_pid(socket: &OwnedFd) -> Option<i32> {
    use nix::sys::socket::{getsockopt, sockopt};
    getsockopt(socket, sockopt::PeerCredentials).ok().map(|peer| peer.pid()).filter(|pid| *pid > 0)
}

/// A connection of a node.
#[derive(Debug)]
pub struct Connection {
    socket: Option<OwnedFd>,
    pidfd: Option<OwnedFd>,
    pid: Option<i32>,
}

/// What came from a connection.
#[derive(Debug)]
pub enum Received {
    /// A report.
    Report(Report),
    /// Nothing at the moment.
    Nothing,
    /// The node closed it, or is dead.
    End,
    /// Something that is no report.
    Garbage(String),
}

impl Connection {
    /// Puts the numbers that the peer has here into what it said. They differ where the subject has put it into a pid
    /// namespace; then those of its group, session and parent can be had only as long as it lives, but for what it leads.
    pub fn translate(&self, hello: &mut Hello) {
        let Some(pid) = self.pid.filter(|pid| *pid != hello.pid) else { return };
        let own = std::mem::replace(&mut hello.pid, pid);
        for led in [&mut hello.pgid, &mut hello.sid].into_iter().filter(|id| **id == own) {
            *led = pid;
        }
        if let Some(stat) = scan::stat(pid).filter(|stat| stat.start_ticks == hello.start_ticks) {
            (hello.ppid, hello.pgid, hello.sid) = (stat.ppid, stat.pgid, stat.sid);
        }
    }

    /// The next message. The buffer is one for messages of any length.
    pub fn receive(&mut self, buffer: &mut [MaybeUninit<u8>]) -> Received {
        let Some(socket) = &self.socket else { return Received::End };
        debug_assert!(buffer.len() >= MOST_MESSAGE_BYTES);
        let received = match message(socket, buffer) {
            // The node died with an order unread. The kernel says that first and once; its last reports come after it.
            Err(Errno::CONNRESET) => message(socket, buffer),
            received => received,
        };
        match received {
            Ok([]) => Received::End,
            Ok(message) => match serde_json::from_slice(message) {
                Ok(report) => Received::Report(report),
                Err(error) => Received::Garbage(error.to_string()),
            },
            Err(Errno::AGAIN | Errno::INTR) => Received::Nothing,
            Err(_) => Received::End,
        }
    }

    /// Opens a gate. A node that is gone needs no gate opened.
    pub fn send(&self, order: &Order) {
        if let Some(socket) = &self.socket {
            let message = serde_json::to_vec(order).expect("an order has string keys only");
            if let Err(error) = rustix::net::send(socket, &message, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
            {
                debug_assert!(matches!(error, Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN), "{error}");
            }
        }
    }

    /// Its socket, while it is open.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }
}

fn message<'b>(socket: &OwnedFd, buffer: &'b mut [MaybeUninit<u8>]) -> rustix::io::Result<&'b [u8]> {
    let ((message, _), _) = rustix::net::recv(socket, buffer, RecvFlags::DONTWAIT)?;
    Ok(message)
}

/// A node on the roll.
#[derive(Debug)]
pub struct Node {
    /// What it said of itself.
    pub hello: Hello,
    /// Its connection.
    pub connection: Connection,
    /// It is about to replace itself by exec, so the connection's end is not its death.
    pub reexec: bool,
    /// It is dead.
    pub gone: bool,
    /// The event that it waits for at a gate.
    pub waits: Option<fake_cli::script::Event>,
}

impl Node {
    /// Whether its connection is open.
    pub fn is_connected(&self) -> bool {
        self.connection.socket.is_some()
    }

    /// Closes the connection after its end was seen.
    pub fn disconnect(&mut self) {
        self.connection.socket = None;
    }

    /// Its pidfd.
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.connection.pidfd.as_ref().map(AsFd::as_fd)
    }

    /// Whether the kernel says that it is dead. Without a pidfd the end of its connection has to do.
    pub fn is_dead(&self) -> bool {
        match self.pidfd() {
            Some(pidfd) => is_readable(pidfd),
            None => !self.is_connected() && !self.reexec,
        }
    }
}

/// Whether a descriptor is readable now; of a pidfd: whether the process is dead.
pub fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut fds, Some(&now)), Ok(1)) && !fds[0].revents().is_empty()
}

#[cfg(test)]
mod tests {
    use fake_cli::script::Event;

    use super::*;

    #[test]
    fn the_last_reports_of_a_node_that_died_with_an_order_unread_are_read() {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let mut connection = Connection { socket: Some(ours), pidfd: None, pid: None };
        connection.send(&Order::Pass { event: Event::try_from("root.ready").unwrap() });
        let said = Report::Exiting { code: 3, at_ns: 1 };
        rustix::net::send(&theirs, &serde_json::to_vec(&said).unwrap(), SendFlags::NOSIGNAL).unwrap();
        drop(theirs);
        let mut buffer = Box::new_uninit_slice(MOST_MESSAGE_BYTES);
        assert!(matches!(connection.receive(&mut buffer), Received::Report(report) if report == said));
        assert!(matches!(connection.receive(&mut buffer), Received::End));
    }
}
