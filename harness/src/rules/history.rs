//! C4: whether what several callers were told has an explanation in some order.
//!
//! The search is that of Wing and Gong with a memory of what was tried: an order is built call by call; a call may come next if no other
//! that is left had been answered before it was made. What happens in a run by itself (a stop takes effect, the child exits) is a
//! step that may come anywhere from its earliest time on, or never.

use std::collections::HashSet;

use super::facts::{Facts, Node, Run, TICK_US, micros, told};
use super::verdicts::broken;
use crate::scenario::{Call, Verb};
use crate::trace::{Polled, Reason, RunState, Said, What};
use crate::verdict::Verdict;

/// After so many steps the search is given up.
const MOST_STEPS: usize = 200_000;

/// The verdict on a run, or why it does not test the rule.
pub(super) fn judge(facts: &Facts<'_>, run: &Run<'_>) -> Result<Verdict, String> {
    let history = History::of(facts, run);
    if history.callers < 2 {
        return Err(facts.because("no two callers were answered"));
    }
    if run.stops.iter().any(|stop| stop.verb.ends_host()) {
        return Err("the host was ended from outside".to_owned());
    }
    Ok(match history.explain() {
        Explained::ByAnOrder => Verdict::Kept,
        Explained::ByNone(last) => broken(format!(
            "run {}: no order of the calls explains that {}",
            run.number,
            history.calls.get(last).map_or_else(String::new, |call| call.told(run.issued_us))
        )),
        Explained::TooLong => Verdict::Unknown(format!(
            "no order of the calls was found in {MOST_STEPS} steps, and not all were tried"
        )),
    })
}

/// The calls on one run, with what may have happened in it by itself.
struct History {
    calls: Vec<Timed>,
    events: Vec<(Event, u64)>,
    /// How many callers made calls at the same time.
    callers: usize,
}

/// A call with its answer.
struct Timed {
    who: String,
    from_us: u64,
    until_us: u64,
    answer: Answer,
}

/// A call and its answer, as far as the model tells one from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Cancelled,
    Dropped,
    State(RunState),
    Ended(End),
    /// A wait that ended because the run was dropped.
    NoEnd,
    Written,
    Closed,
}

/// How a run ended, as far as the model tells one from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum End {
    Itself,
    Cancelled,
    TimedOut,
    Other,
}

/// What happens in a run by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// A timeout is due.
    Due,
    /// The root ends by itself: whoever it leaves is ended, which is a stop too.
    Leaves,
    /// A stop that was asked for, or is due, takes effect.
    Stop,
    /// The child has ended, and it is known how the run did.
    End(End),
}

/// A run, as its callers may know it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Model {
    asked: bool,
    due: bool,
    /// The root has ended by itself.
    left: bool,
    dropped: bool,
    stopping: bool,
    /// Somebody was told that it is being stopped, so the wrapper tells that from running.
    told_stopping: bool,
    closed: bool,
    end: Option<End>,
}

impl Model {
    /// The run after a call was answered like this; nothing if it cannot have been.
    fn answer(self, answer: Answer) -> Option<Self> {
        match answer {
            Answer::Cancelled => Some(Self { asked: true, ..self }),
            Answer::Dropped => Some(Self { asked: true, dropped: true, ..self }),
            Answer::State(RunState::Running) => (self.end.is_none() && !self.told_stopping).then_some(self),
            Answer::State(RunState::Stopping) => {
                (self.end.is_none() && self.stopping).then_some(Self { told_stopping: true, ..self })
            }
            Answer::State(RunState::Ended) => self.end.is_some().then_some(self),
            Answer::Ended(end) => (self.end == Some(end)).then_some(self),
            Answer::NoEnd => self.dropped.then_some(self),
            Answer::Written => (!self.closed).then_some(self),
            Answer::Closed => Some(Self { closed: true, ..self }),
        }
    }

    /// The run after something happened in it; nothing if that cannot happen now.
    fn happen(self, event: Event) -> Option<Self> {
        let may = match event {
            Event::Due => !self.due,
            Event::Leaves => !self.left,
            Event::Stop => !self.stopping && self.end.is_none() && (self.asked || self.due || self.left),
            Event::End(End::Cancelled) => self.end.is_none() && self.stopping && self.asked,
            Event::End(End::TimedOut) => self.end.is_none() && self.stopping && self.due,
            Event::End(End::Itself | End::Other) => self.end.is_none(),
        };
        may.then_some(match event {
            Event::Due => Self { due: true, ..self },
            Event::Leaves => Self { left: true, ..self },
            Event::Stop => Self { stopping: true, ..self },
            Event::End(end) => Self { end: Some(end), ..self },
        })
    }
}

enum Explained {
    ByAnOrder,
    /// By none; the call at which the longest order ends.
    ByNone(usize),
    TooLong,
}

