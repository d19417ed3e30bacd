//! No stranger is signalled, also if it has the number of somebody who was in the run. Numbers are given out by order in a
//! pid namespace of the proof's own.

use std::process::Command;

use libtest_mimic::{Completion, Failed, Trial};

use crate::stage::{Owner, PATIENCE, PLAY, check, figure, nobody_is_left, rounds, trial_or_skip};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial_or_skip("no_stranger_with_the_number_of_a_dead_member_is_signalled", || strangers("nanny")),
        trial_or_skip("no_stranger_with_the_number_of_a_dead_member_of_a_group_is_signalled", || {
            strangers("group")
        }),
        trial_or_skip("numbers_of_another_pid_namespace_are_not_taken_for_our_own", foreign_numbers),
    ]
}

/// A command in a pid namespace of its own, `None` if there can be none.
fn in_namespace(options: &[&str]) -> Option<Command> {
    let mut command = Command::new("unshare");
    // A user namespace is what makes it possible without privilege.
    if !nix::unistd::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--pid", "--fork", "--kill-child"]).args(options);
    let mut probe = Command::new("unshare");
    probe.args(command.get_args()).args(["sh", "-c", "echo 100 > /proc/sys/kernel/ns_last_pid"]);
    let output = probe.stderr(std::process::Stdio::null()).status();
    output.is_ok_and(|status| status.success()).then_some(command)
}

fn strangers(containment: &str) -> Result<Completion, Failed> {
    let Some(mut command) = in_namespace(&["--mount-proc"]) else {
        return Ok(Completion::ignored_with("numbers cannot be given out by order here"));
    };
    let rounds = rounds(50, 1000).to_string();
    command.arg(std::env::current_exe()?).args([PLAY, "reuse", containment, &rounds]);
    let owner = Owner::start(&mut command);
    let mut last = String::new();
    // It says a line from time to time.
    while let Ok(line) = owner.line() {
        last = line;
    }
    nobody_is_left(PATIENCE)?;
    figure(format!("{containment}: {last}"));
    check(last.contains(", 0 signalled"), || last.clone())?;
    Ok(Completion::Completed)
}

/// In a pid namespace whose `/proc` is that of the one around it, the numbers in `/proc` are not those to signal.
fn foreign_numbers() -> Result<Completion, Failed> {
    let Some(mut command) = in_namespace(&[]) else {
        return Ok(Completion::ignored_with("there can be no pid namespace here"));
    };
    command.arg(std::env::current_exe()?).args([PLAY, "foreign numbers"]);
    let owner = Owner::start(&mut command);
    let said = owner.rest()?;
    nobody_is_left(PATIENCE)?;
    check(said.last().is_some_and(|last| last == "good"), || format!("{said:?}"))?;
    Ok(Completion::Completed)
}
