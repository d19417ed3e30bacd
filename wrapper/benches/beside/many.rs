//! Many runs at once: started one after the other, all of them there, all dropped. Each contender in an owner of its
//! own, so that its memory can be told.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::process::{self, Stdio};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::child::Child;
use crate::contender::{Contender, Running, Sink};
use crate::options::Options;
use crate::roles::Owner;
use crate::sys::{self, Members, News};
use crate::table::{self, Rounds};

const RUNS: usize = 1000;
const ROUNDS: usize = 3;
/// What a run may need, with what this benchmark needs to watch it.
const DESCRIPTORS: u64 = 12;
const PATIENCE: Duration = Duration::from_secs(15);
/// A helper may be kept for the next run.
const PATIENCE_WITH_HELPERS: Duration = Duration::from_millis(500);

/// What an owner tells, by these names.
const START: &str = "start";
const STOP: &str = "stop";
const CPU: &str = "cpu";
const DESCRIPTORS_EACH: &str = "descriptors";
const MEMORY_EACH: &str = "memory";
const HELPERS_EACH: &str = "helpers";
const HELPER_MEMORY: &str = "helper-memory";

type Figures = BTreeMap<String, f64>;

pub(crate) fn conduct(options: &Options) -> Result<(), Failure> {
    let contenders = options.contenders();
    let mut taken: Vec<Vec<Figures>> = vec![Vec::new(); contenders.len()];
    let mut rounds = Rounds::new(options.rounds(ROUNDS), ROUNDS);
    let mut able: Vec<usize> = (0..contenders.len()).collect();
    let mut refusals = BTreeMap::new();
    while let Some(order) = rounds.next(able.len()) {
        for number in order.into_iter().map(|turn| able[turn]).collect::<Vec<_>>() {
            match round(options, number, contenders[number].0)? {
                Ok(figures) => taken[number].push(figures),
                Err(why) => {
                    refusals.insert(number, why);
                }
            }
        }
        able.retain(|number| !refusals.contains_key(number));
    }

    let runs = if options.once() { 20 } else { RUNS };
    let count = taken.iter().map(Vec::len).max().unwrap_or(0);
    println!("\nmany: {runs} runs at once, stdout captured   ({count} rounds; ratios: 1.00 = tokio)");
    println!(
        "  {:<22} {:>16} {:>16} {:>16}   for each run: descriptors, memory of the owner, helpers (their memory)",
        "", "start all", "stop all", "CPU"
    );
    for (number, (name, _)) in contenders.iter().enumerate() {
        if let Some(why) = refusals.get(&number) {
            println!("  {name:<22} {why}");
            continue;
        }
        let own = &taken[number];
        let median = |key: &str| table::quartiles(&all(own, key))[1];
        let beside = |key: &str| {
            let ratios: Vec<f64> =
                all(own, key).iter().zip(all(&taken[0], key)).map(|(own, other)| own / other).collect();
            format!("{} {:>6.2}", table::duration(median(key)), table::quartiles(&ratios)[1])
        };
        let helpers = match median(HELPERS_EACH) {
            0.0 => "none".to_owned(),
            each => format!("{each:.2} ({:.1} KiB)", median(HELPER_MEMORY)),
        };
        println!(
            "  {name:<22} {:>16} {:>16} {:>16}   {:.2}, {:.2} KiB, {helpers}",
            beside(START),
            beside(STOP),
            beside(CPU),
            median(DESCRIPTORS_EACH),
            median(MEMORY_EACH),
        );
    }
    Ok(())
}

fn all(figures: &[Figures], key: &str) -> Vec<f64> {
    figures.iter().filter_map(|figures| figures.get(key).copied()).collect()
}

/// What a fresh owner tells, or why it cannot.
fn round(options: &Options, contender: usize, name: &str) -> Result<Result<Figures, String>, Failure> {
    let mut owner = Owner::start(&format!("many:{contender}"), options, Stdio::piped())?;
    let (stdin, mut stdout) = owner.pipes()?;
    let mut told = String::new();
    stdout.read_to_string(&mut told)?;
    drop(stdin);
    if let Some(why) = told.trim().strip_prefix("not ") {
        return Ok(Err(format!("not {why}")));
    }
    owner.end().map_err(|why| format!("{name}: {why}"))?;
    let mut figures = Figures::new();
    for line in told.lines() {
        let (key, value) = line.split_once(' ').ok_or("an owner tells key and value")?;
        figures.insert(key.to_owned(), value.parse()?);
    }
    Ok(Ok(figures))
}

