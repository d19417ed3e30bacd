//! The supervising thread does not run while there is nothing to do. Alone in its process, so that it can measure.
#![cfg(target_os = "linux")]

use std::time::{Duration, Instant};

use childminder::{Command, Event, Input, Output, Run};

const GRACE: Duration = Duration::from_secs(60);

fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]).grace(GRACE).stdout(Output::Streamed);
    command
}

async fn ready(mut run: Run) -> Run {
    while !matches!(run.next_event().await.expect("it says something first"), Event::Stdout(_)) {}
    run
}

/// The CPU time of the library's thread, and how often it has been woken up.
fn thread_times() -> (Duration, u64) {
    for task in std::fs::read_dir("/proc/self/task").expect("a list of threads").flatten() {
        let name = std::fs::read_to_string(task.path().join("comm")).expect("its name");
        if name.trim() == "childminder" {
            let times = std::fs::read_to_string(task.path().join("schedstat")).expect("its times");
            let mut times = times.split_whitespace().map(|word| word.parse::<u64>().expect("a number"));
            let busy = Duration::from_nanos(times.next().expect("time on a CPU"));
            return (busy, times.nth(1).expect("time slices"));
        }
    }
    panic!("there is no such thread");
}

#[tokio::test]
async fn the_thread_sleeps_while_children_hang_while_nobody_reads_and_during_a_grace() {
    let hanging = ready(sh("echo; exec sleep 100").start().expect("it starts")).await;
    let flooding = ready(sh("exec yes").start().expect("it starts")).await;
    let closed = ready(sh("echo; exec sleep 100 >&- 2>&-").start().expect("it starts")).await;
    let unread = sh("echo; exec sleep 100").stdin(Input::Bytes(vec![0; 1 << 20].into())).start();
    let unread = ready(unread.expect("it starts")).await;
    let leaderless = "sh -c 'trap \"\" TERM; echo; sleep 100; sleep 100' & wait";
    let leaderless = ready(sh(leaderless).start().expect("it starts")).await;
    leaderless.cancel();
    let leader = leaderless.pid().expect("it is not reaped");
    let deadline = Instant::now() + Duration::from_secs(10);
    // A zombie, or reaped by whoever holds it.
    while std::fs::read_to_string(format!("/proc/{leader}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(Instant::now() < deadline, "the leader did not end");
        std::thread::sleep(Duration::from_millis(1));
    }

    // Time is what is measured here. What is still on its way may wake it up a few times more, but not for ever.
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let before = thread_times();
        std::thread::sleep(Duration::from_millis(500));
        // In the middle of a wake-up that is counted already, the time it takes is not.
        let after = thread_times();
        if after == before {
            break;
        }
        assert!(Instant::now() < deadline, "it is woken up, or busy, again and again: {before:?}, {after:?}");
    }

    for run in [hanging, flooding, closed, unread, leaderless] {
        run.cancel();
        run.cancel();
        let mut run = run;
        run.wait().await;
    }
}
