//! The breaker: who was refused by the service some times in a row does not ask it again for a while. A pure table;
//! what the time is, is said to it.
//!
//! | phase | happening | next phase | the attempt |
//! |---|---|---|---|
//! | `Closed` | an attempt is asked for | `Closed` | allowed |
//! | `Closed` | accepted | `Closed`, nothing counted any more | |
//! | `Closed` | refused, fewer in a row than the threshold | `Closed`, one more counted | |
//! | `Closed` | refused, as many as the threshold | `Open` | |
//! | `Open` | an attempt is asked for during the pause | `Open` | refused |
//! | `Open` | an attempt is asked for after the pause | `HalfOpen` | allowed, as the probe |
//! | `HalfOpen` | an attempt is asked for, and the probe is out no longer than a pause | `HalfOpen` | refused |
//! | `HalfOpen` | an attempt is asked for, and the probe is out longer | `HalfOpen` | allowed, as the probe in its place |
//! | `HalfOpen` | the probe was accepted | `Closed` | |
//! | `HalfOpen` | the probe was refused | `Open`, a new pause | |
//! | `HalfOpen` | the probe ended without an answer | `Open`, the pause is over | |
//!
//! Each attempt reports back with the permit that it was given. A permit of an earlier phase is worth nothing: an attempt
//! that began before the breaker opened says nothing about what has happened since.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// When the breaker opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BreakerLimits {
    /// It opens at so many authentication failures in a row. Default: 3. None opens at 0.
    pub threshold: u32,
    /// How long nobody is let through. Also how long a single attempt may take to find out whether that has changed, before
    /// another one is let through for it. Default: 60 s.
    pub pause: Duration,
}

impl Default for BreakerLimits {
    fn default() -> Self {
        Self { threshold: 3, pause: Duration::from_secs(60) }
    }
}

impl BreakerLimits {
    /// These.
    pub fn new(threshold: u32, pause: Duration) -> Self {
        Self { threshold, pause }
    }
}

/// Where the breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum BreakerState {
    /// Everybody is let through.
    Closed,
    /// Nobody is.
    Open,
    /// The pause is over: one attempt is let through, or was, and decides.
    HalfOpen,
}

/// What an attempt showed about the authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Accepted,
    Refused,
    /// It ended before that could be known.
    Nothing,
}

/// The right to one attempt.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "whoever is let through reports what came of it"]
pub(super) struct Permit {
    phase: u64,
}

#[derive(Clone, Copy, Debug)]
enum Standing {
    Closed {
        in_a_row: u32,
    },
    Open {
        until: Option<Instant>,
    },
    /// Until then the probe has the say.
    HalfOpen {
        until: Option<Instant>,
    },
}

/// The breaker of an agent.
#[derive(Debug)]
pub(super) struct Breaker {
    limits: BreakerLimits,
    phase: Standing,
    /// Counts the phases, so that a permit tells of which it is.
    number: u64,
}

impl Breaker {
    pub(super) fn new(limits: BreakerLimits) -> Self {
        Self { limits, phase: Standing::Closed { in_a_row: 0 }, number: 0 }
    }

