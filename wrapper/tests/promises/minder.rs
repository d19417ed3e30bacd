//! The registry: who is on it and for how long, what is counted, and how it is emptied.

use std::sync::mpsc::channel;
use std::time::Duration;

use childminder::{
    Ended, Input, KillCause, Kind, Minder, Output, Rang, Reason, Resource, Run, StartError, State, Totals,
};
use tokio::io::AsyncWriteExt;

use crate::scene::{LONG_GRACE, PATIENCE, assert_all_dead, eventually, lines, pids, sh, start, within};

/// A child that starts another one and tells the numbers of both.
fn family(minder: &Minder) -> Run {
    let mut command = sh("sleep 60 & echo $$; echo $!; wait");
    start(command.minder(minder).grace(LONG_GRACE))
}

fn of_kind(resources: Vec<Resource>, kind: Kind) -> Vec<Resource> {
    resources.into_iter().filter(|resource| resource.kind == kind).collect()
}

#[tokio::test]
async fn a_run_is_on_the_registry_with_its_streams_and_timers_from_its_start_to_its_end() {
    let minder = Minder::new();
    let mut command = sh("echo ready; read line");
    command.minder(&minder).timeout(LONG_GRACE).idle_timeout(LONG_GRACE).stdin(Input::Piped);
    command.describe("the reader").note("prompt", "7");
    let line = line!() + 1;
    let mut run = command.stdout(Output::Streamed).start().expect("the command starts");
    lines(&mut run, 1).await;

    let resources = minder.resources();
    let named: Vec<_> = resources.iter().map(|one| (one.kind, one.description.as_str())).collect();
    assert_eq!(
        named,
        [
            (Kind::Process, "the reader"),
            (Kind::Stream, "stdin of the reader"),
            (Kind::Stream, "stdout of the reader"),
            (Kind::Stream, "stderr of the reader"),
            (Kind::Timer, "timeout of the reader"),
            (Kind::Timer, "idle timeout of the reader"),
        ]
    );
    for resource in &resources {
        assert_eq!((resource.run, resource.pid), (Some(run.id()), run.pid()));
        assert_eq!(resource.state, Some(State::Running));
        assert_eq!(resource.metadata, [("prompt".to_owned(), "7".to_owned())]);
        assert_eq!((resource.created_at.file(), resource.created_at.line()), (file!(), line));
    }
    let stats = minder.stats();
    assert_eq!((stats.starts, stats.ends.all(), stats.runs.running), (1, 0, 1));

    drop(run.stdin());
    let left = of_kind(minder.resources(), Kind::Stream);
    assert!(left.iter().all(|stream| !stream.description.starts_with("stdin")), "{left:?}");
    within(run.wait()).await;
    let stats = minder.stats();
    assert_eq!((stats.resources.all(), stats.oldest), (0, None), "{:?}", minder.resources());
    assert_eq!((stats.starts, stats.ends.by_itself, stats.ends.all()), (1, 1, 1));
}

#[tokio::test]
async fn the_grace_of_a_stop_is_a_timer_of_the_registry_and_is_there_in_place_of_the_timeout() {
    let minder = Minder::new();
    let mut command = sh("trap '' TERM; echo ready; sleep 100");
    command.minder(&minder).timeout(LONG_GRACE).grace(LONG_GRACE).describe("the deaf one");
    let mut run = start(&mut command);
    lines(&mut run, 1).await;
    let timers = || {
        let timers = of_kind(minder.resources(), Kind::Timer).into_iter();
        timers.map(|timer| (timer.description, timer.age)).collect::<Vec<_>>()
    };
    assert!(matches!(&timers()[..], [(name, _)] if name == "timeout of the deaf one"), "{:?}", timers());
    let asked = std::time::Instant::now();
    run.cancel();
    eventually("its grace runs", || timers().iter().any(|(name, _)| name == "grace of the deaf one"));
    let [(_, age)] = &timers()[..] else { panic!("{:?}", timers()) };
    assert!(*age <= asked.elapsed(), "it began with the stop: {age:?}");
    run.cancel();
    within(run.wait()).await;
    assert_eq!(minder.stats().resources.all(), 0, "{:?}", minder.resources());
}

