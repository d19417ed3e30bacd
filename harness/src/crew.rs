//! The crew: persistent warden processes that run cases side by side.

use std::fmt;

use crate::scenario::Scenario;
use crate::subject::SubjectSpec;
use crate::trace::{Tier, Trace};

/// What a crew is to be like.
#[derive(Clone, Debug, Default)]
pub struct CrewOptions {
    /// How many wardens; 0 for as many as fit this machine.
    pub jobs: usize,
    /// The tier to use; none for the strongest that this machine has.
    pub tier: Option<Tier>,
}

/// Why there is no crew.
#[derive(Debug)]
pub enum CrewError {
    /// This machine lacks the tier that was asked for.
    TierLacking(String),
    /// The harness could not start its own processes.
    Start(String),
}

impl fmt::Display for CrewError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TierLacking(why) | Self::Start(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for CrewError {}

/// Where scenarios come from: generated, read from files, or a shrinker's candidates.
pub trait Source {
    /// The next scenario; nothing when there are no more. May depend on what was seen so far.
    fn next(&mut self) -> Option<Scenario>;

    /// Takes the trace of a scenario that was given out, in any order. Answers whether to go on.
    fn take(&mut self, trace: Trace) -> bool;
}

/// What each tier can do on this machine.
#[derive(Clone, Debug)]
pub struct TierProbe {
    /// The tier.
    pub tier: Tier,
    /// Nothing if it works here, else why not.
    pub lacks: Option<String>,
    /// How it works here: as root, in a user namespace.
    pub how: String,
}

/// Which tiers this machine has, strongest first. Starts short-lived processes.
pub fn probe_tiers() -> Vec<TierProbe> {
    todo!()
}

/// Persistent warden processes.
pub struct Crew {}

impl Crew {
    /// Starts the wardens.
    ///
    /// # Errors
    ///
    /// When the machine lacks the tier, or processes cannot be started.
    pub fn start(_options: &CrewOptions) -> Result<Self, CrewError> {
        todo!()
    }

    /// The tier in use.
    pub fn tier(&self) -> Tier {
        todo!()
    }

    /// Runs what the source gives against a subject, many at a time, until the source has no more or wants to stop; then waits for
    /// the cases under way. Cases whose rules are about time run at most one a core.
    pub fn run(&mut self, _subject: &SubjectSpec, _source: &mut dyn Source) {
        todo!()
    }
}
