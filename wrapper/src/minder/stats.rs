//! What a minder has counted, as a value.

use std::time::Duration;

use super::resource::Totals;
use crate::outcome::{Ended, Left, Outcome, Reason};

/// What a minder has counted so far and what is there, as of one moment.
///
/// In each of them `starts` is `ends.all()` and `runs.running` together.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Stats {
    /// How many resources are there, by kind.
    pub resources: Totals,
    /// How old the oldest of them is.
    #[cfg_attr(feature = "serde", serde(rename = "oldest_ms", serialize_with = "crate::json::ms_if_any"))]
    pub oldest: Option<Duration>,
    /// How far the runs among them are.
    pub runs: Runs,
    /// How many runs are being cleaned up: asked to end, or past the end of their child.
    pub cleaning_up: usize,
    /// Whether a shutdown has begun, which is for ever.
    pub is_shut_down: bool,
    /// How many runs were started.
    pub starts: u64,
    /// How many starts were refused, or failed.
    pub failed_starts: u64,
    /// How many of the runs that were started have ended, by reason.
    pub ends: Ends,
    /// Of how many of these it could not be shown that nobody is left.
    pub failed_ends: u64,
    /// How many stops came to a kill, because the request was not enough.
    pub escalations: u64,
    /// How many processes died of a kill, of those runs whose containment counts that.
    pub kills: u64,
    /// How long it took from the request to end, or from the child's own end, until it was settled who is left.
    pub time_to_empty: Times,
}

/// How many runs there are, by how far they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Runs {
    /// Not started yet.
    pub starting: usize,
    /// Started, and not ended.
    pub running: usize,
    /// Ended, with a child that no kill has ended yet. It is reaped when it ends at last.
    pub lingering: usize,
}

/// How many runs have ended, by reason. See [`Ended`] and [`Reason`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Ends {
    /// The child ended before anybody stopped it.
    pub by_itself: u64,
    /// See [`Reason::TimedOut`].
    pub timed_out: u64,
    /// See [`Reason::Idle`].
    pub idle: u64,
    /// See [`Reason::OutputLimit`].
    pub output_limit: u64,
    /// See [`Reason::Cancelled`].
    pub cancelled: u64,
    /// See [`Reason::Dropped`].
    pub dropped: u64,
    /// See [`Reason::ShutDown`].
    pub shut_down: u64,
    /// See [`Reason::ContainmentLost`].
    pub containment_lost: u64,
}

impl Ends {
    /// How many have ended like this.
    pub fn of(&self, ended: Ended) -> u64 {
        let mut copy = *self;
        *copy.count(ended)
    }

    /// How many have ended.
    pub fn all(&self) -> u64 {
        let Self {
            by_itself,
            timed_out,
            idle,
            output_limit,
            cancelled,
            dropped,
            shut_down,
            containment_lost,
        } = self;
        by_itself + timed_out + idle + output_limit + cancelled + dropped + shut_down + containment_lost
    }

    fn count(&mut self, ended: Ended) -> &mut u64 {
        match ended {
            Ended::ByItself => &mut self.by_itself,
            Ended::Stopped(Reason::TimedOut) => &mut self.timed_out,
            Ended::Stopped(Reason::Idle) => &mut self.idle,
            Ended::Stopped(Reason::OutputLimit) => &mut self.output_limit,
            Ended::Stopped(Reason::Cancelled) => &mut self.cancelled,
            Ended::Stopped(Reason::Dropped) => &mut self.dropped,
            Ended::Stopped(Reason::ShutDown) => &mut self.shut_down,
            Ended::Stopped(Reason::ContainmentLost) => &mut self.containment_lost,
        }
    }
}

/// How long something took, of all times that it was counted. A percentile is at most an eighth too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Times {
    /// How often it was counted. The others are zero if it never was.
    pub count: u64,
    /// Half of them took no longer.
    #[cfg_attr(feature = "serde", serde(rename = "p50_ms", serialize_with = "crate::json::ms"))]
    pub p50: Duration,
    /// Nine of ten took no longer.
    #[cfg_attr(feature = "serde", serde(rename = "p90_ms", serialize_with = "crate::json::ms"))]
    pub p90: Duration,
    /// Ninety-nine of a hundred took no longer.
    #[cfg_attr(feature = "serde", serde(rename = "p99_ms", serialize_with = "crate::json::ms"))]
    pub p99: Duration,
    /// The longest.
    #[cfg_attr(feature = "serde", serde(rename = "max_ms", serialize_with = "crate::json::ms"))]
    pub max: Duration,
}

