//! The parts that this program plays as an owner of runs. An owner says on its stdout how far it is, and waits for a
//! line on its stdin where it is told to.

use std::error::Error;
use std::future::Future;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use childminder::{Command, Containment, Ended, Event, Input, Left, Output, Run};
use nix::errno::Errno;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::SigSet;
use nix::sys::wait::{WaitPidFlag, waitpid};
use tokio::runtime::Runtime;

/// Members of all kinds that are hard to hold; the leader says a line when it has started them all. Each ends by itself
/// after a while, for the sake of a failing proof.
pub(crate) const TREE: &str = r#"
use POSIX; $| = 1;
sub member(&) { my $act = shift; return if fork; $act->(); select undef, undef, undef, 0.5 for 1..60; exit }
member { setsid };
member { setsid; exit if fork };
member { setsid; exit if fork; setsid; $SIG{TERM} = 'IGNORE' };
member { $SIG{TERM} = 'IGNORE' };
member { kill 'STOP', $$ };
member { setpgrp; kill 'STOP', $$ };
member { exec 'env', '-i', 'setsid', 'sleep', '30' };
member { %ENV = (); exit if fork };
$SIG{TERM} = 'IGNORE';
print "ready\n"; select undef, undef, undef, 0.5 for 1..60;
"#;

/// Ten members, half of them in sessions of their own, each of which writes a byte when it is there.
pub(crate) const TEN: &str = r#"
use POSIX; $| = 1;
for my $n (1..9) { if (!fork) { setsid if $n % 2; print '.'; sleep 30; exit } }
print '.'; sleep 30;
"#;

pub(crate) fn play(arguments: &[String]) -> ExitCode {
    // The mask of the proofs is not what an owner usually has.
    SigSet::empty().thread_set_mask().expect("a thread's mask can be changed");
    // Nor what the proofs were given by whoever started them. Nobody in this process has opened anything yet.
    let open: Vec<i32> = std::fs::read_dir("/proc/self/fd")
        .expect("a list of descriptors")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for fd in open.into_iter().filter(|fd| *fd > 2) {
        // That of the look itself is closed already.
        let _ = nix::unistd::close(fd);
    }
    // Some of them abort.
    setrlimit(Resource::RLIMIT_CORE, 0, 0).expect("a limit can be lowered");
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["killed", stage] => killed(stage),
        ["ends", how] => ends(how),
        ["ten"] => ten(),
        ["one start", containment] => one_start(containment, "exec sleep 30"),
        ["one start", containment, script] => one_start(containment, script),
        ["circumstance", which @ ..] => crate::odd_owner::play(which),
        ["reuse", containment, rounds] => crate::number_owner::reuse(containment, rounds),
        ["foreign numbers"] => crate::number_owner::foreign_numbers(),
        ["frozen", containment, who, freezer] => crate::unkillable_owner::frozen(containment, who, freezer),
        ["of another user", helper] => crate::unkillable_owner::of_another_user(helper),
        ["idle"] => idle(),
        ["many runs", containment, rounds] => many_runs(containment, rounds),
        ["sized", megabytes] => sized(megabytes),
        ["counted", rounds, seed] => crate::minding_owner::counted(rounds, seed),
        ["shut down on signals", grace_ms] => crate::minding_owner::shut_down_on_signals(grace_ms),
        other => panic!("no such part: {other:?}"),
    }
}

pub(crate) fn say(line: &str) {
    // Not `println`, which locks and buffers: somebody may end this process at any time.
    std::io::stdout().write_all(format!("{line}\n").as_bytes()).expect("somebody listens");
}

/// Waits until it may go on.
pub(crate) fn wait_for_go() {
    std::io::stdin().read_exact(&mut [0]).expect("somebody says when");
}

pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

pub(crate) fn perl(script: &str) -> Command {
    let mut command = Command::new("perl");
    command.args(["-e", script]).require(Containment::Nanny);
    command
}

pub(crate) fn containment(name: &str) -> Containment {
    *Containment::ALL
        .iter()
        .find(|containment| containment.to_string() == name)
        .expect("there is one of that name")
}

/// A future that never ends.
pub(crate) fn forever() -> impl Future<Output = ()> {
    std::future::pending()
}

