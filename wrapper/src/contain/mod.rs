//! Containments: what holds a run's processes together, so that all of them can be ended.
//!
//! A containment starts the command so that it can hold it, and from then on does what the ladder asks for. The supervisor knows none of them by name: a new one is a variant here and a file beside this.

#[cfg_attr(not(target_os = "linux"), expect(unreachable_code, reason = "there is no process to hold"))]
mod group;
#[cfg(has_nanny)]
mod nanny;

use std::error::Error;
use std::fmt;
use std::io;
use std::process::{Command, ExitStatus};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::outcome::{KillCause, Left, Proof, Signalled, Usage};
use crate::plan::Ask;
#[cfg(has_nanny)]
use crate::sys::Adoption;
use crate::sys::{ChildEnd, CleanStart, Poller, Terminal, Token};

/// What holds a run's processes together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Containment {
    /// A process between the owner and the child, which is the parent of everybody who is orphaned, and ends everybody
    /// when the owner is gone. It needs no privilege.
    #[default]
    Nanny,
    /// The nanny and a control group (v2) for each run, below the one that the owner is in, where the owner may make
    /// one: everybody in it is killed at once, also those who fork without end, and also when the nanny is killed.
    ///
    /// The groups are `childminder-…/run-…`; they are used again, and removed when there was no run for a moment. What an
    /// owner that is killed leaves of them is removed by its nannies, else by the next owner at its first use.
    Cgroup,
    /// Nannies and a pid namespace for each run: nobody can leave it, and the kernel ends it when a nanny is killed.
    ///
    /// What is different for the child: processes outside do not exist for it, and it is not the owner's child, whose
    /// pid it sees as 0 or 1; the numbers that it knows of processes mean nothing outside (ours, like
    /// [`Run::pid`](crate::Run::pid), are the owner's). It has a mount namespace with a `/proc` of its own; what it
    /// mounts is gone with the run. Where the owner may not make namespaces, it gets a user namespace too: its user and
    /// group are the same, all others appear as 65534, set-uid programs of others do not change the user, and
    /// `setgroups` is denied. It is no sandbox: files, network and memory are the owner's.
    Sealed,
    /// A process group of its own. The floor: it needs nothing.
    Group,
}

/// A containment that cannot be had here.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unavailable {
    /// Which.
    pub containment: Containment,
    /// Why.
    pub why: String,
    /// Whether the system was only short of something, so that it may be had in a moment. Then nothing weaker is taken
    /// instead.
    pub passes: bool,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "containment {} cannot be had here: {}", self.containment, self.why)
    }
}

impl Error for Unavailable {}

/// What a command wants to be held by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// This, or else the next weaker that can be had.
    Preferred(Containment),
    /// This or nothing.
    Required(Containment),
}

/// What not every containment can give to a command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs {
    /// It was made elsewhere and must start itself.
    pub(crate) is_converted: bool,
    /// It is to have the owner's terminal.
    pub(crate) foreground: bool,
}

impl Wanted {
    /// What it gets for such a command.
    pub(crate) fn choose(self, needs: Needs) -> Result<Containment, Unavailable> {
        match self {
            Self::Required(containment) => containment.probe_for(needs).map(|_| containment),
            Self::Preferred(mut containment) => loop {
                match (containment.probe_for(needs), containment.next_weaker()) {
                    (Ok(_), _) => return Ok(containment),
                    (Err(lack), Some(weaker)) if !lack.passes => containment = weaker,
                    (Err(lack), _) => return Err(lack),
                }
            },
        }
    }
}

impl Containment {
    /// All of them, the strongest first.
    pub const ALL: [Self; 4] = [Self::Sealed, Self::Cgroup, Self::Nanny, Self::Group];

