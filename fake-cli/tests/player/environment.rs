//! What a node takes for itself, and what it gives up.

use std::process::Command;

use fake_cli::control::Report;
use rustix::process::{Resource, Rlimit, Signal};
use rustix::termios::LocalModes;

use crate::stage::Stage;
use crate::terminal::Terminal;

fn open_descriptors(pid: i32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

#[test]
fn descriptors_are_hogged_and_not_passed_on() {
    let script = r#"[{"emit": "before"}, {"await": "op.1.done"}, {"hog-descriptors": 100},
                     {"start": {"node": "helper", "script": ["hang"]}}, "hang"]"#;
    let mut stage = Stage::new(script);
    let root = stage.start();
    stage.report("root", |report| matches!(report, Report::Waits { .. }).then_some(()));
    let before = open_descriptors(root);
    stage.pass("root", "op.1.done");
    stage.did("root", 2);
    stage.did("root", 3);
    assert_eq!(open_descriptors(root), before + 100);
    assert_eq!(stage.hello("helper").descriptors.len(), 3);
    assert!(open_descriptors(stage.hello("helper").pid) < 10);
}

#[test]
fn a_limit_on_descriptors_is_come_to() {
    let mut stage =
        Stage::new(r#"[{"await": "op.1.done"}, {"hog-descriptors": 500}, {"emit": "after"}, "hang"]"#);
    let root = stage.start();
    stage.report("root", |report| matches!(report, Report::Waits { .. }).then_some(()));
    let limit = Rlimit { current: Some(50), maximum: Some(50) };
    rustix::process::prlimit(Some(crate::stage::pid(root)), Resource::Nofile, limit).unwrap();
    stage.pass("root", "op.1.done");
    stage.emitted("root", "after");
    let numbers = std::fs::read_dir(format!("/proc/{root}/fd")).unwrap();
    let number = |entry: std::io::Result<std::fs::DirEntry>| -> u32 {
        entry.unwrap().file_name().into_string().unwrap().parse().unwrap()
    };
    // What was open before under a higher number stays open.
    assert_eq!(numbers.map(number).filter(|number| *number < 50).count(), 50);
}

#[test]
fn memory_is_hogged() {
    let mut stage = Stage::new(r#"[{"hog-memory": 20000000}, "hang"]"#);
    let root = stage.start();
    stage.did("root", 0);
    let status = std::fs::read_to_string(format!("/proc/{root}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kilobytes: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kilobytes * 1024 > 20_000_000, "{kilobytes} kB");
}

#[test]
fn a_lock_file_is_there_while_its_node_lives_and_stays_after_a_kill() {
    let script = r#"[{"lock-file": "database"}, {"lock-file": "database"}, {"await": "op.1.done"}]"#;
    for killed in [false, true] {
        let mut stage = Stage::new(script);
        let root = stage.start();
        stage.did("root", 0);
        assert!(stage.failed("root", 1).contains("another process has the lock"));
        let lock = stage.fake().with_file_name("fake-lock.7.database");
        assert_eq!(std::fs::read_to_string(&lock).unwrap(), format!("{root}\n"));
        stage.report("root", |report| matches!(report, Report::Waits { .. }).then_some(()));
        if killed {
            stage.signal("root", Signal::KILL);
        } else {
            stage.pass("root", "op.1.done");
        }
        stage.gone("root");
        assert_eq!(lock.exists(), killed);
    }
}

#[test]
fn a_lock_stays_with_the_node_that_made_it() {
    let script = r#"[{"lock-file": "one"}, {"start": {"node": "helper", "script": []}}, "clear-environment",
                     {"await": "op.1.done"}]"#;
    let mut stage = Stage::new(script);
    stage.start();
    stage.report("root", |report| matches!(report, Report::Waits { .. }).then_some(()));
    stage.gone("helper");
    let lock = stage.fake().with_file_name("fake-lock.7.one");
    assert!(lock.exists());
    stage.pass("root", "op.1.done");
    stage.gone("root");
    assert!(!lock.exists());
}

#[test]
fn a_node_shows_under_another_name() {
    let mut stage = Stage::new(r#"[{"rename": "a-name-that-is-longer"}, "hang"]"#);
    let root = stage.start();
    stage.did("root", 0);
    assert_eq!(std::fs::read_to_string(format!("/proc/{root}/comm")).unwrap(), "a-name-that-is-\n");
}

#[test]
fn root_becomes_nobody_and_nobody_else_can() {
    let mut stage = Stage::new(r#"["become-nobody", {"emit": "after"}, "hang"]"#);
    let root = stage.start();
    stage.emitted("root", "after");
    let status = std::fs::read_to_string(format!("/proc/{root}/status")).unwrap();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
    let changed = uids.split_ascii_whitespace().all(|uid| uid == "65534");
    let said_so = stage.reports("root").iter().any(|report| matches!(report, Report::Did { step: 0, .. }));
    assert_eq!(changed, said_so);
    if !changed {
        assert!(stage.failed("root", 0).contains("another user"));
    }
    // Its end by the control connection is not a matter of permission.
    stage.close_control();
    stage.dead("root");
}

#[test]
fn a_terminal_is_taken_from_the_foreground_and_made_raw() {
    let terminal = Terminal::open();
    let script = r#"[{"start": {"node": "thief", "as": "own-group", "script":
                        ["take-terminal", {"await": "op.1.done"}, {"die": "TERM"}]}}, "hang"]"#;
    let mut stage = Stage::new(script);
    let mut command = Command::new("setsid");
    command.args(["sh", "-c", r#"exec 3<>"$1"; exec "$0" 3>&-"#]).arg(stage.fake()).arg(terminal.path());
    let root = stage.spawn(&mut command);
    stage.did("thief", 0);
    let thief = stage.hello("thief");
    assert_eq!(thief.terminal.unwrap().foreground, root);
    assert_eq!(terminal.foreground_seen_by(root), thief.pid);
    assert!(!terminal.local_modes().intersects(LocalModes::ECHO | LocalModes::ICANON));
    stage.pass("thief", "op.1.done");
    stage.gone("thief");
    // Nobody has given it back.
    assert!(!terminal.local_modes().contains(LocalModes::ECHO));
}

#[test]
fn who_has_no_terminal_takes_none() {
    let mut stage = Stage::new(r#"["take-terminal", {"exit": 4}]"#);
    let mut command = Command::new("setsid");
    let fake = stage.fake();
    stage.spawn(command.arg(fake));
    assert!(stage.failed("root", 0).contains("controlling terminal"));
    assert_eq!(stage.exit_code(), Some(4));
}
