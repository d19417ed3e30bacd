//! What the child wrote is there, and what is not there is said.

use std::time::Duration;

use childminder::{Cut, Ended, Event, Input, Output, State, StreamEnd};
use tokio::io::AsyncWriteExt;

use crate::scene::{LONG_GRACE, PATIENCE, eventually, is_held_up, lines, perl, pids, run, sh, start, within};

const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn a_burst_right_before_the_exit_is_captured_whole() {
    let outcome = run(&mut perl("print 'a' x 3_000_000; print STDERR 'b' x 2_000_000; exit 0")).await;
    assert_eq!(outcome.stdout.bytes.len(), 3_000_000);
    assert_eq!(outcome.stderr.bytes.len(), 2_000_000);
    assert!(outcome.stdout.bytes.iter().all(|byte| *byte == b'a'));
    assert!(outcome.stderr.bytes.iter().all(|byte| *byte == b'b'));
    assert!(outcome.stdout.is_complete() && outcome.stderr.is_complete());
}

#[tokio::test]
async fn more_than_a_default_pipe_still_in_the_pipe_at_the_exit_is_captured_whole() {
    // 1031 is F_SETPIPE_SZ. The writer has ended before the owner can have read much.
    let script =
        "fcntl(STDOUT, 1031, 1048576) or die; $| = 1; syswrite(STDOUT, 'x' x 1_000_000) == 1_000_000 or die";
    for _ in 0..20 {
        let outcome = run(&mut perl(script)).await;
        assert_eq!(outcome.stdout.total, 1_000_000);
        assert!(outcome.stdout.is_complete());
        assert!(outcome.success());
    }
}

#[tokio::test]
async fn a_streamed_burst_arrives_whole_although_nobody_took_it_before_the_exit() {
    let mut run = start(&mut perl("syswrite(STDOUT, 'x' x 60_000); exit 0"));
    eventually("the leader is reaped", || run.pid().is_none());
    let mut total = 0;
    while let Some(event) = within(run.next_event()).await {
        if let Event::Stdout(bytes) = event {
            total += bytes.len();
        }
    }
    assert_eq!(total, 60_000);
    assert!(within(run.wait()).await.stdout.is_complete());
}

#[tokio::test]
async fn a_pipe_that_is_exactly_full_at_the_exit_is_not_taken_for_a_held_one() {
    let script = "syswrite(STDOUT, 'x' x 65536) == 65536 or die; kill 'KILL', $$";
    for _ in 0..20 {
        let outcome = run(&mut perl(script)).await;
        assert_eq!((outcome.stdout.total, outcome.stdout.end), (65_536, StreamEnd::Closed));
    }
}

#[tokio::test]
async fn what_is_in_the_pipe_at_the_exit_does_not_need_the_drain_window() {
    for _ in 0..20 {
        let mut command = perl("syswrite(STDOUT, 'x' x 65_536); syswrite(STDERR, 'y' x 60_000)");
        let outcome = run(command.drain(Duration::ZERO)).await;
        assert_eq!((outcome.stdout.total, outcome.stderr.total), (65_536, 60_000));
        assert_eq!((outcome.stdout.end, outcome.stderr.end), (StreamEnd::Closed, StreamEnd::Closed));
    }
}

#[tokio::test]
async fn what_is_in_the_pipe_at_the_exit_is_not_lost_because_nobody_took_what_came_before() {
    // More than is ever on its way at a time, so the last of it is still in the pipe when the child ends. 1031 is
    // F_SETPIPE_SZ.
    let script = "fcntl(STDOUT, 1031, 1048576) or die; syswrite(STDOUT, 'x' x 900_000)";
    let mut run = start(perl(script).drain(Duration::ZERO));
    eventually("the run is over", || run.state() == State::Terminated);
    let outcome = within(run.wait()).await;
    assert_eq!(outcome.stdout.total, 900_000);
}

#[tokio::test]
async fn what_was_written_before_a_kill_is_there() {
    let script = "trap '' TERM; head -c 50000 /dev/zero; echo ready >&2; sleep 100; sleep 100";
    let mut command = sh(script);
    command.grace(Duration::from_millis(50)).stderr(Output::Streamed);
    let mut run = command.start().expect("it starts");
    loop {
        if let Some(Event::Stderr(_)) = within(run.next_event()).await {
            break;
        }
    }
    run.cancel();
    let outcome = within(run.wait()).await;
    assert_eq!(outcome.stdout.bytes.len(), 50_000);
    assert!(outcome.stdout.is_complete());
}

