//! A wrapper for several runs at once, whose state can be asked for from anywhere, with one flaw in that.

use std::collections::HashMap;
use std::io::{self, Read as _};
use std::process::Stdio;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use headcount::promises::Promises;
use headcount::subject::{Job, Subject};
use headcount::trace::{Captured, Outcome, Polled, Reason, RunState, Status};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// What is wrong with the wrapper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    /// A stop ends all children that its process has.
    EndsAllChildren,
    /// One stop waits until the other is over.
    StopsOneAtATime,
    /// What a thread was told of a run it is told once more.
    RemembersForEachThread,
    /// The pipes of a child stay open in those that are started after it.
    SharesItsPipes,
    /// A child that has stopped has ended.
    TakesAStopForAnEnd,
    /// The pid is given out for ever.
    KeepsThePid,
    /// A cancel before there is a child is nobody's.
    LosesEarlyCancels,
}

/// Each by its name.
pub(crate) const ALL: [(&str, Flaw); 8] = [
    ("several", Flaw::None),
    ("ends-all-children", Flaw::EndsAllChildren),
    ("stops-one-at-a-time", Flaw::StopsOneAtATime),
    ("remembers-for-each-thread", Flaw::RemembersForEachThread),
    ("shares-its-pipes", Flaw::SharesItsPipes),
    ("takes-a-stop-for-an-end", Flaw::TakesAStopForAnEnd),
    ("keeps-the-pid", Flaw::KeepsThePid),
    ("loses-early-cancels", Flaw::LosesEarlyCancels),
];

/// The wrapper.
pub(crate) struct Several(pub(crate) Flaw);

/// What everybody may know of a run.
#[derive(Debug)]
struct Known {
    polled: Mutex<Polled>,
    told: Mutex<HashMap<ThreadId, Polled>>,
    stop: watch::Sender<bool>,
}

impl Known {
    fn set(&self, change: impl FnOnce(&mut Polled)) {
        change(&mut self.polled.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn poll(&self, flaw: Flaw) -> Polled {
        let now = *self.polled.lock().unwrap_or_else(PoisonError::into_inner);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match told.remove(&thread::current().id()) {
            Some(before) if flaw == Flaw::RemembersForEachThread => before,
            _ => {
                told.insert(thread::current().id(), now);
                now
            }
        }
    }
}

impl Subject for Several {
    fn promises(&self) -> Promises {
        "timeout,grace,group,clean,tells-reason,captures,status,polls,gives-pid".parse().expect("known words")
    }

    async fn run(&self, job: Job) -> Outcome {
        let flaw = self.0;
        let known = Arc::new(Known {
            polled: Mutex::new(Polled { state: RunState::Running, pid: None }),
            told: Mutex::default(),
            stop: watch::Sender::new(false),
        });
        job.on_cancel({
            let known = known.clone();
            move || {
                let has_child = known.polled.lock().unwrap_or_else(PoisonError::into_inner).pid.is_some();
                if has_child || flaw != Flaw::LosesEarlyCancels {
                    known.stop.send_replace(true);
                }
            }
        });
        if flaw == Flaw::LosesEarlyCancels {
            // A start that takes its time.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        match start(&job, flaw) {
            Ok((child, output)) => {
                known.set(|polled| polled.pid = child.id().map(u32::cast_signed));
                job.on_poll({
                    let known = known.clone();
                    move || std::future::ready(known.poll(flaw))
                });
                let outcome = to_its_end(&job, flaw, &known, child, output).await;
                known.set(|polled| {
                    polled.state = RunState::Ended;
                    polled.pid = polled.pid.filter(|_| flaw == Flaw::KeepsThePid);
                });
                outcome
            }
            Err(error) => Outcome::because(Reason::StartFailed(error.to_string())),
        }
    }
}

fn start(job: &Job, flaw: Flaw) -> io::Result<(Child, io::PipeReader)> {
    let (output, input) = io::pipe()?;
    if flaw == Flaw::SharesItsPipes {
        rustix::io::fcntl_setfd(&output, rustix::io::FdFlags::empty())?;
    }
    let mut command = Command::new(job.program());
    command.process_group(0).stdin(Stdio::null()).stdout(input).stderr(Stdio::null()).kill_on_drop(true);
    Ok((command.spawn()?, output))
}

async fn to_its_end(
    job: &Job,
    flaw: Flaw,
    known: &Known,
    mut child: Child,
    mut output: io::PipeReader,
) -> Outcome {
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        output.read_to_end(&mut bytes).map(|_| bytes)
    });
    let group = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
    let mut stop = known.stop.subscribe();
    let limit = job.timeout().unwrap_or(Duration::MAX);
    let reason = tokio::select! {
        ended = tokio::time::timeout(limit, has_ended(&mut child, flaw, group)) => match ended {
            Ok(()) => Reason::Itself,
            Err(_) => Reason::TimedOut,
        },
        _ = stop.wait_for(|stop| *stop) => Reason::Cancelled,
    };
    if reason != Reason::Itself {
        known.set(|polled| polled.state = RunState::Stopping);
        end(flaw, group, &mut child, job.grace().unwrap_or_default()).await;
    }
    signal(group, Signal::KILL);
    let status = child.wait().await.ok().map(Status::from);
    let stdout = read.await.ok().and_then(Result::ok).map(|bytes| Captured::of(&bytes, None));
    Outcome { reason, status, stdout, stderr: None }
}

async fn has_ended(child: &mut Child, flaw: Flaw, pid: Option<Pid>) {
    let (true, Some(pid)) = (flaw == Flaw::TakesAStopForAnEnd, pid) else {
        drop(child.wait().await);
        return;
    };
    let changed =
        WaitIdOptions::EXITED | WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    while matches!(waitid(WaitId::Pid(pid), changed), Ok(None)) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn end(flaw: Flaw, group: Option<Pid>, child: &mut Child, grace: Duration) {
    static ONE_AT_A_TIME: LazyLock<tokio::sync::Mutex<()>> = LazyLock::new(tokio::sync::Mutex::default);
    let _turn = match flaw {
        Flaw::StopsOneAtATime => Some(ONE_AT_A_TIME.lock().await),
        _ => None,
    };
    if flaw == Flaw::EndsAllChildren {
        for child in children() {
            // Whoever is reaped meanwhile is not ours to signal, and this wrapper is wrong anyway.
            let _ = kill_process(child, Signal::KILL);
        }
    }
    signal(group, Signal::TERM);
    drop(tokio::time::timeout(grace, child.wait()).await);
}

fn signal(group: Option<Pid>, signal: Signal) {
    // Nobody may be left in it.
    group.map(|group| kill_process_group(group, signal));
}

/// The children of all threads of this process.
fn children() -> Vec<Pid> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let pids = lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>());
    pids.filter_map(Pid::from_raw).collect()
}
