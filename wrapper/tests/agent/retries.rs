//! Another attempt: after what is worth it, not too often, not too long, and never after a cancel.

use std::time::{Duration, Instant};

use childminder::agent::{AgentBuilder, End, Fault, MessageKind, Phase, Retries};

use crate::scene::{LONG_GRACE, PATIENCE, assert_all_dead, within};
use crate::stage::{RESULT, TELL_PID, Witness, all, execute, next, pids, shell};

const BUSY: &str = r#"echo '{"type":"error","message":"the service is busy"}'; exit 1"#;

/// So many more attempts, without a pause worth mentioning.
fn quick(most: u32) -> Retries {
    let mut retries = Retries::default();
    (retries.most, retries.first_pause) = (most, Duration::from_millis(1));
    retries
}

/// Fails in this way for so many attempts, each of which leaves a line in the file, and then answers.
fn fails_first(times: usize, how: &str, witness: &Witness) -> AgentBuilder {
    shell(&format!("echo >> {witness}; [ $(wc -l < {witness}) -gt {times} ] || {{ {how}; }}; {RESULT}"))
}

#[tokio::test]
async fn an_agent_that_is_busy_at_first_answers_at_last() {
    let witness = Witness::new();
    let agent = fails_first(2, BUSY, &witness).retries(quick(3)).build();
    let (messages, report) = all(&mut execute(&agent)).await;
    assert_eq!((report.end, report.attempts, witness.lines()), (End::Answered, 3, 3));
    let said: Vec<_> = messages.iter().map(|message| (message.attempt, message.kind)).collect();
    assert_eq!(said, [(1, MessageKind::Error), (2, MessageKind::Error), (3, MessageKind::Result)]);
    let stats = agent.stats();
    assert_eq!((stats.started, stats.attempts, stats.retries), (1, 3, 2));
}

#[tokio::test]
async fn there_are_as_many_attempts_as_allowed_and_no_more() {
    let witness = Witness::new();
    let agent = fails_first(usize::MAX >> 1, BUSY, &witness).retries(quick(2)).build();
    let (_, report) = all(&mut execute(&agent)).await;
    assert_eq!((report.end, report.attempts, witness.lines()), (End::Failed(Fault::Busy), 3, 3));
}

#[tokio::test]
async fn what_is_worth_a_retry_is_what_was_said_to_be() {
    for (how, fault) in [
        (r#"echo '{"type":"error","message":"the disk is full"}'; exit 1"#, Fault::Reported),
        ("exit 3", Fault::Failed),
        ("exit 0", Fault::NoResult),
        ("kill -KILL $$", Fault::Crashed),
        ("exec sleep 100", Fault::Silent),
    ] {
        for worth in [vec![], vec![fault]] {
            let witness = Witness::new();
            let mut retries = quick(3);
            retries.worth.clone_from(&worth);
            let mut agent = fails_first(1, how, &witness).retries(retries);
            if fault == Fault::Silent {
                agent = agent.idle_timeout(Duration::from_secs(4));
            }
            let agent = agent.build();
            let (_, report) = all(&mut execute(&agent)).await;
            let expected = if worth.is_empty() { (End::Failed(fault), 1) } else { (End::Answered, 2) };
            assert_eq!((report.end, report.attempts), expected, "{how}");
        }
    }
}

#[tokio::test]
async fn a_cancel_during_the_pause_ends_it_and_nothing_more_is_started() {
    let witness = Witness::new();
    let mut retries = quick(3);
    (retries.first_pause, retries.longest_pause) = (LONG_GRACE, LONG_GRACE);
    retries.deadline = None;
    let agent = fails_first(1, BUSY, &witness).retries(retries).build();
    let mut execution = execute(&agent);
    assert_eq!(next(&mut execution).await.kind, MessageKind::Error);
    let deadline = Instant::now() + PATIENCE;
    while execution.phase() != Phase::Pausing {
        assert!(Instant::now() < deadline, "there was no pause");
        let looked = tokio::time::timeout(Duration::from_millis(1), execution.next_message()).await;
        assert_eq!(looked.ok(), None, "it has said everything, and has not ended");
    }
    execution.cancel();
    let report = within(execution.wait()).await;
    assert_eq!((report.end, report.attempts, witness.lines()), (End::Cancelled, 1, 1));
    assert_eq!((execution.phase(), execution.canceller().phase()), (Phase::Over, Phase::Over));
}

#[tokio::test]
async fn a_cancel_of_a_busy_agent_is_no_reason_for_a_retry() {
    let witness = Witness::new();
    let says = r#"exec perl -e '$SIG{TERM} = sub { exit 75 }; $| = 1;
        print qq({"type":"status","status":"$$"}\n); sleep 100 while 1'"#;
    let agent = fails_first(1, says, &witness).retries(quick(3)).build();
    let mut execution = execute(&agent);
    let tree = pids(&mut execution, 1).await;
    execution.cancel();
    let report = within(execution.wait()).await;
    assert_eq!((report.end, witness.lines()), (End::Cancelled, 1));
    assert_all_dead(&tree);
}

#[tokio::test]
async fn the_deadline_bounds_all_attempts_and_pauses_together() {
    let witness = Witness::new();
    let mut retries = quick(u32::MAX);
    (retries.first_pause, retries.longest_pause) = (Duration::from_millis(20), Duration::from_millis(20));
    (retries.jitter, retries.deadline) = (false, Some(Duration::from_millis(500)));
    let agent = fails_first(usize::MAX >> 1, BUSY, &witness).retries(retries.clone()).build();
    let (_, report) = all(&mut execute(&agent)).await;
    // Which of the two it was depends on where the deadline has met it.
    assert!(matches!(report.end, End::Failed(Fault::Busy | Fault::TimedOut)), "{:?}", report.end);
    // The last one may have been stopped before it could leave its line.
    let attempts = report.attempts as usize;
    assert!((attempts - 1..=attempts).contains(&witness.lines()), "{attempts}, {}", witness.lines());

    // An attempt that would go on for ever is stopped by the same deadline.
    retries.deadline = Some(Duration::from_secs(5));
    let agent = shell(&format!("{TELL_PID}; exec sleep 100")).retries(retries).build();
    let mut execution = execute(&agent);
    let tree = pids(&mut execution, 1).await;
    assert_eq!(within(execution.wait()).await.end, End::Failed(Fault::TimedOut));
    assert_all_dead(&tree);
}
