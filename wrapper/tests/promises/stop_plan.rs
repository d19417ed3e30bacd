//! A run is asked to end as its plan says, and no further than it must be.

use std::time::{Duration, Instant};

use childminder::{
    Ask, Ended, Input, KillCause, Outcome, Reason, Run, State, StopPlan, StopReceipt, StopRung, StopSignal,
};
use tokio::io::AsyncWriteExt;

use crate::scene::{
    LONG_GRACE, PATIENCE, assert_all_dead, eventually, is_alive, lines, perl, pids, sh, start, within,
};

const TERM: Ask = Ask::Signal(StopSignal::Terminate);
const SHORT: Duration = Duration::from_millis(100);

async fn cancelled(run: &mut Run) -> (Outcome, StopReceipt) {
    run.cancel();
    end_of(run).await
}

async fn end_of(run: &mut Run) -> (Outcome, StopReceipt) {
    let outcome = within(run.wait()).await;
    assert_eq!(outcome.ended, Ended::Stopped(Reason::Cancelled));
    let stop = outcome.stop.expect("it was stopped");
    (outcome, stop)
}

/// Ends when its input does, and with 3 when somebody asks by SIGTERM.
const SERVER: &str = "trap 'exit 3' TERM; echo $$; while read -r line; do :; done; exit 0";

#[tokio::test]
async fn a_server_that_ends_with_its_input_is_asked_for_nothing_else() {
    let forever = StopPlan::begin(Ask::CloseStdin).then_after(LONG_GRACE, TERM);
    // On a busy machine a server may take longer to end than a plan has patience.
    let deadline = Instant::now() + PATIENCE * 3;
    let mut plans = vec![forever, StopPlan::lsp_server(), StopPlan::mcp_server()];
    while let Some(plan) = plans.pop() {
        let (_, patience) = plan.requests(LONG_GRACE).next().expect("it has a first request");
        let mut run = start(sh(SERVER).stdin(Input::Piped).stop_plan(plan.clone()).grace(LONG_GRACE));
        let mut stdin = run.stdin().expect("a pipe");
        let tree = pids(&mut run, 1).await;
        run.cancel();
        eventually("it has ended", || !is_alive(tree[0]));
        // Somebody else has our end, and it is closed nevertheless.
        stdin.write_all(b"more\n").await.expect_err("its other end is closed");
        let (outcome, stop) = end_of(&mut run).await;
        if stop.rung == StopRung::Asked(TERM) && stop.took >= patience && Instant::now() < deadline {
            plans.push(plan);
            continue;
        }
        assert_eq!(outcome.exit.and_then(|exit| exit.code()), Some(0));
        assert_eq!(stop.rung, StopRung::Asked(Ask::CloseStdin));
        assert!(stop.killed.is_none(), "{stop:?}");
        if let Some(signalled) = outcome.signalled {
            assert_eq!(signalled.asked.count, 0, "nobody was asked by a signal");
        }
        assert_all_dead(&tree);
    }
}

#[tokio::test]
async fn a_server_that_does_not_heed_the_end_of_its_input_is_asked_by_sigterm() {
    let plan = StopPlan::begin(Ask::CloseStdin).then_after(SHORT, TERM);
    // It sleeps in short pieces: a shell sees to its traps in between.
    let script = "trap 'exit 3' TERM; echo $$; while :; do sleep 0.01; done";
    let mut run = start(sh(script).stdin(Input::Piped).stop_plan(plan).grace(LONG_GRACE));
    let tree = pids(&mut run, 1).await;
    let (outcome, stop) = cancelled(&mut run).await;
    assert_eq!(outcome.exit.and_then(|exit| exit.code()), Some(3));
    assert_eq!(stop.rung, StopRung::Asked(TERM));
    assert!(stop.took >= SHORT, "it had its time: {stop:?}");
    assert_all_dead(&tree);
}

#[tokio::test]
async fn a_server_that_heeds_nothing_is_killed_at_the_end_of_the_ladder() {
    let plan = StopPlan::begin(Ask::CloseStdin).then_after(SHORT, TERM);
    let script = "trap '' TERM; echo $$; sleep 100";
    let mut run = start(sh(script).stdin(Input::Piped).stop_plan(plan).grace(SHORT));
    let tree = pids(&mut run, 1).await;
    let (_, stop) = cancelled(&mut run).await;
    assert_eq!(stop.rung, StopRung::Killed);
    let kill = stop.killed.expect("it was killed");
    assert_eq!(kill.because, KillCause::GraceOver);
    assert!(kill.after >= 2 * SHORT, "each request has its time: {stop:?}");
    assert_all_dead(&tree);
}

