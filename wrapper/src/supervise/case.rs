//! One run as the supervisor sees it: its place on the ladder, its deadline, its streams.

use std::future::Future;
use std::pin::Pin;
use std::process::ExitStatus;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::mail::{Door, Wish};
use super::{Key, Source};
use crate::contain::{Containment, GraceKeptBy, Hold, Remaining};
use crate::input::Feeder;
use crate::minder::{Part, Parts};
use crate::outcome::{
    Capture, Ended, Kill, KillCause, Left, Outcome, Reason, Signalled, StopReceipt, Timings, Usage,
};
use crate::output::{Intake, OutputStream};
use crate::plan::{Ask, Ladder, Request, StopPlan, StopRung};
use crate::room::Room;
use crate::run::{Common, Event, Report};
use crate::spans::Spans;
use crate::state::Move;
use crate::stop::{Happening, Rung, Step, climb};
use crate::sys::{self, Terminal};

/// The longest that anybody waits for a killed process to be gone.
const KILL_BOUND: Duration = Duration::from_secs(2);

/// How long after the grace a hold that keeps it is taken to be hindered. Less than the bound, so that there is time left.
const HINDERED: Duration = Duration::from_secs(1);

/// How soon to look again for members whose end will not be reported.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A stream that is open although everybody has ended may be held by a child that the owner is just starting, for
/// somebody else; until its exec it has copies of our pipes. Such a one is waited for at most this long…
const START_BOUND: Duration = Duration::from_secs(1);

/// …and not even looked for after a drain window that is longer than any start should take, because the look is dear.
const LONGER_THAN_A_START: Duration = Duration::from_millis(500);

/// The time limits of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// `None`: it may take for ever.
    pub(crate) timeout: Option<Duration>,
    /// `None`: it may be silent for ever.
    pub(crate) idle: Option<Duration>,
    /// Between the last request and the kill.
    pub(crate) grace: Duration,
    /// How long to wait for output that a process out of reach holds.
    pub(crate) drain: Duration,
}

/// What is needed to open a case.
pub(crate) struct Intakes {
    pub(crate) stdout: Intake,
    pub(crate) stderr: Intake,
    pub(crate) stdin: Feeder,
}

pub(crate) struct Case {
    door: Door,
    common: Arc<Common>,
    containment: Containment,
    /// `None` once the case is finished.
    hold: Option<Box<dyn Hold>>,
    /// The limits that are still needed when the run was started.
    idle: Option<Duration>,
    ladder: Ladder,
    /// The request that is made by closing the child's stdin, until that is done.
    closes_stdin: Option<Request>,
    /// Its owner wants the child's stdin closed as well, and wanted it after whatever was wished for before.
    input_is_left: bool,
    drain: Duration,
    intakes: Intakes,
    /// Those of the streams and the timers that the minder still knows to be there.
    parts: Parts,
    token: Option<(Pin<Box<WaitForCancellationFutureOwned>>, Waker)>,
    /// What a child in the foreground gives back at its end, by being dropped.
    terminal: Option<Box<Terminal>>,

    rung: Rung,
    /// What it is the deadline of depends on the rung; when `Gone`, of the drain.
    deadline: Option<Instant>,
    look_again: Option<Instant>,
    /// When those that were asked have had their time.
    grace_over: Option<Instant>,
    /// The supervisor's note of the next of them.
    pub(super) noted_deadline: Option<Instant>,
    /// When the idle time began: at the start, and anew with all output.
    last_output: Instant,
    cancels: u32,
    /// Nobody is there to ask for the outcome.
    abandoned: bool,
    draining: bool,
    /// At the last look there was nobody whom the owner was just starting.
    saw_no_start: bool,

    started: Instant,
    spans: Option<Spans>,
    /// Made when there is something to note: most of its life a run has nothing of it.
    ending: Option<Box<Ending>>,
}

/// What is known of a run's end.
#[derive(Default)]
struct Ending {
    stop: Option<Stop>,
    exit: Option<ExitStatus>,
    usage: Option<Usage>,
    exited: Option<Instant>,
    left: Option<Left>,
    signalled: Option<Signalled>,
    settled: Option<Instant>,
}

/// A stop under way.
struct Stop {
    reason: Reason,
    asked: Instant,
    killed: Option<(Instant, KillCause)>,
}

