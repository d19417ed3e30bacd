//! What childminder promises, a module for each kind of promise, shown with real processes.
#![cfg(target_os = "linux")]

mod cancel;
mod deadlines;
mod environment;
mod nanny;
mod output;
mod owner;
mod scene;
mod start;
mod status;
mod survivors;
mod unbound;

use childminder::Containment;

/// What holds the runs of these tests: what one gets without asking.
const HELD_BY: Containment = Containment::Nanny;