/// What is counted of all runs, in a bounded amount of memory.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) starts: u64,
    pub(super) failed_starts: u64,
    ends: Ends,
    failed_ends: u64,
    escalations: u64,
    kills: u64,
    time_to_empty: Histogram,
}

impl Counters {
    pub(super) fn end(&mut self, outcome: &Outcome) {
        *self.ends.count(outcome.ended) += 1;
        self.failed_ends += u64::from(!matches!(outcome.left, Left::Nobody(_)));
        self.escalations += u64::from(outcome.stop.is_some_and(|stop| stop.killed.is_some()));
        self.kills += outcome.signalled.as_ref().map_or(0, |signalled| signalled.killed.count);
        let since_own_end =
            || outcome.timings.settled.saturating_sub(outcome.timings.exited.unwrap_or_default());
        self.time_to_empty.count(outcome.stop.map_or_else(since_own_end, |stop| stop.took));
    }

    pub(super) fn tell(&self, stats: &mut Stats) {
        stats.starts = self.starts;
        stats.failed_starts = self.failed_starts;
        stats.ends = self.ends;
        stats.failed_ends = self.failed_ends;
        stats.escalations = self.escalations;
        stats.kills = self.kills;
        stats.time_to_empty = self.time_to_empty.times();
    }
}

/// Durations in buckets that grow with them: eight for each power of two of microseconds.
#[derive(Debug)]
struct Histogram {
    buckets: Box<[u64; BUCKETS]>,
    count: u64,
    max: Duration,
}

const BITS_WITHIN: u32 = 3;
const WITHIN: u64 = 1 << BITS_WITHIN;

/// The last one begins at some five days, and takes all that is longer.
const BUCKETS: usize = 300;

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: Box::new([0; BUCKETS]), count: 0, max: Duration::ZERO }
    }
}

impl Histogram {
    fn count(&mut self, duration: Duration) {
        self.buckets[bucket(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))] += 1;
        self.count += 1;
        self.max = self.max.max(duration);
    }

    fn times(&self) -> Times {
        let [p50, p90, p99] = [50, 90, 99].map(|percent| self.percentile(percent));
        Times { count: self.count, p50, p90, p99, max: self.max }
    }

    /// So many of a hundred took no longer.
    fn percentile(&self, percent: u64) -> Duration {
        let wanted = (self.count * percent).div_ceil(100);
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted && bucket + 1 < BUCKETS {
                return self.max.min(Duration::from_micros(least(bucket + 1) - 1));
            }
        }
        self.max
    }
}

fn bucket(micros: u64) -> usize {
    if micros < WITHIN {
        return micros as usize;
    }
    // The highest bit says which row of eight, the three bits below which of the eight.
    let row = micros.ilog2() - BITS_WITHIN;
    let within = (micros >> row) - WITHIN;
    let number = (u64::from(row) + 1) * WITHIN + within;
    (number as usize).min(BUCKETS - 1)
}

/// The least that comes into a bucket.
fn least(bucket: usize) -> u64 {
    let (row, within) = (bucket as u64 / WITHIN, bucket as u64 % WITHIN);
    if row == 0 { within } else { (WITHIN + within) << (row - 1) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counted(micros: impl IntoIterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::default();
        micros.into_iter().for_each(|micros| histogram.count(Duration::from_micros(micros)));
        histogram
    }

    #[test]
    fn the_buckets_follow_each_other_without_gaps() {
        for number in 0..BUCKETS - 1 {
            assert_eq!(bucket(least(number)), number);
            assert_eq!(bucket(least(number + 1) - 1), number);
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn what_was_never_counted_took_no_time() {
        assert_eq!(counted([]).times(), Times::default());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_percentile_is_never_too_short_and_at_most_an_eighth_too_long(
            mut micros in prop::collection::vec(0u64..1 << 38, 1..200),
            percent in 1u64..=100,
        ) {
            let found = counted(micros.iter().copied()).percentile(percent).as_micros() as u64;
            micros.sort_unstable();
            let exact = micros[(micros.len() as u64 * percent).div_ceil(100) as usize - 1];
            prop_assert!(exact <= found && found <= exact + exact / 8, "{found} for {exact}");
        }
    }
}
