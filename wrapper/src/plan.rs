//! How a run is asked to end, as data: a ladder of requests, each with the time that it is given. The kill is always at
//! its end.

use std::fmt;
use std::time::Duration;

/// How a run is asked to end: a ladder of [requests](Ask), each with the time that it is given before the next one is made.
/// The last has the [grace](crate::Command::grace), and then everybody is killed.
///
/// A ladder is climbed only as far as it must be: who ends sooner is not waited for. It is the same for every reason to stop
/// a run. `cancel` called a second time, and a shutdown without time, go to the kill at once. So does the end of the owner.
///
/// ```
/// use std::time::Duration;
/// use childminder::{Ask, Command, StopPlan, StopSignal};
///
/// // SIGINT, two seconds later SIGTERM, when the grace is over SIGKILL.
/// let plan = StopPlan::begin(Ask::Signal(StopSignal::Interrupt))
///     .then_after(Duration::from_secs(2), Ask::Signal(StopSignal::Terminate));
/// Command::new("ffmpeg").stop_plan(plan).grace(Duration::from_secs(3));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopPlan {
    first: Ask,
    /// What is asked when what was asked before had so much time. Mostly nothing, which takes no memory.
    then: Vec<(Duration, Ask)>,
}

/// How everybody is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ask {
    /// By the end of its input, which only who reads it notices. Nobody is signalled, but for the SIGCONT that a stopped
    /// process needs to notice anything.
    ///
    /// It is for a child whose stdin is [`Piped`](crate::Input::Piped) or [`Bytes`](crate::Input::Bytes). The
    /// [`ChildStdin`](crate::ChildStdin) of the former is closed wherever it is: who writes to it gets an error. If it was closed
    /// before, its time counts from then. With another stdin there is nothing to close, and the next request is made at once.
    CloseStdin,
    /// By a signal to everybody, and to who is orphaned later.
    Signal(StopSignal),
}

/// A signal that may ask for an end. Who does not handle it is ended by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StopSignal {
    /// SIGHUP.
    Hangup,
    /// SIGINT, which is what Ctrl-C sends.
    Interrupt,
    /// SIGQUIT. Who does not handle it may leave a core file.
    Quit,
    /// SIGTERM.
    Terminate,
    /// SIGUSR1.
    User1,
    /// SIGUSR2.
    User2,
}

/// How far a ladder was climbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StopRung {
    /// Everybody has ended after this request, with no need of another.
    Asked(Ask),
    /// To the kill.
    Killed,
}

/// What a server is given to end by itself after the end of its input.
const AFTER_STDIN: Duration = Duration::from_secs(2);

impl StopPlan {
    /// A ladder whose first request is this. Without another one it has the grace.
    pub fn begin(ask: Ask) -> Self {
        Self { first: ask, then: Vec::new() }
    }

    /// …and when this time is over, this is asked.
    #[must_use]
    pub fn then_after(mut self, time: Duration, ask: Ask) -> Self {
        self.then.push((time, ask));
        self
    }

    /// For a server of the Model Context Protocol that is spoken to by its stdin and stdout: its stdin is closed, which is
    /// how it is told to end; two seconds later SIGTERM, and SIGKILL when the grace is over.
    pub fn mcp_server() -> Self {
        Self::begin(Ask::CloseStdin).then_after(AFTER_STDIN, Ask::Signal(StopSignal::Terminate))
    }

    /// For a language server. The protocol's own good-bye is the caller's: write the request `shutdown`, read its answer,
    /// write `exit`, and wait or cancel. For a server that does not end then, or that never got to hear it, its stdin is
    /// closed; two seconds later SIGTERM, and SIGKILL when the grace is over.
    pub fn lsp_server() -> Self {
        Self::mcp_server()
    }

    /// The requests in their order, each with the time that it has; the last has `grace`.
    pub fn requests(&self, grace: Duration) -> impl Iterator<Item = (Ask, Duration)> {
        let asks = [self.first].into_iter().chain(self.then.iter().map(|(_, ask)| *ask));
        asks.zip(self.then.iter().map(|(time, _)| *time).chain([grace]))
    }

