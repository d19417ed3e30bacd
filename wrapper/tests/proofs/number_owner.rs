//! Owners who see to it that a stranger gets the number of somebody who was in a run.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ExitCode, Stdio};
use std::time::{Duration, Instant};

use childminder::{Command, Containment, Event, Input, Left, Output, Run};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::owner::{containment, runtime, say};

const PATIENCE: Duration = Duration::from_secs(10);

/// Long enough for a stranger to come before it is over.
const GRACE: Duration = Duration::from_millis(60);

/// So is this, from the start.
const TIMEOUT: Duration = Duration::from_millis(300);

/// Somebody who dies: a script that says the number of that one.
struct Victim {
    script: &'static str,
    dies: Dies,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Dies {
    /// Is killed while the run runs.
    Killed,
    /// Ends by itself, as the leader, and with that the run.
    AtEndOfInput,
    /// Obeys, as the leader, while somebody deaf is still there.
    WhenAsked,
}

const GRANDCHILD: Victim = Victim {
    script: "$SIG{TERM} = $SIG{CHLD} = 'IGNORE'; $| = 1; my $g = fork; if (!$g) { sleep 30; exit }
             print \"$g\\n\"; for (1..30) { sleep 1 }",
    dies: Dies::Killed,
};
const SESSION: Victim = Victim {
    script: "use POSIX; $SIG{TERM} = $SIG{CHLD} = 'IGNORE'; $| = 1; my $g = fork;
             if (!$g) { setsid; sleep 30; exit } select undef, undef, undef, 0.005;
             print \"$g\\n\"; for (1..30) { sleep 1 }",
    dies: Dies::Killed,
};
const ORPHAN: Victim = Victim {
    script: "use POSIX; $SIG{TERM} = $SIG{CHLD} = 'IGNORE'; $| = 1;
             if (!fork) { setsid; my $g = fork; if (!$g) { setsid; sleep 30; exit } print \"$g\\n\"; exit }
             for (1..30) { sleep 1 }",
    dies: Dies::Killed,
};
const LEADER: Victim = Victim { script: "$| = 1; print \"$$\\n\"; <STDIN>", dies: Dies::AtEndOfInput };
const OBEDIENT: Victim = Victim {
    script: "use POSIX; $| = 1; if (!fork) { $SIG{TERM} = 'IGNORE'; setsid; sleep 30; sleep 30; exit }
             select undef, undef, undef, 0.005; print \"$$\\n\"; for (1..30) { sleep 1 }",
    dies: Dies::WhenAsked,
};

/// Where the leader of a group is held until its group is gone, or nobody reaps orphans, no number is free.
const OF_A_GROUP: [Victim; 3] = [GRANDCHILD, SESSION, LEADER];
const OF_A_NANNY: [Victim; 5] = [GRANDCHILD, SESSION, ORPHAN, LEADER, OBEDIENT];

pub(crate) fn reuse(name: &str, rounds: &str) -> ExitCode {
    let containment = containment(name);
    let victims = if containment == Containment::Group { &OF_A_GROUP[..] } else { &OF_A_NANNY[..] };
    let wanted: usize = rounds.parse().expect("a number");
    let runtime = runtime();
    let (mut reused, mut signalled) = (0, 0);
    // On a busy machine a round may end before there is a stranger, and proves nothing.
    for round in 0..4 * wanted {
        let victim = &victims[round % victims.len()];
        match runtime.block_on(one_round(containment, victim, round / victims.len())) {
            Some(true) => reused += 1,
            Some(false) => {
                signalled += 1;
                say(&format!("round {round} signalled a stranger"));
            }
            None => {}
        }
        if round % 20 == 0 {
            say("going on");
        }
        if reused + signalled == wanted {
            break;
        }
    }
    let reused = reused + signalled;
    assert!(reused == wanted, "only {reused} strangers got the number");
    say(&format!("{reused} strangers with a dead member's number, {signalled} signalled"));
    ExitCode::SUCCESS
}

/// Whether the stranger was left alone. `None` if there was none.
async fn one_round(containment: Containment, victim: &Victim, how: usize) -> Option<bool> {
    let mut command = Command::new("perl");
    command.args(["-e", victim.script]).require(containment).grace(GRACE).stdout(Output::Streamed);
    command.stdin(Input::Piped);
    let by_timeout = how % 4 == 2 && victim.dies == Dies::Killed;
    if by_timeout {
        command.timeout(TIMEOUT);
    }
    let mut run = command.start().expect("it starts");
    // On a slow machine the timeout may be over before it has said anything.
    let number = number_said(&mut run).await?;
    match victim.dies {
        Dies::Killed => kill(Pid::from_raw(number), Signal::SIGKILL).expect("it lives"),
        Dies::AtEndOfInput => drop(run.stdin()),
        Dies::WhenAsked => run.cancel(),
    }
    until_gone(number);
    let mut stranger = stranger_with(number)?;
    match how % 4 {
        _ if by_timeout || victim.dies == Dies::WhenAsked => {}
        0 | 2 => run.cancel(),
        1 => {
            let (canceller, leader) = (run.canceller(), run.pid());
            drop(run);
            if let Some(leader) = leader.filter(|_| victim.dies == Dies::Killed) {
                until_gone(i32::try_from(leader).expect("a pid"));
            }
            canceller.cancel();
            return Some(was_left_alone(&mut stranger));
        }
        _ => {
            run.cancel();
            run.cancel();
        }
    }
    let outcome = tokio::time::timeout(PATIENCE, run.wait()).await.expect("it ends");
    // A group does not hold whoever is in a session of its own.
    assert!(matches!(outcome.left, Left::Nobody(_)), "{outcome:?}");
    run.cancel();
    drop(run);
    Some(was_left_alone(&mut stranger))
}

/// `None` if it has said nothing before its end.
async fn number_said(run: &mut Run) -> Option<i32> {
    loop {
        match tokio::time::timeout(PATIENCE, run.next_event()).await.expect("it says something") {
            Some(Event::Stdout(bytes)) => {
                return Some(String::from_utf8_lossy(&bytes).trim().parse().expect("a number"));
            }
            Some(Event::Ended(_)) => return None,
            _ => {}
        }
    }
}

fn until_gone(number: i32) {
    let path = format!("/proc/{number}");
    let deadline = Instant::now() + PATIENCE;
    while Path::new(&path).exists() {
        assert!(Instant::now() < deadline, "{number} is still there");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Starts somebody who has nothing to do with the run, and leads a group, with this number.
fn stranger_with(number: i32) -> Option<Child> {
    for _ in 0..10 {
        std::fs::write("/proc/sys/kernel/ns_last_pid", (number - 1).to_string()).expect("it may be set here");
        let mut sleep = std::process::Command::new("sleep");
        let mut child = sleep.arg("30").stdin(Stdio::null()).process_group(0).spawn().expect("it starts");
        if i32::try_from(child.id()) == Ok(number) {
            return Some(child);
        }
        child.kill().expect("our child");
        child.wait().expect("our child");
    }
    None
}

/// Every signal that a run sends would end it.
fn was_left_alone(stranger: &mut Child) -> bool {
    let alone = matches!(stranger.try_wait(), Ok(None));
    let _ = stranger.kill();
    let _ = stranger.wait();
    alone
}

/// `/proc` speaks of another pid namespace.
pub(crate) fn foreign_numbers() -> ExitCode {
    let lack = Containment::Nanny.probe().expect_err("its numbers would be wrong");
    say(&lack.to_string());
    let mut command = Command::new("sh");
    command.args(["-c", "sleep 30 & sleep 30"]).grace(Duration::ZERO);
    let runtime = runtime();
    let outcome = runtime.block_on(async {
        let mut run = command.start().expect("it starts, in a group");
        run.cancel();
        run.wait().await
    });
    assert_eq!(outcome.containment, Containment::Group);
    say("good");
    ExitCode::SUCCESS
}
