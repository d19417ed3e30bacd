//! The idle timeout: what counts as a sign of life, and what does not.

use std::time::{Duration, Instant};

use childminder::{Command, Ended, Event, Input, Outcome, Output, Reason, State};
use tokio::io::AsyncWriteExt;

use crate::scene::{
    LONG_GRACE, PATIENCE, assert_all_dead, is_held_up, number_here, perl, run, sh, start, state_of, within,
};

/// Long enough for a child to come to its next word, on most machines and at most times.
const IDLE: Duration = Duration::from_millis(600);

/// What a child is given that must come to a certain point before it may be taken for idle: more and more.
const IDLES: [Duration; 3] = [IDLE, Duration::from_secs(2), Duration::from_secs(6)];

#[tokio::test]
async fn a_child_that_says_nothing_is_stopped_when_the_idle_time_is_over_and_not_before() {
    for idle in IDLES {
        let mut run = start(sh("sleep 100 & echo $! $$; wait").idle_timeout(idle).grace(LONG_GRACE));
        let mut said = Vec::new();
        let mut tree = Vec::new();
        let outcome = loop {
            match within(run.next_event()).await.expect("it ends") {
                Event::Stdout(bytes) => said.extend_from_slice(&bytes),
                Event::Ended(outcome) => break outcome,
                _ => {}
            }
            if said.ends_with(b"\n") && tree.is_empty() {
                let said = String::from_utf8_lossy(&said);
                let numbers = said.split_whitespace().map(|word| word.parse().expect("a pid"));
                tree.extend(numbers.map(|number| number_here(&run, number)));
            }
        };
        assert_all_dead(&tree);
        assert_eq!(outcome.ended, Ended::Stopped(Reason::Idle));
        let stop = outcome.stop.expect("it was stopped");
        assert!(stop.asked_after >= idle, "asked after {:?}", stop.asked_after);
        if tree.len() == 2 {
            return;
        }
    }
    panic!("it never came to its word");
}

#[tokio::test]
async fn a_child_that_says_nothing_at_all_has_the_idle_time_from_its_start() {
    let outcome = run(sh("exec sleep 100").idle_timeout(Duration::from_millis(50))).await;
    assert_eq!(outcome.ended, Ended::Stopped(Reason::Idle));
    assert_eq!(outcome.stdout.total, 0);
}

/// Says ten words on this stream, each after a pause that is well within the idle time, and for longer than that in all.
/// When it is asked to end, it says by its exit code whether it was silent for as long as the idle time, by its own clock.
fn talker(stream: &str) -> Command {
    // What lies between two words is at most what lies between two looks at the clock, one before the first and one after
    // the second. The clock goes in ticks.
    let mut command = perl(&format!(
        "use POSIX; sub now {{ (POSIX::times())[0] / sysconf(_SC_CLK_TCK) }}
         my ($idle, $longest, $said) = (shift, 0, 0);
         sub silent {{ my $time = now() - $said; $longest = $time if $said && $time > $longest }}
         $SIG{{TERM}} = sub {{ silent(); exit($said && $longest < $idle - 0.05 ? {NEVER_SILENT} : {SILENT}) }};
         for (1..10) {{
             my $before = now(); syswrite({stream}, '.'); silent(); $said = $before; select undef, undef, undef, 0.1
         }}"
    ));
    command.arg(IDLE.as_secs_f64().to_string()).idle_timeout(IDLE).grace(LONG_GRACE);
    command
}

const NEVER_SILENT: i32 = 9;
const SILENT: i32 = 8;

/// What becomes of a talker that was not itself held up for as long as the idle time, which only the machine can do.
async fn talked(make: impl Fn() -> Command) -> Outcome {
    let deadline = Instant::now() + PATIENCE * 3;
    loop {
        let outcome = run(&mut make()).await;
        let code = outcome.exit.and_then(|exit| exit.code());
        // One that was asked before it could listen says nothing by its exit.
        let was_slow = outcome.ended == Ended::Stopped(Reason::Idle) && code != Some(NEVER_SILENT);
        if !was_slow {
            return outcome;
        }
        assert!(Instant::now() < deadline, "it was never quick enough: {outcome:?}");
    }
}

#[tokio::test]
async fn a_byte_on_either_stream_begins_the_idle_time_anew() {
    for stream in ["STDOUT", "STDERR"] {
        let outcome = talked(|| talker(stream)).await;
        assert_eq!(outcome.ended, Ended::ByItself, "{stream}: {outcome:?}");
        assert!(outcome.timings.ended > IDLE, "it took too short a time to show anything");
    }
}

#[tokio::test]
async fn output_beyond_the_capture_limit_is_a_sign_of_life_too() {
    let limited = || {
        let mut command = talker("STDOUT");
        command.capture_limit(1);
        command
    };
    let outcome = talked(limited).await;
    assert_eq!(outcome.ended, Ended::ByItself, "{outcome:?}");
    assert_eq!(outcome.stdout.total, 10);
}

#[tokio::test]
async fn output_that_is_not_read_here_and_input_are_no_signs_of_life() {
    let for_ever = "while :; do printf .; sleep 0.1; done";
    let outcome = run(sh(for_ever).stdout(Output::Null).idle_timeout(IDLE)).await;
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
    const WRITES: usize = 4_000_000;
    for idle in IDLES {
        // It writes without a pause, and can go on only as far as its output is taken.
        let mut command = perl("$| = 1; print 'x' x 100_000 for 1..40; <STDIN>");
        command.stdout(Output::Streamed).stdin(Input::Piped).idle_timeout(idle).grace(LONG_GRACE);
        let mut run = command.start().expect("it starts");
        let _stdin = run.stdin();
        let child = run.pid().expect("it runs");
        let deadline = Instant::now() + PATIENCE;
        while !is_held_up(child) && run.state() == State::Running {
            assert!(Instant::now() < deadline, "it was never held up");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let was_held_up = run.state() == State::Running;
        if was_held_up {
            // Time is what is tested here.
            tokio::time::sleep(idle * 4).await;
            assert_eq!((run.state(), state_of(child)), (State::Running, Some('S')));
        }
        // Then all is taken, and the child, which waits for a word of ours, is idle indeed.
        let mut total = 0;
        let outcome = loop {
            match within(run.next_event()).await.expect("it ends") {
                Event::Stdout(bytes) => total += bytes.len(),
                Event::Ended(outcome) => break outcome,
                _ => {}
            }
        };
        assert_eq!(outcome.ended, Ended::Stopped(Reason::Idle));
        // The machine itself may have kept it from its start, or from going on, for so long.
        if was_held_up && total == WRITES {
            return;
        }
    }
    panic!("it never came to its last word");
}
