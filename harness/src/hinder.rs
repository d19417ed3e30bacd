//! Making a start fail in the host: its own limits, lowered for the time of a run.

use std::fs;
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::scenario::Hindrance;

/// A limit of this process that is lowered until this is dropped. Only one at a time.
#[derive(Debug)]
pub(crate) struct Hindered {
    resource: Resource,
    before: Rlimit,
}

impl Hindered {
    /// Lowers the limit that a hindrance is about. One that lies in the program needs none.
    ///
    /// # Errors
    ///
    /// When the own descriptors cannot be listed or the limit cannot be set.
    pub(crate) fn by(hindrance: Hindrance) -> io::Result<Option<Self>> {
        let (resource, most) = match hindrance {
            Hindrance::MissingProgram | Hindrance::NotExecutable | Hindrance::BadInterpreter => {
                return Ok(None);
            }
            // This process has more threads than that, so there can be no other.
            Hindrance::NoProcess => (Resource::Nproc, 1),
            Hindrance::DescriptorsLeft(left) => (Resource::Nofile, lowest_limit_with(left)?),
        };
        let before = getrlimit(resource);
        let current = Some(before.current.map_or(most, |current| current.min(most)));
        setrlimit(resource, Rlimit { current, maximum: before.maximum })?;
        Ok(Some(Self { resource, before }))
    }
}

impl Drop for Hindered {
    fn drop(&mut self) {
        // The soft limit goes back below the hard one, which is always allowed.
        setrlimit(self.resource, self.before).expect("a soft limit can be raised to where it was");
    }
}

/// The limit below which just `left` numbers of descriptors are free in this process.
fn lowest_limit_with(left: u32) -> io::Result<u64> {
    let listed = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u64>().ok())
        .collect::<Vec<_>>();
    // The descriptor that listed them is among them, and closed by now.
    let is_open = |number: &u64| fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_ok();
    Ok(lowest_limit(&listed.into_iter().filter(is_open).collect::<Vec<_>>(), left))
}

fn lowest_limit(open: &[u64], left: u32) -> u64 {
    (0..).filter(|number| !open.contains(number)).nth(left as usize).expect("numbers do not end")
}

/// Whether no limit on processes holds this process: the kernel exempts the machine's own root.
pub(crate) fn is_above_process_limits() -> bool {
    let is_machines = |map: String| map.split_whitespace().take(2).eq(["0", "0"]);
    rustix::process::geteuid().is_root() && fs::read_to_string("/proc/self/uid_map").is_ok_and(is_machines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_leaves_just_so_many_numbers_gaps_included() {
        let open = [0, 1, 2, 4, 7];
        for (left, limit) in [(0, 3), (1, 5), (2, 6), (3, 8), (5, 10)] {
            assert_eq!(lowest_limit(&open, left), limit);
            let free = (0..limit).filter(|number| !open.contains(number)).count();
            assert_eq!(free, left as usize);
        }
    }

    #[test]
    fn a_hindrance_in_the_program_lowers_no_limit() {
        assert!(Hindered::by(Hindrance::BadInterpreter).unwrap().is_none());
    }
}
