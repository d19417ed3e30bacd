//! Whatever happens to the owner's tasks, threads and runtime, the run ends.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use childminder::{Run, State};
use tokio::runtime::{Builder, Runtime};

use crate::scene::{LONG_GRACE, eventually, is_alive, pids, sh, start, state_of};

const TREE: &str = "sleep 100 & echo $!; echo $$; wait";

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// A run in a runtime of its own, and the pids of its tree.
fn started(runtime: &Runtime) -> (Run, Vec<u32>) {
    runtime.block_on(async {
        let mut run = start(sh(TREE).grace(LONG_GRACE));
        let tree = pids(&mut run, 2).await;
        (run, tree)
    })
}

#[track_caller]
fn assert_gone_soon(tree: &[u32]) {
    eventually("the tree is dead", || !tree.iter().any(|pid| is_alive(*pid)));
    eventually("the leader is reaped", || state_of(tree[1]).is_none());
}

#[test]
fn a_drop_needs_no_runtime() {
    let runtime = runtime();
    let (run, tree) = started(&runtime);
    drop(runtime);
    drop(run);
    assert_gone_soon(&tree);
}

#[test]
fn a_drop_does_not_block() {
    let runtime = runtime();
    let (run, deaf) = runtime.block_on(async {
        let mut run = start(sh("trap '' TERM; echo $$; sleep 100; sleep 100").grace(LONG_GRACE));
        let deaf = pids(&mut run, 1).await[0];
        (run, deaf)
    });
    let canceller = run.canceller();
    drop(run);
    assert!(is_alive(deaf), "the drop has waited for its end");
    canceller.cancel();
    canceller.cancel();
    eventually("it is killed", || !is_alive(deaf));
}

/// A task waits for a run while its runtime is shut down.
fn shut_down_with_a_run(runtime: Runtime, shut_down: impl FnOnce(Runtime)) {
    let (mut run, tree) = started(&runtime);
    runtime.spawn(async move { run.wait().await });
    shut_down(runtime);
    assert_gone_soon(&tree);
}

#[test]
fn a_current_thread_runtime_that_is_dropped_takes_the_runs_of_its_tasks_along() {
    shut_down_with_a_run(runtime(), drop);
}

#[test]
fn a_multi_thread_runtime_that_is_dropped_takes_the_runs_of_its_tasks_along() {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    shut_down_with_a_run(runtime, drop);
}

#[test]
fn a_runtime_that_is_shut_down_in_the_background_takes_the_runs_of_its_tasks_along() {
    shut_down_with_a_run(runtime(), Runtime::shutdown_background);
}

#[test]
fn a_runtime_that_is_shut_down_with_a_timeout_takes_the_runs_of_its_tasks_along() {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    shut_down_with_a_run(runtime, |runtime| runtime.shutdown_timeout(Duration::from_millis(1)));
}

#[test]
fn a_task_that_is_aborted_takes_its_run_along() {
    let runtime = runtime();
    let (mut run, tree) = started(&runtime);
    runtime.block_on(async {
        let task = tokio::spawn(async move { run.wait().await });
        tokio::task::yield_now().await;
        task.abort();
        assert!(task.await.is_err_and(|error| error.is_cancelled()));
    });
    assert_gone_soon(&tree);
}

#[test]
fn a_future_that_is_dropped_takes_its_run_along() {
    let runtime = runtime();
    let path = std::env::temp_dir().join(format!("childminder-future-{}", std::process::id()));
    let script = format!("touch {}; sleep 100", path.display());
    runtime.block_on(async {
        let future = sh(&script).run();
        eventually("it has started", || path.exists());
        assert!(somebody_was_given(&script), "it is not to be seen");
        drop(future);
    });
    std::fs::remove_file(&path).expect("our own file");
    eventually("it is dead, and its nanny too", || !somebody_was_given(&script));
}

/// Whether a live process has this among its arguments.
fn somebody_was_given(script: &str) -> bool {
    let processes = std::fs::read_dir("/proc").expect("a list of processes");
    let arguments = |entry: std::io::Result<std::fs::DirEntry>| {
        String::from_utf8(std::fs::read(entry.ok()?.path().join("cmdline")).ok()?).ok()
    };
    processes.filter_map(arguments).any(|words| words.split('\0').any(|word| word == script))
}

#[test]
fn a_panic_takes_the_run_along_as_it_unwinds() {
    let runtime = runtime();
    let (run, tree) = started(&runtime);
    let panicked = catch_unwind(AssertUnwindSafe(move || {
        let _run = run;
        std::panic::resume_unwind(Box::new("a panic without a message on stderr"));
    }));
    assert!(panicked.is_err());
    assert_gone_soon(&tree);
}

#[test]
fn a_run_can_be_waited_for_from_another_runtime() {
    let first = runtime();
    let (mut run, tree) = started(&first);
    drop(first);
    assert_eq!(run.state(), State::Running);
    assert!(
        tree.iter().all(|pid| is_alive(*pid)),
        "it was stopped by the end of a runtime that did not hold it"
    );
    run.cancel();
    let outcome = runtime().block_on(async { crate::scene::within(run.wait()).await });
    assert!(outcome.stop.is_some());
    assert_gone_soon(&tree);
}

#[test]
fn a_run_moves_between_threads() {
    fn is_send_and_sync<T: Send + Sync>() {}
    is_send_and_sync::<Run>();
    is_send_and_sync::<childminder::Canceller>();
    is_send_and_sync::<childminder::Command>();
    is_send_and_sync::<childminder::Outcome>();
    is_send_and_sync::<childminder::StartError>();
}
