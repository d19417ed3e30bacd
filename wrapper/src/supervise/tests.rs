//! What cannot be shown with a real process here: one that no kill ends, and a fault of our own.

use std::os::unix::process::ExitStatusExt;
use std::panic::Location;
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::mail::Wish;
use super::*;
use crate::contain::{ChildEnds, Containment, GraceKeptBy, Hold, Launch, LeaderEnd, Remaining};
use crate::input::{ChildStdin, Feeder};
use crate::minder::{About, Minder, Registry, RunEntry};
use crate::outcome::{Ended, Left, Outcome, Proof, Reason, StreamEnd, Survivor, WhyAlive};
use crate::output::{Intake, Overflow};
use crate::plan::{Ask, StopPlan};
use crate::run::{Common, Event, Report};
use crate::state::{Move, State};
use crate::sys::ChildEnd;

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// A hold without any process.
#[derive(Clone, Default)]
struct Puppet {
    panics_when_asked: bool,
    ends_when_killed: bool,
    /// Ends just before it would be named as a survivor.
    ends_when_named: bool,
    /// Never hears that everybody is to be asked.
    is_deaf: bool,
    /// What it says of the leader's end.
    by_itself: Option<bool>,
    /// Has an output that is open as long as this is.
    stdout: Option<Arc<Mutex<Vec<ChildEnd>>>>,
    ended: Arc<AtomicBool>,
    killed: Arc<AtomicBool>,
    released: Arc<AtomicBool>,
}

impl Hold for Puppet {
    fn leader_pid(&self) -> u32 {
        4711
    }

    fn leader_has_ended(&mut self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    fn ask(&mut self, _: Ask, _: Option<Duration>) -> GraceKeptBy {
        // Without the hook that would write a message to the test's output.
        if self.panics_when_asked {
            std::panic::resume_unwind(Box::new("a fault"));
        }
        GraceKeptBy::Supervisor
    }

    fn has_asked(&self) -> bool {
        !self.is_deaf
    }

    fn kill(&mut self) {
        self.killed.store(true, Ordering::SeqCst);
        self.ended.fetch_or(self.ends_when_killed, Ordering::SeqCst);
    }

    fn release(&mut self) -> LeaderEnd {
        self.released.store(true, Ordering::SeqCst);
        let status = self.leader_has_ended().then(|| ExitStatus::from_raw(SIGKILL));
        LeaderEnd { status, by_itself: self.by_itself, ..LeaderEnd::default() }
    }

    fn is_done(&mut self) -> bool {
        let done = self.leader_has_ended();
        if done {
            self.release();
        }
        done
    }

    fn look(&mut self) -> Remaining {
        Remaining::Nobody(Proof::GroupGone)
    }

    fn name_survivors(&mut self) -> Left {
        if self.ends_when_named {
            self.ended.store(true, Ordering::SeqCst);
            return Left::Nobody(Proof::NoneAlive);
        }
        Left::Survivors(vec![Survivor { pid: 4711, why: WhyAlive::Uninterruptible }])
    }
}

fn open(mailbox: &Arc<Mailbox>, puppet: &Puppet, grace: Duration) -> (Door, Arc<Common>) {
    open_for(&Arc::default(), mailbox, puppet, grace, |_| {})
}

fn open_for(
    registry: &Arc<Registry>,
    mailbox: &Arc<Mailbox>,
    puppet: &Puppet,
    grace: Duration,
    before_the_supervisor_knows: impl FnOnce(&RunEntry),
) -> (Door, Arc<Common>) {
    let (door, common, case) = case_of(registry, mailbox, puppet, StopPlan::default(), grace);
    before_the_supervisor_knows(&common.entry);
    mailbox.send(Message::Watch(Box::new(case)));
    common.entry.repeat_asking();
    (door, common)
}

fn case_of(
    registry: &Arc<Registry>,
    mailbox: &Arc<Mailbox>,
    puppet: &Puppet,
    stop_plan: StopPlan,
    grace: Duration,
) -> (Door, Arc<Common>, Case) {
    case_with(registry, mailbox, stop_plan, grace, |door| {
        let stdout = match &puppet.stdout {
            Some(held) => {
                let token = Source::Stdout.token(door.key());
                let (end, child_end) = sys::child_writes(mailbox.poller(), token).expect("a pipe");
                held.lock().expect("no panic").push(child_end);
                Intake::captured(end, 100, Overflow::default())
            }
            None => Intake::none(),
        };
        (Box::new(puppet.clone()), stdout)
    })
}

fn case_with(
    registry: &Arc<Registry>,
    mailbox: &Arc<Mailbox>,
    stop_plan: StopPlan,
    grace: Duration,
    hold: impl FnOnce(&Door) -> (Box<dyn Hold>, Intake),
) -> (Door, Arc<Common>, Case) {
    let about =
        About { description: "a puppet".into(), metadata: Box::new([]), created_at: Location::caller() };
    let common = Arc::new(Common::new(RunEntry::new(Arc::clone(registry), about)));
    assert!(registry.enrol(&common));
    common.make(Move::Start);
    let door = Door::new(Arc::clone(mailbox), common.entry.key());
    common.entry.open(door.clone());
    let (hold, stdout) = hold(&door);
    let pid = hold.leader_pid();
    let case = Case::open(Opening {
        door: door.clone(),
        common: Arc::clone(&common),
        containment: Containment::Group,
        hold,
        limits: Limits { timeout: None, idle: None, grace, drain: Duration::ZERO },
        stop_plan,
        intakes: Intakes { stdout, stderr: Intake::none(), stdin: Feeder::none() },
        token: None,
        terminal: None,
        started: Instant::now(),
        spans: None,
    });
    common.begin(pid, case.parts());
    (door, common, case)
}

/// The supervisor keeps every bound by itself, so this ends.
fn outcome(common: Arc<Common>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        loop {
            let report = std::future::poll_fn(|context| common.reports.poll_take(context)).await;
            if let Report::Event(Event::Ended(outcome)) = report {
                return *outcome;
            }
        }
    })
}

