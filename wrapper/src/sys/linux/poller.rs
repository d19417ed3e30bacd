//! Waiting for descriptors to become ready, and being woken up meanwhile.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};

/// Says which descriptor fired; chosen by whoever watches it.
pub(crate) type Token = u64;

const WAKE: Token = Token::MAX;

/// How many events one look may report; more are reported by the next look.
const EVENTS_A_LOOK: usize = 64;

/// An epoll instance with an eventfd that ends a wait from any thread.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: OwnedFd,
    wake: OwnedFd,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &wake, EventData::new_u64(WAKE), EventFlags::IN)?;
        Ok(Self { epoll, wake })
    }

    /// Ends the current wait, or the next one if nobody waits. Never blocks.
    pub(crate) fn wake(&self) {
        /// A wake-up that is lost is a run that nobody looks after, so nothing is left to chance.
        const TRIES: usize = 3;
        for _ in 0..TRIES {
            // It fails only when the counter is full, and then the wake-up is pending already. It is tried again even then:
            // nobody else rings until this was heard, and a filter of system calls may answer what it likes.
            if rustix::io::write(&self.wake, &1u64.to_ne_bytes()).is_ok() {
                return;
            }
        }
    }

    /// Waits for events, at most for `timeout`, and puts the tokens of what is ready into `ready`.
    pub(crate) fn wait(&self, ready: &mut Vec<Token>, timeout: Option<Duration>) -> io::Result<()> {
        ready.clear();
        // A timeout too large for the kernel is as good as none: nobody will see its end.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let mut events = Vec::with_capacity(EVENTS_A_LOOK);
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        for event in events {
            match event.data.u64() {
                WAKE => self.clear_wake(),
                token => ready.push(token),
            }
        }
        Ok(())
    }

    fn clear_wake(&self) {
        // EAGAIN means that it was cleared already.
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
    }
}

/// An owned descriptor that is watched as long as it lives, and forgotten before it is closed: a copy of it in a
/// process that was just forked would otherwise keep reporting under a token that nobody knows any more.
#[derive(Debug)]
pub(crate) struct Watch {
    fd: OwnedFd,
    poller: Arc<Poller>,
    token: Token,
    interest: EventFlags,
    watching: bool,
}

impl Watch {
    pub(crate) fn readable(poller: &Arc<Poller>, fd: OwnedFd, token: Token) -> io::Result<Self> {
        Self::new(poller, fd, token, EventFlags::IN)
    }

    /// Reports only when it *becomes* writable: write before waiting, and until it would block.
    pub(crate) fn writable(poller: &Arc<Poller>, fd: OwnedFd, token: Token) -> io::Result<Self> {
        // Edge-triggered, because a pipe that nobody has written yet would be reported without end.
        Self::new(poller, fd, token, EventFlags::OUT | EventFlags::ET)
    }

    fn new(poller: &Arc<Poller>, fd: OwnedFd, token: Token, interest: EventFlags) -> io::Result<Self> {
        let mut watch = Self { fd, poller: Arc::clone(poller), token, interest, watching: false };
        watch.resume()?;
        Ok(watch)
    }

    #[cfg(has_nanny)]
    pub(super) fn poller(&self) -> &Arc<Poller> {
        &self.poller
    }

    /// Stops reporting; the descriptor stays open.
    pub(crate) fn pause(&mut self) {
        if self.watching {
            // It can only fail for a descriptor that is not watched.
            let _ = epoll::delete(&self.poller.epoll, &self.fd);
            self.watching = false;
        }
    }

    /// Reports again after [`pause`](Self::pause).
    pub(crate) fn resume(&mut self) -> io::Result<()> {
        if !self.watching {
            epoll::add(&self.poller.epoll, &self.fd, EventData::new_u64(self.token), self.interest)?;
            self.watching = true;
        }
        Ok(())
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.pause();
    }
}
