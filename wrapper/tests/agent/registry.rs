//! The rest of the original suite: what an agent runs is on the registry, and can be counted, found and ended there.
//!
//! | name | test |
//! |---|---|
//! | single shared instance | `agents_without_a_minder_of_their_own_are_on_the_one_that_all_share` |
//! | registration | `an_agent_that_runs_is_on_the_registry_with_its_streams` |
//! | deregistration | `what_has_ended_or_was_dropped_is_off_the_registry` |
//! | statistics | `the_registry_counts_attempts_as_runs_and_how_they_ended` |
//! | clean-up of all | `a_shutdown_ends_every_agent_and_refuses_further_ones` |
//! | graceful then forced | `a_shutdown_asks_first_and_kills_whoever_does_not_listen` |
//! | leak detection | `whoever_is_there_for_too_long_is_named_with_where_it_was_begun` |

use std::time::Duration;

use childminder::agent::{AgentBuilder, AgentError, End, Execution, Phase, Retries};
use childminder::{Kind, Minder, StartError};

use crate::scene::{LONG_GRACE, PATIENCE, assert_all_dead, eventually, within};
use crate::stage::{RESULT, TELL_PID, Witness, all, execute, pids, shell};

fn hangs(minder: &Minder) -> AgentBuilder {
    shell(&format!("{TELL_PID}; exec sleep 100")).minder(minder)
}

fn deaf(minder: &Minder) -> AgentBuilder {
    shell(&format!("trap '' TERM; {TELL_PID}; sleep 100; sleep 100")).minder(minder)
}

/// The pids that a minder knows of runs.
fn known(minder: &Minder) -> Vec<u32> {
    let resources = minder.resources().into_iter();
    resources.filter(|one| one.kind == Kind::Process).filter_map(|one| one.pid).collect()
}

#[tokio::test]
async fn agents_without_a_minder_of_their_own_are_on_the_one_that_all_share() {
    let agent = shell(&format!("{TELL_PID}; exec sleep 100")).build();
    let mut execution = execute(&agent);
    let pid = pids(&mut execution, 1).await[0];
    assert!(known(&Minder::shared()).contains(&pid));
    let _noted = Minder::shared().register(Kind::Task, format!("a task beside {pid}"));
    let listed = Minder::shared().resources();
    assert!(listed.iter().any(|one| one.description == format!("a task beside {pid}")), "it is one instance");
    assert!(!known(&Minder::new()).contains(&pid));
    execution.cancel();
    within(execution.wait()).await;
    assert!(!known(&Minder::shared()).contains(&pid));
}

#[tokio::test]
async fn an_agent_that_runs_is_on_the_registry_with_its_streams() {
    let minder = Minder::new();
    let agent = hangs(&minder).timeout(LONG_GRACE).build();
    let line = line!() + 1;
    let mut execution = agent.execute("a prompt").expect("it starts");
    let pid = pids(&mut execution, 1).await[0];
    let resources = minder.resources();
    let run = resources.iter().find(|one| one.kind == Kind::Process).expect("it runs");
    assert_eq!((run.pid, &run.description[..]), (Some(pid), "agent that speaks JSON, execution 1"));
    assert_eq!(run.metadata, [("attempt".to_owned(), "1".to_owned())]);
    assert_eq!((run.created_at.file(), run.created_at.line()), (file!(), line));
    let totals = minder.stats().resources;
    assert_eq!((totals.process, totals.timer), (1, 1));
    assert!(totals.stream >= 2, "{totals:?}");
}

#[tokio::test]
async fn what_has_ended_or_was_dropped_is_off_the_registry() {
    let minder = Minder::new();
    let agent = shell(RESULT).minder(&minder).build();
    all(&mut execute(&agent)).await;
    assert_eq!(minder.stats().resources.all(), 0, "{:?}", minder.resources());
    let agent = hangs(&minder).build();
    let mut execution = execute(&agent);
    let tree = pids(&mut execution, 1).await;
    assert_eq!(minder.stats().resources.process, 1);
    drop(execution);
    eventually("it is off the registry", || minder.stats().resources.all() == 0);
    assert_all_dead(&tree);
}

#[tokio::test]
async fn the_registry_counts_attempts_as_runs_and_how_they_ended() {
    let minder = Minder::new();
    let witness = Witness::new();
    let mut retries = Retries::default();
    retries.first_pause = Duration::from_millis(1);
    let script = format!("echo >> {witness}; [ $(wc -l < {witness}) -gt 2 ] || exit 75; {RESULT}");
    let agent = shell(&script).minder(&minder).retries(retries).build();
    assert_eq!(all(&mut execute(&agent)).await.1.attempts, 3);
    let hanging = hangs(&minder).build();
    let mut cancelled = execute(&hanging);
    cancelled.cancel();
    within(cancelled.wait()).await;
    let stats = minder.stats();
    assert_eq!((stats.starts, stats.ends.by_itself, stats.ends.cancelled, stats.ends.all()), (4, 3, 1, 4));
    assert_eq!((stats.resources.all(), stats.failed_ends, stats.escalations), (0, 0, 0));
}

