//! What an agent says takes a bounded amount of memory, however much it is. Alone in its process, so that it can measure.
#![cfg(target_os = "linux")]

use std::time::Duration;

use childminder::agent::{Agent, Dialect, End, MessageKind};

const LIMIT: usize = 256 * 1024;

/// 192 MiB in one line, then 64 MiB in half a million messages, then a result.
const SCRIPT: &str = r#"
    $m = 'x' x 1048576; print q({"type":"stream","text":"); print $m for 1..192; print qq("}\n);
    print q({"type":"stream","text":"), 'y' x 100, qq("}\n) for 1..500000;
    print qq({"type":"result"}\n)"#;

/// Many times less than was said, and enough for what is on its way: half a MiB, a pipe, a chunk, and the message limit.
const MUCH: u64 = 24 * 1024;

/// The most memory that was resident at one time, in KiB.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("our own status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the peak");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[tokio::test]
async fn an_agent_that_says_a_quarter_of_a_gibibyte_takes_a_small_part_of_that() {
    let agent = Agent::builder(Dialect::stream_json())
        .program("/usr/bin/perl")
        .args(["-e", SCRIPT])
        .message_limit(LIMIT)
        .build();
    // What anything takes that runs at all is there before.
    let mut warm_up = agent.execute("a prompt").expect("it starts");
    warm_up.cancel();
    let _ = warm_up.wait().await;
    let before = peak_kib();

    let mut execution = agent.execute("a prompt").expect("it starts");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(120);
    let mut dropped = 0;
    loop {
        let next = tokio::time::timeout_at(deadline, execution.next_message()).await;
        let Some(message) = next.expect("it took longer than any test waits") else { break };
        dropped += message.dropped;
        assert!(message.raw.len() <= LIMIT);
    }
    let report = execution.wait().await;
    assert_eq!((report.end, report.messages), (End::Answered, 500_002));
    assert_eq!(dropped, 192 * 1024 * 1024 + 27 - LIMIT as u64);
    assert_eq!(agent.stats().said(MessageKind::TooLong), 1);
    let grown = peak_kib() - before;
    assert!(grown < MUCH, "{grown} KiB");
}
