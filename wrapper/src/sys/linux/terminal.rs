//! The owner's terminal, while a child has it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, getpgrp, pidfd_open, test_kill_process_group};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr, tcsetpgrp};

use super::birth::{NotStarted, failed, out_of_the_way};
use super::clean_start::with_all_signals_blocked;
use super::group::signalable;

/// The terminal of an owner that is in its foreground, as the owner had it. Dropping this gives it back.
#[derive(Debug)]
pub(crate) struct Terminal {
    terminal: OwnedFd,
    owner: Pid,
    modes: Termios,
    /// The child's group, as soon as there is one.
    child: Option<Pid>,
    /// `None` once it is given back.
    loan: Option<Loan>,
}

/// The right to lend the terminal, which one start has at a time: of two at once each would find it with the owner, and the
/// second would take it from the child of the first.
#[derive(Debug)]
struct Loan;

/// The process that has lent its terminal, 0 for none. By number, because a fork has the note and not the loan.
static LENT_BY: AtomicU32 = AtomicU32::new(0);

impl Loan {
    fn take() -> Option<Self> {
        let us = process::id();
        let lend = |by| (by != us).then_some(us);
        LENT_BY.fetch_update(Ordering::SeqCst, Ordering::SeqCst, lend).ok().map(|_| Self)
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let _ = LENT_BY.compare_exchange(process::id(), 0, Ordering::SeqCst, Ordering::SeqCst);
    }
}

impl Terminal {
    /// Notes what there is to give back. The child takes the terminal by itself, before it executes its program.
    pub(crate) fn note() -> Result<Self, NotStarted> {
        let Some(loan) = Loan::take() else {
            let error = io::Error::other("another run has it");
            return Err(failed("hand the terminal over")(error));
        };
        let opened = open("/dev/tty", OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty());
        let opened = opened.map_err(io::Error::from).and_then(out_of_the_way);
        let terminal = opened.map_err(failed("open the owner's terminal"))?;
        let owner = getpgrp();
        // Who is in the background has nothing to hand over, and would take it away from somebody else.
        match tcgetpgrp(&terminal) {
            Ok(foreground) if foreground == owner => {}
            Ok(_) => {
                let error = io::Error::other("the owner is in the background itself");
                return Err(failed("hand the terminal over")(error));
            }
            Err(error) => return Err(failed("find who has the terminal")(error.into())),
        }
        let modes = tcgetattr(&terminal);
        let modes = modes.map_err(|error| failed("note the terminal's modes")(error.into()))?;
        Ok(Self { terminal, owner, modes, child: None, loan: Some(loan) })
    }

    /// The child leads its own group.
    pub(crate) fn is_taken_by(&mut self, child: u32) {
        self.child = i32::try_from(child).ok().and_then(signalable);
    }

    /// Whether it is the child's, or nobody's. It is somebody else's when whoever has started the owner has taken it back, or
    /// when somebody whom the run did not hold has it.
    fn is_to_be_given_back(&self) -> bool {
        match tcgetpgrp(&self.terminal) {
            Ok(group) if group == self.owner || Some(group) == self.child => true,
            Ok(group) if test_kill_process_group(group) == Err(Errno::SRCH) => true,
            // A child that took it, and whose start failed all the same, is dead or dying, and counts until it is reaped.
            Ok(leader) => self.child.is_none() && ends_soon(leader),
            // The terminal is gone, or this is no session of ours any more.
            Err(_) => false,
        }
    }
}

/// Whether a process that is somebody else's child has ended, or does so within a bound.
fn ends_soon(pid: Pid) -> bool {
    const BOUND: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&BOUND)) == Ok(1),
        Err(error) => error == Errno::SRCH,
    }
}

impl AsFd for Terminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.terminal.as_fd()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Who changes a terminal from the background gets a signal, which stops everybody who does not block it.
        let _ = with_all_signals_blocked(|| {
            if self.is_to_be_given_back() {
                // In this order: somebody may read from it as soon as it is his. There may be no terminal any more.
                let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.modes);
                // Whoever sees that the terminal is the owner's may lend it again.
                self.loan = None;
                let _ = tcsetpgrp(&self.terminal, self.owner);
            }
        });
    }
}
