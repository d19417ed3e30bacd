//! A start that fails is an error that says why, and leaves nothing.

use std::error::Error;
use std::io;

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

#[test]
fn a_start_outside_a_runtime_is_an_error_before_anything_is_started() {
    let witness = std::env::temp_dir().join(format!("childminder-witness-{}", std::process::id()));
    let error = Command::new("touch").arg(&witness).start().expect_err("there is no runtime");
    assert!(matches!(error, StartError::NoRuntime), "{error:?}");
    assert!(!witness.exists());
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
