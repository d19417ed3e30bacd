//! Where a node stands, and how it hears TERM.

use fake_cli::control::Report;
use fake_cli::script::{Place, Reaction, Signal, Start, Step, Then};
use fake_cli::span::Span;

use super::facts::{Heard, Node, Run, micros};

/// Where a process stands relative to the root of its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// In the root's process group.
    Stayed,
    /// In another group of the root's session.
    OwnGroup,
    /// In another session.
    OwnSession,
    /// In another session, its parents gone on purpose: a daemon.
    Daemonised,
    /// In another group or session, its parents gone on purpose, and adopted by another node, which is a subreaper.
    Adopted,
}

/// The ids that tell where a process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    /// Its process group.
    pub pgid: i32,
    /// Its session.
    pub sid: i32,
}

/// Where a process with these ids stands. Group and session tell, and for those who lost their parent on purpose what the script says
/// of the node and who had adopted it by its hello. Later parents do not tell, for whoever loses its parent in the stop is
/// adopted too.
pub fn standing(script: &[Step], run: &Run<'_>, node: &str, ids: Ids) -> Option<Standing> {
    let root = run.root()?.hello?;
    Some(if (ids.sid, ids.pgid) == (root.sid, root.pgid) {
        Standing::Stayed
    } else if is_adopted(script, run, node) {
        Standing::Adopted
    } else if ids.sid == root.sid {
        Standing::OwnGroup
    } else if is_of_a_daemon(script, node) {
        Standing::Daemonised
    } else {
        Standing::OwnSession
    })
}

/// Where a node stood when it said hello.
pub fn standing_of(script: &[Step], run: &Run<'_>, node: &Node<'_>) -> Option<Standing> {
    let hello = node.hello?;
    standing(script, run, node.name, Ids { pgid: hello.pgid, sid: hello.sid })
}

/// Whether the innermost place that took the node out of its session is a daemon's.
fn is_of_a_daemon(script: &[Step], node: &str) -> bool {
    let leaves = |place| matches!(place, Place::OwnSession | Place::Daemon);
    innermost(script, node, leaves, None).is_some_and(|start| start.place == Place::Daemon)
}

/// Whether the node, or the innermost one above it that stands elsewhere than its own parent, lost its parent and was adopted by
/// another node.
fn is_adopted(script: &[Step], run: &Run<'_>, node: &str) -> bool {
    let Some(start) = innermost(script, node, |place| !place.stays(), None) else { return false };
    let adopter = run.node(start.node.as_str()).and_then(|node| node.hello).map(|hello| hello.ppid);
    let is_adopter = |node: &Node<'_>| node.hello.is_some_and(|hello| Some(hello.pid) == adopter);
    matches!(start.place, Place::Orphan | Place::Daemon) && run.nodes.iter().any(is_adopter)
}

/// The innermost start at such a place that leads to a node.
fn innermost<'s>(
    script: &'s [Step],
    node: &str,
    counts: fn(Place) -> bool,
    around: Option<&'s Start>,
) -> Option<&'s Start> {
    script.iter().find_map(|step| match step {
        Step::Start(start) => {
            let here = if counts(start.place) { Some(start) } else { around };
            if start.node.as_str() == node || forks_of(start, node) {
                here
            } else {
                innermost(&start.script, node, counts, here)
            }
        }
        _ => None,
    })
}

/// Whether `node` is one of those that a started node forks at a rate or in a handler.
fn forks_of(start: &Start, node: &str) -> bool {
    let numbered = |prefix: &str| {
        node.strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    };
    start.script.iter().any(|step| match step {
        Step::ForkAtRate(forks) => numbered(&format!("{}.", forks.node)),
        Step::On(Reaction { then: Then::Fork(_), .. }) => numbered(&format!("{}.fork", start.node)),
        _ => false,
    })
}