#[tokio::test]
async fn a_shutdown_ends_every_agent_and_refuses_further_ones() {
    let minder = Minder::new();
    let agent = hangs(&minder).build();
    let mut executions: Vec<Execution> = (0..3).map(|_| execute(&agent)).collect();
    let mut tree = Vec::new();
    for execution in &mut executions {
        tree.extend(pids(execution, 1).await);
    }
    let shutdown = within(minder.shutdown(PATIENCE)).await;
    assert!(shutdown.is_clean(), "{shutdown:?}");
    assert_eq!(shutdown.cleaned.process, 3);
    assert_all_dead(&tree);
    for mut execution in executions {
        assert_eq!(within(execution.wait()).await.end, End::Cancelled);
    }
    let error = agent.execute("a prompt").expect_err("it is shut down");
    assert!(matches!(error, AgentError::Start(StartError::ShutDown)), "{error:?}");
}

#[tokio::test]
async fn a_shutdown_asks_first_and_kills_whoever_does_not_listen() {
    let minder = Minder::new();
    let (polite, deaf) = (hangs(&minder).build(), deaf(&minder).build());
    let (mut listens, mut does_not) = (execute(&polite), execute(&deaf));
    let mut tree = pids(&mut listens, 1).await;
    tree.extend(pids(&mut does_not, 1).await);
    // Who does not listen is killed when four tenths of that are over, and has two more to end, which a busy machine may
    // need.
    let shutdown = minder.shutdown(PATIENCE * 2);
    let shutdown = tokio::time::timeout(PATIENCE * 3, shutdown).await.expect("it is bounded");
    assert!(shutdown.is_clean(), "{shutdown:?}");
    assert_all_dead(&tree);
    let stop = |report: childminder::agent::ExecutionReport| report.outcome.and_then(|outcome| outcome.stop);
    let listened = stop(within(listens.wait()).await).expect("it was stopped");
    let was_killed = stop(within(does_not.wait()).await).expect("it was stopped");
    assert!(listened.killed.is_none() && was_killed.killed.is_some(), "{listened:?}, {was_killed:?}");
    assert_eq!(minder.stats().escalations, 1);
}

#[tokio::test]
async fn a_shutdown_ends_the_pause_before_another_attempt() {
    let minder = Minder::new();
    let mut retries = Retries::default();
    (retries.first_pause, retries.longest_pause, retries.deadline) = (LONG_GRACE, LONG_GRACE, None);
    let agent = shell("exit 75").minder(&minder).retries(retries).build();
    let mut execution = execute(&agent);
    let ends = tokio::spawn(async move { (execution.wait().await, execution.phase()) });
    // The task and the test take turns.
    within(async {
        while minder.stats().resources.timer == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let pause = minder.resources().into_iter().find(|one| one.kind == Kind::Timer).expect("it pauses");
    assert!(pause.description.ends_with("until the next attempt"), "{pause}");
    let shutdown = within(minder.shutdown(PATIENCE)).await;
    assert!(shutdown.is_clean(), "{shutdown:?}");
    let (report, phase) = within(ends).await.expect("it does not panic");
    assert_eq!((report.end, report.attempts, phase), (End::Cancelled, 1, Phase::Over));
}

#[tokio::test]
async fn whoever_is_there_for_too_long_is_named_with_where_it_was_begun() {
    let minder = Minder::new();
    let agent = hangs(&minder).build();
    let line = line!() + 1;
    let mut old = agent.execute("an old one").expect("it starts");
    let pid = pids(&mut old, 1).await[0];
    let age = Duration::from_millis(200);
    eventually("it is too old", || !minder.overdue(age).overdue.is_empty());
    let mut young = execute(&agent);
    pids(&mut young, 1).await;
    let leaks = minder.overdue(age * 1000);
    assert_eq!(leaks.overdue.len(), 0, "{leaks}");
    let leaks = minder.overdue(age);
    let oldest = leaks.overdue.first().expect("it is still there");
    assert_eq!((oldest.kind, oldest.pid, oldest.created_at.line()), (Kind::Process, Some(pid), line));
    assert!(within(agent.cleanup()).await.is_complete());
    assert_eq!(minder.overdue(Duration::ZERO).overdue.len(), 0);
}
