//! What a start costs in an owner with much memory, against the same start in a small owner.
//!
//! A start that copies the owner's page tables (fork, as with any `pre_exec`) grows with the owner; one that shares them
//! until the exec (vfork, `posix_spawn`) does not.

use std::io::{BufRead, BufReader, Write};
use std::num::NonZeroUsize;
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::child::Child;
use crate::contender::Sink;
use crate::options::Options;
use crate::roles::Owner;
use crate::sys::{self, Resident};
use crate::table::{self, Rounds};

const LARGE: usize = 2 << 30;
const ROUNDS: usize = 60;
/// How much time a contender gets.
const ENOUGH: Duration = Duration::from_secs(1);
const AT_LEAST: usize = 5;

pub(crate) fn conduct(options: &Options) -> Result<(), Failure> {
    println!("\nlarge-owner: a child that does nothing, in an owner with 2 GiB resident");
    let available = sys::available_memory()?;
    if available < (LARGE + LARGE / 2) as u64 {
        println!("  not run: only {} MiB of memory are available", available >> 20);
        return Ok(());
    }
    let mut small = Server::start(0, options)?;
    let mut large = Server::start(LARGE, options)?;
    let contenders = options.contenders();
    let mut samples = vec![(Vec::new(), Vec::new()); contenders.len()];
    let mut refusals = vec![None; contenders.len()];
    for (number, refusal) in refusals.iter_mut().enumerate() {
        *refusal = small.ask(number)?.err().or(large.ask(number)?.err());
    }
    let able: Vec<usize> = (0..contenders.len()).filter(|&number| refusals[number].is_none()).collect();
    let mut rounds = Rounds::new(options.rounds(ROUNDS), ROUNDS);
    let mut spent = vec![Duration::ZERO; contenders.len()];
    let mut small_first = false;
    while let Some(order) = rounds.next(able.len()) {
        small_first = !small_first;
        for number in order.into_iter().map(|turn| able[turn]) {
            // Each is compared with itself only, so the slow ones may leave the rest to the others.
            if spent[number] > ENOUGH && samples[number].0.len() >= AT_LEAST {
                continue;
            }
            let from = Instant::now();
            let mut pair = [0.0; 2];
            for large_now in [!small_first, small_first] {
                let server = if large_now { &mut large } else { &mut small };
                pair[usize::from(large_now)] = server.ask(number)??;
            }
            samples[number].0.push(pair[0]);
            samples[number].1.push(pair[1]);
            spent[number] += from.elapsed();
        }
    }
    println!("  {:<28} {:>10} {:>10} {:>8}   quartiles (rounds)", "", "small", "large", "ratio");
    for (number, (name, _)) in contenders.iter().enumerate() {
        if let Some(refusal) = &refusals[number] {
            println!("  {name:<28} {refusal}");
            continue;
        }
        let (small, large) = &samples[number];
        let ratios: Vec<f64> = large.iter().zip(small).map(|(large, small)| large / small).collect();
        let [low, ratio, high] = table::quartiles(&ratios);
        let [small, large] = [small, large].map(|samples| table::duration(table::quartiles(samples)[1]));
        println!(
            "  {name:<28} {small:>10} {large:>10} {ratio:>8.2}   {low:.2} – {high:.2}   ({})",
            ratios.len()
        );
    }
    Ok(())
}

/// An owner that starts what it is told to.
struct Server {
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    // Last, so that its stdin is closed before it is waited for.
    _owner: Owner,
}

impl Server {
    fn start(bytes: usize, options: &Options) -> Result<Self, Failure> {
        let mut owner = Owner::start(&format!("large-owner:{bytes}"), options, Stdio::piped())?;
        let (orders, answers) = owner.pipes()?;
        Ok(Self { orders, answers: BufReader::new(answers), _owner: owner })
    }

    /// How long a run of this contender takes there, in seconds; or why there is none.
    fn ask(&mut self, contender: usize) -> Result<Result<f64, String>, Failure> {
        writeln!(self.orders, "{contender}")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        match answer.trim().split_once(' ') {
            Some(("took", seconds)) => Ok(Ok(seconds.parse()?)),
            Some(("not", why)) => Ok(Err(format!("not {why}"))),
            _ => Err("the owner is gone".into()),
        }
    }
}

pub(crate) fn own(options: &Options, bytes: usize, orders: &Receiver<String>) -> Result<(), Failure> {
    let _resident = NonZeroUsize::new(bytes).map(Resident::new).transpose()?;
    let runtime = options.runtime()?;
    let contenders = options.contenders();
    let child = Child::that("")?;
    while let Ok(order) = orders.recv() {
        let (_, contender) = *contenders.get(order.parse::<usize>()?).ok_or("there is no such contender")?;
        let (took, done) = runtime.block_on(async {
            let from = Instant::now();
            let done = contender.run(&child, Sink::Null).await;
            (from.elapsed().as_secs_f64(), done)
        });
        match done {
            Ok(_) => println!("took {took}"),
            Err(why) => println!("not run: {}", why.to_string().replace('\n', " ")),
        }
    }
    Ok(())
}