/// How a node hears TERM at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hearing {
    /// What it does about it.
    pub answer: Answer,
    /// Whether it is stopped, and cannot answer until somebody continues it.
    pub stopped: bool,
    /// Whether it reports it.
    pub reports: bool,
    /// Whether it reports every signal that can be caught, so that a death without a report is a KILL.
    pub reports_all: bool,
}

/// What a node does about TERM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It ends at once.
    Ends,
    /// It cleans up for this long, then ends.
    EndsAfter(Span),
    /// It goes on: it ignores, blocks, logs it.
    GoesOn,
}

impl Hearing {
    /// Whether it is deaf: TERM reaches it and does not end it.
    pub fn is_deaf(self) -> bool {
        self.answer == Answer::GoesOn
    }
}

/// Whether a node goes no further when it has done this step, until somebody else lets it: it has stopped, or waits for a node in its own
/// memory, which hears nothing either.
pub fn stands_still_after(step: &Step) -> bool {
    matches!(step, Step::Stop | Step::Start(Start { place: Place::Vfork, .. }))
}

/// How a node hears TERM at a time: what it started with, changed by the steps that it had reported as done by then.
pub fn hearing(script: &[Step], node: &Node<'_>, at_us: u64) -> Hearing {
    hearings_since(script, node, at_us)[0]
}

/// How a node hears TERM at its end.
pub fn last_hearing(script: &[Step], node: &Node<'_>) -> Hearing {
    hearing(script, node, u64::MAX)
}

/// How a node hears TERM from a time on: then, and after each step that it did later. What it is asked meets one of these.
pub fn hearings_since(script: &[Step], node: &Node<'_>, at_us: u64) -> Vec<Hearing> {
    let term = Signal::Term.number();
    let (blocked, ignored) = node
        .hello
        .map_or((false, false), |hello| (hello.blocked.contains(&term), hello.ignored.contains(&term)));
    let mut ears = Ears {
        resolved: None,
        blocked,
        blocked_for_good: blocked,
        stopped: false,
        then: None,
        logs_all: false,
        before_exec: None,
    };
    if ignored {
        ears.then = Some(&Then::Ignore);
    }
    let steps = steps_of(script, node.name).unwrap_or_default();
    let (before, since): (Vec<&Heard<'_>>, Vec<&Heard<'_>>) =
        node.reports.iter().partition(|heard| heard.own_us <= at_us);
    before.into_iter().for_each(|heard| ears.after(heard.report, steps));
    let mut hearings = vec![ears.hearing()];
    for heard in since {
        ears.after(heard.report, steps);
        hearings.push(ears.hearing());
    }
    hearings
}

/// When a node that reported TERM will have finished its clean-up; nothing if it has none.
pub fn cleaned_up_us(script: &[Step], node: &Node<'_>) -> Option<u64> {
    let (asked_us, _) = node.reported(Signal::Term)?;
    match hearing(script, node, asked_us).answer {
        Answer::EndsAfter(takes) => Some(asked_us.saturating_add(micros(takes))),
        Answer::Ends | Answer::GoesOn => None,
    }
}

struct Ears<'s> {
    /// It exits after this time whatever it hears.
    resolved: Option<Span>,
    blocked: bool,
    /// By whoever started it: no later reaction of the script takes that away.
    blocked_for_good: bool,
    stopped: bool,
    then: Option<&'s Then>,
    logs_all: bool,
    /// What it did about TERM before it began to replace itself, and whether it reported everything.
    before_exec: Option<(Option<&'s Then>, bool)>,
}

