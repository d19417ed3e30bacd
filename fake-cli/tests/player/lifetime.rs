//! No node outlives its time to live or its control socket, whatever it is doing.

use std::process::Stdio;

use fake_cli::control::Report;
use fake_cli::play::code;
use fake_cli::span::Span;
use rustix::process::Signal;

use crate::stage::{Stage, children_of, eventually, state_and_parent};

/// Steps in which a node may be stuck. The first step of each script is done when it is about to be.
const STUCK: [&str; 13] = [
    r#"[{"emit": "ready"}, "hang"]"#,
    r#"[{"emit": "ready"}, "busy-hang"]"#,
    r#"[{"emit": "ready"}, {"sleep": "30s"}]"#,
    r#"[{"emit": "ready"}, {"await": "op.1.done"}]"#,
    r#"[{"emit": "ready"}, "read-stdin"]"#,
    r#"[{"emit": "ready"}, {"write": {"to": "stdout", "bytes": 1000000}}]"#,
    r#"[{"emit": "ready"}, {"flood": {"most": 1000000}}]"#,
    r#"[{"emit": "ready"}, {"slow-stream": {"to": "stdout", "chunk": 1, "every": "10s", "times": 5}}]"#,
    r#"[{"emit": "ready"}, {"fork-at-rate": {"node": "w", "every": "10s", "most": 3}}]"#,
    r#"[{"emit": "ready"}, {"sleep-in-chunks": {"chunk": "1s", "times": 30}}]"#,
    r#"[{"emit": "ready"}, {"exit-slowly": {"takes": "30s", "code": 0}}]"#,
    r#"[{"emit": "ready"}, "leave-main-thread", "hang"]"#,
    r#"[{"emit": "ready"}, {"start": {"node": "inside", "as": "vfork", "script": ["hang"]}}]"#,
];

fn started(script: &str, ttl: Span) -> Stage {
    let mut stage = Stage::with_ttl(script, ttl);
    let mut command = stage.command();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    stage.spawn(&mut command);
    stage
}

#[test]
fn the_time_to_live_ends_a_node_that_is_stuck_anywhere() {
    for script in STUCK {
        // Whom the machine has kept from coming to where it is to be stuck, is given longer to live.
        let came_there = [80, 800, 8000].into_iter().any(|millis| {
            let mut stage = started(script, Span::from_millis(millis));
            assert_eq!(stage.exit_code(), Some(code::EXPIRED.into()), "{script}");
            stage.listen_to_the_end();
            if !stage.reports("root").iter().any(|report| matches!(report, Report::Did { step: 0, .. })) {
                return false;
            }
            stage.gone("root");
            let reports = stage.reports("root");
            let expired = i32::from(code::EXPIRED);
            let last = reports.last();
            assert!(
                matches!(last, Some(Report::Exiting { code, .. }) if *code == expired),
                "{script}: {last:?}"
            );
            true
        });
        assert!(came_there, "{script}");
    }
}

#[test]
fn the_time_to_live_ends_each_node_of_a_tree_and_those_in_handlers() {
    let script = r#"[{"on": {"signal": "TERM", "then": {"fork": 1}}},
                     {"on": {"signal": "INT", "then": {"exit-slowly": {"takes": "30s", "code": 0}}}},
                     {"start": {"node": "a", "as": "daemon", "script": ["busy-hang"]}}, {"emit": "ready"}, "hang"]"#;
    let mut stage = Stage::with_ttl(script, Span::from_millis(6000));
    stage.start();
    stage.emitted("root", "ready");
    stage.signal("root", Signal::TERM);
    stage.hello("root.fork1");
    stage.signal("root", Signal::INT);
    assert_eq!(stage.exit_code(), Some(code::EXPIRED.into()));
    for node in ["root", "a", "root.fork1"] {
        stage.gone(node);
        stage.dead(node);
    }
}

#[test]
fn a_cleared_environment_does_not_lengthen_life() {
    let script = r#"[{"sleep": "100ms"}, "clear-environment", {"sleep": "100ms"}, "clear-environment",
                     {"sleep": "100ms"}, "clear-environment", {"exit": 0}]"#;
    // It is to have cleared its environment at least once, for which a machine may need longer.
    let was_cleared = [1, 10].into_iter().any(|times| {
        let script = script.replace("100ms", &format!("{}ms", 100 * times));
        let mut stage = Stage::with_ttl(&script, Span::from_millis(250 * times));
        stage.start();
        assert_eq!(stage.exit_code(), Some(code::EXPIRED.into()));
        stage.listen_to_the_end();
        stage.reports("root").iter().filter(|report| matches!(report, Report::Hello(_))).count() > 1
    });
    assert!(was_cleared);
}

#[test]
fn the_end_of_the_control_connection_ends_a_node_that_is_stuck_anywhere() {
    for script in STUCK {
        let mut stage = started(script, Span::from_millis(30_000));
        stage.did("root", 0);
        stage.close_control();
        stage.dead("root");
        assert_eq!(stage.child().wait().unwrap().code(), Some(code::UNLINKED.into()), "{script}");
    }
}

#[test]
fn the_end_of_the_control_connection_ends_a_tree_wherever_it_hides() {
    let script = r#"[{"on": {"signal": "TERM", "then": {"fork": 2}}},
                     {"on": {"signal": "INT", "then": {"exit-slowly": {"takes": "30s", "code": 0}}}},
                     {"start": {"node": "a", "as": "own-session", "script":
                       ["log-signals", {"start": {"node": "b", "as": "daemon", "script": ["clear-environment", "busy-hang"]}}, "hang"]}},
                     {"start": {"node": "c", "as": "orphan", "script": [{"on": {"signal": "TERM", "then": "ignore"}}, "hang"]}},
                     {"start": {"node": "d", "as": "own-group", "script": ["read-stdin", {"sleep": "30s"}]}},
                     {"fork-at-rate": {"node": "w", "every": "0s", "most": 3}}, {"emit": "ready"}, "hang"]"#;
    let mut stage = Stage::new(script);
    stage.start();
    stage.emitted("root", "ready");
    stage.signal("root", Signal::TERM);
    stage.hello("root.fork2");
    stage.hello_number("b", 2);
    stage.signal("root", Signal::INT);
    stage.report("root", |report| matches!(report, Report::Signal { signal: 2, .. }).then_some(()));
    let nodes = ["root", "a", "b", "c", "d", "w.1", "w.2", "w.3", "root.fork1", "root.fork2"];
    for node in nodes {
        stage.hello(node);
        assert!(stage.is_alive(node), "{node}");
    }
    stage.close_control();
    for node in nodes {
        stage.dead(node);
    }
}

#[test]
fn a_node_without_a_listener_does_not_start() {
    let mut stage = Stage::new(r#"["hang"]"#);
    stage.close_control();
    stage.start();
    assert_eq!(stage.exit_code(), Some(code::UNLINKED.into()));
}

#[test]
fn a_full_backlog_is_waited_for() {
    // More nodes than the listener's backlog holds, and nobody accepts them while they start.
    let mut stage = Stage::new(r#"[{"fork-at-rate": {"node": "w", "every": "0s", "most": 40}}, "hang"]"#);
    let root = stage.start();
    // A start is done when its node has said hello. There is room for the root and eight of them.
    eventually("more nodes than there is room for", || children_of(root).len() > 8);
    let last = children_of(root)[8];
    eventually("the last of them to wait", || state_and_parent(last).unwrap().0 == 'S');
    stage.did("root", 0);
    stage.hello("w.40");
}
