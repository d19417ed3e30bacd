//! Reactions to signals.

use fake_cli::control::Report;
use nix::libc::{SIGALRM, SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use rustix::process::Signal;

use crate::stage::{Stage, children_of, eventually, not_passed_on};

fn reported(stage: &mut Stage, signal: i32) -> (i32, u64) {
    stage.report("root", |report| match report {
        Report::Signal { signal: s, sender, at_ns } if *s == signal => Some((*sender, *at_ns)),
        _ => None,
    })
}

fn never_reported(stage: &Stage, signal: i32) -> bool {
    !stage.reports("root").iter().any(|r| matches!(r, Report::Signal { signal: s, .. } if *s == signal))
}

/// Starts a root with these reactions, as JSON, that logs USR1 and hangs.
fn hanging_with(reactions: &str) -> Stage {
    let script = format!(
        r#"[{reactions}, {{"on": {{"signal": "USR1", "then": "log"}}}}, {{"emit": "ready"}}, "hang"]"#
    );
    let mut stage = Stage::new(&script);
    stage.start();
    stage.emitted("root", "ready");
    stage
}

#[test]
fn a_logged_signal_is_reported_with_its_sender_and_life_goes_on() {
    let mut stage = hanging_with(r#"{"on": {"signal": "TERM", "then": "log"}}"#);
    stage.signal("root", Signal::TERM);
    assert_eq!(reported(&mut stage, SIGTERM).0, std::process::id().cast_signed());
    assert!(stage.is_alive("root"));
}

#[test]
fn the_default_action_comes_back() {
    let mut stage = hanging_with(
        r#"{"on": {"signal": "TERM", "then": "log"}}, {"on": {"signal": "TERM", "then": "default"}}"#,
    );
    stage.signal("root", Signal::TERM);
    assert_eq!(stage.killed_by(), Some(SIGTERM));
    stage.gone("root");
    assert!(!stage.reports("root").iter().any(|report| matches!(report, Report::Exiting { .. })));
}

#[test]
fn an_ignored_signal_does_nothing() {
    let mut stage = hanging_with(r#"{"on": {"signal": "TERM", "then": "ignore"}}"#);
    stage.signal("root", Signal::TERM);
    stage.signal("root", Signal::USR1);
    reported(&mut stage, SIGUSR1);
    assert!(never_reported(&stage, SIGTERM));
}

#[test]
fn a_blocked_signal_stays_pending() {
    let mut stage = hanging_with(r#"{"on": {"signal": "TERM", "then": "block"}}"#);
    let pid = stage.hello("root").pid;
    stage.signal("root", Signal::TERM);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:")).unwrap();
    assert_eq!(u64::from_str_radix(pending.trim(), 16).unwrap(), 1 << (SIGTERM - 1));
    assert!(stage.is_alive("root"));
}

#[test]
fn a_signal_that_was_blocked_by_the_script_comes_when_the_script_reacts_to_it() {
    let script = r#"[{"on": {"signal": "TERM", "then": "block"}}, {"await": "op.1.done"},
                     {"on": {"signal": "TERM", "then": {"exit": 4}}}, "hang"]"#;
    let mut stage = Stage::new(script);
    stage.start();
    stage.report("root", |report| matches!(report, Report::Waits { .. }).then_some(()));
    stage.signal("root", Signal::TERM);
    stage.pass("root", "op.1.done");
    assert_eq!(stage.exit_code(), Some(4));
    // The handler does not return, so the step says that it is done before it lets the signal through.
    stage.report("root", |report| matches!(report, Report::Did { step: 2, .. }).then_some(()));
}

#[test]
fn a_node_exits_from_its_handler() {
    let mut stage = hanging_with(r#"{"on": {"signal": "INT", "then": {"exit": 5}}}"#);
    stage.signal("root", Signal::INT);
    assert_eq!(stage.exit_code(), Some(5));
    reported(&mut stage, SIGINT);
    stage.report("root", |report| matches!(report, Report::Exiting { code: 5, .. }).then_some(()));
}

#[test]
fn a_slow_exit_takes_its_time() {
    let mut stage =
        hanging_with(r#"{"on": {"signal": "TERM", "then": {"exit-slowly": {"takes": "60ms", "code": 6}}}}"#);
    stage.signal("root", Signal::TERM);
    let (_, signalled_ns) = reported(&mut stage, SIGTERM);
    // Other signals are handled meanwhile and do not shorten it.
    stage.signal("root", Signal::USR1);
    stage.signal("root", Signal::TERM);
    let exiting_ns = stage.report("root", |report| match report {
        Report::Exiting { code: 6, at_ns } => Some(*at_ns),
        _ => None,
    });
    assert!(exiting_ns - signalled_ns >= 60_000_000);
    assert_eq!(stage.exit_code(), Some(6));
}

#[test]
fn a_handler_starts_nodes() {
    let mut stage = hanging_with(r#"{"on": {"signal": "TERM", "then": {"fork": 2}}}"#);
    let root = stage.hello("root").pid;
    stage.signal("root", Signal::TERM);
    for node in ["root.fork1", "root.fork2"] {
        let hello = stage.hello(node);
        assert_eq!((hello.run, hello.ppid, hello.pgid), (7, root, stage.hello("root").pgid), "{node}");
        assert_eq!((hello.blocked, hello.ignored), (vec![], vec![]), "{node}");
        assert!(hello.descriptors.iter().all(|descriptor| descriptor.target == "/dev/null"), "{node}");
    }
    assert_eq!(children_of(root).len(), 2);
    stage.signal("root.fork1", Signal::TERM);
    stage.gone("root.fork1");
    eventually("the node to be reaped", || children_of(root).len() == 1);
}

#[test]
fn a_handler_starts_no_more_than_sixteen_nodes() {
    let mut stage = hanging_with(r#"{"on": {"signal": "TERM", "then": {"fork": 10}}}"#);
    let root = stage.hello("root").pid;
    stage.signal("root", Signal::TERM);
    stage.hello("root.fork10");
    stage.signal("root", Signal::TERM);
    stage.hello("root.fork16");
    // Handled only when the handler of TERM has returned or been interrupted, so ask for the end of it, too.
    stage.signal("root", Signal::USR1);
    reported(&mut stage, SIGUSR1);
    assert_eq!(children_of(root).len(), 16);
}

#[test]
fn every_signal_that_can_be_caught_is_logged_on_request() {
    let mut stage = Stage::new(r#"["log-signals", {"emit": "ready"}, "hang"]"#);
    stage.start();
    stage.emitted("root", "ready");
    for signal in [Signal::HUP, Signal::PIPE, Signal::TSTP, Signal::WINCH, Signal::SEGV, Signal::ALARM] {
        stage.signal("root", signal);
        assert_eq!(reported(&mut stage, signal.as_raw()).0, std::process::id().cast_signed());
    }
    assert!(stage.is_alive("root"));
    stage.signal("root", Signal::KILL);
    stage.gone("root");
}

#[test]
fn an_alarm_is_not_taken_by_the_player() {
    let mut stage = hanging_with(r#"{"on": {"signal": "TERM", "then": "log"}}"#);
    stage.signal("root", Signal::ALARM);
    assert_eq!(stage.killed_by(), Some(SIGALRM));
}

#[test]
fn a_sleep_is_not_cut_short_by_handled_signals() {
    // One that was over before the first signal came was not long enough for this machine.
    for millis in [80, 800, 8000] {
        let script = format!(
            r#"[{{"on": {{"signal": "USR1", "then": "log"}}}}, {{"emit": "before"}}, {{"sleep": "{millis}ms"}},
                {{"emit": "after"}}, {{"await": "op.1.done"}}]"#
        );
        let mut stage = Stage::new(&script);
        stage.start();
        stage.emitted("root", "before");
        for _ in 0..5 {
            stage.signal("root", Signal::USR1);
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let at = |stage: &mut Stage, point: &str| {
            stage.report("root", |report| match report {
                Report::Emit { name, at_ns } if name == point => Some(*at_ns),
                _ => None,
            })
        };
        let (before, after) = (at(&mut stage, "before"), at(&mut stage, "after"));
        assert!(after - before >= millis * 1_000_000);
        let first_signal = reported(&mut stage, SIGUSR1).1;
        stage.report("root", |report| matches!(report, Report::Waits { .. }).then_some(()));
        stage.pass("root", "op.1.done");
        assert_eq!(stage.exit_code(), Some(0));
        if first_signal < after {
            return;
        }
    }
    panic!("no signal came while it slept");
}

#[test]
fn nodes_inherit_what_is_ignored_and_blocked_but_not_what_is_handled() {
    let script = r#"[{"on": {"signal": "TERM", "then": "log"}}, {"on": {"signal": "HUP", "then": "ignore"}},
                     {"on": {"signal": "INT", "then": "block"}},
                     {"start": {"node": "helper", "script": [{"on": {"signal": "USR1", "then": "log"}}, {"emit": "ready"}, "hang"]}},
                     {"emit": "ready"}, "hang"]"#;
    let mut stage = Stage::new(script);
    stage.start();
    stage.emitted("root", "ready");
    stage.emitted("helper", "ready");
    let hello = stage.hello("helper");
    assert_eq!((hello.ignored, hello.blocked), (not_passed_on(vec![SIGHUP]), vec![SIGINT]));
    stage.signal("helper", Signal::HUP);
    stage.signal("helper", Signal::INT);
    // It has come to both when it answers this one, which has a higher number.
    stage.signal("helper", Signal::USR1);
    stage.report("helper", |report| matches!(report, Report::Signal { signal: SIGUSR1, .. }).then_some(()));
    assert!(stage.is_alive("helper"));
    stage.signal("helper", Signal::TERM);
    stage.gone("helper");
    stage.signal("root", Signal::TERM);
    reported(&mut stage, SIGTERM);
}

#[test]
fn a_clean_up_leaves_a_receipt_when_it_is_over_and_only_then() {
    let cleaning_up = |takes: &str| {
        hanging_with(&format!(
            r#"{{"on": {{"signal": "TERM", "then": {{"clean-up": {{"takes": "{takes}", "code": 6}}}}}}}}"#
        ))
    };
    let receipt_of = |stage: &Stage| stage.fake().with_file_name("fake-receipt.7.root");

    let mut stage = cleaning_up("20s");
    stage.signal("root", Signal::TERM);
    reported(&mut stage, SIGTERM);
    assert!(!receipt_of(&stage).exists());
    stage.signal("root", Signal::KILL);
    stage.gone("root");
    assert!(!receipt_of(&stage).exists());

    let mut stage = cleaning_up("100ms");
    stage.signal("root", Signal::TERM);
    let (_, asked_ns) = reported(&mut stage, SIGTERM);
    assert_eq!(stage.exit_code(), Some(6));
    let exiting_ns = stage.report("root", |report| match report {
        Report::Exiting { code: 6, at_ns } => Some(*at_ns),
        _ => None,
    });
    assert!(exiting_ns - asked_ns >= 100_000_000);
    assert_eq!(std::fs::read_to_string(receipt_of(&stage)).unwrap(), "cleaned up\n");
}

#[test]
fn a_receipt_is_not_written_over() {
    let mut stage =
        hanging_with(r#"{"on": {"signal": "TERM", "then": {"clean-up": {"takes": "0s", "code": 6}}}}"#);
    std::fs::write(stage.fake().with_file_name("fake-receipt.7.root"), "mine").unwrap();
    stage.signal("root", Signal::TERM);
    assert_eq!(stage.exit_code(), Some(fake_cli::play::code::BROKEN.into()));
}

#[test]
fn a_signal_that_is_raised_again_kills() {
    for name in ["TERM", "INT", "HUP"] {
        let mut stage = hanging_with(&format!(
            r#"{{"on": {{"signal": "{name}", "then": {{"reraise": {{"takes": "30ms"}}}}}}}}"#
        ));
        let signal = match name {
            "TERM" => Signal::TERM,
            "INT" => Signal::INT,
            _ => Signal::HUP,
        };
        stage.signal("root", signal);
        let (_, asked_ns) = reported(&mut stage, signal.as_raw());
        assert_eq!(stage.killed_by(), Some(signal.as_raw()));
        let exiting_ns = stage.report("root", |report| match report {
            Report::Exiting { code, at_ns } if *code == -signal.as_raw() => Some(*at_ns),
            _ => None,
        });
        assert!(exiting_ns - asked_ns >= 30_000_000);
    }
}

#[test]
fn what_does_not_kill_cannot_be_raised_again() {
    let mut stage = Stage::new(r#"[{"on": {"signal": "WINCH", "then": {"reraise": {"takes": "0s"}}}}]"#);
    stage.start();
    assert!(stage.failed("root", 0).contains("does not kill"));
}

#[test]
fn the_first_signals_are_ignored_and_then_one_is_obeyed() {
    let mut stage =
        hanging_with(r#"{"on": {"signal": "TERM", "then": {"ignore-first": {"count": 2, "code": 8}}}}"#);
    let heard = |stage: &Stage| {
        stage.reports("root").iter().filter(|r| matches!(r, Report::Signal { signal: SIGTERM, .. })).count()
    };
    for number in 1..=2 {
        stage.signal("root", Signal::TERM);
        stage.listen_until("the signal", |stage| heard(stage) == number);
        assert!(stage.is_alive("root"));
    }
    stage.signal("root", Signal::TERM);
    assert_eq!(stage.exit_code(), Some(8));
}
