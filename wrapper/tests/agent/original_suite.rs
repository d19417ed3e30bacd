//! The suite of the system that this one comes from, a test for each of its names, here with real processes. Those about the
//! registry are in `registry`. A hundred times in a row, with load beside it:
//!
//! ```sh
//! for n in $(seq 100); do cargo test -q -p childminder --test agent -- original_suite registry || break; done
//! ```
//!
//! | name | test |
//! |---|---|
//! | tracking during execution | `an_execution_is_tracked_as_long_as_it_goes_on` |
//! | cancellation | `a_cancelled_execution_ends_with_all_that_its_agent_has_started` |
//! | timeout | `an_agent_that_takes_too_long_is_stopped_with_all_that_it_has_started` |
//! | scoped execution | `a_scope_leaves_nothing_behind` |
//! | escalation | `an_agent_that_does_not_listen_is_killed_when_the_grace_is_over`, `a_second_cancel_does_not_wait_for_the_grace` |
//! | statistics of a run | `the_statistics_of_a_run_are_exact` |
//! | concurrent executions | `executions_at_the_same_time_do_not_disturb_each_other` |
//! | zombies | `no_zombie_is_left` |
//! | parsing | `each_message_is_parsed_into_its_kind` |
//! | plain `cleanup()` | `a_cleanup_stops_everything_and_the_agent_can_be_used_again` |

use std::time::Duration;

use childminder::agent::{End, Fault, MessageKind, Phase};
use childminder::{Ended, KillCause, Reason};

use tokio_util::sync::CancellationToken;

use crate::scene::{LONG_GRACE, assert_all_dead, eventually, is_alive, state_of, within};
use crate::stage::{RESULT, TELL_CHILD, TELL_PID, all, execute, kinds, pids, shell};

/// An agent and a child of it in a session of its own, both of which would go on for long.
fn tree() -> String {
    format!("setsid sleep 100 & {TELL_CHILD}; {TELL_PID}; wait")
}

#[tokio::test]
async fn an_execution_is_tracked_as_long_as_it_goes_on() {
    let agent = shell(&format!("{TELL_PID}; exec sleep 100")).build();
    let mut execution = execute(&agent);
    let pid = pids(&mut execution, 1).await[0];
    assert_eq!((agent.stats().live, execution.pid(), execution.phase()), (1, Some(pid), Phase::Running));
    execution.cancel();
    within(execution.wait()).await;
    assert_eq!((agent.stats().live, execution.pid(), execution.phase()), (0, None, Phase::Over));
}

#[tokio::test]
async fn a_cancelled_execution_ends_with_all_that_its_agent_has_started() {
    let agent = shell(&tree()).build();
    let mut execution = execute(&agent);
    let tree = pids(&mut execution, 2).await;
    execution.cancel();
    let report = within(execution.wait()).await;
    assert_all_dead(&tree);
    assert_eq!(report.end, End::Cancelled);
    assert_eq!(agent.stats().ended(End::Cancelled), 1);
}

#[tokio::test]
async fn an_agent_that_takes_too_long_is_stopped_with_all_that_it_has_started() {
    let agent = shell(&tree()).timeout(Duration::from_secs(4)).build();
    let mut execution = execute(&agent);
    let tree = pids(&mut execution, 2).await;
    let report = within(execution.wait()).await;
    assert_all_dead(&tree);
    assert_eq!(report.end, End::Failed(Fault::TimedOut));
    assert_eq!(report.outcome.expect("it ran").ended, Ended::Stopped(Reason::TimedOut));
}

#[tokio::test]
async fn a_scope_leaves_nothing_behind() {
    let agent = shell(&tree()).build();
    let scoped = within(agent.scoped(|agent| async move {
        let mut execution = execute(&agent);
        let tree = pids(&mut execution, 2).await;
        (execution, tree)
    }))
    .await;
    // The execution was even taken out of its scope.
    let (mut execution, tree) = scoped.value;
    assert_all_dead(&tree);
    assert_eq!((scoped.cleanup.cleaned, scoped.cleanup.is_complete()), (1, true));
    assert_eq!(within(execution.wait()).await.end, End::Cancelled);
}

