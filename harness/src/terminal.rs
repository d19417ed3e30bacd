//! A terminal for the host, as a shell gives it to a job: somebody else leads the session, so that the terminal outlives the host,
//! and the host's group is in its foreground. A mate of the host stands in its group as a child of the leader, for the kernel stops
//! nobody whose group has no such member: it would be orphaned.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::unistd::{ForkResult, Pid};
use rustix::io::FdFlags;
use rustix::termios::Termios;

use crate::contain::{Container, fork};
use crate::launch::NOT_EXECUTED;
use crate::trace::TerminalState;

/// How long the mate waits for the job.
const JOIN_CAP: Duration = Duration::from_secs(5);
/// Pause between two looks that no event announces.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// A terminal that belongs to nobody yet.
#[derive(Debug)]
pub(crate) struct Terminal {
    /// Whoever has this end sees the state whatever becomes of the session.
    master: OwnedFd,
    /// What programs have.
    slave: OwnedFd,
    /// The leader of the session lives until this is closed everywhere else.
    life: (io::PipeReader, io::PipeWriter),
}

/// A job that was forked into a terminal.
pub(crate) enum Job {
    /// Here, with the pids of the job and of whoever leads its session.
    Parent { job: i32, leader: i32 },
    /// In the job itself.
    Child,
}

impl Terminal {
    /// Makes one.
    ///
    /// # Errors
    ///
    /// When the kernel has none left, or this machine has none at all.
    pub(crate) fn open() -> io::Result<Self> {
        let pair = nix::pty::openpty(None, None)?;
        for fd in [&pair.master, &pair.slave] {
            rustix::io::fcntl_setfd(fd, FdFlags::CLOEXEC)?;
        }
        Ok(Self { master: pair.master, slave: pair.slave, life: io::pipe()? })
    }

    /// The end that programs have.
    pub(crate) fn slave(&self) -> &OwnedFd {
        &self.slave
    }

    /// Its modes and its foreground group now.
    pub(crate) fn state(&self) -> io::Result<TerminalState> {
        let modes = rustix::termios::tcgetattr(&self.master)?;
        let foreground = rustix::termios::tcgetpgrp(&self.master).ok();
        Ok(TerminalState {
            modes: told(&modes),
            foreground: foreground.map_or(0, |group| group.as_raw_nonzero().get()),
        })
    }

    /// Forks a job into a session that somebody else leads. It is this process's child on return, since the one between has gone.
    /// Must be called by a process with one thread.
    pub(crate) fn fork_job(&self, container: &Container) -> io::Result<Job> {
        let (mut reader, mut writer) = io::pipe()?;
        match fork()? {
            ForkResult::Parent { child: leader } => {
                drop(writer);
                let (mut pid, mut adopted) = ([0; 4], [0]);
                reader.read_exact(&mut pid)?;
                // Whoever ends before the one between has gone would be nobody's to wait for yet.
                reader.read_exact(&mut adopted)?;
                Ok(Job::Parent { job: i32::from_ne_bytes(pid), leader: leader.as_raw() })
            }
            ForkResult::Child => {
                let led = container.admit_self().and_then(|()| self.lead_session());
                match led.and_then(|()| Ok(fork()?)) {
                    Ok(ForkResult::Child) => match fork() {
                        Ok(ForkResult::Child) => Ok(Job::Child),
                        Ok(ForkResult::Parent { child }) => crate::launch::exit_now(i32::from(
                            writer.write_all(&child.as_raw().to_ne_bytes()).is_err(),
                        )),
                        Err(why) => fail(&why.into()),
                    },
                    Ok(ForkResult::Parent { child: between }) => match self.stay(between, writer) {
                        Ok(()) => crate::launch::exit_now(0),
                        Err(why) => fail(&why),
                    },
                    Err(why) => fail(&why),
                }
            }
        }
    }

    fn lead_session(&self) -> io::Result<()> {
        nix::unistd::setsid()?;
        Ok(rustix::process::ioctl_tiocsctty(&self.slave)?)
    }

    /// As the leader of the session: reaps the one between, says so, and lives until nobody else needs the terminal.
    fn stay(&self, between: Pid, mut writer: io::PipeWriter) -> io::Result<()> {
        nix::sys::wait::waitpid(between, None)?;
        writer.write_all(&[0])?;
        drop(writer);
        if let ForkResult::Child = fork()? {
            self.join_job()?;
        }
        rustix::stdio::dup2_stdin(self.life.0.as_fd())?;
        crate::launch::close_all_but_standard(None)?;
        let mut byte = [0];
        loop {
            match rustix::io::read(rustix::stdio::stdin(), &mut byte) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// As the mate: deaf to what stops or ends the group, it is in the job's group once that is in the foreground.
    fn join_job(&self) -> io::Result<()> {
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None)?;
        let until = Instant::now() + JOIN_CAP;
        loop {
            let foreground = rustix::termios::tcgetpgrp(&self.slave).ok();
            let own = rustix::process::getpgrp();
            if let Some(job) = foreground.filter(|group| *group != own)
                && nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(job.as_raw_nonzero().get())).is_ok()
            {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(io::Error::other("the job did not come to the foreground"));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// As the job: leads a group of its own in the foreground.
    pub(crate) fn take_foreground(&self) -> io::Result<()> {
        nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
        // Who is not in the foreground yet would be stopped by taking it. The mask is the host's to be set later.
        let mut stops = SigSet::empty();
        stops.add(Signal::SIGTTOU);
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&stops), None)?;
        Ok(rustix::termios::tcsetpgrp(&self.slave, rustix::process::getpgrp())?)
    }
}

fn fail(why: &io::Error) -> ! {
    eprintln!("headcount: a terminal: {why}");
    crate::launch::exit_now(NOT_EXECUTED)
}

/// The modes as text, to be compared: flags in hexadecimal and the special characters.
fn told(modes: &Termios) -> String {
    let codes = [rustix::termios::SpecialCodeIndex::VMIN, rustix::termios::SpecialCodeIndex::VTIME];
    let codes = codes.map(|code| modes.special_codes[code]);
    format!(
        "input {:x}, output {:x}, control {:x}, local {:x}, min {}, time {}",
        modes.input_modes.bits(),
        modes.output_modes.bits(),
        modes.control_modes.bits(),
        modes.local_modes.bits(),
        codes[0],
        codes[1]
    )
}
