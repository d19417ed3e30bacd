//! The host: the process that the wrapper lives in, and the protocol that drives it.
//!
//! JSON, one message a line, over a Unix socket whose path the host is given; never over its standard input or output,
//! which children inherit. The host says hello with what its subject promises, then takes ops and reports ends.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::pin::Pin;
use std::process::Child;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, PoisonError};
use std::task::Poll;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

use crate::calls::{self, Called, Hosted};
use crate::hinder::Hindered;
use crate::promises::Promises;
use crate::scenario::{Call, Hindrance, HostEnd};
use crate::subject::{DynSubject, Job, Task};
use crate::trace::{ChildStatus, Outcome, Polled, Reason, Said};

/// How long a host that ends may take to say what it still has to say.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// How many threads the runtime has, which is the wrapper's alone: enough for two runs at a time.
const WORKERS: usize = 2;

/// What is said of a wrapper whose own code panics.
const PANICKED: &str = "the wrapper panicked";

/// Exit code of a host that was told to exit.
const EXIT_OF_ITS_OWN: i32 = 3;

/// What the warden tells the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Order {
    /// Start a run.
    Run {
        /// Its number, from 1.
        run: u32,
        /// What to run.
        task: Task,
        /// What the host itself does to make the start fail, until the run is over.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hindered_by: Option<Hindrance>,
    },
    /// Cancel a run in the wrapper's own idiom.
    Cancel {
        /// Index of the op, for the answer.
        op: usize,
        /// The run.
        run: u32,
    },
    /// Drop the handle of a run.
    Drop {
        /// Index of the op, for the answer.
        op: usize,
        /// The run.
        run: u32,
    },
    /// Ask for the outcome of a run that has ended again.
    AskAgain {
        /// Index of the op, for the answer.
        op: usize,
        /// The run.
        run: u32,
    },
    /// Ask for the state of a run, without waiting.
    Poll {
        /// Index of the op, for the answer.
        op: usize,
        /// The run.
        run: u32,
    },
    /// Write to the root's standard input.
    Write {
        /// Index of the op, for the answer.
        op: usize,
        /// The run.
        run: u32,
        /// How many bytes.
        bytes: u64,
    },
    /// Close the root's standard input.
    CloseStdin {
        /// Index of the op, for the answer.
        op: usize,
        /// The run.
        run: u32,
    },
    /// Several callers, each on a thread of its own, begin at the same moment with their calls.
    Together {
        /// Index of the op, for the answer.
        op: usize,
        /// The run.
        run: u32,
        /// What each of them calls.
        callers: Vec<Vec<Call>>,
    },
    /// Start a child of the host's own, with which the wrapper has nothing to do.
    StartChild {
        /// What to start, without arguments.
        program: std::path::PathBuf,
    },
    /// Ask the kernel for the status of that child, which is dead.
    AskChild,
    /// Say how many tasks there are.
    CountTasks,
    /// End in this way at once.
    End {
        /// How.
        how: HostEnd,
    },
    /// End as an application would.
    Bye,
}

/// What the host answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Answer {
    /// The first message.
    Hello {
        /// What the subject promises.
        promises: Promises,
        /// Its version.
        version: String,
    },
    /// A run has ended.
    Ended {
        /// Which.
        run: u32,
        /// How.
        outcome: Outcome,
    },
    /// The outcome of a run that was asked for again.
    Again {
        /// Index of the op.
        op: usize,
        /// Which run.
        run: u32,
        /// How it ended.
        outcome: Outcome,
    },
    /// The state of a run that was asked for.
    Polled {
        /// Index of the op.
        op: usize,
        /// Which run.
        run: u32,
        /// What the wrapper said.
        polled: Polled,
    },
    /// Several callers have made their calls.
    Called {
        /// Index of the op.
        op: usize,
        /// With which run.
        run: u32,
        /// Each call with its answer.
        calls: Vec<Called>,
    },
    /// How many tasks the host's runtime has, those of the host itself among them.
    Tasks {
        /// So many.
        alive: u64,
    },
    /// An op is done: `cancel` returned, the handle is dropped.
    Done {
        /// Index of the op.
        op: usize,
    },
    /// The subject has no such op.
    Unimplemented {
        /// Index of the op.
        op: usize,
    },
    /// The status of the child of the host's own, once it was asked for; or why there is no such child.
    Child {
        /// What the kernel said.
        got: ChildStatus,
    },
    /// An op failed.
    Failed {
        /// Index of the op.
        op: usize,
        /// Why.
        why: String,
    },
}

