//! The handle of a run: its events, its end, and the ways to end it sooner.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;

use crate::contain::Containment;
use crate::input::{ChildStdin, StdinEnd};
use crate::lines::{Line, Splitter};
use crate::minder::{Parts, RunEntry, Transition, new_key};
use crate::outcome::{Capture, Left, Outcome, Reason};
use crate::output::OutputStream;
use crate::shared::{Board, Flow, Queue};
use crate::state::{Move, State};
use crate::supervise::{Door, Key, Wish};

/// A child that was started, with everything it starts.
///
/// Dropping a run, or a future that holds it, cancels it. That needs no runtime: it works during unwinding and after
/// the runtime is gone. The dropped run still gets its grace; the library's own thread sees to the rest.
#[derive(Debug)]
#[must_use = "dropping a run cancels it"]
pub struct Run {
    pid: u32,
    containment: Containment,
    door: Door,
    common: Arc<Common>,
    /// Whether its start was told.
    is_announced: bool,
    stdin: Option<ChildStdin>,
    stdout: Taker,
    stderr: Taker,
    /// It has ended, and there may be a last line to take before that is said.
    ended: Option<Box<Outcome>>,
    outcome: Option<Box<Outcome>>,
}

/// What a run has to tell, in the order in which it happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The child was started. Always the first.
    Started {
        /// The number of the child at this time.
        pid: u32,
    },
    /// The child wrote to its stdout, which is [`Streamed`](crate::Output::Streamed).
    Stdout(Bytes),
    /// The child wrote to its stderr, which is [`Streamed`](crate::Output::Streamed).
    Stderr(Bytes),
    /// The child wrote a line, or a part of one, to a stream whose output is taken by [`Lines`](crate::Output::Lines).
    Line(Line),
    /// Everybody is asked to end. The run may still turn out to have ended by itself, if the child was faster.
    Stopping(Reason),
    /// The run has ended. Always the last.
    Ended(Box<Outcome>),
}

/// What the supervisor, the handle and the minder of a run have in common.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) board: Board,
    pub(crate) reports: Queue<Report>,
    pub(crate) entry: RunEntry,
    pub(crate) stdin: StdinEnd,
    /// As soon as there is a child.
    pid: OnceLock<u32>,
    /// It has ended, and it was not shown that nobody is left of it.
    may_have_left_somebody: AtomicBool,
}

impl Common {
    pub(crate) fn new(entry: RunEntry) -> Self {
        let (board, reports) = (Board::new(), Queue::new());
        let (stdin, pid, may_have_left_somebody) = Default::default();
        Self { board, reports, entry, stdin, pid, may_have_left_somebody }
    }

    /// See [`Run::pid`].
    pub(crate) fn pid(&self) -> Option<u32> {
        self.pid.get().copied().filter(|_| self.board.has_pid())
    }

    /// Whether it has ended without its being shown that nobody is left.
    pub(crate) fn may_have_left_somebody(&self) -> bool {
        self.may_have_left_somebody.load(Ordering::SeqCst)
    }

    /// Takes the run to its next state, and lets everybody know. A move that the table does not have is refused, and
    /// nobody notices.
    pub(crate) fn make(&self, by: Move) {
        if let Some((from, to)) = self.board.make(by) {
            self.entry.registry().tell(Transition { run: RunId::new(self.entry.key()), from, to });
        }
    }

    /// There is a child, and these parts.
    pub(crate) fn begin(&self, pid: u32, parts: Parts) {
        // There is one start for each run.
        let _ = self.pid.set(pid);
        self.make(Move::Begin);
        self.entry.registry().begin(self.entry.key(), parts);
    }

    /// The start was refused or failed.
    pub(crate) fn fail_start(&self) {
        self.make(Move::Fail);
        self.entry.registry().fail_start(self.entry.key());
    }

    pub(crate) fn exchange(&self, lost: Parts, gained: Parts) {
        self.entry.registry().exchange(&self.entry, lost, gained);
    }

    pub(crate) fn lose(&self, parts: Parts) {
        self.entry.registry().lose(self.entry.key(), parts);
    }

    /// The run has ended. Whether its child lingers on.
    pub(crate) fn end(&self, outcome: &Outcome, lingers: bool) {
        let is_proved = matches!(outcome.left, Left::Nobody(_));
        // In this order: whoever sees it off the registry asks how it has ended, and whoever sees its state asks the registry.
        self.may_have_left_somebody.store(!is_proved, Ordering::SeqCst);
        self.entry.registry().end(self.entry.key(), outcome, lingers);
        self.make(if is_proved { Move::End } else { Move::Fail });
        if self.board.settle() {
            self.make(Move::Release);
        }
    }