impl History {
    fn of(facts: &Facts<'_>, run: &Run<'_>) -> Self {
        let mut calls = Vec::new();
        let mut callers = 0;
        let issued_us = |op: usize| {
            facts.trace.moments.iter().find_map(|moment| match moment.what {
                What::Issued { op: issued, .. } if issued == op => Some(moment.at_us),
                _ => None,
            })
        };
        let verb = |op: usize| facts.trace.scenario.ops.get(op).map(|op| op.verb);
        for moment in &facts.trace.moments {
            let until_us = moment.at_us;
            let mut take = |op: usize, answer: Answer| {
                let from_us = issued_us(op).unwrap_or(run.issued_us);
                calls.push(Timed { who: format!("op {op}"), from_us, until_us, answer });
            };
            match &moment.what {
                What::Done { op } if facts.is_about(*op, run.number) => match verb(*op) {
                    Some(Verb::Cancel) => take(*op, Answer::Cancelled),
                    Some(Verb::Drop) => take(*op, Answer::Dropped),
                    Some(Verb::Write(_)) => take(*op, Answer::Written),
                    Some(Verb::CloseStdin) => take(*op, Answer::Closed),
                    _ => {}
                },
                What::Polled { op, run: about, polled } if *about == run.number => {
                    take(*op, Answer::State(polled.state));
                }
                What::Again { op, run: about, outcome } if *about == run.number => {
                    take(*op, Answer::Ended(end(&outcome.reason)));
                }
                What::Ended { run: about, outcome } if *about == run.number => {
                    let answer = Answer::Ended(end(&outcome.reason));
                    calls.push(Timed {
                        who: "the host".to_owned(),
                        from_us: run.issued_us,
                        until_us,
                        answer,
                    });
                }
                What::Called { op, run: about, calls: made } if *about == run.number => {
                    callers =
                        callers.max(made.iter().map(|made| made.caller as usize + 1).max().unwrap_or(0));
                    calls.extend(made.iter().filter_map(|made| {
                        let who = format!("caller {} (op {op})", made.caller);
                        let answer = answer(made.call, &made.said)?;
                        Some(Timed { who, from_us: made.called_us, until_us: made.returned_us, answer })
                    }));
                }
                _ => {}
            }
        }
        let events = events(facts, run, &calls);
        Self { calls, events, callers }
    }

    /// Looks for an order, deepest first.
    fn explain(&self) -> Explained {
        let mut seen = HashSet::new();
        let mut deepest = (0, None);
        let mut steps = 0_usize;
        let mut open = vec![(vec![false; self.calls.len() + self.events.len()], Model::default())];
        while let Some((done, model)) = open.pop() {
            steps += 1;
            if steps > MOST_STEPS {
                return Explained::TooLong;
            }
            let left = (0..self.calls.len()).filter(|call| !done[*call]);
            let Some(first_answer_us) = left.clone().map(|call| self.calls[call].until_us).min() else {
                return Explained::ByAnOrder;
            };
            let depth = done.iter().take(self.calls.len()).filter(|done| **done).count();
            let may_be_next = |from_us: u64| from_us <= first_answer_us;
            let calls = left
                .filter(|call| may_be_next(self.calls[*call].from_us))
                .filter_map(|call| Some((call, model.answer(self.calls[call].answer)?)));
            let events = self.events.iter().enumerate().filter_map(|(index, (event, from_us))| {
                let index = self.calls.len() + index;
                (!done[index] && may_be_next(*from_us))
                    .then(|| Some((index, model.happen(*event)?)))
                    .flatten()
            });
            if deepest.1.is_none() || depth > deepest.0 {
                // Whose turn it had to be at the latest.
                let stuck = (0..self.calls.len())
                    .filter(|call| !done[*call])
                    .min_by_key(|call| self.calls[*call].until_us);
                deepest = (depth, stuck);
            }
            // What comes last is tried first: a call that changes nothing before one that does.
            for (index, next) in events.chain(calls) {
                let mut done = done.clone();
                done[index] = true;
                if seen.insert((done.clone(), next)) {
                    open.push((done, next));
                }
            }
        }
        Explained::ByNone(deepest.1.unwrap_or(0))
    }
}

impl Timed {
    fn told(&self, since_us: u64) -> String {
        let what = match self.answer {
            Answer::Cancelled => "its cancel was answered".to_owned(),
            Answer::Dropped => "its drop was answered".to_owned(),
            Answer::State(state) => format!("the run is {}", state.name()),
            Answer::Ended(End::Itself) => "the run ended by itself".to_owned(),
            Answer::Ended(End::Cancelled) => "the run was cancelled".to_owned(),
            Answer::Ended(End::TimedOut) => "the run timed out".to_owned(),
            Answer::Ended(End::Other) => "the run ended in a way of its own".to_owned(),
            Answer::NoEnd => "the run was dropped".to_owned(),
            Answer::Written => "its write was done".to_owned(),
            Answer::Closed => "the input was closed".to_owned(),
        };
        let at = |us: u64| told(us.saturating_sub(since_us));
        format!(
            "{} was told {what} (asked {}, answered {} after the start)",
            self.who,
            at(self.from_us),
            at(self.until_us)
        )
    }
}