fn own_supervisor() -> Arc<Mailbox> {
    let mailbox = Arc::new(Mailbox::new().expect("a mailbox"));
    let mine = Arc::clone(&mailbox);
    thread::spawn(move || supervise(&mine));
    mailbox
}

#[test]
fn a_child_that_no_kill_ends_is_named_in_bounded_time_and_reaped_when_it_ends_at_last() {
    let mailbox = own_supervisor();
    let puppet = Puppet::default();
    let before = Instant::now();
    let registry = Arc::default();
    let minder = Minder::from_registry(&registry);
    let (door, events) = open_for(&registry, &mailbox, &puppet, Duration::ZERO, |_| {});
    let board = Arc::clone(&events);
    door.stop(Wish::Cancel);
    let outcome = outcome(events);
    assert!(before.elapsed() < Duration::from_secs(10), "took {:?}", before.elapsed());
    assert_eq!(outcome.ended, Ended::Stopped(Reason::Cancelled));
    assert_eq!(outcome.exit, None);
    let survivor = Survivor { pid: 4711, why: WhyAlive::Uninterruptible };
    assert_eq!(outcome.left, Left::Survivors(vec![survivor]));
    assert!(puppet.killed.load(Ordering::SeqCst) && !puppet.released.load(Ordering::SeqCst));
    assert_eq!(board.board.state(), State::Failed);
    let stats = minder.stats();
    assert_eq!((stats.ends.cancelled, stats.failed_ends, stats.escalations), (1, 1, 1));
    assert_eq!((stats.runs.running, stats.runs.lingering, stats.cleaning_up), (0, 1, 1));
    let report = minder.shutdown_blocking(Duration::from_millis(10));
    assert_eq!((report.cleaned.all(), report.failed.process, report.errors.len()), (0, 1, 1), "{report}");

    // It ends at last, which its handle reports.
    puppet.ended.store(true, Ordering::SeqCst);
    let (read, write) = rustix::pipe::pipe().expect("a pipe");
    let handle = sys::watch_for_test(mailbox.poller(), read, Source::Hold.token(door.key()));
    drop(write);
    let deadline = Instant::now() + Duration::from_secs(10);
    while !puppet.released.load(Ordering::SeqCst) {
        assert!(Instant::now() < deadline, "it was not reaped");
        thread::sleep(Duration::from_millis(1));
    }
    while minder.stats().resources.all() > 0 {
        assert!(Instant::now() < deadline, "it is still on the registry");
        thread::sleep(Duration::from_millis(1));
    }
    drop(handle);
    mailbox.close();
}

#[test]
fn what_a_shutdown_wants_of_a_run_that_is_being_started_is_repeated_and_so_is_that_it_has_no_time() {
    for (wish, is_killed) in [(Wish::ShutDown, false), (Wish::ShutDownNow, true)] {
        let mailbox = own_supervisor();
        let puppet = Puppet { ends_when_killed: true, ..Puppet::default() };
        let long = Duration::from_secs(600);
        let (door, common) = open_for(&Arc::default(), &mailbox, &puppet, long, |entry| entry.ask(wish));
        let board = Arc::clone(&common);
        let deadline = Instant::now() + Duration::from_secs(10);
        while board.board.state() == State::Running {
            assert!(Instant::now() < deadline, "nobody stopped it");
            thread::sleep(Duration::from_millis(1));
        }
        if !is_killed {
            assert!(!puppet.killed.load(Ordering::SeqCst), "it has its grace");
            door.stop(Wish::ShutDownNow);
        }
        // Its end has no descriptor that would wake anybody.
        while !puppet.killed.load(Ordering::SeqCst) {
            assert!(Instant::now() < deadline, "nobody killed it");
            thread::sleep(Duration::from_millis(1));
        }
        let outcome = outcome(common);
        assert_eq!(outcome.ended, Ended::Stopped(Reason::ShutDown));
        mailbox.close();
    }
}

