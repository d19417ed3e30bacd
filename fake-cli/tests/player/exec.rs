//! Programs that cannot be executed, and threads.

use fake_cli::control::Report;
use rustix::process::Signal as Kernel;

use crate::stage::{Seen, Stage, children_of, eventually, state_and_parent};

#[test]
fn what_cannot_be_executed_leaves_a_node_as_it_was() {
    for how in ["missing", "not-executable", "bad-interpreter", "no-program"] {
        let script = format!(
            r#"[{{"on": {{"signal": "TERM", "then": "log"}}}}, {{"fail-exec": "{how}"}}, {{"exit": 126}}]"#
        );
        let mut stage = Stage::new(&script);
        stage.start();
        stage.did("root", 1);
        assert_eq!(stage.exit_code(), Some(126), "{how}");
        stage.gone("root");
        assert!(!stage.reports("root").iter().any(|report| matches!(report, Report::Reexec)));
    }
}

#[test]
fn a_thread_that_executes_keeps_the_pid_and_the_environment() {
    let script =
        r#"[{"on": {"signal": "TERM", "then": "log"}}, "exec-from-thread", {"emit": "after"}, "hang"]"#;
    let mut stage = Stage::new(script);
    let mut command = stage.command();
    let root = stage.spawn(command.env_clear().env("A", "1"));
    let (before, after) = (stage.hello("root"), stage.hello_number("root", 2));
    assert_eq!((after.pid, after.start_ticks, after.environment), (root, before.start_ticks, 1));
    assert_eq!(after.descriptors, before.descriptors);
    stage.emitted("root", "after");
    let reexec = stage.position(|_, seen| *seen == Seen::Report(Report::Reexec));
    assert!(reexec < stage.position(|_, seen| *seen == Seen::Gone));
    stage.signal("root", Kernel::TERM);
    assert_eq!(stage.killed_by(), Some(15));
}

#[test]
fn a_node_without_its_main_thread_looks_like_a_zombie_and_is_alive() {
    let script = r#"["leave-main-thread", {"on": {"signal": "TERM", "then": {"exit": 5}}},
                     {"start": {"node": "helper", "script": ["hang"]}}, {"emit": "ready"}, "hang"]"#;
    let mut stage = Stage::new(script);
    let root = stage.start();
    stage.did("root", 0);
    assert_eq!(state_and_parent(root), Some(('Z', std::process::id().cast_signed())));
    stage.emitted("root", "ready");
    assert!(stage.is_alive("root"));
    assert_eq!(stage.hello("helper").ppid, root);
    stage.signal("root", Kernel::TERM);
    assert_eq!(stage.exit_code(), Some(5));
}

#[test]
fn a_node_without_its_main_thread_replaces_itself_and_is_whole_again() {
    let script =
        r#"["leave-main-thread", {"report-environment": {}}, "exec-from-thread", {"emit": "after"}, "hang"]"#;
    let mut stage = Stage::new(script);
    let root = stage.start();
    stage.report("root", |report| matches!(report, Report::Environment(_)).then_some(()));
    assert_eq!(stage.hello_number("root", 2).pid, root);
    stage.emitted("root", "after");
    assert_ne!(state_and_parent(root).unwrap().0, 'Z');
}