#[tokio::test]
async fn a_stdin_that_outlives_its_run_is_still_on_the_registry() {
    let minder = Minder::new();
    let mut run = sh("exit 0").minder(&minder).stdin(Input::Piped).start().expect("the command starts");
    let stdin = run.stdin().expect("it is piped");
    within(run.wait()).await;
    let left = minder.stats().resources;
    assert_eq!((left.stream, left.all()), (1, 1), "{:?}", minder.resources());
    drop(stdin);
    assert_eq!(minder.stats().resources.all(), 0);
}

#[tokio::test]
async fn runs_whose_command_names_no_minder_are_on_the_one_that_all_share() {
    let run = start(&mut sh("sleep 60"));
    let id = run.id();
    let is_there = move || Minder::shared().resources().iter().any(|one| one.run == Some(id));
    assert!(is_there());
    drop(run);
    eventually("the dropped run is off the registry", || !is_there());
}

#[tokio::test]
async fn a_failed_start_is_counted_and_leaves_nothing_on_the_registry() {
    let minder = Minder::new();
    let mut command = childminder::Command::new("/nowhere/at/all");
    command.minder(&minder).stdin(Input::Piped).start().expect_err("there is no such program");
    let stats = minder.stats();
    assert_eq!((stats.starts, stats.failed_starts, stats.resources.all()), (0, 1, 0));
}

#[tokio::test]
async fn who_is_there_for_too_long_is_named_with_the_place_where_it_was_created() {
    let minder = Minder::new();
    let line = line!() + 1;
    let registration = minder.register(Kind::Task, "old \u{1b}[31m");
    registration.note("who", "me");
    let age = Duration::from_millis(5);
    eventually("it is old enough", || !minder.overdue(age).overdue.is_empty());
    let report = minder.overdue(age);
    assert!(minder.overdue(LONG_GRACE).overdue.is_empty());
    let [old] = &report.overdue[..] else { panic!("{report}") };
    assert!(old.age >= age);
    let text = report.to_string();
    for part in [&format!("{}:{line}:", file!()), "task", "\"who\" = \"me\"", "\\u{1b}[31m"] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    drop(registration);
    assert!(minder.overdue(Duration::ZERO).overdue.is_empty());
}

#[tokio::test]
async fn a_shutdown_ends_every_run_and_whoever_waits_is_told() {
    let minder = Minder::new();
    let mut waited = family(&minder);
    let numbers = pids(&mut waited, 2).await;
    let mut forgotten = family(&minder);
    let others = pids(&mut forgotten, 2).await;
    let report = within(minder.shutdown(LONG_GRACE)).await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.cleaned.process, 2);
    assert_all_dead(&[numbers, others].concat());
    let outcome = within(waited.wait()).await;
    assert_eq!(outcome.ended, Ended::Stopped(Reason::ShutDown));
    assert!(outcome.stop.is_some_and(|stop| stop.killed.is_none()));
    let stats = minder.stats();
    assert_eq!((stats.ends.shut_down, stats.resources.all(), stats.escalations), (2, 0, 0));
    drop(forgotten);
}

#[tokio::test]
async fn a_shutdown_kills_whoever_does_not_hear_in_time_for_its_bound() {
    let minder = Minder::new();
    let mut run =
        start(sh("trap '' TERM; echo ready; while :; do sleep 60; done").minder(&minder).grace(LONG_GRACE));
    lines(&mut run, 1).await;
    // It is killed when four tenths of that are over, and has two more to end, which a busy machine may need.
    let shutdown = minder.shutdown(PATIENCE * 2);
    let report = tokio::time::timeout(PATIENCE * 3, shutdown).await.expect("it is bounded");
    assert!(report.is_clean(), "{report}");
    let outcome = within(run.wait()).await;
    assert_eq!(outcome.ended, Ended::Stopped(Reason::ShutDown));
    let kill = outcome.stop.and_then(|stop| stop.killed).expect("it was killed");
    assert_eq!(kill.because, KillCause::AskedAgain);
    let stats = minder.stats();
    assert_eq!((stats.escalations, stats.time_to_empty.count), (1, 1));
}