pub(crate) fn own(options: &Options, contender: usize) -> Result<(), Failure> {
    let runs = if options.once() { 20 } else { RUNS };
    let limit = sys::raise_descriptor_limit()?;
    if limit < runs as u64 * DESCRIPTORS {
        println!(
            "not run: {runs} runs need up to {} descriptors, {limit} are allowed",
            runs as u64 * DESCRIPTORS
        );
        return Ok(());
    }
    let news = News::of_this_kernel()?;
    let (_, contender) = *options.contenders().get(contender).ok_or("there is no such contender")?;
    options.runtime()?.block_on(async {
        if let Some(why) = contender.refusal(&Child::that("")?).await {
            println!("{}", why.replace('\n', " "));
            return Ok(());
        }
        match measure(contender, runs, news).await? {
            Ok(figures) => figures.iter().for_each(|(key, value)| println!("{key} {value}")),
            Err(why) => println!("{why}"),
        }
        Ok(())
    })
}

async fn measure(contender: Contender, runs: usize, news: News) -> Result<Result<Figures, String>, Failure> {
    let child = Child::that("hang")?;
    let own = process::id();
    // The first brings what stays for good: threads, handlers, arenas.
    if let Err(why) = stop_all(vec![contender.start(&child, Sink::Captured).await?], news).await? {
        return Ok(Err(why));
    }

    let mut running = Vec::with_capacity(runs);
    let (descriptors, memory, cpu) = (sys::descriptors()?, sys::private_memory(own)?, sys::cpu_time()?);
    let from = Instant::now();
    for _ in 0..runs {
        running.push(contender.start(&child, Sink::Captured).await?);
    }
    let start = from.elapsed();
    let cpu_of_start = sys::cpu_time()?.saturating_sub(cpu);
    let descriptors = sys::descriptors()? - descriptors;
    let memory = sys::private_memory(own)?.saturating_sub(memory);
    let helpers = helpers(own, &running)?;
    let mut memory_of_helpers = Vec::new();
    for helper in &helpers {
        memory_of_helpers.push(sys::private_memory(*helper)? as f64);
    }

    let cpu = sys::cpu_time()?;
    let stop = match stop_all(running, news).await? {
        Ok(stop) => stop,
        Err(why) => return Ok(Err(why)),
    };
    let cpu = cpu_of_start + sys::cpu_time()?.saturating_sub(cpu);
    let each = |sum: f64| sum / runs as f64;
    let figures = [
        (START, start.as_secs_f64()),
        (STOP, stop.as_secs_f64()),
        (CPU, cpu.as_secs_f64()),
        (DESCRIPTORS_EACH, each(descriptors as f64)),
        (MEMORY_EACH, each(memory as f64)),
        (HELPERS_EACH, each(helpers.len() as f64)),
        (HELPER_MEMORY, if helpers.is_empty() { 0.0 } else { table::quartiles(&memory_of_helpers)[1] }),
    ];
    Ok(Ok(figures.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()))
}

/// Children of the owner that nobody asked for.
fn helpers(own: u32, running: &[Running]) -> Result<Vec<u32>, Failure> {
    let asked_for = running.iter().map(Running::pid).collect::<Result<BTreeSet<u32>, Failure>>()?;
    Ok(sys::children(own)?.into_iter().filter(|child| !asked_for.contains(child)).collect())
}

/// How long it takes until all of them are dead and reaped, or who was not in time. Their helpers get the time to leave as well, if they mean to.
async fn stop_all(running: Vec<Running>, news: News) -> Result<Result<Duration, String>, Failure> {
    let mut members = Members::none(news);
    for pid in running.iter().map(Running::pid) {
        members.add(pid?)?;
    }
    let mut others = Members::none(news);
    for helper in helpers(process::id(), &running)? {
        others.add(helper)?;
    }
    let vigil = members.watch(PATIENCE)?;
    let from = Instant::now();
    for run in running {
        run.stop()?;
    }
    let emptied = tokio::task::spawn_blocking(|| vigil.end()).await??;
    if !emptied.left.nobody() {
        return Ok(Err(format!("not measured: {}", emptied.left)));
    }
    let vigil = others.watch(PATIENCE_WITH_HELPERS)?;
    tokio::task::spawn_blocking(|| vigil.end()).await??;
    Ok(Ok(emptied.at.saturating_duration_since(from)))
}
