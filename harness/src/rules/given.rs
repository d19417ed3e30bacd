//! E3, E4: where the child stands at its start, and what it is given.

use fake_cli::control::{Environment, Report};
use fake_cli::script::{ReportEnvironment, Step};

use super::concurrency::is_hindered;
use super::directed::{scenario, to_the_end};
use super::facts::{Facts, Node};
use super::verdicts::{broken, together};
use crate::promises::Reach;
use crate::scenario::{HostState, Scenario};
use crate::trace::{Given, What};
use crate::verdict::{Finding, Verdict};

// ---- E3 ----

pub(super) fn judge_e3(facts: &Facts<'_>) -> Verdict {
    if let Some(fault) = facts.fault() {
        return fault;
    }
    let promises = facts.promises();
    let group = promises.reach == Reach::Group && !facts.is_template();
    if !promises.own_group && !promises.own_session && !group {
        return Verdict::NotRun(
            "the subject declares neither a group nor a session for its child".to_owned(),
        );
    }
    let Some(host) = facts.host_pid() else {
        return Verdict::Vacuous("the host was not started".to_owned());
    };
    let verdicts = facts.runs().iter().map(|run| {
        let Some(hello) = run.root().and_then(|root| root.hello) else {
            return Verdict::Vacuous(facts.because("the root never said hello"));
        };
        if promises.own_session && hello.sid != hello.pid {
            return broken(format!("the root (pid {}) was started in session {}, and a session of its own is declared", hello.pid, hello.sid));
        }
        if promises.own_group && hello.pgid != hello.pid {
            return broken(format!("the root (pid {}) was started in group {}, and a group of its own is declared", hello.pid, hello.pgid));
        }
        if !promises.own_group && !promises.own_session && facts.trace.scenario.shares_group() {
            return Verdict::Vacuous("which group the host was started in is not in the trace".to_owned());
        }
        // The host leads its session, and so a group.
        if group && hello.pgid == host {
            return broken(format!("the root (pid {}) was started in the host's own group, and its group is what is declared to be ended", hello.pid));
        }
        Verdict::Kept
    });
    together(verdicts, || facts.because("no run was started"))
}

// ---- E4 ----

pub(super) fn judge_e4(facts: &Facts<'_>) -> Verdict {
    if let Some(fault) = facts.fault() {
        return fault;
    }
    if facts.promises().own_environment {
        return Verdict::NotRun("the subject gives its child another environment on purpose".to_owned());
    }
    let given = facts.trace.moments.iter().find_map(|moment| match &moment.what {
        What::HostGiven(given) => Some(given),
        _ => None,
    });
    let Some(given) = given else {
        return Verdict::Vacuous("the trace does not say what the host was started with".to_owned());
    };
    let verdicts = facts.runs().iter().map(|run| {
        if is_hindered(facts, run) {
            return Verdict::Vacuous(
                "a limit that the harness lowered for the start is handed down".to_owned(),
            );
        }
        let Some(told) = run.root().and_then(environment) else {
            return Verdict::Vacuous(facts.because("the root did not tell what it was given"));
        };
        let mut told = told.clone();
        if clears_before_it_tells(&facts.trace.scenario.script) {
            // What it had been given before is not known.
            told.variables.clear();
        }
        let differs = differences(given, &told, facts.is_template());
        match differs.first() {
            None => Verdict::Kept,
            Some(first) => {
                let sentence = format!("the root was started with {first}, which nobody asked for");
                Verdict::Broken(Finding { sentence, count: differs.len() as u64 })
            }
        }
    });
    together(verdicts, || facts.because("no run was started"))
}

fn environment<'a>(root: &Node<'a>) -> Option<&'a Environment> {
    root.reports.iter().find_map(|heard| match heard.report {
        Report::Environment(environment) => Some(environment.as_ref()),
        _ => None,
    })
}

/// Whether the root takes its variables away by itself before it tells them.
fn clears_before_it_tells(script: &[Step]) -> bool {
    let before = script.iter().take_while(|step| !matches!(step, Step::ReportEnvironment(_)));
    before.into_iter().any(|step| *step == Step::ClearEnvironment)
}

