//! What is written and read.

use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::Stdio;

use fake_cli::content::{Content, Output};
use fake_cli::control::Report;
use nix::libc::{EBADF, EPIPE, SIGPIPE};

use crate::stage::{DEADLINE, Stage, eventually, prefix, read_to_end};

const STDOUT: Output = Output::Stdout;

fn started_with_pipes(script: &str) -> Stage {
    let mut stage = Stage::new(script);
    let mut command = stage.command();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    stage.spawn(&mut command);
    stage
}

/// Both streams to their ends.
fn streams(stage: &mut Stage) -> [Vec<u8>; 2] {
    let stdout = read_to_end(stage.child().stdout.take().unwrap());
    let stderr = read_to_end(stage.child().stderr.take().unwrap());
    let mut streams = [None, None];
    stage.listen_until("the end of the streams", |_| {
        for (stream, ended) in streams.iter_mut().zip([&stdout, &stderr]) {
            *stream = stream.take().or_else(|| ended.try_recv().ok());
        }
        streams.iter().all(Option::is_some)
    });
    streams.map(Option::unwrap)
}

fn totals(stage: &Stage, stream: Output) -> Vec<u64> {
    let of_stream = |report| match report {
        Report::Wrote { to, total, .. } if to == stream => Some(total),
        _ => None,
    };
    stage.reports("root").into_iter().filter_map(of_stream).collect()
}

fn write_failed(stage: &mut Stage) -> (Output, i32) {
    stage.report("root", |report| match report {
        Report::WriteFailed { to, errno } => Some((*to, *errno)),
        _ => None,
    })
}

#[test]
fn writes_are_what_content_says_from_where_the_last_one_ended() {
    let script = r#"[{"write": {"to": "stdout", "bytes": 100}}, {"write": {"to": "stdout", "bytes": 200000}},
                     {"write": {"to": "stderr", "bytes": 1000, "content": "binary"}}, {"write": {"to": "stdout", "bytes": 0}}]"#;
    let mut stage = started_with_pipes(script);
    let [stdout, stderr] = streams(&mut stage);
    assert_eq!(stdout, prefix(Content::Records, STDOUT, 200_100));
    assert_eq!(stderr, prefix(Content::Binary, Output::Stderr, 1000));
    stage.gone("root");
    let confirmed = totals(&stage, STDOUT);
    assert_eq!((confirmed[0], *confirmed.last().unwrap()), (100, 200_100));
    assert!(confirmed.windows(2).all(|pair| pair[1] - pair[0] <= 65536), "{confirmed:?}");
    assert_eq!(totals(&stage, Output::Stderr), [1000]);
}

