//! M: the harness itself. These are kept by this project's own tests, not by a subject.

use super::{Judged, Rule, as_catalogued};
use crate::verdict::Level;

/// The rules of this family.
pub(super) fn rules() -> Vec<Rule> {
    let rule = |id, title, sentence, measured, guard, judged| Rule {
        id,
        title,
        level: Level::Must,
        sentence,
        measured,
        guard,
        weigh: as_catalogued,
        judged,
    };
    vec![
        rule(
            "M1",
            "nothing outlives the harness",
            "No fake and no warden outlives the harness, however it ends.",
            "The harness is left to end, interrupted and killed; then its processes are sought.",
            "Its processes are told by what they are started with, and waited for until a generous cap.",
            Judged::Suite("tests/no_process_outlives_the_harness.rs"),
        ),
        rule(
            "M2",
            "no false alarm in 10,000",
            "The reference wrapper is clean over ten thousand generated cases with load beside it.",
            "A long audit of the reference wrapper on a busy machine.",
            "A finding is confirmed by replay.",
            Judged::NotBuilt(
                "so many cases take longer than the tests may; `harness/false-alarms` runs them, beside a load",
            ),
        ),
        rule(
            "M3",
            "each zoo wrapper is caught",
            "Each wrapper that is broken on purpose is caught by exactly the rule that is meant for it.",
            "Each runs the scenarios of its rule and others, beside the same wrapper without its flaw; `headcount zoo` prints the matrix.",
            "Only what the wrapper without a flaw keeps in the same scenario counts. Rules that a flaw cannot help breaking are declared with the reason.",
            Judged::Suite("tests/zoo.rs"),
        ),
        rule(
            "M4",
            "judged again, same verdict",
            "Judging a stored trace again gives the same verdicts.",
            "Traces are stored, read and judged twice.",
            "Exact.",
            Judged::Suite("tests/traces_are_judged_again.rs"),
        ),
        rule(
            "M5",
            "scenarios read as written",
            "A scenario that is written and read again is the same; unknown fields and newer schemas are refused.",
            "Every scenario that is compiled in or stored is written and read.",
            "Exact.",
            Judged::Suite("tests/scenarios_are_read_back.rs"),
        ),
        rule(
            "M6",
            "the harness costs little",
            "The headcount costs less than five parts in a hundred of a case.",
            "The time for looks against the time of the case.",
            "Over many cases of a clean wrapper.",
            Judged::NotBuilt("audits print what the headcount costs; nothing holds them to a bound yet"),
        ),
    ]
}
