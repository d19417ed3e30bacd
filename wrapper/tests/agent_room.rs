//! An agent for whose child there is no room at first. Alone in its process, which it starves.
#![cfg(target_os = "linux")]

use std::fs::File;
use std::time::Duration;

use childminder::agent::{Agent, AgentError, Dialect, End, Execution, Fault, Phase, Retries};
use childminder::{Command, Minder, StartError};
use nix::sys::resource::{Resource, setrlimit};

/// No test waits longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(20);

fn agent(retries: Retries) -> Agent {
    let script = r#"cat >/dev/null; echo '{"type":"result","result":"42"}'"#;
    Agent::builder(Dialect::stream_json()).program("/bin/sh").args(["-c", script]).retries(retries).build()
}

fn patient(pause: Duration, most: u32) -> Retries {
    let mut retries = Retries::default();
    (retries.first_pause, retries.longest_pause, retries.jitter) = (pause, pause, false);
    (retries.most, retries.deadline) = (most, None);
    retries
}

/// Begins while there is not one descriptor left, which is given back when this returns.
fn begin_without_room(agent: &Agent) -> Result<Execution, AgentError> {
    let hoard: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    let begun = agent.execute("a prompt");
    drop(hoard);
    begun
}

fn is_for_want_of_room(error: Option<&StartError>) -> bool {
    matches!(error, Some(StartError::Pipe(_) | StartError::Spawn { .. } | StartError::Hold { .. }))
}

#[test]
fn a_first_start_without_room_is_tried_again_after_a_pause_and_is_told_of_if_it_stays_the_last() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        // The thread and what it waits with are there before it gets scarce.
        Command::new("true").run().await.expect("it starts");
        setrlimit(Resource::RLIMIT_NOFILE, 64, 64).expect("a limit can be lowered");

        // There is room after the pause.
        let answers = agent(patient(Duration::from_millis(10), 1));
        let mut execution = begin_without_room(&answers).expect("a pause comes first");
        assert_eq!((execution.phase(), execution.attempts()), (Phase::Pausing, 0));
        let report = tokio::time::timeout(PATIENCE, execution.wait()).await.expect("it ends");
        assert_eq!((report.end, report.attempts), (End::Answered, 1), "{report:?}");
        assert!(report.not_started.is_none(), "the last attempt was started: {report:?}");
        let stats = answers.stats();
        assert_eq!((stats.started, stats.attempts, stats.retries, stats.live), (1, 1, 1, 0));

        // Somebody cancels it before that.
        let waits = agent(patient(Duration::from_secs(600), 1));
        let mut execution = begin_without_room(&waits).expect("a pause comes first");
        execution.cancel();
        let report = tokio::time::timeout(PATIENCE, execution.wait()).await.expect("it ends");
        assert_eq!((report.end, report.attempts), (End::Cancelled, 0));
        assert!(is_for_want_of_room(report.not_started.as_deref()), "{report:?}");
        assert_eq!(waits.stats().attempts, 0);

        // There is none after the pause either.
        let starves = agent(patient(Duration::ZERO, 1));
        let mut execution = begin_without_room(&starves).expect("a pause comes first");
        let hoard: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
        let report = tokio::time::timeout(PATIENCE, execution.wait()).await.expect("it ends");
        drop(hoard);
        assert_eq!((report.end, report.attempts), (End::Failed(Fault::NoRoom), 0));
        assert!(is_for_want_of_room(report.not_started.as_deref()), "{report:?}");

        // It is not worth a pause.
        let error = begin_without_room(&agent(Retries::none())).expect_err("nothing was started");
        assert!(matches!(&error, AgentError::Start(error) if is_for_want_of_room(Some(error))), "{error:?}");
        assert_eq!(Minder::shared().stats().resources.all(), 0, "{:?}", Minder::shared().resources());
    });
}