#[test]
fn a_write_is_confirmed_only_when_it_is_in_the_pipe() {
    let mut stage =
        started_with_pipes(r#"[{"write": {"to": "stdout", "bytes": 300000}}, {"emit": "through"}]"#);
    stage.hello("root");
    // Nobody reads, so it cannot come far: a pipe holds 64 KiB unless told otherwise.
    stage.report("root", |report| matches!(report, Report::Wrote { .. }).then_some(()));
    std::thread::sleep(std::time::Duration::from_millis(30));
    stage.listen_until("nothing", |_| true);
    assert!(*totals(&stage, STDOUT).last().unwrap() <= 65536);
    streams(&mut stage);
    stage.emitted("root", "through");
    assert_eq!(*totals(&stage, STDOUT).last().unwrap(), 300_000);
}

#[test]
fn a_slow_stream_pauses_between_chunks() {
    let script = r#"[{"slow-stream": {"to": "stderr", "chunk": 50, "every": "20ms", "times": 4}}]"#;
    let mut stage = started_with_pipes(script);
    let [_, stderr] = streams(&mut stage);
    assert_eq!(stderr, prefix(Content::Records, Output::Stderr, 200));
    let done_ns = stage.report("root", |report| match report {
        Report::Did { step: 0, at_ns } => Some(*at_ns),
        _ => None,
    });
    assert!(done_ns - stage.hello("root").at_ns >= 60_000_000);
    assert_eq!(totals(&stage, Output::Stderr), [50, 100, 150, 200]);
}

#[test]
fn a_stream_whose_chunks_wait_for_their_reader_gives_no_read_more_than_one() {
    let script =
        r#"[{"slow-stream": {"to": "stdout", "chunk": 1000, "every": "0s", "times": 5, "when-read": true}}]"#;
    let mut stage = started_with_pipes(script);
    let mut stdout = stage.child().stdout.take().unwrap();
    let mut buffer = [0; 65536];
    for read in 1..=5 {
        stage.listen_until("a chunk", |stage| totals(stage, STDOUT).len() == read);
        assert_eq!(std::io::Read::read(&mut stdout, &mut buffer).unwrap(), 1000);
    }
    stage.gone("root");
    assert_eq!(totals(&stage, STDOUT), [1000, 2000, 3000, 4000, 5000]);
}

#[test]
fn a_flood_fills_both_streams_to_its_bound() {
    let mut stage = started_with_pipes(r#"[{"flood": {"most": 300001}}]"#);
    let [stdout, stderr] = streams(&mut stage);
    assert!(stdout == prefix(Content::Records, STDOUT, 300_001));
    assert!(stderr == prefix(Content::Records, Output::Stderr, 300_001));
    stage.gone("root");
    for stream in [STDOUT, Output::Stderr] {
        assert_eq!(*totals(&stage, stream).last().unwrap(), 300_001);
    }
}

#[test]
fn a_stream_that_nobody_reads_does_not_hold_up_the_other_half_of_a_flood() {
    let mut stage = started_with_pipes(r#"[{"flood": {"most": 1000000}}]"#);
    let unread = stage.child().stderr.take().unwrap();
    let stdout = read_to_end(stage.child().stdout.take().unwrap());
    stage.report("root", |report| {
        matches!(report, Report::Wrote { to: Output::Stdout, total: 1_000_000, .. }).then_some(())
    });
    assert!(stage.is_alive("root"));
    stage.signal("root", rustix::process::Signal::KILL);
    assert!(stdout.recv_timeout(DEADLINE).unwrap() == prefix(Content::Records, STDOUT, 1_000_000));
    drop(unread);
}

#[test]
fn a_write_to_nobody_kills_as_it_kills_every_program() {
    let mut stage =
        started_with_pipes(r#"[{"await": "op.1.done"}, {"write": {"to": "stdout", "bytes": 1}}]"#);
    stage.report("root", |report| matches!(report, Report::Waits { .. }).then_some(()));
    drop(stage.child().stdout.take());
    stage.pass("root", "op.1.done");
    assert_eq!(stage.killed_by(), Some(SIGPIPE));
}

#[test]
fn a_write_to_nobody_with_sigpipe_ignored_fails_and_the_script_goes_on() {
    for step in [
        r#"{"write": {"to": "stdout", "bytes": 100000}}"#,
        r#"{"slow-stream": {"to": "stdout", "chunk": 10, "every": "1ms", "times": 3}}"#,
        r#"{"flood": {"most": 5000}}"#,
    ] {
        let script = format!(
            r#"[{{"on": {{"signal": "PIPE", "then": "ignore"}}}}, {{"await": "op.1.done"}}, {step}, {{"exit": 8}}]"#
        );
        let mut stage = started_with_pipes(&script);
        stage.report("root", |report| matches!(report, Report::Waits { .. }).then_some(()));
        drop(stage.child().stdout.take());
        stage.pass("root", "op.1.done");
        assert_eq!(write_failed(&mut stage), (STDOUT, EPIPE));
        assert!(stage.failed("root", 2).contains("stdout"));
        assert_eq!(stage.exit_code(), Some(8));
    }
}

#[test]
fn a_node_closes_stdout_and_lives_on() {
    let script = r#"[{"close": "stdout"}, {"start": {"node": "helper", "holds": ["stdout"], "script": ["hang"]}},
                     {"write": {"to": "stdout", "bytes": 1}}, {"close": "stdout"}, "hang"]"#;
    let mut stage = started_with_pipes(script);
    let stdout = read_to_end(stage.child().stdout.take().unwrap());
    assert_eq!(write_failed(&mut stage), (STDOUT, EBADF));
    assert_eq!(stdout.recv_timeout(DEADLINE).unwrap(), b"");
    assert!(stage.failed("root", 3).contains("not open"));
    // What the player opens later must not take the number: the helper holds a closed descriptor.
    assert!(stage.hello("helper").descriptors.iter().all(|descriptor| descriptor.fd != 1));
    assert!(stage.is_alive("root"));
}

#[test]
fn stdin_is_read_to_its_end() {
    let mut stage = started_with_pipes(r#"["read-stdin", {"exit": 2}]"#);
    let mut stdin = stage.child().stdin.take().unwrap();
    stdin.write_all(&[7; 100_000]).unwrap();
    // Who takes an empty pipe for the end of it misses what comes after that.
    eventually("all of it to be read", || rustix::io::ioctl_fionread(&stdin).unwrap() == 0);
    stdin.write_all(&[7; 11]).unwrap();
    drop(stdin);
    let bytes = stage.report("root", |report| match report {
        Report::StdinEnded { bytes } => Some(*bytes),
        _ => None,
    });
    assert_eq!(bytes, 100_011);
    assert_eq!(stage.exit_code(), Some(2));
}

#[test]
fn descriptors_in_non_blocking_mode_are_lived_with() {
    let mut stage = Stage::new(r#"["read-stdin", {"write": {"to": "stdout", "bytes": 200000}}]"#);
    let (stdin, writer) = non_blocking_pair();
    let (reader, stdout) = non_blocking_pair();
    let mut command = stage.command();
    command.stdin(stdin).stdout(stdout.try_clone().unwrap());
    stage.spawn(&mut command);
    drop(command);
    stage.hello("root");
    drop(writer);
    stage.did("root", 0);
    rustix::io::ioctl_fionbio(&reader, false).unwrap();
    drop(stdout);
    let bytes = read_to_end(std::fs::File::from(reader)).recv_timeout(DEADLINE).unwrap();
    assert!(bytes == prefix(Content::Records, STDOUT, 200_000));
}

fn non_blocking_pair() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    for end in [reader.as_fd(), writer.as_fd()] {
        rustix::io::ioctl_fionbio(end, true).unwrap();
    }
    (reader, writer)
}

#[test]
fn what_is_in_a_buffer_is_written_by_an_exit_and_lost_otherwise() {
    for (end, signal_before, written) in [
        (r#"{"exit": 3}"#, false, 150),
        (r#"{"emit": "end"}"#, false, 150),
        (r#"{"exit-unflushed": 3}"#, false, 50),
        (r#"{"die": "TERM"}"#, false, 50),
        (r#""fault""#, false, 50),
        (r#""hang""#, true, 50),
    ] {
        let script = format!(
            r#"[{{"write": {{"to": "stdout", "bytes": 50}}}}, {{"buffer": {{"to": "stdout", "bytes": 100}}}},
                {{"emit": "full"}}, {end}]"#
        );
        let mut stage = started_with_pipes(&script);
        stage.emitted("root", "full");
        if signal_before {
            stage.signal("root", rustix::process::Signal::TERM);
        }
        let [stdout, _] = streams(&mut stage);
        assert_eq!(stdout, prefix(Content::Records, STDOUT, written), "{end}");
        stage.gone("root");
        assert_eq!(*totals(&stage, STDOUT).last().unwrap(), written as u64, "{end}");
    }
}

#[test]
fn text_lines_and_messages_are_what_content_says() {
    for (name, content) in [("text", Content::Text), ("line", Content::Line), ("messages", Content::Messages)]
    {
        let script = format!(
            r#"[{{"write": {{"to": "stdout", "bytes": 100021, "content": "{name}"}}}},
                {{"write": {{"to": "stdout", "bytes": 13, "content": "{name}"}}}}]"#
        );
        let mut stage = started_with_pipes(&script);
        let [stdout, _] = streams(&mut stage);
        assert!(stdout == prefix(content, STDOUT, 100_034), "{name}");
    }
}

#[test]
fn an_agent_says_numbered_messages_and_may_stop_in_the_middle_of_one() {
    let script = r#"[{"say": {"message": "status"}}, {"say": {"message": "stream", "times": 2}},
                     {"say": {"message": "tool-use"}}, {"say": {"message": "tool-result"}}, {"say": {"message": "plain"}},
                     {"say": {"message": "error"}}, {"say": {"message": "authentication-error"}},
                     {"say": {"message": "result"}}, {"say": {"message": "half"}}, {"exit": 1}]"#;
    let mut stage = started_with_pipes(script);
    let [stdout, _] = streams(&mut stage);
    let text = String::from_utf8(stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 10);
    assert!(!text.ends_with('\n'));
    let parsed = |line: &&str| serde_json::from_str::<serde_json::Value>(line).ok();
    let numbers: Vec<u64> =
        lines.iter().filter_map(parsed).map(|message| message["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 6, 7, 8]);
    assert_eq!(*totals(&stage, STDOUT).last().unwrap(), text.len() as u64);
    assert_eq!(parsed(&lines[7]).unwrap()["kind"], "authentication");
}

#[test]
fn a_node_writes_some_time_after_a_signal_wherever_it_waits() {
    for waiting in [r#""hang""#, r#"{"sleep": "20s"}"#, r#"{"await": "op.1.done"}"#] {
        let script = format!(
            r#"[{{"on": {{"signal": "TERM", "then": {{"write-later": {{"after": "30ms", "to": "stdout", "bytes": 70}}}}}}}},
                {{"write": {{"to": "stdout", "bytes": 10}}}}, {{"emit": "ready"}}, {waiting}]"#
        );
        let mut stage = started_with_pipes(&script);
        stage.emitted("root", "ready");
        for number in 1..=2 {
            stage.signal("root", rustix::process::Signal::TERM);
            stage.listen_until("the write", |stage| totals(stage, STDOUT).len() == 1 + number);
        }
        assert_eq!(totals(&stage, STDOUT), [10, 80, 150], "{waiting}");
        assert!(stage.is_alive("root"));
        stage.signal("root", rustix::process::Signal::KILL);
        let [stdout, _] = streams(&mut stage);
        assert_eq!(stdout, prefix(Content::Records, STDOUT, 150));
    }
}

#[test]
fn a_node_writes_late_only_so_often() {
    let script = r#"[{"on": {"signal": "TERM", "then": {"write-later": {"after": "0s", "to": "stdout", "bytes": 1}}}},
                     {"on": {"signal": "USR1", "then": "log"}}, {"emit": "ready"}, "hang"]"#;
    let mut stage = started_with_pipes(script);
    stage.emitted("root", "ready");
    let heard = |stage: &Stage, signal: i32| {
        stage
            .reports("root")
            .iter()
            .filter(|r| matches!(r, Report::Signal { signal: s, .. } if *s == signal))
            .count()
    };
    for number in 1..=18 {
        stage.signal("root", rustix::process::Signal::TERM);
        stage.listen_until("the signal", |stage| heard(stage, 15) == number);
        stage.listen_until("the write", |stage| totals(stage, STDOUT).len() == number.min(16));
    }
    stage.signal("root", rustix::process::Signal::KILL);
    let [stdout, _] = streams(&mut stage);
    assert_eq!(stdout.len(), 16);
}
