//! A command of the standard library's, or of tokio's, keeps what it carries, and is held like any other.

use std::os::unix::process::CommandExt;
use std::time::Duration;

use childminder::{Command, Left, StartError};
use nix::unistd::Uid;

use crate::HELD_BY;
use crate::scene::{assert_all_dead, eventually, lines, pids, run, start, state_of, within};

fn converted(script: &str, prepare: impl FnOnce(&mut std::process::Command)) -> Command {
    let mut command = std::process::Command::new("sh");
    command.args(["-c", script]);
    prepare(&mut command);
    let mut command = Command::from(command);
    command.require(HELD_BY);
    command
}

async fn said(script: &str, prepare: impl FnOnce(&mut std::process::Command)) -> String {
    let outcome = run(&mut converted(script, prepare)).await;
    assert!(outcome.success(), "{outcome:?}");
    String::from_utf8_lossy(&outcome.stdout.bytes).trim().to_owned()
}

#[tokio::test]
async fn its_environment_is_what_it_was_told() {
    let told = said("echo $ONE-$HOME", |command| _ = command.env_clear().env("ONE", "1")).await;
    assert_eq!(told, "1-");
    let told = said("echo $ONE-${PATH:+inherited}", |command| _ = command.env("ONE", "1")).await;
    assert_eq!(told, "1-inherited");
}

#[tokio::test]
async fn its_name_is_what_it_was_told() {
    assert_eq!(said("echo $0", |command| _ = command.arg0("renamed")).await, "renamed");
}

#[tokio::test]
async fn its_user_is_what_it_was_told() {
    if Uid::effective().is_root() {
        assert_eq!(said("id -u; id -g", |command| _ = command.uid(65534).gid(65533)).await, "65534\n65533");
    } else {
        eprintln!("not run: only root can change to another user");
    }
}

#[tokio::test]
async fn a_group_that_it_was_told_to_lead_does_not_hinder() {
    let led = said("cut -d' ' -f 1,5 /proc/$$/stat", |command| _ = command.process_group(0)).await;
    let (pid, group) = led.split_once(' ').expect("two numbers");
    assert_eq!(pid, group);
}

#[tokio::test]
async fn its_input_and_descriptors_are_its_own() {
    let listed = said("cat; ls /proc/$$/fd | tr '\\n' ' '", |_| {}).await;
    // A shell may keep one more for itself.
    assert!(listed.starts_with("0 1 2"), "{listed}");
    let mut command = converted("cat", |_| {});
    let outcome = run(command.stdin(childminder::Input::Bytes("to be read".into()))).await;
    assert_eq!(&outcome.stdout.bytes[..], b"to be read");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_an_error_that_leaves_nobody() {
    let command = std::process::Command::new("/nowhere/no-program");
    let refused = Command::from(command).require(HELD_BY).start();
    let Err(StartError::Spawn { source, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
}

#[tokio::test]
async fn its_tree_is_held() {
    for _ in 0..2 {
        let script = "sleep 100 & echo $!; echo $$; wait";
        let mut run = start(converted(script, |_| {}).grace(Duration::from_millis(100)));
        let tree = pids(&mut run, 2).await;
        assert_eq!(run.pid(), Some(tree[1]), "the pid is the program's");
        run.cancel();
        let outcome = within(run.wait()).await;
        assert_all_dead(&tree);
        assert!(matches!(outcome.left, Left::Nobody(_)), "{outcome:?}");
    }
}

#[tokio::test]
async fn it_can_be_started_again_and_again() {
    let mut command = converted("echo $$; exit 5", |_| {});
    for _ in 0..3 {
        let mut run = start(&mut command);
        let pid = run.pid();
        lines(&mut run, 1).await;
        let outcome = within(run.wait()).await;
        assert_eq!(outcome.exit.and_then(|exit| exit.code()), Some(5));
        eventually("it is reaped", || pid.is_none_or(|pid| state_of(pid).is_none()));
    }
}