#[tokio::test]
async fn an_agent_that_does_not_listen_is_killed_when_the_grace_is_over() {
    let agent = shell(&format!("trap '' TERM; {TELL_PID}; sleep 100; sleep 100"))
        .grace(Duration::from_millis(100))
        .build();
    let mut execution = execute(&agent);
    let tree = pids(&mut execution, 1).await;
    execution.cancel();
    let report = within(execution.wait()).await;
    assert_all_dead(&tree);
    let stop = report.outcome.expect("it ran").stop.expect("it was stopped");
    let kill = stop.killed.expect("it was killed");
    assert_eq!(kill.because, KillCause::GraceOver);
    assert!(kill.after >= Duration::from_millis(100), "{kill:?}");
}

#[tokio::test]
async fn a_second_cancel_does_not_wait_for_the_grace() {
    let agent = shell(&format!("trap '' TERM; {TELL_PID}; sleep 100; sleep 100")).build();
    let mut execution = execute(&agent);
    let tree = pids(&mut execution, 1).await;
    execution.cancel();
    eventually("it was asked", || execution.phase() == Phase::Stopping);
    execution.canceller().cancel();
    let report = within(execution.wait()).await;
    assert_all_dead(&tree);
    let kill = report.outcome.and_then(|outcome| outcome.stop).and_then(|stop| stop.killed);
    assert_eq!(kill.expect("it was killed").because, KillCause::AskedAgain);
}

#[tokio::test]
async fn a_token_stops_an_execution_that_nobody_polls_and_all_later_ones() {
    let token = CancellationToken::new();
    let agent = shell(&tree()).cancel_on(token.clone()).build();
    let mut execution = execute(&agent);
    let tree = pids(&mut execution, 2).await;
    token.cancel();
    eventually("it is over", || execution.phase() == Phase::Over);
    assert_all_dead(&tree);
    assert_eq!(within(execution.wait()).await.end, End::Cancelled);
    assert_eq!(within(execute(&agent).wait()).await.end, End::Cancelled);
}

#[tokio::test]
async fn the_statistics_of_a_run_are_exact() {
    let say = r#"echo '{"type":"stream","text":"a"}'"#;
    let agent = shell(&format!("{say}; {say}; echo oh >&2; {RESULT}")).build();
    let (messages, report) = all(&mut execute(&agent)).await;
    assert_eq!((report.end, report.attempts, report.messages), (End::Answered, 1, 4));
    assert_eq!(messages.len(), 4);
    let stats = agent.stats();
    assert_eq!((stats.started, stats.live, stats.refused, stats.attempts, stats.retries), (1, 0, 0, 1, 0));
    assert_eq!(
        (stats.said(MessageKind::Text), stats.said(MessageKind::Diagnostic), stats.said(MessageKind::Result)),
        (2, 1, 1)
    );
    assert_eq!(stats.messages.values().sum::<u64>(), 4);
    assert_eq!(stats.ends.into_iter().collect::<Vec<_>>(), [(End::Answered, 1)]);
}

#[tokio::test]
async fn executions_at_the_same_time_do_not_disturb_each_other() {
    // Each reads its own prompt; every third one is cancelled meanwhile.
    let script = r#"read -r word; echo "{\"type\":\"stream\",\"text\":\"$word\"}"
        [ "${word#stop}" = "$word" ] || exec sleep 100
        echo "{\"type\":\"result\",\"result\":\"$word\"}""#;
    let agent = shell(script).build();
    let tasks: Vec<_> = (0..12)
        .map(|number| {
            let agent = agent.clone();
            tokio::spawn(async move {
                let stops = number % 3 == 0;
                let prompt = format!("{}{number}", if stops { "stop" } else { "go" });
                let mut execution = agent.execute(&prompt).expect("it starts");
                let first = crate::stage::next(&mut execution).await;
                assert_eq!(first.text.as_deref(), Some(&prompt[..]));
                if stops {
                    execution.cancel();
                }
                let (rest, report) = all(&mut execution).await;
                let texts: Vec<_> = rest.iter().map(|message| message.text.as_deref()).collect();
                assert_eq!(texts, if stops { vec![] } else { vec![Some(&prompt[..])] });
                report.end
            })
        })
        .collect();
    for (number, task) in tasks.into_iter().enumerate() {
        let end = within(task).await.expect("it does not panic");
        assert_eq!(end, if number % 3 == 0 { End::Cancelled } else { End::Answered }, "{number}");
    }
    let stats = agent.stats();
    assert_eq!((stats.started, stats.live), (12, 0));
    assert_eq!((stats.ended(End::Cancelled), stats.ended(End::Answered)), (4, 8));
}

