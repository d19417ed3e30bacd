//! What childminder promises with the containment `cgroup`: everything that is shown in `promises`, and what a control group for each run
//! adds. Where it cannot be had nothing is shown, and that is said.
#![cfg(target_os = "linux")]

#[path = "../promises/cancel.rs"]
mod cancel;
#[path = "../promises/deadlines.rs"]
mod deadlines;
#[path = "../promises/divided.rs"]
mod divided;
#[path = "../promises/environment.rs"]
mod environment;
mod groups;
#[path = "../promises/nanny.rs"]
mod nanny;
#[path = "../promises/output.rs"]
mod output;
#[path = "../promises/owner.rs"]
mod owner;
#[path = "../promises/reentry.rs"]
mod reentry;
#[path = "../promises/scene.rs"]
mod scene;
#[path = "../promises/start.rs"]
mod start;
#[path = "../promises/status.rs"]
mod status;
#[path = "../promises/survivors.rs"]
mod survivors;

use childminder::Containment;

/// What holds the runs of these tests.
const HELD_BY: Containment = Containment::Cgroup;