    pub(super) fn state(&self, now: Instant) -> BreakerState {
        match self.phase {
            Standing::Closed { .. } => BreakerState::Closed,
            Standing::Open { until } if until.is_none_or(|until| now < until) => BreakerState::Open,
            Standing::Open { .. } | Standing::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// Asks for an attempt. Whoever is refused is told for how long, `None` if that has no end. A probe that nobody hears of
    /// any more keeps the others out no longer than a pause.
    pub(super) fn ask(&mut self, now: Instant) -> Result<Permit, Option<Duration>> {
        match self.phase {
            Standing::Closed { .. } => {}
            Standing::Open { until: None } | Standing::HalfOpen { until: None } => return Err(None),
            Standing::Open { until: Some(until) } | Standing::HalfOpen { until: Some(until) }
                if now < until =>
            {
                return Err(Some(until - now));
            }
            Standing::Open { .. } | Standing::HalfOpen { .. } => {
                self.enter(Standing::HalfOpen { until: now.checked_add(self.limits.pause) });
            }
        }
        Ok(Permit { phase: self.number })
    }

    /// Takes what came of an attempt.
    pub(super) fn report(&mut self, permit: &Permit, verdict: Verdict, now: Instant) {
        if permit.phase != self.number {
            return;
        }
        match (self.phase, verdict) {
            (Standing::Closed { .. }, Verdict::Accepted) => self.phase = Standing::Closed { in_a_row: 0 },
            (Standing::Closed { in_a_row }, Verdict::Refused) => {
                let in_a_row = in_a_row.saturating_add(1);
                self.phase = Standing::Closed { in_a_row };
                if in_a_row == self.limits.threshold {
                    self.open(now);
                }
            }
            (Standing::HalfOpen { .. }, Verdict::Accepted) => self.enter(Standing::Closed { in_a_row: 0 }),
            (Standing::HalfOpen { .. }, Verdict::Refused) => self.open(now),
            (Standing::HalfOpen { .. }, Verdict::Nothing) => self.enter(Standing::Open { until: Some(now) }),
            (Standing::Closed { .. }, Verdict::Nothing) | (Standing::Open { .. }, _) => {}
        }
    }

    /// A pause too long for the clock has no end.
    fn open(&mut self, now: Instant) {
        self.enter(Standing::Open { until: now.checked_add(self.limits.pause) });
    }

    fn enter(&mut self, phase: Standing) {
        self.phase = phase;
        self.number += 1;
    }
}

/// The right to one attempt, which tells the breaker what came of it: once, and at the latest when it is dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    breaker: Arc<Mutex<Breaker>>,
    permit: Option<Permit>,
}

impl Ticket {
    pub(super) fn ask(breaker: &Arc<Mutex<Breaker>>) -> Result<Self, Option<Duration>> {
        let permit = breaker.lock().unwrap_or_else(PoisonError::into_inner).ask(Instant::now())?;
        Ok(Self { breaker: Arc::clone(breaker), permit: Some(permit) })
    }

