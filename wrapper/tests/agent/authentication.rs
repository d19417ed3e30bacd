//! Nobody is logged in: the run is stopped at once, and the breaker keeps others from trying.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use childminder::agent::{AgentError, BreakerLimits, BreakerState, End, MessageKind, Retries};
use childminder::{Ended, Reason};

use crate::scene::{LONG_GRACE, assert_all_dead, eventually, within};
use crate::stage::{RESULT, TELL_PID, Witness, all, execute, kinds, pids, shell, slow_to_end};

const REFUSED: &str = r#"echo '{"type":"error","kind":"authentication","message":"not logged in"}'"#;

#[tokio::test]
async fn an_authentication_error_stops_the_run_at_once_and_is_not_tried_again() {
    let agent = shell(&format!("{TELL_PID}; {REFUSED}; exec sleep 100")).retries(Retries::default()).build();
    let mut execution = execute(&agent);
    let tree = pids(&mut execution, 1).await;
    let (messages, report) = all(&mut execution).await;
    assert_all_dead(&tree);
    assert_eq!(kinds(&messages), [MessageKind::AuthenticationError]);
    assert_eq!((report.end, report.attempts), (End::AuthenticationFailed, 1));
    assert_eq!(report.outcome.expect("it ran").ended, Ended::Stopped(Reason::Cancelled));
}

