//! What runs cost while they last, and that nothing is left of them in the owner.

use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};

use crate::stage::{Owner, PATIENCE, check, figure, median, nobody_is_left, rounds, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("a_nanny_takes_little_memory_and_sleeps_while_there_is_nothing_to_do", idle),
        trial("no_descriptor_and_no_zombie_is_left_of_many_runs", many_runs),
        trial("a_start_costs_a_large_owner_no_more_than_a_small_one", large_owner),
    ]
}

/// Both are counted by the kernel, not measured. Where the kernel puts a stack it may touch a page or two more than are
/// wanted; pages of four KiB are assumed.
fn idle() -> Result<(), Failed> {
    const MOST_KIB: u64 = 24;
    let seconds = if crate::stage::is_long() { 10 } else { 2 };
    let mut owner = Owner::play("idle", &[]);
    let nanny: u32 = owner.line()?.parse()?;
    let tasks = || [task(nanny, nanny), supervisor_of(owner.pid.as_raw().unsigned_abs())];
    let deadline = Instant::now() + PATIENCE * 2;
    // Time is what is measured here. What is still on its way from the start may wake them up, but not for ever.
    let (before, after) = loop {
        let before = tasks().map(|task| switches(&task));
        std::thread::sleep(Duration::from_secs(seconds));
        let after = tasks().map(|task| switches(&task));
        if before == after || Instant::now() > deadline {
            break (before, after);
        }
    };
    let dirty = private_dirty_kib(nanny);
    figure(format!(
        "a nanny: {dirty} KiB private and dirty beside another (wanted: at most 16); wake-ups in {seconds} s: nanny {}, library's \
         thread {}",
        after[0] - before[0],
        after[1] - before[1]
    ));
    owner.go_on();
    nobody_is_left(PATIENCE)?;
    check(before == after, || format!("woken up: {before:?} became {after:?}"))?;
    check(dirty <= MOST_KIB, || format!("{dirty} KiB"))
}

fn task(process: u32, thread: u32) -> String {
    format!("/proc/{process}/task/{thread}")
}

fn supervisor_of(owner: u32) -> String {
    let threads = std::fs::read_dir(format!("/proc/{owner}/task")).expect("a list of threads");
    let mut paths = threads.flatten().map(|thread| thread.path().display().to_string());
    paths
        .find(|path| {
            std::fs::read_to_string(format!("{path}/comm")).is_ok_and(|name| name.trim() == "childminder")
        })
        .expect("it is there")
}

/// How often a thread has gone to sleep by itself, which it does after each time that it is woken up.
fn switches(task: &str) -> u64 {
    number_in(&format!("{task}/status"), "voluntary_ctxt_switches:")
}

fn private_dirty_kib(process: u32) -> u64 {
    number_in(&format!("/proc/{process}/smaps_rollup"), "Private_Dirty:")
}

fn number_in(path: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(path).expect("it is there");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("it has that line");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}

fn many_runs() -> Result<(), Failed> {
    let rounds = rounds(100, 1000).to_string();
    for containment in ["nanny", "group"] {
        let owner = Owner::play("many runs", &[containment, &rounds]);
        let said = owner.rest()?;
        nobody_is_left(PATIENCE)?;
        check(said.last().is_some_and(|last| last == "good"), || format!("{containment}: {said:?}"))?;
        figure(format!("{containment}, {rounds} runs: no descriptor and no child more"));
    }
    Ok(())
}

/// In turns, so that both see the same machine. The ratio is printed; what is asserted is that the owner's memory is not
/// copied, which would cost a hundred times as much.
fn large_owner() -> Result<(), Failed> {
    let megabytes = if crate::stage::is_long() { "2048" } else { "512" };
    let mut small = Owner::play("sized", &["0"]);
    let mut large = Owner::play("sized", &[megabytes]);
    let mut times = [Vec::new(), Vec::new()];
    for owner in [&small, &large] {
        owner.expect("ready")?;
    }
    for _ in 0..rounds(40, 300) {
        for (owner, times) in [&mut small, &mut large].into_iter().zip(&mut times) {
            owner.go_on();
            times.push(Duration::from_nanos(owner.line()?.parse()?));
        }
    }
    drop((small, large));
    nobody_is_left(PATIENCE)?;
    let [small, large] = times.each_mut().map(|times| median(times));
    let ratio = large.as_secs_f64() / small.as_secs_f64();
    figure(format!(
        "median start: {small:?} in a small owner, {large:?} with {megabytes} MB resident, ratio {ratio:.2} (wanted: at \
         most 1.2)"
    ));
    check(ratio < 3.0, || format!("ratio {ratio:.2}"))
}