impl<'s> Ears<'s> {
    fn after(&mut self, report: &Report, steps: &'s [Step]) {
        let step = match report {
            Report::Did { step, .. } => step,
            // The new image says that the step is done when it is up.
            Report::Reexec => {
                self.before_exec = Some((self.then, self.logs_all));
                self.stopped = false;
                return self.lose_handlers();
            }
            // An exec that failed has changed nothing.
            Report::Failed { .. } if let Some(before) = self.before_exec.take() => {
                (self.then, self.logs_all) = before;
                return;
            }
            _ => return,
        };
        self.stopped = false;
        self.before_exec = None;
        match steps.get(*step) {
            Some(step) if stands_still_after(step) => self.stopped = true,
            Some(Step::ExitSlowly(exit)) => self.resolved = Some(exit.takes),
            Some(Step::LogSignals) => {
                self.set(&Then::Log);
                self.logs_all = true;
            }
            Some(Step::On(reaction)) if reaction.signal == Signal::Term => self.set(&reaction.then),
            // Some other signal may now end it unreported.
            Some(Step::On(reaction)) if matches!(reaction.then, Then::Default) => self.logs_all = false,
            Some(Step::ClearEnvironment | Step::ExecFromThread) => self.lose_handlers(),
            _ => {}
        }
    }

    /// Handlers do not outlive an exec; what is ignored or blocked does.
    fn lose_handlers(&mut self) {
        self.logs_all = false;
        if !matches!(self.then, Some(Then::Ignore)) {
            self.then = None;
        }
    }

    fn set(&mut self, then: &'s Then) {
        if matches!(then, Then::Block) {
            self.blocked = true;
        } else {
            self.blocked = self.blocked_for_good;
            self.then = Some(then);
        }
    }

    fn hearing(&self) -> Hearing {
        let answer = match self.then {
            _ if let Some(takes) = self.resolved => Answer::EndsAfter(takes),
            _ if self.blocked => Answer::GoesOn,
            None | Some(Then::Default | Then::Exit(_)) => Answer::Ends,
            Some(Then::ExitSlowly { takes, .. } | Then::CleanUp { takes, .. } | Then::Reraise { takes }) => {
                Answer::EndsAfter(*takes)
            }
            Some(
                Then::Ignore
                | Then::Block
                | Then::Log
                | Then::Fork(_)
                | Then::IgnoreFirst { .. }
                | Then::WriteLater { .. },
            ) => Answer::GoesOn,
        };
        let handled = matches!(
            self.then,
            Some(
                Then::Exit(_)
                    | Then::ExitSlowly { .. }
                    | Then::CleanUp { .. }
                    | Then::Reraise { .. }
                    | Then::IgnoreFirst { .. }
                    | Then::WriteLater { .. }
                    | Then::Log
                    | Then::Fork(_)
            )
        );
        let deaf = self.blocked || self.stopped || self.resolved.is_some();
        let reports_all = self.logs_all && self.resolved.is_none();
        Hearing { answer, stopped: self.stopped, reports: handled && !deaf, reports_all }
    }
}

