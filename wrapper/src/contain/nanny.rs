//! The nanny: a process of our own between the owner and the child. Whatever leaves the child's group or session comes
//! to it, and it outlives the owner for as long as it takes to end everybody.

use std::os::fd::BorrowedFd;

use super::{Hold, Launch, LeaderEnd, Refusal, Remaining};
use crate::outcome::{Left, Processes, Proof, Signalled, Survivor, Usage, WhyAlive};
use crate::sys::{self, Errand, Image, Member, Nanny, NotStarted, Order, Some8, Token};

const LOST: &str = "the nanny was killed; whoever was left in the child's session was killed as well, and whoever had \
                    left that session could not be found";

pub(super) fn start(
    launch: Launch<'_>,
    image: &Image,
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<Nursed, Refusal> {
    let token = launch.token;
    let started =
        if launch.is_converted { adopt(launch, image, cgroup) } else { send(launch, image, cgroup) };
    match started {
        Ok(nanny) => Ok(Nursed { nanny, token, left_alone: Vec::new() }),
        Err(NotStarted { doing, error }) => Err(Refusal::NotStarted { doing, error }),
    }
}

/// Has the command make its processes, and one of them the nanny.
fn adopt(launch: Launch<'_>, image: &Image, cgroup: Option<BorrowedFd<'_>>) -> Result<Nanny, NotStarted> {
    let Launch { command, adoption, ends, poller, token, .. } = launch;
    ends.lent_to(command, |command| Nanny::adopt(image, command, adoption, cgroup, poller, token))
}

/// Sends a nanny of our own to start the program.
fn send(launch: Launch<'_>, image: &Image, cgroup: Option<BorrowedFd<'_>>) -> Result<Nanny, NotStarted> {
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
        cgroup,
    };
    Nanny::start(image, errand, poller, token)
}

/// A run that a nanny holds.
pub(super) struct Nursed {
    nanny: Nanny,
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

    fn ask(&mut self) {
        self.nanny.order(Order::Ask);
    }

    fn kill(&mut self) {
        self.nanny.order(Order::Kill);
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
        self.nanny.listen();
        if self.nanny.is_lost() {
            return match self.nanny.session().survivors() {
                Left::Survivors(survivors) => Left::Survivors(survivors),
                _ => Left::Unknown(LOST),
            };
        }
        let report = self.nanny.report();
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
}

impl Nursed {
    /// Kills whoever a killed nanny has left in its session.
    fn sweep(&mut self) -> Remaining {
        self.left_alone.retain(Member::is_alive);
        if !self.left_alone.is_empty() {
            return Remaining::Somebody;
        }
        let others = self.nanny.session().kill(self.token);
        self.left_alone = others.members;
        match (others.unwatched, self.left_alone.is_empty()) {
            (true, _) => Remaining::LookAgainSoon,
            (false, true) => {
                self.nanny.reap();
                Remaining::Unknown(LOST)
            }
            (false, false) => Remaining::Somebody,
        }
    }
}

fn processes(some: &Some8) -> Processes {
    let first = some.named().iter().filter_map(|pid| u32::try_from(*pid).ok()).collect();
    Processes { count: some.count, first }
}

fn why_alive(letter: u64) -> WhyAlive {
    match u8::try_from(letter) {
        Ok(b'P') => WhyAlive::Permission,
        Ok(b'D') => WhyAlive::Uninterruptible,
        _ => WhyAlive::Unknown,
    }
}
