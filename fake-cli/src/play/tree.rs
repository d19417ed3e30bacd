//! Starting other nodes.

use std::ffi::c_int;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::libc::POLLIN;
use nix::unistd::{Pid, setpgid, setsid};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::process::{WaitId, WaitIdOptions};

use super::describe::Origin;
use super::link::{MOST_PATIENCE, above_standard};
use super::node::Node;
use super::sys::{self, Side, Signals};
use super::{code, signals};
use crate::script::{ForkAtRate, Place, Start, Stdio, Step};

const UP: &[u8] = b"up";
const GO: &[u8] = b"go";

/// What is known of a node before it is started.
struct Plan<'a> {
    name: String,
    place: Place,
    holds: &'a [Stdio],
    script: &'a [Step],
}

/// Starts a node; it has said hello when this returns.
pub(super) fn start(node: &mut Node, start: &Start) -> Result<(), String> {
    let plan =
        Plan { name: start.node.to_string(), place: start.place, holds: &start.holds, script: &start.script };
    bring_up(node, &plan)
}

/// Starts nodes of one kind, one after the other.
pub(super) fn fork_at_rate(node: &mut Node, forks: &ForkAtRate) -> Result<(), String> {
    for count in 1..=forks.most {
        if count > 1 {
            node.sleep(forks.every.get());
        }
        let name = format!("{}.{count}", forks.node);
        bring_up(node, &Plan { name, place: Place::SameGroup, holds: &[], script: &[Step::Hang] })?;
    }
    Ok(())
}

/// Makes children that exit at once and stay zombies.
pub(super) fn zombies(count: u32) -> Result<(), String> {
    let mut pids = Vec::new();
    for _ in 0..count {
        let mask = sys::set_mask(!0);
        match sys::fork() {
            Ok(Side::Child) => sys::exit(0),
            Ok(Side::Parent(pid)) => pids.push(pid),
            Err(error) => {
                sys::set_mask(mask);
                return Err(format!("fork: {error}"));
            }
        }
        sys::set_mask(mask);
    }
    pids.into_iter().try_for_each(|pid| wait_for_exit(pid, WaitIdOptions::NOWAIT))
}

/// From now on adopts the orphans among its descendants.
pub(super) fn become_subreaper() -> Result<(), String> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|error| format!("subreaper: {error}"))
}

/// Waits until a child has exited; it is reaped unless `options` say NOWAIT.
fn wait_for_exit(pid: c_int, options: WaitIdOptions) -> Result<(), String> {
    let child = rustix::process::Pid::from_raw(pid).ok_or("no such child")?;
    rustix::io::retry_on_intr(|| rustix::process::waitid(WaitId::Pid(child), WaitIdOptions::EXITED | options))
        .map(drop)
        .map_err(|error| format!("wait for {pid}: {error}"))
}

/// Starts a node. The order matters:
///
/// 1. All signals are blocked around the fork, so that none meets the child with its parent's handlers.
/// 2. The child drops its parent's connection first, for its parent's death must show at once.
/// 3. It takes its place, and says hello only from there.
/// 4. A node whose parent is to be gone waits until the parent of that one has reaped it.
/// 5. The parent goes on when the node says that it is up, or is gone.
fn bring_up(node: &mut Node, plan: &Plan<'_>) -> Result<(), String> {
    let (ours, theirs) = line().map_err(|error| format!("socket pair: {error}"))?;
    let mask = sys::set_mask(!0);
    match sys::fork() {
        Err(error) => {
            sys::set_mask(mask);
            Err(format!("fork: {error}"))
        }
        Ok(Side::Child) => {
            drop(ours);
            become_node(node, plan, theirs, mask)
        }
        Ok(Side::Parent(pid)) => {
            drop(theirs);
            if plan.place == Place::OwnGroup {
                // Also done by the child; whoever comes second may fail.
                let _ = setpgid(Pid::from_raw(pid), Pid::from_raw(pid));
            }
            if leaves_parent(plan.place) {
                sys::set_mask(mask);
                wait_for_exit(pid, WaitIdOptions::empty())?;
                // If nobody is there any more, the answer says so.
                let _ = rustix::net::send(&ours, GO, SendFlags::NOSIGNAL);
            } else {
                sys::remember_child(pid);
                sys::set_mask(mask);
            }
            await_up(&ours)
        }
    }
}

