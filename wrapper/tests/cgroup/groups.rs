//! What a control group adds to the nanny, and that none is left behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use childminder::{Command, Containment, Ended, Input, Left, Proof, Reason, Run};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::reentry::{Owner, plays, say, unprivileged, wait_to_be_killed};
use crate::scene::{
    LONG_GRACE, assert_all_dead, eventually, held_by, is_alive, perl, pids, run, sh, start, within,
};

/// The control group of a live process, as a directory.
fn group_of(pid: u32) -> PathBuf {
    let own = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it lives");
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).expect("a group of version 2");
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("a list of mounts");
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 ")).expect("it is mounted");
    Path::new(line.split(' ').nth(4).expect("a mount point")).join(own)
}

/// What childminder has made for an owner.
fn directories_of(owner: u32) -> Vec<PathBuf> {
    let home = fs::read_dir(group_of(std::process::id())).expect("our own group");
    let is_its = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with("childminder-") && name.contains(&format!("-{owner}-"))
    };
    home.filter_map(|entry| Some(entry.ok()?.path())).filter(is_its).collect()
}

fn session_leader(pid: u32) -> Pid {
    nix::unistd::getsid(Some(Pid::from_raw(i32::try_from(pid).expect("a pid")))).expect("it lives")
}

/// A run whose leader ignores requests and waits for the end of its input, and the leader's group.
async fn waiting() -> (Run, PathBuf) {
    let mut run = start(sh("trap '' TERM; echo $$; read line").stdin(Input::Piped));
    let leader = pids(&mut run, 1).await[0];
    (run, group_of(leader))
}

/// Ends such a run the hard way.
async fn kill_in(mut run: Run) {
    // Else it would end by itself.
    let _input = run.stdin();
    run.cancel();
    run.cancel();
    let outcome = within(run.wait()).await;
    assert!(matches!(outcome.left, Left::Nobody(_)), "{outcome:?}");
    assert!(outcome.stop.is_some_and(|stop| stop.killed.is_some()));
}

#[tokio::test]
async fn the_child_is_in_a_group_of_its_own_and_the_nanny_is_not() {
    let (one, its) = waiting().await;
    let (_other, others) = waiting().await;
    assert_ne!(its, others);
    let nanny = session_leader(one.pid().expect("it lives")).as_raw().unsigned_abs();
    assert_eq!(group_of(nanny), group_of(std::process::id()));
    assert!(its.starts_with(group_of(nanny)), "{}", its.display());
}

/// Two sessions, both deaf.
const DEAF: &str =
    "trap '' TERM; setsid sh -c 'trap \"\" TERM; echo $$; sleep 100; sleep 100' & echo $$; wait; wait";

#[tokio::test]
async fn everybody_is_found_by_the_group_when_the_nanny_is_killed_also_who_has_left_the_session() {
    let mut run = start(sh(DEAF).grace(LONG_GRACE));
    let tree = pids(&mut run, 2).await;
    let leader = run.pid().expect("it is not reaped");
    let group = group_of(leader);
    let nanny = session_leader(leader);
    kill(nanny, Signal::SIGKILL).expect("it is ours");
    let outcome = within(run.wait()).await;
    assert_all_dead(&tree);
    assert_eq!(outcome.ended, Ended::Stopped(Reason::ContainmentLost));
    assert_eq!(outcome.left, Left::Nobody(Proof::CgroupEmpty));
    eventually("the nanny is reaped", || !is_alive(nanny.as_raw().unsigned_abs()));
    eventually("its group is removed", || !group.exists());
}