#[tokio::test]
async fn beyond_the_capture_limit_the_head_is_kept_and_the_rest_is_counted() {
    let outcome = run(perl("print 'a' x 1000, 'b' x 2_000_000").capture_limit(1000)).await;
    assert_eq!(outcome.stdout.bytes, vec![b'a'; 1000]);
    assert_eq!(outcome.stdout.total, 2_001_000);
    assert_eq!(outcome.stdout.dropped, 2_000_000);
    assert_eq!(outcome.stdout.cut(), Some(Cut::Dropped));
    assert!(outcome.success(), "the child was not held up");
}

#[tokio::test]
async fn all_byte_values_pass_unchanged() {
    let outcome = run(&mut perl("binmode STDOUT; print pack('C*', 0..255) x 100")).await;
    let expected: Vec<u8> = (0..=255).cycle().take(25_600).collect();
    assert_eq!(outcome.stdout.bytes, expected);
}

#[tokio::test]
async fn a_flood_that_nobody_takes_does_not_fill_the_memory() {
    let mut run = start(sh("exec yes").grace(LONG_GRACE));
    lines(&mut run, 1).await;
    let child = run.pid().expect("it runs");
    eventually("it is held up", || is_held_up(child));
    let io = std::fs::read_to_string(format!("/proc/{child}/io")).expect("what it has written");
    let written = io.lines().find_map(|line| line.strip_prefix("wchar: ")).expect("a count");
    assert!(written.parse::<usize>().expect("a number") < 2 * MIB, "{written} bytes were written");
    run.cancel();
    within(run.wait()).await;
}

#[tokio::test]
async fn a_child_whose_every_piece_is_read_before_the_next_is_held_up_as_well() {
    // It writes on only when its pipe is empty (FIONREAD), so that no read ever finds more than one piece. When its last
    // piece was left unread for a second or more, it says by its exit code how many were read before.
    let writer = "for $read (0..200) {
             syswrite(STDOUT, 'x' x 16_384);
             for ($end = time + 2; ; ) {
                 ioctl(STDOUT, 0x541B, $left = pack('i', 0));
                 last if !unpack('i', $left);
                 exit $read if time >= $end;
                 select(undef, undef, undef, 0.001);
             }
         }
         exit 255";
    // Where nobody came to read for so long it was not enough yet.
    for _ in 0..5 {
        let mut run = start(&mut perl(writer));
        // Nobody takes anything before it has ended, which its state tells.
        let mut states = run.states();
        while within(states.next()).await.expect("it ends") != State::Terminated {}
        let read = within(run.wait()).await.exit.and_then(|exit| exit.code()).expect("it exits by itself");
        // 512 KiB, and what was read at the moment when it was enough.
        assert!(read <= 36, "{read} pieces of 16 KiB were read, and none was taken");
        if read >= 32 {
            return;
        }
    }
    panic!("it was held up too soon");
}