#[tokio::test]
async fn nothing_is_started_after_a_shutdown_has_begun() {
    let minder = Minder::new();
    drop(minder.shutdown(PATIENCE));
    let refused = sh("true").minder(&minder).start();
    assert!(matches!(refused, Err(StartError::ShutDown)), "{refused:?}");
    assert!(minder.register(Kind::Task, "late").is_closing());
    let task = minder.spawn("late", async { panic!("it was polled") });
    assert!(within(task).await.expect_err("it was aborted").is_cancelled());
    assert_eq!(within(minder.timer("late", LONG_GRACE)).await, Rang::ShutDown);
    assert_eq!(minder.stats().failed_starts, 1);
}

#[tokio::test]
async fn a_shutdown_goes_through_the_kinds_in_their_order() {
    let minder = Minder::new();
    let (say, said) = channel();
    let mut kept = Vec::new();
    for kind in [Kind::SignalHandler, Kind::Timer, Kind::Task, Kind::Stream, Kind::Process] {
        let registration = minder.register(kind, "one of its kind");
        let (say, ended) = (say.clone(), registration.closing());
        registration.on_shutdown(move || say.send(kind)).expect("nobody has shut it down");
        kept.push(tokio::spawn(async move {
            ended.await;
            drop(registration);
        }));
    }
    let report = within(minder.shutdown(PATIENCE)).await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.cleaned.all(), 5);
    drop(say);
    assert_eq!(said.iter().collect::<Vec<_>>(), Kind::ALL);
}

#[tokio::test]
async fn a_shutdown_aborts_tasks_and_rings_timers() {
    let minder = Minder::new();
    let task = minder.spawn("for ever", std::future::pending::<()>());
    let timer = minder.timer("for ever", LONG_GRACE);
    let forgotten = minder.timer("nobody polls it", LONG_GRACE);
    let waiting = tokio::spawn(timer);
    assert_eq!(minder.stats().resources.all(), 3);
    let report = within(minder.shutdown(PATIENCE)).await;
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.cleaned.task, report.cleaned.timer), (1, 2));
    assert!(within(task).await.expect_err("it was aborted").is_cancelled());
    assert_eq!(within(waiting).await.expect("it did not panic"), Rang::ShutDown);
    drop(forgotten);
}

#[tokio::test]
async fn what_ends_by_itself_is_off_the_registry() {
    let minder = Minder::new();
    assert_eq!(within(minder.spawn("short", async { 7 })).await.expect("it did not panic"), 7);
    within(minder.spawn("bad", async { std::panic::resume_unwind(Box::new(())) }))
        .await
        .expect_err("it panicked");
    let mut timer = minder.timer("short", Duration::ZERO);
    assert_eq!(within(&mut timer).await, Rang::InTime);
    assert_eq!(minder.stats().resources.all(), 0, "{:?}", minder.resources());
}

/// Everything that can go wrong is told, and none of it keeps a shutdown from what comes later.
#[tokio::test]
async fn what_goes_wrong_in_a_shutdown_is_told_and_hinders_nobody() {
    // A tenth of it is for a kind, which may be little for a busy machine.
    for seconds in [5, 50] {
        if everything_goes_wrong(Duration::from_secs(seconds)).await {
            return;
        }
    }
    panic!("those who can end or tell what is wrong did not come to it");
}

