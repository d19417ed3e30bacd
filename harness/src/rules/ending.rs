//! What ended a run: exactly one cause, so that a survivor is charged to exactly one rule.

use fake_cli::script::Signal;

use super::facts::{Facts, Node, Run, Stop, micros};
use super::standing::{Answer, hearing};
use crate::scenario::Verb;
use crate::trace::{Reason, Status};

/// What can end a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The root ended by itself.
    Itself,
    /// The caller cancelled it.
    Cancelled,
    /// The wrapper's own timeout.
    TimedOut,
    /// The caller dropped its handle.
    Dropped,
    /// The host was killed or signalled.
    Owner,
}

impl Cause {
    /// For reports: what the run did.
    pub const fn told(self) -> &'static str {
        match self {
            Self::Itself => "ended by itself",
            Self::Cancelled => "was cancelled",
            Self::TimedOut => "timed out",
            Self::Dropped => "was dropped",
            Self::Owner => "was ended with its host",
        }
    }

    /// For reports: after what somebody was still alive.
    pub const fn after(self) -> &'static str {
        match self {
            Self::Itself => "the root exited",
            Self::Cancelled => "the cancel",
            Self::TimedOut => "the timeout",
            Self::Dropped => "the drop",
            Self::Owner => "the host was ended",
        }
    }
}

/// What ended a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Nothing did, or nothing did that the trace can name; says why.
    None(String),
    /// This did.
    By {
        /// What.
        cause: Cause,
        /// When, at the earliest: nothing that follows from it can have come before.
        at_us: u64,
        /// Why it may have been something else that came at nearly the same time. With a doubt nothing is broken.
        doubt: Option<String>,
    },
}

impl Ending {
    fn certain(cause: Cause, at_us: u64) -> Self {
        Self::By { cause, at_us, doubt: None }
    }

    fn doubtful(cause: Cause, at_us: u64, why: &str) -> Self {
        Self::By { cause, at_us, doubt: Some(why.to_owned()) }
    }

    fn none(why: &str) -> Self {
        Self::None(why.to_owned())
    }
}

/// What ended a run.
pub fn ending(facts: &Facts<'_>, run: &Run<'_>) -> Ending {
    let Some(root) = run.root() else {
        return Ending::None(facts.because("the root never said hello"));
    };
    if root.expired(&facts.trace.scenario.script) {
        return Ending::none("the root's time to live was over before anything ended the run");
    }
    let stop = run.first_stop();
    let timeout_us = facts.trace.limits.timeout.map(|span| run.issued_us.saturating_add(micros(span)));
    // A root that was asked by a signal and then exits obeys: that is no end by itself.
    let exit =
        root.exiting().filter(|(exit_us, _)| root.asked_us().is_none_or(|asked_us| asked_us > *exit_us));
    let ending = match exit {
        Some((exit_us, _)) => end_by_itself(facts, run, exit_us, stop, timeout_us),
        None => end_by_others(facts, run, stop, timeout_us),
    };
    match ending {
        Ending::By { cause: cause @ (Cause::Cancelled | Cause::Dropped), at_us, doubt: None }
            if root.hello_us().is_none_or(|up_us| up_us > at_us) =>
        {
            Ending::doubtful(cause, at_us, "the op came before the root was up, which K7 is about")
        }
        ending => ending,
    }
}

fn reason<'a>(run: &Run<'a>) -> Option<&'a Reason> {
    run.ended.map(|(_, outcome)| &outcome.reason)
}

fn end_by_itself(
    facts: &Facts<'_>,
    run: &Run<'_>,
    exit_us: u64,
    stop: Option<Stop>,
    timeout_us: Option<u64>,
) -> Ending {
    let timeout_first = timeout_us.filter(|timeout_us| *timeout_us <= exit_us);
    let stop_first = stop.filter(|stop| stop.at_us < exit_us);
    match (stop_first, timeout_first) {
        (None, None) => Ending::certain(Cause::Itself, exit_us),
        (Some(stop), timeout_us) if timeout_us.is_none_or(|timeout_us| stop.at_us < timeout_us) => {
            Ending::doubtful(
                cause_of(facts, stop),
                stop.at_us,
                "the root exited by itself after the op was issued; who came first cannot be said",
            )
        }
        (_, timeout_us) => match reason(run) {
            Some(Reason::Itself) if stop_first.is_none() => Ending::certain(Cause::Itself, exit_us),
            // The moment of the timeout is its earliest one. One that had fired would have ended this root before it could exit.
            Some(Reason::Unsaid) if stop_first.is_none() && ends_on_term(facts, run, exit_us) => {
                Ending::certain(Cause::Itself, exit_us)
            }
            Some(Reason::TimedOut) => Ending::doubtful(
                Cause::TimedOut,
                timeout_us.unwrap_or(exit_us),
                "the root exited by itself when the timeout was over; who came first cannot be said",
            ),
            _ => Ending::doubtful(
                Cause::Itself,
                exit_us,
                "the root exited by itself when it may have been stopped already; who came first cannot be said",
            ),
        },
    }
}

