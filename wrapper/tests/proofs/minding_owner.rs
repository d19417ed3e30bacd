//! Owners that ask their registry.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use childminder::{
    Command, Containment, Ended, Ends, Event, Kind, Minder, Output, Overflow, Reason, Run, RunId, State,
};
use tokio_util::sync::CancellationToken;

use crate::owner::{TREE, perl, runtime, say};
use crate::stage::{Dice, PATIENCE};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(600);

async fn until_ready(run: &mut Run) {
    while let Some(event) = run.next_event().await {
        match event {
            Event::Stdout(_) => return,
            Event::Ended(outcome) => panic!("it ended: {outcome:?}"),
            _ => {}
        }
    }
}

/// Has three trees of members who are hard to end, and this grace for each. Says what the shutdown has done that a signal
/// has caused.
pub(crate) fn shut_down_on_signals(grace_ms: &str) -> ExitCode {
    let grace = Duration::from_millis(grace_ms.parse().expect("a number"));
    runtime().block_on(async {
        let minder = Minder::shared();
        let mut moves = minder.transitions();
        let signals = minder.shutdown_on_signals(LONG).expect("there are signals");
        let mut runs = Vec::new();
        for _ in 0..3 {
            let mut run = perl(TREE).stdout(Output::Streamed).grace(grace).start().expect("it starts");
            until_ready(&mut run).await;
            runs.push(run);
        }
        assert_eq!(minder.stats().resources.signal_handler, 1);
        say("ready");
        let mut asked = 0;
        while asked < runs.len() {
            let made = moves.next().await.expect("the minder is there").expect("none is missed");
            asked += usize::from(made.to == State::Terminating);
        }
        say("asked");
        let shutdown = signals.await.expect("a signal came");
        let (signal, report) = (shutdown.signal, shutdown.report);
        let (urged, cleaned, clean) = (shutdown.is_urged, report.cleaned.process, report.is_clean());
        let left = minder.stats().resources.all();
        say(&format!("{signal}, urged: {urged}, {cleaned} processes cleaned, clean: {clean}, left: {left}"));
    });
    ExitCode::SUCCESS
}

/// What becomes of a run. Each is certain: a child that is stopped would go on for long, and one that is not, ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Exits,
    Crashes,
    TimesOut,
    IsSilent,
    Floods,
    IsCancelled,
    IsCancelledByToken,
    IsCancelledTwiceAndDeaf,
    IsDeafForItsGrace,
    IsDropped,
    HasItsFutureDropped,
    IsNotThere,
    IsRefused,
    Hangs,
}

const FATES: [Fate; 14] = [
    Fate::Exits,
    Fate::Crashes,
    Fate::TimesOut,
    Fate::IsSilent,
    Fate::Floods,
    Fate::IsCancelled,
    Fate::IsCancelledByToken,
    Fate::IsCancelledTwiceAndDeaf,
    Fate::IsDeafForItsGrace,
    Fate::IsDropped,
    Fate::HasItsFutureDropped,
    Fate::IsNotThere,
    Fate::IsRefused,
    Fate::Hangs,
];

/// So many hang at most: each is a process, and its nanny another.
const MOST_HANG: usize = 40;

/// What the owner itself counts, from what it did and not from what it was told.
#[derive(Debug, Default)]
struct Tally {
    starts: u64,
    failed_starts: u64,
    ended: Vec<(Ended, u64)>,
    escalations: u64,
    hanging: Vec<Run>,
}

impl Tally {
    fn ends(&mut self, ended: Ended) {
        self.starts += 1;
        match self.ended.iter_mut().find(|(known, _)| *known == ended) {
            Some((_, count)) => *count += 1,
            None => self.ended.push((ended, 1)),
        }
    }
}

const WORKERS: usize = 8;