async fn until_ready(run: &mut Run) {
    loop {
        match run.next_event().await.expect("it is not over") {
            Event::Stdout(_) => return,
            Event::Ended(outcome) => panic!("it ended: {outcome:?}"),
            _ => {}
        }
    }
}

/// Is killed by somebody at any moment after it has said that it starts.
fn killed(stage: &str) -> ! {
    runtime().block_on(async {
        let mut command = perl(TREE);
        command.grace(Duration::from_secs(20));
        say("starting");
        let run = command.start().expect("it starts");
        match stage {
            "running" => {}
            // Everybody who is asked is deaf or slow, or has not come so far.
            "asked" => run.cancel(),
            "dropped" => drop(run),
            other => panic!("no such stage: {other}"),
        }
        forever().await;
    });
    unreachable!("it never ends")
}

/// Ends in this way once its tree stands.
fn ends(how: &str) -> ExitCode {
    let runtime = runtime();
    let mut run = runtime.block_on(async {
        let mut command = perl(TREE);
        let mut run =
            command.grace(Duration::from_secs(20)).stdout(Output::Streamed).start().expect("it starts");
        until_ready(&mut run).await;
        run
    });
    say("ready");
    match how {
        "by being told" => {
            runtime.block_on(run.wait());
        }
        "by a return" => return ExitCode::SUCCESS,
        "by exit" => std::process::exit(3),
        "by exit after a drop" => {
            drop(run);
            std::process::exit(3);
        }
        "by exit in a grace" => {
            run.cancel();
            std::process::exit(3);
        }
        "by abort" => std::process::abort(),
        "by a panic" => panic!("a panic that is wanted"),
        "by a panic that aborts" => cannot_unwind(),
        "by a panic of another thread, then exit" => {
            let panicked = std::thread::spawn(move || {
                let _run = run;
                panic!("a panic that is wanted")
            });
            assert!(panicked.join().is_err(), "it panicked");
            std::process::exit(3);
        }
        "by a stack overflow" => {
            overflow(1);
        }
        "by executing another program" => {
            // Reads until the proof lets go of it.
            let error = std::process::Command::new("cat").exec();
            panic!("{error}");
        }
        "in a grace" => {
            run.cancel();
            runtime.block_on(run.wait());
        }
        other => panic!("no such end: {other}"),
    }
    unreachable!("it has ended")
}

extern "C" fn cannot_unwind() {
    panic!("a panic that is wanted, and aborts");
}

#[expect(unconditional_recursion, reason = "that is the point")]
fn overflow(depth: u64) -> u64 {
    std::hint::black_box(overflow(std::hint::black_box(depth + 1)) + 1)
}

/// Ten members that report to the proof themselves.
fn ten() -> ! {
    runtime().block_on(async {
        let _run = perl(TEN).stdout(Output::Inherited).start().expect("it starts");
        forever().await;
    });
    unreachable!("it never ends")
}

/// Starts one run between two calls that mark the place, and ends it. Says what came of it and what is left.
fn one_start(name: &str, script: &str) -> ExitCode {
    let runtime = runtime();
    let mut command = if name == "converted" {
        Command::from(tokio::process::Command::new("sh"))
    } else {
        Command::new("sh")
    };
    let name = if name == "converted" { "nanny" } else { name };
    command.args(["-c", script]).grace(Duration::ZERO);
    command.require(containment(name)).stdin(Input::Bytes("given".into()));
    // The library's thread and the nanny's program are there before.
    runtime
        .block_on(async { Command::new("true").require(containment(name)).run().await })
        .expect("it starts");
    let inside = runtime.enter();
    let before = descriptors();
    say("ready");
    wait_for_go();
    let beginning = Instant::now();
    nix::unistd::getppid();
    let started = command.start();
    nix::unistd::getppid();
    say(&format!("took {}", beginning.elapsed().as_millis()));
    drop(inside);
    match started {
        Ok(mut run) => {
            say("started");
            run.cancel();
            let outcome = runtime.block_on(run.wait());
            match outcome.left {
                Left::Nobody(_) if outcome.ended == Ended::ByItself => {
                    say("ended, and nobody is left");
                    say(&format!("ended by signal {:?}", outcome.exit.and_then(|exit| exit.signal())));
                }
                Left::Nobody(_) => say("stopped, and nobody is left"),
                Left::Unknown(why) => say(&format!("lost: {why}")),
                other => say(&format!("{other:?}")),
            }
        }
        Err(error) => {
            let source = error.source().map(ToString::to_string);
            say(&format!("refused: {error}: {}", source.unwrap_or_default()));
        }
    }
    drop(command);
    let after = descriptors();
    match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        Err(Errno::ECHILD) if after == before => say("no child, no descriptor"),
        child => say(&format!("left: {child:?}, descriptors {before:?} became {after:?}")),
    }
    ExitCode::SUCCESS
}

