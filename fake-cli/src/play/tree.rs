//! Starting other nodes.

use std::ffi::c_int;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Duration;

use nix::libc::POLLIN;
use nix::unistd::{Pid, setpgid, setsid};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::process::{WaitId, WaitIdOptions};

use super::describe::Origin;
use super::link::{MOST_PATIENCE, above_standard, report};
use super::node::{Node, Resume, did};
use super::sys::{self, Side, Signals};
use super::{code, shell, signals};
use crate::control::Report;
use crate::script::{Event, ForkAtRate, Place, Shell, Start, Stdio, Step};

const UP: &[u8] = b"up";
const GO: &[u8] = b"go";
/// How often it is looked whether a shell is still there whose end was not noticed.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What is known of a node before it is started.
struct Plan<'a> {
    name: String,
    place: Place,
    holds: &'a [Stdio],
    script: &'a [Step],
}

/// Starts a node by a step of this index; it has said hello when this returns.
pub(super) fn start(node: &mut Node, start: &Start, step: usize) -> Result<(), String> {
    let plan =
        Plan { name: start.node.to_string(), place: start.place, holds: &start.holds, script: &start.script };
    match start.place {
        Place::Vfork => bring_up_in_own_memory(node, &plan, step),
        Place::Shell(shell) => bring_up_behind(node, &plan, shell),
        _ => bring_up(node, &plan),
    }
}

/// Starts a node that shares this process's memory. It reports the step as done, for until it executes something or is gone
/// nobody else here can.
fn bring_up_in_own_memory(node: &mut Node, plan: &Plan<'_>, step: usize) -> Result<(), String> {
    node.must_own_memory()?;
    let (ours, theirs) = line().map_err(|error| format!("socket pair: {error}"))?;
    let mask = sys::set_mask(!0);
    let mut child = || {
        sys::close(ours.as_raw_fd());
        let parents_link = sys::leave_link();
        let mut twin = node.twin();
        // The number is closed in the child alone.
        let line = theirs.try_clone().unwrap_or_else(|_| sys::exit(code::BROKEN));
        sys::close(theirs.as_raw_fd());
        let born = be_born(&mut twin, plan, &line, mask, parents_link);
        if let Some(link) = parents_link {
            if born.is_ok() {
                sys::send_on(link, &did(step));
            }
            sys::close(link);
        }
        answer_and_play(&mut twin, plan, line, born)
    };
    let started = sys::vfork(&mut child);
    if let Ok(pid) = started {
        sys::remember_child(pid);
    }
    sys::set_mask(mask);
    drop(theirs);
    started.map_err(|error| format!("clone: {error}"))?;
    await_up(&ours)
}

/// Starts a node behind a shell. Where nobody listens it is not waited for.
fn bring_up_behind(node: &mut Node, plan: &Plan<'_>, shell: Shell) -> Result<(), String> {
    let resume = Resume { node: plan.name.clone(), step: Some(0), ..Resume::default() };
    let line = shell::line(node, shell, &resume)?;
    let said_hello = Event::try_from(format!("run.{}.{}.hello", node.run, plan.name))?;
    let mask = sys::set_mask(!0);
    let pid = match sys::fork() {
        Err(error) => {
            sys::set_mask(mask);
            return Err(format!("fork: {error}"));
        }
        Ok(Side::Child) => {
            sys::drop_link();
            node.hogged.clear();
            let mask = signals::as_after_exec(mask);
            if sys::to_dev_null(&not_held(plan)).is_ok() {
                sys::set_mask(mask);
                sys::execute(&line.program, &line.arguments, true);
            }
            sys::exit(code::BROKEN)
        }
        Ok(Side::Parent(pid)) => pid,
    };
    sys::remember_child(pid);
    sys::set_mask(mask);
    if sys::link().is_none() {
        return Ok(());
    }
    report(&Report::Waits { event: said_hello.clone() });
    let until_ns = sys::now_ns() + MOST_PATIENCE.as_nanos() as u64;
    while !node.has_passed(&said_hello) {
        if !sys::children().contains(&pid) {
            return Err("the shell was gone before its node said hello".to_owned());
        }
        let left_ns = until_ns.saturating_sub(sys::now_ns());
        if left_ns == 0 {
            return Err(format!("the node behind the shell did not say hello in {MOST_PATIENCE:?}"));
        }
        node.wait(POLLIN, Some(left_ns.min(LOOK_AGAIN.as_nanos() as u64)));
    }
    Ok(())
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
    node.borrows_memory = false;
    let up = be_born(node, plan, &line, parents_mask, None);
    answer_and_play(node, plan, line, up)
}

fn be_born(
    node: &mut Node,
    plan: &Plan<'_>,
    line: &OwnedFd,
    parents_mask: Signals,
    parents_link: Option<c_int>,
) -> Result<(), String> {
    sys::forget_children();
    sys::set_handler_forks(0);
    let mask = signals::as_after_exec(parents_mask);
    take_place(plan, line)?;
    sys::set_mask(mask);
    let besides: Vec<c_int> = [line.as_raw_fd()].into_iter().chain(parents_link).collect();
    node.be_born(&plan.name, Origin::Forked, &besides)
}

fn answer_and_play(node: &mut Node, plan: &Plan<'_>, line: OwnedFd, up: Result<(), String>) -> ! {
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
        Place::SameGroup | Place::Orphan | Place::Vfork | Place::Shell(_) => {}
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
    sys::to_dev_null(&not_held(plan)).map_err(|error| format!("/dev/null: {error}"))?;
    name_process(&plan.name);
    Ok(())
}

/// The standard descriptors that a node is not to keep.
fn not_held(plan: &Plan<'_>) -> Vec<c_int> {
    let every = [Stdio::Stdin, Stdio::Stdout, Stdio::Stderr].into_iter();
    every.filter(|stdio| !plan.holds.contains(stdio)).map(Stdio::fd).collect()
}

/// Shows the node's name to people who read `ps`.
pub(super) fn name_process(node: &str) {
    // Only a courtesy.
    let _ = show_name(&format!("fake:{node}"));
}

/// Shows a name to people who read `ps`, as much of it as they see.
pub(super) fn show_name(name: &str) -> Result<(), String> {
    let name = std::ffi::CString::new(&name[..name.len().min(15)]).map_err(|error| error.to_string())?;
    rustix::thread::set_name(&name).map_err(|error| format!("name: {error}"))
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
