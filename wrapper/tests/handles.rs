//! Runs leave no descriptor and no thread behind. Alone in its process, so that it can count.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use childminder::{Command, Input, Output};

/// Every open descriptor and what it is.
fn descriptors() -> BTreeMap<String, String> {
    let entries = std::fs::read_dir("/proc/self/fd").expect("a list of descriptors");
    entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            // The descriptor that lists the others is gone by now, or shows as this very folder.
            let target = std::fs::read_link(&path).ok()?;
            Some((path.display().to_string(), target.display().to_string()))
        })
        .filter(|(_, target)| !target.contains("/proc/"))
        .collect()
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").expect("a list of threads").count()
}

/// One run of each kind, the failed ones included.
async fn all_kinds_of_runs() {
    let sh = |script: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    };
    sh("echo out; echo err >&2").run().await.expect("it starts");
    sh("exec sleep 100").timeout(Duration::from_millis(1)).run().await.expect("it starts");
    sh("cat").stdin(Input::Bytes("given".into())).run().await.expect("it starts");
    sh("exit 1").stdin(Input::Piped).stdout(Output::Streamed).run().await.expect("it starts");
    sh("setsid sleep 0.05 & exit 0").drain(Duration::ZERO).run().await.expect("it starts");
    sh("trap '' TERM; sleep 100")
        .timeout(Duration::from_millis(1))
        .grace(Duration::from_millis(1))
        .run()
        .await
        .expect("it starts");
    drop(sh("exec sleep 100").stdin(Input::Piped).start().expect("it starts"));
    Command::new("/nowhere").stdin(Input::Piped).start().expect_err("there is no such program");
    sh(":").current_dir("/nowhere").start().expect_err("there is no such directory");
}

#[test]
fn neither_descriptors_nor_threads_grow_with_the_number_of_runs() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let bare = descriptors();
    // The first runs bring what stays for good: the thread, and what it waits with.
    runtime.block_on(all_kinds_of_runs());
    until(|| only_lasting(&bare));
    let (before, threads_before) = (descriptors(), threads());
    for _ in 0..50 {
        runtime.block_on(all_kinds_of_runs());
    }
    until(|| descriptors() == before);
    assert_eq!(descriptors(), before);
    assert_eq!(threads(), threads_before);
}

/// Whether nothing of a run is left: neither a pipe nor a process handle that was not there at first.
fn only_lasting(bare: &BTreeMap<String, String>) -> bool {
    let passing = |target: &str| target.starts_with("pipe:") || target.contains("pidfd");
    descriptors().iter().all(|(fd, target)| bare.get(fd) == Some(target) || !passing(target))
}

/// Dropped runs end in the background: looks until it is so, but not for ever.
fn until(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !is_so() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
}
