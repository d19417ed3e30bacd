//! Owners in odd circumstances: every start is a contained run or an error that says why, and leaves nothing.

use std::process::Command;
use std::time::{Duration, Instant};

use libtest_mimic::{Completion, Failed, Trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::stage::{
    self, ChildEnds, Owner, PATIENCE, PLAY, check, children_of, nobody_is_left, rounds, trial, trial_or_skip,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("an_owner_without_standard_streams_is_served_as_any_other", without_streams),
        trial("an_owner_that_ignores_the_end_of_children_loses_no_run", ignoring_children),
        trial("an_owner_that_waits_for_any_child_loses_no_run", || {
            played("waiting for any", &number(30, 500))
        }),
        trial("an_owner_short_of_descriptors_is_told_so_and_loses_none", || {
            played("short of descriptors", "")
        }),
        trial("a_lack_that_passes_does_not_weaken_what_holds_later_runs", || played("short for a while", "")),
        trial_or_skip("a_nanny_that_loses_proc_kills_the_leader_and_leaves_after_its_owner", proc_taken_away),
        trial_or_skip("an_owner_that_may_have_no_more_processes_is_told_so", no_more_processes),
    ]
}

fn number(short: usize, long: usize) -> String {
    rounds(short, long).to_string()
}

/// The owner finds out by itself what is wrong, and says "good" at the end.
fn played(part: &str, argument: &str) -> Result<(), Failed> {
    let mut arguments = vec![part];
    arguments.extend((!argument.is_empty()).then_some(argument));
    is_good(&Owner::play("circumstance", &arguments))
}

fn is_good(owner: &Owner) -> Result<(), Failed> {
    let said = owner.rest()?;
    nobody_is_left(PATIENCE)?;
    check(said.last().is_some_and(|last| last == "good"), || format!("{said:?}"))
}

fn without_streams() -> Result<(), Failed> {
    for closed in ["0", "1", "2", "01", "02", "12", "012"] {
        for kind in ["captured", "inherited"] {
            let owner = Owner::play("circumstance", &["without streams", closed, kind]);
            is_good(&owner).map_err(|failed| {
                Failed::from(format!("without {closed}, {kind}: {}", failed.message().unwrap_or_default()))
            })?;
        }
    }
    Ok(())
}

fn ignoring_children() -> Result<(), Failed> {
    let mut command = stage::ignoring_children("circumstance", &["ignoring children", &number(30, 500)]);
    is_good(&Owner::start(&mut command))
}

fn no_more_processes() -> Result<Completion, Failed> {
    if !nix::unistd::geteuid().is_root() {
        // As root it becomes somebody who has no other processes.
        return Ok(Completion::ignored_with("the number of a user's processes is limited as root only"));
    }
    played("short of processes", "").map(|()| Completion::Completed)
}

/// The nanny cannot find a child then that is in a group of its own, but it kills the leader, wherever that has gone, and
/// does not stay for ever.
fn proc_taken_away() -> Result<Completion, Failed> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(Completion::ignored_with("only root may have mounts of its own"));
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]).arg(std::env::current_exe()?);
    command.args([PLAY, "circumstance", "proc is taken away"]);
    let owner = Owner::start(&mut command);
    let stranded: i32 = owner.line()?.parse()?;
    owner.signal(Signal::SIGKILL);
    let ends = ChildEnds::new();
    let deadline = Instant::now() + PATIENCE;
    // It comes to us when the nanny is gone.
    while !children_of(std::process::id()).contains(&stranded) {
        check(Instant::now() < deadline, || "the leader or the nanny is still there".to_owned())?;
        ends.wait(Duration::from_millis(10));
    }
    // It is our child now, and we have not reaped it.
    kill(Pid::from_raw(stranded), Signal::SIGKILL)?;
    nobody_is_left(PATIENCE).map(|()| Completion::Completed)
}
