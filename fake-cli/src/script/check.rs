//! Whether a script keeps the limits.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::{
    MOST_BYTES, MOST_DEPTH, MOST_DESCRIPTORS, MOST_LATE_WRITES, MOST_MEMORY, MOST_PROCESSES, MOST_STEPS,
    MOST_TIME, MOST_VARIABLES, Name, Place, ROOT, Reaction, Step, TELLABLE_PREFIX, TELLABLE_VARIABLES, Then,
};
use crate::content::MESSAGE;
use crate::span::Span;

/// Names that mean something else in events and traces: a node of that name could be taken for it.
const RESERVED: [&str; 5] = ["op", "run", "host", "call", "stranger"];
/// What the names of all begin with who stand beside the wrapper.
const BYSTANDERS: &str = "bystander";

/// A script that asks for more than the limits allow, or contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The place in the file, as a path such as `script[2].start.script[0]`.
    pub place: String,
    /// What is wrong there and what to do, as a sentence fragment.
    pub problem: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)
    }
}

impl std::error::Error for Refused {}

/// The name of every node of a script, those of forks at a rate and in handlers included.
pub fn nodes(script: &[Step]) -> Vec<String> {
    let mut names = vec![ROOT.to_owned()];
    collect_nodes(ROOT, script, &mut names);
    names
}

fn collect_nodes(node: &str, script: &[Step], names: &mut Vec<String>) {
    for step in script {
        match step {
            Step::Start(start) => {
                names.push(start.node.to_string());
                collect_nodes(start.node.as_str(), &start.script, names);
            }
            Step::ForkAtRate(forks) => names.extend((1..=forks.most).map(|n| format!("{}.{n}", forks.node))),
            Step::On(Reaction { then: Then::Fork(count), .. }) => {
                names.extend((1..=*count).map(|n| format!("{node}.fork{n}")));
            }
            _ => {}
        }
    }
}

/// What one run of a script asks for at most, all nodes together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// Processes, the root included.
    pub processes: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Bytes of memory hogged.
    pub memory: u64,
    /// Descriptors hogged.
    pub descriptors: u64,
}

impl Demand {
    /// What so many runs of the script ask for.
    #[must_use]
    pub fn times(self, runs: u64) -> Self {
        Self {
            processes: self.processes.saturating_mul(runs),
            bytes: self.bytes.saturating_mul(runs),
            memory: self.memory.saturating_mul(runs),
            descriptors: self.descriptors.saturating_mul(runs),
        }
    }

    /// Whether that is within the limits.
    ///
    /// # Errors
    ///
    /// What is more than they allow, as a sentence fragment.
    pub fn check(self) -> Result<(), String> {
        for (asked, most, what) in [
            (self.processes, MOST_PROCESSES, "processes"),
            (self.bytes, MOST_BYTES, "bytes written"),
            (self.memory, MOST_MEMORY, "bytes of memory"),
            (self.descriptors, MOST_DESCRIPTORS, "descriptors hogged"),
        ] {
            if asked > most {
                return Err(format!("more than {most} {what}"));
            }
        }
        Ok(())
    }
}

/// Whether a script keeps the limits, and what it asks for.
///
/// # Errors
///
/// The first place that does not, with what to do about it.
pub fn check(script: &[Step]) -> Result<Demand, Refused> {
    let mut totals = Totals::default();
    totals.names.insert(ROOT.to_owned());
    totals.demand.processes = 1;
    check_node(script, "script", 1, &mut totals)?;
    Ok(totals.demand)
}

#[derive(Default)]
struct Totals {
    demand: Demand,
    names: BTreeSet<String>,
}

impl Totals {
    fn add_bytes(&mut self, bytes: u64, times: u64) {
        self.demand.bytes = self.demand.bytes.saturating_add(bytes.saturating_mul(times));
    }

    fn add_processes(&mut self, processes: u32) {
        self.demand.processes = self.demand.processes.saturating_add(processes.into());
    }
}