    /// What this containment cannot hold, in one sentence for people.
    pub fn cannot_hold(self) -> &'static str {
        match self {
            Self::Sealed => {
                "a process that another program starts at the run's request (a service manager, a container engine, \
                 at, cron)"
            }
            Self::Cgroup => {
                "a process that another program starts at the run's request (a service manager, a container engine, \
                 at, cron); when the nanny itself is killed, a process that has left the control group and the \
                 child's session"
            }
            Self::Nanny => {
                "a process that another program starts at the run's request (a service manager, a container engine, \
                 at, cron); when the nanny itself is killed, a process that has left the child's session"
            }
            Self::Group => {
                "a process that moved to a session or process group of its own; anybody at all when the owner is killed"
            }
        }
    }

    /// Whether it can be had here, and how, in a few words for people. It is tried once in a process; the first call
    /// may take a few milliseconds. That of [`Cgroup`](Self::Cgroup) also ends and removes what dead owners have left,
    /// which may take two seconds.
    ///
    /// # Errors
    /// It cannot be had; the error says why.
    pub fn probe(self) -> Result<String, Unavailable> {
        let unavailable = |why, passes| Unavailable { containment: self, why, passes };
        match self {
            #[cfg(has_nanny)]
            Self::Nanny | Self::Cgroup | Self::Sealed => {
                let image = crate::sys::image().map_err(|lack| unavailable(lack.to_string(), lack.passes))?;
                match self {
                    Self::Cgroup => match crate::sys::cgroups(image) {
                        Ok(home) => Ok(format!("below {}", home.display())),
                        Err(lack) => Err(unavailable(lack.to_string(), false)),
                    },
                    Self::Sealed => match crate::sys::namespaces(image) {
                        Ok(()) => Ok("a pid namespace for each run".to_owned()),
                        Err(lack) => Err(unavailable(lack.to_owned(), false)),
                    },
                    _ => Ok(format!("executed from {}", image.kind())),
                }
            }
            #[cfg(not(has_nanny))]
            Self::Nanny | Self::Cgroup | Self::Sealed => {
                Err(unavailable("there is no nanny for this platform".to_owned(), false))
            }
            Self::Group => match crate::sys::unsupported() {
                None => Ok("needs nothing".to_owned()),
                Some(lack) => Err(unavailable(lack.to_owned(), false)),
            },
        }
    }

    fn probe_for(self, needs: Needs) -> Result<String, Unavailable> {
        let why = match self {
            // It starts itself, and that is too late.
            Self::Sealed if needs.is_converted => {
                "a command that was made by another builder cannot be sealed"
            }
            Self::Sealed | Self::Cgroup if needs.foreground => "it does not hold a child in the foreground",
            _ => return self.probe(),
        };
        Err(Unavailable { containment: self, why: why.to_owned(), passes: false })
    }

    fn next_weaker(self) -> Option<Self> {
        match self {
            Self::Sealed | Self::Cgroup => Some(Self::Nanny),
            Self::Nanny => Some(Self::Group),
            Self::Group => None,
        }
    }

    /// Starts a command inside this containment, which was probed.
    pub(crate) fn start(self, launch: Launch<'_>) -> Result<Box<dyn Hold>, Refusal> {
        match self {
            #[cfg(has_nanny)]
            Self::Nanny if launch.terminal.is_some() => start_nursed(launch, || Ok(nanny::Bound::Foreground)),
            #[cfg(has_nanny)]
            Self::Nanny => start_nursed(launch, || Ok(nanny::Bound::Nothing)),
            #[cfg(has_nanny)]
            Self::Cgroup => start_nursed(launch, || Ok(nanny::Bound::Cgroup(crate::sys::Cgroup::take()?))),
            #[cfg(has_nanny)]
            Self::Sealed => start_nursed(launch, || Ok(nanny::Bound::Namespace)),
            #[cfg(not(has_nanny))]
            Self::Nanny | Self::Cgroup | Self::Sealed => {
                Err(Refusal::not_started("have a nanny", io::ErrorKind::Unsupported.into()))
            }
            Self::Group => group::start(launch),
        }
    }
}

impl fmt::Display for Containment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sealed => "sealed",
            Self::Cgroup => "cgroup",
            Self::Nanny => "nanny",
            Self::Group => "group",
        })
    }
}

/// There is no containment of this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoSuchContainment(String);

impl fmt::Display for NoSuchContainment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Containment::ALL.map(|containment| containment.to_string());
        write!(f, "there is no containment {:?}; there are {}", self.0, names.join(", "))
    }
}

impl Error for NoSuchContainment {}

impl FromStr for Containment {
    type Err = NoSuchContainment;

    /// Takes the name that it is displayed by.
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let named = |containment: &Self| containment.to_string() == name;
        Self::ALL.into_iter().find(named).ok_or_else(|| NoSuchContainment(name.to_owned()))
    }
}

#[cfg(has_nanny)]
fn start_nursed(
    launch: Launch<'_>,
    bound: impl FnOnce() -> Result<nanny::Bound, crate::sys::NotStarted>,
) -> Result<Box<dyn Hold>, Refusal> {
    let image = crate::sys::image()
        .map_err(|lack| Refusal::not_started("have a nanny", io::Error::other(lack.to_string())))?;
    let bound = bound().map_err(|lack| Refusal::not_started(lack.doing, lack.error))?;
    Ok(Box::new(nanny::start(launch, image, bound)?))
}

/// Whether something is kept for further runs, which [`tidy_up`] removes.
pub(crate) fn keeps_something() -> bool {
    #[cfg(has_nanny)]
    return crate::sys::keeps_cgroups();
    #[cfg(not(has_nanny))]
    false
}

/// Removes what is kept for further runs, if there is none now. Returns whether nothing is left.
pub(crate) fn tidy_up() -> bool {
    #[cfg(has_nanny)]
    return crate::sys::tidy_up();
    #[cfg(not(has_nanny))]
    true
}

