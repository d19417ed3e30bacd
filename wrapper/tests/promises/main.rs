//! What childminder promises, a module for each kind of promise, shown with real processes.
#![cfg(target_os = "linux")]

mod accounting;
mod cancel;
mod converted;
mod deadlines;
mod divided;
mod environment;
mod held;
mod limits;
mod lines;
mod minder;
mod nanny;
mod output;
mod owner;
mod owner_ends;
mod scene;
mod silence;
mod start;
mod states;
mod status;
mod stop_plan;
mod stray;
mod survivors;
mod table;
mod unbound;

use childminder::Containment;

/// What holds the runs of these tests: what one gets without asking.
const HELD_BY: Containment = Containment::Nanny;
