//! The ledger: to whom a signal of the wrapper's side goes, while its sender is held.

use std::collections::HashMap;
use std::fs;

use fake_cli::script::Signal;
use nix::libc;
use rustix::process::Pid;

use super::Notification;
use crate::scan::{self, Stat};
use crate::trace::{Signalled, Was};

/// The kernel's flag of `pidfd_send_signal` for the group that the process leads.
const PIDFD_SIGNAL_PROCESS_GROUP: u64 = 1 << 2;
/// How far up a line of parents is followed.
const MOST_PARENTS: usize = 64;

/// Who is who around a call.
#[derive(Debug)]
pub(crate) struct Surroundings<'a> {
    /// Who makes the call, as a process.
    pub(crate) caller: i32,
    /// The host.
    pub(crate) host: i32,
    /// The warden.
    pub(crate) warden: i32,
    /// Children that the wrapper's side was seen to have, alive or dead and not reaped.
    pub(crate) children: &'a HashMap<i32, u64>,
    /// Those with whom the wrapper has no business: pid, start and name.
    pub(crate) strangers: &'a [(i32, u64, String)],
}

/// To whom a signal goes.
enum To {
    Process(i32),
    Group(i32),
    Everyone,
    Unclear(String),
    /// A descriptor whose process is dead and reaped: it goes to nobody, ever.
    Nobody,
}

/// Whom a call signals, in words as a tracer writes them and as what they are; nothing for a signal to the caller's own process.
pub(crate) fn signalled(call: &Notification, around: &Surroundings<'_>) -> Option<(String, Signalled)> {
    let [first, second, third, flags, ..] = call.arguments;
    let number = |argument: u64| argument as i32;
    let (name, to, signal) = match call.number {
        libc::SYS_kill => ("kill", by_number(number(first), around), number(second)),
        libc::SYS_rt_sigqueueinfo => ("rt_sigqueueinfo", To::Process(number(first)), number(second)),
        libc::SYS_tkill => ("tkill", by_thread(number(first)), number(second)),
        libc::SYS_tgkill => ("tgkill", To::Process(number(first)), number(third)),
        libc::SYS_rt_tgsigqueueinfo => ("rt_tgsigqueueinfo", To::Process(number(first)), number(third)),
        _ => ("pidfd_send_signal", by_descriptor(call.thread, number(first), flags), number(second)),
    };
    let whom = match (&to, call.number) {
        (To::Process(pid), libc::SYS_pidfd_send_signal) => format!("pidfd of {pid}"),
        (To::Group(pgid), libc::SYS_pidfd_send_signal) => format!("pidfd of group {pgid}"),
        (_, libc::SYS_pidfd_send_signal) => "pidfd".to_owned(),
        (To::Process(_), libc::SYS_tgkill | libc::SYS_rt_tgsigqueueinfo) => {
            format!("{}, {}", number(first), number(second))
        }
        _ => number(first).to_string(),
    };
    let text = format!("{name}({whom}, {})", Signal::name_of(signal));
    let was = if call.number != libc::SYS_pidfd_send_signal && is_elsewhere(call.thread) {
        // Whoever made a pid namespace made everybody in it, and its numbers mean nobody else.
        Was::Own
    } else {
        match to {
            To::Process(pid) if pid == around.caller => return None,
            To::Process(pid) => process(pid, around),
            To::Group(pgid) => group(pgid, around),
            To::Everyone => Was::Everyone,
            To::Unclear(why) => Was::Unclear(why),
            To::Nobody => Was::Gone,
        }
    };
    Some((text, Signalled { signal, was }))
}

fn by_number(number: i32, around: &Surroundings<'_>) -> To {
    match number {
        0 => match scan::stat(around.caller) {
            Some(stat) => To::Group(stat.pgid),
            None => To::Unclear("the caller's group could not be read".to_owned()),
        },
        -1 => To::Everyone,
        1.. => To::Process(number),
        ..-1 => To::Group(number.wrapping_neg()),
    }
}

fn by_thread(thread: i32) -> To {
    To::Process(scan::leader_of(thread).unwrap_or(thread))
}

fn by_descriptor(thread: i32, fd: i32, flags: u64) -> To {
    let text = match fs::read_to_string(format!("/proc/{thread}/fdinfo/{fd}")) {
        Ok(text) => text,
        Err(error) => return To::Unclear(format!("descriptor {fd} could not be read: {error}")),
    };
    let pid = text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse::<i32>().ok());
    match pid {
        Some(-1) => To::Nobody,
        Some(pid @ 1..) if flags & PIDFD_SIGNAL_PROCESS_GROUP != 0 => To::Group(pid),
        Some(pid @ 1..) => To::Process(pid),
        Some(_) => To::Unclear(format!("descriptor {fd} names no process of this namespace")),
        None => by_folder(thread, fd),
    }
}

