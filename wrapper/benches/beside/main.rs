//! childminder beside others: what a run costs, and what a stop takes.
//!
//! Everything is measured in rounds in which everybody takes a turn, so that the noise of the machine hits all alike,
//! and compared with whoever else was in the same round: the ratios are what counts. See `cargo bench -p childminder --
//! --help`.

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("the benchmarks run on Linux only, as childminder does so far");
}

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    roles::enter()
}

// What is compared, and with what it is fed. A new containment is a line in `contender`.
#[cfg(target_os = "linux")]
mod child;
#[cfg(target_os = "linux")]
mod contender;

// The benchmarks.
#[cfg(target_os = "linux")]
mod idle;
#[cfg(target_os = "linux")]
mod large_owner;
#[cfg(target_os = "linux")]
mod many;
#[cfg(target_os = "linux")]
mod messages;
#[cfg(target_os = "linux")]
mod start;
#[cfg(target_os = "linux")]
mod stop;
#[cfg(target_os = "linux")]
mod stream;
#[cfg(target_os = "linux")]
mod tracking;

// What they share: the processes that they are made of, options, tables, the system.
#[cfg(target_os = "linux")]
mod options;
#[cfg(target_os = "linux")]
mod roles;
#[cfg(target_os = "linux")]
mod sys;
#[cfg(target_os = "linux")]
mod table;
#[cfg(target_os = "linux")]
mod tree;

/// What went wrong, for people.
#[cfg(target_os = "linux")]
type Failure = Box<dyn std::error::Error + Send + Sync>;