#[tokio::test]
async fn no_zombie_is_left() {
    // One that ends by itself, one that leaves an orphan, one that is cancelled, one that is dropped.
    let agent = shell(&format!("sleep 100 & {TELL_CHILD}; {TELL_PID}; {RESULT}")).build();
    let mut ends = execute(&agent);
    let mut gone = pids(&mut ends, 2).await;
    assert_eq!(within(ends.wait()).await.end, End::Answered);
    let agent = shell(&tree()).build();
    let (mut cancelled, mut dropped) = (execute(&agent), execute(&agent));
    gone.extend(pids(&mut cancelled, 2).await);
    gone.extend(pids(&mut dropped, 2).await);
    cancelled.cancel();
    within(cancelled.wait()).await;
    let canceller = dropped.canceller();
    drop(dropped);
    eventually("the dropped one is over", || canceller.phase() == Phase::Over);
    for pid in gone {
        assert_eq!(state_of(pid), None, "neither alive nor a zombie");
    }
}

#[tokio::test]
async fn each_message_is_parsed_into_its_kind() {
    let script = r#"cat <<'END'
{"type":"status","status":"working"}
{"type":"stream","text":"part of an answer"}
{"type":"tool_use","id":"1","tool":"read","input":{"path":"notes.txt"}}
{"type":"tool_result","id":"1","text":"nothing new"}
line 5 is no JSON
{"type":"error","message":"the disk is full"}
{"type":"something new","number":7}
{"type":"result","text":"the answer"}
END
printf '{"type":"resu'"#;
    let (messages, report) = all(&mut execute(&shell(script).build())).await;
    let expected = [
        MessageKind::Status,
        MessageKind::Text,
        MessageKind::ToolUse,
        MessageKind::ToolResult,
        MessageKind::Plain,
        MessageKind::Error,
        MessageKind::Unknown,
        MessageKind::Result,
        MessageKind::Cut,
    ];
    assert_eq!(kinds(&messages), expected);
    assert_eq!(messages[2].json().expect("it is JSON")["input"]["path"], "notes.txt");
    assert_eq!(messages[7].text.as_deref(), Some("the answer"));
    assert_eq!(&messages[8].raw[..], br#"{"type":"resu"#);
    assert_eq!(report.end, End::Answered);
}

#[tokio::test]
async fn a_cleanup_stops_everything_and_the_agent_can_be_used_again() {
    let agent = shell(&tree()).grace(LONG_GRACE).build();
    let (mut one, mut other) = (execute(&agent), execute(&agent));
    let mut tree = pids(&mut one, 2).await;
    tree.extend(pids(&mut other, 2).await);
    let cleanup = within(agent.cleanup()).await;
    assert_eq!((cleanup.cleaned, cleanup.is_complete()), (2, true), "{cleanup}");
    assert_all_dead(&tree);
    assert_eq!(within(agent.cleanup()).await.cleaned, 0, "there is nothing left to do");
    assert_eq!(within(one.wait()).await.end, End::Cancelled);
    let mut again = execute(&agent);
    let alive = pids(&mut again, 2).await;
    assert!(alive.iter().all(|pid| is_alive(*pid)), "the agent can be used again");
}