/// A command that is to be started, and who wants to hear of its end.
pub(crate) struct Launch<'a> {
    pub(crate) command: &'a mut Command,
    /// Whether the child has only those environment variables that the command sets.
    pub(crate) clears_environment: bool,
    /// Whether the command may carry what cannot be read from it, so that only itself can start it.
    pub(crate) is_converted: bool,
    #[cfg(has_nanny)]
    pub(crate) adoption: &'a mut Adoption,
    pub(crate) clean_start: &'a mut CleanStart,
    pub(crate) ends: ChildEnds,
    /// What the child takes the foreground of.
    pub(crate) terminal: Option<&'a Terminal>,
    pub(crate) poller: &'a Arc<Poller>,
    /// What the hold reports with.
    pub(crate) token: Token,
}

/// The child's ends of its standard streams.
pub(crate) struct ChildEnds {
    pub(crate) stdin: ChildEnd,
    pub(crate) stdout: ChildEnd,
    pub(crate) stderr: ChildEnd,
}

/// Why there is no hold. Nothing that was started is left.
pub(crate) enum Refusal {
    /// Nothing was started, or it did not come as far as the program.
    NotStarted { doing: &'static str, error: io::Error },
    /// The child was started and could not be held, so it was killed.
    NotHeld { pid: u32, error: io::Error },
}

impl Refusal {
    fn not_started(doing: &'static str, error: io::Error) -> Self {
        Self::NotStarted { doing, error }
    }
}

impl ChildEnds {
    /// Calls `spawn` with these ends in the command.
    fn lent_to<T>(self, command: &mut Command, spawn: impl FnOnce(&mut Command) -> T) -> T {
        command.stdin(self.stdin).stdout(self.stdout).stderr(self.stderr);
        let spawned = spawn(command);
        // The command outlives the start, and would keep the child's ends of the pipes open.
        let none = Self::none();
        command.stdin(none.stdin).stdout(none.stdout).stderr(none.stderr);
        spawned
    }

    fn none() -> Self {
        Self { stdin: ChildEnd::Null, stdout: ChildEnd::Null, stderr: ChildEnd::Null }
    }
}

/// Who has an eye on the clock during a grace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GraceKeptBy {
    /// The supervisor kills when the grace is over.
    Supervisor,
    /// The hold does; the supervisor only if the hold does not.
    #[cfg_attr(not(has_nanny), expect(dead_code, reason = "only a nanny keeps a grace"))]
    Hold,
}

/// When a stop was carried out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StopTimes {
    pub(crate) asked: Option<Instant>,
    pub(crate) killed: Option<(Instant, KillCause)>,
}

/// The end of a leader that was released.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LeaderEnd {
    /// `None` if it is not known.
    pub(crate) status: Option<ExitStatus>,
    /// When, if the hold knows it better than the supervisor.
    pub(crate) at: Option<Instant>,
    /// Whether it ended before anybody was asked or killed, if the hold knows it better than the supervisor.
    pub(crate) by_itself: Option<bool>,
    pub(crate) usage: Option<Usage>,
    /// The containment itself was destroyed from outside.
    pub(crate) lost: bool,
}

/// What the supervisor can do with everybody a run has started. None of these blocks.
pub(crate) trait Hold: Send {
    /// The pid of the leader, which is the process that was asked for.
    fn leader_pid(&self) -> u32;

    /// Whether the leader's end is reported by the token of the hold, also if it has ended already.
    fn reports_leader(&self) -> bool {
        true
    }

    /// Whether the leader has ended. Looks without reaping.
    fn leader_has_ended(&mut self) -> bool;

    /// Asks everybody to end, also those who were asked otherwise before. Says who kills them when the grace is over; without
    /// one it is the supervisor that goes on.
    fn ask(&mut self, ask: Ask, grace: Option<Duration>) -> GraceKeptBy;

    /// Whether it knows that everybody is to be asked: an end before that is an end by itself.
    fn has_asked(&self) -> bool {
        true
    }

    /// Kills everybody.
    fn kill(&mut self);

    /// Reaps the leader if it has ended. Nobody is signalled after this.
    fn release(&mut self) -> LeaderEnd;

    /// Looks who is left but for the leader, and reports the end of each by the token of the hold.
    fn look(&mut self) -> Remaining;

    /// Names whoever is still alive, the leader included.
    fn name_survivors(&mut self) -> Left;

    /// Whether nobody is left for us to reap. Reaps whom it can.
    fn is_done(&mut self) -> bool;

    /// When everybody was asked and killed, as far as the hold knows it better than the supervisor.
    fn stop_times(&self) -> StopTimes {
        StopTimes::default()
    }

    /// Who was asked and who was killed, if the hold counts that.
    fn signalled(&self) -> Option<Signalled> {
        None
    }
}

/// Who is left but for the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remaining {
    Nobody(Proof),
    /// The token will be reported when one of them ends.
    Somebody,
    /// There is somebody whose end will not be reported.
    LookAgainSoon,
    /// It cannot be found out.
    Unknown(&'static str),
}
