//! An owner that has closed its own standard streams, so that pipes get their numbers. Alone in its process, which has
//! none of them for a while.
#![cfg(target_os = "linux")]

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use childminder::{Command, Containment, Input, Outcome};
use nix::unistd::{close, dup2_stderr, dup2_stdin, dup2_stdout};

fn put_away() -> [OwnedFd; 3] {
    let away = [
        io::stdin().as_fd().try_clone_to_owned(),
        io::stdout().as_fd().try_clone_to_owned(),
        io::stderr().as_fd().try_clone_to_owned(),
    ];
    let away = away.map(|stream| stream.expect("a stream can be duplicated"));
    for number in 0..3 {
        close(number).expect("it was open");
    }
    away
}

fn put_back([stdin, stdout, stderr]: [OwnedFd; 3]) {
    dup2_stdin(stdin).expect("a number that is free");
    dup2_stdout(stdout).expect("a number that is free");
    dup2_stderr(stderr).expect("a number that is free");
}

fn run(runtime: &tokio::runtime::Runtime, containment: Containment, input: Input) -> Outcome {
    let mut command = Command::new("sh");
    command.args(["-c", "cat; echo wrong >&2; ls /proc/self/fd | tr '\\n' ' '"]);
    command.require(containment).stdin(input);
    runtime.block_on(async { command.run().await }).expect("it starts")
}

#[test]
fn a_child_gets_its_own_streams_although_its_owner_has_closed_its() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for containment in [Containment::Group, Containment::Nanny] {
        // What stays for good is there before the numbers are free.
        run(&runtime, containment, Input::Null);
        let away = put_away();
        let outcomes =
            [Input::Bytes("given ".into()), Input::Null].map(|input| run(&runtime, containment, input));
        put_back(away);
        for (outcome, expected) in outcomes.iter().zip(["given 0 1 2 3 ", "0 1 2 3 "]) {
            assert_eq!(String::from_utf8_lossy(&outcome.stdout.bytes), expected, "{outcome:?}");
            assert_eq!(&outcome.stderr.bytes[..], b"wrong\n", "{outcome:?}");
        }
    }
}