#[test]
fn a_child_that_its_containment_ended_on_its_own_account_did_not_end_by_itself() {
    let mailbox = own_supervisor();
    let puppet = Puppet { by_itself: Some(false), ..Puppet::default() };
    puppet.ended.store(true, Ordering::SeqCst);
    let (door, events) = open(&mailbox, &puppet, Duration::ZERO);
    // It has no descriptor that would wake anybody.
    door.resume();
    assert_eq!(outcome(events).ended, Ended::Stopped(Reason::ContainmentLost));
    mailbox.close();
}

#[test]
fn a_fault_of_our_own_kills_what_was_held_and_the_outcome_says_that_nothing_is_known() {
    let mailbox = own_supervisor();
    let bystander = Puppet::default();
    let faulty = Puppet { panics_when_asked: true, stdout: Some(Arc::default()), ..Puppet::default() };
    let (_, bystander_events) = open(&mailbox, &bystander, Duration::ZERO);
    let (door, faulty_events) = open(&mailbox, &faulty, Duration::ZERO);
    door.stop(Wish::Cancel);
    for (puppet, events) in [(bystander, bystander_events), (faulty, faulty_events)] {
        let outcome = outcome(events);
        assert!(matches!(outcome.left, Left::Unknown(_)));
        assert!(!outcome.stdout.is_complete(), "an output that nobody read to its end");
        let expected = if puppet.stdout.is_some() {
            StreamEnd::Failed(io::ErrorKind::Other)
        } else {
            StreamEnd::NotTaken
        };
        assert_eq!(outcome.stdout.end, expected);
        assert!(puppet.killed.load(Ordering::SeqCst) && puppet.released.load(Ordering::SeqCst));
    }
    // Whoever comes later is not left alone either.
    let late = Puppet::default();
    let (_, events) = open(&mailbox, &late, Duration::ZERO);
    assert!(matches!(outcome(events).left, Left::Unknown(_)));
    assert!(late.killed.load(Ordering::SeqCst));
}

#[test]
fn a_stdin_that_nobody_has_is_closed_when_the_stop_is_heard_and_before_anybody_hears_of_the_end() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    // Looked at within the time that a kill has to be obeyed, after which the run is over.
    let in_time = Duration::from_secs(1);
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut plans = vec![StopPlan::default(), StopPlan::begin(Ask::CloseStdin)];
    while let Some(plan) = plans.pop() {
        let again = plan.clone();
        let mailbox = own_supervisor();
        let puppet = Puppet { is_deaf: true, ..Puppet::default() };
        let long = Duration::from_secs(600);
        let (door, common, case) = case_of(&Arc::default(), &mailbox, &puppet, plan, long);
        let (end, _child_end) = {
            let _runtime = runtime.enter();
            sys::child_reads_async().expect("a pipe")
        };
        let stdin = ChildStdin::new(&common, end);
        mailbox.send(Message::Watch(Box::new(case)));
        door.stop(Wish::Cancel);
        stdin.leave_to(&door);
        let asked_again = Instant::now();
        door.stop(Wish::Cancel);
        while !puppet.killed.load(Ordering::SeqCst) {
            assert!(Instant::now() < deadline, "nobody killed it");
            thread::sleep(Duration::from_millis(1));
        }
        // The supervisor has read what came before that.
        let has_stdin = common.has_stdin();
        if asked_again.elapsed() < in_time {
            assert!(has_stdin, "it could be the end of a child that nobody has asked");
        } else {
            assert!(Instant::now() < deadline, "it was never looked at in time");
            plans.push(again);
        }
        assert_eq!(outcome(Arc::clone(&common)).ended, Ended::Stopped(Reason::Cancelled));
        assert!(!common.has_stdin(), "it outlives the run");
        mailbox.close();
    }
}