/// What the supervisor is given with a child that was just started.
pub(crate) struct Opening {
    pub(crate) door: Door,
    pub(crate) common: Arc<Common>,
    pub(crate) containment: Containment,
    pub(crate) hold: Box<dyn Hold>,
    pub(crate) limits: Limits,
    pub(crate) stop_plan: StopPlan,
    pub(crate) intakes: Intakes,
    pub(crate) token: Option<CancellationToken>,
    pub(crate) terminal: Option<Box<Terminal>>,
    pub(crate) started: Instant,
    pub(crate) spans: Option<Spans>,
}

impl Case {
    pub(crate) fn open(opening: Opening) -> Self {
        let Opening { door, common, containment, hold, limits, stop_plan, .. } = opening;
        let Opening { intakes, token, terminal, started, spans, .. } = opening;
        let Limits { timeout, idle, grace, drain } = limits;
        let parts = Self::parts_of(&intakes).with_if(timeout.is_some(), Part::Timeout);
        let parts = parts.with_if(idle.is_some(), Part::IdleTimeout);
        let token = token.map(|token| (Box::pin(token.cancelled_owned()), door.waker()));
        Self {
            parts,
            door,
            common,
            containment,
            hold: Some(hold),
            idle,
            ladder: Ladder::new(stop_plan, grace),
            closes_stdin: None,
            input_is_left: false,
            drain,
            intakes,
            token,
            terminal,
            rung: Rung::Running,
            deadline: timeout.and_then(|timeout| started.checked_add(timeout)),
            look_again: None,
            grace_over: None,
            noted_deadline: None,
            last_output: started,
            cancels: 0,
            abandoned: false,
            draining: false,
            saw_no_start: false,
            started,
            spans,
            ending: None,
        }
    }

    /// The streams and the timers that are there.
    pub(crate) fn parts(&self) -> Parts {
        self.parts
    }

    fn parts_of(intakes: &Intakes) -> Parts {
        let parts = Parts::default().with_if(intakes.stdin.has_more(), Part::Stdin);
        let parts = parts.with_if(intakes.stdout.is_open(), Part::Stdout);
        parts.with_if(intakes.stderr.is_open(), Part::Stderr)
    }

    /// Has the minder know what is still there.
    fn tell_parts(&mut self) {
        let streams = Self::parts_of(&self.intakes);
        let drains = self.draining && !self.is_drained_now();
        let now = match self.rung {
            _ if self.hold.is_none() => streams,
            Rung::Running => {
                let timers = Parts::default().with(Part::Timeout).with(Part::IdleTimeout);
                streams.and(self.parts.only(timers))
            }
            Rung::Asked | Rung::Leaderless => streams.with(Part::Grace),
            Rung::Killed | Rung::Swept | Rung::Gone => streams.with_if(drains, Part::Drain),
        };
        self.common.exchange(self.parts.without(now), now.without(self.parts));
        self.parts = now;
    }

    fn ending(&mut self) -> &mut Ending {
        self.ending.get_or_insert_default()
    }

    /// Whether the supervisor must hear of it at once. Otherwise it need not before something happens, and then it is
    /// waked by that.
    pub(crate) fn needs_attention(&self) -> bool {
        let is_reported = self.hold.as_ref().is_some_and(|hold| hold.reports_leader());
        self.next_deadline().is_some()
            || self.token.is_some()
            || self.intakes.stdin.has_more()
            || !is_reported
    }

    /// Does what needed somebody to watch over it.
    pub(super) fn begin(&mut self) {
        // A child that was gone before it had a handle will never be reported.
        self.notice_ends();
        self.intakes.stdin.feed();
        self.ask_token();
    }

    pub(super) fn key(&self) -> Key {
        self.door.key()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        [self.deadline, self.look_again, self.idle_deadline()].into_iter().flatten().min()
    }

    /// Nobody can tell whether a child is silent whose output nobody takes.
    fn idle_deadline(&self) -> Option<Instant> {
        let held_up = self.intakes.stdout.is_held_up() || self.intakes.stderr.is_held_up();
        let idle = self.idle.filter(|_| self.rung == Rung::Running && !held_up)?;
        self.last_output.checked_add(idle)
    }

    /// Somebody wants the run to end.
    pub(super) fn wish(&mut self, wish: Wish) {
        match wish {
            Wish::Cancel => {
                self.cancels += 1;
                self.stop_because(Reason::Cancelled);
                // Of two calls the second means it. Other reasons, which may come together by accident, do not.
                if self.cancels > 1 {
                    self.happen(Happening::StopUrged);
                }
                self.cut_drain();
            }
            Wish::ShutDown => self.stop_because(Reason::ShutDown),
            Wish::ShutDownNow => {
                self.stop_because(Reason::ShutDown);
                self.happen(Happening::StopUrged);
                self.cut_drain();
            }
            Wish::Drop => {
                self.abandoned = true;
                self.stop_because(Reason::Dropped);
                self.intakes.stdout.stop_keeping();
                self.intakes.stderr.stop_keeping();
                self.cut_drain();
            }
        }
    }

