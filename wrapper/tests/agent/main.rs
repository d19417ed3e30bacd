//! The layer for command-line agents, with real processes that play the agent.
#![cfg(target_os = "linux")]

mod authentication;
mod messages;
mod original_suite;
mod prompts;
mod registry;
mod retries;
#[path = "../promises/scene.rs"]
#[expect(dead_code, reason = "it has more than these tests need")]
mod scene;
mod scopes;
mod stage;
mod starts;
mod table;

use childminder::Containment;

/// What holds the runs of these tests.
const HELD_BY: Containment = Containment::Nanny;