    pub(super) fn report(&mut self, verdict: Verdict) {
        if let Some(permit) = self.permit.take() {
            let mut breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
            breaker.report(&permit, verdict, Instant::now());
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.report(Verdict::Nothing);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAUSE: Duration = Duration::from_secs(10);
    const THRESHOLD: u32 = 3;

    fn breaker() -> (Breaker, Instant) {
        (Breaker::new(BreakerLimits::new(THRESHOLD, PAUSE)), Instant::now())
    }

    fn refuse(breaker: &mut Breaker, times: u32, now: Instant) {
        for _ in 0..times {
            let permit = breaker.ask(now).expect("it is closed");
            breaker.report(&permit, Verdict::Refused, now);
        }
    }

    #[test]
    fn it_opens_at_the_threshold_and_tells_how_long() {
        let (mut breaker, now) = breaker();
        refuse(&mut breaker, THRESHOLD - 1, now);
        assert_eq!(breaker.state(now), BreakerState::Closed);
        refuse(&mut breaker, 1, now);
        assert_eq!(breaker.state(now), BreakerState::Open);
        let later = now + Duration::from_secs(4);
        assert_eq!(breaker.ask(later), Err(Some(Duration::from_secs(6))));
        assert_eq!(breaker.state(now + PAUSE), BreakerState::HalfOpen);
    }

    #[test]
    fn one_acceptance_makes_up_for_all_failures_before() {
        let (mut breaker, now) = breaker();
        for _ in 0..5 {
            refuse(&mut breaker, THRESHOLD - 1, now);
            let permit = breaker.ask(now).expect("it is closed");
            breaker.report(&permit, Verdict::Accepted, now);
        }
        assert_eq!(breaker.state(now), BreakerState::Closed);
    }

    #[test]
    fn the_probe_decides() {
        for (verdict, after) in [
            (Verdict::Accepted, BreakerState::Closed),
            (Verdict::Refused, BreakerState::Open),
            (Verdict::Nothing, BreakerState::HalfOpen),
        ] {
            let (mut breaker, now) = breaker();
            refuse(&mut breaker, THRESHOLD, now);
            let later = now + PAUSE;
            let probe = breaker.ask(later).expect("the pause is over");
            assert_eq!(breaker.ask(later), Err(Some(PAUSE)), "one probe at a time");
            breaker.report(&probe, verdict, later);
            assert_eq!(breaker.state(later), after, "{verdict:?}");
            assert_eq!(breaker.ask(later).is_ok(), after != BreakerState::Open, "{verdict:?}");
        }
    }

    #[test]
    fn a_probe_that_nobody_hears_of_keeps_the_others_out_no_longer_than_a_pause() {
        let (mut breaker, now) = breaker();
        refuse(&mut breaker, THRESHOLD, now);
        let lost = breaker.ask(now + PAUSE).expect("the pause is over");
        assert!(breaker.ask(now + PAUSE * 2 - Duration::from_secs(1)).is_err());
        let later = now + PAUSE * 2;
        let second = breaker.ask(later).expect("the first one has had its time");
        breaker.report(&lost, Verdict::Refused, later);
        assert_eq!(breaker.state(later), BreakerState::HalfOpen, "it has no say any more");
        breaker.report(&second, Verdict::Accepted, later);
        assert_eq!(breaker.state(later), BreakerState::Closed);
    }

    #[test]
    fn a_threshold_of_zero_never_opens_and_an_endless_pause_never_ends() {
        let now = Instant::now();
        let mut never = Breaker::new(BreakerLimits::new(0, PAUSE));
        refuse(&mut never, 1000, now);
        let mut endless = Breaker::new(BreakerLimits::new(1, Duration::MAX));
        refuse(&mut endless, 1, now);
        assert_eq!(endless.ask(now + Duration::from_secs(1 << 30)), Err(None));
        assert_eq!(endless.state(now), BreakerState::Open);
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Ask,
        Report(usize, Verdict),
        Wait(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let verdict = prop_oneof![
            3 => Just(Verdict::Refused),
            1 => Just(Verdict::Accepted),
            1 => Just(Verdict::Nothing)
        ];
        let step = prop_oneof![
            4 => Just(Step::Ask),
            4 => (any::<usize>(), verdict).prop_map(|(which, verdict)| Step::Report(which, verdict)),
            1 => (0u64..15).prop_map(Step::Wait),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Against what a user is told: counted from the reports alone, without looking at the phases.
        #[test]
        fn whatever_happens_it_lets_through_whom_it_should(steps in steps()) {
            let (mut breaker, mut now) = breaker();
            // Each with the count of openings and closings at which it was given, and whether it is the probe.
            let mut permits: Vec<(Permit, u64, bool)> = Vec::new();
            let (mut era, mut in_a_row, mut closed_until_probe) = (0, 0, None::<Instant>);
            let mut probe_until = None::<Instant>;
            for step in steps {
                match step {
                    Step::Wait(seconds) => now += Duration::from_secs(seconds),
                    Step::Ask => {
                        let expected = match closed_until_probe {
                            None => Ok(()),
                            Some(until) => match probe_until.unwrap_or(until) {
                                until if now < until => Err(Some(until - now)),
                                _ => Ok(()),
                            },
                        };
                        let asked = breaker.ask(now);
                        prop_assert_eq!(asked.as_ref().map(|_| ()).map_err(|wait| *wait), expected);
                        if let Ok(permit) = asked {
                            let is_probe = closed_until_probe.is_some();
                            era += u64::from(is_probe);
                            probe_until = is_probe.then_some(now + PAUSE);
                            permits.push((permit, era, is_probe));
                        }
                    }
                    Step::Report(which, verdict) => {
                        if permits.is_empty() {
                            continue;
                        }
                        let (permit, given_in, is_probe) = permits.swap_remove(which % permits.len());
                        breaker.report(&permit, verdict, now);
                        if given_in != era {
                            continue;
                        }
                        match (is_probe, verdict) {
                            (true, Verdict::Accepted) => (closed_until_probe, in_a_row) = (None, 0),
                            (true, Verdict::Refused) => closed_until_probe = Some(now + PAUSE),
                            (true, Verdict::Nothing) => closed_until_probe = Some(now),
                            (false, Verdict::Accepted) => in_a_row = 0,
                            (false, Verdict::Refused) => in_a_row += 1,
                            (false, Verdict::Nothing) => {}
                        }
                        if is_probe {
                            probe_until = None;
                            era += 1;
                        } else if in_a_row == THRESHOLD {
                            (closed_until_probe, in_a_row) = (Some(now + PAUSE), 0);
                            era += 1;
                        }
                    }
                }
                let expected = match closed_until_probe {
                    None => BreakerState::Closed,
                    Some(until) if probe_until.is_none() && now < until => BreakerState::Open,
                    Some(_) => BreakerState::HalfOpen,
                };
                prop_assert_eq!(breaker.state(now), expected);
            }
        }
    }
}
