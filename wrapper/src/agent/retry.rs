//! What went wrong with an attempt, and whether another one is worth it. Pure: it is told how it ended and what the time
//! is.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use super::dialect::{Dialect, ExitMeans, Framing};
use super::message::{Message, MessageKind};
use crate::outcome::{Ended, Outcome, Reason};
use crate::start::StartError;

/// What went wrong with an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// The agent said, or its exit code says, that it may go well the next time: the service was busy.
    Busy,
    /// The agent reported an error.
    Reported,
    /// It ended well, and has given no result although its dialect has one.
    NoResult,
    /// It ended with an exit code that is not 0, without a word.
    Failed,
    /// A signal ended it that nobody sent here.
    Crashed,
    /// It took longer than an attempt may.
    TimedOut,
    /// It said nothing for longer than it may.
    Silent,
    /// The system had no room for it: too many processes, no memory, no descriptors.
    NoRoom,
    /// It could not be started for a reason that will not pass; only a retry can find that.
    NotStarted,
    /// What held the run was destroyed, or its status was taken away by somebody else.
    Lost,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Busy => "busy",
            Self::Reported => "reported",
            Self::NoResult => "no result",
            Self::Failed => "exit code",
            Self::Crashed => "crashed",
            Self::TimedOut => "timed out",
            Self::Silent => "silent",
            Self::NoRoom => "no room",
            Self::NotStarted => "not started",
            Self::Lost => "lost",
        })
    }
}

impl Fault {
    /// Each of them.
    pub const ALL: [Self; 10] = [
        Self::Busy,
        Self::Reported,
        Self::NoResult,
        Self::Failed,
        Self::Crashed,
        Self::TimedOut,
        Self::Silent,
        Self::NoRoom,
        Self::NotStarted,
        Self::Lost,
    ];
}

/// How often, and after which time, an agent is tried again.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Retries {
    /// How many attempts there may be after the first. Default: 3.
    pub most: u32,
    /// What is worth another attempt. Default: [`Fault::Busy`] and [`Fault::NoRoom`]. An authentication failure never is.
    pub worth: Vec<Fault>,
    /// The pause before the second attempt; each further one is twice as long. Default: 500 ms.
    pub first_pause: Duration,
    /// The longest pause, but for the jitter. Default: 30 s.
    pub longest_pause: Duration,
    /// Adds to each pause a random part, up to its length again, so that those who failed together do not come back
    /// together. Default: true.
    pub jitter: bool,
    /// What all attempts and pauses may take together. An attempt under way is stopped then, and no pause is begun that
    /// would last longer. Default: 10 minutes. `None`: for ever.
    pub deadline: Option<Duration>,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            most: 3,
            worth: vec![Fault::Busy, Fault::NoRoom],
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(30),
            jitter: true,
            deadline: Some(Duration::from_secs(600)),
        }
    }
}

impl Retries {
    /// One attempt, without any deadline but its own.
    pub fn none() -> Self {
        Self { most: 0, deadline: None, ..Self::default() }
    }

    pub(super) fn pauses(&self) -> ExponentialBackoff {
        let pauses = ExponentialBuilder::new()
            .with_factor(2.0)
            .with_min_delay(self.first_pause.min(self.longest_pause))
            .with_max_delay(self.longest_pause)
            .with_max_times(self.most as usize);
        if self.jitter { pauses.with_jitter().build() } else { pauses.build() }
    }

    /// What is left of the deadline; `None` if there is none.
    pub(super) fn left(&self, began: Instant, now: Instant) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_sub(now.saturating_duration_since(began)))
    }

    /// How long to pause before the next attempt, if there shall be one.
    pub(super) fn pause(
        &self,
        fault: Fault,
        pauses: &mut ExponentialBackoff,
        left: Option<Duration>,
    ) -> Option<Duration> {
        if !self.worth.contains(&fault) {
            return None;
        }
        let pause = pauses.next()?;
        left.is_none_or(|left| pause < left).then_some(pause)
    }
}

