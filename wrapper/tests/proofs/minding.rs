//! The registry: its figures are exact, and it ends everybody when the owner is asked to end.

use libtest_mimic::{Failed, Trial};
use nix::sys::signal::Signal;

use crate::stage::{Owner, PATIENCE, check, figure, nobody_is_left, rounds, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("statistics_are_exact_after_runs_of_all_ends", exact),
        trial("an_owner_that_is_asked_to_end_ends_all_its_runs_first", asked),
        trial("a_second_signal_kills_whoever_is_still_there", asked_twice),
    ]
}

/// The owner finds out by itself what is wrong.
fn exact() -> Result<(), Failed> {
    let rounds = rounds(300, 10_000).to_string();
    let seed = (u64::from(std::process::id()) << 20 | 0x5eed).to_string();
    let owner = Owner::play("counted", &[&rounds, &seed]);
    let said = owner.rest()?;
    nobody_is_left(PATIENCE)?;
    check(said.last().is_some_and(|last| last == "good"), || format!("seed {seed}: {said:?}"))?;
    figure(&said[said.len() - 2]);
    Ok(())
}

fn asked() -> Result<(), Failed> {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let owner = Owner::play("shut down on signals", &["100"]);
        owner.expect("ready")?;
        owner.signal(signal);
        owner.expect("asked")?;
        owner.expect(&format!("{signal}, urged: false, 3 processes cleaned, clean: true, left: 0"))?;
        nobody_is_left(PATIENCE)?;
    }
    Ok(())
}

fn asked_twice() -> Result<(), Failed> {
    let owner = Owner::play("shut down on signals", &["600000"]);
    owner.expect("ready")?;
    owner.signal(Signal::SIGINT);
    owner.expect("asked")?;
    owner.signal(Signal::SIGTERM);
    owner.expect("SIGINT, urged: true, 3 processes cleaned, clean: true, left: 0")?;
    nobody_is_left(PATIENCE)
}