fn leaves_parent(place: Place) -> bool {
    matches!(place, Place::Orphan | Place::Daemon)
}

/// Both ends of the line on which a new node and its parent speak.
fn line() -> std::io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    Ok((above_standard(ours)?, above_standard(theirs)?))
}

fn become_node(node: &mut Node, plan: &Plan<'_>, line: OwnedFd, parents_mask: Signals) -> ! {
    sys::drop_link();
    sys::forget_children();
    sys::set_handler_forks(0);
    let mask = signals::as_after_exec(parents_mask);
    let up = take_place(plan, &line).and_then(|()| {
        sys::set_mask(mask);
        node.be_born(&plan.name, Origin::Forked, Some(line.as_raw_fd()))
    });
    let answer = match &up {
        Ok(()) => UP,
        Err(why) => why.as_bytes(),
    };
    // If the parent is gone, the node lives on without it.
    let _ = rustix::net::send(&line, answer, SendFlags::NOSIGNAL);
    drop(line);
    match up {
        Ok(()) => node.play(plan.script, 0),
        Err(_) => sys::exit(code::BROKEN),
    }
}

fn take_place(plan: &Plan<'_>, line: &OwnedFd) -> Result<(), String> {
    let failed = |what: &str, error: nix::Error| format!("{what}: {error}");
    match plan.place {
        Place::SameGroup | Place::Orphan => {}
        Place::OwnGroup => {
            setpgid(Pid::from_raw(0), Pid::from_raw(0)).map_err(|error| failed("setpgid", error))?;
        }
        Place::OwnSession | Place::Daemon => {
            setsid().map_err(|error| failed("setsid", error))?;
        }
    }
    if leaves_parent(plan.place) {
        match sys::fork().map_err(|error| format!("second fork: {error}"))? {
            Side::Parent(_) => sys::exit(0),
            Side::Child => await_word(line).map(drop)?,
        }
    }
    let dropped: Vec<c_int> = [Stdio::Stdin, Stdio::Stdout, Stdio::Stderr]
        .into_iter()
        .filter(|stdio| !plan.holds.contains(stdio))
        .map(Stdio::fd)
        .collect();
    sys::to_dev_null(&dropped).map_err(|error| format!("/dev/null: {error}"))?;
    name_process(&plan.name);
    Ok(())
}

/// Shows the node's name to people who read `ps`.
pub(super) fn name_process(node: &str) {
    let name = format!("fake:{node}");
    if let Ok(name) = std::ffi::CString::new(&name[..name.len().min(15)]) {
        // Only a courtesy.
        let _ = rustix::thread::set_name(&name);
    }
}

fn await_up(line: &OwnedFd) -> Result<(), String> {
    match await_word(line)?.as_slice() {
        UP => Ok(()),
        [] => Err("the node was gone before it said hello".to_owned()),
        why => Err(String::from_utf8_lossy(why).into_owned()),
    }
}

/// The next word on the line; nothing if the other side is gone.
fn await_word(line: &OwnedFd) -> Result<Vec<u8>, String> {
    let until_ns = sys::now_ns() + MOST_PATIENCE.as_nanos() as u64;
    loop {
        let left_ns = until_ns.saturating_sub(sys::now_ns());
        if left_ns == 0 {
            return Err(format!("no answer from the other side of a fork in {MOST_PATIENCE:?}"));
        }
        let [ready] = sys::wait_for([(line.as_raw_fd(), POLLIN)], Some(left_ns))
            .map_err(|error| format!("poll: {error}"))?;
        if ready {
            let mut buffer = [0; 512];
            return match rustix::net::recv(line, &mut buffer, RecvFlags::DONTWAIT) {
                Ok((length, _)) => Ok(buffer[..length].to_vec()),
                Err(rustix::io::Errno::CONNRESET) => Ok(Vec::new()),
                Err(error) => Err(format!("receive: {error}")),
            };
        }
    }
}
