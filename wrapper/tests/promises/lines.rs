//! Output by lines: bytes, cut at newlines, within a bound, and none of them lost.

use childminder::{Command, Event, Input, Line, LineEnd, Outcome, Output, OutputStream};
use tokio::io::AsyncWriteExt;

use crate::scene::{LONG_GRACE, eventually, is_held_up, perl, sh, within};

fn by_lines(command: &mut Command) -> &mut Command {
    command.stdout(Output::Lines).stderr(Output::Lines)
}

/// Everything until the end.
async fn all_lines(command: &mut Command) -> (Vec<Line>, Outcome) {
    let mut run = by_lines(command).start().expect("it starts");
    let mut lines = Vec::new();
    while let Some(event) = within(run.next_event()).await {
        if let Event::Line(line) = event {
            lines.push(line);
        }
    }
    (lines, within(run.wait()).await)
}

fn brief(lines: &[Line], stream: OutputStream) -> Vec<(&[u8], LineEnd)> {
    lines.iter().filter(|line| line.stream == stream).map(|line| (&line.bytes[..], line.end)).collect()
}

#[tokio::test]
async fn lines_of_both_streams_come_as_bytes_without_their_newline() {
    let script = r"print qq(one\r\n\n\xff\0two\n); print STDERR qq(three\n)";
    let (lines, outcome) = all_lines(&mut perl(script)).await;
    let one: &[(&[u8], LineEnd)] =
        &[(b"one\r", LineEnd::Newline), (b"", LineEnd::Newline), (b"\xff\0two", LineEnd::Newline)];
    assert_eq!(brief(&lines, OutputStream::Stdout), one);
    assert_eq!(brief(&lines, OutputStream::Stderr), [(&b"three"[..], LineEnd::Newline)]);
    assert!(outcome.stdout.is_complete() && outcome.stderr.is_complete(), "{outcome:?}");
    assert_eq!(outcome.stdout.total, 12);
}

#[tokio::test]
async fn a_line_that_is_whole_is_handed_out_while_the_next_one_is_not() {
    let mut command = sh("echo whole; printf begun; read go; echo ' and done'");
    let mut run = by_lines(&mut command).stdin(Input::Piped).start().expect("it starts");
    let mut stdin = run.stdin().expect("a pipe");
    let first = next_line(&mut run).await;
    assert_eq!((&first.bytes[..], first.end), (&b"whole"[..], LineEnd::Newline));
    stdin.write_all(b"go\n").await.expect("the child reads");
    let second = next_line(&mut run).await;
    assert_eq!((&second.bytes[..], second.end), (&b"begun and done"[..], LineEnd::Newline));
    assert!(within(run.wait()).await.stdout.is_complete());
}

async fn next_line(run: &mut childminder::Run) -> Line {
    loop {
        match within(run.next_event()).await.expect("there is another line") {
            Event::Line(line) => return line,
            Event::Ended(outcome) => panic!("no more lines: {outcome:?}"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn the_last_line_without_a_newline_comes_before_the_end_and_says_so() {
    let (lines, outcome) = all_lines(&mut sh("printf 'a\\nb'; printf c >&2")).await;
    let out: &[(&[u8], LineEnd)] = &[(b"a", LineEnd::Newline), (b"b", LineEnd::Missing)];
    assert_eq!(brief(&lines, OutputStream::Stdout), out);
    assert_eq!(brief(&lines, OutputStream::Stderr), [(&b"c"[..], LineEnd::Missing)]);
    assert!(outcome.stdout.is_complete() && outcome.stderr.is_complete());
}

#[tokio::test]
async fn a_stream_that_is_closed_early_gives_its_last_line_at_once() {
    let mut command = sh("printf last; exec >&-; read forever");
    let mut run = by_lines(&mut command).stdin(Input::Piped).grace(LONG_GRACE).start().expect("it starts");
    let _stdin = run.stdin();
    let line = next_line(&mut run).await;
    assert_eq!((&line.bytes[..], line.end), (&b"last"[..], LineEnd::Missing));
    assert_eq!(run.state(), childminder::State::Running);
}

#[tokio::test]
async fn a_killed_child_leaves_the_line_that_it_had_begun() {
    let mut command = sh("trap '' TERM; printf 'whole\\nbegun'; echo >&2; sleep 100; sleep 100");
    command.grace(std::time::Duration::from_millis(50));
    let mut run = by_lines(&mut command).start().expect("it starts");
    while next_line(&mut run).await.stream != OutputStream::Stderr {}
    run.cancel();
    let mut last = None;
    while let Some(event) = within(run.next_event()).await {
        if let Event::Line(line) = event {
            last = Some(line);
        }
    }
    let last = last.expect("there was another line");
    assert_eq!((&last.bytes[..], last.end), (&b"begun"[..], LineEnd::Missing));
    let outcome = within(run.wait()).await;
    assert!(outcome.stop.is_some_and(|stop| stop.killed.is_some()));
    assert!(outcome.stderr.is_complete());
}

#[tokio::test]
async fn a_line_beyond_the_line_limit_comes_in_parts_that_say_so() {
    let (lines, outcome) =
        all_lines(perl("print 'x' x 2500, qq(\\n), 'y' x 1000, qq(\\n)").line_limit(1000)).await;
    let parts: Vec<_> = lines.iter().map(|line| (line.bytes.len(), line.end)).collect();
    let expected = [
        (1000, LineEnd::Continues),
        (1000, LineEnd::Continues),
        (500, LineEnd::Newline),
        (1000, LineEnd::Newline),
    ];
    assert_eq!(parts, expected);
    assert!(outcome.stdout.is_complete());
}

#[tokio::test]
async fn by_default_a_line_may_have_sixteen_mebibytes() {
    let script = "$m = 'x' x 1048576; print $m for 1..16; print qq(\\n); print $m for 1..16; print 'y'";
    let (lines, outcome) = all_lines(&mut perl(script)).await;
    let parts: Vec<_> = lines.iter().map(|line| (line.bytes.len(), line.end)).collect();
    let most = 16 * 1024 * 1024;
    assert_eq!(parts, [(most, LineEnd::Newline), (most, LineEnd::Continues), (1, LineEnd::Missing)]);
    assert!(outcome.stdout.is_complete());
}

#[tokio::test]
async fn lines_that_nobody_takes_hold_the_child_up() {
    let mut command = sh("exec yes");
    let mut run = by_lines(&mut command).grace(LONG_GRACE).start().expect("it starts");
    let first = next_line(&mut run).await;
    assert_eq!(&first.bytes[..], b"y");
    let child = run.pid().expect("it runs");
    eventually("it is held up", || is_held_up(child));
    run.cancel();
    let outcome = within(run.wait()).await;
    assert!(outcome.stdout.total < 4 * 1024 * 1024, "{} bytes were read", outcome.stdout.total);
    assert_eq!(outcome.stdout.total - outcome.stdout.dropped, 2, "one line was handed out");
}
