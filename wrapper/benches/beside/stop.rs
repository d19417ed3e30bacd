//! From the drop of a run, with a grace of zero, until everybody in its tree is dead and reaped.
//!
//! One observer for all: a thread with a pidfd of every member, which waits until each has hung up, that is until the
//! process was reaped by whoever is its parent by then. Members who lost their parent are reaped at once by the init of
//! the benchmark.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::contender::{Contender, Running, Sink};
use crate::options::Options;
use crate::sys::{Handle, Left, News};
use crate::table::{self, Rounds, Row};
use crate::tree::{Muster, Shape};

const CASES: [(Shape, &str, usize); 4] = [
    (Shape { size: 1, sessions: false }, "1 process", 100),
    (Shape { size: 10, sessions: false }, "10 processes", 60),
    (Shape { size: 100, sessions: false }, "100 processes", 30),
    (Shape { size: 10, sessions: true }, "10 processes, 5 of them in sessions of their own", 30),
];

/// How long it is waited for members that nobody may ever stop, in the round that shows who does.
const TRIAL: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone)]
enum Stopper {
    /// A directory that cgroups can be made in.
    CgroupKill(PathBuf),
    NamespaceKill,
    Drop(Contender),
}

pub(crate) fn own(options: &Options) -> Result<(), Failure> {
    let news = News::of_this_kernel()?;
    if news == News::Dead {
        println!("\nstop: before Linux 6.9 it is seen that somebody is dead, but not that he was reaped");
    }
    options.runtime()?.block_on(measure(options, news))
}

async fn measure(options: &Options, news: News) -> Result<(), Failure> {
    let muster = Muster::new(news)?;
    for (shape, words, usual) in CASES {
        let mut rows = vec![Row::new("cgroup.kill"), Row::new("SIGKILL of a pid namespace")];
        let mut able = Vec::new();
        match own_cgroup() {
            Ok(cgroup) => able.push((0, Stopper::CgroupKill(cgroup))),
            Err(why) => rows[0].remark = Some(format!("not run: {why}")),
        }
        able.push((1, Stopper::NamespaceKill));
        for (name, contender) in options.contenders() {
            able.push((rows.len(), Stopper::Drop(contender)));
            rows.push(Row::new(name));
        }
        let mut thorough = Vec::new();
        for (row, stopper) in able {
            match stopper.round(&muster, shape, TRIAL).await {
                Ok((_, left)) if left.nobody() => thorough.push((row, stopper)),
                Ok((_, left)) => rows[row].remark = Some(left.to_string()),
                Err(why) => rows[row].remark = Some(format!("not run: {why}")),
            }
        }
        let mut rounds = Rounds::new(options.rounds(usual), usual);
        while let Some(order) = rounds.next(thorough.len()) {
            for turn in order {
                let (row, stopper) = &thorough[turn];
                let (took, left) = stopper.round(&muster, shape, PATIENCE).await?;
                rows[*row].samples.push(took.as_secs_f64());
                if !left.nobody() {
                    rows[*row].remark = Some(format!("{left}, at times"));
                }
            }
            thorough.retain(|(row, _)| rows[*row].remark.is_none());
        }
        table::print(&format!("stop: {words}"), &rows, table::duration);
    }
    Ok(())
}

/// A tree that runs, and the way to stop it.
enum Grown {
    Cgroup { root: process::Child, directory: PathBuf },
    Namespace { helper: process::Child },
    Run(Running),
}

impl Stopper {
    /// How long it took until nobody was left, and how many were left if it was not waited for any longer.
    async fn round(
        &self,
        muster: &Muster,
        shape: Shape,
        patience: Duration,
    ) -> Result<(Duration, Left), Failure> {
        let grown = self.grow(muster, shape).await?;
        let tree = muster.complete(shape).await?;
        let root = tree.members.first()?;
        let vigil = tree.members.watch(patience)?;
        let from = Instant::now();
        let rest = grown.stop(&root)?;
        let emptied = tokio::task::spawn_blocking(|| vigil.end()).await??;
        let took = emptied.at.saturating_duration_since(from);
        if !emptied.left.nobody() {
            emptied.members.kill(PATIENCE)?;
        }
        drop(tree.lifelines);
        rest.clear()?;
        Ok((took, emptied.left))
    }

