//! What only a nanny holds, also with a control group or a namespace.

use std::time::{Duration, Instant};

use childminder::{Command, Ended, Left, Proof, StreamEnd};
use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::scene::{
    LONG_GRACE, PATIENCE, assert_all_dead, eventually, lines, perl, pids, run, sh, start, within,
};

/// A process that is to be found wherever it has gone: its shape, and a script that says two pids, the leader's last.
const ESCAPES: [(&str, &str); 6] = [
    ("a session of its own", "setsid sh -c 'echo $$; exec sleep 100' & echo $$; wait"),
    (
        "a daemon, by way of two forks",
        "echo $(setsid sh -c 'sleep 100 >/dev/null 2>&1 & echo $!'); echo $$; exec sleep 100",
    ),
    ("a group of its own", "perl -e 'setpgrp; $| = 1; print \"$$\\n\"; sleep 100' & echo $$; wait"),
    ("no environment", "env -i setsid sh -c 'echo $$; exec sleep 100' & echo $$; wait"),
    ("a deaf session", "setsid sh -c 'trap \"\" TERM; echo $$; exec sleep 100' & echo $$; wait"),
    ("a stopped session", "setsid sh -c 'echo $$; kill -STOP $$; sleep 100' & echo $$; wait"),
];

const GRACE: Duration = Duration::from_millis(100);

#[tokio::test]
async fn nobody_escapes_a_cancel() {
    for (shape, script) in ESCAPES {
        let mut run = start(sh(script).grace(GRACE));
        let tree = pids(&mut run, 2).await;
        run.cancel();
        let outcome = within(run.wait()).await;
        assert_all_dead(&tree);
        assert_eq!(outcome.left, Left::Nobody(Proof::NoChildren), "{shape}: {outcome:?}");
        assert_eq!(outcome.stdout.end, StreamEnd::Closed, "{shape}: nobody holds the output");
    }
}

#[tokio::test]
async fn nobody_escapes_the_sweep_after_the_child_has_ended_by_itself() {
    for (shape, script) in ESCAPES {
        let leader_ends =
            script.replace("; wait", "; read line").replace("; exec sleep 100\"", "; read line\"");
        if !leader_ends.contains("read line") {
            continue;
        }
        let mut run = start(sh(&leader_ends).stdin(childminder::Input::Piped));
        let tree = pids(&mut run, 2).await;
        // The leader reads the end of its input, and ends.
        drop(run.stdin());
        let outcome = within(run.wait()).await;
        assert_all_dead(&tree);
        assert_eq!(outcome.ended, Ended::ByItself, "{shape}");
        assert_eq!(outcome.left, Left::Nobody(Proof::NoChildren), "{shape}: {outcome:?}");
        assert!(outcome.signalled.is_some_and(|signalled| signalled.killed.count >= 1), "{shape}");
    }
}

#[tokio::test]
async fn a_process_that_is_orphaned_in_the_grace_is_asked_then() {
    // At the request the leader starts a helper in a session of its own, which would sleep on, and leaves.
    let script = "use POSIX; my $asked = 0; $SIG{TERM} = sub { $asked = 1 }; $| = 1; print \"$$\\n\";
                  sleep 1 until $asked;
                  $SIG{TERM} = 'DEFAULT'; if (!fork) { setsid; sleep 100 } exit 0";
    let mut run = start(perl(script).grace(LONG_GRACE));
    pids(&mut run, 1).await;
    let before = Instant::now();
    run.cancel();
    let outcome = within(run.wait()).await;
    assert!(before.elapsed() < PATIENCE / 2, "took {:?}", before.elapsed());
    assert!(outcome.stop.is_some_and(|stop| stop.killed.is_none()), "it was asked, and obeyed");
    assert_eq!(outcome.signalled.map(|signalled| signalled.asked.count), Some(2));
}

#[tokio::test]
async fn nobody_is_asked_twice() {
    // Counts the requests, and stays until its own child, which takes its time, shows that some time has passed.
    let script = "$| = 1; my $n = 0; $SIG{TERM} = sub { $n++; print \"asked $n\\n\" };
                  my $pid = fork; if (!$pid) { $SIG{TERM} = sub { select undef, undef, undef, 0.2; exit 0 };
                  print \"ready\\n\"; sleep 1 while 1 }
                  print \"ready\\n\"; 1 until waitpid($pid, 0) == $pid; print \"it has ended\\n\"; sleep 1 while 1";
    let mut run = start(perl(script).grace(LONG_GRACE));
    lines(&mut run, 2).await;
    run.cancel();
    let mut said = lines(&mut run, 2).await;
    run.cancel();
    while let Some(event) = within(run.next_event()).await {
        if let childminder::Event::Stdout(bytes) = event {
            said.push(String::from_utf8_lossy(&bytes).into_owned());
        }
    }
    assert!(said.iter().any(|line| line.contains("asked 1")), "{said:?}");
    assert!(!said.iter().any(|line| line.contains("asked 2")), "{said:?}");
}

/// The parent of a child. In a pid namespace the child knows it by another number.
fn nanny_of(child: Option<u32>) -> i32 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.expect("it runs")));
    let status = status.expect("its status");
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("its parent");
    parent.trim().parse().expect("a pid")
}

