//! What the registry adds to a run, which is too little to be seen in a run's own time: so it is done by itself, many times
//! over, and compared with a whole run.

use std::time::Instant;

use childminder::cost::{TrackedRun, track};
use childminder::{Command, Containment, Minder, Output};

use crate::Failure;
use crate::child::Child;
use crate::options::Options;
use crate::table::{duration, quartiles};

const ROUNDS: usize = 200;

/// How often a run is tracked for one sample.
const AT_ONCE: usize = 1000;

pub(crate) fn own(options: &Options) -> Result<(), Failure> {
    options.runtime()?.block_on(measure(options))
}

async fn measure(options: &Options) -> Result<(), Failure> {
    let child = Child::that("busy:1")?;
    let minder = Minder::new();
    let mut command = Command::new(&child.program);
    command.args(&child.arguments).stdout(Output::Null).minder(&minder).containment(Containment::Nanny);
    let (mut whole, mut tracking) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds(ROUNDS) {
        let from = Instant::now();
        command.run().await?;
        whole.push(from.elapsed().as_secs_f64());

        // Beside a thousand others, as in an owner with that many.
        let from = Instant::now();
        let tracked: Vec<TrackedRun> = (0..AT_ONCE).map(|_| track(&command)).collect();
        tracked.into_iter().for_each(TrackedRun::end);
        tracking.push(from.elapsed().as_secs_f64() / AT_ONCE as f64);
    }
    let [_, whole, _] = quartiles(&whole);
    let [low, tracking, high] = quartiles(&tracking);
    let percent = |seconds| 100.0 * seconds / whole;
    println!(
        "\ntracking: a run of a child that takes 1 ms   ({} rounds, 100 % = the run)",
        options.rounds(ROUNDS)
    );
    println!("  {:<28} {:>10}", "the run, stdout null", duration(whole));
    println!(
        "  {:<28} {:>7.0} ns   {:.3} %   quartiles {:.3} – {:.3}",
        "what tracks it",
        tracking * 1e9,
        percent(tracking),
        percent(low),
        percent(high)
    );
    Ok(())
}
