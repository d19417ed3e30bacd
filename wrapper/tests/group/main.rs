//! What childminder promises with the containment `group`: everything that is shown in `promises`, but for what only a
//! nanny can hold, and what a group cannot hold stays as it is documented.
#![cfg(target_os = "linux")]

#[path = "../promises/accounting.rs"]
mod accounting;
#[path = "../promises/cancel.rs"]
mod cancel;
#[path = "../promises/converted.rs"]
mod converted;
#[path = "../promises/deadlines.rs"]
mod deadlines;
#[path = "../promises/environment.rs"]
mod environment;
#[path = "../promises/held.rs"]
mod held;
#[path = "../promises/limits.rs"]
mod limits;
#[path = "../promises/lines.rs"]
mod lines;
mod out_of_reach;
#[path = "../promises/output.rs"]
mod output;
#[path = "../promises/owner.rs"]
mod owner;
#[path = "../promises/scene.rs"]
mod scene;
#[path = "../promises/silence.rs"]
mod silence;
#[path = "../promises/start.rs"]
mod start;
#[path = "../promises/status.rs"]
mod status;
#[path = "../promises/stop_plan.rs"]
mod stop_plan;
#[path = "../promises/stray.rs"]
mod stray;
#[path = "../promises/survivors.rs"]
mod survivors;

use childminder::Containment;

/// What holds the runs of these tests.
const HELD_BY: Containment = Containment::Group;
