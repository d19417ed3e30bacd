//! E: the child's environment.

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
            "E1",
            "signal mask empty",
            "The child's signal mask is empty, even if the host's thread blocks signals.",
            "The root reports its mask before it changes anything.",
            "The harness hands down an empty mask.",
            "nodes report their mask, but no scenario makes the host block signals yet",
        ),
        rule(
            "E2",
            "signal actions default",
            "The child's signal actions are the default ones.",
            "The root reports what it ignores before it changes anything.",
            "The harness hands down default actions.",
            "nodes report what they ignore, but no scenario makes the host ignore signals yet",
        ),
        rule(
            "E3",
            "group and session as declared",
            "The child's group and session are as declared before its first instruction.",
            "The root reports group and session in its first message.",
            "Exact.",
            "which group and session a wrapper declares cannot be said yet",
        ),
        rule(
            "E4",
            "environment as asked",
            "Working directory, umask, environment, arguments and limits are as asked.",
            "The root reports them.",
            "Exact.",
            "a scenario cannot ask for them yet",
        ),
        rule(
            "E5",
            "owner dies before exec",
            "Where the owner's death is promised to end the child: it also does between fork and exec.",
            "The owner is killed at a gate in the middle of a start.",
            "Exact by the gate.",
            "a gate between the wrapper's fork and exec is needed for that",
        ),
        rule(
            "E6",
            "no terminal taken",
            "The child does not take the owner's terminal.",
            "The host is given a terminal, whose session and foreground group are read afterwards.",
            "Exact.",
            "hosts are given no terminal yet",
        ),
    ]
}