    /// Asks the cancellation token, which rings the waker once if it is not cancelled yet.
    pub(super) fn ask_token(&mut self) {
        let Some((cancelled, waker)) = &mut self.token else { return };
        if cancelled.as_mut().poll(&mut Context::from_waker(waker)).is_ready() {
            self.token = None;
            self.stop_because(Reason::Cancelled);
            self.cut_drain();
        }
    }

    /// Whoever takes the events has room again.
    pub(super) fn resume_output(&mut self) {
        self.intakes.stdout.resume();
        self.intakes.stderr.resume();
        self.last_output = Instant::now();
    }

    /// One of the run's descriptors is ready.
    pub(super) fn serve(&mut self, source: Source, room: &mut Room) {
        match source {
            Source::Hold => self.notice_ends(),
            Source::Stdout => self.take_output(OutputStream::Stdout, room),
            Source::Stderr => self.take_output(OutputStream::Stderr, room),
            Source::Stdin => self.intakes.stdin.feed(),
        }
    }

    fn take_output(&mut self, stream: OutputStream, room: &mut Room) {
        let intake = match stream {
            OutputStream::Stdout => &mut self.intakes.stdout,
            OutputStream::Stderr => &mut self.intakes.stderr,
        };
        if intake.take(room) {
            self.last_output = Instant::now();
        }
        if intake.is_too_long() {
            self.stop_because(Reason::OutputLimit);
        }
    }

    /// As if nobody had served it for so long.
    #[cfg(test)]
    pub(super) fn sleep_through(&mut self, time: Duration) {
        for due in [&mut self.deadline, &mut self.grace_over].into_iter().flatten() {
            *due -= time;
        }
    }

    /// Acts on whatever is due.
    pub(super) fn serve_deadline(&mut self, now: Instant, room: &mut Room) {
        // Of two that are due, as after the owner was stopped itself, the one that was due first.
        let timeout = self.deadline;
        if self.idle_deadline().is_some_and(|due| due <= now && timeout.is_none_or(|timeout| due < timeout)) {
            self.stop_if_idle(now, room);
        }
        if self.look_again.is_some_and(|due| due <= now) {
            self.look_again = None;
            self.notice_ends();
        }
        if self.deadline.is_none_or(|due| due > now) {
            return;
        }
        match self.rung {
            Rung::Running => {
                self.deadline = None;
                self.stop_because(Reason::TimedOut);
            }
            Rung::Asked | Rung::Leaderless if self.ladder.is_at_its_end() => {
                self.happen(Happening::GraceOver);
            }
            Rung::Asked | Rung::Leaderless => self.happen(Happening::TimeOver),
            Rung::Killed | Rung::Swept => {
                // The kill may have been obeyed since they were looked at. Then this changes nothing any more.
                self.notice_ends();
                self.happen(Happening::BoundOver);
            }
            Rung::Gone => self.end_drain(now, room),
        }
    }

    fn stop_if_idle(&mut self, now: Instant, room: &mut Room) {
        // What was written and not read yet is no silence, whoever kept us from reading it.
        self.take_output(OutputStream::Stdout, room);
        self.take_output(OutputStream::Stderr, room);
        if self.idle_deadline().is_some_and(|due| due <= now) {
            self.stop_because(Reason::Idle);
        }
    }

    /// The one place where a stop begins. A child that has ended already ended by itself.
    fn stop_because(&mut self, reason: Reason) {
        if self.rung == Rung::Running {
            self.notice_ends();
        }
        if self.rung == Rung::Running {
            self.ending().stop = Some(Stop { reason, asked: Instant::now(), killed: None });
            if let Some(spans) = &mut self.spans {
                spans.stopping(reason);
            }
            self.happen(Happening::StopAsked);
            let _ = self.common.reports.put(Report::Event(Event::Stopping(reason)));
        }
    }

