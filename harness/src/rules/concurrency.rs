//! C: concurrency.

use super::{Judged, Rule, as_catalogued};
use crate::verdict::Level;

/// The rules of this family.
pub(super) fn rules() -> Vec<Rule> {
    let rule = |id, title, sentence, measured, guard, why| Rule {
        id,
        title,
        level: Level::Must,
        sentence,
        measured,
        guard,
        weigh: as_catalogued,
        judged: Judged::NotBuilt(why),
    };
    vec![
        rule(
            "C1",
            "runs are independent",
            "Several runs at once do not disturb each other.",
            "Each run is judged as if it were alone.",
            "The same runs one after the other are the control.",
            "runs may overlap, but ops reach only the newest one",
        ),
        rule(
            "C2",
            "a storm of starts",
            "A storm of starts under a limit of processes leads to typed errors and leaves nothing.",
            "The host runs under a low limit of processes.",
            "The limit is the worker's own.",
            "the harness sets no limits on the host yet",
        ),
        rule(
            "C3",
            "cancels do not delay",
            "Cancelling one run does not delay another.",
            "The end of the other run is timed.",
            "The usual slack.",
            "runs may overlap, but ops reach only the newest one",
        ),
        rule(
            "C4",
            "calls in some order",
            "What several threads do with one handle has an explanation in some order.",
            "The history of calls and answers is checked for linearisability.",
            "A bounded search.",
            "ops are issued by one caller only",
        ),
    ]
}