#[test]
fn who_starts_a_node_in_its_own_memory_is_blocked_until_that_is_gone() {
    let script = r#"[{"on": {"signal": "TERM", "then": {"exit": 7}}}, {"hog-descriptors": 3},
                     {"start": {"node": "before", "script": ["hang"]}},
                     {"start": {"node": "inside", "as": "vfork", "script":
                        [{"on": {"signal": "TERM", "then": "log"}}, {"start": {"node": "below", "script": ["hang"]}},
                         {"emit": "ready"}, "hang"]}},
                     {"emit": "free"}, {"start": {"node": "after", "script": ["hang"]}}, "hang"]"#;
    let mut stage = Stage::new(script);
    let root = stage.start();
    stage.emitted("inside", "ready");
    stage.did("root", 3);
    let inside = stage.hello("inside");
    assert_eq!((inside.ppid, inside.pgid), (root, stage.hello("root").pgid));
    assert_eq!(inside.descriptors.iter().map(|descriptor| descriptor.fd).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(stage.hello("below").ppid, inside.pid);
    eventually("it to be blocked", || state_and_parent(root).unwrap().0 == 'D');
    // Neither the handler of the parent nor anything else of it does anything now.
    stage.signal("root", Kernel::TERM);
    stage.signal("inside", Kernel::TERM);
    stage.report("inside", |report| matches!(report, Report::Signal { signal: 15, .. }).then_some(()));
    assert!(stage.is_alive("root") && stage.is_alive("inside"));
    stage.signal("inside", Kernel::KILL);
    stage.gone("inside");
    assert_eq!(stage.exit_code(), Some(7));
    assert!(stage.is_alive("before"));
}

#[test]
fn who_started_a_node_in_its_own_memory_goes_on_as_it_was_when_that_replaces_itself() {
    let script = r#"[{"on": {"signal": "TERM", "then": "log"}}, {"write": {"to": "stdout", "bytes": 5}},
                     {"start": {"node": "before", "script": [{"await": "op.1.done"}]}},
                     {"start": {"node": "inside", "as": "vfork", "script":
                        ["log-signals", {"await": "op.2.done"}, "exec-from-thread", {"emit": "free"}, "hang"]}},
                     {"emit": "free"}, {"write": {"to": "stdout", "bytes": 5}}, "hang"]"#;
    let mut stage = Stage::new(script);
    let root = stage.start();
    stage.report("inside", |report| matches!(report, Report::Waits { .. }).then_some(()));
    stage.pass("inside", "op.2.done");
    stage.emitted("inside", "free");
    stage.emitted("root", "free");
    stage.did("root", 5);
    let totals = stage.reports("root").into_iter().filter_map(|report| match report {
        Report::Wrote { total, .. } => Some(total),
        _ => None,
    });
    assert_eq!(totals.collect::<Vec<_>>(), [5, 10]);
    let did = |step| {
        stage
            .reports("root")
            .iter()
            .filter(|r| matches!(r, Report::Did { step: s, .. } if *s == step))
            .count()
    };
    assert_eq!(did(3), 1);
    stage.signal("root", Kernel::TERM);
    stage.report("root", |report| matches!(report, Report::Signal { signal: 15, .. }).then_some(()));
    // It still knows the children that it had.
    stage.pass("before", "op.1.done");
    stage.gone("before");
    eventually("the node to be reaped", || children_of(root).len() == 1);
    stage.signal("inside", Kernel::TERM);
    eventually("the other to be reaped", || children_of(root).is_empty());
}

#[test]
fn in_the_memory_of_another_a_node_neither_leaves_its_thread_nor_lends_that_memory_on() {
    let script = r#"[{"start": {"node": "inside", "as": "vfork", "script":
                        ["leave-main-thread", {"start": {"node": "deeper", "as": "vfork", "script": ["hang"]}},
                         {"start": {"node": "below", "script":
                            [{"start": {"node": "deepest", "as": "vfork", "script": ["leave-main-thread", "hang"]}}, "hang"]}},
                         "hang"]}}, "hang"]"#;
    let mut stage = Stage::new(script);
    stage.start();
    for step in [0, 1] {
        assert!(stage.failed("inside", step).contains("the memory of another"));
    }
    // A fork has a memory of its own, to lend once.
    assert!(stage.failed("deepest", 0).contains("the memory of another"));
    stage.did("inside", 2);
}

#[test]
fn who_is_blocked_by_a_node_in_its_memory_dies_from_kill_and_leaves_it() {
    let script = r#"[{"start": {"node": "inside", "as": "vfork", "script": ["hang"]}}, "hang"]"#;
    let mut stage = Stage::new(script);
    stage.start();
    stage.did("root", 0);
    stage.signal("root", Kernel::KILL);
    stage.gone("root");
    assert!(stage.is_alive("inside"));
}