/// How one attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AttemptEnd {
    Answered,
    AuthenticationFailed,
    Cancelled,
    Failed(Fault),
}

/// What an attempt has said so far, as far as it matters for its end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heard {
    pub(super) refused: bool,
    pub(super) result: bool,
    error: bool,
    passing: bool,
}

impl Heard {
    pub(super) fn note(&mut self, dialect: &Dialect, message: &Message) {
        match message.kind {
            MessageKind::AuthenticationError => self.refused = true,
            MessageKind::Result => self.result = true,
            MessageKind::Error => self.error = true,
            _ => {}
        }
        if matches!(message.kind, MessageKind::Error | MessageKind::Diagnostic) {
            self.passing |= message.text.as_deref().is_some_and(|text| dialect.tells_of_passing(text));
        }
    }

    /// Whether there is an answer, if the agent ends well. In plain text nobody can tell an error from what is said about one.
    fn has_answered(self, dialect: &Dialect) -> bool {
        match &dialect.framing {
            Framing::PlainText { .. } => true,
            Framing::JsonLines { gives_result, .. } => self.result || !(*gives_result || self.error),
        }
    }

    /// What it all amounts to. What the agent says weighs more than how it ends, because it says why; but an answer and
    /// a good end are an answer, whatever was complained about before.
    pub(super) fn conclude(self, dialect: &Dialect, was_cancelled: bool, outcome: &Outcome) -> AttemptEnd {
        let code = outcome.exit.and_then(|exit| exit.code());
        let means = code.and_then(|code| dialect.exit_means(code));
        match outcome.ended {
            Ended::ByItself if self.result && code == Some(0) => AttemptEnd::Answered,
            _ if self.refused => AttemptEnd::AuthenticationFailed,
            Ended::Stopped(Reason::Cancelled | Reason::Dropped | Reason::ShutDown) => AttemptEnd::Cancelled,
            Ended::Stopped(Reason::TimedOut) => AttemptEnd::Failed(Fault::TimedOut),
            Ended::Stopped(Reason::Idle) => AttemptEnd::Failed(Fault::Silent),
            Ended::Stopped(_) => AttemptEnd::Failed(Fault::Lost),
            Ended::ByItself => match (code, means) {
                (Some(0), _) if self.has_answered(dialect) => AttemptEnd::Answered,
                (_, Some(ExitMeans::AuthenticationFailed)) => AttemptEnd::AuthenticationFailed,
                _ if was_cancelled => AttemptEnd::Cancelled,
                (_, Some(ExitMeans::Passing)) => AttemptEnd::Failed(Fault::Busy),
                _ if self.passing => AttemptEnd::Failed(Fault::Busy),
                _ if self.error => AttemptEnd::Failed(Fault::Reported),
                (Some(0), None) => AttemptEnd::Failed(Fault::NoResult),
                (Some(_), None) => AttemptEnd::Failed(Fault::Failed),
                (None, _) if outcome.exit.is_some() => AttemptEnd::Failed(Fault::Crashed),
                (None, _) => AttemptEnd::Failed(Fault::Lost),
            },
        }
    }
}

