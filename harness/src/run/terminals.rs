//! The host's terminal, and whether it stops the host.

use crate::terminal::Terminal;

use super::*;

/// How long a terminal has to become what it was.
const RESTORE_CAP: Duration = Duration::from_secs(1);
/// Pause between two looks whether the host is stopped, which no event announces.
const LOOK_FOR_STOPS: Duration = Duration::from_millis(20);
/// How often a host that is stopped is continued.
const MOST_STOPS: usize = 10;

/// A terminal that a host has.
pub(super) struct HostTerminal {
    terminal: Terminal,
    /// Who leads its session, and is no part of the case.
    pub(super) leader: i32,
    first: trace::TerminalState,
}

impl Runner<'_> {
    /// Keeps the terminal that the host was started with.
    pub(super) fn keep_terminal(
        &mut self,
        terminal: Option<Terminal>,
        leader: Option<i32>,
    ) -> Result<(), Stop> {
        let (Some(terminal), Some(leader)) = (terminal, leader) else { return Ok(()) };
        let host = self.host.as_ref().map_or(0, |host| host.pid);
        // It takes the foreground by itself, before it becomes the host.
        let until = Instant::now() + HELLO_CAP;
        let mut first = terminal.state()?;
        while first.foreground != host && Instant::now() < until && !self.host_is_gone() {
            self.wait_for_events(Instant::now() + LOOK_AGAIN)?;
            first = terminal.state()?;
        }
        self.note(What::Terminal(first.clone()));
        self.terminal = Some(HostTerminal { terminal, leader, first });
        Ok(())
    }

    /// Looks at the terminal, again until it is what it was or the cap is reached.
    pub(super) fn look_at_terminal(&mut self) -> Result<(), Stop> {
        let until = Instant::now() + RESTORE_CAP;
        loop {
            let Some(known) = &self.terminal else { return Ok(()) };
            let now = known.terminal.state()?;
            if now == known.first || Instant::now() >= until {
                self.note(What::Terminal(now));
                return Ok(());
            }
            self.wait_for_events(Instant::now() + LOOK_AGAIN)?;
        }
    }

    /// When to look again whether the host is stopped.
    pub(super) fn next_look_for_stops(&self) -> Option<Instant> {
        self.terminal.as_ref().map(|_| Instant::now() + LOOK_FOR_STOPS)
    }

    /// A host that its terminal has stopped is continued, some times: else the case would end there.
    pub(super) fn take_stops(&mut self) {
        let Some(host) = self.host.as_ref().filter(|host| self.terminal.is_some() && host.gone.is_none())
        else {
            return;
        };
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
        let Ok(Some(status)) = rustix::process::waitid(WaitId::PidFd(host.pidfd.as_fd()), options) else {
            return;
        };
        let Some(signal) = status.stopping_signal() else { return };
        if [Signal::TTOU, Signal::TTIN].map(Signal::as_raw).contains(&signal) {
            let stops = |moment: &&Moment| matches!(moment.what, What::HostStopped { .. });
            if self.trace.moments.iter().filter(stops).count() < MOST_STOPS {
                // One that is gone since needs nothing.
                let _ = rustix::process::pidfd_send_signal(&host.pidfd, Signal::CONT);
            }
            self.note(What::HostStopped { signal });
        }
    }
}
