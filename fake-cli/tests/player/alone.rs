//! The fake as a program of its own, without a control socket.

use std::process::{Command, Output as Ended};

use fake_cli::content::{Content, Output};
use fake_cli::playfile::PlayFile;
use fake_cli::script::Step;
use fake_cli::span::Span;

use crate::stage::{FAKE, Stage, children_of, eventually, prefix, script_file};

fn fake(arguments: &[&str]) -> Ended {
    Command::new(FAKE).args(arguments).output().unwrap()
}

/// Plays a script alone.
fn play(script: &str) -> Ended {
    let folder = tempfile::tempdir().unwrap();
    fake(&[script_file(folder.path(), script).to_str().unwrap()])
}

fn errors(ended: &Ended) -> String {
    String::from_utf8(ended.stderr.clone()).unwrap()
}

/// This very test is one; were it no fake, it would list its tests.
#[cfg(target_env = "gnu")]
#[test]
fn a_program_that_the_player_is_linked_into_is_a_fake_before_its_main() {
    let folder = tempfile::tempdir().unwrap();
    let fake = folder.path().join("fake");
    let play =
        PlayFile { control: None, run: 0, ttl: Span::from_millis(10_000), script: vec![Step::Exit(42)] };
    play.install(&std::env::current_exe().unwrap(), &fake).unwrap();
    let ended = Command::new(&fake).arg("--list").output().unwrap();
    assert_eq!(ended.status.code(), Some(42), "{}", errors(&ended));
    assert_eq!(ended.stdout, b"");
}

#[test]
fn a_list_of_steps_is_played() {
    let ended = play(
        r#" [{"write": {"to": "stdout", "bytes": 50}}, {"await": "op.1.done"}, "clear-environment",
             {"emit": "nothing"}, {"write": {"to": "stdout", "bytes": 50}}, {"exit": 3}]"#,
    );
    assert_eq!(ended.status.code(), Some(3), "{}", errors(&ended));
    assert_eq!(ended.stdout, prefix(Content::Records, Output::Stdout, 100));
    assert_eq!(errors(&ended), "");
}

#[test]
fn a_step_that_fails_is_told() {
    let ended = play(r#"[{"lock-file": "a"}, {"lock-file": "a"}, {"exit": 4}]"#);
    assert_eq!(ended.status.code(), Some(4));
    assert_eq!(errors(&ended), "fake-cli: root: step 1 failed: another process has the lock a\n");
}

#[test]
fn a_shells_script_file_is_gone_when_its_node_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"[{"start": {"node": "n1", "holds": ["stdout"], "as": {"shell": {"by": "sh", "shape": "script-file"}},
        "script": [{"write": {"to": "stdout", "bytes": 32}}]}}, "hang"]"#;
    let file = script_file(folder.path(), &format!(r#"{{"ttl": "10s", "script": {script}}}"#));
    // A second time, because what is left would stand in the way.
    for _ in 0..2 {
        let mut child = Command::new(FAKE).arg(&file).stdout(std::process::Stdio::piped()).spawn().unwrap();
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0; 32]).unwrap();
        let names = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(names.collect::<Vec<_>>(), [file.file_name().unwrap()]);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn a_play_file_is_played_without_its_control_socket() {
    let ended = play(r#"{"control": "/nowhere", "ttl": "40ms", "script": ["hang"]}"#);
    assert_eq!(ended.status.code(), Some(75));
    assert_eq!(errors(&ended), "");
}

#[test]
fn a_handler_starts_nodes_alone_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = script_file(
        folder.path(),
        r#"{"ttl": "10s", "script": [{"on": {"signal": "TERM", "then": {"fork": 1}}}, {"write": {"to": "stdout", "bytes": 1}}, "hang"]}"#,
    );
    let mut child = Command::new(FAKE).arg(file).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let root = child.id().cast_signed();
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
    rustix::process::kill_process(crate::stage::pid(root), rustix::process::Signal::TERM).unwrap();
    let name = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let mut helper = 0;
    eventually("the node", || {
        helper = children_of(root).first().copied().unwrap_or(0);
        name(helper) == "fake:root.fork1\n"
    });
    rustix::process::kill_process(crate::stage::pid(helper), rustix::process::Signal::KILL).unwrap();
    eventually("the node to be reaped", || children_of(root).is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn wrong_arguments_are_a_usage_error() {
    for arguments in [&[][..], &["--jump"], &["a", "b"], &["-"]] {
        let ended = fake(arguments);
        assert_eq!(ended.status.code(), Some(2), "{arguments:?}");
        assert!(errors(&ended).contains("usage: fake-cli SCRIPT.json"), "{arguments:?}");
        assert_eq!(ended.stdout, b"");
    }
}

#[test]
fn help_and_version_are_given_on_stdout() {
    for option in ["--help", "-h", "--version", "-V"] {
        let ended = fake(&[option]);
        assert_eq!(ended.status.code(), Some(0));
        assert!(!ended.stdout.is_empty() && ended.stderr.is_empty());
    }
}

#[test]
fn a_refused_script_is_named_with_its_place_and_what_was_expected() {
    let cases = [
        (r#"[{"jump": 1}]"#, &["script.json", "script[0]", "unknown variant", "expected one of"][..]),
        (r#"[{"write": {"to": "stdout", "bytes": 1, "x": 2}}]"#, &["script[0].write.x", "expected one of"]),
        (r#"["hang", {"sleep": "2m"}]"#, &["script[1]", "longer than 1m"]),
        (r#"{"ttl": "2m", "script": []}"#, &["ttl", "longer than 1m"]),
        (r#"{"script": []}"#, &["missing field `ttl`"]),
        (r#"{"ttl": "1s", "script": ["hang"], "extra": 1}"#, &["extra", "expected one of"]),
        (r#"["hang""#, &["EOF", "line 1"]),
        (r#"["hang"] x"#, &["trailing"]),
        ("", &["EOF"]),
    ];
    for (script, words) in cases {
        let ended = play(script);
        assert_eq!(ended.status.code(), Some(65), "{script}");
        for word in words {
            assert!(errors(&ended).contains(word), "{script}: {word:?} is not in {:?}", errors(&ended));
        }
        assert_eq!(errors(&ended).lines().count(), 1);
    }
}

#[test]
fn a_script_that_cannot_be_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().join("missing\u{1b}[31m"), folder.path().to_owned()] {
        let ended = fake(&[path.to_str().unwrap()]);
        assert_eq!(ended.status.code(), Some(65));
        assert!(!errors(&ended).contains('\u{1b}'));
    }
    let ended = play(&" ".repeat(2_000_000));
    assert_eq!(ended.status.code(), Some(65));
    assert!(errors(&ended).contains("1048576 bytes"), "{}", errors(&ended));
}

#[test]
fn a_refused_play_file_beside_the_fake_ends_it() {
    let stage = Stage::new("[]");
    let mut beside = stage.fake().into_os_string();
    beside.push(".play.json");
    std::fs::write(beside, r#"{"ttl": "1s", "script": ["jump"]}"#).unwrap();
    let ended = stage.command().stderr(std::process::Stdio::piped()).output().unwrap();
    assert_eq!(ended.status.code(), Some(65));
    assert!(errors(&ended).contains("script[0]"));
}
