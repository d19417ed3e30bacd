//! What a minder and an agent tell, as JSON.
#![cfg(target_os = "linux")]

use std::time::Duration;

use childminder::agent::{Agent, Dialect, Retries};
use childminder::{Command, Kind, Minder};
use serde_json::{Value, json, to_value};

#[tokio::test]
async fn everything_that_a_minder_tells_can_be_serialised() {
    let minder = Minder::new();
    let mut moves = minder.transitions();
    let mut command = Command::new("sleep");
    let run = command.arg("600").minder(&minder).note("who", "me").start().expect("it starts");
    let stays = minder.register(Kind::Task, "it stays");

    let stats = to_value(minder.stats()).expect("it can be");
    assert_eq!(
        stats["resources"],
        json!({ "process": 1, "stream": 2, "task": 1, "timer": 0, "signal_handler": 0 })
    );
    assert_eq!((&stats["starts"], &stats["runs"]["running"]), (&json!(1), &json!(1)));
    assert!(stats["oldest_ms"].is_f64() && stats["time_to_empty"]["p50_ms"].is_f64(), "{stats}");

    let leaks = to_value(minder.overdue(Duration::ZERO)).expect("it can be");
    let process = &leaks["overdue"][0];
    assert_eq!((&process["kind"], &process["state"]), (&json!("process"), &json!("running")));
    assert_eq!((&process["run"], &process["pid"]), (&json!(run.id().to_string()), &json!(run.pid())));
    assert_eq!((&process["description"], &process["metadata"]), (&json!("sleep"), &json!([["who", "me"]])));
    assert!(process["created_at"].as_str().is_some_and(|place| place.starts_with(file!())), "{process}");

    let made = moves.next().await.expect("a move").expect("none is missed");
    assert_eq!(to_value(made).expect("it can be")["to"], json!("starting"));

    let report = to_value(minder.shutdown(Duration::from_secs(8)).await).expect("it can be");
    assert_eq!((&report["cleaned"]["process"], &report["failed"]["task"]), (&json!(1), &json!(1)));
    let error: &Value = &report["errors"][0];
    assert_eq!((&error["resource"]["description"], error["why"].is_string()), (&json!("it stays"), true));
    drop(stays);
}

#[tokio::test]
async fn everything_that_an_agent_tells_can_be_serialised() {
    let agent = Agent::builder(Dialect::plain_text())
        .program("/bin/sh")
        .args(["-c", "echo said; exit 3"])
        .retries(Retries::none())
        .minder(&Minder::new())
        .build();
    let mut execution = agent.execute("a prompt").expect("it starts");
    execution.wait().await;
    agent.execute("").expect_err("it is no prompt");
    assert_eq!(
        to_value(agent.stats()).expect("it can be"),
        json!({
            "started": 1, "refused": 1, "live": 0, "ends": { "failed: exit code": 1 }, "attempts": 1, "retries": 0,
            "messages": { "text": 1 }, "dropped_bytes": 0, "breaker": "closed",
        })
    );
    let cleanup = to_value(agent.cleanup().await).expect("it can be");
    assert_eq!(cleanup, json!({ "cleaned": 0, "failed": [] }));
}