    /// Nobody holds the run any more.
    pub(crate) fn let_go(&self) {
        self.reports.abandon();
        if self.board.let_go() {
            self.make(Move::Release);
        }
    }
}

/// What the supervisor tells a handle.
#[derive(Debug)]
pub(crate) enum Report {
    Event(Event),
    Output(OutputStream, Bytes),
    /// Nothing more comes from this stream.
    Closed(OutputStream),
}

/// The handle's side of one output stream.
#[derive(Debug)]
pub(crate) struct Taker {
    taking: Taking,
    handed_out: u64,
}

#[derive(Debug)]
enum Taking {
    /// It does not come by here: it is captured, or not read at all.
    Nothing,
    Chunks(Arc<Flow>),
    Lines(Arc<Flow>, Box<Splitter>),
}

impl Taker {
    pub(crate) fn none() -> Self {
        Self { taking: Taking::Nothing, handed_out: 0 }
    }

    pub(crate) fn chunks(flow: Arc<Flow>) -> Self {
        Self { taking: Taking::Chunks(flow), handed_out: 0 }
    }

    pub(crate) fn lines(flow: Arc<Flow>, splitter: Splitter) -> Self {
        Self { taking: Taking::Lines(flow, Box::new(splitter)), handed_out: 0 }
    }

    /// Takes a chunk, and hands it back unless it is to be cut into lines. Also says whether the supervisor waits to
    /// hear of it.
    fn take(&mut self, bytes: Bytes) -> (Option<Bytes>, bool) {
        let count = bytes.len();
        match &mut self.taking {
            Taking::Lines(flow, splitter) => {
                splitter.push(bytes);
                (None, flow.took(count))
            }
            Taking::Chunks(flow) => (Some(bytes), flow.took(count)),
            Taking::Nothing => (Some(bytes), false),
        }
    }

    fn next_line(&mut self) -> Option<Line> {
        match &mut self.taking {
            Taking::Lines(_, splitter) => splitter.next(),
            Taking::Nothing | Taking::Chunks(_) => None,
        }
    }

    fn close(&mut self) {
        if let Taking::Lines(_, splitter) = &mut self.taking {
            splitter.close();
        }
    }

    /// What was read and never left our hands was dropped.
    fn settle(&self, capture: &mut Capture) {
        if !matches!(self.taking, Taking::Nothing) {
            capture.dropped = capture.total - self.handed_out;
        }
    }
}

/// Names a run within this process. Never used twice, unlike a pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(Key);

