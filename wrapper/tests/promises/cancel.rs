//! Cancelling is idempotent, urgent the second time, and possible from anywhere.

use std::time::Duration;

use childminder::{Ask, Ended, Event, Input, KillCause, Reason, State, StopPlan};
use tokio_util::sync::CancellationToken;

use crate::scene::{LONG_GRACE, assert_all_dead, eventually, pids, run, sh, start, within};

const DEAF: &str = "trap '' TERM; echo $$; sleep 100; sleep 100";

#[tokio::test]
async fn a_second_cancel_does_not_wait_for_the_grace() {
    let mut run = start(sh(DEAF).grace(LONG_GRACE));
    let tree = pids(&mut run, 1).await;
    run.cancel();
    eventually("it was asked", || run.state() == State::Terminating);
    run.cancel();
    let outcome = within(run.wait()).await;
    assert_all_dead(&tree);
    let kill = outcome.stop.and_then(|stop| stop.killed).expect("it was killed");
    assert_eq!(kill.because, KillCause::AskedAgain);
}

#[tokio::test]
async fn a_token_and_a_drop_after_a_cancel_do_not_cut_the_grace_short() {
    let token = CancellationToken::new();
    let mut run = start(sh(DEAF).grace(Duration::from_millis(300)).cancel_on(token.clone()));
    let tree = pids(&mut run, 1).await;
    run.cancel();
    token.cancel();
    let outcome = within(run.wait()).await;
    assert_all_dead(&tree);
    let kill = outcome.stop.and_then(|stop| stop.killed).expect("it was killed");
    assert_eq!(kill.because, KillCause::GraceOver);
}

#[tokio::test]
async fn a_storm_of_cancels_from_many_threads_is_one_cancel() {
    let mut run = start(sh(DEAF).grace(LONG_GRACE));
    let tree = pids(&mut run, 1).await;
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let canceller = run.canceller();
            std::thread::spawn(move || (0..200).for_each(|_| canceller.cancel()))
        })
        .collect();
    let outcome = within(run.wait()).await;
    for thread in threads {
        thread.join().expect("a canceller never panics");
    }
    assert_all_dead(&tree);
    assert_eq!(outcome.ended, Ended::Stopped(Reason::Cancelled));
}

#[tokio::test]
async fn a_cancel_after_the_end_changes_nothing() {
    let mut run = start(&mut sh("exit 2"));
    let canceller = run.canceller();
    let before = format!("{:?}", within(run.wait()).await);
    run.cancel();
    canceller.cancel();
    assert_eq!(format!("{:?}", within(run.wait()).await), before);
    drop(run);
    canceller.cancel();
}

#[tokio::test]
async fn a_canceller_tells_where_the_run_stands_while_somebody_waits_for_it_and_after_its_drop() {
    let mut run = start(sh(DEAF).grace(LONG_GRACE));
    pids(&mut run, 1).await;
    let canceller = run.canceller();
    assert_eq!((canceller.state(), canceller.pid()), (State::Running, run.pid()));
    let waits = tokio::spawn(async move { run.wait().await });
    canceller.cancel();
    eventually("it was asked", || canceller.state() == State::Terminating);
    assert!(canceller.pid().is_some(), "it is deaf, so it lives");
    canceller.cancel();
    within(waits).await.expect("nobody aborts it");
    assert_eq!((canceller.state(), canceller.pid()), (State::Idle, None), "its handle is gone as well");

    let run = start(&mut sh("exec sleep 100"));
    let canceller = run.canceller();
    drop(run);
    eventually("the dropped run is over", || canceller.state() == State::Idle);
    assert_eq!(canceller.pid(), None);
}

#[tokio::test]
async fn a_token_stops_a_run_that_nobody_polls() {
    let token = CancellationToken::new();
    let mut run = start(sh("echo $$; exec sleep 100").cancel_on(token.clone()));
    let tree = pids(&mut run, 1).await;
    token.cancel();
    eventually("it is over", || run.state() == State::Terminated);
    assert_all_dead(&tree);
    assert_eq!(within(run.wait()).await.ended, Ended::Stopped(Reason::Cancelled));
}

#[tokio::test]
async fn a_token_that_was_cancelled_before_the_start_stops_the_run_at_once() {
    let token = CancellationToken::new();
    token.cancel();
    let outcome = run(sh("exec sleep 100").cancel_on(token)).await;
    assert_eq!(outcome.ended, Ended::Stopped(Reason::Cancelled));
}

#[tokio::test]
async fn a_child_token_stops_its_own_run_only() {
    let parent = CancellationToken::new();
    let child = parent.child_token();
    let mut one = start(sh("echo $$; exec sleep 100").cancel_on(child.clone()));
    let mut other = start(sh("echo $$; exec sleep 100").cancel_on(parent.clone()));
    pids(&mut one, 1).await;
    pids(&mut other, 1).await;
    child.cancel();
    within(one.wait()).await;
    assert_eq!(other.state(), State::Running);
    parent.cancel();
    within(other.wait()).await;
}

#[tokio::test]
async fn the_first_reason_is_kept() {
    // The child does not heed the end of its input, so that the stop is under way for as long as this needs.
    let plan = StopPlan::begin(Ask::CloseStdin);
    let mut command = sh("exec sleep 100");
    command.stdin(Input::Piped).stop_plan(plan).timeout(Duration::from_millis(200)).grace(LONG_GRACE);
    let mut run = start(&mut command);
    while !matches!(within(run.next_event()).await, Some(Event::Stopping(Reason::TimedOut))) {}
    assert_eq!(run.state(), State::Terminating);
    run.cancel();
    run.cancel();
    assert_eq!(within(run.wait()).await.ended, Ended::Stopped(Reason::TimedOut));
}