    async fn grow(&self, muster: &Muster, shape: Shape) -> Result<Grown, Failure> {
        match self {
            Self::Drop(contender) => Ok(Grown::Run(contender.start(&muster.root(shape)?, Sink::Null).await?)),
            Self::CgroupKill(parent) => {
                let directory = cgroup_of(parent, process::id());
                fs::create_dir(&directory)?;
                let child = muster.root(shape)?;
                let mut command = Command::new(child.program);
                command.args(child.arguments).arg("go").stdin(Stdio::piped());
                let mut root = command.spawn()?;
                // It is moved before it starts the others.
                fs::write(directory.join("cgroup.procs"), root.id().to_string())?;
                root.stdin.take().ok_or("no pipe to the root")?.write_all(b"!")?;
                Ok(Grown::Cgroup { root, directory })
            }
            Self::NamespaceKill => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(muster.arguments("@namespace", shape)?).stdin(Stdio::null());
                Ok(Grown::Namespace { helper: command.spawn()? })
            }
        }
    }
}

/// What is to be cleared away when nobody is left.
enum Rest {
    Nothing,
    Directory(PathBuf),
    Helper(process::Child),
}

impl Grown {
    fn stop(self, root: &Handle) -> Result<Rest, Failure> {
        match self {
            Self::Run(running) => {
                running.stop()?;
                Ok(Rest::Nothing)
            }
            Self::Cgroup { mut root, directory } => {
                fs::write(directory.join("cgroup.kill"), "1")?;
                root.wait()?;
                Ok(Rest::Directory(directory))
            }
            Self::Namespace { helper } => {
                root.kill()?;
                Ok(Rest::Helper(helper))
            }
        }
    }
}

impl Rest {
    fn clear(self) -> Result<(), Failure> {
        match self {
            Self::Nothing => {}
            Self::Helper(mut helper) => {
                helper.wait()?;
            }
            Self::Directory(path) => remove_cgroup(&path)?,
        }
        Ok(())
    }
}

fn cgroup_of(parent: &Path, owner: u32) -> PathBuf {
    parent.join(format!("childminder-bench-{owner}"))
}

/// Removes a cgroup in which nobody is alive.
fn remove_cgroup(path: &Path) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match fs::remove_dir(path) {
            // For as long as the last to be reaped is still counted there.
            Err(error) if error.kind() == ErrorKind::ResourceBusy && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => return Ok(()),
        }
    }
}

/// Removes what an owner that is gone has left: its own, and what processkit keeps for as long as its owner lives.
pub(crate) fn clear_after(owner: u32) -> Result<(), Failure> {
    let Some(parent) = place_in_cgroups() else { return Ok(()) };
    remove_cgroup(&cgroup_of(&parent, owner))?;
    let of_processkit = format!("processkit-{owner}-");
    for group in subgroups(&parent)? {
        if group.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&of_processkit)) {
            for leaf in subgroups(&group)? {
                remove_cgroup(&leaf)?;
            }
            remove_cgroup(&group)?;
        }
    }
    Ok(())
}

fn subgroups(group: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Where this process is in the hierarchy of cgroups v2, if there is one.
fn place_in_cgroups() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mount = mounts.lines().find_map(|line| {
        let mut words = line.split(' ');
        let path = words.nth(1)?;
        (words.next()? == "cgroup2").then_some(path)
    })?;
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(Path::new(mount).join(own.trim_start_matches('/')))
}

/// The same, if cgroups can be made there.
fn own_cgroup() -> Result<PathBuf, Failure> {
    let directory = place_in_cgroups().ok_or("there is no cgroup v2")?;
    let probe = directory.join(format!("childminder-bench-probe-{}", process::id()));
    fs::create_dir(&probe).map_err(|error| format!("no cgroup can be made: {error}"))?;
    let can_kill = probe.join("cgroup.kill").exists();
    fs::remove_dir(&probe)?;
    if can_kill { Ok(directory) } else { Err("cgroup.kill needs Linux 5.14".into()) }
}
