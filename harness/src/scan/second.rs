//! The second scanner, which shares no code with the first.

use std::cell::RefCell;

use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};

/// sysinfo, asked only who there is.
#[derive(Default)]
pub struct SecondScanner {
    /// Kept from one look to the next: to start afresh is dearer than to look.
    system: RefCell<Option<System>>,
}

impl SecondScanner {
    /// The pids of everyone in this `/proc`, threads left out; nothing if they cannot be listed.
    pub fn everyone(&self) -> Option<Vec<i32>> {
        let mut kept = self.system.borrow_mut();
        let system = match &mut *kept {
            Some(system) => system,
            nothing => nothing.insert(System::new().ok()?),
        };
        Some(pids(system, ProcessesToUpdate::All))
    }

    /// Those of these that there are.
    pub fn those_of(pids_asked: impl Iterator<Item = i32>) -> Option<Vec<i32>> {
        let mut asked: Vec<_> = pids_asked.map(|pid| sysinfo::Pid::from_u32(pid as u32)).collect();
        // sysinfo 0.40 takes a pid that is asked for twice for a dead one.
        asked.sort_unstable();
        asked.dedup();
        // A fresh one: it would also list those that it was asked for before and not now.
        Some(pids(&mut System::new().ok()?, ProcessesToUpdate::Some(&asked)))
    }
}

fn pids(system: &mut System, which: ProcessesToUpdate<'_>) -> Vec<i32> {
    system.refresh_processes_specifics(which, true, ProcessRefreshKind::nothing().without_tasks());
    let processes = system.processes().iter().filter(|(_, process)| process.thread_kind().is_none());
    processes.map(|(pid, _)| pid.as_u32() as i32).collect()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn who_has_gone_since_the_last_look_is_not_listed_again() {
        let scanner = SecondScanner::default();
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let pid = child.id() as i32;
        assert!(scanner.everyone().unwrap().contains(&pid));
        assert_eq!(SecondScanner::those_of([pid, pid].into_iter()), Some(vec![pid]));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(!scanner.everyone().unwrap().contains(&pid));
        assert_eq!(SecondScanner::those_of([pid].into_iter()), Some(Vec::new()));
    }
}
