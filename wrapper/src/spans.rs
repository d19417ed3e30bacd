//! What a run tells to `tracing`, with the feature of that name: a span for the run, one for its stop, and an event for
//! each rung of the ladder and for each request of the plan. Nothing is told between the fork and the exec of a child.
//!
//! Everything of a run goes to the subscriber that was the current one where it was started, whichever thread tells it. A
//! subscriber is somebody else's code: what it panics with is caught, so that it cannot hurt whoever owns the children. But
//! while it blocks, the library's own thread waits for it, with all runs: one that may (a full pipe, a terminal that was
//! stopped) needs a thread and a queue of its own.

#[cfg(feature = "tracing")]
pub(crate) use told::Spans;
#[cfg(not(feature = "tracing"))]
pub(crate) use untold::Spans;

#[cfg(feature = "tracing")]
mod told {
    use std::error::Error;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use tracing::{Span, dispatcher};

    use crate::contain::Containment;
    use crate::outcome::{Outcome, Reason};
    use crate::plan::Ask;
    use crate::run::RunId;
    use crate::stop::Rung;

    /// The spans of a run, as far as they are open.
    #[derive(Debug)]
    pub(crate) struct Spans {
        run: Span,
        stop: Span,
    }

    impl Spans {
        pub(crate) fn of(id: RunId, description: &str) -> Self {
            let mut run = Span::none();
            quietly(
                || run = tracing::info_span!(target: "childminder", "run", %id, description, pid = tracing::field::Empty),
            );
            Self { run, stop: Span::none() }
        }

        pub(crate) fn started(&self, pid: u32, containment: Containment) {
            say_in(&self.run, || {
                self.run.record("pid", pid);
                tracing::debug!(target: "childminder", pid, %containment, "started");
            });
        }

        pub(crate) fn not_started(&self, error: &(dyn Error + 'static)) {
            say_in(&self.run, || tracing::warn!(target: "childminder", error, "not started"));
        }

        pub(crate) fn stopping(&mut self, reason: Reason) {
            let mut stop = Span::none();
            say_in(&self.run, || stop = tracing::info_span!(target: "childminder", "stop", ?reason));
            self.stop = stop;
        }

        pub(crate) fn asked(&self, ask: Ask) {
            say_in(&self.stop, || tracing::debug!(target: "childminder", %ask, "asked"));
        }

        pub(crate) fn climbed(&self, rung: Rung) {
            let span = if self.stop.is_none() { &self.run } else { &self.stop };
            say_in(span, || tracing::debug!(target: "childminder", ?rung, "rung"));
        }

        pub(crate) fn ended(&mut self, outcome: &Outcome) {
            let Outcome { ended, exit, left, .. } = outcome;
            let escalated = outcome.stop.is_some_and(|stop| stop.killed.is_some());
            close(&mut self.stop);
            say_in(&self.run, || {
                tracing::debug!(target: "childminder", ?ended, exit = exit.map(tracing::field::display), ?left, escalated, "ended");
            });
            close(&mut self.run);
        }
    }

    impl Drop for Spans {
        fn drop(&mut self) {
            close(&mut self.stop);
            close(&mut self.run);
        }
    }

    /// Tells something within a span, to the span's own subscriber.
    fn say_in(span: &Span, say: impl FnOnce()) {
        let Some(subscriber) = span.with_subscriber(|(_, subscriber)| subscriber.clone()) else { return };
        quietly(|| dispatcher::with_default(&subscriber, || span.in_scope(say)));
    }

    fn close(span: &mut Span) {
        let span = std::mem::replace(span, Span::none());
        quietly(|| drop(span));
    }

    fn quietly(somebody_elses: impl FnOnce()) {
        // There is nobody to tell.
        let _ = catch_unwind(AssertUnwindSafe(somebody_elses));
    }
}

#[cfg(not(feature = "tracing"))]
mod untold {
    use std::error::Error;

    use crate::contain::Containment;
    use crate::outcome::{Outcome, Reason};
    use crate::plan::Ask;
    use crate::run::RunId;
    use crate::stop::Rung;

    #[derive(Debug)]
    pub(crate) struct Spans;

    impl Spans {
        pub(crate) fn of(_: RunId, _: &str) -> Self {
            Self
        }

        pub(crate) fn started(&self, _: u32, _: Containment) {}

        pub(crate) fn not_started(&self, _: &(dyn Error + 'static)) {}

        pub(crate) fn stopping(&mut self, _: Reason) {}

        pub(crate) fn asked(&self, _: Ask) {}

        pub(crate) fn climbed(&self, _: Rung) {}

        pub(crate) fn ended(&mut self, _: &Outcome) {}
    }
}
