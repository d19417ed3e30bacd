//! What a node says of itself is what the kernel says of it.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use fake_cli::control::Descriptor;
use nix::libc::{SIGINT, SIGPIPE, SIGTERM};

use crate::stage::{Stage, children_of};

fn on_null(fd: i32, mode: &str) -> Descriptor {
    Descriptor { fd, target: "/dev/null".to_owned(), mode: mode.to_owned() }
}

#[test]
fn a_root_says_who_it_is_and_what_it_was_given() {
    let mut stage = Stage::new(r#"["hang"]"#);
    let mut command = stage.command();
    command.process_group(0).env_clear().env("A", "1").env("B", "2");
    let pid = stage.spawn(&mut command);
    let hello = stage.hello("root");
    assert_eq!((hello.run, hello.node.as_str(), hello.pid), (7, "root", pid));
    assert_eq!(hello.ppid, std::process::id().cast_signed());
    assert_eq!(hello.pgid, pid);
    assert_eq!(hello.sid, nix::unistd::getsid(None).unwrap().as_raw());
    assert_eq!(hello.descriptors, [on_null(0, "r"), on_null(1, "w"), on_null(2, "w")]);
    assert_eq!(hello.descriptors_left_out, 0);
    assert_eq!((hello.blocked, hello.ignored), (vec![], vec![]));
    assert_eq!(hello.environment, 2);
    assert!(hello.at_ns > 0);
    let line = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let ticks = line[line.rfind(')').unwrap() + 1..].split_ascii_whitespace().nth(19).unwrap();
    assert_eq!(hello.start_ticks.to_string(), ticks);
}

#[test]
fn the_play_file_is_found_with_no_environment_and_any_arguments() {
    let mut stage = Stage::new(r#"[{"exit": 3}]"#);
    let mut command = stage.command();
    command.env_clear().arg0("another name").args(["--help", "-x", ""]);
    stage.spawn(&mut command);
    assert_eq!(stage.hello("root").environment, 0);
    assert_eq!(stage.exit_code(), Some(3));
}

/// A fake behind a shell line that ends with `exec "$0"`.
fn behind(line: &str, stage: &Stage) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", line]).arg(stage.fake());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

#[test]
fn a_leaked_descriptor_is_told() {
    let mut stage = Stage::new(r#"["hang"]"#);
    let mut command = behind(r#"exec "$0" 5>>/dev/null 7<>/dev/null"#, &stage);
    stage.spawn(&mut command);
    assert_eq!(stage.hello("root").descriptors[3..], [on_null(5, "w"), on_null(7, "rw")]);
}

#[test]
fn a_descriptor_that_was_closed_is_closed_in_spite_of_the_runtime() {
    let mut stage = Stage::new(r#"[{"write": {"to": "stdout", "bytes": 1}}, "hang"]"#);
    let mut command = behind(r#"exec "$0" 0<&- 1>&-"#, &stage);
    stage.spawn(&mut command);
    assert_eq!(stage.hello("root").descriptors, [on_null(2, "w")]);
    assert!(stage.failed("root", 0).contains("Bad file descriptor"));
}

#[test]
fn ignored_signals_are_told_and_sigpipe_only_where_it_really_was() {
    let mut stage = Stage::new(r#"["hang"]"#);
    let mut command = behind(r#"trap '' PIPE TERM; exec "$0""#, &stage);
    stage.spawn(&mut command);
    assert_eq!(stage.hello("root").ignored, [SIGPIPE, SIGTERM]);
}

#[test]
fn blocked_signals_are_told() {
    let script = r#"[{"on": {"signal": "TERM", "then": "block"}}, {"on": {"signal": "INT", "then": "block"}},
                     "clear-environment", "hang"]"#;
    let mut stage = Stage::new(script);
    stage.start();
    assert_eq!(stage.hello_number("root", 2).blocked, [SIGINT, SIGTERM]);
}

#[test]
fn a_started_node_says_the_same_about_itself() {
    let mut stage = Stage::new(r#"[{"start": {"node": "helper", "script": ["hang"]}}, "hang"]"#);
    let root = stage.start();
    let hello = stage.hello("helper");
    assert_eq!((hello.run, hello.ppid, children_of(root)), (7, root, vec![hello.pid]));
    assert_eq!(hello.descriptors, [on_null(0, "rw"), on_null(1, "rw"), on_null(2, "rw")]);
    assert_eq!((hello.blocked, hello.ignored), (vec![], vec![]));
    let name = std::fs::read_to_string(format!("/proc/{}/comm", hello.pid)).unwrap();
    assert_eq!(name, "fake:helper\n");
}