/// Whether a start that failed may go well the next time.
pub(super) fn is_want_of_room(error: &StartError) -> bool {
    let source = match error {
        StartError::Supervisor(source) | StartError::Pipe(source) => source,
        StartError::Spawn { source, .. } | StartError::Hold { source, .. } => source,
        _ => return false,
    };
    // EAGAIN, ENOMEM; EMFILE and ENFILE have no name in the standard library.
    matches!(source.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory)
        || (cfg!(target_os = "linux") && matches!(source.raw_os_error(), Some(23 | 24)))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::contain::Containment;
    use crate::lines::LineEnd;
    use crate::outcome::{Capture, Left, Proof, StreamEnd, Timings};
    use crate::output::OutputStream;

    fn ended(ended: Ended, exit: Option<i32>) -> Outcome {
        let capture = Capture { bytes: Bytes::new(), total: 0, dropped: 0, end: StreamEnd::Closed };
        Outcome {
            ended,
            exit: exit.map(ExitStatus::from_raw),
            stop: None,
            left: Left::Nobody(Proof::GroupGone),
            containment: Containment::Group,
            stdout: capture.clone(),
            stderr: capture,
            timings: Timings { exited: None, settled: Duration::ZERO, ended: Duration::ZERO },
            signalled: None,
            usage: None,
        }
    }

    fn code(code: i32) -> Outcome {
        ended(Ended::ByItself, Some(code << 8))
    }

    fn stopped(reason: Reason) -> Outcome {
        ended(Ended::Stopped(reason), Some(15))
    }

    fn heard(dialect: &Dialect, said: &[(MessageKind, &str)]) -> Heard {
        let mut heard = Heard::default();
        for (kind, text) in said {
            let (stream, text) = (OutputStream::Stdout, Some((*text).to_owned()));
            let (raw, end) = (Bytes::new(), LineEnd::Newline);
            let message = Message { kind: *kind, attempt: 1, stream, raw, text, end, dropped: 0 };
            heard.note(dialect, &message);
        }
        heard
    }

    /// What was said in which dialect, how it ended, and what that is.
    type Row<'a> = (&'a Dialect, &'a [(MessageKind, &'a str)], Outcome, AttemptEnd);

    #[test]
    fn each_end_of_an_attempt_has_its_meaning() {
        let (json, plain) = (Dialect::stream_json(), Dialect::plain_text());
        let failed = AttemptEnd::Failed;
        let rows: Vec<Row> = vec![
            (&json, &[(MessageKind::Result, "42")], code(0), AttemptEnd::Answered),
            (
                &json,
                &[(MessageKind::Error, "oh"), (MessageKind::Result, "42")],
                code(0),
                AttemptEnd::Answered,
            ),
            (&json, &[(MessageKind::Text, "4")], code(0), failed(Fault::NoResult)),
            (&json, &[(MessageKind::Error, "oh")], code(0), failed(Fault::Reported)),
            (&json, &[(MessageKind::Error, "overloaded")], code(0), failed(Fault::Busy)),
            (&json, &[(MessageKind::Result, "42")], code(1), failed(Fault::Failed)),
            (&json, &[], code(75), failed(Fault::Busy)),
            (&json, &[], code(77), AttemptEnd::AuthenticationFailed),
            (&json, &[(MessageKind::AuthenticationError, "")], code(0), AttemptEnd::AuthenticationFailed),
            (
                &json,
                &[(MessageKind::AuthenticationError, ""), (MessageKind::Result, "42")],
                code(0),
                AttemptEnd::Answered,
            ),
            (&json, &[(MessageKind::Result, "42")], stopped(Reason::Cancelled), AttemptEnd::Cancelled),
            (&json, &[(MessageKind::Result, "42")], stopped(Reason::TimedOut), failed(Fault::TimedOut)),
            (
                &json,
                &[(MessageKind::AuthenticationError, "")],
                stopped(Reason::Cancelled),
                AttemptEnd::AuthenticationFailed,
            ),
            (&json, &[(MessageKind::Diagnostic, "HTTP 429 Too Many Requests")], code(1), failed(Fault::Busy)),
            (&json, &[(MessageKind::Text, "the service is overloaded")], code(1), failed(Fault::Failed)),
            (&json, &[], ended(Ended::ByItself, Some(11)), failed(Fault::Crashed)),
            (&json, &[], ended(Ended::ByItself, None), failed(Fault::Lost)),
            (&json, &[], stopped(Reason::Cancelled), AttemptEnd::Cancelled),
            (&json, &[], stopped(Reason::ShutDown), AttemptEnd::Cancelled),
            (&json, &[], stopped(Reason::TimedOut), failed(Fault::TimedOut)),
            (&json, &[], stopped(Reason::Idle), failed(Fault::Silent)),
            (&json, &[], stopped(Reason::ContainmentLost), failed(Fault::Lost)),
            (&plain, &[(MessageKind::Text, "42")], code(0), AttemptEnd::Answered),
            (&plain, &[(MessageKind::Error, "error: that is what it said")], code(0), AttemptEnd::Answered),
            (&plain, &[(MessageKind::Error, "error: no")], code(2), failed(Fault::Reported)),
        ];
        for (dialect, said, outcome, end) in rows {
            let concluded = heard(dialect, said).conclude(dialect, false, &outcome);
            assert_eq!(concluded, end, "{said:?}, {:?}, {:?}", outcome.ended, outcome.exit);
        }
    }

    #[test]
    fn a_child_that_fails_after_a_cancel_was_cancelled_and_one_that_answers_has_answered() {
        let json = Dialect::stream_json();
        assert_eq!(heard(&json, &[]).conclude(&json, true, &code(130)), AttemptEnd::Cancelled);
        let answered = heard(&json, &[(MessageKind::Result, "42")]).conclude(&json, true, &code(0));
        assert_eq!(answered, AttemptEnd::Answered);
    }

    #[test]
    fn want_of_room_is_told_from_what_will_not_pass() {
        let spawn = |errno| StartError::Spawn {
            program: "x".into(),
            doing: "execute the program",
            source: io::Error::from_raw_os_error(errno),
        };
        for (name, errno, passes) in
            [("EAGAIN", 11, true), ("ENOMEM", 12, true), ("EMFILE", 24, true), ("ENOENT", 2, false)]
        {
            assert_eq!(is_want_of_room(&spawn(errno)), passes, "{name}");
        }
        assert!(!is_want_of_room(&StartError::NoRuntime));
    }

    #[test]
    fn what_is_not_worth_it_takes_no_pause_and_leaves_them_for_what_is() {
        let retries = Retries { most: 1, ..Retries::default() };
        let mut pauses = retries.pauses();
        assert_eq!(retries.pause(Fault::Reported, &mut pauses, None), None);
        assert!(retries.pause(Fault::Busy, &mut pauses, None).is_some());
        assert_eq!(retries.pause(Fault::Busy, &mut pauses, None), None, "one retry was allowed");
        assert_eq!(Retries::none().pause(Fault::Busy, &mut Retries::none().pauses(), None), None);
    }

    #[test]
    fn with_jitter_those_who_failed_together_do_not_come_back_together() {
        let first = || Retries::default().pauses().next().expect("a retry is allowed");
        let pauses: std::collections::BTreeSet<_> = (0..20).map(|_| first()).collect();
        assert!(pauses.len() > 10, "{pauses:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn pauses_grow_within_their_limits_and_none_outlasts_the_deadline(
            most in 0u32..20, first_ms in 1u64..1000, longest_ms in 1u64..5000, jitter: bool, left_ms in 0u64..5000,
        ) {
            let (first_pause, longest_pause) = (Duration::from_millis(first_ms), Duration::from_millis(longest_ms));
            let retries = Retries { most, first_pause, longest_pause, jitter, ..Retries::default() };
            let most_of_one = longest_pause * if jitter { 2 } else { 1 };
            let mut pauses = retries.pauses();
            let all: Vec<_> = std::iter::from_fn(|| retries.pause(Fault::Busy, &mut pauses, None)).collect();
            prop_assert_eq!(all.len(), most as usize);
            prop_assert!(all.iter().all(|pause| *pause <= most_of_one), "{:?}", all);
            let first = first_pause.min(longest_pause);
            for (at, pause) in all.iter().enumerate() {
                let doubled = (first * 2_u32.pow(at.min(14) as u32)).min(longest_pause);
                // A hundredth for the arithmetic of floats.
                prop_assert!(*pause * 100 >= doubled * 99, "{:?}", all);
                prop_assert!(jitter || *pause * 100 <= doubled * 101, "{:?}", all);
            }
            let left = Duration::from_millis(left_ms);
            let within = retries.pause(Fault::Busy, &mut retries.pauses(), Some(left));
            prop_assert!(within.is_none_or(|pause| pause < left));
        }
    }
}