#[tokio::test]
async fn a_bomb_of_forks_is_killed_at_once() {
    // Everybody forks as fast as possible, into ever new sessions; bounded in number by bytes of which each fork takes
    // one, and in time.
    let script = "use POSIX; $| = 1; pipe(my $r, my $w); syswrite $w, 'x' x 300; close $w;
                  $SIG{TERM} = 'IGNORE'; print \"$$\\n\";
                  while (sysread $r, my $leave, 1) { my $pid = fork; setsid if defined $pid && !$pid }
                  sleep 20";
    let mut run = start(perl(script).grace(Duration::from_millis(50)));
    let group = group_of(pids(&mut run, 1).await[0]);
    let members = || fs::read_to_string(group.join("cgroup.procs")).map_or(0, |list| list.lines().count());
    eventually("there are many", || members() > 100);
    run.cancel();
    let outcome = within(run.wait()).await;
    assert_eq!(outcome.left, Left::Nobody(Proof::NoChildren), "{outcome:?}");
    assert_eq!(members(), 0);
    assert!(outcome.signalled.is_some_and(|signalled| signalled.killed.count > 100));
}

#[tokio::test]
async fn a_group_is_used_again_unless_somebody_was_killed_in_it_or_it_was_changed() {
    const MYSELF: &str = "groups::a_group_is_used_again_unless_somebody_was_killed_in_it_or_it_was_changed";
    if !plays("owner") {
        return Owner::start(MYSELF, "owner").passes();
    }
    let (mut run, first) = waiting().await;
    within(run.wait()).await;
    let (mut run, mut second) = waiting().await;
    // Some kernels take a moment to see that a group is empty.
    for _ in 0..20 {
        if second == first {
            break;
        }
        within(run.wait()).await;
        (run, second) = waiting().await;
    }
    assert_eq!(first, second);

    kill_in(run).await;
    let (mut run, third) = waiting().await;
    assert_ne!(second, third, "somebody was killed in it");
    eventually("it is removed, being of no use", || !second.exists());

    fs::create_dir_all(third.join("below/deep")).expect("a group within the group");
    within(run.wait()).await;
    let (run, fourth) = waiting().await;
    assert_ne!(third, fourth, "it was changed");
    eventually("it is removed, being of no use", || !third.exists());
    fs::write(fourth.join("cgroup.freeze"), "1").expect("it can be frozen");
    kill_in(run).await;
    let (mut run, fifth) = waiting().await;
    assert_ne!(fourth, fifth, "it is frozen");
    within(run.wait()).await;
}

#[tokio::test]
async fn many_runs_and_starts_that_fail_leave_no_group() {
    const MYSELF: &str = "groups::many_runs_and_starts_that_fail_leave_no_group";
    if !plays("owner") {
        return Owner::start(MYSELF, "owner").passes();
    }
    for _ in 0..10 {
        Command::new("/nowhere/at/all").require(held_by()).start().expect_err("there is no such program");
        sh("true").current_dir("/nowhere/at/all").start().expect_err("there is no such directory");
        let runs: Vec<_> = (0..10).map(|_| start(&mut sh("sleep 100 & exit 0"))).collect();
        for mut run in runs {
            assert!(matches!(within(run.wait()).await.left, Left::Nobody(_)));
        }
    }
    eventually("no group is left", || directories_of(std::process::id()).is_empty());
    // A start that fails when there is nothing else to do wakes whoever tidies up.
    Command::new("/nowhere/at/all").require(held_by()).start().expect_err("there is no such program");
    eventually("no group is left", || directories_of(std::process::id()).is_empty());
    // And it can be had again.
    assert!(run(&mut sh("exit 0")).await.success());
}

async fn own_a_tree() -> ! {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let mut run = start(sh(DEAF).grace(LONG_GRACE));
        let tree = pids(&mut run, 2).await;
        say(format_args!("{} {} {}", run.pid().expect("it lives"), tree[0], tree[1]));
        runs.push(run);
    }
    wait_to_be_killed()
}

/// The pids that an owner says of each of its runs, the leader's first.
fn trees_of(owner: &mut Owner) -> Vec<Vec<u32>> {
    let numbers = |line: String| line.split(' ').map(|word| word.parse().expect("a pid")).collect();
    (0..2).map(|_| numbers(owner.says())).collect()
}