#[test]
fn a_kill_that_came_late_because_the_owner_was_stopped_has_its_whole_time_to_be_obeyed() {
    let mailbox = Arc::new(Mailbox::new().expect("a mailbox"));
    let plan = StopPlan::default();
    let puppet = Puppet::default();
    let (_, common, mut case) = case_of(&Arc::default(), &mailbox, &puppet, plan, Duration::ZERO);
    case.begin();
    case.wish(Wish::Cancel);
    // As long as a kill is waited for, and longer, nobody serves it.
    case.sleep_through(Duration::from_millis(2100));
    let woken = Instant::now();
    case.serve_deadline(woken, &mut Room::new());
    assert!(puppet.killed.load(Ordering::SeqCst));
    assert!(case.next_deadline().is_some_and(|due| due > woken), "it is taken for a survivor at once");
    drop((case, common));
}

/// A child of its own that sleeps, held for real.
fn sleeper(containment: Containment, mailbox: &Arc<Mailbox>, door: &Door) -> Box<dyn Hold> {
    let mut command = Command::new("sleep");
    let ends = ChildEnds { stdin: ChildEnd::Null, stdout: ChildEnd::Null, stderr: ChildEnd::Null };
    let launch = Launch {
        command: command.arg("100"),
        clears_environment: false,
        is_converted: false,
        #[cfg(has_nanny)]
        adoption: &mut sys::Adoption::default(),
        clean_start: &mut sys::CleanStart::default(),
        ends,
        terminal: None,
        poller: mailbox.poller(),
        token: Source::Hold.token(door.key()),
    };
    containment.start(launch).ok().expect("it starts")
}

/// The letter of the state of a process, and its parent.
fn status_of(pid: u32) -> Option<(char, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

#[test]
fn a_kill_that_is_obeyed_at_the_bound_is_proved_and_its_status_is_told() {
    #[cfg(has_nanny)]
    const HOLDS: [Containment; 2] = [Containment::Nanny, Containment::Group];
    #[cfg(not(has_nanny))]
    const HOLDS: [Containment; 1] = [Containment::Group];
    for containment in HOLDS {
        assert_eq!(containment.probe().err(), None);
        // Nobody serves it but this test, which sees the end before it looks for one.
        let mailbox = Arc::new(Mailbox::new().expect("a mailbox"));
        let registry = Arc::default();
        let mut leader = 0;
        let (_, common, mut case) =
            case_with(&registry, &mailbox, StopPlan::default(), Duration::from_secs(600), |door| {
                let hold = sleeper(containment, &mailbox, door);
                leader = hold.leader_pid();
                (hold, Intake::none())
            });
        // Of the one that nobody has reaped before the case does.
        let last = match (containment, status_of(leader)) {
            (Containment::Nanny, Some((_, nanny))) => nanny,
            _ => leader,
        };
        case.begin();
        case.wish(Wish::Cancel);
        case.wish(Wish::Cancel);
        let patience = Instant::now() + Duration::from_secs(10);
        while status_of(last).is_none_or(|(letter, _)| letter != 'Z') {
            assert!(Instant::now() < patience, "{containment}: it does not die: {:?}", status_of(last));
            thread::sleep(Duration::from_millis(1));
        }
        let bound = case.next_deadline().expect("a kill has a bound");
        case.serve_deadline(bound, &mut Room::new());
        assert!(case.is_over(&mut Room::new()));
        assert!(case.finish().is_none(), "{containment}: everybody is reaped");
        let outcome = outcome(Arc::clone(&common));
        assert!(matches!(outcome.left, Left::Nobody(_)), "{containment}: {outcome:?}");
        // It may have obeyed the request, which came before the kill.
        let signal = outcome.exit.and_then(|exit| exit.signal());
        assert!(matches!(signal, Some(SIGKILL | SIGTERM)), "{containment}: {outcome:?}");
        assert_eq!(common.board.state(), State::Terminated, "{containment}");
        assert_eq!(Minder::from_registry(&registry).stats().failed_ends, 0, "{containment}");
    }
}

#[test]
fn the_status_of_a_child_that_ends_as_it_is_given_up_is_told() {
    let mailbox = Arc::new(Mailbox::new().expect("a mailbox"));
    let puppet = Puppet { ends_when_named: true, ..Puppet::default() };
    let long = Duration::from_secs(600);
    let (_, common, mut case) = case_of(&Arc::default(), &mailbox, &puppet, StopPlan::default(), long);
    case.begin();
    case.wish(Wish::Cancel);
    case.wish(Wish::Cancel);
    let bound = case.next_deadline().expect("a kill has a bound");
    case.serve_deadline(bound, &mut Room::new());
    assert!(case.is_over(&mut Room::new()) && case.finish().is_none());
    let outcome = outcome(common);
    assert_eq!(outcome.left, Left::Nobody(Proof::NoneAlive));
    assert_eq!(outcome.exit, Some(ExitStatus::from_raw(SIGKILL)));
}
