//! The canary: how late this machine is, measured while cases run.
//!
//! A thread sleeps again and again and notes how much later than asked it woke up. A deadline that is missed by less than
//! that says nothing about the wrapper.

use std::collections::VecDeque;
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
    samples: Arc<Mutex<VecDeque<(Instant, u64)>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
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
        Ok(Self { samples, stop, thread: Some(thread) })
    }

    /// How late the machine was from `began` until now.
    pub fn noise_since(&self, began: Instant) -> Noise {
        let now = Instant::now();
        let from = began.min(now.checked_sub(LEAST_STRETCH).unwrap_or(began));
        let samples = self.samples.lock().expect("no holder of this lock panics");
        let mut late: Vec<u64> =
            samples.iter().rev().take_while(|(at, _)| *at >= from).map(|(_, late)| *late).collect();
        late.sort_unstable();
        let Some(max) = late.last() else { return Noise::default() };
        Noise { p99_us: late[(late.len() - 1) * 99 / 100], max_us: *max, samples: late.len() as u64 }
    }
}

fn measure(samples: &Mutex<VecDeque<(Instant, u64)>>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now() + NAP;
        std::thread::sleep(NAP);
        let woke = Instant::now();
        let mut samples = samples.lock().expect("no holder of this lock panics");
        samples.push_back((woke, woke.saturating_duration_since(asked).as_micros() as u64));
        while samples.front().is_some_and(|(at, _)| woke.saturating_duration_since(*at) > MEMORY) {
            samples.pop_front();
        }
    }
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
