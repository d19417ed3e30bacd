//! All interleavings of the cells that two threads share, gone through by loom. The code is the library's own file,
//! compiled with loom's atomics; everything else about a run is decided by one thread.
#![expect(unreachable_pub, reason = "in its own crate the file is not private")]

use std::collections::VecDeque;
use std::task::{Context, Poll, Wake, Waker};

use loom::sync::{Arc, Mutex};
use loom::thread;

use atomics::{AtomicBool, Ordering};

mod atomics {
    pub(crate) use loom::sync::Mutex;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
}

#[path = "../src/shared.rs"]
mod shared;
#[path = "../src/state.rs"]
#[expect(dead_code, reason = "not all of the table is needed here")]
mod state;

use shared::{Board, Flow, HIGH_WATER, LOW_WATER, Queue};
use state::{Move, State};

/// The two letter boxes between the supervisor and a handle: chunks one way, "go on" the other.
#[derive(Default)]
struct Boxes {
    chunks: Mutex<VecDeque<usize>>,
    go_on: Mutex<usize>,
}

/// The supervisor's side for one stream, as `Intake::take` does it. True if it has to wait to be told to go on.
fn sends(flow: &Flow, boxes: &Boxes, chunk: usize) -> bool {
    flow.sends(chunk);
    boxes.chunks.lock().unwrap().push_back(chunk);
    flow.must_stop()
}

/// The handle's side, as `Run::poll_event` does it. False if there is nothing to take at this moment.
fn takes(flow: &Flow, boxes: &Boxes) -> bool {
    let Some(chunk) = boxes.chunks.lock().unwrap().pop_front() else { return false };
    if flow.took(chunk) {
        *boxes.go_on.lock().unwrap() += 1;
    }
    true
}

/// A handle that looks for something to take this many times.
fn taking(flow: &Arc<Flow>, boxes: &Arc<Boxes>, times: usize) -> thread::JoinHandle<()> {
    let (flow, boxes) = (Arc::clone(flow), Arc::clone(boxes));
    thread::spawn(move || {
        for _ in 0..times {
            takes(&flow, &boxes);
        }
    })
}

/// Sends these chunks and stops when it must, while the other side takes as many times as there are chunks. Then the
/// handle takes what is left, and whoever was stopped must have been told to go on.
fn nobody_is_left_waiting(chunks: &'static [usize]) {
    loom::model(move || {
        let flow = Arc::new(Flow::new());
        let boxes = Arc::new(Boxes::default());
        let handle = taking(&flow, &boxes, chunks.len());
        let mut told = 0;
        let mut sent = 0;
        let mut waits = false;
        for chunk in chunks {
            if waits {
                let now = *boxes.go_on.lock().unwrap();
                if now == told {
                    break;
                }
                told = now;
            }
            waits = sends(&flow, &boxes, *chunk);
            sent += 1;
        }
        handle.join().unwrap();
        while takes(&flow, &boxes) {}
        let told_since = *boxes.go_on.lock().unwrap() > told;
        assert!(!waits || told_since, "nobody says that there is room again, after {sent} chunks");
        assert!(!flow.must_stop(), "everything was taken, and the flow is said to be full");
    });
}

#[test]
fn a_stream_that_was_stopped_is_told_to_go_on_whatever_is_taken_meanwhile() {
    nobody_is_left_waiting(&[HIGH_WATER]);
    nobody_is_left_waiting(&[HIGH_WATER - 1, 1]);
    nobody_is_left_waiting(&[LOW_WATER, HIGH_WATER, 1]);
    nobody_is_left_waiting(&[HIGH_WATER, LOW_WATER + 1, HIGH_WATER]);
}

/// Why each stream has a flow of its own: one that finds everything taken goes on, and takes away the word that was for
/// the other. Also shows that the model looks.
#[test]
#[should_panic(expected = "nobody says that there is room again")]
fn the_model_finds_that_two_streams_must_not_share_a_flow() {
    loom::model(|| {
        let flow = Arc::new(Flow::new());
        let boxes = Arc::new(Boxes::default());
        let handle = taking(&flow, &boxes, 2);
        let first_waits = sends(&flow, &boxes, HIGH_WATER);
        let told = *boxes.go_on.lock().unwrap();
        let second_waits = sends(&flow, &boxes, HIGH_WATER);
        handle.join().unwrap();
        while takes(&flow, &boxes) {}
        let told_since = *boxes.go_on.lock().unwrap() > told;
        let waits = second_waits || (first_waits && told == 0);
        assert!(!waits || told_since, "nobody says that there is room again");
    });
}

#[test]
fn the_bytes_on_their_way_are_never_counted_below_zero() {
    loom::model(|| {
        let flow = Arc::new(Flow::new());
        let boxes = Arc::new(Boxes::default());
        // A count below zero is a subtraction that overflows, which panics.
        let handle = taking(&flow, &boxes, 3);
        for _ in 0..2 {
            assert!(!sends(&flow, &boxes, 1));
        }
        handle.join().unwrap();
    });
}

/// A mistake that the model must find, so that it is known to look: bytes that are counted after they were sent.
#[test]
#[should_panic(expected = "overflow")]
fn the_model_finds_bytes_that_are_counted_too_late() {
    loom::model(|| {
        let flow = Arc::new(Flow::new());
        let boxes = Arc::new(Boxes::default());
        let handle = taking(&flow, &boxes, 1);
        boxes.chunks.lock().unwrap().push_back(1);
        flow.sends(1);
        handle.join().unwrap();
    });
}

