//! F: handles.

use std::collections::BTreeMap;

use fake_cli::control::{Descriptor, Report};
use fake_cli::script::{Place, Step};
use fake_cli::span::Span;

use super::directed::{
    TIMEOUT, after, await_event, emit, once_ready, once_started, ready_and_hang, run, scenario,
    start_hanging, to_the_end, wait,
};
use super::facts::{Facts, Lateness, Node, Run, told};
use super::standing::{stands_still_after, steps_of};
use super::verdicts::{broken, together};
use super::{Judged, Rule, as_catalogued, foreign_pipes};
use crate::scenario::{Hindrance, Op, Scenario, Verb};
use crate::trace::{Inventory, Point};
use crate::verdict::{Finding, Level, Verdict};

/// With fewer runs a first use of the runtime is not told from a leak.
const LEAST_RUNS: usize = 3;
/// With how many descriptors left a start is still tried; with more than a dozen it does not fail.
const MOST_LEFT: u32 = 12;
/// A timeout that is long after a child should have seen the end of its input, and that is far more than any slack.
const LONG: Span = Span::from_millis(6_000);

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
            "F1",
            "no handle more with each run",
            "The host holds no more handles after further equal runs than after the first.",
            "The host's open descriptors are listed after each of at least three equal runs and compared by kind and number, and by target.",
            "The first run warms up the runtime. Growth in one step only is unknown: a runtime may open something late.",
            Judged::Trace { judge: judge_f1, directed: directed_f1 },
        ),
        rule(
            "F2",
            "no pipe end left open",
            "When a run has ended, no pipe that was made for it is still open in the host.",
            "Each node reports the pipes that are its descriptors 0, 1 and 2; their inodes are sought among the host's descriptors.",
            "Only pipes that the host did not have before the run count, and only after time to close them: of a dropped run \
                when its grace and its drain are over. Where the harness held a call of the wrapper's it is unknown.",
            Judged::Trace { judge: judge_f2, directed: directed_f2 },
        ),
        rule(
            "F3",
            "child gets 0, 1, 2 only",
            "The child gets descriptors 0, 1 and 2 and nothing else.",
            "The root lists its open descriptors before it does anything else.",
            "The fake leaves its own out; the harness hands down none, and closes what it was handed.",
            Judged::Trace { judge: judge_f3, directed: directed_f3 },
        ),
        rule(
            "F4",
            "no handle of another child",
            "When two starts overlap, neither child gets the other's pipes.",
            "Several runs are started while others are under way; the pipes that are the standard descriptors of each root are sought among all \
                descriptors of the others.",
            "Exact, by inode. What the host had before the runs is nobody's.",
            Judged::Trace { judge: foreign_pipes::judge, directed: foreign_pipes::directed },
        ),
        rule(
            "F5",
            "no handle left by a failed start",
            "F1 also holds when the start fails, or under a low limit of descriptors.",
            "As F1, with starts that fail because the program or its interpreter is not there or may not be executed, or because only so many \
                descriptors are left.",
            "As F1, after a run that nothing hinders.",
            Judged::Trace { judge: judge_f5, directed: directed_f5 },
        ),
        rule(
            "F6",
            "child sees the end of its input",
            "A child that reads its input to the end sees the end.",
            "The wrapper is given input for the child. The root reads it and reports how much there was before its end, also while another \
                run, which may have been handed a copy of the pipe, goes on.",
            "Only for subjects that promise to feed their child. A root that was stopped before it had waited longer than the machine's \
                slack and noise is not counted.",
            Judged::Trace { judge: judge_f6, directed: directed_f6 },
        ),
    ]
}

// ---- F1 ----

fn judge_f1(facts: &Facts<'_>) -> Verdict {
    if let Some(verdict) = not_for_templates(facts) {
        return verdict;
    }
    let ops = &facts.trace.scenario.ops;
    if ops.iter().any(|op| op.hindered_by.is_some()) {
        return Verdict::Vacuous("starts that are hindered are judged by F5".to_owned());
    }
    no_more_with_each_run(facts, ops)
}

fn no_more_with_each_run(facts: &Facts<'_>, ops: &[Op]) -> Verdict {
    if !are_equal_runs(ops) {
        return Verdict::Vacuous("the case has no three equal runs, one after the other".to_owned());
    }
    let inventories: Vec<&Inventory> =
        facts.runs().iter().filter_map(|run| inventory(facts, Point::AfterRun(run.number))).collect();
    let (Some(first), Some(last)) = (inventories.first(), inventories.last()) else {
        return Verdict::Vacuous(facts.because("the host's handles were not listed"));
    };
    if inventories.len() < LEAST_RUNS {
        return Verdict::Vacuous(facts.because("the host's handles were listed after fewer than three runs"));
    }
    let grown: Vec<(&str, Growth)> = kinds(last)
        .into_keys()
        .map(|kind| (kind, growth(&inventories, kind)))
        .filter(|(_, growth)| growth.by > 0)
        .collect();
    let lasting: Vec<_> = grown.iter().filter(|(_, growth)| growth.steps >= 2).collect();
    if !lasting.is_empty() {
        let count = lasting.iter().map(|(_, growth)| growth.by).sum();
        let sentence = grown_sentence(first, last, inventories.len(), lasting.iter().map(|(kind, _)| *kind));
        return unless_it_may_still_go(facts, &inventories, Verdict::Broken(Finding { sentence, count }));
    }
    match grown.first() {
        Some((kind, growth)) => Verdict::Unknown(format!(
            "the host has {} more of {kind} than after the first run, but the number grew only once",
            growth.by
        )),
        None => Verdict::Kept,
    }
}

