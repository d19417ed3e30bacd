//! T: threads, tasks, memory.

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
            "T1",
            "no thread more with each run",
            "The number of the host's threads does not grow over repeats.",
            "The host's threads are counted after each of several equal runs.",
            "The first run warms up the runtime; growth must persist.",
            "threads are counted in inventories, but no rule compares them yet",
        ),
        rule(
            "T2",
            "no task more with each run",
            "The number of the host's tasks does not grow over repeats, where the host can say it.",
            "The host reports its runtime's tasks after each of several equal runs.",
            "As T1.",
            "hosts are not asked for their tasks yet",
        ),
        rule(
            "T3",
            "no busy waiting",
            "While the child hangs the host does not wait busily: at most 2 % of the time and 5 ms.",
            "The host's processor time over a long hang.",
            "A hang long enough for the clock's tick.",
            "the trace holds no processor time yet",
        ),
        rule(
            "T4",
            "memory bounded in a flood",
            "The host's memory stays bounded while a child floods and nobody reads.",
            "The host's resident memory during a flood.",
            "A flood that cannot end before the look.",
            "the trace holds no memory figures yet",
        ),
    ]
}
