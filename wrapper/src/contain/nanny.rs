//! The nanny: a process of our own between the owner and the child. Whatever leaves the child's group or session comes
//! to it, and it outlives the owner for as long as it takes to end everybody.

use std::os::fd::AsFd;
use std::time::Duration;

use super::{GraceKeptBy, Hold, Launch, LeaderEnd, Refusal, Remaining, StopTimes};
use crate::outcome::{KillCause, Left, Processes, Proof, Signalled, Survivor, Usage, WhyAlive};
use crate::plan::Ask;
use crate::sys::{
    self, Cause, Cgroup, Errand, Image, Kind, Member, Nanny, NotStarted, Some8, Terminal, Token, Within,
};

const LOST: &str = "the nanny was killed; whoever was left in the child's session was killed as well, and whoever had \
                    left that session could not be found";

const LOST_IN_FOREGROUND: &str = "the nanny was killed; the child in the foreground was killed as well, and its group where \
                                  the kernel can (Linux 6.9), and whoever else was left could not be found";

const NAMESPACE_STAYS: &str =
    "the nanny was killed; the kernel is killing the pid namespace, which is not gone yet";

/// What holds a run besides its nanny.
pub(super) enum Bound {
    Nothing,
    Cgroup(Cgroup),
    Namespace,
    /// Nothing, and its child has the owner's terminal. So it is in the owner's session.
    Foreground,
}

impl Bound {
    fn within<'a>(&'a self, terminal: Option<&'a Terminal>) -> Within<'a> {
        match self {
            Self::Foreground | Self::Nothing => {
                terminal.map_or(Within::Nothing, |terminal| Within::Foreground(terminal.as_fd()))
            }
            Self::Cgroup(cgroup) => Within::Cgroup(cgroup.as_fd()),
            Self::Namespace => Within::Namespace,
        }
    }
}

pub(super) fn start(launch: Launch<'_>, image: &Image, bound: Bound) -> Result<Nursed, Refusal> {
    let token = launch.token;
    let within = bound.within(launch.terminal);
    let started =
        if launch.is_converted { adopt(launch, image, within) } else { send(launch, image, within) };
    match started {
        Ok(nanny) => Ok(Nursed { nanny, bound, token, left_alone: Vec::new() }),
        Err(NotStarted { doing, error }) => {
            // A nanny that was killed over it may have left somebody.
            if let Bound::Cgroup(mut cgroup) = bound {
                cgroup.spoil();
                cgroup.kill();
            }
            Err(Refusal::NotStarted { doing, error })
        }
    }
}

/// Has the command make its processes, and one of them the nanny.
fn adopt(launch: Launch<'_>, image: &Image, within: Within<'_>) -> Result<Nanny, NotStarted> {
    let Launch { command, adoption, ends, poller, token, .. } = launch;
    ends.lent_to(command, |command| Nanny::adopt(image, command, adoption, within, poller, token))
}

/// Sends a nanny of our own to start the program.
fn send(launch: Launch<'_>, image: &Image, within: Within<'_>) -> Result<Nanny, NotStarted> {
    let Launch { command, clears_environment, ends, poller, token, .. } = launch;
    let errand = Errand {
        program: command.get_program(),
        arguments: command.get_args().collect(),
        clear_environment: clears_environment,
        environment: command.get_envs().collect(),
        directory: command.get_current_dir(),
        stdin: ends.stdin,
        stdout: ends.stdout,
        stderr: ends.stderr,
        within,
    };
    Nanny::start(image, errand, poller, token)
}

const STOLEN: &str = "the nanny was killed, and somebody else in this process took its exit status, so nobody could be \
                      looked for";

/// A run that a nanny holds.
pub(super) struct Nursed {
    nanny: Nanny,
    bound: Bound,
    token: Token,
    /// Whose end we wait for, if the nanny was killed.
    left_alone: Vec<Member>,
}

impl Hold for Nursed {
    fn leader_pid(&self) -> u32 {
        self.nanny.leader()
    }

    fn leader_has_ended(&mut self) -> bool {
        self.nanny.listen();
        self.nanny.report().ended_ns != 0 || self.nanny.is_gone()
    }

    fn ask(&mut self, ask: Ask, grace: Option<Duration>) -> GraceKeptBy {
        self.nanny.order_to_ask(ask, grace);
        if grace.is_some() { GraceKeptBy::Hold } else { GraceKeptBy::Supervisor }
    }

    fn has_asked(&self) -> bool {
        self.nanny.report().asked_ns != 0 || self.nanny.is_gone()
    }

    fn kill(&mut self) {
        self.nanny.order_to_kill();
    }

    fn release(&mut self) -> LeaderEnd {
        let report = self.nanny.report();
        let by_itself = (report.ended_ns != 0).then_some(report.ended_after_signal == 0);
        LeaderEnd {
            status: report.exit_status(),
            at: sys::instant_of(report.ended_ns),
            by_itself,
            lost: self.nanny.is_lost(),
            usage: by_itself.map(|_| Usage::new(report.user_us, report.system_us, report.peak_kib)),
        }
    }

    fn look(&mut self) -> Remaining {
        self.nanny.listen();
        if !self.nanny.is_gone() {
            return Remaining::Somebody;
        }
        if !self.nanny.is_lost() {
            self.nanny.reap();
            return Remaining::Nobody(Proof::NoChildren);
        }
        self.sweep()
    }

