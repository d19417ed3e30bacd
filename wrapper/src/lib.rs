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
//! "Everybody" is everybody the [`Containment`] holds, and no more: [`Containment::cannot_hold`] says who is out of its
//! reach. To *stop* a run is to ask everybody to end (as its [`StopPlan`] has it, which is mostly SIGTERM; and SIGCONT, so
//! that a stopped process notices), to kill whoever is there when the grace is over, also when the child itself has ended,
//! and not to wait for the grace when nobody is. A stopped run is [`Ended::Stopped`] with the first [`Reason`], and has a [`StopReceipt`]. In each case the
//! output is kept as far as it was read, and its end is drained as said below.
//!
//! | what happens | what is done | outcome | shown by |
//! |---|---|---|---|
//! | the child ends by itself, however it does | whoever it left is killed at once, without being asked | [`Ended::ByItself`], its exit status | `survivors::whoever_is_left_by_a_child_that_ends_by_itself_is_killed` |
//! | a reason to stop comes when the child has ended already | as above | [`Ended::ByItself`] | `status::a_child_that_had_ended_when_it_was_cancelled_ended_by_itself` |
//! | the timeout is over | a stop | [`Reason::TimedOut`] | `survivors::nobody_survives_a_timeout` |
//! | nothing was written for the idle timeout | a stop | [`Reason::Idle`] | `silence::a_child_that_says_nothing_is_stopped_when_the_idle_time_is_over_and_not_before` |
//! | more is written than the capture limit | read, counted and not kept; a stop with [`Overflow::Stop`] only | then [`Reason::OutputLimit`] | `limits::a_child_that_writes_more_than_its_limit_is_stopped_if_that_was_asked_for`, `output::beyond_the_capture_limit_the_head_is_kept_and_the_rest_is_counted`, `limits::the_tail_is_kept_if_that_was_asked_for` |
//! | [`Run::cancel`] is called, or the token is cancelled | a stop | [`Reason::Cancelled`] | `survivors::nobody_survives_a_cancel`, `cancel::a_token_stops_a_run_that_nobody_polls` |
//! | [`Run::cancel`] is called a second time | everybody is killed at once | the same, and [`KillCause::AskedAgain`] | `cancel::a_second_cancel_does_not_wait_for_the_grace` |
//! | a run with a [plan](Command::stop_plan) is stopped | its requests are made, one after the other, as long as somebody is there; then the kill | the same, and how far it came, [`StopReceipt::rung`] | `stop_plan::a_server_that_ends_with_its_input_is_asked_for_nothing_else`, `stop_plan::a_server_that_does_not_heed_the_end_of_its_input_is_asked_by_sigterm`, `stop_plan::a_server_that_heeds_nothing_is_killed_at_the_end_of_the_ladder`, `stop_plan::each_signal_of_a_plan_comes_once_and_to_everybody` |
//! | its child ends at one request, and leaves somebody behind | the others are asked what is left of the plan | the same | `stop_plan::whoever_is_left_by_a_server_that_ended_with_its_input_is_asked_by_the_next_request` |
//! | its stdin is not ours to close | that request is passed over | the same | `stop_plan::a_stdin_that_is_not_ours_to_close_costs_no_time`, `stop_plan::an_input_that_ended_long_ago_had_its_time` |
//! | another reason comes during a stop | nothing: the first is kept | the same | `cancel::the_first_reason_is_kept` |
//! | its [`Minder`] is shut down | a stop; a kill when the shutdown has no more time for the grace | [`Reason::ShutDown`] | `minder::a_shutdown_ends_every_run_and_whoever_waits_is_told`, `minder::a_shutdown_kills_whoever_does_not_hear_in_time_for_its_bound`, `minder::whatever_is_begun_at_the_same_time_as_a_shutdown_is_refused_or_ended` |
//! | the [`Run`] is dropped | a stop, by the library's own thread; the drop does not wait for it | nobody is there to get it ([`Reason::Dropped`]) | `survivors::nobody_survives_a_drop`, `owner::a_drop_does_not_block` |
//! | the future of [`Command::run`] is dropped, or one that holds the [`Run`] | the same | – | `owner::a_future_that_is_dropped_takes_its_run_along`, `owner::a_task_that_is_aborted_takes_its_run_along` |
//! | a panic unwinds past the [`Run`] | the same | – | `owner::a_panic_takes_the_run_along_as_it_unwinds` |
//! | the runtime is shut down while one of its tasks holds the [`Run`] | the same, however it is shut down | – | `owner::a_current_thread_runtime_that_is_dropped_takes_the_runs_of_its_tasks_along`, `owner::a_multi_thread_runtime_that_is_dropped_takes_the_runs_of_its_tasks_along`, `owner::a_runtime_that_is_shut_down_in_the_background_takes_the_runs_of_its_tasks_along`, `owner::a_runtime_that_is_shut_down_with_a_timeout_takes_the_runs_of_its_tasks_along` |
//! | no runtime is left when the [`Run`] is dropped | the same | – | `owner::a_drop_needs_no_runtime` |
//! | the runtime is gone while something else holds the [`Run`] | nothing: the run goes on, and can be waited for in another runtime | as it ends | `owner::a_run_can_be_waited_for_from_another_runtime` |
//! | the child closes its stdin early | nothing: it need not read what it is given; whoever writes to it gets an error | as it ends | `output::a_child_that_does_not_read_its_stdin_is_no_error`, `output::a_child_that_closes_its_stdin_early_goes_on_and_whoever_writes_to_it_is_told` |
//! | nobody takes the events | the child is held up as soon as a bounded amount is on its way; it is stopped as any other | as it ends | `output::a_flood_that_nobody_takes_does_not_fill_the_memory`, `silence::a_child_that_is_held_up_because_nobody_takes_its_output_is_not_idle` |
//! | somebody out of reach holds the output when everybody has ended | it is drained until the window is over, then our end is closed | [`StreamEnd::Held`] | `out_of_reach::a_process_out_of_reach_that_holds_the_output_costs_the_drain_window_and_no_more`, `out_of_reach::our_end_of_a_held_pipe_is_closed_with_the_run` |
//! | somebody kills the nanny | everybody who is left in the child's session is killed, which is all that can be found; with [`Containment::Cgroup`] everybody in the control group as well; with [`Containment::Sealed`] the kernel kills everybody | [`Reason::ContainmentLost`]; [`Left::Unknown`], or [`Proof::CgroupEmpty`], or [`Proof::NamespaceGone`] | `unbound::somebody_who_kills_the_nanny_is_found_out_and_the_session_is_swept` |
//! | a run in the [foreground](Command::foreground) ends, in any of these ways | as above; then the owner has its terminal back, with its modes | the same | `foreground::a_child_that_ends_by_itself_gives_the_terminal_back`, `foreground::a_cancel_gives_the_terminal_back`, `foreground::a_timeout_gives_the_terminal_back`, `foreground::a_drop_gives_the_terminal_back`, `foreground::a_panic_gives_the_terminal_back`, `foreground::a_child_that_must_be_killed_gives_the_terminal_back`, `foreground::when_the_nanny_is_killed_the_child_is_and_the_terminal_is_given_back`, `foreground::a_program_that_cannot_be_executed_does_not_keep_the_terminal` |
//! | a kill is not obeyed for two seconds | nobody waits any longer; the child is reaped when it ends at last | [`Left::Survivors`], with the reason | `supervise::a_child_that_no_kill_ends_is_named_in_bounded_time_and_reaped_when_it_ends_at_last`, `supervise::a_kill_that_is_obeyed_at_the_bound_is_proved_and_its_status_is_told` |
//! | a start fails, or its [`Minder`] was shut down | what was made is closed; what was started is killed and reaped | [`StartError`] | `start::a_program_that_is_not_there_is_a_start_error`, `start::a_start_outside_a_runtime_is_an_error_before_anything_is_started`, `scarcity::a_start_without_enough_descriptors_is_an_error_and_leaves_neither_child_nor_descriptor` |
//! | the library's own thread panics, which would be a fault of it | everybody of every run is killed; the next start gets a new thread | [`Left::Unknown`] | `supervise::a_fault_of_our_own_kills_what_was_held_and_the_outcome_says_that_nothing_is_known` |
//!
//! # When the owner itself ends
//!
//! Then the thread that stops runs is gone, and what happens depends on the containment alone.
//!
//! | what happens to the owner | with `nanny`, `cgroup`, `sealed` | with `group` | shown by |
//! |---|---|---|---|
//! | it exits: `main` returns, or [`std::process::exit`] | nobody survives: the nanny kills everybody at once, also those of a run that was dropped a moment before | **everybody survives**, also those of a run that was dropped a moment before | `owner_ends::with_nanny_nobody_survives_an_owner_that_exits`, `owner_ends::with_group_everybody_survives_an_owner_that_exits` |
//! | it aborts, or panics without unwinding | nobody survives | **everybody survives** | `owner_ends::with_nanny_nobody_survives_an_owner_that_aborts`, `owner_ends::with_group_everybody_survives_an_owner_that_aborts` |
//! | it is killed | nobody survives | **everybody survives** | `owner_ends::with_nanny_nobody_survives_an_owner_that_is_killed`, `owner_ends::with_nanny_nobody_survives_an_owner_that_is_killed_while_a_child_has_stopped_its_nanny`, `owner_ends::with_group_everybody_survives_an_owner_that_is_killed` |
//! | it becomes another program (`exec`) | nobody survives | the same as if it had been killed: **everybody survives** | `owner_ends::with_nanny_nobody_survives_an_owner_that_becomes_another_program` |
//! | it is stopped (SIGSTOP), and goes on | nothing while it is stopped; what was due meanwhile is done when it goes on, and what was written meanwhile counts as output | the same | `owner_ends::a_timeout_that_was_over_while_the_owner_was_stopped_acts_when_it_goes_on`, `owner_ends::what_a_child_wrote_while_the_owner_was_stopped_is_no_silence` |
//!
//! # Output
//!
//! The library's own thread reads it, whatever the owner's runtime does. What becomes of it is said for each stream by
//! [`Output`]: kept within a bound whose [`Overflow`] is stated, or handed out as events, in chunks or in [`Line`]s, with
//! the child held up while nobody takes them. What comes is bytes; nothing is decoded.
//!
//! Every byte that was read is accounted for at every end: [`Capture::total`] is what was kept
//! ([`Capture::bytes`]), and what was handed out (a line with its newline), and [`Capture::dropped`]. What a child wrote
//! before its end is read in any case, and the last line is handed out although it has no newline.
//!
//! One flood does not keep the others waiting: of each stream no more than 256 KiB is read before it is everybody else's
//! turn.
//!
//! # What is not promised
//!
//! - With `group`, a process that moved to a session or process group of its own (`setsid`, a daemon, a shell with job
//!   control) is out of reach. With `nanny` it is not; but a program that another one starts at the child's request (a
//!   service manager, a container engine) was not started by the run. [`Containment::cannot_hold`] says who is out of
//!   reach, and each [`Outcome`] names its containment.
//! - A process that was forked while its parent was asked, or later, is not asked as long as that parent lives: it is the
//!   parent's business, until the grace is over.
//! - With `group` and a command that was converted from another builder, if another thread of the owner makes a descriptor
//!   that is not close-on-exec during a start, the child inherits it.
//! - A process that has changed all its user ids (some set-uid programs do) cannot be killed; it is named as a survivor,
//!   and its nanny stays until it ends.
//! - With all but `group`, the child is in a session without a controlling terminal, unless it is in the
//!   [foreground](Command::foreground): `/dev/tty` cannot be opened, Ctrl-C
//!   does not reach it, and programs that ask for a password there fail.
//! - With `group`, an owner that ignores SIGCHLD, or waits for any child, takes exit statuses away from us. Then there is
//!   an outcome without one, and before Linux 6.9 whoever such a child left behind is not killed.
//! - Nothing but Linux is supported so far; elsewhere a start is [`StartError::Unsupported`].
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `agent` | the layer for command-line agents |
//! | `serde` | [`Stats`], [`LeakReport`], [`Shutdown`], [`Transition`], of an agent `AgentStats` and `Cleanup`, and what they are made of can be serialised; durations are in milliseconds |
//! | `tracing` | a span for each run and for each stop, an event for each rung of the ladder, at the subscriber that was the current one where the run was started. It is called by the thread that owns all children: while it blocks, nobody is stopped |
//!
//! None of them is on by default.
//!
//! # How it works
//!
//! One thread, `childminder`, owns every child. It waits for handles of processes (pidfds), output, deadlines and
//! messages, and sleeps without a deadline while there is nothing to do. Everybody else sends it messages, and all
//! reasons to stop enter by one door. What is left to interleave is small: the cells that the thread shares with a handle
//! (what is on its way, where the run stands, how much is not taken yet), which are checked with loom, and the table of a
//! [`Minder`], which is behind one lock. It needs no runtime, so neither does a stop; tokio is needed to start a run and to
//! write to its stdin. No signal handler is installed unless [`Minder::shutdown_on_signals`] is called, no process-wide
//! setting is changed, nobody is waited for who is not a child of this library, and nobody is signalled whom no run has
//! started; no number is signalled that could have become a stranger's.
//!
//! A run comes through the [`State`]s `Idle`, `Starting`, `Running`, `Terminating`, `Terminated` and, when its handle is
//! gone as well, `Idle` again; or it ends as `Failed`. [`Run::states`] tells all of one run, [`Minder::transitions`] those of
//! all runs.
//!
//! With the containment `nanny`, which is what one gets on x86-64 and AArch64, there is a process between the owner and
//! each child: some 24 KB without libc, embedded here and executed from sealed memory, with a session of its own. It is
//! the subreaper of its run, so whoever is orphaned comes to it. It asks and kills as the thread tells it, and reports when
//! the kernel says that it has no children left. It has a handle of the owner, and when that one ends, it kills everybody
//! and leaves. It needs no privilege.