/// So many runs of all fates, several at a time; then the registry must know what the owner knows.
pub(crate) fn counted(rounds: &str, seed: &str) -> ExitCode {
    let rounds: usize = rounds.parse().expect("a number");
    let dice = Arc::new(Mutex::new((Dice::new(seed.parse().expect("a number")), rounds)));
    let tally = Arc::new(Mutex::new(Tally::default()));
    let minder = Minder::new();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let work = |_| tokio::spawn(work(minder.clone(), Arc::clone(&dice), Arc::clone(&tally)));
        for worker in (0..WORKERS).map(work).collect::<Vec<_>>() {
            worker.await.expect("nothing was wrong");
        }
        let tally = std::mem::take(&mut *locked(&tally));
        judge(&minder, tally).await;
    });
    say("good");
    ExitCode::SUCCESS
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn work(minder: Minder, dice: Arc<Mutex<(Dice, usize)>>, tally: Arc<Mutex<Tally>>) {
    loop {
        let fate = {
            let (dice, left) = &mut *locked(&dice);
            let Some(rest) = left.checked_sub(1) else { return };
            *left = rest;
            if rest % 500 == 0 {
                say(&format!("{rest} runs are still to be made"));
            }
            FATES[dice.below(FATES.len() as u64) as usize]
        };
        let is_enough = locked(&tally).hanging.len() >= MOST_HANG;
        live(if is_enough && fate == Fate::Hangs { Fate::Exits } else { fate }, &minder, &tally).await;
        // What is in between of a start and its end is in each of them.
        let stats = minder.stats();
        assert_eq!(stats.starts, stats.ends.all() + stats.runs.running as u64, "{stats:?}");
    }
}

/// Lives through one fate, and counts what it was.
async fn live(fate: Fate, minder: &Minder, tally: &Mutex<Tally>) {
    let mut sleeps = Command::new("sleep");
    sleeps.arg("600").minder(minder).grace(LONG).require(Containment::Nanny);
    let mut deaf = Command::new("sh");
    deaf.args(["-c", "trap '' TERM; echo; exec sleep 600"]).minder(minder).grace(LONG);
    deaf.stdout(Output::Streamed).require(Containment::Nanny);
    let script = |script| {
        let mut command = Command::new("sh");
        command.args(["-c", script]).minder(minder).require(Containment::Nanny);
        command
    };
    let wanted = match fate {
        Fate::Exits | Fate::Crashes => {
            let mut command = script(if fate == Fate::Exits { "exit 3" } else { "kill -SEGV $$" });
            command.run().await.expect("it starts");
            Ended::ByItself
        }
        Fate::TimesOut => {
            sleeps.timeout(Duration::from_millis(1)).run().await.expect("it starts");
            Ended::Stopped(Reason::TimedOut)
        }
        Fate::IsSilent => {
            sleeps.idle_timeout(Duration::from_millis(1)).run().await.expect("it starts");
            Ended::Stopped(Reason::Idle)
        }
        Fate::Floods => {
            let mut command = script("exec yes");
            command.capture_limit(100).overflow(Overflow::Stop).grace(LONG);
            command.run().await.expect("it starts");
            Ended::Stopped(Reason::OutputLimit)
        }
        Fate::IsCancelled => {
            let mut run = sleeps.start().expect("it starts");
            run.cancel();
            run.wait().await;
            Ended::Stopped(Reason::Cancelled)
        }
        Fate::IsCancelledByToken => {
            let token = CancellationToken::new();
            let run = sleeps.cancel_on(token.clone()).run();
            token.cancel();
            run.await.expect("it starts");
            Ended::Stopped(Reason::Cancelled)
        }
        Fate::IsCancelledTwiceAndDeaf | Fate::IsDeafForItsGrace => {
            if fate == Fate::IsDeafForItsGrace {
                deaf.grace(Duration::from_millis(1));
            }
            let mut run = deaf.start().expect("it starts");
            until_ready(&mut run).await;
            run.cancel();
            if fate == Fate::IsCancelledTwiceAndDeaf {
                run.cancel();
            }
            run.wait().await;
            locked(tally).escalations += 1;
            Ended::Stopped(Reason::Cancelled)
        }
        Fate::IsDropped => {
            drop(sleeps.start().expect("it starts"));
            Ended::Stopped(Reason::Dropped)
        }
        Fate::HasItsFutureDropped => {
            let run = sleeps.run();
            tokio::time::timeout(Duration::from_millis(1), run).await.expect_err("it sleeps for longer");
            Ended::Stopped(Reason::Dropped)
        }
        Fate::IsNotThere | Fate::IsRefused => {
            let program = if fate == Fate::IsNotThere { "/nowhere/at/all" } else { "a\0zero" };
            Command::new(program).minder(minder).start().expect_err("there is no such program");
            locked(tally).failed_starts += 1;
            return;
        }
        Fate::Hangs => {
            let run = sleeps.describe("made to hang").start().expect("it starts");
            let mut tally = locked(tally);
            tally.starts += 1;
            return tally.hanging.push(run);
        }
    };
    locked(tally).ends(wanted);
}

