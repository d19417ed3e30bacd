//! Rounds in which everybody takes a turn, and the tables that come of them.

use std::time::{Duration, Instant};

/// No case takes longer than this, however slow the machine or the contender; but it gets its first few rounds.
const ENOUGH: Duration = Duration::from_secs(4);
const AT_LEAST: usize = 3;

/// Counts rounds, up to a number of them or until it has taken long enough.
pub(crate) struct Rounds {
    wanted: usize,
    at_least: usize,
    done: usize,
    enough: Instant,
    dice: u64,
}

impl Rounds {
    /// `usual` rounds at `times` the usual time.
    pub(crate) fn new(wanted: usize, usual: usize) -> Self {
        let times = wanted.div_ceil(usual.max(1)).max(1);
        let enough = ENOUGH.saturating_mul(u32::try_from(times).unwrap_or(u32::MAX));
        Self {
            wanted,
            at_least: AT_LEAST,
            done: 0,
            enough: Instant::now() + enough,
            dice: 0x9E37_79B9_7F4A_7C15,
        }
    }

    /// Takes so many rounds however long they take.
    pub(crate) fn at_least(self, rounds: usize) -> Self {
        Self { at_least: rounds, ..self }
    }

    /// The order in which everybody takes a turn in the next round. It is shuffled, the same way in every run: what one
    /// leaves for the kernel to clear up delays whoever comes next, and that must not always be the same.
    pub(crate) fn next(&mut self, everybody: usize) -> Option<Vec<usize>> {
        let late = self.done >= self.at_least && Instant::now() > self.enough;
        if self.done >= self.wanted || late || everybody == 0 {
            return None;
        }
        let mut order: Vec<usize> = (0..everybody).collect();
        for last in (1..everybody).rev() {
            let other = self.roll() as usize % (last + 1);
            order.swap(last, other);
        }
        self.done += 1;
        Some(order)
    }

    /// Xorshift: enough for an order.
    fn roll(&mut self) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice >> 16
    }
}

/// What one contender did in all rounds.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// One for each round, in order; what they measure is the same for the whole table. Less is better.
    pub(crate) samples: Vec<f64>,
    /// In place of samples: why there are none.
    pub(crate) remark: Option<String>,
}

impl Row {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), samples: Vec::new(), remark: None }
    }
}

/// Prints a table whose ratios are to the first row that has samples, round by round.
pub(crate) fn print(title: &str, rows: &[Row], show: impl Fn(f64) -> String) {
    let reference = rows.iter().find(|row| row.remark.is_none() && !row.samples.is_empty());
    let rounds = reference.map_or(0, |row| row.samples.len());
    let unit = reference.map_or("nobody", |row| row.name.as_str());
    println!("\n{title}   ({rounds} rounds, 1.00 = {unit})");
    println!("  {:<28} {:>10} {:>8}   quartiles", "", "median", "ratio");
    for row in rows {
        match (reference, &row.remark) {
            (_, Some(remark)) => println!("  {:<28} {remark}", row.name),
            (Some(reference), None) if !row.samples.is_empty() => {
                let ratios: Vec<f64> =
                    row.samples.iter().zip(&reference.samples).map(|(own, other)| own / other).collect();
                let [low, ratio, high] = quartiles(&ratios);
                let [_, median, _] = quartiles(&row.samples);
                println!("  {:<28} {:>10} {ratio:>8.2}   {low:.2} – {high:.2}", row.name, show(median));
            }
            _ => println!("  {:<28} no round", row.name),
        }
    }
}

/// A quarter, half and three quarters of the samples are not larger than these.
pub(crate) fn quartiles(samples: &[f64]) -> [f64; 3] {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| {
        let place = sorted.len().saturating_sub(1) * quarter;
        match sorted.get(place / 4..) {
            Some([low, high, ..]) => low + (high - low) * (place % 4) as f64 / 4.0,
            Some([only]) => *only,
            _ => f64::NAN,
        }
    })
}

pub(crate) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 0.001 => format!("{:.0} µs", s * 1e6),
        s if s < 0.1 => format!("{:.2} ms", s * 1e3),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}
