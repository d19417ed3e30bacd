//! What becomes of the runs when their owner itself ends, or is stopped. The owner is this test once more, in a process
//! of its own.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Stdio};
use std::time::Duration;

use childminder::{Containment, Run};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::runtime::{Builder, Runtime};

use crate::scene::{LONG_GRACE, PATIENCE, eventually, is_alive, pids, sh, start, state_of};
use crate::stray::Stray;

/// Set for an owner.
const MARK: &str = "CHILDMINDER_TEST_IS_AN_OWNER";

/// What an owner puts before its lines, which are among those of the test.
const SAYS: &str = "owner says:";

/// Deaf, so that it outlives a mere request.
const DEAF_TREE: &str = "trap '' TERM; sleep 100 & echo $!; echo $$; wait; wait";

fn is_an_owner() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Runs one of these tests as an owner.
struct Owner {
    process: Child,
    stdout: BufReader<ChildStdout>,
}

impl Owner {
    fn start(test: &str) -> Self {
        let mut process = std::process::Command::new(std::env::current_exe().expect("our own path"))
            .args(["--exact", &format!("owner_ends::{test}"), "--nocapture"])
            .env(MARK, "1")
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be started again");
        let stdout = BufReader::new(process.stdout.take().expect("a pipe"));
        Self { process, stdout }
    }

    /// The next thing that it says.
    fn hear(&mut self) -> String {
        let mut line = String::new();
        while self.stdout.read_line(&mut line).expect("text") > 0 {
            if let Some((_, said)) = line.split_once(SAYS) {
                return said.trim().to_owned();
            }
            line.clear();
        }
        panic!("the owner ended without a word");
    }

    fn hear_pids(&mut self) -> Vec<u32> {
        self.hear().split(' ').map(|pid| pid.parse().expect("a pid")).collect()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.process.id()).expect("a pid"));
        kill(pid, signal).expect("our own child");
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // It has ended already unless the test has failed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn say_pids(pids: &[u32]) {
    let pids: Vec<_> = pids.iter().map(u32::to_string).collect();
    println!("\n{SAYS} {}", pids.join(" "));
}