impl RunId {
    pub(crate) fn new(key: Key) -> Self {
        Self(key)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What the start puts together to a handle.
pub(crate) struct Made {
    pub(crate) pid: u32,
    pub(crate) containment: Containment,
    pub(crate) door: Door,
    pub(crate) common: Arc<Common>,
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: Taker,
    pub(crate) stderr: Taker,
}

impl Run {
    pub(crate) fn new(made: Made) -> Self {
        let Made { pid, containment, door, common, stdin, stdout, stderr } = made;
        let (is_announced, ended, outcome) = (false, None, None);
        Self { pid, containment, door, common, is_announced, stdin, stdout, stderr, ended, outcome }
    }

    /// The name of this run.
    pub fn id(&self) -> RunId {
        RunId::new(self.door.key())
    }

    /// The pid of the child, `None` once it is reaped: then the number may be somebody else's.
    ///
    /// Nothing keeps it from being reaped right after this call, so do not signal it; [`cancel`](Self::cancel)
    /// cannot miss.
    pub fn pid(&self) -> Option<u32> {
        self.common.board.has_pid().then_some(self.pid)
    }

    /// What holds the run.
    pub fn containment(&self) -> Containment {
        self.containment
    }

    /// Where the run stands.
    pub fn state(&self) -> State {
        self.common.board.state()
    }

    /// Through which states the run comes, also those that it came through before this call.
    pub fn states(&self) -> States {
        self.canceller().states()
    }

    /// Takes the other end of the child's stdin, if that is [`Piped`](crate::Input::Piped). The child waits for the
    /// end of its input until this is dropped; [`wait`](Self::wait) drops it if nobody took it.
    pub fn stdin(&mut self) -> Option<ChildStdin> {
        self.stdin.take()
    }

    /// Stops the run: everybody is asked to end, and killed when the grace is over. Returns at once.
    ///
    /// A second call does not wait for the grace and kills at once; further calls, and calls after the end, do
    /// nothing.
    pub fn cancel(&self) {
        self.canceller().cancel();
    }

    /// A handle that cancels the run from anywhere, also from another thread, and tells where it stands while somebody else
    /// waits for it. It does not keep the run alive.
    pub fn canceller(&self) -> Canceller {
        Canceller { pid: self.pid, door: self.door.clone(), common: Arc::clone(&self.common) }
    }

    /// The next event; `None` after [`Event::Ended`]. Cancel-safe: no event is lost if the future is dropped.
    pub async fn next_event(&mut self) -> Option<Event> {
        std::future::poll_fn(|context| self.poll_event(context)).await
    }

    /// Waits for the end of the run. Asking again gives the same answer. Cancel-safe.
    ///
    /// Output that is handed out as events and was not taken by then is thrown away, so that the child does not block,
    /// and counted in [`Capture::dropped`](crate::Capture::dropped).
    ///
    /// This takes no longer than the child takes; with a timeout no longer than that; and after that no longer than
    /// the requests of the [`StopPlan`](crate::StopPlan) have, the grace included
    /// ([`StopPlan::longest`](crate::StopPlan::longest)), two seconds for a kill that is not obeyed, and the drain window.
    pub async fn wait(&mut self) -> Outcome {
        // A child that reads its input to the end would wait for us.
        self.end_input();
        loop {
            if let Some(outcome) = &self.outcome {
                return Outcome::clone(outcome);
            }
            std::future::poll_fn(|context| self.poll_uncounted(context)).await;
        }
    }

    /// By the supervisor, which hears first of a stop that was wished for before: a child that ends for want of input has not
    /// ended by itself then.
    fn end_input(&mut self) {
        if let Some(stdin) = self.stdin.take() {
            stdin.leave_to(&self.door);
        }
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<Event>> {
        let event = ready!(self.poll_uncounted(context));
        match &event {
            Some(Event::Stdout(bytes)) => self.stdout.handed_out += bytes.len() as u64,
            Some(Event::Stderr(bytes)) => self.stderr.handed_out += bytes.len() as u64,
            Some(Event::Line(line)) => self.taker(line.stream).handed_out += line.weight(),
            _ => {}
        }
        Poll::Ready(event)
    }

    /// The next event, which is not handed out yet.
    fn poll_uncounted(&mut self, context: &mut Context<'_>) -> Poll<Option<Event>> {
        if !std::mem::replace(&mut self.is_announced, true) {
            return Poll::Ready(Some(Event::Started { pid: self.pid }));
        }
        loop {
            if let Some(line) = self.stdout.next_line().or_else(|| self.stderr.next_line()) {
                return Poll::Ready(Some(Event::Line(line)));
            }
            if let Some(outcome) = self.ended.take() {
                return Poll::Ready(Some(self.end(outcome)));
            }
            if self.outcome.is_some() {
                return Poll::Ready(None);
            }
            // Whoever takes the events of a flood in a loop must let other tasks have their turn.
            let turn = ready!(tokio::task::coop::poll_proceed(context));
            let report = ready!(self.common.reports.poll_take(context));
            turn.made_progress();
            match report {
                Report::Event(Event::Ended(outcome)) => {
                    self.stdout.close();
                    self.stderr.close();
                    self.ended = Some(outcome);
                }
                Report::Event(event) => return Poll::Ready(Some(event)),
                Report::Closed(stream) => self.taker(stream).close(),
                Report::Output(stream, bytes) => {
                    let (chunk, is_waited_for) = self.taker(stream).take(bytes);
                    if is_waited_for {
                        self.door.resume();
                    }
                    if let Some(chunk) = chunk {
                        return Poll::Ready(Some(stream.event(chunk)));
                    }
                }
            }
        }
    }

    fn end(&mut self, mut outcome: Box<Outcome>) -> Event {
        self.stdout.settle(&mut outcome.stdout);
        self.stderr.settle(&mut outcome.stderr);
        self.stdin = None;
        // The supervisor may not have come to it.
        self.common.close_left_stdin();
        self.outcome = Some(outcome.clone());
        Event::Ended(outcome)
    }

    fn taker(&mut self, stream: OutputStream) -> &mut Taker {
        match stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
        }
    }
}

impl OutputStream {
    fn event(self, bytes: Bytes) -> Event {
        match self {
            Self::Stdout => Event::Stdout(bytes),
            Self::Stderr => Event::Stderr(bytes),
        }
    }
}

impl Stream for Run {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.poll_event(context)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.state().is_active() {
            self.door.stop(Wish::Drop);
            self.end_input();
        }
        self.common.let_go();
    }
}

/// Cancels a run from anywhere, and tells where it stands.
#[derive(Clone, Debug)]
pub struct Canceller {
    pid: u32,
    door: Door,
    common: Arc<Common>,
}

impl Canceller {
    /// See [`Run::cancel`]; all cancellers of a run, and the run itself, count together.
    pub fn cancel(&self) {
        if self.state().is_active() {
            self.door.stop(Wish::Cancel);
        }
    }

