//! What a run costs while its child hangs: how often anybody wakes up, and for how long. Looked at from outside, in all
//! owners at the same time.

use std::io::{BufRead, BufReader};
use std::process::{self, ChildStdin, Stdio};
use std::thread;
use std::time::Duration;

use crate::Failure;
use crate::child::Child;
use crate::contender::Sink;
use crate::options::Options;
use crate::roles::Owner;
use crate::sys;

// Time is what is measured here. The first of it is for what is still on its way.
const SETTLE: Duration = Duration::from_millis(500);
const WINDOW: Duration = Duration::from_secs(10);

struct Idler {
    name: &'static str,
    /// The owner and its helpers, or why there are none.
    processes: Result<(u32, Vec<u32>), String>,
    // The owner ends when its stdin does, and is waited for: in this order.
    _orders: ChildStdin,
    _owner: Owner,
}

pub(crate) fn conduct(options: &Options) -> Result<(), Failure> {
    let window = if options.once() { WINDOW / 50 } else { WINDOW };
    let mut idlers = Vec::new();
    for (number, (name, _)) in options.contenders().into_iter().enumerate() {
        let mut owner = Owner::start(&format!("idle:{number}"), options, Stdio::piped())?;
        let (stdin, stdout) = owner.pipes()?;
        let mut told = String::new();
        BufReader::new(stdout).read_line(&mut told)?;
        let processes = match told.trim().split_once(' ') {
            Some(("not", why)) => Err(format!("not {why}")),
            Some((own, child)) => {
                let (own, child): (u32, u32) = (own.parse()?, child.parse()?);
                let helpers = sys::children(own)?.into_iter().filter(|other| *other != child).collect();
                Ok((own, helpers))
            }
            None => return Err(format!("{name}: the owner is gone").into()),
        };
        idlers.push(Idler { name, processes, _orders: stdin, _owner: owner });
    }

    thread::sleep(SETTLE);
    let before = look(&idlers)?;
    thread::sleep(window);
    let after = look(&idlers)?;

    println!("\nidle: one child hangs for {window:?}, stdout captured, the owner waits");
    println!(
        "  {:<28} {:>9} {:>10}   of the helpers: {:>9} {:>10}",
        "", "wake-ups", "CPU", "wake-ups", "CPU"
    );
    for ((idler, before), after) in idlers.iter().zip(before).zip(after) {
        match (&idler.processes, before, after) {
            (Err(why), ..) => println!("  {:<28} {why}", idler.name),
            (Ok((_, helpers)), Some(before), Some(after)) => {
                let since = |part: fn(&Activity) -> (u64, Duration)| {
                    let ((waits, busy), (waits_then, busy_then)) = (part(&after), part(&before));
                    format!("{:>9} {:>7} µs", waits - waits_then, (busy - busy_then).as_micros())
                };
                let of_helpers = if helpers.is_empty() { "none".into() } else { since(|all| all.helpers) };
                println!("  {:<28} {}   {of_helpers:>15}", idler.name, since(|all| all.owner));
            }
            (Ok(_), ..) => return Err(format!("{} was not looked at", idler.name).into()),
        }
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Activity {
    owner: (u64, Duration),
    helpers: (u64, Duration),
}

fn look(idlers: &[Idler]) -> Result<Vec<Option<Activity>>, Failure> {
    let look_at = |idler: &Idler| {
        let Ok((owner, helpers)) = &idler.processes else { return Ok(None) };
        let mut sum = (0, Duration::ZERO);
        for helper in helpers {
            let (waits, busy) = sys::activity(*helper)?;
            sum = (sum.0 + waits, sum.1 + busy);
        }
        Ok(Some(Activity { owner: sys::activity(*owner)?, helpers: sum }))
    };
    idlers.iter().map(look_at).collect()
}

pub(crate) fn own(options: &Options, contender: usize) -> Result<(), Failure> {
    let (_, contender) = *options.contenders().get(contender).ok_or("there is no such contender")?;
    options.runtime()?.block_on(async {
        if let Some(why) = contender.refusal(&Child::that("")?).await {
            println!("{}", why.replace('\n', " "));
            return Ok(());
        }
        let running = contender.start(&Child::that("hang")?, Sink::Captured).await?;
        println!("{} {}", process::id(), running.pid()?);
        running.wait().await?;
        Err("the child has ended".into())
    })
}
