//! Members that cannot be ended: the end of the run is bounded and names them, and the nanny stays until they are gone.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use libtest_mimic::{Completion, Failed, Trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::stage::{Owner, PATIENCE, check, children_of, nobody_is_left, trial_or_skip};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial_or_skip("a_frozen_leader_is_named_and_reaped_after_the_thaw", || frozen("nanny", "leader")),
        trial_or_skip("a_frozen_grandchild_is_named_and_reaped_after_the_thaw", || {
            frozen("nanny", "grandchild")
        }),
        trial_or_skip("a_frozen_leader_of_a_group_is_named_and_reaped_after_the_thaw", || {
            frozen("group", "leader")
        }),
        trial_or_skip("a_frozen_member_of_a_dead_owner_is_killed_after_the_thaw", frozen_for_ever),
        trial_or_skip("a_member_that_belongs_to_another_user_is_named", of_another_user),
    ]
}

const NO_FREEZER: &str =
    "there is no freezer of cgroup v1 that this user may use, and another does not keep a kill off";

/// A group of the freezer, thawed and removed at the end.
struct Freezer(PathBuf);

impl Freezer {
    fn new() -> Option<Self> {
        let path = PathBuf::from(format!("/sys/fs/cgroup/freezer/childminder-proof-{}", std::process::id()));
        fs::create_dir(&path).ok()?;
        let freezer = Self(path);
        freezer.0.join("freezer.state").exists().then_some(freezer)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("it is plain text")
    }

    fn thaw(&self) {
        fs::write(self.0.join("freezer.state"), "THAWED").expect("it may be thawed");
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        self.thaw();
        let deadline = Instant::now() + PATIENCE;
        while fs::remove_dir(&self.0).is_err() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn frozen(containment: &str, who: &str) -> Result<Completion, Failed> {
    let Some(freezer) = Freezer::new() else { return Ok(Completion::ignored_with(NO_FREEZER)) };
    let mut owner = Owner::play("frozen", &[containment, who, freezer.path()]);
    let pid = owner.line()?;
    // It says who is left, and how long that took to say.
    owner.expect(&format!("left: {pid} uninterruptible"))?;
    let took = Duration::from_millis(owner.line()?.parse()?);
    check(took < Duration::from_secs(10), || format!("took {took:?}"))?;
    check(Path::new(&format!("/proc/{pid}")).exists(), || "it was not frozen".to_owned())?;
    freezer.thaw();
    owner.go_on();
    // The owner waits until it has no children, though it has done nothing about it.
    owner.expect("no child")?;
    nobody_is_left(PATIENCE)?;
    Ok(Completion::Completed)
}

fn frozen_for_ever() -> Result<Completion, Failed> {
    let Some(freezer) = Freezer::new() else { return Ok(Completion::ignored_with(NO_FREEZER)) };
    let owner = Owner::play("frozen", &["nanny", "grandchild", freezer.path()]);
    let pid = owner.line()?;
    owner.line()?;
    owner.line()?;
    owner.signal(Signal::SIGKILL);
    let deadline = Instant::now() + PATIENCE;
    // The nanny comes to us, and stays.
    while children_of(std::process::id()).iter().all(|child| *child == owner.pid.as_raw()) {
        check(Instant::now() < deadline, || "the nanny has not come".to_owned())?;
        std::thread::sleep(Duration::from_millis(1));
    }
    let frozen = children_of(std::process::id()).contains(&pid.parse()?);
    check(!frozen, || "the nanny has left before everybody was gone".to_owned())?;
    freezer.thaw();
    nobody_is_left(PATIENCE)?;
    Ok(Completion::Completed)
}

fn of_another_user() -> Result<Completion, Failed> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(Completion::ignored_with("a program of another user is made as root only"));
    }
    let directory = std::env::temp_dir().join(format!("childminder-proof-{}", std::process::id()));
    fs::create_dir(&directory)?;
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
    let helper = directory.join("helper");
    let result = with_helper(&helper);
    fs::remove_dir_all(&directory)?;
    result
}

fn with_helper(helper: &Path) -> Result<Completion, Failed> {
    if fs::copy("/usr/bin/setpriv", helper).is_err() {
        return Ok(Completion::ignored_with("there is no setpriv"));
    }
    fs::set_permissions(helper, fs::Permissions::from_mode(0o4755))?;
    let owner = Owner::play("of another user", &[helper.to_str().expect("it is plain text")]);
    let pid = owner.line()?;
    if pid == "no privilege" {
        nobody_is_left(PATIENCE)?;
        return Ok(Completion::ignored_with("programs get no privilege from where temporary files are"));
    }
    let said = owner.line();
    let took = owner.line();
    // Its parent is a nanny that may not end it, and does not reap it before it has ended.
    kill(Pid::from_raw(pid.parse()?), Signal::SIGKILL)?;
    check(said?.starts_with(&format!("left: {pid} no permission")), || "it is not named".to_owned())?;
    let took = Duration::from_millis(took?.parse()?);
    check(took < Duration::from_secs(10), || format!("took {took:?}"))?;
    owner.expect("no child")?;
    nobody_is_left(PATIENCE)?;
    Ok(Completion::Completed)
}