/// Lets a nanny that was interrupted go on until it has sent its first SIGTERM, and not one call further.
fn go_on_to_its_first_request(nanny: Pid) {
    let request = (libc::SYS_kill.to_string(), format!("{:#x}", Signal::SIGTERM as i32));
    let deadline = Instant::now() + PATIENCE;
    // It stops before a call, and after it.
    let mut stops_at_it = 0;
    while stops_at_it < 2 {
        match waitpid(nanny, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)).expect("it is traced") {
            WaitStatus::StillAlive => {
                assert!(Instant::now() < deadline, "it asks nobody");
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            WaitStatus::PtraceSyscall(_) => {
                let call = std::fs::read_to_string(format!("/proc/{nanny}/syscall")).expect("its call");
                let words: Vec<_> = call.split_whitespace().collect();
                let is_request =
                    matches!(words[..], [call, _, signal, ..] if (call, signal) == (&request.0, &request.1));
                stops_at_it += u32::from(is_request);
            }
            WaitStatus::PtraceEvent(..) => {}
            other => panic!("{other:?}"),
        }
        if stops_at_it < 2 {
            ptrace::syscall(nanny, None).expect("it is stopped");
        }
    }
}

#[tokio::test]
async fn a_helper_that_is_forked_at_the_request_is_not_asked_however_late_the_nanny_looks() {
    let script = "$| = 1;
                  $SIG{TERM} = sub { $SIG{TERM} = sub {}; if (!fork) { print \"helper\\n\" } sleep 1 while 1 };
                  print \"ready\\n\"; sleep 1 while 1";
    let mut run = start(perl(script).grace(LONG_GRACE));
    lines(&mut run, 1).await;
    let nanny = Pid::from_raw(nanny_of(run.pid()));
    if let Err(Errno::EPERM) = ptrace::seize(nanny, ptrace::Options::PTRACE_O_TRACESYSGOOD) {
        eprintln!("not run: the nanny cannot be traced here");
        return;
    }
    ptrace::interrupt(nanny).expect("it is traced");
    run.cancel();
    go_on_to_its_first_request(nanny);
    assert_eq!(lines(&mut run, 1).await, ["helper"]);
    ptrace::detach(nanny, None).expect("it is stopped");
    run.cancel();
    let outcome = within(run.wait()).await;
    let signalled = outcome.signalled.expect("it counts them");
    assert_eq!(signalled.asked.count, 1, "{signalled:?}");
}

#[tokio::test]
async fn everybody_in_a_wide_and_deep_tree_is_asked_also_where_nobody_heeds_it() {
    // Eighty children, each the head of a chain of two.
    let script = "$| = 1; $SIG{TERM} = sub {};
                  for (1..80) { if (!fork) { fork; syswrite STDOUT, \"ready\\n\"; sleep 1 while 1 } }
                  syswrite STDOUT, \"ready\\n\"; sleep 1 while 1";
    let mut run = start(perl(script).grace(LONG_GRACE));
    lines(&mut run, 161).await;
    run.cancel();
    run.cancel();
    let signalled = within(run.wait()).await.signalled.expect("it counts them");
    assert_eq!((signalled.asked.count, signalled.not_asked), (161, 0), "{signalled:?}");
}

#[tokio::test]
async fn a_tree_that_forks_without_end_is_ended() {
    // Sixteen relays, each of which forks and leaves its place to its child, in ever new sessions. Bounded in time.
    let script = "use POSIX; $| = 1; my $end = time + 20;
                  for (1..16) { if (!fork) { $SIG{TERM} = 'IGNORE';
                    while (time < $end) { exit if fork; setsid } exit } }
                  print \"$$\\n\"; sleep 100";
    let mut run = start(perl(script).grace(Duration::from_millis(20)));
    pids(&mut run, 1).await;
    run.cancel();
    let outcome = within(run.wait()).await;
    assert_eq!(outcome.left, Left::Nobody(Proof::NoChildren), "{outcome:?}");
}

#[tokio::test]
async fn a_thousand_dead_who_come_at_once_are_reaped_at_once() {
    // The leader reaps nobody. The end of the pipe says that they all have ended.
    let script = "use POSIX; pipe my $end, my $alive; for (1..1000) { my $pid = fork; defined $pid or last;
                  if (!$pid) { POSIX::_exit(0) } } close $alive; <$end>; POSIX::_exit(3)";
    // So many forks take long on a busy machine.
    let outcome = tokio::time::timeout(LONG_GRACE, perl(script).run()).await.expect("they all end");
    let outcome = outcome.expect("it starts");
    assert_eq!(outcome.exit.and_then(|exit| exit.code()), Some(3));
    assert_eq!(outcome.left, Left::Nobody(Proof::NoChildren), "{outcome:?}");
    let exited = outcome.timings.exited.expect("it has ended");
    let took = outcome.timings.settled - exited;
    assert!(took < PATIENCE / 2, "took {took:?} after the child had ended");
}

#[tokio::test]
async fn what_the_child_used_is_told() {
    let outcome = run(&mut perl("my $x = 0; $x += $_ for 1..2_000_000")).await;
    let usage = outcome.usage.expect("the nanny tells");
    assert!(usage.user > Duration::from_millis(1), "{usage:?}");
    assert!(usage.peak_kib > 100, "{usage:?}");
}

#[tokio::test]
async fn the_pid_is_the_childs_and_not_the_nannys() {
    let mut run = start(sh("echo $$; read line").stdin(childminder::Input::Piped));
    let pid = run.pid();
    assert_eq!(Some(pids(&mut run, 1).await[0]), pid);
}

#[tokio::test]
async fn signals_to_everybody_in_reach_do_not_hit_the_nanny() {
    // The leader signals its own group, then everybody whose parent it knows.
    let mut run = start(
        sh("trap '' TERM INT; kill -TERM 0; kill -INT $PPID; kill -TERM $PPID; echo ok; exit 7").grace(GRACE),
    );
    lines(&mut run, 1).await;
    let outcome = within(run.wait()).await;
    assert_eq!(outcome.exit.and_then(|exit| exit.code()), Some(7));
    assert_eq!(outcome.left, Left::Nobody(Proof::NoChildren));
}

#[tokio::test]
async fn a_child_that_stops_its_parent_at_once_keeps_no_start_from_its_end() {
    let before = Instant::now();
    for _ in 0..50 {
        // At times it is at it before the nanny has told of the start.
        let mut command = Command::new("perl");
        command.args(["-e", "kill 'STOP', getppid; sleep 100"]).grace(GRACE).require(crate::HELD_BY);
        let run = start(&mut command);
        run.cancel();
        let mut run = run;
        let outcome = within(run.wait()).await;
        assert_eq!(outcome.left, Left::Nobody(Proof::NoChildren), "{outcome:?}");
    }
    assert!(before.elapsed() < Duration::from_secs(30), "took {:?}", before.elapsed());
}

#[tokio::test]
async fn a_nanny_that_was_stopped_goes_on_when_it_is_needed() {
    let mut run = start(sh("setsid sleep 100 & echo $!; kill -STOP $PPID; echo $$; wait").grace(GRACE));
    let tree = pids(&mut run, 2).await;
    run.cancel();
    let outcome = within(run.wait()).await;
    assert_all_dead(&tree);
    assert_eq!(outcome.left, Left::Nobody(Proof::NoChildren), "{outcome:?}");
}

#[tokio::test]
async fn a_kill_by_somebody_else_is_not_counted_as_ours() {
    let outcome = run(&mut sh("kill -KILL $$")).await;
    assert_eq!(outcome.ended, Ended::ByItself);
    assert_eq!(outcome.signalled.map(|signalled| signalled.killed.count), Some(0));
}

#[tokio::test]
async fn the_nanny_does_not_show_what_the_child_was_told() {
    const SECRET: &str = "a-word-for-the-child-alone";
    let mut command = sh("echo $PPID; read line");
    command.arg(SECRET).env("CHILDMINDER_TEST_SECRET", SECRET).stdin(childminder::Input::Piped);
    let mut run = start(&mut command);
    lines(&mut run, 1).await;
    let nanny = nanny_of(run.pid());
    for file in ["cmdline", "environ"] {
        // It tells of the start first, and forgets what it was given then.
        eventually(file, || {
            let shown = std::fs::read(format!("/proc/{nanny}/{file}")).expect("what it shows");
            !String::from_utf8_lossy(&shown).contains(SECRET)
        });
    }
    assert_eq!(std::fs::read_to_string(format!("/proc/{nanny}/comm")).expect("its name").trim(), "nanny");
}