/// Nothing is broken by what the host had after its runs if it may have been about to go.
pub(super) fn unless_it_may_still_go(
    facts: &Facts<'_>,
    inventories: &[&Inventory],
    verdict: Verdict,
) -> Verdict {
    match (verdict, may_still_go(facts, inventories)) {
        (Verdict::Broken(finding), Some(doubt)) => {
            Verdict::Unknown(format!("{}; but {doubt}", finding.sentence))
        }
        (verdict, _) => verdict,
    }
}

/// Why what the host had may have been about to go: the wrapper was held, or had still to end a run that was dropped.
fn may_still_go(facts: &Facts<'_>, inventories: &[&Inventory]) -> Option<String> {
    if facts.holds().next().is_some() {
        return Some("the harness had held a call of the wrapper's".to_owned());
    }
    facts.runs().iter().filter(|run| run.was_dropped()).find_map(|run| {
        let after = inventories.iter().find(|inventory| inventory.point == Point::AfterRun(run.number))?;
        let why = match facts.done_with_us(run) {
            Some(due_us) if after.at_us >= due_us => return None,
            Some(_) => "the wrapper may still have been ending what was dropped",
            None => "how long the wrapper may take over what was dropped is not known",
        };
        Some(why.to_owned())
    })
}

/// How a kind of handle grew from the first listing to the last.
struct Growth {
    by: u64,
    steps: usize,
}

fn growth(inventories: &[&Inventory], kind: &str) -> Growth {
    let counts: Vec<u64> =
        inventories.iter().map(|inventory| *kinds(inventory).get(kind).unwrap_or(&0)).collect();
    let by = counts.last().zip(counts.first()).map_or(0, |(last, first)| last.saturating_sub(*first));
    Growth { by, steps: counts.windows(2).filter(|pair| pair[1] > pair[0]).count() }
}

fn kinds(inventory: &Inventory) -> BTreeMap<&str, u64> {
    let mut kinds = BTreeMap::new();
    for open in &inventory.descriptors {
        *kinds.entry(kind(&open.target)).or_default() += 1;
    }
    kinds
}

/// `pipe` of `pipe:[123]`; the whole target where there is no inode in it.
fn kind(target: &str) -> &str {
    match target.split_once(":[") {
        Some((kind, inode))
            if inode.strip_suffix(']').is_some_and(|inode| inode.bytes().all(|b| b.is_ascii_digit())) =>
        {
            kind
        }
        _ => target,
    }
}

fn grown_sentence<'k>(
    first: &Inventory,
    last: &Inventory,
    runs: usize,
    kinds: impl Iterator<Item = &'k str>,
) -> String {
    let kinds: Vec<&str> = kinds.collect();
    let is_new = |open: &&Descriptor| {
        kinds.contains(&kind(&open.target))
            && first.descriptors.iter().all(|old| (old.fd, &old.target) != (open.fd, &open.target))
    };
    let new: Vec<String> = last
        .descriptors
        .iter()
        .filter(is_new)
        .take(4)
        .map(|open| format!("fd {}: {} ({})", open.fd, open.target, open.mode))
        .collect();
    format!(
        "after {runs} equal runs the host has {} descriptors, after the first it had {}; new are {}",
        last.descriptors.len(),
        first.descriptors.len(),
        new.join(", ")
    )
}

/// Whether these ops are the same for each run, and each run is waited for before the next is started.
pub(super) fn are_equal_runs(ops: &[Op]) -> bool {
    let of_each_run: Vec<&[Op]> = of_each_run(ops).collect();
    of_each_run.len() >= LEAST_RUNS
        && of_each_run
            .iter()
            .all(|ops| *ops == of_each_run[0] && ops.last().is_some_and(|op| op.verb == Verb::Wait))
        // Who is about an earlier run leaves its own under way.
        && ops.iter().all(|op| op.run.is_none())
}

fn of_each_run(ops: &[Op]) -> impl Iterator<Item = &[Op]> {
    ops.chunk_by(|_, next| next.verb != Verb::Run)
}

fn not_for_templates(facts: &Facts<'_>) -> Option<Verdict> {
    let gone =
        || Verdict::NotRun("a command is gone when its run is over, and its handles with it".to_owned());
    facts.fault().or_else(|| facts.is_template().then(gone))
}

