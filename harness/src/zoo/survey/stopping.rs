//! A crew for shrinking, which can be stopped for two reasons: everything ends, or what was reached is small enough.

use std::sync::atomic::{AtomicBool, Ordering};

use super::Watch;
use crate::audit::RunsCases;
use crate::crew::{CrewError, Effort, Source};
use crate::scenario::Scenario;
use crate::subject::SubjectSpec;
use crate::trace::{Tier, Trace};

/// A crew whose cases are counted. When everything is to stop, so is what it is used for.
pub(super) struct Stopping<'a, 'w, C> {
    pub(super) crew: &'a mut C,
    pub(super) watch: &'a Watch<'w>,
    pub(super) everything: &'a AtomicBool,
    pub(super) this: &'a AtomicBool,
}

impl<C: RunsCases> RunsCases for Stopping<'_, '_, C> {
    fn tier(&self) -> Tier {
        self.crew.tier()
    }

    fn effort(&self) -> Effort {
        self.crew.effort()
    }

    fn run(&mut self, subject: &SubjectSpec, source: &mut dyn Source) -> Result<(), CrewError> {
        let mut source = Counted { source, watch: self.watch, everything: self.everything, this: self.this };
        self.crew.run(subject, &mut source)
    }
}

struct Counted<'a, 'w> {
    source: &'a mut dyn Source,
    watch: &'a Watch<'w>,
    everything: &'a AtomicBool,
    this: &'a AtomicBool,
}

impl Source for Counted<'_, '_> {
    fn next(&mut self) -> Option<Scenario> {
        if self.everything.load(Ordering::Relaxed) {
            self.this.store(true, Ordering::Relaxed);
        }
        self.source.next()
    }

    fn take(&mut self, trace: Trace) -> bool {
        self.watch.cases_done(1);
        self.source.take(trace)
    }
}
