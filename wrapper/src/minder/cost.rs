//! What tracking does for one run, and nothing else: for the benchmark and the test of what it costs. No part of what is
//! promised.

use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Part, Parts};
use crate::command::Command;
use crate::contain::Containment;
use crate::outcome::{Capture, Ended, Left, Outcome, Proof, StreamEnd, Timings};
use crate::run::Common;
use crate::state::Move;

/// A run as its minder sees it, without a child.
#[derive(Debug)]
pub struct TrackedRun(Arc<Common>);

/// Does what a start does for the minder: a run with both its outputs.
///
/// # Panics
/// If the minder is shut down.
#[track_caller]
pub fn track(command: &Command) -> TrackedRun {
    let common = Arc::new(Common::new(command.entry(Location::caller())));
    assert!(common.entry.registry().enrol(&common), "the minder is shut down");
    common.make(Move::Start);
    common.begin(1, Parts::default().with(Part::Stdout).with(Part::Stderr));
    common.entry.repeat_asking();
    TrackedRun(common)
}

impl TrackedRun {
    /// Does what the end of a run does for the minder.
    pub fn end(self) {
        let Self(common) = self;
        common.make(Move::Stop);
        common.lose(Parts::default().with(Part::Stdout));
        common.lose(Parts::default().with(Part::Stderr));
        common.end(&uneventful(), false);
        common.let_go();
    }
}

/// The outcome of a run that nothing happened to.
pub(super) fn uneventful() -> Outcome {
    let nothing = || Capture { bytes: Bytes::new(), total: 0, dropped: 0, end: StreamEnd::Closed };
    Outcome {
        ended: Ended::ByItself,
        exit: None,
        stop: None,
        left: Left::Nobody(Proof::NoChildren),
        containment: Containment::Nanny,
        stdout: nothing(),
        stderr: nothing(),
        timings: Timings { exited: None, settled: Duration::ZERO, ended: Duration::ZERO },
        signalled: None,
        usage: None,
    }
}
