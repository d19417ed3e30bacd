//! The control group that a run may be held by. The child is started in it; the nanny is outside.

use core::ffi::CStr;

use crate::sys::{self, EBUSY, Fd};
use crate::text::Text;
use crate::tree::with_room;

/// How often and after which pause to try again to remove a group whose last member has just ended.
const ATTEMPTS: usize = 100;
const PAUSE_NS: u64 = 1_000_000;

/// Kills everybody in the group, and in those below it, at once: nobody forks past it. Returns whether somebody may have
/// been there. A negative descriptor is no group.
pub fn kill(directory: Fd) -> bool {
    // Some kernels kill whoever is started into a group where this was done before, so it is not done for nobody.
    if directory < 0 || is_empty(directory) {
        return false;
    }
    // What fails here is left to the signals that follow.
    if let Ok(switch) = with_room(|| sys::open_to_write(directory, c"cgroup.kill")) {
        let _ = sys::write(switch, b"1");
        sys::close(switch);
    }
    true
}

fn is_empty(directory: Fd) -> bool {
    let Ok(events) = with_room(|| sys::open_at(directory, c"cgroup.events")) else { return false };
    let mut buffer = [0u8; 64];
    let length = sys::read(events, &mut buffer);
    sys::close(events);
    let text = length.ok().and_then(|length| buffer.get(..length)).unwrap_or(&[]);
    text.split(|byte| *byte == b'\n').any(|line| line == b"populated 0")
}

/// Removes an empty group, and its parent if that is wanted and empty as well. Whatever fails is left to the next owner.
#[inline(never)]
pub fn remove(directory: Fd, parent_too: bool) {
    let mut path = [0u8; 4096];
    let link = Text::new().text(b"/proc/self/fd/").number(directory.unsigned_abs());
    // The last byte stays zero.
    let Ok(length) = sys::read_link(link.as_c(), &mut path[..4095]) else { return };
    remove_one(&path);
    let slash = path.get(..length).and_then(|path| path.iter().rposition(|byte| *byte == b'/'));
    if let Some(slash) = slash.filter(|_| parent_too) {
        path[slash] = 0;
        remove_one(&path);
    }
}

fn remove_one(path: &[u8]) {
    let Ok(path) = CStr::from_bytes_until_nul(path) else { return };
    for _ in 0..ATTEMPTS {
        if sys::remove_directory(path) != Err(EBUSY) {
            return;
        }
        let _ = sys::poll(&mut [], Some(PAUSE_NS));
    }
}
