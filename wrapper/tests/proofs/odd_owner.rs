//! Owners in odd circumstances, who look themselves whether all is as it should be.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use childminder::{Command, Containment, Ended, Event, Input, Left, Outcome, Output, StartError};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Gid, Uid, close, setgid, setuid};

use crate::owner::{descriptors, runtime, say, wait_for_go};

const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn play(which: &[&str]) -> ExitCode {
    match which {
        ["without streams", closed, kind] => return without_streams(closed, kind),
        ["ignoring children", rounds] => runs(rounds),
        ["waiting for any", rounds] => {
            std::thread::spawn(|| {
                loop {
                    if waitpid(None, None).is_err() {
                        std::thread::yield_now();
                    }
                }
            });
            runs(rounds);
        }
        ["short of descriptors"] => short_of_descriptors(),
        ["short for a while"] => short_for_a_while(),
        ["proc is taken away"] => proc_taken_away(),
        ["short of processes"] => short_of_processes(),
        other => panic!("no such circumstance: {other:?}"),
    }
    say("good");
    ExitCode::SUCCESS
}

/// Runs a command to its end, within bounds.
fn run(command: &mut Command) -> Result<Outcome, StartError> {
    let runtime = runtime();
    runtime.block_on(async {
        let future = command.run();
        tokio::time::timeout(PATIENCE, future).await.expect("it ends in time")
    })
}

fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// What makes the run an ordinary one that ended with this code.
#[track_caller]
fn assert_ordinary(outcome: &Outcome, code: i32) {
    assert_eq!(outcome.containment, Containment::Nanny);
    assert_eq!(outcome.ended, Ended::ByItself, "{outcome:?}");
    assert_eq!(outcome.exit.and_then(|exit| exit.code()), Some(code), "{outcome:?}");
    assert!(matches!(outcome.left, Left::Nobody(_)), "{outcome:?}");
}

fn without_streams(closed: &str, kind: &str) -> ExitCode {
    // The way to the proof is somewhere else first. A panic would be told to nobody, but ends this without a "good".
    let mut proof = copy_of(&std::io::stdout());
    let errors = copy_of(&std::io::stderr());
    std::panic::set_hook(Box::new(move |panic| {
        let _ = (&errors).write_all(format!("{panic}\n").as_bytes());
    }));
    for fd in closed.bytes() {
        close(i32::from(fd - b'0')).expect("it was open");
    }
    let output = if kind == "captured" { Output::Captured } else { Output::Inherited };
    for input in [Input::Null, Input::Bytes("given".into())] {
        let mut command =
            sh("exec 2>&1; for fd in 0 1 2; do [ -e /proc/$$/fd/$fd ] || exit 9; done; cat; exit 7");
        let outcome = run(command.stdin(input.clone()).stdout(output).stderr(output)).expect("it starts");
        assert_ordinary(&outcome, 7);
        if let (Input::Bytes(given), Output::Captured) = (input, output) {
            assert_eq!(outcome.stdout.bytes, given);
        }
        // One that has to be ended, and not by a nanny that took it for an orphan.
        let runtime = runtime();
        runtime.block_on(async {
            let mut run = sh("sleep 30; exit 3").stdout(output).stderr(output).start().expect("it starts");
            tokio::time::sleep(Duration::from_millis(20)).await;
            run.cancel();
            let outcome = run.wait().await;
            assert!(matches!(outcome.ended, Ended::Stopped(childminder::Reason::Cancelled)), "{outcome:?}");
        });
    }
    proof.write_all(b"\ngood\n").expect("somebody listens");
    ExitCode::SUCCESS
}

fn copy_of(stream: &impl AsFd) -> File {
    File::from(stream.as_fd().try_clone_to_owned().expect("a descriptor"))
}

fn runs(rounds: &str) {
    let rounds: u32 = rounds.parse().expect("a number");
    for round in 0..rounds {
        let outcome = run(&mut sh("exit 7")).unwrap_or_else(|error| panic!("round {round}: {error:?}"));
        assert_ordinary(&outcome, 7);
        let error = run(&mut Command::new("/nowhere/at/all")).expect_err("no such program");
        assert!(matches!(error, StartError::Spawn { .. }), "{error:?}");
    }
}

fn limit_descriptors(limit: u64) {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, limit, hard).expect("it is below the hard one");
}

#[track_caller]
fn assert_nothing_is_left(before: &[String]) {
    // Fewer are well: those of an earlier runtime go when nobody can wake it any more.
    let more: Vec<_> = descriptors().into_iter().filter(|one| !before.contains(one)).collect();
    assert!(more.is_empty(), "{more:?}");
    assert_eq!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Err(Errno::ECHILD));
}

