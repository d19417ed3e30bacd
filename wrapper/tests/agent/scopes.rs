//! A scope cleans up however it ends; a clean-up has a bound.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use childminder::agent::{Agent, AgentError, End};
use tokio::sync::oneshot;

use crate::scene::{LONG_GRACE, assert_all_dead, eventually, is_alive, within};
use crate::stage::{TELL_PID, execute, next, pids, shell, slow_to_end};

fn hangs() -> Agent {
    shell(&format!("{TELL_PID}; exec sleep 100")).build()
}

fn deaf() -> Agent {
    shell(&format!("trap '' TERM; {TELL_PID}; sleep 100; sleep 100")).grace(LONG_GRACE).build()
}

#[tokio::test]
async fn an_error_leaves_nothing() {
    let agent = hangs();
    let scoped = within(agent.scoped(|agent| async move {
        let mut execution = execute(&agent);
        let tree = pids(&mut execution, 1).await;
        // Somebody keeps it for ever.
        std::mem::forget(execution);
        Err::<(), _>(tree)
    }))
    .await;
    assert_all_dead(&scoped.value.expect_err("the body has failed"));
    assert_eq!(scoped.cleanup.cleaned, 1);
}

#[test]
fn a_panic_goes_on_when_everything_is_cleaned_up() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (sender, receiver) = std::sync::mpsc::channel();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            let agent = hangs();
            let scope = agent.scoped(|agent| async move {
                let mut execution = execute(&agent);
                sender.send(pids(&mut execution, 1).await).expect("the test listens");
                std::mem::forget(execution);
                std::panic::resume_unwind(Box::new("a panic without a message on stderr"));
            });
            let _: childminder::agent::Scoped<()> = within(scope).await;
        });
    }));
    let panic = panicked.expect_err("the panic goes on");
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"a panic without a message on stderr"));
    assert_all_dead(&receiver.recv().expect("it has started"));
}

#[tokio::test]
async fn a_scope_that_is_dropped_takes_along_what_was_carried_out_of_it() {
    let agent = hangs();
    let (sender, receiver) = oneshot::channel();
    let scope = tokio::spawn(async move {
        let scope = agent.scoped(|agent| async move {
            let mut execution = execute(&agent);
            let tree = pids(&mut execution, 1).await;
            assert!(sender.send((tree, execution, agent)).is_ok(), "the test listens");
            std::future::pending::<()>().await;
        });
        let _ = scope.await;
    });
    let (tree, mut execution, within_the_scope) = within(receiver).await.expect("it has started");
    assert!(is_alive(tree[0]));
    scope.abort();
    let report = within(execution.wait()).await;
    assert_eq!(report.end, End::Cancelled);
    assert_all_dead(&tree);
    eventually("the scope is over", || {
        matches!(within_the_scope.execute("a prompt"), Err(AgentError::ScopeOver))
    });
}

#[tokio::test]
async fn an_agent_of_a_scope_begins_nothing_when_the_scope_is_over() {
    let agent = hangs();
    let scoped = within(agent.scoped(|agent| async move { agent })).await;
    let error = scoped.value.execute("a prompt").expect_err("the scope is over");
    assert!(matches!(error, AgentError::ScopeOver), "{error:?}");
    let mut execution = execute(&agent);
    pids(&mut execution, 1).await;
    assert_eq!(agent.stats().refused, 1, "they count together");
}

#[tokio::test]
async fn the_end_of_a_scope_stops_only_what_was_begun_in_it() {
    let agent = hangs();
    let mut outside = execute(&agent);
    let tree = pids(&mut outside, 1).await;
    let scoped = within(agent.scoped(|agent| async move { execute(&agent) })).await;
    assert_eq!(scoped.cleanup.cleaned, 1);
    assert!(is_alive(tree[0]) && outside.report().is_none());
    // What is begun in a scope belongs to the agent as well.
    let scoped = within(agent.scoped(|within_it| {
        let agent = agent.clone();
        async move {
            let _inside = execute(&within_it);
            agent.cleanup().await
        }
    }))
    .await;
    assert_eq!((scoped.value.cleaned, scoped.cleanup.cleaned), (2, 0));
    assert_all_dead(&tree);
}

#[tokio::test]
async fn a_cleanup_does_not_cut_the_grace_short_of_what_was_cancelled_before() {
    let agent = slow_to_end("ready").build();
    let mut execution = execute(&agent);
    next(&mut execution).await;
    execution.cancel();
    let (one, other) = tokio::join!(agent.cleanup(), agent.cleanup());
    assert!(one.is_complete() && other.is_complete());
    let stop = within(execution.wait()).await.outcome.expect("it ran").stop.expect("it was stopped");
    assert!(stop.killed.is_none(), "{stop:?}");
}

#[tokio::test]
async fn a_cleanup_within_a_time_kills_whoever_is_there_when_it_is_over() {
    let agent = deaf();
    let mut execution = execute(&agent);
    let tree = pids(&mut execution, 1).await;
    let cleanup = within(agent.cleanup_within(Duration::from_millis(50))).await;
    assert_eq!((cleanup.cleaned, cleanup.is_complete()), (1, true));
    assert_all_dead(&tree);
}

#[tokio::test]
async fn a_dropped_execution_is_cleaned_up_after_as_well() {
    let agent = deaf();
    let mut execution = execute(&agent);
    let tree = pids(&mut execution, 1).await;
    drop(execution);
    assert!(is_alive(tree[0]), "it is deaf, so it lives");
    let cleanup = within(agent.cleanup_within(Duration::ZERO)).await;
    assert_eq!(cleanup.cleaned, 1);
    assert_all_dead(&tree);
    assert_eq!(agent.stats().ended(End::Dropped), 1);
}
