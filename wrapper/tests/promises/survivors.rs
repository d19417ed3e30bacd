//! Nobody in the group outlives the run, however it ends.

use std::time::Duration;

use childminder::{Ended, KillCause, Left, Reason};

use crate::HELD_BY;
use crate::scene::{
    LONG_GRACE, assert_all_dead, eventually, is_alive, lines, lines_before_its_end, perl, pid_here, pids, sh,
    start, state_of, within,
};

/// A leader with a child and a grandchild, all three of which say their pids.
const TREE: &str = "sh -c 'echo $$; sleep 100 & echo $!; wait' & echo $$; wait";

const SHORT: Duration = Duration::from_millis(100);

#[tokio::test]
async fn nobody_survives_a_cancel() {
    let mut run = start(sh(TREE).grace(LONG_GRACE));
    let tree = pids(&mut run, 3).await;
    run.cancel();
    let outcome = within(run.wait()).await;
    assert_all_dead(&tree);
    assert_eq!(outcome.ended, Ended::Stopped(Reason::Cancelled));
    assert!(matches!(outcome.left, Left::Nobody(_)), "{outcome:?}");
    assert_eq!(outcome.containment, HELD_BY);
}

#[tokio::test]
async fn nobody_survives_a_timeout() {
    // A busy machine may need longer for the tree than the timeout is.
    for timeout in [300, 1000, 3000].map(Duration::from_millis) {
        let mut run = start(sh(TREE).timeout(timeout));
        let said = lines_before_its_end(&mut run, 3).await;
        let tree: Option<Vec<_>> =
            said.ok().map(|said| said.iter().map(|line| pid_here(&run, line)).collect());
        let outcome = within(run.wait()).await;
        assert_eq!(outcome.ended, Ended::Stopped(Reason::TimedOut));
        if let Some(tree) = tree {
            return assert_all_dead(&tree);
        }
    }
    panic!("the tree was never there in time");
}

#[tokio::test]
async fn nobody_survives_a_drop() {
    let mut run = start(&mut sh(TREE));
    let tree = pids(&mut run, 3).await;
    drop(run);
    eventually("the tree is dead", || !tree.iter().any(|pid| is_alive(*pid)));
    eventually("the leader is reaped", || state_of(tree[0]).is_none());
}

#[tokio::test]
async fn whoever_is_left_by_a_child_that_ends_by_itself_is_killed() {
    let mut run = start(sh("sleep 100 & echo $!; read line; exit 3").stdin(childminder::Input::Piped));
    let left = pids(&mut run, 1).await;
    // The leader reads the end of its input, and ends.
    drop(run.stdin());
    let outcome = within(run.wait()).await;
    assert_all_dead(&left);
    assert_eq!(outcome.ended, Ended::ByItself);
    assert_eq!(outcome.exit.and_then(|exit| exit.code()), Some(3));
}

#[tokio::test]
async fn a_child_that_ignores_the_request_is_killed_when_the_grace_is_over() {
    let mut run = start(sh("trap '' TERM; echo $$; sleep 100 & echo $!; wait; wait").grace(SHORT));
    let tree = pids(&mut run, 2).await;
    run.cancel();
    let outcome = within(run.wait()).await;
    assert_all_dead(&tree);
    let kill = outcome.stop.and_then(|stop| stop.killed).expect("it was killed");
    assert_eq!(kill.because, KillCause::GraceOver);
    assert!(kill.after >= SHORT, "killed {:?} after the request", kill.after);
}

#[tokio::test]
async fn a_child_that_blocks_the_request_is_killed_when_the_grace_is_over() {
    let script =
        "use POSIX; sigprocmask(SIG_BLOCK, POSIX::SigSet->new(SIGTERM)); $| = 1; print \"$$\\n\"; sleep 100";
    let mut run = start(perl(script).grace(SHORT));
    let tree = pids(&mut run, 1).await;
    run.cancel();
    let outcome = within(run.wait()).await;
    assert_all_dead(&tree);
    assert!(outcome.stop.is_some_and(|stop| stop.killed.is_some()));
}

#[tokio::test]
async fn a_deaf_grandchild_is_killed_when_its_leader_obeyed_and_the_grace_is_over() {
    let script = "sh -c 'trap \"\" TERM; echo $$; sleep 100; sleep 100' & trap 'exit 7' TERM; echo $$; wait";
    // Within it the leader has to obey.
    let grace = Duration::from_secs(2);
    let mut run = start(sh(script).grace(grace));
    let tree = pids(&mut run, 2).await;
    run.cancel();
    let outcome = within(run.wait()).await;
    assert_all_dead(&tree);
    assert_eq!(outcome.exit.and_then(|exit| exit.code()), Some(7));
    let kill = outcome.stop.and_then(|stop| stop.killed).expect("the grandchild was killed");
    assert!(kill.after >= grace, "killed {:?} after the request", kill.after);
}

