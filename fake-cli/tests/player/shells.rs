//! Nodes behind shells.

use std::path::Path;

use fake_cli::control::Report;
use rustix::process::Signal;

use crate::stage::{Stage, children_of, eventually, state_and_parent};

const SHELLS: [&str; 3] = ["sh", "dash", "bash"];

fn is_here(shell: &str) -> bool {
    ["/bin", "/usr/bin"].iter().any(|folder| Path::new(folder).join(shell).exists())
}

/// A root with a hanging worker behind a shell.
fn with_worker(shell: &str, shape: &str) -> Stage {
    let script = format!(
        r#"[{{"start": {{"node": "worker", "as": {{"shell": {{"by": "{shell}", "shape": "{shape}"}}}}, "holds": ["stdin"],
                        "script": [{{"emit": "ready"}}, "hang"]}}}}, {{"emit": "after"}}, "hang"]"#
    );
    let mut stage = Stage::new(&script);
    stage.start();
    if is_here(shell) {
        stage.report("root", |report| matches!(report, Report::Waits { .. }).then_some(()));
        stage.hello("worker");
        assert!(!stage.reports("root").iter().any(|report| matches!(report, Report::Did { .. })));
        stage.pass("root", "run.7.worker.hello");
        stage.did("root", 0);
        stage.emitted("worker", "ready");
    }
    stage
}

#[test]
fn a_shell_of_any_shape_stands_above_its_node_in_the_same_group() {
    for shell in SHELLS {
        for shape in ["and-true", "background", "subshell", "pipeline", "script-file"] {
            let mut stage = with_worker(shell, shape);
            if !is_here(shell) {
                assert!(stage.failed("root", 0).contains("no "), "{shell}");
                continue;
            }
            let (root, worker) = (stage.hello("root"), stage.hello("worker"));
            assert_eq!((worker.pgid, worker.sid), (root.pgid, root.sid), "{shell} {shape}");
            assert_ne!(worker.ppid, root.pid, "{shell} {shape}");
            let above = state_and_parent(worker.ppid).unwrap().1;
            let above = if above == root.pid { above } else { state_and_parent(above).unwrap().1 };
            assert_eq!(above, root.pid, "{shell} {shape}");
            let targets: Vec<String> = worker.descriptors.into_iter().map(|d| d.target).collect();
            assert_eq!(targets[0], "/dev/null");
            assert_eq!(targets.len(), 3, "{shell} {shape}: {targets:?}");
            // The shell goes when its node has gone.
            stage.signal("worker", Signal::KILL);
            eventually("the shell to be reaped", || children_of(root.pid).is_empty());
        }
    }
}

#[test]
fn a_plain_shell_is_gone_or_stands_above_its_node() {
    for shell in SHELLS.into_iter().filter(|shell| is_here(shell)) {
        let mut stage = with_worker(shell, "plain");
        let (root, worker) = (stage.hello("root"), stage.hello("worker"));
        let above = state_and_parent(worker.ppid).unwrap().1;
        assert!(worker.ppid == root.pid || above == root.pid, "{shell}");
    }
}

#[test]
fn a_pipeline_reads_what_its_node_writes() {
    let script = r#"[{"start": {"node": "worker", "as": {"shell": {"by": "sh", "shape": "pipeline"}},
                        "script": [{"write": {"to": "stdout", "bytes": 200000}}, {"emit": "through"}, "hang"]}}]"#;
    let mut stage = Stage::new(script);
    stage.start();
    stage.emitted("worker", "through");
    assert!(stage.hello("worker").descriptors[1].target.starts_with("pipe:"));
}

#[test]
fn a_chain_of_launchers_is_a_script_file_a_shell_a_runtime_and_a_worker() {
    let script = r#"[{"start": {"node": "runtime", "as": {"shell": {"by": "sh", "shape": "script-file"}}, "script": [
                        {"rename": "runtime"}, {"start": {"node": "worker", "script": ["hang"]}}, {"emit": "up"}, "hang"]}}]"#;
    let mut stage = Stage::new(script);
    let root = stage.start();
    stage.emitted("runtime", "up");
    let (runtime, worker) = (stage.hello("runtime"), stage.hello("worker"));
    assert_eq!(worker.ppid, runtime.pid);
    assert_eq!(state_and_parent(runtime.ppid).unwrap().1, root);
    let file = stage.fake().with_file_name("fake-script.7.runtime");
    let arguments = std::fs::read(format!("/proc/{}/cmdline", runtime.ppid)).unwrap();
    assert!(
        arguments.split(|byte| *byte == 0).any(|word| Path::new(std::str::from_utf8(word).unwrap()) == file)
    );
    assert_eq!(std::fs::read_to_string(format!("/proc/{}/comm", runtime.pid)).unwrap(), "runtime\n");
}

#[test]
fn a_shell_that_is_killed_before_its_node_spoke_is_told() {
    let script = r#"[{"await": "op.1.done"},
        {"start": {"node": "worker", "as": {"shell": {"by": "sh", "shape": "and-true"}}, "script": ["hang"]}}, {"exit": 3}]"#;
    let mut stage = Stage::new(script);
    stage.start();
    stage.report("root", |report| matches!(report, Report::Waits { .. }).then_some(()));
    // The worker cannot reach the control socket once its path is gone.
    std::fs::remove_file(stage.fake().with_file_name("control")).unwrap();
    stage.pass("root", "op.1.done");
    assert!(stage.failed("root", 1).contains("the shell was gone"));
    assert_eq!(stage.exit_code(), Some(3));
}
