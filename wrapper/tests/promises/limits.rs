//! What is beyond the capture limit is dealt with as asked, and counted.

use childminder::{Cut, Ended, Overflow, Reason};

use crate::scene::{LONG_GRACE, perl, run, sh};

#[tokio::test]
async fn the_tail_is_kept_if_that_was_asked_for() {
    let mut command = perl("print 'a' x 2_000_000, 'b' x 999; print STDERR 'few'");
    let outcome = run(command.capture_limit(1000).overflow(Overflow::KeepTail)).await;
    assert_eq!(outcome.stdout.bytes[..1], *b"a");
    assert_eq!(outcome.stdout.bytes[1..], vec![b'b'; 999]);
    assert_eq!((outcome.stdout.total, outcome.stdout.dropped), (2_000_999, 1_999_999));
    assert_eq!(outcome.stdout.cut(), Some(Cut::Dropped));
    assert_eq!(&outcome.stderr.bytes[..], b"few");
    assert!(outcome.stderr.is_complete() && outcome.success(), "{outcome:?}");
}

#[tokio::test]
async fn a_child_that_writes_more_than_its_limit_is_stopped_if_that_was_asked_for() {
    let mut command = sh("exec yes");
    command.capture_limit(1001).overflow(Overflow::Stop).grace(LONG_GRACE);
    let outcome = run(&mut command).await;
    assert_eq!(outcome.ended, Ended::Stopped(Reason::OutputLimit));
    assert_eq!(outcome.stdout.bytes, b"y\n".repeat(501)[..1001]);
    assert_eq!(outcome.stdout.total, outcome.stdout.dropped + 1001);
    assert!(outcome.stop.is_some_and(|stop| stop.killed.is_none()), "it was polite");
}

#[tokio::test]
async fn a_flood_on_stderr_counts_as_well() {
    let mut command = sh("exec yes >&2");
    let outcome = run(command.capture_limit(10).overflow(Overflow::Stop).grace(LONG_GRACE)).await;
    assert_eq!(outcome.ended, Ended::Stopped(Reason::OutputLimit));
    assert_eq!(&outcome.stderr.bytes[..], b"y\ny\ny\ny\ny\n");
}

#[tokio::test]
async fn as_much_as_the_limit_is_not_more_than_the_limit() {
    for overflow in [Overflow::KeepHead, Overflow::KeepTail, Overflow::Stop] {
        let outcome = run(perl("print 'x' x 100_000").capture_limit(100_000).overflow(overflow)).await;
        assert_eq!(outcome.ended, Ended::ByItself, "{overflow:?}");
        assert!(outcome.stdout.is_complete(), "{overflow:?}: {:?}", outcome.stdout.cut());
    }
}

#[tokio::test]
async fn a_limit_of_zero_keeps_nothing_and_counts_everything() {
    for overflow in [Overflow::KeepHead, Overflow::KeepTail] {
        let outcome = run(perl("print 'x' x 100_000").capture_limit(0).overflow(overflow)).await;
        assert!(outcome.stdout.bytes.is_empty());
        assert_eq!((outcome.stdout.total, outcome.stdout.dropped), (100_000, 100_000));
    }
}