/// A tree that is to be ended, started under whatever lack there is. `Ok` if it could be started.
fn start_and_stop() -> Result<(), StartError> {
    let runtime = runtime();
    let _inside = runtime.enter();
    let mut run = sh("setsid sleep 30 & sleep 30").grace(Duration::ZERO).start()?;
    run.cancel();
    let outcome = runtime.block_on(run.wait());
    assert_eq!(outcome.containment, Containment::Nanny, "it was weakened in silence");
    assert!(matches!(outcome.left, Left::Nobody(_)), "{outcome:?}");
    Ok(())
}

/// With one descriptor more from time to time.
fn short_of_descriptors() {
    assert_ordinary(&run(&mut sh("exit 0")).expect("it starts"), 0);
    // Those of a runtime must not be what is lacking.
    let runtime = runtime();
    let _inside = runtime.enter();
    let before = descriptors();
    let mut refused = 0;
    // The listing itself needs one.
    let lowest = before.len() as u64;
    for limit in lowest.. {
        limit_descriptors(limit);
        let started = sh("setsid sleep 30 & sleep 30").grace(Duration::ZERO).start();
        limit_descriptors(1000);
        let was_refused = started.is_err();
        match started {
            Err(StartError::Pipe(_) | StartError::Spawn { .. } | StartError::Hold { .. }) => refused += 1,
            Err(other) => panic!("with a limit of {limit}: {other:?}"),
            Ok(mut run) => {
                run.cancel();
                let outcome = runtime.block_on(run.wait());
                assert!(matches!(outcome.left, Left::Nobody(_)), "with a limit of {limit}: {outcome:?}");
                assert_eq!(outcome.containment, Containment::Nanny, "with a limit of {limit}");
            }
        }
        assert_nothing_is_left(&before);
        if !was_refused {
            break;
        }
    }
    assert!(refused > 3, "it got by with hardly any");
}

/// The first start of all finds a lack, which passes.
fn short_for_a_while() {
    // The runtime's are there before.
    let runtime = runtime();
    let _inside = runtime.enter();
    let lowest = descriptors().len() as u64;
    for limit in lowest..lowest + 3 {
        limit_descriptors(limit);
        let first = Command::new("true").start();
        limit_descriptors(1000);
        match first {
            Err(_) => {}
            Ok(mut run) => {
                let outcome = runtime.block_on(run.wait());
                assert_eq!(outcome.containment, Containment::Nanny, "it was weakened in silence");
            }
        }
        start_and_stop().expect("the lack has passed");
    }
}

/// The number of a user without processes.
fn nobody_else() -> u32 {
    let processes = std::fs::read_dir("/proc").expect("a list of processes");
    let users: Vec<u32> = processes.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.uid())).collect();
    (64_321..).find(|number| !users.contains(number)).expect("there are not so many users")
}

fn short_of_processes() {
    let number = nobody_else();
    setgid(Gid::from_raw(number)).expect("root may");
    setuid(Uid::from_raw(number)).expect("root may");
    assert_ordinary(&run(&mut sh("exit 0")).expect("it starts"), 0);
    let before = descriptors();
    let mut refused = 0;
    let deadline = Instant::now() + PATIENCE;
    for limit in 1.. {
        let (_, hard) = getrlimit(Resource::RLIMIT_NPROC).expect("a limit");
        setrlimit(Resource::RLIMIT_NPROC, limit, hard).expect("it is below the hard one");
        match start_and_stop() {
            Ok(()) => break,
            Err(StartError::Spawn { source, .. }) => {
                assert_eq!(source.raw_os_error(), Some(Errno::EAGAIN as i32), "{source}");
                refused += 1;
            }
            Err(other) => panic!("with a limit of {limit}: {other:?}"),
        }
        assert_nothing_is_left(&before);
        assert!(Instant::now() < deadline, "it is never enough");
    }
    // There are two threads already; the nanny and the child are two more.
    assert!(refused >= 2, "it was refused {refused} times");
}

/// Says the number of a process that is not to be found without `/proc`. The leader is in that one's group.
fn proc_taken_away() {
    let script = "$| = 1; my $pid = fork; if (!$pid) { sleep 100; exit }
                  setpgrp $pid, $pid; setpgrp 0, $pid; print \"$pid\\n\"; sleep 100";
    let runtime = runtime();
    runtime.block_on(async {
        let mut command = Command::new("perl");
        command.args(["-e", script]).require(Containment::Nanny).stdout(Output::Streamed);
        let mut run = command.start().expect("it starts");
        let stranded = loop {
            match run.next_event().await.expect("it says a number") {
                Event::Stdout(bytes) => break String::from_utf8(bytes.to_vec()).expect("text"),
                Event::Ended(outcome) => panic!("it ended: {outcome:?}"),
                _ => {}
            }
        };
        umount2("/proc", MntFlags::MNT_DETACH).expect("the mounts are our own");
        say(stranded.trim());
        wait_for_go();
    });
}