    /// Looks whether the leader, or everybody after it, has ended.
    fn notice_ends(&mut self) {
        match self.rung {
            Rung::Running | Rung::Asked | Rung::Killed => {
                if self.hold.as_mut().is_some_and(|hold| hold.leader_has_ended()) {
                    self.ending().exited = Some(Instant::now());
                    self.happen(Happening::LeaderEnded);
                }
            }
            Rung::Leaderless | Rung::Swept => self.look(),
            // Whoever is left may still be told of, and that must be taken or it is told without end.
            Rung::Gone => _ = self.hold.as_mut().map(|hold| hold.is_done()),
        }
        self.close_stdin_once_it_is_heard();
        if matches!(self.rung, Rung::Asked | Rung::Leaderless) && self.hold_has_killed() {
            // The hold has kept the grace. What is left to wait for has a bound from here.
            self.happen(Happening::GraceOver);
        }
    }

    fn hold_has_killed(&self) -> bool {
        self.hold.as_ref().is_some_and(|hold| hold.stop_times().killed.is_some())
    }

    fn happen(&mut self, happening: Happening) {
        let (next, steps) = climb(self.rung, happening);
        if self.rung == Rung::Running && next != Rung::Running {
            self.common.make(Move::Stop);
        }
        if !is_bounded(self.rung) && is_bounded(next) {
            // A hold that has kept the grace killed them when that was over.
            let now = Instant::now();
            let killed = self.grace_over.filter(|over| self.hold_has_killed() && *over < now).unwrap_or(now);
            self.deadline = Some(killed + KILL_BOUND);
        }
        let is_higher = next != self.rung;
        self.rung = next;
        // A look may find that nobody is left, and that is the next rung. Everything else is done before it is told: nobody's
        // kill waits for a subscriber.
        let (acts, last_look) = match steps {
            [acts @ .., look @ Step::Look] => (acts, Some(look)),
            acts => (acts, None),
        };
        for step in acts {
            self.take_step(*step, happening);
        }
        if let Some(spans) = self.spans.as_ref().filter(|_| is_higher) {
            spans.climbed(next);
        }
        if let Some(look) = last_look {
            self.take_step(*look, happening);
        }
        if next == Rung::Gone && self.ending().settled.is_none() {
            self.ending().settled = Some(Instant::now());
            self.terminal = None;
            self.deadline = None;
            self.look_again = None;
        }
    }

    fn take_step(&mut self, step: Step, because: Happening) {
        match step {
            Step::Ask => self.ask(),
            Step::Kill => self.kill(because),
            Step::Sweep => self.sweep(),
            Step::Release => self.release(),
            Step::Look => self.look(),
            Step::GiveUp => self.give_up(),
        }
    }

    fn give_up(&mut self) {
        let Some(hold) = &mut self.hold else { return };
        let left = hold.name_survivors();
        let is_late_end = matches!(left, Left::Nobody(_)) && self.ending().exit.is_none();
        self.ending().left = Some(left);
        if is_late_end {
            // The leader has ended since it was looked at, and nobody else would ask how.
            self.release();
        }
    }

    fn ask(&mut self) {
        self.close_stdin();
        let Self { ladder, hold, common, intakes, .. } = self;
        let made = ladder.climb(|request| {
            let left = match request.ask {
                Ask::CloseStdin => had_its_time(request.time, common, intakes)?,
                Ask::Signal(_) => request.time,
            };
            let kept_by = hold.as_mut().map(|hold| hold.ask(request.ask, request.is_last.then_some(left)));
            Some((Request { time: left, ..request }, kept_by))
        });
        let Some((request, kept_by)) = made else {
            // There was nobody to ask, so everybody has had their time.
            self.deadline = Some(Instant::now());
            return;
        };
        self.give_time(request, kept_by);
        if let Some(spans) = &self.spans {
            spans.asked(request.ask);
        }
        if request.ask == Ask::CloseStdin {
            self.closes_stdin = Some(request);
            self.close_stdin_once_it_is_heard();
        }
    }

    /// Counted from here, so that nobody is killed before the grace is over.
    fn give_time(&mut self, request: Request, kept_by: Option<GraceKeptBy>) {
        let over = Instant::now().checked_add(request.time);
        self.grace_over = over.filter(|_| request.is_last);
        self.deadline = match kept_by {
            // It kills in time, unless it is hindered.
            Some(GraceKeptBy::Hold) => over.and_then(|over| over.checked_add(HINDERED)),
            Some(GraceKeptBy::Supervisor) | None => over,
        };
    }