fn ends_on_term(facts: &Facts<'_>, run: &Run<'_>, at_us: u64) -> bool {
    let script = &facts.trace.scenario.script;
    run.root().is_some_and(|root| {
        let heard = hearing(script, root, at_us);
        heard.answer == Answer::Ends && !heard.stopped
    })
}

fn end_by_others(facts: &Facts<'_>, run: &Run<'_>, stop: Option<Stop>, timeout_us: Option<u64>) -> Ending {
    let stopped_us = first_sign_of_an_end(run);
    if let Some(stop) = stop
        && stopped_us.is_none_or(|stopped_us| stop.at_us <= stopped_us)
    {
        return stop_or_timeout(facts, run, stop, timeout_us);
    }
    let Some(timeout_us) = timeout_us else {
        return match stopped_us {
            Some(_) => Ending::none("the root was killed or asked to end by nobody who is known"),
            None => Ending::None(facts.because("nothing ended the run")),
        };
    };
    match (stopped_us, reason(run)) {
        (_, Some(Reason::Itself)) => {
            Ending::none("the root was killed by something else than the timeout, says the wrapper")
        }
        (Some(stopped_us), Some(Reason::TimedOut)) => {
            Ending::certain(Cause::TimedOut, timeout_us.min(stopped_us))
        }
        (Some(stopped_us), _) if stopped_us < timeout_us => {
            Ending::none("the root was killed or asked to end before the timeout by nobody who is known")
        }
        (Some(_), _) => Ending::certain(Cause::TimedOut, timeout_us),
        // Long after the timeout the root is alive and untouched: the timeout was to end it and did not.
        (None, _) if facts.host_fell_silent() && facts.last_us() > timeout_us => {
            Ending::certain(Cause::TimedOut, timeout_us)
        }
        (None, _) => Ending::None(facts.because("nothing ended the run")),
    }
}

/// The op was issued before there was any sign of an end.
fn stop_or_timeout(facts: &Facts<'_>, run: &Run<'_>, stop: Stop, timeout_us: Option<u64>) -> Ending {
    let cause = cause_of(facts, stop);
    let Some(timeout_us) = timeout_us else { return Ending::certain(cause, stop.at_us) };
    let slack_us = facts.slack_us();
    match reason(run) {
        Some(Reason::TimedOut) if stop.at_us >= timeout_us => Ending::certain(Cause::TimedOut, timeout_us),
        Some(Reason::TimedOut) if stop.at_us.saturating_add(slack_us) >= timeout_us => Ending::doubtful(
            cause,
            stop.at_us,
            "the timeout was over when the op was issued or soon after, and the wrapper says that it came first",
        ),
        Some(Reason::Cancelled) if cause == Cause::Cancelled => Ending::certain(cause, stop.at_us),
        _ if over_before(facts, run, timeout_us) || died_of_cancel(facts, cause) => {
            Ending::certain(cause, stop.at_us)
        }
        _ if stop.at_us.saturating_add(slack_us) < timeout_us => Ending::certain(cause, stop.at_us),
        _ => Ending::doubtful(
            cause,
            stop.at_us,
            "the timeout was over at nearly the same time; who came first cannot be said",
        ),
    }
}

/// Whether the run was over, or its host gone, before the timeout can have fired.
fn over_before(facts: &Facts<'_>, run: &Run<'_>, timeout_us: u64) -> bool {
    let host_gone_us = facts.host_gone().map(|(at_us, _)| at_us);
    [run.over_us(), host_gone_us].into_iter().flatten().any(|over_us| over_us < timeout_us)
}

/// Whether a command died of the very signal that is its cancel, so that nothing else had ended it before.
fn died_of_cancel(facts: &Facts<'_>, cause: Cause) -> bool {
    let died = facts.host_gone().is_some_and(|(_, status)| status == Status::Signaled(Signal::Term.number()));
    cause == Cause::Cancelled && facts.is_template() && died
}

/// When the end of a run showed: for a timeout, whose moment is only known as its earliest one, by its first effect, and
/// never if there was none.
pub fn shown_us(run: &Run<'_>, cause: Cause, at_us: u64) -> u64 {
    match cause {
        Cause::TimedOut => {
            let asked = run.nodes.iter().filter_map(Node::asked_us);
            asked.chain(first_sign_of_an_end(run)).min().unwrap_or(u64::MAX).max(at_us)
        }
        Cause::Itself | Cause::Cancelled | Cause::Dropped | Cause::Owner => at_us,
    }
}

/// When it first showed that the root was asked to end or was dead, or that the run had ended.
fn first_sign_of_an_end(run: &Run<'_>) -> Option<u64> {
    let root = run.root()?;
    let ended_us = run.ended.map(|(at_us, _)| at_us);
    [ended_us, root.gone_us, root.asked_us()].into_iter().flatten().min()
}

/// A template's cancel is TERM to it, so TERM to it is a cancel.
pub fn is_cancel(facts: &Facts<'_>, verb: Verb) -> bool {
    verb == Verb::Cancel || facts.is_template() && verb == Verb::SignalHost(Signal::Term)
}

fn cause_of(facts: &Facts<'_>, stop: Stop) -> Cause {
    match stop.verb {
        verb if is_cancel(facts, verb) => Cause::Cancelled,
        Verb::Drop => Cause::Dropped,
        _ => Cause::Owner,
    }
}