#[tokio::test]
async fn nothing_is_left_of_an_owner_that_is_killed_neither_processes_nor_groups() {
    const MYSELF: &str = "groups::nothing_is_left_of_an_owner_that_is_killed_neither_processes_nor_groups";
    if plays("owner") {
        own_a_tree().await;
    }
    held_by();
    let mut owner = Owner::start(MYSELF, "owner");
    let trees = trees_of(&mut owner).concat();
    assert_eq!(directories_of(owner.pid()).len(), 1);
    owner.signal(Signal::SIGKILL);
    eventually("they are dead", || !trees.iter().any(|pid| is_alive(*pid)));
    eventually("its groups are removed", || directories_of(owner.pid()).is_empty());
}

#[tokio::test]
async fn what_an_owner_and_its_nannies_leave_is_ended_and_removed_by_the_next_owner() {
    const MYSELF: &str = "groups::what_an_owner_and_its_nannies_leave_is_ended_and_removed_by_the_next_owner";
    if plays("owner") {
        own_a_tree().await;
    }
    if plays("next owner") {
        Containment::Cgroup.probe().expect("it can be had");
        return;
    }
    held_by();
    let mut owner = Owner::start(MYSELF, "owner");
    let trees = trees_of(&mut owner);
    // So that it does not notice that its nannies are killed.
    owner.signal(Signal::SIGSTOP);
    eventually("all its threads have stopped", || {
        let threads = fs::read_dir(format!("/proc/{}/task", owner.pid())).expect("it lives");
        let state = |thread: std::io::Result<fs::DirEntry>| {
            let stat = fs::read_to_string(thread.ok()?.path().join("stat")).ok()?;
            stat.rsplit_once(')')?.1.trim_start().chars().next()
        };
        threads.map(state).all(|state| state == Some('T'))
    });
    for tree in &trees {
        kill(session_leader(tree[0]), Signal::SIGKILL).expect("it is a nanny");
    }
    assert!(trees.concat().iter().all(|pid| is_alive(*pid)), "there is nothing to collect");
    // As long as the owner lives this is nobody else's business.
    Owner::start(MYSELF, "next owner").passes();
    assert!(trees.concat().iter().all(|pid| is_alive(*pid)), "a living owner was robbed");
    let stopped = owner.pid();
    owner.signal(Signal::SIGKILL);
    drop(owner);
    Owner::start(MYSELF, "next owner").passes();
    assert_all_dead(&trees.concat());
    assert!(directories_of(stopped).is_empty());
}

#[tokio::test]
async fn it_is_to_be_had_without_rights_where_a_subtree_was_handed_over() {
    held_by();
    let delegated = group_of(std::process::id()).join(format!("delegated-{}", std::process::id()));
    fs::create_dir(&delegated).expect("a group");
    let shell = "chown 65534:65534 $dir $dir/cgroup.procs; echo $$ > $dir/cgroup.procs;";
    let tests = ["nobody_survives", "nobody_escapes", "used_again", "neither_processes_nor_groups"];
    let said = unprivileged(shell, &delegated, &tests);
    // The last owner among them ended right after its last run.
    eventually("everybody in it has ended", || {
        let left =
            fs::read_dir(&delegated).expect("our own group").filter_map(|entry| Some(entry.ok()?.path()));
        for base in left.filter(|path| path.is_dir()) {
            for group in fs::read_dir(&base).into_iter().flatten().flatten() {
                let _ = fs::remove_dir(group.path());
            }
            let _ = fs::remove_dir(base);
        }
        fs::remove_dir(&delegated).is_ok()
    });
    if let Some(said) = said {
        assert!(!said.contains("SKIPPED"), "{said}");
    }
}

#[test]
fn where_a_subtree_was_not_handed_over_the_probe_says_at_which_step_it_failed() {
    held_by();
    if let Some(said) = unprivileged("", Path::new("/"), &["nobody_survives_a_cancel"]) {
        assert!(said.contains("SKIPPED") && said.contains("cannot make a control group"), "{said}");
    }
}