#[tokio::test]
async fn a_stopped_child_is_continued_so_that_it_can_obey() {
    let script = "trap 'echo bye; exit 5' TERM; echo $$; kill -STOP $$; while :; do sleep 0.01; done";
    let mut run = start(sh(script).grace(LONG_GRACE));
    let tree = pids(&mut run, 1).await;
    eventually("it has stopped", || state_of(tree[0]) == Some('T'));
    run.cancel();
    assert_eq!(lines(&mut run, 1).await, ["bye"]);
    let outcome = within(run.wait()).await;
    assert_all_dead(&tree);
    assert_eq!(outcome.exit.and_then(|exit| exit.code()), Some(5));
    assert!(outcome.stop.is_some_and(|stop| stop.killed.is_none()));
}

#[tokio::test]
async fn a_stopped_and_deaf_child_is_killed() {
    let mut run = start(sh("trap '' TERM CONT; echo $$; kill -STOP $$; sleep 100; sleep 100").grace(SHORT));
    let tree = pids(&mut run, 1).await;
    eventually("it has stopped", || state_of(tree[0]) == Some('T'));
    run.cancel();
    within(run.wait()).await;
    assert_all_dead(&tree);
}

#[tokio::test]
async fn a_relay_that_keeps_forking_and_is_deaf_is_killed() {
    // Each process of the relay forks the next and ends, so no list of pids is right for long. It ends by itself
    // after a while, for the sake of a failing test.
    let relay = "$SIG{TERM} = 'IGNORE'; $| = 1; $end = time + 20;
        if (fork) { print \"$$\\n\"; sleep 100 }
        while (time < $end) { exit if fork }";
    let mut run = start(perl(relay).grace(SHORT));
    let leader = pids(&mut run, 1).await[0];
    run.cancel();
    let outcome = within(run.wait()).await;
    assert!(matches!(outcome.left, Left::Nobody(_)), "{outcome:?}");
    assert!(!is_alive(leader));
    assert!(!group_has_live_members(leader));
}

#[tokio::test]
async fn a_deaf_relay_that_a_look_can_miss_does_not_outlive_its_obedient_leader() {
    let relay = "$| = 1; $end = time + 20;
        if (fork) { print \"$$\\n\"; sleep 100 }
        $SIG{TERM} = 'IGNORE'; print \"$$\\n\";
        while (time < $end) { exit if fork }";
    for _ in 0..10 {
        let mut run = start(perl(relay).grace(SHORT));
        pids(&mut run, 2).await;
        let leader = run.pid().expect("it sleeps");
        run.cancel();
        let outcome = within(run.wait()).await;
        assert!(matches!(outcome.left, Left::Nobody(_)), "{outcome:?}");
        assert!(!group_has_live_members(leader));
    }
}

fn group_has_live_members(group: u32) -> bool {
    let entries = std::fs::read_dir("/proc").expect("a list of processes");
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).any(|pid: i32| {
        let of = nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(pid)));
        of.is_ok_and(|of| of.as_raw().unsigned_abs() == group) && is_alive(pid.unsigned_abs())
    })
}

#[tokio::test]
async fn many_runs_at_once_end_each_by_itself() {
    let mut runs = Vec::new();
    for _ in 0..40 {
        let mut run = start(sh(TREE).grace(LONG_GRACE));
        let tree = pids(&mut run, 3).await;
        runs.push((run, tree));
    }
    for (run, _) in runs.iter().skip(1) {
        run.cancel();
    }
    for (run, tree) in runs.iter_mut().skip(1) {
        within(run.wait()).await;
        assert_all_dead(tree);
    }
    let (first, tree) = &mut runs[0];
    assert!(tree.iter().all(|pid| is_alive(*pid)), "a run was stopped on account of others");
    first.cancel();
    within(first.wait()).await;
    assert_all_dead(tree);
}

#[tokio::test]
async fn a_bystander_in_the_same_session_gets_no_signal() {
    let mut bystander = std::process::Command::new("sleep").arg("100").spawn().expect("a bystander");
    let mut run = start(&mut sh(TREE));
    pids(&mut run, 3).await;
    run.cancel();
    within(run.wait()).await;
    assert!(bystander.try_wait().expect("our own child").is_none(), "the bystander was hit");
    bystander.kill().expect("our own child");
    bystander.wait().expect("our own child");
}
