//! What a pid namespace adds to the nanny, and what is different in it.

use std::path::Path;

use childminder::{Ended, Input, Left, Proof, Reason};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::reentry::{Owner, plays, say, unprivileged, wait_to_be_killed};
use crate::scene::{
    LONG_GRACE, assert_all_dead, eventually, held_by, is_alive, lines, pids, run, sh, start, within,
};

/// Two sessions, both deaf.
const DEAF: &str =
    "trap '' TERM; setsid sh -c 'trap \"\" TERM; echo $$; sleep 100; sleep 100' & echo $$; wait; wait";

fn parent_of(pid: u32) -> u32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
    let (_, rest) = stat.rsplit_once(')').expect("a name");
    rest.split_whitespace().nth(1).expect("a parent").parse().expect("a number")
}

fn kill_it(pid: u32) {
    kill(Pid::from_raw(i32::try_from(pid).expect("a pid")), Signal::SIGKILL).expect("it is ours");
}

#[tokio::test]
async fn the_child_sees_nobody_but_its_own() {
    let outcome = run(&mut sh("echo $$ $PPID; cd /proc; echo [0-9]*")).await;
    let said = String::from_utf8_lossy(&outcome.stdout.bytes).into_owned();
    let said: Vec<_> = said.lines().collect();
    assert_eq!(said, ["2 1", "1 2"]);
}

#[tokio::test]
async fn a_signal_to_everybody_reaches_nobody_outside_and_not_the_nanny() {
    let mut bystander = start(sh("echo $$; read line").stdin(Input::Piped));
    let pid = pids(&mut bystander, 1).await;
    let mut run = start(&mut sh("trap '' TERM; kill -TERM -1; kill -KILL 1; echo ok; exit 7"));
    lines(&mut run, 1).await;
    let outcome = within(run.wait()).await;
    assert_eq!(outcome.exit.and_then(|exit| exit.code()), Some(7));
    assert!(is_alive(pid[0]));
}

#[tokio::test]
async fn everybody_is_gone_when_either_nanny_is_killed() {
    for which in ["outer", "inner"] {
        let mut run = start(sh(DEAF).grace(LONG_GRACE));
        let tree = pids(&mut run, 2).await;
        let inner = parent_of(run.pid().expect("it lives"));
        let outer = parent_of(inner);
        assert_eq!(parent_of(outer), std::process::id());
        kill_it(if which == "outer" { outer } else { inner });
        let outcome = within(run.wait()).await;
        assert_all_dead(&tree);
        assert_all_dead(&[inner, outer]);
        assert_eq!(outcome.ended, Ended::Stopped(Reason::ContainmentLost), "{which}");
        assert_eq!(outcome.left, Left::Nobody(Proof::NamespaceGone), "{which}");
    }
}

#[tokio::test]
async fn the_numbers_of_a_receipt_are_those_outside() {
    let mut run = start(sh("trap '' TERM; echo $$; sleep 100; sleep 100").grace(LONG_GRACE));
    let leader = pids(&mut run, 1).await[0];
    assert_eq!(Some(leader), run.pid());
    run.cancel();
    run.cancel();
    let signalled = within(run.wait()).await.signalled.expect("nannies count");
    assert!(signalled.asked.first.contains(&leader), "{signalled:?} lacks {leader}");
    assert!(signalled.killed.first.contains(&leader), "{signalled:?} lacks {leader}");
}

#[tokio::test]
async fn what_the_child_mounts_is_not_mounted_outside() {
    let place = std::env::temp_dir().join(format!("childminder-mount-{}", std::process::id()));
    // One that a process of this number has left.
    let _ = std::fs::remove_dir(&place);
    std::fs::create_dir(&place).expect("a directory");
    let script = format!("mount -t tmpfs none {0} && touch {0}/in && ls {0}", place.display());
    let outcome = run(&mut sh(&script)).await;
    let seen_here = std::fs::read_dir(&place).expect("our own directory").count();
    std::fs::remove_dir(&place).expect("nothing is mounted there");
    // Without rights nothing can be mounted at all.
    let mounted = outcome.stdout.bytes == "in\n";
    assert!(mounted || !nix::unistd::geteuid().is_root(), "{outcome:?}");
    assert_eq!(seen_here, 0);
}

#[tokio::test]
async fn nobody_outlives_an_owner_that_is_killed() {
    const MYSELF: &str = "namespaces::nobody_outlives_an_owner_that_is_killed";
    if plays("owner") {
        let mut run = start(sh(DEAF).grace(LONG_GRACE));
        let tree = pids(&mut run, 2).await;
        let inner = parent_of(tree[1]);
        say(format_args!("{} {} {inner} {}", tree[0], tree[1], parent_of(inner)));
        wait_to_be_killed()
    }
    held_by();
    let mut owner = Owner::start(MYSELF, "owner");
    let everybody: Vec<u32> = owner.says().split(' ').map(|word| word.parse().expect("a pid")).collect();
    assert_eq!(everybody.len(), 4);
    owner.signal(Signal::SIGKILL);
    eventually("they are dead", || !everybody.iter().any(|pid| is_alive(*pid)));
}

#[test]
fn it_is_to_be_had_without_rights_where_user_namespaces_are() {
    held_by();
    let tests = [
        "nobody_survives",
        "nobody_escapes",
        "either_nanny",
        "owner_that_is_killed",
        "exact",
        "keeps_its_user",
    ];
    let Some(said) = unprivileged("", Path::new("/"), &tests) else { return };
    // A refusal of the system is no fault of ours, but it is to be named.
    assert!(
        said.contains("test result: ok")
            || said.contains("cannot make a pid namespace within a user namespace"),
        "{said}"
    );
}

#[tokio::test]
async fn an_owner_in_a_run_can_have_sealed_runs_of_its_own() {
    const MYSELF: &str = "namespaces::an_owner_in_a_run_can_have_sealed_runs_of_its_own";
    if plays("outer owner") {
        let program = std::env::current_exe().expect("our own path");
        let mut command = sh("exec \"$0\" --exact \"$1\"");
        command.arg(program).arg(MYSELF).env("CHILDMINDER_TEST_ROLE", "inner owner");
        let outcome = run(&mut command).await;
        assert!(outcome.success(), "{outcome:?}");
        return;
    }
    if plays("inner owner") {
        let outcome = run(&mut sh("echo $$; sleep 100 & exit 3")).await;
        assert_eq!(
            (outcome.exit.and_then(|exit| exit.code()), &outcome.stdout.bytes[..]),
            (Some(3), &b"2\n"[..])
        );
        return;
    }
    held_by();
    Owner::start(MYSELF, "outer owner").passes();
}

#[tokio::test]
async fn the_child_keeps_its_user_and_its_group() {
    let outcome = run(&mut sh("id -u; id -g")).await;
    let said = String::from_utf8_lossy(&outcome.stdout.bytes).into_owned();
    assert_eq!(said, format!("{}\n{}\n", nix::unistd::geteuid(), nix::unistd::getegid()));
}