#[tokio::test]
async fn streamed_output_goes_on_after_it_was_held_up() {
    let mut run = start(&mut perl("print 'x' x 5_000_000"));
    let mut total = 0;
    while let Some(event) = within(run.next_event()).await {
        if let Event::Stdout(bytes) = event {
            total += bytes.len();
            // Slow enough for the high-water mark to be reached again and again.
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(total, 5_000_000);
}

#[tokio::test]
async fn both_streams_go_on_after_they_were_held_up() {
    let mut command =
        perl("for (1..100) { syswrite(STDOUT, 'x' x 100_000); syswrite(STDERR, 'y' x 100_000) }");
    let mut run = command.stdout(Output::Streamed).stderr(Output::Streamed).start().expect("it starts");
    let mut totals = (0, 0);
    while let Some(event) = within(run.next_event()).await {
        match event {
            Event::Stdout(bytes) => totals.0 += bytes.len(),
            Event::Stderr(bytes) => totals.1 += bytes.len(),
            _ => {}
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(totals, (10_000_000, 10_000_000));
}

#[tokio::test]
async fn a_dozen_floods_do_not_keep_another_run_from_its_deadline() {
    let floods: Vec<_> = (0..12).map(|_| sh("exec cat /dev/zero").capture_limit(0).start()).collect();
    let mut slowest = Duration::ZERO;
    for _ in 0..5 {
        let outcome = run(sh("exec sleep 100").timeout(Duration::from_millis(50))).await;
        slowest = slowest.max(outcome.stop.expect("it was stopped").asked_after);
    }
    // Much for a busy machine, and little for a flood that is never over.
    assert!(slowest < PATIENCE / 2, "asked after {slowest:?}");
    for flood in floods {
        let mut flood = flood.expect("it starts");
        assert_eq!(flood.state(), State::Running);
        flood.cancel();
        let outcome = within(flood.wait()).await;
        assert!(outcome.stdout.total > 0, "it was no flood");
    }
}

#[tokio::test]
async fn streamed_output_that_nobody_took_is_counted_as_dropped() {
    let mut run = start(&mut perl("print 'x' x 1_000_000"));
    let outcome = within(run.wait()).await;
    assert!(outcome.success(), "the child was not held up");
    assert_eq!((outcome.stdout.total, outcome.stdout.dropped), (1_000_000, 1_000_000));
    assert_eq!(outcome.stdout.cut(), Some(Cut::Dropped));
}

#[tokio::test]
async fn events_come_in_order_and_end_with_the_outcome() {
    let mut run = start(sh("echo one; exec sleep 100").grace(LONG_GRACE));
    assert!(matches!(within(run.next_event()).await, Some(Event::Started { .. })));
    assert!(matches!(within(run.next_event()).await, Some(Event::Stdout(_))));
    run.cancel();
    assert!(matches!(within(run.next_event()).await, Some(Event::Stopping(_))));
    assert!(matches!(within(run.next_event()).await, Some(Event::Ended(_))));
    assert!(within(run.next_event()).await.is_none());
}

#[tokio::test]
async fn the_child_reads_its_stdin_to_the_end() {
    let mut command = sh("exec cat");
    let mut run = command.stdin(Input::Piped).start().expect("it starts");
    let mut stdin = run.stdin().expect("a pipe");
    stdin.write_all(b"hello").await.expect("the child reads");
    stdin.shutdown().await.expect("a pipe can be closed");
    assert_eq!(&within(run.wait()).await.stdout.bytes[..], b"hello");
}

#[tokio::test]
async fn an_end_of_stdin_that_nobody_took_is_closed_by_the_wait() {
    let outcome = run(sh("exec cat").stdin(Input::Piped)).await;
    assert!(outcome.success());
}

#[tokio::test]
async fn given_bytes_arrive_while_the_child_floods_both_streams() {
    let given = bytes::Bytes::from(vec![7; 4 * MIB]);
    let outcome = run(sh("tee /dev/stderr").stdin(Input::Bytes(given.clone()))).await;
    assert_eq!(outcome.stdout.bytes, given);
    assert_eq!(outcome.stderr.bytes, given);
}

#[tokio::test]
async fn a_child_that_does_not_read_its_stdin_is_no_error() {
    let given = bytes::Bytes::from(vec![7; 4 * MIB]);
    let outcome = run(sh("exec <&-; echo done").stdin(Input::Bytes(given))).await;
    assert!(outcome.success());
    assert_eq!(&outcome.stdout.bytes[..], b"done\n");
}

#[tokio::test]
async fn a_child_that_closes_its_stdin_early_goes_on_and_whoever_writes_to_it_is_told() {
    let mut command = sh("exec <&-; echo closed; exit 3");
    let mut run = start(command.stdin(Input::Piped));
    let mut stdin = run.stdin().expect("a pipe");
    assert_eq!(lines(&mut run, 1).await, ["closed"]);
    let error = within(stdin.write_all(b"too late")).await.expect_err("nobody reads");
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    let outcome = within(run.wait()).await;
    assert_eq!((outcome.ended, outcome.exit.and_then(|exit| exit.code())), (Ended::ByItself, Some(3)));
}

#[tokio::test]
async fn output_that_is_not_taken_is_said_to_be_not_taken() {
    let outcome = run(sh("echo lost").stdout(Output::Null)).await;
    assert_eq!(outcome.stdout.end, StreamEnd::NotTaken);
}

#[tokio::test]
async fn a_dropped_run_can_still_say_goodbye_to_nobody() {
    // The child would be killed by SIGPIPE, or blocked, if its output were not read during the grace.
    let path = std::env::temp_dir().join(format!("childminder-goodbye-{}", std::process::id()));
    let script = format!(
        "trap 'head -c 300000 /dev/zero && echo whole > {}; exit' TERM; echo $$; \
        while :; do sleep 0.01; done",
        path.display()
    );
    let mut run = start(sh(&script).grace(LONG_GRACE));
    pids(&mut run, 1).await;
    drop(run);
    eventually("it has said all", || std::fs::read(&path).is_ok_and(|said| said == b"whole\n"));
    std::fs::remove_file(&path).expect("our own file");
}
