//! The child starts clean, whatever its owner has inherited or done.

use std::os::fd::AsRawFd;

use nix::sys::signal::{SigSet, SigmaskHow, Signal};

use childminder::{Containment, Ended, Left, Reason};

use crate::scene::{LONG_GRACE, assert_all_dead, pids, run, sh, start, within};

/// Says which signals are blocked and ignored, which descriptors are open, and the process group.
const REPORT: &str = "grep -E '^Sig(Blk|Ign)' /proc/self/status; ls /proc/self/fd | tr '\\n' ' '";

/// The shell that lists the descriptors has one open for it.
fn assert_clean(report: &[u8]) {
    let report = String::from_utf8_lossy(report);
    let lines: Vec<_> = report.lines().collect();
    assert_eq!(lines[0], "SigBlk:\t0000000000000000");
    assert_eq!(lines[1], "SigIgn:\t0000000000000000");
    assert_eq!(lines[2].trim(), "0 1 2 3");
}

#[tokio::test]
async fn a_child_sees_no_descriptor_but_its_standard_three() {
    assert_clean(&run(&mut sh(REPORT)).await.stdout.bytes);
}

#[tokio::test]
async fn a_child_starts_with_an_empty_signal_mask_although_its_owner_blocks_signals() {
    let mut blocked = SigSet::empty();
    blocked.add(Signal::SIGTERM);
    blocked.add(Signal::SIGUSR1);
    let before = blocked.thread_swap_mask(SigmaskHow::SIG_BLOCK).expect("a mask can be set");
    let mut command = sh(REPORT);
    let started = command.start();
    let after = SigSet::thread_get_mask().expect("a mask can be read");
    before.thread_set_mask().expect("a mask can be set");
    assert!(after.contains(Signal::SIGTERM), "the owner's own mask was changed");
    let outcome = within(started.expect("it starts").wait()).await;
    assert_clean(&outcome.stdout.bytes);
}

/// Runs this test once more, in an owner that a bit of Perl has prepared. True there.
fn is_in_an_owner_prepared_by(preparation: &str, test: &str) -> bool {
    const MARK: &str = "CHILDMINDER_TEST_IN_A_PREPARED_OWNER";
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let mut owner = std::process::Command::new("perl");
    owner
        .arg("-e")
        .arg(format!("{preparation}; exec @ARGV"))
        .arg(std::env::current_exe().expect("our own path"))
        .args(["--exact", test])
        .env(MARK, "1")
        .stdout(std::process::Stdio::null());
    assert!(owner.status().expect("an interpreter").success());
    false
}

#[tokio::test]
async fn a_child_does_not_inherit_what_its_owner_ignores_or_left_open() {
    let myself = "environment::a_child_does_not_inherit_what_its_owner_ignores_or_left_open";
    if is_in_an_owner_prepared_by("$^F = 255; $SIG{HUP} = $SIG{USR1} = 'IGNORE'; open F, '/dev/null'", myself)
    {
        assert_clean(&run(&mut sh(REPORT)).await.stdout.bytes);
    }
}

#[tokio::test]
async fn an_owner_that_ignores_the_end_of_its_children_gets_an_outcome_all_the_same() {
    let myself = "environment::an_owner_that_ignores_the_end_of_its_children_gets_an_outcome_all_the_same";
    if !is_in_an_owner_prepared_by("$SIG{CHLD} = 'IGNORE'", myself) {
        return;
    }
    let ended = run(&mut sh("echo out; exit 3")).await;
    // With a group the child is the owner's, and the kernel throws its status away.
    let known = crate::HELD_BY != Containment::Group;
    let status = ended.exit.map(|exit| exit.code());
    assert_eq!((ended.ended, status), (Ended::ByItself, known.then_some(Some(3))));
    assert_eq!(&ended.stdout.bytes[..], b"out\n");
    assert!(matches!(ended.left, Left::Nobody(_)), "{ended:?}");

    let mut run = start(sh("sleep 100 & echo $!; echo $$; wait").grace(LONG_GRACE));
    let tree = pids(&mut run, 2).await;
    run.cancel();
    let stopped = within(run.wait()).await;
    assert_eq!((stopped.ended, stopped.exit.is_some()), (Ended::Stopped(Reason::Cancelled), known));
    assert_all_dead(&tree);
}

#[tokio::test]
async fn a_child_leads_a_group_of_its_own() {
    let outcome = run(&mut sh("cut -d' ' -f 1,5 /proc/$$/stat")).await;
    let report = String::from_utf8_lossy(&outcome.stdout.bytes).into_owned();
    let numbers: Vec<i32> = report.split_whitespace().map(|word| word.parse().expect("a number")).collect();
    assert_eq!(numbers[0], numbers[1], "it leads its group");
}

#[tokio::test]
async fn a_pipe_of_one_run_is_not_seen_by_another_that_starts_meanwhile() {
    let file = std::fs::File::open("/dev/null").expect("it is there");
    assert!(file.as_raw_fd() > 2);
    let starts = (0..20).map(|_| sh(REPORT).run()).collect::<Vec<_>>();
    for start in starts {
        assert_clean(&within(start).await.expect("it starts").stdout.bytes);
    }
}
