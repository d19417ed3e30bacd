//! The wrapper's own system calls: which of them are watched, held until an event, and written down.
//!
//! The host is started with a seccomp filter that hands the calls a case asks for to the warden (`filter`, `seccomp`) and
//! nothing else; a case that asks for none has no filter and costs nothing. The program is not changed, its language does not
//! matter, and a call that was let go is done by the kernel as if nobody had looked.
//!
//! Everyone below the host has the filter too. What counts is the *wrapper's side*: the host, what it forked and has not executed
//! anything yet, and programs other than the fake that they executed: helpers such as a nanny or a shell. Calls of the
//! fake and of whatever it starts are let go at once. A helper that is the fake's own program executed again is taken for a fake.
//!
//! Where the kernel or a sandbox refuses (no user notification, another listener above us), cases that ask for it are not run,
//! and say why (`available`).

mod filter;
mod ledger;
mod memory;
#[expect(
    unsafe_code,
    reason = "seccomp and its listener have no safe form; all unsafe code of the module is in there"
)]
mod seccomp;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::sync::OnceLock;

use fake_cli::script::{Event, Step};
use serde::{Deserialize, Serialize};

use crate::scenario::Scenario;

pub(crate) use filter::kind_of;
pub(crate) use ledger::{Surroundings, signalled};
pub(crate) use memory::{creates_process, executed_file, identity};
pub(crate) use seccomp::{Listener, Next, Notification, hand_over, take_over};

/// Most holds of a scenario.
pub const MOST_HOLDS: usize = 8;
/// Up to which call of its kind one can be held or waited for.
pub const MOST_NTH: u32 = 64;
/// First word of the events that calls make.
pub const EVENT: &str = "call";

/// A kind of system call, as a wrapper's author thinks of it: one word for all calls that do the same.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CallKind {
    /// Sends a signal, other than to its own process and other than 0: `kill`, `tkill`, `tgkill`, `pidfd_send_signal`,
    /// `rt_sigqueueinfo`, `rt_tgsigqueueinfo`.
    Kill,
    /// Asks for the status of a child: `wait4`, `waitid`.
    Wait,
    /// Makes a process, not a thread: `fork`, `vfork`, `clone`, `clone3`.
    Clone,
    /// Closes descriptors: `close`, `close_range`.
    Close,
    /// Executes any program, the attempts along `PATH` included: `execve`, `execveat`.
    Exec,
    /// Executes the program that the wrapper is to run: the one between whose fork and exec a child is not yet a child.
    ExecChild,
}

impl CallKind {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::Kill, Self::Wait, Self::Clone, Self::Close, Self::Exec, Self::ExecChild];

    /// As it is written in scenarios and events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Wait => "wait",
            Self::Clone => "clone",
            Self::Close => "close",
            Self::Exec => "exec",
            Self::ExecChild => "exec-child",
        }
    }

    /// The event that happens when the nth of them is made: before it is done.
    pub fn event(self, nth: u32) -> String {
        format!("{EVENT}.{}.{nth}", self.name())
    }
}

impl fmt::Display for CallKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A call of the wrapper's side that waits for something else.
///
/// Calls are counted from the first run on. The event `call.KIND.N` happens when the call is made; it is done when `until` has happened, or
/// when it was held longer than a cap, which the trace tells: no case hangs at a hold.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// Which kind of call.
    pub call: CallKind,
    /// Which of them, from 1.
    pub nth: u32,
    /// Not before this event.
    pub until: Event,
}

/// The kind and number of an event such as `kill.1`, without its first word.
///
/// # Errors
///
/// What is wrong with it and what to do.
pub(crate) fn parse_event(rest: &str) -> Result<(CallKind, u32), String> {
    let named = |word: &str| CallKind::ALL.into_iter().find(|kind| kind.name() == word);
    let known = || CallKind::ALL.map(CallKind::name).join(", ");
    let Some((kind, nth)) = rest.split_once('.') else {
        return Err(format!("\"{EVENT}.{rest}\": write it as {EVENT}.kill.1"));
    };
    let kind = named(kind).ok_or_else(|| format!("there is no call {kind:?}; there are {}", known()))?;
    match nth.parse() {
        Ok(nth @ 1..=MOST_NTH) => Ok((kind, nth)),
        _ => Err(format!("\"{EVENT}.{rest}\": calls are counted from 1 to {MOST_NTH}")),
    }
}

/// What a scenario needs to be told of the host's calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Watch {
    kinds: BTreeSet<CallKind>,
}

