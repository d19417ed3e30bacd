//! The floor of all containments: a process group. It needs nothing, and it holds nobody who leaves it.

use std::io;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use super::{GraceKeptBy, Hold, Launch, LeaderEnd, Refusal, Remaining};
use crate::outcome::{Left, Proof};
use crate::plan::Ask;
use crate::sys::{self, FormerGroup, Leader, LeaderFate, Member, Newborn, NotStarted, Token};

const LOST: &str =
    "somebody else in this process took the child's exit status, so its group is not ours to look at";

/// The longest that a failed start waits for a child that was killed because of it.
const FAILED_START_BOUND: Duration = Duration::from_secs(2);

pub(super) fn start(launch: Launch<'_>) -> Result<Box<dyn Hold>, Refusal> {
    let (poller, token) = (launch.poller, launch.token);
    let newborn = if launch.is_converted { start_converted(launch)? } else { start_built(launch)? };
    let leader = Leader::take_hold(newborn, poller, token).map_err(give_up)?;
    let pid = leader.pid();
    Ok(Box::new(Group { pid, token, kept: Some(Kept::Led(leader)), members: Vec::new(), lost: false }))
}

fn start_built(launch: Launch<'_>) -> Result<Newborn, Refusal> {
    let Launch { command, clears_environment, ends, terminal, .. } = launch;
    sys::start_leader(command, clears_environment, [ends.stdin, ends.stdout, ends.stderr], terminal)
        .map_err(|NotStarted { doing, error }| Refusal::NotStarted { doing, error })
}

/// A command may carry what only the standard library can do.
fn start_converted(launch: Launch<'_>) -> Result<Newborn, Refusal> {
    let Launch { command, clean_start, ends, .. } = launch;
    sys::lead_own_group(command);
    clean_start.prepare(command);
    let child = ends
        .lent_to(command, Command::spawn)
        .map_err(|error| Refusal::not_started("make a process and execute the program", error))?;
    Ok(child.into())
}

fn give_up((error, child): (io::Error, Newborn)) -> Refusal {
    sys::kill_and_reap(&child, FAILED_START_BOUND);
    Refusal::NotHeld { pid: child.id, error }
}

struct Group {
    pid: u32,
    token: Token,
    /// `None` only while it changes from one to the other.
    kept: Option<Kept>,
    /// Whose end we wait for.
    members: Vec<Member>,
    /// Somebody else took the leader's status, so its number was not pinned until we let go of it.
    lost: bool,
}

enum Kept {
    /// The leader pins the number: the group may be signalled.
    Led(Leader),
    /// The leader is reaped: the group may be looked at.
    Former(FormerGroup),
}

impl Group {
    fn leader(&mut self) -> Option<&mut Leader> {
        match &mut self.kept {
            Some(Kept::Led(leader)) => Some(leader),
            _ => None,
        }
    }

    fn reap_leader(&mut self) -> Option<ExitStatus> {
        match self.kept.take() {
            Some(Kept::Led(leader)) => match leader.reap() {
                Ok((status, former)) => {
                    self.kept = Some(Kept::Former(former));
                    self.lost = status.is_none();
                    status
                }
                Err(leader) => {
                    self.kept = Some(Kept::Led(leader));
                    None
                }
            },
            former => {
                self.kept = former;
                None
            }
        }
    }
}

impl Hold for Group {
    fn leader_pid(&self) -> u32 {
        self.pid
    }

    fn reports_leader(&self) -> bool {
        matches!(&self.kept, Some(Kept::Led(leader)) if leader.is_watched())
    }

    fn leader_has_ended(&mut self) -> bool {
        self.leader().is_none_or(|leader| !matches!(leader.look(), LeaderFate::Running))
    }

    fn ask(&mut self, ask: Ask, _: Option<Duration>) -> GraceKeptBy {
        if let Some(leader) = self.leader() {
            leader.ask_group(ask);
        }
        GraceKeptBy::Supervisor
    }

    fn kill(&mut self) {
        if let Some(leader) = self.leader() {
            leader.kill_group();
        }
    }

    fn release(&mut self) -> LeaderEnd {
        let status = self.reap_leader();
        LeaderEnd { status, ..LeaderEnd::default() }
    }

    fn look(&mut self) -> Remaining {
        // As long as somebody is known to be alive it does not matter who else is, and a look at all processes is dear.
        self.members.retain(Member::is_alive);
        if !self.members.is_empty() {
            return Remaining::Somebody;
        }
        let others = match &self.kept {
            // Without a scan of all processes, which is the common case: the kill left nobody.
            Some(Kept::Former(group)) if group.is_gone() => return Remaining::Nobody(Proof::GroupGone),
            Some(Kept::Former(_)) if self.lost => return Remaining::Unknown(LOST),
            Some(Kept::Former(group)) => group.others(self.token),
            Some(Kept::Led(leader)) => leader.others(self.token),
            None => return Remaining::Unknown("the group was lost"),
        };
        self.members = others.members;
        match (others.unwatched, self.members.is_empty()) {
            (true, _) => Remaining::LookAgainSoon,
            (false, true) => Remaining::Nobody(Proof::NoneAlive),
            (false, false) => Remaining::Somebody,
        }
    }

    fn name_survivors(&mut self) -> Left {
        match &self.kept {
            Some(Kept::Led(leader)) => leader.survivors(),
            Some(Kept::Former(_)) if self.lost => Left::Unknown(LOST),
            Some(Kept::Former(group)) => group.survivors(),
            None => Left::Unknown("the group was lost"),
        }
    }

    fn is_done(&mut self) -> bool {
        if self.leader_has_ended() {
            self.reap_leader();
        }
        !matches!(self.kept, Some(Kept::Led(_)))
    }
}