fn answer(call: Call, said: &Said) -> Option<Answer> {
    Some(match (call, said) {
        (Call::Cancel, Said::Done) => Answer::Cancelled,
        (Call::Drop, Said::Done) => Answer::Dropped,
        (Call::Poll, Said::State(Polled { state, .. })) => Answer::State(*state),
        (Call::Wait, Said::Ended(reason)) => Answer::Ended(end(reason)),
        (Call::Wait, Said::Dropped) => Answer::NoEnd,
        (Call::Write, Said::Done) => Answer::Written,
        (Call::CloseStdin, Said::Done) => Answer::Closed,
        // A write fails when the child wants no more; other failures are other rules' matter.
        _ => return None,
    })
}

const fn end(reason: &Reason) -> End {
    match reason {
        Reason::Itself => End::Itself,
        Reason::Cancelled => End::Cancelled,
        Reason::TimedOut => End::TimedOut,
        Reason::StartFailed(_) | Reason::Error(_) | Reason::Unsaid => End::Other,
    }
}

/// What may happen in a run by itself, and from when on.
fn events(facts: &Facts<'_>, run: &Run<'_>, calls: &[Timed]) -> Vec<(Event, u64)> {
    let due_us =
        facts.trace.limits.timeout.map(|timeout| {
            (Event::Due, run.issued_us.saturating_add(micros(timeout)).saturating_sub(TICK_US))
        });
    // One that was killed may have been dead at any time.
    let exit_us = run.root().and_then(Node::exiting).map_or(0, |(exit_us, _)| exit_us);
    let ends = [(End::Itself, exit_us), (End::Cancelled, 0), (End::TimedOut, 0), (End::Other, 0)];
    // It ended as somebody was told, where anybody was.
    let is_told = |end: End| calls.iter().any(|call| call.answer == Answer::Ended(end));
    let any = ends.iter().any(|(end, _)| is_told(*end));
    let ends = ends.into_iter().filter(|(end, _)| !any || is_told(*end));
    let ends = ends.map(|(end, from_us)| (Event::End(end), from_us));
    let leaves = run.root().and_then(Node::exiting).map(|(exit_us, _)| (Event::Leaves, exit_us));
    due_us.into_iter().chain(leaves).chain([(Event::Stop, 0)]).chain(ends).collect()
}

#[cfg(test)]
mod tests {
    use super::super::by_hand::{Hand, because, hanging_pair};
    use super::*;
    use crate::verdict::VerdictKind::{self, Broken, Kept, Unknown, Vacuous};

    fn running() -> Said {
        state(RunState::Running)
    }

    fn state(state: RunState) -> Said {
        Said::State(Polled { state, pid: None })
    }

    fn cancelled() -> Said {
        Said::Ended(Reason::Cancelled)
    }

    /// A run that callers cancelled at 10 ms and that had ended at 20 ms, with these calls.
    fn called(calls: Vec<(u32, Call, u64, u64, Said)>) -> Hand {
        let callers: [&[Call]; 2] = [&[Call::Cancel], &[Call::Poll]];
        let hand = hanging_pair().together(10, &callers).gone(18, "root").gone(18, "child");
        hand.ended(20, because(Reason::Cancelled)).called(40, calls)
    }

    #[track_caller]
    fn assert_judged(hand: &Hand, kind: VerdictKind, part: &str) {
        let trace = hand.clone().trace();
        let facts = Facts::of(&trace);
        let verdict = judge(&facts, &facts.runs()[0]).unwrap_or_else(Verdict::Vacuous);
        assert_eq!(verdict.kind(), kind, "{verdict:?}");
        assert!(verdict.detail().unwrap_or_default().contains(part), "{verdict:?}");
    }

    #[test]
    fn answers_that_overlap_may_be_put_in_the_order_that_explains_them() {
        use Call::{Cancel, Poll, Wait};
        let calls = vec![
            (0, Cancel, 11, 14, Said::Done),
            // Before the cancel, although it was answered after it.
            (1, Poll, 12, 16, running()),
            // A cancel is a request, so running may be said after it.
            (1, Poll, 16, 17, running()),
            (1, Poll, 17, 18, state(RunState::Stopping)),
            (0, Wait, 14, 30, cancelled()),
            (1, Poll, 19, 31, state(RunState::Ended)),
        ];
        assert_judged(&called(calls), Kept, "");
    }

