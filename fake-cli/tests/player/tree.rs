//! Starting other nodes.

use fake_cli::control::Report;
use rustix::process::Signal;

use crate::stage::{Stage, children_of, eventually, state_and_parent};

/// A root that started a hanging helper at a place.
fn with_helper(place: &str) -> Stage {
    let script =
        format!(r#"[{{"start": {{"node": "helper", "as": "{place}", "script": ["hang"]}}}}, "hang"]"#);
    let mut stage = Stage::new(&script);
    stage.start();
    stage.did("root", 0);
    stage
}

#[test]
fn a_node_starts_in_the_same_group() {
    let mut stage = with_helper("same-group");
    let (root, helper) = (stage.hello("root"), stage.hello("helper"));
    assert_eq!((helper.ppid, helper.pgid, helper.sid), (root.pid, root.pgid, root.sid));
}

#[test]
fn a_node_starts_in_a_group_of_its_own() {
    let mut stage = with_helper("own-group");
    let (root, helper) = (stage.hello("root"), stage.hello("helper"));
    assert_eq!((helper.ppid, helper.pgid, helper.sid), (root.pid, helper.pid, root.sid));
}

#[test]
fn a_node_starts_in_a_session_of_its_own() {
    let mut stage = with_helper("own-session");
    let (root, helper) = (stage.hello("root"), stage.hello("helper"));
    assert_eq!((helper.ppid, helper.pgid, helper.sid), (root.pid, helper.pid, helper.pid));
}

#[test]
fn an_orphan_stays_in_the_group_and_loses_its_parent() {
    let mut stage = with_helper("orphan");
    let (root, helper) = (stage.hello("root"), stage.hello("helper"));
    assert_eq!((helper.pgid, helper.sid), (root.pgid, root.sid));
    assert_ne!(helper.ppid, root.pid);
    assert_eq!(state_and_parent(helper.pid).unwrap().1, helper.ppid);
    assert_eq!(children_of(root.pid), [0; 0]);
}

#[test]
fn a_daemon_has_a_session_but_does_not_lead_it_and_loses_its_parent() {
    let mut stage = with_helper("daemon");
    let (root, helper) = (stage.hello("root"), stage.hello("helper"));
    assert_ne!(helper.sid, root.sid);
    assert_ne!(helper.sid, helper.pid);
    assert_eq!(helper.pgid, helper.sid);
    assert_ne!(helper.ppid, root.pid);
    assert_eq!(children_of(root.pid), [0; 0]);
}

#[test]
fn a_subreaper_adopts_what_its_descendants_orphan_and_only_that() {
    for place in ["orphan", "daemon"] {
        let script = format!(
            r#"[{{"start": {{"node": "reaper", "script": ["subreaper", {{"start": {{"node": "middle", "script": [
                    {{"start": {{"node": "away", "as": "{place}", "script": ["hang"]}}}}, "hang"]}}}}, "hang"]}}}},
                {{"start": {{"node": "other", "as": "{place}", "script": ["hang"]}}}}, {{"emit": "ready"}}, "hang"]"#
        );
        let mut stage = Stage::new(&script);
        stage.start();
        stage.emitted("root", "ready");
        let reaper = stage.hello("reaper").pid;
        assert_eq!(stage.hello("away").ppid, reaper, "{place}");
        assert_ne!(stage.hello("other").ppid, reaper, "{place}");
        // What it has adopted outlives it, and then belongs to whoever stands above.
        stage.signal("reaper", Signal::KILL);
        stage.gone("reaper");
        let away = stage.hello("away").pid;
        eventually("another parent", || state_and_parent(away).unwrap().1 != reaper);
        assert!(stage.is_alive("away"), "{place}");
    }
}

#[test]
fn a_start_is_done_when_the_node_has_said_hello() {
    for place in ["same-group", "own-group", "own-session", "orphan", "daemon"] {
        let mut stage = with_helper(place);
        stage.hello("helper");
        let at = |stage: &mut Stage| {
            stage.report("root", |report| match report {
                Report::Did { step: 0, at_ns } => Some(*at_ns),
                _ => None,
            })
        };
        assert!(at(&mut stage) >= stage.hello("helper").at_ns, "{place}");
    }
}