fn differences(given: &Given, told: &Environment, is_template: bool) -> Vec<String> {
    let mut differs = Vec::new();
    if told.directory != given.directory {
        differs.push(format!(
            "working directory {:?} instead of the host's {:?}",
            told.directory, given.directory
        ));
    }
    if told.umask != given.umask {
        differs.push(format!("umask {:03o} instead of the host's {:03o}", told.umask, given.umask));
    }
    if let Some(limit) = told.limits.iter().find(|limit| limit.resource == "nofile")
        && limit.soft != given.open_files
    {
        let of = |limit: Option<u64>| limit.map_or_else(|| "no limit".to_owned(), |files| files.to_string());
        differs.push(format!("{} open files instead of the host's {}", of(limit.soft), of(given.open_files)));
    }
    for (name, of_host) in [("HOME", &given.home), ("TMPDIR", &given.temporary)] {
        match told.variables.get(name) {
            Some(Some(value)) if value != of_host => {
                differs.push(format!("{name}={value:?} instead of the host's {of_host:?}"));
            }
            Some(None) => differs.push(format!("no variable {name}, which the host has")),
            Some(Some(_)) | None => {}
        }
    }
    // The words of a command are its user's.
    let arguments = told.arguments.len() + told.arguments_left_out;
    if !is_template && arguments != 1 {
        differs.push(format!("{arguments} arguments, the zeroth included"));
    }
    differs
}

// ---- Directed scenarios ----

pub(super) fn directed_e3() -> Vec<Scenario> {
    vec![scenario(
        "group-at-the-start",
        "A group that is made only after the start leaves a moment in which a signal to it reaches nobody, or the host.",
        &["E3"],
        vec![Step::Exit(0)],
        to_the_end(),
    )]
}