    #[test]
    fn nobody_can_be_told_of_an_end_and_then_that_it_runs() {
        let calls = vec![
            (0, Call::Cancel, 11, 12, Said::Done),
            (1, Call::Poll, 21, 22, state(RunState::Ended)),
            (0, Call::Poll, 23, 24, running()),
        ];
        assert_judged(
            &called(calls),
            Broken,
            "run 0: no order of the calls explains that caller 0 (op 1) was told the run is running (asked 23 ms",
        );
        let calls = vec![
            (0, Call::Cancel, 11, 12, Said::Done),
            (1, Call::Poll, 13, 14, state(RunState::Stopping)),
            (0, Call::Poll, 15, 16, running()),
        ];
        assert_judged(&called(calls), Broken, "caller 0 (op 1) was told the run is running");
        let waited = vec![
            (0, Call::Cancel, 11, 12, Said::Done),
            (0, Call::Wait, 12, 21, cancelled()),
            (1, Call::Poll, 22, 23, running()),
        ];
        assert_judged(&called(waited), Broken, "running");
    }

    #[test]
    fn a_stop_needs_somebody_who_asked_for_it_and_all_are_told_the_same_end() {
        let early =
            vec![(1, Call::Poll, 5, 6, state(RunState::Stopping)), (0, Call::Cancel, 11, 12, Said::Done)];
        assert_judged(&called(early), Broken, "caller 1 (op 1) was told the run is stopping");
        let two_ends =
            vec![(0, Call::Cancel, 11, 12, Said::Done), (1, Call::Wait, 11, 30, Said::Ended(Reason::Itself))];
        assert_judged(&called(two_ends), Broken, "no order");
        let undropped = vec![(0, Call::Cancel, 11, 12, Said::Done), (1, Call::Wait, 11, 30, Said::Dropped)];
        assert_judged(&called(undropped), Broken, "was dropped");
        let never_asked = vec![(0, Call::Poll, 11, 12, running()), (1, Call::Poll, 11, 12, running())];
        let never_asked =
            hanging_pair().together(10, &[&[Call::Poll], &[Call::Poll]]).called(13, never_asked);
        assert_judged(
            &never_asked.clone().ended(20, because(Reason::Cancelled)),
            Broken,
            "the host was told the run was cancelled",
        );
        // By its timeout it may well.
        assert_judged(&never_asked.timeout(15).ended(20, because(Reason::TimedOut)), Kept, "");
    }

    #[test]
    fn an_end_by_itself_is_not_told_before_the_root_says_that_it_exits() {
        let at = |asked_ms: u64, told: RunState| {
            let calls = vec![
                (0, Call::Poll, asked_ms, asked_ms + 1, state(told)),
                (1, Call::Wait, 11, 30, Said::Ended(Reason::Itself)),
            ];
            let hand = hanging_pair().together(10, &[&[Call::Poll], &[Call::Wait]]).exiting(20, "root", 0);
            hand.gone(21, "root").ended(22, because(Reason::Itself)).called(40, calls)
        };
        assert_judged(&at(20, RunState::Ended), Kept, "");
        assert_judged(&at(15, RunState::Ended), Broken, "caller 0 (op 1) was told the run is ended");
        // Whoever it leaves is ended, which is a stop that nobody asked for.
        assert_judged(&at(20, RunState::Stopping), Kept, "");
        assert_judged(&at(15, RunState::Stopping), Broken, "caller 0 (op 1) was told the run is stopping");
    }

    #[test]
    fn a_write_after_the_close_cannot_have_been_done() {
        let calls = |written_ms: u64| {
            vec![
                (0, Call::CloseStdin, 11, 12, Said::Done),
                (1, Call::Write, written_ms, written_ms + 1, Said::Done),
            ]
        };
        let hand = |written_ms: u64| {
            hanging_pair().together(10, &[&[Call::CloseStdin], &[Call::Write]]).called(40, calls(written_ms))
        };
        assert_judged(&hand(11), Kept, "");
        assert_judged(&hand(15), Broken, "its write was done");
    }

    #[test]
    fn one_caller_tests_nothing_and_a_search_has_a_bound() {
        assert_judged(
            &hanging_pair().cancel(10).done(11).ended(20, because(Reason::Cancelled)),
            Vacuous,
            "no two callers",
        );
        // Nobody's answer fits, and all are at the same time.
        let many = (0..8).flat_map(|caller| (0..8).map(move |_| (caller, Call::Cancel, 11, 30, Said::Done)));
        let impossible = (0, Call::Wait, 11, 30, Said::Dropped);
        assert_judged(&called(many.chain([impossible]).collect()), Unknown, "not all were tried");
    }
}
