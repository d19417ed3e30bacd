//! What it costs to keep track of a run, counted by the allocator.
#![expect(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use childminder::cost::{TrackedRun, track};
use childminder::{Command, Minder};

/// Counts what this thread has and has not given back.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: usize, sign: isize) {
    // At the very end of a thread there is nobody to count for.
    let _ = HELD.try_with(|held| held.set(held.get() + sign * bytes as isize));
}

// SAFETY: everything is left to the system's allocator; the count beside it allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller keeps the promises for this as for ours.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn held() -> isize {
    HELD.with(Cell::get)
}

const RUNS: usize = 1000;

#[test]
fn keeping_track_of_a_run_takes_less_than_a_kibibyte_and_all_of_it_is_given_back() {
    let minder = Minder::new();
    let mut command = Command::new("some-program-with-a-long-name");
    command.minder(&minder);
    let mut tracked: Vec<TrackedRun> = Vec::with_capacity(RUNS);
    // What a minder has once is there after the first.
    track(&command).end();
    let before = held();
    tracked.extend((0..RUNS).map(|_| track(&command)));
    let each = (held() - before) / RUNS as isize;
    assert_eq!(minder.stats().resources.process, RUNS);
    tracked.drain(..).for_each(TrackedRun::end);
    let left = held() - before;
    println!("{each} bytes a run");
    assert!(0 < each && each <= 1024, "{each} bytes a run");
    // The table's last leaf may be another than before; nothing grows with the number of runs.
    assert!(left <= 1024, "{left} bytes are left of {RUNS} runs");
    assert_eq!(minder.stats().resources.all(), 0);
}