#[test]
fn a_tree_of_nodes_plays_each_its_own_script() {
    let script = r#"[{"start": {"node": "a", "script": [
                        {"start": {"node": "b", "as": "own-session", "script": [{"emit": "leaf"}, "hang"]}},
                        {"emit": "middle"}, {"exit": 9}]}},
                     {"emit": "top"}, "hang"]"#;
    let mut stage = Stage::new(script);
    stage.start();
    stage.emitted("root", "top");
    stage.emitted("b", "leaf");
    stage.emitted("a", "middle");
    stage.gone("a");
    assert!(stage.is_alive("b") && stage.is_alive("root"));
}

#[test]
fn the_death_of_a_parent_shows_although_its_nodes_live() {
    let mut stage = with_helper("same-group");
    stage.signal("root", Signal::KILL);
    stage.gone("root");
    assert!(stage.is_alive("helper"));
}

#[test]
fn a_node_that_exits_is_reaped_by_its_parent() {
    for waiting in [r#""hang""#, r#""busy-hang""#, r#"{"sleep": "20s"}"#, r#"{"await": "op.1.done"}"#] {
        let script = format!(r#"[{{"start": {{"node": "helper", "script": []}}}}, {waiting}]"#);
        let mut stage = Stage::new(&script);
        let root = stage.start();
        stage.gone("helper");
        eventually("the node to be reaped", || children_of(root).is_empty());
    }
}

#[test]
fn forks_at_a_rate_stop_at_their_bound() {
    let mut stage = Stage::new(r#"[{"fork-at-rate": {"node": "w", "every": "1ms", "most": 7}}, "hang"]"#);
    let root = stage.start();
    stage.did("root", 0);
    for number in 1..=7 {
        assert_eq!(stage.hello(&format!("w.{number}")).ppid, root);
    }
    assert_eq!(children_of(root).len(), 7);
}

#[test]
fn zombies_stay() {
    let mut stage = Stage::new(r#"[{"zombies": 4}, "hang"]"#);
    let root = stage.start();
    stage.did("root", 0);
    let zombies = children_of(root);
    assert_eq!(zombies.len(), 4);
    assert!(zombies.iter().all(|pid| state_and_parent(*pid) == Some(('Z', root))));
}

#[test]
fn a_node_holds_only_what_it_is_told_to() {
    let script = r#"[{"start": {"node": "helper", "holds": ["stdout"], "script": ["hang"]}}, "hang"]"#;
    let mut stage = Stage::new(script);
    let mut command = stage.command();
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    stage.spawn(&mut command);
    stage.did("root", 0);
    let (root, helper) = (stage.hello("root"), stage.hello("helper"));
    let targets = |hello: fake_cli::control::Hello| {
        hello.descriptors.into_iter().map(|descriptor| (descriptor.fd, descriptor.target)).collect::<Vec<_>>()
    };
    let null = "/dev/null".to_owned();
    let stdout = targets(root)[1].1.clone();
    assert!(stdout.starts_with("pipe:"));
    assert_eq!(targets(helper), [(0, null.clone()), (1, stdout), (2, null)]);
}

#[test]
fn a_start_that_fails_says_why() {
    // The helper cannot reach the control socket once its path is gone.
    let script = r#"[{"await": "op.1.done"}, {"start": {"node": "helper", "script": []}}, {"exit": 3}]"#;
    let mut stage = Stage::new(script);
    stage.start();
    stage.report("root", |report| matches!(report, Report::Waits { .. }).then_some(()));
    std::fs::remove_file(stage.fake().with_file_name("control")).unwrap();
    stage.pass("root", "op.1.done");
    assert!(stage.failed("root", 1).contains("control socket"));
    assert_eq!(stage.exit_code(), Some(3));
}

#[test]
fn a_group_of_its_own_is_there_before_the_start_is_done() {
    let mut stage = with_helper("own-group");
    let helper = stage.hello("helper");
    let done_ns = stage.report("root", |report| match report {
        Report::Did { step: 0, at_ns } => Some(*at_ns),
        _ => None,
    });
    assert!(helper.pgid == helper.pid && helper.at_ns <= done_ns);
    rustix::process::kill_process_group(crate::stage::pid(helper.pid), Signal::KILL).unwrap();
    stage.gone("helper");
    assert!(stage.is_alive("root"));
}