    /// See [`Run::state`]. A cancel is noticed a moment after it was given, so until then the run is still said to be running. A
    /// dropped run goes on to its end, which this tells as well.
    pub fn state(&self) -> State {
        self.common.board.state()
    }

    /// See [`Run::states`].
    pub fn states(&self) -> States {
        States::new(Arc::clone(&self.common), 0)
    }

    /// See [`Run::pid`].
    pub fn pid(&self) -> Option<u32> {
        self.common.board.has_pid().then_some(self.pid)
    }
}

/// The states of a run, each in its turn and none left out, however seldom anybody looks. The first is always
/// [`State::Idle`]. The stream ends after [`State::Failed`], or when the run is idle again, which is when it has ended and its
/// handle is gone; so whoever holds the handle must not wait for that.
///
/// It does not keep the run alive.
#[derive(Debug)]
pub struct States {
    common: Arc<Common>,
    next: u32,
    /// Whose waker it is that waits at the board.
    watcher: Key,
}

impl Clone for States {
    /// The other goes on from the same state.
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.common), self.next)
    }
}

impl Drop for States {
    fn drop(&mut self) {
        self.common.board.unwatch(self.watcher);
    }
}

impl States {
    fn new(common: Arc<Common>, next: u32) -> Self {
        Self { common, next, watcher: new_key() }
    }

    /// The next state; `None` after the last. Cancel-safe.
    pub async fn next(&mut self) -> Option<State> {
        std::future::poll_fn(|context| self.poll_state(context)).await
    }

    fn poll_state(&mut self, context: &mut Context<'_>) -> Poll<Option<State>> {
        let board = &self.common.board;
        let last = self.next.checked_sub(1).and_then(|last| board.entered(last));
        if last == Some(State::Failed) || (self.next > 1 && last == Some(State::Idle)) {
            return Poll::Ready(None);
        }
        let state = ready!(board.poll_entered(self.next, self.watcher, context));
        self.next += 1;
        Poll::Ready(Some(state))
    }
}

impl Stream for States {
    type Item = State;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<State>> {
        self.poll_state(context)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The table once more, as the design has it: each line of states from which one leads to the next.
    const WAYS: [&[State]; 5] = [
        &[State::Idle, State::Starting, State::Running, State::Terminating, State::Terminated, State::Idle],
        &[State::Idle, State::Failed],
        &[State::Starting, State::Failed],
        &[State::Running, State::Failed],
        &[State::Terminating, State::Failed],
    ];

    #[test]
    fn a_state_leads_to_another_only_as_the_design_says() {
        for from in State::ALL {
            for to in State::ALL {
                let is_wanted = WAYS.iter().any(|way| way.windows(2).any(|pair| pair == [from, to]));
                assert_eq!(from.leads_to(to), is_wanted, "{from} to {to}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_sequence_of_moves_leads_to_an_illegal_state_and_each_that_is_made_is_remembered(
            moves in prop::collection::vec(prop::sample::select(Move::ALL.to_vec()), 0..5),
            late in prop::collection::vec(prop::sample::select(Move::ALL.to_vec()), 0..5),
        ) {
            let board = Board::new();
            let mut came_by = vec![State::Idle];
            // A way to the end now and then, which chance would seldom find.
            let through = [Move::Start, Move::Begin, Move::Stop, Move::End];
            for by in moves.into_iter().chain(through).chain(late) {
                let before = board.state();
                // Whoever was released is nobody's any more, and nobody can start it again.
                if came_by.len() > 1 && before == State::Idle {
                    break;
                }
                match board.make(by) {
                    Some((from, to)) => {
                        prop_assert!(from == before && from.leads_to(to), "{from} to {to}");
                        came_by.push(to);
                    }
                    None => prop_assert_eq!(before.after(by), None),
                }
                prop_assert_eq!(board.state(), *came_by.last().expect("it is somewhere"));
            }
            let remembered: Vec<_> = (0..).map_while(|nth| board.entered(nth)).collect();
            prop_assert_eq!(remembered, came_by);
        }
    }
}