pub(super) fn inventory<'a>(facts: &Facts<'a>, point: Point) -> Option<&'a Inventory> {
    facts.trace.inventories.iter().find(|inventory| inventory.point == point)
}

// ---- F2 ----

fn judge_f2(facts: &Facts<'_>) -> Verdict {
    if let Some(verdict) = not_for_templates(facts) {
        return verdict;
    }
    let verdicts = facts.runs().iter().map(|run| stray_pipes(facts, run));
    together(verdicts, || facts.because("no run was started"))
}

/// A pipe that a node reported as one of its standard descriptors.
struct Pipe<'a> {
    target: &'a str,
    made_for: String,
}

fn stray_pipes(facts: &Facts<'_>, run: &Run<'_>) -> Verdict {
    let pipes: Vec<Pipe<'_>> = run.nodes.iter().flat_map(standard_pipes).collect();
    if pipes.is_empty() {
        return Verdict::Vacuous(facts.because("no node reported a pipe as its descriptor 0, 1 or 2"));
    }
    let Some(over_us) = run.over_us() else {
        return Verdict::Vacuous(facts.because("the run did not end"));
    };
    let (Some(before), Some(after)) =
        (inventory(facts, Point::BeforeRun(run.number)), inventory(facts, Point::AfterRun(run.number)))
    else {
        return Verdict::Vacuous("the host's handles were not listed before and after the run".to_owned());
    };
    let stray: Vec<String> = after
        .descriptors
        .iter()
        .filter(|open| before.descriptors.iter().all(|old| old.target != open.target))
        .filter_map(|open| Some((open, pipes.iter().find(|pipe| pipe.target == open.target)?)))
        .map(|(open, pipe)| {
            format!("fd {}: {} end of the pipe made for {}", open.fd, end(open), pipe.made_for)
        })
        .collect();
    if stray.is_empty() {
        return Verdict::Kept;
    }
    let later_us = after.at_us.saturating_sub(over_us);
    let sentence = format!("{}, still open {} after the run ended", stray.join(", "), told(later_us));
    if let Some(doubt) = may_still_go(facts, &[after]) {
        return Verdict::Unknown(format!("{sentence}; but {doubt}"));
    }
    let due_us = facts.done_with_us(run).unwrap_or(over_us).saturating_add(facts.settle_us());
    if after.at_us < due_us {
        return Verdict::Unknown(format!("{sentence}, which is too soon to tell"));
    }
    Verdict::Broken(Finding { sentence, count: stray.len() as u64 })
}

fn standard_pipes<'n>(node: &'n Node<'_>) -> impl Iterator<Item = Pipe<'n>> {
    let standard = [(0, "stdin"), (1, "stdout"), (2, "stderr")].into_iter();
    standard.filter_map(|(fd, stream)| {
        let target = node.descriptor(fd).filter(|target| target.starts_with("pipe:["))?;
        Some(Pipe { target, made_for: format!("{}.{stream}", node.name) })
    })
}

fn end(open: &Descriptor) -> &'static str {
    match open.mode.as_str() {
        "r" => "read",
        "w" => "write",
        _ => "an",
    }
}

// ---- F3 ----

fn judge_f3(facts: &Facts<'_>) -> Verdict {
    if let Some(fault) = facts.fault() {
        return fault;
    }
    let verdicts = facts.runs().iter().map(|run| match run.root() {
        None => Verdict::Vacuous(facts.because("the root never said hello")),
        Some(root) => handed_down(root),
    });
    together(verdicts, || facts.because("no run was started"))
}

fn handed_down(root: &Node<'_>) -> Verdict {
    let extra: Vec<String> = root
        .extra_descriptors()
        .map(|open| format!("fd {}: {} ({})", open.fd, open.target, open.mode))
        .collect();
    if extra.is_empty() {
        return Verdict::Kept;
    }
    let sentence = format!("the root was started with {} beside 0, 1 and 2", extra.join(", "));
    Verdict::Broken(Finding { sentence, count: extra.len() as u64 })
}

// ---- F5 ----

fn judge_f5(facts: &Facts<'_>) -> Verdict {
    if let Some(verdict) = not_for_templates(facts) {
        return verdict;
    }
    let ops = &facts.trace.scenario.ops;
    if ops.iter().all(|op| op.hindered_by.is_none()) {
        return Verdict::Vacuous("nothing hindered the starts".to_owned());
    }
    let went_on =
        |run: &Run<'_>| run.hindered_by.is_some_and(Hindrance::is_in_program) && !run.start_failed();
    if facts.runs().iter().any(|run| run.ended.is_none() || went_on(run)) {
        return Verdict::Vacuous(facts.because("not every start that was to fail did, and was over"));
    }
    // A first run that nothing hinders warms up the runtime and is otherwise another one.
    let warm_up = of_each_run(ops).next().filter(|ops| ops[0].hindered_by.is_none()).map_or(0, <[Op]>::len);
    no_more_with_each_run(facts, &ops[warm_up..])
}