// A file for each stage of a run, in the order in which a run comes by.

// What to run, and how it may end.
mod command;

// From a command to a child, or to an error that leaves nothing.
mod start;

// The handle: events, waiting, cancelling, dropping.
mod run;

// What the handle and the owner of the child both touch.
mod atomics {
    pub(crate) use std::sync::Mutex;
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
}
mod shared;

// Where it stands, as a pure table.
mod state;

// The one owner of every child.
mod supervise;

// The ladder that it climbs: what is asked, as data, and what is done, as a pure table.
mod plan;
mod stop;

// What holds a run's processes together.
mod contain;

// What goes to the child, and what comes from it.
mod input;
mod lines;
mod output;
mod room;

// How it ended.
mod outcome;

// Who is there of all of them.
mod minder;

// On top of it: command-line agents.
#[cfg(feature = "agent")]
pub mod agent;

// What it tells of itself.
#[cfg(feature = "serde")]
mod json;
mod spans;

// Every call to the operating system.
mod sys;

pub use command::Command;
pub use contain::{Containment, NoSuchContainment, Unavailable};
pub use input::{ChildStdin, Input};
pub use lines::{Line, LineEnd};
#[cfg(feature = "_cost")]
#[doc(hidden)]
pub use minder::cost;
pub use minder::{
    ClosingFailed, Ends, Kind, LeakReport, Minder, Missed, Rang, Registration, Resource, Runs, Shutdown,
    ShutdownError, Signal, SignalHandler, SignalShutdown, Stats, Timer, Times, Totals, Transition,
    Transitions,
};
pub use outcome::{
    Capture, Cut, Ended, Kill, KillCause, Left, Outcome, Processes, Proof, Reason, Signalled, StopReceipt,
    StreamEnd, Survivor, Timings, Usage, WhyAlive,
};
pub use output::{Output, OutputStream, Overflow};
pub use plan::{Ask, StopPlan, StopRung, StopSignal};
pub use run::{Canceller, Event, Run, RunId, States};
pub use start::StartError;
pub use state::State;

/// The examples of the README, compiled.
#[cfg(all(doctest, target_os = "linux", feature = "agent"))]
#[doc = include_str!("../README.md")]
struct Readme;
