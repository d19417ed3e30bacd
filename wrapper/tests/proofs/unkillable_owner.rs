//! Owners of members that cannot be ended.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use childminder::{Command, Containment, Event, Left, Output, Run};
use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Gid, Uid, setgid, setuid};

use crate::owner::{containment, runtime, say, wait_for_go};

const PATIENCE: Duration = Duration::from_secs(10);
const GRACE: Duration = Duration::from_millis(20);

pub(crate) fn frozen(name: &str, who: &str, freezer: &str) -> ExitCode {
    let script = match who {
        "leader" => "echo $$; sleep 30; sleep 30",
        _ => "setsid sh -c 'sleep 30; sleep 30' & echo $!; wait",
    };
    let runtime = runtime();
    runtime.block_on(async {
        let mut command = Command::new("sh");
        command.args(["-c", script]).require(containment(name)).grace(GRACE).stdout(Output::Streamed);
        let mut run = command.start().expect("it starts");
        let pid = number_said(&mut run).await;
        std::fs::write(format!("{freezer}/cgroup.procs"), pid.to_string()).expect("it may be moved");
        std::fs::write(format!("{freezer}/freezer.state"), "FROZEN").expect("it may be frozen");
        until("it is frozen", || {
            std::fs::read_to_string(format!("{freezer}/freezer.state"))
                .is_ok_and(|state| state.trim() == "FROZEN")
        });
        say(&pid.to_string());
        end(run).await;
    });
    wait_for_go();
    until_no_child();
    ExitCode::SUCCESS
}

pub(crate) fn of_another_user(helper: &str) -> ExitCode {
    setgid(Gid::from_raw(64_321)).expect("root may");
    setuid(Uid::from_raw(64_321)).expect("root may");
    let runtime = runtime();
    runtime.block_on(async {
        let mut command = Command::new("sh");
        let script = format!("{helper} --reuid=0 --regid=0 --clear-groups sleep 30 & echo $!; wait");
        command.args(["-c", &script]).require(Containment::Nanny).grace(GRACE).stdout(Output::Streamed);
        let mut run = command.start().expect("it starts");
        let pid = number_said(&mut run).await;
        let deadline = Instant::now() + Duration::from_secs(2);
        // Both users of a process are somebody else's only when it has changed both.
        let is_roots = || {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.lines().any(|line| line.starts_with("Uid:\t0\t0\t0\t0"))
        };
        while !is_roots() {
            if Instant::now() > deadline {
                say("no privilege");
                run.cancel();
                run.wait().await;
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        say(&pid.to_string());
        end(run).await;
    });
    until_no_child();
    ExitCode::SUCCESS
}

/// Says who is left, and after how many milliseconds.
async fn end(mut run: Run) {
    let before = Instant::now();
    run.cancel();
    let outcome = tokio::time::timeout(PATIENCE, run.wait()).await.expect("it is bounded");
    match &outcome.left {
        Left::Survivors(left) if left.len() == 1 => say(&format!("left: {} {}", left[0].pid, left[0].why)),
        other => say(&format!("left: {other:?}")),
    }
    say(&before.elapsed().as_millis().to_string());
}

async fn number_said(run: &mut Run) -> u32 {
    loop {
        match tokio::time::timeout(PATIENCE, run.next_event()).await.expect("it says something") {
            Some(Event::Stdout(bytes)) => {
                return String::from_utf8_lossy(&bytes).trim().parse().expect("a number");
            }
            Some(Event::Ended(outcome)) => panic!("{outcome:?}"),
            _ => {}
        }
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits for the library to reap, and reaps nobody.
fn until_no_child() {
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    until("there is no child", || waitid(Id::All, look) == Err(Errno::ECHILD));
    say("no child");
}
