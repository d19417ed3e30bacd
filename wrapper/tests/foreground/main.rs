//! A child in the foreground has the owner's terminal, and the owner has it back at every end, with its modes.
//!
//! Each test makes a terminal and an owner whose terminal that is: this program itself, which therefore has a `main` of its
//! own.
#![cfg_attr(not(target_os = "linux"), allow(unused, reason = "there is nothing to show yet"))]

#[cfg(target_os = "linux")]
mod owner;
#[cfg(target_os = "linux")]
mod stage;

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(owner::PLAY) {
        return owner::play(&arguments.collect::<Vec<_>>());
    }
    let arguments = libtest_mimic::Arguments::from_args();
    libtest_mimic::run(&arguments, trials()).exit_code()
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    ExitCode::SUCCESS
}

#[cfg(target_os = "linux")]
fn trials() -> Vec<libtest_mimic::Trial> {
    use childminder::Containment;
    use libtest_mimic::{Failed, Trial};
    use stage::{Stage, expect};

    /// What the owner says of its terminal when it has it as it was.
    const ITS_OWN: &str = "own cooked";

    type Act = fn(&mut Stage) -> Result<(), Failed>;
    let after_an_end: Act = |stage| {
        expect(stage.line()?, ITS_OWN)?;
        expect(stage.line()?, "child: foreground raw")?;
        expect(stage.line()?, ITS_OWN)
    };
    let read: Act = |stage| {
        expect(stage.line()?, ITS_OWN)?;
        expect(stage.line()?, "child: reads")?;
        stage.types(b"a line\n")?;
        expect(stage.line()?, "child: a line")?;
        expect(stage.line()?, ITS_OWN)
    };
    let interrupt: Act = |stage| {
        expect(stage.line()?, ITS_OWN)?;
        expect(stage.line()?, "child: waits")?;
        stage.types(b"\x03")?;
        expect(stage.line()?, "exit 7")?;
        expect(stage.line()?, ITS_OWN)
    };
    let refusal: Act = |stage| {
        expect(stage.line()?, ITS_OWN)?;
        expect(stage.line()?, "refused: terminal")?;
        expect(stage.line()?, ITS_OWN)
    };
    let kill: Act = |stage| {
        expect(stage.line()?, ITS_OWN)?;
        expect(stage.line()?, "child: foreground raw")?;
        stage.kill_owner()?;
        stage.until_nobody_is_left()
    };
    let both: &[Containment] = &[Containment::Nanny, Containment::Group];
    let nanny = &both[..1];
    let lost: Act = |stage| {
        expect(stage.line()?, ITS_OWN)?;
        expect(stage.line()?, "refused: spawn")?;
        expect(stage.line()?, ITS_OWN)?;
        stage.until_nobody_is_left()
    };
    let rows: [(&str, &str, &[Containment], Act); 16] = [
        ("itself", "a_child_that_ends_by_itself_gives_the_terminal_back", both, after_an_end),
        ("cancel", "a_cancel_gives_the_terminal_back", both, after_an_end),
        ("timeout", "a_timeout_gives_the_terminal_back", both, after_an_end),
        ("drop", "a_drop_gives_the_terminal_back", both, after_an_end),
        ("panic", "a_panic_gives_the_terminal_back", both, after_an_end),
        ("deaf", "a_child_that_must_be_killed_gives_the_terminal_back", both, after_an_end),
        ("job", "a_child_that_gave_it_to_a_job_of_its_own_gives_the_terminal_back", nanny, after_an_end),
        (
            "nanny",
            "when_the_nanny_is_killed_the_child_is_and_the_terminal_is_given_back",
            nanny,
            after_an_end,
        ),
        ("missing", "a_program_that_cannot_be_executed_does_not_keep_the_terminal", both, |stage| {
            expect(stage.line()?, ITS_OWN)?;
            expect(stage.line()?, "refused: spawn")?;
            expect(stage.line()?, ITS_OWN)
        }),
        ("lost", "a_nanny_that_is_killed_in_the_start_leaves_nobody_at_the_terminal", nanny, lost),
        ("second", "while_one_child_is_in_the_foreground_another_is_refused", both, refusal),
        ("several", "of_starts_in_the_foreground_at_once_one_has_the_terminal", both, |stage| {
            expect(stage.line()?, ITS_OWN)?;
            expect(stage.line()?, "started: 1")?;
            expect(stage.line()?, ITS_OWN)
        }),
        ("converted", "a_command_that_was_made_elsewhere_is_refused", both, refusal),
        ("read", "a_child_in_the_foreground_can_read_from_the_terminal", both, read),
        ("interrupt", "ctrl_c_reaches_the_child_and_not_the_owner", both, interrupt),
        ("killed", "an_owner_that_is_killed_leaves_nobody_at_the_terminal", nanny, kill),
    ];
    let mut trials: Vec<_> = rows
        .into_iter()
        .flat_map(|(scene, name, containments, act)| {
            containments.iter().map(move |containment| {
                let containment = *containment;
                Trial::test(format!("with_{containment}_{name}"), move || {
                    act(&mut Stage::with_terminal(scene, containment)?)
                })
            })
        })
        .collect();
    trials.push(Trial::test("an_owner_without_a_terminal_is_refused", || {
        let mut stage = Stage::without_terminal("none", Containment::Nanny)?;
        expect(stage.line()?, "refused: terminal")
    }));
    trials.push(Trial::test(
        "a_containment_that_holds_nobody_in_the_foreground_is_refused_or_replaced",
        || {
            let mut stage = Stage::with_terminal("sealed", Containment::Nanny)?;
            expect(stage.line()?, ITS_OWN)?;
            expect(stage.line()?, "sealed: refused, else nanny")?;
            expect(stage.line()?, "cgroup: refused, else nanny")?;
            expect(stage.line()?, ITS_OWN)
        },
    ));
    trials
}