/// The descriptors of this process, but for that of this look.
pub(crate) fn descriptors() -> Vec<String> {
    let entries = std::fs::read_dir("/proc/self/fd").expect("a list of descriptors");
    let mut found: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            let target = std::fs::read_link(entry.path()).ok()?;
            (!target.ends_with("fd")).then(|| format!("{:?} {}", entry.file_name(), target.display()))
        })
        .collect();
    found.sort();
    found
}

/// Holds two runs that do nothing, and says the number of the nanny of one. What two nannies share costs but once.
fn idle() -> ExitCode {
    let runtime = runtime();
    let other =
        runtime.block_on(async { perl("sleep 30").grace(Duration::ZERO).start() }).expect("it starts");
    let mut run = runtime.block_on(async {
        let mut run = perl("$| = 1; print getppid(), \"\\n\"; sleep 30");
        run.stdout(Output::Streamed).grace(Duration::ZERO).start().expect("it starts")
    });
    runtime.block_on(async {
        loop {
            if let Event::Stdout(bytes) = run.next_event().await.expect("it says its parent") {
                say(String::from_utf8_lossy(&bytes).trim());
                return;
            }
        }
    });
    wait_for_go();
    for mut run in [run, other] {
        run.cancel();
        runtime.block_on(run.wait());
    }
    ExitCode::SUCCESS
}

/// Runs of all ends, one after the other.
fn many_runs(name: &str, rounds: &str) -> ExitCode {
    let runtime = runtime();
    let rounds: usize = rounds.parse().expect("a number");
    runtime.block_on(async {
        let mut before = Vec::new();
        for round in 0..rounds + 8 {
            // What the library keeps for its life is there after each end was seen once.
            if round == 8 {
                before = descriptors();
            }
            let mut command = Command::new("sh");
            command.args(["-c", "sleep 30 & wait"]).require(containment(name)).grace(Duration::ZERO);
            match round % 4 {
                0 => drop(Command::new("true").require(containment(name)).run().await.expect("it starts")),
                1 => drop(Command::new("/nowhere/at/all").start().expect_err("there is no such program")),
                2 => {
                    let mut run = command.stdin(Input::Bytes("given".into())).start().expect("it starts");
                    run.cancel();
                    run.wait().await;
                }
                _ => {
                    let mut run = command.timeout(Duration::from_millis(1)).start().expect("it starts");
                    run.wait().await;
                }
            }
        }
        assert_eq!(descriptors(), before);
    });
    assert_eq!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Err(Errno::ECHILD));
    say("good");
    ExitCode::SUCCESS
}

/// Has so much memory, and says how long each start takes.
fn sized(megabytes: &str) -> ExitCode {
    let megabytes: usize = megabytes.parse().expect("a number");
    // Written, so that it is resident.
    let memory = vec![1_u8; megabytes << 20];
    let runtime = runtime();
    let mut command = Command::new("true");
    command.require(Containment::Nanny);
    runtime.block_on(async { command.run().await }).expect("it starts");
    say("ready");
    let mut line = [0];
    while std::io::stdin().read_exact(&mut line).is_ok() {
        runtime.block_on(async {
            let before = Instant::now();
            let mut run = command.start().expect("it starts");
            let took = before.elapsed();
            run.wait().await;
            say(&took.as_nanos().to_string());
        });
    }
    assert_eq!(memory.iter().step_by(4096).map(|byte| usize::from(*byte)).sum::<usize>(), megabytes << 8);
    ExitCode::SUCCESS
}