/// In the owner: a run that is held, and one that was dropped a moment before the end.
fn ends_with_two_runs(containment: Containment, end: impl FnOnce()) {
    let runtime = runtime();
    let deaf = || {
        runtime.block_on(async {
            let mut run = start(sh(DEAF_TREE).require(containment).grace(LONG_GRACE));
            let tree = pids(&mut run, 2).await;
            (run, tree)
        })
    };
    let (_held, mut trees) = deaf();
    let (dropped, more): (Run, _) = deaf();
    trees.extend(more);
    say_pids(&trees);
    drop(dropped);
    end();
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[track_caller]
fn assert_all_survive(owner: &mut Owner) {
    let trees = owner.hear_pids();
    let _strays: Vec<_> = trees.iter().map(|pid| Stray(*pid)).collect();
    owner.process.wait().expect("our own child");
    assert_eq!(trees.len(), 4);
    let dead: Vec<_> = trees.iter().filter(|pid| !is_alive(**pid)).collect();
    assert!(dead.is_empty(), "the documentation says less than is true: {dead:?} ended with the owner");
}

#[test]
fn with_group_everybody_survives_an_owner_that_exits() {
    if is_an_owner() {
        ends_with_two_runs(Containment::Group, || std::process::exit(0));
    }
    assert_all_survive(&mut Owner::start("with_group_everybody_survives_an_owner_that_exits"));
}

#[test]
fn with_group_everybody_survives_an_owner_that_aborts() {
    if is_an_owner() {
        setrlimit(Resource::RLIMIT_CORE, 0, 0).expect("a limit can be lowered");
        ends_with_two_runs(Containment::Group, || std::process::abort());
    }
    assert_all_survive(&mut Owner::start("with_group_everybody_survives_an_owner_that_aborts"));
}

#[test]
fn with_group_everybody_survives_an_owner_that_is_killed() {
    if is_an_owner() {
        ends_with_two_runs(Containment::Group, || kill(Pid::this(), Signal::SIGKILL).expect("ourselves"));
    }
    assert_all_survive(&mut Owner::start("with_group_everybody_survives_an_owner_that_is_killed"));
}

/// In the owner: what may become of it. In the test: nobody survives that.
fn nobody_survives(test: &str, end: impl FnOnce()) {
    if is_an_owner() {
        setrlimit(Resource::RLIMIT_CORE, 0, 0).expect("a limit can be lowered");
        ends_with_two_runs(Containment::Nanny, end);
    }
    let mut owner = Owner::start(test);
    let trees = owner.hear_pids();
    assert_eq!(trees.len(), 4);
    owner.process.wait().expect("our own child");
    eventually("everybody is dead", || !trees.iter().any(|pid| is_alive(*pid)));
}

#[test]
fn with_nanny_nobody_survives_an_owner_that_exits() {
    nobody_survives("with_nanny_nobody_survives_an_owner_that_exits", || std::process::exit(0));
}

#[test]
fn with_nanny_nobody_survives_an_owner_that_aborts() {
    nobody_survives("with_nanny_nobody_survives_an_owner_that_aborts", || std::process::abort());
}

#[test]
fn with_nanny_nobody_survives_an_owner_that_is_killed() {
    nobody_survives("with_nanny_nobody_survives_an_owner_that_is_killed", || {
        kill(Pid::this(), Signal::SIGKILL).expect("ourselves");
    });
}

#[test]
fn with_nanny_nobody_survives_an_owner_that_is_killed_while_a_child_has_stopped_its_nanny() {
    const STOPS_ITS_PARENT: &str = "setsid sleep 100 & echo $!; kill -STOP $PPID; echo $$; wait";
    if is_an_owner() {
        let runtime = runtime();
        let (_run, tree) = runtime.block_on(async {
            let mut run = start(sh(STOPS_ITS_PARENT).grace(LONG_GRACE));
            let tree = pids(&mut run, 2).await;
            (run, tree)
        });
        say_pids(&tree);
        kill(Pid::this(), Signal::SIGKILL).expect("ourselves");
    }
    let mut owner = Owner::start(
        "with_nanny_nobody_survives_an_owner_that_is_killed_while_a_child_has_stopped_its_nanny",
    );
    let tree = owner.hear_pids();
    owner.process.wait().expect("our own child");
    eventually("everybody is dead", || !tree.iter().any(|pid| is_alive(*pid)));
}

#[test]
fn with_nanny_nobody_survives_an_owner_that_becomes_another_program() {
    use std::os::unix::process::CommandExt as _;
    nobody_survives("with_nanny_nobody_survives_an_owner_that_becomes_another_program", || {
        // The same process, so only the end of the channel tells.
        let error = std::process::Command::new("sh").args(["-c", "sleep 1"]).exec();
        panic!("it did not: {error}");
    });
}

#[test]
fn a_timeout_that_was_over_while_the_owner_was_stopped_acts_when_it_goes_on() {
    const TIMEOUT: Duration = Duration::from_secs(4);
    if is_an_owner() {
        let outcome = runtime().block_on(async {
            let mut run = start(sh("echo $$; exec sleep 100").timeout(TIMEOUT).grace(LONG_GRACE));
            say_pids(&pids(&mut run, 1).await);
            // In part of that time it is not there itself.
            tokio::time::timeout(PATIENCE * 2, run.wait()).await.expect("it is stopped at last")
        });
        println!("\n{SAYS} {:?}", outcome.ended);
        std::process::exit(0);
    }
    let mut owner = Owner::start("a_timeout_that_was_over_while_the_owner_was_stopped_acts_when_it_goes_on");
    let child = owner.hear_pids()[0];
    owner.signal(Signal::SIGSTOP);
    eventually("the owner has stopped", || state_of(owner.process.id()) == Some('T'));
    // Time is what is tested here.
    std::thread::sleep(TIMEOUT + TIMEOUT / 5);
    assert!(is_alive(child), "nobody was there to stop it");
    owner.signal(Signal::SIGCONT);
    assert_eq!(owner.hear(), "Stopped(TimedOut)");
    assert!(!is_alive(child));
}

#[test]
fn what_a_child_wrote_while_the_owner_was_stopped_is_no_silence() {
    const IDLE: Duration = Duration::from_secs(4);
    const WRITES_WHEN_ITS_OWNER_IS_STOPPED: &str = "echo $$
        until grep -q '^State:.*stopped' /proc/$PPID/status; do sleep 0.01; done
        echo late; exec sleep 100";
    if is_an_owner() {
        let outcome = runtime().block_on(async {
            let mut command = sh(WRITES_WHEN_ITS_OWNER_IS_STOPPED);
            let mut run = start(command.containment(Containment::Group).idle_timeout(IDLE).grace(LONG_GRACE));
            say_pids(&pids(&mut run, 1).await);
            // In part of that time it is not there itself.
            tokio::time::timeout(PATIENCE * 2, run.wait()).await.expect("it is idle at last")
        });
        let asked_after = outcome.stop.expect("it was stopped").asked_after;
        println!("\n{SAYS} {:?} {}", outcome.ended, asked_after.as_millis());
        std::process::exit(0);
    }
    let mut owner = Owner::start("what_a_child_wrote_while_the_owner_was_stopped_is_no_silence");
    owner.hear_pids();
    owner.signal(Signal::SIGSTOP);
    eventually("the owner has stopped", || state_of(owner.process.id()) == Some('T'));
    // Time is what is tested here.
    std::thread::sleep(IDLE + IDLE / 5);
    owner.signal(Signal::SIGCONT);
    let said = owner.hear();
    let asked_after = said.strip_prefix("Stopped(Idle) ").and_then(|millis| millis.parse().ok());
    let asked_after = Duration::from_millis(asked_after.unwrap_or_else(|| panic!("{said}")));
    assert!(asked_after >= IDLE * 2, "asked after {asked_after:?}, so its last word did not count");
}