impl Watch {
    /// What this scenario needs: its holds, the events that somebody waits for, and its ledger.
    pub(crate) fn of(scenario: &Scenario) -> Self {
        let mut kinds: BTreeSet<CallKind> = scenario.holds.iter().map(|hold| hold.call).collect();
        let mut take = |event: &Event| {
            let rest = event.as_str().strip_prefix(EVENT).and_then(|rest| rest.strip_prefix('.'));
            kinds.extend(rest.and_then(|rest| parse_event(rest).ok()).map(|(kind, _)| kind));
        };
        scenario.ops.iter().filter_map(|op| op.after.as_ref()).for_each(&mut take);
        scenario.holds.iter().for_each(|hold| take(&hold.until));
        scenario.bystander_child.iter().for_each(&mut take);
        awaited(&scenario.script, &mut take);
        if scenario.ledger {
            // Who is a child of the host is seen best when it asks for their statuses.
            kinds.extend([CallKind::Kill, CallKind::Wait]);
        }
        Self { kinds }
    }

    /// Calls of this kind too.
    pub(crate) fn add(&mut self, kind: CallKind) {
        self.kinds.insert(kind);
    }

    /// Whether nothing needs to be told, so that no filter is installed.
    pub(crate) fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// Whether calls of this kind are handed over.
    pub(crate) fn has(&self, kind: CallKind) -> bool {
        self.kinds.contains(&kind)
            || kind == CallKind::Exec && self.kinds.contains(&CallKind::ExecChild)
            || kind == CallKind::ExecChild && self.kinds.contains(&CallKind::Exec)
    }
}

fn awaited(script: &[Step], take: &mut impl FnMut(&Event)) {
    for step in script {
        match step {
            Step::Await(event) => take(event),
            Step::Start(start) => awaited(&start.script, take),
            _ => {}
        }
    }
}

/// Whether this process can watch the calls of those it starts; tried once in a process, by a child that makes such a call. Must be
/// called by a process with one thread.
///
/// # Errors
///
/// What was refused, and why.
pub(crate) fn available() -> Result<(), String> {
    static TRIED: OnceLock<Result<(), String>> = OnceLock::new();
    TRIED.get_or_init(|| seccomp::try_it().map_err(|error| refused(&error))).clone()
}

/// Why a filter with a listener was refused.
pub(crate) fn refused(error: &io::Error) -> String {
    let why = match error.raw_os_error() {
        Some(nix::libc::EBUSY) => {
            "somebody above this program listens to system calls already (EBUSY)".to_owned()
        }
        Some(nix::libc::EINVAL) => {
            "this kernel has no seccomp user notification as it is needed, which came with Linux 5.19 (EINVAL)".to_owned()
        }
        Some(nix::libc::ENOSYS) => "this kernel has no seccomp filters (ENOSYS)".to_owned(),
        _ => error.to_string(),
    };
    format!("the host's system calls cannot be watched here: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_calls_are_read_and_others_refused_with_a_remedy() {
        assert_eq!(parse_event("kill.1"), Ok((CallKind::Kill, 1)));
        assert_eq!(parse_event("exec-child.64"), Ok((CallKind::ExecChild, 64)));
        for (rest, word) in
            [("kill", "call.kill.1"), ("kill.0", "from 1"), ("kill.65", "from 1"), ("open.1", "exec-child")]
        {
            let problem = parse_event(rest).unwrap_err();
            assert!(problem.contains(word), "{rest}: {problem}");
        }
        for kind in CallKind::ALL {
            let event = kind.event(2);
            assert_eq!(parse_event(event.strip_prefix("call.").unwrap()), Ok((kind, 2)));
            assert!(Event::try_from(event).is_ok());
        }
    }

    #[test]
    fn a_scenario_is_told_of_what_it_holds_or_waits_for_and_of_nothing_else() {
        let scenario = |more: &str| {
            Scenario::from_json(&format!(
                r#"{{"schema": 1, "name": "a", "why": "A test.", "script": [
                    {{"start": {{"node": "late", "script": [{{"await": "call.clone.2"}}, "hang"]}}}}, "hang"], {more}}}"#
            ))
            .unwrap()
        };
        let plain = Scenario { script: vec![Step::Hang], ..scenario(r#""ops": [{"do": "run"}]"#) };
        assert!(Watch::of(&plain).is_empty());
        let watch = Watch::of(&scenario(
            r#""holds": [{"call": "exec", "nth": 1, "until": "host.gone"}],
               "ops": [{"do": "run"}, {"do": "kill-host", "after": "call.exec.1"}]"#,
        ));
        assert!(watch.has(CallKind::Exec) && watch.has(CallKind::Clone) && !watch.has(CallKind::Kill));
        let watch = Watch::of(&scenario(r#""ledger": true, "ops": [{"do": "run"}]"#));
        assert!(watch.has(CallKind::Kill) && watch.has(CallKind::Wait) && !watch.has(CallKind::Close));
    }
}
