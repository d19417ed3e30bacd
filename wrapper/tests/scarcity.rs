//! A start for which there are not enough descriptors fails as a whole. Alone in its process, which it starves.
#![cfg(target_os = "linux")]

use std::fs::File;

use childminder::{Command, Input, StartError};
use nix::errno::Errno;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::wait::{WaitPidFlag, waitpid};

fn open_descriptors() -> usize {
    // One of them is the look itself.
    std::fs::read_dir("/proc/self/fd").expect("a list of descriptors").count() - 1
}

fn hoard_all() -> Vec<File> {
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

#[test]
fn a_start_without_enough_descriptors_is_an_error_and_leaves_neither_child_nor_descriptor() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _inside = runtime.enter();
    // The thread and what it waits with are there before it gets scarce.
    runtime.block_on(Command::new("true").run()).expect("it starts");
    setrlimit(Resource::RLIMIT_NOFILE, 64, 64).expect("a limit can be lowered");
    let before = open_descriptors();

    let mut failures = 0;
    for spare in 0.. {
        let mut hoard = hoard_all();
        hoard.truncate(hoard.len() - spare);
        let started = Command::new("sleep").arg("100").stdin(Input::Bytes("given".into())).start();
        drop(hoard);
        match started {
            Ok(run) => {
                drop(run);
                break;
            }
            Err(StartError::Pipe(_) | StartError::Spawn { .. } | StartError::Hold { .. }) => failures += 1,
            Err(other) => panic!("with {spare} to spare: {other:?}"),
        }
        assert_eq!(open_descriptors(), before, "with {spare} to spare");
        let any_child = waitpid(None, Some(WaitPidFlag::WNOHANG));
        assert_eq!(any_child, Err(Errno::ECHILD), "with {spare} to spare");
    }
    assert!(failures > 3, "it got by with hardly any");
}
