//! Points in a script that others wait for, and waiting for others.

use fake_cli::control::Report;
use fake_cli::script::Event;

use crate::stage::{Seen, Stage};

#[test]
fn a_node_waits_at_a_gate_until_its_event_passes() {
    let mut stage = Stage::new(r#"[{"emit": "before"}, {"await": "op.2.issued"}, {"emit": "after"}]"#);
    stage.start();
    let event = Event::try_from("op.2.issued").unwrap();
    stage.report("root", |report| (*report == Report::Waits { event: event.clone() }).then_some(()));
    stage.pass("root", "op.1.issued");
    stage.pass("root", "op.2.issued");
    stage.emitted("root", "after");
    stage.did("root", 1);
    assert_eq!(stage.exit_code(), Some(0));
}

#[test]
fn another_event_does_not_open_a_gate() {
    let script =
        r#"[{"on": {"signal": "USR1", "then": "log"}}, {"await": "op.2.issued"}, {"emit": "after"}]"#;
    let mut stage = Stage::new(script);
    stage.start();
    stage.report("root", |report| matches!(report, Report::Waits { .. }).then_some(()));
    stage.pass("root", "op.1.issued");
    // Nor does a signal.
    stage.signal("root", rustix::process::Signal::USR1);
    stage.report("root", |report| matches!(report, Report::Signal { .. }).then_some(()));
    assert!(stage.reports("root").iter().all(|report| !matches!(report, Report::Emit { .. })));
    stage.pass("root", "op.2.issued");
    stage.emitted("root", "after");
}

#[test]
fn an_event_that_has_passed_before_is_not_waited_for() {
    let script = r#"[{"await": "op.1.done"}, {"await": "op.2.done"}]"#;
    let mut stage = Stage::new(script);
    stage.start();
    stage.report("root", |report| matches!(report, Report::Waits { .. }).then_some(()));
    stage.pass("root", "op.2.done");
    stage.pass("root", "op.1.done");
    assert_eq!(stage.exit_code(), Some(0));
}

#[test]
fn hello_is_the_first_and_gone_the_last_thing_seen() {
    let mut stage = Stage::new(r#"[{"emit": "only"}]"#);
    stage.start();
    stage.gone("root");
    assert_eq!(stage.position(|_, seen| matches!(seen, Seen::Report(Report::Hello(_)))), 0);
    assert_eq!(stage.position(|_, seen| *seen == Seen::Gone), 4);
}
