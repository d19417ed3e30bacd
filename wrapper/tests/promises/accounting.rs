//! Every byte that was read is kept, handed out or counted as dropped, however the run ends.

use std::time::Duration;

use childminder::{Capture, Command, Event, Outcome, Output, OutputStream, Overflow, StreamEnd};
use proptest::prelude::*;

use crate::scene::{perl, within};

/// What a child writes, over and over: lines of 36 letters, no two of which that are near each other are alike.
const PERIOD: usize = 37 * 23;

fn pattern() -> impl Iterator<Item = u8> {
    (0..PERIOD)
        .map(|at| if at % 37 == 36 { b'\n' } else { b'a' + u8::try_from(at % 23).expect("a letter") })
        .cycle()
}

/// The same in Perl: writes pieces of these sizes to both streams in turn.
const WRITER: &str = "$SIG{TERM} = 'IGNORE'; $end = shift; @sizes = @ARGV;
    $p = join '', map { $_ % 37 == 36 ? qq(\\n) : chr(97 + $_ % 23) } 0..850;
    @to = (*STDOUT, *STDERR); @at = (0, 0);
    for $i (0..$#sizes) {
        $n = $sizes[$i]; $s = $p x ($n / 851 + 2);
        syswrite($to[$i % 2], substr($s, $at[$i % 2] % 851, $n)); $at[$i % 2] += $n;
    }
    kill 'KILL', $$ if $end eq 'killed'; sleep 100 if $end eq 'hangs'";

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Exits,
    Killed,
    /// It is cancelled, and killed at once because it is deaf, after this many events or this long.
    Cancelled {
        events: usize,
        micros: u64,
    },
    /// Somebody out of reach holds both streams when it has ended.
    Held,
}

#[derive(Clone, Copy, Debug)]
enum Taking {
    Captured { limit: usize, overflow: Overflow },
    Streamed { events: usize },
    Lines { limit: usize, events: usize },
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        2 => Just(End::Exits),
        1 => Just(End::Killed),
        2 => (0usize..6, 0u64..20_000).prop_map(|(events, micros)| End::Cancelled { events, micros }),
        1 => Just(End::Held),
    ]
}

fn taking() -> impl Strategy<Value = Taking> {
    let overflow = prop_oneof![Just(Overflow::KeepHead), Just(Overflow::KeepTail), Just(Overflow::Stop)];
    let limit = prop_oneof![0usize..2000, 0usize..400_000];
    // Some take everything, others stop taking soon.
    let events = prop_oneof![1 => 0usize..8, 1 => Just(usize::MAX)];
    prop_oneof![
        2 => (limit, overflow).prop_map(|(limit, overflow)| Taking::Captured { limit, overflow }),
        1 => events.clone().prop_map(|events| Taking::Streamed { events }),
        1 => (1usize..80, events).prop_map(|(limit, events)| Taking::Lines { limit, events }),
    ]
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![0usize..100, 0usize..5000, 60_000usize..140_000], 0..8)
}

fn command(sizes: &[usize], taking: Taking, end: End) -> Command {
    let script = match end {
        End::Exits => "exits",
        End::Killed => "killed",
        End::Cancelled { .. } => "hangs",
        End::Held => "held",
    };
    let mut command = if end == End::Held {
        // The pipe tells when it is out of reach. It ends by itself after a while, so that it need not be searched for.
        perl(&format!(
            "use POSIX; pipe R, W; unless (fork) {{ close R; setsid; close W; sleep 2; exit }} close W; <R>; {WRITER}"
        ))
    } else {
        perl(WRITER)
    };
    command.arg(script).args(sizes.iter().map(usize::to_string));
    command.grace(Duration::ZERO).drain(Duration::from_millis(if end == End::Held { 20 } else { 5000 }));
    command.containment(childminder::Containment::Group);
    match taking {
        Taking::Captured { limit, overflow } => command.capture_limit(limit).overflow(overflow),
        Taking::Streamed { .. } => command.stdout(Output::Streamed).stderr(Output::Streamed),
        Taking::Lines { limit, .. } => command.stdout(Output::Lines).stderr(Output::Lines).line_limit(limit),
    };
    command
}

