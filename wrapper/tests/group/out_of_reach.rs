//! What a group cannot hold, and what follows from that.

use std::time::{Duration, Instant};

use childminder::{Cut, Ended, Minder, StreamEnd};

use crate::scene::{
    LONG_GRACE, PATIENCE, assert_all_dead, eventually, is_alive, perl, pids, run, sh, start, within,
};
use crate::stray::Stray;

/// What a busy machine may add; whoever is out of reach holds on ten times as long.
const SLACK: Duration = Duration::from_secs(10);

/// Ends at once, and leaves a process in a session of its own that holds both outputs. Says its pid. The inner shell
/// ends when that process has been started, hence in its session.
const ESCAPED: &str = "exec 3>&1; echo $(setsid sh -c 'sleep 100 >&3 & echo $!')";

#[tokio::test]
async fn a_process_out_of_reach_that_holds_the_output_costs_the_drain_window_and_no_more() {
    let drain = Duration::from_millis(200);
    let before = Instant::now();
    let outcome = run(sh(ESCAPED).drain(drain)).await;
    let took = before.elapsed();
    let pid = String::from_utf8_lossy(&outcome.stdout.bytes).trim().parse().expect("a pid");
    let _stray = Stray(pid);
    assert!(is_alive(pid), "a group cannot hold this one; if it could, this test would show nothing");
    assert!(took >= drain && took < drain + SLACK, "took {took:?}");
    assert_eq!(outcome.ended, Ended::ByItself);
    assert_eq!(outcome.stdout.end, StreamEnd::Held);
    assert_eq!(outcome.stdout.cut(), Some(Cut::Held));
    assert!(!outcome.stdout.is_complete());
}

#[tokio::test]
async fn a_drain_is_a_timer_of_the_registry_until_it_is_over_or_cut_short_by_a_cancel_or_a_shutdown() {
    for is_shut_down in [false, true] {
        let minder = Minder::new();
        let mut command = sh(ESCAPED);
        let mut run = start(command.minder(&minder).describe("the held one").drain(LONG_GRACE));
        let _stray = Stray(pids(&mut run, 1).await[0]);
        let drains = || minder.resources().iter().any(|one| one.description == "drain of the held one");
        eventually("it drains", drains);
        if is_shut_down {
            let report = within(minder.shutdown(PATIENCE)).await;
            assert!(report.is_clean(), "{report}");
        } else {
            run.cancel();
        }
        let outcome = within(run.wait()).await;
        assert_eq!((outcome.ended, outcome.stdout.end), (Ended::ByItself, StreamEnd::Held));
        assert_eq!(minder.stats().resources.all(), 0, "{:?}", minder.resources());
    }
}

#[tokio::test]
async fn our_end_of_a_held_pipe_is_closed_with_the_run() {
    let script = format!("{ESCAPED}; readlink /proc/$$/fd/1");
    let outcome = run(sh(&script).drain(Duration::ZERO)).await;
    let said = String::from_utf8_lossy(&outcome.stdout.bytes).into_owned();
    let (pid, pipe) = said.trim().split_once('\n').expect("two lines");
    let _stray = Stray(pid.parse().expect("a pid"));
    let ours = std::fs::read_dir("/proc/self/fd").expect("a list of descriptors");
    let open = ours
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .any(|target| target.to_str() == Some(pipe));
    assert!(!open, "{pipe} is still open here");
}

#[tokio::test]
async fn a_cancel_does_not_wait_for_the_drain_window() {
    let mut run = start(sh(ESCAPED).drain(LONG_GRACE));
    let stray = pids(&mut run, 1).await[0];
    let _stray = Stray(stray);
    eventually("the leader is reaped", || run.pid().is_none());
    run.cancel();
    let outcome = within(run.wait()).await;
    assert_eq!(outcome.ended, Ended::ByItself);
    assert_eq!(outcome.stdout.cut(), Some(Cut::Held));
}

#[tokio::test]
async fn a_leader_that_moved_to_the_group_of_its_owner_is_found_and_nobody_else_there_is_hit() {
    let script = "setpgrp(0, getpgrp(getppid())); $| = 1; print \"$$\\n\"; sleep 100";
    let mut run = start(perl(script).grace(LONG_GRACE));
    let moved = pids(&mut run, 1).await;
    let ours =
        nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(i32::try_from(moved[0]).expect("a pid"))));
    assert_eq!(ours, Ok(nix::unistd::getpgrp()), "it did not move");
    run.cancel();
    within(run.wait()).await;
    assert_all_dead(&moved);
}

#[tokio::test]
async fn a_child_is_in_the_session_of_its_owner() {
    let outcome = run(&mut sh("cut -d' ' -f 6 /proc/$$/stat")).await;
    let report = String::from_utf8_lossy(&outcome.stdout.bytes).into_owned();
    let numbers: Vec<i32> = report.split_whitespace().map(|word| word.parse().expect("a number")).collect();
    let session = nix::unistd::getsid(None).expect("our own session");
    assert_eq!(numbers[0], session.as_raw(), "it is in our session");
}