#[tokio::test]
async fn each_signal_of_a_plan_comes_once_and_to_everybody() {
    // Two processes that say what they hear.
    const HEARS: &str = "use POSIX; $| = 1; for my $s (qw(HUP INT QUIT TERM USR1 USR2)) { $SIG{$s} = sub { print qq{$s\\n} } } \
                         fork() // die; print qq{$$\\n}; sleep 1 while 1;";
    let signals = [
        (StopSignal::Interrupt, "INT"),
        (StopSignal::Hangup, "HUP"),
        (StopSignal::User1, "USR1"),
        (StopSignal::Quit, "QUIT"),
        (StopSignal::User2, "USR2"),
        (StopSignal::Terminate, "TERM"),
    ];
    let mut plan = StopPlan::begin(Ask::Signal(signals[0].0));
    for (signal, _) in &signals[1..] {
        plan = plan.then_after(Duration::from_millis(300), Ask::Signal(*signal));
    }
    let mut run = start(perl(HEARS).stop_plan(plan).grace(LONG_GRACE));
    let tree = pids(&mut run, 2).await;
    run.cancel();
    let mut heard = lines(&mut run, 2 * signals.len()).await;
    // Who was not scheduled for so long hears two at once, in the kernel's order.
    heard.sort();
    let mut wanted: Vec<_> = signals.iter().flat_map(|(_, name)| [*name, *name]).collect();
    wanted.sort_unstable();
    assert_eq!(heard, wanted);
    let (outcome, stop) = cancelled(&mut run).await;
    assert_eq!(stop.rung, StopRung::Killed);
    if let Some(signalled) = outcome.signalled {
        assert_eq!((signalled.asked.count, signalled.not_asked), (2, 0), "each is counted once");
    }
    assert_all_dead(&tree);
}

#[tokio::test]
async fn whoever_is_left_by_a_server_that_ended_with_its_input_is_asked_by_the_next_request() {
    // Long enough for the server to end by its input.
    let plan = StopPlan::begin(Ask::CloseStdin).then_after(40 * SHORT, TERM);
    let helper = "trap 'exit 0' TERM; echo $$; while :; do sleep 0.01; done";
    let script = format!("sh -c \"$HELPER\" </dev/null & {SERVER}");
    let mut command = sh(&script);
    command.env("HELPER", helper).stdin(Input::Piped).stop_plan(plan).grace(LONG_GRACE);
    let mut run = start(&mut command);
    let tree = pids(&mut run, 2).await;
    let (outcome, stop) = cancelled(&mut run).await;
    assert_eq!(outcome.exit.and_then(|exit| exit.code()), Some(0));
    assert_eq!((stop.rung, stop.killed.is_none()), (StopRung::Asked(TERM), true));
    assert_all_dead(&tree);
}

#[tokio::test]
async fn a_stdin_that_is_not_ours_to_close_costs_no_time() {
    let plan = StopPlan::begin(Ask::CloseStdin).then_after(LONG_GRACE, TERM);
    let mut run = start(sh("echo $$; exec sleep 100").stop_plan(plan).grace(LONG_GRACE));
    pids(&mut run, 1).await;
    let (_, stop) = cancelled(&mut run).await;
    assert_eq!(stop.rung, StopRung::Asked(TERM));

    let plan = StopPlan::begin(Ask::CloseStdin);
    let mut run = start(sh("echo $$; exec sleep 100").stop_plan(plan).grace(LONG_GRACE));
    pids(&mut run, 1).await;
    let (_, stop) = cancelled(&mut run).await;
    assert_eq!(stop.rung, StopRung::Killed, "there was nothing to ask by");
}

#[tokio::test]
async fn an_input_that_ended_long_ago_had_its_time() {
    let time = 40 * SHORT;
    let plan = StopPlan::begin(Ask::CloseStdin).then_after(time, TERM);
    let script = "read -r line; echo $$; cat; echo over; exec sleep 100";
    let mut run = start(sh(script).stdin(Input::Bytes("a line\n".into())).stop_plan(plan).grace(LONG_GRACE));
    lines(&mut run, 2).await;
    tokio::time::sleep(time).await;
    let (_, stop) = cancelled(&mut run).await;
    assert_eq!(stop.rung, StopRung::Asked(TERM));
    assert!(stop.took < time, "it was given that time once more: {stop:?}");
}

#[tokio::test]
async fn a_dropped_run_is_asked_as_its_plan_says() {
    let ended = StopPlan::begin(Ask::CloseStdin).then_after(LONG_GRACE, TERM);
    let mut run = start(sh(SERVER).stdin(Input::Piped).stop_plan(ended).grace(LONG_GRACE));
    let tree = pids(&mut run, 1).await;
    let canceller = run.canceller();
    drop(run);
    // Not by SIGTERM, for which it would be too early for a long time.
    eventually("it is over", || canceller.state() == State::Idle);
    eventually("so is the server", || !is_alive(tree[0]));
}

#[tokio::test]
async fn a_second_cancel_does_not_wait_for_the_rest_of_the_plan() {
    let plan = StopPlan::begin(Ask::CloseStdin).then_after(LONG_GRACE, TERM);
    let mut run = start(sh("echo $$; sleep 100").stdin(Input::Piped).stop_plan(plan).grace(LONG_GRACE));
    pids(&mut run, 1).await;
    run.cancel();
    let (_, stop) = cancelled(&mut run).await;
    assert_eq!(stop.killed.map(|kill| kill.because), Some(KillCause::AskedAgain));
    assert_eq!(stop.rung, StopRung::Killed);
}
