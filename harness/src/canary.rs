//! The canary: how late this machine is, measured while cases run.
//!
//! A thread sleeps again and again, and notes how much later than asked it woke up and how many processes want a processor. A
//! deadline that is missed by less than these explain says nothing about the wrapper.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::trace::Noise;

/// How long it sleeps.
const NAP: Duration = Duration::from_millis(2);
/// How far back it remembers.
const MEMORY: Duration = Duration::from_secs(90);
/// A shorter stretch of time than this is widened to it, so that there are enough samples.
const LEAST_STRETCH: Duration = Duration::from_millis(400);

/// A measurement that goes on until it is dropped.
#[derive(Debug)]
pub struct Canary {
    samples: Arc<Mutex<VecDeque<Sample>>>,
    /// Asked for once: the answer is looked up in files of the kernel's.
    cores: u64,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    late_us: u64,
    runnable: u64,
}

impl Canary {
    /// Starts to measure.
    ///
    /// # Errors
    ///
    /// When no thread can be started.
    pub fn start() -> std::io::Result<Self> {
        let samples = Arc::new(Mutex::new(VecDeque::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name("canary".to_owned()).spawn({
            let (samples, stop) = (samples.clone(), stop.clone());
            move || measure(&samples, &stop)
        })?;
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
        Ok(Self { samples, cores, stop, thread: Some(thread) })
    }

    /// How late the machine was from `began` until now.
    pub fn noise_since(&self, began: Instant) -> Noise {
        let now = Instant::now();
        let from = began.min(now.checked_sub(LEAST_STRETCH).unwrap_or(began));
        let samples = self.samples.lock().expect("no holder of this lock panics");
        let recent: Vec<Sample> =
            samples.iter().rev().take_while(|sample| sample.at >= from).copied().collect();
        drop(samples);
        noise_of(&recent, self.cores)
    }
}

fn noise_of(recent: &[Sample], cores: u64) -> Noise {
    let sorted = |part: fn(&Sample) -> u64| {
        let mut values: Vec<u64> = recent.iter().map(part).collect();
        values.sort_unstable();
        values
    };
    let (late, runnable) = (sorted(|sample| sample.late_us), sorted(|sample| sample.runnable));
    let Some(max_us) = late.last().copied() else { return Noise::default() };
    Noise {
        p99_us: late[(late.len() - 1) * 99 / 100],
        max_us,
        samples: late.len() as u64,
        crowd_percent: runnable[runnable.len() / 2] * 100 / cores,
    }
}

fn measure(samples: &Mutex<VecDeque<Sample>>, stop: &AtomicBool) {
    // Without it the crowd is not known; the sleeps still are.
    let load = File::open("/proc/loadavg").ok();
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now() + NAP;
        std::thread::sleep(NAP);
        let woke = Instant::now();
        let runnable = load.as_ref().and_then(runnable).unwrap_or(0);
        let mut samples = samples.lock().expect("no holder of this lock panics");
        let late_us = woke.saturating_duration_since(asked).as_micros() as u64;
        samples.push_back(Sample { at: woke, late_us, runnable });
        while samples.front().is_some_and(|sample| woke.saturating_duration_since(sample.at) > MEMORY) {
            samples.pop_front();
        }
    }
}

/// How many processes but this thread run or want to, of the whole machine.
fn runnable(load: &File) -> Option<u64> {
    let mut text = [0; 128];
    let count = load.read_at(&mut text, 0).ok()?;
    let text = std::str::from_utf8(&text[..count]).ok()?;
    let running = text.split_ascii_whitespace().nth(3)?.split('/').next()?;
    running.parse::<u64>().ok()?.checked_sub(1)
}

impl Drop for Canary {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It naps for two milliseconds at most and cannot panic.
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_loops_show_as_a_crowd() {
        let canary = Canary::start().unwrap();
        let cores = std::thread::available_parallelism().unwrap().get();
        let stop = AtomicBool::new(false);
        let began = Instant::now();
        let noise = std::thread::scope(|scope| {
            for _ in 0..cores * 3 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            let deadline = began + Duration::from_secs(20);
            let mut noise = canary.noise_since(began);
            while (noise.crowd_percent < 250 || noise.samples < 20) && Instant::now() < deadline {
                std::thread::park_timeout(Duration::from_millis(20));
                noise = canary.noise_since(began);
            }
            stop.store(true, Ordering::Relaxed);
            noise
        });
        assert!(
            noise.crowd_percent >= 250 && noise.samples >= 20 && noise.max_us >= noise.p99_us,
            "{noise:?}"
        );
    }
}
