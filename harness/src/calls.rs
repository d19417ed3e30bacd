//! What a caller in the host does with a run, from whichever thread, and several at once.

use std::sync::{Arc, PoisonError, RwLock};
use std::thread;

use fake_cli::content::{Content, Output, RECORD, fill};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, oneshot, watch};
use tokio::task::JoinHandle;

use crate::promises::Promises;
use crate::scenario::Call;
use crate::subject::Caller;
use crate::trace::{Reason, Said};

/// A run that a host has started, as its callers have it.
#[derive(Clone, Debug)]
pub(crate) struct Hosted {
    pub(crate) promises: Promises,
    pub(crate) caller: Caller,
    /// Why it ended, once it has; closed without that if it was dropped.
    pub(crate) over: watch::Receiver<Option<Reason>>,
    /// The future; nobody's once it is dropped.
    pub(crate) task: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// A call and its answer, as the host reports them.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Called {
    /// Which caller, from 0.
    pub caller: u32,
    /// What it called.
    pub call: Call,
    /// When it called, on the monotonic clock, in nanoseconds.
    pub called_ns: u64,
    /// When it had its answer.
    pub returned_ns: u64,
    /// The answer.
    pub said: Said,
}

impl Hosted {
    /// Makes a call; so many bytes are written where it is a write.
    pub(crate) async fn make(&self, call: Call, bytes: u64) -> Said {
        const NO_HANDLE: &str = "the run is over and has given its caller no way to do that";
        let failed = |why: &str| Said::Failed(why.to_owned());
        let given = self.caller.given.clone();
        match call {
            Call::Cancel => {
                self.caller.cancels.cancel();
                Said::Done
            }
            Call::Poll if !self.promises.polls => Said::Unimplemented,
            Call::Poll => given.poll().await.map_or_else(|| failed(NO_HANDLE), Said::State),
            Call::Wait => self.wait().await,
            Call::Write | Call::CloseStdin if !self.promises.writes => Said::Unimplemented,
            Call::Write => match given.write(records(bytes)).await {
                Some(Ok(())) => Said::Done,
                Some(Err(error)) => failed(&error.to_string()),
                None => failed(NO_HANDLE),
            },
            Call::CloseStdin => given.close_stdin().await.map_or_else(|| failed(NO_HANDLE), |()| Said::Done),
            Call::Drop => self.drop_run().await,
        }
    }

    async fn wait(&self) -> Said {
        match self.over.clone().wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().map_or(Said::Dropped, Said::Ended),
            Err(_) => Said::Dropped,
        }
    }

    /// Done when the future is gone, not when its end was asked for.
    pub(crate) async fn drop_run(&self) -> Said {
        let Some(task) = self.task.lock().await.take() else { return Said::Done };
        task.abort();
        match task.await {
            Err(error) if error.is_panic() => Said::Failed(error.to_string()),
            _ => Said::Done,
        }
    }
}

/// What a write of so many bytes writes.
fn records(bytes: u64) -> Vec<u8> {
    let mut records = vec![0; usize::try_from(bytes).unwrap_or_default()];
    fill(Content::Records, Output::Stdout, 0, &mut records);
    records
}

/// Has each caller make its calls on a thread of its own, all of them from the same moment on.
///
/// # Errors
///
/// When a thread cannot be started, or a call panics.
pub(crate) async fn together(hosted: Hosted, callers: Vec<Vec<Call>>) -> Result<Vec<Called>, String> {
    let mut made = Vec::new();
    for answer in begin(&hosted, callers)? {
        made.extend(answer.await.map_err(|_| "a call panicked".to_owned())?);
    }
    Ok(made)
}

/// Where the calls of each caller arrive when it has made them.
fn begin(hosted: &Hosted, callers: Vec<Vec<Call>>) -> Result<Vec<oneshot::Receiver<Vec<Called>>>, String> {
    let may_start = Arc::new(RwLock::new(false));
    let mut gate = may_start.write().unwrap_or_else(PoisonError::into_inner);
    let runtime = Handle::current();
    let mut answers = Vec::new();
    for (caller, calls) in (0..).zip(callers) {
        let (sender, answer) = oneshot::channel();
        let (hosted, may_start, runtime) = (hosted.clone(), may_start.clone(), runtime.clone());
        let make = move || {
            let may_start = *may_start.read().unwrap_or_else(PoisonError::into_inner);
            let calls = calls.into_iter().filter(|_| may_start);
            let made: Vec<Called> = calls.map(|call| one_call(&runtime, &hosted, caller, call)).collect();
            // Whoever waits for it may have been dropped with the runtime.
            drop(sender.send(made));
        };
        // Not a thread of the runtime's: a caller may come from anywhere.
        thread::Builder::new()
            .name(format!("caller-{caller}"))
            .spawn(make)
            .map_err(|error| format!("no thread for caller {caller}: {error}"))?;
        answers.push(answer);
    }
    // Where a thread is missing, those that there are call nothing.
    *gate = true;
    drop(gate);
    Ok(answers)
}

fn one_call(runtime: &Handle, hosted: &Hosted, caller: u32, call: Call) -> Called {
    let called_ns = monotonic_ns();
    let said = runtime.block_on(hosted.make(call, RECORD));
    Called { caller, call, called_ns, returned_ns: monotonic_ns(), said }
}

fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
