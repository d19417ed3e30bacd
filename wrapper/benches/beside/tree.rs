//! A tree of processes that hang until they are killed, or until the owner is gone.

use std::env;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use tokio::io::AsyncReadExt;
use tokio::net::UnixListener;

use crate::Failure;
use crate::child::Child;
use crate::sys::{self, Members, News};

const PATIENCE: Duration = Duration::from_secs(20);

/// How a tree looks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Root and members.
    pub(crate) size: usize,
    /// Every second member is in a session of its own.
    pub(crate) sessions: bool,
}

/// Where the members of a tree report.
pub(crate) struct Muster {
    listener: UnixListener,
    path: PathBuf,
    news: News,
}

/// The members of a complete tree. They end when this is dropped.
pub(crate) struct Tree {
    pub(crate) members: Members,
    pub(crate) lifelines: Vec<tokio::net::UnixStream>,
}

impl Muster {
    pub(crate) fn new(news: News) -> Result<Self, Failure> {
        let path = socket_of(process::id());
        Ok(Self { listener: UnixListener::bind(&path)?, path, news })
    }

    /// The program that grows such a tree.
    pub(crate) fn root(&self, shape: Shape) -> Result<Child, Failure> {
        Ok(Child { program: env::current_exe()?.into(), arguments: self.arguments("@tree", shape)? })
    }

    pub(crate) fn arguments(&self, role: &str, shape: Shape) -> Result<Vec<String>, Failure> {
        let path = self.path.to_str().ok_or("the temporary folder has no name in UTF-8")?;
        Ok(vec![role.into(), shape.size.to_string(), shape.sessions.to_string(), path.into()])
    }

    /// Waits until the tree is complete.
    pub(crate) async fn complete(&self, shape: Shape) -> Result<Tree, Failure> {
        let gathered = tokio::time::timeout(PATIENCE, self.gather(shape.size)).await;
        gathered.map_err(|_| format!("the tree of {} was not complete in time", shape.size))?
    }

    async fn gather(&self, size: usize) -> Result<Tree, Failure> {
        let mut pids = Vec::new();
        let mut lifelines = Vec::new();
        for _ in 0..size {
            let (mut stream, _) = self.listener.accept().await?;
            let is_root = stream.read_u8().await? == b'r';
            // As numbered in the owner's namespace, whatever the member's.
            let pid = stream.peer_cred()?.pid().ok_or("a member without a pid")?;
            pids.push((!is_root, u32::try_from(pid)?));
            lifelines.push(stream);
        }
        // The root first: what it leaves when it ends has somebody else to reap it then.
        pids.sort_unstable();
        let mut members = Members::none(self.news);
        for (_, pid) in pids {
            members.add(pid)?;
        }
        Ok(Tree { members, lifelines })
    }
}

fn socket_of(owner: u32) -> PathBuf {
    env::temp_dir().join(format!("childminder-bench-{owner}"))
}

/// Removes what an owner that is gone has left.
pub(crate) fn clear_after(owner: u32) -> Result<(), Failure> {
    match std::fs::remove_file(socket_of(owner)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

impl Drop for Muster {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            eprintln!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// The root of a tree: starts the others, then hangs as they do. With `go` it waits for a byte on its stdin first.
pub(crate) fn grow(words: &[String]) -> Result<(), Failure> {
    let [size, sessions, path, rest @ ..] = words else {
        return Err("a tree needs a size, a shape and a path".into());
    };
    if rest.first().is_some_and(|word| word == "go") {
        std::io::stdin().read_exact(&mut [0])?;
    }
    let (size, sessions): (usize, bool) = (size.parse()?, sessions.parse()?);
    for number in 1..size {
        if sys::fork()? {
            if sessions && number % 2 == 1 {
                nix::unistd::setsid()?;
            }
            return hang(Path::new(path), b'm');
        }
    }
    hang(Path::new(path), b'r')
}

fn hang(path: &Path, kind: u8) -> Result<(), Failure> {
    let mut owner = UnixStream::connect(path)?;
    owner.write_all(&[kind])?;
    // The owner sends nothing: this ends when it is gone, or no more interested.
    if owner.read(&mut [0])? > 0 { Err("the owner has spoken".into()) } else { Ok(()) }
}

/// Has a tree grown whose root is the init of a new pid namespace, and reaps it.
pub(crate) fn grow_in_a_namespace(words: &[String]) -> Result<(), Failure> {
    let mut flags = CloneFlags::CLONE_NEWPID;
    if !rustix::process::geteuid().is_root() {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    unshare(flags)?;
    Command::new(env::current_exe()?).arg("@tree").args(words).spawn()?.wait()?;
    Ok(())
}