/// The script of a node; nothing for those that have none of their own.
pub fn steps_of<'s>(script: &'s [Step], node: &str) -> Option<&'s [Step]> {
    if node == fake_cli::script::ROOT {
        return Some(script);
    }
    script.iter().find_map(|step| match step {
        Step::Start(start) if start.node.as_str() == node => Some(start.script.as_slice()),
        Step::Start(start) => steps_of(&start.script, node),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::by_hand::{self, steps};
    use super::super::facts::Facts;
    use super::*;

    fn stands(script: &str, node: &str, ids: Ids) -> Option<Standing> {
        let script = steps(script);
        let trace = by_hand::case(script.clone()).run(0).hello(1, "root").trace();
        let facts = Facts::of(&trace);
        standing(&script, &facts.runs()[0], node, ids)
    }

    #[test]
    fn group_and_session_tell_where_a_process_stands() {
        let script = r#"[{"start": {"node": "a", "as": "own-session", "script": ["hang"]}}]"#;
        let root = by_hand::ROOT_IDS;
        assert_eq!(stands(script, "a", root), Some(Standing::Stayed));
        assert_eq!(stands(script, "a", Ids { pgid: 7, ..root }), Some(Standing::OwnGroup));
        assert_eq!(stands(script, "a", Ids { pgid: 7, sid: 7 }), Some(Standing::OwnSession));
    }

    #[test]
    fn the_innermost_escape_counts_for_children_of_escaped_nodes_too() {
        let script = r#"[{"start": {"node": "d", "as": "daemon", "script": [
            {"start": {"node": "child", "script": [{"fork-at-rate": {"node": "w", "every": "1ms", "most": 2}}]}},
            {"start": {"node": "s", "as": "own-session", "script": ["hang"]}}]}}]"#;
        let away = Ids { pgid: 7, sid: 7 };
        for (node, expected) in [
            ("d", Standing::Daemonised),
            ("child", Standing::Daemonised),
            ("w.2", Standing::Daemonised),
            ("s", Standing::OwnSession),
            ("stranger", Standing::OwnSession),
        ] {
            assert_eq!(stands(script, node, away), Some(expected), "{node}");
        }
    }

    #[test]
    fn who_left_the_group_and_was_adopted_within_the_tree_is_told_from_other_escapes() {
        let script = steps(
            r#"[{"start": {"node": "reaper", "script": ["subreaper",
                {"start": {"node": "d", "as": "daemon", "script": [
                    {"start": {"node": "child", "script": ["hang"]}},
                    {"start": {"node": "s", "as": "own-session", "script": ["hang"]}}]}},
                {"start": {"node": "o", "as": "orphan", "script": ["hang"]}}]}}]"#,
        );
        let reaper = by_hand::hello("reaper").pid;
        let adopted_by = |ppid: i32| {
            let hello = |node: &str| {
                let hello = fake_cli::control::Hello { ppid, ..by_hand::hello(node) };
                Report::Hello(Box::new(hello))
            };
            by_hand::case(script.clone())
                .run(0)
                .hello(1, "root")
                .hello(2, "reaper")
                .says(3, "d", hello("d"))
                .says(4, "o", hello("o"))
                .trace()
        };
        let away = Ids { pgid: 7, sid: 7 };
        let stands = |ppid: i32, node: &str, ids: Ids| {
            let trace = adopted_by(ppid);
            let facts = Facts::of(&trace);
            standing(&script, &facts.runs()[0], node, ids)
        };
        assert_eq!(stands(reaper, "d", away), Some(Standing::Adopted));
        assert_eq!(stands(reaper, "child", away), Some(Standing::Adopted));
        assert_eq!(stands(reaper, "s", away), Some(Standing::OwnSession));
        // In the root's group it is within everybody's reach, whoever its parent is.
        assert_eq!(stands(reaper, "o", by_hand::ROOT_IDS), Some(Standing::Stayed));
        // Adopted by who stands above the tree.
        assert_eq!(stands(1, "d", away), Some(Standing::Daemonised));
    }

    fn hears(script: &str, done: &[usize], ignored: &[i32], blocked: &[i32]) -> Hearing {
        let script = steps(script);
        let hello = fake_cli::control::Hello {
            ignored: ignored.to_vec(),
            blocked: blocked.to_vec(),
            ..by_hand::hello("root")
        };
        let mut case = by_hand::case(script.clone()).run(0).says(1, "root", Report::Hello(Box::new(hello)));
        for step in done {
            case = case.says(2, "root", Report::Did { step: *step, at_ns: 0 });
        }
        let trace = case.trace();
        let facts = Facts::of(&trace);
        hearing(&script, facts.runs()[0].root().unwrap(), 10_000)
    }

    #[test]
    fn a_reaction_counts_from_the_moment_that_it_was_set() {
        let script = r#"[{"on": {"signal": "TERM", "then": "ignore"}}, {"on": {"signal": "TERM", "then": {"exit": 3}}}]"#;
        assert_eq!(hears(script, &[], &[], &[]).answer, Answer::Ends);
        assert!(hears(script, &[0], &[], &[]).is_deaf());
        let third = hears(script, &[0, 1], &[], &[]);
        assert_eq!((third.answer, third.reports), (Answer::Ends, true));
    }

    #[test]
    fn what_a_node_was_started_with_counts_too() {
        assert!(hears("[]", &[], &[15], &[]).is_deaf());
        assert!(hears("[]", &[], &[], &[15]).is_deaf());
        // A signal that was blocked by whoever started the root stays blocked.
        let logs = r#"["log-signals"]"#;
        assert_eq!(hears(logs, &[0], &[], &[15]).answer, Answer::GoesOn);
        assert!(!hears(logs, &[0], &[], &[15]).reports);
        assert!(hears(logs, &[0], &[15], &[]).reports_all);
    }

    #[test]
    fn every_reaction_says_when_its_node_ends() {
        let after = |then: &str| {
            hears(&format!(r#"[{{"on": {{"signal": "TERM", "then": {then}}}}}]"#), &[0], &[], &[])
        };
        for then in [r#"{"clean-up": {"takes": "7ms", "code": 3}}"#, r#"{"reraise": {"takes": "7ms"}}"#] {
            let hears = after(then);
            assert_eq!(
                (hears.answer, hears.reports),
                (Answer::EndsAfter(Span::from_millis(7)), true),
                "{then}"
            );
        }
        for then in [
            r#"{"ignore-first": {"count": 1, "code": 0}}"#,
            r#"{"write-later": {"after": "1ms", "to": "stdout", "bytes": 1}}"#,
        ] {
            let hears = after(then);
            assert_eq!((hears.answer, hears.reports), (Answer::GoesOn, true), "{then}");
        }
        let resolved =
            hears(r#"["log-signals", {"exit-slowly": {"takes": "7ms", "code": 3}}]"#, &[0, 1], &[], &[]);
        assert_eq!(resolved.answer, Answer::EndsAfter(Span::from_millis(7)));
        assert!(!resolved.reports && !resolved.reports_all);
        let inside =
            r#"[{"start": {"node": "inside", "as": "vfork", "script": ["hang"]}}, {"emit": "free"}]"#;
        assert!(hears(inside, &[0], &[], &[]).stopped && !hears(inside, &[0, 1], &[], &[]).stopped);
        assert_eq!(hears(r#"["log-signals", "exec-from-thread"]"#, &[0, 1], &[], &[]).answer, Answer::Ends);
    }

    #[test]
    fn handlers_are_gone_when_a_node_begins_to_replace_itself_and_are_there_if_that_fails() {
        let script = steps(r#"["log-signals", "clear-environment", "hang"]"#);
        let heard = |reports: Vec<Report>| {
            let logs = by_hand::case(script.clone()).run(0).hello(1, "root").did(2, "root", 0);
            let trace = reports.into_iter().fold(logs, |hand, report| hand.says(3, "root", report)).trace();
            let facts = Facts::of(&trace);
            let heard = last_hearing(&script, facts.runs()[0].root().unwrap());
            (heard.answer, heard.reports_all)
        };
        let failed = Report::Failed { step: 1, why: "exec: no memory".to_owned() };
        assert_eq!(heard(vec![]), (Answer::GoesOn, true));
        assert_eq!(heard(vec![Report::Reexec]), (Answer::Ends, false));
        assert_eq!(heard(vec![Report::Reexec, failed.clone()]), (Answer::GoesOn, true));
        assert_eq!(heard(vec![failed.clone()]), (Answer::GoesOn, true));
        let done = Report::Did { step: 1, at_ns: 0 };
        assert_eq!(heard(vec![Report::Reexec, done, failed]), (Answer::Ends, false));
    }

    #[test]
    fn a_stopped_node_cannot_answer() {
        assert!(hears(r#"["stop", "hang"]"#, &[0], &[], &[]).stopped);
        assert!(!hears(r#"["stop", {"emit": "on"}]"#, &[0, 1], &[], &[]).stopped);
        // Once it is continued it is as deaf as before.
        let deaf = hears(r#"["log-signals", "stop", "hang"]"#, &[0, 1], &[], &[]);
        assert!(deaf.stopped && deaf.is_deaf() && !deaf.reports);
    }
}
