//! Looking what the host uses while an op waits for a long delay to be over.

use super::*;

/// A delay that is shorter shows nothing of how the host waits.
const LEAST_DELAY: Duration = Duration::from_millis(250);
/// Pause between two samples.
const EVERY: Duration = Duration::from_millis(50);

impl Runner<'_> {
    /// Takes a sample where one is due: from when the next op's gate is open, until its delay is over.
    pub(super) fn sample_host(&mut self) {
        let now = Instant::now();
        let waits = |op: &Op| op.delay.is_some_and(|delay| delay.get() >= LEAST_DELAY);
        let is_waited =
            self.open_since.is_some() && self.case.scenario.ops.get(self.next_op).is_some_and(waits);
        if is_waited && self.next_sample.is_none_or(|next| now >= next) {
            self.note_used();
            self.next_sample = Some(now + EVERY);
        }
    }

    /// The last sample, just before the op that was waited for.
    pub(super) fn end_samples(&mut self) {
        if self.next_sample.take().is_some() {
            self.note_used();
        }
    }

    fn note_used(&mut self) {
        let host = self.host.as_ref().filter(|host| host.gone.is_none());
        if let Some(used) = host.and_then(|host| scan::used(host.pid)) {
            self.note(What::HostUsed(used));
        }
    }
}
