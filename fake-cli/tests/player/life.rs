//! How a node ends, stops, and becomes another image of itself.

use fake_cli::control::Report;
use fake_cli::script::Signal;
use rustix::process::{Signal as Kernel, WaitId, WaitIdOptions, waitid};

use crate::stage::{Seen, Stage, eventually, pid};

fn exiting(stage: &mut Stage) -> i32 {
    stage.report("root", |report| match report {
        Report::Exiting { code, .. } => Some(*code),
        _ => None,
    })
}

#[test]
fn a_node_exits_with_the_code_it_is_told() {
    for code in [0, 3, 255] {
        let mut stage = Stage::new(&format!(r#"[{{"exit": {code}}}, "hang"]"#));
        stage.start();
        assert_eq!(stage.exit_code(), Some(code));
        assert_eq!(exiting(&mut stage), code);
    }
}

#[test]
fn the_end_of_the_script_is_exit_0() {
    let mut stage = Stage::new(r#"[{"emit": "only"}]"#);
    stage.start();
    assert_eq!(stage.exit_code(), Some(0));
    assert_eq!(exiting(&mut stage), 0);
    stage.did("root", 0);
}

#[test]
fn a_node_kills_itself_with_any_signal_that_kills() {
    for signal in Signal::ALL {
        let name = signal.name();
        // Neither ignoring nor blocking nor logging it must keep it alive.
        let before = if signal.can_be_caught() {
            format!(
                r#""log-signals", {{"on": {{"signal": "{name}", "then": "ignore"}}}},
                   {{"on": {{"signal": "{name}", "then": "block"}}}},"#
            )
        } else {
            String::new()
        };
        let mut stage = Stage::new(&format!(r#"[{before} {{"die": "{name}"}}, {{"exit": 9}}]"#));
        stage.start();
        if matches!(
            signal,
            Signal::Stop
                | Signal::Tstp
                | Signal::Cont
                | Signal::Ttin
                | Signal::Ttou
                | Signal::Winch
                | Signal::Chld
        ) {
            let step = if signal.can_be_caught() { 3 } else { 0 };
            assert!(stage.failed("root", step).contains("does not kill"), "{name}");
            assert_eq!(stage.exit_code(), Some(9), "{name}");
        } else {
            assert_eq!(stage.killed_by(), Some(signal.number()), "{name}");
            assert_eq!(exiting(&mut stage), -signal.number(), "{name}");
        }
    }
}

#[test]
fn a_fault_is_a_real_one() {
    for before in ["", r#""log-signals","#, r#"{"on": {"signal": "SEGV", "then": "block"}},"#] {
        let mut stage = Stage::new(&format!(r#"[{before} "fault"]"#));
        stage.start();
        assert_eq!(stage.killed_by(), Some(Signal::Segv.number()));
        assert_eq!(exiting(&mut stage), -Signal::Segv.number());
    }
}

#[test]
fn a_node_stops_itself_and_goes_on_when_continued() {
    let mut stage = Stage::new(r#"["stop", {"exit": 4}]"#);
    let root = stage.start();
    stage.did("root", 0);
    let stopped = || {
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(pid(root)), options).unwrap().is_some_and(|status| status.stopped())
    };
    eventually("the stop", stopped);
    stage.signal("root", Kernel::CONT);
    assert_eq!(stage.exit_code(), Some(4));
    let done = stage.reports("root").into_iter().filter(|r| matches!(r, Report::Did { .. })).count();
    assert_eq!(done, 1);
}

#[test]
fn hanging_takes_no_time_of_the_processor_and_busy_hanging_does() {
    for (step, busy) in [("hang", false), ("busy-hang", true)] {
        let mut stage = Stage::new(&format!(r#"[{{"emit": "ready"}}, "{step}"]"#));
        let root = stage.start();
        stage.emitted("root", "ready");
        let ticks = || {
            let line = std::fs::read_to_string(format!("/proc/{root}/stat")).unwrap();
            let rest = &line[line.rfind(')').unwrap() + 1..];
            rest.split_ascii_whitespace().nth(14 - 3).unwrap().parse::<u64>().unwrap()
        };
        if busy {
            eventually("some use of the processor", || ticks() >= 3);
        } else {
            std::thread::sleep(std::time::Duration::from_millis(50));
            assert!(ticks() < 3);
        }
    }
}

#[test]
fn a_cleared_environment_leaves_the_pid_the_place_in_the_script_and_in_the_output() {
    let script = r#"[{"start": {"node": "helper", "script": [{"await": "op.1.done"}]}},
                     {"write": {"to": "stdout", "bytes": 40}}, {"on": {"signal": "TERM", "then": "log"}},
                     {"on": {"signal": "USR2", "then": "ignore"}}, "clear-environment",
                     {"write": {"to": "stdout", "bytes": 40}}, {"emit": "after"}, "hang"]"#;
    let mut stage = Stage::new(script);
    let mut command = stage.command();
    command.arg("an argument");
    let root = stage.spawn(&mut command);
    let before = stage.hello("root");
    assert!(before.environment > 0);
    let after = stage.hello_number("root", 2);
    assert_eq!((after.pid, after.start_ticks, after.environment), (root, before.start_ticks, 0));
    assert_eq!((&after.descriptors, &after.ignored[..]), (&before.descriptors, &[12][..]));
    stage.did("root", 6);
    let totals: Vec<u64> = stage
        .reports("root")
        .into_iter()
        .filter_map(|report| if let Report::Wrote { total, .. } = report { Some(total) } else { None })
        .collect();
    assert_eq!(totals, [40, 80]);
    let steps: Vec<usize> = stage
        .reports("root")
        .into_iter()
        .filter_map(|report| if let Report::Did { step, .. } = report { Some(step) } else { None })
        .collect();
    assert_eq!(steps, [0, 1, 2, 3, 4, 5, 6]);
    let arguments = std::fs::read(format!("/proc/{root}/cmdline")).unwrap();
    assert!(arguments.split(|byte| *byte == 0).any(|argument| argument == b"an argument"));
    let reexec = stage.position(|_, seen| *seen == Seen::Report(Report::Reexec));
    let gone = stage.position(|node, seen| node == "root" && *seen == Seen::Gone);
    assert!(reexec < gone);
    // What was started before is reaped all the same; what was handled kills.
    stage.pass("helper", "op.1.done");
    stage.gone("helper");
    eventually("the helper to be reaped", || crate::stage::children_of(root).is_empty());
    stage.signal("root", Kernel::USR2);
    stage.signal("root", Kernel::TERM);
    assert_eq!(stage.killed_by(), Some(15));
}

#[test]
fn a_started_node_clears_its_environment_too() {
    let script = r#"[{"start": {"node": "a", "script": [{"start": {"node": "b", "as": "daemon", "script":
                        ["clear-environment", {"emit": "after"}, "hang"]}}, "hang"]}}, "hang"]"#;
    let mut stage = Stage::new(script);
    stage.start();
    let before = stage.hello("b");
    let after = stage.hello_number("b", 2);
    assert_eq!((after.pid, after.sid, after.environment), (before.pid, before.sid, 0));
    stage.emitted("b", "after");
    assert_eq!(std::fs::read_to_string(format!("/proc/{}/comm", after.pid)).unwrap(), "fake:b\n");
}

#[test]
fn a_sleep_in_pieces_takes_as_long_as_all_of_them() {
    let script = r#"[{"on": {"signal": "USR1", "then": "log"}}, {"emit": "before"},
                     {"sleep-in-chunks": {"chunk": "15ms", "times": 5}}, {"emit": "after"}]"#;
    let mut stage = Stage::new(script);
    stage.start();
    stage.emitted("root", "before");
    for _ in 0..5 {
        stage.signal("root", Kernel::USR1);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let mut at = |point: &str| {
        stage.report("root", |report| match report {
            Report::Emit { name, at_ns } if name == point => Some(*at_ns),
            _ => None,
        })
    };
    assert!(at("after") - at("before") >= 75_000_000);
}

#[test]
fn who_is_resolved_to_exit_is_not_hurried_by_signals() {
    let script =
        r#"[{"on": {"signal": "INT", "then": {"exit": 9}}}, {"exit-slowly": {"takes": "80ms", "code": 6}}]"#;
    let mut stage = Stage::new(script);
    stage.start();
    let resolved_ns = stage.report("root", |report| match report {
        Report::Did { step: 1, at_ns } => Some(*at_ns),
        _ => None,
    });
    stage.signal("root", Kernel::TERM);
    stage.signal("root", Kernel::INT);
    assert_eq!(stage.exit_code(), Some(6));
    let exiting_ns = stage.report("root", |report| match report {
        Report::Exiting { code: 6, at_ns } => Some(*at_ns),
        _ => None,
    });
    assert!(exiting_ns - resolved_ns >= 80_000_000);
}
