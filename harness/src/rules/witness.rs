//! Who was alive at a look, and whether two witnesses say so.

use super::facts::{Facts, Node, told};
use crate::trace::{Look, Seen, Stage};
use crate::verdict::{Finding, Verdict};

/// How many are named in a sentence; the others are counted.
const MOST_NAMED: usize = 3;

/// Why nobody is accused whom the harness kept from what it had to do.
pub const HELD_UP: &str =
    "a call of the wrapper's was held by the harness when it looked, or had been until shortly before";

/// A process that a look saw alive.
#[derive(Clone, Debug)]
pub struct Sighting<'a> {
    /// What the kernel said of it.
    pub seen: &'a Seen,
    /// Why the second witness does not agree, if so. With a doubt it is no survivor for certain.
    pub doubt: Option<String>,
}

/// Everyone alive at a look; zombies are not.
pub fn sightings<'a>(facts: &Facts<'_>, look: &'a Look) -> Vec<Sighting<'a>> {
    let alive = |seen: &&Seen| !is_dead(seen) || seen.connected;
    look.seen.iter().filter(alive).map(|seen| Sighting { seen, doubt: doubt(facts, look, seen) }).collect()
}

/// The verdict on those who had to be gone: kept if nobody was seen by a look that missed nobody, unknown if each of them is in doubt, else
/// what `judge` says of those who were there for certain.
pub fn judge_left<'a>(
    facts: &Facts<'_>,
    look: &Look,
    concerned: impl IntoIterator<Item = Sighting<'a>>,
    judge: impl FnOnce(&[&'a Seen]) -> Verdict,
) -> Verdict {
    let (certain, doubtful): (Vec<_>, Vec<_>) =
        concerned.into_iter().partition(|sighting| sighting.doubt.is_none());
    if !certain.is_empty() {
        return judge(&certain.iter().map(|sighting| sighting.seen).collect::<Vec<_>>());
    }
    match doubtful.into_iter().find_map(|sighting| sighting.doubt) {
        Some(doubt) => Verdict::Unknown(doubt),
        None => missed(facts, look).map_or(Verdict::Kept, Verdict::Unknown),
    }
}

/// Why nobody seen by a look proves nothing, if so.
pub fn missed(facts: &Facts<'_>, look: &Look) -> Option<String> {
    let trace = facts.trace;
    if !look.complete {
        return Some("the look did not see everyone, so nobody seen proves nothing".to_owned());
    }
    // Whoever is alive may fork after the look, and the processes of a terminal's session are the harness's own.
    if look.seen.iter().any(|seen| !is_dead(seen)) || trace.scenario.host.terminal {
        return None;
    }
    let is_ours = |seen: &Seen| matches!(seen.node, Some((0, _))) || facts.host_pid() == Some(seen.pid);
    let swept = trace.swept.iter().find(|seen| !is_ours(seen))?;
    Some(format!("nobody was seen, but {} was swept afterwards", name(swept)))
}

/// Whether nobody is left but nodes, who end nobody: then whoever is alive stays so.
pub fn only_nodes_are_left(look: &Look) -> bool {
    look.seen.iter().all(|seen| seen.node.is_some())
}

/// Whether the kernel calls it a zombie or dead.
pub fn is_dead(seen: &Seen) -> bool {
    matches!(seen.state, 'Z' | 'X' | 'x')
}

fn doubt(facts: &Facts<'_>, look: &Look, seen: &Seen) -> Option<String> {
    let listed = look.sysinfo.as_ref().map(|pids| pids.contains(&seen.pid));
    let node = seen.node.as_ref().and_then(|(run, name)| {
        facts.runs().iter().find(|known| known.number == *run).and_then(|run| run.node(name))
    });
    let by_then = |at_us: Option<u64>| at_us.is_some_and(|at_us| at_us <= look.at_us);
    let dead_before = by_then(node.and_then(|node| node.gone_us));
    let said_so = by_then(node.and_then(Node::exiting).map(|(at_us, _)| at_us));
    // Each call of the wrapper's that is watched waits for the harness.
    let goes_on = facts.syscalls().any(|(at_us, call)| call.pid == seen.pid && at_us > look.at_us);
    // Nobody is left who could be held up.
    let alone = look.stage == Stage::HostGone && only_nodes_are_left(look);
    let why = if is_dead(seen) {
        "the kernel calls it dead, but its control connection is open"
    } else if seen.state == 'D' {
        "it is uninterruptible (state D), so it may be dying"
    } else if seen.dying {
        "it was dying: the kernel was taking it down, or a KILL was pending"
    } else if said_so {
        "it had said that it exits"
    } else if seen.samples < 2 {
        "it was seen only once"
    } else if seen.node.is_none() && goes_on {
        "it went on making calls, which the harness watched and so delayed"
    } else if dead_before {
        "its death had been seen before"
    } else if listed == Some(false) {
        "the second scanner does not list it"
    } else if !alone && facts.is_held_up(look.at_us) {
        HELD_UP
    } else if seen.node.is_some() && !seen.connected {
        "its control connection is closed"
    } else if seen.node.is_none() && listed.is_none() {
        "it is no node and only one witness saw it"
    } else {
        return None;
    };
    Some(format!("{}: {why}", name(seen)))
}

/// What a process is called in a sentence.
pub fn name(seen: &Seen) -> String {
    let who = match &seen.node {
        Some((_, node)) => node.clone(),
        None => format!("{:?}, which is no node", seen.comm),
    };
    let age = if seen.age_us == 0 { String::new() } else { format!(", {} old", told(seen.age_us)) };
    format!("{who} (pid {}, group {}, session {}{age})", seen.pid, seen.pgid, seen.sid)
}

/// The finding that these were alive this long after something.
pub fn finding(look: &Look, survivors: &[&Seen], after: &str, later_us: u64) -> Finding {
    let mut names: Vec<String> = survivors.iter().take(MOST_NAMED).map(|seen| name(seen)).collect();
    if survivors.len() > MOST_NAMED {
        names.push(format!("{} more", survivors.len() - MOST_NAMED));
    }
    let were = if survivors.len() == 1 { "was" } else { "were" };
    let second = if survivors.iter().all(|seen| seen.connected) {
        "by an open control connection"
    } else {
        "by a second scanner"
    };
    Finding {
        sentence: format!(
            "{} {were} alive {} after {after}; seen twice by {}, and {second}",
            names.join(", "),
            told(later_us),
            look.method.sentence(),
        ),
        count: survivors.len() as u64,
    }
}