    fn name_survivors(&mut self) -> Left {
        // Of what it has said up to the last look, so that this does not know of an end that the outcome does not.
        if self.nanny.is_lost() {
            match &self.bound {
                Bound::Nothing => {}
                Bound::Cgroup(cgroup) if cgroup.is_empty() => {}
                Bound::Cgroup(cgroup) => return cgroup.survivors(),
                Bound::Namespace => return Left::Unknown(NAMESPACE_STAYS),
                Bound::Foreground => return Left::Unknown(LOST_IN_FOREGROUND),
            }
            return match self.nanny.session().map(|session| session.survivors()) {
                Some(Left::Survivors(survivors)) => Left::Survivors(survivors),
                Some(_) => Left::Unknown(LOST),
                None => Left::Unknown(STOLEN),
            };
        }
        let report = self.nanny.report();
        if report.kind == Kind::Empty {
            // It is still about to leave.
            return Left::Nobody(Proof::NoChildren);
        }
        let survivors: Vec<_> = report
            .left
            .named()
            .iter()
            .zip(report.why)
            .filter_map(|(pid, why)| Some(Survivor { pid: u32::try_from(*pid).ok()?, why: why_alive(why) }))
            .collect();
        if survivors.is_empty() {
            Left::Unknown("the nanny did not say who is left")
        } else {
            Left::Survivors(survivors)
        }
    }

    fn is_done(&mut self) -> bool {
        self.nanny.listen();
        if self.nanny.is_gone() {
            self.nanny.reap();
        }
        self.nanny.is_gone()
    }

    fn signalled(&self) -> Option<Signalled> {
        let report = self.nanny.report();
        Some(Signalled {
            asked: processes(&report.asked),
            killed: processes(&report.killed),
            not_asked: report.not_asked,
        })
    }

    fn stop_times(&self) -> StopTimes {
        let report = self.nanny.report();
        let killed = match report.killed_because {
            Cause::GraceOver => Some(KillCause::GraceOver),
            Cause::Ordered => Some(KillCause::AskedAgain),
            Cause::None | Cause::LeaderEnded | Cause::OwnerGone => None,
        };
        StopTimes {
            asked: sys::instant_of(report.asked_ns),
            killed: sys::instant_of(report.killed_ns).zip(killed),
        }
    }
}

impl Drop for Nursed {
    fn drop(&mut self) {
        let was_killed = self.nanny.report().cgroup_killed != 0 || self.nanny.is_lost();
        if let (Bound::Cgroup(cgroup), true) = (&mut self.bound, was_killed) {
            cgroup.spoil();
        }
    }
}

impl Nursed {
    /// Kills whoever a killed nanny has left: exactly those within a control group or a pid namespace, without these
    /// those in its session.
    fn sweep(&mut self) -> Remaining {
        match &self.bound {
            Bound::Nothing => {}
            Bound::Cgroup(cgroup) => cgroup.kill(),
            Bound::Namespace => return self.end_namespace(),
            Bound::Foreground => return self.end_child(),
        }
        self.left_alone.retain(Member::is_alive);
        if !self.left_alone.is_empty() {
            return Remaining::Somebody;
        }
        let Some(session) = self.nanny.session() else { return Remaining::Unknown(STOLEN) };
        let others = session.kill(self.token);
        self.left_alone = others.members;
        match (others.unwatched, self.left_alone.is_empty()) {
            (true, _) => Remaining::LookAgainSoon,
            (false, true) => match &self.bound {
                Bound::Cgroup(cgroup) if !cgroup.is_empty() => Remaining::LookAgainSoon,
                Bound::Cgroup(_) => {
                    self.nanny.reap();
                    Remaining::Nobody(Proof::CgroupEmpty)
                }
                Bound::Nothing | Bound::Namespace | Bound::Foreground => {
                    self.nanny.reap();
                    Remaining::Unknown(LOST)
                }
            },
            (false, false) => Remaining::Somebody,
        }
    }
}

impl Nursed {
    fn end_child(&mut self) -> Remaining {
        match self.nanny.kill_child() {
            Some(false) => Remaining::LookAgainSoon,
            Some(true) | None => {
                self.nanny.reap();
                Remaining::Unknown(LOST_IN_FOREGROUND)
            }
        }
    }

    fn end_namespace(&mut self) -> Remaining {
        match self.nanny.kill_namespace() {
            Some(true) => {
                self.nanny.reap();
                Remaining::Nobody(Proof::NamespaceGone)
            }
            Some(false) => Remaining::LookAgainSoon,
            None => Remaining::Unknown("the nanny did not introduce itself"),
        }
    }
}

fn processes(some: &Some8) -> Processes {
    // 0 is one whose number the nanny could not find out.
    let first =
        some.named().iter().filter_map(|pid| u32::try_from(*pid).ok().filter(|pid| *pid > 0)).collect();
    Processes { count: some.count, first }
}

fn why_alive(letter: u64) -> WhyAlive {
    match u8::try_from(letter) {
        Ok(b'P') => WhyAlive::Permission,
        Ok(b'D') => WhyAlive::Uninterruptible,
        _ => WhyAlive::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Report;

    #[test]
    fn a_nanny_that_has_seen_the_end_of_everybody_and_has_not_left_yet_is_believed() {
        let mut stays = sys::NannyByHand::start();
        let nanny = stays.take();
        let mut hold = Nursed { nanny, bound: Bound::Nothing, token: 0, left_alone: Vec::new() };
        stays.say(&Report { kind: Kind::Going, killed_ns: 1, ..Report::default() });
        assert!(!hold.leader_has_ended());
        assert!(matches!(hold.name_survivors(), Left::Unknown(_)), "it has not said so yet");
        stays.say(&Report { kind: Kind::Empty, killed_ns: 1, ended_ns: 2, empty_ns: 3, ..Report::default() });
        assert!(hold.leader_has_ended());
        assert_eq!(hold.look(), Remaining::Somebody, "the nanny itself is there");
        assert_eq!(hold.name_survivors(), Left::Nobody(Proof::NoChildren));
    }
}