// ---- F6 ----

fn judge_f6(facts: &Facts<'_>) -> Verdict {
    if let Some(fault) = facts.fault() {
        return fault;
    }
    if !facts.promises().feeds {
        return Verdict::NotRun("the subject does not feed its child".to_owned());
    }
    let Some(input) = facts.trace.scenario.input else {
        return Verdict::Vacuous("the wrapper was given no input for the child".to_owned());
    };
    together(facts.runs().iter().map(|run| end_of_input(facts, run, input)), || {
        facts.because("no run was started")
    })
}

fn end_of_input(facts: &Facts<'_>, run: &Run<'_>, input: u64) -> Verdict {
    let Some(root) = run.root() else {
        return Verdict::Vacuous(facts.because("the root never said hello"));
    };
    let seen = root.reports.iter().find_map(|heard| match heard.report {
        Report::StdinEnded { bytes } => Some((heard.at_us, *bytes)),
        _ => None,
    });
    // Once the harness has looked it ends the host, and with it whoever feeds.
    let looked_us = facts.trace.looks.first().map(|look| look.at_us);
    let stop_us = facts.stopped_from_us(run).into_iter().chain(looked_us).min();
    match seen {
        Some((_, bytes)) if bytes == input => Verdict::Kept,
        Some(_) if is_shared(facts, run, root) => {
            Verdict::Vacuous("another process read from the root's input too".to_owned())
        }
        Some((at_us, bytes)) if stop_us.is_none_or(|stop_us| at_us < stop_us) => {
            broken(format!("the root read {bytes} bytes of input and then its end; there were to be {input}"))
        }
        Some(_) => Verdict::Vacuous("the run was stopped while the root read its input".to_owned()),
        None => waited_for_the_end(facts, run, root, stop_us),
    }
}

/// Whether another node has the root's input and reads it: what that one takes, the root does not get.
fn is_shared(facts: &Facts<'_>, run: &Run<'_>, root: &Node<'_>) -> bool {
    let input = root.descriptor(0);
    let reads = |node: &Node<'_>| {
        steps_of(&facts.trace.scenario.script, node.name)
            .is_some_and(|steps| steps.contains(&Step::ReadStdin))
    };
    run.nodes.iter().any(|node| node.name != root.name && node.descriptor(0) == input && reads(node))
}

fn waited_for_the_end(facts: &Facts<'_>, run: &Run<'_>, root: &Node<'_>, stop_us: Option<u64>) -> Verdict {
    let script = &facts.trace.scenario.script;
    let Some(step) = script.iter().position(|step| *step == Step::ReadStdin) else {
        return Verdict::Vacuous("the root does not read its input".to_owned());
    };
    let Some(since_us) = root.came_to(step) else {
        return Verdict::Vacuous(facts.because("the root did not come to reading its input"));
    };
    if script[..step].iter().any(stands_still_after) {
        return Verdict::Vacuous("the root had stopped, or waited for a node in its own memory".to_owned());
    }
    let until_us = [stop_us, root.dead_us()].into_iter().flatten().min().unwrap_or_else(|| facts.last_us());
    let waited_us = until_us.saturating_sub(since_us);
    let sentence =
        format!("the root of run {} read its input for {} and saw no end", run.number, told(waited_us));
    match facts.lateness(waited_us, facts.slack_us()) {
        Lateness::InTime => Verdict::Vacuous(format!("{sentence}, which is too short to tell")),
        Lateness::WithinNoise(_) => {
            Verdict::Unknown(format!("{sentence}; this machine's noise may explain that"))
        }
        Lateness::Late(_) => broken(sentence),
    }
}

// ---- Directed scenarios ----

fn four_times(ops: &[Op]) -> Vec<Op> {
    [ops; 4].concat()
}

fn directed_f1() -> Vec<Scenario> {
    let tree = || [vec![start_hanging("helper", Place::SameGroup)], ready_and_hang().to_vec()].concat();
    vec![
        scenario(
            "handles-after-four-exits",
            "A handle that each run leaves behind shows as growth from run to run.",
            &["F1", "F2"],
            vec![Step::Exit(0)],
            four_times(&to_the_end()),
        ),
        scenario(
            "handles-after-four-cancels",
            "The way out by cancel often skips the closing that the way out by exit does.",
            &["F1", "F2"],
            tree(),
            four_times(&[run(), once_started(Verb::Cancel), wait()]),
        ),
        scenario(
            "handles-after-four-timeouts",
            "As before, by the wrapper's own timeout.",
            &["F1", "F2"],
            tree(),
            four_times(&to_the_end()),
        )
        .with_timeout(TIMEOUT),
    ]
}