fn check_node(script: &[Step], place: &str, depth: usize, totals: &mut Totals) -> Result<(), Refused> {
    let refuse = |place: &str, problem: String| Err(Refused { place: place.to_owned(), problem });
    if depth > MOST_DEPTH {
        return refuse(place, format!("more than {MOST_DEPTH} levels of nodes; make the tree flatter"));
    }
    if script.len() > MOST_STEPS {
        return refuse(place, format!("{} steps, at most {MOST_STEPS} are allowed", script.len()));
    }
    for (index, step) in script.iter().enumerate() {
        let place = format!("{place}[{index}]");
        match step {
            Step::On(reaction) => {
                if !reaction.signal.can_be_caught() {
                    return refuse(&place, format!("{} cannot be caught; take TERM", reaction.signal.name()));
                }
                match reaction.then {
                    Then::ExitSlowly { takes, .. }
                    | Then::CleanUp { takes, .. }
                    | Then::Reraise { takes } => check_time(takes, &place)?,
                    Then::WriteLater { after, bytes, .. } => {
                        check_time(after, &place)?;
                        // It may come any number of times, of which the player obeys so many.
                        totals.add_bytes(bytes, u64::from(MOST_LATE_WRITES));
                    }
                    Then::Fork(count) if count > 16 => {
                        return refuse(&place, format!("{count} forks in a handler, at most 16 are allowed"));
                    }
                    Then::Fork(count) => totals.add_processes(count.into()),
                    _ => {}
                }
            }
            Step::Sleep(span) => check_time(*span, &place)?,
            Step::SleepInChunks(sleep) => check_times(sleep.chunk, sleep.times, &place)?,
            Step::ExitSlowly(exit) => check_time(exit.takes, &place)?,
            Step::HogDescriptors(count) => {
                totals.demand.descriptors = totals.demand.descriptors.saturating_add(u64::from(*count));
            }
            Step::HogMemory(bytes) => {
                totals.demand.memory = totals.demand.memory.saturating_add(*bytes);
            }
            Step::Start(start) => {
                check_name(&start.node, &place, totals)?;
                totals.add_processes(match start.place {
                    // The shell, and in a pipeline the shell's shell.
                    Place::Shell(_) => 3,
                    _ => 1,
                });
                check_node(&start.script, &format!("{place}.start.script"), depth + 1, totals)?;
            }
            Step::ForkAtRate(forks) => {
                check_name(&forks.node, &place, totals)?;
                check_times(forks.every, forks.most, &place)?;
                totals.add_processes(forks.most);
            }
            Step::Zombies(count) => totals.add_processes(*count),
            Step::Write(write) | Step::Buffer(write) => totals.add_bytes(write.bytes, 1),
            Step::Say(say) => totals.add_bytes(MESSAGE, say.times.into()),
            Step::SlowStream(slow) => {
                check_times(slow.every, slow.times, &place)?;
                totals.add_bytes(slow.chunk, slow.times.into());
            }
            Step::ReportEnvironment(report) => check_variables(&report.variables, &place)?,
            Step::Flood { most } => totals.add_bytes(*most, 2),
            _ => {}
        }
        if let Err(problem) = totals.demand.check() {
            return refuse(&place, format!("{problem} up to here; ask for less"));
        }
    }
    Ok(())
}

/// Whether a step may give this name to a node, or to nodes whose names begin with it. Those that a reaction forks have
/// that of the node whose reaction it is.
fn check_name(name: &Name, place: &str, totals: &mut Totals) -> Result<(), Refused> {
    let name = name.as_str();
    let problem = if RESERVED.contains(&name) || name.starts_with(BYSTANDERS) {
        format!("{name:?} is a reserved name; give the node another")
    } else if totals.names.insert(name.to_owned()) {
        return Ok(());
    } else {
        format!("a second node named {name:?}; give it another name")
    };
    Err(Refused { place: place.to_owned(), problem })
}

fn check_variables(names: &[String], place: &str) -> Result<(), Refused> {
    let refuse = |problem: String| Err(Refused { place: place.to_owned(), problem });
    if names.len() > MOST_VARIABLES {
        return refuse(format!("{} variables, at most {MOST_VARIABLES} are reported", names.len()));
    }
    let tellable = |name: &&String| {
        let marked = name.len() <= 64 && name.starts_with(TELLABLE_PREFIX);
        marked || TELLABLE_VARIABLES.contains(&name.as_str())
    };
    match names.iter().find(|name| !tellable(name)) {
        None => Ok(()),
        Some(name) => refuse(format!(
            "the value of {name:?} is not told; ask for one of {} or for one that begins with {TELLABLE_PREFIX}",
            TELLABLE_VARIABLES.join(", ")
        )),
    }
}

/// Whether a wait in so many pieces is short enough. Even pieces of nothing are bounded: each is a millisecond here.
fn check_times(piece: Span, times: u32, place: &str) -> Result<(), Refused> {
    let piece = piece.get().max(Duration::from_millis(1));
    match piece.checked_mul(times) {
        Some(all) if all <= MOST_TIME.get() => Ok(()),
        _ => Err(Refused {
            place: place.to_owned(),
            problem: format!("all {times} pieces are longer than {MOST_TIME}; wait less"),
        }),
    }
}

fn check_time(span: Span, place: &str) -> Result<(), Refused> {
    if span > MOST_TIME {
        return Err(Refused {
            place: place.to_owned(),
            problem: format!("{span} is longer than {MOST_TIME}; wait less"),
        });
    }
    Ok(())
}