/// The folder of a process in `/proc` serves as well, and never means anybody else either.
fn by_folder(thread: i32, fd: i32) -> To {
    let unclear = |what: &str| To::Unclear(format!("descriptor {fd} is {what}, which names no process"));
    let Ok(link) = fs::read_link(format!("/proc/{thread}/fd/{fd}")) else {
        return unclear("one that cannot be read");
    };
    let link = link.to_string_lossy();
    let Some(name) = link.strip_prefix("/proc/") else { return unclear(&link) };
    match name.strip_suffix(" (deleted)") {
        Some(_) => To::Nobody,
        None => name.parse().map_or_else(|_| unclear(&link), To::Process),
    }
}

/// Whether a thread lives in another pid namespace than we do.
fn is_elsewhere(thread: i32) -> bool {
    let of = |who: &str| fs::read_link(format!("/proc/{who}/ns/pid")).ok();
    matches!((of(&thread.to_string()), of("self")), (Some(its), Some(own)) if its != own)
}

fn process(pid: i32, around: &Surroundings<'_>) -> Was {
    match scan::stat(pid) {
        Some(stat) => match present(&stat, around) {
            Was::Own | Was::Zombie if is_given_anew(&stat, around) => Was::Reaped,
            was => was,
        },
        None if exists(pid) => Was::Unclear(format!("what {pid} is could not be read")),
        None if around.children.contains_key(&pid) => Was::Reaped,
        None => Was::Gone,
    }
}

/// Whether the number was a child's that is no more, and has been given to somebody else of the case.
fn is_given_anew(stat: &Stat, around: &Surroundings<'_>) -> bool {
    around.children.get(&stat.pid).is_some_and(|start_ticks| *start_ticks != stat.start_ticks)
}

