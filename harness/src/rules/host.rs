//! H: the host afterwards.

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
            "H1",
            "host's settings unchanged",
            "Signal mask, actions, timers, umask and working directory of the host are unchanged after a run.",
            "They are read before and after.",
            "Handlers of the runtime are allowed after the first run.",
            "the host's own state is not recorded yet",
        ),
        rule(
            "H2",
            "terminal restored",
            "Terminal modes and foreground group are restored, also when the host was killed.",
            "The host is given a terminal, which is read afterwards.",
            "Exact.",
            "hosts are given no terminal yet",
        ),
        rule(
            "H3",
            "host never stopped",
            "The host is never stopped by SIGTTOU or SIGTTIN.",
            "The host is given a terminal and watched for stops.",
            "Exact.",
            "hosts are given no terminal yet",
        ),
        rule(
            "H4",
            "no files left",
            "No temporary files are left.",
            "The temporary folder of the case is listed afterwards.",
            "The host gets a temporary folder of its own.",
            "hosts get no temporary folder of their own yet",
        ),
    ]
}
