//! The connection to the control socket.

use std::io;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use super::sys;
use crate::control::{Hello, MOST_MESSAGE_BYTES, Order, Report};

/// How long the player waits for anybody who answers: the listener, a node that it started.
pub(super) const MOST_PATIENCE: Duration = Duration::from_secs(10);

/// Largest order in bytes.
const MOST_ORDER_BYTES: usize = 4096;

/// Connects to the control socket at `path`; from now on this process ends when the connection does.
pub(super) fn connect(path: &Path) -> Result<(), String> {
    let problem = |error: io::Error| format!("control socket {}: {error}", path.display());
    let socket = connected(path).map_err(problem)?;
    sys::set_link(socket.into_raw_fd()).map_err(problem)
}

fn connected(path: &Path) -> io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(path)?;
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let socket = above_standard(socket)?;
    // The listener's backlog may be full: then connecting waits, and this bounds the wait.
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(MOST_PATIENCE))?;
    rustix::io::retry_on_intr(|| rustix::net::connect(&socket, &address))?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, None)?;
    Ok(socket)
}

/// The same descriptor with a number that no script speaks of.
pub(super) fn above_standard(fd: OwnedFd) -> io::Result<OwnedFd> {
    use std::os::fd::AsRawFd as _;
    if fd.as_raw_fd() > 2 { Ok(fd) } else { Ok(rustix::io::fcntl_dupfd_cloexec(fd, 3)?) }
}

/// Sends a report, if there is a control connection.
pub(super) fn report(report: &Report) {
    if sys::link().is_some() {
        // The reports hold nothing that JSON cannot say.
        sys::send(&serde_json::to_vec(report).unwrap_or_default());
    }
}

/// Says hello.
pub(super) fn say_hello(hello: Hello) {
    sys::send(&as_message(hello));
}

/// A hello that fits into a message: of too many descriptors the highest are left out, and counted.
fn as_message(mut hello: Hello) -> Vec<u8> {
    loop {
        // The reports hold nothing that JSON cannot say.
        let message = serde_json::to_vec(&Report::Hello(Box::new(hello.clone()))).unwrap_or_default();
        if message.len() <= MOST_MESSAGE_BYTES {
            return message;
        }
        let kept = hello.descriptors.len() / 2;
        hello.descriptors_left_out += hello.descriptors.len() - kept;
        hello.descriptors.truncate(kept);
    }
}

/// The next order, if one has come.
pub(super) fn order() -> Option<Order> {
    let mut buffer = [0; MOST_ORDER_BYTES];
    let link = sys::link()?;
    loop {
        match sys::receive_now(link, &mut buffer) {
            Ok(0) => sys::exit(super::code::UNLINKED),
            Ok(length) => {
                // An order that this player does not know is none for it.
                if let Ok(order) = serde_json::from_slice(&buffer[..length]) {
                    return Some(order);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => sys::exit(super::code::UNLINKED),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Descriptor;

    #[test]
    fn a_hello_fits_into_a_message_however_many_descriptors_there_are() {
        for count in [0, 3, 3000] {
            let descriptor = |fd| Descriptor { fd, target: "/dev/null".to_owned(), mode: "rw".to_owned() };
            let message =
                as_message(Hello { descriptors: (0..count).map(descriptor).collect(), ..Hello::default() });
            assert!(message.len() <= MOST_MESSAGE_BYTES);
            let Report::Hello(hello) = serde_json::from_slice(&message).unwrap() else { panic!("no hello") };
            assert_eq!(hello.descriptors.len() + hello.descriptors_left_out, count as usize);
            assert_eq!(hello.descriptors_left_out == 0, count < 1000);
        }
    }
}
