//! A run ends in time: never early, never late, and a polite one at once.

use std::time::{Duration, Instant};

use childminder::{Ended, Reason};

use crate::scene::{LONG_GRACE, assert_all_dead, pids, run, sh, start, within};

/// What a busy machine may add. A grace that nobody cut short is far longer.
const SLACK: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_timeout_is_never_early_and_hardly_late() {
    let timeout = Duration::from_millis(150);
    let before = Instant::now();
    let outcome = run(sh("exec sleep 100").timeout(timeout)).await;
    let took = before.elapsed();
    assert_eq!(outcome.ended, Ended::Stopped(Reason::TimedOut));
    assert!(took >= timeout && took < timeout + SLACK, "took {took:?}");
}

#[tokio::test]
async fn a_timeout_of_zero_stops_at_once() {
    let outcome = run(sh("exec sleep 100").timeout(Duration::ZERO)).await;
    assert_eq!(outcome.ended, Ended::Stopped(Reason::TimedOut));
}

#[tokio::test]
async fn durations_too_large_for_the_clock_are_never_over() {
    let outcome = run(sh("exit 0").timeout(Duration::MAX).grace(Duration::MAX).drain(Duration::MAX)).await;
    assert_eq!(outcome.ended, Ended::ByItself);
}

#[tokio::test]
async fn a_grace_of_zero_still_asks_before_it_kills() {
    let mut run = start(sh("trap '' TERM; echo $$; sleep 100; sleep 100").grace(Duration::ZERO));
    pids(&mut run, 1).await;
    run.cancel();
    let stop = within(run.wait()).await.stop.expect("it was stopped");
    assert!(stop.killed.is_some());
    assert!(stop.took < SLACK, "took {:?}", stop.took);
}

#[tokio::test]
async fn a_polite_tree_is_not_made_to_wait_for_the_grace() {
    let mut run = start(sh("sleep 100 & echo $!; sleep 100 & echo $!; wait").grace(LONG_GRACE));
    let tree = pids(&mut run, 2).await;
    let before = Instant::now();
    run.cancel();
    let outcome = within(run.wait()).await;
    assert!(before.elapsed() < SLACK, "took {:?}", before.elapsed());
    assert!(outcome.stop.is_some_and(|stop| stop.killed.is_none()));
    assert_all_dead(&tree);
}

#[tokio::test]
async fn members_that_end_soon_after_their_leader_are_waited_for_and_not_killed() {
    // The leader ends at once, and the member a little later; that time is what is tested.
    let member =
        "trap 'late=1' TERM; echo $$; while [ -z \"$late\" ]; do sleep 0.01; done; sleep 0.2; exit 0";
    let script = format!("sh -c '{}' & echo $$; wait", member.replace('\'', "'\\''"));
    let mut run = start(sh(&script).grace(LONG_GRACE));
    let tree = pids(&mut run, 2).await;
    let before = Instant::now();
    run.cancel();
    let outcome = within(run.wait()).await;
    let took = before.elapsed();
    assert!(took >= Duration::from_millis(200), "the member was not waited for: {took:?}");
    assert!(took < Duration::from_millis(200) + SLACK, "took {took:?}");
    assert!(outcome.stop.is_some_and(|stop| stop.killed.is_none()), "{outcome:?}");
    assert_all_dead(&tree);
}

#[tokio::test]
async fn a_kill_comes_promptly_when_the_grace_is_over() {
    let grace = Duration::from_millis(300);
    let mut run = start(sh("trap '' TERM; echo $$; sleep 100; sleep 100").grace(grace));
    pids(&mut run, 1).await;
    run.cancel();
    let stop = within(run.wait()).await.stop.expect("it was stopped");
    let kill = stop.killed.expect("it was killed");
    assert!(kill.after >= grace && kill.after < grace + SLACK, "killed after {:?}", kill.after);
    assert!(stop.took < grace + SLACK, "took {:?}", stop.took);
}
