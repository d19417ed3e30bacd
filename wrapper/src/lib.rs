//! Runs a child CLI so that nothing it started outlives the run.

pub use command::Command;
pub use contain::Containment;
pub use input::{ChildStdin, Input};
pub use outcome::{
    Capture, Cut, Ended, Kill, KillCause, Left, Outcome, Proof, Reason, StopReceipt, StreamEnd, Survivor,
    Timings, WhyAlive,
};
pub use output::Output;
pub use run::{Canceller, Event, Run, RunId, State};
pub use start::StartError;

mod command;
mod contain;
mod input;
mod outcome;
mod output;
mod run;
mod start;
mod stop;
mod supervise;
#[expect(unsafe_code, reason = "the facade to the operating system is the one place for it")]
mod sys;
