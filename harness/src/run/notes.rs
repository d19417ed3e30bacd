//! Writing down what happened.

use super::*;

impl Runner<'_> {
    pub(super) fn now_us(&self) -> u64 {
        self.on_the_clock(monotonic_ns())
    }

    /// A time of somebody who reads the same clock, in microseconds since the case began.
    pub(super) fn on_the_clock(&self, ns: u64) -> u64 {
        ns.saturating_sub(self.began_ns) / 1_000
    }

    pub(super) fn note(&mut self, what: What) {
        let at_us = self.now_us();
        self.trace.moments.push(Moment { at_us, what });
    }

    pub(super) fn note_report(&mut self, run: u32, node: &str, said: Report, own_ns: Option<u64>) {
        let own_at_us = own_ns.map(|ns| self.on_the_clock(ns));
        self.note(What::Node { run, node: node.to_owned(), said, own_at_us });
    }

    /// What a bystander does belongs to no run.
    pub(super) fn happen_in(&mut self, run: u32, event: String) {
        self.happen(if run == 0 { event } else { format!("{run}:{event}") });
    }

    /// An event has happened: nodes that wait for it at a gate go on.
    pub(super) fn happen(&mut self, event: String) {
        self.happened.insert(event);
        self.release_holds();
        for index in 0..self.nodes.len() {
            if let Some(event) = self.nodes[index].waits.take() {
                if self.has_happened_for(index, &event) {
                    self.nodes[index].connection.send(&control::Order::Pass { event });
                } else {
                    self.nodes[index].waits = Some(event);
                }
            }
        }
    }

    /// Whether an event has happened that a node waits for: one that names no run is of the node's own.
    pub(super) fn has_happened_for(&self, index: usize, event: &Event) -> bool {
        match self.nodes[index].hello.run {
            0 => self.has_happened(event),
            run => self.has_happened_to(event, run),
        }
    }
}
