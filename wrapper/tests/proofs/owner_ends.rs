//! P1: whatever becomes of the owner, nobody is left.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Completion, Failed, Trial};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use crate::owner::TEN;
use crate::stage::{
    Dice, Owner, PATIENCE, check, children_of, figure, median, nobody_is_left, rounds, this_program, trial,
    trial_or_skip,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("nobody_outlives_an_owner_that_is_killed_at_any_moment", killed_at_any_moment),
        trial("nobody_outlives_an_owner_that_ends_by_itself", ends_by_itself),
        trial("nobody_outlives_an_owner_that_is_terminated", || signalled(&[Signal::SIGTERM])),
        trial("nobody_outlives_an_owner_that_is_killed_while_stopped", || {
            signalled(&[Signal::SIGSTOP, Signal::SIGKILL])
        }),
        trial("nobody_outlives_an_owner_that_is_killed_in_a_grace", killed_in_a_grace),
        trial("a_run_does_not_outlive_the_program_of_its_owner", another_program),
        trial_or_skip("a_tree_whose_owner_is_killed_ends_about_as_fast_as_a_pid_namespace", speed),
    ]
}

fn killed_at_any_moment() -> Result<(), Failed> {
    let seed = u64::from(std::process::id()) << 20 | 0x5eed;
    let mut dice = Dice::new(seed);
    let mut slowest = Duration::ZERO;
    let rounds = rounds(60, 1000);
    for round in 0..rounds {
        let stage = ["running", "running", "asked", "dropped"][round % 4];
        let owner = Owner::play("killed", &[stage]);
        owner.expect("starting")?;
        let moment = Duration::from_micros(dice.below(50_000));
        // Nothing is awaited here: that moment is what is tried.
        std::thread::sleep(moment);
        let before = Instant::now();
        owner.signal(Signal::SIGKILL);
        let left = nobody_is_left(PATIENCE);
        slowest = slowest.max(before.elapsed());
        left.map_err(|failed| {
            let why = failed.message().unwrap_or_default();
            format!("seed {seed}, round {round}, {stage}, killed after {moment:?}: {why}")
        })?;
    }
    figure(format!("{rounds} owners killed, 0 left, the slowest end took {slowest:?}"));
    Ok(())
}

fn ends_by_itself() -> Result<(), Failed> {
    for how in [
        "by a return",
        "by exit",
        "by exit after a drop",
        "by exit in a grace",
        "by abort",
        "by a panic",
        "by a panic that aborts",
        "by a panic of another thread, then exit",
        "by a stack overflow",
    ] {
        for _ in 0..rounds(3, 30) {
            // What it says while it dies is expected and would only confuse.
            let owner = Owner::start(this_program("ends", &[how]).stderr(Stdio::null()));
            owner.expect("ready")?;
            nobody_is_left(PATIENCE).map_err(|failed| describe(how, &failed))?;
        }
    }
    Ok(())
}

fn describe(how: &str, failed: &Failed) -> Failed {
    format!("an owner that ends {how}: {}", failed.message().unwrap_or_default()).into()
}

fn signalled(signals: &[Signal]) -> Result<(), Failed> {
    for _ in 0..rounds(3, 30) {
        let owner = Owner::play("ends", &["by being told"]);
        owner.expect("ready")?;
        for signal in signals {
            owner.signal(*signal);
        }
        nobody_is_left(PATIENCE)?;
    }
    Ok(())
}

fn killed_in_a_grace() -> Result<(), Failed> {
    let mut dice = Dice::new(u64::from(std::process::id()));
    for _ in 0..rounds(5, 100) {
        let owner = Owner::play("ends", &["in a grace"]);
        owner.expect("ready")?;
        // Nothing is awaited here: that moment is what is tried.
        std::thread::sleep(Duration::from_micros(dice.below(20_000)));
        owner.signal(Signal::SIGKILL);
        nobody_is_left(PATIENCE)?;
    }
    Ok(())
}

/// The owner's process lives on, so what is left of the run is what that process has for children, and they for theirs.
fn another_program() -> Result<(), Failed> {
    let owner = Owner::play("ends", &["by executing another program"]);
    owner.expect("ready")?;
    let deadline = Instant::now() + PATIENCE;
    // The nanny stays a zombie, because a program that knows nothing of it does not reap it.
    let nannies = || children_of(owner.pid.as_raw().unsigned_abs());
    while nannies().is_empty() || !nannies().into_iter().all(is_zombie) {
        check(Instant::now() < deadline, || "the nanny goes on".to_owned())?;
        std::thread::sleep(Duration::from_millis(1));
    }
    check(children_of(std::process::id()) == [owner.pid.as_raw()], || "somebody came to us".to_owned())?;
    drop(owner);
    nobody_is_left(PATIENCE)
}

fn is_zombie(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
}

/// Compares, in turns, how long a tree of ten takes to be gone after the one who holds it was killed.
fn speed() -> Result<Completion, Failed> {
    let rounds = rounds(15, 101);
    let mut own = this_program("ten", &[]);
    let mut namespace = Command::new("unshare");
    // A user namespace is what makes it possible without privilege.
    if !nix::unistd::geteuid().is_root() {
        namespace.args(["--user", "--map-root-user"]);
    }
    namespace.args(["--pid", "--fork", "--kill-child", "perl", "-e", TEN]);
    let mut with_nanny = Vec::new();
    let mut with_namespace = Vec::new();
    for _ in 0..rounds {
        with_nanny.push(time_to_empty(&mut own)?);
        match time_to_empty(&mut namespace) {
            Ok(time) => with_namespace.push(time),
            Err(_) => return Ok(Completion::ignored_with("there is no pid namespace to compare with")),
        }
    }
    let (ours, theirs) = (median(&mut with_nanny), median(&mut with_namespace));
    let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
    figure(format!(
        "N = 10, {rounds} rounds, median until empty: owner killed {ours:?}, pid namespace killed {theirs:?}, ratio \
         {ratio:.2} (wanted: at most 1.4)"
    ));
    Ok(Completion::Completed)
}

fn time_to_empty(command: &mut Command) -> Result<Duration, Failed> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut ready = [0; 10];
    let stood = child.stdout.take().expect("it is piped").read_exact(&mut ready);
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    if stood.is_err() {
        nobody_is_left(PATIENCE)?;
        return Err("it does not start".into());
    }
    let before = Instant::now();
    kill(pid, Signal::SIGKILL).expect("our child");
    // Without a bound, because anything else would be measured as well; the members end by themselves after a while.
    while !matches!(waitid(Id::All, WaitPidFlag::WEXITED), Err(nix::errno::Errno::ECHILD)) {}
    Ok(before.elapsed())
}
