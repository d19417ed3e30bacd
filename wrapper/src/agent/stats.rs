//! What an agent has done so far, counted.

use std::collections::BTreeMap;

use super::breaker::BreakerState;
use super::execution::End;
use super::message::{Message, MessageKind};

/// What an agent has done so far. An agent and the scopes within it count together.
///
/// Exact: [`started`](Self::started) is [`live`](Self::live) and all of [`ends`](Self::ends).
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct AgentStats {
    /// Executions that were begun.
    pub started: u64,
    /// Executions that were not begun, because [`execute`](super::Agent::execute) was an error.
    pub refused: u64,
    /// Executions that have not ended: whoever holds them has not taken all their messages.
    pub live: u64,
    /// Executions that have ended, by how they did.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::json::by_name"))]
    pub ends: BTreeMap<End, u64>,
    /// Children that were started.
    pub attempts: u64,
    /// Attempts that were made again, after a pause.
    pub retries: u64,
    /// Messages, by their kind.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::json::by_name"))]
    pub messages: BTreeMap<MessageKind, u64>,
    /// Bytes of lines that were longer than the message limit, beyond it.
    pub dropped_bytes: u64,
    /// Where the breaker stands.
    pub breaker: BreakerState,
}

impl AgentStats {
    /// How many executions have ended so.
    pub fn ended(&self, end: End) -> u64 {
        self.ends.get(&end).copied().unwrap_or(0)
    }

    /// How many messages of a kind there were.
    pub fn said(&self, kind: MessageKind) -> u64 {
        self.messages.get(&kind).copied().unwrap_or(0)
    }
}

/// The counters.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) started: u64,
    pub(super) refused: u64,
    pub(super) attempts: u64,
    pub(super) retries: u64,
    ends: BTreeMap<End, u64>,
    messages: [u64; MessageKind::ALL.len()],
    dropped_bytes: u64,
}

impl Tally {
    pub(super) fn ends(&mut self, end: End) {
        *self.ends.entry(end).or_default() += 1;
    }

    pub(super) fn says(&mut self, message: &Message) {
        self.messages[message.kind as usize] += 1;
        self.dropped_bytes += message.dropped;
    }

    pub(super) fn stats(&self, breaker: BreakerState) -> AgentStats {
        let ended: u64 = self.ends.values().sum();
        let messages = MessageKind::ALL.into_iter().map(|kind| (kind, self.messages[kind as usize]));
        AgentStats {
            started: self.started,
            refused: self.refused,
            live: self.started - ended,
            ends: self.ends.clone(),
            attempts: self.attempts,
            retries: self.retries,
            messages: messages.filter(|(_, count)| *count > 0).collect(),
            dropped_bytes: self.dropped_bytes,
            breaker,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_counted_at_its_own_place() {
        for (at, kind) in MessageKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, at, "{kind}");
        }
    }
}