/// Runs this process as a host until it is told to end.
///
/// # Errors
///
/// When the socket cannot be reached or breaks.
pub(crate) fn serve(subject: Arc<dyn DynSubject>, socket: &Path) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
    let entered = runtime.enter();
    take_orders(subject, socket)?;
    drop(entered);
    // As at the end of an application.
    drop(runtime);
    Ok(())
}

/// On the main thread, which waits for nothing else, and not by the runtime: that is the wrapper's.
fn take_orders(subject: Arc<dyn DynSubject>, socket: &Path) -> std::io::Result<()> {
    let stream = Arc::new(UnixStream::connect(socket)?);
    let (answers, closed) = Answers::over(stream.clone());
    let mut host = Host { subject, answers, runs: HashMap::new(), child: None };
    host.answer(Answer::Hello { promises: host.subject.promises(), version: host.subject.version() });
    for line in BufReader::new(&*stream).lines() {
        match serde_json::from_str(&line?)? {
            Order::Run { run, task, hindered_by } => host.start(run, task, hindered_by),
            Order::Cancel { op, run } => host.cancel(op, run),
            Order::Drop { op, run } => host.drop_run(op, run),
            Order::StartChild { program } => host.start_child(&program),
            Order::AskChild => host.ask_child(),
            Order::End { how } => end(how),
            Order::AskAgain { op, run } => host.ask_again(op, run),
            Order::CountTasks => host.count_tasks(),
            Order::Poll { op, run } => host.call(op, run, Call::Poll, 0),
            Order::Write { op, run, bytes } => host.call(op, run, Call::Write, bytes),
            Order::CloseStdin { op, run } => host.call(op, run, Call::CloseStdin, 0),
            Order::Together { op, run, callers } => host.call_together(op, run, callers),
            Order::Bye => break,
        }
    }
    drop(host);
    // Nobody answers any more when the last run that could is gone; one that hangs must not keep the host.
    let _ = closed.recv_timeout(LAST_WORDS);
    Ok(())
}

/// The way by which the host answers, from whichever thread.
#[derive(Clone)]
struct Answers {
    stream: Arc<UnixStream>,
    /// Held while an answer is written: a long one may be written in pieces.
    turn: Arc<std::sync::Mutex<()>>,
    /// Nothing is sent by it: it ends with the last of those who could answer.
    _open: Sender<Infallible>,
}

impl Answers {
    /// And what ends when nobody can answer any more.
    fn over(stream: Arc<UnixStream>) -> (Self, Receiver<Infallible>) {
        let (open, closed) = mpsc::channel();
        (Self { stream, turn: Arc::default(), _open: open }, closed)
    }

    fn say(&self, answer: &Answer) {
        let mut line = serde_json::to_vec(answer).expect("an answer has string keys only");
        line.push(b'\n');
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        // It fails when the connection has ended, and then there is nobody to tell.
        drop((&*self.stream).write_all(&line));
        drop(turn);
    }
}

/// The outcome of a run, an error where the wrapper panics: its user would be told that too, by the task that he awaits.
async fn or_panicked(mut run: Pin<Box<dyn Future<Output = Outcome> + Send>>) -> Outcome {
    poll_fn(move |context| {
        catch_unwind(AssertUnwindSafe(|| run.as_mut().poll(context)))
            .unwrap_or_else(|_| Poll::Ready(Outcome::because(Reason::Error(PANICKED.to_owned()))))
    })
    .await
}