pub(super) fn directed_e4() -> Vec<Scenario> {
    let variables = ["HOME", "TMPDIR"].map(str::to_owned).to_vec();
    let tells =
        || vec![Step::ReportEnvironment(ReportEnvironment { variables: variables.clone() }), Step::Exit(0)];
    let state = HostState { umask: Some(0o27), open_files: Some(200), ..HostState::default() };
    vec![
        scenario(
            "environment-as-it-is",
            "A child that is asked for nothing else gets its host's directory, umask, limits and variables, and no argument.",
            &["E4"],
            tells(),
            to_the_end(),
        ),
        scenario(
            "environment-of-a-strict-host",
            "As before, where the host's umask and limits are unusual: who makes files or raises limits for itself hands that down.",
            &["E4"],
            tells(),
            to_the_end(),
        )
        .with_host(state),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::by_hand::{AWAY, Hand, ROOT_IDS, assert_verdict, because, case, hello, steps};
    use super::super::standing::Ids;
    use super::*;
    use crate::promises::Promises;
    use crate::scenario::Hindrance;
    use crate::trace::Reason;
    use crate::verdict::VerdictKind::{Broken, Kept, NotRun, Unknown, Vacuous};
    use fake_cli::control::Limit;

    fn stands(ids: Ids, promise: fn(&mut Promises)) -> Hand {
        case(steps(r#"[{"exit": 0}]"#)).run(0).hello_as(1, "root", ids).promising(promise)
    }

    #[test]
    fn e3_holds_the_child_to_what_is_declared() {
        let pid = hello("root").pid;
        let leads = Ids { pgid: pid, sid: 50 };
        assert_verdict(&stands(leads, |promises| promises.own_group = true), judge_e3, Kept, "");
        let strays = stands(Ids { pgid: 50, sid: 50 }, |promises| promises.own_group = true);
        assert_verdict(&strays, judge_e3, Broken, "in group 50, and a group of its own is declared");
        assert_verdict(
            &stands(leads, |promises| promises.own_session = true),
            judge_e3,
            Broken,
            "in session 50",
        );
        let alone = Ids { pgid: pid, sid: pid };
        assert_verdict(&stands(alone, |promises| promises.own_session = true), judge_e3, Kept, "");
        let of_host = stands(Ids { pgid: 50, sid: 50 }, |promises| promises.reach = Reach::Group);
        assert_verdict(&of_host, judge_e3, Broken, "the host's own group");
        let away = stands(AWAY, |promises| promises.reach = Reach::Group);
        assert_verdict(&away, judge_e3, Kept, "");
        let shared = away.with(|trace| (trace.scenario.bystanders, trace.scenario.ledger) = (true, true));
        assert_verdict(&shared, judge_e3, Vacuous, "which group the host was started in");
    }

    #[test]
    fn e3_is_not_run_without_a_declaration_and_vacuous_without_a_hello() {
        assert_verdict(&stands(ROOT_IDS, |_| {}), judge_e3, NotRun, "declares neither");
        let of_template =
            stands(Ids { pgid: 50, sid: 50 }, |promises| promises.reach = Reach::Group).template();
        assert_verdict(&of_template, judge_e3, NotRun, "declares neither");
        let silent = case(steps("[]")).run(0).promising(|promises| promises.own_group = true);
        assert_verdict(&silent, judge_e3, Vacuous, "never said hello");
        assert_verdict(&stands(ROOT_IDS, |_| {}).our_fault(), judge_e3, Unknown, "harness could not");
    }

    fn told(change: impl FnOnce(&mut Environment)) -> Hand {
        let given = Given {
            directory: "/home".to_owned(),
            umask: 0o22,
            open_files: Some(1024),
            home: "/home".to_owned(),
            temporary: "/tmp".to_owned(),
        };
        let mut environment = Environment {
            arguments: vec!["fake".to_owned()],
            directory: given.directory.clone(),
            umask: given.umask,
            limits: vec![Limit { resource: "nofile".to_owned(), soft: Some(1024), hard: None }],
            variables: [("HOME", &given.home), ("TMPDIR", &given.temporary)]
                .map(|(name, value)| (name.to_owned(), Some(value.clone())))
                .into(),
            ..Environment::default()
        };
        change(&mut environment);
        case(steps(r#"[{"exit": 0}]"#)).what(0, What::HostGiven(given)).run(0).hello(1, "root").says(
            2,
            "root",
            Report::Environment(Box::new(environment)),
        )
    }

    #[test]
    fn e4_blames_nobody_for_variables_that_the_child_took_away_itself() {
        let script = r#"["clear-environment", {"report-environment": {"variables": ["HOME"]}}]"#;
        let cleared =
            |change: fn(&mut Environment)| told(change).with(|trace| trace.scenario.script = steps(script));
        assert_verdict(
            &cleared(|told| drop(told.variables.insert("HOME".to_owned(), None))),
            judge_e4,
            Kept,
            "",
        );
        assert_verdict(&cleared(|told| told.umask = 0o77), judge_e4, Broken, "umask 077");
    }

    #[test]
    fn e4_names_what_the_child_was_given_that_nobody_asked_for() {
        assert_verdict(&told(|_| {}), judge_e4, Kept, "");
        let broken =
            |change: fn(&mut Environment), part: &str| assert_verdict(&told(change), judge_e4, Broken, part);
        broken(|told| told.directory = "/".to_owned(), "directory \"/\" instead of the host's \"/home\"");
        broken(|told| told.umask = 0o77, "umask 077 instead of the host's 022");
        broken(|told| told.limits[0].soft = Some(4096), "4096 open files instead of the host's 1024");
        broken(|told| told.arguments.push("x".to_owned()), "2 arguments");
        broken(|told| drop(told.variables.insert("HOME".to_owned(), None)), "no variable HOME");
        broken(
            |told| drop(told.variables.insert("TMPDIR".to_owned(), Some("/x".to_owned()))),
            "TMPDIR=\"/x\"",
        );
        assert_verdict(&told(|told| told.arguments.push("x".to_owned())).template(), judge_e4, Kept, "");
    }

    #[test]
    fn e4_does_not_charge_a_limit_that_the_harness_lowered() {
        let few = told(|told| told.limits[0].soft = Some(9));
        let hindered = few.clone().with(|trace| {
            trace.scenario.ops[0].hindered_by = Some(Hindrance::DescriptorsLeft(4));
        });
        assert_verdict(&hindered, judge_e4, Vacuous, "the harness lowered");
        // The limit is the host's: it holds who is started beside it as well.
        let beside = few.clone().hindered_run(3, Hindrance::DescriptorsLeft(4));
        assert_verdict(&beside, judge_e4, Vacuous, "the harness lowered");
        let before = few.ended(4, because(Reason::Itself)).hindered_run(5, Hindrance::DescriptorsLeft(4));
        assert_verdict(&before, judge_e4, Broken, "9 open files");
    }

    #[test]
    fn e4_is_vacuous_where_nothing_is_told_and_not_run_for_who_means_it() {
        let silent = told(|_| {}).with(|trace| drop(trace.moments.pop()));
        assert_verdict(&silent, judge_e4, Vacuous, "did not tell");
        let old = told(|_| {}).with(|trace| drop(trace.moments.remove(1)));
        assert_verdict(&old, judge_e4, Vacuous, "does not say");
        let sandbox = told(|told| told.umask = 0).promising(|promises| promises.own_environment = true);
        assert_verdict(&sandbox, judge_e4, NotRun, "on purpose");
        assert_verdict(&told(|_| {}).our_fault(), judge_e4, Unknown, "harness could not");
    }
}
