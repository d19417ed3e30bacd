//! Nothing is left behind, counted by the kernel.
//!
//! Each proof starts owners, processes of their own that start runs, and has them end in some way. The proofs' process
//! is a subreaper, so that whoever an owner leaves behind, and no nanny holds, becomes its child; "nobody is left" is the
//! kernel's answer that there are no children. It has a `main` of its own because a subreaper must be the only one in
//! its process that waits, and because the same program plays the owners.
//!
//! With `CHILDMINDER_PROOFS=long` in the environment as many rounds are made as the project's goals ask for; it takes
//! some five minutes. Figures are printed as they are found; nothing is captured here.
#![cfg_attr(not(target_os = "linux"), allow(unused, reason = "there is nothing to prove yet"))]

#[cfg(target_os = "linux")]
mod circumstances;
#[cfg(target_os = "linux")]
mod minding;
#[cfg(target_os = "linux")]
mod minding_owner;
#[cfg(target_os = "linux")]
mod number_owner;
#[cfg(target_os = "linux")]
mod numbers;
#[cfg(target_os = "linux")]
mod odd_owner;
#[cfg(target_os = "linux")]
mod owner;
#[cfg(target_os = "linux")]
mod owner_ends;
#[cfg(target_os = "linux")]
mod resources;
#[cfg(target_os = "linux")]
mod stage;
#[cfg(target_os = "linux")]
mod start_failures;
#[cfg(target_os = "linux")]
mod tracer;
#[cfg(target_os = "linux")]
mod unkillable;
#[cfg(target_os = "linux")]
mod unkillable_owner;

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(stage::PLAY) {
        return owner::play(&arguments.collect::<Vec<_>>());
    }
    let mut arguments = libtest_mimic::Arguments::from_args();
    // One at a time: they all wait for every child of this process.
    arguments.test_threads = Some(1);
    stage::set();
    let trials = [
        owner_ends::trials(),
        start_failures::trials(),
        circumstances::trials(),
        numbers::trials(),
        unkillable::trials(),
        resources::trials(),
        minding::trials(),
    ]
    .into_iter()
    .flatten()
    .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    ExitCode::SUCCESS
}