fn directed_f2() -> Vec<Scenario> {
    vec![
        scenario(
            "pipes-after-exit",
            "The pipes of a run must be closed with it: an open read end keeps a buffer, an open write end keeps a reader waiting.",
            &["F2"],
            vec![Step::Exit(0)],
            to_the_end(),
        ),
        scenario(
            "pipes-after-cancel",
            "As before, after a cancel.",
            &["F2"],
            ready_and_hang().to_vec(),
            once_ready(Verb::Cancel),
        ),
        scenario(
            "pipes-after-drop",
            "As before, after the handle was dropped: what reads in the background must end too.",
            &["F2"],
            ready_and_hang().to_vec(),
            once_ready(Verb::Drop),
        ),
    ]
}

fn directed_f5() -> Vec<Scenario> {
    let failing = |name: &str, why, hindrance| {
        let hindered = || Op { hindered_by: Some(hindrance), ..run() };
        let ops = [to_the_end(), four_times(&[hindered(), wait()])].concat();
        scenario(name, why, &["F5"], vec![Step::Exit(0)], ops)
    };
    let mut scenarios = vec![
        failing(
            "handles-after-four-missing-programs",
            "Pipes are made before a start; when it fails, nobody may be left to close them.",
            Hindrance::MissingProgram,
        ),
        failing(
            "handles-after-four-forbidden-programs",
            "As before, with a program that may not be executed.",
            Hindrance::NotExecutable,
        ),
        failing(
            "handles-after-four-missing-interpreters",
            "As before, with a program that is there: only the kernel finds out that it cannot be started.",
            Hindrance::BadInterpreter,
        ),
        failing(
            "handles-after-four-starts-without-a-process",
            "As before, where the kernel refuses the fork itself.",
            Hindrance::NoProcess,
        ),
    ];
    // A start opens several descriptors one after the other: with so many left it fails at another one each time.
    scenarios.extend((0..=MOST_LEFT).map(|left| {
        failing(
            &format!("handles-after-four-starts-with-{left}-descriptors-left"),
            "Where a start fails halfway, what it had opened by then must be closed.",
            Hindrance::DescriptorsLeft(left),
        )
    }));
    scenarios
}

fn directed_f6() -> Vec<Scenario> {
    let reads = || vec![Step::ReadStdin, emit("end"), Step::Exit(0)];
    vec![
        scenario(
            "input-that-is-empty",
            "A child that reads to the end waits for whoever has a writing end open, and that may be the wrapper itself.",
            &["F6"],
            reads(),
            to_the_end(),
        )
        .with_input(0)
        .with_timeout(LONG),
        scenario("input-of-a-few-bytes", "As before, with something to read first.", &["F6"], reads(), to_the_end())
            .with_input(1_000)
            .with_timeout(LONG),
        scenario(
            "input-while-another-run-goes-on",
            "A child that was started later and goes on must not have been handed a writing end of the other's input.",
            &["F6"],
            vec![
                // By then the first run's input is more than its pipe holds, so its writing end is open when the second starts.
                await_event("run.2.root.hello"),
                Step::ReadStdin,
                emit("end"),
                await_event("run.1.root.end"),
                Step::Exit(0),
            ],
            vec![run(), after("root.hello", Verb::Run), wait()],
        )
        .with_input(200_000)
        .with_timeout(LONG),
    ]
}

fn directed_f3() -> Vec<Scenario> {
    vec![scenario(
        "descriptors-of-the-child",
        "Each descriptor that is handed down by accident is a pipe that never ends or a file that stays locked.",
        &["F3"],
        vec![Step::Exit(0)],
        to_the_end(),
    )]
}

#[cfg(test)]
mod tests {
    use super::super::by_hand::{Hand, assert_verdict, because, case, hanging_pair, hello, steps};
    use super::*;
    use crate::promises::Keeps;
    use crate::syscalls::CallKind;
    use crate::trace::{Reason, What};
    use crate::verdict::VerdictKind::{Broken, Kept, NotRun, Unknown, Vacuous};
    use fake_cli::control::Hello;

    const OWN: (i32, &str) = (3, "anon_inode:[eventpoll]");