#[test]
fn whoever_sees_a_run_terminated_sees_no_pid_of_it_and_states_only_go_forward() {
    loom::model(|| {
        let board = Arc::new(Board::new());
        let reader = {
            let board = Arc::clone(&board);
            thread::spawn(move || {
                let first = board.state();
                let second = board.state();
                assert!(first as u8 <= second as u8, "{first:?}, then {second:?}");
                if second == State::Terminated {
                    assert!(!board.has_pid());
                }
            })
        };
        board.make(Move::Start);
        board.make(Move::Begin);
        board.make(Move::Stop);
        board.forget_pid();
        board.make(Move::End);
        reader.join().unwrap();
    });
}

/// A board of a run that is about to end.
fn terminating() -> Arc<Board> {
    let board = Board::new();
    for by in [Move::Start, Move::Begin, Move::Stop] {
        board.make(by).expect("it is in the table");
    }
    Arc::new(board)
}

#[test]
fn a_run_is_released_once_whoever_comes_last_its_end_or_the_drop_of_its_handle() {
    loom::model(|| {
        let board = terminating();
        let handle = {
            let board = Arc::clone(&board);
            thread::spawn(move || board.let_go() && board.make(Move::Release).is_some())
        };
        board.make(Move::End).expect("nobody else ends it");
        let released_here = board.settle() && board.make(Move::Release).is_some();
        let released_there = handle.join().unwrap();
        assert!(released_here != released_there, "{released_here} and {released_there}");
        assert_eq!(board.state(), State::Idle);
    });
}

#[test]
fn of_two_moves_from_the_same_state_one_is_refused() {
    loom::model(|| {
        let board = terminating();
        let other = {
            let board = Arc::clone(&board);
            thread::spawn(move || board.make(Move::Fail).is_some())
        };
        let ended = board.make(Move::End).is_some();
        assert!(ended != other.join().unwrap());
        assert_eq!(board.state(), if ended { State::Terminated } else { State::Failed });
    });
}

#[test]
fn whoever_waits_for_the_next_state_is_waked_and_none_is_left_out() {
    loom::model(|| {
        let board = terminating();
        let ends = {
            let board = Arc::clone(&board);
            thread::spawn(move || {
                board.make(Move::End).expect("nobody else ends it");
                board.make(Move::Release).expect("nobody else releases it");
            })
        };
        let mut seen = Vec::new();
        let mut waits_for = None;
        for _ in 0..2 {
            let note = Note::new();
            let waker = Waker::from(std::sync::Arc::clone(&note));
            match board.poll_entered(4 + seen.len() as u32, 1, &mut Context::from_waker(&waker)) {
                Poll::Ready(state) => seen.push(state),
                Poll::Pending => waits_for = Some(note),
            }
        }
        let gone = Note::new();
        let waker = Waker::from(std::sync::Arc::clone(&gone));
        // Far beyond what there will be.
        assert!(board.poll_entered(9, 2, &mut Context::from_waker(&waker)).is_pending());
        drop(waker);
        board.unwatch(2);
        assert_eq!(std::sync::Arc::strong_count(&gone), 1, "whoever does not wait any more is forgotten");
        ends.join().unwrap();
        assert!(waits_for.is_none_or(|note| note.was_called()), "it waits for ever");
        let rest = (4 + seen.len() as u32..).map_while(|nth| board.entered(nth));
        seen.extend(rest);
        assert_eq!(seen, [State::Terminated, State::Idle]);
    });
}

/// A waker that notes that it was called.
struct Note(AtomicBool);

impl Wake for Note {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Note {
    fn new() -> std::sync::Arc<Self> {
        std::sync::Arc::new(Self(AtomicBool::new(false)))
    }

    fn was_called(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

fn poll(queue: &Queue<u8>, note: &std::sync::Arc<Note>) -> Poll<u8> {
    queue.poll_take(&mut Context::from_waker(&Waker::from(std::sync::Arc::clone(note))))
}

#[test]
fn whoever_finds_the_queue_empty_is_waked_and_everything_comes_in_order() {
    loom::model(|| {
        let queue = Arc::new(Queue::new());
        let sender = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || assert!(queue.put(1) && queue.put(2)))
        };
        let mut taken = Vec::new();
        // Another waker each time, as of a handle that goes from task to task; only the last one counts.
        let mut waits_for: Option<std::sync::Arc<Note>> = None;
        for _ in 0..3 {
            let note = Note::new();
            match poll(&queue, &note) {
                Poll::Ready(item) => {
                    taken.push(item);
                    waits_for = None;
                }
                Poll::Pending => waits_for = Some(note),
            }
        }
        sender.join().unwrap();
        let left = 2 - taken.len();
        assert!(left == 0 || waits_for.is_none_or(|note| note.was_called()), "it waits for ever");
        while let Poll::Ready(item) = poll(&queue, &Note::new()) {
            taken.push(item);
        }
        assert_eq!(taken, [1, 2]);
    });
}

#[test]
fn what_is_put_into_an_abandoned_queue_is_told_to_be_lost_or_is_dropped() {
    loom::model(|| {
        let queue = Arc::new(Queue::new());
        let item = std::sync::Arc::new(());
        let sender = {
            let (queue, item) = (Arc::clone(&queue), std::sync::Arc::clone(&item));
            thread::spawn(move || {
                queue.put(std::sync::Arc::clone(&item));
                queue.put(item)
            })
        };
        queue.abandon();
        sender.join().unwrap();
        assert!(!queue.put(std::sync::Arc::clone(&item)));
        assert_eq!(std::sync::Arc::strong_count(&item), 1, "somebody keeps what nobody will take");
    });
}