/// Ends this process as a fault or a careless line in an application does.
fn end(how: HostEnd) -> ! {
    match how {
        HostEnd::Panic => panic!("this host was told to panic"),
        HostEnd::Exit => std::process::exit(EXIT_OF_ITS_OWN),
        HostEnd::Abort => {
            // A core file would lie around after every case. Without this there is one, which is all.
            let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
            std::process::abort()
        }
    }
}

struct Host {
    subject: Arc<dyn DynSubject>,
    answers: Answers,
    runs: HashMap<u32, Hosted>,
    child: Option<Child>,
}

impl Host {
    fn answer(&self, answer: Answer) {
        self.answers.say(&answer);
    }

    fn start(&mut self, run: u32, task: Task, hindered_by: Option<Hindrance>) {
        let (job, caller) = Job::new(task);
        let (end, over) = watch::channel(None);
        let future = self.subject.clone().run(job);
        let answers = self.answers.clone();
        // In force before the wrapper is first polled, and lifted when its future is done or dropped.
        let hindered = hindered_by.map(Hindered::by).transpose();
        let task = tokio::spawn(async move {
            let outcome = match hindered {
                Ok(hindered) => {
                    let outcome = or_panicked(future).await;
                    drop(hindered);
                    outcome
                }
                Err(why) => Outcome::because(Reason::Error(format!("the host could not be hindered: {why}"))),
            };
            end.send_replace(Some(outcome.reason.clone()));
            answers.say(&Answer::Ended { run, outcome });
        });
        let task: Arc<Mutex<Option<JoinHandle<()>>>> = Arc::new(Mutex::new(Some(task)));
        self.runs.insert(run, Hosted { promises: self.subject.promises(), caller, over, task });
    }

    /// Done is said when the wrapper's cancel has returned. It may block, which must not hold up what others are told meanwhile.
    fn cancel(&self, op: usize, run: u32) {
        let Some(hosted) = self.runs.get(&run) else {
            return self.answer(Answer::Failed { op, why: format!("there is no run {run}") });
        };
        let cancels = hosted.caller.cancels.clone();
        if !cancels.are_hooked() {
            cancels.cancel();
            return self.answer(Answer::Done { op });
        }
        let answers = self.answers.clone();
        tokio::task::spawn_blocking(move || {
            let answer = match catch_unwind(AssertUnwindSafe(|| cancels.cancel())) {
                Ok(()) => Answer::Done { op },
                Err(_) => Answer::Failed { op, why: PANICKED.to_owned() },
            };
            answers.say(&answer);
        });
    }

    fn start_child(&mut self, program: &Path) {
        let null = std::process::Stdio::null;
        match std::process::Command::new(program).stdin(null()).stdout(null()).stderr(null()).spawn() {
            Ok(child) => self.child = Some(child),
            Err(error) => self.answer(Answer::Child { got: ChildStatus::Failed(error.to_string()) }),
        }
    }

    fn ask_child(&mut self) {
        let got = match self.child.as_mut().map(Child::try_wait) {
            Some(Ok(Some(status))) => ChildStatus::Got(status.into()),
            Some(Err(error)) if error.raw_os_error() == Some(rustix::io::Errno::CHILD.raw_os_error()) => {
                ChildStatus::Lost
            }
            Some(Err(error)) => ChildStatus::Failed(error.to_string()),
            Some(Ok(None)) => ChildStatus::Failed("the kernel says that it has not ended".to_owned()),
            None => ChildStatus::Failed("there is no such child".to_owned()),
        };
        self.answer(Answer::Child { got });
    }

    fn count_tasks(&self) {
        let alive = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        self.answer(Answer::Tasks { alive: alive as u64 });
    }

    fn ask_again(&self, op: usize, run: u32) {
        let Some(again) = self.runs.get(&run).and_then(|hosted| hosted.caller.asked.ask()) else {
            return self.answer(Answer::Unimplemented { op });
        };
        let task = tokio::spawn(again);
        let answers = self.answers.clone();
        tokio::spawn(async move {
            let answer = match task.await {
                Ok(outcome) => Answer::Again { op, run, outcome },
                Err(error) => Answer::Failed { op, why: error.to_string() },
            };
            answers.say(&answer);
        });
    }

