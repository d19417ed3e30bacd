//! What the rules ask of a trace.

use crate::trace::Trace;

/// A trace with the questions that several rules ask of it.
pub struct Facts<'a> {
    /// The trace.
    pub trace: &'a Trace,
}

impl<'a> Facts<'a> {
    /// The facts of a trace.
    pub fn of(trace: &'a Trace) -> Self {
        Self { trace }
    }
}
