//! The idle timeout: what counts as a sign of life, and what does not.

use std::time::Duration;

use childminder::{Ended, Event, Input, Output, Reason, State};
use tokio::io::AsyncWriteExt;

use crate::scene::{
    LONG_GRACE, assert_all_dead, eventually, is_held_up, perl, pids, run, sh, start, state_of, within,
};

/// Long enough for a child on a busy machine to come to its next word.
const IDLE: Duration = Duration::from_millis(600);

#[tokio::test]
async fn a_child_that_says_nothing_is_stopped_when_the_idle_time_is_over_and_not_before() {
    let mut run = start(sh("sleep 100 & echo $!; echo $$; wait").idle_timeout(IDLE).grace(LONG_GRACE));
    let tree = pids(&mut run, 2).await;
    let outcome = within(run.wait()).await;
    assert_all_dead(&tree);
    assert_eq!(outcome.ended, Ended::Stopped(Reason::Idle));
    let stop = outcome.stop.expect("it was stopped");
    assert!(stop.asked_after >= IDLE, "asked after {:?}", stop.asked_after);
}

#[tokio::test]
async fn a_child_that_says_nothing_at_all_has_the_idle_time_from_its_start() {
    let outcome = run(sh("exec sleep 100").idle_timeout(Duration::from_millis(50))).await;
    assert_eq!(outcome.ended, Ended::Stopped(Reason::Idle));
    assert_eq!(outcome.stdout.total, 0);
}

/// Says a word on this stream again and again, each time after a pause that is well within the idle time, and for
/// longer than that in all.
fn talker(stream: &str) -> String {
    format!("i=0; while [ $i -lt 10 ]; do printf . {stream}; sleep 0.1; i=$((i+1)); done")
}

#[tokio::test]
async fn a_byte_on_either_stream_begins_the_idle_time_anew() {
    for stream in ["", ">&2"] {
        let outcome = run(sh(&talker(stream)).idle_timeout(IDLE)).await;
        assert_eq!(outcome.ended, Ended::ByItself, "{stream}: {outcome:?}");
        assert!(outcome.timings.ended > IDLE, "it took too short a time to show anything");
    }
}

#[tokio::test]
async fn output_beyond_the_capture_limit_is_a_sign_of_life_too() {
    let outcome = run(sh(&talker("")).idle_timeout(IDLE).capture_limit(1)).await;
    assert_eq!(outcome.ended, Ended::ByItself);
    assert_eq!(outcome.stdout.total, 10);
}

#[tokio::test]
async fn output_that_is_not_read_here_and_input_are_no_signs_of_life() {
    let outcome = run(sh(&talker("")).stdout(Output::Null).idle_timeout(IDLE)).await;
    assert_eq!(outcome.ended, Ended::Stopped(Reason::Idle));

    let mut command = sh("while read word; do :; done");
    let mut run = command.stdin(Input::Piped).idle_timeout(IDLE).start().expect("it starts");
    let mut stdin = run.stdin().expect("a pipe");
    let talks_to_it = async {
        // Until it is not there any more.
        while stdin.write_all(b"word\n").await.is_ok() {
            tokio::time::sleep(IDLE / 10).await;
        }
    };
    within(talks_to_it).await;
    assert_eq!(within(run.wait()).await.ended, Ended::Stopped(Reason::Idle));
}

#[tokio::test]
async fn a_child_that_has_closed_both_streams_is_idle() {
    let outcome = run(sh("exec >&- 2>&-; sleep 100").idle_timeout(IDLE)).await;
    assert_eq!(outcome.ended, Ended::Stopped(Reason::Idle));
}

#[tokio::test]
async fn a_child_that_ends_within_the_idle_time_ends_by_itself() {
    let outcome = run(sh("exit 3").idle_timeout(LONG_GRACE)).await;
    assert_eq!(outcome.exit.and_then(|exit| exit.code()), Some(3));
    let outcome = run(sh("exit 0").idle_timeout(Duration::MAX)).await;
    assert_eq!(outcome.ended, Ended::ByItself);
}

#[tokio::test]
async fn a_child_that_is_held_up_because_nobody_takes_its_output_is_not_idle() {
    // It writes without a pause, and can go on only as far as its output is taken.
    let idle = Duration::from_millis(500);
    let mut command = perl("$| = 1; print 'x' x 100_000 for 1..40; <STDIN>");
    command.stdout(Output::Streamed).stdin(Input::Piped).idle_timeout(idle).grace(LONG_GRACE);
    let mut run = command.start().expect("it starts");
    let _stdin = run.stdin();
    let child = run.pid().expect("it runs");
    eventually("it is held up", || is_held_up(child));
    // Time is what is tested here.
    tokio::time::sleep(idle * 4).await;
    assert_eq!((run.state(), state_of(child)), (State::Running, Some('S')));
    // Then all is taken, and the child, which waits for a word of ours, is idle indeed.
    let mut total = 0;
    let outcome = loop {
        match within(run.next_event()).await.expect("it ends") {
            Event::Stdout(bytes) => total += bytes.len(),
            Event::Ended(outcome) => break outcome,
            _ => {}
        }
    };
    assert_eq!(total, 4_000_000);
    assert_eq!(outcome.ended, Ended::Stopped(Reason::Idle));
}
