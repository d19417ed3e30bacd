//! The condition of a host, read from outside: its threads and what else a run must leave as it was.

use std::fs;

use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

use super::{numbers_in, read_whole, status};
use crate::trace::{Condition, Thread, Used};

/// The condition of a process; nothing if it is gone, or ends while it is looked at.
pub fn condition(pid: i32) -> Option<Condition> {
    let status = status(pid).ok()?;
    Some(Condition {
        threads: threads(pid, &status)?,
        ignored: signals(field(&status, "SigIgn:")?)?,
        caught: signals(field(&status, "SigCgt:")?)?,
        umask: u32::from_str_radix(field(&status, "Umask:")?, 8).ok()?,
        folder: fs::read_link(format!("/proc/{pid}/cwd")).ok()?.to_string_lossy().into_owned(),
        timers: timers(pid),
    })
}

/// What a process has used so far; nothing if it is gone. The processor time is the kernel's own sum, not one of ticks.
pub fn used(pid: i32) -> Option<Used> {
    let clock = clock_getcpuclockid(Pid::from_raw(pid)).ok()?;
    let time = clock_gettime(clock).ok()?;
    let status = status(pid).ok()?;
    let peak = field(&status, "VmHWM:")?.strip_suffix("kB")?;
    Some(Used {
        processor_us: time.tv_sec() as u64 * 1_000_000 + time.tv_nsec() as u64 / 1_000,
        peak_kib: peak.trim().parse().ok()?,
    })
}

/// In order of their numbers, which is that of their starts but for a wrap. One that ends meanwhile is left out. `status` is what
/// the kernel says of the first of them.
fn threads(pid: i32, status: &str) -> Option<Vec<Thread>> {
    let tgid = pid.to_string();
    let mut found = Vec::new();
    let (_, tids) = numbers_in(&format!("/proc/{pid}/task")).ok()?;
    for tid in tids {
        let thread = if tid == pid {
            thread(tid, status)
        } else {
            // Not below the process: what the kernel remembers of paths is forgotten when the process is reaped, and what is
            // below its threads is being forgotten by them at that moment, for which it would wait with a busy processor.
            let Ok(status) = self::status(tid) else { continue };
            // The number may be somebody else's by now.
            (field(&status, "Tgid:") == Some(tgid.as_str())).then(|| thread(tid, &status)).flatten()
        };
        found.extend(thread);
    }
    (!found.is_empty()).then_some(found)
}

fn thread(tid: i32, status: &str) -> Option<Thread> {
    let name = field(status, "Name:").unwrap_or_default().to_owned();
    Some(Thread { tid, name, blocked: field(status, "SigBlk:").and_then(signals)? })
}

fn timers(pid: i32) -> Option<u32> {
    let text = read_whole(&format!("/proc/{pid}/timers")).ok()?;
    Some(text.lines().filter(|line| line.starts_with("ID:")).count() as u32)
}

fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// The numbers of the signals in a mask, as `/proc` writes it.
fn signals(mask: &str) -> Option<Vec<i32>> {
    let mask = u64::from_str_radix(mask, 16).ok()?;
    Some((1..=64).filter(|number| mask & (1 << (number - 1)) != 0).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_is_read_as_the_kernel_writes_it() {
        assert_eq!(signals("0000000000004001"), Some(vec![1, 15]));
        assert_eq!(signals("8000000000000000"), Some(vec![64]));
        assert_eq!(signals("0000000000000000"), Some(vec![]));
        assert_eq!(signals("none"), None);
    }

    #[test]
    fn this_process_is_seen_with_the_thread_that_looks() {
        let own = condition(std::process::id() as i32).unwrap();
        let tid = rustix::thread::gettid().as_raw_nonzero().get();
        assert!(own.threads.iter().any(|thread| thread.tid == tid), "{own:?}");
        assert_eq!(own.folder, std::env::current_dir().unwrap().to_string_lossy());
        // Rust's runtime ignores PIPE.
        assert!(own.ignored.contains(&13), "{own:?}");
        assert_eq!(condition(i32::MAX), None);
    }

    #[test]
    fn what_this_process_uses_is_seen() {
        let before = used(std::process::id() as i32).unwrap();
        let mut memory = vec![0_u8; 32 << 20];
        memory.iter_mut().step_by(64).for_each(|byte| *byte = std::hint::black_box(1));
        let after = used(std::process::id() as i32).unwrap();
        assert!(after.processor_us > before.processor_us, "{before:?} {after:?}");
        assert!(after.peak_kib >= 30 << 10, "{after:?}");
        assert_eq!(used(i32::MAX), None);
    }
}
