//! Runs a child CLI so that nothing it started outlives the run.
//!
//! ```
//! # #[cfg(target_os = "linux")]
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), childminder::StartError> {
//! use childminder::{Command, Ended, Event, Output};
//!
//! // To the end, with the output captured.
//! let outcome = Command::new("sh").args(["-c", "echo hello; exit 3"]).run().await?;
//! assert_eq!(outcome.ended, Ended::ByItself);
//! assert_eq!(outcome.exit.and_then(|exit| exit.code()), Some(3));
//! assert_eq!(&outcome.stdout.bytes[..], b"hello\n");
//!
//! // Event by event, until it is enough.
//! let mut run = Command::new("yes").stdout(Output::Streamed).start()?;
//! while let Some(event) = run.next_event().await {
//!     if let Event::Stdout(bytes) = event {
//!         assert!(bytes.starts_with(b"y\n"));
//!         break;
//!     }
//! }
//! run.cancel();
//! let outcome = run.wait().await;
//! assert!(outcome.stop.is_some());
//! # Ok(()) }
//! # #[cfg(not(target_os = "linux"))] fn main() {}
//! ```
//!
//! # How a run ends
//!
//! "Everybody" is everybody the [`Containment`] holds: with [`Containment::Group`] all processes in the child's process
//! group, with all others everybody who descends from the child, wherever they have gone.
//!
//! | what happens | what is done | outcome |
//! |---|---|---|
//! | the child ends by itself | whoever it left in its group is killed at once, without being asked | [`Ended::ByItself`], its exit status |
//! | the timeout is over, the token is cancelled, [`Run::cancel`] is called | everybody is sent SIGTERM (and SIGCONT, so that a stopped process notices); whoever is there when the grace is over is killed, also when the child itself has ended | [`Ended::Stopped`] with the first [`Reason`], and a [`StopReceipt`] |
//! | [`Run::cancel`] is called a second time | everybody is killed at once | the same |
//! | the [`Run`], or a future that holds it, is dropped: also by a panic that unwinds, by an aborted task, by the shutdown of the runtime | the same as a cancel, by the library's own thread; the drop itself does not wait | nobody is there to get it |
//! | the runtime is gone while the [`Run`] lives | nothing: the run goes on, and can be waited for in another runtime | as above |
//! | a kill is not obeyed for two seconds | nobody waits any longer; the child is reaped when it ends at last | [`Left::Survivors`], with the reason |
//! | a nanny is killed | with [`Containment::Nanny`] everybody in the child's session is killed, and nobody knows of others; with [`Containment::Cgroup`] everybody in the control group as well; with [`Containment::Sealed`] the kernel kills everybody | [`Reason::ContainmentLost`]; [`Left::Unknown`], or [`Proof::CgroupEmpty`], or [`Proof::NamespaceGone`] |
//! | a start fails | what was made is closed; what was started is killed and reaped | [`StartError`] |
//! | the owner exits, aborts or is killed | everybody is killed by the nanny; **with `Group` everybody survives**, also those of a run that was dropped a moment before | – |
//! | the owner and the nanny are killed | with `Sealed` the kernel kills everybody; with `Cgroup` the next owner does at its first use; with `Nanny` and `Group` everybody survives | – |
//!
//! The output is drained when everybody has ended. If a process out of reach still holds it, the run ends when the
//! drain window is over, our end of the pipe is closed, and the [`Capture`] says [`Cut::Held`].
//!
//! # What is not promised
//!
//! - A process that moved to a session or process group of its own (`setsid`, a daemon, a shell with job control) is
//!   out of reach of `Group`. [`Containment::cannot_hold`] says so, and each [`Outcome`] names its containment.
//! - A pipe to the child is made close-on-exec, but if another thread of the owner makes a descriptor *without* that
//!   during a start, the child inherits it.
//! - A process of another user (a set-uid program) cannot be killed; it is named as a survivor.
//! - An owner that ignores SIGCHLD, or waits for any child, takes exit statuses away from us. Then there is an outcome
//!   without one, and before Linux 6.9 whoever such a child left behind is not killed.
//! - Nothing but Linux is supported so far; elsewhere a start is [`StartError::Unsupported`].
//!
//! # How it works
//!
//! One thread, `childminder`, owns every child. It waits for handles of processes (pidfds), output, deadlines and
//! messages, and sleeps without a deadline while there is nothing to do. Everybody else sends it messages, and all
//! reasons to stop enter by one door. It needs no runtime, so neither does a stop; tokio is needed to start a run and
//! to write to its stdin. No signal handler is installed, no process-wide setting is changed, nobody is waited for who
//! is not a child of this library, and nobody is signalled who is not in the group of one; no number is signalled that
//! could have become a stranger's.

// A file for each stage of a run, in the order in which a run comes by.

// What to run, and how it may end.
mod command;

// From a command to a child, or to an error that leaves nothing.
mod start;

// The handle: events, waiting, cancelling, dropping.
mod run;

// The one owner of every child.
mod supervise;

// The ladder that it climbs, as a pure table.
mod stop;

// What holds a run's processes together.
mod contain;

// What goes to the child, and what comes from it.
mod input;
mod output;

// How it ended.
mod outcome;

// Every call to the operating system.
mod sys;

pub use command::Command;
pub use contain::{Containment, NoSuchContainment, Unavailable};
pub use input::{ChildStdin, Input};
pub use outcome::{
    Capture, Cut, Ended, Kill, KillCause, Left, Outcome, Processes, Proof, Reason, Signalled, StopReceipt,
    StreamEnd, Survivor, Timings, Usage, WhyAlive,
};
pub use output::Output;
pub use run::{Canceller, Event, Run, RunId, State};
pub use start::StartError;
