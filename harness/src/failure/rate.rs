//! How often a case breaks a rule, and how many tries it takes to tell.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Two-sided 95 % of the normal distribution.
const Z: f64 = 1.96;
/// A rate is never taken for certain, so that one case that went well does not end everything.
const HIGHEST: f64 = 0.97;
/// A rate below this is taken for this: what is rarer cannot be hunted in any time that a person waits.
const LOWEST: f64 = 0.01;
/// With which chance a simplification is taken whose rate is far lower: of a failure that is certain, and of a race, where
/// more of them are tried that happen to be of that kind.
const DRIFTS: f64 = 0.02;
const DRIFTS_OF_RACE: f64 = 0.005;
/// From here on a failure counts as certain.
const CERTAIN: f64 = 0.9;
/// How many deviations lie between two rates that differ materially: chance alone does that in 2 of 100 comparisons.
const MATERIAL: f64 = 2.05;
/// Two rates are compared by so many cases each that broke the rule, of a certain failure and of a race, if so many tries suffice for
/// that.
const COMPARED_BROKEN: [f64; 2] = [40.0, 80.0];
const MOST_COMPARED: u64 = 240;

/// In how many of the cases that could be told a rule was broken.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// In so many it was broken.
    pub broken: u64,
    /// Of so many that could be told.
    pub of: u64,
}

impl Rate {
    /// The part that broke the rule, 0 to 1; nothing where no case could be told.
    pub fn value(self) -> Option<f64> {
        (self.of > 0).then(|| self.broken as f64 / self.of as f64)
    }

    /// Wilson's interval: within it lies the true rate in 95 of 100 measurements like this one.
    pub fn interval(self) -> (f64, f64) {
        if self.of == 0 {
            return (0.0, 1.0);
        }
        let (n, p) = (self.of as f64, self.broken as f64 / self.of as f64);
        let shrunk = 1.0 + Z * Z / n;
        let middle = (p + Z * Z / (2.0 * n)) / shrunk;
        let half = Z / shrunk * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
        ((middle - half).max(0.0), (middle + half).min(1.0))
    }

    /// The interval in whole percents, rounded outwards.
    pub fn percents(self) -> (u8, u8) {
        let (from, to) = self.interval();
        ((from * 100.0).floor() as u8, (to * 100.0).ceil() as u8)
    }

    /// What both measured together.
    pub(super) fn and(self, other: Self) -> Self {
        Self { broken: self.broken + other.broken, of: self.of + other.of }
    }

    /// Whether it is higher than another for certain: the intervals do not meet.
    pub fn is_above(self, other: Self) -> bool {
        self.interval().0 > other.interval().1
    }

    /// Whether it is materially lower than one that is expected to be `rate` and was measured in `of` cases: by more than chance.
    pub(super) fn is_materially_below(self, rate: f64, of: u64) -> bool {
        let variance = |broken: f64, of: f64| {
            let p = (broken + 1.0) / (of + 2.0);
            p * (1.0 - p) / of
        };
        let Some(value) = self.value().filter(|_| of > 0) else { return false };
        let (own, other) =
            (variance(self.broken as f64, self.of as f64), variance(rate * of as f64, of as f64));
        rate - value > MATERIAL * (own + other).sqrt()
    }

    /// In how many cases another rate must be broken, and none keep the rule, to be [above](Self::is_above) this one.
    pub(super) fn tries_to_be_above(self) -> u64 {
        let highest = self.interval().1.min(HIGHEST);
        (Z * Z * highest / (1.0 - highest)) as u64 + 1
    }

    /// How many tries it takes to compare another rate with this one.
    pub(super) fn tries_to_compare(self) -> u64 {
        ((COMPARED_BROKEN[usize::from(self.is_racy())] / self.estimate()).ceil() as u64).min(MOST_COMPARED)
    }

    /// The rate of a case with a part of its runs, if each run is a chance of its own. Many chances make what is none of them certain.
    pub(super) fn with_runs(rate: f64, before: usize, now: usize) -> f64 {
        let none = 1.0 - rate.min(HIGHEST);
        if now >= before || now == 0 { rate } else { 1.0 - none.powf(now as f64 / before as f64) }
    }

    /// Whether a gate could do something for it: it does not happen nearly always.
    pub fn is_to_be_promoted(self) -> bool {
        self.is_racy() && self.broken * 5 < self.of * 4
    }