/// Whether those who can end, or tell what is wrong, came to it within such a bound.
async fn everything_goes_wrong(bound: Duration) -> bool {
    let minder = Minder::new();
    let stays = minder.register(Kind::Stream, "it stays");
    let fails = minder.register(Kind::Task, "it fails");
    fails.on_shutdown(|| Err("out of paper")).expect("nobody has shut it down");
    let panics = minder.register(Kind::Task, "it panics");
    // Without the hook that would write a message to the test's output.
    let panic = || -> Result<(), String> { std::panic::resume_unwind(Box::new("on fire")) };
    panics.on_shutdown(panic).expect("nobody has shut it down");
    let blocks = minder.register(Kind::Timer, "it blocks");
    let (let_go, wait) = channel::<()>();
    let block = move || wait.recv().or(Ok::<_, String>(()));
    blocks.on_shutdown(block).expect("nobody has shut it down");
    let ends = minder.register(Kind::SignalHandler, "it ends");
    let closing = ends.closing();
    let ending = tokio::spawn(async move {
        closing.await;
        drop(ends);
    });
    let report = tokio::time::timeout(bound * 2, minder.shutdown(bound)).await.expect("it is bounded");
    within(ending).await.expect("it did not panic");
    let of = |who: &str| {
        let errors = report.errors.iter().filter(|error| error.resource.description == who);
        errors.map(|error| error.why.as_str()).collect::<Vec<_>>()
    };
    if report.cleaned.all() == 0 || of("it fails").len() < 2 || of("it panics").len() < 2 {
        return false;
    }
    assert_eq!((report.cleaned.all(), report.cleaned.signal_handler), (1, 1), "{report}");
    let failed = Totals::clone(&report.failed);
    assert_eq!((failed.stream, failed.task, failed.timer, failed.all()), (1, 2, 1, 4), "{report}");
    let still_there = "it was still there when its bound was over";
    assert_eq!(of("it stays"), [still_there]);
    assert_eq!(of("it fails"), ["out of paper", still_there]);
    assert_eq!(of("it panics"), ["panicked: on fire", still_there]);
    assert_eq!((of("it blocks").len(), of("it blocks").last()), (2, Some(&still_there)));
    drop((stays, fails, panics, blocks, let_go));
    true
}

#[tokio::test]
async fn a_closer_that_comes_after_the_shutdown_is_called_at_once() {
    let minder = Minder::new();
    within(minder.shutdown(PATIENCE)).await;
    let late = minder.register(Kind::Task, "late");
    let error = late.on_shutdown(|| Err("too late")).expect_err("it is called, and fails");
    assert!(error.to_string().contains("too late"), "{error}");
}

#[tokio::test]
async fn shutdowns_at_the_same_time_all_come_to_an_end_and_the_next_finds_nothing() {
    let minder = Minder::new();
    let mut run = family(&minder);
    let numbers = pids(&mut run, 2).await;
    let (one, other) = (minder.shutdown(LONG_GRACE), minder.shutdown(LONG_GRACE));
    let (one, other) = (within(one).await, within(other).await);
    assert!(one.is_clean() && other.is_clean(), "{one} {other}");
    assert_all_dead(&numbers);
    let third = within(minder.shutdown(LONG_GRACE)).await;
    assert_eq!((third.cleaned.all(), third.is_clean()), (0, true), "{third}");
}

#[test]
fn a_shutdown_needs_no_runtime() {
    let minder = Minder::new();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (run, numbers) = runtime.block_on(async {
        let mut run = family(&minder);
        let numbers = pids(&mut run, 2).await;
        (run, numbers)
    });
    runtime.shutdown_background();
    let report = minder.shutdown_blocking(PATIENCE);
    assert!(report.is_clean(), "{report}");
    assert_all_dead(&numbers);
    drop(run);
}

#[tokio::test]
async fn a_shutdown_closes_the_stdin_of_a_run_and_whoever_writes_to_it_is_told() {
    let minder = Minder::new();
    // What leaves the session is still held by the nanny, and reads nothing.
    let mut run = start(sh("echo ready; exec sleep 60").minder(&minder).stdin(Input::Piped));
    lines(&mut run, 1).await;
    let mut stdin = run.stdin().expect("it is piped");
    let writing =
        tokio::spawn(
            async move { stdin.write_all(&vec![b'x'; 1 << 20]).await.map_err(|error| error.kind()) },
        );
    let report = within(minder.shutdown(PATIENCE)).await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(within(writing).await.expect("it did not panic"), Err(std::io::ErrorKind::BrokenPipe));
    assert_eq!(minder.stats().resources.all(), 0);
}

#[tokio::test]
async fn the_states_of_a_run_are_told_each_in_its_turn() {
    let run = start(&mut sh("exit 0"));
    let states = [run.states(), run.states()];
    let canceller = run.canceller();
    eventually("it is over", || run.state() == State::Terminated);
    drop(run);
    let all =
        [State::Idle, State::Starting, State::Running, State::Terminating, State::Terminated, State::Idle];
    for mut states in states.into_iter().chain([canceller.states()]) {
        let mut seen = Vec::new();
        while let Some(state) = within(states.next()).await {
            seen.push(state);
        }
        assert_eq!(seen, all);
    }
}

