//! Ops as they come, for cases that are drawn plainly.

use super::ops::nonzero;
use super::parts::Act;
use crate::scenario::{Call, Op, Verb};

/// Most runs of a case.
pub(super) const MOST_RUNS: u32 = 4;

/// How far a run is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Run {
    /// Nothing ends it so far.
    Going,
    /// Something will have ended it.
    Ending,
    /// It was waited for.
    Over,
    /// Its handle was dropped.
    Gone,
}

/// These acts in their order, each where it is allowed: nobody waits for what would never end, a handle that was dropped is used no more,
/// and in the end no run is left of which nobody knows whether it ended.
pub(super) fn ops(acts: &[Act], ends_by_itself: bool, most_runs: u32) -> Vec<Op> {
    let fresh = if ends_by_itself { Run::Ending } else { Run::Going };
    let mut ops = vec![Op::new(Verb::Run)];
    let mut runs = vec![fresh];
    for act in acts {
        let timed = |verb| Op { delay: nonzero(act.delay), ..Op::new(verb) };
        if act.verb == Verb::Run {
            // A limit for the whole host must be gone before the next run.
            let is_hindered = ops.iter().rfind(|op| matches!(op.verb, Verb::Run | Verb::Wait));
            let is_hindered = is_hindered.is_some_and(|op| op.hindered_by.is_some());
            if (runs.len() as u32) < most_runs && !is_hindered {
                ops.push(Op { hindered_by: act.hindered_by, ..timed(Verb::Run) });
                runs.push(fresh);
            }
            continue;
        }
        if !act.verb.is_about_a_run() {
            ops.push(timed(act.verb));
            match act.verb {
                Verb::StopHost => ops.push(timed(Verb::ContinueHost)),
                _ => return ops,
            }
            continue;
        }
        let number = usize::from(act.run) % runs.len();
        let run = &mut runs[number];
        let is_allowed = match act.verb {
            Verb::Wait => *run == Run::Ending,
            Verb::AskAgain => *run == Run::Over,
            _ => *run != Run::Gone,
        };
        if !is_allowed {
            continue;
        }
        *run = match act.verb {
            Verb::Cancel if *run == Run::Going => Run::Ending,
            Verb::Drop => Run::Gone,
            Verb::Wait => Run::Over,
            Verb::Together if act.callers.iter().flatten().any(|call| *call == Call::Drop) => Run::Gone,
            Verb::Together if *run == Run::Going => Run::Ending,
            _ => *run,
        };
        let callers = match act.verb {
            // Without somebody who cancels at once all may wait for each other.
            Verb::Together => [vec![Call::Cancel]].into_iter().chain(act.callers.iter().cloned()).collect(),
            _ => Vec::new(),
        };
        ops.push(Op { run: Some(number as u32 + 1), callers, ..timed(act.verb) });
    }
    for (number, run) in runs.iter().enumerate() {
        let about = |verb| Op { run: Some(number as u32 + 1), ..Op::new(verb) };
        match run {
            Run::Going => ops.extend([about(Verb::Cancel), about(Verb::Wait)]),
            Run::Ending => ops.push(about(Verb::Wait)),
            Run::Over | Run::Gone => {}
        }
    }
    ops
}
