//! F4: what a run's child has of another run.

use fake_cli::script::Step;

use super::concurrency::overlap;
use super::directed::{emit, of, once_started, ready_and_hang, run, scenario, wait};
use super::facts::{Facts, Node, Run};
use super::verdicts::{broken, together};
use crate::scenario::{Scenario, Verb};
use crate::trace::{Inventory, Point};
use crate::verdict::Verdict;

pub(super) fn judge(facts: &Facts<'_>) -> Verdict {
    if let Some(fault) = facts.fault() {
        return fault;
    }
    if facts.is_template() {
        return Verdict::NotRun("a command runs its child once".to_owned());
    }
    let pairs = facts.runs().iter().flat_map(|run| {
        let others = facts.runs().iter().filter(move |other| overlap(run, other));
        others.map(move |other| holds_of(facts, run, other))
    });
    together(pairs, || facts.because("no two runs were under way at the same time"))
}

/// Whether the root of a run has a pipe of another run.
fn holds_of(facts: &Facts<'_>, run: &Run<'_>, other: &Run<'_>) -> Verdict {
    let (Some(root), Some(others_root)) = (run.root(), other.root()) else {
        return Verdict::Vacuous(facts.because("the root never said hello"));
    };
    let Some(hello) = root.hello.filter(|hello| hello.descriptors_left_out == 0) else {
        return Verdict::Unknown("the root has more descriptors than it could tell".to_owned());
    };
    // What both were given of the host's own is nobody's.
    let Some(before) = before_both(facts, run, other) else {
        return Verdict::Unknown("the host's handles were not listed before the runs".to_owned());
    };
    let is_old = |target: &str| before.descriptors.iter().any(|open| open.target == target);
    let pipes: Vec<(&str, &str)> = own_pipes(others_root).filter(|(_, target)| !is_old(target)).collect();
    if pipes.is_empty() {
        return Verdict::Vacuous("no pipe was made for the other run".to_owned());
    }
    let foreign: Vec<String> = hello
        .descriptors
        .iter()
        .filter_map(|open| {
            let (stream, _) = pipes.iter().find(|(_, target)| *target == open.target)?;
            Some(format!(
                "fd {} ({}): the pipe made for the root's {stream} of run {}",
                open.fd, open.mode, other.number
            ))
        })
        .collect();
    if foreign.is_empty() {
        Verdict::Kept
    } else {
        broken(format!("the root of run {} was started with {}", run.number, foreign.join(", ")))
    }
}

fn before_both<'a>(facts: &Facts<'a>, run: &Run<'_>, other: &Run<'_>) -> Option<&'a Inventory> {
    let first = run.number.min(other.number);
    let is_before = |point: Point| matches!(point, Point::BeforeRun(run) if run <= first);
    facts.trace.inventories.iter().rev().find(|inventory| is_before(inventory.point))
}

fn own_pipes<'n>(root: &'n Node<'_>) -> impl Iterator<Item = (&'static str, &'n str)> {
    let standard = [(0, "stdin"), (1, "stdout"), (2, "stderr")].into_iter();
    standard.filter_map(|(fd, stream)| {
        let target = root
            .descriptor(fd)
            .filter(|target| target.starts_with("pipe:[") || target.starts_with("socket:["))?;
        Some((stream, target))
    })
}

pub(super) fn directed() -> Vec<Scenario> {
    let why = "A pipe that is not close-on-exec from its birth is handed to whoever is started meanwhile, and keeps its reader from the end.";
    let two_cancels = || {
        vec![
            of(1, once_started(Verb::Cancel)),
            of(2, once_started(Verb::Cancel)),
            of(1, wait()),
            of(2, wait()),
        ]
    };
    vec![
        scenario(
            "start-one-while-another-runs",
            why,
            &["F4", "F3"],
            ready_and_hang().to_vec(),
            [vec![run(), super::directed::after("root.ready", Verb::Run)], two_cancels()].concat(),
        ),
        scenario(
            "start-two-at-once",
            why,
            &["F4", "F3"],
            ready_and_hang().to_vec(),
            [vec![run(), run()], two_cancels()].concat(),
        ),
        scenario(
            "start-twelve-at-once",
            why,
            &["F4", "F3", "C1"],
            vec![emit("ready"), Step::Exit(0)],
            [vec![run(); 12], (1..=12).map(|number| of(number, wait())).collect()].concat(),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use fake_cli::control::{Descriptor, Hello, Report};

    use super::super::by_hand::{self, Hand, assert_verdict, because, steps};
    use super::*;
    use crate::trace::Reason;
    use crate::verdict::VerdictKind::{Broken, Kept, NotRun, Unknown, Vacuous};

    fn hello(pipes: &[(i32, u32)]) -> Report {
        let descriptors = pipes.iter().map(|(fd, inode)| Descriptor {
            fd: *fd,
            target: format!("pipe:[{inode}]"),
            mode: "w".to_owned(),
        });
        Report::Hello(Box::new(Hello { descriptors: descriptors.collect(), ..by_hand::hello("root") }))
    }

    /// Two runs at once; the second root has these descriptors.
    fn two(second: &[(i32, u32)]) -> Hand {
        let first =
            by_hand::case(steps(r#"["hang"]"#)).inventory(0, Point::BeforeRun(0), &[(0, "pipe:[5]")]).run(1);
        first.says(2, "root", hello(&[(0, 5), (1, 11), (2, 12)])).run(3).says(4, "root", hello(second))
    }

    #[test]
    fn f4_is_broken_by_a_pipe_of_the_other_run_and_by_no_other() {
        assert_verdict(&two(&[(0, 5), (1, 21), (2, 22)]), judge, Kept, "");
        assert_verdict(
            &two(&[(0, 5), (1, 21), (2, 22), (7, 12)]),
            judge,
            Broken,
            "root of run 1 was started with fd 7 (w): the pipe made for the root's stderr of run 0",
        );
        assert_verdict(&two(&[(0, 5), (1, 11), (2, 22)]), judge, Broken, "stdout of run 1");
    }

    #[test]
    fn f4_is_unknown_when_not_everything_was_listed() {
        let whole = [(0, 5), (1, 21), (2, 22)];
        assert_verdict(&two(&whole).with(|trace| trace.inventories.clear()), judge, Unknown, "not listed");
        assert_verdict(&two(&whole).our_fault(), judge, Unknown, "harness could not");
        let cut = Hello { descriptors_left_out: 3, ..by_hand::hello("root") };
        let cut = two(&whole).run(5).says(6, "root", Report::Hello(Box::new(cut)));
        assert_verdict(&cut, judge, Unknown, "more descriptors");
    }

    #[test]
    fn f4_is_vacuous_for_one_run_after_the_other_and_does_not_run_for_commands() {
        let first = by_hand::case(steps(r#"["hang"]"#))
            .run(1)
            .hello(2, "root")
            .cancel(3)
            .ended(4, because(Reason::Cancelled));
        assert_verdict(&first.clone().run(5).hello(6, "root"), judge, Vacuous, "no two runs");
        assert_verdict(
            &two(&[]).with(|trace| trace.moments.retain(|moment| moment.at_us != 2_000)),
            judge,
            Vacuous,
            "never said hello",
        );
        assert_verdict(&first.template(), judge, NotRun, "once");
    }
}
