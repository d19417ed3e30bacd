//! What a node says of itself is what the kernel says of it.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use fake_cli::control::{Descriptor, Environment, Report};
use nix::libc::{SIGINT, SIGPIPE, SIGTERM};

use crate::stage::{Stage, children_of, not_passed_on};
use crate::terminal::Terminal;

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
    assert_eq!(stage.hello("root").ignored, not_passed_on(vec![SIGPIPE, SIGTERM]));
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

fn environment(stage: &mut Stage) -> Environment {
    stage.report("root", |report| match report {
        Report::Environment(environment) => Some((**environment).clone()),
        _ => None,
    })
}

#[test]
fn what_a_node_was_given_is_told_on_request() {
    let script = r#"[{"report-environment": {"variables": ["HEADCOUNT_A", "HEADCOUNT_B", "HOME"]}}, "hang"]"#;
    let mut stage = Stage::new(script);
    let line = r#"umask 27; ulimit -n 99; cd /; exec "$0" one 'two words' "#;
    let mut command = behind(line, &stage);
    command.env_clear().env("HEADCOUNT_A", "a value").env("HOME", "/x").env("SECRET", "s");
    let pid = stage.spawn(&mut command);
    let told = environment(&mut stage);
    assert_eq!(told.arguments[1..], ["one", "two words"]);
    assert!(told.arguments[0].ends_with("/fake"), "{told:?}");
    assert_eq!((told.directory.as_str(), told.umask), ("/", 0o27));
    let expected = [("HEADCOUNT_A", Some("a value")), ("HEADCOUNT_B", None), ("HOME", Some("/x"))];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.map(str::to_owned)));
    assert_eq!(told.variables, expected.into());
    assert_eq!((told.nice, told.no_new_privileges), (nix_nice(), false));
    let limit = |name: &str| told.limits.iter().find(|limit| limit.resource == name).unwrap();
    assert_eq!((limit("nofile").soft, limit("nofile").hard), (Some(99), Some(99)));
    let listed = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    assert_eq!(told.limits.len(), listed.lines().count() - 1);
    for (line, name) in
        [("Max core file size", "core"), ("Max processes", "nproc"), ("Max stack size", "stack")]
    {
        let line = listed.lines().find_map(|listed| listed.strip_prefix(line)).unwrap();
        let soft = line.split_ascii_whitespace().next().unwrap();
        let said = limit(name).soft.map_or("unlimited".to_owned(), |soft| soft.to_string());
        assert_eq!(said, soft, "{name}");
    }
}

fn nix_nice() -> i32 {
    rustix::process::getpriority_process(None).unwrap()
}

#[test]
fn long_arguments_are_cut_and_many_are_counted() {
    let mut stage = Stage::new(r#"[{"report-environment": {}}, "hang"]"#);
    let mut command = stage.command();
    command.args([&"x".repeat(100_000)]).args(["y"; 100]);
    stage.spawn(&mut command);
    let told = environment(&mut stage);
    assert_eq!((told.arguments.len(), told.arguments_left_out), (64, 38));
    assert_eq!((told.arguments[1].len(), told.arguments[2].as_str()), (256, "y"));
}

#[test]
fn a_node_that_was_started_afresh_tells_the_arguments_that_it_was_given() {
    let mut stage = Stage::new(r#"["clear-environment", {"report-environment": {}}, "hang"]"#);
    let mut command = stage.command();
    command.args(["one"]);
    stage.spawn(&mut command);
    assert_eq!(environment(&mut stage).arguments[1..], ["one"]);
}

#[test]
fn a_controlling_terminal_is_told_with_its_foreground_group() {
    let terminal = Terminal::open();
    let mut stage = Stage::new(r#"["hang"]"#);
    // The leader of a session without a terminal gets the first one that it opens.
    let mut command = Command::new("setsid");
    command.args(["sh", "-c", r#"exec 3<>"$1"; exec "$0" 3>&-"#]).arg(stage.fake()).arg(terminal.path());
    let pid = stage.spawn(&mut command);
    let told = stage.hello("root").terminal.expect("a terminal");
    assert_eq!((told.number, told.foreground), (terminal.number(), pid));
}

#[test]
fn a_node_without_a_controlling_terminal_says_so() {
    let mut stage = Stage::new(r#"["hang"]"#);
    let mut command = Command::new("setsid");
    command.arg(stage.fake()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    stage.spawn(&mut command);
    assert_eq!(stage.hello("root").terminal, None);
}