    /// One call, which is answered when it has its answer; the host goes on meanwhile.
    fn call(&self, op: usize, run: u32, call: Call, bytes: u64) {
        let Some(hosted) = self.runs.get(&run).cloned() else {
            return self.answer(Answer::Failed { op, why: format!("there is no run {run}") });
        };
        let answers = self.answers.clone();
        tokio::spawn(async move {
            let answer = match hosted.make(call, bytes).await {
                Said::State(polled) => Answer::Polled { op, run, polled },
                Said::Failed(why) => Answer::Failed { op, why },
                Said::Unimplemented => Answer::Unimplemented { op },
                Said::Done | Said::Ended(_) | Said::Dropped => Answer::Done { op },
            };
            answers.say(&answer);
        });
    }

    fn call_together(&self, op: usize, run: u32, callers: Vec<Vec<Call>>) {
        let Some(hosted) = self.runs.get(&run).cloned() else {
            return self.answer(Answer::Failed { op, why: format!("there is no run {run}") });
        };
        let answers = self.answers.clone();
        tokio::spawn(async move {
            let answer = match calls::together(hosted, callers).await {
                Ok(calls) => Answer::Called { op, run, calls },
                Err(why) => Answer::Failed { op, why },
            };
            answers.say(&answer);
        });
    }

    /// Done is said when the future is gone, not when its end was asked for.
    fn drop_run(&mut self, op: usize, run: u32) {
        let Some(hosted) = self.runs.remove(&run) else {
            return self.answer(Answer::Failed { op, why: format!("there is no run {run}") });
        };
        let answers = self.answers.clone();
        tokio::spawn(async move {
            let answer = match hosted.drop_run().await {
                Said::Failed(why) => Answer::Failed { op, why },
                _ => Answer::Done { op },
            };
            answers.say(&answer);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::sync::RwLock;

    use super::*;
    use crate::subject::Subject;

    /// Blocks the thread on which it runs until the gate is free, as a careless wrapper does.
    struct Blocking {
        gate: Arc<RwLock<()>>,
        blocks: Sender<()>,
    }

    impl Subject for Blocking {
        fn promises(&self) -> Promises {
            Promises::default()
        }

        async fn run(&self, _job: Job) -> Outcome {
            self.blocks.send(()).unwrap();
            drop(self.gate.read().unwrap());
            Outcome::because(Reason::Itself)
        }
    }

    #[test]
    fn a_host_whose_wrapper_blocks_every_thread_of_the_runtime_takes_orders_and_answers() {
        const LONG: Duration = Duration::from_secs(20);
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("h");
        let listener = UnixListener::bind(&socket).unwrap();
        let gate = Arc::new(RwLock::new(()));
        let closed = gate.write().unwrap();
        let (blocks, blocked) = mpsc::channel();
        let subject = Arc::new(Blocking { gate: gate.clone(), blocks });
        let host = std::thread::spawn(move || serve(subject, &socket));
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let mut lines = BufReader::new(&stream).lines();
        let mut answer = || serde_json::from_str::<Answer>(&lines.next().unwrap().unwrap()).unwrap();
        let tell = |order: Order| {
            let line = serde_json::to_string(&order).unwrap() + "\n";
            (&stream).write_all(line.as_bytes()).unwrap();
        };
        assert!(matches!(answer(), Answer::Hello { .. }));
        for run in 1..=WORKERS as u32 {
            let (program, limits) = (folder.path().join("fake"), Default::default());
            let task = Task { program, limits, input: None, writes: false, asks_again: false };
            tell(Order::Run { run, task, hindered_by: None });
            blocked.recv_timeout(LONG).unwrap();
        }
        tell(Order::CountTasks);
        assert_eq!(answer(), Answer::Tasks { alive: WORKERS as u64 });
        drop(closed);
        for _ in 0..WORKERS {
            assert!(matches!(answer(), Answer::Ended { .. }));
        }
        tell(Order::Bye);
        host.join().unwrap().unwrap();
    }
}