/// Whatever comes at the same time as a shutdown, from whatever thread: it is refused, or it is ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_is_begun_at_the_same_time_as_a_shutdown_is_refused_or_ended() {
    for round in 0..10 {
        let minder = Minder::new();
        let workers: Vec<_> = (0..3).map(|_| tokio::spawn(begin_all_kinds(minder.clone()))).collect();
        // At another moment in each round; that moment is what is tried.
        tokio::time::sleep(Duration::from_micros(round * 500)).await;
        // No time for anybody's grace.
        let now = minder.shutdown(Duration::ZERO);
        let rest = minder.shutdown(LONG_GRACE);
        for worker in workers {
            within(worker).await.expect("nothing was wrong");
        }
        drop(within(now).await);
        let report = within(rest).await;
        assert!(report.is_clean(), "{report}");
        let stats = minder.stats();
        assert_eq!(stats.resources.all(), 0, "{:?}", minder.resources());
        assert_eq!((stats.starts, stats.failed_ends), (stats.ends.all(), 0));
    }
}

/// Begins things until it is refused, but not many, and waits for the end of all of them.
async fn begin_all_kinds(minder: Minder) {
    let mut ends = Vec::new();
    for _ in 0..4 {
        // So that somebody hears when the time for the shutdown has come.
        tokio::task::yield_now().await;
        let task = minder.spawn("for ever", std::future::pending::<()>());
        let timer = tokio::spawn(minder.timer("for ever", LONG_GRACE));
        let registration = minder.register(Kind::SignalHandler, "a handler");
        let (say, said) = tokio::sync::oneshot::channel();
        let called = registration.on_shutdown(move || say.send(()).map_err(|()| "nobody waits for it"));
        called.expect("somebody waits for it");
        let handler = tokio::spawn(async move {
            said.await.expect("it is called");
            drop(registration);
        });
        childminder::Command::new("/nowhere/at/all").minder(&minder).start().expect_err("it is not there");
        let mut deaf = sh("trap '' TERM; exec sleep 600");
        deaf.minder(&minder).grace(LONG_GRACE).stdout(Output::Null).stderr(Output::Null);
        let started = deaf.start();
        let is_refused = matches!(started, Err(StartError::ShutDown));
        ends.push((task, timer, handler, started.ok()));
        if is_refused {
            break;
        }
    }
    for (task, timer, handler, run) in ends {
        assert!(within(task).await.expect_err("it was aborted").is_cancelled());
        assert_eq!(within(timer).await.expect("it did not panic"), Rang::ShutDown);
        within(handler).await.expect("it did not panic");
        if let Some(mut run) = run {
            assert_eq!(within(run.wait()).await.ended, Ended::Stopped(Reason::ShutDown));
        }
    }
}

#[tokio::test]
async fn whoever_watches_a_run_from_ever_new_tasks_leaves_nothing_behind_at_it() {
    let run = start(&mut sh("exec sleep 60"));
    let mut states = run.states();
    for _ in 0..3 {
        within(states.next()).await;
    }
    let waker = std::sync::Arc::new(Nobody);
    for _ in 0..100 {
        let task = std::task::Waker::from(std::sync::Arc::new(Nobody));
        let mut own = states.clone();
        let mut next = std::pin::pin!(own.next());
        assert!(next.as_mut().poll(&mut std::task::Context::from_waker(&task)).is_pending());
        let again = std::task::Waker::from(std::sync::Arc::clone(&waker));
        assert!(std::pin::pin!(states.next()).poll(&mut std::task::Context::from_waker(&again)).is_pending());
    }
    assert_eq!(std::sync::Arc::strong_count(&waker), 2, "one waits, and no more");
    drop(states);
    assert_eq!(std::sync::Arc::strong_count(&waker), 1);
}

struct Nobody;

impl std::task::Wake for Nobody {
    fn wake(self: std::sync::Arc<Self>) {}
}