#[tokio::test]
async fn a_cancel_after_an_early_stop_is_the_first_cancel_and_leaves_the_grace() {
    let agent = slow_to_end(r#"{"type":"error","kind":"authentication"}"#).build();
    let mut execution = execute(&agent);
    while crate::stage::next(&mut execution).await.text.as_deref() != Some("asked") {}
    execution.cancel();
    let report = within(execution.wait()).await;
    let stop = report.outcome.expect("it ran").stop.expect("it was stopped");
    assert!(stop.killed.is_none(), "{stop:?}");
}

#[tokio::test]
async fn a_word_on_stderr_and_an_exit_code_tell_it_too() {
    for script in ["echo Invalid API key >&2; exec sleep 100", "exit 77"] {
        let (_, report) = all(&mut execute(&shell(script).build())).await;
        assert_eq!(report.end, End::AuthenticationFailed, "{script}");
    }
}

#[tokio::test]
async fn the_breaker_opens_refuses_lets_a_probe_through_and_closes() {
    let logged_in = Witness::new();
    let tries = Witness::new();
    let script = format!("echo >> {tries}; if [ -e {logged_in} ]; then {RESULT}; else {REFUSED}; fi");
    let pause = Duration::from_secs(4);
    let agent = shell(&script).breaker(BreakerLimits::new(2, pause)).build();
    for _ in 0..2 {
        assert_eq!(all(&mut execute(&agent)).await.1.end, End::AuthenticationFailed);
    }
    // It may have taken longer than the pause to come here.
    match agent.execute("a prompt") {
        Err(AgentError::BreakerOpen { retry_after: Some(time) }) => assert!(time <= pause),
        Err(error) => panic!("{error}"),
        Ok(mut probe) => assert_eq!(all(&mut probe).await.1.end, End::AuthenticationFailed),
    }
    std::fs::write(&logged_in.0, "").expect("our own file");
    eventually("the pause is over", || agent.stats().breaker == BreakerState::HalfOpen);
    let mut probe = execute(&agent);
    let refused = agent.execute("a prompt").expect_err("one probe at a time");
    assert!(matches!(refused, AgentError::BreakerOpen { retry_after: Some(_) }), "{refused}");
    assert_eq!(all(&mut probe).await.1.end, End::Answered);
    assert_eq!(agent.stats().breaker, BreakerState::Closed);
    assert_eq!(all(&mut execute(&agent)).await.1.end, End::Answered);
}

#[tokio::test]
async fn an_open_breaker_starts_nothing() {
    let tries = Witness::new();
    let agent =
        shell(&format!("echo >> {tries}; {REFUSED}")).breaker(BreakerLimits::new(1, LONG_GRACE)).build();
    assert_eq!(all(&mut execute(&agent)).await.1.end, End::AuthenticationFailed);
    for _ in 0..3 {
        let error = agent.execute("a prompt").expect_err("it is open");
        assert!(error.to_string().contains("log in"), "{error}");
    }
    assert_eq!(tries.lines(), 1);
    let stats = agent.stats();
    assert_eq!((stats.started, stats.refused, stats.breaker), (1, 3, BreakerState::Open));
}

#[tokio::test]
async fn a_probe_that_is_dropped_leaves_the_way_to_the_next_one() {
    let logged_in = Witness::new();
    let script = format!("if [ -e {logged_in} ]; then {TELL_PID}; exec sleep 100; else {REFUSED}; fi");
    let agent = shell(&script).breaker(BreakerLimits::new(1, Duration::from_secs(4))).build();
    assert_eq!(all(&mut execute(&agent)).await.1.end, End::AuthenticationFailed);
    std::fs::write(&logged_in.0, "").expect("our own file");
    eventually("the pause is over", || agent.stats().breaker == BreakerState::HalfOpen);
    let probe = execute(&agent);
    assert!(agent.execute("a prompt").is_err(), "one probe at a time");
    drop(probe);
    drop(execute(&agent));
}

#[tokio::test]
async fn a_retry_ends_where_the_breaker_has_opened_meanwhile() {
    // Busy when it is asked the first time, and refused the second time, which is by somebody else.
    let tries = Witness::new();
    let script = format!(
        r#"echo >> {tries}; if [ $(wc -l < {tries}) -eq 1 ]; then echo '{{"type":"error","message":"overloaded"}}'; exit 1; fi; {REFUSED}"#
    );
    let mut retries = Retries::default();
    (retries.first_pause, retries.jitter) = (Duration::from_millis(400), false);
    let agent = shell(&script).retries(retries).breaker(BreakerLimits::new(1, LONG_GRACE)).build();
    let mut waits = execute(&agent);
    assert_eq!(crate::stage::next(&mut waits).await.kind, MessageKind::Error);
    let canceller = waits.canceller();
    eventually("the first attempt has ended", || canceller.pid().is_none());
    assert_eq!(all(&mut execute(&agent)).await.1.end, End::AuthenticationFailed);
    let report = within(waits.wait()).await;
    assert_eq!((report.end, report.attempts), (End::BreakerOpen, 1));
    assert_eq!(tries.lines(), 2);
}

#[tokio::test]
async fn agents_with_one_login_have_one_breaker() {
    let refused = shell(REFUSED).breaker(BreakerLimits::new(1, LONG_GRACE)).build();
    let other = shell(RESULT).breaker_of(&refused).build();
    assert_eq!(all(&mut execute(&other)).await.1.end, End::Answered);
    assert_eq!(all(&mut execute(&refused)).await.1.end, End::AuthenticationFailed);
    let error = other.execute("a prompt").expect_err("it is open for both");
    assert!(matches!(error, AgentError::BreakerOpen { .. }), "{error:?}");
    assert_eq!((refused.stats().breaker, other.stats().breaker), (BreakerState::Open, BreakerState::Open));
}

#[tokio::test]
async fn who_drops_an_execution_that_was_refused_has_told_the_breaker_all_the_same() {
    let script = format!("{REFUSED}; exec sleep 100");
    let agent = shell(&script).breaker(BreakerLimits::new(2, LONG_GRACE)).build();
    for _ in 0..2 {
        let mut execution = execute(&agent);
        assert_eq!(crate::stage::next(&mut execution).await.kind, MessageKind::AuthenticationError);
    }
    assert_eq!(agent.stats().breaker, BreakerState::Open);
}

#[tokio::test]
async fn who_drops_an_execution_with_its_result_has_told_the_breaker_of_a_login() {
    let logged_in = Witness::new();
    let script = format!("if [ -e {logged_in} ]; then {RESULT}; exec sleep 100; else {REFUSED}; fi");
    let agent = shell(&script).breaker(BreakerLimits::new(1, Duration::from_millis(10))).build();
    assert_eq!(all(&mut execute(&agent)).await.1.end, End::AuthenticationFailed);
    std::fs::write(&logged_in.0, "").expect("our own file");
    eventually("the pause is over", || agent.stats().breaker == BreakerState::HalfOpen);
    let deadline = std::time::Instant::now() + crate::scene::PATIENCE;
    // On a busy machine the probe may be out for longer than so short a pause, and then has no say.
    while agent.stats().breaker != BreakerState::Closed {
        assert!(std::time::Instant::now() < deadline, "no probe has closed it");
        let Ok(mut probe) = agent.execute("a prompt") else { continue };
        assert_eq!(crate::stage::next(&mut probe).await.kind, MessageKind::Result);
    }
}

#[tokio::test]
async fn a_panic_of_the_owners_own_set_up_leaves_neither_an_execution_nor_a_shut_breaker() {
    let panics = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&panics);
    let agent = shell(REFUSED).breaker(BreakerLimits::new(1, Duration::ZERO));
    let agent = agent.configure(move |_| {
        if asked.load(Ordering::SeqCst) {
            std::panic::resume_unwind(Box::new("a panic without a message on stderr"));
        }
    });
    let agent = agent.build();
    assert_eq!(all(&mut execute(&agent)).await.1.end, End::AuthenticationFailed);
    panics.store(true, Ordering::SeqCst);
    let panicked = catch_unwind(AssertUnwindSafe(|| agent.execute("a prompt").map(drop)));
    assert!(panicked.is_err());
    panics.store(false, Ordering::SeqCst);
    let cleanup = within(agent.cleanup()).await;
    assert_eq!((cleanup.cleaned, cleanup.is_complete()), (0, true), "{cleanup}");
    assert_eq!(all(&mut execute(&agent)).await.1.end, End::AuthenticationFailed, "it is let through");
    assert_eq!((agent.stats().started, agent.stats().live), (2, 0));
}