/// Whether there is such a process: our not being able to read of one is no proof.
fn exists(pid: i32) -> bool {
    Pid::from_raw(pid)
        .is_none_or(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

fn present(stat: &Stat, around: &Surroundings<'_>) -> Was {
    if let Some(name) = stranger(stat, around) {
        Was::Stranger(name)
    } else if stat.is_zombie() {
        Was::Zombie
    } else {
        Was::Own
    }
}

fn stranger(stat: &Stat, around: &Surroundings<'_>) -> Option<String> {
    let known =
        around.strangers.iter().find(|(pid, start, _)| (*pid, *start) == (stat.pid, stat.start_ticks));
    match known {
        Some((_, _, name)) => Some(name.clone()),
        None if stat.pid == around.warden => Some("the parent of everything here".to_owned()),
        None if is_of_the_case(stat, around) => None,
        None => Some(format!("{:?}, which is none of its processes", stat.comm)),
    }
}

/// Whether the warden is above a process: everything below it belongs to the case, and orphans come back to it. In doubt it does.
fn is_of_the_case(stat: &Stat, around: &Surroundings<'_>) -> bool {
    let mut parent = stat.ppid;
    for _ in 0..MOST_PARENTS {
        if parent == around.warden {
            return true;
        }
        if parent <= 1 {
            return false;
        }
        let Some(above) = scan::stat(parent) else { return true };
        parent = above.ppid;
    }
    true
}

fn group(pgid: i32, around: &Surroundings<'_>) -> Was {
    let Ok(everyone) = scan::everyone() else {
        return Was::Unclear("who is in the group could not be read".to_owned());
    };
    let members: Vec<&Stat> = everyone.iter().filter(|stat| stat.pgid == pgid).collect();
    let stranger = members.iter().find_map(|stat| stranger(stat, around));
    if members.iter().any(|stat| stat.pid == around.host) {
        return Was::HostsGroup { led_by_host: pgid == around.host, stranger };
    }
    match (stranger, members.as_slice()) {
        (Some(name), _) => Was::Stranger(name),
        (None, members) if members.iter().any(|stat| stat.pid == pgid && is_given_anew(stat, around)) => {
            Was::Reaped
        }
        // Its number is that of somebody who never led a group, so it means nobody else.
        (None, []) if scan::stat(pgid).is_some() => Was::Gone,
        (None, []) if group_exists(pgid) => Was::Unclear(format!("who is in group {pgid} could not be read")),
        (None, []) if around.children.contains_key(&pgid) => Was::Reaped,
        (None, []) => Was::Gone,
        (None, members) if members.iter().all(|stat| stat.is_zombie()) => Was::Zombie,
        (None, _) => Was::Own,
    }
}

fn group_exists(pgid: i32) -> bool {
    Pid::from_raw(pgid)
        .is_none_or(|pgid| rustix::process::test_kill_process_group(pgid) != Err(rustix::io::Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short_lived() -> std::process::Child {
        use std::process::{Command, Stdio};
        Command::new("/proc/self/exe").arg("--list").stdout(Stdio::null()).spawn().unwrap()
    }

    fn around<'a>(
        children: &'a HashMap<i32, u64>,
        strangers: &'a [(i32, u64, String)],
        host: i32,
    ) -> Surroundings<'a> {
        let warden = std::process::id().cast_signed();
        Surroundings { caller: host, host, warden, children, strangers }
    }

    fn call(number: libc::c_long, first: i32, second: i32) -> Notification {
        let thread = std::process::id().cast_signed();
        let arguments = [first as i64 as u64, second as u64, 0, 0, 0, 0];
        Notification { id: 1, thread, number, arguments }
    }

    fn was(call: &Notification, around: &Surroundings<'_>) -> Was {
        signalled(call, around).expect("not to itself").1.was
    }

    #[test]
    fn a_child_is_ones_own_until_it_is_reaped_and_then_it_is_nobody() {
        let mut child = short_lived();
        let pid = child.id().cast_signed();
        let start = scan::stat(pid).unwrap().start_ticks;
        let (children, none) = (HashMap::from([(pid, start)]), HashMap::new());
        // This process stands for the warden, and nobody for the host.
        let kill = call(libc::SYS_kill, pid, 15);
        assert!(matches!(was(&kill, &around(&children, &[], -5)), Was::Own | Was::Zombie));
        let named = [(pid, start, "bystander".to_owned())];
        assert_eq!(was(&kill, &around(&children, &named, -5)), Was::Stranger("bystander".to_owned()));
        child.wait().unwrap();
        assert_eq!(was(&kill, &around(&children, &[], -5)), Was::Reaped);
        assert_eq!(was(&kill, &around(&none, &[], -5)), Was::Gone);
        assert_eq!(was(&call(libc::SYS_kill, -pid, 15), &around(&children, &[], -5)), Was::Reaped);
    }

    #[test]
    fn the_number_of_a_reaped_child_is_not_ones_own_for_being_somebodys_of_the_case() {
        let mut child = {
            use std::os::unix::process::CommandExt;
            use std::process::{Command, Stdio};
            let mut command = Command::new("/proc/self/exe");
            command.arg("--list").stdout(Stdio::null()).process_group(0).spawn().unwrap()
        };
        let pid = child.id().cast_signed();
        let start = scan::stat(pid).unwrap().start_ticks;
        // An earlier child had the number.
        let before = HashMap::from([(pid, start - 1)]);
        let present = HashMap::from([(pid, start)]);
        for target in [pid, -pid] {
            let kill = call(libc::SYS_kill, target, 15);
            assert_eq!(was(&kill, &around(&before, &[], -5)), Was::Reaped);
            assert!(matches!(was(&kill, &around(&present, &[], -5)), Was::Own | Was::Zombie));
        }
        child.wait().unwrap();
    }

    #[test]
    fn everyone_the_hosts_group_and_strangers_are_told() {
        let none = HashMap::new();
        let own = std::process::id().cast_signed();
        let pgid = scan::stat(own).unwrap().pgid;
        let around = around(&none, &[], own);
        assert_eq!(was(&call(libc::SYS_kill, -1, 15), &around), Was::Everyone);
        assert!(matches!(was(&call(libc::SYS_kill, 0, 15), &around), Was::HostsGroup { .. }));
        assert!(matches!(was(&call(libc::SYS_kill, -pgid, 15), &around), Was::HostsGroup { .. }));
        assert!(matches!(was(&call(libc::SYS_kill, 1, 15), &around), Was::Stranger(_)));
        assert_eq!(signalled(&call(libc::SYS_kill, own, 15), &around), None);
        let (text, signalled) = signalled(&call(libc::SYS_kill, -1, 15), &around).unwrap();
        assert_eq!((text.as_str(), signalled.signal), ("kill(-1, TERM)", 15));
    }

    #[test]
    fn the_number_of_who_never_led_a_group_means_no_other_group() {
        let mut child = short_lived();
        let pid = child.id().cast_signed();
        let children = HashMap::from([(pid, scan::stat(pid).unwrap().start_ticks)]);
        assert_eq!(was(&call(libc::SYS_kill, -pid, 9), &around(&children, &[], -5)), Was::Gone);
        child.wait().unwrap();
    }

    #[test]
    fn the_folder_of_a_process_is_that_process_until_it_is_reaped() {
        let mut child = short_lived();
        let folder = fs::File::open(format!("/proc/{}", child.id())).unwrap();
        let none = HashMap::new();
        let kill = call(libc::SYS_pidfd_send_signal, std::os::fd::AsRawFd::as_raw_fd(&folder), 15);
        assert!(matches!(was(&kill, &around(&none, &[], -5)), Was::Own | Was::Zombie));
        child.wait().unwrap();
        assert_eq!(was(&kill, &around(&none, &[], -5)), Was::Gone);
    }

    #[test]
    fn a_descriptor_of_a_process_is_that_process() {
        let none = HashMap::new();
        let parent = scan::stat(std::process::id().cast_signed()).unwrap().ppid;
        let open = Pid::from_raw(parent).map(|pid| {
            rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).expect("a parent is there")
        });
        let Some(pidfd) = open else { return };
        let fd = std::os::fd::AsRawFd::as_raw_fd(&pidfd);
        let (text, signalled) =
            signalled(&call(libc::SYS_pidfd_send_signal, fd, 15), &around(&none, &[], -5)).unwrap();
        assert_eq!(text, format!("pidfd_send_signal(pidfd of {parent}, TERM)"));
        assert!(matches!(signalled.was, Was::Stranger(_)));
        let no_pidfd = call(libc::SYS_pidfd_send_signal, 0, 15);
        assert!(matches!(was(&no_pidfd, &around(&none, &[], -5)), Was::Unclear(_)));
    }
}