    /// Whether some cases break the rule and others do not.
    pub fn is_racy(self) -> bool {
        self.broken > 0 && self.broken < self.of
    }

    /// How many replays show it with a chance of 99 %; 1 for a failure that always happened.
    pub fn times_to_see(self) -> u64 {
        if self.is_racy() { (0.01_f64.ln() / (1.0 - self.estimate()).ln()).ceil() as u64 } else { 1 }
    }

    /// How many replays show it with a chance of 99.9 %, even if the true rate is as low as the measurement allows; 1 for one that was
    /// never measured.
    pub fn times_not_to_miss(self) -> u64 {
        match self.interval().0 {
            _ if self.broken == 0 => 1,
            lowest => (0.001_f64.ln() / (1.0 - lowest.clamp(LOWEST, HIGHEST)).ln()).ceil() as u64,
        }
    }

    /// A rate to reckon with: never 0 and never 1.
    pub(super) fn estimate(self) -> f64 {
        ((self.broken as f64 + 0.5) / (self.of as f64 + 1.0)).clamp(LOWEST, HIGHEST)
    }

    /// A rate to reckon with where nothing may be missed: of a race the lowest that may be true.
    pub(super) fn careful_estimate(self) -> f64 {
        if self.is_racy() { self.interval().0.clamp(LOWEST, HIGHEST) } else { self.estimate() }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = self.percents();
        write!(f, "{} of {} ({from} to {to} %)", self.broken, self.of)
    }
}

/// When a simplification has been tried often enough: a sequential test between "as often as before" and "far more rarely".
///
/// Each try moves a balance; the test ends as soon as either side has it. So a failure that is certain is refused after two
/// tries that went well, and one that happens once in twenty after some hundred.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// What a try that broke the rule adds.
    gain: f64,
    /// What one that did not takes away.
    loss: f64,
    accept: f64,
    refuse: f64,
}

impl Terms {
    /// For a case that broke the rule at this rate; `drift` is how many times more rarely is far more rarely, `miss` the chance to
    /// refuse a simplification that breaks it as often as before.
    pub(super) fn new(rate: f64, drift: f64, miss: f64) -> Self {
        let same = rate.clamp(LOWEST, HIGHEST);
        Self::between(same / drift, same, miss, if same < CERTAIN { DRIFTS_OF_RACE } else { DRIFTS })
    }

    /// For a gate that is to make a failure of this rate nearly certain: between the rate as it is and one that is three quarters
    /// of the way to always.
    pub(super) fn of_gate(rate: f64) -> Self {
        let now = rate.clamp(LOWEST, HIGHEST);
        Self::between(now, (now + 0.75 * (1.0 - now)).min(HIGHEST), DRIFTS, DRIFTS)
    }

    /// Between a low rate and a high one; `miss` is the chance to refuse the high one, `drifts` the one to accept the low one.
    fn between(low: f64, high: f64, miss: f64, drifts: f64) -> Self {
        Self {
            gain: (high / low).ln(),
            loss: ((1.0 - low) / (1.0 - high)).ln(),
            accept: ((1.0 - miss) / drifts).ln(),
            refuse: (miss / (1.0 - drifts)).ln(),
        }
    }

    fn balance(&self, rate: Rate) -> f64 {
        rate.broken as f64 * self.gain - (rate.of - rate.broken) as f64 * self.loss
    }

    /// Whether it breaks the rule as before; nothing while that cannot be told.
    pub(super) fn decide(&self, rate: Rate) -> Option<bool> {
        let balance = self.balance(rate);
        if balance >= self.accept {
            Some(true)
        } else if balance <= self.refuse || rate.of >= self.most() {
            Some(false)
        } else {
            None
        }
    }

    /// How many tries more can be of use, if all end alike.
    pub(super) fn useful(&self, rate: Rate) -> u64 {
        let (broken, kept) = self.missing(rate);
        broken.max(kept).max(1.0) as u64
    }

    /// After how many tries something can be told for the first time.
    pub(super) fn least(&self) -> u64 {
        let (broken, kept) = self.missing(Rate::default());
        broken.min(kept).max(1.0) as u64
    }

    /// How many more that break the rule, and how many that keep it, decide it alone.
    fn missing(&self, rate: Rate) -> (f64, f64) {
        let balance = self.balance(rate);
        (((self.accept - balance) / self.gain).ceil(), ((balance - self.refuse) / self.loss).ceil())
    }