async fn judge(minder: &Minder, tally: Tally) {
    let deadline = Instant::now() + PATIENCE;
    // Those that were dropped are still on their way.
    while minder.stats().runs.running > tally.hanging.len() {
        assert!(Instant::now() < deadline, "{:?}", minder.resources());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let hung_for = tally.hanging.iter().map(Run::id).collect::<Vec<_>>();
    let stats = minder.stats();
    assert_eq!((stats.starts, stats.failed_starts), (tally.starts, tally.failed_starts));
    agree(&stats.ends, &tally);
    assert_eq!((stats.failed_ends, stats.cleaning_up, stats.runs.lingering), (0, 0, 0));
    assert_eq!((stats.escalations, stats.kills), (tally.escalations, tally.escalations));
    assert_eq!(stats.time_to_empty.count, stats.ends.all());
    say(&format!(
        "{} runs started, {} starts failed, {} ended ({}), {} hang; {} escalations; until empty: {:?} at the 50th, {:?} at the \
         99th percentile",
        stats.starts,
        stats.failed_starts,
        stats.ends.all(),
        tally.ended.iter().map(|(ended, count)| format!("{ended:?}: {count}")).collect::<Vec<_>>().join(", "),
        hung_for.len(),
        stats.escalations,
        stats.time_to_empty.p50,
        stats.time_to_empty.p99,
    ));

    // All of them are older than this.
    let age = Duration::from_millis(1);
    tokio::time::sleep(age).await;
    let overdue = minder.overdue(age);
    let named = overdue.overdue.iter().filter(|one| one.kind == Kind::Process);
    let mut named: Vec<RunId> = named.filter_map(|one| one.run).collect();
    let mut hung = hung_for.clone();
    hung.sort();
    named.sort();
    assert_eq!(named, hung, "{overdue}");
    assert!(overdue.overdue.iter().all(|one| one.run.is_some_and(|run| hung.contains(&run))), "{overdue}");
    assert!(overdue.overdue.iter().all(|one| one.created_at.file() == file!()), "{overdue}");

    let report = minder.shutdown(PATIENCE).await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.cleaned.process, hung.len());
    let stats = minder.stats();
    assert_eq!((stats.ends.shut_down, stats.ends.all()), (hung.len() as u64, stats.starts));
    assert_eq!((stats.resources.all(), stats.oldest), (0, None), "{:?}", minder.resources());
}

fn agree(ends: &Ends, tally: &Tally) {
    let counted: u64 = tally.ended.iter().map(|(_, count)| count).sum();
    assert_eq!(ends.all(), counted, "{ends:?}, {:?}", tally.ended);
    for (ended, count) in &tally.ended {
        assert_eq!(ends.of(*ended), *count, "{ended:?}");
    }
}