    /// Closed sooner, it could be the end of a child that nobody is known to have asked, and that would be an end by itself.
    fn close_stdin_once_it_is_heard(&mut self) {
        let is_heard = self.hold.as_ref().is_some_and(|hold| hold.has_asked());
        if is_heard {
            if let Some(request) = self.close_stdin().filter(|request| !request.is_last) {
                self.give_time(request, None);
            }
        }
        let is_awaited = matches!(self.rung, Rung::Asked | Rung::Killed) || self.closes_stdin.is_some();
        if self.input_is_left && (is_heard || !is_awaited) {
            self.common.close_left_stdin();
        }
    }

    /// Nobody writes to the child's stdin any more.
    pub(super) fn end_input(&mut self) {
        self.input_is_left = true;
        self.close_stdin_once_it_is_heard();
    }

    /// Ends the child's input, if that is what was asked by.
    fn close_stdin(&mut self) -> Option<Request> {
        let request = self.closes_stdin.take()?;
        self.intakes.stdin.close();
        self.common.close_stdin();
        Some(request)
    }

    fn kill(&mut self, because: Happening) {
        self.sweep();
        let cause = match because {
            Happening::StopUrged => KillCause::AskedAgain,
            _ => KillCause::GraceOver,
        };
        if let Some(stop) = &mut self.ending().stop {
            stop.killed = Some((Instant::now(), cause));
        }
    }

    fn sweep(&mut self) {
        if let Some(hold) = &mut self.hold {
            hold.kill();
        }
    }

    fn release(&mut self) {
        // In this order, so that nobody reads a pid that is not the child's any more.
        self.common.board.forget_pid();
        let Some(hold) = &mut self.hold else { return };
        let end = hold.release();
        let ending = self.ending();
        ending.exit = end.status;
        ending.usage = end.usage;
        ending.exited = end.at.or(ending.exited);
        if end.by_itself == Some(true) {
            // The request came too late: there was nothing left to stop.
            ending.stop = None;
        } else if (end.lost || end.by_itself == Some(false)) && ending.stop.is_none() {
            // In the second case it has ended everybody without being told to: it took the owner for gone.
            ending.stop = Some(Stop { reason: Reason::ContainmentLost, asked: Instant::now(), killed: None });
        }
    }

    fn look(&mut self) {
        // Whoever is there is killed in a moment, and to find out who is can take a look at all processes.
        if self.rung == Rung::Leaderless && self.deadline.is_some_and(|due| due <= Instant::now()) {
            return;
        }
        let Some(hold) = &mut self.hold else { return };
        let left = match hold.look() {
            Remaining::Somebody => return,
            Remaining::LookAgainSoon => {
                self.look_again = Some(Instant::now() + LOOK_AGAIN);
                return;
            }
            Remaining::Nobody(proof) => Left::Nobody(proof),
            Remaining::Unknown(why) => Left::Unknown(why),
        };
        self.ending().left = Some(left);
        self.happen(Happening::NobodyLeft);
    }

    /// Whether nothing is to be waited for any more. Drains the output first.
    pub(super) fn is_over(&mut self, room: &mut Room) -> bool {
        let is_over = self.rung == Rung::Gone && self.is_drained(room);
        self.tell_parts();
        is_over
    }

    fn is_drained(&mut self, room: &mut Room) -> bool {
        if !self.draining {
            self.draining = true;
            self.intakes.stdin.close();
            self.intakes.stdout.take_the_rest(room);
            self.intakes.stderr.take_the_rest(room);
            self.deadline = Instant::now().checked_add(self.drain);
        }
        if self.abandoned {
            self.cut_output();
        }
        self.is_drained_now()
    }

    fn is_drained_now(&self) -> bool {
        !self.intakes.stdout.is_open() && !self.intakes.stderr.is_open()
    }

    fn end_drain(&mut self, now: Instant, room: &mut Room) {
        let waited =
            self.ending().settled.map_or(START_BOUND, |settled| now.saturating_duration_since(settled));
        let may_be_a_start = self.drain < LONGER_THAN_A_START && waited < START_BOUND;
        // One clean look is not enough: a start counts as one a moment after it has got its copies, and until a moment
        // before it closes them.
        if may_be_a_start {
            let nobody_starts = !sys::some_child_is_starting();
            if !std::mem::replace(&mut self.saw_no_start, nobody_starts) || !nobody_starts {
                self.deadline = Some(now + LOOK_AGAIN);
                return;
            }
        }
        // They may have been closed during the look.
        self.intakes.stdout.take_the_rest(room);
        self.intakes.stderr.take_the_rest(room);
        self.cut_output();
    }

    /// A run that is only waiting for its output need not wait any longer.
    fn cut_drain(&mut self) {
        if self.draining {
            self.cut_output();
        }
    }