    /// Far more than a test takes unless the rate lies just between the two.
    fn most(&self) -> u64 {
        12 * self.useful(Rate::default()).max(5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::tests::Coin;

    #[test]
    fn the_interval_is_wilsons() {
        for (broken, of, from, to) in [(10, 10, 72, 100), (0, 10, 0, 28), (5, 10, 23, 77), (1, 20, 0, 24)] {
            assert_eq!(Rate { broken, of }.percents(), (from, to), "{broken} of {of}");
        }
        assert_eq!(Rate::default().interval(), (0.0, 1.0));
        assert_eq!(Rate { broken: 7, of: 10 }.to_string(), "7 of 10 (39 to 90 %)");
        assert_eq!(Rate { broken: 5, of: 10 }.times_to_see(), 7);
        assert_eq!(Rate { broken: 10, of: 10 }.times_to_see(), 1);
        assert_eq!(Rate { broken: 10, of: 10 }.times_not_to_miss(), 6);
        assert_eq!(Rate { broken: 10, of: 20 }.times_not_to_miss(), 20);
        assert_eq!(
            (Rate::default().times_not_to_miss(), Rate { broken: 0, of: 9 }.times_not_to_miss()),
            (1, 1)
        );
        assert!(Rate { broken: 12, of: 12 }.is_above(Rate { broken: 5, of: 12 }));
        assert!(!Rate { broken: 8, of: 12 }.is_above(Rate { broken: 5, of: 12 }));
    }

    #[test]
    fn a_certain_case_is_tried_as_often_as_it_takes_to_be_above_a_frequent_one() {
        for (broken, of) in [(0, 0), (1, 200), (10, 20), (10, 15), (10, 13), (99, 100)] {
            let race = Rate { broken, of };
            let tries = race.tries_to_be_above();
            let certain = |of| Rate { broken: of, of };
            assert!(tries <= super::super::MOST_REPLAYS, "{race}");
            let is_above = [tries - 1, tries].map(|of| certain(of).is_above(race));
            assert!(race.interval().1 > HIGHEST || is_above == [false, true], "{race}: {tries}");
        }
    }

    #[test]
    fn a_certain_failure_takes_few_tries_and_a_rare_one_many() {
        let certain = Terms::new(1.0, 3.0, 0.02);
        assert_eq!(certain.decide(Rate { broken: 0, of: 1 }), None);
        assert_eq!(certain.decide(Rate { broken: 0, of: 2 }), Some(false));
        assert_eq!(certain.decide(Rate { broken: 4, of: 4 }), Some(true));
        let rare = Terms::new(0.05, 3.0, 0.02);
        assert_eq!(rare.decide(Rate { broken: 0, of: 60 }), None);
        assert!((80..160).contains(&rare.useful(Rate::default())), "{}", rare.useful(Rate::default()));
    }

    #[test]
    fn a_gate_is_taken_if_it_makes_a_race_nearly_certain() {
        for rate in [0.05, 0.2, 0.5] {
            let terms = Terms::of_gate(rate);
            assert_eq!(terms.decide(Rate { broken: 10, of: 10 }), Some(true), "{rate}");
            assert_eq!(terms.decide(Rate { broken: 0, of: 4 }), Some(false), "{rate}");
            assert_eq!(terms.decide(Rate { broken: 2, of: 8 }), Some(false).filter(|_| rate > 0.1), "{rate}");
        }
    }

    /// Of simplifications that break the rule as often as before few are missed, of those that break it far more rarely few taken.
    #[test]
    fn the_test_errs_as_rarely_as_it_says() {
        let mut coin = Coin::of(7);
        for rate in [1.0, 0.5, 0.2, 0.05] {
            let terms = Terms::new(rate, 3.0, 0.02);
            let mut taken = |truth: f64| {
                (0..1000)
                    .filter(|_| {
                        let mut seen = Rate::default();
                        loop {
                            seen.of += 1;
                            seen.broken += u64::from(coin.falls(truth));
                            if let Some(decision) = terms.decide(seen) {
                                return decision;
                            }
                        }
                    })
                    .count()
            };
            let (same, rarer) = (taken(rate), taken(rate / 3.0));
            assert!(same >= 960, "at {rate} {same} of 1000 are found");
            assert!(rarer <= 30, "at {rate} {rarer} of 1000 drift");
        }
    }
}
