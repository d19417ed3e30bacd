//! The moves of all runs, for whoever wants to see each.

use std::error::Error;
use std::fmt;

use tokio::sync::broadcast::{self, error::RecvError};

use crate::run::RunId;
use crate::state::State;

/// A run has gone from one state to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Transition {
    /// Which run.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::json::text"))]
    pub run: RunId,
    /// Where it stood.
    pub from: State,
    /// Where it stands now.
    pub to: State,
}

/// Every move of every run of a [`Minder`](crate::Minder), in the order of each run. See
/// [`Minder::transitions`](crate::Minder::transitions).
///
/// Some thousand moves are kept for whoever is slow to take them; what is lost beyond that is said. To miss nothing of
/// one run, see [`Run::states`](crate::Run::states).
#[derive(Debug)]
pub struct Transitions {
    feed: broadcast::Receiver<Transition>,
}

/// So many moves were lost because they were not taken in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed(pub u64);

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} moves of runs were not taken in time", self.0)
    }
}

impl Error for Missed {}

impl Transitions {
    pub(super) fn new(feed: broadcast::Receiver<Transition>) -> Self {
        Self { feed }
    }

    /// The next move; `None` when the minder and all its runs are gone. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Transition, Missed>> {
        match self.feed.recv().await {
            Ok(transition) => Some(Ok(transition)),
            Err(RecvError::Lagged(count)) => Some(Err(Missed(count))),
            Err(RecvError::Closed) => None,
        }
    }
}