    fn cut_output(&mut self) {
        self.intakes.stdout.cut();
        self.intakes.stderr.cut();
    }

    /// Sends the outcome. Gives what is left to do if the leader is still to be reaped.
    pub(super) fn finish(&mut self) -> Option<Late> {
        let mut hold = self.hold.take();
        let ending = self.ending();
        ending.signalled = hold.as_ref().and_then(|hold| hold.signalled());
        if let (Some(hold), Some(stop)) = (&hold, &mut ending.stop) {
            let times = hold.stop_times();
            stop.asked = times.asked.unwrap_or(stop.asked).max(stop.asked);
            stop.killed = times.killed.or(stop.killed);
        }
        self.common.board.forget_pid();
        let late = hold.take_if(|hold| !hold.is_done());
        // Before anybody hears of the end: after that there is no zombie and no descriptor of the run, and its minder has
        // counted it.
        drop(hold);
        let outcome = self.outcome(Instant::now());
        self.close_stdin();
        self.common.close_left_stdin();
        self.intakes.stdin.close();
        self.tell_parts();
        if let Some(mut spans) = self.spans.take() {
            spans.ended(&outcome);
        }
        self.common.end(&outcome, late.is_some());
        // Nobody may be there to take it.
        let _ = self.common.reports.put(Report::Event(Event::Ended(Box::new(outcome))));
        late.map(|hold| Late { hold, common: Arc::clone(&self.common) })
    }

    fn outcome(&mut self, now: Instant) -> Outcome {
        let ending = self.ending.take().unwrap_or_default();
        let since = |from: Instant, to: Instant| to.saturating_duration_since(from);
        let since_start = |instant| since(self.started, instant);
        let settled = ending.settled.unwrap_or(now);
        let asked = self.ladder.asked();
        let stop = ending.stop.as_ref().map(|stop| StopReceipt {
            reason: stop.reason,
            rung: match (stop.killed, asked) {
                (None, Some(ask)) => StopRung::Asked(ask),
                (Some(_), _) | (None, None) => StopRung::Killed,
            },
            asked_after: since_start(stop.asked),
            killed: stop.killed.map(|(at, because)| Kill { after: since(stop.asked, at), because }),
            took: since(stop.asked, settled),
        });
        let timings = Timings {
            exited: ending.exited.map(since_start),
            settled: since_start(settled),
            ended: since_start(now),
        };
        Outcome {
            ended: stop.map_or(Ended::ByItself, |stop| Ended::Stopped(stop.reason)),
            exit: ending.exit,
            stop,
            left: ending.left.unwrap_or(Left::Unknown("the supervisor ended early")),
            containment: self.containment,
            stdout: take_capture(&mut self.intakes.stdout),
            stderr: take_capture(&mut self.intakes.stderr),
            timings,
            signalled: ending.signalled,
            usage: ending.usage,
        }
    }
}

/// A run that has ended, and whose leader outlived its kill.
pub(super) struct Late {
    hold: Box<dyn Hold>,
    common: Arc<Common>,
}

impl Late {
    /// Whether nobody is left for us to reap. Reaps whom it can.
    pub(super) fn is_done(&mut self) -> bool {
        self.hold.is_done()
    }
}

impl Drop for Late {
    fn drop(&mut self) {
        self.common.lose(Parts::default().with(Part::Lingering));
    }
}

/// What is left of the time after the end of a child's input, which may have ended before. `None` if it never was ours.
fn had_its_time(time: Duration, common: &Common, intakes: &Intakes) -> Option<Duration> {
    let closed = intakes.stdin.closed().or_else(|| common.stdin_closed());
    let is_open = intakes.stdin.has_more() || common.has_stdin();
    let had = closed.map(|closed| closed.elapsed()).or_else(|| is_open.then_some(Duration::ZERO))?;
    Some(time.saturating_sub(had))
}

/// Whether everybody on this rung was killed, so that the wait for their end has a bound.
fn is_bounded(rung: Rung) -> bool {
    matches!(rung, Rung::Killed | Rung::Swept)
}

fn take_capture(intake: &mut Intake) -> Capture {
    std::mem::replace(intake, Intake::none()).into_capture()
}

impl Drop for Case {
    /// Only a fault of this library gets here with a hold: then nobody is left to climb the ladder.
    fn drop(&mut self) {
        let Some(hold) = &mut self.hold else { return };
        hold.kill();
        let exit = hold.release().status;
        self.ending().exit = exit;
        self.finish();
    }
}
