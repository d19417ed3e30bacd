//! Whatever is done to a run, and in which order: it goes from state to state as the table says, and its child has an owner
//! as long as it lives.

use std::time::Duration;

use childminder::{Command, Event, Input, Kind, Minder, Output, Run, State, Transition};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::scene::{LONG_GRACE, eventually, is_alive, sh, within};

/// What a child is like.
#[derive(Clone, Copy, Debug)]
enum Nature {
    EndsAtOnce,
    Sleeps,
    IsDeaf,
    HasAChild,
    ReadsItsInput,
    Writes,
    KillsItself,
    IsNotThere,
}

/// What can be done to a run, or happen to it.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Cancel,
    CancelElsewhere,
    TakeAnEvent,
    CloseStdin,
    WaitABit,
    ShutDown,
    Drop,
}

fn child() -> impl Strategy<Value = Nature> {
    prop::sample::select(vec![
        Nature::EndsAtOnce,
        Nature::Sleeps,
        Nature::IsDeaf,
        Nature::HasAChild,
        Nature::ReadsItsInput,
        Nature::Writes,
        Nature::KillsItself,
        Nature::IsNotThere,
    ])
}

fn events() -> impl Strategy<Value = Vec<Happening>> {
    let event = prop::sample::select(vec![
        Happening::Cancel,
        Happening::CancelElsewhere,
        Happening::TakeAnEvent,
        Happening::CloseStdin,
        Happening::WaitABit,
        Happening::ShutDown,
        Happening::Drop,
    ]);
    prop::collection::vec(event, 0..6)
}

fn command(child: Nature, minder: &Minder) -> Command {
    let mut command = match child {
        Nature::EndsAtOnce => sh("exit 3"),
        Nature::Sleeps => sh("exec sleep 600"),
        Nature::IsDeaf => sh("trap '' TERM; exec sleep 600"),
        Nature::HasAChild => sh("sleep 600 & sleep 600"),
        Nature::ReadsItsInput => sh("read line"),
        Nature::Writes => sh("exec yes"),
        Nature::KillsItself => sh("sleep 600 & kill -KILL $$"),
        Nature::IsNotThere => Command::new("/nowhere/at/all"),
    };
    command.minder(minder).stdin(Input::Piped).stdout(Output::Streamed).grace(Duration::from_millis(5));
    command.timeout(LONG_GRACE);
    command
}

/// When a process was started: another one with its number would have another time.
fn birth(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19).map(str::to_owned)
}

/// What lives has somebody who knows of it. Found out without stopping the world: it may end between two looks, but not
/// live again.
fn has_an_owner((pid, born): &(u32, Option<String>), minder: &Minder) -> bool {
    let is_known = || minder.resources().iter().any(|one| one.kind == Kind::Process && one.pid == Some(*pid));
    let lives = || is_alive(*pid) && birth(*pid) == *born;
    born.is_none() || !lives() || is_known() || !lives()
}

async fn happen(event: Happening, run: &mut Option<Run>, minder: &Minder) {
    let Some(there) = run else { return };
    match event {
        Happening::Cancel => there.cancel(),
        Happening::CancelElsewhere => there.canceller().cancel(),
        Happening::TakeAnEvent => {
            let taken = tokio::time::timeout(Duration::from_millis(1), there.next_event()).await;
            if let Ok(Some(Event::Ended(_))) = taken {
                assert!(!there.state().is_active(), "{:?}", there.state());
            }
        }
        Happening::CloseStdin => drop(there.stdin()),
        Happening::WaitABit => _ = tokio::time::timeout(Duration::from_millis(2), there.wait()).await,
        Happening::ShutDown => drop(minder.shutdown(LONG_GRACE)),
        Happening::Drop => *run = None,
    }
}

async fn live_through(child: Nature, events: Vec<Happening>) {
    let minder = Minder::new();
    let mut moves = minder.transitions();
    let started = command(child, &minder).start();
    let mut run = match started {
        Ok(run) => Some(run),
        Err(_) => {
            let seen =
                [within(moves.next()).await, within(moves.next()).await].map(|seen| seen.map(Result::unwrap));
            let seen = seen.map(|seen| seen.map(|seen| (seen.from, seen.to)));
            let wanted = [(State::Idle, State::Starting), (State::Starting, State::Failed)];
            assert_eq!(seen, wanted.map(Some));
            assert_eq!((minder.stats().failed_starts, minder.stats().resources.all()), (1, 0));
            return;
        }
    };
    let there = run.as_ref().expect("it was started");
    let mut states = there.states();
    // Of one that was reaped since its start nothing is to be seen.
    let child = there.pid().map(|pid| (pid, birth(pid))).filter(|_| there.pid().is_some());
    for event in events {
        happen(event, &mut run, &minder).await;
        assert!(child.as_ref().is_none_or(|child| has_an_owner(child, &minder)), "{:?}", minder.resources());
    }
    drop(run);
    let mut before = State::Idle;
    assert_eq!(within(states.next()).await, Some(before));
    while let Some(state) = within(states.next()).await {
        assert!(before.leads_to(state), "{before} to {state}");
        let Transition { from, to, .. } =
            within(moves.next()).await.expect("a move").expect("none is missed");
        assert_eq!((from, to), (before, state));
        before = state;
    }
    assert_eq!(before, State::Idle, "nobody is left, and nobody holds it");
    let stats = minder.stats();
    assert_eq!((stats.starts, stats.ends.all(), stats.failed_ends), (1, 1, 0));
    assert_eq!(stats.resources.all(), 0, "{:?}", minder.resources());
    assert!(child.is_none_or(|(pid, born)| !is_alive(pid) || birth(pid) != born));
}

#[test]
fn no_sequence_of_events_leads_to_an_illegal_state_or_to_a_child_without_an_owner() {
    let config = Config { cases: 60, failure_persistence: None, max_shrink_iters: 50, ..Config::default() };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut runner = TestRunner::new(config);
    let lives = runner.run(&(child(), events()), |(child, events)| {
        let life = runtime.spawn(live_through(child, events));
        runtime.block_on(life).map_err(|failure| TestCaseError::fail(failure.to_string()))
    });
    lives.unwrap_or_else(|failure| panic!("{failure}"));
}

#[tokio::test]
async fn a_start_that_is_refused_fails_from_the_state_in_which_it_was_refused() {
    let minder = Minder::new();
    let mut moves = minder.transitions();
    sh("a\0zero").minder(&minder).start().expect_err("it cannot be passed on");
    let made = within(moves.next()).await.expect("a move").expect("none is missed");
    assert_eq!((made.from, made.to), (State::Idle, State::Failed));
    eventually("it is counted", || minder.stats().failed_starts == 1);
}
