//! A start that fails is an error that says why, and leaves nothing.

use std::error::Error;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;

use childminder::{Command, StartError};

use crate::scene::{run, sh};

fn kind_of(error: &StartError) -> Option<io::ErrorKind> {
    Some(error.source()?.downcast_ref::<io::Error>()?.kind())
}

#[tokio::test]
async fn a_program_that_is_not_there_is_a_start_error() {
    let error = Command::new("/nowhere/at/all").start().expect_err("there is no such program");
    assert!(matches!(error, StartError::Spawn { .. }), "{error:?}");
    assert_eq!(kind_of(&error), Some(io::ErrorKind::NotFound));
    assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
}

#[tokio::test]
async fn a_program_that_may_not_be_executed_is_a_start_error() {
    let error = Command::new("/etc/passwd").run().await.expect_err("this is no program");
    assert_eq!(kind_of(&error), Some(io::ErrorKind::PermissionDenied));
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_a_start_error() {
    let error = sh("exit 0").current_dir("/nowhere/at/all").start().expect_err("no such directory");
    assert_eq!(kind_of(&error), Some(io::ErrorKind::NotFound));
}

#[tokio::test]
async fn a_start_error_says_which_step_failed() {
    let step = |command: &mut Command| match command.start() {
        Err(StartError::Spawn { doing, .. }) => doing,
        other => panic!("{other:?}"),
    };
    assert_eq!(step(&mut Command::new("/nowhere/at/all")), "execute the program");
    assert_eq!(step(&mut Command::new("nowhere-at-all")), "execute the program");
    assert_eq!(step(&mut Command::new("")), "execute the program");
    assert_eq!(step(sh("exit 0").current_dir("/nowhere/at/all")), "enter the child's directory");
    let passing = "pass the program its arguments and environment";
    assert_eq!(step(Command::new("true").arg("a\0b")), passing);
    assert_eq!(step(Command::new("true").env("A", "a\0b")), passing);
}

#[tokio::test]
async fn a_program_without_a_slash_is_looked_up_in_the_path_of_the_child() {
    let name = format!("childminder-path-{}-{}", crate::HELD_BY, std::process::id());
    let directory = std::env::temp_dir().join(name);
    // One that a process of this number has left.
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir(&directory).expect("a directory");
    std::os::unix::fs::symlink("/bin/sh", directory.join("mine-alone")).expect("a link");
    let mut command = Command::new("mine-alone");
    command.args(["-c", "echo found"]).require(crate::HELD_BY);
    let error = command.start().expect_err("it is not in our own path");
    assert_eq!(kind_of(&error), Some(io::ErrorKind::NotFound));
    // Also behind a place that is none, and one where nobody may look for it.
    command.env("PATH", format!("/nowhere:/etc/passwd:{}", directory.display()));
    assert_eq!(&run(&mut command).await.stdout.bytes[..], b"found\n");
    std::fs::remove_dir_all(&directory).expect("it was made here");
    // A file that is found and may not be executed is the reason, if nothing else is found.
    let error = Command::new("passwd").env("PATH", "/etc:/nowhere").start().expect_err("no program");
    assert_eq!(kind_of(&error), Some(io::ErrorKind::PermissionDenied));
    // Without any path there is one all the same.
    let outcome = run(Command::new("sh").args(["-c", "echo found"]).env_remove("PATH")).await;
    assert_eq!(&outcome.stdout.bytes[..], b"found\n");
}

#[tokio::test]
async fn a_program_with_a_slash_is_looked_up_from_the_directory_of_the_child() {
    let outcome = run(Command::new("./sh").args(["-c", "pwd -P"]).current_dir("/bin")).await;
    assert!(String::from_utf8_lossy(&outcome.stdout.bytes).ends_with("/bin\n"), "{outcome:?}");
}

#[test]
fn a_start_outside_a_runtime_is_an_error_before_anything_is_started() {
    // Whoever is forked for it says so before it becomes the program, and has the pipe open until then.
    let (mut told, tells) = io::pipe().expect("a pipe");
    let mut command = std::process::Command::new("true");
    #[expect(unsafe_code, reason = "a hook cannot be had otherwise")]
    // SAFETY: it makes a system call only.
    unsafe {
        command.pre_exec(move || (&tells).write_all(b"forked"))
    };
    let mut command = Command::from(command);
    let error = command.start().expect_err("there is no runtime");
    assert!(matches!(error, StartError::NoRuntime), "{error:?}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run(&mut command));
    drop(command);
    let mut said = String::new();
    told.read_to_string(&mut said).expect("a pipe can be read");
    assert_eq!(said, "forked", "by the second start, and by the first one not");
}

#[tokio::test]
async fn a_command_can_be_started_again() {
    let mut command = sh("echo again");
    for _ in 0..3 {
        assert_eq!(&run(&mut command).await.stdout.bytes[..], b"again\n");
    }
}

#[tokio::test]
async fn a_command_of_tokio_can_be_taken_over() {
    let mut command = tokio::process::Command::new("sh");
    command.args(["-c", "echo $TAKEN; pwd"]).env("TAKEN", "over").current_dir("/").kill_on_drop(true);
    let outcome = run(&mut Command::from(command)).await;
    assert_eq!(&outcome.stdout.bytes[..], b"over\n/\n");
}

#[tokio::test]
async fn the_environment_is_as_asked() {
    let mut command = Command::new("/usr/bin/env");
    command.env_clear().env("ONE", "1").envs([("TWO", "2"), ("THREE", "3")]).env_remove("TWO");
    let outcome = run(&mut command).await;
    assert_eq!(&outcome.stdout.bytes[..], b"ONE=1\nTHREE=3\n");
}