    /// Runs that exit, after each of which the host has these descriptors.
    fn runs(after_each: &[&[(i32, &str)]]) -> Hand {
        after_each.iter().enumerate().fold(case(steps(r#"[{"exit": 0}]"#)), |hand, (number, open)| {
            let at_ms = number as u64 * 100;
            hand.run(at_ms)
                .wait(at_ms + 1)
                .hello(at_ms + 2, "root")
                .exiting(at_ms + 3, "root", 0)
                .ended(at_ms + 4, because(Reason::Itself))
                .inventory(at_ms + 5, Point::AfterRun(number as u32), open)
        })
    }

    #[test]
    fn f1_is_broken_by_growth_from_run_to_run_and_names_what_is_new() {
        let first = [OWN, (7, "pipe:[70]")];
        let second = [OWN, (7, "pipe:[70]"), (8, "pipe:[80]")];
        let third = [OWN, (7, "pipe:[70]"), (8, "pipe:[80]"), (9, "pipe:[90]")];
        let hand = runs(&[&first, &second, &third]);
        assert_verdict(&hand, judge_f1, Broken, "fd 8: pipe:[80] (r), fd 9: pipe:[90] (r)");
        let Verdict::Broken(finding) = hand.judge(judge_f1) else { panic!("not broken") };
        assert_eq!(finding.count, 2);
    }

    #[test]
    fn f1_is_kept_when_the_number_stays_and_only_inodes_change() {
        let open = |inode| [OWN, (7, inode)];
        let hand = runs(&[&open("pipe:[70]"), &open("pipe:[71]"), &open("pipe:[72]")]);
        assert_verdict(&hand, judge_f1, Kept, "");
        // Less than after the first run is no leak.
        assert_verdict(&runs(&[&open("pipe:[70]"), &[OWN], &[OWN]]), judge_f1, Kept, "");
    }

    #[test]
    fn f1_is_unknown_when_the_number_grew_once() {
        let more = [OWN, (4, "anon_inode:[eventfd]")];
        assert_verdict(&runs(&[&[OWN], &more, &more, &more]), judge_f1, Unknown, "grew only once");
    }

    #[test]
    fn f1_is_vacuous_without_three_equal_runs() {
        assert_verdict(&runs(&[&[OWN], &[OWN]]), judge_f1, Vacuous, "no three equal runs");
        let not_waited_for = runs(&[&[OWN], &[OWN], &[OWN]]).cancel(900);
        assert_verdict(&not_waited_for, judge_f1, Vacuous, "no three equal runs");
        let unlisted = runs(&[&[OWN], &[OWN], &[OWN]]).with(|trace| trace.inventories.truncate(2));
        assert_verdict(&unlisted, judge_f1, Vacuous, "fewer than three");
        assert_verdict(&runs(&[&[OWN]]).template(), judge_f1, NotRun, "a command");
    }

    #[test]
    fn f1_is_vacuous_when_runs_may_overlap() {
        let overlapping = runs(&[&[OWN], &[OWN], &[OWN]])
            .with(|trace| trace.scenario.ops.retain(|op| op.verb == Verb::Run));
        assert_verdict(&overlapping, judge_f1, Vacuous, "no three equal runs");
    }

    /// A run that ended after 10 ms; the host's descriptors before it and 2 s after it.
    fn one_run(before: &[(i32, &str)], after: &[(i32, &str)]) -> Hand {
        case(steps(r#"[{"exit": 0}]"#))
            .inventory(0, Point::BeforeRun(0), before)
            .run(1)
            .hello(2, "root")
            .exiting(3, "root", 0)
            .ended(10, because(Reason::Itself))
            .inventory(2_010, Point::AfterRun(0), after)
    }

    #[test]
    fn f2_is_broken_by_a_pipe_of_the_run_and_names_it() {
        let hand = one_run(&[OWN], &[OWN, (14, "pipe:[1001]")]);
        assert_verdict(
            &hand,
            judge_f2,
            Broken,
            "fd 14: read end of the pipe made for root.stdout, still open 2.0 s after the run ended",
        );
    }

    #[test]
    fn f2_is_kept_by_pipes_of_others_and_of_the_host_itself() {
        assert_verdict(&one_run(&[OWN], &[OWN, (14, "pipe:[9999]")]), judge_f2, Kept, "");
        // The host's own input, which the child was given as its own.
        assert_verdict(&one_run(&[(0, "pipe:[1000]")], &[(0, "pipe:[1000]")]), judge_f2, Kept, "");
    }

    #[test]
    fn f2_is_unknown_too_soon_and_vacuous_without_pipes_or_an_end() {
        let soon =
            one_run(&[OWN], &[OWN, (14, "pipe:[1001]")]).with(|trace| trace.inventories[1].at_us = 50_000);
        assert_verdict(&soon, judge_f2, Unknown, "too soon");
        let unlisted = one_run(&[OWN], &[OWN]).with(|trace| trace.inventories.clear());
        assert_verdict(&unlisted, judge_f2, Vacuous, "not listed");
        let quiet =
            case(steps(r#"[{"exit": 0}]"#)).run(1).quiet_hello(2, "root", super::super::by_hand::ROOT_IDS);
        assert_verdict(&quiet, judge_f2, Vacuous, "no node reported a pipe");
        let running = case(steps(r#"["hang"]"#)).run(1).hello(2, "root");
        assert_verdict(&running, judge_f2, Vacuous, "did not end");
        assert_verdict(&one_run(&[], &[]).template(), judge_f2, NotRun, "a command");
    }

    /// A run whose handle is dropped at 10 ms, with a pipe of it open in the host at this time.
    fn dropped(grace_ms: u64, seen_ms: u64) -> Hand {
        hanging_pair()
            .grace(grace_ms)
            .drain(100)
            .drop(10)
            .done(11)
            .inventory(0, Point::BeforeRun(0), &[OWN])
            .inventory(seen_ms, Point::AfterRun(0), &[OWN, (14, "pipe:[1001]")])
    }

    #[test]
    fn f2_leaves_whoever_was_dropped_the_grace_to_read_in() {
        assert_verdict(&dropped(5_000, 1_012), judge_f2, Unknown, "ending what was dropped");
        assert_verdict(&dropped(5_000, 5_200), judge_f2, Unknown, "too soon");
        assert_verdict(&dropped(5_000, 5_400), judge_f2, Broken, "read end of the pipe made for root.stdout");
        let stalled = dropped(5_000, 5_400).with(|trace| trace.noise.max_us = 300_000);
        assert_verdict(&stalled, judge_f2, Unknown, "too soon");
        let unnamed = dropped(100, 1_012).with(|trace| trace.limits.grace = None);
        assert_verdict(&unnamed, judge_f2, Unknown, "is not known");
        let graceless = unnamed.promising(|promises| promises.grace = Keeps::Not);
        assert_verdict(&graceless, judge_f2, Broken, "root.stdout");
    }

    #[test]
    fn f2_does_not_accuse_a_wrapper_that_the_harness_held() {
        let held = one_run(&[OWN], &[OWN, (14, "pipe:[1001]")])
            .what(5, What::Held { call: CallKind::Kill, nth: 1 })
            .what(2_005, What::LetGo { call: CallKind::Kill, nth: 1, in_vain: true });
        assert_verdict(&held, judge_f2, Unknown, "held a call");
    }

    #[test]
    fn f1_is_unknown_while_the_dropped_may_still_be_under_way() {
        let drops = |grace_ms| {
            let open = [OWN, (7, "pipe:[7]"), (8, "pipe:[8]")];
            (0..3_u32).fold(case(steps(r#"["hang"]"#)).grace(grace_ms).drain(100), |hand, run| {
                let at_ms = u64::from(run) * 2_000;
                hand.run(at_ms)
                    .hello(at_ms + 1, "root")
                    .drop(at_ms + 2)
                    .done(at_ms + 3)
                    .inventory(at_ms + 1_003, Point::AfterRun(run), &open[..=run as usize])
                    .wait(at_ms + 1_004)
            })
        };
        assert_verdict(&drops(100), judge_f1, Broken, "pipe:[8]");
        assert_verdict(&drops(5_000), judge_f1, Unknown, "ending what was dropped");
    }

    #[test]
    fn f3_is_broken_by_what_is_handed_down_beside_the_standard_three() {
        let hello_with = |fd| {
            let mut hello = hello("root");
            hello.descriptors.push(Descriptor { fd, target: "socket:[5]".to_owned(), mode: "rw".to_owned() });
            Report::Hello(Box::new(Hello { ..hello }))
        };
        let started = |said| case(steps("[]")).run(0).says(1, "root", said);
        assert_verdict(&started(hello_with(7)), judge_f3, Broken, "fd 7: socket:[5] (rw) beside 0, 1 and 2");
        assert_verdict(&started(hello_with(7)).template(), judge_f3, Broken, "fd 7");
        assert_verdict(&case(steps("[]")).run(0).hello(1, "root"), judge_f3, Kept, "");
        assert_verdict(&case(steps("[]")).run(0), judge_f3, Vacuous, "never said hello");
        assert_verdict(&started(hello_with(7)).our_fault(), judge_f3, Unknown, "harness could not");
    }

    /// A run, then starts that fail, after each of which the host has these descriptors.
    fn failing(hindrance: Hindrance, after_each: &[&[(i32, &str)]]) -> Hand {
        let warm_up = runs(&[after_each[0]]);
        (1_u32..).zip(after_each).fold(warm_up, |hand, (number, open)| {
            let at_ms = u64::from(number) * 100;
            hand.hindered_run(at_ms, hindrance)
                .wait(at_ms + 1)
                .ended(at_ms + 4, because(Reason::StartFailed("no such program".to_owned())))
                .inventory(at_ms + 5, Point::AfterRun(number), open)
        })
    }

    #[test]
    fn f5_is_broken_by_growth_from_failed_start_to_failed_start_which_f1_leaves_to_it() {
        for hindrance in [Hindrance::MissingProgram, Hindrance::DescriptorsLeft(2)] {
            let more = [OWN, (7, "pipe:[70]")];
            let most = [OWN, (7, "pipe:[70]"), (8, "pipe:[80]")];
            let leaking = failing(hindrance, &[&[OWN], &more, &most]);
            assert_verdict(&leaking, judge_f5, Broken, "fd 7: pipe:[70] (r), fd 8: pipe:[80] (r)");
            assert_verdict(&leaking, judge_f1, Vacuous, "judged by F5");
            assert_verdict(&failing(hindrance, &[&[OWN], &[OWN], &[OWN]]), judge_f5, Kept, "");
            assert_verdict(&failing(hindrance, &[&[OWN], &more, &more]), judge_f5, Unknown, "grew only once");
        }
    }

    #[test]
    fn f5_is_vacuous_unless_every_start_failed_that_had_to_and_does_not_run_for_commands() {
        let missing = |after_each| failing(Hindrance::MissingProgram, after_each);
        assert_verdict(&runs(&[&[OWN], &[OWN], &[OWN]]), judge_f5, Vacuous, "nothing hindered");
        let unended =
            missing(&[&[OWN], &[OWN], &[OWN]]).hindered_run(900, Hindrance::MissingProgram).wait(901);
        assert_verdict(&unended, judge_f5, Vacuous, "not every start");
        let started = unended.hello(902, "root").ended(903, because(Reason::Itself));
        assert_verdict(&started, judge_f5, Vacuous, "not every start");
        assert_verdict(&missing(&[&[OWN], &[OWN]]), judge_f5, Vacuous, "no three equal runs");
        assert_verdict(&missing(&[&[OWN]]).template(), judge_f5, NotRun, "a command");
    }

    /// A root that reads 1,000 bytes of input from 2 ms on.
    fn reader() -> Hand {
        case(steps(r#"[{"emit": "ready"}, "read-stdin", {"exit": 0}]"#))
            .promising(|promises| promises.feeds = true)
            .with(|trace| trace.scenario.input = Some(1_000))
            .run(0)
            .hello(1, "root")
            .did(2, "root", 0)
    }

    #[test]
    fn f6_is_kept_by_a_root_that_read_everything_and_then_the_end() {
        let read = |bytes| reader().says(3, "root", Report::StdinEnded { bytes });
        assert_verdict(&read(1_000), judge_f6, Kept, "");
        assert_verdict(
            &read(400),
            judge_f6,
            Broken,
            "read 400 bytes of input and then its end; there were to be 1000",
        );
    }

    #[test]
    fn f6_says_nothing_of_input_that_a_child_of_the_root_reads_too() {
        let script = r#"[{"start": {"node": "other", "holds": ["stdin"], "script": ["read-stdin"]}},
            "read-stdin", {"exit": 0}]"#;
        let both = reader()
            .with(|trace| trace.scenario.script = steps(script))
            .hello(2, "other")
            .says(3, "other", Report::StdinEnded { bytes: 600 })
            .says(3, "root", Report::StdinEnded { bytes: 400 });
        assert_verdict(&both, judge_f6, Vacuous, "another process read");
        let idle = both
            .clone()
            .with(|trace| trace.scenario.script = steps(&script.replace(r#"["read-stdin"]"#, r#"["hang"]"#)));
        assert_verdict(&idle, judge_f6, Broken, "400 bytes");
    }

    #[test]
    fn f6_is_broken_by_a_root_that_waits_for_the_end_of_its_input_in_vain() {
        let cancelled = reader().cancel(1_500).gone(1_501, "root");
        assert_verdict(
            &cancelled,
            judge_f6,
            Broken,
            "the root of run 0 read its input for 1.4 s and saw no end",
        );
        let silent = reader().what(9_000, What::GaveUp).silent();
        assert_verdict(&silent, judge_f6, Broken, "saw no end");
    }

    #[test]
    fn f6_says_nothing_of_a_root_that_was_stopped_soon_or_did_not_come_to_reading() {
        let soon = reader().cancel(200).gone(201, "root");
        assert_verdict(&soon, judge_f6, Vacuous, "too short to tell");
        let closed_by_stop = reader().cancel(3).says(4, "root", Report::StdinEnded { bytes: 10 });
        assert_verdict(&closed_by_stop, judge_f6, Vacuous, "was stopped while");
        let closed_by_timeout = reader().timeout(50).says(60, "root", Report::StdinEnded { bytes: 10 });
        assert_verdict(&closed_by_timeout, judge_f6, Vacuous, "was stopped while");
        let busy = reader().with(|trace| trace.moments.truncate(3)).cancel(1_500).gone(1_501, "root");
        assert_verdict(&busy, judge_f6, Vacuous, "did not come to reading");
        let stopped = reader().with(|trace| trace.scenario.script[0] = Step::Stop).cancel(1_500);
        assert_verdict(&stopped, judge_f6, Vacuous, "had stopped");
        let lent = r#"[{"start": {"node": "child", "as": "vfork", "script": ["hang"]}}]"#;
        let waits = reader().with(|trace| trace.scenario.script[0] = steps(lent)[0].clone());
        assert_verdict(&waits.cancel(1_500), judge_f6, Vacuous, "in its own memory");
        let noisy = reader().with(|trace| trace.noise.max_us = 500_000).cancel(1_500).gone(1_501, "root");
        assert_verdict(&noisy, judge_f6, Unknown, "noise");
    }

    #[test]
    fn f6_does_not_run_for_who_does_not_feed_and_is_vacuous_without_input() {
        assert_verdict(
            &reader().promising(|promises| promises.feeds = false),
            judge_f6,
            NotRun,
            "does not feed",
        );
        let without = reader().with(|trace| trace.scenario.input = None);
        assert_verdict(&without, judge_f6, Vacuous, "no input");
        assert_verdict(&reader().our_fault(), judge_f6, Unknown, "harness could not");
    }
}