/// What was handed out of each stream, newlines included.
#[derive(Default)]
struct HandedOut {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl HandedOut {
    fn add(&mut self, event: Event) {
        match event {
            Event::Stdout(bytes) => self.stdout.extend_from_slice(&bytes),
            Event::Stderr(bytes) => self.stderr.extend_from_slice(&bytes),
            Event::Line(line) => {
                let into =
                    if line.stream == OutputStream::Stdout { &mut self.stdout } else { &mut self.stderr };
                into.extend_from_slice(&line.bytes);
                into.extend((line.end == childminder::LineEnd::Newline).then_some(b'\n'));
            }
            _ => {}
        }
    }
}

async fn play(mut command: Command, taking: Taking, end: End) -> (HandedOut, Outcome) {
    let mut run = command.start().expect("it starts");
    let (mut cancel_after, micros) = match end {
        End::Cancelled { events, micros } => (events, micros),
        _ => (usize::MAX, 0),
    };
    let mut most = match taking {
        Taking::Captured { .. } => 0,
        Taking::Streamed { events } | Taking::Lines { events, .. } => events,
    };
    let mut handed_out = HandedOut::default();
    while most > 0 && cancel_after > 0 {
        // A child that hangs may have nothing more to say.
        let patience = if micros > 0 { Duration::from_micros(micros) } else { crate::scene::PATIENCE };
        match tokio::time::timeout(patience, run.next_event()).await {
            Ok(Some(event)) => handed_out.add(event),
            Ok(None) | Err(_) => break,
        }
        most -= 1;
        cancel_after = cancel_after.saturating_sub(1);
    }
    if matches!(end, End::Cancelled { .. }) {
        run.cancel();
    }
    (handed_out, within(run.wait()).await)
}

fn check(
    capture: &Capture,
    handed_out: &[u8],
    written: usize,
    taking: Taking,
    end: End,
) -> Result<(), TestCaseError> {
    let total = usize::try_from(capture.total).expect("a small number");
    let dropped = usize::try_from(capture.dropped).expect("a small number");
    prop_assert!(total <= written);
    let was_stopped = matches!(end, End::Cancelled { .. })
        || matches!(taking, Taking::Captured { overflow: Overflow::Stop, .. });
    if !was_stopped {
        prop_assert_eq!(total, written, "something was written and not read");
    }
    let expected = if end == End::Held { StreamEnd::Held } else { StreamEnd::Closed };
    if !was_stopped || end != End::Held {
        prop_assert_eq!(capture.end, expected);
    }
    let stream: Vec<u8> = pattern().take(total).collect();
    prop_assert_eq!(total, capture.bytes.len() + handed_out.len() + dropped, "the sum is wrong");
    if let Taking::Captured { limit, overflow } = taking {
        let kept = limit.min(total);
        let expected = match overflow {
            Overflow::KeepTail => &stream[total - kept..],
            _ => &stream[..kept],
        };
        prop_assert!(
            capture.bytes == expected,
            "{} bytes were kept, and the wrong ones",
            capture.bytes.len()
        );
    } else {
        prop_assert!(capture.bytes.is_empty());
        prop_assert!(
            stream.starts_with(handed_out),
            "what was handed out is not the beginning of the stream"
        );
    }
    prop_assert_eq!(capture.is_complete(), dropped == 0 && capture.end == StreamEnd::Closed);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn all_bytes_are_accounted_for_whatever_is_written_taken_and_done(
        sizes in sizes(),
        taking in taking(),
        end in end(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (handed_out, outcome) = runtime.block_on(play(command(&sizes, taking, end), taking, end));
        let written = |first: usize| sizes.iter().skip(first).step_by(2).sum::<usize>();
        check(&outcome.stdout, &handed_out.stdout, written(0), taking, end)?;
        check(&outcome.stderr, &handed_out.stderr, written(1), taking, end)?;
    }
}