    /// After what time everybody is killed at the latest, if every request is waited for as long as can be.
    pub fn longest(&self, grace: Duration) -> Duration {
        self.requests(grace).fold(Duration::ZERO, |sum, (_, time)| sum.saturating_add(time))
    }
}

impl Default for StopPlan {
    /// SIGTERM, and SIGKILL when the grace is over.
    fn default() -> Self {
        Self::begin(Ask::Signal(StopSignal::Terminate))
    }
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CloseStdin => f.write_str("close stdin"),
            Self::Signal(signal) => signal.fmt(f),
        }
    }
}

impl fmt::Display for StopSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hangup => "SIGHUP",
            Self::Interrupt => "SIGINT",
            Self::Quit => "SIGQUIT",
            Self::Terminate => "SIGTERM",
            Self::User1 => "SIGUSR1",
            Self::User2 => "SIGUSR2",
        })
    }
}

impl fmt::Display for StopRung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked(ask) => ask.fmt(f),
            Self::Killed => f.write_str("SIGKILL"),
        }
    }
}

/// A request that is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) ask: Ask,
    pub(crate) time: Duration,
    /// Whether the kill is next.
    pub(crate) is_last: bool,
}

/// A plan, and how far it was followed.
#[derive(Debug)]
pub(crate) struct Ladder {
    plan: StopPlan,
    grace: Duration,
    made: usize,
    asked: Option<Ask>,
}

impl Ladder {
    pub(crate) fn new(plan: StopPlan, grace: Duration) -> Self {
        Self { plan, grace, made: 0, asked: None }
    }

    /// The next request. `try_to` makes it, and says whether there was anybody to make it to; those that were made in vain
    /// are passed over. `None` if there is none left.
    pub(crate) fn climb<T>(&mut self, mut try_to: impl FnMut(Request) -> Option<T>) -> Option<T> {
        loop {
            let (ask, time) = self.plan.requests(self.grace).nth(self.made)?;
            self.made += 1;
            if let Some(made) = try_to(Request { ask, time, is_last: self.is_at_its_end() }) {
                self.asked = Some(ask);
                return Some(made);
            }
        }
    }

    /// Whether only the kill is left.
    pub(crate) fn is_at_its_end(&self) -> bool {
        self.made > self.plan.then.len()
    }

    /// What was asked last.
    pub(crate) fn asked(&self) -> Option<Ask> {
        self.asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: Ask = Ask::Signal(StopSignal::Terminate);
    const GRACE: Duration = Duration::from_secs(7);

    fn requests(plan: &StopPlan) -> Vec<(Ask, Duration)> {
        plan.requests(GRACE).collect()
    }

    #[test]
    fn without_a_plan_everybody_is_asked_by_sigterm_and_has_the_grace() {
        assert_eq!(requests(&StopPlan::default()), [(TERM, GRACE)]);
    }

    #[test]
    fn a_server_has_two_seconds_after_the_end_of_its_input_and_the_grace_after_sigterm() {
        for plan in [StopPlan::mcp_server(), StopPlan::lsp_server()] {
            assert_eq!(requests(&plan), [(Ask::CloseStdin, AFTER_STDIN), (TERM, GRACE)]);
            assert_eq!(plan.longest(GRACE), AFTER_STDIN + GRACE);
            assert_eq!(plan.longest(Duration::MAX), Duration::MAX);
        }
    }

    #[test]
    fn what_is_asked_in_vain_is_passed_over_and_is_not_what_was_asked_last() {
        let mut ladder = Ladder::new(StopPlan::mcp_server(), GRACE);
        let signals = |request: Request| matches!(request.ask, Ask::Signal(_)).then_some(request);
        assert_eq!(ladder.climb(signals), Some(Request { ask: TERM, time: GRACE, is_last: true }));
        assert_eq!((ladder.asked(), ladder.is_at_its_end()), (Some(TERM), true));
        assert_eq!(ladder.climb(Some), None);

        let mut ladder = Ladder::new(StopPlan::begin(Ask::CloseStdin), GRACE);
        assert_eq!(ladder.climb(signals), None);
        assert_eq!((ladder.asked(), ladder.is_at_its_end()), (None, true));
    }
}
