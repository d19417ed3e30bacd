//! The exit status is exact, and whoever came first is told.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use childminder::{Ended, Input, State};
use tokio::io::AsyncWriteExt;

use crate::scene::{eventually, run, sh, start, state_of, within};

#[tokio::test]
async fn all_exit_codes_are_exact() {
    for code in 0..=255 {
        let outcome = run(&mut sh(&format!("exit {code}"))).await;
        assert_eq!(outcome.exit.and_then(|exit| exit.code()), Some(code));
        assert_eq!(outcome.ended, Ended::ByItself);
        assert_eq!(outcome.success(), code == 0);
    }
}

#[tokio::test]
async fn an_end_by_signal_is_told_from_an_exit_code_above_128() {
    for signal in [1, 2, 6, 9, 15, 34, 64] {
        let killed = run(&mut sh(&format!("kill -{signal} $$"))).await;
        let exited = run(&mut sh(&format!("exit {}", 128 + signal))).await;
        assert_eq!(killed.exit.and_then(|exit| exit.signal()), Some(signal));
        assert_eq!(killed.exit.and_then(|exit| exit.code()), None);
        assert_eq!(killed.ended, Ended::ByItself, "nobody of ours sent it");
        assert_eq!(exited.exit.and_then(|exit| exit.signal()), None);
        assert_eq!(exited.exit.and_then(|exit| exit.code()), Some(128 + signal));
    }
}

#[tokio::test]
async fn a_child_that_had_ended_when_it_was_cancelled_ended_by_itself() {
    for _ in 0..50 {
        let mut run = start(&mut sh("exit 4"));
        let pid = run.pid();
        eventually("it has ended", || pid.is_none_or(|pid| matches!(state_of(pid), None | Some('Z'))));
        run.cancel();
        let outcome = within(run.wait()).await;
        assert_eq!(outcome.ended, Ended::ByItself, "{outcome:?}");
        assert_eq!(outcome.exit.and_then(|exit| exit.code()), Some(4));
        assert!(outcome.stop.is_none());
    }
}

#[tokio::test]
async fn an_answer_to_the_request_is_not_taken_for_an_end_by_itself() {
    let mut run = start(&mut sh("trap 'exit 0' TERM; echo $$; while :; do sleep 0.01; done"));
    crate::scene::pids(&mut run, 1).await;
    run.cancel();
    let outcome = within(run.wait()).await;
    assert_ne!(outcome.ended, Ended::ByItself);
    assert_eq!(outcome.exit.and_then(|exit| exit.code()), Some(0), "{outcome:?}");
    assert!(!outcome.success());
}

#[tokio::test]
async fn asking_again_gives_the_same_answer() {
    let mut run = start(&mut sh("exit 9"));
    let first = format!("{:?}", within(run.wait()).await);
    assert_eq!(run.state(), State::Terminated);
    for _ in 0..3 {
        assert_eq!(format!("{:?}", within(run.wait()).await), first);
    }
}

#[tokio::test]
async fn a_wait_that_was_given_up_can_be_taken_up_again() {
    let mut run = sh("read word; echo out; exit 6").stdin(Input::Piped).start().expect("it starts");
    let mut stdin = run.stdin().expect("a pipe");
    for _ in 0..3 {
        let waited = tokio::time::timeout(Duration::from_millis(10), run.wait()).await;
        assert!(waited.is_err(), "it ended without its word");
    }
    stdin.write_all(b"word\n").await.expect("it reads");
    let outcome = within(run.wait()).await;
    assert_eq!(outcome.exit.and_then(|exit| exit.code()), Some(6));
    assert_eq!(&outcome.stdout.bytes[..], b"out\n");
}

#[tokio::test]
async fn after_the_wait_there_is_no_zombie_and_no_pid() {
    let mut run = start(&mut sh("exit 0"));
    let pid = run.pid();
    within(run.wait()).await;
    assert_eq!(run.pid(), None);
    assert!(pid.is_none_or(|pid| state_of(pid).is_none()), "{pid:?} was not reaped");
}
